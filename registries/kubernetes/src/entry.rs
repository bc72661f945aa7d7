//! What stands in the annotations of a slice of ours: the services that are given at its endpoints, and who keeps them there.
//!
//! An `EndpointSlice` has no words for an interface, a version, a weight or metadata, so these stand beside it as JSON, one
//! entry a service and address. Each entry says who keeps it: several processes may write one slice, and none of them may
//! touch the entries of another but to take them over. What cannot be read is passed over, one entry at a time.

use std::collections::BTreeMap;

use outrigger_discovery::{Framework, Instance, Registration, WEIGHT_DEFAULT, WEIGHT_MAX, check_address};
use serde::{Deserialize, Serialize};

/// The annotation with the entries.
pub(crate) const SERVICES: &str = "outrigger/services";
/// The annotation with those who keep them.
pub(crate) const HOLDERS: &str = "outrigger/holders";
/// Who made a slice; controllers leave those of others alone.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The Service that a slice is of.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The value of [`MANAGED_BY`], and the mark of whatever else we make.
pub(crate) const OURS: &str = "outrigger";

/// One service at one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) framework: String,
    pub(crate) service: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) protocol: String,
    pub(crate) address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default = "weight_default")]
    pub(crate) weight: u32,
    #[serde(default)]
    pub(crate) started: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
    /// Who keeps it.
    #[serde(default)]
    pub(crate) holder: String,
}

fn weight_default() -> u32 {
    WEIGHT_DEFAULT
}

/// Which entry it is among all of one slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    framework: String,
    service: String,
    protocol: String,
    address: String,
    version: Option<String>,
    group: Option<String>,
}

impl Entry {
    pub(crate) fn of(r: &Registration, holder: &str) -> Self {
        Self {
            framework: r.framework.name().to_owned(),
            service: r.service.clone(),
            protocol: r.protocol.clone(),
            address: r.address.clone(),
            version: r.version.clone(),
            group: r.group.clone(),
            weight: r.weight.min(WEIGHT_MAX),
            started: r.started,
            metadata: r.metadata.clone(),
            holder: holder.to_owned(),
        }
    }

    pub(crate) fn key(&self) -> Key {
        Key {
            framework: self.framework.clone(),
            service: self.service.clone(),
            protocol: self.protocol.clone(),
            address: self.address.clone(),
            version: self.version.clone(),
            group: self.group.clone(),
        }
    }

    pub(crate) fn framework(&self) -> Option<Framework> {
        Framework::ALL.into_iter().find(|framework| framework.name() == self.framework)
    }

    /// Who is called; `None`: it cannot be dialled.
    pub(crate) fn instance(&self) -> Option<Instance> {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        check_address(&self.address).ok()?;
        Some(Instance {
            address: self.address.clone(),
            weight: self.weight.min(WEIGHT_MAX),
            version: self.version.as_ref().and_then(some),
            group: self.group.as_ref().and_then(some),
            protocol: some(&self.protocol),
            started: Some(self.started).filter(|started| *started > 0),
            metadata: self.metadata.clone().into(),
        })
    }
}

/// One who keeps entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// When it last said so; nothing but a change of it means anything, since no two clocks are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) beat: Option<String>,
    /// Or the pod with which its entries go, which is an owner of the slice then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<String>,
    /// The pod's unique id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<String>,
}

/// What the annotations of a slice say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) entries: Vec<Entry>,
    pub(crate) holders: BTreeMap<String, Holder>,
    /// Entries that cannot be read.
    pub(crate) bad: u32,
}

impl Marks {
    /// `None`: nothing is said there.
    pub(crate) fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let services = annotations.get(SERVICES)?;
        let mut marks = Self::default();
        match serde_json::from_str::<Vec<serde_json::Value>>(services) {
            Ok(all) => {
                for one in all {
                    match serde_json::from_value::<Entry>(one) {
                        Ok(entry) if entry.framework().is_some() && entry.instance().is_some() => {
                            marks.entries.push(entry);
                        }
                        _ => marks.bad = marks.bad.saturating_add(1),
                    }
                }
            }
            Err(_) => marks.bad = 1,
        }
        let holders = annotations.get(HOLDERS).and_then(|json| serde_json::from_str(json).ok());
        marks.holders = holders.unwrap_or_default();
        Some(marks)
    }

    /// The annotations that say it.
    pub(crate) fn write(&self) -> Result<BTreeMap<String, String>, serde_json::Error> {
        Ok(BTreeMap::from([
            (SERVICES.to_owned(), serde_json::to_string(&self.entries)?),
            (HOLDERS.to_owned(), serde_json::to_string(&self.holders)?),
        ]))
    }
}

/// A number of a text that is the same everywhere and always, for names (FNV-1a).
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        // No part has a zero in it, so none can be mistaken for two.
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_entry_hides_no_other() {
        let annotations = BTreeMap::from([
            (
                SERVICES.to_owned(),
                r#"[{"framework":"dubbo","service":"a.B","address":"10.0.0.1:1","more":1},
                    {"framework":"dubbo","service":"a.B","address":"nowhere"},
                    {"framework":"none","service":"a.B","address":"10.0.0.1:2"}, 7]"#
                    .to_owned(),
            ),
            (HOLDERS.to_owned(), "torn".to_owned()),
        ]);
        let marks = Marks::read(&annotations).unwrap();
        assert_eq!((marks.entries.len(), marks.bad, marks.holders.len()), (1, 3, 0));
        assert_eq!(marks.entries[0].weight, WEIGHT_DEFAULT);
        assert_eq!(Marks::read(&BTreeMap::new()), None);
        let again = Marks::read(&marks.write().unwrap()).unwrap();
        assert_eq!(again.entries, marks.entries);
    }

    #[test]
    fn a_digest_tells_where_a_part_ends() {
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        assert_eq!(digest(["a"]), digest(["a"]));
    }
}
