//! The registries: a `ZooKeeper` and a Nacos that all stories share, and a `ZooKeeper` that one of them may kill.

use super::support::{Child, netns, tail, within};
use super::{nacos, zookeeper};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Where `ZooKeeper` listens.
pub(crate) const ZOOKEEPER: SocketAddr = loopback(2181);
/// Where the one listens that is killed.
const FRAGILE: SocketAddr = loopback(2182);
/// Where Nacos listens for HTTP; 1000 ports above for its own protocol.
pub(crate) const NACOS: SocketAddr = loopback(8848);
/// What a starting JVM may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Starts those that are shared, once. They end with the test process: each has a watchdog.
pub(crate) fn start() {
    static ONCE: OnceLock<[Mutex<Server>; 2]> = OnceLock::new();
    ONCE.get_or_init(|| {
        let mut both = [Server::new("zookeeper", ZOOKEEPER), Server::new("nacos", NACOS)];
        both.iter_mut().for_each(Server::spawn);
        both.iter_mut().for_each(Server::answers);
        both.map(Mutex::new)
    });
}

/// A server in a JVM of its own. It ends with its handle.
pub(crate) struct Server {
    name: &'static str,
    pub(crate) at: SocketAddr,
    dir: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// A `ZooKeeper` that nobody else uses.
    pub(crate) fn fragile() -> Self {
        let mut server = Self::new("fragile", FRAGILE);
        server.run();
        server
    }

    fn new(name: &'static str, at: SocketAddr) -> Self {
        let dir = netns::dir().join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        Self { name, at, dir, child: None }
    }

    /// Starts it, on what it had stored before; it answers.
    pub(crate) fn run(&mut self) {
        self.spawn();
        self.answers();
    }

    fn spawn(&mut self) {
        let command = if self.at == NACOS { nacos::command } else { zookeeper::command };
        self.child = Some(spawned(command(&self.dir, self.at.port()), &self.dir));
    }

    fn answers(&mut self) {
        let child = self.child.as_mut().expect("it was started");
        let answers = if self.at == NACOS { nacos::answers } else { zookeeper::answers };
        let mut ended = None;
        let came = within(START_MAX, || {
            ended = child.ended();
            ended.is_some() || answers(self.at)
        });
        assert!(
            came && ended.is_none(),
            "{} did not start ({ended:?}):\n{}",
            self.name,
            tail(&self.dir.join("log"))
        );
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child = None;
    }
}

fn spawned(mut command: Command, dir: &Path) -> Child {
    let log = dir.join("log");
    let file = File::options().create(true).append(true).open(&log).expect("a log can be created");
    let errors = file.try_clone().expect("a file can be shared");
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
    Child::spawn(&mut command)
}
