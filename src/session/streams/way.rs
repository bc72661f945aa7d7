//! One direction of a call: bytes that came and could not go on yet, and whether more come.
//!
//! Bounded by the window that was given to whoever sends them, or by not reading him.

use outrigger_codec::Message;

use super::super::outbox::Buffers;

/// One direction of a call.
#[derive(Debug, Default)]
pub(super) struct Way {
    bytes: Vec<u8>,
    /// How many of `bytes` went on.
    gone: usize,
    /// How many of those that wait were given back to their sender already.
    prepaid: usize,
    /// Nothing comes any more.
    pub(super) end: bool,
    /// What comes last, where there is any.
    pub(super) trailers: Option<Message>,
    /// The end went on, too.
    pub(super) passed: bool,
    /// In the list of those that wait for the connection.
    pub(super) listed: bool,
}

/// Bytes that went on before others are moved to their place.
const COMPACT_AT: usize = 64 << 10;

impl Way {
    /// A direction in which nothing came yet; `end`: nothing will.
    pub(super) fn new(end: bool) -> Self {
        Self { end, ..Self::default() }
    }

    /// One that brings again what came before, all of which was given back to its sender.
    pub(super) fn again(bytes: &[u8], pool: &mut Buffers) -> Self {
        let mut way = Self::new(true);
        way.push(bytes, pool);
        way.prepaid = bytes.len();
        way
    }

    /// What waits.
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.gone..).unwrap_or_default()
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.gone
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// More comes.
    pub(super) fn push(&mut self, bytes: &[u8], pool: &mut Buffers) {
        if self.bytes.capacity() == 0 && !bytes.is_empty() {
            self.bytes = pool.take();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// `n` bytes went on; how many of them are to be given back to their sender.
    pub(super) fn went(&mut self, n: usize, pool: &mut Buffers) -> usize {
        self.gone = (self.gone + n).min(self.bytes.len());
        if self.gone == self.bytes.len() {
            pool.give(std::mem::take(&mut self.bytes));
            self.gone = 0;
        } else if self.gone >= COMPACT_AT {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        let paid = n.min(self.prepaid);
        self.prepaid -= paid;
        n - paid
    }

    /// Puts in front of what waits all that went before: it has to go again, on another connection.
    pub(super) fn rewind(&mut self, before: &[u8], pool: &mut Buffers) {
        let mut bytes = pool.take();
        bytes.extend_from_slice(before);
        let again = before.len().saturating_sub(self.len());
        // What waits is the end of all that came.
        bytes.truncate(again);
        bytes.extend_from_slice(self.waiting());
        pool.give(std::mem::replace(&mut self.bytes, bytes));
        self.gone = 0;
        self.prepaid += again;
        (self.passed, self.listed) = (false, false);
    }

    /// Lets go of what waits; how much of it is to be given back to its sender.
    pub(super) fn clear(&mut self, pool: &mut Buffers) -> usize {
        let left = self.len();
        self.went(left, pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_again_is_given_back_once() {
        let (mut pool, mut way) = (Buffers::default(), Way::default());
        way.push(b"hello world", &mut pool);
        assert_eq!(way.went(5, &mut pool), 5);
        way.rewind(b"hello world", &mut pool);
        assert_eq!(way.waiting(), b"hello world");
        assert_eq!(way.went(7, &mut pool), 2);
        assert_eq!(way.went(4, &mut pool), 4);
        assert!(way.is_empty());
        way.rewind(b"hello world", &mut pool);
        assert_eq!((way.len(), way.clear(&mut pool)), (11, 0));
    }
}
