//! How a plan and what registries found become a snapshot. Must never lose what is known of endpoints that stay, nor make anew
//! what is the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use outrigger_codec::Wants;
use outrigger_core::{Cluster, Endpoint, Listener, Route, RouteTable, Snapshot, Tick};

use super::{ClusterPlan, DemandPlan, ListenerPlan, Plan, Source};

impl ClusterPlan {
    /// The cluster itself; `before`: what it was in the last snapshot.
    fn made(
        &self,
        found: Option<&Arc<[Endpoint]>>,
        before: Option<&Arc<Cluster>>,
        anew: bool,
        now: Tick,
    ) -> Arc<Cluster> {
        if let Some(before) = before.filter(|_| !anew) {
            let same = match &self.source {
                Source::Fixed(_) => true,
                Source::Found { .. } => match (found, &before.told) {
                    (Some(found), Some(told)) => Arc::ptr_eq(found, told),
                    (None, None) => true,
                    _ => false,
                },
            };
            if same {
                return Arc::clone(before);
            }
        }
        let endpoints = match &self.source {
            Source::Fixed(endpoints) => endpoints.clone(),
            Source::Found { .. } => found.map(|found| found.to_vec()).unwrap_or_default(),
        };
        let mut made = Cluster::new(&self.name, self.balance, self.settings.clone(), endpoints);
        made.told = found.cloned();
        made.used.clone_from(&self.used);
        if let Some(before) = before {
            made.inherit(before, now);
        }
        Arc::new(made)
    }
}

impl Plan {
    /// The snapshot of this plan, with the endpoints that registries found by cluster name. What is known of endpoints that
    /// stay is taken over from the last; what is the same altogether is the same thing. `anew`: the plan is another than the
    /// last snapshot's.
    pub fn snapshot(
        &self,
        revision: u64,
        found: &BTreeMap<String, Arc<[Endpoint]>>,
        last: Option<&Snapshot>,
        anew: bool,
        now: Tick,
    ) -> Snapshot {
        // Both are in the order of names, as far as they go: one walk beside the other finds what a search each would.
        let mut at = 0;
        let mut before = |name: &str| {
            let last = last?;
            let here =
                u32::try_from(at).ok().and_then(|at| last.cluster(at)).filter(|before| &*before.name == name);
            at += 1;
            here.or_else(|| last.cluster(last.cluster_named(name)?))
        };
        let mut clusters = Vec::with_capacity(self.clusters.len());
        for cluster in &self.clusters {
            let found = found.get(&cluster.name);
            // One that was made on demand is there when something is known of it: calls wait for that.
            if cluster.used.is_none() || found.is_some() {
                clusters.push(cluster.made(found, before(&cluster.name), anew, now));
            }
        }
        let listeners = self.listeners_after(last, anew);
        match last {
            Some(last) => Snapshot::after(last, revision, listeners, clusters),
            None => Snapshot::of(revision, listeners, clusters),
        }
    }

    /// The snapshot after the last one, which was of the same clusters, when registries found others for these alone: of thousands
    /// the rest is not looked at. `None`: the last one was not of all clusters.
    pub fn patched(
        &self,
        revision: u64,
        found: &BTreeMap<String, Arc<[Endpoint]>>,
        last: &Snapshot,
        changed: &BTreeSet<String>,
        now: Tick,
    ) -> Option<Snapshot> {
        if last.clusters().len() != self.clusters.len() {
            return None;
        }
        let mut clusters = Vec::with_capacity(changed.len());
        for name in changed {
            let at = last.cluster_named(name)? as usize;
            let planned = self.clusters.get(at).filter(|planned| planned.name == *name)?;
            clusters.push(planned.made(found.get(name), last.clusters().get(at), false, now));
        }
        Some(Snapshot::patched(last, revision, self.listeners_after(Some(last), false), clusters))
    }

    /// The listeners of a snapshot, with the routes of the last one unless the plan is another.
    fn listeners_after(&self, last: Option<&Snapshot>, anew: bool) -> Vec<Listener> {
        let listeners = self.listeners.iter().enumerate().map(|(at, listener)| {
            let before = last.and_then(|last| last.listeners().get(at)).filter(|_| !anew);
            Listener {
                name: listener.name.as_str().into(),
                routes: before.map_or_else(
                    || RouteTable::wanting(listener.routes.clone(), self.keys_want(listener)).into(),
                    |before| Arc::clone(&before.routes),
                ),
            }
        });
        listeners.collect()
    }

    /// What the clusters that a listener's calls may go to read of a call to pick by.
    fn keys_want(&self, listener: &ListenerPlan) -> Wants {
        let wants = |cluster: &ClusterPlan| Cluster::wants(&cluster.settings);
        let of = |route: &Route| match (&route.by_header, &route.by_service) {
            (_, Some(demand)) => {
                let same = |plan: &&DemandPlan| Arc::ptr_eq(&plan.demand, demand);
                self.demands.iter().find(same).map_or(Wants::NONE, |plan| wants(plan.like()))
            }
            // Any of them.
            (Some(_), None) => self.clusters.iter().map(wants).fold(Wants::FIELDS, Wants::and),
            (None, None) => {
                let named =
                    route.targets.iter().filter_map(|target| self.clusters.get(target.cluster as usize));
                named.map(wants).fold(Wants::NONE, Wants::and)
            }
        };
        listener.routes.iter().map(of).fold(Wants::NONE, Wants::and)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::conf::lower::read;

    /// A snapshot in which only what changed is looked at is the one in which everything is.
    #[test]
    fn what_changed_alone_makes_the_same_snapshot() {
        let text = "app: a\nregistries: { f: { file: { path: r.yaml } } }\n\
                    listeners: { l: { bind: 127.0.0.1:1, protocol: bolt, routes: [{ to: a }] } }\nclusters:\n  \
                    a: { discover: { registry: f, service: a.A } }\n  b: { endpoints: [\"127.0.0.1:2\"] }\n  \
                    c: { discover: { registry: f, service: a.C } }\n";
        let plan = read(Path::new("conf.yaml"), text.as_bytes(), &|_| None)
            .unwrap_or_else(|report| panic!("{report}"));
        let some = |ports: &[u16]| -> Arc<[Endpoint]> {
            ports.iter().map(|port| Endpoint::new(&format!("127.0.0.1:{port}"), 1)).collect()
        };
        let mut found = BTreeMap::new();
        let mut last = plan.snapshot(1, &found, None, true, Tick::ZERO);
        for (name, ports) in [("c", &[3, 4][..]), ("a", &[5]), ("c", &[4]), ("c", &[]), ("a", &[5, 6])] {
            found.insert(name.to_owned(), some(ports));
            let changed = BTreeSet::from([name.to_owned()]);
            let patched =
                plan.patched(2, &found, &last, &changed, Tick::ZERO).expect("all clusters are there");
            let whole = plan.snapshot(2, &found, Some(&last), false, Tick::ZERO);
            for ((one, other), before) in
                patched.clusters().iter().zip(whole.clusters().iter()).zip(last.clusters().iter())
            {
                let addresses = |cluster: &Cluster| -> Vec<_> {
                    cluster.endpoints.iter().map(|endpoint| endpoint.address.clone()).collect()
                };
                assert_eq!((&one.name, addresses(one)), (&other.name, addresses(other)));
                assert_eq!(Arc::ptr_eq(one, before), *one.name != *name, "{name}: only it is another");
            }
            assert!(Arc::ptr_eq(&patched.listeners()[0].routes, &last.listeners()[0].routes));
            last = patched;
        }
        // A cluster that is not there, or not yet, is for the whole.
        let unknown = BTreeSet::from(["z".to_owned()]);
        assert!(plan.patched(3, &found, &last, &unknown, Tick::ZERO).is_none());
        let fewer = Snapshot::of(1, Vec::new(), Vec::new());
        assert!(plan.patched(3, &found, &fewer, &BTreeSet::new(), Tick::ZERO).is_none());
    }
}
