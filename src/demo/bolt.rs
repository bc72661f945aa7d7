//! Bolt v1 as the demo speaks it: the echo call of a SOFARPC consumer, and a provider's answer to it.
//!
//! Frames follow sofa-bolt's `RpcCommandEncoder`, the header map `SimpleMapSerializer`, the content the draft Hessian
//! grammar; requests of real consumers are understood as far as they call a method with one string. Must never trust a
//! length that it read.

use super::{
    hessian::{Grammar::Draft, split, string},
    speech::{Opened, array, len_u16, len_u32},
};

/// The interface that the demo's consumers call.
pub(super) const SERVICE: &str = "com.example.EchoFacade";
const REQUEST: usize = 22;
const RESPONSE: usize = 20;
const REQUEST_CLASS: &[u8] = b"com.alipay.sofa.rpc.core.request.SofaRequest";
const RESPONSE_CLASS: &[u8] = b"com.alipay.sofa.rpc.core.response.SofaResponse";
/// Definition and start of the request object; its app name is null.
const REQUEST_OBJECT: &[u8] =
    b"O\xbccom.alipay.sofa.rpc.core.request.SofaRequest\x95\x0dtargetAppName\x0amethodName\
    \x17targetServiceUniqueName\x0crequestProps\x0dmethodArgSigso\x90N";
/// No request properties; the types of one string argument, which follows.
const ONE_STRING: &[u8] = b"Vt\0\x07[stringn\x01\x10java.lang.Stringz";
/// Definition and start of a response object without error; the returned value follows, then no properties.
const RESPONSE_OBJECT: &[u8] =
    b"O\xbecom.alipay.sofa.rpc.core.response.SofaResponse\x94\x07isError\x08errorMsg\
    \x0bappResponse\x0dresponsePropso\x90FN";
const CODEC_EXCEPTION: u8 = 9;

/// Length of the frame that begins here; `None` while it cannot be told, an error when it is no frame.
pub(super) fn len(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let (fixed, lengths) = match bytes {
        [] | [1] => return Ok(None),
        [1, 0, ..] => (RESPONSE, 12),
        [1, 1 | 2, ..] => (REQUEST, 14),
        _ => return Err("not a Bolt v1 frame"),
    };
    let parts =
        || Some((len_u16(bytes, lengths)?, len_u16(bytes, lengths + 2)?, len_u32(bytes, lengths + 4)?));
    Ok(parts().map(|(class, header, content)| (fixed + class + header).saturating_add(content)))
}

/// A call of `echo(text)`.
pub(super) fn request(id: u64, text: &str) -> Vec<u8> {
    let service = format!("{SERVICE}:1.0");
    let header = map(&[
        ("sofa_head_target_service", &service),
        ("service", &service),
        ("sofa_head_method_name", "echo"),
        ("app", "demo"),
        ("protocol", "bolt"),
        ("type", "sync"),
    ]);
    let (method, target, argument) = (string(Draft, "echo"), string(Draft, &service), string(Draft, text));
    let content = [REQUEST_OBJECT, &method, &target, b"Mz", ONE_STRING, &argument].concat();
    let timeout_ms = 5_000_u32.to_be_bytes();
    frame(
        &[&[1, 1, 0, 1, 1], &(id as u32).to_be_bytes()[..], &[1], &timeout_ms],
        REQUEST_CLASS,
        &header,
        &content,
    )
}

/// The provider's answer; `None` where none is due.
pub(super) fn answer(request: &[u8], endpoint: &str) -> Option<Vec<u8>> {
    let (id, codec) = (request.get(5..9)?, *request.get(9)?);
    match *request.get(1..4)? {
        [1, 0, 0] => Some(frame(&[&[1, 0, 0, 0, 1], id, &[codec, 0, 0]], b"", b"", b"")),
        [1, 0, 1] => Some(match argument(request).filter(|_| codec == 1) {
            Some(value) => {
                let content = [RESPONSE_OBJECT, value, b"N"].concat();
                let header = map(&[("endpoint", endpoint)]);
                frame(&[&[1, 0, 0, 2, 1], id, &[codec, 0, 0]], RESPONSE_CLASS, &header, &content)
            }
            None => frame(&[&[1, 0, 0, 2, 1], id, &[codec, 0, CODEC_EXCEPTION]], b"", b"", b""),
        }),
        _ => None,
    }
}

/// What a frame from the sidecar says; `None` when it answers no call.
pub(super) fn open(response: &[u8]) -> Option<Opened<'_>> {
    if *response.get(1..4)? != [0, 0, 2] {
        return None;
    }
    let id = Some(u32::from_be_bytes(array(response, 5)?).into());
    let status = u16::from_be_bytes(array(response, 10)?);
    let value = || {
        let (class, header) = (len_u16(response, 12)?, len_u16(response, 14)?);
        let content = RESPONSE + class + header;
        let endpoint = find(response.get(RESPONSE + class..content)?, b"endpoint")?;
        let (text, _, rest) = split(Draft, response.get(content..)?.strip_prefix(RESPONSE_OBJECT)?)?;
        (rest == b"N").then_some((text, endpoint))
    };
    let result = if status == 0 {
        value().ok_or("a body that is no echo".into())
    } else {
        Err(format!("status {status}"))
    };
    Some(Opened { id, result })
}

fn frame(start: &[&[u8]], class: &[u8], header: &[u8], content: &[u8]) -> Vec<u8> {
    let mut out = start.concat();
    out.extend_from_slice(&(class.len() as u16).to_be_bytes());
    out.extend_from_slice(&(header.len() as u16).to_be_bytes());
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    [&out, class, header, content].concat()
}

/// The one string argument of a call, as it stands on the wire.
fn argument(request: &[u8]) -> Option<&[u8]> {
    let content = request.get(REQUEST + len_u16(request, 14)? + len_u16(request, 16)?..)?;
    let types = content.windows(ONE_STRING.len()).position(|window| window == ONE_STRING)?;
    split(Draft, content.get(types + ONE_STRING.len()..)?).map(|(_, whole, _)| whole)
}

fn map(pairs: &[(&str, &str)]) -> Vec<u8> {
    let texts = pairs.iter().flat_map(|(key, value)| [key, value]);
    texts.flat_map(|text| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()).collect()
}

fn find<'a>(mut map: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut next = || {
        let (text, rest) = map.get(4..)?.split_at_checked(len_u32(map, 0)?)?;
        map = rest;
        Some(text)
    };
    loop {
        let (key, value) = (next()?, next()?);
        if key == wanted {
            return Some(value);
        }
    }
}
