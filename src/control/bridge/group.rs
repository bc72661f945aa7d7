//! What is told to the target at once: a service, or all of an application where formats describe one as a whole.
//!
//! A change costs what its group costs, so groups are as small as the formats allow. Nothing is decided here.

use std::{collections::BTreeMap, sync::Arc};

use outrigger_discovery::{Desired, Framework, Hold, Level, Registration, Watching, Wish};

use super::service::Task;

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
pub fn parts(service: &str, registrations: Vec<Registration>) -> BTreeMap<Of, Vec<Registration>> {
    let mut parts: BTreeMap<Of, Vec<Registration>> = BTreeMap::new();
    let mut put = |of, r| parts.entry(of).or_default().push(r);
    for mut r in registrations {
        let level = if r.framework == Framework::Dubbo { r.level } else { Level::Interface };
        if level != Level::Interface {
            put(Of::App(r.app.clone()), Registration { level: Level::Application, ..r.clone() });
        }
        if level != Level::Application {
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
    /// What it has of each service.
    kept: BTreeMap<String, Arc<[Registration]>>,
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
        let before = self.kept.get(service).map_or(&[][..], |before| before);
        if before == wanted {
            return;
        }
        self.changed = true;
        if wanted.is_empty() {
            self.kept.remove(service);
        } else {
            self.kept.insert(service.to_owned(), wanted.into());
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
            let mut services = self.kept.values();
            self.wish.set(match (services.next(), services.next()) {
                // The most there are: nothing of it is there twice.
                (Some(one), None) => Arc::clone(one),
                _ => self.kept.values().flat_map(|all| all.iter().cloned()).collect(),
            });
        }
    }

    /// Whether it has nothing, and nothing of it stands there.
    pub fn is_over(&self) -> bool {
        self.kept.is_empty()
            && !self.changed
            && self.wish.written().is_some_and(|written| written.pending == 0)
    }
}
