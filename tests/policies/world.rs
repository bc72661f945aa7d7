//! A sidecar before scripted endpoints, with callers that count.

use crate::endpoint::{Does, Endpoint};
use crate::protocol::{Ask, Caller, Got, Speaks};
use crate::support::echo::conf;
use crate::support::{Sidecar, TempDir, within};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Longer than anything takes that comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Nobody is left out, so that calls go where they would.
pub(crate) const ALL_STAY: &str = "outlier: { share_max: 0% }";

/// What is built.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) endpoints: usize,
    pub(crate) workers: usize,
    /// More keys of the route, as a flow map has them.
    pub(crate) route: &'a str,
    /// More keys of the cluster.
    pub(crate) cluster: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { endpoints: 3, workers: 1, route: "", cluster: ALL_STAY }
    }
}

pub(crate) struct World {
    pub(crate) sidecar: Sidecar,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) protocol: &'static dyn Speaks,
    caller: Option<Box<dyn Caller>>,
    made: usize,
}

impl World {
    /// Endpoints that are written in the conf.
    pub(crate) fn start(protocol: &'static dyn Speaks, setup: Setup<'_>) -> Self {
        let endpoints: Vec<_> = (0..setup.endpoints).map(|at| Endpoint::start(protocol, at)).collect();
        let listed: Vec<String> = endpoints.iter().map(|one| format!("\"{}\"", one.address())).collect();
        let Setup { route, cluster, .. } = setup;
        let listener =
            format!("    protocol: {}\n    routes: [{{ match: {{}}, to: up, {route} }}]", protocol.conf());
        let cluster = format!("clusters:\n  up: {{ endpoints: [{}], {cluster} }}", listed.join(", "));
        Self::with(protocol, endpoints, &conf(&listener, &cluster), setup.workers)
    }

    /// Endpoints that say so much of themselves, in the conf; `top`: more keys of the whole conf.
    pub(crate) fn saying(protocol: &'static dyn Speaks, said: &[&str], setup: Setup<'_>, top: &str) -> Self {
        let endpoints: Vec<_> = (0..said.len()).map(|at| Endpoint::start(protocol, at)).collect();
        let one = |(endpoint, said): (&Endpoint, &&str)| {
            format!("{{ address: \"{}\", metadata: {{ {said} }} }}", endpoint.address())
        };
        let listed: Vec<String> = endpoints.iter().zip(said).map(one).collect();
        let Setup { route, cluster, .. } = setup;
        let listener =
            format!("    protocol: {}\n    routes: [{{ match: {{}}, to: up, {route} }}]", protocol.conf());
        let cluster = format!("clusters:\n  up: {{ endpoints: [{}], {cluster} }}\n{top}", listed.join(", "));
        Self::with(protocol, endpoints, &conf(&listener, &cluster), setup.workers)
    }

    /// Endpoints that a file tells of; `publish` writes it.
    pub(crate) fn listed(protocol: &'static dyn Speaks, list: &List, count: usize, cluster: &str) -> Self {
        let endpoints: Vec<_> = (0..count).map(|at| Endpoint::start(protocol, at)).collect();
        list.publish(&endpoints[..list.first]);
        let listener = format!("    protocol: {}\n    routes: [{{ match: {{}}, to: up }}]", protocol.conf());
        let cluster = format!(
            "clusters:\n  up: {{ discover: {{ registry: local, service: t.Echo }}, {cluster} }}\n\
             registries:\n  local: {{ file: {{ path: {} }} }}",
            list.dir.path().join("services.yaml").display()
        );
        Self::with(protocol, endpoints, &conf(&listener, &cluster), 1)
    }

    /// Any conf with a listener `main` and one worker, which become so many.
    pub(crate) fn with(
        protocol: &'static dyn Speaks,
        endpoints: Vec<Endpoint>,
        conf: &str,
        workers: usize,
    ) -> Self {
        let conf = conf.replace("workers: 1\n", &format!("workers: {workers}\n"));
        Self { sidecar: Sidecar::start(&conf), endpoints, protocol, caller: None, made: 0 }
    }

    /// A caller of its own.
    pub(crate) fn caller(&self) -> Box<dyn Caller> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.sidecar.port("main")));
        self.protocol.caller(stream.expect("the listener is there"))
    }

    /// Makes a call over the usual connection, or a new one where that is over.
    pub(crate) fn ask(&mut self, ask: &Ask) -> Got {
        if self.caller.as_ref().is_none_or(|caller| caller.is_over()) {
            self.caller = Some(self.caller());
        }
        self.made += 1;
        self.caller.as_mut().expect("it was made").ask(ask)
    }

    /// So many calls, one after the other, each with a key of its own: the keys and what became of them.
    pub(crate) fn calls(&mut self, count: usize) -> Vec<(String, Got)> {
        (0..count).map(|_| self.call()).collect()
    }

    /// One call with a key of its own.
    pub(crate) fn call(&mut self) -> (String, Got) {
        let key = format!("call-{}", self.made);
        let got = self.ask(&Ask::new(&key));
        (key, got)
    }

    /// What so many calls brought to each endpoint.
    pub(crate) fn spread(&mut self, count: usize) -> Vec<usize> {
        let before = self.counts();
        self.calls(count);
        self.counts().iter().zip(before).map(|(now, before)| now - before).collect()
    }

    /// How many calls each endpoint has read.
    pub(crate) fn counts(&self) -> Vec<usize> {
        self.endpoints.iter().map(Endpoint::calls).collect()
    }

    /// How often a call was read, by all endpoints together.
    pub(crate) fn read(&self, key: &str) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.read(key)).sum()
    }

    pub(crate) fn set(&self, at: usize, does: Does) {
        self.endpoints[at].set(does);
    }

    /// Makes calls until this is so of the endpoint's count of them.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let came = within(PATIENCE, || {
            self.call();
            done(self)
        });
        assert!(came, "{what} never came: {:?} {}", self.counts(), self.sidecar.admin_get("/clusters").1);
    }

    /// What `/clusters` says of an endpoint.
    pub(crate) fn entry(&self, at: usize) -> Value {
        let (_, page) = self.sidecar.admin_get("/clusters");
        let page: Value = serde_json::from_str(&page).expect("/clusters is JSON");
        let all = page["clusters"]["up"]["endpoints"].as_array().expect("endpoints are listed");
        let address = self.endpoints[at].address();
        all.iter().find(|one| one["address"] == *address).expect("it is listed").clone()
    }

    /// In which state it says that it is.
    pub(crate) fn state(&self, at: usize) -> String {
        self.entry(at)["state"].as_str().expect("a text").to_owned()
    }

    /// How many endpoints are left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.sidecar.metric("outrigger_upstream_left_out", &[])
    }

    /// Whether this one is.
    pub(crate) fn is_out(&self, at: usize) -> bool {
        let label = format!("endpoint=\"{}\"", self.endpoints[at].address());
        self.sidecar.metric("outrigger_upstream_left_out", &[&label]) == 1
    }

    /// All callers leave, and nothing of them stays.
    pub(crate) fn end(&mut self) {
        self.caller = None;
        self.sidecar.rests();
    }
}

/// A file of endpoints.
pub(crate) struct List {
    dir: TempDir,
    /// The weights of the endpoints, in their order.
    pub(crate) weights: Vec<u32>,
    /// How many are listed at first.
    pub(crate) first: usize,
}

impl List {
    pub(crate) fn new(weights: &[u32], first: usize) -> Self {
        Self { dir: TempDir::new(), weights: weights.to_vec(), first }
    }

    /// Lists these.
    pub(crate) fn publish(&self, endpoints: &[Endpoint]) {
        let line = |(endpoint, weight): (&Endpoint, &u32)| {
            format!("    - {{ address: \"{}\", weight: {weight} }}\n", endpoint.address())
        };
        let lines: String = endpoints.iter().zip(&self.weights).map(line).collect();
        let next = self.dir.path().join("next");
        std::fs::write(&next, format!("services:\n  t.Echo:\n{lines}")).expect("it can be written");
        std::fs::rename(next, self.dir.path().join("services.yaml")).expect("a rename");
    }
}
