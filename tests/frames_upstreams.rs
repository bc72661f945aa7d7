//! Endpoints that misbehave, leave or are slow, behind Bolt and Dubbo listeners, over real sockets.
//!
//! Whatever an endpoint does, every call is answered once, in its own protocol, with its own answer or a reason;
//! nothing is sent twice; and callers of other endpoints do not notice. Times are only ever bounded generously: what
//! is asserted is that something happens at all, or not at all.

mod support;

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::echo::{Canary, Upstream, conf, straight};
use support::raw::{ANSWER_MAX, Client, ECHO, Frame, Refused, WIRES, Wire, dubbo, timed};
use support::{Sidecar, free_port, within};

/// What the product promises for a lost endpoint is 100 ms; a busy machine gets more.
const LOST_MAX: Duration = Duration::from_secs(1);
const CLOSE_MAX: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(150);

fn lost(upstream: &Upstream) -> String {
    format!("outrigger: connection to {} (cluster up) was lost before the answer", upstream.address())
}

fn unreachable(address: &str) -> String {
    format!("outrigger: cannot reach {address} (cluster up)")
}

/// Everything to the cluster `up`, made of these endpoints.
fn all_to(endpoints: &[&Upstream], further: &str) -> String {
    let listed: Vec<_> = endpoints.iter().map(|upstream| format!("{:?}", upstream.address())).collect();
    let clusters = format!("clusters:\n  up: {{ endpoints: [{}], {further} }}", listed.join(", "));
    conf("    protocol: [bolt, dubbo]\n    routes: [{ match: {}, to: up }]", &clusters)
}

/// Bolt asks an endpoint that is silent for 15 s; of three questions without an answer the connection dies.
#[test]
fn a_silent_bolt_endpoint_is_asked_for_signs_of_life_and_given_up_after_three() {
    let (mute, living) = (Upstream::start(), Upstream::start());
    mute.ignore_heartbeats();
    let listener = "    protocol: bolt
    routes:
      - { match: { service: mute }, to: mute }
      - { match: {}, to: living }";
    let clusters = format!(
        "clusters:\n  mute: {{ endpoints: [\"{}\"] }}\n  living: {{ endpoints: [\"{}\"] }}",
        mute.address(),
        living.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut client = sidecar.client();
    // No timeout anywhere: signs of life must not depend on one.
    for wire in [Wire::V1, Wire::V2] {
        client.send(&wire.call(1).bytes());
        client.expect(&wire.answer(1, ECHO));
    }
    let call = Wire::V1.call(2).service("mute").payload("never answered");
    let start = Instant::now();
    client.send(&call.bytes());
    let seen = mute.next();
    let message =
        format!("outrigger: connection to {} (cluster mute) was lost before the answer", mute.address());
    client.stream.set_read_timeout(Some(Duration::from_secs(40))).expect("a socket option");
    client.expect(&Wire::V1.refusal(2, Refused::Unreachable, &message));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(17) && took < Duration::from_secs(35), "given up after {took:?}");
    assert_eq!(mute.heartbeats(), 3, "{seen:?}");
    assert!(within(CLOSE_MAX, || mute.peers().is_empty()), "its connection is closed");
    assert_eq!(sidecar.events("bolt", "heartbeats_missed"), 1);
    // The others were asked too, answered, and still have their connections.
    assert_eq!((living.heartbeats(), living.accepted(), living.peers().len()), (2, 2, 2));
    client.well(Wire::V1, 3);
    client.well(Wire::V2, 4);
    assert_eq!(living.accepted(), 2);
    sidecar.assert_well();
}

#[test]
fn a_caller_that_is_silent_is_closed_after_the_keepalive_timeout_and_not_before_its_answer() {
    let upstream = Upstream::start();
    let listener =
        "    protocol: [bolt, dubbo]\n    keepalive_timeout: 400ms\n    routes: [{ match: {}, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    for wire in [Wire::V1, Wire::Dubbo] {
        let mut client = sidecar.client();
        client.send(&wire.heartbeat(1));
        client.expect(&wire.heartbeat_answer(1));
        client.closed(CLOSE_MAX);

        let mut waits = sidecar.client();
        waits.send(&wire.call(1).payload("slow").bytes());
        let seen = upstream.next();
        waits.silent(Duration::from_millis(1_200));
        seen.answer("at last");
        waits.expect(&wire.answer(1, "at last"));
        waits.closed(CLOSE_MAX);
        assert_eq!(sidecar.events(wire.protocol(), "idle_callers"), 2);
    }
    sidecar.assert_well();
}

#[test]
fn a_caller_that_never_said_anything_is_closed_after_the_keepalive_timeout_too() {
    let upstream = Upstream::start();
    for protocol in ["bolt", "dubbo"] {
        let listener = format!(
            "    protocol: {protocol}\n    keepalive_timeout: 400ms\n    routes: [{{ match: {{}}, to: up }}]"
        );
        let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
        let mut sidecar = Sidecar::start(&conf(&listener, &clusters));
        sidecar.client().closed(CLOSE_MAX);
        sidecar.assert_well();
    }
}

#[test]
fn an_endpoint_that_says_goodbye_finishes_its_calls_and_gets_no_new_ones() {
    for wire in [Wire::V1, Wire::Crc, Wire::Dubbo] {
        let (leaving, staying) = (Upstream::start(), Upstream::start());
        let mut sidecar = Sidecar::start(&all_to(&[&leaving, &staying], "balance: round_robin"));
        let mut client = sidecar.client();
        // One call waits at each.
        client.send(&wire.call(1).payload("one").bytes());
        client.send(&wire.call(2).payload("two").bytes());
        let (at_leaving, at_staying) = (leaving.next(), staying.next());
        at_leaving.peer.send(&wire.retire(0));
        assert!(within(CLOSE_MAX, || sidecar.events(wire.protocol(), "retired") == 1));
        for id in 10..30 {
            client.well(wire, id);
        }
        assert_eq!((leaving.calls(), staying.calls()), (1, 21));
        let waiting = at_leaving.frame.payload();
        at_leaving.answer("in the end");
        client.expect(&wire.answer(if waiting == "one" { 1 } else { 2 }, "in the end"));
        assert!(within(CLOSE_MAX, || leaving.peers().is_empty()), "a connection with nothing left is closed");
        at_staying.answer("still here");
        assert_eq!(client.next().payload(), "still here");
        sidecar.assert_well();
    }
}

#[test]
fn the_only_endpoint_that_says_goodbye_gets_a_new_connection() {
    for wire in [Wire::V2, Wire::Dubbo] {
        let upstream = Upstream::start();
        let mut sidecar = straight(wire.protocol(), &upstream);
        let mut client = sidecar.client();
        client.send(&wire.call(1).payload("in flight").bytes());
        let seen = upstream.next();
        seen.peer.send(&wire.retire(3));
        assert!(within(CLOSE_MAX, || sidecar.events(wire.protocol(), "retired") == 1));
        client.well(wire, 2);
        assert_eq!(upstream.accepted(), 2);
        seen.answer("not lost");
        client.expect(&wire.answer(1, "not lost"));
        assert!(within(CLOSE_MAX, || upstream.peers().len() == 1));
        sidecar.assert_well();
    }
}

#[test]
fn dubbo_events_that_are_no_goodbye_change_nothing() {
    let upstream = Upstream::start();
    let mut sidecar = straight("dubbo", &upstream);
    let mut client = sidecar.client();
    client.send(&Wire::Dubbo.call(1).payload("in flight").bytes());
    let seen = upstream.next();
    // WRITEABLE, a heartbeat that wants no answer, an unknown event, and a heartbeat that wants one.
    for body in [&b"\x01W"[..], b"\x4e", b"\x01X"] {
        seen.peer.send(&dubbo(0xa2, 0, 5, body));
    }
    seen.peer.send(&Wire::Dubbo.heartbeat(u64::MAX));
    let answer = upstream.next();
    assert_eq!(answer.frame.bytes, Wire::Dubbo.heartbeat_answer(u64::MAX));
    seen.answer("as ever");
    client.expect(&Wire::Dubbo.answer(1, "as ever"));
    client.well(Wire::Dubbo, 2);
    assert_eq!((upstream.accepted(), sidecar.events("dubbo", "retired")), (1, 0));
    sidecar.assert_well();
}

#[test]
fn calls_in_flight_at_an_endpoint_that_dies_are_answered_at_once() {
    const EACH: u64 = 50;
    for wire in WIRES {
        let mut upstream = Upstream::start();
        let mut sidecar = straight("[bolt, dubbo]", &upstream);
        let mut clients = [sidecar.client(), sidecar.client()];
        for client in &mut clients {
            let calls: Vec<u8> = (0..EACH).flat_map(|id| wire.call(id).payload("doomed").bytes()).collect();
            client.send(&calls);
        }
        for _ in 0..2 * EACH {
            upstream.next();
        }
        let ((), took) = timed(|| {
            upstream.stop();
            for client in &mut clients {
                let mut came: Vec<_> = (0..EACH).map(|_| client.next().bytes).collect();
                came.sort_unstable();
                let mut due: Vec<_> =
                    (0..EACH).map(|id| wire.refusal(id, Refused::Unreachable, &lost(&upstream))).collect();
                due.sort_unstable();
                assert!(came == due, "{wire:?}: other answers than those due");
            }
        });
        assert!(took < LOST_MAX, "{wire:?}: answered after {took:?}");
        assert_eq!(sidecar.outcomes("", "unreachable"), 2 * EACH);
        assert_eq!(sidecar.events(wire.protocol(), "up_lost"), 1);
        // And those that come after it.
        clients[0].refused(&wire.call(99), Refused::Unreachable, &unreachable(&upstream.address()));
        // Back on its port, it is used again.
        let again = Upstream::start_at(upstream.port());
        let back = within(ANSWER_MAX, || clients[1].ask(&wire.call(100)).bytes == wire.answer(100, ECHO));
        assert!(back, "{wire:?}");
        assert!(again.calls() > 0);
        sidecar.assert_well();
    }
}

#[test]
fn while_an_endpoint_dies_and_returns_each_call_gets_one_answer_of_its_own_or_the_reason() {
    const DEATHS: usize = 12;
    let staying = Upstream::start();
    let mut dying = Upstream::start();
    let mut sidecar = Sidecar::start(&all_to(&[&staying, &dying], "balance: round_robin"));
    let (ending, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let reasons = [lost(&dying), unreachable(&dying.address())];
    std::thread::scope(|scope| {
        for wire in WIRES {
            let mut client = sidecar.client();
            let (ending, rounds, reasons) = (&ending, &rounds, &reasons);
            scope.spawn(move || {
                while !ending.load(Ordering::Relaxed) {
                    let payload = |id: u64| format!("{ECHO} {id}");
                    client.send(
                        &(0..20)
                            .flat_map(|id| wire.call(id).payload(&payload(id)).bytes())
                            .collect::<Vec<_>>(),
                    );
                    let mut seen = [false; 20];
                    for _ in 0..20 {
                        let answer = client.next();
                        let id = answer.id();
                        let own = answer.bytes == wire.answer(id, &payload(id));
                        let refused = |reason| answer.bytes == wire.refusal(id, Refused::Unreachable, reason);
                        assert!(own || reasons.iter().any(|reason| refused(reason)), "{answer:?}");
                        assert!(!std::mem::replace(&mut seen[id as usize], true), "{id} was answered twice");
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                client.silent(SILENCE);
            });
        }
        for _ in 0..DEATHS {
            let before = rounds.load(Ordering::Relaxed);
            assert!(within(ANSWER_MAX, || rounds.load(Ordering::Relaxed) >= before + 8), "calls go on");
            dying.stop();
            std::thread::sleep(Duration::from_millis(20));
            dying = Upstream::start_at(dying.port());
        }
        ending.store(true, Ordering::Relaxed);
    });
    let stats = sidecar.stats();
    let made = 20 * rounds.load(Ordering::Relaxed) as u64;
    assert_eq!(sidecar.outcomes("", "ok") + sidecar.outcomes("", "unreachable"), made, "{stats}");
    let clusters: serde_json::Value = serde_json::from_str(&sidecar.admin_get("/clusters").1).expect("JSON");
    for endpoint in clusters["clusters"]["up"]["endpoints"].as_array().expect("endpoints") {
        assert_eq!(endpoint["in_flight"], 0, "{clusters}");
    }
    // Once back, back for good.
    let mut client = sidecar.client();
    let arrived = dying.calls();
    assert!(within(ANSWER_MAX, || {
        client.ask(&Wire::V1.call(1));
        dying.calls() > arrived
    }));
    (0..50).for_each(|id| client.well(Wire::V1, id));
    sidecar.assert_well();
}

#[test]
fn an_endpoint_that_dies_in_the_middle_of_a_frame_gives_no_half_answer() {
    for wire in WIRES {
        let upstream = Upstream::start();
        let mut sidecar = straight("[bolt, dubbo]", &upstream);
        let mut client = sidecar.client();
        client.send(&wire.call(5).payload("half").bytes());
        let seen = upstream.next();
        let answer = wire.answer(seen.frame.id(), "only half of this arrives");
        seen.peer.send(&answer[..answer.len() / 2]);
        client.silent(SILENCE);
        seen.peer.close();
        client.expect(&wire.refusal(5, Refused::Unreachable, &lost(&upstream)));
        client.well(wire, 6);
        sidecar.assert_well();
    }
}

#[test]
fn an_endpoint_whose_bytes_are_no_frames_or_too_long_loses_its_connection() {
    for wire in WIRES {
        let upstream = Upstream::start();
        let mut sidecar = straight("[bolt, dubbo]", &upstream);
        let mut client = sidecar.client();
        client.send(&wire.call(5).payload("garbage").bytes());
        upstream.next().peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        client.expect(&wire.refusal(5, Refused::Unreachable, &lost(&upstream)));
        assert_eq!(sidecar.events(wire.protocol(), "malformed"), 1);

        client.send(&wire.call(6).payload("too long").bytes());
        client.send(&wire.call(7).payload("beside it").bytes());
        let (long, _) = (upstream.next(), upstream.next());
        let mut head = wire.answer(long.frame.id(), "");
        let fixed = match wire {
            Wire::Dubbo => 16,
            Wire::V1 => 20,
            _ => 22,
        };
        head.truncate(fixed);
        head[fixed - 4..].copy_from_slice(&(9_u32 << 20).to_be_bytes());
        long.peer.send(&head);
        let whole = fixed + (9 << 20) + if wire == Wire::Crc { 4 } else { 0 };
        let message = format!("outrigger: frame of {whole} bytes is larger than frame_max (8388608)");
        client.expect(&wire.refusal(6, Refused::TooLarge, &message));
        client.expect(&wire.refusal(7, Refused::Unreachable, &lost(&upstream)));
        assert_eq!(sidecar.events(wire.protocol(), "too_large"), 1);
        client.well(wire, 8);
        sidecar.assert_well();
    }
}

#[test]
fn calls_that_were_not_sent_go_to_another_endpoint() {
    for wire in WIRES {
        let living = Upstream::start();
        let dead = format!("127.0.0.1:{}", free_port());
        let clusters = format!(
            "clusters:\n  up: {{ endpoints: [\"{dead}\", \"{}\"], balance: round_robin }}",
            living.address()
        );
        let listener = "    protocol: [bolt, dubbo]\n    routes: [{ match: {}, to: up }]";
        let mut sidecar = Sidecar::start(&conf(listener, &clusters));
        let mut client = sidecar.client();
        for id in 0..50 {
            client.well(wire, id);
        }
        // One-way calls too.
        for _ in 0..10 {
            client.send(&wire.call(1).one_way().payload("one-way").bytes());
            living.next();
        }
        assert!(sidecar.events(wire.protocol(), "moved") >= 1);
        assert_eq!(sidecar.events(wire.protocol(), "up_failed"), sidecar.events(wire.protocol(), "moved"));
        assert_eq!(sidecar.outcomes("", "ok"), 50);
        sidecar.assert_well();
    }
}

/// A port on which the kernel takes no more connections: who dials it waits.
fn full_port() -> (socket2::Socket, u16, Vec<std::net::TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port");
    socket.listen(0).expect("it can listen");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the kernel takes every connection");
    }
    (socket, address.port(), waiting)
}

#[test]
fn an_endpoint_that_takes_no_connection_is_given_up_after_connect_timeout() {
    let (_socket, port, _waiting) = full_port();
    let living = Upstream::start();
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { service: alone }, to: up }
      - { match: {}, to: both }";
    let clusters = format!(
        "clusters:\n  up: {{ endpoints: [\"127.0.0.1:{port}\"], connect_timeout: 300ms }}\n  \
         both: {{ endpoints: [\"127.0.0.1:{port}\", \"{}\"], connect_timeout: 300ms, balance: round_robin }}",
        living.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    for wire in WIRES {
        let mut client = sidecar.client();
        let message = unreachable(&format!("127.0.0.1:{port}"));
        let ((), took) =
            timed(|| client.refused(&wire.call(1).service("alone"), Refused::Unreachable, &message));
        assert!(took < Duration::from_secs(3), "{took:?}");
        // Nothing was sent, so where there is another endpoint the call goes there.
        let ((), took) = timed(|| (0..10).for_each(|id| client.well(wire, id)));
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    assert_eq!(living.calls(), 40);
    sidecar.assert_well();
}

#[test]
fn idle_and_old_connections_to_an_endpoint_are_replaced_without_losing_a_call() {
    for (further, idle) in [("idle_timeout: 400ms", true), ("max_age: 400ms", false)] {
        let upstream = Upstream::start();
        let mut sidecar = Sidecar::start(&all_to(&[&upstream], further));
        let mut client = sidecar.client();
        client.send(&Wire::Dubbo.call(1).payload("held").bytes());
        let held = upstream.next();
        std::thread::sleep(Duration::from_millis(1_200));
        // A call in flight is no idleness, but it does not keep a connection young.
        client.well(Wire::Dubbo, 2);
        assert_eq!(upstream.accepted(), if idle { 1 } else { 2 }, "{further}");
        held.answer("not lost");
        client.expect(&Wire::Dubbo.answer(1, "not lost"));
        assert!(within(CLOSE_MAX, || upstream.peers().is_empty()), "{further}: {}", sidecar.stats());
        client.well(Wire::Dubbo, 3);
        assert_eq!(sidecar.outcomes("", "ok"), 3);
        assert_eq!(sidecar.events("dubbo", "up_lost"), 0);
        sidecar.assert_well();
    }
}

#[test]
fn a_call_that_was_sent_is_never_sent_again() {
    for wire in WIRES {
        let endpoints = [Upstream::start(), Upstream::start()];
        let mut sidecar = Sidecar::start(&all_to(&[&endpoints[0], &endpoints[1]], ""));
        let mut client = sidecar.client();
        client.send(&wire.call(5).payload("once").bytes());
        assert!(within(ANSWER_MAX, || endpoints[0].calls() + endpoints[1].calls() == 1));
        let had = &endpoints[usize::from(endpoints[1].calls() == 1)];
        had.next().peer.close();
        client.expect(&wire.refusal(5, Refused::Unreachable, &lost(had)));
        std::thread::sleep(SILENCE);
        assert_eq!(endpoints[0].calls() + endpoints[1].calls(), 1);
        sidecar.assert_well();
    }
}

#[test]
fn versions_of_bolt_never_share_a_connection_to_an_endpoint() {
    let upstream = Upstream::start();
    let mut sidecar = straight("bolt", &upstream);
    let mut client = sidecar.client();
    let wires = [Wire::V1, Wire::V2, Wire::Crc];
    for round in 0..20 {
        for wire in wires {
            client.send(&wire.call(round).payload(&format!("{wire:?}")).bytes());
        }
    }
    let mut spoken = std::collections::BTreeMap::new();
    for _ in 0..20 * wires.len() {
        let seen = upstream.next();
        let wire = seen.frame.wire();
        assert_eq!(seen.frame.payload(), format!("{wire:?}"));
        assert_eq!(*spoken.entry(seen.peer.number).or_insert(wire), wire, "two versions on one connection");
        seen.answer("well");
    }
    assert_eq!((spoken.len(), upstream.accepted()), (3, 3));
    for _ in 0..20 * wires.len() {
        assert_eq!(client.next().payload(), "well");
    }
    sidecar.assert_well();
}

#[test]
fn connections_to_an_endpoint_are_as_many_as_the_conf_says_and_all_are_used() {
    for (connections, callers) in [(1, 8), (3, 8)] {
        let upstream = Upstream::start();
        let sidecar = Sidecar::start(&all_to(&[&upstream], &format!("connections: {connections}")));
        let mut clients: Vec<Client> = (0..callers).map(|_| sidecar.client()).collect();
        let mut used = std::collections::BTreeMap::new();
        for _ in 0..6 {
            for client in &mut clients {
                client.send(&Wire::Dubbo.call(1).payload("held").bytes());
            }
            let held: Vec<_> = clients.iter().map(|_| upstream.next()).collect();
            for one in &held {
                *used.entry(one.peer.number).or_insert(0) += 1;
                one.answer("released");
            }
            for client in &mut clients {
                client.expect(&Wire::Dubbo.answer(1, "released"));
            }
        }
        assert_eq!((used.len(), upstream.accepted()), (connections, connections), "{used:?}");
        assert_eq!(upstream.peers().len(), connections);
    }
}

#[test]
fn more_calls_than_pending_max_are_refused_and_places_are_given_back() {
    for wire in WIRES {
        let upstream = Upstream::start();
        let mut sidecar = Sidecar::start(&all_to(&[&upstream], "pending_max: 3"));
        let mut client = sidecar.client();
        let message = format!("outrigger: too many calls waiting for {} (cluster up)", upstream.address());
        for round in 0..3 {
            let held: Vec<_> = (0..3)
                .map(|id| {
                    client.send(&wire.call(id).payload("held").bytes());
                    upstream.next()
                })
                .collect();
            client.refused(&wire.call(9), Refused::Overloaded, &message);
            assert_eq!(sidecar.outcomes("", "overloaded"), round + 1);
            for (id, one) in held.iter().enumerate() {
                one.answer("released");
                client.expect(&wire.answer(id as u64, "released"));
            }
        }
        assert_eq!(upstream.calls(), 9);
        sidecar.assert_well();
    }
}

#[test]
fn calls_from_an_endpoint_to_its_caller_are_refused() {
    let message = "outrigger: calls from a provider to its consumer are not carried";
    for wire in WIRES {
        let upstream = Upstream::start();
        let mut sidecar = straight("[bolt, dubbo]", &upstream);
        let mut client = sidecar.client();
        client.send(&wire.call(1).payload("registers a callback").bytes());
        let seen = upstream.next();
        let id = seen.frame.id();
        // The callback has the id of the call, as ids of the two sides may well be the same.
        seen.peer.send(&wire.call(id).service("t.Callback").bytes());
        let refused = upstream.next();
        assert_eq!(refused.frame.bytes, wire.refusal(id, Refused::NoRoute, message));
        // One that waits for no answer gets none.
        seen.peer.send(&wire.call(8).one_way().bytes());
        upstream.silent(SILENCE);
        client.silent(Duration::from_millis(20));
        seen.answer("and this is its answer");
        client.expect(&wire.answer(1, "and this is its answer"));
        assert_eq!(sidecar.events(wire.protocol(), "callbacks_refused"), 2);
        sidecar.assert_well();
    }
}

/// An endpoint of the other protocol, or one that is slow, must not stall callers who also call elsewhere.
#[test]
fn an_endpoint_that_does_not_read_slows_only_its_own_calls() {
    let stuck = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = stuck.local_addr().expect("an address");
    let quick = Upstream::start();
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { service: stuck }, to: stuck, timeout: 30s }
      - { match: {}, to: quick }";
    let clusters = format!(
        "clusters:\n  stuck: {{ endpoints: [\"{address}\"] }}\n  quick: {{ endpoints: [\"{}\"] }}",
        quick.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let before = sidecar.rss_kib();
    let mut client = sidecar.client();
    let big = Wire::Dubbo.call(1).service("stuck").payload(&"x".repeat(256 << 10)).bytes();
    let flood = client.stream.try_clone().expect("a socket can be shared");
    let writer = std::thread::spawn(move || {
        // 64 MiB; blocks while the sidecar does not read, which is what bounds its memory.
        for _ in 0..256 {
            if (&flood).write_all(&big).is_err() {
                return false;
            }
        }
        (&flood).write_all(&Wire::Dubbo.call(2).bytes()).is_ok()
    });
    let (_held, _) = stuck.accept().expect("the sidecar connects");
    // Others are served all the while.
    let mut other = sidecar.client();
    for id in 0..50 {
        let ((), took) = timed(|| other.well(Wire::Dubbo, id));
        assert!(took < Duration::from_secs(2), "{took:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The flooded one itself gets its other service too, when the stuck endpoint has had its chance.
    let mut refused = 0;
    let last = loop {
        let frame = client.next();
        if frame.id() == 2 {
            break frame;
        }
        assert_eq!((frame.id(), frame.wire()), (1, Wire::Dubbo));
        assert!([100, 80].contains(&frame.status()), "{frame:?}");
        refused += 1;
    };
    assert_eq!(last.bytes, Wire::Dubbo.answer(2, ECHO));
    assert!(refused > 0, "calls beyond the bound are refused");
    assert!(writer.join().expect("the writer does not panic"), "the flood was not taken in");
    let grown = sidecar.rss_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB held for an endpoint that does not read");
    sidecar.assert_well();
}

#[test]
fn one_way_calls_wait_for_a_slow_endpoint_as_others_do() {
    const CALLS: usize = 160;
    let slow = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = slow.local_addr().expect("an address");
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{address}\"] }}");
    let listener = "    protocol: [bolt, dubbo]\n    routes: [{ match: {}, to: up }]";
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let before = sidecar.rss_kib();
    let client = sidecar.client();
    let big = Wire::Dubbo.call(1).one_way().payload(&"x".repeat(256 << 10)).bytes();
    let writer = std::thread::spawn(move || {
        for _ in 0..CALLS {
            (&client.stream).write_all(&big).expect("the sidecar reads, if slowly");
        }
        client
    });
    let (stream, _) = slow.accept().expect("the sidecar connects");
    // Shorter than what makes an endpoint a stalled one.
    std::thread::sleep(Duration::from_millis(700));
    let grown = sidecar.rss_kib().saturating_sub(before);
    let mut from = std::io::BufReader::new(stream);
    for _ in 0..CALLS {
        let frame = Frame::read(&mut from).expect("whole frames come").expect("all of them");
        assert!(frame.is_one_way());
    }
    drop(writer.join().expect("the writer does not panic"));
    assert!(grown < 16 << 10, "{grown} KiB held for an endpoint that does not read");
    assert_eq!(sidecar.outcomes("", "one_way"), CALLS as u64, "{}", sidecar.stats());
    sidecar.assert_well();
}

#[test]
fn a_caller_that_does_not_read_is_bounded_and_then_closed_while_others_go_on() {
    let upstream = Upstream::start();
    let rest = format!(
        "limits: {{ outbox_max: 4MiB }}\nclusters:\n  up: {{ endpoints: [\"{}\"] }}",
        upstream.address()
    );
    let listener = "    protocol: [bolt, dubbo]\n    routes: [{ match: {}, to: up }]";
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    let before = sidecar.rss_kib();
    let mut lazy = sidecar.client();
    // A hundred calls, each answered by a quarter of a mebibyte: 25 MiB, with 4 allowed to wait.
    for id in 0..100 {
        lazy.send(&Wire::V1.call(id).payload("much").bytes());
    }
    let much = "y".repeat(256 << 10);
    let mut other = sidecar.client();
    for id in 0..100 {
        let seen = upstream.next();
        seen.answer(&much);
        other.well(Wire::V1, id);
    }
    assert!(within(CLOSE_MAX, || sidecar.events("bolt", "slow_callers") == 1), "{}", sidecar.stats());
    let grown = sidecar.rss_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB held for a caller that does not read");
    // What it reads now are whole answers, then the end.
    let mut whole = 0;
    let mut from = std::io::BufReader::new(&lazy.stream);
    while let Ok(Some(frame)) = Frame::read(&mut from) {
        assert_eq!(frame.payload().len(), much.len());
        whole += 1;
    }
    assert!(whole < 100, "it was closed");
    other.well(Wire::V1, 200);
    sidecar.assert_well();
}

#[test]
fn a_caller_that_reads_slowly_gets_everything_and_slows_only_itself() {
    const ANSWERS: u64 = 24;
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    let before = sidecar.rss_kib();
    let mut slow = sidecar.client();
    let much = format!("{ECHO}{}", "z".repeat(1 << 20));
    let writer = {
        let stream = slow.stream.try_clone().expect("a socket can be shared");
        let call = Wire::Dubbo.call(0).payload(&much);
        std::thread::spawn(move || {
            for id in 0..ANSWERS {
                let mut call = call.clone();
                call.id = id;
                (&stream).write_all(&call.bytes()).expect("the sidecar reads, if slowly");
            }
        })
    };
    let mut other = sidecar.client();
    let mut seen = Vec::new();
    for _ in 0..ANSWERS {
        std::thread::sleep(Duration::from_millis(20));
        other.well(Wire::Dubbo, 1);
        let frame = slow.next();
        assert_eq!(frame.payload().len(), much.len());
        seen.push(frame.id());
    }
    writer.join().expect("the writer does not panic");
    seen.sort_unstable();
    assert_eq!(seen, (0..ANSWERS).collect::<Vec<_>>());
    let grown = sidecar.rss_kib().saturating_sub(before);
    assert!(grown < 20 << 10, "{grown} KiB grown for {ANSWERS} MiB each way");
    sidecar.assert_well();
}

#[test]
fn a_caller_that_leaves_takes_nobody_with_it() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    for wire in WIRES {
        let canary = Canary::start(&sidecar, &upstream, wire);
        let leaving = [sidecar.client(), sidecar.client()].map(|mut client| {
            client.send(&wire.call(1).payload("abandoned").bytes());
            (client, upstream.next())
        });
        let [(resets, first), (closes, second)] = leaving;
        // One is gone at once; of the other it cannot be told yet whether it still reads.
        socket2::SockRef::from(&resets.stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
        drop(resets);
        drop(closes);
        let callers = |count: u64| sidecar.stats()["protocols"][wire.protocol()]["callers"] == count;
        assert!(within(CLOSE_MAX, || callers(2)), "{}", sidecar.stats());
        first.answer("for nobody");
        second.answer("for nobody");
        assert!(within(CLOSE_MAX, || callers(1)), "{}", sidecar.stats());
        canary.sings();
        assert!(within(CLOSE_MAX, || callers(0)), "{}", sidecar.stats());
    }
    assert_eq!(sidecar.outcomes("", "abandoned"), 4);
    assert_eq!(upstream.accepted(), 4, "one connection for each version and protocol, none of them lost");
    // One that stops in the middle of a frame.
    let mut half = sidecar.client();
    half.send(&Wire::V1.call(1).bytes()[..30]);
    drop(half);
    sidecar.client().well(Wire::V1, 5);
    sidecar.assert_well();
}

#[test]
fn a_caller_that_sends_no_more_still_gets_its_answers_and_then_the_end() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    for wire in WIRES {
        let mut client = sidecar.client();
        client.send(&wire.call(1).payload("first").bytes());
        client.send(&wire.call(2).payload("second").bytes());
        client.stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        let seen = [upstream.next(), upstream.next()];
        client.silent(Duration::from_millis(50));
        seen[1].answer("to the second");
        client.expect(&wire.answer(2, "to the second"));
        seen[0].answer("to the first");
        client.expect(&wire.answer(1, "to the first"));
        client.closed(CLOSE_MAX);
    }
    // With nothing to wait for, the end comes at once.
    let mut idle = sidecar.client();
    let mut rest = String::new();
    idle.stream.shutdown(std::net::Shutdown::Write).expect("it is open");
    idle.stream.read_to_string(&mut rest).expect("the sidecar closes too");
    sidecar.assert_well();
}

#[test]
fn a_caller_that_closed_with_a_call_nobody_answers_is_let_go_in_time() {
    let upstream = Upstream::start();
    let listener =
        "    protocol: [bolt, dubbo]\n    keepalive_timeout: 400ms\n    routes: [{ match: {}, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    for wire in [Wire::V1, Wire::Dubbo] {
        let mut client = sidecar.client();
        client.send(&wire.call(1).payload("never answered").bytes());
        upstream.next();
        drop(client);
    }
    // Its place and its socket must not be held for ever.
    let gone = || sidecar.stats()["connections_by_worker"][0] == 0;
    assert!(within(CLOSE_MAX, gone), "{}", sidecar.stats());
    sidecar.assert_well();
}
