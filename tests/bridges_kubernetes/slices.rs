//! Services of Dubbo and SOFARPC in `ZooKeeper`, carried into slices of Kubernetes: called from there, told before anything is
//! written, and not missed for a moment when who writes is killed.

use super::cluster::{Namespace, entries};
use super::confs::{K8S, ZK, bridges, head};
use super::eye::Place;
use super::lists::until;
use super::provider::{Provider, addresses};
use super::servers::ZOOKEEPER;
use super::sidecars::names;
use super::support::{Sidecar, TempDir};
use super::zookeeper;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

const DUBBO: &str = "k.d.Stock";
const SOFA: &str = "k.s.Stock";
/// The application of both, and so the Service.
const APP: &str = "slices-shop";
/// An application that can have no Service.
const ODD: &str = "Slices_Shop";

pub(crate) fn story() {
    let namespace = Namespace::new("slices");
    let provider = Provider::start(APP, &[("dubbo", DUBBO, ", level: both"), ("sofarpc", SOFA, "")]);
    let odd = format!(
        "dubbo://10.9.9.1:20880/k.d.Odd?interface=k.d.Odd&side=provider&application={ODD}&methods=echo&dynamic=true"
    );
    zookeeper::write(ZOOKEEPER, "/dubbo/k.d.Odd/providers", &[odd]).expect("ZooKeeper takes it");
    let lines = ["dubbo", "sofarpc"].map(|framework| {
        format!(
            "k-{framework}: {{ from: zk, to: k8s, framework: {framework}, services: {{ prefix: k. }}, hold_empty: 2s, \
             patience: 3s }}"
        )
    });
    let conf = || format!("{}{}", head("bridging", &[ZK, K8S], Some(&namespace)), bridges(&lines));
    told(&conf(), &addresses(provider.port));
    let first = Sidecar::start(&conf());
    first.becomes("leading", &names(&lines));
    let second = Sidecar::start(&conf());
    let places = places(&namespace, provider.port);
    places.iter().for_each(Place::is_so);
    is_marked(&namespace);
    until("what cannot be written is counted", || first.bridge("k-dubbo")["skipped"]["refused"] == 1);
    provider.is_called(&head("slices-caller", &[K8S], Some(&namespace)), K8S, DUBBO, SOFA);
    second.becomes("standby", &names(&lines));
    let record = namespace.record(APP);
    // Dropping it is SIGKILL.
    drop(first);
    second.becomes("leading", &names(&lines));
    until("all entries are kept by another", || {
        let states = record.states();
        let [first, .., last] = &states[..] else { return false };
        let (before, after) = (holders(first), holders(last));
        after.len() == 1 && after.is_disjoint(&before)
    });
    let third = Sidecar::start(&conf());
    third.becomes("standby", &names(&lines));
    never_blinked(&record.states(), provider.port);
    provider.leave();
    for place in places {
        place.becomes(&[]);
    }
    until("slices with nothing in them go", || namespace.slices(APP).is_empty());
    // What cannot be written is still found.
    second.has_nothing("k-sofarpc");
    let told = second.bridge("k-dubbo");
    assert!(told["entries"] == 0 && told["trouble"].is_null() && told["frozen"].is_null(), "{told:#}");
}

/// What stands in the slices, by service, and what others see of them: their endpoints.
fn places(namespace: &Namespace, port: u16) -> Vec<Place> {
    let place = |name: &str, of: fn(&[Value]) -> Vec<String>| {
        let namespace = namespace.clone();
        let look = Box::new(move || of(&namespace.slices(APP)));
        Place { name: format!("{name} in slices"), look, wanted: addresses(port) }
    };
    vec![
        place(DUBBO, |slices| listed(slices, DUBBO)),
        place(SOFA, |slices| listed(slices, SOFA)),
        place("endpoints", endpoints),
    ]
}

/// Who gives a service by these slices, in order.
fn listed(slices: &[Value], service: &str) -> Vec<String> {
    let entries = entries(slices);
    let of = entries.iter().filter(|entry| entry["service"] == service);
    let mut all: Vec<String> =
        of.map(|entry| entry["address"].as_str().expect("an address").to_owned()).collect();
    all.sort();
    all
}

/// The endpoints that these slices have, ready ones alone, each once, in order.
fn endpoints(slices: &[Value]) -> Vec<String> {
    let mut all = BTreeSet::new();
    for slice in slices {
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            assert_eq!(endpoint["conditions"]["ready"], true, "{slice:#}");
            for port in slice["ports"].as_array().into_iter().flatten() {
                let host = endpoint["addresses"][0].as_str().expect("an address");
                all.insert(format!("{host}:{}", port["port"]));
            }
        }
    }
    all.into_iter().collect()
}

/// Who keeps what stands in these slices.
fn holders(slices: &[Value]) -> BTreeSet<String> {
    entries(slices).iter().map(|entry| entry["holder"].as_str().expect("a holder").to_owned()).collect()
}

/// In none of these states is anything missing, and the slices are the same objects in all of them.
fn never_blinked(states: &[Vec<Value>], port: u16) {
    let uids = |slices: &[Value]| {
        let uid = |slice: &Value| slice["metadata"]["uid"].as_str().expect("a uid").to_owned();
        slices.iter().map(uid).collect::<BTreeSet<_>>()
    };
    for (at, slices) in states.iter().enumerate() {
        for service in [DUBBO, SOFA] {
            assert_eq!(listed(slices, service), addresses(port), "{service} in state {at}: {slices:#?}");
        }
        assert_eq!(endpoints(slices), addresses(port), "state {at}: {slices:#?}");
        assert_eq!(uids(slices), uids(&states[0]), "slices are updated in place");
    }
    eprintln!("slices, over a writer that is killed: {} states, all as they should be", states.len());
}

fn is_marked(namespace: &Namespace) {
    for entry in entries(&namespace.slices(APP)) {
        let said = |name: &str| entry["metadata"][name].as_str().unwrap_or_default();
        let framework = entry["framework"].as_str().expect("a framework");
        assert!(said("outrigger.origin").starts_with("zookeeper:127.0.0.1:2181"), "{entry:#}");
        assert_eq!((said("outrigger.bridge"), said("outrigger.hops")), (&*format!("k-{framework}"), "1"));
    }
}

/// What would be written, and what cannot be.
fn told(conf: &str, addresses: &[String]) {
    let dir = TempDir::new();
    let path = dir.path().join("outrigger.yaml");
    std::fs::write(&path, conf).expect("the conf can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    let told = command.args(["bridge", "--dry-run", "-c"]).arg(&path).output().expect("the binary runs");
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{out}{err}");
    let has = |words: [&str; 3]| {
        out.lines().any(|line| {
            let mut parts = line.split('\t');
            words.iter().all(|word| parts.next() == Some(word))
        })
    };
    for address in addresses {
        assert!(has(["write", DUBBO, address]) && has(["write", SOFA, address]), "{address}: {out}");
    }
    assert!(has(["cannot", "k.d.Odd", "10.9.9.1:20880"]), "{out}");
    let why = format!("\"{ODD}\" is no name of a Service in Kubernetes: small letters, digits and `-`");
    assert!(out.contains(&why), "{out}");
    assert!(out.contains(&format!("of {APP} ")), "the application is told: {out}");
}
