//! Clusters made on demand: a route may send each call to the service that it names, whatever that is.
//!
//! The name of such a cluster is made from the call. Where the snapshot has none of that name, its endpoints have still to be
//! found: the call gets an endpoint that nobody can connect to, waits in line there as calls do, and is moved when a
//! snapshot has the cluster, even if it has no endpoint. Whoever makes snapshots is told ([`Awaited`]), and must answer by one.

use std::sync::Arc;

use outrigger_codec::{Head, Slot};

use crate::{ClusterSettings, EndpointSlot, Local, Snapshot};

/// Longest name of a service, with its version and group, that is looked for.
const NAME_MAX: usize = 512;
/// Services that one worker waits for at once; calls that name more have no endpoint.
const AWAITED_MAX: usize = 1_024;
/// The version that Dubbo writes where there is none.
const NO_VERSION: &[u8] = b"0.0.0";

/// Which services a route's calls may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What the names of its clusters begin with; unique among the demands of a snapshot.
    pub prefix: Box<str>,
    /// Whether a call names its service by its authority, as those of HTTP do.
    pub by_authority: bool,
}

/// A service that calls wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The name of its cluster.
    pub cluster: Box<str>,
    /// By which it is looked for.
    pub demand: Arc<Demand>,
    /// The service.
    pub service: Box<str>,
    /// Its version; `None`: the call names none.
    pub version: Option<Box<str>>,
    /// Its group; `None`: the call names none.
    pub group: Option<Box<str>>,
}

/// Where a call goes that names its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demanded {
    /// To this cluster of the snapshot.
    Cluster(u32),
    /// It waits here until there is one.
    Waits(EndpointSlot),
    /// Nowhere: too many wait already.
    TooMany,
    /// Nowhere: it names none, or by a name that nobody has.
    Nameless,
}

impl Demand {
    /// The parts of a call's name for its service: service, version, group.
    fn parts<'a>(&self, head: Head<'a>) -> Option<[Option<&'a str>; 3]> {
        let text = |slot| head.slot(slot).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let service =
            if self.by_authority { text(Slot::Host).or(text(Slot::Authority)) } else { text(Slot::Service) };
        let some =
            |part: Option<&'a str>| part.filter(|part| !part.is_empty() && part.as_bytes() != NO_VERSION);
        if self.by_authority {
            return Some([Some(some(service)?), None, None]);
        }
        Some([Some(some(service)?), some(text(Slot::Version)), some(text(Slot::Group))])
    }

    /// The service as a call would name it, before any call does; `None`: none can name it so.
    pub fn awaited(
        self: &Arc<Self>,
        service: &str,
        version: Option<&str>,
        group: Option<&str>,
    ) -> Option<Awaited> {
        let some = |part: &&str| !part.is_empty() && part.as_bytes() != NO_VERSION;
        let service = Some(service).filter(some)?;
        let [version, group] = [version, group].map(|part| part.filter(some));
        let mut name = String::new();
        if self.by_authority || !self.name(&[Some(service), version, group], &mut name) {
            return None;
        }
        let owned = |part: Option<&str>| part.map(Box::from);
        Some(Awaited {
            cluster: name.into(),
            demand: Arc::clone(self),
            service: service.into(),
            version: owned(version),
            group: owned(group),
        })
    }

    /// Writes the name of the cluster of a call; `false`: it has none.
    fn name(&self, parts: &[Option<&str>; 3], out: &mut String) -> bool {
        out.clear();
        out.push_str(&self.prefix);
        for (sign, part) in ["", ":", "@"].into_iter().zip(parts) {
            let Some(part) = part else { continue };
            // Names go into registries' paths and into people's terminals.
            let fits = part.len() <= NAME_MAX
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-$:".contains(&byte))
                && !part.starts_with('.');
            if !fits {
                return false;
            }
            out.push_str(sign);
            out.push_str(part);
        }
        out.len() <= NAME_MAX
    }
}

/// Where a call goes that names its service.
pub(crate) fn place(
    snapshot: &Snapshot,
    local: &mut Local,
    demand: &Arc<Demand>,
    head: Head<'_>,
) -> Demanded {
    let Some(parts) = demand.parts(head) else { return Demanded::Nameless };
    let mut name = std::mem::take(&mut local.name);
    let placed = if !demand.name(&parts, &mut name) {
        Demanded::Nameless
    } else if let Some(cluster) = snapshot.cluster_named(&name) {
        Demanded::Cluster(cluster)
    } else if local.awaited_len() >= AWAITED_MAX {
        Demanded::TooMany
    } else {
        let owned = |part: Option<&str>| part.map(Box::from);
        let [service, version, group] = parts;
        Demanded::Waits(local.awaits(&name, || Awaited {
            cluster: name.as_str().into(),
            demand: Arc::clone(demand),
            service: service.unwrap_or_default().into(),
            version: owned(version),
            group: owned(group),
        }))
    };
    local.name = name;
    placed
}

/// How nobody is connected to: calls wait.
pub(crate) fn nobody() -> ClusterSettings {
    ClusterSettings { connections: Some(0), ..ClusterSettings::default() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // tests fail by panicking
mod tests {
    use outrigger_codec::{HeadIndex, Span};

    use super::*;

    fn named(demand: &Demand, slots: &[(Slot, &str)]) -> Option<String> {
        let (mut bytes, mut index) = (Vec::new(), HeadIndex::default());
        for (slot, text) in slots {
            index.set(*slot, Span::new(bytes.len(), text.len()));
            bytes.extend_from_slice(text.as_bytes());
        }
        let mut name = String::new();
        let parts = demand.parts(Head { bytes: &bytes, index: &index })?;
        demand.name(&parts, &mut name).then_some(name)
    }

    #[test]
    fn what_is_awaited_before_a_call_names_it_is_what_the_call_will_name() {
        let demand = Arc::new(Demand { prefix: "zk/".into(), by_authority: false });
        let cluster = |service: &str, version: Option<&str>, group: Option<&str>| {
            Some(demand.awaited(service, version, group)?.cluster.to_string())
        };
        let called = [(Slot::Service, "a.B"), (Slot::Version, "1.0:u"), (Slot::Group, "g")];
        assert_eq!(cluster("a.B", Some("1.0:u"), Some("g")), named(&demand, &called));
        assert_eq!(cluster("a.B", Some("0.0.0"), Some("")), named(&demand, &[(Slot::Service, "a.B")]));
        for bad in ["", "a/b", "a@b", "../x"] {
            assert_eq!(cluster(bad, None, None), None, "{bad}");
        }
        assert_eq!(cluster("a.B", Some("1/2"), None), None);
        let web = Arc::new(Demand { prefix: "n/".into(), by_authority: true });
        assert!(web.awaited("shop", None, None).is_none(), "calls name that by their authority");
    }

    #[test]
    fn a_cluster_is_named_by_service_version_and_group() {
        let demand = Demand { prefix: "zk/".into(), by_authority: false };
        let name = |slots: &[(Slot, &str)]| named(&demand, slots);
        let service = (Slot::Service, "com.example.Echo");
        assert_eq!(name(&[service]).unwrap(), "zk/com.example.Echo");
        assert_eq!(
            name(&[service, (Slot::Version, "0.0.0"), (Slot::Group, "")]).unwrap(),
            "zk/com.example.Echo"
        );
        assert_eq!(
            name(&[service, (Slot::Version, "1.0:uid"), (Slot::Group, "blue")]).unwrap(),
            "zk/com.example.Echo:1.0:uid@blue"
        );
        let nobody = [(Slot::Service, "")];
        assert_eq!((name(&nobody), name(&[])), (None, None));
        for bad in ["a/b", "../x", "a b", "a\u{7f}", "\u{fc}", "a@b", &"x".repeat(600)] {
            assert_eq!(name(&[(Slot::Service, bad)]), None, "{bad}");
            assert_eq!(name(&[service, (Slot::Version, bad)]), None, "{bad}");
        }
        let web = Demand { prefix: "n/".into(), by_authority: true };
        assert_eq!(named(&web, &[(Slot::Authority, "shop:80"), (Slot::Host, "shop")]).unwrap(), "n/shop");
    }
}
