//! The few lines of HTTP/1.1 that asking the admin address takes: one request a connection, read to its end.
//!
//! Must never follow what the answer says (no redirects, no keep-alive): tests look at single answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Status and body, or the reason why there was no answer.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// As `http_get`, with an empty body sent.
pub(crate) fn http_post(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    request(
        address,
        &format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    )
}

/// As `http_get`, by DELETE.
pub(crate) fn http_delete(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    request(address, &format!("DELETE {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

fn request(address: SocketAddr, head: &str) -> Result<(u16, String), String> {
    let mut answer = Vec::new();
    let exchange = |answer: &mut Vec<u8>| -> std::io::Result<()> {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(head.as_bytes())?;
        socket.read_to_end(answer).map(drop)
    };
    exchange(&mut answer).map_err(|e| format!("{address}: {e}"))?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("not an HTTP answer: {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| format!("no status in {head:?}"))?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { joined(body)? } else { body.to_owned() }))
}

/// The content of a chunked body.
fn joined(mut body: &str) -> Result<String, String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").ok_or("a chunked body without its end")?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|e| format!("chunk size {size:?}: {e}"))?;
        if size == 0 {
            return Ok(whole);
        }
        whole.push_str(rest.get(..size).ok_or("a chunk shorter than it says")?);
        body = rest.get(size + 2..).ok_or("a chunk without its end")?;
    }
}
