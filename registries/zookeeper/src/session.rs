//! The one session that all watches and registrations share: made, kept, and made anew.
//!
//! One task builds the client, watches its state and replaces it when it is finished. Everybody else sees a [`Link`]: down,
//! or up with an epoch that grows with each session and with each reconnection, because what changed in between was told to
//! nobody. It must never hold up whoever uses it: every call has a time limit ([`limited`]).
//!
//! What was read in zookeeper-client 0.11.2 and is lived with here: a session that its own clock ended is finished for good;
//! calls made while there is no connection wait for one without a limit; persistent watches are *not* set anew after a
//! reconnection (the index of their kind is lost in `resend_watches`), so each epoch begins with new ones; too many watches keep
//! it from reconnecting at all (see [`crate::eye`]); and a client whose task died answers every call with an error that names no state, which only a question of ours ([`PROBE`]) brings to light.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use outrigger_discovery::{Backoff, StatusCell};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time,
};
use zookeeper_client::{Client, Error, SessionState, StateWatcher};

use crate::{Settings, apps::Apps, eye::Sight, paths::Paths};

/// How long any one question to the server may take.
pub(crate) const CALL: Duration = Duration::from_secs(5);
/// How often a session that looks well is asked whether it is.
const PROBE: Duration = Duration::from_secs(10);
/// How often the slow clock may tick at most.
const RECONCILE_MIN: Duration = Duration::from_secs(1);
/// How many directories are listed at the same time: enough to be quick after a gap, too few to be a stampede.
const LISTS_AT_ONCE: usize = 64;
/// How many sessions of ours are remembered, to know what an earlier one left behind.
const SESSIONS_MAX: usize = 256;

/// The answer to a question, within its time limit: [`Error::Timeout`] otherwise, and then nobody knows whether it happened.
pub(crate) async fn limited<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    time::timeout(CALL, call).await.unwrap_or(Err(Error::Timeout))
}

/// What an error means, for a person.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Timeout => format!("the server did not answer within {} s", CALL.as_secs()),
        error => format!("the server cannot be asked: {error}"),
    }
}

/// How the session does, for whoever needs it.
pub(crate) type Link = outrigger_discovery::Link<Up>;

/// A connection that is there.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    pub(crate) client: Client,
    /// Another epoch: changes may have been missed, and no watch of before is to be trusted.
    pub(crate) epoch: u64,
    /// The watches of this epoch.
    pub(crate) sight: Arc<Sight>,
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
    pub(crate) paths: Result<Paths, &'static str>,
    pub(crate) status: StatusCell,
    /// Permits to list a directory.
    pub(crate) pace: Semaphore,
    pub(crate) apps: Apps,
    /// Nodes of registrations that ended without taking them away: the next pass of any other does.
    pub(crate) orphans: Mutex<BTreeSet<Arc<str>>>,
    /// How many of our registrations want a node.
    wanted: Mutex<HashMap<Arc<str>, usize>>,
    link: watch::Sender<Link>,
    /// Where the state of the present client can be seen after it was given up.
    state: Mutex<Option<StateWatcher>>,
    sessions: Mutex<VecDeque<i64>>,
}

impl Hub {
    pub(crate) fn new(mut settings: Settings) -> Self {
        settings.reconcile = settings.reconcile.max(RECONCILE_MIN);
        let paths = Paths::new(settings.chroot.as_deref(), &settings.group)
            .ok_or("the chroot or the group is no path of ZooKeeper");
        let shared = Shared {
            settings,
            paths,
            status: StatusCell::default(),
            pace: Semaphore::new(LISTS_AT_ONCE),
            apps: Apps::default(),
            orphans: Mutex::default(),
            wanted: Mutex::default(),
            link: watch::Sender::new(Link::New),
            state: Mutex::new(None),
            sessions: Mutex::new(VecDeque::new()),
        };
        Self { shared: Arc::new(shared), task: Mutex::new(None) }
    }

    /// The link; the first who asks for it has the session made.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        let mut task = lock(&self.task);
        if task.is_none() && !matches!(*self.shared.link.borrow(), Link::Closed) {
            *task = Some(tokio::spawn(supervise(Arc::clone(&self.shared))));
        }
        self.shared.link.subscribe()
    }

    /// Ends the session on purpose: its ephemeral nodes go at once. Waits until the server knows, but not for long.
    pub(crate) async fn close(&self) {
        self.shared.link.send_replace(Link::Closed);
        let state = lock(&self.shared.state).take();
        if let Some(task) = lock(&self.task).take() {
            // It drops the last client of ours; those of watches and registrations go as soon as they see the link.
            task.abort();
        }
        self.shared.status.lost("closed");
        let Some(mut state) = state else { return };
        let ended = async {
            let mut now = state.state();
            while !now.is_terminated() {
                now = state.changed().await;
            }
        };
        // Without a connection it cannot be told; the server will find out by itself.
        let _ = time::timeout(CALL, ended).await;
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

    /// Whether a session was ours, now or earlier.
    pub(crate) fn is_ours(&self, session: i64) -> bool {
        lock(&self.sessions).contains(&session)
    }

    /// Whether any registration of ours wants the node.
    pub(crate) fn is_wanted(&self, path: &str) -> bool {
        lock(&self.wanted).contains_key(path)
    }

    /// A registration wants these nodes in the place of those.
    pub(crate) fn want(&self, these: &BTreeSet<Arc<str>>, those: &BTreeSet<Arc<str>>) {
        let mut wanted = lock(&self.wanted);
        for path in these.difference(those) {
            let count = wanted.entry(Arc::clone(path)).or_default();
            *count = count.saturating_add(1);
        }
        for path in those.difference(these) {
            if let Some(count) = wanted.get_mut(path) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    wanted.remove(path);
                }
            }
        }
    }

    fn up(&self, client: &Client, epoch: &mut u64, is_old: &Arc<AtomicBool>) {
        *epoch = epoch.saturating_add(1);
        let mut sessions = lock(&self.sessions);
        let session = client.session_id().0;
        if !sessions.contains(&session) {
            sessions.push_back(session);
            if sessions.len() > SESSIONS_MAX {
                sessions.pop_front();
            }
        }
        drop(sessions);
        self.status.connected();
        let roots = self.paths.as_ref().map_or_else(|_| Vec::new(), Paths::roots);
        let sight = Arc::new(Sight::new(roots, Arc::clone(is_old)));
        self.set(Link::Up(Up { client: client.clone(), epoch: *epoch, sight }));
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

/// Makes the session and keeps it, until it is aborted.
async fn supervise(shared: Arc<Shared>) {
    let (mut backoff, mut epoch) = (Backoff::default(), 0);
    loop {
        let mut connecting = pin!(connect(&shared.settings, shared.settings.session_timeout));
        let connected = match time::timeout(CALL, &mut connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                shared.down("no server has answered yet");
                connecting.await
            }
        };
        match connected {
            Ok(client) => {
                backoff.works();
                let reason = attend(&shared, client, &mut epoch).await;
                shared.down(reason);
            }
            Err(reason) => shared.down(&reason),
        }
        time::sleep(backoff.failed()).await;
    }
}

/// A session that the server keeps for `timeout` without hearing from us, within its own bounds.
pub(crate) async fn connect(settings: &Settings, timeout: Duration) -> Result<Client, String> {
    let mut connector = Client::connector().with_session_timeout(timeout).with_fail_eagerly();
    if let Some((user, password)) = &settings.auth {
        connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
    }
    let servers = settings.servers.join(",");
    // Within this the client tries more than one server.
    let limit = CALL.max(timeout);
    match time::timeout(limit, connector.connect(&servers)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(Error::NoHosts)) => Err(format!("no server of {servers} can be reached")),
        Ok(Err(error)) => Err(format!("no session with {servers}: {error}")),
        Err(_) => Err(format!("no server of {servers} answers")),
    }
}

/// Looks after a client until it is finished; says why it is.
async fn attend(shared: &Shared, client: Client, epoch: &mut u64) -> &'static str {
    let is_old = Arc::default();
    let mut states = client.state_watcher();
    *lock(&shared.state) = Some(client.state_watcher());
    // What became of it before it was watched is not told again.
    let mut state = client.state();
    let (mut probes, mut silent) = (time::interval(PROBE), 0u32);
    probes.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        match state {
            SessionState::SyncConnected | SessionState::ConnectedReadOnly => {
                shared.up(&client, epoch, &is_old);
            }
            SessionState::Disconnected => shared.down("the connection to the server is lost"),
            SessionState::Expired => return "the session has expired",
            SessionState::AuthFailed => return "the server refuses the name and password",
            SessionState::Closed => return "the session was closed",
        }
        state = loop {
            tokio::select! {
                state = states.changed() => break state,
                _ = probes.tick() => {}
            }
            if state == SessionState::Disconnected {
                continue;
            }
            silent = tokio::select! {
                state = states.changed() => break state,
                well = is_well(&client) => if well { shared.status.heard(); 0 } else { silent + 1 },
            };
            if silent > 1 {
                return "the session does not answer";
            }
        };
    }
}

/// Whether a question gets an answer, of whatever kind.
async fn is_well(client: &Client) -> bool {
    match limited(client.check_stat("/")).await {
        Ok(_) | Err(Error::NoAuth | Error::NoNode) => true,
        Err(_) => false,
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each change is whole; a panic elsewhere leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
