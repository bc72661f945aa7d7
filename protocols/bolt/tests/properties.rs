//! What holds for any bytes, any split of them and any frame: the same frames whatever the reads, one verdict that
//! more bytes never change, no panic, and patches that leave a frame whole.
//!
//! The generators must reach deep: random bytes alone are rejected at byte 0, so most of them are frames with
//! damage. Source: the reader and patch rules of `FrameCodec`.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_bolt::{Bolt, hessian_draft};
use outrigger_codec::{FrameCodec, Framed, Head, HeadIndex, Refusal, Scan, Slot, Sniff, Ticket, Wants};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{Draft, captured, encoded, full_map};

const FRAME_MAX: usize = 1 << 20;

fn known_frames() -> Vec<Vec<u8>> {
    let captured = captured().into_iter().map(|frame| frame.bytes);
    captured.chain(encoded().into_iter().map(|(_, bytes)| bytes)).collect()
}

fn draft() -> impl Strategy<Value = Draft> {
    let command = prop_oneof![
        Just((1, 1)),
        Just((2, 1)),
        Just((0, 2)),
        Just((1, 0)),
        Just((0, 0)),
        Just((2, 0)),
        Just((1, 100)),
    ];
    let class = prop_oneof![Just(support::SOFA_REQUEST.as_bytes().to_vec()), vec(any::<u8>(), 0..9)];
    let header = prop_oneof![
        vec(any::<u8>(), 0..40),
        vec((word(), ".{0,12}"), 0..8).prop_map(|pairs| {
            full_map(&pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>())
        }),
    ];
    let fixed = (0_u8..3, command, any::<u32>(), any::<u8>(), 0_u8..128, any::<i32>(), 0_u16..20);
    (fixed, class, header, vec(any::<u8>(), 0..60)).prop_map(|(fixed, class, header, content)| {
        let (version, (kind, command), id, codec, switch, timeout, status) = fixed;
        Draft { version, kind, command, id, codec, switch, timeout, status, class, header, content }
    })
}

/// A header name that counts, or another.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("service".to_owned()),
        Just("sofa_head_target_service".to_owned()),
        Just("sofa_head_method_name".to_owned()),
        Just("sofa_head_response_error".to_owned()),
        "[a-z.]{0,9}",
    ]
}

/// Frames with a few bytes changed and the end cut off, and plain noise.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = (vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), any::<prop::sample::Index>());
    let frames = prop_oneof![
        draft().prop_map(|draft| draft.bytes()),
        prop::sample::select(known_frames()),
        vec(any::<u8>(), 1..80),
    ];
    (frames, damage).prop_map(|(mut bytes, (changes, cut))| {
        for (at, value) in changes {
            // Early bytes decide most: half of the damage goes there.
            let at = if value & 1 == 0 { at.index(bytes.len().min(24)) } else { at.index(bytes.len()) };
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 2);
        bytes
    })
}

/// Reads frames as a connection does, `reads` bytes at a time.
fn frames_of(stream: &[u8], reads: &[usize]) -> Vec<(Framed, Vec<u8>)> {
    let mut read = Vec::new();
    let mut buf = Vec::new();
    let mut wanted = 1;
    let mut reads = reads.iter().copied().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let (taken, later) = rest.split_at(reads.next().unwrap().min(rest.len()));
        buf.extend_from_slice(taken);
        rest = later;
        while buf.len() >= wanted {
            match Bolt::scan(&buf, FRAME_MAX) {
                Scan::Frame(framed) => {
                    read.push((framed, buf.drain(..framed.len).collect()));
                    wanted = 1;
                }
                Scan::Partial { total } => {
                    assert!(total > buf.len());
                    wanted = total;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(buf.is_empty());
    read
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(
        drafts in vec(draft(), 1..6),
        known in vec(prop::sample::select(known_frames()), 0..3),
        reads in vec(1_usize..90, 1..8),
    ) {
        let frames: Vec<Vec<u8>> = drafts.iter().map(Draft::bytes).chain(known).collect();
        let whole: Vec<_> = frames.iter().map(|frame| match Bolt::scan(frame, FRAME_MAX) {
            Scan::Frame(framed) => (framed, frame.clone()),
            other => panic!("{other:?}"),
        }).collect();
        let stream = frames.concat();
        prop_assert_eq!(&frames_of(&stream, &reads), &whole);
        prop_assert_eq!(&frames_of(&stream, &[1]), &whole);
    }

    #[test]
    fn a_verdict_is_final_and_comes_no_later_than_promised(bytes in damaged(), frame_max in 20_usize..400) {
        let last = Bolt::scan(&bytes, frame_max);
        let mut promised = 1;
        for end in 1..=bytes.len() {
            match Bolt::scan(&bytes[..end], frame_max) {
                Scan::Partial { total } => {
                    prop_assert!(total > end);
                    prop_assert!(total >= promised, "promises only grow");
                    promised = total;
                }
                Scan::Frame(framed) => {
                    prop_assert_eq!(last, Scan::Frame(framed));
                    prop_assert_eq!(framed.len, end.min(framed.len));
                    prop_assert!((20..=frame_max).contains(&framed.len));
                }
                early => prop_assert_eq!(last, early, "at {}", end),
            }
        }
    }

    #[test]
    fn no_bytes_make_anything_panic(bytes in damaged(), id in any::<u64>(), ms in any::<u32>()) {
        let mut index = HeadIndex::default();
        let wanted = [Wants::ALL, Wants::NONE, Wants::METHOD, Wants::SERVICE, Wants::FIELDS];
        for wants in wanted {
            index.clear();
            let _ = Bolt::head(&bytes, wants, &mut index);
            let head = Head { bytes: &bytes, index: &index };
            for slot in [Slot::Service, Slot::ServiceKey, Slot::Method, Slot::Version] {
                prop_assert_eq!(head.slot(slot).is_some(), index.slot(slot).is_some(), "spans lie inside");
            }
            for field in &index.fields {
                prop_assert!(field.name.of(&bytes).is_some() && field.value.of(&bytes).is_some());
            }
        }
        let _ = (Bolt::sniff(&bytes), Bolt::lane(&bytes), Bolt::outcome(&bytes));
        let mut out = Vec::new();
        Bolt::heartbeat_ack(&bytes, &mut out);
        Bolt::refuse(Bolt::ticket(&bytes), id, Refusal::Malformed, "why", &mut out);
        Bolt::refuse(Ticket(ms), id, Refusal::NoRoute, "why", &mut out);
        let mut patched = bytes.clone();
        Bolt::set_id(&mut patched, id);
        Bolt::set_timeout(&mut patched, &HeadIndex::default(), ms);
        prop_assert_eq!(patched.len(), bytes.len());
        let _ = hessian_draft::Walker::new(&bytes).value();
        let _ = hessian_draft::target(&bytes, true, true);
    }

    #[test]
    fn a_sniff_agrees_with_the_scan_and_never_turns_back(bytes in damaged()) {
        let mut before = Sniff::More;
        for end in 1..=bytes.len() {
            let now = Bolt::sniff(&bytes[..end]);
            if before != Sniff::More {
                prop_assert_eq!(now, before);
            }
            // The first five (v1) or six (v2) bytes decide.
            prop_assert!(end < 6 || now != Sniff::More);
            if now == Sniff::Yes {
                prop_assert!(end >= usize::from(4 + bytes[0]));
            }
            before = now;
        }
        if matches!(Bolt::scan(&bytes, FRAME_MAX), Scan::Frame(_) | Scan::TooLarge(_)) {
            let version = bytes[usize::from(3 + bytes[0])];
            prop_assert_eq!(before == Sniff::Yes, version == 1);
        }
    }

    #[test]
    fn patches_change_their_field_and_the_checksum_alone(draft in draft(), id in any::<u64>(), ms in any::<u32>()) {
        let mut patched = draft.bytes();
        Bolt::set_id(&mut patched, id);
        let mut expected = Draft { id: id as u32, ..draft };
        prop_assert_eq!(&patched, &expected.bytes());
        Bolt::set_timeout(&mut patched, &HeadIndex::default(), ms);
        expected.timeout = ms.min(i32::MAX as u32) as i32;
        prop_assert_eq!(&patched, &expected.bytes());
        let scanned = Bolt::scan(&patched, FRAME_MAX);
        prop_assert!(matches!(scanned, Scan::Frame(framed) if framed.id == id & 0xffff_ffff), "{:?}", scanned);
    }

    #[test]
    fn header_maps_are_read_as_java_reads_them(
        pairs in vec((word(), "[ a-z:1-9]{0,9}"), 0..12),
        version in 0_u8..3,
    ) {
        let list: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let frame = Draft { version, header: full_map(&list), ..Draft::request() }.bytes();
        let mut index = HeadIndex::default();
        Bolt::head(&frame, Wants::ALL, &mut index).unwrap();
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let fields: Vec<_> = index.fields.iter().map(|field| {
            (text(field.name.of(&frame)).unwrap(), text(field.value.of(&frame)).unwrap())
        }).collect();
        prop_assert_eq!(fields, pairs.clone());

        let map: std::collections::HashMap<_, _> = pairs.into_iter().collect();
        let service = map.get("service").or_else(|| map.get("sofa_head_target_service"));
        let service = service.filter(|service| !service.trim().is_empty()).cloned();
        prop_assert_eq!(text(index.slot(Slot::ServiceKey).of(&frame)), service.clone());
        let parts = service.as_deref().map(|service| service.split_once(':').unwrap_or((service, "\0")));
        prop_assert_eq!(text(index.slot(Slot::Service).of(&frame)), parts.map(|parts| parts.0.to_owned()));
        let rest = parts.map(|parts| parts.1).filter(|rest| *rest != "\0");
        prop_assert_eq!(text(index.slot(Slot::Version).of(&frame)), rest.map(str::to_owned));
        let method = map.get("sofa_head_method_name").filter(|name| !name.trim().is_empty()).cloned();
        prop_assert_eq!(text(index.slot(Slot::Method).of(&frame)), method);
    }
}
