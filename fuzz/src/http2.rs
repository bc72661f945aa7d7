//! One HTTP/2 connection under any bytes and any orders: what it says must be well-formed, and never more than it may.
//!
//! The bytes are a script: what a peer sends, whole frames among it, and what an engine asks of the link meanwhile. Beside
//! the link stands a peer that reads what it says as RFC 9113 lets it and shares no code with it but the decompression.
//! Must never ask of the link what an engine would not.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_codec::{
    Code, Event, Link, Message, Policy, ReplyKind, Slot, Step, Tag,
    exchange::{Limits, Underscores},
    streams::LinkSettings,
};
use outrigger_http2::{
    Http2Link,
    hpack::{Decoded, Decoder, ListLimits},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EVENTS_MAX: usize = 400;
const LIMITS: Limits = Limits { head_max: 4 << 10, headers_max: 20, uri_max: 1 << 10, body_max: 1 << 20 };
const SETTINGS: LinkSettings = LinkSettings { limits: LIMITS, streams_max: 6, window: 40 << 10 };
/// What the largest window of a stream may become.
const AHEAD_MAX: u64 = 1 << 20;
const HELD_MAX: usize = 128 << 10;
const LIST: ListLimits = ListLimits { bytes: 1 << 20, lines: 1 << 10 };

/// Blocks that a peer may send: requests, answers and trailers, good and bad, in few bytes.
#[rustfmt::skip]
const BLOCKS: [&[u8]; 12] = [
    b"\x83\x86\x84\x41\x01a",
    b"\x82\x86\x84\x01\x01a\x5f\x10application/grpc",
    b"\x83\x86\x84\x01\x01a\x5c\x015",
    b"\x02\x04HEAD\x86\x84\x01\x01a",
    b"\x88\x5f\x10application/grpc",
    b"\x88\x5c\x015",
    b"\x08\x03100",
    b"\x89",
    b"\x40\x0bgrpc-status\x010",
    b"\x40\x0agrpc-trace\x03abc\xbe",
    b"\x02\x07CONNECT\x01\x03a:1",
    b"\x20\x83\x86\x84\x10\x01x\x01y",
];

/// Lives through the script.
pub fn life(script: &[u8]) {
    let Some((first, script)) = script.split_first() else { return };
    let mut world = World::new(first & 1 == 0);
    if first & 2 == 0 {
        if world.server {
            world.deliver(PREFACE, 5);
        }
        let frame = frame(4, 0, 0, &[0, 4, 0, 0, 0x20, 0]);
        world.deliver(if first & 4 == 0 { &frame } else { &frame[..9 + 6] }, 4);
    }
    let mut script = Script(script);
    for _ in 0..EVENTS_MAX {
        let Some(event) = script.byte() else { break };
        if world.over {
            break;
        }
        world.event(event, &mut script);
        world.measure();
    }
}

/// What is still to come.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    fn bytes(&mut self, n: usize) -> &'a [u8] {
        let n = n.min(self.0.len());
        self.0.split_off(..n).unwrap_or_default()
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = (payload.len() as u32).to_be_bytes();
    [&len[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// How much of a message the engine said.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Nothing,
    Head,
    All,
}

/// A stream as the engine knows it.
#[derive(Debug)]
struct Call {
    said: Said,
    /// Bytes that came and were not given back.
    owed: u64,
    heard: bool,
}

struct World {
    server: bool,
    link: Http2Link,
    policy: Policy,
    message: Message,
    carry: Vec<u8>,
    out: Vec<u8>,
    peer: Peer,
    calls: BTreeMap<u32, Call>,
    over: bool,
}

impl World {
    fn new(server: bool) -> Self {
        let mut world = Self {
            server,
            link: Http2Link::new(server, &SETTINGS),
            policy: Policy { underscores: Underscores::Reject, ..Policy::default() },
            message: Message::default(),
            carry: Vec::new(),
            out: Vec::new(),
            peer: Peer::new(server),
            calls: BTreeMap::new(),
            over: false,
        };
        world.link.greet(&mut world.out);
        world.peer.read(&mut world.out);
        world
    }

    fn event(&mut self, event: u8, script: &mut Script<'_>) {
        let which = usize::from(event >> 4);
        let stream = 2 * (which as u32 & 7) + u32::from(which < 8);
        match event & 15 {
            0 => {
                let n = usize::from(script.byte().unwrap_or_default());
                let bytes = script.bytes(n).to_vec();
                self.deliver(&bytes, which + 1);
            }
            1..=2 => {
                let (kind, flags) = (script.byte().unwrap_or_default(), script.byte().unwrap_or_default());
                let n = usize::from(script.byte().unwrap_or_default() & 63);
                let bytes = frame(kind % 11, flags, stream, script.bytes(n));
                self.deliver(&bytes, usize::MAX);
            }
            3..=4 => {
                let block = BLOCKS[usize::from(script.byte().unwrap_or_default()) % BLOCKS.len()];
                let flags = if event & 15 == 3 { 4 } else { 5 };
                self.deliver(&frame(1, flags, stream, block), usize::MAX);
            }
            5 => {
                let n = usize::from(script.byte().unwrap_or_default()) * 64;
                let n = if n > 255 * 63 { 16_384 } else { n };
                self.deliver(&frame(0, 0, stream, &vec![b'x'; n]), usize::MAX);
            }
            6 => self.deliver(&frame(0, 1, stream, b"hello"), usize::MAX),
            7 => {
                let more = u32::from(script.byte().unwrap_or_default()) * 500;
                self.deliver(&frame(8, 0, if which == 8 { 0 } else { stream }, &more.to_be_bytes()), 9);
            }
            8 => self.open(which),
            9 => self.head(which, false),
            10 => self.head(which, true),
            11 => {
                let n = usize::from(script.byte().unwrap_or_default()) * 300;
                self.data(which, n, event & 0x80 != 0);
            }
            12 => self.trailers(which),
            13 => self.release(which),
            14 => self.reset(which),
            _ => self.rest(which),
        }
    }

    /// The peer sends bytes, in pieces.
    fn deliver(&mut self, bytes: &[u8], step: usize) {
        for piece in bytes.chunks(step.min(bytes.len()).max(1)) {
            self.carry.extend_from_slice(piece);
            self.take();
        }
    }

    fn take(&mut self) {
        while !self.carry.is_empty() && !self.over {
            let Step { used, event } =
                self.link.receive(&self.carry, &self.policy, &mut self.message, &mut self.out);
            assert!(used <= self.carry.len());
            if let Event::Partial { total } = event {
                assert!(used == 0 && total > self.carry.len() && total <= 9 + 16_384, "{event:?}");
                break;
            }
            assert!(used > 0, "nothing was done with {:?}", &self.carry);
            self.over = matches!(event, Event::Broken { .. });
            let unit: Vec<u8> = self.carry[..used].to_vec();
            // What breaks the connection is not acted on.
            if !self.over {
                self.peer.sent(&unit);
            }
            self.peer.read(&mut self.out);
            assert!(!self.over || self.peer.goodbye == Some(true), "broken without a word");
            self.told(event, &unit);
            self.carry.drain(..used);
        }
    }

    fn told(&mut self, event: Event, unit: &[u8]) {
        match event {
            Event::Request { stream, end, .. } => {
                self.looks();
                let call = Call { said: Said::Nothing, owed: 0, heard: end };
                assert!(self.calls.insert(stream, call).is_none(), "a request twice");
                self.link.adopt(stream, Tag(stream.into()));
            }
            Event::Fault { stream, .. } => {
                self.message.clear();
                self.message.set(Slot::Target, b"400");
                self.link.disown(stream);
                self.link.answer(stream, self.message.head(), ReplyKind::Final, true, &mut self.out);
                self.peer.read(&mut self.out);
            }
            Event::Answer { tag, kind, end } => {
                self.looks();
                let call = self.calls.get_mut(&(tag.0 as u32)).expect("an answer to a call");
                assert!(!call.heard && !(end && kind == ReplyKind::Interim));
                call.heard = end;
            }
            Event::Data { tag, at, len, end } => {
                assert!(unit.get(at..at + len).is_some(), "a body outside of its frame");
                let call = self.calls.get_mut(&(tag.0 as u32)).expect("a body of a call");
                assert!(!call.heard, "a body behind its end");
                call.heard = end;
                call.owed += len as u64;
                assert!(call.owed <= AHEAD_MAX, "{} bytes ahead", call.owed);
            }
            Event::Trailers { tag } => {
                self.looks();
                let call = self.calls.get_mut(&(tag.0 as u32)).expect("trailers of a call");
                assert!(!std::mem::replace(&mut call.heard, true), "trailers behind the end");
            }
            Event::Reset { tag, .. } => {
                assert!(self.calls.remove(&(tag.0 as u32)).is_some(), "the end of no call");
            }
            Event::Retired => {
                let mut gone = Vec::new();
                self.link.unprocessed(&mut gone);
                for tag in gone.into_iter().filter(|tag| *tag != Tag::default()) {
                    assert!(self.calls.remove(&(tag.0 as u32)).is_some(), "the end of no call");
                }
            }
            Event::Room { .. } | Event::Widened | Event::Alive | Event::Nothing | Event::Broken { .. } => {}
            Event::Wait | Event::Partial { .. } => panic!("{event:?}"),
        }
        self.settle();
    }

    /// Every span of the head that was read lies inside it, and every secret is one of its headers.
    fn looks(&self) {
        let Message { bytes, index } = &self.message;
        assert!(bytes.len() <= LIMITS.head_max + 32 * 30 && index.fields.len() <= LIMITS.headers_max + 5);
        for field in &index.fields {
            let (name, value) = (field.name.of(bytes), field.value.of(bytes));
            let (name, value) = (name.expect("a name"), value.expect("a value"));
            assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_uppercase), "{name:?}");
            assert!(!name.iter().chain(value).any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{value:?}");
        }
        assert!(
            index.sensitive.is_sorted()
                && index.sensitive.iter().all(|at| (*at as usize) < index.fields.len())
        );
    }

    /// The engine is done with what ended in both directions.
    fn settle(&mut self) {
        self.calls.retain(|_, call| !(call.heard && call.said == Said::All));
    }

    /// One of the calls that have said so much.
    fn pick(&self, which: usize, said: Said) -> Option<u32> {
        let fit: Vec<u32> =
            self.calls.iter().filter(|(_, call)| call.said == said).map(|(at, _)| *at).collect();
        fit.get(which.checked_rem(fit.len())?).copied()
    }

    fn open(&mut self, which: usize) {
        if self.server || self.link.room() == 0 {
            return;
        }
        // The tag is known before the number.
        let next = self.peer.opened + if self.peer.opened == 0 { 1 } else { 2 };
        let stream = self.link.open(Tag(next.into()));
        assert_eq!(stream, next);
        self.calls.insert(stream, Call { said: Said::Nothing, owed: 0, heard: false });
        // An engine opens and asks at once.
        let at = self.calls.values().filter(|call| call.said == Said::Nothing).count() - 1;
        self.head(at, which >= 8);
    }

    fn head(&mut self, which: usize, end: bool) {
        let Some(stream) = self.pick(which, Said::Nothing) else { return };
        let mut head = Message::default();
        if self.server {
            head.set(Slot::Target, b"200 OK");
        } else {
            head.set(Slot::Method, if which == 3 { b"HEAD" } else { b"POST" });
            head.set(Slot::Target, b"/a");
        }
        for at in 0..which {
            head.add(format!("x-header-{at}").as_bytes(), "value".repeat(at * which).as_bytes());
        }
        if which & 3 == 1 {
            head.index.sensitive.push(0);
        }
        if self.server {
            if which & 3 == 2 {
                let mut interim = Message::default();
                interim.set(Slot::Target, b"103 Early Hints");
                self.link.answer(stream, interim.head(), ReplyKind::Interim, false, &mut self.out);
            }
            self.link.answer(stream, head.head(), ReplyKind::Final, end, &mut self.out);
        } else {
            self.link.request(stream, head.head(), end, "authority", &mut self.out);
        }
        self.says(stream, if end { Said::All } else { Said::Head });
    }

    fn data(&mut self, which: usize, n: usize, end: bool) {
        let Some(stream) = self.pick(which, Said::Head) else { return };
        let bytes = vec![b'y'; n];
        let fits = self.link.fits(stream, n);
        let sent = self.link.data(stream, &bytes, end, &mut self.out);
        assert!(sent <= n && (n == 0 || (sent == n) == fits), "{sent} of {n}, fits: {fits}");
        self.says(stream, if end && sent == n { Said::All } else { Said::Head });
    }

    fn trailers(&mut self, which: usize) {
        let Some(stream) = self.pick(which, Said::Head) else { return };
        let mut head = Message::default();
        head.add(b"grpc-status", b"0");
        if which == 15 && self.server {
            self.link.disown(stream);
            self.calls.remove(&stream);
        }
        self.link.trailers(stream, head.head(), &mut self.out);
        self.says(stream, Said::All);
    }

    fn says(&mut self, stream: u32, said: Said) {
        if let Some(call) = self.calls.get_mut(&stream) {
            call.said = said;
        }
        self.peer.read(&mut self.out);
        self.settle();
    }

    fn release(&mut self, which: usize) {
        let owing: Vec<u32> =
            self.calls.iter().filter(|(_, call)| call.owed > 0).map(|(at, _)| *at).collect();
        let Some(stream) = which.checked_rem(owing.len()).map(|at| owing[at]) else { return };
        let Some(call) = self.calls.get_mut(&stream) else { return };
        let len = if which & 1 == 0 { call.owed } else { call.owed.div_ceil(2) };
        call.owed -= len;
        self.link.release(stream, len as usize, which & 2 == 0, &mut self.out);
        self.peer.read(&mut self.out);
    }

    fn reset(&mut self, which: usize) {
        let keys: Vec<u32> = self.calls.keys().copied().collect();
        let Some(stream) = which.checked_rem(keys.len()).map(|at| keys[at]) else { return };
        self.calls.remove(&stream);
        self.link.reset(stream, Code::CANCEL, &mut self.out);
        self.peer.read(&mut self.out);
    }

    fn rest(&mut self, which: usize) {
        match which {
            0..=3 => self.link.second(),
            4..=5 => assert!(self.link.ask(&mut self.out)),
            6 => self.link.retire(false, &mut self.out),
            7 => self.link.retire(true, &mut self.out),
            8 => self.link.renew(&SETTINGS),
            // The answer to a question of ours.
            9..=10 => self.deliver(&frame(6, 1, 0, b"outrigge"), usize::MAX),
            11..=14 => self.deliver(&frame(4, 0, 0, &[0, 4, 0, 0, which as u8 * 8, 0]), usize::MAX),
            _ => {
                self.link.farewell(Code::NO_ERROR, &[], &mut self.out);
                self.over = true;
            }
        }
        self.peer.read(&mut self.out);
    }

    fn measure(&self) {
        assert!(self.link.held() <= HELD_MAX, "{} bytes are held", self.link.held());
        assert!(self.carry.len() < 9 + 16_384);
        if self.server {
            assert!(self.link.streams() <= SETTINGS.streams_max as usize, "more streams than were allowed");
        }
        assert!(self.over || self.link.streams() >= self.calls.len(), "a call without a stream");
    }
}

/// The other end of the connection: it reads what the link says and knows what the link may say.
struct Peer {
    server: bool,
    /// It knows what the link was given, so that it can tell what was too much.
    strict: bool,
    greeted: bool,
    decoder: Decoder,
    /// What the link may still send on all streams.
    window: i64,
    /// The first window of a stream, and what is left of each.
    initial: i64,
    windows: BTreeMap<u32, i64>,
    /// The last stream that was opened, by whoever opens them.
    opened: u32,
    /// Streams on which the link began its message, and those on which it ended it.
    begun: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    reset: BTreeSet<u32>,
    /// Settings that the link has still to acknowledge.
    unconfirmed: u32,
    block: Option<(u32, bool, Vec<u8>)>,
    prefaced: usize,
    /// The link said GOAWAY; `true`: because something is wrong.
    goodbye: Option<bool>,
}

impl Peer {
    fn new(server: bool) -> Self {
        Self {
            server,
            strict: true,
            greeted: false,
            decoder: Decoder::new(4096),
            window: 65_535,
            initial: 65_535,
            windows: BTreeMap::new(),
            opened: 0,
            begun: BTreeSet::new(),
            ended: BTreeSet::new(),
            reset: BTreeSet::new(),
            unconfirmed: 0,
            block: None,
            prefaced: 0,
            goodbye: None,
        }
    }

    /// Notes what the link was given by a unit that it took.
    fn sent(&mut self, unit: &[u8]) {
        if self.server && self.prefaced < PREFACE.len() {
            self.prefaced += unit.len();
            return;
        }
        let (head, payload) = unit.split_at(9);
        let stream = number(&head[5..]) & 0x7fff_ffff;
        match head[3] {
            1 if self.server => self.opened = self.opened.max(stream),
            4 if head[4] & 1 == 0 => {
                self.unconfirmed += 1;
                for [zero, n, value @ ..] in payload.as_chunks::<6>().0 {
                    if payload.len() % 6 == 0 && [*zero, *n] == [0, 4] && value[0] < 0x80 {
                        self.rewindow(u32::from_be_bytes(*value).into());
                    }
                }
            }
            8 if stream == 0 => self.window += i64::from(number(payload) & 0x7fff_ffff),
            8 => {
                *self.windows.entry(stream).or_insert(self.initial) +=
                    i64::from(number(payload) & 0x7fff_ffff)
            }
            _ => {}
        }
    }

    fn rewindow(&mut self, initial: i64) {
        let by = initial - std::mem::replace(&mut self.initial, initial);
        self.windows.values_mut().for_each(|window| *window += by);
    }

    /// Reads all that the link said.
    fn read(&mut self, out: &mut Vec<u8>) {
        let mut rest = &out[..];
        if !self.server && !self.greeted {
            rest = rest.strip_prefix(PREFACE).expect("a client begins with the preface");
        }
        while !rest.is_empty() {
            let (head, later) = rest.split_at_checked(9).expect("a frame's header");
            let [a, b, c, kind, flags, ..] = *head else { panic!("nine bytes") };
            let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            assert!(len <= 16_384, "a frame of {len} bytes");
            let (payload, later) = later.split_at_checked(len).expect("a whole frame");
            let stream = number(&head[5..]);
            assert!(self.greeted || kind == 4, "SETTINGS come first");
            self.greeted = true;
            self.frame(kind, flags, stream, payload);
            rest = later;
        }
        out.clear();
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // An engine takes its calls back from a connection that is broken; that says nothing new.
        let late = self.goodbye == Some(true);
        assert!(!late || (!self.strict && kind == 3), "more is said behind the end");
        assert!(self.block.is_none() || kind == 9, "a frame in the middle of a head");
        let opened = stream % 2 == 1 && (stream <= self.opened || (!self.server && kind == 1));
        assert!(stream == 0 || opened || !self.strict, "kind {kind} on stream {stream}, which is idle");
        let open = !self.ended.contains(&stream) && !self.reset.contains(&stream);
        match kind {
            0 => {
                assert!(open && self.begun.contains(&stream), "DATA out of turn on {stream}");
                let len = payload.len() as i64;
                let window = self.windows.entry(stream).or_insert(self.initial);
                *window -= len;
                self.window -= len;
                assert!(
                    len == 0 || !self.strict || (*window >= 0 && self.window >= 0),
                    "a window is overdrawn by us: {window} of {stream}, {} of all",
                    self.window
                );
                assert!(len > 0 || flags & 1 != 0, "an empty DATA that ends nothing");
                self.ends(flags & 1 != 0, stream);
            }
            1 | 9 => {
                assert!(open && stream != 0 && (kind == 9) == self.block.is_some(), "a head out of turn");
                let (on, end, block) = self.block.get_or_insert((stream, flags & 1 != 0, Vec::new()));
                assert_eq!(*on, stream);
                block.extend_from_slice(payload);
                let (end, whole) = (*end, flags & 4 != 0);
                if whole {
                    self.head(stream, end);
                }
            }
            3 => {
                assert!(payload.len() == 4 && stream != 0);
                self.reset.insert(stream);
            }
            4 if flags & 1 != 0 => {
                assert!(payload.is_empty() && stream == 0);
                let due = self.unconfirmed.checked_sub(1);
                assert!(due.is_some() || !self.strict, "SETTINGS that nobody sent are confirmed");
                self.unconfirmed = due.unwrap_or_default();
            }
            4 => assert!(payload.len() % 6 == 0 && stream == 0 && self.begun.is_empty()),
            6 => assert!(payload.len() == 8 && stream == 0),
            7 => {
                assert!(payload.len() == 8 && stream == 0);
                self.goodbye = Some(number(&payload[4..]) != 0);
            }
            8 => assert!(payload.len() == 4 && (1..=0x7fff_ffff).contains(&number(payload))),
            _ => panic!("a frame of kind {kind}"),
        }
    }

    fn head(&mut self, stream: u32, end: bool) {
        let (_, _, block) = self.block.take().expect("a block");
        let (mut arena, mut first) = (Vec::new(), None);
        let decoded = self.decoder.decode(
            &block,
            LIST,
            |_, _| 0,
            &mut arena,
            |line| {
                first.get_or_insert(line.value);
            },
        );
        assert_eq!(decoded, Ok(Decoded::Whole), "a block that cannot be read");
        let interim = self.server
            && first.and_then(|status| status.of(&arena)).is_some_and(|text| text.starts_with(b"1"));
        let again = self.begun.contains(&stream);
        assert!(end || !again || interim, "trailers that do not end");
        self.opened = self.opened.max(stream);
        if interim && !again {
            assert!(!end, "an interim answer that ends");
            return;
        }
        self.begun.insert(stream);
        self.ends(end, stream);
    }

    fn ends(&mut self, end: bool, stream: u32) {
        if end {
            self.ended.insert(stream);
        }
    }
}

/// What a link said, as far as it was heard, is well-formed. `server`: it speaks to a caller.
pub fn well_formed(server: bool, heard: &[u8]) {
    let preface = if server { 0 } else { PREFACE.len() };
    let mut end = preface.min(heard.len());
    while let Some([a, b, c]) = heard.get(end..end + 3) {
        let len = 9 + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c));
        if heard.len() - end < len {
            break;
        }
        end += len;
    }
    if end > preface {
        let mut peer = Peer::new(server);
        peer.strict = false;
        peer.read(&mut heard[..end].to_vec());
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(*bytes.first_chunk().expect("four bytes"))
}

/// Bytes that come in any pieces say the same, and are answered alike.
pub fn splits(bytes: &[u8]) {
    let whole = alone(bytes, usize::MAX);
    for step in [1, 2 + usize::from(bytes.last().copied().unwrap_or_default())] {
        assert_eq!(whole, alone(bytes, step), "in pieces of {step}");
    }
}

/// What is told and said when nobody does anything but listen.
fn alone(bytes: &[u8], step: usize) -> (Vec<String>, Vec<u8>) {
    let mut link = Http2Link::new(true, &SETTINGS);
    let (policy, mut message) = (Policy::default(), Message::default());
    let (mut told, mut out, mut carry) = (Vec::new(), Vec::new(), Vec::new());
    link.greet(&mut out);
    for piece in bytes.chunks(step.min(bytes.len()).max(1)) {
        carry.extend_from_slice(piece);
        while !carry.is_empty() {
            let Step { used, event } = link.receive(&carry, &policy, &mut message, &mut out);
            match event {
                Event::Partial { .. } => break,
                Event::Nothing => {}
                Event::Broken { .. } => {
                    told.push(format!("{event:?}"));
                    return (told, out);
                }
                event => {
                    if let Event::Request { stream, .. } = event {
                        link.adopt(stream, Tag(stream.into()));
                    }
                    told.push(format!("{event:?}"));
                }
            }
            carry.drain(..used);
        }
    }
    (told, out)
}
