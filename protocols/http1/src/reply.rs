//! The gate of answers: as strict as that of requests, because a server behind may be as confused as a caller.
//!
//! Source: RFC 9112 §4, §6.3 and RFC 9110 §15. Must refuse, never repair.

use outrigger_codec::{
    Asked, Field, HeadIndex, Malformed, Outcome, Reply, ReplyKind, Slot, Span, Ticket,
    exchange::{Framing, Limits},
};

use super::{
    bits, chars,
    chars::VALUE,
    fields::{self, Connection, Known},
    has,
};

/// What the header lines say, besides what goes on.
#[derive(Default)]
struct Said {
    length: Option<(u64, Field)>,
    chunked: bool,
    connection: Connection,
    upgrade: Option<Field>,
    upgrades: usize,
}

/// Reads a whole head as the answer to `asked`.
pub(crate) fn read(
    head: &[u8],
    asked: &Asked,
    limits: &Limits,
    index: &mut HeadIndex,
) -> Result<Reply, Malformed> {
    index.caseless = true;
    let line = line(head)?;
    index.set(Slot::Target, line.text);
    let mut said = Said::default();
    let walked = fields::walk(head, line.end, limits.headers_max, |known, field| {
        let value = field.value.of(head).unwrap_or_default();
        match known {
            Known::ContentLength => {
                let length =
                    chars::decimal(value).ok_or(outrigger_codec::Fault::malformed("Content-Length"))?;
                if said.length.replace((length, field)).is_some() {
                    return Err(outrigger_codec::Fault::malformed("two Content-Length headers"));
                }
            }
            Known::TransferEncoding => {
                if line.old || std::mem::replace(&mut said.chunked, true) {
                    return Err(outrigger_codec::Fault::malformed("Transfer-Encoding where it may not be"));
                }
                fields::transfer_encoding(value)?;
            }
            Known::Connection => said.connection.read(head, field)?,
            Known::Upgrade => {
                said.upgrade = Some(field);
                said.upgrades = said.upgrades.saturating_add(1);
            }
            Known::Hop => {}
            Known::Host | Known::Expect | Known::Other => index.fields.push(field),
        }
        Ok(())
    });
    walked.map_err(|fault| Malformed(fault.why()))?;
    said.connection.strip(head, &mut index.fields);
    let keep = !said.connection.close && (!line.old || said.connection.keep_alive);
    let (kind, body) = meaning(head, line.status, &said, asked, index)?;
    let ticket = Ticket(if line.old { bits::OLD } else { 0 });
    Ok(Reply { kind, body, keep, outcome: outcome(line.status), ticket })
}

/// A status line.
struct Line {
    status: u16,
    /// The status and its reason.
    text: Span,
    /// HTTP/1.0.
    old: bool,
    /// Where the headers begin.
    end: usize,
}

fn line(head: &[u8]) -> Result<Line, Malformed> {
    const TEXT_AT: usize = 9;
    let malformed = Malformed("the status line");
    let old = match head.get(..TEXT_AT) {
        Some(b"HTTP/1.1 ") => false,
        Some(b"HTTP/1.0 ") => true,
        _ => return Err(malformed),
    };
    let rest = head.get(TEXT_AT..).unwrap_or_default();
    let text_len = chars::run(rest, VALUE);
    let text = rest.get(..text_len).unwrap_or_default();
    let (digits, reason) = text.split_at_checked(3).ok_or(malformed)?;
    // Some servers leave out the space before an absent reason; nobody reads that in two ways.
    if !(reason.is_empty() || reason.starts_with(b" "))
        || !rest.get(text_len..).is_some_and(|end| end.starts_with(b"\r\n"))
    {
        return Err(malformed);
    }
    let status = chars::decimal(digits).filter(|status| (100..600).contains(status)).ok_or(malformed)? as u16;
    Ok(Line {
        status,
        text: Span::new(TEXT_AT, text_len),
        old,
        end: TEXT_AT.saturating_add(text_len).saturating_add(2),
    })
}

fn meaning(
    head: &[u8],
    status: u16,
    said: &Said,
    asked: &Asked,
    index: &mut HeadIndex,
) -> Result<(ReplyKind, Framing), Malformed> {
    let length = said.length.map(|(length, _)| length);
    if said.chunked && length.is_some() {
        return Err(Malformed("Content-Length and Transfer-Encoding"));
    }
    let connect = has(asked.ticket, bits::CONNECT);
    let bodiless = status < 200 || status == 204;
    if bodiless && (said.chunked || length.is_some_and(|length| length > 0)) {
        return Err(Malformed("a body where none may be"));
    }
    if status == 101 {
        let to = said.upgrade.and_then(|field| field.value.of(head)).filter(|_| said.upgrades == 1);
        let asked_for = to.is_some_and(|to| asked.ticket.0 & bits::UPGRADE == bits::upgrade(to));
        if !asked.tunnel || connect || !said.connection.upgrade || !asked_for {
            return Err(Malformed("101 that nobody asked for"));
        }
        index.fields.extend(said.upgrade);
        return Ok((ReplyKind::Switch, Framing::None));
    }
    if bodiless && status < 200 {
        return Ok((ReplyKind::Interim, Framing::None));
    }
    if connect && status < 300 {
        return Ok((ReplyKind::Switch, Framing::None));
    }
    if has(asked.ticket, bits::HEAD) || status == 304 {
        // The length of what is not sent.
        index.fields.extend(said.length.map(|(_, field)| field));
        return Ok((ReplyKind::Final, Framing::None));
    }
    let body = match (said.chunked, length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) if bodiless => Framing::None,
        (false, None) => Framing::Close,
    };
    Ok((ReplyKind::Final, if status == 204 { Framing::None } else { body }))
}

/// What a status says of how the call went: a caller's mistake is the service's own answer, and no fault of the transport.
fn outcome(status: u16) -> Outcome {
    match status {
        429 | 503 => Outcome::Busy,
        504 => Outcome::TimedOut,
        500.. => Outcome::Error,
        400.. => Outcome::Exception,
        _ => Outcome::Ok,
    }
}
