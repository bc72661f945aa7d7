//! Everything the conf and the registries say, compiled: one immutable value, swapped as a whole.
//!
//! Indices into a snapshot (listener, route, cluster) are dense and belong to that snapshot alone. What outlives
//! it is found again by name; see `Local::reconcile`.

use std::{collections::HashMap, sync::Arc};

use crate::{Cluster, Clusters, RouteTable};

/// A listener's index in its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// The part of a listener that decides.
#[derive(Debug)]
pub struct Listener {
    /// Unique in the snapshot.
    pub name: Box<str>,
    /// Where its calls go.
    pub routes: Arc<RouteTable>,
}

/// One revision of everything that is decided by.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with every swap.
    pub revision: u64,
    listeners: Box<[Listener]>,
    clusters: Clusters,
    by_name: Arc<HashMap<Box<str>, u32>>,
}

impl Snapshot {
    /// A snapshot of these parts. Names must be unique; targets of routes are indices into `clusters`.
    pub fn new(revision: u64, listeners: Vec<Listener>, clusters: Vec<Cluster>) -> Self {
        Self::of(revision, listeners, clusters.into_iter().map(Arc::new).collect())
    }

    /// The same of clusters that other snapshots may have, too: workers see at once that nothing of these is new.
    pub fn of(revision: u64, listeners: Vec<Listener>, clusters: Vec<Arc<Cluster>>) -> Self {
        let by_name = clusters.iter().zip(0..).map(|(cluster, at)| (cluster.name.clone(), at)).collect();
        let clusters = Clusters::new(clusters);
        Self { revision, listeners: listeners.into(), clusters, by_name: Arc::new(by_name) }
    }

    /// The same after `last`: where the names are those of before, in their order, they need not be indexed again.
    pub fn after(last: &Self, revision: u64, listeners: Vec<Listener>, clusters: Vec<Arc<Cluster>>) -> Self {
        let same =
            |(one, other): (&Arc<Cluster>, &Arc<Cluster>)| Arc::ptr_eq(one, other) || one.name == other.name;
        if clusters.len() != last.clusters.len() || !clusters.iter().zip(last.clusters.iter()).all(same) {
            return Self::of(revision, listeners, clusters);
        }
        let (clusters, by_name) = (Clusters::new(clusters), Arc::clone(&last.by_name));
        Self { revision, listeners: listeners.into(), clusters, by_name }
    }

    /// The same after `last` with these clusters in the places of those that had their names; others are as they were, and nobody looks
    /// at them. A name that `last` has not is passed over.
    pub fn patched(
        last: &Self,
        revision: u64,
        listeners: Vec<Listener>,
        clusters: impl IntoIterator<Item = Arc<Cluster>>,
    ) -> Self {
        let placed =
            clusters.into_iter().filter_map(|new| Some((last.cluster_named(&new.name)? as usize, new)));
        let (clusters, by_name) = (last.clusters.with(placed), Arc::clone(&last.by_name));
        Self { revision, listeners: listeners.into(), clusters, by_name }
    }

    /// The listeners, in the order of their ids.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The clusters, in the order of their indices.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// A listener, unless the snapshot has fewer.
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(id.0 as usize)
    }

    /// The id of the listener called `name`.
    pub fn listener_named(&self, name: &str) -> Option<ListenerId> {
        self.listeners
            .iter()
            .zip(0..)
            .find(|(listener, _)| &*listener.name == name)
            .map(|(_, at)| ListenerId(at))
    }

    /// A cluster by its index.
    pub fn cluster(&self, at: u32) -> Option<&Arc<Cluster>> {
        self.clusters.get(at as usize)
    }

    /// The index of the cluster called `name`.
    pub fn cluster_named(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests fail by panicking
mod tests {
    use super::*;
    use crate::{Balance, ClusterSettings};

    fn cluster(name: &str) -> Arc<Cluster> {
        Arc::new(Cluster::new(name, Balance::Random, ClusterSettings::default(), Vec::new()))
    }

    #[test]
    fn names_are_found_after_every_change() {
        let mut last = Snapshot::of(1, Vec::new(), vec![cluster("a"), cluster("b")]);
        for names in [&["a", "b"][..], &["b", "a"], &["a", "b", "c"], &["c"], &[], &["a", "b"]] {
            let clusters = names.iter().map(|name| cluster(name)).collect();
            last = Snapshot::after(&last, 2, Vec::new(), clusters);
            for name in ["a", "b", "c"] {
                let at = names.iter().position(|known| *known == name);
                assert_eq!(last.cluster_named(name), at.map(|at| at as u32), "{name} of {names:?}");
            }
        }
    }
}
