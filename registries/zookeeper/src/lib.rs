//! `ZooKeeper` as a registry: services of Dubbo, SOFARPC and Spring Cloud are found and made known there.
//!
//! All watches and registrations of a registry share one session, which is made when the first of them runs and made anew
//! when it expires. Each session and each reconnection begins an epoch: everything is listed again then, because events of
//! the gap are lost, and everything of ours is put in its place again. A server that is gone or silent must never hold up
//! anything else: each question has five seconds, the watches say why they are lost, and the last good sets stay.
//!
//! | framework | found at | made known at |
//! |---|---|---|
//! | Dubbo, interface | `/dubbo/<interface>/{providers,configurators}` | `/dubbo/<interface>/providers/<url>` |
//! | Dubbo 3, application | `/dubbo/mapping/<interface>`, `/services/<app>/*`, `/dubbo/metadata/<app>/<revision>` | the same |
//! | SOFARPC | `/sofa-rpc/<interface>/providers` | the same |
//! | Spring Cloud, or none | `/services/<app>/*` | the same, under an id |
//!
//! Servers from 3.6 on tell changes at once; those of 3.5 have no such watches and are asked every five seconds. Older ones are
//! not written to. The conventions are those that were seen in the trees that real frameworks wrote; the connection is that of
//! the crate `zookeeper-client`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod apps;
mod ask;
mod elect;
mod eye;
mod paths;
mod plan;
mod register;
mod session;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use outrigger_discovery::{
    Answering, Candidate, Desired, Framework, Registration, Registry, ServiceKey, Status, Teller, Watching,
    formats::{application::AskMetadata, percent},
};
use tokio::time;

use paths::BESIDE_INTERFACES;
use session::{CALL, Hub, Link};

/// Where a registry is, and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// The servers, each `host:port`.
    pub servers: Vec<String>,
    /// The path below which everything stands; `None`: the root. It is made if something is registered and it is not there.
    pub chroot: Option<String>,
    /// The root of Dubbo, `dubbo` by its own default.
    pub group: String,
    /// A name and a password of the scheme `digest`; with them only the same name may change what is registered.
    pub auth: Option<(String, String)>,
    /// How long the server keeps what is registered without hearing from us; the server has bounds of its own for it.
    pub session_timeout: Duration,
    /// How often what is registered is looked after though nothing seems wrong, and how long a revision of an application
    /// that cannot be had is left in peace; a second at least.
    pub reconcile: Duration,
    /// Who asks an instance of Dubbo what it gives, where the registry does not have it; `None`: nobody does.
    pub ask: Option<Arc<dyn AskMetadata>>,
}

impl fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, chroot, group, auth, session_timeout, reconcile, ask } = self;
        out.debug_struct("Settings")
            .field("servers", servers)
            .field("chroot", chroot)
            .field("group", group)
            .field("auth", &auth.as_ref().map(|(name, _)| name))
            .field("session_timeout", session_timeout)
            .field("reconcile", reconcile)
            .field("ask", &ask.is_some())
            .finish()
    }
}

/// The registry at these servers. Nothing is asked before something of it runs.
pub fn open(settings: Settings) -> ZooKeeperRegistry {
    ZooKeeperRegistry { hub: Arc::new(Hub::new(settings)) }
}

/// A registry in `ZooKeeper`; its clones, watches and registrations share one session, which ends with the last of them.
#[derive(Clone)]
pub struct ZooKeeperRegistry {
    hub: Arc<Hub>,
}

impl fmt::Debug for ZooKeeperRegistry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("ZooKeeperRegistry").field(&self.hub.shared.settings).finish()
    }
}

impl Registry for ZooKeeperRegistry {
    fn name(&self) -> &'static str {
        "zookeeper"
    }

    fn watch(&self, key: ServiceKey, teller: Teller) -> Watching {
        Box::pin(watch::follow(Arc::clone(&self.hub), key, teller))
    }

    fn register(&self, desired: Desired) -> Watching {
        Box::pin(register::keep(Arc::clone(&self.hub), desired))
    }

    /// Of Spring's applications also those are named that only Dubbo has, and of Dubbo's interfaces also applications written in
    /// Go: they stand in one place, and only each one's own nodes could tell.
    fn services(&self, framework: Framework) -> Answering<Vec<String>> {
        Box::pin(services(Arc::clone(&self.hub), framework))
    }

    fn elect(&self, candidate: Candidate) -> Option<Watching> {
        Some(Box::pin(elect::stand(Arc::clone(&self.hub), candidate)))
    }

    fn refuses(&self, registration: &Registration) -> Option<String> {
        let paths = self.hub.shared.paths.as_ref().ok()?;
        let plan = plan::Plan::of(std::slice::from_ref(registration), paths);
        plan.refused.into_iter().next().map(|why| why.rsplit(": ").next().unwrap_or(&why).to_owned())
    }

    fn status(&self) -> Status {
        self.hub.shared.status.get()
    }

    fn close(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        let hub = Arc::clone(&self.hub);
        Box::pin(async move { hub.close().await })
    }
}

async fn services(hub: Arc<Hub>, framework: Framework) -> Result<Vec<String>, String> {
    let paths = hub.shared.paths.as_ref().map_err(|reason| (*reason).to_owned())?;
    let mut link = hub.link();
    let connected = link.wait_for(|link| !matches!(link, Link::New));
    let up = match time::timeout(CALL, connected).await {
        Ok(Ok(link)) => match &*link {
            Link::Up(up) => up.clone(),
            Link::Down(reason) => return Err(reason.to_string()),
            Link::New | Link::Closed => return Err("the registry was closed".to_owned()),
        },
        _ => return Err("the server does not answer".to_owned()),
    };
    let list = async |path: &str| ask::list(&up.client, path).await.map_err(|error| session::reason(&error));
    let mut names = match framework {
        Framework::Dubbo => {
            let mut names = list(paths.dubbo()).await?;
            names.retain(|name| !BESIDE_INTERFACES.contains(&name.as_str()));
            let mut names: Vec<String> = names.iter().filter_map(|name| percent::decode(name)).collect();
            names.extend(list(&paths.mappings()).await?);
            names
        }
        Framework::Sofarpc => list(&paths.sofarpc()).await?,
        Framework::Spring | Framework::Plain => list(&paths.spring()).await?,
    };
    names.sort();
    names.dedup();
    Ok(names)
}
