/*
 * Bytes as a test can write and read them: hexadecimal digits, two a byte, lower case.
 */
package peer;

public final class Bytes {
    private Bytes() {}

    public static String hex(byte[] bytes) {
        StringBuilder b = new StringBuilder();
        for (byte one : bytes) b.append(String.format("%02x", one));
        return b.toString();
    }

    public static byte[] unhex(String digits) {
        byte[] bytes = new byte[digits.length() / 2];
        for (int i = 0; i < bytes.length; i++) bytes[i] = (byte) Integer.parseInt(digits.substring(2 * i, 2 * i + 2), 16);
        return bytes;
    }
}
