//! The application in the registries: made known while it answers, taken back when it does not, and before it leaves.
//!
//! One task for each place and manner asks the application, in its own protocol, whether it is there; what follows is counted
//! here, in one hand, and is what each registry is told to keep ([`Wish`]). What the application said itself ([`super::learn`])
//! is treated like what the conf says. An address that means "this host" to others is never told.
//! This decides what shall be known of the application; how it is written is each registry's own.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use outrigger_discovery::{Level, Registration, Registry, Wish, is_public};
use tokio::{
    net::UdpSocket,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};

use super::{
    discover::Discovery,
    probes::{self, Absent},
};
use crate::{
    conf::lower::{HealthPlan, Plan, RegisterPlan},
    telemetry::{InRegistry, RegisterFacts},
};

/// How long everything may take to be taken away before the process leaves all the same.
const WITHDRAW: Duration = Duration::from_secs(5);
/// How long to wait before the own address is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Nobody is there (RFC 5737 §3), and nothing is sent: only the way there is asked for.
const AWAY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9);

/// Everything of the application that shall be known.
#[derive(Debug)]
pub struct Registering {
    services: BTreeMap<String, Service>,
    /// Who asks the application, by number; services share one where the question is the same.
    askers: BTreeMap<u64, Asker>,
    registries: BTreeMap<String, Kept>,
    sender: mpsc::Sender<Told>,
    next: u64,
    /// The application leaves: nothing is made known any more.
    leaving: bool,
}

/// What a task found out.
#[derive(Debug)]
pub enum Told {
    /// The application was asked: whether it is there, otherwise why not.
    Asked {
        /// By whom.
        number: u64,
        /// What it said.
        result: Result<(), Absent>,
    },
    /// The address from which a registry is reached.
    Host {
        /// The registry's name.
        registry: String,
        /// Ours.
        ip: IpAddr,
    },
}

/// A service of the application.
#[derive(Debug)]
struct Service {
    plan: RegisterPlan,
    /// The application said so itself.
    learned: bool,
    /// Who asks for it.
    asker: u64,
}

/// Who asks the application whether it is there.
#[derive(Debug)]
struct Asker {
    local: String,
    health: HealthPlan,
    lenient: bool,
    task: Task,
    up: bool,
    /// Answers in a row that say otherwise.
    others: u32,
    /// Times in a row that nobody listened.
    refused: u32,
    /// When it came up, in milliseconds since 1970.
    started: u64,
    why: String,
}

/// A registry that is told what shall be known.
struct Kept {
    registry: Arc<dyn Registry>,
    wish: Wish,
    _task: Task,
    host: Option<IpAddr>,
    looks: Option<Task>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Kept").field("wish", &self.wish).field("host", &self.host).finish_non_exhaustive()
    }
}

/// Ends with its handle.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Registering {
    /// Nothing shall be known yet; and where what tasks find out will come out.
    pub fn new() -> (Self, mpsc::Receiver<Told>) {
        let (sender, told) = mpsc::channel(64);
        let (services, askers, registries) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        (Self { services, askers, registries, sender, next: 0, leaving: false }, told)
    }

    /// Makes known what a plan says and what was `learned`, and nothing else, in registries that are connected to already.
    pub fn follow(&mut self, plan: &Plan, learned: &[RegisterPlan], discovery: &Discovery) {
        if self.leaving {
            return;
        }
        self.services.clear();
        let mut last = std::mem::take(&mut self.askers);
        let all = plan.register.iter().map(|planned| (planned, false));
        for (planned, learned) in all.chain(learned.iter().map(|planned| (planned, true))) {
            if learned && self.services.contains_key(&planned.name) {
                continue;
            }
            let asker = self.asker(planned, &mut last);
            self.services.insert(planned.name.clone(), Service { plan: planned.clone(), learned, asker });
        }
        let mut kept = std::mem::take(&mut self.registries);
        let written = plan.register.iter().map(|planned| (&planned.registries, &planned.what.address));
        // Kept also while nothing is learned: what was taken away and what comes next must not be worked on side by side.
        let heard = plan.learn.iter().map(|learn| (&learn.registries, &learn.address));
        for (names, address) in written.chain(heard) {
            for name in names {
                let Some(registry) = discovery.registry(name) else { continue };
                let servers = || plan.registries.get(name).map(|plan| plan.servers().to_vec());
                if !self.registries.contains_key(name) {
                    let same = |before: &Kept| Arc::ptr_eq(&before.registry, registry);
                    let now = kept.remove(name.as_str()).filter(same).unwrap_or_else(|| keep(registry));
                    self.registries.insert(name.clone(), now);
                }
                if let Some(kept) = self.registries.get_mut(name)
                    && kept.looks.is_none()
                    && address.starts_with(':')
                {
                    let servers = servers().unwrap_or_default();
                    let looks = look_for_host(name.clone(), servers, self.sender.clone());
                    kept.looks = Some(Task(tokio::spawn(looks).abort_handle()));
                }
            }
        }
        // A registry in which nothing is to be known any more: what is there is taken away, and then it is left alone.
        for (name, gone) in kept.into_iter().filter(|(name, _)| discovery.registry(name).is_some()) {
            gone.wish.set([].into());
            tokio::spawn(async move {
                let mut gone = gone;
                let done = tokio::time::timeout(WITHDRAW, gone.wish.done()).await.is_ok();
                tracing::info!(
                    registry = name,
                    done,
                    "nothing of the application is registered there any more"
                );
            });
        }
        self.wish();
    }

    /// Who asks for a service: one who asks the same already, in the `last` plan too, or a new one.
    fn asker(&mut self, plan: &RegisterPlan, last: &mut BTreeMap<u64, Asker>) -> u64 {
        let same = |(number, asker): (&u64, &Asker)| asker.asks(plan).then_some(*number);
        if let Some(number) = self.askers.iter().find_map(same) {
            return number;
        }
        if let Some(number) = last.iter().find_map(same)
            && let Some(asker) = last.remove(&number)
        {
            // How it is asked is the same: what is known of it stays.
            self.askers.insert(number, asker);
            return number;
        }
        self.next += 1;
        let asks = ask_forever(self.next, plan.clone(), self.sender.clone());
        let asker = Asker {
            local: plan.local.clone(),
            health: plan.health.clone(),
            lenient: plan.lenient,
            task: Task(tokio::spawn(asks).abort_handle()),
            up: false,
            others: 0,
            refused: 0,
            started: 0,
            why: "it was not asked yet".to_owned(),
        };
        self.askers.insert(self.next, asker);
        self.next
    }

    /// Takes in what a task found out.
    pub fn heard(&mut self, told: Told) {
        match told {
            Told::Host { registry, ip } => {
                if let Some(kept) = self.registries.get_mut(&registry)
                    && kept.host != Some(ip)
                {
                    tracing::info!(registry, %ip, "others are told this address of the application's host");
                    kept.host = Some(ip);
                    self.wish();
                }
            }
            Told::Asked { number, result } => {
                if self.askers.get_mut(&number).is_some_and(|asker| asker.heard(result)) {
                    self.say(number);
                    self.wish();
                }
            }
        }
    }

    /// Says that the application came or went.
    fn say(&self, number: u64) {
        let Some(asker) = self.askers.get(&number) else { return };
        let mut of = self.services.values().filter(|service| service.asker == number);
        let service = of.next().map_or("", |service| &service.plan.what.service);
        let (local, more) = (&asker.local, of.count());
        if asker.up {
            tracing::info!(service, more, local, "the application answers: it is made known");
        } else {
            tracing::warn!(service, more, local, why = asker.why, "no answer: it is taken back");
        }
    }

    /// Tells each registry what shall be known now.
    fn wish(&self) {
        for (name, kept) in &self.registries {
            let of = |service: &&Service| service.plan.registries.contains(name);
            let known = self.services.values().filter(of).filter_map(|service| {
                let asker = self.askers.get(&service.asker).filter(|asker| asker.up)?;
                service.known(asker, kept.host)
            });
            let known: Vec<Registration> = if self.leaving { Vec::new() } else { known.collect() };
            kept.wish.set(known.into());
        }
    }

    /// Whether anything is known of the application, or may be.
    pub fn is_known(&self) -> bool {
        let known = |kept: &Kept| {
            let pending = kept.wish.written().is_none_or(|written| written.pending > 0);
            !kept.wish.wanted().is_empty() || pending
        };
        self.registries.values().any(known)
    }

    /// Takes everything away, for good; whether any registry confirmed that in time, so that others can learn of it.
    pub async fn withdraw(&mut self) -> bool {
        self.leaving = true;
        for asker in self.askers.values() {
            asker.task.0.abort();
        }
        self.wish();
        let until = tokio::time::Instant::now() + WITHDRAW;
        let mut any = false;
        for (registry, kept) in &mut self.registries {
            if tokio::time::timeout_at(until, kept.wish.done()).await.is_ok() {
                any = true;
            } else {
                let trouble = kept.wish.written().and_then(|written| written.trouble).unwrap_or_default();
                tracing::warn!(registry, trouble, "could not be told in time that the application leaves");
            }
        }
        any
    }

    /// What was learned from an application that has ended since: nobody listens where it did.
    pub fn ended(&self) -> Vec<&str> {
        let ended = |service: &&Service| {
            let asker = self.askers.get(&service.asker);
            let gone = |asker: &Asker| !asker.up && asker.refused >= asker.health.unhealthy;
            service.learned && asker.is_some_and(gone)
        };
        self.services.values().filter(ended).map(|service| service.plan.name.as_str()).collect()
    }

    /// What is known of the application, by name.
    pub fn facts(&self) -> BTreeMap<String, RegisterFacts> {
        let why_not = |service: &Service| {
            let asker = self.askers.get(&service.asker)?;
            (!asker.up).then(|| asker.why.clone())
        };
        let facts = |service: &Service| RegisterFacts {
            service: service.plan.what.service.clone(),
            framework: service.plan.what.framework.name(),
            level: match service.plan.what.level {
                Level::Interface => "interface",
                Level::Application => "application",
                Level::Both => "both",
            },
            local: service.plan.local.clone(),
            learned: service.learned,
            why_not: why_not(service),
            registries: service.plan.registries.iter().map(|name| self.in_registry(name, service)).collect(),
        };
        self.services.iter().map(|(name, service)| (name.clone(), facts(service))).collect()
    }

    fn in_registry(&self, name: &str, service: &Service) -> InRegistry {
        let kept = self.registries.get(name);
        let written = kept.and_then(|kept| kept.wish.written());
        InRegistry {
            registry: name.to_owned(),
            address: self
                .askers
                .get(&service.asker)
                .and_then(|asker| service.known(asker, kept.and_then(|kept| kept.host)))
                .map(|known| known.address),
            pending: written.as_ref().map_or(1, |written| written.pending),
            trouble: written.and_then(|written| written.trouble),
        }
    }
}

impl Asker {
    /// Whether it asks what a service is asked for.
    fn asks(&self, plan: &RegisterPlan) -> bool {
        (&self.local, &self.health, self.lenient) == (&plan.local, &plan.health, plan.lenient)
    }

    /// Takes in an answer of the application: whether it is up now that was not, or the other way round.
    fn heard(&mut self, result: Result<(), Absent>) -> bool {
        let good = result.is_ok();
        self.refused = match &result {
            Err(absent) if absent.refused => self.refused.saturating_add(1),
            _ => 0,
        };
        if let Err(absent) = result {
            self.why = absent.why;
        }
        if good == self.up {
            self.others = 0;
            return false;
        }
        self.others += 1;
        let enough = if good { self.health.healthy } else { self.health.unhealthy };
        if self.others < enough {
            return false;
        }
        (self.up, self.others) = (good, 0);
        if good {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.started = u64::try_from(now.as_millis()).unwrap_or_default();
        }
        true
    }
}

impl Service {
    /// What others are told of it; `None` while its address is not known.
    fn known(&self, asker: &Asker, host: Option<IpAddr>) -> Option<Registration> {
        let mut what = Registration { started: asker.started, ..self.plan.what.clone() };
        if let Some(port) = what.address.strip_prefix(':') {
            what.address = SocketAddr::new(host?, port.parse().ok()?).to_string();
        }
        is_public(&what.address).then_some(what)
    }
}

fn keep(registry: &Arc<dyn Registry>) -> Kept {
    let (wish, desired) = Wish::new();
    let task = Task(tokio::spawn(registry.register(desired)).abort_handle());
    Kept { registry: Arc::clone(registry), wish, _task: task, host: None, looks: None }
}

/// Asks the application until nobody wants to know.
async fn ask_forever(number: u64, plan: RegisterPlan, sender: mpsc::Sender<Told>) {
    // A slot for each: the application is asked even while many endpoints are.
    let slot = Semaphore::new(1);
    loop {
        let began = tokio::time::Instant::now();
        let result = probes::ask_once(&plan.health, &plan.local, plan.lenient, &slot).await;
        let told = Told::Asked { number, result };
        if sender.send(told).await.is_err() {
            return;
        }
        tokio::time::sleep_until(began + plan.health.interval).await;
    }
}

/// Finds out from which address a registry is reached, now and when that changes.
async fn look_for_host(registry: String, servers: Vec<String>, sender: mpsc::Sender<Told>) {
    let mut told = None;
    loop {
        let ip = own_address(&servers).await;
        if ip.is_some() && ip != told {
            told = ip;
            let Some(ip) = ip else { continue };
            if sender.send(Told::Host { registry: registry.clone(), ip }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The address from which one of the servers is reached, or, where that is this host's own, from which the world is.
async fn own_address(servers: &[String]) -> Option<IpAddr> {
    let mut targets = Vec::new();
    for server in servers {
        if let Ok(found) = tokio::net::lookup_host(server).await {
            targets.extend(found);
        }
    }
    targets.push(AWAY);
    for target in targets {
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let Ok(socket) = UdpSocket::bind(any).await else { continue };
        if socket.connect(target).await.is_err() {
            continue;
        }
        if let Ok(own) = socket.local_addr()
            && is_public(&own.to_string())
        {
            return Some(own.ip());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent(refused: bool) -> Result<(), Absent> {
        Err(Absent { why: "gone".into(), refused })
    }

    fn plan(text: &str) -> Plan {
        let text = format!(
            "app: shop\nlisteners: {{ l: {{ bind: 127.0.0.1:1, routes: [{{ to: c }}] }} }}\nclusters: {{ c: {{ endpoints: ['a:1'] }} }}\n\
             registries: {{ zk: {{ zookeeper: {{ address: '127.0.0.1:1' }} }} }}\n{text}\n"
        );
        crate::conf::lower::read(std::path::Path::new("conf.yaml"), text.as_bytes(), &|_| None)
            .unwrap_or_else(|report| panic!("{report}"))
    }

    fn learned(name: &str, local: &str) -> RegisterPlan {
        let service = |name: &str| {
            format!(
                "  {name}: {{ in: zk, framework: sofarpc, service: {name}, port: 7, local: '{local}' }}\n"
            )
        };
        plan(&format!("register:\n{}", service(name))).register.remove(0)
    }

    #[tokio::test]
    async fn services_that_ask_the_same_share_who_asks_and_what_is_known() {
        let own = plan(
            "register:\n  a: { in: zk, framework: sofarpc, service: a, port: 7, local: '127.0.0.1:1' }\n",
        );
        let (mut registering, _told) = Registering::new();
        let discovery = Discovery::new(crate::worker::Clock::start());
        registering.follow(&own, &[learned("b", "127.0.0.1:1"), learned("c", "127.0.0.1:2")], &discovery);
        assert_eq!((registering.services.len(), registering.askers.len()), (3, 2));
        let asker = registering.services["a"].asker;
        assert_eq!(registering.services["b"].asker, asker);
        for _ in 0..2 {
            registering.heard(Told::Asked { number: asker, result: Ok(()) });
        }
        let up = |registering: &Registering, name: &str| registering.facts()[name].why_not.is_none();
        assert!(up(&registering, "a") && up(&registering, "b") && !up(&registering, "c"));
        // What comes later is known to be there at once; what goes takes nothing along.
        registering.follow(&own, &[learned("d", "127.0.0.1:1")], &discovery);
        assert_eq!((registering.services.len(), registering.askers.len()), (2, 1));
        assert!(up(&registering, "d"));
        let facts = registering.facts();
        assert_eq!((facts["a"].learned, facts["d"].learned), (false, true));
        // A name that the conf has is the conf's.
        registering.follow(&own, &[learned("a", "127.0.0.1:3")], &discovery);
        assert!(!registering.facts()["a"].learned && registering.askers.len() == 1);
    }

    #[tokio::test]
    async fn an_application_has_ended_when_nobody_listens_and_not_when_it_is_slow() {
        let (mut registering, _told) = Registering::new();
        let discovery = Discovery::new(crate::worker::Clock::start());
        let own = plan(
            "register:\n  a: { in: zk, framework: sofarpc, service: a, port: 7, local: '127.0.0.1:1' }\n",
        );
        registering.follow(&own, &[learned("b", "127.0.0.1:1")], &discovery);
        let number = registering.services["b"].asker;
        let tell = |registering: &mut Registering, results: &[Result<(), Absent>]| {
            for result in results {
                registering.heard(Told::Asked { number, result: result.clone() });
            }
            registering.ended().join(" ")
        };
        assert_eq!(tell(&mut registering, &[Ok(()), Ok(())]), "");
        assert_eq!(tell(&mut registering, &[absent(false), absent(false), absent(false), absent(false)]), "");
        assert_eq!(tell(&mut registering, &[absent(true), absent(true)]), "");
        assert_eq!(tell(&mut registering, &[absent(true)]), "b", "what the conf says is never forgotten");
        assert_eq!(tell(&mut registering, &[absent(false)]), "");
        assert_eq!(tell(&mut registering, &[absent(true), absent(true), absent(true), Ok(())]), "");
    }
}
