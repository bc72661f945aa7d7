//! Trying again: what, where, how often, and out of which budget.
//!
//! Each call has a key of its own, and endpoints remember the keys they read: so it is seen who was asked how often.

use crate::endpoint::Does;
use crate::protocol::{Ask, Meaning, Speaks, each, every};
use crate::support::within;
use crate::world::{ALL_STAY, PATIENCE, Setup, World};
use std::time::{Duration, Instant};

/// With the budget that there is by default.
const IN_TURN: &str = "balance: round_robin, outlier: { share_max: 0% }";
/// With one that is never used up.
const RICH: &str =
    "balance: round_robin, outlier: { share_max: 0% }, retry_budget: { share: 100%, floor: 1000 }";

fn world(protocol: &'static dyn Speaks, route: &str) -> World {
    World::start(protocol, Setup { route, cluster: RICH, ..Setup::default() })
}

/// Calls to three endpoints in turn, of which the first is bad: all must be answered by the others, and each of them must
/// have been answered once.
fn others_answer(world: &mut World, what: &str) {
    let bad = world.endpoints[0].calls();
    for (key, got) in world.calls(9) {
        assert!(got.is_ok() && got.by != Some(0), "{what}: {got:?}");
        let read = [0, 1, 2].map(|at| world.endpoints[at].read(&key));
        assert!(read[0] <= 1 && read[1] + read[2] == 1, "{what}: {key} was read {read:?} times");
    }
    // One that ends connections unread has read nothing, though it was asked.
    let asked = world.endpoints[0].calls() - bad;
    assert!(
        asked >= 3 || what.contains("Unread") || what.contains("OnAccept"),
        "{what}: asked {asked} times"
    );
}

/// Calls to three endpoints in turn, of which the first is bad: its calls must end so, after one sending.
fn passes(world: &mut World, does: Does, meaning: &Meaning, what: &str) {
    world.set(0, does);
    let mut ended = 0;
    for (key, got) in world.calls(9) {
        assert!(world.read(&key) <= 1, "{what}: {key} was sent again");
        if !got.is_ok() {
            assert_eq!(&got.meaning, meaning, "{what}");
            assert!(matches!(got.by, None | Some(0)), "{what}: {got:?}");
            ended += 1;
        }
    }
    assert!((1..=3).contains(&ended), "{what}: {ended} of 9 ended so");
}

#[test]
fn a_lost_call_is_answered_by_another_endpoint_where_that_does_no_harm() {
    every(|protocol| {
        let mut world = world(protocol, "idempotent: true");
        for does in [Does::Dies, Does::DiesUnread, Does::DiesOnAccept, Does::Resets] {
            world.set(0, Does::Dies);
            world.calls(3);
            world.set(0, does);
            others_answer(&mut world, &format!("{does:?}"));
        }
        world.end();
    });
}

#[test]
fn a_lost_call_is_refused_and_not_sent_again_where_nobody_said_that_it_may() {
    every(|protocol| {
        let mut world = world(protocol, "");
        passes(&mut world, Does::Dies, &Meaning::Unreachable, "dies");
        passes(&mut world, Does::DiesUnread, &Meaning::Unreachable, "dies unread");
        world.end();
    });
}

#[test]
fn a_call_that_could_not_be_sent_goes_elsewhere_whatever_its_route_says() {
    every(|protocol| {
        let mut world = world(protocol, "");
        world.endpoints[0].kill();
        for (key, got) in world.calls(9) {
            assert!(got.is_ok() && world.read(&key) == 1, "{key}: {got:?}");
        }
        // Nobody is there.
        (1..3).for_each(|at| world.endpoints[at].kill());
        for (_, got) in world.calls(6) {
            assert_eq!(got.meaning, Meaning::Unreachable);
        }
        world.end();
    });
}

#[test]
fn answers_that_the_route_names_are_tried_elsewhere() {
    every(|protocol| {
        let status = format!("statuses: [{}]", protocol.error());
        for (retry, does) in
            [("on: [overloaded]", Does::Busy), ("on: [error]", Does::Fails), (&status, Does::Fails)]
        {
            let mut world = world(protocol, &format!("idempotent: true, retry: {{ {retry} }}"));
            world.set(0, does);
            others_answer(&mut world, retry);
            world.end();
        }
    });
}

#[test]
fn answers_that_the_route_does_not_name_pass_as_they_are() {
    every(|protocol| {
        for (retry, does, meaning) in [
            ("on: [reset]", Does::Busy, Meaning::Busy),
            ("on: [reset, overloaded]", Does::Fails, Meaning::Error),
            ("on: [reset, error]", Does::Busy, Meaning::Busy),
            ("on: [reset, overloaded, error]", Does::Throws, Meaning::Exception),
        ] {
            let mut world = world(protocol, &format!("idempotent: true, retry: {{ {retry} }}"));
            passes(&mut world, does, &meaning, retry);
            world.end();
        }
    });
}

#[test]
fn two_tries_more_find_the_one_good_endpoint_of_three() {
    every(|protocol| {
        for balance in ["round_robin", "random", "least_request", "p2c_ewma"] {
            let mut world = World::start(
                protocol,
                Setup {
                    route: "idempotent: true, retry: { on: [reset, overloaded, error], tries: 2, backoff: 1ms }",
                    cluster: &format!(
                        "balance: {balance}, {ALL_STAY}, retry_budget: {{ share: 100%, floor: 1000 }}"
                    ),
                    ..Setup::default()
                },
            );
            for (one, two) in [(Does::Dies, Does::Dies), (Does::Busy, Does::Dies), (Does::Fails, Does::Busy)]
            {
                world.set(0, one);
                world.set(1, two);
                for (key, got) in world.calls(20) {
                    assert_eq!(
                        (&got.meaning, got.by),
                        (&Meaning::Ok, Some(2)),
                        "{balance}: {key} {one:?} {two:?}"
                    );
                    let read = [0, 1, 2].map(|at| world.endpoints[at].read(&key));
                    assert!(read.iter().all(|read| *read <= 1), "{balance}: {key} was read {read:?} times");
                }
            }
            world.end();
        }
    });
}

#[test]
fn a_slow_try_is_followed_by_another_and_its_late_answer_reaches_nobody() {
    every(|protocol| {
        let mut world = world(protocol, "idempotent: true, retry: { per_try_timeout: 200ms }");
        world.set(0, Does::Slow(Duration::from_millis(400)));
        others_answer(&mut world, "slow");
        // While the late answers come, each call gets its own: that is asserted of every answer.
        world.set(0, Does::Answers);
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            assert!(world.call().1.is_ok());
        }
        world.end();
    });
}

#[test]
fn nothing_is_sent_again_when_something_of_an_answer_was_given_on() {
    every(|protocol| {
        let mut world =
            world(protocol, "idempotent: true, retry: { on: [reset, overloaded, error], tries: 3 }");
        if protocol.is_framed() {
            // Half a frame never reached the caller: that is a lost call like any other.
            world.set(0, Does::Tears);
            others_answer(&mut world, "a torn frame");
        } else {
            // gRPC can tell of it in trailers.
            let torn = if protocol.error() == 14 { Meaning::Unreachable } else { Meaning::Torn };
            passes(&mut world, Does::Tears, &torn, "a torn answer");
        }
        world.end();
    });
}

#[test]
fn calls_without_answers_are_sent_once() {
    each(
        |protocol| protocol.is_framed(),
        |protocol| {
            let mut world =
                world(protocol, "idempotent: true, retry: { on: [reset, overloaded, error], tries: 3 }");
            (0..3).for_each(|at| world.set(at, Does::Dies));
            let mut caller = world.caller();
            for at in 0..12 {
                caller.tell(&Ask::new(format!("told-{at}")));
            }
            let came = within(PATIENCE, || {
                std::thread::sleep(Duration::from_millis(50));
                world.counts().iter().sum::<usize>() > 0
            });
            assert!(came, "none came at all");
            std::thread::sleep(Duration::from_millis(200));
            for at in 0..12 {
                assert!(world.read(&format!("told-{at}")) <= 1, "{at} was sent again");
            }
            drop(caller);
            world.end();
        },
    );
}

#[test]
fn what_is_too_long_to_be_kept_is_not_sent_again() {
    every(|protocol| {
        let mut world = world(protocol, "idempotent: true, retry: { tries: 3 }");
        (0..3).for_each(|at| world.set(at, Does::Dies));
        for (size, sendings) in [(1 << 10, 4), (80 << 10, 1)] {
            let key = format!("of-{size}");
            let got = world.ask(&Ask::new(&key).size(size));
            assert_eq!((got.meaning, world.read(&key)), (Meaning::Unreachable, sendings), "{key}");
        }
        world.end();
    });
}

#[test]
fn all_tries_together_take_no_longer_than_the_call_may() {
    every(|protocol| {
        let route = "timeout: 300ms, idempotent: true, retry: { per_try_timeout: 100ms, tries: 10 }";
        let mut world = World::start(protocol, Setup { route, cluster: RICH, ..Setup::default() });
        (0..3).for_each(|at| world.set(at, Does::Holds));
        for (key, got) in world.calls(3) {
            assert_eq!(got.meaning, Meaning::TimedOut, "{key}");
        }
        // Three tries of 100 ms are 300; what would come after the end has time to.
        std::thread::sleep(Duration::from_millis(300));
        let read = [0, 1, 2].map(|at| world.read(&format!("call-{at}")));
        assert!(read.iter().all(|read| *read <= 3) && read.iter().sum::<usize>() > 3, "{read:?}");
        world.end();
    });
}

#[test]
fn trying_again_never_costs_more_than_its_budget() {
    const CALLS: usize = 500;
    every(|protocol| {
        for (does, retry) in [(Does::Fails, "on: [error]"), (Does::Dies, "on: [reset]")] {
            let route = format!("idempotent: true, retry: {{ {retry}, tries: 3, backoff: 1ms }}");
            let setup = Setup { route: &route, cluster: IN_TURN, ..Setup::default() };
            let mut world = World::start(protocol, setup);
            (0..3).for_each(|at| world.set(at, does));
            let began = Instant::now();
            assert!(world.calls(CALLS).iter().all(|(_, got)| !got.is_ok()));
            // The floor is 10 a second, and as many at once at the beginning.
            let seconds = began.elapsed().as_secs() as usize + 1;
            let sendings: usize = world.counts().iter().sum();
            let most = CALLS * 120 / 100 + 10 * seconds + 10;
            assert!(
                (CALLS * 120 / 100..=most).contains(&sendings),
                "{does:?}: {sendings} sendings in {seconds} s"
            );
            world.end();
        }
    });
}

#[test]
fn without_a_budget_nothing_is_tried_again() {
    every(|protocol| {
        // Each with connections of its own: one of HTTP/1 that was used before may have ended before the call came.
        for does in [Does::Fails, Does::Busy, Does::Dies] {
            let mut world = World::start(
                protocol,
                Setup {
                    route: "idempotent: true, retry: { on: [reset, overloaded, error], tries: 3 }",
                    cluster: &format!("{IN_TURN}, retry_budget: {{ share: 0%, floor: 0 }}"),
                    ..Setup::default()
                },
            );
            (0..3).for_each(|at| world.set(at, does));
            for (key, got) in world.calls(20) {
                assert!(!got.is_ok() && world.read(&key) == 1, "{does:?}: {got:?} {}", world.read(&key));
            }
            world.end();
        }
    });
}
