//! What one decision costs: route, limit, pick and settle, with 10 routes and with 10,000.
//!
//! The two must cost the same: exact services are found by a hash, however many there are. No sockets, no codec.

use std::{hint::black_box, num::NonZeroU32, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use outrigger_codec::{Head, HeadIndex, Outcome, Slot, Span};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, End, Endpoint, Limit, Listener, ListenerId, Local, Match, Pattern,
    Route, RouteTable, Snapshot, Target, Tick, decide, settle,
};

fn snapshot(routes: usize, balance: Balance) -> Snapshot {
    let limit = Limit::new(NonZeroU32::MAX, Duration::from_secs(3_600), NonZeroU32::MAX).map(Arc::new);
    let route = |at: usize| Route {
        name: format!("route-{at}").into(),
        matches: Match {
            service: Some(Pattern::exact(&format!("com.example.Service{at}"))),
            method: Some(Pattern::exact("echo")),
            ..Match::default()
        },
        targets: [Target { cluster: 0, weight: 1 }].into(),
        timeout: Some(Duration::from_secs(1)),
        limit: limit.clone(),
    };
    let endpoints =
        (0..3).map(|at| Endpoint { address: format!("10.0.0.{at}:80").into(), weight: 1 }).collect();
    let table = RouteTable::new((0..routes).map(route).collect());
    let listener = Listener { name: "egress".into(), routes: table };
    Snapshot::new(
        1,
        vec![listener],
        vec![Cluster::new("echo", balance, ClusterSettings::default(), endpoints)],
    )
}

fn decisions(criterion: &mut Criterion) {
    for (name, routes, balance) in [
        ("10 routes, round_robin", 10, Balance::RoundRobin),
        ("10 routes, p2c_ewma", 10, Balance::P2cEwma),
        ("10 routes, least_request", 10, Balance::LeastRequest),
        ("10000 routes, p2c_ewma", 10_000, Balance::P2cEwma),
    ] {
        let snapshot = snapshot(routes, balance);
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let service = format!("com.example.Service{}", routes / 2);
        let bytes = format!("{service}echo");
        let mut index = HeadIndex::default();
        index.set(Slot::Service, Span::new(0, service.len()));
        index.set(Slot::Method, Span::new(service.len(), 4));
        index.timeout_ms = Some(3_000);
        let mut now = Tick(1);
        criterion.bench_function(&format!("decide and settle, {name}"), |bencher| {
            bencher.iter(|| {
                now = Tick(now.0 + 10_000);
                let head = Head { bytes: black_box(bytes.as_bytes()), index: &index };
                if let Ok(plan) = decide(&snapshot, ListenerId(0), &mut local, head, now, now) {
                    settle(&mut local, plan, End::Answered(Outcome::Ok), now);
                }
            });
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
