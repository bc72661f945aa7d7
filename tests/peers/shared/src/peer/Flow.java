/*
 * Calls that go on beside everything else: from "flow N", by so many threads ("flow N MS": each with so long a rest between
 * two calls), until "ebb", which answers how they went:
 * a line with how many were answered by whom ("blue=12 green=5"), and one for each failure that was seen ("3 WHAT"). "tide"
 * answers the same of the calls so far, and they go on.
 * A call that another thread ends must not be counted as failed: each thread finishes the call it is in.
 */
package peer;

import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.LockSupport;

final class Flow {
    /** Between two calls of a thread, in milliseconds: a consumer at rest, not a bench. */
    private static final int PAUSE = 5;
    /** So many failures are told apart. */
    private static final int KINDS_MAX = 8;
    private final Callable<String> call;
    private final Map<String, Integer> answered = new TreeMap<String, Integer>();
    private final Map<String, Integer> failed = new TreeMap<String, Integer>();
    private Thread[] threads = {};
    private long pause;
    private volatile boolean over;

    /** {@code call} answers the name of whom it was answered by. */
    Flow(Callable<String> call) { this.call = call; }

    void begin(int count) { begin(count, PAUSE); }

    void begin(int count, int rest) {
        if (threads.length > 0) throw new IllegalStateException("it flows already");
        over = false;
        pause = rest * 1_000_000L;
        answered.clear();
        failed.clear();
        threads = new Thread[count];
        for (int i = 0; i < count; i++) (threads[i] = new Thread(this::go)).start();
    }

    String end() throws InterruptedException {
        over = true;
        for (Thread t : threads) t.join();
        threads = new Thread[0];
        return told();
    }

    synchronized String told() {
        StringBuilder told = new StringBuilder();
        for (Map.Entry<String, Integer> e : answered.entrySet()) {
            told.append(told.length() == 0 ? "" : " ").append(e.getKey()).append('=').append(e.getValue());
        }
        for (Map.Entry<String, Integer> e : failed.entrySet()) {
            told.append('\n').append(e.getValue()).append(' ').append(e.getKey().replace('\n', ' '));
        }
        return told.toString();
    }

    private void go() {
        while (!over) {
            try {
                note(call.call(), null);
            } catch (Throwable e) {
                note(null, e);
            }
            LockSupport.parkNanos(pause);
        }
    }

    private synchronized void note(String by, Throwable e) {
        if (e == null) answered.merge(by, 1, Integer::sum);
        else failed.merge(failed.size() < KINDS_MAX ? String.valueOf(e) : "others", 1, Integer::sum);
    }
}
