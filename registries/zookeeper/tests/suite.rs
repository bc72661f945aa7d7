//! The suite of every registry over a real `ZooKeeper`, which is killed and made to hang in turn.
//!
//! What is put in belongs to nobody's session, so it is there again when the server is. Nothing here may depend on a sleep
//! being long enough for news to arrive.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use outrigger_discovery::{
    Framework, Instance, Registry,
    conformance::{self, Fixture, Writable},
    formats::{Url, curator, dubbo, percent, sofarpc},
};
use outrigger_registry_zookeeper::ZooKeeperRegistry;

use support::{Server, names, write};

struct Servers {
    server: Server,
    registry: ZooKeeperRegistry,
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
    let mut params = metadata.clone();
    params.extend([("interface".to_owned(), service.to_owned()), ("dynamic".to_owned(), "false".to_owned())]);
    params.insert("weight".to_owned(), weight.to_string());
    let named = [("version", version), ("group", group)];
    params.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    let url = Url {
        protocol: "dubbo".into(),
        address: address.clone(),
        path: service.into(),
        params: params.into(),
    };
    percent::encode(&url.to_string())
}

impl Fixture for Servers {
    fn registry(&self) -> &dyn Registry {
        &self.registry
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(8)
    }

    async fn put(&mut self, service: &str, instances: &[Instance]) {
        let client = self.server.client().await;
        let directory = format!("/dubbo/{service}/providers");
        let wanted: BTreeSet<String> = instances.iter().map(|instance| node(service, instance)).collect();
        for old in names(&client, &directory).await {
            if !wanted.contains(&old) {
                client.delete(&format!("{directory}/{old}"), None).await.expect("a deletion");
            }
        }
        for new in wanted {
            write(&client, &format!("{directory}/{new}"), b"").await;
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

impl Writable for Servers {
    fn another(&self) -> Arc<dyn Registry> {
        Arc::new(self.server.registry())
    }

    async fn listed(&self, framework: Framework, service: &str) -> BTreeSet<String> {
        let client = self.server.client().await;
        let directory = directory(framework, service);
        let mut addresses = BTreeSet::new();
        for name in names(&client, &directory).await {
            let instance = match framework {
                Framework::Dubbo => dubbo::provider(&name).expect("a provider").expect("a provider"),
                Framework::Sofarpc => sofarpc::provider(&name).expect("a provider").expect("a provider"),
                Framework::Spring | Framework::Plain => {
                    let Ok((data, _)) = client.get_data(&format!("{directory}/{name}")).await else {
                        continue;
                    };
                    let service = curator::parse(&data).expect("an entry");
                    assert_eq!(service.id, name, "an entry bears its own name");
                    curator::spring_instance(&service).expect("an instance")
                }
            };
            assert!(addresses.insert(instance.address), "each stands there once");
        }
        addresses
    }

    async fn vandalize(&mut self, framework: Framework, service: &str) {
        let client = self.server.client().await;
        let directory = directory(framework, service);
        for name in names(&client, &directory).await {
            client.delete(&format!("{directory}/{name}"), None).await.expect("a deletion");
        }
    }
}

fn directory(framework: Framework, service: &str) -> String {
    match framework {
        Framework::Dubbo => format!("/dubbo/{service}/providers"),
        Framework::Sofarpc => format!("/sofa-rpc/{service}/providers"),
        Framework::Spring | Framework::Plain => format!("/services/{service}"),
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
async fn one_at_a_time_has_a_seat() {
    conformance::run_electing(&mut Servers::start().await).await;
}
