//! Tests of what the conf means for bridges: each key reaches what it is for, and what could never work is refused at its place,
//! in words that say what to write.

use std::{path::Path, time::Duration};

use outrigger_discovery::{Framework, Level};

use super::super::{BridgePlan, Plan, read};
use crate::conf::report::Report;

const REGISTRIES: &str = "zk: { zookeeper: { address: 'z:2181' } }, zk2: { zookeeper: { address: 'y:2181' } }, \
    nc: { nacos: { address: 'n:8848' } }, nc2: { nacos: { address: 'm:8848' } }, f: { file: { path: services.yaml } }";

/// A conf whose line 3 is the bridges, and which listens nowhere.
fn conf(registries: &str, bridges: &str) -> Result<Plan, Report> {
    let text = format!("app: shop\nregistries: {{ {registries} }}\nbridges: {{ {bridges} }}\n");
    read(Path::new("conf.yaml"), text.as_bytes(), &|_| None)
}

fn well(bridge: &str) -> BridgePlan {
    conf(REGISTRIES, &format!("b: {{ {bridge} }}"))
        .unwrap_or_else(|report| panic!("{report}"))
        .bridges
        .remove(0)
}

/// What is wrong, as `line:column message | help`; columns count from the bridge's brace.
#[track_caller]
fn refused(bridge: &str) -> Vec<String> {
    let Err(report) = conf(REGISTRIES, &format!("b: {{ {bridge} }}")) else { panic!("{bridge} is taken") };
    let told = report.problems().iter().map(|problem| {
        let help = problem.help.as_deref().unwrap_or("-");
        format!("{}:{} {} | {help}", problem.span.line, problem.span.column, problem.message)
    });
    told.collect()
}

#[test]
fn what_is_not_said_has_a_good_meaning() {
    let plan = well("from: zk, to: nc");
    assert_eq!((plan.name.as_str(), plan.from.as_str(), plan.to.as_str()), ("b", "zk", "nc"));
    assert!(plan.services.matches(Some(b"a.B")));
    assert_eq!(
        (plan.framework, plan.written_as, plan.level),
        (Framework::Dubbo, Framework::Dubbo, Level::Both)
    );
    assert_eq!((plan.hops_max, plan.writes_max, plan.patience.as_secs()), (1, 500, 5));
    assert_eq!((plan.election.as_deref(), plan.hold.as_secs()), (Some("zk"), 30));
    assert_eq!(well("from: nc, to: zk").election.as_deref(), Some("zk"));
    assert_eq!(
        well("from: zk, to: zk2").election.as_deref(),
        Some("zk2"),
        "where it writes, if that can tell"
    );
}

#[test]
fn every_key_reaches_what_it_is_for() {
    let plan = well(
        "from: nc, to: zk, services: { prefix: com. }, framework: spring, protocol: http, as: plain, \
         rename: { com.a: com.b }, app: shop, metadata: { zone: a }, hops_max: 3, election: zk2, patience: 7s, \
         writes_max: 9, hold_empty: 2s",
    );
    assert!(plan.services.matches(Some(b"com.a")) && !plan.services.matches(Some(b"org.a")));
    assert_eq!((plan.framework, plan.written_as), (Framework::Spring, Framework::Plain));
    assert_eq!((plan.protocol.as_deref(), plan.app.as_deref()), (Some("http"), Some("shop")));
    assert_eq!((plan.rename["com.a"].as_str(), plan.metadata["zone"].as_str()), ("com.b", "a"));
    assert_eq!((plan.hops_max, plan.election.as_deref(), plan.patience.as_secs()), (3, Some("zk2"), 7));
    assert_eq!((plan.writes_max, plan.hold), (9, Duration::from_secs(2)));
    let alone = well("from: nc, to: nc2, election: 'off', level: application");
    assert_eq!((alone.election, alone.level), (None, Level::Application));
}

#[test]
fn a_bridge_that_could_not_work_is_refused() {
    for (bridge, want) in [
        ("from: zk, to: zk", "3:31 a bridge leads from one registry to another | -"),
        ("from: zk, to: f", "3:31 nothing can be registered in a file | -"),
        ("from: zk, to: zkk", "3:31 no registry is called `zkk` | did you mean `zk`?"),
        ("from: z, to: nc", "3:23 no registry is called `z` | did you mean `zk`?"),
        (
            "from: nc, to: nc2",
            "3:15 neither registry can tell which of several sidecars writes | name one that can as `election` (ZooKeeper, \
             etcd, Kubernetes), or write `election: off` and run this bridge in one sidecar only",
        ),
        (
            "from: nc, to: nc2, election: nc",
            "3:46 `nc` cannot tell who writes | ZooKeeper, etcd and Kubernetes can",
        ),
        ("from: zk, to: nc, hops_max: 0", "3:45 expected 1 to 16 | -"),
        ("from: zk, to: nc, hops_max: 17", "3:45 expected 1 to 16 | -"),
        ("from: zk, to: nc, writes_max: 0", "3:47 expected at least 1 | -"),
        ("from: zk, to: nc, patience: 1s", "3:45 expected 3s to 1m | -"),
        ("from: zk, to: nc, patience: 2m", "3:45 expected 3s to 1m | -"),
        (
            "from: nc, to: zk, patience: 16s",
            "3:45 what a writer that died has registered would go before another one is there | at most half of the \
             `session_timeout` of `zk`, which is 30s",
        ),
        ("from: zk, to: nc, framework: spring, level: both", "3:61 only services of Dubbo have a level | -"),
        ("from: zk, to: nc, rename: { a: '' }", "3:48 expected the name of a service | -"),
    ] {
        assert_eq!(refused(bridge), [want], "{bridge}");
    }
    well("from: nc, to: zk, patience: 15s");
    well("from: nc, to: zk, patience: 16s, election: 'off'");
}

#[test]
fn a_place_by_another_name_is_the_same_place() {
    let two = |more: &str| {
        let one = "zk: { zookeeper: { address: ['a:1', 'b:1'] } }";
        conf(
            &format!("{one}, other: {{ zookeeper: {{ address: ['b:1', 'a:1']{more} }} }}"),
            "b: { from: zk, to: other }",
        )
    };
    let report = two("").expect_err("it leads nowhere");
    let told: Vec<_> = report.problems().iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(told, ["`other` is the same place as `zk`"]);
    for apart in [", chroot: /x", ", group: prod"] {
        assert!(two(apart).is_ok(), "{apart}");
    }
}

#[test]
fn a_name_is_one_that_a_seat_can_have() {
    let Err(report) = conf(REGISTRIES, "'a b': { from: zk, to: nc }") else { panic!("it is taken") };
    assert!(report.to_string().contains("letters, digits, `-`, `_` and `.`"), "{report}");
}
