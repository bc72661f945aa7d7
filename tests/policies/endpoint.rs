//! Endpoints that do what the test says, whatever they speak, and remember what they were asked.
//!
//! What they do can be changed at any time; a connection that is open then goes on with what is new. Must never answer
//! what it was not asked, nor forget a call that it read.

use crate::protocol::Speaks;
use crate::support::free_port;
use crate::support::http1::many_may_wait;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What an endpoint does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Answers,
    /// Answers after this time.
    Slow(Duration),
    /// Says that it is too busy.
    Busy,
    /// Answers an error of its own.
    Fails,
    /// The same with every second call; answers the others.
    FailsHalf,
    /// Lets its service throw, find nothing, decline.
    Throws,
    /// Never answers.
    Holds,
    /// Ends the connection when a call was read.
    Dies,
    /// Ends the connection when a call arrives, and reads nothing of it.
    DiesUnread,
    /// Ends connections as soon as they are made.
    DiesOnAccept,
    /// Ends the call's stream alone when it was read; the connection, where that carries no streams.
    Resets,
    /// Ends the connection in the middle of an answer.
    Tears,
}

/// How an answer ends a call, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Ok,
    Busy,
    Error,
    Exception,
}

/// What to do with one call that was read.
pub(crate) enum Turn {
    Reply(Reply),
    ReplyAfter(Duration),
    /// Say nothing.
    Silence,
    /// End the connection.
    End,
    /// End the stream.
    Reset,
    /// Say one half of an answer, and end the connection.
    Half,
}

pub(crate) struct Inner {
    pub(crate) number: usize,
    port: u16,
    does: Mutex<Does>,
    /// The keys of the calls that were read, in their order.
    seen: Mutex<Vec<String>>,
    count: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Inner {
    /// A call was read: what is done with it?
    pub(crate) fn turn(&self, key: &str) -> Turn {
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().expect("no thread panics with it").push(key.to_owned());
        match *self.does.lock().expect("no thread panics with it") {
            Does::FailsHalf if count.is_multiple_of(2) => Turn::Reply(Reply::Error),
            Does::Answers | Does::FailsHalf => Turn::Reply(Reply::Ok),
            Does::Busy => Turn::Reply(Reply::Busy),
            Does::Fails => Turn::Reply(Reply::Error),
            Does::Throws => Turn::Reply(Reply::Exception),
            Does::Slow(time) => Turn::ReplyAfter(time),
            Does::Holds => Turn::Silence,
            Does::Resets => Turn::Reset,
            Does::Dies | Does::DiesUnread | Does::DiesOnAccept => Turn::End,
            Does::Tears => Turn::Half,
        }
    }

    /// The text of an answer: who gives it, and to what.
    pub(crate) fn signed(&self, key: &str) -> String {
        format!("by={} key={key}|", self.number)
    }

    fn does(&self) -> Does {
        *self.does.lock().expect("no thread panics with it")
    }
}

/// A listening endpoint; ends with its handle.
pub(crate) struct Endpoint {
    inner: Arc<Inner>,
    protocol: &'static dyn Speaks,
    accepting: Option<(TcpListener, JoinHandle<()>)>,
}

impl Endpoint {
    pub(crate) fn start(protocol: &'static dyn Speaks, number: usize) -> Self {
        // Another test process may take a port between the look and the bind.
        let bound = (0..100).find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok());
        let listener = bound.expect("a free port");
        let inner = Inner {
            number,
            port: listener.local_addr().expect("it is bound").port(),
            does: Mutex::new(Does::Answers),
            seen: Mutex::default(),
            count: AtomicUsize::new(0),
            open: Mutex::default(),
        };
        let mut endpoint = Self { inner: Arc::new(inner), protocol, accepting: None };
        endpoint.listen(listener);
        endpoint
    }

    fn listen(&mut self, listener: TcpListener) {
        many_may_wait(&listener);
        let (inner, protocol) = (Arc::clone(&self.inner), self.protocol);
        let clone = listener.try_clone().expect("a clone");
        self.accepting = Some((clone, thread::spawn(move || accept(&listener, &inner, protocol))));
    }

    /// `host:port`, as the conf has it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.inner.port)
    }

    pub(crate) fn set(&self, does: Does) {
        *self.inner.does.lock().expect("no thread panics with it") = does;
    }

    /// Calls that it read.
    pub(crate) fn calls(&self) -> usize {
        self.inner.count.load(Ordering::SeqCst)
    }

    /// How often it read this call.
    pub(crate) fn read(&self, key: &str) -> usize {
        self.inner.seen.lock().expect("no thread panics with it").iter().filter(|seen| *seen == key).count()
    }

    /// Ends as a killed process does: the port refuses connections, and all that were open end at once.
    pub(crate) fn kill(&mut self) {
        if let Some((listener, accepting)) = self.accepting.take() {
            // Closing alone would not do: a process that is just being started may have it open for a moment, too.
            socket2::SockRef::from(&listener).shutdown(Shutdown::Both).expect("it listens");
            accepting.join().expect("the accepting thread does not panic");
        }
        for stream in self.inner.open.lock().expect("no thread panics with it").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Is there again, on the same port.
    pub(crate) fn revive(&mut self) {
        let address = (Ipv4Addr::LOCALHOST, self.inner.port);
        self.listen(TcpListener::bind(address).expect("the port is free"));
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.kill();
        }
    }
}

fn accept(listener: &TcpListener, inner: &Arc<Inner>, protocol: &'static dyn Speaks) {
    while let Ok((stream, _)) = listener.accept() {
        if inner.does() == Does::DiesOnAccept {
            continue;
        }
        let Ok(clone) = stream.try_clone() else { continue };
        inner.open.lock().expect("no thread panics with it").push(clone);
        let inner = Arc::clone(inner);
        thread::spawn(move || {
            let Ok(mine) = stream.local_addr().and(stream.peer_addr()) else { return };
            let last = stream.try_clone();
            if inner.does() == Does::DiesUnread {
                // Closed with something unread, it ends by an RST.
                let _ = stream.peek(&mut [0]);
            } else {
                protocol.serve(stream, &inner);
            }
            // The clone kept there would keep it open.
            let mut open = inner.open.lock().expect("no thread panics with it");
            open.retain(|other| other.peer_addr().is_ok_and(|other| other != mine));
            drop(open);
            if let Ok(last) = last {
                let _ = last.shutdown(Shutdown::Both);
            }
        });
    }
}

/// Runs what is to be said later.
pub(crate) fn later(time: Duration, say: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        thread::sleep(time);
        say();
    });
}
