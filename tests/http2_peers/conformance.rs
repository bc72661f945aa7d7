//! The conformance suite of Connect: gRPC, gRPC-Web and Connect, its reference client and server on both sides.
//!
//! A line of the table is a whole run. The suite starts and ends a server for each of the properties that it tries, all
//! of them on one port, so that the sidecar's endpoint goes away and comes back between two calls.

use std::time::Duration;

use super::support::peers::conformance;
use super::support::{free_port, run};
use super::{Legs, sidecar, turn};

const SUITE_MAX: Duration = Duration::from_secs(120);

/// All cases of one of the suite's files, whose number is fixed with the suite's version; the servers speak this version
/// of HTTP.
fn conforms(file: &str, legs: Legs, version: u8, cases: u32) {
    let _turn = turn();
    let server = free_port();
    let mut sidecar = sidecar(legs, server);
    let ran = run(&mut conformance(file, sidecar.port("egress"), server, version), SUITE_MAX);
    let all = format!("Total cases: {cases}\n{cases} passed, 0 failed");
    assert!(ran.ok && ran.said.contains(&all), "{file} {legs:?}: {}", ran.said);
    sidecar.assert_running();
}

#[test]
fn grpc_conforms() {
    conforms("grpc.yaml", Legs { listener: "grpc", cluster: None }, 2, 526);
}

#[test]
fn connect_and_grpc_web_conform_by_http2() {
    conforms("web.yaml", Legs { listener: "http2", cluster: None }, 2, 770);
}

#[test]
fn connect_and_grpc_web_conform_by_http1() {
    conforms("web-http1.yaml", Legs { listener: "http1", cluster: None }, 1, 694);
}

#[test]
fn connect_and_grpc_web_conform_from_http1_to_http2() {
    conforms("web-http1.yaml", Legs { listener: "http1", cluster: Some("http2") }, 2, 694);
}

#[test]
fn connect_and_grpc_web_conform_from_http2_to_http1() {
    conforms("web-half-duplex.yaml", Legs { listener: "http2", cluster: Some("http1") }, 1, 694);
}
