//! Routes that answer themselves: fixed responses and redirects, over HTTP/1, HTTP/2 and gRPC, and what callers of other
//! protocols are told that come upon one.
//!
//! No endpoint may ever hear of such a request, and the connection must be as good as before.

mod support;

use support::Sidecar;
use support::echo::conf;
use support::http1::{Upstream, get, post};
use support::http2;
use support::raw::{Frame, Refused, WIRES};

const ROUTES: &str = r#"
      - { match: { path: /fixed }, respond: { status: 451, body: "not here\n", headers: { X-Own: a, Retry-After: "9" } } }
      - { match: { path: /empty }, respond: { status: 204 } }
      - { match: { path: /html }, respond: { body: <p>, headers: { content-type: text/html } } }
      - { match: { path: /once }, respond: { body: one }, limit: { rate: 1/h } }
      - { match: { path: { prefix: /old } }, redirect: { strip_prefix: /old, status: 301 } }
      - { match: { path: /host }, redirect: { authority: "there:81", drop_query: true } }
      - { match: { path: /secure }, redirect: { scheme: https, status: 308 } }
      - { match: { service: a.Closed }, respond: { status: 503, body: closed for today } }
      - { match: { method: echo }, respond: { body: x } }
      - { to: c }"#;

fn sidecar(upstream: &Upstream, protocol: &str) -> Sidecar {
    let listener = format!("    protocol: {protocol}\n    routes:{ROUTES}");
    let clusters = format!("clusters:\n  c: {{ endpoints: [\"{}\"], protocol: http1 }}", upstream.address());
    Sidecar::start(&conf(&listener, &clusters))
}

#[test]
fn http1_callers_get_the_answer_of_the_route_and_go_on() {
    let upstream = Upstream::start();
    let sidecar = sidecar(&upstream, "http1");
    let mut client = sidecar.http();
    let fixed = client.get("/fixed");
    assert_eq!((fixed.status(), fixed.text().as_str()), (451, "not here\n"), "{fixed:?}");
    let fields: Vec<(&str, &str)> = fixed.head.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let wanted = [
        ("content-type", "text/plain; charset=utf-8"),
        ("retry-after", "9"),
        ("x-own", "a"),
        ("content-length", "9"),
    ];
    let mut sorted = (fields.clone(), wanted.to_vec());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1, "{fixed:?}");
    let empty = client.get("/empty");
    assert_eq!((empty.status(), empty.head.get("content-length")), (204, None), "{empty:?}");
    let html = client.get("/html");
    assert_eq!((html.head.get("content-type"), html.text().as_str()), (Some("text/html"), "<p>"), "{html:?}");
    client.send("HEAD /html HTTP/1.1\r\nHost: t\r\n\r\n");
    let head = client.answer_to("HEAD").expect("an answer");
    assert_eq!(head.head.get("content-length"), Some("3"), "{head:?}");
    // A body that nobody wants does not stand in the way of what comes behind it.
    client.send([post("/fixed", 4, ""), "abcd".to_owned(), get("/echo/behind")].concat());
    assert_eq!(client.next().status(), 451);
    client.next().is(" GET /echo/behind ");
    // Its limit is the route's.
    assert_eq!(client.get("/once").text(), "one");
    client.get("/once").refused(429, "limited");
    client.well("still");
    assert_eq!(upstream.seen().len(), 2, "{:?}", upstream.seen());
    let answered = sidecar.metric("outrigger_requests_total", &["/fixed", "exception"]);
    assert_eq!(answered, 2, "they are counted by how they ended");
}

#[test]
fn http1_callers_are_sent_elsewhere() {
    let upstream = Upstream::start();
    let sidecar = sidecar(&upstream, "http1");
    let mut client = sidecar.http();
    for (target, host, status, location) in [
        ("/old/a/b?c=d", "t", 301, "/a/b?c=d"),
        ("/old", "t", 301, "/"),
        ("/old//evil.example/x", "t", 301, "/evil.example/x"),
        ("/host?a=b", "t:80", 302, "//there:81/host"),
        ("/secure?a", "shop.example:8080", 308, "https://shop.example/secure?a"),
        ("/secure", "[::1]:8080", 308, "https://[::1]/secure"),
        ("http://shop.example/secure", "shop.example", 308, "https://shop.example/secure"),
    ] {
        let answer = client.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((answer.status(), answer.head.get("location")), (status, Some(location)), "{target}");
        assert_eq!((answer.text().as_str(), answer.head.get("content-length")), ("", Some("0")), "{target}");
    }
    // Who names no host cannot be sent to its https.
    client.ask("GET /secure HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").refused(400, "malformed");
    client.well("still");
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
}

#[test]
fn http2_and_grpc_callers_get_it_in_their_words() {
    let upstream = Upstream::start();
    // Once where nothing is translated, once where all of it is.
    for protocol in ["http2", "auto"] {
        let sidecar = sidecar(&upstream, protocol);
        let mut client = sidecar.http2();
        let fixed = client.ask(&http2::get("/fixed"));
        assert_eq!((fixed.status(), fixed.text().as_str()), (451, "not here\n"), "{fixed:?}");
        assert_eq!((fixed.head.get("x-own"), fixed.head.get("content-length")), (Some("a"), Some("9")));
        let old = client.ask(&http2::get("/old/a?b"));
        assert_eq!((old.status(), old.head.get("location")), (301, Some("/a?b")), "{old:?}");
        let empty = client.ask(&http2::get("/empty"));
        assert!(empty.status() == 204 && empty.whole && empty.body.is_empty(), "{empty:?}");
        let closed = client.ask(&http2::grpc("/a.Closed/go"));
        assert_eq!((closed.status(), closed.head.get("grpc-status")), (200, Some("14")), "{closed:?}");
        assert_eq!(closed.head.get("grpc-message"), Some("closed for today"), "{closed:?}");
        assert!(closed.whole && closed.body.is_empty(), "{closed:?}");
        // An answer without its body would be another answer.
        let mut narrow = http2::Client::connect_with(sidecar.port("main"), &[(4, 5)]);
        let none = narrow.ask(&http2::get("/fixed"));
        assert_eq!((none.status(), none.body.len()), (503, 0), "{none:?}");
        let short = narrow.ask(&http2::get("/html"));
        assert_eq!(short.text(), "<p>", "{short:?}");
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
}

#[test]
fn callers_of_other_protocols_have_no_route_there() {
    let upstream = Upstream::start();
    let sidecar = sidecar(&upstream, "auto");
    for wire in WIRES {
        let call = wire.call(7);
        let message = format!("outrigger: no route for {} on listener main", call.name());
        let mut client = sidecar.client();
        for _ in 0..2 {
            let answer = client.ask(&call);
            assert_eq!(answer, Frame { bytes: wire.refusal(7, Refused::NoRoute, &message) }, "{wire:?}");
        }
    }
}
