/*
 * The enum field of Order: serializers treat enums apart from other objects, so the tests carry one.
 * The names travel on the wire; they must never be renamed on one side only.
 */
package peer.api;

public enum Status { NEW, PAID, SHIPPED }
