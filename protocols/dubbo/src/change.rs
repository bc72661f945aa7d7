//! Attachments of a call or an answer, changed on their way; the timeout among them, told anew.
//!
//! Only text comes and only what refers to nothing goes, so that the references of a Hessian body stay true. Bodies that are
//! not Hessian's pass as they are. Source: `DubboCodec.encodeRequestData`, `encodeResponseData` of Apache Dubbo 3.3.

use outrigger_codec::{Malformed, Span, change::Change};

use crate::head::{self, arguments};
use crate::hessian::{self, write_string};
use crate::layout::{self, HEADER_LEN, HESSIAN2, Header};
use crate::values::{Value, Values};

const MAP: u8 = b'H';
const MAP_END: u8 = b'Z';
const NO_ATTACHMENTS: Malformed = Malformed("no attachments");

/// Appends `frame` with its attachments changed. `false`: that cannot be done, and nothing was appended.
pub(crate) fn apply(frame: &[u8], change: &Change, out: &mut Vec<u8>) -> bool {
    anew(frame, |name| change.drops(name, false), |out| new_ones(change, out), out)
}

/// Appends `frame` with this timeout, in place of one that is no text or none that means anything.
/// `room`: the end of its attachments, where that is known and there is none among them.
pub(crate) fn add_timeout(frame: &[u8], room: Span, ms: u32, out: &mut Vec<u8>) -> bool {
    let mut digits = [0; 10];
    let hessian = Header::read(frame).is_some_and(|header| header.serialization() == HESSIAN2);
    let split = frame.split_at_checked(room.at as usize).filter(|_| room.is_some() && hessian);
    if let Some((before, end)) = split.filter(|(_, end)| end.first() == Some(&MAP_END)) {
        let start = out.len();
        out.extend_from_slice(before);
        write_string("timeout", out);
        write_string(decimal(ms, &mut digits), out);
        out.extend_from_slice(end);
        set_length(start, out);
        return true;
    }
    let drops = |name: &[u8]| matches!(name, b"timeout" | b"_TO");
    let line = |out: &mut Vec<u8>| {
        write_string("timeout", out);
        write_string(decimal(ms, &mut digits), out);
        Ok(())
    };
    anew(frame, drops, line, out)
}

fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &str {
    let mut at = digits.len();
    loop {
        at = at.saturating_sub(1);
        if let Some(place) = digits.get_mut(at) {
            *place = b'0'.wrapping_add((number % 10) as u8);
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.get(at..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
}

/// Appends `frame` without the attachments that `drops` names and with those that `adds` writes.
fn anew(
    frame: &[u8],
    drops: impl Fn(&[u8]) -> bool,
    adds: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
    out: &mut Vec<u8>,
) -> bool {
    let Some(header) = Header::read(frame).filter(|header| header.serialization() == HESSIAN2) else {
        return false;
    };
    let start = out.len();
    if rewrite(frame, header, drops, adds, out).is_err() {
        out.truncate(start);
        return false;
    }
    set_length(start, out);
    true
}

/// Tells in the header of the frame that begins at `start` how long its body is.
fn set_length(start: usize, out: &mut [u8]) {
    let body_len = out.len().saturating_sub(start).saturating_sub(HEADER_LEN) as u32;
    let place = out.get_mut(start..start.saturating_add(HEADER_LEN)).and_then(<[u8]>::last_chunk_mut);
    if let Some(place) = place {
        *place = body_len.to_be_bytes();
    }
}

fn rewrite(
    frame: &[u8],
    header: Header,
    drops: impl Fn(&[u8]) -> bool,
    adds: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut walker = hessian::Walker::new(frame, HEADER_LEN);
    if header.has(layout::REQUEST) {
        to_attachments(&mut walker, frame)?;
    } else {
        to_attachments_of_answer(&mut walker, header)?;
    }
    let part = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    let before = walker.at();
    if !walker.open_map()? {
        // Null, or none at all.
        out.extend_from_slice(part(0, before));
        out.push(MAP);
        adds(out)?;
        out.push(MAP_END);
        out.extend_from_slice(part(walker.at(), frame.len()));
        return Ok(());
    }
    out.extend_from_slice(part(0, walker.at()));
    loop {
        let from = walker.at();
        let Some(key) = walker.key()? else { break };
        let value = walker.value()?;
        let named = if let Value::Text(name) = key { name.of(frame) } else { None };
        let goes = named.is_some_and(&drops) && !matches!(value, Value::Opaque);
        if !goes {
            out.extend_from_slice(part(from, walker.at()));
        }
    }
    adds(out)?;
    out.push(MAP_END);
    out.extend_from_slice(part(walker.at(), frame.len()));
    Ok(())
}

/// The last of two equal keys counts, so that they stand behind all others.
fn new_ones(change: &Change, out: &mut Vec<u8>) -> Result<(), Malformed> {
    for line in change.lines() {
        for bytes in [&line.name, &line.value] {
            write_string(std::str::from_utf8(bytes).map_err(|_| Malformed("no text"))?, out);
        }
    }
    Ok(())
}

fn to_attachments(values: &mut impl Values, frame: &[u8]) -> Result<(), Malformed> {
    // Protocol version, path, version, method.
    for _ in 0..4 {
        values.skip()?;
    }
    let Value::Text(descriptor) = values.read()? else { return Err(NO_ATTACHMENTS) };
    for _ in 0..arguments(descriptor.of(frame).unwrap_or_default())? {
        values.skip()?;
    }
    Ok(())
}

/// An answer says first whether it has any: 3 an exception, 4 a value, 5 nothing besides them.
fn to_attachments_of_answer(values: &mut impl Values, header: Header) -> Result<(), Malformed> {
    if header.status != layout::OK {
        return Err(NO_ATTACHMENTS);
    }
    match values.read()? {
        Value::Number(3 | 4) => values.skip(),
        Value::Number(5) => Ok(()),
        _ => Err(NO_ATTACHMENTS),
    }
}

/// Lowers a timeout that is written in digits: in its place, with zeros before it. Whether there is one there.
pub(crate) fn set_timeout(frame: &mut [u8], place: Span, ms: u32) -> bool {
    let end = (place.at as usize).saturating_add(place.len as usize);
    let Some(digits) = frame.get_mut(place.at as usize..end).filter(|_| place.is_some()) else {
        return false;
    };
    let said = head::digits(digits).filter(|said| *said > 0);
    if said.is_some_and(|said| said > i64::from(ms)) {
        let mut left = ms;
        for digit in digits.iter_mut().rev() {
            *digit = b'0'.wrapping_add((left % 10) as u8);
            left /= 10;
        }
    }
    said.is_some()
}
