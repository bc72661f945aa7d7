/*
 * SOFARPC provider: DemoService on --port as it is, and once more on --green-port under the unique id "green", so
 * that a call routed to the wrong port is not served. Bolt, direct, no registry.
 * Must listen on loopback alone.
 */
package peer;

import com.alipay.sofa.rpc.common.Version;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import peer.api.DemoImpl;
import peer.api.DemoService;

public final class SofaProvider {
    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "port", "green-port");
        service("blue", args.number("port")).export();
        service("green", args.number("green-port")).setUniqueId("green").export();
        Json.ready("sofarpc", Version.BUILD_VERSION);
        Thread.currentThread().join();
    }

    private static ProviderConfig<DemoService> service(String name, int port) {
        // The default pool of 200 refuses at exactly the number of calls that the tests make at once.
        ServerConfig server = new ServerConfig().setProtocol("bolt").setHost("127.0.0.1").setPort(port)
            .setMaxThreads(400).setDaemon(false);
        return new ProviderConfig<DemoService>().setApplication(new ApplicationConfig().setAppName("peer-provider"))
            .setInterfaceId(DemoService.class.getName()).setRef(new DemoImpl(name)).setServer(server).setRegister(false);
    }
}
