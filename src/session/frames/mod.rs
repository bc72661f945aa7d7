//! The *frames* engine: whole messages matched by an id, many callers over few upstream connections.
//!
//! Sources: the multiplexing rules of sofa-bolt (`RpcProtocol`), Dubbo (`HeaderExchangeHandler`, `DefaultFuture`) and
//! what their clients and servers were seen to do. What happens to a frame is told in the order of a call's life:
//! [`down`] reads requests, decides and forwards; [`up`] reads answers and gives them back; [`fail`] answers for
//! endpoints that are lost; [`time`] is everything that happens because time passes.
//!
//! The engine never blocks, never allocates for a call after warm-up, and holds these invariants: every call is
//! answered exactly once and by its own answer (or never, when it is one-way); nothing stays pending on a lost
//! connection; every buffer has a bound.

use std::{marker::PhantomData, time::Duration};

use outrigger_codec::{FrameCodec, HeadIndex, Sniff, frames::LANES_MAX};
use outrigger_core::{EndpointSlot, ListenerId, Tick};

use super::{
    Arrival, Engine, Renewed,
    arena::{Arena, Key},
    counters::{Counts, counters},
    engine::{AVOID_FAILED, TRIES_MAX},
    later::Later,
    outbox::{Buffers, Outbox},
    pending::{Call, Pending},
    words::Teller,
};

mod again;
mod down;
mod fail;
mod held;
mod time;
mod up;

pub use super::{Bounds, Context, Effect, Leg};

counters! {
    /// Callers' connections accepted.
    down_opened,
    /// Connections to endpoints that were asked for.
    up_dialed,
    /// Connections to endpoints that could not be made.
    up_failed,
    /// Connections to endpoints that were lost while open.
    up_lost,
    /// Connections closed because the framing could not be trusted, on either leg.
    malformed,
    /// Of these: the checksum did not match.
    crc,
    /// Frames refused by their size.
    too_large,
    /// Answers without a call: late, repeated or made up; dropped.
    unknown_replies,
    /// Keep-alive questions answered.
    heartbeats,
    /// Keep-alive questions beyond what one peer may ask; not answered.
    heartbeats_dropped,
    /// Endpoints' connections that missed three signs of life.
    heartbeats_missed,
    /// Calls from an endpoint to a caller, refused.
    callbacks_refused,
    /// Connections that an endpoint took out of service (READONLY, GOAWAY).
    retired,
    /// Calls that were not sent and went to another endpoint.
    moved,
    /// Calls that were sent again although they may have been processed.
    resent,
    /// Second tries of calls that waited long for their first.
    hedged,
    /// Frames whose route changes them, that could not be changed and passed as they were.
    unchanged,
    /// Callers closed because they did not read.
    slow_callers,
    /// Callers closed because they were silent, or took too long over a frame.
    idle_callers,
}

/// A caller's connection.
#[derive(Debug)]
struct Down {
    listener: ListenerId,
    /// Its address.
    source: Option<core::net::IpAddr>,
    /// Longest time without calls and bytes.
    silence: Duration,
    /// The beginning of a frame, or frames that wait because reading is paused.
    carry: Vec<u8>,
    /// When the first byte of `carry` came; `Tick::NEVER` when that is empty.
    carry_since: Tick,
    outbox: Outbox,
    /// Calls not yet answered.
    in_flight: u32,
    last_in: Tick,
    last_out: Tick,
    /// Not read: one of its endpoints, or it itself, has too much to write.
    paused: bool,
    /// A `Flush` was said and not yet asked for.
    flushing: bool,
    /// Nothing more is read; closed when the outbox is written.
    closing: bool,
    /// Its listener is gone, since then: closed when its calls are answered.
    leaving: Option<Tick>,
    /// It sends no more; closed when its calls are answered.
    ended: bool,
    beats: Beats,
}

/// Keep-alive questions of one peer within one second.
#[derive(Debug, Default)]
struct Beats {
    second: u64,
    count: u16,
}

/// A connection to an endpoint.
#[derive(Debug)]
struct Up {
    endpoint: EndpointSlot,
    lane: u8,
    /// Whether it was made; until then nothing is written.
    connected: bool,
    /// Takes no new calls; closed after the last answer.
    retired: bool,
    carry: Vec<u8>,
    carry_since: Tick,
    outbox: Outbox,
    pending: Pending,
    /// Callers that are not read until the outbox is shorter.
    waiting: Vec<Key>,
    /// When it was asked for, later when it was opened.
    since: Tick,
    last_in: Tick,
    /// When the socket last took a byte, or the outbox was last empty.
    progress: Tick,
    /// When the last call ended.
    idle_since: Tick,
    /// The keep-alive question that waits for its answer.
    beat: Option<(u64, Tick)>,
    missed: u8,
    flushing: bool,
    beats: Beats,
}

impl Up {
    /// Whether a peer that does not read has had its chance.
    fn stalled(&self, now: Tick) -> bool {
        !self.outbox.is_empty() && now.since(self.progress) > STALL
    }
}

/// An endpoint that took no byte for this long while bytes wait is stalled: calls to it are refused rather than
/// let its callers wait with all their other calls.
const STALL: Duration = Duration::from_secs(1);
/// A stalled connection is lost after this long.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Keep-alive questions one peer may ask a second.
const BEATS_MAX: u16 = 1_000;
/// Signs of life that may be missed in a row.
const MISSES_MAX: u8 = 3;
/// An endpoint that said goodbye is passed over for this long.
const AVOID_RETIRED: Duration = Duration::from_secs(10);

/// The engine of one protocol in one worker.
#[derive(Debug)]
pub struct Frames<C> {
    /// The bounds; may change with a reload.
    pub bounds: Bounds,
    /// What happened besides calls.
    pub counters: Counters,
    downs: Arena<Down>,
    ups: Arena<Up>,
    /// Upstream connections by endpoint slot and lane.
    pools: Vec<[Vec<Key>; LANES_MAX]>,
    effects: Vec<Effect>,
    buffers: Buffers,
    /// Scratch, reused: the head of the request being read, calls being answered, keys and ids being visited.
    index: HeadIndex,
    calls: Vec<Call>,
    keys: Vec<Key>,
    ids: Vec<u32>,
    draining: Option<Tick>,
    /// Draining, and nothing more is read.
    pressing: bool,
    /// Everything ends: nothing goes anywhere else.
    ending: bool,
    /// No call's deadline is before this.
    next_deadline: Tick,
    /// Calls that are sent again after a pause.
    later: Later<Call>,
    /// Calls whose service has still to be found.
    held: Vec<held::Held>,
    /// No time of one of them is up before that.
    next_held: Tick,
    goodbye_id: u64,
    teller: Teller,
    codec: PhantomData<C>,
}

impl<C: FrameCodec> Frames<C> {
    /// An engine without connections.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            counters: Counters::default(),
            downs: Arena::default(),
            ups: Arena::default(),
            pools: Vec::new(),
            effects: Vec::new(),
            buffers: Buffers::default(),
            index: HeadIndex::default(),
            calls: Vec::new(),
            keys: Vec::new(),
            ids: Vec::new(),
            draining: None,
            pressing: false,
            ending: false,
            next_deadline: Tick::NEVER,
            later: Later::default(),
            held: Vec::new(),
            next_held: Tick::NEVER,
            goodbye_id: 0,
            teller: Teller::default(),
            codec: PhantomData,
        }
    }

    /// What the driver must do now; handed over by exchanging an empty vector for a full one.
    pub fn effects(&mut self, into: &mut Vec<Effect>) {
        into.clear();
        std::mem::swap(&mut self.effects, into);
    }

    /// Whether there is anything for the driver to do.
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Callers connected.
    pub fn callers(&self) -> usize {
        self.downs.len()
    }

    /// Connections to endpoints, open or being made.
    pub fn upstreams(&self) -> usize {
        self.ups.len()
    }

    /// The bytes to write now. Asking for them ends the `Flush` that was said.
    pub fn outgoing(&mut self, leg: Leg) -> &[u8] {
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
        .map_or(&[], Outbox::unwritten)
    }

    /// The socket took `n` bytes (all when `n` is what `outgoing` gave).
    pub fn wrote(&mut self, context: &mut Context<'_>, leg: Leg, n: usize) {
        match leg {
            Leg::Down(key) => {
                let Some(down) = self.downs.get_mut(key) else { return };
                down.outbox.wrote::<C>(n, &mut self.buffers);
                down.last_out = context.now;
                if down.outbox.is_empty() {
                    if down.closing {
                        self.forget_down(key);
                        self.effects.push(Effect::Finish(key));
                    } else if down.ended && down.in_flight == 0 {
                        self.close_down(key);
                    } else if down.paused {
                        self.effects.push(Effect::Resume(Leg::Down(key)));
                    }
                }
            }
            Leg::Up(key) => {
                let Some(up) = self.ups.get_mut(key) else { return };
                up.outbox.wrote::<C>(n, &mut self.buffers);
                up.progress = context.now;
                if up.outbox.len() < self.bounds.outbox_high / 4 {
                    self.effects.extend(up.waiting.drain(..).map(|key| Effect::Resume(Leg::Down(key))));
                }
                self.close_if_spent(context, key);
            }
        }
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

    /// Forgets a caller and has its socket closed. Its calls stay until their answers come, for nobody.
    fn close_down(&mut self, key: Key) {
        if self.forget_down(key) {
            self.effects.push(Effect::Close(Leg::Down(key)));
        }
    }

    fn forget_down(&mut self, key: Key) -> bool {
        let Some(mut down) = self.downs.remove(key) else { return false };
        self.buffers.give(std::mem::take(&mut down.carry));
        true
    }

    fn tell(&mut self, now: Tick, what: &'static str, why: &str) {
        self.teller.tell(C::NAME, now, what, why);
    }

    /// Whether one more keep-alive question of a peer is answered.
    fn beat_allowed(beats: &mut Beats, now: Tick) -> bool {
        let second = now.0 / 1_000_000_000;
        if beats.second != second {
            *beats = Beats { second, count: 0 };
        }
        beats.count = beats.count.saturating_add(1);
        beats.count <= BEATS_MAX
    }
}

/// The engine as the driver sees it: each event is told where it is handled.
impl<C: FrameCodec> Engine for Frames<C> {
    const NAME: &'static str = C::NAME;

    fn new(bounds: Bounds) -> Self {
        Self::new(bounds)
    }

    fn sniff(first: &[u8]) -> Sniff {
        C::sniff(first)
    }

    fn has_effects(&self) -> bool {
        self.has_effects()
    }

    fn effects(&mut self, into: &mut Vec<Effect>) {
        self.effects(into);
    }

    fn down_open(&mut self, arrival: Arrival, now: Tick) -> Key {
        let key = self.down_open(arrival.listener, arrival.manners.keepalive_timeout, now);
        if let Some(down) = self.downs.get_mut(key) {
            down.source = arrival.peer;
        }
        key
    }

    fn down_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool {
        self.down_bytes(context, key, bytes)
    }

    fn down_ended(&mut self, _: &mut Context<'_>, key: Key) -> bool {
        self.down_ended(key)
    }

    fn down_closed(&mut self, _: &mut Context<'_>, key: Key) {
        self.down_closed(key);
    }

    fn up_open(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        self.up_open(context, key)
    }

    fn up_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool {
        self.up_bytes(context, key, bytes)
    }

    fn up_closed(&mut self, context: &mut Context<'_>, key: Key, why: &str, _: bool) {
        self.up_closed(context, key, why);
    }

    fn resume(&mut self, context: &mut Context<'_>, leg: Leg) -> bool {
        match leg {
            Leg::Down(key) => self.resume(context, key),
            // Endpoints are always read: their callers' outboxes have bounds.
            Leg::Up(_) => true,
        }
    }

    fn outgoing(&mut self, leg: Leg) -> &[u8] {
        self.outgoing(leg)
    }

    fn wrote(&mut self, context: &mut Context<'_>, leg: Leg, n: usize) {
        self.wrote(context, leg, n);
    }

    fn next_wake(&self, now: Tick) -> Tick {
        self.next_wake(now)
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        self.tick(context);
    }

    fn reconcile(
        &mut self,
        context: &mut Context<'_>,
        bounds: Bounds,
        renew: &dyn Fn(ListenerId) -> Option<Renewed>,
    ) {
        self.bounds = bounds;
        self.reconcile(context, renew);
    }

    fn drain(&mut self, now: Tick) {
        self.drain(now);
    }

    fn press(&mut self) {
        self.press();
    }

    fn shut(&mut self, context: &mut Context<'_>) {
        self.shut(context);
    }

    fn callers(&self) -> usize {
        self.callers()
    }

    fn upstreams(&self) -> usize {
        self.upstreams()
    }

    fn counts(&self) -> Counts {
        self.counters.named()
    }
}
