//! gRPC: which call a request is, how it ended, how it is refused. Heads in, heads out.
//!
//! Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md of grpc/grpc). A call is a request with gRPC's content type; its service and
//! method are its path; it ends with trailers. Messages are never looked at.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use outrigger_codec::{Dialect, Head, HeadIndex, Message, Outcome, Refusal, Response, http::grpc};

/// gRPC.
#[derive(Clone, Copy, Debug)]
pub struct Grpc;

impl Dialect for Grpc {
    fn name(&self) -> &'static str {
        "grpc"
    }

    fn claims(&self, head: Head<'_>, _named: bool) -> bool {
        head.field(b"content-type").is_some_and(grpc::is_grpc)
    }

    fn read(&self, bytes: &[u8], index: &mut HeadIndex) {
        grpc::service_and_method(bytes, index);
        let timeout = Head { bytes, index }.field(b"grpc-timeout").and_then(grpc::timeout);
        index.timeout_ms = timeout.map(grpc::milliseconds);
    }

    fn pass_timeout(&self, request: &mut Message, spent: Duration, left: Option<Duration>) {
        grpc::pass_timeout(request, spent, left);
    }

    fn outcome(&self, head: Head<'_>, ends: bool, so_far: Outcome) -> Outcome {
        grpc::outcome(head, ends, so_far)
    }

    fn refuse(
        &self,
        why: Refusal,
        wait: Option<Duration>,
        text: &str,
        begun: bool,
        answer: &mut Message,
    ) -> bool {
        grpc::refuse(why, wait, text, begun, answer);
        true
    }

    fn respond(&self, response: &Response, answer: &mut Message) -> bool {
        grpc::respond(response, answer);
        true
    }
}

#[cfg(test)]
mod tests {
    use outrigger_codec::{Slot, Span};

    use super::*;

    fn call(path: &str, fields: &[(&str, &str)]) -> Message {
        let mut call = Message::default();
        call.set(Slot::Path, path.as_bytes());
        call.set(Slot::Method, b"POST");
        call.index.caseless = true;
        for (name, value) in fields {
            call.add(name.as_bytes(), value.as_bytes());
        }
        let Message { bytes, index } = &mut call;
        Grpc.read(bytes, index);
        call
    }

    #[test]
    fn a_call_is_known_by_its_path() {
        let called = call("/grpc.testing.TestService/UnaryCall", &[("grpc-timeout", "250m")]);
        let head = called.head();
        let slots = [Slot::Service, Slot::Method, Slot::Verb].map(|slot| head.slot(slot));
        assert_eq!(slots, [Some(&b"grpc.testing.TestService"[..]), Some(b"UnaryCall"), Some(b"POST")]);
        assert_eq!(called.index.timeout_ms, Some(250));
        for odd in ["/", "/x", "//x", "*"] {
            let called = call(odd, &[]);
            assert_eq!(called.index.slot(Slot::Service), Span::NONE, "{odd}");
            assert_eq!(called.head().slot(Slot::Method), Some(&b"POST"[..]), "{odd}");
        }
    }

    #[test]
    fn an_answer_without_a_status_is_none() {
        let with = |fields: &[(&str, &str)]| {
            let mut answer = Message::default();
            for (name, value) in fields {
                answer.add(name.as_bytes(), value.as_bytes());
            }
            answer
        };
        let end = |fields: &[(&str, &str)]| Grpc.outcome(with(fields).head(), true, Outcome::Ok);
        assert_eq!(end(&[("grpc-status", "0")]), Outcome::Ok);
        assert_eq!(end(&[("grpc-status", "5")]), Outcome::Exception);
        assert_eq!(end(&[("grpc-status", "14")]), Outcome::Error);
        assert_eq!(end(&[]), Outcome::Error);
        let mut head = with(&[]);
        head.set(Slot::Target, b"503");
        assert_eq!(Grpc.outcome(head.head(), false, Outcome::Ok), Outcome::Busy);
    }

    #[test]
    fn every_refusal_is_a_whole_answer() {
        for why in Refusal::ALL {
            let mut answer = Message::default();
            assert!(Grpc.refuse(why, None, "outrigger: no", false, &mut answer));
            assert_ne!(Grpc.outcome(answer.head(), true, Outcome::Ok), Outcome::Ok, "{why:?}");
            assert_eq!(answer.head().slot(Slot::Target), Some(&b"200"[..]));
            let mut trailers = Message::default();
            assert!(Grpc.refuse(why, None, "outrigger: no", true, &mut trailers));
            assert_eq!(trailers.head().slot(Slot::Target), None);
        }
    }
}
