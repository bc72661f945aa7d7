//! Nacos as a registry over a server that forgets, refuses and talks nonsense.
//!
//! What a well server does is tried over a real one. Nothing may depend on a sleep being long enough for news to arrive.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a failing test is the point")]

mod fake;

use std::{collections::BTreeMap, time::Duration};

use outrigger_discovery::{Board, Framework, Level, Registration, Registry, ServiceKey, View, Wish};
use outrigger_registry_nacos::{NacosRegistry, Settings, open};
use serde_json::json;
use tokio::{task::JoinHandle, time};

use fake::Fake;

const PATIENCE: Duration = Duration::from_secs(10);

fn settings(fake: &Fake) -> Settings {
    Settings { reconcile: Duration::from_millis(400), ..Settings::new(vec![fake.address.clone()]) }
}

struct Watch {
    board: Board,
    number: usize,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(registry: &NacosRegistry, key: ServiceKey) -> Self {
        let mut board = Board::default();
        let (number, teller) = board.open();
        Self { board, number, task: tokio::spawn(registry.watch(key, teller)) }
    }

    /// Reads until the view is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) -> View {
        loop {
            let view = self.board.view(self.number).expect("an open watch");
            if wanted(&view) {
                return view;
            }
            let news = time::timeout(PATIENCE, self.board.news()).await;
            assert!(news.is_ok(), "{what} does not come: {view:?}");
        }
    }

    async fn addresses(&self, want: &[&str]) -> View {
        let told = |view: &View| {
            let all = view
                .instances
                .as_deref()
                .map(|all| all.iter().map(|one| one.address.as_str()).collect::<Vec<_>>());
            view.lost.is_none() && all.as_deref() == Some(want)
        };
        self.until(&format!("{want:?}"), told).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn spring(port: u16) -> Registration {
    Registration {
        app: "shop".into(),
        framework: Framework::Spring,
        level: Level::Interface,
        service: "shop".into(),
        protocol: "http".into(),
        address: format!("10.9.9.1:{port}"),
        group: None,
        version: None,
        weight: 100,
        started: 1,
        metadata: BTreeMap::new(),
    }
}

fn shop() -> ServiceKey {
    ServiceKey { framework: Framework::Spring, ..ServiceKey::new("shop") }
}

/// Waits until something holds of the server.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(time::timeout(PATIENCE, waiting).await.is_ok(), "{what} does not come");
}

#[tokio::test]
async fn a_wrong_password_is_said() {
    let fake = Fake::start().await;
    let user = Some(("outrigger".to_owned(), "a&b".to_owned()));
    (fake.mind().user, fake.mind().token) = (Some(("outrigger".into(), "right".into())), Some("t".into()));
    let registry = open(Settings { user, ..settings(&fake) });
    let watch = Watch::start(&registry, shop());
    let view = watch.until("a loss", |view| view.lost.is_some()).await;
    let want = format!("{}: the login was refused: 403 unknown user!", fake.address);
    assert_eq!((view.lost.as_deref(), view.instances), (Some(want.as_str()), None));
    assert_eq!(registry.status().trouble, Some(want.clone()));
    assert_eq!(registry.services(Framework::Spring).await, Err(want));
    assert_eq!(fake.mind().asked.len(), 0, "who is not let in asks nothing");
}

#[tokio::test]
async fn a_right_one_lets_in_and_is_shown_each_time() {
    let fake = Fake::start().await;
    let user = Some(("outrigger".to_owned(), "a&b".to_owned()));
    (fake.mind().user, fake.mind().token) = (Some(("outrigger".into(), "a%26b".into())), Some("t".into()));
    let registry = open(Settings { user, ..settings(&fake) });
    fake.mind().hosts.insert("shop".into(), vec![json!({ "ip": "10.9.9.1", "port": 1 })]);
    let watch = Watch::start(&registry, shop());
    watch.addresses(&["10.9.9.1:1"]).await;
    let stranger = open(settings(&fake));
    let refused = Watch::start(&stranger, shop()).until("a loss", |view| view.lost.is_some()).await;
    assert!(refused.lost.is_some_and(|why| why.contains("token expired!")));
    // What a user may not do is no reason to come again, a token that holds no more is one.
    fake.mind().refuses.insert("ServiceQueryRequest".into(), (1, 403));
    watch.board.doubt(watch.number);
    watch.until("the refusal", |view| view.gaps == 1).await;
    assert_eq!(registry.status().connections, 1);
    fake.mind().token = Some("u".into());
    watch.board.doubt(watch.number);
    watch.until("the second token", |view| view.gaps == 2).await;
    assert_eq!(registry.status().connections, 2);
}

#[tokio::test]
async fn what_the_server_forgets_is_written_again() {
    let fake = Fake::start().await;
    let registry = open(settings(&fake));
    let (mut wish, desired) = Wish::new();
    let keeper = tokio::spawn(registry.register(desired));
    wish.set([spring(1), spring(2)].into());
    time::timeout(PATIENCE, wish.done()).await.expect("written in time");
    for _ in 0..2 {
        fake.mind().hosts.clear();
        until("the second writing", || fake.mind().hosts.get("shop").is_some_and(|all| all.len() == 2)).await;
    }
    assert_eq!(registry.status().connections, 1);
    keeper.abort();
}

#[tokio::test]
async fn a_write_that_failed_is_written_again_until_it_is_done() {
    let fake = Fake::start().await;
    let registry = open(settings(&fake));
    let (mut wish, desired) = Wish::new();
    let keeper = tokio::spawn(registry.register(desired));
    fake.mind().refuses.insert("InstanceRequest".into(), (1, 500));
    wish.set([spring(1)].into());
    until("the trouble", || wish.written().is_some_and(|written| written.trouble.is_some())).await;
    let written = wish.written().expect("a word");
    assert_eq!((written.pending, written.trouble.as_deref()), (1, Some("shop: refused by 500")));
    time::timeout(PATIENCE, wish.done()).await.expect("written in time");
    assert_eq!(wish.written().and_then(|written| written.trouble), None);
    assert!(fake.mind().hosts.contains_key("shop"));
    // The same for what is taken away: it is taken away until the server says so.
    fake.mind().refuses.insert("InstanceRequest".into(), (2, 500));
    wish.set([].into());
    time::timeout(PATIENCE, wish.done()).await.expect("taken away in time");
    assert!(!fake.mind().hosts.contains_key("shop"));
    assert_eq!(fake.mind().count("InstanceRequest"), 5);
    keeper.abort();
}

#[tokio::test]
async fn nonsense_is_passed_over_and_counted() {
    let fake = Fake::start().await;
    let registry = open(settings(&fake));
    let hosts = vec![
        json!({ "ip": "10.9.9.1", "port": 1 }),
        json!({ "ip": 5 }),
        json!("x"),
        json!({ "ip": "a b", "port": 1 }),
    ];
    fake.mind().hosts.insert("shop".into(), hosts);
    let watch = Watch::start(&registry, shop());
    let first = watch.addresses(&["10.9.9.1:1"]).await;
    assert_eq!(registry.status().unreadable, 3);
    fake.tell("NotifySubscriberRequest", json!({ "serviceInfo": 5 })).await;
    fake.tell("NotifySubscriberRequest", json!("x")).await;
    fake.tell("Unheard", json!({ "requestId": {} })).await;
    // An older list than the one that is known does not count, a newer one does.
    let told = |made: i64, port: u16| {
        let hosts = json!([{ "ip": "10.9.9.1", "port": port }]);
        let info = json!({ "name": "DEFAULT_GROUP@@shop", "groupName": "DEFAULT_GROUP", "lastRefTime": made, "hosts": hosts });
        json!({ "requestId": "1", "serviceInfo": info })
    };
    fake.tell("NotifySubscriberRequest", told(0, 9)).await;
    fake.tell("NotifySubscriberRequest", told(2, 2)).await;
    let last = watch.addresses(&["10.9.9.1:2"]).await;
    assert_eq!((first.generation, last.generation), (1, 2));
    assert_eq!((registry.status().connections, registry.status().unreadable), (1, 5));
}

#[tokio::test]
async fn a_server_that_does_not_know_us_any_more_gets_to_know_us_again() {
    let fake = Fake::start().await;
    let registry = open(settings(&fake));
    let mut watch = Watch::start(&registry, shop());
    watch.addresses(&[]).await;
    fake.mind().refuses.insert("ServiceQueryRequest".into(), (1, 301));
    watch.board.doubt(watch.number);
    let view = watch.until("another session", |view| view.gaps == 1).await;
    assert_eq!((view.generation, registry.status().connections), (1, 2));
    // Sent away, we come again.
    fake.tell("ConnectResetRequest", json!({ "requestId": "1", "serverIp": null })).await;
    watch.until("another session", |view| view.gaps == 2).await;
    assert_eq!(registry.status().connections, 3);
    watch.board.close(watch.number);
    let ended = time::timeout(PATIENCE, &mut watch.task).await;
    assert!(matches!(ended, Ok(Ok(()))), "a watch that nobody reads must end: {ended:?}");
    until("the end of listening", || fake.mind().count("SubscribeServiceRequest") == 4).await;
}

#[tokio::test]
async fn a_second_server_is_taken_when_the_first_is_not_there() {
    let (fake, dead) = (Fake::start().await, "127.0.0.1:1".to_owned());
    let registry = open(Settings { servers: vec![dead, fake.address.clone()], ..settings(&fake) });
    Watch::start(&registry, shop()).addresses(&[]).await;
    let none = open(Settings::new(Vec::new()));
    let view = Watch::start(&none, shop()).until("a loss", |view| view.lost.is_some()).await;
    assert_eq!(view.lost.as_deref(), Some("no server is named"));
}

#[tokio::test]
async fn nothing_connects_before_it_is_asked_for_and_nothing_after_the_end() {
    let fake = Fake::start().await;
    let registry = open(settings(&fake));
    let (wish, desired) = Wish::new();
    let keeper = tokio::spawn(registry.register(desired));
    until("a word", || wish.written().is_some()).await;
    assert_eq!(
        wish.written().map(|written| written.pending),
        Some(0),
        "nothing is desired, and nothing stands there"
    );
    let future = registry.services(Framework::Spring);
    assert_eq!((registry.status().connections, fake.mind().asked.len()), (0, 0));
    assert_eq!(future.await, Ok(Vec::new()));
    assert_eq!(fake.mind().connected(), 1);
    time::timeout(PATIENCE, registry.close()).await.expect("an end in time");
    until("the end of the connection", || fake.mind().connected() == 0).await;
    assert_eq!(registry.services(Framework::Spring).await, Err("the registry was closed".to_owned()));
    let watch = Watch::start(&registry, shop());
    watch.until("a loss", |view| view.lost.is_some()).await;
    wish.set([spring(1)].into());
    until("the trouble", || wish.written().is_some_and(|written| written.trouble.is_some())).await;
    assert_eq!((registry.status().connected, registry.status().connections), (None, 1));
    keeper.abort();
}

#[tokio::test]
async fn a_registry_that_nobody_has_any_more_is_not_connected() {
    let fake = Fake::start().await;
    let registry = open(settings(&fake));
    let watch = Watch::start(&registry, shop());
    watch.addresses(&[]).await;
    drop(registry);
    assert_eq!(fake.mind().connected(), 1, "the watch goes on");
    drop(watch);
    until("the end of the connection", || fake.mind().connected() == 0).await;
}

#[tokio::test]
async fn an_answer_that_tells_nothing_is_no_empty_list() {
    let fake = Fake::start().await;
    let registry = open(settings(&fake));
    fake.mind().hosts.insert("shop".into(), vec![json!({ "ip": "10.9.9.1", "port": 1 })]);
    let watch = Watch::start(&registry, shop());
    let first = watch.addresses(&["10.9.9.1:1"]).await;
    fake.mind().tells_nothing = true;
    watch.board.doubt(watch.number);
    watch.until("a loss", |view| view.lost.is_some()).await;
    fake.mind().tells_nothing = false;
    let last = watch.addresses(&["10.9.9.1:1"]).await;
    assert_eq!((first.generation, last.generation, registry.status().connections), (1, 1, 1));
}
