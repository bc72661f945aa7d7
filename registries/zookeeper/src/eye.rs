//! What sees that something changed below a path, and what lists it.
//!
//! Each directory that somebody wants has one persistent watch of its own. One-shot watches would cost as few questions (a
//! list sets the next one), but zookeeper-client sends all their paths again with each reconnection and adds up those it sent
//! already: 5,000 services come near the 1 MiB at which the server hangs up, again and again. One recursive watch at the root
//! would send every sidecar every change of the whole house, though it calls a handful of services. A persistent watch of one
//! directory needs the directory not to exist yet, and costs its two questions only once for each epoch of the session.
//!
//! Events are drained and the directory is listed again, so that a hundred changes are one. An [`Eye`] that has seen the session change must never be asked again (its client panics then); this is
//! enforced here.

use std::{future::poll_fn, task::Poll};

use tokio::sync::{Semaphore, SemaphorePermit};
use zookeeper_client::{AddWatchMode, Client, Error, EventType, PersistentWatcher, WatchedEvent};

use crate::session::limited;

/// Sees changes of a node, and of its children or of all below it.
#[derive(Debug)]
pub(crate) struct Eye {
    watcher: PersistentWatcher,
    /// The session changed: what this eye sees is not all any more.
    blind: bool,
}

impl Eye {
    /// Sees the node itself, its data, and which children it has. It need not exist.
    pub(crate) async fn on(client: &Client, path: &str) -> Result<Self, Error> {
        Self::open(client, path, AddWatchMode::Persistent).await
    }

    /// Sees the data of its children as well.
    pub(crate) async fn on_all(client: &Client, path: &str) -> Result<Self, Error> {
        Self::open(client, path, AddWatchMode::PersistentRecursive).await
    }

    async fn open(client: &Client, path: &str, mode: AddWatchMode) -> Result<Self, Error> {
        let watcher = limited(client.watch(path, mode)).await?;
        Ok(Self { watcher, blind: false })
    }

    /// Waits for changes: the paths of the nodes that changed, in no order. An error: the session changed, and all must be
    /// begun anew.
    pub(crate) async fn changed(&mut self) -> Result<Vec<String>, Error> {
        if self.blind {
            return Err(Error::ConnectionLoss);
        }
        let mut paths = Vec::new();
        let mut event = Some(self.watcher.changed().await);
        while let Some(WatchedEvent { event_type, path, .. }) = event {
            if event_type == EventType::Session {
                self.blind = true;
                return Err(Error::ConnectionLoss);
            }
            if paths.last() != Some(&path) {
                paths.push(path);
            }
            event = self.come().await;
        }
        Ok(paths)
    }

    /// The next event, if it has come already.
    async fn come(&mut self) -> Option<WatchedEvent> {
        let mut next = std::pin::pin!(self.watcher.changed());
        match poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }
}

/// A permit to list; an error where everybody waits, as for a server that does not answer.
pub(crate) async fn permit(pace: &Semaphore) -> Result<SemaphorePermit<'_>, Error> {
    limited(async { pace.acquire().await.map_err(|_| Error::ClientClosed) }).await
}

/// The names of a node's children; none where there is no such node.
pub(crate) async fn list(client: &Client, path: &str) -> Result<Vec<String>, Error> {
    match limited(client.list_children(path)).await {
        Err(Error::NoNode) => Ok(Vec::new()),
        other => other,
    }
}

/// A node's data; `None`: there is no such node.
pub(crate) async fn read(client: &Client, path: &str) -> Result<Option<Vec<u8>>, Error> {
    match limited(client.get_data(path)).await {
        Ok((data, _)) => Ok(Some(data)),
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}
