//! The marks of what a bridge carried from one registry into another, in an entry's metadata.
//!
//! An entry that bears them is a copy: whoever counts instances, or carries them on, must know. Nothing else in the house may
//! use these names.

use std::collections::BTreeMap;

const ORIGIN: &str = "outrigger.origin";
const BRIDGE: &str = "outrigger.bridge";
const HOPS: &str = "outrigger.hops";
/// A copy of copies of copies: nobody wants to know how many.
const HOPS_MAX: u32 = 255;

/// What a copy says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The registry that it was first found in.
    pub origin: String,
    /// The bridge that carried it last.
    pub bridge: String,
    /// How often it was carried, at least once.
    pub hops: u32,
}

impl Mark {
    /// The mark in an entry's metadata; `None`: it is no copy. One that cannot be read whole is a copy all the same.
    pub fn read(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let text = |name: &str| metadata.get(name).cloned();
        if ![ORIGIN, BRIDGE, HOPS].iter().any(|name| metadata.contains_key(*name)) {
            return None;
        }
        let hops = text(HOPS).and_then(|hops| hops.parse().ok()).unwrap_or(HOPS_MAX);
        let (origin, bridge) = (text(ORIGIN).unwrap_or_default(), text(BRIDGE).unwrap_or_default());
        Some(Self { origin, bridge, hops: hops.clamp(1, HOPS_MAX) })
    }

    /// Puts it into metadata, in the place of any other.
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert(ORIGIN.to_owned(), self.origin.clone());
        metadata.insert(BRIDGE.to_owned(), self.bridge.clone());
        metadata.insert(HOPS.to_owned(), self.hops.to_string());
    }

    /// Whether an entry is a copy.
    pub fn is_on(metadata: &BTreeMap<String, String>) -> bool {
        [ORIGIN, BRIDGE, HOPS].iter().any(|name| metadata.contains_key(*name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_half_of_one_is_a_mark() {
        let mut metadata = BTreeMap::new();
        assert_eq!((Mark::read(&metadata), Mark::is_on(&metadata)), (None, false));
        let mark = Mark { origin: "zookeeper-1".into(), bridge: "b".into(), hops: 2 };
        mark.write(&mut metadata);
        assert_eq!((Mark::read(&metadata), Mark::is_on(&metadata)), (Some(mark), true));
        for (hops, want) in [("x", 255), ("0", 1), ("99999", 255), ("", 255)] {
            let half = BTreeMap::from([(HOPS.to_owned(), hops.to_owned())]);
            assert_eq!(Mark::read(&half).map(|mark| mark.hops), Some(want), "{hops:?}");
        }
    }
}
