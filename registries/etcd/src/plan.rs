//! Which keys what is desired comes to, in the formats of the frameworks.
//!
//! Registrations in, keys out; it must never ask anybody, and the same registrations are the same keys. Nothing that only
//! means this host is made known, nor what cannot be a key; both are said, not dropped in silence.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_discovery::{
    Framework, Level, Registration, WEIGHT_DEFAULT,
    formats::{application, dubbo, percent, split},
    is_public,
};

use crate::{
    keys::{self, Keys},
    mirror::Range,
    values,
};

/// What is to be done about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is there, goes with our lease, and says this.
    Ours { key: String, value: Vec<u8> },
    /// The same, and it is put once more some time after: see [`crate::register`].
    Heard { key: String, value: Vec<u8> },
    /// It is there, whoever made it, stays, and says this or the same in other words.
    Stays { key: String, value: Vec<u8> },
    /// It is there, stays, and names this application beside others.
    Named { key: String, app: String },
}

impl Step {
    /// The key.
    pub(crate) fn key(&self) -> &str {
        let (Self::Ours { key, .. }
        | Self::Heard { key, .. }
        | Self::Stays { key, .. }
        | Self::Named { key, .. }) = self;
        key
    }
}

/// All keys of what is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Each in its own order: a later step has no use without the earlier ones.
    pub(crate) rows: Vec<Vec<Step>>,
    /// Why something of it cannot be done at all, by the service.
    pub(crate) refused: Vec<String>,
}

impl Plan {
    /// The plan for these.
    pub(crate) fn of(registrations: &[Registration], keys: &Keys) -> Self {
        let mut plan = Self::default();
        let mut members: BTreeMap<(&str, &str), Vec<Registration>> = BTreeMap::new();
        for r in registrations {
            if !is_public(&r.address) {
                plan.refuse(r, "no other host can dial its address");
                continue;
            }
            let Some((host, _)) = split(&r.address) else {
                plan.refuse(r, "its address has no port");
                continue;
            };
            let row = match r.framework {
                Framework::Dubbo => {
                    if r.level != Level::Interface {
                        members.entry((&r.app, host)).or_default().push(r.clone());
                    }
                    if r.level == Level::Application {
                        continue;
                    }
                    let node = percent::encode(&dubbo::url(r).to_string());
                    heard(keys.providers(&r.service), &node, String::new())
                }
                Framework::Sofarpc | Framework::Spring | Framework::Plain => {
                    ours(keys::plain(r.framework, &r.service), &r.address, values::plain_value(r))
                }
            };
            match row {
                Some(step) => plan.rows.push(vec![step]),
                None => plan.refuse(r, "its name cannot be part of a key"),
            }
        }
        for members in members.into_values().flat_map(application::processes) {
            match application(&members, keys) {
                Some(row) => plan.rows.push(row),
                None => members.iter().for_each(|r| plan.refuse(r, "its application cannot be described")),
            }
        }
        plan.once();
        plan
    }

    /// How many steps there are, and how many cannot be done.
    pub(crate) fn len(&self) -> usize {
        self.rows.iter().map(Vec::len).sum::<usize>().saturating_add(self.refused.len())
    }

    /// The keys that are ours.
    pub(crate) fn ours(&self) -> BTreeSet<&str> {
        let steps = self.rows.iter().flatten();
        steps
            .filter_map(|step| match step {
                Step::Ours { key, .. } | Step::Heard { key, .. } => Some(key.as_str()),
                Step::Stays { .. } | Step::Named { .. } => None,
            })
            .collect()
    }

    fn refuse(&mut self, r: &Registration, why: &str) {
        self.refused.push(format!("{} at {}: {why}", r.service, r.address));
    }

    /// Of two that want the same key the first counts; they would take it from each other for ever. That the other says
    /// something else is not dropped in silence: a key of our own has no place for a version or a group.
    fn once(&mut self) {
        let mut seen = BTreeMap::new();
        for row in &mut self.rows {
            row.retain(|step| match step {
                Step::Ours { key, value } | Step::Heard { key, value } => match seen.get(key) {
                    None => {
                        seen.insert(key.clone(), value.clone());
                        true
                    }
                    Some(first) => {
                        if first != value {
                            self.refused
                                .push(format!("{key}: another of the same service and address stands there"));
                        }
                        false
                    }
                },
                Step::Stays { .. } | Step::Named { .. } => true,
            });
        }
        self.rows.retain(|row| !row.is_empty());
    }
}

fn ours(directory: Option<Range>, node: &str, value: String) -> Option<Step> {
    let key = keys::child(&directory?, node)?;
    Some(Step::Ours { key, value: value.into_bytes() })
}

fn heard(directory: Option<Range>, node: &str, value: String) -> Option<Step> {
    let key = keys::child(&directory?, node)?;
    Some(Step::Heard { key, value: value.into_bytes() })
}

/// What a revision gives, then who has it, then which application that is: in this order nobody finds half of it.
fn application(registrations: &[Registration], keys: &Keys) -> Option<Vec<Step>> {
    let (info, member) = application::by_endpoints(application::describe(registrations)?);
    let metadata = keys.metadata(&member.app, &info.revision)?;
    let told = info.to_string().into_bytes();
    // An instance has one weight; where its services differ, each says its own.
    let mut weights: BTreeSet<u32> = registrations.iter().map(|r| r.weight).collect();
    let weight = weights.pop_first().filter(|_| weights.is_empty()).unwrap_or(WEIGHT_DEFAULT);
    // A consumer of dubbo-go that does not find it takes up nothing of the application any more, so each finds it in its place.
    let mut row: Vec<Step> =
        metadata.into_iter().map(|key| Step::Stays { key, value: told.clone() }).collect();
    row.push(heard(keys::application(&member.app), &member.address, values::go_instance(&member, weight))?);
    let services: BTreeSet<&str> = registrations.iter().map(|r| r.service.as_str()).collect();
    for service in services {
        row.push(Step::Named { key: keys.mapping(service)?, app: member.app.clone() });
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(framework: Framework, level: Level, address: &str) -> Registration {
        Registration {
            app: "shop".into(),
            framework,
            level,
            service: "a.B".into(),
            protocol: "tri".into(),
            address: address.into(),
            group: None,
            version: None,
            weight: 100,
            started: 7,
            metadata: BTreeMap::new(),
        }
    }

    fn plan(registrations: &[Registration]) -> Plan {
        Plan::of(registrations, &Keys::new("dubbo").unwrap())
    }

    fn keys_of(row: &[Step]) -> Vec<&str> {
        row.iter().map(Step::key).collect()
    }

    #[test]
    fn both_levels_are_two_rows_and_the_application_comes_in_its_order() {
        let both = registration(Framework::Dubbo, Level::Both, "10.0.0.1:1");
        let heavy =
            Registration { service: "a.C".into(), weight: 50, level: Level::Application, ..both.clone() };
        let plan = plan(&[both, heavy]);
        assert_eq!((plan.rows.len(), plan.len()), (2, 7));
        assert!(plan.rows[0][0].key().starts_with("/dubbo/a.B/providers/tri%3A%2F%2F10.0.0.1%3A1%2Fa.B%3F"));
        let [new, old, older, member, first, second] = &keys_of(&plan.rows[1])[..] else {
            panic!("six steps")
        };
        assert!(new.starts_with("/dubbo/shop/") && old.starts_with("/dubboshop/"));
        assert!(older.starts_with("/dubbo/metadata/shop/"));
        assert_eq!(
            [*member, *first, *second],
            ["/services/shop/10.0.0.1:1", "/dubbo/mapping/a.B", "/dubbo/mapping/a.C"]
        );
        assert_eq!(plan.ours().len(), 2);
        let Step::Heard { value, .. } = &plan.rows[1][3] else { panic!("an instance") };
        let (member, _) = values::go_member(value).unwrap().unwrap();
        assert_eq!(
            member.metadata["weight"], "100",
            "an instance whose services differ has the usual weight"
        );
    }

    #[test]
    fn processes_of_one_application_at_one_host_are_instances_of_their_own() {
        let at = |port: u16| registration(Framework::Dubbo, Level::Application, &format!("10.0.0.1:{port}"));
        let plan = plan(&[at(1), at(2), at(3)]);
        let members: Vec<&str> = plan.ours().into_iter().collect();
        assert_eq!(
            members,
            ["/services/shop/10.0.0.1:1", "/services/shop/10.0.0.1:2", "/services/shop/10.0.0.1:3"]
        );
        let other = Registration { service: "a.C".into(), ..at(2) };
        assert_eq!(plan_of_one(&[at(1), other]), ["/services/shop/10.0.0.1:1"], "one process has two ports");
        let revisions: BTreeSet<&str> = plan.rows.iter().map(|row| row[0].key()).collect();
        assert_eq!(revisions.len(), 1, "they differ in nothing but ports: {revisions:?}");
    }

    fn plan_of_one(registrations: &[Registration]) -> Vec<String> {
        plan(registrations).ours().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn those_without_a_layout_have_ours() {
        for framework in [Framework::Plain, Framework::Spring, Framework::Sofarpc] {
            let plan = plan(&[registration(framework, Level::Interface, "10.0.0.1:1")]);
            assert_eq!(keys_of(&plan.rows[0]), [format!("/outrigger/{framework}/a.B/10.0.0.1:1")]);
        }
    }

    #[test]
    fn what_nobody_could_find_is_refused_and_said() {
        let here = registration(Framework::Plain, Level::Interface, "127.0.0.1:1");
        let slash =
            Registration { service: "a/b".into(), ..registration(Framework::Plain, Level::Interface, "h:1") };
        let mapping = Registration {
            app: "mapping".into(),
            ..registration(Framework::Dubbo, Level::Application, "h:1")
        };
        for bad in [here, slash, mapping] {
            let plan = plan(&[bad]);
            assert_eq!((plan.rows.len(), plan.refused.len(), plan.len()), (0, 1, 1));
        }
        let one = registration(Framework::Plain, Level::Interface, "h:1");
        assert_eq!(plan(&[one.clone(), one.clone()]).len(), 1, "the same key is wanted once");
        let other = Registration { version: Some("2.0".into()), ..one.clone() };
        let both = plan(&[one, other]);
        assert_eq!((both.rows.len(), both.refused.len()), (1, 1), "one key cannot say both: {both:?}");
    }
}
