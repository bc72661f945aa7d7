//! A second try beside the first: when, where, out of which budget, and whose answer is the call's.

use crate::endpoint::Does;
use crate::protocol::{Ask, Meaning, Speaks, every};
use crate::world::{Setup, World};
use serde_json::Value;
use std::time::{Duration, Instant};

const RICH: &str =
    "balance: round_robin, outlier: { share_max: 0% }, retry_budget: { share: 100%, floor: 1000 }";
const ROUTE: &str = "idempotent: true, retry: { on: [reset, overloaded, error], hedge_after: 100ms }";
const LATER: Does = Does::Slow(Duration::from_millis(350));

fn world(protocol: &'static dyn Speaks, endpoints: usize, route: &str) -> World {
    World::start(protocol, Setup { endpoints, route, cluster: RICH, ..Setup::default() })
}

/// Second tries that the sidecar counted.
fn hedged(world: &World) -> u64 {
    let stats = world.sidecar.stats();
    let protocols = stats["protocols"].as_object().expect("protocols are counted").values();
    protocols.filter_map(|one: &Value| one["events"]["hedged"].as_u64()).sum()
}

#[test]
fn a_call_that_waits_long_is_answered_by_another_endpoint_and_was_sent_to_each_once() {
    every(|protocol| {
        let mut world = world(protocol, 3, ROUTE);
        world.set(0, Does::Holds);
        for (key, got) in world.calls(9) {
            assert!(got.is_ok() && got.by != Some(0), "{key}: {got:?}");
            let read = [0, 1, 2].map(|at| world.endpoints[at].read(&key));
            assert!(read[0] <= 1 && read[1] + read[2] == 1, "{key} was read {read:?} times");
        }
        assert_eq!(hedged(&world), world.endpoints[0].calls() as u64);
        assert!(world.endpoints[0].calls() >= 3);
        // What is answered soon is sent once.
        world.set(0, Does::Answers);
        for (key, got) in world.calls(9) {
            assert!(got.is_ok() && world.read(&key) == 1, "{key}: {got:?}");
        }
        world.end();
    });
}

#[test]
fn the_first_goes_on_while_the_second_fails_or_says_nothing() {
    every(|protocol| {
        for does in [Does::Holds, Does::Dies, Does::DiesUnread, Does::Busy, Does::Fails, Does::Resets] {
            let mut world = world(protocol, 2, ROUTE);
            world.set(0, LATER);
            world.set(1, does);
            for (key, got) in world.calls(4) {
                assert!(got.is_ok() && got.by == Some(0), "{does:?}: {key}: {got:?}");
                let read = [0, 1].map(|at| world.endpoints[at].read(&key));
                assert!(read[0] == 1 && read[1] <= 1, "{does:?}: {key} was read {read:?} times");
            }
            assert!(hedged(&world) > 0, "{does:?}");
            world.end();
        }
    });
}

#[test]
fn the_second_goes_on_when_the_first_is_lost() {
    every(|protocol| {
        // Round robin: once the first try is where nobody answers and is killed, once the second.
        for turn in 0..2 {
            let mut world = world(protocol, 2, ROUTE);
            world.calls(turn);
            world.set(0, Does::Holds);
            world.set(1, Does::Slow(Duration::from_millis(600)));
            let mut caller = world.caller();
            let got = std::thread::scope(|scope| {
                let call = scope.spawn(|| caller.ask(&Ask::new("lost")));
                std::thread::sleep(Duration::from_millis(300));
                assert_eq!(world.endpoints[0].read("lost"), 1);
                world.endpoints[0].kill();
                call.join().expect("the caller does not panic")
            });
            assert!(got.is_ok() && got.by == Some(1), "{turn}: {got:?}");
            assert!(world.endpoints[1].read("lost") == 1, "it was sent again");
            drop(caller);
            world.end();
        }
    });
}

#[test]
fn a_call_whose_two_tries_say_nothing_ends_in_its_time() {
    every(|protocol| {
        let route = format!("timeout: 400ms, {ROUTE}");
        let mut world = world(protocol, 3, &route.replace("100ms }", "50ms, tries: 5 }"));
        (0..3).for_each(|at| world.set(at, Does::Holds));
        for (key, got) in world.calls(4) {
            assert_eq!(got.meaning, Meaning::TimedOut, "{key}");
            assert_eq!(world.read(&key), 2, "{key}");
        }
        world.end();
    });
}

#[test]
fn second_tries_come_out_of_the_budget_of_those_that_are_tried_again() {
    const CALLS: usize = 60;
    every(|protocol| {
        let cluster =
            "balance: round_robin, outlier: { share_max: 0% }, retry_budget: { share: 20%, floor: 1 }";
        let route = ROUTE.replace("100ms", "5ms");
        let mut world = World::start(protocol, Setup { route: &route, cluster, ..Setup::default() });
        (0..3).for_each(|at| world.set(at, Does::Slow(Duration::from_millis(30))));
        let began = Instant::now();
        for (key, got) in world.calls(CALLS) {
            assert!(got.is_ok() && world.read(&key) <= 2, "{key}: {got:?}");
        }
        let seconds = began.elapsed().as_secs() as usize + 1;
        let sendings: usize = world.counts().iter().sum();
        let most = CALLS * 120 / 100 + seconds + 1;
        assert!((CALLS * 110 / 100..=most).contains(&sendings), "{sendings} sendings in {seconds} s");
        world.end();
    });
}

#[test]
fn nothing_goes_beside_a_call_that_has_nowhere_else_to_go() {
    every(|protocol| {
        let mut world = world(protocol, 1, ROUTE);
        world.set(0, LATER);
        let (key, got) = world.call();
        assert!(got.is_ok() && world.read(&key) == 1, "{got:?}");
        assert_eq!(hedged(&world), 0);
        world.end();
    });
}
