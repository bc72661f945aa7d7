//! The two loops: closed (a new call for every answer) and open (a call at every scheduled instant, answered or not).
//!
//! The open loop counts latency from the scheduled instant, so that a stall is felt by every call that was due in it,
//! not only by the one that met it. Must never let warm-up or the drain at the end into the numbers.

use crate::client::{Client, Done, Shared};
use crate::cpu;
use crate::poll::{Clock, Poll, acknowledge, ticker};
use crate::wire::Protocol;
use hdrhistogram::Histogram;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMER: u64 = u64::MAX;
const DRAIN: u64 = 2_000_000_000;
const RECONNECT_PAUSE: Duration = Duration::from_millis(2);
const RECONNECTS_MAX: usize = 500;

/// How calls are paced.
#[derive(Clone, Copy)]
pub enum Pace {
    /// So many calls open on each connection, always.
    Closed(usize),
    /// So many calls a second over all connections.
    Open(f64),
}

/// One run.
pub struct Plan {
    /// The proxy, or the echo service for a direct run.
    pub target: SocketAddr,
    /// Connections, all opened before the first call.
    pub connections: usize,
    /// Pace.
    pub pace: Pace,
    /// Time before anything is counted.
    pub warmup: Duration,
    /// Time that is counted.
    pub duration: Duration,
    /// Processes whose CPU time is taken at both ends of the counted time.
    pub cpu_of: Vec<u32>,
}

/// What a run gave.
pub struct Outcome {
    /// Good calls.
    pub calls: u64,
    /// Answers that were refusals, carried wrong bytes, or belonged to no open call.
    pub wrong: u64,
    /// Calls without any answer.
    pub lost: u64,
    /// Connections that the other side closed.
    pub closed: u64,
    /// Length of the counted time.
    pub seconds: f64,
    /// Latency, ns.
    pub latency: Histogram<u64>,
    /// How late calls were sent, ns (open loop): the generator's own part of the latency.
    pub late: Histogram<u64>,
    /// CPU time of the watched processes within the counted time, ns.
    pub cpu: u64,
}

/// A histogram for nanoseconds up to a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// When the next call of an open loop is due, and on which connection.
struct Schedule {
    next: u64,
    interval: u64,
    token: usize,
}

struct Run<'a> {
    plan: &'a Plan,
    shared: Shared,
    poll: Poll,
    clock: Clock,
    clients: Vec<Client>,
    scratch: Vec<u8>,
    done: Vec<Done>,
    /// Counted time.
    from: u64,
    until: u64,
    issuing: bool,
    outcome: Outcome,
}

/// Carries the plan out.
pub fn run(plan: &Plan, mut shared: Shared) -> io::Result<Outcome> {
    // HTTP/1 clients seldom pipeline. In a closed loop it is the plan that says how many calls are open.
    if shared.protocol == Protocol::Http1 && matches!(plan.pace, Pace::Open(_)) {
        shared.depth = 1;
    }
    let mut run = Run::start(plan, shared)?;
    match plan.pace {
        Pace::Closed(outstanding) => run.closed(outstanding)?,
        Pace::Open(rate) => run.open(rate)?,
    }
    run.drain()?;
    Ok(run.outcome)
}

impl<'a> Run<'a> {
    fn start(plan: &'a Plan, shared: Shared) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::new();
        for token in 0..plan.connections {
            let client = Client::new(TcpStream::connect(plan.target)?, &shared)?;
            poll.add(client.stream(), token as u64)?;
            clients.push(client);
        }
        let clock = Clock::start();
        let from = clock.now() + plan.warmup.as_nanos() as u64;
        let until = from + plan.duration.as_nanos() as u64;
        let (latency, late) = (histogram(), histogram());
        let outcome = Outcome { calls: 0, wrong: 0, lost: 0, closed: 0, seconds: 0.0, latency, late, cpu: 0 };
        let scratch = vec![0; 2 << 20];
        let done = Vec::new();
        Ok(Self { plan, shared, poll, clock, clients, scratch, done, from, until, issuing: true, outcome })
    }

    fn closed(&mut self, outstanding: usize) -> io::Result<()> {
        let now = self.clock.now();
        for token in 0..self.clients.len() {
            for _ in 0..outstanding {
                self.call(token, now);
            }
            self.flush(token)?;
        }
        // What is on its way when the counted time ends is neither good nor lost: it is drained uncounted.
        self.until_end(|run, ready| run.events(ready, true))
    }

    fn open(&mut self, rate: f64) -> io::Result<()> {
        let interval = (1e9 / rate) as u64;
        // The schedule starts before the timer: a tick that came before its call was due would delay it by a whole
        // interval.
        let mut schedule = Schedule { next: self.clock.now() + interval, interval, token: 0 };
        let timer = ticker(Duration::from_nanos(interval))?;
        self.poll.add(&timer, TIMER)?;
        self.until_end(|run, ready| {
            acknowledge(&timer);
            run.send_due(&mut schedule, run.clock.now())?;
            run.events(ready, false)
        })?;
        // A stall across the end of the counted time must not hide the calls that were due in it.
        self.send_due(&mut schedule, self.until - 1)
    }

    /// Sends every call that was due up to `limit`.
    fn send_due(&mut self, schedule: &mut Schedule, limit: u64) -> io::Result<()> {
        while schedule.next <= limit {
            let (due, token) = (schedule.next, schedule.token);
            schedule.next += schedule.interval;
            schedule.token = (token + 1) % self.clients.len();
            if (self.from..self.until).contains(&due) {
                let _ = self.outcome.late.record(self.clock.now().saturating_sub(due).max(1));
            }
            self.call(token, due);
            self.flush(token)?;
        }
        Ok(())
    }

    /// Turns the loop until the counted time is over, taking CPU times at its two ends.
    fn until_end(&mut self, mut turn: impl FnMut(&mut Self, usize) -> io::Result<()>) -> io::Result<()> {
        let mut started = None;
        loop {
            let now = self.clock.now();
            if started.is_none() && now >= self.from {
                started = Some((cpu::time_of(&self.plan.cpu_of), now));
                // The reading itself took time; the counted time begins after it.
                self.from = self.clock.now();
                self.until = self.from + self.plan.duration.as_nanos() as u64;
            }
            if now >= self.until {
                break;
            }
            let next = if started.is_some() { self.until } else { self.from };
            let ready = self.poll.wait(Some(Duration::from_nanos(next.saturating_sub(now))))?;
            turn(self, ready)?;
        }
        let ended = self.clock.now();
        let (cpu_before, _) = started.unwrap_or_default();
        self.outcome.cpu = cpu::time_of(&self.plan.cpu_of).saturating_sub(cpu_before);
        self.outcome.seconds = (ended - self.from) as f64 / 1e9;
        self.issuing = false;
        Ok(())
    }

    fn call(&mut self, token: usize, due: u64) {
        if !self.clients[token].call(&mut self.shared, due) {
            self.outcome.lost += 1;
        }
    }

    fn flush(&mut self, token: usize) -> io::Result<()> {
        let client = &mut self.clients[token];
        if client.flush().is_err() {
            return self.replace(token);
        }
        // A flush that sent all needs no system call to say so, unless room to write was being watched for.
        if client.blocked() { self.poll.want_write(client.stream(), token as u64, true) } else { Ok(()) }
    }

    fn events(&mut self, ready: usize, again: bool) -> io::Result<()> {
        for i in 0..ready {
            let Some(event) = self.poll.ready(i) else { break };
            if event.token == TIMER {
                continue;
            }
            let token = event.token as usize;
            if event.writable {
                self.poll.want_write(self.clients[token].stream(), event.token, false)?;
            }
            if event.readable && !self.receive(token)? {
                continue;
            }
            let now = self.clock.now();
            let finished = std::mem::take(&mut self.done);
            for done in &finished {
                self.count(done, now);
                if again && self.issuing {
                    self.call(token, now);
                }
            }
            self.done = finished;
            self.done.clear();
            if self.clients[token].over() {
                self.replace(token)?;
                continue;
            }
            self.clients[token].refill(&mut self.shared);
            self.flush(token)?;
        }
        Ok(())
    }

    /// False when the connection was lost and replaced.
    fn receive(&mut self, token: usize) -> io::Result<bool> {
        let client = &mut self.clients[token];
        if client.receive(&self.shared, &mut self.scratch, &mut self.done).is_ok() {
            return Ok(true);
        }
        self.done.clear();
        self.replace(token)?;
        Ok(false)
    }

    fn count(&mut self, done: &Done, now: u64) {
        let counted = match self.plan.pace {
            Pace::Closed(_) => now >= self.from && self.issuing,
            Pace::Open(_) => (self.from..self.until).contains(&done.due),
        };
        if !done.good {
            self.outcome.wrong += 1;
        } else if counted {
            self.outcome.calls += 1;
            let _ = self.outcome.latency.record(now.saturating_sub(done.due).max(1));
        }
    }

    /// The other side closed a connection: the calls it had are lost, and a new connection takes its place.
    fn replace(&mut self, token: usize) -> io::Result<()> {
        let gone = &self.clients[token];
        self.outcome.closed += 1;
        self.outcome.lost += gone.open_calls() as u64;
        self.outcome.wrong += gone.strays;
        let outstanding = gone.open_calls();
        for _ in 0..RECONNECTS_MAX {
            let Ok(stream) = TcpStream::connect(self.plan.target) else {
                std::thread::sleep(RECONNECT_PAUSE);
                continue;
            };
            let mut gone = std::mem::replace(&mut self.clients[token], Client::new(stream, &self.shared)?);
            self.poll.add(self.clients[token].stream(), token as u64)?;
            self.clients[token].inherit(&mut gone);
            self.clients[token].refill(&mut self.shared);
            if self.issuing && matches!(self.plan.pace, Pace::Closed(_)) {
                let now = self.clock.now();
                for _ in 0..outstanding {
                    self.call(token, now);
                }
            }
            let client = &mut self.clients[token];
            let _ = client.flush();
            return self.poll.want_write(client.stream(), token as u64, client.blocked());
        }
        Err(io::Error::other("the target does not accept connections any more"))
    }

    /// Waits for what is on its way; what does not come is lost.
    fn drain(&mut self) -> io::Result<()> {
        let end = self.clock.now() + DRAIN;
        let unanswered = |client: &Client| client.open_calls() + client.waiting_calls();
        let open = |clients: &[Client]| clients.iter().map(unanswered).sum::<usize>();
        while open(&self.clients) > 0 && self.clock.now() < end {
            let ready = self.poll.wait(Some(Duration::from_millis(10)))?;
            self.events(ready, false)?;
        }
        self.outcome.lost += open(&self.clients) as u64;
        self.outcome.wrong += self.clients.iter().map(|client| client.strays).sum::<u64>();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    fn against_echo(protocol: Protocol, connections: usize, pace: Pace) -> Outcome {
        let listener = echo::listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let target = listener.local_addr().unwrap();
        // It is there as long as the test may take, and ends with it.
        let end = Instant::now() + Duration::from_secs(60);
        let server = std::thread::spawn(move || echo::serve(&[listener], protocol, Some(end)));
        let ms = Duration::from_millis;
        let cpu_of = vec![std::process::id()];
        let plan = Plan { target, connections, pace, warmup: ms(50), duration: ms(300), cpu_of };
        let outcome = run(&plan, Shared::new(protocol, protocol.service(), 256)).unwrap();
        assert!(!server.is_finished(), "the echo service gave up");
        outcome
    }

    #[test]
    fn closed_loops_lose_nothing_in_any_protocol() {
        for protocol in [Protocol::Bolt, Protocol::Dubbo, Protocol::Http1, Protocol::Grpc, Protocol::Tcp] {
            let outcome = against_echo(protocol, 4, Pace::Closed(8));
            // More than are under way at once: answers made new calls. How many is a matter of the machine.
            assert!(outcome.calls > 4 * 8, "{protocol:?}: {}", outcome.calls);
            assert_eq!((outcome.wrong, outcome.lost, outcome.closed), (0, 0, 0));
            assert!(outcome.cpu > 0 && outcome.latency.len() == outcome.calls);
        }
    }

    #[test]
    fn an_open_loop_sends_what_was_scheduled() {
        for protocol in [Protocol::Bolt, Protocol::Http1, Protocol::Grpc] {
            let outcome = against_echo(protocol, 4, Pace::Open(1000.0));
            assert!((299..=301).contains(&outcome.calls), "{protocol:?}: {}", outcome.calls);
            let late = outcome.late.value_at_quantile(0.5);
            assert!(late < 5_000_000, "{protocol:?}: {late}");
            assert_eq!((outcome.wrong, outcome.lost, outcome.closed), (0, 0, 0));
        }
    }

    /// A server that tells the end of its connection with each answer, and hangs up.
    fn one_answer_each(listener: &TcpListener, connections: usize) -> io::Result<()> {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept()?;
            let (mut request, mut answer) = (Vec::new(), Vec::new());
            while Protocol::Http1.frame_len(&request, 0) != Ok(Some(request.len())) {
                let mut some = [0; 4096];
                match stream.read(&mut some)? {
                    0 => break,
                    got => request.extend_from_slice(&some[..got]),
                }
            }
            if request.is_empty() {
                continue;
            }
            Protocol::Http1.answer(&request, &mut answer).map_err(|error| io::Error::other(error.0))?;
            let line = b"HTTP/1.1 200 OK\r\n".len();
            stream.write_all(&[&answer[..line], b"Connection: close\r\n", &answer[line..]].concat())?;
        }
        Ok(())
    }

    #[test]
    fn an_announced_end_of_a_connection_costs_no_call() {
        for pace in [Pace::Closed(1), Pace::Open(400.0)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let target = listener.local_addr().unwrap();
            std::thread::spawn(move || one_answer_each(&listener, usize::MAX));
            let ms = Duration::from_millis;
            let plan =
                Plan { target, connections: 1, pace, warmup: ms(0), duration: ms(200), cpu_of: vec![] };
            let outcome = run(&plan, Shared::new(Protocol::Http1, "a.B", 16)).unwrap();
            assert!(outcome.calls > 10 && outcome.closed >= outcome.calls, "{}", outcome.calls);
            assert_eq!((outcome.wrong, outcome.lost), (0, 0));
        }
    }

    #[test]
    fn calls_that_wait_behind_a_silent_peer_are_lost_with_the_one_it_has() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let ms = Duration::from_millis;
        let pace = Pace::Open(200.0);
        let plan = Plan { target, connections: 1, pace, warmup: ms(0), duration: ms(100), cpu_of: vec![] };
        let outcome = run(&plan, Shared::new(Protocol::Http1, "a.B", 16)).unwrap();
        assert!(outcome.calls == 0 && outcome.lost > 10, "{}", outcome.lost);
        assert_eq!((outcome.wrong, outcome.closed), (0, 0));
    }

    #[test]
    fn a_peer_that_hangs_up_costs_calls_and_is_counted() {
        let listener = echo::listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let target = listener.local_addr().unwrap();
        // Speaks Dubbo to Bolt calls: it must close, again and again.
        let end = Instant::now() + Duration::from_millis(600);
        let server = std::thread::spawn(move || echo::serve(&[listener], Protocol::Dubbo, Some(end)));
        let ms = Duration::from_millis;
        let pace = Pace::Open(200.0);
        let plan = Plan { target, connections: 2, pace, warmup: ms(0), duration: ms(100), cpu_of: vec![] };
        let outcome = run(&plan, Shared::new(Protocol::Bolt, "a.B", 16)).unwrap();
        server.join().unwrap().unwrap();
        assert!(outcome.calls == 0 && outcome.lost > 0 && outcome.closed > 0);
    }
}
