//! HTTP/2 written and read frame by frame: what stands on the wire, and a caller that sends whatever the test says.
//!
//! Heads are written as literals that no table keeps (RFC 7541 §6.2.2), and read by a decoder that is not the product's:
//! its own would hide what is tested. Acknowledgements and windows are given back by themselves unless a test says
//! otherwise, so that the rest reads as a transcript: send, expect, send. Names and values are bytes as characters of
//! the same number. The other end stands in `http2_upstream`.

use super::Sidecar;
use super::raw::ANSWER_MAX;
use std::collections::BTreeMap;
use std::io::{self, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

pub(crate) use super::http1::End;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags. The first is ACK where it cannot be `END_STREAM`.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Settings (§6.5.2).
pub(crate) const TABLE_SIZE: u16 = 1;
pub(crate) const STREAMS_MAX: u16 = 3;
pub(crate) const WINDOW: u16 = 4;

/// Codes of errors (§7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const CALM: u32 = 11;

/// The last stream's number in a goodbye that is only a wish.
pub(crate) const ANY: u32 = 0x7fff_ffff;
/// The window before anybody said otherwise.
pub(crate) const FIRST_WINDOW: i64 = 65_535;
/// The longest payload.
pub(crate) const FRAME_MAX: usize = 16_384;

/// The fields of one head, pseudo-headers among them, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    pub(crate) fn new(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// With one more.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another value for one that is there.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        let there = self.0.iter_mut().find(|(own, _)| own == name).expect("it is there");
        value.clone_into(&mut there.1);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(own, _)| own != name);
        self
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(own, _)| own == name).map(|(_, value)| &**value).collect()
    }

    /// The value of a field that may stand once at most.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands {} times in {self:?}", all.len());
        all.first().copied()
    }

    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let status = self.get(":status").and_then(|text| text.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {self:?}"))
    }

    /// As a block of literals.
    pub(crate) fn block(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.0 {
            out.push(0);
            for text in [name, value] {
                let bytes = latin1(text);
                integer(bytes.len(), 7, 0, &mut out);
                out.extend(bytes);
            }
        }
        out
    }
}

/// Bytes that stand in a text as characters of the same number.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect()
}

/// An integer with a prefix of so many bits (RFC 7541 §5.1).
pub(crate) fn integer(mut value: usize, bits: u8, first: u8, out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    value -= most;
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn request(method: &str, path: &str) -> Fields {
    Fields::new(&[(":method", method), (":scheme", "http"), (":authority", "test.example"), (":path", path)])
}

pub(crate) fn get(path: &str) -> Fields {
    request("GET", path)
}

pub(crate) fn post(path: &str) -> Fields {
    request("POST", path)
}

/// A call as gRPC makes it.
pub(crate) fn grpc(path: &str) -> Fields {
    post(path).with("te", "trailers").with("content-type", "application/grpc")
}

/// An answer's head.
pub(crate) fn status(status: u16) -> Fields {
    Fields::default().with(":status", &status.to_string())
}

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = self.payload.get(..64).unwrap_or(&self.payload).escape_ascii();
        let Self { kind, flags, stream, payload } = self;
        write!(out, "frame {kind} flags {flags:#x} stream {stream}, {} bytes: {start}", payload.len())
    }
}

/// A frame of any kind.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
    Frame { kind, flags, stream, payload: payload.into() }
}

pub(crate) fn headers(stream: u32, fields: &Fields, end: bool) -> Frame {
    frame(HEADERS, END_HEADERS | u8::from(end), stream, fields.block())
}

pub(crate) fn data(stream: u32, bytes: impl AsRef<[u8]>, end: bool) -> Frame {
    frame(DATA, u8::from(end), stream, bytes.as_ref())
}

pub(crate) fn rst(stream: u32, code: u32) -> Frame {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

pub(crate) fn window(stream: u32, more: u32) -> Frame {
    frame(WINDOW_UPDATE, 0, stream, more.to_be_bytes())
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Frame {
    let pairs = settings.iter().flat_map(|(number, value)| {
        let (number, value) = (number.to_be_bytes(), value.to_be_bytes());
        number.into_iter().chain(value)
    });
    frame(SETTINGS, 0, 0, pairs.collect::<Vec<u8>>())
}

pub(crate) fn ping(data: [u8; 8]) -> Frame {
    frame(PING, 0, 0, data)
}

pub(crate) fn goaway(last: u32, code: u32) -> Frame {
    frame(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A stream that depends on another.
pub(crate) fn priority(stream: u32, on: u32) -> Frame {
    frame(PRIORITY, 0, stream, [&on.to_be_bytes()[..], &[15]].concat())
}

impl Frame {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = (self.payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The number at `at`.
    fn number(&self, at: usize) -> io::Result<u32> {
        let four = self.payload.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
        four.map(u32::from_be_bytes).ok_or_else(|| wrong(&format!("{self:?} is cut short")))
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// What came: frames as they are meant. A head stands for all of its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Head { stream: u32, fields: Fields, end: bool },
    Data { stream: u32, bytes: Vec<u8>, end: bool },
    Reset { stream: u32, code: u32 },
    Goaway { last: u32, code: u32 },
    Settings(Vec<(u16, u32)>),
    SettingsAck,
    Ping([u8; 8]),
    Pong([u8; 8]),
    Window { stream: u32, more: u32 },
    End(End),
}

/// The reading end of a connection.
pub(crate) struct Reader {
    from: BufReader<TcpStream>,
    decoder: httlib_hpack::Decoder<'static>,
}

impl Reader {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
        stream.set_write_timeout(Some(ANSWER_MAX)).expect("a socket option");
        Self { from: BufReader::new(stream), decoder: httlib_hpack::Decoder::with_dynamic_size(4_096) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.from.get_ref()
    }

    pub(crate) fn patience(&self, limit: Duration) {
        self.stream().set_read_timeout(Some(limit)).expect("a socket option");
    }

    pub(crate) fn exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(bytes)
    }

    /// The next frame; `None` at a clean end.
    pub(crate) fn frame(&mut self) -> io::Result<Option<Frame>> {
        let mut header = [0; 9];
        if self.from.read(&mut header[..1])? == 0 {
            return Ok(None);
        }
        self.from.read_exact(&mut header[1..])?;
        let [_, _, _, kind, flags, s0, s1, s2, s3] = header;
        let len = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        if len > FRAME_MAX {
            return Err(wrong(&format!("a frame of {len} bytes")));
        }
        let mut payload = vec![0; len];
        self.from.read_exact(&mut payload)?;
        Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload }))
    }

    /// The next that came. A timeout is an error, the end of the connection is not.
    pub(crate) fn event(&mut self) -> io::Result<Event> {
        let frame = match self.frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Event::End(End::Clean)),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Event::End(End::Reset)),
            Err(error) => return Err(error),
        };
        let (stream, flag) = (frame.stream, frame.flags & 1 == 1);
        Ok(match frame.kind {
            DATA if frame.flags & !END_STREAM == 0 => Event::Data { stream, bytes: frame.payload, end: flag },
            HEADERS => Event::Head { stream, end: flag, fields: self.head(frame)? },
            RST_STREAM => Event::Reset { stream, code: frame.number(0)? },
            SETTINGS if flag => Event::SettingsAck,
            SETTINGS => {
                let pair = |six: &[u8; 6]| {
                    let [n0, n1, v @ ..] = *six;
                    (u16::from_be_bytes([n0, n1]), u32::from_be_bytes(v))
                };
                Event::Settings(frame.payload.as_chunks().0.iter().map(pair).collect())
            }
            PING => {
                let data = frame.payload.as_slice().try_into().map_err(|_| wrong("a PING of 8 bytes"))?;
                if flag { Event::Pong(data) } else { Event::Ping(data) }
            }
            GOAWAY => Event::Goaway { last: frame.number(0)?, code: frame.number(4)? },
            WINDOW_UPDATE => Event::Window { stream, more: frame.number(0)? },
            _ => return Err(wrong(&format!("{frame:?} should not come"))),
        })
    }

    /// A whole head that begins with this frame.
    fn head(&mut self, first: Frame) -> io::Result<Fields> {
        if first.flags & !(END_STREAM | END_HEADERS) != 0 {
            return Err(wrong(&format!("{first:?} has flags that nobody needs")));
        }
        let (mut block, mut flags) = (first.payload, first.flags);
        while flags & END_HEADERS == 0 {
            let more = self.frame()?.ok_or(ErrorKind::UnexpectedEof)?;
            if (more.kind, more.stream) != (CONTINUATION, first.stream) {
                return Err(wrong(&format!("{more:?} in the middle of a head")));
            }
            block.extend(&more.payload);
            flags = more.flags;
        }
        let mut lines = Vec::new();
        self.decoder.decode(&mut block, &mut lines).map_err(|error| wrong(&format!("HPACK: {error:?}")))?;
        let text = |bytes: Vec<u8>| bytes.into_iter().map(char::from).collect();
        Ok(Fields(lines.into_iter().map(|(name, value, _)| (text(name), text(value))).collect()))
    }
}

/// An answer as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The interim answers before it.
    pub(crate) interim: Vec<Fields>,
    pub(crate) head: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<Fields>,
    /// It came to its end.
    pub(crate) whole: bool,
    /// It, or the rest of its request, was given up.
    pub(crate) reset: Option<u32>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn begun(&self) -> bool {
        !self.head.0.is_empty()
    }

    /// It must be whole and the sidecar's own, in HTTP's words.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, name: &str) {
        assert!(self.whole && self.trailers.is_none() && self.interim.is_empty(), "{self:?}");
        assert_eq!((self.status(), self.head.get("x-outrigger-error")), (status, Some(name)), "{self:?}");
        let kind = self.head.get("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain"), "{self:?}");
        assert!(self.text().starts_with("outrigger: ") && self.text().ends_with('\n'), "{self:?}");
        let length = self.body.len();
        assert_eq!(self.head.get("content-length"), Some(&*length.to_string()), "{self:?}");
        assert!(length < 300, "{self:?}");
    }

    /// It must be whole and the sidecar's own, in gRPC's words: one head and nothing else. Gives the message.
    #[track_caller]
    pub(crate) fn refused_grpc(&self, code: u8, name: &str) -> String {
        assert!(self.whole && self.trailers.is_none() && self.body.is_empty(), "{self:?}");
        assert_eq!((self.status(), self.head.get("content-length")), (200, None), "{self:?}");
        assert_eq!(self.head.get("content-type"), Some("application/grpc"), "{self:?}");
        self.head.is_grpc(code, name)
    }

    /// It must come from a service, with status 200 and this body.
    #[track_caller]
    pub(crate) fn is(&self, text: &str) {
        assert!(self.whole && self.begun(), "{self:?}");
        assert_eq!((self.status(), &*self.text()), (200, text), "{self:?}");
        assert_eq!(self.head.get("x-outrigger-error"), None, "{self:?}");
    }
}

impl Fields {
    /// The sidecar's own status and reason; gives the message.
    #[track_caller]
    pub(crate) fn is_grpc(&self, code: u8, name: &str) -> String {
        let told = (self.get("grpc-status"), self.get("x-outrigger-error"));
        assert_eq!(told, (Some(&*code.to_string()), Some(name)), "{self:?}");
        let message = self.get("grpc-message").unwrap_or_default();
        assert!(message.starts_with("outrigger: "), "{self:?}");
        message.to_owned()
    }
}

/// How a connection that was attacked came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Goodbye {
    /// The code of the GOAWAY, if one came.
    pub(crate) code: Option<u32>,
    /// How it was closed, if it was.
    pub(crate) end: Option<End>,
}

/// A caller's connection.
pub(crate) struct Client {
    pub(crate) reader: Reader,
    last: u32,
    pub(crate) answers: BTreeMap<u32, Answer>,
    /// Every goodbye: its last stream and its code.
    pub(crate) goodbyes: Vec<(u32, u32)>,
    pub(crate) ended: Option<End>,
    /// What the sidecar asked for.
    pub(crate) asked: Vec<(u16, u32)>,
    send_window: i64,
    first_window: i64,
    windows: BTreeMap<u32, i64>,
    /// Gives back windows.
    pub(crate) generous: bool,
    /// Acknowledges settings and pings.
    pub(crate) polite: bool,
}

impl Client {
    /// Connects, and says nothing.
    pub(crate) fn mute(port: u16) -> Self {
        Self::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the listener is there"))
    }

    /// Over a connection that was made already; says nothing.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self {
            reader: Reader::new(stream),
            last: 0,
            answers: BTreeMap::new(),
            goodbyes: Vec::new(),
            ended: None,
            asked: Vec::new(),
            send_window: FIRST_WINDOW,
            first_window: FIRST_WINDOW,
            windows: BTreeMap::new(),
            generous: true,
            polite: true,
        }
    }

    pub(crate) fn connect(port: u16) -> Self {
        Self::connect_with(port, &[])
    }

    /// Connects and greets with these settings.
    pub(crate) fn connect_with(port: u16, own: &[(u16, u32)]) -> Self {
        let client = Self::mute(port);
        client.bytes(&[PREFACE, &settings(own).bytes()].concat());
        client
    }

    pub(crate) fn try_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.reader.stream().write_all(bytes)
    }

    #[track_caller]
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        self.try_bytes(bytes).expect("the sidecar reads");
    }

    #[track_caller]
    pub(crate) fn send(&self, frames: &[Frame]) {
        self.bytes(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>());
    }

    /// The number of the next stream, which is not opened yet.
    pub(crate) fn number(&mut self) -> u32 {
        self.last += if self.last == 0 { 1 } else { 2 };
        self.last
    }

    /// Opens a stream with this head.
    #[track_caller]
    pub(crate) fn open(&mut self, fields: &Fields, end: bool) -> u32 {
        let stream = self.number();
        self.send(&[headers(stream, fields, end)]);
        stream
    }

    /// A call without a body.
    #[track_caller]
    pub(crate) fn call(&mut self, fields: &Fields) -> u32 {
        self.open(fields, true)
    }

    /// Makes a call without a body and gives the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, fields: &Fields) -> Answer {
        let stream = self.call(fields);
        self.answer(stream)
    }

    /// Makes a call with a body and gives the answer.
    #[track_caller]
    pub(crate) fn ask_with(&mut self, fields: &Fields, body: impl AsRef<[u8]>) -> Answer {
        let stream = self.open(fields, false);
        self.upload(stream, body.as_ref(), true);
        self.answer(stream)
    }

    /// A call that an endpoint answers by itself must be answered so.
    #[track_caller]
    pub(crate) fn well(&mut self, what: impl std::fmt::Display) -> Answer {
        let target = format!("/echo/{what}").replace(' ', "-");
        let answer = self.ask(&get(&target));
        answer.is(&format!(" GET {target} "));
        answer
    }

    /// Sends a body as the windows allow; taken back streams take no more.
    #[track_caller]
    pub(crate) fn upload(&mut self, stream: u32, body: &[u8], end: bool) {
        let mut rest = body;
        while !rest.is_empty() {
            let own = *self.windows.entry(stream).or_insert(self.first_window);
            let len = usize::try_from(own.min(self.send_window)).unwrap_or(0).min(rest.len()).min(FRAME_MAX);
            if len == 0 {
                if self.answers.get(&stream).is_some_and(|answer| answer.reset.is_some()) {
                    return;
                }
                self.step();
                continue;
            }
            let (now, later) = rest.split_at(len);
            self.send(&[data(stream, now, end && later.is_empty())]);
            self.send_window -= len as i64;
            *self.windows.entry(stream).or_default() -= len as i64;
            rest = later;
        }
        if body.is_empty() && end {
            self.send(&[data(stream, [], true)]);
        }
    }

    /// Takes in whatever comes next.
    #[track_caller]
    pub(crate) fn step(&mut self) -> Event {
        let event = self.try_step();
        event.unwrap_or_else(|error| panic!("nothing more came: {error}; so far {:?}", self.state()))
    }

    /// What is known, for the message of a failed test.
    fn state(&self) -> String {
        let open: Vec<_> = self.answers.iter().filter(|(_, answer)| !answer.whole).collect();
        format!("not whole: {open:?}, goodbyes: {:?}, end: {:?}", self.goodbyes, self.ended)
    }

    pub(crate) fn try_step(&mut self) -> io::Result<Event> {
        let event = self.reader.event()?;
        match &event {
            Event::Head { stream, fields, end } => {
                let answer = self.answers.entry(*stream).or_default();
                if answer.whole {
                    return Err(wrong(&format!("{event:?} behind the end")));
                }
                match fields.get(":status") {
                    Some(status) if status.starts_with('1') => answer.interim.push(fields.clone()),
                    Some(_) if answer.begun() => return Err(wrong(&format!("{event:?}: a second head"))),
                    Some(_) => answer.head = fields.clone(),
                    None if answer.begun() && *end => answer.trailers = Some(fields.clone()),
                    None => return Err(wrong(&format!("{event:?} is no answer"))),
                }
                answer.whole |= end;
            }
            Event::Data { stream, bytes, end } => {
                let answer = self.answers.entry(*stream).or_default();
                if answer.whole || !answer.begun() {
                    return Err(wrong(&format!("{event:?} out of its place")));
                }
                answer.body.extend(bytes);
                answer.whole |= end;
                let len = bytes.len() as u32;
                if self.generous && len > 0 {
                    let _ = self.try_bytes(&[window(0, len).bytes(), window(*stream, len).bytes()].concat());
                }
            }
            Event::Reset { stream, code } => self.answers.entry(*stream).or_default().reset = Some(*code),
            Event::Goaway { last, code } => self.goodbyes.push((*last, *code)),
            Event::Settings(asked) => {
                for (number, value) in asked {
                    if *number == WINDOW {
                        let by = i64::from(*value) - self.first_window;
                        self.first_window += by;
                        self.windows.values_mut().for_each(|own| *own += by);
                    }
                }
                self.asked.clone_from(asked);
                if self.polite {
                    let _ = self.try_bytes(&frame(SETTINGS, ACK, 0, []).bytes());
                }
            }
            Event::Ping(data) if self.polite => {
                let _ = self.try_bytes(&frame(PING, ACK, 0, *data).bytes());
            }
            Event::Window { stream: 0, more } => self.send_window += i64::from(*more),
            Event::Window { stream, more } => {
                *self.windows.entry(*stream).or_insert(self.first_window) += i64::from(*more);
            }
            Event::End(end) => self.ended = Some(*end),
            Event::SettingsAck | Event::Ping(_) | Event::Pong(_) => {}
        }
        Ok(event)
    }

    /// Goes on until this is so, or the connection ends.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            assert!(self.ended.is_none(), "the connection ended before {what}: {}", self.state());
            self.step();
        }
    }

    /// The answer to a call: whole, or given up.
    #[track_caller]
    pub(crate) fn answer(&mut self, stream: u32) -> Answer {
        let over = |answer: &Answer| answer.whole || answer.reset.is_some();
        self.until("the answer was whole", |client| client.answers.get(&stream).is_some_and(over));
        self.answers.get(&stream).cloned().unwrap_or_default()
    }

    /// The answer as far as it has come, when its head has.
    #[track_caller]
    pub(crate) fn begun(&mut self, stream: u32) -> Answer {
        let begun = |answer: &Answer| answer.begun() || answer.reset.is_some();
        self.until("the answer began", |client| client.answers.get(&stream).is_some_and(begun));
        self.answers.get(&stream).cloned().unwrap_or_default()
    }

    /// The same, when so many bytes of its body have come.
    #[track_caller]
    pub(crate) fn came(&mut self, stream: u32, len: usize) -> Answer {
        let enough = |answer: &Answer| answer.body.len() >= len || answer.whole || answer.reset.is_some();
        self.until("the body came", |client| client.answers.get(&stream).is_some_and(enough));
        self.answers.get(&stream).cloned().unwrap_or_default()
    }

    /// The call must be given up; gives the code.
    #[track_caller]
    pub(crate) fn given_up(&mut self, stream: u32) -> u32 {
        let reset = |client: &Self| client.answers.get(&stream).and_then(|answer| answer.reset);
        self.until("the stream was reset", |client| reset(client).is_some());
        reset(self).expect("it was reset")
    }

    /// What was asked before has been dealt with, when this comes back.
    #[track_caller]
    pub(crate) fn settled(&mut self) {
        self.send(&[ping(*b"settled?")]);
        while self.step() != Event::Pong(*b"settled?") {
            assert!(self.ended.is_none(), "the connection ended: {}", self.state());
        }
    }

    /// The connection must be ended; gives how, and the code of the goodbye.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> Goodbye {
        while self.ended.is_none() {
            self.step();
        }
        Goodbye { code: self.goodbyes.last().map(|(_, code)| *code), end: self.ended }
    }

    /// Nothing but acknowledgements and windows may come for this long, and the connection must stay open.
    #[track_caller]
    pub(crate) fn silent(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            self.reader.patience(left);
            match self.try_step() {
                Ok(Event::SettingsAck | Event::Settings(_) | Event::Window { .. } | Event::Ping(_)) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                other => panic!("nothing should come, but: {other:?}"),
            }
        }
        self.reader.patience(ANSWER_MAX);
    }

    /// Sends all of this, whatever becomes of it, and reads until the connection ends or nothing more comes.
    pub(crate) fn flood(&mut self, bytes: &[u8], limit: Duration) -> Goodbye {
        let writer = self.reader.stream().try_clone().expect("a clone");
        std::thread::scope(|scope| {
            // It fails as soon as the sidecar has enough of it.
            scope.spawn(move || (&writer).write_all(bytes).is_ok());
            let until = Instant::now() + limit;
            while self.ended.is_none() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                self.reader.patience(left);
                if self.try_step().is_err() {
                    break;
                }
            }
            // A writer that nobody reads would hold up the test.
            let _ = self.reader.stream().shutdown(std::net::Shutdown::Both);
        });
        Goodbye { code: self.goodbyes.last().map(|(_, code)| *code), end: self.ended }
    }

    /// Ends with an RST.
    pub(crate) fn abort(self) {
        let linger = socket2::SockRef::from(self.reader.stream()).set_linger(Some(Duration::ZERO));
        linger.expect("a socket option");
    }
}

impl Sidecar {
    /// A caller of the listener `main` that speaks HTTP/2.
    pub(crate) fn http2(&self) -> Client {
        Client::connect(self.port("main"))
    }
}
