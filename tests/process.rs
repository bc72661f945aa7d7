//! The process as its operator sees it: reloads, signals, draining, exit codes and what is said about mistakes.
//!
//! A reload is taken up whole or changes nothing and says why, and no connection notices. TERM lets calls finish,
//! tells each caller in the words of its protocol, and ends the process in time. Each test has a process of its
//! own; waits are bounded generously and assert that something happens, never how fast.

mod support;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::echo::{Upstream, conf, straight};
use support::raw::{ANSWER_MAX, Client, ECHO, Refused, WIRES, Wire, dubbo, timed};
use support::{Child, Sidecar, TempDir, free_port, http_get, within};

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(150);

/// Runs the binary to its end.
fn outrigger(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Child::spawn(&mut command);
    assert!(child.wait(Duration::from_secs(10)).is_some(), "{args:?} does not end by itself");
    let pipes = child.inner();
    let status = pipes.wait().expect("it ended");
    let read = |pipe: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        pipe.expect("a pipe").read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    };
    let stdout = read(pipes.stdout.as_mut().map(|pipe| pipe as _));
    let stderr = read(pipes.stderr.as_mut().map(|pipe| pipe as _));
    Output { status, stdout, stderr }
}

/// That a command ends with this status and says these words on standard error.
#[track_caller]
fn says(args: &[&str], status: i32, words: &[&str]) {
    let output = outrigger(args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?} does not say {word:?}:\n{text}");
    }
}

fn one_cluster(upstream: &Upstream) -> String {
    format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address())
}

const EVERYTHING: &str = "    protocol: [bolt, dubbo]\n    routes: [{ match: {}, to: up }]";

#[test]
fn mistakes_are_told_with_their_place_and_exit_status_1() {
    let dir = TempDir::new();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path.to_str().expect("a plain path").to_owned()
    };
    let upstream = Upstream::start();
    let text = conf(EVERYTHING, &one_cluster(&upstream));
    let good = write("good.yaml", &text);
    let checked = outrigger(&["check", "-c", &good]);
    assert!(checked.status.success(), "{checked:?}");

    // Line 7 is `protocol`, line 8 `routes`.
    let unknown = write("unknown.yaml", &text.replace("to: up", "too: up"));
    let wrong =
        write("wrong.yaml", &text.replace("to: up", "to: upp, timeout: 5").replace("[bolt,", "[bold,"));
    let torn = write("torn.yaml", &text[..text.len() - 5]);
    let outside = write("outside.yaml", &text.replacen("admin: 127.0.0.1", "admin: 0.0.0.0", 1));
    let missing = dir.path().join("missing.yaml").to_str().expect("a plain path").to_owned();
    for verb in ["check", "run"] {
        says(&[verb, "-c", &unknown], 1, &["unknown.yaml:8:27", "unknown key `too`", "did you mean `to`?"]);
        says(&[verb, "-c", &torn], 1, &["torn.yaml:"]);
        says(&[verb, "-c", &missing], 1, &["missing.yaml", "No such file"]);
        says(&[verb, "-c", &outside], 1, &["outside.yaml:2:8", "not loopback", "admin_allow_remote: true"]);
        says(&[verb, "-c", dir.path().to_str().expect("a plain path")], 1, &["error: cannot read"]);
    }
    says(&["check", "-c", &wrong], 1, &["wrong.yaml:8:45", "found `5` without a unit"]);
    let all = write("all.yaml", &text.replace("to: up", "to: upp").replace("[bolt,", "[bold,"));
    says(
        &["check", "-c", &all],
        1,
        &["all.yaml:7:16", "`bolt`", "all.yaml:8:31", "did you mean `up`?", "2 errors"],
    );
    for args in [&[][..], &["run"], &["check"], &["serve"], &["run", "-c", "a", "b"]] {
        assert_eq!(outrigger(args).status.code(), Some(1), "{args:?}");
    }
    let version = outrigger(&["--version"]);
    assert!(version.status.success() && version.stdout.starts_with(b"outrigger "), "{version:?}");
}

#[test]
fn a_port_in_use_is_told_and_exit_status_1() {
    let upstream = Upstream::start();
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = held.local_addr().expect("an address").port();
    let dir = TempDir::new();
    let path = dir.path().join("a.yaml");
    let text = conf(EVERYTHING, &one_cluster(&upstream));
    let bind = text.split_once("bind: 127.0.0.1:").expect("a bind").1.split_once('\n').expect("a line").0;
    let admin = text.split_once("admin: 127.0.0.1:").expect("an admin").1.split_once('\n').expect("a line").0;
    for (own, words) in [(bind, "listener main cannot listen on"), (admin, "cannot listen on admin")] {
        fs::write(&path, text.replace(own, &port.to_string())).expect("a file can be written");
        let file = path.to_str().expect("a plain path");
        says(&["run", "-c", file], 1, &[words, &format!("127.0.0.1:{port}"), "Address already in use"]);
        // The file itself is well.
        assert!(outrigger(&["check", "-c", file]).status.success());
    }
}

#[test]
fn signals_that_mean_nothing_yet_do_not_end_the_process() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let mut client = sidecar.client();
    client.well(Wire::V1, 1);
    for name in ["USR1", "USR2", "HUP", "USR1"] {
        sidecar.signal(name);
        client.well(Wire::V1, 2);
    }
    assert!(within(SOON, || sidecar.log().contains("USR2")), "it is said that nothing was done");
    sidecar.assert_well();
}

/// Says that a sidecar still works by its first conf, on a connection that it had all the time.
#[track_caller]
fn unchanged(sidecar: &Sidecar, client: &mut Client, reload_failed: bool) {
    client.well(Wire::Dubbo, 1);
    sidecar.client().well(Wire::V1, 1);
    let stats = sidecar.stats();
    assert_eq!(
        (&stats["revision"], &stats["last_reload_successful"]),
        (&1.into(), &(!reload_failed).into()),
        "{stats}"
    );
    let gauge = format!("outrigger_config_last_reload_successful {}", u8::from(!reload_failed));
    assert!(sidecar.admin_get("/metrics").1.contains(&gauge));
}

#[test]
fn a_conf_that_cannot_be_taken_up_changes_nothing_and_says_why() {
    let upstream = Upstream::start();
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &one_cluster(&upstream)));
    let mut client = sidecar.client();
    let good = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken = held.local_addr().expect("an address");
    let second = format!("listeners:\n  more: {{ bind: \"{taken}\", routes: [{{ to: up }}] }}\n");
    let third =
        format!("listeners:\n  a: {{ bind: \"127.0.0.1:{}\", routes: [{{ to: up }}] }}\n", free_port());
    for (broken, words) in [
        (good.replace("to: up", "to: nowhere"), &[":8:31", "nowhere"][..]),
        (good.replace("match: {}", "match: {} ]"), &["outrigger.yaml:8:"]),
        (good.replace("routes", "rotues"), &[":8:5", "did you mean `routes`?"]),
        (good[..good.len() / 2].to_owned(), &["outrigger.yaml"]),
        (String::new(), &["outrigger.yaml"]),
        (
            good.replace("listeners:\n", &second),
            &["listener more cannot listen on", "Address already in use"],
        ),
        // Also when others of the same conf could be bound.
        (
            good.replace("listeners:\n", &format!("{third}{}", &second["listeners:\n".len()..])),
            &["listener more"],
        ),
    ] {
        fs::write(sidecar.conf_path(), &broken).expect("it can be written");
        let (status, said) = sidecar.admin_post("/reload");
        assert_eq!(status, 400, "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in:\n{said}");
        }
        unchanged(&sidecar, &mut client, true);
        sidecar.signal("HUP");
        assert!(within(SOON, || sidecar.log().contains("why=\"HUP\"")), "{}", sidecar.log());
        unchanged(&sidecar, &mut client, true);
    }
    let port: u16 = third.split_once("127.0.0.1:").expect("it is there").1[..5].parse().expect("a port");
    assert!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(),
        "of a refused conf nothing is kept open"
    );

    fs::remove_file(sidecar.conf_path()).expect("it is there");
    let (status, said) = sidecar.admin_post("/reload");
    assert_eq!(status, 400);
    assert!(said.contains("No such file"), "{said}");
    unchanged(&sidecar, &mut client, true);

    // And when it is well again, it is taken up.
    fs::write(sidecar.conf_path(), &good).expect("it can be written");
    assert!(within(SOON, || sidecar.stats()["last_reload_successful"] == true), "{}", sidecar.log());
    client.well(Wire::Dubbo, 2);
    sidecar.assert_well();
}

#[test]
fn a_swapped_symlink_is_noticed_whether_it_is_well_or_broken() {
    let (first, second) = (Upstream::start(), Upstream::start());
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &one_cluster(&first)));
    let mut client = sidecar.client();
    client.well(Wire::Dubbo, 1);
    let conf_path = sidecar.conf_path().to_owned();
    let folder = conf_path.parent().expect("a folder").to_owned();
    let good = fs::read_to_string(&conf_path).expect("it was written");
    let swap = |name: &str, text: &str| {
        // As Kubernetes does: the new content stands before the link is renamed over the old one.
        fs::write(folder.join(name), text).expect("a file can be written");
        std::os::unix::fs::symlink(name, folder.join("link")).expect("a link can be made");
        fs::rename(folder.join("link"), &conf_path).expect("a rename");
    };
    swap("broken.yaml", &good.replace("to: up", "to: down"));
    assert!(within(SOON, || sidecar.stats()["last_reload_successful"] == false), "{}", sidecar.log());
    assert!(sidecar.log().contains("outrigger.yaml:8:31"), "{}", sidecar.log());
    unchanged(&sidecar, &mut client, true);
    swap("other.yaml", &good.replace(&first.address(), &second.address()));
    assert!(within(SOON, || sidecar.stats()["last_reload_successful"] == true), "{}", sidecar.log());
    let calls = first.calls();
    client.well(Wire::Dubbo, 2);
    assert_eq!((first.calls(), second.calls()), (calls, 1));
    sidecar.assert_well();
}

#[test]
fn a_reload_reaches_connections_that_are_open_already() {
    let (old, new) = (Upstream::start(), Upstream::start());
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &one_cluster(&old)));
    let mut client = sidecar.client();
    client.well(Wire::Dubbo, 1);
    client.send(&Wire::Dubbo.call(2).payload("in flight over all reloads").bytes());
    let held = old.next();
    let good = fs::read_to_string(sidecar.conf_path()).expect("it was written");

    // A new route and a new cluster.
    let two = good.replace("routes: [", "routes: [{ match: { service: n.New }, to: new }, ")
        + &format!("  new: {{ endpoints: [\"{}\"] }}\n", new.address());
    fs::write(sidecar.conf_path(), &two).expect("it can be written");
    let (status, said) = sidecar.admin_post("/reload");
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("\"revision\": 2"), "{said}");
    let call = Wire::Dubbo.call(3).service("n.New");
    assert_eq!(client.ask(&call).bytes, Wire::Dubbo.answer(3, ECHO));
    assert_eq!((new.calls(), old.calls()), (1, 2));

    // A new listener, by HUP; the route is gone again.
    let port = free_port();
    let three = good.replace(
        "listeners:\n",
        &format!(
            "listeners:\n  before: {{ bind: \"127.0.0.1:{port}\", protocol: bolt, routes: [{{ to: up }}] }}\n"
        ),
    );
    fs::write(sidecar.conf_path(), &three).expect("it can be written");
    sidecar.signal("HUP");
    assert!(within(SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()));
    let mut more = Client::connect(port);
    more.well(Wire::V2, 1);
    assert_eq!(client.ask(&call).bytes, Wire::Dubbo.answer(3, ECHO));
    assert_eq!(new.calls(), 1, "the new cluster is gone");

    // The listener goes, by the file alone; the call that is in flight on it is still answered.
    more.send(&Wire::V2.call(9).payload("on a listener that goes").bytes());
    let going = old.next();
    fs::write(sidecar.conf_path(), &good).expect("it can be written");
    assert!(within(SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()), "{}", sidecar.log());
    going.answer("still");
    more.expect(&Wire::V2.answer(9, "still"));
    more.closed(ANSWER_MAX);

    // A timeout, on the same connection.
    fs::write(sidecar.conf_path(), good.replace("to: up }", "to: up, timeout: 200ms }"))
        .expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    client.send(&Wire::Dubbo.call(4).payload("never answered").bytes());
    let late = client.next();
    assert_eq!((late.id(), late.status()), (4, 31));
    held.answer("after all");
    client.expect(&Wire::Dubbo.answer(2, "after all"));
    sidecar.assert_well();
}

#[test]
fn connections_stay_with_their_listener_when_others_come_and_go() {
    let (own, other) = (Upstream::start(), Upstream::start());
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &one_cluster(&own)));
    let good = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    // One that is served already, one of which it is not yet known what it speaks.
    let (mut served, mut mute) = (sidecar.client(), sidecar.client());
    served.well(Wire::Dubbo, 1);
    assert!(within(SOON, || sidecar.stats()["connections_by_worker"][0] == 2));
    let listeners = format!(
        "listeners:\n  before: {{ bind: \"127.0.0.1:{}\", routes: [{{ to: other }}] }}\n  zlast: {{ bind: \
         \"127.0.0.1:{}\", routes: [{{ to: other }}] }}\n",
        free_port(),
        free_port()
    );
    let more = good.replace("listeners:\n", &listeners)
        + &format!("  other: {{ endpoints: [\"{}\"] }}\n", other.address());
    fs::write(sidecar.conf_path(), &more).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    served.well(Wire::Dubbo, 2);
    mute.well(Wire::V1, 3);
    sidecar.client().well(Wire::V2, 4);
    assert_eq!((own.calls(), other.calls()), (4, 0));

    let mut mute = sidecar.client();
    assert!(within(SOON, || sidecar.stats()["connections_by_worker"][0] == 3));
    fs::write(sidecar.conf_path(), &good).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    mute.well(Wire::Dubbo, 5);
    served.well(Wire::Dubbo, 6);
    sidecar.client().well(Wire::V2, 7);
    assert_eq!((own.calls(), other.calls()), (7, 0));
    sidecar.assert_well();
}

#[test]
fn a_listener_that_moves_keeps_its_connections() {
    let upstream = Upstream::start();
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &one_cluster(&upstream)));
    let mut clients = WIRES.map(|wire| (wire, sidecar.client()));
    for (wire, client) in &mut clients {
        client.well(*wire, 1);
    }
    let (old, new) = (sidecar.port("main"), free_port());
    let text = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    let bind = |port: u16| format!("bind: 127.0.0.1:{port}");
    fs::write(sidecar.conf_path(), text.replace(&bind(old), &bind(new))).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    assert!(
        within(SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, old)).is_err()),
        "the old port is closed"
    );
    Client::connect(new).well(Wire::V2, 1);
    for (wire, client) in &mut clients {
        client.well(*wire, 2);
    }
    sidecar.assert_well();
}

#[test]
fn a_reload_while_draining_opens_nothing_again() {
    let upstream = Upstream::start();
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &one_cluster(&upstream)));
    let mut client = sidecar.client();
    client.send(&Wire::V1.call(5).payload("in flight").bytes());
    let seen = upstream.next();
    sidecar.term();
    let (port, admin) = (sidecar.port("main"), sidecar.admin());
    let refuses = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err();
    assert!(within(SOON, refuses));
    // Whatever it answers: a process that ends must not take callers in again.
    let answered = support::http_post(admin, "/reload");
    sidecar.signal("HUP");
    std::thread::sleep(SILENCE);
    assert!(refuses(), "it listens again after {answered:?}");
    seen.answer("finished");
    client.expect(&Wire::V1.answer(5, "finished"));
    client.closed(SOON);
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn a_reload_keeps_what_a_limit_has_counted() {
    let upstream = Upstream::start();
    let listener =
        "    protocol: bolt\n    routes: [{ match: { service: t.Echo }, to: up, limit: { rate: 3/h } }]";
    let mut sidecar = Sidecar::start(&conf(listener, &one_cluster(&upstream)));
    let mut client = sidecar.client();
    for id in 0..3 {
        client.well(Wire::V1, id);
    }
    for _ in 0..3 {
        assert_eq!(sidecar.admin_post("/reload").0, 200);
        let message = "outrigger: rate limit reached for t.Echo.echo";
        client.refused(&Wire::V1.call(9), Refused::Limited, message);
    }
    sidecar.assert_well();
}

#[test]
fn twenty_reloads_under_load_lose_nothing_and_close_nothing() {
    let endpoints = [Upstream::start(), Upstream::start(), Upstream::start()];
    let listener =
        "    protocol: [bolt, dubbo]\n    routes: [{ match: { service: t.Echo }, to: up, timeout: 30s }]";
    let text = conf(listener, &one_cluster(&endpoints[0])).replace("workers: 1", "workers: 2");
    let mut sidecar = Sidecar::start(&text);
    let (ending, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for wire in WIRES {
            let mut client = sidecar.client();
            let (ending, calls) = (&ending, &calls);
            scope.spawn(move || {
                // Several in flight all the time; one connection from first to last.
                (0..8).for_each(|id| client.send(&wire.call(id).bytes()));
                let mut id = 8;
                while !ending.load(Ordering::Relaxed) {
                    let answer = client.next();
                    assert_eq!(answer.bytes, wire.answer(answer.id(), ECHO));
                    client.send(&wire.call(id).bytes());
                    id += 1;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                for _ in 0..8 {
                    let answer = client.next();
                    assert_eq!(answer.bytes, wire.answer(answer.id(), ECHO));
                }
            });
        }
        for turn in 0..20 {
            // Other endpoints, another route, a broken file now and then.
            let endpoint = endpoints[turn % 3].address();
            let mut next = text.replace(&endpoints[0].address(), &endpoint);
            if turn % 2 == 1 {
                next = next.replace("routes: [", "routes: [{ match: { service: x }, to: up, name: n }, ");
            }
            if turn % 5 == 4 {
                next += "  broken";
            }
            fs::write(sidecar.conf_path(), next).expect("it can be written");
            let (status, said) = sidecar.admin_post("/reload");
            assert_eq!(status, if turn % 5 == 4 { 400 } else { 200 }, "{said}");
            let before = calls.load(Ordering::Relaxed);
            assert!(within(ANSWER_MAX, || calls.load(Ordering::Relaxed) > before + 20), "calls go on");
        }
        ending.store(true, Ordering::Relaxed);
    });
    let arrived: usize = endpoints.iter().map(Upstream::calls).sum();
    let made = calls.load(Ordering::Relaxed) + 8 * WIRES.len() as u64;
    assert_eq!(arrived as u64, made, "each call arrived once");
    assert!(endpoints.iter().all(|endpoint| endpoint.calls() > 0));
    let stats = sidecar.stats();
    assert_eq!(stats["protocols"]["bolt"]["events"]["down_opened"], 3, "{stats}");
    // What left the conf has no connection any more; the last conf that was well names the first endpoint.
    assert!(within(SOON, || endpoints[1].peers().is_empty() && endpoints[2].peers().is_empty()), "{stats}");
    sidecar.assert_well();
}

/// What Dubbo callers are told: send no new calls here. The id is the sidecar's own.
#[track_caller]
fn is_read_only(frame: &support::raw::Frame) {
    assert_eq!(frame.bytes, dubbo(0xa2, 0, frame.id(), b"\x01R"));
}

#[test]
fn term_lets_calls_finish_tells_dubbo_callers_and_ends_well() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let mut busy = WIRES.map(|wire| (wire, sidecar.client()));
    let mut held = Vec::new();
    for (wire, client) in &mut busy {
        client.send(&wire.call(5).payload("in flight").bytes());
        held.push(upstream.next());
    }
    let (mut idle, mut idle_dubbo, mut mute) = (sidecar.client(), sidecar.client(), sidecar.client());
    idle.well(Wire::V1, 1);
    idle_dubbo.well(Wire::Dubbo, 1);
    sidecar.term();
    // Idle connections go, after a word to those who understand it; also one that never said anything.
    is_read_only(&idle_dubbo.next());
    idle.closed(SOON);
    idle_dubbo.closed(SOON);
    mute.closed(SOON);
    let (port, admin) = (sidecar.port("main"), sidecar.admin());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "no new connections");
    let (status, why) = http_get(admin, "/ready").expect("the admin port answers while calls finish");
    assert_eq!((status, why.contains("draining")), (503, true), "{why}");
    assert_eq!(http_get(admin, "/live").expect("it lives").0, 200);
    // A call that was on its way when the word came is carried too.
    let (wire, client) = &mut busy[3];
    is_read_only(&client.next());
    client.well(*wire, 6);
    for ((wire, client), seen) in busy.iter_mut().zip(&held) {
        client.silent(SILENCE);
        seen.answer("finished");
        client.expect(&wire.answer(5, "finished"));
    }
    for (_, client) in &mut busy {
        client.closed(SOON);
    }
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn post_drain_does_what_term_does() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let mut client = sidecar.client();
    client.well(Wire::Dubbo, 1);
    assert_eq!(sidecar.admin_post("/drain").0, 200);
    is_read_only(&client.next());
    client.closed(SOON);
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn a_call_that_names_a_service_for_the_first_time_is_answered_while_it_drains() {
    let (upstream, dir) = (Upstream::start(), TempDir::new());
    let services = dir.path().join("services.yaml");
    fs::write(&services, format!("services: {{ t.New: [\"{}\"] }}", upstream.address())).expect("a file");
    let listener = "    protocol: bolt\n    routes: [{ match: { service: t.Echo }, to: up }, { to: { service: local } }]";
    let rest = format!(
        "{}\nregistries:\n  local: {{ file: {{ path: {} }} }}",
        one_cluster(&upstream),
        services.display()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    let (wire, mut client) = (Wire::V1, sidecar.client());
    client.send(&wire.call(5).payload("in flight").bytes());
    let held = upstream.next();
    sidecar.term();
    assert!(within(SOON, || http_get(sidecar.admin(), "/ready").is_ok_and(|(status, _)| status == 503)));
    let found = client.ask(&wire.call(6).service("t.New"));
    assert_eq!((found.id(), found.status()), (6, 0), "{found:?}");
    client.refused(
        &wire.call(7).service("t.Nobody"),
        Refused::NoEndpoint,
        "outrigger: no endpoint in cluster local/t.Nobody",
    );
    held.answer("finished");
    client.expect(&wire.answer(5, "finished"));
    client.closed(SOON);
    assert!(sidecar.wait(SOON).success());
}

#[test]
fn calls_go_before_what_is_read_of_registries() {
    let upstream = Upstream::start();
    let mut sidecar = straight("auto", &upstream);
    // `setpriority(2)` is a thread's: the nineteenth field, counted from behind the name, which may have spaces (proc(5)).
    let nice = |stat: &str| {
        let fields = stat.rsplit_once(')').expect("a name").1;
        fields.split_whitespace().nth(16).expect("nineteen fields").parse::<i32>().expect("a number")
    };
    let read = |path: String| fs::read_to_string(path).expect("the process lives");
    let mine = nice(&read("/proc/thread-self/stat".to_owned()));
    let tasks = format!("/proc/{}/task", sidecar.pid());
    sidecar.stats(); // It is under way, which it says a moment before.
    let mut workers = 0;
    for task in fs::read_dir(&tasks).expect("the process lives") {
        let path = task.expect("a thread").path();
        let stat = read(format!("{}/stat", path.display()));
        if stat.contains("(worker-") {
            workers += 1;
            assert_eq!(nice(&stat), mine, "{stat}");
        } else {
            assert_eq!(nice(&stat), (mine + 10).min(19), "{stat}");
        }
    }
    assert!(workers > 0, "no worker in {tasks}");
    sidecar.term();
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn term_without_any_connection_ends_at_once() {
    let upstream = Upstream::start();
    let mut sidecar = straight("auto", &upstream);
    sidecar.term();
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn what_hangs_in_the_operating_system_does_not_hold_up_the_end() {
    // Nobody ever writes into it, so that whoever reads it waits: as for a file on a dead disk, or a name that no DNS answers for.
    let dir = TempDir::new();
    let ca = dir.path().join("ca.pem");
    assert!(Command::new("mkfifo").arg(&ca).status().expect("mkfifo runs").success());
    let etcd = format!("{{ address: \"127.0.0.1:{}\", tls: {{ ca: {} }} }}", free_port(), ca.display());
    let clusters = format!(
        "registries: {{ et: {{ etcd: {etcd} }} }}\n\
         clusters: {{ up: {{ discover: {{ registry: et, service: com.example.EchoService }} }} }}"
    );
    let text = conf(EVERYTHING, &clusters);
    let mut sidecar = Sidecar::start(&text);
    sidecar.term();
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
    let file = dir.path().join("outrigger.yaml");
    fs::write(&file, text).expect("a file can be written");
    says(&["registry", "ls", "-c", file.to_str().expect("a path"), "--timeout", "1"], 1, &["no answer"]);
}

#[test]
fn term_does_not_wait_for_what_has_not_said_what_it_speaks() {
    let upstream = Upstream::start();
    let listener =
        "    protocol: [bolt, dubbo, tcp]\n    detect_timeout: 60s\n    routes: [{ match: {}, to: up }]";
    let mut sidecar = Sidecar::start(&conf(listener, &one_cluster(&upstream)));
    let (mut mute, mut half) = (sidecar.client(), sidecar.client());
    half.send(b"\xda");
    assert!(within(SOON, || sidecar.stats()["connections_by_worker"][0] == 2));
    sidecar.term();
    mute.closed(SOON);
    half.closed(SOON);
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn a_relayed_connection_may_finish_within_drain_timeout() {
    use std::io::Read as _;
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = server.local_addr().expect("an address");
    let rest = format!("drain_timeout: 20s\nclusters:\n  up: {{ endpoints: [\"{address}\"] }}");
    let mut sidecar = Sidecar::start(&conf("    protocol: tcp\n    routes: [{ match: {}, to: up }]", &rest));
    let mut client = sidecar.client();
    client.send(b"half of");
    let (mut relayed, _) = server.accept().expect("it is relayed");
    sidecar.term();
    std::thread::sleep(Duration::from_millis(500));
    client.send(b" a question");
    client.stream.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut asked = String::new();
    relayed.read_to_string(&mut asked).expect("all of it comes");
    assert_eq!(asked, "half of a question");
    relayed.write_all(b"and the answer").expect("the relay reads");
    drop(relayed);
    let mut answer = String::new();
    client.stream.read_to_string(&mut answer).expect("all of it comes");
    assert_eq!(answer, "and the answer");
    drop(client);
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn a_second_term_int_and_quit_end_at_once_and_answer_what_was_in_flight() {
    for signals in [&["TERM", "TERM"][..], &["INT"], &["QUIT"], &["TERM", "INT"]] {
        let upstream = Upstream::start();
        let mut sidecar = straight("[bolt, dubbo]", &upstream);
        let mut clients = [Wire::V1, Wire::Dubbo].map(|wire| (wire, sidecar.client()));
        for (wire, client) in &mut clients {
            client.send(&wire.call(5).payload("in flight").bytes());
            upstream.next();
        }
        for name in signals {
            sidecar.signal(name);
            std::thread::sleep(Duration::from_millis(300));
        }
        let (status, took) = timed(|| sidecar.wait(SOON));
        assert!(took < SOON, "{signals:?}");
        assert_eq!(status.code(), Some(0), "{signals:?}");
        let lost = format!(
            "outrigger: connection to {} (cluster up) was lost before the answer",
            upstream.address()
        );
        for (wire, client) in &mut clients {
            let mut answer = client.next();
            if *wire == Wire::Dubbo && signals[0] == "TERM" {
                is_read_only(&answer);
                answer = client.next();
            }
            assert_eq!(answer.bytes, wire.refusal(5, Refused::Unreachable, &lost));
            client.closed(SOON);
        }
    }
}

#[test]
fn drain_timeout_is_the_longest_that_term_waits() {
    let upstream = Upstream::start();
    let rest = format!("drain_timeout: 1500ms\n{}", one_cluster(&upstream));
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &rest));
    let mut client = sidecar.client();
    client.send(&Wire::V1.call(5).payload("never answered").bytes());
    upstream.next();
    sidecar.term();
    let (status, took) = timed(|| sidecar.wait(Duration::from_secs(10)));
    assert_eq!(status.code(), Some(0));
    assert!(took >= Duration::from_millis(1_400), "it waits for the call, but ended after {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn a_caller_that_never_stops_calling_does_not_hold_up_the_end() {
    let upstream = Upstream::start();
    let rest = format!("drain_timeout: 4s\n{}", one_cluster(&upstream));
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &rest));
    let mut client = sidecar.client();
    client.well(Wire::V1, 1);
    sidecar.term();
    let caller = std::thread::spawn(move || {
        let mut answered = 0_u64;
        loop {
            // Written and read by hand: the end of the connection is what is waited for.
            if client.stream.write_all(&Wire::V1.call(answered).bytes()).is_err() {
                return answered;
            }
            match support::raw::Frame::read(&mut client.stream) {
                Ok(Some(frame)) => assert_eq!(frame.bytes, Wire::V1.answer(answered, ECHO)),
                _ => return answered,
            }
            answered += 1;
        }
    });
    let (status, took) = timed(|| sidecar.wait(Duration::from_secs(10)));
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(caller.join().expect("only right answers came") > 0);
}

#[test]
fn a_listener_may_be_renamed_over_its_port() {
    let upstream = Upstream::start();
    let mut sidecar = Sidecar::start(&conf(EVERYTHING, &one_cluster(&upstream)));
    let good = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    let mut client = sidecar.client();
    client.well(Wire::Dubbo, 1);
    let renamed = good.replace("  main:", "  renamed:");
    assert_ne!(renamed, good, "the listener's name is known here");
    fs::write(sidecar.conf_path(), &renamed).expect("it can be written");
    let (status, body) = sidecar.admin_post("/reload");
    assert_eq!(status, 200, "{body}");
    // The port goes on under its new name, and so do new connections; those of the old name are let go gently.
    sidecar.client().well(Wire::Dubbo, 2);
    sidecar.assert_well();
}
