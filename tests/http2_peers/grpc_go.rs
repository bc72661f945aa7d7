//! grpc-go's interoperability tests, client and server, through the sidecar.
//!
//! The client judges: what it sent and got, statuses, metadata, cancellations. Left out are the cases that are not about
//! one plain connection (`pick_first_unary`, `orca_*`) and those that need credentials.

use std::time::Duration;

use super::support::peers::{grpc_client, grpc_server};
use super::support::{Process, Ran, Sidecar, free_port, run};
use super::{Legs, routed, sidecar, turn};

const CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];
const CASE_MAX: Duration = Duration::from_secs(30);
const SOAK_MAX: Duration = Duration::from_secs(120);
const OWN: Option<&str> = None;

fn case(sidecar: &Sidecar, name: &str) -> Ran {
    run(&mut grpc_client(sidecar.port("egress"), name), CASE_MAX)
}

#[track_caller]
fn all_pass(sidecar: &mut Sidecar) {
    for name in CASES {
        let ran = case(sidecar, name);
        assert!(ran.ok, "{name}: {}", ran.said);
    }
    sidecar.assert_running();
}

#[test]
fn interop_cases_pass() {
    let _turn = turn();
    let port = free_port();
    let _server = Process::start("grpc-go", &mut grpc_server(port));
    for listener in ["grpc", "http2", "auto", "[http1, http2]"] {
        all_pass(&mut sidecar(Legs { listener, cluster: OWN }, port));
    }
    all_pass(&mut sidecar(Legs { listener: "auto", cluster: Some("http2") }, port));
}

/// Two methods have routes of their own, everything else of the service another, other services none: the sidecar
/// itself says that those are unimplemented.
#[test]
fn interop_cases_pass_by_service_and_method() {
    let _turn = turn();
    let port = free_port();
    let _server = Process::start("grpc-go", &mut grpc_server(port));
    let routes = r"
      - match: { service: grpc.testing.TestService, method: { any: [UnaryCall, EmptyCall] } }
        to: up
        timeout: 20s
      - match: { service: grpc.testing.TestService }
        to: up
";
    let mut sidecar = routed(Legs { listener: "grpc", cluster: OWN }, port, routes);
    all_pass(&mut sidecar);
}

#[test]
fn soaking_loses_nothing() {
    let _turn = turn();
    let port = free_port();
    let _server = Process::start("grpc-go", &mut grpc_server(port));
    for listener in ["grpc", "auto"] {
        let mut sidecar = sidecar(Legs { listener, cluster: OWN }, port);
        let mut client = grpc_client(sidecar.port("egress"), "rpc_soak");
        client.args(["-soak_iterations", "500", "-soak_num_threads", "4", "-soak_max_failures", "0"]);
        client.args(["-soak_request_size", "271828", "-soak_response_size", "314159"]);
        client.args(["-soak_overall_timeout_seconds", "100"]);
        client.args(["-soak_per_iteration_max_acceptable_latency_ms", "30000"]);
        let ran = run(&mut client, SOAK_MAX);
        assert!(
            ran.ok && ran.said.contains("successes: 500 / 500 iterations. Total failures: 0"),
            "{}",
            ran.said
        );
        sidecar.assert_running();
    }
}

/// What the client says of a call that the sidecar refuses.
#[track_caller]
fn refused(sidecar: &Sidecar, code: &str) {
    let ran = case(sidecar, "empty_unary");
    assert!(!ran.ok && ran.said.contains(&format!("code = {code} desc")), "{code}: {}", ran.said);
}

#[test]
fn refusals_come_as_statuses() {
    let _turn = turn();
    let port = free_port();
    let _server = Process::start("grpc-go", &mut grpc_server(port));
    let on = Legs { listener: "grpc", cluster: OWN };

    let other = "      - match: { service: grpc.testing.OtherService }\n        to: up\n";
    let mut nothing = routed(on, port, other);
    refused(&nothing, "Unimplemented");
    nothing.assert_running();

    let mut nobody = sidecar(on, free_port());
    refused(&nobody, "Unavailable");
    nobody.assert_running();

    let one = "      - to: up\n        limit: { rate: 1/h, burst: 1 }\n";
    let mut limited = routed(on, port, one);
    let first = case(&limited, "empty_unary");
    assert!(first.ok, "{}", first.said);
    refused(&limited, "ResourceExhausted");
    limited.assert_running();
}
