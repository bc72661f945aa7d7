//! Where watches put what they know, and where it is read: the last word of each, never a queue.
//!
//! A reader that falls behind sees fewer of the changes, but always the last; nothing grows with the number of changes, and
//! who tells never waits for who reads. A set that is as it was is no news.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    error, fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::{Instance, Mark};

/// What is known of one watched service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Grows with every change of the instances; 0 until they are known.
    pub generation: u64,
    /// Who gives the service, by address, each once; `None`: not known yet. Empty is a statement: the registry is well and
    /// knows nobody.
    pub instances: Option<Arc<[Instance]>>,
    /// Why the registry cannot be asked just now; the instances are the last that it told.
    pub lost: Option<Arc<str>>,
    /// Questions that it answered, so far: more than news that it sent by itself.
    pub answers: u64,
    /// How often it was lost before the instances were told the last time: more than before means that changes were missed.
    pub gaps: u64,
    /// Why it was lost then; `None`: it never was.
    pub gap: Option<Arc<str>>,
}

/// Nobody reads any more: the watch should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("nobody reads this watch any more")
    }
}

impl error::Error for Closed {}

/// The writing end that one watch holds.
#[derive(Debug)]
pub struct Teller {
    watch: usize,
    view: watch::Sender<View>,
    asks: watch::Receiver<u64>,
    news: Arc<News>,
    lost: Mutex<u64>,
    /// Instances of one address that differ in protocol, group or version are different ones.
    whole: bool,
}

impl Teller {
    /// Tells all who give the service, because the registry said so by itself. It is well again, if it was lost.
    pub fn tell(&self, instances: Vec<Instance>) {
        self.say(instances, 0);
    }

    /// The same, as the answer to a question that was asked just now.
    pub fn answer(&self, instances: Vec<Instance>) {
        self.say(instances, 1);
    }

    /// The registry cannot be asked, or its answer cannot be read. The last good set stays.
    pub fn lost(&self, reason: &str) {
        let changed = self.view.send_if_modified(|view| {
            if view.lost.is_none() {
                let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
                *lost = lost.saturating_add(1);
            }
            let same = view.lost.as_deref() == Some(reason);
            view.lost = Some(reason.into());
            !same
        });
        if changed {
            self.news.of(self.watch);
        }
    }

    /// Waits until somebody doubts what was told and wants it asked anew, by an [`Teller::answer`].
    pub async fn doubted(&mut self) -> Result<(), Closed> {
        self.asks.changed().await.map_err(|_| Closed)
    }

    /// Whether all is wanted that is written, at whatever level, as by one who carries it elsewhere; not only what callers would
    /// call.
    pub const fn wants_all(&self) -> bool {
        self.whole
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.view.closed().await;
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.view.is_closed()
    }

    fn say(&self, mut instances: Vec<Instance>, answers: u64) {
        // The first of an address stays: what is written first, or stands for more, is put first; but the original comes before
        // a copy of it.
        let whole = self.whole;
        let same = |one: &Instance, other: &Instance| {
            let apart = (&one.protocol, &one.group, &one.version);
            let apart = apart.cmp(&(&other.protocol, &other.group, &other.version));
            one.address.cmp(&other.address).then(if whole { apart } else { Ordering::Equal })
        };
        let copy = |instance: &Instance| Mark::is_on(&instance.metadata);
        instances.sort_by(|one, other| same(one, other).then_with(|| copy(one).cmp(&copy(other))));
        instances.dedup_by(|later, first| same(later, first).is_eq());
        crate::instance::share(&mut instances);
        let gaps = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.view.send_if_modified(|view| {
            let was_lost = view.lost.is_some();
            view.gap = view.lost.take().or(view.gap.take());
            view.answers = view.answers.saturating_add(answers);
            view.gaps = gaps;
            let same = view.instances.as_ref().is_some_and(|before| {
                before.len() == instances.len() && before.iter().zip(&instances).all(|(a, b)| a.same(b))
            });
            if !same {
                view.generation = view.generation.saturating_add(1);
                view.instances = Some(std::mem::take(&mut instances).into());
            }
            was_lost || !same || answers > 0
        });
        if changed {
            self.news.of(self.watch);
        }
    }
}

/// Which watches have news.
#[derive(Debug, Default)]
struct News {
    of: Mutex<BTreeSet<usize>>,
    some: Notify,
}

impl News {
    fn of(&self, watch: usize) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).insert(watch);
        self.some.notify_one();
    }
}

/// The reading end of all watches.
#[derive(Debug, Default)]
pub struct Board {
    watches: BTreeMap<usize, Reader>,
    next: usize,
    news: Arc<News>,
}

#[derive(Debug)]
struct Reader {
    view: watch::Receiver<View>,
    asks: watch::Sender<u64>,
}

impl Board {
    /// A new watch: its number, and the end that it writes to.
    pub fn open(&mut self) -> (usize, Teller) {
        self.open_with(View::default())
    }

    /// A new watch for who wants all that is written, at whatever level: instances of one address that differ in protocol, group
    /// or version are different ones.
    pub fn open_whole(&mut self) -> (usize, Teller) {
        let (number, teller) = self.open();
        (number, Teller { whole: true, ..teller })
    }

    /// The same where something is known already, from another time.
    pub fn open_with(&mut self, view: View) -> (usize, Teller) {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        let (view, seen) = watch::channel(view);
        let (asks, asked) = watch::channel(0);
        self.watches.insert(number, Reader { view: seen, asks });
        let news = Arc::clone(&self.news);
        (number, Teller { watch: number, view, asks: asked, news, lost: Mutex::new(0), whole: false })
    }

    /// Ends a watch: what it still tells is nobody's.
    pub fn close(&mut self, watch: usize) {
        self.watches.remove(&watch);
    }

    /// What a watch knows; `None`: it was ended.
    pub fn view(&self, watch: usize) -> Option<View> {
        Some(self.watches.get(&watch)?.view.borrow().clone())
    }

    /// Has a watch ask its registry anew.
    pub fn doubt(&self, watch: usize) {
        if let Some(reader) = self.watches.get(&watch) {
            reader.asks.send_modify(|asks| *asks = asks.wrapping_add(1));
        }
    }

    /// Waits for news: the numbers of the watches that have some, each once. Losing the future loses nothing.
    pub async fn news(&self) -> Vec<usize> {
        loop {
            let some = self.news.some.notified();
            let of = std::mem::take(&mut *self.news.of.lock().unwrap_or_else(PoisonError::into_inner));
            if !of.is_empty() {
                return of.into_iter().collect();
            }
            some.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(view: &View) -> Option<Vec<&str>> {
        Some(view.instances.as_ref()?.iter().map(|instance| instance.address.as_str()).collect())
    }

    #[tokio::test]
    async fn a_lost_registry_keeps_the_last_good_set() {
        let mut board = Board::default();
        let (watch, teller) = board.open();
        assert_eq!(board.view(watch), Some(View::default()));
        teller.answer(vec![Instance::new("b:1"), Instance::new("a:1")]);
        teller.lost("gone");
        assert_eq!(board.news().await, [watch]);
        let view = board.view(watch).unwrap();
        assert_eq!((addresses(&view), view.lost.as_deref()), (Some(vec!["a:1", "b:1"]), Some("gone")));
        assert_eq!((view.generation, view.answers, view.gaps, view.gap), (1, 1, 0, None));
        teller.tell(vec![Instance::new("b:1")]);
        let view = board.view(watch).unwrap();
        assert_eq!((addresses(&view), view.lost.as_deref()), (Some(vec!["b:1"]), None));
        assert_eq!((view.generation, view.answers, view.gaps), (2, 1, 1));
        // Why it was lost can still be said, also by who looks late.
        teller.tell(vec![]);
        assert_eq!(board.view(watch).unwrap().gap.as_deref(), Some("gone"));
    }

    #[tokio::test]
    async fn only_a_change_is_news_and_only_the_last_is_kept() {
        let mut board = Board::default();
        let (one, teller) = board.open();
        let (two, other) = board.open();
        for port in 1..100 {
            teller.tell(vec![Instance::new(format!("a:{port}"))]);
        }
        other.tell(Vec::new());
        assert_eq!(board.news().await, [one, two]);
        assert_eq!(addresses(&board.view(one).unwrap()), Some(vec!["a:99"]));
        teller.tell(vec![Instance { started: Some(7), ..Instance::new("a:99") }]);
        teller.tell(vec![Instance::new("a:99"), Instance::new("a:99")]);
        let nothing = std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::pin!(board.news()).poll(context).is_pending())
        });
        assert!(nothing.await, "the same is no news");
        assert_eq!(board.view(one).unwrap().generation, 99);
    }

    #[test]
    fn of_one_address_the_original_counts_and_who_wants_all_has_each_version() {
        let mut board = Board::default();
        let ((one, narrow), (two, whole)) = (board.open(), board.open_whole());
        let versioned = |version: &str| Instance { version: Some(version.into()), ..Instance::new("a:1") };
        let mut copy = versioned("1");
        Mark { origin: "o".into(), bridge: "b".into(), hops: 1 }.write(&mut copy.metadata);
        let all = vec![copy, versioned("1"), versioned("2")];
        narrow.answer(all.clone());
        whole.answer(all);
        assert_eq!(board.view(one).unwrap().instances.unwrap()[..], [versioned("1")]);
        assert_eq!(board.view(two).unwrap().instances.unwrap()[..], [versioned("1"), versioned("2")]);
    }

    #[tokio::test]
    async fn a_doubt_reaches_the_watch_and_an_end_too() {
        let mut board = Board::default();
        let (watch, mut teller) = board.open();
        board.doubt(watch);
        assert_eq!(teller.doubted().await, Ok(()));
        assert!(!teller.is_closed());
        board.close(watch);
        assert_eq!(teller.doubted().await, Err(Closed));
        teller.closed().await;
        teller.tell(vec![Instance::new("a:1")]);
        assert_eq!(board.view(watch), None);
    }
}
