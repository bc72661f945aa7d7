//! A registry's server in a JVM of its own, which can be killed, made to hang and started again, and what stands in it.
//!
//! It listens inside the tests' own network only. What it is asked here, and told, goes by the tests' own means.

use super::support::raw::Wire;
use super::support::{Child, netns, tail, within};
use super::world::LOOK;
use super::{nacos, zookeeper};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What a starting JVM may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);
/// The session that the sidecars ask `ZooKeeper` for.
const SESSION: Duration = Duration::from_secs(4);

/// Which registry, and whose services stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With services of Dubbo.
    ZooKeeper,
    /// With services of SOFARPC.
    Nacos,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ZooKeeper => "zookeeper",
            Self::Nacos => "nacos",
        }
    }

    /// What the services speak.
    pub(crate) fn wire(self) -> Wire {
        match self {
            Self::ZooKeeper => Wire::Dubbo,
            Self::Nacos => Wire::V1,
        }
    }

    pub(crate) fn framework(self) -> &'static str {
        match self {
            Self::ZooKeeper => "dubbo",
            Self::Nacos => "sofarpc",
        }
    }

    /// The registry as the conf has it.
    pub(crate) fn conf(self, address: &str) -> String {
        match self {
            Self::ZooKeeper => {
                let session = SESSION.as_secs();
                format!("zookeeper: {{ address: \"{address}\", session_timeout: {session}s }}")
            }
            Self::Nacos => format!("nacos: {{ address: \"{address}\" }}"),
        }
    }

    /// So long after the last word of a sidecar the server has forgotten it, and a sidecar has given up a server that hangs.
    pub(crate) fn past_the_session(self) -> Duration {
        match self {
            Self::ZooKeeper => SESSION * 2,
            // What is registered is bound to a connection, and ends with it.
            Self::Nacos => Duration::from_secs(6),
        }
    }

    /// The ports of the servers: those of Nacos use others 1000 above and below.
    fn ports(self) -> [u16; 2] {
        match self {
            Self::ZooKeeper => [2181, 2182],
            Self::Nacos => [8848, 5848],
        }
    }
}

/// A server. It ends with its handle.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    port: u16,
    dir: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts the first or the second one; it answers.
    pub(crate) fn start(kind: Kind, which: usize) -> Self {
        let dir = netns::dir().join(format!("{}-{which}", kind.name()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut server = Self { kind, port: kind.ports()[which], dir, child: None };
        server.run();
        server
    }

    /// Starts it again on what it had stored; it answers.
    pub(crate) fn run(&mut self) {
        let mut command = match self.kind {
            Kind::ZooKeeper => zookeeper::command(&self.dir, self.port),
            Kind::Nacos => nacos::command(&self.dir, self.port),
        };
        let log = self.dir.join("log");
        let file = File::options().create(true).append(true).open(&log).expect("a log can be created");
        let errors = file.try_clone().expect("a file can be shared");
        command.current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
        let mut child = Child::spawn(&mut command);
        let mut ended = None;
        let answers = within(START_MAX, || {
            ended = child.ended();
            ended.is_some() || self.answers()
        });
        assert!(
            answers && ended.is_none(),
            "{} did not start ({ended:?}):\n{}",
            self.kind.name(),
            tail(&log)
        );
        self.child = Some(child);
    }

    fn answers(&self) -> bool {
        match self.kind {
            Kind::ZooKeeper => zookeeper::answers(self.at()),
            Kind::Nacos => nacos::answers(self.at()),
        }
    }

    pub(crate) fn at(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub(crate) fn address(&self) -> String {
        self.at().to_string()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child = None;
    }

    /// It hangs from now on.
    pub(crate) fn freeze(&mut self) {
        self.child.as_mut().expect("it runs").signal("STOP");
    }

    /// It goes on.
    pub(crate) fn thaw(&mut self) {
        self.child.as_mut().expect("it runs").signal("CONT");
    }

    /// Forgets a process that hangs: by itself, or because its connection is torn.
    pub(crate) fn forgets(&self, pid: u32) {
        if self.kind == Kind::Nacos {
            nacos::tear(self.at(), pid);
        }
    }

    /// Who stands there for a service, in order, each as often as it is there; `None`: it could not be asked.
    pub(crate) fn listed(&self, service: &str) -> Option<Vec<String>> {
        let mut all = match self.kind {
            Kind::ZooKeeper => zookeeper::providers(self.at(), service).ok(),
            Kind::Nacos => nacos::instances(self.at(), service),
        }?;
        all.sort();
        Some(all)
    }

    /// Whether exactly these stand there, each once.
    pub(crate) fn lists(&self, service: &str, addresses: &[&str]) -> bool {
        let mut wanted = addresses.to_vec();
        wanted.sort_unstable();
        self.listed(service).is_some_and(|all| all == wanted)
    }

    /// Looks for a while whether exactly these stand there.
    #[track_caller]
    pub(crate) fn keeps(&self, service: &str, addresses: &[&str]) {
        let mut wanted = addresses.to_vec();
        wanted.sort_unstable();
        let end = Instant::now() + self.kind.past_the_session();
        while Instant::now() < end {
            let listed = self.listed(service).expect("the registry can be asked");
            assert_eq!(listed, wanted, "{service}");
            std::thread::sleep(LOOK);
        }
    }

    /// Writes instances that are nobody's session's.
    pub(crate) fn put(&self, service: &str, addresses: &[&str]) {
        match self.kind {
            Kind::ZooKeeper => zookeeper::put(self.at(), service, addresses).expect("ZooKeeper takes it"),
            Kind::Nacos => addresses.iter().for_each(|one| nacos::put(self.at(), service, one)),
        }
    }

    /// Takes them away.
    pub(crate) fn take(&self, service: &str, addresses: &[&str]) {
        match self.kind {
            Kind::ZooKeeper => zookeeper::take(self.at(), service, addresses).expect("ZooKeeper takes it"),
            Kind::Nacos => addresses.iter().for_each(|one| nacos::take(self.at(), service, one)),
        }
    }
}
