//! What must be true at every moment of every life, and what is counted to see that something happened.
//!
//! Everything here is worked out from the outside: from the snapshot's public parts and from what the calls came to. Must never
//! ask the core for the rule that it is judged by.

use std::{collections::HashMap, time::Duration};

use outrigger_codec::Outcome;
use outrigger_core::{End, EndpointSlot, Outlier, Plan, Snapshot, Tick, balance::panics};

use crate::{
    calls::Call,
    world::{Setup, Worker},
};

/// Who has been used so long since it came back begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Workers are behind by no more reloads than that.
const RULES_MAX: usize = 6;
/// What a budget may have saved, in tries.
const SAVED_MAX: i64 = 100;

/// The judge of one life.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) calls: u64,
    /// Calls that no endpoint was listed for.
    pub(crate) nowhere: u64,
    pub(crate) paid_in: u64,
    pub(crate) resent: u64,
    pub(crate) moved: u64,
    /// Calls that had no time left when they were decided.
    pub(crate) late: u64,
    pub(crate) good: u64,
    /// Answered, but not well.
    pub(crate) bad: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    /// Good calls that took longer than 20 ms, whatever happened on their way.
    pub(crate) slow: u64,
    pub(crate) odd: u64,
    pub(crate) ejections: u64,
    pub(crate) longest: Duration,
    begin: Tick,
    share: u64,
    floor: u64,
    /// The least that `owed` ever was, in hundredths of a try and millionths of a second's floor.
    least_owed: i64,
    outs: HashMap<Box<str>, Out>,
    /// The rules before, by which workers may still go.
    last_rules: Vec<Outlier>,
    /// Nobody was out or ill when it was last looked.
    quiet: bool,
}

/// What is known of the times an endpoint was left out.
#[derive(Debug, Default)]
struct Out {
    /// When it comes back; `None`: it is not left out.
    until: Option<Tick>,
    times: u32,
    back: Tick,
}

impl Judge {
    pub(crate) fn new(setup: &Setup, begin: Tick) -> Self {
        let (share, floor) = setup.settings.retries;
        Self { begin, share: share.into(), floor: floor.into(), ..Self::default() }
    }

    /// A new snapshot was made: who was brought back by it begins anew, and the rules may be others.
    pub(crate) fn reloads(&mut self, before: Option<&Outlier>, snapshot: &Snapshot, now: Tick) {
        self.last_rules.extend(before.cloned());
        let old = self.last_rules.len().saturating_sub(RULES_MAX);
        self.last_rules.drain(..old);
        let cluster = snapshot.cluster(0).unwrap();
        for (endpoint, health) in cluster.endpoints.iter().zip(&cluster.healths) {
            if let Some(known) = self.outs.get_mut(&endpoint.address)
                && known.until.is_some()
                && health.out_for(now).is_none()
            {
                *known = Out::default();
            }
        }
    }

    /// Looks at the whole cluster.
    pub(crate) fn look(&mut self, snapshot: &Snapshot, now: Tick) {
        let cluster = snapshot.cluster(0).unwrap();
        let quiet = cluster.healths.iter().all(|health| health.out_for(now).is_none() && !health.is_ill());
        if quiet && std::mem::replace(&mut self.quiet, quiet) && cluster.crowd.unusable() == 0 {
            return;
        }
        self.quiet = quiet;
        let outs = cluster.healths.iter().map(|health| health.out_for(now));
        let outs: Vec<Option<Duration>> = outs.collect();
        let (out, size) = (outs.iter().flatten().count(), cluster.healths.len());
        let wrong =
            cluster.healths.iter().zip(&outs).filter(|(health, out)| out.is_some() || health.is_ill());
        let unusable = cluster.crowd.unusable() as usize;
        assert_eq!(unusable, wrong.count(), "the crowd is miscounted at {now:?}");
        let Some(outlier) = &cluster.settings.outlier else {
            assert_eq!(out, 0, "nobody is to be left out");
            return;
        };
        let most = size * outlier.share_max as usize / 100;
        assert!(out <= most, "{out} of {size} are left out at {now:?}, by {}%", outlier.share_max);
        for (endpoint, out) in cluster.endpoints.iter().zip(outs) {
            self.look_at_one(&endpoint.address, out.map(|left| now.after(left)), outlier, now);
        }
        self.outs.retain(|address, _| cluster.endpoints.iter().any(|endpoint| endpoint.address == *address));
    }

    fn look_at_one(&mut self, address: &str, until: Option<Tick>, outlier: &Outlier, now: Tick) {
        let known = self.outs.entry(address.into()).or_default();
        // One whose time is over is on trial: its end is in the past, and told as now.
        let until = match (known.until, until) {
            (Some(before), Some(told)) if told <= now => Some(before.min(now)),
            (_, until) => until,
        };
        match (known.until, until) {
            (None, None) => {}
            (Some(_), None) => known.back = now,
            (Some(before), Some(until)) if before == until || until <= now => {}
            (before, Some(until)) => {
                let long = until.since(now);
                let forgiven = before.is_none() && now.since(known.back) >= FORGIVEN_AFTER;
                let times = |times| {
                    // A worker may still go by an earlier rule.
                    let mut rules = std::iter::once(outlier).chain(&self.last_rules);
                    rules.any(|rule| long == rule.ejection.saturating_mul(times).min(rule.ejection_max))
                };
                let longer = times(known.times + 1);
                assert!(longer || (forgiven && times(1)), "{address}: {long:?} after {known:?}");
                known.times = if longer { known.times + 1 } else { 1 };
                self.ejections += 1;
                self.longest = self.longest.max(long);
            }
        }
        known.until = until;
    }

    /// Endpoints that a worker can use now without breaking a rule; empty: any will do.
    #[allow(clippy::unused_self)] // what is judged of a life is judged here
    pub(crate) fn usable(&self, worker: &Worker, now: Tick) -> Vec<EndpointSlot> {
        let all = panics(worker.snapshot.cluster(0).unwrap(), now);
        let weightless = worker.slots.iter().all(|(_, weight)| *weight == 0);
        let fine = |slot: &EndpointSlot| {
            let state = worker.local.endpoint(*slot);
            state.is_some_and(|state| state.avoid_until <= now && (all || state.health.is_usable(now)))
        };
        let weighty = worker.slots.iter().filter(|(_, weight)| *weight > 0 || weightless);
        weighty.map(|(slot, _)| *slot).filter(fine).collect()
    }

    /// Where a call went first.
    #[allow(clippy::unused_self)] // what is judged of a life is judged here
    pub(crate) fn placed(&self, plan: &Plan, usable: &[EndpointSlot]) {
        let fine = usable.is_empty() || usable.contains(&plan.endpoint);
        assert!(fine, "a call went to {:?} while these were usable: {usable:?}", plan.endpoint);
    }

    /// No call's end was put off.
    #[allow(clippy::unused_self)] // what is judged of a life is judged here
    pub(crate) fn kept_its_deadline(&self, call: &Call) {
        assert_eq!(call.plan.deadline, call.promised, "an end was moved: {call:?}");
        assert!(call.plan.deadline <= call.plan.caller_deadline, "its caller has left by then: {call:?}");
    }

    /// A call was sent again: this must have been in the budget, whatever moment one begins to count at.
    pub(crate) fn resent(&mut self, now: Tick) {
        let owed = |judge: &Self| {
            let floor = u128::from(judge.floor) * now.since(judge.begin).as_nanos() / 10_000_000;
            (judge.resent * 100) as i64 - (judge.paid_in * judge.share) as i64 - floor as i64
        };
        // Before this one: from here on no more than what was saved, and a second's floor at once.
        self.least_owed = self.least_owed.min(owed(self));
        self.resent += 1;
        let (owed, burst) = (owed(self), self.floor as i64 * 100);
        assert!(owed <= burst, "{} calls paid in, and {} were sent again", self.paid_in, self.resent);
        let since = owed - self.least_owed;
        assert!(since <= SAVED_MAX * 100 + burst + 100, "{since} hundredths at {now:?} were never saved");
    }

    /// A call ended.
    pub(crate) fn ended(&mut self, end: End, took: Duration) {
        match end {
            End::Answered(Outcome::Ok | Outcome::Exception) => {
                self.good += 1;
                self.slow += u64::from(took >= Duration::from_millis(20));
            }
            End::Answered(_) => self.bad += 1,
            End::Refused(outrigger_codec::Refusal::TimedOut) => self.timed_out += 1,
            _ => self.failed += 1,
        }
    }

    /// All calls have ended.
    pub(crate) fn ends(&mut self, snapshot: &Snapshot, now: Tick) {
        self.look(snapshot, now);
        let ended = self.good + self.bad + self.failed + self.timed_out;
        assert_eq!(ended + self.nowhere, self.calls, "each call ends once");
    }
}
