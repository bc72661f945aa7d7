//! The one client that all watches and registrations share: made, looked after, and made anew.
//!
//! One task builds the client from the conf of the cluster, asks the server now and then whether it is well, and replaces the
//! client when it is not: a new one has new connections and has read the credentials again. Everybody else sees a [`Link`]:
//! down, or up with an epoch that grows with each client. The question goes over a connection of its own, over which nothing
//! else goes: when that has been ended from the other side, the server may be going away, and watches are begun anew, since a
//! server that goes holds them open for as long as a minute and tells nothing there. It must never hold up whoever uses it: every call has a time limit
//! ([`limited`]), and what may run a program to get a credential runs on a thread of its own.
//!
//! Read in kube 5.0.0: a client has no time limit for answers by itself, repeats what was answered with 429, 503 or 504 (off
//! here: repeating is ours), takes a proxy from the environment that it then cannot use (so only one that the kubeconfig names
//! is kept, and refused), and runs the program of a kubeconfig's `exec` while it is built, in the way of everything else.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use http::{Request, StatusCode};
use hyper_util::client::legacy::connect::HttpInfo;
use kube::{
    Client, Config, Error,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use outrigger_discovery::{Backoff, StatusCell};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::{JoinHandle, spawn_blocking},
    time,
};

use crate::{Settings, apps::Apps, feed::Feeds, ledger::Ledger, pods::Pods, slices::Slices, write};

/// How long any one question to the server may take.
pub(crate) const CALL: Duration = Duration::from_secs(5);
/// How often the slow clocks may tick at most.
const CLOCK_MIN: Duration = Duration::from_millis(500);

/// What it means that the server takes us for nobody.
const REFUSED: &str = "the API server refuses the credentials (401)";

/// Why a question got no good answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// No answer in time.
    Silent,
    /// An answer that is an error, or none at all.
    Said(Box<Error>),
    /// A list that does not end.
    Endless,
}

impl Failed {
    /// The status of the answer; 0: there was none.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Said(error) => match &**error {
                Error::Api(status) => status.code,
                _ => 0,
            },
            Self::Silent | Self::Endless => 0,
        }
    }

    /// What it means, for a person.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Silent => format!("the API server did not answer within {} s", CALL.as_secs()),
            Self::Endless => "the API server tells a list that does not end".to_owned(),
            Self::Said(error) => match &**error {
                Error::Api(status) => match status.code {
                    401 => REFUSED.to_owned(),
                    code => format!("the API server says: {} ({code})", status.message),
                },
                error => format!("the API server cannot be asked: {}", causes(error)),
            },
        }
    }
}

/// An error with what is below it: the outermost says no more than "client error".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = error.source();
    }
    text
}

/// The answer to a question, within its time limit: [`Failed::Silent`] otherwise, and then nobody knows whether it happened.
pub(crate) async fn limited<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
    match time::timeout(CALL, call).await {
        Ok(answer) => answer.map_err(|error| Failed::Said(Box::new(error))),
        Err(_) => Err(Failed::Silent),
    }
}

/// How the client does, for whoever needs it.
pub(crate) type Link = outrigger_discovery::Link<Up>;

/// A server that answers.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) client: Client,
    /// The namespace of the registry.
    pub(crate) namespace: Arc<str>,
    /// Another epoch: changes may have been missed, and everything is listed again.
    pub(crate) epoch: u64,
}

/// What all watches and registrations share.
pub(crate) struct Hub {
    pub(crate) shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the tasks share that must not keep the hub itself alive.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) status: StatusCell,
    /// Who we are in the slices that we keep: drawn at random.
    pub(crate) holder: String,
    pub(crate) slices: Feeds<Slices>,
    pub(crate) pods: Feeds<Pods>,
    pub(crate) apps: Apps,
    pub(crate) ledger: Ledger,
    /// Somebody got no answer: the server is asked now whether it is well.
    pub(crate) suspect: Notify,
    /// Grows when watches are to be begun anew.
    renewed: watch::Sender<u64>,
    link: watch::Sender<Link>,
    /// Who has a receiver has something in the server that must go before the end.
    closing: watch::Sender<bool>,
}

impl Hub {
    pub(crate) fn new(mut settings: Settings) -> Self {
        for clock in [&mut settings.probe, &mut settings.watch, &mut settings.beat, &mut settings.reconcile] {
            *clock = (*clock).max(CLOCK_MIN);
        }
        let random = RandomState::new();
        let shared = Shared {
            settings,
            status: StatusCell::default(),
            holder: format!("{:016x}", random.hash_one(std::process::id())),
            slices: Feeds::default(),
            pods: Feeds::default(),
            apps: Apps::default(),
            ledger: Ledger::default(),
            suspect: Notify::new(),
            renewed: watch::Sender::new(0),
            link: watch::Sender::new(Link::New),
            closing: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared), tasks: Mutex::default() }
    }

    /// The link; the first who asks for it has the client made, and the writer started.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        let mut tasks = lock(&self.tasks);
        if tasks.is_empty() && !*self.shared.closing.borrow() {
            tasks.push(tokio::spawn(supervise(Arc::clone(&self.shared))));
            tasks.push(tokio::spawn(write::run(Arc::clone(&self.shared), self.shared.closing())));
        }
        self.shared.link()
    }

    /// Takes what is ours out of the server, if it can be reached, and ends everything.
    pub(crate) async fn close(&self) {
        self.shared.closing.send_replace(true);
        // Each lets go as soon as it is done.
        drop(time::timeout(CALL, self.shared.closing.closed()).await);
        self.shared.link.send_replace(Link::Closed);
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        self.shared.status.lost("closed");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

impl Shared {
    /// The link, for a task that must not start it.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Tells when watches are to be begun anew.
    pub(crate) fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }

    /// Tells when everything is to end; the end waits until this is dropped, but not for long.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    fn up(&self, client: Client, namespace: &str, epoch: u64) {
        self.status.connected();
        self.set(Link::Up(Up { client, namespace: namespace.into(), epoch }));
    }

    fn down(&self, reason: &str) {
        self.status.lost(reason);
        self.set(Link::Down(reason.into()));
    }

    /// Nothing comes after the end, whoever is late to say something.
    fn set(&self, link: Link) {
        self.link.send_if_modified(|now| {
            let open = !matches!(now, Link::Closed);
            if open {
                *now = link;
            }
            open
        });
    }
}

/// Makes clients and looks after each, until it is aborted.
async fn supervise(shared: Arc<Shared>) {
    let (mut backoff, mut epoch) = (Backoff::default(), 0u64);
    let mut building = None;
    loop {
        let reason = match connect(&shared.settings, &mut building, CALL).await {
            Ok(Built { client, probe, namespace }) => match is_well(&client).await {
                Ok(_) => {
                    backoff.works();
                    epoch = epoch.saturating_add(1);
                    shared.up(client.clone(), &namespace, epoch);
                    attend(&shared, &client, &probe).await
                }
                Err(reason) => reason,
            },
            Err(reason) => reason,
        };
        shared.down(&reason);
        time::sleep(backoff.failed()).await;
    }
}

/// Looks after a client until the server is not well; says why.
async fn attend(shared: &Shared, client: &Client, probe: &Client) -> String {
    let mut before = None;
    loop {
        let well = tokio::select! {
            // At once the first time, so that there is a connection to be seen ended.
            port = is_well(probe), if before.is_none() => port,
            () = time::sleep(shared.settings.probe) => is_well(probe).await,
            // Whoever got no answer asked over one of these connections.
            () = shared.suspect.notified() => is_well(client).await.map(|_| before.unwrap_or_default()),
        };
        match well {
            Ok(port) => {
                if before.replace(port).is_some_and(|before| before != port) {
                    shared.renewed.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
            Err(reason) => return reason,
        }
        shared.status.heard();
    }
}

/// Whether a question gets an answer, of whatever kind but that we are nobody. The port of ours that it came to; 0: unknown.
async fn is_well(client: &Client) -> Result<u16, String> {
    let asked = async {
        let question = Request::get("/version").body(Body::from(Vec::new())).map_err(Error::HttpError)?;
        let answer = client.send(question).await?;
        let port = answer.extensions().get::<HttpInfo>().map_or(0, |info| info.local_addr().port());
        let status = answer.status();
        // Whole, or the connection could not be used again.
        answer.into_body().collect_bytes().await?;
        Ok((status, port))
    };
    match limited(asked).await {
        Ok((StatusCode::UNAUTHORIZED, _)) => Err(REFUSED.to_owned()),
        Ok((_, port)) => Ok(port),
        Err(failed) => Err(failed.reason()),
    }
}

/// What a conf of the cluster comes to.
struct Built {
    client: Client,
    /// The same with connections of its own.
    probe: Client,
    namespace: String,
}

/// Has a client made, within a time. One that is not made by then is waited for the next time: a program that hangs keeps one
/// thread, not one for each try.
async fn connect(
    settings: &Settings,
    building: &mut Option<JoinHandle<Result<Built, String>>>,
    within: Duration,
) -> Result<Built, String> {
    let built = building.get_or_insert_with(|| {
        let settings = settings.clone();
        spawn_blocking(move || Handle::current().block_on(build(&settings)))
    });
    let Ok(built) = time::timeout(within, built).await else {
        return Err("what gives the credentials for Kubernetes does not answer".to_owned());
    };
    *building = None;
    built.unwrap_or_else(|error| Err(format!("no client for Kubernetes could be made: {error}")))
}

async fn build(settings: &Settings) -> Result<Built, String> {
    // The same for all TLS of the process; whoever was first has chosen the same.
    static RING: Once = Once::new();
    RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut config = config(settings).await?;
    config.connect_timeout = Some(CALL);
    config.default_retry = false;
    let namespace = settings.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = |config| {
        Client::try_from(config)
            .map_err(|error| format!("no client for Kubernetes could be made: {}", causes(&error)))
    };
    Ok(Built { client: client(config.clone())?, probe: client(config)?, namespace })
}

/// As `Config::infer` looks for it, but for the variables by which one may pose as somebody else.
async fn config(settings: &Settings) -> Result<Config, String> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    let read = match &settings.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::from_env().and_then(|from| from.map_or_else(Kubeconfig::read, Ok)),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(error) if settings.kubeconfig.is_some() || settings.context.is_some() => {
            return Err(format!("the kubeconfig cannot be used: {}", causes(&error)));
        }
        Err(error) => {
            return Config::incluster().map_err(|in_cluster| {
                format!(
                    "neither a kubeconfig nor a service account is here: {}; {}",
                    causes(&error),
                    causes(&in_cluster)
                )
            });
        }
    };
    let names_proxy = kubeconfig
        .clusters
        .iter()
        .filter_map(|one| one.cluster.as_ref())
        .any(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()));
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| format!("the kubeconfig cannot be used: {}", causes(&error)))?;
    if !names_proxy {
        config.proxy_url = None;
    }
    Ok(config)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is whole; a panic elsewhere leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[tokio::test]
    async fn a_program_that_gives_no_credentials_is_run_once_and_waited_for() {
        let dir = tempfile::TempDir::new().unwrap();
        let (runs, ends) = (dir.path().join("runs"), dir.path().join("ends"));
        let program = dir.path().join("credentials");
        let script = format!(
            "#!/bin/sh\necho >>{}\nwhile [ ! -e {} ]; do sleep 0.05; done\nexit 1\n",
            runs.display(),
            ends.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{ name: c, context: {{ cluster: c, user: u }} }}]\n\
             clusters: [{{ name: c, cluster: {{ server: 'http://127.0.0.1:1' }} }}]\n\
             users: [{{ name: u, user: {{ exec: {{ apiVersion: client.authentication.k8s.io/v1, command: {}, \
             interactiveMode: Never }} }} }}]\n",
            program.display()
        );
        fs::write(&kubeconfig, text).unwrap();
        let settings = Settings { kubeconfig: Some(kubeconfig), ..Settings::default() };
        let mut building = None;
        while !runs.exists() {
            assert!(connect(&settings, &mut building, Duration::from_millis(100)).await.is_err());
        }
        for _ in 0..3 {
            assert!(connect(&settings, &mut building, Duration::from_millis(100)).await.is_err());
        }
        assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), 1);
        // It ends, and the next try is a new one.
        fs::write(&ends, "").unwrap();
        assert!(connect(&settings, &mut building, CALL).await.is_err());
        assert!(building.is_none());
    }
}
