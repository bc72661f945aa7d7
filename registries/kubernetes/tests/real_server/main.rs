//! Kubernetes as a registry over a real API server: the suites of every registry, and what only Kubernetes does.
//!
//! Each test has a server of its own. Nothing may depend on a sleep being long enough for news to arrive: news is awaited, and
//! only silence is timed.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod fixture;
mod server;

use std::time::Duration;

use outrigger_discovery::{Framework, conformance};

use fixture::Kubernetes;

/// A server that holds everything back is noticed within 6 s; one that is back, within 5 s.
const PATIENCE: Duration = Duration::from_secs(8);

#[tokio::test]
async fn the_suite_of_every_registry_holds() {
    conformance::run(&mut Kubernetes::start(PATIENCE).await).await;
}

#[tokio::test]
async fn the_suite_of_what_is_registered_holds() {
    conformance::run_registering(&mut Kubernetes::start(PATIENCE).await, &Framework::ALL).await;
}

#[tokio::test]
async fn the_suite_of_seats_holds() {
    conformance::run_electing(&mut Kubernetes::start(PATIENCE).await).await;
}
