//! What the application said of itself, and the memory of it on disk: it says everything once, and never again after us.
//!
//! One file, replaced as a whole by a thread for work that blocks; what is said while one is written comes into the next. A file
//! that cannot be read or written is a line in the log and nothing more. Must never hold more than its bounds, whoever asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use outrigger_discovery::{Framework, WEIGHT_DEFAULT, WEIGHT_MAX};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle};

/// Services that the application may give.
const PUBLISHED_MAX: usize = 1_000;
/// Services that it may want.
const SUBSCRIBED_MAX: usize = 10_000;
/// Ports that it may say it listens on: each is asked once a second.
const PORTS_MAX: usize = 16;
/// The longest part of a name.
const NAME_MAX: usize = 512;
/// The longest file that is read.
const BYTES_MAX: u64 = 64 << 20;
/// What is written now; a file of another version is not read.
const VERSION: u32 = 1;
/// In the folder where each registry has one of its name, in which no exclamation mark stands as it is.
const FILE: &str = "!learned.json";

/// Which service something is said of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// Whose it is.
    #[serde(with = "framework")]
    pub framework: Framework,
    /// The interface.
    pub service: String,
    /// Its version; of SOFARPC `1.0`, or `1.0:uniqueId`.
    pub version: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// What is spoken there, as the framework calls it.
    pub protocol: String,
}

impl Name {
    /// Whether its parts can stand in the paths of registries and before people's eyes.
    pub fn check(&self) -> Result<(), String> {
        let fits = |part: &str| {
            part.len() <= NAME_MAX
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-$:@".contains(&byte))
                && !part.starts_with('.')
        };
        if self.service.is_empty() || !fits(&self.service) {
            return Err("no name of a service: letters, digits and . _ - $ : @ are".to_owned());
        }
        for (what, part) in [("version", &self.version), ("group", &self.group)] {
            if part.as_deref().is_some_and(|part| !fits(part)) {
                return Err(format!("no {what}: letters, digits and . _ - $ : @ are"));
            }
        }
        if self.protocol.is_empty() || self.protocol.len() > 32 || !fits(&self.protocol) {
            return Err("no name of a protocol".to_owned());
        }
        Ok(())
    }
}

/// As it stands in `/registries`, one for each.
impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { framework, service, version, group, protocol } = self;
        write!(out, "learned/{framework}/{service}")?;
        for (sign, part) in [(":", version), ("@", group)] {
            if let Some(part) = part {
                write!(out, "{sign}{part}")?;
            }
        }
        write!(out, "/{protocol}")
    }
}

mod framework {
    //! The conf's names for frameworks.

    use outrigger_discovery::Framework;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde hands it over so
    pub(super) fn serialize<S: Serializer>(framework: &Framework, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(framework.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Framework, D::Error> {
        let name = String::deserialize(from)?;
        let known = Framework::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| D::Error::custom("no such framework"))
    }
}

/// What the application said of a service that it gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The application's name, if it said one there.
    pub app: Option<String>,
    /// The port where it listens, if it said one.
    pub port: Option<u16>,
    /// Its share beside others.
    pub weight: u32,
    /// What else is told of it.
    pub metadata: BTreeMap<String, String>,
}

impl Default for Published {
    fn default() -> Self {
        Self { app: None, port: None, weight: WEIGHT_DEFAULT, metadata: BTreeMap::new() }
    }
}

/// Everything that the application said and did not take back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// What it calls itself.
    pub app: Option<String>,
    /// What it gives.
    pub published: BTreeMap<Name, Published>,
    /// What it wants.
    pub subscribed: BTreeSet<Name>,
}

impl Memory {
    /// It gives a service; said again, the last word counts. Whether anything is new.
    pub(super) fn publish(&mut self, name: Name, said: Published) -> Result<bool, String> {
        name.check()?;
        if self.published.get(&name) == Some(&said) {
            return Ok(false);
        }
        if !self.published.contains_key(&name) && self.published.len() >= PUBLISHED_MAX {
            return Err(format!("{PUBLISHED_MAX} services are published already"));
        }
        let mut ports: BTreeSet<u16> = self.published.values().filter_map(|said| said.port).collect();
        ports.extend(said.port);
        if ports.len() > PORTS_MAX {
            return Err(format!("services are published on {PORTS_MAX} ports already"));
        }
        self.published.insert(name, said);
        Ok(true)
    }

    /// It wants a service. Whether that is new.
    pub(super) fn subscribe(&mut self, name: Name) -> Result<bool, String> {
        name.check()?;
        if !self.subscribed.contains(&name) && self.subscribed.len() >= SUBSCRIBED_MAX {
            return Err(format!("{SUBSCRIBED_MAX} services are subscribed to already"));
        }
        Ok(self.subscribed.insert(name))
    }
}

/// How the memory stands in its file.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    app: Option<String>,
    published: Vec<KeptPublished>,
    subscribed: Vec<Name>,
}

#[derive(Serialize, Deserialize)]
struct KeptPublished {
    name: Name,
    said: Published,
}

impl From<&Memory> for Kept {
    fn from(memory: &Memory) -> Self {
        let published = memory.published.iter();
        let published =
            published.map(|(name, said)| KeptPublished { name: name.clone(), said: said.clone() });
        Self {
            version: VERSION,
            app: memory.app.clone(),
            published: published.collect(),
            subscribed: memory.subscribed.iter().cloned().collect(),
        }
    }
}

impl From<Kept> for Memory {
    /// By the same gates as when it was said: nobody knows who else can write there.
    fn from(kept: Kept) -> Self {
        let mut memory = Self { app: kept.app, ..Self::default() };
        for KeptPublished { name, mut said } in kept.published {
            said.weight = said.weight.min(WEIGHT_MAX);
            let _ = memory.publish(name, said);
        }
        for name in kept.subscribed {
            let _ = memory.subscribe(name);
        }
        memory
    }
}

/// What the application said when the process ended last; nothing where nothing is known.
pub(super) fn recall(folder: Option<&Path>) -> Memory {
    let Some(path) = folder.map(|folder| folder.join(FILE)) else { return Memory::default() };
    let read = || {
        let file = fs::File::open(&path)?;
        if file.metadata()?.len() > BYTES_MAX {
            return Err(io::Error::other("too long"));
        }
        let kept: Kept = serde_json::from_reader(io::BufReader::new(file)).map_err(io::Error::other)?;
        if kept.version != VERSION {
            return Err(io::Error::other("another version wrote it"));
        }
        Ok(Memory::from(kept))
    };
    match read() {
        Ok(memory) => memory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
        Err(error) => {
            tracing::warn!("what the application said before is not known: {}: {error}", path.display());
            Memory::default()
        }
    }
}

/// Keeps the memory on disk.
#[derive(Debug)]
pub(super) struct Keeper {
    folder: Option<PathBuf>,
    /// Grows with every change.
    changes: u64,
    /// The change up to which everything is written, told to all who wait for that.
    written: watch::Sender<u64>,
    writing: Option<(u64, JoinHandle<io::Result<()>>)>,
    failed: bool,
}

impl Keeper {
    /// Keeps everything in this folder; `None`: nowhere.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, changes: 0, written: watch::channel(0).0, writing: None, failed: false }
    }

    /// Whether everything is kept in this folder.
    pub(super) fn keeps_in(&self, folder: Option<&Path>) -> bool {
        self.folder.as_deref() == folder
    }

    /// Keeps everything in this folder from now on.
    pub(super) fn keep_in(&mut self, folder: Option<PathBuf>, memory: &Memory) {
        if self.folder != folder {
            self.folder = folder;
            self.changed(memory);
        }
    }

    /// The memory is another. The number of this change.
    pub(super) fn changed(&mut self, memory: &Memory) -> u64 {
        self.changes += 1;
        self.begin(memory);
        self.changes
    }

    /// The number of the last change, and where it is told how far they are written.
    pub(super) fn last(&self) -> (u64, watch::Receiver<u64>) {
        (self.changes, self.written.subscribe())
    }

    fn begin(&mut self, memory: &Memory) {
        if self.writing.is_some() || *self.written.borrow() == self.changes {
            return;
        }
        match &self.folder {
            None => drop(self.written.send_replace(self.changes)),
            Some(folder) => {
                let (folder, kept) = (folder.clone(), Kept::from(memory));
                let writes = tokio::task::spawn_blocking(move || write(&folder, &kept));
                self.writing = Some((self.changes, writes));
            }
        }
    }

    /// Waits until a write ends, and begins the next if there is more. Losing the future loses nothing.
    pub(super) async fn step(&mut self, memory: &Memory) {
        let Some((change, writes)) = &mut self.writing else { return std::future::pending().await };
        let result = writes.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let change = *change;
        self.writing = None;
        if let Err(error) = &result
            && !self.failed
        {
            tracing::warn!("what the application says is kept in memory alone: {error}");
        }
        self.failed = result.is_err();
        // Also where it failed: who waits is not helped by waiting.
        self.written.send_replace(change);
        self.begin(memory);
    }

    /// Waits until everything is written.
    pub(super) async fn finish(&mut self, memory: &Memory) {
        while self.writing.is_some() {
            self.step(memory).await;
        }
    }
}

fn write(folder: &Path, kept: &Kept) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(FILE);
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = io::BufWriter::new(fs::File::create(&beside)?);
    serde_json::to_writer(&mut file, kept).map_err(io::Error::other)?;
    file.write_all(b"\n")?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(&beside, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(service: &str) -> Name {
        Name {
            framework: Framework::Sofarpc,
            service: service.into(),
            version: Some("1.0".into()),
            group: None,
            protocol: "bolt".into(),
        }
    }

    fn rich() -> Memory {
        let mut memory = Memory { app: Some("shop".into()), ..Memory::default() };
        let said = Published {
            port: Some(9),
            metadata: BTreeMap::from([("k".into(), "v".into())]),
            ..Published::default()
        };
        memory.publish(name("a.B"), said).unwrap();
        memory
            .subscribe(Name { framework: Framework::Dubbo, group: Some("g".into()), ..name("c.D") })
            .unwrap();
        memory
    }

    #[tokio::test]
    async fn what_was_said_is_known_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let deep = Some(folder.path().join("deep/er"));
        let mut keeper = Keeper::new(deep.clone());
        let mut memory = Memory::default();
        assert_eq!(recall(deep.as_deref()), memory, "nothing was said yet");
        keeper.changed(&memory);
        memory = rich();
        let change = keeper.changed(&memory);
        let (last, mut written) = keeper.last();
        assert_eq!(last, change);
        keeper.finish(&memory).await;
        assert_eq!(*written.borrow_and_update(), change);
        assert_eq!(recall(deep.as_deref()), memory);
        let files: Vec<_> = fs::read_dir(deep.as_ref().unwrap()).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing lies beside it: {files:?}");
        // In another folder from now on.
        let other = Some(folder.path().join("other"));
        keeper.keep_in(other.clone(), &memory);
        keeper.finish(&memory).await;
        assert_eq!(recall(other.as_deref()), memory);
    }

    #[tokio::test]
    async fn nowhere_is_written_at_once_and_a_folder_that_cannot_be_is_not_waited_for() {
        let mut keeper = Keeper::new(None);
        let change = keeper.changed(&rich());
        assert_eq!(*keeper.last().1.borrow(), change);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let mut keeper = Keeper::new(Some(file));
        let change = keeper.changed(&rich());
        keeper.finish(&rich()).await;
        assert_eq!(*keeper.last().1.borrow(), change);
    }

    #[test]
    fn a_file_that_is_broken_is_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let text = serde_json::to_string(&Kept::from(&rich())).unwrap();
        for bad in ["", "{", "[]", "null", &text.replace("\"version\":1,\"app\"", "\"version\":2,\"app\"")] {
            fs::write(folder.path().join(FILE), bad).unwrap();
            assert_eq!(recall(Some(folder.path())), Memory::default(), "{bad}");
        }
        fs::write(folder.path().join(FILE), text.replace("a.B", "a/../B")).unwrap();
        let memory = recall(Some(folder.path()));
        assert!(memory.published.is_empty() && memory.subscribed.len() == 1, "{memory:?}");
    }

    #[test]
    fn there_is_an_end_to_what_may_be_said() {
        let mut memory = Memory::default();
        for number in 0..PUBLISHED_MAX {
            assert_eq!(memory.publish(name(&format!("s{number}")), Published::default()), Ok(true));
        }
        assert!(memory.publish(name("more"), Published::default()).is_err());
        assert_eq!(memory.publish(name("s0"), Published::default()), Ok(false), "it is there already");
        let changed = Published { weight: 7, ..Published::default() };
        assert_eq!(memory.publish(name("s0"), changed), Ok(true), "the last word counts");
        for number in 0..SUBSCRIBED_MAX {
            assert_eq!(memory.subscribe(name(&format!("s{number}"))), Ok(true));
        }
        assert!(memory.subscribe(name("more")).is_err());
        assert_eq!(memory.subscribe(name("s0")), Ok(false));
        let mut memory = Memory::default();
        let on = |port| Published { port: Some(port), ..Published::default() };
        for port in 1..=16 {
            memory.publish(name(&format!("s{port}")), on(port)).unwrap();
        }
        assert!(memory.publish(name("s17"), on(17)).is_err() && memory.publish(name("s17"), on(16)).is_ok());
    }

    #[test]
    fn names_that_could_do_harm_are_none() {
        let long = "x".repeat(NAME_MAX + 1);
        for bad in
            ["", "a/b", "../x", ".", "a b", "a\nb", "a\u{1b}[2J", "\u{fc}", "a?b", "a&b", "a%2fb", &long]
        {
            assert!(name(bad).check().is_err(), "{bad}");
            if !bad.is_empty() {
                assert!(Name { version: Some(bad.into()), ..name("s") }.check().is_err(), "{bad}");
                assert!(Name { group: Some(bad.into()), ..name("s") }.check().is_err(), "{bad}");
            }
            assert!(Name { protocol: bad.into(), ..name("s") }.check().is_err(), "{bad}");
        }
        for good in ["peer.api.Demo$Inner", "CIMT000070@xr", "a-b_c"] {
            assert_eq!(name(good).check(), Ok(()), "{good}");
        }
    }
}
