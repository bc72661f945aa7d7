/*
 * The service that every provider of the real-peer tests exports and every consumer calls.
 * One method per thing a sidecar could break. Signatures stay within what Dubbo 2.7, Dubbo 3.3, SOFARPC and
 * sofa-rpc-node can all carry, so that any consumer may be paired with any provider of its own protocol.
 */
package peer.api;

public interface DemoService {
    /** Answers its argument. */
    String echo(String text);

    /** Answers the order with its count plus one and its status SHIPPED. */
    Order process(Order order);

    /** Always throws the declared exception. */
    String fail(int code, String message) throws DemoException;

    /** Always throws an exception that the interface does not declare. */
    String crash(String message);

    /** Answers "slept MS" after that many milliseconds; the tests put a route timeout on this method. */
    String slow(long ms);

    /** Answers its text after that many milliseconds; never under a route timeout. */
    String late(String text, long ms);

    /** The most calls of {@code late} that were inside this provider at the same time. */
    int peak();

    /** Called one-way: its only trace is {@link #fired}. */
    void fire(String token);

    /** How often {@link #fire} came with this token. */
    int fired(String token);

    /** Answers its argument. */
    byte[] bytes(byte[] data);

    /** Answers null. */
    String nothing();

    /** The name that this export was given, to see where a call was routed to. */
    String who();

    /** Answers that name and the token, or does what its provider was told to do instead, which keeps count of tokens. */
    String work(String token) throws DemoException;
}
