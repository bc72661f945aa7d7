//! Real HTTP/2 applications through one sidecar: Dubbo 3.3 over Triple and grpc-java, paired with themselves and with
//! each other, and Triple over HTTP/1 by curl.
//!
//! Every pair makes the same calls of one service: with one answer, and streams of every kind. What the client's
//! framework saw and what the server was told is asserted, not what the sidecar says it did. The pairs run one after the
//! other. Must never dial a server directly: the clients know the sidecar's port alone.

#[path = "../http1_peers/curl.rs"]
#[allow(dead_code, reason = "these tests upload nothing")]
mod curl;
mod demo;
mod grpc;
mod json;
mod life;
mod programs;
#[path = "../support/mod.rs"]
mod support;
mod talk;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use programs::{Made, Stage};
use serde_json::Value;
use support::Process;

pub(crate) const MIB: usize = 1 << 20;

/// One after the other, each test has the cores for itself.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn dubbo_to_dubbo() {
    let _turn = turn();
    let mut stage = Stage::new("triple", Made::Dubbo, Made::Dubbo);
    demo::values(&mut stage);
    demo::refusals(&mut stage);
    talk::all(&mut stage);
    demo::in_parallel(&mut stage);
    life::server_restarts(&mut stage);
    life::sidecar_restarts(&mut stage);
    stage.sidecar.assert_running();
}

#[test]
fn grpc_java_to_grpc_java() {
    let _turn = turn();
    let mut stage = Stage::new("grpc", Made::Grpc, Made::Grpc);
    talk::all(&mut stage);
    grpc::beside(&mut stage.first);
    grpc::sizes(&mut stage.first);
    grpc::endings(&mut stage);
    grpc::slow_reader(&mut stage);
    grpc::in_parallel(&mut stage);
    life::server_retires(&mut stage);
    life::server_restarts(&mut stage);
    life::sidecar_restarts(&mut stage);
    stage.sidecar.assert_running();
}

#[test]
fn grpc_java_to_dubbo() {
    let _turn = turn();
    let mut stage = Stage::new("auto", Made::Grpc, Made::Dubbo);
    talk::all(&mut stage);
    grpc::sizes(&mut stage.first);
    grpc::in_parallel(&mut stage);
    stage.sidecar.assert_running();
}

#[test]
fn dubbo_to_grpc_java() {
    let _turn = turn();
    let mut stage = Stage::new("[bolt, dubbo, triple]", Made::Dubbo, Made::Grpc);
    talk::all(&mut stage);
    stage.sidecar.assert_running();
}

/// One case that must succeed with this value.
#[track_caller]
pub(crate) fn expect(client: &mut Process, case: &str, expected: &str) {
    assert_eq!(value(&client.ask(case)), expected, "case {case:.100}");
}

#[track_caller]
pub(crate) fn value(answer: &Value) -> String {
    assert_eq!(answer["ok"], true, "{answer}");
    answer["value"].as_str().unwrap_or("null").to_owned()
}

/// What a framework threw.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exception: String,
    /// `grpc` and the number of the status, where one came; a number of the framework's own otherwise.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) took: Duration,
}

#[track_caller]
pub(crate) fn failure(answer: &Value) -> Failure {
    assert_eq!(answer["ok"], false, "{answer}");
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Failure {
        exception: text("exception"),
        code: text("code"),
        message: text("message"),
        took: Duration::from_micros(answer["us"].as_u64().expect("every case is timed")),
    }
}

impl Failure {
    /// That this status came, with these words among the rest.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, words: &str) -> &Self {
        assert_eq!(self.code, format!("grpc {status}"), "{self:?}");
        assert!(self.message.contains(words), "no {words:?} in it: {self:?}");
        self
    }
}
