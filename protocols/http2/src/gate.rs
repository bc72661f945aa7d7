//! The gate: a list of header lines that is one request, one answer or trailers, in one reading only.
//!
//! Source: RFC 9113 §8.2, §8.3; RFC 9110 §7. Lines are judged by a class that their names and values have, found once for
//! each literal and kept with the entries of the compression table. Must refuse, never repair: what passes here is written
//! as HTTP/1 by others.

use outrigger_codec::{
    Fault, Field, Message, Policy, ReplyKind, Slot, Span,
    exchange::{Limits, Underscores},
    http::{
        chars::{self, METHOD_MAX, TOKEN, VALUE},
        target::{self, Form},
    },
};

use crate::hpack::Line;

/// What a line is.
pub mod class {
    /// A header like any other.
    pub const PLAIN: u8 = 0;
    /// No header at all: a wrong name, a wrong value, or one that belongs to a connection.
    pub const WRONG: u8 = 1;
    /// `:method`.
    pub const METHOD: u8 = 2;
    /// `:scheme`.
    pub const SCHEME: u8 = 3;
    /// `:authority`.
    pub const AUTHORITY: u8 = 4;
    /// `:path`.
    pub const PATH: u8 = 5;
    /// `:status`.
    pub const STATUS: u8 = 6;
    /// `host`.
    pub const HOST: u8 = 7;
    /// `content-length`.
    pub const LENGTH: u8 = 8;
    /// `te: trailers`.
    pub const TE: u8 = 9;
    /// Any other `te`.
    pub const TE_OTHER: u8 = 10;
    /// For this hop alone, but no harm: dropped.
    pub const HOP: u8 = 11;
    /// A header with an underscore in its name.
    pub const UNDERSCORED: u8 = 12;
    /// `expect: 100-continue`.
    pub const EXPECT: u8 = 13;
    /// Any other expectation.
    pub const EXPECT_OTHER: u8 = 14;
}

/// What a line is, by its bytes.
pub fn classify(name: &[u8], value: &[u8]) -> u8 {
    if let Some(pseudo) = name.strip_prefix(b":") {
        let class = match pseudo {
            b"method" => class::METHOD,
            b"scheme" => class::SCHEME,
            b"authority" => class::AUTHORITY,
            b"path" => class::PATH,
            b"status" => class::STATUS,
            _ => return class::WRONG,
        };
        return if is_value(value) { class } else { class::WRONG };
    }
    let mut underscored = false;
    for byte in name {
        if !chars::is(*byte, TOKEN) || byte.is_ascii_uppercase() {
            return class::WRONG;
        }
        underscored |= *byte == b'_';
    }
    if name.is_empty() || !is_value(value) {
        return class::WRONG;
    }
    match name {
        b"connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" | b"proxy-connection" => {
            class::WRONG
        }
        b"host" => class::HOST,
        b"content-length" => class::LENGTH,
        b"te" if value.eq_ignore_ascii_case(b"trailers") => class::TE,
        b"te" => class::TE_OTHER,
        // The second would lead callers to a port behind us.
        b"http2-settings" | b"alt-svc" => class::HOP,
        b"expect" if value.eq_ignore_ascii_case(b"100-continue") => class::EXPECT,
        b"expect" => class::EXPECT_OTHER,
        _ if name.starts_with(b"proxy-") => class::HOP,
        _ if underscored => class::UNDERSCORED,
        _ => class::PLAIN,
    }
}

/// A value without control characters, and without blanks around it (RFC 9113 §8.2.1).
fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    chars::all(value, VALUE) && !blank(value.first()) && !blank(value.last())
}

/// Whose lines these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// A request's head.
    Request,
    /// An answer's head.
    Answer,
    /// Trailers of either.
    Trailers,
}

/// What the lines say, besides what goes on as fields.
#[derive(Debug)]
pub struct Said {
    list: List,
    underscores: Underscores,
    method: Span,
    scheme: Span,
    authority: Span,
    path: Span,
    status: Span,
    host: Span,
    length: Span,
    /// A field came: no pseudo-header may follow.
    fields: bool,
    wrong: Option<&'static str>,
    rejected: bool,
    expectation: bool,
}

impl Said {
    /// Nothing yet.
    pub fn new(list: List, policy: &Policy) -> Self {
        // An answer's headers pass as they are.
        let underscores = if list == List::Answer { Underscores::Allow } else { policy.underscores };
        Self {
            list,
            underscores,
            method: Span::NONE,
            scheme: Span::NONE,
            authority: Span::NONE,
            path: Span::NONE,
            status: Span::NONE,
            host: Span::NONE,
            length: Span::NONE,
            fields: false,
            wrong: None,
            rejected: false,
            expectation: false,
        }
    }

    /// Takes up a line; `fields` and `sensitive` are those of the message.
    #[inline]
    pub fn line(&mut self, line: Line, fields: &mut Vec<Field>, sensitive: &mut Vec<u32>) {
        let pseudo = match line.class {
            class::METHOD => &mut self.method,
            class::SCHEME => &mut self.scheme,
            class::AUTHORITY => &mut self.authority,
            class::PATH => &mut self.path,
            class::STATUS => &mut self.status,
            class => return self.field(class, line, fields, sensitive),
        };
        if self.fields {
            self.wrong = Some("a pseudo-header behind a header");
        } else if pseudo.is_some() {
            self.wrong = Some("a pseudo-header twice");
        }
        *pseudo = line.value;
    }

    /// The method, as far as the lines go.
    pub fn method(&self) -> Span {
        self.method
    }

    fn field(&mut self, class: u8, line: Line, fields: &mut Vec<Field>, sensitive: &mut Vec<u32>) {
        self.fields = true;
        match class {
            class::PLAIN | class::EXPECT => {}
            class::TE if self.list == List::Request => {}
            // Answers of some servers have it; it means nothing there.
            class::TE | class::TE_OTHER if self.list != List::Request => return,
            class::TE_OTHER => self.wrong = Some("te"),
            class::HOST if self.list == List::Request => {
                if self.host.is_some() {
                    self.wrong = Some("two host headers");
                }
                self.host = line.value;
                return;
            }
            class::LENGTH if self.list != List::Trailers => {
                if self.length.is_some() {
                    self.wrong = Some("two content-length headers");
                }
                self.length = line.value;
            }
            // The last two: framing has no business in trailers.
            class::HOP | class::LENGTH | class::HOST => return,
            class::UNDERSCORED => match self.underscores {
                Underscores::Allow => {}
                Underscores::Drop => return,
                Underscores::Reject => self.rejected = true,
            },
            class::EXPECT_OTHER => self.expectation = true,
            _ => self.wrong = Some("a header's name or value"),
        }
        if line.never {
            sensitive.push(fields.len() as u32);
        }
        fields.push(Field { name: line.name, value: line.value });
    }
}

/// What is known of a request or an answer besides its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Bytes of the body, where they were told.
    pub length: Option<u64>,
    /// The answer has no body (HEAD).
    pub bodiless: bool,
}

/// Why a list does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// It is no message: its stream ends (RFC 9113 §8.1.1).
    Malformed(&'static str),
    /// It is one, and can be answered.
    Fault(Fault),
}

/// Judges a request whose lines were all taken up, and sets its slots. `end`: nothing follows its head.
pub fn request(
    said: &Said,
    end: bool,
    policy: &Policy,
    limits: &Limits,
    message: &mut Message,
) -> Result<Known, Barred> {
    let Message { bytes, index } = message;
    if let Some(wrong) = said.wrong {
        return Err(Barred::Malformed(wrong));
    }
    let text = |span: Span| span.of(bytes).unwrap_or_default();
    let method = text(said.method);
    if method.is_empty() || !chars::all(method, TOKEN) || said.status.is_some() {
        return Err(Barred::Malformed(":method"));
    }
    if method.len() > METHOD_MAX {
        return Err(Barred::Fault(Fault::malformed("the method")));
    }
    let connects = method == b"CONNECT";
    let length = length(said, bytes)?;
    index.caseless = true;
    index.set(Slot::Method, said.method);
    // The limit of lines has room for pseudo-headers, also for those that did not come.
    if index.fields.len() > limits.headers_max {
        return Err(Barred::Fault(Fault::HeadTooLarge));
    }
    if said.rejected {
        return Err(Barred::Fault(Fault::malformed("an underscore in a header's name")));
    }
    if said.expectation {
        return Err(Barred::Fault(Fault::Expectation));
    }
    if connects {
        if said.path.is_some() || said.scheme.is_some() || !said.authority.is_some() {
            return Err(Barred::Malformed("CONNECT"));
        }
        if !policy.connect {
            return Err(Barred::Fault(Fault::Method));
        }
    } else {
        let scheme = text(said.scheme);
        if !(scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")) {
            return Err(Barred::Malformed(":scheme"));
        }
        index.set(Slot::Scheme, said.scheme);
        path(said, limits, bytes, method, index)?;
    }
    if method == b"TRACE" && !policy.trace {
        return Err(Barred::Fault(Fault::Method));
    }
    if method == b"TRACE" && (!end || length.is_some()) {
        return Err(Barred::Fault(Fault::malformed("a body where none may be")));
    }
    authority(said, bytes, index)?;
    if length.is_some_and(|length| length > limits.body_max) {
        return Err(Barred::Fault(Fault::BodyTooLarge));
    }
    Ok(Known { length, bodiless: method == b"HEAD" })
}

fn path(
    said: &Said,
    limits: &Limits,
    bytes: &[u8],
    method: &[u8],
    index: &mut outrigger_codec::HeadIndex,
) -> Result<(), Barred> {
    let path = said.path.of(bytes).unwrap_or_default();
    if path.len() > limits.uri_max {
        return Err(Barred::Fault(Fault::TargetTooLong));
    }
    let asterisk = path == b"*" && method == b"OPTIONS";
    if path.first() != Some(&b'/') && !asterisk {
        return Err(Barred::Malformed(":path"));
    }
    match target::read(bytes, said.path, method, index) {
        Ok(Form::Origin | Form::Asterisk) => Ok(()),
        Ok(_) | Err(_) => Err(Barred::Malformed(":path")),
    }
}

/// The authority, by its pseudo-header and the Host header, which must agree.
fn authority(said: &Said, bytes: &[u8], index: &mut outrigger_codec::HeadIndex) -> Result<(), Barred> {
    let text = |span: Span| span.of(bytes).unwrap_or_default();
    let span = match (said.authority.is_some(), said.host.is_some()) {
        (true, true) if !text(said.authority).eq_ignore_ascii_case(text(said.host)) => {
            return Err(Barred::Malformed("host and :authority differ"));
        }
        (true, _) => said.authority,
        (false, true) => said.host,
        (false, false) => return Ok(()),
    };
    target::authority(bytes, span, index).map_err(|_| Barred::Malformed(":authority"))
}

fn length(said: &Said, bytes: &[u8]) -> Result<Option<u64>, Barred> {
    let Some(text) = said.length.of(bytes) else { return Ok(None) };
    chars::decimal(text).map(Some).ok_or(Barred::Malformed("content-length"))
}

/// Judges an answer whose lines were all taken up, and sets its slots.
pub fn answer(said: &Said, message: &mut Message) -> Result<(ReplyKind, Known), &'static str> {
    let Message { bytes, index } = message;
    if let Some(wrong) = said.wrong {
        return Err(wrong);
    }
    let requests = [said.method, said.scheme, said.authority, said.path];
    let status = said.status.of(bytes).unwrap_or_default();
    let kind = match status {
        [b'1', b'0', b'1'] => return Err("101 in HTTP/2"),
        [b'1', tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit() => ReplyKind::Interim,
        [b'2'..=b'5', tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit() => ReplyKind::Final,
        _ => return Err(":status"),
    };
    if requests.iter().any(|span| span.is_some()) {
        return Err("a request's pseudo-header in an answer");
    }
    let Ok(length) = length(said, bytes) else { return Err("content-length") };
    index.caseless = true;
    index.set(Slot::Target, said.status);
    // Neither has a body, whatever it says of one that it would have.
    let bodiless = matches!(status, b"204" | b"304");
    Ok((kind, Known { length, bodiless }))
}

/// Judges trailers whose lines were all taken up.
pub fn trailers(said: &Said) -> Result<(), &'static str> {
    let pseudo = [said.method, said.scheme, said.authority, said.path, said.status];
    match said.wrong {
        Some(wrong) => Err(wrong),
        None if pseudo.iter().any(|span| span.is_some()) => Err("a pseudo-header in trailers"),
        None => Ok(()),
    }
}
