//! What a sidecar is to a bridge that several run: who writes, who stands by, who keeps still.
//!
//! Decides by what a registry tells of the seat; time is an argument. The one rule: who had the seat last keeps what it wrote
//! until it knows of another that has it, however long that takes; and nobody writes who has it not.

use std::time::{Duration, Instant};

use outrigger_discovery::Term;

/// What a sidecar is to a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It writes.
    Leading,
    /// It wrote last and cannot tell who does now: what it wrote stays, and nothing is changed.
    Frozen,
    /// Another writes.
    #[default]
    Standby,
}

impl Role {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leading => "leading",
            Self::Frozen => "frozen",
            Self::Standby => "standby",
        }
    }
}

/// What was known of the seat so far.
#[derive(Debug, Default)]
pub struct Roles {
    role: Role,
    /// When another was seen in the seat that this one had.
    followed: Option<Instant>,
}

impl Roles {
    /// What it was when it was looked at last.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What it is where no other could be.
    pub const fn alone(&mut self) -> Role {
        self.role = Role::Leading;
        self.role
    }

    /// What this sidecar is, by what is known at a moment.
    pub fn look(&mut self, term: &Term, now: Instant) -> Role {
        let had = matches!(self.role, Role::Leading | Role::Frozen);
        // Who the holder is is told with a term that is not ours.
        let another = term.until.is_none() && term.holder.is_some();
        self.role = match () {
            () if term.is_held(now) => Role::Leading,
            () if had && !another => Role::Frozen,
            () => Role::Standby,
        };
        match self.role {
            Role::Standby if had => self.followed = Some(now),
            Role::Standby => {}
            Role::Leading | Role::Frozen => self.followed = None,
        }
        self.role
    }

    /// Whether what was written while it had the seat may be given up: another has had it for so long that it has it all.
    pub fn is_over(&self, grace: Duration, now: Instant) -> bool {
        self.role == Role::Standby && self.followed.is_none_or(|since| now >= since + grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_the_seat_keeps_still_until_another_is_known_to_have_it() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut roles = Roles::default();
        let nobody = Term::default();
        assert_eq!(roles.look(&nobody, now), Role::Standby);
        let held = Term { until: Some(at(5)), number: 1, holder: Some("me".into()), trouble: None };
        assert_eq!(roles.look(&held, now), Role::Leading);
        assert_eq!(roles.look(&held, at(5)), Role::Frozen, "its own clock says so");
        let gone = Term { trouble: Some("no answer".into()), ..held.clone() };
        assert_eq!(roles.look(&gone, at(3_600)), Role::Frozen);
        assert!(!roles.is_over(Duration::ZERO, at(3_600)));
        let other = Term { until: None, number: 2, holder: Some("other".into()), trouble: None };
        assert_eq!(roles.look(&other, at(3_601)), Role::Standby);
        assert!(!roles.is_over(Duration::from_secs(10), at(3_610)));
        assert!(roles.is_over(Duration::from_secs(10), at(3_611)));
        assert_eq!(roles.look(&nobody, at(3_700)), Role::Standby, "it has nothing to keep");
        let again = Term { until: Some(at(4_000)), number: 3, ..held };
        assert_eq!(roles.look(&again, at(3_701)), Role::Leading);
    }
}
