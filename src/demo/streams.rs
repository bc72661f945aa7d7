//! Connections of many calls at once, as the demo speaks them: both ends of HTTP/2, for plain requests and for gRPC's.
//!
//! The protocol itself is that of the product; here is what a caller and a service do with it. A call is a POST of one body,
//! its answer another one, which names its endpoint in a header. Must never keep more of a body than [`FRAME_MAX`], nor
//! answer what it did not read to its end.

use std::collections::BTreeMap;

use bytes::BytesMut;
use outrigger_codec::{Event, Link, Message, Policy, ReplyKind, Slot, Tag, streams::StreamId};

use super::speech::{FRAME_MAX, Opened};
use crate::plugins;

/// The body of the answer to a body; otherwise gRPC's status and why.
pub(super) type Answered = Result<Vec<u8>, (u8, &'static str)>;

/// What is spoken over streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    /// The path of its calls.
    pub(super) path: &'static str,
    /// The other headers of a request.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// The content type of an answer.
    pub(super) content_type: &'static str,
    /// An answer ends with gRPC's status.
    pub(super) status: bool,
    /// A call's body.
    pub(super) body: fn(&str) -> Vec<u8>,
    /// A service's answer.
    pub(super) answer: fn(&[u8]) -> Answered,
    /// The text in the body of an answer.
    pub(super) text: fn(&[u8]) -> Option<&[u8]>,
}

/// Plain HTTP/2: the text is the body, both ways.
pub(super) const HTTP2: Streams = Streams {
    path: "/demo.Http2Service/echo",
    headers: &[("content-type", "text/plain; charset=utf-8")],
    content_type: "text/plain; charset=utf-8",
    status: false,
    body: |text| text.as_bytes().to_vec(),
    answer: |body| Ok(body.to_vec()),
    text: |body| Some(body),
};

/// One connection, from either end.
#[derive(Debug)]
pub(super) struct Connection {
    speech: Streams,
    link: Box<dyn Link>,
    /// The head that was read last.
    message: Message,
    policy: Policy,
    calls: BTreeMap<u64, Call>,
    /// What the other side's windows do not let pass yet.
    unsent: Vec<Unsent>,
}

/// A call, as far as the other side told of it.
#[derive(Debug, Default)]
struct Call {
    stream: StreamId,
    /// The request's path, or the answer's status.
    target: String,
    /// Which endpoint answered.
    endpoint: Vec<u8>,
    /// gRPC's status and message.
    status: Option<(String, String)>,
    body: Vec<u8>,
    /// It is longer than anything the demo says.
    too_long: bool,
}

/// The rest of a body, and whether gRPC's status follows it.
#[derive(Debug)]
struct Unsent {
    stream: StreamId,
    rest: Vec<u8>,
    status: bool,
}

/// What the other side sent.
type Said = (Event, BytesMut);

impl Connection {
    /// A connection; `server`: its other end calls.
    pub(super) fn new(speech: Streams, server: bool, out: &mut Vec<u8>) -> Self {
        let mut link = plugins::link(server);
        link.greet(out);
        Self {
            speech,
            link,
            message: Message::default(),
            policy: Policy::default(),
            calls: BTreeMap::new(),
            unsent: Vec::new(),
        }
    }

    /// Whether it takes no more calls.
    pub(super) fn is_spent(&self) -> bool {
        self.link.is_spent()
    }

    /// Calls `echo(text)`.
    pub(super) fn ask(&mut self, id: u64, text: &str, out: &mut Vec<u8>) {
        let stream = self.link.open(Tag(id));
        self.calls.insert(id, Call { stream, ..Call::default() });
        let mut head = Message::default();
        for (slot, value) in [
            (Slot::Method, "POST"),
            (Slot::Scheme, "http"),
            (Slot::Authority, "demo"),
            (Slot::Target, self.speech.path),
        ] {
            head.set(slot, value.as_bytes());
        }
        for (name, value) in self.speech.headers {
            head.add(name.as_bytes(), value.as_bytes());
        }
        self.link.request(stream, head.head(), false, "", out);
        self.unsent.push(Unsent { stream, rest: (self.speech.body)(text), status: false });
        self.send(out);
    }

    /// Takes in what the sidecar sent; `each` is told of every call that ended.
    pub(super) fn hear(
        &mut self,
        read: &mut BytesMut,
        out: &mut Vec<u8>,
        mut each: impl FnMut(Opened<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        while let Some((event, bytes)) = self.next(read, out)? {
            let ended = match event {
                Event::Answer { tag, kind: ReplyKind::Final, end } => {
                    self.note_head(tag);
                    end.then_some(tag)
                }
                Event::Data { tag, at, len, end } => {
                    self.note_body(tag, &bytes[at..at + len], out);
                    end.then_some(tag)
                }
                Event::Trailers { tag } => {
                    self.note_status(tag);
                    Some(tag)
                }
                Event::Reset { tag, code, .. } => {
                    self.calls.remove(&tag.0);
                    let result = Err(format!("the stream was ended with code {}", code.0));
                    each(Opened { id: Some(tag.0), result })?;
                    None
                }
                Event::Retired => {
                    let mut unprocessed = Vec::new();
                    self.link.unprocessed(&mut unprocessed);
                    for tag in unprocessed {
                        self.calls.remove(&tag.0);
                        each(Opened { id: Some(tag.0), result: Err("the sidecar says goodbye".to_owned()) })?;
                    }
                    None
                }
                _ => None,
            };
            if let Some(tag) = ended
                && let Some(call) = self.calls.remove(&tag.0)
            {
                each(Opened { id: Some(tag.0), result: self.opened(&call) })?;
            }
        }
        Ok(())
    }

    /// Takes in what callers sent, and answers it in the name of an endpoint.
    pub(super) fn serve(
        &mut self,
        read: &mut BytesMut,
        endpoint: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        while let Some((event, bytes)) = self.next(read, out)? {
            let ended = match event {
                Event::Request { stream, end, .. } => {
                    let tag = Tag(stream.into());
                    self.link.adopt(stream, tag);
                    self.calls.insert(tag.0, Call { stream, ..Call::default() });
                    self.note_head(tag);
                    end.then_some(tag)
                }
                Event::Fault { stream, fault } => {
                    self.refuse(stream, 13, "400", fault.why(), out);
                    None
                }
                Event::Data { tag, at, len, end } => {
                    self.note_body(tag, &bytes[at..at + len], out);
                    end.then_some(tag)
                }
                Event::Trailers { tag } => Some(tag),
                Event::Reset { tag, .. } => {
                    self.calls.remove(&tag.0);
                    None
                }
                _ => None,
            };
            if let Some(tag) = ended
                && let Some(call) = self.calls.remove(&tag.0)
            {
                self.answer(&call, endpoint, out);
            }
        }
        Ok(())
    }

    /// The next thing that the other side said.
    fn next(&mut self, read: &mut BytesMut, out: &mut Vec<u8>) -> Result<Option<Said>, String> {
        if read.is_empty() {
            return Ok(None);
        }
        let step = self.link.receive(read, &self.policy, &mut self.message, out);
        match step.event {
            Event::Partial { .. } | Event::Wait => Ok(None),
            Event::Broken { why } => Err(why.to_owned()),
            event => {
                if matches!(event, Event::Room { .. } | Event::Widened) {
                    self.send(out);
                }
                Ok(Some((event, read.split_to(step.used))))
            }
        }
    }

    fn note_head(&mut self, tag: Tag) {
        let Some(call) = self.calls.get_mut(&tag.0) else { return };
        let head = self.message.head();
        let target = head.slot(Slot::Path).or(head.slot(Slot::Target)).unwrap_or_default();
        call.target = String::from_utf8_lossy(target).into_owned();
        call.endpoint = head.field(b"x-endpoint").unwrap_or_default().to_vec();
        self.note_status(tag);
    }

    fn note_status(&mut self, tag: Tag) {
        let head = self.message.head();
        let field = |name| head.field(name).map(|value| String::from_utf8_lossy(value).into_owned());
        if let Some(call) = self.calls.get_mut(&tag.0)
            && let Some(status) = field(b"grpc-status")
        {
            call.status = Some((status, field(b"grpc-message").unwrap_or_default()));
        }
    }

    fn note_body(&mut self, tag: Tag, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(call) = self.calls.get_mut(&tag.0) else { return };
        call.too_long |= call.body.len() + bytes.len() > FRAME_MAX;
        if !call.too_long {
            call.body.extend_from_slice(bytes);
        }
        self.link.release(call.stream, bytes.len(), true, out);
    }

    /// What an answer says.
    fn opened<'a>(&self, call: &'a Call) -> Result<(&'a [u8], &'a [u8]), String> {
        let due = if self.speech.status { Some("0") } else { None };
        let status = call.status.as_ref().map(|(status, _)| status.as_str());
        if call.target == "200" && status == due {
            let text = (self.speech.text)(&call.body).filter(|_| !call.endpoint.is_empty() && !call.too_long);
            return Ok((text.ok_or("an answer that is no echo")?, &call.endpoint));
        }
        match &call.status {
            Some((status, why)) => Err(format!("status {status} {why}")),
            None => Err(format!("status {} {}", call.target, String::from_utf8_lossy(&call.body).trim_end())),
        }
    }

    fn answer(&mut self, call: &Call, endpoint: &str, out: &mut Vec<u8>) {
        if call.target.split('?').next() != Some(self.speech.path) {
            return self.refuse(call.stream, 12, "404", "the demo has one method", out);
        }
        if call.too_long {
            return self.refuse(call.stream, 8, "413", "a body that is too long", out);
        }
        match (self.speech.answer)(&call.body) {
            Err((status, why)) => self.refuse(call.stream, status, "400", why, out),
            Ok(rest) => {
                let mut head = Message::default();
                head.set(Slot::Target, b"200");
                head.add(b"content-type", self.speech.content_type.as_bytes());
                head.add(b"x-endpoint", endpoint.as_bytes());
                self.link.answer(call.stream, head.head(), ReplyKind::Final, false, out);
                self.unsent.push(Unsent { stream: call.stream, rest, status: self.speech.status });
                self.send(out);
            }
        }
    }

    /// Answers with nothing but why: in gRPC's words, or in HTTP's.
    fn refuse(&mut self, stream: StreamId, status: u8, http: &str, why: &str, out: &mut Vec<u8>) {
        let mut head = Message::default();
        if self.speech.status {
            head.set(Slot::Target, b"200");
            head.add(b"content-type", self.speech.content_type.as_bytes());
            head.add(b"grpc-status", status.to_string().as_bytes());
            head.add(b"grpc-message", why.as_bytes());
            return self.link.answer(stream, head.head(), ReplyKind::Final, true, out);
        }
        head.set(Slot::Target, http.as_bytes());
        head.add(b"content-type", b"text/plain");
        self.link.answer(stream, head.head(), ReplyKind::Final, false, out);
        self.unsent.push(Unsent { stream, rest: why.as_bytes().to_vec(), status: false });
        self.send(out);
    }

    /// Sends what windows allow of what waits.
    fn send(&mut self, out: &mut Vec<u8>) {
        let link = &mut self.link;
        self.unsent.retain_mut(|Unsent { stream, rest, status }| {
            let sent = link.data(*stream, rest, !*status, out);
            rest.drain(..sent);
            if rest.is_empty() && *status {
                let mut trailers = Message::default();
                trailers.add(b"grpc-status", b"0");
                link.trailers(*stream, trailers.head(), out);
            }
            !rest.is_empty()
        });
    }
}
