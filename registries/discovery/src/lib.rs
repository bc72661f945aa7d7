//! The interface between the registries and the rest of the house.
//!
//! A registry crate depends on this crate alone of ours. It is told what to [`Registry::watch`] and hands whole sets of
//! instances to a [`Teller`]; the [`Board`] at the other end has the last of each, so a slow reader misses nothing that still
//! matters. It is told what shall be registered there ([`Registry::register`], [`Desired`]) and keeps it so, whatever happens
//! to its connection. All of this is cold: boxed futures and allocations are fine, sockets of the request path are never
//! touched.
//!
//! One rule stands above all: trouble with a registry never empties a cluster. So there is no word for "forget them": a
//! registry that is gone says [`Teller::lost`], and the last good set stays; and a set that is suddenly empty is doubted first
//! ([`Guard`]).

mod address;
mod backoff;
mod board;
#[cfg(feature = "conformance")]
pub mod conformance;
mod desired;
mod election;
pub mod formats;
mod guard;
mod instance;
mod link;
mod mark;
mod status;

use std::pin::Pin;

pub use address::{BadAddress, check_address, is_public};
pub use backoff::Backoff;
pub use board::{Board, Closed, Teller, View};
pub use desired::{Desired, Hold, Level, Registration, Wish, Written, Yielding};
pub use election::{Candidate, Seat, Term};
pub use guard::{Guard, Verdict};
pub use instance::{Framework, Instance, Metadata, ServiceKey, WEIGHT_DEFAULT, WEIGHT_MAX};
pub use link::{End, Link, Look, follow};
pub use mark::Mark;
pub use status::{Status, StatusCell};

/// Work of a registry that goes on until nobody wants it any more; dropping it ends it at any time.
pub type Watching = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer of a registry that may take its time.
pub type Answering<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

/// Where services are found and made known: a file, `ZooKeeper`, Nacos.
///
/// Its clones of whatever kind, watches and registrations share one connection. Every question it asks has a time limit, and
/// none of its futures may block the thread, which all of them share.
pub trait Registry: Send + Sync {
    /// What kind of registry it is, as the conf names it.
    fn name(&self) -> &'static str;

    /// Tells who gives the service `key`, now and at every change.
    ///
    /// The future must never end while anybody listens, whatever befalls the registry: it says [`Teller::lost`] and tries
    /// again, and after each gap it asks for the whole anew.
    fn watch(&self, key: ServiceKey, teller: Teller) -> Watching;

    /// Keeps in the registry what is `desired`, and nothing else of ours: after a lost connection, a session that expired, a
    /// write that failed or somebody else's change, and now and then without any of these.
    ///
    /// An error of a write means that nobody knows whether it happened: it is read back. The future ends when nobody desires
    /// anything any more.
    fn register(&self, desired: Desired) -> Watching;

    /// The names of all services of a framework that it knows.
    fn services(&self, framework: Framework) -> Answering<Vec<String>>;

    /// Lets a candidate stand for a seat that one process has at a time; see [`Seat`]. The future ends when the seat is wanted no
    /// more, and has given it up then. `None`: this kind of registry cannot tell who of several is to be.
    fn elect(&self, candidate: Candidate) -> Option<Watching> {
        drop(candidate);
        None
    }

    /// Why it could not hold a registration, whoever writes it and whenever; `None`: it could. Asks nobody.
    fn refuses(&self, registration: &Registration) -> Option<String> {
        let _ = registration;
        None
    }

    /// Whether what was registered stays for a while when its process ends without a word, so that another may take it over;
    /// otherwise it goes with the connection.
    fn lingers(&self) -> bool {
        true
    }

    /// How its connection does.
    fn status(&self) -> Status;

    /// Ends its connection on purpose, so that what was registered over it goes at once. What is asked afterwards fails.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
