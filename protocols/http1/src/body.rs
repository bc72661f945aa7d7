//! Bodies on their way: lengths, chunks and trailers, read strictly and framed anew.
//!
//! Source: RFC 9112 §6, §7.1. Chunks keep their sizes, so that nothing waits here to be measured; extensions are dropped.
//! The end of a chunk, and of a body, is written only when it was seen to be right. Must hold nothing but a trailer section.

use std::io::Write;

use memchr::memchr;
use outrigger_codec::{
    Body, Fault,
    exchange::{Framing, Limits, Passed, Underscores},
};

use super::{
    chars::{self, VALUE},
    fields::{self, forbidden_in_trailer},
};

/// A body on its way.
#[derive(Debug)]
pub struct Http1Body {
    from: From,
    into: Into,
    /// Bytes of chunk extensions so far.
    extensions: usize,
    /// Bytes of the body so far, or as announced by the chunk that is being passed.
    total: u64,
    /// The trailer section, until it is whole.
    trailer: Vec<u8>,
    /// What is done with trailers whose name has an underscore.
    underscores: Underscores,
}

/// Where in the body its sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Done,
    /// Bytes to come.
    Length(u64),
    Close,
    /// The digits of a chunk's size.
    Size {
        size: u64,
        digits: u8,
    },
    /// What follows a size behind a semicolon.
    Extension {
        size: u64,
    },
    /// The LF behind a size.
    SizeEnd {
        size: u64,
    },
    /// Bytes of the chunk to come.
    Data(u64),
    /// The CR behind a chunk, and the LF.
    DataCr,
    DataLf,
    Trailer,
}

/// How its receiver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Into {
    /// It knows the length.
    Sized,
    Chunked,
    /// It takes what comes until the connection ends.
    Raw,
    /// It is told of each piece ([`Http1Body::piece`]), and of the trailers as lines.
    Pieces,
}

/// What the next bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// So many bytes of framing.
    Framing(usize),
    /// So many bytes of the body, perhaps its last.
    Data(usize),
}

/// Bytes of extensions in one message.
const EXTENSIONS_MAX: usize = 4 << 10;
/// Digits of a chunk's size.
const DIGITS_MAX: u8 = 16;
/// Before the first digit of a size.
const SIZE: From = From::Size { size: 0, digits: 0 };

impl Http1Body {
    /// A request's body, for an endpoint that speaks HTTP/1.1.
    pub(crate) fn of_request(framing: Framing, underscores: Underscores) -> Self {
        Self::new(framing, false, underscores)
    }

    /// An answer's body. `old`: its caller speaks HTTP/1.0.
    pub(crate) fn of_answer(framing: Framing, old: bool) -> Self {
        Self::new(framing, old, Underscores::Allow)
    }

    /// A body that goes on in another protocol.
    pub(crate) fn in_pieces(framing: Framing, underscores: Underscores) -> Self {
        Self { into: Into::Pieces, ..Self::new(framing, true, underscores) }
    }

    fn new(framing: Framing, old: bool, underscores: Underscores) -> Self {
        let told = if old { Into::Raw } else { Into::Chunked };
        let (from, into) = match framing {
            Framing::None | Framing::Length(0) => (From::Done, Into::Sized),
            Framing::Length(length) => (From::Length(length), Into::Sized),
            Framing::Chunked => (SIZE, told),
            Framing::Close => (From::Close, told),
        };
        Self { from, into, extensions: 0, total: 0, trailer: Vec::new(), underscores }
    }

    /// What `bytes` (never empty) begin with. At the end of a chunked body the trailers that may go on are appended to
    /// `trailers`, a line each.
    pub(crate) fn piece(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        trailers: &mut Vec<u8>,
    ) -> Result<Piece, Fault> {
        let data = match &mut self.from {
            From::Length(left) | From::Data(left) => {
                let data = up_to(bytes, *left).len();
                *left = left.saturating_sub(data as u64);
                data
            }
            From::Close => bytes.len(),
            _ => return self.step(bytes, limits, trailers).map(Piece::Framing),
        };
        match self.from {
            From::Length(0) => self.from = From::Done,
            From::Data(0) => self.from = From::DataCr,
            _ => {}
        }
        Ok(Piece::Data(data))
    }

    /// Whether it ends with its connection.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.from == From::Close
    }

    /// One step; how many of `bytes` (never empty) it took.
    fn step(&mut self, bytes: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Result<usize, Fault> {
        let Some(first) = bytes.first().copied() else { return Ok(0) };
        match self.from {
            From::Done => return Ok(0),
            From::Length(left) => {
                let data = up_to(bytes, left);
                out.extend_from_slice(data);
                let left = left.saturating_sub(data.len() as u64);
                self.from = if left == 0 { From::Done } else { From::Length(left) };
                return Ok(data.len());
            }
            From::Close => {
                if self.into == Into::Chunked {
                    chunk_size(bytes.len() as u64, out);
                }
                out.extend_from_slice(bytes);
                if self.into == Into::Chunked {
                    out.extend_from_slice(b"\r\n");
                }
                return Ok(bytes.len());
            }
            From::Data(left) => {
                let data = up_to(bytes, left);
                out.extend_from_slice(data);
                let left = left.saturating_sub(data.len() as u64);
                self.from = if left == 0 { From::DataCr } else { From::Data(left) };
                return Ok(data.len());
            }
            From::Extension { size } => return self.extension(size, bytes),
            From::Trailer => return self.trailer(bytes, limits, out),
            From::Size { size, digits } => self.from = size_digit(size, digits, first)?,
            From::SizeEnd { size } => {
                expect(first, b'\n', "a chunk's size")?;
                self.chunk(size, limits, out)?;
            }
            From::DataCr => {
                expect(first, b'\r', "the end of a chunk")?;
                self.from = From::DataLf;
            }
            From::DataLf => {
                expect(first, b'\n', "the end of a chunk")?;
                if self.into == Into::Chunked {
                    out.extend_from_slice(b"\r\n");
                }
                self.from = SIZE;
            }
        }
        Ok(1)
    }

    /// A chunk begins.
    fn chunk(&mut self, size: u64, limits: &Limits, out: &mut Vec<u8>) -> Result<(), Fault> {
        if size == 0 {
            self.from = From::Trailer;
            return Ok(());
        }
        self.total = self.total.saturating_add(size);
        if self.total > limits.body_max {
            return Err(Fault::BodyTooLarge);
        }
        if self.into == Into::Chunked {
            chunk_size(size, out);
        }
        self.from = From::Data(size);
        Ok(())
    }

    fn extension(&mut self, size: u64, bytes: &[u8]) -> Result<usize, Fault> {
        let len = chars::run(bytes, VALUE);
        self.extensions = self.extensions.saturating_add(len);
        if self.extensions > EXTENSIONS_MAX {
            return Err(Fault::malformed("too many chunk extensions"));
        }
        match bytes.get(len) {
            None => Ok(len),
            Some(b'\r') => {
                self.from = From::SizeEnd { size };
                Ok(len.saturating_add(1))
            }
            Some(_) => Err(Fault::malformed("a chunk extension")),
        }
    }

    /// Takes a line of the trailer section, or what there is of it.
    fn trailer(&mut self, bytes: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Result<usize, Fault> {
        let len = memchr(b'\n', bytes).map_or(bytes.len(), |at| at.saturating_add(1));
        let line = bytes.get(..len).unwrap_or_default();
        if self.trailer.len().saturating_add(len) > limits.head_max {
            return Err(Fault::HeadTooLarge);
        }
        self.trailer.extend_from_slice(line);
        if line.last() != Some(&b'\n') {
            return Ok(len);
        }
        if !self.trailer.ends_with(b"\r\n") {
            return Err(Fault::malformed("a line ends without CR"));
        }
        if self.trailer == b"\r\n" || self.trailer.ends_with(b"\r\n\r\n") {
            self.last_chunk(limits, out)?;
            self.from = From::Done;
        }
        Ok(len)
    }

    /// The trailer section is whole: the body's end, with the trailers that may go on.
    fn last_chunk(&mut self, limits: &Limits, out: &mut Vec<u8>) -> Result<(), Fault> {
        let trailer = std::mem::take(&mut self.trailer);
        let tells = matches!(self.into, Into::Chunked | Into::Pieces);
        let chunked = self.into == Into::Chunked;
        let start = out.len();
        if chunked {
            out.extend_from_slice(b"0\r\n");
        }
        let walked = fields::walk(&trailer, 0, limits.headers_max, |_, field| {
            let name = field.name.of(&trailer).unwrap_or_default();
            let underscored = self.underscores != Underscores::Allow && memchr(b'_', name).is_some();
            if underscored && self.underscores == Underscores::Reject {
                return Err(Fault::malformed("an underscore in a trailer's name"));
            }
            if tells && !underscored && !forbidden_in_trailer(name) {
                out.extend_from_slice(name);
                out.extend_from_slice(b": ");
                out.extend_from_slice(field.value.of(&trailer).unwrap_or_default());
                out.extend_from_slice(b"\r\n");
            }
            Ok(())
        });
        if walked.is_err() {
            // Nothing of an end that was wrong.
            out.truncate(start);
        } else if chunked {
            out.extend_from_slice(b"\r\n");
        }
        walked
    }
}

impl Body for Http1Body {
    fn pass(&mut self, bytes: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Result<Passed, Fault> {
        let mut used = 0usize;
        while self.from != From::Done {
            let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) else { break };
            used = used.saturating_add(self.step(rest, limits, out)?);
        }
        Ok(Passed { used, done: self.from == From::Done })
    }

    fn is_done(&self) -> bool {
        self.from == From::Done
    }

    fn end(&mut self, out: &mut Vec<u8>) -> bool {
        match self.from {
            From::Done => true,
            From::Close => {
                self.from = From::Done;
                if self.into == Into::Chunked {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
                true
            }
            _ => false,
        }
    }

    fn end_is_told(&self) -> bool {
        self.into != Into::Raw
    }
}

fn up_to(bytes: &[u8], most: u64) -> &[u8] {
    let len = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(..len).unwrap_or_default()
}

fn expect(byte: u8, wanted: u8, what: &'static str) -> Result<(), Fault> {
    if byte == wanted { Ok(()) } else { Err(Fault::malformed(what)) }
}

/// What follows one more byte of a chunk's size.
fn size_digit(size: u64, digits: u8, byte: u8) -> Result<From, Fault> {
    let malformed = Fault::malformed("a chunk's size");
    match byte {
        b'\r' if digits > 0 => Ok(From::SizeEnd { size }),
        b';' if digits > 0 => Ok(From::Extension { size }),
        _ => {
            let digit = chars::hex(byte).filter(|_| digits < DIGITS_MAX).ok_or(malformed)?;
            let size =
                size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit))).ok_or(malformed)?;
            if i64::try_from(size).is_err() {
                return Err(malformed);
            }
            Ok(From::Size { size, digits: digits.saturating_add(1) })
        }
    }
}

pub(crate) fn chunk_size(size: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{size:x}\r\n");
}
