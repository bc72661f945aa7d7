//! A pace that all questions share, so that coming back to a server does not bring it down again.
//!
//! Knows nothing of what is asked. Must never let a turn pass that nobody takes.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{self, Instant};

/// Turns, so far apart from each other.
#[derive(Debug)]
pub(crate) struct Pace {
    apart: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) const fn new(apart: Duration) -> Self {
        Self { apart, next: Mutex::new(None) }
    }

    /// Waits for one's turn. Whoever gives up waiting has used it.
    pub(crate) async fn turn(&self) {
        let at = self.take(Instant::now());
        time::sleep_until(at).await;
    }

    fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + self.apart);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_apart_and_idle_time_saves_none() {
        let (pace, start) = (Pace::new(Duration::from_millis(5)), Instant::now());
        let ms = |ms| start + Duration::from_millis(ms);
        assert_eq!((pace.take(start), pace.take(start), pace.take(ms(1))), (start, ms(5), ms(10)));
        assert_eq!((pace.take(ms(100)), pace.take(ms(100))), (ms(100), ms(105)));
    }
}
