/*
 * What a consumer does for the lines that Console reads.
 * Must check what it receives, and never answer a case that it did not run.
 */
package peer;

interface Cases {
    /** Makes the calls of one case, the first word being its name; answers what the test is to see. */
    Object call(String[] words) throws Exception;

    /** The number or name for the kind of failure, or null. */
    String code(Throwable e);
}
