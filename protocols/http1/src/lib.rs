//! HTTP/1: a strict gate, and heads and bodies spelled anew behind it. Bytes in, bytes out.
//!
//! Sources: RFC 9110 and RFC 9112. Where those let a recipient be lenient this crate is not: a request that two servers
//! could read in two ways is refused, and what passes is written again from what was understood, so that the server
//! behind sees one spelling only. It must never open a socket, never pass framing through, and never panic on any bytes.
//!
//! * [`find`]: where a head ends, at the cost of the new bytes alone.
//! * [`fields`], [`request`], [`reply`], and [`target`] which HTTP/2 shares: the gate.
//! * [`spell`]: heads as the other side sees them, and answers of our own.
//! * [`body`]: lengths, chunks and trailers, from one framing to another.
//! * [`link`]: the same as a link of one stream at a time, for the translation into other protocols and from them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use outrigger_codec::{
    Asked, ExchangeCodec, Fault, Find, Head, HeadIndex, Malformed, Policy, Refusal, Reply, Slot, Sniff,
    Ticket,
    exchange::{Framing, Hop, Limits, Side},
    http::{chars, target},
};

mod body;
mod fields;
mod find;
mod link;
mod reply;
mod request;
mod spell;

pub use body::Http1Body;
pub use link::Http1Link;

/// HTTP/1.0 and HTTP/1.1.
#[derive(Clone, Copy, Debug)]
pub struct Http1;

/// Bits of a [`Ticket`]: what an answer must know of its request.
mod bits {
    /// The caller speaks HTTP/1.0.
    pub(crate) const OLD: u32 = 1;
    /// The answer has no body, whatever its head says.
    pub(crate) const HEAD: u32 = 1 << 1;
    /// A tunnel is asked for by CONNECT.
    pub(crate) const CONNECT: u32 = 1 << 2;

    /// To what the connection is to be upgraded, so far as an answer can be compared with it.
    pub(crate) fn upgrade(name: &[u8]) -> u32 {
        let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
        });
        hash & UPGRADE
    }

    /// Where that is kept.
    pub(crate) const UPGRADE: u32 = 0xffff_ff00;
}

/// Whether a ticket has a bit.
fn has(ticket: Ticket, bit: u32) -> bool {
    ticket.0 & bit != 0
}

/// Methods that a connection may begin with to be told as HTTP/1.
const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"TRACE ", b"CONNECT "];

/// The verdict on first bytes whose method, should it be one, is none of the usual: a path must follow it. HTTP/2 begins
/// with `PRI *`.
fn other_method(first: &[u8]) -> Sniff {
    let len =
        first.iter().position(|byte| !(byte.is_ascii_uppercase() || *byte == b'-')).unwrap_or(first.len());
    match first.get(len..).unwrap_or_default() {
        _ if len == 0 || len > chars::METHOD_MAX => Sniff::No,
        [] | [b' '] => Sniff::More,
        [b' ', b'/', ..] => Sniff::Yes,
        _ => Sniff::No,
    }
}

impl ExchangeCodec for Http1 {
    const NAME: &'static str = "http1";
    const SERVER_IDLE: Duration = Duration::from_secs(60);
    const CLIENT_IDLE: Duration = Duration::from_secs(60);
    const CONNECTIONS: u32 = 1024;

    type Body = Http1Body;

    fn sniff(first: &[u8]) -> Sniff {
        // As tolerant as `find`: an empty line may come before.
        let first = match first {
            b"\r" | b"\r\n" => return Sniff::More,
            [b'\r', b'\n', rest @ ..] => rest,
            first => first,
        };
        let mut verdict = other_method(first);
        for method in METHODS {
            if first.starts_with(method) {
                return Sniff::Yes;
            }
            if method.starts_with(first) {
                verdict = Sniff::More;
            }
        }
        verdict
    }

    fn find(buf: &[u8], searched: usize, side: Side, limits: &Limits) -> Find {
        find::find(buf, searched, side, limits)
    }

    fn request(head: &[u8], policy: &Policy, limits: &Limits, index: &mut HeadIndex) -> Result<Asked, Fault> {
        request::read(head, policy, limits, index)
    }

    fn forward(head: Head<'_>, asked: &Asked, hop: &Hop<'_>, out: &mut Vec<u8>) -> Http1Body {
        spell::request(head, asked, hop, out);
        Http1Body::of_request(asked.body, hop.policy.underscores)
    }

    fn retell(request: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        spell::retell(request, name, value);
    }

    fn reply(head: &[u8], asked: &Asked, limits: &Limits, index: &mut HeadIndex) -> Result<Reply, Malformed> {
        reply::read(head, asked, limits, index)
    }

    fn answer(
        head: Head<'_>,
        asked: &Asked,
        reply: &Reply,
        policy: &Policy,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Http1Body {
        spell::answer(head, asked, reply, policy, close, out);
        Http1Body::of_answer(reply.body, has(asked.ticket, bits::OLD))
    }

    fn shows_interim(head: Head<'_>, asked: &Asked) -> bool {
        let goes_on = head.slot(Slot::Target).is_some_and(|text| text.starts_with(b"100"));
        !has(asked.ticket, bits::OLD) && (!goes_on || asked.awaits)
    }

    fn keeps(asked: &Asked, reply: &Reply) -> bool {
        let told = !matches!(reply.body, Framing::Chunked | Framing::Close);
        asked.keep && (told || !has(asked.ticket, bits::OLD))
    }

    fn refuse(
        asked: Option<&Asked>,
        why: Refusal,
        wait: Option<Duration>,
        message: &str,
        close: bool,
        out: &mut Vec<u8>,
    ) {
        spell::refuse(asked, why, wait, message, close, out);
    }

    fn respond(asked: &Asked, head: Head<'_>, body: &[u8], close: bool, out: &mut Vec<u8>) {
        spell::respond(asked, head, body, close, out);
    }

    fn fault(head: &[u8], asked: Option<&Asked>, fault: Fault, message: &str, out: &mut Vec<u8>) {
        spell::fault(head, asked, fault, message, out);
    }
}
