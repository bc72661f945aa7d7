//! No allocation for a call after warm-up: the *streams* engine is driven as a worker drives it, its allocations counted.
//!
//! Each round, sixteen callers make a unary call of gRPC each, in two reads; each is decided, carried to an endpoint over
//! HTTP/2, answered with trailers, given back and settled. Nothing here may allocate inside what is measured, and nothing
//! measured may be left out: effects are taken and time passes too. What translation costs is stated beside its test.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use allocation_counter::{AllocationInfo, measure};
use outrigger::session::{
    Arrival, Bounds, Context, Dialects, Effect, Engine, Leg, Manners, arena::Key, streams::Streams,
};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Limit, Listener, ListenerId, Local, Match, Pattern, Route,
    RouteTable, Snapshot, Target, Tick,
};
use outrigger_http1::Http1;
use outrigger_http2::{
    Http2,
    frame::{self, PREFACE, flag, kind},
};

type Sut = Streams<Http2, Http1>;

const CALLERS: usize = 16;
const BODY: [u8; 256] = [7; 256];

/// A header block of literals that enter no table.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

fn put(kind: u8, flags: u8, payload: &[u8], out: &mut Vec<u8>) {
    frame::header(payload.len(), kind, flags, 1, out);
    out.extend_from_slice(payload);
}

/// Frames of one stream, as a call or an answer.
fn frames(fields: &[(&str, &str)], trailers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    put(kind::HEADERS, flag::END_HEADERS, &block(fields), &mut out);
    put(kind::DATA, if trailers.is_empty() { flag::END_STREAM } else { 0 }, &BODY, &mut out);
    if !trailers.is_empty() {
        put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, &block(trailers), &mut out);
    }
    out
}

/// Gives all frames in `bytes` this stream.
fn set_stream(mut bytes: &mut [u8], stream: u32) {
    while let Some(header) = frame::Header::read(bytes) {
        bytes[5..9].copy_from_slice(&stream.to_be_bytes());
        bytes = &mut bytes[frame::HEADER + header.len..];
    }
}

/// What a peer says first: room for all that will ever be said.
fn hello(client: bool) -> Vec<u8> {
    let mut out = if client { PREFACE.to_vec() } else { Vec::new() };
    frame::header(6, kind::SETTINGS, 0, 0, &mut out);
    out.extend([0, 4, 0x40, 0, 0, 0]);
    frame::header(0, kind::SETTINGS, flag::ACK, 0, &mut out);
    frame::number(kind::WINDOW_UPDATE, 0, 0x3fff_ffff, &mut out);
    out
}

fn snapshot(speaks: Option<&'static str>) -> Snapshot {
    let count = NonZeroU32::new(1_000_000).expect("not zero");
    let route = |service: &str| Route {
        name: service.into(),
        matches: Match {
            service: Some(Pattern::exact(service)),
            headers: vec![((*b"x-zone").into(), Pattern::exact("a"))],
            ..Match::default()
        },
        targets: [Target::new(0, 1)].into(),
        timeout: Some(Duration::from_secs(2)),
        limit: Limit::new(count, Duration::from_secs(1), count).map(Arc::new),
        ..Route::default()
    };
    let endpoints = ["a:1", "b:1"].map(|address| Endpoint::new(address, 1));
    let settings = ClusterSettings { speaks, ..ClusterSettings::default() };
    let cluster = Cluster::new("shop", Balance::P2cEwma, settings, endpoints.into());
    let routes = RouteTable::new(vec![route("shop.Orders"), route("shop.Cart")]);
    Snapshot::new(1, vec![Listener { name: "egress".into(), routes: routes.into() }], vec![cluster])
}

/// An engine with its callers and the buffers its sockets would use.
struct World {
    snapshot: Snapshot,
    local: Local,
    engine: Sut,
    now: Tick,
    callers: Vec<Key>,
    /// The next stream of each caller.
    stream: u32,
    ups: Vec<Key>,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// What an endpoint of HTTP/1 answers.
    translated: Vec<u8>,
    h1: bool,
    scratch: Vec<u8>,
    effects: Vec<Effect>,
    /// Legs that have bytes to write.
    dirty: Vec<Leg>,
    /// Exchanged for `dirty` while that is written.
    batch: Vec<Leg>,
}

impl World {
    fn new(speaks: Option<&'static str>) -> Self {
        let snapshot = snapshot(speaks);
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let call = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/shop.Cart/Add"),
            (":authority", "shop.example"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "5S"),
            ("user-agent", "test"),
            ("x-zone", "a"),
        ];
        let answer = [(":status", "200"), ("content-type", "application/grpc"), ("server", "test")];
        let trailers = [("grpc-status", "0"), ("grpc-message", "")];
        let mut translated = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n".to_vec();
        translated.extend(b"Transfer-Encoding: chunked\r\n\r\n100\r\n");
        translated.extend(BODY);
        translated.extend(b"\r\n0\r\ngrpc-status: 0\r\n\r\n");
        Self {
            snapshot,
            local,
            engine: Sut::new(Bounds::default()),
            now: Tick(1_000_000_000),
            callers: Vec::new(),
            stream: 1,
            ups: Vec::new(),
            request: frames(&call, &[]),
            answer: frames(&answer, &trailers),
            translated,
            h1: speaks == Some("http1"),
            scratch: Vec::with_capacity(64 << 10),
            effects: Vec::with_capacity(256),
            dirty: Vec::with_capacity(256),
            batch: Vec::with_capacity(256),
        }
    }

    /// Callers connect and greet.
    fn open(&mut self) {
        let dialects = Dialects { of: vec![(&outrigger_grpc::Grpc, true)], only: false };
        let manners = Arc::new(Manners { dialects, ..Manners::default() });
        for _ in 0..CALLERS {
            let manners = Arc::clone(&manners);
            let arrival = Arrival { listener: ListenerId(0), manners, peer: None, foreign: false };
            let key = self.engine.down_open(arrival, self.now);
            self.callers.push(key);
            assert!(self.handle(|engine, context| engine.down_bytes(context, key, &mut hello(true))));
        }
    }

    fn handle<R>(&mut self, event: impl FnOnce(&mut Sut, &mut Context<'_>) -> R) -> R {
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

    /// Every caller makes a call, every call is answered.
    fn round(&mut self) {
        for at in 0..CALLERS {
            let (key, mut scratch) = (self.callers[at], std::mem::take(&mut self.scratch));
            scratch.clear();
            scratch.extend_from_slice(&self.request);
            set_stream(&mut scratch, self.stream);
            // Two reads, the first of which ends within the head.
            let (first, second) = scratch.split_at_mut(40);
            assert!(self.handle(|engine, context| engine.down_bytes(context, key, first)));
            assert!(self.handle(|engine, context| engine.down_bytes(context, key, second)));
            self.scratch = scratch;
        }
        self.stream += 2;
        while let Some(up) = self.ups.pop() {
            assert!(self.handle(|engine, context| engine.up_open(context, up)));
            if !self.h1 {
                assert!(self.handle(|engine, context| engine.up_bytes(context, up, &mut hello(false))));
            }
        }
        self.now = self.now.after(Duration::from_micros(50));
        while !self.dirty.is_empty() {
            self.write();
        }
        self.handle(Sut::tick);
    }

    /// Writes what waits; what goes to an endpoint is answered at once.
    fn write(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        std::mem::swap(&mut batch, &mut self.dirty);
        for leg in batch.drain(..) {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.clear();
            let n = self.engine.outgoing(leg).len();
            if matches!(leg, Leg::Up(_)) {
                self.answer_to(leg, &mut scratch);
            }
            self.handle(|engine, context| engine.wrote(context, leg, n));
            if let Leg::Up(key) = leg
                && !scratch.is_empty()
            {
                assert!(self.handle(|engine, context| engine.up_bytes(context, key, &mut scratch)));
            }
            self.scratch = scratch;
        }
        self.batch = batch;
    }

    /// Appends an answer to each call in what is written.
    fn answer_to(&mut self, leg: Leg, out: &mut Vec<u8>) {
        let bytes = self.engine.outgoing(leg);
        if self.h1 {
            assert!(bytes.starts_with(b"POST /shop.Cart/Add HTTP/1.1\r\n"), "one call at a time");
            return out.extend_from_slice(&self.translated);
        }
        let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
        while let Some(header) = frame::Header::read(rest) {
            if header.kind == kind::HEADERS {
                let from = out.len();
                out.extend_from_slice(&self.answer);
                set_stream(&mut out[from..], header.stream);
            }
            rest = &rest[frame::HEADER + header.len..];
        }
    }
}

fn rounds(speaks: Option<&'static str>) -> (AllocationInfo, u64) {
    const WARM: usize = 300;
    const COUNTED: usize = 1_000;
    let mut world = World::new(speaks);
    world.open();
    (0..WARM).for_each(|_| world.round());
    let counted = measure(|| (0..COUNTED).for_each(|_| world.round()));
    let calls = (CALLERS * (WARM + COUNTED)) as u64;
    assert_eq!((world.local.unsettled(), world.engine.calls()), (0, 0), "every call was settled");
    let answered: u64 = world.local.routes().map(|route| route.tally.answered[0]).sum();
    assert_eq!(answered, calls, "every call was answered by its service, not by us");
    let dialed = world.engine.counters.up_dialed;
    assert!(dialed <= 2 * CALLERS as u64, "connections are used again: {dialed} were made");
    (counted, (CALLERS * COUNTED) as u64)
}

#[test]
fn unary_calls_allocate_nothing() {
    assert_eq!(rounds(None).0.count_total, 0);
}

#[test]
fn calls_translated_into_http1_allocate_no_more_than_is_known() {
    let (counted, calls) = rounds(Some("http1"));
    // The trailer section of a chunked answer.
    assert!(counted.count_total <= 2 * calls, "{} for {calls} calls", counted.count_total);
}
