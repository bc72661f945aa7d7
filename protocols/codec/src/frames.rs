//! What a protocol of whole messages matched by an id must say (Bolt, Dubbo2).
//!
//! The *frames* engine is generic over [`FrameCodec`]: static functions on a zero-sized type, so that the call of
//! a codec costs what a plain function costs. Every function takes bytes of a peer and must not panic, index
//! unchecked, or allocate by a length that a peer declared.

use std::time::Duration;

use crate::{Change, HeadIndex, Refusal, Sniff, Wants};

/// Framing or content that cannot be trusted, with the reason as a short phrase for the log and the metrics label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// What a frame is, read from its fixed header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A call that waits for an answer.
    Request,
    /// A call that is never answered, not even with an error.
    OneWay,
    /// A keep-alive question that wants an answer.
    Heartbeat,
    /// A keep-alive question that wants none, or another event that needs no action.
    Event,
    /// The answer to a call.
    Response,
    /// The answer to a keep-alive question.
    HeartbeatAck,
    /// The peer takes no new calls on this connection (Dubbo READONLY, Bolt GOAWAY).
    Retire,
    /// The peer takes new calls again (Dubbo WRITEABLE).
    Resume,
}

/// One whole frame at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Bytes of the whole frame; `FIXED_MIN <= len <= frame_max`.
    pub len: usize,
    /// What it is.
    pub kind: FrameKind,
    /// Its id, widened; any value is legal.
    pub id: u64,
}

/// The answer of [`FrameCodec::scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The frame is not complete. `total` is its whole length where the fixed header is there, otherwise the
    /// number of bytes needed to know more; always `> buf.len()`.
    Partial {
        /// Bytes needed from the start of the frame.
        total: usize,
    },
    /// A whole frame.
    Frame(Framed),
    /// The fixed header declares more than `frame_max`, or a part longer than the protocol allows. The header itself is in the buffer, so that a call can
    /// be refused by its id; then the connection must be closed.
    TooLarge(Framed),
    /// Nothing after this can be trusted; the connection must be closed.
    Broken(Malformed),
}

/// What must be remembered of a request to answer it later, besides its id: version and serialization bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ticket(pub u32);

/// How a call ended, as its answer frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// A result.
    Ok,
    /// The service answered with an exception of its own: the transport did well.
    Exception,
    /// The provider was too busy to take the call.
    Busy,
    /// The provider says the call timed out.
    TimedOut,
    /// Any other error status.
    Error,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Exception, Self::Busy, Self::TimedOut, Self::Error];

    /// The name used in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Exception => "exception",
            Self::Busy => "busy",
            Self::TimedOut => "timed_out",
            Self::Error => "error",
        }
    }
}

/// A wire format of whole messages that are matched by an id, in any order.
pub trait FrameCodec: 'static {
    /// The name used in the conf, metrics and logs.
    const NAME: &'static str;
    /// An upstream connection that neither read nor wrote for this long is asked for a sign of life.
    const HEARTBEAT_IDLE: Duration;
    /// How long one sign of life may take; three missed in a row retire the connection.
    const HEARTBEAT_WAIT: Duration;
    /// A client's connection without bytes in either direction for this long is closed.
    const SERVER_IDLE: Duration;

    /// Whether a connection that begins with `first` speaks this protocol. `first` is never empty.
    fn sniff(first: &[u8]) -> Sniff;

    /// Looks at the start of `buf` for one frame. Decides [`Scan::TooLarge`] from the fixed header alone, and
    /// verifies whatever checksum the frame carries before it calls it whole.
    fn scan(buf: &[u8], frame_max: usize) -> Scan;

    /// Reads the head of a whole request frame. `index` was cleared. Fails only when a part that is wanted cannot be read.
    fn head(frame: &[u8], wants: Wants, index: &mut HeadIndex) -> Result<(), Malformed>;

    /// What [`FrameCodec::refuse`] needs to answer this request. `frame` begins with a whole fixed header.
    fn ticket(frame: &[u8]) -> Ticket;

    /// Frames of different lanes never share an upstream connection (Bolt's versions). Lanes are small numbers below [`LANES_MAX`].
    fn lane(frame: &[u8]) -> u8;

    /// Replaces the id of a whole frame in place, keeping any checksum true. The id is cut to the field's width.
    fn set_id(frame: &mut [u8], id: u64);

    /// Tells the next hop in a request that it has `ms` at most, where that needs no more room than there is. `index` is what
    /// [`FrameCodec::head`] read of this frame. `false`: it is not told.
    fn set_timeout(frame: &mut [u8], index: &HeadIndex, ms: u32) -> bool;

    /// Appends a whole request that tells so, where [`FrameCodec::set_timeout`] could not, with every length and checksum
    /// true. `false`: this frame cannot tell it, and nothing was appended.
    fn add_timeout(frame: &[u8], index: &HeadIndex, ms: u32, out: &mut Vec<u8>) -> bool;

    /// Appends a whole frame, a request or a response, with the headers of its head changed and every length and checksum
    /// true. `false`: this frame cannot be changed, and nothing was appended.
    fn change(frame: &[u8], change: &Change, out: &mut Vec<u8>) -> bool;

    /// How the call ended, from a whole response frame.
    fn outcome(frame: &[u8]) -> Outcome;

    /// The status of a whole response frame, in the protocol's own numbers.
    fn reply_status(frame: &[u8]) -> u32;

    /// Appends the answer that refuses a call, in the version and serialization of its request.
    /// `message` says what was refused and why; it is put where the caller's program shows it, if the protocol can.
    fn refuse(ticket: Ticket, id: u64, why: Refusal, message: &str, out: &mut Vec<u8>);

    /// Appends the answer to a whole [`FrameKind::Heartbeat`] frame.
    fn heartbeat_ack(frame: &[u8], out: &mut Vec<u8>);

    /// Appends a keep-alive question for an upstream connection of `lane`.
    fn heartbeat(lane: u8, id: u64, out: &mut Vec<u8>);

    /// Appends the event that tells a client to send no new calls here; nothing when the protocol has none that
    /// stock clients understand.
    fn goodbye(id: u64, out: &mut Vec<u8>);
}

/// Lanes a codec may have.
pub const LANES_MAX: usize = 4;
