//! Many services on one session, over a real `ZooKeeper`: listed, listed again after a restart, and changed all the time.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use outrigger_discovery::{
    Board, Framework, Level, Registration, Registry, ServiceKey, Wish, formats::percent,
};
use outrigger_registry_zookeeper::{Settings, ZooKeeperRegistry, open};
use tokio::{task::JoinSet, time};
use zookeeper_client::{Acls, Client, CreateMode};

use support::{PATIENCE, Server, names, write};

const SERVICES: usize = 500;
const INSTANCES: usize = 20;

/// A long name: more of them are watched than the client can tell the server of at once.
fn name(service: usize) -> String {
    format!(
        "com.example.a.house.with.many.services.and.long.names.for.all.of.them.orders.api.OrderService{service}"
    )
}

fn node(service: usize, instance: usize) -> String {
    let name = name(service);
    let url = format!("dubbo://10.0.{instance}.1:20880/{name}?interface={name}&side=provider");
    format!("/dubbo/{name}/providers/{}", percent::encode(&url))
}

async fn fill(client: &Client) {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    write(client, "/dubbo", b"").await;
    for service in 0..SERVICES {
        let mut writer = client.new_multi_writer();
        let directory = format!("/dubbo/{}", name(service));
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
            tasks.spawn(registry.watch(ServiceKey::new(name(service)), teller));
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
            // A look at all of them takes its time: not one for each news.
            while !(0..SERVICES).all(is_so) {
                time::sleep(Duration::from_millis(50)).await;
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
    // A session that lasts: a restart is no reason to lose what is registered.
    let registry = open(Settings { session_timeout: Duration::from_secs(10), ..server.settings() });
    let mut all = All::start(&registry);
    all.until(&BTreeMap::new(), 0).await;
    server.kill();
    server.restart().await;
    all.until(&BTreeMap::new(), 1).await;
    // What the server had told while everything was listed again must not be lost either.
    let client = server.client().await;
    let mut want = BTreeMap::new();
    for turn in 0..300 {
        // Of the first, which have watches of their own, and of the last, which look through a common one.
        let service = turn * 7 % 50 * 10;
        let have = want.entry(service).or_insert(INSTANCES);
        *have -= 1;
        client.delete(&node(service, *have), None).await.expect("a deletion");
        time::sleep(Duration::from_millis(5)).await;
    }
    all.until(&want, 1).await;
    let status = registry.status();
    assert_eq!((status.unreadable, status.connections), (0, 2), "one session for all of them: {status:?}");
    all.tasks.abort_all();
}

#[tokio::test]
async fn many_registrations_and_watches_do_not_cost_the_session() {
    let mut server = Server::start().await;
    let registry = open(Settings { session_timeout: Duration::from_secs(10), ..server.settings() });
    let (mut wish, desired) = Wish::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(registry.register(desired));
    let registrations: Vec<Registration> = (0..SERVICES)
        .map(|service| Registration {
            app: "shop".into(),
            framework: Framework::Dubbo,
            level: Level::Both,
            service: name(service),
            protocol: "dubbo".into(),
            address: "10.9.9.1:20880".into(),
            group: None,
            version: None,
            weight: 100,
            started: 7,
            metadata: BTreeMap::new(),
        })
        .collect();
    wish.set(registrations.into());
    time::timeout(PATIENCE * 2, wish.done()).await.expect("all are registered in time");
    let owner = async |server: &Server| {
        let client = server.client().await;
        let member =
            client.check_stat("/services/shop/10.9.9.1:20880").await.expect("a stat").expect("a node");
        let all = names(&client, "/dubbo").await;
        assert_eq!(all.iter().filter(|name| name.starts_with("com.example")).count(), SERVICES);
        member.ephemeral_owner
    };
    let before = owner(&server).await;
    server.kill();
    server.restart().await;
    time::timeout(PATIENCE, async {
        while registry.status().connections < 2 {
            time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("a connection");
    time::timeout(PATIENCE * 2, wish.done()).await.expect("all are looked at in time");
    assert_eq!(owner(&server).await, before, "the session went on");
    assert_eq!(registry.status().connections, 2);
}
