//! Unmodified SOFARPC applications that know no registry but their sidecars (`mesh`): a provider and a consumer, each with a
//! sidecar beside it, and a real `ZooKeeper` between the sidecars.
//!
//! The applications say once what they give and want, and the port of their calls (12220) is SOFARPC's own: so all of it runs
//! in a network of its own. Whoever is killed comes back without the others doing anything. No time is asserted. Source:
//! SOFARPC 5.13.2 itself, as it is built by `tests/setup.sh`.

#[path = "../support/mod.rs"]
mod support;
#[path = "../registry_failures/zookeeper.rs"]
#[allow(dead_code, reason = "it can do more than is needed here")]
mod zookeeper;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::netns::{self, ADDRESS};
use support::peers::Peer;
use support::{Child, Process, Sidecar, TempDir, free_port, tail, within};

/// How long news may take, a session that ends among them; and until SOFARPC dials again what it lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long whoever is asked to leave may take.
const LEAVE_MAX: Duration = Duration::from_secs(40);
/// Where each application's sidecar hears it.
const HEARS: [u16; 2] = [13330, 13331];
/// The provider's ports: the usual one, which it does not say, and another, which it says.
const PORTS: [u16; 2] = [12200, 12202];
/// Where callers find the provider.
const INGRESS: u16 = 12201;
const SERVICE: &str = "peer.api.DemoService";

struct Stage {
    registry: SocketAddr,
    /// Beside the provider, and beside the consumer.
    sidecars: [Sidecar; 2],
    confs: [String; 2],
    provider: Process,
    consumer: Process,
    _zookeeper: Child,
    _state: TempDir,
}

#[test]
fn applications_that_know_no_registry_but_their_sidecars() {
    netns::inside("applications_that_know_no_registry_but_their_sidecars", || {
        let mut stage = Stage::begin();
        calls_flow(&mut stage);
        the_sidecars_are_killed(&mut stage);
        the_provider_is_killed(&mut stage);
        the_applications_leave(stage);
    });
}

fn calls_flow(stage: &mut Stage) {
    // The consumer knew where to call before its first call.
    for (line, by) in [("who", "blue"), ("green", "green"), ("echo hello", "hello"), ("generic x", "x")] {
        assert_eq!(stage.consumer.ask(line)["value"], by, "{line}");
    }
    assert_eq!(stage.consumer.ask("parallel 50")["value"], "own=50 other=0 failed=none");
    assert_eq!(stage.learned(0, "published"), 2);
    // Three proxies want one service, one its twin, one a service that nobody gives.
    assert_eq!(stage.learned(1, "subscribed"), 3);
    let calls: u64 = stage.sidecars[0].metric("outrigger_requests_total", &["listener=\"ingress\""]);
    assert!(calls >= 50, "calls come through both: {calls}");
}

/// Both at once; the applications are told nothing.
fn the_sidecars_are_killed(stage: &mut Stage) {
    for sidecar in &mut stage.sidecars {
        sidecar.signal("KILL");
        sidecar.wait(PATIENCE);
    }
    stage.sidecars = [Sidecar::start(&stage.confs[0]), Sidecar::start(&stage.confs[1])];
    until("both services are registered by the new process", || {
        let page = stage.sidecars[0].admin_get("/registries").1;
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let all = page["registered"].as_object().expect("what is registered");
        let done = |one: &Value| one.get("why_not").is_none() && one["registries"][0]["pending"] == 0;
        all.len() == 2 && all.values().all(|one| one["learned"] == true && done(one))
    });
    stage.is_answered("who", "blue");
    stage.is_answered("green", "green");
    assert_eq!(stage.learned(1, "subscribed"), 3);
}

/// It says nothing when it goes: its sidecar sees that it does not answer, and forgets nothing.
fn the_provider_is_killed(stage: &mut Stage) {
    stage.provider.kill();
    until("nobody is registered", || stage.registered().is_empty());
    assert_eq!((stage.learned(0, "published"), stage.learned(0, "registered")), (2, 0));
    assert_eq!(stage.consumer.ask("who")["ok"], false);
    stage.provider = Process::start("the provider, once more", &mut provider());
    until("both are registered again", || stage.registered() == both());
    stage.is_answered("who", "blue");
    stage.is_answered("green", "green");
}

fn the_applications_leave(mut stage: Stage) {
    assert_eq!(stage.provider.ask("unexport")["value"], "taken back");
    until("it is not given any more", || stage.learned(0, "published") == 1);
    until("it is not registered any more", || stage.registered() == BTreeSet::from(["green".to_owned()]));
    stage.is_answered("green", "green");
    stage.provider.term(LEAVE_MAX);
    until("nothing is given any more", || stage.learned(0, "published") == 0);
    until("nobody is registered", || stage.registered().is_empty());
    stage.consumer.term(LEAVE_MAX);
    until("nothing is wanted any more", || stage.learned(1, "subscribed") == 0);
    for sidecar in &mut stage.sidecars {
        sidecar.assert_running();
    }
}

impl Stage {
    fn begin() -> Self {
        let (zookeeper, registry) = start_registry();
        let state = TempDir::new();
        let confs = [conf_of_provider(registry, state.path()), conf_of_consumer(registry, state.path())];
        let sidecars = [Sidecar::start(&confs[0]), Sidecar::start(&confs[1])];
        let provider = Process::start("the provider", &mut provider());
        until("both services are registered", || registered(registry) == both());
        let consumer = Process::start("the consumer", &mut consumer());
        Self { registry, sidecars, confs, provider, consumer, _zookeeper: zookeeper, _state: state }
    }

    /// Who is registered, by unique id, all of them where the provider's sidecar listens.
    fn registered(&self) -> BTreeSet<String> {
        registered(self.registry)
    }

    fn learned(&self, sidecar: usize, kind: &str) -> u64 {
        self.sidecars[sidecar].metric("outrigger_learned", &[&format!("kind=\"{kind}\"")])
    }

    /// Calls until this one answers.
    #[track_caller]
    fn is_answered(&mut self, line: &str, by: &str) {
        let mut last = Value::Null;
        let came = within(PATIENCE, || {
            last = self.consumer.ask(line);
            last["value"] == by
        });
        assert!(came, "{line} is not answered by {by}: {last}");
    }
}

#[track_caller]
fn until(what: &str, done: impl FnMut() -> bool) {
    assert!(within(PATIENCE, done), "{what}: not within {PATIENCE:?}");
}

fn both() -> BTreeSet<String> {
    ["", "green"].map(str::to_owned).into()
}

fn registered(registry: SocketAddr) -> BTreeSet<String> {
    let nodes = zookeeper::children(registry, &format!("/sofa-rpc/{SERVICE}/providers"));
    let place = format!("bolt%3A%2F%2F{ADDRESS}%3A{INGRESS}%3F");
    let unique_id = |name: &String| {
        assert!(name.starts_with(&place), "who is that: {name}");
        assert!(name.contains("appName%3Dpeer-provider"), "whose is that: {name}");
        let rest = name.split_once("uniqueId%3D").expect("a unique id").1;
        rest.split("%26").next().unwrap_or_default().to_owned()
    };
    nodes.expect("the registry answers").iter().map(unique_id).collect()
}

fn start_registry() -> (Child, SocketAddr) {
    let dir = netns::dir();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let log = dir.join("zookeeper.log");
    let file = File::create(&log).expect("a log can be created");
    let errors = file.try_clone().expect("a file can be shared");
    let mut command = zookeeper::command(&dir, at.port());
    command.stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
    let mut child = Child::spawn(&mut command);
    let up = within(PATIENCE, || child.ended().is_some() || zookeeper::answers(at));
    assert!(up && child.ended().is_none(), "ZooKeeper did not start:\n{}", tail(&log));
    (child, at)
}

fn provider() -> Command {
    let mut command = Peer::Sofa.java("peer.SofaProvider");
    command.args(["--registry", &format!("mesh://http://127.0.0.1:{}", HEARS[0]), "--app", "peer-provider"]);
    let [port, green] = PORTS.map(|port| port.to_string());
    command.args(["--name", "blue", "--port", &port, "--green-port", &green]);
    command
}

fn consumer() -> Command {
    let mut command = Peer::Sofa.java("peer.SofaConsumer");
    command.args(["--registry", &format!("mesh://http://127.0.0.1:{}", HEARS[1]), "--address-wait", "5000"]);
    command
}

fn conf(registry: SocketAddr, state: &Path, name: &str, rest: &str) -> String {
    let (admin, state) = (free_port(), state.join(name));
    format!(
        "app: {name}\nadmin: 127.0.0.1:{admin}\nworkers: 1\nstate: {}\npropagation: 0s\nregistries:\n  \
         zk: {{ zookeeper: {{ address: '{registry}', session_timeout: 4s, hold_empty: 0s }} }}\n{rest}",
        state.display()
    )
}

fn conf_of_provider(registry: SocketAddr, state: &Path) -> String {
    let ([port, green], hears) = (PORTS, HEARS[0]);
    let rest = format!(
        "learn:\n  sofarpc: {{ bind: '127.0.0.1:{hears}', in: zk, host: {ADDRESS}, port: {INGRESS} }}\n\
         listeners:\n  ingress:\n    bind: {ADDRESS}:{INGRESS}\n    protocol: bolt\n    routes:\n      \
         - {{ match: {{ version: '1.0:green' }}, to: green }}\n      - {{ to: app }}\n\
         clusters:\n  app: {{ endpoints: ['127.0.0.1:{port}'] }}\n  green: {{ endpoints: ['127.0.0.1:{green}'] }}\n"
    );
    conf(registry, state, "provider", &rest)
}

fn conf_of_consumer(registry: SocketAddr, state: &Path) -> String {
    let hears = HEARS[1];
    // It gives nothing; what is said of a listener is for whoever would.
    let rest = format!(
        "learn:\n  sofarpc: {{ bind: '127.0.0.1:{hears}', in: zk, host: {ADDRESS}, port: 12301 }}\n\
         listeners:\n  egress:\n    bind: 127.0.0.1:12220\n    protocol: bolt\n    routes: [{{ to: {{ service: zk }} }}]\n"
    );
    conf(registry, state, "consumer", &rest)
}
