//! The seeded simulator of the *streams* engine with HTTP/2 and HTTP/1 on both legs: thousands of lives, each drawn from
//! one number.
//!
//! A life has callers and endpoints that speak either protocol, windows of any size, sockets that take a part of a write, a
//! conf that changes, time that passes, and every misfortune a peer can be; `life` is the driver of the sockets, `events`
//! and `asks` what happens, `rest` how it ends; `callers`, `endpoints` and `h2` hold what must be true, `replies` what
//! endpoints answer. It must never look inside the engine: only bytes, effects and public counts are judged.
//!
//! `SIM_SEED=n` lives one life again and tells its story; `SIM_LIVES=n` is how many are lived, `SIM_FROM=n` the first seed.

mod asks;
mod callers;
mod calls;
mod endpoints;
mod events;
mod h2;
mod life;
mod replies;
mod rest;
#[path = "../simulator/rng.rs"]
mod rng;
mod shape;
#[path = "../simulator_exchange/wire.rs"]
#[allow(dead_code, reason = "no tunnels here")]
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
    outcomes: BTreeMap<String, usize>,
    events: u64,
    counters: BTreeMap<&'static str, u64>,
}

impl Sums {
    fn add(&mut self, life: &Life) {
        self.events += life.events;
        for call in life.world.calls.iter().filter(|call| call.began.is_some()) {
            self.calls += 1;
            let outcome = call.outcome.map_or_else(|| "nothing".to_owned(), |outcome| format!("{outcome:?}"));
            *self.outcomes.entry(outcome).or_default() += 1;
            if call.outcome == Some(Outcome::Answered) {
                let last = call.carrier().expect("somebody answered");
                let from = if call.h1 { "HTTP/1" } else { "HTTP/2" };
                *self.outcomes.entry(format!("answered {from} {}", last.spoken())).or_default() += 1;
                if call.won_beside() {
                    *self.outcomes.entry("answered beside".to_owned()).or_default() += 1;
                }
            }
        }
        for (name, count) in life.engine.counts().0 {
            *self.counters.entry(name).or_default() += count;
        }
    }

    /// A simulator in which something never happens would prove nothing about it.
    fn prove(&self) {
        let count = |name: &str| self.outcomes.get(name).copied().unwrap_or(0);
        assert!(count("Answered") * 2 > self.calls, "lives are too short or too hard: {self:?}");
        for (name, count) in &self.counters {
            assert!(*count > 0, "{name} never happened: {self:?}");
        }
        for from in ["HTTP/1", "HTTP/2"] {
            for to in ["HTTP/1", "HTTP/2"] {
                assert!(count(&format!("answered {from} {to}")) > 1_000, "{from} to {to}: {self:?}");
            }
        }
        for outcome in ["Cut", "Lost", "Unprocessed", "Left", "answered beside"] {
            assert!(count(outcome) > 0, "{outcome} never happened: {self:?}");
        }
        // HTTP's own statuses, and 1000 and gRPC's.
        for status in [400, 404, 405, 413, 429, 431, 502, 503, 504, 1_004, 1_008, 1_012, 1_014] {
            assert!(count(&format!("Refused({status})")) > 0, "{status} never happened: {self:?}");
        }
    }
}

#[test]
fn streams_live() {
    if let Some(seed) = number("SIM_SEED") {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(std::io::stderr)
            .try_init();
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
