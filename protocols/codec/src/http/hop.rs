//! What the next server is told besides what the caller said: who called, an id, by whom it was received.
//!
//! Source: RFC 9110 §7.6.3 and the fields that proxies agreed on. Nothing here by default.

use std::{io::Write, net::IpAddr};

use super::{answer::number, chars::decimal};
use crate::{Field, Head, Message, Policy, Slot, Span, exchange::Forwarded};

/// The fields that tell of the caller.
const FORWARDED: [&[u8]; 3] = [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"];

/// Adds to a request what `policy` asks for. `version` is the caller's, as `Via` spells it; `fresh_id` makes an id.
pub fn decorate(
    request: &mut Message,
    policy: &Policy,
    peer: Option<IpAddr>,
    version: &str,
    fresh_id: impl FnOnce() -> String,
) {
    if policy.forwarded != Forwarded::Off {
        forwarded(request, policy.forwarded == Forwarded::Append, peer);
    }
    if policy.request_id && request.head().field(b"x-request-id").is_none() {
        request.add(b"x-request-id", fresh_id().as_bytes());
    }
    via(request, policy, version);
}

/// What a caller says of its own time in the header that the conf names: whole milliseconds, 0 and whatever is no number
/// mean none.
pub fn timeout(request: Head<'_>, policy: &Policy) -> Option<u32> {
    let said = decimal(request.field(policy.timeout.as_deref()?)?)?;
    (said > 0).then(|| u32::try_from(said).unwrap_or(u32::MAX))
}

/// Tells the service in that header that it has `ms`.
pub fn tell_timeout(request: &mut Message, policy: &Policy, ms: u32) {
    let Some(name) = &policy.timeout else { return };
    request.retain(|own, _| !own.eq_ignore_ascii_case(name));
    number(request, name, u64::from(ms));
}

/// Adds by whom a message was received, in which version.
pub fn via(message: &mut Message, policy: &Policy, version: &str) {
    if let Some(name) = &policy.via {
        add(message, b"via", |out| write!(out, "{version} {name}").unwrap_or_default());
    }
}

fn forwarded(request: &mut Message, append: bool, peer: Option<IpAddr>) {
    let mut before = Vec::new();
    let (mut proto, mut host) = (None, None);
    let authority = request.head().slot(Slot::Authority).map(<[u8]>::to_vec);
    request.retain(|name, value| {
        let is = |ours: &[u8]| name.eq_ignore_ascii_case(ours);
        if append && is(b"x-forwarded-for") {
            before.extend_from_slice(value);
            before.extend_from_slice(b", ");
        } else if append && is(b"x-forwarded-proto") {
            proto.get_or_insert_with(|| value.to_vec());
        } else if append && is(b"x-forwarded-host") {
            host.get_or_insert_with(|| value.to_vec());
        }
        !FORWARDED.iter().any(|ours| is(ours))
    });
    add(request, b"x-forwarded-for", |out| {
        out.extend_from_slice(&before);
        match peer {
            Some(peer) => write!(out, "{peer}"),
            None => write!(out, "unknown"),
        }
        .unwrap_or_default();
    });
    request.add(b"x-forwarded-proto", proto.as_deref().unwrap_or(b"http"));
    if let Some(host) = host.or(authority) {
        request.add(b"x-forwarded-host", &host);
    }
}

fn add(message: &mut Message, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
    let name = message.put(name);
    let at = message.bytes.len();
    write(&mut message.bytes);
    let value = Span::new(at, message.bytes.len().saturating_sub(at));
    message.index.fields.push(Field { name, value });
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)] // tests fail by panicking
mod tests {
    use super::*;

    fn told(policy: &Policy) -> Vec<(String, String)> {
        let mut request = Message::default();
        request.set(Slot::Authority, b"shop.example");
        request.add(b"x-forwarded-for", b"10.0.0.1");
        request.add(b"x-forwarded-proto", b"https");
        request.index.caseless = true;
        decorate(&mut request, policy, Some([127, 0, 0, 1].into()), "2", || "fresh".to_owned());
        let text =
            |span: Span| String::from_utf8_lossy(span.of(&request.bytes).unwrap_or_default()).into_owned();
        request.index.fields.iter().map(|field| (text(field.name), text(field.value))).collect()
    }

    #[test]
    fn what_the_conf_asks_for_is_told_and_nothing_else() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let asked = Policy { request_id: true, via: Some("outrigger".into()), ..Policy::default() };
        let off = told(&asked);
        assert_eq!(off[2..], [pair("x-request-id", "fresh"), pair("via", "2 outrigger")]);
        let append = told(&Policy { forwarded: Forwarded::Append, ..Policy::default() });
        let due = [
            pair("x-forwarded-for", "10.0.0.1, 127.0.0.1"),
            pair("x-forwarded-proto", "https"),
            pair("x-forwarded-host", "shop.example"),
        ];
        assert_eq!(append, due);
        let replace = told(&Policy { forwarded: Forwarded::Replace, ..Policy::default() });
        assert_eq!(replace[..2], [pair("x-forwarded-for", "127.0.0.1"), pair("x-forwarded-proto", "http")]);
    }
}
