//! Where a head ends. Source: RFC 9112 §2.
//!
//! Costs no more than the bytes that are new, however few come at a time, and faults at once what waiting cannot mend:
//! a line that ends in a bare LF, a CR that no LF follows, a first byte that no method begins with, a head that is too long.

use memchr::memchr;
use outrigger_codec::{
    Fault, Find,
    exchange::{Limits, Side},
};

use super::chars::{METHOD_MAX, TOKEN, is};

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
    let most = limits.uri_max.saturating_add(METHOD_MAX).saturating_add(LINE_EXTRA).saturating_add(lead);
    let mut at = searched.max(lead);
    while let Some(found) = buf.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        let lf = at.saturating_add(found);
        let line_end = lf.saturating_sub(1);
        // Which of the two it is must not depend on how much of the line came at once: the first tells.
        if has_bare_cr(buf, at, line_end) {
            return Find::Fault(BARE_CR);
        }
        if lf == 0 || buf.get(line_end) != Some(&b'\r') {
            return Find::Fault(Fault::malformed("a line ends without CR"));
        }
        if side == Side::Request && lf < most && ends_first_line(buf, lead, lf) == Some(false) {
            return Find::Fault(Fault::malformed("the request line"));
        }
        let before = buf.get(lead..line_end).unwrap_or_default();
        at = lf.saturating_add(1);
        if before.is_empty() {
            return Find::Fault(Fault::malformed("an empty line before the first line"));
        }
        if before.ends_with(b"\r\n") {
            let fits = at <= limits.head_max;
            return if fits { Find::Head { len: at } } else { Find::Fault(Fault::HeadTooLarge) };
        }
    }
    // There is no LF behind `at`: what is left is the beginning of a line.
    if has_bare_cr(buf, at, buf.len().saturating_sub(1)) {
        return Find::Fault(BARE_CR);
    }
    let asked_first = searched < most && most <= buf.len();
    if side == Side::Request
        && asked_first
        && memchr(b'\n', buf.get(lead..most).unwrap_or_default()).is_none()
    {
        return Find::Fault(Fault::TargetTooLong);
    }
    if buf.len() >= limits.head_max {
        return Find::Fault(Fault::HeadTooLarge);
    }
    Find::Partial { searched: buf.len() }
}

const BARE_CR: Fault = Fault::malformed("CR without LF");

/// Whether a CR stands before `end` that no LF follows. The one that was the last byte of the last search is looked at
/// again: it may be followed by something now.
fn has_bare_cr(buf: &[u8], at: usize, end: usize) -> bool {
    buf.get(at.saturating_sub(1)..end).is_some_and(|line| memchr(b'\r', line).is_some())
}

/// Whether the first line ends at `lf`, and with a version; `None`: it ended before.
fn ends_first_line(buf: &[u8], lead: usize, lf: usize) -> Option<bool> {
    let line = buf.get(lead..lf)?;
    memchr(b'\n', line).is_none().then(|| line == b"\r" || has_version(line))
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
