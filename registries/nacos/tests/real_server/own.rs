//! What the suite of every registry does not ask: applications of Dubbo 3, wishes that meet in one service, hundreds of
//! services, and a withdrawal that nobody hears.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use outrigger_discovery::{
    Answering, Board, Framework, Level, Registration, Registry, ServiceKey, View, Wish,
    formats::application::{AskMetadata, MetadataInfo, Question, describe},
};
use outrigger_registry_nacos::{NacosRegistry, Settings, open};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use crate::{
    nacos::{Nacos, listed, settings},
    server::ask,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// What is registered by a task that keeps it so.
struct Keeper {
    wish: Wish,
    task: JoinHandle<()>,
}

impl Keeper {
    fn start(registry: &NacosRegistry) -> Self {
        let (wish, desired) = Wish::new();
        Self { wish, task: tokio::spawn(registry.register(desired)) }
    }

    async fn set(&mut self, registrations: &[Registration]) {
        self.wish.set(registrations.into());
        let done = time::timeout(PATIENCE, self.wish.done()).await;
        assert!(done.is_ok(), "not written in time: {:?}", self.wish.written());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
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

    fn view(&self) -> View {
        self.board.view(self.number).expect("an open watch")
    }

    fn addresses(&self) -> Vec<String> {
        self.view().instances.iter().flat_map(|all| all.iter()).map(|one| one.address.clone()).collect()
    }

    /// Reads until exactly these are told.
    async fn expect(&self, want: &[&str]) {
        while self.view().instances.is_none() || self.view().lost.is_some() || self.addresses() != want {
            let news = time::timeout(PATIENCE, self.board.news()).await;
            assert!(news.is_ok(), "{want:?} are not told in time, but {:?}", self.view());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn dubbo(service: &str, level: Level, port: u16) -> Registration {
    Registration {
        app: "shop".into(),
        framework: Framework::Dubbo,
        level,
        service: service.into(),
        protocol: "dubbo".into(),
        address: format!("10.9.9.1:{port}"),
        group: Some("g".into()),
        version: Some("1.0.0".into()),
        weight: 100,
        started: 1_700_000_000_000,
        metadata: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
    }
}

/// Waits until exactly these stand under a name.
async fn stand(name: &str, want: &[&str]) {
    let want: BTreeSet<String> = want.iter().map(|one| (*one).to_owned()).collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let have = listed("public", name).await;
        if have == want {
            return;
        }
        assert!(Instant::now() < until, "{name}: {have:?} stand there, not {want:?}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// Says which application gives an interface, and waits until the server says so too.
async fn map(interface: &str, app: &str) {
    ask("POST", "/v1/cs/configs", &[("dataId", interface), ("group", "mapping"), ("content", app)]).await;
    assert_eq!(mapped(interface).await, app);
}

async fn mapped(interface: &str) -> String {
    ask("GET", "/v1/cs/configs", &[("dataId", interface), ("group", "mapping")]).await
}

/// Both levels of Dubbo: each is found, and nobody twice.
pub(crate) async fn an_application_is_found_by_its_interface(nacos: &Nacos) {
    let inner = "shop.Cart$Items";
    let watch = Watch::start(&nacos.registry, ServiceKey::new(inner));
    watch.expect(&[]).await;
    let other = open(settings());
    let mut keeper = Keeper::start(&other);
    keeper.set(&[dubbo(inner, Level::Application, 1), dubbo("shop.Order", Level::Both, 1)]).await;
    watch.expect(&["10.9.9.1:1"]).await;
    stand("providers:shop.Cart___Items:1.0.0:g", &[]).await;
    let found = watch.view().instances.expect("instances");
    assert_eq!((found[0].version.as_deref(), found[0].group.as_deref()), (Some("1.0.0"), Some("g")));
    assert_eq!(found[0].metadata.get("zone").map(String::as_str), Some("a"));
    let order = Watch::start(&nacos.registry, ServiceKey::new("shop.Order"));
    order.expect(&["10.9.9.1:1"]).await;
    assert_eq!(mapped("shop.Cart___Items").await, "shop");
    // Another revision, and another name beside the first.
    let second = Registration {
        app: "stock".into(),
        address: "10.9.9.2:2".into(),
        ..dubbo(inner, Level::Application, 2)
    };
    keeper.set(&[dubbo(inner, Level::Application, 1), second]).await;
    watch.expect(&["10.9.9.1:1", "10.9.9.2:2"]).await;
    order.expect(&[]).await;
    keeper.set(&[]).await;
    watch.expect(&[]).await;
    stand("shop", &[]).await;
    assert_eq!(mapped("shop.Cart___Items").await, "shop,stock", "names stay");
    other.close().await;
}

/// An instance that knows by itself what it serves.
#[derive(Default)]
struct Knows {
    info: MetadataInfo,
    asked: Mutex<Vec<Question>>,
    fails: Mutex<usize>,
}

impl AskMetadata for Knows {
    fn ask(&self, question: Question) -> Answering<MetadataInfo> {
        self.asked.lock().expect("questions").push(question);
        let mut fails = self.fails.lock().expect("a number");
        let answer = if *fails > 0 { Err("not yet".to_owned()) } else { Ok(self.info.clone()) };
        *fails = fails.saturating_sub(1);
        Box::pin(async move { answer })
    }
}

/// What is not in Nacos is asked of an instance, once, and again if it fails.
pub(crate) async fn an_instance_is_asked_what_it_serves() {
    let (info, member) = describe(&[dubbo("bank.Account", Level::Application, 7)]).expect("an application");
    let mut metadata = member.metadata.clone();
    metadata.insert("dubbo.metadata.storage-type".into(), "local".into());
    let url = r#"{"version":"1.0.0","dubbo":"2.0.2","port":"7","protocol":"dubbo"}"#;
    metadata.insert("dubbo.metadata-service.url-params".into(), url.into());
    metadata.insert("preserved.heart.beat.timeout".into(), "3600000".into());
    metadata.insert("preserved.ip.delete.timeout".into(), "3600000".into());
    let metadata = serde_json::to_string(&metadata).expect("JSON");
    map("bank.Account", "bank").await;
    for port in ["7", "8"] {
        let query =
            [("serviceName", "bank"), ("ip", "10.9.9.1"), ("port", port), ("metadata", metadata.as_str())];
        ask("POST", "/v1/ns/instance", &query).await;
    }
    let knows = Arc::new(Knows { info, fails: Mutex::new(1), ..Knows::default() });
    let asked: Arc<dyn AskMetadata> = Arc::clone(&knows) as _;
    let registry = open(Settings { ask: Some(asked), ..settings() });
    let one = Watch::start(&registry, ServiceKey::new("bank.Account"));
    // The port is that of the service, which the metadata tells; both instances serve the same.
    one.expect(&["10.9.9.1:7"]).await;
    let two = Watch::start(&registry, ServiceKey::new("bank.Account"));
    two.expect(&["10.9.9.1:7"]).await;
    assert_eq!(one.view().generation, 1, "nothing is told before all of it is known");
    let asked = knows.asked.lock().expect("questions");
    let addresses: Vec<_> = asked.iter().map(|question| question.address.as_str()).collect();
    assert_eq!(addresses, ["10.9.9.1:7"; 2], "a failure and an answer");
    assert_eq!((asked[0].app.as_str(), asked[0].protocol.as_str()), ("bank", "dubbo"));
}

/// An instance that never says what it serves.
struct Hangs;

impl AskMetadata for Hangs {
    fn ask(&self, _: Question) -> Answering<MetadataInfo> {
        Box::pin(std::future::pending())
    }
}

/// One application that hangs does not keep others from being found.
pub(crate) async fn an_instance_that_hangs_holds_up_nobody(nacos: &Nacos) {
    map("hung.Account", "hung").await;
    let metadata = concat!(
        r#"{"dubbo.metadata.revision":"slow","dubbo.metadata-service.url-params":"#,
        r#""{\"port\":\"7\",\"protocol\":\"dubbo\"}"}"#
    );
    let query = [("serviceName", "hung"), ("ip", "10.9.9.1"), ("port", "7"), ("metadata", metadata)];
    ask("POST", "/v1/ns/instance", &query).await;
    let mut keeper = Keeper::start(&nacos.registry);
    keeper.set(&[dubbo("hung.Account", Level::Interface, 9)]).await;
    let registry = open(Settings { ask: Some(Arc::new(Hangs)), ..settings() });
    let watch = Watch::start(&registry, ServiceKey::new("hung.Account"));
    watch.expect(&["10.9.9.1:9"]).await;
    assert!(watch.view().answers > 0);
}

/// A revision that nobody knows is said, and is no reason to believe that nobody serves.
pub(crate) async fn what_cannot_be_had_is_said(nacos: &Nacos) {
    map("lost.Account", "lost").await;
    let metadata = r#"{"dubbo.metadata.revision":"gone","dubbo.metadata.storage-type":"remote"}"#;
    let query = [("serviceName", "lost"), ("ip", "10.9.9.1"), ("port", "7"), ("metadata", metadata)];
    ask("POST", "/v1/ns/instance", &query).await;
    let watch = Watch::start(&nacos.registry, ServiceKey::new("lost.Account"));
    while watch.view().lost.is_none() {
        time::timeout(PATIENCE, watch.board.news()).await.expect("news in time");
        assert_eq!(watch.view().instances, None);
    }
    assert!(watch.view().lost.expect("a reason").contains("lost"));
    // At the interface level somebody is found after all.
    let mut keeper = Keeper::start(&nacos.registry);
    keeper.set(&[dubbo("lost.Account", Level::Interface, 9)]).await;
    watch.expect(&["10.9.9.1:9"]).await;
}

/// Nacos has one entry for all that a connection gives of a service; two who register over it do not push each other out.
pub(crate) async fn wishes_meet_in_one_service(nacos: &Nacos) {
    let name = "providers:shop.Meet:1.0.0:g";
    let each = |port| dubbo("shop.Meet", Level::Interface, port);
    let mut one = Keeper::start(&nacos.registry);
    let mut two = Keeper::start(&nacos.registry);
    one.set(&[each(1), each(2)]).await;
    two.set(&[each(3)]).await;
    stand(name, &["10.9.9.1:1", "10.9.9.1:2", "10.9.9.1:3"]).await;
    one.set(&[each(2)]).await;
    stand(name, &["10.9.9.1:2", "10.9.9.1:3"]).await;
    // Who is dropped wants nothing any more.
    drop(two);
    stand(name, &["10.9.9.1:2"]).await;
    one.set(&[]).await;
    stand(name, &[]).await;
}

/// Hundreds of services are registered, listed and found over one connection.
pub(crate) async fn five_hundred_services_fit_on_one_connection(nacos: &Nacos) {
    let services: Vec<String> = (0..500).map(|number| format!("many.Service{number}")).collect();
    let mut keeper = Keeper::start(&nacos.registry);
    let all: Vec<_> = services.iter().map(|service| dubbo(service, Level::Interface, 1)).collect();
    keeper.set(&all).await;
    let listed = nacos.registry.services(Framework::Dubbo).await.expect("names");
    assert!(services.iter().all(|service| listed.contains(service)), "{} are listed", listed.len());
    let reader = open(settings());
    let key = |service: &String| ServiceKey {
        version: Some("1.0.0".into()),
        group: Some("g".into()),
        ..ServiceKey::new(service)
    };
    let watches: Vec<_> = services.iter().map(|service| Watch::start(&reader, key(service))).collect();
    for watch in &watches {
        let known = watch.expect(&["10.9.9.1:1"]);
        time::timeout(PATIENCE * 2, known).await.expect("all in time");
    }
    assert_eq!((reader.status().connections, reader.status().unreadable), (1, 0));
    drop(watches);
    reader.close().await;
}

/// All is withdrawn while the server is away: it does not come back with it.
pub(crate) async fn what_is_withdrawn_unheard_stays_away(nacos: &mut Nacos) {
    let name = "providers:shop.Unheard:1.0.0:g";
    let watch = Watch::start(&nacos.registry, ServiceKey::new("shop.Unheard"));
    let mut keeper = Keeper::start(&nacos.registry);
    keeper
        .set(&[dubbo("shop.Unheard", Level::Interface, 1), dubbo("shop.Unheard", Level::Interface, 2)])
        .await;
    watch.expect(&["10.9.9.1:1", "10.9.9.1:2"]).await;
    nacos.server.kill();
    keeper.wish.set([].into());
    time::timeout(PATIENCE, keeper.wish.done()).await.expect("what stood there went with its connection");
    nacos.server.run().await;
    watch.expect(&[]).await;
    stand(name, &[]).await;
}
