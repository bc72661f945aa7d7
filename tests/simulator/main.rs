//! The seeded simulator: thousands of lives of the *frames* engine, each drawn from one number.
//!
//! A life has callers, endpoints, sockets that take a part of a write, a conf that changes, time that passes, and
//! every misfortune a peer can be; `life` is the driver of the sockets, `events` what happens, `peers` what must
//! be true. It must never look inside the engine: only bytes, effects and public counts are judged.
//!
//! `SIM_SEED=n` lives one life again and tells its story; `SIM_LIVES=n` is how many are lived, `SIM_FROM=n` the
//! first seed.

mod dialect;
mod events;
mod life;
mod peers;
mod rng;
mod shape;

use std::{any::Any, panic, time::Instant};

use dialect::Dialect;
use life::Life;
use outrigger_bolt::Bolt;
use outrigger_dubbo::Dubbo;

/// Lives of each protocol where nothing else is asked for.
const LIVES: u64 = 3_000;
/// Failed lives after which no more are lived.
const FAILURES_MAX: usize = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn live<D: Dialect>(seed: u64, tracing: bool) -> Life<D> {
    let mut life = Life::<D>::new(seed, tracing);
    life.live();
    life
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panic").to_owned()
}

fn live_all<D: Dialect>() {
    if let Some(seed) = number("SIM_SEED") {
        live::<D>(seed, true);
        return;
    }
    let (from, lives) = (number("SIM_FROM").unwrap_or(0), number("SIM_LIVES").unwrap_or(LIVES));
    let started = Instant::now();
    let (mut calls, mut answered, mut served, mut events) = (0, 0, 0, 0);
    let mut failed = Vec::new();
    for seed in from..from + lives {
        match panic::catch_unwind(|| live::<D>(seed, false)) {
            Ok(life) => {
                calls += life.calls.len();
                answered += life.calls.iter().filter(|call| call.answered).count();
                served += life.calls.iter().filter(|call| call.answered && call.served).count();
                events += life.events;
            }
            Err(why) => failed.push(format!("SIM_SEED={seed} ({}): {}", D::NAME, words(&*why))),
        }
        if failed.len() >= FAILURES_MAX {
            break;
        }
    }
    assert!(failed.is_empty(), "these seeds tell the story:\n{}", failed.join("\n"));
    let (name, took) = (D::NAME, started.elapsed());
    eprintln!(
        "{name}: {lives} lives in {took:?}: {events} events, {calls} calls, {answered} answered, {served} served"
    );
    // A simulator whose callers were always refused would prove nothing.
    assert!(lives < 100 || (served * 3 > calls && answered * 2 > calls), "lives are too short or too hard");
}

#[test]
fn bolt_lives() {
    live_all::<Bolt>();
}

#[test]
fn dubbo_lives() {
    live_all::<Dubbo>();
}
