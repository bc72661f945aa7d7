//! Picks by key: when one of n endpoints is lost, hardly any key moves but its own, and when it is back they all return.
//!
//! How many move is counted over a hundred thousand keys in the public table; that calls go where the table says is seen of
//! calls: when the endpoint is well, is found ill, and has left the list. Must judge no number that is only near its limit by
//! the chance of few keys.

use std::{collections::HashSet, time::Duration};

use outrigger_core::{
    Balance, Endpoint, EndpointSlot,
    hash::{Hashed, key},
    health::Probed,
};

use crate::{
    each_seed, number,
    world::{Setup, World},
};

const KEYS: u64 = 100_000;

fn table(balance: Balance, endpoints: &[Endpoint]) -> Hashed {
    if balance == Balance::Maglev { Hashed::maglev(endpoints) } else { Hashed::ring(endpoints) }
}

/// The keys of the one that is lost, and those that move when it leaves the list, of [`KEYS`].
fn moved(balance: Balance, endpoints: &[Endpoint], lost: &str) -> (u64, u64) {
    let fewer: Vec<Endpoint> = endpoints.iter().filter(|e| &*e.address != lost).cloned().collect();
    let (before, after) = (table(balance, endpoints), table(balance, &fewer));
    let (mut own, mut moved) = (0, 0);
    for number in 0..KEYS {
        let key = key(&number.to_le_bytes());
        let was = before.position(key, 0).map(|at| &endpoints[at].address);
        let is = after.position(key, 0).map(|at| &fewer[at].address);
        own += u64::from(was.is_some_and(|was| **was == *lost));
        moved += u64::from(was != is);
    }
    (own, moved)
}

/// Where each key's call goes.
fn places(world: &mut World, keys: u64) -> Vec<EndpointSlot> {
    let places = (0..keys).filter_map(|key| world.call(0, key)).collect();
    world.run_for(Duration::from_secs(2));
    places
}

/// Calls go where the table says.
fn agree(world: &World, places: &[EndpointSlot], balance: Balance) {
    let cluster = world.cluster();
    let table = table(balance, &cluster.endpoints);
    for (number, slot) in (0u64..).zip(places) {
        let said = table.position(key(&number.to_le_bytes()), 0).map(|at| &*cluster.endpoints[at].address);
        let went = world.workers[0].local.endpoint(*slot).map(|state| &*state.address);
        assert_eq!(said, went, "{balance:?}: key {number} went elsewhere");
    }
}

fn lose_one_of(n: u64, balance: Balance, seed: u64) {
    let mut world = World::new(seed, Setup { balance, weights: vec![1; n as usize], ..Setup::default() });
    let (keys, lost) = (20 + 8 * n, (seed % n) as usize);
    let address = world.peers[lost].address.clone();
    let (own, gone) = moved(balance, &world.cluster().endpoints, &address);
    let most = KEYS * 3 / 2 / n;
    assert!((1..=most).contains(&own), "{balance:?}: {own} of {KEYS} keys are those of one of {n}");
    assert!((1..=most).contains(&gone), "{balance:?}: {gone} of {KEYS} keys move when one of {n} leaves");

    let before = places(&mut world, keys);
    agree(&world, &before, balance);
    let cluster = world.cluster().clone();
    cluster.healths[lost].probed(&cluster.crowd, Probed::Ill, world.now);
    let ill = places(&mut world, keys);
    assert_eq!(ill, places(&mut world, keys), "{balance:?}: of {n}, keys of the one that is ill go anywhere");
    let left: HashSet<_> =
        before.iter().zip(&ill).filter(|(was, is)| was != is).map(|(was, _)| *was).collect();
    let its = |slot: &EndpointSlot| {
        world.workers[0].local.endpoint(*slot).is_some_and(|state| *state.address == *address)
    };
    assert!(left.iter().all(its), "{balance:?}: of {n}, others than the one that is ill lost keys: {left:?}");
    assert!(!ill.iter().any(its), "{balance:?}: of {n}, one that is ill got calls");
    cluster.healths[lost].probed(&cluster.crowd, Probed::Well, world.now);
    assert_eq!(before, places(&mut world, keys), "{balance:?}: of {n}, keys did not come back");
    world.peers[lost].listed = false;
    world.publish();
    world.run_for(Duration::from_millis(10));
    let after = places(&mut world, keys);
    agree(&world, &after, balance);
    world.end();
}

#[test]
fn when_one_of_n_is_lost_few_keys_move() {
    // Each from 2 to 100 where lives are asked for.
    let all = number("SIM_LIVES").is_some();
    each_seed(1, |seed| {
        for n in (2..=100).filter(|n| all || *n <= 4 || [25, 50, 100].contains(n)) {
            lose_one_of(n, Balance::RingHash, seed + n);
            lose_one_of(n, Balance::Maglev, seed + n);
        }
    });
}
