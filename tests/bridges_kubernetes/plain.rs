//! Plain Services of Kubernetes as applications of Spring Cloud in `ZooKeeper`: called from there, one by one as they are ready, and
//! gone with their slices; who writes is told by Kubernetes.

use super::cluster::Namespace;
use super::confs::{K8S, ZK, bridges, head};
use super::eye::Place;
use super::lists::until;
use super::provider::addresses;
use super::servers::HOSTS;
use super::sidecars::names;
use super::support::{Sidecar, free_port, http_get};
use super::{web, zk};
use serde_json::Value;
use std::net::SocketAddr;

pub(crate) fn story() {
    let namespace = Namespace::new("plain");
    let port = web::start();
    namespace.put("plain-rates", port, &HOSTS.map(|host| (host, true)));
    let lines = ["p-web: { from: k8s, to: zk, framework: plain, as: spring, services: { prefix: plain- }, \
                  rename: { plain-rates: PLAIN-RATES }, election: k8s, hold_empty: 2s, patience: 3s }"
        .to_owned()];
    let text = format!("{}{}", head("bridging", &[ZK, K8S], Some(&namespace)), bridges(&lines));
    let bridging = Sidecar::start(&text);
    bridging.becomes("leading", &names(&lines));
    let look = || {
        let mut all: Vec<String> = nodes().iter().map(address).collect();
        all.sort();
        all
    };
    let place = Place { name: "PLAIN-RATES".to_owned(), look: Box::new(look), wanted: addresses(port) };
    place.is_so();
    for node in nodes() {
        let said = |name: &str| node["payload"]["metadata"][name].as_str().unwrap_or_default();
        assert!(said("outrigger.origin").starts_with("kubernetes:"), "{node:#}");
        assert_eq!((said("outrigger.bridge"), said("outrigger.hops")), ("p-web", "1"), "{node:#}");
    }
    let listener = free_port();
    let caller = Sidecar::start(&format!(
        "{}listeners:\n  main: {{ bind: \"127.0.0.1:{listener}\", protocol: http1, routes: [ {{ to: up }} ] }}\n\
         clusters:\n  up: {{ discover: {{ registry: zk, service: PLAIN-RATES, framework: spring }} }}\n",
        head("plain-caller", &[ZK], None)
    ));
    let at = SocketAddr::from(([127, 0, 0, 1], caller.port("main")));
    until("a call comes through", || {
        http_get(at, "/").is_ok_and(|(status, body)| (status, body.as_str()) == (200, web::WORD))
    });
    namespace.change("plain-rates", port, &HOSTS.map(|host| (host, host == HOSTS[2])));
    place.becomes(&addresses(port)[2..]);
    // A Service that comes later is found by its name.
    namespace.put("plain-later", port, &[(HOSTS[0], true)]);
    until("the later one is carried", || zk::children("/services/plain-later").len() == 1);
    namespace.take("plain-rates");
    place.becomes(&[]);
    namespace.take("plain-later");
    until("the later one goes", || zk::children("/services/plain-later").is_empty());
    bridging.has_nothing("p-web");
}

/// The instances as they stand in `ZooKeeper`.
fn nodes() -> Vec<Value> {
    let nodes = zk::children("/services/PLAIN-RATES");
    nodes.iter().map(|node| serde_json::from_slice(&node.data).expect("a node holds JSON")).collect()
}

fn address(node: &Value) -> String {
    format!("{}:{}", node["address"].as_str().expect("an address"), node["port"])
}
