//! Consumers that call without a pause, and what became of their calls, step by step.
//!
//! A consumer's own program counts (see `tests/peers/shared/src/peer/Flow.java`); here it is only asked. Must never forget a
//! failure: what failed once is told at every look.

use super::support::{Process, within};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// Threads that call at once.
const CALLERS: usize = 3;
/// Milliseconds between two calls of each.
const PAUSE: u32 = 15;
/// Calls that a consumer has made before it is believed that they go on.
const ENOUGH: u64 = 50;
/// How long that may take, and news to arrive.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a program may take to leave.
pub(crate) const LEAVE_MAX: Duration = Duration::from_secs(40);

/// A consumer whose callers call until its end.
pub(crate) struct Consumer {
    name: String,
    process: Process,
    /// Calls before the step that goes on.
    before: u64,
}

/// What became of a consumer's calls.
#[derive(Clone, Debug, Default)]
struct Tally {
    answered: BTreeMap<String, u64>,
    failed: Vec<String>,
}

impl Tally {
    fn read(told: &str) -> Self {
        let mut lines = told.lines();
        let pair = |pair: &str| {
            let (name, count) = pair.split_once('=').expect("a name and a number");
            (name.to_owned(), count.parse().expect("a number"))
        };
        let answered = lines.next().unwrap_or_default().split(' ').filter(|one| !one.is_empty());
        Self { answered: answered.map(pair).collect(), failed: lines.map(str::to_owned).collect() }
    }

    fn calls(&self) -> u64 {
        self.answered.values().sum()
    }
}

impl Consumer {
    /// Starts it; `flow` must follow.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        Self { name: name.to_owned(), process: Process::spawn(name, command), before: 0 }
    }

    /// Once it runs and finds somebody who answers, its callers call until the end.
    pub(crate) fn flow(mut self) -> Self {
        self.process.ready();
        let mut last = serde_json::Value::Null;
        let found = within(PATIENCE, || {
            last = self.process.ask("who");
            last["ok"] == true
        });
        assert!(found, "{} finds nobody: {last}", self.name);
        assert_eq!(self.process.ask(&format!("flow {CALLERS} {PAUSE}"))["value"], "flows");
        self
    }

    fn tide(&mut self) -> Tally {
        let told = self.process.ask("tide");
        Tally::read(told["value"].as_str().unwrap_or_else(|| panic!("{} says {told}", self.name)))
    }

    /// Calls so far, all good.
    #[track_caller]
    fn good(&mut self, when: &str) -> Tally {
        let tally = self.tide();
        assert!(tally.failed.is_empty(), "{when}: calls of {} failed: {:#?}", self.name, tally);
        tally
    }

    /// Waits until these, and nobody else, answer its calls.
    #[track_caller]
    pub(crate) fn is_answered_by(&mut self, names: &[&str]) {
        self.is_answered(names, true);
    }

    /// Waits until each of these has answered some of its calls, whoever else does.
    #[track_caller]
    pub(crate) fn is_answered_also_by(&mut self, names: &[&str]) {
        self.is_answered(names, false);
    }

    #[track_caller]
    fn is_answered(&mut self, names: &[&str], alone: bool) {
        let mut seen = BTreeMap::new();
        let mut last = self.good("before").answered;
        let came = within(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.good("meanwhile").answered;
            let more = |(name, count): (&String, &u64)| {
                let more = count - last.get(name).copied().unwrap_or_default();
                (more > 0).then(|| (name.clone(), more))
            };
            let since: BTreeMap<String, u64> = now.iter().filter_map(more).collect();
            last = now;
            if alone && since.keys().any(|name| !names.contains(&name.as_str())) {
                seen.clear();
            } else {
                for (name, count) in since {
                    *seen.entry(name).or_insert(0) += count;
                }
            }
            names.iter().all(|name| seen.contains_key(*name))
        });
        assert!(came, "{} should be answered by {names:?} (alone: {alone}), last: {last:?}", self.name);
    }

    /// Enough calls more since the last look, and none has ever failed; how many there were.
    #[track_caller]
    pub(crate) fn goes_on(&mut self, step: &str) -> u64 {
        let start = self.good(step).calls();
        let mut now = start;
        let came = within(PATIENCE, || {
            now = self.good(step).calls();
            now >= start + ENOUGH
        });
        assert!(came, "{step}: {} made but {} calls", self.name, now - start);
        let since = now - self.before;
        self.before = now;
        since
    }

    /// Its callers finish the calls they are in, and it leaves; how many calls it made since the last look, all good.
    #[track_caller]
    pub(crate) fn end(mut self, step: &str) -> u64 {
        let told = self.process.ask("ebb");
        let tally =
            Tally::read(told["value"].as_str().unwrap_or_else(|| panic!("{} says {told}", self.name)));
        assert!(tally.failed.is_empty(), "{step}: calls of {} failed: {:#?}", self.name, tally);
        self.process.term(LEAVE_MAX);
        tally.calls() - self.before
    }
}
