//! The one connection that all watches and registrations share: made, kept, and made anew.
//!
//! One task connects to one server after the other, drives the stream of watches ([`crate::stream`]) and the lease
//! ([`crate::lease`]), and asks now and then whether the server is well. Everybody else sees a [`Link`]: down, or up with an
//! epoch that grows with each connection, because what changed in between was told to nobody. It must never hold up whoever
//! uses it: every call has a time limit.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outrigger_discovery::{Backoff, StatusCell};
use tokio::{sync::watch, task::JoinHandle, time};

use crate::{
    Settings,
    apps::Apps,
    client::{Client, Error},
    keys::Keys,
    lease::Lease,
    mirror::Sight,
    read,
    stream::Stream,
};

/// How often a connection that looks well is asked whether the server behind it is.
const PROBE: Duration = Duration::from_secs(10);
/// How often the slow clock may tick at most.
const RECONCILE_MIN: Duration = Duration::from_secs(1);
/// What the probe asks for: nothing that anybody has.
pub(crate) const NOTHING: &str = "/outrigger";

/// How the connection does, for whoever needs it.
pub(crate) type Link = outrigger_discovery::Link<Up>;

/// A connection that is there.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) client: Client,
    /// Another epoch: changes may have been missed.
    pub(crate) epoch: u64,
}

/// What all watches and registrations share.
pub(crate) struct Hub {
    pub(crate) shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the tasks share that must not keep the hub itself alive.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// `Err`: the settings cannot be used, for this reason.
    pub(crate) keys: Result<Keys, &'static str>,
    pub(crate) status: StatusCell,
    pub(crate) sight: Arc<Sight>,
    pub(crate) lease: Lease,
    pub(crate) apps: Apps,
    /// Keys of registrations that ended without taking them away: the next pass of any other does, or the end of the
    /// lease, which comes when there is no other.
    pub(crate) orphans: Mutex<BTreeSet<String>>,
    link: watch::Sender<Link>,
}

impl Hub {
    pub(crate) fn new(mut settings: Settings) -> Self {
        settings.reconcile = settings.reconcile.max(RECONCILE_MIN);
        let shared = Shared {
            keys: Keys::new(&settings.group).ok_or("the group cannot be a part of a key"),
            settings,
            status: StatusCell::default(),
            sight: Arc::default(),
            lease: Lease::default(),
            apps: Apps::default(),
            orphans: Mutex::default(),
            link: watch::Sender::new(Link::New),
        };
        Self { shared: Arc::new(shared), task: Mutex::new(None) }
    }

    /// The link; the first who asks for it has the connection made.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        let mut task = lock(&self.task);
        if task.is_none() && !matches!(*self.shared.link.borrow(), Link::Closed) {
            *task = Some(tokio::spawn(supervise(Arc::clone(&self.shared))));
        }
        self.shared.link.subscribe()
    }

    /// Ends the connection on purpose: what was registered over it goes at once. Waits until the server knows, but not for long.
    pub(crate) async fn close(&self) {
        let before = self.shared.link.send_replace(Link::Closed);
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
        self.shared.status.lost("closed");
        if let Link::Up(up) = before {
            // Without a connection it cannot be told; what is registered lapses by itself then.
            self.shared.lease.end(&up).await;
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl Shared {
    /// The link, for a task that must not start it.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn up(&self, up: Up) {
        self.status.connected();
        self.set(Link::Up(up));
    }

    fn down(&self, reason: &str) {
        self.status.lost(reason);
        self.set(Link::Down(reason.into()));
    }

    /// Nothing comes after the end, whoever is late to say something.
    fn set(&self, link: Link) {
        self.link.send_if_modified(|now| {
            let open = !matches!(now, Link::Closed);
            if open {
                *now = link;
            }
            open
        });
    }
}

/// Connects and keeps the connection, until it is aborted.
async fn supervise(shared: Arc<Shared>) {
    let (mut backoff, mut epoch) = (Backoff::default(), 0u64);
    // A fleet shall not begin with the same server.
    let first = RandomState::new().hash_one(()) as usize % shared.settings.servers.len().max(1);
    let servers: Vec<String> = shared.settings.servers.clone();
    for server in servers.iter().cycle().skip(first) {
        match connect(&shared.settings, server).await {
            Ok(client) => {
                backoff.works();
                epoch = epoch.saturating_add(1);
                let reason = attend(&shared, client, epoch).await;
                shared.down(&format!("{server}: {reason}"));
            }
            Err(reason) => shared.down(&format!("{server}: {reason}")),
        }
        time::sleep(backoff.failed()).await;
    }
    shared.down("there is no server to ask");
}

/// A connection to a server that has answered.
async fn connect(settings: &Settings, server: &str) -> Result<Client, Error> {
    let client = Client::connect(settings, server).await?;
    read::is_well(&client, NOTHING).await?;
    Ok(client)
}

/// Looks after a connection until it is lost; says why it is.
async fn attend(shared: &Arc<Shared>, client: Client, epoch: u64) -> Error {
    let up = Up { client, epoch };
    let stream = match Stream::open(Arc::clone(shared), up.clone()).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    shared.up(up.clone());
    tokio::select! {
        error = watching(shared, &up, stream) => error,
        error = shared.lease.keep(&up, &shared.settings) => error,
        error = probe(shared, &up) => error,
    }
}

/// Keeps the stream of changes. One whose token is too old for another watch is opened anew; nothing is missed by that.
async fn watching(shared: &Arc<Shared>, up: &Up, mut stream: Stream) -> Error {
    loop {
        let token = up.client.token();
        match stream.drive().await {
            Error::Token(_) if token.is_some() => {
                if let Err(error) = up.client.renew(token).await {
                    return error;
                }
            }
            error => return error,
        }
        stream = match Stream::open(Arc::clone(shared), up.clone()).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
    }
}

/// Asks now and then whether the server is well; ends when it is not.
async fn probe(shared: &Shared, up: &Up) -> Error {
    let mut silent = false;
    loop {
        time::sleep(PROBE).await;
        match read::is_well(&up.client, NOTHING).await {
            Ok(()) => {
                shared.status.heard();
                silent = false;
            }
            Err(error) if silent || matches!(error, Error::Token(_)) => return error,
            Err(_) => silent = true,
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each change is whole; a panic elsewhere leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
