//! What one life is like: its conf, its bounds, and how unkind its peers are. Drawn once from the seed.
//!
//! The conf changes during a life (`Shape::change`); which cluster serves which route never does, nor what a cluster
//! speaks: one HTTP/2, one HTTP/1, one whatever its callers do. Calm lives have peers without faults: there each call
//! must get its endpoint's answer.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use outrigger::session::{Bounds, Dialects, Manners};
use outrigger_codec::exchange::Limits;
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Limit, Listener, Match, Pattern, Retry, Route, RouteTable,
    Snapshot, Target,
};

use crate::{h2::Wishes, rng::Rng};

/// Clusters, and what their endpoints speak; `None`: what the caller speaks.
pub(crate) const SPEAKS: [Option<&str>; 3] = [Some("http2"), Some("http1"), None];
/// Routes, each to the cluster of its number; those of the second half may be sent again. The last has a limit, where
/// the life has one.
pub(crate) const ROUTES: usize = 6;
/// The route that comes and goes.
const FLEETING: usize = 2;

pub(crate) struct Shape {
    /// What may be tried again of what may be.
    retry: Arc<Retry>,
    pub(crate) calm: bool,
    pub(crate) bounds: Bounds,
    pub(crate) manners: Arc<Manners>,
    pub(crate) steps: usize,
    /// Bodies are shorter than this, most of them much shorter.
    pub(crate) body_max: usize,
    /// Percent of sockets that take few bytes at a time.
    pub(crate) slow_percent: usize,
    /// Percent of requests and of answers that are wrong.
    pub(crate) flaw_percent: usize,
    /// Percent of calls that endpoints refuse, so that they may go elsewhere.
    pub(crate) refuse_percent: usize,
    /// Windows of peers, of which each draws one.
    windows: &'static [Option<u32>],
    /// Streams at once, of which each endpoint draws one.
    streams: &'static [Option<u32>],
    /// Whether a cluster was ever without endpoints, or a route or listener ever missing.
    pub(crate) holes: bool,
    pub(crate) limit: Option<Arc<Limit>>,
    pub(crate) settings: ClusterSettings,
    balance: Balance,
    timeouts: [Option<Duration>; ROUTES],
    /// For each cluster the endpoints that are listed.
    listed: Vec<Vec<bool>>,
    /// How often each listener got another name; `None`: it is not there.
    listeners: Vec<Option<u32>>,
    route_listed: bool,
    revision: u64,
}

fn ms(ms: usize) -> Duration {
    Duration::from_millis(ms as u64)
}

impl Shape {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let calm = rng.chance(25);
        let rare =
            |rng: &mut Rng, percent: usize, value: usize| (!calm && rng.chance(percent)).then_some(value);
        let keepalive = rng.pick(&[600, 5_000]);
        let manners = Manners {
            keepalive_timeout: rare(rng, 30, keepalive).map(ms),
            head_timeout: ms(if calm { 10_000 } else { rng.pick(&[300, 2_000, 10_000]) }),
            idle_timeout: ms(if calm { 30_000 } else { rng.pick(&[500, 3_000, 30_000]) }),
            dialects: Dialects { of: vec![(&outrigger_grpc::Grpc, true)], only: false },
            translates: true,
            ..Manners::default()
        };
        let limits = Limits {
            body_max: rare(rng, 10, 30_000).map_or(u64::MAX, |max| max as u64),
            ..Limits::default()
        };
        let settings = ClusterSettings {
            connections: Some(rng.range(1, 3) as u32),
            connect_timeout: ms(rng.pick(&[100, 1_000])),
            idle_timeout: rare(rng, 20, 700).map(ms),
            max_age: rare(rng, 15, 900).map(ms),
            pending_max: rare(rng, 20, 2).unwrap_or(65_536) as u32,
            speaks: None,
            ..ClusterSettings::default()
        };
        let burst = rng.range(1, 5);
        let limit = rare(rng, 20, burst).and_then(|burst| {
            Limit::new(NonZeroU32::new(50)?, Duration::from_secs(1), NonZeroU32::new(burst as u32)?)
        });
        let timed = !calm && rng.chance(60);
        let timeouts =
            [0; ROUTES].map(|_| (timed && rng.chance(80)).then(|| ms(rng.pick(&[20, 150, 1_000, 3_000]))));
        let endpoints = rng.range(1, 3);
        let mut retry = Retry::default();
        if !calm && rng.chance(40) {
            retry.tries = rng.range(1, 3) as u8;
            retry.per_try = rng.chance(40).then(|| ms(rng.pick(&[20, 200])));
            retry.hedge = rng.chance(70).then(|| ms(rng.pick(&[1, 10, 100])));
            retry.backoff = ms(rng.pick(&[0, 10, 100]));
        }
        Self {
            calm,
            retry: Arc::new(retry),
            bounds: Bounds { limits, ..Bounds::default() },
            manners: Arc::new(manners),
            steps: rng.range(40, 420),
            body_max: rng.pick(&[50, 2_000, 40_000, 380_000]),
            slow_percent: if calm { 0 } else { rng.pick(&[0, 10, 60]) },
            flaw_percent: if calm { 0 } else { rng.pick(&[0, 3, 20]) },
            refuse_percent: if calm { 0 } else { rng.pick(&[4, 4, 4, 4, 4, 70]) },
            windows: rng.pick(&[
                &[None][..],
                &[None, Some(1 << 20), Some(100_000)],
                &[Some(10), Some(1), Some(0), Some(700)],
                &[None, Some(0), Some(20_000), Some(3_000)],
            ]),
            streams: rng.pick(&[&[None][..], &[None, Some(1), Some(3)], &[Some(2), Some(100)]]),
            holes: false,
            limit: limit.map(Arc::new),
            settings,
            balance: rng.pick(&[
                Balance::RoundRobin,
                Balance::Random,
                Balance::LeastRequest,
                Balance::P2cEwma,
            ]),
            timeouts,
            listed: vec![vec![true; endpoints]; SPEAKS.len()],
            listeners: vec![Some(0); rng.range(1, 2)],
            route_listed: true,
            revision: 0,
        }
    }

    /// What a peer wishes of the engine.
    pub(crate) fn wishes(&self, endpoint: bool, rng: &mut Rng) -> Wishes {
        let table = rng.pick(&[None, None, None, Some(0), Some(100), Some(4096)]);
        let streams = if endpoint { rng.pick(self.streams) } else { None };
        Wishes { window: rng.pick(self.windows), table, streams }
    }

    /// Adds or removes an endpoint, a route or a listener, or gives a listener another name.
    pub(crate) fn change(&mut self, rng: &mut Rng) {
        match rng.below(10) {
            0 => {
                let at = rng.below(self.listeners.len());
                self.listeners[at] = if self.listeners[at].is_some() { None } else { Some(0) };
            }
            1 => {
                let at = rng.below(self.listeners.len());
                self.listeners[at] = self.listeners[at].map(|times| times + 1);
            }
            2 => self.route_listed = !self.route_listed,
            _ => {
                let cluster = rng.below(self.listed.len());
                let endpoint = rng.below(self.listed[cluster].len());
                self.listed[cluster][endpoint] = !self.listed[cluster][endpoint];
            }
        }
    }

    pub(crate) fn listener_names(&self) -> Vec<String> {
        let named = |(at, times): (usize, &Option<u32>)| times.map(|times| format!("l{at}-{times}"));
        let mut names: Vec<String> = self.listeners.iter().enumerate().filter_map(named).collect();
        // Their order is nobody's promise: a caller's listener gets another number with most reloads.
        if self.revision % 2 == 1 {
            names.reverse();
        }
        names
    }

    /// The cluster of a route.
    pub(crate) fn home(route: usize) -> usize {
        route % SPEAKS.len()
    }

    pub(crate) fn idempotent(route: usize) -> bool {
        route >= SPEAKS.len()
    }

    pub(crate) fn limited(&self, route: usize) -> bool {
        self.limit.is_some() && route == ROUTES - 1
    }

    pub(crate) fn timeout(&self, route: usize) -> Option<Duration> {
        self.timeouts[route]
    }

    pub(crate) fn timeouts(&self) -> &[Option<Duration>] {
        &self.timeouts
    }

    /// How often a call may be sent again that may have been processed.
    pub(crate) fn tries(&self) -> usize {
        self.retry.tries.into()
    }

    /// How long one attempt may take before another takes its place.
    pub(crate) fn per_try(&self, route: usize) -> Option<Duration> {
        self.retry.per_try.filter(|_| Self::idempotent(route))
    }

    /// After how long without an answer another attempt may go beside one.
    pub(crate) fn hedge(&self, route: usize) -> Option<Duration> {
        self.retry.hedge.filter(|_| Self::idempotent(route))
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
            || self.listeners.iter().any(|times| *times != Some(0));
        let clusters = SPEAKS.into_iter().enumerate().map(|(at, speaks)| {
            let mine = format!("c{at}-");
            let endpoints = self.addresses().filter(|address| address.starts_with(&mine));
            let endpoints = endpoints.map(|address| Endpoint::new(&address, 1)).collect();
            let settings = ClusterSettings { speaks, ..self.settings.clone() };
            Cluster::new(&format!("c{at}"), self.balance, settings, endpoints)
        });
        let clusters: Vec<Cluster> = clusters.collect();
        let listener = |name: String| Listener { name: name.into(), routes: self.routes().into() };
        let listeners = self.listener_names().into_iter().map(listener).collect();
        Arc::new(Snapshot::new(self.revision, listeners, clusters))
    }

    fn routes(&self) -> RouteTable {
        let route = |at: usize| Route {
            name: format!("r{at}").into(),
            matches: Match {
                path: Some(Pattern::Prefix(format!("/r{at}/").as_bytes().into())),
                ..Match::default()
            },
            targets: [Target::new(Self::home(at) as u32, 1)].into(),
            timeout: self.timeouts[at],
            limit: self.limit.clone().filter(|_| self.limited(at)),
            retry: Self::idempotent(at).then(|| Arc::clone(&self.retry)),
            ..Route::default()
        };
        let there = (0..ROUTES).filter(|at| *at != FLEETING || self.route_listed);
        RouteTable::new(there.map(route).collect())
    }
}
