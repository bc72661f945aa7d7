//! The etcd of these tests, and what stands in it, asked by its JSON gateway.
//!
//! Must never be asked by the sidecar's own client. Source: etcd 3.6.4, as `tests/setup.sh` builds it.

use super::gateway::{Entry, Gateway};
use super::support::{Child, TempDir, free_port, peers, tail, within};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a starting server may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    child: Child,
    port: u16,
    // Last, so that its files are there until it has ended.
    dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let (dir, port) = (TempDir::new(), free_port());
        let log = dir.path().join("log");
        let file = File::create(&log).expect("a log can be created");
        let [clients, peers] = [port, free_port()].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(peers::folder().join("etcd-server/out/etcd"));
        command.args(["--name", "t", "--data-dir"]).arg(dir.path().join("data"));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args([
            "--initial-cluster",
            &format!("t={peers}"),
            "--log-level",
            "warn",
            "--unsafe-no-fsync",
        ]);
        // dubbo-go asks for a session of one second and never comes back when it has lost it. No lease is shorter than one and a
        // half elections, so a busy machine takes none away.
        command.args(["--heartbeat-interval", "1000", "--election-timeout", "10000"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(file));
        let mut server = Self { child: Child::spawn(&mut command), port, dir };
        let mut ended = None;
        let ready = within(START_MAX, || {
            ended = server.child.ended();
            // Nobody listens at first.
            ended.is_some()
                || (std::net::TcpStream::connect(server.address()).is_ok() && server.gateway().is_well())
        });
        assert!(ready && ended.is_none(), "etcd did not start ({ended:?}):\n{}", tail(&log));
        server
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn gateway(&self) -> Gateway {
        Gateway::new(self.address())
    }

    /// What stands below a prefix.
    pub(crate) fn below(&self, prefix: &str) -> Vec<Entry> {
        self.gateway().below(prefix)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of etcd ---\n{}", tail(&self.dir.path().join("log")));
        }
    }
}
