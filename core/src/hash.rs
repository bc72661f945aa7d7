//! Picking by a key, so that calls alike go to the same endpoint: ring hash and Maglev.
//!
//! Sources: Karger et al. 1997 (ring, here with points by weight as Ketama), Eisenbud et al. 2016 (Maglev §3.4). Tables are
//! made with the snapshot, off the workers' threads; a pick is one hash and one look, or a binary search. An endpoint's points
//! depend on its address alone, so that little moves when others come and go.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hasher},
};

use foldhash::quality::FixedState;

use crate::Endpoint;

/// Places of Maglev's table: a prime, a thousand times the endpoints that a cluster usually has. With half as many, one of a
/// hundred that leaves moves more than half as many keys again as were its own.
const MAGLEV: usize = 131_071;
/// The same for clusters of many endpoints.
const MAGLEV_MANY: usize = 655_373;
/// From so many on.
const MANY: usize = 600;
/// Points of an endpoint of weight one on the ring.
const POINTS: usize = 256;
/// Points of all endpoints together, about: 8 MiB.
const POINTS_MAX: usize = 1 << 19;

/// A table of endpoints by key.
#[derive(Clone, Debug, Default)]
pub enum Hashed {
    /// None is needed.
    #[default]
    None,
    /// Points in order, each an endpoint's.
    Ring(Box<[(u64, u32)]>),
    /// One endpoint for each remainder.
    Maglev(Box<[u32]>),
}

/// A number for bytes: the same in every process.
pub fn key(bytes: &[u8]) -> u64 {
    seeded(bytes, 0x6f75_7472_6967)
}

fn seeded(bytes: &[u8], seed: u64) -> u64 {
    let mut hasher = FixedState::with_seed(seed).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// Weights without their common factor, none above 100 points' worth.
fn shares<E: Borrow<Endpoint>>(endpoints: &[E]) -> Vec<u64> {
    let endpoints = || endpoints.iter().map(Borrow::borrow);
    let all_zero = endpoints().all(|endpoint| endpoint.weight == 0);
    let most = endpoints().map(|endpoint| endpoint.weight).max().unwrap_or(1).max(1);
    let share = |endpoint: &Endpoint| {
        if all_zero {
            return 100;
        }
        let share = u64::from(endpoint.weight).saturating_mul(100).checked_div(u64::from(most)).unwrap_or(0);
        // A small weight must not vanish; none at all means none.
        if endpoint.weight == 0 { 0 } else { share.max(1) }
    };
    endpoints().map(share).collect()
}

impl Hashed {
    /// A ring of these endpoints.
    pub fn ring<E: Borrow<Endpoint>>(endpoints: &[E]) -> Self {
        let each = POINTS.min(POINTS_MAX.checked_div(endpoints.len().max(1)).unwrap_or(POINTS)).max(16);
        let mut points = Vec::new();
        for ((endpoint, share), at) in endpoints.iter().zip(shares(endpoints)).zip(0u32..) {
            let count = (each as u64).saturating_mul(share).div_ceil(100);
            // The address is read once, however many points it has.
            let own = key(endpoint.borrow().address.as_bytes());
            points.extend((0..count).map(|point| (seeded(&point.to_le_bytes(), own), at)));
        }
        points.sort_unstable();
        Self::Ring(points.into())
    }

    /// Maglev's table of these endpoints.
    pub fn maglev<E: Borrow<Endpoint>>(endpoints: &[E]) -> Self {
        let shares = shares(endpoints);
        let size = if endpoints.len() < MANY { MAGLEV } else { MAGLEV_MANY };
        if shares.iter().all(|share| *share == 0) {
            return Self::Maglev(Box::default());
        }
        // Each endpoint fills the free places of its own permutation in turn, as often as its weight says.
        let mut walks: Vec<(usize, usize)> = endpoints
            .iter()
            .map(|endpoint| {
                let bytes = endpoint.borrow().address.as_bytes();
                let below =
                    |seed, most: usize| seeded(bytes, seed).checked_rem(most as u64).unwrap_or(0) as usize;
                (below(1, size), below(2, size.saturating_sub(1)).saturating_add(1))
            })
            .collect();
        let mut table = vec![u32::MAX; size];
        // Which places are taken, by bit: that fits where the whole table does not, and is looked at far more often.
        let mut taken = vec![0u64; size.div_ceil(64)];
        let bit = |place: usize| (place >> 6, 1u64 << (place & 63));
        let mut credit = vec![0u64; endpoints.len()];
        let mut left = size;
        while left > 0 {
            for (((walk, share), credit), at) in walks.iter_mut().zip(&shares).zip(&mut credit).zip(0u32..) {
                *credit = credit.saturating_add(*share);
                if *credit < 100 || left == 0 {
                    continue;
                }
                *credit = credit.saturating_sub(100);
                // The table's size is prime: the walk comes to every place.
                let is_taken = |taken: &[u64], place| {
                    let (word, bit) = bit(place);
                    taken.get(word).is_some_and(|word| word & bit != 0)
                };
                while is_taken(&taken, walk.0) {
                    // Both are below the size: no division is needed to stay there.
                    let next = walk.0.wrapping_add(walk.1);
                    walk.0 = if next < size { next } else { next.wrapping_sub(size) };
                }
                let (word, bit) = bit(walk.0);
                if let (Some(place), Some(word)) = (table.get_mut(walk.0), taken.get_mut(word)) {
                    (*place, *word) = (at, *word | bit);
                    left = left.saturating_sub(1);
                }
            }
        }
        Self::Maglev(table.into())
    }

    /// What it takes of memory.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Ring(points) => size_of_val(&**points),
            Self::Maglev(table) => size_of_val(&**table),
        }
    }

    /// The endpoint of a key at the `turn`th look: each look further gives another place, for who finds an endpoint that
    /// cannot be used.
    pub fn position(&self, key: u64, turn: usize) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Ring(points) => {
                let from = points.partition_point(|(point, _)| *point < key);
                let at = from.wrapping_add(turn).checked_rem(points.len())?;
                points.get(at).map(|(_, endpoint)| *endpoint as usize)
            }
            Self::Maglev(table) => {
                let key = if turn == 0 { key } else { seeded(&key.to_le_bytes(), turn as u64) };
                let at = usize::try_from(key.checked_rem(table.len() as u64)?).ok()?;
                table.get(at).map(|endpoint| *endpoint as usize)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // tests fail by panicking
mod tests {
    use super::*;

    fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
        let address = |at: usize| format!("10.0.0.{at}:12200");
        weights.iter().enumerate().map(|(at, weight)| Endpoint::new(&address(at), *weight)).collect()
    }

    fn spread(table: &Hashed, n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        (0..100_000u64).for_each(|k| counts[table.position(key(&k.to_le_bytes()), 0).unwrap()] += 1);
        counts
    }

    #[test]
    fn when_one_of_n_leaves_little_else_moves() {
        for n in [3usize, 10, 50, 100] {
            for make in [Hashed::ring, Hashed::maglev] {
                let all = endpoints(&vec![1; n]);
                let fewer: Vec<Endpoint> =
                    all.iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, e)| e.clone()).collect();
                let (before, after) = (make(&all), make(&fewer));
                let moved = (0..100_000u64)
                    .filter(|k| {
                        let k = key(&k.to_le_bytes());
                        let was = &all[before.position(k, 0).unwrap()].address;
                        *was != fewer[after.position(k, 0).unwrap()].address
                    })
                    .count();
                assert!(moved as f64 / 100_000.0 <= 1.5 / n as f64, "{n}: {moved}");
            }
        }
    }

    #[test]
    fn weights_are_followed_and_none_means_none() {
        for make in [Hashed::ring, Hashed::maglev] {
            let counts = spread(&make(&endpoints(&[100, 200, 0, 100])), 4);
            assert_eq!(counts[2], 0);
            assert!((42_000..58_000).contains(&counts[1]), "{counts:?}");
            let equal = spread(&make(&endpoints(&[0, 0])), 2);
            assert!(equal.iter().all(|count| *count > 40_000), "{equal:?}");
        }
        assert_eq!(Hashed::ring::<Endpoint>(&[]).position(7, 0), None);
        assert_eq!(Hashed::maglev::<Endpoint>(&[]).position(7, 0), None);
    }

    #[test]
    fn who_looks_further_finds_everybody() {
        for table in [Hashed::ring(&endpoints(&[1; 5])), Hashed::maglev(&endpoints(&[1; 5]))] {
            let mut found: Vec<usize> =
                (0..200).filter_map(|turn| table.position(key(b"me"), turn)).collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), 5);
        }
    }

    #[test]
    fn tables_of_many_endpoints_are_bounded() {
        let many = endpoints(&vec![1; 10_000]);
        let Hashed::Ring(points) = Hashed::ring(&many) else { panic!("a ring") };
        assert!(points.len() <= POINTS_MAX + 16 * many.len());
        assert!(matches!(Hashed::maglev(&many), Hashed::Maglev(table) if table.len() == MAGLEV_MANY));
    }
}
