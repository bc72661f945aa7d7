//! A registry's server in a process of its own, which can be killed, made to hang and started again, and what stands in it.
//!
//! That of Kubernetes is two: the API server is what is broken, while the etcd behind it stays. It listens inside the tests' own network only. What it is asked here, and told, goes by the tests' own means.

use super::support::raw::Wire;
use super::support::{Child, netns, tail, within};
use super::world::{LOOK, PATIENCE};
use super::{etcd, kubernetes, nacos, zookeeper};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a starting server may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);
/// The session that the sidecars ask `ZooKeeper` for.
const SESSION: Duration = Duration::from_secs(4);
/// The lease that the sidecars ask etcd for: the shortest there is.
const LEASE: Duration = Duration::from_secs(5);
/// The pod that a sidecar of these tests is in, where it is in one: its name and its id.
pub(crate) const POD: &str = "pod-of-these-tests";

/// Which registry, and whose services stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With services of Dubbo.
    ZooKeeper,
    /// With services of SOFARPC.
    Nacos,
    /// With services of Dubbo, by interface.
    Etcd,
    /// With services of Dubbo, in slices of the sidecars' own.
    Kubernetes,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::ZooKeeper, Self::Nacos, Self::Etcd, Self::Kubernetes];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ZooKeeper => "zookeeper",
            Self::Nacos => "nacos",
            Self::Etcd => "etcd",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// What the services speak.
    pub(crate) fn wire(self) -> Wire {
        match self {
            Self::ZooKeeper | Self::Etcd | Self::Kubernetes => Wire::Dubbo,
            Self::Nacos => Wire::V1,
        }
    }

    pub(crate) fn framework(self) -> &'static str {
        match self {
            Self::ZooKeeper | Self::Etcd | Self::Kubernetes => "dubbo",
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
            Self::Etcd => format!("etcd: {{ address: \"{address}\", lease: {}s }}", LEASE.as_secs()),
            // Where it is, a file says.
            Self::Kubernetes => format!("kubernetes: {{ kubeconfig: \"{address}\", namespace: default }}"),
        }
    }

    /// So long after the last word of a sidecar the server has forgotten it, and a sidecar has given up a server that hangs.
    pub(crate) fn past_the_session(self) -> Duration {
        match self {
            Self::ZooKeeper => SESSION * 2,
            Self::Etcd => LEASE * 2,
            // What is registered in Nacos is bound to a connection, and ends with it; in Kubernetes there are no sessions: what is
            // in no pod is believed for three beats of half a minute.
            Self::Nacos | Self::Kubernetes => Duration::from_secs(6),
        }
    }

    /// So long after its last word at the most nobody finds a sidecar any more that says nothing.
    pub(crate) fn given_up(self) -> Duration {
        match self {
            // And half a minute until others say something.
            Self::Kubernetes => Duration::from_secs(150),
            _ => PATIENCE,
        }
    }

    /// Whether the server itself forgets who says nothing, and is not just told of him by others who are heard.
    pub(crate) fn forgets(self) -> bool {
        self != Self::Kubernetes
    }

    /// The ports of the servers: those of Nacos use others 1000 above and below, those of etcd and Kubernetes a few above.
    fn ports(self) -> [u16; 2] {
        match self {
            Self::ZooKeeper => [2181, 2182],
            Self::Nacos => [8848, 5848],
            Self::Etcd => [2379, 2389],
            Self::Kubernetes => [6443, 6453],
        }
    }
}

/// A server. It ends with its handle.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    port: u16,
    dir: PathBuf,
    child: Option<Child>,
    /// Those that were told to end, and may not have done so.
    leaving: Vec<Child>,
    /// Whether that of Kubernetes tells changes of before that its etcd has forgotten.
    remembers: bool,
    /// The hands in Kubernetes, and the etcd that it keeps all in.
    behind: Option<(kubernetes::Hands, Child)>,
}

impl Server {
    /// Starts the first or the second one; it answers.
    pub(crate) fn start(kind: Kind, which: usize) -> Self {
        let dir = netns::dir().join(format!("{}-{which}", kind.name()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let port = kind.ports()[which];
        let behind = (kind == Kind::Kubernetes).then(|| {
            kubernetes::certificates(&dir);
            let store = spawned(etcd::command(&dir, port + 1), &dir, "etcd.log");
            (kubernetes::Hands::new(&dir, port), store)
        });
        let mut server =
            Self { kind, port, dir, child: None, leaving: Vec::new(), remembers: which == 0, behind };
        server.run();
        server
    }

    /// Starts it again on what it had stored; it answers.
    pub(crate) fn run(&mut self) {
        let command = match self.kind {
            Kind::ZooKeeper => zookeeper::command(&self.dir, self.port),
            Kind::Nacos => nacos::command(&self.dir, self.port),
            Kind::Etcd => etcd::command(&self.dir, self.port),
            Kind::Kubernetes => kubernetes::command(&self.dir, self.port, self.remembers),
        };
        self.child = Some(self.started(command, || self.answers()));
    }

    /// Has the killed server of etcd run where nobody finds it, while something happens there.
    pub(crate) fn elsewhere(&mut self, what: impl FnOnce(SocketAddr)) {
        assert!(self.kind == Kind::Etcd && self.child.is_none(), "one of etcd that does not run");
        let port = self.port + 2;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = self.started(etcd::command(&self.dir, port), || etcd::gateway(at).is_well());
        what(at);
        drop(server);
    }

    fn started(&self, command: Command, answers: impl Fn() -> bool) -> Child {
        let mut child = spawned(command, &self.dir, "log");
        let mut ended = None;
        let answers = within(START_MAX, || {
            ended = child.ended();
            ended.is_some() || answers()
        });
        assert!(
            answers && ended.is_none(),
            "{} did not start ({ended:?}):\n{}",
            self.kind.name(),
            tail(&self.dir.join("log"))
        );
        child
    }

    fn answers(&self) -> bool {
        match self.kind {
            Kind::ZooKeeper => zookeeper::answers(self.at()),
            Kind::Nacos => nacos::answers(self.at()),
            Kind::Etcd => etcd::gateway(self.at()).is_well(),
            Kind::Kubernetes => self.hands().answers(),
        }
    }

    /// The hands in Kubernetes.
    pub(crate) fn hands(&self) -> &kubernetes::Hands {
        &self.behind.as_ref().expect("a server of Kubernetes").0
    }

    pub(crate) fn at(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where it is, as the conf has it.
    pub(crate) fn address(&self) -> String {
        self.called(&self.at().to_string())
    }

    /// The same by another name.
    pub(crate) fn by_another_name(&self) -> String {
        self.called(&format!("localhost:{}", self.port))
    }

    /// Where no server is.
    pub(crate) fn nowhere(&self) -> String {
        self.called("127.0.0.1:9")
    }

    fn called(&self, host: &str) -> String {
        match self.kind {
            Kind::Kubernetes => kubernetes::kubeconfig(&self.dir, host).display().to_string(),
            _ => host.to_owned(),
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child = None;
    }

    /// Tells it to end, which takes it as long as it likes; its port is free afterwards.
    pub(crate) fn term(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.signal("TERM");
        self.leaving.push(child);
        let is_free = || TcpListener::bind(self.at()).is_ok();
        assert!(within(START_MAX, is_free), "{} does not let go of its port", self.kind.name());
    }

    /// The store behind that of Kubernetes forgets all that was before now.
    pub(crate) fn compacted(&self) {
        assert!(self.behind.is_some(), "one of Kubernetes");
        etcd::forget(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port + 1)));
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
            Kind::Etcd => etcd::providers(self.at(), service),
            Kind::Kubernetes => self.hands().instances(service),
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
            Kind::Etcd => addresses.iter().for_each(|one| etcd::put(self.at(), service, one)),
            Kind::Kubernetes => addresses.iter().for_each(|one| self.hands().put(service, one)),
        }
    }

    /// Takes them away.
    pub(crate) fn take(&self, service: &str, addresses: &[&str]) {
        match self.kind {
            Kind::ZooKeeper => zookeeper::take(self.at(), service, addresses).expect("ZooKeeper takes it"),
            Kind::Nacos => addresses.iter().for_each(|one| nacos::take(self.at(), service, one)),
            Kind::Etcd => addresses.iter().for_each(|one| etcd::take(self.at(), service, one)),
            Kind::Kubernetes => addresses.iter().for_each(|one| self.hands().take(one)),
        }
    }

    /// An operator takes away what the sidecars wrote of a service.
    pub(crate) fn robbed(&self, service: &str) {
        match self.kind {
            Kind::Etcd => etcd::revoke(self.at(), service),
            Kind::Kubernetes => self.hands().clear(service),
            kind => panic!("nobody takes away what stands in {}", kind.name()),
        }
    }

    /// What is bound to a pod goes when that is gone.
    pub(crate) fn pod_is_gone(&self) {
        if self.kind == Kind::Kubernetes {
            self.hands().collect(POD);
        }
    }
}

fn spawned(mut command: Command, dir: &Path, log: &str) -> Child {
    let file = File::options().create(true).append(true).open(dir.join(log)).expect("a log can be created");
    let errors = file.try_clone().expect("a file can be shared");
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
    Child::spawn(&mut command)
}
