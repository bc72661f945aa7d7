//! Mistakes in the meaning of a default: told once, where it is written, with the names of those for whom it is wrong.

use super::{
    super::{
        report::{Problem, Span},
        yaml::At,
    },
    Lowering,
};

/// Names that are shown with a mistake.
const NAMES_MAX: usize = 3;

/// What was found wrong with defaults, and for whom.
#[derive(Debug, Default)]
pub(super) struct InDefaults {
    found: Vec<(Problem, Vec<String>)>,
    /// How many were asked.
    asked: usize,
}

impl Lowering<'_> {
    /// Lowers a route or cluster. Its mistakes that stand in `defaults` are kept aside, as mistakes that concern `whom`.
    pub(super) fn concerning<T>(
        &mut self,
        whom: impl Fn() -> String,
        lower: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let told = self.problems.len();
        let plan = lower(self);
        self.in_defaults.asked += 1;
        let defaults = self.at.key("defaults");
        if self.problems.len() == told || !self.at.has("defaults") {
            return plan;
        }
        for problem in self.problems.split_off(told) {
            if !stands_in(defaults, problem.span) {
                self.problems.push(problem);
                continue;
            }
            match self.in_defaults.found.iter_mut().find(|(known, _)| *known == problem) {
                Some((_, names)) => names.push(whom()),
                None => self.in_defaults.found.push((problem, vec![whom()])),
            }
        }
        plan
    }

    /// Tells what was taken aside: with the names of those concerned, where that is not everybody who was asked.
    pub(super) fn tell_defaults(&mut self) {
        let InDefaults { found, asked } = std::mem::take(&mut self.in_defaults);
        for (mut problem, names) in found {
            if names.len() < asked {
                let (shown, more) = names.split_at(names.len().min(NAMES_MAX));
                problem.message = format!("{}, for {}", problem.message, shown.join(", "));
                if !more.is_empty() {
                    problem.message = format!("{} and {} more", problem.message, more.len());
                }
            }
            self.problems.push(problem);
        }
    }
}

/// Whether a place lies in what is written under a key.
fn stands_in(at: At<'_>, span: Span) -> bool {
    at.extent().is_some_and(|(start, end)| start <= span.start && span.end <= end)
}
