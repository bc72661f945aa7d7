//! Which endpoints are left alone for a while: outliers, and those that health checks found ill.
//!
//! One worker's evidence counts for all, so this is one of the few things that workers share: a handful of atomic cells for
//! each endpoint, touched by a call only when something is wrong, or was. Modelled on Envoy's outlier detection and the
//! circuit breaker of Hystrix: who fails often in a row is left out, longer each time, and comes back by one call on trial.
//! It must never leave out more than the share that the conf allows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::Tick;

/// When an endpoint is left out of its cluster, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Failures in a row that leave it out; 0: they never do.
    pub consecutive: u32,
    /// How long it is left out the first time; each further time adds as much.
    pub ejection: Duration,
    /// The longest it is left out at once.
    pub ejection_max: Duration,
    /// The most endpoints that may be left out at once, in percent of all; rounded down.
    pub share_max: u32,
    /// How often all are compared with each other; zero: never.
    pub interval: Duration,
    /// Calls an endpoint must have had in an interval to be compared.
    pub calls_min: u64,
    /// It is left out when its share of good answers is this many hundredths of a standard deviation below the mean of the
    /// others.
    pub deviation: u32,
    /// It is left out when its mean latency is this many times the median of all; 0: never.
    pub slower: u32,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive: 5,
            ejection: Duration::from_secs(10),
            ejection_max: Duration::from_secs(300),
            share_max: 50,
            interval: Duration::from_secs(10),
            calls_min: 100,
            deviation: 190,
            slower: 0,
        }
    }
}

/// A cluster's endpoints as one: how many there are, and how many of them are not used.
#[derive(Debug, Default)]
pub struct Crowd {
    /// How many there are.
    pub size: u32,
    /// When one is left out; `None`: never.
    pub outlier: Option<Outlier>,
    counts: Arc<Counts>,
}

/// Handed on from snapshot to snapshot: a worker that still has the last one counts here, too, or what it does meanwhile
/// would be missing for ever.
#[derive(Debug, Default)]
struct Counts {
    /// How many may be left out, by the newest snapshot.
    out_max: AtomicU32,
    /// How many are left out.
    out: AtomicU32,
    /// How many are left out or were found ill by health checks.
    unusable: AtomicU32,
    /// Grows whenever one of them does otherwise than before.
    changes: AtomicU32,
}

impl Crowd {
    /// So many endpoints, none of them left out.
    pub fn new(size: u32, outlier: Option<Outlier>) -> Self {
        let crowd = Self { size, outlier, ..Self::default() };
        crowd.counts.out_max.store(crowd.out_max(), Relaxed);
        crowd
    }

    fn out_max(&self) -> u32 {
        let share_max = self.outlier.as_ref().map_or(0, |outlier| outlier.share_max.min(100));
        (u64::from(self.size).saturating_mul(u64::from(share_max)) / 100) as u32
    }

    /// Endpoints that are not to be used.
    pub fn unusable(&self) -> u32 {
        self.counts.unusable.load(Relaxed).min(self.size)
    }

    /// Grows whenever one of them does otherwise than before.
    pub(crate) fn changes(&self) -> u32 {
        self.counts.changes.load(Relaxed)
    }

    /// Takes a place among those that are left out, if the conf allows one more.
    fn take_place(&self) -> bool {
        let most = self.counts.out_max.load(Relaxed);
        let more = |out: u32| (out < most).then_some(out.saturating_add(1));
        self.counts.out.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_place(&self) {
        let _ = self.counts.out.fetch_update(Relaxed, Relaxed, |out| out.checked_sub(1));
    }

    /// Follows on the crowd of the last snapshot, of which `gone` left and `healths` are here now. Brings back those first
    /// whose time is over first, where fewer may be left out than are.
    pub(crate) fn inherit(&mut self, last: &Self, gone: &[&Health], healths: &[Arc<Health>], now: Tick) {
        self.counts = Arc::clone(&last.counts);
        self.counts.out_max.store(self.out_max(), Relaxed);
        for health in gone {
            health.leaves(self);
        }
        let mut out: Vec<&Arc<Health>> = healths.iter().filter(|health| health.is(OUT)).collect();
        out.sort_by_key(|health| health.out_until.load(Relaxed));
        let surplus = out.len().saturating_sub(self.out_max() as usize);
        for health in out.iter().take(surplus) {
            health.readmit(self, now);
        }
    }
}

/// What all workers know together of one endpoint.
#[derive(Debug, Default)]
pub struct Health {
    /// Failures in a row.
    failures: AtomicU32,
    /// Left out until then; 0: it is not. Later than that it is on trial.
    out_until: AtomicU64,
    /// Times in a row it was left out.
    ejections: AtomicU32,
    /// When the call on trial began; 0: there is none.
    trial: AtomicU64,
    /// What health checks say.
    probed: AtomicU8,
    /// Why it is not used: `OUT`, `ILL`, `GONE`. One that is both counts once, or an endpoint of two would look like all of them.
    wrongs: AtomicU8,
    /// Since when it has been used; 0: always.
    since: AtomicU64,
    /// How long it takes to its full share by its own account, in nanoseconds; 0: it has it at once.
    warm_up: AtomicU64,
}

/// What health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Probed {
    /// Nothing yet, or there are none: it is used.
    Unknown,
    /// It is well.
    Well,
    /// It is ill, and not used.
    Ill,
}

/// It is left out.
const OUT: u8 = 1;
/// Health checks found it ill.
const ILL: u8 = 2;
/// The newest snapshot does not have it: it counts no more, whatever late calls still say of it.
const GONE: u8 = 4;

/// A trial that took this long is forgotten: its caller may have left.
const TRIAL_MAX: Duration = Duration::from_secs(5);

impl Health {
    /// Whether it may be used now; on trial: whether nobody is trying.
    pub fn is_usable(&self, now: Tick) -> bool {
        if self.is_ill() {
            return false;
        }
        let until = self.out_until.load(Relaxed);
        until == 0 || (now.0 >= until && self.trial_is_free(now))
    }

    fn trial_is_free(&self, now: Tick) -> bool {
        let trial = self.trial.load(Relaxed);
        trial == 0 || now.since(Tick(trial)) >= TRIAL_MAX
    }

    /// Whether it was left out, and the next call shows whether it still has to be.
    pub(crate) fn is_on_trial(&self, now: Tick) -> bool {
        let until = self.out_until.load(Relaxed);
        until != 0 && now.0 >= until
    }

    /// When it came back, if it was ever left out or ill.
    pub(crate) fn back_at(&self) -> Option<Tick> {
        let since = self.since.load(Relaxed);
        (since != 0).then_some(Tick(since))
    }

    /// It was picked: if it is on trial, this is the call.
    pub(crate) fn picked(&self, now: Tick) {
        if self.out_until.load(Relaxed) != 0 {
            self.trial.store(now.0.max(1), Relaxed);
        }
    }

    /// A call went well.
    pub(crate) fn worked(&self, crowd: &Crowd, now: Tick) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        let until = self.out_until.load(Relaxed);
        // A late answer of a call from before it was left out is no trial.
        if until != 0 && now.0 >= until && self.out_until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok()
        {
            self.is_right(OUT, crowd);
            self.trial.store(0, Relaxed);
            self.since.store(now.0.max(1), Relaxed);
        } else if until == 0 && self.ejections.load(Relaxed) != 0 {
            self.forgive(now);
        }
    }

    /// Who has been used long enough since it came back begins anew.
    fn forgive(&self, now: Tick) {
        if now.since(Tick(self.since.load(Relaxed))) >= FORGIVEN_AFTER {
            self.ejections.store(0, Relaxed);
        }
    }

    /// A call failed.
    pub(crate) fn failed(&self, crowd: &Crowd, now: Tick) {
        let Some(outlier) = &crowd.outlier else { return };
        let until = self.out_until.load(Relaxed);
        if until != 0 {
            // The call on trial failed: out again, for longer.
            if now.0 >= until && self.trial.swap(0, Relaxed) != 0 {
                self.out_until.store(self.next_end(outlier, now), Relaxed);
            }
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if outlier.consecutive > 0 && failures >= outlier.consecutive {
            self.eject(crowd, now);
        }
    }

    /// Leaves it out, if one more may be.
    pub fn eject(&self, crowd: &Crowd, now: Tick) {
        let Some(outlier) = &crowd.outlier else { return };
        if self.out_until.load(Relaxed) != 0 || !crowd.take_place() {
            return;
        }
        let end = self.next_end(outlier, now);
        if self.out_until.compare_exchange(0, end, Relaxed, Relaxed).is_ok() {
            self.is_wrong(OUT, crowd);
        } else {
            crowd.give_place();
        }
        self.failures.store(0, Relaxed);
    }

    /// Ends its being left out, and forgets that it was.
    fn readmit(&self, crowd: &Crowd, now: Tick) {
        if self.out_until.swap(0, Relaxed) != 0 {
            self.is_right(OUT, crowd);
            self.trial.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
            self.since.store(now.0.max(1), Relaxed);
        }
    }

    /// When it comes back if it is left out now.
    fn next_end(&self, outlier: &Outlier, now: Tick) -> u64 {
        let times = self.ejections.fetch_add(1, Relaxed).saturating_add(1);
        let long = outlier.ejection.saturating_mul(times).min(outlier.ejection_max.max(outlier.ejection));
        now.after(long).0.max(1)
    }

    /// A health check found it so.
    pub fn probed(&self, crowd: &Crowd, found: Probed, now: Tick) {
        let before = self.probed.swap(found as u8, Relaxed);
        let (was, is) = (before == Probed::Ill as u8, found == Probed::Ill);
        if is && !was {
            self.is_wrong(ILL, crowd);
        } else if was && !is {
            self.is_right(ILL, crowd);
            self.since.store(now.0.max(1), Relaxed);
        }
    }

    /// Counts that it is wrong for one more reason; who is left out has a place already.
    fn is_wrong(&self, why: u8, crowd: &Crowd) {
        crowd.counts.changes.fetch_add(1, Relaxed);
        let before = self.wrongs.fetch_or(why, Relaxed);
        if before == 0 {
            crowd.counts.unusable.fetch_add(1, Relaxed);
        } else if why == OUT && before & (GONE | OUT) != 0 {
            crowd.give_place();
        }
    }

    fn is_right(&self, why: u8, crowd: &Crowd) {
        crowd.counts.changes.fetch_add(1, Relaxed);
        let before = self.wrongs.fetch_and(!why, Relaxed);
        if before & GONE == 0 {
            Self::uncount(before & why, before & !why, crowd);
        }
    }

    /// The newest snapshot does not have it.
    fn leaves(&self, crowd: &Crowd) {
        let before = self.wrongs.fetch_or(GONE, Relaxed);
        if before & GONE == 0 {
            Self::uncount(before, 0, crowd);
        }
    }

    /// Some reasons why it was not used are no more, and others are `left`.
    fn uncount(ended: u8, left: u8, crowd: &Crowd) {
        if ended & OUT != 0 {
            crowd.give_place();
        }
        if ended != 0 && left == 0 {
            let less = |unusable: u32| unusable.checked_sub(1);
            let _ = crowd.counts.unusable.fetch_update(Relaxed, Relaxed, less);
        }
    }

    fn is(&self, why: u8) -> bool {
        self.wrongs.load(Relaxed) & why != 0
    }

    /// Whether health checks found it ill.
    pub fn is_ill(&self) -> bool {
        self.probed.load(Relaxed) == Probed::Ill as u8
    }

    /// How long it is still left out; `Some(0)`: on trial.
    pub fn out_for(&self, now: Tick) -> Option<Duration> {
        let until = self.out_until.load(Relaxed);
        (until != 0).then(|| Tick(until).since(now))
    }

    /// It is used from now on.
    pub(crate) fn begins(&self, now: Tick) {
        self.since.store(now.0.max(1), Relaxed);
    }

    /// It takes so long to its full share of calls by its own account.
    pub(crate) fn warms_up(&self, warm_up: Duration) {
        self.warm_up.store(u64::try_from(warm_up.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Its part of its full share of calls, in thousandths, where it grows over `window`, or over longer if it says so.
    pub(crate) fn share(&self, window: Duration, now: Tick) -> u64 {
        let since = self.since.load(Relaxed);
        let window = window.max(Duration::from_nanos(self.warm_up.load(Relaxed)));
        if since == 0 || window.is_zero() {
            return 1_000;
        }
        let used = now.since(Tick(since)).as_nanos().saturating_mul(1_000);
        // Never nothing: it has to be seen that it works.
        let share = used.checked_div(window.as_nanos()).unwrap_or(1_000).clamp(100, 1_000);
        share as u64
    }
}

/// What health checks found one after the other, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What follows.
    pub found: Probed,
    /// Good or bad ones in a row.
    row: u32,
    /// The last one was good.
    good: bool,
}

impl Default for Checked {
    fn default() -> Self {
        Self { found: Probed::Unknown, row: 0, good: false }
    }
}

impl Checked {
    /// Another check: `unhealthy` bad ones in a row make it ill, `healthy` good ones well again. Whether that changed
    /// anything.
    pub fn next(&mut self, good: bool, unhealthy: u32, healthy: u32) -> bool {
        self.row = if good == self.good { self.row.saturating_add(1) } else { 1 };
        self.good = good;
        let before = self.found;
        self.found = match (before, good) {
            (Probed::Unknown, true) => Probed::Well,
            (Probed::Ill, true) if self.row >= healthy => Probed::Well,
            (_, false) if self.row >= unhealthy => Probed::Ill,
            _ => before,
        };
        self.found != before
    }

    /// It is asked otherwise from now on: what was found stays until that says something else.
    pub fn anew(&mut self) {
        self.row = 0;
    }
}

/// Who has been used for this long since it came back is not left out for longer the next time.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// What an endpoint did in an interval, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// Calls that went well.
    pub good: u64,
    /// Calls that failed.
    pub bad: u64,
    /// Those of both whose answer came, and was timed.
    pub timed: u64,
    /// Time that the timed ones took, added up.
    pub took: Duration,
}

/// Which of these endpoints do worse than the others by so much that they are to be left out. At least three must have
/// had enough calls: of two nobody knows which is the odd one.
pub fn odd_ones(outlier: &Outlier, doings: &[Doing]) -> Vec<usize> {
    let enough = |doing: &Doing| doing.good.saturating_add(doing.bad) >= outlier.calls_min.max(1);
    let compared: Vec<(usize, &Doing)> =
        doings.iter().enumerate().filter(|(_, doing)| enough(doing)).collect();
    if compared.len() < 3 {
        return Vec::new();
    }
    let rate = |doing: &Doing| doing.good as f64 / (doing.good.saturating_add(doing.bad)) as f64;
    let rates: Vec<f64> = compared.iter().map(|(_, doing)| rate(doing)).collect();
    let (sum, squares) = rates.iter().fold((0.0, 0.0), |(sum, squares), r| (sum + r, squares + r * r));
    // Among the others only: one of three is never more than 1.42 deviations away from a mean that it is part of.
    let others = (compared.len() as f64) - 1.0;
    let worse = |own: f64| {
        let mean = (sum - own) / others;
        let spread = ((squares - own * own) / others - mean * mean).max(0.0).sqrt();
        // What deviates by less than this is the same.
        outlier.deviation > 0
            && own < mean - spread * f64::from(outlier.deviation) / 100.0
            && mean - own > 0.05
    };
    let latency = |doing: &Doing| doing.took.as_secs_f64() / doing.timed.max(1) as f64;
    let mut latencies: Vec<f64> = compared.iter().map(|(_, doing)| latency(doing)).collect();
    latencies.sort_by(f64::total_cmp);
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or(0.0);
    let slow = |doing: &Doing| {
        outlier.slower > 0 && doing.good > 0 && latency(doing) > median * f64::from(outlier.slower)
    };
    let odd = compared.iter().zip(&rates).filter(|((_, doing), rate)| worse(**rate) || slow(doing));
    odd.map(|((at, _), _)| *at).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // tests fail by panicking
mod tests {
    use super::*;

    fn crowd(size: u32, share_max: u32) -> Crowd {
        let outlier = Outlier { share_max, ..Outlier::default() };
        Crowd::new(size, Some(outlier))
    }

    fn at(seconds: u64) -> Tick {
        Tick(1_000_000_000 * seconds)
    }

    #[test]
    fn who_fails_in_a_row_is_left_out_and_comes_back_by_one_call() {
        let (crowd, health) = (crowd(4, 50), Health::default());
        (0..4).for_each(|_| health.failed(&crowd, at(1)));
        health.worked(&crowd, at(1));
        (0..4).for_each(|_| health.failed(&crowd, at(1)));
        assert!(health.is_usable(at(1)) && crowd.unusable() == 0, "a good answer begins the row anew");
        health.failed(&crowd, at(1));
        assert!(!health.is_usable(at(10)) && crowd.unusable() == 1);
        health.worked(&crowd, at(2));
        assert!(!health.is_usable(at(2)), "late answers are no trial");
        assert!(health.is_usable(at(11)));
        health.picked(at(11));
        assert!(!health.is_usable(at(12)), "one at a time");
        assert!(health.is_usable(at(17)), "a trial that never ends is forgotten");
        health.failed(&crowd, at(12));
        assert!(!health.is_usable(at(31)) && health.is_usable(at(32)), "out again, for twice as long");
        health.picked(at(32));
        health.worked(&crowd, at(33));
        assert!(health.is_usable(at(33)) && crowd.unusable() == 0);
        assert_eq!(
            (health.share(Duration::from_secs(10), at(38)), health.share(Duration::ZERO, at(38))),
            (500, 1_000)
        );
    }

    #[test]
    fn never_more_than_the_share_is_left_out() {
        for (size, share_max, most) in [(1, 50, 0), (2, 50, 1), (5, 50, 2), (10, 0, 0), (3, 100, 3)] {
            let crowd = crowd(size, share_max);
            let healths: Vec<Health> = (0..size).map(|_| Health::default()).collect();
            for health in &healths {
                (0..20).for_each(|_| health.failed(&crowd, at(1)));
            }
            assert_eq!(crowd.unusable(), most, "{size} {share_max}");
            assert_eq!(healths.iter().filter(|health| !health.is_usable(at(1))).count() as u32, most);
        }
    }

    #[test]
    fn what_checks_find_counts_at_once() {
        let (crowd, health) = (crowd(2, 50), Health::default());
        health.probed(&crowd, Probed::Ill, at(1));
        health.probed(&crowd, Probed::Ill, at(2));
        assert!(!health.is_usable(at(2)) && crowd.unusable() == 1);
        health.probed(&crowd, Probed::Well, at(3));
        assert!(health.is_usable(at(3)) && crowd.unusable() == 0);
    }

    #[test]
    fn who_is_ill_and_left_out_counts_once() {
        let (crowd, healths) = (crowd(2, 50), [Health::default(), Health::default()]);
        for order in [[true, false], [false, true]] {
            (0..5).for_each(|_| healths[0].failed(&crowd, at(1)));
            healths[0].probed(&crowd, Probed::Ill, at(1));
            assert_eq!(crowd.unusable(), 1);
            for checks in order {
                assert_eq!(crowd.unusable(), 1);
                if checks {
                    healths[0].probed(&crowd, Probed::Well, at(50));
                } else {
                    healths[0].worked(&crowd, at(500));
                }
            }
            assert_eq!(crowd.unusable(), 0);
        }
    }

    #[test]
    fn checks_in_a_row_make_one_ill_and_well_again() {
        let mut checked = Checked::default();
        let mut tell = |checks: &str| -> Vec<Probed> {
            let each = |check: char| {
                let changed = checked.next(check == '+', 3, 2);
                changed.then_some(checked.found)
            };
            checks.chars().filter_map(each).collect()
        };
        assert_eq!(tell("--"), [], "two bad ones are not enough");
        assert_eq!(tell("+"), [Probed::Well], "nothing was known: the first good one tells");
        assert_eq!(tell("--+--+"), [], "a good one begins the row anew");
        assert_eq!(tell("---"), [Probed::Ill]);
        assert_eq!(tell("----+-+-"), [], "a bad one begins the row anew");
        assert_eq!(tell("++"), [Probed::Well]);
        assert_eq!(tell("+++++--"), []);
        checked.anew();
        let mut again = || checked.next(false, 3, 2);
        assert_eq!([again(), again(), again()], [false, false, true], "what was asked before does not count");
        let mut never_known = Checked::default();
        assert!(never_known.next(false, 1, 1) && never_known.found == Probed::Ill);
        assert!(never_known.next(true, 1, 1) && never_known.found == Probed::Well);
    }

    #[test]
    fn who_is_left_out_comes_back_when_nobody_is_to_be_left_out_any_more() {
        use crate::{Balance, Cluster, ClusterSettings, Endpoint};
        let cluster = |outlier| {
            let endpoints = ["a:1", "b:1"].map(|address| Endpoint::new(address, 1)).to_vec();
            let settings = ClusterSettings { outlier, ..ClusterSettings::default() };
            Cluster::new("c", Balance::RoundRobin, settings, endpoints)
        };
        let before = cluster(Some(Outlier::default()));
        (0..5).for_each(|_| before.healths[0].failed(&before.crowd, at(1)));
        let mut same = cluster(Some(Outlier::default()));
        same.inherit(&before, at(2));
        assert!(!same.healths[0].is_usable(at(2)) && same.crowd.unusable() == 1);
        let mut without = cluster(None);
        without.inherit(&same, at(3));
        assert!(without.healths[0].is_usable(at(3)) && without.crowd.unusable() == 0);
    }

    fn cluster_of(addresses: &[&str], outlier: Outlier) -> crate::Cluster {
        let endpoints = addresses.iter().map(|address| crate::Endpoint::new(address, 1)).collect();
        let settings = crate::ClusterSettings { outlier: Some(outlier), ..crate::ClusterSettings::default() };
        crate::Cluster::new("c", crate::Balance::RoundRobin, settings, endpoints)
    }

    fn fail(cluster: &crate::Cluster, at_position: usize, now: Tick) {
        (0..5).for_each(|_| cluster.healths[at_position].failed(&cluster.crowd, now));
    }

    #[test]
    fn what_a_worker_with_the_last_snapshot_finds_is_counted_in_the_new_one() {
        let before = cluster_of(&["a:1", "b:1", "c:1", "d:1"], Outlier::default());
        fail(&before, 0, at(1));
        fail(&before, 3, at(1));
        let mut after = cluster_of(&["a:1", "b:1", "c:1"], Outlier::default());
        after.inherit(&before, at(2));
        assert_eq!(after.crowd.unusable(), 1, "who left counts no more");
        before.healths[3].worked(&before.crowd, at(20));
        assert_eq!(after.crowd.unusable(), 1, "nor does what is heard of it later");
        fail(&before, 3, at(21));
        before.healths[0].worked(&before.crowd, at(20));
        assert_eq!(after.crowd.unusable(), 0);
        fail(&before, 1, at(20));
        assert_eq!(after.crowd.unusable(), 1);
        fail(&after, 2, at(20));
        assert_eq!(after.crowd.unusable(), 1, "one of three");
        assert!(!after.healths[1].is_usable(at(20)) && after.healths[2].is_usable(at(20)));
    }

    #[test]
    fn who_is_left_out_comes_back_when_fewer_may_be() {
        let all = ["a:1", "b:1", "c:1", "d:1"];
        let before = cluster_of(&all, Outlier::default());
        fail(&before, 1, at(1));
        fail(&before, 0, at(2));
        let mut fewer = cluster_of(&all[..2], Outlier::default());
        fewer.inherit(&before, at(3));
        assert!(fewer.healths[1].is_usable(at(3)), "whose time is over first");
        assert!(!fewer.healths[0].is_usable(at(3)) && fewer.crowd.unusable() == 1);
        let mut stricter = cluster_of(&all[..2], Outlier { share_max: 20, ..Outlier::default() });
        stricter.inherit(&fewer, at(3));
        assert!(stricter.healths[0].is_usable(at(3)) && stricter.crowd.unusable() == 0);
        fail(&fewer, 1, at(3));
        assert_eq!(stricter.crowd.unusable(), 0, "the newest rule is everybody's");
    }

    #[test]
    fn the_odd_one_is_found_by_its_failures_or_its_slowness() {
        let fine = Doing { good: 1_000, bad: 2, timed: 1_002, took: Duration::from_secs(2) };
        let failing = Doing { good: 700, bad: 300, ..fine };
        let slow = Doing { took: Duration::from_secs(20), ..fine };
        let few = Doing { good: 1, bad: 9, ..fine };
        let outlier = Outlier { slower: 3, ..Outlier::default() };
        assert_eq!(odd_ones(&outlier, &[fine, fine, failing, fine, few]), [2]);
        assert_eq!(odd_ones(&outlier, &[failing, fine, fine]), [0]);
        assert_eq!(odd_ones(&outlier, &[slow, fine, fine, fine]), [0]);
        assert!(odd_ones(&outlier, &[fine, failing]).is_empty(), "of two nobody knows");
        let nearly = Doing { good: 990, bad: 12, ..fine };
        assert!(odd_ones(&outlier, &[fine, fine, fine, fine, nearly]).is_empty());
        // Four of five answers say that it is busy, as fast as the others answer well: that is not slow.
        let only_slow = Outlier { deviation: 0, ..outlier };
        let busy = Doing { good: 200, bad: 800, timed: 1_000, took: Duration::from_secs(1) };
        assert!(odd_ones(&only_slow, &[fine, fine, fine, busy]).is_empty());
    }
}
