//! Bolt v1, Dubbo2, HTTP/1 and plain TCP as the bench speaks them: requests stamped from a template, frames cut out of
//! a stream, answers made by the echo service and opened by the load generator.
//!
//! The templates are real frames, captured from SOFARPC 5.13.2 (Bolt) and Apache Dubbo 3.3.6 (Dubbo2): `golden/`.
//! Only the service name, the one string argument and the id differ from the capture; a test rebuilds the capture
//! byte for byte. HTTP/1 is in `http1.rs`. gRPC is here by name only: its frames depend on those before them, so each
//! connection keeps a state of its own (`grpc.rs`).
//! Must never accept an answer that a Java client would refuse (status, class, value marker).

use crate::payload::{NUMBER, Payload};
use crate::strings::{Grammar, encode, split};
use crate::{grpc, http1};
use std::fmt;
use std::sync::LazyLock;

/// The protocol on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// SOFA Bolt v1, a `SofaRequest` with Hessian body.
    Bolt,
    /// Dubbo2 with a Hessian 2 body.
    Dubbo,
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// gRPC over HTTP/2, with prior knowledge.
    Grpc,
    /// Fixed-size records: an id and a payload.
    Tcp,
}

/// Bytes that are not what the protocol says; the text names the place.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a frame is to the load generator.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A successful answer and the string that came back.
    Value {
        /// The call's id on its connection; none where answers come in the order of the calls.
        id: Option<u64>,
        /// The returned string.
        payload: &'a [u8],
    },
    /// An answer with a status other than success.
    Refused {
        /// As above.
        id: Option<u64>,
        /// The protocol's own status number.
        status: u16,
    },
    /// A heartbeat or event of the peer; no call is answered by it.
    Event,
}

const FRAME_MAX: usize = 1 << 20;
const STATEFUL: Malformed = Malformed("gRPC frames mean nothing by themselves");
const BOLT_REQUEST: usize = 22;
const BOLT_RESPONSE: usize = 20;
const BOLT_SERVICE: &[u8] = b"peer.api.DemoService:1.0";
const DUBBO_SERVICE: &[u8] = b"peer.api.DemoService";
const GOLDEN_ARGUMENT: &[u8] = b"hello outrigger";
/// Type list of the one argument, as the draft grammar writes it; the argument itself follows.
const BOLT_BEFORE_ARGUMENT: &[u8] = b"\x10java.lang.Stringz";
/// Attachments of every answer of Dubbo 2.0.2 and later.
const DUBBO_ATTACHMENTS: &[u8] = b"H\x05dubbo\x052.0.2Z";

static BOLT_ECHO: LazyLock<Vec<u8>> = LazyLock::new(|| unhex(include_str!("../golden/bolt-echo.req.hex")));
static DUBBO_ECHO: LazyLock<Vec<u8>> = LazyLock::new(|| unhex(include_str!("../golden/dubbo-echo.req.hex")));
/// From the class name to where the returned string stands; `N` (no response properties) follows that string.
static BOLT_RESULT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let frame = unhex(include_str!("../golden/bolt-echo.resp.hex"));
    frame[BOLT_RESPONSE..frame.len() - GOLDEN_ARGUMENT.len() - 2].to_vec()
});
const BOLT_RESULT_CLASS: usize = 46;

/// Bytes from the repository's own hex files; they are fixed at build time.
fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter_map(|b| (b as char).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Protocol {
    /// The service that is called where no other is named.
    pub fn service(self) -> &'static str {
        if self == Self::Grpc { grpc::SERVICE } else { "com.example.EchoService" }
    }

    /// Length of the frame that `bytes` begin with, or `None` while too few bytes are there to know.
    pub fn frame_len(self, bytes: &[u8], payload: usize) -> Result<Option<usize>, Malformed> {
        let len = match self {
            Self::Tcp => Some(8 + payload),
            Self::Dubbo => {
                if bytes.len() >= 2 && bytes[..2] != [0xda, 0xbb] {
                    return Err(Malformed("dubbo magic"));
                }
                u32_at(bytes, 12).map(|body| body.saturating_add(16))
            }
            Self::Bolt => bolt_len(bytes)?,
            Self::Http1 => http1::message_len(bytes)?,
            Self::Grpc => return Err(STATEFUL),
        };
        if len.is_some_and(|len| len > FRAME_MAX) {
            return Err(Malformed("frame too long"));
        }
        Ok(len)
    }

    /// Appends the echo service's answer to one whole request frame; nothing for one-way requests and acks.
    pub fn answer(self, request: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Bolt => bolt_answer(request, out).ok_or(Malformed("bolt request")),
            Self::Dubbo => dubbo_answer(request, out).ok_or(Malformed("dubbo request")),
            Self::Http1 => http1::answer(request, out).ok_or(Malformed("HTTP request")),
            Self::Grpc => Err(STATEFUL),
            Self::Tcp => {
                out.extend_from_slice(request);
                Ok(())
            }
        }
    }

    /// Opens one whole frame that came back.
    pub fn open(self, frame: &[u8]) -> Result<Answer<'_>, Malformed> {
        match self {
            Self::Bolt => bolt_open(frame).ok_or(Malformed("bolt response")),
            Self::Dubbo => dubbo_open(frame).ok_or(Malformed("dubbo response")),
            Self::Http1 => http1::open(frame).ok_or(Malformed("HTTP response")),
            Self::Grpc => Err(STATEFUL),
            Self::Tcp => u64_at(frame, 0)
                .map(|id| Answer::Value { id: Some(id), payload: &frame[8..] })
                .ok_or(Malformed("record")),
        }
    }

    /// Whether the peer takes no call after this answer of its own.
    pub fn closes(self, frame: &[u8]) -> bool {
        self == Self::Http1 && http1::closes(frame)
    }
}

fn bolt_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let (fixed, lengths) = match bytes {
        [] | [1] => return Ok(None),
        [1, 0, ..] => (BOLT_RESPONSE, 12),
        [1, 1 | 2, ..] => (BOLT_REQUEST, 14),
        _ => return Err(Malformed("bolt version or type")),
    };
    let parts = || Some((u16_at(bytes, lengths)?, u16_at(bytes, lengths + 2)?, u32_at(bytes, lengths + 4)?));
    Ok(parts().map(|(class, header, content)| (fixed + class + header).saturating_add(content)))
}

fn bolt_answer(request: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let [_, kind, _, command, ..] = *request else { return None };
    let id = request.get(5..9)?;
    if kind == 0 || kind == 2 {
        return Some(());
    }
    if command == 0 {
        out.extend_from_slice(&[1, 0, 0, 0, 1]);
        out.extend_from_slice(id);
        out.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        return Some(());
    }
    let skip = BOLT_REQUEST + u16_at(request, 14)? + u16_at(request, 16)?;
    let content = request.get(skip..)?;
    let at = memchr::memmem::find(content, BOLT_BEFORE_ARGUMENT)?;
    let (_, argument, _) = split(Grammar::Draft, &content[at + BOLT_BEFORE_ARGUMENT.len()..])?;
    let result = &*BOLT_RESULT;
    let content_len = (result.len() - BOLT_RESULT_CLASS + argument.len() + 1) as u32;
    out.extend_from_slice(&[1, 0, 0, 2, 1]);
    out.extend_from_slice(id);
    out.extend_from_slice(&[1, 0, 0, 0, BOLT_RESULT_CLASS as u8, 0, 0]);
    out.extend_from_slice(&content_len.to_be_bytes());
    out.extend_from_slice(result);
    out.extend_from_slice(argument);
    out.push(b'N');
    Some(())
}

fn bolt_open(frame: &[u8]) -> Option<Answer<'_>> {
    let [_, kind, _, command, ..] = *frame else { return None };
    let id = Some(u32_at(frame, 5)? as u64);
    if kind != 0 || command != 2 {
        return Some(Answer::Event);
    }
    let status = u16_at(frame, 10)? as u16;
    if status != 0 {
        return Some(Answer::Refused { id, status });
    }
    let rest = frame.get(BOLT_RESPONSE..)?.strip_prefix(BOLT_RESULT.as_slice())?;
    let (payload, _, rest) = split(Grammar::Draft, rest)?;
    (rest == b"N").then_some(Answer::Value { id, payload })
}

fn dubbo_answer(request: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let flags = *request.get(2)?;
    let (id, mut body) = (request.get(4..12)?, request.get(16..)?);
    if flags & 0xc0 != 0xc0 {
        return Some(());
    }
    out.extend_from_slice(&[0xda, 0xbb, flags & 0x3f, 20]);
    out.extend_from_slice(id);
    if flags & 0x20 != 0 {
        out.extend_from_slice(b"\0\0\0\x01N");
        return Some(());
    }
    // Dubbo version, path, service version, method, parameter types; then the argument.
    for _ in 0..5 {
        body = match body {
            [b'N', rest @ ..] => rest,
            _ => split(Grammar::Final, body)?.2,
        };
    }
    let (_, argument, _) = split(Grammar::Final, body)?;
    out.extend_from_slice(&((1 + argument.len() + DUBBO_ATTACHMENTS.len()) as u32).to_be_bytes());
    out.push(0x94);
    out.extend_from_slice(argument);
    out.extend_from_slice(DUBBO_ATTACHMENTS);
    Some(())
}

fn dubbo_open(frame: &[u8]) -> Option<Answer<'_>> {
    let (flags, status) = (*frame.get(2)?, *frame.get(3)?);
    let (id, body) = (Some(u64_at(frame, 4)?), frame.get(16..)?);
    if flags & 0xa0 != 0 {
        return Some(Answer::Event);
    }
    if status != 20 {
        return Some(Answer::Refused { id, status: u16::from(status) });
    }
    let (payload, _, rest) = split(Grammar::Final, body.strip_prefix(b"\x94")?)?;
    (rest == DUBBO_ATTACHMENTS).then_some(Answer::Value { id, payload })
}

/// A request frame with places for id and payload.
pub struct Template {
    protocol: Protocol,
    frame: Vec<u8>,
    payload_at: usize,
    /// Where the head of an HTTP request names the call's number.
    number_at: usize,
}

impl Template {
    /// A request to `service` whose string argument has `payload` bytes.
    pub fn new(protocol: Protocol, service: &str, payload: usize) -> Self {
        Self::with_argument(protocol, service, &vec![b'-'; payload])
    }

    fn with_argument(protocol: Protocol, service: &str, argument: &[u8]) -> Self {
        let (frame, number_at) = match protocol {
            Protocol::Bolt => (bolt_request(format!("{service}:1.0").as_bytes(), argument), 0),
            Protocol::Dubbo => (dubbo_request(service.as_bytes(), argument), 0),
            Protocol::Http1 => http1::request(service, argument),
            Protocol::Grpc => (Vec::new(), 0),
            Protocol::Tcp => ([&[0; 8], argument].concat(), 0),
        };
        let mut places = frame.windows(argument.len());
        let payload_at = places.rposition(|bytes| bytes == argument).unwrap_or_default();
        Self { protocol, frame, payload_at, number_at }
    }

    /// Largest id that fits the protocol's id field.
    pub fn id_max(&self) -> u64 {
        if self.protocol == Protocol::Bolt { u64::from(u32::MAX) } else { u64::MAX }
    }

    /// Appends the request with this id and the payload of call `seq`.
    pub fn stamp(&self, id: u64, seq: u64, payload: &Payload, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        match self.protocol {
            Protocol::Bolt => frame[5..9].copy_from_slice(&(id as u32).to_be_bytes()),
            Protocol::Dubbo => frame[4..12].copy_from_slice(&id.to_be_bytes()),
            Protocol::Tcp => frame[..8].copy_from_slice(&id.to_be_bytes()),
            Protocol::Http1 | Protocol::Grpc => {}
        }
        payload.write(seq, &mut frame[self.payload_at..self.payload_at + payload.len()]);
        if self.protocol == Protocol::Http1 {
            frame.copy_within(self.payload_at..self.payload_at + NUMBER, self.number_at);
        }
    }
}

/// Replaces every place where `from` stands in `bytes`.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some(at) = rest.windows(from.len()).position(|place| place == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn bolt_request(service: &[u8], argument: &[u8]) -> Vec<u8> {
    let golden = &*BOLT_ECHO;
    let (class_len, header_len) =
        (usize::from(golden[15]), usize::from(golden[16]) << 8 | usize::from(golden[17]));
    let (class, rest) = golden[BOLT_REQUEST..].split_at(class_len);
    let (header, content) = rest.split_at(header_len);
    let with_length = |text: &[u8]| [&(text.len() as u32).to_be_bytes(), text].concat();
    let header = replace(header, &with_length(BOLT_SERVICE), &with_length(service));
    let content = content.strip_suffix(&encode(Grammar::Draft, GOLDEN_ARGUMENT)[..]).unwrap_or_default();
    let mut content =
        replace(content, &encode(Grammar::Draft, BOLT_SERVICE), &encode(Grammar::Draft, service));
    content.extend_from_slice(&encode(Grammar::Draft, argument));
    let mut frame = golden[..16].to_vec();
    frame.extend_from_slice(&(header.len() as u16).to_be_bytes());
    frame.extend_from_slice(&(content.len() as u32).to_be_bytes());
    [&frame[..], class, &header, &content].concat()
}

fn dubbo_request(service: &[u8], argument: &[u8]) -> Vec<u8> {
    let golden = &*DUBBO_ECHO;
    let string = |text: &[u8]| encode(Grammar::Final, text);
    let body = replace(&golden[16..], &string(DUBBO_SERVICE), &string(service));
    let body = replace(&body, &string(GOLDEN_ARGUMENT), &string(argument));
    let mut frame = golden[..12].to_vec();
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_rebuild_the_captured_frames() {
        let rebuilt =
            |protocol| Template::with_argument(protocol, "peer.api.DemoService", GOLDEN_ARGUMENT).frame;
        assert_eq!(rebuilt(Protocol::Bolt), *BOLT_ECHO);
        assert_eq!(rebuilt(Protocol::Dubbo), *DUBBO_ECHO);
    }

    #[test]
    fn the_echo_service_answers_the_captured_request_as_the_java_provider_did() {
        for (protocol, request, response) in [
            (Protocol::Bolt, &*BOLT_ECHO, include_str!("../golden/bolt-echo.resp.hex")),
            (Protocol::Dubbo, &*DUBBO_ECHO, include_str!("../golden/dubbo-echo.resp.hex")),
        ] {
            let mut out = Vec::new();
            assert_eq!(protocol.answer(request, &mut out), Ok(()));
            assert_eq!(out, unhex(response));
        }
    }

    #[test]
    fn a_stamped_call_comes_back_as_its_own_answer() {
        let payload = Payload::new(256);
        for protocol in [Protocol::Bolt, Protocol::Dubbo, Protocol::Http1, Protocol::Tcp] {
            let service = "com.example.a.rather.long.name.of.Service00042";
            let template = Template::new(protocol, service, payload.len());
            let (mut request, mut response) = (Vec::new(), Vec::new());
            template.stamp(0x0102_0304, 99, &payload, &mut request);
            assert_eq!(protocol.frame_len(&request, 256), Ok(Some(request.len())));
            assert_eq!(protocol.answer(&request, &mut response), Ok(()));
            assert_eq!(protocol.frame_len(&response, 256), Ok(Some(response.len())));
            let Ok(Answer::Value { id, payload: back }) = protocol.open(&response) else {
                panic!("no value")
            };
            assert!(id == (protocol != Protocol::Http1).then_some(0x0102_0304) && payload.matches(99, back));
            for cut in 0..16.min(response.len()) {
                assert!(protocol.frame_len(&response[..cut], 256).is_ok());
            }
        }
    }

    #[test]
    fn refusals_heartbeats_and_bad_bytes_are_told_apart() {
        let busy = unhex("010000020100000007010004000000000000 0000");
        assert_eq!(Protocol::Bolt.open(&busy), Ok(Answer::Refused { id: Some(7), status: 4 }));
        let full = unhex("dabb0264000000000000000300000005 0462757379");
        assert_eq!(Protocol::Dubbo.open(&full), Ok(Answer::Refused { id: Some(3), status: 100 }));
        let read_only = unhex("dabba2000000000000000002000000020152");
        assert_eq!(Protocol::Dubbo.open(&read_only), Ok(Answer::Event));
        let (mut ack, heartbeat) = (Vec::new(), unhex("01010000010000000201ffffffff0000000000000000"));
        assert_eq!(Protocol::Bolt.answer(&heartbeat, &mut ack), Ok(()));
        assert_eq!(ack, unhex("0100000001000000020100000000000000000000"));
        assert!(Protocol::Bolt.frame_len(b"\x01\x07", 0).is_err());
        assert!(Protocol::Dubbo.frame_len(b"GE", 0).is_err());
        assert!(Protocol::Dubbo.frame_len(&unhex("dabb02140000000000000003ffffffff"), 0).is_err());
    }
}
