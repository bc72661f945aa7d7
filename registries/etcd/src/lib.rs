//! etcd as a registry: services of Dubbo, of dubbo-go and of anybody are found and made known there, and seats are given.
//!
//! All watches and registrations of a registry share one connection to one of its servers; when that is lost, the next
//! server is tried. Each connection is an epoch: whatever is watched is asked for again, by the revision up to which it is
//! known, and everything of ours is put in its place again. One stream carries all watches. What is registered lives on one
//! lease, which outlives a connection; a seat lives on a lease of its own. A server that is gone or silent must never hold
//! up anything else: each question has five seconds, the watches say why they are lost, and the last good sets stay.
//!
//! | framework | found at | made known at |
//! |---|---|---|
//! | Dubbo, interface | `/dubbo/<interface>/{providers,configurators}/<url>` | `/dubbo/<interface>/providers/<url>` |
//! | dubbo-go, application | `/dubbo/mapping/<interface>`, `/services/<app>/<host:port>`, `/dubbo/<app>/<revision>`, `/dubbo<app>/<revision>`, `/dubbo/metadata/<app>/<revision>` | the same |
//! | any other, or none | `/outrigger/<framework>/<service>/<host:port>` | the same |
//!
//! The last layout is our own, since no other framework has one in etcd; it is made for hands as well. `<framework>` is
//! `plain`, `spring` or `sofarpc`, and `<service>` is escaped like a URL's query. The value is a JSON object of which every field
//! may be missing, and others are passed over; no value at all is an instance of the usual weight:
//!
//! ```json
//! { "weight": 100, "version": "1.0", "group": "blue", "protocol": "http", "started": 1700000000000, "app": "shop",
//!   "metadata": { "zone": "a" } }
//! ```
//!
//! A seat is the key `/outrigger/seats/<seat>`, which holds its holder's name.
//!
//! The conventions of Dubbo are those of dubbo-go 3 (`registry/etcdv3`, `metadata/report/etcd`), compared with what 3.3.0 wrote;
//! what etcd does was read in its version 3.6.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod apps;
mod client;
mod elect;
mod keys;
mod lease;
mod mirror;
mod plan;
mod read;
mod register;
mod services;
mod session;
mod stream;
pub mod values;
mod watch;
mod wire;

use std::{fmt, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use outrigger_discovery::{
    Answering, Candidate, Desired, Framework, Registration, Registry, ServiceKey, Status, Teller, Watching,
    formats::application::AskMetadata,
};

use session::Hub;

/// Where a registry is, and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// The servers, each `host:port`; one of them is used at a time.
    pub servers: Vec<String>,
    /// The root of Dubbo, `dubbo` by its own default.
    pub group: String,
    /// A name and a password, for servers that ask for them.
    pub auth: Option<(String, String)>,
    /// TLS, and whose certificates are trusted; `None`: no TLS.
    pub tls: Option<Tls>,
    /// How long the servers keep what is registered without hearing from us; whole seconds, and they have a least one of their own.
    pub lease: Duration,
    /// How often what is registered is looked after though nothing seems wrong, and how long a revision of an application
    /// that cannot be had is left in peace; a second at least.
    pub reconcile: Duration,
    /// Who asks an instance of Dubbo what it gives, where the registry does not have it; `None`: nobody does.
    pub ask: Option<Arc<dyn AskMetadata>>,
}

/// How the servers are known, and how they know us. The files are PEM and are read anew for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of who signs those of the servers.
    pub ca: PathBuf,
    /// Our own certificate and its private key, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that stands in the servers' certificates; `None`: the host of their address.
    pub name: Option<String>,
}

impl fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, group, auth, tls, lease, reconcile, ask } = self;
        out.debug_struct("Settings")
            .field("servers", servers)
            .field("group", group)
            .field("auth", &auth.as_ref().map(|(name, _)| name))
            .field("tls", tls)
            .field("lease", lease)
            .field("reconcile", reconcile)
            .field("ask", &ask.is_some())
            .finish()
    }
}

/// The registry at these servers. Nothing is asked before something of it runs.
pub fn open(settings: Settings) -> EtcdRegistry {
    EtcdRegistry { hub: Arc::new(Hub::new(settings)) }
}

/// A registry in etcd; its clones, watches and registrations share one connection, which ends with the last of them.
#[derive(Clone)]
pub struct EtcdRegistry {
    hub: Arc<Hub>,
}

impl fmt::Debug for EtcdRegistry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("EtcdRegistry").field(&self.hub.shared.settings).finish()
    }
}

impl Registry for EtcdRegistry {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn watch(&self, key: ServiceKey, teller: Teller) -> Watching {
        Box::pin(watch::follow(Arc::clone(&self.hub), key, teller))
    }

    fn register(&self, desired: Desired) -> Watching {
        Box::pin(register::keep(Arc::clone(&self.hub), desired))
    }

    fn services(&self, framework: Framework) -> Answering<Vec<String>> {
        Box::pin(services::names(Arc::clone(&self.hub), framework))
    }

    fn elect(&self, candidate: Candidate) -> Option<Watching> {
        Some(Box::pin(elect::stand(Arc::clone(&self.hub), candidate)))
    }

    fn refuses(&self, registration: &Registration) -> Option<String> {
        let keys = self.hub.shared.keys.as_ref().ok()?;
        let plan = plan::Plan::of(std::slice::from_ref(registration), keys);
        plan.refused.into_iter().next().map(|why| why.rsplit(": ").next().unwrap_or(&why).to_owned())
    }

    fn status(&self) -> Status {
        self.hub.shared.status.get()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let hub = Arc::clone(&self.hub);
        Box::pin(async move { hub.close().await })
    }
}
