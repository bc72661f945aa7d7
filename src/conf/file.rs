//! The conf file as it is written: one struct for each map in it, in the words of the user.
//!
//! Nothing here means anything yet; `lower` gives it meaning. Choices are externally tagged and keys are never flattened,
//! because only then does every mistake land on its exact line and column. Every key has a doc comment: it is the
//! text that editors show, by way of the JSON Schema.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    bridges::Bridge,
    changes::{Headers, Rewrite},
    decode::OneOrMany,
    defaults::Defaults,
    endpoints::{Endpoint, Tags, Zones},
    health::Health,
    learn::Learn,
    off::{Off, OrOff, optional_or_off, or_off},
    registries::{Discover, Register, Registry, To},
    respond::{Redirect, Respond},
    units::{Duration, Percent, Rate, Size},
};
use crate::plugins::{exchanges, names};

/// The conf of one application's sidecar.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conf {
    /// The application's name; a label of its metrics.
    pub app: String,
    /// Where the admin port listens: `host:port`, port 0 for any (it is printed at start), or `off`.
    #[serde(default = "Conf::default_admin")]
    pub admin: String,
    /// Lets `admin` listen on an address that is not loopback. Whoever reaches it can drain and reload.
    #[serde(default)]
    pub admin_allow_remote: bool,
    /// Worker threads; by default one a core that the process may use, at most 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// The zone that the process runs in: endpoints that say `zone` and the same of themselves are near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The environment that the process belongs to (production, staging, test): endpoints of others get none of its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How long calls in flight may take to finish after TERM.
    #[serde(default = "Conf::default_drain_timeout")]
    pub drain_timeout: Duration,
    /// Bounds on what peers may make the sidecar hold.
    #[serde(default)]
    pub limits: Limits,
    /// What routes and clusters are that do not say otherwise themselves.
    #[serde(default, skip_serializing)]
    pub defaults: Option<Defaults>,
    /// Where callers connect, by name.
    #[serde(default)]
    pub listeners: BTreeMap<String, Listener>,
    /// Sets of endpoints that give the same service, by name.
    #[serde(default)]
    pub clusters: BTreeMap<String, Cluster>,
    /// Where endpoints are found, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registries: BTreeMap<String, Registry>,
    /// The services of the application that others shall find, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub register: BTreeMap<String, Register>,
    /// Services of one registry that are carried into another, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bridges: BTreeMap<String, Bridge>,
    /// Where the application itself says what it gives and what it wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<Learn>,
    /// The folder where the last word of each registry, and of the application, is kept, to begin with; `off`: nowhere. By
    /// default a folder of the application's name under `$XDG_STATE_HOME/outrigger` or `~/.local/state/outrigger`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How long to wait on TERM, after everything registered was taken away, before callers are told to leave: what registries
    /// say needs time to reach them.
    #[serde(default = "Conf::default_propagation")]
    pub propagation: Duration,
}

impl Conf {
    fn default_admin() -> String {
        "127.0.0.1:15000".to_owned()
    }

    fn default_drain_timeout() -> Duration {
        duration(30_000)
    }

    fn default_propagation() -> Duration {
        duration(5_000)
    }
}

/// Bounds on what peers may make the sidecar hold.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest frame, header included; longer ones are refused unread.
    pub frame_max: Size,
    /// Bytes waiting for one caller that does not read; beyond them its connection is closed.
    pub outbox_max: Size,
    /// Callers' connections at once; more wait to be accepted.
    pub connections_max: u32,
    /// The longest head of an HTTP message, first line included; 1KiB to 1MiB. Longer: 431.
    pub head_max: Size,
    /// The most headers of an HTTP message, 1 to 1000. More: 431.
    pub headers_max: u32,
    /// The longest target of an HTTP request, 64B to `head_max`. Longer: 414.
    pub uri_max: Size,
    /// Calls at once on one HTTP/2 connection of a caller, at least 1; more are refused, to be tried again elsewhere.
    pub streams_max: u32,
    /// The longest body of an HTTP request, framing not counted; by default there is no bound. Longer: 413.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_max: Option<Size>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max: Size::new(8 << 20),
            outbox_max: Size::new(64 << 20),
            connections_max: 10_000,
            head_max: Size::new(64 << 10),
            headers_max: 100,
            uri_max: Size::new(8 << 10),
            streams_max: 1_000,
            body_max: None,
        }
    }
}

/// A place where callers connect.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address to listen on: `ip:port`.
    pub bind: String,
    /// What callers speak: `auto` (told by the first bytes), one protocol, or a list. With `tcp` in a list, bytes of no
    /// listed protocol are relayed as they are.
    #[serde(default = "Listener::default_protocol")]
    #[schemars(with = "OneOrMany<ProtocolName>")]
    pub protocol: OneOrMany<String>,
    /// How long a connection may take, from its first byte, until it can be told what it speaks. With `tcp` in a list also how
    /// long to wait for a first byte, before the server is let speak first.
    #[serde(default = "Listener::default_detect_timeout")]
    pub detect_timeout: Duration,
    /// A connection without calls and bytes for this long is closed (Bolt 90s, Dubbo 180s, HTTP/1 60s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_timeout: Option<Duration>,
    /// How long the head of an HTTP request may take, from its first byte to its last (10s). Longer: 408.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_timeout: Option<Duration>,
    /// How long a body of HTTP, in either direction, may stand still (30s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// How HTTP requests are treated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Where calls go; tried in order, the first that matches wins.
    pub routes: Vec<Route>,
}

impl Listener {
    fn default_protocol() -> OneOrMany<String> {
        OneOrMany(vec!["auto".to_owned()])
    }

    fn default_detect_timeout() -> Duration {
        duration(5_000)
    }
}

/// How HTTP requests are treated.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Headers whose name has an underscore, which some servers take for a hyphen.
    pub underscores: Underscores,
    /// What a connection may be upgraded to; a request for anything else is served as if it had not asked.
    pub upgrades: Vec<String>,
    /// Lets TRACE pass; else it is refused with 405.
    pub trace: bool,
    /// Lets CONNECT pass, as a tunnel to an endpoint of its route; else it is refused with 405.
    pub connect: bool,
    /// The name that the sidecar gives itself in `Via`; by default it adds no such header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// What services are told of the caller: `X-Forwarded-For`, `-Proto` and `-Host`.
    pub forwarded: Forwarded,
    /// Adds an `X-Request-Id` to requests that have none.
    pub request_id: bool,
    /// The header in which callers say how many milliseconds they wait, and in which services are told what is left of that and
    /// of the route's timeout; by default there is none. gRPC and Triple have their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_header: Option<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            underscores: Underscores::Drop,
            upgrades: vec!["websocket".to_owned()],
            trace: false,
            connect: false,
            via: None,
            forwarded: Forwarded::Off,
            request_id: false,
            timeout_header: None,
        }
    }
}

/// What is done with a header whose name has an underscore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Underscores {
    /// It goes no further.
    Drop,
    /// The request is refused with 400.
    Reject,
    /// It is a header like any other.
    Allow,
}

/// What services are told of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Forwarded {
    /// Nothing; what the caller says of itself passes.
    Off,
    /// The caller's address goes behind those of earlier proxies.
    Append,
    /// Only what the sidecar knows itself; what the caller said is dropped.
    Replace,
}

/// The names `protocol` may have, for the schema: those of the list of plug-ins, so that a new one needs no line here.
enum ProtocolName {}

impl JsonSchema for ProtocolName {
    fn schema_name() -> Cow<'static, str> {
        "ProtocolName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = ["auto"].into_iter().chain(names()).chain(["tcp"]).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

/// The names that a cluster's `protocol` may have, for the schema: those that calls can be translated into.
enum TranslationName {}

impl JsonSchema for TranslationName {
    fn schema_name() -> Cow<'static, str> {
        "TranslationName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = names().filter(|name| exchanges(name)).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

/// What a call must look like, and where it then goes.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The route's name in metrics; by default made from what it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What a call must look like; empty matches every call.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// The cluster it goes to; or `{ service: … }`: the service that the call itself names, found in a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<To>,
    /// Or the header that names the cluster, one of those below; a call whose header names none has no route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_header: Option<String>,
    /// Only endpoints that say all of this of themselves, such as `{ version: v2 }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subset: BTreeMap<String, String>,
    /// Where no endpoint is in the `subset`, any of the cluster will do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subset_fallback: bool,
    /// Or several clusters with their shares.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u32>,
    /// The longest a call may take; the caller's own timeout wins when it is smaller. 0s: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How many calls may pass; `off`: all of them.
    #[serde(default, deserialize_with = "optional_or_off", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OrOff<Limit>>")]
    pub limit: Option<Limit>,
    /// Calls of this route may be sent again although they may have been processed: that does no harm. Then one is, once, when
    /// its connection was lost before anything was answered, or as `retry` says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// What is tried again, and how often; only for `idempotent` routes. What was not processed always goes elsewhere; so
    /// does, once, an HTTP/1 request that came as its endpoint ended a kept connection, whatever stands here. `off`: nothing is
    /// tried again, although it might be.
    #[serde(default, deserialize_with = "optional_or_off", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OrOff<Retry>>")]
    pub retry: Option<Retry>,
    /// What is changed of the headers of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Headers>,
    /// What is changed of the headers of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Headers>,
    /// What endpoints are asked for instead of what callers ask for (HTTP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// What is answered instead of a call being sent anywhere (HTTP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// Where callers are sent instead of a call being sent anywhere (HTTP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
}

impl Route {
    /// The cluster that it names by `to`.
    pub fn to_cluster(&self) -> Option<&String> {
        match &self.to {
            Some(To::Cluster(name)) => Some(name),
            _ => None,
        }
    }
}

/// What is tried again, on another endpoint where there is one, never after anything of an answer was given on, and out of
/// the cluster's `retry_budget`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The failures that are tried again.
    pub on: Vec<RetryOn>,
    /// Answers of these statuses, in the protocol's own numbers: HTTP 503, gRPC 14 (only where the answer has no messages),
    /// Bolt 4, Dubbo 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u32>,
    /// Times a call is sent again at most, 0 to 10.
    pub tries: u8,
    /// How long one try may take before the next, if there is one; by default as long as the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// The longest pause before the second time, twice as long each further time; the first does not wait. Drawn at random.
    pub backoff: Duration,
    /// After how long without an answer a second try goes beside the first, on another endpoint; the first to be answered well
    /// counts. By default none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge_after: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            on: vec![RetryOn::Reset],
            statuses: Vec::new(),
            tries: 1,
            per_try_timeout: None,
            backoff: duration(10),
            hedge_after: None,
        }
    }
}

impl Off for Retry {
    fn off() -> Option<Self> {
        Some(Self { tries: 0, ..Self::default() })
    }
}

/// A failure that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryOn {
    /// A connection that was lost before anything was answered.
    Reset,
    /// An answer that says that the endpoint is too busy (HTTP 429, 503; gRPC 8; Bolt 4; Dubbo 100).
    Overloaded,
    /// An answer that tells of another failure of the endpoint's, not of its service's own (HTTP 5xx; gRPC 4, 13, 14, 15).
    Error,
}

/// What trying again may cost the endpoints of a cluster on top.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBudget {
    /// A share of the calls that may be tried again.
    pub share: Percent,
    /// And so many a second, however few calls there are.
    pub floor: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { share: Percent::new(20), floor: 10 }
    }
}

/// What a call must look like. All parts given must match.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The interface. For Bolt `interface` matches any version, `interface:1.0` the whole name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Test>,
    /// The method; for Dubbo's `$invoke` the method that it names, for HTTP `GET` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Test>,
    /// The service version; for Bolt also `version:uniqueId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Test>,
    /// The service group (Dubbo).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Test>,
    /// The authority (HTTP): `host` matches any port, `host:port` only that one. Upper and lower case are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Test>,
    /// The path (HTTP), without its query. May also be `{ template: "/users/{id}/orders/{rest*}" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Test>,
    /// Parameters of the query (HTTP) by name; of several with one name the first counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, Test>,
    /// Headers by name: Bolt's header map, Dubbo's attachments, HTTP's headers (their names in any case).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Test>,
    /// Further matches, all of which must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<Match>,
    /// Further matches, of which one must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<Match>,
    /// A match that must not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Match>>,
}

/// A test of one value: a text that must be equal, or `{ prefix: … }`, `{ regex: … }`, `{ any: […] }`, `{ present: true }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Equal.
    Exact(String),
    /// One of the other tests.
    Other(OtherTest),
}

/// A test that is not equality.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtherTest {
    /// Begins with.
    Prefix(String),
    /// The whole value matches this regular expression.
    Regex(String),
    /// Equal to one of these.
    Any(Vec<String>),
    /// Only for `path`: a path in which `{name}` stands for one segment and a last `{name*}` for the rest.
    Template(String),
    /// There (true) or not there (false).
    Present(bool),
}

impl<'de> Deserialize<'de> for Test {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TestVisitor;

        impl<'de> Visitor<'de> for TestVisitor {
            type Value = Test;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or one of { prefix: … }, { regex: … }, { any: […] }, { present: true }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Test, E> {
                Ok(Test::Exact(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Test, A::Error> {
                let test = OtherTest::deserialize(MapAccessDeserializer::new(&mut map))?;
                // An enum takes the first key alone; a second one would be believed to narrow the test.
                match map.next_key::<de::IgnoredAny>()? {
                    None => Ok(Test::Other(test)),
                    Some(_) => Err(de::Error::custom(
                        "a test has one key\nhelp: to ask for several, write each as a match of its own under `all`",
                    )),
                }
            }
        }

        deserializer.deserialize_str(TestVisitor)
    }
}

impl Serialize for Test {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(text) => serializer.serialize_str(text),
            Self::Other(test) => test.serialize(serializer),
        }
    }
}

impl JsonSchema for Test {
    fn schema_name() -> Cow<'static, str> {
        "Test".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let other = generator.subschema_for::<OtherTest>();
        json_schema!({
            "description": "A text that must be equal, or another test.",
            "anyOf": [{ "type": ["string", "number", "boolean"] }, other]
        })
    }
}

/// How many calls may pass.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// So many in a period: `1000/s`, `30/m`, `10/h`.
    pub rate: Rate,
    /// Of these so many at once; by default the whole count of the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl Off for Limit {
    fn off() -> Option<Self> {
        None
    }
}

/// A set of endpoints that give the same service.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The endpoints: `host:port`, or `{ address: …, weight: …, metadata: { … } }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Endpoint>>,
    /// Or where they are found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<Discover>,
    /// What the endpoints speak, where that is not what callers speak: `http1` or `http2` (also called `grpc`, `triple`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TranslationName>")]
    pub protocol: Option<String>,
    /// How one of them is picked.
    #[serde(default)]
    pub balance: Balance,
    /// What calls are told apart by for `ring_hash` and `maglev`: those alike go to the same endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashBy>,
    /// Only endpoints that say all of this of themselves, such as `{ version: v2 }`, are in the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subset: BTreeMap<String, String>,
    /// The environments whose endpoints are used, those of the first that has any; by default the process's own alone, or all
    /// where it has none. Endpoints that say no `environment` belong to each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<Vec<String>>,
    /// Near endpoints come first where the process has a `zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Zones>,
    /// Calls with a tag go to endpoints with the same, those without to endpoints without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// When an endpoint that fails is left alone for a while; `off`: never.
    #[serde(default, deserialize_with = "or_off")]
    #[schemars(with = "OrOff<Outlier>")]
    pub outlier: Outlier,
    /// How endpoints are asked whether they are well; by default, and with `off`, they are not: it is seen by their calls alone.
    #[serde(default, deserialize_with = "optional_or_off", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OrOff<Health>>")]
    pub health: Option<Health>,
    /// What trying again may cost on top.
    #[serde(default)]
    pub retry_budget: RetryBudget,
    /// How long an endpoint that is new, or came back, takes to its full share of calls; by default it has it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// When less than this share of the endpoints is usable, all are used.
    #[serde(default = "Cluster::default_panic")]
    pub panic: Percent,
    /// Connections per endpoint and worker. Calls of Bolt and Dubbo share them (1), those of HTTP/2, too, as far as the
    /// endpoint allows (8); one of HTTP/1 carries one call at a time (1024).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// How long a connection may take to be made.
    #[serde(default = "Cluster::default_connect_timeout")]
    pub connect_timeout: Duration,
    /// A connection without calls for this long is closed; never by default (it is kept alive by heartbeats), for HTTP/1
    /// after 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// A connection of this age takes no new calls and is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// Calls in flight on one connection, or for HTTP/1 in line for one; more are refused.
    #[serde(default = "Cluster::default_pending_max")]
    pub pending_max: u32,
}

impl Cluster {
    fn default_connect_timeout() -> Duration {
        duration(1_000)
    }

    fn default_pending_max() -> u32 {
        65_536
    }

    fn default_panic() -> Percent {
        Percent::new(50)
    }
}

/// When an endpoint is left alone for a while. It comes back by one call on trial.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outlier {
    /// Failures in a row (errors, time-outs, lost connections); 0: they are not counted.
    pub consecutive: u32,
    /// How long it is left alone the first time; each time in a row adds as much.
    pub ejection: Duration,
    /// The longest it is left alone at once.
    pub ejection_max: Duration,
    /// The most endpoints that are left alone at once, of all, rounded down; 0%: none ever is.
    pub share_max: Percent,
    /// How often the endpoints are compared with each other.
    pub interval: Duration,
    /// Calls that an endpoint must have had in an interval to be compared.
    pub calls_min: u32,
    /// Leaves one alone whose share of good answers is far below that of the others (1.9 standard deviations, and 5 %).
    pub success_rate: bool,
    /// Leaves one alone whose latency is so many times the median of all; by default that is never a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower: Option<u32>,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive: 5,
            ejection: duration(10_000),
            ejection_max: duration(300_000),
            share_max: Percent::new(50),
            interval: duration(10_000),
            calls_min: 100,
            success_rate: true,
            slower: None,
        }
    }
}

impl Off for Outlier {
    fn off() -> Option<Self> {
        Some(Self { share_max: Percent::new(0), ..Self::default() })
    }
}

/// What calls are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashBy {
    /// A header: Bolt's header map, Dubbo's attachment, HTTP's header.
    Header(String),
    /// A cookie (HTTP).
    Cookie(String),
    /// The caller's address.
    Source,
    /// The path without its query (HTTP).
    Path,
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
    /// The one with the fewest calls in flight.
    LeastRequest,
    /// Of two drawn at random, the one with less latency × load.
    #[default]
    P2cEwma,
    /// By `hash`, on a ring.
    RingHash,
    /// By `hash`, in a table; among endpoints of a subset, tag or zone on a ring.
    Maglev,
}

fn duration(ms: u64) -> Duration {
    Duration::new(std::time::Duration::from_millis(ms))
}
