//! What the conf means for bridges: from where to where, what, under which names, and who of several writes.
//!
//! What cannot work is refused here: a bridge into itself, into a file, or one of which nobody could tell who writes.

use std::{collections::BTreeMap, time::Duration};

use outrigger_core::Pattern;
use outrigger_discovery::{Framework, Level};

use super::{
    super::{bridges as written, registries::Registry, report::quote, units, yaml::At},
    Lowering, RegistryPlan,
};

#[cfg(test)]
mod tests;

/// Services of one registry that are carried into another.
#[derive(Clone, Debug)]
pub struct BridgePlan {
    /// Its name in the conf, which the seat of its writer bears too.
    pub name: String,
    /// The registry that they are found in.
    pub from: String,
    /// The registry that they are made known in.
    pub to: String,
    /// Which, by their names.
    pub services: Pattern,
    /// Whose they are where they are found.
    pub framework: Framework,
    /// Only instances that speak this.
    pub protocol: Option<String>,
    /// Whose they are where they are made known.
    pub written_as: Framework,
    /// Names that are others there.
    pub rename: BTreeMap<String, String>,
    /// The application whose they are there; `None`: that which instances name.
    pub app: Option<String>,
    /// Where services of Dubbo are made known.
    pub level: Level,
    /// What is told of each instance besides.
    pub metadata: BTreeMap<String, String>,
    /// How often an instance may be carried.
    pub hops_max: u32,
    /// The registry that tells who writes; `None`: this process does.
    pub election: Option<String>,
    /// How long a writer may not be heard of.
    pub patience: Duration,
    /// Instances written in a second.
    pub writes_max: u32,
    /// How long a service that is suddenly empty keeps those it had.
    pub hold: Duration,
    /// What was written: a plan that says the same is the same.
    said: String,
}

impl PartialEq for BridgePlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.said, self.hold) == (&other.name, &other.said, other.hold)
    }
}

/// Bounds of `patience`.
const PATIENCE: std::ops::RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(60);

impl Lowering<'_> {
    /// The bridges by name.
    pub(super) fn bridges(
        &mut self,
        at: At<'_>,
        registries: &BTreeMap<String, RegistryPlan>,
    ) -> Vec<BridgePlan> {
        let conf = self.conf;
        for (name, bridge) in &conf.bridges {
            let place = |name: &str| registries.get(name).map(RegistryPlan::place);
            let (from, to) = (place(&bridge.from), place(&bridge.to));
            if bridge.from != bridge.to && from.is_some() && from == to {
                let problem = at.key(name).key("to").problem(format!(
                    "{} is the same place as {}",
                    quote(&bridge.to),
                    quote(&bridge.from)
                ));
                self.problems.push(problem.with_help("a bridge leads from one registry to another"));
            }
        }
        conf.bridges.iter().filter_map(|(name, bridge)| self.bridge(at.key(name), name, bridge)).collect()
    }

    fn bridge(&mut self, at: At<'_>, name: &str, written: &written::Bridge) -> Option<BridgePlan> {
        let told = self.problems.len();
        self.bridge_ends(at, written);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            let problem = at.problem(format!("{} cannot be the name of a bridge", quote(name)));
            self.problems.push(problem.with_help("letters, digits, `-`, `_` and `.`"));
        }
        let services = match &written.services {
            Some(test) => self.pattern(at.key("services"), test),
            None => Some(Pattern::Present(true)),
        };
        for (from, to) in &written.rename {
            if to.trim().is_empty() {
                self.problems.push(at.key("rename").key(from).problem("expected the name of a service"));
            }
        }
        if !(1..=16).contains(&written.hops_max) {
            self.problems.push(at.key("hops_max").problem("expected 1 to 16"));
        }
        if written.writes_max == 0 {
            self.problems.push(at.key("writes_max").problem("expected at least 1"));
        }
        self.patience(at.key("patience"), written);
        let written_as = written.written_as.unwrap_or(written.framework);
        if at.has("level") && written_as != super::super::registries::Framework::Dubbo {
            self.problems.push(at.key("level").problem("only services of Dubbo have a level"));
        }
        let election = self.seat_of(at, written);
        if self.problems.len() > told {
            return None;
        }
        let hold = written.hold_empty.map(units::Duration::get);
        let hold = hold.or_else(|| self.conf.registries.get(&written.from).map(Registry::hold_empty));
        Some(BridgePlan {
            name: name.to_owned(),
            from: written.from.clone(),
            to: written.to.clone(),
            services: services?,
            framework: written.framework.get(),
            protocol: written.protocol.clone(),
            written_as: written_as.get(),
            rename: written.rename.clone(),
            app: written.app.clone(),
            level: written.level.get(),
            metadata: written.metadata.clone(),
            hops_max: u32::from(written.hops_max),
            election,
            patience: written.patience.get(),
            writes_max: written.writes_max,
            hold: hold.unwrap_or_default(),
            said: format!("{written:?}"),
        })
    }

    /// Whoever follows a writer that died has to be there before what that one registered goes.
    fn patience(&mut self, at: At<'_>, written: &written::Bridge) {
        let patience = written.patience.get();
        if !PATIENCE.contains(&patience) {
            self.problems.push(at.problem("expected 3s to 1m"));
            return;
        }
        let stays = self.conf.registries.get(&written.to).and_then(Registry::lingers);
        let elects = written.election.as_deref() != Some("off");
        if let Some(stays) = stays.filter(|stays| elects && patience * 2 > *stays) {
            let problem =
                at.problem("what a writer that died has registered would go before another one is there");
            let help = format!(
                "at most half of the `session_timeout` of {}, which is {}s",
                quote(&written.to),
                stays.as_secs()
            );
            self.problems.push(problem.with_help(help));
        }
    }

    fn bridge_ends(&mut self, at: At<'_>, written: &written::Bridge) {
        self.registry_named(at.key("from"), &written.from);
        self.registry_named(at.key("to"), &written.to);
        if written.from == written.to {
            self.problems.push(at.key("to").problem("a bridge leads from one registry to another"));
        }
        if matches!(self.conf.registries.get(&written.to), Some(Registry::File(_))) {
            self.problems.push(at.key("to").problem("nothing can be registered in a file"));
        }
    }

    /// The registry that tells who of several writes.
    fn seat_of(&mut self, at: At<'_>, written: &written::Bridge) -> Option<String> {
        let can = |name: &str| self.conf.registries.get(name).is_some_and(Registry::elects);
        match written.election.as_deref() {
            Some("off") => None,
            Some(name) => {
                let able = can(name);
                let known = self.conf.registries.contains_key(name);
                self.registry_named(at.key("election"), name);
                if known && !able {
                    let problem =
                        at.key("election").problem(format!("{} cannot tell who writes", quote(name)));
                    self.problems.push(problem.with_help("ZooKeeper, etcd and Kubernetes can"));
                }
                Some(name.to_owned())
            }
            None => {
                let found = [&written.to, &written.from].into_iter().find(|name| can(name)).cloned();
                let known = |name: &String| self.conf.registries.contains_key(name);
                if found.is_none() && known(&written.to) && known(&written.from) {
                    let problem = at.problem("neither registry can tell which of several sidecars writes");
                    let help = "name one that can as `election` (ZooKeeper, etcd, Kubernetes), or write `election: off` and run \
                                this bridge in one sidecar only";
                    self.problems.push(problem.with_help(help));
                }
                found
            }
        }
    }
}
