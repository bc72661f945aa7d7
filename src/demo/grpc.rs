//! gRPC and Triple as the demo speaks them: a message that holds one string, and a service's answer to it.
//!
//! Messages have gRPC's five bytes before them. gRPC's own is any message of Protocol Buffers whose field 1 is the text, and
//! comes back as it was; Triple's is Dubbo's `TripleRequestWrapper` with one string in Hessian, and comes back as a
//! `TripleResponseWrapper` (`triple_wrapper.proto` of apache/dubbo). Must never trust a length that it read.

use super::{
    hessian::{Grammar::Final, split, string},
    speech::len_u32,
    streams::{Answered, Streams},
};

/// The service that callers of gRPC call.
pub(super) const SERVICE: &str = "demo.Echo";
/// The interface that consumers of Triple call.
pub(super) const INTERFACE: &str = "com.example.EchoTriple";
/// The method of both.
pub(super) const METHOD: &str = "echo";

/// gRPC.
pub(super) const GRPC: Streams = Streams {
    path: "/demo.Echo/echo",
    headers: &[("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S")],
    content_type: "application/grpc",
    status: true,
    body: |text| message(&field(1, text.as_bytes())),
    answer: |body| opened(body).map(message),
    text: |body| find(opened(body).ok()?, 1),
};

/// Triple, as Dubbo's consumers speak it.
pub(super) const TRIPLE: Streams = Streams {
    path: "/com.example.EchoTriple/echo",
    headers: &[
        ("content-type", "application/grpc+proto"),
        ("te", "trailers"),
        ("grpc-timeout", "5000000u"),
        ("tri-consumer-appname", "demo"),
    ],
    content_type: "application/grpc",
    status: true,
    body: |text| {
        let fields = [field(1, HESSIAN), field(2, &string(Final, text)), field(3, STRING)];
        message(&fields.concat())
    },
    answer: triple_answer,
    text: |body| {
        let wrapper = opened(body).ok()?;
        let data = find(wrapper, 2).filter(|_| find(wrapper, 1) == Some(HESSIAN))?;
        let (text, _, rest) = split(Final, data)?;
        rest.is_empty().then_some(text)
    },
};

const HESSIAN: &[u8] = b"hessian4";
const STRING: &[u8] = b"java.lang.String";
const INVALID: u8 = 3;
const UNIMPLEMENTED: u8 = 12;
const HEAD: usize = 5;

fn triple_answer(body: &[u8]) -> Answered {
    let wrapper = opened(body)?;
    let is = |number, value| find(wrapper, number) == Some(value);
    let value = find(wrapper, 2).filter(|_| is(1, HESSIAN) && is(3, STRING));
    let value = value.ok_or((INVALID, "the demo echoes one string in Hessian"))?;
    Ok(message(&[field(1, HESSIAN), field(2, value), field(3, STRING)].concat()))
}

/// A message with its five bytes.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// The one message of a body.
fn opened(body: &[u8]) -> Result<&[u8], (u8, &'static str)> {
    match (body.first(), len_u32(body, 1), body.get(HEAD..)) {
        (Some(0), Some(len), Some(message)) if len == message.len() => Ok(message),
        (Some(1), ..) => Err((UNIMPLEMENTED, "the demo reads no compressed messages")),
        _ => Err((INVALID, "the demo takes one message a call")),
    }
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [&out, bytes].concat()
}

/// The first field of bytes with this number, where all fields up to it are of bytes.
fn find(mut message: &[u8], number: u8) -> Option<&[u8]> {
    loop {
        let key = *message.first()?;
        let (mut len, mut at) = (0usize, 1);
        for shift in [0, 7, 14, 21] {
            let byte = *message.get(at)?;
            at += 1;
            len |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        let (value, rest) = message.get(at..)?.split_at_checked(len).filter(|_| key & 7 == 2)?;
        if key >> 3 == number {
            return Some(value);
        }
        message = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triple_is_spelled_as_dubbo_spells_it() {
        let due = "000000002e0a086865737369616e3412100f68656c6c6f206f75747269676765721a106a6176612e6c616e672e537472696e67";
        let body = (TRIPLE.body)("hello outrigger");
        let hex = body.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, due);
        // Dubbo's provider gives the same fields back.
        assert_eq!((TRIPLE.answer)(&body), Ok(body.clone()));
        assert_eq!((TRIPLE.text)(&body), Some(&b"hello outrigger"[..]));
    }

    #[test]
    fn what_is_no_echo_is_refused() {
        let status = |answer: Answered| answer.map_err(|(status, _)| status);
        let number = message(&[field(1, HESSIAN), field(2, &[0x91]), field(3, b"int")].concat());
        assert_eq!(status((TRIPLE.answer)(&number)), Err(INVALID));
        for speech in [GRPC, TRIPLE] {
            assert_eq!(status((speech.answer)(b"\x01\0\0\0\0")), Err(UNIMPLEMENTED));
            let body = (speech.body)(&"é".repeat(300));
            for end in 0..body.len() {
                assert_eq!(status((speech.answer)(&body[..end])), Err(INVALID));
                assert_eq!((speech.text)(&body[..end]), None);
            }
            assert_eq!(status((speech.answer)(&[&body[..], &body].concat())), Err(INVALID));
        }
        assert_eq!((GRPC.answer)(&message(b"anything")), Ok(message(b"anything")));
        assert_eq!((GRPC.text)(&message(b"\x08\x07")), None);
    }

    #[test]
    fn paths_name_service_and_method() {
        for (speech, service) in [(GRPC, SERVICE), (TRIPLE, INTERFACE)] {
            assert_eq!(speech.path, format!("/{service}/{METHOD}"));
        }
    }
}
