//! What the simulated callers and endpoints say: frames of each protocol, built and read without the codecs' help.
//!
//! Only the parts a life needs: calls with a service, a method, a timeout and a payload that names the call; answers
//! of every kind; and what hostile peers send. Offsets are those of the protocols' fixed headers. Checksums are left
//! to `set_id`, which must keep them true.

use outrigger_bolt::Bolt;
use outrigger_codec::{FrameCodec, Refusal, Ticket};
use outrigger_dubbo::Dubbo;

/// A call to be spelled out.
pub(crate) struct Ask<'a> {
    pub(crate) lane: u8,
    pub(crate) id: u64,
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    pub(crate) timeout_ms: Option<u32>,
    pub(crate) one_way: bool,
    pub(crate) payload: &'a [u8],
}

/// How an endpoint answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Ok,
    Exception,
    Busy,
    Error,
}

/// A protocol as its peers speak it.
pub(crate) trait Dialect: FrameCodec {
    /// Kinds of frames that must not share an upstream connection.
    const LANES: u8;
    /// Ids are cut to this.
    const ID_MASK: u64;

    fn request(ask: &Ask<'_>, out: &mut Vec<u8>);
    /// A call whose framing is sound but whose head cannot be read.
    fn unreadable(id: u64, out: &mut Vec<u8>);
    fn answer(lane: u8, id: u64, reply: Reply, payload: &[u8], out: &mut Vec<u8>);
    /// The fixed header of a call that declares a body of `len` bytes, and nothing behind it.
    fn oversized(id: u64, len: u32, out: &mut Vec<u8>);
    /// A call that an endpoint sends to its caller.
    fn callback(lane: u8, id: u64, out: &mut Vec<u8>);
    /// READONLY, GOAWAY.
    fn retire(out: &mut Vec<u8>);
    /// WRITEABLE, where there is one.
    fn resume(out: &mut Vec<u8>);
    /// The payload of a call or an answer.
    fn payload(frame: &[u8]) -> &[u8];
    fn status(frame: &[u8]) -> u16;

    /// The reasons that share the status of this answer.
    fn reasons(frame: &[u8]) -> Vec<Refusal> {
        let status = Self::status(frame);
        let mut said = Vec::new();
        let says = |why: &Refusal| {
            said.clear();
            Self::refuse(Ticket::default(), 0, *why, "", &mut said);
            // The ticket of nothing is answered in the oldest version.
            Self::status(&said) == status
        };
        Refusal::ALL.into_iter().filter(says).collect()
    }
}

fn be<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().expect("a whole header")
}

/// A Bolt frame from its parts; `kind` 0 is an answer, where `field` is the status, otherwise the timeout.
fn bolt(
    lane: u8,
    [kind, command]: [u8; 2],
    id: u64,
    field: u32,
    [class, map, content]: [&[u8]; 3],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let crc = lane == 2;
    match lane {
        0 => out.push(1),
        ver1 => out.extend([2, ver1]),
    }
    out.extend([kind, 0, command, 1]);
    out.extend((id as u32).to_be_bytes());
    out.push(1);
    if lane > 0 {
        out.push(u8::from(crc));
    }
    if kind == 0 {
        out.extend((field as u16).to_be_bytes());
    } else {
        out.extend(field.to_be_bytes());
    }
    out.extend((class.len() as u16).to_be_bytes());
    out.extend((map.len() as u16).to_be_bytes());
    out.extend((content.len() as u32).to_be_bytes());
    for part in [class, map, content] {
        out.extend(part);
    }
    if crc {
        out.extend([0; 4]);
        Bolt::set_id(&mut out[start..], id);
    }
}

fn bolt_strings(strings: &[&str], out: &mut Vec<u8>) {
    for string in strings {
        out.extend((string.len() as u32).to_be_bytes());
        out.extend(string.as_bytes());
    }
}

impl Dialect for Bolt {
    const LANES: u8 = 3;
    const ID_MASK: u64 = u32::MAX as u64;

    fn request(ask: &Ask<'_>, out: &mut Vec<u8>) {
        let mut map = Vec::with_capacity(64);
        bolt_strings(&["service", ask.service, "sofa_head_method_name", ask.method], &mut map);
        let timeout = ask.timeout_ms.unwrap_or(u32::MAX);
        let kind = if ask.one_way { 2 } else { 1 };
        bolt(ask.lane, [kind, 1], ask.id, timeout, [b"c.R", &map, ask.payload], out);
    }

    fn unreadable(id: u64, out: &mut Vec<u8>) {
        let class = b"com.alipay.sofa.rpc.core.request.SofaRequest";
        bolt(0, [1, 1], id, 100, [class, &[0, 0, 0, 9, 1], b""], out);
    }

    fn answer(lane: u8, id: u64, reply: Reply, payload: &[u8], out: &mut Vec<u8>) {
        let mut map = Vec::new();
        if let Reply::Exception = reply {
            bolt_strings(&["sofa_head_response_error", "true"], &mut map);
        }
        let status = match reply {
            Reply::Ok | Reply::Exception => 0,
            Reply::Busy => 4,
            Reply::Error => 2,
        };
        bolt(lane, [0, 2], id, status, [b"c.A", &map, payload], out);
    }

    fn oversized(id: u64, len: u32, out: &mut Vec<u8>) {
        bolt(0, [1, 1], id, 100, [b"", b"", b""], out);
        let at = out.len() - 4;
        out[at..].copy_from_slice(&len.to_be_bytes());
    }

    fn callback(lane: u8, id: u64, out: &mut Vec<u8>) {
        bolt(lane, [1, 1], id, 100, [b"c.R", b"", b"back"], out);
    }

    fn retire(out: &mut Vec<u8>) {
        bolt(0, [1, 100], 1, 0, [b"", b"", b""], out);
    }

    fn resume(_out: &mut Vec<u8>) {}

    fn payload(frame: &[u8]) -> &[u8] {
        let v2 = 2 * usize::from(frame[0] == 2);
        let kind = frame[1 + usize::from(v2 > 0)];
        let lengths = v2 + if kind == 0 { 12 } else { 14 };
        let skip = u16::from_be_bytes(be(frame, lengths)) + u16::from_be_bytes(be(frame, lengths + 2));
        let from = lengths + 8 + usize::from(skip);
        &frame[from..from + u32::from_be_bytes(be(frame, lengths + 4)) as usize]
    }

    fn status(frame: &[u8]) -> u16 {
        u16::from_be_bytes(be(frame, if frame[0] == 2 { 12 } else { 10 }))
    }
}

/// A Dubbo frame; `write` appends the body.
fn dubbo(flags: u8, status: u8, id: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend([0xda, 0xbb, flags | 2, status]);
    out.extend(id.to_be_bytes());
    out.extend([0; 4]);
    let start = out.len();
    write(out);
    let len = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&len.to_be_bytes());
}

/// A Hessian string of fewer than 32 characters.
fn text(text: &str, out: &mut Vec<u8>) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

/// A Hessian byte array.
fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'B');
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

impl Dialect for Dubbo {
    const LANES: u8 = 1;
    const ID_MASK: u64 = u64::MAX;

    fn request(ask: &Ask<'_>, out: &mut Vec<u8>) {
        dubbo(if ask.one_way { 0x80 } else { 0xc0 }, 0, ask.id, out, |out| {
            for part in ["2.0.2", ask.service, "0.0.0", ask.method, "[B"] {
                text(part, out);
            }
            binary(ask.payload, out);
            out.push(b'H');
            if let Some(ms) = ask.timeout_ms {
                text("timeout", out);
                text(&ms.to_string(), out);
            }
            text("path", out);
            text(ask.service, out);
            out.push(b'Z');
        });
    }

    fn unreadable(id: u64, out: &mut Vec<u8>) {
        dubbo(0xc0, 0, id, out, |out| text("2.0.2", out));
    }

    fn answer(_lane: u8, id: u64, reply: Reply, payload: &[u8], out: &mut Vec<u8>) {
        let (status, lead) = match reply {
            Reply::Ok => (20, 0x91),
            Reply::Exception => (20, 0x90),
            Reply::Busy => (100, b'N'),
            Reply::Error => (70, b'N'),
        };
        dubbo(0, status, id, out, |out| {
            out.push(lead);
            binary(payload, out);
        });
    }

    fn oversized(id: u64, len: u32, out: &mut Vec<u8>) {
        dubbo(0xc0, 0, id, out, |_| {});
        let at = out.len() - 4;
        out[at..].copy_from_slice(&len.to_be_bytes());
    }

    fn callback(_lane: u8, id: u64, out: &mut Vec<u8>) {
        dubbo(0xc0, 0, id, out, |out| text("2.0.2", out));
    }

    fn retire(out: &mut Vec<u8>) {
        dubbo(0xa0, 0, 1, out, |out| text("R", out));
    }

    fn resume(out: &mut Vec<u8>) {
        dubbo(0xa0, 0, 1, out, |out| text("W", out));
    }

    fn payload(frame: &[u8]) -> &[u8] {
        let mut at = 16;
        if frame[2] & 0x80 == 0 {
            at += 1;
        } else {
            for _ in 0..5 {
                at += 1 + usize::from(frame[at]);
            }
        }
        if frame.get(at) != Some(&b'B') {
            return &[];
        }
        &frame[at + 3..at + 3 + usize::from(u16::from_be_bytes(be(frame, at + 1)))]
    }

    fn status(frame: &[u8]) -> u16 {
        frame[3].into()
    }
}
