//! `EndpointSlice`s as they are read: those of controllers and operators, and those of ours.
//!
//! A Service has many slices, and one address may stand in two of them while it moves; whoever reads them takes them all. A
//! slice of ours says by its entries what is given; its endpoints are for everybody else. Entries whose keeper fell silent are
//! passed over, but only while others are heard: a server that takes no writes must not empty what it still tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use outrigger_discovery::{Framework, Instance, ServiceKey, StatusCell, formats::join};

use crate::{
    entry::{Entry, Holder, MANAGED_BY, Marks, OURS, SERVICE_NAME},
    feed::{Feeds, Items, Kind},
    link::Shared,
    ports::{self, Port},
};

/// How many beats may be missed before an entry is read no more.
const MISSED: u32 = 3;

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) ip: String,
    pub(crate) pod: Option<String>,
    zone: Option<String>,
    node: Option<String>,
    ready: bool,
    serving: bool,
    terminating: bool,
}

impl Endpoint {
    /// Whether it is to be called.
    pub(crate) const fn is_ready(&self) -> bool {
        self.ready && !self.terminating
    }
}

/// A slice.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) service: String,
    pub(crate) version: String,
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// What a slice of ours says; `None`: it is another's.
    pub(crate) marks: Option<Marks>,
    /// When those who keep entries of it were last seen to say so, by our own clock.
    pub(crate) heard: BTreeMap<String, Instant>,
    /// Those that fell silent.
    pub(crate) silent: BTreeSet<String>,
}

impl Slice {
    /// The entries that count.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let all = self.marks.iter().flat_map(|marks| &marks.entries);
        all.filter(|entry| !self.silent.contains(&entry.holder))
    }

    /// The entries of these frameworks for a service, as instances.
    fn instances_of(&self, frameworks: &[Framework], service: &str) -> impl Iterator<Item = Instance> {
        let about = move |entry: &&Entry| {
            entry.service == service && entry.framework().is_some_and(|one| frameworks.contains(&one))
        };
        self.entries().filter(about).filter_map(Entry::instance)
    }

    /// The services of a framework that it says something of.
    pub(crate) fn services(&self, framework: Framework) -> impl Iterator<Item = &str> {
        let plain = matches!(framework, Framework::Spring | Framework::Plain);
        let own = (plain && self.marks.is_none()).then_some(self.service.as_str());
        let kinds = kinds(framework);
        let listed = self.entries().filter(|entry| entry.framework().is_some_and(|one| kinds.contains(&one)));
        own.into_iter().chain(listed.map(|entry| entry.service.as_str()))
    }
}

/// The frameworks whose entries are one kind: a service of Spring Cloud is a name like any other.
fn kinds(framework: Framework) -> &'static [Framework] {
    match framework {
        Framework::Dubbo => &[Framework::Dubbo],
        Framework::Sofarpc => &[Framework::Sofarpc],
        Framework::Spring | Framework::Plain => &[Framework::Spring, Framework::Plain],
    }
}

/// The instances that slices of ours list for what `key` wants.
pub(crate) fn listed(items: &Items<Slice>, key: &ServiceKey) -> Vec<Instance> {
    let kinds = kinds(key.framework);
    let all = items.values().flat_map(|slice| slice.instances_of(kinds, &key.service));
    all.filter(|instance| key.admits(instance)).collect()
}

/// The instances of a Service by all its slices; `Err`: which of its ports is meant is not clear.
pub(crate) fn of_service(
    items: &Items<Slice>,
    name: &str,
    key: &ServiceKey,
) -> Result<Vec<Instance>, String> {
    let slices = || items.values().filter(|slice| slice.service == name);
    // What says more is put first: of one address the first counts.
    let mut found: Vec<Instance> =
        slices().flat_map(|slice| slice.instances_of(kinds(key.framework), name)).collect();
    let others = || slices().filter(|slice| slice.marks.is_none());
    let stages: [fn(&Endpoint) -> bool; 2] =
        [Endpoint::is_ready, |endpoint| endpoint.serving && endpoint.terminating];
    for stage in stages {
        for slice in others() {
            let mut endpoints = slice.endpoints.iter().filter(|endpoint| stage(endpoint)).peekable();
            if endpoints.peek().is_none() {
                continue;
            }
            let port = ports::choose(&slice.ports, key.protocol.as_deref())
                .map_err(|why| format!("Service {name}: {why}"))?;
            found.extend(endpoints.map(|endpoint| endpoint.instance(port)));
        }
        // Who is going away is called only where nobody else is left.
        if !found.is_empty() {
            break;
        }
    }
    found.retain(|instance| key.admits(instance));
    Ok(found)
}

impl Endpoint {
    fn instance(&self, port: u16) -> Instance {
        let mut instance = Instance::new(join(&self.ip, port));
        for (name, value) in [("zone", &self.zone), ("node", &self.node), ("pod", &self.pod)] {
            if let Some(value) = value {
                instance.metadata.insert(name.to_owned(), value.clone());
            }
        }
        instance
    }
}

/// The kind of [`Slice`]s.
pub(crate) struct Slices;

/// Who was heard when.
#[derive(Default)]
pub(crate) struct Beats {
    last: BTreeMap<(String, String), (Option<String>, Instant)>,
    /// When anybody was last heard to go on.
    progress: Option<Instant>,
}

impl Beats {
    /// Notes what a keeper of a slice says, and since when.
    fn note(&mut self, slice: &str, holder: &str, said: &Holder, now: Instant, anew: bool) -> Instant {
        let (beat, since) = self
            .last
            .entry((slice.to_owned(), holder.to_owned()))
            .or_insert_with(|| (said.beat.clone(), now));
        if *beat != said.beat {
            (*beat, *since) = (said.beat.clone(), now);
            self.progress = Some(now);
        } else if anew {
            // Nobody could be heard meanwhile.
            *since = now;
        }
        *since
    }

    /// Whether who was last heard then has fallen silent while others did not.
    fn is_silent(&self, since: Instant, limit: Duration) -> bool {
        self.progress.is_some_and(|progress| progress.saturating_duration_since(since) > limit)
    }
}

impl Kind for Slices {
    type Object = EndpointSlice;
    type Kept = Slice;
    type Memory = Beats;
    const LABEL: Option<&'static str> = Some(SERVICE_NAME);

    fn keep(object: EndpointSlice, status: &StatusCell) -> Option<Slice> {
        let EndpointSlice { address_type, endpoints, metadata, ports } = object;
        let labels = metadata.labels.unwrap_or_default();
        let service = labels.get(SERVICE_NAME)?.clone();
        // Names instead of addresses: no controller makes them, and what they would mean is nowhere said.
        if address_type == "FQDN" {
            status.unreadable();
            return None;
        }
        let ours = labels.get(MANAGED_BY).is_some_and(|by| by == OURS);
        let marks = metadata.annotations.as_ref().filter(|_| ours).and_then(Marks::read);
        for _ in 0..marks.as_ref().map_or(0, |marks| marks.bad) {
            status.unreadable();
        }
        let endpoints = endpoints.into_iter().filter_map(|endpoint| {
            let Some(ip) = endpoint.addresses.into_iter().next().filter(|ip| ip.parse::<IpAddr>().is_ok())
            else {
                status.unreadable();
                return None;
            };
            let conditions = endpoint.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let pod = endpoint.target_ref.filter(|of| of.kind.as_deref() == Some("Pod"));
            Some(Endpoint {
                ip,
                pod: pod.and_then(|of| of.name),
                zone: endpoint.zone,
                node: endpoint.node_name,
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
            })
        });
        Some(Slice {
            service,
            version: metadata.resource_version.unwrap_or_default(),
            endpoints: endpoints.collect(),
            ports: ports::read(ports.unwrap_or_default()),
            marks,
            heard: BTreeMap::new(),
            silent: BTreeSet::new(),
        })
    }

    fn settle(shared: &Shared, beats: &mut Beats, items: &mut Items<Slice>, anew: bool) {
        let now = Instant::now();
        beats.last.retain(|(slice, _), _| items.contains_key(slice));
        for (name, slice) in items.iter() {
            for (holder, said) in slice.marks.iter().flat_map(|marks| &marks.holders) {
                if said.beat.is_some() {
                    beats.note(name, holder, said, now, anew);
                }
            }
        }
        let limit = shared.settings.beat.saturating_mul(MISSED);
        for (name, slice) in items.iter_mut() {
            let Some(marks) = &slice.marks else { continue };
            let heard: BTreeMap<String, Instant> = marks
                .holders
                .keys()
                .filter_map(|holder| {
                    let (_, since) = beats.last.get(&(name.clone(), holder.clone()))?;
                    Some((holder.clone(), *since))
                })
                .collect();
            let silent: BTreeSet<String> = heard
                .iter()
                .filter(|(_, since)| beats.is_silent(**since, limit))
                .map(|(holder, _)| holder.clone())
                .collect();
            if slice.heard != heard || slice.silent != silent {
                *slice = Arc::new(Slice { heard, silent, ..Slice::clone(slice) });
            }
        }
    }

    fn feeds(shared: &Shared) -> &Feeds<Self> {
        &shared.slices
    }
}
