//! Requests: what a caller writes, and all that is known of what became of it.
//!
//! Most are right in one of the many ways a request can be; some are wrong in one way, with the status that must be
//! the answer. Must never be wrong in two ways: then nobody could say which answer is right.

use outrigger_core::Tick;

use crate::{
    rng::Rng,
    shape::{ROUTES, Shape},
    wire::{Framing, Stream, header},
};

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Version,
    Header,
    Lengths,
    Coding,
    BareLf,
    Target,
    HeadSize,
    Expectation,
    Method,
    /// In the body, behind a head that is right.
    Chunk,
}

impl Flaw {
    const HEADS: [Self; 9] = [
        Self::Version,
        Self::Header,
        Self::Lengths,
        Self::Coding,
        Self::BareLf,
        Self::Target,
        Self::HeadSize,
        Self::Expectation,
        Self::Method,
    ];

    /// The status of its answer.
    pub(crate) fn status(self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::Header | Self::Lengths | Self::BareLf | Self::Chunk => Some(400),
            Self::Method => Some(405),
            Self::Target => Some(414),
            Self::Expectation => Some(417),
            Self::HeadSize => Some(431),
            Self::Coding => Some(501),
            Self::Version => Some(505),
        }
    }

    pub(crate) fn is_in_head(self) -> bool {
        !matches!(self, Self::None | Self::Chunk)
    }
}

/// How a request ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Refused(u16),
    Tunnel,
    /// Its connection ended, and the caller sees that an answer is missing.
    Lost,
}

/// A request, as its endpoint-to-be saw it, once for each connection that took a byte of it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) conn: u32,
    pub(crate) address: String,
    /// When its connection was given to it.
    pub(crate) given: Tick,
    /// Bytes of the body that came.
    pub(crate) seen: usize,
    /// What was answered.
    pub(crate) reply: Option<Reply>,
    /// Interim answers.
    pub(crate) interims: Vec<u16>,
    /// Bytes of the answer that the engine read.
    pub(crate) heard: usize,
    /// When the engine read the first of them.
    pub(crate) heard_at: Option<Tick>,
    /// The engine read a whole head, interim or final, that can be trusted.
    pub(crate) answered: bool,
    /// Its connection ended, or its answer is none that can be trusted.
    pub(crate) failed: bool,
    /// When its connection ended for the engine, whoever ended it.
    pub(crate) over: Option<Tick>,
    /// It was left because it took too long.
    pub(crate) slow: bool,
    /// There was another, or one on its way, when it ended.
    pub(crate) beside: bool,
}

/// An endpoint's answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Bytes of the body that were or will be sent.
    pub(crate) len: usize,
    /// Whether what was sent is a whole answer.
    pub(crate) complete: bool,
    pub(crate) trailer: bool,
    pub(crate) framing: Framing,
    /// The process was draining when it was written.
    pub(crate) draining: bool,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: usize,
    pub(crate) caller: u32,
    /// `None`: one without a route.
    pub(crate) route: Option<usize>,
    pub(crate) method: &'static str,
    /// HTTP/1.0.
    pub(crate) old: bool,
    /// Its caller wants another answer on the connection.
    pub(crate) keep: bool,
    pub(crate) framing: Option<Framing>,
    pub(crate) len: usize,
    pub(crate) trailer: bool,
    pub(crate) expects: bool,
    pub(crate) upgrade: bool,
    pub(crate) flaw: Flaw,
    /// Where it lies in what its caller writes.
    pub(crate) start: usize,
    pub(crate) head_end: usize,
    pub(crate) end: usize,
    /// When its first byte, its head and its last byte were read.
    pub(crate) began: Option<Tick>,
    pub(crate) headed: Option<Tick>,
    pub(crate) whole: Option<Tick>,
    pub(crate) attempts: Vec<Attempt>,
    /// The attempt that was answered first, whose answer is the call's.
    pub(crate) prevails: Option<usize>,
    pub(crate) outcome: Option<Outcome>,
    /// Bytes that a tunnel's endpoint was given, and how many it had said when it ended in order.
    pub(crate) tunnelled: usize,
    pub(crate) tunnel_said: Option<usize>,
}

impl Call {
    pub(crate) fn draw(id: usize, caller: u32, shape: &Shape, rng: &mut Rng) -> Self {
        let flawed = rng.chance(shape.flaw_percent);
        let flaw = match flawed {
            false => Flaw::None,
            true if rng.chance(40) => Flaw::Chunk,
            true => rng.pick(&Flaw::HEADS),
        };
        let route = (!rng.chance(4)).then(|| rng.below(ROUTES));
        let old = flaw == Flaw::None && rng.chance(12);
        let upgrade = flaw == Flaw::None && !old && rng.chance(6);
        let mut method = rng.pick(&["GET", "POST", "POST", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"]);
        let len = if rng.chance(40) { rng.below(shape.body_max) } else { rng.below(300) };
        let mut framing = match (method, rng.below(4)) {
            ("GET" | "HEAD" | "OPTIONS", _) | (_, 0) => None,
            (_, 1 | 2) => Some(Framing::Length(len)),
            _ if old => Some(Framing::Length(len)),
            _ => Some(Framing::Chunked),
        };
        match flaw {
            Flaw::Chunk => (method, framing) = ("POST", Some(Framing::Chunked)),
            Flaw::None => {}
            _ => framing = None,
        }
        if upgrade {
            (method, framing) = ("GET", None);
        }
        if flaw == Flaw::Method {
            method = "TRACE";
        }
        Self {
            id,
            caller,
            route,
            method,
            old,
            keep: !rng.chance(if old { 50 } else { 8 }),
            framing,
            len: if framing.is_some() { len } else { 0 },
            trailer: framing == Some(Framing::Chunked) && rng.chance(30),
            expects: flaw == Flaw::None && !old && framing.is_some() && len > 0 && rng.chance(15),
            upgrade,
            flaw,
            start: 0,
            head_end: 0,
            end: 0,
            began: None,
            headed: None,
            whole: None,
            attempts: Vec::new(),
            prevails: None,
            outcome: None,
            tunnelled: 0,
            tunnel_said: None,
        }
    }

    /// Its target, which says what it is.
    pub(crate) fn target(&self) -> String {
        match self.route {
            Some(route) => format!("/r{route}/{}", self.id),
            None => format!("/none/{}", self.id),
        }
    }

    /// The call that a request's first line is of.
    pub(crate) fn named_by(line: &[u8]) -> usize {
        let text = String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
        let target = text.split(' ').nth(1).and_then(|target| target.rsplit('/').next()?.parse().ok());
        target.unwrap_or_else(|| panic!("an endpoint is sent what no caller wrote: {text:?}"))
    }

    /// Whether it went wrong at its endpoint: the one whose answer it has, otherwise all that it was at.
    pub(crate) fn failed(&self) -> bool {
        match self.prevails {
            Some(at) => self.attempts[at].failed,
            None => {
                let any = self.attempts.iter().any(|attempt| attempt.failed);
                any && self.attempts.iter().all(|attempt| attempt.failed || attempt.slow)
            }
        }
    }

    /// Whether an endpoint may still answer it.
    pub(crate) fn is_somewhere(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.over.is_none() && !attempt.failed)
    }

    /// The attempt that its body goes to: that whose answer it has, otherwise the last.
    pub(crate) fn carrier(&self) -> Option<&Attempt> {
        self.prevails.map_or(self.attempts.last(), |at| self.attempts.get(at))
    }

    /// Appends the request to what its caller writes.
    pub(crate) fn write(&mut self, rng: &mut Rng, out: &mut Vec<u8>) {
        self.start = out.len();
        self.write_head(rng, out);
        self.head_end = out.len();
        match self.framing {
            Some(Framing::Length(len)) => out.extend(Stream::Asked(self.id).bytes(0, len)),
            Some(Framing::Chunked) => {
                let broken = self.flaw == Flaw::Chunk;
                write_chunks(Stream::Asked(self.id), self.len, broken, true, rng, out);
                if self.trailer {
                    out.extend(format!("x-end: {}\r\n", self.id).bytes());
                }
                out.extend(b"\r\n");
            }
            Some(Framing::Close) | None => {}
        }
        self.end = out.len();
    }

    fn write_head(&mut self, rng: &mut Rng, out: &mut Vec<u8>) {
        let mut target = self.target();
        if self.flaw == Flaw::Target {
            target.extend(std::iter::repeat_n('a', 9_000));
        }
        let version = match self.flaw {
            Flaw::Version => "2.7",
            _ if self.old => "1.0",
            _ => "1.1",
        };
        let end = if self.flaw == Flaw::BareLf { "\n" } else { "\r\n" };
        let mut head =
            format!("{} {target} HTTP/{version}{end}Host: peer\r\nx-id: {}\r\n", self.method, self.id);
        if rng.chance(10) {
            header("x-pad", "p".repeat(rng.below(6_000)), &mut head);
        }
        match self.flaw {
            Flaw::Header => head += "x bad: 1\r\n",
            Flaw::Lengths => head += "Content-Length: 0\r\nContent-Length: 0\r\n",
            Flaw::Coding => head += "Transfer-Encoding: gzip, chunked\r\n",
            Flaw::Expectation => head += "Expect: miracles\r\n",
            Flaw::HeadSize => header("x-pad", "p".repeat(70_000), &mut head),
            _ => {}
        }
        match (self.upgrade, self.keep, self.old) {
            (true, ..) => {
                self.keep = true;
                head += "Connection: upgrade\r\nUpgrade: websocket\r\n";
            }
            (_, false, false) => head += "Connection: close\r\n",
            (_, true, true) => head += "Connection: keep-alive\r\n",
            (_, true, false) | (_, false, true) => {}
        }
        if self.expects {
            head += "Expect: 100-continue\r\n";
        }
        match self.framing {
            Some(Framing::Length(len)) => header("Content-Length", len, &mut head),
            Some(Framing::Chunked) => head += "Transfer-Encoding: Chunked\r\n",
            Some(Framing::Close) | None => {}
        }
        out.extend(head.bytes());
        out.extend(b"\r\n");
    }
}

/// Writes a body in chunks, up to the line of the last one. `broken`: a size is none. `odd`: spelled as callers do.
pub(crate) fn write_chunks(
    stream: Stream,
    len: usize,
    broken: bool,
    odd: bool,
    rng: &mut Rng,
    out: &mut Vec<u8>,
) {
    let mut at = 0;
    while at < len {
        let size = rng.range(1, len - at).max((len / 40).min(len - at));
        let line = match rng.below(8) {
            0 if odd => format!("00{size:X}"),
            1 if odd => format!("{size:x};why=not"),
            _ => format!("{size:x}"),
        };
        out.extend(line.bytes().chain(*b"\r\n"));
        out.extend(stream.bytes(at, size));
        at += size;
        out.extend(if broken && rng.chance(60) { b"X\n" } else { b"\r\n" });
    }
    if broken {
        out.extend(b"+5\r\nhello\r\n");
    }
    out.extend(b"0\r\n");
}
