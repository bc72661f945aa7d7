//! Sidecars around a registry: those of applications that give a service, those of callers, and the calls.

use super::registry::{Kind, POD, Server};
use super::support::echo::Upstream;
use super::support::raw::{ECHO, Frame, Wire};
use super::support::{Sidecar, free_port, netns};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything takes that comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something has come: those who are asked have other things to do.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// Longer than anything hangs that is made to hang here.
const CALL_MAX: Duration = Duration::from_secs(240);
/// Callers at once; each makes some 150 calls a second.
const CALLERS: u64 = 2;
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, done: impl FnMut() -> bool) {
    until_within(PATIENCE, what, done);
}

/// The same with a patience of its own.
#[track_caller]
pub(crate) fn until_within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < end, "{what}: not after {limit:?}");
        std::thread::sleep(LOOK);
    }
}

/// The conf of a sidecar whose listener `main` leads to a cluster `up`.
#[derive(Clone)]
pub(crate) struct Conf {
    pub(crate) kind: Kind,
    app: &'static str,
    /// Whether it is in a pod, where there are such.
    in_pod: bool,
    admin: u16,
    pub(crate) port: u16,
    /// Where the registry is.
    registry: String,
    pub(crate) state: String,
    drain: &'static str,
    clusters: String,
    register: String,
}

impl Conf {
    pub(crate) fn new(server: &Server) -> Self {
        Self {
            kind: server.kind,
            app: "test",
            in_pod: false,
            admin: free_port(),
            port: free_port(),
            registry: server.address(),
            state: "off".into(),
            drain: "20s",
            clusters: String::new(),
            register: String::new(),
        }
    }

    /// Its calls go to whoever gives a service.
    pub(crate) fn calls(self, service: &str) -> Self {
        self.finds("up", service, "~")
    }

    /// A cluster of whoever gives a service.
    pub(crate) fn finds(mut self, cluster: &str, service: &str, hold: &str) -> Self {
        let framework = self.kind.framework();
        let found = format!("registry: reg, service: {service}, framework: {framework}");
        let hold = if hold == "~" { String::new() } else { format!(", hold_empty: {hold}") };
        writeln!(self.clusters, "  {cluster}: {{ discover: {{ {found}{hold} }} }}").expect("a text grows");
        self
    }

    /// Its calls go to the application.
    pub(crate) fn carries(mut self, app: &str) -> Self {
        writeln!(self.clusters, "  up: {{ endpoints: [\"{app}\"] }}").expect("a text grows");
        self
    }

    /// It makes a service known that the application gives.
    pub(crate) fn registers(mut self, service: &str, app: &str) -> Self {
        let (framework, port, host) = (self.kind.framework(), self.port, netns::ADDRESS);
        // No provider is spared as one that has just been started.
        self.register = format!(
            "register:\n  own: {{ in: reg, service: {service}, framework: {framework}, host: {host}, port: {port}, \
             local: \"{app}\", metadata: {{ warmup: \"1\" }} }}\n"
        );
        self
    }

    /// It makes nothing known any more.
    pub(crate) fn registers_nothing(mut self) -> Self {
        self.register.clear();
        self
    }

    /// Its registry is elsewhere.
    pub(crate) fn at(mut self, registry: &str) -> Self {
        registry.clone_into(&mut self.registry);
        self
    }

    /// Its calls may take so long to finish after TERM.
    pub(crate) fn drains(mut self, limit: &'static str) -> Self {
        self.drain = limit;
        self
    }

    /// It is of another application.
    pub(crate) fn of(mut self, app: &'static str) -> Self {
        self.app = app;
        self
    }

    /// It is in a pod, where there are such.
    pub(crate) fn in_pod(mut self) -> Self {
        self.in_pod = true;
        self
    }

    /// What others dial.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", netns::ADDRESS, self.port)
    }

    pub(crate) fn text(&self) -> String {
        let Self { kind, app, admin, port, registry, state, drain, clusters, register, .. } = self;
        let (registry, protocol) = (kind.conf(registry), kind.wire().protocol());
        format!(
            "app: {app}\nadmin: 127.0.0.1:{admin}\nworkers: 1\nstate: {state}\ndrain_timeout: {drain}\n\
             propagation: 1s\nregistries:\n  reg: {{ {registry} }}\nlisteners:\n  main:\n    \
             bind: 0.0.0.0:{port}\n    protocol: {protocol}\n    routes: [{{ match: {{}}, to: up }}]\n\
             clusters:\n{clusters}{register}"
        )
    }

    pub(crate) fn start(&self) -> Sidecar {
        Sidecar::start_with(&self.text(), |command| {
            command.env_remove("POD_NAME").env_remove("HOSTNAME");
            if self.in_pod {
                command.envs([("POD_NAME", POD), ("POD_UID", POD), ("POD_IP", netns::ADDRESS)]);
            }
        })
    }
}

/// An application that gives a service, and its sidecar, which makes that known.
pub(crate) struct Provider {
    pub(crate) sidecar: Sidecar,
    pub(crate) app: Upstream,
    pub(crate) conf: Conf,
}

impl Provider {
    /// Starts both; the registry knows of it.
    pub(crate) fn start(server: &Server, service: &str) -> Self {
        Self::start_by(server, service, Conf::new(server))
    }

    /// The same by a conf that says a few things more.
    pub(crate) fn start_by(server: &Server, service: &str, conf: Conf) -> Self {
        let app = Upstream::start();
        let conf = conf.carries(&app.address()).registers(service, &app.address());
        let provider = Self { sidecar: conf.start(), app, conf };
        let address = provider.address();
        let listed = || server.listed(service).is_some_and(|all| all.contains(&address));
        until("a provider is registered", listed);
        provider
    }

    pub(crate) fn address(&self) -> String {
        self.conf.address()
    }

    /// TERM, and a good end.
    pub(crate) fn leaves(self) {
        self.leaves_within(PATIENCE);
    }

    pub(crate) fn leaves_within(mut self, limit: Duration) {
        self.sidecar.term();
        let status = self.sidecar.wait(limit);
        assert!(status.success(), "{status}");
    }
}

impl Sidecar {
    /// `/registries`.
    pub(crate) fn registries(&self) -> Value {
        let (code, page) = self.admin_get("/registries");
        assert_eq!(code, 200, "{page}");
        serde_json::from_str(&page).expect("/registries is JSON")
    }

    /// What it says of the watch for a cluster.
    pub(crate) fn watch(&self, cluster: &str) -> Value {
        let page = self.registries();
        let watches = page["registries"]["reg"]["watches"].as_array().expect("watches are listed").clone();
        watches.into_iter().find(|watch| watch["cluster"] == cluster).expect("it is watched")
    }

    /// Whether it cannot ask its registry about the cluster `up`.
    pub(crate) fn is_lost(&self) -> bool {
        self.watch("up")["lost"].is_string()
    }

    /// Why the application is not made known; `None`: it is.
    pub(crate) fn why_not(&self) -> Option<String> {
        let own = &self.registries()["registered"]["own"];
        assert!(own.is_object(), "it is to be registered: {own}");
        own["why_not"].as_str().map(str::to_owned)
    }

    /// Waits until a cluster has so many endpoints.
    #[track_caller]
    pub(crate) fn until_endpoints(&self, cluster: &str, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.endpoints(cluster) != count {
            let told = || format!("{:#}\n{:#}", self.registries(), self.cluster(cluster));
            assert!(Instant::now() < end, "{cluster} has not {count} endpoints:\n{}", told());
            std::thread::sleep(LOOK);
        }
    }

    /// How many endpoints a cluster has, without those that are about to be forgotten.
    pub(crate) fn endpoints(&self, cluster: &str) -> usize {
        let page = self.cluster(cluster);
        page["endpoints"].as_array().into_iter().flatten().filter(|one| one["state"] != "leaving").count()
    }

    /// Whether the registry has confirmed all that is to stand there.
    pub(crate) fn is_registered(&self) -> bool {
        let page = self.registries();
        let own = &page["registered"]["own"];
        own["why_not"].is_null()
            && own["registries"][0]["pending"] == 0
            && page["registries"]["reg"]["connected"] == true
    }
}

/// Calls all the time, of which none may fail.
pub(crate) struct Traffic {
    shared: Arc<Calls>,
    callers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Calls {
    over: AtomicBool,
    good: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Traffic {
    /// Calls what listens on this port of loopback.
    pub(crate) fn start(kind: Kind, port: u16) -> Self {
        let shared = Arc::<Calls>::default();
        let caller = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                while !shared.over.load(Ordering::SeqCst) {
                    if let Err(why) = call_on(kind.wire(), port, &shared) {
                        shared.failed.lock().expect("no thread panics with it").push(why);
                        std::thread::sleep(LOOK);
                    }
                }
            })
        };
        let callers = (0..CALLERS).map(caller).collect();
        Self { shared, callers }
    }

    /// A few hundred calls more have been good, and none has failed.
    #[track_caller]
    pub(crate) fn goes_on(&self, when: &str) {
        let want = self.good() + 300;
        until(&format!("calls, {when}"), || {
            let failed = self.shared.failed.lock().expect("no thread panics with it");
            assert!(failed.is_empty(), "{when}: {} calls failed: {:?}", failed.len(), failed.first());
            drop(failed);
            self.good() >= want
        });
    }

    fn good(&self) -> usize {
        self.shared.good.load(Ordering::SeqCst)
    }

    /// The end; how many calls there were, all of them good.
    #[track_caller]
    pub(crate) fn end(self, what: &str) {
        self.goes_on(what);
        self.shared.over.store(true, Ordering::SeqCst);
        for caller in self.callers {
            caller.join().expect("a caller does not panic");
        }
        let failed = self.shared.failed.lock().expect("no thread panics with it");
        assert!(failed.is_empty(), "{what}: {} calls failed: {failed:?}", failed.len());
        eprintln!("{what}: {} calls, all good", self.shared.good.load(Ordering::SeqCst));
    }
}

/// Calls over one connection until the end; an error is a call that failed.
fn call_on(wire: Wire, port: u16, shared: &Calls) -> Result<(), String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|e| format!("connect: {e}"))?;
    stream.set_nodelay(true).expect("a socket option");
    stream.set_read_timeout(Some(CALL_MAX)).expect("a socket option");
    for id in 1.. {
        if shared.over.load(Ordering::SeqCst) {
            break;
        }
        stream.write_all(&wire.call(id).bytes()).map_err(|e| format!("call {id}: {e}"))?;
        let answer = Frame::read(&mut stream).map_err(|e| format!("answer {id}: {e}"))?;
        let answer = answer.ok_or_else(|| format!("answer {id}: the connection ended"))?;
        if answer.bytes != wire.answer(id, ECHO) {
            return Err(format!("answer {id}: {answer:?} {}", String::from_utf8_lossy(&answer.bytes)));
        }
        shared.good.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
