//! An endpoint under the test's control: it answers echo calls and heartbeats by itself and shows everything else
//! to the test, which answers when and how it likes, or closes, or says nothing.
//!
//! Must never answer a one-way call, nor anything it was not asked, unless a test writes the bytes itself.

use super::raw::{ANSWER_MAX, Call, Client, ECHO, Frame, Wire};
use super::{Sidecar, free_port, netns};
use serde_json::Value;
use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// One connection that the sidecar made.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Counts from 0 in the order of their arrival.
    pub(crate) number: usize,
    stream: Arc<TcpStream>,
}

impl Peer {
    pub(crate) fn send(&self, bytes: &[u8]) {
        (&*self.stream).write_all(bytes).expect("the sidecar reads");
    }

    pub(crate) fn close(&self) {
        // It may be closed already, which is what is wanted.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A frame that the sidecar sent.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) peer: Peer,
    pub(crate) frame: Frame,
}

impl Seen {
    /// Answers the call.
    pub(crate) fn answer(&self, payload: &str) {
        self.peer.send(&self.frame.wire().answer(self.frame.id(), payload));
    }
}

struct Inner {
    at: SocketAddr,
    accepted: AtomicUsize,
    calls: AtomicUsize,
    heartbeats: AtomicUsize,
    /// Connections that are open.
    peers: Mutex<Vec<Peer>>,
    answers_heartbeats: AtomicBool,
    ending: AtomicBool,
}

/// A listening endpoint; ends with its handle.
pub(crate) struct Upstream {
    inner: Arc<Inner>,
    seen: Receiver<Seen>,
    accepting: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        // Another test process may take a port between the look and the bind.
        let bound = (0..100).find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok());
        Self::serve(bound.expect("a free port"))
    }

    /// The same where others than this host reach it too: for tests in a network of their own.
    pub(crate) fn start_outside() -> Self {
        let bound = (0..100).find_map(|_| TcpListener::bind((netns::ADDRESS, free_port())).ok());
        Self::serve(bound.expect("a free port of a network of its own"))
    }

    /// Again on the port of one that was stopped.
    pub(crate) fn start_at(port: u16) -> Self {
        Self::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free"))
    }

    fn serve(listener: TcpListener) -> Self {
        let inner = Arc::new(Inner {
            at: listener.local_addr().expect("it is bound"),
            accepted: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            heartbeats: AtomicUsize::new(0),
            peers: Mutex::default(),
            answers_heartbeats: AtomicBool::new(true),
            ending: AtomicBool::new(false),
        });
        let (sender, seen) = mpsc::channel();
        let shared = Arc::clone(&inner);
        let accepting = std::thread::spawn(move || accept(&listener, &shared, &sender));
        Self { inner, seen, accepting: Some(accepting) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.inner.at.port()
    }

    /// `host:port`, as the conf and the messages of the sidecar have it.
    pub(crate) fn address(&self) -> String {
        self.inner.at.to_string()
    }

    /// The next call that was not answered by itself; one-way calls, answers and events too.
    #[track_caller]
    pub(crate) fn next(&self) -> Seen {
        self.seen.recv_timeout(ANSWER_MAX).expect("a call arrives")
    }

    /// No such frame may arrive for this long.
    #[track_caller]
    pub(crate) fn silent(&self, time: Duration) {
        match self.seen.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("nothing should arrive, but: {other:?}"),
        }
    }

    /// Connections ever accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.inner.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now, oldest first.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.inner.peers.lock().expect("no thread panics with it").clone()
    }

    /// Calls that arrived, one-way ones too, however they were answered.
    pub(crate) fn calls(&self) -> usize {
        self.inner.calls.load(Ordering::SeqCst)
    }

    /// Heartbeats that arrived.
    pub(crate) fn heartbeats(&self) -> usize {
        self.inner.heartbeats.load(Ordering::SeqCst)
    }

    /// Leaves heartbeats unanswered from now on.
    pub(crate) fn ignore_heartbeats(&self) {
        self.answer_heartbeats(false);
    }

    /// Whether heartbeats are answered from now on.
    pub(crate) fn answer_heartbeats(&self, answers: bool) {
        self.inner.answers_heartbeats.store(answers, Ordering::SeqCst);
    }

    /// Ends as a killed process does: the port refuses connections, those that were open are closed.
    pub(crate) fn stop(&mut self) {
        self.inner.ending.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            // Wakes the accepting thread.
            let _ = TcpStream::connect(self.inner.at);
            accepting.join().expect("the accepting thread does not panic");
        }
        self.peers().iter().for_each(Peer::close);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

fn accept(listener: &TcpListener, inner: &Arc<Inner>, seen: &Sender<Seen>) {
    while let Ok((stream, _)) = listener.accept() {
        if inner.ending.load(Ordering::SeqCst) {
            return;
        }
        let _ = stream.set_nodelay(true);
        let number = inner.accepted.fetch_add(1, Ordering::SeqCst);
        let peer = Peer { number, stream: Arc::new(stream) };
        inner.peers.lock().expect("no thread panics with it").push(peer.clone());
        let (inner, seen) = (Arc::clone(inner), seen.clone());
        std::thread::spawn(move || {
            serve(&peer, &inner, &seen);
            inner.peers.lock().expect("no thread panics with it").retain(|other| other.number != peer.number);
        });
    }
}

/// One connection's life; ends when either side closes it.
fn serve(peer: &Peer, inner: &Inner, seen: &Sender<Seen>) {
    let mut from = BufReader::new(&*peer.stream);
    while let Ok(Some(frame)) = Frame::read(&mut from) {
        let mut answer = None;
        if frame.is_request() || frame.is_one_way() {
            inner.calls.fetch_add(1, Ordering::SeqCst);
        }
        if frame.is_request() && frame.contains(ECHO) {
            answer = Some(frame.wire().answer(frame.id(), &frame.payload()));
        } else if frame.is_heartbeat() {
            inner.heartbeats.fetch_add(1, Ordering::SeqCst);
            if inner.answers_heartbeats.load(Ordering::SeqCst) {
                answer = Some(frame.wire().heartbeat_answer(frame.id()));
            }
        } else if seen.send(Seen { peer: peer.clone(), frame }).is_err() {
            return;
        }
        if let Some(answer) = answer
            && (&*peer.stream).write_all(&answer).is_err()
        {
            return;
        }
    }
    // The other holders of the socket would keep it open.
    peer.close();
}

/// A conf with one listener `main` and one worker. `listener` are the lines of the listener behind its `bind`, at
/// their indent of four; `rest` is what else stands at the top level, `clusters` among it.
pub(crate) fn conf(listener: &str, rest: &str) -> String {
    let (admin, port) = (free_port(), free_port());
    format!(
        "app: test\nadmin: 127.0.0.1:{admin}\nworkers: 1\nlisteners:\n  main:\n    bind: 127.0.0.1:{port}\n\
         {listener}\n{rest}\n"
    )
}

/// A sidecar whose listener `main` carries everything of one protocol to one endpoint.
pub(crate) fn straight(protocol: &str, upstream: &Upstream) -> Sidecar {
    let listener = format!("    protocol: {protocol}\n    routes: [{{ match: {{}}, to: up }}]");
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    Sidecar::start(&conf(&listener, &clusters))
}

impl Sidecar {
    /// A connection to the listener `main`.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port("main"))
    }

    /// `/stats`.
    pub(crate) fn stats(&self) -> Value {
        let (status, body) = self.admin_get("/stats");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("/stats is JSON")
    }

    /// One counter of a protocol's events.
    #[track_caller]
    pub(crate) fn events(&self, protocol: &str, name: &str) -> u64 {
        let count = &self.stats()["protocols"][protocol]["events"][name];
        count.as_u64().unwrap_or_else(|| panic!("{protocol} does not count {name}"))
    }

    /// How many connections turned out so.
    pub(crate) fn detected(&self, outcome: &str) -> u64 {
        self.stats()["detected"][outcome].as_u64().unwrap_or(0)
    }

    /// How many calls of a route ended so; of all routes when `route` is empty.
    pub(crate) fn outcomes(&self, route: &str, outcome: &str) -> u64 {
        let stats = self.stats();
        let routes = stats["routes"].as_array().expect("routes are listed");
        let named = routes.iter().filter(|one| route.is_empty() || one["route"] == route);
        named.filter_map(|one| one["outcomes"][outcome].as_u64()).sum()
    }

    /// Alive, and no connection of it was ended by a panic.
    #[track_caller]
    pub(crate) fn assert_well(&mut self) {
        self.assert_running();
        assert_eq!(self.stats()["panics"], 0);
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

/// A caller that must notice nothing: it has a call in flight all the time.
pub(crate) struct Canary {
    client: Client,
    wire: Wire,
    call: Call,
    seen: Seen,
}

impl Canary {
    /// Connects and makes a call that the endpoint holds.
    pub(crate) fn start(sidecar: &Sidecar, upstream: &Upstream, wire: Wire) -> Self {
        let mut client = sidecar.client();
        let call = wire.call(77).payload("the canary's");
        client.send(&call.bytes());
        let seen = upstream.next();
        assert_eq!(seen.frame.payload(), "the canary's");
        Self { client, wire, call, seen }
    }

    /// Its call is answered, and further ones are.
    #[track_caller]
    pub(crate) fn sings(mut self) {
        self.seen.answer("to the canary");
        self.client.expect(&self.wire.answer(self.call.id, "to the canary"));
        self.client.well(self.wire, 78);
    }
}
