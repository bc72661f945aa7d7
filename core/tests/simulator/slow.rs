//! One of five endpoints is slow, or fails at once, and a balancer that learns has to keep calls away from it.
//!
//! The promise: of 500 calls a second for a minute fewer than one in a hundred meets it, by `p2c_ewma`. The others, which do not
//! look at latency, must be seen to do worse: or the story would prove nothing.

use std::time::Duration;

use outrigger_core::{Balance, ClusterSettings, Outlier};

use crate::{
    each_seed,
    peers::Peer,
    world::{Setup, World},
};

/// The calls of a minute, of them those that went to the bad one, and those that were slow or failed.
fn minute(seed: u64, balance: Balance, outlier: Option<Outlier>, spoil: fn(&mut Peer)) -> (u64, u64, u64) {
    let settings = ClusterSettings { outlier, ..Setup::default().settings };
    let workers = 1 + seed as usize % 4;
    let mut world = World::new(seed, Setup { balance, settings, workers, rate: 500, ..Setup::default() });
    spoil(&mut world.peers[seed as usize % 5]);
    world.run_for(Duration::from_secs(60));
    world.end();
    let judge = &world.judge;
    (
        judge.calls,
        world.peers[seed as usize % 5].received,
        judge.slow + judge.failed + judge.timed_out + judge.bad,
    )
}

fn late(peer: &mut Peer) {
    peer.takes = Duration::from_millis(51);
}

fn fails(peer: &mut Peer) {
    peer.fails = 100;
}

fn is_busy(peer: &mut Peer) {
    peer.busy_above = 0;
}

#[test]
fn fewer_than_one_call_in_a_hundred_meets_the_bad_one() {
    each_seed(6, |seed| {
        let spoils = [("late", late as fn(&mut Peer)), ("fails", fails), ("busy", is_busy)];
        let (what, spoil) = spoils[seed as usize % 3];
        let outlier = (seed / 3 % 2 == 1).then(Outlier::default);
        let rule = outlier.is_some();
        let (calls, received, bad) = minute(seed, Balance::P2cEwma, outlier, spoil);
        assert!(calls > 29_000, "{calls}");
        assert!(received * 100 < calls, "{what}, outlier {rule}: {received} of {calls} went there");
        assert!(bad * 100 < calls, "{what}, outlier {rule}: {bad} of {calls}");
    });
}

#[test]
fn who_does_not_look_at_latency_does_worse() {
    let (calls, received, _) = minute(0, Balance::RoundRobin, None, late);
    assert!(received * 100 > calls * 19, "{received} of {calls}");
}
