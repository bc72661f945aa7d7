//! Clusters: a name, how to reach its endpoints, and which endpoints it has now.
//!
//! Immutable parts of a snapshot. What a worker learns about an endpoint (latency, calls in flight) is kept in
//! its `Local` under the stable key (cluster name, address), never here.

use std::{sync::Arc, time::Duration};

use crate::Balance;

/// A set of endpoints that give the same service.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Unique in the snapshot.
    pub name: Box<str>,
    /// How one of the endpoints is picked.
    pub balance: Balance,
    /// How the endpoints are reached.
    pub settings: Arc<ClusterSettings>,
    /// The endpoints; may be empty (then calls are refused with `NoEndpoint`).
    pub endpoints: Box<[Endpoint]>,
    /// Weights added up, for picks by weight; empty when all weights are equal.
    pub(crate) cumulative: Box<[u64]>,
    /// Positions in `endpoints` in weighted turn; empty when all weights are equal.
    pub(crate) turns: Box<[u32]>,
}

impl Cluster {
    /// A cluster of `endpoints`. Endpoints of weight 0 get no calls; if all have 0, they count as equal.
    pub fn new(name: &str, balance: Balance, settings: ClusterSettings, endpoints: Vec<Endpoint>) -> Self {
        let mut cluster = Self {
            name: name.into(),
            balance,
            settings: Arc::new(settings),
            endpoints: endpoints.into(),
            cumulative: Box::default(),
            turns: Box::default(),
        };
        crate::balance::weigh(&mut cluster);
        cluster
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
            speaks: None,
        }
    }
}

/// One place that gives the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`; the host is resolved when it is connected to.
    pub address: Box<str>,
    /// Its share against the other endpoints.
    pub weight: u32,
}
