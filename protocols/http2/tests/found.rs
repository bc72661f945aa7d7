//! What fuzzing found, each by the fewest bytes that show it.
//!
//! Source: RFC 9113. It must never grow into a test of everything: what is known to be hard has tests of its own.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

use outrigger_codec::{Event, Link, Message, Policy, streams::LinkSettings};
use outrigger_http2::Http2Link;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = (payload.len() as u32).to_be_bytes();
    [&len[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The last thing that a caller's bytes were, and what was said to it since its first frame.
fn said(bytes: &[u8]) -> (Event, Vec<u8>) {
    let policy = Policy { trace: true, ..Policy::default() };
    let mut link = Http2Link::new(true, &LinkSettings::default());
    let (mut message, mut out, mut last) = (Message::default(), Vec::new(), Event::Nothing);
    for bytes in [PREFACE, bytes] {
        out.clear();
        let mut at = 0;
        while at < bytes.len() {
            let step = link.receive(&bytes[at..], &policy, &mut message, &mut out);
            assert!(step.used > 0, "{:?}", step.event);
            at += step.used;
            last = step.event;
        }
    }
    (last, out)
}

#[test]
fn a_method_is_no_longer_than_http1_can_say() {
    let asks = |len: usize| {
        let method = "M".repeat(len);
        let block = [&[0x02, len as u8], method.as_bytes(), b"\x86\x84\x01\x01a"].concat();
        said(&frame(1, 5, 1, &block)).0
    };
    assert!(matches!(asks(32), Event::Request { .. }));
    assert!(matches!(asks(33), Event::Fault { .. }), "{:?}", asks(33));
}

#[test]
fn a_trace_has_no_body() {
    let trace = b"\x02\x05TRACE\x86\x84\x01\x01a";
    let asks = |flags: u8, block: &[u8]| said(&frame(1, flags, 1, block)).0;
    assert!(matches!(asks(5, trace), Event::Request { .. }));
    assert!(matches!(asks(4, trace), Event::Fault { .. }));
    assert!(matches!(asks(5, &[&trace[..], b"\x0f\x0d\x010"].concat()), Event::Fault { .. }));
}

#[test]
fn headers_are_no_more_than_headers_max() {
    let asks = |headers: usize| {
        let block = [b"\x82\x86\x84", &b"\0\x01a\x01b".repeat(headers)[..]].concat();
        said(&frame(1, 5, 1, &block)).0
    };
    assert!(matches!(asks(100), Event::Request { .. }));
    assert!(matches!(asks(101), Event::Fault { .. }), "{:?}", asks(101));
}

#[test]
fn a_stream_that_nobody_opened_is_not_ended() {
    for wrong in [frame(2, 0, 1, b""), frame(2, 0, 1, &[0, 0, 0, 1, 0]), frame(2, 0, 2, b"")] {
        let (event, out) = said(&wrong);
        assert!(matches!(event, Event::Broken { .. }), "{event:?}");
        assert_eq!(out[3], 7, "GOAWAY, not RST_STREAM: {out:?}");
    }
    // Behind our goodbye nobody knows what was opened.
    let mut link = Http2Link::new(true, &LinkSettings::default());
    let (mut message, mut out) = (Message::default(), Vec::new());
    for bytes in [&PREFACE[..24], &PREFACE[24..], &frame(2, 0, 7, b""), &frame(8, 0, 7, &[0; 4])] {
        out.clear();
        let step = link.receive(bytes, &Policy::default(), &mut message, &mut out);
        assert!(!matches!(step.event, Event::Broken { .. }), "{:?}", step.event);
        link.retire(true, &mut Vec::new());
    }
    assert_eq!(out, []);
    let opened = frame(1, 5, 1, b"\x82\x86\x84\x01\x01a");
    let (event, out) = said(&[opened, frame(2, 0, 1, b"")].concat());
    assert_eq!((event, out[3]), (Event::Nothing, 3));
}
