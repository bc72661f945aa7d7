//! Counts of how calls ended and how long they took. Plain numbers of one worker; added up when they are read.
//!
//! Recording is two additions: no formatting, no allocation after the first call, no names.

use std::time::Duration;

use outrigger_codec::{Outcome, Refusal};

use crate::End;

/// How the calls of one route or one endpoint ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls answered by the service, by [`Outcome`] in the order of `Outcome::ALL`.
    pub answered: [u64; Outcome::ALL.len()],
    /// One-way calls forwarded.
    pub sent: u64,
    /// Calls answered by us, by [`Refusal`] in the order of `Refusal::ALL`.
    pub refused: [u64; Refusal::ALL.len()],
    /// Calls whose caller left before the answer.
    pub abandoned: u64,
    /// Latency of answered calls; made with the first of them.
    pub latency: Option<Box<Latency>>,
}

impl Tally {
    /// Counts one call.
    pub fn record(&mut self, end: End, took: Duration) {
        let count = match end {
            End::Answered(outcome) => {
                self.latency.get_or_insert_default().record(took);
                self.answered.get_mut(outcome as usize)
            }
            End::Sent => Some(&mut self.sent),
            End::Refused(why) => self.refused.get_mut(why as usize),
            End::Abandoned => Some(&mut self.abandoned),
            End::Superseded => None,
        };
        if let Some(count) = count {
            *count = count.wrapping_add(1);
        }
    }

    /// Adds the counts of another worker.
    pub fn add(&mut self, other: &Self) {
        let add = |into: &mut [u64], from: &[u64]| {
            into.iter_mut().zip(from).for_each(|(into, from)| *into = into.wrapping_add(*from));
        };
        add(&mut self.answered, &other.answered);
        add(&mut self.refused, &other.refused);
        self.sent = self.sent.wrapping_add(other.sent);
        self.abandoned = self.abandoned.wrapping_add(other.abandoned);
        if let Some(latency) = &other.latency {
            self.latency.get_or_insert_default().add(latency);
        }
    }

    /// All calls that ended.
    pub fn calls(&self) -> u64 {
        self.answered
            .iter()
            .chain(&self.refused)
            .fold(self.sent.wrapping_add(self.abandoned), |sum, n| sum.wrapping_add(*n))
    }

    /// Calls that did not get what they asked for, by fault of the transport or of us: refusals and error
    /// statuses, but no exceptions of the service's own.
    pub fn failures(&self) -> u64 {
        let faults = Outcome::ALL
            .iter()
            .zip(&self.answered)
            .filter(|(outcome, _)| !matches!(outcome, Outcome::Ok | Outcome::Exception));
        faults.map(|(_, n)| n).chain(&self.refused).fold(0, |sum: u64, n| sum.wrapping_add(*n))
    }
}

/// Buckets per power of two: each is at most 25 % wide.
const STEPS: u32 = 4;
/// Powers of two covered, from 1 µs: the last bucket begins above 67 s.
const POWERS: u32 = 26;
/// Number of buckets.
pub const BUCKETS: usize = (POWERS * STEPS) as usize;

/// A histogram of durations with buckets that grow by a quarter of a power of two, from 1 µs to about a minute.
#[derive(Clone, Debug)]
pub struct Latency {
    buckets: [u64; BUCKETS],
    /// All durations added up, in nanoseconds.
    pub sum_ns: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_ns: 0 }
    }
}

impl Latency {
    /// Counts one duration.
    pub fn record(&mut self, took: Duration) {
        let ns = took.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(took.subsec_nanos()));
        self.sum_ns = self.sum_ns.wrapping_add(ns);
        if let Some(bucket) = self.buckets.get_mut(Self::bucket(ns)) {
            *bucket = bucket.wrapping_add(1);
        }
    }

    /// The bucket of a duration: its power of two (from 1024 ns) and the two bits below the leading one.
    fn bucket(ns: u64) -> usize {
        let ns = ns.max(1 << 10);
        let power = 63u32.wrapping_sub(ns.leading_zeros());
        let step = (ns >> power.wrapping_sub(2)) & 3;
        let at = power.wrapping_sub(10).wrapping_mul(STEPS).wrapping_add(step as u32);
        (at as usize).min(BUCKETS.wrapping_sub(1))
    }

    /// The upper end of a bucket in nanoseconds.
    #[allow(clippy::arithmetic_side_effects)] // at < BUCKETS, so the shifts stay below 2^36
    pub fn upper_ns(at: usize) -> u64 {
        let (power, step) =
            ((at.min(BUCKETS - 1) as u32) / STEPS, (at.min(BUCKETS - 1) as u64) % u64::from(STEPS));
        (5 + step) << (power + 8)
    }

    /// The counts, one for each bucket.
    pub fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// Adds the counts of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(into, from)| *into = into.wrapping_add(*from));
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// The duration that `share` (0 to 1) of all stay at or under, to the width of a bucket; zero when empty.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0u64;
        for (at, n) in self.buckets.iter().enumerate() {
            seen = seen.wrapping_add(*n);
            if seen >= wanted {
                return Duration::from_nanos(Self::upper_ns(at));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)] // tests fail by panicking
mod tests {
    use super::*;

    #[test]
    fn every_duration_falls_below_the_upper_end_of_its_bucket_and_not_far() {
        for ns in (0..36).flat_map(|p| [1u64 << p, (1 << p) + 1, (1 << p) * 3 / 2, (2u64 << p) - 1]) {
            let at = Latency::bucket(ns);
            if at + 1 < BUCKETS {
                assert!(ns < Latency::upper_ns(at), "{ns} in {at}");
            }
            if at > 0 && at + 1 < BUCKETS {
                assert!(ns >= Latency::upper_ns(at - 1), "{ns} in {at}");
            }
        }
        assert_eq!(Latency::bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_read_off_the_buckets() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|us| latency.record(Duration::from_micros(us)));
        let p50 = latency.quantile(0.5).as_micros();
        let p99 = latency.quantile(0.99).as_micros();
        assert!((500..640).contains(&p50) && (990..1_300).contains(&p99), "{p50} {p99}");
    }

    #[test]
    fn an_exception_of_the_service_is_no_failure() {
        let mut tally = Tally::default();
        tally.record(End::Answered(Outcome::Exception), Duration::ZERO);
        tally.record(End::Answered(Outcome::Busy), Duration::ZERO);
        tally.record(End::Refused(Refusal::Limited), Duration::ZERO);
        tally.record(End::Sent, Duration::ZERO);
        assert_eq!((tally.calls(), tally.failures()), (4, 2));
    }
}
