//! What befalls a connection, a lease and a seat, over a real etcd: its past is compacted, its server hangs, dies or is not there
//! yet, and an operator takes things away.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::time::{Duration, Instant};

use outrigger_discovery::{Framework, Level, Registry, Seat, ServiceKey, formats::percent};
use outrigger_registry_etcd::{Settings, open};
use tokio::time;

use support::{
    LEASE, PATIENCE, Server,
    gateway::{Entry, Gateway},
    relay::Relay,
    watched::{Keeper, Watched, registration, until},
};

const PROVIDERS: &str = "/dubbo/a.B/providers/";
const PLAIN: &str = "/outrigger/plain/a.B/";

fn dubbo(port: u16) -> outrigger_discovery::Registration {
    registration(Framework::Dubbo, Level::Interface, port)
}

fn provider(gateway: &Gateway, address: &str) -> String {
    let url = format!("dubbo://{address}/a.B?interface=a.B&side=provider&category=providers");
    let key = format!("{PROVIDERS}{}", percent::encode(&url));
    gateway.put(&key, b"");
    key
}

fn plain(service: &str) -> ServiceKey {
    ServiceKey { framework: Framework::Plain, ..ServiceKey::new(service) }
}

/// The one lease that all providers are on.
fn lease_of(entries: &[Entry]) -> i64 {
    let [first, rest @ ..] = entries else { panic!("no providers") };
    assert!(first.lease != 0 && rest.iter().all(|one| one.lease == first.lease), "{entries:?}");
    first.lease
}

#[tokio::test]
async fn a_past_that_is_compacted_in_a_gap_takes_nothing_away() {
    let mut server = Server::start().await;
    let gateway = server.gateway();
    let gone = provider(&gateway, "10.0.0.1:1");
    provider(&gateway, "10.0.0.2:1");
    let registry = server.registry();
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.0.0.1:1", "10.0.0.2:1"]).await;
    // The connection alone is away, so that the server can go on without us.
    server.hang();
    watched.until_lost().await;
    server.kill();
    server.restart().await;
    gateway.delete(&gone);
    provider(&gateway, "10.0.0.3:1");
    for turn in 0..50 {
        gateway.put("/other", format!("{turn}").as_bytes());
    }
    gateway.compact();
    watched.until_addresses(&["10.0.0.2:1", "10.0.0.3:1"]).await;
    // And it goes on from there.
    provider(&gateway, "10.0.0.4:1");
    watched.until_addresses(&["10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]).await;
    assert!(watched.view().gaps > 0);
}

#[tokio::test]
async fn compaction_under_a_watch_takes_nothing_away() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&[]).await;
    for host in 1..=9 {
        provider(&gateway, &format!("10.0.0.{host}:1"));
        gateway.compact();
    }
    let all: Vec<String> = (1..=9).map(|host| format!("10.0.0.{host}:1")).collect();
    watched.until_addresses(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!((watched.view().gaps, registry.status().connections), (0, 1));
}

#[tokio::test]
async fn a_watch_that_fell_behind_what_is_compacted_is_read_anew() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let relay = Relay::start(server.address()).await;
    let registry = open(Settings { servers: vec![relay.address()], ..server.settings() });
    let watched = Watched::start(&registry, plain("shop"));
    watched.until_addresses(&[]).await;
    gateway.put("/outrigger/plain/shop/h:1", b"");
    watched.until_addresses(&["h:1"]).await;
    // More than the stream takes while nobody reads it; shorter than it takes to count as lost.
    relay.passes(false);
    let large = format!(r#"{{"metadata": {{"x": "{}"}}}}"#, "x".repeat(20_000));
    for _ in 0..400 {
        gateway.put("/outrigger/plain/shop/h:2", large.as_bytes());
    }
    gateway.delete("/outrigger/plain/shop/h:1");
    gateway.put("/outrigger/plain/shop/h:3", b"");
    gateway.compact();
    // The server must have seen that it cannot tell everything any more.
    time::sleep(Duration::from_secs(1)).await;
    relay.passes(true);
    watched.until_addresses(&["h:2", "h:3"]).await;
    gateway.put("/outrigger/plain/shop/h:4", b"");
    watched.until_addresses(&["h:2", "h:3", "h:4"]).await;
    assert_eq!((watched.view().gaps, registry.status().connections), (0, 1), "it was never lost");
}

#[tokio::test]
async fn a_lease_that_an_operator_ended_is_made_anew_and_everything_put_again() {
    let server = Server::start().await;
    let gateway = server.gateway();
    // So long that nobody would find out by its end.
    let registry = open(Settings { lease: Duration::from_secs(600), ..server.settings() });
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[dubbo(1), dubbo(2), registration(Framework::Plain, Level::Interface, 3)]).await;
    let before = lease_of(&gateway.below(PROVIDERS));
    for _ in 0..2 {
        let lease = lease_of(&gateway.below(PROVIDERS));
        gateway.revoke(lease);
        until("everything again", async || {
            let have = [gateway.below(PROVIDERS), gateway.below(PLAIN)].concat();
            have.len() == 3 && have.iter().all(|one| one.lease != lease)
        })
        .await;
    }
    let plain = gateway.below(PLAIN);
    assert_eq!(lease_of(&plain), lease_of(&gateway.below(PROVIDERS)));
    assert_ne!(lease_of(&plain), before);
    keeper.end().await;
    assert_eq!(gateway.below("/").len(), 0);
}

#[tokio::test]
async fn a_lease_lives_longer_than_the_server_and_the_connection() {
    let mut server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[dubbo(1), dubbo(2)]).await;
    // What is put once more is the same key.
    let lasting = |entries: &[Entry]| -> Vec<_> {
        entries.iter().map(|entry| (entry.key.clone(), entry.lease, entry.created)).collect()
    };
    let before = gateway.below(PROVIDERS);
    let lease = lease_of(&before);
    server.kill();
    keeper.until_pending().await;
    server.restart().await;
    keeper.done().await;
    // Longer than it lasts without a beat.
    time::sleep(LEASE * 2).await;
    let after = gateway.below(PROVIDERS);
    assert_eq!(lasting(&after), lasting(&before), "the same keys on the same lease, never made anew");
    assert_eq!((gateway.leases(), lease_of(&gateway.below(PROVIDERS))), (1, lease));
}

#[tokio::test]
async fn what_is_given_up_while_there_is_no_server_does_not_come_back_with_it() {
    let mut server = Server::start().await;
    // So long that it cannot be its end that takes anything away.
    let registry = open(Settings { lease: Duration::from_secs(600), ..server.settings() });
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[dubbo(1), dubbo(2)]).await;
    // There is a connection for another reason, too.
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.9.9.1:1", "10.9.9.1:2"]).await;
    server.kill();
    keeper.until_pending().await;
    keeper.end().await;
    server.restart().await;
    let gateway = server.gateway();
    until("nothing any more", async || gateway.below(PROVIDERS).is_empty()).await;
    until("no lease any more", async || gateway.leases() == 0).await;
    // And it goes on from there.
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[dubbo(3)]).await;
    watched.until_addresses(&["10.9.9.1:3"]).await;
    keeper.end().await;
    until("no lease without anything on it", async || gateway.leases() == 0).await;
}

#[tokio::test]
async fn a_server_that_hangs_for_longer_than_the_lease_gets_all_again() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[dubbo(1)]).await;
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.9.9.1:1"]).await;
    server.hang();
    watched.until_lost().await;
    keeper.until_pending().await;
    assert_eq!(registry.status().connected, None);
    time::sleep(LEASE).await;
    assert_eq!(watched.addresses(), ["10.9.9.1:1"], "trouble must not empty a cluster");
    server.go_on();
    keeper.done().await;
    watched.until_addresses(&["10.9.9.1:1"]).await;
    time::sleep(LEASE * 2).await;
    assert_eq!(gateway.below(PROVIDERS).len(), 1);
    assert!(registry.status().connected.is_some());
}

#[tokio::test]
async fn nobody_there_is_a_loss_and_no_end() {
    let mut server = Server::new("http", &[]);
    let registry = server.registry();
    assert_eq!(registry.status().connections, 0, "nothing is asked before something runs");
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    let mut keeper = Keeper::start(&registry);
    keeper.wish.set([dubbo(1)].into());
    let why = watched.until_lost().await;
    assert!(why.contains(&server.address()) && why.contains("refused"), "{why}");
    keeper.until_pending().await;
    let reason = registry.services(Framework::Dubbo).await.expect_err("nobody");
    assert!(reason.contains(&server.address()), "{reason}");
    server.restart().await;
    keeper.done().await;
    watched.until_addresses(&["10.9.9.1:1"]).await;
}

#[tokio::test]
async fn another_server_is_tried_when_one_is_gone() {
    let (gone, server) = (Server::new("http", &[]), Server::start().await);
    provider(&server.gateway(), "10.0.0.1:1");
    let servers = vec![gone.address(), server.address()];
    // Which is tried first is drawn; each of these finds the one that is there.
    for _ in 0..4 {
        let registry = open(Settings { servers: servers.clone(), ..server.settings() });
        Watched::start(&registry, ServiceKey::new("a.B")).until_addresses(&["10.0.0.1:1"]).await;
    }
}

#[tokio::test]
async fn a_key_on_the_lease_of_another_is_overtaken_and_one_without_a_lease_too() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[dubbo(1)]).await;
    let [ours] = &gateway.below(PROVIDERS)[..] else { panic!("one provider") };
    for theirs in [gateway.grant(60), 0] {
        gateway.put_on(&ours.key, b"theirs", theirs);
        until("ours", async || gateway.get(&ours.key).expect("a key").lease == ours.lease).await;
        let now = gateway.get(&ours.key).expect("a key");
        assert_eq!((now.created, now.value.len()), (ours.created, 0), "there was no moment without it");
    }
    // What is theirs by now is not taken away with ours.
    keeper.wish.yields(true);
    keeper.done().await;
    let theirs = gateway.grant(60);
    gateway.put_on(&ours.key, b"theirs", theirs);
    keeper.set(&[]).await;
    keeper.end().await;
    assert_eq!(gateway.get(&ours.key).expect("a key").lease, theirs);
}

#[tokio::test]
async fn what_an_aborted_registration_left_behind_is_taken_away_by_the_next() {
    let server = Server::start().await;
    let registry = server.registry();
    let mut first = Keeper::start(&registry);
    first.set(&[dubbo(1), dubbo(2)]).await;
    drop(first);
    let mut second = Keeper::start(&registry);
    second.set(&[dubbo(2), dubbo(3)]).await;
    let gateway = server.gateway();
    until("the first alone is gone", async || {
        let keys = gateway.below(PROVIDERS);
        let has = |port: u16| keys.iter().any(|one| one.key.contains(&format!("10.9.9.1%3A{port}")));
        [has(1), has(2), has(3)] == [false, true, true]
    })
    .await;
}

#[tokio::test]
async fn a_closed_registry_stays_closed_and_its_keys_go_at_once() {
    let server = Server::start().await;
    let gateway = server.gateway();
    // A lease that would be kept for long if it were not ended.
    let registry = open(Settings { lease: Duration::from_secs(600), ..server.settings() });
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[dubbo(1)]).await;
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_addresses(&["10.9.9.1:1"]).await;
    assert_eq!((gateway.below(PROVIDERS).len(), gateway.leases()), (1, 1));
    registry.close().await;
    assert_eq!((gateway.below(PROVIDERS).len(), gateway.leases()), (0, 0));
    watched.until_lost().await;
    assert_eq!(watched.addresses(), ["10.9.9.1:1"]);
    keeper.until_pending().await;
    assert!(registry.services(Framework::Dubbo).await.is_err());
    // A second end is none.
    registry.close().await;
}

#[tokio::test]
async fn a_seat_lives_on_a_lease_of_its_own_and_is_lost_with_it() {
    let server = Server::start().await;
    let gateway = server.gateway();
    let registry = server.registry();
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[dubbo(1)]).await;
    let (mut seat, candidate) = Seat::new("bridge", "one", Duration::from_secs(4));
    let standing = tokio::spawn(registry.elect(candidate).expect("a registry that can tell"));
    let mut first = 0;
    for turn in 0..3 {
        until("a holder", async || {
            let term = seat.term();
            term.is_held(Instant::now()) && term.number > first
        })
        .await;
        let have = gateway.get("/outrigger/seats/bridge").expect("a seat");
        assert_eq!(have.value, b"one");
        assert_ne!(have.lease, lease_of(&gateway.below(PROVIDERS)));
        first = seat.term().number;
        assert_eq!(first, u64::try_from(have.created).expect("a number"));
        match turn {
            0 => gateway.revoke(have.lease),
            1 => gateway.delete("/outrigger/seats/bridge"),
            _ => {}
        }
    }
    // Another's key is another's seat, whoever wrote it.
    let theirs = gateway.grant(60);
    gateway.delete("/outrigger/seats/bridge");
    gateway.put_on("/outrigger/seats/bridge", b"two", theirs);
    until("a follower", async || {
        let term = seat.term();
        term.until.is_none() && term.holder.as_deref() == Some("two")
    })
    .await;
    drop(seat);
    time::timeout(PATIENCE, standing).await.expect("an end in time").expect("an end");
    assert_eq!(gateway.get("/outrigger/seats/bridge").expect("theirs").lease, theirs);
    // Theirs, and that of the registrations: the candidate's own is gone.
    until("two leases", async || gateway.leases() == 2).await;
}
