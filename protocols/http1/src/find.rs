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
    let first = buf.get(lead..).unwrap_or_default();
    let fault = match side {
        Side::Request => opening(first),
        Side::Reply => no_answer(first),
    };
    if let Some(fault) = fault.filter(|_| searched <= OPENING) {
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
    partial(buf, lead, searched, at, side, limits)
}

/// A head that has not ended yet; there is no LF behind `at`.
fn partial(buf: &[u8], lead: usize, searched: usize, at: usize, side: Side, limits: &Limits) -> Find {
    // The CR that was the last byte of the last search is looked at again: it may be followed by something now.
    let tail = buf.get(at.saturating_sub(1)..).unwrap_or_default();
    if let Some((_, inner)) = tail.split_last()
        && memchr(b'\r', inner).is_some()
    {
        return Find::Fault(Fault::malformed("CR without LF"));
    }
    let most = limits.uri_max.saturating_add(METHOD_MAX).saturating_add(LINE_EXTRA);
    // Asked until the first line is known to be whole, and not again.
    if side == Side::Request && searched <= most.saturating_add(lead) {
        let line = buf.get(lead..).unwrap_or_default();
        let line = line.get(..most).unwrap_or(line);
        match memchr(b'\n', line) {
            None if line.len() == most => return Find::Fault(Fault::TargetTooLong),
            Some(lf) if !line.get(..lf).is_some_and(has_version) => {
                return Find::Fault(Fault::malformed("the request line"));
            }
            _ => {}
        }
    }
    if buf.len() >= limits.head_max {
        return Find::Fault(Fault::HeadTooLarge);
    }
    Find::Partial { searched: buf.len() }
}

/// First bytes that are judged by themselves.
const OPENING: usize = METHOD_MAX + 2;

/// What is wrong with the beginning of an answer.
fn no_answer(line: &[u8]) -> Option<Fault> {
    const START: &[u8] = b"HTTP/1.";
    let len = line.len().min(START.len());
    (line.get(..len) != START.get(..len)).then_some(Fault::malformed("no answer of HTTP/1"))
}

/// Whether a whole request line, without its LF, ends with a version.
fn has_version(line: &[u8]) -> bool {
    matches!(
        line,
        [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r']
            if major.is_ascii_digit() && minor.is_ascii_digit()
    )
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
