//! Attachments changed on their way: what is set is read again, what goes is gone, and everything else stays byte for byte.
//!
//! The frames are those that real programs wrote.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod common;

use common::{FRAME_MAX, all_captured, call, frame, map};
use outrigger_codec::{Change, FrameCodec as _, FrameKind, Head, HeadIndex, Scan, Wants, change::Line};
use outrigger_dubbo::Dubbo;

fn set(name: &str, value: &str) -> Change {
    Change { set: vec![Line::new(name, value)], ..Change::default() }
}

fn remove(name: &str) -> Change {
    Change { remove: vec![name.as_bytes().into()], ..Change::default() }
}

fn changed(frame: &[u8], change: &Change) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let done = Dubbo::change(frame, change, &mut out);
    assert!(out.starts_with(b"before") && (done || out.len() == 6));
    done.then(|| out.split_off(6))
}

fn field(frame: &[u8], name: &str) -> Option<String> {
    let mut index = HeadIndex::default();
    Dubbo::head(frame, Wants::ALL, &mut index).unwrap();
    let head = Head { bytes: frame, index: &index };
    head.field(name.as_bytes()).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn what_is_set_is_read_and_when_it_goes_again_the_frame_is_as_it_was() {
    let mut requests = 0;
    for (file, original) in all_captured() {
        let Scan::Frame(framed) = Dubbo::scan(&original, FRAME_MAX) else { panic!("{file}") };
        let hessian = original[2] & 0x1f == 2;
        let is_call = matches!(framed.kind, FrameKind::Request | FrameKind::OneWay);
        if !is_call {
            continue;
        }
        let with = changed(&original, &set("x-from", "shop"));
        assert_eq!(with.is_some(), hessian, "{file}");
        let Some(with) = with else { continue };
        requests += 1;
        assert!(matches!(Dubbo::scan(&with, FRAME_MAX), Scan::Frame(it) if it.len == with.len()), "{file}");
        assert_eq!(field(&with, "x-from").as_deref(), Some("shop"), "{file}");
        assert_eq!(changed(&with, &remove("x-from")).unwrap(), original, "{file}");
        let again = changed(&with, &set("x-from", "other")).unwrap();
        assert_eq!(field(&again, "x-from").as_deref(), Some("other"), "{file}");
        assert_eq!(again.len(), with.len() + 1, "{file}: the old one is gone");
    }
    assert!(requests > 20, "{requests}");
}

#[test]
fn an_answer_is_changed_where_it_has_attachments() {
    let mut changes = 0;
    for (file, original) in all_captured() {
        let Scan::Frame(framed) = Dubbo::scan(&original, FRAME_MAX) else { panic!("{file}") };
        if framed.kind != FrameKind::Response {
            continue;
        }
        let has =
            original[2] & 0x1f == 2 && original[3] == 20 && matches!(original.get(16), Some(0x93..=0x95));
        let with = changed(&original, &set("x-from", "shop"));
        assert_eq!(with.is_some(), has, "{file}");
        if let Some(with) = with {
            changes += 1;
            assert!(with.windows(11).any(|run| run == b"\x06x-from\x04sho"), "{file}");
            assert_eq!(Dubbo::outcome(&with), Dubbo::outcome(&original), "{file}");
            assert_eq!(changed(&with, &remove("x-from")).unwrap(), original, "{file}");
        }
    }
    assert!(changes > 5, "{changes}");
}

#[test]
fn no_map_becomes_one_and_what_is_referred_to_stays() {
    let none = call("", &[], &[]);
    let null = call("", &[], &[0x4e]);
    for bare in [none, null] {
        let with = changed(&bare, &set("a", "b")).unwrap();
        assert_eq!(field(&with, "a").as_deref(), Some("b"));
    }
    // A list as a value stays, since something may refer to what is behind it; text of the same map goes.
    let list = [&b"H"[..], b"\x01l", b"\x78", b"\x01t\x01v", b"Z"].concat();
    let with = changed(
        &call("", &[], &list),
        &Change { remove: vec![(*b"l").into(), (*b"t").into()], ..Change::default() },
    );
    assert_eq!(with.unwrap(), call("", &[], b"H\x01l\x78Z"));
}

#[test]
fn what_cannot_be_walked_passes_as_it_is() {
    let whole = call("I", &[0x91], &map(&[("a", "b")]));
    for end in 0..whole.len() - 1 {
        let body = whole.get(16..end.max(16)).unwrap();
        let _ = changed(&whole[..end], &set("a", "c"));
        if let Some(with) = changed(&frame(0xc2, body), &set("a", "c")) {
            // Cut before the attachments it has none, which is a call, too.
            assert_eq!(field(&with, "a").as_deref(), Some("c"), "{end}");
        }
    }
}

fn shorten(frame: &mut [u8], ms: u32) -> bool {
    let mut index = HeadIndex::default();
    Dubbo::head(frame, Wants::TIMEOUT, &mut index).unwrap();
    Dubbo::set_timeout(frame, &index, ms)
}

#[test]
fn a_timeout_that_has_no_place_is_added_and_takes_the_place_of_what_means_nothing() {
    let told = |attachments: &[u8]| {
        let mut call = call("I", &[0x91], attachments);
        assert!(!shorten(&mut call, 250));
        let mut anew = b"before".to_vec();
        let mut index = HeadIndex::default();
        Dubbo::head(&call, Wants::TIMEOUT, &mut index).unwrap();
        // Without a known place it is found by walking.
        let mut walked = Vec::new();
        assert!(Dubbo::add_timeout(&call, &HeadIndex::default(), 250, &mut walked));
        assert_eq!(field(&walked, "timeout").as_deref(), Some("250"));
        assert!(Dubbo::add_timeout(&call, &index, 250, &mut anew));
        let mut anew = anew.split_off(6);
        assert!(matches!(Dubbo::scan(&anew, 1 << 20), Scan::Frame(framed) if framed.len == anew.len()));
        let shown = (field(&anew, "timeout"), field(&anew, "_TO"), field(&anew, "a"));
        assert!(shorten(&mut anew, 20), "the next time it has a place");
        assert_eq!(field(&anew, "timeout").as_deref(), Some("020"));
        shown
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(told(b"N"), (text("250"), None, None));
    assert_eq!(told(b""), (text("250"), None, None));
    assert_eq!(told(&map(&[("a", "b")])), (text("250"), None, text("b")));
    for nothing in ["-1", "0", "soon", ""] {
        assert_eq!(told(&map(&[("timeout", nothing), ("a", "b")])), (text("250"), None, text("b")));
    }
    // A number, as Go writes it: 3000, of both names.
    assert_eq!(
        told(b"H\x07timeout\xd7\x0b\xb8\x03_TO\xd7\x0b\xb8\x01a\x01bZ"),
        (text("250"), None, text("b"))
    );
    // Of another serialization nothing is known.
    let (other, mut out) = (frame(0xc6, b"{}"), Vec::new());
    assert!(!Dubbo::add_timeout(&other, &HeadIndex::default(), 250, &mut out) && out.is_empty());
}

#[test]
fn a_smaller_timeout_is_told_in_place_and_a_larger_one_never() {
    let told = |name: &str, value: &str, ms| {
        let mut call = call("", &[], &map(&[(name, value)]));
        let len = call.len();
        shorten(&mut call, ms);
        assert_eq!(call.len(), len);
        field(&call, name).unwrap()
    };
    assert_eq!(told("timeout", "3000", 250), "0250");
    assert_eq!(told("_TO", "3000", 1), "0001");
    assert_eq!(told("timeout", "100", 250), "100");
    assert_eq!(told("timeout", "-1", 250), "-1");
    assert_eq!(told("timeout", "soon", 250), "soon");
    assert_eq!(told("other", "3000", 250), "3000");
    for (file, original) in all_captured() {
        let mut told = original.clone();
        shorten(&mut told, 1);
        let Scan::Frame(framed) = Dubbo::scan(&told, FRAME_MAX) else { panic!("{file}") };
        if matches!(framed.kind, FrameKind::Request) && matches!(original[2] & 0x1f, 2 | 23) {
            // None at all is said by 0; that stays.
            let before = field(&original, "timeout").filter(|text| text.parse().is_ok_and(|ms: u64| ms > 1));
            let after = before.as_ref().map(|text| format!("{:0width$}", 1, width = text.len()));
            assert_eq!(field(&told, "timeout").filter(|_| before.is_some()), after, "{file}");
        }
    }
}
