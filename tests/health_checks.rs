//! Health checks over real sockets: who is found ill gets no calls, and gets them again when it is well.
//!
//! Whatever an endpoint does to a check, it is either well or ill in the end, and the sidecar goes on.

mod support;

use std::time::Duration;
use support::echo::{Upstream, conf};
use support::patient::{Mood, Patient, Rude, SERVICE, Ward};
use support::raw::Wire;
use support::{Sidecar, free_port, http2, within};

/// Several checks, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
const OFTEN: &str = "interval: 500ms, timeout: 500ms, unhealthy: 2, healthy: 2";

/// A conf whose listener `main` speaks this protocol to the cluster `up`.
fn checked(protocol: &str, addresses: &[String], more: &str) -> String {
    let listener = format!("    protocol: {protocol}\n    routes: [{{ match: {{}}, to: up }}]");
    let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    let cluster = format!("endpoints: [{}], balance: round_robin, {more}", addresses.join(", "));
    conf(&listener, &format!("clusters:\n  up: {{ {cluster} }}"))
}

fn addresses(patients: &[Patient]) -> Vec<String> {
    patients.iter().map(Patient::address).collect()
}

/// Ten calls over one protocol, each of which must go well.
fn call(sidecar: &Sidecar, protocol: &str) {
    match protocol {
        "http1" => {
            let mut client = sidecar.http();
            (0..10).for_each(|n| drop(client.well(n)));
        }
        "grpc" => {
            let mut client = sidecar.http2();
            for n in 0..10 {
                let answer = client.ask_with(&http2::grpc(&format!("/echo/{n}")), "hello");
                assert_eq!(answer.trailers.expect("trailers").get("grpc-status"), Some("0"));
            }
        }
        name => {
            let wire = if name == "dubbo" { Wire::Dubbo } else { Wire::V1 };
            let mut client = sidecar.client();
            (0..10).for_each(|id| client.well(wire, id));
        }
    }
}

/// One of two gets ill and well again, by this kind of check.
#[track_caller]
fn falls_ill_and_recovers(protocol: &str, check: &str, mood: Mood, why: &str, start: fn() -> Patient) {
    let patients = vec![start(), start()];
    let (one, two) = (patients[0].address(), patients[1].address());
    let health = format!("health: {{ check: {check}, {OFTEN} }}");
    let mut sidecar = Sidecar::start(&checked(protocol, &addresses(&patients), &health));
    let ward = Ward::of(patients);
    let calls = |number| ward.ask(number, |patient| patient.calls());
    let found = |state: &str| {
        let all = within(LIMIT, || sidecar.found(&one) == state && sidecar.found(&two) == "well");
        assert!(all, "{state}: {:#} {}", sidecar.cluster("up"), sidecar.log());
    };
    found("well");
    call(&sidecar, protocol);
    assert!(calls(0) >= 4 && calls(1) >= 4, "both are used");

    ward.ask(0, |patient| patient.is(mood));
    found("ill");
    let endpoint = sidecar.endpoint(&one);
    assert_eq!(endpoint["state"], "ill: health checks fail");
    assert!(endpoint["health"]["why"].as_str().is_some_and(|told| told.contains(why)), "{endpoint:#}");
    assert!(endpoint["health"]["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{endpoint:#}");
    let before = calls(0);
    call(&sidecar, protocol);
    assert_eq!(calls(0), before, "who is ill gets no calls");
    assert_eq!(sidecar.metric("outrigger_upstream_ill", &[&format!("endpoint=\"{one}\"")]), 1);
    let checks = |labels: &[&str]| sidecar.metric("outrigger_health_checks_total", labels);
    let good = checks(&["result=\"ok\"", "cluster=\"up\""]);
    assert!(good >= 2 && checks(&["cluster=\"up\""]) >= good + 2, "{}", sidecar.admin_get("/metrics").1);
    assert_eq!(sidecar.cluster("up")["panic"], false);

    ward.ask(0, |patient| patient.is(Mood::Well));
    found("well");
    call(&sidecar, protocol);
    assert!(calls(0) > before, "who is well gets calls");
    assert_eq!(sidecar.metric("outrigger_upstream_ill", &[]), 0);
    let log = sidecar.log();
    let told = |words: &str| log.lines().filter(|line| line.contains(words) && line.contains(&one)).count();
    assert_eq!((told("ill, and gets no calls"), told("well again")), (1, 1), "one line a change: {log}");
    sidecar.assert_well();
}

#[test]
fn a_page_tells() {
    let check = "{ http: { path: '/healthz?full=1', authority: health.internal, statuses: [200, 204] } }";
    falls_ill_and_recovers("http1", check, Mood::Ill, "status 503", Patient::http);
}

#[test]
fn grpcs_health_service_tells() {
    let check = format!("{{ grpc: {{ service: {SERVICE} }} }}");
    falls_ill_and_recovers("grpc", &check, Mood::Ill, "NOT_SERVING", Patient::grpc);
}

#[test]
fn heartbeats_of_bolt_tell() {
    falls_ill_and_recovers("bolt", "bolt", Mood::Mute, "no answer within 500ms", Patient::frames);
}

#[test]
fn heartbeats_of_dubbo_tell() {
    falls_ill_and_recovers("dubbo", "{ dubbo: {} }", Mood::Mute, "no answer within 500ms", Patient::frames);
}

#[test]
fn a_connection_tells_and_a_dead_endpoint_does_not_look_like_all() {
    let (mut mortal, other) = (Upstream::start(), Upstream::start());
    let [one, two] = [mortal.address(), other.address()];
    let health = format!("health: {{ check: tcp, {OFTEN} }}, outlier: {{ consecutive: 1, ejection: 5m }}");
    let mut sidecar = Sidecar::start(&checked("bolt", &[one.clone(), two.clone()], &health));
    assert!(within(LIMIT, || sidecar.found(&one) == "well" && sidecar.found(&two) == "well"));
    // A call is lost with it, so that it is left out and ill; that is one of two, and no reason to use all.
    let mut client = sidecar.client();
    (1..=2).for_each(|id| client.send(&Wire::V1.call(id).payload("held").bytes()));
    let _arrived = (mortal.next(), other.next());
    mortal.stop();
    assert!(within(LIMIT, || sidecar.metric("outrigger_upstream_left_out", &[]) == 1), "{}", sidecar.log());
    assert!(within(LIMIT, || sidecar.found(&one) == "ill"), "{}", sidecar.log());
    let why = sidecar.endpoint(&one)["health"]["why"].to_string();
    assert!(why.contains("cannot connect: connection refused"), "{why}");
    assert_eq!(sidecar.metric("outrigger_upstream_left_out", &[]), 1);
    assert_eq!(sidecar.cluster("up")["panic"], false);
    let before = other.calls();
    (0..3).for_each(|_| call(&sidecar, "bolt"));
    assert_eq!(other.calls(), before + 30);

    mortal = Upstream::start_at(mortal.port());
    assert!(within(LIMIT, || sidecar.found(&one) == "well"), "{}", sidecar.log());
    assert!(mortal.accepted() >= 2 && sidecar.found(&two) == "well");
    sidecar.assert_well();
}

#[test]
fn where_all_are_ill_all_are_used() {
    let mut patients = [Patient::frames(), Patient::frames(), Patient::frames()];
    let health = format!("health: {{ check: bolt, {OFTEN} }}");
    let mut sidecar = Sidecar::start(&checked("bolt", &addresses(&patients), &health));
    for patient in &mut patients {
        patient.is(Mood::Mute);
    }
    let all = |sidecar: &Sidecar, state: &str| {
        patients.iter().all(|patient| sidecar.found(&patient.address()) == state)
    };
    assert!(within(LIMIT, || all(&sidecar, "ill")), "{}", sidecar.log());
    assert_eq!(sidecar.cluster("up")["panic"], true);
    assert_eq!(sidecar.metric("outrigger_cluster_panic", &["cluster=\"up\""]), 1);
    call(&sidecar, "bolt");
    assert!(patients.iter().all(|patient| patient.calls() >= 3), "an answer of nobody helps nobody");
    // One of three is less than half: still all are used. Two are enough.
    let calm = |sidecar: &Sidecar| sidecar.cluster("up")["panic"] == false;
    let mut patients = patients;
    patients[0].is(Mood::Well);
    assert!(within(LIMIT, || sidecar.found(&patients[0].address()) == "well") && !calm(&sidecar));
    patients[1].is(Mood::Well);
    assert!(within(LIMIT, || calm(&sidecar)), "{}", sidecar.log());
    let before = patients[2].calls();
    call(&sidecar, "bolt");
    assert_eq!(patients[2].calls(), before);
    sidecar.assert_well();
}

#[test]
fn a_reload_asks_something_else_more_often_or_nothing_at_all() {
    let patients = [Patient::frames()];
    let address = patients[0].address();
    let text = checked("bolt", &addresses(&patients), "health: { check: tcp, interval: 1h }");
    let mut sidecar = Sidecar::start(&text);
    let checks = |result: &str| {
        let label = format!("result=\"{result}\"");
        sidecar.metric("outrigger_health_checks_total", &[&label])
    };
    assert_eq!((checks("ok"), sidecar.found(&address)), (0, String::new()), "not asked yet");
    sidecar.reload(&text.replace("1h", "100ms"));
    assert!(within(LIMIT, || checks("ok") >= 5), "{}", sidecar.log());
    assert_eq!(sidecar.found(&address), "well");
    // The same conf again changes nothing, nor does a reload that is about something else.
    sidecar.reload(&text.replace("1h", "100ms").replace("app: test", "app: other"));
    assert!(checks("ok") >= 5 && sidecar.found(&address) == "well");
    // It speaks no HTTP/2.
    sidecar.reload(&text.replace("tcp, interval: 1h", "grpc, interval: 300ms, unhealthy: 2"));
    assert!(within(LIMIT, || sidecar.found(&address) == "ill"), "{}", sidecar.log());
    sidecar.reload(&text.replace("tcp, interval: 1h", "bolt, interval: 300ms"));
    assert!(within(LIMIT, || sidecar.found(&address) == "well"), "{}", sidecar.log());
    // Nobody asks any more: what was found is nothing any more.
    sidecar.reload(&text.replace("tcp, interval: 1h", "grpc, interval: 300ms, unhealthy: 2"));
    assert!(within(LIMIT, || sidecar.found(&address) == "ill"), "{}", sidecar.log());
    sidecar.reload(&text.replace("health: { check: tcp, interval: 1h }", ""));
    let endpoint = sidecar.endpoint(&address);
    assert!(endpoint["health"].is_null() && endpoint["state"] == "in use", "{endpoint:#}");
    assert_eq!(sidecar.metric("outrigger_upstream_ill", &[]), 0);
    let accepted = patients[0].accepted();
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(patients[0].accepted(), accepted, "nobody asks any more");
    sidecar.assert_well();
}

#[test]
fn an_endpoint_that_leaves_is_not_asked_any_more_and_a_new_one_is() {
    let patients = [Patient::frames(), Patient::frames()];
    let both = addresses(&patients);
    let health = "health: { check: tcp, interval: 100ms }";
    let text = checked("bolt", &both[..1], health);
    let mut sidecar = Sidecar::start(&text);
    assert!(within(LIMIT, || patients[0].accepted() >= 3), "{}", sidecar.log());
    assert_eq!(patients[1].accepted(), 0);
    sidecar.reload(&text.replace(&both[0], &both[1]));
    assert!(within(LIMIT, || patients[1].accepted() >= 3), "{}", sidecar.log());
    // What was under way has arrived by now.
    let accepted = patients[0].accepted();
    assert!(within(LIMIT, || patients[1].accepted() >= 8));
    assert_eq!(patients[0].accepted(), accepted);
    assert_eq!(sidecar.found(&both[1]), "well");
    assert!(sidecar.found(&both[0]).is_empty());
    sidecar.assert_well();
}

#[test]
fn whoever_talks_nonsense_or_nothing_is_ill() {
    let dead = format!("127.0.0.1:{}", free_port());
    let goaway = [http2::settings(&[]).bytes(), http2::goaway(0, http2::NO_ERROR).bytes()].concat();
    for (check, cases) in [
        (
            "http",
            vec![
                (&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..], "status 404"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "no answer"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "no answer within"),
                (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "no answer"),
                (b"", "no answer within"),
            ],
        ),
        (
            "grpc",
            vec![
                (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no answer"),
                (&goaway, "takes no new calls"),
                (&[0xff; 300], "no answer"),
                (b"", "no answer within"),
            ],
        ),
        (
            "bolt",
            vec![
                (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no frame of bolt"),
                // A heartbeat's answer with status 4, and one to somebody else's question.
                (b"\x01\0\0\0\x01\0\0\0\x01\x01\0\x04\0\0\0\0\0\0\0\0", "status 4"),
                (b"\x01\0\0\0\x01\0\0\0\x09\x01\0\0\0\0\0\0\0\0\0\0", "no answer within"),
                (b"\x01\0\0\x02\x01\0\0\0\x01\x01\0\0\xff\xff\xff\xff\x7f\xff\xff\xff", "too large"),
                (b"", "no answer within"),
            ],
        ),
        (
            "dubbo",
            vec![
                (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no frame of dubbo"),
                (b"\xda\xbb\x22\x64\0\0\0\0\0\0\0\x01\0\0\0\x01\x4e", "status 100"),
                (b"\xda\xbb\xa2\0\0\0\0\0\0\0\0\x02\0\0\0\x02\x01R", "takes no new calls"),
                (b"", "no answer within"),
            ],
        ),
    ] {
        let rude: Vec<Rude> = cases.iter().map(|(says, _)| Rude::start(says)).collect();
        let mut all: Vec<String> = rude.iter().flat_map(Rude::addresses).collect();
        all.push(dead.clone());
        let health = format!("health: {{ check: {check}, {OFTEN} }}");
        let mut sidecar = Sidecar::start(&checked("auto", &all, &health));
        let ill = within(LIMIT, || all.iter().all(|address| sidecar.found(address) == "ill"));
        assert!(ill, "{check}: {:#}", sidecar.cluster("up"));
        for (address, (says, why)) in all.iter().zip(&cases) {
            let told = sidecar.endpoint(address)["health"]["why"].to_string();
            assert!(told.contains(why), "{check}, to {}: {told}", String::from_utf8_lossy(says));
        }
        assert!(sidecar.endpoint(&dead)["health"]["why"].to_string().contains("refused"));
        for result in ["bad_answer", "timed_out", "unreachable"] {
            let label = format!("result=\"{result}\"");
            assert!(sidecar.metric("outrigger_health_checks_total", &[&label]) >= 2, "{check}: {result}");
        }
        sidecar.assert_well();
    }
}

#[test]
fn many_slow_endpoints_are_asked_a_few_at_a_time_and_hold_nobody_up() {
    const MANY: usize = 150;
    let (mute, patients) = (Rude::many(b"", MANY), [Patient::frames()]);
    let slow: Vec<String> = mute.addresses().iter().map(|address| format!("\"{address}\"")).collect();
    let listener = "    protocol: bolt\n    routes: [{ match: {}, to: up }]";
    let rest = format!(
        "clusters:\n  up: {{ endpoints: [\"{}\"], health: {{ check: bolt, {OFTEN} }} }}\n  \
         slow: {{ endpoints: [{}], health: {{ check: bolt, interval: 2s, timeout: 2s }} }}",
        patients[0].address(),
        slow.join(", ")
    );
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    assert!(within(LIMIT, || mute.accepted() >= MANY), "{}", mute.accepted());
    // One that was given up may be seen to end a moment after the next begins.
    assert!(mute.most() <= 80, "{} at once", mute.most());
    assert!(within(LIMIT, || sidecar.found(&patients[0].address()) == "well"), "{}", sidecar.log());
    call(&sidecar, "bolt");
    let asked = patients[0].accepted();
    assert!(within(LIMIT, || patients[0].accepted() >= asked + 3), "the others are asked, too");
    sidecar.term();
    assert!(sidecar.wait(LIMIT).success());
}
