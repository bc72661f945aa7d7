//! Requests at the bounds of the conf: one that is exactly as large as it may be passes, one byte or line more does not. And
//! what looking for the end of a large head costs, counted in bytes, not in time.
//!
//! The statuses come from RFC 6585 §5 and RFC 9110 §15.5; nothing here may be adapted to the codec.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_codec::{
    ExchangeCodec, Fault, Find, Policy,
    exchange::{Limits, Side},
};
use outrigger_http1::Http1;
use support::{judged, with};

fn limits() -> Limits {
    Limits::default()
}

fn policy() -> Policy {
    Policy::default()
}

#[test]
fn a_head_is_as_large_as_its_limits_and_not_one_byte_larger() {
    let fill = |len: usize| {
        let bare = with("X: ").len();
        with(format!("X: {}", "v".repeat(len - bare)))
    };
    let max = limits().head_max;
    for (len, expected) in [(max - 1, 200), (max, 200), (max + 1, 431), (2 * max, 431)] {
        let raw = fill(len);
        assert_eq!(raw.len(), len);
        assert_eq!(judged(&raw, &policy(), &limits()), expected, "{len}");
    }
    // A body in the same read does not count.
    let raw = [with("Content-Length: 70000"), vec![b'x'; 70_000]].concat();
    assert_eq!(judged(&raw, &policy(), &limits()), 200);
    // An end that never comes is told when it no longer can.
    let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'v'; max]].concat();
    assert!(matches!(Http1::find(&endless[..max - 1], 0, Side::Request, &limits()), Find::Partial { .. }));
    assert_eq!(Http1::find(&endless[..max], 0, Side::Request, &limits()), Find::Fault(Fault::HeadTooLarge));

    let count =
        |headers: usize| with((1..headers).map(|at| format!("X-{at}: y")).collect::<Vec<_>>().join("\r\n"));
    for (headers, expected) in [(99, 200), (100, 200), (101, 431), (200, 431)] {
        assert_eq!(judged(&count(headers), &policy(), &limits()), expected, "{headers}");
    }
    // Those that go no further count as well.
    let hops = with(vec!["Keep-Alive: x"; 100].join("\r\n"));
    assert_eq!(judged(&hops, &policy(), &limits()), 431);
    let few = Limits { headers_max: 2, head_max: 64, ..limits() };
    assert_eq!(judged(&with("X: y"), &policy(), &few), 200);
    assert_eq!(judged(&with("X: y\r\nZ: y"), &policy(), &few), 431);
}

#[test]
fn a_target_is_as_long_as_its_limit_and_not_one_byte_longer() {
    let max = limits().uri_max;
    for method in ["GET", "POST", &"M".repeat(32)] {
        for lead in ["", "\r\n"] {
            for (len, expected) in [(max - 1, 200), (max, 200), (max + 1, 414), (2 * max, 414), (60_000, 414)]
            {
                let raw = format!("{lead}{method} /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(len - 1));
                assert_eq!(judged(raw.as_bytes(), &policy(), &limits()), expected, "{method} {len}");
            }
        }
    }
    let absolute = |len: usize| format!("GET http://a/{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(len - 9));
    assert_eq!(judged(absolute(max).as_bytes(), &policy(), &limits()), 200);
    assert_eq!(judged(absolute(max + 1).as_bytes(), &policy(), &limits()), 414);
    // A line that never ends is told long before the whole head would be too large.
    let endless = [b"GET /".to_vec(), vec![b'p'; 3 * max]].concat();
    let told = (1..endless.len()).find(|end| {
        matches!(
            Http1::find(&endless[..*end], 0, Side::Request, &limits()),
            Find::Fault(Fault::TargetTooLong)
        )
    });
    assert!(told.is_some_and(|at| (max + 4..max + 64).contains(&at)), "{told:?}");
}

#[test]
fn a_body_is_as_long_as_its_limit_and_not_one_byte_longer() {
    let small = Limits { body_max: 10, ..limits() };
    assert_eq!(judged(&with("Content-Length: 10"), &policy(), &small), 200);
    assert_eq!(judged(&with("Content-Length: 11"), &policy(), &small), 413);
    assert_eq!(judged(&with("Content-Length: 9223372036854775807"), &policy(), &small), 413);
    assert_eq!(judged(&with("Content-Length: 9223372036854775808"), &policy(), &small), 400);
    let none = Limits { body_max: 0, ..limits() };
    assert_eq!(judged(&with("Content-Length: 0"), &policy(), &none), 200);
    assert_eq!(judged(&with("X: y"), &policy(), &none), 200);
}

/// A head of about 60 KiB, its lines short and long.
fn large(first: &[u8]) -> Vec<u8> {
    let mut raw = first.to_vec();
    for at in 0..90_usize {
        raw.extend(format!("X-{at}: {}\r\n", "v".repeat(200 + at * 10)).bytes());
    }
    raw.extend_from_slice(b"\r\n");
    assert!((58_000..64 << 10).contains(&raw.len()), "{}", raw.len());
    raw
}

#[test]
fn a_head_that_comes_byte_by_byte_is_searched_once() {
    for (side, first) in
        [(Side::Request, b"GET / HTTP/1.1\r\nHost: a\r\n".as_slice()), (Side::Reply, b"HTTP/1.1 200 OK\r\n")]
    {
        let raw = large(first);
        let (mut searched, mut new) = (0, 0);
        for end in 1..raw.len() {
            let Find::Partial { searched: now } = Http1::find(&raw[..end], searched, side, &limits()) else {
                panic!("at {end}")
            };
            assert!(now >= searched && now <= end);
            new += end - searched;
            searched = now;
        }
        assert!(new <= 2 * raw.len(), "{new} bytes were handed over as new, of {}", raw.len());
        assert_eq!(Http1::find(&raw, searched, side, &limits()), Find::Head { len: raw.len() });
    }
}

#[test]
fn bytes_that_were_searched_are_not_looked_at_again() {
    // Behind the longest first line and its method, and before the last four: those are looked at twice.
    let from = limits().uri_max + 64;
    for (side, first) in
        [(Side::Request, b"GET / HTTP/1.1\r\nHost: a\r\n".as_slice()), (Side::Reply, b"HTTP/1.1 200 OK\r\n")]
    {
        let mut raw = large(first);
        let mut searched = 0;
        for end in 1..raw.len() {
            match Http1::find(&raw[..end], searched, side, &limits()) {
                Find::Partial { searched: now } => searched = now,
                other => panic!("{other:?} at {end}"),
            }
            if end > from + 8 {
                // Were this looked at, it would be the end of the head, a bare LF and a bare CR.
                let at = end - 8;
                raw[at] = [b'\r', b'\n', b'\n', b'\r', b'\n', b'\r'][at % 6];
                // No first line either, once it is known to be whole.
                raw[at - from + 40] = b'x';
            }
        }
        assert_eq!(Http1::find(&raw, searched, side, &limits()), Find::Head { len: raw.len() });
    }
}
