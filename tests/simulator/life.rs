//! One life: the engine between its peers, with virtual time and a driver that obeys effects as the real one does.
//!
//! A socket is a number of bytes that it still takes; a write may take a part, then it blocks until it has room
//! again. After each event the engine's books must balance: as many callers and connections as there are sockets,
//! as many calls in flight as plans that are not settled. It must stay true to `worker::driver`: a driver kinder
//! than the real one would hide errors.

use std::{sync::Arc, time::Duration};

use outrigger::session::{
    arena::Key,
    frames::{Context, Effect, Frames, Leg},
};
use outrigger_core::{Local, Snapshot, Tick};

use crate::{
    dialect::Dialect,
    peers::{Call, Caller, Pipe, Seen, Upstream},
    rng::Rng,
    shape::Shape,
};

pub(crate) struct Life<D: Dialect> {
    pub(crate) rng: Rng,
    pub(crate) shape: Shape,
    pub(crate) tracing: bool,
    pub(crate) now: Tick,
    pub(crate) engine: Frames<D>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) local: Local,
    pub(crate) callers: Vec<Caller>,
    pub(crate) ups: Vec<Upstream>,
    pub(crate) calls: Vec<Call>,
    pub(crate) numbers: u32,
    dirty: Vec<Leg>,
    /// When `tick` is called next.
    armed: Tick,
    pub(crate) draining: bool,
    pub(crate) pressing: bool,
    pub(crate) shut: bool,
    /// Events that the engine handled.
    pub(crate) events: u64,
}

macro_rules! trace {
    ($life:expr, $($arg:tt)*) => {
        if $life.tracing {
            eprintln!("{:>12.6} {}", $life.now.0 as f64 / 1e9, format_args!($($arg)*));
        }
    };
}
pub(crate) use trace;

/// Silence on an upstream connection after which the engine may well find that it is dead.
fn patience<D: Dialect>() -> Duration {
    D::HEARTBEAT_IDLE + 3 * D::HEARTBEAT_WAIT
}

impl<D: Dialect> Life<D> {
    pub(crate) fn new(seed: u64, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut shape = Shape::draw(&mut rng);
        let snapshot = shape.snapshot();
        let mut local = Local::new(seed);
        local.reconcile(&snapshot);
        Self {
            engine: Frames::new(shape.bounds),
            rng,
            shape,
            tracing,
            now: Tick(1_000_000_000),
            snapshot,
            local,
            callers: Vec::new(),
            ups: Vec::new(),
            calls: Vec::new(),
            numbers: 0,
            dirty: Vec::new(),
            armed: Tick::NEVER,
            draining: false,
            pressing: false,
            shut: false,
            events: 0,
        }
    }

    /// Lets the engine handle one event, then does what it asks for and looks at its books.
    pub(crate) fn handle<R>(&mut self, event: impl FnOnce(&mut Frames<D>, &mut Context<'_>) -> R) -> R {
        self.handle_noting(event, |_, _| ())
    }

    /// The same; `note` is done with the result before the effects are obeyed.
    pub(crate) fn handle_noting<R>(
        &mut self,
        event: impl FnOnce(&mut Frames<D>, &mut Context<'_>) -> R,
        note: impl FnOnce(&mut Self, &R),
    ) -> R {
        self.callers.iter_mut().for_each(|caller| caller.was_reading = caller.reading);
        let (slow, idle) = (self.engine.counters.slow_callers, self.engine.counters.idle_callers);
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
        let result = event(&mut self.engine, &mut context);
        note(self, &result);
        self.obey(slow, idle);
        self.armed = self.armed.min(self.engine.next_wake(self.now));
        self.balance();
        result
    }

    fn obey(&mut self, slow: u64, idle: u64) {
        let mut effects = Vec::new();
        while self.engine.has_effects() {
            self.engine.effects(&mut effects);
            for effect in effects.drain(..) {
                trace!(self, "  {effect:?}");
                match effect {
                    Effect::Flush(leg) => {
                        let said = &mut self.pipe(leg).expect("a Flush for nobody").flush_said;
                        assert!(!std::mem::replace(said, true), "a second Flush before bytes were asked for");
                        self.dirty.push(leg);
                    }
                    Effect::Dial { up, address, timeout, .. } => {
                        assert!(self.ups.iter().all(|known| known.key != up), "a key was given twice");
                        assert!(
                            self.shape.is_listed(&address),
                            "{address} is not listed and yet connected to"
                        );
                        self.numbers += 1;
                        let until = self.now.after(timeout);
                        self.ups.push(Upstream::new(self.numbers, up, &address, until));
                    }
                    Effect::Close(Leg::Down(key)) | Effect::Finish(key) => {
                        self.caller_closed(key, slow, idle);
                    }
                    Effect::Close(Leg::Up(key)) => self.up_closed(key),
                    Effect::Resume(Leg::Down(key)) => {
                        let mut context =
                            Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
                        let reads = self.engine.resume(&mut context, key);
                        self.set_reading(key, reads);
                    }
                    Effect::Reset(_) | Effect::Shut(_) | Effect::Resume(Leg::Up(_)) => {
                        panic!("{effect:?} has no meaning where calls share a connection")
                    }
                }
            }
        }
    }

    pub(crate) fn set_reading(&mut self, key: Key, reads: bool) {
        let Some(caller) = self.callers.iter_mut().find(|caller| caller.key == key) else { return };
        if reads && !caller.reading {
            // Only now can it go on with a frame that was cut by the pause.
            caller.pipe.partial_since = caller.pipe.partial_since.map(|_| self.now);
        }
        caller.reading = reads;
    }

    fn pipe(&mut self, leg: Leg) -> Option<&mut Pipe> {
        match leg {
            Leg::Down(key) => self.callers.iter_mut().find(|down| down.key == key).map(|down| &mut down.pipe),
            Leg::Up(key) => self.ups.iter_mut().find(|up| up.key == key && up.open).map(|up| &mut up.pipe),
        }
    }

    /// The engine closes a caller: it must have a reason.
    fn caller_closed(&mut self, key: Key, slow: u64, idle: u64) {
        let at = self.callers.iter().position(|caller| caller.key == key).expect("a Close for nobody");
        let caller = self.callers.swap_remove(at);
        let (pipe, now) = (&caller.pipe, self.now);
        let counters = &self.engine.counters;
        trace!(self, "  {counters:?}");
        let behind = pipe.flush_said || pipe.blocked_since.is_some();
        let silence = self.shape.silence.unwrap_or(D::SERVER_IDLE);
        let frame_timeout = self.shape.bounds.frame_timeout;
        let silent = now.since(caller.last_io) >= silence;
        let half =
            caller.was_reading && pipe.partial_since.is_some_and(|since| now.since(since) >= frame_timeout);
        let waits = self.calls_waiting(&caller);
        // One that takes no answers is silent too.
        let silent = silent && (!waits || behind);
        let idle = (counters.idle_callers > idle || self.draining) && (silent || half);
        let quiet = self.draining && (!waits || self.pressing);
        // Its listener is gone: it may finish its calls, but not for ever.
        let left = caller.leaving.is_some_and(|since| !waits || now.since(since) >= frame_timeout);
        let slow = counters.slow_callers > slow && behind && !self.shape.calm;
        // Nobody knows whether one that sends no more still reads.
        let ended = caller.ended && (!waits || now.since(caller.last_io) >= silence);
        assert!(
            caller.spoiled || ended || slow || idle || quiet || left || self.shut,
            "caller {} was closed without reason (waits {waits}, behind {behind}, read {}, half a frame since {:?}, \
             frame_timeout {frame_timeout:?}, silence {silence:?})",
            caller.number,
            caller.was_reading,
            pipe.partial_since
        );
    }

    /// Whether a caller has calls that were given to the engine and not answered.
    pub(crate) fn calls_waiting(&self, caller: &Caller) -> bool {
        caller.calls.iter().any(|call| {
            let call = &self.calls[*call];
            !call.one_way && !call.answered && call.last_byte.is_some()
        })
    }

    /// The engine closes a connection to an endpoint: not while a sound one has calls to answer.
    fn up_closed(&mut self, key: Key) {
        let at = self.ups.iter().position(|up| up.key == key).expect("a Close for nobody");
        let up = self.ups.swap_remove(at);
        let (now, pipe) = (self.now, &up.pipe);
        let stuck = pipe.blocked_since.is_some_and(|since| now.since(since) >= Duration::from_secs(10));
        let mute = up.mute || now.since(pipe.last_delivery) >= patience::<D>();
        let half =
            pipe.partial_since.is_some_and(|since| now.since(since) >= self.shape.bounds.frame_timeout);
        let waits = up.inbox.iter().any(|(_, call)| !self.calls[*call].answered);
        let excused = up.spoiled || up.gone || stuck || mute || half || self.shut;
        // A caller that left waits no more; its calls are nobody's. Nor does a call here that is tried elsewhere, too, or may
        // be about to.
        let leaves = self.shape.leaves_slow_tries();
        let heard = up.inbox.iter().any(|(_, call)| {
            let call = &self.calls[*call];
            let here = call.taken_by.len() == 1 && !leaves;
            !call.answered && here && self.callers.iter().any(|caller| caller.number == call.caller)
        });
        assert!(
            excused || !up.open || !(waits && heard) || self.all_expired(&up),
            "connection {} was closed although calls wait for it",
            up.number
        );
    }

    /// Whether every call that waits at this endpoint is past its deadline: answered, but not yet written.
    fn all_expired(&self, up: &Upstream) -> bool {
        up.inbox.iter().all(|(_, call)| {
            let call = &self.calls[*call];
            let route = call.service.and_then(|service| self.shape.route_timeout(service));
            let limit = [route, call.timeout].into_iter().flatten().min();
            let began = call.first_byte.unwrap_or(Tick::NEVER);
            call.answered || call.served || limit.is_some_and(|limit| self.now >= began.after(limit))
        })
    }

    /// Writes what was noted, each connection once, unless its socket is full.
    pub(crate) fn flush_all(&mut self) {
        for leg in std::mem::take(&mut self.dirty) {
            if self.pipe(leg).is_some_and(|pipe| pipe.blocked_since.is_none()) {
                self.flush(leg);
            }
        }
    }

    /// Writes one outbox until it is empty or the socket is full.
    pub(crate) fn flush(&mut self, leg: Leg) {
        if let Leg::Up(key) = leg
            && self.ups.iter().any(|up| up.key == key && up.gone)
        {
            return self.up_lost(key, "broken pipe");
        }
        let (slow, idle) = (self.engine.counters.slow_callers, self.engine.counters.idle_callers);
        while self.write_once(leg) {}
        self.obey(slow, idle);
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
            return false;
        }
        let bound = self.shape.bounds.outbox_max + self.shape.bounds.frame_max;
        assert!(bytes.len() <= bound, "{} bytes wait for {leg:?}, the bound is {bound}", bytes.len());
        if pipe.room == 0 {
            pipe.blocked_since = Some(self.now);
            return false;
        }
        let n = bytes.len().min(pipe.room);
        let n = if self.rng.chance(80) { n } else { self.rng.range(1, n) };
        let seen = Seen { shape: &self.shape, now: self.now, draining: self.draining };
        let (calls, mut frames) = (&mut self.calls, Vec::new());
        match leg {
            Leg::Down(key) => {
                pipe.take::<D>(bytes, n, |_| {}, |frame| frames.push(frame.to_vec()));
                let caller = self.callers.iter_mut().find(|caller| caller.key == key).expect("found above");
                caller.last_io = self.now;
                for frame in frames {
                    caller.hears::<D>(&frame, calls, &seen);
                }
            }
            Leg::Up(key) => {
                let up = self.ups.iter_mut().find(|up| up.key == key).expect("found above");
                let (number, address) = (up.number, &up.address);
                let begun = |frame: &[u8]| Upstream::begins::<D>(number, address, frame, calls, &self.shape);
                up.pipe.take::<D>(bytes, n, begun, |frame| frames.push(frame.to_vec()));
                for frame in frames {
                    up.hears::<D>(&frame, calls, &self.shape);
                }
            }
        }
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
        self.engine.wrote(&mut context, leg, n);
        true
    }

    /// A connection ended, or could not be made.
    pub(crate) fn up_lost(&mut self, key: Key, why: &str) {
        let Some(at) = self.ups.iter().position(|up| up.key == key) else { return };
        let up = self.ups.swap_remove(at);
        trace!(self, "connection {} ends: {why}", up.number);
        self.handle(|engine, context| engine.up_closed(context, key, why));
    }

    /// A connection is made.
    pub(crate) fn up_opens(&mut self, key: Key, room: usize) {
        let Some(up) = self.ups.iter_mut().find(|up| up.key == key) else { return };
        up.open = true;
        up.pipe.room = room;
        up.pipe.last_delivery = self.now;
        trace!(self, "connection {} opens, room {room}", up.number);
        if !self.handle(|engine, context| engine.up_open(context, key)) {
            assert!(self.ups.iter().all(|up| up.key != key), "a connection is not wanted and yet not closed");
        }
    }

    /// Lets time pass; everything that is due on the way happens at its moment.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now.after(by);
        let mut at_once = 0;
        loop {
            let dial = self.ups.iter().filter(|up| !up.open).map(|up| (up.dial_until, up.key));
            let dial = dial.min_by_key(|(due, _)| *due);
            let due = dial.map_or(Tick::NEVER, |(due, _)| due);
            if due.min(self.armed) > until {
                break;
            }
            if due <= self.armed {
                self.now = self.now.max(due);
                let key = dial.expect("it is due").1;
                self.up_lost(key, "connect timeout");
            } else {
                self.now = self.now.max(self.armed);
                self.armed = Tick::NEVER;
                self.handle(Frames::tick);
                // A call that was read in this tick may be late already: one more look, not a hundred.
                at_once = if self.armed > self.now { 0 } else { at_once + 1 };
                assert!(at_once < 10, "a tick that wants to be called again at once, for ever");
            }
            // The flusher runs before the runtime sleeps.
            self.flush_all();
        }
        self.now = until;
    }

    /// The engine's books against what there is.
    fn balance(&mut self) {
        self.events += 1;
        assert_eq!(self.engine.callers(), self.callers.len(), "callers");
        assert_eq!(self.engine.upstreams(), self.ups.len(), "connections to endpoints");
        let sums = self.local.endpoints().fold((0u64, 0usize), |(calls, connections), (_, endpoint)| {
            (calls + u64::from(endpoint.in_flight), connections + endpoint.connections as usize)
        });
        assert_eq!(
            sums,
            (self.local.unsettled(), self.ups.len()),
            "calls in flight, connections by endpoint"
        );
    }
}
