//! SOFARPC's registry `mesh`: five calls by which an application tells its sidecar what it gives and what it wants.
//!
//! After SOFARPC's `MeshRegistry`, `MeshApiClient` and the models of `registry-mesh`; compared with what 5.13.2 sends. The
//! client takes status 200 alone for an answer, looks at the first of `datas` and there behind the question mark, and asks
//! each thing once: whatever is refused here is never asked again. So nothing is refused that could be of use, and a service
//! that nobody gives is an answer like any other.

use std::{collections::BTreeMap, fmt::Write};

use hyper::StatusCode;
use outrigger_discovery::{Framework, Instance, WEIGHT_MAX};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Ask,
    kept::{Name, Published},
};

/// What is spoken where nothing is said.
const PROTOCOL: &str = "bolt";
/// The version that all of SOFARPC's services have.
const VERSION: &str = "1.0";
/// Parameters that are told of a service.
const PROPERTIES_MAX: usize = 64;
/// The longest name and the longest value of one.
const PROPERTY_MAX: (usize, usize) = (128, 1_024);
/// What is told by other means, or is not the application's to say.
const NOT_METADATA: [&str; 9] =
    ["port", "weight", "interface", "uniqueId", "version", "protocol", "appName", "startTime", "pid"];

/// What a call asks for, by its path; `None`: there is no such path.
pub(super) fn ask(path: &str, body: &[u8]) -> Option<Result<Ask, String>> {
    let ask = match path {
        "/configs/application" => super::json::read(body).and_then(application),
        "/services/publish" => super::json::read(body).and_then(publish),
        "/services/unpublish" => {
            super::json::read(body).and_then(|of: Service| Ok(Ask::Unpublish(of.given()?)))
        }
        "/services/subscribe" => {
            super::json::read(body).and_then(|of: Service| Ok(Ask::Subscribe(of.name()?)))
        }
        "/services/unsubscribe" => {
            super::json::read(body).and_then(|of: Service| Ok(Ask::Unsubscribe(of.name()?)))
        }
        _ => return None,
    };
    Some(ask)
}

/// The answer to what was done.
pub(super) fn done(ask: &Ask, found: &[Instance]) -> Value {
    let mut answer = json!({ "success": true, "errorMessage": null });
    if let (Ask::Subscribe(name), Value::Object(answer)) = (ask, &mut answer) {
        let version = name.version.as_ref().map_or_else(String::new, |version| format!(":{version}"));
        let datas: Vec<String> = found.iter().map(|instance| data(instance, &name.protocol)).collect();
        answer.insert("serviceName".into(), json!(format!("{}{version}", name.service)));
        answer.insert("datas".into(), json!(datas));
    }
    answer
}

/// The answer to what is not done. `malformed`: nobody could do it.
pub(super) fn refused(why: &str, malformed: bool) -> (StatusCode, Value) {
    let status = if malformed { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    (status, json!({ "success": false, "errorMessage": why }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Application {
    app_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    service_name: String,
    protocol_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Publish {
    service_name: String,
    protocol_type: Option<String>,
    provider_meta_info: Option<MetaInfo>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetaInfo {
    serialize_type: Option<String>,
    app_name: Option<String>,
    properties: Option<Map<String, Value>>,
}

impl Service {
    /// The same of one that is given: it has a version, as all of SOFARPC's services have.
    fn given(self) -> Result<Name, String> {
        let mut name = self.name()?;
        name.version.get_or_insert_with(|| VERSION.to_owned());
        Ok(name)
    }

    /// `interface:version[:uniqueId]`, as calls name it; its group is none, whatever is said.
    fn name(self) -> Result<Name, String> {
        let (service, version) = match self.service_name.split_once(':') {
            Some((service, version)) => (service, Some(version)),
            None => (&*self.service_name, None),
        };
        let filled = |text: &&str| !text.is_empty();
        let name = Name {
            framework: Framework::Sofarpc,
            service: service.to_owned(),
            version: version.filter(filled).map(str::to_owned),
            group: None,
            protocol: self.protocol_type.as_deref().filter(filled).unwrap_or(PROTOCOL).to_owned(),
        };
        name.check()?;
        Ok(name)
    }
}

fn application(said: Application) -> Result<Ask, String> {
    let app = said.app_name.unwrap_or_default();
    if app.len() > PROPERTY_MAX.1 || app.contains(char::is_control) {
        return Err("no name of an application".to_owned());
    }
    Ok(Ask::Application(app))
}

fn publish(said: Publish) -> Result<Ask, String> {
    let Publish { service_name, protocol_type, provider_meta_info } = said;
    let name = Service { service_name, protocol_type }.given()?;
    let MetaInfo { serialize_type, app_name, properties } = provider_meta_info.unwrap_or_default();
    let properties = properties.unwrap_or_default();
    let port = match properties.get("port").map(text) {
        None | Some(None) => None,
        Some(Some(port)) => match port.parse::<u16>() {
            Ok(port @ 1..) => Some(port),
            _ => return Err(format!("no port: {:?}", port.chars().take(16).collect::<String>())),
        },
    };
    let mut published =
        Published { app: app_name.filter(|app| legible("appName", app)), port, ..Published::default() };
    if let Some(weight) = properties.get("weight").and_then(text).and_then(|weight| weight.parse().ok()) {
        published.weight = WEIGHT_MAX.min(weight);
    }
    published.metadata = metadata(&name, serialize_type, &properties);
    Ok(Ask::Publish(name, published))
}

/// What else is told of a service. A parameter that cannot be written is left out, as SOFARPC's own readers would not find it.
fn metadata(
    name: &Name,
    serialization: Option<String>,
    said: &Map<String, Value>,
) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    let serialization = serialization.filter(|value| !value.is_empty() && legible("serialization", value));
    metadata.extend(serialization.map(|value| ("serialization".to_owned(), value)));
    let mut left_out = 0;
    for (key, value) in said.iter().filter(|(key, _)| !NOT_METADATA.contains(&key.as_str())) {
        match text(value) {
            Some(value) if metadata.len() < PROPERTIES_MAX && legible(key, &value) => {
                metadata.insert(key.clone(), value);
            }
            Some(_) => left_out += 1,
            None => {}
        }
    }
    if left_out > 0 {
        tracing::warn!(service = name.service, left_out, "parameters that cannot be registered are left out");
    }
    metadata
}

/// Whether a parameter can stand in a URL in which nothing is escaped.
fn legible(key: &str, value: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, '&' | '?' | '#');
    let (key_max, value_max) = PROPERTY_MAX;
    (1..=key_max).contains(&key.len())
        && value.len() <= value_max
        && !key.contains('=')
        && !key.contains(bad)
        && !value.contains(bad)
}

/// A value as its text; `None`: it is none, or a structure.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// An instance in the words of `datas`: `ip:port?p=1&v=4.0&…`.
fn data(instance: &Instance, protocol: &str) -> String {
    let mut data = format!("{}?", instance.address);
    match protocol {
        "bolt" => data.push_str("p=1&v=4.0"),
        "tri" | "tr" => data.push_str("p=13&v=4.0"),
        _ => data.push_str("v=4.0"),
    }
    let said = |name: &str| {
        let value = instance.metadata.get(name).filter(|value| !value.is_empty() && value.len() <= 256)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        value.bytes().all(plain).then_some(value.as_str())
    };
    let _ = write!(data, "&_SERIALIZETYPE={}", said("serialization").unwrap_or("hessian2"));
    if let Some(app) = said("appName") {
        let _ = write!(data, "&app_name={app}");
    }
    // Zero is SOFARPC's word for none.
    if let Some(timeout) = said("timeout").and_then(|text| text.parse::<u32>().ok()).filter(|ms| *ms > 0) {
        let _ = write!(data, "&_TIMEOUT={timeout}");
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, body: &str) -> Result<Ask, String> {
        ask(path, body.as_bytes()).expect("a path")
    }

    fn bolt(service: &str, version: &str) -> Name {
        Name {
            framework: Framework::Sofarpc,
            service: service.into(),
            version: Some(version.into()),
            group: None,
            protocol: "bolt".into(),
        }
    }

    #[test]
    fn a_service_is_published_as_sofarpc_5_13_says_it() {
        let body = r#"{"serviceName":"peer.api.DemoService:1.0","protocolType":"bolt",
            "providerMetaInfo":{"protocol":"bolt","version":"4.0","serializeType":"hessian2","appName":"shop-provider",
            "properties":{"sofa.group":"G1","k1":"v1"}},"onlyPublishInCloud":false,"group":"G1"}"#;
        let Ok(Ask::Publish(name, said)) = asked("/services/publish", body) else { panic!() };
        assert_eq!(name, bolt("peer.api.DemoService", "1.0"));
        let metadata = [("k1", "v1"), ("serialization", "hessian2"), ("sofa.group", "G1")];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(
            said,
            Published {
                app: Some("shop-provider".into()),
                metadata: metadata.into(),
                ..Published::default()
            }
        );
    }

    #[test]
    fn what_people_send_by_curl_is_taken_too() {
        let body = r#"{"protocolType":"xr","providerMetaInfo":{"appName":"xr-provider","properties":
            {"application":"xr-provider","port":"9999","weight":7}},"serviceName":"CIMT000070@xr"}"#;
        let Ok(Ask::Publish(name, said)) = asked("/services/publish", body) else { panic!() };
        assert_eq!((name.service.as_str(), name.protocol.as_str()), ("CIMT000070@xr", "xr"));
        assert_eq!((said.port, said.weight, said.metadata.len()), (Some(9999), 7, 1));
        let Ok(Ask::Publish(name, said)) = asked("/services/publish", r#"{"serviceName":"a.B:1.0:u1"}"#)
        else {
            panic!()
        };
        assert_eq!((name, said), (bolt("a.B", "1.0:u1"), Published::default()));
    }

    #[test]
    fn every_other_call_names_its_service() {
        let body = r#"{"serviceName":"a.B:1.0","targetAppAddress":null,"protocolType":"bolt","vipEnforce":false,
            "localCloudFirst":false,"group":"G1","properties":{"sofa.group":"G1"}}"#;
        let name = bolt("a.B", "1.0");
        assert_eq!(asked("/services/subscribe", body), Ok(Ask::Subscribe(name.clone())));
        assert_eq!(asked("/services/unsubscribe", body), Ok(Ask::Unsubscribe(name.clone())));
        assert_eq!(asked("/services/unpublish", body), Ok(Ask::Unpublish(name)));
        // As the call of a client that names no version would; what is given has one.
        let nameless = Name { version: None, ..bolt("a.B", "") };
        assert_eq!(asked("/services/subscribe", r#"{"serviceName":"a.B"}"#), Ok(Ask::Subscribe(nameless)));
        let given = Ask::Unpublish(bolt("a.B", "1.0"));
        assert_eq!(asked("/services/unpublish", r#"{"serviceName":"a.B"}"#), Ok(given));
        assert_eq!(
            asked("/configs/application", r#"{"appName":"shop","x":1}"#),
            Ok(Ask::Application("shop".into()))
        );
        assert!(ask("/services", b"{}").is_none() && ask("/services/publish/", b"{}").is_none());
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"serviceName":null}"#,
            r#"{"serviceName":7}"#,
            r#"{"serviceName":""}"#,
            r#"{"serviceName":":1.0"}"#,
            r#"{"serviceName":"a\u0000b"}"#,
            r#"{"serviceName":"a\r\nb:1.0"}"#,
            r#"{"serviceName":"../a"}"#,
            r#"{"serviceName":"a","serviceName":"b"}"#,
            r#"{"serviceName":"a","protocolType":"../x"}"#,
            r#"{"serviceName":"a:1/0"}"#,
        ] {
            for path in ["publish", "unpublish", "subscribe", "unsubscribe"] {
                assert!(asked(&format!("/services/{path}"), bad).is_err(), "{path} {bad}");
            }
        }
        for port in ["\"0\"", "\"65536\"", "-1", "\"x\"", "1.5", "\"\""] {
            let body =
                format!(r#"{{"serviceName":"a","providerMetaInfo":{{"properties":{{"port":{port}}}}}}}"#);
            assert!(asked("/services/publish", &body).is_err(), "{port}");
        }
        assert!(asked("/configs/application", r#"{"appName":"a\nb"}"#).is_err());
    }

    #[test]
    fn parameters_that_cannot_be_written_are_left_out_and_those_of_ours_are_not_theirs() {
        let mut properties = Map::new();
        for (key, value) in [
            ("good", "v"),
            ("bad&key", "v"),
            ("bad=key", "v"),
            ("bad", "a&b=c"),
            ("control", "a\nb"),
            ("interface", "other.Service"),
            ("uniqueId", "x"),
            ("startTime", "1"),
        ] {
            properties.insert(key.into(), value.into());
        }
        properties.insert("long".into(), "x".repeat(2_000).into());
        properties.insert("deep".into(), json!({ "a": 1 }));
        properties.insert("number".into(), json!(7));
        let body =
            json!({ "serviceName": "a", "providerMetaInfo": { "properties": properties } }).to_string();
        let Ok(Ask::Publish(_, said)) = asked("/services/publish", &body) else { panic!() };
        assert_eq!(said.metadata.keys().collect::<Vec<_>>(), ["good", "number"]);
        let many: Map<String, Value> = (0..1_000).map(|n| (format!("k{n}"), json!("v"))).collect();
        let body = json!({ "serviceName": "a", "providerMetaInfo": { "properties": many } }).to_string();
        let Ok(Ask::Publish(_, said)) = asked("/services/publish", &body) else { panic!() };
        assert_eq!(said.metadata.len(), PROPERTIES_MAX);
    }

    #[test]
    fn a_subscriber_is_told_who_gives_the_service() {
        let metadata = [("appName", "far"), ("serialization", "hessian2"), ("timeout", "0")];
        let metadata: BTreeMap<_, _> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let far = Instance { metadata: metadata.into(), ..Instance::new("10.9.8.7:12200") };
        let mut slow = far.clone();
        for (key, value) in [("appName", "a&b"), ("timeout", "500")] {
            slow.metadata.insert(key.into(), value.into());
        }
        let answer = done(&Ask::Subscribe(bolt("a.B", "1.0:u")), &[far, slow]);
        assert_eq!(
            answer,
            json!({
                "success": true, "errorMessage": null, "serviceName": "a.B:1.0:u",
                "datas": [
                    "10.9.8.7:12200?p=1&v=4.0&_SERIALIZETYPE=hessian2&app_name=far",
                    "10.9.8.7:12200?p=1&v=4.0&_SERIALIZETYPE=hessian2&_TIMEOUT=500",
                ],
            })
        );
        let answer = done(&Ask::Subscribe(bolt("a.B", "1.0")), &[]);
        assert_eq!((&answer["success"], &answer["datas"]), (&json!(true), &json!([])));
        assert_eq!(
            done(&Ask::Application("x".into()), &[]),
            json!({ "success": true, "errorMessage": null })
        );
    }
}
