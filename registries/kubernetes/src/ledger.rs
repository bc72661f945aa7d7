//! What all registrations of the registry together desire, and what came of it.
//!
//! Several wishes may come to stand in one slice, so one writer works on all of them. A wish that ends is gone from here, and
//! thereby what it desired from the server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use outrigger_discovery::Registration;
use tokio::sync::watch;

use crate::link::{Shared, lock};

/// What one of them desires.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The number of the wish.
    pub(crate) wish: u64,
    pub(crate) registrations: Arc<[Registration]>,
    /// Whether what another process keeps is left to it.
    pub(crate) yields: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) wish: u64,
    pub(crate) pending: usize,
    pub(crate) trouble: Option<String>,
}

/// All of them, by number.
pub(crate) struct Ledger {
    rows: Mutex<Book>,
    changes: watch::Sender<u64>,
    told: watch::Sender<Arc<BTreeMap<u64, Told>>>,
}

#[derive(Default)]
struct Book {
    rows: BTreeMap<u64, Row>,
    next: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        let (changes, told) = (watch::Sender::new(0), watch::Sender::default());
        Self { rows: Mutex::default(), changes, told }
    }
}

impl Ledger {
    /// A place for a wish.
    pub(crate) fn open(shared: &Arc<Shared>) -> Place {
        let mut book = lock(&shared.ledger.rows);
        let number = book.next;
        book.next = book.next.saturating_add(1);
        Place { shared: Arc::clone(shared), number }
    }

    pub(crate) fn rows(&self) -> BTreeMap<u64, Row> {
        lock(&self.rows).rows.clone()
    }

    /// Tells when anything of it changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn tell(&self, told: BTreeMap<u64, Told>) {
        self.told.send_replace(Arc::new(told));
    }

    /// What came of it, and every change of that.
    pub(crate) fn told(&self) -> watch::Receiver<Arc<BTreeMap<u64, Told>>> {
        self.told.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// The place of one wish; what it desired ends with it.
pub(crate) struct Place {
    shared: Arc<Shared>,
    pub(crate) number: u64,
}

impl Place {
    pub(crate) fn set(&self, row: Row) {
        let ledger = &self.shared.ledger;
        let about = (row.wish, row.yields);
        let before = lock(&ledger.rows).rows.insert(self.number, row);
        if before.is_none_or(|before| (before.wish, before.yields) != about) {
            ledger.changed();
        }
    }

    pub(crate) fn clear(&self) {
        let ledger = &self.shared.ledger;
        if lock(&ledger.rows).rows.remove(&self.number).is_some() {
            ledger.changed();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}
