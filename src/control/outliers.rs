//! Endpoints compared with each other now and then: who does far worse is left alone for a while.
//!
//! One worker sees too little to tell, so what all of them counted is joined first. It only marks endpoints; nothing here
//! touches a call. Which ones are odd is decided by `core::health::odd_ones`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use outrigger_codec::{Outcome, Refusal};
use outrigger_core::{
    Cluster, Snapshot, Tally, Tick,
    health::{Doing, odd_ones},
};
use tokio::time::Instant;

use crate::{
    telemetry::{Facts, Joined, join},
    worker::Handle,
};

/// How often it is looked whose interval is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When clusters were last compared, and what their endpoints had done by then.
#[derive(Debug)]
pub struct Compares {
    next: Instant,
    clusters: HashMap<Box<str>, Since>,
}

#[derive(Debug)]
struct Since {
    at: Instant,
    did: HashMap<Box<str>, Doing>,
}

impl Compares {
    /// Nothing was compared yet.
    pub fn new() -> Self {
        Self { next: Instant::now() + LOOK_EVERY, clusters: HashMap::new() }
    }

    /// Waits until some cluster is to be compared, and what the workers know by then.
    pub async fn next(&mut self, snapshot: &Arc<Snapshot>, workers: &Arc<Vec<Handle>>) -> Joined {
        loop {
            tokio::time::sleep_until(self.next).await;
            self.next = Instant::now() + LOOK_EVERY;
            if snapshot.clusters().iter().any(|cluster| self.is_due(cluster)) {
                return join(Arc::clone(workers), Facts::default()).await;
            }
        }
    }

    /// Whether a cluster's interval is over. One that nobody can be left out of is never compared.
    fn is_due(&mut self, cluster: &Cluster) -> bool {
        let Some(outlier) = &cluster.settings.outlier else { return false };
        let compares = outlier.deviation > 0 || outlier.slower > 0;
        if !compares || cluster.endpoints.len() < 3 {
            return false;
        }
        let since = self
            .clusters
            .entry(cluster.name.clone())
            .or_insert_with(|| Since { at: Instant::now(), did: HashMap::new() });
        since.at.elapsed() >= outlier.interval
    }

    /// Compares the clusters whose interval is over.
    pub fn compare(&mut self, snapshot: &Snapshot, joined: &Joined, now: Tick) {
        self.clusters.retain(|name, _| snapshot.cluster_named(name).is_some());
        for cluster in snapshot.clusters() {
            if self.is_due(cluster) {
                self.compare_one(cluster, joined, now);
            }
        }
    }

    fn compare_one(&mut self, cluster: &Cluster, joined: &Joined, now: Tick) {
        let Some(outlier) = &cluster.settings.outlier else { return };
        let Some(since) = self.clusters.get_mut(&cluster.name) else { return };
        let mut doings = Vec::with_capacity(cluster.endpoints.len());
        for endpoint in &cluster.endpoints {
            let key = (cluster.name.clone(), endpoint.address.clone());
            let all = joined.endpoints.get(&key).map(|endpoint| doing(&endpoint.tally)).unwrap_or_default();
            let before = since.did.insert(endpoint.address.clone(), all).unwrap_or_default();
            doings.push(Doing {
                good: all.good.saturating_sub(before.good),
                bad: all.bad.saturating_sub(before.bad),
                timed: all.timed.saturating_sub(before.timed),
                took: all.took.saturating_sub(before.took),
            });
        }
        since.at = Instant::now();
        for odd in odd_ones(outlier, &doings) {
            if let (Some(health), Some(endpoint)) = (cluster.healths.get(odd), cluster.endpoints.get(odd)) {
                let (cluster_name, address) = (&*cluster.name, &*endpoint.address);
                tracing::warn!(cluster = cluster_name, endpoint = address, "does far worse than the others");
                health.eject(&cluster.crowd, now);
            }
        }
    }
}

impl Default for Compares {
    fn default() -> Self {
        Self::new()
    }
}

/// What an endpoint did, ever. What its service itself says of a call is no failure of it.
fn doing(tally: &Tally) -> Doing {
    let count = |outcome: Outcome| tally.answered.get(outcome as usize).copied().unwrap_or(0);
    let refused = |why: Refusal| tally.refused.get(why as usize).copied().unwrap_or(0);
    let bad: u64 = [Outcome::Busy, Outcome::TimedOut, Outcome::Error].map(count).iter().sum();
    let lost: u64 = [Refusal::Unreachable, Refusal::TimedOut].map(refused).iter().sum();
    let (timed, took) = tally.latency.as_ref().map_or((0, 0), |latency| (latency.count(), latency.sum_ns));
    Doing {
        good: count(Outcome::Ok) + count(Outcome::Exception),
        bad: bad + lost,
        timed,
        took: Duration::from_nanos(took),
    }
}
