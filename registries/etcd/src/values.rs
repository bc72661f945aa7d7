//! What stands under the keys of instances: the JSON of dubbo-go, and that of our own layout.
//!
//! Text in, instances out, and back. It must never ask anybody, and never fail on what one instance says at the cost of
//! others. After dubbo-go's `registry.DefaultServiceInstance`, which Go writes with the names of its fields as they are; the
//! layout of our own is described at the top of this crate.

use std::collections::BTreeMap;

use outrigger_discovery::{
    Instance, Registration, WEIGHT_DEFAULT, WEIGHT_MAX, check_address,
    formats::{
        BadEntry,
        application::{Member, MetadataInfo},
        join, split,
    },
};
use serde_json::{Map, Value, json};

/// Under this dubbo-go tells an instance's tag to consumers.
const TAG: &str = "dubbo.tag";
const WEIGHT: &str = "weight";
/// Under this an instance tells what it gives.
const REVISION: &str = "dubbo.metadata.revision";
/// The revision of who gives nothing.
const NOTHING: &str = "0";

/// The instance of an application that dubbo-go wrote, and what it gives, if it says that itself; `None`: it is not to be called.
///
/// What it says is worth more than what its revision is known to give: dubbo-go's revision is the same for other ports, weights,
/// groups and versions.
pub fn go_member(value: &[u8]) -> Result<Option<(Member, Option<MetadataInfo>)>, BadEntry> {
    let root: Value = serde_json::from_slice(value).map_err(|_| BadEntry("the instance is no JSON"))?;
    let text = |name: &str| {
        root.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let is_off = |name: &str| root.get(name).and_then(Value::as_bool) == Some(false);
    let app = text("ServiceName").ok_or(BadEntry("the instance names no application"))?;
    let port = root.get("Port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let told = match (text("Host"), port) {
        (Some(host), Some(port)) => Some(join(&host, port)),
        // Either is told by the address as well, if it is told.
        _ => text("Address").and_then(|address| split(&address).map(|(host, port)| join(host, port))),
    };
    let address = told.filter(|address| check_address(address).is_ok());
    let address = address.ok_or(BadEntry("the address of the instance cannot be dialled"))?;
    if is_off("Enable") || is_off("Healthy") {
        return Ok(None);
    }
    let mut metadata = root.get("Metadata").map(texts).unwrap_or_default();
    if let Some(weight) = root.get("Weight").and_then(Value::as_i64).filter(|weight| *weight > 0) {
        metadata.entry(WEIGHT.to_owned()).or_insert_with(|| weight.to_string());
    }
    if let Some(tag) = text("Tag") {
        metadata.entry(TAG.to_owned()).or_insert(tag);
    }
    let info = root.get("ServiceMetadata").and_then(|info| MetadataInfo::read(info).ok());
    let info = info.filter(|info| info.services().next().is_some());
    Ok(Some((Member { app, address, metadata }, info)))
}

/// The instance as dubbo-go would write it; `weight`: its share beside others, which its consumers take for all its services.
pub fn go_instance(member: &Member, weight: u32) -> String {
    let (host, port) = split(&member.address).unwrap_or((&member.address, 0));
    json!({
        "ID": member.address,
        "ServiceName": member.app,
        "Host": host,
        "Port": port,
        "Weight": weight.min(WEIGHT_MAX),
        "Enable": true,
        "Healthy": true,
        "Metadata": member.metadata,
        "ServiceMetadata": null,
        "Address": member.address,
        "GroupName": "",
        "Tag": member.metadata.get(TAG).map_or("", String::as_str),
    })
    .to_string()
}

/// What is to stand in the place of an instance that is about to leave, for consumers of dubbo-go: they are told of what is
/// written over, and never of what is deleted. `None`: it stands there already, or there is no such instance.
pub fn go_farewell(value: &[u8]) -> Option<Vec<u8>> {
    let mut root: Value = serde_json::from_slice(value).ok()?;
    let revision = root.get_mut("Metadata")?.get_mut(REVISION)?;
    if revision.as_str() == Some(NOTHING) {
        return None;
    }
    *revision = NOTHING.into();
    *root.get_mut("Enable")? = false.into();
    Some(root.to_string().into_bytes())
}

/// The instance in our own layout: its address is the last part of its key.
pub fn plain_instance(node: &str, value: &[u8]) -> Result<Instance, BadEntry> {
    check_address(node).map_err(|_| BadEntry("the key does not end with an address that can be dialled"))?;
    let mut instance = Instance::new(node);
    if value.trim_ascii().is_empty() {
        return Ok(instance);
    }
    let root: Value = serde_json::from_slice(value).map_err(|_| BadEntry("the instance is no JSON"))?;
    let root = root.as_object().ok_or(BadEntry("the instance is no JSON object"))?;
    let text = |name: &str| root.get(name).and_then(texting).filter(|text| !text.is_empty());
    let number = |name: &str| text(name).and_then(|text| text.trim().parse::<i64>().ok());
    instance.weight = number(WEIGHT)
        .map_or(WEIGHT_DEFAULT, |stated| stated.clamp(0, i64::from(WEIGHT_MAX)).unsigned_abs() as u32);
    instance.version = text("version");
    instance.group = text("group");
    instance.protocol = text("protocol");
    instance.started = number("started").and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
    let mut metadata = root.get("metadata").map(texts).unwrap_or_default();
    if let Some(app) = text("app") {
        metadata.entry("app".to_owned()).or_insert(app);
    }
    instance.metadata = metadata.into();
    Ok(instance)
}

/// The value of a registration in our own layout.
pub fn plain_value(r: &Registration) -> String {
    let mut root = Map::new();
    let said = [("version", &r.version), ("group", &r.group)];
    root.extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.clone()?)))));
    for (name, value) in [("app", &r.app), ("protocol", &r.protocol)] {
        root.insert(name.to_owned(), json!(value));
    }
    root.insert(WEIGHT.to_owned(), json!(r.weight.min(WEIGHT_MAX)));
    root.insert("started".to_owned(), json!(r.started));
    root.insert("metadata".to_owned(), json!(r.metadata));
    Value::Object(root).to_string()
}

/// A map's texts; anything that is none is left out.
fn texts(map: &Value) -> BTreeMap<String, String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), texting(value)?))).collect()
}

/// A text; numbers and booleans are texts too.
fn texting(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use outrigger_discovery::ServiceKey;

    use super::*;

    /// What dubbo-go 3.3.0 left in etcd 3.6.4 of an application with one service by two protocols, key and value by turns, where
    /// each instance answers what it gives, and where the registry has that. Must never be edited to fit.
    const LOCAL: &str = include_str!("../tests/golden/dubbo-go-3.3.0-local.txt");
    const REMOTE: &str = include_str!("../tests/golden/dubbo-go-3.3.0-remote.txt");
    /// As Go's encoder writes a `DefaultServiceInstance` of dubbo-go 3.3.2, which has a weight, and a new line.
    const GO: &str = concat!(
        r#"{"ID":"10.9.9.2:20000","ServiceName":"go-shop","Host":"10.9.9.2","Port":20000,"Weight":100,"Enable":true,"#,
        r#""Healthy":true,"Metadata":{"dubbo.endpoints":"[{\"port\":20000,\"protocol\":\"tri\"}]","#,
        r#""dubbo.metadata.revision":"8a3c","dubbo.metadata.storage-type":"remote","timestamp":"1700000000000"},"#,
        r#""ServiceMetadata":null,"Address":"10.9.9.2:20000","GroupName":"","Tag":"gray"}"#,
        "\n"
    );

    /// What stands under the only key that begins like this.
    fn under<'a>(golden: &'a str, prefix: &str) -> &'a str {
        let lines: Vec<&str> = golden.lines().collect();
        let found = lines.chunks(2).find(|entry| entry[0].starts_with(prefix));
        found.expect("a key")[1]
    }

    fn member(golden: &str) -> (Member, MetadataInfo) {
        let (member, info) =
            go_member(under(golden, "/services/go-shop/").as_bytes()).unwrap().expect("a member");
        (member, info.expect("what it gives"))
    }

    #[test]
    fn what_dubbo_go_writes_is_a_member() {
        for (golden, is_remote) in [(LOCAL, false), (REMOTE, true)] {
            let (member, info) = member(golden);
            assert_eq!((member.app.as_str(), member.address.as_str()), ("go-shop", "10.9.9.1:20880"));
            assert_eq!((member.revision(), member.is_remote()), (Some("29673542044"), is_remote));
            assert_eq!(member.metadata["dubbo.tag"], "gray");
            assert!(!member.metadata.contains_key("weight"), "its services have weights");
            assert_eq!((info.app.as_str(), info.revision.as_str()), ("go-shop", "29673542044"));
        }
        let asks = member(LOCAL).0.asks().expect("whom to ask");
        assert_eq!((asks.protocol.as_str(), asks.app.as_str()), ("dubbo", "go-shop"));
        assert!(asks.address.starts_with("10.9.9.1:") && asks.address != "10.9.9.1:20880", "{asks:?}");
        let (later, info) = go_member(GO.as_bytes()).unwrap().unwrap();
        assert_eq!((later.metadata["weight"].as_str(), info), ("100", None));
    }

    #[test]
    fn a_service_of_dubbo_go_is_found_with_its_own_weight() {
        for golden in [LOCAL, REMOTE] {
            let (member, info) = member(golden);
            let found = info.instances(&ServiceKey::new("peer.api.DemoService"), &member);
            let [dubbo, tri] = &found[..] else { panic!("two instances: {found:?}") };
            assert_eq!(
                (dubbo.address.as_str(), dubbo.protocol.as_deref()),
                ("10.9.9.1:20880", Some("dubbo"))
            );
            assert_eq!((tri.address.as_str(), tri.protocol.as_deref()), ("10.9.9.1:20881", Some("tri")));
            for one in [dubbo, tri] {
                assert_eq!((one.group.as_deref(), one.version.as_deref()), (Some("blue"), Some("1.0.0")));
                assert_eq!((one.weight, one.metadata["dubbo.tag"].as_str()), (50, "gray"));
                let started = one.started.expect("a start");
                assert!(
                    (1_796_000_000_000..1_797_000_000_000).contains(&started),
                    "told in seconds: {started}"
                );
            }
        }
        // What the registry has is what the instance says.
        let written = MetadataInfo::parse(under(REMOTE, "/dubbogo-shop/29673542044").as_bytes());
        assert_eq!(written, Ok(member(REMOTE).1));
    }

    #[test]
    fn a_revision_of_dubbo_go_is_shared_by_members_on_other_ports() {
        let (mut other, info) = member(REMOTE);
        let endpoints = r#"[{"port":1,"protocol":"dubbo"},{"port":2,"protocol":"tri"}]"#;
        other.metadata.insert("dubbo.endpoints".into(), endpoints.into());
        let found = info.instances(&ServiceKey::new("peer.api.DemoService"), &other);
        let addresses: Vec<&str> = found.iter().map(|one| one.address.as_str()).collect();
        assert_eq!(addresses, ["10.9.9.1:1", "10.9.9.1:2"]);
    }

    #[test]
    fn a_farewell_is_said_once_and_by_members_alone() {
        let farewell = go_farewell(under(REMOTE, "/services/").as_bytes()).expect("a farewell");
        assert_eq!(go_member(&farewell), Ok(None));
        let root: Value = serde_json::from_slice(&farewell).unwrap();
        assert_eq!(
            (root["ServiceName"].as_str(), root["Metadata"][REVISION].as_str()),
            (Some("go-shop"), Some("0"))
        );
        assert_eq!(go_farewell(&farewell), None);
        for other in ["", "[]", "{}", r#"{"Metadata":7}"#, r#"{"Metadata":{}}"#, r#"{"weight":5}"#] {
            assert_eq!(go_farewell(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_is_written_has_the_fields_of_go_and_is_read_back() {
        let (member, _) = go_member(GO.as_bytes()).unwrap().unwrap();
        let written = go_instance(&member, 100);
        let fields = |text: &str| {
            let root: Value = serde_json::from_str(text).unwrap();
            let kind = |value: &Value| match value {
                Value::Number(_) => "number",
                Value::Bool(_) => "bool",
                Value::Object(_) => "object",
                Value::Null => "null",
                _ => "text",
            };
            let fields = root.as_object().unwrap().iter();
            fields.map(|(name, value)| (name.clone(), kind(value))).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(fields(&written), fields(GO));
        assert_eq!(go_member(written.as_bytes()).unwrap().unwrap(), (member, None));
        // Before 3.3.2 there was no weight; the rest is the same, but that an instance says itself what it gives.
        let mut earlier = fields(under(REMOTE, "/services/"));
        earlier.insert("Weight".into(), "number");
        earlier.insert("ServiceMetadata".into(), "null");
        assert_eq!(fields(&written), earlier);
    }

    #[test]
    fn a_member_that_is_off_is_none_and_one_without_an_address_is_bad() {
        for off in [r#""Enable":true"#, r#""Healthy":true"#] {
            let off = GO.replace(off, &off.replace("true", "false"));
            assert_eq!(go_member(off.as_bytes()), Ok(None));
        }
        let by_address = r#"{"ServiceName":"a","Address":"[fd00::1]:1"}"#;
        assert_eq!(go_member(by_address.as_bytes()).unwrap().unwrap().0.address, "[fd00::1]:1");
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"ServiceName":"a"}"#,
            r#"{"ServiceName":"a","Host":"h","Port":0}"#,
            r#"{"ServiceName":"a","Host":"h h","Port":1}"#,
            r#"{"ServiceName":"a","Host":"h","Port":70000}"#,
            r#"{"Host":"h","Port":1}"#,
        ] {
            assert!(go_member(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plain_instance_is_as_short_as_its_writer_likes() {
        for nothing in ["", " \n", "{}", r#"{"weight":null,"colour":[1]}"#] {
            assert_eq!(plain_instance("h:1", nothing.as_bytes()), Ok(Instance::new("h:1")), "{nothing:?}");
        }
        let all = r#"{"weight":"7","version":"1.0","group":"g","protocol":"http","started":5,"app":"shop","metadata":{"zone":"a","n":1}}"#;
        let one = plain_instance("h:1", all.as_bytes()).unwrap();
        assert_eq!((one.weight, one.started), (7, Some(5)));
        assert_eq!(
            (one.version.as_deref(), one.group.as_deref(), one.protocol.as_deref()),
            (Some("1.0"), Some("g"), Some("http"))
        );
        assert_eq!(one.metadata.keys().collect::<Vec<_>>(), ["app", "n", "zone"]);
        for (stated, weight) in [("-3", 0), ("99999999", WEIGHT_MAX), (r#""much""#, WEIGHT_DEFAULT)] {
            let value = format!(r#"{{"weight":{stated}}}"#);
            assert_eq!(plain_instance("h:1", value.as_bytes()).unwrap().weight, weight, "{stated}");
        }
        for (node, value) in
            [("h", ""), ("h:0", ""), ("a/h:1", ""), ("h:1", "{"), ("h:1", "[]"), ("h:1", "7")]
        {
            assert!(plain_instance(node, value.as_bytes()).is_err(), "{node} {value}");
        }
    }
}
