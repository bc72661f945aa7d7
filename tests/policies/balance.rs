//! Picking by speed, by weight and by age.

use crate::endpoint::Does;
use crate::protocol::{Ask, every};
use crate::support::within;
use crate::world::{ALL_STAY, List, PATIENCE, Setup, World};
use std::thread;
use std::time::Duration;

const CALLERS: usize = 4;
const CALLS: usize = 150;

/// Calls of several callers at a moderate rate: the share of the first endpoint, in thousandths.
fn share_of_first(world: &World) -> usize {
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            scope.spawn(move || {
                let mut own = world.caller();
                for at in 0..CALLS {
                    own.ask(&Ask::new(format!("{caller}-{at}")));
                    thread::sleep(Duration::from_millis(4));
                }
            });
        }
    });
    world.endpoints[0].calls() * 1_000 / (CALLERS * CALLS)
}

#[test]
fn who_is_slow_gets_hardly_any_calls() {
    every(|protocol| {
        let cluster = format!("balance: p2c_ewma, {ALL_STAY}");
        let mut world = World::start(protocol, Setup { cluster: &cluster, endpoints: 5, ..Setup::default() });
        // Longer than a busy machine holds up the others.
        world.set(0, Does::Slow(Duration::from_millis(150)));
        let share = share_of_first(&world);
        assert!(share < 20, "{share} thousandths went to the slow one: {:?}", world.counts());
        world.end();
    });
}

#[test]
fn who_fails_at_once_is_not_taken_for_fast() {
    every(|protocol| {
        for does in [Does::Fails, Does::Dies] {
            let cluster = format!("balance: p2c_ewma, {ALL_STAY}");
            let mut world =
                World::start(protocol, Setup { cluster: &cluster, endpoints: 5, ..Setup::default() });
            world.set(0, does);
            let share = share_of_first(&world);
            assert!(share < 20, "{share} thousandths went to one that {does:?}: {:?}", world.counts());
            world.end();
        }
    });
}

#[test]
fn who_answers_what_a_slow_one_did_not_is_not_taken_for_slow() {
    every(|protocol| {
        let cluster = format!("balance: round_robin, {ALL_STAY}");
        let route = "idempotent: true, retry: { per_try_timeout: 1s }";
        let mut world = World::start(protocol, Setup { cluster: &cluster, route, ..Setup::default() });
        world.set(0, Does::Holds);
        // The other that answered in its place did so at once.
        assert!(world.calls(3).iter().all(|(_, got)| got.is_ok()));
        let known = [0, 1, 2].map(|at| world.entry(at)["peak_ewma_us"].as_u64().expect("a number"));
        assert!(known[0] > 700_000 && known[1] < 500_000 && known[2] < 500_000, "{known:?}");
        world.end();
    });
}

#[test]
fn calls_in_turn_follow_the_weights() {
    every(|protocol| {
        let list = List::new(&[100, 200, 500], 3);
        let mut world = World::listed(protocol, &list, 3, "balance: round_robin");
        for (calls, share) in world.spread(800).iter().zip([100usize, 200, 500]) {
            assert!(calls.abs_diff(share) <= 8, "{:?} of 100, 200, 500", world.counts());
        }
        world.end();
    });
}

#[test]
fn calls_drawn_by_key_follow_the_weights() {
    every(|protocol| {
        for table in ["ring_hash", "maglev"] {
            let list = List::new(&[100, 100, 200], 3);
            let mut world =
                World::listed(protocol, &list, 3, &format!("balance: {table}, hash: {{ header: user }}"));
            for at in 0..400 {
                assert!(world.ask(&Ask::new(at).header("user", format!("u{at}"))).is_ok());
            }
            let counts = world.counts();
            assert!(
                (140..=260).contains(&counts[2]) && counts[0] >= 60 && counts[1] >= 60,
                "{table}: {counts:?}"
            );
            world.end();
        }
    });
}

#[test]
fn who_is_new_gets_its_share_little_by_little() {
    every(|protocol| {
        let list = List::new(&[100; 4], 3);
        let mut world = World::listed(protocol, &list, 4, "balance: round_robin, slow_start: 4s");
        let spread = world.spread(60);
        assert_eq!(spread, [20, 20, 20, 0], "all are new, so none is");
        list.publish(&world.endpoints);
        let state = |world: &World| world.sidecar.admin_get("/clusters").1;
        let fourth = world.endpoints[3].address();
        assert!(within(PATIENCE, || state(&world).contains(&fourth)), "it is never listed");
        // Its full share would be 50.
        let early = world.spread(200)[3];
        assert!(early < 25, "{early} of 200 at first");
        thread::sleep(Duration::from_secs(4));
        assert_eq!(world.spread(80), [20; 4], "it has its full share in the end");
        world.end();
    });
}
