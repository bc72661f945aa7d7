//! The life that each framework goes through, one step after the other.
//!
//! Must call through a registry only where somebody is there who can answer, so that each failed call is a failure.

use super::entries;
use super::java::{BEHIND, Java, OWN, Registry};
use super::stage::{Beside, PATIENCE, Stage, answered};
use super::support::within;
use super::written;
use std::time::Duration;

/// How long whoever is asked to leave may take: what it does before it leaves has waits of its own.
const LEAVE_MAX: Duration = Duration::from_secs(40);
/// Calls in a row, where each of them counts.
const CALLS: usize = 20;

pub(crate) fn tell(java: Java) {
    let mut stage = Stage::begin(java);
    one_that_registers_itself_is_found(&mut stage);
    let beside = one_that_is_registered_is_found(&mut stage);
    written::as_the_framework_would(&stage, &beside);
    one_that_registers_itself_is_killed(&mut stage, &beside);
    one_that_registers_itself_leaves(&mut stage, &beside);
    one_behind_a_sidecar_is_killed(&mut stage, &beside);
    a_sidecar_leaves(&mut stage, beside);
}

fn one_that_registers_itself_is_found(stage: &mut Stage) {
    for registry in Registry::BOTH {
        for (at, service) in stage.java.services().into_iter().enumerate() {
            stage.are_known(registry, service, &stage.own_addresses(registry, at));
        }
        // The programs by themselves, without a sidecar.
        stage.finds(registry, "who", OWN);
        stage.is_through_to(registry, OWN);
        for _ in 0..CALLS {
            assert_eq!(stage.through(registry), Ok(OWN.to_owned()));
        }
    }
}

fn one_that_is_registered_is_found(stage: &mut Stage) -> Beside {
    let beside = stage.beside();
    for registry in Registry::BOTH {
        for (at, service) in stage.java.services().into_iter().enumerate() {
            let both = [stage.own_addresses(registry, at), vec![beside.address(at)]].concat();
            stage.are_known(registry, service, &both);
        }
        stage.finds(registry, "who", BEHIND);
        stage.is_through_to(registry, BEHIND);
    }
    beside
}

/// The other one answers all calls, whatever the registry still says; and once it is back it is called again.
fn one_that_registers_itself_is_killed(stage: &mut Stage, _beside: &Beside) {
    stage.own.kill();
    for registry in Registry::BOTH {
        for _ in 0..CALLS {
            assert_eq!(stage.through(registry), Ok(BEHIND.to_owned()), "{registry:?}");
        }
    }
    stage.restart_own();
    for registry in Registry::BOTH {
        stage.is_through_to(registry, OWN);
        stage.finds(registry, "who", OWN);
    }
}

/// From then on everybody finds nobody but the sidecar.
fn one_that_registers_itself_leaves(stage: &mut Stage, beside: &Beside) {
    stage.own.term(LEAVE_MAX);
    for registry in Registry::BOTH {
        for (at, service) in stage.java.services().into_iter().enumerate() {
            stage.are_known(registry, service, &[beside.address(at)]);
        }
        // It may be told late, but it is told.
        let mut last = Vec::new();
        let all = within(PATIENCE, || {
            last = (0..CALLS).map(|_| answered(&stage.ask(registry, "who"))).collect();
            last.iter().all(|by| by.as_deref().is_ok_and(|by| by == BEHIND))
        });
        assert!(all, "the consumer by {registry:?} still calls others: {last:?}");
        if stage.java.services().len() > 1 {
            stage.finds(registry, "green", "green");
        }
    }
}

/// The sidecar takes back what it made known of an application that is gone, and makes it known again once it is there.
fn one_behind_a_sidecar_is_killed(stage: &mut Stage, beside: &Beside) {
    stage.behind.kill();
    for registry in Registry::BOTH {
        for service in stage.java.services() {
            stage.are_known(registry, service, &[]);
        }
    }
    stage.restart_behind();
    for registry in Registry::BOTH {
        for (at, service) in stage.java.services().into_iter().enumerate() {
            stage.are_known(registry, service, &[beside.address(at)]);
        }
        stage.finds(registry, "who", BEHIND);
        stage.is_through_to(registry, BEHIND);
    }
}

/// Two sidecars stand before one application, and one of them leaves under calls: none of them fails. The other one's end
/// leaves nothing behind.
fn a_sidecar_leaves(stage: &mut Stage, mut leaving: Beside) {
    let mut staying = stage.beside();
    for registry in Registry::BOTH {
        for (at, service) in stage.java.services().into_iter().enumerate() {
            stage.are_known(registry, service, &[leaving.address(at), staying.address(at)]);
        }
        // Java Dubbo 3.3 takes up at most one change of a service in five seconds: whoever comes must have been seen before
        // another one may go.
        stage.comes_through(registry, &staying);
        stage.comes_through(registry, &leaving);
        assert_eq!(stage.ask(registry, "flow 2")["value"], "flows");
    }
    let blue = stage.java.services()[0];
    leaving.sidecar.term();
    for registry in Registry::BOTH {
        let known = || entries::of(stage.java, registry, blue).into_iter().map(|entry| entry.address);
        let gone = within(PATIENCE, || known().all(|address| address != leaving.address(0)));
        assert!(gone, "it is still known in {registry:?}");
    }
    let status = leaving.sidecar.wait(LEAVE_MAX);
    assert!(status.success(), "{status}");
    for registry in Registry::BOTH {
        let ebb = stage.ask(registry, "ebb");
        let mut told = ebb["value"].as_str().unwrap_or_default().lines();
        let answered = told.next().unwrap_or_default();
        assert!(
            answered.starts_with(&format!("{BEHIND}=")) && !answered.contains(' '),
            "{registry:?}: {ebb}"
        );
        assert!(told.all(|failed| stage.java.fails_by_itself(failed)), "{registry:?}: {ebb}");
        stage.finds(registry, "who", BEHIND);
    }
    staying.sidecar.term();
    let status = staying.sidecar.wait(LEAVE_MAX);
    assert!(status.success(), "{status}");
    for registry in Registry::BOTH {
        for service in stage.java.services() {
            let left = entries::of(stage.java, registry, service);
            assert_eq!(left, [], "{registry:?}");
        }
    }
    stage.caller.assert_running();
}
