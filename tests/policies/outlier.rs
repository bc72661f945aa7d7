//! Who fails is left out for a while, and comes back by one call on trial.

use crate::endpoint::Does;
use crate::protocol::{Ask, Meaning, every};
use crate::support::within;
use crate::world::{PATIENCE, Setup, World};
use std::time::{Duration, Instant};

/// Only failures in a row count.
const IN_A_ROW: &str = "balance: round_robin, outlier: { ejection: 2s, success_rate: false }";

/// So many calls, none of which may reach the endpoint while it is left out. They are over long before that ends, unless the
/// machine stood still: then nothing is known.
fn is_spared(world: &mut World, at: usize, out_since: Instant, out_for: Duration) {
    let before = world.endpoints[at].calls();
    let calls = world.calls(30);
    if out_since.elapsed() < out_for {
        assert_eq!(world.endpoints[at].calls(), before, "it is left out, and was asked");
        assert!(calls.iter().all(|(_, got)| got.is_ok()), "{calls:?}");
    }
}

#[test]
fn who_fails_five_times_in_a_row_is_left_out_and_comes_back_by_one_call() {
    every(|protocol| {
        let mut world = World::start(protocol, Setup { cluster: IN_A_ROW, ..Setup::default() });
        world.set(0, Does::Fails);
        let began = Instant::now();
        world.calls(15);
        is_spared(&mut world, 0, began, Duration::from_secs(2));
        if began.elapsed() < Duration::from_secs(2) {
            assert_eq!((world.endpoints[0].calls(), world.left_out()), (5, 1));
            assert!(world.is_out(0) && world.state(0).starts_with("left out:"), "{}", world.state(0));
            assert_eq!((&*world.state(1), world.is_out(1)), ("in use", false));
        }
        // One call finds it as bad as before: it stays out, for twice as long.
        let waits = || world.state(0).starts_with("on trial:");
        assert!(within(PATIENCE, waits), "it never waits for its trial");
        let six = |world: &World| world.endpoints[0].calls() >= 6;
        world.until("the trial", six);
        let trial = Instant::now();
        is_spared(&mut world, 0, trial, Duration::from_secs(4));
        world.set(0, Does::Answers);
        std::thread::sleep(Duration::from_millis(2_200));
        // Twice as long as the first time, so that it is still out.
        if trial.elapsed() < Duration::from_secs(4) {
            is_spared(&mut world, 0, trial, Duration::from_secs(4));
        }
        let spared = world.endpoints[0].calls();
        assert!(spared == 6 || trial.elapsed() > Duration::from_secs(4), "{spared}");
        world.until("another trial", |world| world.endpoints[0].calls() > spared);
        assert_eq!((world.left_out(), &*world.state(0)), (0, "in use"));
        assert_eq!(world.spread(30), [10; 3], "it has its full share again");
        world.end();
    });
}

#[test]
fn lost_connections_and_time_outs_count_as_failures() {
    every(|protocol| {
        for (does, route) in
            [(Does::Dies, ""), (Does::DiesOnAccept, ""), (Does::Busy, ""), (Does::Holds, "timeout: 50ms")]
        {
            let cluster = "balance: round_robin, outlier: { ejection: 60s, success_rate: false }";
            let mut world = World::start(protocol, Setup { route, cluster, ..Setup::default() });
            world.set(0, does);
            world.until("it is left out", |world| world.is_out(0));
            let spared = world.spread(30);
            assert_eq!(spared[0], 0, "{does:?}: {spared:?}");
            world.end();
        }
    });
}

#[test]
fn what_one_worker_sees_counts_for_all() {
    every(|protocol| {
        let cluster = "balance: round_robin, outlier: { ejection: 60s, success_rate: false }";
        let mut world = World::start(protocol, Setup { cluster, workers: 2, ..Setup::default() });
        // Connections go to either worker; some are on each.
        let mut callers: Vec<_> = Vec::new();
        let both = within(PATIENCE, || {
            let mut caller = world.caller();
            let got = caller.ask(&Ask::new("greeting"));
            assert!(got.is_ok(), "{got:?}");
            callers.push(caller);
            [0, 1].iter().all(|at| {
                let label = format!("worker=\"{at}\"");
                world.sidecar.metric("outrigger_worker_connections", &[&label]) > 1
            })
        });
        assert!(both, "{} connections are all on one worker", callers.len());
        world.set(0, Does::Fails);
        let before = world.endpoints[0].calls();
        for at in 0..30 {
            for caller in &mut callers {
                caller.ask(&Ask::new(at));
            }
        }
        assert_eq!(world.endpoints[0].calls() - before, 5, "five failures, whoever saw them");
        assert!(world.is_out(0));
        drop(callers);
        world.end();
    });
}

#[test]
fn never_more_are_left_out_than_may_be() {
    every(|protocol| {
        let cluster = "balance: round_robin, outlier: { ejection: 60s, success_rate: false, share_max: 50% }";
        for (endpoints, out) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
            let mut world = World::start(protocol, Setup { endpoints, cluster, ..Setup::default() });
            (0..endpoints).for_each(|at| world.set(at, Does::Fails));
            let calls = world.calls(20 * endpoints);
            assert!(calls.iter().all(|(_, got)| got.meaning == Meaning::Error), "they are asked, and answer");
            assert_eq!(world.left_out(), out, "of {endpoints}");
            let asked = world.spread(12).iter().filter(|asked| **asked > 0).count();
            assert_eq!(asked, endpoints - out as usize, "of {endpoints}");
            world.end();
        }
    });
}

#[test]
fn what_the_service_itself_says_is_no_failure() {
    every(|protocol| {
        let mut world = World::start(protocol, Setup { cluster: IN_A_ROW, ..Setup::default() });
        world.set(0, Does::Throws);
        let calls = world.calls(60);
        let thrown = calls.iter().filter(|(_, got)| got.meaning == Meaning::Exception).count();
        assert_eq!((thrown, world.left_out()), (20, 0));
        assert_eq!(world.spread(30), [10; 3]);
        world.end();
    });
}

#[test]
fn who_fails_far_more_often_than_the_others_is_left_out() {
    every(|protocol| {
        // What was made up for elsewhere counts as well.
        for (endpoints, route) in [(3, ""), (5, ""), (3, "idempotent: true, retry: { on: [error] }")] {
            let cluster = "balance: round_robin, outlier: { consecutive: 0, interval: 1s, calls_min: 10, ejection: 60s }";
            let mut world = World::start(protocol, Setup { endpoints, route, cluster, ..Setup::default() });
            world.set(1, Does::FailsHalf);
            world.until("it is left out", |world| world.left_out() > 0);
            assert!(world.is_out(1) && world.left_out() == 1, "of {endpoints}");
            assert_eq!(world.spread(30)[1], 0);
            world.end();
        }
    });
}

#[test]
fn who_is_far_slower_than_the_others_is_left_out_where_that_is_wished() {
    every(|protocol| {
        let cluster =
            "balance: round_robin, outlier: { slower: 3, interval: 1s, calls_min: 10, ejection: 60s }";
        let mut world = World::start(protocol, Setup { cluster, ..Setup::default() });
        (0..3).for_each(|at| world.set(at, Does::Slow(Duration::from_millis(5))));
        world.set(2, Does::Slow(Duration::from_millis(60)));
        world.until("it is left out", |world| world.left_out() > 0);
        assert!(world.is_out(2));
        assert_eq!(world.spread(20)[2], 0);
        world.end();
    });
}

#[test]
fn when_too_few_are_left_all_are_used() {
    every(|protocol| {
        for (panic, all) in [("50%", true), ("0%", false)] {
            let cluster = format!(
                "balance: round_robin, panic: {panic}, \
                 outlier: {{ ejection: 60s, success_rate: false, share_max: 100% }}"
            );
            let mut world =
                World::start(protocol, Setup { cluster: &cluster, endpoints: 4, ..Setup::default() });
            (0..3).for_each(|at| world.set(at, Does::Fails));
            world.calls(60);
            assert_eq!(world.left_out(), 3, "{panic}");
            let spread = world.spread(40);
            assert_eq!(spread, if all { [10; 4] } else { [0, 0, 0, 40] }, "{panic}");
            world.end();
        }
    });
}
