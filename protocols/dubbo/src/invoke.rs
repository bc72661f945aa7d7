//! A call that the house makes of a provider itself: the frame that asks, and what the answer's frame says.
//!
//! Only texts can be given, and an answer is built whole; so this is for a rare question, never for a call that is carried.
//! Source: `DubboCodec.encodeRequestData` and `DecodeableRpcResult` of Apache Dubbo 3.3.

use outrigger_codec::Malformed;

use crate::codec::frame;
use crate::hessian::{
    Walker,
    tree::{Seen, Tree},
    write_string,
};
use crate::layout::{EVENT, HEADER_LEN, HESSIAN2, Header, OK, REQUEST, TWO_WAY};
use crate::values::Value;

/// The version of the protocol, as every Dubbo since 2.6 says it.
const VERSION: &str = "2.0.2";
/// The longest message of a refusal that is kept, in characters.
const MESSAGE_MAX: usize = 1_000;

/// A call with texts for arguments; each text shorter than 1,000 characters, what is longer is cut.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The interface.
    pub service: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The method.
    pub method: &'a str,
    /// The arguments: each is a `java.lang.String` there.
    pub arguments: &'a [&'a str],
    /// The attachments.
    pub attachments: &'a [(&'a str, &'a str)],
}

/// What came of a call.
#[derive(Debug)]
pub enum Returned {
    /// The method returned this.
    Value(Tree),
    /// The method returned nothing.
    Null,
    /// The method failed: the exception's class and message.
    Failed(String),
    /// It was not called: the status and what is said of it.
    Refused(u8, String),
}

const NO_RESPONSE: Malformed = Malformed("not the response to a call");
const NOT_HESSIAN: Malformed = Malformed("a response that is not in hessian 2");
const NO_RESULT: Malformed = Malformed("a response without a kind of result");

/// Appends the frame that asks.
pub fn write(id: u64, call: &Invocation<'_>, out: &mut Vec<u8>) {
    let flags = REQUEST | TWO_WAY | HESSIAN2;
    frame(Header { flags, status: 0, id, body_len: 0 }, out, |out| {
        let descriptor = "Ljava/lang/String;".repeat(call.arguments.len());
        let head = [VERSION, call.service, call.version, call.method, descriptor.as_str()];
        head.iter().chain(call.arguments).for_each(|text| write_string(text, out));
        out.push(b'H');
        for (name, value) in call.attachments {
            write_string(name, out);
            write_string(value, out);
        }
        out.push(b'Z');
    });
}

/// A text as an argument stands in a call; see [`Invocation`].
pub fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_string(text, &mut out);
    out
}

/// Reads the whole frame of an answer, which is [`outrigger_codec::FrameKind::Response`].
pub fn read(frame: &[u8]) -> Result<Returned, Malformed> {
    let header = Header::read(frame).ok_or(NO_RESPONSE)?;
    let whole = HEADER_LEN.checked_add(header.body_len as usize) == Some(frame.len());
    if !whole || header.has(REQUEST) || header.has(EVENT) {
        return Err(NO_RESPONSE);
    }
    if header.serialization() != HESSIAN2 {
        return Err(NOT_HESSIAN);
    }
    let mut walker = Walker::new(frame, HEADER_LEN);
    if header.status != OK {
        let message = Tree::read(&mut walker).ok();
        let message = message.as_ref().and_then(|tree| tree.root().text());
        return Ok(Returned::Refused(header.status, short(message.unwrap_or_default())));
    }
    // Each kind has its double that says that attachments follow.
    match walker.read()? {
        Value::Number(0 | 3) => {
            let exception = Tree::read(&mut walker)?;
            let class = exception.root().class().unwrap_or("an exception");
            let message = exception.root().field("detailMessage").and_then(Seen::text);
            Ok(Returned::Failed(short(
                &message.map_or_else(|| class.to_owned(), |message| format!("{class}: {message}")),
            )))
        }
        Value::Number(1 | 4) => Tree::read(&mut walker).map(Returned::Value),
        Value::Number(2 | 5) => Ok(Returned::Null),
        _ => Err(NO_RESULT),
    }
}

/// The first line, and not all of one that is very long.
fn short(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(MESSAGE_MAX).collect()
}
