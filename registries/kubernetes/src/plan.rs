//! Which slices what is desired comes to, and what cannot be expressed in Kubernetes at all.
//!
//! Registrations in, slices out; it must never ask anybody. A slice has the same name for whoever writes the same: that of its
//! Service and a digest, of the host where all that is desired of a Service is at one host (a sidecar beside its
//! application: no other pod writes there), and else of the framework, the ports and a share of the hosts (a bridge: its
//! successor finds the same slices). No name is changed to fit: a caller could not know.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use outrigger_discovery::{Framework, Registration, formats::split};

use crate::{
    entry::{Entry, Key, digest},
    ledger::Row,
};

/// How many hosts a slice has at most, as those of the controllers.
const HOSTS_MAX: usize = 100;
/// How much the entries of a slice may come to: all annotations of an object may have 256 KiB, and an object in all 1.5 MiB.
const BYTES_MAX: usize = 160 * 1024;
/// What an entry has besides its texts.
const ENTRY_BYTES: usize = 200;
/// Into how many slices one group is divided at most.
const SHARES_MAX: u64 = 4096;

/// Whether Kubernetes has words for it; the reason if not, for a person. It asks nobody, so a Service that is there and has a
/// selector is not known of here.
pub fn expressible(registration: &Registration) -> Result<(), String> {
    let service = service_of(registration);
    let refuse = |why: String| Err(format!("{} at {}: {why}", registration.service, registration.address));
    if !is_service_name(service) {
        return refuse(format!(
            "{service:?} is no name of a Service in Kubernetes: small letters, digits and `-`, a letter first, at most 63"
        ));
    }
    if let Err(why) = host_of(&registration.address) {
        return refuse(why.to_owned());
    }
    if bytes(&Entry::of(registration, "")) > BYTES_MAX {
        return refuse(format!("its metadata is more than the {} KiB that fit", BYTES_MAX / 1024));
    }
    Ok(())
}

/// The Service that a registration is of.
fn service_of(registration: &Registration) -> &str {
    match registration.framework {
        Framework::Spring | Framework::Plain => &registration.service,
        Framework::Dubbo | Framework::Sofarpc => &registration.app,
    }
}

/// The host of an address, if an endpoint may have it.
fn host_of(address: &str) -> Result<IpAddr, &'static str> {
    let (host, port) = split(address).ok_or("its address has no port")?;
    let ip: IpAddr = host.parse().map_err(|_| "an endpoint in Kubernetes has an IP address, not a name")?;
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if port == 0 {
        Err("its address has no port")
    } else if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local {
        Err("no other host can dial its address")
    } else {
        Ok(ip)
    }
}

/// A name of DNS, as namespaces have it (RFC 1123).
pub(crate) fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The name of a Service (RFC 1035).
fn is_service_name(name: &str) -> bool {
    is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

fn bytes(entry: &Entry) -> usize {
    let texts = [&entry.framework, &entry.service, &entry.protocol, &entry.address];
    let metadata = entry.metadata.iter().map(|(name, value)| name.len() + value.len() + 8);
    let more = [&entry.version, &entry.group].into_iter().flatten().map(String::len);
    // Quotes within texts are escaped, and twice where the annotation itself is written.
    let all = texts.into_iter().map(String::len).chain(metadata).chain(more).sum::<usize>();
    all.saturating_add(ENTRY_BYTES)
}

/// An entry that is desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) entry: Entry,
    /// Whether it is left to another who keeps it.
    pub(crate) yields: bool,
    /// The wishes that it is of.
    pub(crate) rows: BTreeSet<u64>,
    ip: IpAddr,
}

/// A slice that is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) service: String,
    pub(crate) wants: BTreeMap<Key, Want>,
}

impl Planned {
    /// Whether all of it is at these addresses.
    pub(crate) fn is_at(&self, ips: &BTreeSet<IpAddr>) -> bool {
        self.wants.values().all(|want| ips.contains(&want.ip))
    }
}

/// All slices of what is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) slices: BTreeMap<String, Planned>,
    /// What cannot be done at all: whose it is, and why.
    pub(crate) refused: Vec<(u64, String)>,
}

impl Plan {
    pub(crate) fn of(rows: &BTreeMap<u64, Row>, holder: &str) -> Self {
        let mut plan = Self::default();
        let mut services: BTreeMap<&str, BTreeMap<Key, Want>> = BTreeMap::new();
        for (number, row) in rows {
            for r in row.registrations.iter() {
                let refused = expressible(r).and_then(|()| host_of(&r.address).map_err(str::to_owned));
                let ip = match refused {
                    Ok(ip) => ip,
                    Err(why) => {
                        plan.refused.push((*number, why));
                        continue;
                    }
                };
                let entry = Entry::of(r, holder);
                let wants = services.entry(service_of(r)).or_default();
                let want = wants.entry(entry.key()).or_insert_with(|| Want {
                    entry,
                    yields: true,
                    rows: BTreeSet::new(),
                    ip,
                });
                want.yields &= row.yields;
                want.rows.insert(*number);
            }
        }
        for (service, wants) in services {
            for (group, wants) in groups(wants) {
                for (share, wants) in shares(&wants) {
                    let name = format!("{service}-outrigger-{:016x}", digest([&*group, &*share.to_string()]));
                    plan.slices.insert(name, Planned { service: service.to_owned(), wants });
                }
            }
        }
        plan
    }

    /// Whether an entry is desired in any slice of a Service.
    pub(crate) fn wants(&self, service: &str, key: &Key) -> bool {
        let mut slices = self.slices.values().filter(|slice| slice.service == service);
        slices.any(|slice| slice.wants.contains_key(key))
    }

    /// The Services that it needs.
    pub(crate) fn services(&self) -> BTreeSet<&str> {
        self.slices.values().map(|slice| slice.service.as_str()).collect()
    }
}

type Wants = BTreeMap<Key, Want>;

/// What is written together, under names that whoever writes the same comes to as well.
fn groups(wants: Wants) -> BTreeMap<String, Wants> {
    let hosts: BTreeSet<IpAddr> = wants.values().map(|want| want.ip).collect();
    let mut hosts = hosts.into_iter();
    if let (Some(only), None) = (hosts.next(), hosts.next()) {
        return BTreeMap::from([(format!("host {only}"), wants)]);
    }
    // All endpoints of a slice have the same ports.
    let mut ports: BTreeMap<(IpAddr, String), BTreeSet<String>> = BTreeMap::new();
    for want in wants.values() {
        let port = want.entry.address.rsplit(':').next().unwrap_or_default();
        let port = format!("{} {port}", want.entry.protocol);
        ports.entry((want.ip, want.entry.framework.clone())).or_default().insert(port);
    }
    let mut groups = BTreeMap::new();
    for (key, want) in wants {
        let same = ports.get(&(want.ip, want.entry.framework.clone()));
        let same: Vec<&str> = same.into_iter().flatten().map(String::as_str).collect();
        let family = if want.ip.is_ipv4() { 4 } else { 6 };
        let group = format!("{} IPv{family} {}", want.entry.framework, same.join(" "));
        groups.entry(group).or_insert_with(BTreeMap::new).insert(key, want);
    }
    groups
}

/// A group, divided until each part fits into a slice: by hosts as long as that helps, then by entries.
fn shares(wants: &Wants) -> BTreeMap<u64, Wants> {
    let by_host = |want: &Want| digest([&*want.ip.to_string()]);
    let by_entry = |want: &Want| {
        let Entry { service, address, version, group, .. } = &want.entry;
        let more = [version, group].map(|part| part.as_deref().unwrap_or_default());
        digest([service.as_str(), address, more[0], more[1]])
    };
    let divided = |count: u64, by: &dyn Fn(&Want) -> u64| {
        let mut parts: BTreeMap<u64, Wants> = BTreeMap::new();
        for (key, want) in wants {
            let share = by(want).checked_rem(count).unwrap_or(0);
            parts.entry(share).or_default().insert(key.clone(), want.clone());
        }
        parts
    };
    let counts = || (0..).map(|power| 1u64 << power).take_while(|count| *count <= SHARES_MAX);
    let fits = |parts: &BTreeMap<u64, Wants>| parts.values().all(fits);
    counts()
        .map(|count| divided(count, &by_host))
        .find(fits)
        .or_else(|| counts().map(|count| divided(count, &by_entry)).find(fits))
        .unwrap_or_else(|| divided(SHARES_MAX, &by_entry))
}

fn fits(wants: &Wants) -> bool {
    let hosts: BTreeSet<IpAddr> = wants.values().map(|want| want.ip).collect();
    hosts.len() <= HOSTS_MAX && wants.values().map(|want| bytes(&want.entry)).sum::<usize>() <= BYTES_MAX
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use outrigger_discovery::Level;

    use super::*;

    fn registration(framework: Framework, service: &str, address: &str) -> Registration {
        Registration {
            app: "shop".into(),
            framework,
            level: Level::Interface,
            service: service.into(),
            protocol: "http".into(),
            address: address.into(),
            group: None,
            version: None,
            weight: 100,
            started: 1,
            metadata: BTreeMap::new(),
        }
    }

    fn plan(registrations: Vec<Registration>, holder: &str) -> Plan {
        let row = Row { wish: 1, registrations: Arc::from(registrations), yields: false };
        Plan::of(&BTreeMap::from([(7, row)]), holder)
    }

    #[test]
    fn what_kubernetes_has_no_words_for_is_refused_with_the_reason() {
        let plain = |service: &str, address: &str| registration(Framework::Plain, service, address);
        assert_eq!(expressible(&plain("rates-2", "10.0.0.1:80")), Ok(()));
        assert_eq!(expressible(&plain("rates", "[fd00::1]:80")), Ok(()));
        assert_eq!(expressible(&registration(Framework::Dubbo, "com.example.A", "10.0.0.1:80")), Ok(()));
        for (service, address, why) in [
            ("Rates", "10.0.0.1:80", "no name of a Service"),
            ("2rates", "10.0.0.1:80", "no name of a Service"),
            ("rates.eu", "10.0.0.1:80", "no name of a Service"),
            (&*"a".repeat(64), "10.0.0.1:80", "at most 63"),
            ("rates", "127.0.0.1:80", "no other host"),
            ("rates", "169.254.1.1:80", "no other host"),
            ("rates", "[fe80::1]:80", "no other host"),
            ("rates", "[::ffff:127.0.0.1]:80", "no other host"),
            ("rates", "0.0.0.0:80", "no other host"),
            ("rates", "224.0.0.1:80", "no other host"),
            ("rates", "host.example:80", "not a name"),
            ("rates", "10.0.0.1", "no port"),
            ("rates", "10.0.0.1:0", "no port"),
        ] {
            let said = expressible(&plain(service, address)).unwrap_err();
            assert!(said.contains(why) && said.contains(service), "{service} {address}: {said}");
        }
        let mut dubbo = registration(Framework::Dubbo, "com.example.A", "10.0.0.1:80");
        dubbo.app = "Shop".into();
        assert!(
            expressible(&dubbo).unwrap_err().contains("\"Shop\""),
            "of Dubbo the application is the Service"
        );
        let mut large = plain("rates", "10.0.0.1:80");
        large.metadata.insert("a".into(), "b".repeat(BYTES_MAX));
        assert!(expressible(&large).unwrap_err().contains("KiB"));
    }

    #[test]
    fn pods_have_slices_of_their_own_and_who_writes_the_same_has_the_same() {
        let one = plan(vec![registration(Framework::Dubbo, "a.A", "10.0.0.1:80")], "x");
        let two = plan(vec![registration(Framework::Dubbo, "a.A", "10.0.0.2:80")], "y");
        let names = |plan: &Plan| plan.slices.keys().cloned().collect::<Vec<_>>();
        assert_ne!(names(&one), names(&two), "two sidecars of one application must not meet");
        let also = registration(Framework::Sofarpc, "a.B", "10.0.0.1:81");
        let more = plan(vec![registration(Framework::Dubbo, "a.A", "10.0.0.1:80"), also], "z");
        assert_eq!(names(&one), names(&more), "all of one pod is in one slice");
        let bridge = |holder: &str, hosts: u8| {
            let all = (1..=hosts).map(|n| registration(Framework::Plain, "rates", &format!("10.0.0.{n}:80")));
            plan(all.collect(), holder)
        };
        assert_eq!(names(&bridge("x", 2)), names(&bridge("y", 9)));
        assert_eq!(names(&bridge("x", 2)).len(), 1);
    }

    #[test]
    fn a_slice_has_one_kind_of_ports_and_one_family() {
        let plan = plan(
            vec![
                registration(Framework::Plain, "rates", "10.0.0.1:80"),
                registration(Framework::Plain, "rates", "10.0.0.2:80"),
                registration(Framework::Plain, "rates", "10.0.0.3:81"),
                registration(Framework::Plain, "rates", "[fd00::1]:80"),
            ],
            "x",
        );
        let sizes: BTreeSet<usize> = plan.slices.values().map(|slice| slice.wants.len()).collect();
        assert_eq!((plan.slices.len(), sizes), (3, BTreeSet::from([1, 2])));
    }

    #[test]
    fn what_does_not_fit_is_divided_and_growing_moves_little() {
        let bridge = |hosts: u16| {
            let address = |n: u16| format!("10.0.{}.{}:80", n / 250, n % 250 + 1);
            plan((0..hosts).map(|n| registration(Framework::Plain, "rates", &address(n))).collect(), "x")
        };
        let (few, many) = (bridge(100), bridge(450));
        assert_eq!(few.slices.len(), 1);
        assert!(many.slices.len() >= 5 && many.slices.values().all(|slice| fits(&slice.wants)));
        assert_eq!(many.slices.values().map(|slice| slice.wants.len()).sum::<usize>(), 450);
        let first = few.slices.keys().next().unwrap();
        assert!(many.slices.contains_key(first), "the first share keeps its name");
        let mut large = registration(Framework::Dubbo, "a.A", "10.0.0.1:80");
        large.metadata.insert("methods".into(), "m".repeat(60_000));
        let all = (0..8).map(|n| Registration { service: format!("a.A{n}"), ..large.clone() });
        let heavy = plan(all.collect(), "x");
        assert!(heavy.slices.len() >= 4 && heavy.slices.values().all(|slice| fits(&slice.wants)));
    }

    #[test]
    fn one_entry_of_two_wishes_is_one() {
        let r = registration(Framework::Plain, "rates", "10.0.0.1:80");
        let row = |yields| Row { wish: 1, registrations: Arc::from([r.clone()]), yields };
        let both = Plan::of(&BTreeMap::from([(1, row(true)), (2, row(false))]), "x");
        let want = both.slices.values().flat_map(|slice| slice.wants.values()).next().unwrap();
        assert_eq!((want.yields, want.rows.len()), (false, 2), "who does not yield decides");
    }
}
