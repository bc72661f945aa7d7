//! Rate limits, by the `governor` crate (GCRA: one atomic cell a limit), with the time as an argument.
//!
//! A limit is shared by all workers on purpose, so that it is exact; it is one of the few things that are. It
//! never reads a clock: `governor` asks a [`Told`] clock that was set a moment before.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};

use crate::Tick;

/// At most so many calls per period, with a burst.
#[derive(Debug)]
pub struct Limit {
    limiter: RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>,
    told: Told,
    quota: Quota,
}

/// A clock that says what it was told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

impl Limit {
    /// `count` calls per `period`, of which `burst` at once. `None` when the rate is not a positive one that can
    /// be counted in nanoseconds.
    pub fn new(count: NonZeroU32, period: Duration, burst: NonZeroU32) -> Option<Self> {
        let quota = Quota::with_period(period.checked_div(count.get())?)?.allow_burst(burst);
        let told = Told::default();
        Some(Self { limiter: RateLimiter::direct_with_clock(quota, told.clone()), told, quota })
    }

    /// Lets one more call pass at `now` and counts it, or says how long to wait until one may.
    pub fn admit(&self, now: Tick) -> Result<(), Duration> {
        // Workers may tell times some nanoseconds apart, in any order; GCRA saturates on a step back.
        self.told.0.store(now.0, Ordering::Relaxed);
        self.limiter.check().map_err(|not_until| not_until.wait_time_from(Nanos::new(now.0)))
    }

    /// Whether `other` allows the same, so that a reload keeps what was already counted.
    pub fn same_quota(&self, other: &Self) -> bool {
        self.quota == other.quota
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (step, burst) = (self.quota.replenish_interval(), self.quota.burst_size());
        write!(f, "one call each {step:?}, {burst} at once")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_per_step() {
        let two = NonZeroU32::new(2).unwrap();
        let limit = Limit::new(NonZeroU32::new(1000).unwrap(), Duration::from_secs(1), two).unwrap();
        let start = Tick(5_000_000_000);
        assert!(limit.admit(start).is_ok() && limit.admit(start).is_ok());
        assert_eq!(limit.admit(start), Err(Duration::from_millis(1)));
        assert!(limit.admit(start.after(Duration::from_micros(900))).is_err());
        assert!(limit.admit(start.after(Duration::from_millis(1))).is_ok());
        assert!(limit.admit(start.after(Duration::from_millis(1))).is_err());
    }

    #[test]
    fn a_rate_too_fast_to_count_is_refused() {
        assert!(Limit::new(NonZeroU32::MAX, Duration::from_nanos(1), NonZeroU32::MIN).is_none());
    }
}
