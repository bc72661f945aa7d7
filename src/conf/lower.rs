//! What the conf means: from what was written to what decides and what moves.
//!
//! One total function: either everything is well and becomes a [`Plan`], or every mistake in the meaning is reported at
//! its place. A conf that names what this build cannot do is refused here, never silently accepted.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use outrigger_core as core;
use outrigger_core::{ClusterSettings, Endpoint, Pattern, Selector, Target};

use outrigger_discovery::ServiceKey;

use super::{
    decode::load_tree,
    defaults,
    file::{self, Conf, Test},
    registries as written,
    report::{Problem, Report, listing, near, quote},
    yaml::{self, At, Lookup},
};
use crate::{
    plugins::{DIALECTS, PROTOCOLS, SPOKEN_IN, exchanges, names},
    session::{Bounds, Dialects},
    worker::Speaks,
};

mod bridges;
mod changes;
mod clusters;
mod defaults_told;
mod demands;
mod endpoints;
mod health;
mod http;
mod learn;
mod registries;
mod respond;
mod snapshot;
#[cfg(test)]
mod tests;

pub use bridges::BridgePlan;
use defaults_told::InDefaults;
pub use demands::DemandPlan;
pub use health::HealthPlan;
pub use http::plain;
pub use learn::LearnPlan;
pub use registries::{
    EtcdPlan, KubernetesPlan, NacosPlan, PodPlan, RegisterPlan, RegistryKind, RegistryPlan, TlsPlan,
    ZooKeeperPlan,
};

/// A conf with its meaning: everything the process does follows from it.
#[derive(Debug)]
pub struct Plan {
    /// The application's name.
    pub app: String,
    /// Where the admin port listens; `None`: off.
    pub admin: Option<SocketAddr>,
    /// Worker threads; `None`: by the cores.
    pub workers: Option<usize>,
    /// How long calls may take to finish after TERM.
    pub drain_timeout: Duration,
    /// Callers' connections at once.
    pub connections_max: usize,
    /// Bounds of the engines.
    pub bounds: Bounds,
    /// The listeners by name.
    pub listeners: Vec<ListenerPlan>,
    /// The clusters by name; behind them those that were made on demand.
    pub clusters: Vec<ClusterPlan>,
    /// Of which routes make clusters on demand.
    pub demands: Vec<DemandPlan>,
    /// The registries by name.
    pub registries: BTreeMap<String, RegistryPlan>,
    /// The services of the application that others shall find.
    pub register: Vec<RegisterPlan>,
    /// Services of one registry that are carried into another, by name.
    pub bridges: Vec<BridgePlan>,
    /// Where the application says what it gives and wants; one a framework.
    pub learn: Vec<LearnPlan>,
    /// How long what registries say takes to reach everybody.
    pub propagation: Duration,
    /// The folder where the last word of each registry is kept; `None`: nowhere.
    pub state: Option<PathBuf>,
    /// What was written, for showing.
    pub written: Conf,
}

/// A listener: where it is bound, what it speaks, where its calls go.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its name.
    pub name: String,
    /// Where it is bound.
    pub bind: SocketAddr,
    /// What its connections may speak.
    pub speaks: Arc<Speaks>,
    /// Its routes; targets are indices into `Plan::clusters`.
    pub routes: Vec<core::Route>,
}

/// A cluster: how its endpoints are reached, and where they come from.
#[derive(Debug)]
pub struct ClusterPlan {
    /// Its name.
    pub name: String,
    /// How an endpoint is picked.
    pub balance: core::Balance,
    /// How endpoints are reached.
    pub settings: ClusterSettings,
    /// Where endpoints come from.
    pub source: Source,
    /// How they are checked; `None`: they are not.
    pub health: Option<HealthPlan>,
    /// Of one that was made on demand: when it was used last.
    pub used: Option<Arc<AtomicU64>>,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Written in the conf.
    Fixed(Vec<Endpoint>),
    /// Found by a registry.
    Found {
        /// The registry's name.
        registry: String,
        /// Which instances.
        key: ServiceKey,
        /// How long the last ones are held where suddenly there is none; `None`: as the registry says.
        hold: Option<Duration>,
    },
}

impl Plan {
    /// Takes over from the last plan what a reload must not reset: the state of limits that stayed the same.
    pub fn inherit(&mut self, last: &Self) {
        for listener in &mut self.listeners {
            let Some(before) = last.listeners.iter().find(|other| other.name == listener.name) else {
                continue;
            };
            let old: BTreeMap<&str, &Arc<core::Limit>> = before
                .routes
                .iter()
                .filter_map(|route| Some((&*route.name, route.limit.as_ref()?)))
                .collect();
            for route in &mut listener.routes {
                if let (Some(limit), Some(was)) = (&route.limit, old.get(&*route.name))
                    && limit.same_quota(was)
                {
                    route.limit = Some(Arc::clone(was));
                }
            }
        }
    }
}

/// Bytes of a conf file to what they mean, or everything that is wrong with them. Paths in it are relative to the
/// folder of `file`, whose name is shown with mistakes.
pub fn read(file: &Path, bytes: &[u8], lookup: &Lookup<'_>) -> Result<Plan, Report> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut tree = yaml::read(bytes, lookup);
    tree.problems.extend(defaults::apply(&mut tree.root));
    load_tree(&file.display().to_string(), tree, |conf: Conf, root| {
        let at = At::root(root);
        let (subsets, in_defaults) = (BTreeMap::new(), InDefaults::default());
        let mut lowering =
            Lowering { problems: Vec::new(), conf: &conf, at, demands: Vec::new(), subsets, in_defaults };
        let plan = lowering.plan(at, folder);
        (plan, lowering.problems)
    })
}

/// What the routes of a listener can know of what they carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// Nothing: bytes.
    Bytes,
    /// Calls.
    Calls,
    /// Calls, some of them of HTTP.
    Http,
}

struct Lowering<'a> {
    problems: Vec<Problem>,
    conf: &'a Conf,
    /// The whole document.
    at: At<'a>,
    demands: Vec<DemandPlan>,
    /// Subsets that routes ask for, by cluster.
    subsets: BTreeMap<u32, Vec<Selector>>,
    in_defaults: InDefaults,
}

impl Lowering<'_> {
    fn plan(&mut self, at: At<'_>, folder: &Path) -> Plan {
        let conf = self.conf;
        if conf.app.trim().is_empty() {
            self.problems.push(at.key("app").problem("the application needs a name"));
        }
        let admin = self.admin(at.key("admin"));
        if conf.workers.is_some_and(|n| n == 0 || n > 256) {
            self.problems.push(at.key("workers").problem("expected 1 to 256 workers"));
        }
        let limits = at.key("limits");
        let frame_max = self.size(limits.key("frame_max"), conf.limits.frame_max.bytes(), 1 << 10, 1 << 30);
        let outbox_max =
            self.size(limits.key("outbox_max"), conf.limits.outbox_max.bytes(), 64 << 10, 16 << 30);
        if conf.limits.connections_max == 0 {
            self.problems.push(limits.key("connections_max").problem("expected at least 1"));
        }
        if conf.limits.streams_max == 0 {
            self.problems.push(limits.key("streams_max").problem("expected at least 1"));
        }
        let of_heads = self.limits(limits, &conf.limits);
        let mut clusters: Vec<ClusterPlan> = conf
            .clusters
            .iter()
            .map(|(name, cluster)| {
                let at = at.key("clusters").key(name);
                self.concerning(|| format!("cluster {}", quote(name)), |this| this.cluster(at, name, cluster))
            })
            .collect();
        self.tell_defaults();
        let listeners = conf
            .listeners
            .iter()
            .filter_map(|(name, listener)| self.listener(at.key("listeners").key(name), name, listener))
            .collect::<Vec<_>>();
        self.tell_defaults();
        for (cluster, subsets) in std::mem::take(&mut self.subsets) {
            if let Some(cluster) = clusters.get_mut(cluster as usize) {
                cluster.settings.division.subsets = subsets;
            }
        }
        if conf.listeners.is_empty() && conf.bridges.is_empty() {
            self.problems.push(at.key("listeners").problem("expected at least one listener"));
        }
        self.distinct_binds(at.key("listeners"));
        let registries = self.registries(at.key("registries"), folder);
        let register = self.registering(at.key("register"));
        let bridges = self.bridges(at.key("bridges"), &registries);
        let learn = self.learning(at.key("learn"));
        let defaults = Bounds::default();
        Plan {
            app: conf.app.clone(),
            admin,
            workers: conf.workers.map(usize::from),
            drain_timeout: conf.drain_timeout.get(),
            connections_max: conf.limits.connections_max as usize,
            bounds: Bounds {
                frame_max,
                outbox_max,
                outbox_high: defaults.outbox_high.min(outbox_max),
                limits: of_heads,
                streams_max: conf.limits.streams_max,
                ..defaults
            },
            listeners,
            clusters,
            demands: std::mem::take(&mut self.demands),
            registries,
            register,
            bridges,
            learn,
            propagation: conf.propagation.get(),
            state: state(conf, folder),
            written: conf.clone(),
        }
    }

    /// The admin address; `None`: off, or wrong and reported.
    fn admin(&mut self, at: At<'_>) -> Option<SocketAddr> {
        if self.conf.admin == "off" {
            return None;
        }
        let address = self.address(at, &self.conf.admin, " or `off`")?;
        if !address.ip().is_loopback() && !self.conf.admin_allow_remote {
            let problem =
                at.problem(format!("the admin port would listen on {}, which is not loopback", address.ip()));
            let help =
                "whoever reaches it can drain and reload; write `admin_allow_remote: true` if that is meant";
            self.problems.push(problem.with_help(help));
        }
        Some(address)
    }

    fn address(&mut self, at: At<'_>, text: &str, or: &str) -> Option<SocketAddr> {
        let parsed = text.replace("localhost:", "127.0.0.1:").parse();
        if parsed.is_err() {
            let problem = at.problem(format!("expected an address `ip:port`{or}, found {}", quote(text)));
            self.problems.push(problem.with_help("as in 127.0.0.1:12220, 0.0.0.0:12220 or [::1]:12220"));
        }
        parsed.ok()
    }

    fn size(&mut self, at: At<'_>, bytes: u64, least: u64, most: u64) -> usize {
        if !(least..=most).contains(&bytes) {
            self.problems.push(at.problem(format!("expected {least} to {most} bytes")));
        }
        bytes as usize
    }

    fn distinct_binds(&mut self, at: At<'_>) {
        let mut seen = HashSet::new();
        for (name, listener) in &self.conf.listeners {
            if !listener.bind.ends_with(":0") && !seen.insert(&listener.bind) {
                let message = format!("another listener is bound to {} already", listener.bind);
                self.problems.push(at.key(name).key("bind").problem(message));
            }
        }
    }

    fn listener(&mut self, at: At<'_>, name: &str, listener: &file::Listener) -> Option<ListenerPlan> {
        let bind = self.address(at.key("bind"), &listener.bind, "");
        let told = self.problems.len();
        let (protocols, tcp, dialects) = self.protocols(at.key("protocol"), &listener.protocol.0);
        // Where a name is wrong, nobody knows what else would be of no use.
        let carries = if self.problems.len() > told || protocols.iter().any(|name| exchanges(name)) {
            Carries::Http
        } else if protocols.is_empty() {
            Carries::Bytes
        } else {
            Carries::Calls
        };
        let mut manners = self.manners(at, listener, carries);
        manners.dialects = dialects;
        manners.translates = self.translates(at.key("routes"), listener, &protocols);
        let mut names = HashSet::new();
        let routes = listener.routes.iter().enumerate();
        let routes = routes.filter_map(|(i, route)| {
            let (at, whom) =
                (at.key("routes").index(i), || format!("route {} of listener {}", i + 1, quote(name)));
            self.concerning(whom, |this| this.route(at, i, route, (carries, &protocols), &mut names))
        });
        let routes = routes.collect();
        let speaks = Speaks {
            listener: name.to_owned(),
            protocols,
            tcp,
            detect_timeout: listener.detect_timeout.get(),
            manners: Arc::new(manners),
        };
        Some(ListenerPlan { name: name.to_owned(), bind: bind?, speaks: Arc::new(speaks), routes })
    }

    /// The protocols of the build that a listener speaks, whether it relays the rest, and the dialects it knows.
    fn protocols(&mut self, at: At<'_>, written: &[String]) -> (Vec<&'static str>, bool, Dialects) {
        let mut protocols = Vec::new();
        let mut tcp = false;
        let mut named = Vec::new();
        for (i, name) in written.iter().enumerate() {
            match name.as_str() {
                "auto" => protocols.extend(PROTOCOLS),
                "tcp" => tcp = true,
                name => match names().find(|known| *known == name) {
                    Some(known) if PROTOCOLS.contains(&known) => protocols.push(known),
                    Some(dialect) => named.push(dialect),
                    None => {
                        let known: Vec<&str> = names().chain(["tcp", "auto"]).collect();
                        let message = format!(
                            "this build does not speak {}; it speaks {}",
                            quote(name),
                            listing(&known)
                        );
                        self.push_near(at.index(i), message, name, known.iter().copied());
                    }
                },
            }
        }
        if written.is_empty() {
            self.problems.push(at.problem("expected at least one protocol, or `auto`"));
        }
        // A dialect needs something to be spoken in; named alone, nothing else is spoken there.
        let only = !named.is_empty() && !protocols.contains(&SPOKEN_IN);
        if only {
            protocols.push(SPOKEN_IN);
        }
        let mut seen = HashSet::new();
        protocols.retain(|name| seen.insert(*name));
        let of = DIALECTS.iter().map(|dialect| (*dialect, named.contains(&dialect.name()))).collect();
        (protocols, tcp, Dialects { of, only })
    }

    /// Whether calls of a listener may go to endpoints that speak another protocol than they do; whatever cannot be
    /// translated is a mistake.
    fn translates(&mut self, at: At<'_>, listener: &file::Listener, protocols: &[&'static str]) -> bool {
        let mut translates = false;
        for (i, route) in listener.routes.iter().enumerate() {
            let any = self.conf.clusters.keys().filter(|_| route.to_header.is_some());
            for name in route.to_cluster().into_iter().chain(route.weights.keys()).chain(any) {
                let speaks = self.conf.clusters.get(name).and_then(|cluster| cluster.protocol.as_deref());
                let Some(speaks) = speaks.and_then(wire) else { continue };
                translates |= protocols.iter().any(|spoken| exchanges(spoken) && *spoken != speaks);
                // Where several are spoken, those that cannot be translated are refused call by call.
                let other = protocols.first().filter(|_| !protocols.iter().any(|spoken| exchanges(spoken)));
                if let Some(other) = other {
                    let message = format!(
                        "calls of {other} cannot go to cluster {}, whose endpoints speak {speaks}",
                        quote(name)
                    );
                    let place = at.index(i).key(if route.to.is_some() { "to" } else { "weights" });
                    self.problems.push(place.problem(message).with_help(
                        "let the listener's `protocol` list what can be translated: http1, http2, grpc, triple",
                    ));
                }
            }
        }
        translates
    }

    fn push_near<'c>(
        &mut self,
        at: At<'_>,
        message: String,
        word: &str,
        known: impl IntoIterator<Item = &'c str>,
    ) {
        let problem = at.problem(message);
        self.problems.push(match near(word, known) {
            Some(near) => problem.with_help(format!("did you mean `{near}`?")),
            None => problem,
        });
    }

    fn route(
        &mut self,
        at: At<'_>,
        index: usize,
        route: &file::Route,
        (carries, spoken): (Carries, &[&'static str]),
        names: &mut HashSet<String>,
    ) -> Option<core::Route> {
        let matches = self.matches(at.key("match"), &route.matches);
        self.of_use(at, route, carries);
        let response = self.response(at, route, carries);
        let targets = if response.is_some() { Some(Vec::new()) } else { self.targets(at, route) };
        let changes = self.changes(at, route, carries);
        let limit = match &route.limit {
            Some(limit) => Some(self.limit(at.key("limit"), limit)?),
            None => None,
        };
        let mut name = route.name.clone().unwrap_or_else(|| route_name(&route.matches, index));
        if name == core::local::UNROUTED || !names.insert(name.clone()) {
            if route.name.is_some() {
                self.problems.push(at.key("name").problem("another route of this listener has this name"));
            }
            name = format!("{name}#{index}");
            names.insert(name.clone());
        }
        Some(core::Route {
            name: name.into(),
            matches: matches?,
            targets: targets?.into(),
            timeout: route.timeout.map(super::units::Duration::get).filter(|timeout| !timeout.is_zero()),
            limit,
            retry: self.retry(at, route),
            by_service: self.demand(at.key("to"), route, (carries, spoken)),
            by_header: route.to_header.as_deref().map(|name| name.as_bytes().into()),
            changes,
            response,
        })
    }

    /// What nothing can read on a listener that carries no such thing.
    fn of_use(&mut self, at: At<'_>, route: &file::Route, carries: Carries) {
        let matches = &route.matches;
        let nests = !matches.all.is_empty() || !matches.any.is_empty() || matches.not.is_some();
        let by_http = http::by_http(matches);
        let by_others = [&matches.service, &matches.method, &matches.version, &matches.group];
        if carries == Carries::Bytes {
            let reads = by_http.iter().any(|(_, used)| *used) || by_others.iter().any(|test| test.is_some());
            if reads || nests || !matches.headers.is_empty() {
                let problem =
                    at.key("match").problem("a listener that speaks only `tcp` knows nothing to match");
                self.problems.push(problem.with_help("leave the match empty"));
            }
            if route.to_header.is_some() {
                let problem = at.key("to_header").problem("a relayed connection has no headers");
                self.problems.push(problem.with_help("name the cluster by `to`"));
            }
            if route.timeout.is_some() {
                let problem = at.key("timeout").problem("a relayed connection has no answer to wait for");
                self.problems.push(problem.with_help("leave the timeout out"));
            }
        }
        if carries == Carries::Calls {
            self.no_http(at.key("match"), matches);
        }
        if carries == Carries::Bytes && (route.idempotent || route.retry.is_some()) {
            let key = if route.idempotent { "idempotent" } else { "retry" };
            let problem = Problem::new(at.key(key).key_span(), "a relayed connection is not made again");
            self.problems.push(problem.with_help("leave it out"));
        }
    }

    fn matches(&mut self, at: At<'_>, matches: &file::Match) -> Option<core::Match> {
        let mut pattern = |key: &str, test: &Option<Test>| match test {
            Some(test) => self.pattern(at.key(key), test).map(Some),
            None => Some(None),
        };
        let service = pattern("service", &matches.service);
        let method = pattern("method", &matches.method);
        let version = pattern("version", &matches.version);
        let group = pattern("group", &matches.group);
        let authority = match &matches.authority {
            Some(test) => self.authority(at.key("authority"), test).map(Some),
            None => Some(None),
        };
        let path = match &matches.path {
            Some(test) => self.path(at.key("path"), test).map(Some),
            None => Some(None),
        };
        let query = self.by_name(at.key("query"), &matches.query);
        let headers = self.by_name(at.key("headers"), &matches.headers);
        let all = self.nested(at.key("all"), &matches.all);
        let any = self.nested(at.key("any"), &matches.any);
        let not = match &matches.not {
            Some(not) => self.matches(at.key("not"), not).map(|not| vec![not]),
            None => Some(Vec::new()),
        };
        Some(core::Match {
            service: service?,
            method: method?,
            version: version?,
            group: group?,
            authority: authority?,
            path: path?,
            query: query?,
            headers: headers?,
            all: all?,
            any: any?,
            not: not?,
        })
    }

    /// Matches inside a match; all of them are looked at, also when one is wrong.
    fn nested(&mut self, at: At<'_>, matches: &[file::Match]) -> Option<Vec<core::Match>> {
        let nested = matches.iter().enumerate().map(|(i, matches)| self.matches(at.index(i), matches));
        nested.collect::<Vec<Option<_>>>().into_iter().collect()
    }

    /// Tests by name; all of them are looked at, also when one is wrong.
    fn by_name(&mut self, at: At<'_>, tests: &BTreeMap<String, Test>) -> Option<Vec<(Box<[u8]>, Pattern)>> {
        let tests = tests
            .iter()
            .map(|(name, test)| Some((name.as_bytes().into(), self.pattern(at.key(name), test)?)));
        tests.collect::<Vec<Option<_>>>().into_iter().collect()
    }

    fn pattern(&mut self, at: At<'_>, test: &Test) -> Option<Pattern> {
        use file::OtherTest as Other;
        Some(match test {
            Test::Exact(text) => Pattern::exact(text),
            Test::Other(Other::Prefix(text)) => Pattern::Prefix(text.as_bytes().into()),
            Test::Other(Other::Present(wanted)) => Pattern::Present(*wanted),
            Test::Other(Other::Any(texts)) => {
                if texts.is_empty() {
                    self.problems.push(at.key("any").problem("an empty list matches nothing"));
                }
                Pattern::Any(texts.iter().map(|text| text.as_bytes().into()).collect())
            }
            Test::Other(Other::Template(_)) => {
                let problem = at.key("template").problem("only a `path` can have a template");
                self.problems.push(problem.with_help("here { regex: … } or { prefix: … } may do"));
                return None;
            }
            Test::Other(Other::Regex(source)) => match Pattern::regex(source) {
                Ok(pattern) => pattern,
                Err(error) => {
                    let last = error.to_string();
                    let last =
                        last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    self.problems.push(at.key("regex").problem(format!("not a regular expression: {last}")));
                    return None;
                }
            },
        })
    }

    fn targets(&mut self, at: At<'_>, route: &file::Route) -> Option<Vec<Target>> {
        if let Some(name) = &route.to_header {
            if route.to.is_some() || !route.weights.is_empty() {
                let problem =
                    at.key("to_header").problem("a route has one of `to`, `to_header` and `weights`");
                self.problems.push(problem);
            } else if name.is_empty() {
                self.problems.push(at.key("to_header").problem("expected the name of a header"));
            }
            if !route.subset.is_empty() {
                let problem = at.key("subset").problem("a route with `to_header` has no `subset`");
                self.problems.push(problem.with_help("give the clusters that it may name a `subset` each"));
            }
            return Some(Vec::new());
        }
        let written = match (&route.to, route.weights.is_empty()) {
            (Some(written::To::Cluster(to)), true) => vec![(at.key("to"), to.as_str(), 1)],
            (Some(written::To::Service(_)), true) => return Some(Vec::new()),
            (None, false) => {
                if route.weights.values().all(|weight| *weight == 0) {
                    self.problems.push(at.key("weights").problem("at least one weight must be above 0"));
                }
                let named =
                    route.weights.iter().map(|(name, w)| (at.key("weights").key(name), name.as_str(), *w));
                named.collect()
            }
            (Some(_), false) => {
                self.problems
                    .push(at.key("weights").problem("a route has either `to` or `weights`, not both"));
                return None;
            }
            // Written, but wrong in itself: that is what is reported.
            (None, true) if at.has("to") => return None,
            (None, true) => {
                let problem = at.problem("a route needs `to`, `to_header` or `weights`");
                self.problems.push(problem.with_help("as in `to: echo`, the name of a cluster"));
                return None;
            }
        };
        if route.subset_fallback && route.subset.is_empty() {
            self.problems.push(at.key("subset_fallback").problem("there is no `subset` to fall back from"));
        }
        let mut targets = Vec::new();
        for (at, name, weight) in written {
            match self.conf.clusters.keys().position(|known| known == name) {
                Some(cluster) => {
                    let cluster = cluster as u32;
                    targets.push(Target { lot: self.subset(cluster, route), ..Target::new(cluster, weight) });
                }
                // Written, but wrong in itself: that is what is reported.
                None if self.at.key("clusters").has(name) => {}
                None => {
                    let known: Vec<&str> = self.conf.clusters.keys().map(String::as_str).collect();
                    self.push_near(at, format!("no cluster is called {}", quote(name)), name, known);
                }
            }
        }
        Some(targets)
    }

    /// What may be tried again where it may have been processed.
    fn retry(&mut self, at: At<'_>, route: &file::Route) -> Option<Arc<core::Retry>> {
        let Some(written) = &route.retry else {
            return route.idempotent.then(Arc::default);
        };
        if written.tries == 0 {
            return None;
        }
        let at = at.key("retry");
        if !route.idempotent {
            let problem = at.problem("a call that may have been processed is not sent again");
            self.problems.push(problem.with_help("write `idempotent: true` as well if that does no harm"));
        }
        if written.tries > 10 {
            self.problems.push(at.key("tries").problem("expected 0 to 10"));
        }
        let slow = written.per_try_timeout.is_some() || written.hedge_after.is_some();
        if written.on.is_empty() && written.statuses.is_empty() && !slow {
            self.problems.push(at.problem("nothing is named that is tried again"));
        }
        let per_try = written.per_try_timeout.map(super::units::Duration::get);
        if per_try.is_some_and(|time| time.is_zero()) {
            self.problems.push(at.key("per_try_timeout").problem("expected a time above 0s"));
        }
        let hedge = written.hedge_after.map(super::units::Duration::get);
        if hedge.is_some_and(|time| time.is_zero()) {
            self.problems.push(at.key("hedge_after").problem("expected a time above 0s"));
        }
        if let (Some(hedge), Some(per_try)) = (hedge, per_try)
            && hedge >= per_try
        {
            let problem = at.key("hedge_after").problem("a try is over before that");
            self.problems.push(problem.with_help("make it shorter than `per_try_timeout`"));
        }
        let on = |failure| written.on.contains(&failure);
        Some(Arc::new(core::Retry {
            reset: on(file::RetryOn::Reset),
            overloaded: on(file::RetryOn::Overloaded),
            error: on(file::RetryOn::Error),
            statuses: written.statuses.clone().into(),
            tries: written.tries,
            per_try,
            backoff: written.backoff.get(),
            hedge,
        }))
    }

    fn limit(&mut self, at: At<'_>, limit: &file::Limit) -> Option<Arc<core::Limit>> {
        let count = NonZeroU32::new(limit.rate.count());
        let burst = NonZeroU32::new(limit.burst.unwrap_or(limit.rate.count()));
        if burst.is_none() {
            self.problems.push(at.key("burst").problem("expected a burst of at least 1"));
        }
        let made = core::Limit::new(count?, limit.rate.period(), burst?);
        if made.is_none() {
            self.problems.push(at.key("rate").problem("this rate is too high to be counted"));
        }
        made.map(Arc::new)
    }
}

/// Where the last word of registries is kept.
fn state(conf: &Conf, folder: &Path) -> Option<PathBuf> {
    match conf.state.as_deref() {
        Some("off") => None,
        Some(path) => Some(folder.join(path)),
        None => {
            let of = |variable: &str| {
                std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
            };
            let home = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state")))?;
            Some(home.join("outrigger").join(conf.app.replace('/', "_")))
        }
    }
}

/// What endpoints are spoken to in, by a name that a conf uses for it; `None`: nothing is translated into that.
fn wire(name: &str) -> Option<&'static str> {
    let known = names().find(|known| *known == name && exchanges(known))?;
    Some(if PROTOCOLS.contains(&known) { known } else { SPOKEN_IN })
}

/// A name for a route that was given none: what it matches, in short.
fn route_name(matches: &file::Match, index: usize) -> String {
    let text = |test: &Option<Test>| match test {
        Some(Test::Exact(text)) => Some(text.clone()),
        _ => None,
    };
    let method = text(&matches.method);
    match (text(&matches.service), http::place(matches), method) {
        (Some(service), _, Some(method)) => format!("{service}.{method}"),
        (Some(service), _, None) => service,
        (None, Some(place), Some(method)) => format!("{method} {place}"),
        (None, Some(place), None) => place,
        _ => format!("route-{index}"),
    }
}
