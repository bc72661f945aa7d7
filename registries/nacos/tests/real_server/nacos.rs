//! What the suite of every registry needs: a real server whose instances are put by HTTP, and that is broken in turn by a
//! crash and by hanging.
//!
//! Instances are put as those of clients of Nacos 1 that will be heard of again in an hour. A server that crashed knows them
//! no more: they are put again, as their clients would.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use outrigger_discovery::{
    Framework, Instance, Registry,
    conformance::{Fixture, Writable},
};
use outrigger_registry_nacos::{NacosRegistry, Settings, open};
use serde_json::{Value, json};
use tokio::time;

use crate::server::{ADDRESS, Server, ask};

/// What was put: by name, address and port, what is told of it.
type Put = BTreeMap<(String, String, String), String>;

pub(crate) struct Nacos {
    pub(crate) server: Server,
    pub(crate) registry: NacosRegistry,
    services: BTreeMap<String, Put>,
    patience: Duration,
    frozen: bool,
    turns: u32,
}

/// Settings for the server, by which everything is looked at often.
pub(crate) fn settings() -> Settings {
    Settings { reconcile: Duration::from_secs(2), ..Settings::new(vec![ADDRESS.to_owned()]) }
}

impl Nacos {
    /// `patience`: how long news may take.
    pub(crate) async fn start(patience: Duration) -> Self {
        let server = Server::start().await;
        let registry = open(settings());
        Self { server, registry, services: BTreeMap::new(), patience, frozen: false, turns: 0 }
    }
}

impl Fixture for Nacos {
    fn registry(&self) -> &dyn Registry {
        &self.registry
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    async fn put(&mut self, service: &str, instances: &[Instance]) {
        let wanted: Put = instances.iter().map(|instance| line(service, instance)).collect();
        let before = self.services.insert(service.to_owned(), wanted.clone()).unwrap_or_default();
        for (place, metadata) in
            wanted.iter().filter(|(place, metadata)| before.get(*place) != Some(*metadata))
        {
            change("POST", place, metadata).await;
        }
        for (place, metadata) in before.iter().filter(|(place, _)| !wanted.contains_key(*place)) {
            change("DELETE", place, metadata).await;
        }
    }

    async fn break_it(&mut self) {
        self.turns += 1;
        self.frozen = self.turns.is_multiple_of(2);
        if self.frozen {
            self.server.freeze();
        } else {
            self.server.kill();
        }
    }

    async fn mend_it(&mut self) {
        if self.frozen {
            self.server.thaw();
        } else {
            self.server.run().await;
            for (place, metadata) in self.services.values().flatten() {
                change("POST", place, metadata).await;
            }
        }
    }
}

/// An instance as Dubbo writes it.
fn line(service: &str, instance: &Instance) -> ((String, String, String), String) {
    let (ip, port) = instance.address.rsplit_once(':').expect("a port");
    let of = |part: &Option<String>| part.clone().unwrap_or_default();
    let name = format!("providers:{service}:{}:{}", of(&instance.version), of(&instance.group));
    let mut metadata = instance.metadata.clone();
    for (key, value) in [
        ("interface", service.to_owned()),
        ("protocol", "dubbo".to_owned()),
        ("category", "providers".to_owned()),
        ("version", of(&instance.version)),
        ("group", of(&instance.group)),
        ("weight", instance.weight.to_string()),
        ("preserved.heart.beat.timeout", "3600000".to_owned()),
        ("preserved.ip.delete.timeout", "3600000".to_owned()),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    ((name, ip.to_owned(), port.to_owned()), json!(*metadata).to_string())
}

async fn change(method: &str, (name, ip, port): &(String, String, String), metadata: &str) {
    let query = [
        ("serviceName", name.as_str()),
        ("ip", ip),
        ("port", port),
        ("ephemeral", "true"),
        ("metadata", metadata),
    ];
    ask(method, "/v1/ns/instance", &query).await;
}

impl Writable for Nacos {
    fn another(&self) -> Arc<dyn Registry> {
        Arc::new(open(settings()))
    }

    async fn listed(&self, framework: Framework, service: &str) -> BTreeSet<String> {
        let (name, namespace) = match framework {
            Framework::Dubbo => (format!("providers:{service}:1.0.0:"), "public"),
            Framework::Sofarpc => (format!("{service}:DEFAULT"), "sofa-rpc"),
            Framework::Spring | Framework::Plain => (service.to_owned(), "public"),
        };
        listed(namespace, &name).await
    }

    /// What a connection has registered cannot be taken away over another one; an operator can send the connection away.
    async fn vandalize(&mut self, _: Framework, _: &str) {
        let before = connections().await;
        assert!(!before.is_empty());
        for id in &before {
            ask("GET", "/v2/core/loader/reloadClient", &[("connectionId", id)]).await;
        }
        while !connections().await.is_disjoint(&before) {
            time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The addresses under a name, asked of the server by HTTP.
pub(crate) async fn listed(namespace: &str, name: &str) -> BTreeSet<String> {
    let answer =
        ask("GET", "/v1/ns/instance/list", &[("serviceName", name), ("namespaceId", namespace)]).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let hosts = answer["hosts"].as_array().cloned().unwrap_or_default();
    let address = |host: &Value| format!("{}:{}", host["ip"].as_str().expect("an ip"), host["port"]);
    let addresses: BTreeSet<String> = hosts.iter().map(address).collect();
    assert_eq!(addresses.len(), hosts.len(), "each stands there once: {hosts:#?}");
    addresses
}

/// The ids of all connections that the server has.
async fn connections() -> BTreeSet<String> {
    let answer = ask("GET", "/v2/core/loader/current", &[]).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    answer.as_object().expect("connections by id").keys().cloned().collect()
}
