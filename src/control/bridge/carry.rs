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
            // Where nothing is said of it, what the bridge asked for is what is spoken there.
            protocol: [&instance.protocol, &self.plan.protocol]
                .into_iter()
                .find_map(Option::clone)
                .unwrap_or_else(|| written_as.protocol().to_owned()),
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

/// Whether an entry and a registration are of the same service of the same process.
pub fn is_same(there: &Instance, here: &Registration) -> bool {
    let some = |part: &Option<String>| part.clone().filter(|part| !part.is_empty());
    there.address == here.address
        && some(&there.group) == some(&here.group)
        && some(&there.version) == some(&here.version)
        && there.protocol.as_ref().is_none_or(|protocol| *protocol == here.protocol)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;
    use crate::{conf::lower, control::bridge::carry_of};

    /// A bridge from `ZooKeeper` to Nacos with a few keys besides.
    fn carry(keys: &str) -> Carry {
        let text = format!(
            "app: bridge\nregistries:\n  zk: {{ zookeeper: {{ address: 'z:1' }} }}\n  nc: {{ nacos: {{ address: 'n:1' }} }}\n\
             bridges:\n  over: {{ from: zk, to: nc{keys} }}\n"
        );
        let plan = lower::read(Path::new("conf.yaml"), text.as_bytes(), &|_| None);
        let plan = plan.unwrap_or_else(|report| panic!("{report}"));
        carry_of(&plan, &plan.bridges[0]).expect("it leads somewhere")
    }

    fn instance(said: &[(&str, &str)]) -> Instance {
        let metadata = said.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Instance { metadata: metadata.collect::<BTreeMap<_, _>>().into(), ..Instance::new("10.0.0.1:1") }
    }

    #[test]
    fn whatever_it_is_there_address_weight_group_and_version_stay_and_it_is_marked() {
        let one = Instance {
            weight: 7,
            group: Some("g".into()),
            version: Some("2.0".into()),
            started: Some(5),
            ..instance(&[("methods", "echo"), ("side", "provider"), ("zone", "a")])
        };
        for from in Framework::ALL {
            for to in Framework::ALL {
                let r = carry(&format!(", framework: {from}, as: {to}"))
                    .registration("a.B", &one)
                    .expect("it is carried");
                assert_eq!((r.framework, r.service.as_str(), r.address.as_str()), (to, "a.B", "10.0.0.1:1"));
                assert_eq!(
                    (r.weight, r.group.as_deref(), r.version.as_deref()),
                    (7, Some("g"), Some("2.0")),
                    "{from} {to}"
                );
                assert_eq!(r.started, 5);
                let said = |name: &str| r.metadata.get(name).map(String::as_str);
                assert_eq!(said("zone"), Some("a"));
                // What only Dubbo reads stays with Dubbo.
                let of_dubbo = (from != Framework::Dubbo || to == Framework::Dubbo).then_some("echo");
                assert_eq!(said("methods"), of_dubbo, "{from} {to}");
                let spoken = match to {
                    Framework::Dubbo => "dubbo",
                    Framework::Sofarpc => "bolt",
                    Framework::Spring | Framework::Plain => "http",
                };
                assert_eq!(r.protocol, spoken, "what its framework speaks where nothing is said");
                // Where a service is an application, it is its own.
                let app = if matches!(to, Framework::Spring | Framework::Plain) { "a.B" } else { "bridge" };
                assert_eq!(r.app, app, "{from} {to}");
                let mark = Mark::read(&r.metadata).expect("it is marked");
                assert_eq!(
                    (mark.origin.as_str(), mark.bridge.as_str(), mark.hops),
                    ("zookeeper:z:1", "over", 1)
                );
            }
        }
        let spoken = Instance { protocol: Some("tri".into()), ..one };
        assert_eq!(carry("").registration("a.B", &spoken).map(|r| r.protocol), Ok("tri".to_owned()));
        let none = instance(&[]);
        let asked = carry(", framework: plain, as: dubbo, protocol: tri").registration("a.B", &none);
        assert_eq!(asked.map(|r| r.protocol), Ok("tri".to_owned()), "it was looked for by that");
        let version = |to: &str| carry(&format!(", as: {to}")).registration("a.B", &none).map(|r| r.version);
        assert_eq!((version("sofarpc"), version("dubbo")), (Ok(Some("1.0".to_owned())), Ok(None)));
    }

    #[test]
    fn an_application_is_the_one_that_is_named_by_the_conf_or_the_instance() {
        let app = |keys: &str, said: &[(&str, &str)]| {
            carry(keys).registration("a.B", &instance(said)).map(|r| r.app)
        };
        assert_eq!(app("", &[]).as_deref(), Ok("bridge"));
        assert_eq!(app("", &[("application", "shop")]).as_deref(), Ok("shop"));
        assert_eq!(app("", &[("appName", "shop"), ("app", "other")]).as_deref(), Ok("shop"));
        assert_eq!(app("", &[("application", "")]).as_deref(), Ok("bridge"));
        assert_eq!(app(", app: mine", &[("application", "shop")]).as_deref(), Ok("mine"));
        assert_eq!(app(", as: spring", &[("application", "shop")]).as_deref(), Ok("shop"));
    }

    #[test]
    fn names_and_metadata_are_as_the_conf_has_them() {
        let carry = carry(", rename: { a.B: c.D }, metadata: { zone: b, more: m }, level: interface");
        let r = carry.registration("a.B", &instance(&[("zone", "a")])).expect("it is carried");
        assert_eq!(
            (r.service.as_str(), carry.name("a.C"), r.level),
            ("c.D", "a.C", outrigger_discovery::Level::Interface)
        );
        assert_eq!((r.metadata["zone"].as_str(), r.metadata["more"].as_str()), ("b", "m"));
    }

    #[test]
    fn a_copy_goes_so_far_and_never_home() {
        let marked = |origin: &str, hops: u32| {
            let mut one = instance(&[]);
            Mark { origin: origin.into(), bridge: "other".into(), hops }.write(&mut one.metadata);
            one
        };
        let hops = |keys: &str, one: &Instance| {
            carry(keys).registration("a.B", one).map(|r| Mark::read(&r.metadata).map_or(0, |mark| mark.hops))
        };
        assert_eq!(hops("", &marked("etcd:e:1", 1)), Err(Not::Copy));
        assert_eq!(hops(", hops_max: 2", &marked("etcd:e:1", 1)), Ok(2));
        assert_eq!(hops(", hops_max: 2", &marked("etcd:e:1", 2)), Err(Not::Copy));
        assert_eq!(hops(", hops_max: 16", &marked("nacos:n:1", 1)), Err(Not::Copy), "it comes from there");
        let half = instance(&[("outrigger.bridge", "x")]);
        assert_eq!(hops(", hops_max: 16", &half), Err(Not::Copy), "nobody knows how far it came");
        let kept = carry(", hops_max: 2").registration("a.B", &marked("etcd:e:1", 1)).expect("it is carried");
        let mark = Mark::read(&kept.metadata).expect("it is marked");
        assert_eq!((mark.origin.as_str(), mark.bridge.as_str()), ("etcd:e:1", "over"));
        assert_eq!(carry("").registration("a.B", &Instance { weight: 0, ..instance(&[]) }), Err(Not::Off));
    }

    #[test]
    fn what_is_in_the_way_and_what_is_ones_own_is_told_by_the_mark() {
        let carry = carry("");
        let by = |bridge: &str| {
            let mut one = instance(&[]);
            Mark { origin: "o".into(), bridge: bridge.into(), hops: 1 }.write(&mut one.metadata);
            (carry.is_in_the_way(&one), carry.is_own(&one))
        };
        assert_eq!((by("over"), by("aaa"), by("zzz")), ((false, true), (true, false), (false, false)));
        let original = instance(&[]);
        assert_eq!((carry.is_in_the_way(&original), carry.is_own(&original)), (true, false));
        let r = carry.registration("a.B", &original).expect("it is carried");
        assert!(is_same(&Instance { version: Some(String::new()), ..original.clone() }, &r));
        for other in [
            Instance { version: Some("1".into()), ..original.clone() },
            Instance { group: Some("g".into()), ..original.clone() },
            Instance { protocol: Some("tri".into()), ..original.clone() },
            Instance { address: "10.0.0.1:2".into(), ..original.clone() },
        ] {
            assert!(!is_same(&other, &r), "{other:?}");
        }
    }
}
