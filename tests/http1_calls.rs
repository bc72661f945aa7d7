//! What HTTP/1 callers see of the sidecar: where requests go, what is refused and how, deadlines, tunnels, reloads
//! and the end of the process.
//!
//! Whatever happens, an answer belongs to the request it stands for, and a connection says before it closes.
//! Times are only ever bounded generously. Single requests that are wrong in themselves stand elsewhere.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::echo::conf;
use support::http1::{Client, End, Leaving, Upstream, get, ok, post, straight};
use support::raw::{ANSWER_MAX, ECHO, Wire};
use support::{Sidecar, TempDir, free_port, within};

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(150);

fn cluster(name: &str, upstream: &Upstream, further: &str) -> String {
    format!("  {name}: {{ endpoints: [\"{}\"], {further} }}\n", upstream.address())
}

/// Routes by name, in their order, each to a cluster of its own.
const ROUTES: [(&str, &str); 12] = [
    ("port", "authority: 'api.example:8080'"),
    ("host", "authority: Api.Example"),
    ("inside", r"authority: { regex: '.*\.inside' }"),
    ("exact", "path: /exact"),
    ("template", "path: { template: '/users/{id}/orders/{rest*}' }"),
    ("regex", "path: { regex: '/v[0-9]+/.*' }"),
    ("any", "path: { any: [/one, /two] }"),
    ("query", "path: { prefix: /q }, query: { version: '2' }"),
    ("delete", "method: DELETE"),
    ("zone", "headers: { x-zone: a }"),
    ("present", "headers: { X-Beta: { present: true } }"),
    ("prefix", "path: { prefix: /api/ }"),
];

/// Method, authority, target, headers; and the route, or nothing.
type Case = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const CASES: [Case; 40] = [
    ("GET", "api.example", "/", &[], "host"),
    ("GET", "api.example:80", "/", &[], "host"),
    ("GET", "api.example:9999", "/exact", &[], "host"),
    ("GET", "api.example:8080", "/", &[], "port"),
    ("GET", "API.EXAMPLE:8080", "/", &[], "port"),
    ("POST", "aPi.eXample", "/api/x", &[], "host"),
    ("GET", "api.example.evil", "/", &[], ""),
    ("GET", "xapi.example", "/", &[], ""),
    ("GET", "a.b.inside", "/", &[], "inside"),
    ("GET", "a.b.inside.evil", "/", &[], ""),
    ("GET", "t", "/exact", &[], "exact"),
    ("GET", "t", "/exact?x=1", &[], "exact"),
    ("GET", "t", "/exact/", &[], ""),
    ("GET", "t", "/Exact", &[], ""),
    ("GET", "t", "/e%78act", &[], "exact"),
    ("GET", "t", "/%65%78%61%63%74", &[], "exact"),
    ("GET", "t", "/exact%2f", &[], ""),
    ("GET", "t", "/users/7/orders/9", &[], "template"),
    ("GET", "t", "/users/7/orders/9/lines/1?all", &[], "template"),
    ("GET", "t", "/users/7%2F8/orders/9", &[], "template"),
    ("GET", "t", "/users/7/8/orders/9", &[], ""),
    ("GET", "t", "/users/7/order/9", &[], ""),
    ("GET", "t", "/v12/things", &[], "regex"),
    ("GET", "t", "/v/things", &[], ""),
    ("GET", "t", "/x/v12/things", &[], ""),
    ("GET", "t", "/one", &[], "any"),
    ("GET", "t", "/two?", &[], "any"),
    ("GET", "t", "/q?version=2", &[], "query"),
    ("GET", "t", "/q/deeper?a=1&version=2&b", &[], "query"),
    ("GET", "t", "/q?ver%73ion=%32", &[], "query"),
    ("GET", "t", "/q?version=22", &[], ""),
    ("GET", "t", "/q?xversion=2", &[], ""),
    ("DELETE", "t", "/whatever", &[], "delete"),
    ("delete", "t", "/whatever", &[], ""),
    ("GET", "t", "/", &[("x-zone", "a")], "zone"),
    ("GET", "t", "/", &[("X-ZONE", "a")], "zone"),
    ("GET", "t", "/", &[("X-Zone", "A")], ""),
    ("GET", "t", "/", &[("x-beta", "")], "present"),
    ("GET", "t", "/api/x", &[], "prefix"),
    ("GET", "t", "/ap", &[], ""),
];

#[test]
fn each_request_goes_where_its_parts_say_and_explain_says_the_same() {
    let upstreams: BTreeMap<_, _> = ROUTES.iter().map(|(name, _)| (*name, Upstream::named(name))).collect();
    let routes: Vec<_> = ROUTES
        .iter()
        .map(|(name, matches)| format!("      - {{ name: r-{name}, match: {{ {matches} }}, to: {name} }}\n"))
        .collect();
    let clusters: Vec<_> = upstreams.iter().map(|(name, upstream)| cluster(name, upstream, "")).collect();
    let listener = format!("    protocol: http1\n    routes:\n{}", routes.concat());
    let mut sidecar = Sidecar::start(&conf(&listener, &format!("clusters:\n{}", clusters.concat())));
    let mut client = sidecar.http();
    for (method, authority, target, headers, route) in CASES {
        let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n", lines.concat());
        let answer = client.ask(head);
        let case = format!("{method} {authority} {target} {headers:?}");
        if route.is_empty() {
            assert_eq!(answer.status(), 404, "{case}: {answer:?}");
            answer.refused(404, "no_route");
        } else {
            assert_eq!(answer.text(), format!("{route} {method} {target} "), "{case}");
        }

        let mut explain = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        explain.args(["explain", "-c"]).arg(sidecar.conf_path());
        explain.args(["--method", method, "--authority", authority, "--path", target]);
        for (name, value) in headers {
            explain.args(["--header", &format!("{name}={value}")]);
        }
        let output = explain.output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{case}: {output:?}");
        let due =
            if route.is_empty() { "no route matches".to_owned() } else { format!("(r-{route}): matches") };
        assert!(said.contains(&due), "{case}: explain does not say {due:?}:\n{said}");
    }
    // Absolute-form is the same request.
    let answer = client.ask("GET http://API.example/x?y HTTP/1.1\r\nHost: api.EXAMPLE\r\n\r\n");
    assert_eq!(answer.text(), "host GET /x?y ");
    // Each of them was counted under its route.
    for (name, _) in ROUTES {
        let due = CASES.iter().filter(|case| case.4 == name).count() as u64 + u64::from(name == "host");
        assert_eq!(sidecar.outcomes(&format!("r-{name}"), "ok"), due, "{name}: {}", sidecar.stats());
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn weights_are_shares_of_requests_also_of_one_connection() {
    const REQUESTS: usize = 400;
    let (most, few, none) = (Upstream::named("most"), Upstream::named("few"), Upstream::named("none"));
    let clusters = [("most", &most), ("few", &few), ("none", &none)];
    let clusters: String = clusters.iter().map(|(name, upstream)| cluster(name, upstream, "")).collect();
    let listener =
        "    protocol: http1\n    routes:\n      - { match: {}, weights: { most: 3, few: 1, none: 0 } }";
    let mut sidecar = Sidecar::start(&conf(listener, &format!("clusters:\n{clusters}")));
    let mut client = sidecar.http();
    for at in 0..REQUESTS {
        let answer = client.get(&format!("/{at}"));
        assert!(answer.text().ends_with(&format!(" GET /{at} ")), "{answer:?}");
    }
    // 100 are expected; further off than seven standard deviations is no chance.
    let share = few.seen().len();
    assert!((40..=160).contains(&share), "{share} of {REQUESTS}");
    assert_eq!(most.seen().len() + share, REQUESTS);
    assert_eq!(none.accepted(), 0);
    drop(client);
    sidecar.rests();
}

#[test]
fn beyond_its_rate_a_route_says_when_to_try_again_and_others_go_on() {
    let upstream = Upstream::start();
    let listener = "    protocol: http1
    routes:
      - { name: few, match: { path: { prefix: /echo/few } }, to: up, limit: { rate: 3/h } }
      - { name: rest, match: {}, to: up, limit: { rate: 1000000/s } }";
    let clusters = format!("clusters:\n{}", cluster("up", &upstream, ""));
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut clients = [sidecar.http(), sidecar.http()];
    for at in 0..3 {
        clients[at % 2].well(format!("few/{at}"));
    }
    for client in &mut clients {
        let answer = client.get("/echo/few/more");
        answer.refused(429, "limited");
        let wait: u64 = answer.head.get("retry-after").expect("it says when").parse().expect("whole seconds");
        assert!((1..=3_600).contains(&wait), "{answer:?}");
        assert!(!answer.head.closes(), "{answer:?}");
        // What is left in the connection is no request: with a body too it goes on.
        let answer = client.ask(format!("{}12345", post("/echo/few", 5, "")));
        answer.refused(429, "limited");
        if answer.head.closes() {
            client.closed();
        } else {
            client.well("others");
        }
    }
    assert_eq!(sidecar.outcomes("few", "limited"), 4);
    assert_eq!(upstream.count("/echo/few/more"), 0);
    drop(clients);
    sidecar.rests();
}

/// A route for each refusal that a conf alone can cause, and one that is well.
fn refusing(upstream: &Upstream, dir: &TempDir) -> Sidecar {
    let services = dir.path().join("services.yaml");
    fs::write(&services, "services:\n  s.Empty: []\n").expect("it can be written");
    let listener = "    protocol: http1
    routes:
      - { match: { path: { prefix: /echo } }, to: up }
      - { match: { path: /dead }, to: dead }
      - { match: { path: /empty }, to: empty }
      - { match: { path: /slow }, to: up, timeout: 200ms }
      - { match: { path: /one }, to: one }";
    let rest = format!(
        "limits: {{ body_max: 1KiB }}\nclusters:\n{}{}  dead: {{ endpoints: [\"127.0.0.1:{}\"] }}\n  empty: {{ \
         discover: {{ registry: local, service: s.Empty }} }}\nregistries:\n  local: {{ file: {{ path: {} }} }}",
        cluster("up", upstream, ""),
        cluster("one", upstream, "connections: 1, pending_max: 1"),
        free_port(),
        services.display()
    );
    Sidecar::start(&conf(listener, &rest))
}

#[test]
fn each_refusal_has_its_status_its_name_and_its_manners() {
    let (upstream, dir) = (Upstream::start(), TempDir::new());
    let mut sidecar = refusing(&upstream, &dir);
    let mut client = sidecar.http();
    for (target, status, name) in [
        ("/nowhere", 404, "no_route"),
        ("/dead", 502, "unreachable"),
        ("/empty", 503, "no_endpoint"),
        ("/slow", 504, "timed_out"),
    ] {
        let answer = client.get(target);
        answer.refused(status, name);
        assert!(!answer.head.closes() && answer.head.get("retry-after").is_none(), "{answer:?}");
        client.well(name);
        // The answer to HEAD tells all but the body.
        let answer = client.ask(get(target).replacen("GET", "HEAD", 1));
        assert_eq!((answer.status(), answer.head.get("x-outrigger-error")), (status, Some(name)));
        client.well("behind HEAD");
        // One whose request came whole is not closed; one that did not is, and says so.
        let whole = client.ask(format!("{}1234", post(target, 4, "")));
        whole.refused(status, name);
        if whole.head.closes() {
            client.closed();
            client = sidecar.http();
        }
        client.well("behind a body");
        if target != "/slow" {
            // One whose rest is still to come: what comes is that rest, or the connection is closed.
            let mut half = sidecar.http();
            half.send(format!("{}12", post(target, 4, "")));
            let answer = half.next();
            answer.refused(status, name);
            if answer.head.closes() {
                half.closed();
            } else {
                half.send("34");
                half.well("behind the rest");
            }
            // A rest that is too long to be waited for.
            let mut long = sidecar.http();
            long.send(format!("{}12", post(target, 1_000, "Expect: 100-continue\r\n")));
            let answer = long.next();
            answer.refused(status, name);
            assert!(answer.head.closes(), "{answer:?}");
            long.closed();
        }
        // HTTP/1.0 is closed behind the answer, unless it asks otherwise.
        let mut old = sidecar.http();
        old.ask(format!("GET {target} HTTP/1.0\r\n\r\n")).refused(status, name);
        old.closed();
        let mut old = sidecar.http();
        let keep = format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        for _ in 0..2 {
            let answer = old.ask(&keep);
            answer.refused(status, name);
            assert_eq!(answer.head.get("connection"), Some("keep-alive"), "{answer:?}");
        }
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn behind_a_request_that_cannot_be_carried_the_connection_is_closed() {
    let (upstream, dir) = (Upstream::start(), TempDir::new());
    let mut sidecar = refusing(&upstream, &dir);
    for (request, status, name, allow) in [
        ("TRACE /echo HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), 405, "forbidden", true),
        ("CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\n\r\n".to_owned(), 405, "forbidden", true),
        (post("/echo", 1_025, ""), 413, "too_large", false),
        (get(&format!("/echo/{}", "x".repeat(9_000))), 414, "too_large", false),
        ("GET /echo HTTP/1.1\r\nHost : t\r\n\r\n".to_owned(), 400, "malformed", false),
    ] {
        let mut client = sidecar.http();
        client.send(request);
        let answer = client.next();
        answer.refused(status, name);
        assert!(answer.head.closes(), "{answer:?}");
        assert_eq!(answer.head.get("allow").is_some(), allow, "{answer:?}");
        client.closed();
    }
    // A body that grows too long on its way.
    let mut client = sidecar.http();
    client.send("POST /echo/long HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(format!("400\r\n{}\r\n", "x".repeat(1_024)));
    client.send("1\r\nx\r\n0\r\n\r\n");
    let answer = client.next();
    answer.refused(413, "too_large");
    assert!(answer.head.closes(), "{answer:?}");
    client.closed();
    drop(client);
    assert!(within(SOON, || sidecar.http().well("still").status() == 200));
    sidecar.rests();
}

#[test]
fn more_than_may_wait_is_refused_as_overload_and_the_rest_served_in_turn() {
    let (upstream, dir) = (Upstream::start(), TempDir::new());
    let mut sidecar = refusing(&upstream, &dir);
    let clients: Vec<Client> = (0..6).map(|_| sidecar.http()).collect();
    clients[0].send(get("/one"));
    let mut held = upstream.next();
    clients.iter().skip(1).for_each(|client| client.send(get("/one")));
    assert!(within(SOON, || sidecar.outcomes("", "overloaded") >= 3), "{}", sidecar.stats());
    std::thread::sleep(SILENCE);
    let refused = sidecar.outcomes("", "overloaded");
    let (mut served, mut overloaded) = (0, 0);
    for turn in 0..6 - refused {
        held.send(ok(&format!("turn {turn}"), ""));
        held.release();
        if turn == 5 - refused {
            break;
        }
        held = upstream.next();
        assert_eq!(held.conn.number, 0, "one connection is all it may have");
    }
    for mut client in clients {
        let answer = client.next();
        if answer.status() == 200 {
            served += 1;
        } else {
            answer.refused(503, "overloaded");
            assert!(!answer.head.closes());
            overloaded += 1;
        }
        client.well("after it");
    }
    assert_eq!((served, overloaded), (6 - refused, refused));
    sidecar.rests();
}

#[test]
fn a_timeout_counts_from_the_request_being_whole_and_a_late_answer_reaches_nobody() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "timeout: 500ms", "");
    let mut client = sidecar.http();
    // Uploading takes longer than the timeout allows for the answer.
    for chunked in [false, true] {
        let more = "Transfer-Encoding: chunked\r\n";
        let head = post("/echo/slowly", 8, "");
        client.send(if chunked { head.replace("Content-Length: 8\r\n", more) } else { head });
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(250));
            client.send(if chunked { "2\r\nab\r\n" } else { "ab" });
        }
        if chunked {
            std::thread::sleep(Duration::from_millis(250));
            client.send("0\r\n\r\n");
        }
        client.next().is(" POST /echo/slowly abababab");
    }
    // Not answered in time; then too late.
    client.send(get("/late"));
    let mut late = upstream.next();
    let answer = client.next();
    answer.refused(504, "timed_out");
    assert!(!answer.head.closes(), "{answer:?}");
    let mut another = sidecar.http();
    // It may be closed already, which is as good.
    let _ = late.link().try_send(ok("the late answer", "").as_bytes());
    for at in 0..3 {
        client.well(at);
        let served = another.well(at);
        assert_ne!(served.head.get("x-conn"), Some(&*late.conn.number.to_string()), "{served:?}");
    }
    late.link().ends();
    // The answer began in time, and did not end in time.
    client.send(get("/half"));
    let mut half = upstream.next();
    half.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
    let (head, _) = client.torn();
    assert_eq!(head.status(), 200);
    half.link().ends();
    assert_eq!(sidecar.outcomes("", "timed_out"), 2, "{}", sidecar.stats());
    drop((client, another));
    sidecar.rests();
}

#[test]
fn callers_that_are_slow_or_silent_are_closed_at_their_deadlines() {
    let upstream = Upstream::start();
    let times = "    head_timeout: 600ms\n    idle_timeout: 700ms\n    keepalive_timeout: 900ms\n";
    let mut sidecar = straight(&upstream, times, "", "");
    // A head that does not end, also when its bytes keep coming.
    let mut stuck = sidecar.http();
    stuck.send("GET /echo HTTP/1.1\r\nHost: t\r\n");
    let mut drip = sidecar.http();
    let ending = AtomicBool::new(false);
    let writer = drip.link.stream().try_clone().expect("a clone");
    std::thread::scope(|scope| {
        let over = Leaving(&ending);
        scope.spawn(|| {
            use std::io::Write as _;
            let _ = (&writer).write_all(b"GET / HTTP/1.1\r\nX-A: ");
            while !ending.load(Ordering::Relaxed) && (&writer).write_all(b"a").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        for client in [&mut stuck, &mut drip] {
            let answer = client.next();
            answer.refused(408, "timed_out");
            assert!(answer.head.closes(), "{answer:?}");
            client.closed();
        }
        drop(over);
    });
    // A body that stops: its endpoint is let go too. One that only goes slowly is no fault.
    let mut client = sidecar.http();
    client.send(format!("{}12", post("/stops", 10, "")));
    let mut held = upstream.next();
    let answer = client.next();
    answer.refused(408, "timed_out");
    assert!(answer.head.closes(), "{answer:?}");
    client.closed();
    held.torn();
    let mut slow = sidecar.http();
    slow.send(post("/echo/slowly", 8, ""));
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(250));
        slow.send("x");
    }
    slow.next().is(" POST /echo/slowly xxxxxxxx");
    // Then, and from the first, silence: closed without a word.
    assert_eq!(slow.link.ends(), End::Clean);
    assert_eq!(sidecar.http().link.ends(), End::Clean);
    // An answer that takes its time is none of these.
    let mut waits = sidecar.http();
    waits.send(get("/takes/its/time"));
    let held = upstream.next();
    waits.link.silent(Duration::from_millis(400));
    held.answer("here");
    waits.next().is("here");
    drop((client, stuck, drip, slow, waits));
    sidecar.rests();
}

#[test]
fn pipelined_requests_are_answered_in_order_and_reach_the_endpoint_one_at_a_time() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = sidecar.http();
    let requests = [
        get("/first"),
        get("/echo/second"),
        format!("{}body", post("/echo/third", 4, "")),
        "HEAD /echo/fourth HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(),
        "POST /echo/fifth HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
            .to_owned(),
        get("/sixth").replace("Host", "Connection: close\r\nHost"),
        get("/echo/behind/the/end"),
    ];
    client.send(requests.concat());
    let first = upstream.next();
    client.link.silent(SILENCE);
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
    first.answer("first");
    client.next().is("first");
    client.next().is(" GET /echo/second ");
    client.next().is(" POST /echo/third body");
    assert_eq!(client.answer_to("HEAD").expect("a whole answer").status(), 200);
    client.next().is(" POST /echo/fifth a");
    upstream.next().answer("sixth");
    let last = client.next();
    last.is("sixth");
    assert!(last.head.closes(), "{last:?}");
    client.closed();
    assert_eq!(upstream.count("/echo/behind/the/end"), 0);
    // One that says at once that no more will come is answered all the same.
    let mut says_all = sidecar.http();
    says_all.send([get("/echo/1"), get("/slow"), get("/echo/3")].concat());
    says_all.link.fin();
    let slow = upstream.next();
    std::thread::sleep(SILENCE);
    slow.answer("slow");
    says_all.next().is(" GET /echo/1 ");
    says_all.next().is("slow");
    says_all.next().is(" GET /echo/3 ");
    says_all.closed();
    // A caller that leaves takes what it did not get an answer to with it.
    let gone = sidecar.http();
    gone.send([get("/gone"), get("/echo/never")].concat());
    let mut held = upstream.next();
    gone.link.reset();
    held.link().ends();
    drop(held);
    sidecar.http().well("after it");
    assert_eq!(upstream.count("/echo/never"), 0);
    drop(client);
    sidecar.rests();
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways_from_the_101_on_and_not_before() {
    const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "timeout: 1s", "");
    let mut client = sidecar.http();
    let smuggled = get("/echo/smuggled");
    client.send(format!("{UPGRADE}{smuggled}"));
    let mut held = upstream.next();
    let own = (held.head.get("connection"), held.head.get("upgrade"), held.head.get("sec-websocket-key"));
    assert!(own.0.is_some_and(|word| word.eq_ignore_ascii_case("upgrade")), "{:?}", held.head);
    assert_eq!((own.1, own.2), (Some("websocket"), Some("k")));
    held.link().silent(SILENCE);
    held.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello");
    let answer = client.link.head().expect("a head").expect("a head");
    assert_eq!((answer.status(), answer.get("upgrade")), (101, Some("websocket")), "{answer:?}");
    let mut came = [0; 5];
    let read = |link: &mut support::http1::Link, into: &mut [u8]| {
        use std::io::Read as _;
        link.reader().read_exact(into).expect("bytes come");
    };
    read(&mut client.link, &mut came);
    assert_eq!(&came, b"hello");
    let mut behind = vec![0; smuggled.len()];
    read(held.link(), &mut behind);
    assert_eq!(behind, smuggled.as_bytes());
    // Longer than its route's timeout, and more than fits into any buffer.
    std::thread::sleep(Duration::from_millis(1_200));
    let many: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let (one, two) = (client.link.stream().try_clone(), held.link().stream().try_clone());
    let (one, two) = (one.expect("a clone"), two.expect("a clone"));
    std::thread::scope(|scope| {
        use std::io::Write as _;
        scope.spawn(|| (&one).write_all(&many).expect("it is carried"));
        scope.spawn(|| (&two).write_all(&many).expect("it is carried"));
        let mut back = vec![0; many.len()];
        let forth = scope.spawn(|| {
            let mut forth = vec![0; many.len()];
            read(held.link(), &mut forth);
            forth
        });
        read(&mut client.link, &mut back);
        assert!(back == many && forth.join().expect("it is read") == many);
    });
    drop((one, two));
    // Its end passes too.
    client.link.fin();
    assert_eq!(held.link().ends(), End::Clean);
    drop(held);
    client.closed();
    assert_eq!(upstream.count("/echo/smuggled"), 0);

    // An endpoint that does not want to: an answer as any other, and the request behind it is one.
    let mut client = sidecar.http();
    client.send(format!("{UPGRADE}{}", get("/echo/next")));
    upstream.next().answer("no");
    client.next().is("no");
    client.next().is(" GET /echo/next ");
    // One that nobody allowed is served as if it had not asked.
    client.send(UPGRADE.replace("Upgrade: websocket", "HTTP2-Settings: AAMAAABk\r\nUpgrade: h2c"));
    let held = upstream.next();
    for name in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(held.head.get(name), None, "{:?}", held.head);
    }
    held.answer("plain");
    client.next().is("plain");
    drop(client);
    sidecar.rests();
}

#[test]
fn metrics_count_requests_by_route_and_no_byte_of_a_caller_becomes_a_label() {
    const REQUESTS: usize = 150;
    let upstream = Upstream::named("any");
    let listener = "    protocol: http1
    routes:
      - { name: letters, match: { path: { prefix: /l/ } }, to: up }
      - { name: numbers, match: { path: { prefix: /n/ } }, to: up }";
    let clusters = format!("clusters:\n{}", cluster("up", &upstream, ""));
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let series = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    let mut client = sidecar.http();
    client.get("/l/");
    client.get("/n/");
    client.get("/");
    let before = series(&sidecar.admin_get("/metrics").1);
    let mut answered = [1, 1, 1];
    for at in 0..REQUESTS {
        let kind = at % 3;
        let target = format!("{}marker{at}", ["/l/", "/n/", "/x/"][kind]);
        let method = format!("MARKER{at}");
        let extra = format!("X-Marker{at}: marker{at}\r\n");
        client.ask(format!("{method} {target} HTTP/1.1\r\nHost: marker{at}.example\r\n{extra}\r\n"));
        answered[kind] += 1;
    }
    let (status, page) = sidecar.admin_get("/metrics");
    assert_eq!(status, 200);
    assert!(!page.to_ascii_lowercase().contains("marker"), "{page}");
    // A histogram may gain a bucket line or two; requests must not each gain one.
    assert!(series(&page) < before + 20, "{} series of {before}", series(&page));
    let counted = |labels: &[&str]| sidecar.metric("outrigger_requests_total", labels);
    for (route, due) in [("letters", answered[0]), ("numbers", answered[1])] {
        let label = format!("route=\"{route}\"");
        assert_eq!(counted(&[&label, "listener=\"main\"", "outcome=\"ok\""]), due, "{page}");
        let timed = sidecar.metric("outrigger_request_duration_seconds_count", &[&label]);
        assert_eq!(timed, due, "{page}");
    }
    assert_eq!(counted(&["outcome=\"no_route\""]), answered[2], "{page}");
    assert_eq!(sidecar.metric("outrigger_downstream_connections", &["protocol=\"http1\""]), 1);
    assert_eq!(sidecar.metric("outrigger_upstream_connections", &["cluster=\"up\""]), 1);
    drop(client);
    sidecar.rests();
}

#[test]
fn reloads_under_keep_alive_traffic_lose_nothing_and_close_nothing() {
    const CALLERS: usize = 4;
    const RELOADS: usize = 15;
    let endpoints = [Upstream::start(), Upstream::start(), Upstream::start()];
    let listener =
        "    protocol: http1\n    routes: [{ match: { path: { prefix: /echo } }, to: up, timeout: 30s }]";
    let clusters = format!("clusters:\n{}", cluster("up", &endpoints[0], ""));
    let text = conf(listener, &clusters).replace("workers: 1", "workers: 2");
    let mut sidecar = Sidecar::start(&text);
    let (ending, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let over = Leaving(&ending);
        for caller in 0..CALLERS {
            let mut client = sidecar.http();
            let (ending, calls) = (&ending, &calls);
            scope.spawn(move || {
                let mut at = 0;
                while !ending.load(Ordering::Relaxed) {
                    // One connection from first to last; some requests wait behind others, some have bodies.
                    let target = format!("/echo/{caller}/{at}");
                    client.send([get(&target), format!("{}body", post(&target, 4, ""))].concat());
                    let answers = [client.next(), client.next()];
                    answers[0].is(&format!(" GET {target} "));
                    answers[1].is(&format!(" POST {target} body"));
                    assert!(answers.iter().all(|answer| !answer.head.closes()), "{answers:?}");
                    at += 1;
                    calls.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        for turn in 0..RELOADS {
            // Other endpoints, another route, a broken file now and then.
            let mut next = text.replace(&endpoints[0].address(), &endpoints[turn % 3].address());
            if turn % 2 == 1 {
                next = next.replace("routes: [", "routes: [{ match: { path: /x }, to: up, name: n }, ");
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
        drop(over);
    });
    let arrived: usize = endpoints.iter().map(|endpoint| endpoint.seen().len()).sum();
    assert_eq!(arrived as u64, calls.load(Ordering::Relaxed), "each call arrived once");
    assert!(endpoints.iter().all(|endpoint| !endpoint.seen().is_empty()));
    // What left the conf has no connection any more: the last conf that was well names the second endpoint.
    assert!(within(SOON, || endpoints[0].open() == 0 && endpoints[2].open() == 0), "{}", sidecar.stats());
    sidecar.rests();
}

#[test]
fn a_reload_reaches_the_next_request_of_an_open_connection() {
    let (old, new) = (Upstream::start(), Upstream::start());
    let mut sidecar = straight(&old, "", "", "");
    let mut client = sidecar.http();
    client.well(1);
    client.send(get("/in/flight"));
    let held = old.next();
    let text = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    let text = text.replace(&old.address(), &new.address());
    let strict = text.replace("protocol: http1\n", "protocol: http1\n    http: { underscores: reject }\n");
    fs::write(sidecar.conf_path(), strict).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    held.answer("of the old endpoint");
    client.next().is("of the old endpoint");
    client.well(2);
    assert_eq!((old.seen().len(), new.seen().len()), (2, 1));
    assert!(within(SOON, || old.open() == 0), "what left the conf is closed when it is idle");
    client.send("GET /echo HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n\r\n");
    client.next().refused(400, "malformed");
    drop(client);
    sidecar.rests();
}

#[test]
fn term_lets_requests_finish_says_so_and_ends_well() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let (mut idle, mut mute, mut half) = (sidecar.http(), sidecar.http(), sidecar.http());
    idle.well(1);
    // In flight; in flight with another behind it; still uploading; an answer half-way.
    let mut waiting = sidecar.http();
    waiting.send(get("/waiting"));
    let held = upstream.next();
    let mut piped = sidecar.http();
    piped.send([get("/piped"), get("/echo/behind")].concat());
    let held_piped = upstream.next();
    let mut uploading = sidecar.http();
    uploading.send(format!("{}12", post("/echo/upload", 4, "")));
    assert!(within(SOON, || upstream.count("/echo/upload") == 1));
    let mut reading = sidecar.http();
    reading.send(get("/reading"));
    let mut answering = upstream.next();
    answering.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12");
    half.send("GET /echo/half HTTP/1.1\r\nHo");
    assert!(within(SOON, || sidecar.metric("outrigger_downstream_connections", &[]) == 7));
    sidecar.term();
    assert_eq!(idle.link.ends_within(SOON), End::Clean);
    assert_eq!(mute.link.ends_within(SOON), End::Clean);
    let port = sidecar.port("main");
    assert!(within(SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()), "no new connections");
    waiting.link.silent(SILENCE);
    held.answer("waited");
    held_piped.answer("first");
    uploading.send("34");
    answering.send("34");
    answering.release();
    for (client, text) in [
        (&mut waiting, "waited"),
        (&mut piped, "first"),
        (&mut uploading, " POST /echo/upload 1234"),
        (&mut reading, "1234"),
    ] {
        let answer = client.next();
        answer.is(text);
        // Its head may have gone out before the word came.
        assert!(answer.head.closes() || text == "1234", "{answer:?}");
        client.closed();
    }
    assert_eq!(upstream.count("/echo/behind"), 0, "what waited behind is not begun any more");
    // A head that had begun: served to its end, or closed; never half.
    let _ = half.link.try_send(b"st: t\r\n\r\n");
    if let Ok(answer) = half.answer_to("GET") {
        answer.is(" GET /echo/half ");
        assert!(answer.head.closes());
    }
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn term_ends_in_time_also_when_an_answer_never_comes() {
    let upstream = Upstream::start();
    let clusters = format!("drain_timeout: 700ms\nclusters:\n{}", cluster("up", &upstream, ""));
    let mut sidecar =
        Sidecar::start(&conf("    protocol: http1\n    routes: [{ match: {}, to: up }]", &clusters));
    let mut client = sidecar.http();
    client.send(get("/never"));
    let mut torn = sidecar.http();
    let _never = upstream.next();
    // A tunnel too is given that time and no more.
    let mut tunnel = sidecar.http();
    tunnel.send("GET /tunnel HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut other_end = upstream.next();
    other_end.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.link.head().expect("a head").expect("a head").status(), 101);
    torn.send(get("/half"));
    let mut held = upstream.next();
    held.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    sidecar.term();
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
    // Either it is told, or the connection ends without an answer.
    if let Ok(answer) = client.answer_to("GET") {
        assert!(answer.status() >= 500 && answer.head.closes(), "{answer:?}");
    }
    assert_eq!(torn.torn().0.status(), 200);
    tunnel.closed();
    other_end.link().ends();
}

#[test]
fn a_listener_that_a_reload_takes_away_finishes_its_requests_and_says_goodbye() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let text = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    let port = free_port();
    let more = format!(
        "listeners:\n  more: {{ bind: \"127.0.0.1:{port}\", protocol: http1, routes: [{{ match: {{}}, to: up }}] }}\n"
    );
    fs::write(sidecar.conf_path(), text.replace("listeners:\n", &more)).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    let (mut busy, mut idle, mut stays) = (Client::connect(port), Client::connect(port), sidecar.http());
    idle.well("idle");
    stays.well("stays");
    busy.send([get("/busy"), get("/echo/behind")].concat());
    let held = upstream.next();
    fs::write(sidecar.conf_path(), &text).expect("it can be written");
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    assert!(within(SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()), "{}", sidecar.log());
    idle.closed();
    held.answer("finished");
    let answer = busy.next();
    answer.is("finished");
    assert!(answer.head.closes(), "{answer:?}");
    busy.closed();
    stays.well("as ever");
    drop(stays);
    sidecar.rests();
}

#[test]
fn one_port_serves_bolt_dubbo_and_http_side_by_side() {
    let (frames, web) = (support::echo::Upstream::start(), Upstream::start());
    let rest = format!(
        "clusters:\n  frames: {{ endpoints: [\"{}\"] }}\n{}",
        frames.address(),
        cluster("web", &web, "")
    );
    for protocol in ["auto", "[bolt, dubbo, http1]", "[http1, bolt, dubbo]"] {
        let listener = format!(
            "    protocol: {protocol}\n    routes:\n      - {{ match: {{ service: t.Echo }}, to: frames }}\n      \
             - {{ match: {{ path: {{ prefix: / }} }}, to: web }}"
        );
        let mut sidecar = Sidecar::start(&conf(&listener, &rest));
        let wires = [Wire::V1, Wire::Crc, Wire::Dubbo];
        let mut rpc = wires.map(|wire| (wire, sidecar.client()));
        let mut client = sidecar.http();
        // Its first bytes one by one: that it is HTTP must not be guessed too early, nor bytes lost.
        for byte in get("/echo/dripped").bytes() {
            client.send([byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
        client.next().is(" GET /echo/dripped ");
        for id in 0..20 {
            for (wire, caller) in &mut rpc {
                caller.send(&wire.call(id).bytes());
            }
            client.well(id);
            for (wire, caller) in &mut rpc {
                caller.expect(&wire.answer(id, ECHO));
            }
        }
        for request in [
            "OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(),
            get("/nothing").replacen("GET", "M-SEARCH", 1),
            "\r\nPOST /echo/x HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ] {
            let mut other = sidecar.http();
            other.send(&request);
            if request.starts_with("M-SEARCH") {
                upstream_answers(&web, "found");
            }
            let answer = other.next();
            assert!(matches!(answer.status(), 200 | 404), "{request}: {answer:?}");
        }
        // No route is for both: a call of the wrong kind is refused in its own words.
        let (_, dubbo) = &mut rpc[2];
        let answer = dubbo.ask(&Wire::Dubbo.call(99).service("no.Such"));
        assert_eq!(answer.status(), 60);
        assert_eq!(sidecar.detected("http1"), 4, "{}", sidecar.stats());
        drop((rpc, client));
        sidecar.rests();
    }
}

fn upstream_answers(upstream: &Upstream, text: &str) {
    upstream.next().answer(text);
}
