//! Bodies from one framing to another, to the byte: lengths, chunks, extensions, trailers, ends of connections.
//!
//! The bytes come from RFC 9112 §6, §7.1 and RFC 9110 §6.5; nothing here may be adapted to the codec.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_codec::{
    Asked, Body, Fault, Policy,
    exchange::{Limits, Underscores},
};
use outrigger_http1::Http1Body;
use support::{Went, answered, asked, pass, passes, plain, status, text, with};

/// The body behind a request with these header lines.
fn sent_as(lines: &str, policy: &Policy) -> Http1Body {
    passes(&with(lines), policy).forward(policy).1
}

fn sent(lines: &str) -> Http1Body {
    sent_as(lines, &Policy::default())
}

fn chunked() -> Http1Body {
    sent("Transfer-Encoding: chunked")
}

/// The body behind an answer with these header lines.
fn returned(lines: &str, asked: &Asked) -> Http1Body {
    let answer = answered(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes(), asked).unwrap();
    answer.answer(asked, &Policy::default(), false).1
}

fn old() -> Asked {
    asked(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &Policy::default())
}

/// Passes bytes whole, and holds every split to the same verdict and the same bytes.
fn went(body: impl Fn() -> Http1Body, bytes: &[u8], limits: &Limits) -> Went {
    let whole = pass(body(), bytes, &[bytes.len().max(1)], limits);
    for sizes in [[1, 1, 1], [2, 3, 1], [7, 1, 5]] {
        assert_eq!(pass(body(), bytes, &sizes, limits), whole, "{sizes:?}: {}", text(bytes));
    }
    whole
}

fn whole(raw: &[u8], expected: &[u8]) {
    let (verdict, out) = went(chunked, raw, &Limits::default());
    assert_eq!((verdict, text(&out)), (Ok((raw.len(), true)), text(expected)), "{}", text(raw));
}

#[test]
fn a_length_is_counted() {
    let rows: [(&str, &[u8], usize, bool); 6] = [
        ("Content-Length: 5", b"hello", 5, true),
        ("Content-Length: 5", b"helloGET / HTTP/1.1", 5, true),
        ("Content-Length: 5", b"hell", 4, false),
        ("Content-Length: 0", b"GET / HTTP/1.1", 0, true),
        ("X: y", b"GET / HTTP/1.1", 0, true),
        ("Content-Length: 9223372036854775807", b"0\r\n\r\n", 5, false),
    ];
    for (lines, raw, used, done) in rows {
        let (verdict, out) = went(|| sent(lines), raw, &Limits::default());
        assert_eq!((verdict, out.as_slice()), (Ok((used, done)), &raw[..used]), "{lines}");
    }
}

#[test]
fn chunks_keep_their_sizes_and_lose_their_decoration() {
    whole(b"0\r\n\r\n", b"0\r\n\r\n");
    whole(b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n");
    whole(b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n");
    whole(b"0000000000000005\r\nhello\r\n000\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n");
    whole(b"A\r\n0123456789\r\n0\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n");
    whole(b"09\r\n\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"9\r\n\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n");
    whole(b"5;ext\r\nhello\r\n0;last=1\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n");
    whole(b"5;\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n");
    whole(b"5;a=b; c=\"d;\xff\";\t\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n");
    whole(b"5\r\n\0\r\n\xff;\r\n0\r\n\r\n", b"5\r\n\0\r\n\xff;\r\n0\r\n\r\n");
    let big = [b"fFf\r\n".to_vec(), vec![b'x'; 0xfff], b"\r\n0\r\n\r\n".to_vec()].concat();
    whole(&big, &[b"fff\r\n".to_vec(), vec![b'x'; 0xfff], b"\r\n0\r\n\r\n".to_vec()].concat());
    // What follows is not its.
    let (verdict, out) = went(chunked, b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n", &Limits::default());
    assert_eq!((verdict, out.as_slice()), (Ok((11, true)), b"1\r\nx\r\n0\r\n\r\n".as_slice()));
}

#[test]
fn chunks_that_could_be_read_in_two_ways_never_end() {
    let rows: [(&[u8], &[u8]); 41] = [
        // Sizes.
        (b"\r\n", b""),
        (b";x\r\n", b""),
        (b" 5\r\nhello\r\n0\r\n\r\n", b""),
        (b"\t5\r\n", b""),
        (b"5 \r\nhello\r\n0\r\n\r\n", b""),
        (b"5 ;x\r\nhello\r\n0\r\n\r\n", b""),
        (b"5\t\r\n", b""),
        (b"0x5\r\nhello\r\n0\r\n\r\n", b""),
        (b"+5\r\n", b""),
        (b"-1\r\n", b""),
        (b"5h\r\n", b""),
        (b"g\r\n", b""),
        (b"5_0\r\n", b""),
        (b"5,5\r\n", b""),
        (b"\xef\xbc\x95\r\n", b""),
        (b"00000000000000005\r\nhello\r\n0\r\n\r\n", b""),
        (b"00000000000000000\r\n\r\n", b""),
        (b"10000000000000005\r\nhello\r\n0\r\n\r\n", b""),
        (b"8000000000000000\r\n", b""),
        (b"ffffffffffffffff\r\n", b""),
        (b"fffffffffffffffff\r\n", b""),
        // Line ends.
        (b"5\nhello\r\n0\r\n\r\n", b""),
        (b"5\rhello\r\n0\r\n\r\n", b""),
        (b"5\r\rhello", b""),
        (b"5\r\r\nhello", b""),
        (b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello"),
        (b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello"),
        (b"5\r\nhello0\r\n\r\n", b"5\r\nhello"),
        (b"5\r\nhello!\r\n0\r\n\r\n", b"5\r\nhello"),
        (b"5\r\nhelloworld\r\n0\r\n\r\n", b"5\r\nhello"),
        (b"5\r\nhello \r\n0\r\n\r\n", b"5\r\nhello"),
        (b"5\r\nhello\r\n\r\n0\r\n\r\n", b"5\r\nhello\r\n"),
        (b"5\r\nhello\r\n0\n\r\n", b"5\r\nhello\r\n"),
        (b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r\n"),
        (b"5\r\nhello\r\n0\r\n\rGET", b"5\r\nhello\r\n"),
        (b"4\r\nhello\r\n0\r\n\r\n", b"4\r\nhell"),
        // Extensions.
        (b"5;a\nhello\r\n0\r\n\r\n", b""),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", b""),
        (b"5;a\0\r\nhello\r\n0\r\n\r\n", b""),
        (b"5;\x0b\r\nhello\r\n0\r\n\r\n", b""),
        (b"5;\x7f\r\nhello\r\n0\r\n\r\n", b""),
    ];
    for (raw, expected) in rows {
        // More bytes behind it, so that what is awaited comes.
        let raw = [raw, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let (verdict, out) = went(chunked, &raw, &Limits::default());
        assert_eq!((verdict.map_err(status), text(&out)), (Err(400), text(expected)), "{}", text(&raw));
    }
}

#[test]
fn sizes_are_as_large_as_a_length_may_be() {
    let (verdict, out) = went(chunked, b"7fffffffffffffff\r\nx", &Limits::default());
    assert_eq!((verdict, out.as_slice()), (Ok((19, false)), b"7fffffffffffffff\r\nx".as_slice()));
}

#[test]
fn extensions_have_a_limit_for_the_whole_message() {
    let one = |len: usize| [b"1;".to_vec(), vec![b'e'; len], b"\r\nx\r\n".to_vec()].concat();
    let end = b"0\r\n\r\n".as_slice();
    let verdict = |raw: &[u8]| went(chunked, raw, &Limits::default()).0.map_err(status);
    let max = 4096;
    let raw = [one(max).as_slice(), end].concat();
    assert_eq!(verdict(&raw), Ok((raw.len(), true)));
    assert_eq!(verdict(&[one(max + 1).as_slice(), end].concat()), Err(400));
    let raw = [one(max / 2), one(max / 2), end.to_vec()].concat();
    assert_eq!(verdict(&raw), Ok((raw.len(), true)));
    assert_eq!(verdict(&[one(max / 2), one(max / 2), one(1), end.to_vec()].concat()), Err(400));
    assert_eq!(verdict(&[one(16).repeat(300), end.to_vec()].concat()), Err(400));
    // One without an end is told before it has one.
    assert_eq!(verdict(&one(64 << 10)[..max + 3]), Err(400));
}

#[test]
fn a_body_has_its_limit_in_any_framing() {
    let small = Limits { body_max: 10, ..Limits::default() };
    let verdict = |raw: &[u8]| went(chunked, raw, &small).0;
    assert_eq!(verdict(b"a\r\n0123456789\r\n0\r\n\r\n"), Ok((20, true)));
    assert_eq!(verdict(b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), Ok((25, true)));
    assert_eq!(verdict(b"b\r\n"), Err(Fault::BodyTooLarge));
    assert_eq!(verdict(b"a\r\n0123456789\r\n1\r\n"), Err(Fault::BodyTooLarge));
    assert_eq!(verdict(b"7fffffffffffffff\r\n"), Err(Fault::BodyTooLarge));
    // A size that overflows is no size, be there a limit or none; sums do not overflow.
    assert_eq!(verdict(b"8000000000000000\r\n").map_err(status), Err(400));
    let (_, out) = went(chunked, b"a\r\n0123456789\r\n1\r\nx", &small);
    assert_eq!(text(&out), "a\\r\\n0123456789\\r\\n", "nothing of a chunk that is one too many");
    let none = Limits { body_max: 0, ..small };
    assert_eq!(went(chunked, b"0\r\n\r\n", &none).0, Ok((5, true)));
}

#[test]
fn trailers_go_on_in_their_order() {
    whole(b"0\r\nX: y\r\n\r\n", b"0\r\nX: y\r\n\r\n");
    whole(b"0\r\nx-A:\t1 \r\nX-Sum: \xff\r\nx-a:\r\n\r\n", b"0\r\nx-A: 1\r\nX-Sum: \xff\r\nx-a: \r\n\r\n");
    whole(b"1\r\nx\r\n0;e\r\nETag: \"x\"\r\n\r\n", b"1\r\nx\r\n0\r\nETag: \"x\"\r\n\r\n");
    whole(
        b"0\r\nGrpc-Status: 0\r\nContentLength: 5\r\n\r\n",
        b"0\r\nGrpc-Status: 0\r\nContentLength: 5\r\n\r\n",
    );
}

#[test]
fn what_a_trailer_may_not_say_is_dropped() {
    for name in [
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "HTTP2-Settings",
        "Authorization",
        "Proxy-Authorization",
        "Proxy-Authenticate",
        "WWW-Authenticate",
        "Cookie",
        "Set-Cookie",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Content-Whatever",
        "Expect",
        "Max-Forwards",
        "Cache-Control",
        "Pragma",
        "Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "If-Range",
        "Age",
        "Expires",
        "Date",
        "Location",
        "Retry-After",
        "Vary",
        "Warning",
        "Via",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Outrigger-Error",
        "X-Request-Id",
    ] {
        for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            whole(format!("0\r\nA: b\r\n{name}: 1\r\nC: d\r\n\r\n").as_bytes(), b"0\r\nA: b\r\nC: d\r\n\r\n");
        }
    }
}

#[test]
fn trailers_are_held_to_the_grammar_of_headers() {
    let rows: [&[u8]; 17] = [
        b"X : y\r\n\r\n",
        b" X: y\r\n\r\n",
        b"X: y\r\n z\r\n\r\n",
        b": y\r\n\r\n",
        b"X\r\n\r\n",
        b"X: y\n\r\n",
        b"X: y\r\n\n",
        b"\n",
        b"X: \0\r\n\r\n",
        b"X: a\rb\r\n\r\n",
        b"X\xff: y\r\n\r\n",
        b"X(: y\r\n\r\n",
        b"X: \x7f\r\n\r\n",
        b"\t\r\n\r\n",
        b"Host : a\r\n\r\n",
        b"Cookie: \x01\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for trailer in rows {
        let raw = [b"1\r\nx\r\n0\r\n", trailer].concat();
        let (verdict, out) = went(chunked, &raw, &Limits::default());
        // The next server never sees the end of this body.
        assert_eq!((verdict.map_err(status), text(&out)), (Err(400), text(b"1\r\nx\r\n")), "{}", text(&raw));
        // Nor is it let off where trailers go no further.
        let (verdict, _) =
            went(|| returned("Transfer-Encoding: chunked\r\n", &old()), &raw, &Limits::default());
        assert_eq!(verdict.map_err(status), Err(400), "{}", text(&raw));
    }
}

#[test]
fn a_trailer_section_is_as_large_as_a_head() {
    let limits = Limits { head_max: 100, headers_max: 5, ..Limits::default() };
    let fill = |len: usize| format!("0\r\nX: {}\r\n\r\n", "v".repeat(len - 7)).into_bytes();
    let verdict = |raw: &[u8]| went(chunked, raw, &limits).0;
    assert_eq!(verdict(&fill(100)), Ok((103, true)));
    assert_eq!(verdict(&fill(101)), Err(Fault::HeadTooLarge));
    let endless = [b"0\r\nX: ".to_vec(), vec![b'v'; 98]].concat();
    assert_eq!(verdict(&endless[..103]), Ok((103, false)));
    assert_eq!(verdict(&endless), Err(Fault::HeadTooLarge));
    let count = |trailers: usize| format!("0\r\n{}\r\n", "X: y\r\n".repeat(trailers)).into_bytes();
    assert_eq!(verdict(&count(5)), Ok((35, true)));
    assert_eq!(verdict(&count(6)), Err(Fault::HeadTooLarge));
}

#[test]
fn trailers_with_underscores_go_the_way_of_the_conf() {
    let raw = b"0\r\nX_a: 1\r\nX-b: 2\r\n\r\n";
    let under = |underscores| {
        let policy = Policy { underscores, ..Policy::default() };
        let (verdict, out) = went(|| sent_as("Transfer-Encoding: chunked", &policy), raw, &Limits::default());
        (verdict.map_err(status), text(&out))
    };
    assert_eq!(under(Underscores::Drop), (Ok((raw.len(), true)), text(b"0\r\nX-b: 2\r\n\r\n")));
    assert_eq!(under(Underscores::Reject), (Err(400), String::new()));
    assert_eq!(under(Underscores::Allow), (Ok((raw.len(), true)), text(raw)));
    // The names of an answer are its server's own affair, as in its head.
    let (_, out) = went(|| returned("Transfer-Encoding: chunked\r\n", &plain()), raw, &Limits::default());
    assert_eq!(text(&out), text(raw));
}

#[test]
fn an_answer_of_any_framing_is_framed_for_its_caller() {
    let trailed = b"5;e\r\nhello\r\n06\r\n world\r\n0\r\nX: y\r\n\r\n".as_slice();
    let rows: [(&str, Asked, &[u8], &[u8]); 6] = [
        ("Content-Length: 5\r\n", plain(), b"hello", b"hello"),
        ("Content-Length: 5\r\n", old(), b"hello", b"hello"),
        (
            "Transfer-Encoding: chunked\r\n",
            plain(),
            trailed,
            b"5\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n",
        ),
        ("Transfer-Encoding: chunked\r\n", old(), trailed, b"hello world"),
        ("Transfer-Encoding: chunked\r\n", old(), b"0\r\n\r\n", b""),
        ("Transfer-Encoding: chunked\r\n", plain(), b"0\r\n\r\n", b"0\r\n\r\n"),
    ];
    for (lines, asked, raw, expected) in rows {
        let (verdict, out) = went(|| returned(lines, &asked), raw, &Limits::default());
        assert_eq!((verdict, text(&out)), (Ok((raw.len(), true)), text(expected)), "{lines}");
    }
}

#[test]
fn a_body_to_the_end_of_the_connection_gets_an_end_that_is_told() {
    let limits = Limits::default();
    let mut out = Vec::new();
    let mut body = returned("", &plain());
    for piece in [b"hello".as_slice(), b"0\r\n\r\n", &[b'x'; 300]] {
        let passed = body.pass(piece, &limits, &mut out).unwrap();
        assert_eq!((passed.used, passed.done), (piece.len(), false));
    }
    assert!(body.pass(b"", &limits, &mut out).is_ok_and(|passed| !passed.done));
    assert!(body.end(&mut out) && body.is_done());
    let expected =
        [b"5\r\nhello\r\n5\r\n0\r\n\r\n\r\n12c\r\n".as_slice(), &[b'x'; 300], b"\r\n0\r\n\r\n"].concat();
    assert_eq!(text(&out), text(&expected));
    // Twice is once.
    assert!(body.end(&mut out));
    assert_eq!(out, expected);

    let mut body = returned("", &plain());
    let mut out = Vec::new();
    assert!(body.end(&mut out));
    assert_eq!(text(&out), "0\\r\\n\\r\\n", "an empty body has an end too");

    let (mut body, mut out) = (returned("", &old()), Vec::new());
    body.pass(b"hello", &limits, &mut out).unwrap();
    assert!(body.end(&mut out));
    assert_eq!(text(&out), "hello");
}

#[test]
fn an_end_of_the_connection_completes_nothing_else() {
    let limits = Limits::default();
    let framings: [(&str, &[u8]); 2] = [
        ("Content-Length: 5\r\n", b"hello"),
        ("Transfer-Encoding: chunked\r\n", b"5;e\r\nhello\r\n0\r\nX: y\r\n\r\n"),
    ];
    for (lines, raw) in framings {
        for asked in [plain(), old()] {
            for cut in 0..=raw.len() {
                let (mut body, mut out) = (returned(lines, &asked), Vec::new());
                body.pass(&raw[..cut], &limits, &mut out).unwrap();
                let before = out.clone();
                assert_eq!(body.end(&mut out), cut == raw.len(), "{lines} {cut}");
                assert_eq!(out, before, "nothing is made up");
            }
        }
    }
}

#[test]
fn a_caller_can_tell_that_a_body_was_cut_off_unless_it_reads_to_the_end() {
    let rows = [
        ("Content-Length: 5\r\n", true, true),
        ("Transfer-Encoding: chunked\r\n", true, false),
        ("", true, false),
    ];
    for (lines, new, older) in rows {
        assert_eq!(returned(lines, &plain()).end_is_told(), new, "{lines}");
        assert_eq!(returned(lines, &old()).end_is_told(), older, "{lines}");
    }
}
