//! Triple, Dubbo 3's protocol: gRPC with the words of Dubbo, and the same calls as plain HTTP with JSON.
//!
//! Sources: `TripleHeaderEnum`, `RequestPath`, `AbstractTripleClientStream` of apache/dubbo; `triple_protocol` of
//! apache/dubbo-go. Group and version stand in headers; a business exception comes with grpc-status 0 and a header that tells
//! it. Messages are never looked at.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use outrigger_codec::{
    Dialect, Head, HeadIndex, Message, Outcome, Refusal, Response, Slot, Span,
    http::{chars, grpc},
};

/// Triple as gRPC.
#[derive(Clone, Copy, Debug)]
pub struct Triple;

/// Triple as plain HTTP: a call's arguments are its body.
#[derive(Clone, Copy, Debug)]
pub struct TripleHttp;

/// Tells that an answer's body is a serialized exception.
const EXCEPTION: &[u8] = b"tri-exception-code";
/// How long a caller of the plain flavour waits, in milliseconds; by Java, and by Go.
const TIMEOUTS: [&[u8]; 2] = [b"tri-service-timeout", b"triple-timeout-ms"];

/// Sets what stands in Dubbo's own headers, and takes a context path off the service.
fn read(bytes: &[u8], index: &mut HeadIndex) {
    grpc::service_and_method(bytes, index);
    let whole = index.slot(Slot::Service);
    if let Some(service) = whole.of(bytes)
        && let Some(slash) = service.iter().rposition(|byte| *byte == b'/')
    {
        let from = slash.saturating_add(1);
        let at = (whole.at as usize).saturating_add(from);
        index.set(Slot::ServiceKey, whole);
        index.set(Slot::Service, Span::new(at, service.len().saturating_sub(from)));
    }
    for (slot, names) in [
        (Slot::Version, [&b"tri-service-version"[..], b"rest-service-version"]),
        (Slot::Group, [b"tri-service-group", b"rest-service-group"]),
    ] {
        let span = names.iter().find_map(|name| value(bytes, index, name));
        index.set(slot, span.unwrap_or(Span::NONE));
    }
}

/// Where the value of a header is.
fn value(bytes: &[u8], index: &HeadIndex, name: &[u8]) -> Option<Span> {
    let is = |span: Span| span.of(bytes).is_some_and(|it| it.eq_ignore_ascii_case(name));
    index.fields.iter().find(|field| is(field.name)).map(|field| field.value)
}

/// The caller's timeout where it is a number of milliseconds.
fn milliseconds(head: Head<'_>) -> Option<(&'static [u8], Duration)> {
    TIMEOUTS.into_iter().find_map(|name| {
        let number = head.field(name).and_then(chars::decimal).filter(|number| *number > 0)?;
        Some((name, Duration::from_millis(number)))
    })
}

/// Whether any header is one of Dubbo's own.
fn is_dubbos(head: Head<'_>) -> bool {
    head.index.fields.iter().any(|field| {
        field
            .name
            .of(head.bytes)
            .and_then(|name| name.get(..4))
            .is_some_and(|it| it.eq_ignore_ascii_case(b"tri-"))
    })
}

impl Dialect for Triple {
    fn name(&self) -> &'static str {
        "triple"
    }

    fn claims(&self, head: Head<'_>, named: bool) -> bool {
        head.field(b"content-type").is_some_and(grpc::is_grpc) && (named || is_dubbos(head))
    }

    fn read(&self, bytes: &[u8], index: &mut HeadIndex) {
        read(bytes, index);
        let head = Head { bytes, index };
        let timeout = head.field(b"grpc-timeout").and_then(grpc::timeout);
        index.timeout_ms = timeout.or(milliseconds(head).map(|(_, it)| it)).map(grpc::milliseconds);
    }

    fn pass_timeout(&self, request: &mut Message, spent: Duration, left: Option<Duration>) {
        grpc::pass_timeout(request, spent, left);
    }

    fn outcome(&self, head: Head<'_>, ends: bool, so_far: Outcome) -> Outcome {
        let thrown = head.field(EXCEPTION).is_some() && so_far == Outcome::Ok;
        grpc::outcome(head, ends, if thrown { Outcome::Exception } else { so_far })
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

impl Dialect for TripleHttp {
    fn name(&self) -> &'static str {
        "triple"
    }

    fn claims(&self, head: Head<'_>, named: bool) -> bool {
        let body = head.field(b"content-type").unwrap_or_default();
        let kind = body.split(|byte| *byte == b';').next().map(chars::trim).unwrap_or_default();
        let plain =
            [&b"application/json"[..], b"application/proto"].iter().any(|own| kind.eq_ignore_ascii_case(own));
        // An interface has a package: `/orders/7` is somebody else's.
        let interface = head.slot(Slot::Path).is_some_and(|path| {
            let mut parts = path.rsplit(|byte| *byte == b'/');
            let (method, service) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            !method.is_empty() && service.contains(&b'.')
        });
        plain && interface && (named || is_dubbos(head) || head.field(b"triple-protocol-version").is_some())
    }

    fn read(&self, bytes: &[u8], index: &mut HeadIndex) {
        read(bytes, index);
        let timeout = milliseconds(Head { bytes, index });
        index.timeout_ms = timeout.map(|(_, timeout)| grpc::milliseconds(timeout));
    }

    fn pass_timeout(&self, request: &mut Message, spent: Duration, left: Option<Duration>) {
        let Some((name, said)) = milliseconds(request.head()) else {
            let [own, _] = TIMEOUTS;
            if let Some(left) = left.filter(|_| request.head().field(own).is_none()) {
                request.add(own, &grpc::number(left.as_millis().max(1)));
            }
            return;
        };
        let rest = grpc::left_of(said, spent, left);
        if rest < said {
            request.replace(name, &grpc::number(rest.as_millis().max(1)));
        }
    }

    fn outcome(&self, head: Head<'_>, _ends: bool, so_far: Outcome) -> Outcome {
        let Some([class, tens, ones]) = head.slot(Slot::Target).and_then(|it| it.first_chunk::<3>()) else {
            return so_far;
        };
        match [*class, *tens, *ones] {
            [b'4', b'2', b'9'] | [b'5', b'0', b'3'] => Outcome::Busy,
            [b'4', b'0', b'8'] | [b'5', b'0', b'4'] => Outcome::TimedOut,
            [b'5', b'0', b'2'] => Outcome::Error,
            [b'4' | b'5', ..] => Outcome::Exception,
            _ => so_far,
        }
    }

    fn refuse(&self, _: Refusal, _: Option<Duration>, _: &str, _: bool, _: &mut Message) -> bool {
        false
    }

    fn respond(&self, _: &Response, _: &mut Message) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(dialect: &dyn Dialect, path: &str, fields: &[(&str, &str)]) -> Message {
        let mut call = Message::default();
        call.set(Slot::Path, path.as_bytes());
        call.set(Slot::Method, b"POST");
        call.index.caseless = true;
        for (name, value) in fields {
            call.add(name.as_bytes(), value.as_bytes());
        }
        let Message { bytes, index } = &mut call;
        dialect.read(bytes, index);
        call
    }

    /// As Dubbo 3.3.6 sends it.
    const CAPTURED: [(&str, &str); 6] = [
        ("content-type", "application/grpc+proto"),
        ("te", "trailers"),
        ("grpc-timeout", "5000000u"),
        ("tri-consumer-appname", "peer-consumer"),
        ("grpc-accept-encoding", "gzip,snappy"),
        ("timeout", "5000"),
    ];

    #[test]
    fn a_captured_call_is_read() {
        let fields =
            [&CAPTURED[..], &[("tri-service-group", "blue"), ("tri-service-version", "2.0.0")]].concat();
        let called = call(&Triple, "/peer.api.DemoService/echo", &fields);
        let head = called.head();
        let slots = [Slot::Service, Slot::Method, Slot::Version, Slot::Group].map(|slot| head.slot(slot));
        assert_eq!(slots, [Some(&b"peer.api.DemoService"[..]), Some(b"echo"), Some(b"2.0.0"), Some(b"blue")]);
        assert_eq!(called.index.timeout_ms, Some(5_000));
        assert!(Triple.claims(head, false));
        let plain = call(&Triple, "/a.B/c", &[("content-type", "application/grpc")]);
        assert!(!Triple.claims(plain.head(), false) && Triple.claims(plain.head(), true));
    }

    #[test]
    fn a_context_path_is_no_part_of_the_service() {
        let called = call(&Triple, "/ctx/more/com.ex.Svc/say", &CAPTURED);
        let slots = [Slot::Service, Slot::ServiceKey, Slot::Method].map(|slot| called.head().slot(slot));
        assert_eq!(slots, [Some(&b"com.ex.Svc"[..]), Some(b"ctx/more/com.ex.Svc"), Some(b"say")]);
    }

    #[test]
    fn an_exception_hides_behind_status_0() {
        let mut head = Message::default();
        head.set(Slot::Target, b"200");
        head.add(EXCEPTION, b"3");
        let so_far = Triple.outcome(head.head(), false, Outcome::Ok);
        let mut trailers = Message::default();
        trailers.add(b"grpc-status", b"0");
        assert_eq!(Triple.outcome(trailers.head(), true, so_far), Outcome::Exception);
        assert_eq!(Triple.outcome(trailers.head(), true, Outcome::Ok), Outcome::Ok);
    }

    #[test]
    fn plain_calls_are_told_from_other_requests() {
        let json = [("content-type", "application/json; charset=utf-8"), ("tri-service-timeout", "1500")];
        let called = call(&TripleHttp, "/peer.api.DemoService/echo", &json);
        assert!(TripleHttp.claims(called.head(), false));
        assert_eq!(called.index.timeout_ms, Some(1_500));
        let mut passed = call(&TripleHttp, "/peer.api.DemoService/echo", &json);
        TripleHttp.pass_timeout(&mut passed, Duration::from_millis(500), None);
        assert_eq!(passed.head().field(TIMEOUTS[0]), Some(&b"1000"[..]));
        let other = call(&TripleHttp, "/orders/7", &[("content-type", "application/json")]);
        assert!(!TripleHttp.claims(other.head(), true));
        let rest = call(&TripleHttp, "/a.B/c", &[("content-type", "text/plain")]);
        assert!(!TripleHttp.claims(rest.head(), true));
    }
}
