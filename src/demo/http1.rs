//! HTTP/1 as the demo speaks it: a POST of the text by a caller, and a service's answer to it.
//!
//! HTTP/1 has no ids, so the call's stands in the query and comes back in a header. Heads and bodies follow RFC 9112 as
//! far as a Content-Length tells where a message ends; what is chunked is refused. Must never trust a length that it
//! read, nor send a byte of a head back.

use super::speech::Opened;

/// The path that the demo's callers call.
pub(super) const PATH: &str = "/demo.EchoService/echo";
const ID: &str = "?call=";
const END: &[u8] = b"\r\n\r\n";
const HEAD_MAX: usize = 64 << 10;

/// Length of the message that begins here; `None` while it cannot be told, an error when it is none.
pub(super) fn len(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Err("not an HTTP/1 message");
    }
    let Some((head, body)) = parts(bytes) else {
        return if bytes.len() > HEAD_MAX { Err("a head that is too long") } else { Ok(None) };
    };
    if header(head, "transfer-encoding").is_some() {
        // Answered as such; its connection ends, so that nobody looks for its end.
        return Ok(Some(bytes.len()));
    }
    let length = header(head, "content-length").map_or(Some(0), number).ok_or("not a Content-Length")?;
    Ok(Some((bytes.len() - body.len()).saturating_add(length.try_into().unwrap_or(usize::MAX))))
}

/// A call of `echo(text)`.
pub(super) fn request(id: u64, text: &str) -> Vec<u8> {
    let length = text.len();
    format!(
        "POST {PATH}{ID}{id} HTTP/1.1\r\nHost: demo\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Length: {length}\r\n\r\n{text}"
    )
    .into_bytes()
}

/// The service's answer.
pub(super) fn answer(request: &[u8], endpoint: &str) -> Option<Vec<u8>> {
    let (head, body) = parts(request)?;
    if header(head, "transfer-encoding").is_some() {
        return Some(
            b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
        );
    }
    let Some(target) = head.strip_prefix(b"POST ") else {
        return Some(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n".into());
    };
    let target = target.split(|byte| *byte == b' ').next().unwrap_or_default();
    let id =
        target.strip_prefix(PATH.as_bytes()).and_then(|query| number(query.strip_prefix(ID.as_bytes())?));
    let call = id.map_or_else(String::new, |id| format!("x-call: {id}\r\n"));
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
        x-endpoint: {endpoint}\r\n{call}\r\n"
    );
    Some([head.as_bytes(), body].concat())
}

/// What an answer from the sidecar says; `None` when another one follows it. Refusals have no id.
pub(super) fn open(response: &[u8]) -> Option<Opened<'_>> {
    let (head, body) = parts(response)?;
    let status = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    if status.starts_with(b"1") {
        return None;
    }
    let id = header(head, "x-call").and_then(number);
    let result = match (status, id, header(head, "x-endpoint")) {
        (b"200", Some(_), Some(endpoint)) => Ok((body, endpoint)),
        (b"200", ..) => Err("an answer that is no echo".to_owned()),
        _ => {
            let [status, why] = [status, body].map(String::from_utf8_lossy);
            Err(format!("status {status} {}", why.trim_end()))
        }
    };
    Some(Opened { id, result })
}

/// Head, without its empty line, and what follows.
fn parts(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(END.len()).position(|window| window == END)?;
    Some((bytes.get(..at)?, bytes.get(at + END.len()..)?))
}

fn header<'a>(head: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(wanted.as_bytes()).then(|| value[1..].trim_ascii())
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}
