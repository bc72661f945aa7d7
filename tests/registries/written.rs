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
    let mut wrong = Vec::new();
    for registry in Registry::BOTH {
        for (at, service) in stage.java.services().into_iter().enumerate() {
            let entries = entries::of(stage.java, registry, service);
            let theirs = one(&entries, &stage.own_addresses(registry, at)[0]);
            let ours = one(&entries, &beside.address(at));
            let found = entries::differences(theirs, ours);
            let known = known(stage.java, service);
            if !found.iter().map(|(name, theirs, ours)| (name.as_str(), theirs, ours)).eq(known
                .iter()
                .map(|(name, theirs, ours)| (*name, theirs, ours)))
            {
                wrong.push(format!(
                    "{registry:?} {service:?}: {found:#?}\ntheirs: {theirs:#?}\nours: {ours:#?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "what we write is not what {:?} writes:\n{}", stage.java, wrong.join("\n"));
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
