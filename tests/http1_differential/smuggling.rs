//! Requests that the sidecar refuses, each with a good request behind it that nobody may ever see.
//!
//! They are the payloads by which requests are smuggled: two framings, framings that readers read differently, line
//! ends and names that some readers take for something else, targets and hosts that lie. A payload may be read in parts
//! by the endpoint (a body that breaks off); no request of its connection may be whole there.

use super::cases::{Case, head};

/// Behind each payload.
const BEHIND: &str = "GET /smuggled HTTP/1.1\nHost: a.example\n\n";

fn with(name: String, payload: &[u8]) -> Case {
    Case { name, bytes: [payload, &head(BEHIND)].concat() }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let mut all = framings();
    all.extend(lines());
    all.extend(chunks());
    all.extend(targets());
    all
}

/// Two framings, or one that readers disagree about; the body is the end of chunks, and as long as is said.
fn framings() -> Vec<Case> {
    let framings = [
        "Content-Length: 5\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\nContent-Length: 5",
        "Content-Length: 0\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chu nked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\u{c}",
        "Transfer-Encoding:\n chunked",
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\u{0}",
        "X: y\rTransfer-Encoding: chunked",
        "Content-Length: 5\nContent-Length: 5",
        "Content-Length: 5\nContent-Length: 0",
        "Content-Length: 0\ncontent-length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 0, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 0",
        "Content-Length: 5;",
        "Content-Length: ",
        "Content-Length: five",
        "Content-Length: 5\u{b}",
        "Content-Length : 5",
        "Content-Length: 18446744073709551619",
        "Content-Length: 9223372036854775813",
        "Content-Length:\n 5",
    ];
    framings
        .iter()
        .map(|lines| {
            let text = format!("POST /payload HTTP/1.1\nHost: a.example\n{lines}\n\n");
            with(format!("framing {lines:?}"), &[&head(&text)[..], b"0\r\n\r\n"].concat())
        })
        .chain([with(
            "framing: chunks in 1.0".to_owned(),
            b"POST /payload HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )])
        .collect()
}

/// What some readers take for the end of a line, for a name, or for a request line.
fn lines() -> Vec<Case> {
    let payloads: [&[u8]; 22] = [
        b"GET /payload HTTP/1.1\nHost: a.example\n\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX: y\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\n\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX: y\rContent-Length: 5\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX: a\0b\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX: a\x01b\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX: a\x7fb\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX: y\r\n folded\r\n\r\n",
        b"GET /payload HTTP/1.1\r\n Host: a.example\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\n: empty\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nno colon\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX\tY: z\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX\xe9: z\r\n\r\n",
        b"GET /payload HTTP/1.1\r\nHost: a.example\r\nX(y): z\r\n\r\n",
        b"GET  /payload HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET\t/payload HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /payload  HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /payload HTTP/1.1 \r\nHost: a.example\r\n\r\n",
        b"GET /payload\r\nHost: a.example\r\n\r\n",
        b"GET /payload HTTP/2.0\r\nHost: a.example\r\n\r\n",
        b"\r\n\r\nGET /payload HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ];
    payloads
        .iter()
        .map(|payload| with(format!("line {:?}", payload.escape_ascii().to_string()), payload))
        .collect()
}

/// Chunks that break their own framing; the endpoint may see where they begin, never a whole request.
fn chunks() -> Vec<Case> {
    let long = [&b"1;"[..], &[b'e'; 5000], b"\r\nx\r\n0\r\n\r\n"].concat();
    let bodies: [&[u8]; 22] = [
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"3\t;e\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
        b";e\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\rabc\r\n0\r\n\r\n",
        b"3;e\nabc\r\n0\r\n\r\n",
        b"3;e\rX\r\nabc\r\n0\r\n\r\n",
        b"3;e\0\r\nabc\r\n0\r\n\r\n",
        b"10000000000000003\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX : y\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX: y\n\r\n",
        &long,
    ];
    let lead = head("POST /payload HTTP/1.1\nHost: a.example\nTransfer-Encoding: chunked\n\n");
    let named = |body: &&[u8]| format!("chunks {:?}", body[..body.len().min(40)].escape_ascii().to_string());
    bodies.iter().map(|body| with(named(body), &[&lead[..], body].concat())).collect()
}

/// Targets, hosts and methods that lead elsewhere.
fn targets() -> Vec<Case> {
    let heads = [
        "GET /payload HTTP/1.1",
        "GET /payload HTTP/1.1\nHost: a.example\nHost: b.example",
        "GET /payload HTTP/1.1\nHost:",
        "GET /payload HTTP/1.1\nHost: a@b",
        "GET /payload HTTP/1.1\nHost: a,b",
        "GET /payload HTTP/1.1\nHost: a/b",
        "GET /payload HTTP/1.1\nHost: a b",
        "GET /payload HTTP/1.1\nHost: a:99999",
        "GET /payload HTTP/1.1\nHost: [::1",
        "GET http://b.example/payload HTTP/1.1\nHost: a.example",
        "GET http://a.example@b.example/payload HTTP/1.1\nHost: a.example",
        "GET //b.example/payload HTTP/1.1\nHost: a.example",
        "GET payload HTTP/1.1\nHost: a.example",
        "GET a.example:80 HTTP/1.1\nHost: a.example",
        "GET * HTTP/1.1\nHost: a.example",
        "GET /payload#x HTTP/1.1\nHost: a.example",
        "GET /a/../payload HTTP/1.1\nHost: a.example",
        "GET /a/%2e%2E/payload HTTP/1.1\nHost: a.example",
        "GET /./payload HTTP/1.1\nHost: a.example",
        "GET /payload%00 HTTP/1.1\nHost: a.example",
        "GET /payload%zz HTTP/1.1\nHost: a.example",
        "GET /pay\\load HTTP/1.1\nHost: a.example",
        "GET /pay\u{e9}load HTTP/1.1\nHost: a.example",
        "CONNECT a.example:80 HTTP/1.1\nHost: a.example:80",
        "TRACE /payload HTTP/1.1\nHost: a.example",
        "G(T /payload HTTP/1.1\nHost: a.example",
    ];
    heads.iter().map(|text| with(format!("head {text:?}"), &head(&format!("{text}\n\n")))).collect()
}
