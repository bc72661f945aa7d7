//! SOFARPC's providers: a URL, or the same parameters as the metadata of an instance.
//!
//! A service there is an interface and a unique id; its version is `1.0` for ever, and its group is none. What is written must
//! never differ in a name from what SOFARPC writes. After SOFARPC's `RegistryUtils` and `ProviderHelper`; compared with nodes
//! and instances that 5.13 wrote.

use std::collections::BTreeMap;

use super::{BadEntry, Params, Text, Url, dialled, filled, moment, percent, weight};
use crate::{Instance, Metadata, Registration, WEIGHT_MAX};

/// The version of every service.
const VERSION: &str = "1.0";
/// The release whose providers ours look like: 5.13.2.
const RELEASE: &str = "51302";

/// What is said in a field of its own, and what changes with every start.
const NOT_METADATA: [&str; 6] = ["version", "uniqueId", "weight", "protocol", "startTime", "pid"];

/// The provider that these parameters are of; `None`: it cannot be dialled.
pub fn instance<T: Text>(protocol: &str, address: &str, mut params: BTreeMap<T, T>) -> Option<Instance> {
    let version = filled(&params, "version").unwrap_or(VERSION);
    let version =
        filled(&params, "uniqueId").map_or_else(|| version.to_owned(), |id| format!("{version}:{id}"));
    let mut instance = Instance {
        address: dialled(address)?,
        weight: weight(&params, "weight"),
        version: Some(version),
        group: None,
        protocol: Some(protocol.to_owned()).filter(|protocol| !protocol.is_empty()),
        started: moment(&params, "startTime"),
        metadata: Metadata::default(),
    };
    params.retain(|name, _| !NOT_METADATA.contains(&(*name).borrow()));
    instance.metadata = Metadata::like(params, None);
    Some(instance)
}

/// The provider that a node's name is of; `None`: it is not to be called.
pub fn provider(node: &str) -> Result<Option<Instance>, BadEntry> {
    let text = percent::decode(node).ok_or(BadEntry("the name of the node is not escaped well"))?;
    let url: Url<&str> = Url::parse(&text).ok_or(BadEntry("the name of the node is no URL"))?;
    if matches!(url.protocol, "consumer" | "override") {
        return Ok(None);
    }
    instance(url.protocol, url.address, url.params)
        .map(Some)
        .ok_or(BadEntry("the address of the provider cannot be dialled"))
}

/// The parameters that SOFARPC would write for it; what its application said goes before.
pub fn params(r: &Registration) -> Params {
    let unique = r.version.as_deref().and_then(|version| version.split_once(':')).map_or("", |(_, id)| id);
    let mut params: Params = [
        ("accepts", "100000"),
        ("appName", r.app.as_str()),
        ("delay", "-1"),
        ("dynamic", "true"),
        ("id", "rpc-cfg-0"),
        ("interface", r.service.as_str()),
        ("language", "java"),
        ("protocol", r.protocol.as_str()),
        ("rpcVer", RELEASE),
        ("serialization", "hessian2"),
        ("timeout", "0"),
        ("uniqueId", unique),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    params.insert("weight".into(), r.weight.min(WEIGHT_MAX).to_string());
    params.insert("startTime".into(), r.started.to_string());
    // Consumers look for the first slash behind `://` and take it for the end of the address, and for pairs after that.
    let is_plain = |text: &str| !text.contains(['/', '?', '&']);
    let said = r.metadata.iter().filter(|(name, value)| is_plain(name) && is_plain(value));
    params.extend(said.map(|(name, value)| (name.clone(), value.clone())));
    params
}

/// The URL that SOFARPC would write for it; its node is named by the whole, escaped.
pub fn url(r: &Registration) -> Url {
    let mut params = params(r);
    let version = r.version.as_deref().and_then(|version| version.split(':').next());
    let version = version.filter(|version| !version.is_empty()).unwrap_or(VERSION);
    params.insert("version".into(), version.to_owned());
    Url { protocol: r.protocol.clone(), address: r.address.clone(), path: String::new(), params }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_with_the_unique_id() {
        let read = |url: &str| provider(&percent::encode(url)).unwrap().unwrap();
        let plain = read("bolt://10.0.0.1:12200?uniqueId=&weight=100&startTime=9&pid=4&appName=shop");
        assert_eq!((plain.version.as_deref(), plain.started), (Some("1.0"), Some(9)));
        assert_eq!(*plain.metadata, Params::from([("appName".into(), "shop".into())]));
        let marked = read("tri://10.0.0.1:12200?version=1.0&uniqueId=u1&weight=200");
        assert_eq!((marked.version.as_deref(), marked.weight), (Some("1.0:u1"), 200));
        assert_eq!(marked.protocol.as_deref(), Some("tri"));
    }

    #[test]
    fn what_would_end_the_address_for_consumers_is_not_told() {
        let told = |value: &str| Registration {
            app: "shop".into(),
            framework: crate::Framework::Sofarpc,
            level: crate::Level::Interface,
            service: "a.B".into(),
            protocol: "bolt".into(),
            address: "10.0.0.1:12200".into(),
            group: None,
            version: Some("1.0".into()),
            weight: 100,
            started: 0,
            metadata: Params::from([("home".into(), value.into())]),
        };
        assert_eq!(params(&told("a:1,b")).get("home").map(String::as_str), Some("a:1,b"));
        for bad in ["/a", "a?b", "a&b=c"] {
            assert!(!url(&told(bad)).params.contains_key("home"), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_bad() {
        for bad in ["bolt%3A%2F%2", "nonsense", "", "bolt%3A%2F%2F10.0.0.1%3Fa%3Db"] {
            assert!(provider(bad).is_err(), "{bad}");
        }
        assert_eq!(provider("consumer%3A%2F%2F10.0.0.1"), Ok(None));
    }
}
