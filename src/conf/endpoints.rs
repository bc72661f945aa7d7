//! The endpoints of a cluster as they are written, and how they are told apart: by what they say of themselves, by zone, by tag.
//!
//! Nothing here means anything yet; `lower` gives it meaning.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{decode::OneOrMany, units::Percent};

/// One place that gives the service: `host:port`, alone or with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(pub EndpointMap);

/// One place that gives the service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointMap {
    /// Where it is: `host:port`.
    pub address: String,
    /// Its share of the calls beside the others' weights; 0: none.
    #[serde(default = "EndpointMap::default_weight")]
    pub weight: u32,
    /// What it says of itself: its `zone`, its `environment`, and whatever subsets and tags ask for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl EndpointMap {
    fn default_weight() -> u32 {
        1
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EndpointVisitor;

        impl<'de> Visitor<'de> for EndpointVisitor {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`host:port`, or { address: …, weight: …, metadata: { … } }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                let (address, weight) = (text.to_owned(), EndpointMap::default_weight());
                Ok(Endpoint(EndpointMap { address, weight, metadata: BTreeMap::new() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                EndpointMap::deserialize(MapAccessDeserializer::new(map)).map(Endpoint)
            }
        }

        deserializer.deserialize_any(EndpointVisitor)
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let EndpointMap { address, weight, metadata } = &self.0;
        if *weight == EndpointMap::default_weight() && metadata.is_empty() {
            return serializer.serialize_str(address);
        }
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<EndpointMap>();
        json_schema!({
            "description": "`host:port`, or a map with what is known of it.",
            "anyOf": [{ "type": "string" }, map]
        })
    }
}

/// Which endpoints are near, by the `zone` that they say: those of the process's own zone, then those of near ones, then all
/// others, then the last.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Zones {
    /// Whether that makes a difference at all.
    pub local_first: bool,
    /// Zones that come after the own one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// Zones that come last, such as a public cloud.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<String>,
    /// When less than this share of the endpoints that come first is usable, those that come next take over what is missing.
    pub spill: Percent,
}

impl Default for Zones {
    fn default() -> Self {
        Self { local_first: true, near: Vec::new(), last: Vec::new(), spill: Percent::new(70) }
    }
}

/// How calls find their endpoints by a tag (Dubbo's tag routing).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tags {
    /// The header that carries it, or several of which the first that is there counts: Bolt's header map, Dubbo's
    /// attachment, HTTP's header.
    pub header: OneOrMany<String>,
    /// What the endpoints call it.
    pub metadata: String,
    /// Whether endpoints without a tag take the calls with a tag that no endpoint has.
    pub fallback: bool,
    /// The header that says `true` where they must not.
    pub force_header: String,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            header: OneOrMany(vec!["dubbo.tag".to_owned(), "dubbo-tag".to_owned()]),
            metadata: "dubbo.tag".to_owned(),
            fallback: true,
            force_header: "dubbo.force.tag".to_owned(),
        }
    }
}
