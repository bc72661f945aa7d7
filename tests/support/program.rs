//! A program that runs to its end: how it ended and what it said, within a limit.
//!
//! It is asked nothing after its start, and dies with the test. What it says goes to files, so that no amount of it can
//! stop the program.

use super::{Child, TempDir};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) struct Ran {
    /// Ended by itself within the limit, with status 0.
    pub(crate) ok: bool,
    /// Stdout and stderr, in the order in which they were written, and the end.
    pub(crate) said: String,
}

/// Runs the program; one that still runs after the limit is killed.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Ran {
    let dir = TempDir::new();
    let path = dir.path().join("said");
    let out = File::options().create(true).append(true).open(&path).expect("a log can be created");
    let noise = out.try_clone().expect("a file can be shared");
    command.stdin(Stdio::null()).stdout(Stdio::from(out)).stderr(Stdio::from(noise));
    let status = Child::spawn(command).wait(limit);
    let said = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
    let end = status.map_or_else(|| format!("still running after {limit:?}"), |status| status.to_string());
    Ran { ok: status.is_some_and(|status| status.success()), said: format!("{said}\n({end})") }
}
