//! What the demo speaks: one line for each protocol and dialect of the build, and plain TCP.
//!
//! A speech is four functions over whole frames, or what is said over [`streams`]; a [`Talk`] is one connection of either
//! kind. Must never read beyond what is there, and never let a length it read decide how much memory is taken.

use bytes::BytesMut;

use super::{
    bolt, dubbo, grpc, http1,
    streams::{self, Connection, Streams},
};

/// A protocol or dialect, from both ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speech {
    /// Its name in the conf.
    pub(super) name: &'static str,
    /// By what the conf matches its calls; nothing: calls are not understood on the way, connections are relayed.
    pub(super) called: &'static [(&'static str, &'static str)],
    /// Answers come in the order of their calls.
    pub(super) ordered: bool,
    /// What goes over its connections.
    pub(super) voice: Voice,
}

/// What goes over a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Voice {
    /// Messages that stand each for itself.
    Frames(Frames),
    /// Many calls at once, on a connection that remembers.
    Streams(Streams),
}

/// Messages that stand each for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    /// Length of the frame that begins here, as soon as it can be told.
    pub(super) len: fn(&[u8]) -> Result<Option<usize>, &'static str>,
    /// A call of `echo(text)`.
    pub(super) request: fn(u64, &str) -> Vec<u8>,
    /// The provider's answer to a request, which names the endpoint that gave it.
    pub(super) answer: fn(&[u8], &str) -> Option<Vec<u8>>,
    /// What an answer says; `None` when the frame answers no call.
    pub(super) open: fn(&[u8]) -> Option<Opened<'_>>,
}

/// An answer: the call's id; text and endpoint, or why there are none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened<'a> {
    /// The call's id on its connection; `None`: it is the next in order.
    pub(super) id: Option<u64>,
    /// The text that came back and the endpoint that gave it.
    pub(super) result: Result<(&'a [u8], &'a [u8]), String>,
}

/// All that the demo speaks.
#[rustfmt::skip]
pub(super) const SPEECHES: [Speech; 7] = [
    Speech { name: "bolt", called: &[("service", bolt::SERVICE)], ordered: false, voice: Voice::Frames(Frames { len: bolt::len, request: bolt::request, answer: bolt::answer, open: bolt::open }) },
    Speech { name: "dubbo", called: &[("service", dubbo::SERVICE)], ordered: false, voice: Voice::Frames(Frames { len: dubbo::len, request: dubbo::request, answer: dubbo::answer, open: dubbo::open }) },
    Speech { name: "http1", called: &[("path", http1::PATH)], ordered: true, voice: Voice::Frames(Frames { len: http1::len, request: http1::request, answer: http1::answer, open: http1::open }) },
    Speech { name: "http2", called: &[("path", streams::HTTP2.path), ("method", "POST")], ordered: false, voice: Voice::Streams(streams::HTTP2) },
    Speech { name: "triple", called: &[("service", grpc::INTERFACE), ("method", grpc::METHOD)], ordered: false, voice: Voice::Streams(grpc::TRIPLE) },
    Speech { name: "grpc", called: &[("service", grpc::SERVICE), ("method", grpc::METHOD)], ordered: false, voice: Voice::Streams(grpc::GRPC) },
    Speech { name: "tcp", called: &[], ordered: true, voice: Voice::Frames(Frames { len: line_len, request: line, answer: line_answer, open: line_open }) },
];

/// Longest frame that the demo reads.
pub(super) const FRAME_MAX: usize = 1 << 20;

/// One connection, from either end.
#[derive(Debug)]
pub(super) enum Talk {
    /// It remembers nothing.
    Frames(Frames),
    /// It does.
    Streams(Box<Connection>),
}

impl Talk {
    /// A connection; `server`: its other end calls. What is said first goes to `out`.
    pub(super) fn begin(speech: &Speech, server: bool, out: &mut Vec<u8>) -> Self {
        match speech.voice {
            Voice::Frames(frames) => Self::Frames(frames),
            Voice::Streams(streams) => Self::Streams(Box::new(Connection::new(streams, server, out))),
        }
    }

    /// Whether it takes no more calls.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self, Self::Streams(connection) if connection.is_spent())
    }

    /// Calls `echo(text)`.
    pub(super) fn ask(&mut self, id: u64, text: &str, out: &mut Vec<u8>) {
        match self {
            Self::Frames(frames) => out.extend((frames.request)(id, text)),
            Self::Streams(connection) => connection.ask(id, text, out),
        }
    }

    /// Takes in what the sidecar sent; `each` is told of every answer. What is to be said goes to `out`.
    pub(super) fn hear(
        &mut self,
        read: &mut BytesMut,
        out: &mut Vec<u8>,
        mut each: impl FnMut(Opened<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        match self {
            Self::Frames(frames) => {
                while let Some(frame) = frames.cut(read)? {
                    (frames.open)(&frame).map_or(Ok(()), &mut each)?;
                }
                Ok(())
            }
            Self::Streams(connection) => connection.hear(read, out, each),
        }
    }

    /// Takes in what callers sent and answers it in the name of an endpoint.
    pub(super) fn serve(
        &mut self,
        read: &mut BytesMut,
        endpoint: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self {
            Self::Frames(frames) => {
                while let Some(frame) = frames.cut(read)? {
                    out.extend((frames.answer)(&frame, endpoint).unwrap_or_default());
                }
                Ok(())
            }
            Self::Streams(connection) => connection.serve(read, endpoint, out),
        }
    }
}

impl Frames {
    /// Takes one whole frame off the front of what was read.
    pub(super) fn cut(&self, read: &mut BytesMut) -> Result<Option<BytesMut>, &'static str> {
        match (self.len)(read)? {
            Some(len) if len > FRAME_MAX => Err("a frame that is too long"),
            Some(len) if len <= read.len() => Ok(Some(read.split_to(len))),
            _ => Ok(None),
        }
    }
}

/// The fixed-size bytes that stand at a place.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A length of two bytes.
pub(super) fn len_u16(bytes: &[u8], at: usize) -> Option<usize> {
    array(bytes, at).map(|bytes| u16::from_be_bytes(bytes).into())
}

/// A length of four bytes.
pub(super) fn len_u32(bytes: &[u8], at: usize) -> Option<usize> {
    array(bytes, at).map(|bytes| u32::from_be_bytes(bytes) as usize)
}

// Plain TCP: lines, which come back with the name of the endpoint.
const FROM: &str = " <- ";

fn line_len(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        None if bytes.len() > FRAME_MAX => Err("a line without end"),
        end => Ok(end.map(|at| at + 1)),
    }
}

fn line(id: u64, text: &str) -> Vec<u8> {
    format!("{id} {text}\n").into_bytes()
}

fn line_answer(line: &[u8], endpoint: &str) -> Option<Vec<u8>> {
    Some([line.strip_suffix(b"\n")?, FROM.as_bytes(), endpoint.as_bytes(), b"\n"].concat())
}

fn line_open(line: &[u8]) -> Option<Opened<'_>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let ((id, text), endpoint) =
        line.rsplit_once(FROM).and_then(|(line, endpoint)| Some((line.split_once(' ')?, endpoint)))?;
    Some(Opened { id: Some(id.parse().ok()?), result: Ok((text.as_bytes(), endpoint.as_bytes())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOLT: &str = include_str!("../../protocols/bolt/tests/data/frames/echo.req.hex");
    const BOLT_ANSWER: &str = include_str!("../../protocols/bolt/tests/data/frames/echo.resp.hex");

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn the_demo_speaks_every_protocol_of_the_build_and_tcp() {
        let spoken: Vec<&str> = SPEECHES.iter().map(|speech| speech.name).collect();
        assert_eq!(spoken, crate::plugins::names().chain(["tcp"]).collect::<Vec<_>>());
    }

    fn frames() -> impl Iterator<Item = (&'static str, Frames)> {
        SPEECHES.into_iter().filter_map(|speech| match speech.voice {
            Voice::Frames(frames) => Some((speech.name, frames)),
            Voice::Streams(_) => None,
        })
    }

    #[test]
    fn a_call_comes_back_as_its_own_answer_however_it_is_cut() {
        for (name, speech) in frames() {
            for text in ["", "hello", &"x".repeat(40), &"é".repeat(500)] {
                let request = (speech.request)(77, text);
                let answer = (speech.answer)(&request, "127.0.0.1:1").unwrap();
                let expected = Opened { id: Some(77), result: Ok((text.as_bytes(), b"127.0.0.1:1")) };
                assert_eq!((speech.open)(&answer), Some(expected), "{name}");
                for frame in [request, answer] {
                    for end in 0..frame.len() {
                        assert_eq!(speech.cut(&mut frame[..end].into()), Ok(None), "{name} {end}");
                        // What is not whole is refused or said to answer nothing; it must only not panic.
                        let _ = ((speech.answer)(&frame[..end], ""), (speech.open)(&frame[..end]));
                    }
                    let mut read = BytesMut::from(&[&frame[..], b"\n"].concat()[..]);
                    assert_eq!(speech.cut(&mut read).unwrap().unwrap(), frame);
                    assert_eq!(&read[..], b"\n");
                }
            }
        }
    }

    /// A call's id, and text and endpoint of its answer.
    type Heard = (u64, Result<(String, String), String>);

    /// Moves bytes from one end to the other in pieces, until both are silent; what the caller heard.
    fn between(
        (caller, said): (&mut Talk, &mut Vec<u8>),
        (service, answered): (&mut Talk, &mut Vec<u8>),
        step: usize,
    ) -> Vec<Heard> {
        let (mut to_service, mut to_caller) = (BytesMut::new(), BytesMut::new());
        let mut heard = Vec::new();
        while !said.is_empty() || !answered.is_empty() {
            for piece in std::mem::take(said).chunks(step) {
                to_service.extend_from_slice(piece);
                service.serve(&mut to_service, "127.0.0.1:1", answered).unwrap();
            }
            for piece in std::mem::take(answered).chunks(step) {
                to_caller.extend_from_slice(piece);
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let each = |opened: Opened<'_>| {
                    let result = opened.result.map(|(back, endpoint)| (text(back), text(endpoint)));
                    heard.push((opened.id.unwrap(), result));
                    Ok(())
                };
                caller.hear(&mut to_caller, said, each).unwrap();
            }
        }
        heard
    }

    #[test]
    fn calls_come_back_over_every_kind_of_connection() {
        for speech in SPEECHES {
            for step in [1, 7, 4096] {
                let (mut said, mut answered) = (Vec::new(), Vec::new());
                let mut caller = Talk::begin(&speech, false, &mut said);
                let mut service = Talk::begin(&speech, true, &mut answered);
                // The longest are beyond what may be sent ahead.
                let long = if speech.ordered || step < 4096 { 500 } else { 90_000 };
                for (id, len) in [(0, 0), (1, 5), (2, 40), (3, long), (4, long)] {
                    let text = "é".repeat(len / 2);
                    caller.ask(id, &text, &mut said);
                    let ends = (&mut caller, &mut said);
                    let heard = between(ends, (&mut service, &mut answered), step);
                    let due = (id, Ok((text, "127.0.0.1:1".to_owned())));
                    assert!(heard == [due], "{} {len} in pieces of {step}", speech.name);
                }
                assert!(!caller.is_spent());
            }
        }
    }

    #[test]
    fn a_service_of_streams_refuses_what_it_does_not_give() {
        let [http2, triple, grpc] = [3, 4, 5].map(|at| SPEECHES[at]);
        let refused = |caller: &Speech, service: &Speech| {
            let (mut said, mut answered) = (Vec::new(), Vec::new());
            let mut caller = Talk::begin(caller, false, &mut said);
            let mut service = Talk::begin(service, true, &mut answered);
            caller.ask(7, "hello", &mut said);
            between((&mut caller, &mut said), (&mut service, &mut answered), 9)
        };
        let why = "the demo has one method";
        assert_eq!(refused(&grpc, &triple), [(7, Err(format!("status 12 {why}")))]);
        assert_eq!(refused(&http2, &triple), [(7, Err(format!("status 12 {why}")))]);
        assert_eq!(refused(&triple, &http2), [(7, Err(format!("status 404 {why}")))]);
    }

    #[test]
    fn real_consumers_and_heartbeats_are_answered_and_strangers_refused() {
        let [bolt, dubbo, http1, tcp] = frames().map(|(_, frames)| frames).collect::<Vec<_>>()[..] else {
            panic!("four of frames")
        };
        let answer = (bolt.answer)(&unhex(BOLT), "e").unwrap();
        let captured = unhex(BOLT_ANSWER);
        assert_eq!(
            answer[20 + 46 + 17..],
            captured[20 + 46..],
            "after class and header, as the Java provider wrote"
        );
        let ping = unhex("0101 0000 01 00000007 01 ffffffff 0000 0000 00000000");
        assert_eq!(
            (bolt.answer)(&ping, "e"),
            Some(unhex("0100 0000 01 00000007 01 0000 0000 0000 00000000"))
        );
        let ping = unhex("dabb e2 00 0000000000000001 00000001 4e");
        assert_eq!((dubbo.answer)(&ping, "e"), Some(unhex("dabb 22 14 0000000000000001 00000001 4e")));
        let refused = unhex("dabb0264000000000000000300000005 0462757379");
        assert_eq!(
            (dubbo.open)(&refused),
            Some(Opened { id: Some(3), result: Err("status 100 busy".into()) })
        );
        let busy = unhex("010000020100000007010004000000000000 0000");
        assert_eq!((bolt.open)(&busy), Some(Opened { id: Some(7), result: Err("status 4".into()) }));
        let mut one_way = (dubbo.request)(1, "hello");
        one_way[2] = 0x82;
        assert_eq!((dubbo.answer)(&one_way, "e"), None);
        let long = unhex("dabb c2 00 0000000000000001 7fffffff");
        assert_eq!(dubbo.cut(&mut long[..].into()), Err("a frame that is too long"));
        assert!(tcp.cut(&mut BytesMut::zeroed(FRAME_MAX + 1)).is_err());
        assert!((bolt.len)(b"GET /").is_err() && (dubbo.len)(b"GET /").is_err());
        assert!((http1.len)(&refused).is_err());
    }

    #[test]
    fn http1_clients_of_every_kind_are_answered_and_refusals_are_the_next_answer() {
        let (_, http1) = frames().find(|(name, _)| *name == "http1").unwrap();
        let answer =
            |request: &str| String::from_utf8((http1.answer)(request.as_bytes(), "e").unwrap()).unwrap();
        // As curl posts it: no id, so none comes back.
        let posted =
            answer("POST /demo.EchoService/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert!(posted.ends_with("\r\nx-endpoint: e\r\n\r\nhello") && !posted.contains("x-call"), "{posted}");
        let injected = answer("POST /demo.EchoService/echo?call=1%0d HTTP/1.1\r\n\r\n");
        assert!(!injected.contains("x-call"), "{injected}");
        assert!(answer("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 405 "));
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
        assert!(answer(chunked).starts_with("HTTP/1.1 411 "));
        assert_eq!((http1.len)(chunked.as_bytes()), Ok(Some(chunked.len())));
        let refused = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 5\r\n\r\nbusy\n";
        let opened = Opened { id: None, result: Err("status 429 busy".into()) };
        assert_eq!((http1.open)(refused), Some(opened));
        assert_eq!((http1.open)(b"HTTP/1.1 103 Early Hints\r\n\r\n"), None);
        let foreign = (http1.open)(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert!(foreign.result.is_err());
        assert!((http1.len)(b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n").is_err());
        let endless = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &vec![b'x'; 1 << 17]].concat();
        assert!((http1.len)(&endless).is_err());
    }
}
