//! Nacos as a registry over a real Nacos 2.2.4: the suites of every registry, and what only Nacos does.
//!
//! Each test has a server of its own in a network of its own. Nothing may depend on a sleep being long enough for news to
//! arrive: news is awaited, and only silence is timed.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod nacos;
mod server;

use outrigger_discovery::{Framework, conformance};

use nacos::Nacos;

#[tokio::test]
async fn the_suite_of_every_registry_holds() {
    if !server::inside("the_suite_of_every_registry_holds") {
        return;
    }
    let mut nacos = Nacos::start().await;
    conformance::run(&mut nacos).await;
}

#[tokio::test]
async fn the_suite_of_what_is_registered_holds() {
    if !server::inside("the_suite_of_what_is_registered_holds") {
        return;
    }
    let mut nacos = Nacos::start().await;
    conformance::run_registering(&mut nacos, &Framework::ALL).await;
}
