//! What stands under the keys of instances: the JSON of dubbo-go, and that of our own layout.
//!
//! Text in, instances out, and back. It must never ask anybody, and never fail on what one instance says at the cost of
//! others. After dubbo-go's `registry.DefaultServiceInstance`, which Go writes with the names of its fields as they are; the
//! layout of our own is described at the top of this crate.

use std::collections::BTreeMap;

use outrigger_discovery::{
    Instance, Registration, WEIGHT_DEFAULT, WEIGHT_MAX, check_address,
    formats::{BadEntry, application::Member, join, split},
};
use serde_json::{Map, Value, json};

/// Under this dubbo-go tells an instance's tag to consumers.
const TAG: &str = "dubbo.tag";
const WEIGHT: &str = "weight";

/// The instance of an application that dubbo-go wrote; `None`: it is not to be called.
pub fn go_member(value: &[u8]) -> Result<Option<Member>, BadEntry> {
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
    Ok(Some(Member { app, address, metadata }))
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
    use outrigger_discovery::{ServiceKey, formats::application::MetadataInfo};

    use super::*;

    /// As Go's encoder writes a `DefaultServiceInstance` of an application with one service of Triple, and a new line.
    const GO: &str = concat!(
        r#"{"ID":"10.9.9.2:20000","ServiceName":"go-shop","Host":"10.9.9.2","Port":20000,"Weight":100,"Enable":true,"#,
        r#""Healthy":true,"Metadata":{"dubbo.endpoints":"[{\"port\":20000,\"protocol\":\"tri\"}]","#,
        r#""dubbo.metadata.revision":"8a3c","dubbo.metadata.storage-type":"remote","timestamp":"1700000000000"},"#,
        r#""ServiceMetadata":null,"Address":"10.9.9.2:20000","GroupName":"","Tag":"gray"}"#,
        "\n"
    );

    #[test]
    fn what_dubbo_go_writes_is_a_member() {
        let member = go_member(GO.as_bytes()).unwrap().unwrap();
        assert_eq!((member.app.as_str(), member.address.as_str()), ("go-shop", "10.9.9.2:20000"));
        assert_eq!((member.revision(), member.is_remote()), (Some("8a3c"), true));
        assert_eq!(member.metadata["dubbo.tag"], "gray");
        assert_eq!(member.metadata["weight"], "100");
    }

    #[test]
    fn a_service_of_dubbo_go_is_found_with_its_own_weight() {
        // As Go's encoder writes a `MetadataInfo`: what is empty is left out.
        let info = concat!(
            r#"{"app":"go-shop","revision":"8a3c","services":{"g1/a.B:1.0.0:tri":{"name":"a.B","group":"g1","#,
            r#""version":"1.0.0","protocol":"tri","port":20001,"path":"a.B","params":{"application":"go-shop","#,
            r#""group":"g1","methods":"Say","path":"a.B","version":"1.0.0","weight":"50"}},"#,
            r#""a.C:tri":{"name":"a.C","protocol":"tri","path":"a.C","params":{"methods":"Say"}}},"lastUpdatedTime":7}"#
        );
        let info = MetadataInfo::parse(info.as_bytes()).unwrap();
        let member = go_member(GO.as_bytes()).unwrap().unwrap();
        let found = |service: &str| info.instances(&ServiceKey::new(service), &member);
        let [one] = &found("a.B")[..] else { panic!("one instance") };
        assert_eq!((one.address.as_str(), one.weight), ("10.9.9.2:20001", 50));
        assert_eq!((one.group.as_deref(), one.version.as_deref()), (Some("g1"), Some("1.0.0")));
        assert_eq!(one.metadata["dubbo.tag"], "gray");
        let [other] = &found("a.C")[..] else { panic!("one instance") };
        assert_eq!((other.address.as_str(), other.weight), ("10.9.9.2:20000", 100), "of its protocol's port");
    }

    #[test]
    fn what_is_written_has_the_fields_of_go_and_is_read_back() {
        let member = go_member(GO.as_bytes()).unwrap().unwrap();
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
        assert_eq!(go_member(written.as_bytes()).unwrap().unwrap(), member);
    }

    #[test]
    fn a_member_that_is_off_is_none_and_one_without_an_address_is_bad() {
        for off in [r#""Enable":true"#, r#""Healthy":true"#] {
            let off = GO.replace(off, &off.replace("true", "false"));
            assert_eq!(go_member(off.as_bytes()), Ok(None));
        }
        let by_address = r#"{"ServiceName":"a","Address":"[fd00::1]:1"}"#;
        assert_eq!(go_member(by_address.as_bytes()).unwrap().unwrap().address, "[fd00::1]:1");
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
