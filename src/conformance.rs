//! What every protocol must do, checked over the list of plug-ins: a new one gets these tests with its line there.
//!
//! Only what follows from the interface itself is checked here; captured frames and attacks are each crate's own.

use outrigger_codec::{
    ExchangeCodec, Find, FrameCodec, FrameKind, HeadIndex, Outcome, Policy, Refusal, ReplyKind, Scan, Sniff,
    Ticket, Wants,
    exchange::{Body, Limits, Side},
    frames::LANES_MAX,
};

/// A protocol's sniffer.
pub(crate) type Sniffer = fn(&[u8]) -> Sniff;

/// Longest frame these checks make.
const FRAME_MAX: usize = 1 << 20;

/// The first bytes a client may send, by discipline.
pub(crate) mod opening {
    use outrigger_codec::{ExchangeCodec, FrameCodec};

    /// Of a protocol of frames.
    pub(crate) fn frames<C: FrameCodec>() -> Vec<u8> {
        let mut frame = Vec::new();
        C::heartbeat(0, 1, &mut frame);
        frame
    }

    /// Of a protocol of exchanges: there is one so far.
    pub(crate) fn exchange<C: ExchangeCodec>() -> Vec<u8> {
        let opening = b"POST /service/method HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_vec();
        assert_eq!(
            C::sniff(&opening),
            outrigger_codec::Sniff::Yes,
            "{} needs an opening of its own",
            C::NAME
        );
        opening
    }
}

/// The promises of a protocol of frames.
pub(crate) fn frames<C: FrameCodec>(name: &str) {
    assert_eq!(C::NAME, name, "the list of plug-ins and the codec name it alike");
    assert!(C::HEARTBEAT_IDLE > C::HEARTBEAT_WAIT && C::SERVER_IDLE > 2 * C::HEARTBEAT_IDLE);
    for lane in 0..LANES_MAX as u8 {
        for id in [0, 1, 77, u64::from(u32::MAX)] {
            keep_alive::<C>(lane, id);
        }
    }
    for (why, id) in Refusal::ALL.into_iter().flat_map(|why| [(why, 3), (why, u64::from(u32::MAX))]) {
        refused::<C>(why, id);
    }
    let mut goodbye = Vec::new();
    C::goodbye(9, &mut goodbye);
    if !goodbye.is_empty() {
        assert_eq!(whole::<C>(&goodbye).kind, FrameKind::Retire);
    }
    truncated::<C>(&opening::frames::<C>());
    rubbish::<C>();
}

/// A keep-alive question is one, is answered with its own id, and can be given another.
fn keep_alive<C: FrameCodec>(lane: u8, id: u64) {
    let mut question = Vec::new();
    C::heartbeat(lane, id, &mut question);
    let framed = whole::<C>(&question);
    assert_eq!((framed.kind, framed.id), (FrameKind::Heartbeat, id), "{}", C::NAME);
    let mut answer = Vec::new();
    C::heartbeat_ack(&question, &mut answer);
    let framed = whole::<C>(&answer);
    assert_eq!((framed.kind, framed.id), (FrameKind::HeartbeatAck, id), "{}", C::NAME);
    C::set_id(&mut question, 4_000_000_000);
    assert_eq!(whole::<C>(&question).id, 4_000_000_000);
}

/// A refusal is an answer with the call's id, and no success.
fn refused<C: FrameCodec>(why: Refusal, id: u64) {
    let message = "outrigger: no route for com.example.Echo — ünïcödé 🚀 ".repeat(100);
    let ticket: Ticket = C::ticket(&opening::frames::<C>());
    for message in ["", "short", &message] {
        let mut answer = b"bytes before".to_vec();
        let before = answer.len();
        C::refuse(ticket, id, why, message, &mut answer);
        let framed = whole::<C>(&answer[before..]);
        assert_eq!((framed.kind, framed.id), (FrameKind::Response, id), "{} {why:?}", C::NAME);
        assert!(
            !matches!(C::outcome(&answer[before..]), Outcome::Ok | Outcome::Exception),
            "{} {why:?}",
            C::NAME
        );
    }
}

/// Every beginning of a frame asks for more, and for more than there is.
fn truncated<C: FrameCodec>(frame: &[u8]) {
    for end in 0..frame.len() {
        match C::scan(&frame[..end], FRAME_MAX) {
            Scan::Partial { total } => assert!(total > end && total <= frame.len(), "{} at {end}", C::NAME),
            other => panic!("{}: {other:?} at {end}", C::NAME),
        }
    }
}

/// Nothing a peer sends makes a codec panic, and no frame is longer than its bytes or its bound.
fn rubbish<C: FrameCodec>() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut index = HeadIndex::default();
    for round in 0..20_000 {
        let mut bytes = opening::frames::<C>();
        bytes.resize(bytes.len() + round % 90, 0);
        for _ in 0..=round % 7 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed as usize >> 8) % bytes.len();
            bytes[at] = seed as u8;
        }
        if let Scan::Frame(framed) = C::scan(&bytes, FRAME_MAX) {
            assert!(framed.len <= bytes.len().min(FRAME_MAX) && framed.len > 0);
            let frame = &mut bytes[..framed.len];
            index.clear();
            let _ = C::head(frame, Wants::ALL, &mut index);
            let _ = (C::outcome(frame), C::ticket(frame), C::lane(frame));
            C::set_timeout(frame, 5);
            C::set_id(frame, 6);
            assert_eq!(whole::<C>(frame).id, 6);
        }
    }
}

fn whole<C: FrameCodec>(bytes: &[u8]) -> outrigger_codec::Framed {
    match C::scan(bytes, FRAME_MAX) {
        Scan::Frame(framed) => {
            assert_eq!(framed.len, bytes.len());
            framed
        }
        other => panic!("{}: {other:?}", C::NAME),
    }
}

/// The promises of a protocol of exchanges.
pub(crate) fn exchange<C: ExchangeCodec>(name: &str) {
    assert_eq!(C::NAME, name, "the list of plug-ins and the codec name it alike");
    assert!(!C::CLIENT_IDLE.is_zero() && !C::SERVER_IDLE.is_zero() && C::CONNECTIONS > 0);
    let opening = opening::exchange::<C>();
    let limits = Limits::default();
    let asked = asked::<C>(&opening);
    for why in Refusal::ALL {
        for (asked, close) in [(None, true), (Some(&asked), true), (Some(&asked), false)] {
            own_answer::<C>(&|out| C::refuse(asked, why, None, "outrigger: ünïcödé 🚀", close, out), close);
        }
    }
    for end in 0..opening.len() {
        let found = C::find(&opening[..end], 0, Side::Request, &limits);
        match found {
            Find::Partial { searched } => assert!(searched <= end),
            Find::Head { len } => assert!(len <= end),
            Find::Fault(fault) => panic!("{name}: {fault:?} at {end}"),
        }
    }
    rubbish_exchange::<C>(&opening);
}

fn asked<C: ExchangeCodec>(opening: &[u8]) -> outrigger_codec::Asked {
    let limits = Limits::default();
    let Find::Head { len } = C::find(opening, 0, Side::Request, &limits) else {
        panic!("{}: no head", C::NAME)
    };
    let mut index = HeadIndex::default();
    C::request(&opening[..len], &Policy::default(), &limits, &mut index).expect("its own opening")
}

/// An answer of ours passes our own gate, is no success, and says whether the connection goes on.
fn own_answer<C: ExchangeCodec>(render: &dyn Fn(&mut Vec<u8>), close: bool) {
    let mut answer = Vec::new();
    render(&mut answer);
    let limits = Limits::default();
    let Find::Head { len } = C::find(&answer, 0, Side::Reply, &limits) else {
        panic!("{}: no head", C::NAME)
    };
    let mut index = HeadIndex::default();
    let asked = asked::<C>(&opening::exchange::<C>());
    let reply = C::reply(&answer[..len], &asked, &limits, &mut index).expect("its own answer");
    assert_eq!((reply.kind, reply.keep), (ReplyKind::Final, !close));
    assert_ne!(reply.outcome, Outcome::Ok);
    let mut passed = Vec::new();
    let head = outrigger_codec::Head { bytes: &answer[..len], index: &index };
    let mut body = C::answer(head, &asked, &reply, &Policy::default(), close, &mut passed);
    let passed = body.pass(&answer[len..], &limits, &mut passed).expect("its own body");
    assert!(passed.done && passed.used == answer.len() - len);
}

/// Nothing a peer sends makes a codec panic, and what passes the gate passes it again as it was spelled.
fn rubbish_exchange<C: ExchangeCodec>(opening: &[u8]) {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let (policy, limits) = (Policy::default(), Limits::default());
    let mut index = HeadIndex::default();
    for round in 0..20_000 {
        let mut bytes = opening.to_vec();
        for _ in 0..=round % 5 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed as usize >> 8) % bytes.len();
            bytes[at] = seed as u8;
        }
        let Find::Head { len } = C::find(&bytes, 0, Side::Request, &limits) else { continue };
        index.clear();
        let Ok(asked) = C::request(&bytes[..len], &policy, &limits, &mut index) else { continue };
        let head = outrigger_codec::Head { bytes: &bytes[..len], index: &index };
        let hop =
            outrigger_codec::exchange::Hop { policy: &policy, peer: None, authority: "a", request_id: "" };
        let mut spelled = Vec::new();
        let _ = C::forward(head, &asked, &hop, &mut spelled);
        let mut again = HeadIndex::default();
        let reread =
            C::request(&spelled, &policy, &limits, &mut again).expect("what we spell is what we read");
        assert_eq!(reread.body, asked.body);
    }
}

/// Each opening is claimed by exactly its own protocol, and at no length by two.
pub(crate) fn exclusive(sniffers: &[(&str, Sniffer)], openings: &[Vec<u8>]) {
    for (own, opening) in openings.iter().enumerate() {
        for end in 1..=opening.len() {
            for (at, (name, sniff)) in sniffers.iter().enumerate() {
                let verdict = sniff(&opening[..end]);
                assert!(at == own || verdict != Sniff::Yes, "{name} claims another's bytes");
                assert!(at != own || verdict != Sniff::No, "{name} does not know its own bytes");
                assert!(
                    at != own || end < opening.len() || verdict == Sniff::Yes,
                    "{name} never makes up its mind"
                );
            }
        }
    }
}
