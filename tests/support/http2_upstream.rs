//! An endpoint that speaks HTTP/2 and does what the test says.
//!
//! It answers `/echo…` by itself (a named one answers everything, calls of gRPC in gRPC's manner) and hands every other
//! request to the test as soon as its head has come, together with its connection. What comes of it later is told by
//! that handle. Windows are given back by themselves unless the test forbids it; what is sent respects the sidecar's.

use super::http1::many_may_wait;
use super::http2::{
    ACK, End, Event, FIRST_WINDOW, FRAME_MAX, Fields, Frame, PING, PREFACE, Reader, SETTINGS, STREAMS_MAX,
    WINDOW, data, frame, goaway, headers, rst, settings, status, window,
};
use super::raw::ANSWER_MAX;
use super::{Sidecar, free_port, within};
use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// No connection of a test rests longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One stream that has not ended.
#[derive(Default)]
struct Stream {
    /// What the sidecar takes more of it than of another.
    window: i64,
    /// Who hears of it, unless it is answered by itself.
    told: Option<Sender<Event>>,
    /// Nothing more comes of it.
    whole: bool,
    /// Nothing more is said on it.
    answered: bool,
    head: Fields,
    body: Vec<u8>,
}

#[derive(Default)]
struct State {
    first_window: i64,
    send_window: i64,
    streams: HashMap<u32, Stream>,
    /// The last number that came.
    last: u32,
    /// What the sidecar said in goodbye.
    goodbye: Option<(u32, u32)>,
    asked: Vec<(u16, u32)>,
    ended: Option<End>,
    pongs: usize,
}

/// Something to be said.
type Saying = Box<dyn FnOnce() + Send>;

struct Shared {
    number: usize,
    /// What is said in turn by a thread of its own.
    later: Sender<Saying>,
    stream: TcpStream,
    writing: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

/// A connection that the sidecar made.
#[derive(Clone)]
pub(crate) struct Conn {
    shared: Arc<Shared>,
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "connection {}", self.number())
    }
}

impl Conn {
    /// Counts from 0 in the order of their arrival.
    pub(crate) fn number(&self) -> usize {
        self.shared.number
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no thread panics with it")
    }

    /// Sends these, unless the sidecar has left.
    pub(crate) fn send(&self, frames: &[Frame]) {
        self.bytes(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>());
    }

    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let _turn = self.shared.writing.lock().expect("no thread panics with it");
        // Whether it is there still is seen by what it sends.
        let _ = (&self.shared.stream).write_all(bytes);
    }

    /// Takes no streams above `last`.
    pub(crate) fn goaway(&self, last: u32, code: u32) {
        self.send(&[goaway(last, code)]);
    }

    /// Ends in order.
    pub(crate) fn close(&self) {
        let _ = self.shared.stream.shutdown(Shutdown::Write);
    }

    /// Ends at once, with whatever is still to come.
    pub(crate) fn cut(&self) {
        let linger = socket2::SockRef::from(&self.shared.stream).set_linger(Some(Duration::ZERO));
        linger.expect("a socket option");
        let _ = self.shared.stream.shutdown(Shutdown::Both);
    }

    /// Waits until this is known of the connection.
    #[track_caller]
    fn wait<T>(&self, what: &str, mut known: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = self.state();
        loop {
            if let Some(found) = known(&mut state) {
                return found;
            }
            let (next, timeout) =
                self.shared.changed.wait_timeout(state, ANSWER_MAX).expect("no thread panics with it");
            assert!(!timeout.timed_out(), "{self:?}: {what} never came");
            state = next;
        }
    }

    /// How the sidecar ended it.
    #[track_caller]
    pub(crate) fn ends(&self) -> End {
        self.wait("its end", |state| state.ended)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().ended.is_none()
    }

    /// What the sidecar said of its own settings.
    #[track_caller]
    pub(crate) fn asked(&self) -> Vec<(u16, u32)> {
        self.wait("SETTINGS", |state| (!state.asked.is_empty()).then(|| state.asked.clone()))
    }

    /// What the sidecar said in goodbye.
    #[track_caller]
    pub(crate) fn goodbye(&self) -> (u32, u32) {
        self.wait("GOAWAY", |state| state.goodbye)
    }

    /// The last stream that came.
    pub(crate) fn last(&self) -> u32 {
        self.state().last
    }

    /// One side of a stream has said all.
    fn over(&self, id: u32, side: impl FnOnce(&mut Stream)) {
        let mut state = self.state();
        if let Some(stream) = state.streams.get_mut(&id) {
            side(stream);
            if stream.whole && stream.answered {
                state.streams.remove(&id);
            }
        }
    }

    /// Its answer ends with what is sent next: before that, as the sidecar may send another call at once.
    fn answered(&self, stream: u32) {
        self.over(stream, |stream| stream.answered = true);
    }

    /// Sends a body as far as the windows allow, and waits for them. `false`: nobody wants the rest.
    pub(crate) fn body(&self, stream: u32, bytes: &[u8], end: bool) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut state = self.state();
            let own = state.streams.get(&stream).map(|stream| stream.window);
            let Some(own) = own.filter(|_| state.ended.is_none()) else { return false };
            let len = usize::try_from(own.min(state.send_window)).unwrap_or(0).min(rest.len()).min(FRAME_MAX);
            if len == 0 {
                drop(self.shared.changed.wait_timeout(state, Duration::from_millis(200)));
                continue;
            }
            state.send_window -= len as i64;
            state.streams.entry(stream).or_default().window -= len as i64;
            drop(state);
            let (now, later) = rest.split_at(len);
            let last = end && later.is_empty();
            if last {
                self.answered(stream);
            }
            self.send(&[data(stream, now, last)]);
            rest = later;
        }
        if bytes.is_empty() {
            if end {
                self.answered(stream);
            }
            self.send(&[data(stream, [], end)]);
        }
        true
    }
}

/// A request whose head has come and which the test answers, or not.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) conn: Conn,
    pub(crate) stream: u32,
    pub(crate) head: Fields,
    /// Nothing follows its head.
    pub(crate) whole: bool,
    events: Receiver<Event>,
}

impl Held {
    pub(crate) fn path(&self) -> &str {
        self.head.get(":path").unwrap_or_default()
    }

    pub(crate) fn method(&self) -> &str {
        self.head.get(":method").unwrap_or_default()
    }

    /// What comes next of it.
    #[track_caller]
    pub(crate) fn next(&self) -> Event {
        let event = self.events.recv_timeout(ANSWER_MAX);
        event.unwrap_or_else(|_| panic!("nothing more came of {}", self.path()))
    }

    /// Nothing may come of it for this long.
    #[track_caller]
    pub(crate) fn silent(&self, time: Duration) {
        if let Ok(event) = self.events.recv_timeout(time) {
            panic!("nothing should come of {}, but: {event:?}", self.path());
        }
    }

    /// The rest of the request, or how it was given up: by a code, or with its connection.
    pub(crate) fn body(&self) -> Result<(Vec<u8>, Option<Fields>), Event> {
        let (mut body, mut whole) = (Vec::new(), self.whole);
        while !whole {
            match self.next() {
                Event::Data { bytes, end, .. } => {
                    body.extend(bytes);
                    whole = end;
                }
                Event::Head { fields, end: true, .. } => return Ok((body, Some(fields))),
                other => return Err(other),
            }
        }
        Ok((body, None))
    }

    /// So many bytes of the request, or more.
    #[track_caller]
    pub(crate) fn came(&self, len: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < len {
            match self.next() {
                Event::Data { bytes, .. } => body.extend(bytes),
                other => panic!("a body was due, but: {other:?}"),
            }
        }
        body
    }

    /// The sidecar must take the call back; gives the code.
    #[track_caller]
    pub(crate) fn taken_back(&self) -> u32 {
        loop {
            match self.next() {
                Event::Reset { code, .. } => return code,
                Event::Data { .. } => {}
                other => panic!("a reset was due, but: {other:?}"),
            }
        }
    }

    pub(crate) fn send(&self, frames: &[Frame]) {
        self.conn.send(frames);
    }

    pub(crate) fn begin(&self, fields: &Fields) {
        self.send(&[headers(self.stream, fields, false)]);
    }

    pub(crate) fn say(&self, bytes: impl AsRef<[u8]>) {
        self.conn.body(self.stream, bytes.as_ref(), false);
    }

    pub(crate) fn end(&self, bytes: impl AsRef<[u8]>) {
        self.conn.body(self.stream, bytes.as_ref(), true);
    }

    /// A head that ends the answer, alone or behind others.
    pub(crate) fn trailers(&self, fields: &Fields) {
        self.conn.answered(self.stream);
        self.send(&[headers(self.stream, fields, true)]);
    }

    pub(crate) fn reset(&self, code: u32) {
        self.conn.over(self.stream, |stream| (stream.whole, stream.answered) = (true, true));
        self.send(&[rst(self.stream, code)]);
    }

    /// Answers with status 200 and this body.
    pub(crate) fn answer(&self, body: &str) {
        self.begin(&status(200));
        self.end(body);
    }

    /// Answers as gRPC does.
    pub(crate) fn answer_grpc(&self, body: &str) {
        self.begin(&status(200).with("content-type", "application/grpc"));
        self.say(body);
        self.trailers(&Fields::new(&[("grpc-status", "0")]));
    }
}

struct Inner {
    name: String,
    port: u16,
    settings: Vec<(u16, u32)>,
    accepted: AtomicUsize,
    /// Each request: the number of its connection, and method and target.
    seen: Mutex<Vec<(usize, String)>>,
    conns: Mutex<Vec<Conn>>,
    /// Streams that were open at once on one connection.
    most: AtomicUsize,
    resets: AtomicUsize,
    bytes: AtomicUsize,
    generous: AtomicBool,
    ending: AtomicBool,
    held: Sender<Held>,
}

/// A listening endpoint; ends with its handle.
pub(crate) struct Upstream {
    inner: Arc<Inner>,
    held: Receiver<Held>,
    accepting: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Answers `/echo…` by itself.
    pub(crate) fn start() -> Self {
        Self::with("", &[])
    }

    /// Answers everything by itself, with its name first.
    pub(crate) fn named(name: &str) -> Self {
        Self::with(name, &[])
    }

    /// Greets with these settings.
    pub(crate) fn with(name: &str, own: &[(u16, u32)]) -> Self {
        // Another test process may take a port between the look and the bind.
        let bound = (0..100).find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok());
        Self::serve(bound.expect("a free port"), name, own)
    }

    /// Takes so many streams at once.
    pub(crate) fn narrow(streams: u32) -> Self {
        Self::with("", &[(STREAMS_MAX, streams)])
    }

    /// Again on the port of one that was stopped.
    pub(crate) fn start_at(port: u16) -> Self {
        Self::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free"), "", &[])
    }

    fn serve(listener: TcpListener, name: &str, own: &[(u16, u32)]) -> Self {
        many_may_wait(&listener);
        let port = listener.local_addr().expect("it is bound").port();
        let (sender, held) = mpsc::channel();
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            port,
            settings: own.to_vec(),
            accepted: AtomicUsize::new(0),
            seen: Mutex::default(),
            conns: Mutex::default(),
            most: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            generous: AtomicBool::new(true),
            ending: AtomicBool::new(false),
            held: sender,
        });
        let shared = Arc::clone(&inner);
        let accepting = std::thread::spawn(move || accept(&listener, &shared));
        Self { inner, held, accepting: Some(accepting) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.inner.port
    }

    /// `host:port`, as the conf has it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.inner.port)
    }

    /// The next request that is not answered by itself.
    #[track_caller]
    pub(crate) fn next(&self) -> Held {
        self.held.recv_timeout(ANSWER_MAX).expect("a request arrives")
    }

    /// The next request that is not answered by itself, if one arrives in time.
    pub(crate) fn next_within(&self, limit: Duration) -> Option<Held> {
        self.held.recv_timeout(limit).ok()
    }

    /// No such request may arrive for this long.
    #[track_caller]
    pub(crate) fn silent(&self, time: Duration) {
        match self.held.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("nothing should arrive, but: {other:?}"),
        }
    }

    /// Gives back no windows from now on.
    pub(crate) fn stingy(&self) {
        self.inner.generous.store(false, Ordering::SeqCst);
    }

    /// Connections ever accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.inner.accepted.load(Ordering::SeqCst)
    }

    /// All connections so far, oldest first.
    pub(crate) fn conns(&self) -> Vec<Conn> {
        self.inner.conns.lock().expect("no thread panics with it").clone()
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.conns().iter().filter(|conn| conn.is_open()).count()
    }

    /// Streams open now, on all connections.
    pub(crate) fn streams(&self) -> usize {
        self.conns().iter().filter(|conn| conn.is_open()).map(|conn| conn.state().streams.len()).sum()
    }

    /// The most streams that were ever open at once on one connection.
    pub(crate) fn most(&self) -> usize {
        self.inner.most.load(Ordering::SeqCst)
    }

    /// Streams that the sidecar took back.
    pub(crate) fn resets(&self) -> usize {
        self.inner.resets.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that came.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.bytes.load(Ordering::SeqCst)
    }

    /// All requests so far: the number of the connection, and method and target.
    pub(crate) fn seen(&self) -> Vec<(usize, String)> {
        self.inner.seen.lock().expect("no thread panics with it").clone()
    }

    /// How often a request with this target arrived.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.seen().iter().filter(|(_, line)| line.split(' ').nth(1) == Some(target)).count()
    }

    /// Ends as a killed process does: the port refuses connections, those that were open are closed.
    pub(crate) fn stop(&mut self) {
        self.inner.ending.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            // Wakes the accepting thread.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.inner.port));
            accepting.join().expect("the accepting thread does not panic");
        }
        for conn in self.conns() {
            let _ = conn.shared.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

fn accept(listener: &TcpListener, inner: &Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept() {
        if inner.ending.load(Ordering::SeqCst) {
            return;
        }
        let Ok(clone) = stream.try_clone() else { continue };
        let number = inner.accepted.fetch_add(1, Ordering::SeqCst);
        let state = State { first_window: FIRST_WINDOW, send_window: FIRST_WINDOW, ..State::default() };
        let (later, sayings) = mpsc::channel::<Saying>();
        std::thread::spawn(move || sayings.iter().for_each(|say| say()));
        let shared = Shared {
            number,
            later,
            stream: clone,
            writing: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        let conn = Conn { shared: Arc::new(shared), inner: Arc::clone(inner) };
        inner.conns.lock().expect("no thread panics with it").push(conn.clone());
        std::thread::spawn(move || {
            let end = read(Reader::new(stream), &conn);
            conn.state().ended = Some(end);
            // Nobody hears of its streams any more.
            for stream in conn.state().streams.values() {
                stream.told.iter().for_each(|told| drop(told.send(Event::End(end))));
            }
            conn.shared.changed.notify_all();
            let _ = conn.shared.stream.shutdown(Shutdown::Both);
        });
    }
}

/// One connection's life.
fn read(mut reader: Reader, conn: &Conn) -> End {
    reader.patience(PATIENCE);
    let mut preface = vec![0; PREFACE.len()];
    if reader.exact(&mut preface).is_err() {
        return End::Clean;
    }
    assert_eq!(preface, PREFACE, "the sidecar's first bytes");
    conn.send(&[settings(&conn.inner.settings)]);
    loop {
        let event = match reader.event() {
            Ok(Event::End(end)) => return end,
            Ok(event) => event,
            // The test fails by what does not come.
            Err(error) => {
                eprintln!("{conn:?} of port {}: {error}", conn.inner.port);
                return End::Reset;
            }
        };
        take(conn, event);
        conn.shared.changed.notify_all();
    }
}

fn take(conn: &Conn, event: Event) {
    let mut state = conn.state();
    match event {
        Event::Head { stream, ref fields, end } => match state.streams.get_mut(&stream) {
            Some(_) => {
                drop(state);
                goes_on(conn, stream, event, &[], end);
            }
            None => {
                let fields = fields.clone();
                drop(state);
                begins(conn, stream, fields, end);
            }
        },
        Event::Data { stream, ref bytes, end } => {
            drop(state);
            conn.inner.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
            let len = bytes.len() as u32;
            if len > 0 && conn.inner.generous.load(Ordering::SeqCst) {
                conn.send(&[window(0, len)]);
                if !end {
                    conn.send(&[window(stream, len)]);
                }
            }
            let bytes = bytes.clone();
            goes_on(conn, stream, event, &bytes, end);
        }
        Event::Reset { stream, .. } => {
            conn.inner.resets.fetch_add(1, Ordering::SeqCst);
            if let Some(told) = state.streams.remove(&stream).and_then(|stream| stream.told) {
                drop(told.send(event));
            }
        }
        Event::Goaway { last, code } => state.goodbye = Some((last, code)),
        Event::Settings(asked) => {
            if let Some((_, own)) = asked.iter().find(|(number, _)| *number == WINDOW) {
                let by = i64::from(*own) - state.first_window;
                state.first_window += by;
                state.streams.values_mut().for_each(|stream| stream.window += by);
            }
            state.asked = asked;
            drop(state);
            conn.send(&[frame(SETTINGS, ACK, 0, [])]);
        }
        Event::Ping(data) => {
            drop(state);
            conn.send(&[frame(PING, ACK, 0, data)]);
        }
        Event::Pong(_) => state.pongs += 1,
        Event::Window { stream: 0, more } => state.send_window += i64::from(more),
        Event::Window { stream, more } => {
            if let Some(stream) = state.streams.get_mut(&stream) {
                stream.window += i64::from(more);
            }
        }
        Event::SettingsAck | Event::End(_) => {}
    }
}

/// A request's head came.
fn begins(conn: &Conn, id: u32, fields: Fields, end: bool) {
    let path = fields.get(":path").unwrap_or_default().to_owned();
    let line = format!("{} {path}", fields.get(":method").unwrap_or_default());
    conn.inner.seen.lock().expect("no thread panics with it").push((conn.number(), line));
    let mut state = conn.state();
    assert!(id > state.last && id % 2 == 1, "stream {id} behind {}", state.last);
    state.last = id;
    let own = conn.inner.name.is_empty() && !path.starts_with("/echo");
    let (told, events) = mpsc::channel();
    let mut stream =
        Stream { window: state.first_window, whole: end, head: fields.clone(), ..Stream::default() };
    stream.told = own.then_some(told);
    state.streams.insert(id, stream);
    conn.inner.most.fetch_max(state.streams.len(), Ordering::SeqCst);
    drop(state);
    if own {
        // Nobody waits for it any more when the test is over.
        let _ =
            conn.inner.held.send(Held { conn: conn.clone(), stream: id, head: fields, whole: end, events });
    } else if end {
        echo(conn, id);
    }
}

/// More of a request came.
fn goes_on(conn: &Conn, id: u32, event: Event, bytes: &[u8], end: bool) {
    let mut state = conn.state();
    let Some(stream) = state.streams.get_mut(&id) else { return };
    let told = stream.told.as_ref().map(|told| told.send(event));
    if told.is_none() {
        stream.body.extend(bytes);
    }
    drop(state);
    if end {
        conn.over(id, |stream| stream.whole = true);
        if told.is_none() {
            echo(conn, id);
        }
    }
}

/// Answers a whole request by itself.
fn echo(conn: &Conn, id: u32) {
    let mut state = conn.state();
    let Some(stream) = state.streams.get_mut(&id) else { return };
    let head = std::mem::take(&mut stream.head);
    let body = String::from_utf8_lossy(&std::mem::take(&mut stream.body)).into_owned();
    drop(state);
    let (method, path) = (head.get(":method").unwrap_or_default(), head.get(":path").unwrap_or_default());
    let text = format!("{} {method} {path} {body}", conn.inner.name);
    let answer = status(200).with("x-conn", &conn.number().to_string());
    let answers = conn.clone();
    let grpc = head.get("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    let bodiless = method == "HEAD";
    let say = move || {
        if bodiless {
            let length = answer.with("content-length", &text.len().to_string());
            answers.send(&[headers(id, &length, true)]);
        } else if grpc {
            answers.send(&[headers(id, &answer.with("content-type", "application/grpc"), false)]);
            if answers.body(id, text.as_bytes(), false) {
                answers.send(&[headers(id, &Fields::new(&[("grpc-status", "0")]), true)]);
            }
        } else {
            answers.send(&[headers(id, &answer, false)]);
            answers.body(id, text.as_bytes(), true);
        }
        answers.state().streams.remove(&id);
    };
    // Whoever reads must not wait for windows that he would read; nor the short ones behind a long one.
    if body.len() < 1 << 10 {
        let _ = conn.shared.later.send(Box::new(say));
    } else {
        std::thread::spawn(say);
    }
}

/// A sidecar whose listener `main` carries every request to one endpoint. `listener` are more lines, `route` and
/// `cluster` more keys of a flow map.
pub(crate) fn straight(
    address: &str,
    protocol: &str,
    (listener, route, cluster): (&str, &str, &str),
) -> Sidecar {
    let listener =
        format!("    protocol: {protocol}\n{listener}    routes: [{{ match: {{}}, to: up, {route} }}]");
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{address}\"], {cluster} }}");
    Sidecar::start(&super::echo::conf(&listener, &clusters))
}

/// Callers that must notice nothing: one makes a call after the other until it is asked.
pub(crate) struct Canary {
    ending: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    singing: JoinHandle<()>,
}

impl Canary {
    pub(crate) fn start(sidecar: &Sidecar) -> Self {
        let (ending, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut client = sidecar.http2();
        let (over, count) = (Arc::clone(&ending), Arc::clone(&calls));
        let singing = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let at = count.fetch_add(1, Ordering::Relaxed);
                client.well(format!("canary/{at}"));
                // It is there all the while, and leaves the cores to the test.
                std::thread::sleep(Duration::from_millis(2));
                client.answers.clear();
            }
        });
        let canary = Self { ending, calls, singing };
        canary.goes_on();
        canary
    }

    /// Further calls of it are answered now.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        let before = self.calls.load(Ordering::Relaxed);
        let more = || self.singing.is_finished() || self.calls.load(Ordering::Relaxed) > before + 3;
        assert!(within(ANSWER_MAX, more) && !self.singing.is_finished(), "the canary is silent");
    }

    /// No call of it failed, and further ones are answered.
    #[track_caller]
    pub(crate) fn sings(self) {
        self.goes_on();
        self.ending.store(true, Ordering::Relaxed);
        self.singing.join().expect("no call of the canary failed");
    }
}
