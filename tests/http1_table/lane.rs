//! A lane runs one case at a time: it is the client of one listener and the upstream behind it, so nothing that
//! another lane does can reach either. It must never wait in order to see that nothing comes: what must not come would
//! come before what is asked next.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    script::{Case, Refused, Step, Token, exactly},
    upstream::{COMES_MAX, Upstream, read, write},
};

/// Where the streams of a case are cut in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    Whole,
    /// What the client sends, behind so many bytes.
    Client(usize),
    /// What the upstream answers, behind so many bytes.
    Upstream(usize),
    /// One byte at a time, both.
    Bytes,
}

/// The request that shows that a connection lives, and its answer.
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n";
/// What of it reaches the upstream in any case; its listener may be told to add fields.
const PROBE_BEGIN: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe\r\n";
const PROBE_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nprobe";
const PROBE_ANSWER_BEGIN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n";

/// Between two parts, so that the other side reads them apart.
const PAUSE: Duration = Duration::from_millis(1);

/// Longer streams are sent byte by byte without pauses: the sidecar does not wait for ever.
const PAUSED_BYTES_MAX: usize = 400;

pub(crate) struct Lane {
    port: u16,
    upstream: Upstream,
}

/// What one run of a case knows.
struct Run {
    split: Split,
    client: TcpStream,
    /// What came back and was not expected yet.
    seen: Vec<u8>,
    /// Bytes of either stream that went already.
    sent: usize,
    answered: usize,
    /// The client saw an end.
    over: bool,
    /// The connection that the last request came by, if it must live.
    current: Option<u64>,
    /// What may have reached the upstream without an end.
    at_most: Option<Vec<Token>>,
    /// No body follows the head of an answer of ours.
    fresh: bool,
}

/// How what came compares with what is expected.
enum Match {
    More,
    Whole(usize),
    Differs,
}

impl Lane {
    pub(crate) fn new(port: u16, upstream: Upstream) -> Self {
        Self { port, upstream }
    }

    /// Runs a case cut in one way; says what was not as expected.
    pub(crate) async fn run(&mut self, case: &Case, split: Split) -> Result<(), String> {
        let mut run = Run {
            split,
            client: self.connect().await?,
            seen: Vec::new(),
            sent: 0,
            answered: 0,
            over: false,
            current: None,
            at_most: None,
            fresh: false,
        };
        for (number, step) in case.steps.iter().enumerate() {
            let result = self.step(&mut run, step).await;
            result.map_err(|error| format!("step {} ({}): {error}", number + 1, label(step)))?;
        }
        let result = self.probe(&mut run).await;
        abandon(&run.client);
        result.map_err(|error| format!("behind the last step: {error}"))
    }

    /// After a failure: ends what is open, until a request is answered as it should.
    pub(crate) async fn wash(&mut self) -> bool {
        for _ in 0..3 {
            for (id, _) in self.upstream.unexpected() {
                self.upstream.end(id, false);
            }
            self.upstream.end_all();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let probe = Case { name: String::new(), place: String::new(), steps: Vec::new(), once: true };
            if Box::pin(self.run(&probe, Split::Whole)).await.is_ok() {
                return true;
            }
        }
        false
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let stream = timeout(COMES_MAX, connecting).await.map_err(|_| "no connection")?;
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(stream)
    }

    async fn step(&mut self, run: &mut Run, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(bytes) => {
                let parts = parts(bytes, run.split, run.sent, Split::Client);
                run.sent += bytes.len();
                for (number, part) in parts.iter().enumerate() {
                    pause(number, parts.len()).await;
                    write(&run.client, part).await;
                }
            }
            Step::Answer(bytes) => self.answer(run, bytes).await?,
            Step::Reaches(text) => self.reaches(run, text).await?,
            Step::ReachesAtMost(text) => {
                run.at_most = Some(text.clone());
                run.current = None;
            }
            Step::Returns(text) => {
                let text = self.resolve(text);
                run.returns(&text).await?;
            }
            Step::ReturnsAtMost(text) => {
                let text = self.resolve(text);
                run.returns_at_most(&text).await?;
            }
            Step::ReturnsChunked(text) => run.returns_chunked(text).await?,
            Step::Refused(refused) => run.refused(refused).await?,
            Step::Closes => run.ends(&[false]).await?,
            Step::Aborts => run.ends(&[false, true]).await?,
            Step::Resets => run.ends(&[true]).await?,
            Step::ClientEnds => {
                let socket = socket2::SockRef::from(&run.client);
                socket.shutdown(std::net::Shutdown::Write).map_err(|error| error.to_string())?;
            }
            Step::ClientResets => {
                abandon(&run.client);
                // Its place is taken by a connection of its own, so that the one that is gone is dropped.
                run.client = self.connect().await?;
            }
            Step::UpstreamCloses | Step::UpstreamResets => {
                let id = run.current.take().ok_or("no request came by a connection")?;
                self.upstream.end(id, *step == Step::UpstreamResets);
                run.fresh = true;
            }
            Step::UpstreamClosed => {
                let id = run.current.take().ok_or("no request came by a connection")?;
                let rest = self.upstream.ended(id).await?;
                if !rest.is_empty() {
                    return Err(format!("before its end came \"{}\"", rest.escape_ascii()));
                }
                run.fresh = true;
            }
            Step::UpstreamFresh => run.fresh = true,
        }
        Ok(())
    }

    /// The upstream writes; nothing may have reached it meanwhile that was not expected.
    async fn answer(&mut self, run: &mut Run, bytes: &[u8]) -> Result<(), String> {
        let id = run.current.ok_or("no request came by a connection")?;
        if let Some((_, seen)) = self.upstream.unexpected().first() {
            return Err(format!("before this the upstream saw \"{}\"", seen.escape_ascii()));
        }
        let parts = parts(bytes, run.split, run.answered, Split::Upstream);
        run.answered += bytes.len();
        for (number, part) in parts.iter().enumerate() {
            pause(number, parts.len()).await;
            self.upstream.write(id, part).await;
        }
        Ok(())
    }

    /// Exactly this must reach the upstream, by the connection of the request before or as the case says.
    async fn reaches(&mut self, run: &mut Run, text: &[Token]) -> Result<(), String> {
        let text = self.resolve(text);
        let error = |error: String, seen: &[u8]| {
            format!("{error}\n    expected \"{}\"\n    seen     \"{}\"", shown(&text), seen.escape_ascii())
        };
        let (id, mut seen) = match self.upstream.somebody().await {
            Ok((id, seen)) => (id, seen.to_vec()),
            Err(why) => return Err(error(why + &run.instead(), &[])),
        };
        let fresh = std::mem::take(&mut run.fresh);
        match run.current {
            Some(current) if fresh && current == id => {
                return Err("it came by the same connection".to_owned());
            }
            Some(current) if !fresh && current != id => {
                return Err("it came by another connection".to_owned());
            }
            _ => run.current = Some(id),
        }
        loop {
            match matches(&text, &seen) {
                Match::Whole(len) => break self.upstream.expected(id, len),
                Match::Differs => return Err(error("this differs".to_owned(), &seen)),
                Match::More => match self.upstream.more(id, seen.len()).await {
                    Ok(more) => seen = more.to_vec(),
                    Err(why) => return Err(error(why + &run.instead(), &seen)),
                },
            }
        }
        Ok(())
    }

    fn resolve(&self, text: &[Token]) -> Vec<Token> {
        let mut resolved = Vec::with_capacity(text.len());
        for token in text {
            match token {
                Token::Upstream => {
                    resolved.extend(exactly(self.upstream.address().as_bytes()));
                }
                other => resolved.push(*other),
            }
        }
        resolved
    }

    /// A further request shows that nothing else came, and whether the connections live on.
    async fn probe(&mut self, run: &mut Run) -> Result<(), String> {
        if !run.seen.is_empty() {
            return Err(format!("the client saw also \"{}\"", run.seen.escape_ascii()));
        }
        if run.over {
            run.client = self.connect().await?;
        }
        // In pieces it would only show again what the case did.
        run.split = Split::Whole;
        write(&run.client, PROBE).await;
        let id = loop {
            let lost = |error| format!("a further request does not reach the upstream: {error}");
            let (id, seen) = match self.upstream.somebody().await {
                Ok((id, seen)) => (id, seen),
                Err(error) => return Err(lost(error) + &run.instead()),
            };
            match message(PROBE_BEGIN, b"", seen) {
                Match::Whole(len) => {
                    self.upstream.expected(id, len);
                    break id;
                }
                Match::More => {
                    let len = seen.len();
                    self.upstream.more(id, len).await.map_err(lost)?;
                }
                Match::Differs => {
                    let rest = self.upstream.ended(id).await;
                    let rest = rest.map_err(|error| format!("the upstream saw more, and {error}"))?;
                    run.allowed(&rest)?;
                }
            }
        };
        if run.current.is_some_and(|current| current != id) {
            return Err("a further request reaches the upstream by another connection".to_owned());
        }
        run.current = Some(id);
        self.answer(run, PROBE_ANSWER).await?;
        loop {
            match message(PROBE_ANSWER_BEGIN, b"probe", &run.seen) {
                Match::Whole(len) if len == run.seen.len() => break,
                Match::More => run.must_have_more().await?,
                _ => return Err(format!("the client saw \"{}\"", run.seen.escape_ascii())),
            }
        }
        match self.upstream.unexpected().first() {
            Some((_, seen)) => Err(format!("the upstream saw also \"{}\"", seen.escape_ascii())),
            None => Ok(()),
        }
    }
}

impl Run {
    /// Takes in what comes next; None at a clean end, an error at a reset.
    async fn more(&mut self) -> Result<Option<bool>, String> {
        let mut buffer = vec![0; 16 * 1024];
        match timeout(COMES_MAX, read(&self.client, &mut buffer)).await {
            Err(_) => Err("nothing came".to_owned()),
            Ok(Ok(0)) => Ok(Some(false)),
            Ok(Ok(len)) => {
                self.seen.extend(&buffer[..len]);
                Ok(None)
            }
            Ok(Err(_)) => Ok(Some(true)),
        }
    }

    /// As `more`, where no end is expected.
    async fn must_have_more(&mut self) -> Result<(), String> {
        match self.more().await? {
            None => Ok(()),
            Some(false) => Err("the connection was closed".to_owned()),
            Some(true) => Err("the connection was reset".to_owned()),
        }
    }

    /// What the client saw while something else was expected.
    fn instead(&mut self) -> String {
        let mut buffer = vec![0; 4096];
        while let Ok(len @ 1..) = self.client.try_read(&mut buffer) {
            self.seen.extend(&buffer[..len]);
        }
        if self.seen.is_empty() {
            String::new()
        } else {
            format!("; the client saw \"{}\"", self.seen.escape_ascii())
        }
    }

    async fn returns(&mut self, text: &[Token]) -> Result<(), String> {
        loop {
            let why = match matches(text, &self.seen) {
                Match::Whole(len) => break drop(self.seen.drain(..len)),
                Match::Differs => "this differs".to_owned(),
                Match::More => match self.must_have_more().await {
                    Ok(()) => continue,
                    Err(why) => why,
                },
            };
            let seen = self.seen.escape_ascii();
            return Err(format!("{why}\n    expected \"{}\"\n    seen     \"{seen}\"", shown(text)));
        }
        Ok(())
    }

    /// A beginning of this and an abrupt end, or a 502.
    async fn returns_at_most(&mut self, text: &[Token]) -> Result<(), String> {
        const REFUSAL: &[u8] = b"HTTP/1.1 502 ";
        while self.seen.len() < REFUSAL.len() && self.more().await?.is_none() {}
        if self.seen.starts_with(REFUSAL) {
            let refused =
                Refused { status: 502, name: "unreachable".to_owned(), open: true, bodiless: false };
            self.refusal(&refused).await?;
            self.over = true;
            return Ok(());
        }
        while self.more().await?.is_none() {}
        self.over = true;
        match matches(text, &self.seen) {
            Match::More => {}
            Match::Whole(len) if len == self.seen.len() => {}
            _ => {
                let seen = self.seen.escape_ascii();
                return Err(format!("expected at most \"{}\"\n    seen \"{seen}\"", shown(text)));
            }
        }
        self.seen.clear();
        Ok(())
    }

    /// A chunked body of one or many chunks.
    async fn returns_chunked(&mut self, text: &[Token]) -> Result<(), String> {
        let mut body = Vec::new();
        loop {
            let end = self.find(b"\r\n").await?;
            let size = std::str::from_utf8(&self.seen[..end])
                .ok()
                .and_then(|digits| usize::from_str_radix(digits, 16).ok());
            let size = size.ok_or_else(|| format!("no chunk: \"{}\"", self.seen.escape_ascii()))?;
            while self.seen.len() < end + 2 + size + 2 {
                self.must_have_more().await?;
            }
            body.extend(&self.seen[end + 2..end + 2 + size]);
            if &self.seen[end + 2 + size..end + 4 + size] != b"\r\n" {
                return Err(format!("a chunk spills: \"{}\"", self.seen.escape_ascii()));
            }
            self.seen.drain(..end + 4 + size);
            if size == 0 {
                break;
            }
        }
        match matches(text, &body) {
            Match::Whole(len) if len == body.len() => Ok(()),
            _ => Err(format!(
                "this differs\n    expected \"{}\"\n    seen     \"{}\"",
                shown(text),
                body.escape_ascii()
            )),
        }
    }

    /// Where this stands in what comes.
    async fn find(&mut self, what: &[u8]) -> Result<usize, String> {
        loop {
            if let Some(at) = self.seen.windows(what.len()).position(|window| window == what) {
                return Ok(at);
            }
            self.must_have_more()
                .await
                .map_err(|error| format!("{error}; seen \"{}\"", self.seen.escape_ascii()))?;
        }
    }

    /// An answer of ours and what follows it.
    async fn refused(&mut self, refused: &Refused) -> Result<(), String> {
        let closing = self.refusal(refused).await?;
        match (refused.open, closing) {
            (true, true) => Err("it says that the connection is closed".to_owned()),
            (false, false) => Err("it does not say that the connection is closed".to_owned()),
            (true, false) => Ok(()),
            (false, true) => self.ends(&[false]).await,
        }
    }

    /// An answer of ours; gives whether it says `Connection: close`.
    async fn refusal(&mut self, refused: &Refused) -> Result<bool, String> {
        let end = self.find(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&self.seen[..end]).into_owned();
        let error = |what: &str| Err(format!("{what}: {head:?}"));
        if !head.starts_with(&format!("HTTP/1.1 {} ", refused.status)) {
            return error("expected another status");
        }
        let field = |name: &str| {
            let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
            let values: Vec<_> =
                fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
            if let [value] = *values { Some(value.to_owned()) } else { None }
        };
        if field("x-outrigger-error").as_deref() != Some(&refused.name) {
            return error("expected another x-outrigger-error");
        }
        if field("content-type").is_none_or(|kind| !kind.starts_with("text/plain")) {
            return error("expected Content-Type: text/plain");
        }
        if refused.status == 405 && field("allow").is_none() {
            return error("expected Allow");
        }
        let seconds = field("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
        if refused.status == 429 && seconds.is_none_or(|seconds| seconds < 1) {
            return error("expected Retry-After");
        }
        let Some(len) = field("content-length").and_then(|len| len.parse::<usize>().ok()) else {
            return error("expected Content-Length");
        };
        let len = if refused.bodiless { 0 } else { len };
        while self.seen.len() < end + 4 + len {
            self.must_have_more().await?;
        }
        let body: Vec<u8> = self.seen.drain(..end + 4 + len).skip(end + 4).collect();
        if !refused.bodiless && !body.starts_with(b"outrigger: ") {
            return error("expected a body that begins with \"outrigger: \"");
        }
        Ok(field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")))
    }

    /// The client sees an end of one of these kinds (true: a reset), and nothing before it.
    async fn ends(&mut self, kinds: &[bool]) -> Result<(), String> {
        let kind = loop {
            match self.more().await.map_err(|_| "the connection was not ended".to_owned())? {
                Some(kind) => break kind,
                None => {
                    if self.seen.len() > 4096 {
                        break false;
                    }
                }
            }
        };
        self.over = true;
        if !self.seen.is_empty() {
            return Err(format!("before the end the client saw \"{}\"", self.seen.escape_ascii()));
        }
        if !kinds.contains(&kind) {
            return Err(format!("the connection was {}", if kind { "reset" } else { "closed" }));
        }
        Ok(())
    }

    /// What reached the upstream and was then cut off.
    fn allowed(&self, seen: &[u8]) -> Result<(), String> {
        let text = self.at_most.as_deref().unwrap_or_default();
        match matches(text, seen) {
            Match::More if !text.is_empty() => Ok(()),
            Match::Whole(len) if len == seen.len() && !text.is_empty() => Ok(()),
            _ => Err(format!(
                "of the upstream was expected at most\n    expected \"{}\"\n    seen     \"{}\"",
                shown(text),
                seen.escape_ascii()
            )),
        }
    }
}

/// The parts that a step's bytes are sent in, when the stream had `before` bytes already.
fn parts(bytes: &[u8], split: Split, before: usize, mine: fn(usize) -> Split) -> Vec<&[u8]> {
    if split == Split::Bytes {
        return bytes.chunks(1).collect();
    }
    let cut = (1..bytes.len()).find(|at| split == mine(before + at));
    cut.map_or(vec![bytes], |at| vec![&bytes[..at], &bytes[at..]])
}

async fn pause(number: usize, parts: usize) {
    match (number, parts) {
        (0, _) => {}
        (_, ..=PAUSED_BYTES_MAX) => tokio::time::sleep(PAUSE).await,
        _ => tokio::task::yield_now().await,
    }
}

/// Whether this is the message that begins so, with any further fields and this body.
fn message(begin: &[u8], body: &[u8], seen: &[u8]) -> Match {
    if !seen.starts_with(&begin[..begin.len().min(seen.len())]) {
        return Match::Differs;
    }
    let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { return Match::More };
    let rest = &seen[end + 4..];
    if rest.starts_with(body) {
        Match::Whole(end + 4 + body.len())
    } else if body.starts_with(rest) {
        Match::More
    } else {
        Match::Differs
    }
}

/// Ends a connection that has served, without leaving its port behind in the kernel.
fn abandon(client: &TcpStream) {
    let _ = socket2::SockRef::from(client).set_linger(Some(Duration::ZERO));
}

fn matches(text: &[Token], seen: &[u8]) -> Match {
    let mut at = 0;
    for (number, token) in text.iter().enumerate() {
        let Some(byte) = seen.get(at) else { return Match::More };
        match token {
            Token::Byte(expected) if expected == byte => at += 1,
            Token::Whatever => {
                let next = text.get(number + 1);
                let len = seen[at..].iter().position(|byte| next == Some(&Token::Byte(*byte)));
                match len {
                    Some(0) => return Match::Differs,
                    Some(len) => at += len,
                    None => return Match::More,
                }
            }
            Token::Byte(_) | Token::Upstream => return Match::Differs,
        }
    }
    Match::Whole(at)
}

fn shown(text: &[Token]) -> String {
    let mut shown = String::new();
    for token in text {
        match token {
            Token::Byte(byte) => shown.extend(byte.escape_ascii().map(char::from)),
            Token::Whatever => shown.push_str("\\{*}"),
            Token::Upstream => shown.push_str("\\{up}"),
        }
    }
    shown
}

fn label(step: &Step) -> &'static str {
    match step {
        Step::Send(_) => ">",
        Step::Reaches(_) => ">>",
        Step::ReachesAtMost(_) => ">>?",
        Step::Answer(_) => "<<",
        Step::Returns(_) => "<",
        Step::ReturnsAtMost(_) => "<?",
        Step::ReturnsChunked(_) => "<~",
        Step::Refused(_) => "refused",
        Step::Closes => "closes",
        Step::Aborts => "aborts",
        Step::Resets => "resets",
        Step::ClientEnds => "client ends",
        Step::ClientResets => "client resets",
        Step::UpstreamCloses => "upstream closes",
        Step::UpstreamResets => "upstream resets",
        Step::UpstreamClosed => "upstream closed",
        Step::UpstreamFresh => "upstream fresh",
    }
}
