//! Callers: what they may see, byte for byte, and for what reasons their connections may end.
//!
//! Each call gets its own answer, once and whole, or a refusal that can be true, or its caller sees that something is
//! missing. A violation panics; the life says its seed then.

use std::collections::{BTreeMap, VecDeque};

use outrigger::session::arena::Key;
use outrigger_core::Tick;

use crate::{
    calls::{Call, Outcome, Told},
    h2::{Fields, Heard, Peer, code, get},
    life::Pipe,
    wire::{Framing, Part, Reader, Stream, start},
    world::World,
};

/// Bytes of a preface and of SETTINGS: the longest that a caller says first here.
const FIRST: usize = 24 + 9 + 12;

/// How a connection ends for who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Orderly,
    Reset,
}

/// The answer that is being read.
#[derive(Debug)]
struct Answer {
    call: usize,
    /// Which endpoint's; `None`: a refusal of ours.
    attempt: Option<usize>,
    status: u16,
    bodiless: bool,
    /// Its length, where that was told, and the bytes that came.
    told: Option<usize>,
    at: usize,
}

pub(crate) struct Caller {
    pub(crate) number: u32,
    pub(crate) key: Key,
    pub(crate) h1: bool,
    pub(crate) listener: String,
    /// When its listener was taken away.
    pub(crate) leaving: Option<Tick>,
    pub(crate) pipe: Pipe,
    pub(crate) peer: Peer,
    /// It says nothing until then.
    pub(crate) stalled: Option<Tick>,
    /// It took too long before, and may be told so only now.
    stalled_once: bool,
    /// It ends its sending side after what it said, and the engine was told (HTTP/1).
    pub(crate) ends: bool,
    pub(crate) ended: bool,
    /// It is gone, but nobody has noticed yet.
    pub(crate) gone: bool,
    /// It broke the protocol of its connection, or asked too much.
    pub(crate) wild: bool,
    /// It was silent for too long before what it hears now, and was told goodbye.
    was_silent: bool,
    dismissed: bool,
    /// It was asked to leave.
    wished: bool,
    /// Calls without an outcome, in order.
    pub(crate) waiting: VecDeque<usize>,
    /// Calls that the engine has not read whole.
    pub(crate) unread: Vec<usize>,
    /// The last answer said that the connection ends (HTTP/1).
    pub(crate) closing: bool,
    pub(crate) came: Tick,
    pub(crate) last_in: Tick,
    pub(crate) last_out: Tick,
    pub(crate) tracing: bool,
    reader: Reader,
    /// The last call whose answer was whole.
    answered: Option<usize>,
    /// By stream; HTTP/1 has one, called 0.
    answers: BTreeMap<u32, Answer>,
    streams: BTreeMap<u32, usize>,
}

impl Caller {
    pub(crate) fn new(number: u32, key: Key, h1: bool, listener: String, pipe: Pipe, now: Tick) -> Self {
        Self {
            number,
            key,
            h1,
            listener,
            leaving: None,
            pipe,
            peer: Peer::new(false),
            stalled: None,
            stalled_once: false,
            ends: false,
            ended: false,
            gone: false,
            wild: false,
            was_silent: false,
            dismissed: false,
            wished: false,
            waiting: VecDeque::new(),
            unread: Vec::new(),
            closing: false,
            came: now,
            last_in: now,
            last_out: now,
            tracing: false,
            reader: Reader::default(),
            answered: None,
            answers: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    /// Whether it may say one more request.
    pub(crate) fn is_free(&self) -> bool {
        let over = self.gone || self.wild || self.ends || self.closing || self.peer.goaway.is_some();
        !over && self.waiting.len() < 12
    }

    /// Whether it ends its sending side, and the engine was not told (HTTP/1).
    pub(crate) fn wants_to_end(&self) -> bool {
        self.h1 && self.ends && !self.ended
    }

    /// A call is on this stream.
    pub(crate) fn asks(&mut self, call: &Call) {
        if !self.h1 {
            self.streams.insert(call.stream, call.id);
        }
        self.waiting.push_back(call.id);
        self.unread.push(call.id);
    }

    /// Whether a request of its was begun and has no answer.
    pub(crate) fn waits(&self, world: &World) -> bool {
        self.waiting.iter().any(|call| world.calls[*call].began.is_some())
    }

    /// The next `n` bytes, which are now with the engine.
    pub(crate) fn deliver(&mut self, n: usize, world: &mut World) -> Vec<u8> {
        let now = world.now;
        self.stalled_once |= self.peer.unsent() > 0 && self.late(world);
        let from = self.peer.sent;
        let bytes = self.peer.deliver(n);
        let sent = self.peer.sent;
        self.last_in = now;
        self.unread.retain(|id| {
            let call = &mut world.calls[*id];
            if sent > call.start {
                call.began.get_or_insert(now);
            }
            if sent >= call.head_end && call.headed.is_none() {
                call.headed = Some(now);
                call.comes(now);
            }
            let body = call.h1 && sent > call.head_end && from < call.end.unwrap_or(usize::MAX);
            if body || call.pieces.iter().any(|at| (from + 1..=sent).contains(at)) {
                call.comes(now);
            }
            let whole = call.end.is_some_and(|end| sent >= end);
            if whole {
                call.whole.get_or_insert(now);
            }
            !whole && !call.taken_back(sent)
        });
        bytes
    }

    /// The engine wrote `bytes`.
    pub(crate) fn hears(&mut self, bytes: &[u8], world: &mut World) {
        if !self.cut_off() {
            self.was_silent = world.passed(Some(self.last_in.max(self.last_out)), self.silence(world));
        }
        self.last_out = world.now;
        if self.h1 {
            return self.hears_h1(bytes, world);
        }
        for heard in self.peer.hears(bytes) {
            if self.tracing {
                eprintln!("  caller {} hears {heard:?}", self.number);
            }
            match heard {
                Heard::Head { stream, fields, end } => self.h2_head(stream, &fields, end, world),
                Heard::Data { stream, data, end } => {
                    self.data(stream, &data, world);
                    if end {
                        self.done(stream, None, world);
                    }
                }
                Heard::Reset { stream, code } => self.cut(stream, code, world),
                Heard::Goaway { last, code } => {
                    // Trailers may come long after their stream was ended for them.
                    let trailers = |call: &Call| call.caller == self.number && call.trailer;
                    let behind = code == code::CLOSED && world.calls.iter().any(trailers);
                    let reason = code == code::NO_ERROR || self.wild || behind || self.late(world);
                    assert!(reason, "caller {}: a goodbye without reason: {code}", self.number);
                    self.wild |= behind;
                    // What is under way when it is told to leave is still taken.
                    let leaves = world.draining || self.leaving.is_some();
                    let excused = self.was_silent || world.shut || world.pressing || self.ends || self.wild;
                    let asked = leaves && !self.wished && last < 0x7fff_ffff && code == code::NO_ERROR;
                    assert!(
                        !asked || excused,
                        "caller {} was not asked to leave before it had to",
                        self.number
                    );
                    self.wished = true;
                    self.dismissed |= self.was_silent && code == code::NO_ERROR;
                    let above = |id: &usize| world.calls[*id].stream > last;
                    let gone: Vec<usize> = self.waiting.iter().copied().filter(above).collect();
                    for id in gone {
                        self.ends_with(id, Outcome::Unprocessed, world);
                    }
                }
            }
        }
    }

    /// Whether what it began to say may not have been finished in time.
    pub(crate) fn late(&self, world: &World) -> bool {
        let limit = world.shape.manners.head_timeout;
        // A head that drips in takes no longer for that.
        let drips = self.unread.iter().any(|id| world.passed(world.calls[*id].began, limit));
        let fresh = !self.h1 && self.peer.sent < FIRST && world.passed(Some(self.came), limit);
        self.stalled_once || drips || fresh || world.passed(Some(self.last_in), limit)
    }

    /// A call of its is over.
    pub(crate) fn ends_with(&mut self, id: usize, outcome: Outcome, world: &mut World) {
        self.waiting.retain(|other| *other != id);
        let call = &mut world.calls[id];
        assert!(call.outcome.is_none(), "call {id} ended as {:?}, and now as {outcome:?}", call.outcome);
        call.outcome = Some(outcome);
        let processed = outcome == Outcome::Unprocessed && !call.attempts.is_empty();
        assert!(!processed, "call {id} is said not to be processed, and was");
    }

    fn h2_head(&mut self, stream: u32, fields: &Fields, end: bool, world: &mut World) {
        let id = self.streams[&stream];
        if world.calls[id].outcome == Some(Outcome::Left) {
            return;
        }
        if self.answers.contains_key(&stream) {
            return self.done(stream, Some(fields), world);
        }
        let status = get(fields, ":status").and_then(|text| text.parse().ok()).expect("a status");
        if status < 200 {
            return self.interim(status, id, fields, world);
        }
        let told = get(fields, "content-length").map(|text| text.parse().expect("a length"));
        self.answer(stream, id, status, told, fields, end, world);
        world.calls[id].moves(world.now);
        if end {
            self.done(stream, None, world);
        }
    }

    /// The head of a final answer.
    #[allow(clippy::too_many_arguments, reason = "all of one head")]
    fn answer(
        &mut self,
        stream: u32,
        id: usize,
        status: u16,
        told: Option<usize>,
        fields: &Fields,
        end: bool,
        world: &mut World,
    ) {
        let error = get(fields, "x-outrigger-error");
        let from = error.is_none().then(|| self.said_by(id, fields, world));
        let call = &world.calls[id];
        assert!(call.began.is_some(), "call {id} was answered before it was asked");
        if let Some(name) = error {
            let status = if call.grpc { status_of(fields) } else { status };
            let sound = world.plausible(status, name, call) && (!call.grpc || end);
            assert!(sound, "call {id} was refused without reason: {status} {name}, {call:?}");
        }
        if let Some(at) = from {
            let reply = call.attempts[at].reply.as_ref();
            let reply = reply.unwrap_or_else(|| panic!("call {id}: an answer that nobody gave"));
            assert_eq!(status, reply.status, "call {id}: the status");
            // One that is not complete may say so, or something else.
            let length = (reply.told == Told::Length).then_some(reply.len + usize::from(reply.lies));
            let empty = told == Some(0) && self.h1 && reply.len == 0;
            assert!(told == length || status == 204 || empty, "call {id}: {length:?} became {told:?}");
        }
        let bodiless = call.method == "HEAD" || status == 204 || status == 304;
        let status = if error.is_some() && call.grpc { 1_000 + status_of(fields) } else { status };
        self.answers.insert(stream, Answer { call: id, attempt: from, status, bodiless, told, at: 0 });
    }

    /// The attempt that an answer's head, interim or final, is from: the first that was answered, except for those that
    /// may have been left before that; and from then on no other.
    fn said_by(&self, id: usize, fields: &Fields, world: &mut World) -> usize {
        let (call, number) = (&mut world.calls[id], self.number);
        let named =
            get(fields, "x-answer").and_then(|name| name.strip_prefix(&format!("{id}-"))?.parse().ok());
        let at =
            named.unwrap_or_else(|| panic!("caller {number} got the answer to another call: {fields:?}"));
        let place = call.answers.iter().position(|other| *other == at);
        let place = place.unwrap_or_else(|| panic!("call {id}: an answer that nobody gave: {call:?}"));
        let first = call.answers[..place].iter().all(|other| call.attempts[*other].doubtful);
        assert!(first, "call {id} was answered by another first, and got {at}: {call:?}");
        assert!(call.got.is_none_or(|got| got == at), "call {id} got two answers: {call:?}");
        call.got = Some(at);
        at
    }

    fn interim(&self, status: u16, id: usize, fields: &Fields, world: &mut World) {
        let at = self.said_by(id, fields, world);
        let call = &world.calls[id];
        assert!(!call.old, "call {id}: {status} for HTTP/1.0");
        let given = call.attempts[at].interims.contains(&status);
        assert!(given, "call {id}: {status} that nobody gave");
        assert!(status != 100 || call.expects, "call {id}: 100 that it did not ask for");
    }

    fn data(&mut self, stream: u32, data: &[u8], world: &mut World) {
        let Some(answer) = self.answers.get_mut(&stream) else {
            let id = self.streams[&stream];
            return assert_eq!(world.calls[id].outcome, Some(Outcome::Left), "call {id}: bytes of nobody");
        };
        let at = answer.at;
        answer.at += data.len();
        let call = &mut world.calls[answer.call];
        call.moves(world.now);
        let Some(attempt) = answer.attempt else { return };
        let reply = call.attempts[attempt].reply.as_ref().expect("checked with its head");
        assert!(answer.at <= reply.len, "call {}: the answer is longer than it was", call.id);
        let body = Stream::Answered(call.id, attempt);
        assert!(data == body.bytes(at, data.len()), "{body:?} at {at}: other bytes: {:?}", start(data));
    }

    /// An answer ended as its framing says, with these trailers.
    fn done(&mut self, stream: u32, trailers: Option<&Fields>, world: &mut World) {
        let id = self.streams[&stream];
        if world.calls[id].outcome == Some(Outcome::Left) {
            return;
        }
        let answer = self.answers.get(&stream).expect("an end comes behind a head");
        let call = &world.calls[id];
        if let Some(name) = trailers.and_then(|fields| get(fields, "x-outrigger-error")) {
            assert!(call.grpc && world.unlucky(call), "call {id} was cut without reason: {name}, {call:?}");
            return self.ends_with(id, Outcome::Cut, world);
        }
        if let Some(told) = answer.told.filter(|_| !answer.bodiless) {
            assert_eq!(answer.at, told, "call {id}: the length that was told");
        }
        let Some(attempt) = answer.attempt else {
            return self.ends_with(id, Outcome::Refused(answer.status), world);
        };
        let reply = call.attempts[attempt].reply.as_ref().expect("checked with its head");
        // Where its length is told, nobody waits to be told of its end as well.
        let counted = self.h1 && reply.told == Told::Length && !reply.lies;
        assert!(reply.complete || counted, "call {id}: an incomplete answer looks complete: {call:?}");
        let len = if answer.bodiless { 0 } else { reply.len };
        assert_eq!(answer.at, len, "call {id}: the answer's length");
        let carried = reply.trailer && !answer.bodiless && (!self.h1 || reply.told == Told::End) && !call.old;
        let expected: Fields = if carried {
            call.trailers(true).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        } else {
            Fields::new()
        };
        let trailers = trailers.cloned().unwrap_or_default();
        assert_eq!(trailers, expected, "call {id}: the trailers of {reply:?}");
        self.answered = Some(id);
        self.ends_with(id, Outcome::Answered, world);
    }

    /// The engine ended a stream.
    fn cut(&mut self, stream: u32, code: u32, world: &mut World) {
        let id = self.streams[&stream];
        let call = &world.calls[id];
        match call.outcome {
            Some(Outcome::Left) => {}
            Some(Outcome::Answered | Outcome::Refused(_) | Outcome::Cut) => {
                assert_eq!(code, code::NO_ERROR, "call {id} was answered, and then {code}: {call:?}");
            }
            Some(outcome) => panic!("call {id} ended as {outcome:?}, and then {code}"),
            None => {
                assert!(world.unlucky(call), "call {id} was cut without reason: {code}, {call:?}");
                assert_ne!(code, code::NO_ERROR, "call {id} was cut as if nothing had happened");
                let begun = call.carrier().is_some_and(|attempt| attempt.reply.is_some());
                let refused = code == code::REFUSED && !begun;
                assert!(!refused, "call {id} was refused by its endpoint, and went nowhere else: {call:?}");
                self.ends_with(id, Outcome::Cut, world);
            }
        }
    }

    /// Its connection ended, by the engine (`End`) or by itself (`None`).
    pub(crate) fn over(&mut self, end: Option<End>, world: &mut World) {
        if end == Some(End::Orderly) && self.h1 && self.reader.until_close() {
            self.h1_done(world);
        }
        let outcome = if end.is_some() { Outcome::Lost } else { Outcome::Left };
        for id in std::mem::take(&mut self.waiting) {
            self.ends_with(id, outcome, world);
        }
    }

    /// Whether the engine has a reason to end the connection now, as it does.
    pub(crate) fn may_end(&self, end: End, world: &World) -> bool {
        let manners = &world.shape.manners;
        let blocked = self.pipe.blocked_since.is_some() || self.pipe.flush_said;
        let slow = blocked && world.passed(Some(self.last_out), manners.idle_timeout);
        let unended = self.answered.is_some_and(|id| world.calls[id].told_early());
        if world.shut || self.gone || self.wild || slow || (self.h1 && unended) {
            return true;
        }
        if self.closing && self.answers.is_empty() && !self.reader.is_cut() {
            return true;
        }
        let calls = || self.waiting.iter().map(|id| &world.calls[*id]);
        // What was begun and not finished; a preface is, too.
        let begun = calls().any(|call| call.began.is_some() && call.headed.is_none());
        let fresh = !self.h1 && self.peer.sent < FIRST;
        let midway = begun || fresh || self.peer.unsent() > 0;
        if self.stalled_once || (midway && self.late(world)) {
            return true;
        }
        if !calls().any(|call| call.headed.is_some()) {
            let quiet = world.draining || self.leaving.is_some() || self.ended || (self.ends && !self.h1);
            let silent = world.passed(Some(self.last_in.max(self.last_out)), self.silence(world));
            return quiet || silent || self.dismissed || (begun && world.pressing);
        }
        if !self.h1 {
            return false;
        }
        let front = self.waiting.front().map(|id| &world.calls[*id]).expect("it waits");
        let halved = self.ended && calls().any(|call| call.whole.is_none());
        let begun = !self.answers.is_empty() || self.reader.in_head();
        // A reset takes away what waits to be written, and that may be whole answers before the one that broke.
        let reset = if end == End::Reset { usize::MAX } else { 1 };
        let bad = calls().take(reset).any(|call| world.unlucky(call));
        let close = self.closing && self.reader.until_close() && end == End::Orderly;
        halved || (begun && bad) || close || (front.headed.is_none() && world.draining)
    }

    pub(crate) fn silence(&self, world: &World) -> std::time::Duration {
        let own = if self.h1 { 60 } else { 180 };
        world.shape.manners.keepalive_timeout.unwrap_or(std::time::Duration::from_secs(own))
    }

    /// Whether what it got so far is cut somewhere.
    pub(crate) fn cut_off(&self) -> bool {
        if self.h1 { self.reader.is_cut() } else { self.peer.is_cut() }
    }
}

/// What gRPC says of a call.
fn status_of(fields: &Fields) -> u16 {
    get(fields, "grpc-status").and_then(|text| text.parse().ok()).expect("a status")
}

/// HTTP/1.
impl Caller {
    fn hears_h1(&mut self, mut bytes: &[u8], world: &mut World) {
        loop {
            let behind = self.closing && self.answers.is_empty() && !bytes.is_empty();
            assert!(!behind, "bytes behind the last answer: {}", bytes.escape_ascii());
            match self.reader.next(&mut bytes) {
                Some(Part::Head(head)) => self.h1_head(&head, world),
                Some(Part::Data(data)) => self.data(0, data, world),
                Some(Part::End) => self.h1_done(world),
                None => return,
            }
        }
    }

    fn h1_head(&mut self, head: &crate::wire::Head, world: &mut World) {
        let status = head.status();
        let Some(id) = self.waiting.front().copied() else {
            panic!("caller {} asked for nothing: {head:?}", self.number)
        };
        if status < 200 {
            return self.interim(status, id, &head.fields, world);
        }
        let call = &world.calls[id];
        let says = head.get("connection");
        let close = says == Some("close") || (call.old && says != Some("keep-alive"));
        let bodiless = call.method == "HEAD" || status == 204 || status == 304;
        let framing = head.framing();
        assert!(!call.old || framing != Some(Framing::Chunked), "call {id}: chunks for HTTP/1.0");
        assert!(close || framing.is_some() || bodiless, "call {id}: nobody can tell where its answer ends");
        assert!(close || call.keep, "call {id} asked for the end of its connection");
        assert!(close || call.whole.is_some(), "call {id} was answered before it was whole, and goes on");
        let told = match framing {
            Some(Framing::Length(length)) => Some(length),
            _ => None,
        };
        self.streams.insert(0, id);
        self.answer(0, id, status, told, &head.fields, false, world);
        self.closing = close;
        self.reader.body(if bodiless { Framing::Length(0) } else { framing.unwrap_or(Framing::Close) });
    }

    fn h1_done(&mut self, world: &mut World) {
        let trailers = std::mem::take(&mut self.reader.trailers);
        let trailers = (!trailers.is_empty()).then_some(trailers);
        self.done(0, trailers.as_ref(), world);
        self.answers.clear();
    }
}
