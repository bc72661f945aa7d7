//! The marks of what a bridge carried from one registry into another, in an entry's metadata.
//!
//! An entry that bears them is a copy: whoever counts instances, or carries them on, must know. Nothing else in the house may
//! use these names. SOFARPC makes a URL without any escapes of the metadata that Nacos has, and looks for its first slash: so
//! what is written here is letters, digits, `.`, `:`, `,`, `-`, and `_` with two hex digits for everything else.

use std::{collections::BTreeMap, fmt::Write as _};

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
        if ![ORIGIN, BRIDGE, HOPS].iter().any(|name| metadata.contains_key(*name)) {
            return None;
        }
        let hops = metadata.get(HOPS).and_then(|hops| hops.parse().ok()).unwrap_or(HOPS_MAX);
        let of = |name: &str| metadata.get(name).map(|value| meant(value)).unwrap_or_default();
        let (origin, bridge) = (of(ORIGIN), of(BRIDGE));
        Some(Self { origin, bridge, hops: hops.clamp(1, HOPS_MAX) })
    }

    /// Puts it into metadata, in the place of any other.
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert(ORIGIN.to_owned(), spelled(&self.origin));
        metadata.insert(BRIDGE.to_owned(), spelled(&self.bridge));
        metadata.insert(HOPS.to_owned(), self.hops.to_string());
    }

    /// Whether an entry is a copy.
    pub fn is_on(metadata: &BTreeMap<String, String>) -> bool {
        [ORIGIN, BRIDGE, HOPS].iter().any(|name| metadata.contains_key(*name))
    }
}

/// A text in characters that no format takes for its own.
fn spelled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".:,-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "_{byte:02X}");
        }
    }
    out
}

/// What was spelled so; whatever was not is what it says.
fn meant(spelled: &str) -> String {
    let mut parts = spelled.split('_');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let known = part.get(..2).and_then(|hex| Some((u8::from_str_radix(hex, 16).ok()?, part.get(2..)?)));
        match known {
            Some((byte, rest)) => {
                bytes.push(byte);
                bytes.extend(rest.as_bytes());
            }
            None => {
                bytes.push(b'_');
                bytes.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| spelled.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_no_character_that_a_url_would_be_read_by() {
        let mark =
            Mark { origin: "zookeeper:a:2181,b:2181/p_r/é?x=1&y".into(), bridge: "to_b".into(), hops: 1 };
        let mut metadata = BTreeMap::new();
        mark.write(&mut metadata);
        assert_eq!(
            metadata.get(ORIGIN).map(String::as_str),
            Some("zookeeper:a:2181,b:2181_2Fp_5Fr_2F_C3_A9_3Fx_3D1_26y")
        );
        assert_eq!(Mark::read(&metadata), Some(mark));
        for text in ["_", "_x", "a_4", "_FF", "_é"] {
            assert_eq!(meant(text), text);
        }
    }

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
