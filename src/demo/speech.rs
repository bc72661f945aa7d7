//! What the demo speaks: one line for each protocol of the build, and plain TCP.
//!
//! A speech is four functions over whole frames. Must never read beyond what is there, and never let a length it read
//! decide how much memory is taken.

use super::{bolt, dubbo, http1};

/// A protocol, from both ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speech {
    /// Its name in the conf.
    pub(super) name: &'static str,
    /// By what the conf matches its calls, and what is called; `None`: calls are not understood on the way, connections
    /// are relayed.
    pub(super) called: Option<(&'static str, &'static str)>,
    /// Answers come in the order of their calls.
    pub(super) ordered: bool,
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
pub(super) const SPEECHES: [Speech; 4] = [
    Speech { name: "bolt", called: Some(("service", bolt::SERVICE)), ordered: false, len: bolt::len, request: bolt::request, answer: bolt::answer, open: bolt::open },
    Speech { name: "dubbo", called: Some(("service", dubbo::SERVICE)), ordered: false, len: dubbo::len, request: dubbo::request, answer: dubbo::answer, open: dubbo::open },
    Speech { name: "http1", called: Some(("path", http1::PATH)), ordered: true, len: http1::len, request: http1::request, answer: http1::answer, open: http1::open },
    Speech { name: "tcp", called: None, ordered: true, len: line_len, request: line, answer: line_answer, open: line_open },
];

/// Longest frame that the demo reads.
pub(super) const FRAME_MAX: usize = 1 << 20;

/// Takes one whole frame off the front of what was read.
pub(super) fn cut(
    speech: &Speech,
    read: &mut bytes::BytesMut,
) -> Result<Option<bytes::BytesMut>, &'static str> {
    match (speech.len)(read)? {
        Some(len) if len > FRAME_MAX => Err("a frame that is too long"),
        Some(len) if len <= read.len() => Ok(Some(read.split_to(len))),
        _ => Ok(None),
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
        assert_eq!(spoken, [crate::plugins::PROTOCOLS, &["tcp"]].concat());
    }

    #[test]
    fn a_call_comes_back_as_its_own_answer_however_it_is_cut() {
        for speech in SPEECHES {
            for text in ["", "hello", &"x".repeat(40), &"é".repeat(500)] {
                let request = (speech.request)(77, text);
                let answer = (speech.answer)(&request, "127.0.0.1:1").unwrap();
                let expected = Opened { id: Some(77), result: Ok((text.as_bytes(), b"127.0.0.1:1")) };
                assert_eq!((speech.open)(&answer), Some(expected), "{}", speech.name);
                for frame in [request, answer] {
                    for end in 0..frame.len() {
                        assert_eq!(cut(&speech, &mut frame[..end].into()), Ok(None), "{} {end}", speech.name);
                        // What is not whole is refused or said to answer nothing; it must only not panic.
                        let _ = ((speech.answer)(&frame[..end], ""), (speech.open)(&frame[..end]));
                    }
                    let mut read = bytes::BytesMut::from(&[&frame[..], b"\n"].concat()[..]);
                    assert_eq!(cut(&speech, &mut read).unwrap().unwrap(), frame);
                    assert_eq!(&read[..], b"\n");
                }
            }
        }
    }

    #[test]
    fn real_consumers_and_heartbeats_are_answered_and_strangers_refused() {
        let [bolt, dubbo, http1, tcp] = SPEECHES;
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
        assert_eq!(cut(&dubbo, &mut long[..].into()), Err("a frame that is too long"));
        assert!(cut(&tcp, &mut bytes::BytesMut::zeroed(FRAME_MAX + 1)).is_err());
        assert!((bolt.len)(b"GET /").is_err() && (dubbo.len)(b"GET /").is_err());
        assert!((http1.len)(&refused).is_err());
    }

    #[test]
    fn http1_clients_of_every_kind_are_answered_and_refusals_are_the_next_answer() {
        let http1 = SPEECHES.into_iter().find(|speech| speech.name == "http1").unwrap();
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
