//! Calls that say of themselves, by a tag beside them, for whom they are.
//!
//! Of three providers the second has the tag `gray`, the third has it as well, and the first has none. Each call has one
//! provider that may execute it, or none: where it was executed is read from the providers' own notes.

use std::time::Duration;

use super::stage::{Ask, Got, Stage};

/// As a route that matches the tag has it.
pub(crate) fn a_route_reads_the_tag(stage: &mut Stage) {
    for turn in 0..2 {
        let (gray, other, none) = (format!("gray-{turn}"), format!("blue-{turn}"), format!("none-{turn}"));
        stage.call(&Ask::through("tagged", &gray).beside("dubbo.tag", "gray")).is_from("second", &gray);
        stage.call(&Ask::through("tagged", &other).beside("dubbo.tag", "blue")).is_from("first", &other);
        stage.call(&Ask::through("tagged", &none)).is_from("first", &none);
    }
}

/// As a cluster's `tags` have it: the tag of a call, of a whole consumer, of nobody, and none.
pub(crate) fn a_cluster_goes_by_the_tag(stage: &mut Stage) {
    let (java, tag) = (stage.java, stage.java.tag());
    let mut gray = stage.consumer_saying("dubbo.tag=gray");
    for turn in 0..3 {
        for lane in ["tags", "strict"] {
            let token = format!("{lane}-call-{turn}");
            stage.call(&Ask::through(lane, &token).beside(tag, "gray")).is_from("second", &token);
            assert_eq!(stage.executed(&token), [0, 1], "{token}");
            let token = format!("{lane}-consumer-{turn}");
            stage.call_by(&mut gray, &Ask::through(lane, &token)).is_from("second", &token);
            assert_eq!(stage.executed(&token), [0, 1], "{token}");
            let token = format!("{lane}-untagged-{turn}");
            stage.call(&Ask::through(lane, &token)).is_from("first", &token);
            assert_eq!(stage.executed(&token), [1, 0], "{token}");
        }
        for force in [None, Some("false")] {
            let token = format!("nobody's-{turn}-{}", force.unwrap_or("unsaid"));
            let ask = Ask::through("tags", &token).beside(tag, "blue");
            let ask = force.into_iter().fold(ask, |ask, force| ask.beside("dubbo.force.tag", force));
            stage.call(&ask).is_from("first", &token);
            assert_eq!(stage.executed(&token), [1, 0], "{token}");
        }
        // Who has it takes the call, whether it must or not.
        let token = format!("forced-gray-{turn}");
        let ask = Ask::through("tags", &token).beside(tag, "gray").beside("dubbo.force.tag", "true");
        stage.call(&ask).is_from("second", &token);
        assert_eq!(stage.executed(&token), [0, 1], "{token}");
        // Nobody may take these, and nobody does, however often the framework tries.
        for (lane, force) in [("tags", "true"), ("strict", "false")] {
            let token = format!("{lane}-refused-{turn}");
            let ask = Ask::through(lane, &token).retries(turn).beside(tag, "blue");
            let got = stage.call(&ask.beside("dubbo.force.tag", force));
            got.threw(java.nobody()).took_from(Duration::ZERO);
            assert_eq!(stage.executed(&token), [0, 0], "{token}");
        }
    }
    // Past the sidecar, of a provider that has no such service.
    Got::of(&mut gray, "missing").threw(java.nobody_alone());
}

/// A provider with the tag is killed while it executes calls: another with the tag answers them, and nobody without it.
pub(crate) fn a_tagged_endpoint_is_killed(stage: &mut Stage) {
    let (java, tag) = (stage.java, stage.java.tag());
    let mut third = stage.third();
    assert_eq!(third.ask("hold")["value"], "hold");
    let ask = |lane, turn: usize| Ask::through(lane, format!("{lane}-{turn}")).beside(tag, "gray");
    let asks = [0, 1, 2, 3].map(|turn| ask("three", turn));
    stage.begin(&asks);
    let before = asks.clone().map(|ask| stage.counts(&ask.token));
    third.kill();
    let ends = stage.ends(&asks);

    let mut lost = 0;
    for ((ask, got), before) in asks.iter().zip(&ends).zip(before) {
        got.is_from("second", &ask.token);
        assert!([[0, 1, 0], [0, 0, 1]].contains(&before), "{}: {before:?}", ask.token);
        lost += before[2];
        assert_eq!(stage.executed_by_three(&ask.token), [0, 1, before[2]], "{}", ask.token);
    }
    assert_eq!(lost, 2, "of four calls two were with the provider that was killed");
    // From now on all go to the one that is left.
    for turn in 4..8 {
        let ask = ask("three", turn);
        stage.call(&ask).is_from("second", &ask.token);
        assert_eq!(stage.executed(&ask.token), [0, 1], "{}", ask.token);
    }
    // Where none is left the tag is still somebody's: those without it are not asked.
    for turn in 0..2 {
        let ask = ask("gone", turn);
        stage.call(&ask).threw(java.lost()).took_from(Duration::ZERO);
        assert_eq!(stage.executed(&ask.token), [0, 0], "{}", ask.token);
        let token = format!("gone-untagged-{turn}");
        stage.call(&Ask::through("gone", &token)).is_from("first", &token);
        assert_eq!(stage.executed(&token), [1, 0], "{token}");
    }
}
