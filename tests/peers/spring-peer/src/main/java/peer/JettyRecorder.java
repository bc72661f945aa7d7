package peer;

import java.nio.ByteBuffer;
import org.eclipse.jetty.http.HttpField;
import org.eclipse.jetty.http.HttpFields;
import org.eclipse.jetty.http.UriCompliance;
import org.eclipse.jetty.io.Content;
import org.eclipse.jetty.server.Handler;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Response;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.BufferUtil;
import org.eclipse.jetty.util.Callback;

/** Jetty, saying how it understood each request: JettyRecorder PORT. Its parser keeps its own defaults. */
public final class JettyRecorder extends Handler.Abstract {
    public static void main(String[] args) throws Exception {
        HttpConfiguration conf = new HttpConfiguration();
        conf.setRequestHeaderSize(1 << 17);
        conf.setSendServerVersion(false);
        // Left to itself it writes a value as an earlier request of the same connection wrote it, in another case.
        conf.setHeaderCacheCaseSensitive(true);
        // What a path may mean once decoded is a question of its own; here targets are compared as they are spelled.
        conf.setUriCompliance(UriCompliance.UNSAFE);
        Server server = new Server();
        ServerConnector connector = new ServerConnector(server, 1, 1, new HttpConnectionFactory(conf));
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(args[0]));
        connector.setIdleTimeout(300_000);
        server.addConnector(connector);
        server.setHandler(new JettyRecorder());
        server.start();
        Seen.print("{\"ready\":true,\"peer\":\"jetty\"}");
    }

    @Override
    public boolean handle(Request request, Response response, Callback callback) throws Exception {
        Seen seen = new Seen(request.getMethod(), request.getHttpURI().getPathQuery());
        for (HttpField field : request.getHeaders()) {
            seen.header(field.getName(), field.getValue() == null ? "" : field.getValue());
        }
        // Fails, and so answers nobody, when the body does not end well.
        seen.body(BufferUtil.toArray(Content.Source.asByteBuffer(request)));
        HttpFields trailers = request.getTrailers();
        if (trailers != null) {
            for (HttpField field : trailers) {
                seen.trailer(field.getName(), field.getValue() == null ? "" : field.getValue());
            }
        }
        seen.print();
        response.getHeaders().put("Content-Length", "5");
        if (request.getMethod().equals("HEAD")) {
            callback.succeeded();
        } else {
            response.write(true, ByteBuffer.wrap(Seen.ANSWER), callback);
        }
        return true;
    }
}
