//! What stands in etcd about the service, field by field, and how two such entries differ.
//!
//! Read by means of the tests' own, never by the sidecar's. Everything of an entry is a field, also whether it goes with a lease.

use super::gateway::Entry as Kept;
use super::go::{APP, SERVICE};
use super::server::Server;
use super::support::decoded;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is different for every process: where and since when it runs, who it is, and a digest over what it gives.
const PROCESS: [&str; 5] = ["pid", "timestamp", "Host", "Port", "Metadata.dubbo.metadata.revision"];

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// Who gives the service, as its interface says.
pub(crate) fn of_interface(server: &Server) -> Vec<Entry> {
    server.below(&format!("/dubbo/{SERVICE}/providers/")).iter().map(url).collect()
}

/// Who belongs to the application.
pub(crate) fn of_application(server: &Server) -> Vec<Entry> {
    let one = |kept: &Kept| {
        let mut fields = json(&kept.value);
        let address = kept.node().to_owned();
        assert_eq!(format!("{}:{}", fields["Host"], fields["Port"]), address, "{}", kept.key);
        fields.insert("on a lease".into(), (kept.lease != 0).to_string());
        // What is different for every process inside of what is not.
        for name in ["Address", "ID"] {
            if fields[name] == address {
                fields.insert(name.to_owned(), "ADDRESS".to_owned());
            }
        }
        if let Some(time) = fields.get_mut("Metadata.timestamp") {
            "TIME".clone_into(time);
        }
        if let Some(endpoints) = fields.get_mut("Metadata.dubbo.endpoints") {
            *endpoints = protocols(endpoints);
        }
        Entry { address, fields }
    };
    server.below(&format!("/services/{APP}/")).iter().map(one).collect()
}

/// The protocols that endpoints are told of, which stand in no order.
fn protocols(endpoints: &str) -> String {
    let endpoints: Value = serde_json::from_str(endpoints).expect("endpoints are JSON");
    let endpoints = endpoints.as_array().expect("a list").iter();
    let mut names: Vec<&str> = endpoints.map(|one| one["protocol"].as_str().expect("a protocol")).collect();
    names.sort_unstable();
    names.join(",")
}

/// What a revision of the application gives, where dubbo-go 3.3.0 looks for it.
pub(crate) fn metadata(server: &Server, revision: &str) -> BTreeMap<String, String> {
    let kept = server.below(&format!("/dubbo{APP}/{revision}"));
    let [kept] = &kept[..] else { panic!("one revision {revision}: {kept:?}") };
    let mut fields = json(&kept.value);
    fields.insert("on a lease".into(), (kept.lease != 0).to_string());
    assert_eq!(fields.remove("revision").as_deref(), Some(revision));
    for (name, value) in &mut fields {
        match name.rsplit_once('.') {
            Some((_, "timestamp")) => "TIME".clone_into(value),
            Some((_, "port")) if value != "0" => "PORT".clone_into(value),
            _ => {}
        }
    }
    fields
}

/// The applications that the interface is mapped to.
pub(crate) fn mapping(server: &Server) -> String {
    let kept = server.below(&format!("/dubbo/mapping/{SERVICE}"));
    let [kept] = &kept[..] else { panic!("one mapping: {kept:?}") };
    String::from_utf8(kept.value.clone()).expect("a text")
}

/// A key that is named by a URL.
fn url(kept: &Kept) -> Entry {
    let text = decoded(kept.node());
    let (protocol, rest) = text.split_once("://").expect("a URL has a scheme");
    let (head, query) = rest.split_once('?').expect("a URL has parameters");
    let (address, path) = head.split_once('/').unwrap_or((head, ""));
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').expect("a parameter has a value");
        fields.insert(name.to_owned(), value.to_owned());
    }
    // A set, in an order of Java's own.
    if let Some(methods) = fields.get_mut("methods") {
        let mut names: Vec<&str> = methods.split(',').collect();
        names.sort_unstable();
        *methods = names.join(",");
    }
    fields.insert("the scheme".into(), protocol.to_owned());
    fields.insert("the path".into(), path.to_owned());
    let value = String::from_utf8(kept.value.clone()).expect("a text");
    let is_lease = kept.lease != 0 && value == kept.lease.to_string();
    fields.insert("the value".into(), if is_lease { "ITS LEASE".into() } else { value });
    fields.insert("on a lease".into(), (kept.lease != 0).to_string());
    Entry { address: address.to_owned(), fields }
}

fn json(bytes: &[u8]) -> BTreeMap<String, String> {
    let value: Value = serde_json::from_slice(bytes).expect("JSON");
    let mut fields = BTreeMap::new();
    flatten("", &value, &mut fields);
    fields
}

fn flatten(at: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let inner = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        // What a service says of itself is compared where the registry has it.
        Value::Object(_) if at == "ServiceMetadata" => drop(into.insert(at.to_owned(), "an object".into())),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&inner(name), value, into)),
        Value::String(text) => drop(into.insert(at.to_owned(), text.clone())),
        other => drop(into.insert(at.to_owned(), other.to_string())),
    }
}

/// A field that differs: what the framework writes, and what we do.
pub(crate) type Difference = (String, Option<String>, Option<String>);

/// In what two entries differ, but for what is different for every process.
pub(crate) fn differences(
    theirs: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut names: Vec<&String> = theirs.keys().chain(ours.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let both = names.into_iter().filter(|name| !PROCESS.contains(&name.as_str()));
    let both = both.map(|name| (name.clone(), theirs.get(name).cloned(), ours.get(name).cloned()));
    both.filter(|(_, theirs, ours)| theirs != ours).collect()
}
