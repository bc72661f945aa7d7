//! How near the calls of each balancer come to the weights, over a hundred thousand calls.
//!
//! What "near" can mean follows from how each one picks:
//!
//! * `round_robin` is exact, but for the turns that a round has not finished in each worker.
//! * `random` is as near as chance lets it be: within one in a hundred of all calls, which is ten deviations.
//! * `maglev` fills its table by weight (in hundredths of the greatest), and keys fall anywhere in it: as `random`.
//! * `ring_hash` has 256 points for the greatest weight, so that a share is off by some 1/16 of itself (one deviation): four
//!   of these are allowed. One in a hundred it cannot keep, whatever the number of calls.
//! * `least_request` compares calls in flight for their weight, and where these are equal draws by weight: within one in a
//!   hundred, idle or busy.
//! * `p2c_ewma` draws two by weight and compares latency and load for the weight: within one in a hundred where many calls are
//!   in flight; where none are, it goes by what it remembers of latencies, and is off by six in a hundred at most.

use std::time::Duration;

use outrigger_codec::{Message, Outcome};
use outrigger_core::{Balance, ClusterSettings, End, ListenerId, Retry, decide, settle};

use crate::{
    each_seed,
    world::{Setup, World},
};

const CALLS: u64 = 100_000;

fn world(seed: u64, balance: Balance, weights: &[u32]) -> World {
    let workers = 1 + seed as usize % 3;
    World::new(seed, Setup { balance, weights: weights.to_vec(), workers, timeout: None, ..Setup::default() })
}

/// The share of each endpoint where `at_once` calls are in flight.
fn busy(seed: u64, balance: Balance, weights: &[u32], at_once: u64) -> Vec<f64> {
    let mut world = world(seed, balance, weights);
    let gap = Duration::from_micros(200);
    world.peers.iter_mut().for_each(|peer| peer.takes = gap * at_once as u32);
    for call in 0..CALLS {
        world.call(call as usize % world.workers.len(), call);
        world.run_for(gap);
    }
    world.end();
    let received: Vec<u64> = world.peers.iter().map(|peer| peer.received).collect();
    assert_eq!(received.iter().sum::<u64>(), CALLS);
    received.iter().map(|calls| *calls as f64 / CALLS as f64).collect()
}

/// The share of each endpoint where each call ends before the next, as fast as the last.
fn idle(seed: u64, balance: Balance, weights: &[u32]) -> Vec<f64> {
    let mut world = world(seed, balance, weights);
    let workers = world.workers.len();
    let mut picked = vec![0_u64; weights.len()];
    for call in 0..CALLS {
        let mut message = Message::default();
        // Keys alike would be as many calls to one endpoint.
        message.add(b"k", &(seed << 32 | call).to_le_bytes());
        let worker = &mut world.workers[call as usize % workers];
        let (now, end) = (world.now, world.now.after(Duration::from_millis(1)));
        let plan = decide(&worker.snapshot, ListenerId(0), &mut worker.local, message.head(), now, now);
        let plan = plan.expect("somebody takes it");
        let at = worker.slots.iter().position(|(slot, _)| *slot == plan.endpoint).expect("a listed endpoint");
        picked[at] += 1;
        settle(&mut worker.local, plan, End::Answered(Outcome::Ok), end);
        world.now = end;
    }
    picked.iter().map(|calls| *calls as f64 / CALLS as f64).collect()
}

fn wanted(weights: &[u32]) -> Vec<f64> {
    let total: u32 = weights.iter().sum();
    weights.iter().map(|weight| f64::from(*weight) / f64::from(total)).collect()
}

const EVEN: [u32; 5] = [1; 5];
const UNEVEN: [u32; 5] = [1, 2, 3, 4, 0];

/// The weights of a seed.
fn weights_of(seed: u64) -> [u32; 5] {
    if seed.is_multiple_of(2) { UNEVEN } else { EVEN }
}

fn within(balance: Balance, weights: &[u32], got: &[f64], off: impl Fn(f64) -> f64) {
    for (want, got) in wanted(weights).into_iter().zip(got) {
        assert!((want - got).abs() <= off(want), "{balance:?} {weights:?}: {got} instead of {want}");
    }
}

#[test]
fn turns_and_draws_follow_weights() {
    each_seed(1, |seed| {
        let weights = weights_of(seed);
        for balance in [Balance::RoundRobin, Balance::Random, Balance::Maglev] {
            let got = idle(seed, balance, &weights);
            // Three workers, each with an unfinished round of ten.
            let exact = |_| 30.0 / CALLS as f64;
            let chance = |_| 0.01;
            if balance == Balance::RoundRobin {
                within(balance, &weights, &got, exact);
            } else {
                within(balance, &weights, &got, chance);
            }
            assert!(weights[4] > 0 || got[4] == 0.0, "{balance:?}: no weight, no call");
        }
        let got = idle(seed, Balance::RingHash, &weights);
        let greatest = f64::from(weights.iter().copied().max().unwrap_or(1));
        let total = f64::from(weights.iter().sum::<u32>());
        within(Balance::RingHash, &weights, &got, |want| {
            let points = (256.0 * want * total / greatest).max(1.0);
            4.0 * want / points.sqrt() + 0.002
        });
    });
}

/// Tries again are no turns: who fails must not be the first with more calls for it.
#[test]
fn who_fails_is_asked_no_more_often_for_it() {
    each_seed(1, |seed| {
        for n in [2, 3, 4] {
            let settings = ClusterSettings { retries: (100, 1_000), ..Setup::default().settings };
            let retry = Some(Retry { error: true, ..Retry::default() });
            let (balance, weights) = (Balance::RoundRobin, vec![1; n]);
            let setup = Setup { balance, weights, settings, retry, rate: 200, ..Setup::default() };
            let mut world = World::new(seed, setup);
            world.peers[0].fails = 100;
            world.run_for(Duration::from_secs(20));
            world.end();
            let (calls, received) = (world.judge.calls, world.peers[0].received);
            assert_eq!(world.judge.good, calls);
            assert!(received.abs_diff(calls / n as u64) * 100 <= calls, "{received} of {calls}, of {n}");
        }
    });
}

#[test]
fn who_looks_at_load_follows_weights_as_far_as_that_goes() {
    each_seed(1, |seed| {
        let (least, p2c) = (Balance::LeastRequest, Balance::P2cEwma);
        within(least, &EVEN, &idle(seed, least, &EVEN), |_| 0.01);
        within(least, &UNEVEN, &busy(seed, least, &UNEVEN, 200), |_| 0.01);
        within(least, &UNEVEN, &idle(seed, least, &UNEVEN), |_| 0.01);
        within(p2c, &UNEVEN, &busy(seed, p2c, &UNEVEN, 200), |_| 0.01);
        within(p2c, &EVEN, &busy(seed, p2c, &EVEN, 200), |_| 0.01);
        let (even, uneven) = (idle(seed, p2c, &EVEN), idle(seed, p2c, &UNEVEN));
        // What was seen of those that get few calls fades more between two of them, which makes them look faster.
        within(p2c, &UNEVEN, &uneven, |_| 0.06);
        assert!(uneven[4] == 0.0, "no weight, no call: {uneven:?}");
        // Whoever is best is taken whenever it is drawn: as one of two, or as the neighbour of who is drawn twice.
        let most = 2.0 * 0.2 - 0.2 * 0.2 + 0.2 * 0.2 + 0.01;
        assert!(even.iter().all(|share| *share <= most), "{even:?}");
    });
}
