/*
 * The one implementation of DemoService, used by the Dubbo and the SOFARPC providers alike.
 * Keeps only counters; must never print to stdout, which belongs to the test protocol.
 */
package peer.api;

import peer.Desk;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

public class DemoImpl implements DemoService {
    private final String name;
    private final Desk desk;
    private final ConcurrentHashMap<String, AtomicInteger> fired = new ConcurrentHashMap<String, AtomicInteger>();
    private final AtomicInteger inside = new AtomicInteger();
    private final AtomicInteger peak = new AtomicInteger();

    public DemoImpl(String name, Desk desk) {
        this.name = name;
        this.desk = desk;
    }

    public String echo(String text) { return text; }

    public Order process(Order order) {
        order.setCount(order.getCount() + 1);
        order.setStatus(Status.SHIPPED);
        return order;
    }

    public String fail(int code, String message) throws DemoException { throw new DemoException(code, message); }

    public String crash(String message) { throw new IllegalStateException(message); }

    public String slow(long ms) {
        pause(ms);
        return "slept " + ms;
    }

    public String late(String text, long ms) {
        peak.accumulateAndGet(inside.incrementAndGet(), Math::max);
        pause(ms);
        inside.decrementAndGet();
        return text;
    }

    public int peak() { return peak.get(); }

    public void fire(String token) { fired.computeIfAbsent(token, k -> new AtomicInteger()).incrementAndGet(); }

    public int fired(String token) {
        AtomicInteger n = fired.get(token);
        return n == null ? 0 : n.get();
    }

    public byte[] bytes(byte[] data) { return data; }

    public String nothing() { return null; }

    public String who() { return name; }

    public String work(String token) throws DemoException { return desk.work(name, token); }

    private static void pause(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
