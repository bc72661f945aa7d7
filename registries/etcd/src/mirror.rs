//! What is known of a range of keys, kept as the server has it.
//!
//! A [`Mirror`] is shared by everybody who looks at its range. It is read once for each connection, and then told every
//! change; [`crate::stream`] does both. What was known before a gap is not thrown away: the server is asked only for what
//! changed since, and for how many keys there are; if that many are known then, all of them are ([`Mirror::take`]). So a
//! gap costs an empty answer where nothing happened, and compaction of the past takes nothing away. Decides nothing about
//! what is in the values. Nothing here grows with the number of changes: each is applied at once, and who looks sees the last.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::{Notify, watch};

use crate::{session::lock, wire::KeyValue};

/// Keys from the first (it is one of them) to before the second; no second: that key alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Range {
    start: String,
    is_below: bool,
}

impl Range {
    /// A single key.
    pub(crate) fn key(key: &str) -> Self {
        Self { start: key.to_owned(), is_below: false }
    }

    /// All keys that begin with a prefix, which ends with a slash.
    pub(crate) fn below(prefix: &str) -> Self {
        Self { start: prefix.to_owned(), is_below: true }
    }

    /// The key, or the prefix.
    pub(crate) fn start(&self) -> &str {
        &self.start
    }

    /// The first key that does not belong to it; `None`: it is a single key.
    pub(crate) fn end(&self) -> Option<Vec<u8>> {
        self.is_below.then(|| after(self.start.as_bytes()))
    }

    /// What comes after the prefix, or the single key itself; `None`: the key marks a directory, or is not in the range.
    pub(crate) fn node<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        if !self.is_below {
            return Some(key).filter(|key| *key == self.start.as_bytes());
        }
        key.strip_prefix(self.start.as_bytes()).filter(|node| !node.is_empty())
    }
}

/// The first key that does not begin with the prefix: its last byte one higher. A prefix ends with a slash, so there is room.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Vec<u8>,
    /// The lease that it goes with; 0: it stays.
    pub(crate) lease: i64,
    /// The revision at which the key came to be.
    pub(crate) created: i64,
    /// The revision of its last change.
    pub(crate) changed: i64,
}

impl Entry {
    /// What stands under which key.
    pub(crate) fn of(kv: KeyValue) -> (Vec<u8>, Self) {
        let KeyValue { key, create_revision: created, mod_revision: changed, value, lease } = kv;
        (key, Self { value, lease, created, changed })
    }
}

/// An answer of the server about a range.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// The revision that it is true at.
    pub(crate) revision: i64,
    /// How many keys there are.
    pub(crate) count: usize,
    /// Those that changed after the revision that was asked about, or all.
    pub(crate) entries: Vec<(Vec<u8>, Entry)>,
    /// Whether these are all.
    pub(crate) is_whole: bool,
}

/// What happened to a key.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: Vec<u8>,
    pub(crate) revision: i64,
    /// `None`: it was deleted.
    pub(crate) entry: Option<Entry>,
}

/// What is known of a range.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By key.
    pub(crate) entries: BTreeMap<Vec<u8>, Entry>,
    /// Everything up to this revision is known; 0: nothing is.
    revision: i64,
    /// In which epoch of the connection it was read last; 0: in none.
    pub(crate) epoch: u64,
    /// The last question ([`Mirror::ask`]) that was answered.
    pub(crate) answered: u64,
    asked: u64,
    /// Why it cannot be read.
    pub(crate) trouble: Option<Arc<str>>,
    /// Whether it waits already for being asked about.
    is_queued: bool,
    /// The watch of the present epoch; 0: there is none.
    watch: i64,
}

impl State {
    /// Takes an answer in; `false`: more must be asked, because keys are gone and it does not say which.
    fn take(&mut self, read: Read) -> bool {
        if read.revision < self.revision {
            // What was told since knows better.
            return true;
        }
        if read.is_whole {
            self.entries = read.entries.into_iter().collect();
        } else {
            self.entries.extend(read.entries);
            if self.entries.len() != read.count {
                return false;
            }
        }
        self.revision = read.revision;
        true
    }

    /// Takes in what the server told; whether anything of it was new.
    fn change(&mut self, changes: Vec<Change>) -> bool {
        let known = self.revision;
        let mut is_new = false;
        for Change { key, revision, entry } in changes.into_iter().filter(|one| one.revision > known) {
            match entry {
                Some(entry) => drop(self.entries.insert(key, entry)),
                None => drop(self.entries.remove(&key)),
            }
            // Those of one revision come together.
            self.revision = self.revision.max(revision);
            is_new = true;
        }
        is_new
    }
}

/// A range that somebody looks at.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) range: Range,
    sight: Arc<Sight>,
    state: Mutex<State>,
    told: watch::Sender<()>,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let watch = self.state.get_mut().map_or(0, |state| state.watch);
        let mut wants = lock(&self.sight.wants);
        if wants.mirrors.get(&self.range).is_some_and(|mirror| mirror.strong_count() == 0) {
            wants.mirrors.remove(&self.range);
        }
        if watch > 0 {
            wants.dropped.push(watch);
        }
        drop(wants);
        self.sight.bell.notify_one();
    }
}

impl Mirror {
    /// Looks at what is known.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.state))
    }

    /// Hears of every change.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// Has it read anew; what answers this has the number, or a later one, in [`State::answered`].
    pub(crate) fn ask(self: &Arc<Self>) -> u64 {
        let mut state = lock(&self.state);
        state.asked = state.asked.saturating_add(1);
        let number = state.asked;
        drop(state);
        self.queue();
        number
    }

    /// Has it asked about, soon.
    fn queue(self: &Arc<Self>) {
        let waits = std::mem::replace(&mut lock(&self.state).is_queued, true);
        if !waits {
            lock(&self.sight.wants).asking.push(Arc::downgrade(self));
            self.sight.bell.notify_one();
        }
    }

    /// A question about it begins: its number, and the revision since which changes are asked for; 0: for everything.
    pub(crate) fn asking(&self) -> (u64, i64) {
        let mut state = lock(&self.state);
        state.is_queued = false;
        (state.asked, state.revision)
    }

    /// Takes an answer in; the revision from which it wants to be told changes, if nobody tells it yet. `Err`: everything must be
    /// asked for.
    pub(crate) fn take(&self, read: Read, asked: u64, epoch: u64) -> Result<Option<i64>, ()> {
        let mut state = lock(&self.state);
        if !state.take(read) {
            return Err(());
        }
        state.answered = state.answered.max(asked);
        (state.epoch, state.trouble) = (epoch, None);
        let from = (state.watch == 0).then(|| state.revision.saturating_add(1));
        drop(state);
        self.told.send_replace(());
        Ok(from)
    }

    /// Changes are told under this number from now on.
    pub(crate) fn is_watched(&self, watch: i64) {
        lock(&self.state).watch = watch;
    }

    /// Nobody tells it changes any more: it must be read anew before it counts as known.
    pub(crate) fn is_blind(&self) {
        let mut state = lock(&self.state);
        (state.watch, state.epoch) = (0, 0);
    }

    /// What the server told.
    pub(crate) fn change(&self, changes: Vec<Change>) {
        if lock(&self.state).change(changes) {
            self.told.send_replace(());
        }
    }

    /// The server told that nothing happened up to a revision.
    pub(crate) fn progress(&self, revision: i64) {
        let mut state = lock(&self.state);
        state.revision = state.revision.max(revision);
    }

    /// It cannot be read, for this reason.
    pub(crate) fn fail(&self, why: &str) {
        lock(&self.state).trouble = Some(why.into());
        self.told.send_replace(());
    }
}

/// All ranges that somebody looks at.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    wants: Mutex<Wants>,
    /// Rung when somebody wants something.
    pub(crate) bell: Notify,
}

#[derive(Debug, Default)]
struct Wants {
    mirrors: HashMap<Range, Weak<Mirror>>,
    /// Those that are to be asked about, each once.
    asking: Vec<Weak<Mirror>>,
    /// Watches that nobody needs any more.
    dropped: Vec<i64>,
}

impl Sight {
    /// The mirror of a range; the first who wants it has it read.
    pub(crate) fn open(self: &Arc<Self>, range: &Range) -> Arc<Mirror> {
        let mut wants = lock(&self.wants);
        if let Some(mirror) = wants.mirrors.get(range).and_then(Weak::upgrade) {
            return mirror;
        }
        let mirror = Arc::new(Mirror {
            range: range.clone(),
            sight: Arc::clone(self),
            state: Mutex::default(),
            told: watch::Sender::new(()),
        });
        wants.mirrors.insert(range.clone(), Arc::downgrade(&mirror));
        drop(wants);
        mirror.queue();
        mirror
    }

    /// A connection begins: nobody is told anything any more, and all are to be asked about.
    pub(crate) fn begin(&self) -> Vec<Weak<Mirror>> {
        let mut wants = lock(&self.wants);
        wants.dropped.clear();
        wants.asking.clear();
        let all: Vec<_> = wants.mirrors.values().cloned().collect();
        drop(wants);
        for mirror in all.iter().filter_map(Weak::upgrade) {
            mirror.is_blind();
            lock(&mirror.state).is_queued = true;
        }
        all
    }

    /// Who is to be asked about, and the watches that nobody needs any more.
    pub(crate) fn wanted(&self) -> (Vec<Weak<Mirror>>, Vec<i64>) {
        let mut wants = lock(&self.wants);
        (std::mem::take(&mut wants.asking), std::mem::take(&mut wants.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(changed: i64) -> Entry {
        Entry { value: Vec::new(), lease: 0, created: 1, changed }
    }

    fn named(state: &State) -> Vec<(String, i64)> {
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        state.entries.iter().map(|(key, entry)| (text(key), entry.changed)).collect()
    }

    fn read(revision: i64, count: usize, entries: &[(&str, i64)], is_whole: bool) -> Read {
        let entries = entries.iter().map(|(key, changed)| (key.as_bytes().to_vec(), entry(*changed)));
        Read { revision, count, entries: entries.collect(), is_whole }
    }

    fn put(key: &str, revision: i64) -> Change {
        Change { key: key.into(), revision, entry: Some(entry(revision)) }
    }

    fn gone(key: &str, revision: i64) -> Change {
        Change { key: key.into(), revision, entry: None }
    }

    #[test]
    fn a_prefix_is_no_other_that_begins_alike() {
        let range = Range::below("/a/Foo/");
        assert_eq!(range.end().unwrap(), b"/a/Foo0");
        assert_eq!(range.node(b"/a/Foo/x"), Some(&b"x"[..]));
        assert_eq!(range.node(b"/a/Foo/"), None, "a marker");
        assert_eq!(range.node(b"/a/FooBar/x"), None);
        let key = Range::key("/a");
        assert_eq!((key.end(), key.node(b"/a"), key.node(b"/a/b")), (None, Some(&b"/a"[..]), None));
    }

    #[test]
    fn what_is_known_is_asked_about_since_then_only() {
        let mut state = State::default();
        assert!(state.take(read(10, 2, &[("a", 5), ("b", 6)], true)));
        assert!(state.change(vec![put("c", 11), gone("a", 12)]));
        assert_eq!(named(&state), [("b".to_owned(), 6), ("c".to_owned(), 11)]);
        // After a gap: one changed, one came, and the number is right.
        assert!(state.take(read(20, 3, &[("b", 15), ("d", 16)], false)));
        assert_eq!(named(&state).len(), 3);
        // After another: the number is not, so one is gone, and nobody says which.
        assert!(!state.take(read(30, 3, &[("e", 25)], false)));
        assert_eq!(state.revision, 20, "it is not known up to there");
        assert!(state.take(read(31, 3, &[("b", 15), ("d", 16), ("e", 25)], true)));
        assert_eq!(named(&state).iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["b", "d", "e"]);
    }

    #[test]
    fn what_was_told_already_is_not_told_again() {
        let mut state = State::default();
        assert!(state.take(read(10, 1, &[("a", 5)], true)));
        assert!(!state.change(vec![gone("a", 9)]), "the answer knows of it already");
        assert!(state.change(vec![put("a", 11), put("b", 11)]), "two of one revision");
        // A late answer of before takes nothing back.
        assert!(state.take(read(10, 1, &[("a", 5)], true)));
        assert_eq!(named(&state), [("a".to_owned(), 11), ("b".to_owned(), 11)]);
    }

    #[tokio::test]
    async fn a_mirror_is_shared_asked_about_once_and_forgotten() {
        let sight = Arc::new(Sight::default());
        let range = Range::key("/a");
        let (one, two) = (sight.open(&range), sight.open(&range));
        assert!(Arc::ptr_eq(&one, &two));
        one.ask();
        one.ask();
        let (asking, dropped) = sight.wanted();
        assert_eq!((asking.len(), dropped.len()), (1, 0));
        let (asked, since) = one.asking();
        assert_eq!((asked, since), (2, 0));
        assert_eq!(one.take(read(7, 0, &[], true), asked, 1), Ok(Some(8)));
        one.is_watched(3);
        assert_eq!(one.look(|state| (state.answered, state.epoch)), (2, 1));
        drop((one, two));
        assert_eq!(sight.wanted().1, [3]);
        assert!(lock(&sight.wants).mirrors.is_empty());
    }
}
