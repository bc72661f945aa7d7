/*
 * The lines that the peers print on stdout, one JSON object each: the readiness line, and one line per case.
 * Everything outside ASCII is escaped, because the JVM's stdout charset follows the machine's locale.
 * Must never print half a line: one println per object.
 */
package peer;

public final class Json {
    private Json() {}

    static String text(String s) {
        if (s == null) return "null";
        StringBuilder b = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c == '"' || c == '\\') b.append('\\').append(c);
            else if (c < 0x20 || c > 0x7e) b.append(String.format("\\u%04x", (int) c));
            else b.append(c);
        }
        return b.append('"').toString();
    }

    public static void ready(String peer, String version) {
        line("{\"ready\":true,\"peer\":" + text(peer) + ",\"version\":" + text(version) + "}");
    }

    static void answer(String name, Object value, long us) {
        String v = value == null ? null : String.valueOf(value);
        line("{\"case\":" + text(name) + ",\"ok\":true,\"us\":" + us + ",\"value\":" + text(v) + "}");
    }

    /** The exception's class, message, number (where its kind has one) and the classes of its causes. */
    static void failure(String name, Throwable e, String code, long us) {
        StringBuilder causes = new StringBuilder();
        Throwable cause = e.getCause();
        for (int depth = 0; cause != null && depth < 8; depth++, cause = cause.getCause()) {
            causes.append(depth == 0 ? "" : ",").append(text(cause.getClass().getName()));
        }
        line("{\"case\":" + text(name) + ",\"ok\":false,\"us\":" + us + ",\"exception\":" + text(e.getClass().getName())
            + ",\"code\":" + text(code) + ",\"message\":" + text(e.getMessage()) + ",\"causes\":[" + causes + "]}");
    }

    private static synchronized void line(String s) {
        System.out.println(s);
        System.out.flush();
    }
}
