//! Of many endpoints, those that one worker calls at a time.
//!
//! Where a cluster has thousands, a few calls spread over all of them find every connection cold, and every sidecar connects to
//! every endpoint. So picks that compare two look at a window of them, the wider the more calls are in flight, which moves on
//! by one each second: each endpoint gets its share, only not of every moment. Which ones a worker begins with is its own, so
//! that the windows of many sidecars lie evenly over all. After the aperture of Finagle's balancers, where load widens it too.
//! Must never be what decides whether an endpoint is well, nor keep a call from one outside where none inside will do.

use crate::Tick;

/// Up to so many endpoints there is no window.
const FROM: usize = 256;
/// The least that a window has.
const WIDTH_MIN: usize = 128;
/// How many endpoints there are in it for each call in flight, at least.
const EACH_CALL: u64 = 4;

/// Some neighbours of many, in a circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The position of the first.
    pub(crate) start: usize,
    /// How many there are.
    pub(crate) width: usize,
}

impl Window {
    /// The window of a worker that begins at a `share` of the way round (in 2^64ths), over `size` endpoints, while so many calls are
    /// in flight; `None`: all are looked at.
    pub(crate) fn of(size: usize, in_flight: u64, share: u64, now: Tick) -> Option<Self> {
        if size <= FROM {
            return None;
        }
        let calls = usize::try_from(in_flight.saturating_mul(EACH_CALL)).unwrap_or(usize::MAX);
        let width = calls.max(WIDTH_MIN);
        if width >= size {
            return None;
        }
        // A share, so that one endpoint more or less moves the window by one place at most.
        let begin = (u128::from(share).wrapping_mul(size as u128) >> 64) as usize;
        let seconds = (now.0 / 1_000_000_000) as usize;
        Some(Self { start: begin.wrapping_add(seconds).checked_rem(size).unwrap_or(0), width })
    }

    /// The position of one of them, counted from the first.
    pub(crate) fn position(self, at: usize, size: usize) -> usize {
        self.start.saturating_add(at).checked_rem(size).unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    #[test]
    fn a_window_is_as_wide_as_the_calls_want_and_moves_on() {
        let at = |seconds: u64| Tick(seconds * 1_000_000_000);
        assert_eq!(Window::of(256, 0, 0, at(0)), None);
        assert_eq!(Window::of(10_000, 0, 0, at(3)), Some(Window { start: 3, width: 128 }));
        assert_eq!(Window::of(10_000, 100, 0, at(3)).map(|window| window.width), Some(400));
        assert_eq!(Window::of(10_000, 2_500, 0, at(0)), None);
        let last = Window::of(10_000, 0, u64::MAX, at(2)).unwrap();
        assert_eq!((last.start, last.position(0, 10_000), last.position(9_999, 10_000)), (1, 1, 0));
        for share in [0, 1 << 63, u64::MAX - 7] {
            let [one, other] = [1_000, 1_001].map(|size| Window::of(size, 0, share, at(5)).unwrap());
            assert!(one.start.abs_diff(other.start) <= 1, "{one:?} {other:?}");
        }
    }
}
