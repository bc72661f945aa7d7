//! The gate of requests: a head that can be read in one way only, as slots and end-to-end headers.
//!
//! Source: RFC 9112 §3, §6, §7 and RFC 9110 §7, §10.1.1. Must refuse, never repair.

use outrigger_codec::{
    Asked, Fault, Field, Head, HeadIndex, Policy, Slot, Span, Ticket,
    exchange::{Framing, Limits, Underscores},
};

use super::{
    bits,
    chars::{self, METHOD_MAX, TOKEN},
    fields::{self, Connection, Known},
    target::{self, Form},
};

/// Headers that stand for what is not there.
const NONE: Field = Field { name: Span::NONE, value: Span::NONE };

/// What the header lines say, besides what goes on.
#[derive(Default)]
struct Said {
    host: Option<Field>,
    length: Option<u64>,
    /// The first Transfer-Encoding header's value, and how many there are.
    coding: Option<Span>,
    codings: usize,
    connection: Connection,
    upgrade: Option<Field>,
    upgrades: usize,
    expects: bool,
}

/// Reads a whole head. The first of `index.fields` is the Host header, absent where there is none.
pub(crate) fn read(
    head: &[u8],
    policy: &Policy,
    limits: &Limits,
    index: &mut HeadIndex,
) -> Result<Asked, Fault> {
    index.caseless = true;
    let line = line(head, limits)?;
    let method = line.method.of(head).unwrap_or_default();
    if (method == b"CONNECT" && !policy.connect) || (method == b"TRACE" && !policy.trace) {
        return Err(Fault::Method);
    }
    index.set(Slot::Method, line.method);
    let form = target::read(head, line.target, method, index)?;
    index.fields.push(NONE);
    let mut said = Said::default();
    fields::walk(head, line.end, limits.headers_max, |known, field| {
        said.read(head, known, field, line.old, policy, &mut index.fields)
    })?;
    said.connection.strip(head, &mut index.fields);
    authority(head, form, line.old, &said, index)?;
    let body = body(head, &said, line.old, limits)?;
    if body != Framing::None && matches!(method, b"CONNECT" | b"TRACE") {
        return Err(Fault::malformed("a body where none may be"));
    }
    let upgrade =
        upgrade(head, &said, policy).filter(|_| method == b"GET" && body == Framing::None && !line.old);
    index.fields.extend(upgrade);
    let connect = matches!(form, Form::Authority(_));
    let mut ticket = 0;
    for (bit, on) in [(bits::OLD, line.old), (bits::HEAD, method == b"HEAD"), (bits::CONNECT, connect)] {
        ticket |= if on { bit } else { 0 };
    }
    if let Some(value) = upgrade.and_then(|field| field.value.of(head)) {
        ticket |= bits::upgrade(value);
    }
    let Connection { close, keep_alive, .. } = said.connection;
    Ok(Asked {
        body,
        keep: !close && (!line.old || keep_alive),
        awaits: said.expects && !matches!(body, Framing::None | Framing::Length(0)),
        tunnel: connect || upgrade.is_some(),
        ticket: Ticket(ticket),
    })
}

/// A request line.
struct Line {
    method: Span,
    target: Span,
    /// HTTP/1.0.
    old: bool,
    /// Where the headers begin.
    end: usize,
}

fn line(head: &[u8], limits: &Limits) -> Result<Line, Fault> {
    let start = if head.starts_with(b"\r\n") { 2 } else { 0 };
    let malformed = Fault::malformed("the request line");
    let rest = head.get(start..).unwrap_or_default();
    let method_len = chars::run(rest, TOKEN);
    if method_len == 0 || method_len > METHOD_MAX || rest.get(method_len) != Some(&b' ') {
        return Err(malformed);
    }
    let target_at = method_len.saturating_add(1);
    let rest = rest.get(target_at..).unwrap_or_default();
    let target_len = rest.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n')).ok_or(malformed)?;
    if target_len > limits.uri_max {
        return Err(Fault::TargetTooLong);
    }
    let version = rest.get(target_len..).and_then(|rest| rest.get(..11)).ok_or(malformed)?;
    let old = match version {
        b" HTTP/1.1\r\n" => false,
        b" HTTP/1.0\r\n" => true,
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n']
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Fault::Version);
        }
        _ => return Err(malformed),
    };
    let target_at = start.saturating_add(target_at);
    Ok(Line {
        method: Span::new(start, method_len),
        target: Span::new(target_at, target_len),
        old,
        end: target_at.saturating_add(target_len).saturating_add(version.len()),
    })
}

impl Said {
    fn read(
        &mut self,
        head: &[u8],
        known: Known,
        field: Field,
        old: bool,
        policy: &Policy,
        on: &mut Vec<Field>,
    ) -> Result<(), Fault> {
        let value = field.value.of(head).unwrap_or_default();
        match known {
            Known::Host if self.host.replace(field).is_some() => {
                return Err(Fault::malformed("two Host headers"));
            }
            Known::Host | Known::Hop => {}
            Known::ContentLength => {
                let length = chars::decimal(value).ok_or(Fault::malformed("Content-Length"))?;
                if self.length.replace(length).is_some() {
                    return Err(Fault::malformed("two Content-Length headers"));
                }
            }
            Known::TransferEncoding => {
                self.coding.get_or_insert(field.value);
                self.codings = self.codings.saturating_add(1);
            }
            Known::Connection => self.connection.read(head, field)?,
            Known::Upgrade => {
                self.upgrade = Some(field);
                self.upgrades = self.upgrades.saturating_add(1);
            }
            // HTTP/1.0 knows no expectations (RFC 9110 §10.1.1).
            Known::Expect if old => {}
            Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => self.expects = true,
            Known::Expect => return Err(Fault::Expectation),
            Known::Other => {
                let underscored = || memchr::memchr(b'_', field.name.of(head).unwrap_or_default()).is_some();
                match policy.underscores {
                    Underscores::Drop if underscored() => {}
                    Underscores::Reject if underscored() => {
                        return Err(Fault::malformed("an underscore in a header's name"));
                    }
                    _ => on.push(field),
                }
            }
        }
        Ok(())
    }
}

/// The authority, by the Host header and the target, which must agree.
fn authority(head: &[u8], form: Form, old: bool, said: &Said, index: &mut HeadIndex) -> Result<(), Fault> {
    let named = match form {
        Form::Absolute(span) | Form::Authority(span) => Some(span),
        Form::Origin | Form::Asterisk => None,
    };
    let host = match (said.host, named) {
        (Some(host), named) => {
            let bytes = |span: Span| span.of(head).unwrap_or_default();
            if named.is_some_and(|span| !bytes(span).eq_ignore_ascii_case(bytes(host.value))) {
                return Err(Fault::malformed("Host and target differ"));
            }
            host
        }
        (None, Some(span)) if old => Field { name: Span::NONE, value: span },
        (None, None) if old => return Ok(()),
        (None, _) => return Err(Fault::malformed("no Host")),
    };
    target::authority(head, host.value, index)?;
    if matches!(form, Form::Authority(_)) {
        let spelled = Head { bytes: head, index };
        if spelled.slot(Slot::Host) == spelled.slot(Slot::Authority) {
            return Err(Fault::malformed("no port to connect to"));
        }
    }
    if let Some(first) = index.fields.first_mut() {
        *first = host;
    }
    Ok(())
}

/// How the end of the body is told; judged when all headers were seen.
fn body(head: &[u8], said: &Said, old: bool, limits: &Limits) -> Result<Framing, Fault> {
    let Some(coding) = said.coding else {
        return match said.length {
            Some(length) if length > limits.body_max => Err(Fault::BodyTooLarge),
            Some(length) => Ok(Framing::Length(length)),
            None => Ok(Framing::None),
        };
    };
    if old || said.codings > 1 {
        return Err(Fault::malformed("Transfer-Encoding where it may not be"));
    }
    if said.length.is_some() {
        return Err(Fault::malformed("Content-Length and Transfer-Encoding"));
    }
    fields::transfer_encoding(coding.of(head).unwrap_or_default()).map(|()| Framing::Chunked)
}

/// The Upgrade header that may go on.
fn upgrade(head: &[u8], said: &Said, policy: &Policy) -> Option<Field> {
    let field = said.upgrade.filter(|_| said.connection.upgrade && said.upgrades == 1)?;
    let value = field.value.of(head)?;
    let listed = policy.upgrades.iter().any(|name| value.eq_ignore_ascii_case(name.as_bytes()));
    listed.then_some(field)
}
