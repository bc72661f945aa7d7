//! Applications of dubbo-go: who is one, and what each gives.
//!
//! An application is read once for all watches that want it. What a revision gives is asked for once, however many members
//! have it: of the registry, or of a member, wherever they say it is. It must never let a revision that cannot be had hide the
//! others, nor take away what a member gave before it changed its revision.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use outrigger_discovery::formats::application::{Member, MetadataInfo};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time,
};

use crate::{
    client::{CALL, Client},
    mirror::{Mirror, Range},
    read,
    session::{Link, Shared, Up, lock},
    values,
};

/// How often a revision is asked for before it counts as not to be had.
const TRIES: u32 = 3;
/// The time from try to try.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// The applications that somebody watches, by their directory.
#[derive(Debug, Default)]
pub(crate) struct Apps {
    open: Mutex<HashMap<Range, Weak<App>>>,
}

/// A watched application; its task ends with the last who has this.
#[derive(Debug)]
pub(crate) struct App {
    mirror: Arc<Mirror>,
    view: watch::Receiver<AppView>,
    task: JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of an application.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppView {
    /// In which epoch of the connection it was read; 0: it was not yet.
    pub(crate) epoch: u64,
    /// The last question ([`App::ask`]) that this answers.
    pub(crate) answered: u64,
    /// Why it cannot be read.
    pub(crate) trouble: Option<Arc<str>>,
    /// Whether nothing more is to come without a change: no revision is being asked for.
    pub(crate) settled: bool,
    /// Its instances, with what each gives; `None`: that is not known.
    pub(crate) found: Arc<[Found]>,
}

/// A member, and what it gives.
pub(crate) type Found = (Arc<Member>, Option<Arc<MetadataInfo>>);

impl Apps {
    /// The application in the directory; the first who wants it has its task started.
    pub(crate) fn open(&self, shared: &Arc<Shared>, directory: &Range) -> Arc<App> {
        let mut open = lock(&self.open);
        if let Some(app) = open.get(directory).and_then(Weak::upgrade).filter(|app| !app.task.is_finished()) {
            return app;
        }
        // Those that nobody wants any more go when another comes, so there are never more than were wanted at once, and some.
        open.retain(|_, app| app.strong_count() > 0);
        let (tells, view) = watch::channel(AppView::default());
        let mirror = shared.sight.open(directory);
        let keeper = Keeper {
            shared: Arc::clone(shared),
            mirror: Arc::clone(&mirror),
            nodes: BTreeMap::new(),
            revisions: HashMap::new(),
            fetches: JoinSet::new(),
            tells,
        };
        let app = Arc::new(App { mirror, view, task: tokio::spawn(keeper.run()) });
        open.insert(directory.clone(), Arc::downgrade(&app));
        app
    }
}

impl App {
    /// What is known, and every change of it.
    pub(crate) fn view(&self) -> watch::Receiver<AppView> {
        self.view.clone()
    }

    /// Has it read anew; the view that answers this has the number in [`AppView::answered`].
    pub(crate) fn ask(&self) -> u64 {
        self.mirror.ask()
    }
}

/// A key of the directory.
struct Node {
    /// The revision of its last change.
    changed: i64,
    /// `None`: it cannot be read, or is not to be called.
    member: Option<Arc<Member>>,
    /// What it says itself that it gives: nobody need be asked.
    own: Option<Arc<MetadataInfo>>,
    given: Option<Arc<MetadataInfo>>,
}

/// What is known of a revision.
enum Revision {
    Asked,
    Known(Arc<MetadataInfo>),
    /// It could not be had; it is asked for again some time after.
    Missing(time::Instant),
}

type Fetched = (String, Option<MetadataInfo>);

/// The task of one application.
struct Keeper {
    shared: Arc<Shared>,
    mirror: Arc<Mirror>,
    nodes: BTreeMap<Vec<u8>, Node>,
    revisions: HashMap<String, Revision>,
    fetches: JoinSet<Fetched>,
    tells: watch::Sender<AppView>,
}

impl Keeper {
    async fn run(mut self) {
        let mut link = self.shared.link();
        loop {
            let now = link.borrow_and_update().clone();
            // What is asked over a connection of before is asked anew.
            self.fetches = JoinSet::new();
            self.revisions.retain(|_, revision| !matches!(revision, Revision::Asked));
            if let Link::Up(up) = now {
                tokio::select! {
                    changed = link.changed() => if changed.is_err() { return },
                    () = self.follow(&up) => return,
                }
            } else if link.changed().await.is_err() {
                // Who watches says that the registry is lost; what is known of before stays.
                return;
            }
        }
    }

    /// Tells every change; ends only if nobody can tell any more.
    async fn follow(&mut self, up: &Up) {
        let mut news = self.mirror.news();
        loop {
            news.borrow_and_update();
            let (epoch, answered, trouble) =
                self.mirror.look(|state| (state.epoch, state.answered, state.trouble.clone()));
            if trouble.is_some() {
                self.tells.send_modify(|view| view.trouble = trouble);
            } else if epoch == up.epoch {
                self.list();
                self.fetch(&up.client);
                self.tell(epoch, answered);
            }
            loop {
                let retry = self.retry();
                tokio::select! {
                    changed = news.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Some(fetched) = self.fetches.join_next() => {
                        self.take(fetched.ok());
                        self.tell(epoch, answered);
                    }
                    () = time::sleep_until(retry), if self.is_missing() => {
                        self.fetch(&up.client);
                        self.tell(epoch, answered);
                    }
                }
            }
        }
    }

    /// Reads what is new in the directory.
    fn list(&mut self) {
        let Self { mirror, nodes, shared, .. } = self;
        mirror.look(|state| {
            nodes.retain(|key, _| state.entries.contains_key(key));
            for (key, entry) in &state.entries {
                let before = nodes.get(key);
                if mirror.range.node(key).is_none()
                    || before.is_some_and(|before| before.changed == entry.changed)
                {
                    continue;
                }
                let given = before.and_then(|before| before.given.clone());
                let member = values::go_member(&entry.value).unwrap_or_else(|_| {
                    shared.status.unreadable();
                    None
                });
                let (member, own) = member.map_or((None, None), |(member, own)| (Some(member), own));
                let (member, own) = (member.map(Arc::new), own.map(Arc::new));
                let node = Node { changed: entry.changed, member, own, given };
                nodes.insert(key.clone(), node);
            }
        });
    }

    /// Asks for the revisions that are not known, and forgets those that nobody has.
    fn fetch(&mut self, client: &Client) {
        let mut members: BTreeMap<&str, Vec<Arc<Member>>> = BTreeMap::new();
        let silent = self.nodes.values().filter(|node| node.own.is_none());
        for member in silent.filter_map(|node| node.member.as_ref()) {
            if let Some(revision) = member.revision() {
                members.entry(revision).or_default().push(Arc::clone(member));
            }
        }
        self.revisions.retain(|revision, _| members.contains_key(revision.as_str()));
        let now = time::Instant::now();
        for (revision, members) in members {
            let ask = match self.revisions.get(revision) {
                None => true,
                Some(Revision::Missing(since)) => now >= *since + self.shared.settings.reconcile,
                Some(Revision::Asked | Revision::Known(_)) => false,
            };
            if ask {
                self.revisions.insert(revision.to_owned(), Revision::Asked);
                let (shared, client) = (Arc::clone(&self.shared), client.clone());
                let revision = revision.to_owned();
                self.fetches.spawn(async move {
                    let info = fetch(&shared, &client, &revision, &members).await;
                    (revision, info)
                });
            }
        }
    }

    fn take(&mut self, fetched: Option<Fetched>) {
        let missing = || Revision::Missing(time::Instant::now());
        let Some((revision, info)) = fetched else {
            // Whoever asked has panicked and cannot say for which; when all are through, it was for those that are left.
            if self.fetches.is_empty() {
                let left = self.revisions.values_mut().filter(|revision| matches!(revision, Revision::Asked));
                left.for_each(|revision| *revision = missing());
            }
            return;
        };
        let Some(known) = self.revisions.get_mut(&revision) else { return };
        match info {
            Some(info) => *known = Revision::Known(Arc::new(info)),
            None => {
                *known = missing();
                self.shared.status.unreadable();
            }
        }
    }

    fn is_missing(&self) -> bool {
        self.revisions.values().any(|revision| matches!(revision, Revision::Missing(_)))
    }

    /// When the first of the missing revisions is to be asked for again.
    fn retry(&self) -> time::Instant {
        let since = self.revisions.values().filter_map(|revision| match revision {
            Revision::Missing(since) => Some(*since),
            _ => None,
        });
        since.min().unwrap_or_else(time::Instant::now) + self.shared.settings.reconcile
    }

    fn tell(&mut self, epoch: u64, answered: u64) {
        let mut found = Vec::new();
        for node in self.nodes.values_mut() {
            // Without a revision nothing is exported there yet.
            let Some(member) = node.member.as_ref() else { continue };
            let Some(revision) = member.revision() else { continue };
            if let Some(info) = &node.own {
                node.given = Some(Arc::clone(info));
            } else if let Some(Revision::Known(info)) = self.revisions.get(revision) {
                node.given = Some(Arc::clone(info));
            }
            found.push((Arc::clone(member), node.given.clone()));
        }
        let settled = !self.revisions.values().any(|revision| matches!(revision, Revision::Asked));
        self.tells.send_replace(AppView { epoch, answered, trouble: None, settled, found: found.into() });
    }
}

/// What a revision gives, from wherever its members say it is, and else from where it might be.
async fn fetch(
    shared: &Shared,
    client: &Client,
    revision: &str,
    members: &[Arc<Member>],
) -> Option<MetadataInfo> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            time::sleep(BETWEEN_TRIES).await;
        }
        // Each try asks another member: one of them may be ill.
        let member = members.get(attempt as usize % members.len().max(1))?;
        let info = if member.is_remote() {
            match written(shared, client, &member.app, revision).await {
                None => told(shared, member).await,
                info => info,
            }
        } else {
            match told(shared, member).await {
                None => written(shared, client, &member.app, revision).await,
                info => info,
            }
        };
        if info.is_some() {
            return info;
        }
    }
    None
}

/// As it is written in the registry.
async fn written(shared: &Shared, client: &Client, app: &str, revision: &str) -> Option<MetadataInfo> {
    for key in shared.keys.as_ref().ok()?.metadata(app, revision)? {
        if let Ok(Some(entry)) = read::key(client, &key).await
            && let Ok(info) = MetadataInfo::parse(&entry.value)
        {
            return Some(info);
        }
    }
    None
}

/// As a member tells it.
async fn told(shared: &Shared, member: &Member) -> Option<MetadataInfo> {
    let (asks, question) = (shared.settings.ask.as_ref()?, member.asks()?);
    time::timeout(CALL, asks.ask(question)).await.ok()?.ok()
}
