//! Messages of HTTP/1 callers and what an endpoint of HTTP/2 makes of them.

use super::support::http1::{Client, End, Head, get, post};
use super::support::http2::{Event, Fields, NO_ERROR, data, headers, status};
use super::support::http2_upstream::{Held, Upstream};
use super::{SILENCE, chunked, to_new};

/// What may stand in no head of HTTP/2 (RFC 9113 §8.2.2).
const HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "host",
    "http2-settings",
];

/// A request must be one of HTTP/2 in every part.
#[track_caller]
fn proper(held: &Held) {
    for (name, _) in &held.head.0 {
        assert!(!HOP.contains(&&**name) && *name == name.to_ascii_lowercase(), "{held:?}");
    }
    assert!(matches!(held.head.get("te"), None | Some("trailers")), "{held:?}");
    assert_eq!(held.head.get(":scheme"), Some("http"), "{held:?}");
    let pseudo: Vec<bool> = held.head.0.iter().map(|(name, _)| name.starts_with(':')).collect();
    assert!(pseudo.is_sorted_by(|a, b| a >= b), "{held:?}");
}

/// The next request, which must be proper.
#[track_caller]
fn next(upstream: &Upstream) -> Held {
    let held = upstream.next();
    proper(&held);
    held
}

/// The head that comes next.
#[track_caller]
fn head(client: &mut Client) -> Head {
    client.link.head().expect("a head").expect("a head")
}

#[test]
fn requests_of_every_framing_arrive() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    client.send(format!("{}hel", post("/length", 5, "")));
    let held = next(&upstream);
    assert_eq!((held.head.get("content-length"), held.whole), (Some("5"), false));
    assert_eq!(held.came(3), b"hel");
    client.send("lo");
    assert_eq!(held.body(), Ok((b"lo".to_vec(), None)));
    held.answer("length");
    client.next().is("length");

    client.send(format!("{}3;x=y\r\nabc\r\n", chunked("/chunks", "")));
    let held = next(&upstream);
    assert_eq!((held.head.get("content-length"), held.whole), (None, false));
    assert_eq!(held.came(3), b"abc");
    client.send("2\r\nde\r\n0\r\n\r\n");
    assert_eq!(held.body(), Ok((b"de".to_vec(), None)));
    held.answer("chunks");
    client.next().is("chunks");

    for (request, length) in [
        (get("/none"), None),
        (post("/nothing", 0, ""), Some("0")),
        (format!("{}0\r\n\r\n", chunked("/nothing", "")), None),
        ("DELETE /none HTTP/1.1\r\nHost: test.example\r\n\r\n".to_owned(), None),
    ] {
        client.send(&request);
        let held = next(&upstream);
        assert_eq!((held.head.get("content-length"), held.body()), (length, Ok((Vec::new(), None))));
        held.answer("none");
        client.next().is("none");
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: Test.Example:80\r\n\r\n");
    let held = next(&upstream);
    assert_eq!((held.method(), held.path()), ("OPTIONS", "*"));
    held.answer("options");
    client.next().is("options");
    client.send("GET http://test.example/abs?q HTTP/1.1\r\nHost: test.example\r\n\r\n");
    let held = next(&upstream);
    assert_eq!((held.head.get(":authority"), held.path()), (Some("test.example"), "/abs?q"));
    held.answer("absolute");
    client.next().is("absolute");
    assert_eq!(upstream.accepted(), 1);
    drop((client, held));
    sidecar.rests();
}

#[test]
fn answers_of_every_framing_arrive() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    client.send(get("/length"));
    let held = upstream.next();
    held.begin(&status(200).with("content-length", "6"));
    held.say("abc");
    held.end("def");
    let answer = client.next();
    answer.is("abcdef");
    assert_eq!(answer.head.all("content-length"), ["6"]);
    // Each part as soon as it comes.
    client.send(get("/parts"));
    let held = upstream.next();
    held.begin(&status(200));
    assert_eq!(head(&mut client).all("transfer-encoding"), ["chunked"]);
    for part in ["one", "two", "three"] {
        held.say(part);
        assert_eq!(client.link.chunk().expect("a chunk"), Some(part.as_bytes().to_vec()));
    }
    // An empty frame is no end.
    held.send(&[data(held.stream, "", false)]);
    client.link.silent(SILENCE);
    held.end("");
    assert_eq!(client.link.chunk().expect("a chunk"), None);
    assert_eq!(client.link.fields().expect("no trailers"), []);
    // Nothing, said with the head and behind it.
    client.send(get("/nothing"));
    upstream.next().trailers(&status(200));
    let answer = client.next();
    answer.is("");
    assert_eq!(answer.head.get("content-length"), Some("0"));
    client.send(get("/nothing"));
    let held = upstream.next();
    held.begin(&status(404));
    held.end("");
    let answer = client.next();
    assert_eq!((answer.status(), &*answer.text()), (404, ""));
    assert!(answer.head.first.starts_with("HTTP/1.1 404"), "{answer:?}");
    client.well("behind");
    assert_eq!((upstream.accepted(), sidecar.metric("outrigger_downstream_connections", &[])), (1, 1));
    drop((client, held));
    sidecar.rests();
}

#[test]
fn trailers_pass_both_ways_where_there_is_a_place_for_them() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    let trailers = "X-Sum: 1\r\nX-Empty:\r\nX-Sum: 2\r\n";
    client.send(format!("{}2\r\nab\r\n0\r\n{trailers}\r\n", chunked("/sums", "Trailer: x-sum\r\n")));
    let held = next(&upstream);
    let due = Fields::new(&[("x-sum", "1"), ("x-empty", ""), ("x-sum", "2")]);
    assert_eq!(held.body(), Ok((b"ab".to_vec(), Some(due.clone()))));
    held.begin(&status(200).with("trailer", "x-sum"));
    held.say("cd");
    held.trailers(&due);
    let answer = client.next();
    answer.is("cd");
    assert_eq!(answer.body.trailers, due.0);
    // What is no trailer is dropped, and nothing is left.
    let forbidden = "Content-Length: 7\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n";
    client.send(format!("{}2\r\nab\r\n0\r\n{forbidden}\r\n", chunked("/forbidden", "")));
    let held = next(&upstream);
    assert_eq!(held.body(), Ok((b"ab".to_vec(), None)));
    held.begin(&status(200));
    held.say("cd");
    held.trailers(&Fields::new(&[("content-length", "7"), ("x-kept", "1"), ("host", "evil")]));
    let answer = client.next();
    answer.is("cd");
    assert_eq!(answer.body.trailers, [("x-kept".to_owned(), "1".to_owned())]);
    // Where there is no place for them the body is whole all the same.
    client.send(get("/length"));
    let held = upstream.next();
    held.begin(&status(200).with("content-length", "2"));
    held.say("ef");
    held.trailers(&due);
    client.next().is("ef");
    let mut old = sidecar.http();
    old.send("GET /old HTTP/1.0\r\n\r\n");
    let held = upstream.next();
    held.begin(&status(200));
    held.say("gh");
    held.trailers(&due);
    old.next().is("gh");
    client.send(get("/alone"));
    let held = upstream.next();
    held.begin(&status(200));
    held.trailers(&due);
    let answer = client.next();
    answer.is("");
    assert_eq!(answer.body.trailers, due.0);
    client.well("behind");
    drop((client, old, held));
    sidecar.rests();
}

#[test]
fn answers_without_bodies_keep_the_connection_in_step() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    for (method, fields, length) in [
        ("HEAD", status(200).with("content-length", "1000"), Some("1000")),
        ("HEAD", status(200), None),
        ("HEAD", status(404).with("content-length", "0"), Some("0")),
        ("GET", status(204), None),
        ("GET", status(304).with("content-length", "77").with("etag", "\"e\""), Some("77")),
        ("GET", status(304), None),
        ("POST", status(204), None),
    ] {
        for late in [false, true] {
            client.send(get("/bodiless").replacen("GET", method, 1));
            let held = upstream.next();
            assert_eq!(held.method(), method);
            if late {
                held.begin(&fields);
                held.end("");
            } else {
                held.trailers(&fields);
            }
            let answer = client.answer_to(method).expect("a whole answer");
            assert_eq!((answer.status(), answer.head.get("content-length")), (fields.status(), length));
            assert_eq!(answer.head.get("transfer-encoding"), None, "{answer:?}");
            assert_eq!(answer.head.get("etag"), fields.get("etag"));
            assert!(!answer.head.closes(), "{answer:?}");
            client.well("in step");
        }
    }
    // A body where there is none: it never comes where the next answer is due.
    for (method, fields) in [("HEAD", status(200)), ("GET", status(204)), ("GET", status(304))] {
        let mut client = sidecar.http();
        client.send(get("/wrong").replacen("GET", method, 1));
        let held = upstream.next();
        held.begin(&fields);
        held.end("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        if let Ok(answer) = client.answer_to(method)
            && !answer.head.closes()
            && client.link.try_send(get("/echo/next").as_bytes()).is_ok()
            && let Ok(answer) = client.answer_to("GET")
        {
            answer.is(" GET /echo/next ");
        }
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn an_expectation_is_the_endpoints_to_answer() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    for expecting in
        [post("/expect", 4, "Expect: 100-continue\r\n"), chunked("/expect", "Expect: 100-Continue\r\n")]
    {
        client.send(&expecting);
        let held = next(&upstream);
        assert_eq!(held.head.get("expect").map(str::to_ascii_lowercase).as_deref(), Some("100-continue"));
        client.link.silent(SILENCE);
        held.begin(&status(100));
        let interim = head(&mut client);
        assert_eq!((interim.status(), interim.fields.len()), (100, 0), "{interim:?}");
        client.send(if expecting.contains("chunked") { "4\r\nbody\r\n0\r\n\r\n" } else { "body" });
        assert_eq!(held.body(), Ok((b"body".to_vec(), None)));
        held.answer("thanks");
        client.next().is("thanks");
    }
    // A final answer instead: what might come behind is not taken for a request.
    client.send(post("/expect", 26, "Expect: 100-continue\r\n"));
    let held = upstream.next();
    held.trailers(&status(417));
    let answer = client.next();
    assert_eq!((answer.status(), answer.head.closes()), (417, true), "{answer:?}");
    held.taken_back();
    let _ = client.link.try_send(b"GET /echo/body HTTP/1.1\r\n\r\n");
    client.closed();
    assert_eq!(upstream.count("/echo/body"), 0);
    // Who did not ask hears of no 100; who is of 1.0 hears of nothing.
    for request in [get("/unasked"), "GET /unasked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned()] {
        let mut client = sidecar.http();
        client.send(&request);
        let held = upstream.next();
        held.begin(&status(100));
        held.begin(&status(103).with("link", "</a>"));
        held.begin(&status(103).with("link", "</b>"));
        held.begin(&status(200).with("content-length", "4"));
        held.end("last");
        let answer = client.next();
        answer.is("last");
        let links: Vec<_> = answer.interim.iter().map(|head| (head.status(), head.get("link"))).collect();
        let due: &[_] =
            if request.contains("1.0") { &[] } else { &[(103, Some("</a>")), (103, Some("</b>"))] };
        assert_eq!(links, due);
        client.well("behind");
    }
    // Too many of them are no answer.
    let mut client = sidecar.http();
    client.send(get("/flood"));
    let held = upstream.next();
    (0..30).for_each(|_| held.begin(&status(102)));
    let mut answer = client.next();
    assert!(answer.interim.len() <= 8, "{answer:?}");
    answer.interim.clear();
    answer.refused(502, "unreachable");
    client.well("behind");
    drop(client);
    sidecar.rests();
}

#[test]
fn header_lines_arrive_as_each_side_has_them() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    client.send(
        "GET /lines?a=b%20c HTTP/1.1\r\nHost: Test.Example:8080\r\nCookie: a=1; b=2\r\nX-Many: 1\r\n\
         x-many:  2 \r\nCookie: c=3\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
         TE: trailers, deflate\r\nProxy-Connection: x\r\nX-Text: \u{e4}\r\nX-Nothing:\r\n\r\n",
    );
    let held = next(&upstream);
    assert_eq!((held.path(), held.method()), ("/lines?a=b%20c", "GET"));
    assert_eq!(
        held.head.get(":authority").map(str::to_ascii_lowercase).as_deref(),
        Some("test.example:8080")
    );
    assert_eq!(held.head.all("cookie").join("; "), "a=1; b=2; c=3");
    assert_eq!(held.head.all("x-many"), ["1", "2"]);
    assert_eq!((held.head.get("x-hop"), held.head.get("x-nothing")), (None, Some("")));
    // Bytes as they were, and no others.
    assert_eq!(held.head.get("x-text"), Some("\u{c3}\u{a4}"));
    held.begin(
        &status(200)
            .with("set-cookie", "a=1; path=/")
            .with("set-cookie", "b=2")
            .with("x-many", "1")
            .with("x-many", "2")
            .with("x-text", "\u{e4}")
            .with("x-nothing", ""),
    );
    held.end("body");
    let answer = client.next();
    answer.is("body");
    assert_eq!(answer.head.all("set-cookie"), ["a=1; path=/", "b=2"]);
    assert_eq!((answer.head.all("x-many"), answer.head.get("x-text")), (vec!["1", "2"], Some("\u{e4}")));
    assert_eq!((answer.head.get("x-nothing"), answer.head.get("connection")), (Some(""), None));
    // What an endpoint writes can be no other line, nor another answer.
    for (name, value) in
        [("x", "a\r\nx-evil: b"), ("x\r\nx-evil", "1"), ("x", "a\0b"), ("x y", "1"), ("", "1")]
    {
        client.send(get("/evil"));
        upstream.next().trailers(&status(200).with(name, value));
        client.next().refused(502, "unreachable");
        client.well("behind");
    }
    drop((client, held));
    sidecar.rests();
}

#[test]
fn callers_of_1_0_are_served_and_see_their_ends() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    client.send("GET /old HTTP/1.0\r\n\r\n");
    let held = next(&upstream);
    assert!(held.head.get(":authority").is_some_and(|authority| !authority.is_empty()), "{held:?}");
    held.answer("until the end");
    let answer = client.next();
    answer.is("until the end");
    assert_eq!((answer.head.get("transfer-encoding"), answer.head.get("content-length")), (None, None));
    client.closed();
    // Kept, where its answer has a length.
    let mut client = sidecar.http();
    for _ in 0..2 {
        client.send("POST /kept HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab");
        let held = next(&upstream);
        assert_eq!(held.body(), Ok((b"ab".to_vec(), None)));
        held.begin(&status(200).with("content-length", "4"));
        held.end("kept");
        let answer = client.next();
        answer.is("kept");
        assert_eq!(answer.head.get("connection"), Some("keep-alive"));
    }
    client.send("GET /not/kept HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    upstream.next().answer("not kept");
    let answer = client.next();
    answer.is("not kept");
    assert!(answer.head.closes(), "{answer:?}");
    client.closed();
    // One that broke off is no end, though nothing else tells.
    let mut client = sidecar.http();
    client.send("GET /torn HTTP/1.0\r\n\r\n");
    let held = upstream.next();
    held.begin(&status(200));
    held.say("half");
    let mut begun = [0; 4];
    head(&mut client);
    std::io::Read::read_exact(client.link.reader(), &mut begun).expect("what came");
    held.reset(super::support::http2::INTERNAL_ERROR);
    assert_eq!(client.link.ends(), End::Reset);
    drop(client);
    sidecar.rests();
}

#[test]
fn requests_in_one_write_are_answered_in_order() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let mut client = sidecar.http();
    let requests = [
        get("/first"),
        get("/echo/second"),
        format!("{}body", post("/echo/third", 4, "")),
        get("/echo/fourth").replacen("GET", "HEAD", 1),
        format!("{}1\r\na\r\n0\r\n\r\n", chunked("/echo/fifth", "")),
        get("/sixth").replace("Host", "Connection: close\r\nHost"),
        get("/echo/behind/the/end"),
    ];
    client.send(requests.concat());
    let first = upstream.next();
    client.link.silent(SILENCE);
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
    first.answer("first");
    client.next().is("first");
    client.next().is(" GET /echo/second ");
    client.next().is(" POST /echo/third body");
    assert_eq!(client.answer_to("HEAD").expect("a whole answer").status(), 200);
    client.next().is(" POST /echo/fifth a");
    upstream.next().answer("sixth");
    let last = client.next();
    last.is("sixth");
    assert!(last.head.closes(), "{last:?}");
    client.closed();
    assert_eq!(upstream.count("/echo/behind/the/end"), 0);
    // One that says at once that no more will come is answered all the same.
    let mut says_all = sidecar.http();
    says_all.send([get("/echo/1"), get("/slow"), get("/echo/3")].concat());
    says_all.link.fin();
    let slow = upstream.next();
    std::thread::sleep(SILENCE);
    slow.answer("slow");
    says_all.next().is(" GET /echo/1 ");
    says_all.next().is("slow");
    says_all.next().is(" GET /echo/3 ");
    says_all.closed();
    // A caller that leaves takes what it did not get an answer to with it.
    let gone = sidecar.http();
    gone.send([get("/gone"), get("/echo/never")].concat());
    let held = upstream.next();
    gone.link.reset();
    held.taken_back();
    sidecar.http().well("after it");
    assert_eq!((upstream.count("/echo/never"), upstream.accepted()), (0, 1));
    drop(client);
    sidecar.rests();
}

#[test]
fn an_answer_that_comes_before_the_body_ends_the_connection_after_it() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    for polite in [false, true] {
        let mut client = sidecar.http();
        client.send(format!("{}some of it", post("/early", 100_000, "")));
        let held = upstream.next();
        held.came(10);
        held.answer("enough");
        if polite {
            held.reset(NO_ERROR);
        }
        let answer = client.next();
        answer.is("enough");
        assert!(answer.head.closes(), "{answer:?}");
        if !polite {
            held.taken_back();
        }
        client.closed();
    }
    // Both at once, up to both ends: nothing is lost and the connection goes on, or says that it does not.
    let mut client = sidecar.http();
    client.send(chunked("/talk", ""));
    let held = upstream.next();
    held.begin(&status(200));
    let begun = head(&mut client);
    for word in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{word}\r\n", word.len()));
        assert_eq!(held.came(word.len()), word.as_bytes());
        held.say(word);
        assert_eq!(client.link.chunk().expect("a chunk"), Some(word.as_bytes().to_vec()));
    }
    client.send("0\r\n\r\n");
    assert_eq!(held.next(), Event::Data { stream: held.stream, bytes: Vec::new(), end: true });
    held.end("last");
    assert_eq!(client.link.chunk().expect("a chunk"), Some(b"last".to_vec()));
    assert_eq!(client.link.chunk().expect("a chunk"), None);
    assert_eq!(client.link.fields().expect("no trailers"), []);
    if begun.closes() {
        client.closed();
    } else {
        client.well("behind");
    }
    drop((client, held));
    assert_eq!(upstream.accepted(), 1);
    sidecar.rests();
}

#[test]
fn an_upgrade_goes_no_further_and_is_served_as_any_request() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    for upgrade in ["websocket", "h2c"] {
        let mut client = sidecar.http();
        client.send(format!(
            "GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\n\r\n",
        ));
        let held = next(&upstream);
        assert_eq!((held.head.get("sec-websocket-version"), held.whole), (Some("13"), true));
        held.begin(&status(426));
        held.end("not by this");
        let answer = client.next();
        assert_eq!((answer.status(), &*answer.text()), (426, "not by this"));
        assert_eq!(answer.head.get("upgrade"), None);
        client.well("behind");
    }
    // Nor is there a way to switch.
    let mut client = sidecar.http();
    client.send(get("/ws").replace("Host", "Connection: upgrade\r\nUpgrade: websocket\r\nHost"));
    let held = upstream.next();
    held.send(&[headers(held.stream, &status(101), false)]);
    client.next().refused(502, "unreachable");
    client.well("behind");
    for method in ["CONNECT t:80", "TRACE /"] {
        let mut client = sidecar.http();
        client.send(format!("{method} HTTP/1.1\r\nHost: t:80\r\n\r\n"));
        let answer = client.next();
        answer.refused(405, "forbidden");
        assert!(answer.head.closes() && answer.head.get("allow").is_some(), "{answer:?}");
        client.closed();
    }
    assert!(upstream.seen().iter().all(|(_, line)| line.starts_with("GET ")));
    drop(client);
    sidecar.rests();
    // Where they are allowed, this is no place for them either.
    let mut sidecar = to_new(&upstream, "    http: { connect: true }\n", "");
    let mut client = sidecar.http();
    client.send("CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\n\r\n");
    let answer = client.next();
    assert!((400..=599).contains(&answer.status()) && answer.head.closes(), "{answer:?}");
    client.closed();
    sidecar.rests();
}

#[test]
fn the_next_server_is_told_what_the_conf_says() {
    let upstream = Upstream::start();
    let listener = "    http: { via: edge, forwarded: append, request_id: true, underscores: drop }\n";
    let mut sidecar = to_new(&upstream, listener, "");
    let mut client = sidecar.http();
    client.send(
        get("/plain").replace("Host", "x_y: 1\r\nVia: 1.0 before\r\nX-Forwarded-For: 10.0.0.1\r\nHost"),
    );
    let held = next(&upstream);
    let of = |name: &str| held.head.all(name).join("|");
    assert_eq!((of("via"), of("x_y")), ("1.0 before|1.1 edge".to_owned(), String::new()));
    assert_eq!(of("x-forwarded-for"), "10.0.0.1, 127.0.0.1");
    assert_eq!(
        (of("x-forwarded-proto"), of("x-forwarded-host"), of("x-request-id").len()),
        ("http".to_owned(), "test.example".to_owned(), 32)
    );
    held.begin(&status(200).with("via", "1.1 behind"));
    held.end("");
    let answer = client.next();
    assert_eq!(answer.head.all("via"), ["1.1 behind", "2 edge"]);
    let mut old = sidecar.http();
    old.send("GET /old HTTP/1.0\r\nX-Request-Id: mine\r\n\r\n");
    let held = next(&upstream);
    assert_eq!((held.head.get("via"), held.head.get("x-request-id")), (Some("1.0 edge"), Some("mine")));
    held.answer("old");
    old.next().is("old");
    drop((client, old, held));
    sidecar.rests();
}
