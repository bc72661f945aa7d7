/*
 * What the two Spring Cloud peers are configured with, as an application's own file would.
 * Must leave everything that is not named here at the frameworks' defaults.
 */
package peer;

import java.util.HashMap;
import java.util.Map;

final class Cloud {
    private Cloud() {}

    /** An application of this name that knows this registry alone, "zookeeper://HOST:PORT" or "nacos://HOST:PORT". */
    static Map<String, Object> settings(String name, String registry) {
        String[] parts = registry.split("://", 2);
        Map<String, Object> settings = new HashMap<>();
        settings.put("spring.application.name", name);
        settings.put("spring.main.banner-mode", "off");
        settings.put("logging.level.root", "warn");
        settings.put("spring.cloud.zookeeper.enabled", parts[0].equals("zookeeper"));
        settings.put("spring.cloud.nacos.discovery.enabled", parts[0].equals("nacos"));
        settings.put("spring.cloud.zookeeper.connect-string", parts[1]);
        settings.put("spring.cloud.nacos.discovery.server-addr", parts[1]);
        return settings;
    }
}
