//! One framework's applications: a pair of providers and their consumers, the sidecars of both, and what each step does to them.
//!
//! Programs are changed by starting others with other flags, sidecars by reloading other confs. Must never stop anything that
//! the guide does not stop, nor in another order.

use super::calls::{Consumer, LEAVE_MAX, PATIENCE};
use super::confs::{Beside, Front, HOSTS, NC, ZK};
use super::entries;
use super::java::{APP, Java, Registry};
use super::servers::{NACOS, ZOOKEEPER};
use super::support::peers::{LOOPBACK_NAME, Peer};
use super::support::{Process, Sidecar, free_port, run, within};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

/// What the providers that register themselves answer when they are asked who they are.
const OWN: [&str; 2] = ["a", "b"];
/// What those behind a sidecar answer.
const BEHIND: [&str; 2] = ["a-behind", "b-behind"];
/// How long the product's own commands may take.
const ASK_MAX: Duration = Duration::from_secs(20);
/// What only a copy by a bridge says of itself.
const MARK: &str = "outrigger.bridge";

pub(crate) struct Family {
    pub(crate) java: Java,
    /// Those that register themselves.
    own: Vec<Process>,
    own_ports: [u16; 2],
    /// Those behind a sidecar, and the sidecars.
    behind: Vec<Process>,
    beside: [Beside; 2],
    sidecars: Vec<Sidecar>,
    front: Front,
    caller: Option<Sidecar>,
    /// Finds its providers in `ZooKeeper` by itself.
    first: Option<Consumer>,
    /// Calls through its sidecar.
    second: Option<Consumer>,
    /// Finds its providers in Nacos by itself.
    other: Option<Consumer>,
    /// One that does not call yet.
    coming: Option<Consumer>,
}

impl Family {
    /// Two providers register themselves in `ZooKeeper`, a consumer finds them.
    pub(crate) fn begin(java: Java) -> Self {
        let beside = HOSTS.map(|host| Beside::new(java, host, free_port()));
        let mut family = Self {
            java,
            own: Vec::new(),
            own_ports: [free_port(), free_port()],
            behind: Vec::new(),
            beside,
            sidecars: Vec::new(),
            front: Front::new(java),
            caller: None,
            first: None,
            second: None,
            other: None,
            coming: None,
        };
        family.own = family.spawn_own();
        let first = family.spawn_first();
        family.own.iter().for_each(|process| drop(process.ready()));
        family.are_known(Registry::ZooKeeper, &family.own_addresses());
        family.first = Some(first.flow());
        family.each(|consumer| consumer.is_answered_by(&OWN));
        family
    }

    /// A sidecar runs beside the consumer, and nobody calls through it.
    pub(crate) fn observe(&mut self) {
        self.caller = Some(Sidecar::start(&self.front.finds_in(ZK, false)));
        let own = self.own_addresses();
        // What the guide says one should look at. Dubbo makes an application known a little after its interfaces.
        let question = ["registry", "get", "--framework", self.java.framework(), self.java.service()];
        let mut printed = String::new();
        let all = within(PATIENCE, || {
            printed = self.asks(&question);
            own.iter().all(|address| printed.contains(address.as_str()))
        });
        assert!(all, "{own:?}: {printed}");
        self.finds(&own);
        let (code, page) = self.caller().admin_get("/registries");
        assert!(code == 200 && page.contains(self.java.service()), "{page}");
        assert_eq!(self.carried(), 0, "nobody calls through it");
    }

    /// A consumer that calls through its sidecar is started. Of SOFARPC the other one leaves: its providers say no goodbye, so
    /// nobody is to call them directly when they are started anew.
    pub(crate) fn call_through_the_sidecar(&mut self, step: &str) {
        let url = match self.java {
            Java::Sofa => format!("bolt://127.0.0.1:{}", self.front.port),
            _ => format!("dubbo://{LOOPBACK_NAME}:{}", self.front.port),
        };
        let second = self.spawn("through its sidecar", &["--url", &url]);
        // They are not called before the next step; to start takes long.
        self.behind = self.spawn_behind();
        self.second = Some(second.flow());
        self.each(|consumer| consumer.is_answered_by(&OWN));
        assert!(self.carried() > 0, "its calls are counted");
        if self.java == Java::Sofa {
            self.first_leaves(step);
        }
    }

    /// Each provider is started anew behind a sidecar that makes it known, and the old one leaves when the new one is called.
    pub(crate) fn be_registered(&mut self) {
        let mut leaving = None;
        for at in 0..2 {
            self.behind[at].ready();
            self.sidecars.push(Sidecar::start(&self.beside[at].registers_in(&[ZK])));
            let left = if self.java == Java::Sofa { 0 } else { at };
            let known = [&self.own_addresses()[left..], &self.beside_addresses()].concat();
            self.are_known(Registry::ZooKeeper, &known);
            self.finds(&known);
            self.each(|consumer| consumer.is_answered_also_by(&BEHIND[at..=at]));
            if self.java != Java::Sofa {
                // One at a time: the last one has left before.
                drop(leaving.take().map(JoinHandle::join));
                let mut own = self.own.remove(0);
                leaving = Some(std::thread::spawn(move || own.term(LEAVE_MAX)));
            }
        }
        assert!(leaving.map(JoinHandle::join).is_none_or(|left| left.is_ok()), "it did not leave");
        if self.java == Java::Sofa {
            self.caller().reload(&self.front.finds_in(ZK, true));
            self.each(|consumer| consumer.is_answered_by(&BEHIND));
            for own in &mut self.own {
                own.term(LEAVE_MAX);
            }
        }
        self.own.clear();
        self.are_those_behind(&[(Registry::ZooKeeper, false)]);
        self.each(|consumer| consumer.is_answered_by(&BEHIND));
    }

    /// A consumer that looks in Nacos is started, where nobody is yet.
    pub(crate) fn other_starts(&mut self) {
        self.coming = Some(self.spawn("by Nacos", &["--registry", &format!("nacos://{NACOS}")]));
    }

    /// Carried into Nacos by a bridge, they are found there by a consumer that knows nothing else.
    pub(crate) fn be_found_in_nacos(&mut self) {
        self.are_found_in_both();
        self.other = self.coming.take().map(Consumer::flow);
        self.each(|consumer| consumer.is_answered_by(&BEHIND));
    }

    /// Originals in `ZooKeeper`, copies in Nacos.
    pub(crate) fn are_found_in_both(&self) {
        self.are_those_behind(&[(Registry::ZooKeeper, false), (Registry::Nacos, true)]);
    }

    /// The sidecars make known and find in Nacos instead of `ZooKeeper`; those who look in `ZooKeeper` find copies.
    pub(crate) fn change_to_nacos(&mut self) {
        self.change(ZK, NC);
        self.are_those_behind(&[(Registry::ZooKeeper, true), (Registry::Nacos, false)]);
    }

    /// In both, found in the other one, and then the old one is left: one provider after the other, as there is a moment in
    /// which neither it nor its copy stands there.
    fn change(&mut self, from: &str, to: &str) {
        for (sidecar, beside) in self.sidecars.iter().zip(&self.beside) {
            sidecar.reload(&beside.registers_in(&[from, to]));
        }
        self.are_those_behind(&[(Registry::ZooKeeper, false), (Registry::Nacos, false)]);
        self.caller().reload(&self.front.finds_in(to, false));
        self.finds(&self.beside_addresses());
        self.each(|consumer| consumer.is_answered_by(&BEHIND));
        let left = if from == ZK { Registry::ZooKeeper } else { Registry::Nacos };
        for (sidecar, beside) in self.sidecars.iter().zip(&self.beside) {
            sidecar.reload(&beside.registers_in(&[to]));
            let mut last = Vec::new();
            let came = within(PATIENCE, || {
                last = entries::of(self.java, left, self.java.services()[0]);
                let mine = last.iter().find(|entry| entry.address == beside.address());
                mine.is_some_and(|entry| entry.fields.contains_key(MARK))
            });
            assert!(came, "no copy of {} stands in {left:?}: {last:#?}", beside.address());
            for one in [&mut self.first, &mut self.second, &mut self.other].into_iter().flatten() {
                one.is_answered_also_by(&BEHIND);
            }
        }
    }

    /// The consumer that looks in `ZooKeeper` leaves.
    pub(crate) fn first_leaves(&mut self, step: &str) {
        if let Some(first) = self.first.take() {
            first.end(step);
        }
    }

    /// One that looks in `ZooKeeper` is started again.
    pub(crate) fn first_starts(&mut self) {
        self.coming = Some(self.spawn_first());
    }

    /// It finds copies there.
    pub(crate) fn first_comes_back(&mut self) {
        self.are_those_behind(&[(Registry::ZooKeeper, true), (Registry::Nacos, false)]);
        self.first = self.coming.take().map(Consumer::flow);
        self.each(|consumer| consumer.is_answered_by(&BEHIND));
    }

    /// The sidecars make known and find in `ZooKeeper` again.
    pub(crate) fn change_to_zookeeper(&mut self) {
        self.change(NC, ZK);
        self.are_those_behind(&[(Registry::ZooKeeper, false), (Registry::Nacos, true)]);
    }

    /// The consumer that looks in Nacos leaves.
    pub(crate) fn other_leaves(&mut self, step: &str) {
        if let Some(other) = self.other.take() {
            other.end(step);
        }
    }

    /// Each provider is started anew and registers itself, and when it is called the sidecar of the old one leaves, then the old
    /// one.
    pub(crate) fn register_themselves(&mut self) {
        self.own = self.spawn_own();
        self.own.iter().for_each(|process| drop(process.ready()));
        let known = [self.own_addresses(), self.beside_addresses()].concat();
        self.are_known(Registry::ZooKeeper, &known);
        self.finds(&known);
        self.each(|consumer| consumer.is_answered_also_by(&OWN));
        std::thread::scope(|scope| {
            for (mut sidecar, mut behind) in self.sidecars.drain(..).zip(self.behind.drain(..)) {
                sidecar.term();
                let status = sidecar.wait(LEAVE_MAX);
                assert!(status.success(), "{status}");
                // Nobody calls it any more: nothing waits for its end.
                scope.spawn(move || behind.term(LEAVE_MAX));
            }
        });
        self.are_known(Registry::ZooKeeper, &self.own_addresses());
        self.finds(&self.own_addresses());
        self.each(|consumer| consumer.is_answered_by(&OWN));
    }

    /// Consumers call as they did before there were sidecars, which leave.
    pub(crate) fn call_themselves(&mut self, step: &str) {
        if self.first.is_none() {
            self.first = Some(self.spawn_first().flow());
        }
        if let Some(second) = self.second.take() {
            second.end(step);
        }
        let mut caller = self.caller.take().expect("it runs");
        caller.term();
        let status = caller.wait(LEAVE_MAX);
        assert!(status.success(), "{status}");
        self.each(|consumer| consumer.is_answered_by(&OWN));
    }

    /// Every consumer there is goes on calling; how many calls each made since the last look, by what it is.
    pub(crate) fn go_on(&mut self, step: &str) -> Vec<(&'static str, u64)> {
        let all = [("first", &mut self.first), ("second", &mut self.second), ("other", &mut self.other)];
        all.into_iter().filter_map(|(name, one)| Some((name, one.as_mut()?.goes_on(step)))).collect()
    }

    fn each(&mut self, what: impl FnMut(&mut Consumer)) {
        [&mut self.first, &mut self.second, &mut self.other].into_iter().flatten().for_each(what);
    }

    fn caller(&self) -> &Sidecar {
        self.caller.as_ref().expect("it runs")
    }

    /// How many calls have come through the consumer's sidecar.
    fn carried(&self) -> u64 {
        self.caller().metric("outrigger_requests_total", &["listener=\"egress\""])
    }

    fn own_addresses(&self) -> Vec<String> {
        HOSTS.iter().zip(self.own_ports).map(|(host, port)| format!("{host}:{port}")).collect()
    }

    /// Those of the sidecars that run.
    fn beside_addresses(&self) -> Vec<String> {
        self.beside.iter().take(self.sidecars.len()).map(Beside::address).collect()
    }
}

/// What stands in the registries, and what is found there.
impl Family {
    /// Waits until exactly these stand in a registry, as it says itself.
    #[track_caller]
    fn are_known(&self, registry: Registry, addresses: &[String]) {
        let wanted: BTreeSet<&str> = addresses.iter().map(String::as_str).collect();
        let mut last = Vec::new();
        let came = within(PATIENCE, || {
            last = entries::of(self.java, registry, self.java.services()[0]);
            last.iter().map(|entry| entry.address.as_str()).collect::<BTreeSet<_>>() == wanted
        });
        assert!(came, "{registry:?} knows others than {addresses:?}: {last:#?}");
    }

    /// Waits until those behind the sidecars, and nobody else, stand in these registries, as copies or as what they are.
    #[track_caller]
    fn are_those_behind(&self, registries: &[(Registry, bool)]) {
        let wanted = self.beside_addresses();
        for (registry, copies) in registries {
            let mut last = Vec::new();
            let came = within(PATIENCE, || {
                last = entries::of(self.java, *registry, self.java.services()[0]);
                let addresses = last.iter().map(|entry| &entry.address);
                addresses.collect::<BTreeSet<_>>() == wanted.iter().collect::<BTreeSet<_>>()
                    && last.iter().all(|entry| entry.fields.contains_key(MARK) == *copies)
            });
            assert!(came, "{registry:?} knows others than {wanted:?} (copies: {copies}): {last:#?}");
        }
    }

    /// Waits until the consumer's sidecar has found exactly these.
    #[track_caller]
    fn finds(&self, addresses: &[String]) {
        let wanted: BTreeSet<&str> = addresses.iter().map(String::as_str).collect();
        let mut page = Value::Null;
        let came = within(PATIENCE, || {
            page = self.caller().cluster("demo");
            let endpoints = page["endpoints"].as_array().into_iter().flatten();
            endpoints.filter_map(|one| one["address"].as_str()).collect::<BTreeSet<_>>() == wanted
        });
        assert!(came, "the sidecar found others than {addresses:?}: {page}");
    }

    /// What a command of the product prints that reads the consumer's conf.
    fn asks(&self, words: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(words).arg("-c").arg(self.caller().conf_path());
        let ran = run(&mut command, ASK_MAX);
        assert!(ran.ok, "{words:?}: {}", ran.said);
        ran.said
    }
}

/// The programs.
impl Family {
    fn spawn_own(&self) -> Vec<Process> {
        let one = |(name, (host, port)): (&str, (&str, u16))| {
            let mut command = self.provider(name, host, port);
            command.args(["--registry", &format!("zookeeper://{ZOOKEEPER}")]);
            Process::spawn(&format!("{name} of {:?}", self.java), &mut command)
        };
        OWN.into_iter().zip(HOSTS.into_iter().zip(self.own_ports)).map(one).collect()
    }

    fn spawn_behind(&self) -> Vec<Process> {
        let loopback = if self.java == Java::Sofa { "127.0.0.1" } else { LOOPBACK_NAME };
        let one = |(name, beside): (&str, &Beside)| {
            let mut command = self.provider(name, loopback, beside.local);
            command.args(["--registry", &format!("zookeeper://{ZOOKEEPER}"), "--register", "false"]);
            Process::spawn(&format!("{name} of {:?}", self.java), &mut command)
        };
        BEHIND.into_iter().zip(&self.beside).map(one).collect()
    }

    fn provider(&self, name: &str, host: &str, port: u16) -> Command {
        let mut command = self.program("Provider");
        command.args(["--name", name, "--app", APP, "--host", host, "--port", &port.to_string()]);
        if self.java != Java::Sofa {
            command.args(["--version", "1.0.0"]);
        }
        command
    }

    fn program(&self, role: &str) -> Command {
        match self.java {
            Java::Sofa => Peer::Sofa.java(&format!("peer.Sofa{role}")),
            Java::Dubbo27 => Peer::Dubbo27.java(&format!("peer.{role}")),
            _ => Peer::Dubbo33.java(&format!("peer.{role}")),
        }
    }

    fn spawn_first(&self) -> Consumer {
        self.spawn("by ZooKeeper", &["--registry", &format!("zookeeper://{ZOOKEEPER}")])
    }

    fn spawn(&self, what: &str, arguments: &[&str]) -> Consumer {
        let mut command = self.program("Consumer");
        command.args(arguments);
        if self.java != Java::Sofa {
            command.args(["--version", "1.0.0"]);
            if arguments.contains(&"--registry") {
                // The framework's own default, without which it fails calls by itself when somebody leaves.
                command.args(["--retries", "2"]);
            }
        }
        Consumer::spawn(&format!("{:?} {what}", self.java), &mut command)
    }
}
