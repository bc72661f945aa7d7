//! Both ways at once between `ZooKeeper` and etcd: Dubbo at both levels, SOFARPC and Spring Cloud. At every look each service has its
//! three instances on either side, also while who writes is killed, and none when the originals are gone.

use super::confs::{ET, ZK, bridges, head};
use super::eye::{Eye, Place};
use super::lists::{In, List, Of, until};
use super::provider::{Provider, addresses};
use super::servers::etcd;
use super::sidecars::names;
use super::support::{Sidecar, decoded, free_port};
use super::zk;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A minute, longer than a copy of a copy would need to come back.
const STILL: Duration = Duration::from_secs(60);
/// How long it is looked whether what is gone comes back.
const GONE: Duration = Duration::from_secs(10);
/// Longer than what a dead writer made known lasts in either.
const LASTS: Duration = Duration::from_secs(12);
/// The application of what a sidecar registers.
const APP: &str = "etcd-shop";
/// That of what names none.
const BRIDGING: &str = "etcd-bridging";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Dubbo,
    Sofa,
    Spring,
}

const KINDS: [Kind; 3] = [Kind::Dubbo, Kind::Sofa, Kind::Spring];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    ZooKeeper,
    Etcd,
}

const BOTH: [At; 2] = [At::ZooKeeper, At::Etcd];

/// One that stands there: its address, and what it says.
type Entry = (String, BTreeMap<String, String>);

pub(crate) fn story() {
    let services = KINDS.map(|kind| (kind.framework(), kind.service(At::ZooKeeper), kind.more()));
    let provider = Provider::start(APP, &services.each_ref().map(|(of, name, more)| (*of, &**name, *more)));
    let port = free_port();
    for (kind, address) in originals(port) {
        kind.put(&address);
    }
    let lines = lines();
    let conf = || format!("{}{}", head(BRIDGING, &[ZK, ET], None), bridges(&lines));
    let first = Sidecar::start(&conf());
    first.becomes("leading", &names(&lines));
    let second = Sidecar::start(&conf());
    let places = places(provider.port, port);
    places.iter().for_each(Place::is_so);
    for bridge in names(&lines) {
        first.is_done(&bridge);
    }
    are_marked();
    second.becomes("standby", &names(&lines));
    let eye = Eye::open(places);
    provider.is_called(&head("etcd-caller", &[ET], None), ET, Kind::Dubbo.name_zk(), Kind::Sofa.name_zk());
    std::thread::sleep(STILL);
    let before = leases();
    // Dropping it is SIGKILL.
    drop(first);
    second.becomes("leading", &names(&lines));
    for bridge in names(&lines) {
        second.is_done(&bridge);
    }
    until("all copies go with the second", || leases().is_disjoint(&before));
    std::thread::sleep(LASTS);
    let places = eye.close("ZooKeeper and etcd, over a writer that is killed");
    provider.leave();
    for (kind, address) in originals(port) {
        kind.take(&address);
    }
    let places: Vec<Place> = places.into_iter().map(|place| Place { wanted: Vec::new(), ..place }).collect();
    places.iter().for_each(Place::is_so);
    let eye = Eye::open(places);
    std::thread::sleep(GONE);
    eye.close("ZooKeeper and etcd, all originals gone");
    for bridge in names(&lines) {
        second.has_nothing(&bridge);
    }
}

/// What stands in etcd by itself, at a port of every host.
fn originals(port: u16) -> impl Iterator<Item = (Kind, String)> {
    KINDS.into_iter().flat_map(move |kind| addresses(port).into_iter().map(move |address| (kind, address)))
}

/// A bridge for each kind and way.
fn lines() -> Vec<String> {
    let ways = [("ze", "zk", "et"), ("ez", "et", "zk")];
    let line = |kind: &Kind, (way, from, to): (&str, &str, &str)| {
        let framework = kind.framework();
        format!(
            "e-{framework}-{way}: {{ from: {from}, to: {to}, framework: {framework}, services: {{ prefix: e. }}, \
             hold_empty: 2s, patience: 3s }}"
        )
    };
    KINDS.iter().flat_map(|kind| ways.map(|way| line(kind, way))).collect()
}

/// Every service in both, and the instances of the applications; by where the originals are, their port.
fn places(at_zookeeper: u16, at_etcd: u16) -> Vec<Place> {
    let mut places = Vec::new();
    for kind in KINDS {
        for (home, port) in [(At::ZooKeeper, at_zookeeper), (At::Etcd, at_etcd)] {
            for at in BOTH {
                let look = move || sorted(kind.entries(at, home).into_iter().map(|(address, _)| address));
                let name = format!("{} in {at:?}", kind.service(home));
                places.push(Place { name, look: Box::new(look), wanted: addresses(port) });
            }
        }
    }
    for (app, port) in [(APP, at_zookeeper), (BRIDGING, at_etcd)] {
        let there =
            move || sorted(zk::children(&format!("/services/{app}")).into_iter().map(|node| node.name));
        let here = move || {
            let keys = etcd().below(&format!("/services/{app}/"));
            sorted(keys.iter().map(|entry| entry.node().to_owned()))
        };
        let place = |at: &str, look| Place { name: format!("{app} in {at}"), look, wanted: addresses(port) };
        places.push(place("ZooKeeper", Box::new(there) as Box<dyn Fn() -> Vec<String> + Send>));
        if app == APP {
            places.push(place("etcd", Box::new(here)));
        }
    }
    places
}

fn sorted(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}

/// The leases that copies in etcd go with.
fn leases() -> BTreeSet<i64> {
    let copies = KINDS.into_iter().flat_map(|kind| etcd().below(&kind.folder(At::ZooKeeper)));
    copies.map(|entry| entry.lease).collect()
}

/// Copies say that they are, and originals do not.
fn are_marked() {
    for kind in KINDS {
        for home in BOTH {
            for at in BOTH {
                for (address, said) in kind.entries(at, home) {
                    let said = |name: &str| said.get(name).map(String::as_str);
                    let mark = ["outrigger.origin", "outrigger.bridge", "outrigger.hops"].map(said);
                    if at == home {
                        assert_eq!(mark, [None; 3], "{kind:?} {address} is an original in {at:?}");
                        continue;
                    }
                    let (way, origin) = match home {
                        At::ZooKeeper => ("ze", "zookeeper:127.0.0.1:2181"),
                        At::Etcd => ("ez", "etcd:127.0.0.1:2379"),
                    };
                    let bridge = format!("e-{}-{way}", kind.framework());
                    assert!(
                        mark[0].is_some_and(|from| from.starts_with(origin)),
                        "{kind:?} in {at:?}: {mark:?}"
                    );
                    assert_eq!(mark[1..], [Some(&*bridge), Some("1")], "{kind:?} in {at:?}");
                }
            }
        }
    }
}

impl Kind {
    fn framework(self) -> &'static str {
        match self {
            Self::Dubbo => "dubbo",
            Self::Sofa => "sofarpc",
            Self::Spring => "spring",
        }
    }

    fn name_zk(self) -> &'static str {
        match self {
            Self::Dubbo => "e.Dubbo.FromZooKeeper",
            Self::Sofa => "e.Sofa.FromZooKeeper",
            Self::Spring => "e.Spring.FromZooKeeper",
        }
    }

    /// The service of this kind whose originals are there.
    fn service(self, home: At) -> String {
        self.name_zk().replace("ZooKeeper", if home == At::ZooKeeper { "ZooKeeper" } else { "Etcd" })
    }

    /// What is said of a service that a sidecar registers.
    fn more(self) -> &'static str {
        if self == Self::Dubbo { ", level: both" } else { "" }
    }

    /// Where that service stands in etcd.
    fn folder(self, home: At) -> String {
        let service = self.service(home);
        match self {
            Self::Dubbo => format!("/dubbo/{service}/providers/"),
            Self::Sofa | Self::Spring => format!("/outrigger/{}/{service}/", self.framework()),
        }
    }

    /// The key of an original in etcd.
    fn key(self, address: &str) -> String {
        let service = self.service(At::Etcd);
        let url = format!("dubbo://{address}/{service}?interface={service}&side=provider");
        let node = if self == Self::Dubbo { escaped(&url) } else { address.to_owned() };
        format!("{}{node}", self.folder(At::Etcd))
    }

    fn put(self, address: &str) {
        etcd().put(&self.key(address), b"");
    }

    fn take(self, address: &str) {
        etcd().delete(&self.key(address));
    }

    /// Who stands there of the service whose originals are at `home`.
    fn entries(self, at: At, home: At) -> Vec<Entry> {
        let service = self.service(home);
        match (at, self) {
            (At::ZooKeeper, Self::Dubbo) => listed(Of::Dubbo, &service),
            (At::ZooKeeper, Self::Sofa) => listed(Of::Sofa, &service),
            (At::ZooKeeper, Self::Spring) => {
                zk::children(&format!("/services/{service}")).iter().map(|node| curator(&node.data)).collect()
            }
            (At::Etcd, Self::Dubbo) => {
                etcd().below(&self.folder(home)).iter().map(|entry| of_url(&decoded(entry.node()))).collect()
            }
            (At::Etcd, Self::Sofa | Self::Spring) => etcd()
                .below(&self.folder(home))
                .iter()
                .map(|entry| (entry.node().to_owned(), metadata(&entry.value)))
                .collect(),
        }
    }
}

fn listed(of: Of, service: &str) -> Vec<Entry> {
    let entries = List::new(of, In::ZooKeeper, service).entries();
    entries.into_iter().map(|entry| (entry.address, entry.said)).collect()
}

fn curator(data: &[u8]) -> Entry {
    let said: Value = serde_json::from_slice(data).expect("a node holds JSON");
    let address = format!("{}:{}", said["address"].as_str().expect("an address"), said["port"]);
    (address, texts(&said["payload"]["metadata"]))
}

/// What a key of the plain layout says.
fn metadata(value: &[u8]) -> BTreeMap<String, String> {
    if value.is_empty() {
        return BTreeMap::new();
    }
    texts(&serde_json::from_slice::<Value>(value).expect("a key holds JSON")["metadata"])
}

fn texts(metadata: &Value) -> BTreeMap<String, String> {
    let all = metadata.as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn of_url(url: &str) -> Entry {
    let (head, query) = url.split_once("://").and_then(|(_, rest)| rest.split_once('?')).expect("a URL");
    let address = head.split('/').next().unwrap_or_default().to_owned();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    (address, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn escaped(url: &str) -> String {
    let one = |c: char| match c {
        c if c.is_ascii_alphanumeric() || c == '.' => c.to_string(),
        c => format!("%{:02X}", c as u32),
    };
    url.chars().map(one).collect()
}
