//! The process at its limits: thousands of idle connections, more of them than it may have, no file descriptors.
//!
//! Whoever is served already goes on being served, the admin port answers, and when there is room again the process
//! takes callers by itself. What waits for room waits in the kernel's queue and is not refused.

mod support;

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;
use support::echo::{Upstream, conf, straight};
use support::raw::{ANSWER_MAX, Client, WIRES, Wire};
use support::{Sidecar, within};

const SOON: Duration = Duration::from_secs(5);

/// So many connections to the listener `main`, on which nothing is said.
fn idle(sidecar: &Sidecar, count: usize) -> Vec<TcpStream> {
    let port = sidecar.port("main");
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the kernel takes it");
    (0..count).map(connect).collect()
}

fn connections(sidecar: &Sidecar) -> u64 {
    let stats = sidecar.stats();
    let each = stats["connections_by_worker"].as_array().expect("workers are listed");
    each.iter().filter_map(serde_json::Value::as_u64).sum()
}

/// Has this test process allowed as many files as the machine lets it have.
fn raise_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Failing that, what there is must do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn two_thousand_idle_connections_cost_little_and_disturb_nobody() {
    let many: usize = if raise_files() > 4_500 { 2_000 } else { 300 };
    let upstream = Upstream::start();
    for protocol in ["bolt", "dubbo", "auto"] {
        let wire = if protocol == "dubbo" { Wire::Dubbo } else { Wire::V1 };
        let mut sidecar = straight(protocol, &upstream);
        let mut client = sidecar.client();
        client.well(wire, 1);
        let before = sidecar.rss_kib();
        let flood = idle(&sidecar, many);
        assert!(within(ANSWER_MAX, || connections(&sidecar) == many as u64 + 1), "{}", sidecar.stats());
        for id in 0..100 {
            client.well(wire, id);
        }
        let grown = sidecar.rss_kib().saturating_sub(before);
        // A debug build is larger than what is shipped; a leak of buffers would still stand out.
        assert!(grown < 8 * many as u64, "{protocol}: {grown} KiB for {many} idle connections");
        sidecar.client().well(wire, 2);
        drop(flood);
        assert!(within(ANSWER_MAX, || connections(&sidecar) == 1), "{}", sidecar.stats());
        sidecar.assert_well();
    }
}

#[test]
fn new_connections_go_to_the_worker_that_has_the_fewest() {
    let upstream = Upstream::start();
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let text = conf("    protocol: bolt\n    routes: [{ match: {}, to: up }]", &clusters);
    let mut sidecar = Sidecar::start(&text.replace("workers: 1", "workers: 3"));
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = sidecar.client();
        client.well(Wire::V1, 1);
        clients.push(client);
    }
    assert_eq!(sidecar.stats()["connections_by_worker"], serde_json::json!([4, 4, 4]));
    // Those that leave make room where they were.
    clients.truncate(6);
    assert!(within(ANSWER_MAX, || connections(&sidecar) == 6), "{}", sidecar.stats());
    let _more: Vec<Client> = (0..6).map(|_| sidecar.client()).collect();
    let even = || sidecar.stats()["connections_by_worker"] == serde_json::json!([4, 4, 4]);
    assert!(within(ANSWER_MAX, even), "{}", sidecar.stats());
    sidecar.assert_well();
}

#[test]
fn beyond_connections_max_callers_wait_and_are_served_when_there_is_room() {
    let upstream = Upstream::start();
    let listener =
        "    protocol: [bolt, dubbo]\n    detect_timeout: 60s\n    routes: [{ match: {}, to: up }]";
    let rest = format!(
        "limits: {{ connections_max: 20 }}\nclusters:\n  up: {{ endpoints: [\"{}\"] }}",
        upstream.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &rest).replace("workers: 1", "workers: 2"));
    let mut served = WIRES.map(|wire| (wire, sidecar.client()));
    for (wire, client) in &mut served {
        client.well(*wire, 1);
    }
    let mut flood = idle(&sidecar, 16);
    assert!(within(ANSWER_MAX, || connections(&sidecar) == 20), "{}", sidecar.stats());
    // One more: accepted by the kernel, not by us; its call waits.
    let mut waiting = sidecar.client();
    waiting.send(&Wire::V1.call(7).bytes());
    waiting.silent(Duration::from_millis(300));
    assert_eq!(connections(&sidecar), 20);
    for (wire, client) in &mut served {
        client.well(*wire, 2);
    }
    assert_eq!(sidecar.admin_get("/ready").0, 200);
    flood.pop();
    waiting.expect(&Wire::V1.answer(7, support::raw::ECHO));
    // A reload may allow more.
    let mut another = sidecar.client();
    another.send(&Wire::V1.call(8).bytes());
    another.silent(Duration::from_millis(200));
    let text = std::fs::read_to_string(sidecar.conf_path()).expect("it was written");
    std::fs::write(sidecar.conf_path(), text.replace("connections_max: 20", "connections_max: 30"))
        .expect("it can be");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    another.expect(&Wire::V1.answer(8, support::raw::ECHO));
    sidecar.assert_well();
}

/// Leaves a running sidecar so few file descriptors. `told`: it reads the limit again, as at its start.
fn limit_files(sidecar: &Sidecar, files: u32, told: bool) {
    let mut prlimit = std::process::Command::new("prlimit");
    let done =
        prlimit.arg(format!("--pid={}", sidecar.pid())).arg(format!("--nofile={files}:{files}")).status();
    assert!(done.is_ok_and(|status| status.success()), "prlimit does not work here");
    if told {
        assert_eq!(sidecar.admin_post("/reload").0, 200);
    }
}

#[test]
fn without_file_descriptors_what_is_served_goes_on_and_the_rest_waits() {
    let upstream = Upstream::start();
    let listener =
        "    protocol: [bolt, dubbo]\n    detect_timeout: 60s\n    routes: [{ match: {}, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    // Once it leaves room by itself; once it meets the limit unprepared.
    for told in [true, false] {
        let mut sidecar = Sidecar::start(&conf(listener, &clusters));
        limit_files(&sidecar, 256, told);
        let mut served = WIRES.map(|wire| (wire, sidecar.client()));
        for (wire, client) in &mut served {
            client.well(*wire, 1);
        }
        let flood = idle(&sidecar, 400);
        std::thread::sleep(Duration::from_millis(300));
        for round in 0..5 {
            for (wire, client) in &mut served {
                client.well(*wire, 2 + round);
            }
            let (status, _) = support::http_get(sidecar.admin(), "/metrics").expect("the admin port answers");
            assert_eq!(status, 200);
            std::thread::sleep(Duration::from_millis(50));
        }
        let taken = connections(&sidecar);
        assert!((100..256).contains(&taken), "{taken} connections with 256 descriptors");
        // It does not spin over it, nor fill the disk with it.
        let (ticks, lines) = (cpu_ticks(&sidecar), sidecar.log().lines().count());
        std::thread::sleep(Duration::from_secs(1));
        let spent = cpu_ticks(&sidecar) - ticks;
        assert!(spent < 50, "{spent} ticks of 10 ms in one second of waiting");
        let lines = sidecar.log().lines().count() - lines;
        assert!(lines <= 10, "{lines} lines of log in one second of waiting");
        let mut waiting = sidecar.client();
        waiting.send(&Wire::Dubbo.call(9).bytes());
        drop(flood);
        waiting.expect(&Wire::Dubbo.answer(9, support::raw::ECHO));
        sidecar.client().well(Wire::V1, 3);
        sidecar.assert_well();
    }
}

#[test]
fn relayed_connections_that_take_every_file_descriptor_leave_some_for_the_rest() {
    use std::io::{Read as _, Write as _};
    let upstream = Upstream::start();
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    std::thread::spawn(move || {
        // Sends back what comes; ends with the test process.
        while let Ok((mut stream, _)) = server.accept() {
            std::thread::spawn(move || {
                let mut bytes = [0; 64];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let calls = support::free_port();
    let listener = format!(
        "    protocol: tcp\n    routes: [{{ match: {{}}, to: raw }}]\n  calls:\n    bind: 127.0.0.1:{calls}\n    \
         protocol: bolt\n    routes: [{{ match: {{}}, to: up }}]"
    );
    let clusters = format!(
        "clusters:\n  raw: {{ endpoints: [\"{address}\"] }}\n  up: {{ endpoints: [\"{}\"] }}",
        upstream.address()
    );
    let mut sidecar = Sidecar::start(&conf(&listener, &clusters));
    limit_files(&sidecar, 256, true);
    let mut client = Client::connect(calls);
    client.well(Wire::V1, 1);
    let echoes = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
        let mut back = [0; 4];
        stream.write_all(b"ping").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"ping"
    };
    let mut first = idle(&sidecar, 1).remove(0);
    assert!(echoes(&mut first));
    // Each takes two descriptors.
    let flood = idle(&sidecar, 300);
    std::thread::sleep(Duration::from_millis(500));
    for id in 0..5 {
        client.well(Wire::V1, 2 + id);
        assert!(echoes(&mut first), "an old relay goes on");
        let (status, _) = support::http_get(sidecar.admin(), "/metrics").expect("the admin port answers");
        assert_eq!(status, 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(flood);
    let back = within(SOON, || echoes(&mut idle(&sidecar, 1)[0]));
    assert!(back, "it does not recover by itself: {}", sidecar.log());
    Client::connect(calls).well(Wire::V1, 9);
    sidecar.assert_well();
}

/// CPU time that the sidecar has used, in ticks of 10 ms.
fn cpu_ticks(sidecar: &Sidecar) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sidecar.pid())).expect("it runs");
    let behind_name = stat.rsplit_once(") ").expect("the name is in parentheses").1;
    behind_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}
