//! The first moments of a connection: what does it speak?
//!
//! A listener with one protocol does not ask. Otherwise the first bytes are shown to each protocol it may speak;
//! sniffers are mutually exclusive, so the order does not matter. There is a time limit, and every outcome is counted.

use std::{net::TcpStream as StdStream, rc::Rc, sync::Arc, time::Duration};

use outrigger_codec::Sniff;
use outrigger_core::ListenerId;
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::{Place, ProtocolReport, Shared, Speaks, relay};
use crate::session::{Bounds, Renewed};

/// A protocol in a worker: the one place where a call of it is virtual, once a connection.
pub trait Protocol {
    /// Its name in the conf.
    fn name(&self) -> &'static str;
    /// Whether a connection that begins with these bytes speaks it.
    fn sniff(&self, first: &[u8]) -> Sniff;
    /// The protocol that it translates, too.
    fn translates(&self) -> Option<&'static str>;
    /// Serves a connection whose first bytes were read already. `foreign`: it speaks the protocol that is translated.
    fn serve(self: Rc<Self>, stream: TcpStream, first: Vec<u8>, origin: Origin, foreign: bool);
    /// Takes up the worker's new snapshot. `renewed`: what the listeners of the last one are now, by their ids.
    fn reconcile(self: Rc<Self>, renewed: &[Option<Renewed>], bounds: Bounds);
    /// Tells callers to leave.
    fn drain(self: Rc<Self>);
    /// Reads nothing more.
    fn press(self: Rc<Self>);
    /// Ends all connections.
    fn shut(self: Rc<Self>);
    /// What it counted.
    fn report(&self) -> ProtocolReport;
}

/// What connections turned out to speak, by name of the protocol, and how it ended where it could not be told.
#[derive(Clone, Debug, Default)]
pub struct Sniffed(pub Vec<(&'static str, u64)>);

impl Sniffed {
    /// Counts one outcome. Names are protocols and the three ends below: few.
    pub fn count(&mut self, outcome: &'static str) {
        match self.0.iter_mut().find(|(name, _)| *name == outcome) {
            Some((_, n)) => *n += 1,
            None => self.0.push((outcome, 1)),
        }
    }
}

/// Nobody's bytes, and no relay for them.
pub const UNKNOWN: &str = "unknown";
/// The time was up before it could be told.
pub const TIMEOUT: &str = "timeout";
/// The caller left before it could be told.
pub const CLOSED: &str = "closed";
/// How long a caller that says nothing may keep its connection, unless the listener says otherwise: as Dubbo's servers.
const SILENCE_MAX: Duration = Duration::from_secs(180);
/// First bytes looked at; the longest signature is shorter.
const FIRST_MAX: usize = 64;

/// Where a connection came from.
#[derive(Debug)]
pub struct Origin {
    /// The listener that accepted it: its name, and how long it lets callers be silent.
    pub speaks: Arc<Speaks>,
    /// Released when the connection ends.
    pub place: Place,
}

impl Origin {
    /// The listener's id now; `None` when a reload took the listener away meanwhile.
    pub fn listener(&self, shared: &Shared) -> Option<ListenerId> {
        shared.snapshot.borrow().listener_named(&self.speaks.listener)
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, non-blocking.
    pub stream: StdStream,
    /// By which listener, and what it may speak.
    pub speaks: Arc<Speaks>,
    /// Released when the connection ends.
    pub place: Place,
}

/// Finds out what a connection speaks and has it served.
pub fn serve(shared: &Rc<Shared>, protocols: &Rc<Vec<Rc<dyn Protocol>>>, accepted: Accepted) {
    let stream = match TcpStream::from_std(accepted.stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "an accepted connection cannot be used"),
    };
    let _ = stream.set_nodelay(true); // costs latency when it fails, nothing else
    let origin = Origin { speaks: Arc::clone(&accepted.speaks), place: accepted.place };
    let (shared, protocols, speaks) = (Rc::clone(shared), Rc::clone(protocols), accepted.speaks);
    match speaks.protocols.as_slice() {
        [] => relay::serve(&shared, stream, Vec::new(), origin),
        [only] if !speaks.tcp => {
            if let Some((protocol, foreign)) = server(&protocols, &speaks, only) {
                shared.sniffed.borrow_mut().count(only);
                Rc::clone(protocol).serve(stream, Vec::new(), origin, foreign);
            }
        }
        _ => {
            tokio::task::spawn_local(async move {
                detect(&shared, &protocols, &speaks, stream, origin).await;
            });
        }
    }
}

/// Who serves connections of a protocol, and whether it is not the protocol's own engine: where calls may go to endpoints
/// that speak another, it is the one that translates.
fn server<'a>(
    protocols: &'a [Rc<dyn Protocol>],
    speaks: &Speaks,
    name: &str,
) -> Option<(&'a Rc<dyn Protocol>, bool)> {
    let translates = |protocol: &&Rc<dyn Protocol>| protocol.translates() == Some(name);
    let translator = protocols.iter().find(translates).filter(|_| speaks.manners.translates);
    let own = || protocols.iter().find(|protocol| protocol.name() == name);
    translator.map(|protocol| (protocol, true)).or_else(|| own().map(|protocol| (protocol, false)))
}

/// Reads first bytes until somebody says they are his, everybody says they are not, or the time is up.
async fn detect(
    shared: &Rc<Shared>,
    protocols: &[Rc<dyn Protocol>],
    speaks: &Speaks,
    mut stream: TcpStream,
    mut origin: Origin,
) {
    let mut first = Vec::with_capacity(FIRST_MAX);
    let outcome = tokio::select! {
        outcome = tell(protocols, speaks, &mut stream, &mut first) => outcome,
        () = shared.leave.notified() => CLOSED,
    };
    if let Some((protocol, foreign)) = server(protocols, speaks, outcome) {
        shared.sniffed.borrow_mut().count(outcome);
        origin.place.keep_one();
        Rc::clone(protocol).serve(stream, first, origin, foreign);
    } else if speaks.tcp && outcome != CLOSED {
        relay::serve(shared, stream, first, origin);
    } else {
        shared.sniffed.borrow_mut().count(outcome);
        tracing::debug!(outcome, bytes = first.len(), "closing a connection of no known protocol");
    }
}

/// Reads first bytes into `first` until it can be told what they are; a protocol's name, or how it ended otherwise.
async fn tell(
    protocols: &[Rc<dyn Protocol>],
    speaks: &Speaks,
    stream: &mut TcpStream,
    first: &mut Vec<u8>,
) -> &'static str {
    // A caller may connect long before its first call. Where the bytes may be nobody's, its server may have to speak
    // first, and cannot be waited for that long.
    let silence = speaks.manners.keepalive_timeout.unwrap_or(SILENCE_MAX).max(speaks.detect_timeout);
    let silence = if speaks.tcp { speaks.detect_timeout } else { silence };
    match tokio::time::timeout(silence, stream.readable()).await {
        Err(_) => return TIMEOUT,
        Ok(Err(_)) => return CLOSED,
        Ok(Ok(())) => {}
    }
    let telling = async {
        loop {
            match stream.read_buf(first).await {
                Ok(0) | Err(_) => return CLOSED,
                Ok(_) => {}
            }
            match verdict(protocols, speaks, first) {
                Some(outcome) => return outcome,
                None if first.len() >= FIRST_MAX => return UNKNOWN,
                None => {}
            }
        }
    };
    tokio::time::timeout(speaks.detect_timeout, telling).await.unwrap_or(TIMEOUT)
}

/// The protocol these bytes are, or `UNKNOWN` when they are nobody's; `None`: more are needed.
fn verdict(protocols: &[Rc<dyn Protocol>], speaks: &Speaks, first: &[u8]) -> Option<&'static str> {
    let mut more = false;
    for protocol in protocols.iter().filter(|protocol| speaks.protocols.contains(&protocol.name())) {
        match protocol.sniff(first) {
            Sniff::Yes => return Some(protocol.name()),
            Sniff::More => more = true,
            Sniff::No => {}
        }
    }
    (!more).then_some(UNKNOWN)
}
