//! Clusters made on demand: made when the first call names a service, kept while calls do, given up when none did for a while.
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
            let oldest = self.made.iter().min_by_key(|(_, made)| made.used.load(Relaxed));
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.made.remove(&name);
            }
        }
        tracing::debug!(cluster = &*awaited.cluster, "a call names a service for the first time");
        let used = Arc::new(AtomicU64::new(second));
        self.made.insert(awaited.cluster.clone(), Made { awaited, used });
        true
    }

    /// Gives up those that no call was for lately; `is_empty` tells of which no endpoint is known. Whether any was.
    pub fn expire(&mut self, is_empty: impl Fn(&str) -> bool, now: Tick) -> bool {
        let before = self.made.len();
        self.made.retain(|name, made| {
            let unused = Duration::from_secs(seconds(now).saturating_sub(made.used.load(Relaxed)));
            let most = if is_empty(name) { EMPTY } else { UNUSED };
            unused < most
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
