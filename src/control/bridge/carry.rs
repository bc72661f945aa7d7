//! What an instance of one registry is in another: its name, its format, its marks; or why it is not carried.
//!
//! Decides by what it is given and asks nobody. A copy must never be carried home, nor further than is allowed, nor can what
//! a registry could not hold be written there by halves.

use outrigger_discovery::{Framework, Instance, Mark, Registration};

use crate::conf::lower::BridgePlan;

/// A bridge, as far as single instances go.
#[derive(Clone, Debug)]
pub struct Carry {
    plan: BridgePlan,
    /// The application that entries belong to which name none.
    app: String,
    /// The registry that instances are found in; see `RegistryPlan::place`.
    source: String,
    /// The registry that they are made known in.
    target: String,
}

/// Why an instance is not carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Not {
    /// It is a copy that has been carried as often as is allowed, or comes from where it would go.
    Copy,
    /// It is no instance that is to be called.
    Off,
}

impl Carry {
    /// The bridge of a plan between two places, for instances that name no application of their own.
    pub const fn new(plan: BridgePlan, app: String, source: String, target: String) -> Self {
        Self { plan, app, source, target }
    }

    /// The name that a service has there.
    pub fn name<'a>(&'a self, service: &'a str) -> &'a str {
        self.plan.rename.get(service).map_or(service, String::as_str)
    }

    /// What an instance of a service is there.
    pub fn registration(&self, service: &str, instance: &Instance) -> Result<Registration, Not> {
        let BridgePlan { framework, written_as, .. } = self.plan;
        let mark = match Mark::read(&instance.metadata) {
            Some(mark) if mark.hops >= self.plan.hops_max || mark.origin == self.target => {
                return Err(Not::Copy);
            }
            Some(mark) => Mark { hops: mark.hops.saturating_add(1), bridge: self.plan.name.clone(), ..mark },
            None => Mark { origin: self.source.clone(), bridge: self.plan.name.clone(), hops: 1 },
        };
        if instance.weight == 0 {
            return Err(Not::Off);
        }
        let mut metadata = (*instance.metadata).clone();
        if framework != written_as && framework == Framework::Dubbo {
            // What only Dubbo reads of a provider would be wrong of anything else.
            metadata.retain(|name, _| {
                !matches!(name.as_str(), "methods" | "side" | "category" | "dubbo" | "release")
            });
        }
        metadata.extend(self.plan.metadata.iter().map(|(name, value)| (name.clone(), value.clone())));
        mark.write(&mut metadata);
        let said = ["application", "appName", "app_name", "app"];
        let said = said.iter().find_map(|name| instance.metadata.get(*name)).filter(|app| !app.is_empty());
        let name = self.name(service);
        let app = match (&self.plan.app, said) {
            (Some(app), _) | (None, Some(app)) => app,
            // Where a service is an application, it is its own.
            (None, None) if matches!(written_as, Framework::Spring | Framework::Plain) => name,
            (None, None) => &self.app,
        };
        Ok(Registration {
            app: app.to_owned(),
            framework: written_as,
            level: self.plan.level,
            service: name.to_owned(),
            protocol: instance.protocol.clone().unwrap_or_else(|| usual(written_as).to_owned()),
            address: instance.address.clone(),
            group: instance.group.clone(),
            version: instance
                .version
                .clone()
                .or_else(|| (written_as == Framework::Sofarpc).then(|| "1.0".to_owned())),
            weight: instance.weight,
            started: instance.started.unwrap_or_default(),
            metadata,
        })
    }

    /// Whether an entry that stands there is in the way of a copy by this bridge: the original itself, or a copy by another bridge,
    /// of which the one with the lesser name stays.
    pub fn is_in_the_way(&self, there: &Instance) -> bool {
        Mark::read(&there.metadata).is_none_or(|mark| mark.bridge < self.plan.name)
    }

    /// Whether an entry that stands there was made by this bridge, whoever ran it.
    pub fn is_own(&self, there: &Instance) -> bool {
        Mark::read(&there.metadata).is_some_and(|mark| mark.bridge == self.plan.name)
    }
}

/// What services of a framework speak where nothing else is said.
const fn usual(framework: Framework) -> &'static str {
    match framework {
        Framework::Dubbo => "dubbo",
        Framework::Sofarpc => "bolt",
        Framework::Spring | Framework::Plain => "http",
    }
}

/// Whether an entry and a registration are of the same service of the same process.
pub fn is_same(there: &Instance, here: &Registration) -> bool {
    let some = |part: &Option<String>| part.clone().filter(|part| !part.is_empty());
    there.address == here.address
        && some(&there.group) == some(&here.group)
        && some(&there.version) == some(&here.version)
        && there.protocol.as_ref().is_none_or(|protocol| *protocol == here.protocol)
}
