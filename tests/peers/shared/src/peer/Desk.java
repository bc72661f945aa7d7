/*
 * What a provider does with calls of `work`, as it is told by lines on its stdin:
 *   answer   answers them; those that are held are answered now. So it begins.
 *   hold     keeps them, each in a thread of the framework's pool
 *   fail     throws the exception that the service declares
 *   crash    throws one that it does not declare
 * Every call is noted in the file --journal before anything else happens to it, one token a line, so that what was
 * executed can be counted even of a provider that is killed.
 * Must never lose a note, and never hold a call longer than its test may take.
 */
package peer;

import peer.api.DemoException;

import java.io.FileOutputStream;
import java.io.IOException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

public final class Desk implements Cases {
    private static final long HOLD_MAX_S = 25;
    private final FileOutputStream journal;
    private volatile Mood mood = new Mood("answer");

    private Desk(String journal) throws IOException {
        this.journal = journal == null ? null : new FileOutputStream(journal, true);
    }

    /** The desk of a provider with this command line; nothing is noted where it names no journal. */
    static Desk of(Args args) throws IOException { return new Desk(args.text("journal", null)); }

    public String work(String name, String token) throws DemoException {
        note(token);
        Mood now = mood;
        switch (now.name) {
            case "hold": now.await(); break;
            case "fail": throw new DemoException(42, name + " " + token);
            case "crash": throw new IllegalStateException(name + " " + token);
            default: break;
        }
        return name + " " + token;
    }

    @Override public Object call(String[] words) {
        switch (words[0]) {
            case "answer": case "hold": case "fail": case "crash": break;
            default: throw new IllegalArgumentException("no such case: " + words[0]);
        }
        Mood before = mood;
        mood = new Mood(words[0]);
        before.over.countDown();
        return words[0];
    }

    @Override public String code(Throwable e) { return null; }

    /** One write a note, straight to the system: it stays when this process is killed. */
    private synchronized void note(String token) {
        try {
            if (journal != null) journal.write((token + "\n").getBytes("UTF-8"));
        } catch (IOException e) {
            throw new IllegalStateException("the journal cannot be written", e);
        }
    }

    private static final class Mood {
        final String name;
        final CountDownLatch over = new CountDownLatch(1);

        Mood(String name) { this.name = name; }

        void await() {
            try {
                over.await(HOLD_MAX_S, TimeUnit.SECONDS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
    }
}
