//! Dubbo 2.7 in etcd, by the interface, with dubbo-go beside it: who finds whom.
//!
//! Must call through a registry only where somebody is there who can answer, so that each failed call is a failure.

use super::go::{self, Level, Protocol};
use super::stage::{PATIENCE, Stage, two_ports};
use super::support::{Process, free_port, within};
use super::written;
use serde_json::Value;
use std::time::Duration;

/// How long a provider that is asked to leave may take.
const LEAVE_MAX: Duration = Duration::from_secs(40);
const NAME: &str = "java";

pub(crate) fn tell() {
    let mut stage = Stage::begin();
    let registry = stage.server.address();
    let port = free_port();
    let mut own = Process::spawn("the provider of Java", &mut go::java_own(NAME, port, &registry));
    own.ready();
    // Java's looks after the provider has come: while it begins to look, it may miss who comes at that moment.
    let mut consumer = Process::spawn("the consumer of Java", &mut go::java_consumer(&registry));
    let mut command = go::consumer(Protocol::Dubbo2, Level::Interface, &registry);
    let mut go_consumer = Process::start("the consumer of Go", &mut command);
    consumer.ready();
    // It is found through the sidecar, by its own kind, and by dubbo-go.
    stage.is_found(Protocol::Dubbo2, &[port]);
    assert_eq!(stage.answer(Protocol::Dubbo2), [NAME, NAME]);
    for consumer in [&mut consumer, &mut go_consumer] {
        calls_only(consumer, NAME);
    }
    // What the sidecar registers is found by both, and written as Java would have it.
    let ports = two_ports();
    let behind = Process::start("behind", &mut go::behind("behind", ports[0], &registry));
    let beside = stage.beside(ports, Some(behind));
    for consumer in [&mut consumer, &mut go_consumer] {
        finds(consumer, "behind");
    }
    written::as_java_would(&stage, port, &beside);
    // Java says when it leaves, and hears of it.
    own.term(LEAVE_MAX);
    stage.is_found(Protocol::Dubbo2, &beside.ports[..1]);
    calls_only(&mut consumer, "behind");
    assert_eq!(stage.answer(Protocol::Dubbo2), ["behind", "behind"]);
}

#[track_caller]
fn finds(consumer: &mut Process, name: &str) {
    let mut last = Value::Null;
    let came = within(PATIENCE, || {
        last = consumer.ask("who");
        last["value"] == name
    });
    assert!(came, "a consumer does not find {name}: {last}");
}

/// It calls this one so often in a row, sooner or later.
#[track_caller]
fn calls_only(consumer: &mut Process, name: &str) {
    let mut last = Vec::new();
    let came = within(PATIENCE, || {
        last = (0..20).map(|_| consumer.ask("who")).collect();
        last.iter().all(|answer| answer["value"] == name)
    });
    assert!(came, "a consumer calls others than {name}: {last:?}");
}
