//! Which endpoints a call may go to at all: by environment, subset, tag and zone.

use crate::protocol::{Ask, Meaning, Speaks, every};
use crate::world::{ALL_STAY, Setup, World};
use std::collections::BTreeSet;

/// Endpoints that say this of themselves, each as a flow map has it.
fn world(protocol: &'static dyn Speaks, said: &[&str], route: &str, cluster: &str, top: &str) -> World {
    // In turn, so that who may be asked is asked.
    let cluster = format!("balance: round_robin, {cluster}, {ALL_STAY}");
    let setup = Setup { endpoints: said.len(), route, cluster: &cluster, ..Setup::default() };
    World::saying(protocol, said, setup, top)
}

/// Who answers calls with these headers; empty when all of them are refused for want of an endpoint.
fn answer(world: &mut World, headers: &[(&str, &str)]) -> Vec<usize> {
    let mut by = BTreeSet::new();
    for at in 0..24 {
        let mut ask = Ask::new(format!("call-{at}-{headers:?}").replace(['"', ' '], ""));
        for (name, value) in headers {
            ask = ask.header(name, value);
        }
        let got = world.ask(&ask);
        match got.by {
            Some(endpoint) if got.is_ok() => drop(by.insert(endpoint)),
            // gRPC has one status for both.
            _ => assert!(
                got.by.is_none() && matches!(got.meaning, Meaning::Other(_) | Meaning::Unreachable),
                "{headers:?}: {got:?}"
            ),
        }
    }
    by.into_iter().collect()
}

#[test]
fn calls_with_a_tag_go_to_endpoints_with_the_same() {
    every(|protocol| {
        let said = ["dubbo.tag: gray", "", "zone: a"];
        let mut some = world(protocol, &said, "", "tags: {}", "");
        assert_eq!(answer(&mut some, &[]), [1, 2]);
        assert_eq!(answer(&mut some, &[("dubbo.tag", "gray")]), [0]);
        assert_eq!(answer(&mut some, &[("dubbo-tag", "gray")]), [0]);
        assert_eq!(answer(&mut some, &[("dubbo.tag", "blue")]), [1, 2]);
        assert_eq!(answer(&mut some, &[("dubbo.tag", "blue"), ("dubbo.force.tag", "true")]), [0; 0]);
        some.end();
        let own = "tags: { header: lane, metadata: zone, fallback: false }";
        let mut strict = world(protocol, &said, "", own, "");
        assert_eq!(answer(&mut strict, &[("lane", "a")]), [2]);
        assert_eq!(answer(&mut strict, &[("lane", "b")]), [0; 0]);
        strict.end();
    });
}

#[test]
fn a_call_with_a_tag_is_tried_again_only_where_its_tag_is() {
    every(|protocol| {
        let said = ["dubbo.tag: gray", "dubbo.tag: gray", ""];
        let mut world = world(protocol, &said, "idempotent: true", "tags: {}", "");
        world.endpoints[0].kill();
        assert_eq!(answer(&mut world, &[("dubbo.tag", "gray")]), [1]);
        assert_eq!(world.endpoints[2].calls(), 0);
        world.end();
    });
}

#[test]
fn subsets_environments_and_zones_are_kept_apart() {
    every(|protocol| {
        let said = [
            "version: v1, environment: staging, zone: a",
            "version: v2, environment: staging, zone: b",
            "version: v2, environment: production, zone: a",
        ];
        for (route, cluster, top, wanted) in [
            ("subset: { version: v1 }", "panic: 50%", "", vec![0]),
            ("subset: { version: v2, zone: a }", "panic: 50%", "", vec![2]),
            ("subset: { version: v3 }", "panic: 50%", "", vec![]),
            ("subset: { version: v3 }, subset_fallback: true", "panic: 50%", "", vec![0, 1, 2]),
            ("", "subset: { version: v2 }", "", vec![1, 2]),
            ("", "panic: 50%", "environment: staging", vec![0, 1]),
            ("", "panic: 50%", "environment: test", vec![]),
            ("", "environments: [test, production]", "environment: test", vec![2]),
            ("", "panic: 50%", "zone: b", vec![1]),
            ("", "panic: 50%", "zone: a\nenvironment: staging", vec![0]),
            ("", "zones: { local_first: false }", "zone: b", vec![0, 1, 2]),
            ("", "zones: { near: [b] }", "zone: c", vec![1]),
            ("", "zones: { last: [a] }", "zone: c", vec![1]),
        ] {
            let mut world = world(protocol, &said, route, cluster, top);
            assert_eq!(answer(&mut world, &[]), wanted, "{route} {cluster} {top}");
            world.end();
        }
    });
}

#[test]
fn when_the_near_ones_are_gone_others_answer_and_nobody_notices() {
    every(|protocol| {
        let said = ["zone: a", "zone: a", "zone: cloud", "zone: b"];
        let mut world = world(protocol, &said, "idempotent: true", "zones: { last: [cloud] }", "zone: a");
        assert_eq!(answer(&mut world, &[]), [0, 1]);
        world.endpoints[0].kill();
        assert_eq!(answer(&mut world, &[]), [1]);
        world.endpoints[1].kill();
        assert_eq!(answer(&mut world, &[]), [3]);
        world.endpoints[3].kill();
        assert_eq!(answer(&mut world, &[]), [2]);
        world.end();
    });
}
