//! A source that is killed and comes back, and one in which most services are suddenly empty: what was carried stays, and the
//! sidecar says why.

use super::lists::{In, List, Looker, Of, until};
use super::servers::Server;
use super::sidecars::conf_at;
use super::support::{Sidecar, free_port, netns};
use super::zookeeper;
use std::time::Duration;

const BRIDGE: &str = "out";
/// How long the source is away: longer than a session and the seat of the writer.
const AWAY: Duration = Duration::from_secs(15);
/// Longer than `hold_empty` of the bridge.
const DOUBT: Duration = Duration::from_secs(6);
/// Services in which it is emptied.
const MANY: usize = 12;

pub(crate) fn story() {
    let mut source = Server::fragile();
    let three: Vec<String> = addresses(3);
    put(&source, "out.Steady", &three);
    let line = format!(
        "{BRIDGE}: {{ from: zk, to: nc, services: {{ prefix: out. }}, hold_empty: 2s, patience: 3s, writes_max: 1000 }}"
    );
    let sidecar = Sidecar::start(&conf_at(source.at, &[line]));
    let steady = List::new(Of::Dubbo, In::Nacos, "out.Steady");
    steady.becomes(&three);
    sidecar.is_done(BRIDGE);
    assert_eq!(frozen(&sidecar), 0);

    let looker = Looker::begin(vec![(steady.clone(), three.clone())]);
    source.kill();
    until("the loss is said", || is_said(&sidecar, "cannot be asked") && sidecar.role(BRIDGE) == "frozen");
    std::thread::sleep(AWAY);
    assert_eq!(frozen(&sidecar), 1);
    source.run();
    until("the source is back", || {
        sidecar.role(BRIDGE) == "leading" && sidecar.bridge(BRIDGE)["frozen"].is_null()
    });
    std::thread::sleep(DOUBT);
    looker.end("the source, killed and back");
    assert_eq!(frozen(&sidecar), 0);
    emptied(&source, &sidecar);
}

/// Most services are without any instance at once: nothing is taken away. When some of them are back the others are believed.
fn emptied(source: &Server, sidecar: &Sidecar) {
    let names: Vec<String> = (0..MANY).map(|at| format!("out.Many{at:02}")).collect();
    let lists: Vec<(List, Vec<String>)> = names
        .iter()
        .map(|name| {
            // One each: what leaves one after the other is believed down to the last.
            let one = addresses(1);
            put(source, name, &one);
            (List::new(Of::Dubbo, In::Nacos, name), one)
        })
        .collect();
    for (list, wanted) in &lists {
        list.becomes(wanted);
    }
    sidecar.is_done(BRIDGE);
    let looker = Looker::begin(lists.clone());
    for (list, wanted) in &lists {
        take(source, &list.service, wanted);
    }
    until("that is said", || is_said(sidecar, "without any instance at once"));
    std::thread::sleep(DOUBT);
    assert_eq!(frozen(sidecar), 1);
    looker.end("most services are empty at once");
    let (back, gone) = lists.split_at(MANY - 3);
    for (list, wanted) in back {
        put(source, &list.service, wanted);
    }
    until("it is believed again", || sidecar.bridge(BRIDGE)["frozen"].is_null());
    for (list, _) in gone {
        list.becomes(&[]);
    }
    for (list, wanted) in back {
        list.keeps(wanted, Duration::from_millis(100));
    }
    assert_eq!(frozen(sidecar), 0);
}

fn addresses(count: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..count).map(|_| format!("{}:{}", netns::ADDRESS, free_port())).collect();
    all.sort();
    all
}

fn put(source: &Server, service: &str, addresses: &[String]) {
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    zookeeper::put(source.at, service, &addresses).expect("ZooKeeper takes it");
}

fn take(source: &Server, service: &str, addresses: &[String]) {
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    zookeeper::take(source.at, service, &addresses).expect("ZooKeeper takes it");
}

fn is_said(sidecar: &Sidecar, words: &str) -> bool {
    sidecar.bridge(BRIDGE)["frozen"].as_str().is_some_and(|why| why.contains(words))
}

fn frozen(sidecar: &Sidecar) -> u64 {
    sidecar.metric("outrigger_bridge_frozen", &["bridge=\"out\""])
}
