package peer;

import com.alibaba.nacos.core.code.ControllerMethodsCache;
import javax.annotation.PostConstruct;
import org.springframework.context.annotation.Configuration;

/** Opens the naming/config/core HTTP APIs (upstream this is done by the unpublished console module). */
@Configuration
public class HttpApi {
    private final ControllerMethodsCache cache;

    public HttpApi(ControllerMethodsCache cache) {
        this.cache = cache;
    }

    @PostConstruct
    public void init() {
        cache.initClassMethod("com.alibaba.nacos.core.controller");
        cache.initClassMethod("com.alibaba.nacos.naming.controllers");
        cache.initClassMethod("com.alibaba.nacos.config.server.controller");
    }
}
