package peer;

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.Collections;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;

/** Tomcat, saying how it understood each request: TomcatRecorder PORT. Its parser keeps its own defaults. */
public final class TomcatRecorder extends HttpServlet {
    private static final long serialVersionUID = 1L;

    public static void main(String[] args) throws Exception {
        Logger.getLogger("").setLevel(Level.WARNING);
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(System.getProperty("user.dir"));
        Connector connector = new Connector("HTTP/1.1");
        connector.setPort(Integer.parseInt(args[0]));
        connector.setProperty("address", "127.0.0.1");
        connector.setProperty("maxHttpRequestHeaderSize", "131072");
        connector.setProperty("maxKeepAliveRequests", "-1");
        connector.setProperty("keepAliveTimeout", "300000");
        // What a path may mean once decoded is a question of its own; here targets are compared as they are spelled.
        connector.setProperty("relaxedPathChars", "[]|{}^`");
        connector.setProperty("relaxedQueryChars", "[]|{}^`");
        connector.setEncodedSolidusHandling("passthrough");
        connector.setEncodedReverseSolidusHandling("passthrough");
        tomcat.setConnector(connector);
        Context context = tomcat.addContext("", null);
        Tomcat.addServlet(context, "recorder", new TomcatRecorder());
        context.addServletMappingDecoded("/", "recorder");
        tomcat.start();
        Seen.print("{\"ready\":true,\"peer\":\"tomcat\"}");
        tomcat.getServer().await();
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String query = request.getQueryString() == null ? "" : "?" + request.getQueryString();
        Seen seen = new Seen(request.getMethod(), request.getRequestURI() + query);
        // Names come once each, whatever the number of their values.
        for (String name : Collections.list(request.getHeaderNames())) {
            for (String value : Collections.list(request.getHeaders(name))) {
                seen.header(name, value);
            }
        }
        // Fails, and so answers nobody, when the body does not end well.
        seen.body(request.getInputStream().readAllBytes());
        seen.print();
        response.setContentLength(Seen.ANSWER.length);
        response.getOutputStream().write(Seen.ANSWER);
    }
}
