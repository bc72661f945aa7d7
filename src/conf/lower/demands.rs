//! What the conf means for routes that send each call to the service that it names: of which such clusters are made.
//!
//! Routes that ask for the same share their clusters.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use outrigger_core as core;
use outrigger_core::Awaited;
use outrigger_discovery::{Framework, ServiceKey};

use super::{
    super::{defaults, file, registries as written, report::quote, units, yaml::At},
    Carries, ClusterPlan, Lowering, Source,
};
use crate::plugins::exchanges;

/// Of which a route makes clusters on demand.
#[derive(Debug)]
pub struct DemandPlan {
    /// What the core knows of it.
    pub demand: Arc<core::Demand>,
    /// The registry that is asked.
    registry: String,
    framework: Framework,
    protocol: String,
    hold: Option<Duration>,
    /// What each of them is like, but for its name and source.
    like: ClusterPlan,
    /// The cluster of the conf that it was taken from.
    like_name: Option<String>,
}

impl DemandPlan {
    /// The cluster of a service that calls wait for.
    pub fn cluster(&self, awaited: &Awaited, used: Arc<AtomicU64>) -> ClusterPlan {
        // A call that names no version means those without one; SOFARPC knows none such.
        let part = |part: &Option<Box<str>>| Some(part.as_deref().unwrap_or_default().to_owned());
        let of_dubbo = self.framework == Framework::Dubbo;
        let named = |named: &Option<Box<str>>| named.as_deref().map(str::to_owned);
        let key = ServiceKey {
            service: awaited.service.to_string(),
            version: if of_dubbo { part(&awaited.version) } else { named(&awaited.version) },
            group: if of_dubbo { part(&awaited.group) } else { None },
            framework: self.framework,
            protocol: Some(self.protocol.clone()),
        };
        ClusterPlan {
            name: awaited.cluster.to_string(),
            balance: self.like.balance,
            settings: self.like.settings.clone(),
            source: Source::Found { registry: self.registry.clone(), key, hold: self.hold },
            health: self.like.health.clone(),
            used: Some(used),
        }
    }

    /// Whether services of a framework that speak this are among them.
    pub fn gives(&self, framework: Framework, protocol: &str) -> bool {
        self.framework == framework && self.protocol == protocol
    }

    /// Whose services they are.
    pub const fn framework(&self) -> Framework {
        self.framework
    }

    /// What each of them is like.
    pub const fn like(&self) -> &ClusterPlan {
        &self.like
    }

    /// In words, for people.
    pub fn words(&self) -> String {
        let Self { registry, framework, protocol, .. } = self;
        let by = if self.demand.by_authority { "authority" } else { "service" };
        format!(
            "the {framework} service that the call names by its {by}, as registry {registry} knows it, by {protocol}"
        )
    }
}

impl Lowering<'_> {
    /// Of which a route makes clusters on demand; `None`: of nothing.
    pub(super) fn demand(
        &mut self,
        at: At<'_>,
        route: &file::Route,
        (carries, spoken): (Carries, &[&'static str]),
    ) -> Option<Arc<core::Demand>> {
        let Some(written::To::Service(demand)) = &route.to else { return None };
        let at = at.key("service");
        let place = if at.has("registry") { at.key("registry") } else { at };
        self.registry_named(place, &demand.registry);
        if carries == Carries::Bytes {
            let problem = at.problem("a relayed connection names no service");
            self.problems.push(problem.with_help("name a cluster"));
        }
        if !route.subset.is_empty() {
            let problem = at.problem("services that calls name have no `subset`");
            self.problems.push(problem.with_help("name a cluster with `discover` instead"));
        }
        let framework = demand.framework.unwrap_or(match spoken {
            ["bolt"] => written::Framework::Sofarpc,
            _ => written::Framework::Dubbo,
        });
        let by_authority = matches!(framework, written::Framework::Spring | written::Framework::Plain);
        let only_http = !spoken.is_empty() && spoken.iter().all(|name| exchanges(name));
        if by_authority && carries == Carries::Calls {
            self.problems.push(at.problem("only calls of HTTP name a service by their authority"));
        }
        let protocol = demand.protocol.clone().unwrap_or_else(|| {
            let tri = only_http && framework == written::Framework::Dubbo;
            if tri { "tri" } else { framework.get().protocol() }.to_owned()
        });
        let like = self.like(at.key("like"), demand.like.as_deref())?;
        let (hold, like_name) = (demand.hold_empty.map(units::Duration::get), demand.like.clone());
        let same = |other: &&DemandPlan| {
            (&other.registry, other.framework, &other.protocol)
                == (&demand.registry, framework.get(), &protocol)
                && (other.hold, &other.like_name) == (hold, &like_name)
        };
        if let Some(known) = self.demands.iter().find(same) {
            return Some(Arc::clone(&known.demand));
        }
        let others = self.demands.iter().filter(|other| other.registry == demand.registry).count();
        let prefix = match others {
            0 => format!("{}/", demand.registry),
            others => format!("{}#{}/", demand.registry, others + 1),
        };
        let made = Arc::new(core::Demand { prefix: prefix.into(), by_authority });
        self.demands.push(DemandPlan {
            demand: Arc::clone(&made),
            registry: demand.registry.clone(),
            framework: framework.get(),
            protocol,
            hold,
            like,
            like_name,
        });
        Some(made)
    }

    /// What clusters made on demand are like.
    fn like(&mut self, at: At<'_>, name: Option<&str>) -> Option<ClusterPlan> {
        let conf = self.conf;
        let source = Source::Fixed(Vec::new());
        if let Some(name) = name {
            let Some(cluster) = conf.clusters.get(name) else {
                let known: Vec<&str> = conf.clusters.keys().map(String::as_str).collect();
                self.push_near(at, format!("no cluster is called {}", quote(name)), name, known);
                return None;
            };
            // Its own mistakes are told where it stands.
            let told = self.problems.len();
            let plan = self.with_source(self.at.key("clusters").key(name), "", cluster, source);
            self.problems.truncate(told);
            return Some(plan);
        }
        let at = self.at.key("defaults").key("cluster");
        let written = at.node().filter(|_| self.at.key("defaults").has("cluster"));
        let cluster = defaults::cluster(written)?;
        Some(self.with_source(at, "", &cluster, source))
    }
}
