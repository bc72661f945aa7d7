//! Calls that are tried again, and calls that are not.
//!
//! Of two calls of a kind one goes to either provider, so just one of them meets the bad one: which of them is read from
//! the providers' own notes. Must look at both.

use std::time::Duration;

use super::framework::{Failed, Java, THREADS};
use super::stage::{Ask, Got, Stage};

/// What a service throws is its answer: it comes as it was thrown, and nobody is asked twice, whatever the route says.
pub(crate) fn exceptions_of_the_service_are_not_retried(stage: &mut Stage) {
    for (mood, class, code) in
        [("fail", "peer.api.DemoException", "42"), ("crash", "java.lang.IllegalStateException", "")]
    {
        stage.tell_both(mood);
        let mut by = Vec::new();
        // The framework's own tries, too.
        for (turn, retries) in [0, 2].into_iter().enumerate() {
            let token = format!("thrown-{mood}-{turn}");
            let got = stage.call(&Ask::through("any", &token).retries(retries));
            let executed = stage.executed(&token);
            let name = match executed {
                [1, 0] => "first",
                [0, 1] => "second",
                _ => panic!("{token} was executed {executed:?} times"),
            };
            got.threw_own(class, code, &format!("{name} {token}"));
            by.push(name);
        }
        by.sort_unstable();
        assert_eq!(by, ["first", "second"], "one of them was asked twice");
    }
    stage.tell_both("answer");
}

/// One provider hangs: after a while the other one is asked, and the consumer sees an answer.
pub(crate) fn a_slow_try(stage: &mut Stage) {
    stage.tell(0, "hold");
    let tokens = ["slow-0", "slow-1"];
    for token in tokens {
        stage.call(&Ask::through("patient", token)).is_from("second", token);
    }
    let asked: usize = tokens.iter().map(|token| stage.executed(token)[0]).sum();
    assert!(asked >= 1, "no try was slow");
    assert!(tokens.iter().all(|token| stage.executed(token)[1] == 1), "asked more than once");
    stage.tell(0, "answer");
    for turn in 0..4 {
        stage.is_answered(&Ask::through("patient", format!("slow-later-{turn}")));
    }
}

/// One provider has no thread left: a call is tried elsewhere where the route says so, and elsewhere the consumer sees what
/// its framework makes of that.
pub(crate) fn an_endpoint_that_is_too_busy(stage: &mut Stage) {
    stage.tell(0, "hold");
    let held: Vec<Ask> = (0..THREADS).map(|at| Ask::direct(format!("held-{at}"))).collect();
    stage.begin(&held);
    let java = stage.java;
    stage.call(&Ask::direct("busy-direct")).threw(java.busy());

    let got = pair(stage, |turn| Ask::through("plain", format!("busy-plain-{turn}")));
    assert_eq!(refused(stage, &got), 1);
    for (_, got) in got.iter().filter(|(_, got)| !got.ok()) {
        got.threw(java.busy());
    }

    // Over Triple the stream ends without an answer, which nobody can take for a word about a pool.
    if java == Java::Triple {
        let got = pair(stage, |turn| Ask::through("busy", format!("busy-unsaid-{turn}")));
        assert_eq!(refused(stage, &got), 1);
    }
    let lane = if java == Java::Triple { "safe" } else { "busy" };
    let got = pair(stage, |turn| Ask::through(lane, format!("busy-{lane}-{turn}")));
    assert_eq!(refused(stage, &got), 0, "an exception was seen");

    let got = pair(stage, |turn| Ask::through("eager", format!("busy-eager-{turn}")).retries(1));
    if java.tries_again(Failed::Busy) {
        assert_eq!(refused(stage, &got), 0, "the framework did not try again");
    } else {
        assert_eq!(refused(stage, &got), 1);
    }
    stage.tell(0, "answer");
    for (ask, got) in held.iter().zip(stage.ends(&held)) {
        got.is_from("first", &ask.token);
    }
}

/// Two calls of a kind, one after the other.
fn pair(stage: &mut Stage, ask: impl Fn(usize) -> Ask) -> Vec<(String, Got)> {
    [0, 1].map(|turn| (ask(turn).token, stage.call(&ask(turn)))).into()
}

/// How many were not answered. None of them was executed anywhere, and the others once, by the second provider.
#[track_caller]
fn refused(stage: &mut Stage, calls: &[(String, Got)]) -> usize {
    let mut refused = 0;
    for (token, got) in calls {
        if got.ok() {
            got.is_from("second", token);
        } else {
            refused += 1;
        }
        assert_eq!(stage.executed(token), [0, usize::from(got.ok())], "{token}");
    }
    refused
}

/// One provider is killed while it executes calls.
pub(crate) fn an_endpoint_that_is_killed(stage: &mut Stage) {
    let java = stage.java;
    stage.tell(0, "hold");
    let mut asks = Vec::new();
    for lane in ["plain", "safe", "eager"] {
        let retries = if lane == "eager" { 2 } else { 0 };
        asks.extend([0, 1].map(|turn| Ask::through(lane, format!("killed-{lane}-{turn}")).retries(retries)));
    }
    // The last, as its time runs.
    asks.push(Ask::direct("killed-direct").timeout(2500));
    stage.begin(&asks);
    let before: Vec<_> = asks.iter().map(|ask| stage.count(&ask.token)).collect();
    stage.providers[0].kill();
    let ends = stage.ends(&asks);

    let (alone, answered) = java.lost_alone();
    ends[6].threw_either(alone, answered);
    assert_eq!(stage.executed("killed-direct"), [1, 0]);
    let mut lost = [0; 3];
    for (at, ((ask, got), before)) in asks.iter().zip(&ends).zip(before).enumerate().take(6) {
        let token = &ask.token;
        if before == [0, 1] {
            got.is_from("second", token);
            assert_eq!(stage.executed(token), [0, 1]);
            continue;
        }
        assert_eq!(before, [1, 0], "{token}");
        let kind = at / 2;
        lost[kind] += 1;
        let saved = [false, true, java.tries_again(Failed::Lost)][kind];
        if saved {
            got.is_from("second", token);
        } else {
            got.threw(java.lost()).took_from(Duration::ZERO);
        }
        assert_eq!(stage.executed(token), [1, usize::from(saved)], "{token}");
    }
    assert_eq!(lost, [1; 3], "one call of each kind was with the provider that was killed");
    // From now on all go where somebody is.
    for lane in ["plain", "safe"] {
        for turn in 0..4 {
            let token = format!("{lane}-after-{turn}");
            stage.call(&Ask::through(lane, &token)).is_from("second", &token);
        }
    }
}
