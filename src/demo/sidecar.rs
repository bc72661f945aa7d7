//! The sidecar of the demo: its conf as a real file, and the real control thread in this process.
//!
//! Nothing is special about it: it reads the file through the same path as `outrigger run`, and takes it up again when
//! it changes. Must never listen anywhere but on loopback.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::speech::SPEECHES;
use crate::{
    control::{self, Ask, Host},
    telemetry::Facts,
    worker::{Clock, Detail},
};

/// A sidecar that runs in a thread of this process; its conf file goes with it.
#[derive(Debug)]
pub(super) struct Sidecar {
    /// The conf file.
    pub(super) conf: PathBuf,
    /// Where things are.
    pub(super) places: Places,
    asks: mpsc::UnboundedSender<Ask>,
    ended: oneshot::Receiver<Result<(), String>>,
}

/// Where things listen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// The admin port.
    pub(super) admin: SocketAddr,
    /// The listener that tells protocols by their first bytes.
    pub(super) calls: SocketAddr,
    /// The listener that relays connections.
    pub(super) relay: SocketAddr,
}

impl Sidecar {
    /// Starts it in front of these endpoints, by speech; returns when it takes calls.
    pub(super) async fn start(endpoints: &[Vec<SocketAddr>]) -> Result<Self, String> {
        let fail = |error: io::Error| format!("error: the demo cannot start: {error}");
        // A port that is bound but does not listen is given to nobody else, yet may be bound by who reuses addresses.
        let reserved = [reserve().map_err(fail)?, reserve().map_err(fail)?, reserve().map_err(fail)?];
        let [(_, admin), (_, calls), (_, relay)] = reserved;
        let places = Places { admin, calls, relay };
        let conf = write(&conf_text(places, endpoints)).map_err(fail)?;
        let (asks, inbox) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let mut sidecar = Self { conf, places, asks: asks.clone(), ended };
        let file = sidecar.conf.clone();
        let plan = control::read(&file).map_err(|mistakes| mistakes.to_string())?;
        let live = move || {
            let host = Host { say: |_| {}, signals: false, asks: (asks, inbox) };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let result = runtime
                .map_err(|error| format!("error: cannot start: {error}"))
                .and_then(|runtime| runtime.block_on(control::run_in(host, file, plan, Clock::start())));
            let _ = end.send(result);
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(live).map_err(fail)?;
        // It answers as soon as it listens.
        match sidecar.ask(Ask::Ready).await {
            Some(Ok(())) => Ok(sidecar),
            _ => Err(sidecar.ended().await),
        }
    }

    async fn ask<T>(&self, what: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(what(reply)).ok()?;
        answer.await.ok()
    }

    /// What the control thread knows, unless it is slow to say so.
    pub(super) async fn facts(&self) -> Option<Facts> {
        let asked = self.ask(|reply| Ask::Joined(Detail::None, reply));
        let joined = tokio::time::timeout(Duration::from_millis(500), asked).await;
        joined.ok()?.map(|joined| joined.facts)
    }

    /// Returns when it ended although nobody here told it to, with what there is to say.
    pub(super) async fn ended(&mut self) -> String {
        match (&mut self.ended).await {
            Ok(Err(why)) => why,
            _ => "error: the sidecar ended before the demo did".to_owned(),
        }
    }

    /// Drains it and waits for its end.
    pub(super) async fn drain(&mut self) -> Result<(), String> {
        let _ = self.asks.send(Ask::Drain);
        (&mut self.ended).await.unwrap_or_else(|_| Err("error: the sidecar's thread failed".to_owned()))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Only litter is at stake.
        let _ = std::fs::remove_file(&self.conf);
    }
}

fn reserve() -> io::Result<(socket2::Socket, SocketAddr)> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, address))
}

/// A new file of our own: never one that somebody else put there.
fn write(text: &str) -> io::Result<PathBuf> {
    let create = |n: u32| -> io::Result<(PathBuf, File)> {
        let path = std::env::temp_dir().join(format!("outrigger-demo-{}-{n}.yaml", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((path, file))
    };
    let taken =
        |made: &io::Result<_>| matches!(made, Err(error) if error.kind() == io::ErrorKind::AlreadyExists);
    let (path, mut file) = (0..100).map(create).find(|made| !taken(made)).unwrap_or_else(|| create(100))?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

fn conf_text(places: Places, endpoints: &[Vec<SocketAddr>]) -> String {
    let Places { admin, calls, relay } = places;
    let mut routes = String::new();
    let mut clusters = String::new();
    for (speech, endpoints) in SPEECHES.iter().zip(endpoints) {
        let name = speech.name;
        if !speech.called.is_empty() {
            let parts = speech.called.iter().map(|(part, called)| format!("{part}: {called}"));
            let parts = parts.collect::<Vec<_>>().join(", ");
            let _ = writeln!(routes, "      - match: {{ {parts} }}\n        to: {name}\n        timeout: 5s");
        }
        let list = endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let _ = writeln!(clusters, "  {name}:\n    endpoints: [{list}]\n    balance: round_robin");
    }
    format!(
        "# What `outrigger demo` runs with. Change it meanwhile: it is taken up within a second.
# Try another `balance`: random, least_request, p2c_ewma. Or below a route's timeout: limit: {{ rate: 100/s }}
app: demo
admin: {admin}
workers: 1
drain_timeout: 2s
listeners:
  calls:
    bind: {calls}
    protocol: auto # told by the first bytes
    routes:
{routes}  relay:
    bind: {relay}
    protocol: tcp
    routes:
      - to: tcp
clusters:
{clusters}"
    )
}
