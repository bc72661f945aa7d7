//! What the head reader asks of a serialization: the values of a body one after another, as spans and numbers.
//!
//! A body is a sequence of values and, at its end, a map. A reader steps over what nobody asks for; it never
//! builds an object, never copies, never follows a reference. `Cursor` is the one place that touches the bytes:
//! every read is checked against their end.
//! Source: `DubboCodec.encodeRequestData` (the order of the values) of Apache Dubbo 3.3.

use outrigger_codec::{Malformed, Span};

/// Containers inside containers; the nesting of a real argument is far below, an attack far above.
pub const DEPTH_MAX: usize = 64;
/// Values stepped over in one body.
pub const ELEMENTS_MAX: u32 = 1 << 20;
/// References stepped over in one body.
pub const REFS_MAX: u32 = 1 << 16;

/// The body ends inside a value.
pub(crate) const TRUNCATED: Malformed = Malformed("body ends inside a value");
/// [`DEPTH_MAX`] is exceeded.
pub(crate) const TOO_DEEP: Malformed = Malformed("values nested too deep");
/// [`ELEMENTS_MAX`] is exceeded.
pub(crate) const TOO_MANY: Malformed = Malformed("too many values");
/// [`REFS_MAX`] is exceeded.
pub(crate) const TOO_MANY_REFS: Malformed = Malformed("too many references");
/// A count or a length is negative, or larger than the bytes that are left.
pub(crate) const BAD_COUNT: Malformed = Malformed("count larger than the body");

/// One value, as far as a router reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text in one run of bytes: UTF-8, or for characters above U+FFFF the two surrogates of CESU-8.
    Text(Span),
    /// An int or a long.
    Number(i64),
    /// Null.
    Null,
    /// Anything else; it was stepped over. Text in several pieces or in UTF-16 is among it.
    Opaque,
}

/// The values of one request body, in the order they stand there.
pub trait Values {
    /// The next value of the body.
    fn read(&mut self) -> Result<Value, Malformed>;
    /// Steps over the next value of the body.
    fn skip(&mut self) -> Result<(), Malformed>;
    /// Enters the map that is the next value of the body; `false` when it is null or the body has ended.
    fn open_map(&mut self) -> Result<bool, Malformed>;
    /// The next key of the open map, or `None` at its end.
    fn key(&mut self) -> Result<Option<Value>, Malformed>;
    /// The value that belongs to the key just read.
    fn value(&mut self) -> Result<Value, Malformed>;
    /// Where what comes next begins.
    fn at(&self) -> usize;
    /// Reads what is next, in the body or in the open map, if it is text that takes a single look; otherwise moves
    /// nothing. A walk need not know such text.
    fn plain(&mut self) -> Option<Span> {
        None
    }
}

/// A position in bytes that a peer wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Goes on at `at`; beyond the end nothing can be read.
    #[inline]
    pub(crate) const fn move_to(&mut self, at: usize) {
        self.at = at;
    }

    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next `n` bytes.
    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(n).ok_or(TRUNCATED)?;
        let taken = self.bytes.get(self.at..end).ok_or(TRUNCATED)?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = *self.rest().first_chunk::<N>().ok_or(TRUNCATED)?;
        self.at = self.at.saturating_add(N);
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A compact number: the first byte's distance from `zero` gives the high bits, `low` more bytes the rest.
    pub(crate) fn compact(&mut self, lead: u8, zero: u8, low: usize) -> Result<i64, Malformed> {
        let high = i64::from(lead).wrapping_sub(i64::from(zero));
        let bytes = self.take(low)?;
        Ok(bytes.iter().fold(high, |number, byte| (number << 8) | i64::from(*byte)))
    }

    /// A declared number of things of at least one byte each, none of which was read yet.
    pub(crate) fn count(&self, declared: i64) -> Result<u32, Malformed> {
        match u32::try_from(declared) {
            Ok(count) if count as usize <= self.left() => Ok(count),
            _ => Err(BAD_COUNT),
        }
    }
}

/// What a container that was entered still waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Open {
    /// So many values.
    Values(u32),
    /// Values up to the end mark.
    UntilEnd,
    /// A key, or the end mark.
    Key,
    /// The value of a key; an end mark is no value.
    Value,
}

/// The containers that a walk is inside of: as deep as [`DEPTH_MAX`], on the machine's stack, never recursive.
#[derive(Debug)]
pub(crate) struct Stack {
    open: [Open; DEPTH_MAX],
    depth: usize,
}

impl Stack {
    pub(crate) const fn new() -> Self {
        Self { open: [Open::Values(0); DEPTH_MAX], depth: 0 }
    }

    pub(crate) fn push(&mut self, open: Open) -> Result<(), Malformed> {
        *self.open.get_mut(self.depth).ok_or(TOO_DEEP)? = open;
        self.depth = self.depth.saturating_add(1);
        Ok(())
    }

    /// Moves the innermost container on by one value. `at_end` says whether an end mark is next.
    pub(crate) fn advance(&mut self, at_end: bool) -> Step {
        let Some(top) = self.depth.checked_sub(1).and_then(|top| self.open.get_mut(top)) else {
            return Step::Done;
        };
        match top {
            Open::Values(0) => self.pop(Step::Closed),
            Open::Values(left) => {
                *left = left.saturating_sub(1);
                Step::Value
            }
            Open::UntilEnd | Open::Key if at_end => self.pop(Step::EndMark),
            Open::UntilEnd => Step::Value,
            Open::Key => {
                *top = Open::Value;
                Step::Value
            }
            Open::Value => {
                *top = Open::Key;
                Step::Value
            }
        }
    }

    fn pop(&mut self, step: Step) -> Step {
        self.depth = self.depth.saturating_sub(1);
        step
    }
}

/// What a walk does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read a value.
    Value,
    /// Step over the end mark; its container is closed.
    EndMark,
    /// A container had all its values.
    Closed,
    /// Nothing is open: the value is over.
    Done,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing test is the point")]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_never_leaves_its_bytes() {
        let mut cursor = Cursor::new(&[1, 2, 3], 1);
        assert_eq!(cursor.take(3), Err(TRUNCATED));
        assert_eq!(cursor.take(usize::MAX), Err(TRUNCATED));
        assert_eq!(cursor.u16(), Ok(0x0203));
        assert_eq!(cursor.u8(), Err(TRUNCATED));
        assert_eq!(Cursor::new(&[1], 9).rest(), &[] as &[u8]);
    }

    #[test]
    fn counts_are_bounded_by_what_is_left() {
        let cursor = Cursor::new(&[0; 4], 1);
        assert_eq!(cursor.count(3), Ok(3));
        assert_eq!(cursor.count(4), Err(BAD_COUNT));
        assert_eq!(cursor.count(-1), Err(BAD_COUNT));
        assert_eq!(cursor.count(i64::MAX), Err(BAD_COUNT));
    }

    #[test]
    fn the_stack_ends_at_its_bound() {
        let mut stack = Stack::new();
        for _ in 0..DEPTH_MAX {
            stack.push(Open::Values(1)).unwrap();
        }
        assert_eq!(stack.push(Open::Key), Err(TOO_DEEP));
    }

    #[test]
    fn an_end_mark_does_not_stand_for_a_value() {
        let mut stack = Stack::new();
        stack.push(Open::Key).unwrap();
        assert_eq!(stack.advance(false), Step::Value);
        assert_eq!(stack.advance(true), Step::Value, "the key has no value yet");
        assert_eq!(stack.advance(true), Step::EndMark);
        assert_eq!(stack.advance(false), Step::Done);
    }
}
