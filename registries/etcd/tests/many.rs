//! Many services on one connection, over a real etcd: listed, listed again after a restart, and changed all the time.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use outrigger_discovery::{Board, Framework, Level, Registration, Registry, ServiceKey, formats::percent};
use outrigger_registry_etcd::EtcdRegistry;
use tokio::{task::JoinSet, time};

use support::{
    PATIENCE, Server,
    watched::{Keeper, registration},
};

const SERVICES: usize = 2_000;
const INSTANCES: usize = 10;

fn name(service: usize) -> String {
    format!("com.example.a.house.with.many.services.orders.api.OrderService{service}")
}

fn key(service: usize, instance: usize) -> String {
    let name = name(service);
    let url = format!("dubbo://10.0.{instance}.1:20880/{name}?interface={name}&side=provider");
    format!("/dubbo/{name}/providers/{}", percent::encode(&url))
}

/// Watches of all services.
struct All {
    board: Board,
    numbers: Vec<usize>,
    tasks: JoinSet<()>,
}

impl All {
    fn start(registry: &EtcdRegistry) -> Self {
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
        let come = time::timeout(PATIENCE * 3, wait).await;
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
    let gateway = server.gateway();
    let all =
        (0..SERVICES).flat_map(|service| (0..INSTANCES).map(move |one| (key(service, one), Vec::new())));
    gateway.put_all(&all.collect::<Vec<_>>());
    let registry = server.registry();
    let mut all = All::start(&registry);
    all.until(&BTreeMap::new(), 0).await;
    assert_eq!(registry.services(Framework::Dubbo).await.expect("names").len(), SERVICES);
    server.kill();
    server.restart().await;
    all.until(&BTreeMap::new(), 1).await;
    let mut want = BTreeMap::new();
    for turn in 0..300 {
        let service = turn * 7 % 50 * 40;
        let have = want.entry(service).or_insert(INSTANCES);
        *have -= 1;
        gateway.delete(&key(service, *have));
    }
    all.until(&want, 1).await;
    let status = registry.status();
    assert_eq!((status.unreadable, status.connections), (0, 2), "one connection for all of them: {status:?}");
    all.tasks.abort_all();
}

#[tokio::test]
async fn many_registrations_live_on_one_lease() {
    let mut server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    let one = registration(Framework::Dubbo, Level::Both, 20880);
    let each = |service| Registration { service: name(service), ..one.clone() };
    keeper.wish.set((0..500).map(each).collect());
    keeper.done_within(PATIENCE * 3).await;
    let owned = || {
        let keys = gateway.below("/dubbo/com.example");
        let mut leases: Vec<i64> = keys.iter().map(|key| key.lease).collect();
        leases.extend(gateway.below("/services/").iter().map(|key| key.lease));
        let count = leases.len();
        leases.dedup();
        (count, leases)
    };
    let before = owned();
    assert_eq!((before.0, before.1.len()), (501, 1));
    server.kill();
    keeper.until_pending().await;
    server.restart().await;
    assert!(
        keeper.until_at_work().await > 500,
        "that the server is back is said at the start, not at the end"
    );
    keeper.done_within(PATIENCE * 3).await;
    assert_eq!(owned(), before, "the lease went on");
    keeper.end().await;
    assert_eq!(owned().0, 0);
}
