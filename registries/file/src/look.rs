//! Looking at the file: cheap when nothing changed, and never at a half-written one if that can be helped.
//!
//! A look is one `stat` that follows links, so an edit in place, an atomic rename and a swapped symlink (as the
//! kubelet does) are all seen as another stamp. A new stamp is read only when a second look, soon after, finds it
//! again: whoever writes in place has that long to finish. It must never block on a pipe or read without a bound.

use std::{
    fs::{self, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::parse::{Services, parse};

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// A file that never rests is read as it is after this many looks.
const RESTLESS_LOOKS_MAX: u32 = 10;
/// A second look comes after this fraction of the poll interval.
const SECOND_LOOK: u32 = 5;

/// The services in the file, or why there are none to be had, for a person.
pub(crate) type Reading = Result<Services, String>;

/// What a look gave.
pub(crate) struct Look {
    pub(crate) reading: Arc<Reading>,
    /// When to look again.
    pub(crate) again: Duration,
    /// Since when the reading is what it is.
    pub(crate) since: std::time::Instant,
}

/// A file and the last reading of it.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    poll: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    reading: Arc<Reading>,
    /// The stamp that `reading` belongs to; `None`: the file could not be read.
    read: Option<Stamp>,
    /// A newer stamp, seen but not yet read.
    seen: Option<Stamp>,
    /// How many looks in a row found yet another stamp; `<= RESTLESS_LOOKS_MAX`.
    restless: u32,
    /// When the next look is due; `None`: it was never looked at.
    due: Option<Instant>,
    /// Since when `reading` is what it is.
    since: std::time::Instant,
}

/// Tells one content of the file from another without reading it. The change time catches what keeps the
/// modification time, such as `cp -p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl File {
    pub(crate) fn new(path: PathBuf, poll: Duration) -> Self {
        let reading = Arc::new(Err(String::new()));
        let state = Mutex::new(State {
            reading,
            read: None,
            seen: None,
            restless: 0,
            due: None,
            since: std::time::Instant::now(),
        });
        Self { path, poll, state }
    }

    /// The newest reading. Watches that come together share one look.
    pub(crate) fn look(&self) -> Look {
        // A panic elsewhere cannot leave the state half-changed: each look sets it anew.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let wait = state.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        if wait.is_zero() {
            let first = state.due.is_none();
            self.look_now(&mut state, first);
            let again = if state.seen.is_some() { self.poll / SECOND_LOOK } else { self.poll };
            state.due = Some(now + again);
            return Look { reading: Arc::clone(&state.reading), again, since: state.since };
        }
        Look { reading: Arc::clone(&state.reading), again: wait, since: state.since }
    }

    fn look_now(&self, state: &mut State, first: bool) {
        let stamp = match stamp(&self.path) {
            Ok(stamp) => stamp,
            Err(error) => return state.fail(format!("{}: {error}", self.path.display())),
        };
        if state.read == Some(stamp) {
            (state.seen, state.restless) = (None, 0);
            return;
        }
        let rests = first || state.seen == Some(stamp) || state.restless >= RESTLESS_LOOKS_MAX;
        if !rests {
            state.seen = Some(stamp);
            state.restless += 1;
            return;
        }
        match read(&self.path) {
            // Written to while it was read: what was read may be torn. The first reading is better than none.
            Ok((_, after)) if after != stamp && !first && state.restless < RESTLESS_LOOKS_MAX => {
                state.seen = Some(after);
                state.restless += 1;
            }
            Ok((bytes, _)) => {
                let reading = parse(&bytes).map_err(|problem| format!("{}{problem}", self.path.display()));
                state.take(reading);
                state.read = Some(stamp);
            }
            Err(error) => state.fail(format!("{}: {error}", self.path.display())),
        }
    }
}

impl State {
    fn fail(&mut self, reason: String) {
        self.take(Err(reason));
        self.read = None;
    }

    fn take(&mut self, reading: Reading) {
        (self.seen, self.restless) = (None, 0);
        if *self.reading != reading {
            self.reading = Arc::new(reading);
            self.since = std::time::Instant::now();
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    // Opening a pipe would wait for its writer, and the whole control thread with it.
    if meta.is_file() { Ok(Stamp::from(&meta)) } else { Err(io::Error::other("not a regular file")) }
}

/// The bytes, and the stamp once they were read.
fn read(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    (&file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok((bytes, Stamp::from(&file.metadata()?)))
}
