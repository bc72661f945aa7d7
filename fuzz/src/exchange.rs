//! The exchange engine with HTTP/1 under any sequence of events.
//!
//! Everything that the engine wrote is read again at the end: endpoints may have seen nothing but requests that passed the
//! gate, callers nothing but whole answers, one for each request and in order. It must never excuse an exception.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use outrigger::session::exchange::Exchange;
use outrigger_codec::{
    Asked, Body, ExchangeCodec, Find, Framing, Head, HeadIndex, Policy, Redirect, ReplyKind, Response, Slot,
    change::NewPath,
    exchange::{Hop, Limits, Side},
};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Limit, Listener, Match, Pattern, Route, RouteTable,
    Snapshot, Target,
};
use outrigger_http1::Http1;

use super::{
    http1::dechunk,
    world::{LIMITS, Plot, live},
};

/// Bytes waiting for one connection: 64 KiB, and what was read already when that was reached.
const WAITING_MAX: usize = 256 << 10;
const ENDPOINTS: [&str; 2] = ["a:1", "b:1"];
/// What is written anew is a little longer than what was read.
const WIDE: Limits = Limits { head_max: 1 << 20, headers_max: 1 << 10, uri_max: 1 << 20, body_max: u64::MAX };
/// A piece of a long body.
pub(super) const FLOOD: &[u8] = &[b'x'; 20 << 10];

#[rustfmt::skip]
pub(super) const CALLER_SAYS: [&[u8]; 21] = [
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
    b"POST /moved//x?y HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello",
];

#[rustfmt::skip]
pub(super) const ENDPOINT_SAYS: [&[u8]; 18] = [
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
    let plot = Plot {
        snapshot,
        endpoints: ENDPOINTS.map(|name| (name, 0)),
        callers_say: [&CALLER_SAYS, &[]],
        endpoints_say: [&ENDPOINT_SAYS, &[]],
        first: [(b"", b""); 2],
        calls: Exchange::<Http1>::calls,
        waiting_max: WAITING_MAX,
    };
    let world = live(plot, script);
    let mut allowed = Vec::new();
    let mut passed = 0;
    for caller in &world.callers {
        let asked = passes(&caller.said, &world.manners.policy, &mut allowed);
        answers(&caller.heard, &asked);
        passed += asked.len();
    }
    let seen: usize =
        world.endpoints.iter().map(|peer| requests(&peer.heard, &world.manners.policy, &allowed)).sum();
    assert!(seen <= passed + world.engine.counters.resent as usize, "{seen} requests of {passed}");
}

fn snapshot() -> Snapshot {
    let one = NonZeroU32::MIN;
    let route = |name: &str, matches: Match, limited: bool| Route {
        name: name.into(),
        matches,
        targets: [Target::new(0, 1)].into(),
        timeout: Some(Duration::from_secs(2)),
        limit: Limit::new(one, Duration::from_secs(1), one).filter(|_| limited).map(Arc::new),
        retry: (!limited).then(Arc::default),
        ..Route::default()
    };
    let path = |path: &str| Match { path: Some(Pattern::exact(path)), ..Match::default() };
    let connect = Match { method: Some(Pattern::exact("CONNECT")), ..Match::default() };
    let routes = vec![
        route("ok", path("/ok"), false),
        route("limited", path("/limited"), true),
        route("tunnel", connect, false),
        moved(),
    ];
    let endpoints = ENDPOINTS.map(|address| Endpoint::new(address, 1));
    let settings = ClusterSettings { connections: Some(2), pending_max: 2, ..ClusterSettings::default() };
    let cluster = Cluster::new("web", Balance::RoundRobin, settings, endpoints.into());
    Snapshot::new(
        1,
        vec![Listener { name: "in".into(), routes: RouteTable::new(routes).into() }],
        vec![cluster],
    )
}

/// A route that answers itself, with a place that is made of what was asked for.
pub(super) fn moved() -> Route {
    let path = NewPath::Prefix { from: (*b"/moved").into(), to: (*b"/to").into() };
    let redirect = Redirect { scheme: Some("https".into()), path: Some(path), ..Redirect::default() };
    let response =
        Response { status: 308, headers: Vec::new(), body: (*b"there").into(), redirect: Some(redirect) };
    Route {
        name: "moved".into(),
        matches: Match { path: Some(Pattern::Prefix((*b"/moved").into())), ..Match::default() },
        response: Some(Arc::new(response)),
        ..Route::default()
    }
}

/// What a caller's requests ask, as far as all before them passed the gate; the heads that an endpoint may see of them
/// are added to `heads`.
pub(super) fn passes(said: &[u8], policy: &Policy, heads: &mut Vec<Vec<u8>>) -> Vec<Asked> {
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
pub(super) fn answers(heard: &[u8], asked: &[Asked]) {
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
