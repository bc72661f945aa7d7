//! What one life is like: its conf, its bounds, and how unkind its peers are. Drawn once from the seed.
//!
//! The conf changes during a life (`Shape::change`); which cluster serves which service never does, so that every
//! call's right place is known. Calm lives have peers without faults: there each call must get its service's answer.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use outrigger::session::frames::Bounds;
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Limit, Listener, Match, Pattern, Retry, Route, RouteTable,
    Snapshot, Target,
};

use crate::rng::Rng;

/// Services with a route; the last only for one method.
pub(crate) const SERVICES: [&str; 4] = ["s0", "s1", "s2", "s3"];
pub(crate) const METHODS: [&str; 2] = ["m0", "m1"];
/// A service without a route.
pub(crate) const UNKNOWN: &str = "nobody";

pub(crate) struct Shape {
    pub(crate) calm: bool,
    pub(crate) bounds: Bounds,
    pub(crate) steps: usize,
    pub(crate) payload_max: usize,
    /// How long callers may be silent.
    pub(crate) silence: Option<Duration>,
    /// Percent of sockets that take few bytes at a time.
    pub(crate) slow_percent: usize,
    /// Percent of calls whose caller sets a timeout.
    pub(crate) timeout_percent: usize,
    /// Whether a cluster was ever without endpoints, or a route or listener ever missing.
    pub(crate) holes: bool,
    pub(crate) limit: Option<Arc<Limit>>,
    settings: ClusterSettings,
    balance: Balance,
    route_timeouts: [Option<Duration>; SERVICES.len()],
    /// For each cluster the endpoints that are listed.
    retry: Option<Arc<Retry>>,
    listed: Vec<Vec<bool>>,
    listeners: Vec<bool>,
    /// The route of `s2`.
    route_listed: bool,
    revision: u64,
}

fn ms(ms: usize) -> Duration {
    Duration::from_millis(ms as u64)
}

impl Shape {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let calm = rng.chance(15);
        let endpoints = rng.range(1, 4);
        let outbox_high = rng.pick(&[200, 600, 2_000]);
        let frame_max = rng.pick(&[600, 2_000]);
        let bounds = if calm {
            Bounds { frame_max, ..Bounds::default() }
        } else {
            Bounds {
                frame_max,
                outbox_high,
                outbox_max: outbox_high * rng.range(2, 8),
                frame_timeout: ms(rng.pick(&[300, 1_500])),
                ..Bounds::default()
            }
        };
        let rare =
            |rng: &mut Rng, percent: usize, value: usize| (!calm && rng.chance(percent)).then_some(value);
        let settings = ClusterSettings {
            connections: Some(rng.range(1, 3) as u32),
            connect_timeout: ms(rng.pick(&[100, 1_000])),
            idle_timeout: rare(rng, 15, 700).map(ms),
            max_age: rare(rng, 15, 900).map(ms),
            pending_max: rare(rng, 15, 3).unwrap_or(65_536) as u32,
            ..ClusterSettings::default()
        };
        let burst = rng.range(1, 5);
        let limit = rare(rng, 20, burst).and_then(|burst| {
            Limit::new(NonZeroU32::new(50)?, Duration::from_secs(1), NonZeroU32::new(burst as u32)?)
        });
        let timed = !calm && rng.chance(70);
        let route_timeouts = [0; SERVICES.len()]
            .map(|_| (timed && rng.chance(80)).then(|| ms(rng.pick(&[20, 150, 1_000, 3_000]))));
        // What may be sent again: that happens by chance, of calls that were lost, slow or answered badly.
        let again = (!calm && rng.chance(50)).then(|| Retry {
            reset: true,
            overloaded: rng.chance(50),
            error: rng.chance(50),
            tries: rng.range(1, 4) as u8,
            per_try: rng.chance(40).then(|| ms(rng.pick(&[20, 200]))),
            backoff: ms(rng.pick(&[0, 10, 100])),
            hedge: rng.chance(70).then(|| ms(rng.pick(&[1, 10, 100]))),
            ..Retry::default()
        });
        Self {
            retry: again.map(Arc::new),
            calm,
            bounds,
            steps: rng.range(30, 220),
            payload_max: rng.pick(&[12, 40, 300]),
            silence: (!calm && rng.chance(20)).then(|| ms(rng.range(300, 3_000))),
            slow_percent: if calm { 0 } else { rng.pick(&[0, 10, 60]) },
            timeout_percent: if calm { 0 } else { rng.pick(&[0, 50, 100]) },
            holes: false,
            limit: limit.map(Arc::new),
            settings,
            balance: rng.pick(&[
                Balance::RoundRobin,
                Balance::Random,
                Balance::LeastRequest,
                Balance::P2cEwma,
            ]),
            route_timeouts,
            listed: (0..rng.range(1, 2)).map(|_| vec![true; endpoints]).collect(),
            listeners: vec![true; rng.range(1, 2)],
            route_listed: true,
            revision: 0,
        }
    }

    /// Adds or removes an endpoint, a route or a listener.
    pub(crate) fn change(&mut self, rng: &mut Rng) {
        match rng.below(8) {
            0 => {
                let at = rng.below(self.listeners.len());
                self.listeners[at] = !self.listeners[at];
            }
            1 => self.route_listed = !self.route_listed,
            _ => {
                let cluster = rng.below(self.listed.len());
                let endpoint = rng.below(self.listed[cluster].len());
                self.listed[cluster][endpoint] = !self.listed[cluster][endpoint];
            }
        }
    }

    pub(crate) fn listener_names(&self) -> Vec<String> {
        let there = self.listeners.iter().enumerate().filter(|(_, listed)| **listed);
        there.map(|(at, _)| format!("l{at}")).collect()
    }

    /// The cluster of a service, as the addresses of its endpoints begin.
    pub(crate) fn home(&self, service: usize) -> String {
        format!("c{}-", service % self.listed.len())
    }

    pub(crate) fn route_timeout(&self, service: usize) -> Option<Duration> {
        self.route_timeouts[service]
    }

    /// How often a call may be sent again that may have been processed; `None`: never.
    pub(crate) fn tries(&self) -> Option<usize> {
        self.retry.as_ref().map(|retry| retry.tries.into())
    }

    /// Whether a call may have left a connection that said nothing of it yet.
    pub(crate) fn leaves_slow_tries(&self) -> bool {
        self.retry.as_ref().is_some_and(|retry| retry.per_try.is_some() || retry.hedge.is_some())
    }

    pub(crate) fn is_listed(&self, address: &str) -> bool {
        self.addresses().any(|listed| listed == address)
    }

    fn addresses(&self) -> impl Iterator<Item = String> {
        self.listed.iter().enumerate().flat_map(|(cluster, endpoints)| {
            let there = endpoints.iter().enumerate().filter(|(_, listed)| **listed);
            there.map(move |(at, _)| format!("c{cluster}-e{at}:1"))
        })
    }

    pub(crate) fn snapshot(&mut self) -> Arc<Snapshot> {
        self.revision += 1;
        self.holes |= !self.route_listed
            || self.listed.iter().any(|endpoints| !endpoints.contains(&true))
            || self.listeners.contains(&false);
        let clusters = (0..self.listed.len()).map(|at| {
            let mine = format!("c{at}-");
            let endpoints = self.addresses().filter(|address| address.starts_with(&mine));
            let endpoints = endpoints.map(|address| Endpoint::new(&address, 1)).collect();
            Cluster::new(&format!("c{at}"), self.balance, self.settings.clone(), endpoints)
        });
        let clusters: Vec<Cluster> = clusters.collect();
        let names = self.listener_names();
        let listener = |name: String| Listener { name: name.into(), routes: self.routes().into() };
        Arc::new(Snapshot::new(self.revision, names.into_iter().map(listener).collect(), clusters))
    }

    fn routes(&self) -> RouteTable {
        let services = (0..SERVICES.len()).filter(|at| *at != 2 || self.route_listed);
        let route = |at: usize| Route {
            name: SERVICES[at].into(),
            matches: Match {
                service: Some(Pattern::exact(SERVICES[at])),
                method: (at == 3).then(|| Pattern::exact(METHODS[0])),
                ..Match::default()
            },
            targets: [Target::new((at % self.listed.len()) as u32, 1)].into(),
            timeout: self.route_timeouts[at],
            limit: self.limit.clone(),
            retry: self.retry.clone(),
            ..Route::default()
        };
        RouteTable::new(services.map(route).collect())
    }
}
