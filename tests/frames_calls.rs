//! Calls as a user of the conf sees them: where they go, how long they may take, what a refused one is told.
//!
//! For Bolt v1, v2 and Dubbo2 over real sockets: routes by everything a route can ask for, weights, limits,
//! timeouts, and each refusal with its exact bytes. Recorded frames of real peers pass through unchanged but for
//! their id. What is asserted comes from the user's contract, never from how the sidecar is made.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use support::echo::{Upstream, conf, straight};
use support::raw::{Call, Client, ECHO, Frame, Refused, WIRES, Wire, dubbo, hessian_text};
use support::{Sidecar, free_port};

const SILENCE: Duration = Duration::from_millis(150);
/// A timeout is answered within this, on whatever machine.
const TIMEOUT_SEEN_MAX: Duration = Duration::from_secs(3);

/// A sidecar with one endpoint for each route, in their order. A route is the inside of its `match`.
struct Routed {
    sidecar: Sidecar,
    endpoints: Vec<Upstream>,
    client: Client,
}

impl Routed {
    fn new(matches: &[&str]) -> Self {
        let endpoints: Vec<Upstream> = matches.iter().map(|_| Upstream::start()).collect();
        let numbered = matches.iter().zip(&endpoints).enumerate();
        let (routes, clusters): (Vec<String>, Vec<String>) = numbered
            .map(|(at, (inside, endpoint))| {
                let route = format!("      - {{ match: {{ {inside} }}, to: c{at} }}");
                (route, format!("  c{at}: {{ endpoints: [\"{}\"] }}", endpoint.address()))
            })
            .unzip();
        let listener = format!("    protocol: [bolt, dubbo]\n    routes:\n{}", routes.join("\n"));
        let sidecar = Sidecar::start(&conf(&listener, &format!("clusters:\n{}", clusters.join("\n"))));
        let client = sidecar.client();
        Self { sidecar, endpoints, client }
    }

    fn counts(&self) -> Vec<usize> {
        self.endpoints.iter().map(Upstream::calls).collect()
    }

    /// Makes the call; the route that it took, if any.
    fn route_of(&mut self, call: &Call) -> Option<usize> {
        let before = self.counts();
        let answer = self.client.ask(call);
        let took = self.counts().iter().zip(&before).position(|(now, then)| now > then);
        let due = match took {
            Some(_) => call.wire.answer(call.id, ECHO),
            None => {
                let message = format!("outrigger: no route for {} on listener main", call.name());
                call.wire.refusal(call.id, Refused::NoRoute, &message)
            }
        };
        assert_eq!(answer, Frame { bytes: due });
        took
    }

    #[track_caller]
    fn takes(&mut self, call: &Call, route: Option<usize>) {
        assert_eq!(self.route_of(call), route, "{call:?}");
    }
}

#[test]
fn routes_are_tried_in_order_by_service_and_method() {
    let mut routed = Routed::new(&[
        "service: a.Order, method: find",
        "service: a.Order, method: { prefix: find }",
        "service: a.Order",
        "service: { prefix: com.acme. }",
        "service: { any: [x.One, x.Two] }",
        r"service: { regex: 'y\.[A-Z]\w*' }, method: { any: [go, run] }",
        "method: { regex: 'is.+|has' }",
        "service: a.Never",
        "service: { present: true }, method: last",
    ]);
    for wire in WIRES {
        routed.client = routed.sidecar.client();
        for (service, method, route) in [
            ("a.Order", "find", Some(0)),
            ("a.Order", "findAll", Some(1)),
            ("a.Order", "Find", Some(2)),
            ("a.Order", "delete", Some(2)),
            ("a.Orders", "find", None),
            ("com.acme.Cart", "x", Some(3)),
            ("com.acmex", "x", None),
            ("x.Two", "x", Some(4)),
            ("x.Three", "x", None),
            ("y.Service", "run", Some(5)),
            ("y.Service", "walk", None),
            ("yy.Service", "run", None),
            ("y.Service.more", "run", None),
            ("q.Any", "isEmpty", Some(6)),
            ("q.Any", "is", None),
            ("q.Any", "has", Some(6)),
            ("q.Any", "hash", None),
            ("q.Any", "last", Some(8)),
        ] {
            routed.takes(&wire.call(7).service(service).method(method), route);
        }
    }
    assert_eq!(routed.counts()[7], 0);
    routed.sidecar.assert_well();
}

#[test]
fn bolt_services_are_split_at_the_first_colon() {
    let mut routed = Routed::new(&[
        "service: 'a.Order:1.0'",
        "service: a.Order, version: '2.0:blue'",
        "service: a.Order, version: { prefix: '2.0' }",
        "service: a.Order",
        "version: '9.9'",
    ]);
    for wire in [Wire::V1, Wire::V2, Wire::Crc] {
        let order = wire.call(1).service("a.Order");
        routed.takes(&order.clone().version("1.0"), Some(0));
        routed.takes(&order.clone().version("1.0:green"), Some(3));
        routed.takes(&order.clone().version("2.0:blue"), Some(1));
        routed.takes(&order.clone().version("2.0"), Some(2));
        routed.takes(&order.clone().version("2.0:red"), Some(2));
        routed.takes(&order.clone().version("3.0"), Some(3));
        routed.takes(&order, Some(3));
        routed.takes(&wire.call(1).service("b.Other").version("9.9"), Some(4));
        routed.takes(&wire.call(1).service("b.Other").version("9"), None);
    }
    routed.sidecar.assert_well();
}

#[test]
fn dubbo_calls_are_routed_by_version_group_and_the_method_that_invoke_names() {
    let mut routed = Routed::new(&[
        "service: a.Order, version: '1.0.0', group: blue",
        "service: a.Order, version: '1.0.0'",
        "service: a.Order, group: { prefix: gr }",
        "service: a.Order, version: { present: false }, method: plain",
        "service: a.Order, group: { present: false }, method: ungrouped",
        "service: a.Generic, method: echo",
        "method: $echo",
    ]);
    let order = Wire::Dubbo.call(1).service("a.Order");
    for (call, route) in [
        (order.clone().version("1.0.0").group("blue"), Some(0)),
        (order.clone().version("1.0.0").group("bluer"), Some(1)),
        (order.clone().version("1.0.0"), Some(1)),
        (order.clone().version("2.0.0").group("green"), Some(2)),
        (order.clone().group("grey"), Some(2)),
        (order.clone().group("red"), None),
        (order.clone().method("plain"), Some(3)),
        // "0.0.0" and no version are the same.
        (order.clone().method("plain").version("0.0.0"), Some(3)),
        (order.clone().method("plain").version("3.0.0"), None),
        (order.clone().method("ungrouped").version("3.0.0"), Some(4)),
        (order.clone().method("ungrouped").version("3.0.0").group("red"), None),
        (order.clone().service("q.Any").method("$echo"), Some(6)),
    ] {
        routed.takes(&call, route);
    }
    // A generic call: the method it names, and names of arguments' classes, then the arguments.
    for (named, route) in [("echo", Some(5)), ("other", None)] {
        let call = Wire::Dubbo.call(2).service("a.Generic").method("$invoke");
        let arguments = [
            support::raw::string("Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"),
            support::raw::string(named),
            b"q\x07[string\x10java.lang.String".to_vec(),
            [b"q\x07[object".to_vec(), support::raw::string("generic")].concat(),
        ];
        let bytes =
            call.dubbo_bytes(&arguments.concat(), &support::raw::map(&[("generic".into(), "true".into())]));
        routed.client.send(&bytes);
        if route.is_none() {
            let message = format!("outrigger: no route for a.Generic.{named} on listener main");
            routed.client.expect(&Wire::Dubbo.refusal(2, Refused::NoRoute, &message));
            continue;
        }
        let seen = routed.endpoints[5].next();
        assert_eq!(seen.frame.with_id(2), bytes);
        seen.answer("generic");
        routed.client.expect(&Wire::Dubbo.answer(2, "generic"));
    }
    routed.sidecar.assert_well();
}

#[test]
fn headers_and_attachments_decide_by_every_kind_of_test() {
    let mut routed = Routed::new(&[
        "headers: { color: blue, size: { present: true } }",
        "headers: { color: blue }",
        "headers: { color: { prefix: gr } }",
        "headers: { zone: { any: [a, b] } }",
        r"headers: { trace: { regex: '[0-9a-f]+' } }",
        "headers: { tag: { present: true } }",
        "service: h.One, headers: { tag: { present: false } }",
    ]);
    for wire in WIRES {
        routed.client = routed.sidecar.client();
        let call = wire.call(3);
        for (call, route) in [
            (call.clone().header("color", "blue").header("size", ""), Some(0)),
            (call.clone().header("size", "9").header("color", "blue"), Some(0)),
            (call.clone().header("color", "blue"), Some(1)),
            (call.clone().header("Color", "blue"), None),
            (call.clone().header("color", "Blue"), None),
            (call.clone().header("color", "green"), Some(2)),
            (call.clone().header("zone", "b"), Some(3)),
            (call.clone().header("zone", "ab"), None),
            (call.clone().header("trace", "00ff"), Some(4)),
            (call.clone().header("trace", "00ff-g"), None),
            (call.clone().header("tag", "x"), Some(5)),
            (call.clone().service("h.One"), Some(6)),
            (call.clone().service("h.One").header("tag", "x"), Some(5)),
            (call.clone(), None),
        ] {
            routed.takes(&call, route);
        }
    }
    routed.sidecar.assert_well();
}

#[test]
fn unknown_serializations_match_only_what_asks_for_nothing_inside_and_travel_untouched() {
    let body: Vec<u8> = (0..=255).collect();
    let mut routed = Routed::new(&["service: { prefix: '' }", "headers: { a: { present: false } }", ""]);
    // Java's own, Kryo, and one that nobody has named yet.
    for codec in [3, 8, 31] {
        let call = dubbo(0xc0 | codec, 0, 9, &body);
        routed.client.send(&call);
        let seen = routed.endpoints[2].next();
        assert_eq!(seen.frame.with_id(9), call);
        let answer = dubbo(codec, 20, seen.frame.id(), b"whatever it is");
        seen.peer.send(&answer);
        routed.client.expect(&Frame { bytes: answer }.with_id(9));
    }
    // Bolt: class and map of somebody else's.
    routed.client = routed.sidecar.client();
    for wire in [Wire::V1, Wire::V2, Wire::Crc] {
        let call = wire.bolt_request(1, 1, 9, 77, -1, "org.example.Custom", b"\xff\x00 no map", &body);
        routed.client.send(&call);
        let seen = routed.endpoints[2].next();
        assert_eq!(seen.frame.with_id(9), call);
        seen.answer("custom");
        routed.client.expect(&wire.answer(9, "custom"));
    }
    assert_eq!(routed.counts()[..2], [0, 0]);

    // Where no route asks for nothing, they are refused, in the serialization that everybody reads.
    let mut strict = Routed::new(&["service: { prefix: '' }"]);
    let message = "outrigger: no route for this call on listener main";
    strict.client.send(&dubbo(0xc3, 0, 9, &body));
    strict.client.expect(&Wire::Dubbo.refusal(9, Refused::NoRoute, message));
    strict.client = strict.sidecar.client();
    let bolt = Wire::V2.bolt_request(1, 1, 9, 77, -1, "org.example.Custom", b"\xff\x00 no map", &body);
    strict.client.send(&bolt);
    strict.client.expect(&Wire::V2.refusal_in(9, 77, Refused::NoRoute, message));
    strict.sidecar.assert_well();
}

/// A value of fastjson2's JSONB as Dubbo writes it: its length, then a string of fewer than 48 characters.
fn jsonb(text: &str) -> Vec<u8> {
    let len = text.len() as u8;
    [&[0, 0, 0, len + 1, 0x49 + len], text.as_bytes()].concat()
}

#[test]
fn fastjson2_calls_are_routed_and_refused_in_their_own_serialization() {
    let mut routed =
        Routed::new(&["service: f.One, headers: { color: blue }", "service: f.One, method: two"]);
    let call = |service: &str, method: &str, color: &str| {
        let mut attachments = vec![0xa6];
        for text in ["color", color] {
            attachments.extend(&jsonb(text)[4..]);
        }
        attachments.push(0xa5);
        let head = ["2.0.2", service, "1.0", method, "Ljava/lang/String;", "argument"].map(jsonb).concat();
        let len = (attachments.len() as u32).to_be_bytes();
        dubbo(0xc0 + 23, 0, 4, &[&head[..], &len, &attachments].concat())
    };
    for (bytes, route) in [(call("f.One", "x", "blue"), 0), (call("f.One", "two", "red"), 1)] {
        routed.client.send(&bytes);
        let seen = routed.endpoints[route].next();
        assert_eq!(seen.frame.with_id(4), bytes);
        let answer = dubbo(23, 20, seen.frame.id(), b"\0\0\0\x01\x04\0\0\0\x02\x4ax");
        seen.peer.send(&answer);
        routed.client.expect(&Frame { bytes: answer }.with_id(4));
    }
    routed.client.send(&call("f.One", "x", "red"));
    let refused = routed.client.next();
    assert_eq!((refused.bytes[2], refused.status(), refused.id()), (23, 60, 4));
    assert!(refused.contains("outrigger: no route for f.One.x on listener main"), "{refused:?}");
    let len = u32::from_be_bytes(refused.bytes[16..20].try_into().expect("four bytes"));
    assert_eq!(len as usize, refused.bytes.len() - 20, "one value with its length");
    routed.sidecar.assert_well();
}

/// Frames of real programs, requests and answers.
fn recorded(folder: &str) -> Vec<(String, Frame, Frame)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let frame = |name: String| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let byte =
            |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex digits");
        Some(Frame { bytes: digits.chunks(2).map(byte).collect() })
    };
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).expect("recorded frames are there") {
        let name = entry.expect("a file").file_name().into_string().expect("a plain name");
        if let Some(case) = name.strip_suffix(".resp.hex") {
            let (Some(asked), Some(answered)) = (frame(format!("{case}.req.hex")), frame(name.clone()))
            else {
                continue;
            };
            if asked.is_request() {
                all.push((case.to_owned(), asked, answered));
            }
        }
    }
    all
}

#[test]
fn recorded_calls_of_real_programs_pass_unchanged_but_for_their_id() {
    let upstream = Upstream::start();
    // Routes that make the sidecar read everything there is in a call.
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { service: no.Such, method: m, version: v, group: g, headers: { a: b } }, to: up }
      - { match: { headers: { a: b } }, to: up }
      - { match: { group: none }, to: up }
      - { match: {}, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut passed = 0;
    let folders = ["bolt/tests/data/frames", "dubbo/tests/data/dubbo-2.7", "dubbo/tests/data/dubbo-3.3"];
    for folder in folders.map(|folder| format!("protocols/{folder}")) {
        let mut client = sidecar.client();
        for (case, asked, answered) in recorded(&folder) {
            client.send(&asked.bytes);
            let seen = upstream.next();
            let came = Frame { bytes: seen.frame.with_id(asked.id()) };
            assert_eq!(came, asked, "{folder}/{case}");
            seen.peer.send(&answered.with_id(seen.frame.id()));
            client.expect(&answered.with_id(asked.id()));
            passed += 1;
        }
    }
    assert!(passed > 30, "only {passed} recorded calls were found");
    // What an endpoint says of itself passes too, whatever the status; and it is counted.
    for (wire, statuses) in
        [(Wire::V1, &[1, 2, 4, 0x11, 0x12][..]), (Wire::Dubbo, &[25, 30, 50, 70, 90, 100])]
    {
        let mut client = sidecar.client();
        for status in statuses {
            client.send(&wire.call(1).payload("odd status").bytes());
            let seen = upstream.next();
            let mut answer = wire.answer(seen.frame.id(), "odd status");
            answer[if wire == Wire::Dubbo { 3 } else { 11 }] = *status;
            seen.peer.send(&answer);
            client.expect(&Frame { bytes: answer }.with_id(1));
        }
    }
    sidecar.assert_well();
}

#[test]
fn each_refusal_says_in_the_words_of_its_protocol_what_was_refused_and_why() {
    let dead = format!("127.0.0.1:{}", free_port());
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { service: none }, to: none }
      - { match: { service: dead }, to: dead }";
    let clusters = format!("clusters:\n  none: {{ endpoints: [] }}\n  dead: {{ endpoints: [\"{dead}\"] }}");
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    for wire in WIRES {
        let mut client = sidecar.client();
        let id = wire.id_max();
        let unreachable = format!("outrigger: cannot reach {dead} (cluster dead)");
        for (service, why, message) in [
            ("no.Such", Refused::NoRoute, "outrigger: no route for no.Such.echo on listener main"),
            ("none", Refused::NoEndpoint, "outrigger: no endpoint for none.echo"),
            ("dead", Refused::Unreachable, &*unreachable),
            // Also while it is known to be down.
            ("dead", Refused::Unreachable, &*unreachable),
        ] {
            client.refused(&wire.call(id).service(service), why, message);
        }
        // Names are cut, and never break a line of a log.
        let rude = format!("a\nb\t{}", "x".repeat(400));
        let shown = format!("a?b?{}", "x".repeat(196));
        let message = format!("outrigger: no route for {shown}.echo on listener main");
        client.refused(&wire.call(id).service(&rude), Refused::NoRoute, &message);
    }
    for (outcome, count) in [("no_route", 8), ("no_endpoint", 4), ("unreachable", 8)] {
        assert_eq!(sidecar.outcomes("", outcome), count, "{outcome}: {}", sidecar.stats());
    }
    sidecar.assert_well();
}

#[test]
fn weights_share_the_calls_out() {
    for wire in [Wire::V1, Wire::Dubbo] {
        let endpoints = [Upstream::start(), Upstream::start(), Upstream::start()];
        let listener = "    protocol: [bolt, dubbo]
    routes: [{ match: { service: t.Echo }, weights: { most: 80, some: 20, none: 0 } }]";
        let named = ["most", "some", "none"].iter().zip(&endpoints);
        let clusters: Vec<String> = named
            .map(|(name, endpoint)| format!("  {name}: {{ endpoints: [\"{}\"] }}", endpoint.address()))
            .collect();
        let clusters = format!("clusters:\n{}", clusters.join("\n"));
        let mut sidecar = Sidecar::start(&conf(listener, &clusters));
        let mut client = sidecar.client();
        for id in 0..1_000 {
            client.well(wire, id);
        }
        let [most, some, none] = endpoints.each_ref().map(Upstream::calls);
        assert_eq!((most + some, none), (1_000, 0));
        // A fair draw leaves these bounds less than once in a billion times.
        assert!((120..=280).contains(&some), "{some} of 1000 where 200 were due");
        sidecar.assert_well();
    }
}

#[test]
fn every_balance_uses_all_endpoints_and_some_look_at_their_load() {
    for balance in ["round_robin", "random", "least_request", "p2c_ewma"] {
        let endpoints = [Upstream::start(), Upstream::start(), Upstream::start()];
        let listed: Vec<_> = endpoints.iter().map(|one| format!("{:?}", one.address())).collect();
        let clusters =
            format!("clusters:\n  up: {{ endpoints: [{}], balance: {balance} }}", listed.join(", "));
        let listener = "    protocol: [bolt, dubbo]\n    routes: [{ match: {}, to: up }]";
        let mut sidecar = Sidecar::start(&conf(listener, &clusters));
        let mut client = sidecar.client();
        for id in 0..300 {
            client.well(Wire::Dubbo, id);
        }
        let counts = endpoints.each_ref().map(Upstream::calls);
        assert_eq!(counts.iter().sum::<usize>(), 300);
        if balance == "round_robin" {
            assert_eq!(counts, [100, 100, 100]);
        }
        assert!(balance == "p2c_ewma" || counts.iter().all(|count| *count >= 50), "{balance}: {counts:?}");
        if balance == "least_request" {
            // Each holds one call; the next go to whoever answered.
            for id in 0..3 {
                client.send(&Wire::Dubbo.call(id).payload("held").bytes());
            }
            let held = endpoints.each_ref().map(Upstream::next);
            held[1].answer("free again");
            client.next();
            for id in 0..30 {
                client.well(Wire::Dubbo, id);
            }
            let now = endpoints.each_ref().map(Upstream::calls);
            assert_eq!([now[0] - counts[0], now[1] - counts[1], now[2] - counts[2]], [1, 31, 1]);
        }
        sidecar.assert_well();
    }
}

#[test]
fn a_limit_lets_its_burst_pass_and_refuses_the_rest() {
    let upstream = Upstream::start();
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { service: few }, to: up, limit: { rate: 10/h, burst: 4 } }
      - { match: { service: whole }, to: up, limit: { rate: 6/h } }
      - { match: { service: quick }, to: up, limit: { rate: 20/s, burst: 1 } }
      - { match: {}, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    // The limit is the route's, whoever calls and in whatever protocol.
    let mut clients = WIRES.map(|wire| (wire, sidecar.client()));
    for (service, burst) in [("few", 4), ("whole", 6)] {
        for turn in 0..12 {
            let (wire, client) = &mut clients[turn % 4];
            let call = wire.call(turn as u64).service(service);
            if turn < burst {
                assert_eq!(client.ask(&call).bytes, wire.answer(turn as u64, ECHO), "{service} {turn}");
            } else {
                let message = format!("outrigger: rate limit reached for {service}.echo");
                client.refused(&call, Refused::Limited, &message);
            }
            client.well(*wire, 99);
        }
    }
    assert_eq!(sidecar.outcomes("", "limited"), 14);
    // It fills up again with time.
    let (wire, client) = &mut clients[0];
    let end = Instant::now() + Duration::from_secs(10);
    let mut passed = 0;
    while passed < 4 {
        passed += usize::from(client.ask(&wire.call(1).service("quick")).status() == 0);
        assert!(Instant::now() < end, "a limit of 20/s let {passed} pass in ten seconds");
    }
    sidecar.assert_well();
}

/// A call that is never answered must be refused by the timeout, between these times after it was sent.
#[track_caller]
fn times_out(client: &mut Client, upstream: &Upstream, call: &Call, least: u64) -> Frame {
    let start = Instant::now();
    client.send(&call.bytes());
    let seen = upstream.next();
    let answer = client.next();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(least) && took < TIMEOUT_SEEN_MAX, "{took:?} for {call:?}");
    let status = if call.wire == Wire::Dubbo { 31 } else { 7 };
    assert_eq!((answer.id(), answer.status()), (call.id, status), "{answer:?}");
    let message = format!("outrigger: no answer from {} (cluster up) within ", upstream.address());
    assert!(answer.contains(&message), "{answer:?}");
    if call.wire == Wire::Dubbo {
        assert!(hessian_text(&answer.bytes[16..]).ends_with(" ms"), "{answer:?}");
    }
    seen.frame
}

#[test]
fn of_the_routes_timeout_and_the_callers_own_the_smaller_wins() {
    let upstream = Upstream::start();
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { service: short }, to: up, timeout: 250ms }
      - { match: { service: long }, to: up, timeout: 20s }
      - { match: { service: zero }, to: up, timeout: 0s }
      - { match: {}, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    for wire in WIRES {
        let mut client = sidecar.client();
        let call = |service: &str| wire.call(5).service(service).payload("never answered");
        let seen = times_out(&mut client, &upstream, &call("short"), 250);
        // The provider is told, although the caller wrote none, or one that means none.
        assert!((1..=250).contains(&seen.timeout()), "{seen:?}");
        let seen = times_out(&mut client, &upstream, &call("short").timeout(0), 250);
        assert!((1..=250).contains(&seen.timeout()), "{seen:?}");
        let seen = times_out(&mut client, &upstream, &call("short").timeout(20_000), 250);
        assert!((1..=250).contains(&seen.timeout()), "{seen:?}");
        let seen = times_out(&mut client, &upstream, &call("long").timeout(200), 200);
        assert_eq!(seen.timeout(), 200, "{seen:?}");
        let seen = times_out(&mut client, &upstream, &call("zero").timeout(200), 200);
        assert_eq!(seen.timeout(), 200, "{seen:?}");
        times_out(&mut client, &upstream, &call("t.Echo").timeout(200), 200);
        client.well(wire, 6);
    }
    assert_eq!(sidecar.outcomes("", "timed_out"), WIRES.len() as u64 * 6);
    // Nobody waits for the answer to a call that has none.
    for wire in WIRES {
        let call = wire.call(7).service("short").one_way().payload("nobody waits").bytes();
        sidecar.client().send(&call);
        let seen = upstream.next().frame;
        assert_eq!((seen.timeout(), seen.bytes.len()), (-1, call.len()), "{wire:?}");
    }
    sidecar.assert_well();
}

#[test]
fn where_nobody_sets_a_timeout_there_is_none() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let mut waiting = Vec::new();
    for wire in WIRES {
        // -1 or nothing at all, and zero.
        for call in [wire.call(1), wire.call(1).timeout(0)] {
            let mut client = sidecar.client();
            client.send(&call.payload("at leisure").bytes());
            waiting.push((wire, client, upstream.next()));
        }
    }
    std::thread::sleep(Duration::from_millis(1_500));
    for (wire, client, seen) in &mut waiting {
        client.silent(Duration::from_millis(10));
        seen.answer("no hurry");
        client.expect(&wire.answer(1, "no hurry"));
    }
    sidecar.assert_well();
}

#[test]
fn many_callers_and_many_calls_each_get_their_own_answer() {
    const CALLERS: usize = 8;
    const CALLS: u64 = 300;
    let endpoints = [Upstream::start(), Upstream::start()];
    let clusters = format!(
        "clusters:\n  up: {{ endpoints: [\"{}\", \"{}\"], connections: 2 }}",
        endpoints[0].address(),
        endpoints[1].address()
    );
    let listener =
        "    protocol: [bolt, dubbo]\n    routes: [{ match: { method: echo }, to: up, timeout: 30s }]";
    let text = conf(listener, &clusters).replace("workers: 1", "workers: 2");
    let mut sidecar = Sidecar::start(&text);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let mut client = sidecar.client();
            scope.spawn(move || {
                let wire = WIRES[caller % WIRES.len()];
                let payload = |id| format!("{ECHO} {caller} {id} {}", "p".repeat(id as usize * 37 % 9_000));
                let calls: Vec<u8> =
                    (0..CALLS).flat_map(|id| wire.call(id).payload(&payload(id)).bytes()).collect();
                let mut stream = client.stream.try_clone().expect("a socket can be shared");
                let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &calls));
                let mut seen = vec![false; CALLS as usize];
                for _ in 0..CALLS {
                    let answer = client.next();
                    let id = answer.id();
                    assert_eq!(answer.bytes, wire.answer(id, &payload(id)), "another call's answer");
                    assert!(!std::mem::replace(&mut seen[id as usize], true), "{id} was answered twice");
                }
                writer.join().expect("the writer does not panic").expect("the sidecar reads");
                client.silent(SILENCE);
            });
        }
    });
    let due = CALLERS as u64 * CALLS;
    assert_eq!(endpoints.iter().map(Upstream::calls).sum::<usize>() as u64, due);
    assert_eq!(sidecar.outcomes("", "ok"), due);
    sidecar.assert_well();
}
