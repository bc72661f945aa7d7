package peer;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;

/**
 * One request as a server understood it, printed as one JSON line; bytes are written as the characters of the same
 * numbers. It must never normalise anything.
 */
final class Seen {
    static final byte[] ANSWER = "seen\n".getBytes(StandardCharsets.ISO_8859_1);

    private final String method;
    private final String target;
    private final List<String[]> headers = new ArrayList<>();
    private final List<String[]> trailers = new ArrayList<>();
    private byte[] body = {};

    Seen(String method, String target) {
        this.method = method;
        this.target = target;
    }

    void header(String name, String value) {
        headers.add(new String[] {name, value});
    }

    void trailer(String name, String value) {
        trailers.add(new String[] {name, value});
    }

    void body(byte[] whole) {
        body = whole;
    }

    void print() {
        print("{\"method\":" + quoted(method) + ",\"target\":" + quoted(target) + ",\"headers\":" + pairs(headers)
            + ",\"body\":" + quoted(new String(body, StandardCharsets.ISO_8859_1)) + ",\"trailers\":" + pairs(trailers) + "}");
    }

    static synchronized void print(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static String pairs(List<String[]> pairs) {
        return pairs.stream().map(p -> "[" + quoted(p[0]) + "," + quoted(p[1]) + "]").collect(Collectors.joining(",", "[", "]"));
    }

    /** In ASCII, whatever the console's charset. */
    static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c >= ' ' && c < 127 && c != '"' && c != '\\') {
                quoted.append(c);
            } else {
                quoted.append(String.format("\\u%04x", (int) c));
            }
        }
        return quoted.append('"').toString();
    }
}
