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
pub(crate) type Wants = BTreeMap<Place, Vec<Arc<Host>>>;

/// Instances of one service by who wants them.
type ByWhom = BTreeMap<u64, Vec<Arc<Host>>>;

/// What is wanted, and what is written.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By service and by who registers.
    wants: Mutex<BTreeMap<Place, ByWhom>>,
    written: tokio::sync::Mutex<Written>,
}

/// What one connection has written.
#[derive(Debug, Default)]
struct Written {
    session: u64,
    places: BTreeMap<Place, Vec<Arc<Host>>>,
    /// Services of which nobody knows what stands there.
    unsure: BTreeSet<Place>,
    /// Services that a write failed of, so that whoever writes next tries it once more.
    behind: BTreeSet<Place>,
}

/// How a round of writing went.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// The services that are not in line yet, of those that were asked about, with how many instances are not as wanted.
    pub(crate) pending: BTreeMap<Place, usize>,
    /// What went wrong last.
    pub(crate) trouble: Option<String>,
}

/// The wants of one who registers; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Part {
    client: Arc<Client>,
    number: u64,
    /// Services of which it wants something, or did, and may still have it.
    places: Mutex<BTreeSet<Place>>,
}

impl Part {
    pub(crate) fn new(client: &Arc<Client>) -> Self {
        Self { client: Arc::clone(client), number: client.number(), places: Mutex::default() }
    }

    /// These are wanted from now on, and nothing else by this one.
    pub(crate) fn set(&self, wants: Wants) {
        let mut places = lock(&self.places);
        let mut all = lock(&self.client.ledger.wants);
        for place in places.iter().filter(|place| !wants.contains_key(place)) {
            self.forget(&mut all, place);
        }
        for (place, hosts) in wants {
            places.insert(place.clone());
            all.entry(place).or_default().insert(self.number, hosts);
        }
    }

    /// Whether this instance is wanted already.
    pub(crate) fn has(&self, place: &Place, host: &Arc<Host>) -> bool {
        let all = lock(&self.client.ledger.wants);
        all.get(place).and_then(|by| by.get(&self.number)).is_some_and(|hosts| hosts.contains(host))
    }

    /// Of what was wanted, only that is wanted still which is among these.
    pub(crate) fn keep_only(&self, these: &Wants) {
        let places = lock(&self.places);
        let mut all = lock(&self.client.ledger.wants);
        for place in places.iter() {
            let Some(hosts) = all.get_mut(place).and_then(|by| by.get_mut(&self.number)) else { continue };
            hosts.retain(|host| these.get(place).is_some_and(|these| these.contains(host)));
            if hosts.is_empty() {
                self.forget(&mut all, place);
            }
        }
    }

    /// Brings the services in line that are, or were, its own.
    pub(crate) async fn bring_in_line(&self, session: &Session) -> Round {
        let places = lock(&self.places).clone();
        let round = self.client.ledger.bring_in_line(session, &places).await;
        // What is wanted no more and is gone is no concern of this one any longer.
        let mut mine = lock(&self.places);
        let all = lock(&self.client.ledger.wants);
        mine.retain(|place| {
            all.get(place).is_some_and(|by| by.contains_key(&self.number))
                || round.pending.contains_key(place)
        });
        round
    }

    fn forget(&self, all: &mut BTreeMap<Place, ByWhom>, place: &Place) {
        if let Some(by) = all.get_mut(place) {
            by.remove(&self.number);
            if by.is_empty() {
                all.remove(place);
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let places = std::mem::take(&mut *lock(&self.places));
        if places.is_empty() {
            return;
        }
        let mut all = lock(&self.client.ledger.wants);
        for place in &places {
            self.forget(&mut all, place);
        }
        drop(all);
        // Whoever is dropped can wait for nothing, so somebody else takes away what was his. If that fails it is in nobody's
        // wants any more, and goes with the connection or with the next round.
        let client::State::Up(session) = self.client.state.borrow().clone() else { return };
        let client = Arc::clone(&self.client);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(client.ledger.bring_in_line(&session, &places).await) });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// What all want together of a service.
    fn wants(&self, place: &Place) -> Vec<Arc<Host>> {
        let all = lock(&self.wants);
        let mut together: Vec<Arc<Host>> = Vec::new();
        for host in all.get(place).into_iter().flat_map(BTreeMap::values).flatten() {
            // Of two that want the same address the first counts; Nacos has room for one.
            if !together.iter().any(|other| (&other.ip, other.port) == (&host.ip, host.port)) {
                together.push(Arc::clone(host));
            }
        }
        together
    }

    /// Writes whatever is not as wanted of these services, and of those that somebody failed to write.
    pub(crate) async fn bring_in_line(&self, session: &Session, these: &BTreeSet<Place>) -> Round {
        let mut written = self.written.lock().await;
        written.over(session);
        let mut round = Round::default();
        let places: BTreeSet<Place> = these.union(&written.behind).cloned().collect();
        let mut silent = false;
        for place in places {
            let wanted = self.wants(&place);
            let have = written.places.get(&place).map_or(&[][..], Vec::as_slice);
            if wanted == have && !written.unsure.contains(&place) {
                written.behind.remove(&place);
                continue;
            }
            // A server that does not answer one question is not asked hundreds of others: each would wait as long.
            let outcome =
                if silent { Err(None) } else { write(session, &place, &wanted, have).await.map_err(Some) };
            match outcome {
                Ok(()) => {
                    written.unsure.remove(&place);
                    written.behind.remove(&place);
                    if wanted.is_empty() {
                        written.places.remove(&place);
                    } else {
                        written.places.insert(place, wanted);
                    }
                }
                Err(failed) => {
                    if these.contains(&place) {
                        round.pending.insert(place.clone(), apart(&wanted, have));
                    }
                    if let Some(Failed { why, code }) = failed {
                        silent = code == 0;
                        round.trouble = Some(format!("{}: {why}", place.service_name));
                        // It may have happened all the same, so what was written stays to be taken away.
                        let more = wanted.iter().filter(|host| !have.contains(host));
                        let both: Vec<Arc<Host>> = have.iter().chain(more).cloned().collect();
                        written.places.insert(place.clone(), both);
                        written.unsure.insert(place.clone());
                    }
                    written.behind.insert(place);
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
                |host: &Arc<Host>| stand.iter().any(|other| (&other.ip, other.port) == (&host.ip, host.port));
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
async fn write(
    session: &Session,
    place: &Place,
    wanted: &[Arc<Host>],
    have: &[Arc<Host>],
) -> Result<(), Failed> {
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
            let instances: Vec<&Host> = instances.iter().map(|host| &**host).collect();
            session.call(&BatchInstanceRequest { place, what, instances: &instances }).await.map(drop)
        }
    }
}

/// How many of two lists are not in both.
fn apart(wanted: &[Arc<Host>], have: &[Arc<Host>]) -> usize {
    let only =
        |one: &[Arc<Host>], other: &[Arc<Host>]| one.iter().filter(|host| !other.contains(host)).count();
    only(wanted, have).saturating_add(only(have, wanted)).max(1)
}
