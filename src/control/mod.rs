//! The control thread: conf, registries, signals, health checks and admin; the only writer of snapshots.
//!
//! Everything that changes what calls are decided by goes through [`Control`], one thing after another: a reload is
//! either taken up whole, on every worker, or changes nothing and says why. It never touches a call.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use outrigger_core::{Clusters, Snapshot};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    conf::{self, lower::Plan, report::Report},
    telemetry::{self, Joined},
    worker::{Clock, Command, Detail, Handle},
};

pub mod admin;
pub mod bridge;
pub mod demands;
pub mod discover;
pub mod learn;
pub mod listen;
pub mod metadata;
pub mod outliers;
pub mod probes;
pub mod register;

/// What the admin port, or anybody else in this thread, may ask for.
#[derive(Debug)]
pub enum Ask {
    /// Read the conf file again; answered with the new revision, or with what is wrong.
    Reload(oneshot::Sender<Result<u64, String>>),
    /// Drain and exit.
    Drain,
    /// Everything that is known, joined over the workers.
    Joined(Detail, oneshot::Sender<Joined>),
    /// The conf in force, as YAML-compatible JSON.
    Written(oneshot::Sender<serde_json::Value>),
    /// Whether calls can be taken; otherwise why not.
    Ready(oneshot::Sender<Result<(), String>>),
}

/// The process's state, in one hand.
#[derive(Debug)]
pub struct Control {
    file: PathBuf,
    plan: Plan,
    snapshot: Arc<Snapshot>,
    workers: Arc<Vec<Handle>>,
    listening: listen::Listening,
    discovery: discover::Discovery,
    probes: probes::Probes,
    registering: register::Registering,
    bridges: bridge::Bridges,
    demands: demands::Demands,
    learning: learn::Learning,
    /// Services that calls wait for.
    wanted: mpsc::Receiver<outrigger_core::Awaited>,
    clock: Clock,
    stamp: Option<Stamp>,
    reload_failed: bool,
    draining: bool,
    /// Something was told for the first time, and workers do not know it yet.
    unpublished: bool,
    /// The plan may have other clusters than the last snapshot.
    replanned: bool,
}

/// What tells one version of a file from another; an atomic rename or a swapped symlink changes it too.
type Stamp = (u64, u64, i64, i64);

/// How often the conf file is looked at.
const FILE_EVERY: Duration = Duration::from_secs(1);
/// How long workers may take to end; the process does not wait longer.
const STOPPING: Duration = Duration::from_millis(500);
/// Registry news within this time become one snapshot.
const COALESCE: Duration = Duration::from_millis(50);
/// How often it is looked for clusters that are not used any more.
const EXPIRY: Duration = Duration::from_secs(15);
/// Services that were named and are not looked for yet.
const WANTED_MAX: usize = 1_024;
/// How long registries may take to end their connections; the process does not wait longer.
const CLOSING: Duration = Duration::from_secs(1);
/// How much nicer than workers the control thread is to others (`setpriority(2)`, of 19): a tenth of a worker's share where both
/// want the same core, and all of the rest.
const NICER: i32 = 10;

/// Why a conf file cannot be taken up.
#[derive(Debug)]
pub enum Mistakes {
    /// The file cannot be read at all.
    File(String),
    /// What is wrong in it.
    In(Report),
}

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(why) => f.write_str(why),
            Self::In(report) => write!(f, "{report}"),
        }
    }
}

/// Reads a conf file and gives it its meaning.
pub fn read(file: &Path) -> Result<Plan, Mistakes> {
    let bytes = std::fs::read(file)
        .map_err(|error| Mistakes::File(format!("error: cannot read {}: {error}", file.display())))?;
    let lookup = |variable: &str| std::env::var(variable).ok();
    conf::lower::read(file, &bytes, &lookup).map_err(Mistakes::In)
}

/// What a process decides for the sidecar that runs in it.
#[derive(Debug)]
pub struct Host {
    /// Told, line by line, where things listen.
    pub say: fn(&str),
    /// Whether the process's signals are for the sidecar.
    pub signals: bool,
    /// Where asks are sent and arrive: the admin port's, and the host's own.
    pub asks: (mpsc::UnboundedSender<Ask>, mpsc::UnboundedReceiver<Ask>),
}

/// Runs the sidecar, alone in its process, until it has drained or was told to stop.
pub async fn run(file: PathBuf, plan: Plan, clock: Clock) -> Result<(), String> {
    run_in(Host { say, signals: true, asks: mpsc::unbounded_channel() }, file, plan, clock).await
}

/// Runs the sidecar as its host wants it, until it has drained or was told to stop.
pub async fn run_in(host: Host, file: PathBuf, plan: Plan, clock: Clock) -> Result<(), String> {
    let (asks, mut inbox) = host.asks;
    let (probes, mut told) = probes::Probes::new();
    let (registering, mut known) = register::Registering::new();
    let mut control = Control::start(host.say, file, plan, clock, asks, (probes, registering))?;
    calls_first();
    let mut signals =
        Signals::new(host.signals).map_err(|error| format!("error: cannot listen to signals: {error}"))?;
    let mut looks = tokio::time::interval(FILE_EVERY);
    let mut compares = outliers::Compares::new();
    let mut expiry = tokio::time::interval(EXPIRY);
    let mut publish_at: Option<tokio::time::Instant> = None;
    let mut published = tokio::time::Instant::now() - COALESCE;
    loop {
        let publish = async {
            match publish_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ask) = inbox.recv() => match ask {
                Ask::Drain => break,
                ask => control.answer(ask),
            },
            heard = control.discovery.next() => {
                // The first news of many services come together, and so do changes; a first one alone does not wait.
                let now = tokio::time::Instant::now();
                let wait = if heard == discover::Heard::First { Duration::ZERO } else { COALESCE };
                control.unpublished |= heard == discover::Heard::First;
                let at = (now + wait).max(published + COALESCE);
                publish_at = Some(publish_at.map_or(at, |before| before.min(at)));
            }
            Some(told) = known.recv() => control.registering.heard(told),
            Some(awaited) = control.wanted.recv() => control.demand(awaited),
            asked = control.learning.next() => control.learn(asked),
            _ = expiry.tick() => control.expire(),
            Some(told) = told.recv() => control.probes.heard(told, control.clock.now()),
            () = publish => {
                publish_at = None;
                published = tokio::time::Instant::now();
                control.publish(false);
            }
            _ = looks.tick() => control.look(),
            did = compares.next(&control.snapshot, &control.workers) => {
                compares.compare(&control.snapshot, &did, control.clock.now());
            }
            signal = signals.next() => match signal {
                Signal::Reload => drop(control.reload("HUP")),
                Signal::Drain => break,
                Signal::Stop => return control.stop().await,
                Signal::Other(what) => tracing::warn!("{what} is not supported by this build; nothing was done"),
                Signal::Logs => tracing::info!("logs go to standard error; there is nothing to reopen"),
            },
        }
    }
    control.drain(&mut inbox, &mut signals).await
}

impl Control {
    fn start(
        say: fn(&str),
        file: PathBuf,
        mut plan: Plan,
        clock: Clock,
        asks: mpsc::UnboundedSender<Ask>,
        (mut probes, mut registering): (probes::Probes, register::Registering),
    ) -> Result<Self, String> {
        let stamp = stamp(&file);
        let mut learning = learn::Learning::new(&plan);
        let mut demands = demands::Demands::default();
        demands.hold(learning.awaits(&plan), clock.now());
        demands.put(&mut plan);
        let mut discovery = discover::Discovery::new(clock);
        discovery.follow(&plan);
        let snapshot = Arc::new(plan.snapshot(1, discovery.found(), None, true, clock.now()));
        let mut listening = listen::Listening::default();
        let bound = listening.bind(&plan)?;
        let heard = learning.bind(&plan)?;
        let count = plan.workers.unwrap_or_else(default_workers);
        let (wants, wanted) = mpsc::channel(WANTED_MAX);
        let start = |index| Handle::start(index, clock, Arc::clone(&snapshot), plan.bounds, wants.clone());
        let workers: Result<Vec<Handle>, _> = (0..count).map(start).collect();
        let workers = Arc::new(workers.map_err(|error| format!("error: a worker could not start: {error}"))?);
        listening.connections_max(&plan);
        listening.serve(bound, &workers);
        for line in listening.lines() {
            say(&line);
        }
        if let Some(address) = plan.admin {
            let bound = admin::serve(address, plan.written.admin_allow_remote, asks)
                .map_err(|error| format!("error: cannot listen on admin {address}: {error}"))?;
            say(&format!("outrigger: admin on http://{bound}"));
        }
        for line in heard.lines() {
            say(&line);
        }
        learning.follow(&plan, heard)?;
        probes.follow(&plan, &snapshot, true, clock.now());
        let mut bridges = bridge::Bridges::default();
        bridges.follow(&plan, &discovery);
        registering.follow(&plan, &learning.registers(&plan), &discovery);
        tracing::info!(app = plan.app, workers = count, revision = 1, "serving {}", file.display());
        let control = Self {
            file,
            plan,
            snapshot,
            workers,
            listening,
            discovery,
            probes,
            registering,
            bridges,
            demands,
            learning,
            wanted,
            clock,
            stamp,
            reload_failed: false,
            draining: false,
            unpublished: false,
            replanned: true,
        };
        Ok(control)
    }

    /// Tells every worker of the snapshot that follows from the plan and the registries now; `anew`: from another plan.
    fn publish(&mut self, anew: bool) {
        self.unpublished = false;
        let revision = self.snapshot.revision + 1;
        let now = self.clock.now();
        let changed = self.discovery.take_changed();
        let (found, last) = (self.discovery.found(), &self.snapshot);
        let replanned = anew || self.replanned;
        let patched = if replanned { None } else { self.plan.patched(revision, found, last, &changed, now) };
        let all = || self.plan.snapshot(revision, found, Some(last), anew, now);
        self.snapshot = Arc::new(patched.unwrap_or_else(all));
        self.replanned = false;
        let manners = self.plan.listeners.iter().map(|listener| Arc::clone(&listener.speaks.manners));
        let manners: Vec<_> = manners.collect();
        for worker in self.workers.iter() {
            let command = Command::Snapshot(Arc::clone(&self.snapshot), self.plan.bounds, manners.clone());
            let _ = worker.commands.send(command);
        }
        self.tell_waiting();
        if !self.draining {
            self.probes.follow(&self.plan, &self.snapshot, replanned, now);
        }
    }

    /// Reads the conf file again. Whatever is wrong changes nothing.
    fn reload(&mut self, why: &str) -> Result<u64, String> {
        if self.draining {
            return Err("draining; nothing is taken up any more".to_owned());
        }
        self.stamp = stamp(&self.file);
        let plan = read(&self.file).map_err(|mistakes| mistakes.to_string());
        let result = plan.and_then(|plan| self.take_up(plan));
        self.reload_failed = result.is_err();
        match &result {
            Ok(revision) => tracing::info!(why, revision, "reloaded {}", self.file.display()),
            Err(error) => tracing::error!(why, "not reloaded, the old conf stays in force:\n{error}"),
        }
        result
    }

    fn take_up(&mut self, mut plan: Plan) -> Result<u64, String> {
        let bound = self.listening.bind(&plan)?;
        self.learning.follow(&plan, self.learning.bind(&plan)?)?;
        plan.inherit(&self.plan);
        self.demands.hold(self.learning.awaits(&plan), self.clock.now());
        self.demands.put(&mut plan);
        for (what, changed) in [
            ("workers", plan.workers != self.plan.workers),
            (
                "admin",
                plan.admin != self.plan.admin
                    || plan.written.admin_allow_remote != self.plan.written.admin_allow_remote,
            ),
        ] {
            if changed {
                tracing::warn!("`{what}` was changed; that takes effect at the next start");
            }
        }
        self.plan = plan;
        self.discovery.follow(&self.plan);
        self.registering.follow(&self.plan, &self.learning.registers(&self.plan), &self.discovery);
        self.bridges.follow(&self.plan, &self.discovery);
        self.publish(true);
        self.listening.connections_max(&self.plan);
        self.listening.serve(bound, &self.workers);
        Ok(self.snapshot.revision)
    }

    /// Calls wait for a service that they name: it is looked for, and so are all that were named meanwhile, as when an
    /// application starts.
    fn demand(&mut self, first: outrigger_core::Awaited) {
        let now = self.clock.now();
        self.demands.ask(first, now);
        while let Ok(awaited) = self.wanted.try_recv() {
            self.demands.ask(awaited, now);
        }
        self.replan();
    }

    /// Takes the clusters that are demanded now into the plan, and has them looked for. What was known of one when the process ended
    /// last is known at once.
    fn replan(&mut self) {
        self.demands.put(&mut self.plan);
        self.replanned = true;
        if self.discovery.follow(&self.plan) == discover::Heard::First {
            self.publish(false);
        }
    }

    /// Gives up what calls name no more.
    fn expire(&mut self) {
        let snapshot = &self.snapshot;
        let is_empty = |name: &str| {
            let cluster = snapshot.cluster_named(name).and_then(|at| snapshot.cluster(at));
            cluster.is_none_or(|cluster| cluster.endpoints.is_empty())
        };
        if self.demands.expire(is_empty, self.clock.now()) {
            self.replan();
            self.publish(false);
        }
    }

    /// Reloads when the file is another than the one last read.
    fn look(&mut self) {
        // A file that is gone or being replaced is looked at again later; the conf in force stays.
        if let Some(now) = stamp(&self.file)
            && self.stamp != Some(now)
        {
            let _ = self.reload("the file changed");
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Reload(reply) => drop(reply.send(self.reload("POST /reload"))),
            Ask::Joined(detail, reply) => {
                let joining = telemetry::join(Arc::clone(&self.workers), self.facts(detail), detail);
                // Workers may take their time; nobody else waits for them.
                tokio::spawn(async move { drop(reply.send(joining.await)) });
            }
            Ask::Written(reply) => {
                drop(reply.send(serde_json::to_value(&self.plan.written).unwrap_or_default()));
            }
            Ask::Ready(reply) => drop(reply.send(self.ready())),
            Ask::Drain => {}
        }
    }

    fn ready(&self) -> Result<(), String> {
        if self.draining {
            return Err("draining".to_owned());
        }
        match self.discovery.unheard() {
            Some(cluster) => Err(format!("cluster {cluster} waits for its registry")),
            None if self.unpublished => Err("what registries said is being taken up".to_owned()),
            None => Ok(()),
        }
    }

    /// What endpoints say of themselves.
    fn said(&self) -> BTreeMap<(Box<str>, Box<str>), Arc<outrigger_core::Metadata>> {
        let clusters = self.snapshot.clusters().iter();
        let each =
            clusters.flat_map(|cluster| cluster.endpoints.iter().map(|endpoint| (&cluster.name, endpoint)));
        each.filter_map(|(cluster, endpoint)| {
            Some(((cluster.clone(), endpoint.address.clone()), Arc::clone(endpoint.metadata.as_ref()?)))
        })
        .collect()
    }

    fn facts(&self, detail: Detail) -> telemetry::Facts {
        let now = self.clock.now();
        let asked = if detail == Detail::None { &Clusters::default() } else { self.snapshot.clusters() };
        let panics = asked.iter().filter(|cluster| outrigger_core::balance::panics(cluster, now));
        telemetry::Facts {
            app: self.plan.app.clone(),
            revision: self.snapshot.revision,
            reload_failed: self.reload_failed,
            draining: self.draining,
            registries_lost: self.discovery.lost() as u64,
            registries: self.discovery.facts(),
            registered: self.registering.facts(),
            bridges: self.bridges.facts(),
            learned: self.learning.facts(&self.plan, &self.discovery),
            connections: self
                .workers
                .iter()
                .map(|worker| worker.load.connections.load(Ordering::Relaxed) as u64)
                .collect(),
            checks: self.probes.checks(),
            found: self.probes.found(),
            said: if detail == Detail::All { self.said() } else { BTreeMap::new() },
            panics: panics.map(|cluster| cluster.name.clone()).collect(),
        }
    }

    /// Is taken out of the registries, takes no new connections, lets calls in flight finish, and ends: as soon as no connection
    /// is left, or when the time is up, or at a second signal.
    async fn drain(
        mut self,
        inbox: &mut mpsc::UnboundedReceiver<Ask>,
        signals: &mut Signals,
    ) -> Result<(), String> {
        let limit = self.plan.drain_timeout;
        tracing::info!(?limit, "draining");
        self.draining = true;
        self.bridges.leave();
        let began = tokio::time::Instant::now();
        if self.registering.is_known() && !self.leave(inbox, signals, began + limit / 2).await {
            return self.stop().await;
        }
        self.listening.close();
        self.probes.stop();
        self.tell(|| Command::Drain);
        let mut pressed = false;
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                Some(ask) = inbox.recv() => self.answer(ask),
                // Calls that are still taken go where registries say now, and wait for nothing that nobody looks for.
                _ = self.discovery.next() => self.publish(false),
                Some(awaited) = self.wanted.recv() => self.demand(awaited),
                asked = self.learning.next() => self.learn(asked),
                signal = signals.next() => if matches!(signal, Signal::Drain | Signal::Stop) {
                    break;
                },
                _ = looks.tick() => {
                    let left: usize = self.workers.iter().map(|worker| worker.load.connections.load(Ordering::Relaxed)).sum();
                    if left == 0 || began.elapsed() >= limit {
                        tracing::info!(left, took = ?began.elapsed(), "drained");
                        break;
                    }
                    if !pressed && began.elapsed() >= limit * 3 / 4 {
                        pressed = true;
                        self.tell(|| Command::Press);
                    }
                }
            }
        }
        self.stop().await
    }

    /// Takes the application out of the registries and waits, at most until then, for that to reach its callers, whose calls
    /// are taken as ever. Whether that went on undisturbed: not if the process shall end now.
    async fn leave(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<Ask>,
        signals: &mut Signals,
        until: tokio::time::Instant,
    ) -> bool {
        let mut registering = std::mem::replace(&mut self.registering, register::Registering::new().0);
        let wait = self.plan.propagation;
        let mut leaving = std::pin::pin!(async {
            if registering.withdraw().await {
                tracing::info!("taken out of the registries; callers have {wait:?} to learn of it");
                tokio::time::sleep(wait).await;
            }
        });
        loop {
            tokio::select! {
                () = &mut leaving => return true,
                () = tokio::time::sleep_until(until) => return true,
                Some(ask) = inbox.recv() => self.answer(ask),
                _ = self.discovery.next() => self.publish(false),
                Some(awaited) = self.wanted.recv() => self.demand(awaited),
                asked = self.learning.next() => self.learn(asked),
                signal = signals.next() => if matches!(signal, Signal::Drain | Signal::Stop) {
                    return false;
                },
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in self.workers.iter() {
            let _ = worker.commands.send(command());
        }
    }

    /// Ends now: what is in flight is answered as lost, as far as workers get to it.
    async fn stop(mut self) -> Result<(), String> {
        self.listening.close();
        let mut ends = Vec::new();
        for worker in self.workers.iter() {
            let (done, end) = oneshot::channel();
            let _ = worker.commands.send(Command::Stop(done));
            ends.push(end);
        }
        let all = async {
            for end in ends {
                let _ = end.await;
            }
        };
        let _ = tokio::time::timeout(STOPPING, all).await;
        let lingering = self.bridges.lingering();
        if !lingering.is_empty() {
            // What the application has there must not wait for what others take over.
            let _ = tokio::time::timeout(CLOSING, self.registering.withdraw()).await;
        }
        // What is registered over them goes at once, not when the registry has missed us for long enough.
        let _ = tokio::time::timeout(CLOSING, self.discovery.close(&lingering)).await;
        let _ = tokio::time::timeout(CLOSING, self.learning.close()).await;
        Ok(())
    }
}

/// Where a core is short, calls go before what is read of registries: a worker that wakes takes the core from this thread at once,
/// rather than at the end of what this thread was given. Workers have begun, and keep what the process has.
fn calls_first() {
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::debug!(%error, "the control thread goes beside calls, not after them");
    }
}

/// One a core that the process may use, at most 4: a sidecar, not the host's landlord.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4)
}

#[allow(clippy::print_stdout)] // where things listen is data for whoever started us
fn say(line: &str) {
    println!("{line}");
}

fn stamp(file: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

enum Signal {
    Reload,
    Drain,
    Stop,
    Logs,
    Other(&'static str),
}

/// The process's signals; none when they are not for us.
#[derive(Debug)]
struct Signals(Option<Listened>);

#[derive(Debug)]
struct Listened {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
    usr1: tokio::signal::unix::Signal,
    usr2: tokio::signal::unix::Signal,
}

impl Signals {
    fn new(ours: bool) -> std::io::Result<Self> {
        let listened = || {
            Ok::<_, std::io::Error>(Listened {
                term: signal(SignalKind::terminate())?,
                int: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
                hup: signal(SignalKind::hangup())?,
                usr1: signal(SignalKind::user_defined1())?,
                usr2: signal(SignalKind::user_defined2())?,
            })
        };
        ours.then(listened).transpose().map(Self)
    }

    async fn next(&mut self) -> Signal {
        let Some(on) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = on.term.recv() => Signal::Drain,
            _ = on.int.recv() => Signal::Stop,
            _ = on.quit.recv() => Signal::Stop,
            _ = on.hup.recv() => Signal::Reload,
            _ = on.usr1.recv() => Signal::Logs,
            _ = on.usr2.recv() => Signal::Other("USR2 (upgrade)"),
        }
    }
}
