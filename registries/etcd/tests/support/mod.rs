//! A real etcd for the tests: a process of its own on free ports of loopback, with a directory that goes with it.
//!
//! It can be killed, started again on the same data, and made to hang; each by its own process id. The program is built by
//! `tests/setup.sh` at the root of the workspace. The tests' own hands are the server's JSON gateway, so that nothing of the
//! client under test is believed. Test code: it asserts and panics.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod gateway;
pub(crate) mod relay;
pub(crate) mod watched;

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use outrigger_registry_etcd::{EtcdRegistry, Settings, open};
use tempfile::TempDir;
use tokio::time;

use gateway::Gateway;

/// The lease that the registries under test ask for.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// How long news may take: a server that hangs is found out after nine seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What a starting server may take on a busy machine.
const START: Duration = Duration::from_secs(60);

const PROGRAM: &str = "../../tests/peers/etcd-server/out/etcd";

/// A server.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    port: u16,
    peer_port: u16,
    scheme: &'static str,
    /// What it is started with besides.
    more: Vec<String>,
    child: Option<Child>,
    /// A shell that kills the server when the test process ends without a word: then nothing here is dropped.
    watchdog: Option<Child>,
}

fn free_port() -> u16 {
    // Asked for and let go: a server of Go cannot be given a socket.
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("a port").port()
}

impl Server {
    /// Starts one; it answers.
    pub(crate) async fn start() -> Self {
        let mut server = Self::new("http", &[]);
        server.restart().await;
        server
    }

    /// One that is not running yet, with these arguments besides.
    pub(crate) fn new(scheme: &'static str, more: &[&str]) -> Self {
        Self {
            dir: TempDir::new().expect("a directory"),
            port: free_port(),
            peer_port: free_port(),
            scheme,
            more: more.iter().map(|&arg| arg.to_owned()).collect(),
            child: None,
            watchdog: None,
        }
    }

    /// Gives it one more argument, for its next start.
    pub(crate) fn argue(&mut self, argument: String) {
        self.more.push(argument);
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again on the data of before; it answers.
    pub(crate) async fn restart(&mut self) {
        self.launch();
        let until = Instant::now() + START;
        while !self.is_ready() {
            let child = self.child.as_mut().expect("a child");
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < until, "no start: {ended:?} {}", self.log());
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn launch(&mut self) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(PROGRAM);
        assert!(program.exists(), "{} is missing: run tests/setup.sh", program.display());
        let (url, peer) =
            (format!("{}://{}", self.scheme, self.address()), format!("http://127.0.0.1:{}", self.peer_port));
        let child = Command::new(program)
            .args(["--name", "t", "--data-dir"])
            .arg(self.dir.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("t={peer}"), "--log-level", "warn", "--unsafe-no-fsync"])
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.path().join("stderr")).expect("a file"))
            .spawn()
            .expect("etcd: run tests/setup.sh");
        let watchdog = Command::new("sh")
            .args(["-c", r#"read -r word; [ "$word" = done ] || kill -KILL "$0""#, &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        (self.child, self.watchdog) = (Some(child), Some(watchdog));
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// Whether it takes calls. With TLS nobody here can ask; that it listens must do.
    fn is_ready(&self) -> bool {
        if self.scheme == "http" {
            self.gateway().is_well()
        } else {
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        }
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a signal");
            child.wait().expect("an end");
        }
        if let Some(mut watchdog) = self.watchdog.take() {
            // Its pid may be another's soon: the watchdog must not kill any more.
            watchdog.stdin.take().expect("a pipe").write_all(b"done\n").expect("a word");
            watchdog.wait().expect("an end");
        }
    }

    /// It hangs from now on.
    pub(crate) fn hang(&self) {
        self.signal("-STOP");
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("a running server");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        assert!(sent.success(), "{signal}");
    }

    /// The test's own hands.
    pub(crate) fn gateway(&self) -> Gateway {
        Gateway::new(self.address())
    }

    /// The settings of a registry at it.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            servers: vec![self.address()],
            group: "dubbo".into(),
            auth: None,
            tls: None,
            lease: LEASE,
            reconcile: Duration::from_secs(60),
            ask: None,
        }
    }

    /// A registry at it.
    pub(crate) fn registry(&self) -> EtcdRegistry {
        open(self.settings())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
