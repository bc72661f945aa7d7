//! The engines: one for each wire discipline, sans-io.
//!
//! Bytes and time come in as arguments, bytes and [`Effect`]s come out; nothing here may open a socket, read a clock,
//! spawn a task or name a protocol. That is why a seeded simulator can live through thousands of lost connections a
//! second.
//!
//! * [`frames`]: whole messages matched by an id (Bolt, Dubbo2).
//! * [`exchange`]: one request and its answer at a time (HTTP/1).
//! * [`streams`]: many at once on each connection (HTTP/2), and the translation between the two.
//! * [`probe`]: no engine, but one question to an endpoint over a connection of its own.

pub mod arena;
pub mod counters;
pub mod engine;
pub mod exchange;
pub mod frames;
pub mod later;
pub mod outbox;
pub mod pending;
pub mod probe;
pub mod streams;
pub mod words;

pub use engine::{Arrival, Bounds, Context, Dialects, Effect, Engine, Leg, Manners, Renewed};
