//! HTTP/1 written and read byte by byte: a caller, and an endpoint that does what the test says.
//!
//! What the sidecar writes is read strictly: CRLF alone, one framing, chunk sizes in plain lower-case hex. It must
//! never use the codec of the product, nor a library that mends what is wrong: those would hide what is tested.
//! An `Upstream` answers `/echo…` by itself (a named one answers everything) and hands every other request to the
//! test together with its connection, as soon as its head has come.

use super::raw::ANSWER_MAX;
use super::{Sidecar, free_port, within};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer heads are a fault of the sidecar or of the test.
const HEAD_MAX: usize = 1 << 20;
/// No connection of a test rests longer; a test that is stuck ends by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A first line and the fields behind it; bytes as characters of the same number, so that nothing is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The values of all fields of this name, whatever its case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| &**value).collect()
    }

    /// The value of a field that may stand once at most.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands {} times in {self:?}", all.len());
        all.first().copied()
    }

    /// A word of the first line.
    fn word(&self, at: usize) -> &str {
        self.first.split(' ').nth(at).unwrap_or_default()
    }

    pub(crate) fn method(&self) -> &str {
        self.word(0)
    }

    pub(crate) fn target(&self) -> &str {
        self.word(1)
    }

    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_else(|_| panic!("no status in {self:?}"))
    }

    /// Whether the sender said that it closes.
    pub(crate) fn closes(&self) -> bool {
        self.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }

    /// How the body behind it is framed. `asked`: the method of the request, when this is its answer.
    fn framing(&self, asked: Option<&str>) -> io::Result<Framing> {
        if let Some(method) = asked
            && (method == "HEAD" || matches!(self.status(), 100..=199 | 204 | 304))
        {
            return Ok(Framing::Length(0));
        }
        match (&*self.all("transfer-encoding"), &*self.all("content-length")) {
            (["chunked"], []) => Ok(Framing::Chunked),
            ([], [length]) => length.parse().map(Framing::Length).map_err(|_| wrong("a length", length)),
            ([], []) => Ok(if asked.is_some() { Framing::Close } else { Framing::Length(0) }),
            _ => Err(wrong("one framing", &format!("{self:?}"))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

fn wrong(due: &str, came: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{due} was due, but came {came:?}"))
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a FIN.
    Clean,
    /// By an RST.
    Reset,
}

/// A body as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    /// The sizes of its chunks, the last one (0) left out.
    pub(crate) chunks: Vec<usize>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Body,
    /// The interim answers before it.
    pub(crate) interim: Vec<Head>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }

    /// It must be the sidecar's own, for this reason.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, name: &str) {
        assert_eq!((self.status(), self.head.get("x-outrigger-error")), (status, Some(name)), "{self:?}");
        let kind = self.head.get("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain"), "{self:?}");
        assert!(self.text().starts_with("outrigger: "), "{self:?}");
        assert!(self.text().len() < 300 && self.head.get("content-length").is_some(), "{self:?}");
    }

    /// It must come from a service, with status 200 and this body.
    #[track_caller]
    pub(crate) fn is(&self, text: &str) {
        assert_eq!((self.status(), &*self.text()), (200, text), "{self:?}");
        assert_eq!(self.head.get("x-outrigger-error"), None, "{self:?}");
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    from: BufReader<TcpStream>,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
        stream.set_write_timeout(Some(ANSWER_MAX)).expect("a socket option");
        Self { from: BufReader::new(stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.from.get_ref()
    }

    /// Waits longer than any test takes, from now on.
    pub(crate) fn patient(&self) {
        self.stream().set_read_timeout(Some(PATIENCE)).expect("a socket option");
        self.stream().set_write_timeout(Some(PATIENCE)).expect("a socket option");
    }

    /// What comes, with what was read ahead.
    pub(crate) fn reader(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.from
    }

    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        self.stream().write_all(bytes)
    }

    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the other side reads");
    }

    /// Says that no more will come from here; a FIN.
    pub(crate) fn fin(&self) {
        // Closed already is as good.
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    /// Ends with an RST.
    pub(crate) fn reset(self) {
        let linger = socket2::SockRef::from(self.stream()).set_linger(Some(Duration::ZERO));
        linger.expect("a socket option");
    }

    /// One line without its CRLF; an error at the end of the connection.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.from.by_ref().take(HEAD_MAX as u64).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) if !text.contains(&b'\r') => Ok(text.to_vec()),
            _ if line.ends_with(b"\n") => Err(wrong("CRLF", &String::from_utf8_lossy(&line))),
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Fields up to the empty line.
    pub(crate) fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line: String = self.line()?.into_iter().map(char::from).collect();
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| wrong("a field", &line))?;
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// The next head; `None` when the connection ends cleanly before its first byte.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        if self.from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let first = self.line()?.into_iter().map(char::from).collect();
        Ok(Some(Head { first, fields: self.fields()? }))
    }

    fn exact(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.from.by_ref().take(len as u64).read_to_end(&mut bytes)?;
        if bytes.len() == len { Ok(bytes) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// The next chunk; `None` at the last one, whose trailers are not read yet.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = String::from_utf8_lossy(&self.line()?).into_owned();
        let size = usize::from_str_radix(&line, 16).map_err(|_| wrong("the size of a chunk", &line))?;
        if line != format!("{size:x}") {
            return Err(wrong("a plain chunk size", &line));
        }
        if size == 0 {
            return Ok(None);
        }
        let bytes = self.exact(size)?;
        if self.line()?.is_empty() { Ok(Some(bytes)) } else { Err(wrong("the end of a chunk", "more")) }
    }

    fn body(&mut self, framing: Framing) -> io::Result<Body> {
        let mut body = Body::default();
        match framing {
            Framing::Length(len) => body.bytes = self.exact(len as usize)?,
            Framing::Close => _ = self.from.read_to_end(&mut body.bytes)?,
            Framing::Chunked => {
                while let Some(chunk) = self.chunk()? {
                    body.chunks.push(chunk.len());
                    body.bytes.extend(chunk);
                }
                body.trailers = self.fields()?;
            }
        }
        Ok(body)
    }

    /// The other side must end the connection within this time and send nothing before.
    #[track_caller]
    pub(crate) fn ends_within(&mut self, limit: Duration) -> End {
        self.stream().set_read_timeout(Some(limit)).expect("a socket option");
        match self.from.fill_buf() {
            Ok([]) => End::Clean,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            other => panic!(
                "the connection should end, but: {:?}",
                other.map(|bytes| bytes.escape_ascii().to_string())
            ),
        }
    }

    #[track_caller]
    pub(crate) fn ends(&mut self) -> End {
        self.ends_within(ANSWER_MAX)
    }

    /// Nothing may come for this long, and the connection must stay open.
    #[track_caller]
    pub(crate) fn silent(&mut self, time: Duration) {
        self.stream().set_read_timeout(Some(time)).expect("a socket option");
        match self.from.fill_buf() {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => {
                panic!("nothing should come, but: {:?}", other.map(|bytes| bytes.escape_ascii().to_string()))
            }
        }
        self.stream().set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
    }
}

/// A caller's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) link: Link,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the listener is there");
        Self { link: Link::new(stream) }
    }

    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.link.send(bytes);
    }

    /// The answer to a request of this method, or why there is no whole one.
    pub(crate) fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            answer.head = self.link.head()?.ok_or(ErrorKind::UnexpectedEof)?;
            if !answer.head.first.starts_with("HTTP/1.1 ") {
                return Err(wrong("an answer", &answer.head.first));
            }
            if !matches!(answer.head.status(), 100..=199) || answer.head.status() == 101 {
                break;
            }
            answer.interim.push(answer.head);
        }
        answer.body = self.link.body(answer.head.framing(Some(method))?)?;
        Ok(answer)
    }

    /// The next answer.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Answer {
        self.answer_to("GET").unwrap_or_else(|error| panic!("no whole answer came: {error}"))
    }

    /// Sends this and gives the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let method = request.as_ref().split(|byte| *byte == b' ').next().unwrap_or_default();
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(request);
        self.answer_to(&method).unwrap_or_else(|error| panic!("no whole answer came to {method}: {error}"))
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.ask(get(target))
    }

    /// A request that an endpoint answers by itself must be answered so.
    #[track_caller]
    pub(crate) fn well(&mut self, what: impl std::fmt::Display) -> Answer {
        let target = format!("/echo/{what}").replace(' ', "-");
        let answer = self.get(&target);
        answer.is(&format!(" GET {target} "));
        answer
    }

    /// An answer must begin and then break off, so that its receiver can tell; gives its head and how the connection ended.
    #[track_caller]
    pub(crate) fn torn(&mut self) -> (Head, End) {
        let head = self.link.head().expect("a head comes").expect("a head comes");
        let framing = head.framing(Some("GET")).expect("one framing");
        match self.link.body(framing) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (head, End::Reset),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => (head, End::Clean),
            other => panic!("the body should be torn, but: {other:?}"),
        }
    }

    /// The connection must end now: nothing comes any more.
    #[track_caller]
    pub(crate) fn closed(&mut self) {
        self.link.ends();
    }
}

/// Says when a scope is left, also by a failure: threads that go on until then would hold it up for ever.
pub(crate) struct Leaving<'a>(pub(crate) &'a AtomicBool);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request without a body.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test.example\r\n\r\n")
}

/// A request with a body of this length announced; `more` are whole header lines.
pub(crate) fn post(target: &str, len: usize, more: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: test.example\r\n{more}Content-Length: {len}\r\n\r\n")
}

/// An answer with a body of known length; `more` are whole header lines.
pub(crate) fn ok(body: &str, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
}

struct Inner {
    name: String,
    port: u16,
    accepted: AtomicUsize,
    /// Each request: the number of its connection, and method and target.
    seen: Mutex<Vec<(usize, String)>>,
    /// Connections that are open.
    open: Mutex<Vec<(usize, TcpStream)>>,
    ending: AtomicBool,
    held: Sender<Held>,
}

/// A connection that the sidecar made; closed when dropped.
pub(crate) struct Conn {
    /// Counts from 0 in the order of their arrival.
    pub(crate) number: usize,
    /// Always there until it is dropped.
    link: Option<Link>,
    inner: Arc<Inner>,
}

impl Conn {
    fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("it is there until the end")
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let number = self.number;
        let mut open = self.inner.open.lock().expect("no thread panics with it");
        // The clone kept there would keep it open.
        open.retain(|(other, _)| *other != number);
    }
}

/// A request whose head has come and which the test answers, or not.
pub(crate) struct Held {
    pub(crate) head: Head,
    pub(crate) conn: Conn,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} on connection {}", self.head.first, self.conn.number)
    }
}

impl Held {
    pub(crate) fn link(&mut self) -> &mut Link {
        self.conn.link()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.link().send(bytes);
    }

    /// The request's body, or why there is no whole one.
    pub(crate) fn body(&mut self) -> io::Result<Body> {
        let framing = self.head.framing(None)?;
        self.link().body(framing)
    }

    /// The request's body must break off, by the end of the connection.
    #[track_caller]
    pub(crate) fn torn(&mut self) {
        match self.body() {
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {}
            other => panic!("the body should be torn, but: {other:?}"),
        }
    }

    /// Answers with status 200 and goes on serving the connection.
    #[track_caller]
    pub(crate) fn answer(mut self, body: &str) {
        self.send(ok(body, ""));
        self.release();
    }

    /// Goes on serving the connection.
    pub(crate) fn release(self) {
        std::thread::spawn(move || serve(self.conn));
    }

    /// Ends in order: a FIN, whatever was not read before.
    pub(crate) fn fin(mut self) {
        self.link().fin();
        // What is unread would make it an RST.
        let _ = self.link().stream().set_read_timeout(Some(Duration::from_millis(200)));
        let mut rest = Vec::new();
        let _ = self.link().reader().read_to_end(&mut rest);
    }

    /// Ends with an RST.
    pub(crate) fn reset(mut self) {
        let link = self.conn.link.take();
        drop(self);
        link.expect("it is there until the end").reset();
    }
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
        Self::named("")
    }

    /// Answers everything by itself, with its name first, unless that is empty.
    pub(crate) fn named(name: &str) -> Self {
        // Another test process may take a port between the look and the bind.
        let bound = (0..100).find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok());
        Self::serve(bound.expect("a free port"), name)
    }

    /// Again on the port of one that was stopped.
    pub(crate) fn start_at(port: u16) -> Self {
        Self::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free"), "")
    }

    fn serve(listener: TcpListener, name: &str) -> Self {
        many_may_wait(&listener);
        let port = listener.local_addr().expect("it is bound").port();
        let (sender, held) = mpsc::channel();
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            port,
            accepted: AtomicUsize::new(0),
            seen: Mutex::default(),
            open: Mutex::default(),
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

    /// Connections ever accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.inner.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.inner.open.lock().expect("no thread panics with it").len()
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
        let open = self.inner.open.lock().expect("no thread panics with it");
        for (_, stream) in &*open {
            let _ = stream.shutdown(Shutdown::Both);
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

/// Hundreds of connections made at once find room before they are accepted.
pub(crate) fn many_may_wait(listener: &TcpListener) {
    socket2::SockRef::from(listener).listen(4_096).expect("it listens already");
}

fn accept(listener: &TcpListener, inner: &Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept() {
        if inner.ending.load(Ordering::SeqCst) {
            return;
        }
        let Ok(clone) = stream.try_clone() else { continue };
        let number = inner.accepted.fetch_add(1, Ordering::SeqCst);
        inner.open.lock().expect("no thread panics with it").push((number, clone));
        let conn = Conn { number, link: Some(Link::new(stream)), inner: Arc::clone(inner) };
        std::thread::spawn(move || serve(conn));
    }
}

/// One connection's life, until it ends or a request is for the test.
fn serve(mut conn: Conn) {
    // A pooled connection may rest for as long as its test likes.
    conn.link().patient();
    while let Ok(Some(head)) = conn.link().head() {
        let line = format!("{} {}", head.method(), head.target());
        let inner = Arc::clone(&conn.inner);
        inner.seen.lock().expect("no thread panics with it").push((conn.number, line.clone()));
        if inner.name.is_empty() && !head.target().starts_with("/echo") {
            conn.link().stream().set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
            // Nobody waits for it any more when the test is over.
            let _ = inner.held.send(Held { head, conn });
            return;
        }
        let Ok(framing) = head.framing(None) else { return };
        let Ok(body) = conn.link().body(framing) else { return };
        let text = format!("{} {line} {}", inner.name, String::from_utf8_lossy(&body.bytes));
        let mut answer = ok(&text, &format!("X-Conn: {}\r\n", conn.number));
        if head.method() == "HEAD" {
            answer.truncate(answer.len() - text.len());
        }
        if conn.link().try_send(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A sidecar whose listener `main` carries every request to one endpoint. `listener` and `cluster` are more keys:
/// whole lines, and a part of a flow map.
pub(crate) fn straight(upstream: &Upstream, listener: &str, route: &str, cluster: &str) -> Sidecar {
    let listener = format!("    protocol: http1\n{listener}    routes: [{{ match: {{}}, to: up, {route} }}]");
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"], {cluster} }}", upstream.address());
    Sidecar::start(&super::echo::conf(&listener, &clusters))
}

impl Sidecar {
    /// A caller of the listener `main` that speaks HTTP/1.
    pub(crate) fn http(&self) -> Client {
        Client::connect(self.port("main"))
    }

    /// The sum of a family's samples on `/metrics` that have all of these labels (`name="value"`).
    pub(crate) fn metric(&self, family: &str, labels: &[&str]) -> u64 {
        let (status, page) = self.admin_get("/metrics");
        assert_eq!(status, 200);
        let samples = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(family)?;
            let named = rest.is_empty() || rest.starts_with('{');
            (named && labels.iter().all(|label| rest.contains(label))).then_some(value)
        });
        samples.map(|value| value.parse::<u64>().expect("a whole number")).sum()
    }

    /// How many file descriptors it has open.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// When every caller has left: nothing is counted as connected or in flight, and nothing panicked.
    #[track_caller]
    pub(crate) fn rests(&mut self) {
        let left = within(ANSWER_MAX, || {
            self.metric("outrigger_downstream_connections", &[]) == 0
                && self.metric("outrigger_worker_connections", &[]) == 0
                && self.metric("outrigger_upstream_in_flight", &[]) == 0
        });
        assert!(left, "something is left: {} {}", self.stats(), self.admin_get("/clusters").1);
        assert_eq!(self.metric("outrigger_panics_total", &[]), 0);
        self.assert_well();
    }
}
