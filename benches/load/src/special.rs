//! Two measurements that are not load: many idle connections held open, and the time from starting a proxy to its
//! first answer.
//!
//! The proxy is started from here, not from the driver, because an interpreter's pauses are as long as the time that
//! is measured. Must never leave the started process behind: it is asked to end, then made to.

use crate::client::{Client, Done, Shared};
use crate::cpu;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const BETWEEN_TRIES: Duration = Duration::from_micros(100);
const ANSWER_WAIT: Duration = Duration::from_secs(2);
const START_MAX: Duration = Duration::from_secs(20);
const END_MAX: Duration = Duration::from_secs(5);

/// One call on a fresh connection, answered or an error.
fn call_once(client: &mut Client, shared: &mut Shared, scratch: &mut [u8]) -> io::Result<()> {
    let mut done: Vec<Done> = Vec::new();
    let end = Instant::now() + ANSWER_WAIT;
    client.call(shared, 0);
    client.flush()?;
    while done.is_empty() {
        if Instant::now() > end {
            return Err(ErrorKind::TimedOut.into());
        }
        client.receive(shared, scratch, &mut done)?;
        if client.blocked() {
            client.flush()?;
        }
    }
    if done.iter().all(|call| call.good) { Ok(()) } else { Err(io::Error::other("wrong answer")) }
}

/// Opens `count` connections (with `calls` answered calls on each), says `held N`, and keeps them until standard
/// input ends; then says how many were closed by the other side meanwhile.
pub fn idle(target: SocketAddr, count: usize, calls: usize, shared: &mut Shared) -> io::Result<String> {
    let mut scratch = vec![0; 64 * 1024];
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Client::new(TcpStream::connect(target)?, shared)?;
        // A protocol's greeting.
        client.flush()?;
        for _ in 0..calls {
            call_once(&mut client, shared, &mut scratch)?;
        }
        clients.push(client);
        if calls == 0 {
            // Nothing else paces the opening; a listener's queue is short.
            sleep(BETWEEN_TRIES);
        }
    }
    for client in &mut clients {
        // What the other side says first, and what answers it.
        let _ = client.receive(shared, &mut scratch, &mut Vec::new());
        client.flush()?;
    }
    writeln!(io::stdout(), "held {count}")?;
    let _ = io::stdin().lock().read_line(&mut String::new());
    let mut done = Vec::new();
    let lost =
        clients.iter_mut().filter_map(|client| client.receive(shared, &mut scratch, &mut done).err()).count();
    Ok(format!(r#"{{"held": {count}, "closed": {lost}}}"#))
}

/// Starts `command` on `core` and calls through `target` until an answer comes.
pub fn first_answer(
    target: SocketAddr,
    command: &[String],
    core: usize,
    own_core: usize,
    shared: &mut Shared,
) -> io::Result<String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "no command to start"));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A child inherits the affinity of the thread that starts it.
    cpu::pin(core)?;
    let started = Instant::now();
    let mut child = command.spawn()?;
    cpu::pin(own_core)?;
    let answered = until_answer(target, started, &mut child, shared);
    end(&mut child)?;
    Ok(format!(r#"{{"first_answer_us": {}}}"#, answered?.as_micros()))
}

fn until_answer(
    target: SocketAddr,
    started: Instant,
    child: &mut Child,
    shared: &mut Shared,
) -> io::Result<Duration> {
    let mut scratch = vec![0; 64 * 1024];
    while started.elapsed() < START_MAX {
        if let Ok(stream) = TcpStream::connect(target) {
            let mut client = Client::new(stream, shared)?;
            if call_once(&mut client, shared, &mut scratch).is_ok() {
                return Ok(started.elapsed());
            }
        }
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("ended before it answered: {status}")));
        }
        sleep(BETWEEN_TRIES);
    }
    Err(io::Error::new(ErrorKind::TimedOut, "no answer from the started program"))
}

fn end(child: &mut Child) -> io::Result<()> {
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let deadline = Instant::now() + END_MAX;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
