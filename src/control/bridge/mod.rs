//! Bridges: services of one registry, carried into another, by one sidecar of several.
//!
//! One task a bridge. What it may write is decided by [`role`], what an entry is there by [`carry`], what of a service shall stand
//! there by [`service`], how fast by [`pace`]; [`carrier`] does it, and tells the target by [`group`]. A bridge must never take trouble of its source for an empty one, nor carry a copy home, nor write while
//! another does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use outrigger_discovery::Registry;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::discover::Discovery;
use crate::{
    conf::lower::{BridgePlan, Plan, RegistryPlan},
    telemetry::BridgeFacts,
};

pub mod carrier;
pub mod carry;
pub mod group;
pub mod pace;
pub mod role;
pub mod service;
#[cfg(test)]
mod tests;

use carry::Carry;

use carrier::{Carrier, Ends, Order};

/// The bridges that are run.
#[derive(Debug, Default)]
pub struct Bridges {
    running: BTreeMap<String, Running>,
}

struct Running {
    plan: BridgePlan,
    registries: Vec<Arc<dyn Registry>>,
    orders: mpsc::UnboundedSender<Order>,
    facts: watch::Receiver<BridgeFacts>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Running").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Bridges {
    /// Runs the bridges of a plan, and no others, between registries that are connected to already.
    pub fn follow(&mut self, plan: &Plan, discovery: &Discovery) {
        let mut before = std::mem::take(&mut self.running);
        for bridge in &plan.bridges {
            let Some((ends, registries)) = ends(plan, bridge, discovery) else { continue };
            let running = match before.remove(&bridge.name) {
                Some(running) if running.is_between(&registries) => running.go_on(bridge, ends),
                other => {
                    // Between other registries it is another bridge, to which this one is left.
                    if let Some(other) = other {
                        let _ = other.orders.send(Order::Leave);
                    }
                    Running::begin(bridge.clone(), ends, registries)
                }
            };
            self.running.insert(bridge.name.clone(), running);
        }
        for gone in before.into_values() {
            let _ = gone.orders.send(Order::Leave);
        }
    }

    /// Leaves all of them to others, if there are any. What stands there stays for a while.
    pub fn leave(&self) {
        for running in self.running.values() {
            let _ = running.orders.send(Order::Leave);
        }
    }

    /// The registries, by name, in which entries have still to be taken over by others.
    pub fn lingering(&self) -> BTreeSet<&str> {
        let lingers = |running: &&Running| running.registries.get(1).is_some_and(|target| target.lingers());
        self.running.values().filter(lingers).map(|running| running.plan.to.as_str()).collect()
    }

    /// How they do, by name.
    pub fn facts(&self) -> BTreeMap<String, BridgeFacts> {
        let facts = |running: &Running| {
            let mut facts = running.facts.borrow().clone();
            if running.task.is_finished() {
                facts.trouble = Some("the bridge ended by a fault of its own".to_owned());
            }
            facts
        };
        self.running.iter().map(|(name, running)| (name.clone(), facts(running))).collect()
    }
}

impl Running {
    fn begin(plan: BridgePlan, ends: Ends, registries: Vec<Arc<dyn Registry>>) -> Self {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (tell, facts) = watch::channel(BridgeFacts::default());
        tracing::info!(bridge = plan.name, from = plan.from, to = plan.to, "services are carried");
        let carrier = Carrier::new(plan.clone(), ends, tell);
        let task = tokio::spawn(carrier.run(ordered));
        Self { plan, registries, orders, facts, task }
    }

    fn is_between(&self, registries: &[Arc<dyn Registry>]) -> bool {
        let mut pairs = self.registries.iter().zip(registries);
        self.registries.len() == registries.len() && pairs.all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Goes on by a plan, which may be another one.
    fn go_on(self, plan: &BridgePlan, ends: Ends) -> Self {
        if self.plan == *plan {
            return self;
        }
        let _ = self.orders.send(Order::Plan(Box::new((plan.clone(), ends.carry))));
        Self { plan: plan.clone(), ..self }
    }
}

/// What instances are by a bridge of a plan; `None`: it leads nowhere.
pub fn carry_of(plan: &Plan, bridge: &BridgePlan) -> Option<Carry> {
    let place = |name: &str| plan.registries.get(name).map(RegistryPlan::place);
    Some(Carry::new(bridge.clone(), plan.app.clone(), place(&bridge.from)?, place(&bridge.to)?))
}

/// What a bridge stands between; `None`: a registry of it is not connected to, as this build has none of its kind.
fn ends(plan: &Plan, bridge: &BridgePlan, discovery: &Discovery) -> Option<(Ends, Vec<Arc<dyn Registry>>)> {
    let (source, target) = (discovery.registry(&bridge.from)?, discovery.registry(&bridge.to)?);
    let election = bridge.election.as_ref().map(|name| discovery.registry(name));
    let ends = Ends {
        carry: carry_of(plan, bridge)?,
        source: Arc::clone(source),
        target: Arc::clone(target),
        election: match election {
            Some(registry) => Some(Arc::clone(registry?)),
            None => None,
        },
    };
    let registries = [Some(source), Some(target), ends.election.as_ref()];
    let registries = registries.into_iter().flatten().cloned().collect();
    Some((ends, registries))
}
