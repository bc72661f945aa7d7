//! The header in which HTTP callers say how long they wait, and services are told what is left: over HTTP/1 all the way, over
//! HTTP/2 all the way, and translated both ways.
//!
//! What is told must never be more than what is left when the request goes out: also of one that waited in line, or that is
//! sent a second time.

mod support;

use std::time::Duration;

use support::echo::conf;
use support::http1::{Held, Upstream, get};
use support::{Sidecar, free_port};

/// `keys` are the route's and `cluster` the cluster's; `inner` of the same sidecar speaks HTTP/2 on the way there.
fn sidecar(upstream: &Upstream, keys: &str, cluster: &str) -> Sidecar {
    let inner = free_port();
    let http = "http: { timeout_header: X-Left-Ms }";
    let listener = format!(
        "    protocol: http1\n    {http}\n    routes:\n      - {{ match: {{ path: {{ prefix: /hold/plain }} }}, to: plain{keys} }}\n      \
         - {{ to: middle{keys} }}\n  inner:\n    bind: 127.0.0.1:{inner}\n    protocol: http2\n    {http}\n    routes: [{{ to: plain }}]"
    );
    let clusters = format!(
        "clusters:\n  plain: {{ endpoints: [\"{}\"], protocol: http1{cluster} }}\n  middle: {{ endpoints: [127.0.0.1:{inner}], protocol: http2 }}",
        upstream.address()
    );
    Sidecar::start(&conf(&listener, &clusters))
}

fn left(held: &Held) -> Option<u64> {
    let told = held.head.all("x-left-ms");
    assert!(told.len() <= 1, "{:?}", held.head);
    told.first().map(|ms| ms.parse().expect("a number"))
}

fn asks(path: &str, said: &str) -> String {
    let said = if said.is_empty() { String::new() } else { format!("x-LEFT-ms: {said}\r\n") };
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n{said}\r\n")
}

#[test]
fn the_smaller_of_the_callers_time_and_the_routes_is_told_and_kept() {
    let upstream = Upstream::start();
    let sidecar = sidecar(&upstream, ", timeout: 5s", "");
    for path in ["/hold/plain", "/hold/middle"] {
        let mut client = sidecar.http();
        for (said, least, most) in [
            ("", 3_000, 5_000),
            ("60000", 3_000, 5_000),
            ("0", 3_000, 5_000),
            ("soon", 3_000, 5_000),
            ("2000", 1_000, 2_000),
            ("99999999999", 3_000, 5_000),
        ] {
            client.send(asks(path, said));
            let held = upstream.next();
            let left = left(&held).expect("it is told");
            assert!((least..=most).contains(&left), "{path} {said}: {left}");
            held.answer("well");
            assert_eq!(client.next().status(), 200);
        }
        client.send(asks(path, "150"));
        let held = upstream.next();
        assert!(left(&held).expect("it is told") <= 150, "{path}");
        client.next().refused(504, "timed_out");
        drop(held);
    }
}

#[test]
fn where_nobody_sets_a_time_none_is_told() {
    let upstream = Upstream::start();
    let sidecar = sidecar(&upstream, "", "");
    for path in ["/hold/plain", "/hold/middle"] {
        let mut client = sidecar.http();
        client.send(asks(path, ""));
        let held = upstream.next();
        assert_eq!(left(&held), None, "{path}");
        held.answer("well");
        assert_eq!(client.next().status(), 200);
    }
}

#[test]
fn what_was_spent_before_a_request_went_out_is_not_told_as_left() {
    let upstream = Upstream::start();
    // One connection, so that the second waits in line; and a second try of what took too long.
    let retry = ", timeout: 5s, idempotent: true, retry: { per_try_timeout: 1200ms }";
    let sidecar = sidecar(&upstream, retry, ", connections: 1");
    let (mut first, mut second) = (sidecar.http(), sidecar.http());
    first.send(asks("/hold/plain", ""));
    let held = upstream.next();
    second.send(asks("/hold/plain", ""));
    // Longer than what must be told, as the second may take its time to get there.
    std::thread::sleep(Duration::from_millis(500));
    held.answer("first");
    assert_eq!(first.next().status(), 200);
    let held = upstream.next();
    let in_line = left(&held).expect("it is told");
    assert!((3_000..=4_700).contains(&in_line), "{in_line}");
    // It is not answered in its first try's time.
    let again = upstream.next();
    let told = left(&again).expect("it is told");
    assert!(told >= 2_000 && told + 1_200 <= in_line, "{told} after {in_line}");
    again.answer("second");
    assert_eq!(second.next().status(), 200);
    drop(held);
    first.send(get("/echo/still"));
    first.next().is(" GET /echo/still ");
}
