//! Tests of defaults: what is written nearer wins, what could mean nothing is left out, and each mistake is told once, at
//! its own place.

use std::{path::Path, time::Duration};

use super::*;
use crate::conf::{
    file::{Balance, HashBy},
    lower::{Plan, read},
    report::Report,
    yaml::{self, Lookup},
};

/// Endpoints of a cluster, which hold nothing of interest.
const E: &str = "endpoints: ['h:1']";

/// A conf: `defaults` from line 3, then the routes of a listener of any protocol on line 6, and clusters from line 8.
fn text(defaults: &str, routes: &str, clusters: &str) -> String {
    format!(
        "app: a\nadmin: off\n{defaults}\nlisteners:\n  l: {{ bind: '127.0.0.1:1', routes: [{routes}] }}\nclusters:\n  \
         {clusters}\n"
    )
}

fn conf(text: &str) -> Result<Plan, Report> {
    let env: &Lookup<'_> = &|name| (name == "YES").then(|| "true".to_owned());
    read(Path::new("conf.yaml"), text.as_bytes(), env)
}

#[track_caller]
fn well(defaults: &str, routes: &str, clusters: &str) -> Plan {
    conf(&text(defaults, routes, clusters)).unwrap_or_else(|report| panic!("{report}"))
}

/// The problems as `line:column message | help`.
#[track_caller]
fn refused(defaults: &str, routes: &str, clusters: &str) -> Vec<String> {
    let report = conf(&text(defaults, routes, clusters)).expect_err("the conf has mistakes");
    let told = report.problems().iter().map(|problem| {
        let help = problem.help.as_deref().unwrap_or("-");
        format!("{}:{} {} | {help}", problem.span.line, problem.span.column, problem.message)
    });
    told.collect()
}

fn timeouts(plan: &Plan) -> Vec<Option<u64>> {
    let routes = plan.listeners.iter().flat_map(|listener| &listener.routes);
    routes.map(|route| route.timeout.map(|time| time.as_millis() as u64)).collect()
}

// === what applies ===================================================================================================

#[test]
fn a_key_that_a_route_writes_wins_over_its_default() {
    let plan = well(
        "defaults: { route: { timeout: 2s, limit: { rate: 10/s, burst: 3 } } }",
        "{ to: c }, { to: c, timeout: 1s, limit: off }, { to: c, timeout: 0s, limit: { burst: 7 } }, { to: c, \
         timeout: ~, limit: ~ }",
        &format!("c: {{ {E} }}"),
    );
    assert_eq!(timeouts(&plan), [Some(2_000), Some(1_000), None, None]);
    let limits: Vec<_> = plan.listeners[0].routes.iter().map(|route| route.limit.as_ref()).collect();
    assert_eq!(limits.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false]);
    let shown: Vec<_> = limits.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(shown, ["one call each 100ms, 3 at once", "one call each 100ms, 7 at once"], "key by key");
}

#[test]
fn each_key_of_a_map_is_a_default_of_its_own_and_choices_are_taken_whole() {
    let plan = well(
        "defaults: { cluster: { balance: maglev, hash: { cookie: c }, connect_timeout: 300ms, panic: 20%, max_age: \
         1h, outlier: { consecutive: 3, ejection: 5s }, retry_budget: { share: 50% }, slow_start: 9s, health: { \
         check: { http: { path: /ok } }, interval: 2s } } }",
        "{ to: a }",
        &format!(
            "a: {{ {E} }}\n  b: {{ {E}, hash: {{ header: u }}, max_age: ~, panic: 0%, outlier: {{ ejection: 7s }}, \
             retry_budget: {{ floor: 1 }}, slow_start: 0s, health: {{ check: {{ http: {{ authority: x.y }} }} }} }}\n  \
             c: {{ {E}, balance: random, outlier: off, health: off }}\n  d: {{ {E}, health: {{ check: tcp }} }}"
        ),
    );
    let [a, b, c, d] = &plan.clusters[..] else { panic!("{plan:?}") };
    let outlier = |at: &crate::conf::lower::ClusterPlan| {
        at.settings.outlier.as_ref().map(|outlier| (outlier.consecutive, outlier.ejection.as_secs()))
    };
    assert_eq!([a, b, c, d].map(outlier), [Some((3, 5)), Some((3, 7)), None, Some((3, 5))]);
    assert_eq!([a, b].map(|at| at.settings.retries), [(50, 10), (50, 1)]);
    assert_eq!([a, b].map(|at| at.settings.max_age), [Some(Duration::from_secs(3_600)), None]);
    assert_eq!([a, b].map(|at| (at.settings.panic, at.settings.slow_start.as_secs())), [(20, 9), (0, 0)]);
    assert_eq!(a.settings.connect_timeout, Duration::from_millis(300));
    let checks = [a, b, c, d].map(|at| at.health.as_ref().map(ToString::to_string));
    let begins =
        |check: &Option<String>, words: &str| check.as_ref().is_some_and(|text| text.starts_with(words));
    assert!(begins(&checks[0], "GET /ok answered with 200 within 1s, every 2s"), "{checks:?}");
    // The check is one's own, with what is built in; the interval is the default.
    assert!(begins(&checks[1], "GET / of x.y answered with 200 within 1s, every 2s"), "{checks:?}");
    assert_eq!(checks[2], None);
    assert!(begins(&checks[3], "a connection within 1s, every 2s"), "{checks:?}");
    let written = &plan.written.clusters;
    assert_eq!(written["a"].hash, Some(HashBy::Cookie("c".into())));
    assert_eq!(written["b"].hash, Some(HashBy::Header("u".into())));
    assert_eq!((written["c"].balance, &written["c"].hash), (Balance::Random, &None), "of no use to `random`");
}

#[test]
fn a_retry_is_the_default_of_routes_that_may_be_sent_again() {
    let retries = |idempotent: &str| {
        let plan = well(
            &format!(
                "defaults: {{ route: {{ {idempotent}retry: {{ on: [error], statuses: [7], tries: 3 }} }} }}"
            ),
            "{ to: c }, { to: c, idempotent: true }, { to: c, idempotent: true, retry: { tries: 2, on: [reset] } }, \
             { to: c, idempotent: false }, { to: c, idempotent: true, retry: off }, { to: c, idempotent: true, \
             retry: ~ }, { to: c, idempotent: '${YES}' }",
            &format!("c: {{ {E} }}"),
        );
        let routes = plan.listeners[0].routes.iter();
        let of =
            |retry: &outrigger_core::Retry| (retry.reset, retry.error, retry.statuses.len(), retry.tries);
        routes.map(|route| route.retry.as_deref().map(of)).collect::<Vec<_>>()
    };
    let (full, own, plain) =
        (Some((false, true, 1, 3)), Some((true, false, 1, 2)), Some((true, false, 0, 1)));
    assert_eq!(retries(""), [None, full, own, None, None, plain, full]);
    assert_eq!(retries("idempotent: true, "), [full, full, own, None, None, plain, full]);
}

#[test]
fn routes_of_a_relay_take_no_defaults() {
    let routes = "{ to: c }";
    let defaults = "defaults: { route: { timeout: 2s, idempotent: true, retry: { tries: 2 } } }";
    for (protocol, timeout) in
        [("tcp", None), ("[tcp]", None), ("[bolt, tcp]", Some(2_000)), ("bolt", Some(2_000))]
    {
        let text = text(defaults, routes, &format!("c: {{ {E} }}"));
        let text = text.replace("routes:", &format!("protocol: {protocol}, routes:"));
        let plan = conf(&text).unwrap_or_else(|report| panic!("{protocol}: {report}"));
        assert_eq!(timeouts(&plan), [timeout], "{protocol}");
    }
}

#[test]
fn nothing_written_is_no_default() {
    for defaults in [
        "defaults:",
        "defaults: {}",
        "defaults: { route: , cluster: {} }",
        "defaults: { route: { timeout: ~ } }",
    ] {
        let plan = well(defaults, "{ to: c }", &format!("c: {{ {E} }}"));
        assert_eq!(timeouts(&plan), [None]);
    }
    // An alias may stand for them, and for what is in them.
    let plan = well("defaults: { route: &r { timeout: 3s } }", "{ to: c }", &format!("c: {{ {E} }}"));
    assert_eq!(timeouts(&plan), [Some(3_000)]);
}

#[test]
fn what_is_shown_is_what_applies_and_means_the_same_when_read_again() {
    let plan = well(
        "defaults: { route: { timeout: 2s, idempotent: true, retry: { tries: 2 }, limit: { rate: 5/s } }, cluster: { \
         health: { check: tcp }, outlier: { consecutive: 1 } } }",
        "{ to: c }, { to: d, retry: off, limit: off }",
        &format!("c: {{ {E} }}\n  d: {{ {E}, health: off, outlier: off }}"),
    );
    let shown = serde_json::to_value(&plan.written).unwrap();
    assert_eq!(shown.get("defaults"), None, "they are in the routes and clusters");
    assert_eq!(shown["listeners"]["l"]["routes"][0]["timeout"], "2s");
    assert_eq!(shown["clusters"]["c"]["outlier"]["consecutive"], 1);
    let again = conf(&shown.to_string()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(serde_json::to_value(&again.written).unwrap(), shown);
    let [_, off] = &again.listeners[0].routes[..] else { panic!("{again:?}") };
    assert!(off.retry.is_none() && off.limit.is_none());
    assert!(again.clusters[1].health.is_none() && again.clusters[1].settings.outlier.is_none());
}

#[test]
fn every_key_can_have_a_default_but_those_that_are_each_ones_own() {
    let properties = |schema: Schema| {
        let schema = schema.to_value();
        let properties = schema["properties"].as_object().expect("it is a struct");
        properties.keys().cloned().collect::<std::collections::BTreeSet<_>>()
    };
    let known = |keys: &[(&str, bool)], own: &[&str]| {
        keys.iter().map(|(key, _)| (*key).to_owned()).filter(|key| !own.contains(&key.as_str())).collect()
    };
    let (routes, clusters) = (keys::<Route>(), keys::<Cluster>());
    assert_eq!(properties(schemars::schema_for!(RouteDefaults)), known(&routes, ROUTE.own));
    assert_eq!(properties(schemars::schema_for!(ClusterDefaults)), known(&clusters, CLUSTER.own));
    for (keys, section) in [(&routes, &ROUTE), (&clusters, &CLUSTER)] {
        for own in section.own.iter().chain([&section.only.0]) {
            assert!(keys.iter().any(|(key, _)| key == own), "{own} is a key of a {}", section.key);
        }
    }
    let merging = |keys: &[(&'static str, bool)], key| keys.contains(&(key, true));
    for key in ["limit", "retry", "match", "weights"] {
        assert!(merging(&routes, key), "{key}");
    }
    for key in ["outlier", "retry_budget", "health", "discover"] {
        assert!(merging(&clusters, key), "{key}");
    }
    for key in ["balance", "hash", "connections", "protocol", "connect_timeout", "endpoints"] {
        assert!(!merging(&clusters, key), "{key}");
    }
}

// === mistakes =======================================================================================================

/// Mistakes of defaults that two routes and two clusters would take.
#[track_caller]
fn told(defaults: &str) -> Vec<String> {
    refused(defaults, "{ to: c }, { to: d }", &format!("c: {{ {E} }}\n  d: {{ {E} }}"))
}

fn route(defaults: &str) -> String {
    format!("defaults: {{ route: {{ {defaults} }} }}")
}

fn cluster(defaults: &str) -> String {
    format!("defaults: {{ cluster: {{ {defaults} }} }}")
}

#[test]
fn keys_that_cannot_stand_there_are_told_once_at_their_places() {
    const ROUTE_KEYS: &str = "`timeout`, `limit`, `idempotent`, `retry`, `request` or `response`";
    for (defaults, expected) in [
        (
            "defaults: { rout: { timeout: 1s } }".to_owned(),
            "3:13 unknown key `rout`, expected one of `route` or `cluster` | did you mean `route`?".to_owned(),
        ),
        (
            "defaults: { timeout: 1s }".to_owned(),
            "3:13 `timeout` is a key of each route | write it below `route:`".to_owned(),
        ),
        (
            "defaults:\n  health: { check: tcp }".to_owned(),
            "4:3 `health` is a key of each cluster | write it below `cluster:`".to_owned(),
        ),
        ("defaults: [route]".to_owned(), "3:11 expected a map, found a list | -".to_owned()),
        ("defaults: { route: 2s }".to_owned(), "3:20 expected a map, found `2s` | -".to_owned()),
        (
            route("timout: 1s"),
            format!("3:22 unknown key `timout`, expected one of {ROUTE_KEYS} | did you mean `timeout`?"),
        ),
        (
            route("balance: random"),
            format!(
                "3:22 unknown key `balance`, expected one of {ROUTE_KEYS} | it is a key of each cluster: write it \
                 below `cluster:`"
            ),
        ),
        // What is each one's own.
        (
            route("match: {}"),
            "3:22 `match` is each route's own and has no default | what can have one: timeout, limit, idempotent, retry, request, response"
                .to_owned(),
        ),
        (
            route("timeout: 1s, to: c"),
            "3:35 `to` is each route's own and has no default | what can have one: timeout, limit, idempotent, retry, request, response"
                .to_owned(),
        ),
        (
            route("name: x"),
            "3:22 `name` is each route's own and has no default | what can have one: timeout, limit, idempotent, retry, request, response"
                .to_owned(),
        ),
    ] {
        assert_eq!(told(&defaults), [expected], "{defaults}");
    }
}

#[test]
fn wrong_values_are_told_once_at_their_places() {
    for (defaults, expected) in [
        (
            route("timeout: 2"),
            "3:31 expected a duration, found `2` without a unit | write 2ms or 2s; write a number with a unit, as in \
             250ms, 3s, 5m or 1h"
                .to_owned(),
        ),
        (route("idempotent: yes"), "3:34 expected `true` or `false`, found `yes` | write true or false".to_owned()),
        (
            route("limit: { burst: 5 }"),
            "3:29 missing key `rate` in `defaults.route.limit` | -".to_owned(),
        ),
        (route("limit: no"), "3:29 expected a map or `off`, found `no` | -".to_owned()),
        (
            route("retry: { trys: 5 }"),
            "3:31 unknown key `trys`, expected one of `on`, `statuses`, `tries`, `per_try_timeout`, `backoff` or `hedge_after` | did \
             you mean `tries`?"
                .to_owned(),
        ),
        (
            cluster("balance: magleev"),
            "3:33 unknown value `magleev`, expected one of `round_robin`, `random`, `least_request`, `p2c_ewma`, \
             `ring_hash` or `maglev` | did you mean `maglev`?"
                .to_owned(),
        ),
        (
            cluster("health: { interval: 1s }"),
            "3:32 missing key `check` in `defaults.cluster.health` | -".to_owned(),
        ),
        (
            cluster("health: { check: dubo }"),
            "3:41 unknown value `dubo`, expected one of `tcp`, `http`, `grpc`, `bolt` or `dubbo` | did you mean `dubbo`?"
                .to_owned(),
        ),
        (cluster("outlier: [1]"), "3:33 expected a map, found a list | -".to_owned()),
        (cluster("panic: '${NOPE}'"), "3:32 the environment variable `NOPE` is not set | set it, or write ${NOPE:-default}".to_owned()),
        // The meaning.
        (cluster("connections: 0"), "3:37 expected 1 to 65536 connections | -".to_owned()),
        (cluster("outlier: { ejection: 0s }"), "3:45 expected a time above 0s | -".to_owned()),
        (
            cluster("health: { check: tcp, interval: 1s, timeout: 2s }"),
            "3:69 expected at most the interval, which is 1s | -".to_owned(),
        ),
        (
            cluster("balance: maglev"),
            "3:33 what calls are told apart by is not said | as in `hash: { header: x-user }`, or cookie, source, path"
                .to_owned(),
        ),
        (route("limit: { rate: 10/s, burst: 0 }"), "3:50 expected a burst of at least 1 | -".to_owned()),
        (route("idempotent: true, retry: { tries: 11 }"), "3:56 expected 0 to 10 | -".to_owned()),
        (
            route("idempotent: true, retry: { on: [] }"),
            "3:47 nothing is named that is tried again | -".to_owned(),
        ),
    ] {
        assert_eq!(told(&defaults), [expected], "{defaults}");
    }
}

#[test]
fn keys_of_clusters_that_are_each_ones_own_are_refused_with_what_can_be_one() {
    let told = told("defaults:\n  cluster:\n    endpoints: [a]\n    discover: { registry: x }");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("5:5 `endpoints` is each cluster's own and has no default | "), "{told:?}");
    assert!(told[1].starts_with("6:5 `discover` is each cluster's own") && told[1].contains("outlier"));
    let near =
        refused("defaults: { cluster: { conect_timeout: 1s } }", "{ to: c }", &format!("c: {{ {E} }}"));
    assert!(near.len() == 1 && near[0].ends_with("| did you mean `connect_timeout`?"), "{near:?}");
}

#[test]
fn a_default_that_is_wrong_for_some_names_them() {
    let clusters = format!(
        "a: {{ {E}, health: {{ check: tcp, interval: 1s }} }}\n  b: {{ {E} }}\n  c: {{ {E}, health: {{ check: tcp, \
         timeout: 100ms }} }}"
    );
    let defaults = "defaults: { cluster: { health: { check: grpc, timeout: 3s } } }";
    assert_eq!(
        refused(defaults, "{ to: a }", &clusters),
        ["3:56 expected at most the interval, which is 1s, for cluster `a` | -"]
    );
    let many = (0..6).map(|n| format!("c{n}: {{ {E} }}")).collect::<Vec<_>>().join("\n  ");
    let told = refused(
        "defaults: { cluster: { balance: ring_hash } }",
        "{ to: c0 }",
        &format!("{many}\n  z: {{ {E}, hash: source }}"),
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("not said, for cluster `c0`, cluster `c1`, cluster `c2` and 3 more | as in"),
        "{told:?}"
    );
}

#[test]
fn ones_own_mistakes_stay_ones_own() {
    let told = refused(
        "defaults: { route: { timeout: 2s, retry: { tries: 3 } } }",
        "{ to: c, timeot: 1s }, { to: c, timeout: 5 }, { to: c, retry: { on: [reset] } }, { to: x }",
        &format!("c: {{ {E}, health: of }}"),
    );
    assert_eq!(
        told,
        [
            "5:47 unknown key `timeot`, expected one of `name`, `match`, `to`, `to_header`, `subset`, `subset_fallback`, \
             `weights`, `timeout`, `limit`, `idempotent`, `retry`, `request`, `response`, `rewrite`, `respond` or `redirect` | did you mean `timeout`?",
            "5:79 expected a duration, found `5` without a unit | write 5ms or 5s; write a number with a unit, as in \
             250ms, 3s, 5m or 1h",
            "5:100 a call that may have been processed is not sent again | write `idempotent: true` as well if that \
             does no harm",
            "5:125 no cluster is called `x` | -",
            "7:36 expected a map or `off`, found `of` | -",
        ]
    );
}

#[test]
fn a_broken_default_is_told_beside_the_others_and_makes_nothing_else_wrong() {
    let told = told(
        "defaults:\n  route: { timeout: 2, limit: { rate: 5 } }\n  cluster: { connections: x, outlier: { slower: 1 } }",
    );
    let places: Vec<&str> = told.iter().filter_map(|told| told.split(' ').next()).collect();
    assert_eq!(places, ["4:21", "4:39", "5:27", "5:49"], "{told:?}");
    // One that nobody takes is wrong all the same.
    let unused =
        refused("defaults: { route: { timeout: 2 } }", "{ to: c, timeout: 1s }", &format!("c: {{ {E} }}"));
    assert!(unused.len() == 1 && unused[0].starts_with("3:31 "), "{unused:?}");
}

#[test]
fn defaults_cannot_make_a_small_file_large() {
    let hosts = (0..3_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let defaults = format!("defaults: {{ route: {{ idempotent: true, retry: {{ statuses: [{hosts}] }} }} }}");
    let routes = vec!["{ to: c }"; 2_000].join(", ");
    let mut tree = yaml::read(text(&defaults, &routes, "c: {}").as_bytes(), &|_| None);
    let problems = apply(&mut tree.root);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.ends_with("by defaults") && problems[0].span.line == 3, "{problems:?}");
}

#[test]
fn mutated_defaults_never_panic_and_what_they_mean_can_be_read_again() {
    const GOOD: &str = include_str!("../../../conf/defaults.yaml");
    const PIECES: [&str; 12] = [
        "off",
        "~",
        "{",
        "}",
        "\n",
        "  ",
        "hash: source, ",
        "balance: maglev",
        "route:",
        "cluster:",
        "idempotent: true, ",
        "protocol: tcp\n",
    ];
    let (mut well, mut refused, mut seed) = (0, 0, 7_u64);
    let mut dice = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for round in 0..600 {
        let mut bytes = GOOD.as_bytes().to_vec();
        for _ in 0..=dice(2) {
            // Mostly in the defaults.
            let at = 200 + dice(if round % 2 == 0 { 400 } else { bytes.len() - 300 });
            match dice(3) {
                0 => drop(bytes.drain(at..(at + dice(12)).min(bytes.len()))),
                1 => drop(bytes.splice(at..at, PIECES[dice(PIECES.len())].bytes())),
                _ => {
                    // A line goes elsewhere.
                    let line = bytes.split_inclusive(|byte| *byte == b'\n').nth(4 + dice(10));
                    let line = line.unwrap_or_default().to_vec();
                    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    drop(bytes.splice(start..start, line));
                }
            }
        }
        match read(Path::new("conf.yaml"), &bytes, &|_| None) {
            Ok(plan) => {
                well += 1;
                let written = serde_json::to_string(&plan.written).unwrap();
                let again = conf(&written).unwrap_or_else(|report| panic!("{round}: {report}"));
                assert_eq!(serde_json::to_string(&again.written).unwrap(), written, "{round}");
            }
            Err(report) => {
                refused += 1;
                assert!(!report.problems().is_empty() && report.to_string().contains("error: "), "{round}");
            }
        }
    }
    assert!(well > 50 && refused > 100, "{well} well, {refused} refused: the mutations test too little");
}

#[test]
fn off_and_the_numbers_that_mean_it_are_the_same_without_defaults_too() {
    let plan = well(
        "defaults:",
        "{ to: c, idempotent: true, retry: off }, { to: c, idempotent: true, retry: { tries: 0 } }, { to: c, retry: off, \
         limit: off }",
        &format!("c: {{ {E}, outlier: off, health: off }}\n  d: {{ {E}, outlier: {{ share_max: 0% }} }}"),
    );
    assert!(plan.listeners[0].routes.iter().all(|route| route.retry.is_none() && route.limit.is_none()));
    assert!(plan.clusters.iter().all(|at| at.settings.outlier.is_none() && at.health.is_none()));
}
