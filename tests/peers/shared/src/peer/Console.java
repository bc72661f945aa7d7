/*
 * The consumer's half of a test: reads one case a line from stdin ("echo hello", "parallel 100"), makes the calls
 * and prints one JSON line with what came back. The test that wrote the line asserts on that answer.
 * A line that begins with "& " runs beside those that follow it; its answer names the whole line.
 * What only the framework can say (one-way, generic, attachments) comes in through Framework; a program with cases of
 * its own brings them as Cases.
 * Must check every echoed value itself, must never answer a case it did not run, and ends when stdin ends, so
 * that no JVM outlives its test.
 */
package peer;

import peer.api.DemoException;
import peer.api.DemoService;
import peer.api.MissingService;
import peer.api.Order;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

final class Console implements Cases {
    /** What differs between Dubbo and SOFARPC. */
    interface Framework {
        DemoService demo();

        /** The same interface under another group and version (Dubbo) or unique id (SOFARPC). */
        DemoService green();

        MissingService missing();

        /** Calls fire(token) one-way. */
        void fire(String token);

        /** The framework's own liveness call, where it has one. */
        Object ping();

        /** Whether the framework would choose demo()'s connection for a new call, where it can say. */
        boolean available();

        Object generic(String method, String[] types, Object... args) throws Exception;

        /** A generic call of process() with an order built without its class; answers "name/count/status". */
        String genericOrder() throws Exception;

        /** The service at this address, with a timeout and as many further tries by the framework itself. */
        DemoService at(String url, int timeout, int retries);

        /** Sends this pair beside the next call of this thread. */
        void attach(String key, String value);

        /** The framework's number or name for the kind of failure, or null. */
        String code(Throwable e);

        /** A case that only this framework has. */
        default Object other(String[] words) throws Exception {
            throw new IllegalArgumentException("no such case: " + words[0]);
        }
    }

    private final Framework framework;
    /** A pair that goes beside every call of `work`, "key=value". */
    private final String attached;
    private final Flow flow;

    private Console(Framework framework, String attached) {
        this.framework = framework;
        this.attached = attached;
        flow = new Flow(() -> framework.demo().who());
    }

    static void serve(Framework framework, Args args) throws Exception {
        serve(new Console(framework, args.text("attach", null)));
    }

    static void serve(Cases cases) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            if (line.startsWith("& ")) {
                final String beside = line.substring(2);
                new Thread(() -> run(cases, beside, beside.split(" "))).start();
            } else {
                String[] words = line.split(" ");
                run(cases, words[0], words);
            }
        }
        Runtime.getRuntime().halt(0);
    }

    private static void run(Cases cases, String name, String[] words) {
        long start = System.nanoTime();
        try {
            Object value = cases.call(words);
            Json.answer(name, value, micros(start));
        } catch (Throwable e) {
            Json.failure(name, e, cases.code(e), micros(start));
        }
    }

    public String code(Throwable e) {
        return e instanceof DemoException ? "" + ((DemoException) e).getCode() : framework.code(e);
    }

    public Object call(String[] w) throws Exception {
        DemoService demo = framework.demo();
        switch (w[0]) {
            case "echo": return demo.echo(w[1]);
            case "pojo": return pojo();
            case "attached": framework.attach(w[1], w[2]); return pojo();
            case "fail": return demo.fail(Integer.parseInt(w[1]), w[2]);
            case "crash": return demo.crash(w[1]);
            case "nothing": return demo.nothing();
            case "who": return demo.who();
            case "work": return work(w);
            case "flow":
                if (w.length > 2) flow.begin(Integer.parseInt(w[1]), Integer.parseInt(w[2]));
                else flow.begin(Integer.parseInt(w[1]));
                return "flows";
            case "tide": return flow.told();
            case "ebb": return flow.end();
            case "green": return framework.green().who();
            case "oneway": return oneWay(w[1]);
            case "bigtext": return bigText(Integer.parseInt(w[1]));
            case "bigbytes": return bigBytes(Integer.parseInt(w[1]));
            case "parallel": return parallel(Integer.parseInt(w[1]));
            case "peak": return demo.peak();
            case "slow": return demo.slow(Long.parseLong(w[1]));
            case "late": return demo.late(w[1], Long.parseLong(w[2]));
            case "retired": return retired(w[1], Long.parseLong(w[2]));
            case "missing": return framework.missing().ping("anyone");
            case "ping": return framework.ping();
            case "generic": return framework.generic("echo", new String[] {"java.lang.String"}, w[1]);
            case "genericpojo": return framework.genericOrder();
            case "genericfail":
                return framework.generic("fail", new String[] {"int", "java.lang.String"}, Integer.parseInt(w[1]), w[2]);
            default: return framework.other(w);
        }
    }

    private Order pojo() {
        Order answer = framework.demo().process(Sample.order());
        if (!Sample.processed().equals(answer)) throw new IllegalStateException("not equal: " + answer);
        return answer;
    }

    /** work URL TIMEOUT RETRIES TOKEN [KEY VALUE]...: pairs that go beside the call. */
    private String work(String[] w) throws DemoException {
        DemoService service = framework.at(w[1], Integer.parseInt(w[2]), Integer.parseInt(w[3]));
        if (attached != null) framework.attach(attached.split("=", 2)[0], attached.split("=", 2)[1]);
        for (int i = 5; i < w.length; i += 2) framework.attach(w[i], w[i + 1]);
        return service.work(w[4]);
    }

    /** The call has no answer, so its arrival is looked up by later calls; a second arrival would show as well. */
    private int oneWay(String token) throws InterruptedException {
        framework.fire(token);
        DemoService demo = framework.demo();
        for (int i = 0; i < 100 && demo.fired(token) == 0; i++) Thread.sleep(20);
        Thread.sleep(20);
        return demo.fired(token);
    }

    private String bigText(int length) {
        String sent = Sample.text(length);
        String got = framework.demo().echo(sent);
        if (!sent.equals(got)) throw new IllegalStateException("another text of " + got.length());
        return got.length() + " equal";
    }

    private String bigBytes(int size) {
        byte[] sent = Sample.bytes(size);
        byte[] got = framework.demo().bytes(sent);
        if (!Arrays.equals(sent, got)) throw new IllegalStateException("other bytes, " + got.length);
        return got.length + " equal";
    }

    /** Every call at once, answered out of order (each waits a while of its own), each answer checked as its own. */
    private String parallel(int calls) throws InterruptedException {
        final AtomicInteger own = new AtomicInteger();
        final AtomicInteger other = new AtomicInteger();
        final AtomicReference<String> failed = new AtomicReference<String>("none");
        final CountDownLatch go = new CountDownLatch(1);
        final String process = java.lang.management.ManagementFactory.getRuntimeMXBean().getName();
        Thread[] threads = new Thread[calls];
        for (int i = 0; i < calls; i++) {
            final String text = process + "-" + i + "-" + Sample.text(i * 37 % 2000);
            final long wait = 50 + i * 7 % 50;
            threads[i] = new Thread(() -> {
                try {
                    go.await();
                    (text.equals(framework.demo().late(text, wait)) ? own : other).incrementAndGet();
                } catch (Throwable e) {
                    failed.set(String.valueOf(e));
                }
            });
            threads[i].start();
        }
        go.countDown();
        for (Thread t : threads) t.join();
        return "own=" + own + " other=" + other + " failed=" + failed;
    }

    /**
     * A call during which the peer takes its connection out of service without closing it. Only what is seen before
     * the answer can have come counts: the connection that brings the answer later was up until then.
     */
    private String retired(String text, long wait) throws InterruptedException {
        final long start = System.nanoTime();
        final AtomicInteger seen = new AtomicInteger();
        Thread watch = new Thread(() -> {
            while (micros(start) < wait * 1000 && seen.get() == 0) {
                if (!framework.available() && micros(start) < wait * 1000) seen.set(1);
                java.util.concurrent.locks.LockSupport.parkNanos(5_000_000);
            }
        });
        if (!framework.available()) throw new IllegalStateException("out of service before the call");
        watch.start();
        String answer = framework.demo().late(text, wait);
        watch.join();
        return answer + (seen.get() == 1 ? " retired" : " in service");
    }

    private static long micros(long start) { return (System.nanoTime() - start) / 1000; }
}
