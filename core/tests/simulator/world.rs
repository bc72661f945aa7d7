//! The time, the events, the workers and the control thread of one life.
//!
//! Snapshots are made as `conf::lower` makes them and reach each worker a moment later, in order; health checks and the
//! comparison of endpoints are the control thread's (`control/{probes,outliers}.rs`). Must never let two things happen in an
//! order that does not follow from the seed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use outrigger_codec::{Outcome, Refusal};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, EndpointSlot, HashBy, Listener, Local, Match, Random, Retry,
    Route, RouteTable, Snapshot, Tally, Target, Tick,
    health::{Checked, Doing, odd_ones},
};

use crate::{calls::Call, judge::Judge, peers::Peer};

/// What a life is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) balance: Balance,
    pub(crate) settings: ClusterSettings,
    pub(crate) weights: Vec<u32>,
    pub(crate) workers: usize,
    pub(crate) retry: Option<Retry>,
    pub(crate) timeout: Option<Duration>,
    /// Calls a second, of all workers together; 0: only those that the story makes.
    pub(crate) rate: u64,
    /// The longest that a worker is behind with a snapshot.
    pub(crate) lag: Duration,
    /// How often endpoints are asked whether they are well; zero: never.
    pub(crate) checks: Duration,
    /// Callers that set a timeout, of a hundred.
    pub(crate) impatient: u64,
    /// Calls whose request is complete only some time after its head, of a hundred.
    pub(crate) slow_bodies: u64,
}

impl Default for Setup {
    fn default() -> Self {
        let hash = Some(HashBy::Header(b"k"[..].into()));
        Self {
            balance: Balance::default(),
            settings: ClusterSettings { hash, ..ClusterSettings::default() },
            weights: vec![1; 5],
            workers: 1,
            retry: None,
            timeout: Some(Duration::from_secs(1)),
            rate: 0,
            lag: Duration::from_millis(2),
            checks: Duration::ZERO,
            impatient: 0,
            slow_bodies: 0,
        }
    }
}

/// What happens at some moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A call comes in.
    Arrive,
    /// A worker takes up a snapshot.
    Take(usize, Arc<Snapshot>),
    /// A dial of a worker ended.
    Dialed(usize, EndpointSlot),
    /// A process has done with a try of a call: peer, process, call, try, how.
    Worked(usize, u32, u64, u32, Option<Outcome>),
    /// A try of a call took too long.
    Slow(u64, u32),
    /// A call's deadline.
    Deadline(u64),
    /// A call's request is complete.
    Complete(u64),
    /// A pause is over.
    Again(u64),
    /// A health check of a peer.
    Check(usize),
    /// Endpoints are compared.
    Compare,
}

/// One worker.
pub(crate) struct Worker {
    pub(crate) local: Local,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Connections by endpoint: whether each is open.
    pub(crate) links: BTreeMap<u32, bool>,
    /// The endpoints of its snapshot, with their weights.
    pub(crate) slots: Vec<(EndpointSlot, u32)>,
    takes_at: Tick,
}

/// One life.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) now: Tick,
    pub(crate) random: Random,
    pub(crate) peers: Vec<Peer>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) calls: BTreeMap<u64, Call>,
    pub(crate) next_call: u64,
    pub(crate) judge: Judge,
    pub(crate) arrivals: bool,
    events: BTreeMap<(Tick, u64), Event>,
    next_event: u64,
    /// What endpoints had done when they were last compared.
    did: HashMap<Box<str>, Doing>,
    compared: Tick,
}

/// As the engines have it.
const AVOID_RETIRED: Duration = Duration::from_secs(10);
/// Long enough after the process began that no time is the smallest.
const BEGIN: Tick = Tick(1_000_000_000);

impl World {
    pub(crate) fn new(seed: u64, setup: Setup) -> Self {
        let peers = setup.weights.iter().zip(0..).map(|(w, at)| Peer::new(&format!("10.0.0.{at}:80"), *w));
        let peers: Vec<Peer> = peers.collect();
        let snapshot = Arc::new(Snapshot::new(0, Vec::new(), Vec::new()));
        let worker = |at: usize| Worker {
            local: Local::new(seed.wrapping_mul(31).wrapping_add(at as u64)),
            snapshot: Arc::clone(&snapshot),
            links: BTreeMap::new(),
            slots: Vec::new(),
            takes_at: Tick::ZERO,
        };
        let (checks, workers) = (setup.checks, setup.workers);
        let mut world = Self {
            judge: Judge::new(&setup, BEGIN),
            now: BEGIN,
            random: Random::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(7)),
            workers: (0..workers).map(worker).collect(),
            peers,
            snapshot: Arc::clone(&snapshot),
            calls: BTreeMap::new(),
            next_call: 0,
            arrivals: setup.rate > 0,
            events: BTreeMap::new(),
            next_event: 0,
            did: HashMap::new(),
            compared: BEGIN,
            setup,
        };
        world.publish();
        world.run_for(world.setup.lag);
        for at in (0..world.peers.len()).filter(|_| !checks.is_zero()) {
            world.at(world.now.after(checks), Event::Check(at));
        }
        world.at(world.now.after(Duration::from_secs(1)), Event::Compare);
        if world.arrivals {
            world.at(world.now, Event::Arrive);
        }
        world
    }

    /// Has something happen then.
    pub(crate) fn at(&mut self, when: Tick, event: Event) {
        self.next_event += 1;
        self.events.insert((when, self.next_event), event);
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, long: Duration) {
        let end = self.now.after(long);
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((when, _), event) = entry.remove_entry();
            self.now = when;
            self.happens(event);
            self.judge.look(&self.snapshot, self.now);
        }
        self.now = end;
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrives(),
            Event::Take(worker, snapshot) => self.takes(worker, snapshot),
            Event::Dialed(worker, slot) => self.dialed(worker, slot),
            Event::Worked(peer, process, call, attempt, outcome) => {
                if self.peers[peer].process == process {
                    self.peers[peer].works_at -= 1;
                    self.answered(call, attempt, outcome);
                }
            }
            Event::Slow(call, attempt) => self.slow(call, attempt),
            Event::Deadline(call) => self.expires(call),
            Event::Complete(call) => self.completes(call),
            Event::Again(call) => self.goes_on(call),
            Event::Check(peer) => self.checks(peer),
            Event::Compare => self.compares(),
        }
    }

    fn arrives(&mut self) {
        if !self.arrivals {
            return;
        }
        let worker = self.random.below(self.workers.len() as u64) as usize;
        let key = self.random.below(10_000);
        self.call(worker, key);
        let mean = 1_000_000_000 / self.setup.rate;
        let pause = Duration::from_nanos(mean / 2 + self.random.below(mean));
        self.at(self.now.after(pause), Event::Arrive);
    }

    /// The cluster as the control thread knows it.
    pub(crate) fn cluster(&self) -> &Cluster {
        self.snapshot.cluster(0).unwrap()
    }

    /// Makes a snapshot of who is listed, and sends it to all workers.
    pub(crate) fn publish(&mut self) {
        let listed = self.peers.iter().filter(|peer| peer.listed);
        let endpoints = listed.map(|peer| Endpoint::new(&peer.address, peer.weight)).collect();
        let mut cluster = Cluster::new("c", self.setup.balance, self.setup.settings.clone(), endpoints);
        if let Some(last) = self.snapshot.cluster(0) {
            cluster.inherit(last, self.now);
        }
        let route = Route {
            name: "all".into(),
            matches: Match::default(),
            targets: [Target::new(0, 1)].into(),
            timeout: self.setup.timeout,
            retry: self.setup.retry.clone().map(Arc::new),
            ..Route::default()
        };
        let listener = Listener { name: "l".into(), routes: RouteTable::new(vec![route]).into() };
        let last = self.snapshot.cluster(0).and_then(|cluster| cluster.settings.outlier.clone());
        self.snapshot = Arc::new(Snapshot::new(self.snapshot.revision + 1, vec![listener], vec![cluster]));
        self.judge.reloads(last.as_ref(), &self.snapshot, self.now);
        for at in 0..self.workers.len() {
            let lag = Duration::from_nanos(self.random.below(self.setup.lag.as_nanos() as u64 + 1));
            let when = self.now.after(lag).max(self.workers[at].takes_at);
            self.workers[at].takes_at = when;
            self.at(when, Event::Take(at, Arc::clone(&self.snapshot)));
        }
    }

    fn takes(&mut self, worker: usize, snapshot: Arc<Snapshot>) {
        let worker = &mut self.workers[worker];
        worker.local.reconcile(&snapshot);
        let slot = |address: &str| {
            let mut states = worker.local.endpoints().filter(|(_, state)| state.listed);
            states.find(|(_, state)| *state.address == *address).map(|(slot, _)| slot)
        };
        let endpoints = snapshot.cluster(0).unwrap().endpoints.iter();
        worker.slots = endpoints.filter_map(|e| Some((slot(&e.address)?, e.weight))).collect();
        assert_eq!(
            worker.slots.len(),
            snapshot.cluster(0).unwrap().endpoints.len(),
            "an endpoint has no slot"
        );
        worker.snapshot = snapshot;
        worker.close_unlisted();
    }

    /// A process is killed: its connections are lost, and what it worked at.
    pub(crate) fn kill(&mut self, peer: usize) {
        self.peers[peer].kill();
        let address = self.peers[peer].address.clone();
        for worker in 0..self.workers.len() {
            let local = &self.workers[worker].local;
            let slots = local.endpoints().filter(|(_, state)| *state.address == *address);
            let slots: Vec<EndpointSlot> = slots.map(|(slot, _)| slot).collect();
            for slot in slots {
                if self.workers[worker].links.get(&slot.0) == Some(&true) {
                    self.link_lost(worker, slot);
                }
            }
        }
        self.judge.look(&self.snapshot, self.now);
    }

    /// An endpoint that is about to stop says so on each of its connections: it is passed over for a while.
    pub(crate) fn says_goodbye(&mut self, peer: usize) {
        let address = &self.peers[peer].address;
        for worker in &mut self.workers {
            let known = worker.local.endpoints().find(|(_, state)| *state.address == **address);
            if let Some((slot, _)) = known.filter(|(slot, _)| worker.links.contains_key(&slot.0)) {
                worker.local.avoid(slot, self.now.after(AVOID_RETIRED));
            }
        }
    }

    fn checks(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let changed = peer.checked.next(peer.runs && peer.feels_well, 3, 2);
        let (found, address) = (peer.checked.found, peer.address.clone());
        let cluster = self.cluster();
        let position = cluster.endpoints.iter().position(|endpoint| *endpoint.address == *address);
        match position {
            Some(position) if changed => {
                cluster.healths[position].probed(&cluster.crowd, found, self.now);
            }
            Some(_) => {}
            // Nobody asks who is not listed; it is asked anew when it is again.
            None => self.peers[at].checked = Checked::default(),
        }
        self.at(self.now.after(self.setup.checks), Event::Check(at));
    }

    fn compares(&mut self) {
        self.at(self.now.after(Duration::from_secs(1)), Event::Compare);
        let snapshot = Arc::clone(&self.snapshot);
        let cluster = snapshot.cluster(0).unwrap();
        let Some(outlier) = &cluster.settings.outlier else { return };
        if cluster.endpoints.len() < 3 || self.now.since(self.compared) < outlier.interval {
            return;
        }
        let mut doings = Vec::new();
        for endpoint in &cluster.endpoints {
            let mut tally = Tally::default();
            for (_, state) in self.workers.iter().flat_map(|worker| worker.local.endpoints()) {
                if state.address == endpoint.address {
                    tally.add(&state.tally);
                }
            }
            let all = doing(&tally);
            let before = self.did.insert(endpoint.address.clone(), all).unwrap_or_default();
            doings.push(Doing {
                good: all.good.saturating_sub(before.good),
                bad: all.bad.saturating_sub(before.bad),
                timed: all.timed.saturating_sub(before.timed),
                took: all.took.saturating_sub(before.took),
            });
        }
        self.compared = self.now;
        for odd in odd_ones(outlier, &doings) {
            self.judge.odd += 1;
            cluster.healths[odd].eject(&cluster.crowd, self.now);
        }
    }

    /// Ends the life: no more calls come, all end, and nobody is left who does not belong here.
    pub(crate) fn end(&mut self) {
        self.arrivals = false;
        let patience = Duration::from_secs(30);
        self.run_for(patience);
        self.callers_leave();
        assert!(self.calls.is_empty(), "calls never ended: {:?}", self.calls.values().next());
        self.publish();
        self.run_for(self.setup.lag);
        let listed = self.cluster().endpoints.len();
        for worker in &self.workers {
            assert_eq!(worker.local.unsettled(), 0, "plans were forgotten");
            for (slot, state) in worker.local.endpoints() {
                assert_eq!(state.in_flight, 0, "{slot:?} {} is said to have calls in flight", state.address);
                assert!(state.listed, "{slot:?} {} left, and keeps its slot", state.address);
                let links = u32::from(worker.links.contains_key(&slot.0));
                assert_eq!(state.connections, links, "{slot:?} {}", state.address);
            }
            assert_eq!(worker.local.endpoints().count(), listed);
        }
        self.judge.ends(&self.snapshot, self.now);
    }
}

impl Worker {
    /// Connections to endpoints that left end with their last call, and their slots with the next snapshot.
    pub(crate) fn close_unlisted(&mut self) {
        let done = |slot: &u32| {
            let state = self.local.endpoint(EndpointSlot(*slot));
            state.is_some_and(|state| !state.listed && state.in_flight == 0)
        };
        let done: Vec<u32> =
            self.links.iter().filter(|(slot, open)| **open && done(slot)).map(|(s, _)| *s).collect();
        for slot in done {
            self.links.remove(&slot);
            self.local.disconnected(EndpointSlot(slot));
        }
    }
}

/// What an endpoint did, ever, as `control/outliers.rs` counts it.
fn doing(tally: &Tally) -> Doing {
    let count = |outcome: Outcome| tally.answered[outcome as usize];
    let bad: u64 = [Outcome::Busy, Outcome::TimedOut, Outcome::Error].map(count).iter().sum();
    let lost = tally.refused[Refusal::Unreachable as usize] + tally.refused[Refusal::TimedOut as usize];
    let (timed, took) = tally.latency.as_ref().map_or((0, 0), |latency| (latency.count(), latency.sum_ns));
    Doing {
        good: count(Outcome::Ok) + count(Outcome::Exception),
        bad: bad + lost,
        timed,
        took: Duration::from_nanos(took),
    }
}
