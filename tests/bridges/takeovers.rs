//! Both directions at once, and whatever befalls the one who writes: in both registries each service keeps its three instances at
//! every look, and they go when the originals go.

use super::lists::{Looker, until};
use super::sidecars::{both_ways, conf, names};
use super::stage::Stage;
use super::support::Sidecar;
use std::time::Duration;

/// How long a leaving sidecar may take.
const LEAVE_MAX: Duration = Duration::from_secs(20);
/// Longer than a writer may stand still and still be one.
const STILL: Duration = Duration::from_secs(20);
/// How long it is looked whether what is gone comes back.
const GONE: Duration = Duration::from_secs(4);

pub(crate) fn story() {
    let stage = Stage::begin("take");
    let lines = both_ways("take");
    let bridges = names(&lines);
    let first = Sidecar::start(&conf(&lines));
    first.becomes("leading", &bridges);
    let mut second = Sidecar::start(&conf(&lines));
    for (list, wanted) in &stage.lists() {
        list.becomes(wanted);
    }
    for bridge in &bridges {
        first.is_done(bridge);
    }
    second.becomes("standby", &bridges);
    stage.are_marked();
    holds(&second, &bridges);
    let looker = Looker::begin(stage.lists());
    let third = killed(first, &second, &lines);
    let third = still(&mut second, third, &bridges);
    left(third, &second, &bridges);
    looker.end("killed, back, standing still, gone on and left");
    stage.empties(GONE);
    second.have_nothing(&bridges);
}

/// The writer is killed; the other one writes; and the one that was killed comes back and stands by.
fn killed(first: Sidecar, second: &Sidecar, lines: &[String]) -> Sidecar {
    let bridges = names(lines);
    // Dropping it is SIGKILL.
    drop(first);
    second.becomes("leading", &bridges);
    for bridge in &bridges {
        second.is_done(bridge);
    }
    let back = Sidecar::start(&conf(lines));
    back.becomes("standby", &bridges);
    holds(&back, &bridges);
    back
}

/// The writer stands still for so long that the other one writes; when it goes on it is no writer any more.
fn still(second: &mut Sidecar, third: Sidecar, bridges: &[String]) -> Sidecar {
    second.signal("STOP");
    third.becomes("leading", bridges);
    std::thread::sleep(STILL);
    second.signal("CONT");
    second.becomes("standby", bridges);
    third.becomes("leading", bridges);
    let entries = |told: &Sidecar| told.bridge("take-d-nz")["entries"].clone();
    until("what another has is given up", || entries(second) == 0 && entries(&third) == 3);
    holds(second, bridges);
    third
}

/// The one that writes leaves in good order.
fn left(mut third: Sidecar, second: &Sidecar, bridges: &[String]) {
    third.term();
    assert!(third.wait(LEAVE_MAX).success());
    second.becomes("leading", bridges);
    for bridge in bridges {
        second.is_done(bridge);
    }
}

/// What stands by at Nacos has to hold its entries before the one that writes may go.
fn holds(standby: &Sidecar, bridges: &[String]) {
    until("the one that stands by holds copies", || {
        let zn = bridges.iter().filter(|name| name.ends_with("-zn"));
        zn.map(|name| standby.bridge(name)).all(|told| told["entries"] == 3 && told["pending"] == 0)
    });
}
