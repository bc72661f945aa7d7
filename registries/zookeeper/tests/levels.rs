//! Dubbo's two levels, operators' words, and what else stands in the tree, over a real `ZooKeeper`.
//!
//! What is written here is what real frameworks write, by the formats that are held to their dumps.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use outrigger_discovery::{
    Answering, Framework, Level, Registration, Registry, ServiceKey, Wish,
    formats::{
        application::{self, AskMetadata, Member, MetadataInfo, Question},
        curator, percent,
    },
};
use outrigger_registry_zookeeper::{Settings, open};
use tokio::time;
use zookeeper_client::Client;

use support::{PATIENCE, Server, Watched, names, write};

fn registration(app: &str, level: Level, address: &str) -> Registration {
    Registration {
        app: app.into(),
        framework: Framework::Dubbo,
        level,
        service: "a.B".into(),
        protocol: "dubbo".into(),
        address: address.into(),
        group: None,
        version: None,
        weight: 100,
        started: 7,
        metadata: BTreeMap::new(),
    }
}

fn described(app: &str, address: &str) -> (MetadataInfo, Member) {
    application::describe(&[registration(app, Level::Application, address)]).expect("an application")
}

async fn provider(client: &Client, address: &str) -> String {
    let url = format!("dubbo://{address}/a.B?interface=a.B&side=provider&category=providers");
    let path = format!("/dubbo/a.B/providers/{}", percent::encode(&url));
    write(client, &path, b"").await;
    path
}

async fn member(client: &Client, member: &Member) -> String {
    let path = format!("/services/{}/{}", member.app, member.address);
    write(client, &path, curator::dubbo(member).as_bytes()).await;
    path
}

/// Who answers for members, and is remembered.
#[derive(Default)]
struct Asker {
    answers: Mutex<BTreeMap<String, MetadataInfo>>,
    asked: Mutex<Vec<Question>>,
}

impl Asker {
    fn asked(&self) -> Vec<Question> {
        self.asked.lock().expect("a lock").clone()
    }
}

impl AskMetadata for Asker {
    fn ask(&self, question: Question) -> Answering<MetadataInfo> {
        let answer = self.answers.lock().expect("a lock").get(&question.revision).cloned();
        self.asked.lock().expect("a lock").push(question);
        Box::pin(async move { answer.ok_or_else(|| "no such revision".to_owned()) })
    }
}

#[tokio::test]
async fn applications_go_before_the_interface_and_never_beside_it() {
    let server = Server::start().await;
    let client = server.client().await;
    let registry = server.registry();
    provider(&client, "10.0.0.1:20880").await;
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.0.0.1:20880"]).await;
    // The parts of an application come one by one, in an order that nobody promised: only the whole counts.
    let (info, one) = described("shop", "10.0.0.2:20880");
    let path = member(&client, &one).await;
    write(&client, "/dubbo/mapping/a.B", b"gone,shop").await;
    write(&client, &format!("/dubbo/metadata/shop/{}", info.revision), info.to_string().as_bytes()).await;
    // What is not there when it is asked for is asked for again: three times, a second apart.
    watched.until_addresses(&["10.0.0.2:20880"]).await;
    let (_, two) = described("shop", "10.0.0.3:20880");
    member(&client, &Member { metadata: one.metadata.clone(), ..two.clone() }).await;
    watched.until_addresses(&["10.0.0.2:20880", "10.0.0.3:20880"]).await;
    client.delete(&path, None).await.expect("a deletion");
    watched.until_addresses(&["10.0.0.3:20880"]).await;
    client.delete(&format!("/services/shop/{}", two.address), None).await.expect("a deletion");
    watched.until_addresses(&["10.0.0.1:20880"]).await;
}

#[tokio::test]
async fn what_a_revision_gives_is_asked_of_a_member_once() {
    let server = Server::start().await;
    let client = server.client().await;
    let asker = Arc::new(Asker::default());
    let registry = server.asking(asker.clone());
    let mut local = Vec::new();
    for address in ["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"] {
        let (info, mut one) = described("shop", address);
        let params = r#"{"version":"1.0.0","port":"20881","protocol":"dubbo"}"#;
        one.metadata.insert("dubbo.metadata.storage-type".into(), "local".into());
        one.metadata.insert("dubbo.metadata-service.url-params".into(), params.into());
        one.metadata.insert("dubbo.metadata.revision".into(), "r1".into());
        asker.answers.lock().expect("a lock").insert("r1".into(), info);
        member(&client, &one).await;
        local.push(one);
    }
    write(&client, "/dubbo/mapping/a.B", b"shop").await;
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"]).await;
    let second = Watched::start(&registry, ServiceKey::new("a.B"));
    second.until_addresses(&["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"]).await;
    let asked = asker.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].app.as_str(), asked[0].revision.as_str()), ("shop", "r1"));
    assert!(asked[0].address.ends_with(":20881"), "{asked:?}");
    // A member with a revision that nobody can tell keeps what it gave before.
    local[0].metadata.insert("dubbo.metadata.revision".into(), "r2".into());
    member(&client, &local[0]).await;
    time::timeout(PATIENCE, async {
        while asker.asked().iter().filter(|question| question.revision == "r2").count() < 3 {
            time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("three tries");
    assert_eq!(watched.addresses().len(), 3);
    // One that exports nothing yet is not there.
    local[0].metadata.insert("dubbo.metadata.revision".into(), "0".into());
    member(&client, &local[0]).await;
    watched.until_addresses(&["10.0.0.2:20880", "10.0.0.3:20880"]).await;
}

#[tokio::test]
async fn an_application_of_go_is_found_by_its_own_path() {
    let server = Server::start().await;
    let client = server.client().await;
    let (info, one) = described("go-shop", "10.0.0.1:20000");
    let json = curator::dubbo(&one)
        .replace(r#""@class":"org.apache.dubbo.registry.zookeeper.ZookeeperInstance","#, "");
    assert!(!json.contains("@class"));
    write(&client, "/services/go-shop/10.0.0.1:20000", json.as_bytes()).await;
    write(&client, &format!("/dubbo/go-shop/{}", info.revision), info.to_string().as_bytes()).await;
    write(&client, "/dubbo/mapping/a.B", b"go-shop").await;
    let registry = server.registry();
    Watched::start(&registry, ServiceKey::new("a.B")).until_addresses(&["10.0.0.1:20000"]).await;
}

#[tokio::test]
async fn an_application_that_tells_nothing_is_no_empty_set() {
    let server = Server::start().await;
    let client = server.client().await;
    let (info, one) = described("shop", "10.0.0.1:20880");
    member(&client, &one).await;
    write(&client, "/dubbo/mapping/a.B", b"shop").await;
    let registry = open(Settings { reconcile: Duration::from_secs(2), ..server.settings() });
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_lost().await;
    assert_eq!(watched.view().instances, None);
    // An interface that can be found at the other level is not held up by it.
    let path = provider(&client, "10.0.0.2:20880").await;
    watched.until_addresses(&["10.0.0.2:20880"]).await;
    client.delete(&path, None).await.expect("a deletion");
    watched.until_lost().await;
    assert_eq!(watched.addresses(), ["10.0.0.2:20880"], "trouble must not empty a cluster");
    // It is asked again after a time, though nothing that is watched changed.
    write(&client, &format!("/dubbo/metadata/shop/{}", info.revision), info.to_string().as_bytes()).await;
    watched.until_addresses(&["10.0.0.1:20880"]).await;
}

#[tokio::test]
async fn operators_change_weights_and_disable() {
    let server = Server::start().await;
    let client = server.client().await;
    let registry = server.registry();
    for host in 1..=3 {
        provider(&client, &format!("10.0.0.{host}:20880")).await;
    }
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"]).await;
    let node = |url: &str| format!("/dubbo/a.B/configurators/{}", percent::encode(url));
    let heavier =
        node("override://10.0.0.1:20880/a.B?category=configurators&dynamic=false&enabled=true&weight=300");
    let disabled =
        node("override://10.0.0.2:20880/a.B?category=configurators&dynamic=false&enabled=true&disabled=true");
    write(&client, &heavier, b"").await;
    write(&client, &disabled, b"").await;
    watched.until_addresses(&["10.0.0.1:20880", "10.0.0.3:20880"]).await;
    let weights: Vec<u32> = watched.instances().iter().map(|instance| instance.weight).collect();
    assert_eq!(weights, [300, 100]);
    client.delete(&disabled, None).await.expect("a deletion");
    client.delete(&heavier, None).await.expect("a deletion");
    watched
        .until("the usual weights", |view| {
            view.instances
                .as_ref()
                .is_some_and(|all| all.len() == 3 && all.iter().all(|one| one.weight == 100))
        })
        .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_passed_over_and_counted_once() {
    let server = Server::start().await;
    let client = server.client().await;
    let registry = server.registry();
    write(&client, "/dubbo/a.B/providers/nonsense", b"").await;
    write(&client, "/dubbo/a.B/providers/dubbo%3A%2F%2F%zz", b"").await;
    provider(&client, "10.0.0.1:20880").await;
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.0.0.1:20880"]).await;
    provider(&client, "10.0.0.2:20880").await;
    watched.until_addresses(&["10.0.0.1:20880", "10.0.0.2:20880"]).await;
    assert_eq!(registry.status().unreadable, 2);
    let spring =
        Watched::start(&registry, ServiceKey { framework: Framework::Spring, ..ServiceKey::new("shop") });
    spring.until_addresses(&[]).await;
    write(&client, "/services/shop/bad", b"{").await;
    write(
        &client,
        "/services/shop/good",
        curator::spring(&registration("shop", Level::Interface, "10.0.0.3:80"), "good").as_bytes(),
    )
    .await;
    spring.until_addresses(&["10.0.0.3:80"]).await;
    assert_eq!(registry.status().unreadable, 3);
    // It is read again whenever it may have changed.
    write(&client, "/services/shop/bad", b"[").await;
    let other = curator::spring(&registration("shop", Level::Interface, "10.0.0.4:80"), "other");
    write(&client, "/services/shop/other", other.as_bytes()).await;
    spring.until_addresses(&["10.0.0.3:80", "10.0.0.4:80"]).await;
    assert_eq!(registry.status().unreadable, 3);
}

#[tokio::test]
async fn a_directory_may_come_go_and_come_again() {
    let server = Server::start().await;
    let client = server.client().await;
    let registry = server.registry();
    let each: Vec<(Framework, String, Vec<u8>)> = vec![
        (Framework::Dubbo, "/dubbo/a.B/providers".into(), Vec::new()),
        (Framework::Sofarpc, "/sofa-rpc/a.B/providers".into(), Vec::new()),
        (
            Framework::Spring,
            "/services/a.B".into(),
            curator::spring(&registration("x", Level::Interface, "10.0.0.1:1"), "x").into(),
        ),
    ];
    for (framework, directory, data) in each {
        let watched = Watched::start(&registry, ServiceKey { framework, ..ServiceKey::new("a.B") });
        watched.until_addresses(&[]).await;
        for _ in 0..2 {
            let path = format!("{directory}/{}", percent::encode("bolt://10.0.0.1:1/a.B?interface=a.B"));
            write(&client, &path, &data).await;
            watched.until_addresses(&["10.0.0.1:1"]).await;
            client.delete(&path, None).await.expect("a deletion");
            client.delete(&directory, None).await.expect("a deletion");
            watched.until_addresses(&[]).await;
        }
    }
}

#[tokio::test]
async fn an_application_is_registered_so_that_it_is_found() {
    let server = Server::start().await;
    let client = server.client().await;
    let registry = server.registry();
    write(&client, "/dubbo/mapping/a.B", b"others").await;
    let (mut wish, desired) = Wish::new();
    let task = tokio::spawn(registry.register(desired));
    let both = registration("shop", Level::Both, "10.9.9.1:20880");
    let second = Registration { service: "a.C".into(), level: Level::Application, ..both.clone() };
    wish.set([both.clone(), second].into());
    time::timeout(PATIENCE, wish.done()).await.expect("done");
    let (mapping, _) = client.get_data("/dubbo/mapping/a.B").await.expect("a mapping");
    assert_eq!(mapping, b"others,shop");
    assert_eq!(names(&client, "/dubbo/a.B/providers").await.len(), 1);
    assert_eq!(names(&client, "/dubbo/a.C/providers").await.len(), 0);
    assert_eq!(names(&client, "/services/shop").await, ["10.9.9.1:20880"]);
    let reader = server.registry();
    for service in ["a.B", "a.C"] {
        Watched::start(&reader, ServiceKey::new(service)).until_addresses(&["10.9.9.1:20880"]).await;
    }
    assert_eq!(reader.services(Framework::Dubbo).await.expect("names"), ["a.B", "a.C"]);
    assert_eq!(reader.services(Framework::Spring).await.expect("names"), ["shop"]);
    assert!(reader.services(Framework::Sofarpc).await.expect("names").is_empty());
    // What was withdrawn leaves its mapping, which others may need, and another revision what is left of it.
    wish.set([both].into());
    time::timeout(PATIENCE, wish.done()).await.expect("done");
    Watched::start(&reader, ServiceKey::new("a.C")).until_addresses(&[]).await;
    // Whoever desires nothing any more leaves nothing behind.
    drop(wish);
    time::timeout(PATIENCE, task).await.expect("an end").expect("an end");
    assert_eq!(names(&client, "/services/shop").await.len(), 0);
    assert_eq!(client.get_data("/dubbo/mapping/a.B").await.expect("a mapping").0, b"others,shop");
}

#[tokio::test]
async fn what_cannot_be_known_to_others_is_said_and_not_written() {
    let server = Server::start().await;
    let registry = server.registry();
    let (mut wish, desired) = Wish::new();
    let task = tokio::spawn(registry.register(desired));
    let here = registration("shop", Level::Both, "127.0.0.1:20880");
    wish.set([here.clone(), registration("shop", Level::Interface, "10.9.9.1:1")].into());
    let waits = time::timeout(PATIENCE, async {
        while wish.written().is_none_or(|written| written.pending != 1) {
            time::sleep(Duration::from_millis(20)).await;
        }
    });
    waits.await.expect("a word");
    assert!(wish.written().expect("a word").trouble.expect("trouble").contains(&here.address));
    assert_eq!(names(&server.client().await, "/dubbo/a.B/providers").await.len(), 1);
    wish.set([].into());
    time::timeout(PATIENCE, wish.done()).await.expect("done");
    task.abort();
}

#[tokio::test]
async fn a_name_or_a_root_that_is_no_path_is_lost_with_a_reason() {
    let server = Server::start().await;
    let registry = server.registry();
    let watched = Watched::start(&registry, ServiceKey::new("a/../b"));
    watched.until_lost().await;
    let registry = open(Settings { group: "a//b".into(), ..server.settings() });
    Watched::start(&registry, ServiceKey::new("a.B")).until_lost().await;
    assert!(registry.services(Framework::Dubbo).await.is_err());
}
