//! Who takes part: programs of dubbo-go and of Java, a sidecar that callers without a registry go through, and sidecars beside
//! providers that do not register themselves.
//!
//! What takes long to start is started at once. Must forget nobody: each ends with its handle.

use super::entries;
use super::go::{self, APP, Level, METHODS, Protocol, SERVICE, VERSION, WEIGHT};
use super::server::Server;
use super::support::netns::ADDRESS;
use super::support::{Process, Sidecar, free_port, within};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

/// How long news may take to be everywhere; also the news that a lease of dubbo-go, of thirty seconds, is over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Stage {
    pub(crate) server: Server,
    /// The sidecar that callers without a registry go through.
    pub(crate) through: Sidecar,
    /// Such callers, of Go and of Java.
    go: Process,
    java: Process,
    /// Known when it is needed: until then others start.
    java_is_ready: bool,
    consumers: Vec<(Level, Protocol, Process)>,
}

/// A sidecar that registers a provider by both protocols.
pub(crate) struct Beside {
    pub(crate) sidecar: Sidecar,
    /// What others are told: Dubbo2's port, and Triple's.
    pub(crate) ports: [u16; 2],
    /// The provider, where it goes with its sidecar.
    _provider: Option<Process>,
}

impl Stage {
    pub(crate) fn begin() -> Self {
        let server = Server::start();
        let through = Sidecar::start(&conf_of_callers(&server));
        let java = Process::spawn("the caller of Java", &mut go::java_caller(through.port("dubbo")));
        let go = Process::start("the caller of Go", &mut go::caller());
        Self { server, through, go, java, java_is_ready: false, consumers: Vec::new() }
    }

    /// Starts a consumer for each level and protocol: each finds its providers by itself.
    pub(crate) fn consumers_come(&mut self) {
        for level in Level::BOTH {
            for protocol in Protocol::BOTH {
                let name = format!("the consumer by {level:?} over {protocol:?}");
                let mut command = go::consumer(protocol, level, &self.server.address());
                self.consumers.push((level, protocol, Process::spawn(&name, &mut command)));
            }
        }
        for (_, _, consumer) in &self.consumers {
            consumer.ready();
        }
    }

    /// The consumers of this level end.
    pub(crate) fn consumers_go(&mut self, gone: Level) {
        self.consumers.retain(|(level, _, _)| *level != gone);
    }

    pub(crate) fn consumers(&mut self, wanted: Level) -> impl Iterator<Item = &mut Process> {
        self.consumers
            .iter_mut()
            .filter(move |(level, _, _)| *level == wanted)
            .map(|(_, _, consumer)| consumer)
    }

    /// All consumers of a level call this one, sooner or later.
    #[track_caller]
    pub(crate) fn find(&mut self, level: Level, name: &str) {
        for consumer in self.consumers(level) {
            let mut last = Value::Null;
            let came = within(PATIENCE, || {
                last = consumer.ask("who");
                last["value"] == name
            });
            assert!(came, "a consumer by {level:?} does not find {name}: {last}");
        }
    }

    /// All consumers of a level call nobody but this one, sooner or later.
    #[track_caller]
    pub(crate) fn find_only(&mut self, level: Level, name: &str) {
        for consumer in self.consumers(level) {
            let mut last = Value::Null;
            let came = within(PATIENCE, || {
                last = consumer.ask("many 20");
                last["value"] == name
            });
            assert!(came, "a consumer by {level:?} does not keep to {name}: {last}");
        }
    }

    /// Who answered a call of Go through the sidecar, and one of Java.
    #[track_caller]
    pub(crate) fn answer(&mut self, protocol: Protocol) -> [String; 2] {
        if !std::mem::replace(&mut self.java_is_ready, true) {
            self.java.ready();
        }
        let port = self.through.port(protocol.name());
        let go = self.go.ask(&go::at(protocol, port));
        let java = self.java.ask(&format!("work {}://{ADDRESS}:{port} 8000 0 token", protocol.name()));
        [go, java].map(|answer| {
            let value = answer["value"].as_str().unwrap_or_else(|| panic!("{protocol:?}: {answer}"));
            value.strip_suffix(" token").unwrap_or_else(|| panic!("{protocol:?}: {answer}")).to_owned()
        })
    }

    /// Just these are found by the sidecar: the ports of Dubbo2, and of Triple.
    #[track_caller]
    pub(crate) fn are_found(&self, wanted: &[[u16; 2]]) {
        for (at, protocol) in Protocol::BOTH.into_iter().enumerate() {
            self.is_found(protocol, &wanted.iter().map(|ports| ports[at]).collect::<Vec<_>>());
        }
    }

    /// The same for one protocol.
    #[track_caller]
    pub(crate) fn is_found(&self, protocol: Protocol, wanted: &[u16]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|port| format!("{ADDRESS}:{port}")).collect();
        let mut page = Value::Null;
        let came = within(PATIENCE, || {
            page = self.through.cluster(protocol.name());
            let endpoints = page["endpoints"].as_array().into_iter().flatten();
            let found = endpoints.filter_map(|one| Some(one["address"].as_str()?.to_owned()));
            found.collect::<BTreeSet<_>>() == wanted
        });
        assert!(came, "the sidecar finds others than {wanted:?} by {protocol:?}: {page}");
    }

    /// What the sidecar's own command says of the registry.
    #[track_caller]
    fn asked(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.arg("registry").args(arguments).args(["--framework", "dubbo", "--format", "json", "-c"]);
        let asked = command.arg(self.through.conf_path()).output().expect("the command runs");
        assert!(asked.status.success(), "{asked:?}");
        serde_json::from_slice(&asked.stdout).expect("JSON")
    }

    /// These are the weights of all who give the service, of whatever protocol.
    #[track_caller]
    pub(crate) fn weigh(&self, wanted: &[u64]) {
        let mut all = Value::Null;
        let came = within(PATIENCE, || {
            all = self.asked(&["get", SERVICE]);
            let weights = all.as_array().expect("a list").iter().map(|one| one["weight"].as_u64());
            weights.eq(wanted.iter().map(|weight| Some(*weight)))
        });
        assert!(came, "others than {wanted:?} give the service: {all}");
    }

    /// The services that there are.
    #[track_caller]
    pub(crate) fn services(&self) -> Vec<String> {
        let all = self.asked(&["ls"]);
        all.as_array()
            .expect("a list")
            .iter()
            .filter_map(|one| Some(one["service"].as_str()?.to_owned()))
            .collect()
    }

    /// Just these stand in the registry, each at both ports by its interface, and at either by its application: dubbo-go takes
    /// the port of any of its protocols for an instance's.
    #[track_caller]
    pub(crate) fn stand(&self, interface: &[[u16; 2]], application: &[[u16; 2]]) {
        let mut last = (Vec::new(), Vec::new());
        let came = within(PATIENCE, || {
            let ports = |entries: Vec<entries::Entry>| -> Vec<u16> {
                let ports = entries.iter().filter_map(|entry| entry.address.rsplit_once(':')?.1.parse().ok());
                ports.collect()
            };
            last = (ports(entries::of_interface(&self.server)), ports(entries::of_application(&self.server)));
            let both: BTreeSet<u16> = interface.iter().flatten().copied().collect();
            let either = |pair: &[u16; 2]| last.1.iter().filter(|port| pair.contains(port)).count() == 1;
            last.0.iter().copied().collect::<BTreeSet<_>>() == both
                && last.1.len() == application.len()
                && application.iter().all(either)
        });
        assert!(came, "others than {interface:?} and {application:?} stand in etcd: {last:?}");
    }

    /// A sidecar beside providers on these ports of loopback, by protocol: it registers them.
    pub(crate) fn beside(&self, local: [u16; 2], provider: Option<Process>) -> Beside {
        let ports = two_ports();
        let sidecar = Sidecar::start(&conf_of_beside(&self.server, ports, local));
        Beside { sidecar, ports, _provider: provider }
    }
}

/// Two ports, the second of which is the one above the first.
pub(crate) fn two_ports() -> [u16; 2] {
    loop {
        let first = free_port();
        if free_port() == first + 1 {
            return [first, first + 1];
        }
    }
}

fn registries(server: &Server) -> String {
    // A server gives no lease shorter than its elections allow, which are slow here.
    format!("registries:\n  etcd: {{ etcd: {{ address: {}, lease: 15s }} }}\n", server.address())
}

/// A listener for each protocol, whose calls go to whoever gives the service by that.
fn conf_of_callers(server: &Server) -> String {
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for protocol in Protocol::BOTH {
        let (name, spoken, port) = (protocol.name(), protocol.spoken(), free_port());
        let route = format!("to: {name}, idempotent: true, retry: {{ on: [reset] }}");
        writeln!(
            listeners,
            "  {name}: {{ bind: \"{ADDRESS}:{port}\", protocol: {spoken}, routes: [ {{ {route} }} ] }}"
        )
        .expect("a text grows");
        let found = format!("registry: etcd, service: {SERVICE}, version: \"{VERSION}\", protocol: {name}");
        writeln!(clusters, "  {name}: {{ discover: {{ {found} }} }}").expect("a text grows");
    }
    let admin = free_port();
    format!(
        "app: go-caller\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\n{}listeners:\n{listeners}clusters:\n{clusters}",
        registries(server)
    )
}

/// A listener for each protocol, whose calls go to the provider, and the service made known at both levels.
fn conf_of_beside(server: &Server, ports: [u16; 2], local: [u16; 2]) -> String {
    let (mut register, mut listeners, mut clusters) = (String::new(), String::new(), String::new());
    for ((protocol, port), local) in Protocol::BOTH.into_iter().zip(ports).zip(local) {
        let (name, spoken) = (protocol.name(), protocol.spoken());
        writeln!(
            register,
            "  {name}: {{ in: etcd, service: {SERVICE}, version: \"{VERSION}\", protocol: {name}, level: both, weight: {WEIGHT}, host: {ADDRESS}, \
             port: {port}, local: \"127.0.0.1:{local}\", metadata: {{ methods: \"{METHODS}\" }} }}"
        )
        .expect("a text grows");
        writeln!(
            listeners,
            "  {name}: {{ bind: \"{ADDRESS}:{port}\", protocol: {spoken}, routes: [ {{ to: {name} }} ] }}"
        )
        .expect("a text grows");
        writeln!(clusters, "  {name}: {{ endpoints: [\"127.0.0.1:{local}\"] }}").expect("a text grows");
    }
    let admin = free_port();
    format!(
        "app: {APP}\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\n{}register:\n{register}listeners:\n{listeners}\
         clusters:\n{clusters}",
        registries(server)
    )
}
