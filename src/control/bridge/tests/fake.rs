//! Registries in memory, whose time is the test's: several processes see one of them, each through a handle of its own.
//!
//! What stands there, who wrote it and when is recorded. It must never decide anything that a bridge should.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use outrigger_discovery::{
    Answering, Candidate, Desired, Framework, Instance, Level, Mark, Registration, Registry, ServiceKey,
    Status, Teller, Watching, Written,
};
use tokio::{sync::watch, time};

use super::super::service::{Key, key};

/// One entry that stands there: a service and what tells it from others.
type At = (String, Key, Level);

/// What happened.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) at: time::Instant,
    pub(super) service: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is there now and was not.
    Came,
    /// It says something else, or another process has it.
    Changed,
    /// It is there no more.
    Went,
}

#[derive(Default)]
struct State {
    /// Whom nobody here carried, by service.
    originals: BTreeMap<String, Vec<Instance>>,
    /// Names that are there although nobody gives them.
    names: BTreeSet<String>,
    written: BTreeMap<At, BTreeMap<u64, Registration>>,
    lost: Option<String>,
    dark: Option<String>,
    seat: Option<(u64, String)>,
    terms: u64,
    events: Vec<Event>,
}

/// A registry.
pub(super) struct Store {
    /// Whether what is registered outlives its process.
    lingers: bool,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Store {
    pub(super) fn new(lingers: bool) -> Arc<Self> {
        Arc::new(Self { lingers, state: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// What a process sees of it.
    pub(super) fn seen_by(self: &Arc<Self>, owner: u64) -> Arc<dyn Registry> {
        Arc::new(Handle { store: Arc::clone(self), owner })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.send_modify(|number| *number += 1);
        done
    }

    /// These give a service by themselves, and no others do.
    pub(super) fn put(&self, service: &str, instances: Vec<Instance>) {
        self.change(|state| {
            state.names.insert(service.to_owned());
            state.originals.insert(service.to_owned(), instances);
        });
    }

    /// Nobody knows the service any more, though its watches still tell what is there.
    pub(super) fn forget_name(&self, service: &str) {
        self.change(|state| state.names.remove(service));
    }

    /// It cannot be asked from now on, or can again.
    pub(super) fn lose(&self, why: Option<&str>) {
        self.change(|state| state.lost = why.map(str::to_owned));
    }

    /// A service of which it cannot say anything.
    pub(super) fn darken(&self, service: Option<&str>) {
        self.change(|state| state.dark = service.map(str::to_owned));
    }

    /// The process is gone for good, and so is what it had.
    pub(super) fn expire(&self, owner: u64) {
        self.change(|state| {
            if state.seat.as_ref().is_some_and(|(of, _)| *of == owner) {
                state.seat = None;
            }
            state.take(owner, &BTreeSet::new());
        });
    }

    /// Another process has the seat from now on, whatever the one that has it thinks.
    pub(super) fn give_seat(&self, owner: u64) {
        self.change(|state| {
            state.terms += 1;
            state.seat = Some((owner, format!("process-{owner}")));
        });
    }

    /// Who stands there for a service, by hand of a bridge: each address with what it says of itself.
    pub(super) fn copies(&self, service: &str) -> BTreeMap<String, Instance> {
        let all = self.state().instances(service);
        let copies = all.into_iter().filter(|instance| Mark::is_on(&instance.metadata));
        copies.map(|instance| (instance.address.clone(), instance)).collect()
    }

    /// The addresses of these, in order.
    pub(super) fn addresses(&self, service: &str) -> Vec<String> {
        self.copies(service).into_keys().collect()
    }

    /// How many copies stand there in all.
    pub(super) fn count(&self) -> usize {
        let state = self.state();
        let at: BTreeSet<_> = state.written.keys().map(|(service, key, _)| (service, key)).collect();
        at.len()
    }

    /// How many of them a process has.
    pub(super) fn of(&self, owner: u64) -> usize {
        self.state().written.values().filter(|all| all.contains_key(&owner)).count()
    }

    /// What happened so far; forgotten afterwards.
    pub(super) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().events)
    }
}

impl State {
    fn event(&mut self, (service, ..): &At, kind: Kind) {
        self.events.push(Event { at: time::Instant::now(), service: service.clone(), kind });
    }

    fn instances(&self, service: &str) -> Vec<Instance> {
        let mut all = self.originals.get(service).cloned().unwrap_or_default();
        let first = (service.to_owned(), Key::default(), Level::Interface);
        let written = self.written.range(first..).take_while(|((of, ..), _)| of == service);
        all.extend(written.filter_map(|(_, by)| by.values().next()).map(|r| Instance {
            address: r.address.clone(),
            weight: r.weight,
            version: r.version.clone(),
            group: r.group.clone(),
            protocol: Some(r.protocol.clone()),
            started: Some(r.started),
            metadata: r.metadata.clone().into(),
        }));
        all
    }

    /// Takes away what a process has, but for these.
    fn take(&mut self, owner: u64, but: &BTreeSet<At>) {
        let had: Vec<At> =
            self.written.iter().filter(|(_, by)| by.contains_key(&owner)).map(|(at, _)| at.clone()).collect();
        for at in had.into_iter().filter(|at| !but.contains(at)) {
            let left = self.written.get_mut(&at).map_or(0, |by| {
                by.remove(&owner);
                by.len()
            });
            if left == 0 {
                self.written.remove(&at);
                self.event(&at, Kind::Went);
            }
        }
    }

    /// A registration of a process, in the place of another's where only one can have it.
    fn put(&mut self, owner: u64, r: &Registration, lingers: bool, yields: bool) {
        let at = (r.service.clone(), key(r), r.level);
        let by = self.written.entry(at.clone()).or_default();
        let (is_new, foreign) = (by.is_empty(), by.keys().any(|other| *other != owner));
        if lingers && foreign && yields {
            return;
        }
        if lingers {
            by.retain(|other, _| *other == owner);
        }
        let before = by.insert(owner, r.clone());
        match before {
            Some(before) if before == *r => {}
            None if !lingers && !is_new => {}
            _ => self.event(&at, if is_new { Kind::Came } else { Kind::Changed }),
        }
    }
}

/// A registry, as one process sees it.
struct Handle {
    store: Arc<Store>,
    owner: u64,
}

impl Registry for Handle {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn watch(&self, key: ServiceKey, mut teller: Teller) -> Watching {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            let mut changed = store.changed.subscribe();
            let mut asked = true;
            loop {
                changed.borrow_and_update();
                let (lost, all) = {
                    let state = store.state();
                    let dark = state.dark.clone().filter(|dark| *dark == key.service);
                    (state.lost.clone().or(dark), state.instances(&key.service))
                };
                match lost {
                    Some(why) => {
                        teller.lost(&why);
                        asked = true;
                    }
                    None if std::mem::take(&mut asked) => teller.answer(all),
                    None => teller.tell(all),
                }
                tokio::select! {
                    _ = changed.changed() => {}
                    doubt = teller.doubted() => match doubt {
                        Ok(()) => asked = true,
                        Err(_) => return,
                    },
                }
            }
        })
    }

    fn register(&self, mut desired: Desired) -> Watching {
        let (store, owner) = (Arc::clone(&self.store), self.owner);
        // Each wish is another hand of the same process.
        Box::pin(async move {
            let mut changed = store.changed.subscribe();
            let mut ours: BTreeSet<At> = BTreeSet::new();
            loop {
                changed.borrow_and_update();
                let (wish, wanted) = desired.now();
                let yields = desired.yields();
                let (pending, trouble) = {
                    let mut state = store.state();
                    let before = (state.events.len(), state.written.len());
                    let trouble = state.lost.clone();
                    if trouble.is_none() {
                        let meant: BTreeSet<At> =
                            wanted.iter().map(|r| (r.service.clone(), key(r), r.level)).collect();
                        let mut but: BTreeSet<At> = state.written.keys().cloned().collect();
                        but.retain(|at| meant.contains(at) || !ours.contains(at));
                        state.take(owner, &but);
                        for r in wanted.iter() {
                            state.put(owner, r, store.lingers, yields);
                        }
                        ours = meant;
                    }
                    if (state.events.len(), state.written.len()) != before {
                        drop(state);
                        store.changed.send_modify(|number| *number += 1);
                    }
                    (if trouble.is_some() { wanted.len() } else { 0 }, trouble)
                };
                desired.tell(Written { wish, pending, trouble });
                tokio::select! {
                    done = desired.changed() => if done.is_err() { return },
                    _ = changed.changed() => {}
                }
            }
        })
    }

    fn services(&self, _: Framework) -> Answering<Vec<String>> {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            let state = store.state();
            match &state.lost {
                Some(why) => Err(why.clone()),
                None => {
                    let written = state.written.keys().map(|(service, ..)| service.clone());
                    Ok(state.names.iter().cloned().chain(written).collect())
                }
            }
        })
    }

    fn elect(&self, candidate: Candidate) -> Option<Watching> {
        let (store, owner) = (Arc::clone(&self.store), self.owner);
        Some(Box::pin(async move {
            let mut changed = store.changed.subscribe();
            loop {
                changed.borrow_and_update();
                let (lost, free) = {
                    let state = store.state();
                    (state.lost.clone(), state.seat.is_none())
                };
                if let Some(why) = lost {
                    candidate.trouble(&why);
                } else {
                    if free {
                        store.give_seat(owner);
                    }
                    let state = store.state();
                    let (holder, name) = state.seat.clone().expect("somebody has it");
                    if holder == owner {
                        let until = time::Instant::now() + candidate.patience;
                        candidate.hold(state.terms, until.into_std());
                    } else {
                        candidate.follow(state.terms, Some(&name));
                    }
                }
                tokio::select! {
                    () = candidate.given_up() => {
                        store.change(|state| {
                            if state.seat.as_ref().is_some_and(|(of, _)| *of == owner) {
                                state.seat = None;
                            }
                        });
                        return;
                    }
                    _ = changed.changed() => {}
                    () = time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }))
    }

    fn refuses(&self, registration: &Registration) -> Option<String> {
        registration.service.contains(' ').then(|| "its name has a space".to_owned())
    }

    fn lingers(&self) -> bool {
        self.store.lingers
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}
