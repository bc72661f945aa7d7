/*
 * Dubbo consumer: --url dubbo://HOST:PORT (a host NAME: Dubbo never dials 127.x), or --registry URL to find its providers
 * there (of DemoService alone, of --version, where that is given, and green), --timeout MS, --heartbeat MS
 * to have idle connections heartbeat, and lost ones dialled again, sooner than once a minute, and --attach KEY=VALUE
 * for a pair beside every `work`. One source for Dubbo 2.7 and 3.3.
 * Must not retry unless a case or --retries says so: a case sees the first answer or none.
 * TripleConsumer is this one with more services.
 */
package peer;

import org.apache.dubbo.common.Version;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.Invoker;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.RpcException;
import org.apache.dubbo.rpc.service.EchoService;
import org.apache.dubbo.rpc.service.GenericService;
import peer.api.DemoService;
import peer.api.MissingService;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

public class Consumer implements Console.Framework {
    private final Invoker<?> invoker;
    private final DemoService demo;
    private final DemoService green;
    private final MissingService missing;
    private final GenericService generic;
    private final Args args;
    private final Map<String, DemoService> elsewhere = new ConcurrentHashMap<String, DemoService>();

    /** {@code more}: services that are referred to beside those of every consumer. */
    Consumer(Args args, ReferenceConfig<?>... more) throws ReflectiveOperationException {
        this.args = args;
        ApplicationConfig app = new ApplicationConfig("peer-consumer");
        app.setQosEnable(false);
        ReferenceConfig<DemoService> demo = reference("demo", args);
        demo.setInterface(DemoService.class);
        MethodConfig fire = new MethodConfig();
        fire.setName("fire");
        fire.setReturn(false);
        demo.setMethods(new ArrayList<MethodConfig>(Collections.singletonList(fire)));
        ReferenceConfig<DemoService> green = reference("green", args);
        green.setInterface(DemoService.class);
        green.setGroup("green");
        green.setVersion("2.0.0");
        boolean direct = args.text("url", null) != null;
        ReferenceConfig<MissingService> missing = reference("missing", args);
        missing.setInterface(MissingService.class);
        ReferenceConfig<GenericService> generic = reference("generic", args);
        generic.setInterface(DemoService.class.getName());
        generic.setGeneric("true");
        DubboBootstrap bootstrap = DubboBootstrap.getInstance().application(app)
            .registries(Provider.registries(args)).reference(demo).reference(green);
        if (direct) bootstrap.reference(missing).reference(generic);
        for (ReferenceConfig<?> reference : more) bootstrap.reference(reference);
        bootstrap.start();
        this.demo = demo.get();
        this.invoker = invoker(demo);
        this.green = green.get();
        this.missing = direct ? missing.get() : null;
        this.generic = direct ? generic.get() : null;
    }

    public static void main(String[] argv) throws Exception {
        Args args = new Args(argv, "url", "registry", "version", "timeout", "heartbeat", "attach", "retries");
        Consumer consumer = new Consumer(args);
        Json.ready("dubbo", Version.getVersion());
        Console.serve(consumer, args);
    }

    /** Dubbo 2.7 keeps it from applications, hence reflection. */
    static Invoker<?> invoker(ReferenceConfig<?> reference) throws ReflectiveOperationException {
        Method invoker = ReferenceConfig.class.getDeclaredMethod("getInvoker");
        invoker.setAccessible(true);
        return (Invoker<?>) invoker.invoke(reference);
    }

    static <T> ReferenceConfig<T> reference(String id, Args args) {
        ReferenceConfig<T> r = new ReferenceConfig<T>();
        r.setId(id);
        if (args.text("url", null) != null) r.setUrl(args.need("url"));
        if (args.text("version", null) != null) r.setVersion(args.need("version"));
        r.setTimeout(args.number("timeout", 3000));
        r.setRetries(args.number("retries", 0));
        r.setCheck(false);
        Map<String, String> parameters = new LinkedHashMap<String, String>();
        String period = "" + args.number("heartbeat", 60000);
        parameters.put("heartbeat", period);
        // Dubbo 3.3 keeps its minute between two dials whatever the heartbeat, unless this says otherwise.
        parameters.put("dubbo.application.least-reconnect-duration", period);
        r.setParameters(parameters);
        return r;
    }

    public DemoService demo() { return demo; }

    public DemoService at(String url, int timeout, int retries) {
        String id = "at-" + url + "-" + timeout + "-" + retries;
        return elsewhere.computeIfAbsent(id, k -> {
            ReferenceConfig<DemoService> r = reference(id, args);
            r.setInterface(DemoService.class);
            r.setUrl(url);
            r.setTimeout(timeout);
            r.setRetries(retries);
            return r.get();
        });
    }

    public DemoService green() { return green; }

    public MissingService missing() { return missing; }

    public void fire(String token) { demo.fire(token); }

    public Object ping() { return ((EchoService) demo).$echo("still there"); }

    /** Connected, and not told READONLY. */
    public boolean available() { return invoker.isAvailable(); }

    public Object generic(String method, String[] types, Object... args) {
        return generic.$invoke(method, types, args);
    }

    public String genericOrder() {
        Map<String, Object> order = new LinkedHashMap<String, Object>();
        order.put("class", "peer.api.Order");
        order.put("name", "generic");
        order.put("count", 6);
        order.put("status", "NEW");
        Map<?, ?> answer = (Map<?, ?>) generic("process", new String[] {"peer.api.Order"}, order);
        return answer.get("name") + "/" + answer.get("count") + "/" + answer.get("status");
    }

    public void attach(String key, String value) { RpcContext.getContext().setAttachment(key, value); }

    public String code(Throwable e) { return e instanceof RpcException ? "" + ((RpcException) e).getCode() : null; }
}
