//! What the conf means for endpoints: where they are, and how they are told apart.

use std::collections::{BTreeMap, HashSet};

use outrigger_core::{Division, Endpoint, Lot, Selector, Tags, Zones};

use super::{
    super::{endpoints as written, file, report::quote, yaml::At},
    Lowering,
};

impl Lowering<'_> {
    pub(super) fn endpoints(&mut self, at: At<'_>, written: &[written::Endpoint]) -> Vec<Endpoint> {
        let mut seen = HashSet::new();
        for (i, written::Endpoint(endpoint)) in written.iter().enumerate() {
            let (address, at) = (&endpoint.address, at.index(i));
            let at = if at.has("address") { at.key("address") } else { at };
            if !is_host_port(address) {
                let message = format!("expected `host:port`, found {}", quote(address));
                self.problems.push(at.problem(message).with_help("as in 10.0.0.7:12200 or echo.local:12200"));
            } else if !seen.insert(address) {
                self.problems.push(at.problem(format!("{address} is listed twice")));
            }
        }
        let made = |written::Endpoint(endpoint): &written::Endpoint| {
            Endpoint::new(&endpoint.address, endpoint.weight).saying(pairs(&endpoint.metadata).collect())
        };
        written.iter().map(made).collect()
    }

    /// Which endpoints of a cluster a route means, remembered for the cluster.
    pub(super) fn subset(&mut self, cluster: u32, route: &file::Route) -> Lot {
        if route.subset.is_empty() {
            return Lot::ALL;
        }
        let selector = Selector { want: pairs(&route.subset).collect(), fallback: route.subset_fallback };
        let lot = Lot::of(&selector);
        let known = self.subsets.entry(cluster).or_default();
        if !known.contains(&selector) {
            known.push(selector);
        }
        lot
    }

    /// How the endpoints of a cluster are told apart.
    pub(super) fn division(&mut self, at: At<'_>, cluster: &file::Cluster) -> Division {
        let own = self.conf.environment.as_deref().filter(|own| !own.is_empty());
        if cluster.environments.as_ref().is_some_and(Vec::is_empty) {
            let problem = at.key("environments").problem("expected at least one environment");
            self.problems.push(problem.with_help("leave it out for the process's own"));
        }
        let environments = match &cluster.environments {
            Some(environments) => environments.iter().map(|name| name.as_str().into()).collect(),
            None => own.into_iter().map(Into::into).collect(),
        };
        Division {
            environments,
            only: pairs(&cluster.subset).collect(),
            subsets: Vec::new(),
            tags: cluster.tags.as_ref().map(|tags| self.tags(at.key("tags"), tags)),
            zones: self.zones(at.key("zones"), cluster),
        }
    }

    fn tags(&mut self, at: At<'_>, tags: &written::Tags) -> Tags {
        let named = tags.header.0.iter().filter(|name| !name.is_empty());
        let headers: Vec<Box<[u8]>> = named.map(|name| name.as_bytes().into()).collect();
        if headers.is_empty() {
            self.problems.push(at.key("header").problem("expected the name of a header"));
        }
        if tags.metadata.is_empty() {
            self.problems.push(at.key("metadata").problem("expected what endpoints call the tag"));
        }
        let force = (!tags.force_header.is_empty()).then(|| tags.force_header.as_bytes().into());
        Tags { headers, metadata: tags.metadata.as_str().into(), fallback: tags.fallback, force }
    }

    fn zones(&mut self, at: At<'_>, cluster: &file::Cluster) -> Option<Zones> {
        let own = self.conf.zone.as_deref().filter(|own| !own.is_empty());
        let zones = cluster.zones.clone().unwrap_or_default();
        if own.is_none() && cluster.zones.is_some() && !self.at.has("zone") {
            let problem = at.problem("which endpoints are near is not known");
            self.problems
                .push(problem.with_help("say where the process runs, as in `zone: eu-1a` at the top"));
        }
        if let Some(both) = zones.near.iter().position(|zone| zones.last.contains(zone)) {
            self.problems.push(at.key("near").index(both).problem("this zone is among the last ones, too"));
        }
        if zones.spill.get() == 0 {
            let problem = at.key("spill").problem("expected at least 1%");
            self.problems.push(problem.with_help("1% means: only when hardly any is left"));
        }
        let names = |zones: &[String]| zones.iter().map(|zone| zone.as_str().into()).collect();
        let own = own.filter(|_| zones.local_first)?;
        Some(Zones {
            own: own.into(),
            near: names(&zones.near),
            last: names(&zones.last),
            spill: zones.spill.get(),
        })
    }
}

fn pairs(map: &BTreeMap<String, String>) -> impl Iterator<Item = (Box<str>, Box<str>)> {
    map.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()))
}

/// Whether a text is `host:port` with a port above 0.
pub(super) fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    !host.is_empty()
        && !host.contains(|c: char| c.is_whitespace() || c == '/')
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}
