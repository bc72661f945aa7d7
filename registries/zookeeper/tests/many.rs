//! Many services on one session, over a real `ZooKeeper`: listed, listed again after a restart, and changed all the time.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use outrigger_discovery::formats::percent;
use outrigger_discovery::{Board, Registry, ServiceKey};
use outrigger_registry_zookeeper::ZooKeeperRegistry;
use tokio::{task::JoinSet, time};
use zookeeper_client::{Acls, Client, CreateMode};

use support::{PATIENCE, Server, write};

const SERVICES: usize = 500;
const INSTANCES: usize = 20;

fn node(service: usize, instance: usize) -> String {
    let url =
        format!("dubbo://10.0.{instance}.1:20880/many.S{service}?interface=many.S{service}&side=provider");
    format!("/dubbo/many.S{service}/providers/{}", percent::encode(&url))
}

async fn fill(client: &Client) {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    write(client, "/dubbo", b"").await;
    for service in 0..SERVICES {
        let mut writer = client.new_multi_writer();
        let directory = format!("/dubbo/many.S{service}");
        writer.add_create(&directory, b"", &options).expect("a node");
        writer.add_create(&format!("{directory}/providers"), b"", &options).expect("a node");
        for instance in 0..INSTANCES {
            writer.add_create(&node(service, instance), b"", &options).expect("a node");
        }
        writer.commit().await.expect("nodes");
    }
}

/// Watches of all services.
struct All {
    board: Board,
    numbers: Vec<usize>,
    tasks: JoinSet<()>,
}

impl All {
    fn start(registry: &ZooKeeperRegistry) -> Self {
        let (mut board, mut tasks, mut numbers) = (Board::default(), JoinSet::new(), Vec::new());
        for service in 0..SERVICES {
            let (number, teller) = board.open();
            tasks.spawn(registry.watch(ServiceKey::new(format!("many.S{service}")), teller));
            numbers.push(number);
        }
        Self { board, numbers, tasks }
    }

    /// Waits until each of them is well and has so many instances.
    async fn until(&self, want: &BTreeMap<usize, usize>, gaps: u64) {
        let is_so = |service: usize| {
            let view = self.board.view(self.numbers[service]).expect("a watch");
            let have = view.instances.as_ref().map(|all| all.len());
            view.lost.is_none()
                && view.gaps >= gaps
                && have == Some(*want.get(&service).unwrap_or(&INSTANCES))
        };
        let wait = async {
            while !(0..SERVICES).all(is_so) {
                self.board.news().await;
            }
        };
        let come = time::timeout(PATIENCE * 2, wait).await;
        let late: Vec<usize> = (0..SERVICES).filter(|service| !is_so(*service)).collect();
        assert!(
            come.is_ok(),
            "{} are not as they should be: {:?}",
            late.len(),
            late.iter().take(5).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn all_services_are_listed_again_after_a_restart_and_none_of_their_changes_is_missed() {
    let mut server = Server::start().await;
    fill(&server.client().await).await;
    let registry = server.registry();
    let mut all = All::start(&registry);
    all.until(&BTreeMap::new(), 0).await;
    server.kill();
    server.restart().await;
    all.until(&BTreeMap::new(), 1).await;
    // What the server had told while everything was listed again must not be lost either.
    let client = server.client().await;
    let mut want = BTreeMap::new();
    for turn in 0..300 {
        let service = turn * 7 % 50;
        let have = want.entry(service).or_insert(INSTANCES);
        *have -= 1;
        client.delete(&node(service, *have), None).await.expect("a deletion");
        time::sleep(Duration::from_millis(5)).await;
    }
    all.until(&want, 1).await;
    assert_eq!(registry.status().unreadable, 0);
    assert!(registry.status().connections <= 3, "one session for all of them: {:?}", registry.status());
    all.tasks.abort_all();
}
