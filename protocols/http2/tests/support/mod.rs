//! One end of an HTTP/2 connection, spoken to frame by frame, for the tests of this crate. Must expect nothing of its own.
#![allow(dead_code, reason = "every test file is a crate of its own and uses a part of this")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

use outrigger_codec::{
    Code, Event, Link, Message, Policy, ReplyKind, Slot, Tag,
    streams::{LinkSettings, StreamId},
};
use outrigger_http2::{
    Http2Link,
    frame::{self, HEADER, Header, PREFACE, flag, kind, setting},
};

/// Ends of a head, and of a message.
pub(crate) const HEAD: u8 = flag::END_HEADERS;
pub(crate) const ALL: u8 = flag::END_HEADERS | flag::END_STREAM;

/// A request's pseudo-headers.
pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/a"), (":authority", "h")];
pub(crate) const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "h")];
pub(crate) const OK: [(&str, &str); 1] = [(":status", "200")];

/// What the link said: kind, flags, stream and payload of a frame.
pub(crate) type Frame = (u8, u8, u32, Vec<u8>);

/// A frame.
pub(crate) fn put(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::header(payload.len(), kind, flags, stream, &mut out);
    out.extend_from_slice(payload);
    out
}

/// A frame whose payload is one number.
pub(crate) fn number(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    put(kind, 0, stream, &number.to_be_bytes())
}

/// A header block of literals.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer texts need longer numbers");
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

/// A head.
pub(crate) fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    put(kind::HEADERS, flags, stream, &block(fields))
}

/// Bytes of a body.
pub(crate) fn data(stream: u32, flags: u8, len: usize) -> Vec<u8> {
    put(kind::DATA, flags, stream, &vec![7; len])
}

/// A SETTINGS frame.
pub(crate) fn settings(wishes: &[(u16, u32)]) -> Vec<u8> {
    let payload = wishes.iter().flat_map(|(number, value)| {
        number.to_be_bytes().into_iter().chain(value.to_be_bytes()).collect::<Vec<_>>()
    });
    put(kind::SETTINGS, 0, 0, &payload.collect::<Vec<_>>())
}

/// A GOAWAY.
pub(crate) fn goaway(last: u32) -> Vec<u8> {
    put(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

/// A link, and what it said.
pub(crate) struct End {
    pub(crate) link: Http2Link,
    pub(crate) policy: Policy,
    pub(crate) message: Message,
    pub(crate) out: Vec<u8>,
}

impl End {
    /// A link that knows nothing of its peer yet.
    pub(crate) fn fresh(server: bool, settings: &LinkSettings) -> Self {
        let mut end = Self {
            link: Http2Link::new(server, settings),
            policy: Policy::default(),
            message: Message::default(),
            out: Vec::new(),
        };
        end.link.greet(&mut end.out);
        end
    }

    /// A caller's connection whose first words were said on both sides.
    pub(crate) fn server() -> Self {
        Self::server_with(&LinkSettings::default())
    }

    pub(crate) fn server_with(conf: &LinkSettings) -> Self {
        let mut end = Self::fresh(true, conf);
        end.gives(&[PREFACE, &settings(&[])].concat());
        end.said();
        end
    }

    /// A connection to an endpoint, likewise.
    pub(crate) fn client() -> Self {
        Self::client_with(&[])
    }

    /// The same where the endpoint has wishes.
    pub(crate) fn client_with(wishes: &[(u16, u32)]) -> Self {
        let mut end = Self::fresh(false, &LinkSettings::default());
        end.gives(&settings(wishes));
        end.said();
        end
    }

    /// Gives it bytes; what they were, without what is nothing.
    pub(crate) fn gives(&mut self, bytes: &[u8]) -> Vec<Event> {
        let (mut at, mut events) = (0, Vec::new());
        while at < bytes.len() {
            let Self { link, policy, message, out } = self;
            let step = link.receive(&bytes[at..], policy, message, out);
            if let Event::Partial { total } = step.event {
                assert!(total > bytes.len() - at);
                events.push(step.event);
                break;
            }
            assert!(step.used > 0 && step.used <= bytes.len() - at);
            at += step.used;
            if step.event != Event::Nothing {
                events.push(step.event);
            }
            if let Event::Request { stream, .. } = step.event {
                self.link.adopt(stream, tag(stream));
            }
        }
        events
    }

    /// Gives it bytes that are one thing.
    pub(crate) fn gives_one(&mut self, bytes: &[u8]) -> Event {
        let events = self.gives(bytes);
        assert!(events.len() < 2, "{events:?}");
        events.first().copied().unwrap_or(Event::Nothing)
    }

    /// What it said since it was last asked.
    pub(crate) fn said(&mut self) -> Vec<Frame> {
        let bytes = std::mem::take(&mut self.out);
        let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(&bytes);
        let mut frames = Vec::new();
        while let Some(header) = Header::read(rest) {
            let payload = rest[HEADER..HEADER + header.len].to_vec();
            frames.push((header.kind, header.flags, header.stream, payload));
            rest = &rest[HEADER + header.len..];
        }
        assert!(rest.is_empty(), "a part of a frame: {rest:?}");
        frames
    }

    /// What it said in one frame with one number: kind, stream and number.
    pub(crate) fn said_number(&mut self) -> (u8, u32, u32) {
        let said = self.said();
        let [(kind, _, stream, payload)] = &said[..] else { panic!("{said:?}") };
        (*kind, *stream, u32::from_be_bytes(payload[payload.len() - 4..].try_into().expect("a number")))
    }

    /// The headers of the message that was read last.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let text = |span: outrigger_codec::Span| {
            String::from_utf8_lossy(span.of(&self.message.bytes).unwrap_or_default()).into_owned()
        };
        self.message.index.fields.iter().map(|field| (text(field.name), text(field.value))).collect()
    }

    pub(crate) fn slot(&self, slot: Slot) -> Option<String> {
        self.message.head().slot(slot).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Opens a stream and sends a request on it.
    pub(crate) fn asks(&mut self, end: bool) -> StreamId {
        self.asks_by("POST", end)
    }

    pub(crate) fn asks_by(&mut self, method: &str, end: bool) -> StreamId {
        let mut message = Message::default();
        message.set(Slot::Method, method.as_bytes());
        message.set(Slot::Target, b"/a");
        let stream = self.link.open(Tag(u64::from(self.link.streams() as u32)));
        self.link.request(stream, message.head(), end, "h", &mut self.out);
        stream
    }

    /// Answers a stream.
    pub(crate) fn answers(&mut self, stream: StreamId, end: bool) {
        let mut message = Message::default();
        message.set(Slot::Target, b"200");
        self.link.answer(stream, message.head(), ReplyKind::Final, end, &mut self.out);
    }

    pub(crate) fn sends(&mut self, stream: StreamId, len: usize, end: bool) -> usize {
        self.link.data(stream, &vec![7; len], end, &mut self.out)
    }
}

/// The tag that a caller's stream is given.
pub(crate) fn tag(stream: StreamId) -> Tag {
    Tag(u64::from(stream))
}

/// That a stream was ended by us, as `event` tells.
pub(crate) fn reset(stream: StreamId, code: Code) -> Event {
    Event::Reset { tag: tag(stream), code, ours: true }
}

/// Whether the connection ended.
pub(crate) fn is_broken(event: Event) -> bool {
    matches!(event, Event::Broken { .. })
}

/// The initial window, as a setting.
pub(crate) fn window(bytes: u32) -> Vec<u8> {
    settings(&[(setting::INITIAL_WINDOW_SIZE, bytes)])
}
