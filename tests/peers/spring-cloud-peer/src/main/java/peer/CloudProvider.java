/*
 * Spring Cloud provider: one application --app for each --registry (urls, by comma), on the --port of the same place, by
 * --host, calling itself --name ("blue"); with --register false it serves and tells no registry.
 * It must not know that there is a sidecar.
 */
package peer;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.SpringBootVersion;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

import java.util.Map;

@SpringBootConfiguration
@EnableAutoConfiguration
@RestController
public class CloudProvider {
    private static String name;

    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "host", "port", "name", "app", "registry", "register");
        name = args.text("name", "blue");
        String[] ports = args.need("port").split(",");
        String[] registries = args.need("registry").split(",");
        for (int i = 0; i < registries.length; i++) {
            Map<String, Object> settings = Cloud.settings(args.need("app"), registries[i]);
            settings.put("server.address", args.need("host"));
            settings.put("server.port", ports[i]);
            settings.put("spring.cloud.zookeeper.discovery.instance-host", args.need("host"));
            settings.put("spring.cloud.nacos.discovery.ip", args.need("host"));
            settings.put("spring.cloud.zookeeper.discovery.register", args.text("register", "true"));
            settings.put("spring.cloud.nacos.discovery.register-enabled", args.text("register", "true"));
            SpringApplication app = new SpringApplication(CloudProvider.class);
            app.setDefaultProperties(settings);
            app.run();
        }
        Json.ready("spring-cloud", SpringBootVersion.getVersion());
        Console.serve(Desk.of(args));
    }

    @GetMapping("/who")
    String who() {
        return name;
    }

    @GetMapping("/echo")
    String echo(@RequestParam String text) {
        return text;
    }
}
