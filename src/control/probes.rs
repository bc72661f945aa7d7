//! Health checks: each endpoint of a cluster that has `health` is asked now and then whether it is well.
//!
//! One task an endpoint, in the control thread's runtime: it waits, asks, and tells. What was told is counted here, in one
//! hand, and what follows from it (`core::health::Checked`) is written where all workers see it. Each question has a
//! connection of its own, so that what is found out does not depend on calls. It must never touch a call, nor keep
//! the control thread waiting; and at most [`PROBES_MAX`] are asked at once.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
    io,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use outrigger_core::{
    Cluster, Random, Snapshot, Tick,
    health::{Checked, Crowd, Health, Probed},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::Instant,
};

use crate::{
    conf::{
        health::Check,
        lower::{HealthPlan, Plan},
    },
    logs, plugins,
    session::probe::{Talk, Verdict},
    telemetry::{Checks, Found},
};

mod question;

/// Endpoints asked at once, of all clusters; the others wait.
const PROBES_MAX: usize = 64;
/// Bytes that an endpoint may say before it has answered.
const BYTES_MAX: usize = 256 << 10;
/// Bytes read at once.
const SCRATCH: usize = 4 << 10;

/// All that are checked.
#[derive(Debug)]
pub struct Probes {
    /// Whether the plan has anybody checked.
    any: bool,
    clusters: BTreeMap<String, Watched>,
    slots: Arc<Semaphore>,
    sender: mpsc::Sender<Told>,
    next: u64,
}

/// How one check went.
#[derive(Debug)]
pub struct Told {
    cluster: Arc<str>,
    address: Arc<str>,
    /// Of which watch: one that ended a moment ago tells nothing any more.
    number: u64,
    result: Result<(), Bad>,
}

/// Why a check was a bad one.
#[derive(Debug, PartialEq, Eq)]
enum Bad {
    /// Nobody listens there.
    Refused,
    /// No connection could be made, or it was lost.
    Unreachable(String),
    /// It took too long.
    TimedOut(Duration),
    /// The answer is not a good one.
    Answer(String),
}

/// A cluster whose endpoints are checked.
#[derive(Debug)]
struct Watched {
    plan: HealthPlan,
    crowd: Arc<Crowd>,
    endpoints: HashMap<Box<str>, Watch>,
    checks: Checks,
}

/// An endpoint that is checked.
#[derive(Debug)]
struct Watch {
    number: u64,
    _task: Task,
    health: Arc<Health>,
    known: Known,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
struct Known {
    checked: Checked,
    /// Since when it is so; empty: nothing is known.
    since: String,
    /// What was wrong at the last bad check.
    why: String,
}

/// Ends with its handle.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Probes {
    /// Nobody is checked yet; and where what is found will come out.
    pub fn new() -> (Self, mpsc::Receiver<Told>) {
        let (sender, told) = mpsc::channel(PROBES_MAX);
        let slots = Arc::new(Semaphore::new(PROBES_MAX));
        (Self { any: false, clusters: BTreeMap::new(), slots, sender, next: 0 }, told)
    }

    /// Checks the endpoints of a snapshot as its plan says, and no others. What is known of those that stay is kept. `replanned`: the plan
    /// may be another than at the last time.
    pub fn follow(&mut self, plan: &Plan, snapshot: &Snapshot, replanned: bool, now: Tick) {
        if replanned {
            self.any = plan.clusters.iter().any(|planned| planned.health.is_some());
        }
        if !self.any && self.clusters.is_empty() {
            return;
        }
        let mut last = std::mem::take(&mut self.clusters);
        for planned in &plan.clusters {
            // Of thousands of clusters most never had checks: they are not even looked for.
            if planned.health.is_none() && last.is_empty() {
                continue;
            }
            let found = snapshot.cluster_named(&planned.name).and_then(|at| snapshot.cluster(at));
            let Some(cluster) = found else { continue };
            match &planned.health {
                Some(health) => {
                    let before = last.remove(&planned.name);
                    let watched = self.watch_all(&planned.name, health, cluster, before);
                    self.clusters.insert(planned.name.clone(), watched);
                }
                // Only who was asked once can be ill; to look at all others each time would take long.
                None if last.remove(&planned.name).is_some() => forget(cluster, now),
                None => {}
            }
        }
    }

    fn watch_all(
        &mut self,
        name: &str,
        plan: &HealthPlan,
        cluster: &Cluster,
        before: Option<Watched>,
    ) -> Watched {
        let same = before.as_ref().is_some_and(|before| before.plan == *plan);
        let (mut last, checks) = before.map(|before| (before.endpoints, before.checks)).unwrap_or_default();
        let mut endpoints = HashMap::with_capacity(cluster.endpoints.len());
        let shared: Arc<str> = name.into();
        for (endpoint, health) in cluster.endpoints.iter().zip(&cluster.healths) {
            let (address, health) = (&endpoint.address, Arc::clone(health));
            let watch = match last.remove(address) {
                Some(watch) if same => Watch { health, ..watch },
                before => {
                    let mut known = before.map(|before| before.known).unwrap_or_default();
                    known.checked.anew();
                    let task = self.start(&shared, address, plan);
                    Watch { number: self.next, _task: task, health, known }
                }
            };
            endpoints.insert(address.clone(), watch);
        }
        Watched { plan: plan.clone(), crowd: Arc::clone(&cluster.crowd), endpoints, checks }
    }

    /// Begins to check an endpoint.
    fn start(&mut self, cluster: &Arc<str>, address: &str, plan: &HealthPlan) -> Task {
        self.next += 1;
        let told =
            Told { cluster: Arc::clone(cluster), address: address.into(), number: self.next, result: Ok(()) };
        let seed = std::hash::RandomState::new().hash_one(address);
        let (plan, slots, sender) = (plan.clone(), Arc::clone(&self.slots), self.sender.clone());
        Task(tokio::spawn(ask_forever(told, plan, slots, sender, Jitter::new(seed))).abort_handle())
    }

    /// Takes in how a check went.
    pub fn heard(&mut self, told: Told, now: Tick) {
        let Some(watched) = self.clusters.get_mut(&*told.cluster) else { return };
        let Some(watch) = watched.endpoints.get_mut(&*told.address) else { return };
        if watch.number != told.number {
            return;
        }
        watched.checks.count(match &told.result {
            Ok(()) => "ok",
            Err(Bad::Refused | Bad::Unreachable(_)) => "unreachable",
            Err(Bad::TimedOut(_)) => "timed_out",
            Err(Bad::Answer(_)) => "bad_answer",
        });
        let good = told.result.is_ok();
        let known = &mut watch.known;
        if let Err(bad) = told.result {
            known.why = bad.to_string();
        }
        let before = known.checked.found;
        if known.checked.next(good, watched.plan.unhealthy, watched.plan.healthy) {
            known.since = logs::now();
            watch.health.probed(&watched.crowd, known.checked.found, now);
            let (cluster, endpoint, why) = (&*told.cluster, &*told.address, &*known.why);
            match (before, known.checked.found) {
                (_, Probed::Ill) => tracing::warn!(cluster, endpoint, why, "ill, and gets no calls"),
                (Probed::Ill, _) => tracing::info!(cluster, endpoint, "well again"),
                _ => tracing::debug!(cluster, endpoint, "well"),
            }
        }
    }

    /// Checks nobody any more; what is known stays in force.
    pub fn stop(&mut self) {
        self.clusters.clear();
    }

    /// Checks by cluster.
    pub fn checks(&self) -> BTreeMap<Box<str>, Checks> {
        self.clusters.iter().map(|(name, watched)| (name.as_str().into(), watched.checks.clone())).collect()
    }

    /// What is known of endpoints, by cluster and address.
    pub fn found(&self) -> BTreeMap<(Box<str>, Box<str>), Found> {
        let mut all = BTreeMap::new();
        for (name, watched) in &self.clusters {
            for (address, Watch { known, .. }) in &watched.endpoints {
                let why = match known.checked.found {
                    Probed::Unknown => continue,
                    Probed::Well => None,
                    Probed::Ill => Some(known.why.clone()),
                };
                let found = Found { why, since: known.since.clone() };
                all.insert((name.as_str().into(), address.clone()), found);
            }
        }
        all
    }
}

/// Nobody checks these any more: who was ill is used again.
fn forget(cluster: &Cluster, now: Tick) {
    for health in cluster.healths.iter().filter(|health| health.is_ill()) {
        health.probed(&cluster.crowd, Probed::Unknown, now);
    }
}

impl std::fmt::Display for Bad {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused => out.write_str("cannot connect: connection refused"),
            Self::Unreachable(why) | Self::Answer(why) => out.write_str(why),
            Self::TimedOut(limit) => write!(out, "no answer within {limit:?}"),
        }
    }
}

// === asking =========================================================================================================

/// When an endpoint is asked: at a time of its own, so that not all of them are asked at once, and not by all sidecars.
#[derive(Debug)]
struct Jitter(Random);

impl Jitter {
    fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// Before the first question: any part of the interval.
    fn first(&mut self, interval: Duration) -> Duration {
        interval * self.0.below(1_000) as u32 / 1_000
    }

    /// From one question to the next: the interval, give or take a tenth.
    fn next(&mut self, interval: Duration) -> Duration {
        interval * (900 + self.0.below(200) as u32) / 1_000
    }
}

/// Asks one endpoint until the watch ends.
async fn ask_forever(
    about: Told,
    plan: HealthPlan,
    slots: Arc<Semaphore>,
    sender: mpsc::Sender<Told>,
    mut jitter: Jitter,
) {
    tokio::time::sleep(jitter.first(plan.interval)).await;
    loop {
        let Ok(slot) = slots.acquire().await else { return };
        let began = Instant::now();
        let asked = tokio::time::timeout(plan.timeout, ask(&plan.check, &about.address));
        let result = asked.await.unwrap_or(Err(Bad::TimedOut(plan.timeout)));
        drop(slot);
        let told = Told {
            cluster: Arc::clone(&about.cluster),
            address: Arc::clone(&about.address),
            number: about.number,
            result,
        };
        if sender.send(told).await.is_err() {
            return;
        }
        tokio::time::sleep_until(began + jitter.next(plan.interval)).await;
    }
}

/// Asks once, over a connection of its own.
async fn ask(check: &Check, address: &str) -> Result<(), Bad> {
    let unreachable = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Bad::Refused,
        _ => Bad::Unreachable(format!("cannot connect: {}", words(&error))),
    };
    let mut stream = TcpStream::connect(address).await.map_err(unreachable)?;
    let talk = match check {
        Check::Tcp => None,
        Check::Http(check) => Some(plugins::ask(false, question::page(check, address))),
        Check::Grpc(check) => Some(plugins::ask(true, question::call(check, address))),
        Check::Heartbeat(protocol) => plugins::heartbeat(protocol),
    };
    let Some(mut talk) = talk else { return Ok(()) };
    let lost = |error: io::Error| Bad::Unreachable(format!("connection lost: {}", words(&error)));
    let (verdict, goodbye) = converse(&mut stream, &mut *talk).await.map_err(lost)?;
    if !goodbye.is_empty() {
        // Only a courtesy: whether it is taken does not matter.
        let _ = stream.try_write(&goodbye);
    }
    verdict.map_err(Bad::Answer)
}

/// Why somebody who was asked is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// In words.
    pub why: String,
    /// Nobody listens there: whoever did has ended, and is not only slow.
    pub refused: bool,
}

/// Asks somebody once, as soon as there is a slot: whether it is there, otherwise why not. `lenient`: any answer will do.
pub async fn ask_once(
    plan: &HealthPlan,
    address: &str,
    lenient: bool,
    slots: &Semaphore,
) -> Result<(), Absent> {
    let Ok(_slot) = slots.acquire().await else {
        return Err(Absent { why: "nobody is asked any more".to_owned(), refused: false });
    };
    let asked = tokio::time::timeout(plan.timeout, ask(&plan.check, address)).await;
    match asked.unwrap_or(Err(Bad::TimedOut(plan.timeout))) {
        Ok(()) => Ok(()),
        Err(Bad::Answer(_)) if lenient => Ok(()),
        Err(bad) => Err(Absent { why: bad.to_string(), refused: bad == Bad::Refused }),
    }
}

/// Says and hears until there is a verdict; that, and what is left to be said.
async fn converse(stream: &mut TcpStream, talk: &mut dyn Talk) -> io::Result<(Verdict, Vec<u8>)> {
    let _ = stream.set_nodelay(true);
    let (mut read, mut out) = (BytesMut::with_capacity(SCRATCH), Vec::new());
    let mut heard = 0;
    talk.begin(&mut out);
    loop {
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
        read.reserve(SCRATCH);
        let len = stream.read_buf(&mut read).await?;
        let verdict = if len == 0 { Some(talk.ended()) } else { talk.hear(&mut read, &mut out) };
        heard += len;
        if let Some(verdict) = verdict {
            talk.leave(&mut out);
            return Ok((verdict, out));
        }
        if heard > BYTES_MAX {
            return Ok((Err("it says much, and no answer".into()), out));
        }
    }
}

/// An error of the system without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(text, _)| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_asked_at_times_of_their_own_within_a_tenth_of_the_interval() {
        let interval = Duration::from_secs(5);
        let (mut firsts, mut nexts) = (Vec::new(), Vec::new());
        for seed in 0..1_000 {
            let mut jitter = Jitter::new(seed);
            firsts.push(jitter.first(interval));
            nexts.extend((0..10).map(|_| jitter.next(interval)));
        }
        assert!(firsts.iter().all(|first| *first < interval));
        let (least, most) = (Duration::from_millis(4_500), Duration::from_millis(5_500));
        assert!(nexts.iter().all(|next| (least..most).contains(next)));
        // Spread evenly: each tenth of the interval has its share, and the mean is the middle.
        for tenth in 0..10 {
            let of = |first: &&Duration| (first.as_millis() / 500) == tenth;
            let share = firsts.iter().filter(of).count();
            assert!((60..140).contains(&share), "{tenth}: {share}");
        }
        let mean = nexts.iter().sum::<Duration>() / nexts.len() as u32;
        assert!(mean > Duration::from_millis(4_980) && mean < Duration::from_millis(5_020), "{mean:?}");
    }

    #[test]
    fn the_same_seed_asks_at_the_same_times() {
        let times = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..5).map(|_| jitter.next(Duration::from_secs(1))).collect::<Vec<_>>()
        };
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
    }

    #[test]
    fn errors_are_told_without_numbers() {
        assert_eq!(words(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(words(&io::Error::other("no such Host")), "no such Host");
    }
}
