//! What stands in the registries about a service, and what is put there, by means of the tests' own; and a look at it that never
//! pauses.

use super::servers::{NACOS, ZOOKEEPER};
use super::support::{decoded, http_delete, http_get, http_post, within};
use super::{zk, zookeeper};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything takes that comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(50);
/// After a start Nacos answers before it can write.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// Whose services stand in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Of {
    Dubbo,
    Sofa,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum In {
    ZooKeeper,
    Nacos,
}

/// A service in a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct List {
    pub(crate) of: Of,
    pub(crate) at: In,
    pub(crate) service: String,
}

/// One that stands there.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) address: String,
    pub(crate) said: BTreeMap<String, String>,
}

impl Entry {
    /// Whether it says that it is a copy, whence, by which bridge and how far it came.
    pub(crate) fn mark(&self) -> Option<[&str; 3]> {
        let said = |name: &str| self.said.get(name).map(String::as_str);
        let mark = ["outrigger.origin", "outrigger.bridge", "outrigger.hops"].map(said);
        match mark {
            [None, None, None] => None,
            [Some(origin), Some(bridge), Some(hops)] => Some([origin, bridge, hops]),
            half => panic!("half of a mark: {half:?} of {self:?}"),
        }
    }
}

impl List {
    pub(crate) fn new(of: Of, at: In, service: &str) -> Self {
        Self { of, at, service: service.to_owned() }
    }

    /// Who stands there.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        match self.at {
            In::ZooKeeper => {
                let nodes = zk::children(&self.folder());
                nodes.iter().map(|node| of_url(&decoded(&node.name))).collect()
            }
            In::Nacos => {
                let hosts = self.hosts().expect("Nacos answers");
                let one = |host: &Value| {
                    let metadata = host["metadata"].as_object().expect("metadata");
                    let said = metadata
                        .iter()
                        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
                    Entry { address: address(host), said: said.collect() }
                };
                hosts.iter().map(one).collect()
            }
        }
    }

    /// The addresses of those who stand there, in order, each as often as it is there.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut all: Vec<String> = match (self.at, self.of) {
            (In::ZooKeeper, Of::Dubbo) => {
                zookeeper::providers(ZOOKEEPER, &self.service).expect("ZooKeeper answers")
            }
            (In::ZooKeeper, Of::Sofa) => self.entries().into_iter().map(|entry| entry.address).collect(),
            (In::Nacos, _) => self.hosts().expect("Nacos answers").iter().map(address).collect(),
        };
        all.sort();
        all
    }

    fn folder(&self) -> String {
        let root = if self.of == Of::Dubbo { "dubbo" } else { "sofa-rpc" };
        format!("/{root}/{}/providers", self.service)
    }

    /// Its name and namespace in Nacos, as part of a query.
    fn query(&self) -> String {
        match self.of {
            Of::Dubbo => format!("serviceName=providers:{}::&namespaceId=public", self.service),
            Of::Sofa => format!("serviceName={}:DEFAULT&namespaceId=sofa-rpc", self.service),
        }
    }

    fn hosts(&self) -> Option<Vec<Value>> {
        let (status, page) = http_get(NACOS, &format!("/nacos/v1/ns/instance/list?{}", self.query())).ok()?;
        let page: Value = serde_json::from_str(&page).ok().filter(|_| status == 200)?;
        Some(page["hosts"].as_array()?.clone())
    }

    /// Writes one that is nobody's session's.
    pub(crate) fn put(&self, address: &str) {
        self.put_saying(address, &[]);
    }

    /// The same with more metadata, which only Nacos takes here.
    pub(crate) fn put_saying(&self, address: &str, more: &[(&str, &str)]) {
        match (self.at, self.of) {
            (In::ZooKeeper, Of::Dubbo) => {
                zookeeper::put(ZOOKEEPER, &self.service, &[address]).expect("ZooKeeper takes it");
            }
            (In::ZooKeeper, Of::Sofa) => panic!("those are registered by sidecars here"),
            (In::Nacos, of) => {
                let protocol = if of == Of::Dubbo { "dubbo" } else { "bolt" };
                let mut metadata = json!({
                    "protocol": protocol,
                    "interface": self.service,
                    "side": "provider",
                    "preserved.heart.beat.timeout": "3600000",
                    "preserved.ip.delete.timeout": "3600000",
                });
                for (name, value) in more {
                    metadata[*name] = (*value).into();
                }
                let path = format!("{}&metadata={}", self.one(address), escaped(&metadata.to_string()));
                done("put", || http_post(NACOS, &path));
            }
        }
    }

    /// Takes it away.
    pub(crate) fn take(&self, address: &str) {
        match self.at {
            In::ZooKeeper => {
                zookeeper::take(ZOOKEEPER, &self.service, &[address]).expect("ZooKeeper takes it");
            }
            In::Nacos => done("taken", || http_delete(NACOS, &self.one(address))),
        }
    }

    fn one(&self, address: &str) -> String {
        let (ip, port) = address.split_once(':').expect("a port");
        format!("/nacos/v1/ns/instance?{}&ip={ip}&port={port}&ephemeral=true", self.query())
    }

    /// Waits until just these stand there, each once.
    #[track_caller]
    pub(crate) fn becomes(&self, wanted: &[String]) {
        let end = Instant::now() + PATIENCE;
        loop {
            let last = self.addresses();
            if last == wanted {
                return;
            }
            assert!(Instant::now() < end, "{self:?} has {last:?} and not {wanted:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// Looks for a while that just these stand there.
    #[track_caller]
    pub(crate) fn keeps(&self, wanted: &[String], time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert_eq!(self.addresses(), wanted, "{self:?}");
            std::thread::sleep(LOOK);
        }
    }
}

fn address(host: &Value) -> String {
    format!("{}:{}", host["ip"].as_str().expect("an ip"), host["port"])
}

fn of_url(url: &str) -> Entry {
    let rest = url.split_once("://").expect("a URL has a scheme").1;
    let (head, query) = rest.split_once('?').expect("a URL has parameters");
    let address = head.split('/').next().unwrap_or_default().to_owned();
    let pairs = query.split('&').map(|pair| pair.split_once('=').expect("a parameter has a value"));
    Entry { address, said: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
}

fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

fn done(what: &str, mut ask: impl FnMut() -> Result<(u16, String), String>) {
    let mut last = None;
    let done = within(WRITE_MAX, || {
        last = Some(ask());
        matches!(last, Some(Ok((200, _))))
    });
    assert!(done, "an instance should be {what}: {last:?}");
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}

/// Looks at lists all the time: each shall be the same at every look.
pub(crate) struct Looker {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(u64, usize, Duration, Vec<String>)>,
}

impl Looker {
    pub(crate) fn begin(lists: Vec<(List, Vec<String>)>) -> Self {
        let over = Arc::<AtomicBool>::default();
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (began, mut rounds, mut looks, mut wrong) = (Instant::now(), 0, 0, Vec::new());
            let (mut before, mut longest) = (began, Duration::ZERO);
            let mut last: BTreeMap<List, Vec<String>> = BTreeMap::new();
            while !ended.load(Ordering::SeqCst) {
                for (list, wanted) in &lists {
                    let stands = list.addresses();
                    looks += 1;
                    if stands != *wanted && last.get(list) != Some(&stands) {
                        wrong.push(format!("after {:?}: {list:?} has {stands:?}", began.elapsed()));
                    }
                    last.insert(list.clone(), stands);
                }
                rounds += 1;
                longest = longest.max(before.elapsed());
                before = Instant::now();
                // As often as the servers bear it without that being all they do.
                std::thread::sleep(Duration::from_millis(5));
            }
            (rounds, looks, longest, wrong)
        });
        Self { over, thread }
    }

    /// How often it looked at all of them; it must have seen nothing else than it should.
    #[track_caller]
    pub(crate) fn end(self, what: &str) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        let (rounds, looks, longest, wrong) = self.thread.join().expect("the registries answer");
        assert!(wrong.is_empty(), "{what}: of {looks} looks\n{}", wrong.join("\n"));
        eprintln!("{what}: {looks} looks at lists, all as they should be; {longest:?} at most for all lists");
        rounds
    }
}
