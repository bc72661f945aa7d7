//! What holds for any bytes and any way they arrive in.
//!
//! A stream cut anywhere gives the same frames; no bytes at all make an entry point panic; an id that was written
//! is the id that is read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod common;

use std::sync::LazyLock;

use common::{FRAME_MAX, all_captured};
use outrigger_codec::{
    Change, FrameCodec as _, Head, HeadIndex, Refusal, Scan, Slot, Ticket, Wants, change::Line,
};
use outrigger_dubbo::values::Values as _;
use outrigger_dubbo::{Dubbo, fastjson2, hessian};
use proptest::prelude::*;

static CAPTURED: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| all_captured().into_iter().map(|(_, frame)| frame).collect());

/// Takes whole frames off the front of `buffer`.
fn drain(buffer: &mut Vec<u8>, frames: &mut Vec<Vec<u8>>) {
    loop {
        match Dubbo::scan(buffer, FRAME_MAX) {
            Scan::Frame(found) => frames.push(buffer.drain(..found.len).collect()),
            Scan::Partial { total } => {
                assert!(total > buffer.len());
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Calls every entry point; what they answer is not the point.
fn poke(bytes: &mut [u8]) {
    for frame_max in [0, 16, 64, FRAME_MAX, usize::MAX] {
        match Dubbo::scan(bytes, frame_max) {
            Scan::Frame(framed) => assert!((16..=frame_max.min(bytes.len())).contains(&framed.len)),
            Scan::Partial { total } => assert!(total > bytes.len()),
            Scan::TooLarge(framed) => assert!(framed.len > frame_max || framed.len > i32::MAX as usize),
            Scan::Broken(_) => {}
        }
    }
    let mut index = HeadIndex::default();
    for wants in [Wants::ALL, Wants::TIMEOUT, Wants::SERVICE, Wants::GROUP] {
        index.clear();
        let read = Dubbo::head(bytes, wants, &mut index);
        assert!(read.is_ok() || wants != Wants::TIMEOUT, "a timeout is never worth a refusal");
        let head = Head { bytes, index: &index };
        for slot in [Slot::Service, Slot::Version, Slot::Method, Slot::Group] {
            assert_eq!(index.slot(slot).is_some(), head.slot(slot).is_some(), "a span lies inside the frame");
        }
        assert!(index.fields.iter().all(|one| one.name.of(bytes).is_some() && one.value.of(bytes).is_some()));
    }
    let mut out = Vec::new();
    Dubbo::heartbeat_ack(bytes, &mut out);
    assert!(out.len() <= 16 + 64);
    if !bytes.is_empty() {
        Dubbo::sniff(bytes);
    }
    Dubbo::outcome(bytes);
    Dubbo::ticket(bytes);
    Dubbo::lane(bytes);
    Dubbo::set_timeout(bytes, &index, 1);
    let mut changed = vec![7];
    let change = Change { set: vec![Line::new("a", "b")], ..Change::default() };
    assert!(Dubbo::change(bytes, &change, &mut changed) || changed == [7], "half a frame");
    Dubbo::set_id(bytes, 1);
    let mut hessian = hessian::Walker::new(bytes, 0);
    while hessian.skip().is_ok() {}
    let mut jsonb = fastjson2::Walker::new(bytes, 0);
    while jsonb.read().is_ok() {}
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_frames(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        cuts in prop::collection::vec(1_usize..700, 1..40),
    ) {
        let chosen: Vec<Vec<u8>> = picks.iter().map(|pick| pick.get(&CAPTURED).clone()).collect();
        let mut rest = &chosen.concat()[..];
        let (mut buffer, mut frames) = (Vec::new(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            buffer.extend_from_slice(piece);
            drain(&mut buffer, &mut frames);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(frames, chosen);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        poke(&mut bytes);
    }

    #[test]
    fn arbitrary_bodies_never_panic(flags in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..512)) {
        poke(&mut common::frame(flags, &body));
    }

    #[test]
    fn frames_with_a_few_bytes_changed_never_panic(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = pick.get(&CAPTURED).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        poke(&mut bytes.clone());
        bytes.truncate(cut.index(bytes.len()));
        poke(&mut bytes);
    }

    #[test]
    fn an_id_that_is_set_is_read(pick in any::<prop::sample::Index>(), id in any::<u64>()) {
        let original = pick.get(&CAPTURED);
        let mut bytes = original.clone();
        Dubbo::set_id(&mut bytes, id);
        let Scan::Frame(framed) = Dubbo::scan(&bytes, FRAME_MAX) else { panic!("no frame") };
        prop_assert_eq!(framed.id, id);
        prop_assert_eq!(&bytes[..4], &original[..4]);
        prop_assert_eq!(&bytes[12..], &original[12..], "nothing but the id changed");
    }

    #[test]
    fn a_refusal_is_one_whole_response(serialization in 0_u32..40, id in any::<u64>(), message in any::<String>()) {
        for why in Refusal::ALL {
            let mut out = Vec::new();
            Dubbo::refuse(Ticket(serialization), id, why, &message, &mut out);
            let Scan::Frame(framed) = Dubbo::scan(&out, FRAME_MAX) else { panic!("no frame") };
            prop_assert_eq!((framed.len, framed.id), (out.len(), id));
            prop_assert_eq!(framed.kind, outrigger_codec::FrameKind::Response);
            if out[2] == 2 {
                let mut walker = hessian::Walker::new(&out, 16);
                walker.skip().unwrap();
                prop_assert!(walker.is_at_end());
            } else {
                prop_assert_eq!(out[2], 23);
                let mut walker = fastjson2::Walker::new(&out, 16);
                walker.read().unwrap();
                prop_assert_eq!(walker.at(), out.len());
            }
        }
    }
}
