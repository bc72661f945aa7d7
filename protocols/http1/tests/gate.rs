//! Requests at the gate, as tables: a raw head and its verdict, each rule with its neighbours on both sides.
//!
//! The statuses come from RFC 9110 and RFC 9112 and from what other proxies let through to their backends; nothing here
//! may be adapted to the codec.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_codec::{
    ExchangeCodec, Fault, Find, Framing, Policy, Slot, Sniff,
    exchange::{Limits, Side, Underscores},
};
use outrigger_http1::Http1;
use support::{judged, passes, read, text, verdicts, with};

fn limits() -> Limits {
    Limits::default()
}

fn policy() -> Policy {
    Policy::default()
}

#[test]
fn a_request_line_is_method_target_version_with_single_spaces() {
    verdicts(&[
        (200, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (200, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        (200, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (200, b"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (200, b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\t\r\nHost: a\r\n\r\n"),
        (400, b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n"),
        (400, b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /\r\nHost: a\r\n\r\n"),
        (400, b"GET /\r\n\r\n"),
        (400, b"GET\r\n\r\n"),
        (400, b"GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\nHost: a\n\n"),
        (400, b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"G\xc3\x89T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ]);
    let method = |len| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(len)).into_bytes();
    assert_eq!(judged(&method(32), &policy(), &limits()), 200);
    assert_eq!(judged(&method(33), &policy(), &limits()), 400);
}

#[test]
fn versions_are_one_dot_nought_and_one_dot_one() {
    verdicts(&[
        (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
        (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        (505, b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / Http/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/2\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1,1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/+1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.x\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP /1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / ICY/1.1\r\nHost: a\r\n\r\n"),
    ]);
}

#[test]
fn what_cannot_become_a_request_is_told_at_the_byte_that_tells_it() {
    let method = [b"M".repeat(33), b" / HTTP/1.1".to_vec()].concat();
    let rows: [(usize, &[u8]); 17] = [
        (7, b"GET /\r\nHost"),
        (17, b"GET / HTTP/1.1 \r\nHost"),
        (12, b"GET / http\r\nHost"),
        (9, b"\r\nGET /\r\nHost"),
        (1, b"\x16\x03\x01\x02\x00"),
        (1, b"\x01\x01\x01"),
        (1, b"\xda\xbb"),
        (1, b"\0"),
        (1, b" GET"),
        (1, b"\n"),
        (2, b"\rG"),
        (3, b"GE(T"),
        (4, b"\r\n\r\nGET"),
        (33, &method),
        (15, b"GET / HTTP/1.1\nHost"),
        (16, b"GET / HTTP/1.1\rHost"),
        (25, b"GET / HTTP/1.1\r\nHost: a\r\r\n"),
    ];
    for (at, raw) in rows {
        let mut searched = 0;
        for end in 1..=at {
            match Http1::find(&raw[..end], searched, Side::Request, &limits()) {
                Find::Partial { searched: now } if end < at => searched = now,
                Find::Fault(Fault::Malformed(_)) if end == at => {}
                other => panic!("{other:?} at {end} of {}", text(raw)),
            }
        }
    }
}

#[test]
fn methods_that_are_not_carried_are_refused_unless_the_conf_says_so() {
    let connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    let trace = b"TRACE /x HTTP/1.1\r\nHost: a\r\n\r\n";
    verdicts(&[(405, connect), (405, trace)]);
    let open = Policy { connect: true, trace: true, ..policy() };
    let rows: [(u16, &[u8]); 19] = [
        (200, connect),
        (200, trace),
        (200, b"CONNECT a:443 HTTP/1.1\r\nHost: A:443\r\n\r\n"),
        (200, b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"),
        (200, b"CONNECT a:443 HTTP/1.0\r\n\r\n"),
        (400, b"CONNECT a:443 HTTP/1.1\r\n\r\n"),
        (400, b"CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n"),
        (400, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"CONNECT a: HTTP/1.1\r\nHost: a:\r\n\r\n"),
        (400, b"CONNECT :443 HTTP/1.1\r\nHost: :443\r\n\r\n"),
        (400, b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"CONNECT * HTTP/1.1\r\nHost: *\r\n\r\n"),
        (400, b"CONNECT http://a:443/ HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        (400, b"CONNECT a:443/x HTTP/1.1\r\nHost: a:443/x\r\n\r\n"),
        (400, b"CONNECT u@a:443 HTTP/1.1\r\nHost: u@a:443\r\n\r\n"),
        (400, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 1\r\n\r\n"),
        (400, b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"),
    ];
    for (expected, raw) in rows {
        assert_eq!(judged(raw, &open, &limits()), expected, "{}", text(raw));
    }
    let asked = passes(connect, &open);
    assert!(asked.asked.tunnel);
    assert_eq!(asked.slot(Slot::Authority).as_deref(), Some("a:443"));
    // Methods are told apart by their capitals.
    assert_eq!(judged(b"connect a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", &open, &limits()), 400);
    assert!(!passes(b"trace / HTTP/1.1\r\nHost: a\r\n\r\n", &policy()).asked.tunnel);
}

#[test]
fn a_tunnel_needs_a_port_also_behind_an_address_in_brackets() {
    let open = Policy { connect: true, ..policy() };
    let raw = b"CONNECT [::1] HTTP/1.1\r\nHost: [::1]\r\n\r\n";
    assert_eq!(judged(raw, &open, &limits()), 400);
}

#[test]
fn a_target_is_read_into_its_parts() {
    // Target as sent, as it goes on, path, query.
    let rows = [
        ("/", "/", "/", None),
        ("/a/b?c=d", "/a/b?c=d", "/a/b", Some("c=d")),
        ("/?", "/?", "/", Some("")),
        ("/a?b?c", "/a?b?c", "/a", Some("b?c")),
        ("/a//b/", "/a//b/", "/a//b/", None),
        ("/a;p=1/b", "/a;p=1/b", "/a;p=1/b", None),
        ("/%61%2D%7e", "/%61%2D%7e", "/a-~", None),
        ("/%2F%2f%3b", "/%2F%2f%3b", "/%2F%2f%3b", None),
        ("/%252e%252e/", "/%252e%252e/", "/%252e%252e/", None),
        ("/a%2Fb/%5C.x", "/a%2Fb/%5C.x", "/a%2Fb/%5C.x", None),
        ("/...%2f", "/...%2f", "/...%2f", None),
        ("/...", "/...", "/...", None),
        ("/.a/..b/c../d.", "/.a/..b/c../d.", "/.a/..b/c../d.", None),
        ("/x%2E.x", "/x%2E.x", "/x..x", None),
        ("/?../%zz%00", "/?../%zz%00", "/", Some("../%zz%00")),
        ("/{x}|^`[]@:!$&()*+,=", "/{x}|^`[]@:!$&()*+,=", "/{x}|^`[]@:!$&()*+,=", None),
        ("http://a", "/", "/", None),
        ("http://a/", "/", "/", None),
        ("http://A/x?y", "/x?y", "/x", Some("y")),
        ("http://a?y=1", "/?y=1", "/", Some("y=1")),
        ("HTTP://a/%41", "/%41", "/A", None),
    ];
    for (target, on, path, query) in rows {
        let read = passes(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &policy());
        assert_eq!(read.slot(Slot::Target).as_deref(), Some(on), "{target}");
        assert_eq!(read.slot(Slot::Path).as_deref(), Some(path), "{target}");
        assert_eq!(read.slot(Slot::Query).as_deref(), query, "{target}");
        assert_eq!(read.slot(Slot::Host).as_deref(), Some("a"), "{target}");
        assert_eq!(read.slot(Slot::Method).as_deref(), Some("GET"));
    }
    for target in ["*", "http://a"] {
        let read = passes(format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &policy());
        assert_eq!(read.slot(Slot::Target).as_deref(), Some("*"));
        assert_eq!(read.slot(Slot::Path).as_deref(), Some("*"));
    }
}

#[test]
fn a_target_that_could_be_read_in_two_ways_is_refused() {
    let rows: [&[u8]; 60] = [
        b"/..%2fa",
        b"/..%2F",
        b"/..%5ca",
        b"/..%5C",
        b"/.%2f",
        b"/a%2f..",
        b"/a%2f../b",
        b"/a%5C%2e%2e",
        b"/%2f.",
        b"/%2f%2E/",
        b"//evil",
        b"//",
        b"*",
        b"a",
        b"a:80",
        b"a/b",
        b"?",
        b"./a",
        b"..",
        b"/#",
        b"/#frag",
        b"/?#",
        b"/a\x00",
        b"/a\x7f",
        b"/a\x80",
        b"/\xc3\xa9",
        b"/?\xff",
        b"/a\"",
        b"/<",
        b"/>",
        b"/\\",
        b"\\a",
        b"/?\\",
        b"/a\x0bb",
        b"/%",
        b"/%4",
        b"/%4?1",
        b"/%zz",
        b"/%g0",
        b"/%0g",
        b"/%+1",
        b"/%00",
        b"/a%00b",
        b"/.",
        b"/./",
        b"/..",
        b"/../",
        b"/a/.",
        b"/a/../b",
        b"/a/..",
        b"/%2e",
        b"/%2E%2e/a",
        b"/.%2e",
        b"/a/%2e./b",
        b"/..;/a",
        b"/.;x",
        b"/a/..;x=1/b",
        b"/..?q",
        b"/%2e%2e;/a",
        b"/\x09",
    ];
    for target in rows {
        let raw = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(judged(&raw, &policy(), &limits()), 400, "{}", text(&raw));
    }
}

#[test]
fn a_whole_uri_names_the_host_that_the_header_names() {
    verdicts(&[
        (400, b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http:a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http:/// HTTP/1.1\r\nHost: \r\n\r\n"),
        (400, b"GET http://a//x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a/../x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a/%2e%2e HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a/#x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a#x HTTP/1.1\r\nHost: a#x\r\n\r\n"),
        (400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://u:p@a/ HTTP/1.1\r\nHost: u:p@a\r\n\r\n"),
        (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        (400, b"GET http://a/ HTTP/1.1\r\n\r\n"),
        (200, b"GET http://a:80/ HTTP/1.1\r\nHost: A:80\r\n\r\n"),
        (200, b"GET http://a/ HTTP/1.0\r\n\r\n"),
        (400, b"GET http://a.b,c/ HTTP/1.0\r\n\r\n"),
        (400, b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"POST * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"options * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ]);
}

#[test]
fn there_is_one_host_and_it_is_a_host() {
    let named = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    for (host, authority, name) in [
        ("a", "a", "a"),
        ("A.Example.COM:8080", "a.example.com:8080", "a.example.com"),
        ("a.", "a.", "a."),
        ("my_host-1~x", "my_host-1~x", "my_host-1~x"),
        ("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1"),
        ("a:65535", "a:65535", "a"),
        ("a:00080", "a:00080", "a"),
        ("[::1]", "[::1]", "[::1]"),
        ("[2001:DB8::1]:443", "[2001:db8::1]:443", "[2001:db8::1]"),
        ("[::ffff:1.2.3.4]:80", "[::ffff:1.2.3.4]:80", "[::ffff:1.2.3.4]"),
        (" \ta \t", "a", "a"),
    ] {
        let read = passes(&named(host), &policy());
        assert_eq!(read.slot(Slot::Authority).as_deref(), Some(authority));
        assert_eq!(read.slot(Slot::Host).as_deref(), Some(name));
    }
    for host in [
        "",
        " ",
        "a@b",
        "a@b/c",
        "a/b",
        "a,b",
        "a b",
        "a\tb",
        "a?b",
        "a#b",
        "a\\b",
        "a%41",
        "%61",
        "a:",
        "a:x",
        "a:-1",
        "a:+1",
        "a:80x",
        "a:65536",
        "a:99999",
        "a:000080",
        "a:80:80",
        ":80",
        "::1",
        "[",
        "[]",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[::1]]",
        "[::1%25eth0]",
        "[fe80::1%eth0]",
        "[v1.x]",
        "[1.2.3.4]",
        "[[::1]]",
        "http://a",
        "a;b",
        "a'b",
        "a(b)",
        "a$b",
        "a\u{e9}",
        "[::g]",
        "a[::1]",
        "*",
    ] {
        assert_eq!(judged(&named(host), &policy(), &limits()), 400, "{host}");
    }
}

#[test]
fn a_host_is_missing_only_in_old_requests_and_never_there_twice() {
    verdicts(&[
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        (400, b"GET / HTTP/1.0\r\nHost:\r\n\r\n"),
        (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.0\r\nHost: a@b\r\n\r\n"),
        (400, b"OPTIONS * HTTP/1.1\r\n\r\n"),
        (200, b"GET / HTTP/1.0\r\n\r\n"),
        (200, b"GET / HTTP/1.1\r\nX: y\r\nHOST:a\r\n\r\n"),
    ]);
    let unnamed = passes(b"GET / HTTP/1.0\r\nX: y\r\n\r\n", &policy());
    assert_eq!((unnamed.slot(Slot::Authority), unnamed.slot(Slot::Host)), (None, None));
}

#[test]
fn a_length_is_digits_once() {
    let most = i64::MAX as u64;
    for (value, length) in [
        ("0".to_owned(), 0),
        ("3".to_owned(), 3),
        ("0000000000000000042".to_owned(), 42),
        (most.to_string(), most),
        (" \t7\t ".to_owned(), 7),
    ] {
        let read = passes(&with(format!("Content-Length:{value}")), &policy());
        assert_eq!(read.asked.body, Framing::Length(length));
    }
    let above = (most + 1).to_string();
    for value in [
        "",
        " ",
        "+3",
        "-3",
        "-0",
        "0x3",
        "3a",
        "3 4",
        "3\t4",
        "3,3",
        "3, 3",
        "3;q",
        "\"3\"",
        "3.0",
        "1e1",
        "1_0",
        "\u{b3}",
        "\u{661}",
        "00000000000000000003",
        &above,
        "9999999999999999999",
        "18446744073709551615",
        "18446744073709551619",
    ] {
        assert_eq!(judged(&with(format!("Content-Length: {value}")), &policy(), &limits()), 400, "{value}");
    }
    for lines in [
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3\r\nX: y\r\ncontent-length: 3",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length : 3",
        "Content-Length\t: 3",
        " Content-Length: 3",
        "Content-Length: 3\r\n 4",
        "Content-Length: \r\n 3",
    ] {
        assert_eq!(judged(&with(lines), &policy(), &limits()), 400, "{lines}");
    }
    assert_eq!(passes(&with("Content-Length: 3"), &policy()).asked.body, Framing::Length(3));
    assert_eq!(passes(&with("X: y"), &policy()).asked.body, Framing::None);
    // Names that only look like it are headers like any other.
    for line in [
        "Content-Lengt: 3",
        "Content-Lengthh: 3",
        "X-Content-Length: 3",
        "ContentLength: 3",
        "Content.Length: 3",
    ] {
        assert_eq!(passes(&with(line), &policy()).asked.body, Framing::None, "{line}");
    }
}

#[test]
fn the_only_transfer_coding_is_chunked_once() {
    for line in [
        "Transfer-Encoding: chunked",
        "transfer-encoding:chunked",
        "TRANSFER-ENCODING: \t CHUNKED \t",
        "Transfer-Encoding: ChUnKeD",
    ] {
        assert_eq!(passes(&with(line), &policy()).asked.body, Framing::Chunked, "{line}");
    }
    let coding = |value: &[u8]| judged(&with([b"Transfer-Encoding: ", value].concat()), &policy(), &limits());
    let malformed: [&[u8]; 23] = [
        b"",
        b" ",
        b",",
        b",chunked",
        b", chunked",
        b"chunked,",
        b"chunked, ",
        b"chunked,,identity",
        b"chunked, chunked",
        b"chunked,chunked",
        b"gzip, chunked, chunked",
        b"\"chunked\"",
        b"'chunked',\"x\"",
        b"chun ked",
        b"chunked x",
        b"chunked\x0b",
        b"chunked\x0c",
        b"\x0bchunked",
        b"chunked\0",
        b"chunked\xa0",
        b"(chunked)",
        b"chunked=1",
        b"\xef\xbb\xbfchunked",
    ];
    for value in malformed {
        assert_eq!(coding(value), 400, "{}", text(value));
    }
    let other: [&[u8]; 15] = [
        b"xchunked",
        b"chunkedx",
        b"identity",
        b"gzip",
        b"gzip, chunked",
        b"gzip,chunked",
        b"chunked, identity",
        b"chunked, gzip",
        b"identity, chunked",
        b"chunked;q=1",
        b"chunked ; x",
        b"chunked;",
        b"x",
        b"'chunked'",
        b"chunk",
    ];
    for value in other {
        assert_eq!(coding(value), 501, "{}", text(value));
    }
}

#[test]
fn a_coding_stands_on_one_line_alone() {
    let verdict = |lines: &[u8]| judged(&with(lines), &policy(), &limits());
    let lines: [&[u8]; 15] = [
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 3",
        b"Content-Length: 3\r\nTransfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: chunked\r\nX: y\r\ntransfer-encoding: x",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding:",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: chunked\r\n\t, identity",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\x0b: chunked",
        b" Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\nX: y",
        b"Transfer-Encoding: x\rTransfer-Encoding: chunked",
        b"X: y\nTransfer-Encoding: chunked",
    ];
    for lines in lines {
        assert_eq!(verdict(lines), 400, "{}", text(lines));
    }
    verdicts(&[
        (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"),
    ]);
}

#[test]
fn two_framings_are_none() {
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "transfer-encoding: CHUNKED\r\nX: y\r\ncontent-length: 3",
    ] {
        assert_eq!(judged(&with(lines), &policy(), &limits()), 400, "{lines}");
    }
    // What is behind in the same read changes nothing.
    let mut raw = with("Content-Length: 6\r\nTransfer-Encoding: chunked");
    raw.extend_from_slice(b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(judged(&raw, &policy(), &limits()), 400);
}

#[test]
fn a_header_line_is_name_colon_value() {
    let good: [(&[u8], &str, &str); 12] = [
        (b"X: y", "X", "y"),
        (b"X:y", "X", "y"),
        (b"X:", "X", ""),
        (b"X: \t ", "X", ""),
        (b"X: \t y z\t \t", "X", "y z"),
        (b"X: y\tz", "X", "y\\tz"),
        (b"X: y:z", "X", "y:z"),
        (b"X:: y", "X", ": y"),
        (b"x-Y!#$%&'*+.^`|~: 1", "x-Y!#$%&\\'*+.^`|~", "1"),
        (b"X: \x80\xff\xc3\xa9", "X", "\\x80\\xff\\xc3\\xa9"),
        (b"X: \xa0y\xa0", "X", "\\xa0y\\xa0"),
        (b"9: \"<>\\", "9", "\\\"<>\\\\"),
    ];
    for (line, name, value) in good {
        assert_eq!(
            passes(&with(line), &policy()).fields(),
            [(name.to_owned(), value.to_owned())],
            "{}",
            text(line)
        );
    }
    let bad: [&[u8]; 37] = [
        b"X : y",
        b"X\t: y",
        b" X: y",
        b"\tX: y",
        b": y",
        b" : y",
        b"X",
        b"X y",
        b"",
        b"X\r\n y: z",
        b"X: y\r\n z",
        b"X: y\r\n\tz",
        b"X: y\r\n \r\nZ: a",
        b"X: \0",
        b"X: y\0z",
        b"X: \x01",
        b"X: \x0b",
        b"X: y\x0c",
        b"X: \x1f",
        b"X: \x7f",
        b"X: y\rz",
        b"X: y\r",
        b"X: y\r\r\nZ: a",
        b"X: y\nZ: a",
        b"X: y\n",
        b"X\0: y",
        b"X(: y",
        b"X,Y: z",
        b"X/Y: z",
        b"X;: y",
        b"X@Y: z",
        b"X[]: y",
        b"X\": y",
        b"X{}: y",
        b"X\x80: y",
        b"\xc3\xa9: y",
        b"X=Y",
    ];
    for line in bad {
        // Another line behind it, so that an empty one cannot end the head.
        let raw = with([line, b"\r\nA: b"].concat());
        let whole = read(&raw, &policy(), &limits()).map(|read| (read.fields(), read.bytes.len()));
        if line.is_empty() {
            assert_eq!(
                whole.unwrap(),
                (Vec::new(), raw.len() - b"A: b\r\n\r\n".len()),
                "an empty line ends the head"
            );
            continue;
        }
        assert_eq!(judged(&raw, &policy(), &limits()), 400, "{}", text(line));
    }
}

#[test]
fn no_line_is_folded_or_ended_in_another_way() {
    verdicts(&[
        (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n"),
    ]);
}

#[test]
fn every_byte_of_a_name_and_of_a_value_has_its_verdict() {
    for byte in 0..=255_u8 {
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let name = [b"X", [byte].as_slice(), b"Y: z"].concat();
        let expected = if token || byte == b':' { 200 } else { 400 };
        assert_eq!(judged(&with(&name), &policy(), &limits()), expected, "{byte:#x} in a name");
        let value = [b"X: y", [byte].as_slice(), b"z"].concat();
        let expected = if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) { 200 } else { 400 };
        assert_eq!(judged(&with(&value), &policy(), &limits()), expected, "{byte:#x} in a value");
        let target = [b"GET /x", [byte].as_slice(), b"y HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let seen = (0x21..0x7f).contains(&byte) && !b"\"<>\\#%".contains(&byte);
        assert_eq!(
            judged(&target, &policy(), &limits()),
            if seen { 200 } else { 400 },
            "{byte:#x} in a target"
        );
        let method = [b"M", [byte].as_slice(), b"M / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        // A space makes the rest the target, which it is not.
        assert_eq!(
            judged(&method, &policy(), &limits()),
            if token { 200 } else { 400 },
            "{byte:#x} in a method"
        );
        let host = [b"GET / HTTP/1.1\r\nHost: a", [byte].as_slice(), b"b\r\n\r\n"].concat();
        let named = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        assert_eq!(judged(&host, &policy(), &limits()), if named { 200 } else { 400 }, "{byte:#x} in a host");
    }
}

#[test]
fn names_with_underscores_go_the_way_of_the_conf() {
    let raw = with("Content_Length: 5\r\nTransfer_Encoding: chunked\r\nX-A: 1\r\n_: 2");
    let under = |underscores| Policy { underscores, ..policy() };
    let dropped = passes(&raw, &under(Underscores::Drop));
    assert_eq!(dropped.fields(), [("X-A".to_owned(), "1".to_owned())]);
    assert_eq!(judged(&raw, &under(Underscores::Reject), &limits()), 400);
    assert_eq!(judged(&with("X-A: a_b"), &under(Underscores::Reject), &limits()), 200);
    let allowed = passes(&raw, &under(Underscores::Allow));
    assert_eq!(allowed.fields().len(), 4);
    for read in [dropped, allowed] {
        assert_eq!(read.asked.body, Framing::None, "it is no framing under any of them");
    }
}

#[test]
fn expectations_other_than_one_are_refused() {
    let expects = |value: &str| with(format!("Content-Length: 3\r\nExpect: {value}"));
    for value in ["100-continue", "100-Continue", " 100-CONTINUE\t"] {
        let read = passes(&expects(value), &policy());
        assert!(read.asked.awaits);
        assert!(read.fields().is_empty(), "it is made anew");
    }
    for value in ["", "100-continue2", "100", "x", "100-continue, x", "100-continue;a=b", "200-ok"] {
        assert_eq!(judged(&expects(value), &policy(), &limits()), 417, "{value}");
    }
    assert!(!passes(&with("Expect: 100-continue"), &policy()).asked.awaits, "nobody waits without a body");
    assert!(passes(&with("Expect: 100-continue\r\nTransfer-Encoding: chunked"), &policy()).asked.awaits);
    for value in ["100-continue", "x"] {
        let old = format!("POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: {value}\r\n\r\n");
        assert!(!passes(old.as_bytes(), &policy()).asked.awaits, "HTTP/1.0 knows no expectations");
    }
}

#[test]
fn an_empty_body_is_no_body_to_wait_for() {
    let read = passes(&with("Content-Length: 0\r\nExpect: 100-continue"), &policy());
    assert!(!read.asked.awaits);
}

#[test]
fn a_connection_is_kept_by_its_version_and_its_words() {
    let keep = |version: &str, lines: &str| {
        passes(format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n").as_bytes(), &policy()).asked.keep
    };
    for (new, old, lines) in [
        (true, false, ""),
        (false, false, "Connection: close\r\n"),
        (false, false, "connection: CLOSE\r\n"),
        (true, true, "Connection: keep-alive\r\n"),
        (true, true, "Connection: Keep-Alive\r\n"),
        (false, false, "Connection: keep-alive, close\r\n"),
        (false, false, "Connection: close\r\nConnection: keep-alive\r\n"),
        (false, false, "Connection: x-a ,\tclose\r\n"),
        (false, false, "Connection: ,close,\r\n"),
        (true, false, "Connection: x-a\r\n"),
        (true, false, "Connection: closed\r\n"),
        (true, false, "Connection:\r\n"),
        (true, false, "Proxy-Connection: keep-alive\r\n"),
        (true, false, "Keep-Alive: timeout=5\r\n"),
        (true, false, "X-Connection: close\r\n"),
    ] {
        assert_eq!(keep("1.1", lines), new, "{lines}");
        assert_eq!(keep("1.0", lines), old, "{lines}");
    }
    for value in ["a b", "close;x", "\"close\"", "a/b", "close\u{a0}", "(x)"] {
        let raw = with(format!("Connection: {value}"));
        assert_eq!(judged(&raw, &policy(), &limits()), 400, "{value}");
    }
}

#[test]
fn only_a_listed_upgrade_of_a_bodiless_get_is_a_tunnel() {
    let tunnel = |line: &str, lines: &str| {
        let raw = format!("{line}\r\nHost: a\r\n{lines}\r\n");
        let read = passes(raw.as_bytes(), &policy());
        let shown = read.fields().iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
        assert_eq!(shown, read.asked.tunnel, "it goes on if and only if it is a tunnel: {raw}");
        assert!(!read.fields().iter().any(|(name, _)| name.eq_ignore_ascii_case("http2-settings")));
        read.asked.tunnel
    };
    let get = "GET / HTTP/1.1";
    for lines in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n",
        "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
    ] {
        assert!(tunnel(get, lines), "{lines}");
        assert!(!tunnel("POST / HTTP/1.1", lines));
        assert!(!tunnel("get / HTTP/1.1", lines));
        assert!(!tunnel("HEAD / HTTP/1.1", lines));
        assert!(!tunnel("GET / HTTP/1.0", lines));
        assert!(!tunnel(get, &format!("Content-Length: 5\r\n{lines}")));
        assert!(!tunnel(get, &format!("{lines}Transfer-Encoding: chunked\r\n")));
    }
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: close\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket/13\r\n",
        "Connection: upgrade\r\nUpgrade: websocketx\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    ] {
        assert!(!tunnel(get, lines), "{lines}");
    }
    let more = Policy { upgrades: vec!["websocket".into(), "my-rpc".into()], ..policy() };
    assert!(
        passes(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: My-RPC\r\n\r\n", &more)
            .asked
            .tunnel
    );
    let none = Policy { upgrades: Vec::new(), ..policy() };
    assert!(
        !passes(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", &none)
            .asked
            .tunnel
    );
}

#[test]
fn a_head_ends_where_it_ends_and_what_follows_is_not_its() {
    let raw = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n";
    let first = passes(raw, &policy());
    assert_eq!((first.bytes.len(), first.slot(Slot::Path).as_deref()), (28, Some("/1")));
    let second = passes(&raw[28..], &policy());
    assert_eq!((second.bytes.len(), second.slot(Slot::Path).as_deref()), (28, Some("/2")));
    // One empty line between two requests, as old clients send it behind a body; not two.
    let gap = [b"\r\n".as_slice(), &raw[28..]].concat();
    assert_eq!(passes(&gap, &policy()).bytes.len(), gap.len());
    assert_eq!(judged(&[b"\r\n".as_slice(), &gap].concat(), &policy(), &limits()), 400);
}

#[test]
fn a_connection_is_told_by_its_first_bytes() {
    for method in ["GET", "POST", "PUT", "HEAD", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"] {
        for lead in ["", "\r\n"] {
            let line = format!("{lead}{method} / HTTP/1.1\r\n");
            for end in 1..=line.len() {
                let told = end > lead.len() + method.len();
                let expected = if told { Sniff::Yes } else { Sniff::More };
                assert_eq!(Http1::sniff(&line.as_bytes()[..end]), expected, "{method} {end}");
            }
        }
    }
    // Other methods are told by the path behind them.
    for (first, expected) in [
        ("PROPFIND", Sniff::More),
        ("PROPFIND ", Sniff::More),
        ("PROPFIND /", Sniff::Yes),
        ("M-SEARCH /", Sniff::Yes),
        ("PRI ", Sniff::More),
        ("PRI *", Sniff::No),
    ] {
        assert_eq!(Http1::sniff(first.as_bytes()), expected, "{first}");
    }
    let others: [&[u8]; 12] = [
        b"get ",
        b"GETx",
        b"PRI * HTTP/2.0\r\n",
        b"\x16\x03\x01",
        b"\x01",
        b"\x02\x01",
        b"\xda\xbb",
        b" GET /",
        b"\n",
        b"\rGET",
        b"\r\n\r\nGET /",
        b"SSH-2.0",
    ];
    for first in others {
        assert_eq!(Http1::sniff(first), Sniff::No, "{}", text(first));
    }
    assert_eq!(Http1::sniff(&b"M".repeat(33)), Sniff::No);
}
