//! What one decision costs: route, limit, pick and settle, with 10 routes and with 10,000.
//!
//! The two must cost the same: exact services and paths are found by a hash, however many there are. No sockets, no codec.

use std::{hint::black_box, num::NonZeroU32, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use outrigger_codec::{Head, HeadIndex, Outcome, Slot, Span};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, End, Endpoint, Limit, Listener, ListenerId, Local, Match, Pattern,
    Route, RouteTable, Snapshot, Target, Tick, decide, settle,
};

/// What the routes ask for exactly.
#[derive(Clone, Copy)]
enum By {
    /// Service and method, as Bolt and Dubbo name them.
    Service,
    /// A path, as HTTP names it.
    Path,
}

impl By {
    /// The one that only route `at` asks for.
    fn name(self, at: usize) -> String {
        match self {
            Self::Service => format!("com.example.Service{at}"),
            Self::Path => format!("/api/v1/things/{at}"),
        }
    }

    fn matches(self, at: usize) -> Match {
        let name = Some(Pattern::exact(&self.name(at)));
        match self {
            Self::Service => {
                Match { service: name, method: Some(Pattern::exact("echo")), ..Match::default() }
            }
            Self::Path => Match { path: name, ..Match::default() },
        }
    }

    /// A call that only route `at` matches: its bytes, and where its parts are.
    fn call(self, at: usize) -> (String, HeadIndex) {
        let (name, mut index) = (self.name(at), HeadIndex::default());
        index.timeout_ms = Some(3_000);
        let span = Span::new(0, name.len());
        match self {
            Self::Service => {
                index.set(Slot::Service, span);
                index.set(Slot::Method, Span::new(name.len(), 4));
                (format!("{name}echo"), index)
            }
            Self::Path => {
                index.set(Slot::Path, span);
                index.set(Slot::Method, Span::new(name.len(), 3));
                index.set(Slot::Authority, Span::new(name.len() + 3, 16));
                index.set(Slot::Host, Span::new(name.len() + 3, 11));
                index.caseless = true;
                (format!("{name}GETexample.com:8080"), index)
            }
        }
    }
}

fn snapshot(routes: usize, by: By, balance: Balance) -> Snapshot {
    let limit = Limit::new(NonZeroU32::MAX, Duration::from_secs(3_600), NonZeroU32::MAX).map(Arc::new);
    let route = |at: usize| Route {
        name: format!("route-{at}").into(),
        matches: by.matches(at),
        targets: [Target::new(0, 1)].into(),
        timeout: Some(Duration::from_secs(1)),
        limit: limit.clone(),
        ..Route::default()
    };
    let endpoints = (0..3).map(|at| Endpoint::new(&format!("10.0.0.{at}:80"), 1)).collect();
    let table = RouteTable::new((0..routes).map(route).collect());
    let listener = Listener { name: "egress".into(), routes: table.into() };
    Snapshot::new(
        1,
        vec![listener],
        vec![Cluster::new("echo", balance, ClusterSettings::default(), endpoints)],
    )
}

fn decisions(criterion: &mut Criterion) {
    for (name, routes, by, balance) in [
        ("10 routes, round_robin", 10, By::Service, Balance::RoundRobin),
        ("10 routes, p2c_ewma", 10, By::Service, Balance::P2cEwma),
        ("10 routes, least_request", 10, By::Service, Balance::LeastRequest),
        ("10000 routes, p2c_ewma", 10_000, By::Service, Balance::P2cEwma),
        ("10 paths, p2c_ewma", 10, By::Path, Balance::P2cEwma),
        ("10000 paths, p2c_ewma", 10_000, By::Path, Balance::P2cEwma),
    ] {
        let snapshot = snapshot(routes, by, balance);
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let (bytes, index) = by.call(routes / 2);
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
