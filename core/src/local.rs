//! What one worker has learnt: calls in flight, latencies, counts, turns. Owned by the worker, shared with nobody.
//!
//! Snapshots come and go; what is learnt stays. Each route and endpoint has a *slot*, a small number that is
//! this worker's own and outlives snapshots: `reconcile` finds slots again by stable key (listener and route name,
//! cluster name and address), and a slot is given up only when no snapshot lists it and no call or connection holds it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use outrigger_codec::{Outcome, Refusal};

use crate::{
    Awaited, Budget, Cluster, ClusterSettings, Clusters, End, Failure, Listener, ListenerId, Random,
    RouteTable, Snapshot, Tally, Tick, Tried, demand,
    health::{Crowd, Health},
    slots::Slots,
    subset::{Lot, Part, Standing},
    window::Window,
};

/// A route's number in one worker; outlives snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteSlot(pub u32);

/// An endpoint's number in one worker; outlives snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSlot(pub u32);

/// The state of one worker.
#[derive(Debug)]
pub struct Local {
    routes: Slots<RouteState>,
    endpoints: Slots<EndpointState>,
    /// For each listener of the snapshot: the slots of its routes, and last the slot of calls without a route.
    by_listener: Vec<Vec<RouteSlot>>,
    /// The listeners of the snapshot, which that is of.
    listeners: Vec<(Box<str>, Arc<RouteTable>)>,
    by_cluster: Vec<ClusterTurn>,
    /// The clusters of the snapshot, which that is of.
    clusters: Clusters,
    /// Endpoints that no snapshot lists, as long as anything holds them.
    leaving: Vec<EndpointSlot>,
    /// The same of routes.
    leaving_routes: Vec<RouteSlot>,
    /// Plans made and not yet settled.
    unsettled: u64,
    random: Random,
    /// Where its windows of large clusters begin, as a share of the way round.
    share: u64,
    /// A cluster's name, while it is made.
    pub(crate) name: String,
    /// Services that calls wait for, by the names of their clusters.
    awaited: HashMap<Box<str>, EndpointSlot>,
    /// Those that nobody was told of yet.
    untold: Vec<Awaited>,
}

/// What is learnt of a route.
#[derive(Debug)]
pub struct RouteState {
    /// The listener's name.
    pub listener: Box<str>,
    /// The route's name; `-` counts the calls of the listener that no route matched.
    pub name: Box<str>,
    /// Its counts.
    pub tally: Tally,
    in_flight: u32,
    listed: bool,
}

/// What is learnt of an endpoint.
#[derive(Debug)]
pub struct EndpointState {
    /// The cluster's name.
    pub cluster: Box<str>,
    /// `host:port`.
    pub address: Box<str>,
    /// How it is reached.
    pub settings: Arc<ClusterSettings>,
    /// Calls in flight.
    pub in_flight: u32,
    /// Connections that are open or being made.
    pub connections: u32,
    /// Passed over until then, because it failed or said goodbye.
    pub avoid_until: Tick,
    /// Its counts.
    pub tally: Tally,
    /// Whether the present snapshot has it.
    pub listed: bool,
    /// What all workers know of it together.
    pub health: Arc<Health>,
    crowd: Arc<Crowd>,
    budget: Arc<Budget>,
    ewma_ns: f64,
    ewma_at: Tick,
}

/// When it was looked how the endpoints of a part do: the changes until then, and the time.
type Seen = (u32, Tick);

#[derive(Debug, Default)]
struct ClusterTurn {
    slots: Vec<EndpointSlot>,
    /// The next turn of each part.
    next: Vec<usize>,
    /// How each part does, as it was seen last.
    standings: Vec<Option<(Seen, Standing)>>,
}

/// Time after which an old latency counts 1/e.
const EWMA_DECAY: Duration = Duration::from_secs(10);
/// What a failure counts as in the latency of an endpoint.
const FAILURE_COSTS: Duration = Duration::from_secs(1);
/// How long what was seen of the endpoints of a part is believed, while some of them are left out: time alone brings them back.
const STANDS: Duration = Duration::from_millis(20);
/// The address of an endpoint that stands for those of a cluster that is not there yet.
const NOBODY: &str = "";
/// The name that counts calls without a route.
pub const UNROUTED: &str = "-";

impl Local {
    /// A worker that knows nothing yet. `seed` makes its random picks; equal seeds, equal picks.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(2).wrapping_add(1));
        Self {
            share: random.below(u64::MAX),
            routes: Slots::default(),
            endpoints: Slots::default(),
            by_listener: Vec::new(),
            listeners: Vec::new(),
            by_cluster: Vec::new(),
            clusters: Clusters::default(),
            leaving: Vec::new(),
            leaving_routes: Vec::new(),
            unsettled: 0,
            random,
            name: String::new(),
            awaited: HashMap::new(),
            untold: Vec::new(),
        }
    }

    /// Takes up a new snapshot: finds slots again by key, makes new ones, gives up those that nothing holds. Costs what is new
    /// in it; clusters that are the same things as before cost nothing to speak of.
    pub fn reconcile(&mut self, snapshot: &Snapshot) {
        self.take_routes(snapshot);
        let last = std::mem::replace(&mut self.clusters, snapshot.clusters().clone());
        // Mostly each is where one of its name was, and nearly all are those of before.
        let same_names = last.len() == snapshot.clusters().len()
            && snapshot
                .clusters()
                .new_since(&last)
                .all(|(at, cluster)| last.get(at).is_some_and(|before| before.name == cluster.name));
        if same_names {
            for (at, cluster) in snapshot.clusters().new_since(&last) {
                let turn = self.by_cluster.get_mut(at).map(std::mem::take);
                let turn = self.take_cluster(cluster, turn);
                if let Some(place) = self.by_cluster.get_mut(at) {
                    *place = turn;
                }
            }
        } else {
            self.take_others(snapshot, &last);
        }
        // What calls waited for is known now; those that still wait are told by who holds them.
        let known: Vec<EndpointSlot> = self
            .awaited
            .iter()
            .filter(|(cluster, _)| snapshot.cluster_named(cluster).is_some())
            .map(|(_, slot)| *slot)
            .collect();
        self.awaited.retain(|cluster, _| snapshot.cluster_named(cluster).is_none());
        self.leaving.extend(known);
        self.give_up_endpoints();
    }

    /// The slots of clusters that are others than before, or elsewhere: they are looked for by their names.
    fn take_others(&mut self, snapshot: &Snapshot, last: &Clusters) {
        let before = last.iter().zip(std::mem::take(&mut self.by_cluster));
        let mut before: HashMap<&str, (&Arc<Cluster>, ClusterTurn)> =
            before.map(|(cluster, turn)| (&*cluster.name, (cluster, turn))).collect();
        for cluster in snapshot.clusters().iter() {
            let turn = match before.remove(&*cluster.name) {
                Some((same, turn)) if Arc::ptr_eq(same, cluster) => turn,
                other => self.take_cluster(cluster, other.map(|(_, turn)| turn)),
            };
            self.by_cluster.push(turn);
        }
        for (_, turn) in before.into_values() {
            self.unlist(&turn.slots);
        }
    }

    /// The slots of a snapshot's routes.
    fn take_routes(&mut self, snapshot: &Snapshot) {
        let same = |(before, now): (&(Box<str>, Arc<RouteTable>), &Listener)| {
            Arc::ptr_eq(&before.1, &now.routes) && before.0 == now.name
        };
        let listeners = snapshot.listeners();
        if self.listeners.len() != listeners.len() || !self.listeners.iter().zip(listeners).all(same) {
            let each = listeners.iter().map(|listener| (listener.name.clone(), Arc::clone(&listener.routes)));
            self.listeners = each.collect();
            self.take_other_routes(snapshot);
        }
        let routes = &mut self.routes;
        self.leaving_routes.retain(|slot| match routes.get(slot.0) {
            Some(route) if route.listed => false,
            Some(route) if route.in_flight > 0 => true,
            Some(route) => {
                let (listener, name) = (route.listener.clone(), route.name.clone());
                routes.give_up(slot.0, &listener, &name);
                false
            }
            None => false,
        });
    }

    fn take_other_routes(&mut self, snapshot: &Snapshot) {
        let before = std::mem::take(&mut self.by_listener);
        for slot in before.iter().flatten() {
            if let Some(route) = self.routes.get_mut(slot.0) {
                route.listed = false;
            }
        }
        let each = snapshot.listeners().iter().map(|listener| {
            let names = listener.routes.routes().iter().map(|route| &*route.name).chain([UNROUTED]);
            let enter = |name: &str| {
                let make = || RouteState::new(&listener.name, name);
                let slot = self.routes.enter(&listener.name, name, make);
                if let Some(route) = self.routes.get_mut(slot) {
                    route.listed = true;
                }
                RouteSlot(slot)
            };
            names.map(enter).collect()
        });
        self.by_listener = each.collect();
        self.leaving_routes.extend(before.into_iter().flatten());
        self.leaving_routes.sort_unstable_by_key(|slot| slot.0);
        self.leaving_routes.dedup();
    }

    /// The slots of a cluster's endpoints; `before`: what it was in the last snapshot.
    fn take_cluster(&mut self, cluster: &Arc<Cluster>, before: Option<ClusterTurn>) -> ClusterTurn {
        let mut next = Vec::new();
        if let Some(turn) = before {
            self.unlist(&turn.slots);
            next = turn.next;
        }
        let known = cluster.endpoints.iter().zip(&cluster.healths);
        let slots = known.map(|(endpoint, health)| {
            let make = || EndpointState::new(&cluster.name, &endpoint.address, &cluster.settings);
            let slot = self.endpoints.enter(&cluster.name, &endpoint.address, make);
            if let Some(state) = self.endpoints.get_mut(slot) {
                state.listed = true;
                state.settings = Arc::clone(&cluster.settings);
                state.health = Arc::clone(health);
                state.crowd = Arc::clone(&cluster.crowd);
                state.budget = Arc::clone(&cluster.budget);
            }
            EndpointSlot(slot)
        });
        let slots = slots.collect();
        next.resize(cluster.parts.len(), 0);
        ClusterTurn { slots, next, standings: vec![None; cluster.parts.len()] }
    }

    fn unlist(&mut self, slots: &[EndpointSlot]) {
        for slot in slots {
            if let Some(state) = self.endpoints.get_mut(slot.0) {
                state.listed = false;
            }
        }
        self.leaving.extend(slots);
    }

    /// Gives up the slots of endpoints that no snapshot lists and nothing holds. To be called between events alone: while one
    /// is handled, an engine may know a slot that nothing is counted for.
    pub fn give_up_endpoints(&mut self) {
        let (endpoints, awaited) = (&mut self.endpoints, &self.awaited);
        self.leaving.sort_unstable_by_key(|slot| slot.0);
        self.leaving.dedup();
        self.leaving.retain(|slot| match endpoints.get(slot.0) {
            Some(state) if state.listed || awaited.get(&state.cluster) == Some(slot) => false,
            Some(state) if state.in_flight > 0 || state.connections > 0 => true,
            Some(state) => {
                let (cluster, address) = (state.cluster.clone(), state.address.clone());
                endpoints.give_up(slot.0, &cluster, &address);
                false
            }
            None => false,
        });
    }

    /// An endpoint of a cluster that is not there yet: calls wait for it in line.
    pub(crate) fn awaits(&mut self, cluster: &str, awaited: impl FnOnce() -> Awaited) -> EndpointSlot {
        if let Some(slot) = self.awaited.get(cluster) {
            return *slot;
        }
        let settings = Arc::new(demand::nobody());
        let slot = self.endpoints.enter(cluster, NOBODY, || EndpointState {
            listed: false,
            ..EndpointState::new(cluster, NOBODY, &settings)
        });
        self.awaited.insert(cluster.into(), EndpointSlot(slot));
        self.untold.push(awaited());
        EndpointSlot(slot)
    }

    pub(crate) fn awaited_len(&self) -> usize {
        self.awaited.len()
    }

    /// Services that calls wait for and nobody was told of yet.
    pub fn untold(&mut self) -> Vec<Awaited> {
        std::mem::take(&mut self.untold)
    }

    /// Whether anybody is to be told of services that calls wait for.
    pub fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Whether calls to an endpoint wait for the cluster that it stands for, of which the present snapshot knows nothing.
    pub fn is_awaited(&self, slot: EndpointSlot) -> bool {
        self.endpoint(slot).is_some_and(|state| self.awaited.get(&state.cluster) == Some(&slot))
    }

    /// An endpoint's state, unless the slot was given up.
    pub fn endpoint(&self, slot: EndpointSlot) -> Option<&EndpointState> {
        self.endpoints.get(slot.0)
    }

    /// All endpoints, with their slots.
    pub fn endpoints(&self) -> impl Iterator<Item = (EndpointSlot, &EndpointState)> {
        self.endpoints.iter().map(|(at, state)| (EndpointSlot(at), state))
    }

    /// Endpoints by the order of their slots: as many as have one of `count` slots from this one on. `None`: there are no more. For
    /// who must not take long.
    pub fn some_endpoints(&self, from: usize, count: usize) -> Option<impl Iterator<Item = &EndpointState>> {
        self.endpoints.some(from, count)
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &RouteState> {
        self.routes.iter().map(|(_, state)| state)
    }

    /// Counts a connection to an endpoint that is being made; ended by one [`Local::disconnected`].
    pub fn connecting(&mut self, slot: EndpointSlot) {
        if let Some(endpoint) = self.endpoints.get_mut(slot.0) {
            endpoint.connections = endpoint.connections.saturating_add(1);
        }
    }

    /// A connection to an endpoint is gone, or was never made.
    pub fn disconnected(&mut self, slot: EndpointSlot) {
        if let Some(endpoint) = self.endpoints.get_mut(slot.0) {
            endpoint.connections = endpoint.connections.saturating_sub(1);
        }
    }

    /// Passes over an endpoint until then, where others are left. `Tick::ZERO` forgives it.
    pub fn avoid(&mut self, slot: EndpointSlot, until: Tick) {
        if let Some(endpoint) = self.endpoints.get_mut(slot.0) {
            endpoint.avoid_until = until;
        }
    }

    /// Another endpoint of the same cluster for a call that failed at one, and was at some before, if there is one: at best
    /// one where it was not yet.
    pub fn elsewhere(
        &mut self,
        snapshot: &Snapshot,
        failed: EndpointSlot,
        (lot, tried): (Lot, Tried),
        now: Tick,
    ) -> Option<EndpointSlot> {
        let at = snapshot.cluster_named(&self.endpoint(failed)?.cluster)?;
        let cluster = snapshot.cluster(at)?;
        let at = (at, lot);
        let (all, last) = (tried.with(failed), Tried::default().with(failed));
        let new = crate::balance::pick(self, cluster, at, None, all, now)
            .filter(|slot| !all.has(*slot) && self.reachable(*slot, now));
        new.or_else(|| crate::balance::pick(self, cluster, at, None, last, now))
            .filter(|slot| *slot != failed)
    }

    /// Whether calls to the cluster of an endpoint are meant for some of its endpoints and not for others.
    pub fn is_divided(&self, snapshot: &Snapshot, slot: EndpointSlot) -> bool {
        let cluster = self.endpoint(slot).and_then(|endpoint| snapshot.cluster_named(&endpoint.cluster));
        cluster.and_then(|at| snapshot.cluster(at)).is_some_and(|cluster| cluster.parts.differ())
    }

    /// Moves the call of `plan` to another endpoint.
    pub fn reassign(&mut self, plan: &mut crate::Plan, to: EndpointSlot, now: Tick) {
        self.in_flight(plan.endpoint, |n| n.saturating_sub(1));
        plan.tried = plan.tried.with(plan.endpoint);
        (plan.endpoint, plan.placed) = (to, now);
        self.in_flight(to, |n| n.saturating_add(1));
        self.picked(to, now);
    }

    /// The call of `plan` failed so where it was, and is tried again: for its endpoint that is a call like any other.
    pub fn try_failed(&mut self, plan: &crate::Plan, failure: Failure, now: Tick) {
        let took = now.since(plan.placed);
        if let Some(endpoint) = self.endpoints.get_mut(plan.endpoint.0) {
            let end = match failure {
                Failure::Lost => End::Refused(Refusal::Unreachable),
                Failure::Slow => End::Refused(Refusal::TimedOut),
                Failure::Answered(outcome, _) => End::Answered(outcome),
            };
            endpoint.tally.record(end, took);
            endpoint.health.failed(&endpoint.crowd, now);
            endpoint.observe(took.max(FAILURE_COSTS), now);
        }
    }

    /// A call could not be sent to an endpoint, and goes elsewhere: the endpoint is judged by that all the same.
    pub fn failed_at(&mut self, endpoint: EndpointSlot, now: Tick) {
        if let Some(endpoint) = self.endpoints.get_mut(endpoint.0) {
            // Not by its latency: it is avoided for a moment as it is, and would get no call for a minute after.
            endpoint.health.failed(&endpoint.crowd, now);
        }
    }

    /// What trying again may cost an endpoint's cluster.
    pub(crate) fn budget(&self, slot: EndpointSlot) -> Option<&Budget> {
        self.endpoint(slot).map(|endpoint| &*endpoint.budget)
    }

    fn picked(&self, slot: EndpointSlot, now: Tick) {
        if let Some(endpoint) = self.endpoint(slot) {
            endpoint.health.picked(now);
        }
    }

    /// Counts a call that was refused before a route was looked for (it could not be read).
    pub fn refuse_unrouted(&mut self, listener: ListenerId, why: Refusal) {
        if let Some(slot) = self.route_slot(listener, None) {
            self.count_refusal(slot, why);
        }
    }

    /// Plans made and not yet settled.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }

    pub(crate) fn count_refusal(&mut self, slot: RouteSlot, why: Refusal) {
        if let Some(route) = self.routes.get_mut(slot.0) {
            route.tally.record(End::Refused(why), Duration::ZERO);
        }
    }

    pub(crate) fn count_response(&mut self, slot: RouteSlot, outcome: Outcome) {
        if let Some(route) = self.routes.get_mut(slot.0) {
            route.tally.record(End::Answered(outcome), Duration::ZERO);
        }
    }

    pub(crate) fn begin(&mut self, route: RouteSlot, endpoint: EndpointSlot, now: Tick) {
        self.picked(endpoint, now);
        self.unsettled = self.unsettled.saturating_add(1);
        if let Some(route) = self.routes.get_mut(route.0) {
            route.in_flight = route.in_flight.saturating_add(1);
        }
        self.in_flight(endpoint, |n| n.saturating_add(1));
    }

    pub(crate) fn end(&mut self, plan: &crate::Plan, end: End, now: Tick) {
        self.unsettled = self.unsettled.saturating_sub(1);
        if let Some(route) = self.routes.get_mut(plan.route.0) {
            route.in_flight = route.in_flight.saturating_sub(1);
            route.tally.record(end, now.since(plan.started));
        }
        // What it took elsewhere before is no fault of this endpoint.
        let took = now.since(plan.placed);
        if let Some(endpoint) = self.endpoints.get_mut(plan.endpoint.0) {
            endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
            endpoint.tally.record(end, took);
            match end {
                End::Answered(outcome) if failed(outcome) => {
                    endpoint.observe(took.max(FAILURE_COSTS), now);
                    endpoint.health.failed(&endpoint.crowd, now);
                }
                End::Answered(_) => {
                    endpoint.observe(took, now);
                    endpoint.health.worked(&endpoint.crowd, now);
                }
                End::Refused(Refusal::Unreachable | Refusal::TimedOut) => {
                    endpoint.observe(took.max(FAILURE_COSTS), now);
                    endpoint.health.failed(&endpoint.crowd, now);
                }
                End::Refused(_) => endpoint.observe(took.max(FAILURE_COSTS), now),
                // It took longer than this at least.
                End::Superseded if took.as_secs_f64() * 1e9 > endpoint.ewma_ns => endpoint.observe(took, now),
                End::Sent | End::Abandoned | End::Superseded => {}
            }
        }
    }

    /// A second try of the call of `plan`, beside it: a plan of its own, of which one of the two ends as superseded.
    pub(crate) fn beside(&mut self, plan: &mut crate::Plan, to: EndpointSlot, now: Tick) -> crate::Plan {
        self.begin(plan.route, to, now);
        plan.tried = plan.tried.with(to);
        crate::Plan {
            endpoint: to,
            placed: now,
            tried: plan.tried.with(plan.endpoint),
            retry: plan.retry.clone(),
            changes: plan.changes.clone(),
            ..*plan
        }
    }

    fn in_flight(&mut self, slot: EndpointSlot, change: impl Fn(u32) -> u32) {
        if let Some(endpoint) = self.endpoints.get_mut(slot.0) {
            endpoint.in_flight = change(endpoint.in_flight);
        }
    }

    /// The slot of a route of the present snapshot; of the listener's unrouted calls when `route` is `None`.
    pub(crate) fn route_slot(&self, listener: ListenerId, route: Option<u32>) -> Option<RouteSlot> {
        let slots = self.by_listener.get(listener.0 as usize)?;
        match route {
            Some(at) => slots.get(at as usize).copied(),
            None => slots.last().copied(),
        }
    }

    /// The slot of the endpoint at `position` of a cluster of the present snapshot.
    pub(crate) fn slot_of(&self, cluster: u32, position: usize) -> Option<EndpointSlot> {
        self.by_cluster.get(cluster as usize)?.slots.get(position).copied()
    }

    pub(crate) fn next_turn(&mut self, cluster: u32, part: u32) -> usize {
        let turn =
            self.by_cluster.get_mut(cluster as usize).and_then(|turn| turn.next.get_mut(part as usize));
        turn.map_or(0, |next| {
            let now = *next;
            *next = now.wrapping_add(1);
            now
        })
    }

    /// How the endpoints of a part of `cluster` do. Where something is wrong each of them is looked at, but not at each call.
    pub(crate) fn standing(
        &mut self,
        cluster: &Cluster,
        at: u32,
        (place, part): (u32, &Part),
        now: Tick,
    ) -> Standing {
        if cluster.crowd.unusable() == 0 {
            return Standing::WELL;
        }
        // Of the whole it is counted.
        if part.is_whole() {
            return Standing { panics: crate::balance::few(cluster), ..Standing::WELL };
        }
        let known =
            self.by_cluster.get_mut(at as usize).and_then(|turn| turn.standings.get_mut(place as usize));
        let changes = cluster.crowd.changes();
        if let Some(Some(((then, when), standing))) = &known
            && *then == changes
            && now.since(*when) < STANDS
        {
            return *standing;
        }
        let settings = &cluster.settings;
        let spill = settings.division.zones.as_ref().map_or(100, |zones| zones.spill);
        let standing = Standing::of(&cluster.parts, part, &cluster.healths, (spill, settings.panic), now);
        if let Some(known) = known {
            *known = Some(((changes, now), standing));
        }
        standing
    }

    /// Whether an endpoint is passed over; `all`: however it did.
    pub(crate) fn avoided(&self, slot: EndpointSlot, all: bool, now: Tick) -> bool {
        self.endpoint(slot)
            .is_some_and(|endpoint| endpoint.avoid_until > now || !(all || endpoint.health.is_usable(now)))
    }

    /// Whether it did not refuse connections a moment ago.
    pub(crate) fn reachable(&self, slot: EndpointSlot, now: Tick) -> bool {
        self.endpoint(slot).is_some_and(|endpoint| endpoint.avoid_until <= now)
    }

    /// An endpoint's part of its full share of calls, in thousandths.
    pub(crate) fn share(&self, slot: EndpointSlot, cluster: &Cluster, now: Tick) -> u64 {
        let window = cluster.settings.slow_start;
        if window.is_zero() && !cluster.warms_up {
            return 1_000;
        }
        self.endpoint(slot).map_or(1_000, |endpoint| endpoint.health.share(window, now))
    }

    /// Calls in flight for the weight.
    pub(crate) fn load(&self, slot: EndpointSlot, weight: f64) -> f64 {
        self.endpoint(slot)
            .map_or(f64::INFINITY, |endpoint| f64::from(endpoint.in_flight) / weight.max(f64::MIN_POSITIVE))
    }

    /// Latency × load for the weight. By the load alone: who is drawn by weight has had the good of it.
    pub(crate) fn cost(&self, slot: EndpointSlot, weight: f64, now: Tick) -> f64 {
        let Some(endpoint) = self.endpoint(slot) else { return f64::INFINITY };
        let latency = endpoint.latency(now);
        // One that has calls in flight but never answered is not cheap, only unknown.
        let latency =
            if latency < 1.0 && endpoint.in_flight > 0 { FAILURE_COSTS.as_nanos() as f64 } else { latency };
        latency * (self.load(slot, weight) + 1.0)
    }

    /// The window of so many endpoints of a part of a cluster, if they are looked at by one.
    pub(crate) fn window(&self, (cluster, part): (u32, u32), size: usize, now: Tick) -> Option<Window> {
        // Each part has its own, or the same places would be busy in all.
        let apart = u64::from(cluster).wrapping_mul(31).wrapping_add(u64::from(part));
        let share = self.share.wrapping_add(apart.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Window::of(size, self.unsettled, share, now)
    }

    /// A number below `below`; 0 when that is 0.
    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random.below(below)
    }
}

impl RouteState {
    fn new(listener: &str, name: &str) -> Self {
        Self {
            listener: listener.into(),
            name: name.into(),
            tally: Tally::default(),
            in_flight: 0,
            listed: true,
        }
    }
}

impl EndpointState {
    fn new(cluster: &str, address: &str, settings: &Arc<ClusterSettings>) -> Self {
        Self {
            cluster: cluster.into(),
            address: address.into(),
            settings: Arc::clone(settings),
            in_flight: 0,
            connections: 0,
            avoid_until: Tick::ZERO,
            tally: Tally::default(),
            listed: true,
            health: Arc::default(),
            crowd: Arc::default(),
            budget: Arc::default(),
            ewma_ns: 0.0,
            ewma_at: Tick::ZERO,
        }
    }

    /// The moving average of its latency in nanoseconds; 0 when nothing is known.
    pub fn latency(&self, now: Tick) -> f64 {
        if self.health.is_on_trial(now) || self.is_outdated() {
            return 0.0;
        }
        self.ewma_ns * (-now.since(self.ewma_at).as_secs_f64() / EWMA_DECAY.as_secs_f64()).exp()
    }

    /// What an endpoint did before it was left out says nothing of what it does since it came back: its failures would keep
    /// calls away from it for a minute.
    fn is_outdated(&self) -> bool {
        self.health.back_at().is_some_and(|back| self.ewma_at <= back)
    }

    /// Peak-EWMA: a slower answer counts at once, faster ones bring the average down over time.
    fn observe(&mut self, took: Duration, now: Tick) {
        if self.is_outdated() {
            self.ewma_ns = 0.0;
        }
        let took = took.as_secs_f64() * 1e9;
        if took > self.ewma_ns {
            self.ewma_ns = took;
        } else {
            let age = now.since(self.ewma_at).as_secs_f64() / EWMA_DECAY.as_secs_f64();
            // For small ages, which are most, the line is as good as the curve and costs nothing.
            let keep = if age < 0.01 { 1.0 - age } else { (-age).exp() };
            self.ewma_ns = self.ewma_ns * keep + took * (1.0 - keep);
        }
        self.ewma_at = now;
    }
}

/// Whether an answer is the endpoint's failure, not its service's own word.
fn failed(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Busy | Outcome::TimedOut | Outcome::Error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // tests fail by panicking
mod tests {
    use super::*;
    use crate::{Balance, Endpoint};

    fn snapshot(revision: u64, addresses: &[&str]) -> Snapshot {
        let endpoints = addresses.iter().map(|a| Endpoint::new(a, 1)).collect();
        Snapshot::new(
            revision,
            Vec::new(),
            vec![Cluster::new("c", Balance::RoundRobin, ClusterSettings::default(), endpoints)],
        )
    }

    #[test]
    fn slots_outlive_snapshots_while_anything_holds_them() {
        let mut local = Local::new(1);
        local.reconcile(&snapshot(1, &["a:1", "b:1"]));
        let (a, b) = (local.slot_of(0, 0).unwrap(), local.slot_of(0, 1).unwrap());
        local.connecting(a);
        local.reconcile(&snapshot(2, &["b:1", "c:1"]));
        assert_eq!(local.slot_of(0, 0), Some(b), "found again by address, not by position");
        assert!(!local.endpoint(a).unwrap().listed);
        assert_ne!(local.slot_of(0, 1), Some(a), "a held slot is not given to another");
        local.give_up_endpoints();
        assert!(local.endpoint(a).is_some(), "a connection holds it");
        local.disconnected(a);
        local.give_up_endpoints();
        assert!(local.endpoint(a).is_none());
        local.reconcile(&snapshot(3, &["b:1"]));
        local.reconcile(&snapshot(4, &["b:1", "d:1"]));
        assert!(local.slot_of(0, 1).unwrap().0 < 3, "slots are used again");
    }

    #[test]
    fn endpoints_that_come_and_go_leave_nothing_behind() {
        let mut local = Local::new(1);
        for turn in 0..1_000 {
            local.reconcile(&snapshot(turn, &["a:1", &format!("b:{turn}")]));
        }
        assert_eq!(local.endpoints.size(), (2, 3));
    }

    #[test]
    fn a_cluster_that_is_the_same_thing_keeps_its_slots_wherever_it_stands() {
        let cluster = |name: &str, addresses: &[&str]| {
            let endpoints = addresses.iter().map(|a| Endpoint::new(a, 1)).collect();
            Arc::new(Cluster::new(name, Balance::RoundRobin, ClusterSettings::default(), endpoints))
        };
        let (one, two) = (cluster("one", &["a:1", "b:1"]), cluster("two", &["c:1"]));
        let mut local = Local::new(1);
        local.reconcile(&Snapshot::of(1, Vec::new(), vec![Arc::clone(&one), Arc::clone(&two)]));
        let slots = |local: &Local, at| (0..2).filter_map(|i| local.slot_of(at, i)).collect::<Vec<_>>();
        let (of_one, of_two) = (slots(&local, 0), slots(&local, 1));
        // Another before them, one of them with other endpoints, both gone and back.
        local.reconcile(&Snapshot::of(
            2,
            Vec::new(),
            vec![cluster("new", &[]), Arc::clone(&one), Arc::clone(&two)],
        ));
        assert_eq!((slots(&local, 1), slots(&local, 2)), (of_one.clone(), of_two.clone()));
        local.reconcile(&Snapshot::of(
            3,
            Vec::new(),
            vec![Arc::clone(&two), cluster("one", &["b:1", "d:1"])],
        ));
        assert_eq!((slots(&local, 0), slots(&local, 1)[0]), (of_two, of_one[1]));
        assert!(local.endpoints().all(|(_, state)| state.listed), "what is gone is given up");
        local.reconcile(&Snapshot::of(4, Vec::new(), Vec::new()));
        assert_eq!(local.endpoints().count(), 0);
        local.reconcile(&Snapshot::of(5, Vec::new(), vec![one]));
        assert!(local.endpoints().all(|(_, state)| state.listed) && local.endpoints().count() == 2);
    }

    /// Whatever becomes of many clusters: each endpoint has a slot, the one it had, and nothing else is listed.
    #[test]
    fn slots_are_right_after_any_change_of_many_clusters() {
        let cluster = |at: usize, first: usize| {
            let endpoints = (first..first + 2).map(|port| Endpoint::new(&format!("a:{port}"), 1)).collect();
            let settings = ClusterSettings::default();
            Arc::new(Cluster::new(&format!("c{at}"), Balance::RoundRobin, settings, endpoints))
        };
        let (mut local, mut random) = (Local::new(1), Random::new(7));
        let mut below = |limit: usize| random.below(limit as u64) as usize;
        let mut last = Snapshot::of(0, Vec::new(), (0..140).map(|at| cluster(at, 1)).collect());
        let mut had: HashMap<(String, String), EndpointSlot> = HashMap::new();
        for revision in 1..600 {
            let mut all: Vec<_> = last.clusters().iter().cloned().collect();
            let others: Vec<_> = (0..below(4)).map(|_| cluster(below(150), 1 + below(3))).collect();
            last = match below(5) {
                0 => {
                    all.retain(|_| below(20) > 0);
                    let new = others.into_iter().filter(|new| last.cluster_named(&new.name).is_none());
                    let mut names = std::collections::HashSet::new();
                    all.extend(new.filter(|new| names.insert(new.name.clone())));
                    let turn = below(all.len().max(1));
                    all.rotate_left(turn);
                    Snapshot::after(&last, revision, Vec::new(), all)
                }
                1 => Snapshot::after(&last, revision, Vec::new(), all),
                _ => Snapshot::patched(&last, revision, Vec::new(), others),
            };
            local.reconcile(&last);
            let mut has = HashMap::new();
            for (at, cluster) in last.clusters().iter().enumerate() {
                assert_eq!(last.cluster_named(&cluster.name), Some(at as u32));
                for (position, endpoint) in cluster.endpoints.iter().enumerate() {
                    let slot = local.slot_of(at as u32, position).unwrap();
                    let state = local.endpoint(slot).unwrap();
                    assert_eq!(
                        (&state.cluster, &state.address, state.listed),
                        (&cluster.name, &endpoint.address, true)
                    );
                    let key = (cluster.name.to_string(), endpoint.address.to_string());
                    assert!(had.get(&key).is_none_or(|had| *had == slot), "{key:?} has another slot");
                    has.insert(key, slot);
                }
            }
            assert_eq!(local.endpoints().count(), has.len(), "what is gone is given up");
            had = has;
        }
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_fades() {
        let mut endpoint = EndpointState::new("c", "a:1", &Arc::default());
        let start = Tick(1_000_000_000);
        endpoint.observe(Duration::from_millis(1), start);
        endpoint.observe(Duration::from_millis(100), start);
        assert!(endpoint.latency(start) > 99e6);
        assert!(endpoint.latency(start.after(EWMA_DECAY)) < 40e6);
    }

    #[test]
    fn random_is_even_and_in_range() {
        let mut local = Local::new(9);
        let mut count = [0u32; 7];
        (0..7_000).for_each(|_| count[local.random(7) as usize] += 1);
        assert!(count.iter().all(|n| (850..1_150).contains(n)), "{count:?}");
        assert_eq!(local.random(0), 0);
    }
}
