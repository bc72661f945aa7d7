//! An engine's whole world under any sequence of events: what callers and endpoints say, sockets that take a part,
//! connections that are made and lost, time that passes, an end.
//!
//! The bytes are a script of such events. The engine is driven as the driver of the sockets would. Nothing may wait in it
//! beyond its bounds, and nothing may be left; what was said and heard is for others to judge. Must never give the engine
//! what a driver would not.

use std::{sync::Arc, time::Duration};

use outrigger::session::{Arrival, Bounds, Context, Effect, Engine, Leg, Manners};
use outrigger_codec::{Policy, exchange::Limits};
use outrigger_core::{ListenerId, Local, Snapshot, Tick};

/// Events of one script.
const EVENTS_MAX: usize = 300;
const CALLERS_MAX: usize = 4;
/// The bounds of every engine here.
pub(super) const LIMITS: Limits =
    Limits { head_max: 4 << 10, headers_max: 20, uri_max: 1 << 10, body_max: 4 << 20 };

/// What one engine is put through, and what it is told.
#[derive(Clone, Copy)]
pub(super) struct Plot<E> {
    /// The conf.
    pub(super) snapshot: fn() -> Snapshot,
    /// What the endpoints are called; each speaks the protocol whose number it has.
    pub(super) endpoints: [(&'static str, usize); 2],
    /// What callers say, by protocol: the engine's own, the one that it translates.
    pub(super) callers_say: [&'static [&'static [u8]]; 2],
    /// What endpoints say.
    pub(super) endpoints_say: [&'static [&'static [u8]]; 2],
    /// What each side says first.
    pub(super) first: [(&'static [u8], &'static [u8]); 2],
    /// How many calls the engine carries.
    pub(super) calls: fn(&E) -> usize,
    /// Bytes that may wait for one connection.
    pub(super) waiting_max: usize,
}

impl<E> Plot<E> {
    /// How many protocols are spoken.
    fn kinds(&self) -> usize {
        self.callers_say.iter().filter(|words| !words.is_empty()).count()
    }
}

/// Lives through the script; who was there, and the engine.
pub(super) fn live<E: Engine>(plot: Plot<E>, script: &[u8]) -> World<E> {
    let mut world = World::new(plot);
    let mut script = Script(script);
    for _ in 0..EVENTS_MAX {
        let Some(event) = script.byte() else { break };
        world.event(event, &mut script);
        world.measure();
    }
    world.end();
    world
}

/// The events that are still to come.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// What somebody says: the script's own bytes behind their number, or one of `said`.
    fn words(&mut self, own: bool, said: &[&[u8]]) -> Vec<u8> {
        let n = usize::from(self.byte().unwrap_or_default());
        if own {
            let n = n.min(self.0.len());
            self.0.split_off(..n).unwrap_or_default().to_vec()
        } else {
            said[n % said.len()].to_vec()
        }
    }
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Dialing,
    /// Given up while it was being made.
    Unwanted,
    Open,
    Over,
}

/// A caller or an endpoint's connection, with all that went over it.
pub(super) struct Peer {
    /// The number of its protocol.
    pub(super) kind: usize,
    leg: Leg,
    state: State,
    reading: bool,
    /// Bytes wait for it.
    dirty: bool,
    /// We say no more.
    shut: bool,
    pub(super) said: Vec<u8>,
    pub(super) heard: Vec<u8>,
}

pub(super) struct World<E> {
    plot: Plot<E>,
    snapshot: Snapshot,
    local: Local,
    pub(super) engine: E,
    now: Tick,
    pub(super) manners: Arc<Manners>,
    pub(super) callers: Vec<Peer>,
    pub(super) endpoints: Vec<Peer>,
    effects: Vec<Effect>,
}

impl<E: Engine> World<E> {
    fn new(plot: Plot<E>) -> Self {
        let snapshot = (plot.snapshot)();
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let engine = E::new(Bounds { limits: LIMITS, ..Bounds::default() });
        let policy = Policy { connect: true, ..Policy::default() };
        let manners = Arc::new(Manners { policy, ..Manners::default() });
        let (callers, endpoints, effects) = (Vec::new(), Vec::new(), Vec::new());
        let now = Tick(1_000_000_000);
        let mut world = Self { plot, snapshot, local, engine, now, manners, callers, endpoints, effects };
        world.call(0);
        world
    }

    fn call(&mut self, kind: usize) {
        let arrival = Arrival {
            listener: ListenerId(0),
            manners: Arc::clone(&self.manners),
            peer: None,
            foreign: kind == 1,
        };
        let key = self.engine.down_open(arrival, self.now);
        self.callers.push(Peer::new(kind, Leg::Down(key), State::Open));
        let first = self.plot.first[kind].0.to_vec();
        self.caller_says(self.callers.len() - 1, first);
    }

    fn event(&mut self, event: u8, script: &mut Script<'_>) {
        let which = usize::from(event >> 4);
        match event & 15 {
            own @ 0..=3 => {
                let at = pick(&self.callers, which, |peer| peer.state == State::Open && peer.reading);
                let kind = at.map_or(0, |at| self.callers[at].kind);
                let words = script.words(own == 0, self.plot.callers_say[kind]);
                if let Some(at) = at {
                    self.caller_says(at, words);
                }
            }
            own @ 4..=6 => {
                let at = pick(&self.endpoints, which, |peer| peer.state == State::Open && peer.reading);
                let kind = at.map_or(0, |at| self.endpoints[at].kind);
                let words = script.words(own == 4, self.plot.endpoints_say[kind]);
                if let Some(at) = at {
                    self.endpoint_says(at, words);
                }
            }
            made @ 7..=8 => {
                let dialing = |peer: &Peer| matches!(peer.state, State::Dialing | State::Unwanted);
                if let Some(at) = pick(&self.endpoints, which, dialing) {
                    self.dialed(at, made == 7);
                }
            }
            9 => self.write_all(),
            10 => {
                let most = usize::from(script.byte().unwrap_or_default()) * 64 + 1;
                self.write(which, most);
            }
            11 => {
                let ms = [1, 250, 1_100, 2_100, 11_000, 31_000][which % 6];
                self.now = self.now.after(Duration::from_millis(ms));
                self.handle(E::tick);
            }
            12 => self.caller_ends(which),
            13 => {
                if let Some(at) = pick(&self.callers, which, |peer| peer.state == State::Open) {
                    let Leg::Down(key) = self.callers[at].leg else { return };
                    self.callers[at].state = State::Over;
                    self.handle(|engine, context| engine.down_closed(context, key));
                }
            }
            14 => self.endpoint_ends(which),
            _ => match which {
                0 => self.handle(|engine, context| engine.drain(context.now)),
                1 => self.handle(|engine, _| engine.press()),
                2 => self.handle(E::shut),
                _ if self.callers.len() < CALLERS_MAX => self.call(which % self.plot.kinds()),
                _ => {}
            },
        }
    }

    fn caller_says(&mut self, at: usize, mut words: Vec<u8>) {
        let Leg::Down(key) = self.callers[at].leg else { return };
        if words.is_empty() {
            return;
        }
        self.callers[at].said.extend_from_slice(&words);
        let reads = |engine: &mut E, context: &mut Context<'_>| engine.down_bytes(context, key, &mut words);
        self.read(Leg::Down(key), reads);
    }

    fn endpoint_says(&mut self, at: usize, mut words: Vec<u8>) {
        let Leg::Up(key) = self.endpoints[at].leg else { return };
        if words.is_empty() {
            return;
        }
        self.endpoints[at].said.extend_from_slice(&words);
        let reads = |engine: &mut E, context: &mut Context<'_>| engine.up_bytes(context, key, &mut words);
        self.read(Leg::Up(key), reads);
    }

    fn dialed(&mut self, at: usize, made: bool) {
        let peer = &mut self.endpoints[at];
        let Leg::Up(key) = peer.leg else { return };
        let wanted = peer.state == State::Dialing;
        peer.state = if made && wanted { State::Open } else { State::Over };
        if made {
            let wants = self.handle(|engine, context| engine.up_open(context, key));
            if !wants {
                self.endpoints[at].state = State::Over;
            }
            let first = self.plot.first[self.endpoints[at].kind].1.to_vec();
            if wants && self.endpoints[at].state == State::Open {
                self.endpoint_says(at, first);
            }
            assert!(wanted || !wants, "a connection that was given up is wanted");
        } else {
            self.handle(|engine, context| engine.up_closed(context, key, "refused", false));
        }
    }

    fn caller_ends(&mut self, which: usize) {
        let Some(at) = pick(&self.callers, which, |peer| peer.state == State::Open && peer.reading) else {
            return;
        };
        let Leg::Down(key) = self.callers[at].leg else { return };
        self.callers[at].reading = false;
        if !self.handle(|engine, context| engine.down_ended(context, key))
            && self.callers[at].state == State::Open
        {
            self.callers[at].state = State::Over;
            self.handle(|engine, context| engine.down_closed(context, key));
        }
    }

    fn endpoint_ends(&mut self, which: usize) {
        let Some(at) = pick(&self.endpoints, which, |peer| peer.state == State::Open && peer.reading) else {
            return;
        };
        let Leg::Up(key) = self.endpoints[at].leg else { return };
        self.endpoints[at].state = State::Over;
        self.handle(|engine, context| {
            engine.up_closed(context, key, "closed by peer", which.is_multiple_of(2))
        });
    }

    /// Lets the engine handle one event, then does what it asks for.
    fn handle<R>(&mut self, event: impl FnOnce(&mut E, &mut Context<'_>) -> R) -> R {
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
        let result = event(&mut self.engine, &mut context);
        self.obey();
        result
    }

    /// The same for bytes: whether it is read further is noted before its effects, which may say more.
    fn read(&mut self, leg: Leg, event: impl FnOnce(&mut E, &mut Context<'_>) -> bool) {
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
        let reads = event(&mut self.engine, &mut context);
        if let Some(peer) = self.peer(leg) {
            peer.reading = reads;
        }
        self.obey();
    }

    fn obey(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for round in 0.. {
            assert!(round < 10_000, "effects without end");
            if !self.engine.has_effects() {
                break;
            }
            self.engine.effects(&mut effects);
            for effect in effects.drain(..) {
                self.obey_one(effect);
            }
        }
        self.effects = effects;
    }

    fn obey_one(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { up, address, .. } => {
                let at = self.plot.endpoints.iter().find(|(name, _)| *name == &*address);
                let (_, kind) = at.expect("an endpoint of the conf");
                self.endpoints.push(Peer::new(*kind, Leg::Up(up), State::Dialing));
            }
            Effect::Flush(leg) => {
                if let Some(peer) = self.peer(leg) {
                    peer.dirty = true;
                }
            }
            Effect::Shut(leg) => {
                if let Some(peer) = self.peer(leg) {
                    peer.shut = true;
                }
            }
            Effect::Close(leg) | Effect::Reset(leg) => self.over(leg),
            Effect::Finish(key) => self.over(Leg::Down(key)),
            Effect::Resume(leg) => {
                let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
                let reads = self.engine.resume(&mut context, leg);
                if let Some(peer) = self.peer(leg) {
                    peer.reading = reads;
                }
            }
        }
    }

    fn over(&mut self, leg: Leg) {
        if let Some(peer) = self.peer(leg) {
            peer.state = if peer.state == State::Dialing { State::Unwanted } else { State::Over };
        }
    }

    /// A connection that is there; keys of others find nothing.
    fn peer(&mut self, leg: Leg) -> Option<&mut Peer> {
        let mut all = self.callers.iter_mut().chain(&mut self.endpoints);
        all.find(|peer| peer.leg == leg && matches!(peer.state, State::Open | State::Dialing))
    }

    /// A socket takes at most so many bytes.
    fn write(&mut self, which: usize, most: usize) {
        let waiting = |peer: &Peer| peer.state == State::Open && peer.dirty;
        let n = self.callers.iter().chain(&self.endpoints).filter(|peer| waiting(peer)).count();
        let mut all = self.callers.iter_mut().chain(&mut self.endpoints).filter(|peer| waiting(peer));
        let Some(peer) = all.nth(which % n.max(1)) else { return };
        let bytes = self.engine.outgoing(peer.leg);
        let n = bytes.len().min(most);
        peer.dirty = n < bytes.len();
        assert!(!peer.shut || bytes.is_empty(), "more is said after the end");
        peer.heard.extend_from_slice(&bytes[..n]);
        let leg = peer.leg;
        if n > 0 {
            self.handle(|engine, context| engine.wrote(context, leg, n));
        }
    }

    fn write_all(&mut self) {
        for _ in 0..10_000 {
            let waits = |peer: &Peer| peer.state == State::Open && peer.dirty;
            if !self.callers.iter().chain(&self.endpoints).any(waits) {
                return;
            }
            self.write(0, usize::MAX);
        }
        panic!("writing without end");
    }

    /// Nothing waits unannounced, and nothing beyond the bound.
    fn measure(&mut self) {
        for peer in self.callers.iter_mut().chain(&mut self.endpoints) {
            let waiting = self.engine.outgoing(peer.leg).len();
            assert!(waiting <= self.plot.waiting_max, "{waiting} bytes wait for {:?}", peer.leg);
            match peer.state {
                State::Open => assert!(peer.dirty || waiting == 0, "nobody was told of {waiting} bytes"),
                State::Over | State::Unwanted => assert_eq!(waiting, 0, "bytes for who is gone"),
                State::Dialing => {}
            }
        }
    }

    /// Everything ends.
    fn end(&mut self) {
        self.write_all();
        self.handle(E::shut);
        self.write_all();
        let calls = (self.plot.calls)(&self.engine);
        let left = (self.engine.callers(), self.engine.upstreams(), calls, self.local.unsettled());
        assert_eq!(left, (0, 0, 0, 0), "callers, upstreams, calls, unsettled");
    }
}

impl Peer {
    fn new(kind: usize, leg: Leg, state: State) -> Self {
        let (said, heard) = (Vec::new(), Vec::new());
        Self { kind, leg, state, reading: true, dirty: false, shut: false, said, heard }
    }
}

/// One of those that are fit; `which` chooses.
fn pick(peers: &[Peer], which: usize, fit: impl Fn(&Peer) -> bool) -> Option<usize> {
    let n = peers.iter().filter(|peer| fit(peer)).count();
    (0..peers.len()).filter(|at| fit(&peers[*at])).nth(which.checked_rem(n)?)
}
