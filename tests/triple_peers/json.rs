//! Triple over HTTP/1: curl calls Dubbo's provider by interface and method, with JSON.
//!
//! Must assert what the provider's own objects became, not that some JSON came back.

use std::time::Duration;

use serde_json::{Value, json};

use super::curl::{Got, curl};
use super::programs::{dubbo_provider, ready};
use super::support::{Process, Sidecar, TempDir, free_port};
use super::{MIB, turn};

/// The same provider behind two clusters: as the call came, and over HTTP/2 whatever the call came by.
fn conf([blue, green, nowhere]: [u16; 3]) -> String {
    let [admin, egress, straight] = [free_port(), free_port(), free_port()];
    format!(
        r#"
app: triple-json
admin: 127.0.0.1:{admin}
listeners:
  egress:
    bind: 127.0.0.1:{egress}
    protocol: [http1, triple]
    routes:
      - match: {{ service: peer.api.DemoService, method: slow }}
        to: blue
        timeout: 300ms
      - match: {{ service: peer.api.DemoService, method: crash }}
        to: nowhere
      - match: {{ service: peer.api.DemoService, group: green, version: "2.0.0" }}
        to: green
      - match: {{ service: peer.api.DemoService, headers: {{ lane: second }} }}
        to: second
      - match: {{ service: peer.api.DemoService, headers: {{ lane: first }} }}
        to: first
      - match: {{ service: peer.api.DemoService }}
        to: blue
  straight:
    bind: 127.0.0.1:{straight}
    protocol: [http1, triple]
    routes:
      - match: {{ service: peer.api.DemoService, method: echo }}
        to: blue
clusters:
  blue: {{ endpoints: ["127.0.0.1:{blue}"] }}
  green: {{ endpoints: ["127.0.0.1:{green}"] }}
  first: {{ endpoints: ["127.0.0.1:{blue}"], protocol: http1 }}
  second: {{ endpoints: ["127.0.0.1:{blue}"], protocol: http2 }}
  nowhere: {{ endpoints: ["127.0.0.1:{nowhere}"] }}
"#
    )
}

/// A call of the service with these arguments.
#[track_caller]
fn call(port: u16, method: &str, arguments: &Value, more: &[&str]) -> Got {
    let (url, body) = (format!("{{}}/peer.api.DemoService/{method}"), arguments.to_string());
    let mut args = vec![&*url, "-H", "content-type: application/json", "--data-binary", &*body];
    args.extend(more);
    curl(port, &args)
}

#[test]
fn triple_is_called_over_http1() {
    let _turn = turn();
    let ports @ [blue, green, _] = [free_port(), free_port(), free_port()];
    let mut sidecar = Sidecar::start(&conf(ports));
    let provider = Process::spawn("the provider", &mut dubbo_provider(blue, green));
    ready([&provider]);
    let egress = sidecar.port("egress");
    // Where nothing has to be translated another engine carries it.
    assert_eq!(call(sidecar.port("straight"), "echo", &json!(["hello"]), &[]).json(), json!("hello"));
    assert_eq!(
        call(sidecar.port("straight"), "crash", &json!([""]), &[]).is(404).header("x-outrigger-error"),
        Some("no_route")
    );
    values(egress, ports);
    routed(egress);
    between_versions(egress);
    sidecar.assert_running();
}

fn values(port: u16, ports: [u16; 3]) {
    let got = call(port, "echo", &json!(["hello"]), &[]);
    assert_eq!(got.json(), json!("hello"));
    // Dubbo offers the port that it listens on, which no caller of the sidecar is to go to.
    let offered = got.header("alt-svc").unwrap_or_default().to_owned();
    assert!(!ports.iter().any(|own| offered.contains(&own.to_string())), "alt-svc: {offered}");
    assert_eq!(call(port, "echo", &json!("alone"), &[]).json(), json!("alone"));
    let order = json!({"id": 7, "name": "订单", "count": 1, "status": "NEW", "tags": {"a": 1},
        "address": {"city": "Berlin", "street": "Linienstr", "zip": 10119}});
    let made = call(port, "process", &json!([order]), &[]).json();
    assert_eq!((&made["id"], &made["name"], &made["count"]), (&json!(7), &json!("订单"), &json!(2)));
    assert_eq!((&made["status"], &made["address"]), (&json!("SHIPPED"), &order["address"]));

    let failed = call(port, "fail", &json!([42, "no-such-order"]), &[]);
    let said: Value = serde_json::from_slice(&failed.is(500).body).expect("JSON");
    assert_eq!(said, json!({"message": "no-such-order", "status": "500"}));
    call(port, "nothingOfTheKind", &json!([]), &[]).is(404);

    let dir = TempDir::new();
    let (text, path) = ("x".repeat(MIB), dir.path().join("large.json"));
    std::fs::write(&path, json!([text]).to_string()).expect("the file can be written");
    let data = format!("@{}", path.display());
    let url = "{}/peer.api.DemoService/echo";
    let got = curl(port, &[url, "-H", "content-type: application/json", "--data-binary", &data]);
    assert!(got.json() == json!(text), "another text of {}", got.body.len());
}

/// By service and method, as the path says them, and by what stands beside.
fn routed(port: u16) {
    assert_eq!(call(port, "who", &json!([]), &[]).json(), json!("blue"));
    let green = ["-H", "tri-service-group: green", "-H", "tri-service-version: 2.0.0"];
    assert_eq!(call(port, "who", &json!([]), &green).json(), json!("green"));
    call(port, "crash", &json!(["boom"]), &[]).refused(502, "unreachable");
    call(port, "slow", &json!([1500]), &[]).refused(504, "timed_out");
    assert_eq!(call(port, "slow", &json!([10]), &[]).json(), json!("slept 10"));
    let other = curl(port, &["{}/peer.api.Other/echo", "-H", "content-type: application/json", "-d", "[]"]);
    other.refused(404, "no_route");
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(call(port, "echo", &json!(["later"]), &[]).json(), json!("later"));
}

/// HTTP/1 in and HTTP/2 out, HTTP/2 in and HTTP/1 out, and HTTP/2 all the way.
fn between_versions(port: u16) {
    let second = ["-H", "lane: second"];
    assert_eq!(call(port, "echo", &json!(["up"]), &second).json(), json!("up"));
    call(port, "fail", &json!([42, "no"]), &second).is(500);
    let text = "y".repeat(100_000);
    assert_eq!(call(port, "echo", &json!([text]), &second).json(), json!(text));
    let first = ["--http2-prior-knowledge", "-H", "lane: first"];
    assert_eq!(call(port, "echo", &json!(["down"]), &first).json(), json!("down"));
    assert_eq!(call(port, "echo", &json!(["across"]), &["--http2-prior-knowledge"]).json(), json!("across"));
}
