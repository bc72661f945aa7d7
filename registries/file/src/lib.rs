//! The embedded default registry: a YAML file of services and their instances, watched for changes.
//!
//! ```yaml
//! services:
//!   com.example.EchoService:
//!     - 127.0.0.1:12201
//!     - { address: 127.0.0.1:12202, weight: 50, version: "1.0.0", group: g, metadata: { zone: a } }
//! ```
//!
//! The file is looked at twice a second and read only when it changed, however many services are watched. A file
//! that is broken, half-written or gone must never take instances away: the watches say why, with line and column,
//! and the last good set stays until the file is well again.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod look;
mod parse;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_discovery::{
    Answering, Closed, Desired, Framework, Registry, ServiceKey, Status, Teller, Watching, Written,
};
use tokio::time;

use look::File;

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(500);

/// The file at `path` as a registry. It need not exist yet; nothing is read before the first watch runs.
pub fn open(path: impl Into<PathBuf>) -> FileRegistry {
    open_polled(path, POLL)
}

/// As [`open`], looking at the file every `poll`.
pub fn open_polled(path: impl Into<PathBuf>, poll: Duration) -> FileRegistry {
    FileRegistry { file: Arc::new(File::new(path.into(), poll)) }
}

/// A watched file of services; its clones and all its watches share one reading of it.
#[derive(Clone, Debug)]
pub struct FileRegistry {
    file: Arc<File>,
}

impl Registry for FileRegistry {
    fn name(&self) -> &'static str {
        "file"
    }

    fn watch(&self, key: ServiceKey, teller: Teller) -> Watching {
        let file = Arc::clone(&self.file);
        Box::pin(async move {
            // The only way out is a board that nobody reads any more, which is the right end of a watch.
            let Err(Closed) = follow(&file, &key, teller).await;
        })
    }

    /// A file is written by people: nothing is registered there, and the conf does not let anybody ask for it.
    fn register(&self, mut desired: Desired) -> Watching {
        Box::pin(async move {
            loop {
                let (wish, wanted) = desired.now();
                let pending = wanted.len();
                let trouble = (pending > 0).then(|| "nothing can be registered in a file".to_owned());
                desired.tell(Written { wish, pending, trouble });
                if desired.changed().await.is_err() {
                    return;
                }
            }
        })
    }

    fn services(&self, _: Framework) -> Answering<Vec<String>> {
        let reading = self.file.look().reading;
        Box::pin(async move {
            reading
                .as_ref()
                .as_ref()
                .map(|services| services.names().map(str::to_owned).collect())
                .map_err(Clone::clone)
        })
    }

    fn status(&self) -> Status {
        let look = self.file.look();
        let now = Instant::now();
        let trouble = look.reading.as_ref().as_ref().err().cloned();
        let connected = trouble.is_none().then_some(look.since);
        Status { connected, heard: Some(now), connections: 1, unreadable: 0, trouble }
    }

    fn close(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}

/// Says every change of the file that concerns `key`, until nobody listens.
async fn follow(
    file: &File,
    key: &ServiceKey,
    mut teller: Teller,
) -> Result<std::convert::Infallible, Closed> {
    let mut asked = true;
    loop {
        let look = file.look();
        match &*look.reading {
            Err(reason) => teller.lost(reason),
            Ok(services) if asked => teller.answer(services.of(key)),
            Ok(services) => teller.tell(services.of(key)),
        }
        // A look is never far, so whoever doubts is answered by the next one.
        asked = match time::timeout(look.again, teller.doubted()).await {
            Ok(Err(Closed)) => return Err(Closed),
            Ok(Ok(())) => true,
            Err(_) => asked && look.reading.is_err(),
        };
    }
}
