//! One HTTP/2 connection (RFC 9113) with prior knowledge, either side of it: frames, settings, both flow controls.
//!
//! Bytes in, events out, and bytes to send appended to a buffer of the caller's; it has no socket. It acknowledges
//! settings and pings, gives windows back when half of them is used, and sends what has to wait for a window once
//! that opens. What the messages mean is in `grpc.rs`.
//! Must never let a peer off that breaks the protocol: a proxy that overruns a window or cuts a head in two is wrong,
//! however right its bytes look afterwards.

use crate::hpack::{Decoder, Encoder, Field, Fields};
use crate::wire::Malformed;

/// How a client's connection begins.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a peer may send on one stream before it is given more.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams together.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
const WINDOW_DEFAULT: u32 = 65_535;
const WINDOW_MAX: i64 = (1 << 31) - 1;
const FRAME_HEAD: usize = 9;
const FRAME_MAX: usize = 16_384;
const BLOCK_MAX: usize = 64 * 1024;
/// Streams that a client opens before it knows what the server allows.
const STREAMS_AT_FIRST: usize = 100;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITIZED: u8 = 0x20;

/// What the peer did that the messages are made of.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A head; its fields are in [`Connection::fields`].
    Head {
        /// Stream.
        stream: u32,
        /// Nothing follows on it.
        end: bool,
    },
    /// A piece of a body.
    Data {
        /// Stream.
        stream: u32,
        /// The piece.
        bytes: &'a [u8],
        /// Nothing follows on the stream.
        end: bool,
    },
    /// The stream is given up.
    Reset {
        /// Stream.
        stream: u32,
        /// Why: an error code of HTTP/2.
        code: u32,
    },
    /// No stream above `last` is served.
    GoAway {
        /// The last one that is.
        last: u32,
    },
    /// Something that was dealt with here.
    Other,
}

/// A stream that is not over.
#[derive(Default)]
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What it is to its owner.
    pub tag: u64,
    /// Heads received so far.
    pub heads: u32,
    /// Body received so far, for the owner to fill and empty.
    pub body: Vec<u8>,
    /// Whether more will be given to send than there is.
    pub more: bool,
    /// What the peer takes yet.
    window: i64,
    unsent: Vec<u8>,
    sent: usize,
    ended: bool,
    /// Bytes received that the peer was not given back.
    owed: u32,
}

/// The connection.
pub struct Connection {
    /// Fields of the last head.
    pub fields: Fields,
    /// Streams that are not over, in no order.
    pub streams: Vec<Stream>,
    /// Streams that the peer allows at a time.
    pub streams_max: usize,
    /// Fields that end every stream from this side; none when its last data does.
    tail: Vec<Field>,
    encoder: Encoder,
    decoder: Decoder,
    /// A preface is expected before anything else.
    preface: bool,
    /// Settings have come.
    greeted: bool,
    window: i64,
    stream_window: i64,
    frame_max: usize,
    owed: u32,
    /// A head that has not ended yet: its stream, whether that ends with it, and what is there of its block.
    partial: Option<(u32, bool)>,
    block: Vec<u8>,
    spare: Vec<Stream>,
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Connection {
    /// The calling side, which greets at once.
    pub fn client(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        // Nothing is pushed to this client.
        Self::new(false, &[(2, 0), (4, STREAM_WINDOW)], Vec::new(), out)
    }

    /// The serving side; `tail` are the trailers of every answer.
    pub fn server(tail: Vec<Field>, out: &mut Vec<u8>) -> Self {
        Self::new(true, &[(4, STREAM_WINDOW)], tail, out)
    }

    fn new(preface: bool, settings: &[(u16, u32)], tail: Vec<Field>, out: &mut Vec<u8>) -> Self {
        frame(settings.len() * 6, SETTINGS, 0, 0, out);
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        give(0, CONNECTION_WINDOW - WINDOW_DEFAULT, out);
        Self {
            fields: Fields::default(),
            streams: Vec::new(),
            streams_max: if preface { usize::MAX } else { STREAMS_AT_FIRST },
            tail,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            preface,
            greeted: false,
            window: i64::from(WINDOW_DEFAULT),
            stream_window: i64::from(WINDOW_DEFAULT),
            frame_max: FRAME_MAX,
            owed: 0,
            partial: None,
            block: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Place of a stream in [`Connection::streams`].
    pub fn find(&self, id: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.id == id)
    }

    /// Begins a stream.
    pub fn open(&mut self, id: u32, tag: u64) -> &mut Stream {
        let mut stream = self.spare.pop().unwrap_or_default();
        stream.body.clear();
        stream.unsent.clear();
        let (body, unsent) = (stream.body, stream.unsent);
        self.streams.push(Stream { id, tag, body, unsent, window: self.stream_window, ..Stream::default() });
        let last = self.streams.len() - 1;
        &mut self.streams[last]
    }

    /// Forgets a stream that is over.
    pub fn close(&mut self, at: usize) {
        let stream = self.streams.swap_remove(at);
        self.spare.push(stream);
    }

    /// Sends a head without an end; `write` encodes its fields.
    pub fn head(&mut self, id: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        head(&mut self.encoder, id, 0, out, write);
    }

    /// Sends a piece of a stream's body, as far as the windows are open; the rest, and the end of the stream, follow
    /// by themselves. True when all of the stream is sent.
    pub fn send(&mut self, at: usize, out: &mut Vec<u8>, piece: impl FnOnce(&mut Vec<u8>)) -> bool {
        let stream = &mut self.streams[at];
        if stream.sent == stream.unsent.len() {
            stream.unsent.clear();
            stream.sent = 0;
        }
        piece(&mut stream.unsent);
        self.pump(at, out)
    }

    /// Whether a stream has sent all it was given.
    pub fn drained(&self, at: usize) -> bool {
        self.streams[at].sent == self.streams[at].unsent.len()
    }

    fn pump(&mut self, at: usize, out: &mut Vec<u8>) -> bool {
        let stream = &mut self.streams[at];
        while stream.sent < stream.unsent.len() {
            let left = stream.unsent.len() - stream.sent;
            let room = self.window.min(stream.window).clamp(0, self.frame_max as i64) as usize;
            let len = left.min(room);
            if len == 0 {
                return false;
            }
            stream.ended = len == left && !stream.more && self.tail.is_empty();
            frame(len, DATA, if stream.ended { END_STREAM } else { 0 }, stream.id, out);
            out.extend_from_slice(&stream.unsent[stream.sent..stream.sent + len]);
            stream.sent += len;
            stream.window -= len as i64;
            self.window -= len as i64;
        }
        if stream.more || stream.ended || self.tail.is_empty() {
            return stream.ended;
        }
        stream.ended = true;
        let tail = &mut self.tail;
        head(&mut self.encoder, stream.id, END_STREAM, out, |encoder, out| encoder.all(tail, out));
        true
    }

    /// Sends what has been waiting for a window.
    fn pump_all(&mut self, out: &mut Vec<u8>) {
        for at in 0..self.streams.len() {
            if self.streams[at].sent < self.streams[at].unsent.len() {
                self.pump(at, out);
            }
        }
    }

    /// Forgets the streams from which nothing more has to be sent: the serving side's way to end them.
    pub fn close_ended(&mut self) {
        for at in (0..self.streams.len()).rev() {
            if self.streams[at].ended {
                self.close(at);
            }
        }
    }

    /// Takes one frame off `bytes`; nothing when it has not come completely.
    pub fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, Malformed> {
        if self.preface {
            let Some((start, rest)) = bytes.split_at_checked(PREFACE.len()) else { return Ok(None) };
            if start != PREFACE {
                return Err(Malformed("HTTP/2 preface"));
            }
            (self.preface, *bytes) = (false, rest);
        }
        let Some(frame) = split_frame(bytes)? else { return Ok(None) };
        if !self.greeted && frame.kind != SETTINGS {
            return Err(Malformed("HTTP/2 does not begin with settings"));
        }
        if self.partial.is_some() != (frame.kind == CONTINUATION) {
            return Err(Malformed("HTTP/2 head was interrupted"));
        }
        match frame.kind {
            DATA => self.data(&frame, out).map(Some),
            HEADERS | CONTINUATION => self.headers(&frame).map(Some),
            RST_STREAM => {
                let code = u32_of(frame.payload)?;
                Ok(Some(Event::Reset { stream: frame.stream, code }))
            }
            GOAWAY => {
                let last = frame.payload.get(..4).ok_or(Malformed("HTTP/2 goaway"))?;
                Ok(Some(Event::GoAway { last: u32_of(last)? & WINDOW_MAX as u32 }))
            }
            PUSH_PROMISE => Err(Malformed("HTTP/2 push")),
            _ => self.control(&frame, out).map(|()| Some(Event::Other)),
        }
    }

    fn data<'a>(&mut self, frame: &Frame<'a>, out: &mut Vec<u8>) -> Result<Event<'a>, Malformed> {
        let (len, end) = (frame.payload.len() as u32, frame.flags & END_STREAM != 0);
        if frame.stream == 0 {
            return Err(Malformed("HTTP/2 data of no stream"));
        }
        credit(&mut self.owed, len, CONNECTION_WINDOW, 0, out)?;
        if let Some(at) = self.find(frame.stream).filter(|_| !end) {
            credit(&mut self.streams[at].owed, len, STREAM_WINDOW, frame.stream, out)?;
        }
        let bytes = unpadded(frame.payload, frame.flags)?;
        Ok(Event::Data { stream: frame.stream, bytes, end })
    }

    fn headers<'a>(&mut self, frame: &Frame<'_>) -> Result<Event<'a>, Malformed> {
        let mut part = frame.payload;
        let (stream, end) = match self.partial.take() {
            Some(begun) if begun.0 == frame.stream => begun,
            Some(_) => return Err(Malformed("HTTP/2 head goes on elsewhere")),
            None => {
                part = unpadded(part, frame.flags)?;
                if frame.flags & PRIORITIZED != 0 {
                    part = part.get(5..).ok_or(Malformed("HTTP/2 priority"))?;
                }
                self.block.clear();
                (frame.stream, frame.flags & END_STREAM != 0)
            }
        };
        let ends = frame.flags & END_HEADERS != 0;
        if !(ends && self.block.is_empty()) {
            self.block.extend_from_slice(part);
            part = &self.block;
        }
        if stream == 0 || part.len() > BLOCK_MAX {
            return Err(Malformed("HTTP/2 head"));
        }
        if !ends {
            self.partial = Some((stream, end));
            return Ok(Event::Other);
        }
        self.decoder.decode(part, &mut self.fields).ok_or(Malformed("HPACK"))?;
        Ok(Event::Head { stream, end })
    }

    fn control(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match frame.kind {
            SETTINGS if frame.stream != 0 || !frame.payload.len().is_multiple_of(6) => {
                return Err(Malformed("HTTP/2 settings"));
            }
            SETTINGS if frame.flags & ACK == 0 => {
                self.greeted = true;
                self.settings(frame.payload)?;
                self::frame(0, SETTINGS, ACK, 0, out);
                self.pump_all(out);
            }
            PING if frame.stream != 0 || frame.payload.len() != 8 => return Err(Malformed("HTTP/2 ping")),
            PING if frame.flags & ACK == 0 => {
                self::frame(8, PING, ACK, 0, out);
                out.extend_from_slice(frame.payload);
            }
            WINDOW_UPDATE => {
                let more = i64::from(u32_of(frame.payload)?) & WINDOW_MAX;
                let found = self.find(frame.stream);
                let window = match found {
                    _ if frame.stream == 0 => &mut self.window,
                    Some(at) => &mut self.streams[at].window,
                    // Of a stream that is over: it was on its way.
                    None => return Ok(()),
                };
                *window += more;
                if more == 0 || *window > WINDOW_MAX {
                    return Err(Malformed("HTTP/2 window"));
                }
                self.pump_all(out);
            }
            // Acknowledgements; priorities, which are advice; and what is not known, which has to be ignored.
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        for setting in payload.chunks_exact(6) {
            let value = u32_of(&setting[2..])?;
            match setting[1] {
                _ if setting[0] != 0 => {}
                1 => self.encoder.allow(value as usize),
                3 => self.streams_max = value as usize,
                4 => {
                    let change = i64::from(value) - self.stream_window;
                    self.stream_window += change;
                    self.streams.iter_mut().for_each(|stream| stream.window += change);
                    if i64::from(value) > WINDOW_MAX {
                        return Err(Malformed("HTTP/2 initial window"));
                    }
                }
                // Longer frames are allowed then, and not needed.
                5 => self.frame_max = (value as usize).clamp(1, FRAME_MAX),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Counts what came in against a window, and gives it back when half of that is used.
fn credit(owed: &mut u32, len: u32, window: u32, stream: u32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    *owed += len;
    if *owed > window {
        return Err(Malformed("HTTP/2 window overrun"));
    }
    if *owed >= window / 2 {
        give(stream, *owed, out);
        *owed = 0;
    }
    Ok(())
}

fn give(stream: u32, more: u32, out: &mut Vec<u8>) {
    frame(4, WINDOW_UPDATE, 0, stream, out);
    out.extend_from_slice(&more.to_be_bytes());
}

fn head(
    encoder: &mut Encoder,
    id: u32,
    flags: u8,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
) {
    let start = out.len();
    frame(0, HEADERS, flags | END_HEADERS, id, out);
    encoder.begin(out);
    write(encoder, out);
    // The heads of the bench are far shorter than a frame.
    let len = (out.len() - start - FRAME_HEAD) as u32;
    out[start..start + 3].copy_from_slice(&len.to_be_bytes()[1..]);
}

/// The head of a frame.
fn frame(len: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn split_frame<'a>(bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Malformed> {
    let [a, b, c, kind, flags, stream @ ..] = *bytes else { return Ok(None) };
    let Some((stream, rest)) = stream.split_at_checked(4) else { return Ok(None) };
    let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if len > FRAME_MAX {
        return Err(Malformed("HTTP/2 frame is longer than was allowed"));
    }
    let Some((payload, rest)) = rest.split_at_checked(len) else { return Ok(None) };
    *bytes = rest;
    let stream = u32_of(stream)? & WINDOW_MAX as u32;
    Ok(Some(Frame { kind: *kind, flags: *flags, stream, payload }))
}

fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], Malformed> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let cut = |(pad, rest): (&u8, &[u8])| rest.len().checked_sub(usize::from(*pad));
    let len = payload.split_first().and_then(cut).ok_or(Malformed("HTTP/2 padding"))?;
    Ok(&payload[1..=len])
}

fn u32_of(bytes: &[u8]) -> Result<u32, Malformed> {
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| Malformed("HTTP/2 frame of another length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Connection {
        let mut client = Connection::client(&mut Vec::new());
        client.open(1, 0);
        client
    }

    /// Everything that `bytes` are, and what was sent for it.
    fn events(conn: &mut Connection, bytes: &[u8]) -> Result<(Vec<String>, Vec<u8>), Malformed> {
        let (mut rest, mut out, mut seen) = (bytes, Vec::new(), Vec::new());
        while let Some(event) = conn.next(&mut rest, &mut out)? {
            if event != Event::Other {
                seen.push(format!("{event:?}"));
            }
        }
        Ok((seen, out))
    }

    fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(payload.len(), kind, flags, stream, &mut out);
        out.extend_from_slice(payload);
        out
    }

    fn greeting() -> Vec<u8> {
        framed(SETTINGS, 0, 0, &[])
    }

    #[test]
    fn padding_priority_and_continuation_are_taken_off() {
        // One literal field `a: b`, padded by two, with a priority, in two parts.
        let block = [0, 1, b'a', 1, b'b'];
        let first = [&[2, 0, 0, 0, 0, 9][..], &block[..2], &[0, 0]].concat();
        let bytes = [
            greeting(),
            framed(HEADERS, PADDED | PRIORITIZED, 1, &first),
            framed(CONTINUATION, END_HEADERS, 1, &block[2..]),
            framed(0x77, 0, 1, b"what is not known is ignored"),
            framed(DATA, PADDED | END_STREAM, 1, b"\x03data\0\0\0"),
        ]
        .concat();
        let mut client = client();
        let (seen, _) = events(&mut client, &bytes).unwrap();
        assert_eq!(seen[0], "Head { stream: 1, end: false }");
        assert_eq!(client.fields.value(b"a"), Some(&b"b"[..]));
        assert!(seen[1].contains("bytes: [100, 97, 116, 97], end: true"), "{seen:?}");
    }

    #[test]
    fn settings_and_pings_are_acknowledged_and_not_their_acknowledgements() {
        let ack = framed(SETTINGS, ACK, 0, &[]);
        let ping = |flags| framed(PING, flags, 0, b"12345678");
        let bytes = [greeting(), ack.clone(), ping(0), ping(ACK)].concat();
        assert_eq!(events(&mut client(), &bytes).unwrap().1, [ack, ping(ACK)].concat());
    }

    #[test]
    fn windows_are_given_back_by_halves_and_not_overrun() {
        let mut client = client();
        events(&mut client, &greeting()).unwrap();
        let piece = framed(DATA, 0, 1, &[0; FRAME_MAX]);
        let until_stream = STREAM_WINDOW as usize / 2 / FRAME_MAX;
        let mut given = Vec::new();
        for turn in 1..=8 * until_stream {
            let (_, out) = events(&mut client, &piece).unwrap();
            assert_eq!(out.is_empty(), turn % until_stream != 0, "{turn}");
            given.extend(out);
        }
        let stream = framed(WINDOW_UPDATE, 0, 1, &(STREAM_WINDOW / 2).to_be_bytes());
        let all = framed(WINDOW_UPDATE, 0, 0, &(CONNECTION_WINDOW / 2).to_be_bytes());
        let count = |what: &[u8]| given.chunks(13).filter(|each| *each == what).count();
        assert_eq!((count(&stream), count(&all)), (8, 2));
        let mut owed = 0;
        assert!(credit(&mut owed, 11, 10, 1, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_change_of_the_initial_window_reaches_open_streams() {
        let (mut client, mut out) = (client(), Vec::new());
        assert!(!client.send(0, &mut out, |body| body.resize(70_000, 0)));
        out.clear();
        let more = framed(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]);
        let settings = framed(SETTINGS, 0, 0, &[0, 4, 0, 1, 0x11, 0x70]);
        let (_, out) = events(&mut client, &[settings, more].concat()).unwrap();
        // Acknowledged, and then 70,000 - 65,535 bytes with the end of the stream.
        assert_eq!(out.len(), 9 + 9 + 4465);
        assert_eq!(out[9..14], [0, 0x11, 0x71, DATA, END_STREAM]);
    }

    #[test]
    fn whoever_breaks_the_protocol_is_refused() {
        let head = |kind, stream| framed(kind, 0, stream, &[0x88]);
        for bad in [
            framed(PING, 0, 0, b"12345678"),
            [framed(SETTINGS, ACK, 0, &[]), framed(PING, 0, 0, b"12345678")].concat(),
            [greeting(), framed(PING, 0, 0, b"1234567")].concat(),
            [greeting(), framed(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x88])].concat(),
            [greeting(), head(HEADERS, 1), framed(DATA, 0, 1, b"x")].concat(),
            [greeting(), head(HEADERS, 1), head(CONTINUATION, 3)].concat(),
            [greeting(), head(CONTINUATION, 1)].concat(),
            [greeting(), framed(HEADERS, END_HEADERS, 1, &[0x80])].concat(),
            [greeting(), framed(HEADERS, PADDED, 1, &[1])].concat(),
            [greeting(), framed(DATA, 0, 0, b"x")].concat(),
            [greeting(), framed(WINDOW_UPDATE, 0, 0, &[0; 4])].concat(),
            [greeting(), framed(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            [greeting(), framed(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])].concat(),
            [greeting(), framed(DATA, 0, 1, &vec![0; FRAME_MAX + 1])].concat(),
        ] {
            assert!(events(&mut client(), &bad).is_err(), "{:?}", &bad[..bad.len().min(40)]);
        }
        let mut server = Connection::server(Vec::new(), &mut Vec::new());
        assert!(events(&mut server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
    }
}
