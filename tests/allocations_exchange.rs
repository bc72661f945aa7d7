//! No allocation for a request after warm-up: the *exchange* engine is driven as a worker drives it, its allocations counted.
//!
//! Each round, sixteen callers send a request each, in two reads; each is gated, decided, spelled for an endpoint, written,
//! answered, spelled for its caller and settled. Nothing here may allocate inside what is measured, and nothing measured
//! may be left out: effects are taken and time passes too.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use allocation_counter::{AllocationInfo, measure};
use outrigger::session::{
    Arrival, Bounds, Context, Effect, Engine, Leg, Manners, arena::Key, exchange::Exchange,
};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Limit, Listener, ListenerId, Local, Match, Pattern, Route,
    RouteTable, Snapshot, Target, Tick,
};
use outrigger_http1::Http1;

const CALLERS: usize = 16;

/// A request or an answer: a head with the usual headers, and a body of 256 bytes.
fn message(first: &str, headers: &str, chunked: bool) -> Vec<u8> {
    let body = "x".repeat(256);
    let rest = if chunked {
        format!("Transfer-Encoding: chunked\r\n\r\n100;ext=1\r\n{body}\r\n0\r\n\r\n")
    } else {
        format!("Content-Length: 256\r\n\r\n{body}")
    };
    format!("{first}\r\n{headers}User-Agent: test\r\nContent-Type: application/json\r\n{rest}").into_bytes()
}

fn snapshot(idempotent: bool) -> Snapshot {
    let count = NonZeroU32::new(1_000_000).expect("not zero");
    let route = |path: &str| Route {
        name: path.into(),
        matches: Match {
            authority: Some(Pattern::exact("shop.example")),
            path: Some(Pattern::exact(path)),
            headers: vec![((*b"x-zone").into(), Pattern::exact("a"))],
            ..Match::default()
        },
        targets: [Target::new(0, 1)].into(),
        timeout: Some(Duration::from_secs(2)),
        limit: Limit::new(count, Duration::from_secs(1), count).map(Arc::new),
        retry: idempotent.then(Arc::default),
        ..Route::default()
    };
    let endpoints = ["a:1", "b:1"].map(|address| Endpoint::new(address, 1));
    let cluster = Cluster::new("shop", Balance::P2cEwma, ClusterSettings::default(), endpoints.into());
    let routes = RouteTable::new(vec![route("/orders"), route("/cart")]);
    Snapshot::new(1, vec![Listener { name: "egress".into(), routes: routes.into() }], vec![cluster])
}

/// An engine with its callers and the buffers its sockets would use.
struct World {
    snapshot: Snapshot,
    local: Local,
    engine: Exchange<Http1>,
    now: Tick,
    callers: Vec<Key>,
    ups: Vec<Key>,
    request: Vec<u8>,
    answer: Vec<u8>,
    scratch: Vec<u8>,
    effects: Vec<Effect>,
    /// Legs that have bytes to write.
    dirty: Vec<Leg>,
    /// Exchanged for `dirty` while that is written.
    batch: Vec<Leg>,
    answered: usize,
}

impl World {
    fn new(chunked: bool, idempotent: bool) -> Self {
        let snapshot = snapshot(idempotent);
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let (mut engine, now) = (Exchange::new(Bounds::default()), Tick(1_000_000_000));
        let arrival = Arrival {
            listener: ListenerId(0),
            manners: Arc::new(Manners::default()),
            peer: None,
            foreign: false,
        };
        let callers = (0..CALLERS).map(|_| engine.down_open(arrival.clone(), now)).collect();
        let headers = "Host: Shop.example\r\nAccept: */*\r\nX-Zone: a\r\nConnection: keep-alive\r\n";
        Self {
            snapshot,
            local,
            engine,
            now,
            callers,
            ups: Vec::new(),
            request: message("POST /c%61rt?item=7 HTTP/1.1", headers, chunked),
            answer: message("HTTP/1.1 200 OK", "Server: test\r\n", chunked),
            scratch: Vec::with_capacity(64 << 10),
            effects: Vec::with_capacity(64),
            dirty: Vec::with_capacity(64),
            batch: Vec::with_capacity(64),
            answered: 0,
        }
    }

    fn handle<R>(&mut self, event: impl FnOnce(&mut Exchange<Http1>, &mut Context<'_>) -> R) -> R {
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
        let result = event(&mut self.engine, &mut context);
        let mut effects = std::mem::take(&mut self.effects);
        while self.engine.has_effects() {
            self.engine.effects(&mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Flush(leg) => self.dirty.push(leg),
                    Effect::Dial { up, .. } => self.ups.push(up),
                    other => panic!("steady traffic asks for {other:?}"),
                }
            }
        }
        self.effects = effects;
        result
    }

    /// Every caller makes a request, every request is answered.
    fn round(&mut self) {
        for at in 0..CALLERS {
            let (key, mut scratch) = (self.callers[at], std::mem::take(&mut self.scratch));
            scratch.clear();
            scratch.extend_from_slice(&self.request);
            // Two reads, the first of which ends within the head.
            let (first, second) = scratch.split_at_mut(40);
            assert!(self.handle(|engine, context| engine.down_bytes(context, key, first)));
            assert!(self.handle(|engine, context| engine.down_bytes(context, key, second)));
            self.scratch = scratch;
        }
        while let Some(up) = self.ups.pop() {
            assert!(self.handle(|engine, context| engine.up_open(context, up)));
        }
        self.now = self.now.after(Duration::from_micros(50));
        self.write();
        self.write();
        self.handle(Exchange::tick);
    }

    /// Writes what waits; what goes to an endpoint is answered at once.
    fn write(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        std::mem::swap(&mut batch, &mut self.dirty);
        for leg in batch.drain(..) {
            let n = self.engine.outgoing(leg).len();
            assert!(n > 256, "a head and a body");
            self.handle(|engine, context| engine.wrote(context, leg, n));
            match leg {
                Leg::Down(_) => self.answered += 1,
                Leg::Up(key) => {
                    let mut scratch = std::mem::take(&mut self.scratch);
                    scratch.clear();
                    scratch.extend_from_slice(&self.answer);
                    assert!(self.handle(|engine, context| engine.up_bytes(context, key, &mut scratch)));
                    self.scratch = scratch;
                }
            }
        }
        self.batch = batch;
    }
}

fn rounds(chunked: bool, idempotent: bool) -> AllocationInfo {
    const WARM: usize = 100;
    const COUNTED: usize = 1_000;
    let mut world = World::new(chunked, idempotent);
    (0..WARM).for_each(|_| world.round());
    let counted = measure(|| (0..COUNTED).for_each(|_| world.round()));
    assert_eq!(world.answered, CALLERS * (WARM + COUNTED), "every request was answered");
    assert_eq!((world.local.unsettled(), world.engine.calls()), (0, 0), "every request was settled");
    let answered: u64 = world.local.routes().map(|route| route.tally.answered[0]).sum();
    assert_eq!(answered as usize, world.answered, "by its service, not by us");
    let dialed = world.engine.counters.up_dialed;
    assert!(dialed <= 2 * CALLERS as u64, "connections are used again: {dialed} were made");
    counted
}

#[test]
fn requests_with_a_length_allocate_nothing() {
    assert_eq!(rounds(false, false).count_total, 0);
}

#[test]
fn requests_in_chunks_allocate_nothing_but_their_trailer_section() {
    let requests = (CALLERS * 1_000) as u64;
    let allocated = rounds(true, false).count_total;
    assert!(allocated <= 2 * requests, "{allocated} for {requests} requests and answers");
}

#[test]
fn requests_that_may_be_sent_again_allocate_nothing() {
    assert_eq!(rounds(false, true).count_total, 0);
}
