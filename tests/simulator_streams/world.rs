//! What the checks on both legs know of the life: its calls, its conf, its time.
//!
//! Says which refusals can be true. Must never ask the engine.

use std::time::Duration;

use outrigger_core::Tick;

use crate::{
    calls::{Attempt, Call, Flaw},
    shape::{SPEAKS, Shape},
};

pub(crate) struct World {
    pub(crate) calls: Vec<Call>,
    pub(crate) shape: Shape,
    pub(crate) now: Tick,
    pub(crate) draining: bool,
    pub(crate) pressing: bool,
    pub(crate) shut: bool,
    /// Sockets may be full.
    pub(crate) slow: bool,
    /// When the conf last changed.
    pub(crate) swapped: Tick,
    /// When a connection to an endpoint of each cluster was last lost, refused or said goodbye on.
    pub(crate) trouble: [Option<Tick>; SPEAKS.len()],
}

impl World {
    /// Whether so much time has passed since then.
    pub(crate) fn passed(&self, since: Option<Tick>, limit: Duration) -> bool {
        since.is_some_and(|since| self.now >= since.after(limit))
    }

    /// Whether a call's time may be up.
    pub(crate) fn timed_out(&self, call: &Call) -> bool {
        let limit = call.route.and_then(|route| self.shape.timeout(route));
        let over = limit.is_some_and(|limit| self.passed(call.whole, limit));
        let theirs = call.time.is_some_and(|limit| self.passed(call.headed, limit));
        over || theirs || self.stuck(call)
    }

    /// A part of an answer comes to the engine, which is none to a call that has left the attempt, or may have.
    pub(crate) fn answer_comes(&mut self, id: usize, at: usize) {
        let now = self.now;
        let call = &mut self.calls[id];
        let limit = call.route.and_then(|route| self.shape.per_try(route));
        let attempt = &call.attempts[at];
        let replaced = attempt.is_slow(limit, now) && at + 1 < call.attempts.len();
        let other = call.prevails().is_some_and(|first| first != at);
        if !attempt.dropped && !replaced && !other {
            call.comes(now);
        }
    }

    /// Whether nothing of a call moved for too long.
    pub(crate) fn stuck(&self, call: &Call) -> bool {
        // What moved at this moment may have done so after it was given up.
        let moved = call.moved.into_iter().find(|moved| *moved < self.now);
        // Where sockets are slow, what they take has moved before.
        let moved = if self.slow { Some(call.came) } else { moved };
        let idle = self.shape.manners.idle_timeout;
        // Who is slow hears late of what happened before.
        let before = self.slow && call.longest >= idle;
        call.headed.is_some() && (before || self.passed(moved, idle))
    }

    /// Whether an HTTP/1 caller took too long over its request: over its head from the first byte to the last, or over its
    /// body without a byte.
    fn slow_request(&self, call: &Call) -> bool {
        let head = call.headed.is_none() && self.passed(call.began, self.shape.manners.head_timeout);
        head || (call.whole.is_none() && self.stuck(call))
    }

    /// Whether a connection for a call was lost, or could not be made.
    fn troubled(&self, call: &Call) -> bool {
        let Some(route) = call.route else { return false };
        let trouble = self.trouble[Shape::home(route)];
        trouble.is_some_and(|failed| call.began.is_some_and(|began| failed >= began))
    }

    /// Whether an endpoint may still answer a call, and must be waited for.
    fn is_somewhere(&self, call: &Call) -> bool {
        let limit = call.route.and_then(|route| self.shape.per_try(route));
        let open = |attempt: &Attempt| {
            !attempt.failed && !attempt.unprocessed && !attempt.dropped && !attempt.is_slow(limit, self.now)
        };
        match call.prevails() {
            Some(at) => open(&call.attempts[at]),
            None => call.attempts.iter().any(open),
        }
    }

    /// Whether something went wrong with a call so that its answer need not be its endpoint's.
    pub(crate) fn unlucky(&self, call: &Call) -> bool {
        let large = call.len as u64 > self.shape.bounds.limits.body_max;
        let rough = call.failed() || self.troubled(call) || self.timed_out(call) || large || self.shut;
        call.flaw != Flaw::None || (!self.shape.calm && rough)
    }

    /// Whether a call may be refused so.
    pub(crate) fn plausible(&self, status: u16, name: &str, call: &Call) -> bool {
        let (shape, rough) = (&self.shape, !self.shape.calm);
        if (status, name) == (408, "timed_out") {
            return call.h1 && rough && self.slow_request(call);
        }
        if call.flaw.is_in_head() {
            return Some(status) == call.flaw.status(call.h1);
        }
        let http = |is: u16, grpc: u16| status == if call.grpc { grpc } else { is };
        match name {
            "no_route" => http(404, 12) && (call.route.is_none() || shape.holes),
            "limited" => http(429, 8) && call.route.is_some_and(|route| shape.limited(route)),
            "overloaded" => http(503, 8) && rough && (shape.settings.pending_max < 100 || shape.holes),
            "no_endpoint" => {
                let reloaded = self.swapped > Tick::ZERO && call.is_sent_once();
                http(503, 14) && rough && (shape.holes || reloaded)
            }
            "unreachable" => {
                let may = rough || call.is_sent_once();
                let failed = (call.failed() || self.troubled(call)) && !self.is_somewhere(call);
                http(502, 14) && may && (self.shut || failed)
            }
            "timed_out" => http(504, 4) && rough && self.timed_out(call),
            "malformed" => status == 400 && call.h1 && call.flaw == Flaw::Body,
            "too_large" => http(413, 8) && call.len as u64 > shape.bounds.limits.body_max,
            _ => false,
        }
    }
}
