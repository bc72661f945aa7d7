//! h2spec, the judge of HTTP/2: all of its cases, strict, whatever the server behind the sidecar speaks.

use std::time::Duration;

use super::support::peers::{self, Web};
use super::support::{Process, free_port, run};
use super::{Legs, sidecar, turn};

/// Each of the 146 cases may take its two seconds.
const JUDGED_MAX: Duration = Duration::from_secs(300);
const ALL: &str = "146 tests, 146 passed, 0 skipped, 0 failed";

/// Every case, then one more look: what broke connections on purpose has broken nothing else.
fn judged(legs: Legs, server: Web) {
    let _turn = turn();
    let port = free_port();
    let _server = Process::start("go", &mut server.on(port));
    let mut sidecar = sidecar(legs, port);
    let ran = run(&mut peers::h2spec(sidecar.port("egress")), JUDGED_MAX);
    let failures = ran.said.split_once("Failures:").map_or(&*ran.said, |(_, failures)| failures);
    assert!(ran.ok && ran.said.contains(ALL), "{failures}");
    sidecar.assert_running();
}

#[test]
fn h2spec_finds_nothing_before_an_http2_server() {
    judged(Legs { listener: "http2", cluster: None }, Web::GoEcho2);
}

#[test]
fn h2spec_finds_nothing_before_an_http1_server() {
    judged(Legs { listener: "http2", cluster: Some("http1") }, Web::GoEcho);
}
