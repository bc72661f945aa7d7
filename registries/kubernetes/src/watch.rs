//! One watch: who gives a service, by the conventions of its framework.
//!
//! A watch is begun anew with each epoch of the link and whenever the server could not be asked. It must never tell a set that
//! was listed in part, nor one for which it is not clear which port is meant.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use outrigger_discovery::{End, Framework, Instance, Look, ServiceKey, Teller, formats::split};
use tokio::sync::watch;

use crate::{
    apps::{AppsView, NamespaceApps},
    feed::Subscription,
    link::{Hub, Shared, Up},
    plan::is_label,
    slices::{self, Slices},
};

/// Tells every change of the service, until nobody listens.
pub(crate) async fn follow(hub: Arc<Hub>, key: ServiceKey, teller: Teller) {
    let one = One { shared: Arc::clone(&hub.shared), key };
    outrigger_discovery::follow(hub.link(), teller, one).await;
}

/// One watch.
struct One {
    shared: Arc<Shared>,
    key: ServiceKey,
}

impl Look<Up> for One {
    type Stop = End;

    fn epoch(up: &Up) -> u64 {
        up.epoch
    }

    async fn look(&mut self, up: &Up, teller: &mut Teller) -> Result<Infallible, End> {
        look(&self.shared, up, &self.key, teller).await
    }
}

async fn look(
    shared: &Arc<Shared>,
    up: &Up,
    key: &ServiceKey,
    teller: &mut Teller,
) -> Result<Infallible, End> {
    match key.framework {
        Framework::Spring | Framework::Plain => plain(shared, up, key, teller).await,
        Framework::Dubbo => dubbo(shared, up, key, teller).await,
        Framework::Sofarpc => sofarpc(shared, up, key, teller).await,
    }
}

/// The Service and the namespace that a name means: `name`, `name.namespace`, or as the DNS of the cluster has it.
fn named<'a>(service: &'a str, own: &'a str) -> Option<(&'a str, &'a str)> {
    let mut parts = service.splitn(3, '.');
    let (name, namespace, rest) = (parts.next()?, parts.next().unwrap_or(own), parts.next());
    let by_dns = rest.is_none_or(|rest| rest == "svc" || rest.starts_with("svc."));
    (is_label(name) && (namespace == own || is_label(namespace)) && by_dns).then_some((name, namespace))
}

async fn plain(
    shared: &Arc<Shared>,
    up: &Up,
    key: &ServiceKey,
    teller: &mut Teller,
) -> Result<Infallible, End> {
    let Some((name, namespace)) = named(&key.service, &up.namespace) else {
        return Err(End::Trouble(format!(
            "{:?} is no name of a Service: name or name.namespace",
            key.service
        )));
    };
    let mut slices = Subscription::<Slices>::new(shared, namespace);
    let (mut asked, mut gaps) = (true, None);
    loop {
        let (view, fresh) = slices.fresh(up.epoch);
        if let Some(trouble) = view.trouble {
            return Err(End::Trouble(trouble.to_string()));
        }
        if fresh {
            missed(teller, &mut gaps, view.gaps);
            match slices::of_service(&view.items, name, key) {
                Ok(found) => say(teller, found, &mut asked),
                Err(unclear) => {
                    teller.lost(&unclear);
                    asked = true;
                }
            }
        }
        tokio::select! {
            changed = slices.view.changed() => ended(changed)?,
            doubt = teller.doubted() => { doubt?; asked = true; slices.ask(); }
        }
    }
}

async fn sofarpc(
    shared: &Arc<Shared>,
    up: &Up,
    key: &ServiceKey,
    teller: &mut Teller,
) -> Result<Infallible, End> {
    let mut slices = Subscription::<Slices>::new(shared, &up.namespace);
    let (mut asked, mut gaps) = (true, None);
    loop {
        let (view, fresh) = slices.fresh(up.epoch);
        if let Some(trouble) = view.trouble {
            return Err(End::Trouble(trouble.to_string()));
        }
        if fresh {
            missed(teller, &mut gaps, view.gaps);
            say(teller, slices::listed(&view.items, key), &mut asked);
        }
        tokio::select! {
            changed = slices.view.changed() => ended(changed)?,
            doubt = teller.doubted() => { doubt?; asked = true; slices.ask(); }
        }
    }
}

async fn dubbo(
    shared: &Arc<Shared>,
    up: &Up,
    key: &ServiceKey,
    teller: &mut Teller,
) -> Result<Infallible, End> {
    let mut slices = Subscription::<Slices>::new(shared, &up.namespace);
    let apps = shared.apps.open(shared, &up.namespace);
    let mut apps = AppsSubscription { view: apps.view(), apps, asked: 0 };
    let (mut asked, mut gaps) = (true, None);
    loop {
        let (view, fresh) = slices.fresh(up.epoch);
        let pods = apps.view.borrow_and_update().clone();
        if let Some(trouble) = view.trouble.or_else(|| pods.trouble.clone()) {
            return Err(End::Trouble(trouble.to_string()));
        }
        if fresh && pods.epoch >= up.epoch && pods.asked >= apps.asked {
            missed(teller, &mut gaps, view.gaps.saturating_add(pods.gaps));
            match together(slices::listed(&view.items, key), &pods, key) {
                Levels::Known(found) => say(teller, found, &mut asked),
                Levels::Open => {}
                Levels::Silent(app) => {
                    teller.lost(&format!("nobody tells what the application {app} gives"));
                    asked = true;
                }
            }
        }
        tokio::select! {
            changed = slices.view.changed() => ended(changed)?,
            changed = apps.view.changed() => ended(changed)?,
            doubt = teller.doubted() => {
                doubt?;
                asked = true;
                slices.ask();
                apps.asked = apps.apps.ask();
            }
        }
    }
}

struct AppsSubscription {
    apps: Arc<NamespaceApps>,
    view: watch::Receiver<AppsView>,
    /// The last question that it was asked.
    asked: u64,
}

/// What is known of an interface.
enum Levels {
    Known(Vec<Instance>),
    /// Not yet all that is needed to say it.
    Open,
    /// This application has it, perhaps, and nothing else does; but nobody tells what the application gives.
    Silent(String),
}

/// What slices of ours list, and what pods say by themselves; a pod for which a sidecar speaks is called where that says.
fn together(mut found: Vec<Instance>, pods: &AppsView, key: &ServiceKey) -> Levels {
    let spoken: BTreeSet<String> =
        found.iter().filter_map(|one| split(&one.address)).map(|(host, _)| host.to_owned()).collect();
    let mut unknown = None;
    for one in pods.found.iter() {
        let Some((host, _)) = split(&one.member.address) else { continue };
        if spoken.contains(host) {
            continue;
        }
        match &one.info {
            Some(info) => found.extend(info.instances(key, &one.member)),
            None => unknown = Some(one.member.app.clone()),
        }
    }
    match unknown {
        _ if !found.is_empty() => Levels::Known(found),
        _ if !pods.settled => Levels::Open,
        Some(app) => Levels::Silent(app),
        None => Levels::Known(found),
    }
}

/// Tells of changes that may have been missed.
fn missed(teller: &Teller, before: &mut Option<u64>, now: u64) {
    if before.replace(now).is_some_and(|before| before < now) {
        teller.lost("the API server did not keep the changes since the last watch");
    }
}

fn ended(changed: Result<(), watch::error::RecvError>) -> Result<(), End> {
    changed.map_err(|_| End::Trouble("what is watched is watched no more".to_owned()))
}

fn say(teller: &Teller, instances: Vec<Instance>, asked: &mut bool) {
    if std::mem::take(asked) { teller.answer(instances) } else { teller.tell(instances) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_as_dns_names_it() {
        assert_eq!(named("shop", "here"), Some(("shop", "here")));
        for name in ["shop.there", "shop.there.svc", "shop.there.svc.cluster.local"] {
            assert_eq!(named(name, "here"), Some(("shop", "there")), "{name}");
        }
        for bad in ["", ".", "Shop", "shop.", "shop.there.pod", "a_b", "com.example.Shop", "-a"] {
            assert_eq!(named(bad, "here"), None, "{bad}");
        }
    }
}
