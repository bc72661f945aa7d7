//! Dubbo2 as the demo speaks it: the echo call of a Java consumer, and a provider's answer to it.
//!
//! Frames follow Dubbo's `ExchangeCodec` and `DubboCodec`, bodies Hessian 2; requests of real consumers are understood
//! as far as they call a method with one string. Must never trust a length that it read.

use super::{
    hessian::{Grammar::Final, split, string},
    speech::{Opened, array, len_u32},
};

/// The interface that the demo's consumers call.
pub(super) const SERVICE: &str = "com.example.EchoService";
const VERSION: &str = "1.0.0";
const HEAD: usize = 16;
const HESSIAN2: u8 = 2;
const TWO_WAY_REQUEST: u8 = 0xc0;
const EVENT: u8 = 0x20;
const OK: u8 = 20;
const BAD_REQUEST: u8 = 40;
/// A value with attachments, which callers of protocol 2.0.2 and later understand; and one without.
const VALUE_WITH_ATTACHMENTS: u8 = 0x94;
const VALUE: u8 = 0x91;

/// Length of the frame that begins here; `None` while it cannot be told, an error when it is no frame.
pub(super) fn len(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    if !b"\xda\xbb".starts_with(bytes.get(..2).unwrap_or(bytes)) {
        return Err("not a Dubbo2 frame");
    }
    Ok(len_u32(bytes, 12).map(|body| body.saturating_add(HEAD)))
}

/// A call of `echo(text)`.
pub(super) fn request(id: u64, text: &str) -> Vec<u8> {
    let strings =
        ["2.0.2", SERVICE, VERSION, "echo", "Ljava/lang/String;", text].map(|value| string(Final, value));
    let attachments = map(&[("path", SERVICE), ("timeout", "5000")]);
    frame(TWO_WAY_REQUEST | HESSIAN2, 0, &id.to_be_bytes(), &[strings.concat(), attachments].concat())
}

/// The provider's answer; `None` where none is due.
pub(super) fn answer(request: &[u8], endpoint: &str) -> Option<Vec<u8>> {
    let (flags, id) = (*request.get(2)?, request.get(4..12)?);
    if flags & TWO_WAY_REQUEST != TWO_WAY_REQUEST {
        return None;
    }
    if flags & EVENT != 0 {
        return Some(frame(flags & !TWO_WAY_REQUEST, OK, id, b"N"));
    }
    Some(match call(request).filter(|_| flags & 0x1f == HESSIAN2) {
        Some((b"2.0.2", value)) => {
            let attachments = map(&[("dubbo", "2.0.2"), ("endpoint", endpoint)]);
            frame(HESSIAN2, OK, id, &[&[VALUE_WITH_ATTACHMENTS], value, &attachments].concat())
        }
        Some((_, value)) => frame(HESSIAN2, OK, id, &[&[VALUE], value].concat()),
        None => frame(HESSIAN2, BAD_REQUEST, id, &string(Final, "the demo echoes one string in Hessian 2")),
    })
}

/// What a frame from the sidecar says; `None` when it answers no call.
pub(super) fn open(response: &[u8]) -> Option<Opened<'_>> {
    let (flags, status) = (*response.get(2)?, *response.get(3)?);
    if flags & (0x80 | EVENT) != 0 {
        return None;
    }
    let (id, body) = (Some(u64::from_be_bytes(array(response, 4)?)), response.get(HEAD..)?);
    let value = || {
        let (text, _, rest) = split(Final, body.strip_prefix(&[VALUE_WITH_ATTACHMENTS])?)?;
        let rest = rest.strip_prefix(&map(&[("dubbo", "2.0.2")])[..13])?;
        let endpoint = rest.strip_prefix(b"\x08endpoint").and_then(|rest| split(Final, rest))?;
        (endpoint.2 == b"Z").then_some((text, endpoint.0))
    };
    let why = || {
        split(Final, body).map(|(text, ..)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    let result = match status {
        OK => value().ok_or("a body that is no echo".into()),
        _ => Err(format!("status {status} {}", why())),
    };
    Some(Opened { id, result })
}

fn frame(flags: u8, status: u8, id: &[u8], body: &[u8]) -> Vec<u8> {
    [&[0xda, 0xbb, flags, status], id, &(body.len() as u32).to_be_bytes(), body].concat()
}

/// The caller's protocol version, and the one string argument of its call as it stands on the wire.
fn call(request: &[u8]) -> Option<(&[u8], &[u8])> {
    let (version, _, mut rest) = split(Final, request.get(HEAD..)?)?;
    for _ in ["path", "version", "method"] {
        rest = match rest {
            [b'N', rest @ ..] => rest,
            _ => split(Final, rest)?.2,
        };
    }
    let (types, _, argument) = split(Final, rest)?;
    let (_, whole, _) = split(Final, argument).filter(|_| types == b"Ljava/lang/String;")?;
    Some((version, whole))
}

fn map(pairs: &[(&str, &str)]) -> Vec<u8> {
    let texts = pairs.iter().flat_map(|(key, value)| [string(Final, key), string(Final, value)]);
    [&b"H"[..], &texts.collect::<Vec<_>>().concat(), b"Z"].concat()
}
