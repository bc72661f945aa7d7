//! Where frameworks put their services in Nacos, and how an instance there is read: names and namespaces in, and back.
//!
//! Pure: asks nobody. A name that cannot be taken apart is nobody's service, and an instance that is not to be called is none.
//! Source: `NacosRegistry`, `NacosServiceName` of Dubbo 3.3; `NacosRegistryHelper` of SOFARPC 5.13; Spring Cloud Alibaba
//! 2023; and what each of them wrote into a server.

use outrigger_discovery::{
    Framework, Instance, Registration, ServiceKey, WEIGHT_DEFAULT, WEIGHT_MAX,
    formats::{Params, dubbo, sofarpc, split},
    is_public,
};

use crate::{
    Settings,
    message::{CLUSTER, Config, Host, Place},
};

/// What the name of a provider of Dubbo begins with; those of other roles begin otherwise.
const PROVIDERS: &str = "providers:";
/// How Dubbo writes the `$` of an inner class, which Nacos refuses.
const DOLLAR: &str = "___";
/// Where SOFARPC puts its services if no namespace is named.
const SOFARPC_NAMESPACE: &str = "sofa-rpc";
/// What the name of a service of SOFARPC ends with, if it speaks Bolt or Triple; else it ends with the protocol.
const SOFARPC_END: &str = "DEFAULT";
/// The version that every service of SOFARPC has.
const SOFARPC_VERSION: &str = "1.0";
/// The public namespace, which questions about services name.
const PUBLIC: &str = "public";
/// Under this an instance's cluster is told.
const CLUSTER_KEY: &str = "nacos.cluster";
/// Under these an application of Spring says that it speaks TLS, and who registered it.
const SECURE: &str = "secure";
const SOURCE: (&str, &str) = ("preserved.register.source", "SPRING_CLOUD");

impl Settings {
    /// The namespace in which a framework's services stand.
    pub(crate) fn namespace_of(&self, framework: Framework) -> &str {
        match (&self.namespace, framework) {
            (Some(namespace), _) if !namespace.is_empty() => namespace,
            (_, Framework::Sofarpc) => SOFARPC_NAMESPACE,
            _ => PUBLIC,
        }
    }

    /// The namespace of configs, where the public one has no name.
    pub(crate) fn tenant(&self) -> &str {
        self.namespace.as_deref().filter(|namespace| *namespace != PUBLIC).unwrap_or_default()
    }

    /// The place of a service with this name in Nacos.
    pub(crate) fn place(&self, framework: Framework, name: &str) -> Place {
        Place {
            namespace: self.namespace_of(framework).to_owned(),
            group_name: self.group.clone(),
            service_name: name.to_owned(),
        }
    }

    /// The place of a config.
    pub(crate) fn config(&self, group: &str, data_id: &str) -> Config {
        Config { tenant: self.tenant().to_owned(), group: group.to_owned(), data_id: escape(data_id) }
    }
}

/// The one name under which a service certainly stands, if it stands anywhere.
pub(crate) fn own(key: &ServiceKey) -> String {
    let service = &key.service;
    let of = |part: &Option<String>| part.clone().unwrap_or_default();
    match key.framework {
        Framework::Dubbo => format!("{PROVIDERS}{}:{}:{}", escape(service), of(&key.version), of(&key.group)),
        Framework::Sofarpc => sofarpc_name(service, key.version.as_deref(), key.protocol.as_deref()),
        Framework::Spring | Framework::Plain => service.clone(),
    }
}

/// Whether there may be other names with instances of it, which only a list of all names tells.
pub(crate) const fn is_wide(key: &ServiceKey) -> bool {
    match key.framework {
        Framework::Dubbo => key.version.is_none() || key.group.is_none(),
        Framework::Sofarpc => key.version.is_none() || key.protocol.is_none(),
        Framework::Spring | Framework::Plain => false,
    }
}

/// Whether instances of it may stand under this name.
pub(crate) fn fits(key: &ServiceKey, name: &str) -> bool {
    match key.framework {
        Framework::Dubbo => {
            let Some(parts) = dubbo_parts(name) else { return false };
            let wanted = |want: &Option<String>, have: Option<&&str>| {
                want.as_deref().is_none_or(|want| have.is_some_and(|have| *have == want))
            };
            match parts.as_slice() {
                [interface] => {
                    *interface == escape(&key.service) && key.version.is_none() && key.group.is_none()
                }
                // Old providers leave out what they have not: what is left is a version or a group.
                [interface, either] => {
                    *interface == escape(&key.service)
                        && (wanted(&key.version, Some(either)) || wanted(&key.group, Some(either)))
                }
                [interface, version, group] => {
                    *interface == escape(&key.service)
                        && wanted(&key.version, Some(version))
                        && wanted(&key.group, Some(group))
                }
                _ => false,
            }
        }
        Framework::Sofarpc => {
            let Some((service, unique, end)) = sofarpc_parts(name) else { return false };
            service == key.service
                && key.version.as_deref().is_none_or(|version| unique_id(version) == unique)
                && key.protocol.as_deref().is_none_or(|protocol| sofarpc_end(Some(protocol)) == end)
        }
        Framework::Spring | Framework::Plain => name == key.service,
    }
}

/// The service that a name is of, as its framework calls it; `None`: it is of another framework.
pub(crate) fn service(framework: Framework, name: &str) -> Option<String> {
    match framework {
        Framework::Dubbo => Some(dubbo_parts(name)?.first()?.replace(DOLLAR, "$")),
        Framework::Sofarpc => Some(sofarpc_parts(name)?.0.to_owned()),
        // Dubbo 3 lists its applications in the same way, and so does who has no framework.
        Framework::Spring | Framework::Plain => (!name.contains(':')).then(|| name.to_owned()),
    }
}

/// The name under which a registration stands.
pub(crate) fn written(r: &Registration) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    match r.framework {
        Framework::Dubbo => {
            format!("{PROVIDERS}{}:{}:{}", escape(&r.service), part(&r.version), part(&r.group))
        }
        Framework::Sofarpc => sofarpc_name(&r.service, r.version.as_deref(), Some(&r.protocol)),
        Framework::Spring | Framework::Plain => r.service.clone(),
    }
}

/// The longest name that the server keeps, in bytes (`CommonParams` and the columns of its tables).
const NAME_BYTES_MAX: usize = 255;

/// Why Nacos could not hold a registration; `None`: it could.
pub(crate) fn refusal(r: &Registration) -> Option<&'static str> {
    let name = written(r);
    let plain = matches!(r.framework, Framework::Spring | Framework::Plain);
    if !is_public(&r.address) {
        Some("no other host can dial its address")
    } else if host(r).is_none() {
        Some("its address has no port")
    } else if name.len() > NAME_BYTES_MAX {
        Some("its name is longer than Nacos keeps")
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) || name.contains("@@") {
        Some("its name cannot be one of Nacos: it has spaces, or `@@`")
    } else if plain && name.contains(':') {
        Some("its name has a colon, which parts names of other frameworks in Nacos")
    } else {
        None
    }
}

/// What a registration's instance looks like; `None`: its address is none that Nacos can hold.
pub(crate) fn host(r: &Registration) -> Option<Host> {
    let (ip, port) = split(&r.address)?;
    let (weight, cluster, metadata) = match r.framework {
        Framework::Dubbo => {
            let mut params = dubbo::params(r);
            let path = r.metadata.get("path").unwrap_or(&r.service).clone();
            for (name, value) in
                [("protocol", r.protocol.clone()), ("path", path), ("category", "providers".into())]
            {
                params.insert(name.to_owned(), value);
            }
            (1.0, CLUSTER, params)
        }
        Framework::Sofarpc => (1.0, "default-cluster", sofarpc::params(r)),
        Framework::Spring | Framework::Plain => {
            let mut params = r.metadata.clone();
            if r.framework == Framework::Spring {
                params.insert(SOURCE.0.to_owned(), SOURCE.1.to_owned());
            }
            let said = [("version", &r.version), ("group", &r.group)];
            let said = said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
            params.extend(said);
            if r.protocol == "https" {
                params.insert(SECURE.to_owned(), "true".to_owned());
            }
            (f64::from(r.weight.min(WEIGHT_MAX)) / f64::from(WEIGHT_DEFAULT), CLUSTER, params)
        }
    };
    Some(member(ip, port, weight, cluster, metadata))
}

/// An instance of ours: it lives as long as our connection.
pub(crate) fn member(ip: &str, port: u16, weight: f64, cluster: &str, metadata: Params) -> Host {
    let cluster_name = cluster.to_owned();
    Host {
        ip: ip.to_owned(),
        port,
        weight,
        healthy: true,
        enabled: true,
        ephemeral: true,
        cluster_name,
        metadata,
    }
}

/// The instance that a host is for its framework; `None`: it is not to be called.
pub(crate) fn instance(framework: Framework, host: &Host) -> Option<Instance> {
    if !is_on(host) {
        return None;
    }
    let address = host.address();
    let protocol = host.metadata.get("protocol").map_or("", String::as_str);
    let instance = match framework {
        // The weight of Dubbo is a parameter; dubbo-go puts it into Nacos' own field as well, where it would count twice.
        Framework::Dubbo => dubbo::instance(protocol, &address, host.metadata.clone())?,
        Framework::Sofarpc => {
            let instance = sofarpc::instance(protocol, &address, host.metadata.clone())?;
            Instance { weight: times(host.weight, instance.weight), ..instance }
        }
        Framework::Spring | Framework::Plain => spring(host, &address)?,
    };
    Some(clustered(instance, &host.cluster_name))
}

/// Whether a host is to be called at all: an operator may have switched it off.
pub(crate) fn is_on(host: &Host) -> bool {
    // A weight that is no number is no weight either.
    host.enabled && host.weight > 0.0
}

/// The instance with the cluster that it is in.
pub(crate) fn clustered(mut instance: Instance, cluster: &str) -> Instance {
    if !cluster.is_empty() {
        instance.metadata.insert(CLUSTER_KEY.to_owned(), cluster.to_owned());
    }
    instance
}

/// Spring takes only those that are well: it is Nacos that looks after those that are not bound to a connection.
fn spring(host: &Host, address: &str) -> Option<Instance> {
    if !host.healthy {
        return None;
    }
    let said = |name: &str| host.metadata.get(name).filter(|value| !value.is_empty()).cloned();
    let secure = said(SECURE).is_some_and(|secure| secure.eq_ignore_ascii_case("true"));
    let mut metadata = host.metadata.clone();
    metadata.retain(|name, _| !matches!(name.as_str(), "version" | "group"));
    Some(Instance {
        address: address.to_owned(),
        weight: times(host.weight, WEIGHT_DEFAULT),
        version: said("version"),
        group: said("group"),
        protocol: Some(if secure { "https" } else { "http" }.to_owned()),
        started: None,
        metadata: metadata.into(),
    })
}

/// A weight so many times as large, but never nothing where it was something.
fn times(factor: f64, weight: u32) -> u32 {
    let product = (factor * f64::from(weight)).round().clamp(0.0, f64::from(WEIGHT_MAX)) as u32;
    if weight == 0 { 0 } else { product.max(1) }
}

/// An interface's name as Nacos can hold it.
fn escape(service: &str) -> String {
    service.replace('$', DOLLAR)
}

/// Interface, version and group as far as they are there; `None`: not the name of a provider of Dubbo.
fn dubbo_parts(name: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = name.strip_prefix(PROVIDERS)?.split(':').collect();
    (parts.len() <= 3 && parts.first().is_some_and(|interface| !interface.is_empty())).then_some(parts)
}

/// Interface, unique id and end; `None`: not the name of a service of SOFARPC.
fn sofarpc_parts(name: &str) -> Option<(&str, &str, &str)> {
    if name.starts_with(PROVIDERS) {
        return None;
    }
    let (rest, end) = name.rsplit_once(':')?;
    let (service, unique) = rest.split_once(':').unwrap_or((rest, ""));
    (!service.is_empty() && !unique.contains(':')).then_some((service, unique, end))
}

fn sofarpc_name(service: &str, version: Option<&str>, protocol: Option<&str>) -> String {
    let end = sofarpc_end(protocol);
    match unique_id(version.unwrap_or(SOFARPC_VERSION)) {
        "" => format!("{service}:{end}"),
        unique => format!("{service}:{unique}:{end}"),
    }
}

/// The unique id in a version of ours, `1.0:uniqueId`; empty if there is none.
fn unique_id(version: &str) -> &str {
    version.split_once(':').map_or("", |(_, unique)| unique)
}

fn sofarpc_end(protocol: Option<&str>) -> &str {
    match protocol {
        None | Some("bolt" | "tr" | "") => SOFARPC_END,
        Some(other) => other,
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a failing test is the point")]
mod tests {
    use super::*;

    fn key(framework: Framework, service: &str, version: Option<&str>, group: Option<&str>) -> ServiceKey {
        let (version, group) = (version.map(str::to_owned), group.map(str::to_owned));
        ServiceKey { framework, version, group, ..ServiceKey::new(service) }
    }

    fn bare(metadata: &[(&str, &str)]) -> Host {
        let metadata =
            metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        member("10.0.0.1", 20880, 1.0, CLUSTER, metadata)
    }

    #[test]
    fn names_are_those_that_the_frameworks_write() {
        use Framework::{Dubbo, Sofarpc, Spring};
        for (key, name) in [
            (key(Dubbo, "Prov$Hello", Some("1.0.0"), Some("g1")), "providers:Prov___Hello:1.0.0:g1"),
            (key(Dubbo, "x.Y", None, None), "providers:x.Y::"),
            (key(Sofarpc, "SProv$Hello", Some("1.0:u1"), None), "SProv$Hello:u1:DEFAULT"),
            (key(Sofarpc, "x.Y", Some("1.0"), None), "x.Y:DEFAULT"),
            (key(Spring, "shop", None, None), "shop"),
        ] {
            assert_eq!(own(&key), name);
            assert!(fits(&key, name), "{name}");
            assert_eq!(service(key.framework, name).as_deref(), Some(key.service.as_str()));
        }
    }

    #[test]
    fn a_key_that_leaves_something_open_takes_every_name_that_may_be_meant() {
        use Framework::{Dubbo, Sofarpc};
        let names = [
            "providers:x.Y::",
            "providers:x.Y:1.0.0:",
            "providers:x.Y:1.0.0:g",
            "providers:x.Y::g",
            "providers:x.Y",
            "providers:x.Y:1.0.0",
            "providers:x.Yy::",
            "consumers:x.Y::",
            "x.Y:DEFAULT",
            "x.Y:u:DEFAULT",
            "x.Y",
            "providers:",
            "providers:x.Y:1:2:3",
        ];
        let of = |key: &ServiceKey| names.into_iter().filter(|name| fits(key, name)).collect::<Vec<_>>();
        let any = key(Dubbo, "x.Y", None, None);
        assert_eq!(of(&any), &names[..6]);
        let first = key(Dubbo, "x.Y", Some("1.0.0"), None);
        assert_eq!(of(&first), ["providers:x.Y:1.0.0:", "providers:x.Y:1.0.0:g", "providers:x.Y:1.0.0"]);
        assert!(is_wide(&any) && is_wide(&first));
        assert_eq!(of(&key(Sofarpc, "x.Y", None, None)), ["x.Y:DEFAULT", "x.Y:u:DEFAULT"]);
        assert_eq!(of(&key(Sofarpc, "x.Y", Some("1.0:u"), None)), ["x.Y:u:DEFAULT"]);
    }

    #[test]
    fn weights_count_as_the_frameworks_count_them() {
        let weight = |framework, host: &Host| instance(framework, host).map(|instance| instance.weight);
        let dubbo = Host {
            weight: 50.0,
            ..bare(&[("protocol", "dubbo"), ("weight", "50"), ("category", "providers")])
        };
        assert_eq!(weight(Framework::Dubbo, &dubbo), Some(50));
        let sofa = Host { weight: 0.5, ..bare(&[("protocol", "bolt"), ("weight", "200")]) };
        assert_eq!(weight(Framework::Sofarpc, &sofa), Some(100));
        let spring = Host { weight: 0.5, ..bare(&[]) };
        assert_eq!(weight(Framework::Spring, &spring), Some(50));
        assert_eq!(weight(Framework::Spring, &Host { weight: 1e300, ..spring.clone() }), Some(WEIGHT_MAX));
        assert_eq!(weight(Framework::Spring, &Host { weight: 0.001, ..spring.clone() }), Some(1));
        for none in [
            Host { weight: 0.0, ..spring.clone() },
            Host { weight: f64::NAN, ..spring.clone() },
            Host { enabled: false, ..spring.clone() },
            Host { healthy: false, ..spring },
        ] {
            assert_eq!(instance(Framework::Spring, &none), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (framework, protocol, version) in [
            (Framework::Dubbo, "tri", Some("1.0.0")),
            (Framework::Sofarpc, "bolt", Some("1.0:u1")),
            (Framework::Spring, "https", None),
        ] {
            let r = Registration {
                app: "shop".into(),
                framework,
                level: outrigger_discovery::Level::Interface,
                service: "a.B$C".into(),
                protocol: protocol.into(),
                address: "[fd00::1]:20880".into(),
                group: None,
                version: version.map(str::to_owned),
                weight: 50,
                started: 7,
                metadata: Params::from([("zone".into(), "a".into())]),
            };
            let host = host(&r).expect("an address");
            let read = instance(framework, &host).expect("an instance");
            assert_eq!(
                (&read.address, read.weight, &read.version),
                (&r.address, 50, &r.version),
                "{framework}"
            );
            assert_eq!(read.protocol.as_deref(), Some(protocol), "{framework}");
            let said = |name: &str| read.metadata.get(name).map(String::as_str);
            assert_eq!(said("zone"), Some("a"), "{framework}");
            assert!(said("nacos.cluster").is_some(), "{framework}");
            let name = written(&r);
            assert!(fits(&key(framework, "a.B$C", version, None), &name), "{name}");
        }
    }

    #[test]
    fn an_empty_namespace_is_the_public_one() {
        let settings = |namespace: Option<&str>| Settings {
            namespace: namespace.map(str::to_owned),
            ..Settings::new(vec!["127.0.0.1:8848".into()])
        };
        let spaces = |settings: &Settings| {
            let of = |framework| settings.namespace_of(framework).to_owned();
            (of(Framework::Dubbo), of(Framework::Sofarpc), settings.tenant().to_owned())
        };
        let all = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(spaces(&settings(None)), all("public", "sofa-rpc", ""));
        assert_eq!(spaces(&settings(Some("public"))), all("public", "public", ""));
        assert_eq!(spaces(&settings(Some("prod"))), all("prod", "prod", "prod"));
    }
}
