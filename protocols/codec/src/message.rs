//! A head that owns its bytes: what a link decoded, what is kept of a request, what is said in our own name.
//!
//! Scratch: cleared, never freed, between messages. It must never be handed on with spans that point elsewhere.

use crate::{Field, Head, HeadIndex, Slot, Span};

/// A head and its bytes.
#[derive(Debug, Default)]
pub struct Message {
    /// What the spans of `index` point into.
    pub bytes: Vec<u8>,
    /// The offsets.
    pub index: HeadIndex,
}

impl Message {
    /// One that holds no memory: a place to take another from.
    pub const fn none() -> Self {
        Self { bytes: Vec::new(), index: HeadIndex::none() }
    }

    /// Forgets the last message; keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
    }

    /// Becomes equal to another; keeps the memory.
    pub fn copy(&mut self, other: &Self) {
        self.bytes.clone_from(&other.bytes);
        self.index.copy(&other.index);
    }

    /// The head, to be read.
    pub fn head(&self) -> Head<'_> {
        Head { bytes: &self.bytes, index: &self.index }
    }

    /// Appends bytes; where they are.
    pub fn put(&mut self, bytes: &[u8]) -> Span {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span::new(at, bytes.len())
    }

    /// Sets a slot to bytes of its own.
    pub fn set(&mut self, slot: Slot, bytes: &[u8]) {
        let span = self.put(bytes);
        self.index.set(slot, span);
    }

    /// Appends a header; its name is in lower case.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let field = Field { name: self.put(name), value: self.put(value) };
        self.index.fields.push(field);
    }

    /// Gives the first header of this name another value. Whether there was one.
    pub fn replace(&mut self, name: &[u8], value: &[u8]) -> bool {
        let is = |field: &Field| field.name.of(&self.bytes).is_some_and(|it| it.eq_ignore_ascii_case(name));
        let Some(at) = self.index.fields.iter().position(is) else { return false };
        let value = self.put(value);
        if let Some(field) = self.index.fields.get_mut(at) {
            field.value = value;
        }
        true
    }

    /// Keeps the headers that pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Self { bytes, index } = self;
        let keeps = |field: &Field| {
            keep(field.name.of(bytes).unwrap_or_default(), field.value.of(bytes).unwrap_or_default())
        };
        if index.sensitive.is_empty() {
            return index.fields.retain(keeps);
        }
        // Places move with what goes.
        let mut keeps = keeps;
        let (mut at, mut to) = (0u32, 0u32);
        let old = std::mem::take(&mut index.sensitive);
        let mut sensitive = Vec::with_capacity(old.len());
        index.fields.retain(|field| {
            let kept = keeps(field);
            if kept {
                if old.binary_search(&at).is_ok() {
                    sensitive.push(to);
                }
                to = to.saturating_add(1);
            }
            at = at.saturating_add(1);
            kept
        });
        index.sensitive = sensitive;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_go_take_no_secret_with_them() {
        let mut message = Message::default();
        for (name, secret) in [("a", false), ("b", true), ("c", false), ("d", true)] {
            if secret {
                message.index.sensitive.push(message.index.fields.len() as u32);
            }
            message.add(name.as_bytes(), b"1");
        }
        message.retain(|name, _| name != b"a" && name != b"c");
        assert_eq!((message.index.fields.len(), &message.index.sensitive[..]), (2, &[0, 1][..]));
        assert!(message.replace(b"D", b"2") && !message.replace(b"e", b"2"));
        assert_eq!(message.head().field(b"d"), Some(&b"2"[..]));
        let mut copy = Message::default();
        copy.copy(&message);
        assert_eq!(copy.head().field(b"d"), Some(&b"2"[..]));
    }
}
