//! Budgets against peers that make work without doing any: floods, hasty cancels, provoked errors.
//!
//! Sources: CVE-2023-44487 (rapid reset), CVE-2025-8671 (made-you-reset), CVE-2019-9512 … 9518 (floods). Each budget is a
//! count that useful work pays back and that halves with every second: what an honest peer does in a burst passes, what
//! goes on does not. Must never be told by the clock itself.

/// What a peer has used up.
#[derive(Debug, Default)]
pub struct Budget {
    /// Frames that move nothing; below 0: as many more are due for what we sent.
    noise: i32,
    /// Streams that the peer opened and took back unanswered.
    resets: u32,
    /// Streams that we had to end because the peer broke the protocol on them.
    faults: u32,
}

/// Frames that move nothing, beyond what useful ones paid for.
const NOISE_MAX: i32 = 1_000;
/// Frames that move nothing and that are due: a peer gives windows back frame by frame if it likes, in its own time.
const DUE_MAX: i32 = 65_536;
/// Requests taken back before their answers.
const RESETS_MAX: u32 = 1_000;
/// Errors on single streams.
const FAULTS_MAX: u32 = 100;

impl Budget {
    /// A frame that moves nothing came. `false`: one too many.
    #[must_use]
    pub fn noise(&mut self) -> bool {
        self.noise = self.noise.saturating_add(1);
        self.noise <= NOISE_MAX
    }

    /// A frame that moves something came.
    pub fn useful(&mut self) {
        self.noise = self.noise.saturating_sub(2).max(self.noise.min(0));
    }

    /// We sent a frame that moves something: the windows of its stream and of all may be given back for it.
    pub fn sent(&mut self) {
        self.noise = self.noise.saturating_sub(2).max(DUE_MAX.saturating_neg());
    }

    /// A request was taken back. `false`: one too many.
    #[must_use]
    pub fn reset(&mut self) -> bool {
        self.resets = self.resets.saturating_add(1);
        self.resets <= RESETS_MAX
    }

    /// A request was answered to its end.
    pub fn answered(&mut self) {
        self.resets = self.resets.saturating_sub(1);
    }

    /// A stream had to be ended. `false`: one too many.
    #[must_use]
    pub fn fault(&mut self) -> bool {
        self.faults = self.faults.saturating_add(1);
        self.faults <= FAULTS_MAX
    }

    /// A second has passed.
    pub fn second(&mut self) {
        if self.noise > 0 {
            self.noise /= 2;
        }
        self.resets /= 2;
        self.faults /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_pass_and_floods_do_not() {
        let mut budget = Budget::default();
        assert!((0..NOISE_MAX).all(|_| budget.noise()));
        assert!(!budget.noise());
        budget.second();
        assert!(budget.noise(), "time forgives");
        let mut busy = Budget::default();
        for _ in 0..10 * NOISE_MAX {
            assert!(busy.noise(), "work pays");
            busy.useful();
        }
        let mut late = Budget::default();
        (0..5 * NOISE_MAX).for_each(|_| late.sent());
        assert!((0..11 * NOISE_MAX).all(|_| late.noise()), "what is due may come late");
        assert!(!late.noise());
        let mut ahead = Budget::default();
        (0..5 * NOISE_MAX).for_each(|_| ahead.useful());
        assert!((0..NOISE_MAX).all(|_| ahead.noise()) && !ahead.noise(), "nobody pays ahead");
        let mut hasty = Budget::default();
        assert!((0..RESETS_MAX).all(|_| hasty.reset()) && !hasty.reset());
        let mut wrong = Budget::default();
        assert!((0..FAULTS_MAX).all(|_| wrong.fault()) && !wrong.fault());
    }
}
