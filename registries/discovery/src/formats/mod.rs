//! What frameworks write into registries, and how it is read: text in, instances out, and back.
//!
//! The same for every registry that they are written to. Must never ask anybody anything, and never fail on what one
//! instance says at the cost of others. Held by what real frameworks wrote (`tests/golden/`).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod application;
pub mod curator;
pub mod dubbo;
pub mod percent;
pub mod sofarpc;
mod url;

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
};

pub use url::Url;

use crate::{WEIGHT_DEFAULT, WEIGHT_MAX, check_address};

/// Parameters of an instance, as a framework names them.
pub type Params = BTreeMap<String, String>;

/// Text of its own, or a part of another: of what a registry says most is not kept.
pub trait Text: Borrow<str> + Ord + Into<String> {}

impl<T: Borrow<str> + Ord + Into<String>> Text for T {}

/// What is wrong with one entry of a registry: it is skipped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEntry(pub &'static str);

impl fmt::Display for BadEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for BadEntry {}

/// `host:port` of the two, with the brackets that an IPv6 needs.
pub fn join(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The host and the port of an address, without brackets.
pub fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

/// An address in the house's form; `None`: it cannot be dialled. Java writes IPv6 without brackets.
fn dialled(address: &str) -> Option<String> {
    let (host, port) = split(address)?;
    let address = join(host, port);
    check_address(&address).ok().map(|()| address)
}

/// Whether the host means every host there is.
fn is_any(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// What is under the key, unless that is empty: frameworks write an empty value where they have none.
fn filled<'a, T: Text>(params: &'a BTreeMap<T, T>, key: &str) -> Option<&'a str> {
    params.get(key).map(Borrow::borrow).filter(|value: &&str| !value.is_empty())
}

/// The weight under the key; one that is no number is as good as none.
fn weight<T: Text>(params: &BTreeMap<T, T>, key: &str) -> u32 {
    let stated = params.get(key).and_then(|text| text.borrow().trim().parse::<i64>().ok());
    stated.map_or(WEIGHT_DEFAULT, |stated| stated.clamp(0, i64::from(WEIGHT_MAX)) as u32)
}

/// Milliseconds since 1970 under the key.
fn moment<T: Text>(params: &BTreeMap<T, T>, key: &str) -> Option<u64> {
    params.get(key)?.borrow().parse().ok().filter(|ms| *ms > 0)
}

/// Whether Java would read the value as `true`.
fn is_true(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_is_dialled_with_and_without_brackets() {
        assert_eq!(dialled("fd00::7:20880").as_deref(), Some("[fd00::7]:20880"));
        assert_eq!(dialled("[fd00::7]:20880").as_deref(), Some("[fd00::7]:20880"));
        assert_eq!(dialled("10.0.0.1:80").as_deref(), Some("10.0.0.1:80"));
        for bad in ["", "a", "a:", "a:0", "a:65536", "fe80::1%eth0:80", "a/b:80", ":80"] {
            assert_eq!(dialled(bad), None, "{bad}");
        }
        assert_eq!(split("[::1]:5"), Some(("::1", 5)));
    }

    #[test]
    fn a_weight_is_a_number_within_bounds_or_the_default() {
        for (text, expected) in [
            ("50", 50),
            ("0", 0),
            ("-5", 0),
            ("999999999999", WEIGHT_MAX),
            ("much", WEIGHT_DEFAULT),
            ("", WEIGHT_DEFAULT),
        ] {
            assert_eq!(weight(&Params::from([("w".into(), text.into())]), "w"), expected, "{text}");
        }
        assert_eq!(weight(&Params::new(), "w"), WEIGHT_DEFAULT);
    }
}
