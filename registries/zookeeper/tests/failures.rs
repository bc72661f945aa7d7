//! What befalls a session, over a real `ZooKeeper`: it expires, its server hangs or is gone for long, and what it left behind
//! is still there.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use outrigger_discovery::{Framework, Level, Registration, Registry, ServiceKey, Wish};
use outrigger_registry_zookeeper::{Settings, open};
use tokio::{task::JoinHandle, time};
use zookeeper_client::{Acls, Client, CreateMode};

use support::{PATIENCE, SESSION, Server, Watched, names};

/// Longer than the server keeps a session without a word, and than the client waits before it gives one up.
const PAST_THE_SESSION: Duration = SESSION.saturating_mul(2);

const PROVIDERS: &str = "/dubbo/a.B/providers";

struct Keeper {
    wish: Wish,
    task: JoinHandle<()>,
}

impl Keeper {
    fn start(registry: &dyn Registry) -> Self {
        let (wish, desired) = Wish::new();
        Self { wish, task: tokio::spawn(registry.register(desired)) }
    }

    async fn set(&mut self, registrations: &[Registration]) {
        self.wish.set(registrations.into());
        self.done().await;
    }

    async fn done(&mut self) {
        let done = time::timeout(PATIENCE, self.wish.done()).await;
        assert!(done.is_ok(), "not done in time: {:?}", self.wish.written());
    }

    async fn until_pending(&self) {
        let wait = async {
            while self.wish.written().is_none_or(|written| written.pending == 0) {
                time::sleep(Duration::from_millis(20)).await;
            }
        };
        time::timeout(PATIENCE, wait).await.expect("trouble in time");
        assert!(self.wish.written().expect("a word").trouble.is_some());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn registration(port: u16) -> Registration {
    Registration {
        app: "shop".into(),
        framework: Framework::Dubbo,
        level: Level::Interface,
        service: "a.B".into(),
        protocol: "dubbo".into(),
        address: format!("10.9.9.1:{port}"),
        group: None,
        version: None,
        weight: 100,
        started: 7,
        metadata: BTreeMap::new(),
    }
}

/// The sessions that own the providers.
async fn owners(client: &Client) -> Vec<i64> {
    let mut owners = Vec::new();
    for name in names(client, PROVIDERS).await {
        if let Some(stat) = client.check_stat(&format!("{PROVIDERS}/{name}")).await.expect("a stat") {
            owners.push(stat.ephemeral_owner);
        }
    }
    owners
}

/// Waits for one provider that another session owns than before.
async fn until_owned_anew(client: &Client, before: i64) -> i64 {
    let until = time::Instant::now() + PATIENCE;
    loop {
        match owners(client).await[..] {
            [owner] if owner != before => return owner,
            ref owners => assert!(time::Instant::now() < until, "{owners:?}"),
        }
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_session_that_expired_behind_a_hanging_server_is_made_anew() {
    let server = Server::start().await;
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[registration(1)]).await;
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.9.9.1:1"]).await;
    let [before] = owners(&server.client().await).await[..] else { panic!("one provider") };
    server.hang();
    watched.until_lost().await;
    keeper.until_pending().await;
    assert_eq!(registry.status().connected, None);
    time::sleep(PAST_THE_SESSION).await;
    assert_eq!(watched.addresses(), ["10.9.9.1:1"], "trouble must not empty a cluster");
    server.go_on();
    let client = server.client().await;
    until_owned_anew(&client, before).await;
    keeper.done().await;
    watched.until_addresses(&["10.9.9.1:1"]).await;
    assert!(registry.status().connected.is_some());
    // The end of the old session takes nothing away any more.
    time::sleep(PAST_THE_SESSION).await;
    assert_eq!(owners(&client).await.len(), 1);
}

#[tokio::test]
async fn a_server_that_was_gone_for_longer_than_the_session_gets_all_anew() {
    let mut server = Server::start().await;
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[registration(1), registration(2)]).await;
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.9.9.1:1", "10.9.9.1:2"]).await;
    let before = owners(&server.client().await).await;
    server.kill();
    watched.until_lost().await;
    time::sleep(PAST_THE_SESSION).await;
    // What is withdrawn now was left behind by a session that is gone.
    keeper.wish.set([registration(2), registration(3)].into());
    server.restart().await;
    keeper.done().await;
    let client = server.client().await;
    let after = owners(&client).await;
    assert_eq!(after.len(), 2, "a server that was away keeps the old session for a while, and its nodes");
    assert!(after.iter().all(|owner| !before.contains(owner)), "{before:?} {after:?}");
    watched.until_addresses(&["10.9.9.1:2", "10.9.9.1:3"]).await;
    time::sleep(PAST_THE_SESSION).await;
    assert_eq!(owners(&client).await, after, "what stands there is ours for good");
    watched.until_addresses(&["10.9.9.1:2", "10.9.9.1:3"]).await;
}

#[tokio::test]
async fn a_node_that_another_session_left_behind_is_made_anew() {
    let server = Server::start().await;
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[registration(1)]).await;
    let client = server.client().await;
    let [name] = &names(&client, PROVIDERS).await[..] else { panic!("one provider") };
    let path = format!("{PROVIDERS}/{name}");
    keeper.set(&[]).await;
    assert_eq!(names(&client, PROVIDERS).await.len(), 0);
    let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    client.create(&path, b"another", &options).await.expect("a node");
    let others = client.session_id().0;
    assert_eq!(owners(&client).await, [others]);
    keeper.set(&[registration(1)]).await;
    assert_ne!(owners(&client).await, [others], "done means that it is ours");
}

#[tokio::test]
async fn what_an_aborted_registration_left_behind_is_taken_away_by_the_next() {
    let server = Server::start().await;
    let registry = server.registry();
    let mut first = Keeper::start(&registry);
    first.set(&[registration(1), registration(2)]).await;
    drop(first);
    let client = server.client().await;
    let mut second = Keeper::start(&registry);
    second.set(&[registration(2), registration(3)]).await;
    let until = time::Instant::now() + PATIENCE;
    loop {
        let names = names(&client, PROVIDERS).await;
        let has = |port: u16| names.iter().any(|name| name.contains(&format!("10.9.9.1%3A{port}")));
        if [has(1), has(2), has(3)] == [false, true, true] {
            break;
        }
        assert!(time::Instant::now() < until, "{names:?}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nobody_there_is_a_loss_and_no_end() {
    let mut server = Server::start().await;
    server.kill();
    let registry = server.registry();
    assert_eq!(registry.status().connections, 0, "nothing is asked before something runs");
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    let mut keeper = Keeper::start(&registry);
    keeper.wish.set([registration(1)].into());
    watched.until_lost().await;
    keeper.until_pending().await;
    let reason = registry.services(Framework::Dubbo).await.expect_err("nobody");
    assert!(reason.contains(&server.address()), "{reason}");
    server.restart().await;
    keeper.done().await;
    watched.until_addresses(&["10.9.9.1:1"]).await;
}

#[tokio::test]
async fn a_closed_registry_stays_closed_and_its_nodes_go_at_once() {
    let server = Server::start().await;
    // A session that would be kept for long if it were not closed.
    let registry = open(Settings { session_timeout: Duration::from_secs(10), ..server.settings() });
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[registration(1)]).await;
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.9.9.1:1"]).await;
    let client = server.client().await;
    assert_eq!(names(&client, PROVIDERS).await.len(), 1);
    registry.close().await;
    assert_eq!(names(&client, PROVIDERS).await.len(), 0);
    watched.until_lost().await;
    assert_eq!(watched.addresses(), ["10.9.9.1:1"]);
    keeper.until_pending().await;
    assert!(registry.services(Framework::Dubbo).await.is_err());
    // A second end is none.
    registry.close().await;
}

#[tokio::test]
async fn a_chroot_is_made_and_a_password_kept() {
    let server = Server::start().await;
    let settings = Settings {
        chroot: Some("/one/two".into()),
        auth: Some(("shop".into(), "secret".into())),
        ..server.settings()
    };
    let registry = open(settings.clone());
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[registration(1)]).await;
    let client = server.client().await;
    let refused = client.list_children("/one/two/dubbo/a.B/providers").await;
    assert_eq!(refused, Err(zookeeper_client::Error::NoAuth));
    // Who has no password is told so, and not that nobody is there.
    let stranger = open(Settings { auth: None, ..settings.clone() });
    let watched = Watched::start(&stranger, ServiceKey::new("a.B"));
    watched.until_lost().await;
    assert_eq!(watched.view().instances, None);
    let friend = open(settings);
    Watched::start(&friend, ServiceKey::new("a.B")).until_addresses(&["10.9.9.1:1"]).await;
    assert!(!format!("{friend:?}").contains("secret"));
}

#[tokio::test]
async fn an_old_server_is_asked_again_and_again() {
    let server = Server::start_old().await;
    let registry = server.registry();
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&[]).await;
    let other = server.registry();
    let mut keeper = Keeper::start(&other);
    keeper.set(&[registration(1)]).await;
    watched.until_addresses(&["10.9.9.1:1"]).await;
    keeper.set(&[registration(2)]).await;
    watched.until_addresses(&["10.9.9.1:2"]).await;
    // It hangs up once, when it is asked for what it does not know.
    assert_eq!(registry.status().connections, 2);
}
