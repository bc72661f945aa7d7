/*
 * SOFARPC provider: DemoService on --port as it is, calling itself --name ("blue"), and once more on --green-port, where
 * that is given, under the unique id "green", so that a call routed to the wrong port is not served. --threads is how
 * many calls of a port it takes at once; --journal, and what its stdin says, are as Desk has them. Bolt. It registers
 * itself, as application --app, in every --registry (urls, by comma), where that is given, and not with --register false;
 * beside a sidecar that is its registry ("mesh://http://127.0.0.1:13330") it says its port where that is not the usual one.
 * A line "unexport" on its stdin takes the first service back.
 * Must listen on loopback alone, unless --host says otherwise.
 */
package peer;

import com.alipay.sofa.rpc.common.Version;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import peer.api.DemoImpl;
import peer.api.DemoService;

import java.util.ArrayList;
import java.util.List;

public final class SofaProvider {
    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "host", "port", "green-port", "name", "threads", "journal", "app", "registry", "register");
        Desk desk = Desk.of(args);
        ProviderConfig<DemoService> blue = service(args.text("name", "blue"), desk, args, "port");
        blue.export();
        if (args.text("green-port", null) != null) {
            ProviderConfig<DemoService> green = service("green", desk, args, "green-port").setUniqueId("green");
            if (args.text("registry", "").startsWith("mesh:")) green.setParameter("port", args.text("green-port", null));
            green.export();
        }
        Json.ready("sofarpc", Version.BUILD_VERSION);
        Console.serve(new Cases() {
            public Object call(String[] words) throws Exception {
                if (!words[0].equals("unexport")) return desk.call(words);
                blue.unExport();
                return "taken back";
            }

            public String code(Throwable e) { return desk.code(e); }
        });
    }

    private static ProviderConfig<DemoService> service(String name, Desk desk, Args args, String port) {
        // The default pool of 200 refuses at exactly the number of calls that the tests make at once.
        int threads = args.number("threads", 400);
        ServerConfig server = new ServerConfig().setProtocol("bolt").setHost(args.text("host", "127.0.0.1")).setPort(args.number(port))
            .setCoreThreads(Math.min(threads, 20)).setMaxThreads(threads).setDaemon(false);
        List<RegistryConfig> registries = registries(args);
        boolean register = !registries.isEmpty() && Boolean.parseBoolean(args.text("register", "true"));
        return new ProviderConfig<DemoService>().setApplication(new ApplicationConfig().setAppName(args.text("app", "peer-provider")))
            .setInterfaceId(DemoService.class.getName()).setRef(new DemoImpl(name, desk)).setServer(server)
            .setRegistry(registries).setRegister(register);
    }

    /** Those of the command line, "zookeeper://HOST:PORT", "nacos://HOST:PORT" and "mesh://http://HOST:PORT". */
    static List<RegistryConfig> registries(Args args) {
        List<RegistryConfig> all = new ArrayList<RegistryConfig>();
        if (args.text("registry", null) == null) return all;
        for (String url : args.need("registry").split(",")) {
            String[] parts = url.split("://", 2);
            all.add(new RegistryConfig().setProtocol(parts[0]).setAddress(parts[1]));
        }
        return all;
    }
}
