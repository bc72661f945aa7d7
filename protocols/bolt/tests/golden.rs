//! Every frame and value that a real peer wrote is read as that peer meant it, and what this crate writes is what
//! the peer would have written.
//!
//! Nothing here may be adapted to the codec: the expectations come from the recorded files alone.
//! Source: `tests/data/README.md`.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::fs;

use outrigger_bolt::{Bolt, hessian_draft};
use outrigger_codec::{
    FrameCodec, FrameKind, Framed, Head, HeadIndex, Malformed, Outcome, Refusal, Scan, Slot, Sniff, Wants,
};
use support::{Captured, captured, encoded, encoded_as, hex};

const FRAME_MAX: usize = 8 << 20;

fn scanned(bytes: &[u8]) -> Framed {
    match Bolt::scan(bytes, FRAME_MAX) {
        Scan::Frame(framed) => framed,
        other => panic!("{other:?}"),
    }
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap()
}

/// The leading number of texts such as `1 rpc request`.
fn leading(value: &serde_json::Value) -> u64 {
    value.as_str().unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn captured_frames_are_measured_and_told_apart() {
    for Captured { name, bytes, json } in captured() {
        let framed = scanned(&bytes);
        let parts = number(&json["class_len"]) + number(&json["header_len"]) + number(&json["content_len"]);
        let fixed = if json.get("status").is_some() { 20 } else { 22 };
        assert_eq!(framed.len as u64, fixed + parts, "{name}");
        assert_eq!(framed.len, bytes.len(), "{name}");
        assert_eq!(framed.id, number(&json["id"]), "{name}");
        let kind = match (leading(&json["type"]), leading(&json["cmdcode"])) {
            (1, 1) => FrameKind::Request,
            (2, 1) => FrameKind::OneWay,
            (0, 2) => FrameKind::Response,
            (1, 0) => FrameKind::Heartbeat,
            (0, 0) => FrameKind::HeartbeatAck,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(framed.kind, kind, "{name}");
        assert_eq!(Bolt::sniff(&bytes), Sniff::Yes, "{name}");
        assert_eq!(Bolt::lane(&bytes), 0, "{name}");
    }
}

#[test]
fn captured_requests_give_their_heads() {
    let mut calls = 0;
    for Captured { name, bytes, json } in captured() {
        if !matches!(scanned(&bytes).kind, FrameKind::Request | FrameKind::OneWay) {
            continue;
        }
        calls += 1;
        let mut index = HeadIndex::default();
        Bolt::head(&bytes, Wants::ALL, &mut index).unwrap();
        let head = Head { bytes: &bytes, index: &index };
        let text = |slot| head.slot(slot).map(|bytes| std::str::from_utf8(bytes).unwrap());

        let headers = json["header"].as_object().unwrap();
        let service = headers["service"].as_str().unwrap();
        let (interface, version) = service.split_once(':').unwrap();
        assert_eq!(text(Slot::Service), Some(interface), "{name}");
        assert_eq!(text(Slot::Version), Some(version), "{name}");
        assert_eq!(text(Slot::ServiceKey), Some(service), "{name}");
        assert_eq!(text(Slot::Group), None, "{name}");

        let object = json["body"].get(0).unwrap_or(&json["body"]);
        assert_eq!(text(Slot::Method), object["methodName"].as_str(), "{name}");
        assert!(text(Slot::Method).is_some(), "{name}");

        let timeout = json["timeout"].as_i64().unwrap();
        assert_eq!(index.timeout_ms, u32::try_from(timeout).ok(), "{name}");

        let fields: BTreeMap<_, _> = index
            .fields
            .iter()
            .map(|field| {
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                (text(field.name.of(&bytes)), text(field.value.of(&bytes)))
            })
            .collect();
        let expected: BTreeMap<_, _> =
            headers.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect();
        assert_eq!(fields, expected, "{name}");
        assert!(index.fields.is_sorted_by_key(|field| field.name.at), "{name}: wire order");
    }
    assert_eq!(calls, 16);
}

#[test]
fn captured_responses_tell_how_the_call_ended() {
    let mut exceptions = 0;
    for Captured { name, bytes, json } in captured() {
        if scanned(&bytes).kind != FrameKind::Response {
            continue;
        }
        assert_eq!(
            leading(&json["status"]),
            0,
            "{name}: a SOFARPC provider says success even for exceptions"
        );
        let error = json["header"].get("sofa_head_response_error").is_some_and(|value| value == "true");
        exceptions += usize::from(error);
        let expected = if error { Outcome::Exception } else { Outcome::Ok };
        assert_eq!(Bolt::outcome(&bytes), expected, "{name}");
    }
    assert_eq!(exceptions, 4);
}

#[test]
fn node_clients_name_the_method_in_the_content_alone() {
    let mut seen = 0;
    for Captured { name, bytes, json } in captured() {
        if !name.starts_with("node_client") || scanned(&bytes).kind != FrameKind::Request {
            continue;
        }
        seen += 1;
        assert!(json["header"].get("sofa_head_method_name").is_none(), "{name}");
        let mut index = HeadIndex::default();
        Bolt::head(&bytes, Wants::SERVICE.and(Wants::VERSION), &mut index).unwrap();
        assert!(!index.slot(Slot::Method).is_some(), "{name}: the content is left alone unless it is wanted");
        Bolt::head(&bytes, Wants::METHOD, &mut index).unwrap();
        let method = index.slot(Slot::Method).of(&bytes).unwrap();
        assert_eq!(Some(method), json["body"][0]["methodName"].as_str().map(str::as_bytes), "{name}");
    }
    assert_eq!(seen, 4);
}

#[test]
fn contents_of_requests_name_the_same_target_as_their_headers() {
    for Captured { name, bytes, json } in captured() {
        if json["class"] != support::SOFA_REQUEST {
            continue;
        }
        let content = &bytes[bytes.len() - number(&json["content_len"]) as usize..];
        let target = hessian_draft::target(content, true, true).unwrap();
        let service = target.service.map(|range| &content[range]);
        assert_eq!(service, json["header"]["service"].as_str().map(str::as_bytes), "{name}");
        assert!(target.method.is_some(), "{name}");
    }
}

#[test]
fn encoded_frames_of_both_versions_are_whole() {
    for (name, bytes) in encoded() {
        let framed = scanned(&bytes);
        assert_eq!(framed.len, bytes.len(), "{name}");
        let kind = match name.as_str() {
            ack if ack.contains("HBACK") => FrameKind::HeartbeatAck,
            beat if beat.contains("HB") => FrameKind::Heartbeat,
            "v1 oneway" => FrameKind::OneWay,
            request if request.ends_with("req") || request.ends_with("Request") => FrameKind::Request,
            _ => FrameKind::Response,
        };
        assert_eq!(framed.kind, kind, "{name}");
        let lane = match name.get(..7) {
            Some("v2 ver1") => 1,
            Some("v2 ver2") => 2,
            _ => 0,
        };
        assert_eq!(Bolt::lane(&bytes), lane, "{name}");
        assert_eq!(Bolt::sniff(&bytes), Sniff::Yes, "{name}");
    }
    assert_eq!(Bolt::outcome(&encoded_as("v1 busy")), Outcome::Busy);
    assert_eq!(Bolt::outcome(&encoded_as("v1 server exception")), Outcome::Error);
    assert_eq!(Bolt::outcome(&encoded_as("v1 SofaResponse")), Outcome::Ok);
    assert_eq!(Bolt::outcome(&encoded_as("v1 SofaResponse error")), Outcome::Exception);
}

#[test]
fn odd_frames_end_as_they_do_in_java() {
    let text = fs::read_to_string(support::data("bolt_frames.txt")).unwrap();
    let mut broken = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("decode ")) {
        let (bytes, verdict) = line.split_once(" -> ").unwrap();
        let bytes = hex(bytes);
        match Bolt::scan(&bytes, FRAME_MAX) {
            // The one frame that is read although a stock Java peer does not: MOSN's GOAWAY.
            Scan::Frame(framed) if bytes[3] == 100 => assert_eq!(framed.kind, FrameKind::Retire),
            Scan::Frame(_) => assert!(verdict.contains("HeartbeatCommand"), "{line}"),
            Scan::Broken(_) => {
                assert!(verdict.starts_with("EXC"), "{line}");
                broken += 1;
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    assert_eq!(broken, 2);
}

#[test]
fn every_hessian_draft_value_is_stepped_over_exactly() {
    let text = fs::read_to_string(support::data("hessian2_draft_sofa355.tsv")).unwrap();
    let mut rows = 0;
    for (name, value) in text.lines().filter_map(|line| line.split_once('\t')) {
        rows += 1;
        let bytes = hex(value);
        let values = match name {
            "enum x2" => 3,
            "two LinkedHashMaps" | "same map twice" => 2,
            _ => 1,
        };
        let mut walker = hessian_draft::Walker::new(&bytes);
        for _ in 0..values {
            walker.value().unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        }
        assert_eq!(walker.position(), bytes.len(), "{name}");
        assert!(walker.value().is_err(), "{name}: nothing is left");
    }
    assert_eq!(rows, 78);
}

#[test]
fn heartbeats_are_the_bytes_that_java_writes() {
    let beat = |lane, id| {
        let mut out = Vec::new();
        Bolt::heartbeat(lane, id, &mut out);
        out
    };
    assert_eq!(beat(0, 1), encoded_as("v1 HB"));
    assert_eq!(beat(1, 1), encoded_as("v2 ver1 HB"));
    assert_eq!(beat(2, 1), hex("020201000001000000010100ffffffff0000000000000000"));
    assert_eq!(scanned(&beat(2, 0xffff_ffff)).id, 0xffff_ffff);

    let ack = |beat: &[u8]| {
        let mut out = Vec::new();
        Bolt::heartbeat_ack(beat, &mut out);
        out
    };
    assert_eq!(ack(&encoded_as("v1 HB")), encoded_as("v1 HBACK"));
    assert_eq!(ack(&encoded_as("v2 ver1 HB")), encoded_as("v2 ver1 HBACK"));
    assert_eq!(ack(&encoded_as("v2 ver2 HB crc")), encoded_as("v2 ver2 HBACK"));

    let mut nothing = Vec::new();
    Bolt::goodbye(1, &mut nothing);
    assert!(nothing.is_empty());
}

fn refused(request: &[u8], why: Refusal, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Bolt::refuse(Bolt::ticket(request), scanned(request).id, why, message, &mut out);
    out
}

#[test]
fn refusals_are_answers_in_the_version_and_codec_of_the_request() {
    let mut v1 = encoded_as("v1 tiny req");
    Bolt::set_id(&mut v1, 7);
    assert_eq!(refused(&v1, Refusal::Overloaded, ""), encoded_as("v1 busy"));
    v1[9] = 12;
    let json = refused(&v1, Refusal::NoRoute, "");
    assert_eq!(json, hex("0100000201000000070c00060000000000000000"));

    let v2 = encoded_as("v2 ver2 crc tiny req");
    let answer = refused(&v2, Refusal::TimedOut, "");
    assert_eq!(answer, hex("0202000002010000000901000007000000000000 0000"));
    assert_eq!(scanned(&answer).kind, FrameKind::Response);
    assert_eq!(Bolt::outcome(&answer), Outcome::TimedOut);
}

#[test]
fn refusals_use_statuses_that_java_knows_and_carry_their_message_in_the_header_map() {
    let statuses = [
        (Refusal::NoRoute, 0x06),
        (Refusal::Limited, 0x04),
        (Refusal::NoEndpoint, 0x06),
        (Refusal::Overloaded, 0x04),
        (Refusal::TimedOut, 0x07),
        (Refusal::Unreachable, 0x10),
        (Refusal::Forbidden, 0x02),
        (Refusal::Malformed, 0x09),
        (Refusal::TooLarge, 0x09),
    ];
    assert_eq!(statuses.map(|(why, _)| why), Refusal::ALL);
    for request in [encoded_as("v1 tiny req"), encoded_as("v2 ver2 crc tiny req")] {
        for (why, status) in statuses {
            let answer = refused(&request, why, "no route for peer.api.DemoService");
            let framed = scanned(&answer);
            assert_eq!((framed.len, framed.kind, framed.id), (answer.len(), FrameKind::Response, 9));
            let at = if answer[0] == 1 { 10 } else { 12 };
            assert_eq!(u16::from_be_bytes([answer[at], answer[at + 1]]), status, "{why:?}");
            assert_eq!(answer[at + 2..at + 4], [0, 0], "{why:?}: no class");
            assert_eq!(answer[at + 6..at + 10], [0; 4], "{why:?}: no content");
            // Java decodes an answer of status 2, so nothing is put where it would look.
            let map = if status == 2 {
                Vec::new()
            } else {
                support::full_map(&[("outrigger_error", "no route for peer.api.DemoService")])
            };
            assert_eq!(answer[at + 10..], map, "{why:?}");
        }
        let long = refused(&request, Refusal::NoRoute, &"é".repeat(40_000));
        assert_eq!(scanned(&long).len, long.len());
        assert!(long.len() < 1200);
    }
}

#[test]
fn patches_keep_the_checksum_true() {
    let mut frame = encoded_as("v2 ver2 crc tiny req");
    assert_eq!(frame[frame.len() - 4..], hex("9e5ce69b"));
    Bolt::set_id(&mut frame, 0x64);
    assert_eq!(frame[6..10], hex("00000064"));
    assert_eq!(frame[frame.len() - 4..], hex("4d59bdaa"));
    assert_eq!(scanned(&frame).id, 0x64);

    Bolt::set_timeout(&mut frame, &HeadIndex::default(), 1500);
    assert_eq!(frame[12..16], 1500_u32.to_be_bytes());
    assert_eq!(scanned(&frame).id, 0x64);
    Bolt::set_timeout(&mut frame, &HeadIndex::default(), u32::MAX);
    assert_eq!(frame[12..16], i32::MAX.to_be_bytes());

    let class = 24;
    frame[class] ^= 1;
    assert_eq!(Bolt::scan(&frame, FRAME_MAX), Scan::Broken(Malformed("crc")));

    let response = encoded_as("v1 busy");
    let mut patched = response.clone();
    Bolt::set_timeout(&mut patched, &HeadIndex::default(), 9);
    assert_eq!(patched, response, "a response has no timeout");
}
