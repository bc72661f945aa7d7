//! The admin port and the registry file as their users see them.
//!
//! Every page answers what it promises; what changes anything takes POST alone, and neither a foreign Host nor a
//! foreign Origin (a browser made a tool of) is obeyed; big bodies and slow readers harm nobody. Endpoints come
//! and go with the registry file, and a broken file takes none away.

mod support;

use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use support::echo::{Upstream, conf, straight};
use support::raw::{ANSWER_MAX, ECHO, Refused, WIRES, Wire, timed};
use support::{Sidecar, within};

const SOON: Duration = Duration::from_secs(5);

/// One request written by hand: its status, head and body.
fn exchange(admin: SocketAddr, request: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(admin).expect("the admin port is there");
    socket.set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
    socket.write_all(request.as_bytes()).expect("it is read");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    // A refused body may end in a reset behind the answer.
    while let Ok(n @ 1..) = socket.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..n]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) =
        text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request:?}: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// A request without a body, with these header lines.
fn plain(admin: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String, String) {
    exchange(admin, &format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"))
}

#[test]
fn every_page_answers_and_each_takes_its_own_method_alone() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    sidecar.client().well(Wire::Dubbo, 1);
    sidecar.client().well(Wire::V1, 1);
    let admin = sidecar.admin();
    let host = format!("Host: {admin}\r\n");
    for (path, kind, words) in [
        ("/", "text/plain", "POST /reload"),
        ("/live", "text/plain", "live"),
        ("/ready", "text/plain", "ready"),
        ("/metrics", "text/plain; version=0.0.4", "outrigger_requests_total"),
        ("/stats", "application/json", "\"routes\""),
        ("/clusters", "application/json", "\"in use\""),
        ("/config", "application/json", "\"listeners\""),
    ] {
        let (status, head, body) = plain(admin, "GET", path, &host);
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.contains(&format!("content-type: {kind}")), "{path}: {head}");
        assert!(body.contains(words), "{path}: {body}");
        if kind == "application/json" {
            serde_json::from_str::<Value>(&body).unwrap_or_else(|e| panic!("{path} is no JSON: {e}\n{body}"));
        }
        let (status, _, body) = plain(admin, "HEAD", path, &host);
        assert_eq!((status, &*body), (200, ""), "HEAD {path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let (status, head, _) = plain(admin, method, path, &host);
            assert_eq!(status, 405, "{method} {path}");
            assert!(head.contains("allow: get, head"), "{head}");
        }
    }
    for path in ["/drain", "/reload", "/log?level=info"] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let (status, head, _) = plain(admin, method, path, &host);
            assert_eq!(status, 405, "{method} {path}");
            assert!(head.contains("allow: post"), "{head}");
        }
    }
    assert_eq!(plain(admin, "GET", "/nothing", &host).0, 404);
    // None of these did anything.
    assert_eq!((&sidecar.stats()["revision"], &sidecar.stats()["draining"]), (&1.into(), &false.into()));
    sidecar.assert_well();
}

#[test]
fn counts_by_endpoint_are_on_the_clusters_page() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let mut client = sidecar.client();
    for id in 0..5 {
        client.well(Wire::Dubbo, id);
    }
    client.send(&Wire::Dubbo.call(9).payload("in flight").bytes());
    upstream.next();
    let clusters: Value = serde_json::from_str(&sidecar.admin_get("/clusters").1).expect("JSON");
    let endpoint = &clusters["clusters"]["up"]["endpoints"][0];
    assert_eq!(endpoint["address"], upstream.address().as_str(), "{clusters}");
    for (key, count) in [("calls", 5), ("in_flight", 1), ("connections", 1), ("failures", 0)] {
        assert_eq!(endpoint[key], count, "{key}: {clusters}");
    }
    assert_eq!(endpoint["outcomes"]["ok"], 5, "{clusters}");
    sidecar.assert_well();
}

#[test]
fn foreign_hosts_and_origins_are_refused_and_do_nothing() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let admin = sidecar.admin();
    let (own, port) = (format!("Host: {admin}\r\n"), admin.port());
    for headers in [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
        format!("Host: 192.0.2.1:{port}\r\n"),
        "Host: \r\n".to_owned(),
        format!("{own}Origin: http://evil.example\r\n"),
        format!("{own}Origin: https://127.0.0.1\r\n"),
        format!("{own}Origin: null\r\n"),
        format!("Host: evil.example\r\nOrigin: http://{admin}\r\n"),
    ] {
        for (method, path) in
            [("POST", "/drain"), ("POST", "/reload"), ("POST", "/log?level=trace"), ("GET", "/config")]
        {
            let (status, _, body) = plain(admin, method, path, &headers);
            assert_eq!(status, 403, "{method} {path} with {headers:?}: {body}");
        }
    }
    // No Host at all is refused somehow, two of them too.
    assert!(plain(admin, "POST", "/drain", "").0 >= 400);
    assert!(plain(admin, "POST", "/drain", &format!("{own}Host: evil.example\r\n")).0 >= 400);
    assert_eq!((&sidecar.stats()["revision"], &sidecar.stats()["draining"]), (&1.into(), &false.into()));
    for headers in
        [own.clone(), format!("Host: localhost:{port}\r\n"), format!("{own}Origin: http://{admin}\r\n")]
    {
        assert_eq!(plain(admin, "POST", "/reload", &headers).0, 200, "{headers}");
    }
    sidecar.assert_well();
}

#[test]
fn big_bodies_are_refused_and_garbage_is_no_request() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let admin = sidecar.admin();
    let before = sidecar.rss_kib();
    let head = format!("POST /reload HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n");
    let declared = format!("{head}Content-Length: 10485760\r\n\r\n");
    assert_eq!(exchange(admin, &declared).0, 413, "from the head alone");
    let mut socket = TcpStream::connect(admin).expect("the admin port is there");
    let _ = socket.write_all(declared.as_bytes());
    // The sidecar may close in the middle of it.
    let _ = socket.write_all(&vec![b'x'; 10 << 20]);
    drop(socket);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\nfffff\r\n{}", "x".repeat(1 << 20));
    let mut socket = TcpStream::connect(admin).expect("the admin port is there");
    let _ = socket.write_all(chunked.as_bytes());
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", b"GET /live HTTP/9.9\r\n\r\n", &[0; 2048]] {
        let mut socket = TcpStream::connect(admin).expect("the admin port is there");
        let _ = socket.write_all(garbage);
    }
    let long = format!("GET /live HTTP/1.1\r\nHost: {admin}\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let mut socket = TcpStream::connect(admin).expect("the admin port is there");
    let _ = socket.write_all(long.as_bytes());
    assert_eq!(plain(admin, "GET", "/live", &format!("Host: {admin}\r\n")).0, 200);
    let grown = sidecar.rss_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB were taken for bodies that nobody wants");
    sidecar.client().well(Wire::V1, 1);
    sidecar.assert_well();
}

#[test]
fn slow_readers_of_the_admin_port_hold_up_neither_calls_nor_for_long_each_other() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let admin = sidecar.admin();
    let slow = |count: usize| -> Vec<TcpStream> {
        let one = |_| {
            let mut socket = TcpStream::connect(admin).expect("the admin port is there");
            socket.write_all(b"GET /metrics HT").expect("it is read");
            socket
        };
        (0..count).map(one).collect()
    };
    let few = slow(8);
    let ((), took) = timed(|| {
        for _ in 0..5 {
            assert_eq!(sidecar.admin_get("/ready").0, 200);
        }
    });
    assert!(took < Duration::from_secs(4), "{took:?}");
    // More than it serves at once: calls go on, and the port is back when their time is up.
    let many = slow(60);
    let mut client = sidecar.client();
    for id in 0..50 {
        let ((), took) = timed(|| client.well(Wire::Dubbo, id));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert!(within(Duration::from_secs(25), || support::http_get(admin, "/ready")
        .is_ok_and(|(status, _)| status == 200)));
    drop((few, many));
    sidecar.assert_well();
}

#[test]
fn the_log_level_can_be_changed_while_running() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let broken = || {
        let mut client = sidecar.client();
        client.send(b"GET / HTTP/1.1\r\n\r\n");
        client.closed(SOON);
    };
    broken();
    assert!(!sidecar.log().contains("DEBUG"), "{}", sidecar.log());
    assert_eq!(sidecar.admin_post("/log?level=debug").0, 200);
    broken();
    assert!(within(SOON, || sidecar.log().contains("DEBUG")), "{}", sidecar.log());
    assert_eq!(sidecar.admin_post("/log?level=warn").0, 200);
    let lines = sidecar.log().lines().count();
    broken();
    assert_eq!(sidecar.admin_post("/reload").0, 200);
    assert_eq!(sidecar.log().lines().count(), lines, "{}", sidecar.log());
    for query in ["/log", "/log?level=loud", "/log?level=info,loud"] {
        let (status, said) = sidecar.admin_post(query);
        assert_eq!(status, 400, "{query}: {said}");
    }
    sidecar.assert_well();
}

#[test]
fn an_admin_port_for_others_takes_their_host_names_but_still_no_foreign_origin() {
    let upstream = Upstream::start();
    let listener = "    protocol: [bolt, dubbo]\n    routes: [{ match: {}, to: up }]";
    let rest =
        format!("admin_allow_remote: true\nclusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    let admin = sidecar.admin();
    assert_eq!(plain(admin, "GET", "/live", "Host: sidecar.example:15000\r\n").0, 200);
    let foreign = "Host: sidecar.example\r\nOrigin: http://evil.example\r\n";
    assert_eq!(plain(admin, "POST", "/drain", foreign).0, 403);
    sidecar.assert_well();
}

/// Names and values.
type Labels = Vec<(String, String)>;

/// One line of Prometheus' text format: the name, its labels and its value; `None` when it is no such line.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
        None => (series, ""),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || !name.chars().all(legal) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => text.push(chars.next()?.1),
                (_, c) => text.push(c),
            }
        };
        labels.push((label.to_owned(), text));
        rest = after[end + 1..].trim_start_matches(',');
    }
    Some((name.to_owned(), labels, value.parse().ok()?))
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let upstream = Upstream::start();
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { name: 'with \"quotes\" and \\back', match: { service: t.Echo }, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    for wire in WIRES {
        let mut client = sidecar.client();
        client.well(wire, 1);
        client.ask(&wire.call(2).service("no.Such"));
    }
    let (status, page) = sidecar.admin_get("/metrics");
    assert_eq!(status, 200);
    assert!(page.ends_with('\n'));
    let (mut kinds, mut seen) = (std::collections::HashMap::new(), std::collections::HashSet::new());
    let mut samples = Vec::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} stands twice");
        } else if !line.starts_with("# HELP ") {
            assert!(seen.insert(line.rsplit_once(' ').expect("a value").0.to_owned()), "twice: {line}");
            samples.push(sample(line).unwrap_or_else(|| panic!("no sample: {line}")));
        }
    }
    for (name, labels, value) in &samples {
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let family = parts.filter(|family| kinds.get(*family).is_some_and(|kind| kind == "histogram"));
        let kind = kinds.get(family.unwrap_or(name)).unwrap_or_else(|| panic!("{name} has no type"));
        assert!(name.starts_with("outrigger_") && *value >= 0.0, "{name} {labels:?} {value}");
        assert!(kind != "counter" || name.ends_with("_total"), "{name} is a counter");
    }
    let total = |outcome: &str| -> f64 {
        let has = |labels: &[(String, String)]| labels.contains(&("outcome".into(), outcome.into()));
        let named =
            samples.iter().filter(|(name, labels, _)| name == "outrigger_requests_total" && has(labels));
        named.map(|(.., value)| value).sum()
    };
    assert_eq!((total("ok"), total("no_route")), (4.0, 4.0), "{page}");
    let route = ("route".to_owned(), "with \"quotes\" and \\back".to_owned());
    assert!(samples.iter().any(|(_, labels, _)| labels.contains(&route)), "{page}");
    // Buckets only ever grow, up to the count.
    let buckets: Vec<f64> = samples
        .iter()
        .filter(|(name, labels, _)| {
            name == "outrigger_request_duration_seconds_bucket" && labels.contains(&route)
        })
        .map(|(.., value)| *value)
        .collect();
    assert!(buckets.is_sorted() && buckets.last() == Some(&4.0), "{buckets:?}");
    sidecar.assert_well();
}

#[test]
fn endpoints_come_and_go_with_the_registry_file_and_a_broken_one_takes_none_away() {
    let endpoints = [Upstream::start(), Upstream::start()];
    let dir = support::TempDir::new();
    let file = dir.path().join("services.yaml");
    let publish = |lines: &[String]| {
        // Renamed into place, as a good writer does.
        let next = dir.path().join("next");
        let listed = lines.iter().map(|line| format!("    - {line}\n")).collect::<Vec<_>>().concat();
        let service =
            if lines.is_empty() { "  t.Echo: []\n".to_owned() } else { format!("  t.Echo:\n{listed}") };
        fs::write(&next, format!("services:\n{service}")).expect("it can be written");
        fs::rename(next, &file).expect("a rename");
    };
    let [one, two] = endpoints.each_ref().map(Upstream::address);
    publish(std::slice::from_ref(&one));
    let listener = "    protocol: [bolt, dubbo]\n    routes: [{ match: { service: t.Echo }, to: up }]";
    let rest = format!(
        "clusters:\n  up: {{ discover: {{ registry: local, service: t.Echo }}, balance: round_robin }}\n\
         registries:\n  local: {{ file: {{ path: {} }} }}",
        file.display()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    let mut client = sidecar.client();
    client.well(Wire::Dubbo, 1);
    client.send(&Wire::Dubbo.call(2).payload("in flight").bytes());
    let held = endpoints[0].next();

    publish(&[one.clone(), two.clone()]);
    let both = within(ANSWER_MAX, || {
        client.well(Wire::Dubbo, 3);
        endpoints[1].calls() > 0
    });
    assert!(both, "the second endpoint is never used: {}", sidecar.log());

    // The first leaves; its call in flight is answered, then its connection goes.
    publish(std::slice::from_ref(&two));
    let left = within(ANSWER_MAX, || {
        let before = endpoints[0].calls();
        (0..4).for_each(|_| client.well(Wire::Dubbo, 4));
        endpoints[0].calls() == before
    });
    assert!(left, "{}", sidecar.log());
    held.answer("to the end");
    client.expect(&Wire::Dubbo.answer(2, "to the end"));
    assert!(within(SOON, || endpoints[0].peers().is_empty()));

    // Broken, half-written, gone: the last good word stays in force, and it is said.
    for (text, words) in [
        ("services:\n  t.Echo:\n    - nonsense\n", "services.yaml:3:7"),
        ("services:\n  t.Ec", "services.yaml"),
    ] {
        fs::write(&file, text).expect("it can be written");
        assert!(within(SOON, || sidecar.stats()["registries_lost"] == 1), "{}", sidecar.stats());
        assert!(within(SOON, || sidecar.log().contains(words)), "{}", sidecar.log());
        client.well(Wire::Dubbo, 5);
    }
    fs::remove_file(&file).expect("it is there");
    std::thread::sleep(Duration::from_millis(800));
    client.well(Wire::Dubbo, 6);
    assert_eq!(sidecar.stats()["registries_lost"], 1);

    // Well again; an empty service is a word too.
    publish(&[format!("{{ address: \"{one}\", weight: 10 }}")]);
    assert!(within(SOON, || sidecar.stats()["registries_lost"] == 0), "{}", sidecar.log());
    let before = endpoints[0].calls();
    let back = within(ANSWER_MAX, || {
        client.well(Wire::Dubbo, 7);
        endpoints[0].calls() > before
    });
    assert!(back, "{}", sidecar.log());
    publish(&[]);
    let empty = within(ANSWER_MAX, || client.ask(&Wire::Dubbo.call(8)).status() == 60);
    assert!(empty, "{}", sidecar.log());
    client.refused(&Wire::Dubbo.call(9), Refused::NoEndpoint, "outrigger: no endpoint for t.Echo.echo");
    sidecar.assert_well();
}

#[test]
fn a_registry_that_has_not_spoken_yet_keeps_the_process_from_being_ready() {
    let upstream = Upstream::start();
    let dir = support::TempDir::new();
    let file = dir.path().join("services.yaml");
    let listener = "    protocol: [bolt, dubbo]\n    routes: [{ match: {}, to: up }]";
    let rest = format!(
        "clusters:\n  up: {{ discover: {{ registry: local, service: t.Echo, version: \"1.0\" }} }}\n\
         registries:\n  local: {{ file: {{ path: {} }} }}",
        file.display()
    );
    let text = conf(listener, &rest);
    let admin: SocketAddr = text
        .split_once("admin: ")
        .and_then(|(_, rest)| rest.lines().next())
        .expect("an admin")
        .parse()
        .expect("an address");
    let publisher = std::thread::spawn({
        let address = upstream.address();
        move || {
            let why = |(status, body): (u16, String)| {
                status == 503 && body.contains("cluster up waits for its registry")
            };
            assert!(
                within(ANSWER_MAX, || support::http_get(admin, "/ready").is_ok_and(why)),
                "it should not be ready"
            );
            let versions = format!(
                "    - {{ address: \"{address}\", version: \"1.0\" }}\n    - {{ address: \"127.0.0.1:9\", version: \"2.0\" }}\n"
            );
            fs::write(file, format!("services:\n  t.Echo:\n{versions}")).expect("it can be written");
        }
    });
    // Waits for `/ready`.
    let mut sidecar = Sidecar::start(&text);
    publisher.join().expect("it was not ready before");
    let mut client = sidecar.client();
    for id in 0..20 {
        assert_eq!(
            client.ask(&Wire::V1.call(id)).bytes,
            Wire::V1.answer(id, ECHO),
            "only the version asked for"
        );
    }
    sidecar.assert_well();
}
