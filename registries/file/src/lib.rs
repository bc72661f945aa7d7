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

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use outrigger_discovery::{Closed, Event, Instance, Registry, ServiceKey, Sink, Watching};
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

    fn watch(&self, key: ServiceKey, sink: Sink) -> Watching {
        let file = Arc::clone(&self.file);
        Box::pin(async move {
            // The only way out is a sink that nobody reads any more, which is the right end of a watch.
            let Err(Closed) = follow(&file, &key, &sink).await;
        })
    }
}

/// What a watch has said so far.
enum Told {
    Nothing,
    Well(BTreeMap<String, Instance>),
    Lost(String),
}

/// Says every change of the file that concerns `key`, until nobody listens.
async fn follow(file: &File, key: &ServiceKey, sink: &Sink) -> Result<std::convert::Infallible, Closed> {
    let mut told = Told::Nothing;
    loop {
        let look = file.look();
        told = match (&*look.reading, told) {
            (Err(reason), Told::Lost(before)) if *reason == before => Told::Lost(before),
            (Err(reason), _) => {
                sink.send(Event::Lost { reason: reason.clone() }).await?;
                Told::Lost(reason.clone())
            }
            (Ok(services), told) => {
                let now = services.of(key);
                tell(told, &now, sink).await?;
                Told::Well(now)
            }
        };
        if time::timeout(look.again, sink.closed()).await.is_ok() {
            return Err(Closed);
        }
    }
}

/// Says what leads from what was told to `now`.
async fn tell(told: Told, now: &BTreeMap<String, Instance>, sink: &Sink) -> Result<(), Closed> {
    let before = match told {
        Told::Well(before) => before,
        Told::Nothing => return sink.send(Event::Full(now.values().cloned().collect())).await,
        Told::Lost(_) => {
            sink.send(Event::Back).await?;
            return sink.send(Event::Full(now.values().cloned().collect())).await;
        }
    };
    // Joiners first, so that a service that moves is never without an instance.
    for (address, instance) in now {
        if before.get(address) != Some(instance) {
            sink.send(Event::Added(instance.clone())).await?;
        }
    }
    for address in before.keys().filter(|address| !now.contains_key(*address)) {
        sink.send(Event::Removed(address.clone())).await?;
    }
    Ok(())
}
