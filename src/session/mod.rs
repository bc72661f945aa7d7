//! The engines: one for each wire discipline, sans-io.
//!
//! Bytes and time come in as arguments, bytes and [`Effect`](frames::Effect)s come out; nothing here may open a
//! socket, read a clock, spawn a task or name a protocol. That is why a seeded simulator can live through
//! thousands of lost connections a second.

use std::time::Duration;

use outrigger_codec::Policy;

pub mod arena;
pub mod frames;
pub mod outbox;
pub mod pending;
pub mod words;

/// How a listener treats its callers, from the conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manners {
    /// Longest silence of a caller without calls; `None`: what its protocol says.
    pub keepalive_timeout: Option<Duration>,
    /// Longest time from the first byte of a request's head to its last.
    pub head_timeout: Duration,
    /// Longest time in which nothing of a body moves.
    pub idle_timeout: Duration,
    /// How heads are treated.
    pub policy: Policy,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            keepalive_timeout: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            policy: Policy::default(),
        }
    }
}
