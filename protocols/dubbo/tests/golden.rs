//! Every captured frame is read as the program that wrote it meant it.
//!
//! The expectation beside each frame was decoded by another program. Nothing is expected here that this crate
//! computed itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{FRAME_MAX, Read, all_captured, captured, data, head, unhex};
use outrigger_codec::{FrameCodec as _, FrameKind, Framed, Outcome, Refusal, Scan, Ticket, Wants};
use outrigger_dubbo::{Dubbo, hessian};
use serde_json::Value;

/// The description of a captured frame.
fn described(file: &str) -> Value {
    let (case, side) = file.trim_end_matches(".hex").rsplit_once('.').unwrap();
    let json: Value = serde_json::from_slice(&fs::read(data(&format!("{case}.json"))).unwrap()).unwrap();
    json[side].clone()
}

fn expected_kind(told: &Value) -> FrameKind {
    let is = |key: &str| told[key].as_bool().unwrap();
    match (told["kind"].as_str().unwrap(), is("event"), is("twoway")) {
        ("request", false, true) => FrameKind::Request,
        ("request", false, false) => FrameKind::OneWay,
        ("request", true, true) => FrameKind::Heartbeat,
        ("request", true, false) if told["event_data"] == "R" => FrameKind::Retire,
        ("response", false, _) => FrameKind::Response,
        ("response", true, _) => FrameKind::HeartbeatAck,
        _ => panic!("no such frame was captured: {told}"),
    }
}

#[test]
fn each_frame_is_whole_and_of_its_kind() {
    let frames = all_captured();
    assert_eq!(frames.len(), 88, "all of them are there");
    for (file, frame) in frames {
        let told = described(&file);
        let id = told["id"].as_i64().unwrap() as u64;
        let expected = Framed { len: frame.len(), kind: expected_kind(&told), id };
        assert_eq!(Dubbo::scan(&frame, FRAME_MAX), Scan::Frame(expected), "{file}");
        let followed = [&frame[..], b"\xda\xbb"].concat();
        assert_eq!(Dubbo::scan(&followed, FRAME_MAX), Scan::Frame(expected), "{file}");
        let serialization: u32 =
            told["serialization"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(Dubbo::ticket(&frame), Ticket(serialization), "{file}");
        assert_eq!(Dubbo::lane(&frame), 0);
    }
}

/// What the description says that a router reads of a Hessian request.
fn expected_head(told: &Value) -> Read {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let attachments = told["attachments"].as_object().unwrap();
    let attached = |key: &str| attachments.get(key).and_then(text);
    let method = text(&told["method"]).unwrap();
    let method = if method == "$invoke" { text(&told["args"][0]).unwrap() } else { method };
    Read {
        service: text(&told["path"]),
        version: text(&told["service_version"]).filter(|version| version != "0.0.0" && !version.is_empty()),
        method: Some(method),
        group: attached("group"),
        timeout_ms: attached("timeout").map(|ms| ms.parse().unwrap()).filter(|ms| *ms > 0),
        fields: attachments.iter().map(|(key, value)| (key.clone(), text(value).unwrap())).collect(),
    }
}

#[test]
fn each_request_tells_its_head() {
    let mut seen = 0;
    for (file, frame) in all_captured() {
        let told = described(&file);
        if told["kind"] != "request" || told["event"] == true || told["attachments"].is_null() {
            continue;
        }
        seen += 1;
        let mut read = head(&frame, Wants::ALL).unwrap();
        let mut expected = expected_head(&told);
        // JSON objects have no order.
        read.fields.sort();
        expected.fields.sort();
        assert_eq!(read, expected, "{file}");
        let cheap = head(&frame, Wants::SERVICE.and(Wants::METHOD).and(Wants::VERSION)).unwrap();
        let names = Read { group: None, timeout_ms: None, fields: Vec::new(), ..expected };
        assert_eq!(cheap, names, "{file}: the names do not need the attachments");
        assert_eq!(head(&frame, Wants::NONE).unwrap(), Read::default(), "{file}");
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn each_fastjson2_request_tells_its_head() {
    for method in ["echo", "process", "fail", "fire", "nothing"] {
        let frame = captured(&format!("dubbo-3.3/fastjson2_{method}.req.hex"));
        let path = "peer.api.DemoService";
        let expected = Read {
            service: Some(path.into()),
            version: None,
            method: Some(method.into()),
            group: None,
            timeout_ms: Some(3000),
            fields: [
                ("path", path),
                ("remote.application", "peer-consumer"),
                ("interface", path),
                ("version", "0.0.0"),
                ("timeout", "3000"),
            ]
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        };
        assert_eq!(head(&frame, Wants::ALL), Ok(expected), "{method}");
    }
}

#[test]
fn each_response_tells_how_its_call_ended() {
    let mut counts = BTreeMap::new();
    for (file, frame) in all_captured() {
        let told = described(&file);
        if told["kind"] != "response" || told["event"] == true {
            continue;
        }
        let status = told["status"].as_str().unwrap();
        let expected = match status.split(' ').next().unwrap() {
            "20" if told["resp_type"].as_str().is_some_and(|kind| kind.contains("EXCEPTION")) => {
                Outcome::Exception
            }
            // The description does not look into fastjson2 bodies; the case's name does.
            "20" if file.ends_with("fastjson2_fail.resp.hex") => Outcome::Exception,
            "20" => Outcome::Ok,
            "100" => Outcome::Busy,
            "30" | "31" => Outcome::TimedOut,
            _ => Outcome::Error,
        };
        assert_eq!(Dubbo::outcome(&frame), expected, "{file}");
        *counts.entry(expected.name()).or_insert(0) += 1;
    }
    for outcome in ["ok", "exception", "busy", "error"] {
        assert!(counts.contains_key(outcome), "{counts:?}");
    }
}

#[test]
fn heartbeats_are_answered_as_java_answers_them() {
    for case in ["dubbo-3.3/heartbeat", "dubbo-3.3/fastjson2_heartbeat", "dubbo-2.7/heartbeat"] {
        let mut answer = Vec::new();
        Dubbo::heartbeat_ack(&captured(&format!("{case}.req.hex")), &mut answer);
        assert_eq!(answer, captured(&format!("{case}.resp.hex")), "{case}");
    }
}

#[test]
fn the_encoders_frames_are_read() {
    let text = fs::read_to_string(data("encoder_frames.txt")).unwrap();
    let frames: BTreeMap<&str, Vec<u8>> = text
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, hex)| (name.split('(').next().unwrap(), unhex(hex)))
        .collect();
    let kind = |name: &str| match Dubbo::scan(&frames[name], FRAME_MAX) {
        Scan::Frame(found) if found.len == frames[name].len() => found.kind,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(kind("HB_REQ"), FrameKind::Heartbeat);
    assert_eq!(kind("HB_RESP"), FrameKind::HeartbeatAck);
    assert_eq!(kind("READONLY"), FrameKind::Retire);
    assert_eq!(kind("REQ"), FrameKind::Request);
    assert_eq!(kind("ONEWAY"), FrameKind::OneWay);
    for (name, outcome) in [
        ("RESP_VAL_ATT", Outcome::Ok),
        ("RESP_VAL_NOATT", Outcome::Ok),
        ("RESP_EXC_ATT", Outcome::Exception),
        ("RESP_60", Outcome::Error),
    ] {
        assert_eq!(kind(name), FrameKind::Response);
        assert_eq!(Dubbo::outcome(&frames[name]), outcome, "{name}");
    }

    let mut ours = Vec::new();
    Dubbo::goodbye(2, &mut ours);
    Dubbo::heartbeat(0, 1, &mut ours);
    Dubbo::refuse(Ticket(2), 3, Refusal::NoRoute, "no route", &mut ours);
    assert_eq!(ours, [&frames["READONLY"][..], &frames["HB_REQ"], &frames["RESP_60"]].concat());

    let read = head(&frames["REQ"], Wants::ALL).unwrap();
    assert_eq!(read.service.as_deref(), Some("com.ex.Hello"));
    assert_eq!(read.version.as_deref(), Some("1.0"));
    assert_eq!(read.method.as_deref(), Some("hi"));
    assert_eq!(read.group.as_deref(), Some("g"));
    assert_eq!(read.timeout_ms, Some(3000));
    let generic = head(&frames["GENERIC"], Wants::ALL).unwrap();
    assert_eq!((generic.method.as_deref(), generic.version), (Some("hi"), None));
}

#[test]
fn each_hessian_value_is_stepped_over_exactly() {
    let text = fs::read_to_string(data("hessian2_values.tsv")).unwrap();
    let mut seen = 0;
    for line in text.lines() {
        let (name, hex) = line.split_once('\t').unwrap();
        let bytes = unhex(hex);
        let values = match name {
            "enum x2" => 3,
            "two LinkedHashMaps" | "same map twice" | "POJO twice" => 2,
            _ => 1,
        };
        let mut walker = hessian::Walker::new(&bytes, 0);
        for _ in 0..values {
            walker.skip().unwrap_or_else(|why| panic!("{name}: {why:?}"));
        }
        assert!(walker.is_at_end(), "{name}: stopped at {} of {}", walker.at(), bytes.len());
        seen += 1;
    }
    assert!(seen > 70, "{seen}");
}
