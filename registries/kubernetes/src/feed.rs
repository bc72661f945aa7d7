//! One kind of objects of one namespace, listed and then watched: one task for all who want them.
//!
//! A list is whole before it is told, and what is missing in it is gone. A watch is begun anew where the last one ended, each
//! after a bounded time and whenever the server may be going away, since it can hold one open then and say nothing; where the server no longer has
//! what came in between (410) everything is listed again, and that a gap was there is told. It must never tell a list that was
//! read in part. After the API concepts of Kubernetes ("Efficient detection of changes"); kube's own watcher has no time limit
//! for its lists and cannot be asked to look again.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Error, Resource,
    api::{ListParams, WatchEvent, WatchParams},
};
use outrigger_discovery::{Backoff, StatusCell};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinHandle, time};

use crate::link::{Failed, Link, Shared, Up, limited, lock};

/// How many objects one answer may have.
const PAGE: u32 = 500;
/// How long after its end a watch is given up that the server should have ended.
const LATE: Duration = Duration::from_secs(5);
/// A watch that lasted shorter was none.
const SHORT: Duration = Duration::from_secs(1);
/// Pages of one list: a server that goes on for ever is not believed.
const PAGES_MAX: u32 = 2_000;

/// A kind of objects.
pub(crate) trait Kind: Send + Sync + 'static {
    /// As the server tells it.
    type Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
    /// What is kept of one.
    type Kept: fmt::Debug + Send + Sync + 'static;
    /// What is remembered from change to change.
    type Memory: Default + Send + 'static;
    /// Only objects with this label are wanted.
    const LABEL: Option<&'static str>;

    /// What is kept of it; `None`: nothing.
    fn keep(object: Self::Object, status: &StatusCell) -> Option<Self::Kept>;

    /// Looks over all of them before they are told; `anew`: they were listed after a gap.
    fn settle(shared: &Shared, memory: &mut Self::Memory, items: &mut Items<Self::Kept>, anew: bool) {
        _ = (shared, memory, items, anew);
    }

    /// The feeds of this kind.
    fn feeds(shared: &Shared) -> &Feeds<Self>
    where
        Self: Sized;
}

/// Objects by their names.
pub(crate) type Items<T> = BTreeMap<String, Arc<T>>;

/// What is known.
#[derive(Debug)]
pub(crate) struct View<T> {
    /// In which epoch of the link it was listed; 0: it was not yet.
    pub(crate) epoch: u64,
    /// The last question ([`Feed::ask`]) that this answers.
    pub(crate) asked: u64,
    /// How often changes may have been missed.
    pub(crate) gaps: u64,
    /// Why they cannot be had.
    pub(crate) trouble: Option<Arc<str>>,
    pub(crate) items: Arc<Items<T>>,
}

impl<T> Default for View<T> {
    fn default() -> Self {
        Self { epoch: 0, asked: 0, gaps: 0, trouble: None, items: Arc::default() }
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self { trouble: self.trouble.clone(), items: Arc::clone(&self.items), ..*self }
    }
}

/// The namespaces of one kind that somebody wants.
pub(crate) struct Feeds<K: Kind> {
    open: Mutex<HashMap<Box<str>, Weak<Feed<K>>>>,
}

impl<K: Kind> Default for Feeds<K> {
    fn default() -> Self {
        Self { open: Mutex::default() }
    }
}

/// A namespace that somebody wants; its task ends with the last who has this.
pub(crate) struct Feed<K: Kind> {
    view: watch::Receiver<View<K::Kept>>,
    asks: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl<K: Kind> Drop for Feed<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K: Kind> Feeds<K> {
    /// The objects of the namespace; the first who wants them has the task started.
    pub(crate) fn open(&self, shared: &Arc<Shared>, namespace: &str) -> Arc<Feed<K>> {
        let mut open = lock(&self.open);
        let there = open.get(namespace).and_then(Weak::upgrade).filter(|feed| !feed.task.is_finished());
        if let Some(feed) = there {
            return feed;
        }
        open.retain(|_, feed| feed.strong_count() > 0);
        let (tells, view) = watch::channel(View::default());
        let (asks, asked) = watch::channel(0);
        let keeper = Keeper::<K> {
            shared: Arc::clone(shared),
            namespace: namespace.into(),
            items: Items::new(),
            memory: K::Memory::default(),
            version: None,
            gaps: 0,
            asked,
            renewed: shared.renewed(),
            tells,
        };
        let feed = Arc::new(Feed { view, asks, task: tokio::spawn(keeper.run()) });
        open.insert(namespace.into(), Arc::downgrade(&feed));
        feed
    }
}

impl<K: Kind> Feed<K> {
    /// What is known, and every change of it.
    pub(crate) fn view(&self) -> watch::Receiver<View<K::Kept>> {
        self.view.clone()
    }

    /// Has everything listed anew; the view that answers this has the number in [`View::asked`].
    pub(crate) fn ask(&self) -> u64 {
        let mut number = 0;
        self.asks.send_modify(|asks| {
            *asks = asks.wrapping_add(1);
            number = *asks;
        });
        number
    }
}

/// Why a watch ended that did not fail.
enum End {
    Over,
    Gone,
    Asked,
}

struct Keeper<K: Kind> {
    shared: Arc<Shared>,
    namespace: Box<str>,
    items: Items<K::Kept>,
    memory: K::Memory,
    /// Where the next watch begins; `None`: everything is listed first.
    version: Option<String>,
    /// How often the server had forgotten changes.
    gaps: u64,
    asked: watch::Receiver<u64>,
    renewed: watch::Receiver<u64>,
    tells: watch::Sender<View<K::Kept>>,
}

impl<K: Kind> Keeper<K> {
    async fn run(mut self) {
        let (mut link, mut backoff) = (self.shared.link(), Backoff::default());
        loop {
            let now = link.borrow_and_update().clone();
            if let Link::Up(up) = now {
                // Changes of the time without a server were seen by nobody.
                self.version = None;
                let failed = tokio::select! {
                    _ = link.changed() => continue,
                    Err(failed) = self.follow(&up, &mut backoff) => failed,
                };
                let trouble = format!("{}: {}", K::Object::plural(&()), failed.reason());
                self.tells.send_modify(|view| view.trouble = Some(trouble.into()));
                if failed.code() == 0 {
                    self.shared.suspect.notify_one();
                }
                let again = time::timeout(backoff.failed(), link.changed()).await;
                if !matches!(again, Ok(Err(_))) {
                    continue;
                }
            }
            if link.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow(&mut self, up: &Up, backoff: &mut Backoff) -> Result<Infallible, Failed> {
        let api: Api<K::Object> = Api::namespaced(up.client.clone(), &self.namespace);
        let seconds = u32::try_from(self.shared.settings.watch.as_secs()).unwrap_or(u32::MAX).max(1);
        let params = WatchParams {
            timeout: Some(seconds),
            label_selector: K::LABEL.map(str::to_owned),
            ..WatchParams::default()
        };
        loop {
            let version = match &self.version {
                Some(version) => version.clone(),
                None => self.list(&api, up.epoch).await?,
            };
            let began = Instant::now();
            self.renewed.borrow_and_update();
            let end = match limited(api.watch(&params, &version)).await {
                Ok(stream) => self.read(std::pin::pin!(stream)).await?,
                Err(failed) if failed.code() == 410 => End::Gone,
                Err(failed) => {
                    self.version = None;
                    return Err(failed);
                }
            };
            match end {
                End::Over => {}
                End::Gone => {
                    self.version = None;
                    // Told with the list that follows.
                    self.gaps = self.gaps.saturating_add(1);
                }
                End::Asked => self.version = None,
            }
            if !matches!(end, End::Asked) && began.elapsed() < SHORT {
                time::sleep(backoff.failed()).await;
            } else {
                backoff.works();
            }
        }
    }

    /// Lists everything and tells it; where a watch goes on from.
    async fn list(&mut self, api: &Api<K::Object>, epoch: u64) -> Result<String, Failed> {
        let asked = *self.asked.borrow_and_update();
        let mut params = ListParams {
            label_selector: K::LABEL.map(str::to_owned),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut items = Items::new();
        let mut pages = 0;
        let version = loop {
            let page = limited(api.list(&params)).await?;
            pages += 1;
            let version = page.metadata.resource_version.unwrap_or_default();
            for object in page.items {
                let Some(name) = object.meta().name.clone() else { continue };
                if let Some(kept) = K::keep(object, &self.shared.status) {
                    items.insert(name, Arc::new(kept));
                }
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break version;
            }
            if pages >= PAGES_MAX {
                return Err(Failed::Endless);
            }
        };
        self.items = items;
        self.version = Some(version.clone());
        let gaps = self.gaps;
        self.tell(true, |view| {
            (view.epoch, view.asked, view.gaps, view.trouble) = (epoch, asked, gaps, None);
        });
        Ok(version)
    }

    async fn read(
        &mut self,
        mut stream: impl Stream<Item = Result<WatchEvent<K::Object>, Error>> + Unpin,
    ) -> Result<End, Failed> {
        let until = time::Instant::now() + self.shared.settings.watch + LATE;
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = time::sleep_until(until) => return Ok(End::Over),
                Ok(()) = self.renewed.changed() => return Ok(End::Over),
                asked = self.asked.changed() => match asked {
                    Ok(()) => return Ok(End::Asked),
                    // Nobody wants it any more.
                    Err(_) => std::future::pending().await,
                },
            };
            // What came along with it is told along with it.
            let mut next = Some(event);
            while let Some(event) = next {
                let Some(event) = event else {
                    self.tell(false, |_| {});
                    return Ok(End::Over);
                };
                if let Some(end) = self.apply(event)? {
                    self.tell(false, |_| {});
                    return Ok(end);
                }
                next = stream.next().now_or_never();
            }
            self.shared.status.heard();
            self.tell(false, |_| {});
        }
    }

    fn apply(&mut self, event: Result<WatchEvent<K::Object>, Error>) -> Result<Option<End>, Failed> {
        match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                self.version = object.meta().resource_version.clone().or(self.version.take());
                if let Some(name) = object.meta().name.clone() {
                    match K::keep(object, &self.shared.status) {
                        Some(kept) => self.items.insert(name, Arc::new(kept)),
                        None => self.items.remove(&name),
                    };
                }
            }
            Ok(WatchEvent::Deleted(object)) => {
                self.version = object.meta().resource_version.clone().or(self.version.take());
                if let Some(name) = &object.meta().name {
                    self.items.remove(name);
                }
            }
            Ok(WatchEvent::Bookmark(mark)) => self.version = Some(mark.metadata.resource_version),
            Ok(WatchEvent::Error(status)) if status.code == 410 => return Ok(Some(End::Gone)),
            Ok(WatchEvent::Error(status)) => return Err(Failed::Said(Box::new(Error::Api(status)))),
            // One object that cannot be read hides no other.
            Err(Error::SerdeError(_)) => self.shared.status.unreadable(),
            // A line that is no event is read as a status by kube, of which nothing is required.
            Err(Error::Api(status)) if status.code == 0 => self.shared.status.unreadable(),
            Err(error) => return Err(Failed::Said(Box::new(error))),
        }
        Ok(None)
    }

    fn tell(&mut self, anew: bool, more: impl FnOnce(&mut View<K::Kept>)) {
        K::settle(&self.shared, &mut self.memory, &mut self.items, anew);
        let same = {
            let view = self.tells.borrow();
            view.items.len() == self.items.len()
                && view.items.iter().zip(&self.items).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
        };
        if same && !anew {
            return;
        }
        let items = Arc::new(self.items.clone());
        self.tells.send_modify(|view| {
            view.items = items;
            more(view);
        });
    }
}

/// Somebody's part in a feed.
pub(crate) struct Subscription<K: Kind> {
    pub(crate) feed: Arc<Feed<K>>,
    pub(crate) view: watch::Receiver<View<K::Kept>>,
    /// The last question that it was asked.
    asked: u64,
}

impl<K: Kind> Subscription<K> {
    pub(crate) fn new(shared: &Arc<Shared>, namespace: &str) -> Self {
        let feed = K::feeds(shared).open(shared, namespace);
        Self { view: feed.view(), feed, asked: 0 }
    }

    /// Has everything listed anew.
    pub(crate) fn ask(&mut self) {
        self.asked = self.feed.ask();
    }

    /// What is known, if it was listed in this epoch and since it was asked.
    pub(crate) fn fresh(&mut self, epoch: u64) -> (View<K::Kept>, bool) {
        let view = self.view.borrow_and_update().clone();
        let fresh = view.epoch >= epoch && view.asked >= self.asked;
        (view, fresh)
    }
}
