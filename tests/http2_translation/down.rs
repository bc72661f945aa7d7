//! Messages of HTTP/2 callers and what an endpoint of HTTP/1 makes of them.

use super::support::http1::{self, Held, Upstream, ok};
use super::support::http2::{
    Answer, CANCEL, Fields, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, data, get, grpc, headers, post,
    request, rst, status,
};
use super::support::within;
use super::{SILENCE, SOON, to_old};

/// A request must be one of HTTP/1.1 in every part.
#[track_caller]
fn proper(held: &Held) {
    assert!(held.head.first.ends_with(" HTTP/1.1"), "{:?}", held.head);
    assert!(held.head.get("host").is_some(), "{:?}", held.head);
    for (name, value) in &held.head.fields {
        assert!(!name.starts_with(':') && !name.is_empty(), "{:?}", held.head);
        assert!(!value.contains(['\r', '\n', '\0']), "{:?}", held.head);
    }
    // Whoever keeps connections to itself says nothing of it.
    assert_eq!((held.head.get("connection"), held.head.get("te")), (None, None), "{:?}", held.head);
}

/// The next request, which must be proper.
#[track_caller]
fn next(upstream: &Upstream) -> Held {
    let held = upstream.next();
    proper(&held);
    held
}

/// What an answer may not have (RFC 9113 §8.2.2).
#[track_caller]
fn clean(answer: &Answer) {
    for (name, _) in answer.head.0.iter().chain(answer.trailers.iter().flat_map(|trailers| &trailers.0)) {
        let hop = ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"];
        assert!(!hop.contains(&&**name) && *name == name.to_ascii_lowercase(), "{answer:?}");
    }
}

#[test]
fn requests_are_framed_by_what_is_known_of_their_bodies() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    // (method, whole with its head, said length) → (content-length, transfer-encoding)
    for (method, whole, said, length, coding) in [
        ("GET", true, None, None, None),
        ("DELETE", true, None, None, None),
        ("POST", true, None, Some("0"), None),
        ("PUT", true, None, Some("0"), None),
        ("POST", false, Some("4"), Some("4"), None),
        ("POST", false, None, None, Some("chunked")),
        ("GET", false, None, None, Some("chunked")),
        ("GET", false, Some("4"), Some("4"), None),
    ] {
        let mut fields = request(method, "/framed?a=b");
        if let Some(said) = said {
            fields = fields.with("content-length", said);
        }
        let call = client.open(&fields, whole);
        if !whole {
            client.send(&[data(call, "bo", false)]);
        }
        let mut held = next(&upstream);
        assert_eq!((held.head.method(), held.head.target()), (method, "/framed?a=b"));
        assert_eq!((held.head.get("content-length"), held.head.get("transfer-encoding")), (length, coding));
        if !whole {
            client.send(&[data(call, "dy", true)]);
        }
        let body = held.body().expect("it is whole");
        assert_eq!(body.bytes, if whole { &b""[..] } else { b"body" });
        held.answer("framed");
        client.answer(call).is("framed");
    }
    let call = client.call(&request("OPTIONS", "*"));
    let held = next(&upstream);
    assert_eq!(
        (held.head.first.as_str(), held.head.get("host")),
        ("OPTIONS * HTTP/1.1", Some("test.example"))
    );
    held.answer("options");
    client.answer(call).is("options");
    // One after the other they share one connection.
    assert_eq!(upstream.accepted(), 1);
    // An empty end behind an announced nothing.
    let call = client.open(&post("/nothing").with("content-length", "0"), false);
    client.send(&[data(call, "", true)]);
    let held = next(&upstream);
    assert_eq!(held.head.get("content-length"), Some("0"));
    held.answer("nothing");
    client.answer(call).is("nothing");
    client.well("behind");
    drop(client);
    sidecar.rests();
}

#[test]
fn calls_at_once_have_a_connection_each_and_their_own_answers() {
    const CALLS: usize = 20;
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    let calls: Vec<u32> = (0..CALLS).map(|at| client.call(&get(&format!("/{at}")))).collect();
    let mut held: Vec<Held> = (0..CALLS).map(|_| next(&upstream)).collect();
    assert_eq!(upstream.accepted(), CALLS);
    held.reverse();
    for one in held {
        let target = one.head.target().to_owned();
        one.answer(&target);
    }
    for (at, call) in calls.into_iter().enumerate() {
        client.answer(call).is(&format!("/{at}"));
    }
    // Kept, and used again.
    for at in 0..2 * CALLS {
        client.well(at);
    }
    assert_eq!(upstream.accepted(), CALLS);
    drop(client);
    sidecar.rests();
}

#[test]
fn answers_of_every_framing_arrive() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    for (wire, length) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", Some("4")),
        (
            "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nKeep-Alive: 5\r\n\r\n2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\n\r\n",
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\nX-Hop: 1\r\nConnection: X-Hop\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            None,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody", Some("4")),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody", None),
        ("HTTP/1.1 200 OK\r\n\r\nbody", None),
        ("HTTP/1.0 200 OK\r\n\r\nbody", None),
        ("HTTP/1.0 200 OK\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbody", Some("4")),
    ] {
        let call = client.call(&get("/framed"));
        let mut held = next(&upstream);
        held.send(wire);
        // What does not end by itself ends with the connection.
        if length.is_none() && !wire.contains("unked") && !wire.contains("CHUNKED") {
            client.came(call, 4);
            assert!(!client.answers[&call].whole, "{wire}");
            held.fin();
        } else {
            client.answer(call);
            held.release();
        }
        let answer = client.answer(call);
        answer.is("body");
        clean(&answer);
        assert_eq!((answer.head.get("content-length"), answer.head.get("x-hop")), (length, None), "{wire}");
        client.well("behind");
    }
    // Part by part.
    let call = client.call(&get("/parts"));
    let mut held = next(&upstream);
    held.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.begun(call).status(), 200);
    let mut len = 0;
    for part in ["one", "two", "three"] {
        held.send(format!("{:x}\r\n{part}\r\n", part.len()));
        len += part.len();
        assert!(client.came(call, len).text().ends_with(part));
    }
    held.send("0\r\n\r\n");
    client.answer(call).is("onetwothree");
    drop((client, held));
    sidecar.rests();
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    let trailers = Fields::new(&[("x-sum", "1"), ("x-empty", ""), ("x-sum", "2")]);
    let call = client.open(&post("/sums").with("trailer", "x-sum"), false);
    client.send(&[data(call, "ab", false), headers(call, &trailers, true)]);
    let mut held = next(&upstream);
    let body = held.body().expect("it is whole");
    assert_eq!((&*body.bytes, body.trailers), (&b"ab"[..], trailers.0.clone()));
    held.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ncd\r\n0\r\n");
    held.send("X-Sum: 1\r\nX-Empty:\r\nx-sum:  2\r\nContent-Length: 7\r\nConnection: close\r\n\r\n");
    let answer = client.answer(call);
    answer.is("cd");
    clean(&answer);
    assert_eq!(answer.trailers, Some(trailers.clone()));
    held.release();
    // A body of a known length has no place for them.
    let call = client.open(&post("/length").with("content-length", "2"), false);
    client.send(&[data(call, "ab", false), headers(call, &trailers, true)]);
    let mut held = next(&upstream);
    let body = held.body().expect("it is whole");
    assert_eq!((&*body.bytes, body.trailers), (&b"ab"[..], Vec::new()));
    held.answer("length");
    client.answer(call).is("length");
    // Trailers alone.
    let call = client.open(&post("/alone"), false);
    client.send(&[headers(call, &trailers, true)]);
    let mut held = next(&upstream);
    let body = held.body().expect("it is whole");
    assert_eq!((&*body.bytes, body.trailers), (&b""[..], trailers.0.clone()));
    held.answer("alone");
    client.answer(call).is("alone");
    // A call, whose status comes last.
    let call = client.open(&grpc("/t.S/call"), false);
    client.send(&[data(call, "ask", true)]);
    let mut held = upstream.next();
    assert_eq!(held.head.get("content-type"), Some("application/grpc"));
    assert_eq!(held.body().expect("it is whole").bytes, b"ask");
    held.send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n");
    held.send("4\r\ntold\r\n0\r\nGrpc-Status: 5\r\nGrpc-Message: no%20such\r\n\r\n");
    let answer = client.answer(call);
    answer.is("told");
    let told = answer.trailers.expect("they tell");
    assert_eq!((told.get("grpc-status"), told.get("grpc-message")), (Some("5"), Some("no%20such")));
    held.release();
    client.well("behind");
    drop(client);
    sidecar.rests();
}

#[test]
fn answers_without_bodies_keep_the_connection_in_step() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    for (method, wire, code, length) in [
        ("HEAD", "200 OK\r\nContent-Length: 1000", 200, Some("1000")),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", 200, None),
        ("HEAD", "200 OK", 200, None),
        ("GET", "204 No Content", 204, None),
        ("GET", "304 Not Modified\r\nContent-Length: 77\r\nETag: \"e\"", 304, Some("77")),
        ("GET", "304 Not Modified", 304, None),
        ("POST", "200 OK\r\nContent-Length: 0", 200, Some("0")),
        ("GET", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0", 200, None),
    ] {
        let call = client.call(&request(method, "/bodiless"));
        let mut held = next(&upstream);
        assert_eq!(held.head.method(), method);
        held.send(format!("HTTP/1.1 {wire}\r\n\r\n"));
        let answer = client.answer(call);
        assert!(answer.whole && answer.body.is_empty() && answer.trailers.is_none(), "{answer:?}");
        assert_eq!((answer.status(), answer.head.get("content-length")), (code, length), "{wire}");
        clean(&answer);
        held.release();
        client.well("in step");
    }
    assert_eq!(upstream.accepted(), 1);
    // Bytes behind an answer are nobody's.
    for wire in [
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let call = client.call(&get("/more"));
        let mut held = next(&upstream);
        held.send(wire);
        let answer = client.answer(call);
        assert!(!answer.text().contains("evil"), "{answer:?}");
        held.link().ends();
        client.well("behind");
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn interim_answers_and_expectations_pass() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    let fields = post("/expect").with("expect", "100-continue").with("content-length", "4");
    let call = client.open(&fields, false);
    let mut held = next(&upstream);
    assert_eq!(held.head.get("expect"), Some("100-continue"));
    held.link().silent(SILENCE);
    held.send("HTTP/1.1 100 Continue\r\n\r\n");
    client.until("the interim answer", |client| {
        client.answers.get(&call).is_some_and(|answer| answer.interim == [status(100)])
    });
    client.send(&[data(call, "body", true)]);
    assert_eq!(held.body().expect("it is whole").bytes, b"body");
    held.answer("thanks");
    client.answer(call).is("thanks");
    // A refusal without the body: nobody wants it any more, and the connection is not used again.
    let call = client.open(&fields, false);
    let mut held = next(&upstream);
    held.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
    let answer = client.answer(call);
    assert_eq!((answer.status(), answer.whole), (417, true));
    assert_eq!(client.given_up(call), NO_ERROR);
    held.torn();
    let call = client.call(&get("/hints"));
    let mut held = next(&upstream);
    for link in ["</a>", "</b>"] {
        held.send(format!("HTTP/1.1 103 Early Hints\r\nLink: {link}\r\n\r\n"));
    }
    held.send(ok("behind the hints", ""));
    let answer = client.answer(call);
    answer.is("behind the hints");
    let links: Vec<_> = answer.interim.iter().map(|head| (head.status(), head.get("link"))).collect();
    assert_eq!(links, [(103, Some("</a>")), (103, Some("</b>"))]);
    held.release();
    for wire in ["HTTP/1.1 102 Processing\r\n\r\n".repeat(30), "HTTP/1.1 101 Switching\r\n\r\n".to_owned()] {
        let call = client.call(&get("/flood"));
        let mut held = next(&upstream);
        let _ = held.link().try_send(wire.as_bytes());
        let mut answer = client.answer(call);
        assert!(answer.interim.len() <= 8, "{answer:?}");
        answer.interim.clear();
        answer.refused(502, "unreachable");
        held.link().ends();
        client.well("behind");
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn header_lines_arrive_as_each_side_has_them() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    let call = client.call(
        &get("/lines")
            .with("cookie", "a=1")
            .with("x-many", "1")
            .with("cookie", "b=2")
            .with("x-many", "2")
            .with("cookie", "c=3; d=4")
            .with("te", "trailers")
            .with("x-text", "\u{e4}")
            .with("x-nothing", ""),
    );
    let mut held = next(&upstream);
    assert_eq!(held.head.get("cookie"), Some("a=1; b=2; c=3; d=4"));
    assert_eq!((held.head.all("x-many"), held.head.get("x-text")), (vec!["1", "2"], Some("\u{e4}")));
    assert_eq!((held.head.get("x-nothing"), held.head.get("host")), (Some(""), Some("test.example")));
    held.send(ok("body", "Set-Cookie: a=1; path=/\r\nSET-cookie: b=2\r\nX-Text: \u{e4}\r\nX-Nothing:\r\n"));
    let answer = client.answer(call);
    answer.is("body");
    clean(&answer);
    assert_eq!(answer.head.all("set-cookie"), ["a=1; path=/", "b=2"]);
    assert_eq!((answer.head.get("x-text"), answer.head.get("x-nothing")), (Some("\u{c3}\u{a4}"), Some("")));
    held.release();
    // Without an authority the endpoint's own address is it.
    let call = client.call(&get("/none").without(":authority"));
    let held = next(&upstream);
    assert_eq!(held.head.get("host"), Some(&*upstream.address()));
    held.answer("none");
    client.answer(call).is("none");
    let call = client.call(&get("/host").without(":authority").with("host", "other.example"));
    let held = next(&upstream);
    assert_eq!(held.head.get("host"), Some("other.example"));
    held.answer("host");
    client.answer(call).is("host");
    drop(client);
    sidecar.rests();
}

#[test]
fn an_answer_that_comes_before_the_body_ends_the_endpoints_connection() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    for fields in [post("/early"), post("/early").with("content-length", "1000000")] {
        let call = client.open(&fields, false);
        client.send(&[data(call, "some of it", false)]);
        let mut held = next(&upstream);
        held.send(ok("enough", ""));
        client.answer(call).is("enough");
        assert_eq!(client.given_up(call), NO_ERROR);
        held.torn();
        client.well("behind");
    }
    // While both are on their way, both go on.
    let call = client.open(&post("/talk"), false);
    let mut held = next(&upstream);
    held.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.begun(call).status(), 200);
    let mut len = 0;
    for word in ["one", "two", "three"] {
        client.send(&[data(call, word, false)]);
        assert_eq!(held.link().chunk().expect("a chunk"), Some(word.as_bytes().to_vec()));
        held.send(format!("{:x}\r\n{word}\r\n", word.len()));
        len += word.len();
        assert_eq!(client.came(call, len).body.len(), len);
    }
    client.send(&[data(call, "", true)]);
    assert_eq!(held.link().chunk().expect("a chunk"), None);
    assert_eq!(held.link().fields().expect("no trailers"), []);
    held.send("0\r\n\r\n");
    let answer = client.answer(call);
    assert_eq!((answer.whole, &*answer.text(), answer.reset), (true, "onetwothree", None));
    held.release();
    client.well("behind");
    drop(client);
    sidecar.rests();
}

#[test]
fn a_call_that_its_caller_takes_back_ends_its_endpoints_connection() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    // Waiting for its answer; in the middle of its body; in the middle of its answer.
    let calls = [client.call(&get("/1")), client.open(&post("/2"), false), client.call(&get("/3"))];
    client.send(&[data(calls[1], "half", false)]);
    let mut held: Vec<Held> = calls.iter().map(|_| next(&upstream)).collect();
    held.sort_by_key(|held| held.head.target().to_owned());
    held[2].send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
    client.came(calls[2], 5);
    client.send(&calls.map(|call| rst(call, CANCEL)));
    held[0].link().ends();
    held[1].torn();
    held[2].link().ends();
    client.well("behind");
    drop(held);
    assert!(within(SOON, || upstream.open() == 1), "{}", sidecar.stats());
    assert_eq!(sidecar.events("http2", "cancelled"), 3);
    drop(client);
    sidecar.rests();
}

#[test]
fn lengths_that_do_not_match_are_no_whole_messages() {
    let upstream = Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let mut client = sidecar.http2();
    for (what, said, sent, end) in
        [("less", "5", "123", true), ("more", "2", "123", true), ("more to come", "2", "123", false)]
    {
        let call = client.open(&post("/mismatch").with("content-length", said), false);
        let mut held = next(&upstream);
        client.send(&[data(call, sent, end)]);
        assert_eq!(client.given_up(call), PROTOCOL_ERROR, "{what}");
        held.torn();
        client.well(what);
    }
    for wire in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n123",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n0\r\nX-A: 1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\nzz\r\n",
    ] {
        let call = client.call(&get("/less"));
        let mut held = next(&upstream);
        held.send(wire);
        held.fin();
        let answer = client.answer(call);
        assert_eq!((answer.whole, answer.reset), (false, Some(INTERNAL_ERROR)), "{wire}: {answer:?}");
        client.well("behind");
    }
    // What is no answer at all.
    for wire in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "hello\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: 1\r\n",
    ] {
        let call = client.call(&get("/none"));
        let mut held = next(&upstream);
        held.send(wire);
        held.fin();
        client.answer(call).refused(502, "unreachable");
        client.well("behind");
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn the_next_server_is_told_what_the_conf_says() {
    let upstream = Upstream::start();
    let listener = "    http: { via: edge, forwarded: append, request_id: true, underscores: drop }\n";
    let mut sidecar = to_old(&upstream, listener, "");
    let mut client = sidecar.http2();
    let call = client.call(&get("/plain").with("x_y", "1").with("via", "1.1 before"));
    let mut held = next(&upstream);
    let of = |held: &Held, name: &str| held.head.all(name).join("|");
    assert_eq!(of(&held, "via"), "1.1 before|2 edge");
    assert_eq!((of(&held, "x-forwarded-for"), of(&held, "x_y")), ("127.0.0.1".to_owned(), String::new()));
    assert_eq!(
        (of(&held, "x-forwarded-proto"), of(&held, "x-forwarded-host"), of(&held, "x-request-id").len()),
        ("http".to_owned(), "test.example".to_owned(), 32)
    );
    held.send(ok("", "Via: 1.0 behind\r\n"));
    assert_eq!(client.answer(call).head.all("via"), ["1.0 behind", "1.1 edge"]);
    held.release();
    drop(client);
    sidecar.rests();
}

#[test]
fn http1_callers_on_the_same_port_reach_the_same_endpoint() {
    let upstream = Upstream::start();
    let address = upstream.address();
    let clusters = "protocol: http1";
    let mut sidecar = super::http2_upstream::straight(&address, "[http1, http2]", ("", "", clusters));
    let (mut old, mut new) = (sidecar.http(), sidecar.http2());
    for at in 0..10 {
        old.well(at);
        new.well(at);
    }
    old.send(http1::get("/ws").replace("Host", "Connection: upgrade\r\nUpgrade: websocket\r\nHost"));
    let mut held = upstream.next();
    if held.head.get("upgrade").is_some() {
        held.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(old.link.head().expect("a head").expect("a head").status(), 101);
    } else {
        held.answer("not by this");
        old.next().is("not by this");
    }
    drop((old, new));
    sidecar.rests();
}
