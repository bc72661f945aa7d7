//! The header map changed on its way: what is set is read again, what goes is gone, and everything else stays byte for byte.
//!
//! The frames are those that real programs wrote.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_bolt::Bolt;
use outrigger_codec::{Change, FrameCodec as _, FrameKind, Head, HeadIndex, Scan, Wants, change::Line};
use support::captured;

const FRAME_MAX: usize = 8 << 20;

fn change(set: &[(&str, &str)], remove: &[&str]) -> Change {
    Change {
        set: set.iter().map(|(name, value)| Line::new(name, value)).collect(),
        remove: remove.iter().map(|name| name.as_bytes().into()).collect(),
        ..Change::default()
    }
}

fn changed(frame: &[u8], change: &Change) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let done = Bolt::change(frame, change, &mut out);
    assert!(out.starts_with(b"before") && (done || out.len() == 6));
    done.then(|| out.split_off(6))
}

/// The same frame in the second version of the protocol, with a checksum.
fn second(frame: &[u8]) -> Vec<u8> {
    let request = frame[1] != 0;
    let mut out = vec![2, 2];
    out.extend_from_slice(&frame[1..10]);
    out.push(1);
    out.extend_from_slice(&frame[10..]);
    out.extend_from_slice(&[0; 4]);
    assert_eq!(out[2] != 0, request);
    // Writing an id makes the checksum true.
    Bolt::set_id(&mut out, 9);
    out
}

#[test]
fn what_is_set_is_read_and_when_it_goes_again_the_frame_is_as_it_was() {
    let mut seen = 0;
    for frame in captured() {
        for original in [frame.bytes.clone(), second(&frame.bytes)] {
            let name = &frame.name;
            let Scan::Frame(framed) = Bolt::scan(&original, FRAME_MAX) else { panic!("{name}") };
            if matches!(framed.kind, FrameKind::Heartbeat | FrameKind::HeartbeatAck) {
                continue;
            }
            let with = changed(&original, &change(&[("x-from", "shop")], &[])).expect(name);
            assert!(
                matches!(Bolt::scan(&with, FRAME_MAX), Scan::Frame(it) if it.len == with.len()),
                "{name}"
            );
            assert_eq!(with.len(), original.len() + 8 + 6 + 4, "{name}");
            assert_eq!(changed(&with, &change(&[], &["x-from"])).as_ref(), Some(&original), "{name}");
            if framed.kind == FrameKind::Request {
                seen += 1;
                let mut index = HeadIndex::default();
                Bolt::head(&with, Wants::ALL, &mut index).expect(name);
                let head = Head { bytes: &with, index: &index };
                assert_eq!(head.field(b"x-from"), Some(&b"shop"[..]), "{name}");
            } else if framed.kind == FrameKind::Response {
                assert_eq!(Bolt::outcome(&with), Bolt::outcome(&original), "{name}");
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn a_map_that_is_too_long_or_broken_passes_as_it_is() {
    let frame = captured().into_iter().find(|frame| frame.name.contains("echo")).expect("a call").bytes;
    let long = "x".repeat(1_000);
    let many: Vec<(String, &str)> = (0..40).map(|at| (format!("x-{at}"), long.as_str())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(changed(&frame, &change(&many, &[])), None);
    assert!(changed(&frame, &change(&many[..20], &[])).is_some());
    for end in 0..frame.len() {
        assert_eq!(changed(&frame[..end], &change(&[("a", "b")], &[])), None, "{end}");
    }
}
