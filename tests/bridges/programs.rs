//! Programs that know one registry call those that know only the other: Java Dubbo 3.3 and SOFARPC.
//!
//! The provider knows no registry; its sidecar makes it known in `ZooKeeper`. A bridge carries that to Nacos, where one consumer
//! finds it by its framework's own client, and calls it; and another one calls through a sidecar that found it there.

use super::java::{APP, BEHIND, Java, Registry};
use super::lists::{PATIENCE, until};
use super::servers::{NACOS, ZOOKEEPER};
use super::sidecars::conf;
use super::support::netns::ADDRESS;
use super::support::{Process, Sidecar, free_port, within};
use serde_json::Value;

/// The methods of the service, as a conf tells them.
const METHODS: &str = "bytes,crash,echo,fail,fire,fired,late,nothing,peak,process,slow,who,work";

/// A framework's programs.
struct Stage {
    java: Java,
    provider: Process,
    consumer: Process,
    beside: Sidecar,
    caller: Sidecar,
}

pub(crate) fn story() {
    let lines = [("d", "dubbo"), ("s", "sofarpc")].map(|(short, framework)| {
        format!(
            "prog-{short}: {{ from: zk, to: nc, framework: {framework}, services: peer.api.DemoService, hold_empty: 2s, \
             patience: 3s }}"
        )
    });
    let bridging = Sidecar::start(&conf(&lines));
    // Everything starts at once, as starting is what takes long.
    let mut stages = [Java::Dubbo33, Java::Sofa].map(Stage::spawn);
    stages.iter().for_each(Stage::ready);
    for stage in &mut stages {
        until("a copy stands in Nacos", || {
            let told = bridging.bridge(if stage.java == Java::Sofa { "prog-s" } else { "prog-d" });
            told["entries"] == 1 && told["pending"] == 0
        });
        stage.is_found("who");
        let through = stage.java.direct(stage.caller.port("main"));
        stage.is_found(&through);
        assert!(stage.beside.metric("outrigger_requests_total", &["listener=\"blue\""]) >= 2);
    }
}

impl Stage {
    fn spawn(java: Java) -> Self {
        let ports = [free_port(), free_port()];
        let provider = Process::spawn("the provider behind a sidecar", &mut java.behind(ports));
        let consumer = Process::spawn("the consumer by Nacos", &mut java.consumer(Registry::Nacos));
        let beside = Sidecar::start(&beside(java, ports[0]));
        let caller = Sidecar::start(&caller(java));
        Self { java, provider, consumer, beside, caller }
    }

    fn ready(&self) {
        self.provider.ready();
        self.consumer.ready();
    }

    /// Calls until the provider answers.
    fn is_found(&mut self, line: &str) {
        let mut last = Value::Null;
        let came = within(PATIENCE, || {
            last = self.consumer.ask(line);
            last["value"].as_str().is_some_and(|by| by.split(' ').next() == Some(BEHIND))
        });
        assert!(came, "{:?}: `{line}` does not reach the provider: {last}", self.java);
    }
}

/// What the service is found and made known by.
fn words(java: Java) -> String {
    let version = java.services()[0].version.expect("it has a version");
    format!(
        "service: {}, framework: {}, protocol: {}, version: \"{version}\"",
        java.service(),
        java.framework(),
        java.protocol()
    )
}

/// The provider's sidecar, which knows `ZooKeeper` alone.
fn beside(java: Java, local: u16) -> String {
    let (admin, port, spoken) = (free_port(), free_port(), java.spoken());
    let more = match java {
        Java::Sofa => String::new(),
        _ => format!(", level: interface, metadata: {{ methods: \"{METHODS}\", revision: \"1\" }}"),
    };
    format!(
        "app: {APP}\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\n\
         registries:\n  zk: {{ zookeeper: {{ address: {ZOOKEEPER}, session_timeout: 4s }} }}\n\
         register:\n  blue: {{ in: zk, {}, host: {ADDRESS}, port: {port}, local: \"127.0.0.1:{local}\"{more} }}\n\
         listeners:\n  blue: {{ bind: \"{ADDRESS}:{port}\", protocol: {spoken}, routes: [ {{ to: blue }} ] }}\n\
         clusters:\n  blue: {{ endpoints: [\"127.0.0.1:{local}\"] }}\n",
        words(java)
    )
}

/// The consumer's sidecar, which knows Nacos alone.
fn caller(java: Java) -> String {
    let (admin, port, spoken) = (free_port(), free_port(), java.spoken());
    format!(
        "app: peer-caller\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\n\
         registries:\n  nc: {{ nacos: {{ address: {NACOS} }} }}\n\
         listeners:\n  main: {{ bind: \"{ADDRESS}:{port}\", protocol: {spoken}, routes: [ {{ to: up }} ] }}\n\
         clusters:\n  up: {{ discover: {{ registry: nc, {} }} }}\n",
        words(java)
    )
}
