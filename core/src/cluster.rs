//! Clusters: a name, how to reach its endpoints, and which endpoints it has now.
//!
//! Immutable parts of a snapshot. What a worker learns about an endpoint (latency, calls in flight) is kept in
//! its `Local` under the stable key (cluster name, address), never here.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use outrigger_codec::{Head, Slot, Wants};

use crate::{
    Balance, Budget, Tick, hash,
    health::{Crowd, Health, Outlier},
    subset::{Division, Lot, Metadata, Parts},
};

/// A set of endpoints that give the same service.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Unique in the snapshot.
    pub name: Box<str>,
    /// How one of the endpoints is picked.
    pub balance: Balance,
    /// How the endpoints are reached.
    pub settings: Arc<ClusterSettings>,
    /// The endpoints that are used; may be empty (then calls are refused with `NoEndpoint`).
    pub endpoints: Box<[Endpoint]>,
    /// Whether any of them warms up by its own account.
    pub(crate) warms_up: bool,
    /// The parts that calls are meant for, and what picking among their endpoints takes.
    pub(crate) parts: Parts,
    /// What is known of each endpoint by all workers, in the order of `endpoints`.
    pub healths: Box<[Arc<Health>]>,
    /// The endpoints as one.
    pub crowd: Arc<Crowd>,
    /// What trying again may cost on top.
    pub budget: Arc<Budget>,
    /// The endpoints as they were told, all of them; whoever was told the same list makes no other cluster of it.
    pub told: Option<Arc<[Endpoint]>>,
    /// When it was used last, in whole seconds, where somebody wants to know: it is given up when it is not used any more.
    pub used: Option<Arc<AtomicU64>>,
}

impl Cluster {
    /// A cluster of `endpoints`. Endpoints of weight 0 get no calls; if all have 0, they count as equal.
    pub fn new(
        name: &str,
        balance: Balance,
        settings: ClusterSettings,
        mut endpoints: Vec<Endpoint>,
    ) -> Self {
        settings.division.select(&mut endpoints);
        let parts = Parts::new(&endpoints, &settings.division, balance);
        let crowd = Crowd::new(endpoints.len() as u32, settings.outlier.clone());
        let mut cluster = Self {
            name: name.into(),
            balance,
            settings: Arc::new(settings),
            healths: endpoints.iter().map(|_| Arc::default()).collect(),
            warms_up: endpoints.iter().any(|endpoint| !endpoint.warm_up.is_zero()),
            endpoints: endpoints.into(),
            parts,
            crowd: Arc::new(crowd),
            budget: Arc::default(),
            told: None,
            used: None,
        };
        let (share, floor) = cluster.settings.retries;
        cluster.budget = Arc::new(Budget::new(share, floor));
        cluster
    }

    /// The same cluster, of which it is known when it was used last.
    #[must_use]
    pub fn used(mut self, used: Arc<AtomicU64>) -> Self {
        self.used = Some(used);
        self
    }

    /// It is used now. All workers write the same place, hence not more than once a second.
    pub(crate) fn use_at(&self, now: Tick) {
        if let Some(used) = &self.used {
            let second = now.0 / 1_000_000_000;
            if used.load(Relaxed) != second {
                used.store(second, Relaxed);
            }
        }
    }

    /// The part of the endpoints that a call is meant for, which a route sends to `lot`; `None`: there is none.
    pub(crate) fn lot(&self, lot: Lot, head: Head<'_>) -> Option<Lot> {
        match &self.settings.division.tags {
            Some(tags) => self.parts.tagged(lot, tags, head),
            None => Some(lot),
        }
    }

    /// The parts of a head that picking an endpoint reads.
    pub fn wants(settings: &ClusterSettings) -> Wants {
        let tags = if settings.division.tags.is_some() { Wants::FIELDS } else { Wants::NONE };
        settings.hash.as_ref().map_or(Wants::NONE, HashBy::wants).and(tags)
    }

    /// Takes over what is known of the endpoints that stayed; those that are new begin slowly, unless all are and nobody knows since
    /// when. From here on
    /// `last` counts only what workers that still have it find.
    pub fn inherit(&mut self, last: &Self, now: Tick) {
        let mut known: HashMap<&str, &Arc<Health>> =
            last.endpoints.iter().map(|endpoint| &*endpoint.address).zip(&last.healths).collect();
        let all_new = known.is_empty();
        for (endpoint, health) in self.endpoints.iter().zip(&mut self.healths) {
            match known.remove(&*endpoint.address) {
                Some(before) => *health = Arc::clone(before),
                None => {
                    health.warms_up(endpoint.warm_up);
                    if let Some(since) = endpoint.since.or((!all_new).then_some(now)) {
                        health.begins(since);
                    }
                }
            }
        }
        let gone: Vec<&Health> = known.values().map(|health| &***health).collect();
        let mut crowd = Crowd::new(self.endpoints.len() as u32, self.settings.outlier.clone());
        crowd.inherit(&last.crowd, &gone, &self.healths, now);
        self.crowd = Arc::new(crowd);
        if self.budget.same(&last.budget) {
            self.budget = Arc::clone(&last.budget);
        }
    }
}

/// How the endpoints of a cluster are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Connections per endpoint and worker, at least 1; `None`: what the protocol says.
    pub connections: Option<u32>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// A connection without calls for this long is closed; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// A connection of this age takes no new calls and is closed after its last one; `None`: never.
    pub max_age: Option<Duration>,
    /// Calls in flight on one connection; more are refused with `Overloaded`.
    pub pending_max: u32,
    /// When an endpoint that fails is left alone; `None`: never.
    pub outlier: Option<Outlier>,
    /// How long an endpoint that is new, or came back, takes to its full share of calls; zero: none.
    pub slow_start: Duration,
    /// When fewer than so many percent of the endpoints are usable, all are used.
    pub panic: u32,
    /// What calls are told apart by where they are picked by key.
    pub hash: Option<HashBy>,
    /// How the endpoints are told apart.
    pub division: Division,
    /// What trying again may cost on top: a share of the calls in percent, and so many a second.
    pub retries: (u32, u32),
    /// What the endpoints speak; `None`: what the caller speaks. A name that means nothing here.
    pub speaks: Option<&'static str>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            connections: None,
            connect_timeout: Duration::from_secs(1),
            idle_timeout: None,
            max_age: None,
            pending_max: 65_536,
            outlier: None,
            slow_start: Duration::ZERO,
            panic: 50,
            hash: None,
            division: Division::default(),
            retries: (20, 10),
            speaks: None,
        }
    }
}

/// What calls are told apart by where they are picked by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// A header's value.
    Header(Box<[u8]>),
    /// A cookie's value.
    Cookie(Box<[u8]>),
    /// The caller's address.
    Source,
    /// The path, without its query.
    Path,
}

impl HashBy {
    /// The parts of a head that it reads.
    pub fn wants(&self) -> Wants {
        match self {
            Self::Header(_) | Self::Cookie(_) => Wants::FIELDS,
            Self::Path => Wants::TARGET,
            Self::Source => Wants::NONE,
        }
    }

    /// The key of a call; `None` when it has none: then it goes anywhere.
    pub fn key(&self, head: Head<'_>) -> Option<u64> {
        match self {
            Self::Header(name) => head.field(name).map(hash::key),
            Self::Cookie(name) => cookie(head, name).map(hash::key),
            Self::Path => head.slot(Slot::Path).map(hash::key),
            Self::Source => head.index.source.map(|source| match source {
                core::net::IpAddr::V4(address) => hash::key(&address.octets()),
                core::net::IpAddr::V6(address) => hash::key(&address.octets()),
            }),
        }
    }
}

/// The value of a cookie, which may stand in one of several headers.
fn cookie<'a>(head: Head<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let is = |field: &&outrigger_codec::Field| {
        field.name.of(head.bytes).is_some_and(|name| name.eq_ignore_ascii_case(b"cookie"))
    };
    head.index.fields.iter().filter(is).find_map(|field| {
        let pairs = field.value.of(head.bytes)?.split(|byte| *byte == b';');
        pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
    })
}

/// One place that gives the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`; the host is resolved when it is connected to.
    pub address: Box<str>,
    /// Its share against the other endpoints.
    pub weight: u32,
    /// What it says of itself; `None`: nothing.
    pub metadata: Option<Arc<Metadata>>,
    /// Since when it is there, where that is known.
    pub since: Option<Tick>,
    /// How long it takes to its full share of calls by its own account.
    pub warm_up: Duration,
}

impl Endpoint {
    /// An endpoint with a share.
    pub fn new(address: &str, weight: u32) -> Self {
        Self { address: address.into(), weight, metadata: None, since: None, warm_up: Duration::ZERO }
    }

    /// The same endpoint, that says this of itself.
    #[must_use]
    pub fn saying(mut self, metadata: Metadata) -> Self {
        self.metadata = (!metadata.is_empty()).then(|| Arc::new(metadata));
        self
    }

    /// The same endpoint, that is there since then and warms up for so long.
    #[must_use]
    pub const fn warming(mut self, since: Option<Tick>, warm_up: Duration) -> Self {
        (self.since, self.warm_up) = (since, warm_up);
        self
    }

    /// What it says under a name.
    pub fn says(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name).map(|said| &**said)
    }

    /// Whether it says all of this.
    pub(crate) fn says_all(&self, want: &[(Box<str>, Box<str>)]) -> bool {
        want.iter().all(|(name, value)| self.says(name) == Some(value))
    }
}
