//! What a call may cost in system calls, counted with strace on the running sidecar; never a time.
//!
//! A relay that only copies bytes wakes, reads and writes twice for a call: six system calls. With one call at a
//! time the sidecar makes no more, with routing, a limit and metrics on; with many callers it makes fewer, because
//! their calls share wake-ups and writes. strace is installed by `tests/setup.sh`.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::echo::{Upstream, conf};
use support::raw::{Client, ECHO, Wire};
use support::{Child, Sidecar, TempDir, http1, within};

const ATTACH_MAX: Duration = Duration::from_secs(10);
/// Two wake-ups, two reads, two writes.
const RELAY: f64 = 6.0;
/// What happens besides calls while they are counted: looks at the conf file, timers. A share of a call.
const BESIDES: f64 = 0.25;

/// System calls by name that the sidecar makes while `work` runs.
fn counted(sidecar: &Sidecar, work: impl FnOnce()) -> BTreeMap<String, usize> {
    let dir = TempDir::new();
    let (trace, said) = (dir.path().join("trace"), dir.path().join("said"));
    let mut command = Command::new("strace");
    command.args(["-f", "-p", &sidecar.pid().to_string(), "-o"]).arg(&trace);
    let messages = fs::File::create(&said).expect("a file can be created");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
    let mut strace = Child::spawn(&mut command);
    let tasks = format!("/proc/{}/task", sidecar.pid());
    let attached = || {
        fs::read_dir(&tasks).expect("it runs").all(|task| {
            let status = fs::read_to_string(task.expect("a task").path().join("status")).unwrap_or_default();
            status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
        })
    };
    let ready = within(ATTACH_MAX, attached);
    assert!(ready, "strace did not attach: {}", fs::read_to_string(&said).unwrap_or_default());
    work();
    strace.signal("INT");
    assert!(strace.wait(ATTACH_MAX).is_some(), "strace does not end");
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(&trace).expect("strace wrote").lines() {
        // `123 read(…`; calls that others interrupt stand a second time as `<... read resumed>`.
        let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
        if let Some((name, _)) = call.split_once('(')
            && !call.starts_with('<')
        {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

fn of(counts: &BTreeMap<String, usize>, names: &[&str]) -> usize {
    names.iter().filter_map(|name| counts.get(*name)).sum()
}

const READS: [&str; 4] = ["read", "readv", "recvfrom", "recvmsg"];
const WRITES: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
const WAITS: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];

/// A sidecar with routing, a limit, a timeout and metrics on.
fn routed(upstream: &Upstream) -> Sidecar {
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { service: a.Other }, to: up }
      - { match: { service: t.Echo, method: { prefix: ec } }, to: up, timeout: 20s, limit: { rate: 1000000/s } }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    Sidecar::start(&conf(listener, &clusters))
}

#[test]
fn one_call_at_a_time_costs_no_more_than_copying_its_bytes() {
    const CALLS: u64 = 400;
    let upstream = Upstream::start();
    for wire in [Wire::V1, Wire::Crc, Wire::Dubbo] {
        let mut sidecar = routed(&upstream);
        let mut client = sidecar.client();
        (0..20).for_each(|id| client.well(wire, id));
        let counts = counted(&sidecar, || (0..CALLS).for_each(|id| client.well(wire, id)));
        let each = |names: &[&str]| of(&counts, names) as f64 / CALLS as f64;
        let all = counts.values().sum::<usize>() as f64 / CALLS as f64;
        assert!(each(&READS) <= 2.0 + BESIDES, "{wire:?}: {counts:?}");
        assert!(each(&WRITES) <= 2.0 + BESIDES, "{wire:?}: {counts:?}");
        assert!(each(&WAITS) <= 2.0 + BESIDES, "{wire:?}: {counts:?}");
        assert!(all <= RELAY + BESIDES, "{wire:?}: {all} system calls a call: {counts:?}");
        // That anything was counted at all.
        assert!(each(&READS) >= 1.9 && each(&WRITES) >= 1.9, "{wire:?}: {counts:?}");
        sidecar.assert_well();
    }
}

/// As `routed`, for HTTP/1.
fn routed_http(upstream: &http1::Upstream) -> Sidecar {
    let listener = "    protocol: http1
    routes:
      - { match: { authority: other.example }, to: up }
      - { match: { path: { prefix: /echo }, method: { any: [GET, POST] } }, to: up, timeout: 20s, limit: { rate: 1000000/s } }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    Sidecar::start(&conf(listener, &clusters))
}

#[test]
fn one_http_request_at_a_time_costs_no_more_than_copying_its_bytes() {
    const CALLS: u64 = 400;
    let upstream = http1::Upstream::start();
    let length = format!("{}{}", http1::post("/echo", 512, ""), "b".repeat(512));
    let chunked = http1::post("/echo", 5, "").replace("Content-Length: 5", "Transfer-Encoding: chunked");
    let chunked = format!("{chunked}5\r\nbytes\r\n0\r\n\r\n");
    for request in [http1::get("/echo"), length, chunked] {
        let mut sidecar = routed_http(&upstream);
        let mut client = sidecar.http();
        let mut calls = |count: u64| {
            for _ in 0..count {
                assert_eq!(client.ask(&request).status(), 200);
            }
        };
        calls(20);
        let counts = counted(&sidecar, || calls(CALLS));
        let each = |names: &[&str]| of(&counts, names) as f64 / CALLS as f64;
        let all = counts.values().sum::<usize>() as f64 / CALLS as f64;
        let case = request.split(' ').next().unwrap_or_default();
        assert!(each(&READS) <= 2.0 + BESIDES, "{case}: {counts:?}");
        assert!(each(&WRITES) <= 2.0 + BESIDES, "{case}: {counts:?}");
        assert!(each(&WAITS) <= 2.0 + BESIDES, "{case}: {counts:?}");
        assert!(all <= RELAY + BESIDES, "{case}: {all} system calls a request: {counts:?}");
        // That anything was counted at all.
        assert!(each(&READS) >= 1.9 && each(&WRITES) >= 1.9, "{case}: {counts:?}");
        sidecar.assert_well();
    }
}

#[test]
fn http_requests_of_many_callers_share_wake_ups() {
    const CALLERS: usize = 64;
    const ROUNDS: usize = 20;
    let upstream = http1::Upstream::start();
    let mut sidecar = routed_http(&upstream);
    let mut clients: Vec<http1::Client> = (0..CALLERS).map(|_| sidecar.http()).collect();
    let mut rounds = |count: usize| {
        for _ in 0..count {
            for client in &clients {
                client.send(http1::get("/echo"));
            }
            for client in &mut clients {
                client.next().is(" GET /echo ");
            }
        }
    };
    rounds(2);
    let counts = counted(&sidecar, || rounds(ROUNDS));
    let calls = (CALLERS * ROUNDS) as f64;
    let all = counts.values().sum::<usize>() as f64 / calls;
    let waits = of(&counts, &WAITS) as f64 / calls;
    // Each connection carries one request at a time and is read and written for it; only waking up can be shared.
    assert!(waits < 1.0 && all < RELAY, "{all} system calls a request: {counts:?}");
    assert!(of(&counts, &READS) as f64 >= calls, "{counts:?}");
    sidecar.assert_well();
}

#[test]
fn calls_of_many_callers_share_system_calls() {
    const CALLERS: usize = 64;
    const ROUNDS: u64 = 20;
    let upstream = Upstream::start();
    for wire in [Wire::V2, Wire::Dubbo] {
        let mut sidecar = routed(&upstream);
        let mut clients: Vec<Client> = (0..CALLERS).map(|_| sidecar.client()).collect();
        for client in &mut clients {
            client.well(wire, 1);
        }
        let counts = counted(&sidecar, || {
            for id in 0..ROUNDS {
                for client in &mut clients {
                    client.send(&wire.call(id).bytes());
                }
                for client in &mut clients {
                    client.expect(&wire.answer(id, ECHO));
                }
            }
        });
        let calls = CALLERS as f64 * ROUNDS as f64;
        let all = counts.values().sum::<usize>() as f64 / calls;
        let writes = of(&counts, &WRITES) as f64 / calls;
        let waits = of(&counts, &WAITS) as f64 / calls;
        // Each caller must be read and written once; everything else is shared.
        assert!(all < 0.6 * RELAY, "{wire:?}: {all} system calls a call: {counts:?}");
        assert!(writes < 1.5 && waits < 1.0, "{wire:?}: {counts:?}");
        assert!(of(&counts, &READS) as f64 >= calls, "{wire:?}: {counts:?}");
        sidecar.assert_well();
    }
}

#[test]
fn calls_of_one_caller_that_come_together_go_on_together() {
    const DEPTH: u64 = 32;
    const ROUNDS: u64 = 20;
    let upstream = Upstream::start();
    let mut sidecar = routed(&upstream);
    let mut client = sidecar.client();
    client.well(Wire::Dubbo, 1);
    let batch: Vec<u8> = (0..DEPTH).flat_map(|id| Wire::Dubbo.call(id).bytes()).collect();
    let counts = counted(&sidecar, || {
        for _ in 0..ROUNDS {
            client.send(&batch);
            (0..DEPTH).for_each(|_| drop(client.next()));
        }
    });
    let calls = (DEPTH * ROUNDS) as f64;
    let all = counts.values().sum::<usize>() as f64 / calls;
    assert!(all < 0.6 * RELAY, "{all} system calls a call: {counts:?}");
    sidecar.assert_well();
}

#[test]
fn an_idle_sidecar_with_idle_connections_hardly_wakes() {
    let upstream = Upstream::start();
    let mut sidecar = routed(&upstream);
    let mut clients: Vec<Client> = (0..20).map(|_| sidecar.client()).collect();
    for client in &mut clients {
        client.well(Wire::Dubbo, 1);
    }
    let counts = counted(&sidecar, || std::thread::sleep(Duration::from_secs(2)));
    let all: usize = counts.values().sum();
    // Two engines that look around five times a second, and the control thread once.
    assert!(all < 120, "{all} system calls in two idle seconds: {counts:?}");
    sidecar.assert_well();
}
