/*
 * gRPC server on grpc-java: Talk on 127.0.0.1:--port, calling itself --name. Asked by lines on its stdin:
 *   told TOKEN   what became of the call that had this text: how it ended, or nothing
 *   sent TOKEN   how many words the stream of this text has put on its way
 *   calls        how many calls have come
 *   shutdown     takes no more calls, lets those that it has end, and answers how many ended since
 * Must never print anything else to stdout.
 */
package peer;

import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;

import java.net.InetSocketAddress;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

public final class GrpcServer implements Cases {
    static final Context.Key<Metadata> HEADERS = Context.key("headers");
    /** The largest message that either side takes. */
    static final int MESSAGE_MAX = 8 << 20;
    private final GrpcTalk talk;
    private final AtomicLong calls = new AtomicLong();
    private final Server server;

    private GrpcServer(Args args) throws Exception {
        talk = new GrpcTalk(args.need("name"));
        server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", args.number("port")))
            .executor(Executors.newCachedThreadPool())
            .maxInboundMessageSize(MESSAGE_MAX)
            .addService(ServerInterceptors.intercept(talk.service(), new Beside()))
            .build().start();
    }

    public static void main(String[] argv) throws Exception {
        GrpcServer server = new GrpcServer(new Args(argv, "port", "name"));
        Json.ready("grpc-java", io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder.class.getPackage().getImplementationVersion());
        Console.serve(server);
    }

    @Override public Object call(String[] w) throws Exception {
        switch (w[0]) {
            case "told": return talk.ended(w[1]);
            case "sent": return talk.sent(w[1]);
            case "calls": return calls.get();
            case "shutdown": return shutdown();
            default: throw new IllegalArgumentException("no such case: " + w[0]);
        }
    }

    @Override public String code(Throwable e) { return null; }

    private String shutdown() throws InterruptedException {
        long before = calls.get();
        server.shutdown();
        boolean ended = server.awaitTermination(20, TimeUnit.SECONDS);
        return (ended ? "ended, " : "not ended, ") + (calls.get() - before) + " more calls";
    }

    /** Counts, keeps what came beside each call, and sends the like back: in the headers and in the trailers. */
    private final class Beside implements ServerInterceptor {
        @Override public <Q, A> ServerCall.Listener<Q> interceptCall(ServerCall<Q, A> call, Metadata headers,
                ServerCallHandler<Q, A> next) {
            calls.incrementAndGet();
            ServerCall<Q, A> answering = new io.grpc.ForwardingServerCall.SimpleForwardingServerCall<>(call) {
                @Override public void sendHeaders(Metadata answer) {
                    echo("x-echo", headers, "x-head", answer);
                    super.sendHeaders(answer);
                }

                @Override public void close(io.grpc.Status status, Metadata trailers) {
                    echo("x-echo", headers, "x-tail", trailers);
                    super.close(status, trailers);
                }
            };
            return io.grpc.Contexts.interceptCall(Context.current().withValue(HEADERS, headers), answering, headers, next);
        }
    }

    /** Each value of a name and of its binary twin, in their order, under another name. */
    private static void echo(String from, Metadata headers, String to, Metadata answer) {
        Iterable<String> texts = headers.getAll(GrpcTalk.text(from));
        if (texts != null) for (String value : texts) answer.put(GrpcTalk.text(to), value);
        Iterable<byte[]> raws = headers.getAll(GrpcTalk.raw(from + "-bin"));
        if (raws != null) for (byte[] value : raws) answer.put(GrpcTalk.raw(to + "-bin"), value);
    }
}
