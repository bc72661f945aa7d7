//! Dubbo's providers at the interface level: a URL, or the same parameters as the metadata of an instance.
//!
//! What is written is what Dubbo 3.3 writes of itself, so that every consumer since 2.7 takes it for one of its own. It must
//! never tell more of a provider than its application said. After Dubbo's `ServiceConfig`, `UrlUtils.isMatch` and
//! `AbstractConfigurator`; compared with nodes that 2.7.23, 3.3.1 and 3.3.6 wrote.

use std::collections::BTreeMap;

use super::{BadEntry, Params, Text, Url, dialled, filled, is_any, is_true, moment, percent, split, weight};
use crate::{Instance, Level, Metadata, Registration, WEIGHT_DEFAULT, WEIGHT_MAX};

/// The version of the protocol that every Dubbo since 2.6 states.
pub(crate) const WIRE_VERSION: &str = "2.0.2";
/// The release whose providers ours look like.
const RELEASE: &str = "3.3.6";

/// What is said in a field of its own, what tells nothing of the provider, and what changes with every start.
const NOT_METADATA: [&str; 10] = [
    "group",
    "version",
    "weight",
    "protocol",
    "category",
    "enabled",
    "disabled",
    "timestamp",
    "pid",
    "REGISTRY_CLUSTER",
];

/// What stands where a provider's protocol would in entries that are none.
const NOT_PROVIDERS: [&str; 8] =
    ["consumer", "override", "absent", "route", "condition", "script", "empty", "admin"];

/// The provider that these parameters are of; `None`: it is not to be called, or cannot be dialled.
pub fn instance<T: Text>(protocol: &str, address: &str, params: BTreeMap<T, T>) -> Option<Instance> {
    instance_like(None, protocol, address, params)
}

fn instance_like<T: Text>(
    like: Option<&Instance>,
    protocol: &str,
    address: &str,
    mut params: BTreeMap<T, T>,
) -> Option<Instance> {
    let off = filled(&params, "category").is_some_and(|category| category != "providers")
        || filled(&params, "side").is_some_and(|side| side != "provider")
        || filled(&params, "enabled").is_some_and(|enabled| !is_true(enabled))
        || filled(&params, "disabled").is_some_and(is_true);
    if off || protocol.is_empty() || NOT_PROVIDERS.contains(&protocol) {
        return None;
    }
    let mut instance = Instance {
        address: dialled(address)?,
        weight: weight(&params, "weight"),
        version: version(&params).map(str::to_owned),
        group: filled(&params, "group").map(str::to_owned),
        protocol: Some(protocol.to_owned()),
        started: started(&params),
        metadata: Metadata::default(),
    };
    // Some registries are told the path even if it says nothing new.
    let told_twice = params.get("path") == params.get("interface");
    params.retain(|name, _| {
        let name = (*name).borrow();
        !(NOT_METADATA.contains(&name) || told_twice && name == "path")
    });
    instance.metadata = Metadata::like(params, like.map(|like| &like.metadata));
    Some(instance)
}

/// The provider that a node's name is of; `None`: it is not to be called.
pub fn provider(node: &str) -> Result<Option<Instance>, BadEntry> {
    provider_like(None, node)
}

/// As [`provider`], beside one that perhaps says the same of itself: then that is not stored twice.
pub fn provider_like(like: Option<&Instance>, node: &str) -> Result<Option<Instance>, BadEntry> {
    let text = decoded(node)?;
    let mut url = read(&text)?;
    if NOT_PROVIDERS.contains(&url.protocol) {
        return Ok(None);
    }
    let address = dialled(url.address).ok_or(BadEntry("the address of the provider cannot be dialled"))?;
    if !url.path.is_empty() {
        url.params.entry("path").or_insert(url.path);
    }
    Ok(instance_like(like, url.protocol, &address, url.params))
}

fn decoded(node: &str) -> Result<String, BadEntry> {
    percent::decode(node).ok_or(BadEntry("the name of the node is not escaped well"))
}

fn read(text: &str) -> Result<Url<&str>, BadEntry> {
    Url::parse(text).ok_or(BadEntry("the name of the node is no URL"))
}

/// How the release of every dubbo-go begins.
const DUBBO_GO: &str = "dubbo-golang-";
/// As milliseconds this is in 1973, as seconds it is in the year 5138.
const SECONDS_MAX: u64 = 100_000_000_000;

/// Whether dubbo-go says this of a provider, and not Java.
pub(super) fn is_go<T: Text>(params: &BTreeMap<T, T>) -> bool {
    filled(params, "release").is_some_and(|release| release.starts_with(DUBBO_GO))
}

/// Milliseconds since 1970. Java tells those, dubbo-go tells seconds.
fn started<T: Text>(params: &BTreeMap<T, T>) -> Option<u64> {
    let told = moment(params, "timestamp")?;
    Some(if is_go(params) && told < SECONDS_MAX { told.saturating_mul(1000) } else { told })
}

/// Consumers say 0.0.0 where they want a provider without a version.
fn version<T: Text>(params: &BTreeMap<T, T>) -> Option<&str> {
    filled(params, "version").filter(|version| *version != "0.0.0")
}

/// The parameters that Dubbo would write for it; what its application said goes before.
pub fn params(r: &Registration) -> Params {
    let mut params = described(r);
    params.insert("timestamp".into(), r.started.to_string());
    params.extend(r.metadata.clone());
    // The path stands where the registry has a place for it.
    params.remove("path");
    params
}

/// As [`params`], without what changes at every start and without the application's own words.
fn described(r: &Registration) -> Params {
    let mut params: Params = [
        ("application", r.app.as_str()),
        ("deprecated", "false"),
        ("dubbo", WIRE_VERSION),
        ("dynamic", "true"),
        ("generic", "false"),
        ("interface", r.service.as_str()),
        // What Dubbo writes when it knows of no methods.
        ("methods", "*"),
        ("prefer.serialization", "hessian2,fastjson2"),
        ("release", RELEASE),
        ("side", "provider"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if let Some(group) = &r.group {
        params.insert("group".into(), group.clone());
    }
    if let Some(version) = &r.version {
        params.insert("version".into(), version.clone());
        params.insert("revision".into(), version.clone());
    }
    if r.weight != WEIGHT_DEFAULT {
        params.insert("weight".into(), r.weight.min(WEIGHT_MAX).to_string());
    }
    if r.level != Level::Interface {
        params.insert("service-name-mapping".into(), "true".into());
    }
    params
}

/// The URL that Dubbo would write for it; its node is named by the whole, escaped.
pub fn url(r: &Registration) -> Url {
    let path = r.metadata.get("path").unwrap_or(&r.service).clone();
    Url { protocol: r.protocol.clone(), address: r.address.clone(), path, params: params(r) }
}

/// What an operator wants otherwise than the providers say: a weight, or that one is not called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The provider's host; `None`: each.
    host: Option<String>,
    /// The provider's port; `None`: each.
    port: Option<u16>,
    group: Option<String>,
    version: Option<String>,
    priority: i64,
    weight: Option<u32>,
    disabled: Option<bool>,
}

/// The override that a node's name is of; `None`: it is off, is of another kind or says nothing that counts here.
///
/// One that names an application means consumers of that name, and one that names a host without a port means the consumer at
/// that host. Nobody here knows what the callers behind the sidecar call themselves, so neither is followed.
pub fn override_of(node: &str) -> Result<Option<Override>, BadEntry> {
    let text = decoded(node)?;
    let Url { protocol, address, params, .. } = read(&text)?;
    let off = filled(&params, "enabled").is_some_and(|enabled| !is_true(enabled))
        || filled(&params, "category").is_some_and(|category| category != "configurators")
        || filled(&params, "application").is_some_and(|app| app != "*");
    if protocol != "override" || off {
        return Ok(None);
    }
    let (host, port) = split(address).map_or((address, None), |(host, port)| (host, Some(port)));
    let host = (!is_any(host)).then(|| host.to_owned());
    let port = port.filter(|port| *port > 0);
    let weight = params.contains_key("weight").then(|| weight(&params, "weight"));
    let disabled = filled(&params, "disabled").map(is_true);
    if host.is_some() && port.is_none() || weight.is_none() && disabled.is_none() {
        return Ok(None);
    }
    Ok(Some(Override {
        host,
        port,
        group: filled(&params, "group").map(str::to_owned),
        version: version(&params).map(str::to_owned),
        priority: filled(&params, "priority").and_then(|text| text.parse().ok()).unwrap_or(0),
        weight,
        disabled,
    }))
}

impl Override {
    fn is_about(&self, instance: &Instance) -> bool {
        let Some((host, port)) = split(&instance.address) else { return false };
        let fits =
            |want: &Option<String>, have: &Option<String>| want.as_deref() == Some("*") || want == have;
        self.host.as_deref().is_none_or(|wanted| wanted == host)
            && self.port.is_none_or(|wanted| wanted == port)
            && fits(&self.group, &instance.group)
            && fits(&self.version, &instance.version)
    }
}

/// Does to the instances what the overrides say. What is said of one host goes before what is said of all, then the higher
/// priority.
pub fn apply(overrides: &[Override], instances: &mut Vec<Instance>) {
    let mut ordered: Vec<&Override> = overrides.iter().collect();
    ordered.sort_by_key(|one| (one.host.is_some(), one.priority));
    instances.retain_mut(|instance| {
        let mut disabled = false;
        for one in ordered.iter().filter(|one| one.is_about(instance)).copied().collect::<Vec<_>>() {
            instance.weight = one.weight.unwrap_or(instance.weight);
            disabled = one.disabled.unwrap_or(disabled);
        }
        !disabled
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str) -> String {
        percent::encode(url)
    }

    fn given(url: &str) -> Option<Instance> {
        provider(&named(url)).unwrap()
    }

    #[test]
    fn what_is_not_to_be_called_is_no_instance() {
        for none in [
            "consumer://10.0.0.1/a.B?category=consumers&side=consumer",
            "override://0.0.0.0/a.B?category=configurators&weight=1",
            "route://0.0.0.0/a.B?category=routers",
            "dubbo://10.0.0.1:1/a.B?category=configurators",
            "dubbo://10.0.0.1:1/a.B?side=consumer",
            "dubbo://10.0.0.1:1/a.B?enabled=false",
            "dubbo://10.0.0.1:1/a.B?disabled=true",
        ] {
            assert_eq!(given(none), None, "{none}");
        }
        let idle = given("dubbo://10.0.0.1:1/a.B?enabled=true&disabled=false&weight=0").unwrap();
        assert_eq!(idle.weight, 0, "a weight of nothing is a weight");
    }

    #[test]
    fn what_cannot_be_read_is_bad() {
        for bad in ["dubbo%3A%2F%2", "nonsense", "", "dubbo%3A%2F%2Fhost", "dubbo%3A%2F%2Fh%3A0%2Fa.B"] {
            assert!(provider(bad).is_err(), "{bad}");
        }
        assert_eq!(instance("dubbo", "a b:1", Params::new()), None);
    }

    #[test]
    fn only_what_lasts_is_metadata() {
        let url = "dubbo://h:1/x/a.B?interface=a.B&timestamp=5&pid=7&zone=z&version=0.0.0&group=&weight=7";
        let one = given(url).unwrap();
        assert_eq!((one.started, one.version, one.group, one.weight), (Some(5), None, None, 7));
        let names: Vec<_> = one.metadata.keys().map(String::as_str).collect();
        assert_eq!(names, ["interface", "path", "zone"]);
        assert_eq!(one.metadata["path"], "x/a.B");
        assert!(!given("dubbo://h:1/a.B?interface=a.B").unwrap().metadata.contains_key("path"));
    }

    #[test]
    fn a_start_is_told_in_milliseconds_and_by_dubbo_go_in_seconds() {
        let started = |query: &str| given(&format!("dubbo://h:1/a.B?{query}")).unwrap().started;
        for (query, expected) in [
            ("release=dubbo-golang-3.2.0&timestamp=1796069524", Some(1_796_069_524_000)),
            ("release=dubbo-golang-9.9.9&timestamp=1796069524123", Some(1_796_069_524_123)),
            ("release=3.3.6&timestamp=1796069524", Some(1_796_069_524)),
            ("release=dubbo-golang-3.2.0&timestamp=0", None),
            ("release=dubbo-golang-3.2.0&timestamp=soon", None),
        ] {
            assert_eq!(started(query), expected, "{query}");
        }
    }

    #[test]
    fn what_two_providers_say_alike_is_stored_once_and_anything_else_twice() {
        let said =
            |more: &str| named(&format!("dubbo://10.0.0.1:1/a.B?interface=a.B&methods=m&zone=a{more}"));
        let first = provider(&said("&pid=1")).unwrap().unwrap();
        for (more, shared) in
            [("&pid=2&weight=3", true), ("&zone=b", false), ("&x=y", false), ("&methods=", false)]
        {
            let alone = provider(&said(more)).unwrap().unwrap();
            let beside = provider_like(Some(&first), &said(more)).unwrap().unwrap();
            assert_eq!(alone, beside, "{more}");
            assert_eq!(beside.metadata.is_shared_with(&first.metadata), shared, "{more}");
        }
    }

    #[test]
    fn overrides_weigh_and_disable_the_providers_they_are_about() {
        let one = |address: &str| Instance { group: Some("g".into()), ..Instance::new(address) };
        let rule = |url: &str| override_of(&named(url)).unwrap();
        let all = rule("override://0.0.0.0/a.B?category=configurators&group=g&weight=30&priority=1").unwrap();
        let first = rule("override://0.0.0.0/a.B?group=*&weight=20").unwrap();
        let off = rule("override://10.0.0.2:1/a.B?group=g&disabled=true").unwrap();
        let other_port = rule("override://10.0.0.1:2/a.B?group=g&disabled=true").unwrap();
        let other_group = rule("override://0.0.0.0/a.B?disabled=true").unwrap();
        let mut instances = vec![one("10.0.0.1:1"), one("10.0.0.2:1")];
        apply(&[off, all, first, other_port, other_group], &mut instances);
        assert_eq!(instances, [Instance { weight: 30, ..one("10.0.0.1:1") }]);
    }

    #[test]
    fn an_override_of_one_host_goes_before_one_of_all() {
        let rule = |url: &str| override_of(&named(url)).unwrap().unwrap();
        let mut instances = vec![Instance::new("[fd00::1]:1"), Instance::new("h:1")];
        let all = rule("override://0.0.0.0/a.B?disabled=true&priority=9");
        apply(&[rule("override://[fd00::1]:1/a.B?disabled=false&weight=1"), all], &mut instances);
        assert_eq!(instances, [Instance { weight: 1, ..Instance::new("[fd00::1]:1") }]);
    }

    #[test]
    fn overrides_that_do_not_count_here_are_none() {
        for none in [
            "override://0.0.0.0/a.B?weight=5&enabled=false",
            "override://0.0.0.0/a.B?timeout=5",
            "override://0.0.0.0/a.B?weight=5&application=shop",
            "override://10.0.0.9/a.B?weight=5",
            "absent://0.0.0.0/a.B?weight=5",
            "override://0.0.0.0/a.B?weight=5&category=routers",
        ] {
            assert_eq!(override_of(&named(none)), Ok(None), "{none}");
        }
        assert!(override_of("%").is_err() && override_of("x").is_err());
    }
}
