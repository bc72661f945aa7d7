//! Carries the services of one bridge: watches both ends, and tells the target what shall stand there.
//!
//! Every service is watched where it is found, and where it is made known: an original that stands there itself is not copied
//! beside it, and a copy that stands there already, by whoever ran the bridge before, costs nothing to take over. It must never
//! take away what it cannot see: a source that cannot be asked, or in which most services are empty at once, freezes what was
//! carried.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_discovery::{Backoff, Board, Hold, Registry, Seat, ServiceKey};
use tokio::{
    sync::{mpsc, watch},
    time::{self, MissedTickBehavior, interval, sleep_until},
};

use super::{
    carry::Carry,
    group::{Group, Of, parts},
    pace::Pace,
    role::{Role, Roles},
    service::{Look, Service, Task, digest, key},
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
/// How long a seat that is given up may take to be free.
const GIVEN_UP: Duration = Duration::from_millis(100);

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
    /// What the target is told.
    groups: BTreeMap<Of, Group>,
    /// Services that changed, in the order in which they did.
    dirty: VecDeque<String>,
    pace: Pace,
    roles: Roles,
    hold: Hold,
    seat: Option<Seat>,
    standing: Option<Task>,
    names_trouble: Option<String>,
    frozen: Option<String>,
    tell: watch::Sender<BridgeFacts>,
}

/// Which end a watch is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Target,
}

/// An answer that is waited for.
type Naming = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send>>;

impl Carrier {
    /// A bridge that has carried nothing yet; `tell`: how it does.
    pub fn new(plan: BridgePlan, ends: Ends, tell: watch::Sender<BridgeFacts>) -> Self {
        let mut carrier = Self {
            pace: Pace::new(plan.writes_max, now()),
            plan,
            ends,
            board: Board::default(),
            services: BTreeMap::new(),
            watches: BTreeMap::new(),
            groups: BTreeMap::new(),
            dirty: VecDeque::new(),
            roles: Roles::default(),
            hold: Hold::default(),
            seat: None,
            standing: None,
            names_trouble: None,
            frozen: None,
            tell,
        };
        carrier.stand();
        carrier
    }

    /// Stands for the seat of who writes.
    fn stand(&mut self) {
        let Some(registry) = &self.ends.election else { return };
        let (seat, candidate) =
            Seat::new(&format!("bridge.{}", self.plan.name), &own_name(), self.plan.patience);
        if let Some(stand) = registry.elect(candidate) {
            (self.seat, self.standing) = (Some(seat), Some(Task(tokio::spawn(stand).abort_handle())));
        }
    }

    /// Carries until it is told to leave; then what stands there is left to others for a while, and what nobody took over is taken
    /// away.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut backoff, mut names_at) = (Backoff::default(), now());
        let mut naming: Option<Naming> = None;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Plan(plan)) => {
                        self.replan(*plan);
                        (naming, names_at) = (None, now());
                    }
                    Some(Order::Leave) | None => break,
                },
                numbers = self.board.news() => self.heard(&numbers, now()),
                () = changed(&mut self.seat) => {}
                names = answer(&mut naming) => {
                    naming = None;
                    names_at = now() + if names.is_ok() { NAMES_EVERY } else { backoff.failed() };
                    if names.is_ok() { backoff.works() }
                    self.named(names);
                }
                () = sleep_until(names_at.into()), if naming.is_none() => {
                    naming = Some(self.ask_names());
                }
                _ = tick.tick() => self.ticked(now()),
            }
            self.write(now());
        }
        self.left().await;
    }

    /// Goes on by another plan. What was carried stands until it is known to be otherwise by the new one.
    fn replan(&mut self, (plan, carry): (BridgePlan, Carry)) {
        self.pace = Pace::new(plan.writes_max, now());
        let last = std::mem::replace(&mut self.plan, plan);
        let last_carry = std::mem::replace(&mut self.ends.carry, carry);
        if last.patience != self.plan.patience && self.seat.is_some() {
            (self.seat, self.standing) = (None, None);
            self.stand();
        }
        let same_here = (last.framework, &last.protocol) == (self.plan.framework, &self.plan.protocol);
        let before = std::mem::take(&mut self.services);
        self.watches.clear();
        self.dirty.clear();
        for (name, mut service) in before {
            self.board.close(service.source);
            self.board.close(service.target);
            self.begin(&name);
            let Some(begun) = self.services.get_mut(&name) else { continue };
            begun.is_meant = self.plan.services.matches(Some(name.as_bytes()));
            begun.kept = std::mem::take(&mut service.kept);
            begun.told = std::mem::take(&mut service.told);
            if same_here {
                let same_there = last.written_as == self.plan.written_as
                    && last_carry.name(&name) == self.ends.carry.name(&name);
                begun.knows(&service, same_there, now());
                begun.count(&name, &self.ends.carry, &*self.ends.target);
            }
            self.dirty(&name);
        }
    }

    /// Leaves the seat, and what was written to whoever has it next.
    async fn left(mut self) {
        // Before anybody else may have it, or each would take the other's entries over.
        self.groups.values().for_each(|group| group.wish.yields(true));
        drop(self.seat.take());
        time::sleep(GIVEN_UP + LEFT).await;
        drop(self.standing.take());
        for group in self.groups.values_mut() {
            group.wish.set([].into());
        }
        for group in self.groups.values_mut() {
            let _ = time::timeout(Duration::from_secs(10), group.wish.done()).await;
        }
    }

    /// How long another may need to take over everything.
    fn grace(&self) -> Duration {
        self.plan.patience * 2
    }

    /// Whether what is found is made known by this sidecar too.
    fn holds(&self) -> bool {
        self.roles.role() == Role::Leading || !self.ends.target.lingers()
    }

    fn ask_names(&self) -> Naming {
        let asked = self.ends.source.services(self.plan.framework);
        Box::pin(async move {
            let answer = time::timeout(NAMES_WITHIN, asked).await;
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
            let is_empty = service.force().is_none_or(|all| all.is_empty());
            !names.contains(name) && service.kept.is_empty() && (is_empty || !service.is_meant)
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
        let service = Service::new(source, target, [Task(found), Task(known)], self.plan.hold);
        self.services.insert(name.to_owned(), service);
    }

    /// Looks at what these watches know now; first whether all of it together can be believed.
    fn heard(&mut self, numbers: &[usize], now: Instant) {
        let mut here = Vec::new();
        let mut emptied = false;
        for number in numbers {
            let Some((name, end)) = self.watches.get(number) else { continue };
            let (Some(view), Some(service)) = (self.board.view(*number), self.services.get_mut(name)) else {
                continue;
            };
            match end {
                End::Source => {
                    service.note(&view, now);
                    emptied |= service.emptied;
                    here.push(name.clone());
                }
                End::Target => {
                    let first = service.stands(view, now);
                    let other = service.count(name, &self.ends.carry, &*self.ends.target);
                    if first || other {
                        let name = name.clone();
                        self.dirty(&name);
                    }
                }
            }
        }
        if emptied {
            self.judge(now);
        }
        for name in here {
            self.look(&name, now);
        }
    }

    /// Looks at what the source says of a service.
    fn look(&mut self, name: &str, now: Instant) {
        let suspect = self.frozen.is_some();
        let Some(service) = self.services.get_mut(name) else { return };
        if service.emptied && suspect {
            service.again = None;
            return;
        }
        let Some(view) = self.board.view(service.source) else { return };
        match service.look(&view, now) {
            Look::Nothing => {}
            Look::Doubt => self.board.doubt(service.source),
            Look::Changed => {
                service.count(name, &self.ends.carry, &*self.ends.target);
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

    fn all_dirty(&mut self) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in &names {
            self.dirty(name);
        }
    }

    /// Whether so many services are empty at once that it is not to be believed.
    fn judge(&mut self, now: Instant) {
        let had = self.services.values().filter(|service| service.force().is_some_and(|all| !all.is_empty()));
        let (had, emptied) =
            had.fold((0, 0), |(had, emptied), service| (had + 1, emptied + usize::from(service.emptied)));
        let suspect = had >= SUSPECT_FROM && emptied * 2 > had;
        let frozen = suspect.then(|| format!("{emptied} of {had} services are without any instance at once"));
        if frozen.is_some() && self.frozen.is_none() {
            let bridge = &self.plan.name;
            tracing::warn!(bridge, emptied, had, "most services are empty at once: nothing is taken away");
        }
        if frozen.is_none() && self.frozen.is_some() {
            tracing::info!(bridge = self.plan.name, "what is found is believed again");
            self.services
                .values_mut()
                .filter(|service| service.emptied)
                .for_each(|one| one.again = Some(now));
        }
        self.frozen = frozen;
    }

    /// What time alone brings.
    fn ticked(&mut self, now: Instant) {
        self.judge(now);
        let (mut due, mut other) = (Vec::new(), Vec::new());
        for (name, service) in &mut self.services {
            if service.again.is_some_and(|at| at <= now) {
                due.push(name.clone());
            }
            if service.ticked(now) {
                other.push(name.clone());
            }
        }
        for name in &due {
            self.look(name, now);
        }
        for name in &other {
            self.dirty(name);
        }
        self.groups.retain(|_, group| !group.is_over());
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
                self.all_dirty();
            }
        }
        match role {
            Role::Leading => self.apply(role, now),
            // Entries that would go with the writer's connection are held by who stands by as well.
            Role::Standby if !self.ends.target.lingers() => self.apply(role, now),
            Role::Standby if self.roles.is_over(self.grace(), now) => self.give_up(),
            Role::Standby | Role::Frozen => {}
        }
    }

    /// Nothing stands there by our hand any more.
    fn give_up(&mut self) {
        for group in self.groups.values_mut() {
            group.clear();
            group.tell();
        }
        for service in self.services.values_mut() {
            service.kept.clear();
            service.told.clear();
        }
    }

    fn apply(&mut self, role: Role, now: Instant) {
        let writes = role == Role::Leading;
        while self.pace.is_open(now) {
            let Some(name) = self.dirty.pop_front() else { break };
            let Some(service) = self.services.get_mut(&name) else { continue };
            service.is_dirty = false;
            let (carry, target) = (&self.ends.carry, &self.ends.target);
            let Some(wanted) = service.wanted(&name, carry, &**target, writes) else { continue };
            self.pace.spend(service.costs(carry, &wanted));
            service.kept = wanted.iter().map(|r| (key(r), digest(r))).collect();
            let mut parts = parts(&name, wanted);
            let told = parts.keys().cloned().collect();
            let before = std::mem::replace(&mut service.told, told);
            for of in before.union(&service.told) {
                let told = parts.remove(of).unwrap_or_default();
                let group = self.groups.entry(of.clone()).or_insert_with(|| {
                    Group::new(self.hold.clone(), !writes, |desired| target.register(desired))
                });
                group.take(&name, told);
            }
        }
        self.groups.values_mut().for_each(Group::tell);
    }

    fn tell(&mut self, now: Instant) {
        let mut skipped = Skipped::default();
        let (mut instances, mut entries, mut lost, mut since) = (0, 0, 0, None);
        for service in self.services.values() {
            instances += service.force().map_or(0, |all| all.len());
            entries += service.kept.len();
            let of = service.skipped();
            skipped.copies += of.copies;
            skipped.off += of.off;
            skipped.refused += of.refused;
            skipped.there += of.there;
            if let Some(at) = service.lost() {
                lost += 1;
                since = since.min(Some(at)).or(Some(at));
            }
        }
        let written = self.groups.values().map(|group| group.wish.written());
        let (mut pending, mut trouble) = (0, self.names_trouble.clone());
        for written in written {
            pending += written.as_ref().map_or(1, |written| written.pending);
            trouble = trouble.or_else(|| written.and_then(|written| written.trouble));
        }
        let term = self.seat.as_mut().map(Seat::term).unwrap_or_default();
        let role = self.roles.role();
        let blind = since.map(|since| {
            let seconds = now.saturating_duration_since(since).as_secs();
            format!("the source cannot be asked about {lost} services for {seconds} s")
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
            waiting: if self.holds() { self.dirty.len() } else { 0 },
            pending,
            skipped,
            frozen: self.frozen.clone().or(blind),
            trouble: trouble.or_else(|| term.trouble.map(|why| why.to_string())),
        };
        self.tell.send_replace(facts);
    }
}

/// By the clock that timers go by.
fn now() -> Instant {
    time::Instant::now().into_std()
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
