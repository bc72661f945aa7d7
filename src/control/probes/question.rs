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
    use super::*;

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
