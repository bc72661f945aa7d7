//! A worker: one thread, one current-thread runtime, its own connections, pools, balancer state and counts.
//!
//! Nothing on the request path is shared with another worker or locked. The control thread speaks to a worker by
//! [`Command`]s alone, in order, so that a connection always meets the snapshot it was accepted under.

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasher, RandomState},
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use outrigger_core::{Awaited, Listener, Local, Snapshot, Tally, Tick, local::EndpointState};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    plugins,
    session::{Bounds, Manners, Renewed, counters::Counts},
};

pub mod accept;
pub mod driver;
pub mod relay;

pub use accept::Sniffed;

/// What [`Tick`]s are counted from: [`BEFORE`] the process began, so that what was a while ago has one, too.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

/// How far back [`Tick`]s reach before the process began.
const BEFORE: Duration = Duration::from_secs(3_600);

impl Clock {
    /// Time begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub fn now(self) -> Tick {
        Tick::ZERO.after(BEFORE + self.0.elapsed())
    }

    /// The runtime's name for a moment.
    pub fn instant(self, tick: Tick) -> tokio::time::Instant {
        // A moment that never comes is a day away; whoever waits for it looks again then.
        let far = self.0.elapsed() + Duration::from_secs(86_400);
        (self.0 + tick.since(Tick::ZERO.after(BEFORE)).min(far)).into()
    }
}

/// How a listener tells what its connections speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaks {
    /// The listener's name. Its id is looked up when a connection begins to be served: a reload may lie between.
    pub listener: String,
    /// Names of protocols, in the order of the list of plug-ins.
    pub protocols: Vec<&'static str>,
    /// Whether bytes that are nobody's are relayed as they are.
    pub tcp: bool,
    /// How long a connection may take until it can be told what it speaks.
    pub detect_timeout: Duration,
    /// How its callers are treated.
    pub manners: Arc<Manners>,
}

impl Speaks {
    /// What it speaks, as the conf names it: dialects where nothing else of their protocol is served.
    pub fn names(&self) -> Vec<&'static str> {
        let dialects = &self.manners.dialects;
        let mut names: Vec<&str> = self.protocols.clone();
        if dialects.only {
            names.retain(|name| *name != plugins::SPOKEN_IN);
            names.extend(dialects.of.iter().filter(|(_, named)| *named).map(|(dialect, _)| dialect.name()));
            names.dedup();
        }
        names.extend(self.tcp.then_some("tcp"));
        names
    }
}

/// What the control thread asks of a worker.
#[derive(Debug)]
pub enum Command {
    /// A connection was accepted.
    Connection {
        /// The socket, non-blocking.
        stream: std::net::TcpStream,
        /// By which listener, and what it may speak.
        speaks: Arc<Speaks>,
        /// Released when the connection ends.
        place: Place,
    },
    /// Decide by this from now on; with how each of its listeners treats callers, by their ids.
    Snapshot(Arc<Snapshot>, Bounds, Vec<Arc<Manners>>),
    /// Tell callers to leave; finish their calls.
    Drain,
    /// Draining takes too long: read nothing more.
    Press,
    /// Say what you know.
    Report(Detail, oneshot::Sender<Report>),
    /// Say what you know of endpoints that had calls.
    Called(oneshot::Sender<Vec<EndpointReport>>),
    /// End now; answered when everything is said and closed.
    Stop(oneshot::Sender<()>),
}

/// What a worker has on its hands.
#[derive(Debug, Default)]
pub struct Load {
    /// Connections of callers.
    pub connections: AtomicUsize,
    /// Connections they may amount to: one that may be relayed is two, because its other side is one of its own.
    pub places: AtomicUsize,
}

/// A connection's part in the load of a worker; given back when dropped.
#[derive(Debug)]
pub struct Place {
    load: Arc<Load>,
    places: usize,
}

impl Place {
    /// Counts a connection that may take so many places.
    pub fn take(load: &Arc<Load>, places: usize) -> Self {
        load.connections.fetch_add(1, Ordering::Relaxed);
        load.places.fetch_add(places, Ordering::Relaxed);
        Self { load: Arc::clone(load), places }
    }

    /// Keeps one place and gives the others back.
    pub fn keep_one(&mut self) {
        self.load.places.fetch_sub(self.places.saturating_sub(1), Ordering::Relaxed);
        self.places = self.places.min(1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.connections.fetch_sub(1, Ordering::Relaxed);
        self.load.places.fetch_sub(self.places, Ordering::Relaxed);
    }
}

/// How much is told of endpoints: there may be a hundred thousand, and to tell of them takes the control thread its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// Their counts and states.
    Counts,
    /// What they say of themselves, too.
    All,
}

/// What one worker knows, copied out for telemetry.
#[derive(Debug, Default)]
pub struct Report {
    /// Counts by route.
    pub routes: Vec<RouteReport>,
    /// Counts and state by endpoint.
    pub endpoints: Vec<EndpointReport>,
    /// Counts by protocol.
    pub protocols: Vec<ProtocolReport>,
    /// What connections turned out to speak.
    pub sniffed: Sniffed,
}

/// Counts of one route.
#[derive(Debug)]
pub struct RouteReport {
    /// The listener's name.
    pub listener: Box<str>,
    /// The route's name.
    pub route: Box<str>,
    /// Its counts.
    pub tally: Tally,
}

/// Counts and state of one endpoint.
#[derive(Debug)]
pub struct EndpointReport {
    /// The cluster's name.
    pub cluster: Box<str>,
    /// `host:port`.
    pub address: Box<str>,
    /// Calls in flight.
    pub in_flight: u64,
    /// Connections open or being made.
    pub connections: u64,
    /// Passed over for now.
    pub avoided: bool,
    /// Left out because it failed, for how long still; zero: on trial.
    pub out_for: Option<Duration>,
    /// Health checks found it ill.
    pub ill: bool,
    /// Still in the conf or the registry.
    pub listed: bool,
    /// The moving average of its latency.
    pub latency: Duration,
    /// Its counts.
    pub tally: Tally,
}

/// Counts of one protocol.
#[derive(Debug)]
pub struct ProtocolReport {
    /// Its name.
    pub protocol: &'static str,
    /// Callers connected.
    pub callers: u64,
    /// Connections to endpoints.
    pub upstreams: u64,
    /// What happened besides calls.
    pub counters: Counts,
}

/// What the drivers of one worker share: one thread's, never another's.
#[derive(Debug)]
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// What to decide by.
    pub snapshot: RefCell<Arc<Snapshot>>,
    /// What was learnt.
    pub local: RefCell<Local>,
    /// Where sockets are read into; its bytes are used before the next read.
    pub scratch: RefCell<BytesMut>,
    /// What connections turned out to speak.
    pub sniffed: RefCell<Sniffed>,
    /// No new connections are taken.
    pub draining: Cell<bool>,
    /// Tells connections that nobody serves yet to leave.
    pub leave: Notify,
    /// Where services go that calls wait for.
    pub wants: mpsc::Sender<Awaited>,
}

/// Bytes read from a socket at once.
const SCRATCH: usize = 64 << 10;

impl Shared {
    /// What a worker begins with.
    pub fn new(clock: Clock, snapshot: Arc<Snapshot>, seed: u64, wants: mpsc::Sender<Awaited>) -> Rc<Self> {
        let mut local = Local::new(seed);
        local.reconcile(&snapshot);
        Rc::new(Self {
            clock,
            snapshot: RefCell::new(snapshot),
            local: RefCell::new(local),
            scratch: RefCell::new(BytesMut::with_capacity(SCRATCH)),
            sniffed: RefCell::default(),
            draining: Cell::new(false),
            leave: Notify::new(),
            wants,
        })
    }

    /// Says for which services calls wait, where that was not said yet.
    pub fn tell(self: &Rc<Self>, local: &mut Local) {
        let mut awaited = local.untold().into_iter();
        while let Some(one) = awaited.next() {
            let Err(mpsc::error::TrySendError::Full(one)) = self.wants.try_send(one) else { continue };
            // So many at once are rare: what does not fit waits for its turn, and nothing else does.
            let (wants, rest) = (self.wants.clone(), std::iter::once(one).chain(awaited).collect::<Vec<_>>());
            tokio::task::spawn_local(async move {
                for one in rest {
                    if wants.send(one).await.is_err() {
                        return;
                    }
                }
            });
            return;
        }
    }

    /// What is known, without protocols.
    async fn report(&self, detail: Detail) -> Report {
        let endpoints = match detail {
            Detail::None => Vec::new(),
            Detail::Counts | Detail::All => self.endpoints(|_| true).await,
        };
        let local = self.local.borrow();
        let routes = local.routes().map(|route| RouteReport {
            listener: route.listener.clone(),
            route: route.name.clone(),
            tally: route.tally.clone(),
        });
        let (routes, sniffed) = (routes.collect(), self.sniffed.borrow().clone());
        Report { routes, endpoints, protocols: Vec::new(), sniffed }
    }

    /// What is known of some endpoints. There may be a hundred thousand: calls go on in between.
    async fn endpoints(&self, wanted: fn(&EndpointState) -> bool) -> Vec<EndpointReport> {
        let (mut all, mut from) = (Vec::new(), 0);
        while self.add_endpoints(from, wanted, &mut all) {
            from += ENDPOINTS_AT_ONCE;
            tokio::task::yield_now().await;
        }
        all
    }

    /// Those of the next slots; whether there are any.
    fn add_endpoints(
        &self,
        from: usize,
        wanted: fn(&EndpointState) -> bool,
        all: &mut Vec<EndpointReport>,
    ) -> bool {
        let (local, now) = (self.local.borrow(), self.clock.now());
        let Some(some) = local.some_endpoints(from, ENDPOINTS_AT_ONCE) else { return false };
        // One without an address stands for those of a cluster that is not there yet.
        let some = some.filter(|endpoint| !endpoint.address.is_empty() && wanted(endpoint));
        all.extend(some.map(|endpoint| EndpointReport {
            cluster: endpoint.cluster.clone(),
            address: endpoint.address.clone(),
            in_flight: endpoint.in_flight.into(),
            connections: endpoint.connections.into(),
            avoided: endpoint.avoid_until > now,
            out_for: endpoint.health.out_for(now),
            ill: endpoint.health.is_ill(),
            listed: endpoint.listed,
            latency: Duration::from_nanos(endpoint.latency(now) as u64),
            tally: endpoint.tally.clone(),
        }));
        true
    }
}

/// Endpoints that are told of before calls have their turn, and taken in before other news have it: some 50 µs.
pub const ENDPOINTS_AT_ONCE: usize = 512;

/// Tasks run between two looks at the sockets: enough that the connections ready in one poll are all read before
/// the flusher runs.
const EVENT_INTERVAL: u32 = 127;

/// What the control thread holds of a worker.
#[derive(Debug)]
pub struct Handle {
    /// Where commands go.
    pub commands: mpsc::UnboundedSender<Command>,
    /// What it has on its hands.
    pub load: Arc<Load>,
}

impl Handle {
    /// Starts a worker.
    pub fn start(
        index: usize,
        clock: Clock,
        snapshot: Arc<Snapshot>,
        bounds: Bounds,
        wants: mpsc::Sender<Awaited>,
    ) -> io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // A local runtime is made in the thread that runs it; how that went is told to who asked for it.
            let built = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .event_interval(EVENT_INTERVAL)
                .build_local(tokio::runtime::LocalOptions::default());
            match built {
                Ok(runtime) => {
                    let _ = started.send(Ok(()));
                    // Each process picks otherwise: sidecars that begin together do not all go to the same endpoint.
                    let seed = RandomState::new().hash_one(index);
                    runtime.block_on(live((seed, clock), snapshot, bounds, wants, inbox));
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        start.recv().unwrap_or_else(|_| Err(io::Error::other("the worker ended at once")))?;
        Ok(Self { commands, load: Arc::default() })
    }
}

/// A worker's life: obeys commands until it is told to stop.
async fn live(
    (seed, clock): (u64, Clock),
    snapshot: Arc<Snapshot>,
    bounds: Bounds,
    wants: mpsc::Sender<Awaited>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) {
    let shared = Shared::new(clock, snapshot, seed, wants);
    let protocols = Rc::new(plugins::protocols(&shared, bounds));
    while let Some(command) = inbox.recv().await {
        match command {
            // Accepted a moment before draining began: it has sent nothing that we took.
            Command::Connection { .. } if shared.draining.get() => {}
            Command::Connection { stream, speaks, place } => {
                accept::serve(&shared, &protocols, accept::Accepted { stream, speaks, place });
            }
            Command::Snapshot(snapshot, bounds, manners) => {
                let old = shared.snapshot.replace(Arc::clone(&snapshot));
                let renew = |listener: &Listener| {
                    let id = snapshot.listener_named(&listener.name)?;
                    let manners = manners.get(id.0 as usize)?;
                    Some(Renewed { listener: id, manners: Arc::clone(manners) })
                };
                let renewed: Vec<_> = old.listeners().iter().map(renew).collect();
                shared.local.borrow_mut().reconcile(&snapshot);
                for protocol in protocols.iter() {
                    Rc::clone(protocol).reconcile(&renewed, bounds);
                }
            }
            Command::Drain => {
                shared.draining.set(true);
                shared.leave.notify_waiters();
                protocols.iter().for_each(|protocol| Rc::clone(protocol).drain());
            }
            Command::Press => protocols.iter().for_each(|protocol| Rc::clone(protocol).press()),
            Command::Report(detail, reply) => {
                // Whoever has left since the last snapshot is not shown as leaving for good.
                shared.local.borrow_mut().give_up_endpoints();
                let (shared, protocols) = (Rc::clone(&shared), Rc::clone(&protocols));
                tokio::task::spawn_local(async move {
                    let mut report = shared.report(detail).await;
                    report.protocols = protocols.iter().map(|protocol| protocol.report()).collect();
                    let _ = reply.send(report); // Whoever asked did not wait.
                });
            }
            Command::Called(reply) => {
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move {
                    let called = shared.endpoints(|endpoint| endpoint.tally.calls() > 0).await;
                    let _ = reply.send(called); // Whoever asked did not wait.
                });
            }
            Command::Stop(done) => {
                protocols.iter().for_each(|protocol| Rc::clone(protocol).shut());
                // The answers just written go out before the sockets close.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = done.send(());
                break;
            }
        }
    }
}
