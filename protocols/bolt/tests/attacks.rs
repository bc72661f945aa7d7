//! Frames and contents made to hurt: each must end in a clear verdict, quickly, without memory by a declared
//! length and without a panic.
//!
//! Source: the attack list of the threat model (length overflows, truncation, header floods, Hessian bombs).
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use outrigger_bolt::{Bolt, hessian_draft};
use outrigger_codec::{FrameCodec, FrameKind, Framed, Head, HeadIndex, Malformed, Scan, Slot, Sniff, Wants};
use support::{Draft, captured, encoded, encoded_as, full_map, hex, map};

const FRAME_MAX: usize = 8 << 20;

fn head(draft: &Draft, wants: Wants) -> Result<HeadIndex, Malformed> {
    let mut index = HeadIndex::default();
    Bolt::head(&draft.bytes(), wants, &mut index).map(|()| index)
}

fn slot(draft: &Draft, slot: Slot) -> Option<String> {
    let index = head(draft, Wants::ALL).unwrap();
    let bytes = draft.bytes();
    Head { bytes: &bytes, index: &index }.slot(slot).map(|text| String::from_utf8(text.to_vec()).unwrap())
}

#[test]
fn every_truncation_is_partial_and_names_the_whole_length_once_the_header_is_there() {
    let captured = captured().into_iter().map(|frame| frame.bytes);
    for frame in captured.chain(encoded().into_iter().map(|(_, bytes)| bytes)) {
        for end in 0..frame.len() {
            let Scan::Partial { total } = Bolt::scan(&frame[..end], FRAME_MAX) else { panic!("at {end}") };
            assert!(total > end && total <= frame.len());
            assert!(end < 24 || total == frame.len());
            let mut index = HeadIndex::default();
            let _ = Bolt::head(&frame[..end], Wants::ALL, &mut index);
        }
    }
}

#[test]
fn wrong_bytes_are_refused_as_soon_as_they_come() {
    let good = encoded_as("v2 ver2 crc tiny req");
    let at = |offset: usize, byte: u8| {
        let mut frame = good.clone();
        frame[offset] = byte;
        let first =
            (1..=frame.len()).find(|end| matches!(Bolt::scan(&frame[..*end], FRAME_MAX), Scan::Broken(_)));
        first.unwrap_or_else(|| panic!("offset {offset} is never refused"))
    };
    for byte in [0, 3, 0x16, b'G', 0xda, 0xff] {
        assert_eq!(at(0, byte), 1);
        assert_eq!(Bolt::sniff(&[byte]), Sniff::No);
    }
    assert_eq!(at(1, 0), 2);
    assert_eq!(at(1, 3), 2);
    assert_eq!(at(2, 3), 3);
    assert_eq!(at(3, 1), 4);
    assert_eq!(at(4, 2), 5);
    assert_eq!(at(11, 0x80), 12);
    // A class or header length that is negative to Java is known with the whole header: there is an id to answer to.
    for (offset, byte) in [(16, 0x80), (18, 0xff)] {
        let mut frame = good.clone();
        frame[offset] = byte;
        assert!(matches!(Bolt::scan(&frame[..23], FRAME_MAX), Scan::Partial { total: 24 }));
        assert!(matches!(Bolt::scan(&frame[..24], FRAME_MAX), Scan::TooLarge(Framed { id: 9, .. })));
    }
    // The command version is nobody's business, unless the protocol is being guessed.
    let mut frame = encoded_as("v1 tiny req");
    frame[4] = 9;
    assert!(matches!(Bolt::scan(&frame, FRAME_MAX), Scan::Frame(_)));
    assert_eq!(Bolt::sniff(&frame), Sniff::No);
}

#[test]
fn a_wrong_checksum_breaks_the_connection_and_only_where_there_is_one() {
    let good = encoded_as("v2 ver2 crc tiny req");
    for offset in (6..11).chain(12..16).chain(24..good.len()) {
        let mut frame = good.clone();
        frame[offset] ^= 0x10;
        assert_eq!(Bolt::scan(&frame, FRAME_MAX), Scan::Broken(Malformed("crc")), "offset {offset}");
    }
    // With ver1 = 1 the switch means nothing: no checksum follows.
    let frame = Draft { version: 1, switch: 1, ..Draft::request() }.bytes();
    assert_eq!(
        Bolt::scan(&frame, FRAME_MAX),
        Scan::Frame(Framed { len: frame.len(), kind: FrameKind::Request, id: 7 })
    );
}

#[test]
fn lengths_that_overflow_are_refused_from_the_fixed_header_alone() {
    for version in 0..3 {
        for kind in 0..3 {
            let command = if kind == 0 { 2 } else { 1 };
            let draft =
                Draft { version, kind, command, id: 0xffff_fffe, class: Vec::new(), ..Draft::request() };
            let fixed = draft.bytes();
            for content in [0x8000_0000_u32, 0xffff_ffff, 0x7fff_ffff, FRAME_MAX as u32] {
                let mut frame = fixed.clone();
                let at = frame.len() - 4;
                frame[at..].copy_from_slice(&content.to_be_bytes());
                // The largest class and header beside it must not bend the sum.
                frame[at - 4..at].copy_from_slice(&[0x7f, 0xff, 0x7f, 0xff]);
                let Scan::TooLarge(framed) = Bolt::scan(&frame, FRAME_MAX) else { panic!("{content:#x}") };
                assert_eq!(framed.id, 0xffff_fffe);
                assert_eq!(framed.len, frame.len() + 2 * 0x7fff + content as usize);
                assert!(matches!(Bolt::scan(&frame[..at + 3], FRAME_MAX), Scan::Partial { .. }));
            }
        }
    }
    // Negative for Java even where `frame_max` would allow it.
    let mut frame = Draft { class: Vec::new(), ..Draft::request() }.bytes();
    frame[18] = 0x80;
    assert!(matches!(Bolt::scan(&frame, usize::MAX), Scan::TooLarge(_)));
    // Exactly the bound is allowed, one byte more is not.
    let frame = Draft { content: vec![0; 100], ..Draft::request() }.bytes();
    assert!(matches!(Bolt::scan(&frame, frame.len()), Scan::Frame(_)));
    assert!(matches!(Bolt::scan(&frame, frame.len() - 1), Scan::TooLarge(_)));
}

#[test]
fn a_broken_map_refuses_only_a_sofa_request_of_which_something_inside_is_wanted() {
    let service = full_map(&[("service", "a.B:1.0")]);
    let mut long = service.clone();
    long[3] = 0xf0;
    let broken = [
        [service.as_slice(), &[0]].concat(),
        [service.as_slice(), &[0, 0, 0]].concat(),
        [service.as_slice(), &[0, 0, 0, 1]].concat(),
        [service.as_slice(), &[0, 0, 0, 1, b'k']].concat(),
        [service.as_slice(), &[0x7f, 0xff, 0xff, 0xff, b'k']].concat(),
        [service.as_slice(), &[0xff, 0xff, 0xff, 0xfe, b'k']].concat(),
        service[..service.len() - 1].to_vec(),
        long,
    ];
    for header in broken {
        let sofa = Draft { header, ..Draft::request() };
        for wants in [Wants::SERVICE, Wants::METHOD, Wants::VERSION, Wants::FIELDS, Wants::ALL] {
            assert!(head(&sofa, wants).is_err());
        }
        for wants in [Wants::NONE, Wants::TIMEOUT, Wants::GROUP, Wants::TARGET] {
            assert_eq!(head(&sofa, wants).unwrap().timeout_ms, Some(3000));
        }
        let other = Draft { class: b"com.example.Ping".to_vec(), ..sofa };
        let index = head(&other, Wants::ALL).unwrap();
        assert!(index.fields.is_empty() && !index.slot(Slot::Service).is_some());
    }
}

#[test]
fn nulls_drop_their_pair_and_the_last_of_two_keys_counts() {
    let header = map(&[
        (Some("service"), Some("first.Name:1.0")),
        (None, Some("service")),
        (Some("sofa_head_method_name"), Some("one")),
        (Some("service"), Some("second.Name:2.0:uid")),
        (Some("service"), None),
        (Some("sofa_head_method_name"), Some("two")),
        (None, None),
        (Some("sofa_head_target_service"), Some("third.Name:3.0")),
    ]);
    let call = Draft { header, ..Draft::request() };
    assert_eq!(slot(&call, Slot::Service).as_deref(), Some("second.Name"));
    assert_eq!(slot(&call, Slot::Version).as_deref(), Some("2.0:uid"));
    assert_eq!(slot(&call, Slot::ServiceKey).as_deref(), Some("second.Name:2.0:uid"));
    assert_eq!(slot(&call, Slot::Method).as_deref(), Some("two"));
    assert_eq!(head(&call, Wants::ALL).unwrap().fields.len(), 5);
}

#[test]
fn a_blank_service_is_none_and_an_absent_one_is_the_target_service() {
    let call = |pairs: &[(&str, &str)]| Draft { header: full_map(pairs), ..Draft::request() };
    let target = ("sofa_head_target_service", "a.B:1.0");
    assert_eq!(slot(&call(&[target]), Slot::Service).as_deref(), Some("a.B"));
    assert_eq!(slot(&call(&[("service", " \t"), target]), Slot::Service), None);
    let plain = call(&[("service", "a.B")]);
    assert_eq!(slot(&plain, Slot::Service).as_deref(), Some("a.B"));
    assert_eq!(slot(&plain, Slot::Version), None);
    let empty = call(&[("service", "a.B:")]);
    assert_eq!(slot(&empty, Slot::Version).as_deref(), Some(""));
}

#[test]
fn a_flood_of_headers_is_refused_only_where_headers_are_wanted() {
    let flood = |pairs: usize| Draft {
        header: full_map(&[[("service", "a.B:1.0")].as_slice(), &vec![("", ""); pairs]].concat()),
        ..Draft::request()
    };
    // As many pairs as 32767 bytes hold; 64 k of them cannot be declared at all.
    let most = flood(4090);
    assert!(most.header.len() <= 32767);
    assert!(head(&most, Wants::FIELDS).is_err());
    assert_eq!(head(&most, Wants::SERVICE).unwrap().fields.len(), 0);
    assert_eq!(head(&flood(1023), Wants::ALL).unwrap().fields.len(), 1024);
    assert!(head(&flood(1024), Wants::ALL).is_err());

    let mut frame = Draft { header: vec![0; 16], ..Draft::request() }.bytes();
    frame[16..18].copy_from_slice(&[0xff, 0xff]);
    assert!(matches!(Bolt::scan(&frame, FRAME_MAX), Scan::TooLarge(_)), "refused by its id, unread");
}

#[test]
fn timeouts_are_none_unless_positive() {
    for (timeout, expected) in
        [(0, None), (-1, None), (i32::MIN, None), (1, Some(1)), (i32::MAX, Some(i32::MAX as u32))]
    {
        let call = Draft { timeout, ..Draft::request() };
        assert_eq!(head(&call, Wants::TIMEOUT).unwrap().timeout_ms, expected);
    }
}

/// The definition of a request class with these fields, and the start of its instance.
fn object(fields: &[&str]) -> Vec<u8> {
    let mut out = vec![b'O', 0x91, b'R', 0x90 + fields.len() as u8];
    for field in fields {
        out.push(field.len() as u8);
        out.extend(field.bytes());
    }
    out.extend([b'o', 0x90]);
    out
}

#[test]
fn the_content_is_asked_only_for_what_is_missing_and_only_where_it_can_be_read() {
    let content = [object(&["methodName", "targetServiceUniqueName"]), hex("0268690561 3a322e30")].concat();
    let bare = Draft { content: content.clone(), ..Draft::request() };
    assert_eq!(slot(&bare, Slot::Method).as_deref(), Some("hi"));
    assert_eq!(slot(&bare, Slot::Service).as_deref(), Some("a"));
    assert_eq!(slot(&bare, Slot::Version).as_deref(), Some("2.0"));
    assert_eq!(slot(&Draft { codec: 4, ..bare.clone() }, Slot::Method).as_deref(), Some("hi"));
    // The header map goes before the content.
    let named =
        Draft { header: full_map(&[("service", "b:1"), ("sofa_head_method_name", "ho")]), ..bare.clone() };
    assert_eq!(slot(&named, Slot::Method).as_deref(), Some("ho"));
    assert_eq!(slot(&named, Slot::Service).as_deref(), Some("b"));
    // Another serialization, another class, the final Hessian 2.0: nothing inside is known, nothing is refused.
    let mut final_grammar = bare.clone();
    final_grammar.content[0] = b'C';
    let json = Draft { codec: 12, ..bare.clone() };
    let other = Draft { class: b"com.example.Ping".to_vec(), ..bare.clone() };
    let empty = Draft { content: Vec::new(), ..bare.clone() };
    for call in [final_grammar, json, other, empty] {
        assert_eq!(slot(&call, Slot::Method), None);
        assert_eq!(slot(&call, Slot::Service), None);
    }
    // Null names nothing.
    let null = Draft { content: [object(&["methodName"]), vec![b'N']].concat(), ..bare };
    assert_eq!(slot(&null, Slot::Method), None);
    // Every truncation of what must be read is an error, and one that needs no reading is not.
    for end in 1..content.len() {
        let cut = Draft { content: content[..end].to_vec(), ..Draft::request() };
        assert!(head(&cut, Wants::SERVICE.and(Wants::METHOD)).is_err(), "at {end}");
        assert!(head(&cut, Wants::FIELDS).is_ok());
    }
}

/// Walks `hostile` as a value, and as a field that stands before the method.
fn refused(hostile: &[u8]) -> Malformed {
    let alone = hessian_draft::Walker::new(hostile).value().unwrap_err();
    let content = [object(&["x", "methodName"]).as_slice(), hostile].concat();
    assert!(hessian_draft::target(&content, true, false).is_err());
    let call = Draft { content, ..Draft::request() };
    assert!(head(&call, Wants::METHOD).is_err());
    alone
}

#[test]
fn hessian_bombs_end_in_an_error() {
    let deep = Malformed("hessian: nested too deep");
    assert_eq!(refused(&b"V".repeat(10_000)), deep);
    assert_eq!(refused(&b"M".repeat(10_000)), deep);
    assert_eq!(refused(&[0x76, 0x90, 0x91].repeat(10_000)), deep);
    // An object inside an object inside an object …
    let nested = [hex("4f 91 41 91 01 61"), [b'o', 0x90].repeat(10_000)].concat();
    assert_eq!(refused(&nested), deep);
    // … and lists closed in good order up to the bound.
    let closed = |depth: usize| [b"V".repeat(depth), b"z".repeat(depth)].concat();
    assert!(hessian_draft::Walker::new(&closed(hessian_draft::DEPTH_MAX)).value().is_ok());
    assert!(hessian_draft::Walker::new(&closed(hessian_draft::DEPTH_MAX + 1)).value().is_err());

    let impossible = Malformed("hessian: impossible count");
    for bomb in [
        "76 90 49 7fffffff 91",       // a list of 2^31 - 1
        "76 90 49 ffffffff 91",       // of -1
        "4f 49 7fffffff 41 91",       // a class name of 2^31 - 1
        "4f 91 41 49 7fffffff 01 61", // 2^31 - 1 fields
        "4f 91 41 49 80000000",       // -2^31 fields
        "76 90 4e",                   // a count that is no int
    ] {
        assert_eq!(refused(&hex(bomb)), impossible, "{bomb}");
    }
    for bomb in [
        "6f 90",
        "6f 8f",
        "6f 49 7fffffff", // no such class (inside the request: its own, without end)
        "53 ffff 61",
        "73 0001 61",
        "73 0001 61 42 0000", // strings cut off, or going on as something else
        "01 f0 9f 98 80",
        "01 80", // four-byte UTF-8, a stray continuation
        "62 0001 00",
        "62 0000 53 0000", // binaries alike
        "7a",
        "4d 91",
        "44 00",
        "41",
        "72", // an end without a begin, a map without one, half a double
    ] {
        let bytes = hex(bomb);
        assert!(hessian_draft::Walker::new(&bytes).value().is_err(), "{bomb}");
    }
}

#[test]
fn floods_of_values_and_classes_are_bounded() {
    let classes = hex("4f 91 41 90").repeat(hessian_draft::DEFINITIONS_MAX + 1);
    assert_eq!(refused(&classes), Malformed("hessian: too many classes"));
    let values = [b"V".as_slice(), &b"N".repeat(hessian_draft::VALUES_MAX as usize + 1), b"z"].concat();
    assert_eq!(refused(&values), Malformed("hessian: too many values"));
    // Empty chunks without end are read in a loop, not in a recursion.
    let chunks = [[b's', 0, 0].repeat(1 << 20), vec![b'S', 0, 0]].concat();
    let mut walker = hessian_draft::Walker::new(&chunks);
    assert!(walker.value().is_ok());
    assert_eq!(walker.position(), chunks.len());
    // A reference to anything is stepped over, never followed.
    assert!(hessian_draft::Walker::new(&hex("52 7fffffff")).value().is_ok());
}

#[test]
fn names_that_cannot_be_pointed_at_are_refused() {
    let chunked = [object(&["methodName"]), hex("73 0001 61 01 62")].concat();
    assert_eq!(hessian_draft::target(&chunked, true, false), Err(Malformed("hessian: name in chunks")));
    let number = [object(&["methodName"]), hex("91")].concat();
    assert!(hessian_draft::target(&number, true, false).is_err());
    // A surrogate of its own is a name like another: bytes are compared, nothing is decoded.
    let surrogate = [object(&["methodName"]), hex("01 eda080")].concat();
    assert!(hessian_draft::target(&surrogate, true, false).unwrap().method.is_some());
}
