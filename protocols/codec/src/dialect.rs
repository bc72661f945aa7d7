//! What is spoken inside an exchange of HTTP: which call it is, how it ended, how it is refused (gRPC, Triple).
//!
//! Chosen for each exchange by its head. A dialect reads and writes heads alone; bodies pass it by. It must never change
//! what a head means to a server that does not know the dialect.

use std::{fmt, time::Duration};

use crate::{Head, HeadIndex, Message, Outcome, Refusal, Response};

/// A dialect of HTTP.
pub trait Dialect: fmt::Debug + Sync {
    /// The name used in the conf, metrics and logs.
    fn name(&self) -> &'static str;

    /// Whether a request is of this dialect. `named`: its listener speaks this dialect by name, so that what could be
    /// another's is its. The first dialect of a listener that claims a request has it.
    fn claims(&self, head: Head<'_>, named: bool) -> bool;

    /// Sets the slots of a request of this dialect: service, method, version, group; and its timeout.
    fn read(&self, bytes: &[u8], index: &mut HeadIndex);

    /// Tells the next hop how much of a call's time is left: its caller said how much there was, `spent` of that is gone, and
    /// no more than `left` is of use; `None`: nobody else sets a time.
    fn pass_timeout(&self, request: &mut Message, spent: Duration, left: Option<Duration>);

    /// How the call ended, as an answer's head tells (`ends`: nothing follows it) or its trailers. `so_far` is what the
    /// head told, for trailers; otherwise `Outcome::Ok`.
    fn outcome(&self, head: Head<'_>, ends: bool, so_far: Outcome) -> Outcome;

    /// Writes an answer of ours into an empty `answer`: a whole one, without a body, or, where one was `begun`, its trailers.
    /// `false`: the dialect has no words of its own, HTTP's are understood.
    fn refuse(
        &self,
        why: Refusal,
        wait: Option<Duration>,
        text: &str,
        begun: bool,
        answer: &mut Message,
    ) -> bool;

    /// Writes what a route says itself into an empty `answer`, as a whole one without a body. `false`: as for `refuse`.
    fn respond(&self, response: &Response, answer: &mut Message) -> bool;
}
