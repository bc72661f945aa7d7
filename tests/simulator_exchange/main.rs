//! The seeded simulator of the *exchange* engine with HTTP/1: thousands of lives, each drawn from one number.
//!
//! A life has callers, endpoints, sockets that take a part of a write, a conf that changes, time that passes, and every
//! misfortune a peer can be; `life` is the driver of the sockets, `events` what happens, `rest` how it ends; `callers`
//! and `endpoints` hold what must be true. It must never look inside the engine: only bytes, effects and public counts
//! are judged.
//!
//! `SIM_SEED=n` lives one life again and tells its story; `SIM_LIVES=n` is how many are lived, `SIM_FROM=n` the first seed.

mod callers;
mod calls;
mod endpoints;
mod events;
mod late;
mod life;
mod rest;
#[path = "../simulator/rng.rs"]
mod rng;
mod shape;
mod wire;
mod world;

use std::{any::Any, collections::BTreeMap, panic, time::Instant};

use calls::Outcome;
use life::Life;
use outrigger::session::Engine;

/// Lives where nothing else is asked for.
const LIVES: u64 = 3_000;
/// Failed lives after which no more are lived.
const FAILURES_MAX: usize = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn live(seed: u64, tracing: bool) -> Life {
    let mut life = Life::new(seed, tracing);
    life.live();
    life
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panic").to_owned()
}

/// What happened in all lives together.
#[derive(Debug, Default)]
struct Sums {
    calls: usize,
    answered: usize,
    refused: BTreeMap<u16, usize>,
    tunnels: usize,
    lost: usize,
    events: u64,
    counters: BTreeMap<&'static str, u64>,
}

impl Sums {
    fn add(&mut self, life: &Life) {
        self.events += life.events;
        for call in life.world.calls.iter().filter(|call| call.began.is_some()) {
            self.calls += 1;
            match call.outcome {
                Some(Outcome::Answered) => self.answered += 1,
                Some(Outcome::Refused(status)) => *self.refused.entry(status).or_default() += 1,
                Some(Outcome::Tunnel) => self.tunnels += 1,
                Some(Outcome::Lost) => self.lost += 1,
                None => {}
            }
        }
        for (name, count) in life.engine.counts().0 {
            *self.counters.entry(name).or_default() += count;
        }
    }

    /// A simulator in which something never happens would prove nothing about it.
    fn prove(&self) {
        assert!(self.answered * 2 > self.calls, "lives are too short or too hard: {self:?}");
        for (name, count) in &self.counters {
            assert!(*count > 0, "{name} never happened: {self:?}");
        }
        for status in [400, 404, 405, 408, 413, 414, 417, 429, 431, 501, 502, 503, 504, 505] {
            assert!(self.refused.contains_key(&status), "{status} never happened: {self:?}");
        }
    }
}

#[test]
fn http1_lives() {
    if let Some(seed) = number("SIM_SEED") {
        live(seed, true);
        return;
    }
    let (from, lives) = (number("SIM_FROM").unwrap_or(0), number("SIM_LIVES").unwrap_or(LIVES));
    let started = Instant::now();
    let mut sums = Sums::default();
    let mut failed = Vec::new();
    for seed in from..from + lives {
        match panic::catch_unwind(|| live(seed, false)) {
            Ok(life) => sums.add(&life),
            Err(why) => failed.push(format!("SIM_SEED={seed}: {}", words(&*why))),
        }
        if failed.len() >= FAILURES_MAX {
            break;
        }
    }
    assert!(failed.is_empty(), "these seeds tell the story:\n{}", failed.join("\n"));
    eprintln!("{lives} lives in {:?}: {sums:?}", started.elapsed());
    if lives >= LIVES {
        sums.prove();
    }
}
