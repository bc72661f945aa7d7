//! What trying again costs: never more than the budget, however many workers, and all of it where it helps.
//!
//! That no moment exceeds it is judged in every life (`Judge::resent`); here everything fails, so that the budget is what holds.

use std::time::Duration;

use outrigger_core::{ClusterSettings, Outlier, Retry};

use crate::{
    each_seed,
    world::{Setup, World},
};

const MINUTE: Duration = Duration::from_secs(60);

fn eager() -> Retry {
    Retry { overloaded: true, error: true, tries: 10, ..Retry::default() }
}

fn setup(seed: u64, retries: (u32, u32)) -> Setup {
    let settings = ClusterSettings { retries, ..Setup::default().settings };
    Setup { workers: 1 + seed as usize % 4, retry: Some(eager()), rate: 200, settings, ..Setup::default() }
}

#[test]
fn when_all_endpoints_fail_little_is_asked_on_top() {
    each_seed(2, |seed| {
        for retries in [(20, 10), (20, 0), (0, 10), (50, 5)] {
            let mut world = World::new(seed, setup(seed, retries));
            world.peers.iter_mut().for_each(|peer| peer.fails = 100);
            world.run_for(MINUTE);
            world.end();
            let (calls, again) = (world.judge.calls, world.judge.resent);
            assert_eq!(world.judge.good, 0);
            let reached: u64 = world.peers.iter().map(|peer| peer.received).sum();
            let (share, floor) = (u64::from(retries.0), u64::from(retries.1));
            let most = calls + calls * share / 100 + floor * 61;
            assert!(reached <= most, "{retries:?}: {calls} calls came to {reached}");
            // Whoever may ask takes all there is: a budget that gives nothing would pass, too.
            let least = calls * share / 100 + floor * 58;
            assert!(again * 100 >= least * 97, "{retries:?}: {again} of {least}");
        }
    });
}

#[test]
fn with_many_calls_the_share_alone_counts() {
    each_seed(1, |seed| {
        let mut world = World::new(seed, Setup { rate: 2_000, ..setup(seed, (20, 0)) });
        world.peers.iter_mut().for_each(|peer| peer.fails = 100);
        world.run_for(Duration::from_secs(10));
        world.end();
        let reached: u64 = world.peers.iter().map(|peer| peer.received).sum();
        assert!(reached * 100 <= world.judge.calls * 120, "{} calls came to {reached}", world.judge.calls);
    });
}

/// Where nobody can be reached for a moment, no try is paid for that cannot happen: it would be missing when they are back.
#[test]
fn a_try_that_has_no_place_to_go_costs_nothing() {
    each_seed(5, |seed| {
        let outlier = Some(Outlier::default());
        let retries = (20, 10);
        let settings = ClusterSettings { retries, outlier, ..Setup::default().settings };
        let mut world = World::new(seed, Setup { weights: vec![1; 3], settings, ..setup(seed, retries) });
        world.peers.iter_mut().for_each(|peer| peer.takes = Duration::from_millis(300));
        for _ in 0..20 {
            world.run_for(Duration::from_secs(2));
            (0..3).for_each(|peer| world.kill(peer));
            world.run_for(Duration::from_millis(500));
            world.peers.iter_mut().for_each(|peer| peer.runs = true);
        }
        world.end();
        assert!(world.judge.resent > 0);
        assert_eq!(world.judge.paid_for_nothing, 0, "tries were paid for that never happened");
    });
}
