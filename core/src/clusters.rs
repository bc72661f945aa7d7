//! The clusters of a snapshot: perhaps thousands, of which the next snapshot has all but a few.
//!
//! They are kept in groups that snapshots share, so that a snapshot in which little is new costs little to make, to take up and to
//! drop: a count of references is a cache line of its own, and there is one for each cluster. It must never be changed in place:
//! calls are decided by it on every worker.

use std::sync::Arc;

use crate::Cluster;

/// Clusters by a group: about the root of how many are common in a large registry, so that a change copies as few as it can.
const GROUP: usize = 64;

type Group = Arc<[Arc<Cluster>]>;

/// Clusters by their index. A copy shares everything with the original.
#[derive(Clone, Debug, Default)]
pub struct Clusters(Arc<[Group]>);

impl Clusters {
    /// These, in their order.
    pub fn new(all: Vec<Arc<Cluster>>) -> Self {
        let mut all = all.into_iter();
        let group = || Some(all.by_ref().take(GROUP).collect::<Group>()).filter(|group| !group.is_empty());
        Self(std::iter::from_fn(group).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let before_the_last = self.0.len().saturating_sub(1).saturating_mul(GROUP);
        self.0.last().map_or(0, |last| last.len().saturating_add(before_the_last))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one with this index.
    pub fn get(&self, at: usize) -> Option<&Arc<Cluster>> {
        self.0.get(at / GROUP)?.get(at % GROUP)
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.0.iter().flat_map(|group| group.iter())
    }

    /// The same with others at some indices; an index that is none is passed over. Costs a group for each, and shares the rest.
    #[must_use]
    pub fn with(&self, others: impl IntoIterator<Item = (usize, Arc<Cluster>)>) -> Self {
        let mut groups = self.0.to_vec();
        for (at, other) in others {
            if let Some(cluster) =
                groups.get_mut(at / GROUP).and_then(|group| Arc::make_mut(group).get_mut(at % GROUP))
            {
                *cluster = other;
            }
        }
        Self(groups.into())
    }

    /// The clusters that are not the same thing as in `last`, with their indices: all, if `last` has not as many. Costs nothing to speak
    /// of for groups that both share.
    pub fn new_since<'a>(&'a self, last: &'a Self) -> impl Iterator<Item = (usize, &'a Arc<Cluster>)> {
        let last = Some(last).filter(|last| last.len() == self.len());
        let groups = self.0.iter().enumerate().filter_map(move |(at, group)| {
            let before = last.and_then(|last| last.0.get(at));
            let shared = before.is_some_and(|before| Arc::ptr_eq(before, group));
            (!shared).then_some((at.saturating_mul(GROUP), group, before))
        });
        groups.flat_map(|(from, group, before)| {
            group.iter().enumerate().filter_map(move |(at, cluster)| {
                let before = before.and_then(|before| before.get(at));
                let same = before.is_some_and(|before| Arc::ptr_eq(before, cluster));
                (!same).then_some((from.saturating_add(at), cluster))
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects)] // tests fail by panicking
mod tests {
    use super::*;
    use crate::{Balance, ClusterSettings};

    fn cluster(name: &str) -> Arc<Cluster> {
        Arc::new(Cluster::new(name, Balance::Random, ClusterSettings::default(), Vec::new()))
    }

    fn names(clusters: &Clusters) -> Vec<&str> {
        clusters.iter().map(|cluster| &*cluster.name).collect()
    }

    #[test]
    fn what_is_new_is_told_apart_and_the_rest_is_shared() {
        for count in [0, 1, 63, 64, 65, 128, 200] {
            let all: Vec<_> = (0..count).map(|at| cluster(&format!("c{at}"))).collect();
            let first = Clusters::new(all.clone());
            assert_eq!((first.len(), first.is_empty(), names(&first).len()), (count, count == 0, count));
            assert!(all.iter().enumerate().all(|(at, one)| Arc::ptr_eq(first.get(at).unwrap(), one)));
            assert!(first.get(count).is_none());
            assert_eq!(first.new_since(&first.clone()).count(), 0);
            assert_eq!(first.new_since(&Clusters::default()).count(), count);
            for at in [0, 1, 62, 63, 64, 127, 128, 199] {
                let second = first.with([(at, cluster("x")), (at, cluster("y")), (count, cluster("none"))]);
                let new: Vec<_> =
                    second.new_since(&first).map(|(at, cluster)| (at, &*cluster.name)).collect();
                assert_eq!(new, if at < count { vec![(at, "y")] } else { vec![] }, "{at} of {count}");
                assert_eq!(second.len(), count);
                let groups = first.0.iter().zip(second.0.iter());
                let copied = groups.filter(|(one, other)| !Arc::ptr_eq(one, other)).count();
                // An index that is none may copy the last group, and nothing else.
                assert!(
                    copied <= usize::from(at < count) + usize::from(count % GROUP > 0),
                    "{copied} copied"
                );
                assert_eq!(names(&first), all.iter().map(|cluster| &*cluster.name).collect::<Vec<_>>());
            }
        }
    }
}
