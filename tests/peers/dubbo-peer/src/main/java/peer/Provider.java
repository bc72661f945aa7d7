/*
 * Dubbo provider: DemoService on --port as it is (of --version, where that is given), calling itself --name ("blue"), and
 * once more on --green-port, where that is given, under group "green" and version "2.0.0", so that a call routed to the
 * wrong port is not served; the two may be one.
 * --proto is dubbo or tri, --threads how many calls of a port it takes at once; --journal, and what its stdin says, are as
 * Desk has them. It registers itself, as application --app, in every --registry (urls, by comma), where that is given: as
 * --register-mode says (interface, instance or all; 3.3 alone knows that), and not at all with --register false.
 * One source for Dubbo 2.7 and 3.3.
 * To be on loopback alone, --host must be a name that resolves to 127.0.0.1: given an address of 127/8, Dubbo binds every
 * interface.
 */
package peer;

import org.apache.dubbo.common.Version;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import peer.api.DemoImpl;
import peer.api.DemoService;

import java.util.ArrayList;
import java.util.List;

public final class Provider {
    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "host", "port", "green-port", "name", "threads", "journal", "proto", "app", "registry",
            "register", "register-mode", "version");
        Desk desk = Desk.of(args);
        ApplicationConfig app = new ApplicationConfig(args.text("app", "peer-provider"));
        app.setQosEnable(false);
        if (args.text("register-mode", null) != null) Compat.registerMode(app, args.need("register-mode"));
        ProtocolConfig blue = protocol("blue", args, "port");
        DubboBootstrap bootstrap = DubboBootstrap.getInstance().application(app).registries(registries(args))
            .protocol(blue);
        ServiceConfig<DemoService> first = service(args.text("name", "blue"), desk, blue);
        if (args.text("version", null) != null) first.setVersion(args.need("version"));
        bootstrap.service(first);
        if (args.text("green-port", null) != null) {
            // One port has one protocol.
            boolean shared = args.number("green-port") == args.number("port");
            ProtocolConfig green = shared ? blue : protocol("green", args, "green-port");
            ServiceConfig<DemoService> second = service("green", desk, green);
            second.setGroup("green");
            second.setVersion("2.0.0");
            if (!shared) bootstrap.protocol(green);
            bootstrap.service(second);
        }
        bootstrap.start();
        Json.ready("dubbo", Version.getVersion());
        Console.serve(desk);
    }

    /** Those of the command line; the one that is none where it names none. */
    static List<RegistryConfig> registries(Args args) {
        List<RegistryConfig> all = new ArrayList<RegistryConfig>();
        for (String url : args.text("registry", "N/A").split(",")) {
            RegistryConfig registry = new RegistryConfig(url);
            // Without a name of its own 2.7 takes the second for the first once more.
            registry.setId("registry-" + all.size());
            registry.setRegister(Boolean.parseBoolean(args.text("register", "true")));
            all.add(registry);
        }
        return all;
    }

    private static ProtocolConfig protocol(String id, Args args, String port) {
        ProtocolConfig p = new ProtocolConfig(args.text("proto", "dubbo"), args.number(port));
        p.setId(id);
        p.setHost(args.need("host"));
        // The default pool of 200 refuses at exactly the number of calls that the tests make at once.
        p.setThreads(args.number("threads", 400));
        return p;
    }

    private static ServiceConfig<DemoService> service(String name, Desk desk, ProtocolConfig protocol) {
        ServiceConfig<DemoService> s = new ServiceConfig<DemoService>();
        s.setId(name);
        s.setInterface(DemoService.class);
        s.setRef(new DemoImpl(name, desk));
        s.setProtocol(protocol);
        return s;
    }
}
