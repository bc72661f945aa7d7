/*
 * SOFARPC consumer over Bolt: --url bolt://HOST:PORT, or --registry URL to find its providers there, --timeout MS, and
 * --attach KEY=VALUE for a pair beside every `work`; a first call waits --address-wait MS for a registry that tells late.
 * One proxy per way of calling (synchronous, one-way, generic), all to the same address.
 * Must not retry unless a case says so: a case sees the first answer or none.
 */
package peer;

import com.alipay.hessian.generic.model.GenericObject;
import com.alipay.sofa.rpc.api.GenericService;
import com.alipay.sofa.rpc.common.Version;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import com.alipay.sofa.rpc.context.RpcInvokeContext;
import com.alipay.sofa.rpc.core.exception.SofaRpcException;
import peer.api.DemoService;
import peer.api.MissingService;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

public final class SofaConsumer implements Console.Framework {
    private final DemoService demo;
    private final DemoService oneWay;
    private final DemoService green;
    private final MissingService missing;
    private final GenericService generic;
    private final Args args;
    private final Map<String, DemoService> elsewhere = new ConcurrentHashMap<String, DemoService>();

    private SofaConsumer(Args args) {
        this.args = args;
        String name = DemoService.class.getName();
        demo = SofaConsumer.<DemoService>consumer(name, args).refer();
        oneWay = SofaConsumer.<DemoService>consumer(name, args).setInvokeType("oneway").refer();
        green = SofaConsumer.<DemoService>consumer(name, args).setUniqueId("green").refer();
        missing = SofaConsumer.<MissingService>consumer(MissingService.class.getName(), args).refer();
        generic = SofaConsumer.<GenericService>consumer(name, args).setGeneric(true).refer();
    }

    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "url", "registry", "timeout", "attach", "address-wait");
        SofaConsumer consumer = new SofaConsumer(args);
        Json.ready("sofarpc", Version.BUILD_VERSION);
        Console.serve(consumer, args);
    }

    private static <T> ConsumerConfig<T> consumer(String name, Args args) {
        boolean direct = args.text("url", null) != null;
        return new ConsumerConfig<T>().setApplication(new ApplicationConfig().setAppName("peer-consumer"))
            .setInterfaceId(name).setProtocol("bolt").setDirectUrl(args.text("url", null)).setRegister(false)
            .setRegistry(SofaProvider.registries(args)).setSubscribe(!direct)
            .setTimeout(args.number("timeout", 3000)).setRetries(0).setConnectTimeout(2000).setRepeatedReferLimit(-1)
            .setAddressWait(args.number("address-wait", -1));
    }

    public DemoService demo() { return demo; }

    public DemoService at(String url, int timeout, int retries) {
        return elsewhere.computeIfAbsent(url + " " + timeout + " " + retries, k ->
            SofaConsumer.<DemoService>consumer(DemoService.class.getName(), args).setDirectUrl(url).setTimeout(timeout)
                .setRetries(retries).refer());
    }

    public DemoService green() { return green; }

    public MissingService missing() { return missing; }

    public void fire(String token) { oneWay.fire(token); }

    public Object ping() { throw new UnsupportedOperationException("SOFARPC has no echo call of its own"); }

    public boolean available() { throw new UnsupportedOperationException("Bolt clients know no such state"); }

    public Object generic(String method, String[] types, Object... args) {
        return generic.$invoke(method, types, args);
    }

    public String genericOrder() {
        GenericObject order = new GenericObject("peer.api.Order");
        order.putField("name", "generic");
        order.putField("count", 6);
        GenericObject answer = (GenericObject) generic.$genericInvoke("process", new String[] {"peer.api.Order"}, new Object[] {order});
        GenericObject status = (GenericObject) answer.getField("status");
        return answer.getField("name") + "/" + answer.getField("count") + "/" + status.getField("name");
    }

    public void attach(String key, String value) { RpcInvokeContext.getContext().addCustomHeader(key, value); }

    public String code(Throwable e) {
        return e instanceof SofaRpcException ? "" + ((SofaRpcException) e).getErrorType() : null;
    }
}
