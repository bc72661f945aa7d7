//! The harness of the black-box tests: the real binary, real peers and real sockets, on loopback only.
//!
//! `Sidecar` runs the built `outrigger` on a conf given as text; `Process` runs a peer that is spoken to by lines on
//! its stdin and stdout; `peers` knows how the Java and Node programs are started. A test says `mod support;` and
//! uses what it needs. Nothing here may outlive its test: every child dies when its handle is dropped, and when the
//! test process itself is killed. Must never depend on the crates under test, only on what a user can see.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part of the harness")]

mod child;
pub(crate) mod echo;
mod http;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod http2_upstream;
pub(crate) mod netns;
pub(crate) mod patient;
pub(crate) mod peers;
mod process;
mod program;
pub(crate) mod raw;
mod sidecar;
mod text;

pub(crate) use child::Child;
pub(crate) use http::{http_delete, http_get, http_post};
pub(crate) use process::Process;
pub(crate) use program::{Ran, run};
pub(crate) use sidecar::Sidecar;
pub(crate) use text::decoded;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A loopback port that nobody listens on, never handed out twice by this process.
///
/// Below the kernel's range for outgoing connections (32768 and up): a port from inside it could be taken by a
/// connection between this answer and its use, and a proxy that dials a dead port there may even connect to itself.
pub(crate) fn free_port() -> u16 {
    const LOWEST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side start their search at different places.
    let start = std::process::id().wrapping_mul(389) % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = LOWEST + ((start + step) % u32::from(COUNT)) as u16;
        if is_free(port) {
            return port;
        }
    }
    panic!("no free port on loopback between {LOWEST} and {}", LOWEST + COUNT)
}

/// Asked by a socket that never listens: a process that another thread is just starting has a copy of it for a moment, and
/// where that listened the port could not be taken.
fn is_free(port: u16) -> bool {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    socket.set_reuse_address(true).expect("a socket option");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).is_ok()
}

/// Asks `done` every few milliseconds until it says yes; false when the limit passes first. The last time is after the end: a machine
/// that stood still meanwhile is nobody's fault.
pub(crate) fn within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        let is_over = Instant::now() > end;
        if done() {
            return true;
        }
        if is_over {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory of its own, removed with the handle; kept for inspection when the test panicked.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("outrigger-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Only litter is at stake.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The last lines of a log, for the message of a failed test.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 60;
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
