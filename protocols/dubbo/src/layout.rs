//! The fixed header of a frame, as a table.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 2 | magic `da bb` |
//! | 2 | 1 | flags: request, two-way, event, and the serialization id in the low five bits |
//! | 3 | 1 | status, in responses |
//! | 4 | 8 | id |
//! | 12 | 4 | length of the body, signed; negative is larger than any limit |
//!
//! All numbers are big-endian. Nothing here decides anything.
//! Source: `ExchangeCodec`, `Response` and `serialize.Constants` of Apache Dubbo 3.3.

use outrigger_codec::Refusal;

/// Bytes of the fixed header.
pub(crate) const HEADER_LEN: usize = 16;
/// The two bytes that every frame begins with.
pub(crate) const MAGIC: [u8; 2] = [0xda, 0xbb];
/// Offset of the id.
pub(crate) const ID_AT: usize = 4;

/// The frame asks; without it, it answers.
pub(crate) const REQUEST: u8 = 0x80;
/// The request waits for an answer. Means nothing in a response.
pub(crate) const TWO_WAY: u8 = 0x40;
/// The frame is about the connection, not a call.
pub(crate) const EVENT: u8 = 0x20;
/// The serialization of the body.
pub(crate) const SERIALIZATION: u8 = 0x1f;

/// Hessian 2, the serialization that every peer has.
pub(crate) const HESSIAN2: u8 = 2;
/// fastjson2's JSONB, what Dubbo 3.2 prefers.
pub(crate) const FASTJSON2: u8 = 23;

/// A result or an exception of the service: the body tells which.
pub(crate) const OK: u8 = 20;
/// The client's own timer fired.
pub(crate) const CLIENT_TIMEOUT: u8 = 30;
/// The server gave up.
pub(crate) const SERVER_TIMEOUT: u8 = 31;
/// The request cannot be decoded.
pub(crate) const BAD_REQUEST: u8 = 40;
/// No such service here.
pub(crate) const SERVICE_NOT_FOUND: u8 = 60;
/// The server failed.
pub(crate) const SERVER_ERROR: u8 = 80;
/// The server's threads are used up.
pub(crate) const SERVER_THREADPOOL_EXHAUSTED: u8 = 100;

/// The fixed header, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u8,
    pub(crate) status: u8,
    pub(crate) id: u64,
    pub(crate) body_len: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`, whatever its magic; `None` when it is not whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let &[_, _, flags, status, ref rest @ ..] = bytes.first_chunk::<HEADER_LEN>()?;
        let (id, body_len) = (rest.first_chunk()?, rest.last_chunk()?);
        Some(Self { flags, status, id: u64::from_be_bytes(*id), body_len: u32::from_be_bytes(*body_len) })
    }

    /// Appends the header.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[self.flags, self.status]);
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&self.body_len.to_be_bytes());
    }

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn serialization(self) -> u8 {
        self.flags & SERIALIZATION
    }
}

/// The status that says a refusal.
pub(crate) const fn status_of(why: Refusal) -> u8 {
    match why {
        Refusal::NoRoute | Refusal::NoEndpoint => SERVICE_NOT_FOUND,
        Refusal::Limited | Refusal::Overloaded => SERVER_THREADPOOL_EXHAUSTED,
        Refusal::TimedOut => SERVER_TIMEOUT,
        Refusal::Unreachable | Refusal::Forbidden => SERVER_ERROR,
        Refusal::Malformed | Refusal::TooLarge => BAD_REQUEST,
    }
}
