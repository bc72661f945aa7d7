//! What the checks on both legs know of the life: its calls, its conf, its time.
//!
//! Says which refusals can be true. Must never ask the engine.

use std::time::Duration;

use outrigger_core::Tick;

use crate::{
    calls::{Call, Flaw},
    shape::Shape,
};

pub(crate) struct World {
    pub(crate) calls: Vec<Call>,
    pub(crate) shape: Shape,
    pub(crate) now: Tick,
    pub(crate) draining: bool,
    pub(crate) pressing: bool,
    pub(crate) shut: bool,
    /// When the conf last changed.
    pub(crate) swapped: Tick,
    /// When a connection to an endpoint of each cluster could last not be made.
    pub(crate) undialed: [Option<Tick>; 2],
}

impl World {
    /// Whether so much time has passed since then.
    pub(crate) fn passed(&self, since: Option<Tick>, limit: Duration) -> bool {
        since.is_some_and(|since| self.now >= since.after(limit))
    }

    /// Whether a call's time at its endpoint may be up.
    pub(crate) fn timed_out(&self, call: &Call) -> bool {
        let limit = call.route.and_then(|route| self.shape.timeout(route));
        limit.is_some_and(|limit| self.passed(call.whole, limit)) || self.stuck(call.headed)
    }

    /// Whether nothing may have moved since then for too long.
    pub(crate) fn stuck(&self, since: Option<Tick>) -> bool {
        self.passed(since, self.shape.manners.idle_timeout)
    }

    /// Whether a connection for a call could not be made.
    pub(crate) fn undialed(&self, call: &Call) -> bool {
        let Some(route) = call.route else { return false };
        let cluster = usize::from(Shape::home(route) == "c1-");
        self.undialed[cluster].is_some_and(|failed| call.began.is_some_and(|began| failed >= began))
    }

    /// Whether a call may be refused so.
    pub(crate) fn plausible(&self, status: u16, name: &str, call: &Call) -> bool {
        let (shape, rough) = (&self.shape, !self.shape.calm);
        if call.flaw.is_in_head() {
            let slow = status == 408 && self.slow(call);
            return Some(status) == call.flaw.status() || slow;
        }
        match (status, name) {
            (404, "no_route") => call.route.is_none() || shape.holes,
            (429, "limited") => call.route.is_some_and(|route| shape.limited(route)),
            (503, "overloaded") => rough && shape.settings.pending_max < 100,
            (503, "no_endpoint") => rough && shape.holes,
            (502, "unreachable") => {
                let failed = call.failed() || self.undialed(call);
                rough && (self.shut || (failed && !call.is_somewhere()))
            }
            (504, "timed_out") => rough && self.timed_out(call),
            (408, "timed_out") => rough && self.slow(call),
            (400, "malformed") => call.flaw == Flaw::Chunk,
            (413, "too_large") => call.len as u64 > shape.bounds.limits.body_max,
            _ => false,
        }
    }

    /// Whether a caller may have been too slow with a request, now or before its rest came.
    fn slow(&self, call: &Call) -> bool {
        let took = |until: Option<Tick>| call.began.map(|began| until.unwrap_or(self.now).since(began));
        let manners = &self.shape.manners;
        took(call.headed) >= Some(manners.head_timeout) || took(call.whole) >= Some(manners.idle_timeout)
    }
}
