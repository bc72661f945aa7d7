//! What trying again costs: never more than the budget, however many workers, and all of it where it helps.
//!
//! That no moment exceeds it is judged in every life (`Judge::resent`); here everything fails, so that the budget is what holds.

use std::time::Duration;

use outrigger_core::{ClusterSettings, Retry};

use crate::{
    each_seed,
    world::{Setup, World},
};

const LONG: Duration = Duration::from_secs(30);

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
            world.run_for(LONG);
            world.end();
            let (calls, again) = (world.judge.calls, world.judge.resent);
            assert_eq!(world.judge.good, 0);
            let reached: u64 = world.peers.iter().map(|peer| peer.received).sum();
            let (share, floor) = (u64::from(retries.0), u64::from(retries.1));
            let most = calls + calls * share / 100 + floor * 31;
            assert!(reached <= most, "{retries:?}: {calls} calls came to {reached}");
            // Whoever may ask takes all there is: a budget that gives nothing would pass, too.
            let least = calls * share / 100 + floor * 29;
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
