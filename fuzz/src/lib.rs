//! What every frame codec must hold for any bytes at all, as one check that the targets share.
//!
//! The bytes are taken as what one connection sends: they are scanned whole and in pieces, and every frame found is
//! put through every entry point of the codec. A new codec gets all of it by a target of three lines. Nothing here
//! may know a protocol. Source: the promises written at `outrigger_codec::FrameCodec`.
//!
//! * [`http1`]: the gate of HTTP/1.
//! * [`http2`], [`hpack`]: connections of HTTP/2, and their compression.
//! * [`grpc`]: what dialects share.
//! * [`downgrade`]: from HTTP/2 to HTTP/1.
//! * [`exchange`], [`streams`]: the engines of HTTP/1 and of HTTP/2, in a world of callers and endpoints.

use outrigger_codec::{
    Change, FrameCodec, FrameKind, Framed, Head, HeadIndex, Refusal, Scan, Slot, Sniff, Wants, change::Line,
};

pub mod downgrade;
pub mod exchange;
pub mod grpc;
pub mod hpack;
pub mod http1;
pub mod http2;
pub mod streams;
mod world;

const SLOTS: [Slot; 7] =
    [Slot::Service, Slot::ServiceKey, Slot::Method, Slot::Version, Slot::Group, Slot::Authority, Slot::Path];

/// Holds the codec to its promises over `bytes`; `id_mask` is as wide as its ids.
pub fn frames<C: FrameCodec>(bytes: &[u8], id_mask: u64) {
    sniffs(C::sniff, bytes);
    entry_points_take_anything::<C>(bytes);
    for frame_max in [64, 1 << 10, 1 << 20] {
        splits::<C>(bytes, frame_max);
    }
    let mut rest = bytes;
    while let Scan::Frame(framed) = C::scan(rest, 1 << 20) {
        let (frame, later) = rest.split_at(framed.len);
        whole::<C>(frame, framed, id_mask);
        rest = later;
    }
}

/// How a stream ended, after its frames.
#[derive(Debug, PartialEq)]
enum End {
    Partial(usize),
    TooLarge(Framed),
    Broken,
}

/// The frames of `stream` when it arrives in pieces of `step` bytes, each with its place.
fn read<C: FrameCodec>(stream: &[u8], frame_max: usize, step: usize) -> (Vec<(usize, Framed)>, End) {
    let (mut frames, mut at, mut have) = (Vec::new(), 0, 0);
    loop {
        let buf = &stream[at..have];
        match C::scan(buf, frame_max) {
            Scan::Frame(framed) => {
                assert!(framed.len > 0 && framed.len <= buf.len() && framed.len <= frame_max, "{framed:?}");
                frames.push((at, framed));
                at += framed.len;
            }
            Scan::Partial { total } => {
                assert!(total > buf.len(), "a partial frame of {total} bytes in {}", buf.len());
                if have == stream.len() {
                    return (frames, End::Partial(buf.len()));
                }
                have = stream.len().min(have + step);
            }
            Scan::TooLarge(framed) => {
                // Beyond our bound, or beyond the protocol's own, which no bound of ours can lift.
                let always = matches!(C::scan(buf, usize::MAX), Scan::TooLarge(_));
                assert!(framed.len > frame_max || always, "{framed:?} is not beyond {frame_max}");
                return (frames, End::TooLarge(framed));
            }
            Scan::Broken(_) => return (frames, End::Broken),
        }
    }
}

/// Any split gives the same frames and the same end.
fn splits<C: FrameCodec>(bytes: &[u8], frame_max: usize) {
    let whole = read::<C>(bytes, frame_max, bytes.len().max(1));
    // A step that follows from the bytes lets the fuzzer look for the one that fails.
    let step = 2 + usize::from(bytes.last().copied().unwrap_or_default());
    for step in [1, step] {
        assert_eq!(whole, read::<C>(bytes, frame_max, step), "in pieces of {step}");
    }
}

/// More bytes never turn a verdict around.
fn sniffs(sniff: fn(&[u8]) -> Sniff, bytes: &[u8]) {
    let mut verdict = Sniff::More;
    for end in 1..=bytes.len().min(64) {
        let now = sniff(&bytes[..end]);
        assert!(verdict == Sniff::More || verdict == now, "{verdict:?}, then {now:?} at {end}");
        verdict = now;
    }
}

/// What is said to take a whole frame must survive being handed anything else.
fn entry_points_take_anything<C: FrameCodec>(bytes: &[u8]) {
    heads::<C>(bytes);
    let (mut out, mut patched) = (Vec::new(), bytes.to_vec());
    let _ = (C::lane(bytes), C::outcome(bytes));
    C::heartbeat_ack(bytes, &mut out);
    C::refuse(C::ticket(bytes), 7, Refusal::Malformed, "fuzzed", &mut out);
    C::set_id(&mut patched, u64::MAX);
    let mut index = HeadIndex::default();
    let _ = C::head(&patched, Wants::ALL, &mut index);
    C::set_timeout(&mut patched, &index, u32::MAX);
    C::set_timeout(&mut patched, &index, 1);
    assert_eq!(patched.len(), bytes.len());
    let before = out.clone();
    if !C::change(bytes, &some_change(), &mut out) {
        assert_eq!(out, before, "half a frame");
    }
    out.truncate(before.len());
    if !C::add_timeout(bytes, &index, 9, &mut out) {
        assert_eq!(out, before, "half a frame");
    }
}

fn some_change() -> Change {
    Change {
        remove: vec![(*b"group").into(), (*b"app").into()],
        set: vec![Line::new("x-from", "shop")],
        ..Change::default()
    }
}

/// A frame whose headers are changed is a frame of the same call, in which they are found.
fn changed<C: FrameCodec>(frame: &[u8], framed: Framed) {
    let mut out = Vec::new();
    if !C::change(frame, &some_change(), &mut out) {
        return;
    }
    assert_eq!(C::scan(&out, 2 << 20), Scan::Frame(Framed { len: out.len(), ..framed }), "changed");
    let mut index = HeadIndex::default();
    if framed.kind == FrameKind::Request && C::head(&out, Wants::FIELDS, &mut index).is_ok() && !index.opaque
    {
        let head = Head { bytes: &out, index: &index };
        let last = index.fields.iter().rev().find(|field| field.name.of(&out) == Some(b"x-from"));
        assert_eq!(last.and_then(|field| field.value.of(&out)), Some(&b"shop"[..]), "{head:?}");
    }
}

/// Every span that a head gives lies inside the bytes, whatever was wanted of it.
fn heads<C: FrameCodec>(bytes: &[u8]) {
    let mut index = HeadIndex::default();
    for wants in [Wants::ALL, Wants::SERVICE, Wants::METHOD.and(Wants::GROUP), Wants::FIELDS, Wants::TIMEOUT]
    {
        index.clear();
        let _ = C::head(bytes, wants, &mut index);
        let head = Head { bytes, index: &index };
        for slot in SLOTS {
            assert_eq!(index.slot(slot).is_some(), head.slot(slot).is_some(), "{slot:?} lies outside");
        }
        for field in &index.fields {
            assert!(
                field.name.of(bytes).is_some() && field.value.of(bytes).is_some(),
                "{field:?} lies outside"
            );
        }
    }
}

/// A whole frame can be answered, and renamed, without becoming anything else.
fn whole<C: FrameCodec>(frame: &[u8], framed: Framed, id_mask: u64) {
    heads::<C>(frame);
    changed::<C>(frame, framed);
    // An id that follows from the bytes: the fuzzer chooses it.
    let id = frame.iter().fold(0_u64, |id, byte| id.rotate_left(7) ^ u64::from(*byte)) & id_mask;
    let mut renamed = frame.to_vec();
    C::set_id(&mut renamed, id);
    assert_eq!(C::scan(&renamed, 1 << 20), Scan::Frame(Framed { id, ..framed }), "renamed");
    C::set_id(&mut renamed, framed.id);
    assert_eq!(renamed, frame, "the old id brings the old frame back");

    let mut out = Vec::new();
    match framed.kind {
        FrameKind::Request | FrameKind::OneWay => {
            for why in Refusal::ALL {
                out.clear();
                C::refuse(C::ticket(frame), framed.id, why, "fuzzed: \u{e9}\u{1f600}", &mut out);
                answer::<C>(&out, framed.id, FrameKind::Response);
            }
            let mut index = HeadIndex::default();
            let _ = C::head(&renamed, Wants::ALL, &mut index);
            C::set_timeout(&mut renamed, &index, id as u32);
            assert_eq!(C::scan(&renamed, 1 << 20), Scan::Frame(framed), "timed");
            out.clear();
            if C::add_timeout(frame, &index, 9, &mut out) {
                let scan = C::scan(&out, 2 << 20);
                assert_eq!(scan, Scan::Frame(Framed { len: out.len(), ..framed }), "told a timeout");
            }
        }
        FrameKind::Heartbeat => {
            C::heartbeat_ack(frame, &mut out);
            answer::<C>(&out, framed.id, FrameKind::HeartbeatAck);
        }
        FrameKind::Response | FrameKind::HeartbeatAck => {
            let _ = C::outcome(frame);
        }
        FrameKind::Event | FrameKind::Retire | FrameKind::Resume => {}
    }
}

fn answer<C: FrameCodec>(out: &[u8], id: u64, kind: FrameKind) {
    let Scan::Frame(framed) = C::scan(out, 1 << 20) else { panic!("the answer is no frame: {out:02x?}") };
    assert_eq!(framed, Framed { len: out.len(), kind, id });
}
