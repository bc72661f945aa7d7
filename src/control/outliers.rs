//! Endpoints compared with each other now and then: who does far worse is left alone for a while.
//!
//! One worker sees too little to tell, so what all of them counted is joined first. It only marks endpoints; nothing here
//! touches a call. Which ones are odd is decided by `core::health::odd_ones`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use outrigger_codec::{Outcome, Refusal};
use outrigger_core::{
    Cluster, Snapshot, Tally, Tick,
    health::{Doing, odd_ones},
};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    telemetry::{Endpoints, called},
    worker::Handle,
};

/// How often it is looked whose interval is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often all clusters are gone through, of which there may be thousands, although nobody's interval is known to be over: some may
/// be new, or have more endpoints or another interval than before.
const ALL_EVERY: Duration = Duration::from_secs(5);

/// When clusters were last compared, and what their endpoints had done by then.
#[derive(Debug)]
pub struct Compares {
    next: Instant,
    /// Before this nobody's interval is over, as far as is known.
    due: Instant,
    /// What workers were asked. Whoever waits for it here is called away by all other news.
    asked: Option<JoinHandle<Option<Endpoints>>>,
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
        let next = Instant::now() + LOOK_EVERY;
        Self { next, due: next, asked: None, clusters: HashMap::new() }
    }

    /// Waits until some cluster is to be compared, and what the workers know by then of endpoints that had calls. Whoever stops waiting
    /// loses nothing.
    pub async fn next(&mut self, snapshot: &Arc<Snapshot>, workers: &Arc<Vec<Handle>>) -> Endpoints {
        loop {
            if let Some(asked) = &mut self.asked {
                let told = asked.await;
                self.asked = None;
                if let Ok(Some(endpoints)) = told {
                    return endpoints;
                }
            }
            tokio::time::sleep_until(self.next).await;
            let now = Instant::now();
            self.next = now + LOOK_EVERY;
            if self.due <= now && self.is_any_due(snapshot, now) {
                self.asked = Some(tokio::spawn(called(Arc::clone(workers))));
            }
        }
    }

    /// Whether a cluster's interval is over; if not, when it will be.
    fn is_any_due(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        let mut due = now + ALL_EVERY;
        for cluster in snapshot.clusters().iter() {
            match self.due_at(cluster, now) {
                Some(at) if at <= now => return true,
                Some(at) => due = due.min(at),
                None => {}
            }
        }
        self.due = due;
        false
    }

    /// When a cluster's interval is over; one that was not known begins its first. One that nobody can be left out of is never
    /// compared.
    fn due_at(&mut self, cluster: &Cluster, now: Instant) -> Option<Instant> {
        let outlier = cluster.settings.outlier.as_ref()?;
        let compares = outlier.deviation > 0 || outlier.slower > 0;
        if !compares || cluster.endpoints.len() < 3 {
            return None;
        }
        let since = match self.clusters.get(&cluster.name) {
            Some(since) => since.at,
            None => {
                let did = HashMap::new();
                self.clusters.insert(cluster.name.clone(), Since { at: now, did });
                now
            }
        };
        Some(since + outlier.interval)
    }

    /// Compares the clusters whose interval is over, by what their endpoints did, ever.
    pub fn compare(&mut self, snapshot: &Snapshot, did: &Endpoints, tick: Tick) {
        let now = Instant::now();
        self.clusters.retain(|name, _| snapshot.cluster_named(name).is_some());
        let called: HashSet<&str> = did.keys().map(|(cluster, _)| &**cluster).collect();
        for cluster in snapshot.clusters().iter() {
            if self.due_at(cluster, now).is_none_or(|at| at > now) {
                continue;
            }
            if called.contains(&*cluster.name) {
                self.compare_one(cluster, did, (now, tick));
            } else if let Some(since) = self.clusters.get_mut(&cluster.name) {
                // Of thousands that stand in a registry most are never called: they cost no more than this.
                *since = Since { at: now, did: HashMap::new() };
            }
        }
    }

    fn compare_one(&mut self, cluster: &Cluster, did: &Endpoints, (now, tick): (Instant, Tick)) {
        let Some(outlier) = &cluster.settings.outlier else { return };
        let Some(since) = self.clusters.get_mut(&cluster.name) else { return };
        let mut doings = Vec::with_capacity(cluster.endpoints.len());
        for endpoint in &cluster.endpoints {
            let key = (cluster.name.clone(), endpoint.address.clone());
            let all = did.get(&key).map(|endpoint| doing(&endpoint.tally)).unwrap_or_default();
            let before = since.did.insert(endpoint.address.clone(), all).unwrap_or_default();
            doings.push(Doing {
                good: all.good.saturating_sub(before.good),
                bad: all.bad.saturating_sub(before.bad),
                timed: all.timed.saturating_sub(before.timed),
                took: all.took.saturating_sub(before.took),
            });
        }
        since.at = now;
        for odd in odd_ones(outlier, &doings) {
            if let (Some(health), Some(endpoint)) = (cluster.healths.get(odd), cluster.endpoints.get(odd)) {
                let (cluster_name, address) = (&*cluster.name, &*endpoint.address);
                tracing::warn!(cluster = cluster_name, endpoint = address, "does far worse than the others");
                health.eject(&cluster.crowd, tick);
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

#[cfg(test)]
mod tests {
    use outrigger_core::{Balance, ClusterSettings, Endpoint, Outlier};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        telemetry,
        worker::{Command, Load},
    };

    const MS: Duration = Duration::from_millis(1);

    fn snapshot(clusters: &[&str]) -> Arc<Snapshot> {
        let outlier = Outlier { deviation: 100, interval: MS, ..Outlier::default() };
        let settings = ClusterSettings { outlier: Some(outlier), ..ClusterSettings::default() };
        let cluster = |name: &&str| {
            let endpoints = (0..3).map(|at| Endpoint::new(&format!("10.0.0.{at}:80"), 1)).collect();
            Cluster::new(name, Balance::RoundRobin, settings.clone(), endpoints)
        };
        Arc::new(Snapshot::new(1, Vec::new(), clusters.iter().map(cluster).collect()))
    }

    /// In a large registry there is news all the time.
    #[tokio::test(start_paused = true)]
    async fn news_that_never_end_keep_no_comparison_from_its_end() {
        let (commands, mut inbox) = mpsc::unbounded_channel();
        let workers = Arc::new(vec![Handle { commands, load: Arc::new(Load::default()) }]);
        let answering = tokio::spawn(async move {
            let mut asked = 0;
            while let Some(command) = inbox.recv().await {
                let Command::Called(reply) = command else { panic!("{command:?}") };
                asked += 1;
                tokio::time::sleep(30 * MS).await;
                // The third time there is no answer: nothing is compared without it.
                if asked != 3 {
                    let _ = reply.send(Vec::new());
                }
            }
            asked
        });
        let (mut compares, snapshot) = (Compares::new(), snapshot(&["a"]));
        let began = Instant::now();
        let mut compared = 0;
        while began.elapsed() < 10_500 * MS {
            if let Ok(did) = tokio::time::timeout(10 * MS, compares.next(&snapshot, &workers)).await {
                compares.compare(&snapshot, &did, Tick::ZERO);
                compared += 1;
            }
        }
        drop(workers);
        // The first look only begins the interval.
        assert_eq!((compared, answering.await.unwrap()), (8, 9));
    }

    #[test]
    fn what_an_endpoint_did_between_two_looks_is_compared_and_who_is_not_called_is_not() {
        let (mut compares, snapshot) = (Compares::new(), snapshot(&["called", "idle"]));
        let outcome = |outcome: Outcome, count: u64| {
            let mut tally = Tally::default();
            tally.answered[outcome as usize] = count;
            telemetry::Endpoint { tally, ..telemetry::Endpoint::default() }
        };
        let did = |good: u64, bad: u64| -> Endpoints {
            let each = [outcome(Outcome::Ok, good), outcome(Outcome::Ok, good), outcome(Outcome::Error, bad)];
            let key = |at: usize| ("called".into(), format!("10.0.0.{at}:80").into());
            each.into_iter().enumerate().map(|(at, endpoint)| (key(at), endpoint)).collect()
        };
        let mut look = |did: &Endpoints| {
            compares.is_any_due(&snapshot, Instant::now());
            std::thread::sleep(2 * MS);
            compares.compare(&snapshot, did, Tick::ZERO);
            let cluster = snapshot.cluster(0).unwrap();
            cluster.healths.iter().map(|health| health.out_for(Tick::ZERO).is_some()).collect::<Vec<_>>()
        };
        // What was long ago is compared once.
        assert_eq!(look(&did(10_000, 0)), [false; 3]);
        assert_eq!(look(&did(10_000, 0)), [false; 3]);
        assert_eq!(look(&did(20_000, 10_000)), [false, false, true]);
        assert_eq!(compares.clusters["called"].did.len(), 3);
        assert!(compares.clusters["idle"].did.is_empty());
    }
}
