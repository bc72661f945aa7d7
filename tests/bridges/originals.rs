//! Originals that appear beside their own copies, and a bridge that is told to carry something else while it runs.

use super::lists::{In, List, Looker, Of, until};
use super::sidecars::{both_ways, conf, names};
use super::support::{Sidecar, free_port, netns};

pub(crate) fn story() {
    let lines = both_ways("orig");
    let mut sidecar = Sidecar::start(&conf(&lines));
    for (of, home, away) in [(Of::Dubbo, In::ZooKeeper, In::Nacos), (Of::Dubbo, In::Nacos, In::ZooKeeper)] {
        let service = format!("orig.At{home:?}");
        let three = addresses();
        let (here, there) = (List::new(of, home, &service), List::new(of, away, &service));
        for address in &three {
            here.put(address);
        }
        there.becomes(&three);
        assert_eq!(copies(&there), three);
        // Nobody asks the application: it stands in both now, as one does that is moved.
        there.put(&three[1]);
        until("the copy is gone and the original is there", || {
            there.addresses() == three && copies(&there) == [three[0].clone(), three[2].clone()]
        });
        assert_eq!(here.addresses(), three, "and nothing is carried back");
        assert!(copies(&here).is_empty());
        there.take(&three[1]);
        there.becomes(&three);
        until("the copy is back", || copies(&there) == three);
        for address in &three {
            here.take(address);
        }
        there.becomes(&[]);
    }
    renamed(&mut sidecar);
    sidecar.term();
    assert!(sidecar.wait(super::lists::PATIENCE).success());
    drop(names(&lines));
}

/// Another plan for the same bridge: what it does not mean goes, what has another name has that, and the rest never blinks.
fn renamed(sidecar: &mut Sidecar) {
    let line = |more: &str| {
        vec![format!(
            "plan: {{ from: zk, to: nc, services: {more}, hold_empty: 2s, patience: 3s, level: interface }}"
        )]
    };
    let named = ["plan.A", "plan.B", "plan.C"].map(|name| (name, addresses()));
    for (name, three) in &named {
        for address in three {
            List::new(Of::Dubbo, In::ZooKeeper, name).put(address);
        }
    }
    let text = conf(&line("{ prefix: plan. }"));
    let planned = Sidecar::start(&text);
    let there = |name: &str| List::new(Of::Dubbo, In::Nacos, name);
    for (name, three) in &named {
        there(name).becomes(three);
    }
    let looker = Looker::begin(vec![(there("plan.A"), named[0].1.clone())]);
    let other = text.replace("{ prefix: plan. }", "{ any: [plan.A, plan.B] }, rename: { plan.B: other.B }");
    assert_ne!(text, other);
    planned.reload(&other);
    there("plan.C").becomes(&[]);
    there("plan.B").becomes(&[]);
    there("other.B").becomes(&named[1].1);
    planned.reload(&text);
    for (name, three) in &named {
        there(name).becomes(three);
    }
    there("other.B").becomes(&[]);
    looker.end("a plan that is changed, and changed back");
    sidecar.assert_running();
}

fn copies(list: &List) -> Vec<String> {
    let mut copies: Vec<String> = list
        .entries()
        .into_iter()
        .filter(|entry| entry.mark().is_some())
        .map(|entry| entry.address)
        .collect();
    copies.sort();
    copies
}

fn addresses() -> Vec<String> {
    let mut all: Vec<String> = (0..3).map(|_| format!("{}:{}", netns::ADDRESS, free_port())).collect();
    all.sort();
    all
}
