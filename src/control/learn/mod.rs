//! What the application says of itself: what it gives, which is made known like what the conf says, and what it wants, which is
//! looked for before the first call.
//!
//! Frameworks that know of sidecars tell them so by HTTP ([`sofarpc`], [`dubbod`]), once, and never ask again: what was said is
//! remembered ([`kept`]) over reloads and over our own end. It is a state like any other: each change has the parts that work
//! towards it follow, and they know what is new. Must never dial, nor register at, what a caller names.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_core::Awaited;
use outrigger_discovery::{Framework, Instance, Level, Registration};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Control, discover};
use crate::{
    conf::lower::{Plan, RegisterPlan},
    telemetry::{LearnedFacts, SubscribedFacts},
};

mod dubbod;
mod json;
mod kept;
mod server;
mod sofarpc;

use kept::{Keeper, Memory, Name, Published};

/// Calls that wait for the control thread.
const ASKS_MAX: usize = 64;
/// What is not done is told of at most so often.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Something that the application says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What it calls itself; it has just started.
    Application(String),
    /// It gives a service.
    Publish(Name, Published),
    /// It gives one no more.
    Unpublish(Name),
    /// It wants a service.
    Subscribe(Name),
    /// It wants one no more.
    Unsubscribe(Name),
}

/// The same, with who waits for what becomes of it.
#[derive(Debug)]
pub struct Asked {
    framework: Framework,
    ask: Ask,
    reply: oneshot::Sender<Result<Reply, String>>,
}

/// What became of it.
#[derive(Debug)]
struct Reply {
    /// It is on disk when this change is written.
    change: u64,
    kept: watch::Receiver<u64>,
    /// Who gives what is wanted, as soon as that is known.
    found: Option<oneshot::Receiver<Arc<[Instance]>>>,
}

/// Where the application is heard, and all that it said.
#[derive(Debug)]
pub struct Learning {
    memory: Memory,
    keeper: Keeper,
    servers: BTreeMap<Framework, Server>,
    sender: mpsc::Sender<Asked>,
    asked: mpsc::Receiver<Asked>,
    /// Who waits for the first word about what is wanted.
    waiting: Vec<(Name, oneshot::Sender<Arc<[Instance]>>)>,
    /// When it was told last that something is not done.
    told: Option<Instant>,
}

#[derive(Debug)]
struct Server {
    /// As the plan says.
    bind: SocketAddr,
    _serving: server::Serving,
}

/// Sockets bound and not yet served: whose, where by the plan, and where.
#[derive(Debug, Default)]
pub struct Bound(Vec<(Framework, SocketAddr, std::net::TcpListener, SocketAddr)>);

impl Bound {
    /// Where the application is heard from now on, a line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .map(|(framework, _, _, bound)| format!("outrigger: hears {framework} on http://{bound}"))
    }
}

impl Learning {
    /// Nobody is heard yet; what was said before is known.
    pub fn new(plan: &Plan) -> Self {
        let (sender, asked) = mpsc::channel(ASKS_MAX);
        // Where nobody is heard, nothing is remembered; what stands there is left for when somebody is again.
        let folder = plan.state.clone().filter(|_| !plan.learn.is_empty());
        let memory = kept::recall(folder.as_deref());
        if memory != Memory::default() {
            let (published, subscribed) = (memory.published.len(), memory.subscribed.len());
            tracing::info!(published, subscribed, "what the application said before is known");
        }
        let servers = BTreeMap::new();
        Self { memory, keeper: Keeper::new(folder), servers, sender, asked, waiting: Vec::new(), told: None }
    }

    /// Binds what a plan has and is not open yet. When one address cannot be bound, none is kept.
    pub fn bind(&self, plan: &Plan) -> Result<Bound, String> {
        let mut bound = Bound::default();
        for learn in &plan.learn {
            if self.servers.get(&learn.framework).is_some_and(|server| server.bind == learn.bind) {
                continue;
            }
            let (listener, place) = server::bind(learn.bind).map_err(|error| {
                format!("error: cannot listen on {} to hear {}: {error}", learn.bind, learn.framework)
            })?;
            bound.0.push((learn.framework, learn.bind, listener, place));
        }
        Ok(bound)
    }

    /// Hears whom a plan wants heard, and nobody else. What was said before stays.
    pub fn follow(&mut self, plan: &Plan, bound: Bound) -> Result<(), String> {
        let wanted = |framework: &Framework| plan.learn.iter().find(|learn| learn.framework == *framework);
        self.servers
            .retain(|framework, server| wanted(framework).is_some_and(|learn| learn.bind == server.bind));
        for (framework, bind, listener, _) in bound.0 {
            let serving = server::serve(listener, framework, self.sender.clone())
                .map_err(|error| format!("error: cannot hear {framework} on {bind}: {error}"))?;
            self.servers.insert(framework, Server { bind, _serving: serving });
        }
        if !plan.learn.is_empty() {
            // Where nothing was said yet, it begins like a process.
            if self.memory == Memory::default() && !self.keeper.keeps_in(plan.state.as_deref()) {
                self.memory = kept::recall(plan.state.as_deref());
            }
            self.keeper.keep_in(plan.state.clone(), &self.memory);
        }
        Ok(())
    }

    /// Waits for the application to say something. Losing the future loses nothing.
    pub async fn next(&mut self) -> Asked {
        loop {
            tokio::select! {
                Some(asked) = self.asked.recv() => return asked,
                () = self.keeper.step(&self.memory) => {}
            }
        }
    }

    /// What it gives, as far as a plan wants that made known.
    pub fn registers(&self, plan: &Plan) -> Vec<RegisterPlan> {
        let own = |name: &Name| {
            plan.register.iter().any(|own| {
                let what = &own.what;
                what.framework == name.framework
                    && what.service == name.service
                    && what.version == name.version
                    && what.group == name.group
                    && what.protocol == name.protocol
            })
        };
        let register = |(name, said): (&Name, &Published)| {
            let learn = plan.learn.iter().find(|learn| learn.framework == name.framework)?;
            // What the conf says itself is made known as it says.
            if own(name) || !learn.carries(&name.protocol) {
                return None;
            }
            let app = self.memory.app.as_ref().filter(|_| name.framework == Framework::Sofarpc);
            let app = said.app.as_ref().or(app).filter(|app| !app.is_empty());
            let what = Registration {
                app: app.unwrap_or(&plan.app).clone(),
                framework: name.framework,
                level: Level::Interface,
                service: name.service.clone(),
                protocol: name.protocol.clone(),
                address: String::new(),
                group: name.group.clone(),
                version: name.version.clone(),
                weight: said.weight,
                started: 0,
                metadata: said.metadata.clone(),
            };
            Some(learn.register(name.to_string(), what, said.port))
        };
        self.memory.published.iter().filter_map(register).collect()
    }

    /// What it wants, as calls would name it, wherever routes of a plan lead to what calls name.
    pub fn awaits(&self, plan: &Plan) -> Vec<Awaited> {
        let heard = |name: &&Name| plan.learn.iter().any(|learn| learn.framework == name.framework);
        self.memory.subscribed.iter().filter(heard).flat_map(|name| awaited(name, plan)).collect()
    }

    /// What is known of the application; `None`: it is not heard.
    pub fn facts(&self, plan: &Plan, found: &discover::Discovery) -> Option<LearnedFacts> {
        let subscribed = |name: &Name| {
            let clusters = awaited(name, plan);
            let known = clusters.map(|awaited| found.found().get(&*awaited.cluster).map(|all| all.len()));
            let known: Vec<Option<usize>> = known.collect();
            SubscribedFacts {
                service: name.service.clone(),
                version: name.version.clone(),
                group: name.group.clone(),
                framework: name.framework.name(),
                protocol: name.protocol.clone(),
                instances: if known.is_empty() { None } else { known.into_iter().sum() },
            }
        };
        (!plan.learn.is_empty()).then(|| LearnedFacts {
            published: self.memory.published.len(),
            subscribed: self.memory.subscribed.iter().map(subscribed).collect(),
        })
    }

    /// Tells those who wait for the first word about a service.
    fn tell(&mut self, plan: &Plan, discovery: &discover::Discovery) {
        self.waiting.retain(|(_, waits)| !waits.is_closed());
        for (name, waits) in std::mem::take(&mut self.waiting) {
            match found(&name, plan, discovery) {
                Some(instances) => drop(waits.send(instances)),
                None => self.waiting.push((name, waits)),
            }
        }
    }

    /// Writes down what is not written yet.
    pub async fn close(&mut self) {
        self.keeper.finish(&self.memory).await;
    }

    /// A person is told of the first, not of thousands.
    fn say_refused(&mut self, framework: Framework, why: &str) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return tracing::debug!(%framework, why, "what the application says is not done");
        }
        self.told = Some(Instant::now());
        tracing::warn!(%framework, why, "what the application says is not done");
    }

    /// Takes in what the application says; `ended`: what it gave that nobody gives any more. Whether that changes anything;
    /// otherwise why it cannot be.
    fn take(&mut self, plan: &Plan, ask: Ask, ended: &[String]) -> Result<bool, String> {
        let memory = &mut self.memory;
        match ask {
            Ask::Application(app) => {
                // It starts anew. What it gave before is said again, or it is given no more; but another one may be running
                // beside it.
                let before = memory.published.len();
                memory.published.retain(|name, _| {
                    name.framework != Framework::Sofarpc || !ended.contains(&name.to_string())
                });
                let renamed = memory.app.as_deref() != Some(&app);
                memory.app = Some(app);
                Ok(renamed || memory.published.len() < before)
            }
            Ask::Publish(name, said) => {
                let learn = plan.learn.iter().find(|learn| learn.framework == name.framework);
                if learn.is_none_or(|learn| !learn.carries(&name.protocol)) {
                    let protocol = &name.protocol;
                    return Err(format!("the listener that others dial does not speak {protocol}"));
                }
                memory.publish(name, said)
            }
            Ask::Unpublish(name) => Ok(memory.published.remove(&name).is_some()),
            Ask::Subscribe(name) => memory.subscribe(name),
            Ask::Unsubscribe(name) => Ok(memory.subscribed.remove(&name)),
        }
    }
}

impl Control {
    /// The application says something, and whatever else it said meanwhile, as when it starts.
    pub(super) fn learn(&mut self, first: Asked) {
        let mut all = vec![first];
        while let Ok(asked) = self.learning.asked.try_recv() {
            all.push(asked);
        }
        let ended: Vec<String> = self.registering.ended().into_iter().map(str::to_owned).collect();
        let (mut gives, mut wants) = (false, false);
        let mut waiting = Vec::new();
        for Asked { framework, ask, reply } in all {
            tracing::debug!(%framework, ?ask, "the application says");
            let of_wants = matches!(ask, Ask::Subscribe(_) | Ask::Unsubscribe(_));
            let wanted = if let Ask::Subscribe(name) = &ask { Some(name.clone()) } else { None };
            match self.learning.take(&self.plan, ask, &ended) {
                Ok(changed) => {
                    gives |= changed && !of_wants;
                    wants |= changed && of_wants;
                    waiting.push((wanted, reply));
                }
                Err(why) => {
                    self.learning.say_refused(framework, &why);
                    let _ = reply.send(Err(why));
                }
            }
        }
        if gives || wants {
            self.learning.keeper.changed(&self.learning.memory);
        }
        // Who leaves makes nothing known any more.
        if gives && !self.draining {
            let learned = self.learning.registers(&self.plan);
            self.registering.follow(&self.plan, &learned, &self.discovery);
        }
        if wants {
            self.demands.hold(self.learning.awaits(&self.plan), self.clock.now());
            self.replan();
        }
        for (wanted, reply) in waiting {
            let found = wanted.map(|name| {
                let (waits, found) = oneshot::channel();
                self.learning.waiting.push((name, waits));
                found
            });
            let (change, kept) = self.learning.keeper.last();
            let _ = reply.send(Ok(Reply { change, kept, found }));
        }
        self.tell_waiting();
    }

    /// Tells those who wait for the first word about a service that the workers know by now.
    pub(super) fn tell_waiting(&mut self) {
        self.learning.tell(&self.plan, &self.discovery);
    }
}

/// What is wanted, as calls would name it.
fn awaited<'a>(name: &'a Name, plan: &'a Plan) -> impl Iterator<Item = Awaited> + 'a {
    let of = plan.demands.iter().filter(|demand| demand.gives(name.framework, &name.protocol));
    of.filter_map(|demand| {
        demand.demand.awaited(&name.service, name.version.as_deref(), name.group.as_deref())
    })
}

/// Who gives a service, in all registries in which calls look for it; `None`: that is not known yet.
fn found(name: &Name, plan: &Plan, discovery: &discover::Discovery) -> Option<Arc<[Instance]>> {
    let all: Option<Vec<Arc<[Instance]>>> =
        awaited(name, plan).map(|awaited| discovery.instances(&awaited.cluster)).collect();
    let all = all?;
    match &all[..] {
        [one] => Some(Arc::clone(one)),
        all => {
            let mut merged: Vec<Instance> = all.iter().flat_map(|each| each.iter().cloned()).collect();
            merged.sort_by(|one, other| one.address.cmp(&other.address));
            merged.dedup_by(|later, first| later.address == first.address);
            Some(merged.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn plan(learn: &str) -> Plan {
        let text = format!(
            "app: conf\nstate: off\nregistries: {{ zk: {{ zookeeper: {{ address: '127.0.0.1:1' }} }} }}\n{learn}\n\
             listeners:\n  out: {{ bind: 127.0.0.1:1, protocol: bolt, routes: [{{ to: {{ service: zk }} }}] }}\n  \
             in: {{ bind: '127.0.0.1:12201', protocol: bolt, routes: [{{ to: c }}] }}\n\
             clusters: {{ c: {{ endpoints: ['a:1'] }} }}\n\
             register: {{ own: {{ in: zk, framework: sofarpc, service: own, port: 12201, local: '127.0.0.1:2' }} }}\n"
        );
        let read = crate::conf::lower::read(Path::new("conf.yaml"), text.as_bytes(), &|_| None);
        read.unwrap_or_else(|report| panic!("{report}"))
    }

    const BOTH: &str = "learn: { sofarpc: { in: zk, port: 12201 }, dubbo: { in: zk, port: 20881 } }";

    fn name(framework: Framework, service: &str, protocol: &str) -> Name {
        let version = (framework == Framework::Sofarpc).then(|| "1.0".to_owned());
        Name { framework, service: service.into(), version, group: None, protocol: protocol.into() }
    }

    fn bolt(service: &str) -> Name {
        name(Framework::Sofarpc, service, "bolt")
    }

    fn app(app: Option<&str>) -> Published {
        Published { app: app.map(Into::into), ..Published::default() }
    }

    #[test]
    fn what_is_published_is_registered_as_the_plan_has_it() {
        let plan = plan(BOTH);
        let mut learning = Learning::new(&plan);
        for ask in [
            Ask::Publish(bolt("own"), app(None)),
            Ask::Publish(bolt("a"), app(None)),
            Ask::Publish(bolt("b"), app(Some("other"))),
            Ask::Publish(name(Framework::Dubbo, "d", "dubbo"), app(None)),
        ] {
            assert_eq!(learning.take(&plan, ask.clone(), &[]), Ok(true), "{ask:?}");
            assert_eq!(learning.take(&plan, ask.clone(), &[]), Ok(false), "{ask:?}");
        }
        let apps = |learning: &Learning| -> Vec<String> {
            let all = learning.registers(&plan).into_iter();
            all.map(|one| format!("{} {}", one.name, one.what.app)).collect()
        };
        // What stands in the conf is left to it.
        let [d, a] = ["learned/dubbo/d/dubbo conf", "learned/sofarpc/a:1.0/bolt"];
        assert_eq!(apps(&learning), [d, &format!("{a} conf"), "learned/sofarpc/b:1.0/bolt other"]);
        learning.take(&plan, Ask::Application("shop".into()), &[]).unwrap();
        assert_eq!(apps(&learning), [d, &format!("{a} shop"), "learned/sofarpc/b:1.0/bolt other"]);
        let tri = Ask::Publish(name(Framework::Sofarpc, "t", "tri"), app(None));
        assert!(learning.take(&plan, tri, &[]).is_err(), "nobody could call it");
        // An application starts anew where nobody listened: what is Dubbo's has another voice.
        let ended = [a.to_owned(), "learned/dubbo/d/dubbo".to_owned()];
        assert_eq!(learning.take(&plan, Ask::Application("shop".into()), &ended), Ok(true));
        assert_eq!(apps(&learning), [d, "learned/sofarpc/b:1.0/bolt other"]);
        assert_eq!(learning.take(&plan, Ask::Unpublish(bolt("b")), &[]), Ok(true));
        assert_eq!(learning.take(&plan, Ask::Unpublish(bolt("b")), &[]), Ok(false));
    }

    #[test]
    fn what_is_wanted_is_looked_for_where_calls_of_its_kind_are() {
        let plan_of = plan;
        let plan = plan_of(BOTH);
        let mut learning = Learning::new(&plan);
        for of in [bolt("a"), name(Framework::Sofarpc, "r", "rest"), name(Framework::Dubbo, "d", "dubbo")] {
            assert_eq!(learning.take(&plan, Ask::Subscribe(of.clone()), &[]), Ok(true), "{of}");
        }
        let clusters = |plan: &Plan| -> Vec<String> {
            learning.awaits(plan).into_iter().map(|awaited| awaited.cluster.to_string()).collect()
        };
        assert_eq!(clusters(&plan), ["zk/a:1.0"], "there are routes for Bolt alone");
        assert!(clusters(&plan_of("learn: { dubbo: { in: zk, port: 20881 } }")).is_empty());
        let discovery = discover::Discovery::new(crate::worker::Clock::start());
        let facts = learning.facts(&plan, &discovery).expect("it is heard");
        assert_eq!((facts.published, facts.subscribed.len()), (0, 3));
        assert!(facts.subscribed.iter().all(|of| of.instances.is_none()), "{:?}", facts.subscribed);
        assert!(learning.facts(&plan_of(""), &discovery).is_none());
        // Where no route leads, there is nobody to wait for.
        let rest = name(Framework::Sofarpc, "r", "rest");
        assert_eq!(found(&rest, &plan, &discovery).as_deref(), Some(&[][..]));
        assert!(found(&bolt("a"), &plan, &discovery).is_none());
    }
}
