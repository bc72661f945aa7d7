//! Whether a call that failed may be tried again.
//!
//! What was provably not processed may always go elsewhere, as it costs the service nothing. Everything else may have been
//! processed: it is sent again only if its route says that this does no harm, on the failures that the route names, as often
//! as it allows, and only out of the cluster's *budget*: a share of the calls plus a floor a second, so that a service that
//! fails is never asked for much more than it was anyway (Finagle's `RetryBudget`). Out of the same budget a call that waits
//! long may have a second try beside the first. Decides only; the engines send.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use outrigger_codec::Outcome;

use crate::{EndpointSlot, Limit, Local, Plan, Snapshot, Tick};

/// Failures that a route may have tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// A connection that was lost before anything was answered.
    pub reset: bool,
    /// An answer that says that the endpoint is too busy.
    pub overloaded: bool,
    /// An answer that tells of any other failure of the endpoint's.
    pub error: bool,
    /// Answers of these statuses, in the protocol's own numbers.
    pub statuses: Box<[u32]>,
    /// Times a call is sent again at most.
    pub tries: u8,
    /// How long one try may take; `None`: as long as the call.
    pub per_try: Option<Duration>,
    /// How long the second time waits at most, twice as long each further time; the first does not wait. Drawn at random
    /// between nothing and that.
    pub backoff: Duration,
    /// After how long without an answer a second try goes beside the first, which goes on; `None`: never.
    pub hedge: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            reset: true,
            overloaded: false,
            error: false,
            statuses: Box::default(),
            tries: 1,
            per_try: None,
            backoff: Duration::from_millis(10),
            hedge: None,
        }
    }
}

impl Retry {
    /// Whether any answer may be a reason to try again: then answers are looked at before they are given on.
    pub fn reads_answers(&self) -> bool {
        self.overloaded || self.error || !self.statuses.is_empty()
    }

    /// Whether a failure is a reason to try again.
    pub fn names(&self, failure: Failure) -> bool {
        match failure {
            Failure::Lost => self.reset,
            Failure::Slow => self.per_try.is_some(),
            Failure::Answered(outcome, status) => {
                (self.overloaded && outcome == Outcome::Busy)
                    || (self.error && matches!(outcome, Outcome::Error | Outcome::TimedOut))
                    || self.statuses.contains(&status)
            }
        }
    }
}

/// How a call failed that may have been processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its connection was lost, or its stream ended, before anything was answered.
    Lost,
    /// One try took too long.
    Slow,
    /// It was answered: how, and with which status of its protocol.
    Answered(Outcome, u32),
}

/// The endpoints that a call was at already, by the last bits of their numbers: two that share them count as one, which only
/// makes a choice among many a little smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried(u64);

impl Tried {
    /// With one more.
    #[must_use]
    pub fn with(self, endpoint: EndpointSlot) -> Self {
        Self(self.0 | Self::bit(endpoint))
    }

    /// Whether it was there.
    pub fn has(self, endpoint: EndpointSlot) -> bool {
        self.0 & Self::bit(endpoint) != 0
    }

    fn bit(endpoint: EndpointSlot) -> u64 {
        1u64.rotate_left(endpoint.0)
    }
}

/// What a cluster's calls may cost it on top: shared by all workers, so that it is exact.
#[derive(Debug)]
pub struct Budget {
    /// What each call pays in, in hundredths of a try.
    share: u32,
    /// So many a second whatever the calls.
    floor: Option<Limit>,
    floor_count: u32,
    /// What was paid in and not used, in hundredths of a try; at most [`SAVED_MAX`].
    saved: AtomicU64,
}

/// What may be saved up: a burst of failures is met by what the calls before it paid in.
const SAVED_MAX: u64 = 100 * 100;

impl Budget {
    /// A budget of `share` percent of the calls, and `floor` a second.
    pub fn new(share: u32, floor: u32) -> Self {
        let count = NonZeroU32::new(floor);
        let limit = count.and_then(|count| Limit::new(count, Duration::from_secs(1), count));
        Self { share, floor: limit, floor_count: floor, saved: AtomicU64::new(0) }
    }

    /// Whether another one allows the same.
    pub fn same(&self, other: &Self) -> bool {
        (self.share, self.floor_count) == (other.share, other.floor_count)
    }

    /// A call that could be tried again.
    pub fn pay_in(&self) {
        let more = |saved: u64| Some(saved.saturating_add(u64::from(self.share)).min(SAVED_MAX));
        let _ = self.saved.fetch_update(Relaxed, Relaxed, more);
    }

    /// Takes one try, if there is one.
    pub fn take(&self, now: Tick) -> bool {
        let less = |saved: u64| saved.checked_sub(100);
        self.saved.fetch_update(Relaxed, Relaxed, less).is_ok()
            || self.floor.as_ref().is_some_and(|floor| floor.admit(now).is_ok())
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(20, 10)
    }
}

/// Where a call that failed so may be sent again, after it was `again` times, and how long it waits before; `same_too`: where
/// it was, if there is no other. Takes from the budget only what is then used.
pub fn again(
    local: &mut Local,
    snapshot: &Snapshot,
    plan: &Plan,
    failure: Failure,
    (again, same_too): (u8, bool),
    now: Tick,
) -> Option<(EndpointSlot, Duration)> {
    let retry = plan.retry.as_deref().filter(|retry| again < retry.tries && retry.names(failure))?;
    let wait = if again == 0 {
        Duration::ZERO
    } else {
        let most =
            retry.backoff.saturating_mul(1u32.checked_shl(u32::from(again.min(10)).saturating_sub(1))?);
        Duration::from_nanos(local.random(u64::try_from(most.as_nanos()).unwrap_or(u64::MAX)))
    };
    if plan.deadline <= now.after(wait) {
        return None;
    }
    let to = place(local, snapshot, plan, same_too, now)?;
    local.budget(plan.endpoint)?.take(now).then_some((to, wait))
}

/// When a second try goes beside the one that begins now, unless that was answered.
pub fn hedge_at(plan: &Plan, again: u8, now: Tick) -> Tick {
    let after = plan.retry.as_deref().filter(|retry| again < retry.tries).and_then(|retry| retry.hedge);
    after.map_or(Tick::NEVER, |after| now.after(after))
}

/// A second try of a call that was not answered, beside the first and on another endpoint: its plan, if there is one. It is
/// settled like any other, one of the two as [`crate::End::Superseded`].
pub fn hedge(local: &mut Local, snapshot: &Snapshot, plan: &mut Plan, again: u8, now: Tick) -> Option<Plan> {
    plan.retry.as_deref().filter(|retry| again < retry.tries)?;
    if plan.deadline <= now {
        return None;
    }
    let to = place(local, snapshot, plan, false, now)?;
    local.budget(plan.endpoint)?.take(now).then(|| local.beside(plan, to, now))
}

/// Until when the try that begins now may take, where the route says so.
pub fn try_deadline(plan: &Plan, again: u8, now: Tick) -> Tick {
    let bounded = plan.retry.as_deref().filter(|retry| again < retry.tries).and_then(|retry| retry.per_try);
    bounded.map_or(Tick::NEVER, |per_try| now.after(per_try))
}

/// Whether an endpoint that was picked a while ago is still there.
pub fn is_there(local: &Local, endpoint: EndpointSlot) -> bool {
    local.endpoint(endpoint).is_some_and(|state| state.listed)
}

/// Where a call that may be tried again goes: another endpoint, or the same where there is no other and it may be.
pub fn place(
    local: &mut Local,
    snapshot: &Snapshot,
    plan: &Plan,
    same_too: bool,
    now: Tick,
) -> Option<EndpointSlot> {
    let failed = plan.endpoint;
    let other = local.elsewhere(snapshot, failed, (plan.lot, plan.tried), now);
    // Passed over means it failed a moment ago: trying it would only go round in a circle.
    let fine = |slot: &EndpointSlot| {
        local.endpoint(*slot).is_some_and(|state| state.listed && state.avoid_until <= now)
    };
    other.filter(fine).or_else(|| same_too.then_some(failed).filter(fine))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // tests fail by panicking
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_never_exceeded() {
        for (share, floor) in [(20, 10), (0, 10), (50, 0), (0, 0)] {
            let budget = Budget::new(share, floor);
            let (mut calls, mut taken) = (0u64, 0u64);
            // All calls fail, a thousand a second for ten seconds, and each asks three times.
            for at in 0..10_000u64 {
                budget.pay_in();
                calls += 1;
                let now = Tick(1 + at * 1_000_000);
                taken += (0..3).filter(|_| budget.take(now)).count() as u64;
                let most = calls * u64::from(share) / 100 + u64::from(floor) * (at / 1_000 + 2);
                assert!(taken <= most, "{share} {floor}: {taken} of {calls}");
            }
            let least = calls * u64::from(share) / 100 + u64::from(floor) * 9;
            assert!(taken >= least, "{share} {floor}: {taken}");
        }
    }

    #[test]
    fn what_was_saved_is_bounded() {
        let budget = Budget::new(20, 0);
        (0..1_000_000).for_each(|_| budget.pay_in());
        assert_eq!((0..1_000_000).filter(|_| budget.take(Tick(1))).count() as u64, SAVED_MAX / 100);
    }

    #[test]
    fn only_what_the_route_names_is_tried_again() {
        let retry = Retry { overloaded: true, statuses: [502].into(), ..Retry::default() };
        for (failure, named) in [
            (Failure::Lost, true),
            (Failure::Slow, false),
            (Failure::Answered(Outcome::Busy, 503), true),
            (Failure::Answered(Outcome::Error, 500), false),
            (Failure::Answered(Outcome::Error, 502), true),
            (Failure::Answered(Outcome::Ok, 200), false),
        ] {
            assert_eq!(retry.names(failure), named, "{failure:?}");
        }
        assert!(retry.reads_answers() && !Retry::default().reads_answers());
    }
}
