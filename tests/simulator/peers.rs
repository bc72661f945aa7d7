//! The peers of one life, with what each of them may see: the checks on every frame that leaves the engine.
//!
//! A caller must get for each call one answer: its own, under its own id, or a refusal with a reason that can be
//! true. An endpoint must get each call once, whole, on a connection of its lane, and only calls that are its to
//! serve. A violation panics; the life says its seed then.

use std::{collections::VecDeque, time::Duration};

use outrigger::session::arena::Key;
use outrigger_codec::{FrameKind, HeadIndex, Refusal, Scan, Wants};
use outrigger_core::Tick;

use crate::{dialect::Dialect, shape::Shape};

/// What is known of a call; its token is its place in the list of calls.
pub(crate) struct Call {
    pub(crate) caller: u32,
    pub(crate) id: u64,
    /// `None`: one without a route.
    pub(crate) service: Option<usize>,
    pub(crate) one_way: bool,
    /// Its head cannot be read.
    pub(crate) unreadable: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) payload_len: usize,
    /// When its first and its last byte were given to the engine.
    pub(crate) first_byte: Option<Tick>,
    pub(crate) last_byte: Option<Tick>,
    /// The upstream connection whose socket took a byte of it.
    pub(crate) taken_by: Vec<u32>,
    /// An endpoint answered it.
    pub(crate) served: bool,
    pub(crate) answered: bool,
}

const ASKED: &[u8] = b"\xfe?";
const ANSWERED: &[u8] = b"\xfe!";
/// Bytes of a payload before its filling.
pub(crate) const PAYLOAD_MIN: usize = 10;

/// The bytes that stand for a call on the wire: a mark, the token, and filling that depends on the token.
pub(crate) fn payload(token: usize, len: usize, answer: bool) -> Vec<u8> {
    let mut bytes = [if answer { ANSWERED } else { ASKED }, &(token as u64).to_be_bytes()].concat();
    bytes.resize(len.max(PAYLOAD_MIN), token as u8 ^ 0x5a);
    bytes
}

/// The token in a payload, every byte of which must be as it was sent.
fn token(bytes: &[u8], answer: bool) -> Option<usize> {
    let rest = bytes.strip_prefix(if answer { ANSWERED } else { ASKED })?;
    let token = u64::from_be_bytes(*rest.first_chunk()?) as usize;
    assert_eq!(bytes, payload(token, bytes.len(), answer), "a payload was changed on its way");
    Some(token)
}

/// One end of a socket: how much of it takes bytes, and the bytes the peer has yet to send.
#[derive(Default)]
pub(crate) struct Pipe {
    /// Bytes the socket still takes before it blocks.
    pub(crate) room: usize,
    pub(crate) blocked_since: Option<Tick>,
    /// A `Flush` was said and the bytes were not asked for yet.
    pub(crate) flush_said: bool,
    /// Accepted bytes of a frame that is not whole yet.
    partial: Vec<u8>,
    pub(crate) to_send: Vec<u8>,
    /// How many of `to_send` were delivered.
    pub(crate) sent: usize,
    /// The ends of the frames in `to_send`, and the calls they are.
    ends: VecDeque<(usize, Option<usize>)>,
    /// Since when the engine has had a beginning of a frame that it could have read on.
    pub(crate) partial_since: Option<Tick>,
    pub(crate) last_delivery: Tick,
}

impl Pipe {
    pub(crate) fn new(room: usize, now: Tick) -> Self {
        Self { room, last_delivery: now, ..Self::default() }
    }

    /// `to_send` got a frame more.
    pub(crate) fn sends(&mut self, call: Option<usize>) {
        self.ends.push_back((self.to_send.len(), call));
    }

    pub(crate) fn unsent(&self) -> usize {
        self.to_send.len() - self.sent
    }

    /// The next `n` bytes, which are now with the engine.
    pub(crate) fn deliver(&mut self, n: usize, calls: &mut [Call], now: Tick) -> Vec<u8> {
        let from = self.sent;
        self.sent += n;
        self.last_delivery = now;
        let mut begin = from;
        while let Some((end, call)) = self.ends.front().copied() {
            if begin < self.sent
                && let Some(call) = call
            {
                calls[call].first_byte.get_or_insert(now);
            }
            if end > self.sent {
                break;
            }
            if let Some(call) = call {
                calls[call].last_byte = Some(now);
            }
            self.ends.pop_front();
            begin = end;
            self.partial_since = None;
        }
        if begin < self.sent {
            self.partial_since.get_or_insert(now);
        }
        let bytes = self.to_send[from..self.sent].to_vec();
        if self.sent == self.to_send.len() && self.ends.is_empty() {
            self.to_send.clear();
            self.sent = 0;
        }
        bytes
    }

    /// The socket takes `n` of the bytes that the engine wants to write. Calls `begun` and `whole` with the frames
    /// of which the first and of which the last byte was taken.
    pub(crate) fn take<D: Dialect>(
        &mut self,
        bytes: &[u8],
        n: usize,
        mut begun: impl FnMut(&[u8]),
        mut whole: impl FnMut(&[u8]),
    ) {
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        let view = std::mem::take(&mut self.partial);
        let taken = before + n;
        let (mut at, mut kept) = (0, taken);
        while at < view.len() {
            let Scan::Frame(framed) = D::scan(&view[at..], usize::MAX) else {
                panic!("the engine writes something that is no whole frame: {:02x?}", &view[at..]);
            };
            let frame = &view[at..at + framed.len];
            if at < taken && (at >= before || before == 0) {
                begun(frame);
            }
            if at < taken && at + framed.len <= taken {
                whole(frame);
            } else {
                kept = kept.min(at);
            }
            at += framed.len;
        }
        self.partial = view[kept..taken].to_vec();
        self.room -= n;
    }
}

/// A caller of the life.
pub(crate) struct Caller {
    pub(crate) number: u32,
    pub(crate) key: Key,
    pub(crate) listener: String,
    /// When its listener was taken away.
    pub(crate) leaving: Option<Tick>,
    pub(crate) pipe: Pipe,
    /// The engine reads it.
    pub(crate) reading: bool,
    /// It did before the event that is being handled.
    pub(crate) was_reading: bool,
    /// It sends no more, but reads on.
    pub(crate) ended: bool,
    /// It sent what may get it closed.
    pub(crate) spoiled: bool,
    pub(crate) lane: u8,
    pub(crate) next_id: u64,
    /// Keep-alive questions not yet answered.
    pub(crate) beats: u32,
    /// Tokens of its calls.
    pub(crate) calls: Vec<usize>,
    /// When the engine last wrote to it or read from it.
    pub(crate) last_io: Tick,
}

impl Caller {
    /// The engine wrote a whole frame.
    pub(crate) fn hears<D: Dialect>(&mut self, frame: &[u8], all: &mut [Call], world: &Seen<'_>) {
        let Scan::Frame(framed) = D::scan(frame, usize::MAX) else { unreachable!("scanned before") };
        match framed.kind {
            FrameKind::Response => self.answered::<D>(frame, framed.id, all, world),
            FrameKind::HeartbeatAck => {
                assert!(self.beats > 0, "a keep-alive answer that nobody asked for");
                self.beats -= 1;
            }
            FrameKind::Retire => {
                assert!(world.draining || self.leaving.is_some(), "a caller is told to leave without need");
            }
            kind => panic!("a caller is sent a {kind:?}"),
        }
    }

    fn answered<D: Dialect>(&mut self, frame: &[u8], id: u64, all: &mut [Call], world: &Seen<'_>) {
        let mine = self.calls.iter().copied().find(|call| all[*call].id == id);
        let Some(mine) = mine else { panic!("caller {} never used the id {id}", self.number) };
        let call = &mut all[mine];
        assert!(!call.one_way, "one-way call {mine} was answered");
        assert!(call.last_byte.is_some() || self.spoiled, "call {mine} was answered before it was whole");
        assert!(!call.answered, "call {mine} was answered twice");
        call.answered = true;
        if let Some(token) = token(D::payload(frame), true) {
            assert_eq!(token, mine, "caller {} got the answer to another call", self.number);
            assert!(call.served, "call {mine} got an answer that nobody gave");
            assert!(!call.unreadable && call.service.is_some(), "call {mine} was not to be served");
            return;
        }
        let reasons = D::reasons(frame);
        assert!(!reasons.is_empty(), "call {mine}: status {} is no refusal", D::status(frame));
        assert!(
            reasons.iter().any(|why| plausible(*why, call, self.spoiled, world)),
            "call {mine} was refused without reason: {reasons:?}"
        );
    }
}

/// What a caller's answers are judged by.
pub(crate) struct Seen<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) now: Tick,
    pub(crate) draining: bool,
}

fn plausible(why: Refusal, call: &Call, spoiled: bool, world: &Seen<'_>) -> bool {
    let rough = !world.shape.calm && !call.unreadable;
    match why {
        // Where there are no routes nothing is read.
        Refusal::NoRoute => !call.unreadable && call.service.is_none() || world.shape.holes,
        Refusal::NoEndpoint => rough && world.shape.holes,
        Refusal::Limited => rough && world.shape.limit.is_some(),
        Refusal::Overloaded | Refusal::Unreachable => rough && call.service.is_some(),
        Refusal::TimedOut => {
            let route = call.service.and_then(|service| world.shape.route_timeout(service));
            let limit = [route, call.timeout].into_iter().flatten().min();
            let began = call.first_byte.unwrap_or(Tick::NEVER);
            limit.is_some_and(|limit| world.now >= began.after(limit))
        }
        Refusal::Forbidden => false,
        Refusal::Malformed => call.unreadable,
        Refusal::TooLarge => spoiled,
    }
}

/// A connection to an endpoint of the life.
pub(crate) struct Upstream {
    pub(crate) number: u32,
    pub(crate) key: Key,
    pub(crate) address: String,
    pub(crate) pipe: Pipe,
    pub(crate) open: bool,
    /// When the driver gives up connecting.
    pub(crate) dial_until: Tick,
    lane: Option<u8>,
    /// Ids seen here; none is used twice.
    ids: Vec<u64>,
    /// Calls received and not answered: id and token.
    pub(crate) inbox: Vec<(u64, usize)>,
    /// Calls answered.
    pub(crate) done: Vec<(u64, usize)>,
    /// It did what may get it closed.
    pub(crate) spoiled: bool,
    /// It answers no keep-alive questions.
    pub(crate) mute: bool,
    /// It is gone, but nobody has noticed yet: the next write fails.
    pub(crate) gone: bool,
}

impl Upstream {
    pub(crate) fn new(number: u32, key: Key, address: &str, dial_until: Tick) -> Self {
        Self {
            number,
            key,
            address: address.to_owned(),
            pipe: Pipe::default(),
            open: false,
            dial_until,
            lane: None,
            ids: Vec::new(),
            inbox: Vec::new(),
            done: Vec::new(),
            spoiled: false,
            mute: false,
            gone: false,
        }
    }

    pub(crate) fn lane(&self) -> u8 {
        self.lane.unwrap_or(0)
    }

    /// The socket took the first byte of a frame.
    pub(crate) fn begins<D: Dialect>(
        number: u32,
        address: &str,
        frame: &[u8],
        all: &mut [Call],
        shape: &Shape,
    ) {
        let Scan::Frame(framed) = D::scan(frame, usize::MAX) else { unreachable!("scanned before") };
        if !matches!(framed.kind, FrameKind::Request | FrameKind::OneWay) {
            return;
        }
        let token = token(D::payload(frame), false).expect("only calls of this life are forwarded");
        let call = &mut all[token];
        // One without an answer is never sent again, one with an answer as often as its route allows.
        let again = shape.tries().filter(|_| !call.one_way).unwrap_or(0);
        assert!(
            call.taken_by.len() <= again,
            "call {token} was sent on connection {number} after {:?} had taken a byte of it",
            call.taken_by
        );
        call.taken_by.push(number);
        let home = shape.home(call.service.expect("a call without a route was forwarded"));
        assert!(address.starts_with(&home), "call {token} went to {address}, it belongs to {home}");
    }

    /// The socket took a whole frame.
    pub(crate) fn hears<D: Dialect>(&mut self, frame: &[u8], all: &[Call], shape: &Shape) {
        let Scan::Frame(framed) = D::scan(frame, usize::MAX) else { unreachable!("scanned before") };
        match framed.kind {
            FrameKind::Request | FrameKind::OneWay => self.hears_call::<D>(frame, framed.id, all, shape),
            FrameKind::Heartbeat => {
                self.stays_in_lane::<D>(frame);
                if !self.mute {
                    D::heartbeat_ack(frame, &mut self.pipe.to_send);
                    self.pipe.sends(None);
                }
            }
            FrameKind::Response | FrameKind::HeartbeatAck => {}
            kind => panic!("an endpoint is sent a {kind:?}"),
        }
    }

    fn hears_call<D: Dialect>(&mut self, frame: &[u8], id: u64, all: &[Call], shape: &Shape) {
        self.stays_in_lane::<D>(frame);
        let token = token(D::payload(frame), false).expect("checked when it began");
        let call = &all[token];
        assert_eq!(D::payload(frame).len(), call.payload_len, "call {token} was cut");
        let mut index = HeadIndex::default();
        assert!(D::head(frame, Wants::TIMEOUT, &mut index).is_ok(), "call {token} arrives unreadable");
        let told = index.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        let route = call.service.and_then(|service| shape.route_timeout(service)).filter(|_| !call.one_way);
        let due = [call.timeout, route].into_iter().flatten().min();
        assert!(
            told.is_some() == due.is_some() && told <= due,
            "call {token}: timeout {:?} and the route's {route:?} became {told:?}",
            call.timeout
        );
        assert!(!self.ids.contains(&id), "id {id} was used twice on connection {}", self.number);
        self.ids.push(id);
        if !call.one_way {
            self.inbox.push((id, token));
        }
    }

    fn stays_in_lane<D: Dialect>(&mut self, frame: &[u8]) {
        let lane = D::lane(frame);
        assert_eq!(*self.lane.get_or_insert(lane), lane, "lanes are mixed on connection {}", self.number);
    }
}
