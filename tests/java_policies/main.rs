//! Java consumers see retries, deadlines and tags as their framework's own behaviour: Dubbo 3.3 and 2.7 over Dubbo2, Dubbo 3.3
//! over Triple, and SOFARPC over Bolt, each with two real providers behind one sidecar.
//!
//! Whatever a consumer is to see of the sidecar is asserted twice: as an exception's class, number and cause, and as the
//! same that it sees without a sidecar when the same happens to it. What was executed is counted by the providers, in files
//! that outlive them. No fine time is ever asserted. Must never let a call go to a provider that was not told what to do.
//! Source: the frameworks themselves, as they are built by `tests/setup.sh`.

mod deadlines;
mod framework;
mod retries;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tags;

use framework::Java;
use stage::Stage;
use std::sync::{Mutex, PoisonError};

#[test]
fn dubbo_3_3() {
    all(Java::Dubbo33);
}

#[test]
fn dubbo_2_7() {
    all(Java::Dubbo27);
}

#[test]
fn dubbo_3_3_over_triple() {
    all(Java::Triple);
}

#[test]
fn sofarpc() {
    all(Java::Sofa);
}

/// All of it over one set of programs, one framework after the other: a dozen JVMs at once would fight for the cores.
fn all(java: Java) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stage = Stage::new(java);
    tags::a_route_reads_the_tag(&mut stage);
    tags::a_cluster_goes_by_the_tag(&mut stage);
    tags::a_tagged_endpoint_is_killed(&mut stage);
    retries::exceptions_of_the_service_are_not_retried(&mut stage);
    deadlines::of_the_route(&mut stage);
    deadlines::of_the_consumer(&mut stage);
    deadlines::that_the_consumer_retries(&mut stage);
    retries::a_slow_try(&mut stage);
    retries::an_endpoint_that_is_too_busy(&mut stage);
    retries::an_endpoint_that_is_killed(&mut stage);
    stage.end();
}
