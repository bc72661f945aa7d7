//! The *streams* engine: many calls at once on each connection, true streaming both ways; and, because its links may be of
//! two protocols, the translation between them.
//!
//! Sources: RFC 9113 §5, §6.8, §8; RFC 9110 §7, §9.2.2. A [`outrigger_codec::Link`] is one connection as its protocol sees it; this engine
//! never looks into bytes. What happens to a call is told in the order of its life: [`down`] reads and decides it; [`pool`]
//! finds it a place on a connection; [`pass`] moves its bytes in both directions, as far as the windows allow; [`up`] gives
//! the answer back; [`own`] answers in our own name; [`fail`] does what can be done when an endpoint is lost; [`time`] is
//! everything that happens because time passes.
//!
//! Invariants: every call is answered once and by its own answer, or its caller sees that something is missing; bytes
//! arrive once and in order; a window is given back only for bytes that the other side took; a call that may have been
//! processed is not sent again unless its route allows it; what waits for one stream never stops another.

use std::collections::VecDeque;

use foldhash::quality::RandomState;
use outrigger_codec::{
    Dialect, Message, Outcome, Policy, Sniff, StreamCodec, Tag,
    exchange::Underscores,
    streams::{LinkSettings, StreamId},
};
use outrigger_core::{EndpointSlot, ListenerId, Plan, Tick, retry};

use super::{
    Arrival, Bounds, Context, Effect, Engine, Leg, Renewed,
    arena::{Arena, Key},
    counters::{Counts, counters},
    later::Later,
    outbox::Buffers,
    words::Teller,
};
use outlet::Outlet;
use way::Way;
use wire::Wire;

mod down;
mod fail;
mod hedge;
mod outlet;
mod own;
mod pass;
mod pool;
mod time;
mod up;
mod way;
mod wire;

counters! {
    /// Callers' connections accepted.
    down_opened,
    /// Connections to endpoints that were asked for.
    up_dialed,
    /// Connections to endpoints that could not be made.
    up_failed,
    /// Connections to endpoints that were lost with calls on them.
    up_lost,
    /// Connections to endpoints that take no new calls (GOAWAY).
    up_retired,
    /// Endpoints that gave no sign of life when asked.
    up_silent,
    /// Calls that waited in line for a place on a connection.
    waited,
    /// Requests refused because they cannot be carried.
    malformed,
    /// Requests refused by their size.
    too_large,
    /// Answers that could not be trusted.
    broken_answers,
    /// Calls that were not processed and went elsewhere.
    moved,
    /// Calls that were sent again.
    resent,
    /// Second tries of calls that waited long for their first.
    hedged,
    /// Calls that their callers took back.
    cancelled,
    /// Calls that we took back from their endpoints.
    up_cancelled,
    /// Callers' connections ended because what they sent cannot be trusted, or is an attack.
    down_broken,
    /// Endpoints' connections ended because what they sent cannot be trusted.
    up_broken,
    /// Calls of one protocol that were carried in another.
    translated,
    /// Callers closed because they did not read, or did not finish what they began.
    slow_callers,
    /// Callers closed because they were silent.
    idle_callers,
}

/// Bytes waiting in one connection's outlet at which bodies wait with their streams.
const HIGH: usize = 64 << 10;
/// Below this they go on.
const LOW: usize = HIGH / 2;
/// Bytes of a body that go out before other streams get their turn.
const QUANTUM: usize = 16 << 10;
/// Bytes of a request's body that are kept so that it can be sent elsewhere.
const REPLAY_MAX: usize = 64 << 10;
/// Interim answers to one request.
const INTERIMS_MAX: u8 = 8;
/// Bytes of a link without windows that wait for another side; then it is not read.
const AHEAD_MAX: usize = 64 << 10;

/// What callers and endpoints have in common: one connection.
#[derive(Debug)]
struct Connection<A: StreamCodec, B: StreamCodec> {
    link: Wire<A::Link, B::Link>,
    outlet: Outlet,
    /// The beginning of what is not complete, or what waits for its turn.
    carry: Vec<u8>,
    /// Bytes that `carry` must have before it is looked at again.
    need: usize,
    /// When the first byte in `carry` came.
    carry_since: Tick,
    last_in: Tick,
    last_out: Tick,
    /// Where in the outlet the answer to what was read last begins.
    said_at: u64,
    /// Calls that have bytes for it and wait for others' to go first.
    waiting: VecDeque<Key>,
    /// Calls on it.
    calls: u32,
    flushing: bool,
    /// Not read until `Resume`.
    paused: bool,
    /// Nothing more is read; closed when the outlet is written.
    closing: bool,
    /// It takes no new calls, and ends with its last.
    leaving: bool,
}

impl<A: StreamCodec, B: StreamCodec> Connection<A, B> {
    fn new(link: Wire<A::Link, B::Link>, now: Tick) -> Self {
        Self {
            link,
            outlet: Outlet::default(),
            carry: Vec::new(),
            need: 0,
            carry_since: now,
            last_in: now,
            last_out: now,
            said_at: 0,
            waiting: VecDeque::new(),
            calls: 0,
            flushing: false,
            paused: false,
            closing: false,
            leaving: false,
        }
    }

    /// Something is about to be said: unless more waits already, the time that it may take begins now.
    fn says(&mut self, now: Tick, buffers: &mut Buffers) -> (&mut Wire<A::Link, B::Link>, &mut Vec<u8>) {
        if self.outlet.is_empty() {
            self.last_out = now;
        }
        (&mut self.link, self.outlet.buffer(buffers))
    }
}

/// A caller's connection.
#[derive(Debug)]
struct Down<A: StreamCodec, B: StreamCodec> {
    connection: Connection<A, B>,
    arrival: Arrival,
    /// Calls taken back before they could be sent, lately.
    hasty: u32,
    /// It sends no more.
    ended: bool,
    /// When it was asked to leave.
    asked: Option<Tick>,
}

/// A connection to an endpoint.
#[derive(Debug)]
struct Up<A: StreamCodec, B: StreamCodec> {
    connection: Connection<A, B>,
    endpoint: EndpointSlot,
    /// Whether it was made; until then nothing is written.
    connected: bool,
    /// When it was asked for, later when it was opened.
    since: Tick,
    idle_since: Tick,
    /// In its pool's list of those that may have room.
    listed: bool,
    /// When it was asked for a sign of life that has not come.
    asked: Option<Tick>,
    /// Signs of life asked for since anything else came.
    asks: u8,
}

/// The connections of one kind to one endpoint.
#[derive(Debug, Default)]
struct Pool {
    /// Those that may have room for a call; the best last.
    free: Vec<Key>,
    /// All of them, open or being made.
    open: u32,
    /// Calls that wait for a place.
    line: VecDeque<Key>,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits in line.
    Line,
    /// It waits to be tried again.
    Later,
    /// It is with its endpoint.
    Asked,
    /// Its answer has begun.
    Answering,
}

/// One call: a request and its answer.
#[derive(Debug)]
struct Call {
    plan: Plan,
    dialect: Option<&'static dyn Dialect>,
    stage: Stage,
    down: Key,
    down_stream: StreamId,
    /// The connection that carries it, unless it waits in line or its endpoint is done with it.
    up: Option<Key>,
    up_stream: StreamId,
    request: Way,
    answer: Way,
    /// The request's head, until an answer comes; then the trailers of what waits.
    kept: Message,
    /// The request's body so far.
    replay: Vec<u8>,
    /// `replay` is all of it.
    whole: bool,
    /// Bytes of the request's body so far.
    body: u64,
    /// Where in its endpoint's outlet it begins.
    sent_at: u64,
    /// Until when its caller's time was told to its endpoint.
    told_at: Tick,
    /// When bytes of it last moved.
    moved_at: Tick,
    outcome: Outcome,
    /// Its answer has no body.
    bodiless: bool,
    /// Its endpoint wanted no more of the request, and its caller says more.
    cut_short: bool,
    interims: u8,
    tries: u8,
    /// How often it was sent again although it may have been processed.
    again: u8,
    /// Until when this try may take.
    try_until: Tick,
    /// When a second try goes beside it.
    hedge_at: Tick,
    /// That, or the first, as long as neither was answered.
    twin: Option<Key>,
}

impl Call {
    /// When it ends if nothing else ends it.
    fn deadline(&self) -> Tick {
        if self.request.end && !self.cut_short { self.plan.deadline } else { self.plan.caller_deadline }
    }

    /// When something must be done about it. How long a try takes is no endpoint's doing before the request is complete.
    fn due(&self) -> Tick {
        let tries = self.try_until.min(self.hedge_at);
        let tried = if self.stage == Stage::Asked && self.request.end { tries } else { Tick::NEVER };
        self.deadline().min(tried)
    }

    /// The request is complete: its times begin.
    fn completes(&mut self, now: Tick) {
        (self.request.end, self.cut_short) = (true, false);
        self.plan.complete(now);
        if self.stage == Stage::Asked {
            self.try_until = retry::try_deadline(&self.plan, self.again, now);
            self.hedge_at = retry::hedge_at(&self.plan, self.again, now);
        }
    }
}

/// The engine of one protocol in one worker, and of its translation into another and from it.
#[derive(Debug)]
pub struct Streams<A: StreamCodec, B: StreamCodec> {
    /// The bounds; may change with a reload.
    pub bounds: Bounds,
    /// What happened besides calls.
    pub counters: Counters,
    downs: Arena<Down<A, B>>,
    ups: Arena<Up<A, B>>,
    calls: Arena<Call>,
    /// By kind of link, then by endpoint slot.
    pools: [Vec<Pool>; 2],
    effects: Vec<Effect>,
    buffers: Buffers,
    /// Scratch, reused: the head being read, the answer being made, keys and tags being visited.
    message: Message,
    answer: Message,
    keys: Vec<Key>,
    tags: Vec<Tag>,
    /// Messages that are not needed now.
    spare: Vec<Message>,
    /// What answers pass by.
    lenient: Policy,
    draining: bool,
    /// Everything ends: nothing goes anywhere else.
    ending: bool,
    /// Nothing is due with any call before this.
    next_deadline: Tick,
    /// Calls that are tried again after a pause.
    later: Later<Key>,
    /// When budgets last recovered.
    second: Tick,
    ids: RandomState,
    next_id: u64,
    teller: Teller,
}

/// Messages kept for later.
const SPARE_MAX: usize = 1024;
/// A message that grew beyond this is given back to the allocator.
const MESSAGE_MAX: usize = 8 << 10;

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    /// Calls being carried.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    fn settings(&self) -> LinkSettings {
        let Bounds { limits, streams_max, .. } = self.bounds;
        LinkSettings { limits, streams_max, ..LinkSettings::default() }
    }

    /// The connection of a leg.
    fn connection(&mut self, leg: Leg) -> Option<&mut Connection<A, B>> {
        connection_of(&mut self.downs, &mut self.ups, leg)
    }

    /// Says once that bytes wait; not before an endpoint is connected.
    fn flush(&mut self, leg: Leg) {
        let ready = match leg {
            Leg::Down(_) => true,
            Leg::Up(key) => self.ups.get(key).is_some_and(|up| up.connected),
        };
        let Some(connection) = connection_of(&mut self.downs, &mut self.ups, leg) else { return };
        if ready && !connection.flushing && !connection.outlet.is_empty() {
            connection.flushing = true;
            self.effects.push(Effect::Flush(leg));
        }
    }

    fn tell(&mut self, now: Tick, what: &'static str, why: &str) {
        self.teller.tell(A::NAME, now, what, why);
    }

    fn take_spare(&mut self) -> Message {
        self.spare.pop().unwrap_or_default()
    }

    fn give_spare(&mut self, mut message: Message) {
        // One that holds no memory spares nobody anything.
        let worth = (1..=MESSAGE_MAX).contains(&message.bytes.capacity());
        if self.spare.len() < SPARE_MAX && worth {
            message.clear();
            self.spare.push(message);
        }
    }

    fn written(&mut self, context: &mut Context<'_>, leg: Leg, n: usize) {
        let Some(connection) = connection_of(&mut self.downs, &mut self.ups, leg) else { return };
        connection.outlet.wrote(n, &mut self.buffers);
        connection.last_out = context.now;
        let left = connection.outlet.len();
        if left == 0 && connection.closing {
            return match leg {
                Leg::Down(key) => self.finish_down(key),
                Leg::Up(key) => self.close_up(context, key),
            };
        }
        if left < LOW && !connection.waiting.is_empty() {
            self.pump_all(context, leg);
        }
        let Some(connection) = connection_of(&mut self.downs, &mut self.ups, leg) else { return };
        if connection.paused && connection.outlet.len() < LOW {
            self.effects.push(Effect::Resume(leg));
        }
        if left == 0
            && let Leg::Down(key) = leg
        {
            self.close_if_done(key, false);
        }
    }
}

/// The connection of a leg, where not the whole engine can be borrowed.
fn connection_of<'a, A: StreamCodec, B: StreamCodec>(
    downs: &'a mut Arena<Down<A, B>>,
    ups: &'a mut Arena<Up<A, B>>,
    leg: Leg,
) -> Option<&'a mut Connection<A, B>> {
    match leg {
        Leg::Down(key) => downs.get_mut(key).map(|down| &mut down.connection),
        Leg::Up(key) => ups.get_mut(key).map(|up| &mut up.connection),
    }
}

/// Each event is told where it is handled.
impl<A: StreamCodec, B: StreamCodec> Engine for Streams<A, B> {
    const NAME: &'static str = A::NAME;
    const TRANSLATES: Option<&'static str> = Some(B::NAME);

    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            counters: Counters::default(),
            downs: Arena::default(),
            ups: Arena::default(),
            calls: Arena::default(),
            pools: [Vec::new(), Vec::new()],
            effects: Vec::new(),
            buffers: Buffers::default(),
            message: Message::default(),
            answer: Message::default(),
            keys: Vec::new(),
            tags: Vec::new(),
            spare: Vec::new(),
            lenient: Policy { underscores: Underscores::Allow, ..Policy::default() },
            draining: false,
            ending: false,
            next_deadline: Tick::NEVER,
            later: Later::default(),
            second: Tick::ZERO,
            ids: RandomState::default(),
            next_id: 0,
            teller: Teller::default(),
        }
    }

    fn sniff(first: &[u8]) -> Sniff {
        A::sniff(first)
    }

    fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    fn effects(&mut self, into: &mut Vec<Effect>) {
        into.clear();
        std::mem::swap(&mut self.effects, into);
    }

    fn down_open(&mut self, arrival: Arrival, now: Tick) -> Key {
        self.accept(arrival, now)
    }

    fn down_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool {
        self.read(context, Leg::Down(key), bytes)
    }

    fn down_ended(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        self.end_of_down(context, key)
    }

    fn down_closed(&mut self, context: &mut Context<'_>, key: Key) {
        self.lost_down(context, key);
    }

    fn up_open(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        self.connected(context, key)
    }

    fn up_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool {
        self.read(context, Leg::Up(key), bytes)
    }

    fn up_closed(&mut self, context: &mut Context<'_>, key: Key, why: &str, clean: bool) {
        self.lost_up(context, key, why, clean);
    }

    fn resume(&mut self, context: &mut Context<'_>, leg: Leg) -> bool {
        self.resumed(context, leg)
    }

    fn outgoing(&mut self, leg: Leg) -> &[u8] {
        let Some(connection) = self.connection(leg) else { return &[] };
        connection.flushing = false;
        connection.outlet.unwritten()
    }

    fn wrote(&mut self, context: &mut Context<'_>, leg: Leg, n: usize) {
        self.written(context, leg, n);
    }

    fn next_wake(&self, now: Tick) -> Tick {
        self.next_look(now)
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        self.look(context);
    }

    fn reconcile(
        &mut self,
        context: &mut Context<'_>,
        bounds: Bounds,
        renew: &dyn Fn(ListenerId) -> Option<Renewed>,
    ) {
        self.bounds = bounds;
        self.take_up(context, renew);
    }

    fn drain(&mut self, now: Tick) {
        self.begin_drain(now);
    }

    fn press(&mut self) {
        self.close_idle();
    }

    fn shut(&mut self, context: &mut Context<'_>) {
        self.end_all(context);
    }

    fn callers(&self) -> usize {
        self.downs.len()
    }

    fn upstreams(&self) -> usize {
        self.ups.len()
    }

    fn counts(&self) -> Counts {
        self.counters.named()
    }
}
