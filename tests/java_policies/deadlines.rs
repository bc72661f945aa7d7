//! Calls that take too long, by their route's word and by their consumer's.
//!
//! Both providers hold them, so that nobody could answer. Must let them go at the end of each part: what is answered then
//! is late, and must reach nobody.

use std::time::Duration;

use super::framework::{Failed, Java};
use super::stage::{Ask, Stage};

/// The timeout of the routes that have one, and that of a consumer that has less patience than its route.
const SHORT_MS: u32 = 500;
const SHORT: Duration = Duration::from_millis(SHORT_MS as u64);

/// The route's is smaller than the consumer's: the consumer sees what its framework makes of a provider that was too slow,
/// and the provider was called once, even where the route would have tried again after any failure.
pub(crate) fn of_the_route(stage: &mut Stage) {
    stage.tell_both("hold");
    let thrown = stage.java.timed_out();
    for lane in ["short", "shortany"] {
        let token = format!("route-{lane}");
        stage.call(&Ask::through(lane, &token)).threw(thrown).took_from(SHORT);
        assert_eq!(stage.executed_in_all(&token), 1, "{token}");
    }
    if stage.java == Java::Triple {
        // A service that says so itself.
        stage.other("status 4 too-slow").threw(thrown);
    }
    nothing_is_late(stage, "route");
}

/// The consumer's is smaller than the route's: as if there was no sidecar.
pub(crate) fn of_the_consumer(stage: &mut Stage) {
    stage.tell_both("hold");
    let (alone, answered) = (stage.java.waited(), stage.java.timed_out());
    for lane in ["plain", "safe"] {
        let token = format!("own-{lane}");
        let got = stage.call(&Ask::through(lane, &token).timeout(SHORT_MS));
        // The sidecar knows the consumer's timeout too, where the protocol tells.
        got.threw_either(alone, answered).took_from(SHORT);
        assert_eq!(stage.executed_in_all(&token), 1, "{token}");
    }
    // A framework has more timers than one, so without a sidecar it may be either as well.
    let got = stage.call(&Ask::direct("own-direct").timeout(SHORT_MS));
    got.threw_either(alone, answered).took_from(SHORT);
    nothing_is_late(stage, "own");
}

/// A consumer that retries by itself does so after the route's timeout as after its own.
pub(crate) fn that_the_consumer_retries(stage: &mut Stage) {
    stage.tell_both("hold");
    let executed = if stage.java.tries_again(Failed::TimedOut) { 2 } else { 1 };
    let got = stage.call(&Ask::through("short", "again-short").retries(1));
    got.threw(stage.java.timed_out()).took_from(SHORT * executed);
    assert_eq!(stage.executed_in_all("again-short"), executed as usize);
    // Over Triple that is a matter of which timer within the framework is a hair faster.
    if stage.java != Java::Triple {
        let got = stage.call(&Ask::direct("again-direct").timeout(SHORT_MS).retries(1));
        got.threw_either(stage.java.waited(), stage.java.timed_out()).took_from(SHORT * executed);
        assert_eq!(stage.executed("again-direct"), [executed as usize, 0]);
    }
    nothing_is_late(stage, "again");
}

/// The providers answer all that they hold, and later calls get answers of their own.
fn nothing_is_late(stage: &mut Stage, part: &str) {
    stage.tell_both("answer");
    for turn in 0..4 {
        stage.is_answered(&Ask::through("plain", format!("{part}-later-{turn}")));
    }
}
