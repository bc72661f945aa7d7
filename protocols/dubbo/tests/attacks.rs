//! Bodies made to hurt whoever reads them: refused when a part behind them is wanted, harmless otherwise.
//!
//! Each attack stands where an argument would, so that the names before it can still be read. None of them may
//! cost more than a walk over its own bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use common::{FRAME_MAX, call, captured, frame, head, map, string, strings};
use outrigger_codec::{FrameCodec as _, FrameKind, Framed, HeadIndex, Malformed, Scan, Wants};
use outrigger_dubbo::Dubbo;

const NAMES: Wants = Wants::SERVICE.and(Wants::METHOD).and(Wants::VERSION);

/// Nanoseconds that this thread has had of the processor: the machine may have other work.
fn spent() -> u64 {
    let said = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    said.split(' ').next().unwrap().parse().unwrap()
}

fn since(start: u64) -> Duration {
    Duration::from_nanos(spent().saturating_sub(start))
}

/// What never grows could not exceed a limit.
#[test]
fn this_kernel_counts_what_a_thread_has_had() {
    let began = Instant::now();
    while spent() == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "a minute of work counts as none");
    }
}

/// The attack is refused for `why` by a route that asks for the group, and seen by nobody else.
fn refused(frame: &[u8], why: &str) {
    let start = spent();
    assert_eq!(head(frame, Wants::ALL).unwrap_err().0, why);
    assert_eq!(head(frame, Wants::GROUP).unwrap_err().0, why);
    assert_eq!(head(frame, Wants::FIELDS).unwrap_err().0, why);
    let names = head(frame, NAMES.and(Wants::TIMEOUT)).unwrap();
    assert_eq!(names.service.as_deref(), Some("a.B"));
    assert_eq!(names.method.as_deref(), Some("m"));
    assert_eq!(names.timeout_ms, None, "a timeout that cannot be reached is none");
    assert!(since(start) < Duration::from_secs(2));
}

fn attack(argument: &[u8], why: &str) {
    refused(&call("Ljava/lang/Object;", argument, &map(&[("timeout", "5"), ("group", "g")])), why);
}

#[test]
fn nesting_is_bounded() {
    attack(&[0x79; 10_000], "values nested too deep");
    attack(&[0x57; 10_000], "values nested too deep");
    attack(&[0x48; 10_000], "values nested too deep");
    let just = [vec![0x79; 64], vec![0x90]].concat();
    let read = head(&call("Ljava/lang/Object;", &just, &map(&[("group", "g")])), Wants::ALL).unwrap();
    assert_eq!(read.group.as_deref(), Some("g"), "as deep as allowed");
    attack(&[vec![0x79; 65], vec![0x90]].concat(), "values nested too deep");
}

#[test]
fn declared_counts_must_fit() {
    let why = "count larger than the body";
    attack(b"\x58\x49\x7f\xff\xff\xff", why);
    attack(b"\x58\x49\x80\0\0\0", why);
    attack(b"\x58\x49\xff\xff\xff\xff", why);
    attack(b"\x56\x05[long\x49\x7f\xff\xff\xff", why);
    attack(b"\x43\x01A\x49\x7f\xff\xff\xff", why);
    attack(b"\x43\x01A\x80", why);
    attack(b"\x53\xff\xffabc", "body ends inside a value");
    attack(b"\x42\xff\xffabc", "body ends inside a value");
}

#[test]
fn definitions_are_bounded() {
    attack(&b"\x43\x01A\x90".repeat(100_000), "too many hessian class definitions");
    // Many fields, named once, then objects of them: each object must still fit into what is left.
    let mut bomb = b"\x43\x01A\xd4\x08\x00".to_vec();
    bomb.extend(b"\x00".repeat(2048));
    bomb.push(0x60);
    attack(&[&bomb[..], &b"\x4e".repeat(1000)].concat(), "count larger than the body");
    attack(&[&bomb[..], &b"\x60".repeat(3000)].concat(), "values nested too deep");
    attack(b"\x60", "hessian class definition out of range");
    attack(b"\x43\x01A\x90\x61", "hessian class definition out of range");
    attack(b"\x4f\x49\x7f\xff\xff\xff", "hessian class definition out of range");
}

#[test]
fn elements_and_references_are_bounded() {
    let list = |item: &[u8], count: usize| {
        [b"\x58\x49", &(count as u32).to_be_bytes()[..], &item.repeat(count)].concat()
    };
    attack(&list(b"\x90", 1_100_000), "too many values");
    attack(&list(b"\x51\x90", 70_000), "too many references");
    let fair = list(b"\x51\x90", 60_000);
    let read = head(&call("Ljava/util/List;", &fair, &map(&[("group", "g")])), Wants::ALL).unwrap();
    assert_eq!(read.group.as_deref(), Some("g"));
}

#[test]
fn references_and_types_stay_in_range_and_are_never_followed() {
    attack(b"\x51\x90", "hessian reference out of range");
    attack(b"\x79\x51\x49\x7f\xff\xff\xff", "hessian reference out of range");
    attack(b"\x79\x51\x8f", "hessian reference out of range");
    attack(b"\x71\x95\x90", "hessian type out of range");
    // A list that holds itself many times over describes a tree without end.
    let cycle = [&b"\x7f"[..], &b"\x51\x90".repeat(7)].concat();
    let read = head(&call("Ljava/util/List;", &cycle, &map(&[("group", "g")])), Wants::ALL).unwrap();
    assert_eq!(read.group.as_deref(), Some("g"));
}

#[test]
fn bytes_that_begin_no_value_are_refused() {
    for lead in [0x40, 0x45, 0x47, 0x50, 0x5a] {
        attack(&[lead], "byte that begins no hessian value");
    }
    attack(b"\x01\xff", "hessian string is not text");
    attack(b"\x02a\x80", "hessian string is not text");
    attack(b"\x52\0\x01a\x90", "hessian string expected");
    attack(b"\x41\0\x01a\x01b", "hessian binary chunk expected");
}

#[test]
fn descriptors_are_checked() {
    for descriptor in ["Ljava/lang/String", "[", "X", "java.lang.String", "II["] {
        refused(&call(descriptor, b"\x90\x90", &map(&[])), "parameter descriptor is malformed");
    }
    let null = frame(0xc2, &[&["2.0.2", "a.B", "1.0", "m"].map(string).concat()[..], b"\x4e\x4e"].concat());
    refused(&null, "parameter descriptor is malformed");
    // More parameters than values: the walk runs into the attachments and beyond.
    refused(&call("III", b"\x90", &map(&[("group", "g")])), "body ends inside a value");
}

#[test]
fn attachments_are_a_map_a_null_or_nothing() {
    for absent in [&b""[..], b"\x4e"] {
        let read = head(&call("I", b"\x90", absent), Wants::ALL).unwrap();
        assert_eq!((read.service.as_deref(), read.fields.len(), read.timeout_ms), (Some("a.B"), 0, None));
    }
    refused(&call("I", b"\x90", b"\x79\x90"), "attachments are not a map");
    refused(&call("I", b"\x90", b"\x48\x01a\x01b"), "body ends inside a value");
    refused(&call("I", b"\x90", b"\x48\x01a\x5a"), "byte that begins no hessian value");
    let typed = [&b"\x4d\x01M"[..], &map(&[("group", "g"), ("k", "v")])[1..], b"\x4e\x4e"].concat();
    let read = head(&call("I", b"\x90", &typed), Wants::ALL).unwrap();
    assert_eq!(read.group.as_deref(), Some("g"), "a typed map, and bytes behind it");
    let many: Vec<u8> = [&b"\x48"[..], &b"\x01k\x01v".repeat(65_536), b"\x5a"].concat();
    let frame = call("I", b"\x90", &many);
    assert_eq!(head(&frame, Wants::FIELDS), Err(Malformed("too many attachments")));
    assert!(head(&frame, Wants::GROUP).is_ok(), "only the table is full");
}

#[test]
fn odd_entries_are_stepped_over() {
    let entries = [
        &b"\x48"[..],
        b"\x91\x01x",                                 // an int key
        b"\x03obj\x43\x01A\x91\x01f\x60\x7a\x91\x92", // an object
        b"\x04two \x52\0\x01a\x01b",                  // two chunks
        b"\x03one\x52\0\x02ab\x00",                   // one, and an empty one
        b"\x04null\x4e",
        b"\x03yes\x54",
        b"\x4e\x01v", // a null key
        b"\x07timeout\xd4\x0b\xb8",
        b"\x03_TO\xf8\xfa",
        b"\x5a",
    ]
    .concat();
    let read = head(&call("", b"", &entries), Wants::ALL).unwrap();
    assert_eq!(read.fields, [("one".to_owned(), "ab".to_owned())]);
    assert_eq!(read.timeout_ms, Some(250), "what is left of the chain is less than the method's own");
    let go = b"\x48\x07timeout\x010\x5a";
    assert_eq!(head(&call("", b"", go), Wants::ALL).unwrap().timeout_ms, None, "Go writes 0 for none");
    let long = b"\x48\x07timeout\x4c\0\0\0\x01\0\0\0\0\x5a";
    assert_eq!(head(&call("", b"", long), Wants::ALL).unwrap().timeout_ms, Some(u32::MAX));
}

#[test]
fn names_in_odd_encodings_do_not_evade_a_route_that_asks_for_them() {
    let chunked = |values: [&[u8]; 5]| frame(0xc2, &[&values.concat()[..], b"\x48\x5a"].concat());
    let plain = [&b"\x052.0.2"[..], b"\x03a.B", b"\x031.0", b"\x01m", b"\x00"];
    let mut path = plain;
    path[1] = b"\x52\0\x01a\x02.B";
    let unreadable = Err(Malformed("part of the head is no plain text"));
    assert_eq!(head(&chunked(path), Wants::SERVICE), unreadable);
    assert_eq!(head(&chunked(path), Wants::METHOD).unwrap().method.as_deref(), Some("m"));
    let mut version = plain;
    version[2] = b"\x91";
    assert_eq!(head(&chunked(version), Wants::VERSION), unreadable);
    assert_eq!(head(&chunked(version), Wants::SERVICE).unwrap().service.as_deref(), Some("a.B"));
    let mut group = plain.concat();
    group.extend(b"\x48\x05group\x52\0\x01a\x01b\x5a");
    assert_eq!(head(&frame(0xc2, &group), Wants::GROUP), unreadable);
    assert!(head(&frame(0xc2, &group), Wants::SERVICE.and(Wants::FIELDS)).is_ok());
}

#[test]
fn generic_calls_are_named_by_their_first_argument() {
    let generic = |first: &[u8]| {
        let body =
            [&strings("a.B", "", "$invokeAsync", "Ljava/lang/String;I")[..], first, b"\x90", b"\x48\x5a"]
                .concat();
        frame(0xc2, &body)
    };
    let method = |first: &[u8]| head(&generic(first), Wants::METHOD).unwrap().method.unwrap();
    assert_eq!(method(b"\x04echo"), "echo");
    assert_eq!(method(b"\x4e"), "$invokeAsync");
    assert_eq!(method(b"\x52\0\x01a\x01b"), "$invokeAsync");
    assert_eq!(method(b"\x40"), "$invokeAsync", "what cannot be read names nothing");
    let echo = frame(0xc2, &[&strings("a.B", "0.0.0", "$echo", "I")[..], b"\x90\x4e"].concat());
    let read = head(&echo, Wants::ALL).unwrap();
    assert_eq!((read.method.as_deref(), read.version), (Some("$echo"), None));
}

#[test]
fn a_golden_frame_cut_anywhere_is_partial_and_its_head_never_more_than_it_was() {
    for case in
        ["dubbo-3.3/process.req.hex", "dubbo-3.3/fastjson2_process.req.hex", "dubbo-2.7/generic_pojo.req.hex"]
    {
        let whole = captured(case);
        let full = head(&whole, Wants::ALL).unwrap();
        for cut in 0..whole.len() {
            let total = if cut < 16 { 16 } else { whole.len() };
            assert_eq!(Dubbo::scan(&whole[..cut], FRAME_MAX), Scan::Partial { total }, "{case} {cut}");
            // As a frame whose declared length is the shorter one.
            let Some(body) = whole.get(16..cut) else { continue };
            let mut short = frame(whole[2], body);
            match head(&short, Wants::ALL) {
                Ok(read) => {
                    let attachments = read.fields.is_empty() && read.group.is_none();
                    assert!(
                        attachments && read.service == full.service && read.method == full.method,
                        "{cut}"
                    );
                }
                Err(Malformed(why)) => assert!(!why.is_empty()),
            }
            let mut index = HeadIndex::default();
            assert_eq!(Dubbo::head(&short, Wants::TIMEOUT, &mut index), Ok(()));
            assert_eq!(index.timeout_ms, None, "{case} {cut}");
            Dubbo::set_id(&mut short, 1);
        }
    }
}

#[test]
fn the_length_is_judged_by_the_fixed_header() {
    let header = |flags: u8, len: u32| {
        [&[0xda, 0xbb, flags, 0, 0, 0, 0, 0, 0, 0, 0, 9][..], &len.to_be_bytes()].concat()
    };
    for (flags, kind) in [(0xc2, FrameKind::Request), (0x82, FrameKind::OneWay), (0x02, FrameKind::Response)]
    {
        for len in [u32::MAX, 1 << 31, (1 << 31) - 1, (8 << 20) - 15] {
            let framed = Framed { len: 16 + len as usize, kind, id: 9 };
            assert_eq!(Dubbo::scan(&header(flags, len), FRAME_MAX), Scan::TooLarge(framed));
        }
        let total = FRAME_MAX;
        assert_eq!(Dubbo::scan(&header(flags, (8 << 20) - 16), FRAME_MAX), Scan::Partial { total });
    }
    assert!(matches!(Dubbo::scan(&header(0xc2, u32::MAX), usize::MAX), Scan::TooLarge(_)), "negative");
}

#[test]
fn a_wrong_magic_is_seen_at_its_first_byte() {
    let broken = Scan::Broken(Malformed("no dubbo magic"));
    assert_eq!(Dubbo::scan(b"G", FRAME_MAX), broken);
    assert_eq!(Dubbo::scan(b"\xda\xbc", FRAME_MAX), broken);
    assert_eq!(Dubbo::scan(&[0; 64], FRAME_MAX), broken);
    assert_eq!(Dubbo::scan(b"", FRAME_MAX), Scan::Partial { total: 16 });
    assert_eq!(Dubbo::scan(b"\xda", FRAME_MAX), Scan::Partial { total: 16 });
    // Behind a good frame, too.
    let mut stream = captured("dubbo-3.3/echo.req.hex");
    let len = stream.len();
    stream.extend(b"GET /");
    assert!(matches!(Dubbo::scan(&stream, FRAME_MAX), Scan::Frame(_)));
    assert_eq!(Dubbo::scan(&stream[len..], FRAME_MAX), broken);
}

#[test]
fn unknown_serializations_travel_untouched() {
    for serialization in (0..32_u8).filter(|id| ![2, 23].contains(id)) {
        let frame = frame(0xc0 | serialization, &[0xff; 40]);
        assert_eq!(head(&frame, Wants::ALL), Ok(common::Read::default()), "{serialization}");
    }
}

#[test]
fn large_calls_cost_a_look_at_each_byte_at_most() {
    let mut text = Vec::new();
    for _ in 0..31 {
        text.extend(b"\x52\x80\0");
        text.extend(b"x".repeat(0x8000));
    }
    text.extend(b"\x53\x80\0");
    text.extend(b"x".repeat(0x8000));
    let bytes: Vec<u8> =
        (0..31).flat_map(|_| [&b"\x41\x80\0"[..], &b"\xff".repeat(0x8000)].concat()).collect();
    let bytes = [&bytes[..], b"\x20"].concat();
    for (argument, descriptor) in [(text, "Ljava/lang/String;"), (bytes, "[B")] {
        let frame = call(descriptor, &argument, &map(&[("group", "g"), ("timeout", "70")]));
        let start = spent();
        for _ in 0..20 {
            let read = head(&frame, Wants::ALL).unwrap();
            assert_eq!((read.group.as_deref(), read.timeout_ms), (Some("g"), Some(70)));
        }
        let took = since(start);
        assert!(took < Duration::from_secs(10), "{descriptor}: {took:?}");
    }
}

/// A fastjson2 body: each value behind its length.
fn jsonb(values: &[&[u8]]) -> Vec<u8> {
    frame(
        0xd7,
        &values
            .iter()
            .flat_map(|value| [&(value.len() as u32).to_be_bytes(), *value].concat())
            .collect::<Vec<_>>(),
    )
}

#[test]
fn fastjson2_bodies_are_held_to_the_same_bounds() {
    let call = |attachments: &[u8]| {
        jsonb(&[b"\x4e2.0.2", b"\x4ca.B", b"\x4c1.0", b"\x4am", b"\x4aI", b"\x05", attachments])
    };
    refused(&call(&[&b"\xa6\x4ak"[..], &[0x95; 10_000]].concat()), "values nested too deep");
    refused(&call(b"\xa6\x4ak\xa4\x48\x7f\xff\xff\xff"), "count larger than the body");
    refused(&call(b"\xa6\x4ak\x79\xff"), "count larger than the body");
    refused(&call(b"\xa6\x4ak"), "jsonb value longer than its length");
    refused(&call(b"\x95\x01"), "attachments are not a map");
    let mut short = call(b"\xaf");
    let at = short.len() - 5;
    short[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    refused(&short, "count larger than the body");
    let references =
        [&b"\xa6\x4ak\xa4\x48\0\x01\x11\x70"[..], &b"\x93\x4a$".repeat(70_000), b"\xa5"].concat();
    refused(&call(&references), "too many references");

    let entries = [
        &b"\xa6"[..],
        b"\x4eowner\x92\x4bT1\x00\xa6\x7f\x4ax\x01\x96\x01\x02\xa5", // an object
        b"\x4egroup\x4ag",
        b"\x50timeout\x38\x64", // a number
        b"\x4cidx\x7c\x02a\0",  // UTF-16
        b"\x4cutf\x7a\x02\xc3\xa9",
        b"\xa5",
    ]
    .concat();
    let read = head(&call(&entries), Wants::ALL).unwrap();
    assert_eq!((read.group.as_deref(), read.timeout_ms), (Some("g"), Some(100)));
    assert_eq!(
        read.fields,
        [("group", "g"), ("utf", "é")].map(|(key, value)| (key.to_owned(), value.to_owned()))
    );

    let generic =
        jsonb(&[b"\x4e2.0.2", b"\x4ca.B", b"\xaf", b"\x50$invoke", b"\x4aI", b"\x4decho", b"\xa6\xa5"]);
    let read = head(&generic, NAMES).unwrap();
    assert_eq!((read.method.as_deref(), read.version), (Some("echo"), None));
}
