/*
 * Dubbo provider over Triple: DemoService and Talk (talk.proto) on --port as they are, and once more on --green-port
 * under group "green" and version "2.0.0". --host is as Provider's.
 * Each port has a Dubbo of its own: within one, a call would find its group and version behind every port.
 */
package peer;

import org.apache.dubbo.common.Version;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.model.FrameworkModel;
import peer.api.DemoImpl;
import peer.api.DemoService;
import peer.talk.Talk;

public final class TripleProvider {
    private final String name;
    private final DubboBootstrap bootstrap = DubboBootstrap.getInstance(new FrameworkModel().newApplication());

    private TripleProvider(String name, String host, int port) {
        this.name = name;
        ApplicationConfig app = new ApplicationConfig("peer-provider-" + name);
        app.setQosEnable(false);
        ProtocolConfig triple = new ProtocolConfig("tri", port);
        triple.setHost(host);
        // The default pool of 200 refuses at exactly the number of calls that the tests make at once.
        triple.setThreads(400);
        bootstrap.application(app).registry(new RegistryConfig("N/A")).protocol(triple);
        export(DemoService.class, new DemoImpl(name));
        export(Talk.class, new TalkImpl(name));
        bootstrap.start();
    }

    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "host", "port", "green-port");
        new TripleProvider("blue", args.need("host"), args.number("port"));
        new TripleProvider("green", args.need("host"), args.number("green-port"));
        Json.ready("dubbo", Version.getVersion());
        Thread.currentThread().join();
    }

    private <T> void export(Class<T> type, T implementation) {
        ServiceConfig<T> service = new ServiceConfig<>(bootstrap.getApplicationModel().getDefaultModule());
        service.setInterface(type);
        service.setRef(implementation);
        if (name.equals("green")) {
            service.setGroup("green");
            service.setVersion("2.0.0");
        }
        bootstrap.service(service);
    }
}
