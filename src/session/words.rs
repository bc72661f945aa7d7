//! What a refused caller is told: what was refused, and why, in one line for a person.
//!
//! Built only when a call is refused. Names come from the caller's own bytes: they are cut and made printable.

use std::time::Duration;

use outrigger_codec::{Fault, Head, Malformed, Refusal, Slot};
use outrigger_core::Tick;

/// Characters of a name that are repeated to the caller.
const NAME_MAX: usize = 200;

/// For a request that would be sent elsewhere, but names no host and no path to be sent to.
pub const NOWHERE: &str = "outrigger: this cannot be redirected, it names no host or no path";

/// For an answer of a route's own that its caller gives no room for.
pub const NO_ROOM: &str = "outrigger: the caller's window is too small for this answer";

/// The message for a call that was refused before it went anywhere.
pub fn refused(why: Refusal, head: Head<'_>, listener: &str) -> String {
    let service = head.slot(Slot::ServiceKey).or(head.slot(Slot::Service));
    let call = match (service, head.slot(Slot::Method), head.slot(Slot::Path).or(head.slot(Slot::Authority)))
    {
        (Some(service), Some(method), _) => format!("{}.{}", name(service), name(method)),
        (Some(service), None, _) => name(service),
        (None, Some(method), Some(target)) => format!("{} {}", name(method), name(target)),
        (None, Some(method), None) => format!("method {}", name(method)),
        (None, None, _) => "this call".to_owned(),
    };
    match why {
        Refusal::NoRoute => format!("outrigger: no route for {call} on listener {listener}"),
        Refusal::Limited => format!("outrigger: rate limit reached for {call}"),
        Refusal::NoEndpoint => format!("outrigger: no endpoint for {call}"),
        Refusal::Overloaded => format!("outrigger: too many calls waiting, {call} was not sent"),
        Refusal::TimedOut => format!("outrigger: {call} timed out"),
        Refusal::Unreachable => format!("outrigger: no endpoint of {call} could be reached"),
        Refusal::Forbidden => format!("outrigger: {call} is forbidden"),
        Refusal::Malformed => format!("outrigger: {call} cannot be read"),
        Refusal::TooLarge => format!("outrigger: {call} is larger than frame_max"),
    }
}

/// The message for a request that cannot be read.
pub fn malformed(what: Malformed) -> String {
    format!("outrigger: malformed request: {}", what.0)
}

/// The message for a message that is not carried.
pub fn fault(fault: Fault) -> String {
    match fault {
        Fault::Malformed(what) => malformed(what),
        Fault::Unsupported(_) | Fault::Version | Fault::Method | Fault::Expectation | Fault::ContentType => {
            format!("outrigger: {} not carried", fault.why())
        }
        _ => format!("outrigger: {}", fault.why()),
    }
}

/// The message for an answer that cannot be trusted.
pub fn broken(cluster: &str, address: &str, what: &str) -> String {
    format!("outrigger: the answer of {address} (cluster {cluster}) cannot be read: {what}")
}

/// The message for a frame beyond the bound.
pub fn too_large(len: usize, frame_max: usize) -> String {
    if len <= frame_max {
        return "outrigger: a length in the frame's header is larger than its protocol allows".to_owned();
    }
    format!("outrigger: frame of {len} bytes is larger than frame_max ({frame_max})")
}

/// The message for a call that was with an endpoint, or on its way to it.
pub fn failed(why: Refusal, cluster: &str, address: &str, waited_ms: u128) -> String {
    match why {
        Refusal::TimedOut if address.is_empty() => {
            format!("outrigger: cluster {cluster} is not known within {waited_ms} ms")
        }
        Refusal::TimedOut => {
            format!("outrigger: no answer from {address} (cluster {cluster}) within {waited_ms} ms")
        }
        Refusal::Overloaded => format!("outrigger: too many calls waiting for {address} (cluster {cluster})"),
        // It waited for a service that nobody gives, as far as is known.
        _ if address.is_empty() => format!("outrigger: no endpoint in cluster {cluster}"),
        _ => format!("outrigger: cannot reach {address} (cluster {cluster})"),
    }
}

/// The message for a call whose endpoint was lost before it answered.
pub fn lost(cluster: &str, address: &str) -> String {
    format!("outrigger: connection to {address} (cluster {cluster}) was lost before the answer")
}

fn name(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(NAME_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Tells a person what was wrong with a peer: at most one line a second, however many peers are wrong.
#[derive(Debug, Default)]
pub struct Teller {
    /// When a person was last told of something.
    told: Tick,
}

impl Teller {
    /// One more thing went wrong.
    pub fn tell(&mut self, protocol: &'static str, now: Tick, what: &'static str, why: &str) {
        if now.since(self.told) >= Duration::from_secs(1) || self.told == Tick::ZERO {
            self.told = now;
            tracing::warn!(protocol, why, "{what}");
        } else {
            tracing::debug!(protocol, why, "{what}");
        }
    }
}
