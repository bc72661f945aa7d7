//! [`Bolt`]: the `FrameCodec` of SOFA Bolt v1 and v2.
//!
//! Answers go out in the version of their request and with its codec byte; statuses come from the table of
//! sofa-bolt's `ResponseStatus` alone, because a Java client closes the connection on any other. What is made
//! here carries switch 0, and so never a CRC, which every receiver accepts. It must never answer for a one-way
//! call, send a GOAWAY, or leave a checksum untrue after a patch.

use std::time::Duration;

use outrigger_codec::{
    Change, FrameCodec, Framed, HeadIndex, Malformed, Outcome, Refusal, Scan, Sniff, Ticket, Wants,
};

use crate::layout::{self, CRC_LEN, Layout, Opening, PROTO_V1, PROTO_V2, be16};
use crate::{change, head};

/// SOFA Bolt v1 and v2 on one connection, as sofa-bolt reads them.
#[derive(Clone, Copy, Debug)]
pub struct Bolt;

const STATUS_SUCCESS: u16 = 0x00;
const STATUS_SERVER_EXCEPTION: u16 = 0x02;
const STATUS_BUSY: u16 = 0x04;
const STATUS_NO_PROCESSOR: u16 = 0x06;
const STATUS_TIMEOUT: u16 = 0x07;
const STATUS_CODEC_EXCEPTION: u16 = 0x09;
const STATUS_CONNECTION_CLOSED: u16 = 0x10;

/// The header map entry of a refusal that says what was refused and why.
const MESSAGE_KEY: &[u8] = b"outrigger_error";
/// Longer messages are cut: the whole map must stay a Java short.
const MESSAGE_MAX: usize = 1024;

/// Versions of the protocol that never share an upstream connection: a Java peer answers every request of a
/// connection in the version of the first frame it read there.
#[derive(Clone, Copy)]
enum Version {
    V1,
    V2 { ver1: u8 },
}

impl Version {
    fn of(frame: &[u8]) -> Self {
        match *frame {
            [PROTO_V2, ver1, ..] => Self::V2 { ver1 },
            _ => Self::V1,
        }
    }

    /// Begins a frame: everything from the proto byte to the switch.
    fn open(self, kind: u8, command: u8, id: u32, codec: u8, out: &mut Vec<u8>) {
        match self {
            Self::V1 => out.push(PROTO_V1),
            Self::V2 { ver1 } => out.extend_from_slice(&[PROTO_V2, ver1]),
        }
        out.extend_from_slice(&[kind, 0, command, layout::COMMAND_VERSION]);
        out.extend_from_slice(&id.to_be_bytes());
        out.push(codec);
        if matches!(self, Self::V2 { .. }) {
            out.push(0);
        }
    }
}

impl FrameCodec for Bolt {
    const NAME: &'static str = "bolt";
    const HEARTBEAT_IDLE: Duration = Duration::from_secs(15);
    const HEARTBEAT_WAIT: Duration = Duration::from_secs(1);
    const SERVER_IDLE: Duration = Duration::from_secs(90);

    /// Asks for one byte more than Java does, the command version, which every writer sets to 1: a stream of
    /// another protocol is not to be taken for Bolt.
    fn sniff(first: &[u8]) -> Sniff {
        match layout::opening(first) {
            Err(_) => Sniff::No,
            Ok(Opening::More(_)) => Sniff::More,
            Ok(Opening::Known(layout, _)) => match first.get(layout.id.saturating_sub(1)) {
                None => Sniff::More,
                Some(&layout::COMMAND_VERSION) => Sniff::Yes,
                Some(_) => Sniff::No,
            },
        }
    }

    #[inline]
    fn scan(buf: &[u8], frame_max: usize) -> Scan {
        let (layout, kind) = match layout::opening(buf) {
            Ok(Opening::Known(layout, kind)) => (layout, kind),
            Ok(Opening::More(total)) => return Scan::Partial { total },
            Err(fault) => return Scan::Broken(fault),
        };
        if let Some(fault) = layout.fault(buf) {
            return Scan::Broken(fault);
        }
        let (Some(id), Some(ends)) = (layout.id(buf), layout.ends(buf)) else {
            return Scan::Partial { total: layout.fixed };
        };
        let framed = Framed { len: ends.frame, kind, id: id.into() };
        if ends.signed || ends.frame > frame_max {
            return Scan::TooLarge(framed);
        }
        match buf.get(..ends.frame) {
            None => Scan::Partial { total: ends.frame },
            Some(frame) if layout.has_crc(frame) && !crc_holds(frame) => Scan::Broken(Malformed("crc")),
            Some(_) => Scan::Frame(framed),
        }
    }

    #[inline]
    fn head(frame: &[u8], wants: Wants, index: &mut HeadIndex) -> Result<(), Malformed> {
        head::read(frame, wants, index)
    }

    #[inline]
    fn ticket(frame: &[u8]) -> Ticket {
        let codec = layout::of(frame).and_then(|layout| frame.get(layout.codec)).copied().unwrap_or(0);
        match Version::of(frame) {
            Version::V1 => Ticket(u32::from_be_bytes([0, PROTO_V1, 0, codec])),
            Version::V2 { ver1 } => Ticket(u32::from_be_bytes([0, PROTO_V2, ver1, codec])),
        }
    }

    /// 0 is v1, 1 and 2 are v2 with that `ver1`.
    #[inline]
    fn lane(frame: &[u8]) -> u8 {
        match Version::of(frame) {
            Version::V1 => 0,
            Version::V2 { ver1: 2 } => 2,
            Version::V2 { .. } => 1,
        }
    }

    #[inline]
    fn set_id(frame: &mut [u8], id: u64) {
        if let Some(layout) = layout::of(frame) {
            patch(frame, layout, layout.id, id as u32);
        }
    }

    #[inline]
    fn set_timeout(frame: &mut [u8], _index: &HeadIndex, ms: u32) -> bool {
        let layout = layout::of(frame);
        let place = layout.and_then(|layout| Some((layout, layout.timeout?)));
        if let Some((layout, at)) = place {
            // Java reads a signed number: what it cannot hold is cut to the longest wait it can.
            patch(frame, layout, at, ms.min(i32::MAX as u32));
        }
        place.is_some()
    }

    fn add_timeout(_frame: &[u8], _index: &HeadIndex, _ms: u32, _out: &mut Vec<u8>) -> bool {
        false
    }

    fn change(frame: &[u8], change: &Change, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let done = change::apply(frame, change, out);
        // Writing the same id again makes the checksum true.
        if let Some(frame) = out.get_mut(start..).filter(|_| done)
            && let Some(layout) = layout::of(frame)
            && let Some(id) = layout.id(frame)
        {
            patch(frame, layout, layout.id, id);
        }
        done
    }

    #[inline]
    fn outcome(frame: &[u8]) -> Outcome {
        let status = layout::of(frame).and_then(|layout| be16(frame, layout.status?));
        match status {
            Some(STATUS_SUCCESS) if head::is_response_error(frame) => Outcome::Exception,
            Some(STATUS_SUCCESS) => Outcome::Ok,
            Some(STATUS_BUSY) => Outcome::Busy,
            Some(STATUS_TIMEOUT) => Outcome::TimedOut,
            _ => Outcome::Error,
        }
    }

    fn reply_status(frame: &[u8]) -> u32 {
        layout::of(frame).and_then(|layout| be16(frame, layout.status?)).map_or(u32::MAX, u32::from)
    }

    /// Java and Node clients make their exception from the status alone and show no text of ours, so the message
    /// goes into the header map, for whoever reads a capture. Both skip the map of an answer without a class:
    /// `RpcResponseResolver` decodes an answer only for statuses 0, 0x02, 0x11 and 0x12, and sofa-bolt-node steps
    /// over the bytes. With 0x02 the map stays empty, because a program that registered a serializer of its own
    /// for all responses would be handed it.
    fn refuse(ticket: Ticket, id: u64, why: Refusal, message: &str, out: &mut Vec<u8>) {
        let [_, proto, ver1, codec] = ticket.0.to_be_bytes();
        let version = if proto == PROTO_V2 { Version::V2 { ver1 } } else { Version::V1 };
        let status = status_of(why);
        version.open(layout::TYPE_RESPONSE, layout::CMD_RESPONSE, id as u32, codec, out);
        out.extend_from_slice(&status.to_be_bytes());
        let message = cut(message, MESSAGE_MAX);
        if status == STATUS_SERVER_EXCEPTION || message.is_empty() {
            out.extend_from_slice(&[0; 8]);
            return;
        }
        let map_len = MESSAGE_KEY.len().saturating_add(message.len()).saturating_add(8);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(map_len as u16).to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        for string in [MESSAGE_KEY, message.as_bytes()] {
            out.extend_from_slice(&(string.len() as u32).to_be_bytes());
            out.extend_from_slice(string);
        }
    }

    fn heartbeat_ack(frame: &[u8], out: &mut Vec<u8>) {
        let Some(layout) = layout::of(frame) else { return };
        let (Some(id), Some(&codec)) = (layout.id(frame), frame.get(layout.codec)) else { return };
        Version::of(frame).open(layout::TYPE_RESPONSE, layout::CMD_HEARTBEAT, id, codec, out);
        // Status success, then three lengths.
        out.extend_from_slice(&[0; 10]);
    }

    fn heartbeat(lane: u8, id: u64, out: &mut Vec<u8>) {
        let version = if lane == 0 { Version::V1 } else { Version::V2 { ver1: lane.min(2) } };
        version.open(layout::TYPE_REQUEST, layout::CMD_HEARTBEAT, id as u32, layout::CODEC_HESSIAN2, out);
        // No timeout, as the Java client says it, then three lengths.
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        out.extend_from_slice(&[0; 8]);
    }

    /// Nothing: the only event that says so is MOSN's GOAWAY, on which a stock Java client closes the connection
    /// and loses its calls in flight.
    fn goodbye(_id: u64, _out: &mut Vec<u8>) {}
}

const fn status_of(why: Refusal) -> u16 {
    match why {
        Refusal::NoRoute | Refusal::NoEndpoint => STATUS_NO_PROCESSOR,
        Refusal::Limited | Refusal::Overloaded => STATUS_BUSY,
        Refusal::TimedOut => STATUS_TIMEOUT,
        Refusal::Unreachable => STATUS_CONNECTION_CLOSED,
        Refusal::Forbidden => STATUS_SERVER_EXCEPTION,
        Refusal::Malformed | Refusal::TooLarge => STATUS_CODEC_EXCEPTION,
    }
}

/// At most `max` bytes of `text`, cut between characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// Writes four bytes into the fixed header of a whole frame.
#[inline]
fn patch(frame: &mut [u8], layout: &Layout, at: usize, value: u32) {
    if let Some(field) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = value.to_be_bytes();
    }
    if layout.has_crc(frame)
        && let Some((body, trailer)) = frame.split_last_chunk_mut::<CRC_LEN>()
    {
        *trailer = crc32fast::hash(body).to_be_bytes();
    }
}

fn crc_holds(frame: &[u8]) -> bool {
    frame
        .split_last_chunk::<CRC_LEN>()
        .is_some_and(|(body, trailer)| crc32fast::hash(body) == u32::from_be_bytes(*trailer))
}

#[cfg(test)]
mod tests {
    use outrigger_codec::FrameKind;

    use super::*;

    #[test]
    fn kinds_are_decided_by_type_and_command_together() {
        let kind = |kind: u8, command: u8| {
            let frame = [[1, kind, 0, command, 1].as_slice(), &[0; 17]].concat();
            match Bolt::scan(&frame, 64) {
                Scan::Frame(framed) => Some(framed.kind),
                _ => None,
            }
        };
        assert_eq!(kind(1, 1), Some(FrameKind::Request));
        assert_eq!(kind(2, 1), Some(FrameKind::OneWay));
        assert_eq!(kind(1, 0), Some(FrameKind::Heartbeat));
        assert_eq!(kind(2, 0), Some(FrameKind::Event));
        assert_eq!(kind(0, 2), Some(FrameKind::Response));
        assert_eq!(kind(0, 0), Some(FrameKind::HeartbeatAck));
        assert_eq!(kind(1, 100), Some(FrameKind::Retire));
        for (frame_type, command) in [(0, 1), (1, 2), (2, 2), (0, 100), (2, 100), (1, 3), (3, 1), (0xff, 0)] {
            assert_eq!(kind(frame_type, command), None, "type {frame_type} command {command}");
        }
    }

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(cut("héllo", 2), "h");
        assert_eq!(cut("héllo", 3), "hé");
        assert_eq!(cut("hi", 9), "hi");
    }
}
