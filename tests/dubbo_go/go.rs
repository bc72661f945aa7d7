//! The programs of these tests: how they are started, and what they call their service.
//!
//! A provider that registers itself listens on the address that others see; one that is registered by the sidecar listens on
//! loopback alone, so that nobody reaches it but through the sidecar. Must know nothing of how entries are written.

use super::support::netns::ADDRESS;
use super::support::peers::{self, LOOPBACK_NAME, Peer};
use std::process::Command;

pub(crate) const SERVICE: &str = "peer.api.DemoService";
pub(crate) const VERSION: &str = "1.0.0";
/// The application that provides.
pub(crate) const APP: &str = "go-shop";
/// The weight of whatever registers itself.
pub(crate) const WEIGHT: &str = "50";
/// The methods of the service in Go, as a conf tells them.
pub(crate) const METHODS: &str = "crash,Crash,echo,Echo,who,Who,work,Work";

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Dubbo2,
    Triple,
}

impl Protocol {
    pub(crate) const BOTH: [Self; 2] = [Self::Dubbo2, Self::Triple];

    /// As Dubbo calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dubbo2 => "dubbo",
            Self::Triple => "tri",
        }
    }

    /// As listeners call it.
    pub(crate) fn spoken(self) -> &'static str {
        match self {
            Self::Dubbo2 => "dubbo",
            Self::Triple => "triple",
        }
    }
}

/// How a program of dubbo-go uses its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Interface,
    Application,
}

impl Level {
    pub(crate) const BOTH: [Self; 2] = [Self::Interface, Self::Application];

    fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Application => "service",
        }
    }
}

fn go(role: &str) -> Command {
    let mut command = peers::go_dubbo(role);
    command.args(["--version", VERSION]);
    command
}

/// A provider that registers itself; `port` is for Dubbo2, the one above for Triple. `metadata`: who tells what it gives, the
/// instance itself (`local`) or the registry (`remote`).
pub(crate) fn own(name: &str, level: Level, metadata: &str, port: u16, registry: &str) -> Command {
    let mut command = go("provider");
    command.args(["--name", name, "--app", APP, "--host", ADDRESS, "--port", &port.to_string()]);
    command.args(["--proto", "dubbo,tri", "--registry", registry, "--register-type", level.name()]);
    command.args(["--weight", WEIGHT, "--metadata", metadata]);
    command
}

/// A provider that is told of the registry and told not to register itself there.
pub(crate) fn behind(name: &str, port: u16, registry: &str) -> Command {
    let mut command = go("provider");
    command.args(["--name", name, "--app", APP, "--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--proto", "dubbo,tri", "--registry", registry, "--register", "false"]);
    command
}

/// A consumer that finds its providers in the registry.
pub(crate) fn consumer(protocol: Protocol, level: Level, registry: &str) -> Command {
    let mut command = go("consumer");
    command.args(["--app", "go-caller", "--proto", protocol.name()]);
    command.args(["--registry", registry, "--register-type", level.name()]);
    command
}

/// A consumer that knows no registry.
pub(crate) fn caller() -> Command {
    let mut command = go("consumer");
    command.args(["--app", "go-caller"]);
    command
}

/// The line that has it call what listens on this port.
pub(crate) fn at(protocol: Protocol, port: u16) -> String {
    format!("at {}://{ADDRESS}:{port} token", protocol.name())
}

/// A provider of Dubbo 2.7 that registers itself, by its interface.
pub(crate) fn java_own(name: &str, port: u16, registry: &str) -> Command {
    let mut command = peers::dubbo27_with_etcd("peer.Provider");
    command.args(["--name", name, "--app", "java-shop", "--host", ADDRESS, "--port", &port.to_string()]);
    command.args(["--version", VERSION, "--registry", &format!("etcd3://{registry}")]);
    command
}

/// A consumer of Dubbo 2.7 that finds its providers in the registry.
pub(crate) fn java_consumer(registry: &str) -> Command {
    let mut command = peers::dubbo27_with_etcd("peer.Consumer");
    command.args(["--version", VERSION, "--registry", &format!("etcd3://{registry}")]);
    command
}

/// A provider of Dubbo 3.3 that knows no registry.
pub(crate) fn java_provider(name: &str, protocol: Protocol, port: u16) -> Command {
    let mut command = Peer::Dubbo33.java("peer.Provider");
    command.args(["--name", name, "--host", LOOPBACK_NAME, "--port", &port.to_string()]);
    command.args(["--proto", protocol.name(), "--version", VERSION]);
    command
}

/// A consumer of Dubbo 3.3 that knows no registry.
pub(crate) fn java_caller(port: u16) -> Command {
    let mut command = Peer::Dubbo33.java("peer.Consumer");
    command.args(["--url", &format!("dubbo://{ADDRESS}:{port}"), "--version", VERSION]);
    command
}
