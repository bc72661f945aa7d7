//! Dubbo's two levels, operators' words, our own layout, and what else stands in the tree, over a real etcd.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use outrigger_discovery::{
    Answering, Framework, Instance, Level, Registration, Registry, ServiceKey,
    formats::{
        application::{self, AskMetadata, Member, MetadataInfo, Question},
        percent,
    },
};
use outrigger_registry_etcd::{Settings, open, values};

use support::{
    Server,
    gateway::Gateway,
    watched::{Keeper, Watched, registration, until},
};

fn described(app: &str, address: &str) -> (MetadataInfo, Member) {
    let one = Registration {
        app: app.into(),
        address: address.into(),
        ..registration(Framework::Dubbo, Level::Application, 1)
    };
    application::describe(&[one]).expect("an application")
}

fn provider_key(interface: &str, address: &str) -> String {
    let url = format!("dubbo://{address}/{interface}?interface={interface}&side=provider&category=providers");
    format!("/dubbo/{interface}/providers/{}", percent::encode(&url))
}

fn provider(gateway: &Gateway, address: &str) -> String {
    let key = provider_key("a.B", address);
    gateway.put(&key, b"");
    key
}

fn member(gateway: &Gateway, member: &Member) -> String {
    let key = format!("/services/{}/{}", member.app, member.address);
    gateway.put(&key, values::go_instance(member, 100).as_bytes());
    key
}

fn plain(service: &str) -> ServiceKey {
    ServiceKey { framework: Framework::Plain, ..ServiceKey::new(service) }
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
    let gateway = server.gateway();
    let registry = server.registry();
    provider(&gateway, "10.0.0.1:20880");
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.0.0.1:20880"]).await;
    // The parts of an application come one by one, in an order that nobody promised: only the whole counts.
    let (info, one) = described("shop", "10.0.0.2:20880");
    let key = member(&gateway, &one);
    gateway.put("/dubbo/mapping/a.B", b"gone,shop");
    gateway.put(&format!("/dubbo/shop/{}", info.revision), info.to_string().as_bytes());
    // What is not there when it is asked for is asked for again: three times, a second apart.
    watched.until_addresses(&["10.0.0.2:20880"]).await;
    let (_, two) = described("shop", "10.0.0.3:20880");
    member(&gateway, &Member { metadata: one.metadata.clone(), ..two.clone() });
    watched.until_addresses(&["10.0.0.2:20880", "10.0.0.3:20880"]).await;
    gateway.delete(&key);
    watched.until_addresses(&["10.0.0.3:20880"]).await;
    gateway.delete(&format!("/services/shop/{}", two.address));
    watched.until_addresses(&["10.0.0.1:20880"]).await;
}

#[tokio::test]
async fn what_a_revision_gives_is_asked_of_a_member_once() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let asker = Arc::new(Asker::default());
    let registry = open(Settings { ask: Some(asker.clone()), ..server.settings() });
    let mut local = Vec::new();
    for address in ["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"] {
        let (info, mut one) = described("shop", address);
        let params = r#"{"version":"1.0.0","port":"20881","protocol":"dubbo"}"#;
        one.metadata.insert("dubbo.metadata.storage-type".into(), "local".into());
        one.metadata.insert("dubbo.metadata-service.url-params".into(), params.into());
        one.metadata.insert("dubbo.metadata.revision".into(), "r1".into());
        asker.answers.lock().expect("a lock").insert("r1".into(), info);
        member(&gateway, &one);
        local.push(one);
    }
    gateway.put("/dubbo/mapping/a.B", b"shop");
    let all = ["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"];
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&all).await;
    Watched::start(&registry, ServiceKey::new("a.B")).until_addresses(&all).await;
    let asked = asker.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].app.as_str(), asked[0].revision.as_str()), ("shop", "r1"));
    assert!(asked[0].address.ends_with(":20881"), "{asked:?}");
    // A member with a revision that nobody can tell keeps what it gave before.
    local[0].metadata.insert("dubbo.metadata.revision".into(), "r2".into());
    member(&gateway, &local[0]);
    until("three tries", async || {
        asker.asked().iter().filter(|question| question.revision == "r2").count() >= 3
    })
    .await;
    assert_eq!(watched.addresses().len(), 3);
    // One that exports nothing yet is not there.
    local[0].metadata.insert("dubbo.metadata.revision".into(), "0".into());
    member(&gateway, &local[0]);
    watched.until_addresses(&all[1..]).await;
}

#[tokio::test]
async fn metadata_is_found_where_java_would_have_it_too() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let (info, one) = described("java-shop", "10.0.0.1:20880");
    member(&gateway, &one);
    gateway.put(&format!("/dubbo/metadata/java-shop/{}", info.revision), info.to_string().as_bytes());
    gateway.put("/dubbo/mapping/a.B", b"java-shop");
    let registry = server.registry();
    Watched::start(&registry, ServiceKey::new("a.B")).until_addresses(&["10.0.0.1:20880"]).await;
}

#[tokio::test]
async fn an_application_that_tells_nothing_is_no_empty_set() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let (info, one) = described("shop", "10.0.0.1:20880");
    member(&gateway, &one);
    gateway.put("/dubbo/mapping/a.B", b"shop");
    let registry = open(Settings { reconcile: Duration::from_secs(2), ..server.settings() });
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_lost().await;
    assert_eq!(watched.view().instances, None);
    // An interface that can be found at the other level is not held up by it.
    let key = provider(&gateway, "10.0.0.2:20880");
    watched.until_addresses(&["10.0.0.2:20880"]).await;
    gateway.delete(&key);
    watched.until_lost().await;
    assert_eq!(watched.addresses(), ["10.0.0.2:20880"], "trouble must not empty a cluster");
    // It is asked again after a time, though nothing that is watched changed.
    gateway.put(&format!("/dubbo/shop/{}", info.revision), info.to_string().as_bytes());
    watched.until_addresses(&["10.0.0.1:20880"]).await;
}

#[tokio::test]
async fn operators_change_weights_and_disable() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    for host in 1..=3 {
        provider(&gateway, &format!("10.0.0.{host}:20880"));
    }
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"]).await;
    let key = |url: &str| format!("/dubbo/a.B/configurators/{}", percent::encode(url));
    let heavier = key("override://10.0.0.1:20880/a.B?category=configurators&enabled=true&weight=300");
    let disabled = key("override://10.0.0.2:20880/a.B?category=configurators&enabled=true&disabled=true");
    gateway.put(&heavier, b"");
    gateway.put(&disabled, b"");
    watched.until_addresses(&["10.0.0.1:20880", "10.0.0.3:20880"]).await;
    let weighs = |weight: u32| move |all: &Arc<[Instance]>| all.iter().any(|one| one.weight == weight);
    watched.until("another weight", |view| view.instances.as_ref().is_some_and(weighs(300))).await;
    gateway.delete(&disabled);
    gateway.delete(&heavier);
    watched
        .until("the usual weights", |view| {
            view.instances
                .as_ref()
                .is_some_and(|all| all.len() == 3 && all.iter().all(|one| one.weight == 100))
        })
        .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_passed_over_and_counted_once_and_marks_of_directories_are_nothing() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    // As dubbo-go's `CreatePath` leaves them.
    for marker in ["/dubbo", "/dubbo/a.B", "/dubbo/a.B/providers", "/dubbo/a.B/providers/"] {
        gateway.put(marker, b"");
    }
    gateway.put("/dubbo/a.B/providers/nonsense", b"");
    gateway.put("/dubbo/a.B/providers/dubbo%3A%2F%2F%zz", b"");
    provider(&gateway, "10.0.0.1:20880");
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.0.0.1:20880"]).await;
    provider(&gateway, "10.0.0.2:20880");
    watched.until_addresses(&["10.0.0.1:20880", "10.0.0.2:20880"]).await;
    assert_eq!(registry.status().unreadable, 2);
    gateway.put("/dubbo/mapping/a.B", b"\xff\xfe");
    until("one more", async || registry.status().unreadable == 3).await;
    provider(&gateway, "10.0.0.3:20880");
    watched.until_addresses(&["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"]).await;
    let shop = Watched::start(&registry, plain("shop"));
    shop.until_addresses(&[]).await;
    gateway.put("/outrigger/plain/shop/h:1", b"{");
    gateway.put("/outrigger/plain/shop/h", b"");
    gateway.put("/outrigger/plain/shop/h:2", b"");
    shop.until_addresses(&["h:2"]).await;
    assert_eq!(registry.status().unreadable, 5);
    gateway.put("/outrigger/plain/shop/h:1", br#"{"weight": 5, "colour": {}}"#);
    shop.until_addresses(&["h:1", "h:2"]).await;
    assert_eq!(shop.instances().iter().map(|one| one.weight).collect::<Vec<_>>(), [5, 100]);
}

#[tokio::test]
async fn a_name_that_another_begins_with_is_not_the_other() {
    let server = Server::start().await;
    let gateway = server.gateway();
    gateway.put(&provider_key("a.Foo", "10.0.0.1:1"), b"");
    gateway.put(&provider_key("a.FooBar", "10.0.0.2:1"), b"");
    gateway.put("/outrigger/plain/shop/h:1", b"");
    gateway.put("/outrigger/plain/shopping/h:2", b"");
    gateway.put("/outrigger/spring/shop/h:3", b"");
    let registry = server.registry();
    let foo = Watched::start(&registry, ServiceKey::new("a.Foo"));
    foo.until_addresses(&["10.0.0.1:1"]).await;
    Watched::start(&registry, ServiceKey::new("a.FooBar")).until_addresses(&["10.0.0.2:1"]).await;
    Watched::start(&registry, plain("shop")).until_addresses(&["h:1"]).await;
    gateway.put(&provider_key("a.FooBar", "10.0.0.3:1"), b"");
    gateway.put(&provider_key("a.Foo", "10.0.0.4:1"), b"");
    foo.until_addresses(&["10.0.0.1:1", "10.0.0.4:1"]).await;
    assert_eq!(foo.view().generation, 2, "what happens to the other is no news");
    assert_eq!(registry.services(Framework::Dubbo).await.expect("names"), ["a.Foo", "a.FooBar"]);
    assert_eq!(registry.services(Framework::Plain).await.expect("names"), ["shop", "shopping"]);
    assert_eq!(registry.services(Framework::Spring).await.expect("names"), ["shop"]);
}

#[tokio::test]
async fn a_registration_is_found_at_both_levels_and_leaves_what_others_need() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    gateway.put("/dubbo/mapping/a.B", b"others");
    let mut keeper = Keeper::start(&registry);
    let both = registration(Framework::Dubbo, Level::Both, 20880);
    let second =
        Registration { service: "a.C".into(), level: Level::Application, weight: 50, ..both.clone() };
    keeper.set(&[both.clone(), second]).await;
    let mapping = || gateway.get("/dubbo/mapping/a.B").expect("a mapping");
    assert_eq!((mapping().value.as_slice(), mapping().lease), (&b"others,shop"[..], 0));
    assert_eq!(gateway.below("/dubbo/a.B/providers/").len(), 1);
    assert_eq!(gateway.below("/dubbo/a.C/").len(), 0);
    let [member] = &gateway.below("/services/shop/")[..] else { panic!("one instance") };
    assert_eq!((member.node(), member.lease != 0), ("10.9.9.1:20880", true));
    let (told, _) = values::go_member(&member.value).expect("a member").expect("a member");
    let revision = told.revision().expect("a revision");
    // Each dubbo-go looks for it elsewhere.
    for place in ["/dubbo/shop/", "/dubboshop/", "/dubbo/metadata/shop/"] {
        assert_eq!(gateway.get(&format!("{place}{revision}")).expect("metadata").lease, 0);
    }
    let reader = server.registry();
    for (service, weight) in [("a.B", 100), ("a.C", 50)] {
        let watched = Watched::start(&reader, ServiceKey::new(service));
        watched.until_addresses(&["10.9.9.1:20880"]).await;
        assert_eq!(watched.instances()[0].weight, weight, "{service}");
    }
    assert_eq!(reader.services(Framework::Dubbo).await.expect("names"), ["a.B", "a.C"]);
    assert!(reader.services(Framework::Sofarpc).await.expect("names").is_empty());
    // What was withdrawn leaves its mapping, which others may need, and another revision what is left of it.
    keeper.set(&[both]).await;
    Watched::start(&reader, ServiceKey::new("a.C")).until_addresses(&[]).await;
    // Whoever desires nothing any more leaves nothing behind.
    keeper.end().await;
    assert_eq!(gateway.below("/services/").len(), 0);
    assert_eq!(mapping().value, b"others,shop");
}

#[tokio::test]
async fn consumers_of_dubbo_go_hear_of_who_comes_and_who_goes() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    let since = gateway.revision();
    let one = registration(Framework::Dubbo, Level::Both, 20880);
    keeper
        .set(&[one.clone(), Registration { protocol: "tri".into(), address: "10.9.9.1:20881".into(), ..one }])
        .await;
    let key = "/services/shop/10.9.9.1:20880";
    let twice =
        |prefix: &str| gateway.below(prefix).iter().filter(|entry| entry.created != entry.changed).count();
    until("all is put twice", async || twice("/services/shop/") == 1 && twice("/dubbo/a.B/providers/") == 2)
        .await;
    keeper.end().await;
    // They are told of what is written over, never of what is new or deleted, and read all that is there then.
    let told: Vec<_> =
        (since..=gateway.revision()).filter_map(|revision| gateway.get_at(key, revision)).collect();
    let mut told: Vec<(bool, bool)> = told
        .iter()
        .map(|entry| (entry.created != entry.changed, matches!(values::go_member(&entry.value), Ok(Some(_)))))
        .collect();
    told.dedup();
    assert_eq!(
        told,
        [(false, true), (true, true), (true, false)],
        "new, told of, told of as one that gives nothing"
    );
    assert_eq!(gateway.get(key), None);
}

#[tokio::test]
async fn what_an_instance_says_itself_is_asked_of_nobody() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let asker = Arc::new(Asker::default());
    let registry = open(Settings { ask: Some(asker.clone()), ..server.settings() });
    // As dubbo-go 3.3.0 wrote it; one more instance has another port and another version of the service, and the same revision.
    let golden: Vec<&str> = include_str!("golden/dubbo-go-3.3.0-local.txt").lines().collect();
    let value = golden.chunks(2).find(|entry| entry[0].starts_with("/services/")).expect("an instance")[1];
    gateway.put("/services/go-shop/10.9.9.1:20880", value.as_bytes());
    let other = value.replace("20880", "30880").replace("20881", "30881").replace("1.0.0", "1.1.0");
    gateway.put("/services/go-shop/10.9.9.1:30880", other.as_bytes());
    gateway.put("/dubbo/mapping/peer.api.DemoService", b"go-shop");
    let of = |version: &str| ServiceKey {
        version: Some(version.into()),
        protocol: Some("tri".into()),
        ..ServiceKey::new("peer.api.DemoService")
    };
    for (version, address) in [("1.0.0", "10.9.9.1:20881"), ("1.1.0", "10.9.9.1:30881")] {
        let watched = Watched::start(&registry, of(version));
        watched.until_addresses(&[address]).await;
        assert_eq!(watched.instances()[0].weight, 50);
    }
    assert!(asker.asked().is_empty());
}

#[tokio::test]
async fn what_cannot_be_known_to_others_is_said_and_not_written() {
    let server = Server::start().await;
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    let here =
        Registration { address: "127.0.0.1:20880".into(), ..registration(Framework::Dubbo, Level::Both, 1) };
    keeper.wish.set([here.clone(), registration(Framework::Dubbo, Level::Interface, 1)].into());
    until("a word", async || keeper.wish.written().is_some_and(|written| written.pending == 1)).await;
    assert!(keeper.until_pending().await.contains(&here.address));
    assert_eq!(server.gateway().below("/dubbo/a.B/providers/").len(), 1);
    assert_eq!(registry.refuses(&here).as_deref(), Some("no other host can dial its address"));
    assert_eq!(registry.refuses(&registration(Framework::Plain, Level::Interface, 1)), None);
    keeper.set(&[]).await;
}

#[tokio::test]
async fn a_name_or_a_root_that_is_no_key_is_lost_with_a_reason() {
    let server = Server::start().await;
    let registry = server.registry();
    Watched::start(&registry, ServiceKey::new("a/../b")).until_lost().await;
    let registry = open(Settings { group: "a//b".into(), ..server.settings() });
    Watched::start(&registry, ServiceKey::new("a.B")).until_lost().await;
    assert!(registry.services(Framework::Dubbo).await.is_err());
}
