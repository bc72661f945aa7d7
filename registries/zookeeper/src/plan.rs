//! Which nodes what is desired comes to, in the formats of the frameworks.
//!
//! Registrations in, nodes out; it must never ask anybody, and the same registrations are the same nodes for the life of
//! the process. Nothing that only means this host is made known, nor what cannot be a node; both are said, not dropped in
//! silence.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use outrigger_discovery::{
    Framework, Level, Registration,
    formats::{application, curator, dubbo, percent, sofarpc, split},
    is_public,
};

use crate::paths::{self, Paths};

/// What is to be done about one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is there, is ours, goes with the session, and says this.
    Ours { path: Arc<str>, data: Vec<u8> },
    /// It is there, whoever made it, stays, and says this or the same in other words.
    Stays { path: Arc<str>, data: Vec<u8> },
    /// It is there, stays, and names this application beside others.
    Named { path: Arc<str>, app: String },
}

impl Step {
    /// The node.
    pub(crate) fn path(&self) -> &Arc<str> {
        let (Self::Ours { path, .. } | Self::Stays { path, .. } | Self::Named { path, .. }) = self;
        path
    }

    /// Has its path stored where others have theirs.
    pub(crate) fn share(&mut self, paths: &BTreeSet<Arc<str>>) {
        let (Self::Ours { path, .. } | Self::Stays { path, .. } | Self::Named { path, .. }) = self;
        if let Some(same) = paths.get(path) {
            path.clone_from(same);
        }
    }
}

/// All nodes of what is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Each in its own order: a later step has no use without the earlier ones.
    pub(crate) rows: Vec<Vec<Step>>,
    /// Why something of it cannot be done at all, by the service.
    pub(crate) refused: Vec<String>,
}

impl Plan {
    /// The plan for these.
    pub(crate) fn of(registrations: &[Registration], paths: &Paths) -> Self {
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
                    ours(
                        paths.providers(&r.service),
                        &percent::encode(&dubbo::url(r).to_string()),
                        String::new(),
                    )
                }
                Framework::Sofarpc => {
                    let node = percent::encode(&sofarpc::url(r).to_string());
                    ours(paths.sofarpc_providers(&r.service), &node, String::new())
                }
                Framework::Spring | Framework::Plain => {
                    let id = id(r);
                    ours(paths.spring_application(&r.service), &id, curator::spring(r, &id))
                }
            };
            match row {
                Some(step) => plan.rows.push(vec![step]),
                None => plan.refuse(r, "its name cannot be part of a path"),
            }
        }
        for members in members.into_values().flat_map(application::processes) {
            match application(&members, paths) {
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

    /// The nodes that are ours.
    pub(crate) fn ours(&self) -> BTreeSet<Arc<str>> {
        let steps = self.rows.iter().flatten();
        steps
            .filter_map(|step| if let Step::Ours { path, .. } = step { Some(Arc::clone(path)) } else { None })
            .collect()
    }

    fn refuse(&mut self, r: &Registration, why: &str) {
        self.refused.push(format!("{} at {}: {why}", r.service, r.address));
    }

    /// Of two that want the same node the first counts; they would take it from each other for ever.
    fn once(&mut self) {
        let mut seen = BTreeSet::new();
        for row in &mut self.rows {
            row.retain(|step| match step {
                Step::Ours { path, .. } => seen.insert(path.clone()),
                Step::Stays { .. } | Step::Named { .. } => true,
            });
        }
        self.rows.retain(|row| !row.is_empty());
    }
}

fn ours(directory: Option<String>, node: &str, data: String) -> Option<Step> {
    let path = paths::child(&directory?, node)?;
    Some(Step::Ours { path: path.into(), data: data.into_bytes() })
}

/// What a revision gives, then who has it, then which application that is: in this order nobody finds half of it.
fn application(registrations: &[Registration], paths: &Paths) -> Option<Vec<Step>> {
    let (info, member) = application::describe(registrations)?;
    let [metadata, _] = paths.metadata(&member.app, &info.revision)?;
    let mut row = vec![
        Step::Stays { path: metadata.into(), data: info.to_string().into_bytes() },
        ours(paths.application(&member.app), &member.address, curator::dubbo(&member))?,
    ];
    let services: BTreeSet<&str> = registrations.iter().map(|r| r.service.as_str()).collect();
    for service in services {
        row.push(Step::Named { path: paths.mapping(service)?.into(), app: member.app.clone() });
    }
    Some(row)
}

/// A name like those that Spring Cloud draws, but the same for the same registration, whoever writes it: so two that write the
/// same have one node between them.
fn id(r: &Registration) -> String {
    let mut hash = FNV_BASIS;
    for part in [&r.service, &r.address, &r.app] {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME);
        }
    }
    // The marks of a UUID of one's own making (RFC 9562 §5.8).
    let hash = hash & !(0xf << 76) & !(0b11 << 62) | 8 << 76 | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        hash >> 96,
        hash >> 80 & 0xffff,
        hash >> 64 & 0xffff,
        hash >> 48 & 0xffff,
        hash & 0xffff_ffff_ffff
    )
}

/// FNV-1a of 128 bits: names only have to differ where registrations do.
const FNV_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(framework: Framework, level: Level, address: &str) -> Registration {
        Registration {
            app: "shop".into(),
            framework,
            level,
            service: "a.B".into(),
            protocol: "dubbo".into(),
            address: address.into(),
            group: None,
            version: Some("1.0".into()),
            weight: 100,
            started: 7,
            metadata: BTreeMap::new(),
        }
    }

    fn plan(registrations: &[Registration]) -> Plan {
        Plan::of(registrations, &Paths::new(None, "dubbo").unwrap())
    }

    #[test]
    fn an_application_is_described_before_it_is_found() {
        let both = [registration(Framework::Dubbo, Level::Both, "10.0.0.1:20880")];
        let plan = plan(&both);
        let paths: Vec<Vec<&str>> =
            plan.rows.iter().map(|row| row.iter().map(|step| &**step.path()).collect()).collect();
        assert_eq!(paths.len(), 2, "{plan:?}");
        assert!(paths[0][0].starts_with("/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B%3F"));
        assert!(paths[1][0].starts_with("/dubbo/metadata/shop/"));
        assert_eq!(paths[1][1..], ["/services/shop/10.0.0.1:20880", "/dubbo/mapping/a.B"]);
        assert_eq!((plan.len(), plan.ours().len()), (4, 2));
    }

    #[test]
    fn processes_of_one_application_at_one_host_are_instances_of_their_own() {
        let at = |port: u16| registration(Framework::Dubbo, Level::Application, &format!("10.0.0.1:{port}"));
        let other = Registration { service: "a.C".into(), ..at(3) };
        let members = |all: &[Registration]| {
            let rows = plan(all).rows;
            let paths = rows.iter().flatten().map(|step| step.path().to_string());
            paths.filter(|path| path.starts_with("/services/")).collect::<Vec<_>>()
        };
        assert_eq!(
            members(&[at(1), other.clone()]),
            ["/services/shop/10.0.0.1:1"],
            "one process has two ports"
        );
        let three = members(&[at(1), at(2), other]);
        assert_eq!(
            three,
            ["/services/shop/10.0.0.1:1", "/services/shop/10.0.0.1:2", "/services/shop/10.0.0.1:3"]
        );
    }

    #[test]
    fn nothing_is_made_known_that_only_this_host_can_dial() {
        for here in ["127.0.0.1:1", "0.0.0.0:1", "localhost:1", "10.0.0.1"] {
            let plan = plan(&[registration(Framework::Sofarpc, Level::Interface, here)]);
            assert_eq!((plan.rows.len(), plan.refused.len(), plan.len()), (0, 1, 1), "{here}");
        }
        let slash = Registration {
            service: "a/B".into(),
            ..registration(Framework::Spring, Level::Interface, "h:1")
        };
        assert_eq!(plan(&[slash]).refused.len(), 1);
    }

    #[test]
    fn an_id_is_that_of_a_registration_and_of_no_other() {
        let each = |port: u16| id(&registration(Framework::Spring, Level::Interface, &format!("h:{port}")));
        assert_eq!(each(1), each(1));
        assert_ne!(each(1), each(2));
        let lengths: Vec<usize> = each(1).split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(each(1)[14..].starts_with('8'));
    }

    #[test]
    fn the_same_node_is_wanted_once() {
        let one = registration(Framework::Spring, Level::Interface, "h:1");
        assert_eq!(plan(&[one.clone(), one]).len(), 1);
    }
}
