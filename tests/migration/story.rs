//! The order, forward and back. Both frameworks' applications go each step at the same time, as they share the registries.
//!
//! Must never go on to the next step before every consumer has called in this one.

use super::confs;
use super::family::Family;
use super::java::Java;
use super::servers::{NACOS, Server, ZOOKEEPER};
use super::support::{Sidecar, run, within};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a bridge may take to do what it is to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a sidecar can be to a bridge.
const ROLES: [&str; 3] = ["leading", "standby", "frozen"];
/// The service of all programs.
const SERVICE: &str = "peer.api.DemoService";
/// How long `ZooKeeper` is off: longer than any session with it lasts.
const OFF: Duration = Duration::from_secs(8);

pub(crate) fn tell() {
    let mut story = Story::begin();
    story.step("0 start", |_, _| ());
    story.step("1 observe", |family, _| family.observe());
    story.step("2 consumer", Family::call_through_the_sidecar);
    story.step("3 provider", |family, _| family.be_registered());
    story.families.iter_mut().for_each(Family::other_starts);
    let mut bridges = Bridges::start(&story.families);
    story.step("4 bridge", |family, _| family.be_found_in_nacos());
    bridges.one_leaves();
    story.step("4 the other bridge", |family, _| family.are_found_in_both());
    story.step("5 Nacos", |family, _| family.change_to_nacos());
    story.step("5 nobody in ZooKeeper", Family::first_leaves);
    bridges.end();
    story.zookeeper.stop();
    story.step("5 ZooKeeper is off", |_, _| std::thread::sleep(OFF));
    story.zookeeper.start();
    story.zookeeper.ready();
    story.families.iter_mut().for_each(Family::first_starts);
    let bridges = Bridges::start(&story.families);
    story.step("6 bridge", |family, _| family.first_comes_back());
    story.step("6 ZooKeeper", |family, _| family.change_to_zookeeper());
    story.step("6 nobody in Nacos", Family::other_leaves);
    bridges.end();
    story.step("6 provider", |family, _| family.register_themselves());
    story.step("6 consumer", Family::call_themselves);
}

/// Whose applications go: `MIGRATION_OF=dubbo27` has others go than usual.
fn asked_for() -> Vec<Java> {
    match std::env::var("MIGRATION_OF").as_deref() {
        Ok("dubbo33") => vec![Java::Dubbo33],
        Ok("dubbo27") => vec![Java::Dubbo27],
        Ok("sofarpc") => vec![Java::Sofa],
        Ok(other) => panic!("MIGRATION_OF={other}: expected dubbo33, dubbo27 or sofarpc"),
        Err(_) => vec![Java::Dubbo33, Java::Sofa],
    }
}

struct Story {
    zookeeper: Server,
    _nacos: Server,
    families: Vec<Family>,
    began: Instant,
}

impl Story {
    fn begin() -> Self {
        let began = Instant::now();
        let second = ["addr", "add", &format!("{}/32", confs::HOSTS[1]), "dev", "lo"];
        let added = Command::new("ip").args(second).status();
        assert!(added.is_ok_and(|status| status.success()), "the second host has an address");
        let [mut zookeeper, mut nacos] = [Server::at(ZOOKEEPER), Server::at(NACOS)];
        zookeeper.start();
        nacos.start();
        zookeeper.ready();
        let families = at_once(asked_for(), Family::begin);
        nacos.ready();
        Self { zookeeper, _nacos: nacos, families, began }
    }

    /// Both go a step, and then everybody calls on; no call may have failed.
    fn step(&mut self, name: &str, go: impl Fn(&mut Family, &str) + Sync) {
        let calls = at_once(&mut self.families, |family: &mut Family| {
            go(family, name);
            (family.java, family.go_on(name))
        });
        for (java, calls) in calls {
            assert!(!calls.is_empty(), "{name}: nobody calls by {java:?}");
            eprintln!("{:5.1} s  {name}: {java:?} {calls:?}", self.began.elapsed().as_secs_f32());
        }
    }
}

fn at_once<T: Send, U: Send>(all: impl IntoIterator<Item = T>, what: impl Fn(T) -> U + Sync) -> Vec<U> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(|| what(one))).collect();
        let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        ended.into_iter().map(|end| end.unwrap_or_else(|why| std::panic::resume_unwind(why))).collect()
    })
}

/// Two sidecars that carry everything both ways: of each bridge one writes, the other stands by.
struct Bridges(Vec<Sidecar>);

impl Bridges {
    fn start(families: &[Family]) -> Self {
        let families: Vec<Java> = families.iter().map(|family| family.java).collect();
        let first = Sidecar::start(&confs::bridge(&families));
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(["bridge", "--dry-run", "-c"]).arg(first.conf_path());
        let ran = run(&mut command, PATIENCE);
        assert!(ran.ok && ran.said.contains(SERVICE), "{}", ran.said);
        let bridges = Self(vec![first, Sidecar::start(&confs::bridge(&families))]);
        bridges.are("one writes, the other stands by", |roles| {
            roles.iter().all(|of| of.contains(&"leading") && of.contains(&"standby"))
        });
        bridges
    }

    /// One of them leaves, and the other one goes on.
    fn one_leaves(&mut self) {
        leave(self.0.remove(0));
        self.are("the one that is left writes", |roles| roles.iter().all(|of| of == &["leading"]));
    }

    fn end(self) {
        self.0.into_iter().for_each(leave);
    }

    /// Waits until the roles of each bridge are so.
    fn are(&self, what: &str, so: impl Fn(&[Vec<&str>]) -> bool) {
        let mut pages: Vec<Value> = Vec::new();
        let came = within(PATIENCE, || {
            let page = |sidecar: &Sidecar| {
                let (code, page) = sidecar.admin_get("/registries");
                assert_eq!(code, 200, "{page}");
                serde_json::from_str(&page).expect("/registries is JSON")
            };
            pages = self.0.iter().map(page).collect();
            let roles = confs::bridges().map(|name| {
                let role =
                    |page: &Value| ROLES.into_iter().find(|role| page["bridges"][&name]["role"] == *role);
                pages.iter().map(|page| role(page).unwrap_or_default()).collect()
            });
            so(&roles.collect::<Vec<Vec<&str>>>())
        });
        assert!(came, "{what}: {pages:#?}");
    }
}

fn leave(mut sidecar: Sidecar) {
    sidecar.term();
    let status = sidecar.wait(PATIENCE);
    assert!(status.success(), "{status}");
}
