//! Header lines: the gate for each, and what is done with which. Source: RFC 9110 §5, §7.6.1; RFC 9112 §5.

use outrigger_codec::{Fault, Field, Span};

use super::chars::{TOKEN, VALUE, run, trim};

/// Headers that mean something to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    /// For this hop alone, and nothing more to us.
    Hop,
    Other,
}

/// Which header a name is.
pub(crate) fn known(name: &[u8]) -> Known {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 if is(b"te") => Known::Hop,
        4 if is(b"host") => Known::Host,
        6 if is(b"expect") => Known::Expect,
        7 if is(b"upgrade") => Known::Upgrade,
        // It would lead callers to a port behind us.
        7 if is(b"alt-svc") => Known::Hop,
        10 if is(b"connection") => Known::Connection,
        10 if is(b"keep-alive") => Known::Hop,
        14 if is(b"content-length") => Known::ContentLength,
        14 if is(b"http2-settings") => Known::Hop,
        17 if is(b"transfer-encoding") => Known::TransferEncoding,
        7.. if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-")) => Known::Hop,
        _ => Known::Other,
    }
}

/// Gives each header line of `head` from `at` to `each`; `head` ends with its empty line.
pub(crate) fn walk(
    head: &[u8],
    mut at: usize,
    headers_max: usize,
    mut each: impl FnMut(Known, Field) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut count = 0usize;
    loop {
        let line = head.get(at..).unwrap_or_default();
        if let [b'\r', b'\n', rest @ ..] = line {
            return if rest.is_empty() { Ok(()) } else { Err(Fault::malformed("bytes behind the head")) };
        }
        count = count.saturating_add(1);
        if count > headers_max {
            return Err(Fault::HeadTooLarge);
        }
        let name_len = run(line, TOKEN);
        match line.get(name_len) {
            Some(b':') if name_len > 0 => {}
            Some(b' ' | b'\t') if name_len == 0 => return Err(Fault::malformed("a folded header")),
            Some(b' ' | b'\t') => return Err(Fault::malformed("space before the colon of a header")),
            Some(b':') => return Err(Fault::malformed("a header without a name")),
            _ => return Err(Fault::malformed("a header's name")),
        }
        let from = name_len.saturating_add(1);
        let value = line.get(from..).unwrap_or_default();
        let value_len = run(value, VALUE);
        let (value, rest) = value.split_at_checked(value_len).unwrap_or_default();
        if !rest.starts_with(b"\r\n") {
            return Err(Fault::malformed("a control character in a header"));
        }
        let lead = value_len.saturating_sub(trim_start(value).len());
        let value_at = at.saturating_add(from).saturating_add(lead);
        let name = line.get(..name_len).unwrap_or_default();
        let field = Field { name: Span::new(at, name_len), value: Span::new(value_at, trim(value).len()) };
        each(known(name), field)?;
        at = at.saturating_add(from).saturating_add(value_len).saturating_add(2);
    }
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Connection headers of one head; more are refused.
const CONNECTIONS_MAX: usize = 8;

/// What the Connection headers of a head say.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Other names are in the list: those headers are for this hop alone.
    nominates: bool,
    lists: [Option<Span>; CONNECTIONS_MAX],
}

impl Connection {
    /// Reads one Connection header.
    pub(crate) fn read(&mut self, head: &[u8], field: Field) -> Result<(), Fault> {
        let Some(place) = self.lists.iter_mut().find(|list| list.is_none()) else {
            return Err(Fault::malformed("too many Connection headers"));
        };
        *place = Some(field.value);
        for word in field.value.of(head).unwrap_or_default().split(|byte| *byte == b',').map(trim) {
            if run(word, TOKEN) != word.len() {
                return Err(Fault::malformed("Connection"));
            }
            let is = |other: &[u8]| word.eq_ignore_ascii_case(other);
            if is(b"close") {
                self.close = true;
            } else if is(b"keep-alive") {
                self.keep_alive = true;
            } else if is(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominates |= !word.is_empty();
            }
        }
        Ok(())
    }

    /// Takes out of `fields` what is for this hop alone. Framing and hosts are not among them (nor is a place kept for
    /// a host that has no name), and what we ourselves
    /// tell the next hop cannot be taken away by the last.
    pub(crate) fn strip(&self, head: &[u8], fields: &mut Vec<Field>) {
        if self.nominates {
            fields.retain(|field| {
                let name = field.name.of(head).unwrap_or_default();
                name.is_empty() || known(name) != Known::Other || is_ours(name) || !self.names(head, name)
            });
        }
    }

    fn names(&self, head: &[u8], name: &[u8]) -> bool {
        self.lists.iter().flatten().any(|list| {
            let mut words = list.of(head).unwrap_or_default().split(|byte| *byte == b',').map(trim);
            words.any(|word| !word.is_empty() && word.eq_ignore_ascii_case(name))
        })
    }
}

/// Headers that we write.
fn is_ours(name: &[u8]) -> bool {
    let begins = |start: &[u8]| name.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    begins(b"x-forwarded-")
        || begins(b"x-outrigger-")
        || name.eq_ignore_ascii_case(b"x-request-id")
        || name.eq_ignore_ascii_case(b"via")
}

/// Reads a Transfer-Encoding header: `chunked`, and nothing else.
pub(crate) fn transfer_encoding(value: &[u8]) -> Result<(), Fault> {
    let malformed = Err(Fault::malformed("Transfer-Encoding"));
    let mut codings = 0usize;
    let mut chunked = 0usize;
    for coding in value.split(|byte| *byte == b',').map(trim) {
        // A parameter makes it another coding; quotes and the like make it none.
        let name_len = run(coding, TOKEN);
        let rest = trim(coding.get(name_len..).unwrap_or_default());
        if name_len == 0 || !(rest.is_empty() || rest.starts_with(b";")) {
            return malformed;
        }
        codings = codings.saturating_add(1);
        if rest.is_empty() && coding.eq_ignore_ascii_case(b"chunked") {
            chunked = chunked.saturating_add(1);
        }
    }
    match (chunked, codings) {
        (1, 1) => Ok(()),
        (2.., _) => malformed,
        _ => Err(Fault::Unsupported("transfer coding")),
    }
}

/// Names that have no business in a trailer: framing, routing, credentials, and what the head must say (RFC 9110 §6.5.1).
pub(crate) fn forbidden_in_trailer(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 24] = [
        b"trailer",
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"www-authenticate",
        b"age",
        b"cache-control",
        b"date",
        b"expires",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"vary",
        b"warning",
        b"via",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
        b"forwarded",
        b"x-request-id",
    ];
    let begins = |start: &[u8]| name.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    known(name) != Known::Other
        || begins(b"content-")
        || begins(b"x-forwarded-")
        || begins(b"x-outrigger-")
        || NAMES.iter().any(|forbidden| forbidden.eq_ignore_ascii_case(name))
}
