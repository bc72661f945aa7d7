//! What the sidecar wrote beside what the framework itself wrote of the same service, field by field.
//!
//! Whatever differs must be named here, with its reason; nothing else may differ, but for what is different for every
//! process (see `entries::differences`).

use super::entries::{self, Entry};
use super::java::{Java, Registry, Service};
use super::stage::{Beside, Stage};

/// A field that differs: what the framework writes, and what we do.
type Difference = (&'static str, Option<String>, Option<String>);

pub(crate) fn as_the_framework_would(stage: &Stage, beside: &Beside) {
    let java = stage.java;
    let mut wrong = Vec::new();
    for registry in Registry::BOTH {
        for (at, service) in java.services().into_iter().enumerate() {
            let entries = entries::of(java, registry, service);
            let both = (&*stage.own_addresses(registry, at)[0], &*beside.address(at));
            compare(&format!("{registry:?} {service:?}"), &entries, both, &known(java, service), &mut wrong);
        }
        if java.level() == "both" {
            let entries = entries::of_application(registry);
            let both = (&*stage.own_addresses(registry, 0)[0], &*beside.address(0));
            compare(&format!("{registry:?}, the application"), &entries, both, &of_application(), &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "what we write is not what {java:?} writes:\n{}", wrong.join("\n"));
}

/// Of these entries one is theirs and one ours, by address.
fn compare(what: &str, entries: &[Entry], both: (&str, &str), known: &[Difference], wrong: &mut Vec<String>) {
    let (theirs, ours) = (one(entries, both.0), one(entries, both.1));
    let found = entries::differences(theirs, ours);
    let found_names = found.iter().map(|(name, theirs, ours)| (name.as_str(), theirs, ours));
    if !found_names.eq(known.iter().map(|(name, theirs, ours)| (*name, theirs, ours))) {
        wrong.push(format!("{what}: {found:#?}\ntheirs: {theirs:#?}\nours: {ours:#?}"));
    }
}

fn one<'a>(entries: &'a [Entry], address: &str) -> &'a Entry {
    let found = entries.iter().find(|entry| entry.address == address);
    found.unwrap_or_else(|| panic!("{address} is not among {entries:#?}"))
}

/// In order of the fields' names.
fn known(java: Java, service: Service) -> Vec<Difference> {
    let (theirs, ours) = (|text: &str| Some(text.to_owned()), |text: &str| Some(text.to_owned()));
    match java {
        Java::Dubbo27 => {
            let bean = [service.group.unwrap_or(""), "/peer.api.DemoService:", service.version.unwrap_or("")];
            vec![
                // Whether every interface is bound is a matter of a provider's own.
                ("anyhost", theirs("false"), None),
                // Where 2.7 writes the description of a service.
                ("metadata-type", theirs("remote"), None),
                // Ours look like providers of 3.3, which say what they can read.
                ("prefer.serialization", None, ours("hessian2,fastjson2")),
                ("release", theirs("2.7.23"), ours("3.3.6")),
                // The bean of the provider's own, and its settings.
                ("service.name", Some(format!("ServiceBean:{}", bean.concat())), None),
                ("threads", theirs("400"), None),
            ]
        }
        _ => Vec::new(),
    }
}

/// How an instance of an application of Dubbo 3.3 differs: the same names in both registries.
fn of_application() -> Vec<Difference> {
    // Dubbo answers for itself what its application gives; of ours the registry has that.
    let asked = r#"{"prefer.serialization":"hessian2,fastjson2","version":"2.0.0","dubbo":"2.0.2","release":"3.3.6","side":"provider","port":"PORT","protocol":"tri"}"#;
    vec![
        ("dubbo.metadata-service.url-params", Some(asked.to_owned()), None),
        ("dubbo.metadata.storage-type", Some("local".to_owned()), Some("remote".to_owned())),
    ]
}
