//! Answers at the gate, as tables: a raw head and what it means, or that it is refused. A server behind may be as confused
//! as a caller.
//!
//! The verdicts come from RFC 9110 §15 and RFC 9112 §4, §6.3; nothing here may be adapted to the codec.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_codec::{
    Asked, ExchangeCodec, Fault, Find, Framing, Outcome, Policy, ReplyKind,
    exchange::{Limits, Side},
};
use outrigger_http1::Http1;
use support::{answered, asked, plain, text};

fn policy() -> Policy {
    Policy { connect: true, ..Policy::default() }
}

fn of(head: &str) -> Asked {
    asked(format!("{head}\r\n\r\n").as_bytes(), &policy())
}

fn head_asked() -> Asked {
    of("HEAD / HTTP/1.1\r\nHost: a")
}

fn tunnel_asked() -> Asked {
    of("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket")
}

fn connect_asked() -> Asked {
    of("CONNECT a:443 HTTP/1.1\r\nHost: a:443")
}

/// Final answers to a plain request, by their body (`None`: refused).
fn bodies(rows: &[(Option<Framing>, &[u8])]) {
    for (expected, raw) in rows {
        let body = answered(raw, &plain()).ok().map(|answer| {
            assert_eq!(answer.reply.kind, ReplyKind::Final);
            answer.reply.body
        });
        assert_eq!(body, *expected, "{}", text(raw));
    }
}

fn refused(asked: &Asked, raws: &[&[u8]]) {
    for raw in raws {
        assert!(answered(raw, asked).is_err(), "{}", text(raw));
    }
}

#[test]
fn a_status_line_is_version_status_reason() {
    let good: [(&[u8], &str); 9] = [
        (b"HTTP/1.1 200 OK\r\n\r\n", "200 OK"),
        (b"HTTP/1.0 200 OK\r\n\r\n", "200 OK"),
        (b"HTTP/1.1 200 \r\n\r\n", "200 "),
        (b"HTTP/1.1 200\r\n\r\n", "200"),
        (b"HTTP/1.1 200  two  spaces \r\n\r\n", "200  two  spaces "),
        (b"HTTP/1.1 404 \xff\t!\r\n\r\n", "404 \\xff\\t!"),
        (b"HTTP/1.1 200 HTTP/1.1 500\r\n\r\n", "200 HTTP/1.1 500"),
        (b"HTTP/1.1 599 x\r\n\r\n", "599 x"),
        (b"HTTP/1.1 299 x\r\n\r\n", "299 x"),
    ];
    for (raw, line) in good {
        let answer = answered(raw, &plain()).unwrap_or_else(|why| panic!("{why:?}: {}", text(raw)));
        assert_eq!(answer.head().slot(outrigger_codec::Slot::Target).map(text).as_deref(), Some(line));
    }
    refused(
        &plain(),
        &[
            b"HTTP/1.1 99 x\r\n\r\n",
            b"HTTP/1.1 099 x\r\n\r\n",
            b"HTTP/1.1 000 x\r\n\r\n",
            b"HTTP/1.1 600 x\r\n\r\n",
            b"HTTP/1.1 999 x\r\n\r\n",
            b"HTTP/1.1 2000 x\r\n\r\n",
            b"HTTP/1.1 20 x\r\n\r\n",
            b"HTTP/1.1 +20 x\r\n\r\n",
            b"HTTP/1.1 -20 x\r\n\r\n",
            b"HTTP/1.1 2 00\r\n\r\n",
            b"HTTP/1.1 2x0 x\r\n\r\n",
            b"HTTP/1.1  200 x\r\n\r\n",
            b"HTTP/1.1\t200 x\r\n\r\n",
            b"HTTP/1.1 200\tx\r\n\r\n",
            b"HTTP/1.1 200x\r\n\r\n",
            b"HTTP/1.1 \r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b" HTTP/1.1 200 OK\r\n\r\n",
            b"\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 200 a\rb\r\n\r\n",
            b"HTTP/1.1 200 a\0\r\n\r\n",
            b"HTTP/1.1 200 a\x7f\r\n\r\n",
            b"HTTP/1.1 200 OK\n\r\n\r\n",
            b"HTTP/1.1 200 OK\n\n",
            b"HTTP/1.2 200 OK\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/0.9 200 OK\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"http/1.1 200 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
            b"HTTP/1.10 200 OK\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
        ],
    );
}

#[test]
fn what_cannot_become_an_answer_is_told_at_the_byte_that_tells_it() {
    let rows: [(usize, &[u8]); 8] = [
        (1, b"-ERR unknown command\r\n"),
        (1, b"SSH-2.0-x\r\n"),
        (1, b"\x15\x03\x01"),
        (1, b"\r\nHTTP/1.1 200 OK"),
        (2, b"HELLO"),
        (6, b"HTTP/2 200"),
        (16, b"HTTP/1.1 200 OK\nX"),
        (17, b"HTTP/1.1 200 OK\rX"),
    ];
    for (at, raw) in rows {
        let mut searched = 0;
        for end in 1..=at {
            match Http1::find(&raw[..end], searched, Side::Reply, &Limits::default()) {
                Find::Partial { searched: now } if end < at => searched = now,
                Find::Fault(Fault::Malformed(_)) if end == at => {}
                other => panic!("{other:?} at {end} of {}", text(raw)),
            }
        }
    }
}

#[test]
fn a_body_has_one_framing_or_ends_with_the_connection() {
    let most = i64::MAX as u64;
    bodies(&[
        (Some(Framing::Close), b"HTTP/1.1 200 OK\r\n\r\n"),
        (Some(Framing::Close), b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"),
        (Some(Framing::Length(0)), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (Some(Framing::Length(5)), b"HTTP/1.0 200 OK\r\ncontent-length:\t5 \r\n\r\n"),
        (Some(Framing::Length(most)), b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n"),
        (Some(Framing::Chunked), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"),
        (Some(Framing::Length(5)), b"HTTP/1.1 200 OK\r\nContent_Length: 6\r\nContent-Length: 5\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: ,chunked\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\x0b\r\n\r\n"),
        (None, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ]);
}

#[test]
fn a_header_line_is_held_to_the_same_grammar_as_in_a_request() {
    refused(
        &plain(),
        &[
            b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: y\r\n\tz\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n: y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: \x0c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: \x7f\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX(: y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX\x80: y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: y\r\n\n",
            b"HTTP/1.1 200 OK\r\nX: y\n\n",
            b"HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n",
        ],
    );
    let answer =
        answered(b"HTTP/1.1 200 OK\r\nX:\xff\x80 \r\nY_z:\t\r\nHost: h\r\nExpect: e\r\n\r\n", &plain())
            .unwrap();
    let fields = support::pairs(&answer.bytes, &answer.index.fields);
    let names: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(names, [("X", "\\xff\\x80"), ("Y_z", ""), ("Host", "h"), ("Expect", "e")]);
}

#[test]
fn a_head_is_as_large_as_its_limits() {
    let fill = |len: usize| {
        let bare = b"HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "v".repeat(len - bare)).into_bytes()
    };
    let max = Limits::default().head_max;
    assert!(answered(&fill(max), &plain()).is_ok());
    assert!(answered(&fill(max + 1), &plain()).is_err());
    let count =
        |headers: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(headers)).into_bytes();
    assert!(answered(&count(100), &plain()).is_ok());
    assert!(answered(&count(101), &plain()).is_err());
}

#[test]
fn answers_without_a_body_have_none_and_announce_none() {
    bodies(&[
        (Some(Framing::None), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (Some(Framing::None), b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        (None, b"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\n"),
        (None, b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Some(Framing::None), b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        (Some(Framing::None), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (Some(Framing::None), b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (None, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Some(Framing::Length(0)), b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
    ]);
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let answer = answered(raw.as_bytes(), &head_asked()).unwrap();
        assert_eq!((answer.reply.kind, answer.reply.body), (ReplyKind::Final, Framing::None), "{raw}");
    }
    refused(
        &head_asked(),
        &[
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ],
    );
}

#[test]
fn interim_answers_are_not_the_answer() {
    for status in ["100 Continue", "102 Processing", "103 Early Hints", "199 x"] {
        for lines in ["", "Link: </a>\r\n", "Content-Length: 0\r\n"] {
            for asked in [plain(), head_asked(), tunnel_asked(), connect_asked()] {
                let answer =
                    answered(format!("HTTP/1.1 {status}\r\n{lines}\r\n").as_bytes(), &asked).unwrap();
                assert_eq!((answer.reply.kind, answer.reply.body), (ReplyKind::Interim, Framing::None));
            }
        }
        for lines in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert!(answered(format!("HTTP/1.1 {status}\r\n{lines}\r\n").as_bytes(), &plain()).is_err());
        }
    }
}

#[test]
fn interim_answers_are_shown_to_those_who_know_them() {
    let shown = |status: &str, asked: &Asked| {
        let answer = answered(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes(), asked).unwrap();
        Http1::shows_interim(answer.head(), asked)
    };
    let awaits = of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue");
    let old = of("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue");
    for (status, to_plain, to_awaiting) in [
        ("100 Continue", false, true),
        ("100", false, true),
        ("102 x", true, true),
        ("103 Early Hints", true, true),
    ] {
        assert_eq!(shown(status, &plain()), to_plain, "{status}");
        assert_eq!(shown(status, &awaits), to_awaiting, "{status}");
        assert!(!shown(status, &old), "{status}");
    }
}

#[test]
fn a_switch_is_believed_only_if_it_was_asked_for() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    assert_eq!(answered(switch, &tunnel_asked()).unwrap().reply.kind, ReplyKind::Switch);
    for asked in
        [plain(), head_asked(), connect_asked(), of("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket")]
    {
        assert!(answered(switch, &asked).is_err());
    }
    refused(
        &tunnel_asked(),
        &[
            b"HTTP/1.1 101 x\r\n\r\n",
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n",
            b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
            b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
            b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n",
            b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n",
        ],
    );
    // Any other answer is one.
    let other = answered(b"HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\n", &tunnel_asked()).unwrap();
    assert_eq!((other.reply.kind, other.reply.body), (ReplyKind::Final, Framing::Length(2)));
    let upgraded =
        answered(b"HTTP/1.1 200 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", &tunnel_asked());
    assert_eq!(upgraded.unwrap().reply.kind, ReplyKind::Final);
}

#[test]
fn a_tunnel_by_connect_begins_with_any_success() {
    let answer = |raw: &str| answered(raw.as_bytes(), &connect_asked()).unwrap().reply;
    for raw in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 299 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let reply = answer(raw);
        assert_eq!((reply.kind, reply.body), (ReplyKind::Switch, Framing::None), "{raw}");
    }
    let refusal = answer("HTTP/1.1 407 x\r\nContent-Length: 5\r\n\r\n");
    assert_eq!((refusal.kind, refusal.body), (ReplyKind::Final, Framing::Length(5)));
    let redirect = answer("HTTP/1.1 302 x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((redirect.kind, redirect.body), (ReplyKind::Final, Framing::Length(0)));
}

#[test]
fn an_endpoint_is_kept_by_its_version_and_its_words() {
    for (new, old, lines) in [
        (true, false, ""),
        (false, false, "Connection: close\r\n"),
        (false, false, "Connection: Keep-Alive, Close\r\n"),
        (true, true, "Connection: keep-alive\r\n"),
        (true, false, "Keep-Alive: timeout=5\r\n"),
        (true, false, "Proxy-Connection: keep-alive\r\n"),
    ] {
        for (version, keep) in [("1.1", new), ("1.0", old)] {
            let raw = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{lines}\r\n");
            assert_eq!(answered(raw.as_bytes(), &plain()).unwrap().reply.keep, keep, "{raw}");
        }
    }
}

#[test]
fn a_caller_is_kept_where_the_end_of_its_answer_is_told() {
    let old = of("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive");
    let old_head = of("HEAD / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive");
    let keeps = |asked: &Asked, lines: &str| {
        let raw = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        Http1::keeps(asked, &answered(raw.as_bytes(), asked).unwrap().reply)
    };
    for (lines, to_old) in
        [("Content-Length: 3\r\n", true), ("Transfer-Encoding: chunked\r\n", false), ("", false)]
    {
        assert!(keeps(&plain(), lines));
        assert!(!keeps(&Asked { keep: false, ..plain() }, lines));
        assert_eq!(keeps(&old, lines), to_old, "{lines}");
        assert!(keeps(&old_head, lines), "it has no body whose end is to be told");
        assert!(!keeps(&of("GET / HTTP/1.0\r\nHost: a"), lines));
    }
}

#[test]
fn a_status_says_how_the_call_went() {
    for (status, outcome) in [
        (200, Outcome::Ok),
        (204, Outcome::Ok),
        (304, Outcome::Ok),
        (400, Outcome::Exception),
        (404, Outcome::Exception),
        (429, Outcome::Busy),
        (500, Outcome::Error),
        (502, Outcome::Error),
        (503, Outcome::Busy),
        (504, Outcome::TimedOut),
        (599, Outcome::Error),
    ] {
        let answer = answered(format!("HTTP/1.1 {status} x\r\n\r\n").as_bytes(), &plain()).unwrap();
        assert_eq!(answer.reply.outcome, outcome, "{status}");
    }
}
