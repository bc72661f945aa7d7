/*
 * The checked business exception of DemoService, with a field of its own, so that a test sees the whole
 * object arrive rather than a class name and a message. Must stay serializable by Hessian (default constructor).
 */
package peer.api;

public class DemoException extends Exception {
    private static final long serialVersionUID = 1L;
    private int code;

    public DemoException() {}

    public DemoException(int code, String message) {
        super(message);
        this.code = code;
    }

    public int getCode() { return code; }
    public void setCode(int code) { this.code = code; }
}
