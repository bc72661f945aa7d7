//! Limits, deadlines, reloads and the end of the sidecar where versions are translated.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use super::support::echo::conf;
use super::support::http1::{self, End, Leaving, get, ok, post};
use super::support::http2::{self, Fields, data, grpc, status};
use super::support::http2_upstream::Upstream;
use super::support::{Sidecar, TempDir, free_port, within};
use super::{SILENCE, SOON, chunked, to_new, to_old};

/// A route for each refusal, and one that is well. All clusters speak `protocol`.
fn refusing(callers: &str, protocol: &str, address: &str, dir: &TempDir) -> Sidecar {
    let services = dir.path().join("services.yaml");
    fs::write(&services, "services:\n  s.Empty: []\n").expect("it can be written");
    let listener = format!(
        "    protocol: {callers}
    routes:
      - {{ match: {{ path: /echo/few }}, to: up, limit: {{ rate: 1/h }} }}
      - {{ match: {{ path: {{ prefix: /echo }} }}, to: up }}
      - {{ match: {{ path: /dead }}, to: dead }}
      - {{ match: {{ path: /empty }}, to: empty }}
      - {{ match: {{ path: /slow }}, to: up, timeout: 200ms }}"
    );
    let rest = format!(
        "limits: {{ body_max: 1KiB }}\nclusters:\n  up: {{ endpoints: [\"{address}\"], protocol: {protocol} }}\n  \
         dead: {{ endpoints: [\"127.0.0.1:{}\"], protocol: {protocol} }}\n  empty: {{ discover: {{ registry: local, \
         service: s.Empty }}, protocol: {protocol} }}\nregistries:\n  local: {{ file: {{ path: {} }} }}",
        free_port(),
        services.display()
    );
    Sidecar::start(&conf(&listener, &rest))
}

#[test]
fn callers_of_http1_are_refused_as_ever() {
    let (upstream, dir) = (Upstream::start(), TempDir::new());
    let mut sidecar = refusing("http1", "http2", &upstream.address(), &dir);
    let mut client = sidecar.http();
    client.well("few");
    for (target, status, name) in [
        ("/nowhere", 404, "no_route"),
        ("/dead", 502, "unreachable"),
        ("/empty", 503, "no_endpoint"),
        ("/slow", 504, "timed_out"),
        ("/echo/few", 429, "limited"),
    ] {
        let answer = client.get(target);
        answer.refused(status, name);
        assert_eq!((answer.head.closes(), answer.head.get("retry-after").is_some()), (false, status == 429));
        client.well(name);
        let answer = client.ask(get(target).replacen("GET", "HEAD", 1));
        assert_eq!((answer.status(), answer.head.get("x-outrigger-error")), (status, Some(name)));
        client.well("behind HEAD");
        let whole = client.ask(format!("{}1234", post(target, 4, "")));
        whole.refused(status, name);
        if whole.head.closes() {
            client.closed();
            client = sidecar.http();
        }
        client.well("behind a body");
        if target != "/slow" {
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
            let mut long = sidecar.http();
            long.send(post(target, 1_000, "Expect: 100-continue\r\n"));
            let answer = long.next();
            answer.refused(status, name);
            assert!(answer.head.closes(), "{answer:?}");
            long.closed();
        }
        let mut old = sidecar.http();
        old.ask(format!("GET {target} HTTP/1.0\r\n\r\n")).refused(status, name);
        old.closed();
        let mut old = sidecar.http();
        for _ in 0..2 {
            let answer = old.ask(format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
            answer.refused(status, name);
            assert_eq!(answer.head.get("connection"), Some("keep-alive"), "{answer:?}");
        }
    }
    let lines = (0..101).map(|at| format!("X-{at}: 1\r\n")).collect::<Vec<_>>().concat();
    for (request, status, name) in [
        (post("/echo", 1_025, ""), 413, "too_large"),
        (get(&format!("/echo/{}", "x".repeat(9_000))), 414, "too_large"),
        (get("/echo").replace("Host", &format!("{lines}Host")), 431, "too_large"),
        (get("/echo").replace("Host", &format!("X-A: {}\r\nHost", "x".repeat(70_000))), 431, "too_large"),
        ("GET /echo HTTP/1.1\r\nHost : t\r\n\r\n".to_owned(), 400, "malformed"),
        (chunked("/echo", "Content-Length: 4\r\n"), 400, "malformed"),
        ("GET /echo HTTP/1.1\r\n\r\n".to_owned(), 400, "malformed"),
        (
            format!("{}400\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", chunked("/echo", ""), "x".repeat(1_024)),
            413,
            "too_large",
        ),
    ] {
        let mut client = sidecar.http();
        client.send(&request);
        let answer = client.next();
        answer.refused(status, name);
        assert!(answer.head.closes(), "{answer:?}");
        client.closed();
    }
    assert!(!upstream.seen().iter().any(|(_, line)| line.ends_with("/echo/") || line.contains("xxx")));
    drop(client);
    sidecar.rests();
}

#[test]
fn callers_of_http2_are_refused_before_endpoints_of_http1() {
    let (upstream, dir) = (http1::Upstream::start(), TempDir::new());
    let mut sidecar = refusing("http2", "http1", &upstream.address(), &dir);
    let mut client = sidecar.http2();
    client.well("few");
    for (path, status, code, name) in [
        ("/nowhere", 404, 12, "no_route"),
        ("/dead", 502, 14, "unreachable"),
        ("/empty", 503, 14, "no_endpoint"),
        ("/slow", 504, 4, "timed_out"),
        ("/echo/few", 429, 8, "limited"),
    ] {
        let answer = client.ask(&http2::get(path));
        answer.refused(status, name);
        assert_eq!(answer.head.get("retry-after").is_some(), status == 429);
        client.ask_with(&http2::post(path), "body").refused(status, name);
        client.ask(&grpc(path)).refused_grpc(code, name);
        client.well(name);
    }
    client.ask_with(&http2::post("/echo"), vec![b'x'; 1_025]).refused(413, "too_large");
    client.ask(&http2::get(&format!("/echo/{}", "x".repeat(9_000)))).refused(414, "too_large");
    let many = (0..120).fold(http2::get("/echo"), |fields: Fields, at| fields.with(&format!("x-{at}"), "1"));
    client.ask(&many).refused(431, "too_large");
    client.well("behind");
    drop(client);
    sidecar.rests();
}

#[test]
fn a_timeout_counts_from_the_request_being_whole_and_a_late_answer_reaches_nobody() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "timeout: 1s");
    let mut client = sidecar.http();
    for begin in [post("/echo/slowly", 4, ""), chunked("/echo/slowly", "")] {
        let coded = begin.contains("chunked");
        client.send(begin);
        for _ in 0..4 {
            std::thread::sleep(std::time::Duration::from_millis(400));
            client.send(if coded { "1\r\na\r\n" } else { "a" });
        }
        if coded {
            client.send("0\r\n\r\n");
        }
        client.next().is(" POST /echo/slowly aaaa");
    }
    client.send(get("/late"));
    let late = upstream.next();
    client.next().refused(504, "timed_out");
    late.answer("the late answer");
    client.well("behind");
    client.send(get("/half"));
    let half = upstream.next();
    half.begin(&status(200).with("content-length", "10"));
    half.say("12345");
    assert_eq!(client.torn().0.status(), 200);
    half.taken_back();
    drop(client);
    sidecar.rests();
    // The other way round.
    let upstream = http1::Upstream::start();
    let mut sidecar = to_old(&upstream, "", "timeout: 1s");
    let mut client = sidecar.http2();
    let call = client.call(&http2::get("/late"));
    let mut late = upstream.next();
    client.answer(call).refused(504, "timed_out");
    let _ = late.link().try_send(ok("the late answer", "").as_bytes());
    client.well("behind");
    late.link().ends();
    let call = client.call(&http2::get("/half"));
    let mut half = upstream.next();
    half.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
    let torn = client.answer(call);
    assert!(!torn.whole && torn.reset.is_some(), "{torn:?}");
    half.link().ends();
    // A caller's own time holds for an endpoint that has never heard of it.
    let call = client.call(&grpc("/t.S/late").with("grpc-timeout", "100m"));
    let mut late = upstream.next();
    assert!(late.head.get("grpc-timeout").is_some(), "{:?}", late.head);
    client.answer(call).refused_grpc(4, "timed_out");
    late.link().ends();
    drop(client);
    sidecar.rests();
}

#[test]
fn callers_of_http1_that_are_slow_or_silent_are_closed_at_their_deadlines() {
    let upstream = Upstream::start();
    let times = "    head_timeout: 600ms\n    idle_timeout: 700ms\n    keepalive_timeout: 900ms\n";
    let mut sidecar = to_new(&upstream, times, "");
    // A head that does not end, also when its bytes keep coming.
    let (mut stuck, mut drip) = (sidecar.http(), sidecar.http());
    stuck.send("GET /echo HTTP/1.1\r\nHost: t\r\n");
    let ending = AtomicBool::new(false);
    let writer = drip.link.stream().try_clone().expect("a clone");
    std::thread::scope(|scope| {
        let over = Leaving(&ending);
        scope.spawn(|| {
            use std::io::Write as _;
            let _ = (&writer).write_all(b"GET / HTTP/1.1\r\nX-A: ");
            while !ending.load(Ordering::Relaxed) && (&writer).write_all(b"a").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(50));
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
    // A body that stops, whatever its framing.
    for begun in [format!("{}12", post("/stops", 10, "")), format!("{}2\r\n12\r\n", chunked("/stops", ""))] {
        let mut client = sidecar.http();
        client.send(begun);
        let held = upstream.next();
        let answer = client.next();
        answer.refused(408, "timed_out");
        assert!(answer.head.closes(), "{answer:?}");
        client.closed();
        held.taken_back();
    }
    let mut slow = sidecar.http();
    slow.send(post("/echo/slowly", 8, ""));
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(250));
        slow.send("x");
    }
    slow.next().is(" POST /echo/slowly xxxxxxxx");
    assert_eq!(slow.link.ends(), End::Clean);
    assert_eq!(sidecar.http().link.ends(), End::Clean);
    // An answer that takes its time is none of these.
    let mut waits = sidecar.http();
    waits.send(get("/takes/its/time"));
    let held = upstream.next();
    waits.link.silent(std::time::Duration::from_millis(1_500));
    held.answer("here");
    waits.next().is("here");
    // Nor is one who waits until he may go on: his endpoint is slow.
    let mut asks = sidecar.http();
    asks.send(post("/expect", 4, "Expect: 100-continue\r\n"));
    let held = upstream.next();
    let answer = asks.next();
    answer.refused(504, "timed_out");
    held.taken_back();
    drop((stuck, drip, slow, waits, asks));
    sidecar.rests();
}

#[test]
fn term_lets_requests_finish_says_so_and_ends_well() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let (mut idle, mut mute, mut half) = (sidecar.http(), sidecar.http(), sidecar.http());
    idle.well(1);
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
    let answering = upstream.next();
    answering.begin(&status(200).with("content-length", "4"));
    answering.say("12");
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
    answering.end("34");
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
    let _ = half.link.try_send(b"st: t\r\n\r\n");
    if let Ok(answer) = half.answer_to("GET") {
        answer.is(" GET /echo/half ");
        assert!(answer.head.closes());
    }
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
    assert_eq!(held.conn.ends(), End::Clean);
}

#[test]
fn term_says_goodbye_to_http2_callers_of_http1_endpoints() {
    let upstream = http1::Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let (mut idle, mut busy) = (sidecar.http2(), sidecar.http2());
    idle.well("idle");
    let waiting = busy.call(&http2::get("/waiting"));
    let held = upstream.next();
    let uploading = busy.open(&http2::post("/echo/upload"), false);
    busy.send(&[data(uploading, "12", false)]);
    sidecar.term();
    assert_eq!(idle.ends().end, Some(End::Clean));
    busy.until("the last goodbye", |client| client.goodbyes.len() == 2);
    held.answer("waited");
    busy.send(&[data(uploading, "34", true)]);
    busy.answer(waiting).is("waited");
    busy.answer(uploading).is(" POST /echo/upload 1234");
    assert_eq!(busy.ends().end, Some(End::Clean));
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
}

#[test]
fn term_ends_in_time_also_when_an_answer_never_comes() {
    let upstream = Upstream::start();
    let listener = "    protocol: http1\n    routes: [{ match: {}, to: up }]";
    let rest = format!(
        "drain_timeout: 700ms\nclusters:\n  up: {{ endpoints: [\"{}\"], protocol: http2 }}",
        upstream.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    let (mut client, mut torn) = (sidecar.http(), sidecar.http());
    client.send(get("/never"));
    let _never = upstream.next();
    torn.send(get("/half"));
    let held = upstream.next();
    held.begin(&status(200));
    held.say("abc");
    sidecar.term();
    assert_eq!(sidecar.wait(SOON).code(), Some(0));
    if let Ok(answer) = client.answer_to("GET") {
        assert!(answer.status() >= 500 && answer.head.closes(), "{answer:?}");
    }
    assert_eq!(torn.torn().0.status(), 200);
}

/// Gives the conf another protocol and address of its cluster.
fn turn(sidecar: &Sidecar, text: &str, from: (&str, &str), to: (&str, &str)) -> String {
    let next = text
        .replace(&format!("protocol: {} }}", from.0), &format!("protocol: {} }}", to.0))
        .replace(from.1, to.1);
    assert_ne!(next, text);
    fs::write(sidecar.conf_path(), &next).expect("it can be written");
    let (status, said) = sidecar.admin_post("/reload");
    assert_eq!(status, 200, "{said}");
    next
}

#[test]
fn a_reload_that_changes_a_clusters_version_reaches_open_connections() {
    let (old, new) = (http1::Upstream::start(), Upstream::start());
    let (from, to) = (("http1", &*old.address()), ("http2", &*new.address()));
    let listener = "    protocol: http1\n    routes: [{ match: {}, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"], protocol: http1 }}", old.address());
    let text = conf(listener, &clusters);
    let mut sidecar = Sidecar::start(&text);
    let (mut idle, mut busy) = (sidecar.http(), sidecar.http());
    idle.well("before");
    busy.send(get("/flying"));
    let held = old.next();
    let text = turn(&sidecar, &text, from, to);
    // What was begun is finished where it is; what comes next is carried, or told and the connection closed.
    held.answer("finished");
    let finished = busy.next();
    finished.is("finished");
    if finished.head.closes() {
        busy.closed();
        busy = sidecar.http();
    }
    for client in [&mut idle, &mut busy] {
        client.send(get("/echo/after"));
        let answer = client.next();
        if answer.status() == 200 {
            answer.is(" GET /echo/after ");
        } else {
            answer.refused(503, "no_endpoint");
            assert!(answer.head.closes(), "{answer:?}");
            client.closed();
            *client = sidecar.http();
        }
        client.well("a new connection");
    }
    assert!(new.accepted() >= 1 && old.count("/echo/after") == 0);
    // And back again, under connections that are translated.
    busy.send(get("/flying"));
    let held = new.next();
    turn(&sidecar, &text, to, from);
    held.answer("finished");
    busy.next().is("finished");
    for client in [&mut idle, &mut busy] {
        client.well("as before");
        client.ask(format!("{}body", post("/echo/p", 4, ""))).is(" POST /echo/p body");
        client.ask(format!("{}4\r\nbody\r\n0\r\n\r\n", chunked("/echo/p", ""))).is(" POST /echo/p body");
    }
    sidecar.http().well("as before");
    assert_eq!(held.conn.ends(), End::Clean, "what left the conf is closed when it is idle");
    drop((idle, busy, held));
    sidecar.rests();
}

#[test]
fn reloads_between_versions_under_keep_alive_traffic_lose_nothing_of_http2_callers() {
    let (old, new) = (http1::Upstream::start(), Upstream::start());
    let (from, to) = (("http1", &*old.address()), ("http2", &*new.address()));
    let mut sidecar = to_old(&old, "", "");
    let mut text = fs::read_to_string(sidecar.conf_path()).expect("it was written");
    text = text.replace("protocol: http1}", "protocol: http1 }");
    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = Leaving(&ending);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (mut client, ending) = (sidecar.http2(), &ending);
                scope.spawn(move || {
                    let mut calls = 0;
                    while !ending.load(Ordering::Relaxed) {
                        client.well(calls);
                        client.ask_with(&http2::post("/echo/p"), "body").is(" POST /echo/p body");
                        client.answers.clear();
                        calls += 1;
                    }
                    assert!(client.goodbyes.is_empty());
                    calls
                })
            })
            .collect();
        for at in 0..8 {
            let (from, to) = if at % 2 == 0 { (from, to) } else { (to, from) };
            text = turn(&sidecar, &text, from, to);
            let before = old.seen().len() + new.seen().len();
            assert!(within(SOON, || old.seen().len() + new.seen().len() > before + 20), "calls go on");
        }
        drop(over);
        assert!(callers.into_iter().all(|caller| caller.join().expect("no call failed") > 0));
    });
    assert!(!old.seen().is_empty() && !new.seen().is_empty());
    sidecar.rests();
}

#[test]
fn routes_of_one_listener_lead_to_endpoints_of_both_versions() {
    let (old, new) = (http1::Upstream::named("old"), Upstream::named("new"));
    let clusters = format!(
        "clusters:\n  old: {{ endpoints: [\"{}\"], protocol: http1 }}\n  new: {{ endpoints: [\"{}\"], protocol: http2 \
         }}\n  same: {{ endpoints: [\"{}\"] }}",
        old.address(),
        new.address(),
        old.address()
    );
    let routes = "    routes:\n      - { match: { path: { prefix: /old } }, to: old }\n      - { match: { path: { prefix: \
                  /same } }, to: same }\n      - { match: {}, to: new }";
    let mut sidecar = Sidecar::start(&conf(&format!("    protocol: [http1, http2]\n{routes}"), &clusters));
    let (mut first, mut second) = (sidecar.http(), sidecar.http2());
    for _ in 0..5 {
        assert_eq!(first.get("/old").text(), "old GET /old ");
        assert_eq!(first.get("/new").text(), "new GET /new ");
        assert_eq!(first.get("/same").text(), "old GET /same ");
        assert_eq!(second.ask(&http2::get("/old")).text(), "old GET /old ");
        assert_eq!(second.ask(&http2::get("/new")).text(), "new GET /new ");
    }
    // In one write, to one endpoint and the other.
    first.send([get("/old/1"), get("/new/2"), get("/old/3"), get("/new/4")].concat());
    for due in ["old GET /old/1 ", "new GET /new/2 ", "old GET /old/3 ", "new GET /new/4 "] {
        first.next().is(due);
    }
    drop((first, second));
    sidecar.rests();
}
