//! Dubbo2 as a frame codec: framing, kinds, ids, answers of our own.
//!
//! The fixed header alone says how long a frame is and whether it is a call, so that a frame that is too large is
//! refused before it arrives. Only for an event is the body looked at: one flag stands for heartbeats and for
//! READONLY alike. One-way requests are never answered, an unknown serialization is never an error, and the
//! serialization of an answer is that of its question wherever we can write it.
//! Source: `ExchangeCodec`, `HeartbeatHandler`, `HeaderExchangeHandler` and `DubboCodec` of Apache Dubbo 3.3.

use std::time::Duration;

use outrigger_codec::{
    Change, FrameCodec, FrameKind, Framed, HeadIndex, Malformed, Outcome, Refusal, Scan, Sniff, Ticket, Wants,
};

use crate::layout::{self, FASTJSON2, HEADER_LEN, HESSIAN2, Header, ID_AT, MAGIC};
use crate::values::{Value, Values as _};
use crate::{change, fastjson2, head, hessian};

/// The event that says "send no new calls here", and its opposite.
const READONLY: u8 = b'R';
const WRITEABLE: u8 = b'W';
/// The Hessian null: the body of a heartbeat.
const HESSIAN_NULL: u8 = 0x4e;
/// The longest null of a serialization we cannot write that is sent back as it came.
const EVENT_MAX: usize = 64;

/// The Dubbo2 codec.
#[derive(Clone, Copy, Debug)]
pub struct Dubbo;

impl FrameCodec for Dubbo {
    const NAME: &'static str = "dubbo";
    const HEARTBEAT_IDLE: Duration = Duration::from_secs(60);
    const HEARTBEAT_WAIT: Duration = Duration::from_secs(3);
    const SERVER_IDLE: Duration = Duration::from_secs(180);

    fn sniff(first: &[u8]) -> Sniff {
        match first {
            [] | [0xda] => Sniff::More,
            [0xda, 0xbb, ..] => Sniff::Yes,
            _ => Sniff::No,
        }
    }

    fn scan(buf: &[u8], frame_max: usize) -> Scan {
        let magic = buf.get(..MAGIC.len()).unwrap_or(buf);
        if !MAGIC.starts_with(magic) {
            return Scan::Broken(Malformed("no dubbo magic"));
        }
        let Some(header) = Header::read(buf) else {
            return Scan::Partial { total: HEADER_LEN };
        };
        // A negative length reads as more than 2 GiB: larger than any limit that fits the signed field.
        let len = HEADER_LEN.saturating_add(header.body_len as usize);
        if len > frame_max || header.body_len > i32::MAX as u32 {
            return Scan::TooLarge(Framed { len, kind: kind(header, &[]), id: header.id });
        }
        match buf.get(HEADER_LEN..len) {
            Some(body) => Scan::Frame(Framed { len, kind: kind(header, body), id: header.id }),
            None => Scan::Partial { total: len },
        }
    }

    fn head(frame: &[u8], wants: Wants, index: &mut HeadIndex) -> Result<(), Malformed> {
        head::read(frame, wants, index)
    }

    fn ticket(frame: &[u8]) -> Ticket {
        Ticket(u32::from(Header::read(frame).map_or(HESSIAN2, Header::serialization)))
    }

    fn lane(_frame: &[u8]) -> u8 {
        0
    }

    fn set_id(frame: &mut [u8], id: u64) {
        if let Some(place) = frame.get_mut(ID_AT..).and_then(<[u8]>::first_chunk_mut) {
            *place = id.to_be_bytes();
        }
    }

    fn set_timeout(frame: &mut [u8], index: &HeadIndex, ms: u32) -> bool {
        let [own, left] = index.timeouts.map(|span| change::set_timeout(frame, span, ms));
        own || left
    }

    fn add_timeout(frame: &[u8], index: &HeadIndex, ms: u32, out: &mut Vec<u8>) -> bool {
        change::add_timeout(frame, index.timeout_room, ms, out)
    }

    fn change(frame: &[u8], change: &Change, out: &mut Vec<u8>) -> bool {
        change::apply(frame, change, out)
    }

    fn outcome(frame: &[u8]) -> Outcome {
        let Some(header) = Header::read(frame) else {
            return Outcome::Error;
        };
        match header.status {
            layout::OK => result(header, frame),
            layout::SERVER_THREADPOOL_EXHAUSTED => Outcome::Busy,
            layout::CLIENT_TIMEOUT | layout::SERVER_TIMEOUT => Outcome::TimedOut,
            _ => Outcome::Error,
        }
    }

    fn reply_status(frame: &[u8]) -> u32 {
        Header::read(frame).map_or(u32::MAX, |header| u32::from(header.status))
    }

    fn refuse(ticket: Ticket, id: u64, why: Refusal, message: &str, out: &mut Vec<u8>) {
        let flags = if ticket == Ticket(u32::from(FASTJSON2)) { FASTJSON2 } else { HESSIAN2 };
        frame(Header { flags, status: layout::status_of(why), id, body_len: 0 }, out, |out| {
            if flags == FASTJSON2 {
                fastjson2::write_string(message, out);
            } else {
                hessian::write_string(message, out);
            }
        });
    }

    fn heartbeat_ack(question: &[u8], out: &mut Vec<u8>) {
        let Some(header) = Header::read(question) else {
            return;
        };
        let serialization = header.serialization();
        let flags = layout::EVENT | serialization;
        frame(Header { flags, status: layout::OK, id: header.id, body_len: 0 }, out, |out| {
            match serialization {
                HESSIAN2 => out.push(HESSIAN_NULL),
                FASTJSON2 => out.extend_from_slice(&[0, 0, 0, 1, fastjson2::NULL]),
                // The question's own body is null in its serialization.
                _ => out.extend_from_slice(
                    question.get(HEADER_LEN..).filter(|null| null.len() <= EVENT_MAX).unwrap_or_default(),
                ),
            }
        });
    }

    fn heartbeat(_lane: u8, id: u64, out: &mut Vec<u8>) {
        let flags = layout::REQUEST | layout::TWO_WAY | layout::EVENT | HESSIAN2;
        frame(Header { flags, status: 0, id, body_len: 0 }, out, |out| out.push(HESSIAN_NULL));
    }

    fn goodbye(id: u64, out: &mut Vec<u8>) {
        let flags = layout::REQUEST | layout::EVENT | HESSIAN2;
        frame(Header { flags, status: 0, id, body_len: 0 }, out, |out| out.extend_from_slice(&[1, READONLY]));
    }
}

/// Appends a frame whose body `write` appends.
pub(crate) fn frame(header: Header, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    header.write(out);
    let body = out.len();
    write(out);
    let body_len = out.len().saturating_sub(body) as u32;
    if let Some(place) = out.get_mut(start..body).and_then(<[u8]>::last_chunk_mut) {
        *place = body_len.to_be_bytes();
    }
}

fn kind(header: Header, body: &[u8]) -> FrameKind {
    match (header.has(layout::REQUEST), header.has(layout::EVENT), header.has(layout::TWO_WAY)) {
        (false, false, _) => FrameKind::Response,
        (false, true, _) => FrameKind::HeartbeatAck,
        (true, false, true) => FrameKind::Request,
        (true, false, false) => FrameKind::OneWay,
        (true, true, two_way) => match told(header, body) {
            Some(READONLY) => FrameKind::Retire,
            Some(WRITEABLE) => FrameKind::Resume,
            // Whatever it says, its sender waits for an answer.
            _ if two_way => FrameKind::Heartbeat,
            _ => FrameKind::Event,
        },
    }
}

/// The one letter that an event says, if it says one.
fn told(header: Header, body: &[u8]) -> Option<u8> {
    match (header.serialization(), body) {
        (HESSIAN2, [1, letter, ..]) | (FASTJSON2, [0, 0, 0, 2, 0x4a, letter, ..]) => Some(*letter),
        (HESSIAN2 | FASTJSON2, _) => None,
        // Other serializations write the letter last, JSON within quotes and before a line's end. What waits for an
        // answer is left a heartbeat there: an unread null must not retire a connection.
        _ if header.has(layout::TWO_WAY) || body.len() > EVENT_MAX => None,
        _ => body.iter().rev().find(|byte| !matches!(byte, b'"' | b'\n' | b'\r')).copied(),
    }
}

/// Whether a result is the service's own exception: the first value of the body is 0 or 3 then.
fn result(header: Header, frame: &[u8]) -> Outcome {
    let exception = match header.serialization() {
        HESSIAN2 => matches!(frame.get(HEADER_LEN), Some(0x90 | 0x93)),
        FASTJSON2 => {
            matches!(fastjson2::Walker::new(frame, HEADER_LEN).read(), Ok(Value::Number(0 | 3)))
        }
        _ => false,
    };
    if exception { Outcome::Exception } else { Outcome::Ok }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = vec![0xff];
        write(&mut out);
        out.split_off(1)
    }

    #[test]
    fn our_own_frames_are_those_that_java_writes() {
        let heartbeat = b"\xda\xbb\xe2\0\0\0\0\0\0\0\0\x01\0\0\0\x01\x4e";
        assert_eq!(written(|out| Dubbo::heartbeat(0, 1, out)), heartbeat);
        assert_eq!(
            written(|out| Dubbo::heartbeat_ack(heartbeat, out)),
            b"\xda\xbb\x22\x14\0\0\0\0\0\0\0\x01\0\0\0\x01\x4e"
        );
        assert_eq!(written(|out| Dubbo::goodbye(2, out)), b"\xda\xbb\xa2\0\0\0\0\0\0\0\0\x02\0\0\0\x02\x01R");
        assert_eq!(
            written(|out| Dubbo::refuse(Ticket(2), 3, Refusal::NoRoute, "no route", out)),
            b"\xda\xbb\x02\x3c\0\0\0\0\0\0\0\x03\0\0\0\x09\x08no route"
        );
        assert_eq!(
            written(|out| Dubbo::refuse(Ticket(23), 3, Refusal::Limited, "busy", out)),
            b"\xda\xbb\x17\x64\0\0\0\0\0\0\0\x03\0\0\0\x0a\0\0\0\x06\x79\x04busy"
        );
        assert_eq!(
            written(|out| Dubbo::refuse(Ticket(21), 3, Refusal::TimedOut, "late", out)),
            b"\xda\xbb\x02\x1f\0\0\0\0\0\0\0\x03\0\0\0\x05\x04late",
            "a serialization that we do not write gives way to the one that everybody reads"
        );
    }

    #[test]
    fn each_refusal_has_its_status() {
        let status = |why| written(|out| Dubbo::refuse(Ticket(2), 1, why, "", out)).get(3).copied();
        let expected = [60, 100, 60, 100, 31, 80, 80, 40, 40];
        assert_eq!(Refusal::ALL.map(status), expected.map(Some));
    }

    #[test]
    fn two_bytes_tell_dubbo_from_all_others() {
        assert_eq!(Dubbo::sniff(&[0xda]), Sniff::More);
        assert_eq!(Dubbo::sniff(&[0xda, 0xbb]), Sniff::Yes);
        assert_eq!(Dubbo::sniff(&[0xda, 0xbc]), Sniff::No);
        assert_eq!(Dubbo::sniff(b"GET"), Sniff::No);
    }

    #[test]
    fn the_flags_and_an_events_letter_tell_the_kind() {
        let kind_of = |flags: u8, body: &[u8]| {
            let header = Header { flags, status: 0, id: 0, body_len: body.len() as u32 };
            kind(header, body)
        };
        for (flags, body, kind) in [
            (0xc2, &b"x"[..], FrameKind::Request),
            (0x82, b"x", FrameKind::OneWay),
            (0x02, b"x", FrameKind::Response),
            (0x42, b"x", FrameKind::Response),
            (0x22, b"\x4e", FrameKind::HeartbeatAck),
            (0xe2, b"\x4e", FrameKind::Heartbeat),
            (0xa2, b"\x4e", FrameKind::Event),
            (0xa2, b"\x01R", FrameKind::Retire),
            (0xe2, b"\x01R", FrameKind::Retire),
            (0xa2, b"\x01W", FrameKind::Resume),
            (0xa2, b"\x01X", FrameKind::Event),
            (0xe2, b"\x01X", FrameKind::Heartbeat),
            (0xe2, b"", FrameKind::Heartbeat),
            (0xf7, b"\0\0\0\x01\xaf", FrameKind::Heartbeat),
            (0xb7, b"\0\0\0\x02\x4aR", FrameKind::Retire),
            (0xb7, b"\0\0\0\x02\x4aW", FrameKind::Resume),
            (0xb0, b"\"R\"\n", FrameKind::Retire),
            (0xa7, b"\0\x01W", FrameKind::Resume),
            (0xf0, b"null\n", FrameKind::Heartbeat),
            (0xb0, b"null\n", FrameKind::Event),
        ] {
            assert_eq!(kind_of(flags, body), kind, "{flags:x} {body:x?}");
        }
    }

    #[test]
    fn an_unknown_serializations_null_is_sent_back() {
        let question = b"\xda\xbb\xf0\0\0\0\0\0\0\0\0\x07\0\0\0\x05null\n";
        let answer = b"\xda\xbb\x30\x14\0\0\0\0\0\0\0\x07\0\0\0\x05null\n";
        assert_eq!(written(|out| Dubbo::heartbeat_ack(question, out)), answer);
    }
}
