//! What a health check asks over HTTP, and which answers are good ones: a page, or gRPC's health service.
//!
//! Source: grpc/doc/health-checking.md and health.proto of grpc/grpc (`HealthCheckRequest.service` is field 1,
//! `HealthCheckResponse.status` is field 1, SERVING is 1). It must never trust a length that it read.

use outrigger_codec::{Message, Slot, http::grpc::is_grpc};

use crate::{
    conf::health::{GrpcCheck, HttpCheck},
    session::probe::{Answer, Question, Verdict},
};

const AGENT: &[u8] = concat!("outrigger/", env!("CARGO_PKG_VERSION")).as_bytes();

/// A page.
pub(super) fn page(check: &HttpCheck, address: &str) -> Question {
    let mut head = head(b"GET", &check.path, check.authority.as_deref().unwrap_or(address));
    head.add(b"accept", b"*/*");
    head.add(b"connection", b"close");
    Question { head, body: Vec::new(), judge: judge_page, statuses: check.statuses.clone() }
}

/// gRPC's health service.
pub(super) fn call(check: &GrpcCheck, address: &str) -> Question {
    let mut head = head(b"POST", "/grpc.health.v1.Health/Check", address);
    head.add(b"content-type", b"application/grpc");
    head.add(b"te", b"trailers");
    Question { head, body: message(&check.service), judge: judge_call, statuses: vec![200] }
}

fn head(method: &[u8], path: &str, authority: &str) -> Message {
    let mut head = Message::default();
    head.set(Slot::Method, method);
    head.set(Slot::Scheme, b"http");
    head.set(Slot::Authority, authority.as_bytes());
    head.set(Slot::Target, path.as_bytes());
    head.add(b"user-agent", AGENT);
    head
}

fn judge_page(question: &Question, answer: &Answer) -> Verdict {
    match answer.status() {
        Some(status) if question.statuses.contains(&status) => Ok(()),
        Some(status) => Err(format!("it answered with status {status}")),
        None => Err("it answered without a status".into()),
    }
}

fn judge_call(question: &Question, answer: &Answer) -> Verdict {
    judge_page(question, answer)?;
    let head = answer.head.head();
    if !head.field(b"content-type").is_some_and(is_grpc) {
        return Err("it does not speak gRPC".into());
    }
    // An answer that is an error may have no trailers: then its head says all.
    match answer.trailers.head().field(b"grpc-status").or(head.field(b"grpc-status")) {
        Some(b"0") => {}
        Some(b"5") => return Err("it does not know the service (gRPC status 5)".into()),
        Some(b"12") => return Err("it has no health service (gRPC status 12)".into()),
        Some(status) => return Err(format!("gRPC status {}", String::from_utf8_lossy(status))),
        None => return Err("no gRPC status".into()),
    }
    match serving(&answer.body) {
        Some(SERVING) => Ok(()),
        Some(NOT_SERVING) => Err("it says NOT_SERVING".into()),
        Some(other) => Err(format!("it says status {other}")),
        None => Err("no answer of gRPC's health service".into()),
    }
}

const SERVING: u64 = 1;
const NOT_SERVING: u64 = 2;

/// A `HealthCheckRequest` behind gRPC's five bytes.
fn message(service: &str) -> Vec<u8> {
    let mut request = Vec::new();
    if !service.is_empty() {
        request.push(1 << 3 | 2);
        varint(service.len() as u64, &mut request);
        request.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(&(request.len() as u32).to_be_bytes());
    out.extend_from_slice(&request);
    out
}

/// The status in a `HealthCheckResponse` behind gRPC's five bytes; `None`: it is none.
fn serving(body: &[u8]) -> Option<u64> {
    let (prefix, mut message) = body.split_first_chunk::<5>()?;
    let [compressed, len @ ..] = *prefix;
    if compressed != 0 || u32::from_be_bytes(len) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                status = if key >> 3 == 1 { value } else { status };
            }
            1 => message = message.get(8..)?,
            2 => {
                let len = take_varint(&mut message)?;
                message = message.get(usize::try_from(len).ok()?..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use outrigger_codec::{Event, Policy, ReplyKind, Tag};

    use super::*;
    use crate::{plugins, session::probe::Talk};

    /// What a talk makes of an answer that comes in pieces of so many bytes.
    fn heard(mut talk: Box<dyn Talk>, answer: &[u8], cut: usize) -> Option<Verdict> {
        let (mut read, mut out) = (BytesMut::new(), Vec::new());
        talk.begin(&mut out);
        for piece in answer.chunks(cut) {
            read.extend_from_slice(piece);
            if let Some(verdict) = talk.hear(&mut read, &mut out) {
                return Some(verdict);
            }
        }
        None
    }

    fn asks_a_page() -> Box<dyn Talk> {
        plugins::ask(false, page(&HttpCheck::default(), "a:1"))
    }

    fn calls() -> Box<dyn Talk> {
        plugins::ask(true, call(&GrpcCheck::default(), "a:1"))
    }

    /// What a server of gRPC says to the question, in order: SERVING.
    fn serving_answer() -> Vec<u8> {
        let (mut question, mut out) = (Vec::new(), Vec::new());
        calls().begin(&mut question);
        let mut server = plugins::link(true);
        server.greet(&mut out);
        let (mut rest, mut message, mut stream) = (&question[..], Message::default(), None);
        while !rest.is_empty() {
            let step = server.receive(rest, &Policy::default(), &mut message, &mut out);
            rest = &rest[step.used..];
            match step.event {
                Event::Request { stream: id, .. } => {
                    assert_eq!(message.head().slot(Slot::Target), Some(&b"/grpc.health.v1.Health/Check"[..]));
                    server.adopt(id, Tag(1));
                    stream = Some(id);
                }
                Event::Nothing | Event::Widened | Event::Room { .. } | Event::Data { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let (stream, mut head, mut trailers) =
            (stream.expect("a call"), Message::default(), Message::default());
        head.set(Slot::Target, b"200");
        head.add(b"content-type", b"application/grpc");
        trailers.add(b"grpc-status", b"0");
        server.answer(stream, head.head(), ReplyKind::Final, false, &mut out);
        assert_eq!(server.data(stream, b"\0\0\0\0\x02\x08\x01", false, &mut out), 7);
        server.trailers(stream, trailers.head(), &mut out);
        out
    }

    const PAGES: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ];

    #[test]
    fn a_good_answer_is_one_in_whatever_pieces_it_comes() {
        let grpc = serving_answer();
        for cut in 1..200 {
            for page in PAGES {
                assert_eq!(heard(asks_a_page(), page, cut), Some(Ok(())), "{cut}");
            }
            assert_eq!(heard(calls(), &grpc, cut), Some(Ok(())), "{cut}");
        }
        for end in 1..grpc.len() {
            assert_eq!(heard(calls(), &grpc[..end], 7), None, "{end}");
        }
    }

    #[test]
    fn a_page_may_end_with_its_connection_or_never() {
        let mut talk = asks_a_page();
        let (mut read, mut out) = (BytesMut::from("HTTP/1.0 200 OK\r\n\r\nhello"), Vec::new());
        talk.begin(&mut out);
        assert_eq!(talk.hear(&mut read, &mut out), None);
        assert_eq!(talk.ended(), Ok(()));
        assert!(asks_a_page().ended().is_err(), "nothing was answered");
        let endless =
            [&b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"[..], &vec![b'x'; 40_000]].concat();
        assert_eq!(heard(asks_a_page(), &endless, 4_096), Some(Ok(())), "its beginning will do");
    }

    #[test]
    fn rubbish_is_no_good_answer_and_harms_nobody() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let grpc = serving_answer();
        for round in 0..4_000 {
            for (talk, answer) in [(asks_a_page(), PAGES[round % PAGES.len()]), (calls(), &grpc[..])] {
                let mut bytes = answer.to_vec();
                for _ in 0..=round % 5 {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    let at = (seed as usize >> 8) % bytes.len();
                    bytes[at] = seed as u8;
                }
                let _ = heard(talk, &bytes, 1 + round % 50);
            }
        }
    }

    #[test]
    fn the_question_is_spelled_as_protocol_buffers_have_it() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("a.B"), *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], *b"\0\0\0\x01\x2f\x0a\xac\x02");
    }

    #[test]
    fn the_status_is_found_among_other_fields() {
        assert_eq!(serving(b"\0\0\0\0\x02\x08\x01"), Some(1));
        assert_eq!(serving(b"\0\0\0\0\x02\x08\x02"), Some(2));
        assert_eq!(serving(b"\0\0\0\0\0"), Some(0), "UNKNOWN is not written at all");
        let others = b"\x12\x02\x08\x07\x1d....\x21........\x18\x80\x01\x08\x01";
        let body = [&b"\0\0\0\0"[..], &[others.len() as u8], others].concat();
        assert_eq!(serving(&body), Some(1));
        for end in 0..body.len() {
            assert_eq!(serving(&body[..end]), None);
        }
        for wrong in [
            &b"\x01\0\0\0\x02\x08\x01"[..],
            b"\0\xff\xff\xff\xff\x08\x01",
            b"\0\0\0\0\x02\x0b\x01",
            b"\0\0\0\0\x0b\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(serving(wrong), None, "{wrong:x?}");
        }
    }

    #[test]
    fn only_an_answer_in_order_is_a_good_one() {
        let question = call(&GrpcCheck::default(), "a:1");
        let answer = |status: &[u8], kind: &[u8], grpc: &[u8], body: &[u8]| {
            let mut answer = Answer { body: body.to_vec(), ..Answer::default() };
            answer.head.set(Slot::Target, status);
            answer.head.add(b"content-type", kind);
            answer.trailers.add(b"grpc-status", grpc);
            judge_call(&question, &answer)
        };
        let (grpc, good, bad) =
            (&b"application/grpc+proto"[..], &b"\0\0\0\0\x02\x08\x01"[..], b"\0\0\0\0\x02\x08\x02");
        assert_eq!(answer(b"200", grpc, b"0", good), Ok(()));
        for (verdict, why) in [
            (answer(b"503", grpc, b"0", good), "status 503"),
            (answer(b"200", b"text/html", b"0", good), "does not speak gRPC"),
            (answer(b"200", grpc, b"0", bad), "NOT_SERVING"),
            (answer(b"200", grpc, b"5", b""), "does not know the service"),
            (answer(b"200", grpc, b"12", b""), "no health service"),
            (answer(b"200", grpc, b"14", good), "gRPC status 14"),
            (answer(b"200", grpc, b"0", b""), "no answer of"),
            (answer(b"x", grpc, b"0", b""), "without a status"),
        ] {
            assert!(verdict.as_ref().is_err_and(|told| told.contains(why)), "{why}: {verdict:?}");
        }
    }
}
