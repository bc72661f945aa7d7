//! A peer program: started by a command, asked by lines on its stdin, answering by JSON lines on its stdout.
//!
//! The first line it prints must be `{"ready":true,…}`. Everything else it says (stderr, and stdout lines that are
//! not JSON objects) goes to a log that is shown when the test fails. No wait is without a limit.

use super::{Child, TempDir, tail};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// How long a JVM may take to come up on a busy machine.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long one case may take, its own waiting included.
const ANSWER_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<Value>,
    log: PathBuf,
    // Last, so that the log is there while the child is ended and its tail printed.
    _dir: TempDir,
}

impl Process {
    /// Starts the program and waits until it is ready.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let process = Self::spawn(name, command);
        process.ready();
        process
    }

    /// Starts the program; `ready` must follow. Several programs come up at the same time this way.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        let dir = TempDir::new();
        let log = dir.path().join("log");
        let file = File::options().create(true).append(true).open(&log).expect("a log can be created");
        let noise = file.try_clone().expect("a file can be shared");
        let mut child =
            Child::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(file)));
        let stdin = child.inner().stdin.take().expect("stdin is a pipe");
        let stdout = child.inner().stdout.take().expect("stdout is a pipe");
        let (sender, answers) = mpsc::channel();
        // Ends by itself when the program's stdout closes.
        std::thread::spawn(move || read_lines(BufReader::new(stdout), &sender, noise));
        Self { name: name.to_owned(), child, stdin, answers, log, _dir: dir }
    }

    /// Waits for the readiness line and answers it.
    pub(crate) fn ready(&self) -> Value {
        let line = self.next(READY_MAX);
        assert_eq!(line["ready"], true, "{} said {line} before it was ready", self.name);
        line
    }

    /// Writes one line; its answer comes by `answer`.
    pub(crate) fn send(&mut self, line: &str) {
        let written = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
        written.unwrap_or_else(|e| panic!("{} does not read its stdin: {e}", self.name));
    }

    /// The next line that the program prints.
    pub(crate) fn answer(&self) -> Value {
        self.next(ANSWER_MAX)
    }

    /// Writes one line and waits for its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.send(line);
        self.answer()
    }

    /// All that the program has said beside its answers.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// SIGKILL, as a crash would be.
    pub(crate) fn kill(&mut self) {
        self.child.kill();
    }

    /// SIGTERM, then the exit status.
    pub(crate) fn term(&mut self, limit: Duration) -> ExitStatus {
        self.child.signal("TERM");
        self.child.wait(limit).unwrap_or_else(|| panic!("{} still runs {limit:?} after SIGTERM", self.name))
    }

    fn next(&self, limit: Duration) -> Value {
        self.answers.recv_timeout(limit).unwrap_or_else(|e| panic!("{} said nothing ({e})", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {} ({}) ---\n{}", self.name, self.log.display(), tail(&self.log));
        }
    }
}

fn read_lines(stdout: impl std::io::BufRead, answers: &Sender<Value>, mut noise: File) {
    for line in stdout.lines().map_while(Result::ok) {
        match serde_json::from_str::<Value>(&line) {
            // Nobody listening any more means that the test is over.
            Ok(value) if value.is_object() => drop(answers.send(value)),
            _ => drop(writeln!(noise, "{line}")),
        }
    }
}
