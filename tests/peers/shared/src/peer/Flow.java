/*
 * Calls that go on beside everything else: from "flow N", by so many threads, until "ebb", which answers how they went:
 * how many were answered by whom, how many failed, and what the first of these saw.
 * A call that another thread ends must not be counted as failed: each thread finishes the call it is in.
 */
package peer;

import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.LockSupport;

final class Flow {
    /** Between two calls of a thread: a consumer at rest, not a bench. */
    private static final long PAUSE_NS = 5_000_000;
    private final Callable<String> call;
    private final Map<String, Integer> answered = new TreeMap<String, Integer>();
    private Thread[] threads = {};
    private int failed;
    private String first;
    private volatile boolean over;

    /** {@code call} answers the name of whom it was answered by. */
    Flow(Callable<String> call) { this.call = call; }

    void begin(int count) {
        if (threads.length > 0) throw new IllegalStateException("it flows already");
        over = false;
        answered.clear();
        failed = 0;
        first = null;
        threads = new Thread[count];
        for (int i = 0; i < count; i++) (threads[i] = new Thread(this::go)).start();
    }

    String end() throws InterruptedException {
        over = true;
        for (Thread t : threads) t.join();
        threads = new Thread[0];
        StringBuilder by = new StringBuilder();
        for (Map.Entry<String, Integer> e : answered.entrySet()) by.append(e.getKey()).append('=').append(e.getValue()).append(' ');
        return by + "failed=" + failed + (first == null ? "" : " first=" + first);
    }

    private void go() {
        while (!over) {
            try {
                note(call.call(), null);
            } catch (Throwable e) {
                note(null, e);
            }
            LockSupport.parkNanos(PAUSE_NS);
        }
    }

    private synchronized void note(String by, Throwable e) {
        if (e == null) {
            answered.merge(by, 1, Integer::sum);
            return;
        }
        failed++;
        if (first == null) first = String.valueOf(e);
    }
}
