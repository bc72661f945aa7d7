//! The suite of every registry over a real etcd, which is killed and made to hang in turn.
//!
//! What is put in lives on no lease, so it is there again when the server is. Nothing here may depend on a sleep being long
//! enough for news to arrive.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use outrigger_discovery::{
    Framework, Instance, Registry,
    conformance::{self, Fixture, Writable},
    formats::{Url, dubbo, percent},
};
use outrigger_registry_etcd::{EtcdRegistry, values};

use support::{Server, gateway::Entry};

struct Servers {
    server: Server,
    registry: EtcdRegistry,
    turns: u32,
    hangs: bool,
}

impl Servers {
    async fn start() -> Self {
        let server = Server::start().await;
        let registry = server.registry();
        Self { server, registry, turns: 0, hangs: false }
    }
}

/// A provider as an operator would write it by hand: for good.
fn node(service: &str, instance: &Instance) -> String {
    let Instance { address, weight, version, group, metadata, .. } = instance;
    let mut params: BTreeMap<String, String> = metadata.clone().into();
    params.extend([("interface".to_owned(), service.to_owned()), ("dynamic".to_owned(), "false".to_owned())]);
    params.insert("weight".to_owned(), weight.to_string());
    let named = [("version", version), ("group", group)];
    params.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    let url = Url { protocol: "dubbo".into(), address: address.clone(), path: service.into(), params };
    percent::encode(&url.to_string())
}

impl Fixture for Servers {
    fn registry(&self) -> &dyn Registry {
        &self.registry
    }

    fn patience(&self) -> Duration {
        // A server that hangs is found out after nine seconds.
        Duration::from_secs(12)
    }

    async fn put(&mut self, service: &str, instances: &[Instance]) {
        let gateway = self.server.gateway();
        let directory = format!("/dubbo/{service}/providers/");
        let wanted: BTreeSet<String> = instances.iter().map(|instance| node(service, instance)).collect();
        for old in gateway.below(&directory) {
            if !wanted.contains(old.node()) {
                gateway.delete(&old.key);
            }
        }
        for new in wanted {
            gateway.put(&format!("{directory}{new}"), b"");
        }
    }

    async fn break_it(&mut self) {
        self.turns += 1;
        self.hangs = self.turns.is_multiple_of(2);
        if self.hangs {
            self.server.hang();
        } else {
            self.server.kill();
        }
    }

    async fn mend_it(&mut self) {
        if self.hangs {
            self.server.go_on();
        } else {
            self.server.restart().await;
        }
    }
}

impl Servers {
    fn entries(&self, framework: Framework, service: &str) -> Vec<Entry> {
        let directory = match framework {
            Framework::Dubbo => format!("/dubbo/{service}/providers/"),
            other => format!("/outrigger/{other}/{service}/"),
        };
        self.server.gateway().below(&directory)
    }
}

impl Writable for Servers {
    fn another(&self) -> Arc<dyn Registry> {
        Arc::new(self.server.registry())
    }

    async fn listed(&self, framework: Framework, service: &str) -> BTreeSet<String> {
        let mut addresses = BTreeSet::new();
        for entry in self.entries(framework, service) {
            let instance = match framework {
                Framework::Dubbo => dubbo::provider(entry.node()).expect("a provider").expect("a provider"),
                _ => values::plain_instance(entry.node(), &entry.value).expect("an instance"),
            };
            assert!(addresses.insert(instance.address), "each stands there once");
        }
        addresses
    }

    async fn vandalize(&mut self, framework: Framework, service: &str) {
        for entry in self.entries(framework, service) {
            self.server.gateway().delete(&entry.key);
        }
    }
}

#[tokio::test]
async fn the_suite_of_every_registry_holds() {
    conformance::run(&mut Servers::start().await).await;
}

#[tokio::test]
async fn what_is_registered_stays_so() {
    conformance::run_registering(&mut Servers::start().await, &Framework::ALL).await;
}

#[tokio::test]
async fn a_seat_has_one_holder_at_a_time() {
    conformance::run_electing(&mut Servers::start().await).await;
}
