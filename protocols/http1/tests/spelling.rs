//! Heads as the other side sees them, to the byte: what goes on, what stops here, what we add, and what we say ourselves.
//!
//! The bytes come from RFC 9110 §7.6, §10.1, §15 and RFC 9112 §3, §9; nothing here may be adapted to the codec.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::time::Duration;

use outrigger_codec::{
    Asked, Body, ExchangeCodec, Fault, Framing, Policy, Refusal,
    exchange::{Forwarded, Hop, Underscores},
};
use outrigger_http1::Http1;
use support::{ENDPOINT, answered, asked, passes, plain, text};

/// Holds what the endpoint sees of each request to these bytes.
fn forwards(policy: &Policy, rows: &[(&[u8], &[u8])]) {
    for (raw, expected) in rows {
        let (seen, _) = passes(raw, policy).forward(policy);
        assert_eq!(text(&seen), text(expected), "{}", text(raw));
    }
}

#[test]
fn a_request_goes_on_as_it_was_understood() {
    forwards(
        &Policy::default(),
        &[
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            // The host comes first, names keep their case, values their bytes, headers their order.
            (
                b"PaTCH /%7e/A?q=%zz HTTP/1.1\r\nx-B:1\r\nX-a:  two \t words\t\r\nx-b: \xff\x80\r\nhOsT:\tEx.Org:80 \r\nX-C:\r\n\r\n",
                b"PaTCH /%7e/A?q=%zz HTTP/1.1\r\nHost: Ex.Org:80\r\nx-B: 1\r\nX-a: two \t words\r\nx-b: \xff\x80\r\nX-C: \r\n\r\n",
            ),
            // Framing is made anew, behind the headers.
            (
                b"POST / HTTP/1.1\r\ncontent-LENGTH:  007\r\nHost: a\r\nX: y\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 7\r\n\r\n",
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n",
            ),
            (
                b"POST / HTTP/1.1\r\nTRANSFER-ENCODING:CHUNKED\r\nHost: a\r\nTrailer: x-sum\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
            // An older caller's request becomes one of ours.
            (b"GET / HTTP/1.0\r\nHost: a\r\nX: y\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"),
            (b"GET / HTTP/1.0\r\nX: y\r\n\r\n", b"GET / HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nX: y\r\n\r\n"),
            (
                b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nContent-Length: 2\r\n\r\n",
            ),
        ],
    );
    assert_eq!(ENDPOINT, "10.0.0.7:8080");
}

#[test]
fn a_target_goes_on_in_the_form_that_servers_read() {
    forwards(
        &Policy { connect: true, trace: true, ..Policy::default() },
        &[
            (b"GET http://A/x?y HTTP/1.0\r\n\r\n", b"GET /x?y HTTP/1.1\r\nHost: A\r\n\r\n"),
            (b"GET HTTP://a:80 HTTP/1.1\r\nHost: A:80\r\n\r\n", b"GET / HTTP/1.1\r\nHost: A:80\r\n\r\n"),
            (b"GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /?q HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"GET http://a? HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /? HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (
                b"CONNECT a:443 HTTP/1.1\r\nHost: A:443\r\nProxy-Authorization: x\r\n\r\n",
                b"CONNECT a:443 HTTP/1.1\r\nHost: A:443\r\n\r\n",
            ),
        ],
    );
}

#[test]
fn what_is_for_this_hop_alone_stops_here() {
    forwards(
        &Policy::default(),
        &[
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine,te\r\nx-mine: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nX: y\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nProxy-X: z\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
            ),
            // Each of several lists counts, and all headers of a name.
            (
                b"GET / HTTP/1.1\r\nConnection: x-a\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nX-A: 3\r\nX-C: 4\r\nConnection: ,X-B ,\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nX-C: 4\r\n\r\n",
            ),
            // Neither framing nor the host nor what we tell can be taken away by naming it.
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: content-length, host, x-forwarded-for, X-Forwarded-Proto, x-request-id, via, x-outrigger-error\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Request-Id: 7\r\nVia: 1.1 x\r\nx-outrigger-error: e\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Request-Id: 7\r\nVia: 1.1 x\r\nx-outrigger-error: e\r\nContent-Length: 3\r\n\r\n",
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding, expect\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            ),
            // Upgrades that are not for us.
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: AAMA\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            // And the one that is.
            (
                b"GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nHost: a\r\nSec-WebSocket-Key: x==\r\n\r\n",
                b"GET /ws HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: x==\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n",
            ),
        ],
    );
}

#[test]
fn an_empty_element_in_a_connection_list_names_nothing() {
    forwards(
        &Policy::default(),
        &[
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-b,\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n",
            ),
            (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: ,x, ,\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            // The value of no header may become the host.
            (
                b"GET / HTTP/1.0\r\nConnection: x,\r\nX-A: evil.example\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nX-A: evil.example\r\n\r\n",
            ),
        ],
    );
}

#[test]
fn an_expectation_goes_on_with_a_body() {
    forwards(
        &Policy::default(),
        &[
            (
                b"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\nHost: a\r\n\r\n",
                b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
            ),
            (
                b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nHost: a\r\n\r\n",
                b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            (
                b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            ),
        ],
    );
}

#[test]
fn names_with_underscores_go_on_only_if_the_conf_says_so() {
    let raw = b"GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\nX-B: 2_\r\nContent_Length: 3\r\n\r\n";
    forwards(&Policy::default(), &[(raw, b"GET / HTTP/1.1\r\nHost: a\r\nX-B: 2_\r\n\r\n")]);
    let allow = Policy { underscores: Underscores::Allow, ..Policy::default() };
    forwards(
        &allow,
        &[(raw, b"GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\nX-B: 2_\r\nContent_Length: 3\r\n\r\n")],
    );
}

#[test]
fn the_service_is_told_of_the_caller_as_the_conf_says() {
    let bare = b"GET / HTTP/1.1\r\nHost: a:1\r\n\r\n".as_slice();
    let told: &[u8] = b"GET / HTTP/1.1\r\nHost: a:1\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-Proto: https\r\nX: y\r\nX-Forwarded-Host: b\r\n\r\n";
    let by = |forwarded| Policy { forwarded, ..Policy::default() };
    let ours = "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:1\r\n\r\n";
    forwards(&by(Forwarded::Off), &[(bare, bare), (told, told)]);
    forwards(
        &by(Forwarded::Append),
        &[
            (bare, format!("GET / HTTP/1.1\r\nHost: a:1\r\n{ours}").as_bytes()),
            (
                told,
                b"GET / HTTP/1.1\r\nHost: a:1\r\nX: y\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n\r\n",
            ),
        ],
    );
    forwards(
        &by(Forwarded::Replace),
        &[
            (bare, format!("GET / HTTP/1.1\r\nHost: a:1\r\n{ours}").as_bytes()),
            (told, format!("GET / HTTP/1.1\r\nHost: a:1\r\nX: y\r\n{ours}").as_bytes()),
            (
                b"GET / HTTP/1.0\r\nX-Forwarded-Host: evil\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nX-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\n\r\n",
            ),
        ],
    );
    // A caller without an address.
    let policy = by(Forwarded::Replace);
    let read = passes(bare, &policy);
    let hop = Hop { policy: &policy, peer: None, authority: ENDPOINT, request_id: "" };
    let mut out = Vec::new();
    Http1::forward(read.head(), &read.asked, &hop, &mut out);
    assert!(text(&out).contains("X-Forwarded-For: unknown\\r\\n"), "{}", text(&out));
}

#[test]
fn ids_and_names_of_ours_are_added_behind() {
    let policy = Policy { request_id: true, via: Some("outrigger".into()), ..Policy::default() };
    forwards(
        &policy,
        &[
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\nX: y\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\nX: y\r\nX-Request-Id: fresh-id\r\nVia: 1.1 outrigger\r\n\r\n",
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nx-request-ID: theirs\r\nContent-Length: 1\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nx-request-ID: theirs\r\nContent-Length: 1\r\nVia: 1.1 outrigger\r\n\r\n",
            ),
            // The version is that in which it came.
            (
                b"GET / HTTP/1.0\r\nHost: a\r\nX-Request-Id: 1\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\nVia: 1.0 outrigger\r\n\r\n",
            ),
        ],
    );
}

/// What the caller sees of an answer.
fn seen(raw: &[u8], asked: &Asked, policy: &Policy, close: bool) -> String {
    let answer = answered(raw, asked).unwrap_or_else(|why| panic!("{why:?}: {}", text(raw)));
    text(&answer.answer(asked, policy, close).0)
}

fn of(raw: &[u8]) -> Asked {
    asked(raw, &Policy { connect: true, ..Policy::default() })
}

#[test]
fn an_answer_goes_back_as_it_was_understood() {
    let none = Policy::default();
    let rows: [(&[u8], &[u8]); 12] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 003\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\ncontent-length:0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
        (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
        (
            b"HTTP/1.1 404 N\xf6 \r\nTransfer-Encoding:chunked\r\nset-COOKIE: a\r\nX_y:\t\xff\t\r\nSet-Cookie: b\r\n\r\n",
            b"HTTP/1.1 404 N\xf6 \r\nset-COOKIE: a\r\nX_y: \xff\r\nSet-Cookie: b\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        // The end of a connection becomes a last chunk.
        (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close, ,x-A\r\nx-a: 1\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nProxy-Authenticate: x\r\nProxy-Connection: close\r\nTE: x\r\nX-B: 2\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-B: 2\r\nContent-Length: 1\r\n\r\n",
        ),
        (
            b"HTTP/1.1 200 OK\r\nConnection: content-length, via\r\nVia: 1.1 x\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nVia: 1.1 x\r\nContent-Length: 1\r\n\r\n",
        ),
        (b"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n"),
        (b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    ];
    for (raw, expected) in rows {
        assert_eq!(seen(raw, &plain(), &none, false), text(expected), "{}", text(raw));
    }
}

#[test]
fn an_answer_to_head_announces_what_it_does_not_carry() {
    let head = of(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let none = Policy::default();
    for (raw, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\n",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
    ] {
        assert_eq!(seen(raw.as_bytes(), &head, &none, false), text(expected.as_bytes()), "{raw}");
        let (_, body) = answered(raw.as_bytes(), &head).unwrap().answer(&head, &none, false);
        assert!(body.is_done());
    }
}

#[test]
fn the_words_of_an_answer_say_whether_the_connection_goes_on() {
    let none = Policy::default();
    let old = of(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let lengthy = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
    let ending = b"HTTP/1.0 200 OK\r\n\r\n";
    let rows: [(&[u8], &Asked, bool, &str); 8] = [
        (lengthy, &plain(), false, "Content-Length: 1\\r\\n"),
        (lengthy, &plain(), true, "Content-Length: 1\\r\\nConnection: close\\r\\n"),
        (chunked, &plain(), false, "Transfer-Encoding: chunked\\r\\n"),
        (chunked, &plain(), true, "Transfer-Encoding: chunked\\r\\nConnection: close\\r\\n"),
        (lengthy, &old, false, "Content-Length: 1\\r\\nConnection: keep-alive\\r\\n"),
        (lengthy, &old, true, "Content-Length: 1\\r\\nConnection: close\\r\\n"),
        // One that speaks HTTP/1.0 reads what has no length to the end of the connection.
        (chunked, &old, true, "Connection: close\\r\\n"),
        (ending, &old, true, "Connection: close\\r\\n"),
    ];
    for (raw, asked, close, lines) in rows {
        assert_eq!(
            seen(raw, asked, &none, close),
            format!("HTTP/1.1 200 OK\\r\\n{lines}\\r\\n"),
            "{}",
            text(raw)
        );
    }
    // An interim answer is not the end of anything.
    assert_eq!(seen(b"HTTP/1.1 103 x\r\n\r\n", &plain(), &none, true), "HTTP/1.1 103 x\\r\\n\\r\\n");
}

#[test]
fn a_switch_goes_back_as_one() {
    let none = Policy { via: Some("me".into()), ..Policy::default() };
    let tunnel = of(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let raw = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    assert_eq!(
        seen(raw, &tunnel, &none, false),
        "HTTP/1.1 101 Switching\\r\\nSec-WebSocket-Accept: x\\r\\nUpgrade: websocket\\r\\nConnection: upgrade\\r\\nVia: 1.1 me\\r\\n\\r\\n"
    );
    let connect = of(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
    let raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n";
    assert_eq!(seen(raw, &connect, &Policy::default(), false), "HTTP/1.1 200 OK\\r\\nX: y\\r\\n\\r\\n");
}

#[test]
fn an_answer_carries_our_name_where_we_have_one() {
    let policy = Policy {
        via: Some("me".into()),
        request_id: true,
        forwarded: Forwarded::Replace,
        ..Policy::default()
    };
    assert_eq!(
        seen(b"HTTP/1.1 200 OK\r\nVia: 1.1 x\r\nContent-Length: 1\r\n\r\n", &plain(), &policy, true),
        "HTTP/1.1 200 OK\\r\\nVia: 1.1 x\\r\\nContent-Length: 1\\r\\nConnection: close\\r\\nVia: 1.1 me\\r\\n\\r\\n"
    );
    // The version is that in which it came.
    assert_eq!(
        seen(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", &plain(), &policy, false),
        "HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\nVia: 1.0 me\\r\\n\\r\\n"
    );
    assert_eq!(seen(b"HTTP/1.1 100 x\r\n\r\n", &plain(), &policy, false), "HTTP/1.1 100 x\\r\\n\\r\\n");
}

/// A refusal to a request.
fn refusal(asked: Option<&Asked>, why: Refusal, wait: Option<Duration>, close: bool) -> String {
    let mut out = Vec::new();
    Http1::refuse(asked, why, wait, "outrigger: why", close, &mut out);
    text(&out)
}

/// What follows the status line of our own answers.
fn rest(name: &str, words: &str, body: &str) -> String {
    format!(
        "Content-Type: text/plain; charset=utf-8\\r\\nContent-Length: 15\\r\\nx-outrigger-error: {name}\\r\\n{words}\\r\\n{body}"
    )
}

const BODY: &str = "outrigger: why\\n";

#[test]
fn a_refusal_says_what_it_means() {
    let rows = [
        (Refusal::NoRoute, "404 Not Found", "no_route"),
        (Refusal::NoEndpoint, "503 Service Unavailable", "no_endpoint"),
        (Refusal::Overloaded, "503 Service Unavailable", "overloaded"),
        (Refusal::TimedOut, "504 Gateway Timeout", "timed_out"),
        (Refusal::Unreachable, "502 Bad Gateway", "unreachable"),
        (Refusal::Forbidden, "403 Forbidden", "forbidden"),
        (Refusal::Malformed, "400 Bad Request", "malformed"),
        (Refusal::TooLarge, "413 Content Too Large", "too_large"),
    ];
    for (why, status, name) in rows {
        let expected = |words: &str| format!("HTTP/1.1 {status}\\r\\n{}", rest(name, words, BODY));
        assert_eq!(refusal(Some(&plain()), why, None, false), expected(""));
        assert_eq!(refusal(None, why, None, true), expected("Connection: close\\r\\n"));
    }
    let old = of(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let kept = rest("no_route", "Connection: keep-alive\\r\\n", BODY);
    assert_eq!(
        refusal(Some(&old), Refusal::NoRoute, None, false),
        format!("HTTP/1.1 404 Not Found\\r\\n{kept}")
    );
    let head = of(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let bare = rest("no_route", "", "");
    assert_eq!(
        refusal(Some(&head), Refusal::NoRoute, None, false),
        format!("HTTP/1.1 404 Not Found\\r\\n{bare}")
    );
}

#[test]
fn a_limited_caller_is_told_when_to_come_back() {
    for (millis, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (59_999, 60), (60_000, 60)] {
        let wait = Some(Duration::from_millis(millis));
        assert_eq!(
            refusal(Some(&plain()), Refusal::Limited, wait, false),
            format!(
                "HTTP/1.1 429 Too Many Requests\\r\\nRetry-After: {seconds}\\r\\n{}",
                rest("limited", "", BODY)
            )
        );
    }
    assert!(refusal(None, Refusal::Limited, None, false).contains("Retry-After: 1\\r\\n"));
    assert!(!refusal(None, Refusal::Overloaded, Some(Duration::from_secs(9)), false).contains("Retry-After"));
}

#[test]
fn a_fault_says_what_it_is_and_ends_the_connection() {
    let rows = [
        (Fault::malformed("x"), "400 Bad Request", "malformed"),
        (Fault::Unsupported("x"), "501 Not Implemented", "malformed"),
        (Fault::Version, "505 HTTP Version Not Supported", "malformed"),
        (Fault::Expectation, "417 Expectation Failed", "malformed"),
        (Fault::ContentType, "415 Unsupported Media Type", "malformed"),
        (Fault::TargetTooLong, "414 URI Too Long", "too_large"),
        (Fault::HeadTooLarge, "431 Request Header Fields Too Large", "too_large"),
        (Fault::BodyTooLarge, "413 Content Too Large", "too_large"),
        (Fault::Slow, "408 Request Timeout", "timed_out"),
    ];
    let told = |head: &[u8], asked: Option<&Asked>, fault: Fault| {
        let mut out = Vec::new();
        Http1::fault(head, asked, fault, "outrigger: why", &mut out);
        text(&out)
    };
    for (fault, status, name) in rows {
        let expected =
            |body: &str| format!("HTTP/1.1 {status}\\r\\n{}", rest(name, "Connection: close\\r\\n", body));
        assert_eq!(told(b"", None, fault), expected(BODY));
        assert_eq!(told(b"GET / HTTP/1.1\r\nX", None, fault), expected(BODY));
        assert_eq!(told(b"HEAD / HTTP/1.1\r\nX", None, fault), expected(""));
        assert_eq!(told(b"", Some(&plain()), fault), expected(BODY));
        assert_eq!(told(b"", Some(&of(b"HEAD / HTTP/1.0\r\n\r\n")), fault), expected(""));
    }
    assert_eq!(
        told(b"TRACE / HTTP/1.1\r\n", None, Fault::Method),
        format!(
            "HTTP/1.1 405 Method Not Allowed\\r\\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\\r\\n{}",
            rest("forbidden", "Connection: close\\r\\n", BODY)
        )
    );
}

#[test]
fn what_we_say_ourselves_is_what_we_would_let_through() {
    let mut out = Vec::new();
    for why in Refusal::ALL {
        out.clear();
        Http1::refuse(Some(&plain()), why, None, "outrigger: why", true, &mut out);
        let answer = answered(&out, &plain()).unwrap();
        assert_eq!(answer.reply.body, Framing::Length((out.len() - answer.bytes.len()) as u64));
        assert!(!answer.reply.keep);
        assert_eq!(answer.head().field(b"x-outrigger-error"), Some(why.name().as_bytes()));
    }
}
