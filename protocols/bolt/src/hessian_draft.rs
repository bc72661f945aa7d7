//! A walker over Hessian 2 *draft* values, the grammar of sofa-hessian 3.x under Bolt's codec byte 1.
//!
//! It steps over values and never builds one: no recursion, no reference resolved, no allocation, every count
//! checked against the bytes that are left. It is not the grammar of Dubbo's Hessian 2.0: the same lead byte
//! means another thing there, so the two must never share a table. Its one use in a proxy is [`target`], which
//! reads the method and the service of a `SofaRequest` whose client left them out of the header map.
//!
//! Reference: sofa-hessian branch 3.x, `Hessian2Input` and `Hessian2Constants`.

use std::ops::Range;

use outrigger_codec::Malformed;

/// Values inside values.
pub const DEPTH_MAX: usize = 64;
/// Values stepped over by one walker.
pub const VALUES_MAX: u32 = 1 << 20;
/// Class definitions in one stream.
pub const DEFINITIONS_MAX: usize = 128;

const METHOD_FIELD: &[u8] = b"methodName";
const SERVICE_FIELD: &[u8] = b"targetServiceUniqueName";

const END: u8 = b'z';
const DEFINITION: u8 = b'O';
const OBJECT: u8 = b'o';
const NULL: u8 = b'N';

const CUT_OFF: Malformed = Malformed("hessian: value cut off");
const BAD_STRING: Malformed = Malformed("hessian: not a string");
const BAD_COUNT: Malformed = Malformed("hessian: impossible count");

/// What a `SofaRequest` says of its target, as ranges of the content; `None` is null, or a field that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// `methodName`.
    pub method: Option<Range<usize>>,
    /// `targetServiceUniqueName`.
    pub service: Option<Range<usize>>,
}

/// Whether `content` is in this grammar: a request opens with a class definition, which sofa-hessian 4.x and
/// everything else that speaks the final Hessian 2.0 writes with another byte.
pub fn is_draft(content: &[u8]) -> bool {
    content.first() == Some(&DEFINITION)
}

/// Reads the first object of `content`, no further than to the last field that is asked for.
pub fn target(content: &[u8], method: bool, service: bool) -> Result<Target, Malformed> {
    let mut walker = Walker::new(content);
    while walker.cursor.peek() == Some(DEFINITION) {
        walker.definition()?;
    }
    if walker.cursor.byte()? != OBJECT {
        return Err(Malformed("hessian: the request is not an object"));
    }
    let definition = walker.defined()?;
    let mut names = Cursor { bytes: content, at: definition.names };
    let mut found = Target::default();
    let (mut method, mut service) = (method, service);
    for _ in 0..definition.fields {
        if !method && !service {
            break;
        }
        match names.string()?.and_then(|name| content.get(name)) {
            Some(METHOD_FIELD) => {
                found.method = walker.cursor.nullable_string()?;
                method = false;
            }
            Some(SERVICE_FIELD) => {
                found.service = walker.cursor.nullable_string()?;
                service = false;
            }
            _ => walker.value()?,
        }
    }
    Ok(found)
}

/// Steps over the values of one stream. Class definitions are remembered from one value to the next.
#[derive(Debug)]
pub struct Walker<'a> {
    cursor: Cursor<'a>,
    definitions: [Definition; DEFINITIONS_MAX],
    defined: usize,
    values_left: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Definition {
    fields: u32,
    /// Offset of the first field name.
    names: usize,
}

/// What is still to come inside a value that has been entered.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// This many values.
    Values(u32),
    /// Values up to an end mark.
    UntilEnd,
}

impl<'a> Walker<'a> {
    /// A walker at the first value of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor { bytes, at: 0 },
            definitions: [Definition::default(); DEFINITIONS_MAX],
            defined: 0,
            values_left: VALUES_MAX,
        }
    }

    /// The offset of the next byte.
    pub fn position(&self) -> usize {
        self.cursor.at
    }

    /// Steps over one value and all that is inside it.
    pub fn value(&mut self) -> Result<(), Malformed> {
        let mut nest = [Open::Values(0); DEPTH_MAX];
        let mut depth = 0_usize;
        let mut top = Open::Values(1);
        loop {
            let done = match top {
                Open::Values(left) => left == 0,
                Open::UntilEnd => self.cursor.peek() == Some(END),
            };
            if done {
                if matches!(top, Open::UntilEnd) {
                    self.cursor.skip(1)?;
                }
                let Some(outer) = depth.checked_sub(1) else { return Ok(()) };
                depth = outer;
                top = nest.get(depth).copied().unwrap_or(Open::Values(0));
                continue;
            }
            if self.cursor.peek() == Some(DEFINITION) {
                self.definition()?;
                continue;
            }
            if let Open::Values(left) = &mut top {
                *left = left.saturating_sub(1);
            }
            self.values_left =
                self.values_left.checked_sub(1).ok_or(Malformed("hessian: too many values"))?;
            if let Some(inner) = self.enter()? {
                *nest.get_mut(depth).ok_or(Malformed("hessian: nested too deep"))? = top;
                depth = depth.saturating_add(1);
                top = inner;
            }
        }
    }

    /// Steps over the lead byte of a value and what belongs to it; says what is inside, if anything can be.
    fn enter(&mut self) -> Result<Option<Open>, Malformed> {
        let cursor = &mut self.cursor;
        let lead = cursor.peek().ok_or(CUT_OFF)?;
        if is_string(lead) {
            cursor.string()?;
            return Ok(None);
        }
        cursor.skip(1)?;
        match lead {
            // null, booleans, the doubles 0 and 1, small ints and longs
            NULL | b'T' | b'F' | 0x67 | 0x68 | 0x80..=0xbf | 0xd8..=0xef => {}
            // double of one byte, short reference, ints and longs of two bytes
            0x69 | b'J' | 0xc0..=0xcf | 0xf0..=0xff => cursor.skip(1)?,
            // double of a short, reference, ints and longs of three bytes
            0x6a | b'K' | 0x38..=0x3f | 0xd0..=0xd7 => cursor.skip(2)?,
            // int, long as an int, double as a float, reference
            b'I' | b'w' | 0x6b | b'R' => cursor.skip(4)?,
            // double, long, date
            b'D' | b'L' | b'd' => cursor.skip(8)?,
            0x20..=0x2f => cursor.skip(usize::from(lead & 0x0f))?,
            b'B' | b'b' => cursor.binary(lead)?,
            b'X' | b'x' => cursor.xml(lead)?,
            b'M' => {
                cursor.type_name()?;
                return Ok(Some(Open::UntilEnd));
            }
            b'V' => {
                cursor.type_name()?;
                cursor.list_length()?;
                return Ok(Some(Open::UntilEnd));
            }
            b'v' => {
                cursor.int()?;
                let count = cursor.count()?;
                return Ok(Some(Open::Values(count)));
            }
            b'r' => {
                cursor.type_name()?;
                cursor.string()?;
            }
            OBJECT => return Ok(Some(Open::Values(self.defined()?.fields))),
            _ => return Err(Malformed("hessian: unknown lead byte")),
        }
        Ok(None)
    }

    /// Remembers the class definition that begins here.
    fn definition(&mut self) -> Result<(), Malformed> {
        let cursor = &mut self.cursor;
        cursor.skip(1)?;
        let name = cursor.count()?;
        cursor.chars(name)?;
        let fields = cursor.count()?;
        let names = cursor.at;
        for _ in 0..fields {
            cursor.string()?;
        }
        *self.definitions.get_mut(self.defined).ok_or(Malformed("hessian: too many classes"))? =
            Definition { fields, names };
        self.defined = self.defined.saturating_add(1);
        Ok(())
    }

    /// The definition that the index here names.
    fn defined(&mut self) -> Result<Definition, Malformed> {
        let index = usize::try_from(self.cursor.int()?).ok();
        index
            .filter(|index| *index < self.defined)
            .and_then(|index| self.definitions.get(index))
            .copied()
            .ok_or(Malformed("hessian: undefined class"))
    }
}

const fn is_string(lead: u8) -> bool {
    matches!(lead, 0x00..=0x1f | b'S' | b's')
}

/// A place in the bytes; moves forward only, and never past their end.
#[derive(Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        let at = self.at.saturating_add(count);
        if at > self.bytes.len() {
            return Err(CUT_OFF);
        }
        self.at = at;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).copied().ok_or(CUT_OFF)?;
        self.skip(N)?;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take().map(|[byte]| byte)
    }

    fn short(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    /// An int of any width.
    fn int(&mut self) -> Result<i32, Malformed> {
        // Widened from a biased byte: every sum below stays far inside the range of i32.
        let biased = |high: u8, bias: u8| i32::from(high).wrapping_sub(bias.into());
        match self.byte()? {
            lead @ 0x80..=0xbf => Ok(biased(lead, 0x90)),
            lead @ 0xc0..=0xcf => Ok((biased(lead, 0xc8) << 8) | i32::from(self.byte()?)),
            lead @ 0xd0..=0xd7 => Ok((biased(lead, 0xd4) << 16) | i32::from(self.short()?)),
            b'I' => self.take().map(i32::from_be_bytes),
            _ => Err(BAD_COUNT),
        }
    }

    /// An int that counts things of at least one byte each, all of them still to come.
    fn count(&mut self) -> Result<u32, Malformed> {
        let count = u32::try_from(self.int()?).map_err(|_| BAD_COUNT)?;
        if count as usize > self.bytes.len().saturating_sub(self.at) {
            return Err(BAD_COUNT);
        }
        Ok(count)
    }

    /// Steps over UTF-16 units, each coded alone (a surrogate pair takes twice three bytes).
    fn chars(&mut self, units: u32) -> Result<(), Malformed> {
        for _ in 0..units {
            let width = match self.peek().ok_or(CUT_OFF)? {
                0x00..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => return Err(BAD_STRING),
            };
            self.skip(width)?;
        }
        Ok(())
    }

    /// Steps over a string; where it is, unless it comes in several chunks.
    fn string(&mut self) -> Result<Option<Range<usize>>, Malformed> {
        let mut chunked = false;
        loop {
            let lead = self.byte()?;
            let units = match lead {
                0x00..=0x1f => lead.into(),
                b'S' | b's' => self.short()?.into(),
                _ => return Err(BAD_STRING),
            };
            let from = self.at;
            self.chars(units)?;
            if lead != b's' {
                return Ok((!chunked).then_some(from..self.at));
            }
            chunked = true;
        }
    }

    /// A string that must be readable in place, or null.
    fn nullable_string(&mut self) -> Result<Option<Range<usize>>, Malformed> {
        if self.peek() == Some(NULL) {
            self.skip(1)?;
            return Ok(None);
        }
        self.string()?.map(Some).ok_or(Malformed("hessian: name in chunks"))
    }

    fn binary(&mut self, lead: u8) -> Result<(), Malformed> {
        let mut lead = lead;
        loop {
            match lead {
                0x20..=0x2f => return self.skip(usize::from(lead & 0x0f)),
                b'B' | b'b' => {
                    let len = self.short()?;
                    self.skip(len.into())?;
                }
                _ => return Err(Malformed("hessian: not a binary")),
            }
            if lead == b'B' {
                return Ok(());
            }
            lead = self.byte()?;
        }
    }

    fn xml(&mut self, lead: u8) -> Result<(), Malformed> {
        let mut lead = lead;
        loop {
            match lead {
                b'X' | b'x' => {
                    let units = self.short()?;
                    self.chars(units.into())?;
                }
                _ => return Err(BAD_STRING),
            }
            if lead == b'X' {
                return Ok(());
            }
            lead = self.byte()?;
        }
    }

    /// Steps over the type of a list or map, if one is written.
    fn type_name(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b't') => {
                self.skip(1)?;
                let units = self.short()?;
                self.chars(units.into())
            }
            // A type written before, by its index.
            Some(b'u' | b'T') => {
                self.skip(1)?;
                self.int().map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Steps over the length of a list, if one is written. It is a hint: the list has an end mark all the same.
    fn list_length(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'n') => self.skip(2),
            Some(b'l') => self.skip(5),
            _ => Ok(()),
        }
    }
}
