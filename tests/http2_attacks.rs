//! What no good caller sends: floods, bombs, stalls and smuggling by HTTP/2, over real sockets.
//!
//! Beside each attack a canary makes call after call and must notice nothing; the offender is answered or sent away
//! exactly as said, memory stays within its bounds, no connection of the sidecar ends by a panic, and what was begun
//! with the endpoint is taken back. Times are only ever bounded generously.

mod support;

use std::time::Duration;
use support::Sidecar;
use support::echo::conf;
use support::http2::{
    ACK, CALM, CANCEL, COMPRESSION_ERROR, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Event,
    FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, Fields, Frame, GOAWAY, HEADERS, NO_ERROR, PING, PREFACE, PRIORITY,
    PROTOCOL_ERROR, REFUSED_STREAM, SETTINGS, STREAM_CLOSED, TABLE_SIZE, WINDOW, WINDOW_UPDATE, data, frame,
    get, goaway, grpc, headers, integer, ping, post, priority, request, rst, settings, status, window,
};
use support::http2_upstream::{Canary, Upstream, straight};
use support::within;

/// The longest time an attacker may stay connected after his crime.
const CLOSE_MAX: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(150);
const MIB: u64 = 1 << 10;
/// What any attack may cost, in KiB.
const GROWTH_MAX: u64 = 16 * MIB;
const MANY: usize = 100_000;

/// A sidecar between a canary and an attacker.
struct Scene {
    upstream: Upstream,
    sidecar: Sidecar,
    canary: Canary,
    before: u64,
}

impl Scene {
    /// `/echo…` and everything else go to the same endpoint.
    fn new(listener: &str, rest: &str) -> Self {
        Self::with(Upstream::start(), listener, rest)
    }

    fn with(upstream: Upstream, listener: &str, rest: &str) -> Self {
        let listener = format!("    protocol: http2\n{listener}    routes: [{{ match: {{}}, to: up }}]");
        let clusters = format!("{rest}clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
        let sidecar = Sidecar::start(&conf(&listener, &clusters));
        let canary = Canary::start(&sidecar);
        let before = sidecar.rss_kib();
        Self { upstream, sidecar, canary, before }
    }

    /// Requests that reached the endpoint, the canary's left out.
    fn calls(&self) -> usize {
        self.upstream.seen().iter().filter(|(_, line)| !line.contains("/canary/")).count()
    }

    fn grown(&self) -> u64 {
        self.sidecar.rss_kib().saturating_sub(self.before)
    }

    /// A flood of these frames behind a greeting must be answered with GOAWAY and this code.
    #[track_caller]
    fn sent_away(&self, what: &str, frames: &[u8], code: u32) {
        let mut client = self.sidecar.http2();
        let goodbye = client.flood(frames, CLOSE_MAX);
        assert!(goodbye.end.is_some(), "{what}: the attacker is still there, {goodbye:?}");
        assert_eq!(goodbye.code, Some(code), "{what}");
        self.canary.goes_on();
    }

    /// Nothing is left of the attackers, and no connection to the endpoint ended by them.
    #[track_caller]
    fn over(mut self) {
        assert_eq!(self.sidecar.events("http2", "up_broken"), 0);
        assert_eq!(self.upstream.open(), self.upstream.accepted());
        let gone = within(SOON, || self.upstream.streams() <= 1);
        assert!(gone, "{} streams are left at the endpoint", self.upstream.streams());
        self.canary.sings();
        let grown = self.sidecar.rss_kib().saturating_sub(self.before);
        assert!(grown < GROWTH_MAX, "{grown} KiB grown");
        self.sidecar.rests();
    }
}

/// So many times the bytes that `of` makes for a stream, numbers from 1 on.
fn each(count: usize, of: impl Fn(u32) -> Vec<Frame>) -> Vec<u8> {
    (0..count as u32).flat_map(|at| of(2 * at + 1)).flat_map(|frame| frame.bytes()).collect()
}

#[test]
fn rapid_reset_ends_the_connection_and_costs_the_endpoint_little() {
    let scene = Scene::new("", "");
    let attack = each(MANY, |id| vec![headers(id, &get("/held"), true), rst(id, CANCEL)]);
    scene.sent_away("at once", &attack, CALM);
    let calls = scene.calls();
    assert!(calls <= 200, "{calls} calls reached the endpoint");
    // Calls whose answers come by themselves are no better.
    let attack = each(MANY, |id| vec![headers(id, &get("/echo/reset"), true), rst(id, CANCEL)]);
    scene.sent_away("answered", &attack, CALM);
    assert!(scene.calls() <= 2 * 200, "{} calls reached the endpoint", scene.calls());
    // Each of them reaches the endpoint before it is taken back: those count as well.
    let mut client = scene.sidecar.http2();
    let before = scene.calls();
    while client.ended.is_none() && scene.calls() < before + 20_000 {
        let calls: Vec<u32> = (0..100).map(|_| client.number()).collect();
        let opened: Vec<u8> = calls.iter().flat_map(|id| headers(*id, &get("/held"), true).bytes()).collect();
        let due = scene.upstream.seen().len() + calls.len();
        if client.try_bytes(&opened).is_err() {
            break;
        }
        within(Duration::from_millis(500), || scene.upstream.seen().len() >= due);
        let back: Vec<u8> = calls.iter().flat_map(|id| rst(*id, CANCEL).bytes()).collect();
        client.send(&[ping(*b"answered")]);
        while !matches!(client.step(), Event::Pong(_) | Event::End(_)) {}
        if client.ended.is_some() || client.try_bytes(&back).is_err() {
            break;
        }
    }
    assert_eq!(client.ends().code, Some(CALM), "{} calls", scene.calls() - before);
    assert!(scene.calls() - before <= 5_000, "{} calls reached the endpoint", scene.calls() - before);
    scene.over();
}

/// What is said of each stream, and what it is.
type Variant<'a> = (&'a str, &'a dyn Fn(u32) -> Vec<Frame>);

#[test]
fn errors_that_a_caller_provokes_are_counted_and_free_the_endpoint() {
    let asked = |id| headers(id, &post("/held"), false);
    let whole = |id| headers(id, &get("/held"), true);
    let long = |id| headers(id, &post("/held").with("content-length", "2"), false);
    let variants: [Variant<'_>; 9] = [
        ("WINDOW_UPDATE by nothing", &|id| vec![asked(id), window(id, 0)]),
        ("a window beyond all bounds", &|id| vec![asked(id), window(id, 0x7fff_ffff)]),
        ("DATA behind the end", &|id| vec![whole(id), data(id, "x", false)]),
        ("HEADERS behind the end", &|id| vec![whole(id), headers(id, &Fields::new(&[("x", "1")]), true)]),
        ("PRIORITY on itself", &|id| vec![asked(id), priority(id, id)]),
        ("PRIORITY of a wrong length", &|id| vec![asked(id), frame(PRIORITY, 0, id, [0; 4])]),
        ("trailers that do not end", &|id| vec![asked(id), headers(id, &Fields::new(&[("x", "1")]), false)]),
        ("trailers with pseudo-headers", &|id| vec![asked(id), headers(id, &get("/"), true)]),
        ("more DATA than said", &|id| vec![long(id), data(id, "123", true)]),
    ];
    let scene = Scene::new("", "");
    for (what, of) in variants {
        let before = scene.calls();
        scene.sent_away(what, &each(10_000, of), CALM);
        assert!(scene.calls() - before <= 150, "{what}: {} calls", scene.calls() - before);
        assert!(
            within(SOON, || scene.upstream.streams() <= 1),
            "{what}: {} are left",
            scene.upstream.streams()
        );
        // Once it ends that stream alone.
        let mut client = scene.sidecar.http2();
        client.send(&of(1));
        client.number();
        assert_ne!(client.given_up(1), NO_ERROR, "{what}");
        client.well(what);
    }
    scene.over();
}

#[test]
fn a_head_that_does_not_end_ends_the_connection() {
    let scene = Scene::new("", "");
    let begin = frame(HEADERS, 0, 1, get("/held").block()).bytes();
    let lots = frame(CONTINUATION, 0, 1, Fields::default().with("x", &"y".repeat(16_000)).block()).bytes();
    for (what, more) in [
        ("nothing", frame(CONTINUATION, 0, 1, []).bytes().repeat(MANY)),
        ("a byte", frame(CONTINUATION, 0, 1, [0]).bytes().repeat(MANY)),
        ("much", lots.repeat(1_000)),
    ] {
        scene.sent_away(what, &[&begin[..], &more].concat(), CALM);
    }
    for (what, more, code) in [
        ("another frame", ping(*b"midway!!").bytes(), PROTOCOL_ERROR),
        ("another stream", frame(CONTINUATION, END_HEADERS, 3, []).bytes(), PROTOCOL_ERROR),
        ("another head", headers(3, &get("/held"), true).bytes(), PROTOCOL_ERROR),
    ] {
        scene.sent_away(what, &[&begin[..], &more].concat(), code);
    }
    scene.sent_away("no beginning", &frame(CONTINUATION, END_HEADERS, 1, []).bytes(), PROTOCOL_ERROR);
    assert_eq!(scene.calls(), 0);
    scene.over();
}

/// A literal that is put into the table, its name new.
fn indexed(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0x40];
    integer(name.len(), 7, 0, &mut block);
    block.extend(name.bytes());
    integer(value.len(), 7, 0, &mut block);
    block.extend(value.bytes());
    block
}

#[test]
fn a_few_bytes_that_stand_for_many_are_refused_and_the_tables_stay_true() {
    let scene = Scene::new("", "");
    let mut client = scene.sidecar.http2();
    // Its own entry is the newest, hence number 62; ten thousand times in one head.
    let bomb =
        [get("/echo/bomb").block(), indexed("x-bomb", &"b".repeat(4_000)), vec![0xbe; 10_000]].concat();
    for _ in 0..100 {
        let stream = client.number();
        client.send(&[frame(HEADERS, END_HEADERS | END_STREAM, stream, bomb.clone())]);
        client.answer(stream).refused(431, "too_large");
    }
    assert!(scene.grown() < GROWTH_MAX, "{} KiB", scene.grown());
    let stream = client.number();
    let once = [get("/echo/once").block(), vec![0xbe]].concat();
    client.send(&[frame(HEADERS, END_HEADERS | END_STREAM, stream, once)]);
    client.answer(stream).is(" GET /echo/once ");
    // In trailers it ends the stream.
    let stream = client.open(&post("/held"), false);
    client.send(&[frame(HEADERS, END_HEADERS | END_STREAM, stream, vec![0xbe; 10_000])]);
    assert_eq!(client.given_up(stream), PROTOCOL_ERROR);
    client.well("behind");
    // The table's size back and forth, with every head; then by settings.
    for at in 0..2_000 {
        let stream = client.number();
        let churn =
            [vec![0x20, 0x3f, 0xe1, 0x1f], get("/echo/churn").block(), indexed("x", &"c".repeat(3_000))];
        client.send(&[frame(HEADERS, END_HEADERS | END_STREAM, stream, churn.concat())]);
        if at % 100 == 0 {
            client.answer(stream).is(" GET /echo/churn ");
        }
    }
    client.well("churned");
    drop(client);
    let churn = |at: u32| settings(&[(TABLE_SIZE, if at % 4 == 1 { 0 } else { 1 << 30 })]);
    scene.sent_away("settings", &each(MANY, |at| vec![churn(at)]), CALM);
    scene.over();
}

#[test]
fn a_head_that_cannot_be_decompressed_ends_the_connection() {
    let scene = Scene::new("", "");
    let start = get("/held").block();
    for (what, block) in [
        ("an index of nothing", vec![0x80]),
        ("an index beyond the table", vec![0xff, 0x80, 0x01]),
        ("an integer without an end", [&[0xff][..], &[0xff; 20]].concat()),
        ("a table larger than allowed", vec![0x3f, 0xe2, 0x1f]),
        ("a table's size behind a line", [&start[..], &[0x20]].concat()),
        ("a string longer than the block", vec![0, 1, b'x', 100, b'y']),
        ("a string cut short", vec![0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a code of Huffman that ends the string", vec![0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("padding of Huffman longer than a byte", vec![0, 1, b'x', 0x82, 0x1f, 0xff]),
    ] {
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, block).bytes();
        scene.sent_away(what, &bytes, COMPRESSION_ERROR);
    }
    assert_eq!(scene.calls(), 0);
    scene.over();
}

#[test]
fn floods_of_frames_that_move_nothing_end_the_connection() {
    let scene = Scene::new("", "");
    let open = headers(1, &post("/held"), false).bytes();
    let again = |one: Frame| one.bytes().repeat(MANY);
    for (what, flood) in [
        ("SETTINGS", again(settings(&[]))),
        ("SETTINGS of windows", again(settings(&[(WINDOW, 1_000)]))),
        ("acknowledged SETTINGS", again(frame(SETTINGS, ACK, 0, []))),
        ("PING", again(ping(*b"attacker"))),
        ("answers to PING", again(frame(PING, ACK, 0, *b"attacker"))),
        ("answers to PING as ours", again(frame(PING, ACK, 0, *b"outrigge"))),
        ("empty DATA", again(data(1, [], false))),
        ("padded DATA of nothing", again(frame(DATA, 8, 1, [3, 0, 0, 0]))),
        ("DATA of one byte", again(data(1, "x", false))),
        ("PRIORITY", again(priority(1, 3))),
        ("PRIORITY of streams that are none", each(MANY, |id| vec![priority(id, 0)])),
        ("WINDOW_UPDATE of the connection", again(window(0, 1))),
        ("WINDOW_UPDATE of a stream", again(window(1, 1))),
        ("frames of no kind", again(frame(0x77, 0, 1, *b"what?"))),
        ("GOAWAY", again(goaway(0, NO_ERROR))),
    ] {
        scene.sent_away(what, &[&open[..], &flood].concat(), CALM);
        assert!(scene.grown() < GROWTH_MAX, "{what}: {} KiB", scene.grown());
    }
    // Frames of a stream that was answered long ago.
    let mut client = scene.sidecar.http2();
    client.well("answered");
    let goodbye = client.flood(&rst(1, CANCEL).bytes().repeat(MANY), CLOSE_MAX);
    assert_eq!(goodbye.code, Some(CALM));
    // One who does not read what he asks for.
    let deaf = scene.sidecar.http2();
    deaf.reader.stream().set_write_timeout(Some(Duration::from_secs(2))).expect("a socket option");
    let _ = deaf.try_bytes(&again(ping(*b"attacker")));
    assert!(scene.grown() < GROWTH_MAX, "{} KiB", scene.grown());
    drop(deaf);
    scene.over();
}

#[test]
fn a_burst_of_an_honest_caller_passes() {
    let scene = Scene::new("", "");
    let mut client = scene.sidecar.http2();
    // As many small things as there are calls for them: none of it is a flood.
    for at in 0..3_000 {
        let stream = client.open(&post("/echo/small"), false);
        client.send(&[
            data(stream, "x", false),
            window(stream, 1),
            ping(*b"honestly"),
            data(stream, "y", true),
        ]);
        if at % 50 == 0 {
            client.answer(stream).is(" POST /echo/small xy");
        }
    }
    client.well("behind");
    assert!(client.answers.values().all(|answer| answer.reset.is_none()));
    drop(client);
    scene.over();
}

#[test]
fn answers_that_nobody_takes_wait_with_the_endpoint_and_end_in_time() {
    const STREAMS: usize = 100;
    const LEN: usize = 4 << 20;
    let scene = Scene::new("    idle_timeout: 2s\n", "");
    // No window at all: each answer may come as far as its own window towards us.
    let mut client = Client::connect_with(scene.sidecar.port("main"), &[(WINDOW, 0)]);
    let calls: Vec<u32> = (0..STREAMS).map(|_| client.call(&get("/big"))).collect();
    let senders: Vec<_> = (0..STREAMS)
        .map(|_| {
            let held = scene.upstream.next();
            std::thread::spawn(move || {
                held.begin(&status(200));
                held.conn.body(held.stream, &vec![b'x'; LEN], true)
            })
        })
        .collect();
    for stream in &calls {
        assert_eq!(client.begun(*stream).status(), 200);
    }
    std::thread::sleep(SILENCE);
    assert!(scene.grown() < GROWTH_MAX, "{} KiB for answers of {LEN} bytes", scene.grown());
    for stream in &calls {
        assert_eq!(client.given_up(*stream), CANCEL);
        assert!(client.answers[stream].body.is_empty());
    }
    assert!(senders.into_iter().all(|sender| !sender.join().expect("it ends")), "none was sent whole");
    client.settled();
    // One that has windows without end, and reads nothing.
    let deaf = Client::connect_with(scene.sidecar.port("main"), &[(WINDOW, 0x7fff_ffff)]);
    let all: Vec<u8> = (0..10).flat_map(|at| headers(2 * at + 1, &get("/big"), true).bytes()).collect();
    deaf.bytes(&[window(0, 0x7000_0000).bytes(), all].concat());
    let senders: Vec<_> = (0..10)
        .map(|_| {
            let held = scene.upstream.next();
            std::thread::spawn(move || {
                held.begin(&status(200));
                held.conn.body(held.stream, &vec![b'x'; 8 * LEN], true)
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    assert!(scene.grown() < GROWTH_MAX, "{} KiB", scene.grown());
    assert!(senders.into_iter().all(|sender| !sender.join().expect("it ends")), "none was sent whole");
    drop((client, deaf));
    scene.over();
}

#[test]
fn a_request_that_its_endpoint_does_not_take_waits_with_its_caller() {
    let upstream = Upstream::start();
    upstream.stingy();
    let other = Upstream::start();
    let listener = "    protocol: http2\n    idle_timeout: 2s\n    routes:\n      - { match: { path: { prefix: /echo } }, to: other }\n      - { match: {}, to: up }";
    let clusters = format!(
        "clusters:\n  up: {{ endpoints: [\"{}\"] }}\n  other: {{ endpoints: [\"{}\"] }}",
        upstream.address(),
        other.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let canary = Canary::start(&sidecar);
    let before = sidecar.rss_kib();
    let mut client = sidecar.http2();
    let calls: Vec<u32> = (0..50).map(|_| client.open(&post("/held"), false)).collect();
    let held: Vec<_> = calls.iter().map(|_| upstream.next()).collect();
    // As much as the windows allow; none of them is overdrawn.
    for stream in &calls {
        client.settled();
        client.send(&[data(*stream, vec![b'x'; 16_000], false), data(*stream, vec![b'x'; 16_000], false)]);
    }
    client.settled();
    assert!(upstream.bytes() <= 65_535, "{} bytes", upstream.bytes());
    let grown = sidecar.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} KiB");
    // Those of which something waits end in time; of the first two everything went on.
    for stream in &calls[2..] {
        client.answer(*stream).refused(504, "timed_out");
    }
    assert!(calls[..2].iter().all(|stream| !client.answers.contains_key(stream)));
    drop(held);
    drop(client);
    canary.sings();
    sidecar.rests();
}

#[test]
fn streams_are_numbered_and_counted_strictly() {
    let scene = Scene::new("", "limits: { streams_max: 4 }\n");
    for (what, frames, code) in [
        (
            "a lower number",
            vec![headers(5, &get("/echo/x"), true), headers(3, &get("/echo/x"), true)],
            PROTOCOL_ERROR,
        ),
        ("an even number", vec![headers(2, &get("/echo/x"), true)], PROTOCOL_ERROR),
        ("no number", vec![headers(0, &get("/echo/x"), true)], PROTOCOL_ERROR),
        ("DATA of none", vec![data(1, "x", true)], PROTOCOL_ERROR),
        ("RST_STREAM of none", vec![rst(7, CANCEL)], PROTOCOL_ERROR),
        ("WINDOW_UPDATE of none", vec![window(7, 1)], PROTOCOL_ERROR),
        ("a push", vec![frame(5, END_HEADERS, 1, [0, 0, 0, 2])], PROTOCOL_ERROR),
        ("a frame too long", vec![frame(DATA, 0, 1, vec![0; 16_385])], FRAME_SIZE_ERROR),
        ("a short PING", vec![frame(PING, 0, 0, [0; 7])], FRAME_SIZE_ERROR),
        ("odd SETTINGS", vec![frame(SETTINGS, 0, 0, [0; 5])], FRAME_SIZE_ERROR),
        ("a window too large", vec![settings(&[(WINDOW, 0x8000_0000)])], FLOW_CONTROL_ERROR),
        ("too much of a window", vec![window(0, 0x7fff_ffff)], FLOW_CONTROL_ERROR),
        ("a short GOAWAY", vec![frame(GOAWAY, 0, 0, [0; 7])], FRAME_SIZE_ERROR),
        ("a short WINDOW_UPDATE", vec![frame(WINDOW_UPDATE, 0, 0, [0; 3])], FRAME_SIZE_ERROR),
    ] {
        let mut client = scene.sidecar.http2();
        let goodbye = client.flood(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>(), CLOSE_MAX);
        assert_eq!(goodbye.code, Some(code), "{what}");
        assert!(goodbye.end.is_some(), "{what}");
    }
    // One that has been answered is not begun again.
    let mut client = scene.sidecar.http2();
    client.well("first");
    client.send(&[headers(1, &get("/echo/again"), true)]);
    assert_eq!(client.ends().code, Some(STREAM_CLOSED));
    // More than may be at once: refused, not processed, and the others go on.
    let mut client = scene.sidecar.http2();
    let calls: Vec<u32> = (0..6).map(|_| client.call(&get("/held"))).collect();
    assert_eq!([client.given_up(calls[4]), client.given_up(calls[5])], [REFUSED_STREAM; 2]);
    assert!(client.asked.contains(&(3, 4)), "{:?}", client.asked);
    let held: Vec<_> = (0..4).map(|_| scene.upstream.next()).collect();
    held[0].answer("first");
    client.answer(calls[0]).is("first");
    client.well("a place is free");
    held[1..].iter().for_each(|held| held.answer("rest"));
    calls[1..4].iter().for_each(|stream| client.answer(*stream).is("rest"));
    drop(client);
    assert_eq!(scene.upstream.count("/held"), 4);
    // Who goes on for ever is sent away.
    let attack = each(MANY, |id| vec![headers(id, &get("/held"), true)]);
    scene.sent_away("too many at once", &attack, CALM);
    scene.over();
}

/// Heads that are no requests, or no longer the same in HTTP/1.
fn smuggling() -> Vec<(&'static str, Fields)> {
    let plain = || get("/smuggled");
    let with = |name: &str, value: &str| plain().with(name, value);
    vec![
        ("CRLF in a value", with("x", "a\r\nx-b: c")),
        ("LF in a value", with("x", "a\nb")),
        ("CR in a value", with("x", "a\rb")),
        ("NUL in a value", with("x", "a\0b")),
        ("a blank before a value", with("x", " a")),
        ("a tab behind a value", with("x", "a\t")),
        ("a colon in a name", with("x:y", "a")),
        ("a colon before a name", with(":x", "a")),
        ("a blank in a name", with("x y", "a")),
        ("CRLF in a name", with("x\r\ny", "a")),
        ("a name in capitals", with("X-Y", "a")),
        ("a name of nothing", with("", "a")),
        ("a byte that is no letter", with("x\u{e4}", "a")),
        ("a blank in the path", plain().set(":path", "/a HTTP/1.1")),
        ("CRLF in the path", plain().set(":path", "/a\r\nx: y")),
        ("a tab in the path", plain().set(":path", "/a\tb")),
        ("no path", plain().set(":path", "")),
        ("a path that is relative", plain().set(":path", "a/b")),
        ("an absolute path", plain().set(":path", "http://other/")),
        ("a fragment", plain().set(":path", "/a#b")),
        ("a blank in the method", plain().set(":method", "GET /x HTTP/1.1\r\nx: y")),
        ("no method", plain().set(":method", "")),
        ("a blank in the authority", plain().set(":authority", "a b")),
        ("CRLF in the authority", plain().set(":authority", "a\r\nx: y")),
        ("a user in the authority", plain().set(":authority", "a@b")),
        ("a slash in the authority", plain().set(":authority", "a/b")),
        ("another host", with("host", "other.example")),
        ("two hosts", with("host", "test.example").with("host", "test.example")),
        ("another scheme", plain().set(":scheme", "ftp")),
        ("CRLF in the scheme", plain().set(":scheme", "http\r\nx: y")),
        ("te", with("te", "chunked")),
        ("te beside", with("te", "trailers, deflate")),
        ("connection", with("connection", "close")),
        ("keep-alive", with("keep-alive", "1")),
        ("proxy-connection", with("proxy-connection", "close")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("upgrade", with("upgrade", "websocket")),
        ("a length of nothing", with("content-length", "")),
        ("a signed length", with("content-length", "+1")),
        ("two lengths", with("content-length", "0").with("content-length", "0")),
        ("a list of lengths", with("content-length", "0, 0")),
        ("a length beyond all bounds", with("content-length", "99999999999999999999")),
        ("a method twice", with(":method", "GET")),
        ("a pseudo-header behind", plain().without(":path").with("x", "a").with(":path", "/")),
        ("a status", with(":status", "200")),
        ("a protocol", with(":protocol", "websocket")),
    ]
}

#[test]
fn nothing_is_smuggled_to_an_http1_server() {
    let (web, new) = (support::http1::Upstream::start(), Upstream::start());
    let listener = "    protocol: http2\n    routes:\n      - { match: { path: { prefix: /echo } }, to: new }\n      - { match: {}, to: web }";
    let clusters = format!(
        "clusters:\n  new: {{ endpoints: [\"{}\"] }}\n  web: {{ endpoints: [\"{}\"], protocol: http1 }}",
        new.address(),
        web.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let canary = Canary::start(&sidecar);
    let mut client = sidecar.http2();
    for (at, (what, fields)) in smuggling().into_iter().enumerate() {
        let stream = client.call(&fields);
        assert_eq!(client.given_up(stream), PROTOCOL_ERROR, "{what}");
        client.well(what);
        if at % 10 == 9 {
            std::thread::sleep(Duration::from_millis(300));
            // Too many of them are an attack.
            client = sidecar.http2();
        }
    }
    std::thread::sleep(SILENCE);
    assert_eq!(web.accepted(), 0, "nothing was even begun");
    // Bodies that are not what was said: no whole request arrives.
    for (what, said, sent, end) in
        [("less", "5", "123", true), ("more", "2", "123", true), ("more to come", "2", "123", false)]
    {
        let stream = client.open(&post("/smuggled").with("content-length", said), false);
        client.send(&[data(stream, sent, end)]);
        assert_eq!(client.given_up(stream), PROTOCOL_ERROR, "{what}");
        if let Some(mut held) = web.next_within(SILENCE) {
            held.torn();
        }
        client.well(what);
    }
    // Trailers that would be framing, or somebody else's head.
    for trailers in [
        Fields::new(&[("x\r\ny", "1")]),
        Fields::new(&[("x", "a\r\n\r\nGET / HTTP/1.1")]),
        Fields::new(&[(":path", "/")]),
        Fields::new(&[("connection", "close")]),
        Fields::new(&[("transfer-encoding", "chunked")]),
    ] {
        let stream = client.open(&post("/smuggled"), false);
        client.send(&[data(stream, "123", false), headers(stream, &trailers, true)]);
        assert_eq!(client.given_up(stream), PROTOCOL_ERROR, "{trailers:?}");
        if let Some(mut held) = web.next_within(SILENCE) {
            held.torn();
        }
        client.well("trailers");
    }
    // What HTTP/1 would write otherwise is written as HTTP/1 has it.
    let stream = client.call(
        &request("GET", "/plain")
            .with("te", "trailers")
            .with("host", "TEST.example")
            .with("cookie", "a")
            .with("cookie", "b"),
    );
    let held = web.next();
    assert_eq!(
        (held.head.target(), held.head.get("host"), held.head.get("cookie")),
        ("/plain", Some("test.example"), Some("a; b"))
    );
    held.answer("well");
    client.answer(stream).is("well");
    drop(client);
    canary.sings();
    sidecar.rests();
}

#[test]
fn who_begins_and_does_not_go_on_is_sent_away_in_time() {
    let scene = Scene::new("    head_timeout: 700ms\n    detect_timeout: 700ms\n", "");
    let port = scene.sidecar.port("main");
    let greeting = [PREFACE, &settings(&[]).bytes()].concat();
    let head = headers(1, &get("/echo/slow"), true).bytes();
    let open = [&greeting[..], &frame(HEADERS, END_STREAM, 1, get("/held").block()).bytes()].concat();
    for (what, sent) in [
        ("half a preface", PREFACE[..10].to_vec()),
        ("a preface without its end", PREFACE[..20].to_vec()),
        ("a preface alone", PREFACE.to_vec()),
        ("half of the settings", [PREFACE, &settings(&[]).bytes()[..5]].concat()),
        ("half a frame's header", [&greeting[..], &head[..4]].concat()),
        ("half a frame", [&greeting[..], &head[..20]].concat()),
        ("half a head", open),
    ] {
        let mut client = Client::mute(port);
        client.bytes(&sent);
        client.ends();
        scene.canary.goes_on();
        assert_eq!(scene.calls(), 0, "{what}");
    }
    // Whatever begins as nothing that is known is no HTTP/2.
    for (what, sent) in [
        ("another protocol", &b"GET / HTTP/1.1\r\n\r\n"[..]),
        ("nearly", b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n"),
        ("its beginning", b"PRI * HTTP/1.1\r\n\r\n"),
    ] {
        let mut client = Client::mute(port);
        client.bytes(sent);
        let mut bytes = [0; 1];
        while client.reader.exact(&mut bytes).is_ok() {}
        scene.canary.goes_on();
        assert_eq!(scene.calls(), 0, "{what}");
    }
    // Another frame first.
    let mut client = Client::mute(port);
    client.bytes(&[PREFACE, &ping(*b"too soon").bytes()].concat());
    assert_eq!(client.ends().code, Some(PROTOCOL_ERROR));
    // One who acknowledges nothing is served all the same.
    let mut rude = Client::connect(port);
    rude.polite = false;
    for at in 0..10 {
        rude.well(at);
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(rude);
    scene.over();
}

#[test]
fn frames_that_come_byte_by_byte_are_served_and_heads_that_take_too_long_are_not() {
    let scene = Scene::new("    head_timeout: 700ms\n", "");
    let port = scene.sidecar.port("main");
    let mut patient = Client::mute(port);
    let talk = [
        headers(1, &post("/echo/slow"), false),
        data(1, "byte by byte, longer than any head may take, ", false),
        ping(*b"meantime"),
        window(0, 1),
        data(1, "for a body has time", true),
        headers(3, &get("/echo/next"), true),
    ];
    for byte in
        [PREFACE, &settings(&[]).bytes()].concat().into_iter().chain(talk.iter().flat_map(Frame::bytes))
    {
        patient.bytes(&[byte]);
        std::thread::sleep(Duration::from_millis(3));
    }
    patient.number();
    patient.number();
    patient.answer(1).is(" POST /echo/slow byte by byte, longer than any head may take, for a body has time");
    patient.answer(3).is(" GET /echo/next ");
    // A frame of a body may take longer than a head.
    let call = patient.open(&post("/echo/body"), false);
    for byte in data(call, "0123456789", true).bytes() {
        patient.bytes(&[byte]);
        std::thread::sleep(Duration::from_millis(80));
    }
    patient.answer(call).is(" POST /echo/body 0123456789");
    drop(patient);
    // A head, its rest, and the first words may not, though something comes all the time.
    let greeting = [PREFACE, &settings(&[]).bytes()].concat();
    let long = get("/held").with("x", &"y".repeat(200)).block();
    let first = frame(HEADERS, END_STREAM, 1, get("/held").block()).bytes();
    for (what, at_once, slowly) in [
        ("a head", greeting.clone(), frame(HEADERS, END_HEADERS | END_STREAM, 1, long.clone()).bytes()),
        ("its rest", [&greeting[..], &first].concat(), frame(CONTINUATION, END_HEADERS, 1, long).bytes()),
        ("settings", PREFACE.to_vec(), settings(&[(TABLE_SIZE, 0); 40]).bytes()),
    ] {
        let mut client = Client::mute(port);
        client.bytes(&at_once);
        let sent = slowly.iter().take_while(|byte| {
            std::thread::sleep(Duration::from_millis(40));
            client.try_bytes(&[**byte]).is_ok()
        });
        assert!(sent.count() < slowly.len(), "{what} came to its end");
        while client.ended.is_none() && client.try_step().is_ok() {}
        scene.canary.goes_on();
        assert!(!client.answers.values().any(|answer| answer.whole), "{what}");
    }
    assert_eq!(scene.upstream.count("/held"), 0);
    scene.over();
}

#[test]
fn calls_whose_time_is_up_or_that_are_taken_back_leave_nothing_behind() {
    const CALLS: usize = 200;
    let scene = Scene::new("", "");
    let mut client = scene.sidecar.http2();
    let timely = grpc("/t.S/late").with("grpc-timeout", "1S");
    let calls: Vec<u32> = (0..CALLS).map(|_| client.call(&timely)).collect();
    let held: Vec<_> = calls.iter().map(|_| scene.upstream.next()).collect();
    for (call, held) in calls.iter().zip(&held) {
        // The endpoint knows of it, too.
        assert!(held.head.get("grpc-timeout").is_some(), "{held:?}");
        client.answer(*call).refused_grpc(4, "timed_out");
        assert_eq!(held.taken_back(), CANCEL);
    }
    // Waiting, in the middle of its request, in the middle of its answer: all of it is taken back.
    for at in 0..CALLS {
        let call = client.open(&grpc("/t.S/back"), false);
        client.send(&[data(call, "half", at % 3 == 0)]);
        let held = scene.upstream.next();
        held.came(4);
        if at % 3 == 2 {
            held.begin(&status(200).with("content-type", "application/grpc"));
            client.begun(call);
        }
        client.send(&[rst(call, CANCEL)]);
        assert_eq!(held.taken_back(), CANCEL);
    }
    // One head that says all comes as it is.
    let call = client.call(&grpc("/t.S/only"));
    let only = status(200).with("content-type", "application/grpc").with("grpc-status", "5");
    scene.upstream.next().trailers(&only);
    let answer = client.answer(call);
    assert!(answer.whole && answer.trailers.is_none() && answer.body.is_empty(), "{answer:?}");
    assert_eq!((answer.head.get("grpc-status"), answer.head.get("x-outrigger-error")), (Some("5"), None));
    assert_eq!(client.goodbyes, []);
    drop((client, held));
    scene.over();
}

#[test]
fn rapid_reset_before_an_http1_server_costs_it_few_connections() {
    let web = support::http1::Upstream::start();
    let mut sidecar = straight(&web.address(), "http2", ("", "", "protocol: http1"));
    let canary = Canary::start(&sidecar);
    let before = sidecar.rss_kib();
    let calls = || web.seen().iter().filter(|(_, line)| !line.contains("/canary/")).count();
    // What was begun with it ends with its connection.
    let ended = || {
        while let Some(mut held) = web.next_within(SILENCE) {
            held.link().ends();
        }
    };
    for path in ["/held", "/echo/reset"] {
        let attack = each(MANY, |id| vec![headers(id, &get(path), true), rst(id, CANCEL)]);
        let mut client = sidecar.http2();
        let goodbye = client.flood(&attack, CLOSE_MAX);
        assert_eq!((goodbye.code, goodbye.end.is_some()), (Some(CALM), true), "{path}");
        canary.goes_on();
        ended();
    }
    assert!(calls() <= 2 * 200, "{} calls", calls());
    assert!(web.accepted() <= 2 * 1_100, "{} connections", web.accepted());
    // Each of them reaches the server before it is taken back: those count as well.
    let (seen, mut client) = (calls(), sidecar.http2());
    while client.ended.is_none() && calls() < seen + 20_000 {
        let asked: Vec<u32> = (0..100).map(|_| client.number()).collect();
        let opened: Vec<u8> = asked.iter().flat_map(|id| headers(*id, &get("/held"), true).bytes()).collect();
        let due = calls() + asked.len();
        if client.try_bytes(&opened).is_err() {
            break;
        }
        within(Duration::from_millis(500), || calls() >= due);
        let back: Vec<u8> = asked.iter().flat_map(|id| rst(*id, CANCEL).bytes()).collect();
        client.send(&[ping(*b"answered")]);
        while !matches!(client.step(), Event::Pong(_) | Event::End(_)) {}
        if client.ended.is_some() || client.try_bytes(&back).is_err() {
            break;
        }
    }
    assert_eq!(client.ends().code, Some(CALM), "{} calls", calls() - seen);
    assert!(calls() - seen <= 5_000, "{} calls", calls() - seen);
    ended();
    assert!(within(SOON, || web.open() <= 2), "{} connections are left", web.open());
    canary.sings();
    let grown = sidecar.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} KiB grown");
    sidecar.rests();
}
