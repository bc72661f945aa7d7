//! `Talk` (talk.proto), the service of Protocol Buffers that all four programs know: one answer, and streams of every
//! kind, with their ends, their cancellations and their refusals.
//!
//! What differs between the frameworks is named where it does; everything else must be the same for every pair.

use std::time::Duration;

use super::programs::{Made, Stage};
use super::support::Process;
use super::{MIB, expect, failure, value};

/// The deadline of the case `impatient`, and the route timeout of `hurried`.
const DEADLINE: Duration = Duration::from_millis(300);
const DEADLINE_SEEN_MAX: Duration = Duration::from_millis(1200);
/// Milliseconds within which a server is told that a stream was cancelled, two hops away and on a busy machine.
pub(crate) const TOLD_MAX_MS: i64 = 500;

/// All that every pair can do.
pub(crate) fn all(stage: &mut Stage) {
    values(stage);
    streams(stage);
    statuses(stage);
    cancellations(&mut stage.first);
    deadline(stage);
    refusals(stage);
}

fn values(stage: &mut Stage) {
    let client = &mut stage.first;
    expect(client, "say hello", "hello");
    expect(client, "name", "blue");
    expect(client, "greenname", "green");
    expect(client, &format!("saybytes {MIB}"), &format!("{MIB} equal"));
    expect(client, "saybytes 0", "0 equal");
    expect(client, "wait patience 150", "patience");
    // Beside the call: text and bytes, of which Dubbo also sends some back.
    let both = stage.client == Made::Dubbo && stage.server == Made::Dubbo;
    let seen = |value: &str| match (stage.client, both) {
        (_, true) => format!("{value} {value} 0001feff"),
        (Made::Dubbo, _) => format!("{value} null null"),
        (Made::Grpc, _) => value.to_owned(),
    };
    expect(client, "seen x-lane blue", &seen("blue"));
    expect(client, "seen x-lane-bin 0x00ff10", &seen("00ff10"));
    if both {
        // Dubbo puts bytes above ASCII into its headers as they are.
        expect(client, "seen x-lane blüe", &seen("blüe"));
    }
}

fn streams(stage: &mut Stage) {
    let client = &mut stage.first;
    expect(client, "count 0 0", "0 in order");
    expect(client, "count 1 10", "1 in order");
    // Many small ones, then more bytes than any window holds.
    expect(client, "count 10000 20", "10000 in order");
    expect(client, "count 40 262144", "40 in order");
    expect(client, "sum 1 10", "1 words, sum 0");
    expect(client, "sum 100 20000", "100 words, sum 4950");
    expect(client, "chat 100", "100 in order");
    if stage.client == Made::Grpc {
        // Dubbo sends nothing at all before the first word of a stream.
        expect(client, "chat 0", "0 in order");
        expect(client, "sum 0 0", "0 words, sum 0");
    }
}

/// Statuses of the service itself come as they are, whatever is refused beside them.
fn statuses(stage: &mut Stage) {
    // Java's Dubbo puts the name of the status before the words of its service.
    let own = |name: &str| {
        if stage.server == Made::Dubbo { format!("{name} : no way") } else { "no way".to_owned() }
    };
    let client = &mut stage.first;
    for (status, name) in [
        (1, "CANCELLED"),
        (3, "INVALID_ARGUMENT"),
        (4, "DEADLINE_EXCEEDED"),
        (5, "NOT_FOUND"),
        (7, "PERMISSION_DENIED"),
        (8, "RESOURCE_EXHAUSTED"),
        (9, "FAILED_PRECONDITION"),
        (14, "UNAVAILABLE"),
        (16, "UNAUTHENTICATED"),
    ] {
        let case = format!("status {status} no_way");
        failure(&client.ask(&case)).is(status, &own(name).replace("no way", "no_way"));
    }
    failure(&client.ask("status 0 thrown")).is(2, "");
    failure(&client.ask("nomethod")).is(12, "Nothing");
}

/// A client that leaves in the middle of a stream: the server is told, and the connection serves on.
fn cancellations(client: &mut Process) {
    for case in ["trickle token-t 20", "hangup token-h 20", "trickle token-u 1"] {
        let after: i64 = value(&client.ask(case)).parse().expect("a number");
        assert!((-5..=TOLD_MAX_MS).contains(&after), "{case}: the server was told {after} ms later");
        expect(client, "say on", "on");
    }
}

/// The caller's own deadline. Dubbo's consumer ends its call by a clock of its own, whatever comes later.
fn deadline(stage: &mut Stage) {
    let client = &mut stage.first;
    let expired = failure(&client.ask("impatient token-i 1500"));
    let ours = stage.client == Made::Dubbo && expired.code == "2";
    assert!(ours || expired.code == "grpc 4", "{expired:?}");
    assert!(expired.took + Duration::from_millis(10) >= DEADLINE, "too early: {expired:?}");
    assert!(expired.took <= DEADLINE_SEEN_MAX, "too late: {expired:?}");
    if stage.server == Made::Grpc {
        // By the deadline that travelled with the call, or by the reset of its stream: one of them came first.
        let told = || {
            let told = value(&client.ask("told token-i"));
            assert!(["", "deadline", "cancelled"].contains(&&*told), "{told}");
            !told.is_empty()
        };
        assert!(super::support::within(Duration::from_secs(2), told), "the server's call was not cancelled");
    }
    expect(&mut stage.first, "say after-the-deadline", "after-the-deadline");
}

/// What the caller sees when the sidecar itself answers.
fn refusals(stage: &mut Stage) {
    let [blue, _, nowhere] = stage.ports;
    let client = &mut stage.first;
    failure(&client.ask("absent"))
        .is(12, "outrigger: no route for peer.talk.Absent.Never on listener egress");
    let words = format!("outrigger: cannot reach 127.0.0.1:{nowhere} (cluster nowhere)");
    failure(&client.ask("seen lane nowhere")).is(14, &words);
    failure(&client.ask("seen lane empty")).is(14, "outrigger: no endpoint for peer.talk.Talk.Seen");
    for _ in 0..2 {
        assert!(value(&client.ask("seen lane few")).starts_with("few"));
    }
    failure(&client.ask("seen lane few")).is(8, "outrigger: rate limit reached for peer.talk.Talk.Seen");
    expect(client, "say on", "on");

    let expired = failure(&client.ask("hurried token-r 1500"));
    let words = format!("outrigger: no answer from 127.0.0.1:{blue} (cluster blue) within 3");
    expired.is(4, &words);
    assert!(expired.took >= DEADLINE && expired.took <= DEADLINE_SEEN_MAX, "{expired:?}");
    if stage.server == Made::Grpc {
        // Nobody waits for that answer any more, and the server need not work on.
        let told = || value(&client.ask("told token-r")) == "cancelled";
        assert!(super::support::within(Duration::from_secs(1), told), "the server was not told");
    }
    expect(&mut stage.first, "hurried token-s 20", "token-s");
}
