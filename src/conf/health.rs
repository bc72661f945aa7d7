//! The `health` of a cluster as it is written: what its endpoints are asked, and what follows from their answers.
//!
//! A check is one of a few kinds, each a word alone or a map of one key; those that are heartbeats of a protocol are named by
//! the list of plug-ins, so that a new one needs no line here. Nothing here means anything yet; see `lower`.

use std::{borrow::Cow, fmt, sync::LazyLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, MapAccess, Visitor},
    ser::SerializeMap,
};

use super::{off::Off, units::Duration};
use crate::plugins::{PROTOCOLS, heartbeat};

/// How endpoints are asked whether they are well, besides the calls that they answer.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What they are asked, and which answer is a good one.
    pub check: Check,
    /// How often each of them is asked, give or take a tenth; at least 100ms.
    #[serde(default = "Health::default_interval")]
    pub interval: Duration,
    /// How long making a connection and the answer may take together; at most the interval, by default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Bad checks in a row that make an endpoint ill: it gets no calls then.
    #[serde(default = "Health::default_unhealthy")]
    pub unhealthy: u32,
    /// Good checks in a row that make it well again.
    #[serde(default = "Health::default_healthy")]
    pub healthy: u32,
}

impl Health {
    fn default_interval() -> Duration {
        Duration::new(std::time::Duration::from_secs(5))
    }

    fn default_unhealthy() -> u32 {
        3
    }

    fn default_healthy() -> u32 {
        2
    }
}

impl Off for Health {
    fn off() -> Option<Self> {
        None
    }
}

/// What an endpoint is asked, each time over a connection of its own: `tcp`, `http`, `grpc`, or a protocol's heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// That it takes a connection.
    Tcp,
    /// A page.
    Http(HttpCheck),
    /// gRPC's own health service.
    Grpc(GrpcCheck),
    /// The heartbeat of a protocol.
    Heartbeat(&'static str),
}

/// A page that is asked for by GET, over HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpCheck {
    /// Its path, with a query where it needs one.
    pub path: String,
    /// The host to ask for; by default the endpoint's own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The statuses of a good answer, 200 to 599.
    pub statuses: Vec<u16>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self { path: "/".to_owned(), authority: None, statuses: vec![200] }
    }
}

/// A call of `grpc.health.v1.Health/Check` over HTTP/2; a good answer says SERVING.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcCheck {
    /// The service to ask about; by default the whole server.
    pub service: String,
}

/// A check that has nothing to say about itself.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Plain {}

const TCP: &str = "tcp";
const HTTP: &str = "http";
const GRPC: &str = "grpc";

/// The names of all kinds.
static KINDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let heartbeats = PROTOCOLS.iter().copied().filter(|name| heartbeat(name).is_some());
    [TCP, HTTP, GRPC].into_iter().chain(heartbeats).collect()
});

/// One of [`KINDS`].
struct Kind(&'static str);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KindVisitor;

        impl Visitor<'_> for KindVisitor {
            type Value = Kind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the kind of a check")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Kind, E> {
                let known = KINDS.iter().find(|kind| **kind == text);
                known.map(|kind| Kind(kind)).ok_or_else(|| E::unknown_variant(text, &KINDS))
            }
        }

        deserializer.deserialize_str(KindVisitor)
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CheckVisitor;

        impl<'de> Visitor<'de> for CheckVisitor {
            type Value = Check;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {}, or a map of one of them", KINDS.join(", "))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Check, E> {
                let Kind(kind) = Kind::deserialize(text.into_deserializer())?;
                Ok(match kind {
                    TCP => Check::Tcp,
                    HTTP => Check::Http(HttpCheck::default()),
                    GRPC => Check::Grpc(GrpcCheck::default()),
                    protocol => Check::Heartbeat(protocol),
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Check, A::Error> {
                let Some(Kind(kind)) = map.next_key()? else {
                    return Err(de::Error::custom(format!("expected one of {}", KINDS.join(", "))));
                };
                let check = match kind {
                    HTTP => Check::Http(map.next_value()?),
                    GRPC => Check::Grpc(map.next_value()?),
                    _ => {
                        let Plain {} = map.next_value()?;
                        if kind == TCP { Check::Tcp } else { Check::Heartbeat(kind) }
                    }
                };
                match map.next_key::<Kind>()? {
                    None => Ok(check),
                    Some(Kind(other)) => Err(de::Error::custom(format!(
                        "a cluster has one check, not `{kind}` and `{other}`\nhelp: leave one of them out"
                    ))),
                }
            }
        }

        deserializer.deserialize_str(CheckVisitor)
    }
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Tcp => map.serialize_entry(TCP, &Plain {})?,
            Self::Http(check) => map.serialize_entry(HTTP, check)?,
            Self::Grpc(check) => map.serialize_entry(GRPC, check)?,
            Self::Heartbeat(protocol) => map.serialize_entry(protocol, &Plain {})?,
        }
        map.end()
    }
}

impl JsonSchema for Check {
    fn schema_name() -> Cow<'static, str> {
        "Check".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut kinds = serde_json::Map::new();
        for kind in KINDS.iter() {
            let schema = match *kind {
                HTTP => generator.subschema_for::<HttpCheck>(),
                GRPC => generator.subschema_for::<GrpcCheck>(),
                _ => generator.subschema_for::<Plain>(),
            };
            kinds.insert((*kind).to_owned(), schema.to_value());
        }
        json_schema!({
            "description": "What an endpoint is asked: a word alone, or a map of one of them.",
            "anyOf": [
                { "type": "string", "enum": *KINDS },
                { "type": "object", "properties": kinds, "additionalProperties": false, "minProperties": 1,
                  "maxProperties": 1 }
            ]
        })
    }
}
