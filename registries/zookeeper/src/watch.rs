//! One watch: who gives a service, by the conventions of its framework.
//!
//! A watch is begun anew with each epoch of the session and whenever the server could not be asked: new eyes first, then the
//! lists, so that nothing changes unseen in between. Of Dubbo's two levels one is in force: the applications that have the
//! interface, if they give at least one instance of it, and else the interface's own directory; never both, since each
//! provider stands in both. Who wants all that is written is told both levels together. It must never tell a set that was read
//! in part.

use std::{
    collections::BTreeMap, collections::BTreeSet, convert::Infallible, future::poll_fn, sync::Arc, task::Poll,
};

use outrigger_discovery::{
    Closed, End, Framework, Instance, Look, ServiceKey, Teller,
    formats::{BadEntry, application, dubbo, sofarpc},
};
use tokio::sync::watch;
use zookeeper_client::Error;

use crate::{
    apps::{App, AppView, Found},
    ask,
    eye::Eye,
    session::{Hub, Shared, Up, reason},
};

/// How many applications one interface may be mapped to; those beyond are passed over.
const APPS_MAX: usize = 256;

/// Tells every change of the service, until nobody listens.
pub(crate) async fn follow(hub: Arc<Hub>, key: ServiceKey, teller: Teller) {
    let one = One { shared: Arc::clone(&hub.shared), key, bad: BTreeSet::new() };
    outrigger_discovery::follow(hub.link(), teller, one).await;
}

/// One watch.
struct One {
    shared: Arc<Shared>,
    key: ServiceKey,
    /// Bad entries that were counted already.
    bad: BTreeSet<String>,
}

impl Look<Up> for One {
    type Stop = Stop;

    fn epoch(up: &Up) -> u64 {
        up.epoch
    }

    async fn look(&mut self, up: &Up, teller: &mut Teller) -> Result<Infallible, Stop> {
        look(&self.shared, up, &self.key, teller, &mut self.bad).await
    }
}

/// Why a watch cannot go on.
struct Stop(End);

impl From<Closed> for Stop {
    fn from(closed: Closed) -> Self {
        Self(closed.into())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        trouble(&reason(&error))
    }
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        stop.0
    }
}

fn trouble(reason: &str) -> Stop {
    Stop(End::Trouble(reason.to_owned()))
}

async fn look(
    shared: &Arc<Shared>,
    up: &Up,
    key: &ServiceKey,
    teller: &mut Teller,
    bad: &mut BTreeSet<String>,
) -> Result<Infallible, Stop> {
    let paths = shared.paths.as_ref().map_err(|reason| trouble(reason))?;
    let unusable = || trouble(&format!("{:?} is no name in ZooKeeper", key.service));
    let looking = Looking { shared, up, key };
    match key.framework {
        Framework::Dubbo => {
            let named = (
                paths.providers(&key.service),
                paths.configurators(&key.service),
                paths.mapping(&key.service),
            );
            let (Some(providers), Some(configurators), Some(mapping)) = named else { return Err(unusable()) };
            looking.dubbo(teller, bad, &Interface { providers, configurators, mapping }).await
        }
        Framework::Sofarpc => {
            let providers = paths.sofarpc_providers(&key.service).ok_or_else(unusable)?;
            looking.sofarpc(teller, bad, &providers).await
        }
        Framework::Spring | Framework::Plain => {
            let directory = paths.spring_application(&key.service).ok_or_else(unusable)?;
            looking.spring(teller, &directory).await
        }
    }
}

/// Where the nodes of an interface of Dubbo are.
struct Interface {
    providers: String,
    configurators: String,
    mapping: String,
}

struct Looking<'a> {
    shared: &'a Arc<Shared>,
    up: &'a Up,
    key: &'a ServiceKey,
}

impl Looking<'_> {
    async fn sofarpc(
        &self,
        teller: &mut Teller,
        bad: &mut BTreeSet<String>,
        providers: &str,
    ) -> Result<Infallible, Stop> {
        let permit = ask::permit(&self.shared.pace).await;
        let mut eye = Eye::on(&self.up.client, &self.up.sight, providers).await?;
        drop(permit);
        let mut asked = true;
        loop {
            let all = self.list(providers, |node, _| sofarpc::provider(node), bad).await?;
            say(teller, self.admitted(all), &mut asked);
            tokio::select! {
                changed = eye.changed() => drop(changed?),
                doubt = teller.doubted() => { doubt?; asked = true; }
            }
        }
    }

    async fn spring(&self, teller: &mut Teller, directory: &str) -> Result<Infallible, Stop> {
        let mut apps = BTreeMap::from([(String::new(), self.subscribe(directory))]);
        let mut asked = true;
        loop {
            let told = self.told(&mut apps, |found| match found {
                Found::Spring(instance) => vec![Instance::clone(instance)],
                Found::Dubbo(..) => Vec::new(),
            })?;
            if let Some(told) = told {
                say(teller, self.admitted(told.instances), &mut asked);
            }
            tokio::select! {
                changed = changed(&mut apps) => changed?,
                doubt = teller.doubted() => { doubt?; asked = true; ask_all(&mut apps); }
            }
        }
    }

    async fn dubbo(
        &self,
        teller: &mut Teller,
        bad: &mut BTreeSet<String>,
        interface: &Interface,
    ) -> Result<Infallible, Stop> {
        let Up { client, sight, .. } = self.up;
        let permit = ask::permit(&self.shared.pace).await;
        let mut providers = Eye::on(client, sight, &interface.providers).await?;
        let mut configurators = Eye::on(client, sight, &interface.configurators).await?;
        let mut mapping = Eye::on(client, sight, &interface.mapping).await?;
        drop(permit);
        let (mut unread, mut unmapped) = (BTreeSet::new(), BTreeSet::new());
        let mut overrides =
            self.list(&interface.configurators, |node, _| dubbo::override_of(node), &mut unread).await?;
        let mut apps = BTreeMap::new();
        self.map(&mut apps, &interface.mapping, &mut unmapped).await?;
        let mut asked = true;
        loop {
            match self.levels(&mut apps, bad, &interface.providers, teller.wants_all()).await? {
                Levels::Known(mut all) => {
                    dubbo::apply(&overrides, &mut all);
                    say(teller, all, &mut asked);
                }
                Levels::Open => {}
                Levels::Silent(app) => {
                    // It is asked again, now and then, by its own task; whoever it is told to then has waited for an answer.
                    teller.lost(&format!("nobody tells what the application {app} gives"));
                    asked = true;
                }
            }
            tokio::select! {
                changed = providers.changed() => drop(changed?),
                changed = configurators.changed() => {
                    changed?;
                    overrides = self.list(&interface.configurators, |node, _| dubbo::override_of(node), &mut unread).await?;
                }
                changed = mapping.changed() => {
                    changed?;
                    self.map(&mut apps, &interface.mapping, &mut unmapped).await?;
                }
                changed = changed(&mut apps) => changed?,
                doubt = teller.doubted() => {
                    doubt?;
                    asked = true;
                    overrides = self.list(&interface.configurators, |node, _| dubbo::override_of(node), &mut unread).await?;
                    self.map(&mut apps, &interface.mapping, &mut unmapped).await?;
                    ask_all(&mut apps);
                }
            }
        }
    }

    /// The instances of the level that is in force, or of `both`.
    async fn levels(
        &self,
        apps: &mut BTreeMap<String, Subscription>,
        bad: &mut BTreeSet<String>,
        providers: &str,
        both: bool,
    ) -> Result<Levels, Stop> {
        let told = self.told(apps, |found| match found {
            Found::Dubbo(member, Some(info)) => info.instances(self.key, member),
            Found::Dubbo(_, None) | Found::Spring(_) => Vec::new(),
        })?;
        let Some(Told { instances, settled, unknown }) = told else { return Ok(Levels::Open) };
        let mut all = self.admitted(instances);
        if both && !settled {
            return Ok(Levels::Open);
        }
        if both || all.is_empty() {
            // Of those that stand at both levels the first counts, as its application says it.
            let by_interface =
                self.list(providers, |node, last| dubbo::provider_like(last, node), bad).await?;
            all.extend(self.admitted(by_interface));
        }
        Ok(match unknown {
            _ if !all.is_empty() => Levels::Known(all),
            _ if !settled => Levels::Open,
            Some(app) => Levels::Silent(app),
            None => Levels::Known(Vec::new()),
        })
    }

    /// Reads which applications have the interface, and watches exactly these. What cannot be read is counted, once as long as
    /// it stays.
    async fn map(
        &self,
        apps: &mut BTreeMap<String, Subscription>,
        mapping: &str,
        bad: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        let permit = ask::permit(&self.shared.pace).await;
        let text = ask::read(&self.up.client, mapping).await?.unwrap_or_default();
        drop(permit);
        let Ok(text) = std::str::from_utf8(&text) else {
            if bad.insert(mapping.to_owned()) {
                self.shared.status.unreadable();
            }
            return Ok(());
        };
        let names: BTreeSet<&str> = application::apps(text).into_iter().take(APPS_MAX).collect();
        apps.retain(|app, _| names.contains(app.as_str()));
        bad.retain(|app| names.contains(app.as_str()));
        for app in names {
            let directory = self.shared.paths.as_ref().ok().and_then(|paths| paths.application(app));
            match directory {
                Some(directory) => {
                    apps.entry(app.to_owned()).or_insert_with(|| self.subscribe(&directory));
                }
                None if bad.insert(app.to_owned()) => self.shared.status.unreadable(),
                None => {}
            }
        }
        Ok(())
    }

    /// The entries of a directory that can be read, each read beside the one before; the others are counted, each once.
    async fn list<T>(
        &self,
        directory: &str,
        parse: impl Fn(&str, Option<&T>) -> Result<Option<T>, BadEntry>,
        bad: &mut BTreeSet<String>,
    ) -> Result<Vec<T>, Error> {
        let permit = ask::permit(&self.shared.pace).await;
        let nodes = ask::list(&self.up.client, directory).await?;
        drop(permit);
        self.shared.status.heard();
        let mut still_bad = BTreeSet::new();
        let mut all = Vec::with_capacity(nodes.len());
        for node in nodes {
            match parse(&node, all.last()) {
                Ok(one) => all.extend(one),
                Err(BadEntry(_)) => {
                    if !bad.contains(&node) {
                        self.shared.status.unreadable();
                    }
                    still_bad.insert(node);
                }
            }
        }
        *bad = still_bad;
        Ok(all)
    }

    fn admitted(&self, mut all: Vec<Instance>) -> Vec<Instance> {
        all.retain(|instance| self.key.admits(instance));
        all
    }

    fn subscribe(&self, directory: &str) -> Subscription {
        let app = self.shared.apps.open(self.shared, directory);
        Subscription { view: app.view(), app, asked: 0 }
    }

    /// What the applications give; `None`: one of them was not listed since the session changed, or since it was asked.
    fn told(
        &self,
        apps: &mut BTreeMap<String, Subscription>,
        instances: impl Fn(&Found) -> Vec<Instance>,
    ) -> Result<Option<Told>, Stop> {
        let mut told = Told { instances: Vec::new(), settled: true, unknown: None };
        let mut fresh = true;
        for (name, Subscription { view, asked, .. }) in apps {
            let view = view.borrow_and_update();
            if let Some(trouble) = &view.trouble {
                return Err(self::trouble(trouble));
            }
            fresh &= view.epoch >= self.up.epoch && view.asked >= *asked;
            told.settled &= view.settled;
            if view.found.iter().any(|found| matches!(found, Found::Dubbo(_, None))) {
                told.unknown = Some(name.clone());
            }
            told.instances.extend(view.found.iter().flat_map(&instances));
        }
        Ok(fresh.then_some(told))
    }
}

/// What is known of an interface.
enum Levels {
    Known(Vec<Instance>),
    /// Not yet all that is needed to say it.
    Open,
    /// This application has it, perhaps, and nothing else does; but nobody tells what the application gives.
    Silent(String),
}

/// What applications give.
struct Told {
    instances: Vec<Instance>,
    settled: bool,
    /// An application with a member of which it is not known what it gives.
    unknown: Option<String>,
}

/// An application that a watch reads.
struct Subscription {
    app: Arc<App>,
    view: watch::Receiver<AppView>,
    /// The last question that it was asked.
    asked: u64,
}

fn ask_all(apps: &mut BTreeMap<String, Subscription>) {
    for Subscription { app, asked, .. } in apps.values_mut() {
        *asked = app.ask();
    }
}

/// Waits for a change of any of the applications.
async fn changed(apps: &mut BTreeMap<String, Subscription>) -> Result<(), Stop> {
    let mut changes: Vec<_> = apps.values_mut().map(|one| Box::pin(one.view.changed())).collect();
    let change = poll_fn(|context| {
        let ready = changes.iter_mut().map(|change| change.as_mut().poll(context)).find(Poll::is_ready);
        ready.unwrap_or(Poll::Pending)
    });
    change.await.map_err(|_| trouble("an application is watched no more"))
}

fn say(teller: &Teller, instances: Vec<Instance>, asked: &mut bool) {
    if std::mem::take(asked) { teller.answer(instances) } else { teller.tell(instances) }
}
