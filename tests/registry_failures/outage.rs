//! One registry that is killed and comes back, and hangs and goes on, among sidecars of all kinds.
//!
//! An outage lasts longer than a session, and much happens in it: a process starts, an application dies, a conf is changed, a
//! sidecar is told to end. Afterwards all of it must be as if the registry had been there.

use super::etcd;
use super::registry::{Kind, Server};
use super::support::echo::Upstream;
use super::support::{Ran, Sidecar, TempDir, run};
use super::world::{Conf, LOOK, PATIENCE, Provider, Traffic, until, until_within};
use std::process::Command;
use std::time::{Duration, Instant};

const ECHOES: &str = "t.Echo";
/// How long a registry is away that is killed: what is promised is promised after a whole minute. By then every session and every
/// lease has ended, who keeps a slice has missed its beats, and tries to reach the registry are as rare as they get.
const AWAY: Duration = Duration::from_secs(60);
/// A registry that is back has everything back within this.
const BACK_MAX: Duration = Duration::from_secs(10);
/// A process that remembers is ready within this, though its registry is down: one that does not waits for longer.
const READY_MAX: Duration = Duration::from_secs(3);
/// A process that may drain for four seconds has ended within this.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// That a server is another one is known within this: a sidecar asks every ten seconds, and by itself a watch lasts for sixty.
const REPLACED_MAX: Duration = Duration::from_secs(30);

/// What all outages have: two providers, and a caller that never stops.
struct Stage {
    providers: [Provider; 2],
    caller: Sidecar,
    conf: Conf,
    traffic: Traffic,
}

pub(crate) fn story(server: &mut Server) {
    let providers = [0, 1].map(|_| Provider::start(server, ECHOES));
    let conf = Conf::new(server).calls(ECHOES);
    let caller = conf.start();
    caller.until_endpoints("up", 2);
    let traffic = Traffic::start(server.kind, conf.port);
    traffic.goes_on("before anything happens");
    let stage = Stage { providers, caller, conf, traffic };
    killed(server, &stage);
    frozen(server, &stage);
    match server.kind {
        Kind::Etcd => forgotten(server, &stage),
        Kind::Kubernetes => replaced(server, &stage),
        Kind::ZooKeeper | Kind::Nacos => {}
    }
    stage.traffic.end(&format!("{}, killed and frozen", server.kind.name()));
}

fn killed(server: &mut Server, stage: &Stage) {
    let bystanders = Bystanders::before(server);
    server.kill();
    let killed = Instant::now();
    let bystanders = during(server, stage, bystanders);
    assert!(!asked(stage).ok, "nobody can be asked");
    while killed.elapsed() < AWAY {
        assert_eq!(
            stage.caller.endpoints("up"),
            2,
            "trouble must not empty a cluster, however long it lasts"
        );
        std::thread::sleep(LOOK);
    }
    stage.traffic.goes_on("after a minute without a registry");
    server.run();
    after(server, stage, bystanders);
}

fn frozen(server: &mut Server, stage: &Stage) {
    let bystanders = Bystanders::before(server);
    server.freeze();
    let bystanders = during(server, stage, bystanders);
    server.thaw();
    after(server, stage, bystanders);
}

/// In a gap one comes, and the server forgets all that was before now.
fn forgotten(server: &mut Server, stage: &Stage) {
    let app = Upstream::start_outside();
    server.kill();
    until("the loss is seen", || stage.caller.is_lost());
    server.elsewhere(|at| {
        etcd::put(at, ECHOES, &app.address());
        etcd::forget(at);
    });
    server.run();
    until_within(BACK_MAX, "who came is found", || stage.caller.endpoints("up") == 3);
    until("who came is called", || app.calls() > 0);
    // And it goes on from there.
    server.take(ECHOES, &[&app.address()]);
    stage.caller.until_endpoints("up", 2);
    stage.traffic.goes_on("when the server had forgotten what was before");
}

/// An API server is told to end, and another takes its place at once: the first may hold watches open, and tells nothing there.
fn replaced(server: &mut Server, stage: &Stage) {
    let app = Upstream::start_outside();
    server.term();
    server.run();
    server.put(ECHOES, &[&app.address()]);
    until_within(REPLACED_MAX, "who came is found", || stage.caller.endpoints("up") == 3);
    until("who came is called", || app.calls() > 0);
    // And it goes on from there.
    server.take(ECHOES, &[&app.address()]);
    stage.caller.until_endpoints("up", 2);
    stage.traffic.goes_on("with another server in the place of the first");
    back(server, stage);
}

fn during(server: &Server, stage: &Stage, bystanders: Bystanders) -> Bystanders {
    until("the loss is seen", || stage.caller.is_lost());
    let bystanders = bystanders.during();
    std::thread::sleep(server.kind.past_the_session());
    stage.traffic.goes_on("while there is no registry");
    assert_eq!(stage.caller.endpoints("up"), 2, "trouble must not empty a cluster");
    bystanders
}

fn after(server: &Server, stage: &Stage, bystanders: Bystanders) {
    back(server, stage);
    bystanders.after(server);
    let told = asked(stage);
    let [one, two] = [0, 1].map(|at| stage.providers[at].address());
    assert!(told.ok && told.said.contains(&one) && told.said.contains(&two), "{}", told.said);
    changes_are_seen(server, stage);
}

/// What `outrigger registry get` says of the service.
fn asked(stage: &Stage) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.args(["registry", "get", ECHOES, "--timeout", "5", "--framework", stage.conf.kind.framework()]);
    run(command.arg("-c").arg(stage.caller.conf_path()), PATIENCE)
}

/// What was registered is there again, each once, and stays so when the sessions of before have ended.
fn back(server: &Server, stage: &Stage) {
    let [one, two] = [0, 1].map(|at| stage.providers[at].address());
    let registered = || stage.providers.iter().all(|provider| provider.sidecar.is_registered());
    until_within(BACK_MAX, "all is registered again, and the caller is back", || {
        registered() && !stage.caller.is_lost() && server.lists(ECHOES, &[&one, &two])
    });
    server.keeps(ECHOES, &[&one, &two]);
    stage.traffic.goes_on("when the registry is back");
    until("nothing is held back any more", || stage.caller.watch("up")["held"] == false);
    stage.caller.until_endpoints("up", 2);
}

/// A third provider comes, is called, and goes.
fn changes_are_seen(server: &Server, stage: &Stage) {
    let third = Provider::start(server, ECHOES);
    stage.caller.until_endpoints("up", 3);
    until("the third one is called", || third.app.calls() > 0);
    third.leaves();
    stage.caller.until_endpoints("up", 2);
    stage.traffic.goes_on("when one came and went");
}

/// To whom something happens in an outage.
struct Bystanders {
    remembered: Remembered,
    silenced: Silenced,
    forgotten: Forgotten,
    leaving: Option<Provider>,
}

const LEAVING: &str = "t.Leaving";

impl Bystanders {
    fn before(server: &Server) -> Self {
        let leaving = Conf::new(server).drains("4s").of("leaving").in_pod();
        Self {
            remembered: Remembered::before(server),
            silenced: Silenced::before(server),
            forgotten: Forgotten::before(server),
            leaving: Some(Provider::start_by(server, LEAVING, leaving)),
        }
    }

    fn during(mut self) -> Self {
        self.remembered.during();
        self.silenced.during();
        self.forgotten.during();
        // Nobody can be told; that must not keep it.
        let leaving = self.leaving.take().expect("it runs");
        let mut client = leaving.sidecar.client();
        client.well(leaving.conf.kind.wire(), 1);
        leaving.leaves_within(LEAVE_MAX);
        self
    }

    fn after(self, server: &Server) {
        self.remembered.after();
        self.silenced.after(server);
        self.forgotten.after(server);
        server.pod_is_gone();
        until("who left is taken back", || server.lists(LEAVING, &[]));
    }
}

/// A process that is started in the outage, with what it knew before.
struct Remembered {
    conf: Conf,
    started: Option<(Sidecar, Traffic)>,
    _state: TempDir,
}

impl Remembered {
    fn before(server: &Server) -> Self {
        let state = TempDir::new();
        let mut conf = Conf::new(server).calls(ECHOES);
        conf.state = state.path().display().to_string();
        let mut first = conf.start();
        first.until_endpoints("up", 2);
        assert_eq!(first.watch("up")["stale"], false);
        first.term();
        assert!(first.wait(PATIENCE).success());
        Self { conf, started: None, _state: state }
    }

    fn during(&mut self) {
        let sidecar = Sidecar::start_within(READY_MAX, &self.conf.text(), |_| ());
        sidecar.client().well(self.conf.kind.wire(), 1);
        assert_eq!(sidecar.endpoints("up"), 2);
        assert_eq!(sidecar.watch("up")["stale"], true, "{}", sidecar.registries());
        let traffic = Traffic::start(self.conf.kind, self.conf.port);
        traffic.goes_on("by what is remembered");
        self.started = Some((sidecar, traffic));
    }

    fn after(self) {
        let (sidecar, traffic) = self.started.expect("it was started in the outage");
        until("what was remembered is confirmed", || sidecar.watch("up")["stale"] == false);
        sidecar.until_endpoints("up", 2);
        traffic.end("a process that remembered");
    }
}

/// An application that dies in the outage.
struct Silenced {
    provider: Provider,
}

const SILENCED: &str = "t.Silenced";

impl Silenced {
    fn before(server: &Server) -> Self {
        Self { provider: Provider::start(server, SILENCED) }
    }

    fn during(&mut self) {
        self.provider.app.stop();
        until("its end is noticed", || self.provider.sidecar.why_not().is_some());
    }

    fn after(self, server: &Server) {
        until("it is taken back", || server.lists(SILENCED, &[]));
        server.keeps(SILENCED, &[]);
        assert!(self.provider.sidecar.why_not().is_some());
    }
}

/// A sidecar whose conf registers nothing any more, since the outage.
struct Forgotten {
    provider: Provider,
}

const FORGOTTEN: &str = "t.Forgotten";

impl Forgotten {
    fn before(server: &Server) -> Self {
        Self { provider: Provider::start(server, FORGOTTEN) }
    }

    fn during(&self) {
        let Provider { sidecar, conf, .. } = &self.provider;
        sidecar.reload(&conf.clone().registers_nothing().text());
        assert_eq!(sidecar.registries()["registered"], serde_json::json!({}));
    }

    fn after(self, server: &Server) {
        until("it is taken back", || server.lists(FORGOTTEN, &[]));
        server.keeps(FORGOTTEN, &[]);
        assert_eq!(self.provider.sidecar.admin_get("/ready").0, 200);
    }
}
