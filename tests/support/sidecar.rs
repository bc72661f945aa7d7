//! The binary under test, run the way a user runs it: `outrigger run -c FILE`.
//!
//! The conf is taken as it is, so what a test shows is what runs. Addresses are read back out of that text, hence
//! listeners and `admin` must name their ports (see `free_port`). Must never reach into the process: what a test
//! learns comes from sockets, the admin address, the exit status and the log.

use super::{Child, TempDir, http_get, http_post, tail, within};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// A registry that has just been started takes its time to answer, beside others on a busy machine.
const READY_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Sidecar {
    child: Child,
    conf: String,
    conf_path: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
    // Last, so that the files are there while the child is ended and its log printed.
    _dir: TempDir,
}

impl Sidecar {
    /// Writes the conf to a file, runs the binary on it and waits until `/ready` answers 200.
    pub(crate) fn start(conf: &str) -> Self {
        Self::start_with(conf, |_| ())
    }

    /// As `start`, with a last hand on the command: environment, further arguments.
    pub(crate) fn start_with(conf: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        Self::start_within(READY_MAX, conf, adjust)
    }

    /// As `start_with`, with less patience, or more.
    pub(crate) fn start_within(limit: Duration, conf: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        let dir = TempDir::new();
        let conf_path = dir.path().join("outrigger.yaml");
        let log = dir.path().join("log");
        std::fs::write(&conf_path, conf).expect("the conf can be written");
        let file = File::create(&log).expect("a log can be created");
        let out = file.try_clone().expect("a file can be shared");
        let admin = address(conf, "admin:").expect("the conf says `admin: ADDRESS:PORT`");
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(["run", "-c"]).arg(&conf_path);
        command.stdin(Stdio::null()).stdout(Stdio::from(out)).stderr(Stdio::from(file));
        adjust(&mut command);
        let child = Child::spawn(&mut command);
        let mut sidecar = Self { child, conf: conf.to_owned(), conf_path, log, admin, _dir: dir };
        let mut ended = None;
        let ready = within(limit, || {
            ended = sidecar.child.ended();
            ended.is_some() || http_get(admin, "/ready").is_ok_and(|(status, _)| status == 200)
        });
        assert!(ended.is_none(), "the sidecar ended with {} instead of getting ready", ended.unwrap());
        assert!(ready, "the sidecar is not ready after {limit:?}");
        sidecar
    }

    /// The port that the listener of this name binds.
    pub(crate) fn port(&self, listener: &str) -> u16 {
        let listeners = self.conf.split_once("listeners:").map_or("", |(_, rest)| rest);
        let named = listeners.split_once(&format!(" {listener}:")).map(|(_, rest)| rest);
        let bound = named.and_then(|text| address(text, "bind:"));
        bound.unwrap_or_else(|| panic!("the conf binds no listener {listener}:\n{}", self.conf)).port()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// GET on the admin address: status and body.
    pub(crate) fn admin_get(&self, path: &str) -> (u16, String) {
        http_get(self.admin, path).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// POST on the admin address: status and body.
    pub(crate) fn admin_post(&self, path: &str) -> (u16, String) {
        http_post(self.admin, path).unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The conf file, for tests that change it under a running sidecar.
    pub(crate) fn conf_path(&self) -> &Path {
        &self.conf_path
    }

    /// All that the sidecar has printed so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal by its name: "HUP", "USR1".
    pub(crate) fn signal(&mut self, name: &str) {
        self.child.signal(name);
    }

    /// Sends TERM; `wait` tells how it ended.
    pub(crate) fn term(&mut self) {
        self.signal("TERM");
    }

    /// The exit status; a sidecar that still runs after the limit fails the test.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.child.wait(limit).unwrap_or_else(|| {
            panic!("the sidecar still runs after {limit:?}; its threads:\n{}", self.child.threads())
        })
    }

    /// Fails the test when the sidecar is no longer running.
    pub(crate) fn assert_running(&mut self) {
        let ended = self.child.ended();
        assert!(ended.is_none(), "the sidecar ended by itself with {ended:?}");
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.child.kill();
        if std::thread::panicking() {
            let (conf, log) = (&self.conf, self.log.display());
            eprintln!("--- conf ---\n{conf}\n--- log of the sidecar ({log}) ---\n{}", tail(&self.log));
        }
    }
}

/// The first socket address after `key`, in block or in flow style.
fn address(text: &str, key: &str) -> Option<SocketAddr> {
    let rest = text.split_once(key)?.1.trim_start();
    let end = rest.find(|c: char| c.is_whitespace() || c == ',' || c == '}').unwrap_or(rest.len());
    let found: SocketAddr = rest.get(..end)?.trim_matches(['"', '\'']).parse().ok()?;
    assert_ne!(found.port(), 0, "tests name their ports: {key} {found}");
    Some(found)
}
