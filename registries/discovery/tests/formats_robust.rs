//! Whatever text stands in a registry, reading it ends well, and what was written is read back.
#![allow(missing_docs, reason = "a test")]

use outrigger_discovery::{
    Framework, Level, Registration, ServiceKey, WEIGHT_MAX, check_address,
    formats::{
        Params, Url,
        application::{self, Member, MetadataInfo},
        curator, dubbo, percent, sofarpc,
    },
};
use proptest::prelude::*;

/// Texts that nearly are what a framework writes.
fn nearly_url() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-z0-9.:]{0,12}",
        any::<String>(),
        Just("0.0.0.0".to_owned()),
        Just("[::1]:80".to_owned())
    ];
    let name = prop_oneof![
        Just("weight".to_owned()),
        Just("group".to_owned()),
        Just("enabled".to_owned()),
        Just("timestamp".to_owned()),
        any::<String>()
    ];
    let pairs = proptest::collection::vec((name, "[-a-z0-9%&=]{0,8}"), 0..6);
    ("[a-z]{0,8}", part.clone(), part, pairs).prop_map(|(protocol, address, path, pairs)| {
        let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{protocol}://{address}/{path}?{}", query.join("&"))
    })
}

fn legible() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ./:,$%+~\u{e9}-]{1,16}"
}

fn registration() -> impl Strategy<Value = Registration> {
    let metadata = proptest::collection::btree_map("x[a-z]{1,6}", legible(), 0..4);
    let optional = || proptest::option::of("[a-z0-9.]{1,6}x");
    ("[a-z]{1,8}", "[a-zA-Z.$]{1,16}", optional(), optional(), 0..=WEIGHT_MAX, 1..u64::MAX, metadata)
        .prop_map(|(app, service, group, version, weight, started, metadata)| Registration {
            app,
            framework: Framework::Dubbo,
            level: Level::Both,
            service,
            protocol: "tri".into(),
            address: "10.0.0.1:20880".into(),
            group,
            version,
            weight,
            started,
            metadata,
        })
}

proptest! {
    #[test]
    fn any_name_of_a_node_is_read_without_harm(text in prop_oneof![any::<String>(), nearly_url()]) {
        for node in [text.clone(), percent::encode(&text)] {
            if let Ok(Some(instance)) = dubbo::provider(&node) {
                prop_assert!(check_address(&instance.address).is_ok() && instance.weight <= WEIGHT_MAX);
                if let Ok(Some(rule)) = dubbo::override_of(&node.replacen("dubbo", "override", 1)) {
                    dubbo::apply(&[rule], &mut vec![instance]);
                }
            }
            if let Ok(Some(instance)) = sofarpc::provider(&node) {
                prop_assert!(check_address(&instance.address).is_ok() && instance.weight <= WEIGHT_MAX);
            }
            _ = dubbo::override_of(&node);
        }
    }

    #[test]
    fn any_text_is_escaped_and_back(text in any::<String>()) {
        prop_assert_eq!(percent::decode(&percent::encode(&text)), Some(text));
    }

    #[test]
    fn any_url_that_was_read_is_written_and_read_the_same(text in nearly_url()) {
        if let Some(url) = Url::<String>::parse(&text) {
            prop_assert_eq!(Url::parse(&url.to_string()), Some(url));
        }
    }

    #[test]
    fn any_bytes_are_no_more_than_a_bad_entry(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        _ = curator::parse(&bytes);
        _ = MetadataInfo::parse(&bytes);
        for name in ["dubbo.endpoints", "dubbo.metadata-service.url-params"] {
            let metadata = Params::from([(name.into(), text.clone()), ("dubbo.metadata.revision".into(), "r".into())]);
            let member = Member { app: text.clone(), address: text.clone(), metadata };
            let info = MetadataInfo::parse(br#"{"services":{"a":{"name":"a","protocol":"tri"}}}"#).unwrap();
            _ = (member.asks(), info.instances(&ServiceKey::new("a"), &member), application::apps(&text));
        }
    }

    #[test]
    fn what_is_registered_is_found(r in registration()) {
        let read = dubbo::provider(&percent::encode(&dubbo::url(&r).to_string())).unwrap().unwrap();
        prop_assert_eq!((&read.address, read.weight, read.started), (&r.address, r.weight, Some(r.started)));
        prop_assert_eq!((&read.group, &read.version), (&r.group, &r.version));
        for (name, value) in &r.metadata {
            prop_assert_eq!(read.metadata.get(name), Some(value));
        }
        let (info, member) = application::describe(std::slice::from_ref(&r)).unwrap();
        let back = curator::parse(curator::dubbo(&member).as_bytes()).unwrap().member();
        prop_assert_eq!(back.as_ref(), Some(&member));
        let info = MetadataInfo::parse(info.to_string().as_bytes()).unwrap();
        let found = info.instances(&ServiceKey::new(r.service.clone()), &member);
        prop_assert_eq!(found.len(), 1);
        prop_assert!(found.iter().all(|one| one.address == read.address && one.weight == read.weight));
        prop_assert!(found.iter().all(|one| one.group == read.group && one.version == read.version));
    }
}
