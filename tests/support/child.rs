//! A child process that cannot be leaked.
//!
//! Dropping the handle kills and reaps it. A test process that is killed itself runs no destructors, so each child
//! has a watchdog beside it: a shell that waits on a pipe from the test and kills the child when the pipe closes
//! without a word. Signals go to this one process id, never to a name or a group.

use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running (or already ended, not yet forgotten) child.
pub(crate) struct Child {
    inner: std::process::Child,
    watchdog: std::process::Child,
}

impl Child {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let inner = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let watchdog = Command::new("sh")
            .args(["-c", r#"read -r word; [ "$word" = done ] || kill -KILL "$0""#, &inner.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Self { inner, watchdog }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.inner.id()
    }

    pub(crate) fn inner(&mut self) -> &mut std::process::Child {
        &mut self.inner
    }

    /// The exit status, if the child has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.inner.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal by its name ("TERM", "HUP") to a child that still runs.
    pub(crate) fn signal(&mut self, name: &str) {
        assert!(self.ended().is_none(), "the process ended before SIG{name} was sent");
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "SIG{name} could not be sent");
    }

    /// Waits for the child's end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        super::within(limit, || {
            status = self.ended();
            status.is_some()
        });
        status
    }

    /// What each of its threads does, for the message of a failed test: name, state, and where in the kernel it waits.
    pub(crate) fn threads(&self) -> String {
        let all = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let says = |task: std::fs::DirEntry| {
            let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            format!("{}\n{}{}", read("stat"), read("syscall"), read("stack"))
        };
        all.map(says).collect()
    }

    /// Kills at once and reaps.
    pub(crate) fn kill(&mut self) {
        // Killing what has already ended is no error here.
        let _ = self.inner.kill();
        let _ = self.inner.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.watchdog.wait();
    }
}
