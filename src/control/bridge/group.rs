//! What is told to the target at once: a service, or all of an application where formats describe one as a whole.
//!
//! A change costs what its group costs, so groups are as small as the formats allow. Nothing is decided here.

use std::collections::BTreeMap;

use outrigger_discovery::{Desired, Framework, Hold, Level, Registration, Watching, Wish};

use super::service::{Key, Task, key};

/// Under this Dubbo says that consumers may look for the application as well.
const MAPPED: (&str, &str) = ("service-name-mapping", "true");

/// Of what a group is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// A service, as it is named at the source.
    Service(String),
    /// An application of Dubbo 3, as it is described at the target.
    App(String),
}

/// The registrations of a service, by the groups that they belong to.
pub fn parts<'a>(
    service: &str,
    registrations: impl Iterator<Item = &'a Registration>,
) -> BTreeMap<Of, Vec<Registration>> {
    let mut parts: BTreeMap<Of, Vec<Registration>> = BTreeMap::new();
    let mut put = |of, r| parts.entry(of).or_default().push(r);
    for r in registrations {
        let level = if r.framework == Framework::Dubbo { r.level } else { Level::Interface };
        if level != Level::Interface {
            put(Of::App(r.app.clone()), Registration { level: Level::Application, ..r.clone() });
        }
        if level != Level::Application {
            let mut r = r.clone();
            if level == Level::Both {
                r.metadata.entry(MAPPED.0.to_owned()).or_insert_with(|| MAPPED.1.to_owned());
            }
            put(Of::Service(service.to_owned()), Registration { level: Level::Interface, ..r });
        }
    }
    parts
}

/// A group, and the wish that it is.
#[derive(Debug)]
pub struct Group {
    /// What the target is told.
    pub wish: Wish,
    _task: Task,
    kept: BTreeMap<(String, Key), Registration>,
    /// It was told less than this, so far.
    changed: bool,
}

impl Group {
    /// An empty one, that yields to others or does not; `register`: what the target does with it.
    pub fn new(hold: Hold, yields: bool, register: impl FnOnce(Desired) -> Watching) -> Self {
        let (wish, desired) = Wish::held(hold);
        wish.yields(yields);
        let task = Task(tokio::spawn(register(desired)).abort_handle());
        Self { wish, _task: task, kept: BTreeMap::new(), changed: false }
    }

    /// Puts these in the place of what it has of a service.
    pub fn take(&mut self, service: &str, wanted: Vec<Registration>) {
        let wanted: BTreeMap<Key, Registration> = wanted.into_iter().map(|r| (key(&r), r)).collect();
        let before = self.kept.len();
        self.kept.retain(|(of, key), _| of != service || wanted.contains_key(key));
        self.changed |= self.kept.len() != before;
        for (key, r) in wanted {
            let at = (service.to_owned(), key);
            if self.kept.get(&at) != Some(&r) {
                self.kept.insert(at, r);
                self.changed = true;
            }
        }
    }

    /// Has nothing any more.
    pub fn clear(&mut self) {
        self.changed |= !self.kept.is_empty();
        self.kept.clear();
    }

    /// Tells the target what it has, unless it was told.
    pub fn tell(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.wish.set(self.kept.values().cloned().collect());
        }
    }

    /// Whether it has nothing, and nothing of it stands there.
    pub fn is_over(&self) -> bool {
        self.kept.is_empty()
            && !self.changed
            && self.wish.written().is_some_and(|written| written.pending == 0)
    }
}
