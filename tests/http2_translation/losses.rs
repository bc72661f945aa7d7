//! Endpoints that are lost, refuse or break off under callers of the other version, and callers that do.
//!
//! What was not processed goes elsewhere; what may have been is told; what had begun may never look whole.

use super::support::echo::conf;
use super::support::http1::{self, get, ok, post};
use super::support::http2::{
    self, ANY, CANCEL, Fields, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, data, grpc, status,
};
use super::support::http2_upstream::{self, Held};
use super::support::{Sidecar, free_port};
use super::{SILENCE, chunked, to_new, to_old};

/// What an endpoint does with a call.
type Leave = fn(&Held);

/// How an endpoint of HTTP/2 leaves a call alone.
const LEAVINGS: [(&str, Leave); 5] = [
    ("reset", |held| held.reset(INTERNAL_ERROR)),
    ("reset without an error", |held| held.reset(NO_ERROR)),
    ("taken back", |held| held.reset(CANCEL)),
    ("closed", |held| held.conn.close()),
    ("cut", |held| held.conn.cut()),
];

#[test]
fn an_endpoint_of_http2_that_is_lost_before_its_answer_is_told() {
    let upstream = http2_upstream::Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    for (what, leave) in LEAVINGS {
        for (request, whole) in [
            (get("/lost"), true),
            (format!("{}body", post("/lost", 4, "")), true),
            (format!("{}4\r\nbody\r\n0\r\n\r\n", chunked("/lost", "")), true),
            (format!("{}bo", post("/lost", 4, "")), false),
        ] {
            client.send(&request);
            let held = upstream.next();
            if whole {
                held.body().expect("it is whole");
            } else {
                held.came(2);
            }
            leave(&held);
            let answer = client.next();
            answer.refused(502, "unreachable");
            assert_eq!(answer.head.closes(), !whole, "{what}: {answer:?}");
            if answer.head.closes() {
                client.closed();
                client = sidecar.http();
            }
            client.well("behind");
        }
        client.send(get("/lost").replacen("GET", "HEAD", 1));
        leave(&upstream.next());
        assert_eq!(client.answer_to("HEAD").expect("a whole answer").status(), 502, "{what}");
        client.well("behind");
    }
    assert_eq!(upstream.count("/lost"), 5 * LEAVINGS.len(), "nothing was sent twice");
    drop(client);
    sidecar.rests();
}

#[test]
fn an_answer_of_http2_that_breaks_off_breaks_off_for_the_caller_too() {
    let upstream = http2_upstream::Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    for (what, leave) in LEAVINGS {
        for fields in [status(200), status(200).with("content-length", "10")] {
            let mut client = sidecar.http();
            client.send([get("/torn"), get("/echo/behind/it")].concat());
            let held = upstream.next();
            held.begin(&fields);
            held.say("12345");
            // It has come as far as the caller.
            let head = client.link.head().expect("a head").expect("a head");
            assert_eq!(head.status(), 200, "{what}");
            if fields.get("content-length").is_none() {
                assert_eq!(client.link.chunk().expect("a chunk"), Some(b"12345".to_vec()));
            }
            leave(&held);
            let mut rest = Vec::new();
            let ended = std::io::Read::read_to_end(client.link.reader(), &mut rest);
            assert!(ended.is_err() || rest.len() < 10, "{what}: {rest:?}");
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{what}: a clean end");
        }
    }
    assert_eq!(upstream.count("/echo/behind/it"), 0);
    // More or less than was said.
    for (what, said, sent) in [("less", "10", "12345"), ("more", "5", "1234567890")] {
        let mut client = sidecar.http();
        client.send(get("/torn"));
        let held = upstream.next();
        held.begin(&status(200).with("content-length", said));
        held.send(&[data(held.stream, sent, true)]);
        let answer = client.answer_to("GET");
        match &answer {
            // All that was said came, and nothing behind it.
            Ok(answer) => assert_eq!((said, &*answer.text()), ("5", "12345"), "{what}: {answer:?}"),
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{what}"),
        }
        client.closed();
    }
    // Trailers that are none.
    for trailers in [
        Fields::new(&[(":status", "200")]),
        Fields::new(&[("x", "a\r\n\r\nHTTP/1.1 200 OK")]),
        Fields::new(&[("connection", "close")]),
    ] {
        let mut client = sidecar.http();
        client.send(get("/torn"));
        let held = upstream.next();
        held.begin(&status(200));
        held.say("12345");
        client.link.head().expect("a head").expect("a head");
        assert_eq!(client.link.chunk().expect("a chunk"), Some(b"12345".to_vec()));
        held.trailers(&trailers);
        client.link.chunk().expect_err("no clean end");
    }
    sidecar.http().well("behind");
    sidecar.rests();
}

#[test]
fn what_an_endpoint_of_http2_did_not_process_is_asked_again() {
    let upstream = http2_upstream::Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    for (what, leave) in [
        ("refused", (|held| held.reset(REFUSED_STREAM)) as Leave),
        ("a goodbye", |held| held.conn.goaway(held.stream - 2, NO_ERROR)),
    ] {
        for request in [
            get("/again"),
            format!("{}body", post("/again", 4, "")),
            format!("{}4\r\nbody\r\n0\r\n\r\n", chunked("/again", "")),
        ] {
            client.well(what);
            client.send(&request);
            let held = upstream.next();
            let body = held.body();
            leave(&held);
            let again = upstream.next();
            assert_eq!(again.body(), body, "{what}");
            again.answer("then");
            client.next().is("then");
        }
    }
    // One that is in the middle of its body goes on from its beginning.
    client.send(format!("{}half and ", post("/half", 13, "")));
    let held = upstream.next();
    held.came(9);
    held.reset(REFUSED_STREAM);
    let again = upstream.next();
    client.send("half");
    assert_eq!(again.body(), Ok((b"half and half".to_vec(), None)));
    again.answer("whole");
    client.next().is("whole");
    // A goodbye that is only a wish costs nobody anything.
    client.send(get("/stays"));
    let held = upstream.next();
    held.conn.goaway(ANY, NO_ERROR);
    sidecar.http().well("elsewhere");
    held.answer("stays");
    client.next().is("stays");
    drop((client, held));
    sidecar.rests();
}

#[test]
fn a_caller_of_http1_that_breaks_off_takes_its_call_back() {
    let upstream = http2_upstream::Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    for (begin, some) in [
        (post("/half", 10, ""), "12345"),
        (chunked("/half", ""), "5\r\n12345\r\n"),
        (chunked("/half", ""), "a\r\n12345"),
        (chunked("/half", ""), "5\r\n12345\r\n0\r\nX-A: 1\r\n"),
    ] {
        for reset in [false, true] {
            let mut client = sidecar.http();
            client.send(format!("{begin}{some}"));
            let held = upstream.next();
            held.came(5);
            if reset {
                client.link.reset();
            } else {
                client.link.fin();
                client.closed();
            }
            held.taken_back();
        }
    }
    // Chunks that are none: told, as long as no answer began.
    for answering in [false, true] {
        let mut client = sidecar.http();
        client.send(format!("{}5\r\n12345\r\n", chunked("/bad", "")));
        let held = upstream.next();
        held.came(5);
        if answering {
            held.begin(&status(200));
            held.say("so far");
            client.link.head().expect("a head").expect("a head");
            assert_eq!(client.link.chunk().expect("a chunk"), Some(b"so far".to_vec()));
        }
        client.send("zz\r\n");
        held.taken_back();
        if answering {
            let mut rest = Vec::new();
            let _ = std::io::Read::read_to_end(client.link.reader(), &mut rest);
            assert_eq!(rest, b"", "nothing that could be an end");
        } else {
            let answer = client.next();
            answer.refused(400, "malformed");
            assert!(answer.head.closes(), "{answer:?}");
            client.closed();
        }
    }
    // More than was said is the next request, and none.
    let mut client = sidecar.http();
    client.send(format!("{}bodymore\r\n\r\n", post("/echo/more", 4, "")));
    client.next().is(" POST /echo/more body");
    client.next().refused(400, "malformed");
    client.closed();
    sidecar.http().well("behind");
    sidecar.rests();
}

#[test]
fn an_endpoint_of_http1_that_is_lost_is_told_to_each_caller_in_its_words() {
    let upstream = http1::Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    for reset in [false, true] {
        let calls = [client.call(&http2::get("/asked")), client.call(&grpc("/t.S/asked"))];
        let begun = [client.call(&http2::get("/begun")), client.call(&grpc("/t.S/begun"))];
        for _ in 0..4 {
            let mut held = upstream.next();
            if held.head.target().ends_with("begun") {
                let kind = held.head.get("content-type").map(|kind| format!("Content-Type: {kind}\r\n"));
                let kind = kind.unwrap_or_default();
                held.send(format!(
                    "HTTP/1.1 200 OK\r\n{kind}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
                ));
                let stream = begun[usize::from(held.head.target().starts_with("/t.S"))];
                assert_eq!(client.came(stream, 4).text(), "half");
            }
            if reset {
                held.reset();
            } else {
                held.fin();
            }
        }
        client.answer(calls[0]).refused(502, "unreachable");
        client.answer(calls[1]).refused_grpc(14, "unreachable");
        let torn = client.answer(begun[0]);
        assert_eq!((torn.whole, &*torn.text(), torn.reset), (false, "half", Some(INTERNAL_ERROR)));
        let told = client.answer(begun[1]);
        assert!(told.whole && told.text() == "half", "{told:?}");
        told.trailers.expect("they tell").is_grpc(14, "unreachable");
        client.well("behind");
    }
    // Without framing an end is an end, and an RST is none.
    let call = client.call(&http2::get("/close"));
    let mut held = upstream.next();
    held.send("HTTP/1.1 200 OK\r\n\r\nhalf");
    client.came(call, 4);
    held.reset();
    let torn = client.answer(call);
    assert_eq!((torn.whole, torn.reset), (false, Some(INTERNAL_ERROR)), "{torn:?}");
    // While the body is still being sent.
    let call = client.open(&http2::post("/sending"), false);
    client.send(&[data(call, "some", false)]);
    upstream.next().reset();
    client.answer(call).refused(502, "unreachable");
    assert_eq!(client.given_up(call), NO_ERROR);
    client.well("behind");
    drop(client);
    sidecar.rests();
}

#[test]
fn what_does_no_harm_is_sent_again_once_in_the_other_version() {
    // HTTP/1 callers.
    let upstream = http2_upstream::Upstream::start();
    let mut sidecar = to_new(&upstream, "", "idempotent: true");
    let mut client = sidecar.http();
    for request in
        [format!("{}body", post("/again", 4, "")), format!("{}4\r\nbody\r\n0\r\n\r\n", chunked("/again", ""))]
    {
        client.send(&request);
        let held = upstream.next();
        assert_eq!(held.body(), Ok((b"body".to_vec(), None)));
        held.conn.cut();
        let again = upstream.next();
        assert_eq!(
            (again.body(), again.conn.number() > held.conn.number()),
            (Ok((b"body".to_vec(), None)), true)
        );
        again.answer("again");
        client.next().is("again");
    }
    client.send(get("/twice"));
    upstream.next().conn.cut();
    upstream.next().conn.cut();
    client.next().refused(502, "unreachable");
    upstream.silent(SILENCE);
    assert_eq!(sidecar.events("http2", "resent"), 3);
    drop(client);
    sidecar.rests();
    // HTTP/2 callers.
    let upstream = http1::Upstream::start();
    let mut sidecar = to_old(&upstream, "", "idempotent: true");
    let mut client = sidecar.http2();
    let call = client.open(&http2::post("/again"), false);
    client.send(&[data(call, "body", true)]);
    let mut held = upstream.next();
    assert_eq!(held.body().expect("it is whole").bytes, b"body");
    held.reset();
    let mut again = upstream.next();
    assert_eq!(again.body().expect("it is whole").bytes, b"body");
    again.answer("again");
    client.answer(call).is("again");
    let call = client.call(&http2::get("/twice"));
    upstream.next().reset();
    upstream.next().fin();
    client.answer(call).refused(502, "unreachable");
    upstream.silent(SILENCE);
    // Not when anything of its answer came.
    let call = client.call(&http2::get("/begun"));
    let mut held = upstream.next();
    held.send("HTTP/1.1 103 Early Hints\r\n\r\n");
    client.until("the hints", |client| client.answers.contains_key(&call));
    held.reset();
    let mut answer = client.answer(call);
    answer.interim.clear();
    answer.refused(502, "unreachable");
    upstream.silent(SILENCE);
    drop(client);
    sidecar.rests();
}

#[test]
fn kept_connections_of_http1_that_close_cost_no_call() {
    let upstream = http1::Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    for at in 0..20 {
        let call = client.call(&http2::get("/closing"));
        let mut held = upstream.next();
        // It says so, or just does it.
        held.send(ok("closing", if at % 2 == 0 { "Connection: close\r\n" } else { "" }));
        client.answer(call).is("closing");
        held.fin();
        client.settled();
        client.well(at);
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn endpoints_that_are_not_there_are_passed_over() {
    let (old, new) = (http1::Upstream::start(), http2_upstream::Upstream::start());
    for (listener, protocol, address) in
        [("http1", "http2", new.address()), ("http2", "http1", old.address())]
    {
        let dead = free_port();
        let text = format!("    protocol: {listener}\n    routes: [{{ match: {{}}, to: up }}]");
        let clusters = format!(
            "clusters:\n  up: {{ endpoints: [\"127.0.0.1:{dead}\", \"{address}\"], balance: round_robin, protocol: \
             {protocol} }}"
        );
        let mut sidecar = Sidecar::start(&conf(&text, &clusters));
        for at in 0..10 {
            if listener == "http1" {
                let mut client = sidecar.http();
                client.well(at);
                client.ask(format!("{}body", post("/echo/p", 4, ""))).is(" POST /echo/p body");
            } else {
                let mut client = sidecar.http2();
                client.well(at);
                client.ask_with(&http2::post("/echo/p"), "body").is(" POST /echo/p body");
            }
        }
        assert!(sidecar.events("http2", "up_failed") >= 1);
        sidecar.rests();
    }
}

#[test]
fn an_endpoint_that_speaks_the_wrong_version_is_told_and_harms_nobody() {
    let (old, new) = (http1::Upstream::start(), http2_upstream::Upstream::start());
    // What an HTTP/1 server says to a preface is no HTTP/2.
    let mut sidecar =
        http2_upstream::straight(&old.address(), "http1", ("", "timeout: 5s", "protocol: http2"));
    let mut client = sidecar.http();
    client.send(get("/x"));
    let mut held = old.next();
    assert_eq!(held.head.first, "PRI * HTTP/2.0");
    held.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.next().refused(502, "unreachable");
    drop(held);
    client.link.silent(SILENCE);
    drop(client);
    sidecar.rests();
    let mut sidecar =
        http2_upstream::straight(&new.address(), "http2", ("", "timeout: 1s", "protocol: http1"));
    let mut client = sidecar.http2();
    let call = client.call(&http2::get("/x"));
    let answer = client.answer(call);
    assert!(matches!(answer.status(), 502 | 504), "{answer:?}");
    drop(client);
    sidecar.rests();
}
