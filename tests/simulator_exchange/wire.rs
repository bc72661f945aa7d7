//! HTTP/1 as the simulated peers speak it, written and read without the codec's help.
//!
//! A body is a run of a table of chance bytes, and where in the table it begins depends on what it is the body of: so
//! each byte that arrives anywhere is known to be right or wrong. The readers are strict and panic on whatever a peer
//! must never be sent; they must never repair anything.

use std::{
    fmt::{Display, Write},
    sync::LazyLock,
};

/// Longest body of a life.
pub(crate) const BODY_MAX: usize = 400 << 10;
const TABLE: usize = 1 << 20;

static BYTES: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..TABLE as u64 / 8).flat_map(|at| mix(at).to_le_bytes()).collect());

fn mix(at: u64) -> u64 {
    let z = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What bytes are the bytes of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    /// A request's body.
    Asked(usize),
    /// The body of an endpoint's answer: the call, and which of its endpoints.
    Answered(usize, usize),
    /// A tunnel, to the endpoint and back.
    ToEndpoint(usize),
    ToCaller(usize),
}

impl Stream {
    /// Its bytes from `at` on.
    pub(crate) fn bytes(self, at: usize, len: usize) -> &'static [u8] {
        let (id, kind) = match self {
            Self::Asked(id) => (id, 0),
            Self::ToEndpoint(id) => (id, 1),
            Self::ToCaller(id) => (id, 2),
            Self::Answered(id, attempt) => (id, 3 + attempt),
        };
        let from = mix((id * 16 + kind) as u64) as usize % (TABLE - 2 * BODY_MAX) + at;
        &BYTES[from..from + len]
    }
}

/// A message's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// Reads a head with its empty line.
    fn read(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("no head: {:?}", start(bytes)));
        let mut lines = text.strip_suffix("\r\n\r\n").expect("found by its end").split("\r\n");
        let line = lines.next().expect("split gives one").to_owned();
        Self { line, fields: lines.map(field).collect() }
    }

    /// The value of a header that is there once at most.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        value
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let code = self.line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        code.unwrap_or_else(|| panic!("no status line: {:?}", self.line))
    }

    /// The framing its headers tell; `None` when they tell none.
    pub(crate) fn framing(&self) -> Option<Framing> {
        let length = self.get("content-length").map(|value| value.parse().expect("a length"));
        match (length, self.get("transfer-encoding")) {
            (Some(length), None) => Some(Framing::Length(length)),
            (None, Some("chunked")) => Some(Framing::Chunked),
            (None, None) => None,
            both => panic!("framing that can be read in two ways: {both:?}"),
        }
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
    let token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    assert!(token && !value.contains(['\r', '\n', '\0']), "no header: {line:?}");
    (name.to_owned(), value.to_owned())
}

/// Adds a header to a head.
pub(crate) fn header(name: &str, value: impl Display, head: &mut String) {
    let _ = write!(head, "{name}: {value}\r\n"); // a String takes it
}

/// The start of bytes, to be shown.
pub(crate) fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    /// By the end of the connection; also what a tunnel is.
    Close,
}

/// What comes next of a message.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    Head(Head),
    Data(&'a [u8]),
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Left(usize),
    Size,
    Chunk(usize),
    ChunkEnd,
    Trailer,
    Close,
}

/// Reads messages, one after the other, in any splits.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    /// What is there of a head or a line.
    partial: Vec<u8>,
    /// Bytes of the present body so far.
    pub(crate) at: usize,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Reader {
    /// Whether it is between two messages.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Head && self.partial.is_empty()
    }

    /// Whether a part of a head is there.
    pub(crate) fn in_head(&self) -> bool {
        self.state == State::Head
    }

    /// Whether only the end of the connection ends the message.
    pub(crate) fn until_close(&self) -> bool {
        self.state == State::Close
    }

    /// Whether what is there of the message is incomplete, and can be seen to be.
    pub(crate) fn is_cut(&self) -> bool {
        !self.is_idle() && !self.until_close()
    }

    /// How the body of the head that was just given is framed.
    pub(crate) fn body(&mut self, framing: Framing) {
        (self.at, self.trailers) = (0, Vec::new());
        self.state = match framing {
            Framing::Length(length) => State::Left(length),
            Framing::Chunked => State::Size,
            Framing::Close => State::Close,
        };
    }

    /// Takes the next part off `bytes`; `None` when it needs more.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        loop {
            match self.state {
                State::Head => {
                    return self.until(bytes, b"\r\n\r\n").map(|head| Part::Head(Head::read(&head)));
                }
                State::Left(0) => {
                    self.state = State::Head;
                    return Some(Part::End);
                }
                State::Left(left) => {
                    let data = self.data(bytes, left)?;
                    self.state = State::Left(left - data.len());
                    return Some(Part::Data(data));
                }
                State::Close => return self.data(bytes, usize::MAX).map(Part::Data),
                State::Chunk(left) => {
                    let data = self.data(bytes, left)?;
                    self.state =
                        if left == data.len() { State::ChunkEnd } else { State::Chunk(left - data.len()) };
                    return Some(Part::Data(data));
                }
                State::Size => {
                    let line = self.until(bytes, b"\r\n")?;
                    let size = size(&line);
                    self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
                }
                State::ChunkEnd => {
                    assert_eq!(self.until(bytes, b"\r\n")?, b"\r\n", "the end of a chunk");
                    self.state = State::Size;
                }
                State::Trailer => {
                    let line = self.until(bytes, b"\r\n")?;
                    if line == b"\r\n" {
                        self.state = State::Head;
                        return Some(Part::End);
                    }
                    let line = std::str::from_utf8(&line[..line.len() - 2]).expect("a trailer");
                    self.trailers.push(field(line));
                }
            }
        }
    }

    fn data<'a>(&mut self, bytes: &mut &'a [u8], most: usize) -> Option<&'a [u8]> {
        let (data, rest) = bytes.split_at(most.min(bytes.len()));
        *bytes = rest;
        self.at += data.len();
        (!data.is_empty()).then_some(data)
    }

    fn until(&mut self, bytes: &mut &[u8], end: &[u8]) -> Option<Vec<u8>> {
        let from = self.partial.len().saturating_sub(end.len() - 1);
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        let found = self.partial[from..].windows(end.len()).position(|window| window == end);
        let Some(found) = found else {
            *bytes = &[];
            assert!(self.partial.len() < 200_000, "a line without an end");
            return None;
        };
        let len = from + found + end.len();
        *bytes = &bytes[len - before..];
        self.partial.truncate(len);
        Some(std::mem::take(&mut self.partial))
    }
}

/// The size in a chunk's line, which is spelled in one way only.
fn size(line: &[u8]) -> usize {
    let text = std::str::from_utf8(&line[..line.len() - 2]).unwrap_or("?");
    let size = usize::from_str_radix(text, 16).unwrap_or_else(|_| panic!("no chunk size: {text:?}"));
    assert_eq!(text, format!("{size:x}"), "a chunk's size is spelled in another way");
    size
}
