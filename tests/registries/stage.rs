//! One framework's programs: a provider that registers itself, one that is registered by a sidecar, a consumer for each
//! registry, and a sidecar that callers without a registry go through.
//!
//! Everything of a story is started at once, as starting is what takes long. Must forget nobody: at the end nothing of it may
//! be left in the registries.

use super::entries;
use super::java::{APP, Java, Registry, Service};
use super::servers::{self, NACOS, ZOOKEEPER};
use super::support::netns::ADDRESS;
use super::support::{Process, Sidecar, free_port, within};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

/// How long news may take to be everywhere; also the news that a session is over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a sidecar may take to count a call that has ended.
const TOLD_MAX: Duration = Duration::from_millis(500);
/// The methods of the service, as a conf tells them. Beside them it tells the revision, which for Dubbo is the version of the
/// jar that the interface is in.
const METHODS: &str = "bytes,crash,echo,fail,fire,fired,late,nothing,peak,process,slow,who,work";

pub(crate) struct Stage {
    pub(crate) java: Java,
    pub(crate) own: Process,
    pub(crate) behind: Process,
    consumers: Vec<Process>,
    pub(crate) caller: Sidecar,
    pub(crate) own_ports: [u16; 2],
    behind_ports: [u16; 2],
}

/// A sidecar beside the provider that does not register itself, and its ports.
pub(crate) struct Beside {
    pub(crate) sidecar: Sidecar,
    ports: [u16; 2],
}

impl Stage {
    pub(crate) fn begin(java: Java) -> Self {
        servers::start();
        let (own_ports, behind_ports) = (ports(java), ports(java));
        let own = Process::spawn("the provider that registers itself", &mut java.own(own_ports));
        let behind = Process::spawn("the provider behind the sidecar", &mut java.behind(behind_ports));
        let consumer = |registry: Registry| {
            Process::spawn(&format!("the consumer by {registry:?}"), &mut java.consumer(registry))
        };
        let consumers = Registry::BOTH.map(consumer).into_iter().collect();
        let caller = Sidecar::start(&conf_of_caller(java));
        for process in [&own, &behind].into_iter().chain(&consumers) {
            process.ready();
        }
        Self { java, own, behind, consumers, caller, own_ports, behind_ports }
    }

    /// Starts the provider that registers itself once more, on its ports.
    pub(crate) fn restart_own(&mut self) {
        self.own = Process::start(
            "the provider that registers itself, once more",
            &mut self.java.own(self.own_ports),
        );
    }

    /// Starts the provider behind the sidecar once more, on its ports.
    pub(crate) fn restart_behind(&mut self) {
        let mut command = self.java.behind(self.behind_ports);
        self.behind = Process::start("the provider behind the sidecar, once more", &mut command);
    }

    /// A sidecar beside that provider: it registers its services.
    pub(crate) fn beside(&self) -> Beside {
        let ports = ports(self.java);
        let sidecar = Sidecar::start(&conf_of_beside(self.java, ports, self.behind_ports));
        Beside { sidecar, ports }
    }

    fn consumer(&mut self, registry: Registry) -> &mut Process {
        match registry {
            Registry::ZooKeeper => &mut self.consumers[0],
            Registry::Nacos => &mut self.consumers[1],
        }
    }

    /// Asks the consumer of a registry, which finds its provider there.
    pub(crate) fn ask(&mut self, registry: Registry, line: &str) -> Value {
        self.consumer(registry).ask(line)
    }

    /// Calls through the sidecar that found the providers: who answered, or what the consumer saw instead.
    pub(crate) fn through(&mut self, registry: Registry) -> Result<String, Value> {
        let port = self.caller.port(registry.name());
        let line = self.java.direct(port);
        answered(&self.ask(registry, &line))
    }

    /// Calls through the sidecar until this one answers.
    #[track_caller]
    pub(crate) fn is_through_to(&mut self, registry: Registry, name: &str) {
        let mut last = None;
        let came = within(PATIENCE, || {
            last = Some(self.through(registry));
            last.as_ref().is_some_and(|got| got.as_deref().is_ok_and(|by| by == name))
        });
        assert!(came, "{name} is not reached through the sidecar by {registry:?}: {last:?}");
    }

    /// Calls by the consumer's own means until this one answers.
    #[track_caller]
    pub(crate) fn finds(&mut self, registry: Registry, line: &str, name: &str) {
        let mut last = Value::Null;
        let came = within(PATIENCE, || {
            last = self.ask(registry, line);
            last["value"] == name
        });
        assert!(came, "the consumer by {registry:?} does not find {name} by `{line}`: {last}");
    }

    /// Calls by the consumer's own means until a call comes through this sidecar.
    #[track_caller]
    pub(crate) fn comes_through(&mut self, registry: Registry, beside: &Beside) {
        let mut last = Value::Null;
        let came = within(PATIENCE, || {
            let before = beside.calls();
            last = self.ask(registry, "who");
            last["ok"] == true && within(TOLD_MAX, || beside.calls() > before)
        });
        assert!(came, "no call of the consumer by {registry:?} comes through the sidecar: {last}");
    }

    /// Waits until just these give a service, as a registry itself says, and as the sidecar that callers go through found.
    #[track_caller]
    pub(crate) fn are_known(&self, registry: Registry, service: Service, addresses: &[String]) {
        let wanted: BTreeSet<&str> = addresses.iter().map(String::as_str).collect();
        let mut last = Vec::new();
        let came = within(PATIENCE, || {
            last = entries::of(self.java, registry, service);
            last.iter().map(|entry| entry.address.as_str()).collect::<BTreeSet<_>>() == wanted
        });
        assert!(came, "{registry:?} knows others than {addresses:?} of {service:?}: {last:#?}");
        if addresses.is_empty() {
            // The sidecar doubts that for a time.
            return;
        }
        let mut page = Value::Null;
        let came = within(PATIENCE, || {
            page = self.caller.cluster(&cluster(service, registry));
            let endpoints = page["endpoints"].as_array().into_iter().flatten();
            endpoints.filter_map(|one| one["address"].as_str()).collect::<BTreeSet<_>>() == wanted
        });
        assert!(came, "the sidecar knows others than {addresses:?} of {service:?} by {registry:?}: {page}");
    }

    /// The addresses of what registers itself, of one service.
    pub(crate) fn own_addresses(&self, registry: Registry, at: usize) -> Vec<String> {
        let port = if at == 0 { self.java.own_port(self.own_ports, registry) } else { self.own_ports[at] };
        vec![format!("{ADDRESS}:{port}")]
    }
}

impl Beside {
    /// How many calls of the first service it has carried.
    fn calls(&self) -> u64 {
        self.sidecar.metric("outrigger_requests_total", &["listener=\"blue\""])
    }

    /// The address that others are told of one service.
    pub(crate) fn address(&self, at: usize) -> String {
        format!("{ADDRESS}:{}", self.ports[at])
    }
}

/// Who answered a call.
pub(crate) fn answered(answer: &Value) -> Result<String, Value> {
    match answer["value"].as_str() {
        Some(value) => Ok(value.split(' ').next().unwrap_or_default().to_owned()),
        None => Err(answer.clone()),
    }
}

/// A port for each service; Dubbo 3.3 has but one for Triple.
fn ports(java: Java) -> [u16; 2] {
    let first = free_port();
    [first, if java == Java::Triple { first } else { free_port() }]
}

fn cluster(service: Service, registry: Registry) -> String {
    format!("{}-{}", service.name, registry.name())
}

fn registries() -> String {
    format!(
        "registries:\n  zk: {{ zookeeper: {{ address: {ZOOKEEPER}, session_timeout: 4s }} }}\n  \
         nc: {{ nacos: {{ address: {NACOS} }} }}\n"
    )
}

/// What a service is found by and made known by.
fn words(java: Java, service: Service) -> String {
    let mut words = format!(
        "service: {}, framework: {}, protocol: {}",
        java.service(),
        java.framework(),
        java.protocol()
    );
    for (name, value) in [("group", service.group), ("version", service.version)] {
        if let Some(value) = value {
            write!(words, ", {name}: \"{value}\"").expect("a text grows");
        }
    }
    words
}

/// A listener for each registry, whose calls go to whoever gives the first service there, and clusters of all services.
fn conf_of_caller(java: Java) -> String {
    let (admin, spoken) = (free_port(), java.spoken());
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for registry in Registry::BOTH {
        let (name, port) = (registry.name(), free_port());
        let services = java.services();
        let route =
            format!("to: {}, idempotent: true, retry: {{ on: [reset] }}", cluster(services[0], registry));
        writeln!(
            listeners,
            "  {name}: {{ bind: \"{ADDRESS}:{port}\", protocol: {spoken}, routes: [ {{ {route} }} ] }}"
        )
        .expect("a text grows");
        for service in services {
            let (cluster, words) = (cluster(service, registry), words(java, service));
            writeln!(clusters, "  {cluster}: {{ discover: {{ registry: {name}, {words} }} }}")
                .expect("a text grows");
        }
    }
    format!(
        "app: peer-caller\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\n{}listeners:\n{listeners}clusters:\n{clusters}",
        registries()
    )
}

/// A listener for each service, whose calls go to the application, and the services made known.
fn conf_of_beside(java: Java, ports: [u16; 2], local: [u16; 2]) -> String {
    let (admin, spoken) = (free_port(), java.spoken());
    let app = if java == Java::Spring { java.service() } else { APP };
    let (mut register, mut listeners, mut clusters) = (String::new(), String::new(), String::new());
    for ((service, port), local) in java.services().into_iter().zip(ports).zip(local) {
        let (name, words) = (service.name, words(java, service));
        let more = match java {
            Java::Dubbo33 | Java::Triple | Java::Dubbo27 => {
                format!(", level: {}, metadata: {{ methods: \"{METHODS}\", revision: \"1\" }}", java.level())
            }
            Java::Sofa | Java::Spring => String::new(),
        };
        writeln!(
            register,
            "  {name}: {{ in: [zk, nc], {words}, host: {ADDRESS}, port: {port}, local: \"127.0.0.1:{local}\"{more} }}"
        )
        .expect("a text grows");
        if listeners.contains(&format!(":{port}\"")) {
            continue;
        }
        writeln!(
            listeners,
            "  {name}: {{ bind: \"{ADDRESS}:{port}\", protocol: {spoken}, routes: [ {{ to: {name} }} ] }}"
        )
        .expect("a text grows");
        writeln!(clusters, "  {name}: {{ endpoints: [\"127.0.0.1:{local}\"] }}").expect("a text grows");
    }
    format!(
        "app: {app}\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\n{}register:\n{register}listeners:\n{listeners}\
         clusters:\n{clusters}",
        registries()
    )
}
