/*
 * The command line of the peers: "--key value" pairs and nothing else.
 * Must refuse what it does not understand, so that a typing error in a test is an error of the test.
 */
package peer;

import java.util.HashMap;
import java.util.Map;

public final class Args {
    private final Map<String, String> values = new HashMap<String, String>();

    public Args(String[] argv, String... known) {
        for (int i = 0; i < argv.length; i += 2) {
            String key = argv[i].startsWith("--") ? argv[i].substring(2) : "";
            if (!java.util.Arrays.asList(known).contains(key)) throw new IllegalArgumentException("unexpected " + argv[i]);
            if (i + 1 == argv.length) throw new IllegalArgumentException("no value for " + argv[i]);
            values.put(key, argv[i + 1]);
        }
    }

    public String need(String key) {
        String v = values.get(key);
        if (v == null) throw new IllegalArgumentException("--" + key + " is needed");
        return v;
    }

    public String text(String key, String otherwise) { return values.containsKey(key) ? need(key) : otherwise; }

    public int number(String key) { return Integer.parseInt(need(key)); }

    public int number(String key, int otherwise) { return values.containsKey(key) ? number(key) : otherwise; }
}
