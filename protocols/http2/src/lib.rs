//! HTTP/2: frames, compression, windows, states of streams. Bytes in, bytes out.
//!
//! Sources: RFC 9113 and RFC 7541. Our own, because an engine that moves frames must see them: what is sent ahead, taken
//! and given back is decided by both of its legs together. It must never open a socket, never let a peer hold more than it
//! was given, and never panic on any bytes.
//!
//! * [`frame`]: the layout of frames.
//! * [`hpack`]: compression of heads.
//! * [`gate`]: which lists of lines are a request, an answer, trailers.
//! * [`link`]: one connection.
//! * [`budget`]: what a peer may use up without doing any work.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use outrigger_codec::{Sniff, StreamCodec, streams::LinkSettings};

pub mod budget;
pub mod frame;
pub mod gate;
pub mod hpack;
pub mod link;

pub use link::Http2Link;

/// HTTP/2 with prior knowledge (RFC 9113 §3.3).
#[derive(Clone, Copy, Debug)]
pub struct Http2;

impl StreamCodec for Http2 {
    const NAME: &'static str = "http2";
    // As Dubbo2's: consumers of Triple ask for a sign of life every minute.
    const SERVER_IDLE: Duration = Duration::from_secs(180);
    const CLIENT_IDLE: Duration = Duration::from_secs(300);
    const CONNECTIONS: u32 = 8;

    type Link = Http2Link;

    fn sniff(first: &[u8]) -> Sniff {
        // Behind these bytes no other protocol goes on.
        const TELLING: &[u8] = b"PRI * HTTP/2.0";
        let len = first.len().min(TELLING.len());
        match (first.get(..len) == TELLING.get(..len), len == TELLING.len()) {
            (false, _) => Sniff::No,
            (true, true) => Sniff::Yes,
            (true, false) => Sniff::More,
        }
    }

    fn serve(settings: &LinkSettings) -> Http2Link {
        Http2Link::new(true, settings)
    }

    fn dial(settings: &LinkSettings) -> Http2Link {
        Http2Link::new(false, settings)
    }
}
