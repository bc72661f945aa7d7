//! Endpoints: what they may be sent, byte for byte, in either protocol.
//!
//! A request is seen again only where the first endpoint that saw it did not process it, or where its route says that
//! this does no harm, as often as that allows, and not after its answer began; and beside another only at another endpoint
//! and after the time that its route names. A violation panics. What they answer is in `replies`.

use std::collections::BTreeMap;

use outrigger::session::arena::Key;
use outrigger_core::Tick;

use crate::{
    callers::End,
    calls::{Attempt, Call, Flaw, Told},
    h2::{Fields, Half, Heard, Peer, get},
    life::Pipe,
    shape::{SPEAKS, Shape},
    wire::{Framing, Head, Part, Reader, Stream, start},
    world::World,
};

/// What the engine knows of an attempt from the moment at which it has read so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A part of its answer.
    Heard,
    /// That it was not processed.
    Unprocessed,
}

/// A stream's call, and which of its attempts this is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) call: usize,
    pub(crate) attempt: usize,
    /// Bytes of its body that came.
    at: usize,
    /// It is not processed.
    pub(crate) ignored: bool,
}

/// A connection to an endpoint of the life.
pub(crate) struct Upstream {
    pub(crate) number: u32,
    pub(crate) key: Key,
    pub(crate) address: String,
    pub(crate) cluster: usize,
    pub(crate) pipe: Pipe,
    pub(crate) open: bool,
    /// When the driver gives up connecting.
    pub(crate) dial_until: Tick,
    /// What it is spoken to in; `None`: nothing came yet.
    pub(crate) h1: Option<bool>,
    pub(crate) peer: Peer,
    pub(crate) served: BTreeMap<u32, Served>,
    /// Streams above this are not processed.
    pub(crate) goodbye: Option<u32>,
    /// What the engine knows as soon as it has read so far: of which attempt of which call.
    pub(crate) marks: Vec<(usize, usize, usize, Mark)>,
    /// Where parts of answers end in what it says, and of which calls and attempts (HTTP/2).
    pub(crate) moves: Vec<(usize, usize, usize)>,
    /// How it ends behind what it said.
    pub(crate) ends: Option<End>,
    /// Nothing more can be written to it, but nobody has noticed yet; then somebody has.
    pub(crate) gone: bool,
    pub(crate) deaf: bool,
    /// It never answers.
    pub(crate) mute: bool,
    /// It broke the protocol.
    pub(crate) wild: bool,
    /// Since when the engine has something to write to it, unless it has nothing.
    pub(crate) stirred: Tick,
    pub(crate) dry: bool,
    /// When bytes last moved, and when it last said something.
    pub(crate) moved: Tick,
    pub(crate) last_said: Tick,
    reader: Reader,
    /// HTTP/1: the call whose request it was given last, until its answer is over; the same then, until the request is;
    /// that it came whole; where the answer's head ends, and the answer; where no read may end; that no request may follow.
    pub(crate) current: Option<usize>,
    late: Option<usize>,
    /// Which of that call's attempts it is.
    pub(crate) attempt: usize,
    pub(crate) whole: bool,
    pub(crate) head_end: usize,
    pub(crate) answer_end: Option<usize>,
    pub(crate) no_split: Option<usize>,
    pub(crate) spent: bool,
}

impl Upstream {
    pub(crate) fn new(number: u32, key: Key, address: &str, stirred: Tick, dial_until: Tick) -> Self {
        Self {
            number,
            key,
            address: address.to_owned(),
            cluster: usize::from(address.as_bytes()[1] - b'0'),
            pipe: Pipe::default(),
            open: false,
            dial_until,
            h1: None,
            peer: Peer::new(true),
            served: BTreeMap::new(),
            goodbye: None,
            marks: Vec::new(),
            moves: Vec::new(),
            ends: None,
            gone: false,
            deaf: false,
            mute: false,
            wild: false,
            stirred,
            dry: false,
            moved: Tick::ZERO,
            last_said: Tick::ZERO,
            reader: Reader::default(),
            current: None,
            late: None,
            attempt: 0,
            whole: false,
            head_end: usize::MAX,
            answer_end: None,
            no_split: None,
            spent: false,
        }
    }

    /// Calls that are with it, and which attempts of theirs.
    pub(crate) fn carried<'a>(&'a self, world: &'a World) -> impl Iterator<Item = (&'a Call, usize)> {
        let open = |(stream, served): (&u32, &Served)| {
            let open = !self.peer.streams[stream].is_over() && !served.ignored;
            open.then_some((served.call, served.attempt))
        };
        let ids = self.served.iter().filter_map(open).chain(self.current.map(|id| (id, self.attempt)));
        ids.map(|(id, attempt)| (&world.calls[id], attempt))
    }

    /// Streams whose call has no answer yet, though it was processed.
    pub(crate) fn owed(&self, world: &World) -> Vec<u32> {
        let owes = |(stream, served): (&u32, &Served)| {
            let free = !self.peer.streams[stream].is_over() && !served.ignored;
            let attempt = world.calls[served.call].attempts.get(served.attempt);
            let fresh = attempt.is_some_and(|attempt| attempt.reply.is_none());
            (free && fresh).then_some(*stream)
        };
        if self.ends.is_some() || self.mute || self.wild {
            Vec::new()
        } else {
            self.served.iter().filter_map(owes).collect()
        }
    }

    /// Whether it was asked and has not answered (HTTP/1).
    pub(crate) fn owes(&self) -> bool {
        self.current.is_some() && self.answer_end.is_none() && self.ends.is_none() && !self.spent
    }

    /// Whether it carries nothing and would take a request (HTTP/1).
    pub(crate) fn is_idle(&self) -> bool {
        let quiet = self.current.is_none() && self.ends.is_none() && !self.spent;
        self.h1 == Some(true) && quiet && self.peer.unsent() == 0
    }

    /// The socket takes the first `n` of what the engine has to write.
    pub(crate) fn hears(&mut self, bytes: &[u8], n: usize, world: &mut World) {
        self.moved = world.now;
        let h1 = *self.h1.get_or_insert(!bytes.starts_with(b"PRI"));
        let spoken = SPEAKS[self.cluster].is_none_or(|speaks| (speaks == "http1") == h1);
        assert!(spoken, "connection {} is spoken to in a wrong protocol", self.number);
        if h1 {
            return self.hears_h1(bytes, n, world);
        }
        for heard in self.peer.hears(&bytes[..n]) {
            match heard {
                Heard::Head { stream, fields, end } => {
                    let trailers = self.served.contains_key(&stream);
                    if !trailers {
                        self.h2_begins(stream, &fields, world);
                    }
                    if end {
                        let trailers = if trailers { fields } else { Fields::new() };
                        self.h2_whole(stream, &trailers, world);
                    }
                }
                Heard::Data { stream, data, end } => {
                    let served = self.served.get_mut(&stream).expect("it began");
                    let at = served.at;
                    served.at += data.len();
                    let call = &mut world.calls[served.call];
                    let body = Stream::Asked(call.id);
                    assert!(data == body.bytes(at, data.len()), "{body:?} at {at}: {:?}", start(&data));
                    if let Some(attempt) = call.attempts.get_mut(served.attempt) {
                        attempt.seen = served.at;
                    }
                    if end {
                        self.h2_whole(stream, &Fields::new(), world);
                    }
                }
                Heard::Reset { stream, .. } => {
                    let served = self.served.get(&stream);
                    let attempt = served.and_then(|it| world.calls[it.call].attempts.get_mut(it.attempt));
                    if let Some(attempt) = attempt {
                        attempt.dropped = true;
                    }
                }
                Heard::Goaway { code, .. } => {
                    let reason = code == 0 || self.wild;
                    assert!(reason, "connection {}: a goodbye without reason: {code}", self.number);
                }
            }
        }
    }

    fn h2_begins(&mut self, stream: u32, fields: &Fields, world: &mut World) {
        let target = get(fields, ":path").expect("a path");
        let id = Call::named_by(target);
        let call = &world.calls[id];
        assert_eq!((get(fields, ":method"), target), (Some(call.method), &*call.target()), "call {id}");
        assert_eq!(
            (get(fields, ":scheme"), get(fields, ":authority")),
            (Some("http"), Some("peer")),
            "call {id}"
        );
        let mut expected = call.fields();
        let mut came: Fields = fields.iter().filter(|(name, _)| !name.starts_with(':')).cloned().collect();
        let at = came.iter().position(|(name, _)| name == "grpc-timeout");
        let told = at.map(|at| came.remove(at).1);
        self.tells_its_time(call, told.as_deref(), world);
        expected.retain(|(name, _)| *name != "grpc-timeout");
        let mut expected: Fields =
            expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        expected.sort();
        came.sort();
        came.retain(|(name, _)| name != "x-pad");
        assert_eq!(came, expected, "call {id}: the headers");
        // It said goodbye: this is not processed, and no attempt.
        let ignored = self.goodbye.is_some_and(|last| stream > last);
        let attempt = if ignored { usize::MAX } else { self.begins(id, world) };
        self.served.insert(stream, Served { call: id, attempt, at: 0, ignored });
    }

    /// A request's head came; which attempt that is.
    fn begins(&self, id: usize, world: &mut World) -> usize {
        let number = self.number;
        let call = world.calls.get_mut(id).expect("only calls of this life are forwarded");
        assert!(call.headed.is_some(), "call {id} was sent before it was read");
        assert!(!call.flaw.is_in_head(), "call {id} has a head that must not go on: {:?}", call.flaw);
        let unprocessed = call.outcome == Some(crate::calls::Outcome::Unprocessed);
        assert!(!unprocessed, "call {id} was sent although its caller was told that it is not processed");
        let route = call.route.unwrap_or_else(|| panic!("call {id} has no route"));
        assert_eq!(self.cluster, Shape::home(route), "call {id} went to {}", self.address);
        self.may_have(call, route, &world.shape, world.now);
        call.attempts.push(Attempt {
            conn: number,
            address: self.address.clone(),
            given: [self.stirred, world.now],
            h1: self.h1 == Some(true),
            seen: 0,
            whole: false,
            reply: None,
            interims: Vec::new(),
            heard: false,
            heard_at: Tick::ZERO,
            doubtful: false,
            dropped: false,
            failed: self.ends.is_some() || self.gone || self.wild,
            unprocessed: false,
        });
        call.attempts.len() - 1
    }

    /// Whether a call may come here after all that became of it elsewhere.
    fn may_have(&self, call: &Call, route: usize, shape: &Shape, now: Tick) {
        let (id, tries) = (call.id, shape.tries());
        let (per_try, hedge) = (shape.per_try(route), shape.hedge(route));
        let earlier: Vec<&Attempt> = call.attempts.iter().filter(|attempt| !attempt.unprocessed).collect();
        let mut beside = 0;
        for last in &earlier {
            let conn = last.conn;
            assert!(
                Shape::idempotent(route),
                "call {id} was sent on {conn} and may not be sent again: {call:?}"
            );
            assert!(earlier.len() <= tries, "call {id} was sent too often: {call:?}");
            // This one may have been left before its connection was made: then its end follows.
            let born_left = per_try.is_some_and(|per_try| last.given[1] >= self.stirred.after(per_try));
            // That may have been left before, or this one have begun before.
            let sooner = (hedge.is_some() || born_left) && self.stirred <= last.heard_at;
            let before = last.doubtful || sooner;
            assert!(!last.heard || before, "call {id} was answered on {conn} already: {call:?}");
            if last.failed || last.is_slow(per_try, now) || born_left {
                continue;
            }
            beside += 1;
            let after = hedge.unwrap_or_else(|| {
                panic!("call {id} is with connection {conn}, which did not fail: {call:?}")
            });
            // The second may be made, and have the request, sooner than the first.
            let second = now >= last.given[0].after(after) || last.given[1] >= self.stirred.after(after);
            assert!(second, "call {id} left {conn} too little time: {call:?}");
            assert!(self.address != last.address, "call {id} is at {} twice: {call:?}", self.address);
            assert!(call.may_be_whole(), "call {id} was sent beside {conn} before it was whole: {call:?}");
        }
        assert!(beside <= 1, "call {id} is at three endpoints at once: {call:?}");
        // Three where it is not processed, and what its route allows where it may have been.
        let most = if Shape::idempotent(route) { 3 + tries } else { 3 };
        assert!(call.attempts.len() < most, "call {id} goes round in a circle: {call:?}");
    }

    /// What a request says of its time is what is left of its caller's; or of its route's, which counts for what was whole.
    fn tells_its_time(&self, call: &Call, told: Option<&str>, world: &World) {
        let id = call.id;
        let limit = call.route.and_then(|route| world.shape.timeout(route)).filter(|_| call.grpc);
        let ours = limit.and_then(|limit| Some(limit.saturating_sub(self.stirred.since(call.whole?))));
        // Whether it was whole when it was sent is known only where it had been before.
        let ours_counts = ours.is_some() && call.whole.is_some_and(|whole| whole < self.stirred);
        let Some(told) = told else {
            return assert!(
                call.time.is_none() && !ours_counts,
                "call {id} does not tell its time: {call:?}"
            );
        };
        let most = match (call.time, ours) {
            (Some(theirs), Some(ours)) if ours_counts => theirs.min(ours),
            (Some(theirs), _) => theirs,
            (None, ours) => {
                ours.unwrap_or_else(|| panic!("call {id} has no time, and tells {told}: {call:?}"))
            }
        };
        let left = micros(told);
        assert!(left <= most.as_micros().max(1), "call {id}: its time grew to {told}: {call:?}");
    }

    /// A request ended, with these trailers.
    fn h2_whole(&mut self, stream: u32, trailers: &Fields, world: &mut World) {
        let served = self.served[&stream];
        Self::whole(served.call, served.attempt, served.at, trailers, true, world);
    }

    fn whole(id: usize, attempt: usize, at: usize, trailers: &Fields, carried: bool, world: &mut World) {
        let call = &mut world.calls[id];
        assert!(call.may_be_whole() && call.flaw == Flaw::None, "call {id} has an end it never had");
        assert_eq!(at, call.len, "call {id} was cut");
        let expected = if call.trailer && carried { call.trailers(false) } else { Vec::new() };
        let expected: Fields = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(*trailers, expected, "call {id}: the trailers");
        if let Some(attempt) = call.attempts.get_mut(attempt) {
            attempt.whole = true;
        }
    }

    /// How many bytes are read when `n` were to be.
    pub(crate) fn split(&self, n: usize) -> usize {
        if self.no_split == Some(self.peer.sent + n) { n + 1 } else { n }
    }

    /// The next `n` bytes, which are now with the engine.
    pub(crate) fn deliver(&mut self, n: usize, world: &mut World) -> Vec<u8> {
        self.moved = world.now;
        self.last_said = world.now;
        let bytes = self.peer.deliver(n);
        let sent = self.peer.sent;
        self.marks.retain(|(at, call, attempt, mark)| {
            let known = *at <= sent;
            if known {
                let call = &mut world.calls[*call];
                let per_try = call.route.and_then(|route| world.shape.per_try(route));
                match mark {
                    Mark::Heard => call.hears(*attempt, per_try, world.now),
                    Mark::Unprocessed => call.attempts[*attempt].unprocessed = true,
                }
            }
            !known
        });
        self.moves.retain(|(at, call, attempt)| {
            let moved = *at <= sent;
            if moved {
                world.answer_comes(*call, *attempt);
            }
            !moved
        });
        if let Some(id) = self.current.filter(|_| sent > self.head_end) {
            world.answer_comes(id, self.attempt);
        }
        if self.answer_end.is_some_and(|end| sent >= end) {
            self.answer_end = None;
            // What is left of its request may still come.
            self.late = self.current.take().filter(|_| !self.whole);
        }
        bytes
    }

    /// It ends: what it has not answered fails. `lossy`: what the engine has not read is lost.
    pub(crate) fn over(&self, world: &mut World, lossy: bool) {
        let sent = self.peer.sent;
        let current = self.current.map(|id| (id, self.attempt));
        let served = self.served.values().filter(|served| !served.ignored);
        let served = served.map(|served| (served.call, served.attempt));
        for (id, at) in served.chain(current).collect::<Vec<_>>() {
            let attempt = &mut world.calls[id].attempts[at];
            if attempt.conn != self.number {
                continue;
            }
            let lost = attempt.reply.as_ref().is_none_or(|reply| reply.end.is_none_or(|end| end > sent));
            attempt.failed |= lost;
            if let Some(reply) = attempt.reply.as_mut().filter(|_| lost && lossy) {
                reply.complete = false;
            }
        }
    }

    /// Whether the engine may think that nobody is there.
    pub(crate) fn is_silent(&self, world: &World) -> bool {
        world.passed(Some(self.last_said), std::time::Duration::from_secs(9))
    }

    /// Whether the request of a stream came whole.
    pub(crate) fn is_whole(&self, stream: u32) -> bool {
        self.peer.streams[&stream].heard == Half::Done
    }
}

/// Microseconds of a `grpc-timeout`.
fn micros(text: &str) -> u128 {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u128 = number.parse().expect("a number");
    number
        * match unit {
            "u" => 1,
            "m" => 1_000,
            "S" => 1_000_000,
            unit => panic!("a time in {unit}"),
        }
}

/// HTTP/1.
impl Upstream {
    fn hears_h1(&mut self, bytes: &[u8], n: usize, world: &mut World) {
        let idle = self.reader.is_idle();
        let mut now = &bytes[..n];
        assert!(!(idle && self.spent), "connection {} is not to be used again", self.number);
        while let Some(part) = self.reader.next(&mut now) {
            match part {
                Part::Head(head) => self.h1_head(&head, world),
                Part::Data(data) => {
                    let id = self.current.or(self.late).expect("it began with a call");
                    let at = self.reader.at - data.len();
                    let body = Stream::Asked(id);
                    assert!(data == body.bytes(at, data.len()), "{body:?} at {at}: {:?}", start(data));
                    world.calls[id].attempts[self.attempt].seen = self.reader.at;
                }
                Part::End => {
                    let id = self.current.or(self.late.take()).expect("it began with a call");
                    let trailers = std::mem::take(&mut self.reader.trailers);
                    let carried = world.calls[id].told == Some(Told::End);
                    Self::whole(id, self.attempt, self.reader.at, &trailers, carried, world);
                    self.whole = true;
                }
            }
        }
    }

    fn h1_head(&mut self, head: &Head, world: &mut World) {
        let target = head.line.split(' ').nth(1).unwrap_or_default();
        let id = Call::named_by(target);
        let (number, current) = (self.number, self.current.or(self.late));
        assert!(current.is_none(), "call {id} was sent on connection {number} beside {current:?}");
        let call = &world.calls[id];
        assert_eq!(head.line, format!("{} {} HTTP/1.1", call.method, call.target()), "call {id}");
        assert_eq!(head.get("host"), Some("peer"), "call {id}: the host");
        assert_eq!(head.get("x-id"), Some(&*id.to_string()), "call {id}");
        assert_eq!(head.get("connection"), None, "call {id}: what is for one hop alone");
        assert_eq!(head.get("expect").is_some(), call.expects, "call {id}: what it expects");
        self.tells_its_time(call, head.get("grpc-timeout"), world);
        let framing = head.framing();
        let sound = match (call.told, framing) {
            (Some(Told::Length), Some(Framing::Length(length))) => {
                length == call.len + usize::from(call.flaw == Flaw::Body)
            }
            (Some(Told::End), Some(Framing::Chunked)) => true,
            (Some(Told::End) | None, Some(Framing::Length(0))) => call.len == 0,
            (Some(Told::End) | None, None) => call.len == 0 && !call.trailer,
            _ => false,
        };
        assert!(sound, "call {id}: {:?} became {framing:?}", call.told);
        self.attempt = self.begins(id, world);
        (self.current, self.whole, self.answer_end) = (Some(id), false, None);
        self.head_end = usize::MAX;
        self.reader.body(framing.unwrap_or(Framing::Length(0)));
    }
}
