/*
 * A service that no provider exports and no route of the tests names: the consumer's side of "unknown service".
 * Must never be exported by anything here.
 */
package peer.api;

public interface MissingService {
    String ping(String text);
}
