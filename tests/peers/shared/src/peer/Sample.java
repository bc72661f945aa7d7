/*
 * The values that consumers send: an order with every kind of field, and large texts and bytes that differ at
 * every place, so that a lost, doubled or exchanged piece cannot go unseen. Must be the same on every run.
 */
package peer;

import peer.api.Address;
import peer.api.Order;
import peer.api.Status;

import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;

final class Sample {
    private Sample() {}

    static Order order() {
        Order o = new Order();
        o.setId(9007199254740993L);
        o.setName("\u8ba2\u5355-\u00e9\ud83d\ude80");
        o.setCount(41);
        o.setVip(true);
        o.setScore(3.25);
        o.setStatus(Status.PAID);
        o.setAmount(new BigDecimal("12345.6700"));
        o.setCreated(new Date(1700000000123L));
        o.setAddress(new Address("Hangzhou", "Wensan Rd", 310012));
        o.setOthers(new ArrayList<Address>(Arrays.asList(new Address("Berlin", "Linienstr", 10119), o.getAddress())));
        Map<String, Integer> tags = new LinkedHashMap<String, Integer>();
        tags.put("a", 1);
        tags.put("b", 200000);
        o.setTags(tags);
        o.setBlob(new byte[] {0, 1, 2, (byte) 0xff});
        return o;
    }

    /** What process() makes of {@link #order}. */
    static Order processed() {
        Order o = order();
        o.setCount(42);
        o.setStatus(Status.SHIPPED);
        return o;
    }

    static byte[] bytes(int size) {
        byte[] b = new byte[size];
        new Random(size).nextBytes(b);
        return b;
    }

    /** Mostly one byte a character in UTF-8, every 16th three bytes. */
    static String text(int length) {
        Random random = new Random(length);
        char[] c = new char[length];
        for (int i = 0; i < length; i++) c[i] = (char) (i % 16 == 15 ? 0x4e00 + random.nextInt(0x5000) : ' ' + random.nextInt(95));
        return new String(c);
    }
}
