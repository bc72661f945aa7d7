//! HTTP/1.1 as the bench speaks it: one POST whose body comes back, with a head as services send it.
//!
//! The head has no id, so answers belong to calls by their order on the connection; what tells whether they do is the
//! body. The number in `traceparent` is that of the body too, so the echo service sees a proxy that joins one call's
//! head to another's body. Facts: RFC 9112; the eight fields are what JVM and Go clients with tracing send.
//! Must never take a message that a proxy changed for a good one: every end-to-end field has to arrive, once, with
//! its own bytes, and a body's length has to be told by `Content-Length`, as it was sent.

use crate::payload::NUMBER;
use crate::wire::{Answer, Malformed};
use memchr::{memchr, memmem};

const HEAD_MAX: usize = 16 * 1024;
const BODY_MAX: usize = 1 << 20;
/// Digits in `traceparent` before those of the call's number.
pub const TRACE_START: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-";
/// What follows the number.
pub const TRACE_END: &[u8] = b"-01";

/// What a request carries besides `traceparent` and `Content-Length`.
const REQUEST_FIELDS: [(&str, &str); 6] = [
    ("Host", "echo.example.com"),
    ("User-Agent", "outrigger-load/1.0 (bench)"),
    ("Accept", "application/octet-stream, */*;q=0.8"),
    ("Accept-Encoding", "identity"),
    ("Content-Type", "application/octet-stream"),
    ("X-Tenant", "example"),
];

/// What an answer carries besides `Content-Length` and what proxies may write anew (`Server`, `Date`).
const ANSWER_FIELDS: [(&str, &str); 3] =
    [("Content-Type", "application/octet-stream"), ("Cache-Control", "no-store"), ("X-Served-By", "echo")];

/// A request for `service`, and where in it the call's number belongs.
pub fn request(service: &str, body: &[u8]) -> (Vec<u8>, usize) {
    let mut out = format!("POST {} HTTP/1.1\r\n", path(service)).into_bytes();
    write_fields(&REQUEST_FIELDS, &mut out);
    out.extend_from_slice(b"traceparent: ");
    out.extend_from_slice(TRACE_START);
    let number_at = out.len();
    out.extend_from_slice(&[b'0'; NUMBER]);
    out.extend_from_slice(TRACE_END);
    out.extend_from_slice(format!("\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    (out, number_at)
}

/// Path of a service's one method; the driver's routes name the same.
fn path(service: &str) -> String {
    format!("/{service}/echo")
}

fn write_fields(fields: &[(&str, &str)], out: &mut Vec<u8>) {
    for (name, value) in fields {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// Length of the message that `bytes` begin with, or `None` while its head is not complete.
pub fn message_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(head) = memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > HEAD_MAX { Err(Malformed("HTTP head too long")) } else { Ok(None) };
    };
    let mut told = None;
    for field in fields(&bytes[..head]) {
        let (name, value) = field.ok_or(Malformed("HTTP field"))?;
        if name.eq_ignore_ascii_case(b"Transfer-Encoding") {
            return Err(Malformed("HTTP body of another framing than it was sent with"));
        }
        if name.eq_ignore_ascii_case(b"Content-Length") && told.replace(number(value)).is_some() {
            return Err(Malformed("Content-Length twice"));
        }
    }
    match told.flatten() {
        Some(body) if body <= BODY_MAX => Ok(Some(head + 4 + body)),
        _ => Err(Malformed("Content-Length")),
    }
}

/// Appends the echo service's answer to one whole request.
pub fn answer(request: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (line, head, body) = parts(request)?;
    let path = line.strip_prefix(b"POST /")?.strip_suffix(b"/echo HTTP/1.1")?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
    if !path.iter().all(plain) || !arrived(&REQUEST_FIELDS, fields(head).flatten()) {
        return None;
    }
    let mut traces = values(head, b"traceparent");
    let traced = traces.next()?.strip_prefix(TRACE_START)?.strip_suffix(TRACE_END)?;
    if traces.next().is_some() || body.get(..NUMBER)? != traced {
        return None;
    }
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    write_fields(&ANSWER_FIELDS, out);
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    Some(())
}

/// Opens one whole answer.
pub fn open(message: &[u8]) -> Option<Answer<'_>> {
    let (line, head, payload) = parts(message)?;
    let (status, reason) = line.strip_prefix(b"HTTP/1.1 ")?.split_at_checked(3)?;
    let status = u16::try_from(number(status)?).ok()?;
    if reason.first().is_some_and(|byte| *byte != b' ') {
        return None;
    }
    if status != 200 {
        return Some(Answer::Refused { id: None, status });
    }
    arrived(&ANSWER_FIELDS, fields(head).flatten()).then_some(Answer::Value { id: None, payload })
}

/// Whether the sender of this message closes the connection after it.
pub fn closes(message: &[u8]) -> bool {
    let says = |(_, head, _)| values(head, b"Connection").any(|value| value.eq_ignore_ascii_case(b"close"));
    parts(message).is_some_and(says)
}

/// Start line, fields and body of a whole message.
fn parts(message: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let end = memmem::find(message, b"\r\n\r\n")?;
    let line = memmem::find(&message[..end + 2], b"\r\n")?;
    Some((&message[..line], &message[..end], &message[end + 4..]))
}

/// The fields below the start line of a head; `None` for what is none.
fn fields(head: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let mut rest = memchr(b'\n', head).map_or(&[][..], |end| &head[end + 1..]);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        let split = memchr(b':', line).filter(|colon| *colon > 0);
        Some(split.map(|colon| (&line[..colon], line[colon + 1..].trim_ascii())))
    })
}

fn values<'a>(head: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    fields(head).flatten().filter_map(move |(have, value)| have.eq_ignore_ascii_case(name).then_some(value))
}

/// Whether each of `wanted` is there, once, with its value; names in any case, as some proxies lower it.
pub fn arrived<'a>(wanted: &[(&str, &str)], head: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> bool {
    let mut found = 0;
    for (name, value) in head {
        let place = wanted.iter().position(|(want, _)| want.as_bytes().eq_ignore_ascii_case(name));
        if let Some(place) = place {
            if found & 1 << place != 0 || wanted[place].1.as_bytes() != value {
                return false;
            }
            found |= 1 << place;
        }
    }
    found == (1 << wanted.len()) - 1
}

/// Digits only, and few enough of them.
fn number(digits: &[u8]) -> Option<usize> {
    let fine = !digits.is_empty() && digits.len() < 10 && digits.iter().all(u8::is_ascii_digit);
    fine.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"0000000000000000 and more";

    fn changed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains(from), "{from}");
        text.replace(from, to).into_bytes()
    }

    fn answered(request: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        answer(request, &mut out).map(|()| out)
    }

    #[test]
    fn a_request_has_eight_fields_and_its_answer_has_its_body() {
        let (request, number_at) = request("com.example.EchoService", BODY);
        assert_eq!(&request[number_at - 1..number_at + 3], b"-000");
        assert_eq!(fields(parts(&request).unwrap().1).flatten().count(), 8);
        let back = answered(&request).unwrap();
        assert_eq!(open(&back), Some(Answer::Value { id: None, payload: BODY }));
        assert_eq!(message_len(&back), Ok(Some(back.len())));
        for cut in 0..request.len() - BODY.len() {
            assert_eq!(message_len(&request[..cut]), Ok(None));
        }
    }

    #[test]
    fn a_request_that_a_proxy_changed_is_not_answered() {
        let (request, _) = request("a.B", BODY);
        assert!(answered(&changed(&request, "User-Agent", "user-agent")).is_some());
        assert!(answered(&changed(&request, "X-Tenant", "X-Forwarded-Proto: http\r\nX-Tenant")).is_some());
        for (from, to) in [
            ("POST", "GET"),
            ("/a.B", "/a/../B"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("Host: echo.example.com", "Host: 127.0.0.1"),
            ("X-Tenant: example\r\n", ""),
            ("X-Tenant: example", "X-Tenant: example\r\nX-Tenant: example"),
            ("identity", "gzip"),
            ("-0000000000000000-", "-0000000000000001-"),
            ("-01\r\n", "-00\r\n"),
        ] {
            assert_eq!(answered(&changed(&request, from, to)), None, "{from} -> {to}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let good = answered(&request("a.B", BODY).0).unwrap();
        assert!(!closes(&good));
        assert!(closes(&changed(&good, "X-Served", "connection: Close\r\nX-Served")));
        let refused = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(open(refused), Some(Answer::Refused { id: None, status: 502 }));
        for (from, to) in
            [("HTTP/1.1 ", "HTTP/1.0 "), ("200 OK", "2000 OK"), ("no-store", "max-age=1"), ("200 OK", "2x0")]
        {
            assert_eq!(open(&changed(&good, from, to)), None, "{from} -> {to}");
        }
    }

    #[test]
    fn a_length_is_told_once_in_digits() {
        let head = |field: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").into_bytes();
        let told = head("content-length:  5 ");
        assert_eq!(message_len(&told), Ok(Some(told.len() + 5)));
        for bad in [
            "X-A: b",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: +5",
            "Content-Length: 99999999999999999999",
            "Content-Length: 9999999",
            "Transfer-Encoding: chunked",
            "Content-Length: 5\r\nno colon",
        ] {
            assert!(message_len(&head(bad)).is_err(), "{bad}");
        }
        assert!(message_len(&vec![b'x'; HEAD_MAX + 1]).is_err());
    }
}
