//! What stands in the registries about a service, field by field, and how two such entries differ.
//!
//! Read by means of the tests' own, never by the sidecar's. Where an entry is for the eyes of its framework, everything in
//! it is a field: also how long it lives, and what a node holds besides its name.

use super::java::{APP, Java, Registry, Service};
use super::servers::NACOS;
use super::support::{decoded, http_get};
use super::zk;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is different for every process: who it is, where and since when it runs.
const PROCESS: [&str; 9] = [
    // The address, which is asserted by itself.
    "host",
    "port",
    "id",
    "payload.id",
    // Dubbo, SOFARPC, Spring Cloud: the process and its start.
    "pid",
    "timestamp",
    "startTime",
    "registrationTimeUTC",
    // A digest over all that an application gives, ports and times among it.
    "dubbo.metadata.revision",
];

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// Who gives a service, as a registry has it, by address.
pub(crate) fn of(java: Java, registry: Registry, service: Service) -> Vec<Entry> {
    let mut entries = match registry {
        Registry::ZooKeeper => nodes(java, service),
        Registry::Nacos => instances(java, service),
    };
    entries.sort_by(|one, other| one.address.cmp(&other.address));
    entries
}

/// Who belongs to the application, as Dubbo 3 finds them.
pub(crate) fn of_application(registry: Registry) -> Vec<Entry> {
    match registry {
        Registry::ZooKeeper => zk::children(&format!("/services/{APP}")).iter().map(json).collect(),
        Registry::Nacos => listed(APP, "public"),
    }
}

fn nodes(java: Java, service: Service) -> Vec<Entry> {
    let root = match java {
        Java::Spring => return zk::children("/services/shop").iter().map(json).collect(),
        Java::Sofa => "sofa-rpc",
        _ => "dubbo",
    };
    let nodes = zk::children(&format!("/{root}/{}/providers", java.service()));
    let mut entries: Vec<Entry> = nodes.iter().map(url).collect();
    // Of one interface all versions and groups stand in one place.
    entries.retain(|entry| {
        let field = |name: &str| entry.fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
        match java {
            Java::Sofa => field("uniqueId") == unique_id(service),
            _ => (field("group"), field("version")) == (service.group, service.version),
        }
    });
    entries
}

fn unique_id(service: Service) -> Option<&'static str> {
    service.version?.split_once(':').map(|(_, id)| id)
}

/// A node that is named by a URL.
fn url(node: &zk::Node) -> Entry {
    let text = decoded(&node.name);
    let (protocol, rest) = text.split_once("://").expect("a URL has a scheme");
    let (head, query) = rest.split_once('?').expect("a URL has parameters");
    let (address, path) = head.split_once('/').unwrap_or((head, ""));
    let mut fields = BTreeMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').expect("a parameter has a value");
        fields.insert(name.to_owned(), value.to_owned());
    }
    fields.insert("scheme".into(), protocol.to_owned());
    fields.insert("path".into(), path.to_owned());
    fields.insert("ephemeral".into(), node.ephemeral.to_string());
    entry(address.to_owned(), fields)
}

/// A node that holds Curator's JSON.
fn json(node: &zk::Node) -> Entry {
    let value: Value = serde_json::from_slice(&node.data).expect("the node holds JSON");
    let mut fields = BTreeMap::new();
    flatten("", &value, &mut fields);
    fields.insert("ephemeral".into(), node.ephemeral.to_string());
    let address = format!("{}:{}", fields["address"], fields["port"]);
    fields.remove("address");
    let fields = fields.into_iter().map(|(name, value)| match name.strip_prefix("payload.metadata.") {
        Some(inner) => (inner.to_owned(), value),
        None => (name, value),
    });
    entry(address, fields.collect())
}

fn instances(java: Java, service: Service) -> Vec<Entry> {
    let interface = java.service();
    match java {
        Java::Spring => listed(interface, "public"),
        Java::Sofa => match unique_id(service) {
            Some(id) => listed(&format!("{interface}:{id}:DEFAULT"), "sofa-rpc"),
            None => listed(&format!("{interface}:DEFAULT"), "sofa-rpc"),
        },
        _ => {
            let (version, group) = (service.version.unwrap_or(""), service.group.unwrap_or(""));
            listed(&format!("providers:{interface}:{version}:{group}"), "public")
        }
    }
}

fn listed(service: &str, namespace: &str) -> Vec<Entry> {
    let path = format!("/nacos/v1/ns/instance/list?serviceName={service}&namespaceId={namespace}");
    let (status, page) = http_get(NACOS, &path).expect("Nacos answers");
    assert_eq!(status, 200, "{page}");
    let page: Value = serde_json::from_str(&page).expect("a list is JSON");
    let hosts = page["hosts"].as_array().expect("a list has hosts");
    let one = |host: &Value| {
        let mut fields = BTreeMap::new();
        flatten("", host, &mut fields);
        let address = format!("{}:{}", fields["ip"], fields["port"]);
        fields.retain(|name, _| name != "ip" && name != "instanceId");
        // What is metadata here is a parameter there: it has the same names.
        let fields = fields.into_iter().map(|(name, value)| match name.strip_prefix("metadata.") {
            Some(inner) => (inner.to_owned(), value),
            None => (format!("nacos.{name}"), value),
        });
        entry(address, fields.collect())
    };
    hosts.iter().map(one).collect()
}

fn flatten(at: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let inner = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&inner(name), value, into)),
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(i, value)| flatten(&inner(&i.to_string()), value, into));
        }
        Value::String(text) => drop(into.insert(at.to_owned(), text.clone())),
        other => drop(into.insert(at.to_owned(), other.to_string())),
    }
}

fn entry(address: String, mut fields: BTreeMap<String, String>) -> Entry {
    // A set, in an order of its own for each line of Dubbo.
    if let Some(methods) = fields.get_mut("methods") {
        let mut names: Vec<&str> = methods.split(',').collect();
        names.sort_unstable();
        *methods = names.join(",");
    }
    // The port once more, inside of JSON.
    let port = address.rsplit_once(':').map_or("", |(_, port)| port).to_owned();
    for name in ["dubbo.endpoints", "dubbo.metadata-service.url-params"] {
        if let Some(value) = fields.get_mut(name) {
            *value = value.replace(&port, "PORT");
        }
    }
    Entry { address, fields }
}

/// In what two entries differ, but for what is different for every process: field, what the framework wrote, what we did.
pub(crate) fn differences(theirs: &Entry, ours: &Entry) -> Vec<(String, Option<String>, Option<String>)> {
    let mut names: Vec<&String> = theirs.fields.keys().chain(ours.fields.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let both = names.into_iter().filter(|name| {
        let own = name.strip_prefix("nacos.").unwrap_or(name);
        !PROCESS.contains(&own)
    });
    let both =
        both.map(|name| (name.clone(), theirs.fields.get(name).cloned(), ours.fields.get(name).cloned()));
    both.filter(|(_, theirs, ours)| theirs != ours).collect()
}
