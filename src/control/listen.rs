//! The listening sockets: bound here, accepted here, served by the least loaded worker.
//!
//! RPC clients hold few, long, hot connections; leaving their spread to the kernel's hash would load one worker and
//! idle another. At the bound of connections, or when file descriptors run out, accepting pauses: the rest wait in the
//! kernel's queue and are not refused.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    conf::lower::{ListenerPlan, Plan},
    worker::{Command, Handle, Place, Speaks},
};

/// Connections the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 1024;
/// Pause after an accept that failed, and between looks for room.
const PAUSE: Duration = Duration::from_millis(50);
/// A pause is told of at most so often.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// File descriptors kept for endpoints, admin and registries.
const SPARE: u64 = 64;

/// The listeners that are open.
#[derive(Debug, Default)]
pub struct Listening {
    open: BTreeMap<String, Open>,
    connections_max: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Open {
    bind: SocketAddr,
    bound: SocketAddr,
    /// Another hold on the socket, for a listener of another name that a reload puts in its place.
    socket: std::net::TcpListener,
    shape: Arc<Shape>,
    accepting: AbortHandle,
}

/// What a reload may change under a socket that stays open.
#[derive(Debug)]
struct Shape(arc_swap::ArcSwap<Speaks>);

/// Sockets bound and not yet served.
#[derive(Debug, Default)]
pub struct Bound(
    Vec<(String, SocketAddr, std::net::TcpListener, Arc<Speaks>)>,
    Vec<(String, Arc<Speaks>)>,
    Vec<String>,
);

impl Listening {
    /// Binds what a plan has and is not open yet. When one address cannot be bound, none is kept.
    pub fn bind(&self, plan: &Plan) -> Result<Bound, String> {
        let mut bound = Bound::default();
        for listener in &plan.listeners {
            match self.open.get(&listener.name) {
                Some(open) if open.bind == listener.bind => {
                    bound.1.push((listener.name.clone(), Arc::clone(&listener.speaks)));
                }
                _ => {
                    let socket = self.socket(listener)?;
                    let entry = (listener.name.clone(), listener.bind, socket, Arc::clone(&listener.speaks));
                    bound.0.push(entry);
                }
            }
        }
        bound.2 = self
            .open
            .keys()
            .filter(|name| plan.listeners.iter().all(|l| l.name != **name))
            .cloned()
            .collect();
        Ok(bound)
    }

    /// The socket of an open listener that is bound there, or a new one.
    fn socket(&self, listener: &ListenerPlan) -> Result<std::net::TcpListener, String> {
        let open = self.open.values().find(|open| open.bind == listener.bind && listener.bind.port() != 0);
        match open.map(|open| open.socket.try_clone()) {
            Some(Ok(socket)) => Ok(socket),
            _ => socket(listener),
        }
    }

    /// Serves what was bound; closes what the plan has no more.
    pub fn serve(&mut self, bound: Bound, workers: &Arc<Vec<Handle>>) {
        for name in bound.2 {
            if let Some(open) = self.open.remove(&name) {
                open.accepting.abort();
            }
        }
        for (name, speaks) in bound.1 {
            if let Some(open) = self.open.get(&name) {
                open.shape.0.store(speaks);
            }
        }
        for (name, bind, socket, speaks) in bound.0 {
            let served = socket
                .try_clone()
                .and_then(|socket| Ok((socket.local_addr()?, TcpListener::from_std(socket)?)));
            let (address, listener) = match served {
                Ok(served) => served,
                Err(error) => {
                    tracing::error!(%error, name, "a listener cannot be served");
                    continue;
                }
            };
            let shape = Arc::new(Shape(arc_swap::ArcSwap::new(speaks)));
            let accept =
                accept(listener, Arc::clone(&shape), Arc::clone(workers), Arc::clone(&self.connections_max));
            let accepting = tokio::spawn(accept).abort_handle();
            if let Some(old) = self.open.insert(name, Open { bind, bound: address, socket, shape, accepting })
            {
                old.accepting.abort();
            }
        }
    }

    /// Sets how many connections there may be at once: what the plan says, but never so many that none of the
    /// process's file descriptors is left for endpoints and admin.
    pub fn connections_max(&self, plan: &Plan) {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let room = usize::try_from(files.saturating_sub(SPARE.max(files / 8))).unwrap_or(usize::MAX).max(1);
        if room < plan.connections_max {
            tracing::warn!(
                files,
                room,
                "the limit of open files allows fewer connections than connections_max"
            );
        }
        self.connections_max.store(plan.connections_max.min(room), Ordering::Relaxed);
    }

    /// Closes all listeners.
    pub fn close(&mut self) {
        for open in std::mem::take(&mut self.open).into_values() {
            open.accepting.abort();
        }
    }

    /// Where each listener is, for a person.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.open.iter().map(|(name, open)| {
            let names = open.shape.0.load().names();
            format!("outrigger: listener {name} on {} ({})", open.bound, names.join(", "))
        })
    }
}

fn socket(listener: &ListenerPlan) -> Result<std::net::TcpListener, String> {
    let bind = || -> io::Result<std::net::TcpListener> {
        let domain = socket2::Domain::for_address(listener.bind);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&listener.bind.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|error| {
        format!("error: listener {} cannot listen on {}: {error}", listener.name, listener.bind)
    })
}

/// Accepts connections, each for the worker that has the fewest.
async fn accept(
    listener: TcpListener,
    shape: Arc<Shape>,
    workers: Arc<Vec<Handle>>,
    connections_max: Arc<AtomicUsize>,
) {
    let mut told: Option<tokio::time::Instant> = None;
    loop {
        let load = |worker: &Handle| worker.load.places.load(Ordering::Relaxed);
        if workers.iter().map(load).sum::<usize>() >= connections_max.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let stream = match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told = Some(tokio::time::Instant::now());
                    tracing::warn!(%error, "accepting pauses");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let speaks = shape.0.load_full();
        if let Some(worker) = workers.iter().min_by_key(|worker| load(worker)) {
            let _ = worker.commands.send(Command::Connection {
                stream,
                place: Place::take(&worker.load, if speaks.tcp { 2 } else { 1 }),
                speaks,
            });
        }
    }
}
