//! What callers by HTTP/2 and gRPC see of the sidecar: where calls go, what is refused and in whose words, deadlines,
//! streams in both directions, calls that are taken back.
//!
//! Whatever happens to one call, the others of its connection do not notice. Times are only ever bounded generously.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use support::echo::conf;
use support::http2::{
    CANCEL, Client, Event, Fields, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, data, get, grpc, headers, post,
    request, rst, status,
};
use support::http2_upstream::{Held, Upstream, straight};
use support::raw::{ECHO, Wire};
use support::{Sidecar, TempDir, free_port, within};

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(150);
const NOTHING: (&str, &str, &str) = ("", "", "");

fn cluster(name: &str, upstream: &Upstream, further: &str) -> String {
    format!("  {name}: {{ endpoints: [\"{}\"], {further} }}\n", upstream.address())
}

/// Routes by name, in their order, each to a cluster of its own.
const ROUTES: [(&str, &str); 13] = [
    ("port", "authority: 'api.example:8080'"),
    ("host", "authority: Api.Example"),
    ("version", "service: t.Shop, version: '2.0'"),
    ("group", "service: t.Shop, group: blue"),
    ("method", "service: t.Shop, method: { prefix: get }"),
    ("service", "service: t.Shop"),
    ("exact", "path: /exact"),
    ("template", "path: { template: '/users/{id}/orders/{rest*}' }"),
    ("query", "path: { prefix: /q }, query: { version: '2' }"),
    ("delete", "method: DELETE"),
    ("zone", "headers: { x-zone: a }"),
    ("present", "headers: { X-Beta: { present: true } }"),
    ("prefix", "path: { prefix: /api/ }"),
];

/// A head's parts beyond the usual: `kind` is a content type, or nothing.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const GRPC: &str = "application/grpc";
const CASES: [Case; 32] = [
    ("GET", "api.example", "/", "", &[], "host"),
    ("GET", "api.example:9999", "/exact", "", &[], "host"),
    ("GET", "API.EXAMPLE:8080", "/", "", &[], "port"),
    ("GET", "api.example.evil", "/", "", &[], ""),
    ("GET", "t", "/exact", "", &[], "exact"),
    ("GET", "t", "/exact?x=1", "", &[], "exact"),
    ("GET", "t", "/e%78act", "", &[], "exact"),
    ("GET", "t", "/Exact", "", &[], ""),
    ("GET", "t", "/users/7/orders/9/lines/1?all", "", &[], "template"),
    ("GET", "t", "/users/7/8/orders/9", "", &[], ""),
    ("GET", "t", "/q/deeper?a=1&version=2&b", "", &[], "query"),
    ("GET", "t", "/q?version=22", "", &[], ""),
    ("DELETE", "t", "/whatever", "", &[], "delete"),
    ("delete", "t", "/whatever", "", &[], ""),
    ("GET", "t", "/", "", &[("x-zone", "a")], "zone"),
    ("GET", "t", "/", "", &[("x-zone", "A")], ""),
    ("GET", "t", "/", "", &[("x-beta", "")], "present"),
    ("GET", "t", "/api/x", "", &[], "prefix"),
    ("POST", "t", "/t.Shop/sell", GRPC, &[], "service"),
    ("POST", "t", "/t.Shop/sell", "application/grpc+proto", &[], "service"),
    ("POST", "t", "/t.Shop/getOne", GRPC, &[], "method"),
    ("POST", "t", "/t.Shop/GetOne", GRPC, &[], "service"),
    ("POST", "t", "/t.Shopping/getOne", GRPC, &[], ""),
    ("POST", "t", "/t.Shop/getOne", "text/plain", &[], ""),
    ("POST", "t", "/t.Shop/getOne", "application/grpc-web", &[], ""),
    ("POST", "t", "/t.Shop/getOne", "application/json", &[], ""),
    ("POST", "t", "/t.Shop/getOne", GRPC, &[("tri-service-version", "2.0")], "version"),
    ("POST", "t", "/t.Shop/getOne", GRPC, &[("tri-service-group", "blue")], "group"),
    ("POST", "t", "/t.Shop/sell", GRPC, &[("tri-service-version", "2.1")], "service"),
    ("POST", "t", "/t.Shop/getOne", "application/json", &[("tri-service-version", "2.0")], "version"),
    ("POST", "api.example", "/t.Shop/getOne", GRPC, &[], "host"),
    ("POST", "t", "/t.Other/x", GRPC, &[("x-zone", "a")], "zone"),
];

#[test]
fn each_call_goes_where_its_parts_say() {
    let upstreams: BTreeMap<_, _> = ROUTES.iter().map(|(name, _)| (*name, Upstream::named(name))).collect();
    let routes: Vec<_> = ROUTES
        .iter()
        .map(|(name, matches)| format!("      - {{ name: r-{name}, match: {{ {matches} }}, to: {name} }}\n"))
        .collect();
    let clusters: Vec<_> = upstreams.iter().map(|(name, upstream)| cluster(name, upstream, "")).collect();
    for protocol in ["http2", "auto", "[grpc, http2]"] {
        let listener = format!("    protocol: {protocol}\n    routes:\n{}", routes.concat());
        let mut sidecar = Sidecar::start(&conf(&listener, &format!("clusters:\n{}", clusters.concat())));
        let mut client = sidecar.http2();
        for (method, authority, path, kind, more, route) in CASES {
            let mut fields = request(method, path).set(":authority", authority);
            for (name, value) in
                [("content-type", kind)].iter().chain(more).filter(|one| one != &&("content-type", ""))
            {
                fields = fields.with(name, value);
            }
            let answer = client.ask(&fields);
            let case = format!("{protocol}: {method} {authority} {path} {kind} {more:?}: {answer:?}");
            match (route, kind.starts_with(GRPC) && !kind.contains("web")) {
                ("", true) => assert_eq!(answer.head.get("grpc-status"), Some("12"), "{case}"),
                ("", false) => assert_eq!(
                    (answer.status(), answer.head.get("x-outrigger-error")),
                    (404, Some("no_route")),
                    "{case}"
                ),
                _ => assert_eq!(answer.text(), format!("{route} {method} {path} "), "{case}"),
            }
        }
        // Host alone names the authority as well.
        let fields = get("/").without(":authority").with("host", "api.example");
        assert_eq!(client.ask(&fields).text(), "host GET / ");
        for (name, _) in ROUTES {
            let due = CASES.iter().filter(|case| case.5 == name).count() as u64 + u64::from(name == "host");
            assert_eq!(sidecar.outcomes(&format!("r-{name}"), "ok"), due, "{name}: {}", sidecar.stats());
        }
        drop(client);
        sidecar.rests();
    }
}

#[test]
fn a_listener_for_calls_alone_refuses_other_requests() {
    let upstream = Upstream::named("up");
    for protocol in ["grpc", "triple", "[grpc, triple]"] {
        let mut sidecar = straight(&upstream.address(), protocol, NOTHING);
        let mut client = sidecar.http2();
        for fields in [get("/"), post("/t.Shop/sell").with("content-type", "text/plain")] {
            client.ask(&fields).refused(415, "malformed");
        }
        client
            .ask_with(&post("/t.Shop/sell").with("content-type", "application/grpc-web"), "body")
            .refused(415, "malformed");
        let json = client.ask(&post("/t.Shop/sell").with("content-type", "application/json"));
        if protocol == "grpc" {
            json.refused(415, "malformed");
        } else {
            json.is("up POST /t.Shop/sell ");
        }
        let answer = client.ask_with(&grpc("/t.Shop/sell"), "body");
        answer.is("up POST /t.Shop/sell body");
        assert_eq!(answer.trailers, Some(Fields::new(&[("grpc-status", "0")])));
        drop(client);
        sidecar.rests();
    }
}

#[test]
fn one_port_serves_bolt_dubbo_http1_and_http2_side_by_side() {
    let (frames, web, new) =
        (support::echo::Upstream::start(), support::http1::Upstream::start(), Upstream::start());
    let rest = format!(
        "clusters:\n  frames: {{ endpoints: [\"{}\"] }}\n  web: {{ endpoints: [\"{}\"] }}\n{}",
        frames.address(),
        web.address(),
        cluster("new", &new, "")
    );
    for protocol in ["auto", "[bolt, dubbo, http1, http2]", "[http2, http1, bolt, dubbo]"] {
        let listener = format!(
            "    protocol: {protocol}\n    routes:\n      - {{ match: {{ service: t.Echo }}, to: frames }}\n      \
             - {{ match: {{ headers: {{ new: a }} }}, to: new }}\n      - {{ match: {{ path: {{ prefix: / }} }}, to: web }}"
        );
        let mut sidecar = Sidecar::start(&conf(&listener, &rest));
        let mut rpc = [Wire::V1, Wire::Crc, Wire::Dubbo].map(|wire| (wire, sidecar.client()));
        let mut old = sidecar.http();
        // Its first bytes one by one: that it is HTTP/2 must not be guessed too early, nor bytes lost.
        let mut dripped = Client::mute(sidecar.port("main"));
        let begins = [headers(1, &get("/echo/dripped").with("new", "a"), true).bytes()];
        let greets = [support::http2::PREFACE, &support::http2::settings(&[]).bytes(), &begins[0]].concat();
        for byte in greets {
            dripped.bytes(&[byte]);
            std::thread::sleep(Duration::from_millis(1));
        }
        dripped.number();
        dripped.answer(1).is(" GET /echo/dripped ");
        for id in 0..20 {
            for (wire, caller) in &mut rpc {
                caller.send(&wire.call(id).bytes());
            }
            old.well(id);
            dripped.ask(&get("/echo/x").with("new", "a")).is(" GET /echo/x ");
            for (wire, caller) in &mut rpc {
                caller.expect(&wire.answer(id, ECHO));
            }
        }
        assert_eq!((sidecar.detected("http1"), sidecar.detected("http2")), (1, 1), "{}", sidecar.stats());
        drop((rpc, old, dripped));
        sidecar.rests();
    }
}

/// A route for each refusal that a conf alone can cause, and one that is well.
fn refusing(upstream: &Upstream, dir: &TempDir) -> Sidecar {
    let services = dir.path().join("services.yaml");
    fs::write(&services, "services:\n  s.Empty: []\n").expect("it can be written");
    let listener = "    protocol: http2
    routes:
      - { match: { path: { prefix: /echo } }, to: up }
      - { match: { path: { prefix: /dead } }, to: dead }
      - { match: { path: { prefix: /empty } }, to: empty }
      - { match: { path: { prefix: /slow } }, to: up, timeout: 200ms }
      - { match: { path: { prefix: /few } }, to: up, limit: { rate: 1/h, burst: 1 } }
      - { match: { path: { prefix: /one } }, to: one }
      - { match: { path: { prefix: /held } }, to: up }";
    let rest = format!(
        "limits: {{ body_max: 1KiB, head_max: 4KiB, headers_max: 50, uri_max: 1KiB }}\nclusters:\n{}{}  dead: {{ endpoints: [\"127.0.0.1:{}\"] }}\n  empty: {{ \
         discover: {{ registry: local, service: s.Empty }} }}\nregistries:\n  local: {{ file: {{ path: {} }} }}",
        cluster("up", upstream, ""),
        cluster("one", upstream, "connections: 1, pending_max: 1"),
        free_port(),
        services.display()
    );
    Sidecar::start(&conf(listener, &rest))
}

#[test]
fn each_refusal_is_told_in_the_words_of_its_call() {
    let (upstream, dir) = (Upstream::start(), TempDir::new());
    let mut sidecar = refusing(&upstream, &dir);
    let mut client = sidecar.http2();
    let first = client.call(&get("/few/1"));
    upstream.next().answer("the first");
    client.answer(first).is("the first");
    for (target, code, name, status) in [
        ("/nowhere/x", 404, "no_route", 12),
        ("/dead/x", 502, "unreachable", 14),
        ("/empty/x", 503, "no_endpoint", 14),
        ("/slow/x", 504, "timed_out", 4),
        ("/few/x", 429, "limited", 8),
    ] {
        let answer = client.ask(&get(target));
        answer.refused(code, name);
        assert_eq!(answer.head.get("retry-after").is_some(), name == "limited", "{answer:?}");
        let answer = client.ask(&request("HEAD", target));
        assert_eq!((answer.status(), answer.head.get("x-outrigger-error")), (code, Some(name)), "{answer:?}");
        assert!(answer.whole && answer.body.is_empty(), "{answer:?}");
        let answer = client.ask_with(&grpc(target), "body");
        answer.refused_grpc(status, name);
        let pushback = answer.head.get("grpc-retry-pushback-ms");
        assert_eq!(pushback.is_some(), name == "limited", "{answer:?}");
        if let Some(wait) = pushback {
            assert!((1..=3_600_000).contains(&wait.parse::<u64>().expect("milliseconds")), "{answer:?}");
        }
        // One whose request is not complete is answered all the same, and the rest is not wanted; unless it only waits.
        if name != "timed_out" {
            for fields in [post(target), grpc(target)] {
                let stream = client.open(&fields, false);
                client.send(&[data(stream, "12", false)]);
                let answer = client.answer(stream);
                assert!(answer.whole, "{answer:?}");
                assert_eq!(client.given_up(stream), NO_ERROR);
            }
        }
        client.well(name);
    }
    assert_eq!(sidecar.metric("outrigger_upstream_in_flight", &[]), 0);
    drop(client);
    sidecar.rests();
}

#[test]
fn what_cannot_be_carried_is_answered_or_its_stream_ends() {
    let (upstream, dir) = (Upstream::start(), TempDir::new());
    let mut sidecar = refusing(&upstream, &dir);
    let mut client = sidecar.http2();
    let long = "x".repeat(1_100);
    let many: Vec<(String, String)> = (0..60).map(|at| (format!("x-{at}"), "v".to_owned())).collect();
    let many = Fields([get("/echo").0, many].concat());
    for (fields, code, name) in [
        (request("TRACE", "/echo"), 405, "forbidden"),
        (
            request("CONNECT", "/").without(":path").without(":scheme").set(":authority", "t:80"),
            405,
            "forbidden",
        ),
        (get(&format!("/echo/{long}")), 414, "too_large"),
        (many.clone(), 431, "too_large"),
        (get("/echo").with("x-long", &"x".repeat(5_000)), 431, "too_large"),
        (get("/echo").with("expect", "the-unexpected"), 417, "malformed"),
    ] {
        let answer = client.ask(&fields);
        answer.refused(code, name);
        assert_eq!(answer.head.get("allow").is_some(), code == 405, "{answer:?}");
        client.well(name);
    }
    // A body that says it is too long, and one that grows too long on its way.
    for fields in [post("/echo/long"), grpc("/held/long")] {
        let calls = fields.get("content-type").is_some();
        let said = client.open(&fields.clone().with("content-length", "1025"), false);
        let grows = client.open(&fields, false);
        client.send(&[data(grows, [b'x'; 1_024], false), data(grows, "x", false)]);
        for stream in [said, grows] {
            let answer = client.answer(stream);
            if calls {
                answer.refused_grpc(8, "too_large");
            } else {
                answer.refused(413, "too_large");
            }
            assert_eq!(client.given_up(stream), NO_ERROR);
        }
        client.well("behind");
    }
    // In gRPC's words the same.
    client.ask(&Fields([grpc("/held").0, many.0[4..].to_vec()].concat())).refused_grpc(8, "too_large");
    client.ask(&grpc(&format!("/held/{long}"))).refused_grpc(8, "too_large");
    // What is no message at all ends its stream.
    for fields in [
        get("/echo").with("connection", "close"),
        get("/echo").without(":path"),
        get("/echo").with("te", "gzip"),
        get("/echo").with("content-length", "1"),
    ] {
        let stream = client.call(&fields);
        assert_eq!(client.given_up(stream), PROTOCOL_ERROR, "{fields:?}");
        client.well("behind");
    }
    drop(client);
    assert_eq!(upstream.count("/held/long"), 1);
    sidecar.rests();
}

#[test]
fn more_than_may_wait_is_refused_as_overload_and_the_rest_served() {
    let (upstream, dir) = (Upstream::start(), TempDir::new());
    let mut sidecar = refusing(&upstream, &dir);
    let mut client = sidecar.http2();
    let first = client.call(&get("/one/1"));
    let held = upstream.next();
    let second = client.call(&get("/one/2"));
    let more = [client.call(&get("/one/3")), client.call(&get("/one/4"))];
    for stream in more {
        client.answer(stream).refused(503, "overloaded");
    }
    let call = client.call(&grpc("/one/5"));
    client.answer(call).refused_grpc(8, "overloaded");
    held.answer("first");
    client.answer(first).is("first");
    upstream.next().answer("second");
    client.answer(second).is("second");
    drop(client);
    sidecar.rests();
}

/// Microseconds of a `grpc-timeout`, rounded up.
fn micros(spelled: &str) -> u64 {
    let (digits, unit) = spelled.split_at(spelled.len() - 1);
    let factor = match unit {
        "H" => 3_600_000_000,
        "M" => 60_000_000,
        "S" => 1_000_000,
        "m" => 1_000,
        "u" | "n" => 1,
        other => panic!("no unit: {other}"),
    };
    let number = digits.parse::<u64>().expect("a number");
    if unit == "n" { number.div_ceil(1_000) } else { number * factor }
}

fn timeout(held: &Held) -> u64 {
    micros(held.head.get("grpc-timeout").expect("it is passed on"))
}

#[test]
fn a_callers_own_time_is_reduced_by_what_was_spent_and_kept() {
    let upstream = Upstream::start();
    let cluster = "connections: 1, pending_max: 1";
    let mut sidecar = straight(&upstream.address(), "grpc", ("", "timeout: 5s", cluster));
    let mut client = sidecar.http2();
    // The first takes the only place: the second's time runs while it waits in line.
    let first = client.call(&grpc("/t.S/first").with("grpc-timeout", "4S"));
    let held = upstream.next();
    assert!((1_000_000..=4_000_000).contains(&timeout(&held)), "{held:?}");
    let second = client.call(&grpc("/t.S/second").with("grpc-timeout", "20S"));
    client.silent(Duration::from_millis(300));
    held.answer_grpc("1");
    client.answer(first).is("1");
    let held = upstream.next();
    assert!(timeout(&held) <= 19_700_000, "{held:?}");
    // No longer than the route's.
    assert!(timeout(&held) <= 5_000_000, "{held:?}");
    held.answer_grpc("2");
    client.answer(second).is("2");
    // One that names none is told the route's, once it is complete: until then the route's time does not run.
    let none = client.call(&grpc("/t.S/none"));
    let held = upstream.next();
    assert!((3_000_000..=5_000_000).contains(&timeout(&held)), "{held:?}");
    held.answer_grpc("3");
    client.answer(none).is("3");
    let open = client.open(&grpc("/t.S/open"), false);
    let held = upstream.next();
    assert_eq!(held.head.get("grpc-timeout"), None);
    client.send(&[data(open, "", true)]);
    held.answer_grpc("3");
    client.answer(open).is("3");
    // One that is over ends here and there.
    for (spelled, most) in [("100m", 100_000), ("150000u", 150_000), ("90000000n", 90_000)] {
        let call = client.call(&grpc("/t.S/short").with("grpc-timeout", spelled));
        let held = upstream.next();
        assert!(timeout(&held) <= most, "{spelled}: {held:?}");
        client.answer(call).refused_grpc(4, "timed_out");
        assert_eq!(held.taken_back(), CANCEL);
    }
    // An answer that began ends with the status.
    let call = client.call(&grpc("/t.S/half").with("grpc-timeout", "200m"));
    let held = upstream.next();
    held.begin(&status(200).with("content-type", "application/grpc"));
    held.say("half");
    let answer = client.answer(call);
    assert!(answer.whole && answer.text() == "half", "{answer:?}");
    answer.trailers.expect("they tell").is_grpc(4, "timed_out");
    assert_eq!(held.taken_back(), CANCEL);
    // What is no time is passed on as it is, and limits nothing.
    let odd = client.call(&grpc("/t.S/odd").with("grpc-timeout", "1s"));
    let held = upstream.next();
    assert_eq!(held.head.get("grpc-timeout"), Some("1s"));
    held.answer_grpc("4");
    client.answer(odd).is("4");
    drop(client);
    sidecar.rests();
}

#[test]
fn a_plain_answer_that_was_not_complete_in_time_is_torn() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", ("", "timeout: 300ms", ""));
    let mut client = sidecar.http2();
    let call = client.call(&get("/half"));
    let held = upstream.next();
    held.begin(&status(200));
    held.say("half");
    let answer = client.answer(call);
    assert!(!answer.whole && answer.text() == "half", "{answer:?}");
    assert_eq!((answer.reset, held.taken_back()), (Some(CANCEL), CANCEL));
    client.well("behind");
    // The time begins when the request is complete.
    let slow = client.open(&post("/echo/slow"), false);
    for _ in 0..4 {
        client.send(&[data(slow, "x", false)]);
        std::thread::sleep(Duration::from_millis(150));
    }
    client.send(&[data(slow, "x", true)]);
    client.answer(slow).is(" POST /echo/slow xxxxx");
    drop(client);
    sidecar.rests();
}

#[test]
fn heads_and_trailers_of_both_sides_arrive_as_they_were() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    let more = [
        ("x-a", "1"),
        ("cookie", "a=1"),
        ("x-a", "2"),
        ("cookie", "b=2"),
        ("x-empty", ""),
        ("x-bytes", "\u{e4}\u{ff}"),
    ];
    let more = Fields::new(&more).0;
    let asked = Fields([post("/call?q=1").with("te", "trailers").0, more.clone()].concat());
    let call = client.open(&asked, false);
    client.send(&[
        data(call, "body", false),
        headers(call, &Fields::new(&[("x-end", "of it"), ("x-sum", "9")]), true),
    ]);
    let held = upstream.next();
    assert_eq!(
        held.head.0.iter().filter(|(name, _)| !name.starts_with(':')).collect::<Vec<_>>(),
        asked.0[4..].iter().collect::<Vec<_>>()
    );
    assert_eq!(
        (held.method(), held.path(), held.head.get(":authority")),
        ("POST", "/call?q=1", Some("test.example"))
    );
    assert_eq!(held.body(), Ok((b"body".to_vec(), Some(Fields::new(&[("x-end", "of it"), ("x-sum", "9")])))));
    // Interim answers first.
    let hints = status(103).with("link", "</a>").with("link", "</b>");
    held.begin(&status(100));
    held.begin(&hints);
    let said = Fields([status(201).0, more].concat());
    held.begin(&said);
    held.say("answer");
    held.trailers(&Fields::new(&[("x-tail", "t")]));
    let answer = client.answer(call);
    assert_eq!((answer.head.clone(), answer.text()), (said, "answer".to_owned()));
    assert_eq!(answer.trailers, Some(Fields::new(&[("x-tail", "t")])));
    assert_eq!(answer.interim.last(), Some(&hints));
    assert_eq!(answer.interim.len(), 2, "{answer:?}");
    // Trailers alone.
    let call = client.call(&grpc("/t.S/alone"));
    let alone = status(200)
        .with("content-type", "application/grpc")
        .with("grpc-status", "5")
        .with("grpc-message", "no");
    upstream.next().trailers(&alone);
    let answer = client.answer(call);
    assert_eq!((answer.head, answer.whole, answer.trailers), (alone, true, None));
    // No body where there is none, whatever the head says of it.
    for (method, code, length) in [("HEAD", 200, Some("1000")), ("GET", 304, Some("7")), ("GET", 204, None)] {
        let call = client.call(&request(method, "/none"));
        let head = length.map_or(status(code), |length| status(code).with("content-length", length));
        upstream.next().trailers(&head);
        let answer = client.answer(call);
        assert_eq!((&answer.head, answer.whole, answer.body.len()), (&head, true, 0), "{method} {code}");
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn an_expectation_is_the_endpoints_to_answer() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    let fields = post("/expect").with("expect", "100-continue").with("content-length", "4");
    let call = client.open(&fields, false);
    let held = upstream.next();
    assert_eq!(held.head.get("expect"), Some("100-continue"));
    held.silent(SILENCE);
    held.begin(&status(100));
    client.until("the interim answer", |client| {
        client.answers.get(&call).is_some_and(|answer| answer.interim.len() == 1)
    });
    client.send(&[data(call, "body", true)]);
    assert_eq!(held.body(), Ok((b"body".to_vec(), None)));
    held.answer("thanks");
    client.answer(call).is("thanks");
    // A refusal without the body: nobody wants it any more.
    let call = client.open(&fields, false);
    let held = upstream.next();
    held.trailers(&status(417));
    let answer = client.answer(call);
    assert_eq!((answer.status(), answer.whole), (417, true));
    assert_eq!(client.given_up(call), NO_ERROR);
    held.taken_back();
    client.well("behind");
    // Too many interim answers are no answer.
    let call = client.call(&get("/flood"));
    let held = upstream.next();
    (0..30).for_each(|_| held.begin(&status(102)));
    let answer = client.answer(call);
    assert_eq!(
        (answer.status(), answer.head.get("x-outrigger-error")),
        (502, Some("unreachable")),
        "{answer:?}"
    );
    client.well("behind");
    drop(client);
    sidecar.rests();
}

#[test]
fn bytes_pass_both_ways_before_either_message_ends() {
    let upstream = Upstream::start();
    for protocol in ["http2", "grpc"] {
        let mut sidecar = straight(&upstream.address(), protocol, NOTHING);
        let mut client = sidecar.http2();
        let call = client.open(&grpc("/t.S/talk"), false);
        let held = upstream.next();
        held.begin(&status(200).with("content-type", "application/grpc"));
        assert_eq!(client.begun(call).status(), 200);
        let mut said = 0;
        for turn in 1..50_usize {
            let word = vec![b'a'; turn * 7];
            client.send(&[data(call, &word, false)]);
            assert_eq!(held.came(word.len()), word);
            held.say(&word);
            said += word.len();
            assert_eq!(client.came(call, said).body.len(), said);
        }
        client.send(&[data(call, [], true)]);
        assert_eq!(held.next(), Event::Data { stream: held.stream, bytes: Vec::new(), end: true });
        held.say("last");
        held.trailers(&Fields::new(&[("grpc-status", "0")]));
        let answer = client.answer(call);
        assert!(answer.text().ends_with("last") && answer.trailers.is_some());
        drop(client);
        sidecar.rests();
    }
}

#[test]
fn large_bodies_pass_both_ways_at_once_and_one_that_nobody_reads_stops_no_other() {
    const LEN: usize = 4 << 20;
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    let many = (0..LEN / 8).map(|at| format!("{at:08}")).collect::<Vec<_>>().concat();
    let answer = client.ask_with(&post("/echo/many"), &many);
    assert!(answer.whole && answer.body.len() == LEN + 17, "{}", answer.body.len());
    assert!(answer.text().ends_with(&many));
    // One whose answer waits for its window.
    let mut slow = Client::connect_with(sidecar.port("main"), &[(support::http2::WINDOW, 1_000)]);
    slow.generous = false;
    let stuck = slow.open(&post("/stuck"), true);
    let held = upstream.next();
    held.begin(&status(200));
    let sender = std::thread::spawn({
        let (conn, stream, many) = (held.conn.clone(), held.stream, many.clone());
        move || conn.body(stream, many.as_bytes(), true)
    });
    assert_eq!(slow.came(stuck, 1_000).body.len(), 1_000);
    // Neither on its own connection nor on the endpoint's does it stop others.
    let other = slow.call(&get("/echo/o"));
    slow.answer(other).is(" GET /echo/o ");
    client.ask_with(&post("/echo/beside"), &many[..1 << 20]);
    slow.silent(SILENCE);
    slow.generous = true;
    slow.send(&[support::http2::window(stuck, 1 << 20), support::http2::window(0, 1 << 20)]);
    let answer = slow.answer(stuck);
    assert!(answer.whole && answer.text() == many);
    assert!(sender.join().expect("it is sent"));
    drop((client, slow));
    sidecar.rests();
}

#[test]
fn many_small_words_pass_whoever_gives_windows_back_for_each_of_them() {
    const WORDS: usize = 6_000;
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    let call = client.open(&post("/words"), false);
    let held = upstream.next();
    // At once, and read when all of them are on their way: both peers answer each frame by two of their own.
    let word = |at: usize| format!("{at:08}");
    let all: String = (0..WORDS).map(word).collect();
    let words: Vec<u8> = (0..WORDS).flat_map(|at| data(call, word(at), at + 1 == WORDS).bytes()).collect();
    client.bytes(&words);
    assert_eq!(held.body().expect("a whole request").0, all.as_bytes());
    held.begin(&status(200));
    (0..WORDS).for_each(|at| held.say(word(at)));
    held.end("");
    let answer = client.answer(call);
    assert!(answer.whole && answer.text() == all, "{} bytes", answer.body.len());
    client.well("behind");
    assert_eq!((sidecar.events("http2", "up_broken"), sidecar.events("http2", "down_broken")), (0, 0));
    drop(client);
    sidecar.rests();
}

#[test]
fn a_call_that_its_caller_takes_back_is_taken_back_from_its_endpoint() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    for code in [CANCEL, INTERNAL_ERROR, NO_ERROR] {
        for begun in [false, true] {
            let call = client.open(&post("/taken/back"), false);
            client.send(&[data(call, "half", false)]);
            let held = upstream.next();
            held.came(4);
            if begun {
                held.begin(&status(200));
                held.say("half");
                client.came(call, 4);
            }
            client.send(&[rst(call, code)]);
            assert_eq!(held.taken_back(), code);
            // What still comes of it disturbs nobody.
            held.send(&[data(held.stream, "late", true)]);
            client.well("behind");
        }
    }
    assert_eq!(sidecar.events("http2", "cancelled"), 6);
    // A caller that vanishes takes its calls with it.
    let calls = [client.call(&get("/gone/1")), client.call(&get("/gone/2"))];
    let held = calls.map(|_| upstream.next());
    client.abort();
    assert!(held.iter().all(|held| held.taken_back() == CANCEL));
    assert!(within(SOON, || upstream.streams() == 0));
    sidecar.http2().well("another");
    assert_eq!(upstream.accepted(), 1, "the endpoint's connection goes on");
    sidecar.rests();
}

#[test]
fn a_call_that_its_endpoint_gives_up_is_given_up_with_the_same_code() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream.address(), "http2", NOTHING);
    let mut client = sidecar.http2();
    for code in [CANCEL, INTERNAL_ERROR, support::http2::CALM, 0xd] {
        let call = client.call(&get("/given/up"));
        upstream.next().reset(code);
        let answer = client.answer(call);
        assert_eq!((answer.whole, answer.reset), (false, Some(code)), "{answer:?}");
        // One that is answering: gRPC's callers are told in their own words.
        for fields in [get("/half"), grpc("/t.S/half")] {
            let call = client.call(&fields);
            let held = upstream.next();
            held.begin(&status(200));
            held.say("half");
            client.came(call, 4);
            held.reset(code);
            let answer = client.answer(call);
            match answer.trailers {
                Some(trailers) => _ = trailers.is_grpc(14, "unreachable"),
                None => assert_eq!((answer.whole, answer.reset), (false, Some(code)), "{fields:?}"),
            }
            client.well("behind");
        }
    }
    // Its answer is whole, and it wants no more of the request.
    let call = client.open(&post("/early"), false);
    client.send(&[data(call, "half", false)]);
    let held = upstream.next();
    held.came(4);
    held.answer("enough");
    held.reset(NO_ERROR);
    client.answer(call).is("enough");
    assert_eq!(client.given_up(call), NO_ERROR);
    client.well("behind");
    drop(client);
    sidecar.rests();
}

#[test]
fn the_next_server_is_told_what_the_conf_says() {
    let upstream = Upstream::start();
    let listener = "    http: { via: edge, forwarded: append, request_id: true, underscores: drop }\n";
    let mut sidecar = straight(&upstream.address(), "http2", (listener, "", ""));
    let mut client = sidecar.http2();
    let call = client.call(&get("/plain").with("x_y", "1").with("via", "1.1 before"));
    let held = upstream.next();
    let of = |held: &Held, name: &str| held.head.all(name).join("|");
    assert_eq!(of(&held, "via"), "1.1 before|2 edge");
    assert_eq!(of(&held, "x-forwarded-for"), "127.0.0.1");
    assert_eq!(
        (of(&held, "x-forwarded-proto"), of(&held, "x-forwarded-host")),
        ("http".to_owned(), "test.example".to_owned())
    );
    assert_eq!((of(&held, "x-request-id").len(), of(&held, "x_y")), (32, String::new()));
    let first = of(&held, "x-request-id");
    held.begin(&status(200).with("via", "1.1 behind").with("x_z", "1"));
    held.end("");
    let answer = client.answer(call);
    assert_eq!((answer.head.all("via"), answer.head.get("x_z")), (vec!["1.1 behind", "2 edge"], Some("1")));
    let own = get("/own")
        .with("x-forwarded-for", "10.0.0.1")
        .with("x-forwarded-proto", "https")
        .with("x-request-id", "mine");
    client.call(&own);
    let held = upstream.next();
    assert_eq!(
        (of(&held, "x-forwarded-for"), of(&held, "x-forwarded-proto"), of(&held, "x-request-id")),
        ("10.0.0.1, 127.0.0.1".to_owned(), "https".to_owned(), "mine".to_owned())
    );
    client.call(&get("/third"));
    let held = upstream.next();
    assert_ne!(of(&held, "x-request-id"), first);
    drop((client, held));
    sidecar.rests();
}
