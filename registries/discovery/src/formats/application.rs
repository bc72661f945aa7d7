//! Dubbo 3's discovery by applications: an interface's applications, their instances, and what each instance serves.
//!
//! An instance tells a *revision*; what is served at a revision is told once for all instances that have it, by a registry or
//! by one of them. Must never invent a port: it is the service's own, or that of its protocol, or the instance's. After Dubbo's
//! `MetadataInfo`, `ServiceInstanceMetadataUtils` and `StandardMetadataServiceURLBuilder`; the revision is compared with those
//! of 3.3.1 and 3.3.6.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use md5::{Digest as _, Md5};
use serde_json::{Map, Value, json};

use super::{BadEntry, Params, Url, curator::texts, dialled, dubbo, filled, join, split};
use crate::{Answering, Framework, Instance, Level, Registration, ServiceKey};

pub(super) const REVISION: &str = "dubbo.metadata.revision";
const STORAGE: &str = "dubbo.metadata.storage-type";
const ENDPOINTS: &str = "dubbo.endpoints";
const ASKED_AT: &str = "dubbo.metadata-service.url-params";
const METADATA_VERSION: &str = "meta-v";

/// One instance of an application, of whatever registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The application's name.
    pub app: String,
    /// `host:port`, where the port is that of one of its protocols.
    pub address: String,
    /// What it tells of itself.
    pub metadata: Params,
}

/// Where an instance answers what it serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// `host:port`; see [`crate::check_address`].
    pub address: String,
    /// What is spoken there: `dubbo` or `tri`.
    pub protocol: String,
    /// The application, which is the group of its `MetadataService`.
    pub app: String,
    /// The revision that is asked about.
    pub revision: String,
    /// The version of its `MetadataService`: `1.0.0` or `2.0.0`.
    pub version: String,
}

/// Who can ask an instance what it serves.
pub trait AskMetadata: Send + Sync {
    /// Asks, within bounds of time and size.
    fn ask(&self, question: Question) -> Answering<MetadataInfo>;
}

impl Member {
    /// The revision of what it serves; `None`: it serves nothing yet.
    pub fn revision(&self) -> Option<&str> {
        filled(&self.metadata, REVISION).filter(|revision| *revision != "0")
    }

    /// Whether the registry has the metadata of its revision, and not itself.
    pub fn is_remote(&self) -> bool {
        filled(&self.metadata, STORAGE) == Some("remote")
    }

    /// Where it is asked what it serves; `None`: it serves nothing, or does not say where.
    pub fn asks(&self) -> Option<Question> {
        let revision = self.revision()?.to_owned();
        let told: Value = serde_json::from_str(filled(&self.metadata, ASKED_AT)?).ok()?;
        let mut params = texts(&told);
        // Dubbo 2.7 told them by protocol.
        if !params.contains_key("port") {
            let (protocol, nested) = told.as_object()?.iter().find(|(_, value)| value.is_object())?;
            params = texts(nested);
            params.entry("protocol".to_owned()).or_insert_with(|| protocol.clone());
        }
        let (host, _) = split(&self.address)?;
        let address = dialled(&join(host, filled(&params, "port")?.parse().ok()?))?;
        let protocol = filled(&params, "protocol").unwrap_or("dubbo").to_owned();
        let version = filled(&self.metadata, METADATA_VERSION).or_else(|| filled(&params, "version"));
        let version = version.unwrap_or("1.0.0").to_owned();
        Some(Question { address, protocol, app: self.app.clone(), revision, version })
    }

    /// The ports that it tells of, by protocol.
    fn endpoints(&self) -> BTreeMap<String, u16> {
        let told =
            filled(&self.metadata, ENDPOINTS).and_then(|json| serde_json::from_str::<Value>(json).ok());
        let Some(Value::Array(told)) = told else { return BTreeMap::new() };
        let one = |one: &Value| {
            let port = u16::try_from(one.get("port")?.as_u64()?).ok()?;
            Some((one.get("protocol")?.as_str()?.to_owned(), port))
        };
        told.iter().filter_map(one).collect()
    }
}

/// A service of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceInfo {
    /// The interface.
    pub name: String,
    /// Its group.
    pub group: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What is spoken there.
    pub protocol: String,
    /// Where; 0: it does not say.
    pub port: u16,
    /// The path, mostly the interface.
    pub path: String,
    /// Its parameters.
    pub params: Params,
}

impl ServiceInfo {
    /// What tells it from the application's other services.
    fn key(&self) -> String {
        let group = self.group.as_ref().map(|group| format!("{group}/")).unwrap_or_default();
        let version = self.version.as_ref().map(|version| format!(":{version}")).unwrap_or_default();
        format!("{group}{}{version}:{}", self.name, self.protocol)
    }

    fn parse(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let port = value.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let name = text("name")?.to_owned();
        Some(Self {
            group: text("group").map(str::to_owned),
            version: text("version").map(str::to_owned),
            protocol: text("protocol").unwrap_or_default().to_owned(),
            port: port.unwrap_or(0),
            path: text("path").unwrap_or(&name).to_owned(),
            params: value.get("params").map(texts).unwrap_or_default(),
            name,
        })
    }

    fn to_value(&self) -> Value {
        let mut fields = Map::new();
        let texts =
            [("group", self.group.as_ref()), ("name", Some(&self.name)), ("version", self.version.as_ref())];
        let texts = texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
        fields.extend(texts);
        fields.insert("params".into(), json!(self.params));
        fields.insert("path".into(), json!(self.path));
        fields.insert("port".into(), json!(self.port));
        fields.insert("protocol".into(), json!(self.protocol));
        Value::Object(fields)
    }
}

/// What an application serves at a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataInfo {
    /// The application's name.
    pub app: String,
    /// The revision, as whoever told it calls it.
    pub revision: String,
    services: BTreeMap<String, ServiceInfo>,
}

impl MetadataInfo {
    /// What an application serves; of two services with the same key the last counts.
    pub fn new(app: String, revision: String, services: impl IntoIterator<Item = ServiceInfo>) -> Self {
        let services = services.into_iter().map(|service| (service.key(), service)).collect();
        Self { app, revision, services }
    }

    /// Reads the JSON. A service without a name is left out.
    pub fn parse(json: &[u8]) -> Result<Self, BadEntry> {
        let root: Value = serde_json::from_slice(json).map_err(|_| BadEntry("the metadata is no JSON"))?;
        Self::read(&root)
    }

    /// The same of JSON that is a part of another.
    pub fn read(root: &Value) -> Result<Self, BadEntry> {
        let services = root.get("services").and_then(Value::as_object);
        let services = services.ok_or(BadEntry("the metadata tells no services"))?;
        let text = |name: &str| root.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self::new(text("app"), text("revision"), services.values().filter_map(ServiceInfo::parse)))
    }

    /// The services.
    pub fn services(&self) -> impl Iterator<Item = &ServiceInfo> {
        self.services.values()
    }

    /// The instances that a member gives of what `key` wants: one for each protocol and version of it.
    pub fn instances(&self, key: &ServiceKey, member: &Member) -> Vec<Instance> {
        let Some((host, own_port)) = split(&member.address) else { return Vec::new() };
        let endpoints = member.endpoints();
        let mut found = Vec::new();
        for service in self.services.values().filter(|service| service.name == key.service) {
            let mut ports = [service.port, endpoints.get(&service.protocol).copied().unwrap_or(0)];
            // Its revision is a sum over the names of interfaces and methods, so members on other ports share it, and the port
            // that it tells is that of any of them.
            if dubbo::is_go(&service.params) {
                ports.reverse();
            }
            let port = ports.into_iter().find(|port| *port > 0).unwrap_or(own_port);
            let mut params = member.metadata.clone();
            params.retain(|name, _| !is_about_metadata(name));
            params.extend(service.params.clone());
            params.insert("path".into(), service.path.clone());
            params.entry("interface".into()).or_insert_with(|| service.name.clone());
            for (name, value) in [("group", &service.group), ("version", &service.version)] {
                match value {
                    Some(value) => params.insert(name.into(), value.clone()),
                    None => params.remove(name),
                };
            }
            let instance = dubbo::instance(&service.protocol, &join(host, port), params);
            found.extend(instance.filter(|instance| key.admits(instance)));
        }
        found
    }

    /// The revision that Dubbo would give it: all that consumers could tell apart, digested; `0`: it has no services.
    fn digest(&self) -> String {
        if self.services.is_empty() {
            return "0".into();
        }
        let mut said = self.app.clone();
        for (key, service) in &self.services {
            let params: Vec<String> =
                service.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            // Writing to a string cannot fail.
            _ = write!(said, "{key}{}{}{{{}}}", service.port, service.path, params.join(", "));
        }
        let mut out = String::new();
        for byte in Md5::digest(said.as_bytes()) {
            _ = write!(out, "{byte:02x}");
        }
        out
    }
}

/// The JSON of it.
impl fmt::Display for MetadataInfo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Map<String, Value> =
            self.services.iter().map(|(key, service)| (key.clone(), service.to_value())).collect();
        let root = json!({ "app": self.app, "revision": self.revision, "services": services });
        write!(out, "{root}")
    }
}

/// Whether a member tells by this how to find out what it serves, and nothing of what it is.
fn is_about_metadata(name: &str) -> bool {
    let about = ["dubbo.metadata", "dubbo.exported-services", "dubbo.subscribed-services"];
    matches!(name, ENDPOINTS | METADATA_VERSION) || about.iter().any(|about| name.starts_with(about))
}

/// The applications that a mapping names.
pub fn apps(mapping: &str) -> Vec<&str> {
    mapping.split(',').map(str::trim).filter(|app| !app.is_empty()).collect()
}

/// The text of a mapping that names an application besides those that it names already; `None`: it does already.
pub fn with_app(mapping: &str, app: &str) -> Option<String> {
    let mut names = apps(mapping);
    if names.contains(&app) {
        return None;
    }
    names.push(app);
    Some(names.join(","))
}

/// What a revision gives, as it is to be written in the place of what is there; `None`: that may stay. The revision is a digest of
/// it, so whoever was first wrote the same, if in other words: two that take turns to have the last word would never end.
pub fn described(there: &[u8], here: &[u8]) -> Option<Vec<u8>> {
    MetadataInfo::parse(there).is_err().then(|| here.to_vec())
}

/// What one application gives at one host, in such parts that each can be described as one instance: all of it together, unless
/// several processes of the application there give the same service; then by their ports.
pub fn processes(registrations: Vec<Registration>) -> Vec<Vec<Registration>> {
    let mut first: BTreeMap<_, &str> = BTreeMap::new();
    let is_one = registrations.iter().all(|r| {
        let what = (&r.service, &r.group, &r.version, &r.protocol);
        *first.entry(what).or_insert(&r.address) == r.address
    });
    if is_one {
        return vec![registrations];
    }
    let mut parts: BTreeMap<String, Vec<Registration>> = BTreeMap::new();
    for r in registrations {
        parts.entry(r.address.clone()).or_default().push(r);
    }
    parts.into_values().collect()
}

/// The application that these are services of, as Dubbo 3 would describe it, with the metadata at the registry; `None`: none of
/// them is to be found by its application.
///
/// The instance's address is that of the first. A member has one host only, so a service at another host, or of another
/// application, is left out.
pub fn describe(registrations: &[Registration]) -> Option<(MetadataInfo, Member)> {
    let wanted = |r: &&Registration| r.framework == Framework::Dubbo && r.level != Level::Interface;
    let first = registrations.iter().find(wanted)?;
    let (host, _) = split(&first.address)?;
    let mut services = Vec::new();
    let mut endpoints = BTreeMap::new();
    let mut started = first.started;
    for r in registrations.iter().filter(wanted).filter(|r| r.app == first.app) {
        let Some((_, port)) = split(&r.address).filter(|(other, _)| *other == host) else { continue };
        endpoints.entry(r.protocol.clone()).or_insert(port);
        started = started.min(r.started);
        let Url { path, mut params, .. } = dubbo::url(r);
        params.remove("timestamp");
        params.insert("REGISTRY_CLUSTER".into(), "default".into());
        services.push(ServiceInfo {
            name: r.service.clone(),
            group: r.group.clone(),
            version: r.version.clone(),
            protocol: r.protocol.clone(),
            port,
            path,
            params,
        });
    }
    let mut info = MetadataInfo::new(first.app.clone(), String::new(), services);
    info.revision = info.digest();
    let version = if endpoints.contains_key("dubbo") { "1.0.0" } else { "2.0.0" };
    let endpoints: Vec<Value> =
        endpoints.iter().map(|(protocol, port)| json!({ "port": port, "protocol": protocol })).collect();
    let metadata = [
        (ENDPOINTS, Value::from(endpoints).to_string()),
        (REVISION, info.revision.clone()),
        (STORAGE, "remote".to_owned()),
        (METADATA_VERSION, version.to_owned()),
        ("timestamp", started.to_string()),
    ];
    let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Some((info, Member { app: first.app.clone(), address: first.address.clone(), metadata }))
}

/// The same for dubbo-go, which goes by the ports of a member's endpoints: without those that they tell as well, and with the
/// revision of that. Members that differ in nothing but ports have one revision then; of several that give the same service
/// dubbo-go takes up but one.
pub fn by_endpoints((mut info, mut member): (MetadataInfo, Member)) -> (MetadataInfo, Member) {
    let endpoints = member.endpoints();
    for service in info.services.values_mut() {
        if endpoints.get(&service.protocol) == Some(&service.port) {
            service.port = 0;
        }
    }
    info.revision = info.digest();
    member.metadata.insert(REVISION.to_owned(), info.revision.clone());
    (info, member)
}
