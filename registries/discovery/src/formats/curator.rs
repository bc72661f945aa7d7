//! The JSON of Apache Curator's service discovery, which Dubbo 3 and Spring Cloud write into `ZooKeeper` alike.
//!
//! Both use the same folder; who wrote an entry is told by the Java class that it names. Java cannot read an entry back
//! without that class, so it must never be left out. After Curator's `ServiceInstance` and the `ZookeeperInstance` of each;
//! compared with what Dubbo 3.3.6 wrote.

use serde_json::{Map, Value, json};

use super::{BadEntry, Params, application::Member, filled, join, moment, split, weight};
use crate::{Instance, Registration, WEIGHT_DEFAULT, WEIGHT_MAX, check_address};

const DUBBO_CLASS: &str = "org.apache.dubbo.registry.zookeeper.ZookeeperInstance";
const SPRING_CLASS: &str = "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance";
/// Under this Spring Cloud says whether an instance is to be called.
const STATUS: &str = "instance_status";
/// Under this it is said that only TLS is spoken there.
const SECURE: &str = "secure";

/// Who wrote an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Dubbo 3: an instance of an application.
    Dubbo,
    /// Spring Cloud.
    Spring,
    /// Somebody else.
    Other,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its id among those of one name.
    pub id: String,
    /// The application.
    pub name: String,
    /// `host:port`; see [`check_address`].
    pub address: String,
    /// What is told besides. Of one with nothing but a port for TLS, `secure` is `true` in it.
    pub metadata: Params,
    /// Who wrote it.
    pub kind: Kind,
    /// When it was written, in milliseconds since 1970.
    pub registered: Option<u64>,
}

/// Reads an entry.
pub fn parse(bytes: &[u8]) -> Result<Service, BadEntry> {
    let root: Value = serde_json::from_slice(bytes).map_err(|_| BadEntry("the entry is no JSON"))?;
    let payload = root.get("payload").unwrap_or(&Value::Null);
    let mut metadata = payload.get("metadata").map(texts).unwrap_or_default();
    let port = |name: &str| {
        let port = root.get(name).and_then(Value::as_u64);
        port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    };
    let open = port("port");
    let port = open.or_else(|| port("sslPort")).ok_or(BadEntry("the entry has no port"))?;
    if open.is_none() {
        metadata.insert(SECURE.to_owned(), "true".to_owned());
    }
    let address = join(root.get("address").and_then(Value::as_str).unwrap_or_default(), port);
    check_address(&address).map_err(|_| BadEntry("the address of the entry cannot be dialled"))?;
    let text = |name: &str| root.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = match payload.get("@class").and_then(Value::as_str) {
        Some(DUBBO_CLASS) => Kind::Dubbo,
        Some(SPRING_CLASS) => Kind::Spring,
        // Dubbo of other languages has no Java class to name.
        _ if metadata.contains_key(super::application::REVISION) => Kind::Dubbo,
        _ => Kind::Other,
    };
    let registered = root.get("registrationTimeUTC").and_then(Value::as_u64).filter(|ms| *ms > 0);
    Ok(Service { id: text("id"), name: text("name"), address, metadata, kind, registered })
}

/// A map's texts; numbers and booleans are texts too, anything else is left out.
pub(super) fn texts(map: &Value) -> Params {
    let pairs = map.as_object().into_iter().flatten();
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    pairs.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

impl Service {
    /// The instance of an application that it is for Dubbo 3; `None`: Dubbo did not write it.
    pub fn member(&self) -> Option<Member> {
        let Self { name, address, metadata, .. } = self;
        (self.kind == Kind::Dubbo).then(|| Member {
            app: name.clone(),
            address: address.clone(),
            metadata: metadata.clone(),
        })
    }
}

/// The instance that Spring Cloud would call; `None`: Spring Cloud did not write it, or it is not to be called.
///
/// A weight of Spring's is a multiple of what one has that states none.
pub fn spring_instance(s: &Service) -> Option<Instance> {
    let up = filled(&s.metadata, STATUS).is_none_or(|status| status.eq_ignore_ascii_case("UP"));
    if s.kind != Kind::Spring || !up {
        return None;
    }
    let weight = if s.metadata.contains_key("weight") {
        weight(&s.metadata, "weight").saturating_mul(WEIGHT_DEFAULT).min(WEIGHT_MAX)
    } else {
        WEIGHT_DEFAULT
    };
    let secure = filled(&s.metadata, SECURE) == Some("true");
    let mut metadata = s.metadata.clone();
    metadata.retain(|name, _| !matches!(name.as_str(), STATUS | "weight" | "version" | "group"));
    Some(Instance {
        address: s.address.clone(),
        weight,
        version: filled(&s.metadata, "version").map(str::to_owned),
        group: filled(&s.metadata, "group").map(str::to_owned),
        protocol: Some(if secure { "https" } else { "http" }.to_owned()),
        started: s.registered,
        metadata: metadata.into(),
    })
}

/// The entry that Spring Cloud would write for it; `id`: its name in the folder of the application.
pub fn spring(r: &Registration, id: &str) -> String {
    let mut metadata = Params::from([(STATUS.to_owned(), "UP".to_owned())]);
    let said = [("version", &r.version), ("group", &r.group)];
    metadata.extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    if r.weight != WEIGHT_DEFAULT && r.weight.is_multiple_of(WEIGHT_DEFAULT) {
        metadata.insert("weight".to_owned(), (r.weight / WEIGHT_DEFAULT).to_string());
    }
    metadata.extend(r.metadata.clone());
    let payload = json!({ "@class": SPRING_CLASS, "id": r.app, "name": r.service, "metadata": metadata });
    let part = |value: &str, variable: bool| json!({ "value": value, "variable": variable });
    let parts = [("scheme", true), ("://", false), ("address", true), (":", false), ("port", true)];
    let parts: Vec<Value> = parts.iter().map(|(value, variable)| part(value, *variable)).collect();
    entry(&r.service, id, &r.address, payload, r.started, json!({ "parts": parts }))
}

/// The entry that Dubbo 3 would write for an instance of an application, under the name of its address.
pub fn dubbo(app: &Member) -> String {
    let payload =
        json!({ "@class": DUBBO_CLASS, "id": app.address, "name": app.app, "metadata": app.metadata });
    let registered = moment(&app.metadata, "timestamp").unwrap_or_default();
    entry(&app.app, &app.address, &app.address, payload, registered, Value::Null)
}

fn entry(name: &str, id: &str, address: &str, payload: Value, registered: u64, uri: Value) -> String {
    let (host, port) = split(address).unwrap_or((address, 0));
    let mut root = Map::new();
    let fields = [
        ("name", json!(name)),
        ("id", json!(id)),
        ("address", json!(host)),
        ("port", json!(port)),
        ("sslPort", Value::Null),
        ("payload", payload),
        ("registrationTimeUTC", json!(registered)),
        ("serviceType", json!("DYNAMIC")),
        ("uriSpec", uri),
    ];
    root.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(root).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(port: &str, payload: &str) -> Result<Service, BadEntry> {
        parse(
            format!(r#"{{"name":"shop","id":"i","address":"10.0.0.1",{port},"payload":{payload}}}"#)
                .as_bytes(),
        )
    }

    #[test]
    fn who_wrote_an_entry_is_told_by_its_class() {
        let kind = |payload: &str| written(r#""port":1"#, payload).unwrap().kind;
        assert_eq!(kind(&format!(r#"{{"@class":"{DUBBO_CLASS}"}}"#)), Kind::Dubbo);
        assert_eq!(kind(r#"{"metadata":{"dubbo.metadata.revision":"a"}}"#), Kind::Dubbo);
        assert_eq!(kind(&format!(r#"{{"@class":"{SPRING_CLASS}","metadata":{{}}}}"#)), Kind::Spring);
        for other in ["null", "{}", r#""text""#, r#"{"@class":5,"metadata":[1]}"#] {
            assert_eq!(kind(other), Kind::Other, "{other}");
        }
    }

    #[test]
    fn a_port_for_tls_alone_is_told() {
        let one =
            written(r#""port":null,"sslPort":8443"#, &format!(r#"{{"@class":"{SPRING_CLASS}"}}"#)).unwrap();
        assert_eq!(one.address, "10.0.0.1:8443");
        assert_eq!(spring_instance(&one).unwrap().protocol.as_deref(), Some("https"));
        for bad in [r#""port":null"#, r#""port":0"#, r#""port":70000"#, r#""port":"80""#] {
            assert!(written(bad, "{}").is_err(), "{bad}");
        }
        for bad in ["", "[]", "{}", r#"{"port":1}"#, r#"{"port":1,"address":"a b"}"#, "\u{1}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_down_is_not_called() {
        let one = |status: &str| {
            let payload = format!(
                r#"{{"@class":"{SPRING_CLASS}","metadata":{{"instance_status":"{status}","weight":"3"}}}}"#
            );
            spring_instance(&written(r#""port":1"#, &payload).unwrap())
        };
        assert_eq!(one("DOWN"), None);
        assert_eq!(one("OUT_OF_SERVICE"), None);
        let up = one("UP").unwrap();
        assert_eq!((up.weight, up.metadata.len()), (300, 0));
    }
}
