//! Endpoints that are asked whether they are well, and say what the test wants: of each protocol one, and one that is
//! rude to everybody.
//!
//! Those of HTTP hand what they are asked to the test; in a `Ward` somebody answers it all the time.

use super::http2::{Fields, status};
use super::{Sidecar, echo, free_port, http1, http2_upstream};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What an endpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Status 503, `NOT_SERVING`; of frames nothing.
    Ill,
    /// Nothing.
    Mute,
}

/// The service that gRPC's health service is asked about.
pub(crate) const SERVICE: &str = "t.Echo";

pub(crate) enum Patient {
    Frames(echo::Upstream),
    Http(http1::Upstream, Mood, Vec<http1::Held>),
    Grpc(http2_upstream::Upstream, Mood, Vec<http2_upstream::Held>),
}

impl Patient {
    pub(crate) fn frames() -> Self {
        Self::Frames(echo::Upstream::start())
    }

    pub(crate) fn http() -> Self {
        Self::Http(http1::Upstream::start(), Mood::Well, Vec::new())
    }

    pub(crate) fn grpc() -> Self {
        Self::Grpc(http2_upstream::Upstream::start(), Mood::Well, Vec::new())
    }

    pub(crate) fn address(&self) -> String {
        match self {
            Self::Frames(upstream) => upstream.address(),
            Self::Http(upstream, ..) => upstream.address(),
            Self::Grpc(upstream, ..) => upstream.address(),
        }
    }

    pub(crate) fn accepted(&self) -> usize {
        match self {
            Self::Frames(upstream) => upstream.accepted(),
            Self::Http(upstream, ..) => upstream.accepted(),
            Self::Grpc(upstream, ..) => upstream.accepted(),
        }
    }

    /// Calls that arrived, questions about its health not among them.
    pub(crate) fn calls(&self) -> usize {
        let echoes =
            |seen: Vec<(usize, String)>| seen.iter().filter(|(_, line)| line.contains("/echo")).count();
        match self {
            Self::Frames(upstream) => upstream.calls(),
            Self::Http(upstream, ..) => echoes(upstream.seen()),
            Self::Grpc(upstream, ..) => echoes(upstream.seen()),
        }
    }

    pub(crate) fn is(&mut self, now: Mood) {
        match self {
            Self::Frames(upstream) => upstream.answer_heartbeats(now == Mood::Well),
            Self::Http(_, mood, _) | Self::Grpc(_, mood, _) => *mood = now,
        }
    }

    /// Answers what it was asked since the last time.
    fn tend(&mut self) {
        match self {
            Self::Frames(_) => {}
            Self::Http(upstream, mood, mute) => {
                while let Some(mut held) = upstream.next_within(Duration::ZERO) {
                    assert_eq!((held.head.method(), held.head.target()), ("GET", "/healthz?full=1"));
                    assert_eq!(held.head.get("host"), Some("health.internal"));
                    let answer = match mood {
                        Mood::Well => http1::ok("well", "").replace("200 OK", "204 No Content"),
                        Mood::Ill => http1::ok("ill", "").replace("200 OK", "503 Unavailable"),
                        Mood::Mute => {
                            mute.push(held);
                            continue;
                        }
                    };
                    let answer =
                        answer.replace("Content-Length: 4\r\n", "").replace("\r\n\r\nwell", "\r\n\r\n");
                    // It may have been given up.
                    let _ = held.link().try_send(answer.as_bytes());
                }
            }
            Self::Grpc(upstream, mood, mute) => {
                while let Some(held) = upstream.next_within(Duration::ZERO) {
                    assert_eq!((held.method(), held.path()), ("POST", "/grpc.health.v1.Health/Check"));
                    assert_eq!(held.head.get("content-type"), Some("application/grpc"));
                    let Ok((body, _)) = held.body() else { continue };
                    assert_eq!(body, [b"\0\0\0\0\x08\x0a\x06", SERVICE.as_bytes()].concat());
                    let answer: &[u8] = match mood {
                        Mood::Well => b"\0\0\0\0\x02\x08\x01",
                        Mood::Ill => b"\0\0\0\0\x02\x08\x02",
                        Mood::Mute => {
                            mute.push(held);
                            continue;
                        }
                    };
                    held.begin(&status(200).with("content-type", "application/grpc"));
                    held.say(answer);
                    held.trailers(&Fields::new(&[("grpc-status", "0")]));
                }
            }
        }
    }
}

/// Endpoints that are tended.
pub(crate) struct Ward {
    patients: Arc<Mutex<Vec<Patient>>>,
    ending: Arc<AtomicBool>,
    nurse: Option<JoinHandle<()>>,
}

impl Ward {
    pub(crate) fn of(patients: Vec<Patient>) -> Self {
        let (patients, ending) = (Arc::new(Mutex::new(patients)), Arc::<AtomicBool>::default());
        let (tended, over) = (Arc::clone(&patients), Arc::clone(&ending));
        let nurse = std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                tended.lock().expect("no thread panics with it").iter_mut().for_each(Patient::tend);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { patients, ending, nurse: Some(nurse) }
    }

    /// Something of one of them.
    pub(crate) fn ask<T>(&self, number: usize, what: impl FnOnce(&mut Patient) -> T) -> T {
        what(&mut self.patients.lock().expect("the nurse is well")[number])
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let ended = self.nurse.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_some_and(|ended| ended.is_ok()), "what was asked was not what was due");
        }
    }
}

/// Endpoints that say the same to whoever connects, without listening; nothing where that is empty.
pub(crate) struct Rude {
    ports: Vec<u16>,
    shared: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    ending: AtomicBool,
}

impl Rude {
    pub(crate) fn start(says: &[u8]) -> Self {
        Self::many(says, 1)
    }

    pub(crate) fn many(says: &[u8], count: usize) -> Self {
        let shared: Arc<Counts> = Arc::default();
        let start = |_| {
            let bound = (0..100).find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok());
            let listener = bound.expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            let (shared, says) = (Arc::clone(&shared), says.to_vec());
            std::thread::spawn(move || accept(&listener, &says, &shared));
            port
        };
        let ports = (0..count).map(start).collect();
        Self { ports, shared }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Connections ever accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that were open at once.
    pub(crate) fn most(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, says: &[u8], shared: &Arc<Counts>) {
    while let Ok((mut stream, _)) = listener.accept() {
        if shared.ending.load(Ordering::SeqCst) {
            return;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(open, Ordering::SeqCst);
        let _ = stream.write_all(says);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let mut scratch = [0; 1_024];
            while stream.read(&mut scratch).is_ok_and(|len| len > 0) {}
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        for port in &self.ports {
            // Wakes the accepting thread.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, *port));
        }
    }
}

impl Sidecar {
    /// A cluster of `/clusters`.
    pub(crate) fn cluster(&self, name: &str) -> Value {
        let (code, page) = self.admin_get("/clusters");
        assert_eq!(code, 200, "{page}");
        let mut page: Value = serde_json::from_str(&page).expect("/clusters is JSON");
        page["clusters"][name].take()
    }

    /// An endpoint of the cluster `up`.
    pub(crate) fn endpoint(&self, address: &str) -> Value {
        let mut cluster = self.cluster("up");
        let endpoints = cluster["endpoints"].as_array_mut().map(std::mem::take).unwrap_or_default();
        endpoints.into_iter().find(|one| one["address"] == address).unwrap_or_default()
    }

    /// What health checks found of an endpoint of the cluster `up`: `well`, `ill`, or nothing yet.
    pub(crate) fn found(&self, address: &str) -> String {
        self.endpoint(address)["health"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Writes another conf into the sidecar's file and has it taken up.
    #[track_caller]
    pub(crate) fn reload(&self, conf: &str) {
        std::fs::write(self.conf_path(), conf).expect("the conf can be written");
        let (code, told) = self.admin_post("/reload");
        assert_eq!(code, 200, "{told}");
    }
}
