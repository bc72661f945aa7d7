//! The confs of the sidecars, one for each step that changes one: those of `docs/migration.md` with the tests' own ports.
//!
//! What changes from step to step is a line or two. Must never hold anything of a program.

use super::java::Java;
use super::servers::{NACOS, ZOOKEEPER};
use super::support::free_port;
use super::support::netns::ADDRESS;
use std::fmt::Write as _;

/// The methods of the service, as a provider of Dubbo would tell them.
const METHODS: &str = "bytes,crash,echo,fail,fire,fired,late,nothing,peak,process,slow,who,work";
/// What a provider's sidecar says of whatever it registers.
const BY: &str = "by: outrigger";

/// Where the two providers run: each has an address of its own.
pub(crate) const HOSTS: [&str; 2] = [ADDRESS, "10.9.9.2"];

/// Registries by their names in the confs.
pub(crate) const ZK: &str = "zk";
pub(crate) const NC: &str = "nacos";

/// These registries and no others.
fn registries(names: &[&str]) -> String {
    let mut text = "registries:\n".to_owned();
    for name in names {
        let line = match *name {
            ZK => format!("  zk: {{ zookeeper: {{ address: {ZOOKEEPER}, session_timeout: 6s }} }}"),
            _ => format!("  nacos: {{ nacos: {{ address: {NACOS} }} }}"),
        };
        writeln!(text, "{line}").expect("a text grows");
    }
    text
}

/// What a service is found by and made known by.
fn words(java: Java) -> String {
    let service = java.services()[0];
    let version = service.version.expect("it has a version");
    format!("service: {}, framework: {}, version: \"{version}\"", java.service(), java.framework())
}

/// Where Dubbo's services are made known: 2.7 knows only interfaces.
fn level(java: Java) -> &'static str {
    if java == Java::Dubbo27 { "interface" } else { "both" }
}

/// The consumers' sidecar.
pub(crate) struct Front {
    java: Java,
    admin: u16,
    /// Where consumers call it.
    pub(crate) port: u16,
}

impl Front {
    pub(crate) fn new(java: Java) -> Self {
        Self { java, admin: free_port(), port: free_port() }
    }

    /// Providers are found in this registry. `subset`: only those that a sidecar registered, where there are any.
    pub(crate) fn finds_in(&self, registry: &str, subset: bool) -> String {
        let (java, admin, port) = (self.java, self.admin, self.port);
        let only =
            if subset { format!(", subset: {{ {BY} }}, subset_fallback: true") } else { String::new() };
        // Dubbo's calls go wherever they name; of SOFARPC one service is shown that has a cluster of its own.
        let to = if java == Java::Sofa { "demo".to_owned() } else { format!("{{ service: {registry} }}") };
        format!(
            "app: shop\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\n{}listeners:\n  egress:\n    \
             bind: 127.0.0.1:{port}\n    protocol: {}\n    routes:\n      - {{ to: {to}{only} }}\nclusters:\n  \
             demo: {{ discover: {{ registry: {registry}, {} }} }}\n",
            registries(&[registry]),
            java.spoken(),
            words(java),
        )
    }
}

/// A provider's sidecar.
pub(crate) struct Beside {
    java: Java,
    host: &'static str,
    admin: u16,
    /// The address that others are told.
    pub(crate) port: u16,
    /// Where the provider listens.
    pub(crate) local: u16,
}

impl Beside {
    pub(crate) fn new(java: Java, host: &'static str, local: u16) -> Self {
        Self { java, host, admin: free_port(), port: free_port(), local }
    }

    /// The provider is made known in these registries.
    pub(crate) fn registers_in(&self, names: &[&str]) -> String {
        let Self { java, host, admin, port, local } = self;
        let more = match java {
            Java::Sofa => format!("metadata: {{ {BY} }}"),
            _ => format!("level: {}, metadata: {{ {BY}, methods: \"{METHODS}\" }}", level(*java)),
        };
        format!(
            "app: peer-provider\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\n{}listeners:\n  ingress:\n    \
             bind: {host}:{port}\n    protocol: {}\n    routes:\n      - {{ to: application }}\nclusters:\n  \
             application: {{ endpoints: [\"127.0.0.1:{local}\"] }}\nregister:\n  demo: {{ in: [{}], {}, host: {host}, \
             port: {port}, local: \"127.0.0.1:{local}\", {more} }}\n",
            registries(names),
            java.spoken(),
            names.join(", "),
            words(*java),
        )
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The bridges of `bridge`: framework, from, to.
const BRIDGES: [(&str, &str, &str); 4] =
    [("dubbo", ZK, NC), ("dubbo", NC, ZK), ("sofarpc", ZK, NC), ("sofarpc", NC, ZK)];

/// The names of the bridges.
pub(crate) fn bridges() -> impl Iterator<Item = String> {
    BRIDGES.into_iter().map(|(framework, _, to)| format!("{framework}-to-{to}"))
}

/// A sidecar of its own that carries everything of these both ways.
pub(crate) fn bridge(families: &[Java]) -> String {
    let dubbo = families.iter().find(|java| **java != Java::Sofa);
    let more = dubbo.map(|java| format!(", level: {}", level(*java))).unwrap_or_default();
    let each = BRIDGES.iter().zip(bridges());
    let line = |((framework, from, to), name): (&(&str, &str, &str), String)| {
        let more = if *framework == "dubbo" { more.as_str() } else { "" };
        format!("  {name}: {{ from: {from}, to: {to}, framework: {framework}, patience: 3s{more} }}\n")
    };
    let bridges: String = each.map(line).collect();
    format!(
        "app: bridge\nadmin: 127.0.0.1:{}\nstate: \"off\"\nworkers: 1\n{}listeners: {{}}\nbridges:\n{bridges}",
        free_port(),
        registries(&[ZK, NC]),
    )
}
