//! Callers: what they may see, byte for byte, and for what reasons their connections may end.
//!
//! Answers come in the order of the requests, each request's is its own or a refusal that can be true, and an answer
//! that its endpoint did not complete never looks complete. A violation panics; the life says its seed then.

use std::collections::VecDeque;

use outrigger::session::arena::Key;
use outrigger_core::Tick;

use crate::{
    calls::{Call, Outcome},
    life::Pipe,
    wire::{Framing, Head, Part, Reader, Stream, start},
    world::World,
};

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
}

pub(crate) struct Caller {
    pub(crate) number: u32,
    pub(crate) key: Key,
    pub(crate) listener: String,
    /// When its listener was taken away.
    pub(crate) leaving: Option<Tick>,
    pub(crate) pipe: Pipe,
    /// All it ever wrote, and how much of that was read.
    pub(crate) wrote: Vec<u8>,
    pub(crate) sent: usize,
    /// It writes nothing until then.
    pub(crate) stalled: Option<Tick>,
    /// It waits for a word before it sends what lies behind this.
    pub(crate) gate: Option<usize>,
    /// It shuts its sending side after what it wrote.
    pub(crate) ends: bool,
    /// The engine was told of that.
    pub(crate) ended: bool,
    /// It is gone, but nobody has noticed yet.
    pub(crate) gone: bool,
    /// Requests without an outcome, in order.
    pub(crate) waiting: VecDeque<usize>,
    /// The next request that the engine has not read whole.
    pub(crate) unread: VecDeque<usize>,
    /// The last answer said that the connection ends.
    pub(crate) closing: bool,
    /// Its connection is a tunnel, for this call.
    pub(crate) tunnel: Option<usize>,
    pub(crate) last_in: Tick,
    pub(crate) last_out: Tick,
    reader: Reader,
    answer: Option<Answer>,
}

impl Caller {
    pub(crate) fn new(number: u32, key: Key, listener: String, pipe: Pipe, now: Tick) -> Self {
        Self {
            number,
            key,
            listener,
            leaving: None,
            pipe,
            wrote: Vec::new(),
            sent: 0,
            stalled: None,
            gate: None,
            ends: false,
            ended: false,
            gone: false,
            waiting: VecDeque::new(),
            unread: VecDeque::new(),
            closing: false,
            tunnel: None,
            last_in: now,
            last_out: now,
            reader: Reader::default(),
            answer: None,
        }
    }

    /// Bytes that can be read from it now.
    pub(crate) fn unsent(&self) -> usize {
        self.gate.unwrap_or(self.wrote.len()) - self.sent
    }

    /// The call whose answer is next.
    pub(crate) fn front(&self) -> Option<usize> {
        self.waiting.front().copied()
    }

    /// Whether a request of its was begun and has no answer.
    pub(crate) fn waits(&self, world: &World) -> bool {
        self.front().is_some_and(|call| world.calls[call].began.is_some())
    }

    /// Bytes of the answer to `call` that it got.
    pub(crate) fn heard_of(&self, call: usize) -> usize {
        self.answer.as_ref().filter(|answer| answer.call == call).map_or(0, |_| self.reader.at)
    }

    /// The next `n` bytes, which are now with the engine.
    pub(crate) fn deliver(&mut self, n: usize, world: &mut World) -> Vec<u8> {
        let from = self.sent;
        self.sent += n;
        self.last_in = world.now;
        while let Some(id) = self.unread.front().copied() {
            let call = &mut world.calls[id];
            if self.sent > call.start {
                call.began.get_or_insert(world.now);
            }
            if self.sent >= call.head_end {
                call.headed.get_or_insert(world.now);
            }
            if self.sent < call.end {
                break;
            }
            call.whole = Some(world.now);
            self.unread.pop_front();
        }
        self.wrote[from..self.sent].to_vec()
    }

    /// The engine wrote `bytes`.
    pub(crate) fn hears(&mut self, mut bytes: &[u8], world: &mut World) {
        self.last_out = world.now;
        loop {
            assert!(
                !self.closing || self.answer.is_some() || bytes.is_empty(),
                "bytes behind the last answer"
            );
            match self.reader.next(&mut bytes) {
                Some(Part::Head(head)) => self.head(&head, world),
                Some(Part::Data(data)) => self.data(data, world),
                Some(Part::End) => self.done(world),
                None => return,
            }
        }
    }

    fn head(&mut self, head: &Head, world: &mut World) {
        let status = head.status();
        let Some(id) = self.front() else { panic!("caller {} asked for nothing: {head:?}", self.number) };
        let call = &world.calls[id];
        assert!(call.began.is_some(), "call {id} was answered before it was asked");
        if status < 200 {
            return self.interim(status, id, head, world);
        }
        let says = head.get("connection");
        let close = says == Some("close") || (call.old && says != Some("keep-alive"));
        let bodiless = call.method == "HEAD" || status == 204 || status == 304;
        let told = head.framing();
        assert!(!call.old || told != Some(Framing::Chunked), "call {id}: chunks for HTTP/1.0");
        assert!(close || told.is_some() || bodiless, "call {id}: nobody can tell where its answer ends");
        assert!(close || call.keep, "call {id} asked for the end of its connection");
        let attempt = match head.get("x-outrigger-error") {
            Some(name) => {
                assert!(
                    world.plausible(status, name, call),
                    "call {id} was refused without reason: {status} {name}, {call:?}"
                );
                None
            }
            None => Some(self.endpoint_said(id, status, told, bodiless, close, head, world)),
        };
        // What is left of a refused request may be read and dropped, where its length is known.
        let dropped = attempt.is_none() && matches!(call.framing, Some(Framing::Length(_)));
        assert!(
            close || call.whole.is_some() || dropped,
            "call {id} was answered before it was whole, and goes on"
        );
        self.closing = close;
        if self.gate.is_some() && close {
            // It will not send the body for nothing.
            self.wrote.truncate(self.sent);
        }
        self.gate = None;
        self.answer = Some(Answer { call: id, attempt, status, bodiless });
        // Who has not read a whole head cannot know that its answer must have no body.
        let unread = bodiless && status == 408;
        self.reader.body(match bodiless {
            true if unread => Framing::Close,
            true => Framing::Length(0),
            false => told.unwrap_or(Framing::Close),
        });
    }

    #[allow(clippy::too_many_arguments, reason = "all of one head")]
    fn endpoint_said(
        &self,
        id: usize,
        status: u16,
        told: Option<Framing>,
        bodiless: bool,
        close: bool,
        head: &Head,
        world: &World,
    ) -> usize {
        let call = &world.calls[id];
        let at = self.said_by(call, head);
        let reply = call.attempts[at].reply.as_ref();
        let reply = reply.unwrap_or_else(|| panic!("call {id}: an answer that nobody gave"));
        assert_eq!(status, reply.status, "call {id}: the status");
        assert!(!reply.draining || close, "call {id}: answered while draining, and its connection goes on");
        if !bodiless {
            let same = match reply.framing {
                Framing::Length(_) => told == Some(reply.framing),
                Framing::Chunked | Framing::Close => told == (!call.old).then_some(Framing::Chunked),
            };
            assert!(same, "call {id}: {:?} became {told:?}", reply.framing);
        }
        at
    }

    /// The attempt that an answer's head, interim or final, is from: the one that was answered first, and no other.
    fn said_by(&self, call: &Call, head: &Head) -> usize {
        let id = call.id;
        let at = call.prevails.unwrap_or_else(|| panic!("call {id}: {head:?} that nobody said: {call:?}"));
        let named = format!("{id}-{at}");
        let number = self.number;
        assert_eq!(head.get("x-answer"), Some(&*named), "caller {number} got another answer: {call:?}");
        at
    }

    fn interim(&mut self, status: u16, id: usize, head: &Head, world: &mut World) {
        let at = self.said_by(&world.calls[id], head);
        let call = &mut world.calls[id];
        assert!(!call.old, "call {id}: {status} for HTTP/1.0");
        let given = call.attempts[at].interims.contains(&status);
        assert!(given, "call {id}: {status} that nobody gave");
        if status == 101 {
            assert!(call.upgrade && head.get("connection") == Some("upgrade"), "call {id}: no upgrade");
            call.outcome = Some(Outcome::Tunnel);
            self.waiting.pop_front();
            self.tunnel = Some(id);
            return self.reader.body(Framing::Close);
        }
        assert!(status != 100 || call.expects, "call {id}: 100 that it did not ask for");
        if status == 100 {
            self.gate = None;
        }
    }

    fn data(&mut self, data: &[u8], world: &World) {
        let at = self.reader.at - data.len();
        let stream = match (&self.answer, self.tunnel) {
            (None, Some(id)) => Stream::ToCaller(id),
            (Some(Answer { call, attempt: Some(attempt), .. }), _) => {
                let reply =
                    world.calls[*call].attempts[*attempt].reply.as_ref().expect("checked with its head");
                assert!(self.reader.at <= reply.len, "call {call}: the answer is longer than it was");
                Stream::Answered(*call, *attempt)
            }
            _ => return,
        };
        assert!(data == stream.bytes(at, data.len()), "{stream:?} at {at}: other bytes: {:?}", start(data));
    }

    /// An answer ended as its framing says.
    fn done(&mut self, world: &mut World) {
        let answer = self.answer.take().expect("an end comes behind a head");
        let call = &mut world.calls[answer.call];
        match answer.attempt {
            Some(attempt) => {
                let reply = call.attempts[attempt].reply.as_ref().expect("checked with its head");
                assert!(reply.complete, "call {}: an incomplete answer looks complete", answer.call);
                let len = if answer.bodiless { 0 } else { reply.len };
                assert_eq!(self.reader.at, len, "call {}: the answer's length", answer.call);
                let told =
                    reply.trailer && reply.framing == Framing::Chunked && !call.old && !answer.bodiless;
                let trailer = ("x-end".to_owned(), answer.call.to_string());
                let trailers: &[_] = if told { &[trailer] } else { &[] };
                assert_eq!(self.reader.trailers, trailers, "call {}: the trailers", answer.call);
                call.outcome = Some(Outcome::Answered);
            }
            None => call.outcome = Some(Outcome::Refused(answer.status)),
        }
        self.waiting.pop_front();
    }

    /// Its connection ended, by the engine (`End`) or by itself (`None`).
    pub(crate) fn over(&mut self, end: Option<End>, world: &mut World) {
        if end == Some(End::Orderly) {
            match self.tunnel {
                Some(id) => {
                    let said = world.calls[id].tunnel_said;
                    assert!(
                        said.is_none_or(|said| said == self.reader.at),
                        "call {id}: the end of a tunnel is lost"
                    );
                }
                None if self.reader.until_close() => self.done(world),
                None => {}
            }
        }
        for id in self.waiting.drain(..) {
            world.calls[id].outcome.get_or_insert(Outcome::Lost);
        }
    }

    /// Whether the engine has a reason to end the connection now, as it does.
    pub(crate) fn may_end(&self, end: End, world: &World) -> bool {
        let manners = &world.shape.manners;
        let waits = self.waits(world);
        let blocked = self.pipe.blocked_since.is_some() || self.pipe.flush_said;
        let slow =
            blocked && world.passed(Some(self.last_out.max(self.pipe.wide_since)), manners.idle_timeout);
        let behind = blocked && world.passed(Some(self.last_out), manners.idle_timeout);
        if world.shut || self.gone || slow || behind {
            return true;
        }
        if self.closing && self.answer.is_none() && !self.reader.is_cut() {
            return true;
        }
        if let Some(id) = self.tunnel {
            let call = &world.calls[id];
            return call.failed() || call.tunnel_said.is_some() || world.stuck(call.headed);
        }
        if !waits {
            let quiet = world.draining || self.leaving.is_some() || self.ended;
            let silent = world.passed(Some(self.last_in.max(self.last_out)), world.shape.silence());
            return quiet || silent;
        }
        let call = &world.calls[self.front().expect("it waits")];
        let halved = self.ended && call.whole.is_none();
        // Half a head is no request to wait for.
        let unheard = call.headed.is_none() && (world.pressing || world.draining);
        let begun = self.answer.is_some() || self.reader.in_head();
        // A reset takes away what waits to be written, and that may be whole answers before the one that broke.
        let reset = if end == End::Reset { usize::MAX } else { 1 };
        let bad = self.waiting.iter().take(reset).map(|id| &world.calls[*id]).any(|call| {
            let large = call.len as u64 > world.shape.bounds.limits.body_max;
            call.failed() || world.timed_out(call) || call.flaw != crate::calls::Flaw::None || large
        });
        let close = self.closing && self.reader.until_close() && end == End::Orderly;
        halved || unheard || (begun && bad) || close
    }

    /// The call of whose answer it has a part.
    pub(crate) fn reads_answer_of(&self) -> Option<usize> {
        self.answer.as_ref().map(|answer| answer.call)
    }

    /// Whether what it got so far is cut somewhere.
    pub(crate) fn cut(&self) -> bool {
        self.reader.is_cut()
    }
}
