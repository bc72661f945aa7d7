/*
 * What only one of the two lines of Dubbo can be told.
 * Must never leave a wish unheard: what a line does not know is an error of the test that asks for it.
 */
package peer;

import org.apache.dubbo.config.ApplicationConfig;

final class Compat {
    private Compat() {}

    static void registerMode(ApplicationConfig app, String mode) throws ReflectiveOperationException {
        app.getClass().getMethod("setRegisterMode", String.class).invoke(app, mode);
    }
}
