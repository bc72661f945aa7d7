//! Keeps what is desired in its place, and takes away what was ours and is desired no more.
//!
//! A pass looks at each key, does what is missing and looks again: an error of a write means that nobody knows whether it
//! happened, so only what was read back counts as done. Each write goes with what was read before it, so that nothing is
//! written over that somebody else wrote meanwhile. A key that another lease has is put again with ours, without a moment in
//! which it is not there, or is left to its owner by who yields. Nothing is deleted that does not bear a lease of ours.
//! Passes follow each new lease, each change of the desire, each change of a key of ours, and a slow clock.
//!
//! Consumers of dubbo-go (3.3.0 to 3.3.2) hear less than etcd says. Of an application's instances they hear only what is written
//! over, and take no deletion; of an interface's providers they lose what changes right after another change, since they watch
//! anew after each. So what they look at is put once more when it has stood for a while, one key of a directory at a time; and an
//! instance says that it gives nothing any more before it is deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{pending, poll_fn},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use outrigger_discovery::{Backoff, Desired, Registration, Written, Yielding, formats::application};
use tokio::{sync::watch, task::JoinSet, time};

use crate::{
    client::{Client, Error},
    keys,
    lease::Need,
    mirror::{Entry, Mirror, Range, State},
    plan::{Plan, Step},
    read,
    session::{Hub, Link, Shared, Up, lock},
    values,
    wire::{Compare, DeleteRangeRequest, Op, PutRequest, RequestOp, TxnRequest},
};

/// How often a step is tried in one pass, where others write the same key.
const TRIES: u32 = 6;
/// How many rows of a plan are worked on at the same time.
const ROWS_AT_ONCE: usize = 32;
/// The time from a change of a key of ours to the pass that it causes: changes come in swarms.
const REST: Duration = Duration::from_millis(50);

/// The time from a put that may not be heard to the one that is, and from one of these to the next in the same directory. A watch
/// of dubbo-go is new within milliseconds, unless its machine is busy.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps in the registry what is desired, until nobody desires anything.
pub(crate) async fn keep(hub: Arc<Hub>, mut desired: Desired) {
    let shared = Arc::clone(&hub.shared);
    let (mut link, mut held, mut backoff) = (hub.link(), shared.lease.held(), Backoff::default());
    let mut keeper = Keeper {
        shared: Arc::clone(&shared),
        yielding: desired.yielding(),
        ours: BTreeSet::new(),
        eyes: BTreeMap::new(),
    };
    let mut repeats = Repeats::new(&keeper);
    // It goes before the keeper does: what that leaves behind goes with the lease, or by the next pass of another.
    let mut need: Option<Need> = None;
    let mut was_kept = true;
    loop {
        let (wish, wanted) = desired.now();
        let plan = Arc::new(keeper.plan(&wanted));
        if !plan.ours().is_empty() {
            need.get_or_insert_with(|| Need::new(&shared));
        }
        let (now, lease) = (link.borrow_and_update().clone(), held.borrow_and_update().clone());
        let hand = match &now {
            Link::New => Err(None),
            Link::Down(reason) => Err(Some(&**reason)),
            Link::Closed => Err(Some("the registry was closed")),
            Link::Up(up) => match lease.now {
                Some((epoch, lease)) if epoch == up.epoch => Ok(Hand { up: up.clone(), lease }),
                // Without anything of ours none is needed.
                _ if plan.ours().is_empty() => Ok(Hand { up: up.clone(), lease: 0 }),
                _ => Err(Some(lease.trouble.as_deref().unwrap_or("there is no lease yet"))),
            },
        };
        if was_kept && hand.is_ok() {
            desired.begins(wish, keeper.nothing(&plan, None).pending);
        }
        was_kept = hand.is_err();
        let mut pass = match &hand {
            Err(reason) => keeper.nothing(&plan, *reason),
            Ok(hand) => tokio::select! {
                _ = link.changed() => continue,
                // What is withdrawn must not wait for a long pass to end.
                Ok(()) = desired.changed() => continue,
                pass = keeper.pass(hand, &plan) => pass,
            },
        };
        desired.tell(Written { wish, pending: pass.pending, trouble: pass.trouble.take() });
        repeats.found(std::mem::take(&mut pass.fresh));
        let is_up = hand.is_ok();
        if pass.pending == 0 && is_up {
            backoff.works();
        }
        let wait = match (is_up, pass.pending) {
            (true, 0) => shared.settings.reconcile,
            (true, _) => backoff.failed(),
            // Without a connection only a change of the link or the lease is worth a look.
            (false, _) => Duration::MAX,
        };
        tokio::select! {
            changed = desired.changed() => if changed.is_err() {
                if let Ok(hand) = hand {
                    keeper.pass(&hand, &Arc::default()).await;
                }
                return;
            },
            _ = link.changed() => {}
            _ = held.changed() => {}
            () = keeper.changed(lease.now.map_or(0, |(_, lease)| lease)), if is_up => {
                // Whoever takes the same key again and again is not met at once each time.
                time::sleep(if pass.displaced { backoff.failed() } else { REST }).await;
            }
            () = repeats.run(hand.as_ref().ok(), &plan) => {}
            () = time::sleep(wait.min(Duration::from_secs(86_400))) => {}
        }
    }
}

/// What a pass works with.
#[derive(Clone)]
struct Hand {
    up: Up,
    /// The lease of what is ours.
    lease: i64,
}

/// What came of a pass.
#[derive(Default)]
struct Pass {
    /// Steps and withdrawals that are not known to be done.
    pending: usize,
    trouble: Option<String>,
    /// Somebody else's key stood in the place of ours.
    displaced: bool,
    /// Keys that may not have been heard of.
    fresh: BTreeSet<String>,
}

struct Keeper {
    shared: Arc<Shared>,
    /// Whether what other processes keep is left to them.
    yielding: Yielding,
    /// Keys that we put, or may have put, and that are not known to be gone.
    ours: BTreeSet<String>,
    /// What sees the keys of the plan.
    eyes: BTreeMap<String, Eye>,
}

/// What is put once more, so that it is heard of; see [`AGAIN`].
struct Repeats {
    shared: Arc<Shared>,
    yielding: Yielding,
    /// Keys that may not have been heard of.
    fresh: BTreeSet<String>,
    /// When the next are put.
    at: Option<time::Instant>,
}

impl Repeats {
    fn new(keeper: &Keeper) -> Self {
        let (shared, yielding) = (Arc::clone(&keeper.shared), keeper.yielding.clone());
        Self { shared, yielding, fresh: BTreeSet::new(), at: None }
    }

    /// These are what a pass found.
    fn found(&mut self, fresh: BTreeSet<String>) {
        let waits = self.at.filter(|_| fresh.is_subset(&self.fresh));
        self.at = (!fresh.is_empty()).then(|| waits.unwrap_or_else(|| time::Instant::now() + AGAIN));
        self.fresh = fresh;
    }

    /// Puts a key of each directory at a time; never ends. What goes wrong is left to the next pass, which finds it again.
    async fn run(&mut self, hand: Option<&Hand>, plan: &Plan) {
        let (Some(hand), Some(mut at)) = (hand, self.at) else { return pending().await };
        while !self.fresh.is_empty() {
            time::sleep_until(at).await;
            let mut seen = BTreeSet::new();
            let now: BTreeSet<String> =
                self.fresh.iter().filter(|key| seen.insert(keys::directory(key))).cloned().collect();
            let is_now = |step: &&Step| matches!(step, Step::Heard { key, .. } if now.contains(key));
            for step in plan.rows.iter().flatten().filter(is_now) {
                let (shared, yielding) = (Arc::clone(&self.shared), self.yielding.clone());
                let work = Work { shared, hand: hand.clone(), yielding, again: true, row: Row::default() };
                work.row(std::slice::from_ref(step)).await;
            }
            self.fresh.retain(|key| !now.contains(key));
            at = time::Instant::now() + AGAIN;
            self.at = Some(at);
        }
        self.at = None;
        pending::<()>().await;
    }
}

/// Sees one key of the plan.
struct Eye {
    mirror: Arc<Mirror>,
    news: watch::Receiver<()>,
    step: Step,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        lock(&self.shared.orphans).append(&mut self.ours);
    }
}

impl Keeper {
    /// Waits until a key of the plan is not as it shall be, by whomever.
    async fn changed(&mut self, lease: i64) {
        loop {
            let mut changes: Vec<_> =
                self.eyes.values_mut().map(|eye| Box::pin(eye.news.changed())).collect();
            poll_fn(|context| {
                let ready = changes.iter_mut().map(|change| change.as_mut().poll(context));
                if ready.filter(Poll::is_ready).count() > 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            drop(changes);
            if self.eyes.values().any(|eye| eye.is_off(lease, self.yielding.now())) {
                return;
            }
        }
    }

    fn plan(&self, wanted: &[Registration]) -> Plan {
        match &self.shared.keys {
            Ok(keys) => Plan::of(wanted, keys),
            Err(reason) => {
                Plan { rows: Vec::new(), refused: wanted.iter().map(|_| (*reason).to_owned()).collect() }
            }
        }
    }

    /// A pass that was not made: nothing of the plan is known to be done.
    fn nothing(&self, plan: &Plan, reason: Option<&str>) -> Pass {
        let desired = plan.ours();
        let withdrawn = self.ours.iter().filter(|key| !desired.contains(key.as_str())).count();
        Pass {
            pending: plan.len().saturating_add(withdrawn),
            trouble: reason.map(str::to_owned),
            ..Pass::default()
        }
    }

    /// Makes it so, as far as it can; ends at the first sign that the connection is not well.
    async fn pass(&mut self, hand: &Hand, plan: &Arc<Plan>) -> Pass {
        self.ours.append(&mut lock(&self.shared.orphans));
        let mut pass = self.nothing(plan, plan.refused.first().map(String::as_str));
        self.see(plan);
        let desired = plan.ours();
        let withdrawn: Vec<String> =
            self.ours.iter().filter(|key| !desired.contains(key.as_str())).cloned().collect();
        // Before anything is written: an answer may never come.
        self.ours.extend(desired.into_iter().map(str::to_owned));
        // First what must not be called any more.
        let mut tasks = JoinSet::new();
        let mut withdrawn = withdrawn.into_iter();
        loop {
            while tasks.len() < ROWS_AT_ONCE
                && let Some(key) = withdrawn.next()
            {
                let (shared, client) = (Arc::clone(&self.shared), hand.up.client.clone());
                tasks.spawn(async move {
                    let done = withdraw(&shared, &client, &key).await;
                    (key, done)
                });
            }
            let Some(done) = tasks.join_next().await else { break };
            match done {
                Ok((key, Ok(()))) => {
                    self.ours.remove(&key);
                    pass.pending = pass.pending.saturating_sub(1);
                }
                Ok((key, Err(error))) => {
                    pass.trouble = Some(format!("{key}: {error}"));
                    if error.is_of_link() {
                        return pass;
                    }
                }
                Err(error) => pass.trouble = Some(error.to_string()),
            }
        }
        self.rows(hand, plan, &mut pass).await;
        pass
    }

    async fn rows(&self, hand: &Hand, plan: &Arc<Plan>, pass: &mut Pass) {
        let mut tasks = JoinSet::new();
        let mut rows = 0..plan.rows.len();
        loop {
            while tasks.len() < ROWS_AT_ONCE
                && let Some(row) = rows.next()
            {
                let (shared, hand, plan) = (Arc::clone(&self.shared), hand.clone(), Arc::clone(plan));
                let yielding = self.yielding.clone();
                tasks.spawn(async move {
                    let steps = plan.rows.get(row).map(Vec::as_slice).unwrap_or_default();
                    Work { shared, hand, yielding, again: false, row: Row::default() }.row(steps).await
                });
            }
            let Some(done) = tasks.join_next().await else { return };
            match done {
                Ok(Row { done, displaced, fresh, failed }) => {
                    pass.pending = pass.pending.saturating_sub(done);
                    pass.fresh.extend(fresh);
                    pass.displaced |= displaced;
                    let Some((key, error)) = failed else { continue };
                    pass.trouble = Some(format!("{key}: {error}"));
                    if error.is_of_link() || error == Error::NoLease {
                        return;
                    }
                }
                Err(error) => pass.trouble = Some(error.to_string()),
            }
        }
    }

    /// Has eyes on all keys of the plan, and on no others.
    fn see(&mut self, plan: &Plan) {
        let mut before = std::mem::take(&mut self.eyes);
        for step in plan.rows.iter().flatten() {
            let eye = before.remove(step.key()).unwrap_or_else(|| {
                let mirror = self.shared.sight.open(&Range::key(step.key()));
                Eye { news: mirror.news(), mirror, step: step.clone() }
            });
            self.eyes.insert(step.key().to_owned(), Eye { step: step.clone(), ..eye });
        }
    }
}

impl Eye {
    /// Whether the key is known to be otherwise than it shall be.
    fn is_off(&self, lease: i64, yields: bool) -> bool {
        self.mirror.look(|state: &State| {
            // What cannot be read just now is looked at by the next pass.
            if state.epoch == 0 || state.trouble.is_some() {
                return false;
            }
            let Some(have) = state.entries.values().next() else { return true };
            match &self.step {
                Step::Ours { .. } | Step::Heard { .. } if have.lease != lease => !yields,
                Step::Ours { value, .. } | Step::Heard { value, .. } => have.value != *value,
                Step::Stays { value, .. } => application::described(&have.value, value).is_some(),
                Step::Named { app, .. } => named(&have.value, app).is_some(),
            }
        })
    }
}

/// One row of a plan at work.
struct Work {
    shared: Arc<Shared>,
    hand: Hand,
    yielding: Yielding,
    /// Whether what may not have been heard of is put once more.
    again: bool,
    row: Row,
}

/// What came of a row.
#[derive(Default)]
struct Row {
    done: usize,
    displaced: bool,
    /// A key that may not have been heard of.
    fresh: Option<String>,
    failed: Option<(String, Error)>,
}

impl Work {
    async fn row(mut self, steps: &[Step]) -> Row {
        for step in steps {
            if let Err(error) = self.step(step).await {
                if error == Error::NoLease {
                    self.shared.lease.doubted();
                }
                self.row.failed = Some((step.key().to_owned(), error));
                break;
            }
            self.row.done = self.row.done.saturating_add(1);
        }
        self.row
    }

    /// Does a step and reads it back.
    async fn step(&mut self, step: &Step) -> Result<(), Error> {
        for _ in 0..TRIES {
            let key = step.key();
            let have = read::key(&self.hand.up.client, key).await?;
            let (value, lease) = match step {
                Step::Ours { value, .. } => match self.ours(have.as_ref(), value) {
                    Some(value) => (value, self.hand.lease),
                    None => return Ok(()),
                },
                Step::Heard { value, .. } => match self.ours(have.as_ref(), value) {
                    Some(value) => (value, self.hand.lease),
                    None if !self.is_fresh(have.as_ref()) => return Ok(()),
                    None if self.again => (value.clone(), self.hand.lease),
                    None => {
                        self.row.fresh = Some(key.to_owned());
                        return Ok(());
                    }
                },
                Step::Stays { value, .. } => {
                    match wanted(have.as_ref(), |have| application::described(have, value)) {
                        Some(value) => (value, 0),
                        None => return Ok(()),
                    }
                }
                Step::Named { app, .. } => match wanted(have.as_ref(), |have| named(have, app)) {
                    Some(value) => (value, 0),
                    None => return Ok(()),
                },
            };
            let put = RequestOp { request: Some(Op::Put(PutRequest { key: key.into(), value, lease })) };
            // Only what was read is replaced: others write here as well.
            let unchanged = Compare::changed(key, have.map_or(0, |have| have.changed));
            self.hand.up.client.txn(TxnRequest { compare: vec![unchanged], success: vec![put] }).await?;
        }
        Err(busy())
    }

    /// Whether what stands there is of this lease, and nothing was written over.
    fn is_fresh(&self, have: Option<&Entry>) -> bool {
        have.is_some_and(|have| have.lease == self.hand.lease && have.created == have.changed)
    }

    /// What is to be put under a key of ours; `None`: it is as it shall be, or is left to another.
    fn ours(&mut self, have: Option<&Entry>, value: &[u8]) -> Option<Vec<u8>> {
        if let Some(have) = have {
            if have.lease == self.hand.lease {
                return (have.value != value).then(|| value.to_vec());
            }
            if !self.shared.lease.is_ours(have.lease) {
                // Asked after the key was read: if this process stands still from here on, the key is another one by then, and
                // nothing is put.
                if self.yielding.now() {
                    return None;
                }
                self.row.displaced = true;
            }
        }
        Some(value.to_vec())
    }
}

/// Takes a key away, if it bears a lease of ours; an instance of an application says that it gives nothing any more before.
async fn withdraw(shared: &Shared, client: &Client, key: &str) -> Result<(), Error> {
    for _ in 0..TRIES {
        let Some(have) = read::key(client, key).await? else { return Ok(()) };
        if have.lease == 0 || !shared.lease.is_ours(have.lease) {
            return Ok(());
        }
        let compare = vec![Compare::lease(key, have.lease), Compare::changed(key, have.changed)];
        let farewell = keys::is_member(key).then(|| values::go_farewell(&have.value)).flatten();
        let op = match farewell {
            Some(value) => Op::Put(PutRequest { key: key.into(), value, lease: have.lease }),
            None => Op::Delete(DeleteRangeRequest { key: key.into() }),
        };
        client.txn(TxnRequest { compare, success: vec![RequestOp { request: Some(op) }] }).await?;
    }
    Err(busy())
}

fn busy() -> Error {
    Error::Refused("somebody else writes the same key all the time".to_owned())
}

/// What is to be written under a key that stays, if it is otherwise now.
fn wanted(have: Option<&Entry>, wanted: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    match have {
        Some(have) => wanted(&have.value),
        None => Some(wanted(&[]).unwrap_or_default()),
    }
}

/// The text of a mapping with this application in it; `None`: it names it already.
fn named(text: &[u8], app: &str) -> Option<Vec<u8>> {
    application::with_app(&String::from_utf8_lossy(text), app).map(String::into_bytes)
}
