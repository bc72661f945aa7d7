//! What happened besides calls: numbers with names, an engine's own.
//!
//! Counting is one addition; names are read only when somebody asks.

/// Declares a struct `Counters` with a way to name them all.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened besides calls. Only ever grows.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Every counter, by name.
            pub fn named(&self) -> crate::session::counters::Counts {
                crate::session::counters::Counts(vec![$((stringify!($name), self.$name)),*])
            }
        }
    };
}

pub(crate) use counters;

/// Counters of any engine, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub Vec<(&'static str, u64)>);

impl Counts {
    /// Adds the counts of another worker.
    pub fn add(&mut self, other: &Self) {
        for (name, n) in &other.0 {
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += n,
                None => self.0.push((name, *n)),
            }
        }
    }
}
