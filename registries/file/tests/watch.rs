//! The file registry over real files: the suite of every registry, and what only a file can do.
//!
//! Each test has a directory of its own and a short poll interval. Nothing here may depend on a sleep being long
//! enough for news to arrive: news is awaited, and only silence is timed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use outrigger_discovery::{
    Board, Instance, Registry, ServiceKey, View,
    conformance::{self, Fixture},
};
use outrigger_registry_file::{FileRegistry, open, open_polled};
use tempfile::TempDir;
use tokio::time;

const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);

/// A file that is written in turn by rename and in place, and broken in turn by a mistake and by removal.
struct Yaml {
    _dir: TempDir,
    path: PathBuf,
    registry: FileRegistry,
    services: BTreeMap<String, Vec<Instance>>,
    turns: u32,
}

impl Yaml {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("services.yaml");
        let registry = open_polled(&path, POLL);
        Self { _dir: dir, path, registry, services: BTreeMap::new(), turns: 0 }
    }

    fn turn(&mut self) -> bool {
        self.turns += 1;
        self.turns.is_multiple_of(2)
    }

    fn write(&mut self) {
        let mut text = String::from("services:\n  unwatched: []\n");
        for (service, instances) in &self.services {
            let lines: Vec<String> = instances.iter().map(line).collect();
            writeln!(text, "  {service}: [{}]", lines.join(", ")).expect("a line");
        }
        if self.turn() { replace(&self.path, &text) } else { fs::write(&self.path, text) }.expect("a file");
    }
}

fn line(instance: &Instance) -> String {
    let Instance { address, weight, version, group, metadata, .. } = instance;
    let mut line = format!("{{ address: \"{address}\", weight: {weight}");
    for (key, value) in [("version", version), ("group", group)] {
        if let Some(value) = value {
            write!(line, ", {key}: \"{value}\"").expect("a line");
        }
    }
    let pairs: Vec<String> = metadata.iter().map(|(key, value)| format!("{key}: \"{value}\"")).collect();
    format!("{line}, metadata: {{ {} }} }}", pairs.join(", "))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(beside, path)
}

impl Fixture for Yaml {
    fn registry(&self) -> &dyn Registry {
        &self.registry
    }

    fn patience(&self) -> Duration {
        POLL * 15
    }

    async fn put(&mut self, service: &str, instances: &[Instance]) {
        self.services.insert(service.to_owned(), instances.to_vec());
        self.write();
    }

    async fn break_it(&mut self) {
        if self.turn() { fs::remove_file(&self.path) } else { fs::write(&self.path, "services: [") }
            .expect("a broken file");
    }

    async fn mend_it(&mut self) {
        self.write();
    }
}

#[tokio::test]
async fn the_suite_of_every_registry_holds() {
    let mut yaml = Yaml::new();
    // Each kind of breaking and of writing meets each case, since the turns are odd in number.
    for _ in 0..2 {
        conformance::run(&mut yaml).await;
        yaml.services.clear();
        yaml.turns += 1;
    }
}

/// A watch of `s` in the file at `path`.
struct News {
    board: Board,
    watch: usize,
    task: tokio::task::JoinHandle<()>,
}

impl News {
    fn of(path: &Path) -> Self {
        Self::polled(path, POLL)
    }

    fn polled(path: &Path, poll: Duration) -> Self {
        Self::from(&open_polled(path, poll))
    }

    fn from(registry: &FileRegistry) -> Self {
        let mut board = Board::default();
        let (watch, teller) = board.open();
        let task = tokio::spawn(registry.watch(ServiceKey::new("s"), teller));
        Self { board, watch, task }
    }

    async fn next(&mut self) -> View {
        time::timeout(PATIENCE, self.board.news()).await.expect("news in time");
        self.board.view(self.watch).expect("an open watch")
    }

    /// The next set of a file that is well.
    async fn set(&mut self) -> Vec<Instance> {
        let view = self.next().await;
        assert_eq!(view.lost, None);
        view.instances.expect("instances").to_vec()
    }

    async fn reason(&mut self) -> String {
        self.next().await.lost.expect("a loss").to_string()
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn all(addresses: &[&str]) -> Vec<Instance> {
    addresses.iter().map(|address| Instance::new(*address)).collect()
}

#[tokio::test]
async fn a_mistake_is_told_with_file_line_and_column_and_takes_nothing_away() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("s.yaml");
    fs::write(&path, "services:\n  s: [a:1]\n").expect("a file");
    let mut news = News::of(&path);
    assert_eq!(news.set().await, all(&["a:1"]));
    fs::write(&path, "services:\n  s: [a:1, b:0]\n").expect("a file");
    let reason = news.reason().await;
    assert!(reason.starts_with(&format!("{}:2:12: ", path.display())), "{reason}");
    fs::write(&path, "services:\n  s: [a:1, b:2]\n  s: []\n").expect("a file");
    let another = news.reason().await;
    assert_ne!(reason, another, "another mistake is news, the same one is not");
    fs::write(&path, "services:\n  s: [a:1, b:2]\n").expect("a file");
    assert_eq!(news.set().await, all(&["a:1", "b:2"]));
}

#[tokio::test]
async fn a_file_that_does_not_exist_yet_is_lost_until_it_does() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("s.yaml");
    let mut news = News::of(&path);
    assert!(news.reason().await.contains("No such file"));
    fs::write(&path, "services: { s: [a:1] }").expect("a file");
    assert_eq!(news.set().await, all(&["a:1"]));
}

#[tokio::test]
async fn a_swapped_symlink_is_a_change() {
    let dir = TempDir::new().expect("a directory");
    let (old, new, path) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("s.yaml"));
    // The same length and, within the clock's grain, the same time: only the inode tells them apart.
    fs::write(&old, "services: { s: [a:1] }").expect("a file");
    fs::write(&new, "services: { s: [a:2] }").expect("a file");
    symlink(&old, &path).expect("a link");
    let mut news = News::of(&path);
    assert_eq!(news.set().await, all(&["a:1"]));
    let beside = dir.path().join("beside");
    symlink(&new, &beside).expect("a link");
    fs::rename(&beside, &path).expect("a rename");
    assert_eq!(news.set().await, all(&["a:2"]));
}

#[tokio::test]
async fn a_file_being_written_in_place_is_not_read_half() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("s.yaml");
    fs::write(&path, "services:\n  s:\n    - a:1\n    - b:1\n").expect("a file");
    let mut news = News::polled(&path, Duration::from_secs(1));
    assert_eq!(news.set().await.len(), 2);
    // Every prefix but the last is a well-formed file without `b:1`: read too early, it would leave. The writing takes
    // longer than from look to look, and its pauses are far shorter than from a look to the second look.
    let mut file = fs::File::create(&path).expect("a file");
    file.write_all(b"services:\n  s:\n    - a:1\n").expect("a write");
    for _ in 0..60 {
        time::sleep(Duration::from_millis(20)).await;
        file.write_all(b"    #\n").expect("a write");
    }
    file.write_all(b"    - b:1\n    - c:1\n").expect("a write");
    assert_eq!(news.set().await, all(&["a:1", "b:1", "c:1"]));
}

#[tokio::test]
async fn a_pipe_or_a_directory_is_refused_without_waiting_for_it() {
    let dir = TempDir::new().expect("a directory");
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    for path in [pipe.as_path(), dir.path()] {
        assert!(News::of(path).reason().await.contains("not a regular file"));
    }
}

#[tokio::test]
async fn a_file_beyond_the_bound_is_refused() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("s.yaml");
    fs::File::create(&path).and_then(|file| file.set_len(17 << 20)).expect("a long file");
    assert!(News::of(&path).reason().await.contains("longer than"));
}

#[tokio::test]
async fn by_default_a_change_arrives_within_a_second() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("s.yaml");
    fs::write(&path, "services: { s: [a:1] }").expect("a file");
    let mut news = News::from(&open(&path));
    assert_eq!(news.set().await, all(&["a:1"]));
    let written = Instant::now();
    fs::write(&path, "services: { s: [a:1, b:1] }").expect("a file");
    assert_eq!(news.set().await, all(&["a:1", "b:1"]));
    let took = written.elapsed();
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}
