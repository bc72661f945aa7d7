//! What is done a little later: calls that are tried again after a pause.
//!
//! Few at any time, so a list that is looked through. Must never forget what it was given.

use outrigger_core::Tick;

/// Things with the time at which each is due.
#[derive(Debug)]
pub struct Later<T> {
    things: Vec<(Tick, T)>,
}

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self { things: Vec::new() }
    }
}

impl<T> Later<T> {
    /// Keeps a thing until then.
    pub fn add(&mut self, at: Tick, thing: T) {
        self.things.push((at, thing));
    }

    /// When the first is due; `Tick::NEVER` when there is none.
    pub fn next(&self) -> Tick {
        self.things.iter().map(|(at, _)| *at).min().unwrap_or(Tick::NEVER)
    }

    /// Takes out one that is due.
    pub fn due(&mut self, now: Tick) -> Option<T> {
        let at = self.things.iter().position(|(at, _)| *at <= now)?;
        Some(self.things.swap_remove(at).1)
    }

    /// Takes out everything, due or not.
    pub fn all(&mut self) -> impl Iterator<Item = T> {
        std::mem::take(&mut self.things).into_iter().map(|(_, thing)| thing)
    }

    /// How many things wait.
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_when_it_is_due() {
        let mut later = Later::default();
        assert_eq!((later.next(), later.due(Tick::NEVER)), (Tick::NEVER, None));
        later.add(Tick(5), "b");
        later.add(Tick(3), "a");
        assert_eq!((later.next(), later.due(Tick(2))), (Tick(3), None));
        assert_eq!((later.due(Tick(4)), later.due(Tick(4)), later.next()), (Some("a"), None, Tick(5)));
        assert_eq!((later.all().collect::<Vec<_>>(), later.is_empty()), (vec!["b"], true));
    }
}
