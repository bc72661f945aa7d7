//! The demo's traffic: echo services behind the sidecar, callers before it, and what the callers saw.
//!
//! All of it lives in one thread beside the sidecar's own. A call counts as well only if its own text came back under
//! its own id; everything else is a failure with a reason. Must never count what was not measured.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use outrigger_core::tally::Latency;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use super::speech::{Opened, SPEECHES, Speech, Talk};

/// Callers for each protocol.
const CALLERS: usize = 4;
/// Calls in flight on a caller's connection.
const BURST: u64 = 2;
/// Time between bursts: with the above, 400 calls a second for each protocol.
const PACE: Duration = Duration::from_millis(20);
/// Bursts on a connection that is relayed, so that the next one may go elsewhere.
const RELAYED: usize = 25;
/// Longest wait for anything; longer than the sidecar's own timeout, so that its refusal is seen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls that ended, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    /// All calls, failures among them.
    pub(super) calls: u64,
    /// Calls without their right answer.
    pub(super) failures: u64,
    /// How long the right answers took.
    pub(super) latency: Latency,
}

/// Counts since the start, and since somebody last took them.
#[derive(Debug, Default)]
pub(super) struct Pair {
    /// Since the start.
    pub(super) total: Count,
    /// Since the last look.
    pub(super) recent: Count,
}

/// What all callers of one protocol saw.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// All calls.
    pub(super) all: Pair,
    /// Answered calls by the endpoint that said it answered.
    pub(super) endpoints: BTreeMap<String, Pair>,
}

/// What all callers saw, by speech.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// In the order of the speeches.
    pub(super) rows: [Row; SPEECHES.len()],
    /// Why the latest failure was one.
    pub(super) why: Option<String>,
}

impl Pair {
    fn record(&mut self, took: Option<Duration>) {
        for count in [&mut self.total, &mut self.recent] {
            count.calls += 1;
            match took {
                Some(took) => count.latency.record(took),
                None => count.failures += 1,
            }
        }
    }
}

impl Board {
    /// All failures.
    pub(super) fn failures(&self) -> u64 {
        self.rows.iter().map(|row| row.all.total.failures).sum()
    }

    fn well(&mut self, at: usize, endpoint: &[u8], took: Duration) {
        let row = &mut self.rows[at];
        row.all.record(Some(took));
        row.endpoints.entry(String::from_utf8_lossy(endpoint).into_owned()).or_default().record(Some(took));
    }

    fn failed(&mut self, at: usize, why: &str) {
        self.rows[at].all.record(None);
        self.why = Some(format!("{}: {why}", SPEECHES[at].name));
    }
}

/// Starts an echo service; where it listens.
pub(super) async fn serve(speech: Speech) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::task::spawn_local(async move {
        let name: Rc<str> = address.to_string().into();
        while let Ok((stream, _)) = listener.accept().await {
            let name = Rc::clone(&name);
            // A connection that fails ends; whoever called by it sees that and counts it.
            tokio::task::spawn_local(async move { drop(echo(speech, &name, stream).await) });
        }
    });
    Ok(address)
}

async fn echo(speech: Speech, name: &str, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut read, mut answers) = (BytesMut::new(), Vec::new());
    let mut talk = Talk::begin(&speech, true, &mut answers);
    loop {
        stream.write_all(&answers).await?;
        answers.clear();
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        if let Err(why) = talk.serve(&mut read, name, &mut answers) {
            // Why it ends may be among the answers.
            stream.write_all(&answers).await?;
            return Err(io::Error::other(why));
        }
    }
}

/// Starts the callers of one speech; each ends after the burst in which `stop` was set.
pub(super) fn call(
    at: usize,
    address: SocketAddr,
    board: &Rc<RefCell<Board>>,
    stop: &watch::Receiver<bool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let start = |n: usize| {
        let (board, mut stop) = (Rc::clone(board), stop.clone());
        tokio::task::spawn_local(async move {
            // No two at the same moment, whatever they speak: they would measure how long they wait for each other.
            let slot = (n * SPEECHES.len() + at) as u32;
            tokio::time::sleep(PACE * slot / (CALLERS * SPEECHES.len()) as u32).await;
            // No two callers send the same text, so that none can mistake another's answer for its own.
            let mut caller = Caller { at, board, next: (n as u64) << 24 };
            while !*stop.borrow() {
                if let Err(why) = caller.connection(address, &mut stop).await {
                    caller.board.borrow_mut().failed(at, &why);
                    tokio::time::sleep(10 * PACE).await;
                }
            }
        })
    };
    (0..CALLERS).map(start).collect()
}

/// A caller's connection.
struct Line {
    stream: TcpStream,
    read: BytesMut,
    out: Vec<u8>,
    talk: Talk,
}

struct Caller {
    at: usize,
    board: Rc<RefCell<Board>>,
    next: u64,
}

impl Caller {
    /// Calls over one connection until it failed, is worn out, or all shall stop.
    async fn connection(
        &mut self,
        address: SocketAddr,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), String> {
        let connecting = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = connecting.map_err(io::Error::from).flatten().map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true); // costs latency when it fails, nothing else
        let mut out = Vec::new();
        let talk = Talk::begin(&SPEECHES[self.at], false, &mut out);
        let mut line = Line { stream, read: BytesMut::new(), out, talk };
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let bursts = if SPEECHES[self.at].called.is_empty() { RELAYED } else { usize::MAX };
        for _ in 0..bursts {
            self.burst(&mut line).await?;
            if line.talk.is_spent() {
                break;
            }
            tokio::select! {
                _ = pace.tick() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        Ok(())
    }

    /// Some calls at once, and all their answers. An error stands for one of them; it counts the others itself.
    async fn burst(&mut self, line: &mut Line) -> Result<(), String> {
        let mut waiting = BTreeMap::new();
        for id in self.next..self.next + BURST {
            let text = format!("call {id} {}", "x".repeat((id % 200) as usize));
            line.talk.ask(id, &text, &mut line.out);
            waiting.insert(id, text);
        }
        self.next += BURST;
        let sent = Instant::now();
        let talk = self.talk(line, &mut waiting, sent);
        let result = match timeout(PATIENCE, talk).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer in {PATIENCE:?}")),
        };
        if let Err(why) = &result {
            let others = waiting.len().saturating_sub(1);
            (0..others).for_each(|_| self.board.borrow_mut().failed(self.at, why));
        }
        result
    }

    async fn talk(
        &self,
        line: &mut Line,
        waiting: &mut BTreeMap<u64, String>,
        sent: Instant,
    ) -> Result<(), String> {
        let Line { stream, read, out, talk } = line;
        loop {
            stream.write_all(out).await.map_err(|error| error.to_string())?;
            out.clear();
            if waiting.is_empty() {
                return Ok(());
            }
            if stream.read_buf(read).await.map_err(|error| error.to_string())? == 0 {
                return Err("the sidecar closed the connection".to_owned());
            }
            let took = sent.elapsed();
            talk.hear(read, out, |opened| self.count(waiting, opened, took))?;
        }
    }

    /// One call was answered.
    fn count(
        &self,
        waiting: &mut BTreeMap<u64, String>,
        opened: Opened<'_>,
        took: Duration,
    ) -> Result<(), String> {
        let next = waiting.keys().next().copied();
        let id = opened.id.or(next).ok_or("an answer to no call")?;
        if SPEECHES[self.at].ordered && next.is_some_and(|next| next != id) {
            return Err("an answer out of turn".to_owned());
        }
        let text = waiting.remove(&id).ok_or("an answer to no call")?;
        let mut board = self.board.borrow_mut();
        match opened.result {
            Ok((back, endpoint)) if back == text.as_bytes() => board.well(self.at, endpoint, took),
            Ok(_) => board.failed(self.at, "another text came back"),
            Err(why) => board.failed(self.at, &why),
        }
        Ok(())
    }
}
