//! One service of a bridge: what is found of it, what stands at the target, and what shall stand there by our hand.
//!
//! Decides by what it was told and asks nobody; time is an argument. It must never say that something goes before both ends
//! have told what they have.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_discovery::{Guard, Instance, Registration, Registry, Verdict, View};
use tokio::task::AbortHandle;

use super::{
    carry::{self, Carry, Not},
    group::Of,
};
use crate::telemetry::Skipped;

/// How long one that stands by holds copies of what it cannot see, and how long a target that cannot be asked is waited for.
pub const BLIND: Duration = Duration::from_secs(30);

/// What tells one entry of a service from another.
pub type Key = (String, String, Option<String>, Option<String>);

/// What tells an entry from the others of its service.
pub fn key(r: &Registration) -> Key {
    (r.address.clone(), r.protocol.clone(), r.group.clone(), r.version.clone())
}

/// A digest of an entry: thousands of them are kept, and only whether they are the same is asked.
pub fn digest(r: &Registration) -> u64 {
    let mut hasher = DefaultHasher::new();
    r.hash(&mut hasher);
    hasher.finish()
}

/// Ends with its handle.
#[derive(Debug)]
pub struct Task(pub AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A service that is carried.
#[derive(Debug)]
pub struct Service {
    /// The number of its watch at the source.
    pub source: usize,
    /// That at the target.
    pub target: usize,
    /// What stands there by our hand, as far as the target was told.
    pub kept: BTreeMap<Key, u64>,
    /// The groups that it was told by.
    pub told: BTreeSet<Of>,
    /// It waits for its turn to be written.
    pub is_dirty: bool,
    /// The plan does not mean it any more: it goes.
    pub is_meant: bool,
    /// Nobody is told of, though somebody is in force.
    pub emptied: bool,
    /// When to look at the source again though it says nothing new.
    pub again: Option<Instant>,
    _watching: [Task; 2],
    guard: Guard,
    /// Since when its source cannot be asked.
    lost: Option<Instant>,
    /// That has lasted so long that one that stands by holds it no longer.
    is_blind: bool,
    /// The source has told.
    is_found: bool,
    skipped: Skipped,
    /// What stands there; `None`: the target has not told yet.
    there: Option<Arc<[Instance]>>,
    /// Since when that is waited for although the target cannot be asked.
    unseen: Option<Instant>,
    /// Those of its instances of which another entry is in the way.
    taken: BTreeSet<Key>,
}

/// What is to be done about the source of a service.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Nothing,
    /// The source shall be asked once more.
    Doubt,
    /// There is something else to be written.
    Changed,
}

impl Service {
    /// A service of which nothing is known; watched under these numbers, by these tasks. A set that is suddenly empty is doubted
    /// for `hold`.
    pub fn new(source: usize, target: usize, watching: [Task; 2], hold: Duration) -> Self {
        Self {
            source,
            target,
            kept: BTreeMap::new(),
            told: BTreeSet::new(),
            is_dirty: false,
            is_meant: true,
            emptied: false,
            again: None,
            _watching: watching,
            guard: Guard::new(hold),
            lost: None,
            is_blind: false,
            is_found: false,
            skipped: Skipped::default(),
            there: None,
            unseen: None,
            taken: BTreeSet::new(),
        }
    }

    /// Whom the source is believed to have.
    pub fn force(&self) -> Option<&Arc<[Instance]>> {
        self.guard.force()
    }

    /// Since when its source cannot be asked.
    pub const fn lost(&self) -> Option<Instant> {
        self.lost
    }

    /// Instances that are not carried.
    pub fn skipped(&self) -> Skipped {
        Skipped { there: self.taken.len(), ..self.skipped }
    }

    /// What another watch of the same knew, as `before` was: of the source, and of the target, if it is the same one there.
    pub fn knows(&mut self, before: &Self, same_there: bool, now: Instant) {
        if let Some(force) = before.force() {
            let view = View { instances: Some(Arc::clone(force)), ..View::default() };
            self.guard.look(&view, now);
        }
        if same_there {
            self.there.clone_from(&before.there);
        }
    }

    /// Notes what the source says, before anything is believed of it.
    pub fn note(&mut self, view: &View, now: Instant) {
        self.lost = if view.lost.is_some() { self.lost.or(Some(now)) } else { None };
        let none = view.instances.as_ref().is_some_and(|told| told.is_empty());
        self.emptied = none && self.force().is_some_and(|force| !force.is_empty());
    }

    /// Believes of it what can be believed.
    pub fn look(&mut self, view: &View, now: Instant) -> Look {
        self.again = None;
        match self.guard.look(view, now) {
            Verdict::Same => Look::Nothing,
            Verdict::Hold { until, ask } => {
                self.again = Some(until);
                if ask { Look::Doubt } else { Look::Nothing }
            }
            Verdict::Take(_) => {
                self.emptied = false;
                Look::Changed
            }
        }
    }

    /// Looks at what those in force are there, and which of them are carried; whether others are than before.
    pub fn count(&mut self, name: &str, carry: &Carry, target: &dyn Registry) -> bool {
        let Some(force) = self.guard.force() else { return false };
        let (found, skipped) = mapped(carry, target, name, force);
        let there = self.there.as_deref().unwrap_or_default();
        let taken = found.iter().filter(|r| is_taken(there, r, carry)).map(key).collect();
        (self.is_found, self.skipped) = (true, skipped);
        let others = self.taken != taken;
        self.taken = taken;
        others
    }

    /// The target says what stands there; whether that is news.
    pub fn stands(&mut self, view: View, now: Instant) -> bool {
        let Some(there) = view.instances else {
            self.unseen = view.lost.and(self.unseen.or(Some(now)));
            return false;
        };
        self.unseen = None;
        let first = self.there.is_none();
        self.there = Some(there);
        first
    }

    /// What time alone brings; whether there is something else to be written.
    pub fn ticked(&mut self, now: Instant) -> bool {
        let blind = self.lost.is_some_and(|since| now >= since + BLIND);
        let unseen = self.there.is_none() && self.unseen.is_some_and(|since| now >= since + BLIND);
        if unseen {
            // Whoever cannot say what stands there may still be written to.
            self.there = Some(Arc::from([]));
        }
        let changed = blind != self.is_blind;
        self.is_blind = blind;
        changed || unseen
    }

    /// What shall stand there by our hand: all that do not stand there by themselves. `None`: what does must stay, because not
    /// enough is known. `writes`: it is ours to say; otherwise what cannot be seen for a time is not held.
    pub fn wanted(
        &self,
        name: &str,
        carry: &Carry,
        target: &dyn Registry,
        writes: bool,
    ) -> Option<Vec<Registration>> {
        if !self.is_meant || self.is_blind && !writes {
            return Some(Vec::new());
        }
        let (force, _) = self.guard.force().zip(self.there.as_ref()).filter(|_| self.is_found)?;
        let (mut wanted, _) = mapped(carry, target, name, force);
        wanted.retain(|r| !self.taken.contains(&key(r)));
        Some(wanted)
    }

    /// How many writes it takes to get there. What stands there by another's hand of the same bridge is only taken over.
    pub fn costs(&self, carry: &Carry, wanted: &[Registration]) -> usize {
        let there = self.there.as_deref().unwrap_or_default();
        let stands = |r: &Registration| there.iter().any(|one| carry.is_own(one) && carry::is_same(one, r));
        let mut left: BTreeSet<&Key> = self.kept.keys().collect();
        let mut costs = 0;
        for r in wanted {
            let key = key(r);
            left.remove(&key);
            let same = self.kept.get(&key).map_or_else(|| stands(r), |before| *before == digest(r));
            costs += usize::from(!same);
        }
        costs + left.len()
    }
}

/// Whether something that stands there is in the way of a registration.
fn is_taken(there: &[Instance], here: &Registration, carry: &Carry) -> bool {
    there.iter().any(|there| carry::is_same(there, here) && carry.is_in_the_way(there))
}

/// What the instances of a service are at the target, and how many are not carried.
fn mapped(
    carry: &Carry,
    target: &dyn Registry,
    service: &str,
    instances: &[Instance],
) -> (Vec<Registration>, Skipped) {
    let (mut mapped, mut skipped) = (Vec::new(), Skipped::default());
    for instance in instances {
        match carry.registration(service, instance) {
            Ok(registration) if target.refuses(&registration).is_some() => skipped.refused += 1,
            Ok(registration) => mapped.push(registration),
            Err(Not::Copy) => skipped.copies += 1,
            Err(Not::Off) => skipped.off += 1,
        }
    }
    (mapped, skipped)
}
