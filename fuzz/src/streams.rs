//! The streams engine under any sequence of events: callers and endpoints of HTTP/2 and of HTTP/1, each to each.
//!
//! Everything that the engine wrote is read again at the end: frames are well-formed and in order, HTTP/1 endpoints have seen
//! nothing but requests that pass its gate and somebody made, HTTP/1 callers nothing but whole answers. It must never
//! excuse an exception.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use outrigger::session::streams::Streams;
use outrigger_codec::{
    ExchangeCodec, Find, Framing, Head, HeadIndex, Policy, Slot,
    exchange::{Limits, Side, Underscores},
};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Limit, Listener, Match, Pattern, Route, RouteTable,
    Snapshot, Target,
};
use outrigger_http1::Http1;
use outrigger_http2::Http2;

use super::{exchange, http1::dechunk, http2, world};

type Engine = Streams<Http2, Http1>;

/// 64 KiB, and what streams may have sent ahead when that was reached.
const WAITING_MAX: usize = 512 << 10;
const WIDE: Limits = Limits { head_max: 1 << 20, headers_max: 1 << 10, uri_max: 1 << 20, body_max: u64::MAX };
const CALLER_FIRST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const ENDPOINT_FIRST: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A frame of few bytes.
macro_rules! frame {
    ($len:literal, $kind:literal, $flags:literal, $stream:literal, $payload:literal) => {
        concat!("\0\0", $len, $kind, $flags, "\0\0\0", $stream, $payload).as_bytes()
    };
}

/// HTTP/2's words: the literals are HPACK's, of which no byte is beyond ASCII.
#[rustfmt::skip]
const CALLER_SAYS: [&[u8]; 17] = [
    // POST /ok, then /web and /limited, each on streams of their own.
    frame!("\x21", "\x01", "\x04", "\x01", "\0\x07:method\x04POST\0\x07:scheme\x04http\x04\x03/ok"),
    frame!("\x21", "\x01", "\x05", "\x03", "\0\x07:method\x04POST\0\x07:scheme\x04http\x04\x03/ok"),
    frame!("\x22", "\x01", "\x04", "\x05", "\0\x07:method\x04POST\0\x07:scheme\x04http\x04\x04/web"),
    frame!("\x22", "\x01", "\x05", "\x07", "\0\x07:method\x04POST\0\x07:scheme\x04http\x04\x04/web"),
    frame!("\x26", "\x01", "\x05", "\x09", "\0\x07:method\x04HEAD\0\x07:scheme\x04http\x04\x08/limited"),
    frame!("\x05", "\0", "\x01", "\x01", "hello"),
    frame!("\x05", "\0", "\0", "\x05", "hello"),
    frame!("\x05", "\0", "\x01", "\x05", "hello"),
    frame!("\x08", "\x01", "\x05", "\x05", "\0\x03sum\x02ok"),
    frame!("\x08", "\x01", "\x05", "\x01", "\0\x03sum\x02ok"),
    frame!("\x04", "\x03", "\0", "\x01", "\0\0\0\x08"),
    frame!("\x04", "\x08", "\0", "\0", "\0\x01\0\0"),
    frame!("\x04", "\x08", "\0", "\x05", "\0\x01\0\0"),
    frame!("\x06", "\x04", "\0", "\0", "\0\x04\0\0\0\x10"),
    frame!("\x08", "\x06", "\x01", "\0", "outrigge"),
    frame!("\x08", "\x07", "\0", "\0", "\0\0\0\0\0\0\0\0"),
    frame!("\x32", "\x01", "\x05", "\x0b", "\0\x07:method\x04POST\0\x07:scheme\x04http\x04\x06/moved\0\x0a:authority\x01a"),
];

#[rustfmt::skip]
const ENDPOINT_SAYS: [&[u8]; 16] = [
    frame!("\x0d", "\x01", "\x04", "\x01", "\0\x07:status\x03200"),
    frame!("\x0d", "\x01", "\x05", "\x01", "\0\x07:status\x03200"),
    frame!("\x0d", "\x01", "\x04", "\x03", "\0\x07:status\x03200"),
    frame!("\x0d", "\x01", "\x04", "\x01", "\0\x07:status\x03103"),
    frame!("\x05", "\0", "\0", "\x01", "hello"),
    frame!("\x05", "\0", "\x01", "\x01", "hello"),
    frame!("\x05", "\0", "\x01", "\x03", "hello"),
    frame!("\x08", "\x01", "\x05", "\x01", "\0\x03sum\x02ok"),
    frame!("\x04", "\x03", "\0", "\x01", "\0\0\0\x07"),
    frame!("\x04", "\x03", "\0", "\x03", "\0\0\0\0"),
    frame!("\x04", "\x08", "\0", "\0", "\0\x01\0\0"),
    frame!("\x04", "\x08", "\0", "\x01", "\0\x01\0\0"),
    frame!("\x06", "\x04", "\0", "\0", "\0\x04\0\0\0\0"),
    frame!("\x06", "\x04", "\0", "\0", "\0\x03\0\0\0\x01"),
    frame!("\x08", "\x07", "\0", "\0", "\0\0\0\x01\0\0\0\0"),
    frame!("\x08", "\x06", "\x01", "\0", "outrigge"),
];

/// Lives through the script.
pub fn life(script: &[u8]) {
    let plot = world::Plot {
        snapshot,
        endpoints: [("two:1", 0), ("one:1", 1)],
        callers_say: [&CALLER_SAYS, &exchange::CALLER_SAYS],
        endpoints_say: [&ENDPOINT_SAYS, &exchange::ENDPOINT_SAYS],
        first: [(CALLER_FIRST, ENDPOINT_FIRST), (b"", b"")],
        calls: Engine::calls,
        waiting_max: WAITING_MAX,
    };
    let world = world::live(plot, script);
    for caller in &world.callers {
        if caller.kind == 0 {
            http2::well_formed(true, &caller.heard);
        } else {
            let asked = exchange::passes(&caller.said, &world.manners.policy, &mut Vec::new());
            exchange::answers(&caller.heard, &asked);
        }
    }
    for endpoint in &world.endpoints {
        if endpoint.kind == 0 {
            http2::well_formed(false, &endpoint.heard);
        } else {
            requests(&endpoint.heard);
        }
    }
}

fn snapshot() -> Snapshot {
    let one = NonZeroU32::MIN;
    let route = |name: &str, cluster: u32, limited: bool| Route {
        name: name.into(),
        matches: Match { path: Some(Pattern::exact(&format!("/{name}"))), ..Match::default() },
        targets: [Target::new(cluster, 1)].into(),
        timeout: Some(Duration::from_secs(2)),
        limit: Limit::new(one, Duration::from_secs(1), one).filter(|_| limited).map(Arc::new),
        retry: (!limited).then(Arc::default),
        ..Route::default()
    };
    let routes =
        vec![route("ok", 0, false), route("web", 1, false), route("limited", 1, true), exchange::moved()];
    let cluster = |name: &str, address: &str, speaks: &'static str| {
        let settings = ClusterSettings {
            connections: Some(2),
            pending_max: 2,
            speaks: Some(speaks),
            ..ClusterSettings::default()
        };
        let endpoint = Endpoint::new(address, 1);
        Cluster::new(name, Balance::RoundRobin, settings, vec![endpoint])
    };
    let clusters = vec![cluster("two", "two:1", "http2"), cluster("one", "one:1", "http1")];
    Snapshot::new(1, vec![Listener { name: "in".into(), routes: RouteTable::new(routes).into() }], clusters)
}

/// An endpoint of HTTP/1 may have seen nothing but whole requests, the last perhaps in part, to what routes name.
fn requests(heard: &[u8]) {
    let policy = Policy { underscores: Underscores::Allow, ..Policy::default() };
    let mut at = 0;
    while at < heard.len() {
        let rest = &heard[at..];
        let shown = || String::from_utf8_lossy(&rest[..rest.len().min(300)]).into_owned();
        let len = match Http1::find(rest, 0, Side::Request, &WIDE) {
            Find::Partial { .. } => return,
            Find::Head { len } => len,
            Find::Fault(fault) => panic!("{fault:?}: {}", shown()),
        };
        let mut index = HeadIndex::default();
        let asked = Http1::request(&rest[..len], &policy, &WIDE, &mut index);
        let asked = asked.unwrap_or_else(|fault| panic!("{fault:?}: {}", shown()));
        let path = Head { bytes: &rest[..len], index: &index }.slot(Slot::Path);
        assert!(matches!(path, Some(b"/web" | b"/limited")), "{}", shown());
        at += len;
        let body = match asked.body {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length as usize).filter(|length| *length <= heard.len() - at),
            Framing::Chunked => dechunk(&heard[at..]).1,
            Framing::Close => panic!("a request that ends with its connection"),
        };
        let Some(body) = body else { return };
        at += body;
    }
}
