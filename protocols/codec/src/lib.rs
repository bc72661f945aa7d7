//! The interface between the protocols and the rest of the house.
//!
//! A protocol crate depends on this crate alone. Everything here is sans-io: bytes come in as slices, bytes go
//! out into a `Vec<u8>`, nothing opens a socket, reads a clock or allocates per request.
//!
//! * [`head`]: a request head as a table of offsets over bytes that somebody else owns.
//! * [`refusal`]: why a call was not carried, by meaning; each protocol says it in its own words.
//! * [`frames`]: what a protocol of whole messages matched by id (Bolt, Dubbo2) must say.
//! * [`exchange`]: what a protocol of one exchange at a time (HTTP/1) must say.
//! * [`sniff`]: telling protocols apart by the first bytes of a connection.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod exchange;
pub mod frames;
pub mod head;
pub mod refusal;
pub mod sniff;

pub use exchange::{Asked, Body, ExchangeCodec, Fault, Find, Framing, Policy, Reply, ReplyKind};
pub use frames::{FrameCodec, FrameKind, Framed, Malformed, Outcome, Scan, Ticket};
pub use head::{Field, Head, HeadIndex, Slot, Span, Wants};
pub use refusal::Refusal;
pub use sniff::Sniff;
