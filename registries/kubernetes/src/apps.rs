//! The applications of Dubbo 3 that write what they give into annotations of their own pods: one task a namespace.
//!
//! An application is a Service, and its instances are those of the Service's endpoints that are pods with the annotation. What
//! a revision gives is asked of an instance, once for each, three tries a second apart: no other place in Kubernetes has it.
//! There is no mapping from interfaces to applications either, so all applications of the namespace are looked through. It must
//! never let a revision that cannot be had hide the others, nor take away what an instance gave before it changed its revision.
//! After `KubernetesServiceDiscovery` of dubbo-spi-extensions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use outrigger_discovery::formats::{
    application::{Member, MetadataInfo},
    join,
};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time,
};

use crate::{
    feed::Subscription,
    link::{CALL, Link, Shared, lock},
    pods::Pods,
    slices::Slices,
};

/// How often a revision is asked for before it counts as not to be had.
const TRIES: u32 = 3;
/// The time from try to try.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// How many instances are asked at once.
const ASKED_AT_ONCE: usize = 16;
/// How many instances of all applications are looked at; those beyond are passed over.
const MEMBERS_MAX: usize = 20_000;

/// The namespaces whose applications somebody watches.
#[derive(Default)]
pub(crate) struct Apps {
    open: Mutex<HashMap<Box<str>, Weak<NamespaceApps>>>,
}

/// The applications of a namespace; the task ends with the last who has this.
pub(crate) struct NamespaceApps {
    view: watch::Receiver<AppsView>,
    asks: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Drop for NamespaceApps {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of the applications.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppsView {
    /// In which epoch of the link all of it was listed; 0: it was not yet.
    pub(crate) epoch: u64,
    /// The last question ([`NamespaceApps::ask`]) that this answers.
    pub(crate) asked: u64,
    /// How often changes may have been missed.
    pub(crate) gaps: u64,
    /// Why it cannot be listed.
    pub(crate) trouble: Option<Arc<str>>,
    /// Whether nothing more is to come without a change: no revision is being asked for.
    pub(crate) settled: bool,
    pub(crate) found: Arc<[Found]>,
}

/// One instance of an application, with what it gives; `None`: that is not known.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) member: Arc<Member>,
    pub(crate) info: Option<Arc<MetadataInfo>>,
}

impl Apps {
    /// The applications of the namespace; the first who wants them has the task started.
    pub(crate) fn open(&self, shared: &Arc<Shared>, namespace: &str) -> Arc<NamespaceApps> {
        let mut open = lock(&self.open);
        let there = open.get(namespace).and_then(Weak::upgrade).filter(|apps| !apps.task.is_finished());
        if let Some(apps) = there {
            return apps;
        }
        open.retain(|_, apps| apps.strong_count() > 0);
        let (tells, view) = watch::channel(AppsView::default());
        let (asks, asked) = watch::channel(0);
        let keeper = Keeper {
            slices: Subscription::new(shared, namespace),
            pods: Subscription::new(shared, namespace),
            shared: Arc::clone(shared),
            revisions: HashMap::new(),
            gave: BTreeMap::new(),
            fetches: JoinSet::new(),
            pace: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
            asked,
            tells,
        };
        let apps = Arc::new(NamespaceApps { view, asks, task: tokio::spawn(keeper.run()) });
        open.insert(namespace.into(), Arc::downgrade(&apps));
        apps
    }
}

impl NamespaceApps {
    /// What is known, and every change of it.
    pub(crate) fn view(&self) -> watch::Receiver<AppsView> {
        self.view.clone()
    }

    /// Has everything listed anew; the view that answers this has the number in [`AppsView::asked`].
    pub(crate) fn ask(&self) -> u64 {
        let mut number = 0;
        self.asks.send_modify(|asks| {
            *asks = asks.wrapping_add(1);
            number = *asks;
        });
        number
    }
}

/// An application and a revision of it.
type Revision = (String, String);

/// What is known of a revision.
enum Known {
    Asked,
    Gives(Arc<MetadataInfo>),
    /// It could not be had; it is asked for again some time after.
    Missing(time::Instant),
}

struct Keeper {
    shared: Arc<Shared>,
    slices: Subscription<Slices>,
    pods: Subscription<Pods>,
    revisions: HashMap<Revision, Known>,
    /// What the instance at an address gave last.
    gave: BTreeMap<String, Arc<MetadataInfo>>,
    fetches: JoinSet<(Revision, Option<MetadataInfo>)>,
    pace: Arc<Semaphore>,
    asked: watch::Receiver<u64>,
    tells: watch::Sender<AppsView>,
}

impl Keeper {
    async fn run(mut self) {
        let mut link = self.shared.link();
        loop {
            let epoch = match &*link.borrow_and_update() {
                Link::Up(up) => Some(up.epoch),
                _ => None,
            };
            let again = match epoch {
                Some(epoch) => self.look(epoch),
                None => None,
            };
            let again = again.map_or(Duration::MAX, |at| at.saturating_duration_since(time::Instant::now()));
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return },
                changed = self.slices.view.changed() => if changed.is_err() { return },
                changed = self.pods.view.changed() => if changed.is_err() { return },
                Ok(()) = self.asked.changed() => {
                    self.slices.ask();
                    self.pods.ask();
                }
                Some(fetched) = self.fetches.join_next() => {
                    if let Ok((revision, info)) = fetched {
                        let known = match info {
                            Some(info) => Known::Gives(Arc::new(info)),
                            None => Known::Missing(time::Instant::now() + self.shared.settings.reconcile),
                        };
                        self.revisions.insert(revision, known);
                    }
                }
                () = time::sleep(again.min(Duration::from_secs(86_400))) => {}
            }
        }
    }

    /// Tells what is known now; when a revision is to be asked for again.
    fn look(&mut self, epoch: u64) -> Option<time::Instant> {
        let asked = *self.asked.borrow();
        let ((slices, first), (pods, second)) = (self.slices.fresh(epoch), self.pods.fresh(epoch));
        if let Some(trouble) = slices.trouble.or(pods.trouble) {
            self.tells.send_modify(|view| view.trouble = Some(trouble));
            return None;
        }
        if !first || !second {
            return None;
        }
        let mut members = BTreeMap::new();
        for slice in slices.items.values().filter(|slice| slice.marks.is_none()) {
            let Some(port) = slice.ports.first() else { continue };
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.is_ready()) {
                let pod = endpoint.pod.as_ref().and_then(|pod| pods.items.get(pod));
                let Some(pod) = pod.filter(|_| members.len() < MEMBERS_MAX) else { continue };
                let address = join(&endpoint.ip, port.number);
                let member = Member { app: slice.service.clone(), address, metadata: pod.dubbo.clone() };
                members.insert((slice.service.clone(), endpoint.ip.clone()), Arc::new(member));
            }
        }
        let mut found = Vec::with_capacity(members.len());
        let mut again: Option<time::Instant> = None;
        let mut used = Vec::new();
        for member in members.into_values() {
            // It serves nothing yet.
            let Some(revision) = member.revision() else { continue };
            let revision = (member.app.clone(), revision.to_owned());
            let due = self.fetch(&revision, &member);
            again = due.into_iter().chain(again).min();
            let info = match self.revisions.get(&revision) {
                Some(Known::Gives(info)) => Some(Arc::clone(info)),
                _ => self.gave.get(&member.address).cloned(),
            };
            used.push(revision);
            found.push(Found { member, info });
        }
        self.revisions.retain(|revision, known| matches!(known, Known::Asked) || used.contains(revision));
        self.gave = found
            .iter()
            .filter_map(|found| Some((found.member.address.clone(), Arc::clone(found.info.as_ref()?))))
            .collect();
        let settled = self.fetches.is_empty();
        self.tells.send_replace(AppsView {
            epoch,
            asked,
            gaps: slices.gaps.saturating_add(pods.gaps),
            trouble: None,
            settled,
            found: found.into(),
        });
        again
    }

    /// Has a revision asked for, unless it is known; when it is to be asked for again.
    fn fetch(&mut self, revision: &Revision, member: &Arc<Member>) -> Option<time::Instant> {
        match self.revisions.get(revision) {
            Some(Known::Asked | Known::Gives(_)) => return None,
            Some(Known::Missing(until)) if *until > time::Instant::now() => return Some(*until),
            Some(Known::Missing(_)) | None => {}
        }
        self.revisions.insert(revision.clone(), Known::Asked);
        let (shared, pace) = (Arc::clone(&self.shared), Arc::clone(&self.pace));
        let (revision, member) = (revision.clone(), Arc::clone(member));
        self.fetches.spawn(async move {
            let mut info = None;
            for attempt in 0..TRIES {
                if attempt > 0 {
                    time::sleep(BETWEEN_TRIES).await;
                }
                let permit = pace.acquire().await;
                info = told(&shared, &member).await;
                drop(permit);
                if info.is_some() {
                    break;
                }
            }
            (revision, info)
        });
        None
    }
}

/// As an instance tells it.
async fn told(shared: &Shared, member: &Member) -> Option<MetadataInfo> {
    let (asks, question) = (shared.settings.ask.as_ref()?, member.asks()?);
    time::timeout(CALL, asks.ask(question)).await.ok()?.ok()
}
