//! From the body of a request to the table of offsets that routes are matched against.
//!
//! A body is: protocol version, path, service version, method, parameter descriptor, one value for each
//! parameter, attachments. Nothing marks where the attachments begin, so the arguments are stepped over, and
//! only when a part behind them is wanted. A part that nobody wants never fails a request; the timeout never
//! does. A body of a serialization that is not read here leaves everything absent.
//! Source: `DubboCodec.encodeRequestData`, `ReflectUtils.desc2classArray`, `RpcUtils.getMethodName` and
//! `CommonConstants` (`group`, `timeout`, `_TO`) of Apache Dubbo 3.3.

use outrigger_codec::head::FIELDS_MAX;
use outrigger_codec::{Field, HeadIndex, Malformed, Slot, Span, Wants};

use crate::layout::{FASTJSON2, HEADER_LEN, HESSIAN2, Header};
use crate::values::{Value, Values};
use crate::{fastjson2, hessian};

const UNREADABLE: Malformed = Malformed("part of the head is no plain text");
const BAD_DESCRIPTOR: Malformed = Malformed("parameter descriptor is malformed");
const TOO_MANY_FIELDS: Malformed = Malformed("too many attachments");

/// What the attachments tell.
const ATTACHED: Wants = Wants::GROUP.and(Wants::FIELDS);

/// Fills `index` with the parts of a whole request frame that are wanted.
pub(crate) fn read(frame: &[u8], wants: Wants, index: &mut HeadIndex) -> Result<(), Malformed> {
    match Header::read(frame).map(Header::serialization) {
        Some(HESSIAN2) => fill(&mut hessian::Walker::new(frame, HEADER_LEN), frame, wants, index),
        Some(FASTJSON2) => fill(&mut fastjson2::Walker::new(frame, HEADER_LEN), frame, wants, index),
        _ => {
            index.opaque = true;
            Ok(())
        }
    }
}

fn fill(
    values: &mut impl Values,
    frame: &[u8],
    wants: Wants,
    index: &mut HeadIndex,
) -> Result<(), Malformed> {
    if wants == Wants::NONE {
        return Ok(());
    }
    let mut lost = Wants::SERVICE;
    match body(values, frame, wants, index, &mut lost) {
        Err(why) if wants.any(lost) => Err(why),
        _ => Ok(()),
    }
}

/// Reads on for as long as something wanted is ahead. `lost` is what cannot be known when the read at hand fails.
fn body(
    values: &mut impl Values,
    frame: &[u8],
    wants: Wants,
    index: &mut HeadIndex,
    lost: &mut Wants,
) -> Result<(), Malformed> {
    *lost = ATTACHED.and(Wants::METHOD).and(Wants::VERSION).and(Wants::SERVICE);
    values.skip()?;
    index.set(Slot::Service, name(values, wants.any(Wants::SERVICE))?);

    *lost = ATTACHED.and(Wants::METHOD).and(Wants::VERSION);
    let version = name(values, wants.any(Wants::VERSION))?;
    if !matches!(version.of(frame), Some(b"" | b"0.0.0")) {
        index.set(Slot::Version, version);
    }

    *lost = ATTACHED.and(Wants::METHOD);
    let method = name(values, wants.any(Wants::METHOD))?;
    index.set(Slot::Method, method);

    *lost = ATTACHED;
    let generic = matches!(method.of(frame), Some(b"$invoke" | b"$invokeAsync"));
    let attached = wants.any(ATTACHED.and(Wants::TIMEOUT));
    let behind = attached || generic && wants.any(Wants::METHOD);
    if !behind {
        return Ok(());
    }
    let Value::Text(descriptor) = values.read()? else {
        return Err(BAD_DESCRIPTOR);
    };
    let mut left = arguments(descriptor.of(frame).unwrap_or_default())?;
    if generic && left > 0 {
        // The first argument of a generic call names the method; what is no text leaves `$invoke` itself.
        if let Value::Text(named) = values.read()? {
            index.set(Slot::Method, named);
        }
        left = left.saturating_sub(1);
    }
    if !attached {
        return Ok(());
    }
    for _ in 0..left {
        values.skip()?;
    }
    attachments(values, frame, wants, index)
}

fn attachments(
    values: &mut impl Values,
    frame: &[u8],
    wants: Wants,
    index: &mut HeadIndex,
) -> Result<(), Malformed> {
    if !values.open_map()? {
        return Ok(());
    }
    let (mut timeout, mut named_one): (Option<u32>, bool) = (None, false);
    loop {
        let key = match values.plain() {
            Some(key) => Some(key),
            None => match values.key()? {
                None => break,
                Some(Value::Text(key)) => Some(key),
                Some(_) => None,
            },
        };
        let value = match values.plain() {
            Some(value) => Value::Text(value),
            None => values.value()?,
        };
        let Some(name) = key else {
            continue;
        };
        match name.of(frame) {
            Some(b"group") => {
                let group = text(value, wants.any(Wants::GROUP))?;
                index.set(Slot::Group, if group.len == 0 { Span::NONE } else { group });
            }
            // The second is what is left of a whole chain's time; where both are given, the smaller wins.
            Some(named @ (b"timeout" | b"_TO")) => {
                named_one = true;
                let [own, left] = &mut index.timeouts;
                if let Value::Text(place) = value {
                    *(if named == b"_TO" { left } else { own }) = place;
                }
                timeout = match (timeout, millis(value, frame)) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
            _ => {}
        }
        if let (true, Value::Text(value)) = (wants.any(Wants::FIELDS), value) {
            if index.fields.len() >= FIELDS_MAX {
                return Err(TOO_MANY_FIELDS);
            }
            index.fields.push(Field { name, value });
        }
    }
    index.timeout_ms = timeout;
    if !named_one {
        index.timeout_room = Span::new(values.at().saturating_sub(1), 0);
    }
    Ok(())
}

/// The next value of the body, as a part of the head.
#[inline]
fn name(values: &mut impl Values, needed: bool) -> Result<Span, Malformed> {
    match values.plain() {
        Some(span) => Ok(span),
        None => text(values.read()?, needed),
    }
}

/// A part of the head; null is an absent one. What is not text can be passed by only if nobody needs it: a route
/// that asks for it must not be evaded by an odd encoding.
fn text(value: Value, needed: bool) -> Result<Span, Malformed> {
    match value {
        Value::Text(span) => Ok(span),
        Value::Number(_) | Value::Opaque if needed => Err(UNREADABLE),
        Value::Null | Value::Number(_) | Value::Opaque => Ok(Span::NONE),
    }
}

/// Java writes text, Go text or a number. Zero and less mean none.
fn millis(value: Value, frame: &[u8]) -> Option<u32> {
    let ms = match value {
        Value::Text(span) => digits(span.of(frame)?).or_else(|| number(span.of(frame)?))?,
        Value::Number(ms) => ms,
        Value::Null | Value::Opaque => return None,
    };
    (ms > 0).then(|| u32::try_from(ms).unwrap_or(u32::MAX))
}

/// What Java writes: a few digits and nothing else.
pub(crate) fn digits(text: &[u8]) -> Option<i64> {
    let few = (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    few.then(|| {
        text.iter().fold(0_i64, |sum, digit| sum.wrapping_mul(10).wrapping_add(i64::from(digit & 0x0f)))
    })
}

/// Any other spelling of a number.
fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The number of parameters that a descriptor such as `Ljava/lang/String;I[J` names.
pub(crate) fn arguments(mut descriptor: &[u8]) -> Result<usize, Malformed> {
    let mut count = 0_usize;
    while let Some((first, rest)) = descriptor.split_first() {
        descriptor = match first {
            b'[' if !rest.is_empty() => {
                descriptor = rest;
                continue;
            }
            b'V' | b'Z' | b'B' | b'C' | b'D' | b'F' | b'I' | b'J' | b'S' => rest,
            b'L' => match rest.iter().position(|byte| *byte == b';') {
                Some(end) if end > 0 => rest.get(end.saturating_add(1)..).unwrap_or_default(),
                _ => return Err(BAD_DESCRIPTOR),
            },
            _ => return Err(BAD_DESCRIPTOR),
        };
        count = count.saturating_add(1);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_tell_the_number_of_arguments() {
        for (descriptor, count) in [
            ("", 0),
            ("I", 1),
            ("Ljava/lang/String;", 1),
            ("Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;", 3),
            ("ZBCDFIJSV", 9),
            ("[[I[J", 2),
        ] {
            assert_eq!(arguments(descriptor.as_bytes()), Ok(count), "{descriptor}");
        }
        for descriptor in ["[", "I[", "L;", "Ljava/lang/String", "X", "I ", "java.lang.String"] {
            assert_eq!(arguments(descriptor.as_bytes()), Err(BAD_DESCRIPTOR), "{descriptor}");
        }
    }

    #[test]
    fn timeouts_are_positive_or_none() {
        let frame = b"3000-150 99999999999x";
        let text = |at, len| millis(Value::Text(Span::new(at, len)), frame);
        assert_eq!(text(0, 4), Some(3000));
        assert_eq!(text(4, 2), None);
        assert_eq!(text(9, 11), Some(u32::MAX));
        assert_eq!(text(9, 12), None);
        assert_eq!(text(0, 0), None);
        assert_eq!(millis(Value::Number(0), frame), None);
        assert_eq!(millis(Value::Number(-1), frame), None);
        assert_eq!(millis(Value::Number(250), frame), Some(250));
        assert_eq!(millis(Value::Opaque, frame), None);
    }
}
