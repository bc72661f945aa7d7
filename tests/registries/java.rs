//! The Java frameworks of these tests: how their programs are started, and what each calls its services.
//!
//! A provider that registers itself listens on the address that others see; one that is registered by the sidecar listens on
//! loopback alone, so that nobody reaches it but through the sidecar. Must know nothing of how entries are written.

use super::servers::{NACOS, ZOOKEEPER};
use super::support::netns::ADDRESS;
use super::support::peers::{LOOPBACK_NAME, Peer, jvm};
use std::process::Command;

/// What a provider that registers itself answers when it is asked who it is.
pub(crate) const OWN: &str = "own";
/// What one that is registered by the sidecar answers.
pub(crate) const BEHIND: &str = "behind";
/// The application that provides, by name.
pub(crate) const APP: &str = "peer-provider";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Java {
    /// Dubbo 3.3 over Dubbo2, at the interface level.
    Dubbo33,
    /// Dubbo 3.3 over Triple, at both levels.
    Triple,
    /// Dubbo 2.7.
    Dubbo27,
    /// SOFARPC over Bolt.
    Sofa,
    /// Spring Cloud over HTTP/1.
    Spring,
}

/// Where services are found and made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registry {
    ZooKeeper,
    Nacos,
}

impl Registry {
    pub(crate) const BOTH: [Self; 2] = [Self::ZooKeeper, Self::Nacos];

    /// Its name in the confs of these tests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ZooKeeper => "zk",
            Self::Nacos => "nc",
        }
    }

    fn url(self) -> String {
        match self {
            Self::ZooKeeper => format!("zookeeper://{ZOOKEEPER}"),
            Self::Nacos => format!("nacos://{NACOS}"),
        }
    }
}

/// One of the services that a provider gives: they differ in group and version, and in nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name in the confs of these tests.
    pub(crate) name: &'static str,
    /// What it is found by, in the words of the conf.
    pub(crate) group: Option<&'static str>,
    pub(crate) version: Option<&'static str>,
}

impl Java {
    /// The framework, as the conf has it.
    pub(crate) fn framework(self) -> &'static str {
        match self {
            Self::Dubbo33 | Self::Triple | Self::Dubbo27 => "dubbo",
            Self::Sofa => "sofarpc",
            Self::Spring => "spring",
        }
    }

    /// What is spoken, as the framework calls it.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => "dubbo",
            Self::Triple => "tri",
            Self::Sofa => "bolt",
            Self::Spring => "http",
        }
    }

    /// The same, as listeners call it.
    pub(crate) fn spoken(self) -> &'static str {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => "dubbo",
            Self::Triple => "triple",
            Self::Sofa => "bolt",
            Self::Spring => "http1",
        }
    }

    /// What is looked for.
    pub(crate) fn service(self) -> &'static str {
        if self == Self::Spring { "shop" } else { "peer.api.DemoService" }
    }

    /// The services of a provider, one a port.
    pub(crate) fn services(self) -> Vec<Service> {
        let of = |name, group, version| Service { name, group, version };
        match self {
            Self::Dubbo33 | Self::Triple | Self::Dubbo27 => {
                vec![of("blue", None, Some("1.0.0")), of("green", Some("green"), Some("2.0.0"))]
            }
            Self::Sofa => vec![of("blue", None, Some("1.0")), of("green", None, Some("1.0:green"))],
            Self::Spring => vec![of("blue", None, None)],
        }
    }

    /// Where Dubbo's services are made known.
    pub(crate) fn level(self) -> &'static str {
        if self == Self::Triple { "both" } else { "interface" }
    }

    /// A provider that registers itself in both registries.
    pub(crate) fn own(self, ports: [u16; 2]) -> Command {
        let both = Registry::BOTH.map(Registry::url).join(",");
        let mut command = self.provider(OWN, ADDRESS, ports);
        command.args(["--registry", &both]);
        match self {
            Self::Dubbo33 => drop(command.args(["--register-mode", "interface"])),
            Self::Triple => drop(command.args(["--register-mode", "all"])),
            _ => {}
        }
        command
    }

    /// The port that the first service of a provider that registers itself has in a registry: Spring's provider is an
    /// application for each.
    pub(crate) fn own_port(self, ports: [u16; 2], registry: Registry) -> u16 {
        if self == Self::Spring && registry == Registry::Nacos { ports[1] } else { ports[0] }
    }

    /// A provider that is told of a registry and told not to register itself there.
    pub(crate) fn behind(self, ports: [u16; 2]) -> Command {
        let loopback = if self.is_dubbo() { LOOPBACK_NAME } else { "127.0.0.1" };
        let mut command = self.provider(BEHIND, loopback, ports);
        command.args(["--registry", &Registry::ZooKeeper.url(), "--register", "false"]);
        command
    }

    fn is_dubbo(self) -> bool {
        matches!(self, Self::Dubbo33 | Self::Triple | Self::Dubbo27)
    }

    fn provider(self, name: &str, host: &str, ports: [u16; 2]) -> Command {
        let mut command = self.program("Provider");
        command.args(["--name", name, "--host", host]);
        let [first, second] = ports.map(|port| port.to_string());
        match self {
            Self::Spring => command.args(["--app", "shop", "--port", &format!("{first},{second}")]),
            _ => command.args(["--app", APP, "--port", &first, "--green-port", &second]),
        };
        if self == Self::Triple {
            command.args(["--proto", "tri"]);
        }
        if self.is_dubbo() {
            command.args(["--version", "1.0.0"]);
        }
        command
    }

    /// A consumer that finds its providers in a registry.
    pub(crate) fn consumer(self, registry: Registry) -> Command {
        let mut command = self.program("Consumer");
        command.args(["--registry", &registry.url()]);
        match self {
            Self::Spring => drop(command.args(["--app", self.service()])),
            Self::Sofa => {}
            // Dubbo dials again what it lost once in so long, and by itself once a minute.
            _ => drop(command.args(["--version", "1.0.0", "--heartbeat", "2000"])),
        }
        command
    }

    fn program(self, role: &str) -> Command {
        match self {
            Self::Dubbo33 | Self::Triple => Peer::Dubbo33.java(&format!("peer.{role}")),
            Self::Dubbo27 => Peer::Dubbo27.java(&format!("peer.{role}")),
            Self::Sofa => Peer::Sofa.java(&format!("peer.Sofa{role}")),
            Self::Spring => {
                let mut command = jvm("spring-cloud-peer/out", "spring-cloud-peer-1.jar");
                command.arg(format!("peer.Cloud{role}"));
                command
            }
        }
    }

    /// Whether a consumer makes a call fail that it sent to nobody: Dubbo 3.3, told that a provider leaves, destroys what it
    /// calls that by although another thread has just chosen it. Its own retries, which are off here, are all that hides it.
    pub(crate) fn fails_by_itself(self, failure: &str) -> bool {
        matches!(self, Self::Dubbo33 | Self::Triple) && failure.ends_with("This invoker has been destroyed!")
    }

    /// The line that has a consumer call what listens on this port, past all registries.
    pub(crate) fn direct(self, port: u16) -> String {
        match self {
            Self::Spring => format!("at http://{ADDRESS}:{port}"),
            _ => format!("work {}://{ADDRESS}:{port} 8000 0 direct", self.protocol()),
        }
    }
}
