//! One life: the engine between its peers, with virtual time and a driver that obeys effects as the real one does.
//!
//! A socket is a number of bytes that it still takes; a write may take a part, then it blocks until it has room again.
//! After each event the engine's books must balance. It must stay true to `worker::driver`: a driver kinder than the
//! real one would hide errors.

use std::{sync::Arc, time::Duration};

use outrigger::session::{Context, Effect, Engine, Leg, arena::Key, exchange::Exchange};
use outrigger_core::{Local, Snapshot, Tick};
use outrigger_http1::Http1;

use crate::{
    callers::{Caller, End},
    endpoints::Upstream,
    rng::Rng,
    shape::Shape,
    world::World,
};

/// One end of a socket, as the engine writes to it.
#[derive(Default)]
pub(crate) struct Pipe {
    /// Bytes it still takes before it blocks.
    pub(crate) room: usize,
    pub(crate) blocked_since: Option<Tick>,
    /// Since when it has taken all that comes.
    pub(crate) wide_since: Tick,
    /// A `Flush` was said and the bytes were not asked for yet.
    pub(crate) flush_said: bool,
    /// The engine reads from it.
    pub(crate) reading: bool,
    /// The engine says no more on it.
    pub(crate) shut: bool,
}

impl Pipe {
    pub(crate) fn new(room: usize) -> Self {
        Self { room, reading: true, ..Self::default() }
    }
}

pub(crate) struct Life {
    pub(crate) rng: Rng,
    pub(crate) tracing: bool,
    pub(crate) world: World,
    pub(crate) engine: Exchange<Http1>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) local: Local,
    pub(crate) callers: Vec<Caller>,
    pub(crate) ups: Vec<Upstream>,
    /// Connections being made that the engine has given up.
    pub(crate) unwanted: Vec<Key>,
    pub(crate) numbers: u32,
    dirty: Vec<Leg>,
    /// When `tick` is called next.
    armed: Tick,
    /// Events that the engine handled.
    pub(crate) events: u64,
}

macro_rules! trace {
    ($life:expr, $($arg:tt)*) => {
        if $life.tracing {
            eprintln!("{:>12.6} {}", $life.world.now.0 as f64 / 1e9, format_args!($($arg)*));
        }
    };
}
pub(crate) use trace;

/// Bytes that may wait for one connection: the mark above which the other is not read, what was read then, and a head.
const OUTBOX_MAX: usize = (64 + 64 + 64 + 4) << 10;

impl Life {
    pub(crate) fn new(seed: u64, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut shape = Shape::draw(&mut rng);
        let snapshot = shape.snapshot();
        let mut local = Local::new(seed);
        local.reconcile(&snapshot);
        Self {
            engine: Exchange::new(shape.bounds),
            rng,
            tracing,
            world: World {
                calls: Vec::new(),
                shape,
                now: Tick(1_000_000_000),
                draining: false,
                pressing: false,
                shut: false,
                swapped: Tick::ZERO,
                undialed: [None; 2],
            },
            snapshot,
            local,
            callers: Vec::new(),
            ups: Vec::new(),
            unwanted: Vec::new(),
            numbers: 0,
            dirty: Vec::new(),
            armed: Tick::NEVER,
            events: 0,
        }
    }

    /// Lets the engine handle one event, then does what it asks for and looks at its books.
    pub(crate) fn handle<R>(&mut self, event: impl FnOnce(&mut Exchange<Http1>, &mut Context<'_>) -> R) -> R {
        self.handle_noting(event, |_, _| ())
    }

    /// The same; `note` is done with the result before the effects are obeyed.
    pub(crate) fn handle_noting<R>(
        &mut self,
        event: impl FnOnce(&mut Exchange<Http1>, &mut Context<'_>) -> R,
        note: impl FnOnce(&mut Self, &R),
    ) -> R {
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.world.now };
        let result = event(&mut self.engine, &mut context);
        note(self, &result);
        self.obey();
        self.armed = self.armed.min(self.engine.next_wake(self.world.now));
        self.balance();
        result
    }

    fn obey(&mut self) {
        let mut effects = Vec::new();
        while self.engine.has_effects() {
            self.engine.effects(&mut effects);
            for effect in effects.drain(..) {
                trace!(self, "  {effect:?}");
                match effect {
                    Effect::Flush(leg) => {
                        self.given(leg);
                        let said = &mut self.pipe(leg).expect("a Flush for nobody").flush_said;
                        assert!(!std::mem::replace(said, true), "a second Flush before bytes were asked for");
                        self.dirty.push(leg);
                    }
                    Effect::Dial { up, address, timeout, .. } => self.dialed(up, &address, timeout),
                    Effect::Close(Leg::Down(key)) | Effect::Finish(key) => {
                        self.caller_closed(key, End::Orderly);
                    }
                    Effect::Reset(Leg::Down(key)) => self.caller_closed(key, End::Reset),
                    Effect::Close(Leg::Up(key)) | Effect::Reset(Leg::Up(key)) => self.up_closed(key),
                    Effect::Shut(leg) => {
                        let pipe = self.pipe(leg).expect("a Shut for nobody");
                        assert!(!std::mem::replace(&mut pipe.shut, true), "a second Shut");
                    }
                    Effect::Resume(leg) => {
                        let mut context =
                            Context { snapshot: &self.snapshot, local: &mut self.local, now: self.world.now };
                        let reads = self.engine.resume(&mut context, leg);
                        let pipe = self.pipe(leg).expect("a Resume for nobody");
                        pipe.reading = reads;
                    }
                }
            }
        }
    }

    fn dialed(&mut self, up: Key, address: &str, timeout: Duration) {
        assert!(self.ups.iter().all(|known| known.key != up), "a key was given twice");
        let mut calls = self.world.calls.iter();
        // A call that was decided before the conf changed may still go where it was to go.
        let older = |call: &crate::calls::Call| {
            call.outcome.is_none() && call.headed.is_some_and(|headed| headed <= self.world.swapped)
        };
        assert!(
            self.world.shape.is_listed(address) || calls.any(older),
            "{address} is not listed and yet connected to"
        );
        self.numbers += 1;
        let until = self.world.now.after(timeout);
        trace!(self, "  it is connection {}", self.numbers);
        self.ups.push(Upstream::new(self.numbers, up, address, self.world.now, until));
        let beside = self.ups.iter().filter(|up| up.address == address).count();
        let most = self.world.shape.settings.connections.unwrap_or(u32::MAX);
        assert!(beside <= most as usize, "{beside} connections to {address}");
    }

    /// An idle connection is about to get a request; a new one got its first when it was dialed.
    fn given(&mut self, leg: Leg) {
        let now = self.world.now;
        let idle = |up: &&mut Upstream| Leg::Up(up.key) == leg && up.settled && up.carries_nothing();
        if let Some(up) = self.ups.iter_mut().find(idle) {
            up.given = now;
        }
    }

    /// Whether another attempt of a connection's call is there, or may be on its way.
    fn has_another(&self, up: &Upstream) -> bool {
        let call = up.current.or(up.tunnel);
        self.ups.iter().filter(|other| other.key != up.key && other.address != up.address).any(|other| {
            let given = !other.open || (other.carries_nothing() && other.pipe.flush_said);
            other.address[..3] == up.address[..3] && (given || (call.is_some() && other.current == call))
        })
    }

    pub(crate) fn pipe(&mut self, leg: Leg) -> Option<&mut Pipe> {
        match leg {
            Leg::Down(key) => self.callers.iter_mut().find(|down| down.key == key).map(|down| &mut down.pipe),
            Leg::Up(key) => self.ups.iter_mut().find(|up| up.key == key && up.open).map(|up| &mut up.pipe),
        }
    }

    /// The engine ends a caller: it must have a reason.
    fn caller_closed(&mut self, key: Key, end: End) {
        let at = self.callers.iter().position(|caller| caller.key == key).expect("a Close for nobody");
        let mut caller = self.callers.swap_remove(at);
        trace!(self, "  caller {} is ended: {end:?}", caller.number);
        let waits = caller.front().map(|call| &self.world.calls[call]);
        assert!(
            caller.may_end(end, &self.world),
            "caller {} was ended without reason ({end:?}, waits for {waits:?})",
            caller.number
        );
        caller.over(Some(end), &mut self.world);
    }

    /// The engine closes a connection to an endpoint: not while a sound one has a request that somebody waits for.
    fn up_closed(&mut self, key: Key) {
        let at = self.ups.iter().position(|up| up.key == key).expect("a Close for nobody");
        let up = self.ups.swap_remove(at);
        trace!(self, "  connection {} is closed", up.number);
        if !up.open {
            self.unwanted.push(key);
            return;
        }
        up.leaves(self.has_another(&up), &mut self.world);
        let Some(call) = up.current.or(up.tunnel).map(|id| &self.world.calls[id]) else { return };
        let attempt = &call.attempts[up.attempt];
        let (world, now) = (&self.world, self.world.now);
        let caller = self.callers.iter().find(|caller| caller.number == call.caller);
        let there = caller.is_some_and(|caller| !caller.gone);
        let late = world.timed_out(call) || world.stuck(Some(up.moved));
        let bad = attempt.failed || call.flaw != crate::calls::Flaw::None || up.ends.is_some() || up.gone;
        let large = call.len as u64 > world.shape.bounds.limits.body_max;
        let ended = caller
            .is_some_and(|caller| caller.ended || caller.pipe.blocked_since.is_some_and(|since| now > since));
        let heard = call.outcome.is_some() && call.outcome != Some(crate::calls::Outcome::Tunnel);
        // Another was answered first.
        let lost = call.prevails.is_some_and(|first| first != up.attempt);
        // It took too long, and another takes its place, of which there is none yet.
        let limit = call.route.and_then(|route| world.shape.per_try(route));
        let alone = call.attempts.iter().filter(|attempt| attempt.over.is_none()).count() == 0;
        let slow = alone && call.whole.is_some() && !attempt.answered;
        let slow = slow && limit.is_some_and(|limit| world.passed(Some(attempt.given), limit));
        assert!(
            !there || late || bad || large || ended || heard || lost || slow || world.shut,
            "connection {} was closed although {call:?} waits for it",
            up.number
        );
        if let Some(attempt) = up.carries(&mut self.world) {
            attempt.slow = slow;
        }
    }

    /// Writes what was noted, each connection once, unless its socket is full.
    pub(crate) fn flush_all(&mut self) {
        while !self.dirty.is_empty() {
            for leg in std::mem::take(&mut self.dirty) {
                let deaf = matches!(leg, Leg::Up(key) if self.ups.iter().any(|up| up.key == key && up.deaf));
                if self.pipe(leg).is_some_and(|pipe| pipe.blocked_since.is_none()) && !deaf {
                    self.flush(leg);
                }
            }
        }
    }

    /// Writes one outbox until it is empty or the socket is full.
    pub(crate) fn flush(&mut self, leg: Leg) {
        match leg {
            Leg::Up(key) => {
                if let Some(up) = self.ups.iter_mut().find(|up| up.key == key && up.gone) {
                    if up.pipe.reading {
                        up.deaf = true;
                        return;
                    }
                    return self.up_lost(key, "broken pipe", End::Reset);
                }
            }
            Leg::Down(key) => {
                if self.callers.iter().any(|caller| caller.key == key && caller.gone) {
                    return self.caller_lost(key);
                }
            }
        }
        while self.write_once(leg) {}
        self.obey();
        self.balance();
    }

    /// One write; whether it took something.
    fn write_once(&mut self, leg: Leg) -> bool {
        let Some(pipe) = (match leg {
            Leg::Down(key) => self.callers.iter_mut().find(|down| down.key == key).map(|down| &mut down.pipe),
            Leg::Up(key) => self.ups.iter_mut().find(|up| up.key == key && up.open).map(|up| &mut up.pipe),
        }) else {
            return false;
        };
        let said = std::mem::take(&mut pipe.flush_said);
        let bytes = self.engine.outgoing(leg);
        if bytes.is_empty() {
            assert!(!said, "a Flush for nothing");
            return false;
        }
        assert!(bytes.len() <= OUTBOX_MAX, "{} bytes wait for {leg:?}", bytes.len());
        assert!(!pipe.shut, "bytes behind a Shut");
        if pipe.room == 0 {
            pipe.blocked_since = Some(self.world.now);
            return false;
        }
        let n = bytes.len().min(pipe.room);
        let n = if self.rng.chance(80) { n } else { self.rng.range(1, n) };
        pipe.room -= n;
        match leg {
            Leg::Down(key) => {
                let caller = self.callers.iter_mut().find(|caller| caller.key == key).expect("found above");
                caller.hears(&bytes[..n], &mut self.world);
            }
            Leg::Up(key) => {
                let up = self.ups.iter_mut().find(|up| up.key == key).expect("found above");
                up.hears(bytes, n, &mut self.world);
            }
        }
        trace!(self, "{leg:?} takes {n} bytes");
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.world.now };
        self.engine.wrote(&mut context, leg, n);
        true
    }

    /// A connection ended, or could not be made.
    pub(crate) fn up_lost(&mut self, key: Key, why: &str, end: End) {
        let Some(at) = self.ups.iter().position(|up| up.key == key) else { return };
        let up = self.ups.swap_remove(at);
        trace!(self, "connection {} ends: {why} ({end:?})", up.number);
        if up.open {
            up.over(end, &mut self.world);
            up.leaves(self.has_another(&up), &mut self.world);
        }
        // Nothing of a request that was to go over it went anywhere.
        if up.current.is_none() && up.tunnel.is_none() {
            self.world.undialed[usize::from(up.address.starts_with("c1-"))] = Some(self.world.now);
        }
        self.handle(|engine, context| engine.up_closed(context, key, why, end == End::Orderly));
    }

    /// A caller is gone, and somebody noticed.
    pub(crate) fn caller_lost(&mut self, key: Key) {
        let Some(at) = self.callers.iter().position(|caller| caller.key == key) else { return };
        let mut caller = self.callers.swap_remove(at);
        trace!(self, "caller {} is gone", caller.number);
        caller.over(None, &mut self.world);
        self.handle(|engine, context| engine.down_closed(context, key));
    }

    /// A connection is made.
    pub(crate) fn up_opens(&mut self, key: Key, room: usize) {
        let Some(up) = self.ups.iter_mut().find(|up| up.key == key) else { return };
        up.open = true;
        up.pipe = Pipe::new(room);
        up.moved = self.world.now;
        trace!(self, "connection {} opens, room {room}", up.number);
        if !self.handle(|engine, context| engine.up_open(context, key)) {
            assert!(self.ups.iter().all(|up| up.key != key), "a connection is not wanted and yet not closed");
        }
        if let Some(up) = self.ups.iter_mut().find(|up| up.key == key) {
            up.settled = true;
        }
    }

    /// Connections that nobody wants any more are made nevertheless, or are not.
    pub(crate) fn unwanted_open(&mut self) {
        for key in std::mem::take(&mut self.unwanted) {
            if self.rng.chance(50) {
                assert!(!self.handle(|engine, context| engine.up_open(context, key)), "it was given up");
            } else {
                self.handle(|engine, context| engine.up_closed(context, key, "connection refused", false));
            }
        }
    }

    /// Lets time pass; everything that is due on the way happens at its moment.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.world.now.after(by);
        let mut at_once = 0;
        loop {
            // The flusher runs before the runtime sleeps.
            self.flush_all();
            let dial = self.ups.iter().filter(|up| !up.open).map(|up| (up.dial_until, up.key));
            let dial = dial.min_by_key(|(due, _)| *due);
            let due = dial.map_or(Tick::NEVER, |(due, _)| due);
            if due.min(self.armed) > until {
                break;
            }
            if due <= self.armed {
                self.world.now = self.world.now.max(due);
                let key = dial.expect("it is due").1;
                self.up_lost(key, "connect timeout", End::Reset);
            } else {
                self.world.now = self.world.now.max(self.armed);
                self.armed = Tick::NEVER;
                self.handle(Exchange::tick);
                self.nobody_is_late();
                at_once = if self.armed > self.world.now { 0 } else { at_once + 1 };
                assert!(at_once < 10, "a tick that wants to be called again at once, for ever");
            }
        }
        self.world.now = until;
        self.nobody_is_late();
    }

    /// The engine's books against what there is.
    fn balance(&mut self) {
        self.events += 1;
        assert_eq!(self.engine.callers(), self.callers.len(), "callers");
        assert_eq!(self.engine.upstreams(), self.ups.len(), "connections to endpoints");
        let mut sums = (0u64, 0usize);
        for (_, endpoint) in self.local.endpoints() {
            let there = self.ups.iter().filter(|up| up.address == *endpoint.address).count();
            assert_eq!(endpoint.connections as usize, there, "connections to {}", endpoint.address);
            sums.0 += u64::from(endpoint.in_flight);
            sums.1 += there;
        }
        assert_eq!(
            sums,
            (self.local.unsettled(), self.ups.len()),
            "calls in flight, connections by endpoint"
        );
        assert_eq!(self.engine.calls() as u64, self.local.unsettled(), "calls");
        for up in &self.ups {
            let Some(call) = up.current.or(up.tunnel).map(|id| &self.world.calls[id]) else { continue };
            let lost = call.prevails.is_some_and(|first| first != up.attempt);
            assert!(!lost, "connection {} goes on with what was answered elsewhere: {call:?}", up.number);
        }
    }
}
