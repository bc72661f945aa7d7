//! What became of a call: the other half of `decide`.
//!
//! Takes the plan by value, so a call cannot be settled twice; that none is forgotten is checked by
//! `Local::unsettled` being zero when nothing is in flight.

use outrigger_codec::{Outcome, Refusal};

use crate::{Local, Plan, Tick};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Its service answered.
    Answered(Outcome),
    /// It was one-way and was handed over.
    Sent,
    /// We answered, after it had been planned: timed out, unreachable, overloaded.
    Refused(Refusal),
    /// Its caller left; nobody waits for the answer.
    Abandoned,
    /// It was one of two tries of a call, and the other is the call.
    Superseded,
}

/// Ends a plan: counts it, and lets the latency and load of the endpoint where it was last be known to the next pick.
// By value on purpose: a plan is settled once.
#[allow(clippy::needless_pass_by_value)]
pub fn settle(local: &mut Local, plan: Plan, end: End, now: Tick) {
    local.end(&plan, end, now);
}
