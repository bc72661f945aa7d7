//! What the sidecar wrote beside what the framework itself wrote of the same service, field by field.
//!
//! Whatever differs must be named here, with its reason; nothing else may differ, but for what is different for every
//! process (see `entries::differences`).

use super::entries::{self, Entry};
use super::java::{Java, Registry};
use super::stage::{Beside, Stage};

/// A field that differs: what the framework writes, and what we do.
type Difference = (&'static str, Option<&'static str>, Option<&'static str>);

pub(crate) fn as_the_framework_would(stage: &Stage, beside: &Beside) {
    let mut wrong = Vec::new();
    for registry in Registry::BOTH {
        for (at, service) in stage.java.services().into_iter().enumerate() {
            let entries = entries::of(stage.java, registry, service);
            let theirs = one(&entries, &stage.own_addresses(registry, at)[0]);
            let ours = one(&entries, &beside.address(at));
            let found = entries::differences(theirs, ours);
            let known = known(stage.java, registry);
            let same = found.len() == known.len()
                && found.iter().zip(&known).all(|((name, theirs, ours), known)| {
                    (name.as_str(), theirs.as_deref(), ours.as_deref()) == *known
                });
            if !same {
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
fn known(_java: Java, _registry: Registry) -> Vec<Difference> {
    Vec::new()
}
