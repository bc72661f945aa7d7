//! HTTP/1 as a link of one stream at a time: so other protocols are translated into it and from it.
//!
//! Source: RFC 9112, and RFC 9113 §8 for what is lost or joined on the way (cookies, connection headers). The gate and the
//! framing are those of [`super`]; here is only what a message needs that comes from, or goes to, somebody who frames it
//! otherwise. It must never frame by what the other side says of framing, nor carry a second exchange before the first has
//! ended on both sides.

use outrigger_codec::{
    Asked, Body, Code, Event, Fault, Field, Find, Head, Link, Message, Policy, ReplyKind, Slot, Step,
    StreamCodec, Tag, Ticket,
    exchange::{Framing, Limits, Side, Underscores},
    streams::{LinkSettings, StreamId},
};

use super::{
    Http1, bits,
    body::{Http1Body, Piece, chunk_size},
    chars, fields, find, has, reply, request, spell,
};

impl StreamCodec for Http1 {
    const NAME: &'static str = "http1";
    const SERVER_IDLE: std::time::Duration = <Self as outrigger_codec::ExchangeCodec>::SERVER_IDLE;
    const CLIENT_IDLE: std::time::Duration = <Self as outrigger_codec::ExchangeCodec>::CLIENT_IDLE;
    const CONNECTIONS: u32 = <Self as outrigger_codec::ExchangeCodec>::CONNECTIONS;

    type Link = Http1Link;

    fn sniff(first: &[u8]) -> outrigger_codec::Sniff {
        <Self as outrigger_codec::ExchangeCodec>::sniff(first)
    }

    fn serve(settings: &LinkSettings) -> Http1Link {
        Http1Link::new(true, settings)
    }

    fn dial(settings: &LinkSettings) -> Http1Link {
        Http1Link::new(false, settings)
    }
}

/// The exchange on a connection.
#[derive(Debug)]
struct Exchange {
    tag: Tag,
    adopted: bool,
    asked: Asked,
    /// What the peer says; `None`: its head has not come.
    incoming: Option<Http1Body>,
    /// What we say.
    outgoing: Outgoing,
    /// The connection ends with it.
    close: bool,
}

/// How far what we say is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    Head,
    /// Bytes to come.
    Length(u64),
    Chunked,
    /// Until the connection ends.
    Close,
    /// There is no body, whatever comes.
    Nothing,
    Done,
}

/// One HTTP/1 connection.
#[derive(Debug)]
pub struct Http1Link {
    server: bool,
    limits: Limits,
    exchange: Option<Exchange>,
    /// The number of the exchange.
    stream: StreamId,
    /// Bytes of a head in which its end is not.
    searched: usize,
    /// No other exchange begins.
    spent: bool,
    severed: bool,
    /// We said, or will say with the next answer, that this is the last.
    retired: bool,
}

/// Of a request that nobody read.
const UNREAD: Asked =
    Asked { body: Framing::None, keep: false, awaits: false, tunnel: false, ticket: Ticket(0) };

/// The same of one that begins with these bytes: its answer has no body if it was to have none.
fn unread(bytes: &[u8]) -> Asked {
    let head = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    Asked { ticket: Ticket(if head.starts_with(b"HEAD ") { bits::HEAD } else { 0 }), ..UNREAD }
}

impl Http1Link {
    /// A connection; `server`: its peer is a caller.
    pub fn new(server: bool, settings: &LinkSettings) -> Self {
        Self {
            server,
            limits: settings.limits,
            exchange: None,
            stream: 0,
            searched: 0,
            spent: false,
            severed: false,
            retired: false,
        }
    }

    fn exchange(&mut self, stream: StreamId) -> Option<&mut Exchange> {
        if stream == self.stream { self.exchange.as_mut() } else { None }
    }

    /// The exchange may be over.
    fn settle(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        if exchange.outgoing != Outgoing::Done {
            return;
        }
        let heard = exchange.incoming.as_ref().is_some_and(Body::is_done);
        // A caller that was answered before it had said all is not listened to any more.
        if heard || self.server {
            self.spent |= exchange.close || !heard;
            self.exchange = None;
        }
    }

    /// What follows cannot be trusted.
    fn breaks(&mut self, used: usize, why: &'static str) -> Step {
        self.spent = true;
        Step { used, event: Event::Broken { why } }
    }

    fn take_request(&mut self, bytes: &[u8], policy: &Policy, message: &mut Message) -> Step {
        if self.spent {
            return Step { used: bytes.len(), event: Event::Nothing };
        }
        let len = match find::find(bytes, self.searched, Side::Request, &self.limits) {
            Find::Partial { searched } => {
                self.searched = searched;
                return Step { used: 0, event: Event::Partial { total: usize::MAX } };
            }
            Find::Fault(fault) => {
                self.begin(unread(bytes));
                self.spent = true;
                message.clear();
                return Step { used: bytes.len(), event: Event::Fault { stream: self.stream, fault } };
            }
            Find::Head { len } => len,
        };
        self.searched = 0;
        message.clear();
        message.bytes.extend_from_slice(bytes.get(..len).unwrap_or_default());
        let Message { bytes: head, index } = message;
        let read = request::read(head, policy, &self.limits, index).and_then(|asked| {
            let tunnels = has(asked.ticket, bits::CONNECT);
            if tunnels { Err(Fault::Unsupported("CONNECT into another protocol")) } else { Ok(asked) }
        });
        let asked = match read {
            Ok(asked) => asked,
            Err(fault) => {
                self.begin(unread(bytes));
                self.spent = true;
                return Step { used: bytes.len(), event: Event::Fault { stream: self.stream, fault } };
            }
        };
        // The first is the host, which has a slot; an upgrade is the last, and goes no further.
        if !index.fields.is_empty() {
            index.fields.remove(0);
        }
        if asked.tunnel {
            index.fields.pop();
        }
        lower(message);
        tell_length(asked.body, message);
        if asked.awaits {
            message.add(b"expect", b"100-continue");
        }
        self.begin(asked);
        let end = self.exchange.as_ref().and_then(|it| it.incoming.as_ref()).is_some_and(Body::is_done);
        let bodiless = has(asked.ticket, bits::HEAD);
        Step { used: len, event: Event::Request { stream: self.stream, end, bodiless } }
    }

    fn begin(&mut self, asked: Asked) {
        self.stream = self.stream.wrapping_add(1);
        self.exchange = Some(Exchange {
            tag: Tag::default(),
            adopted: false,
            asked,
            incoming: Some(Http1Body::in_pieces(asked.body, Underscores::Allow)),
            outgoing: Outgoing::Head,
            close: !asked.keep || self.retired,
        });
    }

    fn take_answer(&mut self, bytes: &[u8], message: &mut Message) -> Step {
        let len = match find::find(bytes, self.searched, Side::Reply, &self.limits) {
            Find::Partial { searched } => {
                self.searched = searched;
                return Step { used: 0, event: Event::Partial { total: usize::MAX } };
            }
            Find::Fault(fault) => return self.breaks(bytes.len(), fault.why()),
            Find::Head { len } => len,
        };
        self.searched = 0;
        message.clear();
        message.bytes.extend_from_slice(bytes.get(..len).unwrap_or_default());
        let Message { bytes: head, index } = message;
        let Some(exchange) = &mut self.exchange else { return self.breaks(bytes.len(), UNSOLICITED) };
        let said = match reply::read(head, &exchange.asked, &self.limits, index) {
            Ok(said) => said,
            Err(malformed) => return self.breaks(bytes.len(), malformed.0),
        };
        lower(message);
        tell_length(said.body, message);
        let tag = exchange.tag;
        if said.kind == ReplyKind::Interim {
            return Step { used: len, event: Event::Answer { tag, kind: said.kind, end: false } };
        }
        let body = Http1Body::in_pieces(said.body, Underscores::Allow);
        let end = body.is_done();
        exchange.close |= !said.keep || body.ends_with_connection();
        exchange.incoming = Some(body);
        if end {
            self.heard_all();
        }
        Step { used: len, event: Event::Answer { tag, kind: said.kind, end } }
    }

    /// An endpoint's answer is complete.
    fn heard_all(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        if !self.server && exchange.outgoing != Outgoing::Done {
            // It has answered before it had heard all: what is left of the request has nowhere to go.
            self.spent = true;
        }
        self.settle();
    }

    /// The next piece of a body.
    fn take_body(&mut self, bytes: &[u8], message: &mut Message, out: &mut Vec<u8>) -> Step {
        let limits = if self.server { self.limits } else { Limits { body_max: u64::MAX, ..self.limits } };
        let Some(exchange) = &mut self.exchange else { return self.breaks(bytes.len(), UNSOLICITED) };
        let Some(body) = &mut exchange.incoming else { return self.breaks(bytes.len(), UNSOLICITED) };
        let (tag, adopted) = (exchange.tag, exchange.adopted);
        message.clear();
        let piece = body.piece(bytes, &limits, &mut message.bytes);
        let end = body.is_done();
        match piece {
            Ok(Piece::Data(len)) => {
                if end {
                    self.heard_all();
                }
                let event = if adopted { Event::Data { tag, at: 0, len, end } } else { Event::Nothing };
                Step { used: len, event }
            }
            Ok(Piece::Framing(used)) if !end => Step { used, event: Event::Nothing },
            Ok(Piece::Framing(used)) => {
                let trailers = read_trailers(message);
                self.heard_all();
                let event = match (adopted, trailers) {
                    (false, _) => Event::Nothing,
                    (true, true) => Event::Trailers { tag },
                    (true, false) => Event::Data { tag, at: 0, len: 0, end: true },
                };
                Step { used, event }
            }
            Err(fault) if self.server => self.bad_body(bytes.len(), fault, out),
            Err(fault) => self.breaks(bytes.len(), fault.why()),
        }
    }

    /// A request's body cannot be read further: its endpoint never sees its end.
    fn bad_body(&mut self, used: usize, fault: Fault, out: &mut Vec<u8>) -> Step {
        self.spent = true;
        let Some(exchange) = self.exchange.take() else { return self.breaks(used, fault.why()) };
        if exchange.outgoing == Outgoing::Head {
            let text = format!("outrigger: {}", fault.why());
            spell::fault(&[], Some(&exchange.asked), fault, &text, out);
        } else {
            self.severed = true;
        }
        let reset = Event::Reset { tag: exchange.tag, code: Code::PROTOCOL, ours: true };
        Step { used, event: if exchange.adopted { reset } else { Event::Nothing } }
    }

    /// Says how what follows is framed.
    fn frame(exchange: &mut Exchange, framing: Framing, out: &mut Vec<u8>) {
        spell::framing(framing, out);
        exchange.outgoing = match framing {
            Framing::None => Outgoing::Nothing,
            Framing::Length(length) => Outgoing::Length(length),
            Framing::Chunked => Outgoing::Chunked,
            Framing::Close => Outgoing::Close,
        };
    }

    /// Nothing more is said of a message.
    fn said_all(&mut self, trailers: Option<Head<'_>>, out: &mut Vec<u8>) {
        let Some(exchange) = &mut self.exchange else { return };
        match exchange.outgoing {
            Outgoing::Chunked => {
                out.extend_from_slice(b"0\r\n");
                if let Some(head) = trailers {
                    lines(head, |name| !fields::forbidden_in_trailer(name), out);
                }
                out.extend_from_slice(b"\r\n");
            }
            // It ends too early for its own framing.
            Outgoing::Length(left) if left > 0 => self.severed = true,
            Outgoing::Close => exchange.close = true,
            _ => {}
        }
        exchange.outgoing = Outgoing::Done;
        self.settle();
    }
}

/// Bytes that no request asked for.
const UNSOLICITED: &str = "bytes that answer nobody";

/// Names of headers in lower case, as every other protocol has them.
fn lower(message: &mut Message) {
    let Message { bytes, index } = message;
    for field in &index.fields {
        let from = field.name.at as usize;
        if let Some(name) = bytes.get_mut(from..from.saturating_add(field.name.len as usize)) {
            name.make_ascii_lowercase();
        }
    }
}

/// The length of a body, as a header: the only thing of framing that others are told.
fn tell_length(body: Framing, message: &mut Message) {
    if let Framing::Length(length) = body {
        message.add(b"content-length", length.to_string().as_bytes());
    }
}

/// Makes fields of trailer lines; whether there are any.
fn read_trailers(message: &mut Message) -> bool {
    if message.bytes.is_empty() {
        return false;
    }
    message.bytes.extend_from_slice(b"\r\n");
    let Message { bytes, index } = message;
    index.caseless = true;
    // They were walked over before: what is no trailer is not among them.
    let _ = fields::walk(bytes, 0, usize::MAX, |_, field| {
        index.fields.push(field);
        Ok(())
    });
    lower(message);
    !message.index.fields.is_empty()
}

/// Writes header lines; cookies, which other protocols carry in pieces, as one (RFC 9113 §8.2.3).
fn lines(head: Head<'_>, pass: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    let name_of = |field: &Field| field.name.of(head.bytes).unwrap_or_default();
    let mut cookies = 0usize;
    for field in &head.index.fields {
        match name_of(field) {
            b"cookie" => cookies = cookies.saturating_add(1),
            b"content-length" | b"te" | b"host" => {}
            name if pass(name) => spell::line(head, field, out),
            _ => {}
        }
    }
    if cookies > 0 {
        out.extend_from_slice(b"cookie: ");
        let crumbs = head.index.fields.iter().filter(|field| name_of(field) == b"cookie");
        for (at, crumb) in crumbs.enumerate() {
            if at > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(crumb.value.of(head.bytes).unwrap_or_default());
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn length_of(head: Head<'_>) -> Option<u64> {
    head.field(b"content-length").and_then(chars::decimal)
}

impl Link for Http1Link {
    fn greet(&mut self, _: &mut Vec<u8>) {}

    fn receive(&mut self, bytes: &[u8], policy: &Policy, message: &mut Message, out: &mut Vec<u8>) -> Step {
        match &self.exchange {
            None if self.server => self.take_request(bytes, policy, message),
            Some(Exchange { incoming: None, .. }) => self.take_answer(bytes, message),
            Some(Exchange { incoming: Some(body), .. }) if !body.is_done() => {
                self.take_body(bytes, message, out)
            }
            // The next request's turn comes when this one is answered.
            Some(_) if self.server => Step { used: 0, event: Event::Wait },
            _ => self.breaks(bytes.len(), UNSOLICITED),
        }
    }

    fn ended(&mut self) -> Option<Tag> {
        // A caller's requests that came before are requests still.
        if self.server {
            return None;
        }
        self.spent = true;
        let exchange = self.exchange.as_mut()?;
        let body = exchange.incoming.as_mut()?;
        if !body.ends_with_connection() {
            return None;
        }
        let tag = exchange.tag;
        let _ = body.end(&mut Vec::new());
        self.heard_all();
        Some(tag)
    }

    fn room(&self) -> usize {
        usize::from(self.exchange.is_none() && !self.spent)
    }

    fn is_spent(&self) -> bool {
        self.spent && self.exchange.is_none()
    }

    fn streams(&self) -> usize {
        usize::from(self.exchange.is_some())
    }

    fn open(&mut self, tag: Tag) -> StreamId {
        self.begin(UNREAD);
        if let Some(exchange) = &mut self.exchange {
            (exchange.tag, exchange.adopted, exchange.incoming) = (tag, true, None);
            exchange.close = false;
        }
        self.stream
    }

    fn adopt(&mut self, stream: StreamId, tag: Tag) {
        if let Some(exchange) = self.exchange(stream) {
            (exchange.tag, exchange.adopted) = (tag, true);
        }
    }

    fn disown(&mut self, stream: StreamId) {
        if let Some(exchange) = self.exchange(stream) {
            exchange.adopted = false;
        }
    }

    fn request(&mut self, stream: StreamId, head: Head<'_>, end: bool, authority: &str, out: &mut Vec<u8>) {
        let Some(exchange) = self.exchange(stream) else { return };
        let method = head.slot(Slot::Verb).or(head.slot(Slot::Method)).unwrap_or_default();
        if method == b"CONNECT" {
            self.severed = true;
            return;
        }
        let expects = head.field(b"expect").is_some();
        let ticket = if method == b"HEAD" { bits::HEAD } else { 0 };
        exchange.asked = Asked { awaits: expects, ticket: Ticket(ticket), keep: true, ..UNREAD };
        out.extend_from_slice(method);
        out.push(b' ');
        out.extend_from_slice(head.slot(Slot::Target).unwrap_or(b"/"));
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(head.slot(Slot::Authority).unwrap_or(authority.as_bytes()));
        out.extend_from_slice(b"\r\n");
        lines(head, |_| true, out);
        let framing = match length_of(head) {
            Some(length) => Framing::Length(length),
            None if !end => Framing::Chunked,
            // A method that usually has a body says that it has none (RFC 9110 §8.6).
            None if matches!(method, b"POST" | b"PUT" | b"PATCH") => Framing::Length(0),
            None => Framing::None,
        };
        Self::frame(exchange, framing, out);
        out.extend_from_slice(b"\r\n");
        if end {
            self.said_all(None, out);
        }
    }

    fn answer(&mut self, stream: StreamId, head: Head<'_>, kind: ReplyKind, end: bool, out: &mut Vec<u8>) {
        let (spent, retired) = (self.spent, self.retired);
        let Some(exchange) = self.exchange(stream) else { return };
        let old = has(exchange.asked.ticket, bits::OLD);
        let text = head.slot(Slot::Target).unwrap_or(b"500");
        let status = text.get(..3).unwrap_or(b"500");
        if kind == ReplyKind::Interim && (old || (status == b"100" && !exchange.asked.awaits)) {
            return;
        }
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(text);
        // A reason may be empty, the space before it may not; and there are readers who do not see a status without one.
        if text.len() == 3 {
            out.push(b' ');
            out.extend_from_slice(spell::reason(status).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        lines(head, |_| true, out);
        if kind == ReplyKind::Interim {
            out.extend_from_slice(b"\r\n");
            return;
        }
        let length = length_of(head);
        let heard = exchange.incoming.as_ref().is_some_and(Body::is_done);
        let bodiless = has(exchange.asked.ticket, bits::HEAD) || matches!(status, b"204" | b"304");
        let framing = match length {
            _ if status == b"204" => Framing::None,
            Some(length) => Framing::Length(length),
            None if bodiless => Framing::None,
            None if end => Framing::Length(0),
            None if old => Framing::Close,
            None => Framing::Chunked,
        };
        exchange.close |= spent || retired || !heard || framing == Framing::Close;
        Self::frame(exchange, framing, out);
        if bodiless {
            exchange.outgoing = Outgoing::Nothing;
        }
        if exchange.close {
            out.extend_from_slice(b"connection: close\r\n");
        } else if old {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if end {
            self.said_all(None, out);
        }
    }

    fn data(&mut self, stream: StreamId, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> usize {
        let Some(exchange) = self.exchange(stream) else { return bytes.len() };
        match &mut exchange.outgoing {
            Outgoing::Length(left) => {
                let may = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(bytes.get(..may).unwrap_or_default());
                *left = left.saturating_sub(may as u64);
                // More than was said: what follows would be taken for another message.
                self.severed |= may < bytes.len();
            }
            Outgoing::Chunked if !bytes.is_empty() => {
                chunk_size(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Outgoing::Close => out.extend_from_slice(bytes),
            _ => {}
        }
        if end {
            self.said_all(None, out);
        }
        bytes.len()
    }

    fn fits(&self, _: StreamId, _: usize) -> bool {
        true
    }

    fn is_full(&self) -> bool {
        false
    }

    fn trailers(&mut self, stream: StreamId, head: Head<'_>, out: &mut Vec<u8>) {
        if self.exchange(stream).is_some() {
            self.said_all(Some(head), out);
        }
    }

    fn reset(&mut self, stream: StreamId, _: Code, _: &mut Vec<u8>) {
        if self.exchange(stream).is_some() {
            self.exchange = None;
            self.spent = true;
            self.severed = true;
        }
    }

    fn release(&mut self, _: StreamId, _: usize, _: bool, _: &mut Vec<u8>) {}

    fn retire(&mut self, _: bool, _: &mut Vec<u8>) {
        // An answer that has begun without saying so is not the last.
        self.retired = true;
    }

    fn ask(&mut self, _: &mut Vec<u8>) -> bool {
        false
    }

    fn unprocessed(&mut self, _: &mut Vec<Tag>) {}

    fn farewell(&mut self, code: Code, rest: &[u8], out: &mut Vec<u8>) {
        // A caller that took too long to say what it wants is told so; there is no exchange that could be.
        if self.server && self.exchange.is_none() && code == Code::CANCEL {
            let text = format!("outrigger: {}", Fault::Slow.why());
            spell::fault(rest, None, Fault::Slow, &text, out);
        }
        self.spent = true;
    }

    fn is_severed(&self) -> bool {
        self.severed
    }

    fn is_midway(&self, rest: &[u8]) -> bool {
        self.exchange.is_none() && !rest.is_empty()
    }

    fn has_windows(&self) -> bool {
        false
    }

    fn version(&self) -> &'static str {
        match &self.exchange {
            Some(exchange) if has(exchange.asked.ticket, bits::OLD) => "1.0",
            _ => "1.1",
        }
    }

    fn second(&mut self) {}

    fn held(&self) -> usize {
        0
    }

    fn renew(&mut self, settings: &LinkSettings) {
        self.limits = settings.limits;
    }
}
