//! The registries: a `ZooKeeper`, a Nacos, an etcd, and an API server of Kubernetes with an etcd of its own; all stories share them.
//!
//! They listen on the ports that everybody knows, as the network is the tests' own. They end with the test process: each has a
//! watchdog.

use super::gateway::Gateway;
use super::support::{Child, netns, peers, tail, within};
use super::{cluster, nacos, zookeeper};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

pub(crate) const ZOOKEEPER: SocketAddr = loopback(2181);
/// Where Nacos listens for HTTP; 1000 ports above for its own protocol.
pub(crate) const NACOS: SocketAddr = loopback(8848);
pub(crate) const ETCD: SocketAddr = loopback(2379);
/// The one behind the API server.
pub(crate) const BEHIND: SocketAddr = loopback(2389);
/// Where the API server listens.
pub(crate) const KUBERNETES: SocketAddr = loopback(6443);
/// Hosts of this network that everybody in it can dial; the first is that of every such network.
pub(crate) const HOSTS: [&str; 3] = [netns::ADDRESS, "10.9.9.2", "10.9.9.3"];
/// What a server may take to start on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The tests' own hands at the etcd of the stories.
pub(crate) fn etcd() -> Gateway {
    Gateway::new(ETCD.to_string())
}

/// Starts all of them, once; they answer.
pub(crate) fn start() {
    static ONCE: OnceLock<Vec<Mutex<Server>>> = OnceLock::new();
    ONCE.get_or_init(|| {
        for host in &HOSTS[1..] {
            let added = Command::new("ip").args(["addr", "add", &format!("{host}/32"), "dev", "lo"]).status();
            assert!(
                added.is_ok_and(|status| status.success()),
                "{host} should be an address of this network"
            );
        }
        let mut stores = [("etcd", ETCD), ("behind", BEHIND)]
            .map(|(name, at)| Server::spawn(name, |dir| etcd_command(dir, at)));
        let mut servers = vec![
            Server::spawn("zookeeper", |dir| zookeeper::command(dir, ZOOKEEPER.port())),
            Server::spawn("nacos", |dir| nacos::command(dir, NACOS.port())),
        ];
        for (store, at) in stores.iter_mut().zip([ETCD, BEHIND]) {
            store.answers(|| Gateway::new(at.to_string()).is_well());
        }
        let mut api = Server::spawn("kubernetes", cluster::command);
        servers[0].answers(|| zookeeper::answers(ZOOKEEPER));
        api.answers(cluster::answers);
        servers[1].answers(|| nacos::answers(NACOS));
        servers.into_iter().chain(stores).chain([api]).map(Mutex::new).collect()
    });
}

/// A server, by its name. It ends with its handle.
struct Server {
    name: &'static str,
    dir: PathBuf,
    child: Child,
}

impl Server {
    fn spawn(name: &'static str, command: impl FnOnce(&Path) -> Command) -> Self {
        let dir = netns::dir().join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let file = File::create(dir.join("log")).expect("a log can be created");
        let errors = file.try_clone().expect("a file can be shared");
        let mut command = command(&dir);
        command.current_dir(&dir).stdin(Stdio::null());
        command.stdout(Stdio::from(file)).stderr(Stdio::from(errors));
        Self { name, child: Child::spawn(&mut command), dir }
    }

    fn answers(&mut self, answers: impl Fn() -> bool) {
        let mut ended = None;
        let came = within(START_MAX, || {
            ended = self.child.ended();
            ended.is_some() || answers()
        });
        let log = tail(&self.dir.join("log"));
        assert!(came && ended.is_none(), "{} did not start ({ended:?}):\n{log}", self.name);
    }
}

fn etcd_command(dir: &Path, at: SocketAddr) -> Command {
    let (url, peer) = (format!("http://{at}"), format!("http://127.0.0.1:{}", at.port() + 1));
    let mut command = Command::new(peers::folder().join("etcd-server/out/etcd"));
    command
        .args(["--name", "t", "--data-dir"])
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("t={peer}"), "--log-level", "warn", "--unsafe-no-fsync"]);
    command
}
