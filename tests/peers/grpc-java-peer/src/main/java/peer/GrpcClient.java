/*
 * gRPC client on grpc-java: calls Talk through 127.0.0.1:--port, one case a line (see `call`). Cases that Dubbo's
 * TripleConsumer has too have the same names and answers there.
 * Must check every echoed value and the order of every stream itself.
 */
package peer;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

public final class GrpcClient implements Cases {
    private static final long WAIT_MAX_S = 25;
    private final ManagedChannel channel;
    private Words held;

    private GrpcClient(int port) {
        channel = NettyChannelBuilder.forAddress("127.0.0.1", port).usePlaintext()
            .maxInboundMessageSize(GrpcServer.MESSAGE_MAX).build();
    }

    public static void main(String[] argv) throws Exception {
        GrpcClient client = new GrpcClient(new Args(argv, "port").number("port"));
        Json.ready("grpc-java", NettyChannelBuilder.class.getPackage().getImplementationVersion());
        Console.serve(client);
    }

    @Override public String code(Throwable e) { return "grpc " + Status.fromThrowable(e).getCode().value(); }

    @Override public Object call(String[] w) throws Exception {
        CallOptions plain = CallOptions.DEFAULT;
        switch (w[0]) {
            case "say": return unary("Say", Word.of(w[1], 0)).text();
            case "name": return unary("Who", Word.of("", 0)).text();
            case "greenname": return green();
            case "saybytes": return sayBytes(Integer.parseInt(w[1]), plain);
            case "gzip": return sayBytes(Integer.parseInt(w[1]), plain.withCompression("gzip"));
            case "wait": return unary("Wait", Word.of(w[1], Long.parseLong(w[2]))).text();
            case "hurried": return hurried(w[1], Long.parseLong(w[2]));
            case "impatient": return impatient(w[1], Long.parseLong(w[2]));
            case "withdrawn": return withdrawn(w[1]);
            case "status": return unary("Fail", Word.of(w[2], Long.parseLong(w[1]))).text();
            case "details": return details(w[1], w[2], w[3]);
            case "seen": return seen(w[1], w[2]);
            case "beside": return beside(Arrays.copyOfRange(w, 1, w.length));
            case "count": return count(Integer.parseInt(w[1]), Integer.parseInt(w[2]));
            case "sum": return sum(Integer.parseInt(w[1]), Integer.parseInt(w[2]));
            case "chat": return chat(Integer.parseInt(w[1]));
            case "trickle": return cancelled(w[1], Integer.parseInt(w[2]), false);
            case "hangup": return cancelled(w[1], Integer.parseInt(w[2]), true);
            case "hold": return hold(w[1], Integer.parseInt(w[2]), Integer.parseInt(w[3]));
            case "release": return release();
            case "many": return many(Integer.parseInt(w[1]));
            case "load": return load(Integer.parseInt(w[1]), Long.parseLong(w[2]));
            case "told": return unary("Told", Word.of(w[1], 0)).text();
            case "nomethod": return unary("Nothing", Word.of("anyone", 0)).text();
            case "absent":
                return unary(channel, Word.method("peer.talk.Absent", "Never", MethodType.UNARY), plain, Word.of("", 0)).text();
            default: throw new IllegalArgumentException("no such case: " + w[0]);
        }
    }

    private Word unary(String method, Word word) {
        return unary(channel, Word.method(method, MethodType.UNARY), CallOptions.DEFAULT, word);
    }

    private static Word unary(Channel channel, MethodDescriptor<Word, Word> method, CallOptions options, Word word) {
        return ClientCalls.blockingUnaryCall(channel, method, options, word);
    }

    /** The channel with these pairs sent beside each call; a value of hexadecimal digits after 0x is sent as bytes. */
    private Channel with(String... pairs) {
        Metadata headers = new Metadata();
        for (int i = 0; i < pairs.length; i += 2) {
            String value = pairs[i + 1];
            if (value.startsWith("0x")) headers.put(GrpcTalk.raw(pairs[i]), Bytes.unhex(value.substring(2)));
            else headers.put(GrpcTalk.text(pairs[i]), value);
        }
        return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
    }

    private String green() {
        Channel green = with("tri-service-group", "green", "tri-service-version", "2.0.0");
        return unary(green, Word.method("Who", MethodType.UNARY), CallOptions.DEFAULT, Word.of("", 0)).text();
    }

    private String hurried(String token, long ms) {
        Channel lane = with("lane", "hurried");
        return unary(lane, Word.method("Wait", MethodType.UNARY), CallOptions.DEFAULT, Word.of(token, ms)).text();
    }

    private String sayBytes(int size, CallOptions options) {
        byte[] sent = Sample.bytes(size);
        Word got = unary(channel, Word.method("Say", MethodType.UNARY), options, new Word("bytes", -1, sent));
        if (!Arrays.equals(sent, got.bulk()) || got.number() != -1) throw new IllegalStateException("other bytes");
        return size + " equal";
    }

    private String impatient(String token, long ms) {
        CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(300, TimeUnit.MILLISECONDS);
        return unary(channel, Word.method("Wait", MethodType.UNARY), options, Word.of(token, ms)).text();
    }

    /** A call that its caller gives up; answers how many milliseconds later the server was told. */
    private long withdrawn(String token) throws Exception {
        io.grpc.ClientCall<Word, Word> call = channel.newCall(Word.method("Wait", MethodType.UNARY), CallOptions.DEFAULT);
        var answer = ClientCalls.futureUnaryCall(call, Word.of(token, 20_000));
        Thread.sleep(300);
        long at = System.currentTimeMillis();
        answer.cancel(true);
        return toldAfter(token, at);
    }

    private String details(String code, String message, String hex) {
        try {
            return unary("Fail", new Word(message, Long.parseLong(code), Bytes.unhex(hex))).text();
        } catch (io.grpc.StatusRuntimeException e) {
            byte[] details = e.getTrailers().get(GrpcTalk.raw("grpc-status-details-bin"));
            Status status = e.getStatus();
            return status.getCode().value() + " " + status.getDescription() + " " + (details == null ? "none" : Bytes.hex(details));
        }
    }

    private String seen(String key, String value) {
        return unary(with(key, value), Word.method("Seen", MethodType.UNARY), CallOptions.DEFAULT, Word.of(key, 0)).text();
    }

    /** Sends values under `x-echo` and `x-echo-bin`; answers what came back, in the headers and in the trailers. */
    private String beside(String[] values) {
        String[] pairs = new String[2 * values.length];
        for (int i = 0; i < values.length; i++) {
            pairs[2 * i] = values[i].startsWith("0x") ? "x-echo-bin" : "x-echo";
            pairs[2 * i + 1] = values[i];
        }
        AtomicReference<Metadata> head = new AtomicReference<>();
        AtomicReference<Metadata> tail = new AtomicReference<>();
        Channel capturing = ClientInterceptors.intercept(with(pairs), MetadataUtils.newCaptureMetadataInterceptor(head, tail));
        unary(capturing, Word.method("Say", MethodType.UNARY), CallOptions.DEFAULT, Word.of("", 0));
        return all(head.get(), "x-head") + " " + all(tail.get(), "x-tail");
    }

    private static String all(Metadata metadata, String name) {
        List<String> found = new ArrayList<>();
        Iterable<String> texts = metadata.getAll(GrpcTalk.text(name));
        if (texts != null) texts.forEach(found::add);
        Iterable<byte[]> raws = metadata.getAll(GrpcTalk.raw(name + "-bin"));
        if (raws != null) raws.forEach(raw -> found.add("0x" + Bytes.hex(raw)));
        return found.toString();
    }

    private String count(int count, int size) throws Exception {
        Words words = new Words(0, Sample.bytes(size), true);
        stream("Count", MethodType.SERVER_STREAMING, words).onNext(new Word("counted", count, Sample.bytes(size)));
        words.requests.onCompleted();
        return words.end() + " in order";
    }

    private String sum(int count, int size) throws Exception {
        CompletableFuture<Word> answer = new CompletableFuture<>();
        var call = channel.newCall(Word.method("Sum", MethodType.CLIENT_STREAMING), CallOptions.DEFAULT);
        StreamObserver<Word> requests = ClientCalls.asyncClientStreamingCall(call, new StreamObserver<Word>() {
            @Override public void onNext(Word word) { answer.complete(word); }

            @Override public void onError(Throwable e) { answer.completeExceptionally(e); }

            @Override public void onCompleted() {}
        });
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (int i = 0; i < count; i++) {
            byte[] bulk = Sample.bytes(size + i);
            all.writeBytes(bulk);
            requests.onNext(new Word("", i, bulk));
        }
        requests.onCompleted();
        Word got = Words.unwrapped(answer);
        if (!Arrays.equals(all.toByteArray(), got.bulk())) throw new IllegalStateException("other bytes, " + got.bulk().length);
        return got.text() + " words, sum " + got.number();
    }

    /** Each word is said when the answer to the one before has come. */
    private String chat(int count) throws Exception {
        Words words = new Words(1, new byte[0], true);
        StreamObserver<Word> requests = stream("Chat", MethodType.BIDI_STREAMING, words);
        for (int i = 0; i < count; i++) {
            requests.onNext(Word.of("chat", i));
            words.await(i + 1);
        }
        requests.onCompleted();
        return words.end() + " in order";
    }

    /** Cancels after some answers; answers how many milliseconds later the server was told. */
    private long cancelled(String token, int after, boolean chat) throws Exception {
        Words words = new Words(chat ? 1 : 0, new byte[0], true);
        if (chat) {
            StreamObserver<Word> requests = stream("Chat", MethodType.BIDI_STREAMING, words);
            for (int i = 0; i < after; i++) {
                requests.onNext(Word.of(token, i));
                words.await(i + 1);
            }
        } else {
            stream("Trickle", MethodType.SERVER_STREAMING, words).onNext(Word.of(token, 5));
            words.requests.onCompleted();
            words.await(after);
        }
        long at = System.currentTimeMillis();
        words.requests.cancel("enough", null);
        return toldAfter(token, at);
    }

    private long toldAfter(String token, long at) throws InterruptedException {
        for (int i = 0; i < 250; i++) {
            Word told = unary("Told", Word.of(token, 0));
            if (told.text().equals("cancelled")) return told.number() - at;
            Thread.sleep(20);
        }
        throw new IllegalStateException("the server was never told");
    }

    /** Opens a stream and takes one word of it; the rest is left where it is until `release`. */
    private String hold(String token, int count, int size) throws Exception {
        held = new Words(0, Sample.bytes(size), false);
        stream("Count", MethodType.SERVER_STREAMING, held).onNext(new Word(token, count, Sample.bytes(size)));
        held.requests.onCompleted();
        held.requests.request(1);
        held.await(1);
        return "held";
    }

    private String release() throws Exception {
        held.requests.request(Integer.MAX_VALUE);
        return held.end() + " in order";
    }

    private StreamObserver<Word> stream(String method, MethodType type, Words words) {
        var call = channel.newCall(Word.method(method, type), CallOptions.DEFAULT);
        return ClientCalls.asyncBidiStreamingCall(call, words);
    }

    /** All at once, answered out of order (each waits a while of its own), each answer checked as its own. */
    private String many(int count) throws Exception {
        String process = java.lang.management.ManagementFactory.getRuntimeMXBean().getName();
        AtomicInteger own = new AtomicInteger();
        Set<String> failed = ConcurrentHashMap.newKeySet();
        var method = Word.method("Wait", MethodType.UNARY);
        List<CompletableFuture<Void>> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            String text = process + "-" + i + "-" + Sample.text(i * 37 % 2000);
            CompletableFuture<Void> ended = new CompletableFuture<>();
            all.add(ended);
            ClientCalls.asyncUnaryCall(channel.newCall(method, CallOptions.DEFAULT), Word.of(text, 50 + i * 7 % 50),
                new StreamObserver<Word>() {
                    @Override public void onNext(Word word) {
                        if (word.text().equals(text)) own.incrementAndGet();
                        else failed.add("another's");
                    }

                    @Override public void onError(Throwable e) {
                        failed.add(String.valueOf(e));
                        ended.complete(null);
                    }

                    @Override public void onCompleted() { ended.complete(null); }
                });
        }
        CompletableFuture.allOf(all.toArray(new CompletableFuture<?>[0])).get(WAIT_MAX_S, TimeUnit.SECONDS);
        return "own=" + own + " failed=" + failed;
    }

    /** Calls that take some 5 ms each, so many at a time, for a while; those under way then are waited for. */
    private String load(int width, long ms) throws InterruptedException {
        AtomicInteger answered = new AtomicInteger();
        Set<String> failed = ConcurrentHashMap.newKeySet();
        long end = System.currentTimeMillis() + ms;
        Thread[] threads = new Thread[width];
        for (int i = 0; i < width; i++) {
            String text = "load-" + i;
            threads[i] = new Thread(() -> {
                while (System.currentTimeMillis() < end) {
                    try {
                        if (unary("Wait", Word.of(text, 5)).text().equals(text)) answered.incrementAndGet();
                        else failed.add("another's");
                    } catch (RuntimeException e) {
                        failed.add(String.valueOf(e));
                    }
                }
            });
            threads[i].start();
        }
        for (Thread thread : threads) thread.join();
        return "answered=" + answered + " failed=" + failed;
    }
}
