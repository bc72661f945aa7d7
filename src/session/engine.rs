//! What every engine is told, what it says, and what the driver of the sockets may ask of it.
//!
//! Bytes and time come in as arguments; bytes and [`Effect`]s come out. Must never know which discipline it speaks for.

use std::{net::IpAddr, sync::Arc, time::Duration};

use outrigger_codec::{Dialect, Policy, Sniff, exchange::Limits};
use outrigger_core::{ListenerId, Local, Snapshot, Tick};

use super::{arena::Key, counters::Counts};

/// What the engine is told with every event: what to decide by, what was learnt so far, and the time.
#[derive(Debug)]
pub struct Context<'a> {
    /// What the conf says.
    pub snapshot: &'a Snapshot,
    /// What this worker has learnt.
    pub local: &'a mut Local,
    /// Now.
    pub now: Tick,
}

/// One leg's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// To a caller.
    Down(Key),
    /// To an endpoint.
    Up(Key),
}

/// What the driver of the sockets must do; in the order given.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Bytes wait in the outbox of this connection; said once until they were asked for.
    Flush(Leg),
    /// Connect to `address` for this upstream connection.
    Dial {
        /// The connection that waits for it.
        up: Key,
        /// `host:port`.
        address: Box<str>,
        /// How long that may take.
        timeout: Duration,
        /// How long the endpoint may leave bytes unacknowledged, or unread, before it counts as gone.
        patience: Duration,
    },
    /// Close the connection; it is not known here any more.
    Close(Leg),
    /// Close the connection so that its peer sees that something is missing; it is not known here any more.
    Reset(Leg),
    /// Everything was said to this caller, and it is not known here any more: end our side of the connection, then read
    /// and drop what it still sends for a moment. To close at once would reset it, and could take our last answer away.
    Finish(Key),
    /// Say no more on this connection, but go on reading it.
    Shut(Leg),
    /// Read this connection again: ask for what it sent already by `resume`.
    Resume(Leg),
}

/// The bounds of an engine, from the conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Longest frame, fixed header included.
    pub frame_max: usize,
    /// Bytes waiting for one caller; beyond them it is closed.
    pub outbox_max: usize,
    /// Bytes waiting for one connection at which its senders are not read any more.
    pub outbox_high: usize,
    /// Longest time from a frame's first byte to its last.
    pub frame_timeout: Duration,
    /// Bounds of heads and bodies.
    pub limits: Limits,
    /// Streams that a caller may have open at once.
    pub streams_max: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            frame_max: 8 << 20,
            outbox_max: 64 << 20,
            outbox_high: 1 << 20,
            frame_timeout: Duration::from_secs(30),
            limits: Limits::default(),
            streams_max: 1_000,
        }
    }
}

/// How a listener treats its callers, from the conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manners {
    /// Longest silence of a caller without calls; `None`: what its protocol says.
    pub keepalive_timeout: Option<Duration>,
    /// Longest time from the first byte of a request's head to its last.
    pub head_timeout: Duration,
    /// Longest time in which nothing of a body moves.
    pub idle_timeout: Duration,
    /// How heads are treated.
    pub policy: Policy,
    /// What its calls may be told as.
    pub dialects: Dialects,
    /// Its calls may go to endpoints that speak another protocol than they do.
    pub translates: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            keepalive_timeout: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            policy: Policy::default(),
            dialects: Dialects::default(),
            translates: false,
        }
    }
}

/// The dialects of a listener, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Dialects {
    /// Each, and whether the listener names it.
    pub of: Vec<(&'static dyn Dialect, bool)>,
    /// A call of a protocol that dialects are spoken in is refused when it is of none of them.
    pub only: bool,
}

impl PartialEq for Dialects {
    fn eq(&self, other: &Self) -> bool {
        let names =
            |it: &Self| it.of.iter().map(|(dialect, named)| (dialect.name(), *named)).collect::<Vec<_>>();
        self.only == other.only && names(self) == names(other)
    }
}

impl Eq for Dialects {}

/// A caller that has just connected.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// By which listener.
    pub listener: ListenerId,
    /// How that treats its callers.
    pub manners: Arc<Manners>,
    /// Its address.
    pub peer: Option<IpAddr>,
    /// It speaks the protocol that the engine translates, not the engine's own.
    pub foreign: bool,
}

/// The listener of callers whose listener is gone: it has no routes.
pub(super) const NOWHERE: ListenerId = ListenerId(u32::MAX);
/// How often connections are looked over while calls wait, and while draining.
pub(super) const SWEEP: Duration = Duration::from_millis(200);
/// How often otherwise.
pub(super) const SWEEP_IDLE: Duration = Duration::from_secs(1);
/// A caller without calls and without a byte for this long may be closed while draining: whatever it had sent before it
/// could learn of our end has arrived by then.
pub(super) const QUIET: Duration = Duration::from_millis(200);
/// Connections one call may be handed to while it is provably not sent.
pub(super) const TRIES_MAX: u8 = 3;
/// An endpoint that could not be connected to is passed over for this long.
pub(super) const AVOID_FAILED: Duration = Duration::from_secs(1);

/// What a listener is by a new snapshot: its callers stay, and are treated as the conf says now.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// Its id.
    pub listener: ListenerId,
    /// How it treats its callers.
    pub manners: Arc<Manners>,
}

/// An engine, as the driver of the sockets sees it.
pub trait Engine: 'static {
    /// The protocol's name.
    const NAME: &'static str;
    /// The protocol that it translates into its own, and its own into.
    const TRANSLATES: Option<&'static str> = None;

    /// An engine without connections.
    fn new(bounds: Bounds) -> Self;
    /// Whether a connection that begins with `first` speaks the protocol.
    fn sniff(first: &[u8]) -> Sniff;

    /// Whether there is anything for the driver to do.
    fn has_effects(&self) -> bool;
    /// What the driver must do now; handed over by exchanging an empty vector for a full one.
    fn effects(&mut self, into: &mut Vec<Effect>);

    /// A caller connected.
    fn down_open(&mut self, arrival: Arrival, now: Tick) -> Key;
    /// A caller sent `bytes`. They may be changed in place. `false`: do not read it until `Resume`.
    fn down_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool;
    /// A caller sends no more, but may still read. `false`: it can be closed.
    fn down_ended(&mut self, context: &mut Context<'_>, key: Key) -> bool;
    /// A caller's connection ended by itself.
    fn down_closed(&mut self, context: &mut Context<'_>, key: Key);

    /// A connection that was dialed is open. `false`: it is not wanted any more, close it.
    fn up_open(&mut self, context: &mut Context<'_>, key: Key) -> bool;
    /// An endpoint sent `bytes`. They may be changed in place. `false`: do not read it until `Resume`.
    fn up_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool;
    /// A connection could not be made, was lost, or was closed by its endpoint; `clean` when in order.
    fn up_closed(&mut self, context: &mut Context<'_>, key: Key, why: &str, clean: bool);

    /// Goes on with what a paused connection sent already. `false`: still do not read it.
    fn resume(&mut self, context: &mut Context<'_>, leg: Leg) -> bool;
    /// The bytes to write now. Asking for them ends the `Flush` that was said.
    fn outgoing(&mut self, leg: Leg) -> &[u8];
    /// The socket took `n` bytes (all when `n` is what `outgoing` gave).
    fn wrote(&mut self, context: &mut Context<'_>, leg: Leg, n: usize);

    /// When `tick` wants to be called next; `Tick::NEVER` when nothing waits.
    fn next_wake(&self, now: Tick) -> Tick;
    /// Time has passed.
    fn tick(&mut self, context: &mut Context<'_>);

    /// Takes up a new snapshot and its bounds. `renew` gives what a listener is now, or `None` when it is gone.
    fn reconcile(
        &mut self,
        context: &mut Context<'_>,
        bounds: Bounds,
        renew: &dyn Fn(ListenerId) -> Option<Renewed>,
    );
    /// No new work: callers are told in their protocol's words, and closed when their calls are answered.
    fn drain(&mut self, now: Tick);
    /// Draining takes too long: nothing more is read from callers, so that the calls they wait for are the last.
    fn press(&mut self);
    /// Ends everything: what is pending is answered as lost; each socket is to be closed when that is written.
    fn shut(&mut self, context: &mut Context<'_>);

    /// Callers connected.
    fn callers(&self) -> usize;
    /// Connections to endpoints, open or being made.
    fn upstreams(&self) -> usize;
    /// What happened besides calls.
    fn counts(&self) -> Counts;
}
