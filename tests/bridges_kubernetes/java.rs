//! A Java program on Dubbo 3.3 that knows only Nacos calls providers that only `ZooKeeper` and only Kubernetes know: first those that
//! their sidecars made known there, then one behind a plain Service; by its own client, and through a sidecar that looks in Nacos.

use super::cluster::Namespace;
use super::confs::{K8S, NC, ZK, bridges, head};
use super::lists::{In, List, Of, PATIENCE, until};
use super::servers::{HOSTS, NACOS};
use super::sidecars::names;
use super::support::peers::Peer;
use super::support::{Process, Sidecar, free_port, http_get, within};
use super::web;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// What the provider calls itself.
const NAME: &str = "behind";
const SERVICE: &str = "peer.api.DemoService";
/// The methods of the service, as a conf tells them.
const METHODS: &str = "bytes,crash,echo,fail,fire,fired,late,nothing,peak,process,slow,who,work";
/// How long a leaving sidecar may take.
const LEAVE_MAX: Duration = Duration::from_secs(30);

/// Everything starts at once, as starting is what takes long.
struct Stage {
    namespace: Namespace,
    port: u16,
    consumer: Process,
    caller: Sidecar,
    bridging: Sidecar,
    _provider: Process,
}

pub(crate) fn story() {
    let mut stage = Stage::begin();
    stage.web();
    stage.registered();
    stage.plain();
}

impl Stage {
    fn begin() -> Self {
        let namespace = Namespace::new("java");
        let port = free_port();
        let provider = Process::spawn("the provider", &mut provider(port));
        let consumer = Process::spawn("the consumer by Nacos", &mut consumer());
        let own = |name: &str, from: &str| {
            format!("{name}: {{ from: {from}, to: nc, services: {SERVICE}, hold_empty: 2s, patience: 3s }}")
        };
        let lines = [
            own("j-zk", ZK),
            own("j-own", K8S),
            format!(
                "j-plain: {{ from: k8s, to: nc, framework: plain, as: dubbo, services: demo, rename: {{ demo: {SERVICE} }}, \
                 level: interface, metadata: {{ methods: \"{METHODS}\" }}, hold_empty: 2s, patience: 3s }}"
            ),
            "j-web: { from: k8s, to: nc, framework: plain, as: spring, services: rates, rename: { rates: RATES }, \
             hold_empty: 2s, patience: 3s }"
                .to_owned(),
        ];
        let text = format!("{}{}", head("bridging", &[ZK, K8S, NC], Some(&namespace)), bridges(&lines));
        let bridging = Sidecar::start(&text);
        let caller = Sidecar::start(&caller());
        provider.ready();
        consumer.ready();
        bridging.becomes("leading", &names(&lines));
        // Nacos can tell nobody who writes, so the other end does.
        let holders = namespace.holders();
        for name in &names(&lines)[1..] {
            let holder = bridging.bridge(name)["holder"].as_str().expect("a holder").to_owned();
            assert!(holders.contains(&holder), "{holder} has no lease: {holders:?}");
        }
        Self { namespace, port, consumer, caller, bridging, _provider: provider }
    }

    /// Two sidecars beside the provider make it known: one in `ZooKeeper`, one in Kubernetes.
    fn registered(&mut self) {
        let head = |registry| head("peer-provider", &[registry], Some(&self.namespace));
        let mut besides =
            [ZK, K8S].map(|registry| Sidecar::start(&beside(&head(registry), registry, self.port)));
        let at = |beside: &Sidecar| format!("{}:{}", HOSTS[0], beside.port("blue"));
        let mut both = besides.each_ref().map(at);
        both.sort();
        list().becomes(&both);
        are_marked(&[("zookeeper:", "j-zk"), ("kubernetes:", "j-own")]);
        for line in ["who".to_owned(), self.direct()] {
            let before = besides.each_ref().map(calls);
            // Of those that give a service each is called at some time.
            until("calls come through both sidecars", || {
                self.is_found(&line);
                besides.each_ref().map(calls).iter().zip(before).all(|(now, before)| *now > before)
            });
        }
        let [zookeeper, kubernetes] = &mut besides;
        leaves(kubernetes);
        list().becomes(&[at(zookeeper)]);
        self.is_found("who");
        leaves(zookeeper);
        list().becomes(&[]);
        self.is_lost("who");
    }

    /// The same provider behind a plain Service, which says nothing of Dubbo.
    fn plain(&mut self) {
        self.namespace.put("demo", self.port, &[(HOSTS[0], true)]);
        list().becomes(&[format!("{}:{}", HOSTS[0], self.port)]);
        are_marked(&[("kubernetes:", "j-plain")]);
        self.is_found("who");
        self.is_found(&self.direct());
        self.namespace.take("demo");
        list().becomes(&[]);
        self.is_lost("who");
    }

    /// A server of HTTP behind a plain Service, as a service of Spring Cloud.
    fn web(&self) {
        let (hosts, port) = (HOSTS.map(|host| (host, true)), web::start());
        self.namespace.put("rates", port, &hosts);
        until("all three stand in Nacos", || spring().len() == 3);
        let at = SocketAddr::from(([127, 0, 0, 1], self.caller.port("web")));
        until("a call comes through", || {
            http_get(at, "/").is_ok_and(|(status, body)| (status, body.as_str()) == (200, web::WORD))
        });
        // One that is not ready is not to be called.
        let hosts = HOSTS.map(|host| (host, host != HOSTS[1]));
        self.namespace.change("rates", port, &hosts);
        until("its copy goes", || {
            spring() == [format!("{}:{port}", HOSTS[0]), format!("{}:{port}", HOSTS[2])]
        });
        self.namespace.take("rates");
        until("all go", || spring().is_empty());
        self.bridging.has_nothing("j-web");
    }

    fn direct(&self) -> String {
        format!("work dubbo://{}:{} 8000 0 direct", HOSTS[0], self.caller.port("main"))
    }

    /// Calls until the provider answers.
    fn is_found(&mut self, line: &str) {
        let mut last = Value::Null;
        let came = within(PATIENCE, || {
            last = self.consumer.ask(line);
            last["value"].as_str().is_some_and(|by| by.split(' ').next() == Some(NAME))
        });
        assert!(came, "`{line}` does not reach the provider: {last}");
    }

    /// Calls until nobody is there to answer.
    fn is_lost(&mut self, line: &str) {
        let mut last = Value::Null;
        let gone = within(PATIENCE, || {
            last = self.consumer.ask(line);
            last["ok"] == false
        });
        assert!(gone, "`{line}` reaches somebody: {last}");
    }
}

/// What Nacos lists of the service.
fn list() -> List {
    List::new(Of::Dubbo, In::Nacos, SERVICE)
}

/// Copies say that they are, once from each of these origins and by that bridge.
fn are_marked(wanted: &[(&str, &str)]) {
    let entries = list().entries();
    assert_eq!(entries.len(), wanted.len());
    for (origin, bridge) in wanted {
        let by = entries.iter().filter(|entry| {
            let [from, by, hops] = entry.mark().expect("a copy says that it is one");
            from.starts_with(origin) && (by, hops) == (bridge, "1")
        });
        assert_eq!(by.count(), 1, "{origin} {bridge}: {entries:?}");
    }
}

/// What Nacos lists of the service of Spring Cloud, in order.
fn spring() -> Vec<String> {
    let page = http_get(NACOS, "/nacos/v1/ns/instance/list?serviceName=RATES&namespaceId=public");
    let (status, page) = page.expect("Nacos answers");
    assert_eq!(status, 200, "{page}");
    let page: Value = serde_json::from_str(&page).expect("JSON");
    let hosts = page["hosts"].as_array().into_iter().flatten();
    let mut all: Vec<String> =
        hosts.map(|host| format!("{}:{}", host["ip"].as_str().expect("an ip"), host["port"])).collect();
    all.sort();
    all
}

/// It knows no registry.
fn provider(port: u16) -> std::process::Command {
    let mut command = Peer::Dubbo33.java("peer.Provider");
    command.args(["--name", NAME, "--host", HOSTS[0], "--app", "peer-provider", "--port", &port.to_string()]);
    command
}

fn consumer() -> std::process::Command {
    let mut command = Peer::Dubbo33.java("peer.Consumer");
    command.args(["--registry", &format!("nacos://{NACOS}"), "--heartbeat", "2000"]);
    command
}

/// A sidecar of the provider, which knows one registry alone; `head`: how its conf begins.
fn beside(head: &str, registry: &str, local: u16) -> String {
    let (port, host) = (free_port(), HOSTS[0]);
    format!(
        "{head}register:\n  blue: {{ in: {registry}, service: {SERVICE}, host: {host}, port: {port}, local: \"{host}:{local}\", \
         metadata: {{ methods: \"{METHODS}\" }} }}\n\
         listeners:\n  blue: {{ bind: \"{host}:{port}\", protocol: dubbo, routes: [ {{ to: blue }} ] }}\n\
         clusters:\n  blue: {{ endpoints: [\"{host}:{local}\"] }}\n"
    )
}

/// How many calls came to the provider's sidecar.
fn calls(beside: &Sidecar) -> u64 {
    beside.metric("outrigger_requests_total", &["listener=\"blue\""])
}

fn leaves(beside: &mut Sidecar) {
    beside.term();
    assert!(beside.wait(LEAVE_MAX).success());
}

/// The consumer's sidecar, which knows Nacos alone.
fn caller() -> String {
    let (main, web) = (free_port(), free_port());
    format!(
        "{}listeners:\n  main: {{ bind: \"{}:{main}\", protocol: dubbo, routes: [ {{ to: up }} ] }}\n  \
         web: {{ bind: \"127.0.0.1:{web}\", protocol: http1, routes: [ {{ to: rates }} ] }}\n\
         clusters:\n  up: {{ discover: {{ registry: nc, service: {SERVICE} }} }}\n  \
         rates: {{ discover: {{ registry: nc, service: RATES, framework: spring }} }}\n",
        head("peer-caller", &[NC], None),
        HOSTS[0]
    )
}
