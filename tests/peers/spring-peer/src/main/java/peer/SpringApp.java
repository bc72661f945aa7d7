package peer;

import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.context.event.ApplicationReadyEvent;
import org.springframework.context.event.EventListener;
import org.springframework.http.HttpHeaders;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestHeader;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.multipart.MultipartFile;
import org.springframework.web.servlet.mvc.method.annotation.StreamingResponseBody;

/** An ordinary application on Spring Boot: SpringApp PORT. It must not know that there is a sidecar. */
@SpringBootApplication
@RestController
public class SpringApp {
    record Order(long id, String name, List<String> lines) {}

    public static void main(String[] args) {
        SpringApplication app = new SpringApplication(SpringApp.class);
        app.setDefaultProperties(Map.of(
            "server.address", "127.0.0.1",
            "server.port", args[0],
            "server.shutdown", "immediate",
            "spring.servlet.multipart.max-file-size", "64MB",
            "spring.servlet.multipart.max-request-size", "64MB",
            "spring.main.banner-mode", "off",
            "logging.level.root", "warn"));
        app.run();
    }

    @EventListener(ApplicationReadyEvent.class)
    void ready() {
        Seen.print("{\"ready\":true,\"peer\":\"spring\"}");
    }

    @RequestMapping("/echo/{id}")
    Map<String, Object> echo(@PathVariable String id, @RequestParam Map<String, String> query,
            @RequestHeader HttpHeaders headers, @RequestBody(required = false) byte[] body, HttpServletRequest request) {
        Map<String, Object> seen = new LinkedHashMap<>();
        seen.put("method", request.getMethod());
        seen.put("id", id);
        seen.put("uri", request.getRequestURI());
        seen.put("query", new TreeMap<>(query));
        Map<String, List<String>> named = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
        headers.forEach(named::put);
        seen.put("headers", named);
        seen.put("body", body == null ? "" : new String(body, StandardCharsets.UTF_8));
        return seen;
    }

    @PostMapping("/orders")
    ResponseEntity<Order> order(@RequestBody Order order) {
        return ResponseEntity.status(201).header("Location", "/orders/" + order.id()).body(order);
    }

    @GetMapping("/stream")
    ResponseEntity<StreamingResponseBody> stream(@RequestParam int parts) {
        return ResponseEntity.ok(out -> {
            for (int i = 0; i < parts; i++) {
                out.write(("part " + i + " of " + parts + "\n").getBytes(StandardCharsets.UTF_8));
                out.flush();
            }
        });
    }

    @GetMapping("/big")
    byte[] big(@RequestParam int bytes) {
        return pattern(bytes);
    }

    @GetMapping("/status/{code}")
    ResponseEntity<Void> status(@PathVariable int code) {
        return ResponseEntity.status(code).header("X-Kept", "a value").build();
    }

    @GetMapping("/slow")
    String slow(@RequestParam long ms) throws InterruptedException {
        Thread.sleep(ms);
        return "at last";
    }

    @GetMapping("/fail")
    String fail() {
        throw new IllegalStateException("on purpose");
    }

    @PostMapping("/upload")
    Map<String, Object> upload(@RequestParam MultipartFile file, @RequestParam String note) throws IOException {
        return Map.of("name", file.getOriginalFilename(), "size", file.getSize(), "sha256", sha256(file.getBytes()), "note", note);
    }

    private static byte[] pattern(int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) (i * 31 + i / 251);
        }
        return bytes;
    }

    private static String sha256(byte[] bytes) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
