/*
 * Dubbo consumer over Triple: --url tri://HOST:PORT, --timeout MS, --heartbeat MS and --attach KEY=VALUE as Consumer's. Its cases are
 * those of Consumer, and those of Talk (talk.proto) under the names that the gRPC client has for them too.
 * Must check every echoed value and the order of every stream itself.
 */
package peer;

import com.google.protobuf.ByteString;
import org.apache.dubbo.common.Version;
import org.apache.dubbo.common.stream.StreamObserver;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.StatusRpcException;
import org.apache.dubbo.rpc.protocol.tri.CancelableStreamObserver;
import peer.talk.Absent;
import peer.talk.Talk;
import peer.talk.Word;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

public final class TripleConsumer extends Consumer {
    private final Talk talk;
    private final Talk green;
    private final Talk impatient;
    private final Absent absent;

    private TripleConsumer(Args args, ReferenceConfig<Talk> talk, ReferenceConfig<Talk> green,
            ReferenceConfig<Talk> impatient, ReferenceConfig<Absent> absent) throws ReflectiveOperationException {
        super(args, talk, green, impatient, absent);
        this.talk = talk.get();
        this.green = green.get();
        this.impatient = impatient.get();
        this.absent = absent.get();
    }

    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "url", "timeout", "heartbeat", "attach");
        ReferenceConfig<Talk> green = stub("talk-green", Talk.class, args);
        green.setGroup("green");
        green.setVersion("2.0.0");
        ReferenceConfig<Talk> impatient = stub("talk-impatient", Talk.class, args);
        impatient.setTimeout(300);
        TripleConsumer consumer = new TripleConsumer(args, stub("talk", Talk.class, args), green, impatient,
            stub("absent", Absent.class, args));
        Json.ready("dubbo", Version.getVersion());
        Console.serve(consumer, args);
    }

    private static <T> ReferenceConfig<T> stub(String id, Class<T> type, Args args) {
        ReferenceConfig<T> r = reference(id, args);
        r.setInterface(type);
        r.setProxy("nativestub");
        return r;
    }

    /** The number that came as grpc-status, where one came. */
    @Override public String code(Throwable e) {
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof StatusRpcException) return "grpc " + ((StatusRpcException) cause).getStatus().code.code;
        }
        return super.code(e);
    }

    @Override public Object other(String[] w) throws Exception {
        switch (w[0]) {
            case "say": return talk.say(text(w[1])).getText();
            case "name": return talk.who(text("")).getText();
            case "greenname": return green.who(text("")).getText();
            case "saybytes": return sayBytes(Integer.parseInt(w[1]));
            case "wait": return talk.wait(text(w[1]).toBuilder().setNumber(Long.parseLong(w[2])).build()).getText();
            case "hurried":
                attach("lane", "hurried");
                return talk.wait(text(w[1]).toBuilder().setNumber(Long.parseLong(w[2])).build()).getText();
            case "impatient":
                return impatient.wait(text(w[1]).toBuilder().setNumber(Long.parseLong(w[2])).build()).getText();
            case "status": return talk.fail(text(w[2]).toBuilder().setNumber(Long.parseLong(w[1])).build()).getText();
            case "seen": return seen(w[1], w[2]);
            case "count": return count(Integer.parseInt(w[1]), Integer.parseInt(w[2]));
            case "sum": return sum(Integer.parseInt(w[1]), Integer.parseInt(w[2]));
            case "chat": return chat(Integer.parseInt(w[1]));
            case "trickle": return cancelled(w[1], Integer.parseInt(w[2]), false);
            case "hangup": return cancelled(w[1], Integer.parseInt(w[2]), true);
            case "told": return talk.told(text(w[1])).getText();
            case "genericmissing": return generic("nothingOfTheKind", new String[0]);
            case "absent": return absent.never(text("anyone")).getText();
            case "nomethod": return talk.nothing(text("anyone")).getText();
            default: return super.other(w);
        }
    }

    private static Word text(String text) { return Word.newBuilder().setText(text).build(); }

    private String sayBytes(int size) {
        Word sent = text("bytes").toBuilder().setBulk(ByteString.copyFrom(Sample.bytes(size))).build();
        if (!sent.equals(talk.say(sent))) throw new IllegalStateException("other bytes");
        return size + " equal";
    }

    /** What the provider saw of an attachment, and what of its own came back beside the answer. */
    private String seen(String key, String value) {
        boolean binary = value.startsWith("0x");
        // Dubbo adds the ending of binary names by itself.
        String own = key.replaceFirst("-bin$", "");
        if (binary) RpcContext.getClientAttachment().setObjectAttachment(own, Bytes.unhex(value.substring(2)));
        else RpcContext.getClientAttachment().setAttachment(key, value);
        String seen = talk.seen(text(key)).getText();
        Object raw = RpcContext.getClientResponseContext().getObjectAttachment("x-raw");
        String came = raw instanceof byte[] ? Bytes.hex((byte[]) raw) : String.valueOf(raw);
        return seen + " " + RpcContext.getClientResponseContext().getAttachment("x-reply") + " " + came;
    }

    private String count(int words, int size) throws Exception {
        Word sent = text("counted").toBuilder().setNumber(words).setBulk(ByteString.copyFrom(Sample.bytes(size))).build();
        Answers answers = new Answers(0, sent.getBulk());
        talk.count(sent, answers);
        return answers.ended.get(25, TimeUnit.SECONDS) + " in order";
    }

    private String sum(int words, int size) throws Exception {
        CompletableFuture<Word> answer = new CompletableFuture<>();
        StreamObserver<Word> requests = talk.sum(new StreamObserver<Word>() {
            @Override public void onNext(Word word) { answer.complete(word); }

            @Override public void onError(Throwable e) { answer.completeExceptionally(e); }

            @Override public void onCompleted() {}
        });
        ByteString all = ByteString.EMPTY;
        for (int i = 0; i < words; i++) {
            ByteString bulk = ByteString.copyFrom(Sample.bytes(size + i));
            all = all.concat(bulk);
            requests.onNext(Word.newBuilder().setNumber(i).setBulk(bulk).build());
        }
        requests.onCompleted();
        Word got = unwrapped(answer);
        if (!all.equals(got.getBulk())) throw new IllegalStateException("other bytes, " + got.getBulk().size());
        return got.getText() + " words, sum " + got.getNumber();
    }

    /** Each word is said when the answer to the one before has come. */
    private String chat(int words) throws Exception {
        Answers answers = new Answers(1, ByteString.EMPTY);
        StreamObserver<Word> requests = talk.chat(answers);
        for (int i = 0; i < words; i++) {
            requests.onNext(text("chat").toBuilder().setNumber(i).build());
            answers.await(i + 1);
        }
        requests.onCompleted();
        return answers.ended.get(25, TimeUnit.SECONDS) + " in order";
    }

    /** Cancels after some answers; answers how many milliseconds later the provider was told. */
    private long cancelled(String token, int after, boolean chat) throws Exception {
        Answers answers = new Answers(chat ? 1 : 0, ByteString.EMPTY);
        if (chat) {
            StreamObserver<Word> requests = talk.chat(answers);
            for (int i = 0; i < after; i++) {
                requests.onNext(text(token).toBuilder().setNumber(i).build());
                answers.await(i + 1);
            }
        } else {
            talk.trickle(text(token).toBuilder().setNumber(5).build(), answers);
            answers.await(after);
        }
        long at = System.currentTimeMillis();
        answers.cancel(new InterruptedException("enough"));
        for (int i = 0; i < 250; i++) {
            Word told = talk.told(text(token));
            if (told.getText().equals("cancelled")) return told.getNumber() - at;
            Thread.sleep(20);
        }
        throw new IllegalStateException("the provider was never told");
    }

    private static <T> T unwrapped(CompletableFuture<T> future) throws Exception {
        try {
            return future.get(25, TimeUnit.SECONDS);
        } catch (java.util.concurrent.ExecutionException e) {
            throw e.getCause() instanceof Exception ? (Exception) e.getCause() : e;
        }
    }

    /** A stream of words that must be numbered from {@code first} and carry this bulk. */
    private static final class Answers extends CancelableStreamObserver<Word> {
        final CompletableFuture<Integer> ended = new CompletableFuture<>();
        private final int first;
        private final ByteString bulk;
        private int came;

        Answers(int first, ByteString bulk) {
            this.first = first;
            this.bulk = bulk;
        }

        @Override public synchronized void onNext(Word word) {
            if (word.getNumber() != first + came || !word.getBulk().equals(bulk)) {
                ended.completeExceptionally(new IllegalStateException(came + " was " + word.getNumber()));
            }
            came++;
            notifyAll();
        }

        @Override public void onError(Throwable e) {
            synchronized (this) { notifyAll(); }
            ended.completeExceptionally(e);
        }

        @Override public synchronized void onCompleted() { ended.complete(came); }

        synchronized void await(int count) throws Exception {
            long end = System.currentTimeMillis() + 10_000;
            while (came < count && !ended.isCompletedExceptionally()) {
                if (System.currentTimeMillis() > end) throw new IllegalStateException("only " + came + " of " + count);
                wait(100);
            }
            if (ended.isCompletedExceptionally()) ended.get();
        }
    }
}
