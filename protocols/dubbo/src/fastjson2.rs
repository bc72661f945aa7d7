//! Steps over a body of serialization 23: four bytes of length before each value, the value itself in JSONB.
//!
//! The lengths make it cheap to step over arguments; inside the attachments the values are walked one by one.
//! It never resolves a symbol or a reference and never recurses. Text is a span only where its bytes are UTF-8:
//! JSONB writes Latin-1 and UTF-16 too, which no route could compare.
//! Source: `FastJson2ObjectOutput` of Apache Dubbo 3.3; `JSONB.Constants` and `JSONReaderJSONB.skipValue` of
//! fastjson2.

use outrigger_codec::{Malformed, Span};

use crate::values::{
    BAD_COUNT, Cursor, ELEMENTS_MAX, Open, REFS_MAX, Stack, Step, TOO_MANY, TOO_MANY_REFS, TRUNCATED, Value,
    Values,
};

const NO_VALUE: Malformed = Malformed("byte that begins no jsonb value");
const NO_STRING: Malformed = Malformed("jsonb string expected");
const NO_INT: Malformed = Malformed("jsonb int expected");
const NO_MAP: Malformed = Malformed("attachments are not a map");
const OVERRUN: Malformed = Malformed("jsonb value longer than its length");

const TYPED: u8 = 0x92;
const OBJECT_END: u8 = 0xa5;
const OBJECT: u8 = 0xa6;
/// The JSONB null.
pub(crate) const NULL: u8 = 0xaf;
const ASCII_0: u8 = 0x49;
const ASCII_47: u8 = 0x78;
const ASCII: u8 = 0x79;
const UTF8: u8 = 0x7a;
const GB18030: u8 = 0x7e;
const SYMBOL: u8 = 0x7f;

/// A walk over the values of one body.
#[derive(Debug)]
pub struct Walker<'a> {
    bytes: &'a [u8],
    /// Offset of the next value's length.
    at: usize,
    /// The value whose entries are being read, ending where it ends.
    map: Cursor<'a>,
    elements: u32,
    refs: u32,
}

impl<'a> Walker<'a> {
    /// A walk over `bytes` that begins at offset `at`. Spans count from the start of `bytes`.
    pub const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, map: Cursor::new(&[], 0), elements: 0, refs: 0 }
    }

    /// The offset of the next value's length.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The next value, alone: a cursor that cannot leave it. The walk itself moves on behind it.
    fn enter(&mut self) -> Result<Cursor<'a>, Malformed> {
        let mut outer = Cursor::new(self.bytes, self.at);
        let len = usize::try_from(outer.i32()?).map_err(|_| BAD_COUNT)?;
        let from = outer.at();
        outer.take(len)?;
        self.at = outer.at();
        Ok(Cursor::new(self.bytes.get(..self.at).unwrap_or_default(), from))
    }

    fn element(&mut self) -> Result<(), Malformed> {
        self.elements = self.elements.saturating_add(1);
        if self.elements > ELEMENTS_MAX { Err(TOO_MANY) } else { Ok(()) }
    }

    /// Reads the value at `cursor`.
    fn read_at(&mut self, cursor: &mut Cursor<'a>) -> Result<Value, Malformed> {
        let mut look = *cursor;
        let value = match look.u8()? {
            NULL => Value::Null,
            lead @ ASCII_0..=GB18030 => text(&mut look, lead)?,
            SYMBOL => symbol(&mut look)?,
            lead @ (0x00..=0x48 | 0xbc..=0xff) => Value::Number(number(&mut look, lead)?),
            _ => return self.skip_at(cursor).map(|()| Value::Opaque),
        };
        *cursor = look;
        self.element().map(|()| value)
    }

    /// Steps over the value at `cursor` and all that is in it.
    fn skip_at(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Malformed> {
        let mut stack = Stack::new();
        stack.push(Open::Values(1))?;
        loop {
            match stack.advance(cursor.peek() == Some(OBJECT_END)) {
                Step::Value => {
                    if let Some(open) = self.one(cursor)? {
                        stack.push(open)?;
                    }
                }
                Step::EndMark => {
                    cursor.take(1)?;
                }
                Step::Closed => {}
                Step::Done => return Ok(()),
            }
        }
    }

    /// Steps over the bytes of one value itself; says what it opens.
    fn one(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Open>, Malformed> {
        self.element()?;
        let mut lead = cursor.u8()?;
        // The name of a class may stand before any value; it opens nothing, so a chain of them is a loop.
        while lead == TYPED {
            type_name(cursor)?;
            lead = cursor.u8()?;
        }
        match lead {
            OBJECT => return Ok(Some(Open::Key)),
            0x94..=0xa3 => return Ok(Some(Open::Values(u32::from(lead.wrapping_sub(0x94))))),
            0xa4 => {
                let items = int(cursor)?;
                return cursor.count(items).map(|items| Some(Open::Values(items)));
            }
            NULL | 0xb0..=0xb3 => {}
            ASCII_0..=GB18030 => {
                text(cursor, lead)?;
            }
            SYMBOL => {
                symbol(cursor)?;
            }
            0x93 => {
                self.refs = self.refs.saturating_add(1);
                if self.refs > REFS_MAX {
                    return Err(TOO_MANY_REFS);
                }
                let lead = cursor.u8()?;
                text(cursor, lead)?;
            }
            // Binary and big integers: a length and the bytes.
            0x91 | 0xbb => {
                let len = length(cursor)?;
                cursor.take(len)?;
            }
            0x00..=0x48 | 0xbc..=0xff => {
                number(cursor, lead)?;
            }
            // A number tells the rest: a char, whole doubles, floats, decimals and big integers.
            0x90 | 0xb4 | 0xb6 | 0xb8 | 0xba => {
                plain_number(cursor)?;
            }
            // A decimal: its scale, then its digits as a number of any kind.
            0xb9 => {
                int(cursor)?;
                return Ok(Some(Open::Values(1)));
            }
            0xa7 => time(cursor, 3)?,
            0xa8 => time(cursor, 7)?,
            0xaa => {
                time(cursor, 7)?;
                let lead = cursor.u8()?;
                text(cursor, lead)?;
            }
            0xae => {
                plain_number(cursor)?;
                int(cursor)?;
            }
            0xa9 | 0xac | 0xad | 0xb7 => {
                cursor.take(4)?;
            }
            0xab | 0xb5 => {
                cursor.take(8)?;
            }
            0x80..=0x8f | TYPED | OBJECT_END => return Err(NO_VALUE),
        }
        Ok(None)
    }
}

impl Values for Walker<'_> {
    fn at(&self) -> usize {
        Self::at(self)
    }

    fn read(&mut self) -> Result<Value, Malformed> {
        let mut cursor = self.enter()?;
        self.read_at(&mut cursor).map_err(overrun)
    }

    fn skip(&mut self) -> Result<(), Malformed> {
        self.enter().map(|_| ())
    }

    fn open_map(&mut self) -> Result<bool, Malformed> {
        if self.at >= self.bytes.len() {
            return Ok(false);
        }
        let mut cursor = self.enter()?;
        if cursor.peek() == Some(TYPED) {
            cursor.take(1)?;
            type_name(&mut cursor)?;
        }
        match cursor.u8()? {
            NULL => Ok(false),
            OBJECT => {
                self.map = cursor;
                Ok(true)
            }
            _ => Err(NO_MAP),
        }
    }

    fn key(&mut self) -> Result<Option<Value>, Malformed> {
        if self.map.peek() == Some(OBJECT_END) {
            self.map.take(1)?;
            return Ok(None);
        }
        self.value().map(Some)
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        let mut cursor = self.map;
        let value = self.read_at(&mut cursor).map_err(overrun);
        self.map = cursor;
        value
    }
}

/// The end that was met is that of the value, not of the body.
fn overrun(why: Malformed) -> Malformed {
    if why == TRUNCATED { OVERRUN } else { why }
}

/// A string of any encoding.
fn text(cursor: &mut Cursor<'_>, lead: u8) -> Result<Value, Malformed> {
    let len = match lead {
        ASCII_0..=ASCII_47 => usize::from(lead.wrapping_sub(ASCII_0)),
        ASCII..=GB18030 => length(cursor)?,
        _ => return Err(NO_STRING),
    };
    let from = cursor.at();
    let bytes = cursor.take(len)?;
    // What is called ASCII is Latin-1 in truth.
    let utf8 = lead == UTF8 || lead <= ASCII && bytes.is_ascii();
    Ok(if utf8 { Value::Text(Span::new(from, len)) } else { Value::Opaque })
}

/// A name that is given a number, or the number of one that was given before.
fn symbol(cursor: &mut Cursor<'_>) -> Result<Value, Malformed> {
    match cursor.u8()? {
        lead @ (0x00..=0x48 | 0xf0..=0xff) => number(cursor, lead).map(|_| Value::Opaque),
        lead => {
            let name = text(cursor, lead)?;
            int(cursor).map(|_| name)
        }
    }
}

/// A class name, with or without the mark of a symbol.
fn type_name(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    if cursor.peek() == Some(SYMBOL) {
        cursor.take(1)?;
    }
    symbol(cursor).map(|_| ())
}

/// Fields of a date or a time of day, and the nanoseconds as a number.
fn time(cursor: &mut Cursor<'_>, fields: usize) -> Result<(), Malformed> {
    cursor.take(fields)?;
    int(cursor).map(|_| ())
}

fn length(cursor: &mut Cursor<'_>) -> Result<usize, Malformed> {
    let declared = int(cursor)?;
    cursor.count(declared).map(|len| len as usize)
}

fn int(cursor: &mut Cursor<'_>) -> Result<i64, Malformed> {
    match cursor.u8()? {
        lead @ (0x00..=0x48 | 0xf0..=0xff) => number(cursor, lead),
        _ => Err(NO_INT),
    }
}

fn plain_number(cursor: &mut Cursor<'_>) -> Result<i64, Malformed> {
    let lead = cursor.u8()?;
    number(cursor, lead)
}

/// The integer of any width that `lead` begins.
fn number(cursor: &mut Cursor<'_>, lead: u8) -> Result<i64, Malformed> {
    match lead {
        0x00..=0x2f => Ok(i64::from(lead)),
        0xf0..=0xff => Ok(i64::from(lead as i8)),
        0x30..=0x3f => cursor.compact(lead, 0x38, 1),
        0x40..=0x47 => cursor.compact(lead, 0x44, 2),
        0xd8..=0xef => cursor.compact(lead, 0xe0, 0),
        0xc8..=0xd7 => cursor.compact(lead, 0xd0, 1),
        0xc0..=0xc7 => cursor.compact(lead, 0xc4, 2),
        0x48 | 0xbf => cursor.i32().map(i64::from),
        0xbe => cursor.i64(),
        0xbc => cursor.u16().map(|short| i64::from(short as i16)),
        0xbd => cursor.u8().map(|byte| i64::from(byte as i8)),
        _ => Err(NO_INT),
    }
}

/// Appends a value of the body: its length, then a string of at most so many bytes as fit a message.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    const CHARACTERS_MAX: usize = 1000;
    let end = text.char_indices().nth(CHARACTERS_MAX).map_or(text.len(), |(end, _)| end);
    let text = text.get(..end).unwrap_or_default();
    // At most 4000 bytes: a number of two bytes reaches to 2047, one of three beyond.
    let len = text.len() as u16;
    let [high, low] = len.to_be_bytes();
    let tag = if text.is_ascii() { ASCII } else { UTF8 };
    let head: &[u8] = match len {
        0..=47 => &[tag, low],
        48..=2047 => &[tag, 0x38 | high, low],
        _ => &[tag, 0x44, high, low],
    };
    let whole = u32::from(len).saturating_add(head.len() as u32);
    out.extend_from_slice(&whole.to_be_bytes());
    out.extend_from_slice(head);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a failing test is the point")]
mod tests {
    use super::*;

    fn framed(value: &[u8]) -> Vec<u8> {
        [&(value.len() as u32).to_be_bytes(), value].concat()
    }

    fn read(value: &[u8]) -> Result<Value, Malformed> {
        Walker::new(&framed(value), 0).read()
    }

    /// How many bytes the walk of `value` steps over when something else follows.
    fn skip(value: &[u8]) -> Result<usize, Malformed> {
        let mut cursor = Cursor::new(value, 0);
        Walker::new(&[], 0).skip_at(&mut cursor).map(|()| cursor.at())
    }

    #[test]
    fn every_form_of_a_number_has_its_value() {
        for (bytes, value) in [
            (&[0x2f][..], 47),
            (&[0xf0], -16),
            (&[0x38, 0x64], 100),
            (&[0x30, 0x00], -2048),
            (&[0x44, 0x87, 0xa5], 0x87a5),
            (&[0x48, 0x00, 0x04, 0xba, 0xfc], 310_012),
            (&[0xe0], 0),
            (&[0xd8], -8),
            (&[0xd0, 0x30], 48),
            (&[0xc4, 0x08, 0x00], 2048),
            (&[0xbf, 0xff, 0xff, 0xff, 0xff], -1),
            (&[0xbe, 0, 0x20, 0, 0, 0, 0, 0, 1], 0x20_0000_0000_0001),
            (&[0xbc, 0xff, 0xfe], -2),
            (&[0xbd, 0x04], 4),
        ] {
            assert_eq!(read(bytes), Ok(Value::Number(value)), "{bytes:x?}");
            assert_eq!(skip(bytes), Ok(bytes.len()), "{bytes:x?}");
        }
    }

    #[test]
    fn only_utf8_is_text() {
        assert_eq!(read(b"\x4bhi"), Ok(Value::Text(Span::new(5, 2))));
        assert_eq!(read(b"\x79\x02hi"), Ok(Value::Text(Span::new(6, 2))));
        assert_eq!(read(b"\x7a\x02\xc3\xa9"), Ok(Value::Text(Span::new(6, 2))));
        assert_eq!(read(b"\x4a\xe9"), Ok(Value::Opaque), "Latin-1");
        assert_eq!(read(b"\x7c\x02h\0"), Ok(Value::Opaque), "UTF-16");
        assert_eq!(read(b"\x7f\x4bhi\x03"), Ok(Value::Text(Span::new(6, 2))), "a symbol is named here");
        assert_eq!(read(b"\x7f\x03"), Ok(Value::Opaque), "a symbol was named elsewhere");
        assert_eq!(read(b"\xaf"), Ok(Value::Null));
    }

    #[test]
    fn every_kind_of_value_is_stepped_over() {
        for value in [
            &b"\x92\x4bT1\x00\xa6\x7f\x4ax\x01\x96\x01\x02\xa5"[..],
            b"\x92\x09\x94",
            b"\x92\x7f\x09\x94",
            b"\xa4\x02\xaf\xb1",
            b"\x93\x4b$a",
            b"\x91\x04\0\x01\x02\xff",
            b"\xb9\x04\x48\x07\x5b\xcc\xbc",
            b"\xb9\x04\xbb\x02\x01\x02",
            b"\xb8\xe4",
            b"\xb4\xe4",
            b"\xb5\x40\x0a\0\0\0\0\0\0",
            b"\xb7\0\0\0\0",
            b"\x90\x38\x64",
            b"\xa7\x0c\0\0\0",
            b"\xa8\x07\xe8\x01\x01\0\0\0\0",
            b"\xa9\x07\xe8\x01\x01",
            b"\xaa\x07\xe8\x01\x01\0\0\0\0\x4cUTC",
            b"\xab\0\0\x01\x8b\xcf\xe5\x68\x7b",
            b"\xae\xe0\0",
        ] {
            assert_eq!(skip(value), Ok(value.len()), "{value:x?}");
            for cut in 0..value.len() {
                assert!(matches!(skip(&value[..cut]), Err(TRUNCATED | BAD_COUNT)), "{value:x?} {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert_eq!(skip(b"\xa5"), Err(NO_VALUE));
        assert_eq!(skip(b"\xa6\x4ak\xa5"), Err(NO_VALUE), "a key without a value");
        assert_eq!(skip(b"\xa4\x48\x7f\xff\xff\xff\x01"), Err(BAD_COUNT));
        assert_eq!(skip(b"\x91\xff\x01"), Err(BAD_COUNT), "a negative length");
        assert_eq!(read(b"\x4dab"), Err(OVERRUN));
        assert_eq!(Walker::new(&[0xff; 8], 0).read(), Err(BAD_COUNT));
        assert_eq!(Walker::new(&[0, 0, 0, 9, 1], 0).skip(), Err(TRUNCATED));
    }

    #[test]
    fn strings_are_written_as_they_are_read() {
        for (text, at) in [("no route", 6), ("é", 6), (&*"x".repeat(900), 7), (&*"é".repeat(1000), 7)] {
            let mut out = Vec::new();
            write_string(text, &mut out);
            let at = if text.len() > 2047 { at + 1 } else { at };
            assert_eq!(Walker::new(&out, 0).read(), Ok(Value::Text(Span::new(at, text.len()))), "{text}");
        }
        let mut out = Vec::new();
        write_string(&"😀".repeat(2000), &mut out);
        assert_eq!(Walker::new(&out, 0).read(), Ok(Value::Text(Span::new(8, 4000))));
    }
}
