//! Requests of HTTP/2 that go on as HTTP/1: whatever comes out must be read by a strict server as that one request.
//!
//! The bytes are a list of lines (name, 0xff, value, 0xfe), then a body and perhaps trailers behind empty lines. What
//! passes the gate of HTTP/2 is written by the link to an endpoint, and read by the gate of HTTP/1: the same method, target,
//! authority and headers, the same body, and no byte besides. It must never excuse a difference. Sources: RFC 9113 §8,
//! RFC 9112.

use outrigger_codec::{
    Asked, Event, ExchangeCodec, Find, Framing, Head, HeadIndex, Link, Message, Policy, Slot, Step,
    StreamCodec, Tag,
    exchange::{Limits, Side, Underscores},
    streams::LinkSettings,
};
use outrigger_http1::Http1;
use outrigger_http2::{
    Http2, Http2Link,
    hpack::{Encoder, Indexing},
};

use super::http1::dechunk;

const ADDRESS: &str = "service.internal:8080";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// What the caller is held to.
const LIMITS: Limits = Limits { headers_max: 100, ..WIDE };
const WIDE: Limits = Limits { head_max: 1 << 20, headers_max: 1 << 10, uri_max: 1 << 20, body_max: u64::MAX };

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A caller's connection, and what came of it.
struct Caller {
    link: Http2Link,
    policy: Policy,
    message: Message,
    encoder: Encoder,
}

/// Sends one request through both protocols.
pub fn request(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(3, |byte| *byte == 0xfd);
    let lines = pairs(parts.next().unwrap_or_default());
    let body = parts.next();
    let trailers = parts.next().map(pairs);
    let underscores =
        [Underscores::Drop, Underscores::Allow, Underscores::Reject][usize::from(first >> 4) % 3];
    let policy = Policy { underscores, trace: first & 1 != 0, connect: first & 2 != 0, ..Policy::default() };
    let settings = LinkSettings { limits: LIMITS, ..LinkSettings::default() };
    let (link, encoder) = (Http2::serve(&settings), Encoder::new());
    let mut caller = Caller { link, policy, message: Message::default(), encoder };
    assert!(!matches!(caller.take(PREFACE).0, Event::Broken { .. }));
    let head = caller.block(&lines, body.is_none());
    let Event::Request { stream, end, .. } = caller.take(&head).0 else { return };
    assert_eq!(end, body.is_none());
    caller.link.adopt(stream, Tag(7));

    let mut endpoint = <Http1 as StreamCodec>::dial(&settings);
    let (mut out, on) = (Vec::new(), endpoint.open(Tag(7)));
    endpoint.request(on, caller.message.head(), end, ADDRESS, &mut out);
    let kept = std::mem::take(&mut caller.message);
    if endpoint.is_severed() {
        assert_eq!(kept.head().slot(Slot::Method), Some(&b"CONNECT"[..]));
        assert!(out.is_empty(), "something is said of what cannot be");
        return;
    }
    let asked = same(&kept, &out, &caller.policy);
    let head_len = out.len();
    let mut sent = Vec::new();
    let mut ended = end;
    if let Some(body) = body {
        ended = pass(&mut caller, &mut endpoint, on, (body, trailers.as_deref()), (&mut sent, &mut out));
    }
    whole(asked.body, &out[head_len..], &sent, ended && !endpoint.is_severed());
}

fn pairs(bytes: &[u8]) -> Pairs {
    let lines = bytes.split(|byte| *byte == 0xfe).filter(|line| !line.is_empty());
    let pair = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == 0xff).unwrap_or(line.len());
        (line[..at].to_vec(), line.get(at + 1..).unwrap_or_default().to_vec())
    };
    lines.map(pair).collect()
}

impl Caller {
    fn block(&mut self, lines: &[(Vec<u8>, Vec<u8>)], end: bool) -> Vec<u8> {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for (name, value) in lines {
            self.encoder.field(name, value, Indexing::Auto, &mut block);
        }
        frame(1, 4 | u8::from(end), &block)
    }

    /// What the link makes of one unit, and the part of it that is a body.
    fn take(&mut self, unit: &[u8]) -> (Event, Vec<u8>) {
        let mut at = 0;
        loop {
            let Step { used, event } =
                self.link.receive(&unit[at..], &self.policy, &mut self.message, &mut Vec::new());
            let body = match event {
                Event::Data { at: from, len, .. } => unit[at + from..at + from + len].to_vec(),
                _ => Vec::new(),
            };
            at += used;
            if at == unit.len() || !matches!(event, Event::Nothing) {
                return (event, body);
            }
        }
    }
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = (payload.len() as u32).to_be_bytes();
    [&len[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// Passes a body on; what was passed goes to `sent`. Whether it came to its end.
fn pass(
    caller: &mut Caller,
    endpoint: &mut <Http1 as StreamCodec>::Link,
    on: u32,
    (body, trailers): (&[u8], Option<&[(Vec<u8>, Vec<u8>)]>),
    (sent, out): (&mut Vec<u8>, &mut Vec<u8>),
) -> bool {
    let step = 1 + usize::from(body.first().copied().unwrap_or_default());
    let mut pieces = body.chunks(step).peekable();
    loop {
        let piece = pieces.next().unwrap_or_default();
        let last = pieces.peek().is_none();
        let end = last && trailers.is_none();
        let (event, bytes) = caller.take(&frame(0, u8::from(end), piece));
        let Event::Data { end: ended, .. } = event else { return false };
        assert_eq!((ended, &bytes[..]), (end, piece));
        assert_eq!(endpoint.data(on, &bytes, end, out), bytes.len());
        sent.extend_from_slice(&bytes);
        if last {
            break;
        }
    }
    let Some(trailers) = trailers else { return true };
    let block = caller.block(trailers, true);
    let Event::Trailers { .. } = caller.take(&block).0 else { return false };
    endpoint.trailers(on, caller.message.head(), out);
    true
}

/// What was written is one head, and means what the caller said.
fn same(kept: &Message, out: &[u8], policy: &Policy) -> Asked {
    let shown = || String::from_utf8_lossy(out).into_owned();
    let found = Http1::find(out, 0, Side::Request, &WIDE);
    assert_eq!(found, Find::Head { len: out.len() }, "{}", shown());
    // What was let pass here is not to be stopped by the same rule there.
    let policy = Policy { underscores: Underscores::Allow, ..policy.clone() };
    let mut index = HeadIndex::default();
    let asked = Http1::request(out, &policy, &WIDE, &mut index);
    let asked = asked.unwrap_or_else(|fault| panic!("{fault:?}: {}", shown()));
    let (before, after) = (kept.head(), Head { bytes: out, index: &index });
    for slot in [Slot::Method, Slot::Target, Slot::Path, Slot::Query] {
        assert_eq!(before.slot(slot), after.slot(slot), "{slot:?}: {}", shown());
    }
    let authority = before.slot(Slot::Authority).unwrap_or(ADDRESS.as_bytes());
    assert_eq!(Some(authority), after.slot(Slot::Authority), "{}", shown());
    assert_eq!(fields(before, &kept.index, true), fields(after, &index, false), "{}", shown());
    assert!(kept.index.fields.len() <= LIMITS.headers_max, "more headers than were allowed");
    assert!(asked.keep && !asked.tunnel, "{}", shown());
    asked
}

/// The headers that both must know, cookies as one and last.
fn fields(head: Head<'_>, index: &HeadIndex, whole: bool) -> Pairs {
    let mut cookies = Vec::new();
    let mut pairs = Pairs::new();
    for field in &index.fields[usize::from(!whole)..] {
        let name = field.name.of(head.bytes).expect("a name").to_ascii_lowercase();
        let value = field.value.of(head.bytes).expect("a value").to_vec();
        match &name[..] {
            b"cookie" => cookies.push(value),
            b"te" | b"content-length" | b"expect" => {}
            _ => pairs.push((name, value)),
        }
    }
    if !cookies.is_empty() {
        pairs.push((b"cookie".to_vec(), cookies.join(&b"; "[..]).trim_ascii().to_vec()));
    }
    pairs
}

/// The body is framed as its head says, and nothing is behind it.
fn whole(framing: Framing, bytes: &[u8], sent: &[u8], ended: bool) {
    match framing {
        Framing::None => assert!(sent.is_empty() && bytes.is_empty(), "a body where none was told"),
        Framing::Length(length) => {
            assert!(bytes.len() as u64 <= length, "more than was told");
            assert_eq!(bytes, sent);
            assert!(!ended || bytes.len() as u64 == length, "less than was told");
        }
        Framing::Chunked => {
            let (data, end) = dechunk(bytes);
            assert_eq!((&data[..], end), (sent, ended.then_some(bytes.len())));
        }
        Framing::Close => panic!("a request that ends with its connection"),
    }
}
