//! The text of the file to services, or the first mistake in it with its line and column.
//!
//! Strict on purpose: a key that is misspelt, an address that cannot be dialled or an endpoint that stands twice would
//! otherwise be noticed in production only. Choices are read by visitors of our own, because serde's `untagged`
//! loses the place of an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use outrigger_discovery::{Instance, ServiceKey, WEIGHT_DEFAULT, WEIGHT_MAX, check_address};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::{DuplicateKeyPolicy, Location, MergeKeyPolicy, Spanned, UserMessageFormatter};

/// Every service of the file.
#[derive(Debug, PartialEq)]
pub(crate) struct Services(BTreeMap<String, Vec<Instance>>);

impl Services {
    /// The instances that `key` wants, by address. One that stands there for several versions is given once, as the
    /// first that fits.
    pub(crate) fn of(&self, key: &ServiceKey) -> Vec<Instance> {
        let all = self.0.get(&key.service).into_iter().flatten();
        all.filter(|instance| key.admits(instance)).cloned().collect()
    }

    /// The names of all services.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Reads the file's bytes; an error begins with `:line:column: ` where there is a place, otherwise with `: `.
pub(crate) fn parse(bytes: &[u8]) -> Result<Services, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let root: Root = serde_saphyr::from_slice_with_options(bytes, options).map_err(|error| said(&error))?;
    let mut services = BTreeMap::new();
    for (service, endpoints) in root.services {
        let mut instances = Vec::with_capacity(endpoints.len());
        let mut identities = BTreeSet::new();
        for Spanned { value: Endpoint(instance), referenced, .. } in endpoints {
            let identity = (instance.address.clone(), instance.version.clone(), instance.group.clone());
            if !identities.insert(identity) {
                let message = format!("{} stands twice under {service}", instance.address);
                return Err(placed(Some(referenced), &message));
            }
            instances.push(instance);
        }
        services.insert(service, instances);
    }
    Ok(Services(services))
}

fn said(error: &serde_saphyr::Error) -> String {
    let plain = error.without_snippet();
    placed(plain.location(), &plain.render_with_formatter(&UserMessageFormatter))
}

fn placed(place: Option<Location>, message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    match place {
        Some(at) if at.line() > 0 => {
            let (line, column) = (at.line(), at.column());
            // The parser ends its own messages with the place, which would then stand there twice.
            let message = message.trim_end_matches(&format!(" at line {line}, column {column}"));
            format!(":{line}:{column}: {message}")
        }
        _ => format!(": {message}"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    services: BTreeMap<String, Vec<Spanned<Endpoint>>>,
}

/// One line of a service: an address alone, or a map with one.
struct Endpoint(Instance);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    address: Address,
    #[serde(default)]
    weight: Weight,
    version: Option<String>,
    group: Option<String>,
    protocol: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Endpoint;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("host:port, or a map with an address")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                check_address(text).map_err(|bad| refuse(text, bad))?;
                Ok(Endpoint(Instance::new(text)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let Written {
                    address: Address(address),
                    weight: Weight(weight),
                    version,
                    group,
                    protocol,
                    metadata,
                } = Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Endpoint(Instance {
                    address,
                    weight,
                    version,
                    group,
                    protocol,
                    started: None,
                    metadata: metadata.into(),
                }))
            }
        }

        from.deserialize_any(Either)
    }
}

struct Address(String);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        check_address(&text).map_err(|bad| refuse(&text, bad))?;
        Ok(Self(text))
    }
}

struct Weight(u32);

impl Default for Weight {
    fn default() -> Self {
        Self(WEIGHT_DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let refused =
            || de::Error::custom(format_args!("the weight must be a whole number from 0 to {WEIGHT_MAX}"));
        let weight = i64::deserialize(from).map_err(|_| refused())?;
        u32::try_from(weight).ok().filter(|weight| *weight <= WEIGHT_MAX).map(Self).ok_or_else(refused)
    }
}

fn refuse<E: de::Error>(text: &str, why: impl fmt::Display) -> E {
    E::custom(format_args!("{text:?} is not an address: {why}"))
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "a failing test is the point")]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
services:
  com.example.EchoService:
    - 127.0.0.1:12201
    - { address: "[::1]:12202", weight: 50, version: "1.0.0", group: g, metadata: { zone: a } }
    - { address: "[::1]:12202", version: 2.0 }
  com.example.Idle: []
"#;

    fn all(service: &str) -> BTreeMap<String, Instance> {
        let mut all = BTreeMap::new();
        for instance in parse(SAMPLE.as_bytes()).expect("a good file").of(&ServiceKey::new(service)) {
            all.entry(instance.address.clone()).or_insert(instance);
        }
        all
    }

    #[test]
    fn both_forms_of_an_endpoint_are_read() {
        let found = all("com.example.EchoService");
        assert_eq!(found["127.0.0.1:12201"], Instance::new("127.0.0.1:12201"));
        let rich = Instance {
            weight: 50,
            version: Some("1.0.0".into()),
            group: Some("g".into()),
            metadata: BTreeMap::from([("zone".into(), "a".into())]).into(),
            ..Instance::new("[::1]:12202")
        };
        assert_eq!(found["[::1]:12202"], rich, "the first that fits");
        assert_eq!(found.len(), 2);
        assert!(all("com.example.Idle").is_empty() && all("com.example.Unknown").is_empty());
    }

    #[test]
    fn a_version_that_looks_like_a_number_stays_text() {
        let key = ServiceKey { version: Some("2.0".into()), ..ServiceKey::new("com.example.EchoService") };
        let found = parse(SAMPLE.as_bytes()).expect("a good file").of(&key);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].address.as_str(), found[0].version.as_deref()), ("[::1]:12202", Some("2.0")));
    }

    #[test]
    fn every_mistake_is_refused_at_its_place() {
        for (text, place, words) in [
            ("services:\n  s:\n    - 127.0.0.1\n", ":3:7: ", "a port is missing"),
            ("services:\n  s:\n    - 8080\n", ":3:7: ", "host:port"),
            ("services:\n  s:\n    - { address: a b:80 }\n", ":3:18: ", "the host must be"),
            ("services:\n  s:\n    - a:1\n    - b:1\n    - a:1\n", ":5:7: ", "a:1 stands twice under s"),
            ("services:\n  s:\n    - { address: a:1, wieght: 5 }\n", ":3:23: ", "wieght"),
            ("services:\n  s:\n    - { address: a:1, weight: 10001 }\n", ":3:31: ", "from 0 to 10000"),
            ("services:\n  s:\n    - { address: a:1, weight: -1 }\n", ":3:31: ", "from 0 to 10000"),
            ("services:\n  s:\n    - { weight: 1 }\n", ":3:9: ", "address"),
            ("services:\n  s: [a:1]\n  s: [b:1]\n", ":3:3: ", "duplicate"),
            ("services: {}\nservice: {}\n", ":2:1: ", "service"),
            ("services:\n  s:\n    - [a:1\n", ":3:7: ", "unclosed"),
        ] {
            let problem = parse(text.as_bytes()).expect_err(text);
            assert!(
                !problem.contains("at line") && problem.starts_with(place) && problem.contains(words),
                "{text}\n{problem}"
            );
        }
    }

    #[test]
    fn an_empty_file_is_not_an_empty_registry() {
        for text in ["", "\n# nothing yet\n", "services:\n", "---\n...\n"] {
            let read = parse(text.as_bytes());
            assert!(read.is_err(), "{text:?} gave {read:?}");
        }
        assert!(parse(b"services: {}").is_ok());
        assert!(parse(b"\xff\xfe\x00").is_err());
    }
}
