//! Things under small keys that are never mistaken for one another.
//!
//! A key is an index and a generation: when a thing is removed, its keys find nothing, also after its place was
//! given to another. One worker's, no locks.

/// Where a thing is; finds nothing once the thing was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// A small number, unique among the things that are there now: an index for what is kept beside them.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The key as one number, for those who keep it without knowing it.
    pub fn bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    /// The key that [`Key::bits`] gave.
    pub fn of_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// A store of things under [`Key`]s.
#[derive(Debug)]
pub struct Arena<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Arena<T> {
    /// Stores a thing.
    pub fn insert(&mut self, thing: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(thing);
        Key { index, generation: place.0 }
    }

    /// Takes a thing out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.0 == key.generation)?;
        let thing = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.push(key.index);
        Some(thing)
    }

    /// A thing, unless it was removed.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.places.get(key.index as usize).filter(|place| place.0 == key.generation)?.1.as_ref()
    }

    /// A thing, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.places.get_mut(key.index as usize).filter(|place| place.0 == key.generation)?.1.as_mut()
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All things, with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().zip(0..).filter_map(|((generation, thing), index)| {
            Some((Key { index, generation: *generation }, thing.as_ref()?))
        })
    }

    /// The keys of all things that pass, put into `into`.
    pub fn keys_where(&self, into: &mut Vec<Key>, pass: impl Fn(&T) -> bool) {
        into.extend(self.iter().filter(|(_, thing)| pass(thing)).map(|(key, _)| key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_thing() {
        let mut arena = Arena::default();
        let a = arena.insert("a");
        assert_eq!(arena.remove(a), Some("a"));
        let b = arena.insert("b");
        assert_eq!((arena.get(a), arena.get(b), arena.len()), (None, Some(&"b"), 1));
        assert_eq!(arena.remove(a), None);
        assert_eq!((Key::of_bits(a.bits()), Key::of_bits(b.bits())), (a, b));
    }
}
