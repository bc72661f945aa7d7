//! Nacos as a registry, by a small client of its own for the gRPC protocol of Nacos 2 (and 3).
//!
//! One connection carries all watches, registrations and questions. What is registered lives as long as the connection, so
//! after each new one all of it is written again and all of it is read again. Nothing connects before somebody asks for
//! something. It must never take trouble for an empty list, nor leave anything behind that nobody desires any more.
//! Source: `nacos-api`, `nacos-client` and `nacos-naming` 2.2.4.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod apps;
mod client;
mod configs;
mod ledger;
mod login;
mod message;
mod names;
mod pace;
mod session;
mod supervisor;
mod watch;
mod wire;
mod write;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use outrigger_discovery::{
    Answering, Desired, Framework, Registration, Registry, ServiceKey, Status, Teller, Watching,
    formats::application::AskMetadata,
};

use client::Client;

/// How often what is registered is read back where nothing else is said.
const RECONCILE: Duration = Duration::from_secs(60);
/// The group of services where nothing else is said.
const GROUP: &str = "DEFAULT_GROUP";

/// Where Nacos is, and what we are there.
#[derive(Clone)]
pub struct Settings {
    /// `host:port` of HTTP of each server; gRPC is 1000 ports above.
    pub servers: Vec<String>,
    /// The namespace; `None`: the public one, and `sofa-rpc` for SOFARPC.
    pub namespace: Option<String>,
    /// The group of services.
    pub group: String,
    /// Name and password, if Nacos wants them.
    pub user: Option<(String, String)>,
    /// How often what is registered is read back; new names of services are looked for four times as often, and at least
    /// every 15 s.
    pub reconcile: Duration,
    /// Who asks instances of Dubbo 3's applications what they serve; `None`: only what Nacos itself knows of that counts.
    pub ask: Option<Arc<dyn AskMetadata>>,
}

impl Settings {
    /// These servers, and the defaults of everything else.
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            namespace: None,
            group: GROUP.to_owned(),
            user: None,
            reconcile: RECONCILE,
            ask: None,
        }
    }
}

/// Without the password.
impl fmt::Debug for Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, namespace, group, user, reconcile, ask: _ } = self;
        out.debug_struct("Settings")
            .field("servers", servers)
            .field("namespace", namespace)
            .field("group", group)
            .field("user", &user.as_ref().map(|(name, _)| name))
            .field("reconcile", reconcile)
            .finish_non_exhaustive()
    }
}

/// Nacos as a registry. Nothing is connected to before the first watch, registration or question runs.
pub fn open(settings: Settings) -> NacosRegistry {
    NacosRegistry { client: Client::new(settings) }
}

/// A Nacos; its clones and all its watches and registrations share one connection.
#[derive(Clone, Debug)]
pub struct NacosRegistry {
    client: Arc<Client>,
}

impl Registry for NacosRegistry {
    fn name(&self) -> &'static str {
        "nacos"
    }

    fn watch(&self, key: ServiceKey, teller: Teller) -> Watching {
        let client = Arc::clone(&self.client);
        Box::pin(async move { watch::follow(&client, &key, teller).await })
    }

    fn register(&self, desired: Desired) -> Watching {
        let client = Arc::clone(&self.client);
        Box::pin(async move { write::keep(&client, desired).await })
    }

    fn services(&self, framework: Framework) -> Answering<Vec<String>> {
        let client = Arc::clone(&self.client);
        Box::pin(async move {
            let session = client.now().await?;
            let namespace = client.settings.namespace_of(framework).to_owned();
            let names =
                client.names(&session, &namespace, Duration::ZERO).await.map_err(|failed| failed.why)?;
            let mut services: Vec<String> =
                names.iter().filter_map(|name| names::service(framework, name)).collect();
            services.sort();
            services.dedup();
            Ok(services)
        })
    }

    fn refuses(&self, registration: &Registration) -> Option<String> {
        names::refusal(registration).map(str::to_owned)
    }

    /// The server takes away what a connection registered as soon as that is gone.
    fn lingers(&self) -> bool {
        false
    }

    fn status(&self) -> Status {
        self.client.status()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let client = Arc::clone(&self.client);
        Box::pin(async move { client.close().await })
    }
}
