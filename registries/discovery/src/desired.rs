//! What shall be registered, and how far that is done.
//!
//! A desire is a state, not an order: who has it gives the whole of it ([`Wish::set`]), and the registry works towards the last
//! one and tells how far it is. So nothing is forgotten when a write fails, and nothing comes back that was taken away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::watch;

use crate::{Closed, Framework};

/// Where a Dubbo service is made known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Under its interface, where every version of Dubbo looks.
    #[default]
    Interface,
    /// By its application, as Dubbo 3 prefers.
    Application,
    /// Both.
    Both,
}

/// One service of the application, as others shall find it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Registration {
    /// The application's name.
    pub app: String,
    /// In whose names and formats.
    pub framework: Framework,
    /// Where, if it is a service of Dubbo.
    pub level: Level,
    /// The interface; for Spring the application.
    pub service: String,
    /// What is spoken there, as the framework calls it (`dubbo`, `tri`, `bolt`, `http`).
    pub protocol: String,
    /// `host:port` that others dial; see [`crate::is_public`].
    pub address: String,
    /// Its group.
    pub group: Option<String>,
    /// Its version; of SOFARPC `1.0`, or `1.0:uniqueId`.
    pub version: Option<String>,
    /// Its share beside others; 100 is the frameworks' own default.
    pub weight: u32,
    /// When the application was started, in milliseconds since 1970.
    pub started: u64,
    /// Parameters besides, such as `methods`, `timeout` or `serialization`; they win over those that are written by default.
    pub metadata: BTreeMap<String, String>,
}

/// How far a registry is with what is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Which desire this is about; see [`Desired::now`].
    pub wish: u64,
    /// How many entries have still to be written or taken away; 0: all is as desired, as far as was read back.
    pub pending: usize,
    /// What went wrong last; `None`: nothing did.
    pub trouble: Option<String>,
}

/// A desire.
#[derive(Debug)]
struct Want {
    /// Its number.
    wish: u64,
    registrations: Arc<[Registration]>,
    yields: bool,
}

/// Until when who desires may write, where only one of several processes may. Its clones are one and the same.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<Mutex<Option<Instant>>>);

impl Hold {
    /// Until then; what is desired yields to others afterwards, if nothing else is said by then.
    pub fn until(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn is_over(&self, now: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now >= until)
    }
}

/// The end of who desires.
#[derive(Debug)]
pub struct Wish {
    wanted: watch::Sender<Want>,
    written: watch::Receiver<Written>,
}

impl Wish {
    /// A wish for nothing, and the end that a registry works on.
    pub fn new() -> (Self, Desired) {
        Self::held(Hold::default())
    }

    /// The same of who may write only until a moment; see [`Hold`].
    pub fn held(hold: Hold) -> (Self, Desired) {
        let (wanted, seen) = watch::channel(Want { wish: 0, registrations: Arc::from([]), yields: false });
        let (told, written) = watch::channel(Written::default());
        (Self { wanted, written }, Desired { wanted: seen, told, hold })
    }

    /// These shall be registered, and nothing else of ours. The same again changes nothing.
    pub fn set(&self, registrations: Arc<[Registration]>) {
        self.wanted.send_if_modified(|want| {
            if want.registrations == registrations {
                return false;
            }
            (want.wish, want.registrations) = (want.wish.saturating_add(1), registrations);
            true
        });
    }

    /// Whether what another process keeps in the same place is left to it from now on, as one does who is followed by another:
    /// it counts as done, and is neither taken over nor taken away. Otherwise, and at first, it is taken over, without a moment in
    /// which it is not there.
    pub fn yields(&self, yields: bool) {
        self.wanted.send_if_modified(|want| {
            if want.yields == yields {
                return false;
            }
            (want.wish, want.yields) = (want.wish.saturating_add(1), yields);
            true
        });
    }

    /// What was desired last.
    pub fn wanted(&self) -> Arc<[Registration]> {
        Arc::clone(&self.wanted.borrow().registrations)
    }

    /// How far the registry is with what was desired last; `None`: it has not looked at that yet.
    pub fn written(&self) -> Option<Written> {
        let written = self.written.borrow().clone();
        (written.wish == self.wanted.borrow().wish).then_some(written)
    }

    /// Waits until all is as it was desired last.
    pub async fn done(&mut self) {
        while self.written().is_none_or(|written| written.pending > 0) {
            if self.written.changed().await.is_err() {
                // Whoever worked on it is gone: nothing will ever be done.
                return std::future::pending().await;
            }
        }
    }
}

/// The end of the registry that works towards what is desired.
#[derive(Debug)]
pub struct Desired {
    wanted: watch::Receiver<Want>,
    told: watch::Sender<Written>,
    hold: Hold,
}

impl Desired {
    /// What is desired now, and the number of this desire.
    pub fn now(&mut self) -> (u64, Arc<[Registration]>) {
        let want = self.wanted.borrow_and_update();
        (want.wish, Arc::clone(&want.registrations))
    }

    /// Whether what another process keeps in the same place is left to it; see [`Wish::yields`].
    pub fn yields(&self) -> bool {
        self.yielding().now()
    }

    /// The same for whoever must know it at any moment.
    pub fn yielding(&self) -> Yielding {
        Yielding { wanted: self.wanted.clone(), hold: self.hold.clone() }
    }

    /// Waits until something else is desired than [`Desired::now`] gave last.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        self.wanted.changed().await.map_err(|_| Closed)
    }

    /// Tells that it begins to write, and that what kept it from that before, as a lost connection does, is over.
    pub fn begins(&self, wish: u64, pending: usize) {
        self.tell(Written { wish, pending, trouble: None });
    }

    /// Tells how far it is.
    pub fn tell(&self, written: Written) {
        self.told.send_replace(written);
    }
}

/// Tells whether what another process keeps in the same place is left to it; see [`Wish::yields`].
#[derive(Clone, Debug)]
pub struct Yielding {
    wanted: watch::Receiver<Want>,
    hold: Hold,
}

impl Yielding {
    /// At this moment: a process may have stood still since it asked the last time.
    pub fn now(&self) -> bool {
        self.wanted.borrow().yields || self.hold.is_over(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(service: &str) -> Registration {
        Registration {
            app: "shop".into(),
            framework: Framework::Dubbo,
            level: Level::Interface,
            service: service.into(),
            protocol: "dubbo".into(),
            address: "10.0.0.1:20880".into(),
            group: None,
            version: None,
            weight: 100,
            started: 0,
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn who_may_write_no_longer_yields_by_the_clock() {
        let hold = Hold::default();
        let ((wish, desired), (_other, also)) = (Wish::held(hold.clone()), Wish::held(hold.clone()));
        assert!(!desired.yields());
        hold.until(Instant::now() + std::time::Duration::from_secs(60));
        assert!(!desired.yields() && !also.yields());
        hold.until(Instant::now());
        assert!(desired.yields() && also.yields());
        hold.until(Instant::now() + std::time::Duration::from_secs(60));
        wish.yields(true);
        assert!(desired.yields() && !also.yields());
    }

    #[tokio::test]
    async fn a_wish_is_done_when_its_last_state_is_written() {
        let (mut wish, mut desired) = Wish::new();
        wish.set([registration("a")].into());
        assert_eq!(desired.changed().await, Ok(()));
        let (first, wanted) = desired.now();
        assert_eq!((wanted.len(), wish.written()), (1, None));
        desired.tell(Written { wish: first, pending: 1, trouble: Some("refused".into()) });
        assert_eq!(wish.written().unwrap().pending, 1);
        wish.set([].into());
        assert_eq!(wish.written(), None, "what is told of an earlier wish says nothing of this one");
        let (second, wanted) = desired.now();
        assert!(wanted.is_empty() && second > first);
        desired.tell(Written { wish: second, ..Written::default() });
        wish.done().await;
        wish.set([].into());
        assert!(wish.written().is_some(), "the same wish is not another one");
        drop(wish);
        assert_eq!(desired.changed().await, Err(Closed));
    }
}
