//! The application in the registries: made known while it answers, taken back when it does not, and before it leaves.
//!
//! One task a service asks the application, in its own protocol, whether it is there; what follows is counted here, in one
//! hand, and is what each registry is told to keep ([`Wish`]). An address that means "this host" to others is never told.
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

use super::{discover::Discovery, probes};
use crate::{
    conf::lower::{Plan, RegisterPlan},
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
    registries: BTreeMap<String, Kept>,
    sender: mpsc::Sender<Told>,
    next: u64,
    /// The application leaves: nothing is made known any more.
    leaving: bool,
}

/// What a task found out.
#[derive(Debug)]
pub enum Told {
    /// The application was asked for a service: whether it is there, otherwise why not.
    Asked {
        /// Of which task.
        number: u64,
        /// The service's name in the conf.
        service: String,
        /// What it said.
        result: Result<(), String>,
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
    number: u64,
    task: Task,
    up: bool,
    /// Answers in a row that say otherwise.
    others: u32,
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
    _looks: Option<Task>,
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
        let (services, registries) = (BTreeMap::new(), BTreeMap::new());
        (Self { services, registries, sender, next: 0, leaving: false }, told)
    }

    /// Makes known what a plan says, and nothing else, in registries that are connected to already.
    pub fn follow(&mut self, plan: &Plan, discovery: &Discovery) {
        if self.leaving {
            return;
        }
        let mut last = std::mem::take(&mut self.services);
        for planned in &plan.register {
            let service = match last.remove(&planned.name) {
                // How it is asked is the same: what is known of it stays.
                Some(before) if same_question(&before.plan, planned) => {
                    Service { plan: planned.clone(), ..before }
                }
                _ => self.begin(planned),
            };
            self.services.insert(planned.name.clone(), service);
        }
        let mut kept = std::mem::take(&mut self.registries);
        let named: Vec<&String> = plan.register.iter().flat_map(|planned| &planned.registries).collect();
        for name in named {
            let Some(registry) = discovery.registry(name).filter(|_| !self.registries.contains_key(name))
            else {
                continue;
            };
            let before = kept.remove(name.as_str()).filter(|before| Arc::ptr_eq(&before.registry, registry));
            let servers = plan.registries.get(name).map(|plan| plan.servers().to_vec()).unwrap_or_default();
            let now = before.unwrap_or_else(|| self.keep(name, registry, servers));
            self.registries.insert(name.clone(), now);
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

    fn begin(&mut self, plan: &RegisterPlan) -> Service {
        self.next += 1;
        let (number, sender, asked) = (self.next, self.sender.clone(), plan.clone());
        let task = Task(tokio::spawn(ask_forever(number, asked, sender)).abort_handle());
        let why = "it was not asked yet".to_owned();
        Service { plan: plan.clone(), number, task, up: false, others: 0, started: 0, why }
    }

    fn keep(&self, name: &str, registry: &Arc<dyn Registry>, servers: Vec<String>) -> Kept {
        let (wish, desired) = Wish::new();
        let task = Task(tokio::spawn(registry.register(desired)).abort_handle());
        let hostless = |service: &Service| {
            service.plan.what.address.starts_with(':') && service.plan.registries.iter().any(|of| of == name)
        };
        let looks = self.services.values().any(hostless).then(|| {
            Task(tokio::spawn(look_for_host(name.to_owned(), servers, self.sender.clone())).abort_handle())
        });
        Kept { registry: Arc::clone(registry), wish, _task: task, host: None, _looks: looks }
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
            Told::Asked { number, service, result } => {
                let Some(of) = self.services.get_mut(&service).filter(|of| of.number == number) else {
                    return;
                };
                if of.heard(result) {
                    self.wish();
                }
            }
        }
    }

    /// Tells each registry what shall be known now.
    fn wish(&self) {
        for (name, kept) in &self.registries {
            let of = |service: &&Service| service.up && service.plan.registries.contains(name);
            let known = self.services.values().filter(of).filter_map(|service| service.known(kept.host));
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
        for service in self.services.values() {
            service.task.0.abort();
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

    /// What is known of the application, by name.
    pub fn facts(&self) -> BTreeMap<String, RegisterFacts> {
        let facts = |service: &Service| RegisterFacts {
            service: service.plan.what.service.clone(),
            framework: service.plan.what.framework.name(),
            level: match service.plan.what.level {
                Level::Interface => "interface",
                Level::Application => "application",
                Level::Both => "both",
            },
            local: service.plan.local.clone(),
            why_not: (!service.up).then(|| service.why.clone()),
            registries: service.plan.registries.iter().map(|name| self.in_registry(name, service)).collect(),
        };
        self.services.iter().map(|(name, service)| (name.clone(), facts(service))).collect()
    }

    fn in_registry(&self, name: &str, service: &Service) -> InRegistry {
        let kept = self.registries.get(name);
        let written = kept.and_then(|kept| kept.wish.written());
        InRegistry {
            registry: name.to_owned(),
            address: service.known(kept.and_then(|kept| kept.host)).map(|known| known.address),
            pending: written.as_ref().map_or(1, |written| written.pending),
            trouble: written.and_then(|written| written.trouble),
        }
    }
}

impl Service {
    /// Takes in an answer of the application: whether it is up now that was not, or the other way round.
    fn heard(&mut self, result: Result<(), String>) -> bool {
        let good = result.is_ok();
        if let Err(why) = result {
            self.why = why;
        }
        if good == self.up {
            self.others = 0;
            return false;
        }
        self.others += 1;
        let enough = if good { self.plan.health.healthy } else { self.plan.health.unhealthy };
        if self.others < enough {
            return false;
        }
        (self.up, self.others) = (good, 0);
        let service = &self.plan.what.service;
        if good {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.started = u64::try_from(now.as_millis()).unwrap_or_default();
            tracing::info!(service, local = self.plan.local, "the application answers: it is made known");
        } else {
            tracing::warn!(service, local = self.plan.local, why = self.why, "no answer: it is taken back");
        }
        true
    }

    /// What others are told of it; `None` while its address is not known.
    fn known(&self, host: Option<IpAddr>) -> Option<Registration> {
        let mut what = Registration { started: self.started, ..self.plan.what.clone() };
        if let Some(port) = what.address.strip_prefix(':') {
            what.address = SocketAddr::new(host?, port.parse().ok()?).to_string();
        }
        is_public(&what.address).then_some(what)
    }
}

fn same_question(one: &RegisterPlan, other: &RegisterPlan) -> bool {
    (&one.local, &one.health, one.lenient) == (&other.local, &other.health, other.lenient)
}

/// Asks the application for one service until nobody wants to know.
async fn ask_forever(number: u64, plan: RegisterPlan, sender: mpsc::Sender<Told>) {
    // A slot for each: the application is asked even while many endpoints are.
    let slot = Semaphore::new(1);
    loop {
        let began = tokio::time::Instant::now();
        let result = probes::ask_once(&plan.health, &plan.local, plan.lenient, &slot).await;
        let told = Told::Asked { number, service: plan.name.clone(), result };
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
