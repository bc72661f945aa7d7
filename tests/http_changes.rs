//! Headers of answers that a route changes, over HTTP/1 all the way and over HTTP/2 in the middle.
//!
//! What routes change of requests is held against every protocol in `policies`.

mod support;

use support::echo::conf;
use support::http1::Upstream;
use support::{Sidecar, free_port};

#[test]
fn a_route_changes_the_headers_of_answers_of_every_kind() {
    let upstream = Upstream::named("up");
    // Over HTTP/1 all the way, and over HTTP/2 in the middle.
    let inner = free_port();
    let keys = "request: { set: { X-Told: once } }, response: { set: { X-By: us }, add: { x-by: more }, remove: [X-Conn] }";
    let listener = format!(
        "    protocol: http1\n    routes:\n      - {{ match: {{ path: /plain }}, to: plain, {keys} }}\n      - {{ to: middle, {keys} }}\n  \
         inner:\n    bind: 127.0.0.1:{inner}\n    protocol: http2\n    routes: [{{ to: behind }}]"
    );
    let clusters = format!(
        "clusters:\n  plain: {{ endpoints: [\"{address}\"] }}\n  middle: {{ endpoints: [127.0.0.1:{inner}], protocol: http2 }}\n  \
         behind: {{ endpoints: [\"{address}\"], protocol: http1 }}",
        address = upstream.address()
    );
    let sidecar = Sidecar::start(&conf(&listener, &clusters));
    let mut client = sidecar.http();
    for path in ["/plain", "/middle"] {
        for _ in 0..2 {
            let answer = client.ask(format!("GET {path} HTTP/1.1\r\nHost: t\r\nX-Told: twice\r\n\r\n"));
            assert_eq!(answer.status(), 200, "{path}: {answer:?}");
            let by: Vec<_> =
                answer.head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-by")).collect();
            let by: Vec<&str> = by.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(by, ["us", "more"], "{path}: {answer:?}");
            assert_eq!(answer.head.get("x-conn"), None, "{path}: {answer:?}");
        }
    }
}

#[test]
fn what_the_sidecar_says_itself_comes_behind_what_a_route_changes() {
    let upstream = Upstream::start();
    let inner = free_port();
    let keys =
        "request: { remove: [x-forwarded-for], set: { x-request-id: ours } }, response: { remove: [via] }";
    let listener = format!(
        "    protocol: http1\n    http: {{ forwarded: append, via: us, request_id: true }}\n    routes:\n      \
         - {{ match: {{ path: /hold/plain }}, to: plain, {keys} }}\n      - {{ to: middle, {keys} }}\n  \
         inner:\n    bind: 127.0.0.1:{inner}\n    protocol: http2\n    routes: [{{ to: plain }}]"
    );
    let clusters = format!(
        "clusters:\n  plain: {{ endpoints: [\"{}\"], protocol: http1 }}\n  middle: {{ endpoints: [127.0.0.1:{inner}], protocol: http2 }}",
        upstream.address()
    );
    let sidecar = Sidecar::start(&conf(&listener, &clusters));
    for path in ["/hold/plain", "/hold/middle"] {
        let mut client = sidecar.http();
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 10.9.9.9\r\nX-Request-Id: theirs\r\n\r\n"
        ));
        let held = upstream.next();
        assert_eq!(held.head.all("x-forwarded-for"), ["127.0.0.1"], "{path}: {:?}", held.head);
        assert_eq!(held.head.all("x-request-id"), ["ours"], "{path}: {:?}", held.head);
        held.answer("well");
        let answer = client.next();
        assert_eq!(answer.head.all("via").len(), 1, "{path}: {answer:?}");
    }
}
