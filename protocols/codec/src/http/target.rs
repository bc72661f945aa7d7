//! Targets and hosts: what a request is for, in one reading only. Source: RFC 9112 §3.2, RFC 9113 §8.3.1, RFC 3986.
//!
//! Refused is whatever servers are known to read in different ways: dot segments in any spelling (also before a `;`), a
//! second slash at the start, fragments, escapes that are none, bytes outside ASCII.

use super::chars::{HOST, TARGET, UNRESERVED, all, hex, is};
use crate::{Fault, Head, HeadIndex, Slot, Span};

/// What form a target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A path, with the authority in the Host header.
    Origin,
    /// A whole URI; the span is its authority.
    Absolute(Span),
    /// An authority alone (CONNECT).
    Authority(Span),
    /// The server itself (OPTIONS).
    Asterisk,
}

const MALFORMED: Fault = Fault::malformed("the target");

/// Reads the target that lies at `at` of the head, and sets the slots that come from it.
pub fn read(head: &[u8], span: Span, method: &[u8], index: &mut HeadIndex) -> Result<Form, Fault> {
    let target = span.of(head).unwrap_or_default();
    if !all(target, TARGET) {
        return Err(MALFORMED);
    }
    if method == b"CONNECT" {
        index.set(Slot::Target, span);
        return Ok(Form::Authority(span));
    }
    match target {
        [b'/', b'/', ..] => Err(MALFORMED),
        [b'/', ..] => {
            index.set(Slot::Target, span);
            path_and_query(head, span, index)?;
            Ok(Form::Origin)
        }
        b"*" if method == b"OPTIONS" => {
            index.set(Slot::Target, span);
            index.set(Slot::Path, span);
            Ok(Form::Asterisk)
        }
        _ => absolute(head, span, method, index),
    }
}

fn absolute(head: &[u8], span: Span, method: &[u8], index: &mut HeadIndex) -> Result<Form, Fault> {
    const SCHEME: &[u8] = b"http://";
    let target = span.of(head).unwrap_or_default();
    let (scheme, rest) = target.split_at_checked(SCHEME.len()).ok_or(MALFORMED)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(MALFORMED);
    }
    let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let at = (span.at as usize).saturating_add(SCHEME.len());
    let authority = Span::new(at, len);
    let rest = Span::new(at.saturating_add(len), rest.len().saturating_sub(len));
    match rest.of(head).unwrap_or_default() {
        [b'/', b'/', ..] => return Err(MALFORMED),
        [b'/', ..] => {
            index.set(Slot::Target, rest);
            path_and_query(head, rest, index)?;
        }
        // A URI without a path asks for the root, or for the server itself (RFC 9112 §3.2.4).
        [] if method == b"OPTIONS" => {
            index.spell(Slot::Target, b"*".iter().copied());
            index.spell(Slot::Path, b"*".iter().copied());
        }
        bytes => {
            index.spell(Slot::Target, b"/".iter().chain(bytes).copied());
            index.spell(Slot::Path, b"/".iter().copied());
            if let Some(len) = bytes.len().checked_sub(1) {
                index.set(Slot::Query, Span::new((rest.at as usize).saturating_add(1), len));
            }
        }
    }
    Ok(Form::Absolute(authority))
}

fn path_and_query(head: &[u8], span: Span, index: &mut HeadIndex) -> Result<(), Fault> {
    let target = span.of(head).unwrap_or_default();
    let path_len = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let path = target.get(..path_len).unwrap_or_default();
    if path_len < target.len() {
        let from = path_len.saturating_add(1);
        let at = (span.at as usize).saturating_add(from);
        index.set(Slot::Query, Span::new(at, target.len().saturating_sub(from)));
    }
    index.set(Slot::Path, Span::new(span.at as usize, path_len));
    if memchr::memchr(b'%', path).is_some() {
        if Unescaped(path).any(|byte| byte.is_none()) {
            return Err(MALFORMED);
        }
        index.spell(Slot::Path, Unescaped(path).flatten());
        let spelled = Head { bytes: head, index };
        return dots(spelled.slot(Slot::Path).unwrap_or_default());
    }
    dots(path)
}

/// Refuses `.` and `..` as segments, also where a parameter follows them, and where what divides them from the rest is an
/// escaped slash or backslash: some servers take those for slashes.
fn dots(path: &[u8]) -> Result<(), Fault> {
    let mut rest = path;
    while let Some(at) = memchr::memchr2(b'/', b'%', rest) {
        rest = rest.get(at..).unwrap_or_default();
        let len = divider(rest);
        rest = rest.get(len.max(1)..).unwrap_or_default();
        if len == 0 || rest.first() != Some(&b'.') {
            continue;
        }
        let after = rest.strip_prefix(b"..").or_else(|| rest.strip_prefix(b".")).unwrap_or_default();
        if matches!(after.first(), None | Some(b';')) || divider(after) > 0 {
            return Err(Fault::malformed("a dot segment in the path"));
        }
    }
    Ok(())
}

/// The length of what divides segments at the start of `path`; 0: nothing does.
fn divider(path: &[u8]) -> usize {
    match path {
        [b'/', ..] => 1,
        [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..] => 3,
        _ => 0,
    }
}

/// A path with the escapes of unreserved characters taken away; `None` for what is no escape, or escapes a NUL.
struct Unescaped<'a>(&'a [u8]);

impl Iterator for Unescaped<'_> {
    type Item = Option<u8>;

    fn next(&mut self) -> Option<Option<u8>> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        if *first != b'%' {
            return Some(Some(*first));
        }
        let [high, low, after @ ..] = rest else { return Some(None) };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return Some(None) };
        match (high << 4) | low {
            0 => Some(None),
            byte if is(byte, UNRESERVED) => {
                self.0 = after;
                Some(Some(byte))
            }
            _ => Some(Some(b'%')),
        }
    }
}

/// Sets the slots of an authority, in lower case.
pub fn authority(head: &[u8], span: Span, index: &mut HeadIndex) -> Result<(), Fault> {
    let bytes = span.of(head).unwrap_or_default();
    let host_len = host_len(bytes).ok_or(Fault::malformed("Host"))?;
    if bytes.iter().any(u8::is_ascii_uppercase) {
        index.spell(Slot::Authority, bytes.iter().map(u8::to_ascii_lowercase));
        index.spell(Slot::Host, bytes.iter().take(host_len).map(u8::to_ascii_lowercase));
    } else {
        index.set(Slot::Authority, span);
        index.set(Slot::Host, Span::new(span.at as usize, host_len));
    }
    Ok(())
}

/// The length of the host in `host[:port]`; `None` when this is none.
fn host_len(authority: &[u8]) -> Option<usize> {
    let len = if authority.first() == Some(&b'[') {
        let end = authority.iter().position(|byte| *byte == b']')?;
        let inside = authority.get(1..end)?;
        let address = std::str::from_utf8(inside).ok()?;
        // An address is no socket: `core` has no others.
        address.parse::<core::net::Ipv6Addr>().ok()?;
        end.checked_add(1)?
    } else {
        let len = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
        let host = authority.get(..len)?;
        (!host.is_empty() && all(host, HOST)).then_some(len)?
    };
    match authority.get(len..)? {
        [] => Some(len),
        [b':', port @ ..] if (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit) => {
            let number = std::str::from_utf8(port).ok()?.parse::<u32>().ok()?;
            (number <= 65_535).then_some(len)
        }
        _ => None,
    }
}
