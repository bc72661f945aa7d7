//! What every protocol must do, checked over the list of plug-ins: a new one gets these tests with its line there.
//!
//! Only what follows from the interface itself is checked here; captured frames and attacks are each crate's own.

use outrigger_codec::{
    Change, Code, Event, ExchangeCodec, Find, FrameCodec, FrameKind, HeadIndex, Link, Message, Outcome,
    Policy, Refusal, ReplyKind, Scan, Slot, Sniff, StreamCodec, Tag, Ticket, Wants,
    change::Line,
    exchange::{Body, Limits, Side},
    frames::LANES_MAX,
    http::answer,
    streams::LinkSettings,
};

use crate::session::probe::{Beat, Talk};

/// A protocol's sniffer.
pub(crate) type Sniffer = fn(&[u8]) -> Sniff;

/// Longest frame these checks make.
const FRAME_MAX: usize = 1 << 20;

/// The first bytes a client may send, by discipline.
pub(crate) mod opening {
    use outrigger_codec::{ExchangeCodec, FrameCodec, StreamCodec};

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

    /// Of a protocol of streams: what its own links say when they call.
    pub(crate) fn streams<C: StreamCodec>() -> Vec<u8> {
        super::Pair::<C>::new().opening()
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
    for cut in 1..40 {
        asked_for_its_health::<C>(cut);
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

/// Who answers a heartbeat is well, in whatever pieces it comes, and who closes is not.
fn asked_for_its_health<C: FrameCodec>(cut: usize) {
    let (mut beat, mut question, mut answer) = (Beat::<C>::new(), Vec::new(), Vec::new());
    beat.begin(&mut question);
    // It may ask for a sign of life itself, before it answers.
    C::heartbeat(0, 77, &mut answer);
    C::heartbeat_ack(&question, &mut answer);
    let (mut read, mut said, mut verdict) = (bytes::BytesMut::new(), Vec::new(), None);
    for piece in answer.chunks(cut) {
        assert_eq!(verdict, None, "{}", C::NAME);
        read.extend_from_slice(piece);
        verdict = beat.hear(&mut read, &mut said);
    }
    assert_eq!(verdict, Some(Ok(())), "{} in pieces of {cut}", C::NAME);
    let framed = whole::<C>(&said);
    assert_eq!((framed.kind, framed.id), (FrameKind::HeartbeatAck, 77), "{}", C::NAME);
    assert!(beat.ended().is_err());
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
    let change = Change { set: vec![Line::new("x-from", "shop")], ..Change::default() };
    let mut changed = Vec::new();
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
            C::set_timeout(frame, &index, 5);
            changed.clear();
            if C::add_timeout(frame, &index, 5, &mut changed) {
                assert_eq!(whole::<C>(&changed).len, changed.len());
                index.clear();
                assert!(
                    C::head(&changed, Wants::TIMEOUT, &mut index).is_err() || index.timeout_ms == Some(5)
                );
            } else {
                assert!(changed.is_empty(), "{}: half a frame", C::NAME);
            }
            C::set_id(frame, 6);
            assert_eq!(whole::<C>(frame).id, 6);
            changed.clear();
            if C::change(frame, &change, &mut changed) {
                assert_eq!(whole::<C>(&changed).id, 6);
            } else {
                assert!(changed.is_empty(), "{}: half a frame", C::NAME);
            }
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

/// The promises of a protocol of streams.
pub(crate) fn streams<C: StreamCodec>(name: &str) {
    assert_eq!(C::NAME, name, "the list of plug-ins and the codec name it alike");
    assert!(!C::CLIENT_IDLE.is_zero() && !C::SERVER_IDLE.is_zero() && C::CONNECTIONS > 0);
    assert_eq!(C::sniff(&opening::streams::<C>()), Sniff::Yes, "{name} does not know its own opening");
    for cut in [usize::MAX, 1, 7] {
        carried::<C>(cut);
        for why in Refusal::ALL {
            own_refusal::<C>(why, cut);
        }
    }
    taken_back::<C>();
    rubbish_streams::<C>();
}

/// Two links of one protocol, and what is under way between them.
struct Pair<C: StreamCodec> {
    client: C::Link,
    server: C::Link,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

/// Who is told what came of bytes: the event, the head that was read, and the bytes.
type Told<'a, C> = &'a mut dyn FnMut(&mut <C as StreamCodec>::Link, Event, &Message, &[u8]);

/// What a body of these checks is.
const BODY: &[u8] = b"hello, ";

impl<C: StreamCodec> Pair<C> {
    fn new() -> Self {
        let settings = LinkSettings::default();
        let (mut client, mut server) = (C::dial(&settings), C::serve(&settings));
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        client.greet(&mut to_server);
        server.greet(&mut to_client);
        Self { client, server, to_server, to_client }
    }

    /// A greeting and a request with a body.
    fn opening(mut self) -> Vec<u8> {
        self.asks();
        self.to_server
    }

    /// Sends a request whose body is in two parts.
    fn asks(&mut self) {
        assert!(self.client.room() > 0 && !self.client.is_spent(), "{}", C::NAME);
        let mut head = Message::default();
        head.set(Slot::Method, b"POST");
        head.set(Slot::Scheme, b"http");
        head.set(Slot::Target, b"/service/method");
        head.add(b"x-id", b"7");
        let out = &mut self.to_server;
        let stream = self.client.open(Tag(7));
        self.client.request(stream, head.head(), false, "a", out);
        assert!(self.client.fits(stream, BODY.len()) && !self.client.is_full(), "{}", C::NAME);
        assert_eq!(self.client.data(stream, BODY, false, out), BODY.len(), "{}", C::NAME);
        assert_eq!(self.client.data(stream, BODY, true, out), BODY.len(), "{}", C::NAME);
    }

    /// Hands over what is under way to one of the two, in pieces of `cut` bytes; what it was told.
    fn delivers(&mut self, to_server: bool, cut: usize, each: Told<'_, C>) {
        let Self { client, server, to_server: asked, to_client: answered } = self;
        let (link, from, out) = if to_server {
            (server, std::mem::take(asked), answered)
        } else {
            (client, std::mem::take(answered), asked)
        };
        let (policy, mut message) = (Policy::default(), Message::default());
        let mut carry = Vec::new();
        for piece in from.chunks(cut.min(from.len()).max(1)) {
            carry.extend_from_slice(piece);
            while !carry.is_empty() {
                let step = link.receive(&carry, &policy, &mut message, out);
                assert!(step.used <= carry.len(), "{} used more than there was", C::NAME);
                match step.event {
                    Event::Partial { total } => {
                        assert!(total > carry.len() - step.used, "{} asks for what it has", C::NAME);
                        break;
                    }
                    Event::Wait => panic!("{} waits where nothing is in its way", C::NAME),
                    event => each(link, event, &message, &carry),
                }
                carry.drain(..step.used);
            }
        }
        assert!(carry.is_empty(), "{}: bytes are left", C::NAME);
    }

    /// Gives the server what is under way; the stream of the request in it.
    fn asked(&mut self, cut: usize) -> u32 {
        let (mut stream, mut body, mut ended) = (None, Vec::new(), false);
        self.delivers(true, cut, &mut |link, event, message, bytes| match event {
            Event::Request { stream: id, end, bodiless } => {
                assert!(!end && !bodiless && stream.is_none());
                let head = message.head();
                assert_eq!(
                    (head.slot(Slot::Method), head.field(b"x-id")),
                    (Some(&b"POST"[..]), Some(&b"7"[..]))
                );
                assert_eq!(head.slot(Slot::Target), Some(&b"/service/method"[..]));
                link.adopt(id, Tag(9));
                stream = Some(id);
            }
            Event::Data { tag, at, len, end } => {
                assert!(tag == Tag(9) && !ended);
                body.extend_from_slice(&bytes[at..at + len]);
                ended = end;
            }
            Event::Nothing | Event::Room { .. } | Event::Widened => {}
            other => panic!("{}: {other:?}", C::NAME),
        });
        assert_eq!((&body[..], ended), (&BODY.repeat(2)[..], true), "{}: the request's body", C::NAME);
        stream.expect("a request")
    }

    /// Gives the client what is under way: an answer's status and body.
    fn answered(&mut self, cut: usize) -> (String, Vec<u8>) {
        let (mut status, mut body, mut ended) = (String::new(), Vec::new(), false);
        self.delivers(false, cut, &mut |_, event, message, bytes| match event {
            Event::Answer { tag, kind, end } => {
                assert!(tag == Tag(7) && kind == ReplyKind::Final && status.is_empty());
                let text =
                    message.head().slot(Slot::Target).and_then(|text| text.get(..3)).expect("a status");
                status = String::from_utf8_lossy(text).into_owned();
                ended = end;
            }
            Event::Data { tag, at, len, end } => {
                assert!(tag == Tag(7) && !ended);
                body.extend_from_slice(&bytes[at..at + len]);
                ended = end;
            }
            Event::Nothing | Event::Room { .. } | Event::Widened => {}
            other => panic!("{}: {other:?}", C::NAME),
        });
        assert!(ended, "{}: an answer without an end", C::NAME);
        (status, body)
    }

    fn says(&mut self, stream: u32, head: &Message, body: &[u8]) {
        self.server.answer(stream, head.head(), ReplyKind::Final, false, &mut self.to_client);
        assert_eq!(self.server.data(stream, body, true, &mut self.to_client), body.len());
    }

    fn is_quiet(&self) -> bool {
        (self.client.streams(), self.server.streams()) == (0, 0)
    }
}

/// A request and its answer arrive as they were, cut anywhere; and another one behind them.
fn carried<C: StreamCodec>(cut: usize) {
    let mut pair = Pair::<C>::new();
    for _ in 0..3 {
        pair.asks();
        let stream = pair.asked(cut);
        let mut head = Message::default();
        head.set(Slot::Target, b"200 OK");
        pair.says(stream, &head, BODY);
        assert_eq!(pair.answered(cut), ("200".to_owned(), BODY.to_vec()), "{}", C::NAME);
        assert!(pair.is_quiet() && !pair.client.is_severed(), "{}: a stream is left", C::NAME);
    }
    pair.server.retire(true, &mut pair.to_client);
    pair.client.farewell(Code::NO_ERROR, &[], &mut pair.to_server);
    assert!(pair.client.is_spent() || pair.client.room() == 0, "{}: no stream behind a farewell", C::NAME);
}

/// A refusal of ours passes our own gate, and says what it means.
fn own_refusal<C: StreamCodec>(why: Refusal, cut: usize) {
    let mut pair = Pair::<C>::new();
    pair.asks();
    let stream = pair.asked(cut);
    let mut head = Message::default();
    let text = "outrigger: no route for com.example.Echo — ünïcödé 🚀";
    answer::refuse(why, None, text, &mut head);
    pair.says(stream, &head, format!("{text}\n").as_bytes());
    let (status, body) = pair.answered(cut);
    assert_eq!((status.as_str(), &body[..]), (&answer::status(why)[..3], format!("{text}\n").as_bytes()));
    assert!(pair.is_quiet(), "{} {why:?}: a stream is left", C::NAME);
}

/// A stream that is ended early is forgotten, and nothing tells of it any more.
fn taken_back<C: StreamCodec>() {
    let mut pair = Pair::<C>::new();
    pair.asks();
    let stream = pair.asked(usize::MAX);
    pair.to_client.clear();
    pair.server.reset(stream, Code::CANCEL, &mut pair.to_client);
    assert_eq!(pair.server.streams(), 0, "{}", C::NAME);
    let before = pair.to_client.len();
    assert_ne!(
        before > 0,
        pair.server.is_severed(),
        "{}: its peer is told, or its connection ended",
        C::NAME
    );
    assert_eq!(pair.server.data(stream, BODY, true, &mut pair.to_client), BODY.len());
    pair.server.reset(stream, Code::CANCEL, &mut pair.to_client);
    assert_eq!(pair.to_client.len(), before, "{}: words behind the end of a stream", C::NAME);
}

/// Nothing a peer sends makes a link panic, and a link never uses more than there is, nor goes round in a circle.
fn rubbish_streams<C: StreamCodec>() {
    let asked = opening::streams::<C>();
    let mut pair = Pair::<C>::new();
    pair.asks();
    let stream = pair.asked(usize::MAX);
    let mut head = Message::default();
    head.set(Slot::Target, b"200 OK");
    pair.says(stream, &head, BODY);
    let answered = pair.to_client;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let (policy, mut message) = (Policy::default(), Message::default());
    for round in 0..20_000usize {
        let of_caller = round % 2 == 0;
        let mut bytes = if of_caller { asked.clone() } else { answered.clone() };
        for _ in 0..=round % 5 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed as usize >> 8) % bytes.len();
            bytes[at] = seed as u8;
        }
        let settings = LinkSettings::default();
        let mut link = if of_caller { C::serve(&settings) } else { C::dial(&settings) };
        let mut out = Vec::new();
        link.greet(&mut out);
        if !of_caller {
            let stream = link.open(Tag(7));
            link.request(stream, head.head(), true, "a", &mut out);
        }
        let (mut rest, mut idle) = (&bytes[..], 0);
        while !rest.is_empty() {
            let step = link.receive(rest, &policy, &mut message, &mut out);
            assert!(step.used <= rest.len(), "{} used more than there was", C::NAME);
            match step.event {
                Event::Partial { .. } | Event::Wait => break,
                Event::Data { at, len, .. } => assert!(at + len <= rest.len()),
                Event::Request { stream, .. } => link.adopt(stream, Tag(9)),
                _ => {}
            }
            idle = if step.used == 0 { idle + 1 } else { 0 };
            assert!(idle < 3, "{} goes round in a circle", C::NAME);
            rest = &rest[step.used..];
        }
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
