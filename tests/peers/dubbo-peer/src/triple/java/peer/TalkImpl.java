/*
 * Talk as Dubbo serves it. Notes when and of which call it was told that nobody waits any more; must never print to
 * stdout, which belongs to the test protocol.
 */
package peer;

import com.google.protobuf.ByteString;
import org.apache.dubbo.common.stream.StreamObserver;
import org.apache.dubbo.remoting.http12.h2.Http2CancelableStreamObserver;
import org.apache.dubbo.rpc.CancellationContext;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.TriRpcStatus;
import peer.talk.DubboTalkTriple;
import peer.talk.Word;

import java.util.concurrent.ConcurrentHashMap;

final class TalkImpl extends DubboTalkTriple.TalkImplBase {
    /** An answer without end ends after all when its test has forgotten it. */
    private static final long TRICKLE_MAX_MS = 30_000;
    private final String name;
    private final ConcurrentHashMap<String, Long> cancelled = new ConcurrentHashMap<>();

    TalkImpl(String name) { this.name = name; }

    @Override public Word say(Word word) { return word; }

    @Override public Word who(Word word) { return text(name); }

    /** Dubbo tells a method with one answer nothing of a caller that has gone. */
    @Override public Word wait(Word word) {
        pause(word.getNumber());
        return text(word.getText());
    }

    @Override public Word fail(Word word) {
        if (word.getNumber() == 0) throw new IllegalStateException(word.getText());
        throw TriRpcStatus.fromCode((int) word.getNumber()).withDescription(word.getText()).asException();
    }

    @Override public Word seen(Word word) {
        // Dubbo takes the ending of binary names for its own.
        String key = word.getText().replaceFirst("-bin$", "");
        Object value = RpcContext.getServerAttachment().getObjectAttachment(key);
        String seen = value instanceof byte[] ? Bytes.hex((byte[]) value) : String.valueOf(value);
        RpcContext.getServerResponseContext().setAttachment("x-reply", seen);
        RpcContext.getServerResponseContext().setObjectAttachment("x-raw", new byte[] {0, 1, (byte) 0xfe, (byte) 0xff});
        return text(seen);
    }

    @Override public void count(Word word, StreamObserver<Word> answers) {
        for (long i = 0; i < word.getNumber(); i++) answers.onNext(word.toBuilder().setNumber(i).build());
        answers.onCompleted();
    }

    @Override public void trickle(Word word, StreamObserver<Word> answers) {
        watch(word.getText(), answers);
        Thread thread = new Thread(() -> {
            long end = System.currentTimeMillis() + TRICKLE_MAX_MS;
            for (long i = 0; !cancelled.containsKey(word.getText()) && System.currentTimeMillis() < end; i++) {
                answers.onNext(word.toBuilder().setNumber(i).build());
                pause(word.getNumber());
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    @Override public StreamObserver<Word> sum(StreamObserver<Word> answer) {
        return new StreamObserver<Word>() {
            private long sum;
            private long words;
            private ByteString bulk = ByteString.EMPTY;

            @Override public void onNext(Word word) {
                sum += word.getNumber();
                words++;
                bulk = bulk.concat(word.getBulk());
            }

            @Override public void onError(Throwable e) {}

            @Override public void onCompleted() {
                answer.onNext(Word.newBuilder().setText("" + words).setNumber(sum).setBulk(bulk).build());
                answer.onCompleted();
            }
        };
    }

    @Override public StreamObserver<Word> chat(StreamObserver<Word> answers) {
        return new StreamObserver<Word>() {
            private String last = "";

            @Override public void onNext(Word word) {
                last = word.getText();
                answers.onNext(word.toBuilder().setNumber(word.getNumber() + 1).build());
            }

            @Override public void onError(Throwable e) { note(last); }

            @Override public void onCompleted() { answers.onCompleted(); }
        };
    }

    @Override public Word told(Word word) {
        Long at = cancelled.get(word.getText());
        return at == null ? Word.getDefaultInstance() : text("cancelled").toBuilder().setNumber(at).build();
    }

    private void watch(String text, StreamObserver<Word> call) {
        CancellationContext context = ((Http2CancelableStreamObserver<?>) call).getCancellationContext();
        context.addListener(ended -> { if (context.isCancelled()) note(text); });
    }

    private void note(String text) { cancelled.putIfAbsent(text, System.currentTimeMillis()); }

    private static Word text(String text) { return Word.newBuilder().setText(text).build(); }

    private static void pause(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
