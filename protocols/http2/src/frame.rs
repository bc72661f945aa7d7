//! Frames: nine bytes of header, then a payload. Source: RFC 9113 §4.1, §6, §7.
//!
//! | bytes | 0–2 | 3 | 4 | 5–8 | 9 … |
//! | --- | --- | --- | --- | --- | --- |
//! | | length | kind | flags | one bit of nothing, then the stream | payload |
//!
//! Layout alone: what a frame means in its place is judged by [`crate::link`].

/// Bytes of a frame's header.
pub const HEADER: usize = 9;
/// The longest payload we take, and send: the least that every peer must take (RFC 9113 §4.2).
pub const PAYLOAD_MAX: usize = 16_384;
/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub mod kind {
    /// Bytes of a body.
    pub const DATA: u8 = 0;
    /// A head or trailers.
    pub const HEADERS: u8 = 1;
    /// Nothing any more.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream before its messages' ends.
    pub const RST_STREAM: u8 = 3;
    /// How the peer wants to be spoken to.
    pub const SETTINGS: u8 = 4;
    /// A request that the server makes up; never wanted.
    pub const PUSH_PROMISE: u8 = 5;
    /// A question for a sign of life, or its answer.
    pub const PING: u8 = 6;
    /// No new streams.
    pub const GOAWAY: u8 = 7;
    /// More may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Nothing follows on this stream.
    pub const END_STREAM: u8 = 0x1;
    /// SETTINGS, PING: an answer.
    pub const ACK: u8 = 0x1;
    /// The head is complete.
    pub const END_HEADERS: u8 = 0x4;
    /// Padding stands behind the payload.
    pub const PADDED: u8 = 0x8;
    /// Five bytes of priority stand before the head.
    pub const PRIORITY: u8 = 0x20;
}

/// Numbers of settings.
pub mod setting {
    /// Bytes of the sender's compression table.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// Whether requests may be made up.
    pub const ENABLE_PUSH: u16 = 2;
    /// Streams at once.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// What may be sent of a stream before more is asked for.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// The longest payload.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// The largest head, as a wish.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Codes of errors besides those every protocol of streams knows (RFC 9113 §7).
pub mod code {
    use outrigger_codec::Code;

    /// A window was overdrawn.
    pub const FLOW_CONTROL: Code = Code(3);
    /// A frame came for a stream that has ended.
    pub const STREAM_CLOSED: Code = Code(5);
    /// A frame of a wrong length.
    pub const FRAME_SIZE: Code = Code(6);
    /// A head that cannot be decompressed.
    pub const COMPRESSION: Code = Code(9);
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload.
    pub len: usize,
    /// What it is.
    pub kind: u8,
    /// What else it says.
    pub flags: u8,
    /// Whose it is; 0: the connection's.
    pub stream: u32,
}

impl Header {
    /// Reads a header; `None`: there are fewer than nine bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEADER>()?;
        Some(Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        })
    }

    /// Whether it has a flag.
    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame's header.
#[inline]
pub fn header(len: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, s0, s1, s2, s3]);
}

/// Appends a frame whose payload is one number.
pub fn number(kind: u8, stream: u32, number: u32, out: &mut Vec<u8>) {
    header(4, kind, 0, stream, out);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends a GOAWAY.
pub fn goaway(last: u32, code: u32, out: &mut Vec<u8>) {
    header(8, kind::GOAWAY, 0, 0, out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
}

/// The number at `at`.
pub fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

/// The payload of a frame that may be padded, without its padding; `None`: the padding is longer than there is room.
pub fn unpadded(header: Header, payload: &[u8]) -> Option<(usize, usize)> {
    if !header.has(flag::PADDED) {
        return Some((0, payload.len()));
    }
    let padding = usize::from(*payload.first()?);
    let len = payload.len().checked_sub(1)?.checked_sub(padding)?;
    Some((1, len))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // tests fail by panicking
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let mut out = Vec::new();
        header(0x01_02_03, kind::PING, flag::ACK, 0x7fff_fffe, &mut out);
        assert_eq!(out, [1, 2, 3, 6, 1, 0x7f, 0xff, 0xff, 0xfe]);
        let read = Header::read(&out).unwrap();
        assert_eq!((read.len, read.kind, read.stream), (0x01_02_03, kind::PING, 0x7fff_fffe));
        assert!(read.has(flag::ACK));
        assert_eq!(Header::read(&out[..8]), None);
    }

    #[test]
    fn padding_is_never_longer_than_the_payload() {
        let padded = Header { len: 0, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        assert_eq!(unpadded(padded, &[2, 7, 0, 0]), Some((1, 1)));
        assert_eq!(unpadded(padded, &[3, 0, 0, 0]), Some((1, 0)));
        assert_eq!(unpadded(padded, &[4, 0, 0, 0]), None);
        assert_eq!(unpadded(padded, &[]), None);
    }
}
