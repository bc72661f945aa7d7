//! What the conf means for registries: how each is reached, what is looked for there, and what is made known.
//!
//! A kind of registry that this build has not is refused by name; an address that nobody could dial is never made known.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use outrigger_discovery::{self as discovery, ServiceKey, WEIGHT_MAX, check_address, is_public};

use super::{
    super::{
        file, health,
        registries::{self as written, Secret},
        report::{listing, quote},
        units,
        yaml::At,
    },
    HealthPlan, Lowering, Source,
    endpoints::is_host_port,
};
use crate::plugins::{PROTOCOLS, REGISTRIES, heartbeat};

#[cfg(test)]
mod tests;

/// A registry to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryPlan {
    /// How it is reached.
    pub kind: RegistryKind,
    /// How long a service that is suddenly without any instance keeps those it had; zero: it is believed at once.
    pub hold: Duration,
}

/// How a registry is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryKind {
    /// A watched file.
    File(PathBuf),
    /// `ZooKeeper`.
    ZooKeeper(ZooKeeperPlan),
    /// Nacos.
    Nacos(NacosPlan),
    /// Kubernetes.
    Kubernetes(KubernetesPlan),
    /// etcd.
    Etcd(EtcdPlan),
}

/// How `ZooKeeper` is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperPlan {
    /// `host:port` of each server, at least one.
    pub servers: Vec<String>,
    /// A path that everything is under.
    pub chroot: Option<String>,
    /// The root of Dubbo's services.
    pub group: String,
    /// User and password.
    pub auth: Option<(String, Secret)>,
    /// How long servers remember a lost connection.
    pub session_timeout: Duration,
}

/// How Nacos is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NacosPlan {
    /// `host:port` of each server, at least one.
    pub servers: Vec<String>,
    /// The namespace's id; `None`: the framework's own.
    pub namespace: Option<String>,
    /// The group of services.
    pub group: String,
    /// User and password.
    pub auth: Option<(String, Secret)>,
}

/// How Kubernetes is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesPlan {
    /// The namespace; `None`: that of the context or the pod.
    pub namespace: Option<String>,
    /// The kubeconfig; `None`: as the cluster's own tools look for it, and else the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Its context; `None`: the current one.
    pub context: Option<String>,
    /// The pod that this process is in; `None`: in none.
    pub pod: Option<PodPlan>,
}

/// A pod, as the environment tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Its name: `POD_NAME`, or else `HOSTNAME`.
    pub name: String,
    /// Its unique id: `POD_UID`.
    pub uid: Option<String>,
    /// Its addresses: `POD_IPS`, or else `POD_IP`.
    pub ips: Vec<String>,
}

impl PodPlan {
    /// What the environment tells.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let ips = variable("POD_IPS").or_else(|| variable("POD_IP")).unwrap_or_default();
        Some(Self {
            name: variable("POD_NAME").or_else(|| variable("HOSTNAME"))?,
            uid: variable("POD_UID"),
            ips: ips.split(',').map(str::trim).filter(|ip| !ip.is_empty()).map(str::to_owned).collect(),
        })
    }
}

/// How etcd is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdPlan {
    /// `host:port` of each server, at least one.
    pub servers: Vec<String>,
    /// The root of Dubbo's services.
    pub group: String,
    /// User and password.
    pub auth: Option<(String, Secret)>,
    /// TLS; `None`: a plain connection.
    pub tls: Option<TlsPlan>,
    /// How long servers keep what was registered by a process that is not heard from.
    pub lease: Duration,
}

/// How servers are known, and how they know us; PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPlan {
    /// The certificates of who signs those of the servers.
    pub ca: PathBuf,
    /// Our own certificate, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that stands in the servers' certificates; `None`: the host of each address.
    pub name: Option<String>,
}

impl RegistryPlan {
    /// A name for the place that it is, the same in whichever conf and however its servers are ordered there; of letters that
    /// mean nothing in a URL, because consumers of SOFARPC take the first slash behind `://` for the end of the address.
    pub fn place(&self) -> String {
        let mut servers = self.servers().to_vec();
        servers.sort();
        let (kind, mut within, group) = match &self.kind {
            RegistryKind::File(path) => ("file", path.display().to_string(), None),
            RegistryKind::ZooKeeper(plan) => {
                ("zookeeper", plan.chroot.clone().unwrap_or_default(), Some(plan.group.as_str()))
            }
            RegistryKind::Nacos(plan) => {
                ("nacos", plan.namespace.clone().unwrap_or_default(), Some(plan.group.as_str()))
            }
            RegistryKind::Kubernetes(plan) => {
                let parts = [plan.context.as_deref(), plan.namespace.as_deref()];
                ("kubernetes", parts.map(Option::unwrap_or_default).join("/"), None)
            }
            RegistryKind::Etcd(plan) => ("etcd", String::new(), Some(plan.group.as_str())),
        };
        if let Some(group) = group.filter(|group| !matches!(*group, "dubbo" | "DEFAULT_GROUP")) {
            within = format!("{within}:{group}");
        }
        let place = format!("{kind}:{}:{within}", servers.join(","));
        let plain = |c: char| if c.is_alphanumeric() || "-_.:,[]".contains(c) { c } else { '.' };
        place.trim_end_matches(':').chars().map(plain).collect()
    }

    /// The servers that it is asked at; none for a file, nor where others than we know them.
    pub fn servers(&self) -> &[String] {
        match &self.kind {
            RegistryKind::File(_) | RegistryKind::Kubernetes(_) => &[],
            RegistryKind::ZooKeeper(plan) => &plan.servers,
            RegistryKind::Nacos(plan) => &plan.servers,
            RegistryKind::Etcd(plan) => &plan.servers,
        }
    }
}

/// A service of the application that others shall find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterPlan {
    /// Its name in the conf.
    pub name: String,
    /// The registries that it is made known in, at least one.
    pub registries: Vec<String>,
    /// What is made known. Its address is a port alone (`:20880`) where the host is found out by the registry's address.
    pub what: discovery::Registration,
    /// Where the application itself is asked whether it is there.
    pub local: String,
    /// What it is asked, and how often.
    pub health: HealthPlan,
    /// Whether any answer will do.
    pub lenient: bool,
}

/// How often the application is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Good answers in a row before it is made known.
const GOOD: u32 = 2;
/// Bad answers in a row before that is taken back.
const BAD: u32 = 3;

impl Lowering<'_> {
    /// The registries by name.
    pub(super) fn registries(
        &mut self,
        at: At<'_>,
        folder: &std::path::Path,
    ) -> BTreeMap<String, RegistryPlan> {
        let mut plans = BTreeMap::new();
        for (name, registry) in &self.conf.registries {
            let at = at.key(name);
            let kind = match registry {
                written::Registry::File(file) => RegistryKind::File(folder.join(&file.path)),
                written::Registry::Zookeeper(zookeeper) => self.zookeeper(at.key("zookeeper"), zookeeper),
                written::Registry::Nacos(nacos) => self.nacos(at.key("nacos"), nacos),
                written::Registry::Kubernetes(kubernetes) => {
                    self.kubernetes(at.key("kubernetes"), kubernetes, folder)
                }
                written::Registry::Etcd(etcd) => self.etcd(at.key("etcd"), etcd, folder),
            };
            plans.insert(name.clone(), RegistryPlan { kind, hold: registry.hold_empty() });
        }
        plans
    }

    fn has(&mut self, at: At<'_>, kind: &str) {
        if !REGISTRIES.contains(&kind) {
            let message = format!("this build knows no {kind}, only {}", listing(REGISTRIES));
            self.problems.push(super::Problem::new(at.key_span(), message));
        }
    }

    fn zookeeper(&mut self, at: At<'_>, written: &written::ZooKeeper) -> RegistryKind {
        self.has(at, "zookeeper");
        for (key, path) in [("chroot", written.chroot.as_deref()), ("group", Some(&*written.group))] {
            let Some(path) = path else { continue };
            let inner = path.strip_prefix('/').unwrap_or(path);
            let bad = |part: &str| {
                part.is_empty() || part == "." || part == ".." || part.contains(char::is_control)
            };
            if inner.split('/').any(bad) {
                self.problems.push(at.key(key).problem(format!("expected a path, found {}", quote(path))));
            }
        }
        let session_timeout = written.session_timeout.get();
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&session_timeout) {
            self.problems.push(at.key("session_timeout").problem("expected 1s to 10m"));
        }
        RegistryKind::ZooKeeper(ZooKeeperPlan {
            servers: self.servers(at.key("address"), &written.address.0),
            chroot: written.chroot.as_deref().map(|path| path.trim_start_matches('/').to_owned()),
            group: written.group.trim_start_matches('/').to_owned(),
            auth: self.auth(at, written.user.as_ref(), written.password.as_ref()),
            session_timeout,
        })
    }

    fn nacos(&mut self, at: At<'_>, written: &written::Nacos) -> RegistryKind {
        self.has(at, "nacos");
        if written.group.is_empty() || written.group.contains('@') {
            self.problems.push(at.key("group").problem("expected a group's name"));
        }
        RegistryKind::Nacos(NacosPlan {
            servers: self.servers(at.key("address"), &written.address.0),
            namespace: written.namespace.clone(),
            group: written.group.clone(),
            auth: self.auth(at, written.user.as_ref(), written.password.as_ref()),
        })
    }

    fn kubernetes(
        &mut self,
        at: At<'_>,
        written: &written::Kubernetes,
        folder: &std::path::Path,
    ) -> RegistryKind {
        self.has(at, "kubernetes");
        if let Some(namespace) = &written.namespace {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let ends = !namespace.starts_with('-') && !namespace.ends_with('-');
            if namespace.is_empty() || namespace.len() > 63 || !ends || !namespace.bytes().all(inner) {
                let message = format!("expected a namespace, found {}", quote(namespace));
                let help = "small letters, digits and `-`, at most 63";
                self.problems.push(at.key("namespace").problem(message).with_help(help));
            }
        }
        let of = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
        RegistryKind::Kubernetes(KubernetesPlan {
            namespace: written.namespace.clone(),
            kubeconfig: written.kubeconfig.as_ref().map(|path| folder.join(path)),
            context: written.context.clone(),
            pod: PodPlan::of(of),
        })
    }

    fn etcd(&mut self, at: At<'_>, written: &written::Etcd, folder: &std::path::Path) -> RegistryKind {
        self.has(at, "etcd");
        let group = written.group.trim_start_matches('/');
        let bad =
            |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(char::is_control);
        if group.split('/').any(bad) {
            let message = format!("expected a path, found {}", quote(&written.group));
            self.problems.push(at.key("group").problem(message));
        }
        let lease = written.lease.get();
        if !(Duration::from_secs(5)..=Duration::from_secs(600)).contains(&lease) {
            self.problems.push(at.key("lease").problem("expected 5s to 10m"));
        }
        RegistryKind::Etcd(EtcdPlan {
            servers: self.servers(at.key("address"), &written.address.0),
            group: group.to_owned(),
            auth: self.auth(at, written.user.as_ref(), written.password.as_ref()),
            tls: written.tls.as_ref().map(|tls| self.tls(at.key("tls"), tls, folder)),
            lease,
        })
    }

    fn tls(&mut self, at: At<'_>, written: &written::RegistryTls, folder: &std::path::Path) -> TlsPlan {
        let identity = match (&written.cert, &written.key) {
            (Some(cert), Some(key)) => Some((folder.join(cert), folder.join(key))),
            (None, None) => None,
            (Some(_), None) => {
                self.problems.push(at.key("cert").problem("a certificate needs its `key`"));
                None
            }
            (None, Some(_)) => {
                self.problems.push(at.key("key").problem("whose key it is, `cert` says"));
                None
            }
        };
        TlsPlan { ca: folder.join(&written.ca), identity, name: written.name.clone() }
    }

    fn servers(&mut self, at: At<'_>, servers: &[String]) -> Vec<String> {
        if servers.is_empty() {
            self.problems.push(at.problem("expected at least one server"));
        }
        for (i, server) in servers.iter().enumerate() {
            if !is_host_port(server) {
                let message = format!("expected `host:port`, found {}", quote(server));
                let help =
                    if server.contains("://") { "without a scheme" } else { "as in registry.local:2181" };
                self.problems.push(at.index(i).problem(message).with_help(help));
            }
        }
        servers.to_vec()
    }

    fn auth(
        &mut self,
        at: At<'_>,
        user: Option<&String>,
        password: Option<&Secret>,
    ) -> Option<(String, Secret)> {
        match (user, password) {
            (Some(user), Some(password)) => Some((user.clone(), password.clone())),
            (None, None) => None,
            (Some(_), None) => {
                self.problems.push(at.key("user").problem("a user needs a `password`"));
                None
            }
            (None, Some(_)) => {
                self.problems.push(at.key("password").problem("whose password it is, `user` says"));
                None
            }
        }
    }

    /// A registry that is named somewhere.
    pub(super) fn registry_named(&mut self, at: At<'_>, name: &str) {
        if !self.at.key("registries").has(name) && !self.conf.registries.contains_key(name) {
            let known: Vec<&str> = self.conf.registries.keys().map(String::as_str).collect();
            let message = format!("no registry is called {}", quote(name));
            self.push_near(at, message, name, known);
        }
    }

    /// Where the endpoints of a cluster are found.
    pub(super) fn discover(
        &mut self,
        at: At<'_>,
        cluster: &file::Cluster,
        written: &written::Discover,
    ) -> Source {
        self.registry_named(at.key("registry"), &written.registry);
        if written.service.trim().is_empty() {
            self.problems.push(at.key("service").problem("expected the name of a service"));
        }
        let framework = written.framework.get();
        let file = matches!(self.conf.registries.get(&written.registry), Some(written::Registry::File(_)));
        // A file says what it says: nobody but its writer knows of frameworks.
        let own = (!file).then(|| spoken(written.framework, cluster.protocol.as_deref()));
        Source::Found {
            registry: written.registry.clone(),
            key: ServiceKey {
                service: written.service.clone(),
                group: written.group.clone(),
                version: written.version.clone(),
                framework,
                protocol: written.protocol.clone().or(own.map(str::to_owned)),
            },
            hold: written.hold_empty.map(units::Duration::get),
        }
    }

    /// What of the application is made known.
    pub(super) fn registering(&mut self, at: At<'_>) -> Vec<RegisterPlan> {
        let written = self.conf.register.iter();
        written.map(|(name, register)| self.register(at.key(name), name, register)).collect()
    }

    fn register(&mut self, at: At<'_>, name: &str, written: &written::Register) -> RegisterPlan {
        self.takes_entries(at.key("in"), &written.registries.0);
        if written.service.trim().is_empty() || written.service.contains(['/', '?', '&', ' ']) {
            self.problems.push(at.key("service").problem("expected the name of a service"));
        }
        self.register_address(at, written.host.as_deref(), written.port);
        self.register_local(at.key("local"), &written.local);
        self.no_circle(at, written.port, written.framework, Some(&written.service));
        if written.weight > WEIGHT_MAX {
            self.problems.push(at.key("weight").problem(format!("expected 0 to {WEIGHT_MAX}")));
        }
        if written.level != written::Level::Interface && written.framework != written::Framework::Dubbo {
            self.problems.push(at.key("level").problem("only services of Dubbo have a level"));
        }
        if written.group.is_some() && written.framework != written::Framework::Dubbo {
            self.problems.push(at.key("group").problem("only services of Dubbo have a group"));
        }
        let framework = written.framework.get();
        let protocol =
            written.protocol.clone().unwrap_or_else(|| written.framework.get().protocol().to_owned());
        let (check, lenient) = self.asked(at, written, &protocol);
        let version = written.version.clone();
        RegisterPlan {
            name: name.to_owned(),
            registries: written.registries.0.clone(),
            what: discovery::Registration {
                app: self.conf.app.clone(),
                framework,
                level: written.level.get(),
                service: written.service.clone(),
                protocol,
                address: format!("{}:{}", written.host.as_deref().unwrap_or_default(), written.port),
                group: written.group.clone(),
                version: version
                    .or_else(|| (framework == discovery::Framework::Sofarpc).then(|| "1.0".to_owned())),
                weight: written.weight,
                started: 0,
                metadata: written.metadata.clone(),
            },
            local: written.local.clone(),
            health: asked_with(check),
            lenient,
        }
    }

    /// Registries in which something is made known.
    pub(super) fn takes_entries(&mut self, at: At<'_>, registries: &[String]) {
        if registries.is_empty() {
            self.problems.push(at.problem("expected at least one registry"));
        }
        for (i, registry) in registries.iter().enumerate() {
            let place = at.index(i);
            self.registry_named(place, registry);
            if matches!(self.conf.registries.get(registry), Some(written::Registry::File(_))) {
                let problem = place.problem("nothing can be registered in a file");
                self.problems.push(problem.with_help("name a registry of another kind, or write it there"));
            }
            if registries.iter().take(i).any(|other| other == registry) {
                self.problems.push(place.problem(format!("{} is listed twice", quote(registry))));
            }
        }
    }

    /// What others call at a port of ours must lead to the application, never to whoever gives the same service: that may be we.
    /// `service`: the one that is called there; `None`: any of the framework's.
    pub(super) fn no_circle(
        &mut self,
        at: At<'_>,
        port: u16,
        framework: written::Framework,
        service: Option<&str>,
    ) {
        let port = format!(":{port}");
        for (name, listener) in
            self.conf.listeners.iter().filter(|(_, listener)| listener.bind.ends_with(&port))
        {
            let finds = |route: &file::Route| {
                let named = route.to_cluster().into_iter().chain(route.weights.keys());
                let mut clusters = named.filter_map(|name| self.conf.clusters.get(name));
                let same = |cluster: &file::Cluster| {
                    cluster.discover.as_ref().is_some_and(|found| match service {
                        Some(service) => found.service == service,
                        None => found.framework == framework,
                    })
                };
                matches!(route.to, Some(written::To::Service(_))) || clusters.any(same)
            };
            if listener.routes.iter().any(finds) {
                let message = format!(
                    "calls of {} at listener {} would go to whoever gives it, and so in a circle",
                    service.map_or_else(|| "a service".to_owned(), quote),
                    quote(name)
                );
                let help =
                    "let the listener's routes lead to a cluster with the application's own `endpoints`";
                self.problems.push(at.key("port").problem(message).with_help(help));
            }
        }
    }

    /// What others dial.
    pub(super) fn register_address(&mut self, at: At<'_>, host: Option<&str>, port: u16) {
        if let Some(host) = host {
            let address = format!("{host}:{}", port.max(1));
            if let Err(bad) = check_address(&address) {
                self.problems.push(at.key("host").problem(bad.to_string()));
            } else if !is_public(&address) {
                let message = format!("{} means \"this host\" to whoever dials it", quote(host));
                let help = "write the address by which others reach this host, or leave `host` out";
                self.problems.push(at.key("host").problem(message).with_help(help));
            }
        }
        if port == 0 {
            self.problems.push(at.key("port").problem("expected the port that others dial"));
        }
    }

    /// Where the application itself is asked.
    pub(super) fn register_local(&mut self, at: At<'_>, local: &str) {
        if !is_host_port(local) {
            let message = format!("expected `host:port`, found {}", quote(local));
            self.problems.push(at.problem(message).with_help("as in 127.0.0.1:20880"));
        }
    }

    /// What the application is asked whether it is there, and whether any answer will do.
    fn asked(&mut self, at: At<'_>, written: &written::Register, protocol: &str) -> (health::Check, bool) {
        if let Some(check) = &written.check {
            if let health::Check::Http(check) = check {
                self.http_check(at.key("check").key("http"), check);
            }
            return (check.clone(), false);
        }
        question(protocol)
    }
}

/// What an application that speaks this is asked whether it is there, and whether any answer will do.
fn question(protocol: &str) -> (health::Check, bool) {
    let of = PROTOCOLS.iter().copied().find(|name| *name == protocol && heartbeat(name).is_some());
    match (of, protocol) {
        (Some(name), _) => (health::Check::Heartbeat(name), false),
        // What has no heartbeat of its own answers one question like another.
        (None, "http" | "rest") => (health::Check::Http(health::HttpCheck::default()), true),
        (None, "tri" | "grpc") => (health::Check::Grpc(health::GrpcCheck::default()), true),
        (None, _) => (health::Check::Tcp, false),
    }
}

impl RegisterPlan {
    /// One of a service that is made known while an application of its protocol answers at `local`.
    pub fn new(name: String, registries: Vec<String>, what: discovery::Registration, local: String) -> Self {
        let (check, lenient) = question(&what.protocol);
        Self { name, registries, what, local, health: asked_with(check), lenient }
    }
}

/// How the application is asked.
fn asked_with(check: health::Check) -> HealthPlan {
    HealthPlan { check, interval: ASK_EVERY, timeout: ASK_EVERY, unhealthy: BAD, healthy: GOOD }
}

/// What the instances of a cluster speak, in the words of their framework.
fn spoken(framework: written::Framework, translated: Option<&str>) -> &'static str {
    match (framework, translated) {
        (written::Framework::Dubbo, Some("triple" | "grpc" | "http2")) => "tri",
        _ => framework.get().protocol(),
    }
}
