//! Heads as the other side sees them, spelled from what was understood, and answers of our own.
//!
//! Source: RFC 9110 §7.6, §15; RFC 9112 §4, §9.3. Must never copy framing, nor a byte that the gate has not seen.

use std::{io::Write, time::Duration};

use outrigger_codec::{
    Asked, Fault, Field, Head, Policy, Refusal, Reply, ReplyKind, Slot,
    exchange::{Forwarded, Framing, Hop},
    http::answer as own,
};

use super::{bits, has};

/// The request's head for the endpoint.
pub(crate) fn request(head: Head<'_>, asked: &Asked, hop: &Hop<'_>, out: &mut Vec<u8>) {
    // Where a dialect names the method, HTTP's own stands beside it.
    out.extend_from_slice(head.slot(Slot::Verb).or(head.slot(Slot::Method)).unwrap_or_default());
    out.push(b' ');
    out.extend_from_slice(head.slot(Slot::Target).unwrap_or_default());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    let (host, others) = head
        .index
        .fields
        .split_first()
        .map_or((None, &[][..]), |(host, others)| (host.value.of(head.bytes), others));
    out.extend_from_slice(host.unwrap_or(hop.authority.as_bytes()));
    out.extend_from_slice(b"\r\n");
    let forwards = hop.policy.forwarded != Forwarded::Off;
    for field in others {
        if !(forwards && is_forwarded(head, field)) {
            line(head, field, out);
        }
    }
    framing(asked.body, out);
    if asked.awaits {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if asked.tunnel && !has(asked.ticket, bits::CONNECT) {
        out.extend_from_slice(b"Connection: upgrade\r\n");
    }
    if forwards {
        forwarded(head, host, hop, out);
    }
    if hop.policy.request_id && head.field(b"x-request-id").is_none() {
        let _ = write!(out, "X-Request-Id: {}\r\n", hop.request_id);
    }
    via(hop.policy, has(asked.ticket, bits::OLD), out);
    out.extend_from_slice(b"\r\n");
}

/// Gives a header of a request that was spelled here another value.
pub(crate) fn retell(request: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut at = 0usize;
    // The head ends with an empty line, behind which nothing is looked at.
    while let Some(rest) = request.get(at..)
        && let Some(len) = rest.windows(2).position(|pair| pair == b"\r\n").filter(|len| *len > 0)
    {
        let line = rest.get(..len).unwrap_or_default();
        if let Some((own, told)) = line.split_at_checked(name.len())
            && own.eq_ignore_ascii_case(name)
            && told.starts_with(b": ")
        {
            let from = at.saturating_add(name.len()).saturating_add(2);
            drop(request.splice(from..at.saturating_add(len), value.iter().copied()));
            return;
        }
        at = at.saturating_add(len).saturating_add(2);
    }
}

/// The answer's head for the caller.
pub(crate) fn answer(
    head: Head<'_>,
    asked: &Asked,
    reply: &Reply,
    policy: &Policy,
    close: bool,
    out: &mut Vec<u8>,
) {
    let old = has(asked.ticket, bits::OLD);
    let text = head.slot(Slot::Target).unwrap_or_default();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(text);
    // A reason may be empty, the space before it may not.
    out.extend_from_slice(if text.len() == 3 { b" \r\n" } else { b"\r\n" });
    for field in &head.index.fields {
        line(head, field, out);
    }
    let body = match reply.body {
        Framing::Chunked | Framing::Close if old => Framing::None,
        Framing::Close => Framing::Chunked,
        body => body,
    };
    framing(body, out);
    match reply.kind {
        ReplyKind::Switch if !has(asked.ticket, bits::CONNECT) => {
            out.extend_from_slice(b"Connection: upgrade\r\n");
        }
        ReplyKind::Final if close => out.extend_from_slice(b"Connection: close\r\n"),
        ReplyKind::Final if old => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        _ => {}
    }
    if reply.kind != ReplyKind::Interim {
        via(policy, has(reply.ticket, bits::OLD), out);
    }
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn line(head: Head<'_>, field: &Field, out: &mut Vec<u8>) {
    out.extend_from_slice(field.name.of(head.bytes).unwrap_or_default());
    out.extend_from_slice(b": ");
    out.extend_from_slice(field.value.of(head.bytes).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn framing(body: Framing, out: &mut Vec<u8>) {
    match body {
        Framing::None | Framing::Close => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            decimal(length, out);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// Digits without the machinery of formatting: on every request's way.
fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at = at.saturating_sub(1);
        if let Some(place) = digits.get_mut(at) {
            *place = b'0'.wrapping_add((number % 10) as u8);
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

const FORWARDED: [&[u8]; 3] = [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"];

fn is_forwarded(head: Head<'_>, field: &Field) -> bool {
    let name = field.name.of(head.bytes).unwrap_or_default();
    FORWARDED.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Who called, by what and for which host.
fn forwarded(head: Head<'_>, host: Option<&[u8]>, hop: &Hop<'_>, out: &mut Vec<u8>) {
    let append = hop.policy.forwarded == Forwarded::Append;
    out.extend_from_slice(b"X-Forwarded-For: ");
    let named = |field: &&Field| {
        field.name.of(head.bytes).is_some_and(|name| name.eq_ignore_ascii_case(b"x-forwarded-for"))
    };
    for field in head.index.fields.iter().filter(|_| append).filter(named) {
        out.extend_from_slice(field.value.of(head.bytes).unwrap_or_default());
        out.extend_from_slice(b", ");
    }
    match hop.peer {
        Some(peer) => write!(out, "{peer}\r\n"),
        None => write!(out, "unknown\r\n"),
    }
    .unwrap_or_default();
    let earlier = |name: &[u8]| head.field(name).filter(|_| append);
    out.extend_from_slice(b"X-Forwarded-Proto: ");
    out.extend_from_slice(earlier(b"x-forwarded-proto").unwrap_or(b"http"));
    if let Some(host) = earlier(b"x-forwarded-host").or(host) {
        out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
        out.extend_from_slice(host);
    }
    out.extend_from_slice(b"\r\n");
}

/// By whom it was received, in which version.
fn via(policy: &Policy, old: bool, out: &mut Vec<u8>) {
    if let Some(name) = &policy.via {
        let _ = write!(out, "Via: 1.{} {name}\r\n", u8::from(!old));
    }
}

pub(crate) fn refuse(
    asked: Option<&Asked>,
    why: Refusal,
    wait: Option<Duration>,
    message: &str,
    close: bool,
    out: &mut Vec<u8>,
) {
    let _ = write!(out, "HTTP/1.1 {}\r\n", own::status(why));
    if why == Refusal::Limited {
        let _ = write!(out, "Retry-After: {}\r\n", own::retry_after(wait));
    }
    let bodiless = asked.is_some_and(|asked| has(asked.ticket, bits::HEAD));
    rest(asked, bodiless, why, message, close, out);
}

pub(crate) fn fault(head: &[u8], asked: Option<&Asked>, fault: Fault, message: &str, out: &mut Vec<u8>) {
    let _ = write!(out, "HTTP/1.1 {}\r\n", own::fault_status(fault));
    if fault == Fault::Method {
        let _ = write!(out, "Allow: {}\r\n", own::ALLOW);
    }
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    // No other method begins so.
    let begins_so = head.starts_with(b"HEAD ") || (!head.is_empty() && b"HEAD ".starts_with(head));
    let bodiless = asked.map_or(begins_so, |asked| has(asked.ticket, bits::HEAD));
    rest(asked, bodiless, fault.refusal(), message, true, out);
}

pub(crate) fn respond(asked: &Asked, head: Head<'_>, body: &[u8], close: bool, out: &mut Vec<u8>) {
    let status = head.slot(Slot::Target).unwrap_or_default();
    for part in [b"HTTP/1.1 ", status, b" ", reason(status).as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    head.index.fields.iter().for_each(|field| line(head, field, out));
    connection(Some(asked), close, out);
    out.extend_from_slice(b"\r\n");
    if !has(asked.ticket, bits::HEAD) {
        out.extend_from_slice(body);
    }
}

/// Whether another request may follow, where the caller would not know.
fn connection(asked: Option<&Asked>, close: bool, out: &mut Vec<u8>) {
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if asked.is_some_and(|asked| has(asked.ticket, bits::OLD)) {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

fn rest(asked: Option<&Asked>, bodiless: bool, why: Refusal, message: &str, close: bool, out: &mut Vec<u8>) {
    let length = message.len().saturating_add(1);
    let _ = write!(
        out,
        "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nx-outrigger-error: {}\r\n",
        why.name()
    );
    connection(asked, close, out);
    out.extend_from_slice(b"\r\n");
    if !bodiless {
        let _ = writeln!(out, "{message}");
    }
}

/// What a status is called (RFC 9110 §15 and its registry), for answers that come without a name; empty where it has none.
pub(crate) fn reason(status: &[u8]) -> &'static str {
    match status {
        b"100" => "Continue",
        b"102" => "Processing",
        b"103" => "Early Hints",
        b"200" => "OK",
        b"201" => "Created",
        b"202" => "Accepted",
        b"203" => "Non-Authoritative Information",
        b"204" => "No Content",
        b"205" => "Reset Content",
        b"206" => "Partial Content",
        b"207" => "Multi-Status",
        b"300" => "Multiple Choices",
        b"301" => "Moved Permanently",
        b"302" => "Found",
        b"303" => "See Other",
        b"304" => "Not Modified",
        b"307" => "Temporary Redirect",
        b"308" => "Permanent Redirect",
        b"400" => "Bad Request",
        b"401" => "Unauthorized",
        b"402" => "Payment Required",
        b"403" => "Forbidden",
        b"404" => "Not Found",
        b"405" => "Method Not Allowed",
        b"406" => "Not Acceptable",
        b"407" => "Proxy Authentication Required",
        b"408" => "Request Timeout",
        b"409" => "Conflict",
        b"410" => "Gone",
        b"411" => "Length Required",
        b"412" => "Precondition Failed",
        b"413" => "Content Too Large",
        b"414" => "URI Too Long",
        b"415" => "Unsupported Media Type",
        b"416" => "Range Not Satisfiable",
        b"417" => "Expectation Failed",
        b"421" => "Misdirected Request",
        b"422" => "Unprocessable Content",
        b"423" => "Locked",
        b"424" => "Failed Dependency",
        b"425" => "Too Early",
        b"426" => "Upgrade Required",
        b"428" => "Precondition Required",
        b"429" => "Too Many Requests",
        b"431" => "Request Header Fields Too Large",
        b"451" => "Unavailable For Legal Reasons",
        b"500" => "Internal Server Error",
        b"501" => "Not Implemented",
        b"502" => "Bad Gateway",
        b"503" => "Service Unavailable",
        b"504" => "Gateway Timeout",
        b"505" => "HTTP Version Not Supported",
        b"507" => "Insufficient Storage",
        b"508" => "Loop Detected",
        b"511" => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gets_another_value_and_nothing_else_does() {
        let told = |request: &str| {
            let mut request = request.as_bytes().to_vec();
            retell(&mut request, b"x-left", b"7");
            String::from_utf8(request).unwrap_or_default()
        };
        let body = "\r\nx-left: 100\r\n\r\n";
        assert_eq!(
            told(&format!("GET / HTTP/1.1\r\nHost: a\r\nx-left: 1000\r\nA: b\r\n{body}")),
            format!("GET / HTTP/1.1\r\nHost: a\r\nx-left: 7\r\nA: b\r\n{body}")
        );
        for as_it_was in [
            format!("GET / HTTP/1.1\r\nHost: a\r\nx-left2: 1\r\n{body}"),
            "GET / HTTP/1.1\r\nx-lef".to_owned(),
            String::new(),
        ] {
            assert_eq!(told(&as_it_was), as_it_was);
        }
    }
}
