//! The engines: one for each wire discipline, sans-io.
//!
//! Bytes and time come in as arguments, bytes and [`Effect`](frames::Effect)s come out; nothing here may open a
//! socket, read a clock, spawn a task or name a protocol. That is why a seeded simulator can live through
//! thousands of lost connections a second.

pub mod arena;
pub mod frames;
pub mod outbox;
pub mod pending;
pub mod words;
