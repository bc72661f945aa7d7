//! Whatever bytes stand in a registry, reading them ends well, and what was written is read back.
#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeMap;

use outrigger_discovery::{Framework, Level, Registration, WEIGHT_MAX, check_address, formats::application};
use outrigger_registry_etcd::values;
use proptest::prelude::*;

/// JSON that nearly is what somebody writes.
fn nearly() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        "(ID|ServiceName|Host|Port|Weight|Enable|Healthy|Metadata|Address|Tag)",
        "(weight|version|group|protocol|started|app|metadata)",
    ];
    let value = prop_oneof![
        "-?[0-9]{1,20}",
        "\"[a-z0-9.:\\[\\]]{0,12}\"",
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("1e400".to_owned()),
        Just(r#"{"weight":"5","a":1,"b":[]}"#.to_owned()),
    ];
    proptest::collection::vec((name, value), 0..8).prop_map(|pairs| {
        let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", pairs.join(","))
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        nearly().prop_map(String::into_bytes),
        (nearly(), 0..40usize).prop_map(|(text, cut)| {
            text.into_bytes().into_iter().rev().skip(cut).collect::<Vec<u8>>().into_iter().rev().collect()
        }),
    ]
}

fn registration() -> impl Strategy<Value = Registration> {
    let metadata = proptest::collection::btree_map("x[a-z]{1,6}", any::<String>(), 0..4);
    let optional = || proptest::option::of("[a-z0-9.]{1,6}x");
    ("[a-z]{1,8}", optional(), optional(), 0..=WEIGHT_MAX, 1..i64::MAX as u64, metadata).prop_map(
        |(app, group, version, weight, started, metadata)| Registration {
            app,
            framework: Framework::Plain,
            level: Level::Interface,
            service: "a.B".into(),
            protocol: "http".into(),
            address: "10.0.0.1:20880".into(),
            group,
            version,
            weight,
            started,
            metadata,
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_no_more_than_a_bad_entry(
        node in prop_oneof![any::<String>(), Just("10.0.0.1:80".to_owned()), Just("[::1]:80".to_owned())],
        bytes in any_bytes(),
    ) {
        if let Ok(Some((member, _))) = values::go_member(&bytes) {
            prop_assert!(check_address(&member.address).is_ok() && !member.app.is_empty());
            let again = values::go_member(values::go_instance(&member, 100).as_bytes());
            prop_assert_eq!(again.map(|again| again.map(|again| again.0.address)), Ok(Some(member.address)));
        }
        if let Some(farewell) = values::go_farewell(&bytes) {
            prop_assert_eq!(values::go_farewell(&farewell), None);
        }
        if let Ok(instance) = values::plain_instance(&node, &bytes) {
            prop_assert!(check_address(&instance.address).is_ok() && instance.weight <= WEIGHT_MAX);
        }
    }

    #[test]
    fn what_is_registered_is_found(r in registration()) {
        let found = values::plain_instance(&r.address, values::plain_value(&r).as_bytes()).unwrap();
        prop_assert_eq!((&found.address, found.weight, found.started), (&r.address, r.weight, Some(r.started)));
        prop_assert_eq!((&found.group, &found.version), (&r.group, &r.version));
        prop_assert_eq!(found.protocol.as_ref(), Some(&r.protocol));
        let mut said: BTreeMap<String, String> = found.metadata.into();
        prop_assert_eq!(said.remove("app"), Some(r.app.clone()));
        prop_assert_eq!(said, r.metadata.clone());
        let dubbo = Registration { framework: Framework::Dubbo, level: Level::Application, ..r };
        let (_, member) = application::describe(&[dubbo]).unwrap();
        let back = values::go_member(values::go_instance(&member, 0).as_bytes()).unwrap();
        prop_assert_eq!(back, Some((member, None)));
    }
}
