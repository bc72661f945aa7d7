//! Picking one endpoint of a cluster.
//!
//! * `round_robin`: in turn; by weight in the smooth order nginx made known.
//! * `random`: by weight.
//! * `least_request`: fewest calls in flight for its weight, where that is equal one drawn by weight; all endpoints are looked at
//!   when there are at most eight, otherwise two drawn by weight.
//! * `p2c_ewma`: of two drawn by weight the one with the smaller peak-EWMA latency × (in flight for its weight + 1), as Finagle.
//!
//! * `ring_hash`, `maglev`: by a key of the call; who has none goes anywhere.
//!
//! Where two are drawn of very many, they are drawn of a part that moves on little by little ([`crate::window`]).
//!
//! Each of them picks among the endpoints of a *part* of the cluster: those that the call is meant for, and of these the near
//! ones as long as enough of them are well (`subset`).
//!
//! Endpoints that just failed, were left out or found ill are passed over while others are left; when none is left, or
//! fewer than the cluster's panic threshold, all are tried, because an answer of "no endpoint" helps nobody. One that is
//! new gets its share little by little where the cluster has a slow start.

use crate::{
    Cluster, Endpoint, Local, Lot, Tick, Tried, hash,
    local::EndpointSlot,
    subset::{Part, Standing},
    window::Window,
};

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
    /// Fewest calls in flight.
    LeastRequest,
    /// The better of two by latency and load.
    #[default]
    P2cEwma,
    /// By key, on a ring of points.
    RingHash,
    /// By key, in Maglev's table.
    Maglev,
}

/// Up to so many endpoints `least_request` looks at all of them.
const SCAN_MAX: usize = 8;
/// Longest table of weighted turns; weights are scaled down to fit.
const TURNS_MAX: u64 = 4096;

/// Looks at a table by key before any usable endpoint will do.
const LOOKS_MAX: usize = 64;

/// Whose turn it is: some of the endpoints of a cluster, seen by one call.
#[derive(Clone, Copy)]
struct Field<'a> {
    cluster: &'a Cluster,
    /// The cluster's index in the snapshot.
    at: u32,
    /// The place of the part, and the part.
    place: u32,
    part: &'a Part,
    /// Passed over where there is another.
    but: Tried,
    /// Also those that are left out.
    all: bool,
    /// None that is to be passed over, even where there is no other.
    strict: bool,
    now: Tick,
}

impl Field<'_> {
    fn slot(&self, local: &Local, at: usize) -> Option<EndpointSlot> {
        local.slot_of(self.at, self.part.position(at))
    }

    fn weight(&self, at: usize) -> u32 {
        self.cluster.endpoints.get(self.part.position(at)).map_or(1, |endpoint| endpoint.weight)
    }

    /// Its weight, where all together have 1 each.
    fn relative(&self, at: usize) -> f64 {
        match self.part.weights.cumulative.last() {
            Some(total) => f64::from(self.weight(at)) * self.part.size as f64 / *total as f64,
            None => 1.0,
        }
    }

    /// Whether it gets calls by its weight.
    fn is_weighty(&self, at: usize) -> bool {
        self.weight(at) > 0 || self.part.weights.turns.is_empty()
    }

    fn is_usable(&self, local: &Local, slot: EndpointSlot) -> bool {
        !self.but.has(slot) && !local.avoided(slot, self.all, self.now)
    }
}

/// Picks one of the endpoints of `cluster` (index `at` in the snapshot) that a call of `lot` is meant for, passing over `but`
/// where there is another. `key`: for picks by one. `None`: there is no such endpoint.
pub(crate) fn pick(
    local: &mut Local,
    cluster: &Cluster,
    (at, lot): (u32, Lot),
    key: Option<u64>,
    but: Tried,
    now: Tick,
) -> Option<EndpointSlot> {
    let (place, part) = cluster.parts.find(lot)?;
    let standing = local.standing(cluster, at, (place, part), now);
    let whole = Field { cluster, at, place, part, but, all: standing.panics, strict: false, now };
    if part.levels.is_empty() || standing.panics {
        return pick_in(local, whole, key);
    }
    // Calls of one key that go further away go to the same place all the same.
    let ball = key.map_or_else(|| local.random(1_000), |key| hash::key(&key.to_le_bytes()) % 1_000);
    let first = standing.level(ball as u16);
    let others = (0..part.levels.len()).filter(|level| *level != first);
    for level in std::iter::once(first).chain(others) {
        let Some(place) = part.levels.get(level).copied() else { continue };
        let Some(part) = cluster.parts.get(place) else { continue };
        let near = Field { place, part, ..whole };
        if let Some(slot) = pick_in(local, near, key).filter(|slot| near.is_usable(local, *slot)) {
            return Some(slot);
        }
    }
    pick_in(local, Field { all: true, ..whole }, key)
}

/// Picks one of these, near or far.
fn pick_in(local: &mut Local, field: Field<'_>, key: Option<u64>) -> Option<EndpointSlot> {
    if field.part.size <= 1 {
        return field.slot(local, 0);
    }
    if let Some(slot) = key.and_then(|key| by_key(local, field, key)) {
        return Some(slot);
    }
    let picked = pick_any(local, field)?;
    // One that is new takes its part of the calls that would be its, and passes the others on.
    let share = local.share(picked, field.cluster, field.now);
    if share < 1_000 && local.random(1_000) >= share {
        // Not to one that is not to be used: the new one at least may be.
        let others = Field { but: field.but.with(picked), strict: true, ..field };
        return pick_any(local, others).or(Some(picked));
    }
    Some(picked)
}

/// Whether so few endpoints of a cluster are usable that all are used.
pub fn panics(cluster: &Cluster, now: Tick) -> bool {
    match cluster.parts.find(Lot::ALL) {
        Some((_, part)) if !part.levels.is_empty() && cluster.crowd.unusable() > 0 => {
            let spill = cluster.settings.division.zones.as_ref().map_or(100, |zones| zones.spill);
            Standing::of(&cluster.parts, part, &cluster.healths, (spill, cluster.settings.panic), now).panics
        }
        _ => few(cluster),
    }
}

/// Whether few of all endpoints are usable, by what is counted of them.
pub(crate) fn few(cluster: &Cluster) -> bool {
    let unusable = u64::from(cluster.crowd.unusable());
    let size = cluster.endpoints.len() as u64;
    let usable = size.saturating_sub(unusable).saturating_mul(100);
    unusable > 0 && usable < size.saturating_mul(u64::from(cluster.settings.panic))
}

/// The endpoint of a key, or the next on its way that can be used.
fn by_key(local: &Local, field: Field<'_>, key: u64) -> Option<EndpointSlot> {
    (0..LOOKS_MAX).find_map(|turn| {
        let slot = field.slot(local, field.part.hashed.position(key, turn)?)?;
        field.is_usable(local, slot).then_some(slot)
    })
}

fn pick_any(local: &mut Local, field: Field<'_>) -> Option<EndpointSlot> {
    let n = field.part.size;
    let first = match field.cluster.balance {
        // Turns are for calls, not tries: of two endpoints, one that fails would be first with every call.
        Balance::RoundRobin if field.but == Tried::default() => turn(local, field),
        Balance::RoundRobin | Balance::Random | Balance::RingHash | Balance::Maglev => draw(local, field),
        Balance::LeastRequest if n <= SCAN_MAX => return least(local, field),
        Balance::LeastRequest => better(local, field, Local::load),
        Balance::P2cEwma => better(local, field, |local, slot, weight| local.cost(slot, weight, field.now)),
    };
    let usable =
        |local: &Local, at: usize| field.slot(local, at).filter(|slot| field.is_usable(local, *slot));
    let reachable = |local: &Local, at: usize| {
        field.slot(local, at).filter(|slot| !field.but.has(*slot) && local.reachable(*slot, field.now))
    };
    // From the one picked onwards: the first that may be used; otherwise one that is left out, but can be reached as far as
    // is known; otherwise any other than `but`; otherwise itself.
    let around = |from: usize| (0..n).map(move |step| from.wrapping_add(step).checked_rem(n).unwrap_or(0));
    let weighty = |at: &usize| field.is_weighty(*at);
    let best = around(first).filter(weighty).find_map(|at| usable(local, at));
    if best.is_some() || field.strict {
        return best;
    }
    around(first)
        .filter(weighty)
        .find_map(|at| reachable(local, at))
        .or_else(|| around(first).find_map(|at| field.slot(local, at).filter(|slot| !field.but.has(*slot))))
        .or_else(|| field.slot(local, first))
}

/// The next position in turn.
fn turn(local: &mut Local, field: Field<'_>) -> usize {
    let turns = &field.part.weights.turns;
    let count = if turns.is_empty() { field.part.size } else { turns.len() };
    let next = local.next_turn(field.at, field.place).checked_rem(count).unwrap_or(0);
    turns.get(next).map_or(next, |position| *position as usize)
}

/// A position at random, by weight.
fn draw(local: &mut Local, field: Field<'_>) -> usize {
    let cumulative = &field.part.weights.cumulative;
    match cumulative.last() {
        Some(total) => {
            let ball = local.random(*total);
            cumulative.partition_point(|end| *end <= ball)
        }
        None => local.random(field.part.size as u64) as usize,
    }
}

/// The same within a window.
fn draw_in(local: &mut Local, field: Field<'_>, window: Window) -> usize {
    let (size, cumulative) = (field.part.size, &field.part.weights.cumulative);
    let Some(total) = cumulative.last().copied() else {
        return window.position(local.random(window.width as u64) as usize, size);
    };
    let upto = |end: usize| end.checked_sub(1).and_then(|at| cumulative.get(at)).copied().unwrap_or(0);
    let (from, end) = (upto(window.start), window.start.saturating_add(window.width));
    // What is beyond the last goes on with the first.
    let span = upto(end.min(size)).saturating_sub(from).saturating_add(upto(end.saturating_sub(size)));
    if span == 0 {
        // Nobody in it gets any calls.
        return draw(local, field);
    }
    let ball = from.saturating_add(local.random(span));
    let ball = if ball < total { ball } else { ball.saturating_sub(total) };
    cumulative.partition_point(|end| *end <= ball)
}

/// The cheaper of two positions drawn at random.
fn better(local: &mut Local, field: Field<'_>, cost: impl Fn(&Local, EndpointSlot, f64) -> f64) -> usize {
    let window = local.window((field.at, field.place), field.part.size, field.now);
    let draw = |local: &mut Local| match window {
        Some(window) => draw_in(local, field, window),
        None => draw(local, field),
    };
    let one = draw(local);
    let mut two = draw(local);
    if one == two && field.part.weights.turns.is_empty() {
        // The neighbour keeps the choice a real one without a third draw. Where weights differ it would get what is another's.
        two = two.wrapping_add(1).checked_rem(field.part.size).unwrap_or(0);
    }
    let price =
        |at: usize| field.slot(local, at).map_or(f64::INFINITY, |slot| cost(local, slot, field.relative(at)));
    if price(two) < price(one) { two } else { one }
}

/// The usable endpoint with the fewest calls in flight for its weight, looked for from one drawn by weight.
fn least(local: &mut Local, field: Field<'_>) -> Option<EndpointSlot> {
    let n = field.part.size;
    let from = draw(local, field);
    let mut best: Option<(u8, f64, EndpointSlot)> = None;
    for step in 0..n {
        let at = from.wrapping_add(step).checked_rem(n)?;
        let Some(slot) = field.slot(local, at) else { continue };
        // The one that just failed this call is the last resort; others that failed come before it, and before them those
        // that are only left out.
        let shunned = if field.but.has(slot) {
            3
        } else if !local.reachable(slot, field.now) {
            2
        } else {
            u8::from(local.avoided(slot, field.all, field.now) || !field.is_weighty(at))
        };
        let load = local.load(slot, field.relative(at));
        if best.is_none_or(|(was_shunned, least, _)| (shunned, load) < (was_shunned, least)) {
            best = Some((shunned, load, slot));
        }
    }
    best.filter(|(shunned, ..)| *shunned == 0 || !field.strict).map(|(_, _, slot)| slot)
}

/// What picks by weight need; empty when all weights are equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weights {
    /// Weights added up.
    cumulative: Box<[u64]>,
    /// Positions in weighted turn.
    turns: Box<[u32]>,
}

impl Weights {
    /// The tables of these endpoints.
    pub(crate) fn new(endpoints: &[&Endpoint]) -> Self {
        let weights: Vec<u64> = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).collect();
        let total: u64 = weights.iter().fold(0, |sum, weight| sum.saturating_add(*weight));
        if total == 0 || weights.windows(2).all(|pair| pair.first() == pair.last()) {
            return Self::default();
        }
        let mut sum = 0u64;
        let add = |weight: &u64| {
            sum = sum.saturating_add(*weight);
            sum
        };
        Self { cumulative: weights.iter().map(add).collect(), turns: turns(&weights, total) }
    }
}

/// One round of smooth weighted round-robin: at each step every endpoint gains its weight, and the one that has
/// most is taken and pays the total.
fn turns(weights: &[u64], total: u64) -> Box<[u32]> {
    let divisor = weights.iter().fold(0, |d, weight| gcd(d, *weight)).max(1);
    let scale = total.checked_div(divisor).unwrap_or(0).div_ceil(TURNS_MAX).max(1).saturating_mul(divisor);
    // A small weight scaled down must not vanish.
    let scaled: Vec<i64> = weights
        .iter()
        .map(|w| if *w == 0 { 0 } else { w.checked_div(scale).unwrap_or(0).max(1) as i64 })
        .collect();
    let total: i64 = scaled.iter().fold(0, |sum, weight| sum.saturating_add(*weight));
    let mut credit = vec![0i64; scaled.len()];
    let mut order = Vec::with_capacity(total as usize);
    for _ in 0..total {
        for (have, gain) in credit.iter_mut().zip(&scaled) {
            *have = have.saturating_add(*gain);
        }
        let mut most = 0;
        for (at, have) in credit.iter().enumerate() {
            if credit.get(most).is_none_or(|best| have > best) {
                most = at;
            }
        }
        if let Some(have) = credit.get_mut(most) {
            *have = have.saturating_sub(total);
        }
        order.push(most as u32);
    }
    order.into()
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // tests fail by panicking
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::*;
    use crate::{ClusterSettings, Endpoint, Snapshot};

    fn snapshot(balance: Balance, weights: &[u32]) -> Snapshot {
        let endpoints = weights
            .iter()
            .enumerate()
            .map(|(at, weight)| Endpoint::new(&format!("e{at}:1"), *weight))
            .collect();
        Snapshot::new(1, Vec::new(), vec![Cluster::new("c", balance, ClusterSettings::default(), endpoints)])
    }

    fn picked(local: &mut Local, snapshot: &Snapshot) -> EndpointSlot {
        let cluster = snapshot.cluster(0).unwrap();
        pick(local, cluster, (0, Lot::ALL), None, Tried::default(), Tick(1)).unwrap()
    }

    fn shares(balance: Balance, weights: &[u32], picks: usize) -> Vec<usize> {
        let snapshot = snapshot(balance, weights);
        let mut local = Local::new(42);
        local.reconcile(&snapshot);
        let mut count = vec![0; weights.len()];
        for _ in 0..picks {
            let slot = picked(&mut local, &snapshot);
            let position = (0..weights.len()).find(|at| local.slot_of(0, *at) == Some(slot)).unwrap();
            count[position] += 1;
        }
        count
    }

    #[test]
    fn round_robin_is_exact_by_weight() {
        assert_eq!(shares(Balance::RoundRobin, &[1, 1, 1], 9), [3, 3, 3]);
        assert_eq!(shares(Balance::RoundRobin, &[5, 1, 1], 14), [10, 2, 2]);
        assert_eq!(shares(Balance::RoundRobin, &[3, 0, 1], 8), [6, 0, 2]);
        assert_eq!(shares(Balance::RoundRobin, &[0, 0], 8), [4, 4]);
        assert_eq!(*turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn whose_turn_it_is_does_not_follow_from_what_is_tried_again() {
        let snapshot = snapshot(Balance::RoundRobin, &[1, 1]);
        let mut local = Local::new(42);
        local.reconcile(&snapshot);
        let bad = local.slot_of(0, 0).unwrap();
        let mut first = 0;
        for _ in 0..100 {
            let slot = picked(&mut local, &snapshot);
            if slot == bad {
                first += 1;
                assert!(local.elsewhere(&snapshot, bad, (Lot::ALL, Tried::default()), Tick(1)).is_some());
            }
        }
        assert_eq!(first, 50);
    }

    #[test]
    fn huge_weights_make_small_tables() {
        let order = turns(&[4_000_000_000, 1, 3_999_999_999], 8_000_000_000);
        assert!(order.len() as u64 <= TURNS_MAX + 3);
        assert!(order.contains(&1), "the smallest weight still gets a turn");
    }

    #[test]
    fn draws_follow_weights() {
        for balance in [Balance::Random, Balance::P2cEwma, Balance::LeastRequest] {
            let even = shares(balance, &[1; 10], 10_000);
            assert!(even.iter().all(|n| (700..1300).contains(n)), "{balance:?} {even:?}");
        }
        let skewed = shares(Balance::Random, &[8, 0, 2], 10_000);
        assert!((7_700..8_300).contains(&skewed[0]) && skewed[1] == 0, "{skewed:?}");
    }

    #[test]
    fn of_very_many_few_are_called_at_a_time_and_all_in_the_long_run() {
        let weights: Vec<u32> = (0..1_000).map(|at| if at % 2 == 0 { 1 } else { 3 }).collect();
        for (balance, weights) in [
            (Balance::P2cEwma, &[1; 1_000][..]),
            (Balance::LeastRequest, &weights),
            (Balance::P2cEwma, &weights),
        ] {
            let snapshot = snapshot(balance, weights);
            let mut local = Local::new(7);
            local.reconcile(&snapshot);
            let mut count = HashMap::new();
            let picks = |local: &mut Local, picks: usize, now: Tick| {
                let mut seen = HashMap::<_, usize>::new();
                for _ in 0..picks {
                    let cluster = snapshot.cluster(0).unwrap();
                    let slot = pick(local, cluster, (0, Lot::ALL), None, Tried::default(), now).unwrap();
                    *seen.entry(slot).or_default() += 1;
                }
                seen
            };
            let at_once = picks(&mut local, 5_000, Tick(1)).len();
            assert!((100..=129).contains(&at_once), "{balance:?}: {at_once}");
            // Once round.
            for second in 0..1_000 {
                for (slot, times) in picks(&mut local, 300, Tick(second * 1_000_000_000)) {
                    *count.entry(slot).or_insert(0) += times;
                }
            }
            let of = |heavy: bool| -> usize {
                let is = |at: &usize| (weights[*at] > 1) == heavy;
                (0..1_000)
                    .filter(is)
                    .map(|at| count.get(&local.slot_of(0, at).unwrap()).copied().unwrap_or(0))
                    .sum()
            };
            assert_eq!(count.len(), 1_000, "{balance:?}: all get calls");
            if weights[1] > 1 {
                let ratio = of(true) as f64 / of(false) as f64;
                assert!((2.8..3.2).contains(&ratio), "{balance:?}: {ratio}");
            }
        }
    }

    #[test]
    fn failed_endpoints_are_passed_over_until_all_failed() {
        for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest, Balance::P2cEwma] {
            let snapshot = snapshot(balance, &[1, 1, 1]);
            let mut local = Local::new(1);
            local.reconcile(&snapshot);
            let cluster = snapshot.cluster(0).unwrap();
            let slot = |local: &Local, at| local.slot_of(0, at).unwrap();
            let later = Tick::ZERO.after(Duration::from_secs(1));
            let (bad, worse, good) = (slot(&local, 0), slot(&local, 1), slot(&local, 2));
            local.avoid(bad, later);
            local.avoid(worse, later);
            for _ in 0..50 {
                assert_eq!(
                    pick(&mut local, cluster, (0, Lot::ALL), None, Tried::default(), Tick(5)),
                    Some(good),
                    "{balance:?}"
                );
                assert_ne!(
                    pick(&mut local, cluster, (0, Lot::ALL), None, Tried::default().with(good), Tick(5)),
                    Some(good),
                    "{balance:?}"
                );
            }
            local.avoid(good, later);
            assert!(
                pick(&mut local, cluster, (0, Lot::ALL), None, Tried::default(), Tick(5)).is_some(),
                "all failed: try anyway"
            );
        }
    }

    #[test]
    fn who_is_left_out_comes_before_who_refuses_connections() {
        for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest, Balance::P2cEwma] {
            let mut cluster = (**snapshot(balance, &[1, 1, 1]).cluster(0).unwrap()).clone();
            cluster.crowd =
                std::sync::Arc::new(crate::health::Crowd::new(3, Some(crate::Outlier::default())));
            let snapshot = Snapshot::new(1, Vec::new(), vec![cluster]);
            let mut local = Local::new(1);
            local.reconcile(&snapshot);
            let [out, refuses, failed] = [0, 1, 2].map(|at| local.slot_of(0, at).unwrap());
            (0..5).for_each(|_| local.failed_at(out, Tick(5)));
            local.avoid(refuses, Tick::ZERO.after(Duration::from_secs(1)));
            assert!(local.avoided(out, false, Tick(5)));
            for _ in 0..50 {
                let other = local.elsewhere(&snapshot, failed, (Lot::ALL, Tried::default()), Tick(5));
                assert_eq!(other, Some(out), "{balance:?}");
            }
        }
    }

    #[test]
    fn who_was_left_out_is_tried_again_however_bad_it_was() {
        let mut cluster = (**snapshot(Balance::P2cEwma, &[1, 1]).cluster(0).unwrap()).clone();
        cluster.crowd = std::sync::Arc::new(crate::health::Crowd::new(2, Some(crate::Outlier::default())));
        let snapshot = Snapshot::new(1, Vec::new(), vec![cluster]);
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let [out, good] = [0, 1].map(|at| local.slot_of(0, at).unwrap());
        (0..5).for_each(|_| local.failed_at(out, Tick(5)));
        let picked = |local: &mut Local, now| {
            let pick =
                |_| pick(local, snapshot.cluster(0).unwrap(), (0, Lot::ALL), None, Tried::default(), now);
            (0..50).map(pick).filter(|slot| *slot == Some(out)).count()
        };
        assert_ne!(out, good);
        assert_eq!(picked(&mut local, Tick::ZERO.after(Duration::from_secs(9))), 0);
        assert!(picked(&mut local, Tick::ZERO.after(Duration::from_secs(11))) > 0);
    }

    #[test]
    fn who_begins_slowly_passes_calls_on_to_nobody_who_is_left_out() {
        for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest, Balance::P2cEwma] {
            let outlier = Some(crate::Outlier::default());
            let settings = ClusterSettings {
                outlier,
                slow_start: Duration::from_secs(30),
                ..ClusterSettings::default()
            };
            let endpoints = ["new:1", "out:1"].map(|address| Endpoint::new(address, 1)).to_vec();
            let cluster = Cluster::new("c", balance, settings, endpoints);
            cluster.healths[0].begins(Tick(1));
            let snapshot = Snapshot::new(1, Vec::new(), vec![cluster]);
            let mut local = Local::new(1);
            local.reconcile(&snapshot);
            let [new, out] = [0, 1].map(|at| local.slot_of(0, at).unwrap());
            (0..5).for_each(|_| local.failed_at(out, Tick(5)));
            for _ in 0..50 {
                let picked = pick(
                    &mut local,
                    snapshot.cluster(0).unwrap(),
                    (0, Lot::ALL),
                    None,
                    Tried::default(),
                    Tick(1_000_000_000),
                );
                assert_eq!(picked, Some(new), "{balance:?}");
            }
        }
    }

    #[test]
    fn a_call_goes_where_it_was_not_yet() {
        for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest, Balance::P2cEwma] {
            let snapshot = snapshot(balance, &[1, 1, 1]);
            let mut local = Local::new(1);
            local.reconcile(&snapshot);
            let [one, two, three] = [0, 1, 2].map(|at| local.slot_of(0, at).unwrap());
            let tried = Tried::default().with(one);
            for _ in 0..50 {
                let other = local.elsewhere(&snapshot, two, (Lot::ALL, tried), Tick(5));
                assert_eq!(other, Some(three), "{balance:?}");
                let again = local.elsewhere(&snapshot, two, (Lot::ALL, tried.with(three)), Tick(5));
                assert!(again.is_some_and(|again| again != two), "{balance:?}: it was everywhere");
            }
            local.avoid(three, Tick::ZERO.after(Duration::from_secs(1)));
            let other = local.elsewhere(&snapshot, two, (Lot::ALL, tried), Tick(5));
            assert_eq!(other, Some(one), "{balance:?}: what cannot be reached is no choice");
        }
    }
}
