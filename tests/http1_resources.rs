//! What HTTP/1 may cost: memory with slow peers and large bodies, thousands of hostile callers, no file descriptors.
//!
//! Nothing here may grow with what a peer declares, sends or leaves unread, and a canary that calls all the while
//! gets every answer right. Bodies are made and compared on their way: none is ever held whole. No times are asserted.

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::echo::conf;
use support::http1::{Client, Upstream, get, post, straight};
use support::raw::ANSWER_MAX;
use support::{Sidecar, within};

const SOON: Duration = Duration::from_secs(5);
const GIB: u64 = 1 << 30;
const BLOCK: usize = 256 << 10;

/// Endless bytes that look the same nowhere near each other: whatever is lost, doubled or moved is noticed.
struct Pattern(Vec<u8>);

impl Pattern {
    /// A prime, so that no buffer's length divides it.
    const PERIOD: usize = 1_000_003;

    fn new() -> Arc<Self> {
        let mut state = 1_u32;
        let period: Vec<u8> = (0..Self::PERIOD)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let again = period[..BLOCK].to_vec();
        Arc::new(Self([period, again].concat()))
    }

    /// `len` bytes from this place on, a block at most.
    fn at(&self, place: u64, len: usize) -> &[u8] {
        let from = (place % Self::PERIOD as u64) as usize;
        &self.0[from..from + len]
    }

    /// Writes so many bytes, or as many as are taken; `written` shows how far it is.
    fn write(
        &self,
        mut to: &TcpStream,
        total: u64,
        chunked: bool,
        written: &AtomicU64,
    ) -> std::io::Result<()> {
        let mut place = 0;
        while place < total {
            let part = self.at(place, BLOCK.min((total - place) as usize));
            if chunked {
                to.write_all(format!("{:x}\r\n", part.len()).as_bytes())?;
            }
            to.write_all(part)?;
            if chunked {
                to.write_all(b"\r\n")?;
            }
            place += part.len() as u64;
            written.store(place, Ordering::Relaxed);
        }
        if chunked { to.write_all(b"0\r\n\r\n") } else { Ok(()) }
    }

    /// Reads so many bytes, which must be these.
    fn read(&self, mut from: impl std::io::Read, total: u64, mut each: impl FnMut(u64)) {
        let mut block = vec![0; BLOCK];
        let mut place = 0;
        while place < total {
            let want = BLOCK.min((total - place) as usize);
            let n = from.read(&mut block[..want]).expect("more comes");
            assert!(n > 0, "it ends after {place} of {total} bytes");
            assert!(block[..n] == *self.at(place, n), "other bytes near {place}");
            place += n as u64;
            each(place);
        }
    }
}

/// An endpoint that answers `GET /bytes/N` with so many bytes of the pattern, `GET /chunks/N` in chunks, `GET /close/N`
/// up to the end of the connection, and reads `POST` bodies of it; when the test says so it reads, and not before.
struct Store {
    pattern: Arc<Pattern>,
    address: String,
    /// Bytes written to the answer that was asked for last.
    written: Arc<AtomicU64>,
    /// Held by a test to keep bodies unread.
    gate: Arc<Mutex<()>>,
}

impl Store {
    fn start() -> Self {
        let pattern = Pattern::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        support::http1::many_may_wait(&listener);
        let address = listener.local_addr().expect("an address").to_string();
        let (written, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(())));
        let store = Self { pattern, address, written, gate };
        let (pattern, written, gate) = (store.pattern.clone(), store.written.clone(), store.gate.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (pattern, written, gate) = (pattern.clone(), written.clone(), gate.clone());
                // Small stacks: there may be hundreds. Ends with its connection.
                let builder = std::thread::Builder::new().stack_size(256 << 10);
                let _ = builder.spawn(move || serve(stream, &pattern, &written, &gate));
            }
        });
        store
    }

    /// A sidecar that carries everything to it.
    fn sidecar(&self, listener: &str) -> Sidecar {
        let listener = format!("    protocol: http1\n{listener}    routes: [{{ match: {{}}, to: up }}]");
        let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", self.address);
        Sidecar::start(&conf(&listener, &clusters))
    }
}

fn serve(stream: TcpStream, pattern: &Pattern, written: &AtomicU64, gate: &Mutex<()>) {
    let mut link = support::http1::Link::new(stream);
    link.patient();
    while let Ok(Some(head)) = link.head() {
        let target = head.target().to_owned();
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        let done = if let Some(total) = target.strip_prefix("/bytes/") {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n");
            link.try_send(head.as_bytes())
                .and_then(|()| pattern.write(link.stream(), number(total), false, written))
        } else if let Some(total) = target.strip_prefix("/chunks/") {
            link.try_send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .and_then(|()| pattern.write(link.stream(), number(total), true, written))
        } else if let Some(total) = target.strip_prefix("/close/") {
            let _ = link
                .try_send(b"HTTP/1.1 200 OK\r\n\r\n")
                .and_then(|()| pattern.write(link.stream(), number(total), false, written));
            return;
        } else {
            let total = head.get("content-length").map_or(0, number);
            drop(gate.lock().expect("no thread panics with it"));
            pattern.read(link.reader(), total, |_| ());
            let text = format!("{total} read");
            link.try_send(support::http1::ok(&text, "").as_bytes())
        };
        if done.is_err() {
            return;
        }
    }
}

/// Looks at the sidecar's memory all the time until it is dropped.
struct Scale {
    most: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
    before: u64,
}

impl Scale {
    fn new(sidecar: &Sidecar) -> Self {
        let (most, ending) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, over, pid) = (most.clone(), ending.clone(), sidecar.pid());
        let rss = move || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        let before = rss().expect("it runs");
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                seen.fetch_max(rss().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { most, ending, before }
    }

    /// By how many KiB it grew at most.
    fn grown(&self) -> u64 {
        self.most.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

impl Drop for Scale {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

/// A caller that must notice nothing: it calls all the time.
struct Canary {
    ending: Arc<AtomicBool>,
    sings: std::thread::JoinHandle<u64>,
}

impl Canary {
    /// On one connection, and on a fresh one now and then if it `connects`.
    fn start(port: u16, connects: bool) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let over = ending.clone();
        let sings = std::thread::spawn(move || {
            let (mut client, mut calls) = (Client::connect(port), 0);
            while !over.load(Ordering::Relaxed) {
                client.well(calls);
                calls += 1;
                if connects && calls % 20 == 0 {
                    client = Client::connect(port);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            calls
        });
        Self { ending, sings }
    }

    /// Each of its calls was answered right.
    fn ends(self) {
        self.ending.store(true, Ordering::Relaxed);
        let calls = self.sings.join().expect("the canary noticed something");
        assert!(calls > 20, "the canary made {calls} calls");
    }
}

/// A caller with little room for what it does not read.
fn small(sidecar: &Sidecar) -> Client {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("a socket option");
    let address: std::net::SocketAddr = (Ipv4Addr::LOCALHOST, sidecar.port("main")).into();
    socket.connect(&address.into()).expect("the listener is there");
    Client { link: support::http1::Link::new(socket.into()) }
}

/// Has this test process, and those it starts, allowed as many files as the machine lets them have.
fn raise_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Failing that, what there is must do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn connections(sidecar: &Sidecar) -> u64 {
    sidecar.metric("outrigger_worker_connections", &[])
}

#[test]
fn a_gibibyte_down_to_a_slow_reader_passes_unchanged_and_is_never_held() {
    let store = Store::start();
    let mut sidecar = store.sidecar("");
    for (kind, total) in [("bytes", GIB), ("chunks", GIB / 4), ("close", GIB / 4)] {
        let mut client = sidecar.http();
        assert_eq!(client.get(&format!("/{kind}/100000")).body.bytes, store.pattern.at(0, 100_000));
        let scale = Scale::new(&sidecar);
        client.send(get(&format!("/{kind}/{total}")));
        let head = client.link.head().expect("a head").expect("a head");
        // Nobody reads: then nobody writes either, for long.
        std::thread::sleep(Duration::from_millis(500));
        let written = store.written.load(Ordering::Relaxed);
        assert!(written < total / 4, "{written} bytes went to a reader that does not read");
        if kind == "bytes" {
            assert_eq!(head.get("content-length"), Some(&*total.to_string()));
            let slow = |place| {
                if place < 4 << 20 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            };
            store.pattern.read(client.link.reader(), total, slow);
        } else {
            let mut place = 0;
            while let Some(chunk) = client.link.chunk().expect("a whole chunk") {
                assert!(chunk == *store.pattern.at(place, chunk.len()), "other bytes near {place}");
                place += chunk.len() as u64;
            }
            assert_eq!(place, total);
        }
        assert!(scale.grown() < 8 << 10, "{kind}: grew by {} KiB", scale.grown());
    }
    sidecar.rests();
}

#[test]
fn a_gibibyte_up_to_a_slow_endpoint_passes_unchanged_and_is_never_held() {
    let store = Store::start();
    let mut sidecar = store.sidecar("");
    let mut client = sidecar.http();
    client.send(post("/up", 100_000, ""));
    client.send(store.pattern.at(0, 100_000));
    client.next().is("100000 read");
    let scale = Scale::new(&sidecar);
    let written = AtomicU64::new(0);
    let closed = store.gate.lock().expect("no thread panics with it");
    client.send(post("/up", GIB as usize, ""));
    let writer = client.link.stream().try_clone().expect("a clone");
    std::thread::scope(|scope| {
        scope.spawn(|| store.pattern.write(&writer, GIB, false, &written).expect("all of it is taken"));
        std::thread::sleep(Duration::from_millis(500));
        let taken = written.load(Ordering::Relaxed);
        assert!(taken < GIB / 4, "{taken} bytes were taken for an endpoint that does not read");
        drop(closed);
        client.link.patient();
        client.next().is(&format!("{GIB} read"));
    });
    assert!(scale.grown() < 8 << 10, "grew by {} KiB", scale.grown());
    drop((client, writer));
    sidecar.rests();
}

#[test]
fn a_body_that_waits_in_line_is_not_held() {
    const LARGE: u64 = 64 << 20;
    let store = Store::start();
    let listener = "    protocol: http1\n    routes: [{ match: {}, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"], connections: 1 }}", store.address);
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut first = small(&sidecar);
    first.send(get(&format!("/bytes/{LARGE}")));
    assert_eq!(first.link.head().expect("a head").expect("a head").status(), 200);
    let scale = Scale::new(&sidecar);
    let mut client = sidecar.http();
    let written = AtomicU64::new(0);
    let writer = client.link.stream().try_clone().expect("a clone");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&writer).write_all(post("/up", LARGE as usize, "").as_bytes()).expect("it is taken");
            store.pattern.write(&writer, LARGE, false, &written).expect("all of it is taken");
        });
        std::thread::sleep(Duration::from_millis(500));
        let taken = written.load(Ordering::Relaxed);
        assert!(taken < LARGE / 2, "{taken} bytes were taken of a request that is not begun");
        store.pattern.read(first.link.reader(), LARGE, |_| ());
        client.next().is(&format!("{LARGE} read"));
    });
    assert!(scale.grown() < 8 << 10, "grew by {} KiB", scale.grown());
    drop((first, client, writer));
    sidecar.rests();
}

#[test]
fn an_endpoint_that_reads_nothing_is_given_up_and_so_is_a_caller_that_owes_the_rest() {
    const LARGE: u64 = 64 << 20;
    let store = Store::start();
    let listener = "    protocol: http1
    idle_timeout: 700ms
    keepalive_timeout: 700ms
    routes: [{ match: { path: /up }, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", store.address);
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let scale = Scale::new(&sidecar);
    let closed = store.gate.lock().expect("no thread panics with it");
    let mut client = sidecar.http();
    client.send(post("/up", LARGE as usize, ""));
    let writer = client.link.stream().try_clone().expect("a clone");
    let pattern = store.pattern.clone();
    // It may be closed in the middle of it; what of it is read for the sake of good manners is thrown away.
    let writes = std::thread::spawn(move || drop(pattern.write(&writer, LARGE, false, &AtomicU64::new(0))));
    let answer = client.next();
    answer.refused(504, "timed_out");
    assert!(answer.head.closes(), "{answer:?}");
    client.closed();
    writes.join().expect("the writer");
    drop(closed);
    // Refused, and what it announced never comes.
    let mut owes = sidecar.http();
    owes.send(format!("{}some", post("/nowhere", 1_000, "")));
    owes.next().refused(404, "no_route");
    owes.closed();
    assert!(scale.grown() < 8 << 10, "grew by {} KiB", scale.grown());
    drop((client, owes));
    sidecar.rests();
}

#[test]
fn a_tunnel_holds_no_more_than_its_slower_side_takes() {
    const LARGE: u64 = 128 << 20;
    let pattern = Pattern::new();
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = small(&sidecar);
    client.send("GET /tunnel HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut held = upstream.next();
    held.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.link.head().expect("a head").expect("a head").status(), 101);
    let scale = Scale::new(&sidecar);
    let (up, down) = (client.link.stream().try_clone(), held.link().stream().try_clone());
    let (up, down) = (up.expect("a clone"), down.expect("a clone"));
    let written = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        for (to, written) in [(&up, &written[0]), (&down, &written[1])] {
            let pattern = &pattern;
            scope.spawn(move || pattern.write(to, LARGE, false, written).expect("all of it is taken"));
        }
        std::thread::sleep(Duration::from_millis(500));
        for written in &written {
            let taken = written.load(Ordering::Relaxed);
            assert!(taken < LARGE / 2, "{taken} bytes were taken for somebody who does not read");
        }
        scope.spawn(|| pattern.read(held.link().reader(), LARGE, |_| ()));
        pattern.read(client.link.reader(), LARGE, |_| ());
    });
    assert!(scale.grown() < 8 << 10, "grew by {} KiB", scale.grown());
    drop((client, held, up, down));
    sidecar.rests();
}

#[test]
fn fifty_slow_readers_of_large_answers_cost_a_buffer_each_and_disturb_nobody() {
    const READERS: usize = 50;
    const LARGE: u64 = 32 << 20;
    let (store, upstream) = (Store::start(), Upstream::start());
    let listener = "    protocol: http1
    routes:
      - { match: { path: { prefix: /echo } }, to: up }
      - { match: {}, to: store }";
    let clusters = format!(
        "clusters:\n  up: {{ endpoints: [\"{}\"] }}\n  store: {{ endpoints: [\"{}\"] }}",
        upstream.address(),
        store.address
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    sidecar.http().well("warm");
    let canary = Canary::start(sidecar.port("main"), true);
    std::thread::sleep(Duration::from_millis(100));
    let scale = Scale::new(&sidecar);
    let mut readers: Vec<Client> = (0..READERS).map(|_| small(&sidecar)).collect();
    for (at, client) in readers.iter().enumerate() {
        let kind = if at % 2 == 0 { "bytes" } else { "chunks" };
        client.send(get(&format!("/{kind}/{LARGE}")));
    }
    for client in &mut readers {
        assert_eq!(client.link.head().expect("a head").expect("a head").status(), 200);
    }
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(scale.grown() < READERS as u64 * 256 + (4 << 10), "grew by {} KiB", scale.grown());
    // Some read on and get everything; the others leave.
    for (at, mut client) in readers.into_iter().enumerate() {
        if at == 0 {
            store.pattern.read(client.link.reader(), LARGE, |_| ());
        } else if at % 3 == 0 {
            client.link.reset();
        }
    }
    canary.ends();
    sidecar.rests();
    let left = || sidecar.metric("outrigger_upstream_connections", &["cluster=\"store\""]) <= 1;
    assert!(within(SOON, left), "connections whose answer nobody wants are closed");
}

/// What a caller heard until its connection ended, which it must.
#[track_caller]
fn to_the_end(client: &mut Client) -> Vec<u8> {
    let mut heard = Vec::new();
    match client.link.reader().read_to_end(&mut heard) {
        // An RST at the end is an end.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("it does not end: {error}"),
        _ => heard,
    }
}

/// That a caller was told 408 and let go.
#[track_caller]
fn told_408(client: &mut Client) {
    let answer = client.next();
    answer.refused(408, "timed_out");
    assert!(answer.head.closes(), "{answer:?}");
    client.closed();
}

#[test]
fn two_thousand_slow_callers_are_closed_at_their_deadlines_and_the_canary_sings() {
    let many = if raise_files() > 9_000 { 2_000 } else { 200 };
    let (store, upstream) = (Store::start(), Upstream::start());
    let listener = "    protocol: http1
    head_timeout: 1500ms
    idle_timeout: 2s
    keepalive_timeout: 2s
    routes:
      - { match: { path: { prefix: /echo } }, to: up }
      - { match: {}, to: store }";
    let clusters = format!(
        "clusters:\n  up: {{ endpoints: [\"{}\"], connect_timeout: 9s }}\n  store: {{ endpoints: [\"{}\"], connect_timeout: 9s }}",
        upstream.address(),
        store.address
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters).replace("workers: 1", "workers: 2"));
    sidecar.http().well("warm");
    let before = sidecar.files();
    let scale = Scale::new(&sidecar);
    let canary = Canary::start(sidecar.port("main"), true);
    let of = |share: usize| -> Vec<Client> { (0..many * share / 20).map(|_| small(&sidecar)).collect() };
    let (mut heads, mut bodies, mut deaf, mut silent) = (of(10), of(4), of(2), of(4));
    for client in &heads {
        client.send("GET /echo HTTP/1.1\r\n");
    }
    for client in &bodies {
        client.send(format!("{}some", post("/echo/body", 1_000, "")));
    }
    for client in &deaf {
        client.send(get(&format!("/bytes/{GIB}")));
    }
    // A byte each, again and again: that something comes must not help.
    for turn in 0..8 {
        for client in &heads {
            // Those whose time is up are closed.
            let _ = client.link.try_send(&[b'a' + turn]);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    heads.iter_mut().for_each(told_408);
    bodies.iter_mut().for_each(told_408);
    for client in &mut silent {
        assert_eq!(to_the_end(client), b"", "silence is closed without a word");
    }
    assert!(within(ANSWER_MAX, || connections(&sidecar) <= 1), "{}", sidecar.stats());
    for client in &mut deaf {
        let heard = to_the_end(client);
        assert!(heard.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", heard[..heard.len().min(80)].escape_ascii());
    }
    // Two small buffers each, in a debug build.
    assert!(scale.grown() < many as u64 * 64 + (16 << 10), "grew by {} KiB", scale.grown());
    canary.ends();
    drop((heads, bodies, deaf, silent));
    sidecar.rests();
    let files = || sidecar.files() <= before + 8;
    assert!(within(ANSWER_MAX, files), "{} descriptors of {before}", sidecar.files());
}

#[test]
fn requests_in_one_write_are_answered_in_order_and_more_than_is_read_is_not_taken() {
    const IN_BLOCK: usize = 20;
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = sidecar.http();
    client.well("warm");
    let scale = Scale::new(&sidecar);
    let all: String = (0..1_000).map(|at| get(&format!("/echo/{at}"))).collect();
    client.send(all);
    for at in 0..1_000 {
        client.next().is(&format!(" GET /echo/{at} "));
    }
    // Without end, and without reading a single answer.
    let deaf = small(&sidecar);
    deaf.link.stream().set_write_timeout(Some(Duration::from_secs(1))).expect("a socket option");
    // Long ones, whose answers are as long: what the kernel holds of them is a few thousand, not a hundred thousand.
    let block = get(&format!("/echo/{}", "unread".repeat(340))).repeat(IN_BLOCK);
    let before = upstream.seen().len();
    let mut sent = 0;
    while sent < 4_000 && deaf.link.try_send(block.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 4_000, "{sent} blocks of requests were taken from a caller that reads nothing");
    // What was taken of them is served as far as the answers find room; then it stands still.
    let stands = within(ANSWER_MAX, || {
        let begun = upstream.seen().len();
        std::thread::sleep(Duration::from_millis(300));
        upstream.seen().len() == begun
    });
    assert!(
        stands && upstream.seen().len() - before < IN_BLOCK * (sent + 1),
        "answers are piled up somewhere"
    );
    client.well("still");
    assert!(scale.grown() < 8 << 10, "grew by {} KiB", scale.grown());
    drop((client, deaf));
    sidecar.rests();
}

/// Sends the same again and again until nobody takes it or `most` bytes are gone; then what the sidecar said.
fn flood(sidecar: &Sidecar, begin: &str, block: &str, most: usize) -> Vec<u8> {
    let mut client = sidecar.http();
    client.send(begin);
    let mut sent = 0;
    while sent < most && client.link.try_send(block.as_bytes()).is_ok() {
        sent += block.len();
    }
    to_the_end(&mut client)
}

#[test]
fn floods_of_headers_extensions_and_trailers_end_early_and_cost_nothing() {
    const MOST: usize = 64 << 20;
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    sidecar.http().well("warm");
    let scale = Scale::new(&sidecar);
    let canary = Canary::start(sidecar.port("main"), false);
    let chunked = "POST /echo/x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = "a".repeat(16 << 10);
    for (begin, block, status) in [
        ("GET / HTTP/1.1\r\nHost: t\r\n", "X-A: b\r\n".repeat(2_000), "431"),
        ("GET / HTTP/1.1\r\nHost: t\r\nX-A: ", long.clone(), "431"),
        ("GET / HTTP/1.1\r\nHost: t\r\n", long.clone(), "431"),
        ("GET /", long.clone(), "414"),
        (chunked, format!("1;a={}\r\nx\r\n", "b".repeat(500)), "400"),
        (&*format!("{chunked}1;a="), long.clone(), "400"),
        (&*format!("{chunked}0"), "0".repeat(1_000), "400"),
        (&*format!("{chunked}0\r\n"), "X-A: b\r\n".repeat(2_000), "4"),
        (&*format!("{chunked}0\r\nX-A: "), long.clone(), "4"),
    ] {
        let heard = flood(&sidecar, begin, &block, MOST);
        // What floods on may lose the answer to its own reset; what is heard is the refusal alone.
        let due = format!("HTTP/1.1 {status}");
        assert!(heard.is_empty() || heard.starts_with(due.as_bytes()), "{begin:?}: {}", heard.escape_ascii());
        assert_eq!(sidecar.metric("outrigger_panics_total", &[]), 0);
        sidecar.http().well("others");
    }
    // Many that stop just below the limit hold that much at most.
    let below = format!("GET / HTTP/1.1\r\nHost: t\r\nX-A: {}", "a".repeat(60 << 10));
    let stuck: Vec<Client> = (0..100).map(|_| sidecar.http()).collect();
    for client in &stuck {
        client.send(&below);
    }
    assert!(within(SOON, || connections(&sidecar) >= 101));
    std::thread::sleep(Duration::from_millis(200));
    assert!(scale.grown() < 100 * 160 + (8 << 10), "grew by {} KiB", scale.grown());
    canary.ends();
    drop(stuck);
    sidecar.rests();
}

#[test]
fn an_endpoint_that_floods_is_cut_off_and_its_caller_told() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = sidecar.http();
    client.well("warm");
    let scale = Scale::new(&sidecar);
    let long = "a".repeat(16 << 10);
    for (begin, block) in [
        ("HTTP/1.1 200 OK\r\n", "X-A: b\r\n".repeat(2_000)),
        ("HTTP/1.1 200 OK\r\nX-A: ", long.clone()),
        ("HTTP/1.1 200 ", long.clone()),
        ("", "\r\n".repeat(8_000)),
    ] {
        client.send(get("/flood"));
        let mut held = upstream.next();
        held.send(begin);
        let mut sent = 0;
        while sent < 64 << 20 && held.link().try_send(block.as_bytes()).is_ok() {
            sent += block.len();
        }
        assert!(sent < 64 << 20, "{begin:?}: somebody took all of it");
        client.next().refused(502, "unreachable");
        client.well("after it");
    }
    // Chunked answers whose framing never ends.
    for block in [format!("1;{}\r\nx\r\n", "b".repeat(500)), "0".repeat(1_000)] {
        let mut client = sidecar.http();
        client.send(get("/flood"));
        let mut held = upstream.next();
        held.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        assert_eq!(client.link.head().expect("a head").expect("a head").status(), 200);
        let reads = std::thread::spawn(move || to_the_end(&mut client));
        let mut sent = 0;
        while sent < 64 << 20 && held.link().try_send(block.as_bytes()).is_ok() {
            sent += block.len();
        }
        assert!(sent < 64 << 20, "{:?}: somebody took all of it", &block[..10]);
        drop(held);
        let heard = reads.join().expect("the reader");
        assert!(!heard.ends_with(b"0\r\n\r\n"), "no clean end is made of it");
    }
    assert!(scale.grown() < 8 << 10, "grew by {} KiB", scale.grown());
    drop(client);
    sidecar.rests();
}

#[test]
fn bodies_in_the_smallest_pieces_pass_whole_both_ways() {
    const PIECES: usize = 50_000;
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = sidecar.http();
    client.well("warm");
    let scale = Scale::new(&sidecar);
    client.send("POST /pieces HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    let pieces: String =
        (0..PIECES).map(|at| if at % 2 == 0 { "1\r\na\r\n" } else { "1\r\nb\r\n" }).collect();
    let writer = client.link.stream().try_clone().expect("a clone");
    let (up, down) = (pieces.clone(), pieces);
    let writes = std::thread::spawn(move || {
        (&writer).write_all(up.as_bytes()).and_then(|()| (&writer).write_all(b"0\r\n\r\n"))
    });
    let due = "ab".repeat(PIECES / 2);
    let mut held = upstream.next();
    let body = held.body().expect("whole");
    assert!(body.bytes == due.as_bytes() && body.chunks.len() == PIECES, "{} chunks", body.chunks.len());
    writes.join().expect("the writer").expect("all of it is taken");
    let answers = std::thread::spawn(move || {
        held.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        held.send(&down);
        held.send("0\r\nX-Trailer: t\r\n\r\n");
        held.release();
    });
    let answer = client.next();
    assert!(answer.body.bytes == due.as_bytes() && answer.body.chunks.len() == PIECES);
    assert_eq!(answer.body.trailers, [("X-Trailer".to_owned(), "t".to_owned())]);
    answers.join().expect("the writer");
    client.well("after it");
    assert!(scale.grown() < 8 << 10, "grew by {} KiB", scale.grown());
    drop(client);
    sidecar.rests();
}

/// So many connections to the listener `main`, on which nothing is said.
fn idle(sidecar: &Sidecar, count: usize) -> Vec<Client> {
    (0..count).map(|_| sidecar.http()).collect()
}

fn all_well(clients: &mut [Client], what: impl std::fmt::Display) {
    for client in clients {
        client.well(&what);
    }
}

#[test]
fn beyond_connections_max_callers_wait_and_are_served_when_there_is_room() {
    let upstream = Upstream::start();
    let rest = format!(
        "limits: {{ connections_max: 20 }}\nclusters:\n  up: {{ endpoints: [\"{}\"] }}",
        upstream.address()
    );
    let listener = "    protocol: http1\n    routes: [{ match: {}, to: up }]";
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    let mut served: Vec<Client> = (0..4).map(|_| sidecar.http()).collect();
    all_well(&mut served, "first");
    let mut flood = idle(&sidecar, 16);
    assert!(within(ANSWER_MAX, || connections(&sidecar) == 20), "{}", sidecar.stats());
    // One more: accepted by the kernel, not by us; its request waits.
    let mut waiting = sidecar.http();
    waiting.send(get("/echo/waits"));
    waiting.link.silent(Duration::from_millis(300));
    all_well(&mut served, "second");
    assert_eq!(sidecar.admin_get("/ready").0, 200);
    flood.pop();
    waiting.next().is(" GET /echo/waits ");
    drop((served, flood, waiting));
    sidecar.rests();
}

/// Leaves a running sidecar so few file descriptors. `told`: it reads the limit again, as at its start.
fn limit_files(sidecar: &Sidecar, files: u32, told: bool) {
    let mut prlimit = std::process::Command::new("prlimit");
    let done =
        prlimit.arg(format!("--pid={}", sidecar.pid())).arg(format!("--nofile={files}:{files}")).status();
    assert!(done.is_ok_and(|status| status.success()), "prlimit does not work here");
    if told {
        assert_eq!(sidecar.admin_post("/reload").0, 200);
    }
}

#[test]
fn without_file_descriptors_what_is_served_goes_on_and_the_rest_waits_or_is_told() {
    let upstream = Upstream::start();
    // Once it leaves room by itself; once it meets the limit unprepared.
    for told in [true, false] {
        let mut sidecar = straight(&upstream, "", "timeout: 20s", "");
        limit_files(&sidecar, 256, told);
        let mut served = idle(&sidecar, 4);
        all_well(&mut served, "first");
        let flood = idle(&sidecar, 400);
        std::thread::sleep(Duration::from_millis(300));
        for round in 0..5 {
            all_well(&mut served, round);
            let (status, _) = support::http_get(sidecar.admin(), "/metrics").expect("the admin port answers");
            assert_eq!(status, 200);
        }
        let taken = connections(&sidecar);
        assert!((100..256).contains(&taken), "{taken} connections with 256 descriptors");
        let lines = sidecar.log().lines().count();
        std::thread::sleep(Duration::from_millis(700));
        let lines = sidecar.log().lines().count() - lines;
        assert!(lines <= 10, "{lines} lines of log while it waits");
        let mut waiting = sidecar.http();
        waiting.send(get("/echo/waits"));
        drop(flood);
        waiting.next().is(" GET /echo/waits ");

        // Requests that each need a connection to an endpoint as well: answered, or told, or a moment later.
        let callers = idle(&sidecar, 200);
        for client in &callers {
            client.send(get("/held"));
        }
        std::thread::sleep(Duration::from_millis(300));
        let hears = std::thread::spawn(move || {
            // Each leaves with its answer and makes room.
            let counts = callers.into_iter().map(|mut client| {
                let answer = client.next();
                assert!(matches!(answer.status(), 200 | 502 | 503), "{answer:?}");
                usize::from(answer.status() == 200)
            });
            counts.sum::<usize>()
        });
        while !hears.is_finished() {
            if let Some(held) = upstream.next_within(Duration::from_millis(50)) {
                held.answer("at last");
            }
        }
        let answered = hears.join().expect("each is answered or told");
        assert!(answered >= 20, "{answered} of 200 were answered");
        all_well(&mut served, "again");
        drop((served, waiting));
        sidecar.rests();
        sidecar.http().well("at the end");
    }
}
