//! gRPC over HTTP/2 as the bench speaks it: the calling and the serving side of one connection.
//!
//! A unary call sends one message of one string field, and it comes back. A streaming call says in its message how
//! many messages shall come. Heads are what `grpc-go` sends, in its order; `traceparent` and `grpc-timeout` change
//! with every call and belong to its message, so the service sees a proxy that joins one call's head to another's
//! body. Facts: gRPC over HTTP/2 (`PROTOCOL-HTTP2`), RFC 9113.
//! Must never take a message that a proxy changed for a good one: every end-to-end field has to arrive, once, with
//! its own bytes; an answer has to have status 200, one whole message, and trailers with `grpc-status: 0`.

use crate::hpack::{Field, Fields};
use crate::http1::{TRACE_END, TRACE_START, arrived};
use crate::http2::{Connection, Event};
use crate::payload::{NUMBER, Payload};
use crate::wire::{Answer, Malformed};

/// The service that is called where no other is named.
pub const SERVICE: &str = "bench.Echo";
/// Its method that answers each message with itself.
pub const UNARY: &str = "Echo";
/// Its method that answers one message with many.
pub const STREAMING: &str = "Stream";
/// Bytes on the wire of each message of a streaming answer, prefix and field included.
pub const STREAMED: usize = 16 * 1024;
/// Bytes of payload in each: what prefix and field leave.
pub const STREAMED_PAYLOAD: usize = STREAMED - 8;
const BODY_MAX: usize = 1 << 20;
/// Bytes of a streaming answer that are made at a time.
const AT_ONCE: usize = 256 * 1024;
/// Names an answer that belongs to no call.
const STRAY: u64 = u64::MAX;
/// Status of an answer that a gRPC client would not take, whatever it says itself; gRPC's own are below 17.
const UNKNOWN: u16 = 0xffff;
/// Status of a stream that was reset, and the code of the reset above it.
const RESET: u16 = 0x100;

/// What a request carries besides its path, `grpc-timeout` and `traceparent`: before the path, and behind.
const BEFORE: [(&str, &str); 2] = [(":method", "POST"), (":scheme", "http")];
const AUTHORITY: (&str, &str) = (":authority", "echo.example.com");
const BEHIND: [(&str, &str); 4] = [
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.64.0"),
    ("te", "trailers"),
    ("grpc-accept-encoding", "gzip"),
];
const ANSWER: [(&str, &str); 4] = [
    (":status", "200"),
    ("content-type", "application/grpc"),
    ("grpc-encoding", "identity"),
    ("grpc-accept-encoding", "gzip"),
];
const TRAILERS: [(&str, &str); 1] = [("grpc-status", "0")];

/// The calling side.
pub struct Caller {
    conn: Connection,
    fields: Vec<Field>,
    timeout: Field,
    trace: Field,
    /// Microseconds that every call may take at least.
    patience: u64,
    next: u32,
    last: Option<u32>,
    returned: Vec<u64>,
    text: Vec<u8>,
}

impl Caller {
    /// A connection's calls to one method; what greets the peer is appended to `out`.
    pub fn new(service: &str, method: &str, out: &mut Vec<u8>) -> Self {
        let path = format!("/{service}/{method}");
        let fields = [&BEFORE[..], &[(":path", path.as_str()), AUTHORITY], &BEHIND].concat();
        Self {
            conn: Connection::client(out),
            fields: Field::all(&fields),
            timeout: Field::new("grpc-timeout", ""),
            trace: Field::new("traceparent", ""),
            patience: patience(method),
            next: 1,
            last: None,
            returned: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Whether one more call may be on its way.
    pub fn ready(&self) -> bool {
        self.last.is_none() && self.conn.streams.len() < self.conn.streams_max
    }

    /// Whether the peer takes no calls any more and has answered those it took.
    pub fn over(&self) -> bool {
        self.last.is_some() && self.conn.streams.is_empty()
    }

    /// Calls that the peer said it did not take: they may be made elsewhere.
    pub fn returned(&mut self) -> impl Iterator<Item = u64> {
        self.returned.drain(..)
    }

    /// Appends call `id` with the payload of number `seq`.
    pub fn call(&mut self, id: u64, seq: u64, payload: &Payload, out: &mut Vec<u8>) {
        let stream = self.next;
        self.next += 2;
        let Self { conn, fields, timeout, trace, text, .. } = self;
        let micros = timeout_of(self.patience, seq);
        conn.head(stream, out, |encoder, out| {
            encoder.all(fields, out);
            text.clear();
            text.extend_from_slice(micros.to_string().as_bytes());
            text.push(b'u');
            encoder.changing(timeout, text, out);
            text.clear();
            text.extend_from_slice(TRACE_START);
            text.extend_from_slice(&Payload::number(seq));
            text.extend_from_slice(TRACE_END);
            encoder.changing(trace, text, out);
        });
        conn.open(stream, id);
        conn.send(conn.streams.len() - 1, out, |body| write_message(seq, payload, body));
    }

    /// Takes whole frames off `bytes` and reports every call that ended; what has to be sent for them is in `out`.
    pub fn take(
        &mut self,
        bytes: &mut &[u8],
        out: &mut Vec<u8>,
        mut ended: impl FnMut(&Answer<'_>),
    ) -> Result<(), Malformed> {
        while let Some(event) = self.conn.next(bytes, out)? {
            let (stream, end) = match event {
                Event::Head { stream, end } | Event::Data { stream, end, .. } => (stream, end),
                Event::Reset { stream, .. } => (stream, true),
                Event::GoAway { last } => {
                    self.go_away(last);
                    continue;
                }
                Event::Other => continue,
            };
            let Some(at) = self.conn.find(stream) else {
                // A reset may cross with an answer.
                if !matches!(event, Event::Reset { .. }) {
                    ended(&Answer::Refused { id: Some(STRAY), status: UNKNOWN });
                }
                continue;
            };
            let state = &mut self.conn.streams[at];
            let status = match event {
                Event::Reset { code, .. } => Some(RESET | code as u16),
                Event::Data { bytes, .. } => {
                    state.body.extend_from_slice(bytes);
                    // Without trailers nobody knows whether it is all.
                    (end || state.heads != 1 || state.body.len() > BODY_MAX).then_some(UNKNOWN)
                }
                _ => {
                    state.heads += 1;
                    head_status(state.heads, end, &self.conn.fields)
                }
            };
            let Some(status) = status else { continue };
            let id = Some(state.tag);
            match message(&state.body).filter(|_| status == 0) {
                Some(payload) => ended(&Answer::Value { id, payload }),
                None => ended(&Answer::Refused { id, status }),
            }
            self.conn.close(at);
        }
        Ok(())
    }

    /// As [`Caller::take`], for the one call of a connection to the streaming method: messages are handed on as they
    /// become complete. The status once the stream has ended.
    pub fn take_stream(
        &mut self,
        bytes: &mut &[u8],
        out: &mut Vec<u8>,
        mut each: impl FnMut(Option<&[u8]>),
    ) -> Result<Option<u16>, Malformed> {
        while let Some(event) = self.conn.next(bytes, out)? {
            let state = self.conn.streams.first_mut().ok_or(Malformed("no call is open"))?;
            let status = match event {
                Event::Data { bytes, end, .. } => {
                    state.body.extend_from_slice(bytes);
                    let whole = state.body.len() - state.body.len() % STREAMED;
                    state.body[..whole].chunks_exact(STREAMED).for_each(|piece| each(message(piece)));
                    state.body.drain(..whole);
                    end.then_some(UNKNOWN)
                }
                Event::Head { end, .. } => {
                    state.heads += 1;
                    let status = head_status(state.heads, end, &self.conn.fields);
                    // A message that was cut off.
                    if status == Some(0) && !state.body.is_empty() { Some(UNKNOWN) } else { status }
                }
                Event::Reset { code, .. } => Some(RESET | code as u16),
                Event::GoAway { .. } | Event::Other => None,
            };
            if status.is_some() {
                self.conn.close(0);
                return Ok(status);
            }
        }
        Ok(None)
    }

    fn go_away(&mut self, last: u32) {
        self.last = Some(self.last.map_or(last, |before| before.min(last)));
        for at in (0..self.conn.streams.len()).rev() {
            if self.conn.streams[at].id > last {
                self.returned.push(self.conn.streams[at].tag);
                self.conn.close(at);
            }
        }
    }
}

/// What the `heads`th head of an answer makes of the call; nothing while it goes on.
fn head_status(heads: u32, end: bool, fields: &Fields) -> Option<u16> {
    let told = fields.value(b"grpc-status").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    match (heads, end) {
        (1, false) => (!good_head(&ANSWER, fields)).then_some(UNKNOWN),
        // An answer of trailers only can only be a refusal.
        (1, true) => Some(told.filter(|status| *status != 0).unwrap_or(UNKNOWN)),
        (2, true) if good_head(&TRAILERS, fields) => Some(0),
        (2, true) => Some(told.unwrap_or(UNKNOWN)),
        _ => Some(UNKNOWN),
    }
}

/// What the serving side still has to send on a streaming call: number of the next message, and of the last.
struct Source {
    stream: u32,
    next: u64,
    end: u64,
}

/// The serving side.
pub struct Server {
    conn: Connection,
    head: Vec<Field>,
    last: u32,
    sources: Vec<Source>,
    payload: Payload,
}

impl Server {
    /// A connection; what greets the peer is appended to `out`.
    pub fn new(out: &mut Vec<u8>) -> Self {
        let conn = Connection::server(Field::all(&TRAILERS), out);
        let payload = Payload::new(STREAMED_PAYLOAD);
        Self { conn, head: Field::all(&ANSWER), last: 0, sources: Vec::new(), payload }
    }

    /// Takes whole frames off `bytes` and appends answers.
    pub fn take(&mut self, bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        while let Some(event) = self.conn.next(bytes, out)? {
            match event {
                Event::Head { stream, end } => self.request(stream, end)?,
                Event::Data { stream, bytes, end } => {
                    // What is still on its way when an answer ends is of no use to anybody.
                    let Some(at) = self.conn.find(stream) else { continue };
                    let body = &mut self.conn.streams[at].body;
                    body.extend_from_slice(bytes);
                    if body.len() > BODY_MAX {
                        return Err(Malformed("gRPC request too long"));
                    }
                    if end {
                        self.answer(at, out)?;
                    }
                }
                Event::Reset { stream, .. } => {
                    self.sources.retain(|source| source.stream != stream);
                    if let Some(at) = self.conn.find(stream) {
                        self.conn.close(at);
                    }
                }
                Event::GoAway { .. } => {}
                Event::Other => self.conn.close_ended(),
            }
        }
        Ok(())
    }

    /// Appends more of the streaming answers as far as windows are open; false when there is nothing to append.
    pub fn fill(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let Self { conn, sources, payload, .. } = self;
        sources.retain_mut(|source| {
            let Some(at) = conn.find(source.stream) else { return false };
            while conn.drained(at) && source.next < source.end && out.len() - before < AT_ONCE {
                source.next += 1;
                conn.streams[at].more = source.next < source.end;
                conn.send(at, out, |body| write_message(source.next - 1, payload, body));
            }
            source.next < source.end
        });
        conn.close_ended();
        out.len() > before
    }

    fn request(&mut self, stream: u32, end: bool) -> Result<(), Malformed> {
        if stream.is_multiple_of(2) || stream <= self.last || end {
            return Err(Malformed("gRPC request without a message, or with trailers"));
        }
        self.last = stream;
        let (number, method) = request_of(&self.conn.fields).ok_or(Malformed("gRPC request head"))?;
        self.conn.open(stream, number).more = method == STREAMING;
        Ok(())
    }

    fn answer(&mut self, at: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let stream = &mut self.conn.streams[at];
        let (id, number, streaming) = (stream.id, stream.tag, stream.more);
        let body = std::mem::take(&mut stream.body);
        if message(&body).and_then(Payload::number_of) != Some(number) {
            return Err(Malformed("gRPC message and head of different calls"));
        }
        let head = &mut self.head;
        self.conn.head(id, out, |encoder, out| encoder.all(head, out));
        if streaming {
            self.sources.push(Source { stream: id, next: 0, end: number.max(1) });
        } else {
            let all = self.conn.send(at, out, |unsent| unsent.extend_from_slice(&body));
            self.conn.streams[at].body = body;
            if all {
                self.conn.close(at);
            }
        }
        Ok(())
    }
}

/// Number and method of the call with this head, if all of it has arrived.
fn request_of(fields: &Fields) -> Option<(u64, &str)> {
    let path = std::str::from_utf8(fields.value(b":path")?).ok()?;
    let method = path.strip_prefix('/')?.strip_prefix(SERVICE)?.strip_prefix('/')?;
    if ![UNARY, STREAMING].contains(&method) || !good_head(&BEFORE, fields) || !good_head(&BEHIND, fields) {
        return None;
    }
    let trace = fields.value(b"traceparent")?.strip_prefix(TRACE_START)?.strip_suffix(TRACE_END)?;
    let number = Payload::number_of(trace).filter(|_| trace.len() == NUMBER)?;
    let micros = timeout_of(patience(method), number).to_string() + "u";
    let once = [(":path", path), ("grpc-timeout", micros.as_str())];
    // A proxy may name the authority in `host` instead (RFC 9113, 8.3.1), as nginx does.
    let host = [("host", AUTHORITY.1)];
    let named = good_head(if fields.value(b"host").is_some() { &host } else { &[AUTHORITY] }, fields);
    let traces = fields.iter().filter(|(name, _)| *name == b"traceparent").count();
    (named && good_head(&once, fields) && traces == 1).then_some((number, method))
}

fn good_head(wanted: &[(&str, &str)], fields: &Fields) -> bool {
    let lower = fields.iter().all(|(name, _)| !name.iter().any(u8::is_ascii_uppercase));
    lower && arrived(wanted, fields.iter())
}

/// A stream of a gibibyte takes as long as it takes; everything else has to be answered at once.
fn patience(method: &str) -> u64 {
    if method == STREAMING { 90_000_000 } else { 4_999_000 }
}

/// What `grpc-timeout` says, in µs: what is left of the time differs from call to call, as it does in real clients.
fn timeout_of(patience: u64, seq: u64) -> u64 {
    patience + seq % 1000
}

/// Appends a message whose first field is the payload of number `seq`.
fn write_message(seq: u64, payload: &Payload, out: &mut Vec<u8>) {
    let mut field = [0x0a, 0, 0, 0];
    let (mut rest, mut len) = (payload.len(), 1);
    while rest >= 0x80 {
        field[len] = rest as u8 | 0x80;
        (rest, len) = (rest >> 7, len + 1);
    }
    field[len] = rest as u8;
    out.push(0);
    out.extend_from_slice(&((len + 1 + payload.len()) as u32).to_be_bytes());
    out.extend_from_slice(&field[..=len]);
    let start = out.len();
    out.resize(start + payload.len(), 0);
    payload.write(seq, &mut out[start..]);
}

/// The payload of a body that is one message, not compressed, of one field.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_at_checked(5)?;
    let len = u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize;
    let mut rest = message.strip_prefix(b"\x0a")?;
    if prefix[0] != 0 || message.len() != len {
        return None;
    }
    let (mut told, mut shift) = (0, 0);
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        told |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return None;
        }
    }
    (rest.len() == told).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 256;

    fn caller() -> (Caller, Vec<u8>) {
        let mut out = Vec::new();
        (Caller::new(SERVICE, UNARY, &mut out), out)
    }

    fn server() -> (Server, Vec<u8>) {
        let mut out = Vec::new();
        (Server::new(&mut out), out)
    }

    /// Ids and whether their answers were the right ones.
    fn take(caller: &mut Caller, bytes: &[u8], out: &mut Vec<u8>) -> Vec<(u64, bool)> {
        let (mut rest, mut ended) = (bytes, Vec::new());
        let payload = Payload::new(LEN);
        let mut note = |answer: &Answer<'_>| match *answer {
            Answer::Value { id: Some(id), payload: back } => ended.push((id, payload.matches(id, back))),
            Answer::Refused { id: Some(id), .. } => ended.push((id, false)),
            _ => panic!("no call"),
        };
        caller.take(&mut rest, out, &mut note).unwrap();
        assert!(rest.is_empty());
        ended
    }

    #[test]
    fn calls_come_back_whatever_the_bytes_are_cut_into() {
        let payload = Payload::new(LEN);
        for cut in [1, 2, 7, 100, 1 << 20] {
            let (mut caller, mut to_server) = caller();
            let (mut server, mut to_caller) = server();
            let (mut good, mut at_server, mut at_caller) = (0, Vec::new(), Vec::new());
            for round in 0..60 {
                for call in 0..20 {
                    let seq = round * 20 + call;
                    caller.call(seq, seq, &payload, &mut to_server);
                }
                while !(to_server.is_empty() && to_caller.is_empty()) {
                    for piece in std::mem::take(&mut to_server).chunks(cut) {
                        at_server.extend_from_slice(piece);
                        let mut rest = &at_server[..];
                        server.take(&mut rest, &mut to_caller).unwrap();
                        at_server = rest.to_vec();
                    }
                    for piece in std::mem::take(&mut to_caller).chunks(cut) {
                        at_caller.extend_from_slice(piece);
                        let mut rest = &at_caller[..];
                        let answered = |answer: &Answer<'_>| {
                            let Answer::Value { id: Some(id), payload: back } = *answer else {
                                panic!("refused")
                            };
                            good += u64::from(payload.matches(id, back));
                        };
                        caller.take(&mut rest, &mut to_server, answered).unwrap();
                        at_caller = rest.to_vec();
                    }
                }
            }
            assert_eq!((good, caller.conn.streams.len(), server.conn.streams.len()), (1200, 0, 0));
        }
    }

    #[test]
    fn messages_longer_than_the_windows_wait_for_them() {
        let payload = Payload::new(400_000);
        let (mut caller, mut to_server) = caller();
        let (mut server, mut to_caller) = server();
        // The server's settings have not come: one window of 65,535 for all.
        (0..3).for_each(|seq| caller.call(seq, seq, &payload, &mut to_server));
        assert!(to_server.len() < 67_000, "{}", to_server.len());
        let mut good = 0;
        while !(to_server.is_empty() && to_caller.is_empty()) {
            let sent = std::mem::take(&mut to_server);
            server.take(&mut &sent[..], &mut to_caller).unwrap();
            let sent = std::mem::take(&mut to_caller);
            let answered = |answer: &Answer<'_>| {
                let Answer::Value { id: Some(id), payload: back } = *answer else { panic!("refused") };
                good += u32::from(payload.matches(id, back));
            };
            caller.take(&mut &sent[..], &mut to_server, answered).unwrap();
        }
        assert_eq!((good, caller.conn.streams.len(), server.conn.streams.len()), (3, 0, 0));
    }

    fn head(fields: &[(&str, &str)]) -> Fields {
        let (mut block, mut out) = (Vec::new(), Fields::default());
        crate::hpack::Encoder::default().all(&mut Field::all(fields), &mut block);
        crate::hpack::Decoder::default().decode(&block, &mut out).unwrap();
        out
    }

    #[test]
    fn a_request_that_a_proxy_changed_is_not_answered() {
        let own = [
            AUTHORITY,
            (":path", "/bench.Echo/Echo"),
            ("grpc-timeout", "4999007u"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01"),
        ];
        let good = [&BEFORE[..], &BEHIND, &own, &[("x-forwarded-proto", "http")]].concat();
        assert_eq!(request_of(&head(&good)), Some((7, UNARY)));
        let missing = (0..good.len() - 1).map(|at| [&good[..at], &good[at + 1..]].concat());
        let doubled = (0..good.len() - 1).map(|at| [&good[..], &[good[at]]].concat());
        assert!(missing.chain(doubled).all(|fields| request_of(&head(&fields)).is_none()));
        for (name, value) in [
            (":path", "/bench.Echo/Other"),
            (":path", "/bench.Echo2/Echo"),
            (":authority", "127.0.0.1"),
            ("te", "gzip"),
            ("content-type", "application/grpc+proto"),
            ("grpc-timeout", "4999008u"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-0000000000000008-01"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00000000000000070-01"),
        ] {
            let change = |&(have, old)| if have == name { (have, value) } else { (have, old) };
            let changed: Vec<_> = good.iter().map(change).collect();
            assert_eq!(request_of(&head(&changed)), None, "{name}: {value}");
        }
        let renamed =
            good.iter().map(|&(name, value)| (if name == ":authority" { "host" } else { name }, value));
        assert_eq!(request_of(&head(&renamed.collect::<Vec<_>>())), Some((7, UNARY)));
        assert_eq!(request_of(&head(&[&good[..], &[("X-Upper", "case")]].concat())), None);
    }

    #[test]
    fn a_message_with_the_head_of_another_call_ends_the_connection() {
        let (mut caller, mut sent) = caller();
        caller.call(0, 7, &Payload::new(LEN), &mut sent);
        let (mut server, mut out) = server();
        let at = sent.windows(NUMBER).rposition(|bytes| bytes == Payload::number(7)).unwrap();
        sent[at + NUMBER - 1] = b'8';
        assert!(server.take(&mut &sent[..], &mut out).is_err());
    }

    #[test]
    fn answers_are_told_apart() {
        let with = |change: &[(&str, &str)]| head(&[&ANSWER[..], change].concat());
        assert_eq!(head_status(1, false, &with(&[("server", "envoy")])), None);
        assert_eq!(head_status(1, false, &with(&[("content-type", "text/html")])), Some(UNKNOWN));
        assert_eq!(head_status(1, false, &head(&[(":status", "502")])), Some(UNKNOWN));
        assert_eq!(head_status(1, true, &head(&[(":status", "200"), ("grpc-status", "14")])), Some(14));
        assert_eq!(head_status(1, true, &head(&[(":status", "200"), ("grpc-status", "0")])), Some(UNKNOWN));
        assert_eq!(head_status(2, true, &head(&TRAILERS)), Some(0));
        assert_eq!(head_status(2, true, &head(&[("grpc-status", "8")])), Some(8));
        assert_eq!(head_status(2, true, &head(&[("x-other", "0")])), Some(UNKNOWN));
        assert_eq!(head_status(2, false, &head(&TRAILERS)), Some(UNKNOWN));
        assert_eq!(head_status(3, true, &head(&TRAILERS)), Some(UNKNOWN));
    }

    #[test]
    fn a_body_is_one_message_of_one_field() {
        for len in [16, 127, 128, 16_383, 16_384] {
            let (payload, mut body) = (Payload::new(len), Vec::new());
            write_message(3, &payload, &mut body);
            assert!(payload.matches(3, message(&body).unwrap()));
            assert!(message(&[&body[..], b"x"].concat()).is_none());
            assert!(message(&body[..body.len() - 1]).is_none());
            body[0] = 1;
            assert!(message(&body).is_none(), "compressed");
        }
        let mut streamed = Vec::new();
        write_message(3, &Payload::new(STREAMED_PAYLOAD), &mut streamed);
        assert_eq!(streamed.len(), STREAMED);
    }

    #[test]
    fn what_a_peer_that_goes_away_did_not_take_is_given_back() {
        let payload = Payload::new(LEN);
        let ((mut caller, mut sent), (mut server, mut answers)) = (caller(), server());
        (0..2).for_each(|seq| caller.call(seq, seq, &payload, &mut sent));
        server.take(&mut &sent[..], &mut answers).unwrap();
        (2..5).for_each(|seq| caller.call(seq, seq, &payload, &mut sent));
        let (greeting, rest) = answers.split_at(9 + 6 + 9 + 4);
        let go_away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0];
        assert_eq!(take(&mut caller, &[greeting, &go_away[..]].concat(), &mut sent), []);
        let mut returned: Vec<u64> = caller.returned().collect();
        returned.sort_unstable();
        assert_eq!(returned, [2, 3, 4]);
        assert!(!caller.ready() && !caller.over());
        assert_eq!(take(&mut caller, rest, &mut sent), [(0, true), (1, true)]);
        assert!(caller.over());
    }

    #[test]
    fn resets_strays_and_answers_without_trailers_are_no_good_calls() {
        let payload = Payload::new(LEN);
        let (mut caller, mut sent) = caller();
        (0..2).for_each(|seq| caller.call(seq, seq, &payload, &mut sent));
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
        // An indexed `:status: 200` alone on stream 3, then data of a stream that there is not.
        let bad_head = [0, 0, 1, 1, 4, 0, 0, 0, 3, 0x88];
        let stray = [0, 0, 1, 0, 1, 0, 0, 0, 9, 0];
        let bytes = [&settings[..], &reset, &bad_head, &stray].concat();
        assert_eq!(take(&mut caller, &bytes, &mut sent), [(0, false), (1, false), (STRAY, false)]);
    }
}
