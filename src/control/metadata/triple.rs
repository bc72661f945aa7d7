//! The question over HTTP/2: `MetadataServiceV2` in Protocol Buffers, or before Dubbo 3.3 `MetadataService` in Triple's wrapper.
//!
//! Sans-io, over the link that dialects are spoken in. It must never hold more of an answer than [`ANSWER_MAX`], nor take
//! gRPC's status 0 alone for a success: Triple tells an exception beside it.
//! Source: captured calls of Apache Dubbo 3.3.6 (`tri-service-group`, `tri-service-version`, `tri-exception-code`).

use bytes::{Buf, BytesMut};
use outrigger_codec::{
    Event, Head, Link, Message, Policy, ReplyKind, Slot, Tag, http::grpc::is_grpc, streams::StreamId,
};
use outrigger_discovery::formats::application::{MetadataInfo, Question};

use super::{ANSWER_MAX, METHOD, SERVICE, TOO_LARGE, Talk, VERSION, WHOLE, answer};
use crate::plugins;

const AGENT: &[u8] = concat!("outrigger/", env!("CARGO_PKG_VERSION")).as_bytes();
const TAG: Tag = Tag(1);
/// The bytes of gRPC before a message.
const PREFIX: usize = 5;
/// The longest reason that is told, in characters.
const REASON_MAX: usize = 300;

/// A call on a fresh connection.
pub(super) struct Call {
    link: Box<dyn Link + Send>,
    request: Message,
    body: Vec<u8>,
    wrapped: bool,
    stream: StreamId,
    sent: usize,
    message: Message,
    head: Message,
    trailers: Message,
    heard: Vec<u8>,
    policy: Policy,
}

impl Call {
    pub(super) fn new(question: &Question) -> Self {
        let Question { address, app, revision, version, .. } = question;
        // The second version came with a contract of its own; whatever is older is called as an interface of Java.
        let wrapped = version.starts_with("1.");
        let (path, version) = if wrapped {
            (format!("/{SERVICE}/{METHOD}"), VERSION)
        } else {
            (format!("/{SERVICE}V2/GetMetadataInfo"), version.as_str())
        };
        let mut request = Message::default();
        request.set(Slot::Method, b"POST");
        request.set(Slot::Scheme, b"http");
        request.set(Slot::Authority, address.as_bytes());
        request.set(Slot::Target, path.as_bytes());
        let limit = format!("{}m", WHOLE.as_millis());
        for (name, value) in [
            (&b"content-type"[..], &b"application/grpc+proto"[..]),
            (b"te", b"trailers"),
            (b"user-agent", AGENT),
            (b"grpc-timeout", limit.as_bytes()),
            (b"tri-service-version", version.as_bytes()),
            (b"tri-service-group", app.as_bytes()),
        ] {
            request.add(name, value);
        }
        Self {
            link: plugins::link(false),
            request,
            body: if wrapped { wrapper(revision) } else { message(revision) },
            wrapped,
            stream: 0,
            sent: 0,
            message: Message::default(),
            head: Message::default(),
            trailers: Message::default(),
            heard: Vec::new(),
            policy: Policy::default(),
        }
    }

    fn send(&mut self, out: &mut Vec<u8>) {
        let rest = self.body.get(self.sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.sent += self.link.data(self.stream, rest, true, out);
        }
    }

    /// What an event says in the end.
    fn note(
        &mut self,
        event: Event,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Result<MetadataInfo, String>> {
        match event {
            Event::Answer { kind: ReplyKind::Interim, .. } => None,
            Event::Answer { end, .. } => {
                self.head.copy(&self.message);
                end.then(|| self.judge())
            }
            Event::Data { at, len, end, .. } => {
                let bytes = bytes.get(at..at.saturating_add(len)).unwrap_or_default();
                if self.heard.len().saturating_add(bytes.len()) > ANSWER_MAX {
                    return Some(Err(TOO_LARGE.into()));
                }
                self.heard.extend_from_slice(bytes);
                self.link.release(self.stream, len, true, out);
                end.then(|| self.judge())
            }
            Event::Trailers { .. } => {
                self.trailers.copy(&self.message);
                Some(self.judge())
            }
            Event::Reset { code, .. } => Some(Err(format!("the call was ended with code {}", code.0))),
            Event::Broken { why } => Some(Err(format!("no answer: {why}"))),
            Event::Retired => {
                let mut unprocessed = Vec::new();
                self.link.unprocessed(&mut unprocessed);
                unprocessed.contains(&TAG).then(|| Err("it takes no new calls".into()))
            }
            Event::Room { .. } | Event::Widened => {
                self.send(out);
                None
            }
            _ => None,
        }
    }

    /// What the whole answer says.
    fn judge(&self) -> Result<MetadataInfo, String> {
        let (head, trailers) = (self.head.head(), self.trailers.head());
        // An answer that is an error may have no trailers: then its head says all.
        let told = |name: &[u8]| trailers.field(name).or_else(|| head.field(name));
        match head.slot(Slot::Target) {
            Some(status) if status.starts_with(b"200") => {}
            Some(status) => return Err(format!("HTTP status {}", words(status))),
            None => return Err("it answered without a status".into()),
        }
        if !head.field(b"content-type").is_some_and(is_grpc) {
            return Err("it does not speak Triple".into());
        }
        let reason = told(b"grpc-message").map(words).unwrap_or_default();
        match told(b"grpc-status") {
            Some(b"0") if told(b"tri-exception-code").is_none() => {}
            Some(b"0") => return Err("it answered with an exception".into()),
            Some(status) => return Err(format!("gRPC status {} {reason}", words(status))),
            None => return Err("no gRPC status".into()),
        }
        let message = opened(&self.heard).ok_or("an answer that is not one message")?;
        if self.wrapped { answer::of_wrapper(message) } else { answer::of_message(message) }
    }
}

impl Talk for Call {
    fn begin(&mut self, out: &mut Vec<u8>) {
        self.link.greet(out);
        self.stream = self.link.open(TAG);
        let head: Head<'_> = self.request.head();
        self.link.request(self.stream, head, false, "", out);
        self.send(out);
    }

    fn hear(&mut self, read: &mut BytesMut, out: &mut Vec<u8>) -> Option<Result<MetadataInfo, String>> {
        while !read.is_empty() {
            let step = self.link.receive(read, &self.policy, &mut self.message, out);
            if matches!(step.event, Event::Partial { .. } | Event::Wait) {
                return None;
            }
            let answer = self.note(step.event, read, out);
            read.advance(step.used.min(read.len()));
            if answer.is_some() {
                return answer;
            }
        }
        None
    }
}

/// A `MetadataRequest` behind gRPC's five bytes.
fn message(revision: &str) -> Vec<u8> {
    let mut message = Vec::new();
    answer::field(1, revision.as_bytes(), &mut message);
    prefixed(&message)
}

/// A `TripleRequestWrapper` with one text in Hessian, behind gRPC's five bytes.
fn wrapper(revision: &str) -> Vec<u8> {
    let mut message = Vec::new();
    answer::field(1, b"hessian4", &mut message);
    answer::field(2, &plugins::dubbo2::text(revision), &mut message);
    answer::field(3, b"java.lang.String", &mut message);
    prefixed(&message)
}

fn prefixed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// The one message of a body; `None`: it is cut off, compressed, or there is another behind it.
fn opened(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<PREFIX>()?;
    let [compressed, len @ ..] = *prefix;
    (compressed == 0 && u32::from_be_bytes(len) as usize == message.len()).then_some(message)
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(REASON_MAX).collect()
}
