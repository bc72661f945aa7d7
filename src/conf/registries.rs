//! Registries as they are written: where services are found, which, and what of the application is made known there.
//!
//! Nothing here means anything yet; `lower` gives it meaning. Which kinds of registries there are is said by the list of
//! plug-ins: a build may have fewer.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use outrigger_discovery as discovery;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{decode::OneOrMany, health::Check, units::Duration};

/// Where services are found, and the application is made known.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Registry {
    /// A YAML file of services and their endpoints, watched for changes.
    File(FileRegistry),
    /// `ZooKeeper`, as Dubbo, SOFARPC and Spring Cloud use it.
    Zookeeper(ZooKeeper),
    /// Nacos 2, as Dubbo, SOFARPC and Spring Cloud Alibaba use it.
    Nacos(Nacos),
    /// Kubernetes: Services, and what is made known in `EndpointSlice`s beside them.
    Kubernetes(Kubernetes),
    /// etcd 3, as Dubbo and dubbo-go use it; other frameworks in a layout of our own.
    Etcd(Etcd),
}

impl Registry {
    /// How long a service that is suddenly without any instance keeps those it had.
    pub fn hold_empty(&self) -> std::time::Duration {
        match self {
            // Who edits a file means what is written there.
            Self::File(_) => std::time::Duration::ZERO,
            Self::Zookeeper(zookeeper) => zookeeper.hold_empty.get(),
            Self::Nacos(nacos) => nacos.hold_empty.get(),
            Self::Kubernetes(kubernetes) => kubernetes.hold_empty.get(),
            Self::Etcd(etcd) => etcd.hold_empty.get(),
        }
    }

    /// How long what a process registered there stays when the process ends without a word; `None`: not at all.
    pub fn lingers(&self) -> Option<std::time::Duration> {
        match self {
            Self::Zookeeper(zookeeper) => Some(zookeeper.session_timeout.get()),
            Self::Etcd(etcd) => Some(etcd.lease.get()),
            // Slices of ours are read without their writer for as long as three of its beats.
            Self::Kubernetes(_) => Some(std::time::Duration::from_secs(90)),
            Self::File(_) | Self::Nacos(_) => None,
        }
    }

    /// Whether it can tell which of several processes does what one may do at a time.
    pub const fn elects(&self) -> bool {
        matches!(self, Self::Zookeeper(_) | Self::Kubernetes(_) | Self::Etcd(_))
    }
}

/// A watched file of services and endpoints.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRegistry {
    /// The file; relative to the conf file.
    pub path: String,
}

/// An ensemble of `ZooKeeper`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZooKeeper {
    /// Its servers: `host:port`, one or a list.
    pub address: OneOrMany<String>,
    /// A path that everything is under, such as `/production`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chroot: Option<String>,
    /// The root of Dubbo's services.
    #[serde(default = "ZooKeeper::default_group")]
    pub group: String,
    /// Who connects, by the digest scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// How long the servers remember a connection that was lost, 1s to 10m: what was registered stays that long.
    #[serde(default = "ZooKeeper::default_session_timeout")]
    pub session_timeout: Duration,
    /// How long a service that is suddenly without any instance keeps those it had, until the registry says so again.
    #[serde(default = "default_hold")]
    pub hold_empty: Duration,
}

impl ZooKeeper {
    fn default_group() -> String {
        "dubbo".to_owned()
    }

    fn default_session_timeout() -> Duration {
        Duration::new(std::time::Duration::from_secs(30))
    }
}

/// A cluster of Nacos servers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nacos {
    /// Its servers: `host:port` of HTTP, one or a list. gRPC is spoken at the port plus 1000.
    pub address: OneOrMany<String>,
    /// The namespace's id; by default `public`, and `sofa-rpc` for services of SOFARPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The group of services.
    #[serde(default = "Nacos::default_group")]
    pub group: String,
    /// Who connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// How long a service that is suddenly without any instance keeps those it had, until the registry says so again.
    #[serde(default = "default_hold")]
    pub hold_empty: Duration,
}

impl Nacos {
    fn default_group() -> String {
        "DEFAULT_GROUP".to_owned()
    }
}

/// A cluster of Kubernetes.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// The namespace; by default that of the context, or the pod's own. A service of another one is called `name.namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A kubeconfig file, relative to the conf file; by default the one that `KUBECONFIG` names or the user has, and else the
    /// service account of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<String>,
    /// The context of the kubeconfig; by default its current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// How long a service that is suddenly without any instance keeps those it had, until the registry says so again.
    #[serde(default = "default_hold")]
    pub hold_empty: Duration,
}

/// A cluster of etcd.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// Its servers: `host:port`, one or a list.
    pub address: OneOrMany<String>,
    /// The root of Dubbo's services.
    #[serde(default = "Etcd::default_group")]
    pub group: String,
    /// Who connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// TLS; by default the connection is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RegistryTls>,
    /// How long the servers keep what was registered by a process that is not heard from, 5s to 10m.
    #[serde(default = "Etcd::default_lease")]
    pub lease: Duration,
    /// How long a service that is suddenly without any instance keeps those it had, until the registry says so again.
    #[serde(default = "default_hold")]
    pub hold_empty: Duration,
}

impl Etcd {
    fn default_group() -> String {
        "dubbo".to_owned()
    }

    fn default_lease() -> Duration {
        Duration::new(std::time::Duration::from_secs(30))
    }
}

/// How the servers of a registry are known, and how they know us. Files are PEM, relative to the conf file, and read anew for each
/// connection.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryTls {
    /// The certificates of who signs those of the servers.
    pub ca: String,
    /// Our own certificate, for servers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// The private key of our certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The name that stands in the servers' certificates; by default the host of each address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn default_hold() -> Duration {
    Duration::new(std::time::Duration::from_secs(30))
}

/// Where the endpoints of a cluster are found.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discover {
    /// The name of a registry.
    pub registry: String,
    /// The service to look for: an interface, or the application of Spring Cloud.
    pub service: String,
    /// Only this version; of SOFARPC `1.0`, or `1.0:uniqueId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Only this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whose service it is.
    #[serde(default)]
    pub framework: Framework,
    /// Only instances that speak this, as the framework calls it; by default `dubbo` (`tri` where the cluster's `protocol` is
    /// `triple`), `bolt` or `http`, by the framework.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The registry's `hold_empty`, for this service. 0s: it is believed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_empty: Option<Duration>,
}

/// Where the calls of a route go: to a cluster by its name, or each to the service that it names.
#[derive(Clone, Debug)]
pub enum To {
    /// A cluster.
    Cluster(String),
    /// Whatever service a call names.
    Service(Demand),
}

/// The services that calls name: each is looked for when the first call names it, and kept while it is used.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// The name of a registry.
    pub registry: String,
    /// Whose services they are; calls of `spring` and `plain` name them by their authority. By default `sofarpc` where the listener speaks
    /// only `bolt`, else `dubbo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<Framework>,
    /// Only instances that speak this; as in `discover`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The registry's `hold_empty`, for these services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_empty: Option<Duration>,
    /// The cluster of this conf whose settings (balance, outlier, …) they have; by default those of `defaults`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
}

/// `{ service: REGISTRY }`, or with more to say.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ToService {
    /// The registry in which services are looked for: its name, or with more to say.
    service: NameOr<Demand>,
}

/// A name alone, or a map that has it.
#[derive(Clone, Debug)]
struct NameOr<T>(T);

impl<'de> Deserialize<'de> for NameOr<Demand> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = NameOr<Demand>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a registry, or { registry: …, framework: … }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                let registry = name.to_owned();
                Ok(NameOr(Demand { registry, framework: None, protocol: None, hold_empty: None, like: None }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Demand::deserialize(MapAccessDeserializer::new(map)).map(NameOr)
            }
        }

        from.deserialize_any(NameVisitor)
    }
}

impl Serialize for NameOr<Demand> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl JsonSchema for NameOr<Demand> {
    fn schema_name() -> Cow<'static, str> {
        "RegistryOrDemand".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<Demand>();
        json_schema!({
            "description": "The name of a registry, or a map with more to say.",
            "anyOf": [{ "type": "string" }, map]
        })
    }
}

impl<'de> Deserialize<'de> for To {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ToVisitor;

        impl<'de> Visitor<'de> for ToVisitor {
            type Value = To;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a cluster, or { service: … }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<To, E> {
                Ok(To::Cluster(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<To, A::Error> {
                let ToService { service } = ToService::deserialize(MapAccessDeserializer::new(map))?;
                Ok(To::Service(service.0))
            }
        }

        from.deserialize_any(ToVisitor)
    }
}

impl Serialize for To {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Cluster(name) => to.serialize_str(name),
            Self::Service(demand) => ToService { service: NameOr(demand.clone()) }.serialize(to),
        }
    }
}

impl JsonSchema for To {
    fn schema_name() -> Cow<'static, str> {
        "To".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<ToService>();
        json_schema!({
            "description": "The name of a cluster, or `{ service: … }`.",
            "anyOf": [{ "type": "string" }, map]
        })
    }
}

/// A service of the application that others shall find.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The registries that it is made known in, one or a list.
    #[serde(rename = "in")]
    pub registries: OneOrMany<String>,
    /// The interface; for `spring` the name of the application, for `plain` any name.
    pub service: String,
    /// In whose names and formats it is written.
    #[serde(default)]
    pub framework: Framework,
    /// What it speaks, as the framework calls it: `dubbo`, `tri`, `bolt`, `http`; by default the framework's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The host that others dial; by default the address from which the registry is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port that others dial: that of the listener whose calls go to the application.
    pub port: u16,
    /// Where the application itself gives it, `host:port`: it is made known only while it answers there.
    pub local: String,
    /// What the application is asked there; by default its protocol's heartbeat, or a page for `http`, whose status is all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its version; of SOFARPC `1.0` (the default) or `1.0:uniqueId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its share beside other instances, 0 to 10000.
    #[serde(default = "Register::default_weight")]
    pub weight: u32,
    /// Where a service of Dubbo is made known.
    #[serde(default)]
    pub level: Level,
    /// What else is told of it, such as `methods`, `zone` or `timeout`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Register {
    fn default_weight() -> u32 {
        discovery::WEIGHT_DEFAULT
    }
}

/// Whose names and formats a service is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framework {
    /// Dubbo: interfaces.
    #[default]
    Dubbo,
    /// SOFARPC: interfaces.
    Sofarpc,
    /// Spring Cloud: applications.
    Spring,
    /// None: names, in whatever layout the registry has for that.
    Plain,
}

impl Framework {
    /// What it means.
    pub const fn get(self) -> discovery::Framework {
        match self {
            Self::Dubbo => discovery::Framework::Dubbo,
            Self::Sofarpc => discovery::Framework::Sofarpc,
            Self::Spring => discovery::Framework::Spring,
            Self::Plain => discovery::Framework::Plain,
        }
    }
}

/// Where a service of Dubbo is made known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Under its interface, where every version of Dubbo looks.
    #[default]
    Interface,
    /// By its application, as Dubbo 3 prefers.
    Application,
    /// Both.
    Both,
}

impl Level {
    /// What it means.
    pub const fn get(self) -> discovery::Level {
        match self {
            Self::Interface => discovery::Level::Interface,
            Self::Application => discovery::Level::Application,
            Self::Both => discovery::Level::Both,
        }
    }
}

/// A text that is never shown: it is written as asterisks.
#[derive(Clone, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for whoever it is a secret of.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("***")
    }
}
