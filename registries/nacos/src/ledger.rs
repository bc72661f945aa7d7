//! What is wanted in Nacos by all who register, and what of it this connection has written.
//!
//! To Nacos, all instances that one connection gives of a service are one entry, and every write replaces the whole of it. So
//! the wants of all who register are put together here, by service, and one write at a time brings a service in line. A write
//! that failed leaves the service unsure until another one succeeds. Nothing is ever written that nobody wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    client::{self, Client},
    message::{BatchInstanceRequest, Host, InstanceRequest, Place},
    session::{Failed, Session},
};

/// Instances by the service that they are of.
pub(crate) type Wants = BTreeMap<Place, Vec<Host>>;

/// What is wanted, and what is written.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    wants: Mutex<BTreeMap<u64, Wants>>,
    written: tokio::sync::Mutex<Written>,
}

/// What one connection has written.
#[derive(Debug, Default)]
struct Written {
    session: u64,
    places: BTreeMap<Place, Vec<Host>>,
    /// Services of which nobody knows what stands there.
    unsure: BTreeSet<Place>,
}

/// How a round of writing went.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// The services that are not in line yet, with how many instances are not as wanted.
    pub(crate) pending: BTreeMap<Place, usize>,
    /// What went wrong last.
    pub(crate) trouble: Option<String>,
}

/// The wants of one who registers; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Part {
    client: Arc<Client>,
    number: u64,
}

impl Part {
    pub(crate) fn new(client: &Arc<Client>) -> Self {
        Self { client: Arc::clone(client), number: client.number() }
    }

    /// These are wanted from now on, and nothing else by this one.
    pub(crate) fn set(&self, wants: Wants) {
        self.with(|all| all.insert(self.number, wants));
    }

    /// Whether this instance is wanted already.
    pub(crate) fn has(&self, place: &Place, host: &Host) -> bool {
        self.with(|all| {
            let hosts = all.get(&self.number).and_then(|wants| wants.get(place));
            hosts.is_some_and(|hosts| hosts.contains(host))
        })
    }

    /// Of what was wanted, only that is wanted still which is among these.
    pub(crate) fn keep_only(&self, these: &Wants) {
        self.with(|all| {
            for (place, hosts) in all.entry(self.number).or_default() {
                hosts.retain(|host| these.get(place).is_some_and(|these| these.contains(host)));
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<u64, Wants>) -> T) -> T {
        change(&mut self.client.ledger.wants.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let had = self.with(|all| all.remove(&self.number));
        if had.is_none_or(|had| had.is_empty()) {
            return;
        }
        // Whoever is dropped can wait for nothing, so somebody else takes away what was his. If that fails it is in nobody's
        // wants any more, and goes with the connection or with the next round.
        let client::State::Up(session) = self.client.state.borrow().clone() else { return };
        let client = Arc::clone(&self.client);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(client.ledger.bring_in_line(&session).await) });
        }
    }
}

impl Ledger {
    /// What all want together.
    fn wants(&self) -> Wants {
        let all = self.wants.lock().unwrap_or_else(PoisonError::into_inner);
        let mut together = Wants::new();
        for (place, hosts) in all.values().flatten() {
            let wanted = together.entry(place.clone()).or_default();
            for host in hosts {
                // Of two that want the same address the first counts; Nacos has room for one.
                if !wanted.iter().any(|other| (&other.ip, other.port) == (&host.ip, host.port)) {
                    wanted.push(host.clone());
                }
            }
        }
        together.retain(|_, hosts| !hosts.is_empty());
        together
    }

    /// Writes whatever is not as wanted.
    pub(crate) async fn bring_in_line(&self, session: &Session) -> Round {
        let mut written = self.written.lock().await;
        written.over(session);
        let wants = self.wants();
        let mut round = Round::default();
        let places: BTreeSet<Place> = wants.keys().chain(written.places.keys()).cloned().collect();
        let mut silent = false;
        for place in places {
            let wanted = wants.get(&place).map_or(&[][..], Vec::as_slice);
            let have = written.places.get(&place).map_or(&[][..], Vec::as_slice);
            if wanted == have && !written.unsure.contains(&place) {
                continue;
            }
            // A server that does not answer one question is not asked hundreds of others: each would wait as long.
            let outcome =
                if silent { Err(None) } else { write(session, &place, wanted, have).await.map_err(Some) };
            match outcome {
                Ok(()) => {
                    written.unsure.remove(&place);
                    if wanted.is_empty() {
                        written.places.remove(&place);
                    } else {
                        written.places.insert(place, wanted.to_vec());
                    }
                }
                Err(failed) => {
                    round.pending.insert(place.clone(), apart(wanted, have));
                    if let Some(Failed { why, code }) = failed {
                        silent = code == 0;
                        round.trouble = Some(format!("{}: {why}", place.service_name));
                        // It may have happened all the same, so what was written stays to be taken away.
                        let more = wanted.iter().filter(|host| !have.contains(host));
                        let both: Vec<Host> = have.iter().chain(more).cloned().collect();
                        written.places.insert(place.clone(), both);
                        written.unsure.insert(place);
                    }
                }
            }
        }
        round
    }

    /// Reads back what is written in these places, and doubts where something of it is missing.
    pub(crate) async fn read_back(
        &self,
        client: &Client,
        session: &Session,
        places: impl Iterator<Item = &Place>,
    ) -> Result<(), Failed> {
        for place in places {
            let stand = client::hosts(client, session, place).await?;
            let mut written = self.written.lock().await;
            written.over(session);
            let ours = written.places.get(place).map_or(&[][..], Vec::as_slice);
            let stands =
                |host: &Host| stand.iter().any(|other| (&other.ip, other.port) == (&host.ip, host.port));
            if !ours.iter().all(stands) {
                written.unsure.insert(place.clone());
            }
        }
        Ok(())
    }
}

impl Written {
    /// What was written over another connection went with that.
    fn over(&mut self, session: &Session) {
        if self.session != session.number {
            *self = Self { session: session.number, ..Self::default() };
        }
    }
}

/// Puts these in the place of whatever this connection has written there.
async fn write(session: &Session, place: &Place, wanted: &[Host], have: &[Host]) -> Result<(), Failed> {
    match (wanted, have) {
        ([], []) => Ok(()),
        // Whichever of them is named, all go.
        ([], [instance, ..]) => {
            let what = InstanceRequest::DEREGISTER;
            session.call(&InstanceRequest { place, what, instance }).await.map(drop)
        }
        // Servers before 2.1 know nothing of batches.
        ([instance], _) => {
            let what = InstanceRequest::REGISTER;
            session.call(&InstanceRequest { place, what, instance }).await.map(drop)
        }
        (instances, _) => {
            let what = BatchInstanceRequest::REGISTER;
            session.call(&BatchInstanceRequest { place, what, instances }).await.map(drop)
        }
    }
}

/// How many of two lists are not in both.
fn apart(wanted: &[Host], have: &[Host]) -> usize {
    let only = |one: &[Host], other: &[Host]| one.iter().filter(|host| !other.contains(host)).count();
    only(wanted, have).saturating_add(only(have, wanted)).max(1)
}
