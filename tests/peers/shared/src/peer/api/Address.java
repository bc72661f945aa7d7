/*
 * The inner object of Order. Compared by value. Must keep a default constructor and setters: every serializer
 * of the tests builds it through them.
 */
package peer.api;

import java.io.Serializable;
import java.util.Objects;

public class Address implements Serializable {
    private static final long serialVersionUID = 1L;
    private String city;
    private String street;
    private int zip;

    public Address() {}

    public Address(String city, String street, int zip) {
        this.city = city;
        this.street = street;
        this.zip = zip;
    }

    public String getCity() { return city; }
    public void setCity(String v) { city = v; }
    public String getStreet() { return street; }
    public void setStreet(String v) { street = v; }
    public int getZip() { return zip; }
    public void setZip(int v) { zip = v; }

    @Override public boolean equals(Object other) {
        if (!(other instanceof Address)) return false;
        Address o = (Address) other;
        return zip == o.zip && Objects.equals(city, o.city) && Objects.equals(street, o.street);
    }

    @Override public int hashCode() { return Objects.hash(city, street, zip); }

    @Override public String toString() { return city + "/" + street + "/" + zip; }
}
