//! The head of a request: the header map of a Bolt frame, as offsets.
//!
//! The map is pairs of strings, each after a four-byte length, up to the end of the header part; length -1 is
//! null and drops its pair. As on a Java provider the last of two equal keys counts, `service` goes before
//! `sofa_head_target_service`, and a blank service is none. Nothing is copied, and strings are not decoded.
//! A map that cannot be read must never refuse a call of which nothing inside is wanted, nor one whose class is
//! not SOFARPC's: other users of Bolt may put anything there.
//!
//! Reference: SOFARPC `SimpleMapSerializer`, `SofaRpcSerialization`, `RemotingConstants`.

use outrigger_codec::head::FIELDS_MAX;
use outrigger_codec::{Field, HeadIndex, Malformed, Slot, Span, Wants};

use crate::hessian_draft;
use crate::layout::{self, CODEC_HESSIAN2, CODEC_HESSIAN2_OLD, Ends, Layout, be32};

const SOFA_REQUEST: &[u8] = b"com.alipay.sofa.rpc.core.request.SofaRequest";

const SERVICE: &[u8] = b"service";
const TARGET_SERVICE: &[u8] = b"sofa_head_target_service";
const METHOD_NAME: &[u8] = b"sofa_head_method_name";
const RESPONSE_ERROR: &[u8] = b"sofa_head_response_error";

/// The length of a null string.
const NULL: u32 = u32::MAX;

const CUT_OFF: Malformed = Malformed("header map cut off");

/// Reads the head of a whole request frame into a cleared index.
pub(crate) fn read(frame: &[u8], wants: Wants, index: &mut HeadIndex) -> Result<(), Malformed> {
    const INSIDE: Wants = Wants::SERVICE.and(Wants::METHOD).and(Wants::VERSION).and(Wants::FIELDS);
    let Some(layout) = layout::of(frame) else { return Err(Malformed("no bolt frame")) };
    let timeout = layout.timeout.and_then(|at| be32(frame, at));
    index.timeout_ms = timeout.filter(|ms| (1..=i32::MAX as u32).contains(ms));
    if !wants.any(INSIDE) {
        return Ok(());
    }
    let ends = layout.ends(frame).ok_or(Malformed("no bolt frame"))?;
    let sofa = frame.get(layout.fixed..ends.class) == Some(SOFA_REQUEST);
    let names = match walk(frame, &ends, wants.any(Wants::FIELDS).then_some(&mut index.fields)) {
        Ok(names) => names,
        Err(fault) if sofa => return Err(fault),
        Err(_) => {
            index.fields.clear();
            index.opaque = true;
            return Ok(());
        }
    };
    let mut names = names;
    if sofa {
        complete(frame, layout, &ends, wants, &mut names)?;
    }
    if names.method.is_some() {
        index.set(Slot::Method, names.method);
    }
    if names.service.is_some() {
        set_service(frame, names.service, index);
    }
    Ok(())
}

/// What names the target of a call; absent spans where nothing does.
struct Names {
    service: Span,
    method: Span,
}

/// Walks the header map once. `fields` takes every pair, in wire order.
fn walk(frame: &[u8], ends: &Ends, mut fields: Option<&mut Vec<Field>>) -> Result<Names, Malformed> {
    let mut strings = Strings::of(frame, ends)?;
    let (mut service, mut target, mut method) = (Span::NONE, Span::NONE, Span::NONE);
    while let Some((key, value)) = strings.pair()? {
        let (Some((name, name_bytes)), Some((value, _))) = (key, value) else { continue };
        match name_bytes {
            SERVICE => service = value,
            TARGET_SERVICE => target = value,
            METHOD_NAME => method = value,
            _ => {}
        }
        if let Some(fields) = &mut fields {
            if fields.len() >= FIELDS_MAX {
                return Err(Malformed("too many headers"));
            }
            fields.push(Field { name, value });
        }
    }
    let service = if service.is_some() { service } else { target };
    Ok(Names { service: unless_blank(frame, service), method: unless_blank(frame, method) })
}

/// Reads from a Hessian content what the header map of a `SofaRequest` left out and somebody wants.
fn complete(
    frame: &[u8],
    layout: &Layout,
    ends: &Ends,
    wants: Wants,
    names: &mut Names,
) -> Result<(), Malformed> {
    let service = !names.service.is_some() && wants.any(Wants::SERVICE.and(Wants::VERSION));
    let method = !names.method.is_some() && wants.any(Wants::METHOD);
    let hessian = matches!(frame.get(layout.codec), Some(&(CODEC_HESSIAN2 | CODEC_HESSIAN2_OLD)));
    if !(service || method) || !hessian {
        return Ok(());
    }
    let content = frame.get(ends.header..ends.content).ok_or(CUT_OFF)?;
    if !hessian_draft::is_draft(content) {
        return Ok(());
    }
    let found = hessian_draft::target(content, method, service)?;
    let span = |range: Option<std::ops::Range<usize>>| {
        let span = range.map(|range| Span::new(ends.header.saturating_add(range.start), range.len()));
        unless_blank(frame, span.unwrap_or(Span::NONE))
    };
    if method {
        names.method = span(found.method);
    }
    if service {
        names.service = span(found.service);
    }
    Ok(())
}

/// Splits `interface:version[:uniqueId]` at the first colon.
fn set_service(frame: &[u8], whole: Span, index: &mut HeadIndex) {
    index.set(Slot::ServiceKey, whole);
    let name = whole.of(frame).unwrap_or_default();
    let Some(colon) = name.iter().position(|byte| *byte == b':') else {
        index.set(Slot::Service, whole);
        return;
    };
    let at = whole.at as usize;
    let after = colon.saturating_add(1);
    index.set(Slot::Service, Span::new(at, colon));
    index.set(Slot::Version, Span::new(at.saturating_add(after), name.len().saturating_sub(after)));
}

/// Blank as Java's `StringUtils.isBlank` has it, over ASCII.
fn unless_blank(frame: &[u8], span: Span) -> Span {
    let blank = |byte: &u8| matches!(byte, 0x09..=0x0d | 0x1c..=0x20);
    match span.of(frame) {
        Some(bytes) if !bytes.iter().all(blank) => span,
        _ => Span::NONE,
    }
}

/// Whether the header map of a response says that its content is an exception. What cannot be read says nothing.
pub(crate) fn is_response_error(frame: &[u8]) -> bool {
    let strings =
        layout::of(frame).and_then(|layout| layout.ends(frame)).map(|ends| Strings::of(frame, &ends));
    let Some(Ok(mut strings)) = strings else { return false };
    let mut error = false;
    while let Ok(Some((key, value))) = strings.pair() {
        if let (Some((_, RESPONSE_ERROR)), Some((_, value))) = (key, value) {
            error = value == b"true";
        }
    }
    error
}

/// The strings of a header map, in pairs.
struct Strings<'a> {
    /// The frame up to the end of the map, so that offsets are the frame's.
    bytes: &'a [u8],
    at: usize,
}

/// A string and where it is, or null.
type Text<'a> = Option<(Span, &'a [u8])>;

impl<'a> Strings<'a> {
    fn of(frame: &'a [u8], ends: &Ends) -> Result<Self, Malformed> {
        Ok(Self { bytes: frame.get(..ends.header).ok_or(CUT_OFF)?, at: ends.class })
    }

    /// The next pair; `None` where the map ends.
    #[inline]
    fn pair(&mut self) -> Result<Option<(Text<'a>, Text<'a>)>, Malformed> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        Ok(Some((self.string()?, self.string()?)))
    }

    #[inline]
    fn string(&mut self) -> Result<Text<'a>, Malformed> {
        let len = be32(self.bytes, self.at).ok_or(CUT_OFF)?;
        let from = self.at.saturating_add(4);
        self.at = from;
        if len == NULL {
            return Ok(None);
        }
        let end = from.saturating_add(len as usize);
        let text = self.bytes.get(from..end).ok_or(Malformed("header map string longer than the map"))?;
        self.at = end;
        Ok(Some((Span::new(from, text.len()), text)))
    }
}
