//! An endpoint that is well again gets its calls again, however it was lost, and by every balancer.
//!
//! Three numbers for each way of being lost: how long until the first call comes, until a fair share does, and how much it was
//! left alone meanwhile. Bounds follow from the rules (time left out, a trial, checks in a row, an average that fades), never from what
//! was measured.

use std::time::Duration;

use outrigger_core::{Balance, ClusterSettings, Outlier};

use crate::{
    BALANCES, each_seed,
    world::{Setup, World},
};

/// How an endpoint is lost for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    /// It answers that it failed, and is left out.
    Fails,
    /// Health checks find it ill.
    Ill,
    /// Its process is killed, and left out.
    Killed,
    /// Its process is killed and started at once: little of it is seen, and nobody is left out for it.
    Restarted,
    /// Its process is killed, and nobody is ever left out.
    KilledWithoutRules,
    /// It answers that it failed, and nobody is ever left out.
    FailsWithoutRules,
    /// It leaves the registry, and joins again.
    Left,
}

const LOSSES: [Loss; 7] = [
    Loss::Fails,
    Loss::Ill,
    Loss::Killed,
    Loss::Restarted,
    Loss::KilledWithoutRules,
    Loss::FailsWithoutRules,
    Loss::Left,
];
const RATE: u64 = 100;
const STEP: Duration = Duration::from_millis(100);

/// The world of a loss, which has come to its end: endpoint 0 is well again from now on.
fn after(seed: u64, balance: Balance, loss: Loss) -> World {
    let rules = matches!(loss, Loss::Fails | Loss::Killed);
    // At the first failure: one balancer would not come to a second.
    let outlier = rules.then(|| Outlier { consecutive: 1, ..Outlier::default() });
    let settings = ClusterSettings { outlier, ..Setup::default().settings };
    let checks = if loss == Loss::Ill { Duration::from_secs(1) } else { Duration::ZERO };
    let weights = vec![1; 4];
    let workers = 1 + seed as usize % 3;
    let setup = Setup { balance, settings, weights, workers, rate: RATE, checks, ..Setup::default() };
    let mut world = World::new(seed, setup);
    world.run_for(Duration::from_secs(5));
    match loss {
        Loss::Fails | Loss::FailsWithoutRules => world.peers[0].fails = 100,
        Loss::Ill => world.peers[0].feels_well = false,
        Loss::Killed | Loss::Restarted | Loss::KilledWithoutRules => world.kill(0),
        Loss::Left => {
            world.peers[0].listed = false;
            world.publish();
        }
    }
    let long = if loss == Loss::Restarted { 300 } else { 15_000 + seed % 10 * 1_000 };
    world.run_for(Duration::from_millis(long));
    (world.peers[0].fails, world.peers[0].feels_well, world.peers[0].runs) = (0, true, true);
    if loss == Loss::Left {
        world.peers[0].listed = true;
        world.publish();
    }
    world
}

/// How long until `done`, which is given the calls of endpoint 0 in the last five seconds.
fn until(world: &mut World, most: Duration, mut done: impl FnMut(&World, u64) -> bool) -> Option<Duration> {
    let mut received = vec![world.peers[0].received];
    for step in 1..=(most.as_millis() / STEP.as_millis()) as u32 {
        world.run_for(STEP);
        received.push(world.peers[0].received);
        let before = received.len().saturating_sub(51);
        if done(world, world.peers[0].received - received[before]) {
            return Some(STEP * step);
        }
    }
    None
}

/// How long until the first call comes at most, and a fair share from then on.
fn bounds(balance: Balance, loss: Loss, left_out: Duration) -> (Duration, Duration) {
    let second = Duration::from_secs(1);
    // Passed over for a second after a dial that failed; two checks a second apart; a trial that must not be another's.
    let first = left_out + 5 * second;
    // Half of a fair share in five seconds, and chance: at most all of them.
    let share = 6 * second;
    if balance != Balance::P2cEwma {
        return (first, share);
    }
    // It keeps away of its own from who failed, which counts as a second: by a factor of e less every ten seconds, until that is
    // the millisecond of the others. Where it is left out it begins anew with its return.
    let faded = 10.0 * (1_000.0_f64).ln();
    let faded = Duration::from_secs_f64(faded);
    let by_itself = left_out.is_zero() && !matches!(loss, Loss::Ill | Loss::Left);
    if by_itself { (first + faded, share + 30 * second) } else { (first, share + 10 * second) }
}

#[test]
fn who_is_well_again_gets_calls_again() {
    each_seed(1, |seed| {
        for balance in BALANCES {
            for loss in LOSSES {
                let mut world = after(seed, balance, loss);
                let before = world.peers[0].received_at;
                let lost_for = world.now.since(before);
                // Who fails and is not left out keeps its calls, but by the balancer that learns.
                let lost = match loss {
                    Loss::Restarted => true,
                    Loss::FailsWithoutRules => (lost_for.as_secs() >= 1) == (balance == Balance::P2cEwma),
                    _ => lost_for.as_secs() >= 1,
                };
                assert!(lost, "{balance:?} {loss:?}: lost for {lost_for:?}");
                let left_out = world.cluster().healths[0].out_for(world.now).unwrap_or_default();
                let is_left_out = matches!(loss, Loss::Fails | Loss::Killed);
                assert!(left_out.is_zero() != is_left_out, "{balance:?} {loss:?}: {left_out:?}");
                let (first, share) = bounds(balance, loss, left_out);
                let came = until(&mut world, first, |_, received| received > 0);
                assert!(came.is_some(), "{balance:?} {loss:?}: no call in {first:?}");
                let came = until(&mut world, share, |_, received| received >= RATE * 5 / 4 / 2);
                assert!(came.is_some(), "{balance:?} {loss:?}: no fair share in {share:?}");
                world.end();
            }
        }
    });
}
