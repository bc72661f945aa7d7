/*
 * Dubbo provider: DemoService on --port as it is, and once more on --green-port under group "green" and version
 * "2.0.0", so that a call routed to the wrong port is not served. One source for Dubbo 2.7 and 3.3.
 * --host must be a name that resolves to 127.0.0.1: given an address of 127/8, Dubbo binds every interface.
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

public final class Provider {
    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "host", "port", "green-port");
        ApplicationConfig app = new ApplicationConfig("peer-provider");
        app.setQosEnable(false);
        ProtocolConfig blue = protocol("blue", args.need("host"), args.number("port"));
        ProtocolConfig green = protocol("green", args.need("host"), args.number("green-port"));
        ServiceConfig<DemoService> first = service("blue", blue);
        ServiceConfig<DemoService> second = service("green", green);
        second.setGroup("green");
        second.setVersion("2.0.0");
        DubboBootstrap.getInstance().application(app).registry(new RegistryConfig("N/A"))
            .protocol(blue).protocol(green).service(first).service(second).start();
        Json.ready("dubbo", Version.getVersion());
        Thread.currentThread().join();
    }

    private static ProtocolConfig protocol(String id, String host, int port) {
        ProtocolConfig p = new ProtocolConfig("dubbo", port);
        p.setId(id);
        p.setHost(host);
        // The default pool of 200 refuses at exactly the number of calls that the tests make at once.
        p.setThreads(400);
        return p;
    }

    private static ServiceConfig<DemoService> service(String name, ProtocolConfig protocol) {
        ServiceConfig<DemoService> s = new ServiceConfig<DemoService>();
        s.setId(name);
        s.setInterface(DemoService.class);
        s.setRef(new DemoImpl(name));
        s.setProtocol(protocol);
        return s;
    }
}
