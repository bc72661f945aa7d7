//! Clusters made on demand: made when the first call names a service, kept while calls do, given up when none did for a while.
//! The application may also say that it wants one; then it is there before the first call, and kept while that is so.
//!
//! Each is a cluster of the plan like any other from then on. Bounded: at the most there may be, the one that was not used for
//! longest goes. Must never leave a call waiting: a service of which nothing is known after a time is known to have no
//! endpoint.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use outrigger_core::{Awaited, Tick};

use crate::conf::lower::Plan;

/// Clusters made on demand at once.
const CLUSTERS_MAX: usize = 10_000;
/// How long one is kept that no call is for.
const UNUSED: Duration = Duration::from_secs(600);
/// How long one is kept that has no endpoint and that no call is for: whoever asks for names at random fills nothing for long.
const EMPTY: Duration = Duration::from_secs(60);

/// The clusters that were made on demand.
#[derive(Debug, Default)]
pub struct Demands {
    made: BTreeMap<Box<str>, Made>,
}

#[derive(Debug)]
struct Made {
    awaited: Awaited,
    /// In whole seconds.
    used: Arc<AtomicU64>,
    /// The application said that it wants it.
    held: bool,
}

impl Demands {
    /// Calls wait for a service: whether a cluster is to be made of it.
    pub fn ask(&mut self, awaited: Awaited, now: Tick) -> bool {
        let second = seconds(now);
        if let Some(made) = self.made.get(&awaited.cluster) {
            made.used.store(second, Relaxed);
            return false;
        }
        if self.made.len() >= CLUSTERS_MAX {
            let oldest = self.made.iter().min_by_key(|(_, made)| (made.held, made.used.load(Relaxed)));
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.made.remove(&name);
            }
        }
        tracing::debug!(cluster = &*awaited.cluster, "a call names a service for the first time");
        let used = Arc::new(AtomicU64::new(second));
        self.made.insert(awaited.cluster.clone(), Made { awaited, used, held: false });
        true
    }

    /// Exactly these are wanted from now on, whether calls are for them or not; those that were are left to their calls. Whether
    /// any is new.
    pub fn hold(&mut self, wanted: Vec<Awaited>, now: Tick) -> bool {
        for made in self.made.values_mut() {
            made.held = false;
        }
        let mut new = false;
        for awaited in wanted {
            let name = awaited.cluster.clone();
            let known = self.made.contains_key(&name);
            if !known {
                new |= self.ask(awaited, now);
            }
            if let Some(made) = self.made.get_mut(&name) {
                made.held = true;
            }
        }
        new
    }

    /// Gives up those that no call was for lately; `is_empty` tells of which no endpoint is known. Whether any was.
    pub fn expire(&mut self, is_empty: impl Fn(&str) -> bool, now: Tick) -> bool {
        let before = self.made.len();
        self.made.retain(|name, made| {
            let unused = Duration::from_secs(seconds(now).saturating_sub(made.used.load(Relaxed)));
            let most = if is_empty(name) { EMPTY } else { UNUSED };
            made.held || unused < most
        });
        self.made.len() < before
    }

    /// Puts them behind the clusters that a plan has of its own, those at least that its routes still ask for.
    pub fn put(&mut self, plan: &mut Plan) {
        plan.clusters.retain(|cluster| cluster.used.is_none());
        let demands: BTreeMap<&str, _> =
            plan.demands.iter().map(|plan| (&*plan.demand.prefix, plan)).collect();
        self.made.retain(|_, made| demands.contains_key(&*made.awaited.demand.prefix));
        let clusters = self.made.values().filter_map(|made| {
            let demand = demands.get(&*made.awaited.demand.prefix)?;
            Some(demand.cluster(&made.awaited, Arc::clone(&made.used)))
        });
        let clusters: Vec<_> = clusters.collect();
        plan.clusters.extend(clusters);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.made.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }
}

fn seconds(now: Tick) -> u64 {
    now.0 / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use outrigger_core::Demand;

    use super::*;

    fn awaited(service: &str) -> Awaited {
        let demand = Arc::new(Demand { prefix: "zk/".into(), by_authority: false });
        let cluster = format!("zk/{service}").into();
        Awaited { cluster, demand, service: service.into(), version: None, group: None }
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000_000)
    }

    #[test]
    fn what_is_not_used_any_more_is_given_up_and_what_is_empty_sooner() {
        let mut demands = Demands::default();
        assert!(demands.ask(awaited("a"), at(0)) && demands.ask(awaited("b"), at(0)));
        assert!(!demands.ask(awaited("a"), at(50)), "it is made already");
        let empty = |name: &str| name == "zk/b";
        assert!(!demands.expire(empty, at(59)));
        assert!(demands.expire(empty, at(60)));
        assert_eq!(demands.len(), 1);
        assert!(!demands.expire(empty, at(649)) && demands.expire(empty, at(650)));
        assert!(demands.is_empty());
    }

    #[test]
    fn what_the_application_wants_is_kept_without_calls_until_it_wants_it_no_more() {
        let mut demands = Demands::default();
        demands.ask(awaited("b"), at(0));
        assert!(demands.hold(vec![awaited("a"), awaited("b")], at(0)));
        assert!(!demands.hold(vec![awaited("a"), awaited("b")], at(1)), "they are there already");
        assert!(!demands.expire(|_| true, at(10_000)));
        assert!(!demands.hold(vec![awaited("a")], at(10_000)));
        assert!(demands.expire(|_| true, at(10_000)), "nobody wants the other, and no call is for it");
        assert_eq!(demands.len(), 1);
        assert!(!demands.hold(Vec::new(), at(10_001)));
        assert!(demands.expire(|_| true, at(10_001)) && demands.is_empty());
    }

    #[test]
    fn who_comes_when_there_are_too_many_takes_the_place_of_one_that_nobody_wants() {
        let mut demands = Demands::default();
        for number in 1..CLUSTERS_MAX {
            demands.ask(awaited(&format!("s{number}")), at(5));
        }
        demands.hold(vec![awaited("wanted")], at(0));
        assert_eq!(demands.len(), CLUSTERS_MAX);
        assert!(demands.ask(awaited("new"), at(6)));
        assert!(!demands.ask(awaited("wanted"), at(6)), "it stayed, although it was used least lately");
        assert_eq!(demands.len(), CLUSTERS_MAX);
    }

    #[test]
    fn at_the_most_there_may_be_the_one_unused_for_longest_goes() {
        let mut demands = Demands::default();
        for number in 0..CLUSTERS_MAX + 10 {
            assert!(demands.ask(awaited(&format!("s{number}")), at(number as u64)));
        }
        assert_eq!(demands.len(), CLUSTERS_MAX);
        assert!(demands.ask(awaited("s0"), at(20_000)), "the first went");
        assert!(!demands.ask(awaited("s11"), at(20_000)), "the others are there");
    }
}
