//! How much may be written now: so many in a second on average, and never more than a quarter of that at once.
//!
//! Time is an argument. A change that is larger than what is left is made whole and paid for afterwards, because half of a
//! service's change would be neither the old nor the new.

use std::time::Instant;

/// Writes in a second.
#[derive(Debug)]
pub struct Pace {
    each_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    /// So many in a second, from now on.
    pub fn new(each_second: u32, now: Instant) -> Self {
        let each_second = f64::from(each_second.max(1));
        Self { each_second, left: most(each_second), at: now }
    }

    /// Whether something may be written now.
    pub fn is_open(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now.max(self.at);
        self.left = (self.left + passed * self.each_second).min(most(self.each_second));
        self.left > 0.0
    }

    /// So many were written.
    pub fn spend(&mut self, writes: usize) {
        self.left -= writes as f64;
    }
}

/// How many can be saved up.
fn most(each_second: f64) -> f64 {
    (each_second / 4.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_is_written_in_a_time_than_its_share_and_one_change() {
        let start = Instant::now();
        let mut pace = Pace::new(100, start);
        let (mut written, mut now) = (0, start);
        while now < start + Duration::from_secs(10) {
            if pace.is_open(now) {
                pace.spend(7);
                written += 7;
            }
            now += Duration::from_millis(1);
        }
        assert!((950..=1_032).contains(&written), "{written}");
    }

    #[test]
    fn what_was_saved_up_is_a_quarter_of_a_second_at_most() {
        let start = Instant::now();
        let mut pace = Pace::new(40, start);
        let later = start + Duration::from_secs(3_600);
        let mut at_once = 0;
        while pace.is_open(later) {
            pace.spend(1);
            at_once += 1;
        }
        assert_eq!(at_once, 10);
        assert!(!pace.is_open(later) && pace.is_open(later + Duration::from_millis(1)));
    }
}
