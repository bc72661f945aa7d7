//! Heads through the gate, whole and byte by byte, for the tests of this crate. Must expect nothing of its own.
#![allow(dead_code, reason = "every test file is a crate of its own and uses a part of this")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

use outrigger_codec::{
    Asked, Body, ExchangeCodec, Fault, Field, Find, Framing, Head, HeadIndex, Malformed, Policy, Reply, Slot,
    Ticket,
    exchange::{Hop, Limits, Side},
};
use outrigger_http1::{Http1, Http1Body};

/// What an endpoint is called where the request named no host.
pub(crate) const ENDPOINT: &str = "10.0.0.7:8080";

/// Bytes as a person reads them.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The status that tells a fault.
pub(crate) fn status(fault: Fault) -> u16 {
    match fault {
        Fault::Malformed(_) => 400,
        Fault::Method => 405,
        Fault::Slow => 408,
        Fault::BodyTooLarge => 413,
        Fault::TargetTooLong => 414,
        Fault::Expectation => 417,
        Fault::ContentType => 415,
        Fault::HeadTooLarge => 431,
        Fault::Unsupported(_) => 501,
        Fault::Version => 505,
    }
}

/// Finds the head that `raw` begins with as a connection does, `step` bytes at a time.
pub(crate) fn find(raw: &[u8], step: usize, side: Side, limits: &Limits) -> Result<usize, Fault> {
    let (mut end, mut searched) = (0, 0);
    loop {
        assert!(end < raw.len(), "the head never ends: {}", text(raw));
        end = (end + step).min(raw.len());
        match Http1::find(&raw[..end], searched, side, limits) {
            Find::Partial { searched: now } => {
                assert!(now >= searched && now <= end, "searched {now} after {searched} of {end}");
                searched = now;
            }
            Find::Head { len } => {
                assert!(len <= end);
                return Ok(len);
            }
            Find::Fault(fault) => return Err(fault),
        }
    }
}

/// A request that passed.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) asked: Asked,
    pub(crate) bytes: Vec<u8>,
    pub(crate) index: HeadIndex,
}

impl Read {
    pub(crate) fn head(&self) -> Head<'_> {
        Head { bytes: &self.bytes, index: &self.index }
    }

    pub(crate) fn slot(&self, slot: Slot) -> Option<String> {
        self.head().slot(slot).map(text)
    }

    /// The headers that go on, without the host.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        pairs(&self.bytes, self.index.fields.get(1..).unwrap_or_default())
    }

    /// The head as the endpoint sees it.
    pub(crate) fn forward(&self, policy: &Policy) -> (Vec<u8>, Http1Body) {
        let peer = Some([192, 0, 2, 9].into());
        let hop = Hop { policy, peer, authority: ENDPOINT, request_id: "fresh-id" };
        let mut out = Vec::new();
        let body = Http1::forward(self.head(), &self.asked, &hop, &mut out);
        (out, body)
    }
}

/// Names and values as texts.
pub(crate) fn pairs(bytes: &[u8], fields: &[Field]) -> Vec<(String, String)> {
    let text = |span: outrigger_codec::Span| text(span.of(bytes).unwrap());
    fields.iter().map(|field| (text(field.name), text(field.value))).collect()
}

/// Reads the request that `raw` begins with, `step` bytes at a time.
pub(crate) fn read_by(raw: &[u8], step: usize, policy: &Policy, limits: &Limits) -> Result<Read, Fault> {
    let len = find(raw, step, Side::Request, limits)?;
    let mut index = HeadIndex::default();
    let asked = Http1::request(&raw[..len], policy, limits, &mut index)?;
    Ok(Read { asked, bytes: raw[..len].to_vec(), index })
}

/// Reads the request that `raw` begins with.
pub(crate) fn read(raw: &[u8], policy: &Policy, limits: &Limits) -> Result<Read, Fault> {
    read_by(raw, raw.len().max(1), policy, limits)
}

/// Reads a request that must pass.
pub(crate) fn passes(raw: &[u8], policy: &Policy) -> Read {
    read(raw, policy, &Limits::default()).unwrap_or_else(|fault| panic!("{fault:?}: {}", text(raw)))
}

/// What the gate says of a request, as a status (200: it passes). The same however it comes.
pub(crate) fn judged(raw: &[u8], policy: &Policy, limits: &Limits) -> u16 {
    let by = |step| read_by(raw, step, policy, limits).map_or_else(status, |_| 200);
    let whole = by(raw.len().max(1));
    for step in [1, 2, 7] {
        assert_eq!(by(step), whole, "{step} bytes at a time: {}", text(raw));
    }
    whole
}

/// Holds each request to its verdict, under the policy and the limits of a conf that says nothing.
pub(crate) fn verdicts(rows: &[(u16, &[u8])]) {
    for (expected, raw) in rows {
        assert_eq!(judged(raw, &Policy::default(), &Limits::default()), *expected, "{}", text(raw));
    }
}

/// A request with these header lines behind a good beginning.
pub(crate) fn with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\n", lines.as_ref(), b"\r\n\r\n"].concat()
}

/// What a request asked that has no body and nothing special.
pub(crate) fn plain() -> Asked {
    Asked { body: Framing::None, keep: true, awaits: false, tunnel: false, ticket: Ticket(0) }
}

/// What the request with this head asked.
pub(crate) fn asked(raw: &[u8], policy: &Policy) -> Asked {
    passes(raw, policy).asked
}

/// An answer that passed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) bytes: Vec<u8>,
    pub(crate) index: HeadIndex,
}

impl Answer {
    pub(crate) fn head(&self) -> Head<'_> {
        Head { bytes: &self.bytes, index: &self.index }
    }

    /// The head as the caller sees it.
    pub(crate) fn answer(&self, asked: &Asked, policy: &Policy, close: bool) -> (Vec<u8>, Http1Body) {
        let mut out = Vec::new();
        let body = Http1::answer(self.head(), asked, &self.reply, policy, close, &mut out);
        (out, body)
    }
}

/// Reads the answer that `raw` begins with, `step` bytes at a time.
pub(crate) fn answered_by(
    raw: &[u8],
    step: usize,
    asked: &Asked,
    limits: &Limits,
) -> Result<Answer, Malformed> {
    let len = find(raw, step, Side::Reply, limits).map_err(|fault| Malformed(fault.why()))?;
    let mut index = HeadIndex::default();
    let reply = Http1::reply(&raw[..len], asked, limits, &mut index)?;
    Ok(Answer { reply, bytes: raw[..len].to_vec(), index })
}

/// Reads the answer that `raw` begins with. The same however it comes.
pub(crate) fn answered(raw: &[u8], asked: &Asked) -> Result<Answer, Malformed> {
    let limits = Limits::default();
    let whole = answered_by(raw, raw.len().max(1), asked, &limits);
    for step in [1, 2, 7] {
        let split = answered_by(raw, step, asked, &limits);
        assert_eq!(
            split.as_ref().ok().map(|it| it.reply),
            whole.as_ref().ok().map(|it| it.reply),
            "{}",
            text(raw)
        );
    }
    whole
}

/// How a body went: what was used of the bytes and whether it is complete, or the fault; and what came out.
pub(crate) type Went = (Result<(usize, bool), Fault>, Vec<u8>);

/// Passes `bytes` in pieces of these sizes, again and again.
pub(crate) fn pass(mut body: Http1Body, bytes: &[u8], sizes: &[usize], limits: &Limits) -> Went {
    let mut out = Vec::new();
    let mut used = 0;
    let mut sizes = sizes.iter().cycle();
    while used < bytes.len() && !body.is_done() {
        let end = (used + sizes.next().unwrap()).min(bytes.len());
        match body.pass(&bytes[used..end], limits, &mut out) {
            Ok(passed) => {
                assert_eq!(passed.done, body.is_done());
                assert!(passed.done || passed.used == end - used, "all is used unless it is done");
                used += passed.used;
            }
            Err(fault) => return (Err(fault), out),
        }
    }
    (Ok((used, body.is_done())), out)
}
