//! Registries → endpoints: one watch for each cluster that is discovered.
//!
//! A watch that goes on over a reload is kept, not started again. What a registry in trouble said last stays in
//! force; this only ever adds up what registries say, it never decides that an endpoint is well.

use std::collections::BTreeMap;

use outrigger_core::Endpoint;
use outrigger_discovery::{Event, Members, ServiceKey, Sink, Update};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    conf::lower::{Plan, RegistryPlan, Source},
    plugins,
};

/// Updates that wait to be heard; more make the registries wait.
const UPDATES_MAX: usize = 1_024;

/// The watches that run.
#[derive(Debug)]
pub struct Discovery {
    watches: BTreeMap<usize, Watch>,
    /// What each cluster had last: in force until a new watch of it has spoken.
    kept: BTreeMap<String, Vec<Endpoint>>,
    next: usize,
    sender: mpsc::Sender<Update>,
}

/// What an update amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing is different.
    Nothing,
    /// Some endpoints are others now.
    Change,
    /// The endpoints of a cluster are known for the first time: calls may be waiting for them.
    First,
}

#[derive(Debug)]
struct Watch {
    cluster: String,
    registry: RegistryPlan,
    key: ServiceKey,
    members: Members,
    task: AbortHandle,
}

impl Discovery {
    /// No watches yet; and where their news will come out.
    pub fn new() -> (Self, mpsc::Receiver<Update>) {
        let (sender, updates) = mpsc::channel(UPDATES_MAX);
        (Self { watches: BTreeMap::new(), kept: BTreeMap::new(), next: 0, sender }, updates)
    }

    /// Watches what a plan discovers, and nothing else.
    pub fn follow(&mut self, plan: &Plan) {
        let mut wanted: Vec<(String, RegistryPlan, ServiceKey)> = Vec::new();
        for cluster in &plan.clusters {
            let Source::Found { registry, service, version, group } = &cluster.source else { continue };
            let Some(registry) = plan.registries.get(registry) else { continue };
            let key = ServiceKey { service: service.clone(), group: group.clone(), version: version.clone() };
            wanted.push((cluster.name.clone(), registry.clone(), key));
        }
        self.watches.retain(|_, watch| {
            let same = |(cluster, registry, key): &(String, RegistryPlan, ServiceKey)| {
                *cluster == watch.cluster && *registry == watch.registry && *key == watch.key
            };
            match wanted.iter().position(same) {
                Some(at) => drop(wanted.swap_remove(at)),
                None => {
                    watch.task.abort();
                    return false;
                }
            }
            true
        });
        self.kept.retain(|name, _| {
            plan.clusters.iter().any(|c| c.name == *name && matches!(c.source, Source::Found { .. }))
        });
        for (cluster, registry, key) in wanted {
            let number = self.next;
            self.next += 1;
            let sink = Sink::new(number, self.sender.clone());
            let task = tokio::spawn(plugins::registry(&registry).watch(key.clone(), sink)).abort_handle();
            self.watches.insert(number, Watch { cluster, registry, key, members: Members::default(), task });
        }
    }

    /// Takes in what a registry said: whether that changes any endpoints.
    pub fn heard(&mut self, update: Update) -> Heard {
        // News of a watch that was ended a moment ago are nobody's.
        let Some(watch) = self.watches.get_mut(&update.watch) else { return Heard::Nothing };
        match &update.event {
            Event::Lost { reason } => {
                tracing::warn!(
                    cluster = watch.cluster,
                    "registry lost, its last word stays in force: {reason}"
                );
            }
            Event::Back => tracing::info!(cluster = watch.cluster, "registry is back"),
            Event::Full(_) | Event::Added(_) | Event::Removed(_) => {}
        }
        let first = !watch.members.is_known();
        if !watch.members.apply(update.event) {
            return Heard::Nothing;
        }
        let endpoint = |instance: &outrigger_discovery::Instance| {
            let said =
                instance.metadata.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
            Endpoint::new(&instance.address, instance.weight).saying(said.collect())
        };
        self.kept.insert(watch.cluster.clone(), watch.members.iter().map(endpoint).collect());
        if first { Heard::First } else { Heard::Change }
    }

    /// The endpoints found, by cluster.
    pub fn found(&self) -> &BTreeMap<String, Vec<Endpoint>> {
        &self.kept
    }

    /// A cluster whose registry has not said anything yet.
    pub fn unheard(&self) -> Option<&str> {
        self.watches.values().find(|watch| !watch.members.is_known()).map(|watch| watch.cluster.as_str())
    }

    /// Registries that cannot be asked just now: how many watches wait for them.
    pub fn lost(&self) -> usize {
        self.watches.values().filter(|watch| watch.members.lost().is_some()).count()
    }
}
