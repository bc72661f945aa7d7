//! No allocation for a call after warm-up: the *frames* engine is driven as a worker drives it, its allocations counted.
//!
//! Each round, eight callers have eight calls outstanding each: the calls are read, decided, forwarded, written,
//! answered, given back and settled. Nothing here may allocate inside what is measured, and nothing measured may
//! be left out: effects are taken and time passes too. `allocation-counter` counts what the measuring thread
//! allocates; it is the only way to do so without unsafe code of our own.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use allocation_counter::{AllocationInfo, measure};
use outrigger::session::{
    arena::Key,
    frames::{Bounds, Context, Effect, Frames, Leg},
};
use outrigger_bolt::Bolt;
use outrigger_codec::{FrameCodec, HeadIndex, Scan, Wants};
use outrigger_core::{
    Balance, Cluster, ClusterSettings, Endpoint, Limit, Listener, ListenerId, Local, Match, Outlier, Pattern,
    Retry, Route, RouteTable, Snapshot, Target, Tick,
};
use outrigger_dubbo::Dubbo;

const CALLERS: usize = 8;
const OUTSTANDING: usize = 8;
const SERVICE: &str = "com.example.EchoService";
const METHOD: &str = "echo";

/// A protocol's call and its answer, spelled out once.
trait Spoken: FrameCodec {
    /// The call carries a timeout and a header or attachment called `zone`.
    fn call() -> Vec<u8>;
    fn answer() -> Vec<u8>;
}

fn long(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

impl Spoken for Bolt {
    fn call() -> Vec<u8> {
        let map = ["service", SERVICE, "sofa_head_method_name", METHOD, "zone", "a"].map(long).concat();
        let mut frame = b"\x01\x01\x00\x01\x01\0\0\0\0\x01\0\0\x0b\xb8\0\0".to_vec();
        frame.extend((map.len() as u16).to_be_bytes());
        frame.extend(256u32.to_be_bytes());
        frame.extend(map);
        frame.extend([7; 256]);
        frame
    }

    fn answer() -> Vec<u8> {
        [b"\x01\x00\x00\x02\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\x01\0".as_slice(), &[9; 256]].concat()
    }
}

impl Spoken for Dubbo {
    fn call() -> Vec<u8> {
        let mut body = ["2.0.2", SERVICE, "1.0.0", METHOD, "[B"].map(short).concat();
        body.extend([b"B\x01\x00".as_slice(), &[7; 256]].concat());
        body.extend(
            [b"H".to_vec(), ["timeout", "3000", "zone", "a"].map(short).concat(), b"Z".to_vec()].concat(),
        );
        let header =
            [b"\xda\xbb\xc2\0\0\0\0\0\0\0\0\0".as_slice(), &(body.len() as u32).to_be_bytes()].concat();
        [header, body].concat()
    }

    fn answer() -> Vec<u8> {
        [b"\xda\xbb\x02\x14\0\0\0\0\0\0\0\0\0\0\x01\x04\x91B\x01\x00".as_slice(), &[9; 256]].concat()
    }
}

/// Routes by service and method, with a limit, a timeout and, where `headers`, a header that must be there.
fn snapshot(headers: bool) -> Snapshot {
    let count = NonZeroU32::new(1_000_000).expect("not zero");
    let route = |service: &str, method: &str| Route {
        name: format!("{service}.{method}").into(),
        matches: Match {
            service: Some(Pattern::exact(service)),
            method: Some(Pattern::exact(method)),
            headers: if headers { vec![((*b"zone").into(), Pattern::exact("a"))] } else { Vec::new() },
            ..Match::default()
        },
        targets: [Target::new(0, 1)].into(),
        timeout: Some(Duration::from_secs(2)),
        limit: Limit::new(count, Duration::from_secs(1), count).map(Arc::new),
        ..Route::default()
    };
    let routes = vec![route("com.example.Other", METHOD), route(SERVICE, "other"), route(SERVICE, METHOD)];
    let endpoints = ["a:1", "b:1"].map(|address| Endpoint::new(address, 1));
    let cluster = Cluster::new("echo", Balance::P2cEwma, ClusterSettings::default(), endpoints.into());
    Snapshot::new(
        1,
        vec![Listener { name: "egress".into(), routes: RouteTable::new(routes).into() }],
        vec![cluster],
    )
}

/// Every policy at once, over twenty endpoints: ten routes of one method, each of which wants a header and the last of which
/// matches; retries that read every answer, a deadline for each try, a budget; ejection.
fn policies() -> Snapshot {
    let per_try = Some(Duration::from_millis(500));
    let retry = Arc::new(Retry { overloaded: true, error: true, tries: 2, per_try, ..Retry::default() });
    let route = |at: usize, value: &str| Route {
        name: format!("route-{at}").into(),
        matches: Match {
            service: Some(Pattern::exact(SERVICE)),
            method: Some(Pattern::exact(METHOD)),
            headers: vec![((*b"zone").into(), Pattern::exact(value))],
            ..Match::default()
        },
        targets: [Target::new(0, 1)].into(),
        timeout: Some(Duration::from_secs(2)),
        retry: Some(Arc::clone(&retry)),
        ..Route::default()
    };
    let routes = (0..10).map(|at| route(at, if at == 9 { "a" } else { "b" })).collect();
    let endpoints = (0..20).map(|at| Endpoint::new(&format!("e{at}:1"), 1)).collect();
    let settings = ClusterSettings { outlier: Some(Outlier::default()), ..ClusterSettings::default() };
    let cluster = Cluster::new("echo", Balance::P2cEwma, settings, endpoints);
    Snapshot::new(
        1,
        vec![Listener { name: "egress".into(), routes: RouteTable::new(routes).into() }],
        vec![cluster],
    )
}

/// An engine with its callers and the buffers its sockets would use.
struct World<C: Spoken> {
    snapshot: Snapshot,
    local: Local,
    engine: Frames<C>,
    now: Tick,
    callers: Vec<Key>,
    ups: Vec<Key>,
    /// What the callers send in one round, and where it is read into.
    calls: Vec<u8>,
    scratch: Vec<u8>,
    answer: Vec<u8>,
    effects: Vec<Effect>,
    /// Legs that have bytes to write.
    dirty: Vec<Leg>,
    /// Exchanged for `dirty` while that is written.
    batch: Vec<Leg>,
    answered: usize,
}

impl<C: Spoken> World<C> {
    fn new(snapshot: Snapshot) -> Self {
        let mut local = Local::new(1);
        local.reconcile(&snapshot);
        let (mut engine, now) = (Frames::new(Bounds::default()), Tick(1_000_000_000));
        let callers = (0..CALLERS).map(|_| engine.down_open(ListenerId(0), None, now)).collect();
        let call = C::call();
        Self {
            snapshot,
            local,
            engine,
            now,
            callers,
            ups: Vec::new(),
            calls: call.repeat(OUTSTANDING),
            scratch: Vec::with_capacity(64 << 10),
            answer: C::answer(),
            effects: Vec::with_capacity(64),
            dirty: Vec::with_capacity(64),
            batch: Vec::with_capacity(64),
            answered: 0,
        }
    }

    fn handle<R>(&mut self, event: impl FnOnce(&mut Frames<C>, &mut Context<'_>) -> R) -> R {
        let mut context = Context { snapshot: &self.snapshot, local: &mut self.local, now: self.now };
        let result = event(&mut self.engine, &mut context);
        let mut effects = std::mem::take(&mut self.effects);
        while self.engine.has_effects() {
            self.engine.effects(&mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Flush(leg) => self.dirty.push(leg),
                    Effect::Dial { up, .. } => self.ups.push(up),
                    other => panic!("steady traffic asks for {other:?}"),
                }
            }
        }
        self.effects = effects;
        result
    }

    /// Every caller makes its calls, every call is answered.
    fn round(&mut self) {
        for at in 0..CALLERS {
            self.scratch.clear();
            self.scratch.extend_from_slice(&self.calls);
            for (n, call) in self.scratch.chunks_exact_mut(self.calls.len() / OUTSTANDING).enumerate() {
                C::set_id(call, n as u64);
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            let key = self.callers[at];
            // Two reads, so that a frame is cut and carried over.
            let (first, second) = scratch.split_at_mut(self.calls.len() / 3);
            assert!(self.handle(|engine, context| engine.down_bytes(context, key, first)));
            assert!(self.handle(|engine, context| engine.down_bytes(context, key, second)));
            self.scratch = scratch;
        }
        while let Some(up) = self.ups.pop() {
            assert!(self.handle(|engine, context| engine.up_open(context, up)));
        }
        self.now = self.now.after(Duration::from_micros(50));
        self.write();
        self.write();
        self.handle(Frames::tick);
    }

    /// Writes what waits; what goes to an endpoint is answered at once.
    fn write(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        std::mem::swap(&mut batch, &mut self.dirty);
        for leg in batch.drain(..) {
            let bytes = self.engine.outgoing(leg);
            let n = bytes.len();
            self.scratch.clear();
            let (mut at, answer) = (0, &mut self.answer);
            while let Scan::Frame(framed) = C::scan(&bytes[at..], usize::MAX) {
                at += framed.len;
                if let Leg::Up(_) = leg {
                    C::set_id(answer, framed.id);
                    self.scratch.extend_from_slice(answer);
                } else {
                    self.answered += 1;
                }
            }
            self.handle(|engine, context| engine.wrote(context, leg, n));
            if let Leg::Up(key) = leg {
                let mut scratch = std::mem::take(&mut self.scratch);
                assert!(self.handle(|engine, context| engine.up_bytes(context, key, &mut scratch)));
                self.scratch = scratch;
            }
        }
        self.batch = batch;
    }
}

fn rounds<C: Spoken>(snapshot: Snapshot) -> (AllocationInfo, World<C>) {
    const WARM: usize = 100;
    const COUNTED: usize = 1_000;
    let mut world = World::<C>::new(snapshot);
    (0..WARM).for_each(|_| world.round());
    let counted = measure(|| (0..COUNTED).for_each(|_| world.round()));
    assert_eq!(world.answered, CALLERS * OUTSTANDING * (WARM + COUNTED), "every call was answered");
    assert_eq!(world.local.unsettled(), 0, "every call was settled");
    let answered: u64 = world.local.routes().map(|route| route.tally.answered[0]).sum();
    assert_eq!(answered as usize, world.answered, "by its service, not by us");
    (counted, world)
}

#[test]
fn bolt_calls_allocate_nothing() {
    assert_eq!(rounds::<Bolt>(snapshot(false)).0.count_total, 0);
}

#[test]
fn dubbo_calls_allocate_nothing() {
    assert_eq!(rounds::<Dubbo>(snapshot(false)).0.count_total, 0);
}

#[test]
fn headers_that_a_route_wants_cost_no_allocation() {
    assert_eq!(rounds::<Bolt>(snapshot(true)).0.count_total, 0, "bolt");
    assert_eq!(rounds::<Dubbo>(snapshot(true)).0.count_total, 0, "dubbo");
}

#[test]
fn policies_cost_no_allocation() {
    fn counted<C: Spoken>() -> u64 {
        let (counted, world) = rounds::<C>(policies());
        let busy = world.local.endpoints().filter(|(_, endpoint)| endpoint.tally.calls() > 0).count();
        assert_eq!(busy, 20, "all endpoints get calls");
        counted.count_total
    }
    assert_eq!(counted::<Bolt>(), 0, "bolt");
    assert_eq!(counted::<Dubbo>(), 0, "dubbo");
}

#[test]
fn a_head_index_keeps_its_memory() {
    fn reread<C: Spoken>() {
        let (call, mut index) = (C::call(), HeadIndex::default());
        let counted = measure(|| {
            for _ in 0..1_000 {
                index.clear();
                assert!(C::head(&call, Wants::ALL, &mut index).is_ok());
                assert!(index.fields.iter().any(|field| field.name.of(&call) == Some(b"zone")));
            }
        });
        assert_eq!(counted.count_total, 0, "{}", C::NAME);
    }
    reread::<Bolt>();
    reread::<Dubbo>();
}

#[test]
fn an_allocation_would_be_seen() {
    let counted = measure(|| drop(std::hint::black_box(vec![0u8; 100])));
    assert_eq!(counted.count_total, 1);
}
