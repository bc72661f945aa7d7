//! One client connection: calls go out with ids of its own, every answer is checked against the call it names.
//!
//! Ids start at the same number on every connection, as they do in real clients, so that a proxy which shares an
//! upstream connection must keep them apart; the payload tells whether it did. Must never count an answer as good
//! by id alone.

use crate::echo::write_some;
use crate::payload::Payload;
use crate::wire::{Answer, Protocol, Template};
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

/// Calls that may be unanswered on one connection at a time.
pub const OUTSTANDING_MAX: usize = 4096;

/// What every connection of a run shares.
pub struct Shared {
    /// Protocol spoken.
    pub protocol: Protocol,
    /// Request frame.
    pub template: Template,
    /// Payload of each call.
    pub payload: Payload,
    /// Number of the next call of the whole run.
    pub next_seq: u64,
}

#[derive(Clone, Copy, Default)]
struct Call {
    id: u64,
    seq: u64,
    due: u64,
    open: bool,
}

/// One finished call.
pub struct Done {
    /// The instant it was due, as given to [`Client::call`].
    pub due: u64,
    /// Whether the answer was exactly the expected one.
    pub good: bool,
}

/// A connection and its unanswered calls.
pub struct Client {
    stream: TcpStream,
    partial: Vec<u8>,
    unsent: Vec<u8>,
    calls: Vec<Call>,
    free: Vec<usize>,
    turn: u64,
    /// Answers that named no open call of this connection.
    pub strays: u64,
}

impl Client {
    /// Takes a connected stream.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (calls, free) = (Vec::new(), Vec::new());
        Ok(Self { stream, partial: Vec::new(), unsent: Vec::new(), calls, free, turn: 1, strays: 0 })
    }

    /// The socket, to be watched.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Calls without an answer yet.
    pub fn open_calls(&self) -> usize {
        self.calls.len() - self.free.len()
    }

    /// Whether the socket took less than there was to send.
    pub fn blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Appends one call to what the next [`Client::flush`] sends; false when too many are open.
    pub fn call(&mut self, shared: &mut Shared, due: u64) -> bool {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.calls.len() < OUTSTANDING_MAX => {
                self.calls.push(Call::default());
                self.calls.len() - 1
            }
            None => return false,
        };
        // The slot in the low bits finds the call again; the turn above it makes the id new each time.
        let id = (self.turn * OUTSTANDING_MAX as u64 + slot as u64) & shared.template.id_max();
        self.turn += 1;
        let seq = shared.next_seq;
        shared.next_seq += 1;
        self.calls[slot] = Call { id, seq, due, open: true };
        shared.template.stamp(id, seq, &shared.payload, &mut self.unsent);
        true
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let sent = write_some(&self.stream, &self.unsent)?;
        self.unsent.drain(..sent);
        Ok(())
    }

    /// Reads once and reports every call that was answered; an error means that the connection is over.
    pub fn receive(&mut self, shared: &Shared, scratch: &mut [u8], done: &mut Vec<Done>) -> io::Result<()> {
        let kept = self.partial.len();
        scratch[..kept].copy_from_slice(&self.partial);
        let got = match (&self.stream).read(&mut scratch[kept..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        self.partial.clear();
        let mut rest = &scratch[..kept + got];
        let malformed = |error| io::Error::other(format!("{error}"));
        while let Some(len) = shared.protocol.frame_len(rest, shared.payload.len()).map_err(malformed)? {
            let Some((frame, after)) = rest.split_at_checked(len) else { break };
            self.settle(shared, &shared.protocol.open(frame).map_err(malformed)?, done);
            rest = after;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    fn settle(&mut self, shared: &Shared, answer: &Answer<'_>, done: &mut Vec<Done>) {
        let (id, payload) = match *answer {
            Answer::Event => return,
            Answer::Refused { id, .. } => (id, None),
            Answer::Value { id, payload } => (id, Some(payload)),
        };
        let slot = (id % OUTSTANDING_MAX as u64) as usize;
        match self.calls.get_mut(slot) {
            Some(call) if call.open && call.id == id => {
                call.open = false;
                self.free.push(slot);
                let good = payload.is_some_and(|bytes| shared.payload.matches(call.seq, bytes));
                done.push(Done { due: call.due, good });
            }
            _ => self.strays += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Client, Shared) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
        let template = Template::new(Protocol::Bolt, "a.B", 32);
        (client, Shared { protocol: Protocol::Bolt, template, payload: Payload::new(32), next_seq: 0 })
    }

    #[test]
    fn an_answer_counts_once_and_only_with_its_own_payload() {
        let (mut client, mut shared) = pair();
        let mut text = vec![0; 32];
        assert!(client.call(&mut shared, 5) && client.call(&mut shared, 6));
        let (first, second) = (client.calls[0].id, client.calls[1].id);
        let mut done = Vec::new();
        shared.payload.write(1, &mut text);
        client.settle(&shared, &Answer::Value { id: second, payload: &text }, &mut done);
        client.settle(&shared, &Answer::Value { id: second, payload: &text }, &mut done);
        client.settle(&shared, &Answer::Value { id: first, payload: &text }, &mut done);
        assert_eq!(done.iter().map(|d| (d.due, d.good)).collect::<Vec<_>>(), [(6, true), (5, false)]);
        assert_eq!((client.strays, client.open_calls()), (1, 0));
        assert!(client.call(&mut shared, 7) && client.calls.iter().all(|call| call.id != 0));
        assert!(
            client.calls.iter().filter(|call| call.open).all(|call| call.id != first && call.id != second)
        );
    }
}
