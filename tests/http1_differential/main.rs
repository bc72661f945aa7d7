//! Seven servers understand every request behind the sidecar as it was meant: none is smuggled, none is changed.
//!
//! Requests go as raw bytes through one sidecar to nginx, `HAProxy`, Go, Jetty, Tomcat, h11 and Node, which tell what they
//! understood; it must be what the reference (`reading`, itself checked against h11 on the same bytes) says of the bytes
//! that were sent, and as many requests as it says. What the sidecar refuses may arrive nowhere, nor what stands behind
//! it. `HTTP1_CASE=words` runs the cases with these words in their names, `HTTP1_DRAWN=n` so many drawn ones. Nothing
//! here may judge by time.

mod cases;
mod random;
mod reading;
mod servers;
mod smuggling;
#[path = "../support/mod.rs"]
mod support;
mod talk;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cases::Case;
use reading::Reading;
use servers::{KINDS, Server};
use support::{Sidecar, free_port};
use talk::{Answered, Verdict, converse, sentinel, smuggled, understood};

/// Fewer cases than these would be a table that was not read.
const WRITTEN_MIN: usize = 120;
/// Cases drawn where nothing else is asked for.
const DRAWN: u64 = 300;
const SMUGGLED_MIN: usize = 60;
/// Legal requests that a server refuses, over all cases and servers: more would leave too little to compare.
const REFUSALS_MAX: usize = 12;
/// Failures shown of one server.
const SHOWN_MAX: usize = 12;

/// One after the other, each test has the cores for itself.
fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn chosen(mut cases: Vec<Case>) -> Vec<Case> {
    let words = std::env::var("HTTP1_CASE").unwrap_or_default();
    cases.retain(|case| case.name.contains(&words));
    cases
}

fn accepted() -> Vec<Case> {
    let written = cases::all();
    assert!(written.len() >= WRITTEN_MIN, "only {} cases", written.len());
    let asked = std::env::var("HTTP1_DRAWN").map(|n| n.parse().expect("HTTP1_DRAWN is a number"));
    chosen(written.into_iter().chain((0..asked.unwrap_or(DRAWN)).map(random::case)).collect())
}

fn all_ready() -> Vec<Server> {
    let servers: Vec<Server> = KINDS.iter().map(Server::spawn).collect();
    for server in &servers {
        server.ready();
    }
    servers
}

/// A listener for each server, and nothing between them but the sidecar.
fn sidecar(servers: &[Server]) -> Sidecar {
    let (mut listeners, mut clusters) = (String::new(), String::new());
    for server in servers {
        let (name, port, address) = (server.kind.name, free_port(), server.address());
        let routes = format!("[{{ match: {{}}, to: {name} }}]");
        let _ = writeln!(listeners, "  to-{name}:\n    bind: 127.0.0.1:{port}");
        let _ = writeln!(listeners, "    protocol: http1\n    routes: {routes}");
        let _ = writeln!(clusters, "  {name}: {{ endpoints: [\"{address}\"] }}");
    }
    let admin = free_port();
    let head = format!("app: differential\nadmin: 127.0.0.1:{admin}\nworkers: 1\n");
    Sidecar::start(&format!("{head}listeners:\n{listeners}clusters:\n{clusters}"))
}

/// Does the same with each server at the same time; what it gives is given by the server's name.
fn each<T: Send>(
    servers: &mut [Server],
    sidecar: &Sidecar,
    work: impl Fn(&Server, u16) -> T + Sync,
) -> Vec<(&'static str, T)> {
    let work = &work;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for server in servers {
            let (name, port) = (server.kind.name, sidecar.port(&format!("to-{}", server.kind.name)));
            threads.push((name, scope.spawn(move || work(server, port))));
        }
        let join = |(name, thread): (_, std::thread::ScopedJoinHandle<'_, T>)| {
            (name, thread.join().unwrap_or_else(|_| panic!("the cases of {name} do not end")))
        };
        threads.into_iter().map(join).collect()
    })
}

/// Fails with what is wrong, or the first part of it.
fn none(what: &str, failures: &[String]) {
    assert!(failures.is_empty(), "{} {what}\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn seven_servers_understand_what_was_sent() {
    let _turn = turn();
    let cases = accepted();
    let mut servers = all_ready();
    let mut sidecar = sidecar(&servers);
    let verdicts = each(&mut servers, &sidecar, |server, port| understood(server, port, &cases));
    sidecar.assert_running();
    let (mut told, mut disagreements) = (String::new(), Vec::new());
    let mut refusals: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (name, Verdict { alike, disagreements: own, refused }) in verdicts {
        let _ = writeln!(told, "{name}: {alike} requests understood alike");
        for why in refused {
            *refusals.entry((name, why)).or_default() += 1;
        }
        let count = own.len();
        disagreements.extend(own.into_iter().take(SHOWN_MAX).map(|what| format!("{name}: {what}")));
        let _ = writeln!(told, "{name}: {count} disagreements");
    }
    for ((name, why), count) in &refusals {
        let _ = writeln!(told, "{name}: {count} refused: {why}");
    }
    eprintln!("{} cases on each of {} servers\n{told}", cases.len(), servers.len());
    none("disagreements (of each server the first)", &disagreements);
    let refusals: usize = refusals.values().sum();
    assert!(refusals <= REFUSALS_MAX, "{refusals} legal requests were refused by a server\n{told}");
}

#[test]
fn nobody_sees_what_is_refused_nor_what_stands_behind_it() {
    let _turn = turn();
    let payloads = smuggling::all();
    assert!(payloads.len() >= SMUGGLED_MIN, "only {} payloads", payloads.len());
    let payloads = chosen(payloads);
    let mut servers = all_ready();
    let mut sidecar = sidecar(&servers);
    let seen = each(&mut servers, &sidecar, |server, port| smuggled(server, port, &payloads));
    sidecar.assert_running();
    let named = |(name, what): (&str, Vec<String>)| {
        what.into_iter().take(SHOWN_MAX).map(|what| format!("{name}: {what}")).collect::<Vec<_>>()
    };
    let seen: Vec<String> = seen.into_iter().flat_map(named).collect();
    eprintln!("{} payloads on each of {} servers", payloads.len(), servers.len());
    none("failures", &seen);
}

/// The reference itself, against h11 on the same bytes and with nothing between: hop-by-hop fields included.
#[test]
fn h11_reads_the_same_bytes_as_the_reference() {
    let _turn = turn();
    let kind = KINDS.iter().find(|kind| kind.name == "h11").expect("it is one of them");
    let server = Server::spawn(kind);
    server.ready();
    let mut wrong = Vec::new();
    for (number, case) in accepted().iter().enumerate() {
        let (bytes, mut due) = for_h11(case);
        let (answers, _) = converse(server.port, &bytes, &due);
        let seen = sentinel(&server, server.port, number);
        for due in &mut due {
            due.minor = 1;
        }
        if answers.iter().any(|answered| *answered != Answered::Served) || seen != due {
            wrong.push(format!("{}: {answers:?}\n    meant {due:?}\n    understood {seen:?}", case.name));
        }
    }
    none("cases read otherwise", &wrong);
}

/// A case as h11 takes it, and what the reference reads: without empty lines in front of requests, which h11 refuses,
/// up to the first request of 1.0, behind which it closes, and with the name of the coding as it shows it.
fn for_h11(case: &Case) -> (Vec<u8>, Vec<Reading>) {
    let (mut bytes, mut due) = (Vec::new(), Vec::new());
    let mut rest = &case.bytes[..];
    while !rest.is_empty() {
        let (mut reading, used) = Reading::next(rest).unwrap_or_else(|why| panic!("{}: {why:?}", case.name));
        bytes.extend(rest[..used].strip_prefix(b"\r\n").unwrap_or(&rest[..used]));
        for (name, value) in &mut reading.headers {
            if name.eq_ignore_ascii_case("transfer-encoding") {
                value.make_ascii_lowercase();
            }
        }
        let old = reading.minor == 0;
        due.push(reading);
        rest = if old { &[] } else { &rest[used..] };
    }
    (bytes, due)
}
