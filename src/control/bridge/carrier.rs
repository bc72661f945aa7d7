//! Carries the services of one bridge: watches both ends, and tells the target what shall stand there.
//!
//! Every service is watched where it is found, and where it is made known: an original that stands there itself is not copied
//! beside it, and a copy that stands there already, by whoever ran the bridge before, costs nothing to take over. What one
//! application gives is one wish, because some formats describe an application as a whole. It must never take away what it
//! cannot see: a source that cannot be asked, or in which most services are empty at once, freezes what was carried.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_discovery::{
    Backoff, Board, Guard, Hold, Instance, Registration, Registry, Seat, ServiceKey, Verdict, Wish,
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep_until},
};

use super::{
    carry::{self, Carry, Not},
    pace::Pace,
    role::{Role, Roles},
};
use crate::{
    conf::lower::BridgePlan,
    telemetry::{BridgeFacts, Skipped},
};

/// How often the names of services are asked for.
const NAMES_EVERY: Duration = Duration::from_secs(10);
/// How long that may take.
const NAMES_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked for what time alone brings.
const TICK: Duration = Duration::from_millis(100);
/// Services of one bridge; more are not carried.
const SERVICES_MAX: usize = 20_000;
/// From so many services on, more than half of them empty at once are not believed.
const SUSPECT_FROM: usize = 10;
/// How long what was written is left to others when the bridge is left.
const LEFT: Duration = Duration::from_secs(30);
/// How long one that stands by keeps its copies while it cannot see the source.
const BLIND: Duration = Duration::from_secs(30);

/// What a bridge stands between.
pub struct Ends {
    /// What an entry is there.
    pub carry: Carry,
    /// Where services are found.
    pub source: Arc<dyn Registry>,
    /// Where they are made known.
    pub target: Arc<dyn Registry>,
    /// What tells who writes; `None`: this process does.
    pub election: Option<Arc<dyn Registry>>,
}

/// What a bridge is told to do.
pub enum Order {
    /// To go on by another plan between the same registries.
    Plan(Box<(BridgePlan, Carry)>),
    /// To be left to others.
    Leave,
}

/// One bridge at work.
pub struct Carrier {
    plan: BridgePlan,
    ends: Ends,
    board: Board,
    services: BTreeMap<String, Service>,
    watches: BTreeMap<usize, (String, End)>,
    /// What shall stand there, by application.
    groups: BTreeMap<String, Group>,
    /// Services that changed, in the order in which they did.
    dirty: VecDeque<String>,
    pace: Pace,
    roles: Roles,
    hold: Hold,
    seat: Option<Seat>,
    standing: Option<Task>,
    names_trouble: Option<String>,
    blind_since: Option<Instant>,
    frozen: Option<String>,
    tell: watch::Sender<BridgeFacts>,
}

/// Which end a watch is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Target,
}

/// Ends with its handle.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Service {
    source: usize,
    target: usize,
    _watching: [Task; 2],
    guard: Guard,
    again: Option<Instant>,
    lost: bool,
    /// Nobody is told of, though somebody is in force.
    emptied: bool,
    /// What its instances are there.
    mapped: Vec<Registration>,
    skipped: Skipped,
    /// What stands there; `None`: that is not known yet, and nothing is written before.
    there: Option<Arc<[Instance]>>,
    /// What shall stand there by our hand.
    kept: BTreeMap<Key, Registration>,
    is_dirty: bool,
}

/// What tells one entry of a service from another.
type Key = (String, String, Option<String>, Option<String>);

fn key(r: &Registration) -> Key {
    (r.address.clone(), r.protocol.clone(), r.group.clone(), r.version.clone())
}

/// What one application gives.
struct Group {
    wish: Wish,
    _task: Task,
    kept: BTreeMap<(String, Key), Registration>,
    changed: bool,
}

/// An answer that is waited for.
type Naming = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send>>;

impl Carrier {
    /// A bridge that has carried nothing yet; `tell`: how it does.
    pub fn new(plan: BridgePlan, ends: Ends, tell: watch::Sender<BridgeFacts>) -> Self {
        let (mut seat, mut standing) = (None, None);
        if let Some(registry) = &ends.election {
            let (mine, candidate) = Seat::new(&format!("bridge.{}", plan.name), &own_name(), plan.patience);
            if let Some(stand) = registry.elect(candidate) {
                (seat, standing) = (Some(mine), Some(Task(tokio::spawn(stand).abort_handle())));
            }
        }
        Self {
            pace: Pace::new(plan.writes_max, Instant::now()),
            plan,
            ends,
            board: Board::default(),
            services: BTreeMap::new(),
            watches: BTreeMap::new(),
            groups: BTreeMap::new(),
            dirty: VecDeque::new(),
            roles: Roles::default(),
            hold: Hold::default(),
            seat,
            standing,
            names_trouble: None,
            blind_since: None,
            frozen: None,
            tell,
        }
    }

    /// Carries until it is told to leave; then what stands there is left to others for a while, and what nobody took over is taken
    /// away.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut backoff, mut names_at) = (Backoff::default(), Instant::now());
        let mut naming: Option<Naming> = None;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Plan(plan)) => {
                        self.replan(*plan);
                        (naming, names_at) = (None, Instant::now());
                    }
                    Some(Order::Leave) | None => break,
                },
                numbers = self.board.news() => {
                    let now = Instant::now();
                    for number in numbers {
                        self.look(number, now);
                    }
                }
                () = changed(&mut self.seat) => {}
                names = answer(&mut naming) => {
                    naming = None;
                    names_at = Instant::now() + if names.is_ok() { NAMES_EVERY } else { backoff.failed() };
                    if names.is_ok() { backoff.works() }
                    self.named(names);
                }
                () = sleep_until(names_at.into()), if naming.is_none() => {
                    naming = Some(self.ask_names());
                }
                _ = tick.tick() => self.ticked(Instant::now()),
            }
            self.write(Instant::now());
        }
        self.left().await;
    }

    /// Goes on by another plan. What was carried stands until it is known to be otherwise by the new one.
    fn replan(&mut self, (plan, carry): (BridgePlan, Carry)) {
        self.pace = Pace::new(plan.writes_max, Instant::now());
        (self.plan, self.ends.carry) = (plan, carry);
        let before = std::mem::take(&mut self.services);
        self.watches.clear();
        for (name, service) in before {
            self.board.close(service.source);
            self.board.close(service.target);
            if self.plan.services.matches(Some(name.as_bytes())) {
                self.begin(&name);
                if let Some(begun) = self.services.get_mut(&name) {
                    begun.kept = service.kept;
                }
            } else {
                for group in self.groups.values_mut() {
                    group.changed |= group.take(&name, std::iter::empty());
                }
            }
        }
    }

    /// Leaves the seat, and what was written to whoever has it next.
    async fn left(mut self) {
        drop(self.seat.take());
        // The one that stands for it gives it up.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.groups.values().for_each(|group| group.wish.yields(true));
        tokio::time::sleep(LEFT).await;
        drop(self.standing.take());
        for group in self.groups.values_mut() {
            group.wish.set([].into());
        }
        for group in self.groups.values_mut() {
            let _ = tokio::time::timeout(Duration::from_secs(10), group.wish.done()).await;
        }
    }

    /// How long another may need to take over everything.
    fn grace(&self) -> Duration {
        self.plan.patience * 2
    }

    fn ask_names(&self) -> Naming {
        let asked = self.ends.source.services(self.plan.framework);
        Box::pin(async move {
            let answer = tokio::time::timeout(NAMES_WITHIN, asked).await;
            answer.unwrap_or_else(|_| Err("the names of services were not told in time".to_owned()))
        })
    }

    /// The source says which services there are. One that it does not name any more goes with its last instance, not before.
    fn named(&mut self, names: Result<Vec<String>, String>) {
        let names = match names {
            Ok(names) => names,
            Err(why) => {
                self.names_trouble = Some(why);
                return;
            }
        };
        self.names_trouble = None;
        let names: BTreeSet<String> =
            names.into_iter().filter(|name| self.plan.services.matches(Some(name.as_bytes()))).collect();
        for name in &names {
            if self.services.len() >= SERVICES_MAX && !self.services.contains_key(name) {
                self.names_trouble = Some(format!("there are more than {SERVICES_MAX} services"));
                break;
            }
            self.begin(name);
        }
        let is_over = |name: &String, service: &Service| {
            !names.contains(name)
                && service.kept.is_empty()
                && service.guard.force().is_none_or(|all| all.is_empty())
        };
        let over: Vec<String> = self
            .services
            .iter()
            .filter(|(name, service)| is_over(name, service))
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            if let Some(service) = self.services.remove(&name) {
                for number in [service.source, service.target] {
                    self.board.close(number);
                    self.watches.remove(&number);
                }
            }
        }
    }

    /// Watches a service at both ends, unless it is.
    fn begin(&mut self, name: &str) {
        if self.services.contains_key(name) {
            return;
        }
        let here = ServiceKey {
            framework: self.plan.framework,
            protocol: self.plan.protocol.clone(),
            ..ServiceKey::new(name)
        };
        let there =
            ServiceKey { framework: self.plan.written_as, ..ServiceKey::new(self.ends.carry.name(name)) };
        let (source, teller) = self.board.open_whole();
        let found = tokio::spawn(self.ends.source.watch(here, teller)).abort_handle();
        let (target, teller) = self.board.open_whole();
        let known = tokio::spawn(self.ends.target.watch(there, teller)).abort_handle();
        self.watches.insert(source, (name.to_owned(), End::Source));
        self.watches.insert(target, (name.to_owned(), End::Target));
        let service = Service {
            source,
            target,
            _watching: [Task(found), Task(known)],
            guard: Guard::new(self.plan.hold),
            again: None,
            lost: false,
            emptied: false,
            mapped: Vec::new(),
            skipped: Skipped::default(),
            there: None,
            kept: BTreeMap::new(),
            is_dirty: false,
        };
        self.services.insert(name.to_owned(), service);
    }

    /// Looks at what a watch knows now.
    fn look(&mut self, number: usize, now: Instant) {
        let Some((name, end)) = self.watches.get(&number).cloned() else { return };
        match end {
            End::Source => self.look_here(&name, now),
            End::Target => {
                let view = self.board.view(number).unwrap_or_default();
                let Some(service) = self.services.get_mut(&name) else { return };
                if let Some(there) = view.instances {
                    service.there = Some(there);
                    self.dirty(&name);
                }
            }
        }
    }

    fn look_here(&mut self, name: &str, now: Instant) {
        let suspect = self.frozen.is_some();
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(view) = self.board.view(service.source) else { return };
        service.lost = view.lost.is_some();
        let none = view.instances.as_ref().is_some_and(|told| told.is_empty());
        service.emptied = none && service.guard.force().is_some_and(|force| !force.is_empty());
        service.again = None;
        if service.emptied && suspect {
            return;
        }
        match service.guard.look(&view, now) {
            Verdict::Same => {}
            Verdict::Hold { until, ask } => {
                service.again = Some(until);
                if ask {
                    self.board.doubt(service.source);
                }
            }
            Verdict::Take(instances) => {
                service.emptied = false;
                let (carry, target) = (&self.ends.carry, &self.ends.target);
                (service.mapped, service.skipped) = mapped(carry, &**target, name, &instances);
                self.dirty(name);
            }
        }
    }

    fn dirty(&mut self, name: &str) {
        if let Some(service) = self.services.get_mut(name).filter(|service| !service.is_dirty) {
            service.is_dirty = true;
            self.dirty.push_back(name.to_owned());
        }
    }

    /// What time alone brings.
    fn ticked(&mut self, now: Instant) {
        let had =
            self.services.values().filter(|service| service.guard.force().is_some_and(|all| !all.is_empty()));
        let (had, emptied) =
            had.fold((0, 0), |(had, emptied), service| (had + 1, emptied + usize::from(service.emptied)));
        let suspect = had >= SUSPECT_FROM && emptied * 2 > had;
        let frozen = suspect.then(|| format!("{emptied} of {had} services are without any instance at once"));
        if frozen.is_some() && self.frozen.is_none() {
            tracing::warn!(
                bridge = self.plan.name,
                emptied,
                had,
                "most services are empty at once: nothing is taken away"
            );
        }
        let thawed = frozen.is_none() && self.frozen.is_some();
        self.frozen = frozen;
        let due = |service: &Service| service.again.is_some_and(|at| at <= now) || thawed && service.emptied;
        let due: Vec<String> =
            self.services.iter().filter(|(_, service)| due(service)).map(|(name, _)| name.clone()).collect();
        for name in &due {
            self.look_here(name, now);
        }
        let blind = self.names_trouble.is_some() || self.services.values().any(|service| service.lost);
        self.blind_since = if blind { self.blind_since.or(Some(now)) } else { None };
        self.tell(now);
    }

    /// Tells the target what shall stand there, as far as this process may and the pace allows.
    fn write(&mut self, now: Instant) {
        let before = self.roles.role();
        let role = match &mut self.seat {
            Some(seat) => {
                let term = seat.term();
                let role = self.roles.look(&term, now);
                if let Some(until) = term.until.filter(|_| role == Role::Leading) {
                    self.hold.until(until);
                }
                role
            }
            None => self.roles.alone(),
        };
        if role != before {
            tracing::info!(bridge = self.plan.name, role = role.name(), "this sidecar's part in the bridge");
            self.groups.values().for_each(|group| group.wish.yields(role != Role::Leading));
            if role != Role::Frozen {
                let names: Vec<String> = self.services.keys().cloned().collect();
                for name in &names {
                    self.dirty(name);
                }
            }
        }
        match role {
            Role::Leading => self.apply(role, now),
            // Entries that would go with the writer's connection are held by who stands by as well.
            Role::Standby if !self.ends.target.lingers() => {
                if self.blind_since.is_some_and(|since| now >= since + BLIND) {
                    self.give_up();
                } else {
                    self.apply(role, now);
                }
            }
            Role::Standby if self.roles.is_over(self.grace(), now) => self.give_up(),
            Role::Standby | Role::Frozen => {}
        }
    }

    /// Nothing stands there by our hand any more.
    fn give_up(&mut self) {
        for group in self.groups.values_mut().filter(|group| !group.kept.is_empty()) {
            group.kept.clear();
            group.wish.set([].into());
        }
        let had = self.services.iter_mut().filter(|(_, service)| !service.kept.is_empty());
        let had: Vec<String> = had
            .map(|(name, service)| {
                service.kept.clear();
                name.clone()
            })
            .collect();
        // What is to stand there again, if it ever is, is found out anew.
        for name in &had {
            self.dirty(name);
        }
    }

    fn apply(&mut self, role: Role, now: Instant) {
        while self.pace.is_open(now) {
            let Some(name) = self.dirty.pop_front() else { break };
            let Some(service) = self.services.get_mut(&name) else { continue };
            service.is_dirty = false;
            if service.there.is_none() || service.guard.force().is_none() {
                continue;
            }
            let wanted = service.wanted(&self.ends.carry);
            let costs = service.costs(&self.ends.carry, &wanted);
            self.pace.spend(costs);
            let groups: BTreeSet<String> = service
                .kept
                .values()
                .chain(wanted.values())
                .map(|registration| registration.app.clone())
                .collect();
            for app in groups {
                let group = self.groups.entry(app.clone()).or_insert_with(|| {
                    let (wish, desired) = Wish::held(self.hold.clone());
                    wish.yields(role != Role::Leading);
                    let task = Task(tokio::spawn(self.ends.target.register(desired)).abort_handle());
                    Group { wish, _task: task, kept: BTreeMap::new(), changed: false }
                });
                group.changed |= group.take(&name, wanted.values().filter(|wanted| wanted.app == app));
            }
            service.kept = wanted;
        }
        for group in self.groups.values_mut().filter(|group| group.changed) {
            group.changed = false;
            group.wish.set(group.kept.values().cloned().collect());
        }
    }

    fn tell(&mut self, now: Instant) {
        // One that is empty and done has nothing to do any more.
        self.groups.retain(|_, group| {
            !group.kept.is_empty() || group.wish.written().is_none_or(|written| written.pending > 0)
        });
        let mut skipped = Skipped::default();
        let (mut instances, mut entries) = (0, 0);
        for service in self.services.values() {
            instances += service.guard.force().map_or(0, |all| all.len());
            entries += service.kept.len();
            skipped.copies += service.skipped.copies;
            skipped.off += service.skipped.off;
            skipped.refused += service.skipped.refused;
            skipped.there += service.mapped.len().saturating_sub(service.kept.len());
        }
        let written = self.groups.values().map(|group| group.wish.written());
        let (mut pending, mut trouble) = (0, self.names_trouble.clone());
        for written in written {
            pending += written.as_ref().map_or(1, |written| written.pending);
            trouble = trouble.or_else(|| written.and_then(|written| written.trouble));
        }
        let term = self.seat.as_mut().map(Seat::term).unwrap_or_default();
        let role = self.roles.role();
        let blind = self.blind_since.map(|since| {
            format!(
                "the source cannot be asked about everything for {} s",
                now.saturating_duration_since(since).as_secs()
            )
        });
        let facts = BridgeFacts {
            from: self.plan.from.clone(),
            to: self.plan.to.clone(),
            role: role.name(),
            holder: term.holder.map(|holder| holder.to_string()),
            term: term.number,
            services: self.services.len(),
            instances,
            entries,
            waiting: self.dirty.len(),
            pending,
            skipped,
            frozen: self.frozen.clone().or(blind),
            trouble: trouble.or_else(|| term.trouble.map(|why| why.to_string())),
        };
        self.tell.send_replace(facts);
    }
}

impl Service {
    fn there(&self) -> impl Iterator<Item = &Instance> {
        self.there.iter().flat_map(|there| there.iter())
    }

    /// What shall stand there by our hand: all that do not stand there by themselves.
    fn wanted(&self, carry: &Carry) -> BTreeMap<Key, Registration> {
        let in_the_way = |here: &&Registration| {
            let mut there = self.there();
            !there.any(|there| carry.is_in_the_way(there) && carry::is_same(there, here))
        };
        self.mapped.iter().filter(in_the_way).map(|r| (key(r), r.clone())).collect()
    }

    /// How many writes it takes to get there. What stands there by another's hand of the same bridge is only taken over.
    fn costs(&self, carry: &Carry, wanted: &BTreeMap<Key, Registration>) -> usize {
        let stands =
            |r: &Registration| self.there().any(|there| carry.is_own(there) && carry::is_same(there, r));
        let new = wanted.iter().filter(|(key, r)| match self.kept.get(*key) {
            Some(before) => before != *r,
            None => !stands(r),
        });
        let gone = self.kept.keys().filter(|key| !wanted.contains_key(*key));
        new.count() + gone.count()
    }
}

impl Group {
    /// Puts these in the place of what it has of a service; whether that is another thing.
    fn take<'a>(&mut self, service: &str, wanted: impl Iterator<Item = &'a Registration>) -> bool {
        let wanted: BTreeMap<Key, &Registration> = wanted.map(|r| (key(r), r)).collect();
        let before = self.kept.len();
        self.kept.retain(|(of, key), _| of != service || wanted.contains_key(key));
        let mut changed = self.kept.len() != before;
        for (key, r) in wanted {
            let at = (service.to_owned(), key);
            if self.kept.get(&at) != Some(r) {
                self.kept.insert(at, r.clone());
                changed = true;
            }
        }
        changed
    }
}

/// What the instances of a service are at the target, and how many are not carried.
pub fn mapped(
    carry: &Carry,
    target: &dyn Registry,
    service: &str,
    instances: &[Instance],
) -> (Vec<Registration>, Skipped) {
    let (mut mapped, mut skipped) = (Vec::new(), Skipped::default());
    for instance in instances {
        match carry.registration(service, instance) {
            Ok(registration) if target.refuses(&registration).is_some() => skipped.refused += 1,
            Ok(registration) => mapped.push(registration),
            Err(Not::Copy) => skipped.copies += 1,
            Err(Not::Off) => skipped.off += 1,
        }
    }
    (mapped, skipped)
}

async fn changed(seat: &mut Option<Seat>) {
    match seat {
        Some(seat) => seat.changed().await,
        None => std::future::pending().await,
    }
}

async fn answer(naming: &mut Option<Naming>) -> Result<Vec<String>, String> {
    match naming {
        Some(naming) => naming.await,
        None => std::future::pending().await,
    }
}

/// A name for this process that no other has: its host, its number there, and what tells it from one of before.
fn own_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let safe = |c: &char| c.is_ascii_alphanumeric() || "-.".contains(*c);
    let host: String = host.trim().chars().filter(safe).take(63).collect();
    format!("{host}-{}-{:08x}", std::process::id(), RandomState::new().hash_one(0u8) as u32)
}
