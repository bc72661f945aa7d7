//! A dynamic table: entries in the order of their arrival, and their bytes in one buffer behind one another. It must
//! never hold more than its size allows, nor keep more than twice that in memory, and an insertion must never copy
//! more than a few bytes that the peer did not send for it.
//!
//! Source: RFC 7541 §2.3.2, §4.

use std::collections::VecDeque;

use super::ENTRY;

/// A name longer than this is not copied for another entry that takes it over: both show to the same bytes. A block of
/// many such entries would else cost thousands of bytes for each two of its own.
const COPIED_MAX: usize = 64;

/// What the buffer begins with: enough for a peer that repeats a few fields.
const FIRST: usize = 256;

/// An entry, as places in the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    name_at: u32,
    name_len: u32,
    value_at: u32,
    value_len: u32,
    /// Whatever the owner keeps with it.
    pub(super) class: u8,
}

impl Entry {
    /// The length of the name.
    pub(super) fn name_len(&self) -> usize {
        self.name_len as usize
    }

    /// The length of name and value.
    pub(super) fn len(&self) -> usize {
        self.name_len().saturating_add(self.value_len as usize)
    }
}

/// The table. It has no memory until the first insertion.
#[derive(Debug)]
pub(super) struct Table {
    /// Bytes of entries: those that are gone first, unless others took over their names.
    bytes: Vec<u8>,
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
    /// The most that `max` may ever be.
    ceiling: usize,
    /// An entry's name may stand before or after its value in any place.
    shared: bool,
}

impl Table {
    /// An empty table of at most `max`, which may grow up to `ceiling`.
    pub(super) fn new(max: usize, ceiling: usize) -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, max, ceiling, shared: false }
    }

    /// The size, by the RFC's way of counting.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The bound of the size.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// An entry; the newest is 0.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<Entry> {
        self.entries.get(at).copied()
    }

    /// The name of an entry.
    #[inline]
    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        self.run(entry.name_at, entry.name_len)
    }

    /// The value of an entry.
    #[inline]
    pub(super) fn value(&self, entry: &Entry) -> &[u8] {
        self.run(entry.value_at, entry.value_len)
    }

    /// Appends an entry's name and value to `out`.
    #[inline]
    pub(super) fn copy(&self, entry: &Entry, out: &mut Vec<u8>) {
        if entry.name_at.wrapping_add(entry.name_len) == entry.value_at {
            out.extend_from_slice(self.run(entry.name_at, entry.name_len.wrapping_add(entry.value_len)));
        } else {
            out.extend_from_slice(self.name(entry));
            out.extend_from_slice(self.value(entry));
        }
    }

    /// Sets the bound, and lets go of what is beyond it.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max.min(self.ceiling);
        while self.size > self.max {
            self.evict();
        }
    }

    /// Lets go of the oldest entry.
    pub(super) fn evict(&mut self) {
        match self.entries.pop_back() {
            Some(entry) => self.size = self.size.saturating_sub(entry.len()).saturating_sub(ENTRY),
            None => self.size = 0,
        }
        if self.entries.is_empty() {
            self.bytes.clear();
            self.shared = false;
        }
    }

    /// Whether an entry with this much text would fit if the table were empty.
    pub(super) fn holds(&self, text: usize) -> bool {
        text.saturating_add(ENTRY) <= self.max
    }

    /// Whether an entry with this much text fits beside all others.
    pub(super) fn has_room(&self, text: usize) -> bool {
        self.size.saturating_add(text).saturating_add(ENTRY) <= self.max
    }

    /// Inserts an entry whose name and value stand behind one another in `text`. One that is too large empties the table.
    pub(super) fn insert(&mut self, text: &[u8], name_len: usize, class: u8) {
        if !self.holds(text.len()) {
            return self.clear();
        }
        self.evict_for(text.len());
        self.make_room(text.len());
        let name_at = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.push(name_at, name_len, name_at.saturating_add(name_len), class);
    }

    /// [`Self::insert`] of a name and a value that stand apart.
    pub(super) fn insert_apart(&mut self, name: &[u8], value: &[u8]) {
        let text = name.len().saturating_add(value.len());
        if !self.holds(text) {
            return self.clear();
        }
        self.evict_for(text);
        self.make_room(text);
        let name_at = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.push(name_at, name.len(), name_at.saturating_add(name.len()), 0);
    }

    /// Inserts an entry that takes the name of entry `at`, which may have to go for it.
    pub(super) fn insert_named(&mut self, at: usize, value: &[u8], class: u8) {
        let Some(Entry { name_len, .. }) = self.get(at) else {
            return;
        };
        let (name_len, shared) = (name_len as usize, name_len as usize > COPIED_MAX);
        let text = name_len.saturating_add(value.len());
        if !self.holds(text) {
            return self.clear();
        }
        // Before anything goes: the name must be found, and found where it will stay.
        self.make_room(if shared { value.len() } else { text });
        let name_at = self.get(at).map_or(0, |entry| entry.name_at as usize);
        let end = self.bytes.len();
        let (name_at, value_at) = if shared {
            self.shared = true;
            (name_at, end)
        } else {
            self.bytes.extend_from_within(name_at..name_at.saturating_add(name_len).min(end));
            (end, self.bytes.len())
        };
        self.bytes.extend_from_slice(value);
        // The bytes of what goes stay where they are: they are not the last ones now.
        self.evict_beside(text);
        self.push(name_at, name_len, value_at, class);
    }

    /// The memory taken for bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// How much of it has something in it, or had.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn run(&self, at: u32, len: u32) -> &[u8] {
        let from = at as usize;
        self.bytes.get(from..from.saturating_add(len as usize)).unwrap_or_default()
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        (self.size, self.shared) = (0, false);
    }

    fn evict_for(&mut self, text: usize) {
        while !self.entries.is_empty() && !self.has_room(text) {
            self.evict();
        }
    }

    /// [`Self::evict_for`] where bytes of the new entry are already there.
    fn evict_beside(&mut self, text: usize) {
        while !self.has_room(text)
            && let Some(entry) = self.entries.pop_back()
        {
            self.size = self.size.saturating_sub(entry.len()).saturating_sub(ENTRY);
        }
    }

    /// The new entry: its bytes end the buffer.
    fn push(&mut self, name_at: usize, name_len: usize, value_at: usize, class: u8) {
        let value_len = self.bytes.len().saturating_sub(value_at);
        let entry = Entry {
            name_at: name_at as u32,
            name_len: name_len as u32,
            value_at: value_at as u32,
            value_len: value_len as u32,
            class,
        };
        self.size = self.size.saturating_add(entry.len()).saturating_add(ENTRY);
        self.entries.push_front(entry);
    }

    /// Makes room for `more` bytes: in what is there, by moving entries over those that are gone, or in more memory.
    fn make_room(&mut self, more: usize) {
        if self.bytes.len().saturating_add(more) <= self.bytes.capacity() {
            return;
        }
        let live = self.size.saturating_sub(self.entries.len().saturating_mul(ENTRY));
        let bound = self.ceiling.saturating_mul(2);
        if self.bytes.len() >= live.saturating_mul(2) || self.bytes.len().saturating_add(more) > bound {
            self.compact();
        }
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        let needed = len.saturating_add(more);
        if needed > capacity {
            let grown = capacity.saturating_mul(2).max(FIRST).min(bound).max(needed);
            self.bytes.reserve_exact(grown.saturating_sub(len));
        }
    }

    /// Moves entries to the front of the buffer.
    fn compact(&mut self) {
        let Some(oldest) = self.entries.back().map(|entry| entry.name_at) else {
            self.bytes.clear();
            return;
        };
        if self.shared {
            return self.compact_shared();
        }
        // Each stands behind an older one, its name before its value.
        let end = self.bytes.len();
        self.bytes.copy_within((oldest as usize).min(end).., 0);
        self.bytes.truncate(end.saturating_sub(oldest as usize));
        for entry in &mut self.entries {
            entry.name_at = entry.name_at.saturating_sub(oldest);
            entry.value_at = entry.value_at.saturating_sub(oldest);
        }
    }

    /// [`Self::compact`] where names may stand anywhere: each gets its own again, which the size allows for. This is the one
    /// place that takes memory for a moment; peers with such names are rare.
    fn compact_shared(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.capacity());
        for at in (0..self.entries.len()).rev() {
            let Some(entry) = self.entries.get(at).copied() else { continue };
            let name_at = bytes.len() as u32;
            bytes.extend_from_slice(self.name(&entry));
            let value_at = bytes.len() as u32;
            bytes.extend_from_slice(self.value(&entry));
            if let Some(entry) = self.entries.get_mut(at) {
                (entry.name_at, entry.value_at) = (name_at, value_at);
            }
        }
        (self.bytes, self.shared) = (bytes, false);
    }
}
