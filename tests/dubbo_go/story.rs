//! What happens, one step after the other.
//!
//! Must call through a registry only where somebody is there who can answer, so that each failed call is a failure.

use super::entries;
use super::go::{self, APP, Level, Protocol};
use super::stage::{Beside, PATIENCE, Stage, two_ports};
use super::support::{Process, free_port, within};
use super::written;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long whoever is asked to leave may take: what it does before it leaves has waits of its own.
const LEAVE_MAX: Duration = Duration::from_secs(40);
/// The weight of everything here.
const OWN: u64 = 50;

/// A provider of dubbo-go that registers itself; it is named after how it does that.
pub(crate) struct Own {
    pub(crate) process: Process,
    /// Dubbo2's, and Triple's.
    pub(crate) ports: [u16; 2],
}

pub(crate) fn tell() {
    let mut stage = Stage::begin();
    // Slow to start, and needed late.
    let java = java_providers();
    let mut own = those_that_register_themselves_are_found(&mut stage);
    let beside = one_that_is_registered_is_found(&mut stage, &own);
    written::as_dubbo_go_would(&stage, &own, &beside);
    those_that_register_themselves_are_killed(&mut stage, &mut own, &beside);
    a_sidecar_leaves(&mut stage, beside, &java);
}

/// By protocol.
fn java_providers() -> [(Process, u16); 2] {
    Protocol::BOTH.map(|protocol| {
        let port = free_port();
        let name = format!("the provider of Java over {protocol:?}");
        (Process::spawn(&name, &mut go::java_provider("java", protocol, port)), port)
    })
}

fn own(stage: &Stage, name: &str, level: Level, metadata: &str) -> Own {
    let ports = two_ports();
    let mut command = go::own(name, level, metadata, ports[0], &stage.server.address());
    Own { process: Process::start(name, &mut command), ports }
}

/// By its interface; and, where there are such, by its application, whether the instance or the registry says what it gives.
fn those_that_register_themselves_are_found(stage: &mut Stage) -> [Own; 3] {
    let interface = own(stage, "interface", Level::Interface, "local");
    stage.are_found(&[interface.ports]);
    stage.weigh(&[OWN; 2]);
    for protocol in Protocol::BOTH {
        assert_eq!(stage.answer(protocol), ["interface", "interface"], "{protocol:?}");
    }
    let local = own(stage, "local", Level::Application, "local");
    let remote = own(stage, "remote", Level::Application, "remote");
    stage.are_found(&[local.ports, remote.ports]);
    stage.weigh(&[OWN; 4]);
    for protocol in Protocol::BOTH {
        let mut callers = [BTreeSet::new(), BTreeSet::new()];
        let both = BTreeSet::from(["local".to_owned(), "remote".to_owned()]);
        let came = within(PATIENCE, || {
            let answers = stage.answer(protocol);
            for (seen, answer) in callers.iter_mut().zip(answers) {
                seen.insert(answer);
            }
            callers.iter().all(|seen| *seen == both)
        });
        assert!(came, "{protocol:?}: {callers:?}");
    }
    assert_eq!(stage.services(), [go::SERVICE], "what stands beside the interfaces is none");
    [interface, local, remote]
}

/// The consumers are there already when the sidecar comes, and are told of it.
fn one_that_is_registered_is_found(stage: &mut Stage, own: &[Own; 3]) -> Beside {
    stage.consumers_come();
    stage.find(Level::Interface, "interface");
    stage.find(Level::Application, "local");
    stage.find(Level::Application, "remote");
    let ports = two_ports();
    let name = "behind";
    let behind = Process::start(name, &mut go::behind(name, ports[0], &stage.server.address()));
    let beside = stage.beside(ports, Some(behind));
    stage.find(Level::Interface, name);
    // Of several revisions that give the same service dubbo-go takes up one, at random: whichever it is, calls are answered.
    for consumer in stage.consumers(Level::Application) {
        let answer = consumer.ask("many 20");
        assert_eq!(answer["ok"], true, "{answer}");
    }
    stage.stand(&[own[0].ports, beside.ports], &[own[1].ports, own[2].ports, beside.ports]);
    assert_eq!(entries::mapping(&stage.server), APP, "an application stands there once");
    beside
}

/// They are forgotten when their leases are over. dubbo-go's own consumers are told by etcd of nobody who goes, so those by the
/// interface are of no use from here on, and those by the application until something else is told.
fn those_that_register_themselves_are_killed(stage: &mut Stage, own: &mut [Own; 3], beside: &Beside) {
    stage.consumers_go(Level::Interface);
    for one in own {
        one.process.kill();
    }
    stage.are_found(&[beside.ports]);
    stage.weigh(&[OWN; 2]);
    stage.stand(&[beside.ports], &[beside.ports]);
    for protocol in Protocol::BOTH {
        assert_eq!(stage.answer(protocol), ["behind", "behind"], "{protocol:?}");
    }
}

/// Another sidecar comes, before providers of Java, and the first one leaves under calls: none of them fails. The other one's end
/// leaves nothing behind.
fn a_sidecar_leaves(stage: &mut Stage, mut leaving: Beside, java: &[(Process, u16); 2]) {
    for (provider, _) in java {
        provider.ready();
    }
    let mut staying = stage.beside(java.each_ref().map(|(_, port)| *port), None);
    for consumer in stage.consumers(Level::Application) {
        // That it came is told, and whoever is told reads who is left.
        let mut seen = BTreeSet::new();
        let came = within(PATIENCE, || {
            let answer = consumer.ask("many 20");
            seen.insert(answer.to_string());
            answer["value"] == "behind\njava"
        });
        assert!(came, "{seen:?}");
        assert_eq!(consumer.ask("flow")["value"], "flows");
    }
    leaving.sidecar.term();
    let status = leaving.sidecar.wait(LEAVE_MAX);
    assert!(status.success(), "{status}");
    for consumer in stage.consumers(Level::Application) {
        // Which of the two it calls is dubbo-go's choice, anew with each of their news; that a call failed would be told here.
        let called = consumer.ask("ebb");
        let called = called["value"].as_str().expect("names");
        assert!(["behind\njava", "java"].contains(&called), "{called}");
    }
    stage.find_only(Level::Application, "java");
    stage.are_found(&[staying.ports]);
    for protocol in Protocol::BOTH {
        assert_eq!(stage.answer(protocol), ["java", "java"], "{protocol:?}");
    }
    staying.sidecar.term();
    let status = staying.sidecar.wait(LEAVE_MAX);
    assert!(status.success(), "{status}");
    stage.stand(&[], &[]);
    stage.through.assert_running();
}
