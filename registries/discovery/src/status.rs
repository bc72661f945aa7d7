//! How the connection to a registry does, for who looks after it. Nothing decides by this.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// How the connection to a registry does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Since when the present connection is there; `None`: there is none.
    pub connected: Option<Instant>,
    /// When the registry said something last.
    pub heard: Option<Instant>,
    /// Connections (or sessions) so far.
    pub connections: u64,
    /// Entries that could not be read and were passed over, so far.
    pub unreadable: u64,
    /// What was wrong last; `None`: nothing is.
    pub trouble: Option<String>,
}

/// A [`Status`] that tasks of one registry write together.
#[derive(Clone, Debug, Default)]
pub struct StatusCell(Arc<Mutex<Status>>);

impl StatusCell {
    /// What it is now.
    pub fn get(&self) -> Status {
        self.with(|status| status.clone())
    }

    /// A connection is there from now on.
    pub fn connected(&self) {
        self.with(|status| {
            status.connected = Some(Instant::now());
            status.heard = status.connected;
            status.connections = status.connections.saturating_add(1);
            status.trouble = None;
        });
    }

    /// The registry said something.
    pub fn heard(&self) {
        self.with(|status| status.heard = Some(Instant::now()));
    }

    /// There is no connection, for this reason.
    pub fn lost(&self, why: &str) {
        self.with(|status| (status.connected, status.trouble) = (None, Some(why.to_owned())));
    }

    /// An entry could not be read.
    pub fn unreadable(&self) {
        self.with(|status| status.unreadable = status.unreadable.saturating_add(1));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        // Each change is whole; a panic elsewhere leaves nothing half-done.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
