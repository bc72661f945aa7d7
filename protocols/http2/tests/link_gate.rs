//! Which lists of lines are a request, an answer or trailers, as a link takes them from the wire.
//!
//! Source: RFC 9113 §8.1–8.3, RFC 9110 §7.2. One table each; a line is added where somebody was in doubt.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_codec::{Event, Fault, Policy, Slot, exchange::Underscores};
use support::{ALL, End, GET, HEAD, OK, POST, head};

/// What a request is.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It passes, with these headers.
    Passes(Vec<(&'static str, &'static str)>),
    /// Its stream ends.
    Reset,
    /// It is answered with what is wrong.
    Fault(&'static str),
}
use Verdict::{Passes, Reset};

type Fields = Vec<(&'static str, &'static str)>;

fn get(more: &[(&'static str, &'static str)]) -> Fields {
    GET.into_iter().chain(more.iter().copied()).collect()
}

fn judge(fields: &[(&str, &str)], policy: Policy) -> (Verdict, End) {
    let mut end = End::server();
    end.policy = policy;
    let event = end.gives_one(&head(1, ALL, fields));
    let verdict = match event {
        Event::Request { .. } => {
            let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
            Passes(end.fields().into_iter().map(|(name, value)| (leak(name), leak(value))).collect())
        }
        Event::Nothing => {
            let said = end.said();
            assert_eq!((said.len(), said[0].0, said[0].3[3]), (1, 3, 1), "RST_STREAM: PROTOCOL_ERROR");
            Reset
        }
        Event::Fault { fault, .. } => Verdict::Fault(fault.why()),
        other => panic!("{other:?}"),
    };
    (verdict, end)
}

#[test]
fn requests() {
    let method = Fault::Method.why();
    let cases: Vec<(Fields, Verdict)> = vec![
        (get(&[]), Passes(vec![])),
        (get(&[("a", "b"), ("a", "c")]), Passes(vec![("a", "b"), ("a", "c")])),
        // Pseudo-headers: each once, before the rest, none that is not known.
        (GET[1..].to_vec(), Reset),
        (vec![GET[0], GET[2], GET[3]], Reset),
        (vec![GET[0], GET[1], GET[3]], Reset),
        (GET[..3].to_vec(), Passes(vec![])),
        (get(&[(":method", "GET")]), Reset),
        (get(&[("a", "b"), (":path", "/b")]), Reset),
        (vec![("a", "b"), GET[0], GET[1], GET[2]], Reset),
        (get(&[(":status", "200")]), Reset),
        (get(&[(":protocol", "websocket")]), Reset),
        (get(&[("", "b")]), Reset),
        (vec![GET[0], GET[1], (":path", ""), GET[3]], Reset),
        (vec![GET[0], GET[1], (":path", "a"), GET[3]], Reset),
        (vec![GET[0], GET[1], (":path", "*"), GET[3]], Reset),
        (vec![(":method", "OPTIONS"), GET[1], (":path", "*"), GET[3]], Passes(vec![])),
        (vec![GET[0], GET[1], (":path", "/a b"), GET[3]], Reset),
        (vec![GET[0], GET[1], (":path", "http://h/a"), GET[3]], Reset),
        (vec![GET[0], (":scheme", "ftp"), GET[2], GET[3]], Reset),
        (vec![(":method", "G T"), GET[1], GET[2], GET[3]], Reset),
        (vec![(":method", ""), GET[1], GET[2], GET[3]], Reset),
        // Names in lower case, values without control characters or blanks around them.
        (get(&[("A", "b")]), Reset),
        (get(&[("a b", "c")]), Reset),
        (get(&[("a:", "c")]), Reset),
        (get(&[("a", " b")]), Reset),
        (get(&[("a", "b\t")]), Reset),
        (get(&[("a", "b\nc: d")]), Reset),
        (get(&[("a", "b\rc")]), Reset),
        (get(&[("a", "b\0c")]), Reset),
        (get(&[("a", "")]), Passes(vec![("a", "")])),
        // What belongs to a connection.
        (get(&[("connection", "close")]), Reset),
        (get(&[("transfer-encoding", "chunked")]), Reset),
        (get(&[("keep-alive", "5")]), Reset),
        (get(&[("upgrade", "h2c")]), Reset),
        (get(&[("proxy-connection", "close")]), Reset),
        (get(&[("http2-settings", "x"), ("a", "b")]), Passes(vec![("a", "b")])),
        (get(&[("proxy-authorization", "x"), ("a", "b")]), Passes(vec![("a", "b")])),
        (get(&[("te", "trailers")]), Passes(vec![("te", "trailers")])),
        (get(&[("te", "gzip")]), Reset),
        // The authority, said once or twice alike.
        (get(&[("host", "h")]), Passes(vec![])),
        (get(&[("host", "H")]), Passes(vec![])),
        (get(&[("host", "other")]), Reset),
        (get(&[("host", "h"), ("host", "h")]), Reset),
        (vec![GET[0], GET[1], GET[2], ("host", "h")], Passes(vec![])),
        (vec![GET[0], GET[1], GET[2], (":authority", "u@h")], Reset),
        (vec![GET[0], GET[1], GET[2], (":authority", "h/a")], Reset),
        // Lengths.
        (get(&[("content-length", "0")]), Passes(vec![("content-length", "0")])),
        (get(&[("content-length", "5")]), Reset),
        (get(&[("content-length", "0"), ("content-length", "0")]), Reset),
        (get(&[("content-length", "+0")]), Reset),
        (get(&[("content-length", "")]), Reset),
        (get(&[("content-length", "99999999999999999999")]), Reset),
        // What is done elsewhere.
        (vec![(":method", "TRACE"), GET[1], GET[2], GET[3]], Verdict::Fault(method)),
        (vec![(":method", "CONNECT"), GET[3]], Verdict::Fault(method)),
        (vec![(":method", "CONNECT"), GET[1], GET[2], GET[3]], Reset),
        (vec![(":method", "CONNECT")], Reset),
        (get(&[("expect", "100-continue")]), Passes(vec![("expect", "100-continue")])),
        (get(&[("expect", "miracles")]), Verdict::Fault(Fault::Expectation.why())),
        // Cookies stay in their crumbs.
        (get(&[("cookie", "a=b"), ("cookie", "c=d")]), Passes(vec![("cookie", "a=b"), ("cookie", "c=d")])),
    ];
    for (fields, expected) in cases {
        assert_eq!(judge(&fields, Policy::default()).0, expected, "{fields:?}");
    }
}

#[test]
fn underscores_are_a_matter_of_policy() {
    let fields = get(&[("a_b", "1"), ("c", "2")]);
    let by = |underscores| judge(&fields, Policy { underscores, ..Policy::default() }).0;
    assert_eq!(by(Underscores::Drop), Passes(vec![("c", "2")]));
    assert_eq!(by(Underscores::Allow), Passes(vec![("a_b", "1"), ("c", "2")]));
    assert!(matches!(by(Underscores::Reject), Verdict::Fault(_)));
}

#[test]
fn slots_are_what_the_pseudo_headers_say() {
    let fields = [
        (":method", "PUT"),
        (":scheme", "https"),
        (":path", "/a/b?c=d"),
        (":authority", "Shop.example:8080"),
    ];
    let (_, end) = judge(&fields, Policy::default());
    let slots =
        [Slot::Method, Slot::Scheme, Slot::Target, Slot::Path, Slot::Query, Slot::Authority, Slot::Host];
    let expected = ["PUT", "https", "/a/b?c=d", "/a/b", "c=d", "shop.example:8080", "shop.example"];
    for (slot, expected) in slots.into_iter().zip(expected) {
        assert_eq!(end.slot(slot).as_deref(), Some(expected), "{slot:?}");
    }
    let (_, end) = judge(&[GET[0], GET[1], GET[2], ("host", "shop")], Policy::default());
    assert_eq!(end.slot(Slot::Authority).as_deref(), Some("shop"), "the host stands for it");
}

#[test]
fn what_is_secret_stays_secret() {
    let mut end = End::server();
    let mut block = support::block(&GET);
    block.extend(b"\x10\x06cookie\x03a=b\x00\x01c\x01d");
    end.gives(&support::put(1, ALL, 1, &block));
    assert_eq!(end.message.index.sensitive, [0]);
}

#[test]
fn answers() {
    let cases: Vec<(Fields, Option<Fields>)> = vec![
        (vec![OK[0], ("a_b", "c")], Some(vec![("a_b", "c")])),
        (vec![("a", "b"), OK[0]], None),
        (vec![OK[0], OK[0]], None),
        (vec![OK[0], (":path", "/")], None),
        (vec![], None),
        (vec![(":status", "2000")], None),
        (vec![(":status", "600")], None),
        (vec![(":status", "101")], None),
        (vec![OK[0], ("connection", "close")], None),
        (vec![OK[0], ("transfer-encoding", "chunked")], None),
        (vec![OK[0], ("te", "gzip"), ("a", "b")], Some(vec![("a", "b")])),
        (vec![OK[0], ("content-length", "1"), ("content-length", "1")], None),
        (vec![OK[0], ("content-length", "x")], None),
        (vec![(":status", "204"), ("content-length", "5")], Some(vec![("content-length", "5")])),
        (vec![OK[0], ("A", "b")], None),
        (vec![OK[0], ("a", "b\r\n")], None),
    ];
    for (fields, expected) in cases {
        let mut end = End::client();
        let stream = end.asks(true);
        let event = end.gives_one(&head(stream, HEAD, &fields));
        let passes = matches!(event, Event::Answer { .. });
        assert_eq!(passes, expected.is_some(), "{fields:?}: {event:?}");
        if let Some(expected) = expected {
            let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(end.fields(), expected, "{fields:?}");
        }
    }
}

#[test]
fn trailers() {
    let cases: [(Fields, Option<Fields>); 6] = [
        (vec![("a", "b")], Some(vec![("a", "b")])),
        (vec![], Some(vec![])),
        (vec![("a", "b"), ("content-length", "5"), ("host", "h")], Some(vec![("a", "b")])),
        (vec![(":path", "/")], None),
        (vec![("A", "b")], None),
        (vec![("connection", "close")], None),
    ];
    for (fields, expected) in cases {
        let mut end = End::server();
        end.gives(&head(1, HEAD, &POST));
        let event = end.gives_one(&head(1, ALL, &fields));
        assert_eq!(matches!(event, Event::Trailers { .. }), expected.is_some(), "{fields:?}: {event:?}");
        if let Some(expected) = expected {
            let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(end.fields(), expected, "{fields:?}");
        }
    }
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    let event = end.gives_one(&head(1, HEAD, &[("a", "b")]));
    assert!(matches!(event, Event::Reset { ours: true, .. }), "trailers end their message: {event:?}");
}
