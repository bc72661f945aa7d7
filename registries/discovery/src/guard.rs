//! Doubt of sets that are suddenly empty, or nearly: registries lose their memory more often than services lose all instances.
//!
//! A set that lost its last instance, or most of them unseen while the registry was away, is held back for a time, and until
//! the registry, asked once more and well, says the same. Instances that leave one by one in view of everybody are believed at
//! once, down to the last but one. Decides by what it is told; time is an argument.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{Instance, View};

/// After a gap, fewer than one in so many of those before are doubted.
const SHRUNK_BELOW: usize = 5;

/// What follows from a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These are in force, and were before.
    Same,
    /// These are in force now.
    Take(Arc<[Instance]>),
    /// Those before stay in force until then; `ask`: the registry shall be asked once more now.
    Hold {
        /// When to look again.
        until: Instant,
        /// Whether the registry shall be asked now.
        ask: bool,
    },
}

/// What is in force of one watched service.
#[derive(Debug)]
pub struct Guard {
    hold: Duration,
    force: Option<Arc<[Instance]>>,
    /// Gaps of the view that the set in force came from.
    gaps: u64,
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    until: Instant,
    /// Answers that were given when the registry was asked again; `None`: it was not yet.
    asked_at: Option<u64>,
}

impl Guard {
    /// Nothing is in force yet. Doubt lasts for `hold`; zero: nothing is doubted.
    pub const fn new(hold: Duration) -> Self {
        Self { hold, force: None, gaps: 0, doubt: None }
    }

    /// What is in force; `None`: nothing was told yet.
    pub fn force(&self) -> Option<&Arc<[Instance]>> {
        self.force.as_ref()
    }

    /// Whether a set is held back.
    pub const fn doubts(&self) -> bool {
        self.doubt.is_some()
    }

    /// Looks at the last view: after every news, and when a [`Verdict::Hold`] ends.
    pub fn look(&mut self, view: &View, now: Instant) -> Verdict {
        let Some(told) = &view.instances else { return Verdict::Same };
        if self.force.as_ref().is_some_and(|force| force == told) {
            (self.doubt, self.gaps) = (None, view.gaps);
            return Verdict::Same;
        }
        if !self.is_doubtful(told, view) {
            return self.take(told, view);
        }
        let hold = self.hold;
        let doubt = self.doubt.get_or_insert_with(|| Doubt { until: now + hold, asked_at: None });
        if view.lost.is_some() {
            // Nobody can confirm it: it waits for the registry, however long that takes.
            doubt.asked_at = None;
            return Verdict::Hold { until: doubt.until.max(now + hold), ask: false };
        }
        match doubt.asked_at {
            _ if now < doubt.until => Verdict::Hold { until: doubt.until, ask: false },
            Some(asked_at) if view.answers > asked_at => self.take(told, view),
            Some(_) => Verdict::Hold { until: now + hold, ask: true },
            None => {
                doubt.asked_at = Some(view.answers);
                Verdict::Hold { until: now + hold, ask: true }
            }
        }
    }

    fn is_doubtful(&self, told: &[Instance], view: &View) -> bool {
        let before = self.force.as_ref().map_or(0, |force| force.len());
        let missed = view.gaps > self.gaps;
        let left = if missed {
            let force = self.force.as_deref().unwrap_or_default();
            force.iter().filter(|one| told.iter().any(|other| other.address == one.address)).count()
        } else {
            before
        };
        !self.hold.is_zero()
            && before > 0
            && (told.is_empty() || left.saturating_mul(SHRUNK_BELOW) < before && told.len() < before)
    }

    fn take(&mut self, told: &Arc<[Instance]>, view: &View) -> Verdict {
        (self.doubt, self.gaps) = (None, view.gaps);
        self.force = Some(Arc::clone(told));
        Verdict::Take(Arc::clone(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(30);

    fn view(count: u16, answers: u64, gaps: u64) -> View {
        let instances = (0..count).map(|port| Instance::new(format!("a:{port}"))).collect();
        View { generation: 1, instances: Some(instances), lost: None, answers, gaps, gap: None }
    }

    fn lost(view: View) -> View {
        View { lost: Some("gone".into()), ..view }
    }

    fn held(verdict: &Verdict) -> Option<bool> {
        match verdict {
            Verdict::Hold { ask, .. } => Some(*ask),
            _ => None,
        }
    }

    #[test]
    fn an_empty_set_is_held_until_it_was_confirmed() {
        let (mut guard, start) = (Guard::new(HOLD), Instant::now());
        assert!(matches!(guard.look(&view(2, 1, 0), start), Verdict::Take(_)));
        assert_eq!(held(&guard.look(&view(0, 1, 0), start)), Some(false));
        // An answer of before the doubt's end confirms nothing.
        assert_eq!(held(&guard.look(&view(0, 2, 0), start + HOLD / 2)), Some(false));
        assert_eq!(held(&guard.look(&view(0, 2, 0), start + HOLD)), Some(true));
        assert_eq!(guard.force().unwrap().len(), 2);
        assert!(matches!(guard.look(&view(0, 3, 0), start + HOLD), Verdict::Take(all) if all.is_empty()));
        assert!(!guard.doubts());
    }

    #[test]
    fn a_registry_that_is_lost_confirms_nothing() {
        let (mut guard, start) = (Guard::new(HOLD), Instant::now());
        guard.look(&view(2, 1, 0), start);
        guard.look(&view(0, 1, 0), start);
        for hours in 1..5 {
            let late = start + HOLD * 120 * hours;
            assert_eq!(held(&guard.look(&lost(view(0, 1, 0)), late)), Some(false));
        }
        let back = start + HOLD * 1_000;
        assert_eq!(held(&guard.look(&view(0, 9, 1), back)), Some(true));
        assert_eq!(
            held(&guard.look(&view(0, 9, 1), back)),
            Some(true),
            "what is not answered is asked again"
        );
        assert_eq!(guard.look(&view(2, 10, 1), back), Verdict::Same, "it was a mistake");
        assert!(!guard.doubts());
    }

    #[test]
    fn most_of_a_set_gone_in_a_gap_is_doubted_and_in_view_it_is_not() {
        let start = Instant::now();
        for (gaps, doubted) in [(0, None), (1, Some(false))] {
            let mut guard = Guard::new(HOLD);
            guard.look(&view(20, 1, 0), start);
            assert_eq!(held(&guard.look(&view(3, 2, gaps), start)), doubted, "{gaps}");
        }
        let mut guard = Guard::new(HOLD);
        guard.look(&view(20, 1, 0), start);
        assert_eq!(held(&guard.look(&view(4, 2, 1), start)), None, "a fifth of them is left");
        assert_eq!(guard.force().unwrap().len(), 4);
    }

    #[test]
    fn a_first_set_and_no_hold_are_never_doubted() {
        let (mut guard, start) = (Guard::new(HOLD), Instant::now());
        assert_eq!(guard.look(&View::default(), start), Verdict::Same);
        assert!(matches!(guard.look(&view(0, 1, 0), start), Verdict::Take(_)));
        let mut guard = Guard::new(Duration::ZERO);
        guard.look(&view(2, 1, 0), start);
        assert!(matches!(guard.look(&view(0, 1, 0), start), Verdict::Take(_)));
    }
}
