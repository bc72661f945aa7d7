/*
 * Talk as grpc-java serves it, and what became of each call that has a text of its own.
 * Streams keep to the flow control of the connection: a word is sent when there is room for it and not before.
 */
package peer;

import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;

import java.io.ByteArrayOutputStream;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

final class GrpcTalk {
    private static final ScheduledExecutorService TIMER = Executors.newScheduledThreadPool(1);
    private final String name;
    private final ConcurrentHashMap<String, Ended> ended = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<String, AtomicLong> sent = new ConcurrentHashMap<>();

    private record Ended(String how, long at) {}

    GrpcTalk(String name) { this.name = name; }

    static Metadata.Key<String> text(String name) { return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER); }

    static Metadata.Key<byte[]> raw(String name) { return Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER); }

    String ended(String token) { return ended.containsKey(token) ? ended.get(token).how : ""; }

    long sent(String token) { return sent.containsKey(token) ? sent.get(token).get() : 0; }

    ServerServiceDefinition service() {
        return ServerServiceDefinition.builder(Word.SERVICE)
            .addMethod(Word.method("Say", MethodType.UNARY), ServerCalls.asyncUnaryCall((word, to) -> answer(word, to)))
            .addMethod(Word.method("Who", MethodType.UNARY),
                ServerCalls.asyncUnaryCall((word, to) -> answer(Word.of(name, 0), to)))
            .addMethod(Word.method("Wait", MethodType.UNARY), ServerCalls.asyncUnaryCall(this::waiting))
            .addMethod(Word.method("Fail", MethodType.UNARY), ServerCalls.asyncUnaryCall(this::fail))
            .addMethod(Word.method("Seen", MethodType.UNARY), ServerCalls.asyncUnaryCall(this::seen))
            .addMethod(Word.method("Told", MethodType.UNARY), ServerCalls.asyncUnaryCall(this::told))
            .addMethod(Word.method("Count", MethodType.SERVER_STREAMING), ServerCalls.asyncServerStreamingCall(this::count))
            .addMethod(Word.method("Trickle", MethodType.SERVER_STREAMING),
                ServerCalls.asyncServerStreamingCall(this::trickle))
            .addMethod(Word.method("Sum", MethodType.CLIENT_STREAMING), ServerCalls.asyncClientStreamingCall(this::sum))
            .addMethod(Word.method("Chat", MethodType.BIDI_STREAMING), ServerCalls.asyncBidiStreamingCall(this::chat))
            .build();
    }

    private void waiting(Word word, StreamObserver<Word> to) {
        watch(word.text(), to);
        Context context = Context.current();
        TIMER.schedule(() -> { if (!context.isCancelled()) answer(Word.of(word.text(), 0), to); },
            word.number(), TimeUnit.MILLISECONDS);
    }

    /** The bulk, when there is one, is the status in full, as `grpc-status-details-bin` carries it. */
    private void fail(Word word, StreamObserver<Word> to) {
        if (word.number() == 0) throw new IllegalStateException(word.text());
        Metadata trailers = new Metadata();
        if (word.bulk().length != 0) trailers.put(raw("grpc-status-details-bin"), word.bulk());
        to.onError(Status.fromCodeValue((int) word.number()).withDescription(word.text()).asRuntimeException(trailers));
    }

    private void seen(Word word, StreamObserver<Word> to) {
        Metadata headers = GrpcServer.HEADERS.get();
        String seen;
        if (word.text().endsWith("-bin")) {
            byte[] value = headers.get(raw(word.text()));
            seen = value == null ? "null" : Bytes.hex(value);
        } else {
            seen = String.valueOf(headers.get(text(word.text())));
        }
        answer(Word.of(seen, 0), to);
    }

    private void told(Word word, StreamObserver<Word> to) {
        Ended known = ended.get(word.text());
        answer(known == null ? Word.of("", 0) : Word.of(known.how, known.at), to);
    }

    private void count(Word word, StreamObserver<Word> to) {
        ServerCallStreamObserver<Word> room = (ServerCallStreamObserver<Word>) to;
        AtomicLong next = sent.computeIfAbsent(word.text(), k -> new AtomicLong());
        next.set(0);
        watch(word.text(), to);
        room.setOnReadyHandler(() -> {
            while (room.isReady() && next.get() < word.number()) {
                room.onNext(new Word(word.text(), next.getAndIncrement(), word.bulk()));
                if (next.get() == word.number()) room.onCompleted();
            }
        });
        if (word.number() == 0) room.onCompleted();
    }

    private void trickle(Word word, StreamObserver<Word> to) {
        watch(word.text(), to);
        trickle(word, 0, (ServerCallStreamObserver<Word>) to);
    }

    private void trickle(Word word, long number, ServerCallStreamObserver<Word> to) {
        if (to.isCancelled()) return;
        boolean room = to.isReady();
        if (room) to.onNext(Word.of(word.text(), number));
        TIMER.schedule(() -> trickle(word, room ? number + 1 : number, to), word.number(), TimeUnit.MILLISECONDS);
    }

    private StreamObserver<Word> sum(StreamObserver<Word> to) {
        ByteArrayOutputStream bulk = new ByteArrayOutputStream();
        long[] sum = new long[2];
        return new StreamObserver<>() {
            @Override public void onNext(Word word) {
                sum[0]++;
                sum[1] += word.number();
                bulk.writeBytes(word.bulk());
            }

            @Override public void onError(Throwable e) {}

            @Override public void onCompleted() { answer(new Word("" + sum[0], sum[1], bulk.toByteArray()), to); }
        };
    }

    private StreamObserver<Word> chat(StreamObserver<Word> to) {
        return new StreamObserver<>() {
            private String last = "";

            @Override public void onNext(Word word) {
                last = word.text();
                to.onNext(new Word(last, word.number() + 1, word.bulk()));
            }

            @Override public void onError(Throwable e) { note(last, "cancelled"); }

            @Override public void onCompleted() { to.onCompleted(); }
        };
    }

    /** Notes when nobody waits any more, and whether the call's own deadline or the caller's word was the reason. */
    private void watch(String text, StreamObserver<Word> to) {
        ServerCallStreamObserver<Word> call = (ServerCallStreamObserver<Word>) to;
        call.setOnCancelHandler(() -> note(text, "cancelled"));
        Context.current().addListener(context -> {
            if (context.cancellationCause() instanceof java.util.concurrent.TimeoutException) note(text, "deadline");
        }, Runnable::run);
    }

    private void note(String text, String how) { ended.putIfAbsent(text, new Ended(how, System.currentTimeMillis())); }

    private static void answer(Word word, StreamObserver<Word> to) {
        to.onNext(word);
        to.onCompleted();
    }
}
