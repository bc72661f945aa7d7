//! States of streams and of the connection: who may say what when, goodbyes, heads in pieces, budgets.
//!
//! Source: RFC 9113 §4.3, §5.1, §5.4, §6; CVE-2023-44487, CVE-2024-24549 and their kin for the budgets.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_codec::{Code, Event, Fault, Link, ReplyKind, Slot, Tag, streams::LinkSettings};
use outrigger_http2::frame::{PREFACE, code, flag, kind, setting};
use support::{
    ALL, End, GET, HEAD, OK, POST, block, data, goaway, head, is_broken, number, put, reset, settings, tag,
};

#[test]
fn what_is_said_first_is_the_preface_and_settings() {
    let mut end = End::fresh(true, &LinkSettings::default());
    let said = end.said();
    assert_eq!((said[0].0, said[1].0, said[1].2), (kind::SETTINGS, kind::WINDOW_UPDATE, 0));
    assert!(end.link.is_midway(&[]));
    assert!(is_broken(end.gives_one(b"PRI * HTTP/1.1\r\n")));
    let mut end = End::fresh(true, &LinkSettings::default());
    for byte in PREFACE {
        assert_eq!(end.gives_one(&[*byte]), Event::Nothing);
    }
    assert!(is_broken(end.gives_one(&data(1, 0, 1))), "the first frame must be SETTINGS");
    let mut end = End::fresh(true, &LinkSettings::default());
    end.gives(PREFACE);
    assert!(is_broken(end.gives_one(&put(kind::SETTINGS, flag::ACK, 0, b""))), "and no answer to ours");
    let mut end = End::fresh(false, &LinkSettings::default());
    assert!(end.out.starts_with(PREFACE));
    end.said();
    end.gives(&settings(&[]));
    assert_eq!(end.said(), [(kind::SETTINGS, flag::ACK, 0, vec![])]);
    assert!(!end.link.is_midway(&[]));
}

#[test]
fn a_call_lives_from_its_head_to_both_ends() {
    let mut end = End::server();
    assert_eq!(end.gives(&head(1, HEAD, &POST)), [Event::Request { stream: 1, end: false, bodiless: false }]);
    assert_eq!(end.gives(&data(1, 0, 3)), [Event::Data { tag: tag(1), at: 9, len: 3, end: false }]);
    assert_eq!(
        end.gives(&data(1, flag::END_STREAM, 0)),
        [Event::Data { tag: tag(1), at: 9, len: 0, end: true }]
    );
    end.answers(1, false);
    assert_eq!((end.sends(1, 4, false), end.link.streams()), (4, 1));
    assert_eq!((end.sends(1, 4, true), end.link.streams()), (4, 0));
    let kinds: Vec<(u8, u8)> = end.said().iter().map(|frame| (frame.0, frame.1)).collect();
    assert_eq!(kinds, [(kind::HEADERS, HEAD), (kind::DATA, 0), (kind::DATA, flag::END_STREAM)]);
    assert_eq!(end.sends(1, 4, true), 4, "words behind the end go nowhere");
    assert!(end.said().is_empty());
}

#[test]
fn an_answer_is_interim_final_and_then_trailers() {
    let mut end = End::client();
    let stream = end.asks(true);
    let answer = |kind, end| Event::Answer { tag: Tag(0), kind, end };
    assert_eq!(end.gives(&head(stream, HEAD, &[(":status", "103")])), [answer(ReplyKind::Interim, false)]);
    assert_eq!(end.gives(&head(stream, HEAD, &OK)), [answer(ReplyKind::Final, false)]);
    assert_eq!(end.gives(&data(stream, 0, 6)).len(), 1);
    assert_eq!(end.gives(&head(stream, ALL, &[("a", "b")])), [Event::Trailers { tag: Tag(0) }]);
    assert_eq!((end.fields(), end.link.streams()), (vec![("a".to_owned(), "b".to_owned())], 0));
    for wrong in [
        head(1, ALL, &[(":status", "103")]),
        [head(1, HEAD, &OK), head(1, HEAD, &[("a", "b")])].concat(),
        [head(1, HEAD, &OK), head(1, ALL, &OK)].concat(),
        data(1, 0, 6),
        head(1, HEAD, &[("a", "b")]),
        head(1, HEAD, &[(":status", "101")]),
        head(1, HEAD, &[(":status", "20")]),
    ] {
        let mut end = End::client();
        end.asks(true);
        let last = end.gives(&wrong).last().copied();
        assert_eq!(last, Some(Event::Reset { tag: Tag(0), code: Code::PROTOCOL, ours: true }), "{wrong:?}");
    }
}

#[test]
fn frames_of_streams_that_are_none_end_the_connection() {
    for wrong in [
        head(2, ALL, &GET),
        head(0, ALL, &GET),
        data(0, 0, 1),
        data(1, 0, 1),
        number(kind::RST_STREAM, 1, 8),
        number(kind::RST_STREAM, 0, 8),
        number(kind::WINDOW_UPDATE, 1, 8),
        put(kind::CONTINUATION, HEAD, 1, b""),
        put(kind::PUSH_PROMISE, HEAD, 1, &[0, 0, 0, 2]),
        put(kind::PING, 0, 0, &[0; 7]),
        put(kind::PING, 0, 1, &[0; 8]),
        put(kind::SETTINGS, 0, 0, &[0; 5]),
        put(kind::SETTINGS, 0, 1, b""),
        put(kind::SETTINGS, flag::ACK, 0, &[0; 6]),
        put(kind::GOAWAY, 0, 1, &[0; 8]),
        put(kind::GOAWAY, 0, 0, &[0; 7]),
        put(kind::RST_STREAM, 0, 1, &[0; 3]),
        put(kind::WINDOW_UPDATE, 0, 0, &[0; 3]),
        settings(&[(setting::ENABLE_PUSH, 2)]),
        settings(&[(setting::MAX_FRAME_SIZE, 16_383)]),
        put(kind::HEADERS, ALL, 1, &[0xbf]),
        vec![0, 0x40, 1, kind::DATA, 0, 0, 0, 0, 1],
    ] {
        let mut end = End::server();
        assert!(is_broken(end.gives_one(&wrong)), "{wrong:?}");
        let said = end.said();
        assert_eq!((said[0].0, said.len()), (kind::GOAWAY, 1), "{wrong:?}");
        assert_eq!(end.gives(&head(1, ALL, &GET)), [], "nothing is read any more");
        assert!(end.link.is_spent());
    }
}

#[test]
fn what_comes_behind_the_end_of_a_stream_is_judged_by_who_ended_it() {
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    end.link.reset(1, Code::CANCEL, &mut end.out);
    end.said();
    let late = [
        data(1, 0, 4),
        head(1, ALL, &[("a", "b")]),
        number(kind::RST_STREAM, 1, 8),
        number(kind::WINDOW_UPDATE, 1, 8),
    ];
    for late in &late {
        assert_eq!(end.gives_one(late), Event::Nothing, "it may not know of our reset yet");
    }
    assert!(end.said().is_empty());
    end.link.second();
    end.link.second();
    assert_eq!(end.gives_one(&data(1, 0, 4)), Event::Nothing);
    assert_eq!(end.said_number(), (kind::RST_STREAM, 1, code::STREAM_CLOSED.0), "now it should");
    let mut end = End::server();
    end.gives(&head(1, ALL, &GET));
    assert_eq!(
        end.gives_one(&data(1, 0, 1)),
        reset(1, code::STREAM_CLOSED),
        "it said itself that nothing follows"
    );
    let mut end = End::server();
    end.gives(&head(1, ALL, &GET));
    end.answers(1, true);
    assert!(is_broken(end.gives_one(&head(1, ALL, &GET))), "a number is used once");
    let mut end = End::server();
    end.gives(&head(5, ALL, &GET));
    assert!(is_broken(end.gives_one(&head(3, ALL, &GET))), "numbers only grow");
}

#[test]
fn early_ends_are_remembered_for_a_moment_and_not_without_bound() {
    let mut end = End::server();
    for stream in (1..).step_by(2).take(3_000) {
        end.gives(&head(stream, HEAD, &POST));
        end.link.reset(stream, Code::CANCEL, &mut end.out);
        end.answers(stream, true);
    }
    end.said();
    assert_eq!(end.gives_one(&data(5_999, 0, 1)), Event::Nothing);
    assert!(end.said().is_empty(), "the newest are known");
    end.gives(&data(1, 0, 1));
    assert_eq!(end.said_number(), (kind::RST_STREAM, 1, code::STREAM_CLOSED.0), "the oldest are not");
}

#[test]
fn resets_are_told_and_forgotten() {
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    let told = Event::Reset { tag: tag(1), code: Code::CANCEL, ours: false };
    assert_eq!(end.gives(&number(kind::RST_STREAM, 1, 8)), [told]);
    assert_eq!((end.link.streams(), end.gives(&number(kind::RST_STREAM, 1, 8))), (0, vec![]));
    end.gives(&head(3, HEAD, &POST));
    end.link.disown(3);
    assert_eq!(end.gives(&number(kind::RST_STREAM, 3, 8)), [], "nobody wants to hear of it");
}

#[test]
fn a_goodbye_is_a_wish_and_then_for_good() {
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    end.said();
    end.link.retire(false, &mut end.out);
    let said = end.said();
    assert_eq!(
        (said[0].0, &said[0].3[..4], said[1].0),
        (kind::GOAWAY, &[0x7f, 0xff, 0xff, 0xff][..], kind::PING)
    );
    let question = said[1].3.clone();
    assert!(matches!(end.gives_one(&head(3, HEAD, &POST)), Event::Request { .. }), "it may not know yet");
    assert_eq!(end.gives(&put(kind::PING, flag::ACK, 0, &question)), [Event::Alive]);
    end.link.retire(true, &mut end.out);
    assert_eq!(end.said()[0].3[..4], [0, 0, 0, 3]);
    end.link.retire(true, &mut end.out);
    end.link.retire(false, &mut end.out);
    assert!(end.said().is_empty(), "once");
    for late in [
        head(5, HEAD, &POST),
        data(5, 0, 100),
        number(kind::WINDOW_UPDATE, 5, 9),
        number(kind::RST_STREAM, 5, 8),
    ] {
        assert_eq!(end.gives_one(&late), Event::Nothing, "what comes behind it is passed over: {late:?}");
    }
    assert!(end.said().is_empty());
    assert_eq!(end.gives(&data(3, flag::END_STREAM, 9)).len(), 1, "the others go on");
    end.answers(3, true);
    assert_eq!(end.link.streams(), 1);
}

#[test]
fn an_endpoints_goodbye_tells_what_it_did_not_process() {
    let mut end = End::client();
    for _ in 0..4 {
        end.asks(false);
    }
    assert!(end.link.room() > 0);
    assert_eq!(end.gives(&goaway(0x7fff_ffff)), [Event::Retired]);
    let mut tags = Vec::new();
    end.link.unprocessed(&mut tags);
    assert!(tags.is_empty() && end.link.is_spent() && end.link.room() == 0);
    assert_eq!(end.gives(&goaway(3)), [Event::Retired]);
    end.link.unprocessed(&mut tags);
    tags.sort_by_key(|tag| tag.0);
    assert_eq!((tags, end.link.streams()), (vec![Tag(2), Tag(3)], 2));
    assert_eq!(end.gives(&head(7, ALL, &OK)), [], "an answer that was not to come is nobody's");
    assert_eq!(end.gives(&goaway(99)), [Event::Retired]);
    let mut tags = Vec::new();
    end.gives(&goaway(1));
    end.link.unprocessed(&mut tags);
    assert_eq!(tags, [Tag(1)], "a goodbye may only take back");
}

#[test]
fn streams_at_once_are_bounded_on_both_sides() {
    let mut end = End::client_with(&[(setting::MAX_CONCURRENT_STREAMS, 2)]);
    assert_eq!(end.link.room(), 2);
    let one = end.asks(true);
    end.asks(true);
    assert_eq!(end.link.room(), 0);
    end.gives(&head(one, ALL, &OK));
    assert_eq!(end.link.room(), 1);
    end.gives(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]));
    assert_eq!(end.link.room(), 0);
    end.gives(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 7)]));
    assert_eq!(end.link.room(), 6);
    let mut end = End::server_with(&LinkSettings { streams_max: 2, ..LinkSettings::default() });
    end.gives(&[head(1, HEAD, &POST), head(3, HEAD, &POST)].concat());
    end.said();
    assert_eq!(end.gives(&head(5, HEAD, &POST)), []);
    assert_eq!(end.said_number(), (kind::RST_STREAM, 5, Code::REFUSED.0));
}

#[test]
fn a_head_may_come_in_pieces_but_not_for_ever() {
    let whole = block(&GET);
    let mut end = End::server();
    let (first, rest) = whole.split_at(3);
    let bytes = [
        put(kind::HEADERS, flag::END_STREAM, 1, first),
        put(kind::CONTINUATION, 0, 1, b""),
        put(kind::CONTINUATION, HEAD, 1, rest),
    ];
    assert_eq!(end.gives(&bytes[..2].concat()), []);
    assert!(end.link.is_midway(&[]) && end.link.held() > 0);
    assert_eq!(end.gives(&bytes[2]), [Event::Request { stream: 1, end: true, bodiless: false }]);
    for between in [
        data(1, 0, 1),
        head(3, ALL, &GET),
        put(kind::PING, 0, 0, &[0; 8]),
        put(kind::CONTINUATION, HEAD, 3, rest),
    ] {
        let mut end = End::server();
        end.gives(&bytes[0]);
        assert!(is_broken(end.gives_one(&between)), "{between:?}");
    }
    let mut end = End::server();
    end.gives(&bytes[0]);
    let mut frames = 0;
    while !end.gives(&put(kind::CONTINUATION, 0, 1, b"")).iter().copied().any(is_broken) {
        frames += 1;
        assert!(frames < 100, "a head that never ends");
    }
    let mut end = End::server();
    end.gives(&bytes[0]);
    let mut held = 0;
    while !end.gives(&put(kind::CONTINUATION, 0, 1, &[0; 16_384])).iter().copied().any(is_broken) {
        held += 1;
        assert!(held < 10, "{held} pieces are held");
    }
}

#[test]
fn a_body_is_as_long_as_was_told() {
    let told = |len: &'static str| [POST[0], POST[1], POST[2], POST[3], ("content-length", len)];
    for (wrong, answered) in [
        (head(1, ALL, &told("1")), None),
        ([head(1, HEAD, &told("5")), data(1, 0, 6)].concat(), Some(reset(1, Code::PROTOCOL))),
        ([head(1, HEAD, &told("5")), data(1, flag::END_STREAM, 4)].concat(), Some(reset(1, Code::PROTOCOL))),
        (
            [head(1, HEAD, &told("5")), data(1, 0, 4), head(1, ALL, &[])].concat(),
            Some(reset(1, Code::PROTOCOL)),
        ),
    ] {
        let mut end = End::server();
        let events = end.gives(&wrong);
        assert_eq!(events.iter().copied().find(|event| matches!(event, Event::Reset { .. })), answered);
        assert_eq!(end.said_number(), (kind::RST_STREAM, 1, Code::PROTOCOL.0));
    }
    let mut end = End::server();
    let right = [head(1, HEAD, &told("5")), data(1, 0, 2), data(1, flag::END_STREAM, 3)].concat();
    assert_eq!(end.gives(&right).len(), 3);
    let length = [(":status", "200"), ("content-length", "5")];
    let mut end = End::client();
    let stream = end.asks_by("HEAD", true);
    assert_eq!(end.gives(&head(stream, ALL, &length)).len(), 1, "an answer to HEAD tells what it would have");
    let mut end = End::client();
    let stream = end.asks_by("HEAD", true);
    let events = end.gives(&[head(stream, HEAD, &length), data(stream, flag::END_STREAM, 5)].concat());
    assert!(matches!(events[1], Event::Reset { ours: true, .. }), "and has nothing: {events:?}");
    let mut end = End::client();
    let stream = end.asks(true);
    assert!(matches!(end.gives_one(&head(stream, ALL, &length)), Event::Reset { ours: true, .. }));
}

#[test]
fn floods_are_told_from_work() {
    let ping = put(kind::PING, 0, 0, &[0; 8]);
    for flood in
        [ping.clone(), settings(&[]), put(0xbe, 0, 0, b""), put(kind::PRIORITY, 0, 9, &[0, 0, 0, 0, 1])]
    {
        let mut end = End::server();
        let broken = (0..1_100).find(|_| end.gives(&flood).iter().copied().any(is_broken));
        assert!(broken.is_some_and(|at| at > 900), "{broken:?}: {flood:?}");
        assert_eq!(end.said().last().map(|frame| frame.3[7]), Some(Code::CALM.0 as u8));
    }
    let mut end = End::server();
    for _ in 0..100 {
        for _ in 0..100 {
            assert!(!is_broken(end.gives_one(&ping)));
        }
        end.link.second();
    }
    let mut end = End::server();
    end.gives(&head(1, HEAD, &POST));
    let broken = (0..1_100).find(|_| is_broken(end.gives(&data(1, 0, 1)).pop().unwrap_or(Event::Nothing)));
    assert!(broken.is_some(), "bytes one by one");
}

#[test]
fn hasty_and_wrong_streams_are_not_borne_for_ever() {
    let flood = |bytes: &dyn Fn(u32) -> Vec<u8>, answers: bool| {
        let mut end = End::server();
        (0..3_000u32).find(|at| {
            let broken = end.gives(&bytes(2 * at + 1)).iter().copied().any(is_broken);
            if answers {
                end.answers(2 * at + 1, true);
            }
            broken
        })
    };
    let rapid = |stream| [head(stream, HEAD, &POST), number(kind::RST_STREAM, stream, 8)].concat();
    assert!(flood(&rapid, false).is_some_and(|at| at >= 999));
    assert_eq!(flood(&|stream| head(stream, ALL, &GET), true), None, "work is");
    let provoked = |stream| [head(stream, HEAD, &POST), number(kind::WINDOW_UPDATE, stream, 0)].concat();
    assert!(flood(&provoked, false).is_some_and(|at| at == 100), "resets that we are made to send");
}

#[test]
fn a_request_that_is_too_large_is_answered_and_the_connection_goes_on() {
    let mut end = End::server();
    let many: Vec<(&str, &str)> = GET.into_iter().chain([("a", "b"); 120]).collect();
    let event = end.gives_one(&head(1, ALL, &many));
    assert_eq!(event, Event::Fault { stream: 1, fault: Fault::HeadTooLarge });
    assert_eq!(end.slot(Slot::Method).as_deref(), Some("GET"), "what its answer may be is known");
    end.link.disown(1);
    end.answers(1, true);
    assert_eq!(end.link.streams(), 0);
    assert!(matches!(end.gives_one(&head(3, ALL, &GET)), Event::Request { .. }));
}
