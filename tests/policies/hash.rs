//! Picking by key: calls alike go to the same endpoint, and little moves when one is gone.

use crate::protocol::{Ask, Speaks, each, every};
use crate::support::within;
use crate::world::{PATIENCE, Setup, World};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

const KEYS: usize = 60;
const TABLES: [&str; 2] = ["ring_hash", "maglev"];

/// Which endpoint has each key.
fn homes(world: &mut World, ask: &dyn Fn(usize) -> Ask) -> Vec<usize> {
    (0..KEYS)
        .map(|key| {
            let got = world.ask(&ask(key));
            assert!(got.is_ok(), "{key}: {got:?}");
            got.by.expect("an endpoint")
        })
        .collect()
}

/// Keys keep their endpoints over calls and connections; those of one that is gone move, and come back with it.
fn keys_keep(protocol: &'static dyn Speaks, by: &str, ask: &dyn Fn(usize) -> Ask) {
    for table in TABLES {
        let cluster = format!("balance: {table}, hash: {by}, outlier: {{ share_max: 0% }}");
        // Calls that are under way to an endpoint as it ends are not what is looked at.
        let setup = Setup { cluster: &cluster, route: "idempotent: true", workers: 2, ..Setup::default() };
        let mut world = World::start(protocol, setup);
        let first = homes(&mut world, ask);
        for at in 0..3 {
            assert!(first.iter().filter(|home| **home == at).count() >= KEYS / 10, "{table} {by}: {first:?}");
        }
        for _ in 0..4 {
            let mut caller = world.caller();
            for (key, home) in first.iter().enumerate() {
                let got = caller.ask(&ask(key));
                assert_eq!(got.by, Some(*home), "{table} {by}: key {key} has moved");
            }
        }
        world.endpoints[1].kill();
        let without = homes(&mut world, ask);
        for (key, (before, now)) in first.iter().zip(&without).enumerate() {
            assert!(*now != 1 && (before == now || *before == 1), "{table} {by}: {key} {before} {now}");
        }
        assert!(
            (0..3)
                .filter(|at| *at != 1)
                .all(|at| { first.iter().zip(&without).any(|(before, now)| *before == 1 && *now == at) }),
            "{table} {by}: all moved to one: {without:?}"
        );
        world.endpoints[1].revive();
        let back = within(PATIENCE, || homes(&mut world, ask) == first);
        assert!(back, "{table} {by}: keys never came back");
        world.end();
    }
}

#[test]
fn a_header_keeps_its_endpoint() {
    every(|protocol| {
        keys_keep(protocol, "{ header: user }", &|key| Ask::new(key).header("user", format!("u{key}")));
    });
}

#[test]
fn a_path_keeps_its_endpoint() {
    each(
        |protocol| protocol.is_http(),
        |protocol| {
            keys_keep(protocol, "path", &|key| Ask::new(key).path(format!("/t.Echo/echo{key}")));
        },
    );
}

#[test]
fn a_cookie_keeps_its_endpoint() {
    each(
        |protocol| protocol.is_http(),
        |protocol| {
            keys_keep(protocol, "{ cookie: session }", &|key| {
                Ask::new(key).header("cookie", format!("a=b; session=s{key}; c=d"))
            });
        },
    );
}

#[test]
fn a_caller_keeps_its_endpoint() {
    every(|protocol| {
        for table in TABLES {
            let cluster = format!("balance: {table}, hash: source, outlier: {{ share_max: 0% }}");
            let world = World::start(protocol, Setup { cluster: &cluster, workers: 2, ..Setup::default() });
            let mut homes = Vec::new();
            for turn in 0..2 {
                for host in 1..=20 {
                    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
                    let socket = socket.expect("a socket");
                    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 7, host), 0));
                    socket.bind(&from.into()).expect("all of 127 is loopback");
                    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, world.sidecar.port("main")));
                    socket.connect(&to.into()).expect("the listener is there");
                    let mut caller = protocol.caller(socket.into());
                    let by: BTreeSet<_> = (0..3).map(|at| caller.ask(&Ask::new(at)).by).collect();
                    assert_eq!(by.len(), 1, "{table}: {host} went to {by:?}");
                    homes.push((turn, by));
                }
            }
            assert!((0..20).all(|host| homes[host].1 == homes[host + 20].1), "{table}: {homes:?}");
            assert_eq!(homes.iter().map(|(_, by)| by).collect::<BTreeSet<_>>().len(), 3, "{table}");
        }
    });
}

#[test]
fn calls_without_a_key_go_anywhere() {
    every(|protocol| {
        for table in TABLES {
            let cluster = format!("balance: {table}, hash: {{ header: user }}");
            let mut world = World::start(protocol, Setup { cluster: &cluster, ..Setup::default() });
            let spread = world.spread(120);
            assert!(spread.iter().all(|calls| *calls >= 15), "{table}: {spread:?}");
            world.end();
        }
    });
}
