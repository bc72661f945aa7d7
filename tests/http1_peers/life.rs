//! Lives of real servers and of the sidecar: a server is killed and comes back, the sidecar is told to end.
//!
//! What a caller sees must be whole, or visibly not whole: an answer that was cut off may never look like an end.

use std::time::Duration;

use super::support::peers::Web;
use super::support::{Process, free_port, within};
use super::{
    curl::{curl, parts},
    sidecar, turn, value,
};

/// curl's words for an answer that ended too early: 18 (short), 56 (reset).
const CUT_OFF: [i32; 2] = [18, 56];
/// What is in flight here takes a second or two: far below `drain_timeout` (30 s).
const DRAINED_MAX: Duration = Duration::from_secs(10);

/// How many requests the server is at or has been at.
fn requests(go: &mut Process) -> i64 {
    go.ask("counts")["requests"].as_i64().expect("a number")
}

/// Waits until so many more requests have reached the server.
#[track_caller]
fn arrived(go: &mut Process, more: i64, before: i64) {
    let all = within(Duration::from_secs(10), || requests(go) >= before + more);
    assert!(all, "the requests do not arrive");
}

#[test]
fn a_server_is_killed_and_comes_back() {
    let _turn = turn();
    let port = free_port();
    let mut go = Process::start("go", &mut Web::GoEcho.on(port));
    let mut sidecar = sidecar("http1", port);
    let egress = sidecar.port("egress");
    let mut client = Process::start("the client", &mut Web::GoClient.on(egress));
    assert_eq!(value(&mut client, "parallel 50"), 50);

    // One that has not been answered, and two in mid-answer: by chunks and by length.
    let before = requests(&mut go);
    let (waiting, streamed, long) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| curl(egress, &["{}/slow?ms=20000"]));
        let streamed = scope.spawn(|| curl(egress, &["{}/chunked?parts=2000&pause=10"]));
        let long = scope.spawn(|| curl(egress, &["--limit-rate", "10M", "{}/big?bytes=50000000"]));
        arrived(&mut go, 3, before);
        // Until the first parts of both answers have passed.
        std::thread::sleep(Duration::from_millis(500));
        go.kill();
        [waiting, streamed, long].map(|thread| thread.join().expect("curl ends")).into()
    });
    waiting.refused(502, "unreachable");
    for cut in [&streamed, &long] {
        assert!(
            cut.status == 200 && CUT_OFF.contains(&cut.exit),
            "{} {}: {}",
            cut.status,
            cut.exit,
            cut.said
        );
        assert!(!cut.body.is_empty(), "nothing of the answer came");
    }
    curl(egress, &["{}/echo"]).refused(502, "unreachable");

    let _again = Process::start("go, again", &mut Web::GoEcho.on(port));
    let back = within(Duration::from_secs(10), || curl(egress, &["{}/echo"]).status == 200);
    assert!(back, "no request is served after the restart");
    for _ in 0..3 {
        assert_eq!(value(&mut client, "parallel 100"), 100, "and from then on all are");
    }
    sidecar.assert_running();
}

/// Connections that rest in the pool are lost with their server; the next calls must not find that out by failing.
#[test]
fn a_server_restarts_between_two_requests() {
    let _turn = turn();
    let port = free_port();
    let mut go = Process::start("go", &mut Web::GoEcho.on(port));
    let mut sidecar = sidecar("http1", port);
    let egress = sidecar.port("egress");
    let mut client = Process::start("the client", &mut Web::GoClient.on(egress));
    assert_eq!(value(&mut client, "parallel 100"), 100);
    go.kill();
    let _again = Process::start("go, again", &mut Web::GoEcho.on(port));
    assert_eq!(value(&mut client, "parallel 100"), 100);
    assert_eq!(value(&mut client, "keepalive 10"), 0, "the caller's own connections are kept");
    sidecar.assert_running();
}

#[test]
fn the_sidecar_ends_when_its_answers_have_ended() {
    let _turn = turn();
    let port = free_port();
    let mut go = Process::start("go", &mut Web::GoEcho.on(port));
    let mut sidecar = sidecar("http1", port);
    let egress = sidecar.port("egress");
    let before = requests(&mut go);
    let (waiting, streamed, sent) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| curl(egress, &["{}/slow?ms=1500"]));
        let streamed = scope.spawn(|| curl(egress, &["{}/chunked?parts=150&pause=10"]));
        let sent = scope.spawn(|| curl(egress, &["{}/slow?ms=1500", "-d", "a body"]));
        arrived(&mut go, 3, before);
        sidecar.term();
        [waiting, streamed, sent].map(|thread| thread.join().expect("curl ends")).into()
    });
    for answer in [&waiting, &sent] {
        assert_eq!(
            (answer.is(200).text(), answer.header("connection")),
            ("at last".to_owned(), Some("close"))
        );
    }
    assert_eq!(streamed.is(200).text(), parts(150));
    let status = sidecar.wait(DRAINED_MAX);
    assert!(status.success(), "after TERM the sidecar ended with {status}");
}
