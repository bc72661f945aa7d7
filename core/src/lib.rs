//! Decides where a call goes, whether it may, and what became of it.
//!
//! Synchronous and sans-everything: no I/O, no sockets, no tokio, no clock of its own (time is an argument), no
//! protocol's name. What the conf says is compiled into one immutable [`Snapshot`]; what a worker has learnt
//! lives in its [`Local`]. One function, [`decide()`], holds the whole policy order; each plan it gives is ended by
//! exactly one [`settle()`].
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod balance;
pub mod cluster;
pub mod clusters;
pub mod decide;
pub mod demand;
pub mod hash;
pub mod health;
pub mod limit;
pub mod local;
pub mod pattern;
pub mod random;
pub mod retry;
pub mod route;
pub mod settle;
mod slots;
pub mod snapshot;
pub mod subset;
pub mod tally;
pub mod tick;
mod window;

pub use balance::Balance;
pub use cluster::{Cluster, ClusterSettings, Endpoint, HashBy};
pub use clusters::Clusters;
pub use decide::{Plan, Refused, decide};
pub use demand::{Awaited, Demand};
pub use health::{Health, Outlier, Probed};
pub use limit::Limit;
pub use local::{EndpointSlot, Local, RouteSlot};
pub use pattern::Pattern;
pub use random::Random;
pub use retry::{Budget, Failure, Retry, Tried};
pub use route::{Match, Route, RouteTable, Target};
pub use settle::{End, settle};
pub use snapshot::{Listener, ListenerId, Snapshot};
pub use subset::{Division, Lot, Metadata, Selector, Tags, Zones};
pub use tally::{Latency, Tally};
pub use tick::Tick;
