//! What the simulator of the *streams* engine finds once in thousands of lives, each as one short story.
//!
//! Bytes are those of real peers; time and sockets are ours. It must never grow into a second simulator: a story is told
//! here only where chance tells it too seldom.

use std::{sync::Arc, time::Duration};

use outrigger::session::{
    Arrival, Bounds, Context, Effect, Engine, Leg, Manners, arena::Key, streams::Streams,
};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Listener, ListenerId, Local, Match, Route, RouteTable,
    Snapshot, Target, Tick,
};
use outrigger_http1::Http1;
use outrigger_http2::{
    Http2,
    frame::{self, HEADER, Header, PREFACE, flag, kind},
};

/// An engine with one listener and one endpoint.
struct World {
    snapshot: Snapshot,
    local: Local,
    engine: Streams<Http2, Http1>,
    now: Tick,
    effects: Vec<Effect>,
    up: Option<Key>,
}

impl World {
    fn new(speaks: &'static str) -> Self {
        let route = Route {
            name: "all".into(),
            matches: Match::default(),
            targets: [Target::new(0, 1)].into(),
            timeout: None,
            limit: None,
            ..Route::default()
        };
        let settings =
            ClusterSettings { speaks: Some(speaks), connections: Some(1), ..ClusterSettings::default() };
        let endpoint = Endpoint::new("a:1", 1);
        let cluster = Cluster::new("shop", Balance::RoundRobin, settings, vec![endpoint]);
        let listener = Listener { name: "egress".into(), routes: RouteTable::new(vec![route]).into() };
        let snapshot = Snapshot::new(1, vec![listener], vec![cluster]);
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let engine = Streams::new(Bounds::default());
        Self { snapshot, local, engine, now: Tick(1_000_000_000), effects: Vec::new(), up: None }
    }

    fn handle<R>(&mut self, event: impl FnOnce(&mut Streams<Http2, Http1>, &mut Context<'_>) -> R) -> R {
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
        let result = event(&mut self.engine, &mut context);
        let mut some = Vec::new();
        while self.engine.has_effects() {
            self.engine.effects(&mut some);
            for effect in some.drain(..) {
                match effect {
                    Effect::Dial { up, .. } => self.up = Some(up),
                    Effect::Resume(leg) => {
                        let mut context =
                            Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
                        self.engine.resume(&mut context, leg);
                        self.effects.push(Effect::Resume(leg));
                    }
                    other => self.effects.push(other),
                }
            }
        }
        result
    }

    fn comes(&mut self, foreign: bool, idle_timeout: Duration) -> Key {
        let manners = Arc::new(Manners { idle_timeout, translates: true, ..Manners::default() });
        self.engine.down_open(Arrival { listener: ListenerId(0), manners, peer: None, foreign }, self.now)
    }

    fn caller(&mut self, key: Key, bytes: &[u8]) -> bool {
        self.handle(|engine, context| engine.down_bytes(context, key, &mut bytes.to_vec()))
    }

    /// The endpoint's connection, which is made now.
    fn connects(&mut self) -> Key {
        let up = self.up.take().expect("it was asked for");
        assert!(self.handle(|engine, context| engine.up_open(context, up)));
        up
    }

    fn endpoint(&mut self, key: Key, bytes: &[u8]) -> bool {
        self.handle(|engine, context| engine.up_bytes(context, key, &mut bytes.to_vec()))
    }

    /// What is written to a connection, all of it.
    fn takes(&mut self, leg: Leg) -> Vec<u8> {
        let bytes = self.engine.outgoing(leg).to_vec();
        self.handle(|engine, context| engine.wrote(context, leg, bytes.len()));
        bytes
    }

    fn passes(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        self.handle(Streams::tick);
    }
}

/// What a peer of HTTP/2 says first, with this window for each stream.
fn hello(client: bool, window: u32) -> Vec<u8> {
    let mut out = if client { PREFACE.to_vec() } else { Vec::new() };
    frame::header(6, kind::SETTINGS, 0, 0, &mut out);
    out.extend([0, 4]);
    out.extend(window.to_be_bytes());
    out
}

/// A head of literals.
fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    let mut out = Vec::new();
    frame::header(block.len(), kind::HEADERS, flags | flag::END_HEADERS, stream, &mut out);
    [out, block].concat()
}

fn get(stream: u32) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h")];
    head(stream, flag::END_STREAM, &fields)
}

fn number(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    frame::number(kind, stream, number, &mut out);
    out
}

/// Kinds of the frames in bytes, and how much of bodies is in them.
fn frames(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut rest, mut kinds, mut body) = (bytes, Vec::new(), 0);
    while let Some(header) = Header::read(rest) {
        kinds.push(header.kind);
        body += if header.kind == kind::DATA { header.len } else { 0 };
        rest = &rest[HEADER + header.len..];
    }
    (kinds, body)
}

#[test]
fn a_connection_that_was_not_read_because_of_a_call_is_read_again_without_it() {
    let mut world = World::new("http1");
    let caller = world.comes(false, Duration::from_secs(30));
    world.caller(caller, &[hello(true, 0), get(1)].concat());
    let up = world.connects();
    assert!(world.takes(Leg::Up(up)).starts_with(b"GET / HTTP/1.1\r\n"));
    assert!(world.endpoint(up, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"));
    assert!(world.endpoint(up, &[7; 10_000]));
    assert!(!world.endpoint(up, &vec![7; 90_000]), "its caller takes nothing, so it is not read");
    world.caller(caller, &number(kind::RST_STREAM, 1, 8));
    // The whole answer has come: it may carry the next call, or must be closed.
    assert!(
        world
            .effects
            .iter()
            .any(|effect| [Effect::Resume(Leg::Up(up)), Effect::Close(Leg::Up(up))].contains(effect))
    );
    world.caller(caller, &get(3));
    assert!(world.takes(Leg::Up(up)).starts_with(b"GET / HTTP/1.1\r\n"), "the connection is used again");
    assert!(world.endpoint(up, b"HTTP/1.1 204 No\r\n\r\n"));
    assert!(frames(&world.takes(Leg::Down(caller))).0.contains(&kind::HEADERS));
}

#[test]
fn requests_behind_an_answer_that_ends_without_a_byte_are_answered_by_those_who_have_to_leave() {
    let mut world = World::new("http2");
    let caller = world.comes(true, Duration::from_secs(30));
    world.caller(caller, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    let up = world.connects();
    world.endpoint(
        up,
        &[hello(false, 65_535), head(1, 0, &[(":status", "200"), ("content-length", "0")])].concat(),
    );
    assert!(world.takes(Leg::Down(caller)).starts_with(b"HTTP/1.1 200 OK\r\n"));
    world.handle(|engine, context| engine.drain(context.now));
    let mut end = Vec::new();
    frame::header(0, kind::DATA, flag::END_STREAM, 1, &mut end);
    world.endpoint(up, &end);
    world.endpoint(up, &head(3, flag::END_STREAM, &[(":status", "404")]));
    let said = String::from_utf8_lossy(&world.takes(Leg::Down(caller))).into_owned();
    assert!(said.starts_with("HTTP/1.1 404 ") && said.contains("connection: close"), "{said:?}");
    assert!(world.effects.contains(&Effect::Finish(caller)));
}

#[test]
fn an_answer_that_is_taken_bit_by_bit_is_not_given_up() {
    let mut world = World::new("http2");
    let caller = world.comes(false, Duration::from_millis(900));
    world.caller(caller, &[hello(true, 10), get(1)].concat());
    let up = world.connects();
    let mut body = Vec::new();
    frame::header(100, kind::DATA, flag::END_STREAM, 1, &mut body);
    body.extend([7; 100]);
    world.endpoint(up, &[hello(false, 65_535), head(1, 0, &[(":status", "200")]), body].concat());
    let mut taken = frames(&world.takes(Leg::Down(caller))).1;
    for _ in 0..9 {
        world.passes(300);
        world.caller(caller, &number(kind::WINDOW_UPDATE, 1, 10));
        let (kinds, more) = frames(&world.takes(Leg::Down(caller)));
        assert!(!kinds.contains(&kind::RST_STREAM), "it was given up after {taken} bytes");
        taken += more;
    }
    assert_eq!((taken, world.engine.calls()), (100, 0));
    // One that takes nothing is.
    world.caller(caller, &get(3));
    let mut body = Vec::new();
    frame::header(100, kind::DATA, flag::END_STREAM, 3, &mut body);
    body.extend([7; 100]);
    world.endpoint(up, &[head(3, 0, &[(":status", "200")]), body].concat());
    world.takes(Leg::Down(caller));
    (0..4).for_each(|_| world.passes(300));
    assert!(frames(&world.takes(Leg::Down(caller))).0.contains(&kind::RST_STREAM));
}

#[test]
fn calls_taken_back_before_they_could_be_sent_end_their_connection() {
    let mut world = World::new("http2");
    let caller = world.comes(false, Duration::from_secs(30));
    world.caller(caller, &hello(true, 65_535));
    world.takes(Leg::Down(caller));
    world.caller(caller, &get(1));
    world.connects();
    // The endpoint takes nothing, so nothing of them can leave.
    let ended = (1..100u32).find(|at| {
        world.caller(caller, &[get(2 * at + 1), number(kind::RST_STREAM, 2 * at + 1, 8)].concat());
        frames(&world.takes(Leg::Down(caller))).0.contains(&kind::GOAWAY)
    });
    assert_eq!(ended, Some(21), "what it may take back at once");
    assert_eq!((world.engine.callers(), world.engine.calls(), world.local.unsettled()), (0, 0, 0));
}
