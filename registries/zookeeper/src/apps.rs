//! The instances of applications, as Dubbo 3 and Spring Cloud write them: one task for each application, however many
//! interfaces of it are watched.
//!
//! A task has the directory of its application read (a node again only when it changed) and, for members of Dubbo, what each
//! revision gives: once for each, three tries a second apart, from the registry itself or by asking a member. It ends when
//! nobody wants the application any more. It must never let a revision that cannot be had hide the others, nor take away
//! what a member gave before it changed its revision.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use outrigger_discovery::{
    Instance,
    formats::{
        application::{Member, MetadataInfo},
        curator,
    },
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time,
};
use zookeeper_client::{Client, Error};

use crate::{
    ask,
    eye::{Changed, Eye},
    paths,
    session::{CALL, Link, Shared, Up, limited, lock, reason},
};

/// How often a revision is asked for before it counts as not to be had.
const TRIES: u32 = 3;
/// The time from try to try.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// How many nodes are read at once.
const READS_AT_ONCE: usize = 64;

/// The applications that somebody watches, by their directory.
#[derive(Debug, Default)]
pub(crate) struct Apps {
    open: Mutex<HashMap<String, Weak<App>>>,
}

/// A watched application; its task ends with the last who has this.
#[derive(Debug)]
pub(crate) struct App {
    view: watch::Receiver<AppView>,
    asks: watch::Sender<u64>,
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
    /// In which epoch of the session it was listed; 0: it was not yet.
    pub(crate) epoch: u64,
    /// The last question ([`App::ask`]) that this answers.
    pub(crate) asked: u64,
    /// Why it cannot be listed.
    pub(crate) trouble: Option<Arc<str>>,
    /// Whether nothing more is to come without a change: no revision is being asked for.
    pub(crate) settled: bool,
    /// Its instances.
    pub(crate) found: Arc<[Found]>,
}

/// One instance of an application.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Of Dubbo 3, with what it gives; `None`: that is not known.
    Dubbo(Arc<Member>, Option<Arc<MetadataInfo>>),
    /// Of Spring Cloud.
    Spring(Arc<Instance>),
}

impl Apps {
    /// The application in the directory; the first who wants it has its task started.
    pub(crate) fn open(&self, shared: &Arc<Shared>, directory: &str) -> Arc<App> {
        let mut open = lock(&self.open);
        if let Some(app) = open.get(directory).and_then(Weak::upgrade).filter(|app| !app.task.is_finished()) {
            return app;
        }
        // Those that nobody wants any more go when another comes, so there are never more than were wanted at once, and some.
        open.retain(|_, app| app.strong_count() > 0);
        let (tells, view) = watch::channel(AppView::default());
        let (asks, asked) = watch::channel(0);
        let keeper = Keeper {
            shared: Arc::clone(shared),
            directory: directory.to_owned(),
            nodes: BTreeMap::new(),
            revisions: HashMap::new(),
            fetches: JoinSet::new(),
            asked,
            tells,
        };
        let app = Arc::new(App { view, asks, task: tokio::spawn(keeper.run()) });
        open.insert(directory.to_owned(), Arc::downgrade(&app));
        app
    }
}

impl App {
    /// What is known, and every change of it.
    pub(crate) fn view(&self) -> watch::Receiver<AppView> {
        self.view.clone()
    }

    /// Has everything read anew; the view that answers this has the number in [`AppView::asked`].
    pub(crate) fn ask(&self) -> u64 {
        let mut number = 0;
        self.asks.send_modify(|asks| {
            *asks = asks.wrapping_add(1);
            number = *asks;
        });
        number
    }
}

/// A node of the directory.
enum Node {
    Dubbo {
        member: Arc<Member>,
        given: Option<Arc<MetadataInfo>>,
    },
    Spring(Arc<Instance>),
    /// It is there and cannot be read, which was counted.
    Unreadable,
    /// It says nothing that is wanted here, or is not there any more.
    Nothing,
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
    directory: String,
    nodes: BTreeMap<String, Node>,
    revisions: HashMap<String, Revision>,
    fetches: JoinSet<Fetched>,
    asked: watch::Receiver<u64>,
    tells: watch::Sender<AppView>,
}

impl Keeper {
    async fn run(mut self) {
        let mut link = self.shared.link();
        loop {
            let now = link.borrow_and_update().clone();
            // What is asked over a connection of before is asked anew, and must not keep its session open.
            self.fetches = JoinSet::new();
            self.revisions.retain(|_, revision| !matches!(revision, Revision::Asked));
            self.tells.send_modify(|view| view.trouble = None);
            let failed = match now {
                // Who watches says that the registry is lost; what is known of before stays.
                Link::New | Link::Down(_) | Link::Closed => None,
                Link::Up(up) => tokio::select! {
                    _ = link.changed() => continue,
                    Err(error) = self.follow(&up) => Some(error),
                },
            };
            if let Some(error) = failed {
                let trouble = format!("{}: {}", self.directory, reason(&error));
                self.tells.send_modify(|view| view.trouble = Some(trouble.into()));
                let again = time::timeout(BETWEEN_TRIES, link.changed()).await;
                if !matches!(again, Ok(Err(_))) {
                    continue;
                }
            }
            if link.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow(&mut self, up: &Up) -> Result<std::convert::Infallible, Error> {
        let shared = Arc::clone(&self.shared);
        let permit = ask::permit(&shared.pace).await;
        let mut eye = Eye::on_all(&up.client, &up.sight, &self.directory).await?;
        drop(permit);
        // What was missed is unknown: all is read anew.
        let mut dirty = None;
        loop {
            let asked = *self.asked.borrow_and_update();
            let permit = ask::permit(&shared.pace).await;
            self.list(&up.client, dirty.as_ref()).await?;
            drop(permit);
            self.fetch(&up.client);
            self.tell(up.epoch, asked);
            dirty = loop {
                let retry = self.retry();
                tokio::select! {
                    paths = eye.changed() => break self.children(paths?),
                    change = self.asked.changed() => {
                        change.map_err(|_| Error::ClientClosed)?;
                        break None;
                    }
                    Some(fetched) = self.fetches.join_next() => {
                        self.take(fetched.ok());
                        self.tell(up.epoch, asked);
                    }
                    () = time::sleep_until(retry), if self.is_missing() => {
                        self.fetch(&up.client);
                        self.tell(up.epoch, asked);
                    }
                }
            };
        }
    }

    /// Which children the changed nodes are, or are below of; `None`: all of them.
    fn children(&self, changed: Changed) -> Option<BTreeSet<String>> {
        let below = |path: String| {
            let rest = path.strip_prefix(&self.directory)?.strip_prefix('/')?;
            rest.split('/').next().map(str::to_owned)
        };
        changed.map(|paths| paths.into_iter().filter_map(below).collect())
    }

    /// Lists the directory and reads what is new there, and what is `dirty`; `None`: everything.
    async fn list(&mut self, client: &Client, dirty: Option<&BTreeSet<String>>) -> Result<(), Error> {
        let names: BTreeSet<String> = ask::list(client, &self.directory).await?.into_iter().collect();
        self.nodes.retain(|name, _| names.contains(name));
        let stale = |name: &&String| match dirty {
            None => true,
            Some(dirty) => dirty.contains(*name) || !self.nodes.contains_key(*name),
        };
        let stale: Vec<&String> = names.iter().filter(stale).collect();
        for some in stale.chunks(READS_AT_ONCE) {
            // A question is sent when it is made, so these wait together.
            let calls: Vec<_> = some
                .iter()
                .filter_map(|name| Some((*name, client.get_data(&paths::child(&self.directory, name)?))))
                .collect();
            for (name, call) in calls {
                let node = match limited(call).await {
                    Ok((data, _)) => self.node(name, &data),
                    Err(Error::NoNode) => Node::Nothing,
                    Err(error) => return Err(error),
                };
                self.nodes.insert(name.clone(), node);
            }
        }
        self.shared.status.heard();
        Ok(())
    }

    fn node(&self, name: &str, data: &[u8]) -> Node {
        let Ok(service) = curator::parse(data) else {
            // It may be read often: whenever all are, and once more if it came while they were listed.
            if !matches!(self.nodes.get(name), Some(Node::Unreadable)) {
                self.shared.status.unreadable();
            }
            return Node::Unreadable;
        };
        if let Some(member) = service.member() {
            let given = match self.nodes.get(name) {
                Some(Node::Dubbo { given, .. }) => given.clone(),
                _ => None,
            };
            return Node::Dubbo { member: Arc::new(member), given };
        }
        match curator::spring_instance(&service) {
            Some(instance) => Node::Spring(Arc::new(instance)),
            None => Node::Nothing,
        }
    }

    /// Asks for the revisions that are not known, and forgets those that nobody has.
    fn fetch(&mut self, client: &Client) {
        let mut members: BTreeMap<&str, Vec<Arc<Member>>> = BTreeMap::new();
        for node in self.nodes.values() {
            if let Node::Dubbo { member, .. } = node
                && let Some(revision) = member.revision()
            {
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

    fn tell(&mut self, epoch: u64, asked: u64) {
        for node in self.nodes.values_mut() {
            if let Node::Dubbo { member, given } = node
                && let Some(Revision::Known(info)) = member.revision().and_then(|one| self.revisions.get(one))
            {
                *given = Some(Arc::clone(info));
            }
        }
        let found = self.nodes.values().filter_map(|node| match node {
            // Nothing is exported there yet.
            Node::Dubbo { member, .. } if member.revision().is_none() => None,
            Node::Dubbo { member, given } => Some(Found::Dubbo(Arc::clone(member), given.clone())),
            Node::Spring(instance) => Some(Found::Spring(Arc::clone(instance))),
            Node::Unreadable | Node::Nothing => None,
        });
        let settled = !self.revisions.values().any(|revision| matches!(revision, Revision::Asked));
        self.tells.send_replace(AppView { epoch, asked, trouble: None, settled, found: found.collect() });
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
    for path in shared.paths.as_ref().ok()?.metadata(app, revision)? {
        if let Ok(Some(data)) = ask::read(client, &path).await
            && let Ok(info) = MetadataInfo::parse(&data)
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
