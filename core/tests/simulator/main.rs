//! The seeded simulator of what decides: workers, and endpoints that are slow, fail, are killed and come and go.
//!
//! The other simulators live through an engine's connections; this one through a cluster's fate over minutes. `world` has
//! the time and the events, `calls` asks the core in the order in which the engines do (`session/frames/{again,fail,time}.rs`,
//! `control/outliers.rs`), `peers` is the model of an endpoint, `judge` what must be true at every moment. `lives` draws
//! whole lives; `budget`, `returns`, `shares`, `hashing` and `slow` each tell one story with a number as its end. Time is virtual; it
//! must never look inside the core, sleep, or start a thread.
//!
//! `SIM_SEED=n` lives one life again, in every test here; `SIM_LIVES=n` is how many are lived, `SIM_FROM=n` the first seed.

mod budget;
mod calls;
mod hashing;
mod judge;
mod lives;
mod peers;
mod returns;
mod shares;
mod slow;
mod world;

use std::panic;

use outrigger_core::Balance;

/// All of them.
const BALANCES: [Balance; 6] = [
    Balance::RoundRobin,
    Balance::Random,
    Balance::LeastRequest,
    Balance::P2cEwma,
    Balance::RingHash,
    Balance::Maglev,
];
/// Failed lives after which no more are lived.
const FAILURES_MAX: usize = 5;

// What is forbidden to the core itself: a test is told by its environment what to do.
#[allow(clippy::disallowed_methods)]
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Lives as often as is asked for, or `usual` times; tells the seeds that fail.
fn each_seed(usual: u64, mut live: impl FnMut(u64)) {
    if let Some(seed) = number("SIM_SEED") {
        return live(seed);
    }
    let (from, lives) = (number("SIM_FROM").unwrap_or(0), number("SIM_LIVES").unwrap_or(usual));
    let mut failed = Vec::new();
    for seed in from..from + lives {
        if let Err(why) = panic::catch_unwind(panic::AssertUnwindSafe(|| live(seed))) {
            let text = why.downcast_ref::<String>().map(String::as_str);
            let text = text.or(why.downcast_ref::<&str>().copied()).unwrap_or("panic");
            failed.push(format!("SIM_SEED={seed}: {text}"));
        }
        if failed.len() >= FAILURES_MAX {
            break;
        }
    }
    assert!(failed.is_empty(), "these seeds tell the story:\n{}", failed.join("\n"));
}
