//! Windows of an HTTP/2 connection: what may be sent, what is given back, how windows grow and shrink.
//!
//! Source: RFC 9113 §5.2, §6.9. Every number here is a number of bytes.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_codec::{Code, Event, Link};
use outrigger_http2::frame::{code, flag, kind, setting};
use support::{End, HEAD, POST, data, head, is_broken, number, reset, settings, tag, window};

/// Bytes of bodies in frames.
fn bytes(frames: &[support::Frame]) -> usize {
    frames.iter().filter(|frame| frame.0 == kind::DATA).map(|frame| frame.3.len()).sum()
}

#[test]
fn no_more_is_sent_than_the_stream_may_take() {
    let mut end = End::client_with(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let stream = end.asks(false);
    end.said();
    assert!(end.link.fits(stream, 10) && !end.link.fits(stream, 11));
    assert_eq!(end.sends(stream, 25, true), 10);
    let said = end.said();
    assert_eq!((bytes(&said), said[0].1), (10, 0), "the end is not said before all bytes");
    assert_eq!(end.sends(stream, 15, true), 0);
    assert!(!end.link.is_full() && end.said().is_empty());
    assert_eq!(end.gives(&number(kind::WINDOW_UPDATE, stream, 15)), [Event::Room { tag: Some(tag(0)) }]);
    assert_eq!(end.sends(stream, 15, true), 15);
    assert_eq!(end.said()[0].1, flag::END_STREAM);
}

#[test]
fn no_more_is_sent_than_the_connection_may_take() {
    let mut end = End::client_with(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    let (one, two) = (end.asks(false), end.asks(false));
    assert_eq!(end.sends(one, 60_000, false), 60_000);
    assert_eq!(end.sends(two, 60_000, false), 5_535);
    assert!(end.link.is_full());
    let said = end.said();
    assert!(said.iter().all(|frame| frame.3.len() <= 16_384), "no frame is longer than every peer takes");
    assert_eq!(end.gives(&number(kind::WINDOW_UPDATE, 0, 1)), [Event::Room { tag: None }]);
    assert_eq!((end.sends(two, 60_000, false), end.sends(one, 1, true)), (1, 0));
    assert_eq!(end.sends(one, 0, true), 0, "an end needs no window");
    assert_eq!(end.said().last().map(|frame| (frame.1, frame.3.len())), Some((flag::END_STREAM, 0)));
}

#[test]
fn windows_change_with_settings_and_may_fall_below_nothing() {
    let mut end = End::client_with(&[(setting::INITIAL_WINDOW_SIZE, 100)]);
    let (one, two) = (end.asks(false), end.asks(false));
    assert_eq!(end.sends(one, 90, false), 90);
    assert_eq!(end.gives(&window(20)), [Event::Room { tag: None }]);
    assert_eq!((end.sends(one, 1, false), end.sends(two, 50, false)), (0, 20));
    end.gives(&number(kind::WINDOW_UPDATE, one, 70));
    assert_eq!(end.sends(one, 1, false), 0, "70 below nothing, and 70 more");
    assert_eq!(end.gives(&window(30)), [Event::Widened]);
    assert_eq!((end.sends(one, 50, false), end.sends(two, 50, false)), (10, 10));
    assert_eq!(
        end.gives(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0), (setting::INITIAL_WINDOW_SIZE, 31)])),
        [Event::Widened]
    );
    assert_eq!(end.sends(one, 50, false), 1);
    let three = end.asks(false);
    assert_eq!(end.sends(three, 50, false), 31, "new streams begin with the last window");
}

#[test]
fn no_window_goes_beyond_all_bounds() {
    let mut end = End::client();
    let stream = end.asks(false);
    assert!(is_broken(end.gives_one(&window(0x8000_0000))));
    let mut end2 = End::client();
    let other = end2.asks(false);
    assert_eq!(
        end2.gives_one(&number(kind::WINDOW_UPDATE, other, 0x7fff_ffff)),
        Event::Reset { tag: tag(0), code: code::FLOW_CONTROL, ours: true }
    );
    assert!(is_broken(end2.gives_one(&number(kind::WINDOW_UPDATE, 0, 0x7fff_ffff))));
    for (at, broken) in [(0, true), (stream, false)] {
        let mut end = End::client();
        end.asks(false);
        let event = end.gives_one(&number(kind::WINDOW_UPDATE, at, 0));
        assert_eq!(is_broken(event), broken, "by nothing: {event:?}");
    }
    let mut end = End::client();
    let stream = end.asks(false);
    end.gives(&number(kind::WINDOW_UPDATE, stream, 0x7fff_ffff - 65_535));
    assert!(is_broken(end.gives_one(&window(65_536))), "a window that was given, and one that is widened");
}

#[test]
fn what_is_taken_is_given_back_in_halves_of_the_window() {
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    end.said();
    for _ in 0..3 {
        end.gives(&data(1, 0, 16_000));
    }
    end.link.release(1, 32_767, false, &mut end.out);
    assert!(end.said().is_empty(), "less than half is not worth a frame");
    end.link.release(1, 1, false, &mut end.out);
    assert_eq!(end.said_number(), (kind::WINDOW_UPDATE, 1, 32_768));
    end.gives(&data(1, flag::END_STREAM, 10));
    end.link.release(1, 60_000, false, &mut end.out);
    assert!(end.said().is_empty(), "nothing is given to a stream that has ended");
}

#[test]
fn nobody_sends_more_than_was_given() {
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    for _ in 0..4 {
        assert!(matches!(end.gives_one(&data(1, 0, 16_384)), Event::Data { .. }));
    }
    end.said();
    assert_eq!(end.gives_one(&data(1, 0, 1)), reset(1, code::FLOW_CONTROL));
    assert_eq!(end.said_number(), (kind::RST_STREAM, 1, code::FLOW_CONTROL.0));
    assert_eq!(end.gives_one(&data(1, 0, 5_000)), Event::Nothing, "what was under way is dropped");
    assert!(matches!(end.gives_one(&head(3, HEAD, &POST)), Event::Request { .. }), "others go on");
}

#[test]
fn the_connection_is_given_back_at_once_whatever_its_streams_hold() {
    let mut end = End::server();
    let mut given = 0;
    for stream in (1..).step_by(2).take(40) {
        end.gives(&head(stream, HEAD, &POST));
        for _ in 0..4 {
            assert!(matches!(end.gives_one(&data(stream, 0, 16_000)), Event::Data { .. }));
        }
        for (kind, _, id, payload) in end.said() {
            assert_eq!((kind, id), (kind::WINDOW_UPDATE, 0), "of the stream nothing was taken");
            given += u32::from_be_bytes(payload.try_into().expect("a number"));
        }
    }
    assert!(given >= 40 * 64_000 - (1 << 19), "{given}");
    let mut end = End::server();
    for stream in (1..).step_by(2).take(16) {
        end.gives(&head(stream, HEAD, &POST));
    }
    // Nobody reads what is said, and so nothing is given back: but the link does not wait for that.
    let events: Vec<Event> = (0..16u32).flat_map(|at| end.gives(&data(2 * at + 1, 0, 16_384))).collect();
    assert_eq!(events.len(), 16);
}

#[test]
fn a_window_grows_where_its_stream_keeps_up_and_not_otherwise() {
    let grown = |freely: bool| {
        let mut end = End::server();
        end.gives(&head(1, HEAD, &POST));
        end.said();
        let (mut sent, mut given) = (0usize, 65_536usize);
        for _ in 0..400 {
            let n = (given - sent).min(16_384);
            end.gives(&data(1, 0, n));
            sent += n;
            end.link.release(1, n, freely, &mut end.out);
            for (kind, _, stream, payload) in end.said() {
                if (kind, stream) == (kind::WINDOW_UPDATE, 1) {
                    given += u32::from_be_bytes(payload.try_into().expect("a number")) as usize;
                }
            }
        }
        given - sent
    };
    let (slow, fast) = (grown(false), grown(true));
    assert!(slow <= 65_536, "{slow}");
    assert!((1 << 19..=1 << 20).contains(&fast), "{fast}");
}

#[test]
fn padding_counts_and_is_given_back() {
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    end.said();
    let padded = support::put(kind::DATA, flag::PADDED, 1, &[&[200][..], &[7; 5], &[0; 200]].concat());
    let mut given = 0;
    for _ in 0..400 {
        let Event::Data { at, len, .. } = end.gives_one(&padded) else {
            panic!("a window was not given back")
        };
        assert_eq!((at, len), (10, 5));
        end.link.release(1, 5, false, &mut end.out);
        given += end.said().iter().filter(|frame| frame.2 == 1).count();
    }
    assert!(given >= 2);
    let wrong = support::put(kind::DATA, flag::PADDED, 1, &[5, 7, 0, 0, 0]);
    assert!(is_broken(end.gives_one(&wrong)));
}

#[test]
fn what_nobody_wants_is_given_back_as_it_comes() {
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    end.link.disown(1);
    end.said();
    for _ in 0..40 {
        assert_eq!(end.gives_one(&data(1, 0, 16_000)), Event::Nothing);
    }
    assert!(end.said().iter().any(|frame| (frame.0, frame.2) == (kind::WINDOW_UPDATE, 1)));
    end.answers(1, true);
    let said = end.said();
    assert_eq!(
        said.last().map(|frame| (frame.0, frame.3.clone())),
        Some((kind::RST_STREAM, Code::NO_ERROR.0.to_be_bytes().to_vec()))
    );
    assert_eq!(end.link.streams(), 0);
}
