//! One long streaming answer: how fast it comes through, what that costs the proxy, and whether it is all there.
//!
//! Reads as fast as it can and gives windows back as it reads, as clients do. Must never count bytes before they are
//! compared: every message has to be the next one of its stream.

use crate::cpu;
use crate::grpc::{Caller, STREAMED, STREAMED_PAYLOAD, STREAMING};
use crate::payload::Payload;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const SILENCE_MAX: Duration = Duration::from_secs(10);
const READ: usize = 256 * 1024;
/// Bytes of payload that a request has everywhere else, too.
const REQUEST: usize = 256;

/// Asks for `bytes` of messages (rounded up to whole ones) and takes them; the result as JSON.
pub fn run(target: SocketAddr, service: &str, bytes: u64, cpu_of: &[u32]) -> io::Result<String> {
    let count = bytes.div_ceil(STREAMED as u64).max(1);
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let (before, began) = (cpu::time_of(cpu_of), Instant::now());
    take(&mut stream, service, count)?;
    // A thread that ended in between took its time along.
    let (seconds, used) = (began.elapsed().as_secs_f64(), cpu::time_of(cpu_of).saturating_sub(before));
    let bytes = count * STREAMED as u64;
    let (rate, used) = (bytes as f64 / 1e6 / seconds, used as f64 / 1e9);
    let mut out = format!(r#"{{"bytes": {bytes}, "seconds": {seconds:.4}, "mb_per_s": {rate:.1}"#);
    if !cpu_of.is_empty() {
        let each = used / bytes as f64 * f64::from(1 << 30);
        let _ = write!(out, r#", "cpu_seconds": {used:.4}, "cpu_s_per_gib": {each:.4}"#);
    }
    Ok(out + "}")
}

fn take(stream: &mut TcpStream, service: &str, count: u64) -> io::Result<()> {
    let (mut out, mut buffer, mut kept) = (Vec::new(), vec![0; READ], 0);
    let mut caller = Caller::new(service, STREAMING, &mut out);
    caller.call(0, count, &Payload::new(REQUEST), &mut out);
    let (expected, mut next, mut wrong) = (Payload::new(STREAMED_PAYLOAD), 0, 0_u64);
    loop {
        stream.write_all(&out)?;
        out.clear();
        let got = stream.read(&mut buffer[kept..])?;
        if got == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut rest = &buffer[..kept + got];
        let ended = caller.take_stream(&mut rest, &mut out, |message| {
            wrong += u64::from(!message.is_some_and(|bytes| expected.matches(next, bytes)));
            next += 1;
        });
        let used = kept + got - rest.len();
        buffer.copy_within(used..kept + got, 0);
        kept = kept + got - used;
        match ended.map_err(|error| io::Error::other(format!("{error}")))? {
            Some(0) if next == count && wrong == 0 => return Ok(()),
            None if wrong == 0 => {}
            status => {
                let what = format!("{next} of {count} messages, {wrong} wrong, status {status:?}");
                return Err(io::Error::other(what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{echo, grpc::SERVICE, wire::Protocol};

    #[test]
    fn a_stream_longer_than_every_window_comes_whole() {
        let listener = echo::listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let target = listener.local_addr().unwrap();
        let end = Instant::now() + Duration::from_secs(3);
        let server = std::thread::spawn(move || echo::serve(&[listener], Protocol::Grpc, Some(end)));
        for bytes in [1, 20 << 20] {
            let text = run(target, SERVICE, bytes, &[std::process::id()]).unwrap();
            let whole = bytes.div_ceil(16_384) * 16_384;
            assert!(text.starts_with(&format!(r#"{{"bytes": {whole}, "#)), "{text}");
            assert!(text.contains("cpu_s_per_gib"), "{text}");
        }
        server.join().unwrap().unwrap();
    }
}
