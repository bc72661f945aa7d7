//! Both directions at once, and nothing that befalls anybody: for a whole minute each service has its three instances in both
//! registries at every look, no more by copies of copies and no less, and then none when the originals are gone.

use super::lists::Looker;
use super::sidecars::{both_ways, conf, names};
use super::stage::Stage;
use super::support::Sidecar;
use std::time::Duration;

/// A minute: copies of copies would have come back many times over, and what nobody keeps up would have been forgotten.
const STEADY: Duration = Duration::from_secs(60);
/// How long it is looked whether what is gone comes back.
const GONE: Duration = Duration::from_secs(10);

pub(crate) fn story() {
    let stage = Stage::begin("steady");
    let lines = both_ways("steady");
    let bridges = names(&lines);
    let sidecar = Sidecar::start(&conf(&lines));
    sidecar.becomes("leading", &bridges);
    let lists = stage.lists();
    for (list, wanted) in &lists {
        assert_eq!(wanted.len(), 3);
        list.becomes(wanted);
    }
    for bridge in &bridges {
        sidecar.is_done(bridge);
    }
    let looker = Looker::begin(lists);
    std::thread::sleep(STEADY);
    let rounds = looker.end("steady");
    assert!(
        rounds >= STEADY.as_secs(),
        "it was looked {rounds} times in {STEADY:?}: once a second is too seldom"
    );
    stage.are_marked();
    stage.empties(GONE);
    sidecar.have_nothing(&bridges);
}
