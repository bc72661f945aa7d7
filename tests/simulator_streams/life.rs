//! One life: the engine between its peers, with virtual time and a driver that obeys effects as the real one does.
//!
//! A socket is a number of bytes that it still takes; a write may take a part, then it blocks until it has room again.
//! After each event the engine's books must balance. It must stay true to `worker::driver`: a driver kinder than the
//! real one would hide errors.

use std::{sync::Arc, time::Duration};

use outrigger::session::{Context, Effect, Engine, Leg, arena::Key, streams::Streams};
use outrigger_core::{Local, Snapshot, Tick};
use outrigger_http1::Http1;
use outrigger_http2::Http2;

use crate::{
    callers::{Caller, End},
    calls::Outcome,
    endpoints::Upstream,
    rng::Rng,
    shape::{SPEAKS, Shape},
    world::World,
};

/// The engine.
pub(crate) type Sut = Streams<Http2, Http1>;

/// One end of a socket, as the engine writes to it.
#[derive(Default)]
pub(crate) struct Pipe {
    /// Bytes it still takes before it blocks.
    pub(crate) room: usize,
    pub(crate) blocked_since: Option<Tick>,
    /// A `Flush` was said and the bytes were not asked for yet.
    pub(crate) flush_said: bool,
    /// The engine reads from it.
    pub(crate) reading: bool,
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
    pub(crate) engine: Sut,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) local: Local,
    pub(crate) callers: Vec<Caller>,
    pub(crate) ups: Vec<Upstream>,
    /// Connections being made that the engine has given up.
    pub(crate) unwanted: Vec<Key>,
    /// Connections to endpoints that ended by themselves.
    lost: Vec<Key>,
    /// Connections that were just closed, and calls that they carried, with their attempts.
    suspects: Vec<(u32, usize, usize)>,
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

/// Bytes that may wait for one connection: the mark above which bodies wait, what was read then, and heads and windows.
const OUTLET_MAX: usize = (64 + 64 + 32) << 10;

impl Life {
    pub(crate) fn new(seed: u64, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut shape = Shape::draw(&mut rng);
        let snapshot = shape.snapshot();
        let mut local = Local::new(seed);
        local.reconcile(&snapshot);
        trace_shape(tracing, &shape);
        Self {
            engine: Sut::new(shape.bounds),
            rng,
            tracing,
            world: World {
                slow: shape.slow_percent > 0,
                calls: Vec::new(),
                shape,
                now: Tick(1_000_000_000),
                draining: false,
                pressing: false,
                shut: false,
                swapped: Tick::ZERO,
                trouble: [None; SPEAKS.len()],
            },
            snapshot,
            local,
            callers: Vec::new(),
            ups: Vec::new(),
            unwanted: Vec::new(),
            lost: Vec::new(),
            suspects: Vec::new(),
            numbers: 0,
            dirty: Vec::new(),
            armed: Tick::NEVER,
            events: 0,
        }
    }

    /// Lets the engine handle one event, then does what it asks for and looks at its books.
    pub(crate) fn handle<R>(&mut self, event: impl FnOnce(&mut Sut, &mut Context<'_>) -> R) -> R {
        self.handle_noting(event, |_, _| ())
    }

    /// The same; `note` is done with the result before the effects are obeyed.
    pub(crate) fn handle_noting<R>(
        &mut self,
        event: impl FnOnce(&mut Sut, &mut Context<'_>) -> R,
        note: impl FnOnce(&mut Self, &R),
    ) -> R {
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.world.now };
        let result = event(&mut self.engine, &mut context);
        note(self, &result);
        self.obey();
        self.nobody_is_left_alone();
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
                        // The real driver looks for the connection when it writes, and so it may be gone by then.
                        let Some(pipe) = self.pipe(leg) else { continue };
                        pipe.flush_said = true;
                        self.dirty.push(leg);
                        self.stirs(leg);
                    }
                    Effect::Dial { up, address, timeout, .. } => self.dialed(up, &address, timeout),
                    Effect::Close(Leg::Down(key)) | Effect::Finish(key) => {
                        self.caller_closed(key, End::Orderly);
                    }
                    Effect::Reset(Leg::Down(key)) => self.caller_closed(key, End::Reset),
                    Effect::Close(Leg::Up(key)) | Effect::Reset(Leg::Up(key)) => self.up_closed(key),
                    Effect::Shut(leg) => panic!("nothing is half-closed here: {leg:?}"),
                    Effect::Resume(leg) => {
                        let mut context =
                            Context { snapshot: &self.snapshot, local: &mut self.local, now: self.world.now };
                        let reads = self.engine.resume(&mut context, leg);
                        if let Some(pipe) = self.pipe(leg) {
                            pipe.reading = reads;
                        }
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
        // Nothing is wrong with any of those there are, so there are no more than the conf says.
        let cluster = usize::from(address.as_bytes()[1] - b'0');
        let sound = self.world.shape.calm && self.world.trouble[cluster].is_none();
        let beside = self.ups.iter().filter(|up| up.address == address).count();
        let most = self.world.shape.settings.connections.unwrap_or(u32::MAX) as usize;
        let counts = sound && SPEAKS[cluster] == Some("http2");
        assert!(!counts || beside < most, "{beside} connections to {address}, and one more");
        self.numbers += 1;
        let until = self.world.now.after(timeout);
        trace!(self, "  it is connection {} to {address}", self.numbers);
        self.ups.push(Upstream::new(self.numbers, up, address, self.world.now, until));
    }

    /// There is something to write to an endpoint that had everything.
    fn stirs(&mut self, leg: Leg) {
        let now = self.world.now;
        if let Some(up) = self.ups.iter_mut().find(|up| Leg::Up(up.key) == leg && up.dry) {
            (up.dry, up.stirred) = (false, now);
        }
    }

    /// A connection has bytes to write.
    pub(crate) fn note(&mut self, leg: Leg) {
        self.dirty.push(leg);
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
        let waits: Vec<_> = caller.waiting.iter().map(|call| &self.world.calls[*call]).collect();
        assert!(
            caller.may_end(end, &self.world),
            "caller {} was ended without reason ({end:?}, waits for {waits:?})",
            caller.number
        );
        caller.over(Some(end), &mut self.world);
    }

    /// The engine closes a connection to an endpoint: not while a sound one has a call that somebody waits for.
    fn up_closed(&mut self, key: Key) {
        let Some(at) = self.ups.iter().position(|up| up.key == key) else {
            // It ended by itself, and is told that it does.
            return assert!(self.lost.contains(&key), "a Close for nobody");
        };
        let up = self.ups.swap_remove(at);
        trace!(self, "  connection {} is closed", up.number);
        if !up.open {
            self.unwanted.push(key);
            return;
        }
        let silent = up.is_silent(&self.world) && !self.world.shape.calm;
        let late = self.world.passed(Some(up.moved), Duration::from_secs(30));
        let bad = up.wild || up.ends.is_some() || up.gone || silent || late;
        for (call, attempt) in up.carried(&self.world).filter(|_| !bad) {
            let early = call.attempts[attempt].reply.is_some();
            if !(early && up.h1 == Some(true)) {
                self.suspects.push((up.number, call.id, attempt));
            }
        }
        for (id, attempt) in up.carried(&self.world).map(|(call, at)| (call.id, at)).collect::<Vec<_>>() {
            self.world.calls[id].attempts[attempt].dropped = true;
        }
        if bad {
            up.over(&mut self.world, false);
            self.world.trouble[up.cluster] = Some(self.world.now);
        }
    }

    /// Connections that were closed carried no call that somebody waits for, when all is done that was asked for.
    fn nobody_is_left_alone(&mut self) {
        for (number, id, attempt) in std::mem::take(&mut self.suspects) {
            let call = &self.world.calls[id];
            // Another was answered, or it took too long and another takes its place.
            let lost = call.answers.iter().any(|other| *other != attempt);
            let limit = call.route.and_then(|route| self.world.shape.per_try(route));
            let slow = call.attempts[attempt].is_slow(limit, self.world.now);
            let beside = call.route.and_then(|route| self.world.shape.hedge(route)).is_some();
            let replaced = slow || (lost && (beside || limit.is_some()));
            let caller = self.callers.iter().find(|caller| caller.number == call.caller);
            let stalls = |caller: &Caller| caller.peer.unsent() > 0 && caller.late(&self.world);
            let halved = |caller: &Caller| caller.ended && call.whole.is_none();
            let left = caller.is_none_or(|caller| {
                let over = caller.gone || caller.wild || halved(caller) || stalls(caller);
                over || call.taken_back(caller.peer.sent)
            });
            let over = call.outcome.is_some() || self.world.unlucky(call) || left || replaced;
            let state =
                caller.map(|it| (it.peer.unsent(), it.last_in, it.pipe.reading, it.pipe.blocked_since));
            assert!(over, "connection {number} was closed although {call:?} waits for it, {state:?}");
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
        self.nobody_goes_on_in_vain();
    }

    /// What was written told every endpoint of calls of which nobody wants its answer any more.
    fn nobody_goes_on_in_vain(&self) {
        let told = |up: &&Upstream| up.h1 == Some(false) && up.pipe.blocked_since.is_none() && !up.gone;
        for up in self.ups.iter().filter(|up| up.ends.is_none()).filter(told) {
            for (call, attempt) in up.carried(&self.world) {
                let lost = call.prevails().is_some_and(|first| first != attempt);
                assert!(!lost, "connection {} goes on with what was answered elsewhere: {call:?}", up.number);
                let caller = self.callers.iter().find(|caller| caller.number == call.caller);
                let back = caller.is_none_or(|caller| call.taken_back(caller.peer.sent));
                assert!(!back, "connection {} goes on with what was taken back: {call:?}", up.number);
            }
        }
    }

    /// Writes one outlet until it is empty or the socket is full.
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
        self.nobody_is_left_alone();
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
        pipe.flush_said = false;
        let bytes = self.engine.outgoing(leg);
        if bytes.is_empty() {
            if let Some(up) = self.ups.iter_mut().find(|up| Leg::Up(up.key) == leg) {
                up.dry = true;
            }
            return false;
        }
        assert!(bytes.len() <= OUTLET_MAX, "{} bytes wait for {leg:?}", bytes.len());
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
                trace_to(self.tracing, &self.world, "caller", caller.number, n);
                if self.tracing && caller.h1 {
                    eprintln!("{}", bytes[..n.min(600)].escape_ascii());
                }
                caller.hears(&bytes[..n], &mut self.world);
            }
            Leg::Up(key) => {
                let up = self.ups.iter_mut().find(|up| up.key == key).expect("found above");
                trace_to(self.tracing, &self.world, "connection", up.number, n);
                if up.h1.is_none() {
                    let wishes = self.world.shape.wishes(true, &mut self.rng);
                    if bytes.starts_with(b"PRI") {
                        up.peer.greet(wishes);
                    }
                }
                up.hears(bytes, n, &mut self.world);
            }
        }
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.world.now };
        self.engine.wrote(&mut context, leg, n);
        true
    }

    /// A connection ended, or could not be made.
    pub(crate) fn up_lost(&mut self, key: Key, why: &str, end: End) {
        let Some(at) = self.ups.iter().position(|up| up.key == key) else { return };
        let up = self.ups.swap_remove(at);
        trace!(self, "connection {} ends: {why} ({end:?})", up.number);
        self.lost.push(key);
        if up.open {
            up.over(&mut self.world, false);
        }
        self.world.trouble[up.cluster] = Some(self.world.now);
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
        (up.moved, up.last_said) = (self.world.now, self.world.now);
        trace!(self, "connection {} opens, room {room}", up.number);
        if !self.handle(|engine, context| engine.up_open(context, key)) {
            assert!(self.ups.iter().all(|up| up.key != key), "a connection is not wanted and yet not closed");
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
                self.handle(Sut::tick);
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
    }

    /// Calls whose time is up have ended, with a margin: connections are looked over a few times a second.
    fn nobody_is_late(&self) {
        const MARGIN: Duration = Duration::from_millis(1_500);
        let clear = |caller: &Caller| caller.pipe.blocked_since.is_none() && !caller.pipe.flush_said;
        for caller in self.callers.iter().filter(|caller| !caller.gone && clear(caller)) {
            for id in caller.waiting.iter().take(if caller.h1 { 1 } else { usize::MAX }) {
                let call = &self.world.calls[*id];
                let limit = call.route.and_then(|route| self.world.shape.timeout(route));
                let turn = call.whole.map(|whole| if caller.h1 { whole.max(caller.last_out) } else { whole });
                // An answer before it may look complete to its caller before its endpoint has ended it.
                let turn = turn.filter(|_| !caller.h1 || !call.attempts.is_empty());
                let late = limit.is_some_and(|limit| self.world.passed(turn, limit + MARGIN));
                let theirs = call.time.is_some_and(|limit| self.world.passed(call.headed, limit + MARGIN));
                let read = caller.pipe.reading && call.outcome != Some(Outcome::Left);
                assert!(!read || !(late || theirs), "nobody answers in time, and is waited for: {call:?}");
            }
        }
    }
}

fn trace_to(tracing: bool, world: &World, what: &str, number: u32, n: usize) {
    if tracing {
        eprintln!("{:>12.6} {what} {number} takes {n} bytes", world.now.0 as f64 / 1e9);
    }
}

fn trace_shape(tracing: bool, shape: &Shape) {
    if tracing {
        let idle = shape.manners.idle_timeout;
        eprintln!("calm {}, {:?}, idle_timeout {idle:?}, {:?}", shape.calm, shape.settings, shape.timeouts());
    }
}
