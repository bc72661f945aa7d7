//! The fixed headers of Bolt v1 and v2, as tables of offsets, and the reader of a frame's first bytes.
//!
//! Which table applies is known only after the type byte, so nothing may be read past it before. All integers
//! are big-endian. This file decides what is Bolt at all; it must be no stricter than `RpcCommandDecoder` and
//! `RpcCommandDecoderV2` of sofa-bolt 1.6, which do not look at the command version (`ver2`), and it must reject
//! a wrong byte as soon as that byte is there.

use outrigger_codec::{FrameKind, Malformed};

pub(crate) const PROTO_V1: u8 = 1;
pub(crate) const PROTO_V2: u8 = 2;

pub(crate) const TYPE_RESPONSE: u8 = 0;
pub(crate) const TYPE_REQUEST: u8 = 1;
pub(crate) const TYPE_ONEWAY: u8 = 2;

pub(crate) const CMD_HEARTBEAT: u8 = 0;
pub(crate) const CMD_REQUEST: u8 = 1;
pub(crate) const CMD_RESPONSE: u8 = 2;
/// MOSN's extension; a stock Java peer closes the connection when it reads it.
pub(crate) const CMD_GOAWAY: u8 = 100;

pub(crate) const COMMAND_VERSION: u8 = 1;
pub(crate) const CODEC_HESSIAN2: u8 = 1;
pub(crate) const CODEC_HESSIAN2_OLD: u8 = 4;

/// A switch byte from here on is out of range for `ProtocolSwitch`.
const SWITCH_SIGN: u8 = 0x80;
const SWITCH_CRC: u8 = 1;
/// Bytes of the checksum after the content.
pub(crate) const CRC_LEN: usize = 4;

/// Where each field of a fixed header begins, and where the header ends.
///
/// | field      | width | v1 request | v1 response | v2 request | v2 response |
/// | ---------- | ----- | ---------- | ----------- | ---------- | ----------- |
/// | proto      | 1     | 0          | 0           | 0          | 0           |
/// | ver1       | 1     | -          | -           | 1          | 1           |
/// | type       | 1     | 1          | 1           | 2          | 2           |
/// | command    | 2     | 2          | 2           | 3          | 3           |
/// | ver2       | 1     | 4          | 4           | 5          | 5           |
/// | id         | 4     | 5          | 5           | 6          | 6           |
/// | codec      | 1     | 9          | 9           | 10         | 10          |
/// | switch     | 1     | -          | -           | 11         | 11          |
/// | timeout ms | 4     | 10         | -           | 12         | -           |
/// | status     | 2     | -          | 10          | -          | 12          |
/// | class len  | 2     | 14         | 12          | 16         | 14          |
/// | header len | 2     | 16         | 14          | 18         | 16          |
/// | content len| 4     | 18         | 16          | 20         | 18          |
/// | *end*      |       | 22         | 20          | 24         | 22          |
///
/// Class, header map and content follow in this order; then four bytes of CRC when `ver1` is 2 and bit 0 of the
/// switch is set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) id: usize,
    pub(crate) codec: usize,
    pub(crate) switch: Option<usize>,
    pub(crate) timeout: Option<usize>,
    pub(crate) status: Option<usize>,
    pub(crate) class_len: usize,
    pub(crate) header_len: usize,
    pub(crate) content_len: usize,
    /// Where the fixed part ends and the class begins.
    pub(crate) fixed: usize,
}

#[rustfmt::skip]
mod tables {
    use super::Layout;

    pub(crate) static V1_REQUEST: Layout = Layout {
        id: 5, codec: 9, switch: None, timeout: Some(10), status: None,
        class_len: 14, header_len: 16, content_len: 18, fixed: 22,
    };
    pub(crate) static V1_RESPONSE: Layout = Layout {
        id: 5, codec: 9, switch: None, timeout: None, status: Some(10),
        class_len: 12, header_len: 14, content_len: 16, fixed: 20,
    };
    pub(crate) static V2_REQUEST: Layout = Layout {
        id: 6, codec: 10, switch: Some(11), timeout: Some(12), status: None,
        class_len: 16, header_len: 18, content_len: 20, fixed: 24,
    };
    pub(crate) static V2_RESPONSE: Layout = Layout {
        id: 6, codec: 10, switch: Some(11), timeout: None, status: Some(12),
        class_len: 14, header_len: 16, content_len: 18, fixed: 22,
    };
}
pub(crate) use tables::{V1_REQUEST, V1_RESPONSE, V2_REQUEST, V2_RESPONSE};

/// What the first bytes tell, before any length is looked at.
pub(crate) enum Opening {
    /// The layout and the kind are certain.
    Known(&'static Layout, FrameKind),
    /// Every byte so far is possible; a frame that begins so has at least this many.
    More(usize),
}

/// Reads proto, ver1, type and command, as far as they are there.
#[inline]
pub(crate) fn opening(buf: &[u8]) -> Result<Opening, Malformed> {
    let (kind_bytes, request, response) = match buf {
        [] => return Ok(Opening::More(V1_RESPONSE.fixed)),
        [PROTO_V1, rest @ ..] => (rest, &V1_REQUEST, &V1_RESPONSE),
        [PROTO_V2] => return Ok(Opening::More(V2_RESPONSE.fixed)),
        [PROTO_V2, 1 | 2, rest @ ..] => (rest, &V2_REQUEST, &V2_RESPONSE),
        [PROTO_V2, ..] => return Err(Malformed("protocol version neither 1 nor 2")),
        _ => return Err(Malformed("protocol code neither 1 nor 2")),
    };
    let layout = match kind_bytes.first() {
        None => return Ok(Opening::More(response.fixed)),
        Some(&TYPE_RESPONSE) => response,
        Some(&(TYPE_REQUEST | TYPE_ONEWAY)) => request,
        Some(_) => return Err(Malformed("unknown frame type")),
    };
    match *kind_bytes {
        [kind, 0, command, ..] => {
            kind_of(kind, command).map(|kind| Opening::Known(layout, kind)).ok_or(UNKNOWN_COMMAND)
        }
        [_] | [_, 0] => Ok(Opening::More(layout.fixed)),
        _ => Err(UNKNOWN_COMMAND),
    }
}

const UNKNOWN_COMMAND: Malformed = Malformed("unknown command for the frame type");

const fn kind_of(kind: u8, command: u8) -> Option<FrameKind> {
    Some(match (kind, command) {
        (TYPE_REQUEST, CMD_REQUEST) => FrameKind::Request,
        (TYPE_RESPONSE, CMD_RESPONSE) => FrameKind::Response,
        (TYPE_ONEWAY, CMD_REQUEST) => FrameKind::OneWay,
        (TYPE_REQUEST, CMD_HEARTBEAT) => FrameKind::Heartbeat,
        (TYPE_RESPONSE, CMD_HEARTBEAT) => FrameKind::HeartbeatAck,
        (TYPE_ONEWAY, CMD_HEARTBEAT) => FrameKind::Event,
        (TYPE_REQUEST, CMD_GOAWAY) => FrameKind::Retire,
        _ => return None,
    })
}

/// The layout of a frame whose fixed header is there; `None` for anything else.
#[inline]
pub(crate) fn of(frame: &[u8]) -> Option<&'static Layout> {
    match opening(frame) {
        Ok(Opening::Known(layout, _)) if frame.len() >= layout.fixed => Some(layout),
        _ => None,
    }
}

impl Layout {
    /// The fault of the bytes that `buf` has of the fixed header, be it all of them or not.
    #[inline]
    pub(crate) fn fault(&self, buf: &[u8]) -> Option<Malformed> {
        let switch = self.switch.and_then(|at| buf.get(at))?;
        (switch & SWITCH_SIGN != 0).then_some(Malformed("switch above 127"))
    }

    /// Whether four bytes of CRC end this frame.
    #[inline]
    pub(crate) fn has_crc(&self, frame: &[u8]) -> bool {
        self.switch.and_then(|at| frame.get(at)).is_some_and(|switch| switch & SWITCH_CRC != 0)
            && frame.get(1) == Some(&2)
    }

    #[inline]
    pub(crate) fn id(&self, frame: &[u8]) -> Option<u32> {
        be32(frame, self.id)
    }

    /// Where class, header map, content and the whole frame end, by the declared lengths.
    #[inline]
    pub(crate) fn ends(&self, frame: &[u8]) -> Option<Ends> {
        let (class_len, header_len) = (be16(frame, self.class_len)?, be16(frame, self.header_len)?);
        let class = self.fixed.saturating_add(class_len.into());
        let header = class.saturating_add(header_len.into());
        let content_len = be32(frame, self.content_len)?;
        let content = header.saturating_add(content_len as usize);
        let crc = if self.has_crc(frame) { CRC_LEN } else { 0 };
        // Java's `short` and `int` are negative from here on: such a part is skipped as absent, or a sum wraps.
        let short = class_len.max(header_len) > i16::MAX as u16;
        let signed = short || content_len > i32::MAX as u32;
        Some(Ends { class, header, content, frame: content.saturating_add(crc), signed })
    }
}

/// Offsets from the start of a frame; each part begins where the one before ends.
pub(crate) struct Ends {
    pub(crate) class: usize,
    pub(crate) header: usize,
    pub(crate) content: usize,
    pub(crate) frame: usize,
    /// Whether one of the lengths is negative to a Java peer.
    pub(crate) signed: bool,
}

#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_be_bytes(*chunk))
}

#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}
