//! The interface between the protocols and the rest of the house.
//!
//! A protocol crate depends on this crate alone. Everything here is sans-io: bytes come in as slices, bytes go
//! out into a `Vec<u8>`, nothing opens a socket, reads a clock or allocates per request.
//!
//! * [`head`]: a request head as a table of offsets over bytes that somebody else owns.
//! * [`refusal`]: why a call was not carried, by meaning; each protocol says it in its own words.
//! * [`frames`]: what a protocol of whole messages matched by id (Bolt, Dubbo2) must say.
//! * [`exchange`]: what a protocol of one exchange at a time (HTTP/1) must say.
//! * [`streams`]: what a protocol of many exchanges at once on one connection (HTTP/2) must say.
//! * [`dialect`]: what is spoken inside such a stream (gRPC, Triple).
//! * [`message`]: a head that owns its bytes.
//! * [`change`]: what a route changes of the heads that pass.
//! * [`respond`]: what a route answers itself.
//! * [`http`]: what the versions of HTTP share.
//! * [`sniff`]: telling protocols apart by the first bytes of a connection.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod change;
pub mod dialect;
pub mod exchange;
pub mod frames;
pub mod head;
pub mod http;
pub mod message;
pub mod refusal;
pub mod respond;
pub mod sniff;
pub mod streams;

pub use change::{Change, Changes};
pub use dialect::Dialect;
pub use exchange::{Asked, Body, ExchangeCodec, Fault, Find, Framing, Policy, Reply, ReplyKind};
pub use frames::{FrameCodec, FrameKind, Framed, Malformed, Outcome, Scan, Ticket};
pub use head::{Field, Head, HeadIndex, Slot, Span, Wants};
pub use message::Message;
pub use refusal::Refusal;
pub use respond::{Redirect, Response};
pub use sniff::Sniff;
pub use streams::{Code, Event, Link, Step, StreamCodec, Tag};
