//! How long to wait before the next attempt: twice as long each time, drawn at random, so that a fleet does not come back in step.
//!
//! Full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog). Knows nothing of what is attempted.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

/// The longest first wait.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait. A registry that is back shall know of everything again within ten seconds, however long it was away:
/// what it remembers of us ends with our session, and until we are back others do not find us.
const MOST: Duration = Duration::from_secs(5);
/// What lasted so long was well: the next failure begins anew.
const STABLE: Duration = Duration::from_secs(60);

/// Waits between attempts.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    since: Option<Instant>,
    random: RandomState,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { failures: 0, since: None, random: RandomState::new() }
    }
}

impl Backoff {
    /// It works from now on.
    pub fn works(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// It failed (again): how long to wait, between nothing and a bound of 0.2 s that doubles up to 5 s. Begins anew where it
    /// had worked for a minute.
    pub fn failed(&mut self) -> Duration {
        if self.since.take().is_some_and(|since| since.elapsed() >= STABLE) {
            self.failures = 0;
        }
        let most = self.most();
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        // A whole number of nanoseconds below the bound; the hash of a counter under random keys is random enough for that.
        Duration::from_nanos(self.random.hash_one(self.failures) % nanos.max(1))
    }

    fn most(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_most_and_waits_stay_below_it() {
        let mut backoff = Backoff::default();
        for bound in [200u64, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            assert_eq!(backoff.most(), Duration::from_millis(bound));
            assert!(backoff.failed() < Duration::from_millis(bound));
        }
        // What worked for a moment only is not well.
        backoff.works();
        assert!(backoff.failed() < MOST);
        assert_eq!(backoff.most(), MOST);
    }

    #[test]
    fn two_of_them_are_not_in_step() {
        let (mut one, mut two) = (Backoff::default(), Backoff::default());
        let waits = |backoff: &mut Backoff| (0..8).map(|_| backoff.failed()).collect::<Vec<_>>();
        assert_ne!(waits(&mut one), waits(&mut two));
    }
}
