//! Bytes that no good caller sends: framing attacks on the Bolt and Dubbo listeners, over real sockets.
//!
//! Each test shows the exact answer (or the close), that the process lives without a panic, that a caller beside
//! the attacker is not disturbed, and that the right counter moved. What is expected is the product's contract:
//! refused from the fixed header, never allocated, never handed to somebody else.

mod support;

use std::time::Duration;
use support::echo::{Canary, Upstream, conf, straight};
use support::raw::{ANSWER_MAX, ECHO, Refused, WIRES, Wire, crc, dubbo};
use support::{Sidecar, within};

const FRAME_MAX: usize = 8 << 20;
/// The longest time an attacker may stay connected after his crime.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Long enough for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(150);

/// A frame's fixed header that promises a body of `body` bytes; none of it follows.
fn promise(wire: Wire, id: u64, body: u32, one_way: bool) -> Vec<u8> {
    let call = if one_way { wire.call(id).one_way() } else { wire.call(id) };
    let mut bytes = call.bytes();
    let end = match wire {
        Wire::Dubbo => 16,
        Wire::V1 => 22,
        _ => 24,
    };
    bytes.truncate(end);
    if wire != Wire::Dubbo {
        // No class and no map: what is promised is content.
        bytes[end - 8..end - 4].fill(0);
    }
    bytes[end - 4..].copy_from_slice(&body.to_be_bytes());
    bytes
}

#[test]
fn a_frame_that_is_too_long_is_refused_from_its_header_and_then_closed() {
    for protocol in ["bolt", "dubbo"] {
        let upstream = Upstream::start();
        let mut sidecar = straight(protocol, &upstream);
        let wires: Vec<Wire> = WIRES.into_iter().filter(|wire| wire.protocol() == protocol).collect();
        let canary = Canary::start(&sidecar, &upstream, wires[0]);
        let before = sidecar.rss_kib();
        let mut attacks = 0;
        for wire in wires {
            for body in [FRAME_MAX as u32, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
                let fixed = promise(wire, 1, 0, false).len() + if wire == Wire::Crc { 4 } else { 0 };
                let whole = fixed + body as usize;
                let message =
                    format!("outrigger: frame of {whole} bytes is larger than frame_max ({FRAME_MAX})");
                let id = wire.id_max() - u64::from(body);
                let mut client = sidecar.client();
                client.send(&promise(wire, id, body, false));
                client.expect(&wire.refusal(id, Refused::TooLarge, &message));
                client.closed(CLOSE_MAX);

                let mut client = sidecar.client();
                client.send(&promise(wire, id, body, true));
                client.closed(CLOSE_MAX);
                attacks += 2;
            }
        }
        let grown = sidecar.rss_kib().saturating_sub(before);
        assert!(grown < 4096, "{protocol}: {grown} KiB were allocated for frames that never came");
        assert_eq!(sidecar.events(protocol, "too_large"), attacks);
        assert_eq!(upstream.calls(), 1, "only the canary's call arrived");
        canary.sings();
        sidecar.assert_well();
    }
}

#[test]
fn a_part_longer_than_java_can_write_is_refused_by_its_id() {
    let upstream = Upstream::start();
    let mut sidecar = straight("bolt", &upstream);
    let message = "outrigger: a length in the frame's header is larger than its protocol allows";
    // The lengths of the class and of the header map.
    for (wire, at) in [(Wire::V1, 14), (Wire::V1, 16), (Wire::V2, 16), (Wire::Crc, 18)] {
        let mut frame = wire.call(77).bytes();
        frame[at] = 0x80;
        let mut client = sidecar.client();
        client.send(&frame);
        client.expect(&wire.refusal(77, Refused::TooLarge, message));
        client.closed(CLOSE_MAX);
    }
    assert_eq!((sidecar.events("bolt", "too_large"), upstream.calls()), (4, 0));
    sidecar.assert_well();
}

#[test]
fn the_answer_reaches_a_caller_that_is_still_sending_its_long_frame() {
    let upstream = Upstream::start();
    let sidecar = straight("auto", &upstream);
    for wire in [Wire::V1, Wire::Dubbo] {
        let mut client = sidecar.client();
        let mut bytes = promise(wire, 9, 16 << 20, false);
        bytes.resize(bytes.len() + (256 << 10), b'x');
        client.send(&bytes);
        let answer = client.next();
        assert_eq!((answer.id(), answer.status()), (9, if wire == Wire::Dubbo { 40 } else { 9 }));
        client.closed(CLOSE_MAX);
    }
}

#[test]
fn the_longest_frame_that_is_allowed_is_carried() {
    let upstream = Upstream::start();
    let sidecar = straight("auto", &upstream);
    for wire in [Wire::V2, Wire::Dubbo] {
        let mut client = sidecar.client();
        let mut frame = promise(wire, 5, 0, false);
        let body = FRAME_MAX - frame.len();
        let end = frame.len();
        frame[end - 4..].copy_from_slice(&(body as u32).to_be_bytes());
        frame.resize(FRAME_MAX, b'x');
        client.send(&frame);
        let seen = upstream.next();
        assert_eq!(seen.frame.bytes.len(), FRAME_MAX);
        assert!(seen.frame.with_id(5) == frame, "it was changed on its way");
        seen.answer("got it");
        client.expect(&wire.answer(5, "got it"));
    }
}

#[test]
fn the_same_bytes_in_other_pieces_get_the_same_answers() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    for wire in WIRES {
        let mut client = sidecar.client();
        let call = wire.call(3).payload("!echo in pieces").bytes();
        let answer = wire.answer(3, "!echo in pieces");
        for at in 1..call.len() {
            client.send(&call[..at]);
            // Far longer than the sidecar takes to read; were it not, the test would only be weaker.
            std::thread::sleep(Duration::from_micros(300));
            client.send(&call[at..]);
            client.expect(&answer);
        }
        for byte in &call {
            client.send(&[*byte]);
        }
        client.expect(&answer);
        // Also from the first byte of a connection on, while it is not yet known what is spoken.
        let mut client = sidecar.client();
        for byte in &call {
            client.send(&[*byte]);
            std::thread::sleep(Duration::from_micros(300));
        }
        client.expect(&answer);

        let mut many: Vec<u8> = (0..50).flat_map(|id| wire.call(id).bytes()).collect();
        many.extend(wire.heartbeat(50));
        client.send(&many);
        let mut ids: Vec<u64> = (0..51).map(|_| client.next().id()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..51).collect::<Vec<_>>(), "two frames and more in one packet");
    }
    assert_eq!(sidecar.events("bolt", "malformed") + sidecar.events("dubbo", "malformed"), 0);
    sidecar.assert_well();
}

#[test]
fn garbage_in_mid_stream_closes_that_connection_alone() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    for wire in WIRES {
        let canary = Canary::start(&sidecar, &upstream, wire);
        let mut garbage: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            vec![0; 64],
            vec![0xff; 64],
            b"\x16\x03\x01\x02\x00\x01".to_vec(),
        ];
        // Each wrong byte of an otherwise good fixed header.
        let good = wire.call(1).bytes();
        let wrong: &[(usize, u8)] = match wire {
            Wire::Dubbo => &[(0, 0xdb), (1, 0xba)],
            Wire::V1 => &[(0, 3), (1, 3), (2, 1), (3, 9)],
            _ => &[(0, 3), (1, 3), (2, 3), (3, 1), (4, 9), (11, 0x80)],
        };
        garbage.extend(wrong.iter().map(|(at, byte)| {
            let mut bytes = good.clone();
            bytes[*at] = *byte;
            bytes
        }));
        let before = sidecar.events(wire.protocol(), "malformed");
        for bytes in &garbage {
            let mut client = sidecar.client();
            client.well(wire, 1);
            client.send(bytes);
            client.closed(CLOSE_MAX);
        }
        assert_eq!(sidecar.events(wire.protocol(), "malformed"), before + garbage.len() as u64);
        canary.sings();
    }
    // A person is told, but not once for each of them.
    let lines = sidecar.log().matches("whose framing cannot be trusted").count();
    assert!((1..10).contains(&lines), "{lines} lines");
    sidecar.assert_well();
}

#[test]
fn a_good_frame_before_garbage_is_carried_though_its_caller_is_closed() {
    let upstream = Upstream::start();
    let mut sidecar = straight("auto", &upstream);
    for wire in WIRES {
        let mut client = sidecar.client();
        client.send(&[wire.call(1).payload("before the garbage").bytes(), vec![0xee; 40]].concat());
        client.closed(CLOSE_MAX);
        let seen = upstream.next();
        assert_eq!(seen.frame.payload(), "before the garbage");
        seen.answer("for nobody");
        sidecar.client().well(wire, 2);
    }
    assert!(within(CLOSE_MAX, || sidecar.outcomes("", "abandoned") == 4), "{}", sidecar.stats());
    sidecar.assert_well();
}

#[test]
fn a_checksum_that_does_not_match_closes_the_connection_it_came_on() {
    let upstream = Upstream::start();
    let mut sidecar = straight("bolt", &upstream);
    let canary = Canary::start(&sidecar, &upstream, Wire::V1);
    let mut client = sidecar.client();
    let mut bytes = Wire::Crc.call(1).bytes();
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    client.send(&bytes);
    client.closed(CLOSE_MAX);
    assert_eq!((sidecar.events("bolt", "crc"), sidecar.events("bolt", "malformed")), (1, 1));
    assert_eq!(upstream.calls(), 1, "only the canary's call arrived");

    // What is forwarded has a true checksum, under whatever id.
    let mut client = sidecar.client();
    client.send(&Wire::Crc.call(0xdead_beef).payload("checked").bytes());
    let seen = upstream.next();
    let (body, trailer) = seen.frame.bytes.split_last_chunk::<4>().expect("a trailer");
    assert_eq!(crc(body).to_be_bytes(), *trailer);

    // An endpoint whose checksum is wrong loses its connection, and the call is answered.
    let mut answer = Wire::Crc.answer(seen.frame.id(), "wrong");
    let end = answer.len() - 1;
    answer[end] ^= 0x55;
    seen.peer.send(&answer);
    let message =
        format!("outrigger: connection to {} (cluster up) was lost before the answer", upstream.address());
    client.expect(&Wire::Crc.refusal(0xdead_beef, Refused::Unreachable, &message));
    assert_eq!((sidecar.events("bolt", "crc"), sidecar.events("bolt", "malformed")), (2, 2));
    client.well(Wire::Crc, 2);
    canary.sings();
    sidecar.assert_well();
}

#[test]
fn ids_of_any_value_come_back_as_they_were_and_belong_to_their_caller_alone() {
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    for wire in WIRES {
        let ids: &[u64] = match wire {
            Wire::Dubbo => &[0, 1, u64::MAX, i64::MIN as u64, i64::MAX as u64, 1 << 32, u64::from(u32::MAX)],
            _ => &[0, 1, u64::from(u32::MAX), 0x8000_0000, 0x7fff_ffff],
        };
        // Two callers with the same ids, each id twice in flight.
        let mut clients = [sidecar.client(), sidecar.client()];
        let mut sent = Vec::new();
        for (at, client) in clients.iter_mut().enumerate() {
            for (turn, id) in [ids, ids].concat().iter().enumerate() {
                let call = wire.call(*id).payload(&format!("{at} {turn} {id}"));
                client.send(&call.bytes());
                sent.push(call.bytes());
            }
        }
        let mut seen: Vec<_> = sent.iter().map(|_| upstream.next()).collect();
        let mut given: Vec<_> = seen.iter().map(|one| (one.peer.number, one.frame.id())).collect();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), sent.len(), "{wire:?}: an id was given twice");
        // In the opposite order, each with words of its own.
        seen.reverse();
        for one in &seen {
            one.answer(&format!("to {}", one.frame.payload()));
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let mut came: Vec<_> = (0..2 * ids.len()).map(|_| client.next().bytes).collect();
            let numbered = [ids, ids].concat().into_iter().enumerate();
            let mut due: Vec<_> =
                numbered.map(|(turn, id)| wire.answer(id, &format!("to {at} {turn} {id}"))).collect();
            came.sort_unstable();
            due.sort_unstable();
            assert_eq!(came, due, "{wire:?}");
            client.silent(Duration::from_millis(20));
        }
    }
    sidecar.assert_well();
}

#[test]
fn answers_to_nobodys_question_reach_nobody() {
    for wire in WIRES {
        let upstream = Upstream::start();
        let listener = format!(
            "    protocol: {}\n    routes: [{{ match: {{}}, to: up, timeout: 200ms }}]",
            wire.protocol()
        );
        let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
        let mut sidecar = Sidecar::start(&conf(&listener, &clusters));
        let (mut one, mut other) = (sidecar.client(), sidecar.client());
        one.send(&wire.call(7).payload("one").bytes());
        let first = upstream.next();
        let id = first.frame.id();

        // Ids that nobody has, then an answer that comes twice.
        let mut odd = Vec::new();
        for unknown in [id.wrapping_add(1), id ^ 0x8000_0000, wire.id_max(), id.wrapping_add(64)] {
            odd.extend(wire.answer(unknown, "odd"));
        }
        odd.extend(wire.answer(id, "right"));
        odd.extend(wire.answer(id, "again"));
        first.peer.send(&odd);
        one.expect(&wire.answer(7, "right"));
        one.silent(SILENCE);
        assert_eq!(sidecar.events(wire.protocol(), "unknown_replies"), 5);

        // Too late: the call was answered already.
        other.send(&wire.call(7).payload("late").bytes());
        let late = upstream.next();
        let answer = other.next();
        assert_eq!((answer.id(), answer.status()), (7, if wire == Wire::Dubbo { 31 } else { 7 }));
        late.answer("too late");
        one.well(wire, 8);
        other.well(wire, 9);
        one.silent(Duration::from_millis(30));
        other.silent(Duration::from_millis(30));
        assert_eq!(sidecar.events(wire.protocol(), "unknown_replies"), 6);

        // A caller answers: nobody asked it.
        one.send(&[wire.answer(0, "?"), wire.heartbeat_answer(1)].concat());
        one.well(wire, 10);
        assert_eq!(sidecar.events(wire.protocol(), "unknown_replies"), 8);
        assert_eq!(upstream.accepted(), 1, "none of this cost a connection");
        sidecar.assert_well();
    }
}

#[test]
fn a_storm_of_heartbeats_is_answered_within_bounds_and_reaches_no_endpoint() {
    const STORM: u64 = 10_000;
    let upstream = Upstream::start();
    let mut sidecar = straight("[bolt, dubbo]", &upstream);
    for wire in [Wire::V1, Wire::Dubbo] {
        let canary = Canary::start(&sidecar, &upstream, wire);
        let mut client = sidecar.client();
        // As Java sends it, and answered as Java answers.
        client.send(&wire.heartbeat(wire.id_max()));
        client.expect(&wire.heartbeat_answer(wire.id_max()));
        let storm: Vec<u8> = (0..STORM).flat_map(|id| wire.heartbeat(id)).collect();
        client.send(&storm);
        let counts = || {
            let answered = sidecar.events(wire.protocol(), "heartbeats");
            (answered, sidecar.events(wire.protocol(), "heartbeats_dropped"))
        };
        assert!(within(ANSWER_MAX, || counts().0 + counts().1 == STORM + 1), "{:?}", counts());
        let (answered, dropped) = counts();
        assert!(answered >= 1_000 && dropped > 0, "a thousand a second are answered: {:?}", counts());
        for id in 0..answered - 1 {
            let answer = client.next();
            // Those of the first second are the first thousand.
            assert!(id >= 999 || answer.bytes == wire.heartbeat_answer(id), "{answer:?}");
        }
        canary.sings();
    }
    assert_eq!(upstream.heartbeats(), 0);
    sidecar.assert_well();
}

#[test]
fn a_call_that_waits_for_no_answer_gets_none_whatever_becomes_of_it() {
    let upstream = Upstream::start();
    let nowhere = support::free_port();
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { service: limited }, to: up, limit: { rate: 1/h } }
      - { match: { service: empty }, to: empty }
      - { match: { service: nowhere }, to: nowhere }
      - { match: { service: unread, headers: { a: b } }, to: up }
      - { match: { service: t.Echo }, to: up }";
    let rest = format!(
        "clusters:\n  up: {{ endpoints: [\"{}\"] }}\n  empty: {{ endpoints: [] }}\n  nowhere: {{ endpoints: \
         [\"127.0.0.1:{nowhere}\"] }}",
        upstream.address()
    );
    let mut sidecar = Sidecar::start(&conf(listener, &rest));
    // The limit's one call, for all.
    let mut client = sidecar.client();
    client.send(&Wire::V1.call(1).service("limited").bytes());
    client.expect(&Wire::V1.answer(1, ECHO));
    let mut arrived = 0;
    for wire in WIRES {
        let mut client = sidecar.client();
        for service in ["limited", "empty", "nowhere", "no.Route"] {
            client.send(&wire.call(1).service(service).one_way().bytes());
        }
        let broken = match wire {
            Wire::Dubbo => dubbo(0x82, 0, 1, b"\x05"),
            _ => wire.call(1).one_way().bolt_bytes(b"\0\0\0\x09short"),
        };
        client.send(&broken);
        client.send(&wire.call(1).one_way().payload("!echo one-way").bytes());
        let seen = upstream.next();
        assert!(seen.frame.is_one_way() && seen.frame.payload() == "!echo one-way", "{seen:?}");
        arrived += 1;
        // An endpoint that answers all the same is not listened to.
        seen.answer("unasked");
        client.silent(SILENCE);
        client.well(wire, 2);
    }
    assert_eq!(upstream.calls(), 1 + 2 * arrived);
    for (outcome, count) in
        [("limited", 4), ("no_endpoint", 4), ("no_route", 4), ("malformed", 4), ("one_way", 8)]
    {
        assert_eq!(sidecar.outcomes("", outcome), count, "{outcome}: {}", sidecar.stats());
    }
    assert_eq!(sidecar.events("bolt", "unknown_replies") + sidecar.events("dubbo", "unknown_replies"), 4);
    sidecar.assert_well();
}

/// Dubbo calls whose arguments are an attack on whoever builds them, with what is said of each.
fn hessian_attacks() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let definitions = |count: usize| -> Vec<u8> { b"C\x01a\x90".repeat(count) };
    let text = |bytes: &[u8]| bytes.to_vec();
    vec![
        ("nesting", [vec![0x79; 10_000], vec![0x4e]].concat(), "values nested too deep"),
        ("list length", text(b"\x58I\x7f\xff\xff\xff\x90"), "count larger than the body"),
        ("negative list length", text(b"\x58I\x80\x00\x00\x00\x90"), "count larger than the body"),
        ("reference", text(b"\x51\x95"), "hessian reference out of range"),
        ("definition", text(b"\x65"), "hessian class definition out of range"),
        (
            "many definitions",
            [definitions(5_000), text(b"\x60")].concat(),
            "too many hessian class definitions",
        ),
        ("fields", text(b"C\x01aI\x7f\xff\xff\xff\x60"), "count larger than the body"),
        ("no value", text(b"\x40"), "byte that begins no hessian value"),
        ("string length", text(b"S\xff\xffshort"), "body ends inside a value"),
        ("endless map", text(b"H\x01a\x90"), "body ends inside a value"),
    ]
}

#[test]
fn hessian_bombs_are_refused_where_a_route_must_look_behind_them_and_pass_untouched_where_none_does() {
    let upstream = Upstream::start();
    let listener = "    protocol: dubbo
    routes:
      - { match: { service: t.Echo, headers: { color: blue } }, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut looking = Sidecar::start(&conf(listener, &clusters));
    let mut blind = Sidecar::start(&conf(&listener.replace(", headers: { color: blue }", ""), &clusters));
    let canary = Canary::start(&blind, &upstream, Wire::Dubbo);
    let (mut client, mut other) = (looking.client(), blind.client());
    let before = (looking.rss_kib(), blind.rss_kib());
    let descriptor = support::raw::string("Ljava/lang/Object;");
    let attacks = hessian_attacks();
    for (at, (name, argument, words)) in attacks.iter().enumerate() {
        let attachments = support::raw::map(&[("color".into(), "blue".into())]);
        let call =
            Wire::Dubbo.call(at as u64).dubbo_bytes(&[&descriptor[..], argument].concat(), &attachments);
        client.send(&call);
        let answer = client.next();
        assert_eq!((answer.id(), answer.status()), (at as u64, 40), "{name}: {answer:?}");
        let message = support::raw::hessian_text(&answer.bytes[16..]);
        assert!(
            message.starts_with("outrigger: malformed request: ") && message.contains(words),
            "{name}: {message}"
        );

        other.send(&call);
        let seen = upstream.next();
        assert_eq!(seen.frame.with_id(at as u64), call, "{name} was changed on its way");
        seen.answer("survived");
        other.expect(&Wire::Dubbo.answer(at as u64, "survived"));
    }
    // The attacker's connections are as good as before.
    let good = Wire::Dubbo.call(99).header("color", "blue");
    assert_eq!(client.ask(&good).bytes, Wire::Dubbo.answer(99, ECHO));
    assert_eq!(looking.outcomes("", "malformed"), attacks.len() as u64);
    let grown = looking.rss_kib().saturating_sub(before.0).max(blind.rss_kib().saturating_sub(before.1));
    assert!(grown < 4096, "{grown} KiB were allocated");
    canary.sings();
    looking.assert_well();
    blind.assert_well();
}

#[test]
fn odd_attachments_are_stepped_over() {
    let upstream = Upstream::start();
    let listener = "    protocol: dubbo
    routes:
      - { match: { service: t.Echo, headers: { color: blue } }, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let mut client = sidecar.client();
    let arguments = support::raw::string("");
    let blue = b"\x05color\x04blue";
    // Numbers, lists, maps, objects and nulls as keys and values; a lone surrogate; a string in chunks.
    for odd in [
        &b"\x01n\x91"[..],
        b"\x91\x92",
        b"\x01l\x7a\x90\x91",
        b"\x01m\x48\x01a\x01b\x5a",
        b"\x01o\x43\x01T\x91\x01f\x60\x90",
        b"\x01n\x4e",
        b"\x4e\x4e",
        b"\x01s\x01\xed\xa0\x80",
        b"\x01c\x52\x00\x02ab\x02cd",
    ] {
        for pair in [[&blue[..], odd], [odd, blue]] {
            let attachments = [b"\x48", pair[0], pair[1], b"\x5a"].concat();
            let call = Wire::Dubbo.call(4).dubbo_bytes(&arguments, &attachments);
            client.send(&call);
            let seen = upstream.next();
            assert_eq!(seen.frame.with_id(4), call);
            seen.answer("odd");
            client.expect(&Wire::Dubbo.answer(4, "odd"));
        }
    }
    sidecar.assert_well();
}

#[test]
fn a_huge_header_map_is_refused_only_where_headers_are_looked_at() {
    const PAIRS: usize = 1_500;
    let upstream = Upstream::start();
    let listener = "    protocol: [bolt, dubbo]
    routes:
      - { match: { headers: { color: blue } }, to: up }
      - { match: { service: t.Echo }, to: up }";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut looking = Sidecar::start(&conf(listener, &clusters));
    let only_service = listener.replace("      - { match: { headers: { color: blue } }, to: up }\n", "");
    let mut blind = Sidecar::start(&conf(&only_service, &clusters));
    for wire in WIRES {
        let mut call = wire.call(6);
        for n in 0..PAIRS {
            call = call.header(&format!("k{n}"), "v");
        }
        let mut client = looking.client();
        let words = if wire == Wire::Dubbo { "too many attachments" } else { "too many headers" };
        client.refused(&call, Refused::Malformed, &format!("outrigger: malformed request: {words}"));
        client.well(wire, 7);
        let mut client = blind.client();
        assert_eq!(client.ask(&call).bytes, wire.answer(6, ECHO));
    }
    // A map that is cut off, in a call whose service is asked for.
    for wire in [Wire::V1, Wire::V2, Wire::Crc] {
        for (map, words) in [
            (&b"\0\0\0\x09short"[..], "header map string longer than the map"),
            (b"\x7f\xff\xff\xff", "header map string longer than the map"),
            (b"\0\0", "header map cut off"),
            (b"\0\0\0\x01k", "header map cut off"),
        ] {
            let mut client = blind.client();
            client.send(&wire.call(8).bolt_bytes(map));
            client.expect(&wire.refusal(
                8,
                Refused::Malformed,
                &format!("outrigger: malformed request: {words}"),
            ));
            client.well(wire, 9);
        }
    }
    looking.assert_well();
    blind.assert_well();
}

#[test]
fn what_speaks_no_protocol_of_the_listener_is_closed_in_time() {
    let upstream = Upstream::start();
    let listener = "    protocol: auto\n    detect_timeout: 300ms\n    routes: [{ match: {}, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let canary = Canary::start(&sidecar, &upstream, Wire::Dubbo);

    // Known to be nobody's at once.
    let strangers: [&[u8]; 6] = [
        b"PRI * HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\x2e\x10\x01\x2c",
        b"\xda\xbc",
        b"\x01\x01\x00\x07",
    ];
    for bytes in strangers {
        let mut client = sidecar.client();
        client.send(bytes);
        client.closed(CLOSE_MAX);
    }
    assert_eq!(sidecar.detected("unknown"), strangers.len() as u64);

    // Too little to tell.
    for bytes in [&b"\xda"[..], b"\x01", b"\x02\x01\x01\x00"] {
        let mut client = sidecar.client();
        client.send(bytes);
        client.closed(CLOSE_MAX);
    }
    assert_eq!(sidecar.detected("timeout"), 3);

    drop(sidecar.client());
    assert!(within(CLOSE_MAX, || sidecar.detected("closed") == 1), "{}", sidecar.stats());
    assert_eq!(sidecar.detected("dubbo"), 1);
    canary.sings();
    sidecar.assert_well();
}

#[test]
fn a_caller_may_connect_long_before_its_first_call_but_not_for_ever() {
    let upstream = Upstream::start();
    let listener = "    protocol: auto\n    detect_timeout: 100ms\n    keepalive_timeout: 900ms\n    routes: [{ match: {}, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{}\"] }}", upstream.address());
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let (mut early, mut mute) = (sidecar.client(), sidecar.client());
    early.silent(Duration::from_millis(400));
    early.well(Wire::Dubbo, 1);
    mute.closed(CLOSE_MAX);
    assert_eq!((sidecar.detected("dubbo"), sidecar.detected("timeout")), (1, 1));
    sidecar.assert_well();
}

#[test]
fn a_listener_of_one_protocol_closes_all_others() {
    let upstream = Upstream::start();
    for (protocol, other) in [("bolt", Wire::Dubbo), ("dubbo", Wire::V1)] {
        let mut sidecar = straight(protocol, &upstream);
        let strangers =
            [b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"\x16\x03\x01\x02\x00\x01".to_vec(), other.call(1).bytes()];
        for bytes in &strangers {
            let mut client = sidecar.client();
            client.send(bytes);
            client.closed(CLOSE_MAX);
        }
        assert_eq!(sidecar.events(protocol, "malformed"), strangers.len() as u64);
        sidecar.assert_well();
    }
    assert_eq!(upstream.calls(), 0);
}

#[test]
fn bytes_of_no_listed_protocol_are_relayed_where_tcp_is_listed() {
    use std::io::{Read as _, Write as _};
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    let listener =
        "    protocol: [bolt, dubbo, tcp]\n    detect_timeout: 300ms\n    routes: [{ match: {}, to: up }]";
    let clusters = format!("clusters:\n  up: {{ endpoints: [\"{address}\"] }}");
    let mut sidecar = Sidecar::start(&conf(listener, &clusters));
    let heard: [&[u8]; 3] = [b"\x16\x03\x01\x02\x00\x01 hello", b"GET / HTTP/1.1\r\n\r\n", b"\x01\x01\x00"];
    for bytes in heard {
        let mut client = sidecar.client();
        client.send(bytes);
        let (mut relayed, _) = server.accept().expect("it is relayed");
        let mut got = vec![0; bytes.len()];
        relayed.read_exact(&mut got).expect("all bytes come");
        assert_eq!(got, bytes, "as they were sent, the sniffed ones too");
        relayed.write_all(b"and back").expect("the relay reads");
        drop(relayed);
        let mut back = String::new();
        client.stream.read_to_string(&mut back).expect("then the end");
        assert_eq!(back, "and back");
    }
    // A protocol whose server speaks first: after the time to detect it is relayed.
    let client = sidecar.client();
    let (mut relayed, _) = server.accept().expect("it is relayed");
    relayed.write_all(b"220 welcome").expect("the relay reads");
    let mut greeting = [0; 11];
    (&client.stream).read_exact(&mut greeting).expect("the greeting comes");
    assert_eq!(&greeting, b"220 welcome");
    assert_eq!(sidecar.detected("tcp"), 4);
    sidecar.assert_well();
}
