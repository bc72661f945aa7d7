//! Bytes on their way to one connection, with a memory of their beginning where a request may have to be sent again.
//!
//! Holds no memory when everything was written and nothing is kept. Must never give bytes twice but on purpose
//! ([`Flow::whole`]).

use super::super::outbox::Buffers;

/// Bytes waiting to be written, and those written that are kept.
#[derive(Debug, Default)]
pub(super) struct Flow {
    bytes: Vec<u8>,
    /// How many of `bytes` the socket took.
    written: usize,
    /// Written bytes are kept.
    keeps: bool,
    /// Bytes of this message were let go.
    dropped: bool,
}

/// Bytes of a request that are kept so that it can be sent again.
const REPLAY_MAX: usize = 64 << 10;
/// Written bytes in front of unwritten ones before they are moved away.
const COMPACT_AT: usize = 64 << 10;

impl Flow {
    /// A new message begins; it may have to be sent again when `keeps`.
    pub(super) fn begin(&mut self, keeps: bool) {
        self.keeps = keeps;
        self.dropped = !self.bytes.is_empty();
    }

    /// A message that begins with these bytes.
    pub(super) fn of(bytes: Vec<u8>, keeps: bool) -> Self {
        Self { bytes, written: 0, keeps, dropped: false }
    }

    /// The place to append to.
    pub(super) fn buffer(&mut self, pool: &mut Buffers) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        &mut self.bytes
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
        if self.keeps && self.bytes.len() <= REPLAY_MAX {
            return;
        }
        self.keeps = false;
        self.let_go(pool);
    }

    fn let_go(&mut self, pool: &mut Buffers) {
        if self.written == self.bytes.len() {
            self.dropped |= self.written > 0;
            pool.give(std::mem::take(&mut self.bytes));
            self.written = 0;
        } else if self.written >= COMPACT_AT {
            self.dropped = true;
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    /// The message needs not be sent again.
    pub(super) fn release(&mut self, pool: &mut Buffers) {
        self.keeps = false;
        self.let_go(pool);
    }

    /// Lets `change` at the message, if none of it was written.
    pub(super) fn unsent(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        if self.is_unsent() {
            change(&mut self.bytes);
        }
    }

    /// Whether no byte of the message was written.
    pub(super) fn is_unsent(&self) -> bool {
        self.written == 0 && !self.dropped
    }

    /// Whether the message is there from its first byte.
    pub(super) fn is_whole(&self) -> bool {
        !self.dropped && !self.bytes.is_empty()
    }

    /// A copy of the message; only where it is whole.
    pub(super) fn copy(&self, pool: &mut Buffers) -> Vec<u8> {
        let mut copy = pool.take();
        copy.extend_from_slice(&self.bytes);
        copy
    }

    /// The message from its first byte, unless a part of it was let go.
    pub(super) fn whole(&mut self) -> Option<Vec<u8>> {
        if self.dropped {
            return None;
        }
        self.written = 0;
        Some(std::mem::take(&mut self.bytes))
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self, pool: &mut Buffers) {
        pool.give(std::mem::take(&mut self.bytes));
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_until_a_byte_of_it_is_let_go() {
        let mut pool = Buffers::default();
        let mut flow = Flow::default();
        flow.begin(true);
        flow.buffer(&mut pool).extend_from_slice(b"head");
        assert!(flow.is_unsent());
        flow.wrote(4, &mut pool);
        assert!(flow.is_empty() && !flow.is_unsent());
        flow.buffer(&mut pool).extend_from_slice(b" body");
        assert_eq!(flow.unwritten(), b" body");
        assert_eq!(flow.whole().as_deref(), Some(&b"head body"[..]));

        flow.begin(false);
        flow.buffer(&mut pool).extend_from_slice(b"head");
        flow.wrote(4, &mut pool);
        assert_eq!((flow.whole(), flow.is_unsent()), (None, false));
    }

    #[test]
    fn what_grows_too_long_is_not_kept() {
        let mut pool = Buffers::default();
        let mut flow = Flow::default();
        flow.begin(true);
        flow.buffer(&mut pool).resize(REPLAY_MAX, 1);
        flow.wrote(REPLAY_MAX, &mut pool);
        flow.buffer(&mut pool).push(2);
        flow.wrote(1, &mut pool);
        assert_eq!(flow.whole(), None);
    }
}
