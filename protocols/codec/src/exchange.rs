//! What a protocol of one exchange at a time must say (HTTP/1).
//!
//! A head, a body, an answer of the same shape, and only then the next request. The *exchange* engine is generic over
//! [`ExchangeCodec`]: static functions on a zero-sized type. The codec is the gate: whatever it lets through is spelled
//! anew by it, so that no byte means one thing here and another to the server behind. Every function takes bytes of a
//! peer and must not panic, index unchecked, or allocate by a length that a peer declared.

use std::{net::IpAddr, time::Duration};

use crate::{Head, HeadIndex, Malformed, Outcome, Refusal, Sniff, Ticket};

/// How much of a message a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, its first line and its empty line included; also of a trailer section.
    pub head_max: usize,
    /// Headers of one head.
    pub headers_max: usize,
    /// Bytes of a request's target.
    pub uri_max: usize,
    /// Bytes of a request's body, framing not counted.
    pub body_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_max: 64 << 10, headers_max: 100, uri_max: 8 << 10, body_max: u64::MAX }
    }
}

/// What is done with a header whose name has an underscore, which some servers take for a hyphen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// It goes no further.
    #[default]
    Drop,
    /// The request is refused.
    Reject,
    /// It is a header like any other.
    Allow,
}

/// What is told to the service of who called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// Nothing; what the caller says of itself passes.
    #[default]
    Off,
    /// The caller's address goes behind those of earlier proxies.
    Append,
    /// Only what we know ourselves.
    Replace,
}

/// How the heads of a listener's requests are treated, from the conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Headers with an underscore in their name.
    pub underscores: Underscores,
    /// What a connection may be upgraded to, in lower case.
    pub upgrades: Vec<Box<str>>,
    /// Lets TRACE pass.
    pub trace: bool,
    /// Lets CONNECT pass, as a tunnel to an endpoint of its route.
    pub connect: bool,
    /// The name we give ourselves in `Via`; `None`: there is none.
    pub via: Option<Box<str>>,
    /// What the service is told of the caller.
    pub forwarded: Forwarded,
    /// Gives each request an id where it has none.
    pub request_id: bool,
    /// The header, in lower case, in which callers say how many milliseconds they wait and services are told what is left;
    /// `None`: there is none.
    pub timeout: Option<Box<[u8]>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            underscores: Underscores::Drop,
            upgrades: vec!["websocket".into()],
            trace: false,
            connect: false,
            via: None,
            forwarded: Forwarded::Off,
            request_id: false,
            timeout: None,
        }
    }
}

/// Whose head is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A caller's.
    Request,
    /// An endpoint's.
    Reply,
}

/// What is wrong with a message. None of these is ever let through; after each the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It breaks the grammar, or can be read in two ways.
    Malformed(Malformed),
    /// It asks for what is not done here (a transfer coding).
    Unsupported(&'static str),
    /// A version that is not spoken.
    Version,
    /// A method that is not carried.
    Method,
    /// An expectation that cannot be met.
    Expectation,
    /// A content that is nobody's here.
    ContentType,
    /// The target is longer than `uri_max`.
    TargetTooLong,
    /// The head is longer than `head_max`, or has more headers than `headers_max`.
    HeadTooLarge,
    /// The body is longer than `body_max`.
    BodyTooLarge,
    /// The caller did not finish its request in time.
    Slow,
}

impl Fault {
    /// A breach of the grammar, with the reason as a short phrase.
    pub const fn malformed(why: &'static str) -> Self {
        Self::Malformed(Malformed(why))
    }

    /// As which refusal it is counted.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Malformed(_)
            | Self::Unsupported(_)
            | Self::Version
            | Self::Expectation
            | Self::ContentType => Refusal::Malformed,
            Self::Method => Refusal::Forbidden,
            Self::TargetTooLong | Self::HeadTooLarge | Self::BodyTooLarge => Refusal::TooLarge,
            Self::Slow => Refusal::TimedOut,
        }
    }

    /// The reason as a short phrase, for the log and for the caller.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Malformed(why) => why.0,
            Self::Unsupported(what) => what,
            Self::Version => "protocol version",
            Self::Method => "method",
            Self::Expectation => "expectation",
            Self::ContentType => "content type",
            Self::TargetTooLong => "target longer than uri_max",
            Self::HeadTooLarge => "head larger than head_max or headers_max",
            Self::BodyTooLarge => "body larger than body_max",
            Self::Slow => "request not finished in time",
        }
    }
}

/// The answer of [`ExchangeCodec::find`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// The head is not complete; `searched` is what to hand over with more bytes, so that none is looked at twice.
    Partial {
        /// Bytes that need not be searched again.
        searched: usize,
    },
    /// The first `len` bytes are one head, and perhaps a wrong one.
    Head {
        /// Bytes of the head, its end included.
        len: usize,
    },
    /// This cannot become a head.
    Fault(Fault),
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Pieces with their lengths.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// What must be known of a request besides its head. The head's bytes may be gone when the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its body.
    pub body: Framing,
    /// Its caller takes another answer on the same connection.
    pub keep: bool,
    /// Its caller waits for a word before it sends the body.
    pub awaits: bool,
    /// It asks for the connection to become something else, and may.
    pub tunnel: bool,
    /// What the codec wants to remember.
    pub ticket: Ticket,
}

/// What an answer's head means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// Another answer follows.
    Interim,
    /// From here on the connection carries other bytes.
    Switch,
    /// The answer.
    Final,
}

/// What must be known of an answer besides its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it means.
    pub kind: ReplyKind,
    /// Its body.
    pub body: Framing,
    /// Its endpoint takes another request on the same connection.
    pub keep: bool,
    /// How the call ended.
    pub outcome: Outcome,
    /// What the codec wants to remember.
    pub ticket: Ticket,
}

/// What the next server is told besides what the caller said.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// How heads are treated.
    pub policy: &'a Policy,
    /// The caller.
    pub peer: Option<IpAddr>,
    /// The authority of a request that named none.
    pub authority: &'a str,
    /// A fresh id, for a request without one.
    pub request_id: &'a str,
}

/// Bytes of a body that were passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// How many of the bytes were the body's; all unless `done`.
    pub used: usize,
    /// The body is complete; what follows is not its.
    pub done: bool,
}

/// A body on its way, from one framing to another.
pub trait Body: std::fmt::Debug {
    /// Appends to `out` what `bytes` are of the body. After an error neither connection can be used.
    fn pass(&mut self, bytes: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Result<Passed, Fault>;

    /// Whether it is complete.
    fn is_done(&self) -> bool;

    /// Its sender ended the connection in order. Whether that completes the body; if so its end is appended to `out`.
    fn end(&mut self, out: &mut Vec<u8>) -> bool;

    /// Whether its receiver can tell by the bytes alone that it is incomplete, should the connection end in order now.
    fn end_is_told(&self) -> bool;
}

/// A wire format of one exchange at a time.
pub trait ExchangeCodec: 'static {
    /// The name used in the conf, metrics and logs.
    const NAME: &'static str;
    /// A caller's connection without a request for this long is closed.
    const SERVER_IDLE: Duration;
    /// An endpoint's connection without a request for this long is closed.
    const CLIENT_IDLE: Duration;
    /// Connections to one endpoint, unless the conf says otherwise: each carries one call at a time.
    const CONNECTIONS: u32;

    /// A body on its way.
    type Body: Body;

    /// Whether a connection that begins with `first` speaks this protocol. `first` is never empty.
    fn sniff(first: &[u8]) -> Sniff;

    /// Looks for the end of the head that `buf` begins with. `searched` is 0 or what the last search of the same
    /// bytes said. Must cost no more than the new bytes, and must fault what cannot become a head as soon as it can be told.
    fn find(buf: &[u8], searched: usize, side: Side, limits: &Limits) -> Find;

    /// Reads a request's head, which is what `find` found. `index` was cleared; its fields become those that go on to
    /// the endpoint. Faults whatever can be read in two ways.
    fn request(head: &[u8], policy: &Policy, limits: &Limits, index: &mut HeadIndex) -> Result<Asked, Fault>;

    /// Appends the request's head as the endpoint shall see it; its body follows.
    fn forward(head: Head<'_>, asked: &Asked, hop: &Hop<'_>, out: &mut Vec<u8>) -> Self::Body;

    /// Gives a header another value in a request that `forward` spelled, which is all there; its body may follow. Where there
    /// is no such header nothing is done.
    fn retell(request: &mut Vec<u8>, name: &[u8], value: &[u8]);

    /// Reads an answer's head, which is what `find` found, as the answer to `asked`.
    fn reply(head: &[u8], asked: &Asked, limits: &Limits, index: &mut HeadIndex) -> Result<Reply, Malformed>;

    /// Appends the answer's head as the caller shall see it; its body follows. `close`: we close the connection after it.
    fn answer(
        head: Head<'_>,
        asked: &Asked,
        reply: &Reply,
        policy: &Policy,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Self::Body;

    /// Whether an interim answer is shown to this caller.
    fn shows_interim(head: Head<'_>, asked: &Asked) -> bool;

    /// Whether the answer's end can be told to this caller without ending the connection.
    fn keeps(asked: &Asked, reply: &Reply) -> bool;

    /// Appends a whole answer that refuses a request in our own name. `wait`: when to try again. Where the request
    /// itself could not be read `asked` is absent.
    fn refuse(
        asked: Option<&Asked>,
        why: Refusal,
        wait: Option<Duration>,
        message: &str,
        close: bool,
        out: &mut Vec<u8>,
    );

    /// Appends a whole answer that was made here: its head, which says how long its body is, and its body.
    fn respond(asked: &Asked, head: Head<'_>, body: &[u8], close: bool, out: &mut Vec<u8>);

    /// Appends a whole answer to what cannot be carried; the connection is closed after it. Where the request could not
    /// be read, `head` is what there is of it.
    fn fault(head: &[u8], asked: Option<&Asked>, fault: Fault, message: &str, out: &mut Vec<u8>);
}
