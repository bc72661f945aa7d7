//! Where a head ends. Source: RFC 9112 §2.
//!
//! Costs no more than the bytes that are new, however few come at a time, and faults at once what waiting cannot mend:
//! a line that ends in a bare LF, a CR that no LF follows, a first byte that no method begins with, a head that is too long.

use memchr::memchr;
use outrigger_codec::{
    Fault, Find,
    exchange::{Limits, Side},
};

use super::chars::{TOKEN, is};

/// Longest method.
pub(crate) const METHOD_MAX: usize = 32;
/// What a request line has besides method and target: two spaces, the version, the line's end.
const LINE_EXTRA: usize = 2 + 8 + 2;

pub(crate) fn find(buf: &[u8], searched: usize, side: Side, limits: &Limits) -> Find {
    let lead = match (side, buf) {
        // One empty line before a request is what old clients send behind a body (RFC 9112 §2.2).
        (Side::Request, [b'\r', b'\n', ..]) => 2,
        (Side::Request, [b'\r']) => 1,
        _ => 0,
    };
    if side == Side::Request
        && let Some(fault) = opening(buf.get(lead..).unwrap_or_default())
    {
        return Find::Fault(fault);
    }
    let mut at = searched.max(lead);
    while let Some(found) = buf.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        let lf = at.saturating_add(found);
        let before = buf.get(..lf).unwrap_or_default();
        if before.last() != Some(&b'\r') {
            return Find::Fault(Fault::malformed("a line ends without CR"));
        }
        at = lf.saturating_add(1);
        let line = before.get(lead..).unwrap_or_default();
        if line == b"\r" {
            return Find::Fault(Fault::malformed("an empty line before the first line"));
        }
        if line.ends_with(b"\r\n\r") {
            return if at > limits.head_max {
                Find::Fault(Fault::HeadTooLarge)
            } else {
                Find::Head { len: at }
            };
        }
    }
    partial(buf, lead, searched.max(at), side, limits)
}

/// A head that has not ended yet; there is no LF behind `at`.
fn partial(buf: &[u8], lead: usize, at: usize, side: Side, limits: &Limits) -> Find {
    // The CR that was the last byte of the last search is looked at again: it may be followed by something now.
    let tail = buf.get(at.saturating_sub(1)..).unwrap_or_default();
    if let Some((_, inner)) = tail.split_last()
        && memchr(b'\r', inner).is_some()
    {
        return Find::Fault(Fault::malformed("CR without LF"));
    }
    if side == Side::Request {
        let most = limits.uri_max.saturating_add(METHOD_MAX).saturating_add(LINE_EXTRA);
        let line = buf.get(lead..).unwrap_or_default();
        if line.get(..most).is_some_and(|line| memchr(b'\n', line).is_none()) {
            return Find::Fault(Fault::TargetTooLong);
        }
    }
    if buf.len() >= limits.head_max {
        return Find::Fault(Fault::HeadTooLarge);
    }
    Find::Partial { searched: buf.len() }
}

/// What is wrong with the beginning of a request line, as far as its method goes.
fn opening(line: &[u8]) -> Option<Fault> {
    let fault = Some(Fault::malformed("no method"));
    for (at, byte) in line.iter().take(METHOD_MAX.saturating_add(1)).enumerate() {
        match byte {
            b' ' if at > 0 => return None,
            byte if is(*byte, TOKEN) => {}
            // Told as what it is by the search for the end.
            b'\r' | b'\n' if at == 0 => return None,
            _ => return fault,
        }
    }
    if line.len() > METHOD_MAX { fault } else { None }
}
