//! Small numbers for things with names, that outlive the lists in which the names stand.
//!
//! A number is a thing's own until it is given up, and is then another's. Entering and giving up cost the same however many
//! there are.

use std::collections::HashMap;

/// Things by number, and their numbers by a name of two parts.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    states: Vec<Option<T>>,
    by_key: HashMap<(Box<str>, Box<str>), u32>,
    /// Numbers that are nobody's.
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { states: Vec::new(), by_key: HashMap::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.states.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.states.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.states.iter().zip(0..).filter_map(|(state, at)| Some((at, state.as_ref()?)))
    }

    /// Those of a few numbers from this one on; `None`: no number is so large.
    pub(crate) fn some(&self, from: usize, count: usize) -> Option<impl Iterator<Item = &T>> {
        let rest = self.states.get(from..).filter(|rest| !rest.is_empty())?;
        Some(rest.iter().take(count).flatten())
    }

    /// How many there are, and up to which number any were.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.by_key.len(), self.states.len())
    }

    /// The slot of a key; a new one when the key is new.
    pub(crate) fn enter(&mut self, first: &str, second: &str, make: impl FnOnce() -> T) -> u32 {
        let key = (Box::from(first), Box::from(second));
        if let Some(slot) = self.by_key.get(&key) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.states.push(None);
            self.states.len().saturating_sub(1) as u32
        });
        if let Some(state) = self.states.get_mut(slot as usize) {
            *state = Some(make());
        }
        self.by_key.insert(key, slot);
        slot
    }

    /// Gives up a slot, whose key this is.
    pub(crate) fn give_up(&mut self, slot: u32, first: &str, second: &str) {
        let key = (Box::from(first), Box::from(second));
        if self.by_key.get(&key) == Some(&slot)
            && let Some(state) = self.states.get_mut(slot as usize)
        {
            *state = None;
            self.by_key.remove(&key);
            self.free.push(slot);
        }
    }
}
