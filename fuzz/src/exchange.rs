//! The exchange engine with HTTP/1 under any sequence of events: what callers and endpoints say, sockets that take a
//! part, connections that are made and lost, time that passes, an end.
//!
//! The bytes are a script of such events. The engine is driven as the driver of the sockets would, and everything that
//! it wrote is read again at the end: endpoints may have seen nothing but requests that passed the gate, callers nothing
//! but whole answers, one for each request and in order. Nothing may wait in it beyond its bounds, and nothing may be
//! left. Must never give the engine what a driver would not.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use outrigger::session::{Arrival, Bounds, Context, Effect, Engine, Leg, Manners, exchange::Exchange};
use outrigger_codec::{
    Asked, Body, ExchangeCodec, Find, Framing, Head, HeadIndex, Policy, ReplyKind, Slot,
    exchange::{Hop, Limits, Side},
};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Limit, Listener, ListenerId, Local, Match, Pattern, Route,
    RouteTable, Snapshot, Target, Tick,
};
use outrigger_http1::Http1;

use super::http1::dechunk;

/// Events of one script.
const EVENTS_MAX: usize = 300;
const CALLERS_MAX: usize = 4;
/// Bytes waiting for one connection: 64 KiB, and what was read already when that was reached.
const WAITING_MAX: usize = 256 << 10;
const ENDPOINTS: [&str; 2] = ["a:1", "b:1"];
const LIMITS: Limits = Limits { head_max: 4 << 10, headers_max: 20, uri_max: 1 << 10, body_max: 4 << 20 };
/// What is written anew is a little longer than what was read.
const WIDE: Limits = Limits { head_max: 1 << 20, headers_max: 1 << 10, uri_max: 1 << 20, body_max: u64::MAX };
/// A piece of a long body.
const FLOOD: &[u8] = &[b'x'; 20 << 10];

#[rustfmt::skip]
const CALLER_SAYS: [&[u8]; 20] = [
    b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5;x=y\r\nhello\r\n",
    b"0\r\nx-sum: 1\r\n\r\n",
    b"5\r\nhelloGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
    FLOOD,
    b"HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /ok HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET /ok H",
    b"GET /limited HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /ok HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    b"GET /ok HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /ok HTTP/1.1\nHost: a\n\n",
    b"GET /ok?1 HTTP/1.1\r\nHost: a\r\n\r\nGET /ok?2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /ok HTTP/1.1\r\nHo",
];

#[rustfmt::skip]
const ENDPOINT_SAYS: [&[u8]; 18] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    FLOOD,
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nCont",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
];

/// Lives through the script.
pub fn life(script: &[u8]) {
    let mut world = World::new();
    let mut script = Script(script);
    for _ in 0..EVENTS_MAX {
        let Some(event) = script.byte() else { break };
        world.event(event, &mut script);
        world.measure();
    }
    world.end();
}

/// The events that are still to come.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// What somebody says: the script's own bytes behind their number, or one of `said`.
    fn words(&mut self, own: bool, said: &[&'a [u8]]) -> Vec<u8> {
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
struct Peer {
    leg: Leg,
    state: State,
    reading: bool,
    /// Bytes wait for it.
    dirty: bool,
    /// We say no more.
    shut: bool,
    said: Vec<u8>,
    heard: Vec<u8>,
}

struct World {
    snapshot: Snapshot,
    local: Local,
    engine: Exchange<Http1>,
    now: Tick,
    manners: Arc<Manners>,
    callers: Vec<Peer>,
    endpoints: Vec<Peer>,
    effects: Vec<Effect>,
}

fn snapshot() -> Snapshot {
    let one = NonZeroU32::MIN;
    let route = |name: &str, matches: Match, limited: bool| Route {
        name: name.into(),
        matches,
        targets: [Target { cluster: 0, weight: 1 }].into(),
        timeout: Some(Duration::from_secs(2)),
        limit: Limit::new(one, Duration::from_secs(1), one).filter(|_| limited).map(Arc::new),
        retry: (!limited).then(Arc::default),
    };
    let path = |path: &str| Match { path: Some(Pattern::exact(path)), ..Match::default() };
    let connect = Match { method: Some(Pattern::exact("CONNECT")), ..Match::default() };
    let routes = vec![
        route("ok", path("/ok"), false),
        route("limited", path("/limited"), true),
        route("tunnel", connect, false),
    ];
    let endpoints = ENDPOINTS.map(|address| Endpoint { address: address.into(), weight: 1 });
    let settings = ClusterSettings { connections: Some(2), pending_max: 2, ..ClusterSettings::default() };
    let cluster = Cluster::new("web", Balance::RoundRobin, settings, endpoints.into());
    Snapshot::new(1, vec![Listener { name: "in".into(), routes: RouteTable::new(routes) }], vec![cluster])
}

impl World {
    fn new() -> Self {
        let snapshot = snapshot();
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let engine = Exchange::new(Bounds { limits: LIMITS, ..Bounds::default() });
        let policy = Policy { connect: true, ..Policy::default() };
        let manners = Arc::new(Manners { policy, ..Manners::default() });
        let (callers, endpoints, effects) = (Vec::new(), Vec::new(), Vec::new());
        let now = Tick(1_000_000_000);
        let mut world = Self { snapshot, local, engine, now, manners, callers, endpoints, effects };
        world.call();
        world
    }

    fn call(&mut self) {
        let arrival = Arrival {
            listener: ListenerId(0),
            manners: Arc::clone(&self.manners),
            peer: None,
            foreign: false,
        };
        let key = self.engine.down_open(arrival, self.now);
        self.callers.push(Peer::new(Leg::Down(key), State::Open));
    }

    fn event(&mut self, event: u8, script: &mut Script<'_>) {
        let which = usize::from(event >> 4);
        match event & 15 {
            own @ 0..=3 => {
                let words = script.words(own == 0, &CALLER_SAYS);
                if let Some(at) = pick(&self.callers, which, |peer| peer.state == State::Open && peer.reading)
                {
                    self.caller_says(at, words);
                }
            }
            own @ 4..=6 => {
                let words = script.words(own == 4, &ENDPOINT_SAYS);
                if let Some(at) =
                    pick(&self.endpoints, which, |peer| peer.state == State::Open && peer.reading)
                {
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
                self.handle(Exchange::tick);
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
                0 => self.engine.drain(self.now),
                1 => self.handle(|engine, _| engine.press()),
                2 => self.handle(Exchange::shut),
                _ if self.callers.len() < CALLERS_MAX => self.call(),
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
        let reads = |engine: &mut Exchange<Http1>, context: &mut Context<'_>| {
            engine.down_bytes(context, key, &mut words)
        };
        self.read(Leg::Down(key), reads);
    }

    fn endpoint_says(&mut self, at: usize, mut words: Vec<u8>) {
        let Leg::Up(key) = self.endpoints[at].leg else { return };
        if words.is_empty() {
            return;
        }
        self.endpoints[at].said.extend_from_slice(&words);
        let reads = |engine: &mut Exchange<Http1>, context: &mut Context<'_>| {
            engine.up_bytes(context, key, &mut words)
        };
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
    fn handle<R>(&mut self, event: impl FnOnce(&mut Exchange<Http1>, &mut Context<'_>) -> R) -> R {
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
        let result = event(&mut self.engine, &mut context);
        self.obey();
        result
    }

    /// The same for bytes: whether it is read further is noted before its effects, which may say more.
    fn read(&mut self, leg: Leg, event: impl FnOnce(&mut Exchange<Http1>, &mut Context<'_>) -> bool) {
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
                assert!(ENDPOINTS.contains(&&*address));
                self.endpoints.push(Peer::new(Leg::Up(up), State::Dialing));
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
            assert!(waiting <= WAITING_MAX, "{waiting} bytes wait for {:?}", peer.leg);
            match peer.state {
                State::Open => assert!(peer.dirty || waiting == 0, "nobody was told of {waiting} bytes"),
                State::Over | State::Unwanted => assert_eq!(waiting, 0, "bytes for who is gone"),
                State::Dialing => {}
            }
        }
    }

    /// Everything ends; then all that was said is looked at.
    fn end(mut self) {
        self.write_all();
        self.handle(Exchange::shut);
        self.write_all();
        let left =
            (self.engine.callers(), self.engine.upstreams(), self.engine.calls(), self.local.unsettled());
        assert_eq!(left, (0, 0, 0, 0), "callers, upstreams, calls, unsettled");
        let mut allowed = Vec::new();
        let mut passed = 0;
        for caller in &self.callers {
            let asked = passes(&caller.said, &self.manners.policy, &mut allowed);
            answers(&caller.heard, &asked);
            passed += asked.len();
        }
        let seen: usize =
            self.endpoints.iter().map(|peer| requests(&peer.heard, &self.manners.policy, &allowed)).sum();
        assert!(seen <= passed + self.engine.counters.resent as usize, "{seen} requests of {passed}");
    }
}

impl Peer {
    fn new(leg: Leg, state: State) -> Self {
        let (said, heard) = (Vec::new(), Vec::new());
        Self { leg, state, reading: true, dirty: false, shut: false, said, heard }
    }
}

/// One of those that are fit; `which` chooses.
fn pick(peers: &[Peer], which: usize, fit: impl Fn(&Peer) -> bool) -> Option<usize> {
    let n = peers.iter().filter(|peer| fit(peer)).count();
    (0..peers.len()).filter(|at| fit(&peers[*at])).nth(which.checked_rem(n)?)
}

/// What a caller's requests ask, as far as all before them passed the gate; the heads that an endpoint may see of them
/// are added to `heads`.
fn passes(said: &[u8], policy: &Policy, heads: &mut Vec<Vec<u8>>) -> Vec<Asked> {
    let (mut asked, mut at) = (Vec::new(), 0);
    let mut index = HeadIndex::default();
    while let Find::Head { len } = Http1::find(&said[at..], 0, Side::Request, &LIMITS) {
        index.clear();
        let bytes = &said[at..at + len];
        let Ok(ask) = Http1::request(bytes, policy, &LIMITS, &mut index) else { break };
        asked.push(ask);
        at += len;
        let head = Head { bytes, index: &index };
        let routed = matches!(head.slot(Slot::Path), Some(b"/ok" | b"/limited"))
            || head.slot(Slot::Method) == Some(b"CONNECT");
        let mut body = None;
        for authority in ENDPOINTS {
            let mut spelled = Vec::new();
            let hop = Hop { policy, peer: None, authority, request_id: "" };
            body = Some(Http1::forward(head, &ask, &hop, &mut spelled));
            heads.extend(Some(spelled).filter(|_| routed));
        }
        match body.map(|mut body| body.pass(&said[at..], &LIMITS, &mut Vec::new())) {
            Some(Ok(passed)) if passed.done => at += passed.used,
            _ => break,
        }
    }
    asked
}

/// An endpoint may have seen nothing but requests that passed; how many.
fn requests(heard: &[u8], policy: &Policy, allowed: &[Vec<u8>]) -> usize {
    let (mut seen, mut at) = (0, 0);
    while at < heard.len() {
        let rest = &heard[at..];
        let shown = || String::from_utf8_lossy(&rest[..rest.len().min(300)]);
        seen += 1;
        let Find::Head { len } = Http1::find(rest, 0, Side::Request, &WIDE) else {
            assert!(allowed.iter().any(|head| head.starts_with(rest)), "a part of no request: {}", shown());
            break;
        };
        assert!(allowed.iter().any(|head| head == &rest[..len]), "a request that nobody made: {}", shown());
        let asked = Http1::request(&rest[..len], policy, &WIDE, &mut HeadIndex::default());
        let asked = asked.unwrap_or_else(|fault| panic!("{fault:?}: {}", shown()));
        at += len;
        match body(asked.body, &heard[at..]) {
            Some(len) if !asked.tunnel => at += len,
            _ => break,
        }
    }
    seen
}

/// A caller may have seen nothing but answers to its requests, each whole before the next, and at most one to what did
/// not pass.
fn answers(heard: &[u8], asked: &[Asked]) {
    let generic = Http1::request(
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &Policy::default(),
        &WIDE,
        &mut HeadIndex::default(),
    )
    .expect("a good request");
    let (mut at, mut n) = (0, 0);
    while at < heard.len() {
        let rest = &heard[at..];
        let shown = || String::from_utf8_lossy(&rest[..rest.len().min(300)]);
        let len = match Http1::find(rest, 0, Side::Reply, &WIDE) {
            Find::Partial { .. } => return,
            Find::Head { len } => len,
            Find::Fault(fault) => panic!("{fault:?}: {}", shown()),
        };
        assert!(n <= asked.len(), "an answer to nothing: {}", shown());
        let ask = asked.get(n).unwrap_or(&generic);
        let read = |ask| Http1::reply(&rest[..len], ask, &WIDE, &mut HeadIndex::default());
        let reply = read(ask).unwrap_or_else(|why| panic!("{why:?}: {}", shown()));
        at += len;
        match reply.kind {
            ReplyKind::Interim => continue,
            ReplyKind::Switch => return,
            ReplyKind::Final => n += 1,
        }
        if !reply.keep {
            // The last one: nothing but its own body follows. It may have come before its request was read whole.
            let most = read(&generic).map_or(0, |reply| body(reply.body, &heard[at..]).unwrap_or(usize::MAX));
            assert!(heard.len() - at <= most, "something after the last answer: {}", shown());
            return;
        }
        match body(reply.body, &heard[at..]) {
            Some(len) => at += len,
            None => return,
        }
    }
}

/// The length of a body, if it is whole.
fn body(framing: Framing, bytes: &[u8]) -> Option<usize> {
    match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length as usize).filter(|length| *length <= bytes.len()),
        Framing::Chunked => dechunk(bytes).1,
        Framing::Close => None,
    }
}
