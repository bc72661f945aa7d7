//! The last word of each registry, kept on disk: a process that starts while a registry cannot be asked begins with it.
//!
//! One file a service, replaced as a whole and only a moment after the last change, by a thread of its own. A file that cannot
//! be read or written is a line in the log and nothing more: the registry is the truth, this is a memory of it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_discovery::{Instance, ServiceKey, check_address};
use serde::{Deserialize, Serialize};

/// How long after a change it is written: changes come in bursts.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// The longest file that is read.
const BYTES_MAX: u64 = 16 << 20;
/// What is written now; a file of another version is not read.
const VERSION: u32 = 1;

/// What registries say of services, by the registry's name.
type Said = BTreeMap<(String, ServiceKey), Arc<[Instance]>>;

/// What is to be kept, and where.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    folder: Option<PathBuf>,
    waiting: Said,
    due: Option<Instant>,
}

impl Keeper {
    /// Keeps everything in this folder from now on; `None`: nowhere.
    pub(super) fn keep_in(&mut self, folder: Option<PathBuf>) {
        self.folder = folder;
    }

    /// What a registry said last of a service, as far as it is known.
    pub(super) fn recall(&self, registry: &str, key: &ServiceKey) -> Option<Vec<Instance>> {
        let path = path(self.folder.as_ref()?, registry, key);
        match read(&path) {
            Ok(kept) if kept.key == Key::from(key) && kept.version == VERSION => {
                let instances = kept.instances.into_iter().map(Instance::from);
                Some(instances.filter(|instance| check_address(&instance.address).is_ok()).collect())
            }
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("what a registry said last is not known: {}: {error}", path.display());
                None
            }
        }
    }

    /// This is what a registry says of a service now.
    pub(super) fn keep(
        &mut self,
        registry: &str,
        key: &ServiceKey,
        instances: &Arc<[Instance]>,
        now: Instant,
    ) {
        if self.folder.is_some() {
            self.waiting.insert((registry.to_owned(), key.clone()), Arc::clone(instances));
            self.due.get_or_insert(now + DEBOUNCE);
        }
    }

    /// When [`Keeper::write_due`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes what waited long enough, on a thread for work that blocks.
    pub(super) fn write_due(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            let (folder, waiting) = self.take();
            tokio::task::spawn_blocking(move || write_each(folder.as_deref(), waiting));
        }
    }

    /// Writes all that waits, now.
    pub(super) fn write_all(&mut self) {
        let (folder, waiting) = self.take();
        write_each(folder.as_deref(), waiting);
    }

    fn take(&mut self) -> (Option<PathBuf>, Said) {
        self.due = None;
        (self.folder.clone(), std::mem::take(&mut self.waiting))
    }
}

fn write_each(folder: Option<&Path>, waiting: Said) {
    let Some(folder) = folder else { return };
    for ((registry, key), instances) in waiting {
        let path = path(folder, &registry, &key);
        let instances = instances.iter().map(KeptInstance::from).collect();
        if let Err(error) = write(&path, &Kept { version: VERSION, key: Key::from(&key), instances }) {
            // One line for all of them: what fails for one fails for the others.
            return tracing::warn!("what registries say cannot be kept: {}: {error}", path.display());
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    key: Key,
    instances: Vec<KeptInstance>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    framework: String,
    service: String,
    version: Option<String>,
    group: Option<String>,
    protocol: Option<String>,
}

impl From<&ServiceKey> for Key {
    fn from(key: &ServiceKey) -> Self {
        let ServiceKey { service, group, version, framework, protocol } = key.clone();
        Self { framework: framework.name().to_owned(), service, version, group, protocol }
    }
}

#[derive(Serialize, Deserialize)]
struct KeptInstance {
    address: String,
    weight: u32,
    version: Option<String>,
    group: Option<String>,
    protocol: Option<String>,
    started: Option<u64>,
    metadata: BTreeMap<String, String>,
}

impl From<&Instance> for KeptInstance {
    fn from(instance: &Instance) -> Self {
        let Instance { address, weight, version, group, protocol, started, metadata } = instance.clone();
        Self { address, weight, version, group, protocol, started, metadata: metadata.into() }
    }
}

impl From<KeptInstance> for Instance {
    fn from(kept: KeptInstance) -> Self {
        let KeptInstance { address, weight, version, group, protocol, started, metadata } = kept;
        Self { address, weight, version, group, protocol, started, metadata: metadata.into() }
    }
}

/// Names of services go into names of files with every other character escaped, each to one file.
fn path(folder: &Path, registry: &str, key: &ServiceKey) -> PathBuf {
    let mut name = key.framework.name().to_owned();
    let parts = [Some(&key.service), key.version.as_ref(), key.group.as_ref(), key.protocol.as_ref()];
    for part in parts {
        name.push('!');
        escape(part.map_or("", |part| part), &mut name);
    }
    // File systems take 255 bytes; what is longer is told apart by its first ones and a check of the key that is read.
    name.truncate(240);
    let mut of = String::new();
    escape(registry, &mut of);
    folder.join(of).join(name + ".json")
}

fn escape(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'$') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    let file = fs::File::open(path)?;
    if file.metadata()?.len() > BYTES_MAX {
        return Err(io::Error::other("too long"));
    }
    serde_json::from_reader(io::BufReader::new(file)).map_err(io::Error::other)
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut text = serde_json::to_vec(kept).map_err(io::Error::other)?;
    text.push(b'\n');
    // Not waited for until it is on the disk: what a power cut spoils is not read, and the end of a process must not wait for
    // thousands of them.
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(service: &str) -> ServiceKey {
        ServiceKey { version: Some("1.0/../..".into()), ..ServiceKey::new(service) }
    }

    fn rich() -> Instance {
        Instance {
            weight: 7,
            version: Some("1".into()),
            started: Some(9),
            metadata: BTreeMap::from([("zone".into(), "a".into())]).into(),
            ..Instance::new("10.0.0.1:1")
        }
    }

    #[test]
    fn what_is_kept_is_known_again_and_only_by_its_own_key() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::default();
        let now = Instant::now();
        keeper.keep("zk", &key("s"), &[rich()].into(), now);
        assert_eq!((keeper.due(), keeper.recall("zk", &key("s"))), (None, None), "nowhere is nowhere");
        keeper.keep_in(Some(folder.path().join("deep/er")));
        keeper.keep("zk", &key("s"), &[].into(), now);
        keeper.keep("zk", &key("s"), &[rich()].into(), now);
        assert_eq!(keeper.due(), Some(now + DEBOUNCE));
        keeper.write_all();
        assert_eq!(keeper.recall("zk", &key("s")), Some(vec![rich()]));
        for (registry, key) in [("zk", key("t")), ("nacos", key("s")), ("zk", ServiceKey::new("s"))] {
            assert_eq!(keeper.recall(registry, &key), None);
        }
    }

    #[test]
    fn a_file_that_is_broken_is_no_memory_and_no_name_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::default();
        keeper.keep_in(Some(folder.path().to_owned()));
        let at = path(folder.path(), "../zk", &key("../../s\u{0}"));
        assert_eq!(at.parent().and_then(Path::parent), Some(folder.path()), "{}", at.display());
        let at = path(folder.path(), "zk", &key("s"));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        for text in ["", "{", "{\"version\":1}", "[]", "null"] {
            fs::write(&at, text).unwrap();
            assert_eq!(keeper.recall("zk", &key("s")), None, "{text}");
        }
        let long = key(&"s".repeat(5_000));
        keeper.keep("zk", &long, &[rich()].into(), Instant::now());
        keeper.write_all();
        assert_eq!(keeper.recall("zk", &long), Some(vec![rich()]));
        assert_eq!(keeper.recall("zk", &key(&"s".repeat(5_001))), None, "another's file");
    }
}
