//! Real HTTP/2 and gRPC programs through one sidecar: h2spec, grpc-go's interoperability tests, the conformance suite of
//! Connect, curl, nghttp and h2load.
//!
//! Servers, clients and judges are unmodified and know the sidecar's port alone; how many cases there are is asserted
//! together with how many passed, so that none is left out in silence. The programs run on loopback and end with their
//! test. Nothing here may judge by time.

mod conformance;
#[path = "../http1_peers/curl.rs"]
mod curl;
mod grpc_go;
mod h2spec;
#[path = "../support/mod.rs"]
mod support;
mod tools;

use std::sync::{Mutex, MutexGuard, PoisonError};

use support::{Sidecar, free_port};

/// One after the other, each test has the cores for itself.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the listener and the cluster speak; `None` is a cluster that says nothing: the connection's own protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Legs {
    pub(crate) listener: &'static str,
    pub(crate) cluster: Option<&'static str>,
}

/// A sidecar in front of one server, to which everything goes.
pub(crate) fn sidecar(legs: Legs, server: u16) -> Sidecar {
    routed(legs, server, "      - to: up\n")
}

/// A sidecar in front of one server, the cluster `up`, by these routes.
pub(crate) fn routed(legs: Legs, server: u16, routes: &str) -> Sidecar {
    let (admin, egress) = (free_port(), free_port());
    let listener = legs.listener;
    let cluster = legs
        .cluster
        .filter(|_| std::env::var_os("DEV_TCP").is_none())
        .map(|protocol| format!("protocol: {protocol}, "))
        .unwrap_or_default();
    Sidecar::start(&format!(
        r#"
app: http2-peers
admin: 127.0.0.1:{admin}
listeners:
  egress:
    bind: 127.0.0.1:{egress}
    protocol: {listener}
    routes:
{routes}
clusters:
  up: {{ {cluster}endpoints: ["127.0.0.1:{server}"] }}
"#
    ))
}
