//! What the conf means for clusters: how their endpoints are reached, picked, and left alone.

use outrigger_core as core;
use outrigger_core::{ClusterSettings, HashBy, Outlier};

use super::{
    super::{
        file,
        report::{listing, quote},
        units,
        yaml::At,
    },
    ClusterPlan, Lowering, Source, wire,
};
use crate::plugins::{exchanges, names};

impl Lowering<'_> {
    /// A cluster: how its endpoints are reached, and where they come from.
    pub(super) fn cluster(&mut self, at: At<'_>, name: &str, cluster: &file::Cluster) -> ClusterPlan {
        if cluster.connections.is_some_and(|most| most == 0 || most > 65_536) {
            self.problems.push(at.key("connections").problem("expected 1 to 65536 connections"));
        }
        let speaks = cluster.protocol.as_deref().and_then(wire);
        if let Some(written) = cluster.protocol.as_deref().filter(|_| speaks.is_none()) {
            let known: Vec<&str> = names().filter(|name| exchanges(name)).collect();
            let message =
                format!("calls cannot be translated into {}, only into {}", quote(written), listing(&known));
            self.push_near(at.key("protocol"), message, written, known.iter().copied());
        }
        if cluster.pending_max == 0 {
            self.problems.push(at.key("pending_max").problem("expected at least 1"));
        }
        if cluster.connect_timeout.get().is_zero() {
            self.problems.push(at.key("connect_timeout").problem("expected a time above 0s"));
        }
        let source = match (&cluster.endpoints, &cluster.discover) {
            (Some(endpoints), None) => Source::Fixed(self.endpoints(at.key("endpoints"), endpoints)),
            (None, Some(discover)) => self.discover(at.key("discover"), cluster, discover),
            (Some(_), Some(_)) => {
                self.problems.push(
                    at.key("discover").problem("a cluster has either `endpoints` or `discover`, not both"),
                );
                Source::Fixed(Vec::new())
            }
            (None, None) => {
                let problem = at.problem("a cluster needs `endpoints` or `discover`");
                self.problems.push(problem.with_help("as in `endpoints: [127.0.0.1:12201]`"));
                Source::Fixed(Vec::new())
            }
        };
        self.with_source(at, name, cluster, source)
    }

    /// A cluster whose endpoints come from there.
    pub(super) fn with_source(
        &mut self,
        at: At<'_>,
        name: &str,
        cluster: &file::Cluster,
        source: Source,
    ) -> ClusterPlan {
        let speaks = cluster.protocol.as_deref().and_then(wire);
        let balance = match cluster.balance {
            file::Balance::RoundRobin => core::Balance::RoundRobin,
            file::Balance::Random => core::Balance::Random,
            file::Balance::LeastRequest => core::Balance::LeastRequest,
            file::Balance::P2cEwma => core::Balance::P2cEwma,
            file::Balance::RingHash => core::Balance::RingHash,
            file::Balance::Maglev => core::Balance::Maglev,
        };
        let hash = self.hash(at, cluster);
        let outlier = self.outlier(at.key("outlier"), &cluster.outlier);
        let settings = ClusterSettings {
            connections: cluster.connections,
            connect_timeout: cluster.connect_timeout.get(),
            idle_timeout: cluster.idle_timeout.map(units::Duration::get),
            max_age: cluster.max_age.map(units::Duration::get),
            pending_max: cluster.pending_max,
            outlier,
            slow_start: cluster.slow_start.map(units::Duration::get).unwrap_or_default(),
            panic: cluster.panic.get(),
            hash,
            division: self.division(at, cluster),
            retries: (cluster.retry_budget.share.get(), cluster.retry_budget.floor),
            speaks,
        };
        let health = self.health(at.key("health"), cluster);
        ClusterPlan { name: name.to_owned(), balance, settings, source, health, used: None }
    }

    /// What calls are told apart by; wanted by two balances, and of use to no other.
    fn hash(&mut self, at: At<'_>, cluster: &file::Cluster) -> Option<HashBy> {
        let by_key = matches!(cluster.balance, file::Balance::RingHash | file::Balance::Maglev);
        match (&cluster.hash, by_key) {
            (None, true) => {
                let problem = at.key("balance").problem("what calls are told apart by is not said");
                self.problems
                    .push(problem.with_help("as in `hash: { header: x-user }`, or cookie, source, path"));
            }
            (Some(_), false) => {
                let problem = at.key("hash").problem("only `ring_hash` and `maglev` tell calls apart");
                self.problems.push(problem.with_help("leave it out, or write `balance: maglev`"));
            }
            _ => {}
        }
        Some(match cluster.hash.as_ref()? {
            file::HashBy::Header(name) => HashBy::Header(name.as_bytes().into()),
            file::HashBy::Cookie(name) => HashBy::Cookie(name.as_bytes().into()),
            file::HashBy::Source => HashBy::Source,
            file::HashBy::Path => HashBy::Path,
        })
    }

    /// When an endpoint is left alone; `None`: never.
    fn outlier(&mut self, at: At<'_>, outlier: &file::Outlier) -> Option<Outlier> {
        for (key, time) in [("ejection", outlier.ejection), ("interval", outlier.interval)] {
            if time.get().is_zero() {
                self.problems.push(at.key(key).problem("expected a time above 0s"));
            }
        }
        if outlier.slower.is_some_and(|times| times < 2) {
            self.problems.push(at.key("slower").problem("expected at least 2 times the median"));
        }
        (outlier.share_max.get() > 0).then(|| Outlier {
            consecutive: outlier.consecutive,
            ejection: outlier.ejection.get(),
            ejection_max: outlier.ejection_max.get(),
            share_max: outlier.share_max.get(),
            interval: outlier.interval.get(),
            calls_min: outlier.calls_min.into(),
            deviation: if outlier.success_rate { 190 } else { 0 },
            slower: outlier.slower.unwrap_or(0),
        })
    }
}
