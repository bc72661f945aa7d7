//! Bytes waiting to be written to one connection, and the pool their memory comes from.
//!
//! An outbox holds whole frames; its first byte is always the first byte of a frame, also after a part of it was
//! written. So, when a connection is lost, it is known which frames provably never left. Idle connections hold no
//! memory: an emptied buffer goes back to the worker's pool.

use outrigger_codec::{FrameCodec, Scan};

/// Bytes waiting to be written.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Whole frames; `written <= bytes.len()`.
    bytes: Vec<u8>,
    /// How many of `bytes` the socket took.
    written: usize,
}

/// Written bytes that stay in front of unwritten ones before they are moved away.
const COMPACT_AT: usize = 256 << 10;

impl Outbox {
    /// The place to append whole frames to.
    pub fn buffer(&mut self, pool: &mut Buffers) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        &mut self.bytes
    }

    /// What is still to be written.
    pub fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// How many bytes are still to be written.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held.
    pub fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// The socket took `n` more bytes.
    pub fn wrote<C: FrameCodec>(&mut self, n: usize, pool: &mut Buffers) {
        self.written = (self.written + n).min(self.bytes.len());
        if self.written == self.bytes.len() {
            pool.give(std::mem::take(&mut self.bytes));
            self.written = 0;
        } else if self.written >= COMPACT_AT {
            let whole = self.frames_start::<C>(self.written, false);
            self.bytes.drain(..whole);
            self.written -= whole;
        }
    }

    /// Takes everything out: the buffer, and where in it the first frame begins of which no byte was written.
    pub fn unsent<C: FrameCodec>(&mut self) -> (Vec<u8>, usize) {
        let from = self.frames_start::<C>(self.written, true);
        self.written = 0;
        (std::mem::take(&mut self.bytes), from)
    }

    /// The frame boundary nearest to `at`: at or after it when `after`, otherwise at or before it.
    fn frames_start<C: FrameCodec>(&self, at: usize, after: bool) -> usize {
        let mut boundary = 0;
        while boundary < at {
            // Frames in an outbox were whole when they were put there; a scan of them cannot fail.
            let Scan::Frame(frame) = C::scan(&self.bytes[boundary..], usize::MAX) else { break };
            if boundary + frame.len > at && !after {
                break;
            }
            boundary += frame.len;
        }
        boundary
    }
}

/// Buffers kept for the next outbox: a worker's, so that steady traffic allocates nothing and idle connections
/// hold nothing.
#[derive(Debug, Default)]
pub struct Buffers {
    free: Vec<Vec<u8>>,
    /// Capacity of all `free` together; `held <= HELD_MAX`.
    held: usize,
    /// Bytes of requests that are kept to be sent again; `kept <= KEPT_MAX`.
    kept: usize,
}

/// Bytes of requests that one engine keeps to send them again, of all calls together.
const KEPT_MAX: usize = 32 << 20;

/// Memory kept for later at most.
const HELD_MAX: usize = 2 << 20;
/// A buffer that grew beyond this is given back to the allocator.
const BUFFER_MAX: usize = 256 << 10;
/// Capacity a buffer begins with.
const BUFFER_MIN: usize = 4 << 10;

impl Buffers {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.free.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_MIN));
        self.held = self.held.saturating_sub(buffer.capacity());
        buffer
    }

    /// Keeps more bytes of a request that may have to be sent again. `false`: there is no room for that; nothing was kept.
    pub fn keep(&mut self, kept: &mut Vec<u8>, bytes: &[u8]) -> bool {
        if self.kept + bytes.len() > KEPT_MAX {
            return false;
        }
        if kept.capacity() == 0 && !bytes.is_empty() {
            *kept = self.take();
        }
        kept.extend_from_slice(bytes);
        self.kept += bytes.len();
        true
    }

    /// What was kept is not needed any more.
    pub fn let_go(&mut self, kept: Vec<u8>) {
        self.kept = self.kept.saturating_sub(kept.len());
        self.give(kept);
    }

    /// A buffer that is not needed any more.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let size = buffer.capacity();
        if size == 0 || size > BUFFER_MAX || self.held + size > HELD_MAX {
            return;
        }
        buffer.clear();
        self.held += size;
        self.free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_all_calls_is_bounded() {
        let mut pool = Buffers::default();
        let part = vec![1; 1 << 20];
        let mut all: Vec<Vec<u8>> = Vec::new();
        while all.len() < 100 {
            let mut kept = Vec::new();
            if !pool.keep(&mut kept, &part) {
                break;
            }
            all.push(kept);
        }
        assert_eq!(all.len(), KEPT_MAX / part.len());
        all.drain(..).for_each(|kept| pool.let_go(kept));
        assert!(pool.keep(&mut Vec::new(), &part));
    }
}
