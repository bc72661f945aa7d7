//! Real HTTP/1 programs through one sidecar: Spring Boot, Go, Node, WebSocket by a library, curl and wrk.
//!
//! Servers and clients are unmodified and know the sidecar's port alone; what they understood is asserted, not what the
//! sidecar says it did. The programs run on loopback and end with their test. Nothing here may judge by time.

mod curl;
mod life;
#[path = "../support/mod.rs"]
mod support;

use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use curl::{curl, file, parts, pattern, sha256};
use serde_json::{Value, json};
use support::peers::{Peer, Web, system_client};
use support::{Process, Sidecar, TempDir, free_port};

const MIB: usize = 1 << 20;

/// One after the other, each test has the cores for itself.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sidecar in front of one server: everything goes there; what is for `late.example` must be answered in 300 ms, and
/// what is for `once.example` may be sent again.
pub(crate) fn sidecar(protocol: &str, server: u16) -> Sidecar {
    let (admin, egress) = (free_port(), free_port());
    Sidecar::start(&format!(
        r#"
app: http1-peers
admin: 127.0.0.1:{admin}
listeners:
  egress:
    bind: 127.0.0.1:{egress}
    protocol: {protocol}
    routes:
      - match: {{ authority: late.example }}
        to: web
        timeout: 300ms
      - match: {{ authority: again.example }}
        to: web
        idempotent: true
      - match: {{ path: {{ prefix: /moved }} }}
        redirect: {{ strip_prefix: /moved, status: 307 }}
      - match: {{ path: /closed }}
        respond: {{ status: 410, body: "gone for good\n" }}
      - match: {{}}
        to: web
clusters:
  web: {{ endpoints: ["127.0.0.1:{server}"] }}
"#
    ))
}

/// The answer to one case of a client program.
#[track_caller]
pub(crate) fn value(client: &mut Process, case: &str) -> Value {
    let answer = client.ask(case);
    assert_eq!(answer["ok"], true, "{case}: {answer}");
    answer["value"].clone()
}

#[test]
fn spring_boot_is_served() {
    let _turn = turn();
    let port = free_port();
    let _spring = Process::start("spring", &mut Web::Spring.on(port));
    for protocol in ["http1", "auto"] {
        let mut sidecar = sidecar(protocol, port);
        let egress = sidecar.port("egress");
        spring_controllers(egress);
        spring_bodies(egress);
        spring_statuses(egress);
        sidecar.assert_running();
    }
}

fn spring_controllers(port: u16) {
    let seen =
        curl(port, &["{}/echo/4%202?b=2&a=%C3%A9", "-H", "X-Lane: blue", "-H", "X-Lane: green"]).json();
    assert_eq!((&seen["method"], &seen["id"]), (&json!("GET"), &json!("4 2")));
    assert_eq!((&seen["uri"], &seen["query"]), (&json!("/echo/4%202"), &json!({"a": "é", "b": "2"})));
    assert_eq!(seen["headers"]["x-lane"], json!(["blue", "green"]));
    assert_eq!(seen["headers"]["host"], json!([format!("127.0.0.1:{port}")]));

    let seen = curl(port, &["{}/echo/7", "--data-binary", "tschüß", "-H", "Content-Type: text/plain"]).json();
    assert_eq!((&seen["method"], &seen["body"]), (&json!("POST"), &json!("tschüß")));
    assert_eq!(seen["headers"]["content-length"], json!(["8"]));
    for method in ["PUT", "PATCH", "DELETE"] {
        let seen = curl(port, &["-X", method, "{}/echo/7", "--json", "{\"a\":1}"]).json();
        assert_eq!((&seen["method"], &seen["body"]), (&json!(method), &json!("{\"a\":1}")));
    }
    let made = curl(port, &["{}/orders", "--json", r#"{"id": 7, "name": "订单", "lines": ["a", "b"]}"#]);
    let order: Value = serde_json::from_slice(&made.is(201).body).expect("JSON");
    assert_eq!(order, json!({"id": 7, "name": "订单", "lines": ["a", "b"]}));
    assert_eq!(made.header("location"), Some("/orders/7"));
}

fn spring_bodies(port: u16) {
    let streamed = curl(port, &["{}/stream?parts=200"]);
    assert_eq!(streamed.is(200).text(), parts(200));
    assert_eq!(
        (streamed.header("transfer-encoding"), streamed.header("content-length")),
        (Some("chunked"), None)
    );

    let big = curl(port, &[&format!("{{}}/big?bytes={MIB}")]);
    assert!(big.is(200).body == pattern(MIB), "other bytes came: {}", big.body.len());
    let head = curl(port, &["-I", &format!("{{}}/big?bytes={MIB}")]);
    assert_eq!(head.is(200).header("content-length"), Some(&*MIB.to_string()));
    assert!(head.body.is_empty() || head.text().starts_with("HTTP/1.1 200"), "a body to HEAD");

    let dir = TempDir::new();
    let path = file(&dir, 5 * MIB);
    let part = format!("file=@{};filename=five.bin", path.display());
    let seen = curl(port, &["{}/upload", "-F", &part, "-F", "note=by form"]).json();
    let due = json!({"name": "five.bin", "size": 5 * MIB, "sha256": sha256(&path), "note": "by form"});
    assert_eq!(seen, due);
}

fn spring_statuses(port: u16) {
    for status in [200, 201, 202, 204, 205, 301, 302, 304, 307, 400, 401, 404, 409, 418, 429, 500, 502, 503] {
        let got = curl(port, &[&format!("{{}}/status/{status}")]);
        assert_eq!(got.is(status).header("x-kept"), Some("a value"), "{status}");
    }
    curl(port, &["{}/fail"]).is(500);
    curl(port, &["{}/nothing-here"]).is(404);
    curl(port, &["-X", "DELETE", "{}/orders"]).is(405);
    assert_eq!(curl(port, &["{}/slow?ms=400"]).is(200).text(), "at last");
    curl(port, &["{}/slow?ms=3000", "-H", "Host: late.example"]).refused(504, "timed_out");
}

#[test]
fn curl_and_go_talk() {
    let _turn = turn();
    let port = free_port();
    let _go = Process::start("go", &mut Web::GoEcho.on(port));
    for protocol in ["http1", "auto"] {
        let mut sidecar = sidecar(protocol, port);
        let egress = sidecar.port("egress");
        curl_requests(egress);
        curl_connections(egress);
        curl_large(egress);
        sidecar.assert_running();
    }
}

fn curl_requests(port: u16) {
    let seen = curl(port, &["{}/echo?x=%2F&y", "-H", "X-A: 1", "-H", "x-a: 2", "-H", "X-Empty;"]).json();
    assert_eq!(
        (&seen["method"], &seen["path"], &seen["query"]),
        (&json!("GET"), &json!("/echo"), &json!("x=%2F&y"))
    );
    assert_eq!((&seen["headers"]["X-A"], &seen["headers"]["X-Empty"]), (&json!(["1", "2"]), &json!([""])));
    assert_eq!((&seen["proto"], &seen["declared"]), (&json!("HTTP/1.1"), &json!(0)));

    let seen = curl(port, &["{}/echo", "-d", "a=1", "-d", "b=2"]).json();
    assert_eq!(
        (&seen["method"], &seen["body"], &seen["declared"]),
        (&json!("POST"), &json!("a=1&b=2"), &json!(7))
    );

    let seen = curl(port, &["{}/echo", "-d", "waits", "-H", "Expect: 100-continue"]);
    assert!(seen.heads.starts_with("HTTP/1.1 100 Continue\r\n"), "{}", seen.heads);
    assert_eq!(seen.json()["body"], "waits");
    let early = curl(port, &["{}/refuse", "-d", "never sent", "-H", "Expect: 100-continue"]);
    assert_eq!(early.is(403).text(), "not that\n");
    assert!(!early.heads.contains("100 Continue"), "{}", early.heads);
    let hints = curl(port, &["{}/hints"]);
    assert_eq!(hints.is(200).text(), "after the hints");
    assert!(hints.heads.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{}", hints.heads);

    // By the sidecar itself; to where it sends, the same method with the same body on the same connection.
    assert_eq!(curl(port, &["{}/closed"]).is(410).text(), "gone for good\n");
    let seen = curl(port, &["-L", "{}/moved/echo?x=1", "-d", "carried"]);
    assert!(seen.heads.contains("Location: /echo?x=1") || seen.heads.contains("location: /echo?x=1"));
    assert_eq!(seen.connects.iter().sum::<u32>(), 1, "{}", seen.heads);
    let seen = seen.json();
    assert_eq!(
        (&seen["method"], &seen["body"], &seen["query"]),
        (&json!("POST"), &json!("carried"), &json!("x=1"))
    );

    let head = curl(port, &["-I", "{}/big?bytes=12345"]);
    assert_eq!(head.is(200).header("content-length"), Some("12345"));
    for dots in ["{}/a/../echo", "{}/./echo", "{}/%2e%2e/echo"] {
        curl(port, &["--path-as-is", dots]).refused(400, "malformed");
    }
    curl(port, &["-X", "TRACE", "{}/echo"]).refused(405, "forbidden");
}

fn curl_connections(port: u16) {
    let kept = curl(
        port,
        &["{}/echo?1", "{}/chunked?parts=3", "{}/status?code=404", "{}/status?code=204", "{}/echo?5"],
    );
    assert_eq!((kept.is(200).connects.as_slice(), &*kept.said), (&[1, 0, 0, 0, 0][..], ""));
    let closed = curl(port, &["-H", "Connection: close", "{}/echo?1", "{}/echo?2"]);
    assert_eq!((closed.json()["query"].as_str(), closed.connects.as_slice()), (Some("2"), &[1, 1][..]));
    assert_eq!(closed.header("connection"), Some("close"));

    let old = curl(port, &["-0", "{}/echo?old", "-d", "x"]);
    assert_eq!((&old.json()["body"], &old.json()["proto"]), (&json!("x"), &json!("HTTP/1.1")));
    let streamed = curl(port, &["-0", "{}/chunked?parts=20"]);
    assert_eq!((streamed.is(200).text(), streamed.header("transfer-encoding")), (parts(20), None));
}

/// 50 MiB up by length, up by chunks, and down.
fn curl_large(port: u16) {
    let dir = TempDir::new();
    let path = file(&dir, 50 * MIB);
    let (digest, name) = (sha256(&path), path.display().to_string());
    let data = format!("@{name}");
    let ways: [(&[&str], i64); 4] = [
        (&["{}/echo", "--data-binary", &data], 50 * MIB as i64),
        (&["{}/echo", "-T", &name], 50 * MIB as i64),
        (&["{}/echo", "-T", &name, "-H", "Transfer-Encoding: chunked"], -1),
        (&["{}/echo", "-T", &name, "-H", "Transfer-Encoding: chunked", "-H", "Expect:"], -1),
    ];
    for (args, declared) in ways {
        let seen = curl(port, args).json();
        let told = (&seen["length"], &seen["declared"], seen["sha256"].as_str());
        assert_eq!(told, (&json!(50 * MIB), &json!(declared), Some(&*digest)), "{args:?}");
    }
    let down = curl(port, &[&format!("{{}}/big?bytes={}", 50 * MIB)]);
    let copy = dir.path().join("copy");
    std::fs::write(&copy, &down.is(200).body).expect("the file can be written");
    assert_eq!((down.body.len(), sha256(&copy)), (50 * MIB, digest));
}

#[test]
fn clients_of_go_and_node_reuse_cancel_and_send_trailers() {
    let _turn = turn();
    let port = free_port();
    let mut go = Process::start("go", &mut Web::GoEcho.on(port));
    for protocol in ["http1", "auto"] {
        let mut sidecar = sidecar(protocol, port);
        let egress = sidecar.port("egress");
        let mut client = Process::start("the client in Go", &mut Web::GoClient.on(egress));
        go_client(&mut client, &mut go);
        let mut node = Process::start("the client in Node", &mut Web::NodeClient.on(egress));
        assert_eq!(value(&mut node, "keepalive 50"), 49, "all but the first are reused");
        assert_eq!(value(&mut node, "parallel 100"), 100);
        assert_eq!(value(&mut node, "chunked 40"), (0..40).map(|i| 1000 + i).sum::<u32>());
        assert_eq!(value(&mut node, "streamed 40"), parts(40).len());
        assert_eq!(value(&mut node, "leave 10"), 10);
        assert_eq!(value(&mut node, "parallel 50"), 50);
        sidecar.assert_running();
    }
}

fn go_client(client: &mut Process, server: &mut Process) {
    assert_eq!(value(client, "keepalive 100"), 1, "connections");
    for _ in 0..2 {
        assert_eq!(value(client, "parallel 100"), 100);
    }
    let seen = value(client, "trailers 9");
    assert_eq!(seen["sent"], json!({"X-Number": ["9"], "X-Empty": [""]}));
    assert_eq!((&seen["coding"], &seen["body"]), (&json!(["chunked"]), &json!("with trailers")));
    assert_eq!(value(client, &format!("big {}", 3 * MIB)), 3 * MIB);
    assert_eq!(value(client, "expect 5000"), json!({"asked": true, "length": 5000}));
    let refused = value(client, "refused 5000");
    let due = json!({"asked": false, "status": 403, "body": "not that\n", "close": true});
    assert_eq!(refused, due);

    // Callers that leave while they wait: their answers, when those come, are nobody else's.
    let before = server.ask("counts")["requests"].as_i64().expect("a number");
    assert_eq!(value(client, "cancel 30"), 30);
    assert_eq!(server.ask("counts")["requests"], before + 30);
    // Some before the late answers come, some behind them.
    for _ in 0..4 {
        assert_eq!(value(client, "parallel 100"), 100);
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[test]
fn web_sockets_talk_through_it() {
    let _turn = turn();
    let port = free_port();
    let mut server = Process::start("the server", &mut Web::SocketServer.on(port));
    for protocol in ["http1", "auto"] {
        let mut sidecar = sidecar(protocol, port);
        let mut client = Process::start("the client", &mut Web::SocketClient.on(sidecar.port("egress")));
        assert_eq!(value(&mut client, "text hello wörld 🚀"), "hello wörld 🚀");
        assert_eq!(value(&mut client, &format!("binary {MIB}")), format!("{MIB} equal"));
        assert_eq!(value(&mut client, "binary 0"), "0 equal");
        assert_eq!(value(&mut client, "fragments"), "one two three");
        assert_eq!(value(&mut client, "ping 20"), 20);
        for code in [1000, 1001, 3000, 4999] {
            let closed = value(&mut client, &format!("close {code} bye-{code}"));
            assert_eq!(closed, json!([code, format!("bye-{code}")]));
            let due = json!([code, format!("bye-{code}")]);
            let told = support::within(Duration::from_secs(5), || server.ask("closed")["value"] == due);
            assert!(told, "the server saw {}", server.ask("closed"));
            let closed = value(&mut client, &format!("closed {code} server-{code}"));
            assert_eq!(closed, json!([code, format!("server-{code}")]));
        }
        assert_eq!(value(&mut client, "parallel 20"), 200);
        sidecar.assert_running();
    }
}

#[test]
fn wrk_sees_no_error() {
    let _turn = turn();
    let port = free_port();
    let _go = Process::start("go", &mut Web::GoEcho.on(port));
    let mut sidecar = sidecar("http1", port);
    let output = system_client("wrk")
        .args(["-t1", "-c32", "-d3s", &format!("http://127.0.0.1:{}/big?bytes=500", sidecar.port("egress"))])
        .stdin(Stdio::null())
        .output()
        .expect("wrk starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let served = said.lines().find_map(|line| line.trim().split_once(" requests in")).map(|(n, _)| n);
    let served: u32 = served.and_then(|n| n.parse().ok()).unwrap_or_default();
    assert!(output.status.success() && served >= 1000, "{said}");
    assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    sidecar.assert_running();
}

/// Three protocols on one port at the same time; nobody gets another's answer, and each its own refusals.
#[test]
fn http1_bolt_and_dubbo_share_one_port() {
    let _turn = turn();
    let [web, sofa, dubbo, unused] = [free_port(), free_port(), free_port(), free_port()];
    let (admin, egress) = (free_port(), free_port());
    let mut sidecar = Sidecar::start(&format!(
        r#"
app: one-port
admin: 127.0.0.1:{admin}
listeners:
  egress:
    bind: 127.0.0.1:{egress}
    protocol: auto
    routes:
      - match: {{ service: peer.api.DemoService, version: "1.0" }}
        to: sofa
      - match: {{ service: peer.api.DemoService }}
        to: dubbo
      - match: {{ path: {{ prefix: /echo }} }}
        to: web
clusters:
  web: {{ endpoints: ["127.0.0.1:{web}"] }}
  sofa: {{ endpoints: ["127.0.0.1:{sofa}"] }}
  dubbo: {{ endpoints: ["127.0.0.1:{dubbo}"] }}
"#
    ));
    let spare = free_port();
    let providers = [
        Process::spawn("sofa", &mut Peer::Sofa.provider(sofa, unused)),
        Process::spawn("dubbo", &mut Peer::Dubbo33.provider(dubbo, spare)),
        Process::spawn("go", &mut Web::GoEcho.on(web)),
    ];
    for provider in &providers {
        provider.ready();
    }
    let mut consumers = [
        Process::spawn("the consumer on SOFARPC", &mut Peer::Sofa.consumer(egress)),
        Process::spawn("the consumer on Dubbo", &mut Peer::Dubbo33.consumer(egress)),
        Process::spawn("the client in Go", &mut Web::GoClient.on(egress)),
    ];
    for consumer in &consumers {
        consumer.ready();
    }
    for round in 0..3 {
        for consumer in &mut consumers {
            consumer.send("parallel 100");
        }
        let seen = curl(egress, &[&format!("{{}}/echo?round={round}")]).json();
        assert_eq!(seen["query"], format!("round={round}"));
        curl(egress, &["{}/other"]).refused(404, "no_route");
        for (consumer, due) in consumers.iter().zip([
            json!("own=100 other=0 failed=none"),
            json!("own=100 other=0 failed=none"),
            json!(100),
        ]) {
            let answer = consumer.answer();
            assert_eq!((&answer["ok"], &answer["value"]), (&json!(true), &due), "{answer}");
        }
    }
    sidecar.assert_running();
}
