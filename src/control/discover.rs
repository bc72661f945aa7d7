//! Registries → endpoints: one watch for each cluster that is discovered.
//!
//! A watch that goes on over a reload is kept, not started again, and so is the connection to its registry, of which there is
//! one, whatever is watched and registered there. What a registry in trouble said last stays in force, a set that is suddenly
//! empty is doubted first, and what was known when the process ended is known again when it starts. This only ever adds up
//! what registries say; it never decides that an endpoint is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use outrigger_core::{Endpoint, Tick};
use outrigger_discovery::{Board, Guard, Instance, Registry, ServiceKey, Verdict, View};
use tokio::task::AbortHandle;

use crate::{
    conf::lower::{Plan, RegistryPlan, Source},
    plugins,
    telemetry::{RegistryFacts, WatchFacts},
    worker::Clock,
};

mod kept;

/// How long calls wait for a service that they name for the first time.
const DEMANDED: Duration = Duration::from_secs(3);
/// How long a registry that a reload took away stays connected: what replaces it shall be there first.
const LINGER: Duration = Duration::from_secs(5);

/// The watches that run.
#[derive(Debug)]
pub struct Discovery {
    board: Board,
    registries: BTreeMap<String, Open>,
    watches: BTreeMap<usize, Watch>,
    /// What each cluster has: in force until a watch of it has spoken.
    found: Found,
    /// No watch is to be looked at again before then.
    soonest: Option<Instant>,
    keeper: kept::Keeper,
    began: Instant,
    clock: Clock,
    /// By registry: how many watches cannot be answered. A person is told of the first, not of thousands.
    lost: BTreeMap<String, usize>,
}

/// What clusters have.
#[derive(Debug, Default)]
struct Found {
    all: BTreeMap<String, Arc<[Endpoint]>>,
    /// Those that have others since somebody asked last.
    changed: BTreeSet<String>,
}

impl Found {
    fn set(&mut self, cluster: &str, endpoints: Arc<[Endpoint]>) {
        self.all.insert(cluster.to_owned(), endpoints);
        self.changed.insert(cluster.to_owned());
    }
}

fn sooner(soonest: &mut Option<Instant>, at: Instant) {
    *soonest = Some(soonest.map_or(at, |before| before.min(at)));
}

/// A registry that is connected to.
struct Open {
    plan: RegistryPlan,
    registry: Arc<dyn Registry>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Open").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// What an update amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// Nothing is different.
    Nothing,
    /// Some endpoints are others now.
    Change,
    /// The endpoints of a cluster are known for the first time: calls may be waiting for them.
    First,
}

/// What a cluster wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Want {
    cluster: String,
    registry: String,
    key: ServiceKey,
    hold: Duration,
    /// Calls wait for it.
    demanded: bool,
}

#[derive(Debug)]
struct Watch {
    want: Want,
    guard: Guard,
    /// When to look at it again although nothing was told.
    again: Option<Instant>,
    lost: bool,
    /// How often changes may have been missed, as far as that was said.
    gaps: u64,
    /// Whether what is in force is from before this process, and nobody has confirmed it.
    stale: bool,
    changed: Instant,
    task: AbortHandle,
}

/// What was in force of a service when its watch ended.
struct Known {
    key: ServiceKey,
    force: Arc<[Instance]>,
    stale: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long the process waits for registries before it calls itself ready all the same.
const READY_WITHOUT: Duration = Duration::from_secs(5);

impl Discovery {
    /// No watches yet; `clock` is the one of endpoints.
    pub fn new(clock: Clock) -> Self {
        Self {
            board: Board::default(),
            registries: BTreeMap::new(),
            watches: BTreeMap::new(),
            found: Found::default(),
            soonest: None,
            keeper: kept::Keeper::default(),
            began: Instant::now(),
            clock,
            lost: BTreeMap::new(),
        }
    }

    /// Watches what a plan discovers, and nothing else. Whether anything is known now that was not before.
    pub fn follow(&mut self, plan: &Plan) -> Heard {
        self.keeper.keep_in(plan.state.clone());
        let replaced = self.open(plan);
        let mut wanted = wants(plan);
        self.found.all.retain(|name, _| wanted.contains_key(name));
        let mut before = BTreeMap::new();
        self.watches.retain(|number, watch| {
            let same = wanted.get(&watch.want.cluster).is_some_and(|want| *want == watch.want);
            if same && !replaced.contains(&watch.want.registry) {
                wanted.remove(&watch.want.cluster);
                return true;
            }
            self.board.close(*number);
            if let Some(force) = watch.guard.force() {
                let known =
                    Known { key: watch.want.key.clone(), force: Arc::clone(force), stale: watch.stale };
                before.insert(watch.want.cluster.clone(), known);
            }
            false
        });
        self.lost.clear();
        for watch in self.watches.values().filter(|watch| watch.lost) {
            *self.lost.entry(watch.want.registry.clone()).or_default() += 1;
        }
        let watch = |want: Want| {
            let known = before.remove(&want.cluster).filter(|known| known.key == want.key);
            self.watch(want, known)
        };
        wanted.into_values().map(watch).max().unwrap_or(Heard::Nothing)
    }

    /// Connects to the registries of a plan, and to no others. The names of those that are not what they were.
    fn open(&mut self, plan: &Plan) -> Vec<String> {
        let mut replaced = Vec::new();
        self.registries.retain(|name, open| {
            if plan.registries.get(name) == Some(&open.plan) {
                return true;
            }
            replaced.push(name.clone());
            let registry = Arc::clone(&open.registry);
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                registry.close().await;
            });
            false
        });
        for (name, plan) in &plan.registries {
            if !self.registries.contains_key(name)
                && let Some(registry) = plugins::registry(plan)
            {
                self.registries.insert(name.clone(), Open { plan: plan.clone(), registry });
            }
        }
        replaced
    }

    /// Begins a watch; `known`: what is in force of the same service, by another watch of before.
    fn watch(&mut self, want: Want, known: Option<Known>) -> Heard {
        let Some(open) = self.registries.get(&want.registry) else { return Heard::Nothing };
        let (number, teller) = self.board.open();
        let task = tokio::spawn(open.registry.watch(want.key.clone(), teller)).abort_handle();
        let mut guard = Guard::new(want.hold);
        let (mut heard, mut stale) = (Heard::Nothing, false);
        if let Some(known) = known {
            // A registry that is asked in the place of another may know less at first: that is doubted like any other loss.
            let now = Instant::now();
            if open.registry.name() != "file" {
                self.keeper.keep(&want.registry, &want.key, &known.force, now);
            }
            guard.look(&View { instances: Some(known.force), ..View::default() }, now);
            stale = known.stale;
        } else if !self.found.all.contains_key(&want.cluster)
            && open.registry.name() != "file"
            && let Some(instances) = self.keeper.recall(&want.registry, &want.key)
        {
            let view = View { instances: Some(instances.into()), ..View::default() };
            if let Verdict::Take(instances) = guard.look(&view, Instant::now()) {
                self.found.set(&want.cluster, endpoints(&instances, self.clock.now()));
                (heard, stale) = (Heard::First, true);
            }
        }
        let changed = Instant::now();
        let again = (want.demanded && heard == Heard::Nothing).then(|| changed + DEMANDED);
        if let Some(again) = again {
            sooner(&mut self.soonest, again);
        }
        self.watches.insert(number, Watch { want, guard, again, lost: false, gaps: 0, stale, changed, task });
        heard
    }

    /// Waits until registries say something that makes a difference. Losing the future loses nothing.
    pub async fn next(&mut self) -> Heard {
        loop {
            let again = self.soonest.into_iter().chain(self.keeper.due()).min();
            let sleep = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let mut numbers = tokio::select! {
                numbers = self.board.news() => numbers,
                () = sleep => Vec::new(),
            };
            let now = Instant::now();
            self.keeper.write_due(now);
            if self.soonest.is_some_and(|at| at <= now) {
                let due = |watch: &Watch| watch.again.is_some_and(|at| at <= now);
                numbers
                    .extend(self.watches.iter().filter(|(_, watch)| due(watch)).map(|(number, _)| *number));
                let others = self.watches.values().filter(|watch| !due(watch));
                self.soonest = others.filter_map(|watch| watch.again).min();
            }
            let heard = numbers.into_iter().map(|number| self.look(number, now)).max();
            if let Some(heard @ (Heard::First | Heard::Change)) = heard {
                return heard;
            }
        }
    }

    /// Looks at what a watch knows: whether that changes any endpoints.
    fn look(&mut self, number: usize, now: Instant) -> Heard {
        // News of a watch that was ended a moment ago are nobody's.
        let Some(watch) = self.watches.get_mut(&number) else { return Heard::Nothing };
        let Some(view) = self.board.view(number) else { return Heard::Nothing };
        tell(watch, &view, &mut self.lost);
        let first = watch.guard.force().is_none();
        let doubted = watch.guard.doubts();
        let waited = watch.again.take().is_some_and(|at| at <= now);
        match watch.guard.look(&view, now) {
            Verdict::Same
                if first && watch.want.demanded && !self.found.all.contains_key(&watch.want.cluster) =>
            {
                if waited {
                    // Calls have waited long enough: as far as anybody knows, nobody gives it.
                    self.found.set(&watch.want.cluster, Arc::from([]));
                    return Heard::First;
                }
                let again = watch.changed + DEMANDED;
                watch.again = Some(again);
                sooner(&mut self.soonest, again);
                Heard::Nothing
            }
            Verdict::Same => {
                watch.stale &= view.generation == 0;
                Heard::Nothing
            }
            Verdict::Take(instances) => {
                (watch.stale, watch.changed) = (false, now);
                // A file is its own memory.
                if self
                    .registries
                    .get(&watch.want.registry)
                    .is_some_and(|open| open.registry.name() != "file")
                {
                    self.keeper.keep(&watch.want.registry, &watch.want.key, &instances, now);
                }
                self.found.set(&watch.want.cluster, endpoints(&instances, self.clock.now()));
                if first { Heard::First } else { Heard::Change }
            }
            Verdict::Hold { until, ask } => {
                watch.again = Some(until);
                sooner(&mut self.soonest, until);
                if !doubted {
                    let (cluster, service) = (&watch.want.cluster, &watch.want.key.service);
                    tracing::warn!(
                        cluster,
                        service,
                        "most instances are gone at once; that is doubted first"
                    );
                }
                if ask {
                    self.board.doubt(number);
                }
                Heard::Nothing
            }
        }
    }

    /// The endpoints found, by cluster; what did not change is the same list.
    pub const fn found(&self) -> &BTreeMap<String, Arc<[Endpoint]>> {
        &self.found.all
    }

    /// The clusters of which another thing was found since this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.found.changed)
    }

    /// Who gives the service of a cluster, as far as it is known; `None`: nothing is known of it yet.
    pub fn instances(&self, cluster: &str) -> Option<Arc<[Instance]>> {
        self.found.all.get(cluster)?;
        let watch = self.watches.values().find(|watch| watch.want.cluster == cluster);
        Some(watch.and_then(|watch| watch.guard.force()).map_or_else(|| Arc::from([]), Arc::clone))
    }

    /// A connected registry by name.
    pub fn registry(&self, name: &str) -> Option<&Arc<dyn Registry>> {
        self.registries.get(name).map(|open| &open.registry)
    }

    /// A cluster whose registry has not said anything yet, and of which nothing is known; `None` also when that has lasted so
    /// long that nobody should wait for it any more.
    pub fn unheard(&self) -> Option<&str> {
        if self.began.elapsed() > READY_WITHOUT {
            return None;
        }
        let mut watches = self.watches.values().filter(|watch| !watch.want.demanded);
        watches.find(|watch| watch.guard.force().is_none()).map(|watch| watch.want.cluster.as_str())
    }

    /// Registries that cannot be asked just now: how many watches wait for them.
    pub fn lost(&self) -> usize {
        self.watches.values().filter(|watch| watch.lost).count()
    }

    /// What is known of registries, by name.
    pub fn facts(&self) -> BTreeMap<String, RegistryFacts> {
        let mut all = BTreeMap::new();
        for (name, open) in &self.registries {
            let facts = RegistryFacts::new(open.registry.name(), &open.registry.status());
            all.insert(name.clone(), facts);
        }
        for (number, watch) in &self.watches {
            let Some(facts) = all.get_mut(&watch.want.registry) else { continue };
            let view = self.board.view(*number).unwrap_or_default();
            facts.watches.push(WatchFacts {
                cluster: watch.want.cluster.clone(),
                service: watch.want.key.service.clone(),
                version: watch.want.key.version.clone(),
                group: watch.want.key.group.clone(),
                framework: watch.want.key.framework.name(),
                generation: view.generation,
                instances: watch.guard.force().map(|all| all.len()),
                changed_s: watch.changed.elapsed().as_secs(),
                lost: view.lost.map(|why| why.to_string()),
                gaps: view.gaps,
                gap: view.gap.map(|why| why.to_string()),
                held: watch.guard.doubts(),
                stale: watch.stale,
            });
        }
        all
    }

    /// Writes down at once what is to be kept, and ends the connections, but for those of which others have still to take over
    /// what stands there.
    pub async fn close(&mut self, but: &BTreeSet<&str>) {
        self.keeper.write_all();
        self.watches.clear();
        let ends = |(name, _): &(&String, &Open)| !but.contains(name.as_str());
        let closing = self.registries.iter().filter(ends).map(|(_, open)| open.registry.close());
        for close in closing.collect::<Vec<_>>() {
            close.await;
        }
    }
}

/// The endpoints that instances are. `now` is the present on the clock of endpoints.
fn endpoints(instances: &[Instance], now: Tick) -> Arc<[Endpoint]> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Instances of one service say mostly the same, and share it; so do their endpoints.
    let mut said: Option<(&outrigger_discovery::Metadata, Option<Arc<outrigger_core::Metadata>>)> = None;
    let endpoint = |instance| {
        let Instance { address, weight, metadata, started, .. }: &Instance = instance;
        let age = started.map(|ms| since_1970.saturating_sub(Duration::from_millis(ms)));
        let since = age.map(|age| now.before(age));
        let warm_up = since.map_or(Duration::ZERO, |_| warm_up(instance));
        let mut endpoint = Endpoint::new(address, *weight).warming(since, warm_up);
        endpoint.metadata = match &said {
            Some((before, shared)) if before.is_shared_with(metadata) => shared.clone(),
            _ => {
                let each = metadata.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
                let shared = endpoint.clone().saying(each.collect()).metadata;
                said = Some((metadata, shared.clone()));
                shared
            }
        };
        endpoint
    };
    instances.iter().map(endpoint).collect()
}

/// How long an instance takes to its full share of calls: providers of Dubbo say so, or mean ten minutes (`warmup`).
fn warm_up(instance: &Instance) -> Duration {
    let said = instance.metadata.get("warmup").and_then(|text| text.parse().ok());
    let of_dubbo = matches!(instance.protocol.as_deref(), Some("dubbo" | "tri")).then_some(600_000);
    said.or(of_dubbo).map_or(Duration::ZERO, Duration::from_millis)
}

/// What the clusters of a plan want to know.
fn wants(plan: &Plan) -> BTreeMap<String, Want> {
    let want = |cluster: &crate::conf::lower::ClusterPlan| {
        let Source::Found { registry, key, hold } = &cluster.source else { return None };
        let hold = hold.or_else(|| Some(plan.registries.get(registry)?.hold))?;
        let demanded = cluster.used.is_some();
        let want = Want {
            cluster: cluster.name.clone(),
            registry: registry.clone(),
            key: key.clone(),
            hold,
            demanded,
        };
        Some((cluster.name.clone(), want))
    };
    plan.clusters.iter().filter_map(want).collect()
}

/// Says what became of a watch's registry; `lost`: how many watches of each cannot be answered.
fn tell(watch: &mut Watch, view: &View, lost: &mut BTreeMap<String, usize>) {
    let (cluster, registry) = (&watch.want.cluster, &watch.want.registry);
    let others = lost.entry(registry.clone()).or_default();
    match &view.lost {
        Some(reason) if !watch.lost => {
            if *others == 0 {
                tracing::warn!(cluster, registry, "registry lost, its last word stays in force: {reason}");
            } else {
                tracing::debug!(cluster, registry, "registry lost: {reason}");
            }
            *others += 1;
        }
        None if watch.lost => {
            *others = others.saturating_sub(1);
            if *others == 0 {
                tracing::info!(cluster, registry, "registry is back");
            }
        }
        // It was well again before anybody looked.
        None if view.gaps > watch.gaps => {
            let why = view.gap.as_deref().unwrap_or_default();
            tracing::debug!(cluster, registry, "changes may have been missed, all was asked again: {why}");
        }
        _ => {}
    }
    (watch.lost, watch.gaps) = (view.lost.is_some(), view.gaps);
}
