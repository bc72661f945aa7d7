//! Endpoints that speak HTTP/2 and say goodbye, get full, refuse, break off, break the rules or go; and what becomes of
//! the calls that are with them. Also the end of the sidecar itself, and its reloads, under open connections.
//!
//! A call that was not processed goes elsewhere without a word; one that may have been is told to its caller, unless its
//! route says that it does no harm. Times are only ever bounded generously.

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::echo::conf;
use support::http1::{End, Leaving};
use support::http2::{
    ANY, CALM, CANCEL, CONTINUATION, Client, END_HEADERS, Event, Fields, Frame, HEADERS, INTERNAL_ERROR,
    NO_ERROR, PING, REFUSED_STREAM, STREAMS_MAX, data, frame, get, grpc, headers, post, settings, status,
    window,
};
use support::http2_upstream::{Canary, Held, Upstream, straight};
use support::raw::ANSWER_MAX;
use support::{Sidecar, free_port, within};

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(150);
const NOTHING: (&str, &str, &str) = ("", "", "");

/// A sidecar in front of several endpoints in turn.
fn among(upstreams: &[&Upstream], route: &str, cluster: &str) -> Sidecar {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| format!("\"{}\"", upstream.address())).collect();
    let listener = format!("    protocol: http2\n    routes: [{{ match: {{}}, to: up, {route} }}]");
    let clusters = format!(
        "clusters:\n  up: {{ endpoints: [{}], balance: round_robin, {cluster} }}",
        addresses.join(", ")
    );
    Sidecar::start(&conf(&listener, &clusters))
}

#[test]
fn behind_a_goodbye_what_was_processed_finishes_and_the_rest_goes_elsewhere() {
    for polite in [false, true] {
        let upstream = Upstream::start();
        let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
        let mut client = sidecar.http2();
        let calls = ["/1", "/2"].map(|path| client.call(&get(path)));
        let early = [upstream.next(), upstream.next()];
        let bodied = client.open(&post("/3"), false);
        client.send(&[data(bodied, "half and ", false)]);
        let late = upstream.next();
        late.came(9);
        let last = client.call(&grpc("/t.S/4"));
        upstream.next();
        let conn = &early[0].conn;
        if polite {
            conn.goaway(ANY, NO_ERROR);
        }
        conn.goaway(early[1].stream, NO_ERROR);
        // Those above the last come again, from their beginning, on another connection.
        let again = [upstream.next(), upstream.next()];
        assert!(again.iter().all(|held| held.conn.number() == 1), "{again:?}");
        client.send(&[data(bodied, "half", true)]);
        for held in again {
            match held.path() {
                "/3" => {
                    assert_eq!(held.body(), Ok((b"half and half".to_vec(), None)));
                    held.answer("three");
                }
                _ => held.answer_grpc("four"),
            }
        }
        client.answer(bodied).is("three");
        client.answer(last).is("four");
        client.well("others");
        // Those below finish where they are, and then the connection ends.
        for (held, stream) in early.iter().zip(calls) {
            held.answer("finished");
            client.answer(stream).is("finished");
        }
        assert_eq!((conn.ends(), upstream.accepted()), (End::Clean, 2));
        assert_eq!(sidecar.events("http2", "moved"), 2);
        drop(client);
        sidecar.rests();
    }
}

#[test]
fn what_cannot_be_sent_again_is_refused_at_a_goodbye() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    // More than is kept for a second time.
    let long = client.open(&post("/long"), false);
    let held = upstream.next();
    client.upload(long, &vec![b'x'; 200_000], false);
    held.came(200_000);
    let trailed = client.open(&grpc("/t.S/trailed"), false);
    client.send(&[headers(trailed, &Fields::new(&[("x-end", "1")]), true)]);
    let second = upstream.next();
    second.body().expect("it is whole");
    held.conn.goaway(0, NO_ERROR);
    client.answer(long).refused(502, "unreachable");
    client.answer(trailed).refused_grpc(14, "unreachable");
    assert_eq!(client.given_up(long), NO_ERROR);
    client.well("behind");
    drop((client, held, second));
    sidecar.rests();
}

#[test]
fn a_goodbye_with_an_error_and_an_end_loses_what_was_processed_and_nothing_else() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let mut sidecar = among(&[&one, &two], "", "");
    let mut client = sidecar.http2();
    let mut calls: Vec<u32> = (0..6).map(|_| client.call(&get("/held"))).collect();
    let held: Vec<Held> = (0..3).map(|_| one.next()).collect();
    let other: Vec<Held> = (0..3).map(|_| two.next()).collect();
    held[0].conn.goaway(held[0].stream, CALM);
    held[0].conn.close();
    // The first of them may have been processed, the others go to the other endpoint.
    let moved = [two.next(), two.next()];
    moved.iter().chain(&other).for_each(|held| held.answer("of the other"));
    let lost = calls.iter().position(|stream| client.answer(*stream).status() == 502).expect("one was lost");
    client.answers[&calls.remove(lost)].refused(502, "unreachable");
    for stream in calls {
        client.answer(stream).is("of the other");
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn full_connections_are_joined_by_others_and_then_calls_wait_in_line() {
    let upstream = Upstream::narrow(2);
    let mut sidecar = straight(&upstream.address(), "http2", ("", "timeout: 30s", "connections: 3"));
    let mut client = sidecar.http2();
    // What the endpoint takes at once is known when it has spoken.
    client.well("first");
    let first: Vec<u32> = (0..2).map(|_| client.call(&get("/held"))).collect();
    let mut held: Vec<Held> = (0..2).map(|_| upstream.next()).collect();
    assert_eq!((upstream.accepted(), upstream.most()), (1, 2));
    let mut calls = first;
    for connections in 2..=3 {
        calls.push(client.call(&get("/held")));
        held.push(upstream.next());
        // It has spoken now.
        client.settled();
        within(SOON, || upstream.open() == connections);
        std::thread::sleep(SILENCE);
        calls.push(client.call(&get("/held")));
        held.push(upstream.next());
        assert_eq!((upstream.accepted(), upstream.most()), (connections, 2));
    }
    // Everything is full.
    let waiting: Vec<u32> = (0..20).map(|at| client.call(&get(&format!("/waits/{at}")))).collect();
    upstream.silent(SILENCE);
    assert_eq!(sidecar.events("http2", "waited"), 20);
    // One that is taken back while it waits leaves the line.
    client.send(&[support::http2::rst(waiting[0], CANCEL)]);
    for (held, stream) in held.iter().zip(calls) {
        held.answer("held");
        client.answer(stream).is("held");
    }
    waiting[1..].iter().for_each(|_| upstream.next().answer("waited"));
    waiting[1..].iter().for_each(|stream| client.answer(*stream).is("waited"));
    assert_eq!((upstream.accepted(), upstream.most(), upstream.count("/waits/0")), (3, 2, 0));
    drop((client, held));
    sidecar.rests();
}

#[test]
fn an_endpoint_may_change_its_mind_about_how_much_it_takes() {
    let upstream = Upstream::narrow(1);
    let mut sidecar = straight(&upstream.address(), "http2", ("", "", "connections: 1"));
    let mut client = sidecar.http2();
    client.well("first");
    let calls: Vec<u32> = (0..5).map(|_| client.call(&get("/held"))).collect();
    let first = upstream.next();
    upstream.silent(SILENCE);
    first.send(&[settings(&[(STREAMS_MAX, 3)])]);
    let more = [upstream.next(), upstream.next()];
    upstream.silent(SILENCE);
    // Less than there are: those go on, and none is added.
    first.send(&[settings(&[(STREAMS_MAX, 0)])]);
    first.answer("1");
    for held in &more {
        held.answer("2");
    }
    upstream.silent(SILENCE);
    first.send(&[settings(&[(STREAMS_MAX, 100)])]);
    for held in [upstream.next(), upstream.next()] {
        held.answer("3");
    }
    let texts: Vec<String> = calls.iter().map(|stream| client.answer(*stream).text()).collect();
    assert_eq!(texts, ["1", "2", "2", "3", "3"]);
    assert_eq!(upstream.accepted(), 1);
    drop((client, first, more));
    sidecar.rests();
}

#[test]
fn a_stream_that_was_refused_is_asked_again_a_few_times() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    for fields in [post("/once"), grpc("/t.S/once")] {
        let call = client.open(&fields, false);
        client.send(&[data(call, "body", true)]);
        upstream.next().reset(REFUSED_STREAM);
        let again = upstream.next();
        assert_eq!(again.body(), Ok((b"body".to_vec(), None)));
        again.answer("then");
        client.answer(call).is("then");
        let call = client.call(&fields);
        let mut tries = 0;
        let answer = loop {
            upstream.next().reset(REFUSED_STREAM);
            tries += 1;
            client.settled();
            client.settled();
            if let Some(answer) = client.answers.get(&call) {
                break answer.clone();
            }
        };
        assert!((2..=5).contains(&tries), "{tries} tries");
        if fields.get("content-type").is_some() {
            answer.refused_grpc(14, "unreachable");
        } else {
            answer.refused(502, "unreachable");
        }
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn a_connection_lost_in_mid_call_is_told_to_each_caller_in_its_words() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    for cut in [false, true] {
        let mut client = sidecar.http2();
        let plain = [client.call(&get("/asked")), client.call(&post("/half"))];
        let calls = [client.call(&grpc("/t.S/asked")), client.call(&grpc("/t.S/half"))];
        let held: Vec<Held> = (0..4).map(|_| upstream.next()).collect();
        for held in held.iter().filter(|held| held.path().ends_with("/half")) {
            held.begin(&status(200));
            held.say("half");
        }
        for stream in [plain[1], calls[1]] {
            assert_eq!(client.came(stream, 4).text(), "half");
        }
        if cut {
            held[0].conn.cut();
        } else {
            held[0].conn.close();
        }
        client.answer(plain[0]).refused(502, "unreachable");
        client.answer(calls[0]).refused_grpc(14, "unreachable");
        let torn = client.answer(plain[1]);
        assert!(!torn.whole && torn.text() == "half", "{torn:?}");
        assert_eq!(torn.reset, Some(INTERNAL_ERROR));
        let told = client.answer(calls[1]);
        assert!(told.whole && told.text() == "half", "{told:?}");
        told.trailers.expect("they tell").is_grpc(14, "unreachable");
        client.well("behind");
    }
    sidecar.rests();
}

#[test]
fn what_does_no_harm_is_sent_again_once() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let mut sidecar = among(&[&one, &two], "idempotent: true", "");
    let mut client = sidecar.http2();
    let call = client.open(&post("/again"), false);
    client.send(&[data(call, "body", true)]);
    let held = one.next();
    assert_eq!(held.body(), Ok((b"body".to_vec(), None)));
    held.conn.cut();
    let again = two.next();
    assert_eq!(again.body(), Ok((b"body".to_vec(), None)));
    again.answer("again");
    client.answer(call).is("again");
    // Not when anything of its answer came, not twice.
    let call = client.call(&get("/begun"));
    let held = [&one, &two].into_iter().find_map(|upstream| upstream.next_within(SOON)).expect("it arrives");
    held.begin(&status(200));
    client.begun(call);
    held.conn.cut();
    assert_eq!(client.given_up(call), INTERNAL_ERROR);
    assert_eq!(sidecar.events("http2", "resent"), 1);
    drop((client, held));
    sidecar.rests();
}

#[test]
fn an_endpoint_that_is_not_there_is_passed_over() {
    let upstream = Upstream::start();
    let listener = "    protocol: http2\n    routes: [{ match: {}, to: up }]";
    let clusters = format!(
        "clusters:\n  up: {{ endpoints: [\"127.0.0.1:{}\", \"{}\"], balance: round_robin }}",
        free_port(),
        upstream.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut client = sidecar.http2();
    for at in 0..20 {
        client.well(at);
        client.ask_with(&grpc("/echo/grpc"), "body").is(" POST /echo/grpc body");
    }
    assert!(sidecar.events("http2", "up_failed") >= 1);
    drop(client);
    sidecar.rests();
}

/// What no endpoint may send in answer to a call on stream 1, and whether only that call is lost.
fn wrongs() -> Vec<(&'static str, Vec<Frame>, bool)> {
    let ok = || headers(1, &status(200), false);
    let with = |name: &str, value: &str| headers(1, &status(200).with(name, value), false);
    let bomb =
        [status(200).block(), vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e], vec![b'b'; 4_000], vec![0xbe; 10_000]];
    vec![
        ("DATA before a head", vec![data(1, "x", true)], true),
        ("a head without a status", vec![headers(1, &Fields::new(&[("x", "1")]), true)], true),
        ("a status that is none", vec![headers(1, &Fields::new(&[(":status", "20")]), true)], true),
        ("a switch of protocols", vec![headers(1, &status(101), false)], true),
        ("a request's head", vec![headers(1, &get("/"), true)], true),
        ("CRLF in a value", vec![with("x", "a\r\nb: c")], true),
        ("a connection's header", vec![with("connection", "close")], true),
        ("transfer-encoding", vec![with("transfer-encoding", "chunked")], true),
        (
            "two lengths",
            vec![headers(1, &status(200).with("content-length", "1").with("content-length", "2"), false)],
            true,
        ),
        ("less than said", vec![with("content-length", "5"), data(1, "123", true)], true),
        ("more than said", vec![with("content-length", "2"), data(1, "123", true)], true),
        ("a second head", vec![ok(), ok()], true),
        ("trailers with a status", vec![ok(), headers(1, &status(200), true)], true),
        ("an interim answer that ends", vec![headers(1, &status(103), true)], true),
        ("a bomb", vec![frame(HEADERS, END_HEADERS, 1, bomb.concat())], true),
        ("WINDOW_UPDATE by nothing", vec![window(1, 0)], true),
        ("a push", vec![frame(5, END_HEADERS, 1, [&[0, 0, 0, 2][..], &get("/").block()].concat())], false),
        ("a stream that was not asked for", vec![headers(99, &status(200), true)], false),
        ("an even stream", vec![headers(2, &status(200), true)], false),
        ("a block that is none", vec![frame(HEADERS, END_HEADERS, 1, [0x80])], false),
        (
            "a head that does not end",
            [vec![frame(HEADERS, 0, 1, status(200).block())], vec![frame(CONTINUATION, 0, 1, []); 100]]
                .concat(),
            false,
        ),
        ("a frame too long", vec![frame(0, 0, 1, vec![0; 20_000])], false),
        ("a flood", vec![frame(PING, 0, 0, *b"flooding"); 20_000], false),
        ("a flood of interim answers", vec![headers(1, &status(102), false); 1_000], true),
    ]
}

#[test]
fn an_endpoint_that_breaks_the_rules_loses_its_calls_and_no_others() {
    let (bad, good) = (Upstream::start(), Upstream::start());
    let listener = "    protocol: http2\n    routes:\n      - { match: { path: { prefix: /echo } }, to: good }\n      - { match: {}, to: bad }";
    let clusters = format!(
        "clusters:\n  bad: {{ endpoints: [\"{}\"] }}\n  good: {{ endpoints: [\"{}\"] }}",
        bad.address(),
        good.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let canary = Canary::start(&sidecar);
    let before = sidecar.rss_kib();
    let mut client = sidecar.http2();
    for (what, frames, alone) in wrongs() {
        let call = client.call(&get("/asked"));
        let held = bad.next();
        // Each begins on a connection of its own.
        assert_eq!(held.stream, 1, "{what}");
        held.send(&frames);
        let mut answer = client.answer(call);
        // What came before it passed.
        assert!(answer.interim.len() <= 8, "{what}: {answer:?}");
        answer.interim.clear();
        if answer.head.0.is_empty() || answer.head.get("x-outrigger-error").is_none() {
            assert!(!answer.whole, "{what}: {answer:?}");
            assert!(answer.reset.is_some_and(|code| code != NO_ERROR), "{what}: {answer:?}");
        } else {
            answer.refused(502, "unreachable");
        }
        if alone {
            // The connection goes on until the next goodbye.
            let call = client.call(&get("/beside"));
            let beside = bad.next();
            assert_eq!((beside.conn.number(), beside.stream), (held.conn.number(), 3), "{what}");
            beside.answer("well");
            client.answer(call).is("well");
            held.conn.goaway(3, NO_ERROR);
        }
        held.conn.ends();
        client.well(what);
    }
    let grown = sidecar.rss_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB grown");
    drop(client);
    canary.sings();
    sidecar.rests();
}

#[test]
fn an_endpoint_that_gives_no_sign_of_life_is_let_go() {
    // It reads nothing and says nothing, as a machine that was switched off.
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).expect("the port is free");
    let address = silent.local_addr().expect("it is bound").to_string();
    let mut sidecar = straight(&address, "http2", ("", "timeout: 60s", ""));
    let mut client = sidecar.http2();
    client.reader.patience(Duration::from_secs(30));
    let call = client.call(&get("/x"));
    client.answer(call).refused(502, "unreachable");
    assert_eq!(sidecar.events("http2", "up_silent"), 1);
    drop(client);
    sidecar.rests();
}

#[test]
fn term_says_goodbye_twice_lets_calls_finish_and_ends_well() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let (mut idle, mut busy) = (sidecar.http2(), sidecar.http2());
    idle.well("idle");
    let waiting = busy.call(&get("/waiting"));
    let held = upstream.next();
    let uploading = busy.open(&post("/echo/upload"), false);
    busy.send(&[data(uploading, "12", false)]);
    let answering = busy.call(&grpc("/t.S/answering"));
    let half = upstream.next();
    half.begin(&status(200).with("content-type", "application/grpc"));
    half.say("12");
    busy.came(answering, 2);
    busy.polite = false;
    sidecar.term();
    let port = sidecar.port("main");
    assert!(within(SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()), "no new connections");
    // A wish first, and a question; what is asked before that is known is still served.
    busy.until("a goodbye", |client| !client.goodbyes.is_empty());
    assert_eq!(busy.goodbyes, [(ANY, NO_ERROR)]);
    let crossing = busy.call(&get("/echo/crossing"));
    busy.answer(crossing).is(" GET /echo/crossing ");
    busy.until("the last goodbye", |client| client.goodbyes.len() == 2);
    assert_eq!(busy.goodbyes[1], (crossing, NO_ERROR));
    let late = busy.call(&get("/echo/late"));
    // One who knows leaves when it is done; it is not kept waiting.
    assert_eq!(idle.ends().end, Some(End::Clean));
    assert_eq!(idle.goodbyes, [(ANY, NO_ERROR), (1, NO_ERROR)]);
    held.answer("waited");
    half.say("34");
    half.trailers(&Fields::new(&[("grpc-status", "0")]));
    busy.send(&[data(uploading, "34", true)]);
    busy.answer(waiting).is("waited");
    busy.answer(answering).is("1234");
    busy.answer(uploading).is(" POST /echo/upload 1234");
    assert_eq!(busy.ends().end, Some(End::Clean));
    assert!(!busy.answers.contains_key(&late), "what came too late was not processed");
    assert_eq!(upstream.count("/echo/late"), 0);
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
    // The endpoint was told, too.
    assert_eq!(held.conn.goodbye().1, NO_ERROR);
    assert_eq!(held.conn.ends(), End::Clean);
}

#[test]
fn term_ends_in_time_also_when_an_answer_never_comes() {
    let upstream = Upstream::start();
    let listener = "    protocol: http2\n    routes: [{ match: {}, to: up }]";
    let rest =
        format!("drain_timeout: 700ms\nclusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    let mut client = sidecar.http2();
    let never = client.call(&get("/never"));
    let call = client.call(&grpc("/t.S/never"));
    let half = client.call(&get("/half"));
    let held = [upstream.next(), upstream.next(), upstream.next()];
    held[2].begin(&status(200));
    held[2].say("half");
    client.came(half, 4);
    sidecar.term();
    client.answer(never).refused(502, "unreachable");
    client.answer(call).refused_grpc(14, "unreachable");
    let torn = client.answer(half);
    assert!(!torn.whole && torn.reset.is_some(), "{torn:?}");
    assert!(client.ends().end.is_some());
    assert!(held.iter().all(|held| matches!(held.next(), Event::Reset { .. } | Event::End(_))));
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn reloads_under_open_connections_lose_nothing_and_close_nothing() {
    const CALLERS: usize = 4;
    const RELOADS: usize = 15;
    let endpoints = [Upstream::start(), Upstream::start(), Upstream::start()];
    let listener =
        "    protocol: http2\n    routes: [{ match: { path: { prefix: /echo } }, to: up, timeout: 30s }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", endpoints[0].address());
    let text = conf(listener, &clusters).replace("workers: 1", "workers: 2");
    let mut sidecar = Sidecar::start(&text);
    let (ending, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let over = Leaving(&ending);
        for caller in 0..CALLERS {
            let mut client = sidecar.http2();
            let (ending, calls) = (&ending, &calls);
            scope.spawn(move || {
                while !ending.load(Ordering::Relaxed) {
                    // One connection from first to last, several calls at once.
                    let target = format!("/echo/{caller}");
                    let asked = [client.call(&get(&target)), client.open(&post(&target), false)];
                    client.upload(asked[1], b"body", true);
                    client.answer(asked[1]).is(&format!(" POST {target} body"));
                    client.answer(asked[0]).is(&format!(" GET {target} "));
                    assert!(client.goodbyes.is_empty(), "{:?}", client.goodbyes);
                    calls.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        for turn in 0..RELOADS {
            // Other endpoints, another route, a broken file now and then.
            let mut next = text.replace(&endpoints[0].address(), &endpoints[turn % 3].address());
            if turn % 2 == 1 {
                next = next.replace("routes: [", "routes: [{ match: { path: /x }, to: up, name: n }, ");
            }
            if turn % 5 == 4 {
                next += "  broken";
            }
            fs::write(sidecar.conf_path(), next).expect("it can be written");
            let (status, said) = sidecar.admin_post("/reload");
            assert_eq!(status, if turn % 5 == 4 { 400 } else { 200 }, "{said}");
            let before = calls.load(Ordering::Relaxed);
            assert!(within(ANSWER_MAX, || calls.load(Ordering::Relaxed) > before + 20), "calls go on");
        }
        drop(over);
    });
    let arrived: usize = endpoints.iter().map(|endpoint| endpoint.seen().len()).sum();
    assert_eq!(arrived as u64, calls.load(Ordering::Relaxed), "each call arrived once");
    assert!(endpoints.iter().all(|endpoint| !endpoint.seen().is_empty()));
    assert!(within(SOON, || endpoints[0].open() == 0 && endpoints[2].open() == 0), "{}", sidecar.stats());
    sidecar.rests();
}

#[test]
fn a_reload_reaches_the_next_call_of_an_open_connection() {
    let (old, new) = (Upstream::start(), Upstream::start());
    let mut sidecar = straight(&old.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    client.well(1);
    let flying = client.call(&get("/in/flight"));
    let held = old.next();
    let text = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    let text = text.replace(&old.address(), &new.address());
    let strict = text.replace("protocol: http2\n", "protocol: http2\n    http: { underscores: reject }\n");
    fs::write(sidecar.conf_path(), strict).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    client.well(2);
    assert_eq!((old.seen().len(), new.seen().len()), (2, 1));
    held.answer("of the old endpoint");
    client.answer(flying).is("of the old endpoint");
    assert_eq!(held.conn.ends(), End::Clean, "what left the conf is closed when it is idle");
    client.ask(&get("/echo").with("x_y", "1")).refused(400, "malformed");
    drop((client, held));
    sidecar.rests();
}

#[test]
fn a_listener_that_a_reload_takes_away_finishes_its_calls_and_says_goodbye() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let text = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    let port = free_port();
    let more = format!(
        "listeners:\n  more: {{ bind: \"127.0.0.1:{port}\", protocol: http2, routes: [{{ match: {{}}, to: up }}] }}\n"
    );
    fs::write(sidecar.conf_path(), text.replace("listeners:\n", &more)).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    let (mut busy, mut idle, mut stays) = (Client::connect(port), Client::connect(port), sidecar.http2());
    idle.well("idle");
    stays.well("stays");
    let call = busy.call(&get("/busy"));
    let held = upstream.next();
    fs::write(sidecar.conf_path(), &text).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    assert!(within(SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()), "{}", sidecar.log());
    assert_eq!(idle.ends().end, Some(End::Clean));
    held.answer("finished");
    busy.answer(call).is("finished");
    assert_eq!(busy.ends().end, Some(End::Clean));
    assert_eq!(busy.goodbyes, [(ANY, NO_ERROR), (call, NO_ERROR)]);
    stays.well("as ever");
    drop(stays);
    sidecar.rests();
}
