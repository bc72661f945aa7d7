/*
 * The client's end of a stream: words that must be numbered one after the other and carry one bulk.
 * Must never take a word that nobody has asked for when told not to.
 */
package peer;

import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;

import java.util.Arrays;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

final class Words implements ClientResponseObserver<Word, Word> {
    /** How the server is spoken to; there once the call has begun. */
    ClientCallStreamObserver<Word> requests;
    private final CompletableFuture<Integer> ended = new CompletableFuture<>();
    private final int first;
    private final byte[] bulk;
    private final boolean takes;
    private int came;

    /** {@code takes}: words are taken as they come; otherwise only by {@code requests.request}. */
    Words(int first, byte[] bulk, boolean takes) {
        this.first = first;
        this.bulk = bulk;
        this.takes = takes;
    }

    @Override public void beforeStart(ClientCallStreamObserver<Word> stream) {
        requests = stream;
        if (!takes) stream.disableAutoRequestWithInitial(0);
    }

    @Override public synchronized void onNext(Word word) {
        if (word.number() != first + came || !Arrays.equals(word.bulk(), bulk)) {
            ended.completeExceptionally(new IllegalStateException(came + " was " + word.number()));
        }
        came++;
        notifyAll();
    }

    @Override public synchronized void onError(Throwable e) {
        ended.completeExceptionally(e);
        notifyAll();
    }

    @Override public synchronized void onCompleted() { ended.complete(came); }

    synchronized void await(int count) throws Exception {
        long end = System.currentTimeMillis() + 10_000;
        while (came < count && !ended.isCompletedExceptionally()) {
            if (System.currentTimeMillis() > end) throw new IllegalStateException("only " + came + " of " + count);
            wait(100);
        }
        if (ended.isCompletedExceptionally()) unwrapped(ended);
    }

    /** Waits for the end; answers how many words came. */
    int end() throws Exception { return unwrapped(ended); }

    static <T> T unwrapped(CompletableFuture<T> future) throws Exception {
        try {
            return future.get(25, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            throw e.getCause() instanceof Exception ? (Exception) e.getCause() : e;
        }
    }
}
