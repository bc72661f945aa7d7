//! Bytes waiting to be written to one connection, counted from its beginning: so it is known of each call whether any
//! byte of it can have left.
//!
//! Holds no memory when everything was written.

use super::super::outbox::Buffers;

/// Written bytes in front of unwritten ones before they are moved away.
const COMPACT_AT: usize = 64 << 10;

/// Bytes waiting to be written.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    bytes: Vec<u8>,
    /// How many of `bytes` the socket took.
    written: usize,
    /// Bytes that were in front of `bytes`.
    before: u64,
}

impl Outlet {
    /// The place to append to.
    pub(super) fn buffer(&mut self, pool: &mut Buffers) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        &mut self.bytes
    }

    /// Where the next byte comes, counted from the connection's first.
    pub(super) fn end(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    /// How many bytes the socket took, ever.
    pub(super) fn taken(&self) -> u64 {
        self.before + self.written as u64
    }

    /// What is still to be written.
    pub(super) fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// How many bytes are still to be written.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The socket took `n` more bytes.
    pub(super) fn wrote(&mut self, n: usize, pool: &mut Buffers) {
        self.written = (self.written + n).min(self.bytes.len());
        if self.written == self.bytes.len() {
            self.clear(pool);
        } else if self.written >= COMPACT_AT {
            self.before += self.written as u64;
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    /// Gives back memory that holds nothing.
    pub(super) fn rest(&mut self, pool: &mut Buffers) {
        if self.bytes.is_empty() {
            pool.give(std::mem::take(&mut self.bytes));
        }
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self, pool: &mut Buffers) {
        self.before += self.bytes.len() as u64;
        self.written = 0;
        pool.give(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_the_first_byte() {
        let (mut pool, mut outlet) = (Buffers::default(), Outlet::default());
        outlet.buffer(&mut pool).resize(100_000, 1);
        assert_eq!((outlet.taken(), outlet.end()), (0, 100_000));
        outlet.wrote(70_000, &mut pool);
        assert_eq!((outlet.taken(), outlet.end(), outlet.len()), (70_000, 100_000, 30_000));
        outlet.wrote(30_000, &mut pool);
        outlet.buffer(&mut pool).push(1);
        assert_eq!((outlet.taken(), outlet.end(), outlet.len()), (100_000, 100_001, 1));
    }
}
