//! A call of our own is the one that Dubbo's consumer makes, and answers of real providers are read whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod common;

use std::fs;

use common::{all_captured, captured, data};
use outrigger_codec::FrameCodec as _;
use outrigger_dubbo::{
    Dubbo,
    hessian::{
        Walker,
        tree::{Seen, Tree},
    },
    invoke::{self, Invocation, Returned},
};
use proptest::prelude::*;
use serde_json::Value;

fn described(case: &str) -> Value {
    serde_json::from_slice(&fs::read(data(&format!("{case}.json"))).unwrap()).unwrap()
}

/// Whether a tree is what another program decoded, as far as a tree tells it.
fn same(seen: Seen<'_>, told: &Value) {
    match told {
        Value::Null => assert!(seen.is_null()),
        Value::Bool(truth) => assert_eq!(seen.truth(), Some(*truth)),
        Value::Number(number) if number.is_i64() => assert_eq!(seen.number(), number.as_i64()),
        Value::String(text) => assert_eq!(seen.text(), Some(text.as_str())),
        Value::Object(fields) => {
            let class = fields.get("#class").and_then(Value::as_str);
            assert_eq!(seen.class(), class);
            for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with('#')) {
                let entry =
                    || seen.entries().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value);
                same(seen.field(name).or_else(entry).unwrap(), value);
            }
        }
        other => panic!("nothing of the kind was captured here: {other}"),
    }
}

#[test]
fn the_question_is_the_one_that_a_consumer_asks() {
    let told = &described("dubbo-3.3/metadata_service")["req"];
    let call = Invocation {
        service: told["path"].as_str().unwrap(),
        version: told["service_version"].as_str().unwrap(),
        method: told["method"].as_str().unwrap(),
        arguments: &[told["args"][0].as_str().unwrap()],
        attachments: &[
            ("path", "org.apache.dubbo.metadata.MetadataService"),
            ("version", "1.0.0"),
            ("timeout", "5000"),
            ("group", "shop-provider"),
        ],
    };
    let mut out = Vec::new();
    invoke::write(told["id"].as_i64().unwrap() as u64, &call, &mut out);
    assert_eq!(out, captured("dubbo-3.3/metadata_service.req.hex"));
}

#[test]
fn the_answer_is_read_as_another_program_reads_it() {
    let answer = invoke::read(&captured("dubbo-3.3/metadata_service.resp.hex")).unwrap();
    let Returned::Value(tree) = answer else { panic!("{answer:?}") };
    same(tree.root(), &described("dubbo-3.3/metadata_service")["resp"]["value"]);
    let services = tree.root().field("services").unwrap();
    assert_eq!(services.entries().count(), 1);
}

#[test]
fn texts_nothing_failures_and_refusals_are_told_apart() {
    for line in ["dubbo-3.3", "dubbo-2.7"] {
        let read = |case: &str| invoke::read(&captured(&format!("{line}/{case}.resp.hex"))).unwrap();
        let Returned::Value(tree) = read("echo") else { panic!("a value") };
        same(tree.root(), &described(&format!("{line}/echo"))["resp"]["value"]);
        assert!(matches!(read("nothing"), Returned::Null));
        let Returned::Failed(why) = read("crash") else { panic!("an exception") };
        assert_eq!(why, "java.lang.IllegalStateException: boom");
        let Returned::Refused(status, why) = read("no_such_service") else { panic!("a refusal") };
        assert!(
            matches!(status, 40 | 70) && why.contains("methodName=echo") && !why.contains('\n'),
            "{status} {why}"
        );
    }
}

#[test]
fn every_captured_answer_is_read_or_refused_for_a_reason() {
    let mut read = 0;
    for (name, frame) in all_captured() {
        let wanted = name.ends_with("resp.hex") && !name.contains("fastjson2") && !name.contains("heartbeat");
        assert_eq!(invoke::read(&frame).is_ok(), wanted, "{name}");
        read += usize::from(wanted);
        for end in (0..frame.len()).step_by(7) {
            assert!(invoke::read(&frame[..end]).is_err(), "{name} {end}");
        }
    }
    assert!(read > 20);
}

proptest! {
    #[test]
    fn a_tree_stands_where_a_walk_ends(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x40_u8..0x80], 0..60)) {
        let (mut built, mut walked) = (Walker::new(&bytes, 0), Walker::new(&bytes, 0));
        if Tree::read(&mut built).is_ok() {
            prop_assert!(walked.skip().is_ok());
            prop_assert_eq!(built.at(), walked.at());
        }
    }

    #[test]
    fn a_damaged_answer_does_no_harm(at in 0_usize..683, byte in any::<u8>()) {
        let mut frame = captured("dubbo-3.3/metadata_service.resp.hex");
        if let Some(place) = frame.get_mut(at) {
            *place = byte;
        }
        _ = (Dubbo::scan(&frame, 1 << 20), invoke::read(&frame));
    }
}
