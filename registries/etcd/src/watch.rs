//! One watch: who gives a service, by the conventions of its framework.
//!
//! A watch looks at the mirrors of its ranges and tells when all of them are as the server has them in this epoch. Of Dubbo's
//! two levels one is in force: the applications that have the interface, if they give at least one instance of it, and else
//! the interface's own directory; never both, since each provider stands in both. It must never tell a set that was read in part.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::poll_fn,
    sync::Arc,
    task::Poll,
};

use outrigger_discovery::{
    End, Framework, Instance, ServiceKey, Teller,
    formats::{BadEntry, application, dubbo},
};
use tokio::sync::watch;

use crate::{
    apps::{App, AppView},
    keys,
    mirror::{Mirror, Range},
    session::{Hub, Shared, Up},
    values,
};

/// How many applications one interface may be mapped to; those beyond are passed over.
const APPS_MAX: usize = 256;

/// Tells every change of the service, until nobody listens.
pub(crate) async fn follow(hub: Arc<Hub>, key: ServiceKey, teller: Teller) {
    let one = One { shared: Arc::clone(&hub.shared), key, looks: Looks::default() };
    outrigger_discovery::follow(hub.link(), teller, one).await;
}

/// One watch.
struct One {
    shared: Arc<Shared>,
    key: ServiceKey,
    looks: Looks,
}

impl outrigger_discovery::Look<Up> for One {
    type Stop = End;

    fn epoch(up: &Up) -> u64 {
        up.epoch
    }

    async fn look(&mut self, up: &Up, teller: &mut Teller) -> Result<Infallible, End> {
        look(&self.shared, up, &self.key, teller, &mut self.looks).await
    }
}

/// What one watch looks at. It outlives a gap, so that only what changed in it is asked for.
#[derive(Default)]
struct Looks {
    mirrors: Vec<Look>,
    apps: BTreeMap<String, Subscription>,
    /// Bad entries that were counted already.
    bad: BTreeSet<Vec<u8>>,
}

/// A range, and the last question about it.
struct Look {
    mirror: Arc<Mirror>,
    news: watch::Receiver<()>,
    asked: u64,
}

/// An application that a watch reads.
struct Subscription {
    app: Arc<App>,
    view: watch::Receiver<AppView>,
    asked: u64,
}

impl Looks {
    /// Looks at these, if it does not yet.
    fn open(&mut self, shared: &Shared, ranges: &[Range]) {
        if self.mirrors.is_empty() {
            self.mirrors.extend(ranges.iter().map(|range| {
                let mirror = shared.sight.open(range);
                Look { news: mirror.news(), mirror, asked: 0 }
            }));
        }
    }

    /// Whether all ranges are as the server has them since the epoch began, and since they were asked about.
    fn is_fresh(&mut self, epoch: u64) -> Result<bool, End> {
        let mut fresh = true;
        for Look { mirror, news, asked } in &mut self.mirrors {
            news.borrow_and_update();
            mirror.look(|state| {
                if let Some(trouble) = &state.trouble {
                    return Err(End::Trouble(trouble.to_string()));
                }
                fresh &= state.epoch == epoch && state.answered >= *asked;
                Ok(())
            })?;
        }
        Ok(fresh)
    }

    /// Has everything read anew.
    fn ask(&mut self) {
        for Look { mirror, asked, .. } in &mut self.mirrors {
            *asked = mirror.ask();
        }
        for Subscription { app, asked, .. } in self.apps.values_mut() {
            *asked = app.ask();
        }
    }

    /// Waits for a change of anything.
    async fn changed(&mut self) -> Result<(), End> {
        let mut mirrors: Vec<_> = self.mirrors.iter_mut().map(|one| Box::pin(one.news.changed())).collect();
        let mut apps: Vec<_> = self.apps.values_mut().map(|one| Box::pin(one.view.changed())).collect();
        let change = poll_fn(|context| {
            let of_mirrors = mirrors.iter_mut().map(|change| change.as_mut().poll(context));
            if let Some(ready) = of_mirrors.filter(Poll::is_ready).last() {
                return ready;
            }
            let of_apps = apps.iter_mut().map(|change| change.as_mut().poll(context));
            of_apps.filter(Poll::is_ready).last().unwrap_or(Poll::Pending)
        });
        change.await.map_err(|_| End::Trouble("an application is watched no more".to_owned()))
    }
}

async fn look(
    shared: &Arc<Shared>,
    up: &Up,
    key: &ServiceKey,
    teller: &mut Teller,
    looks: &mut Looks,
) -> Result<Infallible, End> {
    let keys = shared.keys.as_ref().map_err(|reason| End::Trouble((*reason).to_owned()))?;
    let unusable = || End::Trouble(format!("{:?} is no name in etcd", key.service));
    let looking = Looking { shared, up, key };
    match key.framework {
        Framework::Dubbo => {
            let named =
                (keys.providers(&key.service), keys.configurators(&key.service), keys.mapping(&key.service));
            let (Some(providers), Some(configurators), Some(mapping)) = named else { return Err(unusable()) };
            looks.open(shared, &[providers, configurators, Range::key(&mapping)]);
            looking.dubbo(teller, looks).await
        }
        Framework::Sofarpc | Framework::Spring | Framework::Plain => {
            let directory = keys::plain(key.framework, &key.service).ok_or_else(unusable)?;
            looks.open(shared, &[directory]);
            looking.plain(teller, looks).await
        }
    }
}

struct Looking<'a> {
    shared: &'a Arc<Shared>,
    up: &'a Up,
    key: &'a ServiceKey,
}

impl Looking<'_> {
    async fn plain(&self, teller: &mut Teller, looks: &mut Looks) -> Result<Infallible, End> {
        let mut asked = true;
        loop {
            if looks.is_fresh(self.up.epoch)? {
                let Looks { mirrors, bad, .. } = looks;
                let before = std::mem::take(bad);
                let all = mirrors.iter().flat_map(|one| {
                    self.list(&one.mirror, (&before, bad), |node, value, _| {
                        values::plain_instance(node, value).map(Some)
                    })
                });
                say(teller, self.admitted(all.collect()), &mut asked);
            }
            tokio::select! {
                changed = looks.changed() => changed?,
                doubt = teller.doubted() => { doubt?; asked = true; looks.ask(); }
            }
        }
    }

    async fn dubbo(&self, teller: &mut Teller, looks: &mut Looks) -> Result<Infallible, End> {
        let mut asked = true;
        loop {
            if looks.is_fresh(self.up.epoch)? {
                match self.levels(looks)? {
                    Levels::Known(all) => say(teller, all, &mut asked),
                    Levels::Open => {}
                    Levels::Silent(app) => {
                        // It is asked again, now and then, by its own task; whoever it is told to then has waited for an answer.
                        teller.lost(&format!("nobody tells what the application {app} gives"));
                        asked = true;
                    }
                }
            }
            tokio::select! {
                changed = looks.changed() => changed?,
                doubt = teller.doubted() => { doubt?; asked = true; looks.ask(); }
            }
        }
    }

    /// The instances of the level that is in force, as operators have them.
    fn levels(&self, looks: &mut Looks) -> Result<Levels, End> {
        let Looks { mirrors, apps, bad } = looks;
        let [providers, configurators, mapping] = &mirrors[..] else { return Ok(Levels::Open) };
        let (before, mut unread) = (std::mem::take(bad), BTreeSet::new());
        let names = self.list(&mapping.mirror, (&before, &mut unread), |_, value, _| {
            let text = std::str::from_utf8(value).map_err(|_| BadEntry("the mapping is no text"))?;
            Ok(Some(text.to_owned()))
        });
        self.map(apps, names.first().map_or("", String::as_str));
        let overrides =
            self.list(&configurators.mirror, (&before, &mut unread), |node, _, _| dubbo::override_of(node));
        let by_interface =
            self.list(&providers.mirror, (&before, bad), |node, _, last| dubbo::provider_like(last, node));
        bad.append(&mut unread);
        let known = |mut all: Vec<Instance>| {
            dubbo::apply(&overrides, &mut all);
            Levels::Known(all)
        };
        let Some(Told { instances, settled, unknown }) = self.told(apps)? else { return Ok(Levels::Open) };
        let by_application = self.admitted(instances);
        if !by_application.is_empty() {
            return Ok(known(by_application));
        }
        let by_interface = self.admitted(by_interface);
        Ok(match unknown {
            _ if !by_interface.is_empty() => known(by_interface),
            _ if !settled => Levels::Open,
            Some(app) => Levels::Silent(app),
            None => known(Vec::new()),
        })
    }

    /// Watches exactly the applications that have the interface.
    fn map(&self, apps: &mut BTreeMap<String, Subscription>, text: &str) {
        let names: BTreeSet<&str> = application::apps(text).into_iter().take(APPS_MAX).collect();
        apps.retain(|app, _| names.contains(app.as_str()));
        for app in names {
            if apps.contains_key(app) {
                continue;
            }
            let Some(directory) = keys::application(app) else { continue };
            let one = self.shared.apps.open(self.shared, &directory);
            apps.insert(app.to_owned(), Subscription { view: one.view(), app: one, asked: 0 });
        }
    }

    /// The entries of a directory that can be read; the others are counted, each once.
    fn list<T>(
        &self,
        mirror: &Mirror,
        (bad_before, bad): (&BTreeSet<Vec<u8>>, &mut BTreeSet<Vec<u8>>),
        parse: impl Fn(&str, &[u8], Option<&T>) -> Result<Option<T>, BadEntry>,
    ) -> Vec<T> {
        mirror.look(|state| {
            let mut all = Vec::with_capacity(state.entries.len());
            for (key, entry) in &state.entries {
                // A key without a last part marks the directory.
                let Some(node) = mirror.range.node(key) else { continue };
                let read = std::str::from_utf8(node).map_err(|_| BadEntry("the key is no text"));
                match read.and_then(|node| parse(node, &entry.value, all.last())) {
                    Ok(one) => all.extend(one),
                    Err(BadEntry(_)) => {
                        if !bad_before.contains(key) {
                            self.shared.status.unreadable();
                        }
                        bad.insert(key.clone());
                    }
                }
            }
            all
        })
    }

    fn admitted(&self, mut all: Vec<Instance>) -> Vec<Instance> {
        all.retain(|instance| self.key.admits(instance));
        all
    }

    /// What the applications give; `None`: one of them was not read since the epoch began, or since it was asked about.
    fn told(&self, apps: &mut BTreeMap<String, Subscription>) -> Result<Option<Told>, End> {
        let mut told = Told { instances: Vec::new(), settled: true, unknown: None };
        let mut fresh = true;
        for (name, Subscription { view, asked, .. }) in apps {
            let view = view.borrow_and_update();
            if let Some(trouble) = &view.trouble {
                return Err(End::Trouble(trouble.to_string()));
            }
            fresh &= view.epoch == self.up.epoch && view.answered >= *asked;
            told.settled &= view.settled;
            for (member, info) in view.found.iter() {
                match info {
                    Some(info) => told.instances.extend(info.instances(self.key, member)),
                    None => told.unknown = Some(name.clone()),
                }
            }
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

fn say(teller: &Teller, instances: Vec<Instance>, asked: &mut bool) {
    if std::mem::take(asked) { teller.answer(instances) } else { teller.tell(instances) }
}
