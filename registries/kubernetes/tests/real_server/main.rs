//! Kubernetes as a registry over a real API server: the suites of every registry, and what only Kubernetes does.
//!
//! Each test has a server of its own. Nothing may depend on a sleep being long enough for news to arrive: news is awaited, and
//! only silence is timed.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod fixture;
mod own;
mod pods;
mod server;
mod watched;

use std::time::Duration;

use outrigger_discovery::{Framework, conformance};

use fixture::Kubernetes;
use server::Server;

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

#[tokio::test]
async fn what_only_kubernetes_does_holds() {
    let mut server = Server::start().await;
    own::all_slices_of_a_service_are_one_set(&server).await;
    own::ports_are_told_apart_by_what_is_spoken(&server).await;
    own::what_cannot_be_written_is_said(&server).await;
    own::rights_that_are_missing_are_said(&server).await;
    own::sidecars_and_bridges_do_not_meet(&server).await;
    own::annotations_of_sofarpc_are_refused_by_the_server(&server).await;
    own::who_fell_silent_is_not_believed_for_ever(&server).await;
    pods::applications_are_found_by_their_pods(&server).await;
    own::a_server_that_comes_back_is_believed(&mut server).await;
}
