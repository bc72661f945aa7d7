//! A seat that one process has at a time: a key on a lease of its holder's own.
//!
//! Whoever makes the key while it is not there has the seat; its number is the revision at which the key was made, which
//! grows with every holder. The holder says of itself no more than the server is bound to: it has the seat until the moment
//! *before* it sent its last answered beat, and then its patience, so the lease lasts at least as long. Everybody else sees the
//! key go. It must never hold on a lease that it has not heard of in time, and never share the lease of what is registered.

use std::{sync::Arc, time::Instant};

use outrigger_discovery::{Backoff, Candidate};
use tokio::{sync::watch, time};

use crate::{
    client::Error,
    keys,
    lease::{Pulse, grant},
    mirror::{Entry, Mirror, Range},
    read,
    session::{Hub, Link, Up},
    wire::{Compare, Op, PutRequest, RequestOp, TxnRequest},
};

/// Stands for the seat until it is wanted no more, or the registry is closed; gives it up then.
pub(crate) async fn stand(hub: Arc<Hub>, candidate: Candidate) {
    let Some(key) = keys::seat(&candidate.seat) else {
        candidate.trouble(&format!("{:?} is no name in etcd", candidate.seat));
        return candidate.given_up().await;
    };
    let mirror = hub.shared.sight.open(&Range::key(&key));
    let mut stand = Stand { key, news: mirror.news(), mirror, candidate: &candidate, lease: None };
    tokio::select! {
        () = candidate.given_up() => {}
        () = stand.go_on(&hub) => {}
    }
    stand.give_up().await;
    candidate.given_up().await;
}

/// A candidate at work.
struct Stand<'a> {
    key: String,
    mirror: Arc<Mirror>,
    news: watch::Receiver<()>,
    candidate: &'a Candidate,
    /// The lease that the seat is on, or will be; it outlives a connection.
    lease: Option<Own>,
}

/// A lease of the candidate's own.
struct Own {
    id: i64,
    /// The connection that was there last.
    up: Up,
}

impl Stand<'_> {
    /// Stands over one connection after the other; ends when the registry is closed.
    async fn go_on(&mut self, hub: &Hub) {
        let (mut link, mut backoff) = (hub.link(), Backoff::default());
        loop {
            let now = link.borrow_and_update().clone();
            match now {
                Link::Closed => return self.candidate.trouble("the registry was closed"),
                Link::New => {}
                Link::Down(reason) => self.candidate.trouble(&reason),
                Link::Up(up) => {
                    let error = tokio::select! {
                        _ = link.changed() => continue,
                        error = self.run(&up) => error,
                    };
                    self.candidate.trouble(&error.to_string());
                    let _ = time::timeout(backoff.failed(), link.changed()).await;
                    continue;
                }
            }
            if link.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stands over one connection, until something is wrong with it.
    async fn run(&mut self, up: &Up) -> Error {
        if let Some(own) = &mut self.lease {
            own.up = up.clone();
        }
        loop {
            if let Err(error) = self.turn(up).await {
                return error;
            }
        }
    }

    /// Looks who has the seat, and takes it if nobody has.
    async fn turn(&mut self, up: &Up) -> Result<(), Error> {
        self.news.borrow_and_update();
        match read::key(&up.client, &self.key).await? {
            Some(have) if self.is_own(&have) => self.hold(up, have.created).await,
            Some(have) => {
                self.candidate.follow(number(have.created), std::str::from_utf8(&have.value).ok());
                self.until_other(up, have.created).await
            }
            None => self.take(up).await,
        }
    }

    fn is_own(&self, have: &Entry) -> bool {
        self.lease.as_ref().is_some_and(|own| own.id == have.lease)
    }

    /// Waits until another has the seat, or nobody.
    async fn until_other(&mut self, up: &Up, created: i64) -> Result<(), Error> {
        loop {
            let (is_known, trouble, now) = self.mirror.look(|state| {
                let now = state.entries.values().next().map(|entry| entry.created);
                (state.epoch == up.epoch, state.trouble.clone(), now)
            });
            if let Some(trouble) = trouble {
                return Err(Error::Refused(trouble.to_string()));
            }
            if is_known && now != Some(created) {
                return Ok(());
            }
            if self.news.changed().await.is_err() {
                return Err(Error::Link("the seat is watched no more".to_owned()));
            }
        }
    }

    /// Takes the seat, if nobody is faster.
    async fn take(&mut self, up: &Up) -> Result<(), Error> {
        let id = match &self.lease {
            Some(own) => own.id,
            None => {
                let (id, _) = grant(&up.client, self.candidate.patience).await?;
                self.lease = Some(Own { id, up: up.clone() });
                id
            }
        };
        let (key, value) = (self.key.clone().into_bytes(), self.candidate.name.as_bytes().to_vec());
        let put = RequestOp { request: Some(Op::Put(PutRequest { key, value, lease: id })) };
        let txn = TxnRequest { compare: vec![Compare::vacant(&self.key)], success: vec![put] };
        match up.client.txn(txn).await {
            // Whoever has it now is told by the next look.
            Ok(_) => Ok(()),
            Err(Error::NoLease) => {
                self.lease = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Has the seat for as long as the lease is heard of and nobody took the key away.
    async fn hold(&mut self, up: &Up, created: i64) -> Result<(), Error> {
        let (patience, Some(id)) = (self.candidate.patience, self.lease.as_ref().map(|own| own.id)) else {
            return Ok(());
        };
        let mut pulse = Pulse::new(&up.client, id);
        loop {
            let sent = Instant::now();
            let every = match pulse.beat().await {
                Ok(ttl) => {
                    self.candidate.hold(number(created), sent + patience.min(ttl));
                    patience / 4
                }
                Err(Error::NoLease) => {
                    self.lease = None;
                    return Ok(());
                }
                Err(error) if error.is_of_link() => {
                    self.candidate.trouble(&error.to_string());
                    patience / 8
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                () = time::sleep(every) => {}
                other = self.until_other(up, created) => return other,
            }
        }
    }

    /// Gives the seat up, or the wish for it, at once.
    async fn give_up(&mut self) {
        if let Some(Own { id, up }) = self.lease.take() {
            // If it cannot be told, the lease ends by itself.
            let _ = up.client.revoke(id).await;
        }
    }
}

/// The number of a term: a revision is never negative.
fn number(created: i64) -> u64 {
    u64::try_from(created).unwrap_or(0)
}
