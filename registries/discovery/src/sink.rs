//! Where a watch puts its events: a bounded channel that many watches may share.
//!
//! Full means wait: a reader that falls behind slows the registry down, and no event is ever dropped, because a
//! dropped `Removed` would leave a dead endpoint in a cluster for good.

use std::{error, fmt};

use tokio::sync::mpsc;

use crate::Event;

/// An event, and which watch it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The number that whoever asked for the watch gave to its [`Sink`].
    pub watch: usize,
    /// The news.
    pub event: Event,
}

/// The writing end that one watch holds.
#[derive(Clone, Debug)]
pub struct Sink {
    watch: usize,
    sender: mpsc::Sender<Update>,
}

/// Nobody reads any more: the watch should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("nobody reads this watch any more")
    }
}

impl error::Error for Closed {}

impl Sink {
    /// A sink for the watch that its reader knows as `watch`.
    pub const fn new(watch: usize, sender: mpsc::Sender<Update>) -> Self {
        Self { watch, sender }
    }

    /// Hands an event over, waiting for room.
    pub async fn send(&self, event: Event) -> Result<(), Closed> {
        self.sender.send(Update { watch: self.watch, event }).await.map_err(|_| Closed)
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
