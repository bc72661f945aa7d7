//! Lives of real servers and of the sidecar, with calls under way: killed, told to end, and back again.
//!
//! A call is answered, or visibly is not; from then on calls must succeed for good.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::programs::{Made, Stage, grpc_server, ready};
use super::support::{Process, Sidecar, within};
use super::{failure, value};

const UNREACHABLE_SEEN_MAX: Duration = Duration::from_secs(1);
/// A drained sidecar has nothing to wait for once the call in flight is answered: far below `drain_timeout` (30 s).
const DRAINED_MAX: Duration = Duration::from_secs(3);
/// Both frameworks wait a while before they dial a lost address again, gRPC longer each time.
const REDIALLED_MAX: Duration = Duration::from_secs(15);

/// The server dies in mid-call and comes back on its port; clients and sidecar stay.
pub(crate) fn server_restarts(stage: &mut Stage) {
    let [blue, green, _] = stage.ports;
    stage.second.send("wait lost 4000");
    std::thread::sleep(Duration::from_millis(400));
    let killed = Instant::now();
    stage.servers[0].kill();
    let lost = failure(&stage.second.answer());
    assert!(killed.elapsed() <= UNREACHABLE_SEEN_MAX, "{:?}: {lost:?}", killed.elapsed());
    let words =
        format!("outrigger: connection to 127.0.0.1:{blue} (cluster blue) was lost before the answer");
    lost.is(14, &words);
    let down = failure(&stage.first.ask("say nobody-there"));
    assert!(down.took <= UNREACHABLE_SEEN_MAX, "{down:?}");
    down.is(14, &format!("outrigger: cannot reach 127.0.0.1:{blue} (cluster blue)"));

    stage.servers.clear();
    stage.servers = stage.server.servers(blue, green);
    ready(&stage.servers);
    both_call_again(stage, Duration::from_secs(5));
}

/// One of two servers is told to take no more calls, under load: none is lost, and it ends; then it is back and has its
/// share.
pub(crate) fn server_retires(stage: &mut Stage) {
    let both = stage.sidecar.port("both");
    let mut client = Made::Grpc.client("the client of both", both);
    ready([&client]);
    let calls = |server: &mut Process| -> u64 { value(&server.ask("calls")).parse().expect("a number") };
    client.send("load 8 4000");
    let shared = within(Duration::from_secs(2), || calls(&mut stage.servers[1]) > 10);
    assert!(shared, "one of the servers has nothing to do");
    let ended = value(&stage.servers[1].ask("shutdown"));
    assert!(ended.starts_with("ended, "), "{ended}");
    let load = value(&client.answer());
    let (answered, failed) = load.split_once(' ').expect("two words");
    assert_eq!(failed, "failed=[]", "calls were lost while a server ended in order");
    let answered: u32 = answered.trim_start_matches("answered=").parse().expect("a number");
    assert!(answered >= 300, "{load}");

    stage.servers[1].kill();
    stage.servers[1] = Process::start("the green server, again", &mut grpc_server("green", stage.ports[1]));
    let back = within(Duration::from_secs(30), || {
        assert!(value(&client.ask("load 8 300")).ends_with(" failed=[]"));
        calls(&mut stage.servers[1]) > 10
    });
    assert!(back, "the server that is back has nothing to do");
}

/// The sidecar is told to end in mid-call, does so in order, and another takes its place; server and clients stay.
pub(crate) fn sidecar_restarts(stage: &mut Stage) {
    stage.first.send("wait kept 1500");
    std::thread::sleep(Duration::from_millis(300));
    stage.sidecar.term();
    let asked = Instant::now();
    assert_eq!(value(&stage.first.answer()), "kept");
    let status = stage.sidecar.wait(DRAINED_MAX.saturating_sub(asked.elapsed()));
    assert!(status.success(), "after TERM the sidecar ended with {status}");
    // With nobody on the port a call fails at once, and that must not spoil the later ones.
    let down = failure(&stage.second.ask("say nobody-there"));
    assert!(down.took <= UNREACHABLE_SEEN_MAX, "{down:?}");

    stage.sidecar = Sidecar::start(&stage.conf);
    both_call_again(stage, REDIALLED_MAX);
}

/// Both clients get answers within the limit, whatever their first calls meet, and from then on for good.
fn both_call_again(stage: &mut Stage, limit: Duration) {
    let made = stage.client;
    for client in [&mut stage.first, &mut stage.second] {
        let mut answer = Value::Null;
        let back = within(limit, || {
            answer = client.ask("say back");
            let answered = answer["ok"] == true;
            if !answered {
                // A refusal takes no time, and each is a line in the client's log.
                std::thread::sleep(Duration::from_millis(100));
            }
            answered
        });
        assert!(back, "no call succeeds after the restart: {answer}");
        let (case, due) = match made {
            Made::Dubbo => ("parallel 50", "own=50 other=0 failed=none"),
            Made::Grpc => ("many 50", "own=50 failed=[]"),
        };
        assert_eq!(value(&client.ask(case)), due);
        assert_eq!(value(&client.ask("count 100 100")), "100 in order");
    }
}
