//! Whole lives, drawn from a seed: everything that may happen to a cluster, in any order.
//!
//! What must be true is in `judge` and `calls`; here is only what happens. Must draw nothing from anywhere but the seed.

use std::time::Duration;

use outrigger_core::{ClusterSettings, HashBy, Outlier, Random, Retry};

use crate::{
    BALANCES, each_seed,
    peers::Peer,
    world::{Setup, World},
};

/// Lives where nothing else is asked for.
const LIVES: u64 = 12;

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings(random: &mut Random) -> ClusterSettings {
    let outlier = Outlier {
        consecutive: pick(random, &[0, 1, 3, 5]),
        ejection: seconds(pick(random, &[1, 2, 10])),
        ejection_max: seconds(pick(random, &[10, 20, 300])),
        share_max: pick(random, &[10, 34, 50, 100]),
        interval: seconds(pick(random, &[1, 5])),
        calls_min: pick(random, &[5, 20]),
        deviation: pick(random, &[0, 190]),
        slower: pick(random, &[0, 3]),
    };
    ClusterSettings {
        outlier: (random.below(5) > 0).then_some(outlier),
        slow_start: seconds(pick(random, &[0, 0, 5, 30])),
        panic: pick(random, &[0, 30, 50]),
        hash: Some(HashBy::Header(b"k"[..].into())),
        retries: pick(random, &[(20, 10), (20, 10), (0, 3), (50, 0), (0, 0)]),
        ..ClusterSettings::default()
    }
}

fn retry(random: &mut Random) -> Retry {
    let per_try = (random.below(3) == 0).then(|| Duration::from_millis(5 + random.below(200)));
    Retry {
        reset: random.below(4) > 0,
        overloaded: random.below(2) == 0,
        error: random.below(2) == 0,
        statuses: Box::default(),
        tries: 1 + random.below(4) as u8,
        per_try,
        backoff: Duration::from_millis(pick(random, &[0, 10, 200])),
        hedge: None,
    }
}

fn setup(random: &mut Random) -> Setup {
    let many = random.below(9) + 1;
    let even = random.below(2) == 0;
    let weight = |random: &mut Random| if even { 1 } else { pick(random, &[1, 2, 5, 0]) };
    Setup {
        balance: pick(random, &BALANCES),
        weights: (0..many).map(|_| weight(random)).collect(),
        workers: random.below(4) as usize + 1,
        retry: (random.below(4) > 0).then(|| retry(random)),
        timeout: pick(random, &[None, Some(20), Some(300), Some(2_000)]).map(Duration::from_millis),
        rate: pick(random, &[20, 100, 300]),
        lag: Duration::from_millis(pick(random, &[0, 2, 500])),
        checks: pick(random, &[Duration::ZERO, Duration::ZERO, seconds(1), seconds(5)]),
        impatient: pick(random, &[0, 50]),
        slow_bodies: pick(random, &[0, 30]),
        settings: settings(random),
    }
}

/// Something happens to an endpoint, or to all.
fn befall(world: &mut World) {
    let at = world.random.below(world.peers.len() as u64) as usize;
    let draw = world.random.below(100);
    match world.random.below(16) {
        0 | 1 => world.kill(at),
        2 | 3 => world.peers.iter_mut().for_each(|peer| peer.runs = true),
        4 => world.peers[at].fails = draw,
        5 => world.peers[at].hangs = draw / 5,
        6 => world.peers[at].takes = Duration::from_micros(100 << world.random.below(12)),
        7 => world.peers[at].tail = draw / 4,
        8 => world.peers[at].busy_above = 1 + (draw / 10) as u32,
        9 => world.peers[at].feels_well = false,
        10 => world.peers.iter_mut().for_each(|peer| peer.fails = 100),
        11 => world.peers.iter_mut().for_each(recover),
        12 => {
            world.peers[at].listed = !world.peers[at].listed;
            world.publish();
        }
        13 => {
            let address = format!("10.0.1.{}:80", world.peers.len());
            world.peers.push(Peer::new(&address, 1));
            world.publish();
        }
        14 => world.says_goodbye(at),
        _ => {
            // A reload: everything is made anew, and the rules may be others.
            let drawn = settings(&mut world.random);
            world.setup.settings = ClusterSettings { retries: world.setup.settings.retries, ..drawn };
            world.publish();
        }
    }
}

fn recover(peer: &mut Peer) {
    (peer.fails, peer.hangs, peer.tail, peer.busy_above) = (0, 0, 0, u32::MAX);
    (peer.runs, peer.feels_well, peer.takes) = (true, true, Duration::from_millis(1));
}

#[test]
fn whatever_happens_the_rules_are_kept() {
    let (mut good, mut calls, mut resent, mut ejections, mut moved, mut late, mut odd) =
        (0, 0, 0, 0, 0, 0, 0);
    each_seed(LIVES, |seed| {
        let mut random = Random::new(seed.wrapping_mul(2).wrapping_add(1));
        let mut world = World::new(seed, setup(&mut random));
        for _ in 0..pick(&mut random, &[20, 60]) {
            world.run_for(Duration::from_millis(100 + random.below(1_500)));
            befall(&mut world);
        }
        world.end();
        let judge = &world.judge;
        (good, calls, resent) = (good + judge.good, calls + judge.calls, resent + judge.resent);
        (ejections, moved) = (ejections + judge.ejections, moved + judge.moved);
        (late, odd) = (late + judge.late, odd + judge.odd);
    });
    // Lives in which something never happens would prove nothing about it.
    let sums = format!(
        "{good} of {calls} calls, {resent} resent, {moved} moved, {ejections} times out, {late} late, {odd} odd"
    );
    eprintln!("{sums}");
    let all = [resent, ejections, moved, late, odd].iter().all(|count| *count > 0);
    assert!(crate::number("SIM_SEED").is_some() || (all && good * 3 > calls), "{sums}");
}
