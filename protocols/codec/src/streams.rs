//! What a protocol of many exchanges at once on one connection must say (HTTP/2).
//!
//! The *streams* engine speaks of streams and messages alone: heads, bytes, trailers. A [`Link`] is one connection as the
//! protocol sees it, sans-io: bytes come in and become [`Event`]s, what is to be said is appended to a buffer. It owns
//! whatever the protocol keeps of a connection and its streams: compression, windows, states, budgets against abuse.
//! HTTP/1 is a link, too, of one stream at a time: so the engine translates between the two without knowing either.
//! Every function takes bytes of a peer and must not panic, index unchecked, or allocate by a length that a peer declared.

use std::time::Duration;

use crate::{Fault, Head, Message, Policy, ReplyKind, Sniff, exchange::Limits};

/// A stream's number on its connection.
pub type StreamId = u32;

/// What the engine calls a stream; the link gives it back with each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tag(pub u64);

/// Why a stream ends before its messages do, in HTTP/2's numbers (RFC 9113 §7): what one peer says is told to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    /// Nothing more is needed.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1);
    /// Something went wrong behind.
    pub const INTERNAL: Self = Self(2);
    /// It was not processed at all and may go elsewhere.
    pub const REFUSED: Self = Self(7);
    /// Nobody waits for it any more.
    pub const CANCEL: Self = Self(8);
    /// The peer asks too much.
    pub const CALM: Self = Self(11);
}

/// How a link treats its peer, from the conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Bounds of heads and bodies.
    pub limits: Limits,
    /// Streams the peer may have open at once.
    pub streams_max: u32,
    /// Bytes of one stream that the peer may send before some were taken; the window of one that keeps up grows beyond it.
    pub window: u32,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self { limits: Limits::default(), streams_max: 1_000, window: 64 << 10 }
    }
}

/// What happened on a connection. Heads and trailers are in the message that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing to be told.
    Nothing,
    /// More bytes are needed: `total` from where this step began, `usize::MAX` where it cannot be told.
    Partial {
        /// Bytes from where this step began.
        total: usize,
    },
    /// The link takes no more now: what is left belongs to a later exchange.
    Wait,
    /// A request's head. Its stream must be adopted, or answered and forgotten.
    Request {
        /// The stream.
        stream: StreamId,
        /// Nothing follows it.
        end: bool,
        /// Its answer has no body (HEAD).
        bodiless: bool,
    },
    /// A request that cannot be carried, but can be answered; what could be read of it is in the message.
    Fault {
        /// The stream.
        stream: StreamId,
        /// What is wrong with it.
        fault: Fault,
    },
    /// An answer's head.
    Answer {
        /// Its stream.
        tag: Tag,
        /// What it means.
        kind: ReplyKind,
        /// Nothing follows it.
        end: bool,
    },
    /// Bytes of a body: `len` at `at` from where this step began. They are to be released when they were taken.
    Data {
        /// Its stream.
        tag: Tag,
        /// Where they are.
        at: usize,
        /// How many there are.
        len: usize,
        /// Nothing follows them.
        end: bool,
    },
    /// The end of a message that has trailers.
    Trailers {
        /// Its stream.
        tag: Tag,
    },
    /// A stream ended too early; it is forgotten here.
    Reset {
        /// Its stream.
        tag: Tag,
        /// Why.
        code: Code,
        /// The peer broke the protocol on it, and was told so by us.
        ours: bool,
    },
    /// The peer takes more bytes of a stream, or of all.
    Room {
        /// Its stream; `None`: all.
        tag: Option<Tag>,
    },
    /// The peer takes more bytes of every stream than before, and perhaps more streams.
    Widened,
    /// The peer takes no new streams. Those that it did not process are to be asked for by [`Link::unprocessed`].
    Retired,
    /// The peer is alive: it answered a question of ours.
    Alive,
    /// Nothing behind can be trusted. What must be said was appended; close the connection when it is written.
    Broken {
        /// Why, as a short phrase.
        why: &'static str,
    },
}

/// What [`Link::receive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes that are done with.
    pub used: usize,
    /// What they were.
    pub event: Event,
}

/// One connection, as its protocol sees it.
pub trait Link: std::fmt::Debug + 'static {
    /// Appends what is said first.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// Handles the unit at the start of `bytes`, which are never empty. A head that it finds is put into `message`, which
    /// it clears.
    fn receive(&mut self, bytes: &[u8], policy: &Policy, message: &mut Message, out: &mut Vec<u8>) -> Step;

    /// The peer says no more: whether that ends a message in order, and which.
    fn ended(&mut self) -> Option<Tag>;

    /// Streams that may be opened now.
    fn room(&self) -> usize;

    /// Whether no stream will be opened any more: the peer said so, or the connection cannot carry another.
    fn is_spent(&self) -> bool;

    /// Streams that are open.
    fn streams(&self) -> usize;

    /// Opens a stream; only where there is room.
    fn open(&mut self, tag: Tag) -> StreamId;

    /// Gives a stream that the peer opened its tag.
    fn adopt(&mut self, stream: StreamId, tag: Tag);

    /// Nobody wants to hear more of a stream that the peer opened: no event tells of it any more, and when it is answered
    /// the rest of its request is refused.
    fn disown(&mut self, stream: StreamId);

    /// Appends a request's head. `end`: nothing follows it. `authority`: for a request that names none.
    fn request(&mut self, stream: StreamId, head: Head<'_>, end: bool, authority: &str, out: &mut Vec<u8>);

    /// Appends an answer's head. `end`: nothing follows it.
    fn answer(&mut self, stream: StreamId, head: Head<'_>, kind: ReplyKind, end: bool, out: &mut Vec<u8>);

    /// Appends what may be sent now of a body; how many bytes. `end`: nothing follows `bytes`, and it is said when all
    /// of them were taken.
    fn data(&mut self, stream: StreamId, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> usize;

    /// Whether `len` bytes of a body could be sent now.
    fn fits(&self, stream: StreamId, len: usize) -> bool;

    /// Whether nothing may be sent of any body now, so that all streams wait for the same.
    fn is_full(&self) -> bool;

    /// Appends the trailers that end a message.
    fn trailers(&mut self, stream: StreamId, head: Head<'_>, out: &mut Vec<u8>);

    /// Ends a stream now and forgets it. A link that cannot say so is severed.
    fn reset(&mut self, stream: StreamId, code: Code, out: &mut Vec<u8>);

    /// Bytes of a body were taken: as many may come. `freely`: nothing waits behind them, so that the peer may send more
    /// ahead than before.
    fn release(&mut self, stream: StreamId, len: usize, freely: bool, out: &mut Vec<u8>);

    /// Appends that no new streams are taken: first as a wish, `last` for good.
    fn retire(&mut self, last: bool, out: &mut Vec<u8>);

    /// Appends a question for a sign of life. `false`: the protocol has none.
    fn ask(&mut self, out: &mut Vec<u8>) -> bool;

    /// The streams that the peer did not process, put into `into`; they are forgotten here.
    fn unprocessed(&mut self, into: &mut Vec<Tag>);

    /// Appends why the connection ends, where it was not said. `rest`: what the peer began to say.
    fn farewell(&mut self, code: Code, rest: &[u8], out: &mut Vec<u8>);

    /// Whether the connection must be ended so that its peer sees that something is missing.
    fn is_severed(&self) -> bool;

    /// Whether the peer began to say something short that cannot be acted on before it is complete: its first words, a head.
    /// `rest`: what has come of a unit that is not complete.
    fn is_midway(&self, rest: &[u8]) -> bool;

    /// Whether the peer can be told to send less of one stream. Otherwise it is not read while that stream waits.
    fn has_windows(&self) -> bool;

    /// The version, as `Via` spells it.
    fn version(&self) -> &'static str;

    /// A second has passed: budgets recover.
    fn second(&mut self);

    /// Memory held beside the link itself.
    fn held(&self) -> usize;

    /// The bounds may have changed.
    fn renew(&mut self, settings: &LinkSettings);
}

/// A wire format of many exchanges at once.
pub trait StreamCodec: 'static {
    /// The name used in the conf, metrics and logs.
    const NAME: &'static str;
    /// A caller's connection without a stream for this long is closed.
    const SERVER_IDLE: Duration;
    /// An endpoint's connection without a stream for this long is closed.
    const CLIENT_IDLE: Duration;
    /// Connections to one endpoint, unless the conf says otherwise.
    const CONNECTIONS: u32;

    /// A connection.
    type Link: Link;

    /// Whether a connection that begins with `first` speaks this protocol. `first` is never empty.
    fn sniff(first: &[u8]) -> Sniff;

    /// A caller's connection.
    fn serve(settings: &LinkSettings) -> Self::Link;

    /// A connection to an endpoint.
    fn dial(settings: &LinkSettings) -> Self::Link;
}
