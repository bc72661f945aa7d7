//! Which endpoints a call may go to: by environment, subset, tag and zone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // tests fail by panicking

use std::{collections::BTreeMap, time::Duration};

use outrigger_codec::Message;

use super::*;
use crate::{
    Cluster, ClusterSettings, EndpointSlot, Listener, ListenerId, Local, Outlier, Plan, Refused, Route,
    RouteTable, Snapshot, Target, decide,
    health::Probed,
    settle::{End, settle},
};

const NOW: Tick = Tick(1_000_000_000);

fn endpoint(address: &str, said: &[(&str, &str)]) -> Endpoint {
    let said = said.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Endpoint::new(address, 1).saying(said.collect())
}

struct World {
    snapshot: Snapshot,
    local: Local,
}

impl World {
    fn new(balance: Balance, division: Division, endpoints: Vec<Endpoint>) -> Self {
        let lot = division.subsets.first().map_or(Lot::ALL, Lot::of);
        let hash = Some(crate::HashBy::Header(b"user"[..].into()));
        let settings = ClusterSettings {
            division,
            hash: hash.filter(|_| matches!(balance, Balance::RingHash | Balance::Maglev)),
            outlier: Some(Outlier { share_max: 100, ..Outlier::default() }),
            ..ClusterSettings::default()
        };
        let route = Route {
            name: "all".into(),
            targets: [Target { lot, ..Target::new(0, 1) }].into(),
            ..Route::default()
        };
        let listener = Listener { name: "egress".into(), routes: RouteTable::new(vec![route]).into() };
        let snapshot =
            Snapshot::new(1, vec![listener], vec![Cluster::new("c", balance, settings, endpoints)]);
        let mut local = Local::new(7);
        local.reconcile(&snapshot);
        Self { snapshot, local }
    }

    fn plan(&mut self, headers: &[(&str, &str)], now: Tick) -> Result<Plan, Refused> {
        let mut message = Message::default();
        for (name, value) in headers {
            message.add(name.as_bytes(), value.as_bytes());
        }
        decide(&self.snapshot, ListenerId(0), &mut self.local, message.head(), now, now)
    }

    /// Where a thousand calls go, in percent, rounded.
    fn shares(&mut self, headers: &[(&str, &str)], now: Tick) -> BTreeMap<String, u32> {
        let mut shares = BTreeMap::new();
        for at in 0..1_000 {
            let user = at.to_string();
            let all: Vec<(&str, &str)> = headers.iter().copied().chain([("user", &*user)]).collect();
            let Ok(plan) = self.plan(&all, now) else { continue };
            let address = self.local.endpoint(plan.endpoint).unwrap().address.to_string();
            *shares.entry(address).or_insert(0) += 1;
            settle(&mut self.local, plan, End::Sent, now);
        }
        shares.into_iter().map(|(address, calls)| (address, (calls + 5) / 10)).collect()
    }

    fn find(&mut self, headers: &[(&str, &str)]) -> Vec<String> {
        self.shares(headers, NOW).into_keys().collect()
    }

    fn slot(&self, address: &str) -> EndpointSlot {
        self.local.endpoints().find(|(_, state)| &*state.address == address).unwrap().0
    }

    fn probe(&self, address: &str, found: Probed) {
        let cluster = self.snapshot.cluster(0).unwrap();
        let at = cluster.endpoints.iter().position(|endpoint| &*endpoint.address == address).unwrap();
        cluster.healths[at].probed(&cluster.crowd, found, NOW);
    }
}

const BALANCES: [Balance; 6] = [
    Balance::RoundRobin,
    Balance::Random,
    Balance::LeastRequest,
    Balance::P2cEwma,
    Balance::RingHash,
    Balance::Maglev,
];

#[test]
fn only_the_first_environment_that_has_any_is_used() {
    let of = |environments: &[&str]| Division {
        environments: environments.iter().map(|name| (*name).into()).collect(),
        ..Division::default()
    };
    let endpoints = || {
        vec![
            endpoint("p:1", &[("environment", "production")]),
            endpoint("s:1", &[("environment", "staging")]),
        ]
    };
    for balance in BALANCES {
        let find = |environments: &[&str], more: Option<Endpoint>| {
            let all = endpoints().into_iter().chain(more).collect();
            World::new(balance, of(environments), all).find(&[])
        };
        assert_eq!(find(&["staging"], None), ["s:1"]);
        assert_eq!(find(&["test"], None), [""; 0]);
        assert_eq!(find(&["test", "production"], None), ["p:1"]);
        assert_eq!(find(&[], None), ["p:1", "s:1"]);
        assert_eq!(find(&["test"], Some(endpoint("any:1", &[]))), ["any:1"]);
    }
}

#[test]
fn a_subset_takes_only_who_is_in_it_unless_nobody_is_and_any_will_do() {
    let of = |version: &str, fallback| Division {
        subsets: vec![Selector { want: vec![("version".into(), version.into())], fallback }],
        ..Division::default()
    };
    let endpoints = || {
        vec![endpoint("a:1", &[("version", "1")]), endpoint("b:1", &[("version", "2")]), endpoint("c:1", &[])]
    };
    for balance in BALANCES {
        let find = |version, fallback| World::new(balance, of(version, fallback), endpoints()).find(&[]);
        assert_eq!(find("2", false), ["b:1"], "{balance:?}");
        assert_eq!(find("2", true), ["b:1"], "{balance:?}");
        assert_eq!(find("3", false), [""; 0], "{balance:?}");
        assert_eq!(find("3", true), ["a:1", "b:1", "c:1"], "{balance:?}");
    }
}

fn tags(fallback: bool) -> Division {
    let tags = Tags {
        headers: vec![b"dubbo.tag"[..].into()],
        metadata: "tag".into(),
        fallback,
        force: Some(b"dubbo.force.tag"[..].into()),
    };
    Division { tags: Some(tags), ..Division::default() }
}

#[test]
fn calls_with_a_tag_go_to_their_own_and_those_without_to_the_others() {
    let endpoints =
        || vec![endpoint("gray:1", &[("tag", "gray")]), endpoint("a:1", &[]), endpoint("b:1", &[])];
    for balance in BALANCES {
        let mut world = World::new(balance, tags(true), endpoints());
        assert_eq!(world.find(&[]), ["a:1", "b:1"], "{balance:?}");
        assert_eq!(world.find(&[("dubbo.tag", "")]), ["a:1", "b:1"], "{balance:?}");
        assert_eq!(world.find(&[("dubbo.tag", "gray")]), ["gray:1"], "{balance:?}");
        assert_eq!(world.find(&[("dubbo.tag", "blue")]), ["a:1", "b:1"], "{balance:?}");
        let forced = [("dubbo.tag", "blue"), ("dubbo.force.tag", "true")];
        assert_eq!(world.find(&forced), [""; 0], "{balance:?}");
        let mut strict = World::new(balance, tags(false), endpoints());
        assert_eq!(strict.find(&[("dubbo.tag", "blue")]), [""; 0], "{balance:?}");
        assert_eq!(strict.find(&[("dubbo.tag", "gray")]), ["gray:1"], "{balance:?}");
    }
}

#[test]
fn a_call_that_is_tried_again_keeps_its_tag() {
    let endpoints = vec![
        endpoint("gray:1", &[("tag", "gray")]),
        endpoint("gray:2", &[("tag", "gray")]),
        endpoint("a:1", &[]),
    ];
    let mut world = World::new(Balance::P2cEwma, tags(true), endpoints);
    for _ in 0..100 {
        let plan = world.plan(&[("dubbo.tag", "gray")], NOW).unwrap();
        let meant = (plan.lot, plan.tried);
        let other = world.local.elsewhere(&world.snapshot, plan.endpoint, meant, NOW).unwrap();
        assert_ne!(other, plan.endpoint);
        assert_ne!(other, world.slot("a:1"));
        settle(&mut world.local, plan, End::Sent, NOW);
    }
}

fn zones() -> Division {
    let zones = Zones { own: "a".into(), near: vec!["b".into()], last: vec!["cloud".into()], spill: 70 };
    Division { zones: Some(zones), ..Division::default() }
}

fn spread() -> Vec<Endpoint> {
    let zones = [("a", 4), ("b", 2), ("c", 2), ("cloud", 2)];
    let of = |(zone, count)| {
        (0..count).map(move |at| endpoint(&format!("{zone}{at}:1"), &[("zone", zone)])).collect::<Vec<_>>()
    };
    zones.into_iter().flat_map(of).collect()
}

/// Calls by the zone of the endpoint that took them, in percent.
fn by_zone(world: &mut World, now: Tick) -> BTreeMap<String, u32> {
    let mut zones = BTreeMap::new();
    for (address, share) in world.shares(&[], now) {
        *zones.entry(address.trim_end_matches(|c: char| !c.is_alphabetic()).to_owned()).or_insert(0) += share;
    }
    zones
}

#[test]
fn near_endpoints_take_all_calls_and_give_on_what_is_too_much_for_those_that_are_left() {
    for balance in BALANCES {
        let mut world = World::new(balance, zones(), spread());
        assert_eq!(by_zone(&mut world, NOW).into_keys().collect::<Vec<_>>(), ["a"], "{balance:?}");
        world.probe("a0:1", Probed::Ill);
        // Three of four are more than 70 %: nothing is given on.
        assert_eq!(by_zone(&mut world, NOW).into_keys().collect::<Vec<_>>(), ["a"], "{balance:?}");
        world.probe("a1:1", Probed::Ill);
        // Half of them can take 50 / 70 of the calls.
        let shares = by_zone(&mut world, NOW);
        assert!((66..=77).contains(&shares["a"]), "{balance:?} {shares:?}");
        assert!((23..=34).contains(&shares["b"]), "{balance:?} {shares:?}");
        for ill in ["a2:1", "a3:1"] {
            world.probe(ill, Probed::Ill);
        }
        assert_eq!(by_zone(&mut world, NOW).into_keys().collect::<Vec<_>>(), ["b"], "{balance:?}");
        for ill in ["b0:1", "b1:1", "c0:1", "c1:1"] {
            world.probe(ill, Probed::Ill);
        }
        // The last are well and have room: there is no reason to ask who is ill.
        assert_eq!(by_zone(&mut world, NOW).into_keys().collect::<Vec<_>>(), ["cloud"], "{balance:?}");
        for ill in ["cloud0:1", "cloud1:1"] {
            world.probe(ill, Probed::Ill);
        }
        assert_eq!(by_zone(&mut world, NOW).len(), 4, "{balance:?}: all are ill, so all are tried");
        world.probe("a3:1", Probed::Well);
        for well in ["a0:1", "a1:1", "a2:1"] {
            world.probe(well, Probed::Well);
        }
        assert_eq!(by_zone(&mut world, NOW).into_keys().collect::<Vec<_>>(), ["a"], "{balance:?}");
    }
}

#[test]
fn who_cannot_be_reached_nearby_is_looked_for_further_away() {
    for balance in BALANCES {
        let mut world = World::new(balance, zones(), spread());
        for at in 0..4 {
            let slot = world.slot(&format!("a{at}:1"));
            world.local.avoid(slot, NOW.after(Duration::from_secs(1)));
        }
        assert_eq!(by_zone(&mut world, NOW).into_keys().collect::<Vec<_>>(), ["b"], "{balance:?}");
    }
}

#[test]
fn a_zone_that_was_left_out_comes_back_by_itself() {
    let endpoints = vec![endpoint("a0:1", &[("zone", "a")]), endpoint("b0:1", &[("zone", "b")])];
    let mut world = World::new(Balance::P2cEwma, zones(), endpoints);
    let near = world.slot("a0:1");
    (0..5).for_each(|_| world.local.failed_at(near, NOW));
    assert_eq!(by_zone(&mut world, NOW).into_keys().collect::<Vec<_>>(), ["b"]);
    let later = NOW.after(Duration::from_secs(11));
    let plan = world.plan(&[], later).unwrap();
    assert_eq!(plan.endpoint, near, "the call on trial");
    settle(&mut world.local, plan, End::Answered(outrigger_codec::Outcome::Ok), later);
    assert_eq!(by_zone(&mut world, later).into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn keys_stay_where_they_are_while_calls_are_given_on() {
    for balance in [Balance::RingHash, Balance::Maglev] {
        let mut world = World::new(balance, zones(), spread());
        world.probe("a0:1", Probed::Ill);
        world.probe("a1:1", Probed::Ill);
        for user in 0..200 {
            let user = user.to_string();
            let mut ask = || {
                let plan = world.plan(&[("user", &user)], NOW).unwrap();
                let endpoint = plan.endpoint;
                settle(&mut world.local, plan, End::Sent, NOW);
                endpoint
            };
            let first = ask();
            assert!((0..5).all(|_| ask() == first), "{balance:?} {user}");
        }
    }
}

#[test]
fn a_part_for_each_two_of_thousands_takes_memory_by_the_endpoint() {
    let all: Vec<Endpoint> = (0..4_000)
        .map(|at| {
            let (tag, zone) = (format!("t{}", at / 2), if at % 2 == 0 { "a" } else { "c" });
            endpoint(&format!("e{at}:1"), &[("tag", &tag), ("zone", zone)])
        })
        .collect();
    let division = Division { zones: zones().zones, ..tags(true) };
    for balance in [Balance::RingHash, Balance::Maglev] {
        let parts = Parts::new(&all, &division, balance);
        // The whole and its two levels, and for each tag its two endpoints and each of them.
        assert_eq!(parts.len(), 3 + 2_000 * 3);
        let bytes: usize = parts.list.iter().map(|part| part.hashed.bytes()).sum();
        assert!(bytes < 128 << 20, "{balance:?}: {bytes}");
    }
}
