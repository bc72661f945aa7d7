//! The same bytes, cut anywhere, are the same events; and any bytes at all are none that panics.
//!
//! Source: RFC 9113. What is fed is a conversation of a caller or an endpoint, right or with bytes changed.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_codec::{Event, Link, Message, Policy, streams::LinkSettings};
use outrigger_http2::frame::{PREFACE, flag, kind, setting};
use proptest::{collection::vec, prelude::*};
use support::{ALL, End, GET, HEAD, OK, POST, block, data, goaway, head, number, put, settings, window};

/// What came of bytes: each event with the head or the bytes that it tells of; and what was said.
type Told = (Vec<(Event, Vec<u8>)>, Vec<u8>);

/// Bytes of callers, with something of every kind.
fn asked() -> Vec<u8> {
    let (first, rest) = (&block(&POST)[..7], &block(&POST)[7..]);
    [
        PREFACE.to_vec(),
        settings(&[(setting::HEADER_TABLE_SIZE, 100)]),
        head(1, ALL, &GET),
        head(3, HEAD, &POST),
        window(10),
        data(3, 0, 300),
        put(kind::DATA, flag::PADDED, 3, &[&[3][..], &[7; 9], &[0; 3]].concat()),
        put(kind::PING, 0, 0, b"question"),
        put(kind::HEADERS, 0, 5, first),
        put(kind::CONTINUATION, HEAD, 5, rest),
        number(kind::WINDOW_UPDATE, 3, 100),
        number(kind::RST_STREAM, 5, 8),
        put(kind::PRIORITY, 0, 7, &[0, 0, 0, 0, 1]),
        put(0x55, 3, 3, b"grease"),
        head(3, ALL, &[("a", "b")]),
        number(kind::WINDOW_UPDATE, 0, 100),
        head(9, ALL, &[("a", "b")]),
        head(11, ALL, &GET),
    ]
    .concat()
}

/// Bytes of endpoints, for three calls.
fn answered() -> Vec<u8> {
    [
        settings(&[(setting::MAX_CONCURRENT_STREAMS, 9), (setting::INITIAL_WINDOW_SIZE, 4)]),
        head(1, HEAD, &[(":status", "103")]),
        head(1, HEAD, &OK),
        data(1, 0, 100),
        head(3, ALL, &OK),
        window(100),
        data(1, flag::END_STREAM, 5),
        head(5, HEAD, &[OK[0], ("content-length", "4")]),
        data(5, flag::END_STREAM, 3),
        put(kind::PING, flag::ACK, 0, b"outrigge"),
        goaway(3),
    ]
    .concat()
}

/// A link that is ready for those bytes.
fn link(server: bool) -> End {
    let mut end = End::fresh(server, &LinkSettings::default());
    if !server {
        for _ in 0..3 {
            end.asks(false);
        }
    }
    end.out.clear();
    end
}

/// Gives a link the bytes as reads of these lengths would.
fn told(server: bool, bytes: &[u8], cuts: &[usize]) -> Told {
    let End { mut link, mut out, .. } = link(server);
    let (policy, mut message) = (Policy::default(), Message::default());
    let (mut carry, mut events) = (Vec::new(), Vec::new());
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(bytes.len().max(1)));
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.next().unwrap_or(1).clamp(1, rest.len()));
        carry.extend_from_slice(now);
        rest = later;
        while !carry.is_empty() {
            let step = link.receive(&carry, &policy, &mut message, &mut out);
            assert!(step.used <= carry.len());
            let what = match step.event {
                Event::Partial { total } => {
                    assert!(step.used == 0 && total > carry.len());
                    break;
                }
                Event::Request { stream, .. } => {
                    link.adopt(stream, support::tag(stream));
                    message.bytes.clone()
                }
                Event::Answer { .. } | Event::Trailers { .. } => message.bytes.clone(),
                Event::Data { at, len, .. } => carry[at..at + len].to_vec(),
                _ => Vec::new(),
            };
            if step.event != Event::Nothing {
                events.push((step.event, what));
            }
            carry.drain(..step.used);
        }
    }
    (events, out)
}

#[test]
fn all_that_is_fed_here_is_understood() {
    let (asked, _) = told(true, &asked(), &[]);
    let (answered, _) = told(false, &answered(), &[]);
    let count =
        |told: &[(Event, Vec<u8>)], like: fn(&Event) -> bool| told.iter().filter(|(e, _)| like(e)).count();
    assert_eq!(count(&asked, |event| matches!(event, Event::Request { .. })), 4);
    assert_eq!(count(&asked, |event| matches!(event, Event::Trailers { .. })), 1);
    assert_eq!(count(&answered, |event| matches!(event, Event::Answer { .. })), 4);
    assert_eq!(count(&answered, |event| matches!(event, Event::Retired | Event::Alive)), 2);
    assert_eq!(count(&asked, |event| matches!(event, Event::Broken { .. })), 0);
    assert_eq!(count(&answered, |event| matches!(event, Event::Broken { .. })), 0);
}

#[test]
fn every_byte_may_be_a_read_of_its_own() {
    for (server, bytes) in [(true, asked()), (false, answered())] {
        let whole = told(server, &bytes, &[]);
        assert_eq!(told(server, &bytes, &vec![1; bytes.len()]), whole);
        for cut in 1..bytes.len() {
            assert_eq!(told(server, &bytes, &[cut]), whole, "cut at {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn cuts_change_nothing(server: bool, cuts in vec(1usize..60, 0..40), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut bytes = if server { asked() } else { answered() };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (whole, cut) = (told(server, &bytes, &[]), told(server, &bytes, &cuts));
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn no_bytes_panic(server: bool, bytes in vec(any::<u8>(), 0..400), settled: bool) {
        let hello = match (server, settled) {
            (_, false) => Vec::new(),
            (true, true) => [PREFACE, &settings(&[])].concat(),
            (false, true) => settings(&[]),
        };
        told(server, &[hello, bytes].concat(), &[]);
    }

    #[test]
    fn no_frames_panic(server: bool, frames in vec((0u8..12, any::<u8>(), 0u32..9, vec(any::<u8>(), 0..40)), 0..40)) {
        let hello = if server { [PREFACE, &settings(&[])].concat() } else { settings(&[]) };
        let frames: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, payload)| put(*kind, *flags, *stream, payload)).collect();
        let bytes = [hello, frames].concat();
        let whole = told(server, &bytes, &[]);
        prop_assert_eq!(told(server, &bytes, &[30, 1, 9, 5]), whole);
    }
}
