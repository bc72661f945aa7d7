//! What sees that something changed at a path or below it.
//!
//! zookeeper-client 0.11.2 sends the paths of all its watches again with each reconnection, in parts of 128 KiB that all bear
//! the same number; it takes the answer to the second part for a fault and hangs up, again and again, until the session has
//! expired and all that was registered is gone. So the paths that are watched one by one have a bound ([`OWN_BYTES_MAX`]).
//! Within it each path has a watch of its own: a sidecar calls a handful of services, and one watch of the whole tree would send
//! it every change of the house. Beyond it an eye looks through one recursive watch of the root, from which events are handed
//! on by path: who wants thousands of services wants most of what changes there. Both need nothing to exist yet.
//!
//! Servers before 3.6 know neither, and hang up when they are asked. With them, from the next connection on, an eye opens now
//! and then ([`LOOK`]), and whoever looks reads everything.
//!
//! Events are drained and what is seen is read again, so that a hundred changes are one; nothing grows with their number.
//! An [`Eye`] that has seen the session change must never be asked again (the client panics then); this is enforced here.

use std::{
    collections::{BTreeSet, HashMap},
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{self, Interval, MissedTickBehavior},
};
use zookeeper_client::{AddWatchMode, Client, Error, EventType, PersistentWatcher, WatchedEvent};

use crate::session::{limited, lock};

/// How many bytes the paths may have that are watched one by one: well below half of what the client sends at once, since those
/// of before a gap are still there while those after it are set.
const OWN_BYTES_MAX: usize = 48 << 10;
/// How many paths are kept of those that changed; more of them are everything.
const CHANGED_MAX: usize = 256;

/// How often an eye opens that no watch tells when.
const LOOK: Duration = Duration::from_secs(5);

/// Which nodes changed; `None`: too many to tell.
pub(crate) type Changed = Option<BTreeSet<String>>;

/// The watches of one epoch of the session.
#[derive(Debug)]
pub(crate) struct Sight {
    /// Below which of these a path is watched when it cannot have a watch of its own.
    roots: Vec<String>,
    /// Whether the server was seen to have no persistent watches.
    is_old: Arc<AtomicBool>,
    own: Mutex<usize>,
    shared: tokio::sync::Mutex<HashMap<String, Arc<Root>>>,
}

impl Sight {
    /// Below these roots; `is_old` is kept for as long as the session.
    pub(crate) fn new(roots: Vec<String>, is_old: Arc<AtomicBool>) -> Self {
        Self { roots, is_old, own: Mutex::new(0), shared: tokio::sync::Mutex::default() }
    }

    /// Room for one more path that is watched by itself.
    fn lease(self: &Arc<Self>, path: &str) -> Option<Lease> {
        let mut own = lock(&self.own);
        let bytes = own.saturating_add(path.len());
        (bytes <= OWN_BYTES_MAX).then(|| {
            *own = bytes;
            Lease { sight: Arc::clone(self), bytes: path.len() }
        })
    }

    /// The recursive watch that sees the path.
    async fn root(&self, client: &Client, path: &str) -> Result<Arc<Root>, Error> {
        let root = self.roots.iter().find(|root| is_below(path, root)).map_or("/", String::as_str);
        let mut shared = self.shared.lock().await;
        if let Some(root) = shared.get(root) {
            return Ok(Arc::clone(root));
        }
        let watcher = limited(client.watch(root, AddWatchMode::PersistentRecursive)).await?;
        let slots = Arc::new(Slots::default());
        let task = tokio::spawn(hand_on(watcher, Arc::clone(&slots)));
        let made = Arc::new(Root { slots, task });
        shared.insert(root.to_owned(), Arc::clone(&made));
        Ok(made)
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

#[derive(Debug)]
struct Lease {
    sight: Arc<Sight>,
    bytes: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut own = lock(&self.sight.own);
        *own = own.saturating_sub(self.bytes);
    }
}

/// A recursive watch, and who looks through it.
#[derive(Debug)]
struct Root {
    slots: Arc<Slots>,
    task: JoinHandle<()>,
}

impl Drop for Root {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Slots(Mutex<HashMap<String, Vec<Weak<Slot>>>>);

/// What changed for one eye since it was asked last.
#[derive(Debug, Default)]
struct Slot {
    seen: Mutex<Seen>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    paths: BTreeSet<String>,
    blind: bool,
}

impl Slots {
    fn add(&self, path: &str) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        let mut slots = lock(&self.0);
        let here = slots.entry(path.to_owned()).or_default();
        here.retain(|slot| slot.strong_count() > 0);
        here.push(Arc::downgrade(&slot));
        slot
    }

    /// Tells who looks at the path or at what is above it.
    fn tell(&self, path: &str) {
        let mut slots = lock(&self.0);
        let mut at = path;
        while !at.is_empty() {
            if let Some(here) = slots.get_mut(at) {
                here.retain(|slot| match slot.upgrade() {
                    Some(slot) => {
                        slot.see(path);
                        true
                    }
                    None => false,
                });
                if here.is_empty() {
                    slots.remove(at);
                }
            }
            at = at.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    fn blind(&self) {
        for slot in lock(&self.0).drain().flat_map(|(_, here)| here).filter_map(|slot| slot.upgrade()) {
            lock(&slot.seen).blind = true;
            slot.bell.notify_one();
        }
    }
}

impl Slot {
    fn see(&self, path: &str) {
        let mut seen = lock(&self.seen);
        if seen.paths.len() <= CHANGED_MAX {
            seen.paths.insert(path.to_owned());
        }
        drop(seen);
        self.bell.notify_one();
    }

    async fn changed(&self) -> Result<Changed, Error> {
        loop {
            {
                let mut seen = lock(&self.seen);
                if seen.blind {
                    return Err(Error::ConnectionLoss);
                }
                if !seen.paths.is_empty() {
                    return Ok(few(std::mem::take(&mut seen.paths)));
                }
            }
            self.bell.notified().await;
        }
    }
}

fn few(paths: BTreeSet<String>) -> Changed {
    (paths.len() <= CHANGED_MAX).then_some(paths)
}

/// Hands on what a recursive watch sees, until the session changes.
async fn hand_on(mut watcher: PersistentWatcher, slots: Arc<Slots>) {
    loop {
        let event = watcher.changed().await;
        if event.event_type == EventType::Session {
            return slots.blind();
        }
        slots.tell(&event.path);
    }
}

/// Sees changes of a node, of its children and of what is below them.
#[derive(Debug)]
pub(crate) struct Eye(Kind);

#[derive(Debug)]
enum Kind {
    Own {
        watcher: PersistentWatcher,
        /// The session changed: what this eye sees is not all any more.
        blind: bool,
        _lease: Lease,
    },
    Shared {
        slot: Arc<Slot>,
        _root: Arc<Root>,
    },
    Timed(Interval),
}

impl Eye {
    /// Sees the node, its data, and which children it has. It need not exist.
    pub(crate) async fn on(client: &Client, sight: &Arc<Sight>, path: &str) -> Result<Self, Error> {
        Self::open(client, sight, path, AddWatchMode::Persistent).await
    }

    /// Sees the data of its children as well. A path must not be seen in both ways: the server keeps one of them.
    pub(crate) async fn on_all(client: &Client, sight: &Arc<Sight>, path: &str) -> Result<Self, Error> {
        Self::open(client, sight, path, AddWatchMode::PersistentRecursive).await
    }

    async fn open(
        client: &Client,
        sight: &Arc<Sight>,
        path: &str,
        mode: AddWatchMode,
    ) -> Result<Self, Error> {
        if sight.is_old.load(Ordering::Relaxed) {
            return Ok(Self(Kind::Timed(looks())));
        }
        let seen = if let Some(lease) = sight.lease(path) {
            let watcher = limited(client.watch(path, mode)).await;
            watcher.map(|watcher| Kind::Own { watcher, blind: false, _lease: lease })
        } else {
            let root = sight.root(client, path).await;
            root.map(|root| Kind::Shared { slot: root.slots.add(path), _root: root })
        };
        if matches!(seen, Err(Error::Unimplemented)) {
            sight.is_old.store(true, Ordering::Relaxed);
        }
        seen.map(Self)
    }

    /// Whether no watch tells it when to look.
    pub(crate) fn is_timed(&self) -> bool {
        matches!(self.0, Kind::Timed(_))
    }

    /// Waits for changes: the paths of the nodes that changed. An error: the session changed, and all must be begun anew.
    pub(crate) async fn changed(&mut self) -> Result<Changed, Error> {
        match &mut self.0 {
            Kind::Shared { slot, .. } => slot.changed().await,
            Kind::Timed(looks) => {
                looks.tick().await;
                Ok(None)
            }
            Kind::Own { blind: true, .. } => Err(Error::ConnectionLoss),
            Kind::Own { watcher, blind, .. } => {
                let mut paths = BTreeSet::new();
                let mut event = Some(watcher.changed().await);
                while let Some(WatchedEvent { event_type, path, .. }) = event {
                    if event_type == EventType::Session {
                        *blind = true;
                        return Err(Error::ConnectionLoss);
                    }
                    if paths.len() <= CHANGED_MAX {
                        paths.insert(path);
                    }
                    event = come(watcher).await;
                }
                Ok(few(paths))
            }
        }
    }
}

/// When to look, where nothing tells: not all at the same time.
fn looks() -> Interval {
    let most = u64::try_from(LOOK.as_millis()).unwrap_or(u64::MAX).max(1);
    let first = Duration::from_millis(RandomState::new().hash_one(()) % most);
    let mut looks = time::interval_at(time::Instant::now() + first, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// The next event, if it has come already.
async fn come(watcher: &mut PersistentWatcher) -> Option<WatchedEvent> {
    let mut next = std::pin::pin!(watcher.changed());
    match poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await {
        Poll::Ready(event) => Some(event),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(changed: Changed) -> Vec<String> {
        changed.expect("few").into_iter().collect()
    }

    #[tokio::test]
    async fn an_event_reaches_who_looks_at_its_path_or_above_it() {
        let slots = Slots::default();
        let (directory, other, node) = (slots.add("/a/b"), slots.add("/a/bc"), slots.add("/a/b/c"));
        slots.tell("/a/b/c");
        slots.tell("/a/b/c");
        slots.tell("/a/b/d");
        assert_eq!(paths(directory.changed().await.unwrap()), ["/a/b/c", "/a/b/d"]);
        assert_eq!(paths(node.changed().await.unwrap()), ["/a/b/c"]);
        assert!(lock(&other.seen).paths.is_empty());
        drop((directory, node));
        slots.tell("/a/b/c");
        assert_eq!(lock(&slots.0).len(), 1, "who looks no more is forgotten");
        slots.blind();
        assert_eq!(other.changed().await, Err(Error::ConnectionLoss));
    }

    #[tokio::test]
    async fn more_changes_than_are_kept_are_everything() {
        let slots = Slots::default();
        let slot = slots.add("/a");
        for node in 0..CHANGED_MAX * 2 {
            slots.tell(&format!("/a/{node}"));
        }
        assert_eq!(slot.changed().await, Ok(None));
        slots.tell("/a/b");
        assert_eq!(paths(slot.changed().await.unwrap()), ["/a/b"]);
    }

    #[test]
    fn there_is_room_for_so_many_bytes_and_again_when_some_are_free() {
        let sight = Arc::new(Sight::new(Vec::new(), Arc::default()));
        let path = "a".repeat(OWN_BYTES_MAX / 2);
        let (one, two) = (sight.lease(&path), sight.lease(&path));
        assert!(one.is_some() && two.is_some() && sight.lease("a").is_none());
        drop(one);
        assert!(sight.lease("a").is_some());
        assert!(
            is_below("/dubbo/a", "/dubbo")
                && !is_below("/dubbo2/a", "/dubbo")
                && !is_below("/dubbo", "/dubbo")
        );
    }
}
