//! The *exchange* engine: one request and its answer at a time on each connection, bodies streamed both ways.
//!
//! Sources: RFC 9110 §7, §9.2.2, §15.2; RFC 9112 §9. The codec is the gate: this engine never looks into bytes. What
//! happens to a request is told in the order of its life: [`down`] reads and decides it and passes its body on; [`pool`]
//! finds it a connection that carries nothing else meanwhile; [`up`] gives the answer back; [`fail`] answers for
//! endpoints that are lost; [`time`] is everything that happens because time passes.
//!
//! The engine never blocks and never allocates for a call after warm-up, and holds these invariants: every request is
//! answered once and by its own answer, or its caller sees that something is missing; bytes of one exchange reach no
//! other, because a connection is used again only when both its messages ended and nothing is left over; a side that
//! does not take bytes stops the other from being read.

use std::{collections::VecDeque, marker::PhantomData};

use foldhash::quality::RandomState;
use outrigger_codec::{
    Asked, Change, ExchangeCodec, Head, HeadIndex, Message, Outcome, Policy, Sniff, http::hop,
};
use outrigger_core::{EndpointSlot, ListenerId, Plan, Tick};

use super::{
    Arrival, Bounds, Context, Effect, Engine, Leg, Renewed,
    arena::{Arena, Key},
    counters::{Counts, counters},
    later::Later,
    outbox::Buffers,
    words::Teller,
};
use flow::Flow;
use hedge::Hedge;

mod down;
mod fail;
mod flow;
mod hedge;
mod pool;
mod time;
mod up;

counters! {
    /// Callers' connections accepted.
    down_opened,
    /// Connections to endpoints that were asked for.
    up_dialed,
    /// Connections to endpoints that could not be made.
    up_failed,
    /// Connections to endpoints that were lost with a request on them.
    up_lost,
    /// Requests that found an idle connection.
    up_reused,
    /// Requests that waited in line for a connection.
    waited,
    /// Requests refused because they could be read in two ways, or not at all.
    malformed,
    /// Requests refused by their size.
    too_large,
    /// Answers that could not be trusted.
    broken_answers,
    /// Endpoints' connections with bytes that answer nobody; closed.
    unsolicited,
    /// Requests that were not sent and went to another connection.
    moved,
    /// Requests that were sent again.
    resent,
    /// Second tries of calls that waited long for their first.
    hedged,
    /// Connections that became something else (101, CONNECT).
    tunnels,
    /// Callers that did not finish their request in time.
    slow_requests,
    /// Callers closed because they did not read.
    slow_callers,
    /// Callers closed because they were silent.
    idle_callers,
}

/// Bytes waiting for one connection at which the other is not read any more.
const HIGH: usize = 64 << 10;
/// Below this the other is read again.
const LOW: usize = HIGH / 2;
/// Bytes of later requests that wait while one is served; then its caller is not read.
const CARRY_MAX: usize = 64 << 10;
/// Interim answers to one request.
const INTERIMS_MAX: u8 = 8;
/// The body of a refused request is read and dropped up to this, so that its caller may keep its connection.
const DISCARD_MAX: u64 = 64 << 10;

/// A caller's connection.
#[derive(Debug)]
struct Down<B> {
    arrival: Arrival,
    /// The beginning of a head, or bytes that wait for the request before them.
    carry: Vec<u8>,
    /// Bytes of `carry` in which no head ends.
    searched: usize,
    /// When the first byte of the head in `carry` came.
    carry_since: Tick,
    outbox: Flow,
    /// The request that is being served.
    call: Option<Call<B>>,
    /// Bytes of a refused request's body that are still to come.
    discard: u64,
    last_in: Tick,
    last_out: Tick,
    /// Not read until `Resume`.
    paused: bool,
    flushing: bool,
    /// Nothing more is read; closed when the outbox is written.
    closing: bool,
    /// It sends no more.
    ended: bool,
    /// Its listener is gone: it is closed with its next answer.
    leaving: bool,
}

impl<B> Down<B> {
    /// Something is about to be said: unless more waits already, the time that it may take begins now.
    fn begins_to_say(&mut self, now: Tick) {
        if self.outbox.is_empty() {
            self.last_out = now;
        }
    }
}

/// A request and its answer.
#[derive(Debug)]
struct Call<B> {
    plan: Plan,
    asked: Asked,
    /// The connection that carries it; `None`: it waits in line.
    up: Option<Key>,
    /// What is to be sent, while it waits in line.
    parked: Flow,
    /// The request's body.
    body: B,
    stage: Stage<B>,
    /// Its caller still waits for a word before it sends the body.
    awaits: bool,
    interims: u8,
    tries: u8,
    /// How often it was sent again although it may have been processed.
    again: u8,
    /// Until when this try may take.
    try_until: Tick,
    /// When a second try goes beside it.
    hedge_at: Tick,
    /// That, as long as neither was answered.
    hedge: Option<Hedge>,
    /// It waits to be tried again.
    pausing: bool,
}

impl<B: outrigger_codec::Body> Call<B> {
    /// When something must be done about it: nothing before its request is complete.
    fn due(&self) -> Tick {
        if !self.body.is_done() {
            return Tick::NEVER;
        }
        let tries = self.try_until.min(self.hedge_at);
        let tried = if matches!(self.stage, Stage::Head) { tries } else { Tick::NEVER };
        self.plan.deadline.min(tried)
    }
}

/// How far the answer is.
#[derive(Debug)]
enum Stage<B> {
    /// No byte of the answer was given to the caller.
    Head,
    Body(Answer<B>),
    /// Bytes of nobody's protocol, both ways.
    Tunnel,
}

/// An answer whose head was given to the caller.
#[derive(Debug)]
struct Answer<B> {
    body: B,
    outcome: Outcome,
    /// The caller's connection ends with it.
    close: bool,
    /// The endpoint takes another request on the same connection.
    keep: bool,
}

/// A connection to an endpoint.
#[derive(Debug)]
struct Up {
    endpoint: EndpointSlot,
    /// Whether it was made; until then nothing is written.
    connected: bool,
    /// Whose request it carries; `None`: it is idle, in its pool.
    down: Option<Key>,
    /// It carried another before.
    used: bool,
    /// The beginning of an answer's head.
    carry: Vec<u8>,
    searched: usize,
    outbox: Flow,
    /// When it was asked for, later when it was opened.
    since: Tick,
    idle_since: Tick,
    /// When bytes last moved.
    last_in: Tick,
    last_out: Tick,
    paused: bool,
    flushing: bool,
    /// Nothing more is to be said on it once the outbox is written.
    shutting: bool,
}

/// The connections to one endpoint.
#[derive(Debug, Default)]
struct Pool {
    /// Those that carry nothing; the newest last.
    idle: Vec<Key>,
    /// All of them, open or being made.
    open: u32,
    /// Callers whose requests wait for one.
    line: VecDeque<Key>,
}

/// The engine of one protocol in one worker.
#[derive(Debug)]
pub struct Exchange<C: ExchangeCodec> {
    /// The bounds; may change with a reload.
    pub bounds: Bounds,
    /// What happened besides calls.
    pub counters: Counters,
    downs: Arena<Down<C::Body>>,
    ups: Arena<Up>,
    /// By endpoint slot.
    pools: Vec<Pool>,
    effects: Vec<Effect>,
    buffers: Buffers,
    /// Scratch, reused: the head being read, keys being visited.
    index: HeadIndex,
    keys: Vec<Key>,
    draining: bool,
    /// Everything ends: nothing goes anywhere else.
    ending: bool,
    /// Requests being served.
    calls: usize,
    /// No call's deadline is before this.
    next_deadline: Tick,
    /// Callers whose requests are tried again after a pause.
    later: Later<Key>,
    ids: RandomState,
    next_id: u64,
    teller: Teller,
    /// Scratch: the head being changed.
    changed: Message,
    codec: PhantomData<C>,
}

impl<C: ExchangeCodec> Exchange<C> {
    /// Requests being served, a second try counted as one more.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Says once that bytes wait for a caller.
    fn flush_down(&mut self, key: Key) {
        if let Some(down) = self.downs.get_mut(key).filter(|down| !down.flushing) {
            down.flushing = true;
            self.effects.push(Effect::Flush(Leg::Down(key)));
        }
    }

    /// Says once that bytes wait for an endpoint; not before it is connected.
    fn flush_up(&mut self, key: Key) {
        if let Some(up) = self.ups.get_mut(key).filter(|up| !up.flushing && up.connected) {
            up.flushing = true;
            self.effects.push(Effect::Flush(Leg::Up(key)));
        }
    }

    fn tell(&mut self, now: Tick, what: &'static str, why: &str) {
        self.teller.tell(C::NAME, now, what, why);
    }

    fn wrote_down(&mut self, context: &mut Context<'_>, key: Key, n: usize) {
        let Some(down) = self.downs.get_mut(key) else { return };
        down.outbox.wrote(n, &mut self.buffers);
        down.last_out = context.now;
        let left = down.outbox.len();
        if left == 0 && down.closing {
            self.forget_down(key);
            self.effects.push(Effect::Finish(key));
            return;
        }
        if left == 0 && down.ended && down.call.is_none() && !down.paused {
            return self.close_down(key);
        }
        if left < LOW {
            if let Some(up) = down.call.as_ref().and_then(|call| call.up)
                && self.ups.get(up).is_some_and(|up| up.paused)
            {
                self.effects.push(Effect::Resume(Leg::Up(up)));
            }
            if down.paused && down.call.is_none() {
                self.effects.push(Effect::Resume(Leg::Down(key)));
            }
        }
    }

    fn wrote_up(&mut self, context: &mut Context<'_>, key: Key, n: usize) {
        let Some(up) = self.ups.get_mut(key) else { return };
        up.outbox.wrote(n, &mut self.buffers);
        up.last_out = context.now;
        if up.outbox.is_empty() && up.shutting {
            up.shutting = false;
            self.effects.push(Effect::Shut(Leg::Up(key)));
        }
        if up.outbox.len() < LOW
            && let Some(down) = up.down
            && self.downs.get(down).is_some_and(|down| down.paused)
        {
            self.effects.push(Effect::Resume(Leg::Down(down)));
        }
    }

    /// Forgets a caller and has its socket closed.
    fn close_down(&mut self, key: Key) {
        if self.forget_down(key) {
            self.effects.push(Effect::Close(Leg::Down(key)));
        }
    }

    /// Forgets a caller whose answer stays incomplete, and lets it see that.
    fn reset_down(&mut self, key: Key) {
        if self.forget_down(key) {
            self.effects.push(Effect::Reset(Leg::Down(key)));
        }
    }

    /// Its call, if it has one, was ended before.
    fn forget_down(&mut self, key: Key) -> bool {
        let Some(mut down) = self.downs.remove(key) else { return false };
        self.buffers.give(std::mem::take(&mut down.carry));
        down.outbox.clear(&mut self.buffers);
        true
    }

    /// Reads nothing more from a caller and closes it when its answers are written.
    fn finish_down(&mut self, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        down.closing = true;
        if down.outbox.is_empty() {
            self.forget_down(key);
            self.effects.push(Effect::Finish(key));
        } else {
            self.flush_down(key);
        }
    }
}

/// Each event is told where it is handled.
impl<C: ExchangeCodec> Engine for Exchange<C> {
    const NAME: &'static str = C::NAME;

    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            counters: Counters::default(),
            downs: Arena::default(),
            ups: Arena::default(),
            pools: Vec::new(),
            effects: Vec::new(),
            buffers: Buffers::default(),
            index: HeadIndex::default(),
            keys: Vec::new(),
            draining: false,
            ending: false,
            calls: 0,
            next_deadline: Tick::NEVER,
            later: Later::default(),
            ids: RandomState::default(),
            next_id: 0,
            teller: Teller::default(),
            changed: Message::default(),
            codec: PhantomData,
        }
    }

    fn sniff(first: &[u8]) -> Sniff {
        C::sniff(first)
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
        self.read_down(context, key, bytes)
    }

    fn down_ended(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        self.end_of_down(context, key)
    }

    fn down_closed(&mut self, context: &mut Context<'_>, key: Key) {
        self.abandon(context, key);
        self.forget_down(key);
    }

    fn up_open(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        self.connected(context, key)
    }

    fn up_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool {
        self.read_up(context, key, bytes)
    }

    fn up_closed(&mut self, context: &mut Context<'_>, key: Key, why: &str, clean: bool) {
        self.lost(context, key, why, clean);
    }

    fn resume(&mut self, context: &mut Context<'_>, leg: Leg) -> bool {
        match leg {
            Leg::Down(key) => self.resume_down(context, key),
            Leg::Up(key) => self.resume_up(context, key),
        }
    }

    fn outgoing(&mut self, leg: Leg) -> &[u8] {
        match leg {
            Leg::Down(key) => self.downs.get_mut(key).map(|down| {
                down.flushing = false;
                &down.outbox
            }),
            Leg::Up(key) => self.ups.get_mut(key).map(|up| {
                up.flushing = false;
                &up.outbox
            }),
        }
        .map_or(&[], Flow::unwritten)
    }

    fn wrote(&mut self, context: &mut Context<'_>, leg: Leg, n: usize) {
        match leg {
            Leg::Down(key) => self.wrote_down(context, key, n),
            Leg::Up(key) => self.wrote_up(context, key, n),
        }
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

/// A head as its route changes it, and with what is left of its time where a header tells it; copied into `scratch` only
/// where anything is changed.
fn changed<'a>(
    head: Head<'a>,
    change: Option<&Change>,
    left: Option<(&Policy, u32)>,
    scratch: &'a mut Message,
) -> Head<'a> {
    let change = change.filter(|change| !change.is_none());
    if change.is_none() && left.is_none() {
        return head;
    }
    scratch.bytes.clear();
    scratch.bytes.extend_from_slice(head.bytes);
    scratch.index.copy(head.index);
    if let Some(change) = change {
        change.apply(scratch);
        // The first header of a request is its host.
        if let Some(authority) = change.authority_of(scratch) {
            let value = scratch.put(authority);
            if let Some(host) = scratch.index.fields.first_mut() {
                host.value = value;
            }
        }
    }
    if let Some((policy, ms)) = left {
        hop::tell_timeout(scratch, policy, ms);
    }
    scratch.head()
}
