/*
 * Dubbo provider over Triple: DemoService and Talk (talk.proto) on --port as they are, and once more on --green-port
 * under group "green" and version "2.0.0". All that its command line and its stdin may say is as Provider's.
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
    private final boolean green;
    private final DubboBootstrap bootstrap = DubboBootstrap.getInstance(new FrameworkModel().newApplication());

    private TripleProvider(String name, Desk desk, Args args, String port) {
        green = port.equals("green-port");
        ApplicationConfig app = new ApplicationConfig("peer-provider-" + name);
        app.setQosEnable(false);
        ProtocolConfig triple = new ProtocolConfig("tri", args.number(port));
        triple.setHost(args.need("host"));
        // The default pool of 200 refuses at exactly the number of calls that the tests make at once.
        triple.setThreads(args.number("threads", 400));
        bootstrap.application(app).registry(new RegistryConfig("N/A")).protocol(triple);
        export(DemoService.class, new DemoImpl(name, desk));
        export(Talk.class, new TalkImpl(name));
        bootstrap.start();
    }

    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "host", "port", "green-port", "name", "threads", "journal");
        Desk desk = Desk.of(args);
        new TripleProvider(args.text("name", "blue"), desk, args, "port");
        if (args.text("green-port", null) != null) new TripleProvider("green", desk, args, "green-port");
        Json.ready("dubbo", Version.getVersion());
        Console.serve(desk);
    }

    private <T> void export(Class<T> type, T implementation) {
        ServiceConfig<T> service = new ServiceConfig<>(bootstrap.getApplicationModel().getDefaultModule());
        service.setInterface(type);
        service.setRef(implementation);
        if (green) {
            service.setGroup("green");
            service.setVersion("2.0.0");
        }
        bootstrap.service(service);
    }
}
