//! The interface between the registries and the rest of the house.
//!
//! A registry crate depends on this crate alone of ours. It is told what to [`Registry::watch`] and sends [`Event`]s
//! into a [`Sink`]; a [`Members`] at the other end turns them into the set of instances to call. All of this is
//! cold: boxed futures and allocations are fine, sockets of the request path are never touched.
//!
//! One rule stands above all: trouble with a registry never empties a cluster. So there is no event that says
//! "forget them": a registry that is gone says [`Event::Lost`], and the last good set stays until an
//! [`Event::Full`] replaces it whole. The events copy the kube client's watcher (`Init`/`InitDone` as one `Full`,
//! `Apply`, `Delete`).

mod address;
#[cfg(feature = "conformance")]
pub mod conformance;
mod instance;
mod members;
mod sink;

use std::pin::Pin;

pub use address::{BadAddress, check_address};
pub use instance::{Instance, ServiceKey, WEIGHT_DEFAULT, WEIGHT_MAX};
pub use members::Members;
pub use sink::{Closed, Sink, Update};

/// What a registry says about one watched service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The whole set: what is not in it is gone. The first news of a watch, and the first after a [`Event::Lost`].
    /// An empty set is a statement too: the registry is well and knows no instance.
    Full(Vec<Instance>),
    /// An instance joined, or the one with this address changed.
    Added(Instance),
    /// The instance with this address left.
    Removed(String),
    /// The registry cannot be asked or its answer cannot be read. Keep the last good set.
    Lost {
        /// Why, for a person: with file, line and column, or with the peer's own words.
        reason: String,
    },
    /// The registry answers again; an [`Event::Full`] follows at once.
    Back,
}

/// A running watch. It ends by itself when the sink's other end is gone; dropping it ends it at any time.
pub type Watching = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of instances: a file, Nacos, etcd, `ZooKeeper`, Kubernetes.
pub trait Registry: Send + Sync {
    /// What kind of registry it is, as the conf names it.
    fn name(&self) -> &'static str;

    /// Tells `sink` who gives the service `key`, now and at every change, and only at changes.
    ///
    /// The future must never end while the sink is open, whatever befalls the registry: it says [`Event::Lost`] and
    /// tries again. It must never block its thread, which many watches share.
    fn watch(&self, key: ServiceKey, sink: Sink) -> Watching;
}
