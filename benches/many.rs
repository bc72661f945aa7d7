//! What ten thousand of something cost: a snapshot to build and to take up, and a call to decide among so many endpoints;
//! and what policies add to deciding a call. One line of JSON, for `run.py`; run it by `cargo bench --bench many`.
//!
//! Times are medians of many turns. Endpoints differ between calls as they do in life, so that what does not fit the
//! processor's caches is paid for. No sockets, no codec. It must never judge its numbers: `report.py` has the budgets.

use std::{
    collections::BTreeMap,
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_codec::{Field, Head, HeadIndex, Outcome, Slot, Span};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, End, Endpoint, HashBy, Limit, Listener, ListenerId, Local, Match,
    Outlier, Pattern, Retry, Route, RouteTable, Snapshot, Target, Tick, decide, settle,
};

const MANY: usize = 10_000;
/// Snapshots that are built for one time.
const BUILDS: usize = 15;
/// Calls of one turn, and turns of one time.
const CALLS: u64 = 20_000;
const TURNS: usize = 25;

const BALANCES: [(&str, Balance); 6] = [
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("least_request", Balance::LeastRequest),
    ("p2c_ewma", Balance::P2cEwma),
    ("ring_hash", Balance::RingHash),
    ("maglev", Balance::Maglev),
];

type Times = BTreeMap<String, f64>;

fn endpoints(count: usize) -> Vec<Endpoint> {
    let address = |at: usize| format!("10.{}.{}.{}:12200", at >> 16, at >> 8 & 255, at & 255);
    (0..count).map(|at| Endpoint::new(&address(at), 1)).collect()
}

fn cluster(balance: Balance, endpoints: Vec<Endpoint>, outlier: bool) -> Cluster {
    let hash = matches!(balance, Balance::RingHash | Balance::Maglev)
        .then(|| HashBy::Header(b"user".as_slice().into()));
    let outlier = outlier.then(Outlier::default);
    Cluster::new("echo", balance, ClusterSettings { hash, outlier, ..ClusterSettings::default() }, endpoints)
}

fn route(name: &str, service: &str, header: Option<&str>) -> Route {
    Route {
        name: name.into(),
        matches: Match {
            service: Some(Pattern::exact(service)),
            method: Some(Pattern::exact("echo")),
            headers: header
                .map(|value| (b"tenant".as_slice().into(), Pattern::exact(value)))
                .into_iter()
                .collect(),
            ..Match::default()
        },
        targets: [Target::new(0, 1)].into(),
        timeout: Some(Duration::from_secs(1)),
        retry: header
            .map(|_| Arc::new(Retry { overloaded: true, error: true, tries: 2, ..Retry::default() })),
        ..Route::default()
    }
}

fn snapshot(revision: u64, routes: Vec<Route>, cluster: Cluster) -> Snapshot {
    let listener = Listener { name: "egress".into(), routes: RouteTable::new(routes).into() };
    Snapshot::new(revision, vec![listener], vec![cluster])
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds to build a snapshot of ten thousand routes and as many endpoints, and for a worker to take it up that has
/// another one of the same names.
fn build(balance: Balance) -> (f64, f64) {
    let limit = Limit::new(NonZeroU32::MAX, Duration::from_secs(3_600), NonZeroU32::MAX).map(Arc::new);
    let (mut built, mut taken, mut local) = (Vec::new(), Vec::new(), Local::new(1));
    for revision in 0..BUILDS as u64 {
        let routes: Vec<Route> = (0..MANY)
            .map(|at| {
                let route = route(&format!("route-{at}"), &format!("com.example.Service{at}"), Some("blue"));
                Route { limit: limit.clone(), ..route }
            })
            .collect();
        let endpoints = endpoints(MANY);
        let began = Instant::now();
        let snapshot = snapshot(revision, routes, cluster(balance, endpoints, true));
        built.push(ms(began));
        let began = Instant::now();
        local.reconcile(&snapshot);
        taken.push(ms(began));
    }
    (median(built), median(taken))
}

/// Clusters that registries fill, and the endpoints of each.
const SERVICES: usize = 5_000;
const INSTANCES: usize = 20;

/// Milliseconds for one of five thousand clusters of twenty endpoints to change: to make the snapshot, and to take it up.
fn change() -> (f64, f64) {
    let named = |at: usize, first: usize| {
        let endpoints =
            (first..first + INSTANCES).map(|port| Endpoint::new(&format!("10.0.0.1:{}", port + 1), 1));
        let settings = ClusterSettings { outlier: Some(Outlier::default()), ..ClusterSettings::default() };
        Cluster::new(&format!("zk/com.example.Service{at}"), Balance::P2cEwma, settings, endpoints.collect())
    };
    let routes = Arc::new(RouteTable::new(Vec::new()));
    let listener = || Listener { name: "egress".into(), routes: Arc::clone(&routes) };
    let clusters: Vec<Arc<Cluster>> = (0..SERVICES).map(|at| Arc::new(named(at, 0))).collect();
    let (mut built, mut taken, mut local) = (Vec::new(), Vec::new(), Local::new(1));
    let mut last = Snapshot::of(0, vec![listener()], clusters);
    local.reconcile(&last);
    for revision in 1..=TURNS * 10 {
        let at = revision * 389 % SERVICES;
        let began = Instant::now();
        let mut changed = named(at, revision % 2);
        if let Some(before) = last.cluster(at as u32) {
            changed.inherit(before, Tick(revision as u64));
        }
        let snapshot = Snapshot::patched(&last, revision as u64, vec![listener()], [Arc::new(changed)]);
        built.push(ms(began));
        let began = Instant::now();
        local.reconcile(&snapshot);
        taken.push(ms(began));
        last = snapshot;
    }
    (median(built), median(taken))
}

/// A call with ten headers, the last of which routes look at; a header before it is its key, of eight digits.
struct Call {
    bytes: Vec<u8>,
    index: HeadIndex,
    key: Span,
}

impl Call {
    fn new() -> Self {
        let mut call = Self { bytes: Vec::new(), index: HeadIndex::default(), key: Span::new(0, 0) };
        let (service, method) = (call.put("com.example.EchoService"), call.put("echo"));
        call.index.set(Slot::Service, service);
        call.index.set(Slot::Method, method);
        call.index.timeout_ms = Some(3_000);
        for at in 0..8 {
            call.header(&format!("header-{at}"), "of no interest");
        }
        call.key = call.header("user", "00000000");
        call.header("tenant", "blue");
        call
    }

    fn put(&mut self, text: &str) -> Span {
        let span = Span::new(self.bytes.len(), text.len());
        self.bytes.extend_from_slice(text.as_bytes());
        span
    }

    fn header(&mut self, name: &str, value: &str) -> Span {
        let (name, value) = (self.put(name), self.put(value));
        self.index.fields.push(Field { name, value });
        value
    }
}

/// Nanoseconds to decide and settle a call.
fn decided(snapshot: &Snapshot) -> f64 {
    let (mut local, mut call, mut now) = (Local::new(1), Call::new(), Tick(1_000_000_000));
    local.reconcile(snapshot);
    let at = call.bytes.windows(8).position(|text| text == b"00000000").unwrap_or(0);
    assert_eq!(call.key.of(&call.bytes), call.bytes.get(at..at + 8));
    let mut turn = |counted: &mut Vec<f64>| {
        let began = Instant::now();
        for user in 0..CALLS {
            now = Tick(now.0 + 10_000);
            if let Some(key) = call.bytes.get_mut(at..at + 8) {
                key.copy_from_slice(&(user.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes());
            }
            let head = Head { bytes: black_box(&call.bytes), index: &call.index };
            if let Ok(plan) = decide(snapshot, ListenerId(0), &mut local, head, now, now) {
                settle(&mut local, plan, End::Answered(Outcome::Ok), Tick(now.0 + 500_000));
            }
        }
        counted.push(began.elapsed().as_secs_f64() * 1e9 / CALLS as f64);
    };
    let mut counted = Vec::new();
    turn(&mut Vec::new());
    (0..TURNS).for_each(|_| turn(&mut counted));
    assert_eq!(local.unsettled(), 0, "every call was settled");
    median(counted)
}

/// Deciding among few and many endpoints, by how they are picked.
fn picks(count: usize) -> Times {
    let one = |balance| {
        let routes = vec![route("echo", "com.example.EchoService", None)];
        decided(&snapshot(1, routes, cluster(balance, endpoints(count), false)))
    };
    BALANCES.map(|(name, balance)| (name.to_owned(), one(balance))).into()
}

/// Deciding without any policy, and with more and more of them, among twenty endpoints.
fn policies() -> Times {
    let service = "com.example.EchoService";
    let bare = || vec![route("echo", service, None)];
    let ten = || {
        let others = (0..9).map(|at| route(&format!("other-{at}"), service, Some("red")));
        others.chain([route("tenth", service, Some("blue"))]).collect::<Vec<Route>>()
    };
    let without = |routes: Vec<Route>| routes.into_iter().map(|r| Route { retry: None, ..r }).collect();
    let time =
        |routes, balance, outlier| decided(&snapshot(1, routes, cluster(balance, endpoints(20), outlier)));
    [
        ("bare", time(bare(), Balance::RoundRobin, false)),
        ("p2c_ewma", time(bare(), Balance::P2cEwma, false)),
        ("p2c_ewma, ejection", time(bare(), Balance::P2cEwma, true)),
        ("p2c_ewma, ejection, ten routes", time(without(ten()), Balance::P2cEwma, true)),
        ("p2c_ewma, ejection, ten routes, retries and budget", time(ten(), Balance::P2cEwma, true)),
    ]
    .map(|(name, time)| (name.to_owned(), time))
    .into()
}

#[allow(clippy::print_stdout)] // this is what it is for
fn main() {
    let built = BALANCES.map(|(name, balance)| (name.to_owned(), build(balance)));
    let build: Times = built.iter().map(|(name, (ms, _))| (name.clone(), *ms)).collect();
    let take_up: Times = built.iter().map(|(name, (_, ms))| (name.clone(), *ms)).collect();
    let picks: BTreeMap<usize, Times> = [10, MANY].map(|count| (count, picks(count))).into();
    let change = change();
    let times = serde_json::json!({
        "change_ms": change.0, "change_take_up_ms": change.1,
        "snapshot_ms": build, "take_up_ms": take_up, "decide_ns": picks, "policies_ns": policies(),
    });
    println!("{times}");
}
