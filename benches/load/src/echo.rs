//! The echo service behind the proxy under test, as cheap as it can be: it shares its core with the load generator.
//!
//! One thread: read once, answer every whole frame, write once. Partial frames and unwritten answers wait in their
//! connection; an idle connection owns no buffer. Must never answer anything that it did not understand: such a
//! connection is closed, so that a proxy which mangles bytes shows up as failed calls.

use crate::grpc::Server;
use crate::poll::Poll;
use crate::wire::Protocol;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const BACKLOG: i32 = 4096;
/// Tokens from here on are listeners, those below are connections.
const LISTENERS: u64 = 1 << 32;

struct Peer {
    stream: TcpStream,
    partial: Vec<u8>,
    unsent: Vec<u8>,
    grpc: Option<Box<Server>>,
}

/// A listener whose backlog takes thousands of connections at once.
pub fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    bind(&fd, &address)?;
    listen(&fd, BACKLOG)?;
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves on all of these until `until` (for ever without one).
pub fn serve(listeners: &[TcpListener], protocol: Protocol, until: Option<Instant>) -> io::Result<()> {
    let mut poll = Poll::new()?;
    for (listener, token) in listeners.iter().zip(LISTENERS..) {
        poll.add(listener, token)?;
    }
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let (mut scratch, mut out) = (vec![0; 256 * 1024], Vec::new());
    while until.is_none_or(|end| Instant::now() < end) {
        let count = poll.wait(until.map(|_| Duration::from_millis(20)))?;
        for i in 0..count {
            let Some(ready) = poll.ready(i) else { break };
            if let Some(at) = ready.token.checked_sub(LISTENERS) {
                if let Some(listener) = listeners.get(at as usize) {
                    accept(listener, protocol, &poll, &mut peers);
                }
                continue;
            }
            let Some(slot) = peers.get_mut(ready.token as usize) else { continue };
            let Some(peer) = slot else { continue };
            if turn(peer, protocol, ready.readable, &mut scratch, &mut out).is_err() {
                *slot = None;
            } else if ready.writable || !peer.unsent.is_empty() {
                poll.want_write(&peer.stream, ready.token, !peer.unsent.is_empty())?;
            }
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, protocol: Protocol, poll: &Poll, peers: &mut Vec<Option<Peer>>) {
    while let Ok((stream, _)) = listener.accept() {
        let place = peers.iter().position(Option::is_none).unwrap_or(peers.len());
        let fine = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        if fine.and_then(|()| poll.add(&stream, place as u64)).is_err() {
            continue;
        }
        let mut unsent = Vec::new();
        let grpc = (protocol == Protocol::Grpc).then(|| Box::new(Server::new(&mut unsent)));
        let peer = Some(Peer { stream, partial: Vec::new(), unsent, grpc });
        match peers.get_mut(place) {
            Some(slot) => *slot = peer,
            None => peers.push(peer),
        }
    }
}

/// One readiness event of one connection; an error ends the connection.
fn turn(
    peer: &mut Peer,
    protocol: Protocol,
    readable: bool,
    scratch: &mut [u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    out.clear();
    out.append(&mut peer.unsent);
    if readable {
        match (&peer.stream).read(scratch) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => answer_all(peer, protocol, &scratch[..n], out)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let sent = if out.is_empty() { 0 } else { write_some(&peer.stream, out)? };
    peer.unsent.extend_from_slice(&out[sent..]);
    while let Some(server) = peer.grpc.as_mut().filter(|_| peer.unsent.is_empty()) {
        out.clear();
        if !server.fill(out) {
            break;
        }
        let sent = write_some(&peer.stream, out)?;
        peer.unsent.extend_from_slice(&out[sent..]);
    }
    Ok(())
}

fn answer_all(peer: &mut Peer, protocol: Protocol, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    if protocol == Protocol::Tcp {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let joined = !peer.partial.is_empty();
    let mut kept = std::mem::take(&mut peer.partial);
    let mut rest = if joined {
        kept.extend_from_slice(bytes);
        &kept[..]
    } else {
        bytes
    };
    let malformed = |error| io::Error::other(format!("{error}"));
    if let Some(server) = &mut peer.grpc {
        server.take(&mut rest, out).map_err(malformed)?;
        peer.partial = rest.to_vec();
        return Ok(());
    }
    while let Some(len) = protocol.frame_len(rest, 0).map_err(malformed)? {
        let Some((frame, after)) = rest.split_at_checked(len) else { break };
        protocol.answer(frame, out).map_err(malformed)?;
        rest = after;
    }
    peer.partial = rest.to_vec();
    Ok(())
}

/// Writes what the socket takes now.
pub fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Ok(n) => Ok(n),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}
