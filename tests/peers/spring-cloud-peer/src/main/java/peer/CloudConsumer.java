/*
 * Spring Cloud consumer: calls the application --app that it finds in --registry, by its name, with a load-balanced
 * RestClient. Cases are "who", "echo TEXT", "at URL" (who is there, past the balancer), "flow N" and "ebb".
 * The balancer's own cache is off: it keeps instances for 35 s after the registry has told that they are gone.
 */
package peer;

import org.springframework.beans.factory.annotation.Qualifier;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.SpringBootVersion;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.cloud.client.loadbalancer.LoadBalanced;
import org.springframework.context.annotation.Bean;
import org.springframework.web.client.RestClient;
import org.springframework.web.client.RestClientResponseException;

import java.util.Map;

@SpringBootConfiguration
@EnableAutoConfiguration
public class CloudConsumer {
    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "app", "registry");
        Map<String, Object> settings = Cloud.settings("peer-consumer", args.need("registry"));
        settings.put("spring.cloud.loadbalancer.cache.enabled", false);
        settings.put("spring.cloud.zookeeper.discovery.register", false);
        settings.put("spring.cloud.nacos.discovery.register-enabled", false);
        SpringApplication app = new SpringApplication(CloudConsumer.class);
        app.setWebApplicationType(WebApplicationType.NONE);
        app.setDefaultProperties(settings);
        RestClient.Builder balanced = app.run().getBean("balanced", RestClient.Builder.class);
        Calls calls = new Calls(balanced.baseUrl("http://" + args.need("app")).build(), RestClient.create());
        Json.ready("spring-cloud", SpringBootVersion.getVersion());
        Console.serve(calls);
    }

    @Bean
    @LoadBalanced
    @Qualifier("balanced")
    RestClient.Builder balanced() {
        return RestClient.builder();
    }

    private static final class Calls implements Cases {
        private final RestClient found;
        private final RestClient direct;
        private final Flow flow;

        Calls(RestClient found, RestClient direct) {
            this.found = found;
            this.direct = direct;
            flow = new Flow(() -> get(found, "/who"));
        }

        @Override public Object call(String[] w) throws Exception {
            switch (w[0]) {
                case "who": return get(found, "/who");
                case "echo": return get(found, "/echo?text={text}", w[1]);
                case "at": return get(direct, w[1] + "/who");
                case "flow": flow.begin(Integer.parseInt(w[1])); return "flows";
                case "ebb": return flow.end();
                default: throw new IllegalArgumentException("no such case: " + w[0]);
            }
        }

        private static String get(RestClient client, String uri, Object... values) {
            return client.get().uri(uri, values).retrieve().body(String.class);
        }

        @Override public String code(Throwable e) {
            return e instanceof RestClientResponseException answer ? "" + answer.getStatusCode().value() : null;
        }
    }
}
