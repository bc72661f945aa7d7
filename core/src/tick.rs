//! The time, as it is told to the core and the engines: nanoseconds since a moment before the process began.
//!
//! Monotonic; never the wall clock. All arithmetic saturates, so that "never" ([`Tick::NEVER`]) stays never.

use std::time::Duration;

/// A moment, in nanoseconds since one before the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The first moment there is.
    pub const ZERO: Self = Self(0);
    /// A moment that does not come.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `by` later; [`Tick::NEVER`] stays what it is.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        let by = by.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(by.subsec_nanos()));
        Self(self.0.saturating_add(by))
    }

    /// The moment `by` earlier; [`Tick::ZERO`] where that is before the beginning.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
