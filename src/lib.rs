//! Outrigger: a sidecar that carries all of an application's RPC calls.
//!
//! This crate *moves*: it owns every socket on the request path, the threads, the conf, the admin port and the
//! telemetry. What is decided is decided in `outrigger-core`; bytes are understood in the protocol crates, which only
//! `plugins` names.

pub mod cli;
pub mod conf;
#[cfg(test)]
mod conformance;
pub mod control;
pub mod demo;
pub mod logs;
pub mod plugins;
pub mod session;
pub mod telemetry;
pub mod worker;
