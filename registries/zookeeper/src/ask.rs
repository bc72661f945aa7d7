//! The questions that many put to the server: a directory's children, a node's data, and leave to ask.
//!
//! What is not there is no error; everything else is. None of them may wait without a limit.

use tokio::sync::{Semaphore, SemaphorePermit};
use zookeeper_client::{Client, Error};

use crate::session::limited;

/// Leave to ask many things. It waits for others, whose own questions have time limits; who has it must not want another.
pub(crate) async fn permit(pace: &Semaphore) -> Option<SemaphorePermit<'_>> {
    // It is never closed.
    pace.acquire().await.ok()
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
