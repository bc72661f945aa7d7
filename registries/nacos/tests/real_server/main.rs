//! Nacos as a registry over a real Nacos 2.2.4: the suites of every registry, and what only Nacos does.
//!
//! Each test has a server of its own in a network of its own. Nothing may depend on a sleep being long enough for news to
//! arrive: news is awaited, and only silence is timed.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod nacos;
mod own;
mod server;

use std::time::Duration;

use outrigger_discovery::{Framework, conformance};

use nacos::Nacos;

/// A server that hangs is noticed within 8 s.
const NOTICED: Duration = Duration::from_secs(10);
/// News take half a second, and whoever lost a server looks for it every 2 s.
const SEEN: Duration = Duration::from_secs(7);

#[tokio::test]
async fn the_suite_of_every_registry_holds() {
    if !server::inside("the_suite_of_every_registry_holds") {
        return;
    }
    let mut nacos = Nacos::start(NOTICED).await;
    conformance::run(&mut nacos).await;
}

#[tokio::test]
async fn the_suite_of_what_is_registered_holds() {
    if !server::inside("the_suite_of_what_is_registered_holds") {
        return;
    }
    let mut nacos = Nacos::start(SEEN).await;
    conformance::run_registering(&mut nacos, &Framework::ALL).await;
}

#[tokio::test]
async fn what_only_nacos_does_holds() {
    if !server::inside("what_only_nacos_does_holds") {
        return;
    }
    let mut nacos = Nacos::start(SEEN).await;
    own::an_application_is_found_by_its_interface(&nacos).await;
    own::an_instance_is_asked_what_it_serves().await;
    own::an_instance_that_hangs_holds_up_nobody(&nacos).await;
    own::what_cannot_be_had_is_said(&nacos).await;
    own::wishes_meet_in_one_service(&nacos).await;
    own::five_hundred_services_fit_on_one_connection(&nacos).await;
    own::what_is_withdrawn_unheard_stays_away(&mut nacos).await;
}
