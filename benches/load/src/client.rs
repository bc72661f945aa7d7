//! One client connection: calls go out with ids of its own, every answer is checked against the call it names.
//!
//! Ids start at the same number on every connection, as they do in real clients, so that a proxy which shares an
//! upstream connection must keep them apart; the payload tells whether it did. Where answers have no id (HTTP/1) they
//! belong to the calls in their order, and an open loop sends one call at a time: the next waits here, not on the wire,
//! as in clients that do not pipeline. Must never count an answer as good by its id or place alone.

use crate::echo::write_some;
use crate::grpc::{Caller, UNARY};
use crate::payload::Payload;
use crate::wire::{Answer, Protocol, Template};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

/// Calls that may be unanswered on one connection at a time.
pub const OUTSTANDING_MAX: usize = 4096;

/// What every connection of a run shares.
pub struct Shared {
    /// Protocol spoken.
    pub protocol: Protocol,
    /// Service that is called.
    pub service: String,
    /// Request frame.
    pub template: Template,
    /// Payload of each call.
    pub payload: Payload,
    /// Number of the next call of the whole run.
    pub next_seq: u64,
    /// Calls that are sent on a connection before the first of them is answered; further ones wait.
    pub depth: usize,
}

impl Shared {
    /// Calls of `service` with arguments of `payload` bytes.
    pub fn new(protocol: Protocol, service: &str, payload: usize) -> Self {
        let payload = Payload::new(payload);
        let template = Template::new(protocol, service, payload.len());
        Self { protocol, service: service.to_owned(), template, payload, next_seq: 0, depth: OUTSTANDING_MAX }
    }
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
    /// Calls on the wire in their order, by slot: for answers without an id.
    order: VecDeque<usize>,
    /// When calls were due that are not on the wire yet.
    waiting: VecDeque<u64>,
    over: bool,
    grpc: Option<Box<Caller>>,
    /// Answers that named no open call of this connection.
    pub strays: u64,
}

impl Client {
    /// Takes a connected stream.
    pub fn new(stream: TcpStream, shared: &Shared) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut unsent = Vec::new();
        let caller = |unsent: &mut Vec<u8>| Box::new(Caller::new(&shared.service, UNARY, unsent));
        let grpc = (shared.protocol == Protocol::Grpc).then(|| caller(&mut unsent));
        Ok(Self {
            stream,
            partial: Vec::new(),
            unsent,
            calls: Vec::new(),
            free: Vec::new(),
            turn: 1,
            order: VecDeque::new(),
            waiting: VecDeque::new(),
            over: false,
            grpc,
            strays: 0,
        })
    }

    /// The socket, to be watched.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Calls that are sent and have no answer yet.
    pub fn open_calls(&self) -> usize {
        self.calls.len() - self.free.len()
    }

    /// Calls that are not sent yet.
    pub fn waiting_calls(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the other side said that it answers nothing more here.
    pub fn over(&self) -> bool {
        self.over
    }

    /// Takes over the calls that another connection, now gone, had not sent yet.
    pub fn inherit(&mut self, gone: &mut Self) {
        self.waiting.append(&mut gone.waiting);
    }

    /// Whether the socket took less than there was to send.
    pub fn blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Appends one call to what the next [`Client::flush`] sends, or lets it wait; false when too many are open.
    pub fn call(&mut self, shared: &mut Shared, due: u64) -> bool {
        if self.open_calls() + self.waiting.len() >= OUTSTANDING_MAX {
            return false;
        }
        self.waiting.push_back(due);
        self.refill(shared);
        true
    }

    /// Appends waiting calls to what the next [`Client::flush`] sends, as many as may be on the wire.
    pub fn refill(&mut self, shared: &mut Shared) {
        let ready = |grpc: &Option<Box<Caller>>| grpc.as_ref().is_none_or(|caller| caller.ready());
        while !self.over && self.open_calls() < shared.depth && ready(&self.grpc) {
            let Some(due) = self.waiting.pop_front() else { break };
            self.stamp(shared, due);
        }
    }

    fn stamp(&mut self, shared: &mut Shared, due: u64) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.calls.push(Call::default());
            self.calls.len() - 1
        });
        // The slot in the low bits finds the call again; the turn above it makes the id new each time.
        let id = (self.turn * OUTSTANDING_MAX as u64 + slot as u64) & shared.template.id_max();
        self.turn += 1;
        let seq = shared.next_seq;
        shared.next_seq += 1;
        self.calls[slot] = Call { id, seq, due, open: true };
        if let Some(caller) = &mut self.grpc {
            caller.call(id, seq, &shared.payload, &mut self.unsent);
            return;
        }
        shared.template.stamp(id, seq, &shared.payload, &mut self.unsent);
        if shared.protocol == Protocol::Http1 {
            self.order.push_back(slot);
        }
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
        if let Some(mut caller) = self.grpc.take() {
            let mut unsent = std::mem::take(&mut self.unsent);
            let taken = caller.take(&mut rest, &mut unsent, |answer| self.settle(shared, answer, done));
            caller.returned().for_each(|id| self.take_back(id));
            self.over = caller.over();
            (self.grpc, self.unsent) = (Some(caller), unsent);
            self.partial.extend_from_slice(rest);
            return taken.map_err(malformed);
        }
        while let Some(len) = shared.protocol.frame_len(rest, shared.payload.len()).map_err(malformed)? {
            let Some((frame, after)) = rest.split_at_checked(len) else { break };
            self.settle(shared, &shared.protocol.open(frame).map_err(malformed)?, done);
            self.over |= shared.protocol.closes(frame);
            rest = after;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// A call that the other side did not take waits again, as gRPC clients have it.
    fn take_back(&mut self, id: u64) {
        let slot = (id % OUTSTANDING_MAX as u64) as usize;
        self.calls[slot].open = false;
        self.free.push(slot);
        self.waiting.push_front(self.calls[slot].due);
    }

    fn settle(&mut self, shared: &Shared, answer: &Answer<'_>, done: &mut Vec<Done>) {
        let (id, payload) = match *answer {
            Answer::Event => return,
            Answer::Refused { id, .. } => (id, None),
            Answer::Value { id, payload } => (id, Some(payload)),
        };
        let slot = match id {
            Some(id) => Some((id % OUTSTANDING_MAX as u64) as usize),
            None => self.order.pop_front(),
        };
        let Some(slot) = slot else {
            self.strays += 1;
            return;
        };
        match self.calls.get_mut(slot) {
            Some(call) if call.open && id.is_none_or(|id| call.id == id) => {
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
    use std::io::Write;
    use std::net::TcpListener;

    fn pair(protocol: Protocol) -> (Client, Shared) {
        let (listener, shared) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), Shared::new(protocol, "a.B", 32));
        let client =
            Client::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap(), &shared).unwrap();
        (client, shared)
    }

    fn payload(shared: &Shared, seq: u64) -> Vec<u8> {
        let mut text = vec![0; 32];
        shared.payload.write(seq, &mut text);
        text
    }

    #[test]
    fn an_answer_counts_once_and_only_with_its_own_payload() {
        let (mut client, mut shared) = pair(Protocol::Bolt);
        assert!(client.call(&mut shared, 5) && client.call(&mut shared, 6));
        let (first, second) = (Some(client.calls[0].id), Some(client.calls[1].id));
        let (mut done, text) = (Vec::new(), payload(&shared, 1));
        client.settle(&shared, &Answer::Value { id: second, payload: &text }, &mut done);
        client.settle(&shared, &Answer::Value { id: second, payload: &text }, &mut done);
        client.settle(&shared, &Answer::Value { id: first, payload: &text }, &mut done);
        assert_eq!(done.iter().map(|d| (d.due, d.good)).collect::<Vec<_>>(), [(6, true), (5, false)]);
        assert_eq!((client.strays, client.open_calls()), (1, 0));
        assert!(client.call(&mut shared, 7) && client.calls.iter().all(|call| call.id != 0));
        assert!(
            client
                .calls
                .iter()
                .filter(|call| call.open)
                .all(|call| ![first, second].contains(&Some(call.id)))
        );
    }

    #[test]
    fn answers_without_an_id_belong_to_the_calls_in_their_order() {
        let (mut client, mut shared) = pair(Protocol::Http1);
        assert!((0..3).all(|due| client.call(&mut shared, due)));
        let mut done = Vec::new();
        // The third call's answer in the second's place is wrong, and so is the second's after it.
        for seq in [0, 2, 1, 3] {
            let text = payload(&shared, seq);
            client.settle(&shared, &Answer::Value { id: None, payload: &text }, &mut done);
        }
        assert_eq!(
            done.iter().map(|d| (d.due, d.good)).collect::<Vec<_>>(),
            [(0, true), (1, false), (2, false)]
        );
        assert_eq!((client.strays, client.open_calls()), (1, 0));
    }

    #[test]
    fn a_call_that_was_not_taken_keeps_its_time_and_waits_for_another_connection() {
        let (listener, mut shared) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), Shared::new(Protocol::Grpc, "bench.Echo", 32));
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut client, mut peer) = (Client::new(stream, &shared).unwrap(), listener.accept().unwrap().0);
        assert!((5..7).all(|due| client.call(&mut shared, due)));
        let (mut answers, mut done) = (Vec::new(), Vec::new());
        crate::grpc::Server::new(&mut answers).take(&mut &client.unsent[..], &mut answers).unwrap();
        // Only stream 1 was taken, says the peer after its settings, and then answers both.
        let go_away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        answers.splice(28..28, go_away);
        peer.write_all(&answers).unwrap();
        let mut scratch = vec![0; 1 << 16];
        while done.is_empty() {
            client.receive(&shared, &mut scratch, &mut done).unwrap();
        }
        assert_eq!(done.iter().map(|done| (done.due, done.good)).collect::<Vec<_>>(), [(5, true)]);
        // What it answered beyond its word belongs to no call.
        assert_eq!((client.open_calls(), client.waiting.front()), (0, Some(&6)));
        assert!(client.over() && client.strays > 0);
        client.refill(&mut shared);
        assert_eq!(client.waiting_calls(), 1, "nothing is sent any more");
    }

    #[test]
    fn calls_beyond_the_depth_wait_and_go_on_elsewhere() {
        let (mut client, mut shared) = pair(Protocol::Http1);
        shared.depth = 1;
        assert!((0..3).all(|due| client.call(&mut shared, due)));
        assert_eq!((client.open_calls(), client.waiting_calls(), shared.next_seq), (1, 2, 1));
        let (mut done, text) = (Vec::new(), payload(&shared, 0));
        client.settle(&shared, &Answer::Value { id: None, payload: &text }, &mut done);
        client.refill(&mut shared);
        assert_eq!((client.open_calls(), client.waiting_calls(), shared.next_seq), (1, 1, 2));
        client.over = true;
        let (mut next, _) = pair(Protocol::Http1);
        next.inherit(&mut client);
        next.refill(&mut shared);
        assert_eq!((client.waiting_calls(), next.open_calls(), next.waiting_calls()), (0, 1, 0));
        assert!(client.call(&mut shared, 9) && client.waiting_calls() == 1, "nothing is sent any more");
    }
}
