//! The text of the file to services, or the first mistake in it with its line and column.
//!
//! Strict on purpose: a key that is misspelt, an address that cannot be dialled or an endpoint that stands twice would
//! otherwise be noticed in production only. Choices are read by visitors of our own, because serde's `untagged`
//! loses the place of an error.

use std::{collections::BTreeMap, fmt};

use outrigger_discovery::{Instance, ServiceKey, WEIGHT_DEFAULT, WEIGHT_MAX, check_address};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::{DuplicateKeyPolicy, Location, MergeKeyPolicy, Options, Spanned};

/// Every service of the file.
#[derive(Debug, PartialEq)]
pub(crate) struct Services(BTreeMap<String, Vec<Instance>>);

impl Services {
    /// The instances that `key` wants, by address. One that stands there for several versions is given once, as the
    /// first that fits.
    pub(crate) fn of(&self, key: &ServiceKey) -> BTreeMap<String, Instance> {
        let mut found = BTreeMap::new();
        for instance in self.0.get(&key.service).into_iter().flatten().filter(|instance| key.admits(instance)) {
            found.entry(instance.address.clone()).or_insert_with(|| instance.clone());
        }
        found
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
        let mut instances: Vec<Instance> = Vec::with_capacity(endpoints.len());
        for Spanned { value: Endpoint(instance), referenced, .. } in endpoints {
            let same = |other: &Instance| {
                (&other.address, &other.version, &other.group)
                    == (&instance.address, &instance.version, &instance.group)
            };
            if instances.iter().any(same) {
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
    placed(plain.location(), &plain.render())
}

fn placed(place: Option<Location>, message: &str) -> String {
    // The parser ends some of its messages with the place, which then would stand there twice.
    let message = message.lines().next().unwrap_or_default();
    match place {
        Some(at) if at.line() > 0 => format!(":{}:{}: {message}", at.line(), at.column()),
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
                let Written { address, weight, version, group, metadata } =
                    Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Endpoint(Instance { address: address.0, weight: weight.0, version, group, metadata }))
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
        let weight = u32::deserialize(from)?;
        if weight > WEIGHT_MAX {
            return Err(de::Error::custom(format_args!("the weight {weight} is more than {WEIGHT_MAX}")));
        }
        Ok(Self(weight))
    }
}

fn refuse<E: de::Error>(text: &str, why: impl fmt::Display) -> E {
    E::custom(format_args!("{text:?} is not an address: {why}"))
}
