//! Endpoints that die, answer early, too much or never, behind an HTTP/1 listener, over real sockets.
//!
//! Whatever an endpoint does, a request gets its own answer, or a reason, or a connection that visibly breaks off;
//! nothing is sent twice unless the route allows it; and no byte of one exchange ever reaches another. Times are only
//! ever bounded generously.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use support::echo::conf;
use support::http1::{Client, End, Held, Leaving, Upstream, get, ok, post, straight};
use support::raw::ANSWER_MAX;
use support::{Sidecar, TempDir, free_port, within};

const SOON: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(150);

/// How an endpoint ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Fin,
    Reset,
}

const BOTH: [How; 2] = [How::Fin, How::Reset];

impl How {
    fn ends(self, held: Held) {
        match self {
            Self::Fin => held.fin(),
            Self::Reset => held.reset(),
        }
    }
}

/// Everything to the cluster `up`, made of these addresses.
fn all_to(addresses: &[String], route: &str, cluster: &str) -> String {
    let listed: Vec<_> = addresses.iter().map(|address| format!("{address:?}")).collect();
    let listener = format!("    protocol: http1\n    routes: [{{ match: {{}}, to: up, {route} }}]");
    conf(&listener, &format!("clusters:\n  up: {{ endpoints: [{}], {cluster} }}", listed.join(", ")))
}

#[test]
fn an_endpoint_lost_before_its_answer_is_told_and_the_caller_goes_on() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = sidecar.http();
    let begun = [
        "",
        "H",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r",
    ];
    let mut made = 0;
    for how in BOTH {
        for part in begun {
            for head in [get("/dies"), format!("{}body", post("/dies", 4, ""))] {
                client.send(&head);
                let mut held = upstream.next();
                held.body().expect("the request is whole");
                held.send(part);
                client.link.silent(Duration::from_millis(20));
                how.ends(held);
                let answer = client.next();
                answer.refused(502, "unreachable");
                assert!(!answer.head.closes(), "{how:?} {part:?}: {answer:?}");
                made += 1;
                // Sent once only; and the connection still carries the next.
                assert_eq!(upstream.count("/dies"), made, "{how:?} {part:?}");
                client.well(made);
            }
        }
    }
    assert_eq!(sidecar.outcomes("", "unreachable"), made as u64);
    drop(client);
    sidecar.rests();
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_caller_too() {
    // What came of the answer; whether a FIN behind it makes it whole.
    let parts = [
        ("Content-Length: 10\r\n\r\n12345", false),
        ("Content-Length: 10\r\n\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n123", false),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nX-T: 1\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n", false),
        ("\r\n12345", true),
    ];
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "idempotent: true", "");
    let mut made = 0;
    for how in BOTH {
        for (part, whole) in parts {
            for version in ["1.1", "1.0"] {
                let mut client = sidecar.http();
                client.send(format!("GET /part HTTP/{version}\r\nHost: t\r\n\r\n"));
                let mut held = upstream.next();
                held.send(format!("HTTP/1.1 200 OK\r\n{part}"));
                // That its beginning is with the caller already, so that it is too late for an answer of our own.
                let case = format!("{how:?} {version} {part:?}");
                let mut one = [0];
                let peeked = client.link.stream().peek(&mut one).expect("the head goes on at once");
                assert_eq!(peeked, 1, "{case}");
                std::thread::sleep(Duration::from_millis(20));
                how.ends(held);
                if whole && how == How::Fin {
                    client.next().is("12345");
                } else {
                    let (head, end) = client.torn();
                    assert_eq!(head.status(), 200, "{case}");
                    // Where the end of the connection is the end of the body, only a reset tells.
                    let told = head.get("content-length").or(head.get("transfer-encoding")).is_some();
                    assert!(told || end == End::Reset, "{case}: a clean end of {head:?}");
                }
                made += 1;
                assert_eq!(upstream.count("/part"), made, "{case}");
            }
        }
    }
    sidecar.http().well("after all of it");
    sidecar.rests();
}

#[test]
fn an_endpoint_that_dies_while_a_body_is_sent_is_told_and_the_body_reaches_no_other() {
    let upstream = Upstream::start();
    for route in ["", "idempotent: true"] {
        let mut sidecar = straight(&upstream, "", route, "");
        for how in BOTH {
            let before = upstream.count("/upload");
            let mut client = sidecar.http();
            // More than may be kept to be sent again.
            client.send(post("/upload", 1 << 20, ""));
            let mut held = upstream.next();
            let writer = client.link.stream().try_clone().expect("a clone");
            // It may be closed in the middle of it.
            let writes = std::thread::spawn(move || drop((&writer).write_all(&vec![b'x'; 512 << 10])));
            held.link().reader().read_exact(&mut vec![0; 200 << 10]).expect("it comes");
            how.ends(held);
            let answer = client.next();
            answer.refused(502, "unreachable");
            assert!(answer.head.closes(), "{how:?}: {answer:?}");
            writes.join().expect("the writer");
            client.closed();
            assert_eq!(upstream.count("/upload"), before + 1, "{how:?} {route}");
            sidecar.http().well("after it");
        }
        sidecar.rests();
    }
}

#[test]
fn a_process_that_is_killed_loses_only_what_it_had() {
    let upstream = Upstream::start();
    // A process of its own between the sidecar and the endpoint; the kernel ends its connections when it is killed.
    let relay_port = free_port();
    let relay_conf = format!(
        "app: relay\nadmin: 127.0.0.1:{}\nworkers: 1\nlisteners:\n  main:\n    bind: 127.0.0.1:{relay_port}\n    protocol: tcp\n    \
         routes: [{{ to: up }}]\nclusters:\n  up: {{ endpoints: [\"{}\"] }}\n",
        free_port(),
        upstream.address()
    );
    let mut relay = Sidecar::start(&relay_conf);
    let addresses = [format!("127.0.0.1:{relay_port}")];
    let mut sidecar = Sidecar::start(&all_to(&addresses, "", "balance: round_robin"));
    let mut waiting = sidecar.http();
    waiting.send(get("/waiting"));
    let held = upstream.next();
    let mut reading = sidecar.http();
    reading.send(get("/reading"));
    let mut half = upstream.next();
    half.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert_eq!(reading.link.head().expect("a head").expect("a head").status(), 200);
    let mut uploading = sidecar.http();
    uploading.send(format!("{}12", post("/uploading", 4, "")));
    let upload = upstream.next();
    relay.signal("KILL");
    waiting.next().refused(502, "unreachable");
    let answer = uploading.next();
    answer.refused(502, "unreachable");
    assert!(answer.head.closes());
    let (first, then) = (reading.link.chunk(), reading.link.chunk());
    assert_eq!(first.expect("what came").expect("is passed on"), b"abc");
    then.expect_err("and then it breaks off");
    // While nobody is there, callers are told; back on its port, it is used again.
    waiting.get("/echo/dead").refused(502, "unreachable");
    drop((held, half, upload, relay));
    let _again = Sidecar::start(&relay_conf);
    assert!(within(ANSWER_MAX, || waiting.get("/echo/back").status() == 200));
    drop((waiting, reading, uploading));
    sidecar.rests();
}

/// A port where connections wait to be accepted for ever, and that takes no more of them.
fn black_hole() -> (socket2::Socket, Vec<socket2::Socket>, String) {
    use socket2::{Domain, Socket, Type};
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    hole.bind(&any.into()).and_then(|()| hole.listen(0)).expect("a port");
    let address = hole.local_addr().expect("it is bound").as_socket().expect("of IP");
    let fill = (0..3).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // Those that find no room any more go on trying, which is what is wanted.
        let _ = socket.set_nonblocking(true).and_then(|()| socket.connect(&address.into()));
        socket
    });
    (hole, fill.collect(), address.to_string())
}

#[test]
fn what_cannot_be_connected_to_is_passed_over_and_nothing_is_lost() {
    let living = Upstream::start();
    let (_hole, _fill, hole) = black_hole();
    let dead = || format!("127.0.0.1:{}", free_port());
    for (others, cluster) in [
        (vec![dead()], "balance: round_robin"),
        (vec![dead(), dead()], "balance: round_robin"),
        (vec![hole], "balance: round_robin, connect_timeout: 200ms"),
    ] {
        let before = living.seen().len();
        let mut sidecar = Sidecar::start(&all_to(&[others, vec![living.address()]].concat(), "", cluster));
        let mut client = sidecar.http();
        for at in 0..10 {
            client.well(at);
            let body = client.ask(format!("{}body", post("/echo/post", 4, "")));
            body.is(" POST /echo/post body");
        }
        assert_eq!(living.seen().len(), before + 20, "each arrived once");
        drop(client);
        sidecar.rests();
    }
    // Nothing but that one: the route's time may be up first.
    let (_hole, _fill, hole) = black_hole();
    for (route, cluster, status, name) in [
        ("timeout: 300ms", "connect_timeout: 20s", 504, "timed_out"),
        ("timeout: 20s", "connect_timeout: 300ms", 502, "unreachable"),
        ("", "connect_timeout: 300ms", 502, "unreachable"),
    ] {
        let mut sidecar = Sidecar::start(&all_to(std::slice::from_ref(&hole), route, cluster));
        let mut client = sidecar.http();
        let answer = client.ask(format!("{}body", post("/echo", 4, "")));
        answer.refused(status, name);
        assert!(!answer.head.closes(), "{answer:?}");
        drop(client);
        sidecar.rests();
    }
    // None at all: told after a few tries, with the connection kept.
    let all: Vec<_> = (0..6).map(|_| dead()).collect();
    let mut sidecar = Sidecar::start(&all_to(&all, "", "balance: round_robin"));
    let mut client = sidecar.http();
    for _ in 0..3 {
        let answer = client.get("/echo");
        answer.refused(502, "unreachable");
        assert!(!answer.head.closes(), "{answer:?}");
    }
    drop(client);
    sidecar.rests();
}

#[test]
fn a_request_whose_endpoint_left_is_sent_again_only_where_the_route_allows_it() {
    let upstream = Upstream::start();
    let listener = "    protocol: http1
    routes:
      - { match: { path: { prefix: /again } }, to: up, idempotent: true }
      - { match: {}, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut client = sidecar.http();
    for how in BOTH {
        for fresh in [false, true] {
            let case = format!("{how:?} fresh {fresh}");
            let target = format!("/again/{how:?}/{fresh}");
            if !fresh {
                client.well("one more for the pool");
            }
            for body in [false, true] {
                let target = format!("{target}/{body}");
                let request = if body { format!("{}body", post(&target, 4, "")) } else { get(&target) };
                // Once lost, once answered.
                client.send(&request);
                how.ends(upstream.next());
                let mut again = upstream.next();
                assert_eq!(
                    again.body().expect("whole").bytes,
                    if body { &b"body"[..] } else { b"" },
                    "{case}"
                );
                again.answer("the second time");
                client.next().is("the second time");
                assert_eq!(upstream.count(&target), 2, "{case}");
            }
            // Twice lost: told.
            let twice = format!("{target}/twice");
            client.send(get(&twice));
            how.ends(upstream.next());
            how.ends(upstream.next());
            client.next().refused(502, "unreachable");
            assert_eq!(upstream.count(&twice), 2, "{case}");
            // When a byte of an answer came: not again, but told.
            let begun = format!("{target}/begun");
            client.send(get(&begun));
            let mut held = upstream.next();
            held.send("HTTP/1.1 2");
            std::thread::sleep(Duration::from_millis(20));
            how.ends(held);
            client.next().refused(502, "unreachable");
            assert_eq!(upstream.count(&begun), 1, "{case}");
            // Where nobody said that it may be.
            let once = format!("/once/{how:?}/{fresh}");
            client.send(get(&once));
            how.ends(upstream.next());
            client.next().refused(502, "unreachable");
            assert_eq!(upstream.count(&once), 1, "{case}");
        }
    }
    upstream.silent(SILENCE);
    drop(client);
    sidecar.rests();
}

/// An endpoint that answers each request and soon after ends the connection, without having said so.
fn fickle(listener: &TcpListener, seen: &Sender<String>) {
    for (at, stream) in (0..).zip(listener.incoming().flatten()) {
        let seen = seen.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let mut chunk = [0; 1_024];
            while !bytes.ends_with(b"\r\n\r\n") {
                match (&stream).read(&mut chunk) {
                    Ok(n @ 1..) => bytes.extend_from_slice(&chunk[..n]),
                    _ => return,
                }
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = (&stream).write_all(ok(&format!("of {target}"), "").as_bytes());
            // Nobody listens any more when the test is over.
            let _ = seen.send(target);
            // About when the next request comes: before it, behind it, together with it.
            std::thread::sleep(Duration::from_micros(50 * (at % 12)));
        });
    }
}

#[test]
fn a_pooled_connection_that_closes_as_the_next_request_comes_costs_no_second_sending() {
    const REQUESTS: usize = 300;
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = bound.local_addr().expect("an address").to_string();
    let (sender, seen) = mpsc::channel();
    std::thread::spawn(move || fickle(&bound, &sender));
    for (route, idempotent) in [("", false), ("idempotent: true", true)] {
        let mut sidecar = Sidecar::start(&all_to(std::slice::from_ref(&address), route, ""));
        let mut client = sidecar.http();
        for at in 0..REQUESTS {
            let target = format!("/{idempotent}/{at}");
            let answer = client.get(&target);
            if answer.status() == 200 {
                answer.is(&format!("of {target}"));
            } else {
                assert!(!idempotent, "{answer:?}");
                answer.refused(502, "unreachable");
            }
        }
        drop(client);
        sidecar.rests();
    }
    let arrived: Vec<String> = seen.try_iter().collect();
    let distinct: BTreeSet<_> = arrived.iter().collect();
    // Each connection answered one request: none can have arrived twice without having been answered twice.
    assert_eq!(distinct.len(), arrived.len(), "a request was answered and sent again");
    assert!(arrived.len() > REQUESTS, "{}", arrived.len());
}

#[test]
fn bytes_behind_an_answer_and_answers_to_nothing_reach_nobody() {
    const WRONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = sidecar.http();
    let forms = [
        ok("right", ""),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    ];
    for (at, form) in forms.iter().enumerate() {
        for leftover in [WRONG, "x", "\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
            // Behind the answer in one piece; behind it a moment later, on a connection that is idle.
            for later in [false, true] {
                let case = format!("{form:?} {leftover:?} {later}");
                client.send(get("/extra"));
                let mut held = upstream.next();
                if later {
                    held.send(form);
                } else {
                    held.send(format!("{form}{leftover}"));
                }
                let answer = client.next();
                assert_eq!(answer.text(), if at == 2 { "" } else { "right" }, "{case}");
                if later {
                    held.send(leftover);
                    held.link().ends();
                }
                let served = client.well("own");
                assert_ne!(served.head.get("x-conn"), Some(&*held.conn.number.to_string()), "{case}");
                held.link().ends();
            }
        }
    }
    // An answer to HEAD with a body is two answers to whoever reads on.
    for body in [WRONG, "12345"] {
        client.send(get("/head").replacen("GET", "HEAD", 1));
        let mut held = upstream.next();
        held.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let answer = client.answer_to("HEAD").expect("a whole answer");
        assert_eq!(
            (answer.status(), answer.head.get("content-length")),
            (200, Some(&*body.len().to_string()))
        );
        client.well("own");
        held.link().ends();
    }
    // An answer on a connection where nothing was asked yet is none either.
    drop(client);
    sidecar.rests();
}

#[test]
fn an_answer_that_comes_before_the_body_ends_the_connection_after_it() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    for expects in ["", "Expect: 100-continue\r\n"] {
        for chunked in [false, true] {
            let mut client = sidecar.http();
            let head = post("/early", 100_000, expects);
            let framing = "Transfer-Encoding: chunked\r\n";
            client.send(if chunked { head.replace("Content-Length: 100000\r\n", framing) } else { head });
            let mut held = upstream.next();
            assert_eq!(held.head.get("expect").is_some(), !expects.is_empty(), "{:?}", held.head);
            held.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
            let answer = client.next();
            assert_eq!((answer.status(), &*answer.text()), (403, "no"));
            assert!(answer.head.closes(), "{answer:?}");
            client.closed();
            // Neither is the endpoint's connection used again, nor does it see an end of that body.
            let served = sidecar.http().well("next");
            assert_ne!(served.head.get("x-conn"), Some(&*held.conn.number.to_string()), "{served:?}");
            held.torn();
        }
    }
    // And when all goes well: the word, then the body, then the answer.
    let mut client = sidecar.http();
    client.send(post("/polite", 4, "Expect: 100-continue\r\n"));
    let mut held = upstream.next();
    client.link.silent(SILENCE);
    held.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.link.head().expect("a head").expect("a head").status(), 100);
    client.send("body");
    assert_eq!(held.body().expect("whole").bytes, b"body");
    held.answer("done");
    client.next().is("done");
    client.well("next");
    drop(client);
    sidecar.rests();
}

#[test]
fn a_few_interim_answers_pass_and_a_flood_of_them_is_refused() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = sidecar.http();
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    client.send(get("/hints"));
    let mut held = upstream.next();
    held.send(format!("{}{}", hint.repeat(8), ok("after eight", "")));
    held.release();
    let answer = client.next();
    answer.is("after eight");
    assert_eq!(answer.interim.len(), 8, "{answer:?}");
    assert!(
        answer.interim.iter().all(|head| head.status() == 103 && head.get("link").is_some()),
        "{answer:?}"
    );
    // An older caller would take them for the answer.
    let mut old = sidecar.http();
    old.send("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let mut held = upstream.next();
    held.send(format!("{}{}", hint.repeat(3), ok("plain", "")));
    held.release();
    let answer = old.next();
    answer.is("plain");
    assert_eq!(answer.interim, []);
    // 100 is for those that wait for it.
    client.send(get("/unasked"));
    let mut held = upstream.next();
    held.send(format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok("plain", "")));
    held.release();
    let answer = client.next();
    answer.is("plain");
    assert_eq!(answer.interim, []);
    // Floods, also to one that is shown none of them.
    for (target, request) in [
        ("/flood", get("/flood")),
        ("/old/flood", "GET /old/flood HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned()),
    ] {
        let mut client = sidecar.http();
        client.send(request);
        let mut held = upstream.next();
        let mut sent = 0;
        while sent < 100_000 && held.link().try_send(hint.as_bytes()).is_ok() {
            sent += 1;
        }
        assert!(sent < 100_000, "somebody read all of them");
        // Those that passed are no answer: it is told, or the connection ends.
        if let Ok(answer) = client.answer_to("GET") {
            assert!(answer.interim.len() <= 8, "{target}: {answer:?}");
            answer.refused(502, "unreachable");
        }
        sidecar.http().well("after it");
    }
    drop((client, old));
    sidecar.rests();
}

#[test]
fn the_connection_that_was_used_last_is_used_next() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut clients: Vec<Client> = (0..4).map(|_| sidecar.http()).collect();
    let mut held = Vec::new();
    for (at, client) in clients.iter().enumerate() {
        client.send(get(&format!("/{at}")));
        held.push(upstream.next());
    }
    assert_eq!(upstream.accepted(), 4);
    for (at, held) in held.into_iter().enumerate() {
        assert_eq!(held.conn.number, at);
        held.answer("done");
        clients[at].next().is("done");
    }
    for at in 0..20 {
        let answer = clients[at % 4].well(at);
        assert_eq!(answer.head.get("x-conn"), Some("3"), "{answer:?}");
    }
    assert_eq!((upstream.accepted(), upstream.open()), (4, 4));
    drop(clients);
    // Whose caller made it does not matter: the pool keeps it.
    sidecar.rests();
    assert_eq!((sidecar.metric("outrigger_upstream_connections", &[]), upstream.open()), (4, 4));
    sidecar.http().well("again");
    assert_eq!(upstream.accepted(), 4);
}

#[test]
fn pooled_connections_are_closed_when_they_rest_too_long_or_grow_too_old() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "idle_timeout: 500ms");
    let mut client = sidecar.http();
    client.well(1);
    assert_eq!(upstream.open(), 1);
    assert!(within(SOON, || upstream.open() == 0), "it rests for ever");
    client.well(2);
    assert_eq!(upstream.accepted(), 2);
    // A request in flight is no rest.
    client.send(get("/slow"));
    let held = upstream.next();
    client.link.silent(Duration::from_millis(1_200));
    held.answer("in its own time");
    client.next().is("in its own time");
    drop(client);
    sidecar.rests();

    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "max_age: 500ms");
    let mut client = sidecar.http();
    client.send(get("/old"));
    let old = upstream.next();
    for at in 0..30 {
        sidecar.http().well(at);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(upstream.accepted() >= 3, "connections are never replaced");
    // Too old for another request, but not for the answer it owes.
    let number = old.conn.number;
    old.answer("at last");
    client.next().is("at last");
    let answer = client.well("next");
    assert_ne!(answer.head.get("x-conn"), Some(&*number.to_string()), "{answer:?}");
    assert!(within(SOON, || upstream.open() <= 1), "{} are open", upstream.open());
    drop(client);
    sidecar.rests();
}

#[test]
fn an_endpoint_that_says_it_closes_is_believed() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    let mut client = sidecar.http();
    for (at, answer) in [
        ok("last", "Connection: close\r\n"),
        ok("last", "Connection: x, Close\r\n"),
        "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nlast".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        client.send(get("/closes"));
        let mut held = upstream.next();
        held.send(answer);
        let came = client.next();
        came.is("last");
        // That is between the two of them; the caller's connection stays.
        assert!(!came.head.closes(), "{came:?}");
        held.link().ends();
        client.well(at);
    }
    // A caller that closes does not close what others can use.
    let mut leaves = sidecar.http();
    let answer = leaves.ask(get("/echo/leaves").replace("Host", "Connection: close\r\nHost"));
    assert!(answer.head.closes(), "{answer:?}");
    leaves.closed();
    assert_eq!(client.well("next").head.get("x-conn"), answer.head.get("x-conn"));
    client.send(get("/keeps"));
    let mut held = upstream.next();
    held.send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nmore");
    let number = held.conn.number.to_string();
    held.release();
    client.next().is("more");
    assert_eq!(client.well("kept").head.get("x-conn"), Some(&*number));
    drop(client);
    sidecar.rests();
}

#[test]
fn with_one_connection_requests_wait_in_line_and_those_that_leave_the_line_are_not_sent() {
    const WAITING: usize = 6;
    let upstream = Upstream::start();
    let listener = "    protocol: http1
    routes:
      - { match: { path: { prefix: /soon } }, to: up, timeout: 300ms }
      - { match: {}, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"], connections: 1 }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut first = sidecar.http();
    first.send(get("/first"));
    let held = upstream.next();
    let mut clients: Vec<Client> = Vec::new();
    for at in 0..WAITING {
        let client = sidecar.http();
        client.send(format!("{}{at}", post(&format!("/line/{at}"), 1, "")));
        clients.push(client);
        // So that they stand in this order.
        std::thread::sleep(Duration::from_millis(30));
    }
    // Leaves while it waits; runs out of time while it waits.
    clients.remove(2).link.reset();
    let mut late = sidecar.http();
    late.ask(get("/soon")).refused(504, "timed_out");
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
    held.answer("first");
    first.next().is("first");
    for (client, at) in clients.iter_mut().zip([0, 1, 3, 4, 5]) {
        let mut held = upstream.next();
        assert_eq!((held.head.target(), held.conn.number), (&*format!("/line/{at}"), 0));
        assert_eq!(held.body().expect("whole").bytes, at.to_string().as_bytes());
        held.answer("served");
        client.next().is("served");
    }
    // When the one connection is lost, those in line get another.
    first.send(get("/lost"));
    let held = upstream.next();
    clients[0].send(get("/line/behind"));
    std::thread::sleep(Duration::from_millis(50));
    held.reset();
    first.next().refused(502, "unreachable");
    upstream.next().answer("behind");
    clients[0].next().is("behind");
    late.well("after it");
    assert_eq!((upstream.count("/line/2"), upstream.count("/soon"), upstream.accepted()), (0, 0, 2));
    drop((clients, first, late));
    sidecar.rests();
}

#[test]
fn an_endpoint_that_never_answers_holds_up_nobody_else() {
    let (mute, living) = (Upstream::start(), Upstream::start());
    let listener = "    protocol: http1
    idle_timeout: 600ms
    routes:
      - { match: { path: { prefix: /mute } }, to: mute, timeout: 400ms }
      - { match: { path: /stalls }, to: mute }
      - { match: {}, to: living }";
    let clusters = format!(
        "clusters:\n  mute: {{ endpoints: [\"{}\"] }}\n  living: {{ endpoints: [\"{}\"] }}",
        mute.address(),
        living.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut waiting: Vec<Client> = (0..30).map(|_| sidecar.http()).collect();
    for (at, client) in waiting.iter().enumerate() {
        client.send(get(&format!("/mute/{at}")));
    }
    let held: Vec<Held> = (0..30).map(|_| mute.next()).collect();
    let mut client = sidecar.http();
    (0..50).for_each(|at| drop(client.well(at)));
    for waits in &mut waiting {
        waits.next().refused(504, "timed_out");
        waits.well("after it");
    }
    // None of these connections can be used again.
    for mut held in held {
        held.link().ends();
    }
    // An answer that begins and then stands still.
    client.send(get("/stalls"));
    let mut held = mute.next();
    held.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
    assert_eq!(client.torn().0.status(), 200);
    held.link().ends();
    // One that only goes slowly is no fault.
    let mut client = sidecar.http();
    client.send(get("/stalls"));
    let mut held = mute.next();
    held.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(150));
        held.send("x");
    }
    client.next().is("xxxxxxxx");
    drop((client, waiting));
    sidecar.rests();
}

#[test]
fn a_caller_that_leaves_takes_its_request_with_it() {
    let upstream = Upstream::start();
    let mut sidecar = straight(&upstream, "", "", "");
    // Before the answer; in the middle of it; in the middle of its own body. The endpoint's connection is not used again.
    for stage in 0..3 {
        for reset in [false, true] {
            let mut client = sidecar.http();
            let target = format!("/leaves/{stage}/{reset}");
            client.send(if stage == 2 { format!("{}12", post(&target, 4, "")) } else { get(&target) });
            let mut held = upstream.next();
            if stage == 1 {
                held.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12");
                assert_eq!(client.link.head().expect("a head").expect("a head").status(), 200);
            }
            if reset {
                client.link.reset();
            } else {
                drop(client);
            }
            if stage == 2 {
                held.torn();
            } else if reset {
                held.link().ends();
            } else {
                // Somebody who only says no more may still listen: that nobody does shows when the answer comes.
                held.send(if stage == 1 { "34".to_owned() } else { ok("for nobody", "") });
            }
        }
    }
    // One that says no more and listens gets its answer.
    let mut client = sidecar.http();
    client.send(get("/listens"));
    client.link.fin();
    let held = upstream.next();
    std::thread::sleep(SILENCE);
    held.answer("still there");
    client.next().is("still there");
    client.closed();
    sidecar.http().well("others");
    sidecar.rests();
}

#[test]
fn endpoints_change_while_requests_run_and_none_is_lost() {
    const CALLERS: usize = 3;
    let endpoints = [Upstream::start(), Upstream::start(), Upstream::start()];
    let dir = TempDir::new();
    let file = dir.path().join("services.yaml");
    let publish = |chosen: &[usize]| {
        // Renamed into place, as a good writer does.
        let next = dir.path().join("next");
        let lines = chosen.iter().map(|at| format!("    - {}\n", endpoints[*at].address()));
        let text = format!("services:\n  s.Web:\n{}", lines.collect::<Vec<_>>().concat());
        fs::write(&next, text).and_then(|()| fs::rename(&next, &file)).expect("it can be written");
    };
    publish(&[0]);
    let rest = format!(
        "clusters:\n  up: {{ discover: {{ registry: local, service: s.Web }}, balance: round_robin }}\n\
         registries:\n  local: {{ file: {{ path: {} }} }}",
        file.display()
    );
    let listener = "    protocol: http1\n    routes: [{ match: {}, to: up }]";
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    let mut waits = sidecar.http();
    waits.send(get("/in/flight"));
    let held = endpoints[0].next();
    let (ending, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let over = Leaving(&ending);
        for caller in 0..CALLERS {
            let mut client = sidecar.http();
            let (ending, calls) = (&ending, &calls);
            scope.spawn(move || {
                let mut at = 0;
                while !ending.load(Ordering::Relaxed) {
                    client.well(format!("{caller}/{at}"));
                    at += 1;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for chosen in [&[0, 1][..], &[1], &[1, 2], &[2, 0], &[0, 1, 2], &[2]] {
            let before: Vec<_> = endpoints.iter().map(|endpoint| endpoint.seen().len()).collect();
            publish(chosen);
            let used = || chosen.iter().all(|at| endpoints[*at].seen().len() > before[*at]);
            assert!(within(ANSWER_MAX, used), "{chosen:?} are not used: {}", sidecar.log());
        }
        drop(over);
    });
    held.answer("to the end");
    waits.next().is("to the end");
    let arrived: usize = endpoints.iter().map(|endpoint| endpoint.seen().len()).sum();
    assert_eq!(arrived, calls.load(Ordering::Relaxed) + 1, "each call arrived once");
    let left = || endpoints[0].open() == 0 && endpoints[1].open() == 0;
    assert!(within(SOON, left), "what left the list is closed: {}", sidecar.admin_get("/clusters").1);
    drop(waits);
    sidecar.rests();
}

#[test]
fn while_an_endpoint_dies_and_returns_each_request_gets_its_own_answer_or_the_reason() {
    const DEATHS: usize = 10;
    const CALLERS: usize = 4;
    let staying = Upstream::start();
    let mut dying = Upstream::start();
    let addresses = [staying.address(), dying.address()];
    let mut sidecar = Sidecar::start(&all_to(&addresses, "", "balance: round_robin"));
    let (ending, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (main, port) = (sidecar.port("main"), dying.port());
    std::thread::scope(|scope| {
        let over = Leaving(&ending);
        for caller in 0..CALLERS {
            let mut client = sidecar.http();
            let (ending, calls) = (&ending, &calls);
            scope.spawn(move || {
                let mut at = 0;
                while !ending.load(Ordering::Relaxed) {
                    let target = format!("/echo/{caller}/{at}");
                    client.send(get(&target));
                    // Torn in mid-answer, if the endpoint died just then; else its own, or the reason.
                    match client.answer_to("GET") {
                        Ok(answer) if answer.status() == 200 => answer.is(&format!(" GET {target} ")),
                        Ok(answer) => answer.refused(502, "unreachable"),
                        Err(_) => client = Client::connect(main),
                    }
                    at += 1;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut arrived = BTreeSet::new();
        for _ in 0..DEATHS {
            let before = calls.load(Ordering::Relaxed);
            assert!(within(ANSWER_MAX, || calls.load(Ordering::Relaxed) >= before + 60), "calls go on");
            dying.stop();
            for (_, line) in dying.seen() {
                assert!(arrived.insert(line.clone()), "{line} arrived twice");
            }
            dying = Upstream::start_at(port);
        }
        drop(over);
        for (_, line) in [staying.seen(), dying.seen()].concat() {
            assert!(arrived.insert(line.clone()), "{line} arrived twice");
        }
    });
    let mut client = sidecar.http();
    let before = dying.seen().len();
    assert!(within(ANSWER_MAX, || client.get("/echo").status() == 200 && dying.seen().len() > before));
    (0..50).for_each(|at| drop(client.well(at)));
    drop(client);
    sidecar.rests();
}
