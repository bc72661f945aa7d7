//! Kubernetes as a registry: Services are found by their `EndpointSlice`s, and what is registered is written into slices of our own.
//!
//! All watches and registrations of a registry share one client, one list-and-watch of the slices of a namespace and, where a
//! service of Dubbo is watched, one of its pods. A client that gets no answer is given up, the watches say why they are lost,
//! the last good sets stay, and everything is listed again with the next client. Each question has five seconds.
//!
//! | framework | found in | made known in |
//! |---|---|---|
//! | Spring Cloud, or none | the slices of the Service `name` or `name.namespace` | a slice of ours of the Service |
//! | Dubbo | slices of ours that list the interface; else pods with Dubbo's annotation `io.dubbo/metadata` | a slice of ours of the Service of its application |
//! | SOFARPC | slices of ours that list the interface | the same |
//!
//! SOFARPC's own registry for Kubernetes writes annotations whose names no API server takes (`:` and `@` in them), so there is
//! nothing of it to read. Source: the API conventions and `EndpointSlice`, `Lease` and `Service` of Kubernetes 1.34,
//! `KubernetesServiceDiscovery` of dubbo-spi-extensions, `KubernetesRegistry` of sofa-rpc 5.14; the client is that of the crate
//! `kube`, its watching our own.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod apps;
mod elect;
mod entry;
mod feed;
mod ledger;
mod link;
mod merge;
mod plan;
mod pods;
mod ports;
mod slices;
mod watch;
mod write;

use std::{collections::BTreeSet, fmt, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use outrigger_discovery::{
    Answering, Candidate, Desired, Framework, Registration, Registry, ServiceKey, Status, Teller, Watching,
    formats::application::AskMetadata,
};
use tokio::time;

use link::{CALL, Hub, Link};

pub use plan::expressible;

/// Where a registry is, and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// A kubeconfig file; `None`: the one that `KUBECONFIG` names or the user has, and else the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; `None`: its current one.
    pub context: Option<String>,
    /// The namespace; `None`: that of the context or of the pod.
    pub namespace: Option<String>,
    /// The pod that this process runs in; `None`: in none.
    pub pod: Option<Pod>,
    /// How often a server that seems well is asked whether it is.
    pub probe: Duration,
    /// How long one watch lasts before it is begun anew: a server that stopped telling without a word is left by then.
    pub watch: Duration,
    /// How often it is said in slices that go with no pod that somebody keeps them. What was not said for three times as long
    /// is read no more, and for ten times as long is deleted.
    pub beat: Duration,
    /// How often what is registered is looked after though nothing seems wrong.
    pub reconcile: Duration,
    /// Who asks an instance of Dubbo what it gives; `None`: nobody does.
    pub ask: Option<Arc<dyn AskMetadata>>,
}

/// A pod, as the downward API tells of it. What is missing is asked of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uid: Option<String>,
    /// Its addresses.
    pub ips: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            namespace: None,
            pod: None,
            probe: Duration::from_secs(10),
            watch: Duration::from_secs(60),
            beat: Duration::from_secs(30),
            reconcile: Duration::from_secs(60),
            ask: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kubeconfig, context, namespace, pod, probe, watch, beat, reconcile, ask } = self;
        out.debug_struct("Settings")
            .field("kubeconfig", kubeconfig)
            .field("context", context)
            .field("namespace", namespace)
            .field("pod", pod)
            .field("probe", probe)
            .field("watch", watch)
            .field("beat", beat)
            .field("reconcile", reconcile)
            .field("ask", &ask.is_some())
            .finish()
    }
}

/// The registry that these settings lead to. Nothing is asked before something of it runs.
pub fn open(settings: Settings) -> KubernetesRegistry {
    KubernetesRegistry { hub: Arc::new(Hub::new(settings)) }
}

/// A registry in Kubernetes; its clones, watches and registrations share one client, which ends with the last of them.
#[derive(Clone)]
pub struct KubernetesRegistry {
    hub: Arc<Hub>,
}

impl fmt::Debug for KubernetesRegistry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("KubernetesRegistry").field(&self.hub.shared.settings).finish()
    }
}

impl Registry for KubernetesRegistry {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn watch(&self, key: ServiceKey, teller: Teller) -> Watching {
        Box::pin(watch::follow(Arc::clone(&self.hub), key, teller))
    }

    fn register(&self, desired: Desired) -> Watching {
        Box::pin(write::keep(Arc::clone(&self.hub), desired))
    }

    /// Of its own namespace. Of Spring's and plain services all are named that have slices which say anything of them.
    fn services(&self, framework: Framework) -> Answering<Vec<String>> {
        Box::pin(services(Arc::clone(&self.hub), framework))
    }

    fn elect(&self, candidate: Candidate) -> Option<Watching> {
        Some(Box::pin(elect::stand(Arc::clone(&self.hub), candidate)))
    }

    fn refuses(&self, registration: &Registration) -> Option<String> {
        expressible(registration).err()
    }

    fn status(&self) -> Status {
        self.hub.shared.status.get()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let hub = Arc::clone(&self.hub);
        Box::pin(async move { hub.close().await })
    }
}

async fn services(hub: Arc<Hub>, framework: Framework) -> Result<Vec<String>, String> {
    match time::timeout(CALL, named(&hub, framework)).await {
        Ok(names) => names,
        Err(_) => Err("the server does not answer".to_owned()),
    }
}

async fn named(hub: &Hub, framework: Framework) -> Result<Vec<String>, String> {
    let mut link = hub.link();
    let up = {
        let known = link.wait_for(|link| !matches!(link, Link::New)).await;
        match known.as_deref() {
            Ok(Link::Up(up)) => up.clone(),
            Ok(Link::Down(reason)) => return Err(reason.to_string()),
            Ok(Link::New | Link::Closed) | Err(_) => return Err("the registry was closed".to_owned()),
        }
    };
    let mut names = BTreeSet::new();
    let slices = hub.shared.slices.open(&hub.shared, &up.namespace);
    let mut view = slices.view();
    let listed = view.wait_for(|view| view.epoch >= up.epoch || view.trouble.is_some()).await;
    let listed = listed.map_err(|_| "the registry was closed".to_owned())?.clone();
    if let Some(trouble) = listed.trouble {
        return Err(trouble.to_string());
    }
    for slice in listed.items.values() {
        names.extend(slice.services(framework).map(str::to_owned));
    }
    if framework == Framework::Dubbo {
        let apps = hub.shared.apps.open(&hub.shared, &up.namespace);
        let mut view = apps.view();
        let settled =
            |view: &apps::AppsView| view.epoch >= up.epoch && view.settled || view.trouble.is_some();
        if let Ok(view) = view.wait_for(settled).await {
            let infos = view.found.iter().filter_map(|found| found.info.as_ref());
            names.extend(infos.flat_map(|info| info.services().map(|service| service.name.clone())));
        }
    }
    Ok(names.into_iter().collect())
}
