//! The lease that everything of ours lives on, and the beats that keep a lease alive.
//!
//! There is one lease for all registrations, made when the first of them needs it. It outlives a connection: the first thing
//! over a new one is a beat for it, and only one that has ended is replaced. A beat that was not answered says nothing. When
//! nobody needs it any more it is ended, with whatever could not be taken away: else that would be kept for ever. It must never be said to be there before the server said so in this connection ([`Lease::held`]).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time,
};
use tonic::Streaming;

use crate::{
    Settings,
    client::{CALL, Client, Error, Outbox},
    session::{Shared, Up, lock},
    wire::{LeaseKeepAliveResponse, LeaseRequest},
};

/// How many leases of ours are remembered, to know what an earlier one left behind.
const LEASES_MAX: usize = 256;
/// After how long a beat is tried again that had no answer.
const AGAIN: Duration = Duration::from_secs(1);
/// As good as never.
const AGAIN_MAX: Duration = Duration::from_secs(86_400);

/// The lease of all registrations.
#[derive(Debug)]
pub(crate) struct Lease {
    /// How many need it.
    wanted: watch::Sender<usize>,
    held: watch::Sender<Held>,
    /// Rung by who was told that it has ended.
    doubt: Notify,
    /// Those that are or were ours.
    ours: Mutex<VecDeque<i64>>,
    /// The one that may still be there.
    last: Mutex<Option<i64>>,
}

/// Somebody's need of the lease, as long as he has this.
pub(crate) struct Need(Arc<Shared>);

impl Need {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.lease.wanted.send_modify(|count| *count = count.saturating_add(1));
        Self(Arc::clone(shared))
    }
}

impl Drop for Need {
    fn drop(&mut self) {
        self.0.lease.wanted.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// What is known of the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The epoch of the connection in which the server said last that it is there, and the lease; `None`: it is not.
    pub(crate) now: Option<(u64, i64)>,
    /// Why it is not, if that is known.
    pub(crate) trouble: Option<Arc<str>>,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            wanted: watch::Sender::new(0),
            held: watch::Sender::new(Held::default()),
            doubt: Notify::new(),
            ours: Mutex::default(),
            last: Mutex::default(),
        }
    }
}

impl Lease {
    /// The lease, as it is kept.
    pub(crate) fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Somebody was told that it has ended.
    pub(crate) fn doubted(&self) {
        self.doubt.notify_one();
    }

    /// Whether a lease is or was ours.
    pub(crate) fn is_ours(&self, lease: i64) -> bool {
        lock(&self.ours).contains(&lease)
    }

    /// Keeps it over a connection; ends when the connection is not well.
    pub(crate) async fn keep(&self, up: &Up, settings: &Settings) -> Error {
        let mut wanted = self.wanted.subscribe();
        loop {
            if *wanted.borrow_and_update() > 0 {
                match self.keep_while(&mut wanted, up, settings).await {
                    Ok(()) => continue,
                    Err(error) => return error,
                }
            }
            let again = match self.let_go(up).await {
                Ok(()) => Duration::MAX,
                Err(error) if matches!(error, Error::Token(_)) => return error,
                Err(_) => AGAIN,
            };
            // Who else could need it holds what has it told here.
            let _ = time::timeout(again.min(AGAIN_MAX), wanted.changed()).await;
        }
    }

    /// Keeps it while somebody needs it.
    async fn keep_while(
        &self,
        wanted: &mut watch::Receiver<usize>,
        up: &Up,
        settings: &Settings,
    ) -> Result<(), Error> {
        let before = *lock(&self.last);
        let mut pulse = before.map(|lease| Pulse::new(&up.client, lease));
        loop {
            let every = match self.beat(up, settings, &mut pulse).await {
                Ok(every) => every,
                Err(error) if matches!(error, Error::Token(_)) => return Err(error),
                Err(error) => {
                    let trouble = Some(Arc::from(error.to_string()));
                    self.tell(|held| held.trouble = trouble);
                    AGAIN
                }
            };
            tokio::select! {
                () = time::sleep(every) => {}
                () = self.doubt.notified() => {}
                _ = wanted.wait_for(|count| *count == 0) => return Ok(()),
            }
        }
    }

    /// Ends what nobody needs, and thereby whatever was left behind on it.
    async fn let_go(&self, up: &Up) -> Result<(), Error> {
        let last = *lock(&self.last);
        let Some(lease) = last else { return Ok(()) };
        // Whoever comes now waits for the next one.
        self.tell(|held| *held = Held::default());
        up.client.revoke(lease).await?;
        *lock(&self.last) = None;
        Ok(())
    }

    /// One beat, for a new lease if there is none any more; when the next is due.
    async fn beat(&self, up: &Up, settings: &Settings, pulse: &mut Option<Pulse>) -> Result<Duration, Error> {
        if let Some(one) = pulse {
            match one.beat().await {
                Ok(ttl) => {
                    self.hold(up.epoch, one.lease);
                    return Ok(ttl / 3);
                }
                Err(Error::NoLease) => {
                    *pulse = None;
                    *lock(&self.last) = None;
                    self.tell(|held| held.now = None);
                }
                Err(error) => return Err(error),
            }
        }
        let (lease, ttl) = grant(&up.client, settings.lease).await?;
        let mut ours = lock(&self.ours);
        ours.push_back(lease);
        if ours.len() > LEASES_MAX {
            ours.pop_front();
        }
        drop(ours);
        *lock(&self.last) = Some(lease);
        *pulse = Some(Pulse::new(&up.client, lease));
        self.hold(up.epoch, lease);
        Ok(ttl / 3)
    }

    fn hold(&self, epoch: u64, lease: i64) {
        self.tell(|held| *held = Held { now: Some((epoch, lease)), trouble: None });
    }

    fn tell(&self, change: impl FnOnce(&mut Held)) {
        self.held.send_if_modified(|held| {
            let before = held.clone();
            change(held);
            *held != before
        });
    }

    /// Ends it: what lives on it goes at once.
    pub(crate) async fn end(&self, up: &Up) {
        self.tell(|held| held.now = None);
        let lease = lock(&self.last).take();
        if let Some(lease) = lease {
            // If it cannot be told, the server finds out by itself.
            let _ = up.client.revoke(lease).await;
        }
    }
}

/// A new lease, and how long it lasts without a beat.
pub(crate) async fn grant(client: &Client, ttl: Duration) -> Result<(i64, Duration), Error> {
    let seconds = i64::try_from(ttl.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
    let granted = client.grant(seconds).await?;
    Ok((granted.id, lasting(granted.ttl)))
}

fn lasting(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
}

/// What keeps one lease alive.
pub(crate) struct Pulse {
    pub(crate) lease: i64,
    client: Client,
    /// The stream of beats and of their answers; `None`: the next beat opens it.
    stream: Option<(Outbox<LeaseRequest>, Streaming<LeaseKeepAliveResponse>)>,
}

impl Pulse {
    pub(crate) fn new(client: &Client, lease: i64) -> Self {
        Self { lease, client: client.clone(), stream: None }
    }

    /// Has the lease last from now on anew: how long. [`Error::NoLease`]: it has ended.
    pub(crate) async fn beat(&mut self) -> Result<Duration, Error> {
        // A stream of which an answer is missing would give it to the next question: it is put back only when all is well.
        let stream = self.stream.take();
        let (beats, mut answers) = match stream {
            Some((beats, answers)) => {
                beats.add(LeaseRequest { id: self.lease });
                (beats, answers)
            }
            None => {
                let beats = Outbox::default();
                beats.add(LeaseRequest { id: self.lease });
                let answers = self.client.beats(&beats).await?;
                (beats, answers)
            }
        };
        match time::timeout(CALL, answers.message()).await {
            Ok(Ok(Some(answer))) if answer.id != self.lease || answer.ttl <= 0 => Err(Error::NoLease),
            Ok(Ok(Some(answer))) => {
                self.stream = Some((beats, answers));
                Ok(lasting(answer.ttl))
            }
            Ok(Ok(None)) => Err(Error::Link("it has ended the stream of beats".to_owned())),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(Error::Silent),
        }
    }
}
