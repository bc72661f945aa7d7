//! What the workers counted, added up when somebody asks.
//!
//! Counting costs a call two additions in its own worker; names, sums and formats are made here, in the control
//! thread. It must never make a worker wait.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use outrigger_core::Tally;
use tokio::sync::oneshot;

use crate::{
    session::counters::Counts,
    worker::{Command, Detail, ENDPOINTS_AT_ONCE, EndpointReport, Handle, Report},
};

mod bridges;
pub mod metrics;
mod registries;
pub mod stats;

pub use bridges::{BridgeFacts, Skipped};
pub use registries::{InRegistry, LearnedFacts, RegisterFacts, RegistryFacts, SubscribedFacts, WatchFacts};

/// How long a worker may take to say what it knows; a busy one is left out rather than waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the control thread knows by itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The application's name.
    pub app: String,
    /// The snapshot's revision.
    pub revision: u64,
    /// The last reload was refused.
    pub reload_failed: bool,
    /// No new connections are taken.
    pub draining: bool,
    /// Watches whose registry cannot be asked.
    pub registries_lost: u64,
    /// What is known of registries, by name.
    pub registries: BTreeMap<String, RegistryFacts>,
    /// What is made known of the application, by name.
    pub registered: BTreeMap<String, RegisterFacts>,
    /// What is carried from one registry into another, by the bridge.
    pub bridges: BTreeMap<String, BridgeFacts>,
    /// What the application said of itself; `None`: it is not heard.
    pub learned: Option<LearnedFacts>,
    /// Callers' connections by worker.
    pub connections: Vec<u64>,
    /// Health checks by cluster.
    pub checks: BTreeMap<Box<str>, Checks>,
    /// What they found, by (cluster, address).
    pub found: BTreeMap<(Box<str>, Box<str>), Found>,
    /// What endpoints say of themselves, by (cluster, address), if that was asked for.
    pub said: BTreeMap<(Box<str>, Box<str>), Arc<outrigger_core::Metadata>>,
    /// Clusters of which so few endpoints are usable that all are used, if endpoints were asked for.
    pub panics: Vec<Box<str>>,
}

/// Health checks by how they went.
#[derive(Clone, Debug)]
pub struct Checks(pub BTreeMap<&'static str, u64>);

impl Default for Checks {
    fn default() -> Self {
        Self(["ok", "bad_answer", "timed_out", "unreachable"].map(|result| (result, 0)).into())
    }
}

impl Checks {
    /// Counts one.
    pub fn count(&mut self, result: &'static str) {
        *self.0.entry(result).or_default() += 1;
    }
}

/// What health checks found of an endpoint.
#[derive(Clone, Debug)]
pub struct Found {
    /// Why it is ill; `None`: it is well.
    pub why: Option<String>,
    /// Since when it is so, for people.
    pub since: String,
}

/// What all workers know, added up.
#[derive(Debug, Default)]
pub struct Joined {
    /// What the control thread knows.
    pub facts: Facts,
    /// By (listener, route).
    pub routes: BTreeMap<(Box<str>, Box<str>), Tally>,
    /// By (cluster, address).
    pub endpoints: Endpoints,
    /// By protocol.
    pub protocols: BTreeMap<&'static str, Protocol>,
    /// Connections by what they turned out to speak.
    pub sniffed: BTreeMap<&'static str, u64>,
}

/// Endpoints by (cluster, address).
pub type Endpoints = BTreeMap<(Box<str>, Box<str>), Endpoint>;

/// An endpoint over all workers.
#[derive(Debug, Default)]
pub struct Endpoint {
    /// Calls in flight.
    pub in_flight: u64,
    /// Connections open or being made.
    pub connections: u64,
    /// Workers that pass it over for now.
    pub avoided: u64,
    /// Left out by all workers because it failed, for how long still; zero: on trial.
    pub out_for: Option<Duration>,
    /// Health checks found it ill.
    pub ill: bool,
    /// In the conf or the registry.
    pub listed: bool,
    /// The largest of the workers' moving averages.
    pub latency: Duration,
    /// Counts.
    pub tally: Tally,
}

/// A protocol over all workers.
#[derive(Debug, Default)]
pub struct Protocol {
    /// Callers connected.
    pub callers: u64,
    /// Connections to endpoints.
    pub upstreams: u64,
    /// What happened besides calls.
    pub counters: Counts,
}

/// Asks all workers and adds up what they say.
pub async fn join(workers: Arc<Vec<Handle>>, facts: Facts, detail: Detail) -> Joined {
    let mut joined = Joined { facts, ..Joined::default() };
    for report in ask(&workers, |reply| Command::Report(detail, reply)).await {
        joined.add(report).await;
    }
    joined
}

/// What all workers know of endpoints that had calls, by (cluster, address). `None`: one of them did not answer in time, and sums
/// without it would be smaller than those before.
pub async fn called(workers: Arc<Vec<Handle>>) -> Option<Endpoints> {
    let answers = ask(&workers, Command::Called).await;
    if answers.len() < workers.len() {
        return None;
    }
    let mut joined = Joined::default();
    for some in answers {
        joined.add_endpoints(some).await;
    }
    Some(joined.endpoints)
}

/// What each worker answers; one that does not in time is left out.
async fn ask<T>(workers: &[Handle], command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
    let mut answers = Vec::with_capacity(workers.len());
    for worker in workers {
        let (reply, answer) = oneshot::channel();
        let _ = worker.commands.send(command(reply)); // A worker that has ended gives no answer.
        answers.push(answer);
    }
    let mut all = Vec::with_capacity(answers.len());
    for answer in answers {
        if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, answer).await {
            all.push(answer);
        }
    }
    all
}

impl Joined {
    async fn add(&mut self, report: Report) {
        for route in report.routes {
            self.routes.entry((route.listener, route.route)).or_default().add(&route.tally);
        }
        self.add_endpoints(report.endpoints).await;
        for protocol in report.protocols {
            let sum = self.protocols.entry(protocol.protocol).or_default();
            sum.callers += protocol.callers;
            sum.upstreams += protocol.upstreams;
            sum.counters.add(&protocol.counters);
        }
        for (outcome, n) in report.sniffed.0 {
            *self.sniffed.entry(outcome).or_default() += n;
        }
    }

    /// Adds endpoints of one worker. There may be a hundred thousand: others have their turn in between.
    async fn add_endpoints(&mut self, all: Vec<EndpointReport>) {
        for (at, endpoint) in all.into_iter().enumerate() {
            if at % ENDPOINTS_AT_ONCE == ENDPOINTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let sum = self.endpoints.entry((endpoint.cluster, endpoint.address)).or_default();
            sum.in_flight += endpoint.in_flight;
            sum.connections += endpoint.connections;
            sum.avoided += u64::from(endpoint.avoided);
            sum.out_for = endpoint.out_for;
            sum.ill = endpoint.ill;
            sum.listed |= endpoint.listed;
            sum.latency = sum.latency.max(endpoint.latency);
            sum.tally.add(&endpoint.tally);
        }
    }
}

/// The named counts of a tally, those that are not zero.
pub fn outcomes(tally: &Tally) -> impl Iterator<Item = (&'static str, u64)> {
    let answered = outrigger_codec::Outcome::ALL.iter().map(|outcome| outcome.name()).zip(tally.answered);
    // `timed_out` and the like said by the provider are told from our own.
    let answered =
        answered.map(|(name, n)| (if name == "timed_out" { "upstream_timed_out" } else { name }, n));
    let refused = outrigger_codec::Refusal::ALL.iter().map(|refusal| refusal.name()).zip(tally.refused);
    let others = [("one_way", tally.sent), ("abandoned", tally.abandoned)];
    answered.chain(refused).chain(others).filter(|(_, n)| *n > 0)
}
