//! Answers in our own name, as heads: statuses by meaning, and what goes with them.
//!
//! Source: RFC 9110 §15. It must never say more than one status for one meaning: HTTP/1 and HTTP/2 read this table alike.

use std::{io::Write, time::Duration};

use crate::{Fault, Malformed, Message, Refusal, Slot};

/// The methods that are carried by default, for `Allow`.
pub const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// A refusal's status and reason, by its meaning.
pub const fn status(why: Refusal) -> &'static str {
    match why {
        Refusal::NoRoute => "404 Not Found",
        Refusal::Limited => "429 Too Many Requests",
        Refusal::NoEndpoint | Refusal::Overloaded => "503 Service Unavailable",
        Refusal::TimedOut => "504 Gateway Timeout",
        Refusal::Unreachable => "502 Bad Gateway",
        Refusal::Forbidden => "403 Forbidden",
        Refusal::Malformed => "400 Bad Request",
        Refusal::TooLarge => "413 Content Too Large",
    }
}

/// A fault's status and reason.
pub const fn fault_status(fault: Fault) -> &'static str {
    match fault {
        Fault::Malformed(Malformed(_)) => "400 Bad Request",
        Fault::Unsupported(_) => "501 Not Implemented",
        Fault::Version => "505 HTTP Version Not Supported",
        Fault::Method => "405 Method Not Allowed",
        Fault::Expectation => "417 Expectation Failed",
        Fault::ContentType => "415 Unsupported Media Type",
        Fault::TargetTooLong => "414 URI Too Long",
        Fault::HeadTooLarge => "431 Request Header Fields Too Large",
        Fault::BodyTooLarge => "413 Content Too Large",
        Fault::Slow => "408 Request Timeout",
    }
}

/// Seconds to wait before trying again, rounded up, at least one.
pub fn retry_after(wait: Option<Duration>) -> u64 {
    let wait = wait.unwrap_or_default();
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Writes the head of a refusal into an empty `answer`; `text` and a line's end are its body.
pub fn refuse(why: Refusal, wait: Option<Duration>, text: &str, answer: &mut Message) {
    begin(status(why), why, text, answer);
    if why == Refusal::Limited {
        number(answer, b"retry-after", retry_after(wait));
    }
}

/// Writes the head of the answer to what cannot be carried into an empty `answer`; `text` and a line's end are its body.
pub fn fault(fault: Fault, text: &str, answer: &mut Message) {
    begin(fault_status(fault), fault.refusal(), text, answer);
    if fault == Fault::Method {
        answer.add(b"allow", ALLOW.as_bytes());
    }
}

fn begin(status: &str, why: Refusal, text: &str, answer: &mut Message) {
    answer.set(Slot::Target, status.as_bytes());
    answer.add(b"content-type", b"text/plain; charset=utf-8");
    number(answer, b"content-length", (text.len() as u64).saturating_add(1));
    answer.add(b"x-outrigger-error", why.name().as_bytes());
}

/// Adds a header that is a number.
pub fn number(answer: &mut Message, name: &[u8], number: u64) {
    let name = answer.put(name);
    let at = answer.bytes.len();
    let _ = write!(answer.bytes, "{number}");
    let value = crate::Span::new(at, answer.bytes.len().saturating_sub(at));
    answer.index.fields.push(crate::Field { name, value });
}
