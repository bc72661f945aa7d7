//! `ZooKeeper` and Nacos, each in a JVM of its own; the first can be stopped and started again on what it had stored.
//!
//! Both listen inside the tests' own network only, on the ports that everybody knows.

use super::support::{Child, netns, tail, within};
use super::{nacos, zookeeper};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

/// Where `ZooKeeper` listens.
pub(crate) const ZOOKEEPER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2181);
/// Where Nacos listens for HTTP; 1000 ports above for its own protocol.
pub(crate) const NACOS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8848);
/// What a starting JVM may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);

/// How often it may be tried.
const STARTS_MAX: u32 = 3;

/// A server; it ends with its handle.
pub(crate) struct Server {
    at: SocketAddr,
    dir: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// One that does not run yet.
    pub(crate) fn at(at: SocketAddr) -> Self {
        let dir = netns::dir().join(format!("server-{}", at.port()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Self { at, dir, child: None }
    }

    /// Starts it, the first time or again.
    pub(crate) fn start(&mut self) {
        let mut command = match self.at {
            ZOOKEEPER => zookeeper::command(&self.dir, self.at.port()),
            _ => nacos::command(&self.dir, self.at.port()),
        };
        let file = File::options().create(true).append(true).open(self.dir.join("log"));
        let file = file.expect("a log can be created");
        let errors = file.try_clone().expect("a file can be shared");
        command.current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
        self.child = Some(Child::spawn(&mut command));
    }

    /// Waits until it serves. Nacos gives its own database a few seconds to open and ends where that takes longer, as on a machine
    /// on which everything starts at once: then it is started anew.
    pub(crate) fn ready(&mut self) {
        for left in (0..STARTS_MAX).rev() {
            match self.ended_before_it_served() {
                None => return,
                Some(_) if left > 0 => self.start(),
                Some(ended) => {
                    panic!("{} did not start ({ended}):\n{}", self.at, tail(&self.dir.join("log")))
                }
            }
        }
    }

    /// How it ended before it served; `None`: it serves.
    fn ended_before_it_served(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("it was started");
        let mut ended = None;
        let told = within(START_MAX, || {
            ended = child.ended();
            let answers = match self.at {
                ZOOKEEPER => zookeeper::answers(self.at),
                _ => nacos::answers(self.at),
            };
            ended.is_some() || answers
        });
        assert!(told, "{} does not serve after {START_MAX:?}:\n{}", self.at, tail(&self.dir.join("log")));
        ended
    }

    /// Switches it off.
    pub(crate) fn stop(&mut self) {
        self.child = None;
    }
}
