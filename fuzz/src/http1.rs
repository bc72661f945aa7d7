//! What the gate of HTTP/1 must hold for any bytes at all: requests, answers and bodies.
//!
//! What passes is written anew, and what was written must pass again as the same thing: otherwise the server behind could
//! read something else than the gate did. Beside the codec's own reading stands a simple one of this file, which shares
//! no code with it. It must never excuse a difference. Sources: RFC 9110, RFC 9112, and the promises of
//! `outrigger_codec::ExchangeCodec`.

use outrigger_codec::{
    Asked, Body, ExchangeCodec, Fault, Field, Find, Framing, Head, HeadIndex, Malformed, Policy, Refusal,
    Reply, ReplyKind, Slot, Span,
    exchange::{Forwarded, Hop, Limits, Side, Underscores},
};
use outrigger_http1::{Http1, Http1Body};

const ADDRESS: &str = "service.internal:8080";
/// What is written anew is a little longer than what was read: these bounds are never in its way.
const WIDE: Limits = Limits { head_max: 1 << 20, headers_max: 1 << 10, uri_max: 1 << 20, body_max: u64::MAX };
const TIGHT: Limits = Limits { head_max: 256, headers_max: 4, uri_max: 32, body_max: 100 };

/// How far a head was read: not whole yet, refused, or passed with its length.
#[derive(Debug, PartialEq)]
enum Verdict<T> {
    Partial,
    Refused,
    Passed(usize, T),
}

/// The verdict on a head that arrives in pieces of `step` bytes.
fn arrive<T, E>(
    bytes: &[u8],
    step: usize,
    side: Side,
    limits: &Limits,
    read: impl Fn(&[u8]) -> Result<T, E>,
) -> Verdict<T> {
    let (mut have, mut searched) = (0, 0);
    loop {
        have = bytes.len().min(have + step);
        match Http1::find(&bytes[..have], searched, side, limits) {
            Find::Partial { searched: now } => {
                assert!(now >= searched && now <= have, "searched {now} of {have}");
                searched = now;
            }
            Find::Fault(_) => return Verdict::Refused,
            Find::Head { len } => {
                assert!(len > 0 && len <= have && len <= limits.head_max, "a head of {len} bytes in {have}");
                return read(&bytes[..len]).map_or(Verdict::Refused, |what| Verdict::Passed(len, what));
            }
        }
        if have == bytes.len() {
            return Verdict::Partial;
        }
    }
}

/// The same verdict for every split; `bytes` themselves choose one.
fn settled<T: PartialEq + std::fmt::Debug, E>(
    bytes: &[u8],
    side: Side,
    limits: &Limits,
    read: impl Fn(&[u8]) -> Result<T, E>,
) -> Verdict<T> {
    let whole = arrive(bytes, bytes.len().max(1), side, limits, &read);
    for step in [1, chosen(bytes)] {
        assert_eq!(whole, arrive(bytes, step, side, limits, &read), "in pieces of {step}");
    }
    whole
}

/// A step that follows from the bytes lets the fuzzer look for the one that fails.
fn chosen(bytes: &[u8]) -> usize {
    2 + usize::from(bytes.last().copied().unwrap_or_default())
}

fn policies() -> [Policy; 3] {
    let open = Policy {
        underscores: Underscores::Allow,
        upgrades: ["websocket", "h2c"].map(Into::into).into(),
        trace: true,
        connect: true,
        ..Policy::default()
    };
    let telling = Policy {
        underscores: Underscores::Reject,
        via: Some("outrigger".into()),
        forwarded: Forwarded::Append,
        request_id: true,
        ..open.clone()
    };
    [Policy::default(), open, telling]
}

/// Holds the gate of requests to its promises.
pub fn requests(bytes: &[u8]) {
    super::sniffs(Http1::sniff, bytes);
    anything(bytes);
    for limits in [WIDE, Limits::default(), TIGHT] {
        for policy in policies() {
            let read = |head: &[u8]| Http1::request(head, &policy, &limits, &mut HeadIndex::default());
            if let Verdict::Passed(len, asked) = settled(bytes, Side::Request, &limits, read) {
                request(&bytes[..len], asked, &policy, &limits);
            }
        }
    }
}

/// What is said to take a whole head must survive being handed anything else.
fn anything(bytes: &[u8]) {
    let mut index = HeadIndex::default();
    for policy in policies() {
        index.clear();
        let _ = Http1::request(bytes, &policy, &TIGHT, &mut index);
        for field in &index.fields {
            let inside = |span: Span| !span.is_some() || span.of(bytes).is_some();
            assert!(inside(field.name) && inside(field.value), "{field:?} lies outside");
        }
    }
    for asked in asked() {
        index.clear();
        let _ = Http1::reply(bytes, &asked, &TIGHT, &mut index);
    }
}

/// What a request means, in bytes of its own.
#[derive(Debug, PartialEq)]
struct Meaning {
    slots: [Option<Vec<u8>>; 6],
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Framing,
    awaits: bool,
    tunnel: bool,
}

const SLOTS: [Slot; 6] = [Slot::Method, Slot::Target, Slot::Authority, Slot::Host, Slot::Path, Slot::Query];

impl Meaning {
    fn of(head: Head<'_>, asked: &Asked) -> Self {
        let slots = SLOTS.map(|slot| head.slot(slot).map(<[u8]>::to_vec));
        let Asked { body, awaits, tunnel, .. } = *asked;
        Self { slots, fields: pairs(head, &head.index.fields[1..]), body, awaits, tunnel }
    }
}

fn pairs(head: Head<'_>, fields: &[Field]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |span: Span| span.of(head.bytes).expect("a field lies in its head").to_vec();
    fields.iter().map(|field| (bytes(field.name), bytes(field.value))).collect()
}

fn request(head: &[u8], asked: Asked, policy: &Policy, limits: &Limits) {
    let (mut index, mut again) = (HeadIndex::default(), HeadIndex::default());
    assert_eq!(Http1::request(head, policy, limits, &mut index), Ok(asked));
    assert!(!matches!(asked.body, Framing::Length(length) if length > limits.body_max));
    let head = Head { bytes: head, index: &index };
    let hop = Hop { policy, peer: None, authority: ADDRESS, request_id: "1" };
    let (mut spelled, mut twice) = (Vec::new(), Vec::new());
    let body = Http1::forward(head, &asked, &hop, &mut spelled);
    assert_eq!(body.is_done(), matches!(asked.body, Framing::None | Framing::Length(0)));
    plain(&spelled, true, asked.body);
    let found = Http1::find(&spelled, 0, Side::Request, &WIDE);
    assert_eq!(found, Find::Head { len: spelled.len() }, "{}", text(&spelled));
    let asked_again = Http1::request(&spelled, policy, &WIDE, &mut again);
    let asked_again = asked_again.unwrap_or_else(|fault| panic!("{fault:?}: {}", text(&spelled)));
    let head_again = Head { bytes: &spelled, index: &again };
    let (mut before, after) = (Meaning::of(head, &asked), Meaning::of(head_again, &asked_again));
    if before.slots[2].is_none() {
        // An old caller that named no host.
        before.slots[2] = after.slots[2].clone().filter(|authority| authority == ADDRESS.as_bytes());
        before.slots[3].clone_from(&after.slots[3]);
    }
    if policy.via.is_none() {
        assert_eq!(before, after, "{}", text(&spelled));
        Http1::forward(head_again, &asked_again, &hop, &mut twice);
        assert_eq!(text(&spelled), text(&twice));
    } else {
        assert_eq!((before.slots, before.body), (after.slots, after.body), "{}", text(&spelled));
    }
    refusals(&asked);
}

/// A refusal is one whole answer, which the caller cannot take for anything else.
fn refusals(asked: &Asked) {
    let message = "outrigger: fuzzed";
    let whole = |out: &[u8]| {
        let mut index = HeadIndex::default();
        let Find::Head { len } = Http1::find(out, 0, Side::Reply, &WIDE) else { panic!("{}", text(out)) };
        let reply = Http1::reply(&out[..len], asked, &WIDE, &mut index).expect("our own answer passes");
        let length = if let Framing::Length(length) = reply.body { length as usize } else { 0 };
        assert_eq!(out.len() - len, length, "{}", text(out));
    };
    let mut out = Vec::new();
    for why in Refusal::ALL {
        out.clear();
        Http1::refuse(Some(asked), why, None, message, !asked.keep, &mut out);
        whole(&out);
    }
    out.clear();
    Http1::fault(&[], Some(asked), Fault::BodyTooLarge, message, &mut out);
    whole(&out);
}

/// A head that was written anew, read in the simplest way: lines that end in CRLF, one framing, one host.
fn plain(head: &[u8], request: bool, body: Framing) {
    let shown = text(head);
    let lines = head.strip_suffix(b"\r\n\r\n").expect("a head ends with its empty line");
    let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end()).collect();
    let crlf = head.windows(2).filter(|pair| pair == b"\r\n").count();
    for byte in [b'\r', b'\n'] {
        assert_eq!(head.iter().filter(|it| **it == byte).count(), crlf, "{shown}");
    }
    assert!(
        head.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b'\t') || (*byte >= 0x20 && *byte != 0x7f)),
        "{shown}"
    );
    let count = |name: &str| {
        let is = |line: &&&[u8]| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
            line[..colon].trim_ascii().eq_ignore_ascii_case(name.as_bytes())
        };
        lines[1..].iter().filter(is).count()
    };
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    assert_eq!(codings, usize::from(body == Framing::Chunked), "{shown}");
    if request {
        assert_eq!(lengths, usize::from(matches!(body, Framing::Length(_))), "{shown}");
        assert_eq!(count("host"), 1, "{shown}");
    }
    assert!(lengths + codings <= 1 && count("connection") <= 1, "{shown}");
    for hop in ["keep-alive", "proxy-connection", "te", "http2-settings"] {
        assert_eq!(count(hop), 0, "{shown}");
    }
}

/// Requests of every kind that an answer depends on.
fn asked() -> Vec<Asked> {
    let requests: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    let policy = Policy { connect: true, ..Policy::default() };
    let ask = |head| Http1::request(head, &policy, &WIDE, &mut HeadIndex::default()).expect("a good request");
    requests.map(ask).into()
}

/// Holds the gate of answers to its promises.
pub fn replies(bytes: &[u8]) {
    for (at, asked) in asked().into_iter().enumerate() {
        for limits in [WIDE, TIGHT] {
            let read = |head: &[u8]| Http1::reply(head, &asked, &limits, &mut HeadIndex::default());
            if let Verdict::Passed(len, reply) = settled(bytes, Side::Reply, &limits, read) {
                for close in [false, true] {
                    answer(&bytes[..len], &asked, reply, close, at == 3);
                }
            }
        }
    }
}

fn answer(head: &[u8], asked: &Asked, reply: Reply, close: bool, old: bool) {
    let (mut index, mut again) = (HeadIndex::default(), HeadIndex::default());
    assert_eq!(Http1::reply(head, asked, &WIDE, &mut index), Ok(reply));
    let head = Head { bytes: head, index: &index };
    let policy = Policy::default();
    let (mut spelled, mut twice) = (Vec::new(), Vec::new());
    let body = Http1::answer(head, asked, &reply, &policy, close, &mut spelled);
    assert_eq!(body.is_done(), matches!(reply.body, Framing::None | Framing::Length(0)));
    let shown = Http1::shows_interim(head, asked);
    assert!(!(old && shown), "an interim answer to an old caller");
    assert!(!matches!(reply.kind, ReplyKind::Interim | ReplyKind::Switch) || reply.body == Framing::None);
    assert!(reply.kind != ReplyKind::Switch || asked.tunnel, "a tunnel that nobody asked for");
    let told = match reply.body {
        Framing::Chunked | Framing::Close if old => Framing::Close,
        Framing::Close => Framing::Chunked,
        body => body,
    };
    plain(&spelled, false, told);
    let found = Http1::find(&spelled, 0, Side::Reply, &WIDE);
    assert_eq!(found, Find::Head { len: spelled.len() }, "{}", text(&spelled));
    let reply_again = Http1::reply(&spelled, asked, &WIDE, &mut again);
    let reply_again = reply_again.unwrap_or_else(|Malformed(why)| panic!("{why}: {}", text(&spelled)));
    // Its version is ours now.
    let expected = Reply { body: told, keep: reply_again.keep, ticket: reply_again.ticket, ..reply };
    assert_eq!(reply_again, expected, "{}", text(&spelled));
    if reply.kind == ReplyKind::Final {
        assert_eq!(reply_again.keep, !close, "{}", text(&spelled));
    }
    let head_again = Head { bytes: &spelled, index: &again };
    assert_eq!(pairs(head, &index.fields), pairs(head_again, &again.fields));
    Http1::answer(head_again, asked, &reply_again, &policy, close, &mut twice);
    assert_eq!(text(&spelled), text(&twice));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A body's sender and receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Length(u64),
    ChunkedToChunked,
    ChunkedToRaw,
    /// A request's.
    ChunkedToEndpoint,
    CloseToChunked,
    CloseToRaw,
}

impl Way {
    /// The decoder that the codec itself chooses for it.
    fn body(self) -> Http1Body {
        let (mut index, mut out) = (HeadIndex::default(), Vec::new());
        let policy = Policy::default();
        if self == Self::ChunkedToEndpoint {
            let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let asked = Http1::request(bytes, &policy, &WIDE, &mut index).expect("a good request");
            let hop = Hop { policy: &policy, peer: None, authority: ADDRESS, request_id: "" };
            return Http1::forward(Head { bytes, index: &index }, &asked, &hop, &mut out);
        }
        let old = matches!(self, Self::ChunkedToRaw | Self::CloseToRaw);
        let (head, asked) = (self.head(), asked()[if old { 3 } else { 0 }]);
        let reply = Http1::reply(&head, &asked, &WIDE, &mut index).expect("a good answer");
        let head = Head { bytes: &head, index: &index };
        Http1::answer(head, &asked, &reply, &policy, false, &mut out)
    }

    fn head(self) -> Vec<u8> {
        let framing = match self {
            Self::Length(length) => format!("Content-Length: {length}\r\n"),
            Self::ChunkedToChunked | Self::ChunkedToRaw | Self::ChunkedToEndpoint => {
                "Transfer-Encoding: chunked\r\n".to_owned()
            }
            Self::CloseToChunked | Self::CloseToRaw => String::new(),
        };
        format!("HTTP/1.1 200 OK\r\n{framing}\r\n").into_bytes()
    }
}

/// What became of a body that arrived in pieces.
#[derive(Debug, PartialEq)]
struct Passage {
    /// What was passed on, without the framing of pieces that are made here.
    out: Vec<u8>,
    /// Where it ended, or all; 0 when it broke.
    used: usize,
    done: bool,
    fault: Option<Fault>,
}

fn pass(way: Way, bytes: &[u8], step: usize, limits: &Limits) -> Passage {
    let (mut body, mut out, mut used) = (way.body(), Vec::new(), 0);
    let mut fault = None;
    for piece in bytes.chunks(step) {
        let (before, was_done) = (out.len(), body.is_done());
        match body.pass(piece, limits, &mut out) {
            Ok(passed) => {
                assert_eq!(passed.done, body.is_done());
                assert!(passed.used == piece.len() || (passed.done && passed.used < piece.len()));
                assert!(!was_done || (passed.used == 0 && out.len() == before), "something after the end");
                used += passed.used;
            }
            Err(why) => {
                fault = Some(why);
                break;
            }
        }
        assert!(out.len() - before <= 2 * piece.len() + limits.head_max.min(2 * bytes.len()) + 32);
    }
    assert!(fault.is_none() || !body.is_done(), "an end after {fault:?}");
    let done = body.is_done();
    let told = out.len();
    let ends = body.end(&mut out);
    let by_close = matches!(way, Way::CloseToChunked | Way::CloseToRaw);
    assert_eq!(ends, done || (by_close && fault.is_none()));
    if way == Way::CloseToChunked && fault.is_none() {
        let (data, end) = dechunk(&out);
        assert_eq!(end, Some(out.len()), "ended in order");
        out = data;
    } else {
        assert_eq!(out.len(), told, "only what ends with its connection needs to be told so");
    }
    Passage { out, used: if fault.is_none() { used } else { 0 }, done, fault }
}

/// Holds the decoder of bodies to its promises.
pub fn bodies(bytes: &[u8]) {
    let length = bytes.first().map_or(0, |first| u64::from(*first) * 3);
    let ways = [
        Way::Length(length),
        Way::ChunkedToChunked,
        Way::ChunkedToRaw,
        Way::ChunkedToEndpoint,
        Way::CloseToChunked,
        Way::CloseToRaw,
    ];
    for limits in [WIDE, TIGHT] {
        for way in ways {
            let whole = pass(way, bytes, bytes.len().max(1), &limits);
            for step in [1, chosen(bytes)] {
                assert_eq!(whole, pass(way, bytes, step, &limits), "{way:?} in pieces of {step}");
            }
            check(way, bytes, &whole, &limits);
        }
    }
}

fn check(way: Way, bytes: &[u8], whole: &Passage, limits: &Limits) {
    let Passage { out, used, done, fault } = whole;
    match way {
        Way::Length(length) => {
            let n = bytes.len().min(length as usize);
            assert_eq!((&out[..], *used, *done, *fault), (&bytes[..n], n, n as u64 == length, None));
        }
        Way::CloseToChunked | Way::CloseToRaw => assert_eq!((&out[..], *fault), (bytes, None)),
        Way::ChunkedToChunked | Way::ChunkedToRaw | Way::ChunkedToEndpoint => {
            let (sent, end) = dechunk(&bytes[..if *done { *used } else { bytes.len() }]);
            let (data, out_end) = if way == Way::ChunkedToRaw { (out.clone(), None) } else { dechunk(out) };
            assert!(data.len() as u64 <= limits.body_max, "more than body_max");
            if fault.is_some() {
                assert!(sent.starts_with(&data), "not what was sent");
                assert_eq!(out_end, None, "an end after {fault:?}");
                return;
            }
            assert_eq!(sent, data, "not what was sent");
            assert_eq!(end, done.then_some(*used), "another end");
            if way != Way::ChunkedToRaw {
                assert_eq!(out_end, done.then_some(out.len()), "another end");
                spelled(out);
            }
        }
    }
}

/// The data of a chunked body as far as it is there, and where the body ends: the simplest reader that can be.
pub fn dechunk(bytes: &[u8]) -> (Vec<u8>, Option<usize>) {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = line(&bytes[at..]) else { return (data, None) };
        at += line.len() + 2;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let hex = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
        let Some(size) = hex.and_then(|digits| usize::from_str_radix(digits, 16).ok()) else {
            return (data, None);
        };
        if size == 0 {
            break;
        }
        let there = size.min(bytes.len() - at);
        data.extend_from_slice(&bytes[at..at + there]);
        at += there;
        if there < size || !bytes[at..].starts_with(b"\r\n") {
            return (data, None);
        }
        at += 2;
    }
    loop {
        let Some(line) = line(&bytes[at..]) else { return (data, None) };
        at += line.len() + 2;
        if line.is_empty() {
            return (data, Some(at));
        }
    }
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.windows(2).position(|pair| pair == b"\r\n").map(|end| &bytes[..end])
}

/// Chunks that were written anew are spelled in one way only: so that they come out as they went in.
fn spelled(out: &[u8]) {
    let again = pass(Way::ChunkedToChunked, out, out.len().max(1), &WIDE);
    assert_eq!((&again.out[..], again.fault), (out, None), "another spelling");
}
