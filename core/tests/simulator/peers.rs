//! The model of an endpoint: how long it takes, how it fails, how much it can do at once, whether it runs at all.
//!
//! It answers calls and health checks and counts what it was asked; it must never know who asks, or be judged by what the
//! core believes of it.

use std::time::Duration;

use outrigger_codec::Outcome;
use outrigger_core::{Random, Tick, health::Checked};

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) weight: u32,
    /// Whether the registry has it.
    pub(crate) listed: bool,
    /// Whether its process runs.
    pub(crate) runs: bool,
    /// Which process it is: what was asked of one before is lost.
    pub(crate) process: u32,
    /// How long it takes, at least.
    pub(crate) takes: Duration,
    /// So many of a hundred calls take ten times as long.
    pub(crate) tail: u64,
    /// So many of a hundred calls end in an error.
    pub(crate) fails: u64,
    /// How long it takes to fail.
    pub(crate) fails_after: Duration,
    /// So many of a hundred calls are never answered.
    pub(crate) hangs: u64,
    /// More than so many at once, and it says that it is busy.
    pub(crate) busy_above: u32,
    /// What it says to a health check while it runs.
    pub(crate) feels_well: bool,
    pub(crate) checked: Checked,
    /// Calls that it works at.
    pub(crate) works_at: u32,
    /// Calls that reached it, ever.
    pub(crate) received: u64,
    /// When the last one did.
    pub(crate) received_at: Tick,
}

/// What a call to it comes to: after how long, and how it ends; `None`: not at all.
pub(crate) struct Served {
    pub(crate) after: Duration,
    pub(crate) outcome: Option<Outcome>,
}

impl Peer {
    pub(crate) fn new(address: &str, weight: u32) -> Self {
        Self {
            address: address.to_owned(),
            weight,
            listed: true,
            runs: true,
            process: 0,
            takes: Duration::from_millis(1),
            tail: 0,
            fails: 0,
            fails_after: Duration::from_micros(100),
            hangs: 0,
            busy_above: u32::MAX,
            feels_well: true,
            checked: Checked::default(),
            works_at: 0,
            received: 0,
            received_at: Tick::ZERO,
        }
    }

    /// A call reached it.
    pub(crate) fn serve(&mut self, random: &mut Random, now: Tick) -> Served {
        self.received += 1;
        self.received_at = now;
        self.works_at += 1;
        if random.below(100) < self.hangs {
            return Served { after: Duration::from_secs(3_600), outcome: None };
        }
        if self.works_at > self.busy_above {
            return Served { after: self.fails_after, outcome: Some(Outcome::Busy) };
        }
        if random.below(100) < self.fails {
            return Served { after: self.fails_after, outcome: Some(Outcome::Error) };
        }
        let slow = if random.below(100) < self.tail { 10 } else { 1 };
        // Give or take a tenth.
        let spread = 900 + random.below(200);
        let after = self.takes * slow * spread as u32 / 1_000;
        let outcome = if random.below(50) == 0 { Outcome::Exception } else { Outcome::Ok };
        Served { after, outcome: Some(outcome) }
    }

    /// Its process is gone, and what it worked at.
    pub(crate) fn kill(&mut self) {
        self.runs = false;
        self.process += 1;
        self.works_at = 0;
    }
}
