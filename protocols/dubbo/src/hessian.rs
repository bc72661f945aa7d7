//! Steps over Hessian 2.0 values without building them.
//!
//! Everything a walk remembers is the number of fields of each class definition, because nothing else changes
//! how long a value is; references and types are numbers to step over, checked only to be in range. It never
//! recurses, never expands a reference, never looks at a class name, and never reads the older draft grammar
//! that SOFA's Hessian 3 speaks. Time is linear in the bytes: a declared count must fit into what is left.
//! Source: `Hessian2Input.readObject` and `Hessian2Constants` of Apache Dubbo's hessian-lite 4.

pub mod tree;

use outrigger_codec::{Malformed, Span};

use crate::values::{
    Cursor, ELEMENTS_MAX, Open, REFS_MAX, Stack, Step, TOO_MANY, TOO_MANY_REFS, TRUNCATED, Value, Values,
};

/// Class definitions in one body.
pub const DEFINITIONS_MAX: usize = 4096;

const NO_VALUE: Malformed = Malformed("byte that begins no hessian value");
const NO_STRING: Malformed = Malformed("hessian string expected");
const NO_BINARY: Malformed = Malformed("hessian binary chunk expected");
const NO_INT: Malformed = Malformed("hessian int expected");
const NO_MAP: Malformed = Malformed("attachments are not a map");
const BAD_TEXT: Malformed = Malformed("hessian string is not text");
const NO_DEFINITION: Malformed = Malformed("hessian class definition out of range");
const NO_REF: Malformed = Malformed("hessian reference out of range");
const NO_TYPE: Malformed = Malformed("hessian type out of range");
const TOO_MANY_DEFINITIONS: Malformed = Malformed("too many hessian class definitions");

const END: u8 = 0x5a;
const DEFINITION: u8 = 0x43;
const MAP: u8 = 0x48;
const TYPED_MAP: u8 = 0x4d;
const NULL: u8 = 0x4e;
const CHUNK: u8 = 0x52;

/// Bytes looked at together while characters are counted: in a run of ASCII each byte is one.
const RUN: usize = 256;
/// More bytes than the shortest form of a string has characters.
const SHORT: usize = 32;
/// The bit that no ASCII byte has, for so many bytes, then as many zeros: a window of it masks a short string.
static NOT_ASCII: [u8; 2 * SHORT] = {
    let mut mask = [0x80; 2 * SHORT];
    mask.split_at_mut(SHORT).1.copy_from_slice(&[0; SHORT]);
    mask
};

/// A walk over the values of one stream. Definitions made in one value are in force for those after it.
#[derive(Debug)]
pub struct Walker<'a> {
    cursor: Cursor<'a>,
    definitions: Definitions,
    elements: u32,
    refs: u32,
    /// Containers and objects begun so far: what a reference may point to.
    slots: u32,
    /// Type names given so far, of lists and maps together.
    types: u32,
}

impl<'a> Walker<'a> {
    /// A walk over `bytes` that begins at offset `at`. Spans count from the start of `bytes`.
    pub const fn new(bytes: &'a [u8], at: usize) -> Self {
        let definitions = Definitions { near: [0; NEAR], len: 0, far: Vec::new() };
        Self { cursor: Cursor::new(bytes, at), definitions, elements: 0, refs: 0, slots: 0, types: 0 }
    }

    /// The offset of the next value.
    pub const fn at(&self) -> usize {
        self.cursor.at()
    }

    /// Whether there is no byte left.
    pub fn is_at_end(&self) -> bool {
        self.cursor.left() == 0
    }

    /// Steps over one value and all that is in it.
    pub fn skip(&mut self) -> Result<(), Malformed> {
        if self.short().is_some() {
            return Ok(());
        }
        match self.one()? {
            None => Ok(()),
            Some(open) => self.finish(open),
        }
    }

    /// Reads one value.
    pub fn read(&mut self) -> Result<Value, Malformed> {
        let lead = self.cursor.peek().ok_or(TRUNCATED)?;
        match lead {
            0x00..=0x1f | 0x30..=0x33 | CHUNK | 0x53 => {
                self.element()?;
                Ok(self.string()?.map_or(Value::Opaque, Value::Text))
            }
            0x38..=0x3f | 0x49 | 0x4c | 0x59 | 0x80..=0xff => {
                self.element()?;
                let lead = self.cursor.u8()?;
                self.number(lead).map(Value::Number)
            }
            NULL => self.skip().map(|()| Value::Null),
            _ => self.skip().map(|()| Value::Opaque),
        }
    }

    /// The common case: a string of fewer than 32 characters, all ASCII; with as many bytes behind it, without a
    /// branch on its length. Steps over it and tells its length; `None` leaves everything as it was. (A span would
    /// come back through memory, which costs more than the whole look.)
    #[inline]
    fn short(&mut self) -> Option<usize> {
        let (lead, rest) = self.cursor.rest().split_first()?;
        let len = usize::from(*lead);
        if len >= SHORT {
            return None;
        }
        let ascii = match rest.first_chunk::<SHORT>() {
            Some(text) => {
                let mask = NOT_ASCII.get(SHORT.saturating_sub(len)..)?.first_chunk::<SHORT>()?;
                text.iter().zip(mask).fold(0, |seen, (byte, mask)| seen | (byte & mask)) == 0
            }
            None => is_ascii(rest.get(..len)?),
        };
        if !ascii {
            return None;
        }
        self.element().ok()?;
        self.cursor.move_to(self.cursor.at().saturating_add(1).saturating_add(len));
        Some(len)
    }

    /// Steps over what is inside a container that was just entered.
    fn finish(&mut self, open: Open) -> Result<(), Malformed> {
        let mut stack = Stack::new();
        stack.push(open)?;
        loop {
            match stack.advance(self.cursor.peek() == Some(END)) {
                Step::Value => {
                    if let Some(open) = self.one()? {
                        stack.push(open)?;
                    }
                }
                Step::EndMark => {
                    self.cursor.take(1)?;
                }
                Step::Closed => {}
                Step::Done => return Ok(()),
            }
        }
    }

    /// Steps over the bytes of one value itself, with the class definitions before it; says what it opens.
    fn one(&mut self) -> Result<Option<Open>, Malformed> {
        while self.cursor.peek() == Some(DEFINITION) {
            self.define()?;
        }
        self.element()?;
        let lead = self.cursor.u8()?;
        let open = match lead {
            0x00..=0x1f | 0x30..=0x33 | 0x52 | 0x53 => {
                self.string_after(lead)?;
                return Ok(None);
            }
            0x20..=0x2f | 0x34..=0x37 | 0x41 | 0x42 => return self.binary(lead).map(|()| None),
            0x46 | 0x4e | 0x54 | 0x5b | 0x5c | 0x80..=0xbf | 0xd8..=0xef => return Ok(None),
            0x5d | 0xc0..=0xcf | 0xf0..=0xff => return self.cursor.take(1).map(|_| None),
            0x38..=0x3f | 0x5e | 0xd0..=0xd7 => return self.cursor.take(2).map(|_| None),
            0x49 | 0x4b | 0x59 | 0x5f => return self.cursor.take(4).map(|_| None),
            0x44 | 0x4a | 0x4c => return self.cursor.take(8).map(|_| None),
            0x51 => return self.reference().map(|()| None),
            0x48 => Open::Key,
            0x4d => {
                self.type_name()?;
                Open::Key
            }
            0x55 => {
                self.type_name()?;
                Open::UntilEnd
            }
            0x57 => Open::UntilEnd,
            0x56 => {
                self.type_name()?;
                Open::Values(self.declared()?)
            }
            0x58 => Open::Values(self.declared()?),
            0x70..=0x77 => {
                self.type_name()?;
                Open::Values(u32::from(lead & 7))
            }
            0x78..=0x7f => Open::Values(u32::from(lead & 7)),
            0x4f => {
                let index = self.int()?;
                self.object(index)?
            }
            0x60..=0x6f => self.object(i64::from(lead & 0xf))?,
            0x40 | 0x43 | 0x45 | 0x47 | 0x50 | 0x5a => return Err(NO_VALUE),
        };
        self.slots = self.slots.saturating_add(1);
        Ok(Some(open))
    }

    fn element(&mut self) -> Result<(), Malformed> {
        self.elements = self.elements.saturating_add(1);
        if self.elements > ELEMENTS_MAX { Err(TOO_MANY) } else { Ok(()) }
    }

    /// A class definition: a name, a number of fields, their names.
    fn define(&mut self) -> Result<(), Malformed> {
        self.cursor.take(1)?;
        self.string()?;
        let fields = self.declared()?;
        for _ in 0..fields {
            self.element()?;
            self.string()?;
        }
        self.definitions.push(fields)
    }

    /// An object of a definition: one value for each of its fields.
    fn object(&self, index: i64) -> Result<Open, Malformed> {
        let fields = usize::try_from(index).ok().and_then(|index| self.definitions.get(index));
        self.cursor.count(i64::from(fields.ok_or(NO_DEFINITION)?)).map(Open::Values)
    }

    fn reference(&mut self) -> Result<(), Malformed> {
        self.refs = self.refs.saturating_add(1);
        if self.refs > REFS_MAX {
            return Err(TOO_MANY_REFS);
        }
        let index = self.int()?;
        if (0..i64::from(self.slots)).contains(&index) { Ok(()) } else { Err(NO_REF) }
    }

    /// A new type name, or the index of one that was given before.
    fn type_name(&mut self) -> Result<(), Malformed> {
        if let Some(0x00..=0x1f | 0x30..=0x33 | 0x52 | 0x53) = self.cursor.peek() {
            self.string()?;
            self.types = self.types.saturating_add(1);
            return Ok(());
        }
        let index = self.int()?;
        if (0..i64::from(self.types)).contains(&index) { Ok(()) } else { Err(NO_TYPE) }
    }

    /// A declared number of values, at least a byte each.
    fn declared(&mut self) -> Result<u32, Malformed> {
        let declared = self.int()?;
        self.cursor.count(declared)
    }

    fn int(&mut self) -> Result<i64, Malformed> {
        match self.cursor.u8()? {
            lead @ (0x80..=0xd7 | 0x49) => self.number(lead),
            _ => Err(NO_INT),
        }
    }

    /// The int or long that `lead` begins.
    fn number(&mut self, lead: u8) -> Result<i64, Malformed> {
        match lead {
            0x80..=0xbf => self.cursor.compact(lead, 0x90, 0),
            0xc0..=0xcf => self.cursor.compact(lead, 0xc8, 1),
            0xd0..=0xd7 => self.cursor.compact(lead, 0xd4, 2),
            0xd8..=0xef => self.cursor.compact(lead, 0xe0, 0),
            0xf0..=0xff => self.cursor.compact(lead, 0xf8, 1),
            0x38..=0x3f => self.cursor.compact(lead, 0x3c, 2),
            0x49 | 0x59 => self.cursor.i32().map(i64::from),
            0x4c => self.cursor.i64(),
            _ => Err(NO_INT),
        }
    }

    fn string(&mut self) -> Result<Option<Span>, Malformed> {
        let lead = self.cursor.u8()?;
        self.string_after(lead)
    }

    /// A string in any number of chunks; `None` when more than one of them has characters, so that no one run of
    /// bytes is the text.
    fn string_after(&mut self, mut lead: u8) -> Result<Option<Span>, Malformed> {
        let mut text = None;
        let mut whole = true;
        loop {
            let units = match lead {
                0x00..=0x1f => usize::from(lead),
                0x30..=0x33 => usize::from(u16::from_be_bytes([lead & 3, self.cursor.u8()?])),
                0x52 | 0x53 => usize::from(self.cursor.u16()?),
                _ => return Err(NO_STRING),
            };
            let from = self.cursor.at();
            self.characters(units)?;
            if units > 0 {
                whole &= text.is_none();
                text = Some(Span::new(from, self.cursor.at().saturating_sub(from)));
            }
            if lead != CHUNK {
                let text = text.unwrap_or(Span::new(from, 0));
                return Ok(whole.then_some(text));
            }
            lead = self.cursor.u8()?;
        }
    }

    /// Steps over so many UTF-16 units, each in one, two or three bytes.
    fn characters(&mut self, mut units: usize) -> Result<(), Malformed> {
        while units > 0 {
            let run = units.min(RUN);
            if is_ascii(self.cursor.rest().get(..run).ok_or(TRUNCATED)?) {
                self.cursor.take(run)?;
            } else {
                self.mixed(run)?;
            }
            units = units.saturating_sub(run);
        }
        Ok(())
    }

    /// As Java's decoder does, the first byte of a character alone says how long it is.
    fn mixed(&mut self, units: usize) -> Result<(), Malformed> {
        for _ in 0..units {
            let len = match self.cursor.peek().ok_or(TRUNCATED)? {
                0x00..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => return Err(BAD_TEXT),
            };
            self.cursor.take(len)?;
        }
        Ok(())
    }

    fn binary(&mut self, mut lead: u8) -> Result<(), Malformed> {
        loop {
            let len = match lead {
                0x20..=0x2f => usize::from(lead & 0xf),
                0x34..=0x37 => usize::from(u16::from_be_bytes([lead & 3, self.cursor.u8()?])),
                0x41 | 0x42 => usize::from(self.cursor.u16()?),
                _ => return Err(NO_BINARY),
            };
            self.cursor.take(len)?;
            if lead != 0x41 {
                return Ok(());
            }
            lead = self.cursor.u8()?;
        }
    }
}

impl Values for Walker<'_> {
    fn at(&self) -> usize {
        Self::at(self)
    }

    fn read(&mut self) -> Result<Value, Malformed> {
        Walker::read(self)
    }

    fn skip(&mut self) -> Result<(), Malformed> {
        Walker::skip(self)
    }

    fn open_map(&mut self) -> Result<bool, Malformed> {
        match self.cursor.peek() {
            None => Ok(false),
            Some(NULL) => self.skip().map(|()| false),
            Some(MAP | TYPED_MAP) => self.one().map(|_| true),
            Some(_) => Err(NO_MAP),
        }
    }

    fn key(&mut self) -> Result<Option<Value>, Malformed> {
        if self.cursor.peek() == Some(END) {
            self.cursor.take(1)?;
            return Ok(None);
        }
        Walker::read(self).map(Some)
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        Walker::read(self)
    }

    #[inline]
    fn plain(&mut self) -> Option<Span> {
        let len = self.short()?;
        Some(Span::new(self.cursor.at().saturating_sub(len), len))
    }
}

/// As the standard library's, but in blocks without an early exit, which are faster for the lengths met here.
#[inline]
fn is_ascii(run: &[u8]) -> bool {
    fn seen<const N: usize>(block: &[u8; N]) -> u8 {
        block.iter().fold(0, |seen, byte| seen | byte)
    }
    fn blocks<const N: usize>(run: &[u8]) -> Option<u8> {
        // The last block overlaps the one before it.
        let last = seen(run.last_chunk::<N>()?);
        Some(run.as_chunks::<N>().0.iter().fold(last, |all, block| all | seen(block)))
    }
    let all = blocks::<32>(run).or_else(|| blocks::<8>(run));
    all.unwrap_or_else(|| run.iter().fold(0, |seen, byte| seen | byte)).is_ascii()
}

/// How many definitions are kept without an allocation: more than most calls have.
const NEAR: usize = 16;

/// The number of fields of each class definition, in the order of their indexes.
#[derive(Debug)]
struct Definitions {
    near: [u32; NEAR],
    len: usize,
    far: Vec<u32>,
}

impl Definitions {
    fn push(&mut self, fields: u32) -> Result<(), Malformed> {
        if self.len >= DEFINITIONS_MAX {
            return Err(TOO_MANY_DEFINITIONS);
        }
        match self.near.get_mut(self.len) {
            Some(place) => *place = fields,
            None => self.far.push(fields),
        }
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    fn get(&self, index: usize) -> Option<u32> {
        if index >= self.len {
            return None;
        }
        match self.near.get(index) {
            Some(fields) => Some(*fields),
            None => self.far.get(index.checked_sub(NEAR)?).copied(),
        }
    }
}

/// Appends a string of fewer than 1024 UTF-16 units, characters above U+FFFF as two surrogates of three bytes.
/// Longer text is cut, never in the middle of a character.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    const UNITS_MAX: usize = 1000;
    let mut units = 0_usize;
    let mut bytes = 0_usize;
    for character in text.chars() {
        let after = units.saturating_add(character.len_utf16());
        if after > UNITS_MAX {
            break;
        }
        units = after;
        bytes = bytes.saturating_add(character.len_utf8());
    }
    let [high, low] = (units as u16).to_be_bytes();
    if units < 0x20 {
        out.push(low);
    } else {
        out.extend_from_slice(&[0x30 | high, low]);
    }
    for character in text.get(..bytes).unwrap_or_default().chars() {
        let mut pair = [0; 2];
        let mut utf8 = [0; 4];
        match character.encode_utf16(&mut pair) {
            [_] => out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes()),
            surrogates => surrogates.iter().for_each(|unit| {
                let [middle, low] = [(unit >> 6) as u8 & 0x3f, *unit as u8 & 0x3f];
                out.extend_from_slice(&[0xe0 | (unit >> 12) as u8, 0x80 | middle, 0x80 | low]);
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test is the point")]
mod tests {
    use super::*;

    fn skip(bytes: &[u8]) -> Result<usize, Malformed> {
        let mut walker = Walker::new(bytes, 0);
        walker.skip().map(|()| walker.at())
    }

    fn read(bytes: &[u8]) -> Result<Value, Malformed> {
        Walker::new(bytes, 0).read()
    }

    #[test]
    fn every_form_of_a_number_has_its_value() {
        for (bytes, number) in [
            (&[0x90][..], 0),
            (&[0x80], -16),
            (&[0xbf], 47),
            (&[0xc8, 0x30], 48),
            (&[0xc7, 0xef], -17),
            (&[0xd4, 0x08, 0x00], 2048),
            (&[0x49, 0x80, 0, 0, 0], i64::from(i32::MIN)),
            (&[0xd8], -8),
            (&[0xef], 15),
            (&[0xff, 0xff], 2047),
            (&[0x38, 0, 0], -262_144),
            (&[0x59, 0, 4, 0, 0], 262_144),
            (&[0x4c, 0, 0, 0, 0, 0x80, 0, 0, 0], 1 << 31),
        ] {
            assert_eq!(read(bytes), Ok(Value::Number(number)), "{bytes:x?}");
            assert_eq!(skip(bytes), Ok(bytes.len()), "{bytes:x?}");
        }
    }

    #[test]
    fn text_is_a_span_of_its_bytes() {
        assert_eq!(read(b"\x02hi"), Ok(Value::Text(Span::new(1, 2))));
        assert_eq!(read(&[0x01, 0xc3, 0xa9]), Ok(Value::Text(Span::new(1, 2))));
        let emoji = [0x02, 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80];
        assert_eq!(read(&emoji), Ok(Value::Text(Span::new(1, 6))), "two surrogates are two units");
        let lone = [0x01, 0xed, 0xa0, 0xbd];
        assert_eq!(read(&lone), Ok(Value::Text(Span::new(1, 3))), "a lone surrogate is text");
        assert_eq!(read(&[0x00]), Ok(Value::Text(Span::new(1, 0))));
        assert_eq!(read(&[0x01, 0xf0, 0x9f, 0x98, 0x80]), Err(BAD_TEXT), "four bytes are not in the grammar");
    }

    #[test]
    fn long_text_is_stepped_over_whatever_mixture_it_is() {
        for text in ["x".repeat(1000), "é".repeat(700), format!("{}ü{}", "a".repeat(63), "b".repeat(400))] {
            let mut bytes = vec![0x53];
            bytes.extend((text.chars().count() as u16).to_be_bytes());
            bytes.extend(text.as_bytes());
            bytes.push(0x4e);
            assert_eq!(skip(&bytes), Ok(bytes.len() - 1));
        }
    }

    #[test]
    fn short_text_is_read_alike_whatever_is_behind_it() {
        for len in 0..32_u8 {
            let mut plain = vec![len];
            plain.extend((0..len).map(|at| b'a' + at % 26));
            let mut odd = plain.clone();
            let text = Ok(Value::Text(Span::new(1, usize::from(len))));
            for behind in [0_usize, 1, 31, 32, 100] {
                let bytes = [&plain[..], &vec![0xff; behind]].concat();
                assert_eq!(read(&bytes), text, "{len} {behind}");
                assert_eq!(skip(&bytes), Ok(plain.len()), "{len} {behind}");
                if let Some(last) = odd.get_mut(1..).and_then(<[u8]>::last_mut) {
                    *last = 0xc3;
                    let bytes = [&odd[..], &[0xa9], &vec![0x4e; behind]].concat();
                    assert_eq!(skip(&bytes), Ok(odd.len() + 1), "{len} {behind}");
                }
            }
        }
        assert_eq!(skip(&[0x20; 64]), Ok(1), "an empty binary is no string of 32");
    }

    #[test]
    fn ascii_is_told_at_every_length_and_place() {
        for len in 0..100 {
            let mut run = vec![0x7f; len];
            assert!(is_ascii(&run));
            for at in 0..len {
                run[at] = 0x80;
                assert!(!is_ascii(&run), "{at} of {len}");
                run[at] = 0;
            }
        }
    }

    #[test]
    fn chunks_make_one_string() {
        assert_eq!(read(b"\x52\0\x02ab\x01c"), Ok(Value::Opaque));
        assert_eq!(skip(b"\x52\0\x02ab\x52\0\0\x53\0\x01c"), Ok(12));
        assert_eq!(
            read(b"\x52\0\x02ab\x00"),
            Ok(Value::Text(Span::new(3, 2))),
            "an empty last chunk adds nothing"
        );
        assert_eq!(skip(b"\x52\0\x02ab\x4e"), Err(NO_STRING));
        assert_eq!(skip(b"\x41\0\x02ab\x41\0\0\x21c"), Ok(10));
        assert_eq!(skip(b"\x41\0\x02ab\x01c"), Err(NO_BINARY));
    }

    #[test]
    fn definitions_stand_before_any_value_and_last() {
        let bytes = b"\x79\x43\x01A\x92\x01x\x01y\x60\x91\x90\x4f\x90\x4e\x4e";
        let mut walker = Walker::new(bytes, 0);
        walker.skip().unwrap();
        walker.skip().unwrap();
        assert!(walker.is_at_end());
        assert_eq!(skip(b"\x60"), Err(NO_DEFINITION));
        assert_eq!(skip(b"\x4f\x49\xff\xff\xff\xff"), Err(NO_DEFINITION));
        assert_eq!(skip(b"\x43\x01A\x90\x5a"), Err(NO_VALUE), "a definition is not a value");
    }

    #[test]
    fn more_definitions_than_the_near_ones_are_found() {
        let mut bytes = Vec::new();
        for fields in 0..40_u8 {
            bytes.extend([0x43, 0x01, b'A', 0x90 + fields]);
            bytes.extend(std::iter::repeat_n([0x01, b'f'], usize::from(fields)).flatten());
        }
        bytes.extend([0x4f, 0x90 + 39]);
        bytes.extend([0x4e; 39]);
        assert_eq!(skip(&bytes), Ok(bytes.len()));
    }

    #[test]
    fn references_and_types_are_in_range() {
        assert_eq!(skip(b"\x79\x51\x90"), Ok(3), "a list may hold itself");
        assert_eq!(skip(b"\x79\x51\x91"), Err(NO_REF));
        assert_eq!(skip(b"\x51\x90"), Err(NO_REF));
        assert_eq!(skip(b"\x7a\x71\x01t\x90\x71\x90\x90"), Ok(8));
        assert_eq!(skip(b"\x71\x90\x90"), Err(NO_TYPE));
    }

    #[test]
    fn maps_end_only_after_a_value() {
        assert_eq!(skip(b"\x48\x01k\x01v\x5a"), Ok(6));
        assert_eq!(skip(b"\x48\x01k\x5a"), Err(NO_VALUE));
        assert_eq!(skip(b"\x57\x90\x90\x5a"), Ok(4));
        assert_eq!(skip(b"\x58\x92\x90\x5a"), Err(NO_VALUE), "a fixed list has no end mark");
    }

    #[test]
    fn strings_are_written_in_utf16_units() {
        let written = |text: &str| {
            let mut out = Vec::new();
            write_string(text, &mut out);
            assert_eq!(skip(&out), Ok(out.len()));
            out
        };
        assert_eq!(written("hé"), b"\x02h\xc3\xa9");
        assert_eq!(written("😀"), [0x02, 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]);
        assert_eq!(written(&"x".repeat(40)).get(..3), Some(&b"\x30\x28x"[..]));
        assert_eq!(written(&"x".repeat(4000)).len(), 1002);
        assert_eq!(written(&format!("{}😀", "x".repeat(999))).len(), 1001, "a pair is not cut in two");
    }
}
