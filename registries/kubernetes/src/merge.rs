//! What a slice shall be, from what it is and what is desired of it.
//!
//! Objects in, object out; it must never ask anybody. The entries of others stay as they are: only those that we desire as
//! well are taken over, in their place, and of those only what their keeper has not taken from us before (else two would take
//! turns for ever) and, if we yield, none. Entries of keepers that fell silent long ago go.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use outrigger_discovery::formats::split;

use crate::{
    entry::{Entry, HOLDERS, Holder, Key, MANAGED_BY, Marks, OURS, SERVICE_NAME, SERVICES},
    plan::{Plan, Planned, is_label},
};

/// What is desired of a slice, and by whom.
pub(crate) struct Merge<'a> {
    /// The slice's name.
    pub(crate) name: &'a str,
    /// Who we are.
    pub(crate) holder: &'a str,
    /// What is desired of it; `None`: nothing of ours.
    pub(crate) planned: Option<&'a Planned>,
    /// Whether entries of ours that are desired in another slice stay here for now.
    pub(crate) lets_move: Option<&'a Plan>,
    /// Entries that were ours at some time.
    pub(crate) held: &'a BTreeSet<Key>,
    /// Keepers that fell silent long ago.
    pub(crate) dead: &'a BTreeSet<String>,
    /// How we say that we are there.
    pub(crate) said: Holder,
    /// Whether that is to be said now even if nothing else is.
    pub(crate) due: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Do {
    Nothing,
    Write(Box<EndpointSlice>),
    Delete,
}

/// What a slice comes to.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) what: Do,
    /// The entries that are ours then.
    pub(crate) ours: BTreeSet<Key>,
    /// Whether some of ours are only here until they are elsewhere.
    pub(crate) moving: bool,
    /// Whether another keeps something in our place that we did not leave to it.
    pub(crate) displaced: bool,
}

impl Merge<'_> {
    /// `Err`: it is no slice of ours, or cannot be one.
    pub(crate) fn with(self, have: Option<&EndpointSlice>) -> Result<Merged, String> {
        let labels = have.and_then(|have| have.metadata.labels.as_ref());
        if have.is_some() && labels.and_then(|labels| labels.get(MANAGED_BY)).is_none_or(|by| by != OURS) {
            return Err(format!("EndpointSlice {} is somebody else's", self.name));
        }
        let annotations = have.and_then(|have| have.metadata.annotations.as_ref());
        let before = annotations.and_then(Marks::read).unwrap_or_default();
        let mut merged = Merged { what: Do::Nothing, ours: BTreeSet::new(), moving: false, displaced: false };
        let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
        for entry in &before.entries {
            let key = entry.key();
            if let Some(entry) = self.judge(entry, &key, &mut merged) {
                entries.insert(key, entry);
            }
        }
        for (key, want) in self.planned.iter().flat_map(|planned| &planned.wants) {
            entries.entry(key.clone()).or_insert_with(|| want.entry.clone());
        }
        let is_ours = |entry: &&Entry| entry.holder == self.holder;
        merged.ours = entries.values().filter(is_ours).map(Entry::key).collect();
        if entries.is_empty() {
            merged.what = if have.is_some() { Do::Delete } else { Do::Nothing };
            return Ok(merged);
        }
        let after = self.marks(entries, &before, &merged.ours);
        let slice = self.object(have, &after)?;
        if have.is_none_or(|have| !is_so(have, &slice)) {
            merged.what = Do::Write(Box::new(slice));
        }
        Ok(merged)
    }

    /// What becomes of an entry that stands there.
    fn judge(&self, entry: &Entry, key: &Key, merged: &mut Merged) -> Option<Entry> {
        let want = self.planned.and_then(|planned| planned.wants.get(key));
        let dead = self.dead.contains(&entry.holder);
        match want {
            None if entry.holder == self.holder => {
                let service = self.planned.map(|planned| planned.service.as_str()).or(self.service());
                let elsewhere = self.lets_move.zip(service).is_some_and(|(plan, of)| plan.wants(of, key));
                merged.moving |= elsewhere;
                elsewhere.then(|| entry.clone())
            }
            None => (!dead).then(|| entry.clone()),
            Some(want) if entry.holder == self.holder || dead => Some(want.entry.clone()),
            Some(want) if want.yields => Some(entry.clone()),
            Some(_) if self.held.contains(key) => {
                // Whoever came last has it; what is desired stands there all the same.
                merged.displaced = true;
                Some(entry.clone())
            }
            Some(want) => Some(want.entry.clone()),
        }
    }

    /// The Service that the name of the slice tells.
    fn service(&self) -> Option<&str> {
        self.name.rsplit_once("-outrigger-").map(|(service, _)| service)
    }

    fn marks(&self, entries: BTreeMap<Key, Entry>, before: &Marks, ours: &BTreeSet<Key>) -> Marks {
        let entries: Vec<Entry> = entries.into_values().collect();
        let mut holders = BTreeMap::new();
        for entry in &entries {
            let said = before.holders.get(&entry.holder).cloned().unwrap_or_default();
            holders.entry(entry.holder.clone()).or_insert(said);
        }
        if !ours.is_empty() {
            let was = before.holders.get(self.holder);
            let same_pod = was.is_some_and(|was| {
                (&was.pod, &was.uid, was.beat.is_some())
                    == (&self.said.pod, &self.said.uid, self.said.beat.is_some())
            });
            let said = match was {
                Some(was) if same_pod && !self.due => was.clone(),
                _ => self.said.clone(),
            };
            holders.insert(self.holder.to_owned(), said);
        }
        Marks { entries, holders, bad: 0 }
    }

    fn object(&self, have: Option<&EndpointSlice>, marks: &Marks) -> Result<EndpointSlice, String> {
        let mut hosts: BTreeMap<IpAddr, Option<&String>> = BTreeMap::new();
        for entry in &marks.entries {
            let ip = split(&entry.address).and_then(|(host, _)| host.parse::<IpAddr>().ok());
            let Some(ip) = ip else { continue };
            let zone = hosts.entry(ip.to_canonical()).or_default();
            *zone = zone.or(entry.metadata.get("zone"));
        }
        let v6 = hosts.keys().next().is_some_and(IpAddr::is_ipv6);
        let address_type = if v6 { "IPv6" } else { "IPv4" };
        if have.is_some_and(|have| have.address_type != address_type) {
            return Err(format!("EndpointSlice {} is of another family of addresses", self.name));
        }
        let endpoints = hosts.into_iter().filter(|(ip, _)| ip.is_ipv6() == v6).map(|(ip, zone)| Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                serving: Some(true),
                terminating: Some(false),
            }),
            zone: zone.filter(|zone| !zone.is_empty()).cloned(),
            ..Endpoint::default()
        });
        let service = self.planned.map(|planned| planned.service.as_str()).or(self.service());
        let said = marks.write().map_err(|error| error.to_string())?;
        let mut metadata = have.map_or_else(
            || ObjectMeta { name: Some(self.name.to_owned()), ..ObjectMeta::default() },
            |have| have.metadata.clone(),
        );
        metadata.annotations.get_or_insert_default().extend(said);
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
        labels.insert(SERVICE_NAME.to_owned(), service.unwrap_or_default().to_owned());
        metadata.owner_references = owners(&marks.holders);
        Ok(EndpointSlice {
            address_type: address_type.to_owned(),
            endpoints: endpoints.collect(),
            metadata,
            ports: Some(ports(&marks.entries)),
        })
    }
}

/// The pods with which a slice goes: it goes with the last of them, so it has none where anybody is in no pod.
fn owners(holders: &BTreeMap<String, Holder>) -> Option<Vec<OwnerReference>> {
    let owner = |holder: &Holder| {
        Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: holder.pod.clone()?,
            uid: holder.uid.clone()?,
            ..OwnerReference::default()
        })
    };
    let mut owners: Vec<OwnerReference> = holders.values().map(owner).collect::<Option<_>>()?;
    owners.dedup_by(|one, other| one.uid == other.uid);
    Some(owners)
}

/// The ports, called by what is spoken there.
fn ports(entries: &[Entry]) -> Vec<EndpointPort> {
    let mut spoken: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    for entry in entries {
        if let Some((_, port)) = split(&entry.address) {
            spoken.entry(&entry.protocol).or_default().insert(port);
        }
    }
    let numbers: BTreeSet<u16> = spoken.values().flatten().copied().collect();
    let mut ports = Vec::new();
    for number in numbers {
        // Of several that are spoken at one port the first gives the name.
        let Some((protocol, alike)) = spoken.iter().find(|(_, ports)| ports.contains(&number)) else {
            continue;
        };
        // With a number behind it, it must still be a label.
        let label = Some(*protocol).filter(|protocol| is_label(protocol) && protocol.len() < 50);
        let name = match label {
            Some(label) if alike.len() == 1 => label.to_owned(),
            label => format!("{}-{number}", label.unwrap_or("port")),
        };
        ports.push(EndpointPort {
            app_protocol: label.map(str::to_owned),
            name: Some(name),
            port: Some(i32::from(number)),
            protocol: Some("TCP".to_owned()),
        });
    }
    ports
}

/// Whether a slice is as it shall be.
fn is_so(have: &EndpointSlice, want: &EndpointSlice) -> bool {
    let owners = |slice: &EndpointSlice| slice.metadata.owner_references.clone().unwrap_or_default();
    let said = |slice: &EndpointSlice, name: &str| {
        slice.metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned()
    };
    have.endpoints == want.endpoints
        && have.ports.clone().unwrap_or_default() == want.ports.clone().unwrap_or_default()
        && have.metadata.labels == want.metadata.labels
        && owners(have) == owners(want)
        && [SERVICES, HOLDERS].iter().all(|name| said(have, name) == said(want, name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use outrigger_discovery::{Framework, Level, Registration};

    use super::*;
    use crate::ledger::Row;

    fn registration(service: &str, address: &str) -> Registration {
        Registration {
            app: "shop".into(),
            framework: Framework::Dubbo,
            level: Level::Interface,
            service: service.into(),
            protocol: "dubbo".into(),
            address: address.into(),
            group: None,
            version: None,
            weight: 100,
            started: 1,
            metadata: BTreeMap::new(),
        }
    }

    fn plan(holder: &str, services: &[&str], yields: bool) -> Plan {
        let registrations: Arc<[Registration]> =
            services.iter().map(|service| registration(service, "10.0.0.1:20880")).collect();
        Plan::of(&BTreeMap::from([(0, Row { wish: 1, registrations, yields })]), holder)
    }

    /// Who writes, and what is known of others.
    struct Hand<'a> {
        holder: &'a str,
        held: BTreeSet<Key>,
        dead: BTreeSet<String>,
        said: Holder,
        due: bool,
    }

    impl<'a> Hand<'a> {
        fn new(holder: &'a str) -> Self {
            let said = Holder { beat: Some("now".into()), ..Holder::default() };
            Self { holder, held: BTreeSet::new(), dead: BTreeSet::new(), said, due: false }
        }

        fn writes(&self, plan: &Plan, have: Option<&EndpointSlice>) -> Merged {
            let (name, planned) = match plan.slices.first_key_value() {
                Some((name, planned)) => (name.clone(), Some(planned)),
                None => (have.unwrap().metadata.name.clone().unwrap(), None),
            };
            let (holder, held, dead, said, due) =
                (self.holder, &self.held, &self.dead, self.said.clone(), self.due);
            let lets_move = None;
            Merge { name: &name, holder, planned, lets_move, held, dead, said, due }.with(have).unwrap()
        }
    }

    fn written(merged: Merged) -> EndpointSlice {
        let Do::Write(slice) = merged.what else { panic!("{merged:?}") };
        *slice
    }

    /// The services that a slice lists, and who keeps each.
    fn kept(slice: &EndpointSlice) -> Vec<(String, String)> {
        let marks = Marks::read(slice.metadata.annotations.as_ref().unwrap()).unwrap();
        marks.entries.into_iter().map(|entry| (entry.service, entry.holder)).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(service, holder)| ((*service).to_owned(), (*holder).to_owned())).collect()
    }

    #[test]
    fn several_write_one_slice_and_each_takes_its_own_away() {
        let (one, two) = (Hand::new("one"), Hand::new("two"));
        let slice = written(one.writes(&plan("one", &["a.A"], false), None));
        assert_eq!(slice.endpoints[0].addresses, ["10.0.0.1"]);
        let again = one.writes(&plan("one", &["a.A"], false), Some(&slice));
        assert!(matches!(again.what, Do::Nothing) && again.ours.len() == 1, "{again:?}");
        let slice = written(two.writes(&plan("two", &["a.B"], false), Some(&slice)));
        assert_eq!(kept(&slice), pairs(&[("a.A", "one"), ("a.B", "two")]));
        let slice = written(one.writes(&Plan::default(), Some(&slice)));
        assert_eq!(kept(&slice), pairs(&[("a.B", "two")]));
        assert!(one.writes(&Plan::default(), Some(&slice)).ours.is_empty());
        assert!(matches!(two.writes(&Plan::default(), Some(&slice)).what, Do::Delete), "nobody is left");
    }

    #[test]
    fn an_entry_is_taken_over_once_and_never_back_and_forth() {
        let (mut one, two) = (Hand::new("one"), Hand::new("two"));
        let mine = |holder: &str| plan(holder, &["a.A"], false);
        let slice = written(one.writes(&mine("one"), None));
        let taken = two.writes(&mine("two"), Some(&slice));
        let key = taken.ours.first().unwrap().clone();
        let slice = written(taken);
        assert_eq!(kept(&slice), pairs(&[("a.A", "two")]));
        // Who had it before leaves it, unless the other fell silent or let it go.
        one.held.insert(key);
        let left = one.writes(&mine("one"), Some(&slice));
        assert!(matches!(left.what, Do::Nothing) && left.displaced && left.ours.is_empty(), "{left:?}");
        one.dead.insert("two".into());
        assert_eq!(kept(&written(one.writes(&mine("one"), Some(&slice)))), pairs(&[("a.A", "one")]));
    }

    #[test]
    fn who_yields_takes_only_what_nobody_keeps() {
        let (one, mut two) = (Hand::new("one"), Hand::new("two"));
        let slice = written(one.writes(&plan("one", &["a.A"], false), None));
        let slice = written(two.writes(&plan("two", &["a.A", "a.B"], true), Some(&slice)));
        assert_eq!(kept(&slice), pairs(&[("a.A", "one"), ("a.B", "two")]));
        two.dead.insert("one".into());
        let slice = written(two.writes(&plan("two", &["a.A", "a.B"], true), Some(&slice)));
        assert_eq!(kept(&slice), pairs(&[("a.A", "two"), ("a.B", "two")]));
    }

    #[test]
    fn what_the_long_silent_kept_goes_and_a_beat_is_written_when_it_is_due() {
        let (one, mut two) = (Hand::new("one"), Hand::new("two"));
        let slice = written(one.writes(&plan("one", &["a.A"], false), None));
        let slice = written(two.writes(&plan("two", &["a.B"], false), Some(&slice)));
        two.said.beat = Some("later".into());
        let plan = plan("two", &["a.B"], false);
        assert!(matches!(two.writes(&plan, Some(&slice)).what, Do::Nothing), "not before it is due");
        two.due = true;
        let slice = written(two.writes(&plan, Some(&slice)));
        assert!(slice.metadata.annotations.as_ref().unwrap()[HOLDERS].contains("later"));
        two.dead.insert("one".into());
        assert_eq!(kept(&written(two.writes(&plan, Some(&slice)))), pairs(&[("a.B", "two")]));
    }

    #[test]
    fn a_slice_goes_with_pods_only_if_all_who_keep_it_do() {
        let mut one = Hand::new("one");
        one.said = Holder { beat: None, pod: Some("shop-1".into()), uid: Some("u1".into()) };
        let slice = written(one.writes(&plan("one", &["a.A"], false), None));
        let owners =
            |slice: &EndpointSlice| slice.metadata.owner_references.clone().unwrap_or_default().len();
        assert_eq!(owners(&slice), 1);
        let slice = written(Hand::new("two").writes(&plan("two", &["a.B"], false), Some(&slice)));
        assert_eq!(owners(&slice), 0, "it would go with the pod of another");
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        let plan = plan("one", &["a.A"], false);
        let (name, planned) = plan.slices.first_key_value().unwrap();
        let hand = Hand::new("one");
        let merge = Merge {
            name,
            holder: "one",
            planned: Some(planned),
            lets_move: None,
            held: &hand.held,
            dead: &hand.dead,
            said: hand.said.clone(),
            due: true,
        };
        let theirs = EndpointSlice { address_type: "IPv4".into(), ..EndpointSlice::default() };
        assert!(merge.with(Some(&theirs)).unwrap_err().contains("somebody else's"));
    }

    #[test]
    fn ports_are_called_by_what_is_spoken_there() {
        let entry = |protocol: &str, port: u16| {
            let mut r = registration("a.A", &format!("10.0.0.1:{port}"));
            r.protocol = protocol.into();
            Entry::of(&r, "one")
        };
        let all = [entry("dubbo", 1), entry("tri", 2), entry("tri", 3), entry("UPPER", 4), entry("bolt", 1)];
        let told: Vec<(String, i32, bool)> = ports(&all)
            .into_iter()
            .map(|port| (port.name.unwrap(), port.port.unwrap(), port.app_protocol.is_some()))
            .collect();
        let want = [("bolt", 1, true), ("tri-2", 2, true), ("tri-3", 3, true), ("port-4", 4, false)];
        assert_eq!(told, want.map(|(name, port, says)| (name.to_owned(), port, says)));
    }
}
