//! What all watches and registrations share: the settings, the one session, and who listens to what the server tells.
//!
//! A list of a service is kept as the last word of the server, never as a queue; who listens is woken and reads it. Must
//! never call anybody back: the server's messages are put down here and nothing else happens with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use outrigger_discovery::{Status, StatusCell, check_address};
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

use crate::{
    Settings,
    apps::Revisions,
    ledger::Ledger,
    message::{
        Config, ConfigBatchListenRequest, ConfigChangeNotifyRequest, ConfigListenContext, Host,
        NotifySubscriberRequest, Place, ServiceAnswer, ServiceInfo, ServiceListRequest, ServiceQueryRequest,
        SubscribeServiceRequest,
    },
    pace::Pace,
    session::{Failed, Session},
    supervisor,
    wire::Payload,
};

/// Questions are so far apart: 200 a second.
const APART: Duration = Duration::from_millis(5);
/// How many names come in one answer.
const PAGE: i32 = 500;
/// How many pages of names are read at most.
const PAGES_MAX: i32 = 400;
/// A list that is so much older than the last one was overtaken by it; if it is older still, the server's clock was set back.
const OVERTAKEN_MS_MAX: i64 = 10_000;
/// How long an end on purpose may take.
const CLOSE: Duration = Duration::from_secs(2);
/// The most seldom that new names are looked for.
const NAMES_EVERY_MAX: Duration = Duration::from_secs(15);

/// What is said of a connection that was ended on purpose.
pub(crate) const CLOSED: &str = "the registry was closed";

/// How the one connection does.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Nobody wanted anything yet, or the first attempt goes on.
    Fresh,
    /// There is none, for this reason.
    Down(Arc<str>),
    /// There is one.
    Up(Arc<Session>),
    /// It was ended on purpose, for good.
    Closed,
}

/// What all share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) settings: Arc<Settings>,
    pub(crate) status: StatusCell,
    pub(crate) state: watch::Sender<State>,
    /// Whether the end was asked for; the supervisor hears of it, and of the client's own end.
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) pace: Arc<Pace>,
    started: AtomicBool,
    numbers: AtomicU64,
    topics: Mutex<BTreeMap<Place, Topic>>,
    configs: Mutex<BTreeMap<Config, BTreeMap<u64, Ear>>>,
    names: tokio::sync::Mutex<BTreeMap<String, Names>>,
    /// What all who register want, and what of that is written.
    pub(crate) ledger: Ledger,
    /// What is served at the revisions of Dubbo's applications.
    pub(crate) revisions: Revisions,
}

/// The names in a namespace, and when they were read, over which session.
#[derive(Debug)]
struct Names {
    read: Instant,
    session: u64,
    all: Arc<[String]>,
}

/// A service that somebody listens to.
#[derive(Debug, Default)]
struct Topic {
    feed: Feed,
    ears: BTreeMap<u64, Ear>,
    /// Held while the server is told whether we listen, lest the words overtake each other.
    telling: Arc<tokio::sync::Mutex<()>>,
}

/// The last list of a service.
#[derive(Clone, Debug, Default)]
struct Feed {
    session: u64,
    /// When the server made it, by its own clock.
    made: i64,
    hosts: Option<Arc<[Host]>>,
    /// The list is another one than is known here: it has to be asked for.
    stale: bool,
}

/// Wakes one listener. What woke it is for it to find out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ear(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    some: Notify,
    configs: AtomicBool,
}

impl Ear {
    /// Waits until there is something to look at. Losing the future loses nothing.
    pub(crate) async fn listen(&self) {
        self.0.some.notified().await;
    }

    /// Has the listener look.
    pub(crate) fn wake(&self) {
        self.0.some.notify_one();
    }

    /// Whether both wake the same listener.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether a config that is listened to changed since this was asked last.
    pub(crate) fn configs_changed(&self) -> bool {
        self.0.configs.swap(false, Ordering::AcqRel)
    }
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::new(settings),
            status: StatusCell::default(),
            state: watch::Sender::new(State::Fresh),
            closing: watch::Sender::new(false),
            pace: Arc::new(Pace::new(APART)),
            started: AtomicBool::new(false),
            numbers: AtomicU64::new(0),
            topics: Mutex::default(),
            configs: Mutex::default(),
            names: tokio::sync::Mutex::default(),
            ledger: Ledger::default(),
            revisions: Revisions::default(),
        })
    }

    pub(crate) fn status(&self) -> Status {
        self.status.get()
    }

    /// Begins to connect, if nobody did before.
    pub(crate) fn start(self: &Arc<Self>) {
        if !self.started.swap(true, Ordering::AcqRel) {
            let closing = self.closing.subscribe();
            tokio::spawn(supervisor::run(Arc::downgrade(self), Arc::clone(&self.settings), closing));
        }
    }

    /// Waits for a session; `down` is told why there is none.
    pub(crate) async fn up(self: &Arc<Self>, mut down: impl FnMut(&str)) -> Arc<Session> {
        self.start();
        let mut states = self.state.subscribe();
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                State::Up(session) => return session,
                State::Down(why) => down(&why),
                State::Closed => down(CLOSED),
                State::Fresh => {}
            }
            if states.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The session, or why there is none; waits for the first attempt only.
    pub(crate) async fn now(self: &Arc<Self>) -> Result<Arc<Session>, String> {
        self.start();
        let mut states = self.state.subscribe();
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                State::Up(session) => return Ok(session),
                State::Down(why) => return Err(why.to_string()),
                State::Closed => return Err(CLOSED.to_owned()),
                State::Fresh => states.changed().await.map_err(|_| CLOSED.to_owned())?,
            }
        }
    }

    /// Waits until this session is no longer the one that there is.
    pub(crate) async fn other_than(&self, session: &Session) {
        let mut states = self.state.subscribe();
        let other = |state: &State| !matches!(state, State::Up(now) if now.number == session.number);
        // The sender is ours: it is there as long as we are.
        drop(states.wait_for(other).await);
    }

    /// Ends the connection for good, and waits until that is done.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        if !self.started.swap(true, Ordering::AcqRel) {
            self.state.send_replace(State::Closed);
        }
        let mut states = self.state.subscribe();
        let ended = states.wait_for(|state| matches!(state, State::Closed));
        drop(time::timeout(CLOSE, ended).await);
    }

    /// A number that nothing else here has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// How often new names are looked for: as seldom as the settings let us, since the server lists all it has.
    pub(crate) fn names_every(&self) -> Duration {
        (self.settings.reconcile / 4).min(NAMES_EVERY_MAX)
    }

    /// The names of all services in a namespace; all who ask share one reading, which is no older than `within`.
    pub(crate) async fn names(
        &self,
        session: &Session,
        namespace: &str,
        within: Duration,
    ) -> Result<Arc<[String]>, Failed> {
        let mut names = self.names.lock().await;
        let known = names
            .get(namespace)
            .filter(|known| known.session == session.number && known.read.elapsed() < within);
        if let Some(known) = known {
            return Ok(Arc::clone(&known.all));
        }
        let mut all = BTreeSet::new();
        for page_no in 1..=PAGES_MAX {
            let group_name = &self.settings.group;
            let question =
                ServiceListRequest { namespace, group_name, service_name: "", page_no, page_size: PAGE };
            let page = session.call(&question).await?;
            let last = page.service_names.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            // Some servers put the group before the name.
            let bare =
                |name: String| name.rsplit_once("@@").map_or(name.clone(), |(_, bare)| bare.to_owned());
            all.extend(page.service_names.into_iter().map(bare));
            if last || i64::try_from(all.len()).is_ok_and(|have| have >= page.count) {
                break;
            }
        }
        let all: Arc<[String]> = all.into_iter().collect();
        names.insert(
            namespace.to_owned(),
            Names { read: Instant::now(), session: session.number, all: Arc::clone(&all) },
        );
        Ok(all)
    }

    /// Puts down a list that the server told or answered; listeners are woken if it is news.
    fn take(topics: &mut BTreeMap<Place, Topic>, place: &Place, session: u64, made: i64, hosts: Vec<Host>) {
        let Some(topic) = topics.get_mut(place) else { return };
        let feed = &mut topic.feed;
        let older = feed.made.saturating_sub(made);
        if feed.session > session || feed.session == session && (1..OVERTAKEN_MS_MAX).contains(&older) {
            // An answer that a later push has overtaken.
            return;
        }
        (feed.session, feed.made, feed.stale) = (session, made, false);
        feed.hosts = Some(hosts.into());
        topic.ears.values().for_each(Ear::wake);
    }

    /// The instances of a list that can be read and dialled; the others are counted.
    fn read(&self, info: &ServiceInfo) -> Vec<Host> {
        let (mut hosts, mut unreadable) = info.read();
        hosts.retain(|host| {
            let dialled = check_address(&host.address()).is_ok();
            unreadable = unreadable.saturating_add(usize::from(!dialled));
            dialled
        });
        for _ in 0..unreadable {
            self.status.unreadable();
        }
        hosts
    }

    /// Puts down what the server said by itself.
    pub(crate) fn told(&self, session: &Session, said: &Payload) {
        match said.kind() {
            "NotifySubscriberRequest" => match serde_json::from_slice(said.json()) {
                Ok(told) => self.told_list(session, &told),
                Err(_) => self.status.unreadable(),
            },
            "ConfigChangeNotifyRequest" => match serde_json::from_slice(said.json()) {
                Ok(told) => self.told_config(&told),
                Err(_) => self.status.unreadable(),
            },
            "ConnectResetRequest" => session.end("the server asked us to go to another one"),
            // Others, such as `ClientDetectionRequest`, only want to be answered.
            _ => {}
        }
    }

    fn told_list(&self, session: &Session, told: &NotifySubscriberRequest) {
        let or = |one: &str, other: &str| if one.is_empty() { other.to_owned() } else { one.to_owned() };
        let info = &told.service_info;
        let name = or(&info.name, &told.service_name);
        let name = name.rsplit_once("@@").map_or(name.as_str(), |(_, bare)| bare);
        let group = or(&info.group_name, &told.group_name);
        let hosts = self.read(info);
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = |place: &Place| {
            place.service_name == name
                && (group.is_empty() || place.group_name == group)
                && (told.namespace.is_empty() || place.namespace == told.namespace)
        };
        let mut places = topics.keys().filter(|place| meant(place)).cloned();
        match (places.next(), places.next()) {
            (Some(place), None) => {
                drop(places);
                Self::take(&mut topics, &place, session.number, info.last_ref_time, hosts);
            }
            // Servers leave the namespace out. Where it matters, the list is asked for.
            (Some(_), Some(_)) => {
                drop(places);
                for (_, topic) in topics.iter_mut().filter(|(place, _)| meant(place)) {
                    topic.feed.stale = true;
                    topic.ears.values().for_each(Ear::wake);
                }
            }
            (None, _) => {}
        }
    }

    fn told_config(&self, told: &ConfigChangeNotifyRequest) {
        let configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = |config: &Config| config.data_id == told.data_id && config.group == told.group;
        for ear in configs.iter().filter(|(config, _)| meant(config)).flat_map(|(_, ears)| ears.values()) {
            ear.0.configs.store(true, Ordering::Release);
            ear.wake();
        }
    }
}

/// That somebody listens to a service; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Subscription {
    client: Arc<Client>,
    place: Place,
    number: u64,
}

impl Subscription {
    /// Listens to a service over this session; the list is there when this returns.
    pub(crate) async fn begin(
        client: &Arc<Client>,
        session: &Session,
        place: Place,
        ear: &Ear,
    ) -> Result<Self, Failed> {
        let number = client.number();
        let telling = {
            let mut topics = client.topics.lock().unwrap_or_else(PoisonError::into_inner);
            let topic = topics.entry(place.clone()).or_default();
            topic.ears.insert(number, ear.clone());
            Arc::clone(&topic.telling)
        };
        // From here on dropping it takes the ear away again, whatever happens.
        let subscription = Self { client: Arc::clone(client), place, number };
        let _telling = telling.lock().await;
        let question = SubscribeServiceRequest { place: &subscription.place, subscribe: true, clusters: "" };
        let answer = session.call(&question).await?;
        subscription.answered(session, &told(answer)?);
        Ok(subscription)
    }

    /// Asks for the list anew.
    pub(crate) async fn ask(&self, session: &Session) -> Result<(), Failed> {
        let info = query(session, &self.place).await?;
        self.answered(session, &info);
        Ok(())
    }

    /// The last list over this session; `None`: it has to be asked for.
    fn hosts(&self, session: &Session) -> Option<Arc<[Host]>> {
        let topics = self.client.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = &topics.get(&self.place)?.feed;
        feed.hosts.clone().filter(|_| feed.session == session.number && !feed.stale)
    }

    /// The last list over this session, asked for if need be.
    pub(crate) async fn known(&self, session: &Session) -> Result<Arc<[Host]>, Failed> {
        if let Some(hosts) = self.hosts(session) {
            return Ok(hosts);
        }
        self.ask(session).await?;
        Ok(self.hosts(session).unwrap_or_default())
    }

    fn answered(&self, session: &Session, info: &ServiceInfo) {
        let hosts = self.client.read(info);
        let mut topics = self.client.topics.lock().unwrap_or_else(PoisonError::into_inner);
        Client::take(&mut topics, &self.place, session.number, info.last_ref_time, hosts);
        if let Some(topic) = topics.get_mut(&self.place) {
            // What a push brought meanwhile is newer than the answer; either way it is no longer unknown.
            topic.feed.stale = false;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut topics = self.client.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get_mut(&self.place) else { return };
        topic.ears.remove(&self.number);
        if !topic.ears.is_empty() {
            return;
        }
        let State::Up(session) = self.client.state.borrow().clone() else {
            topics.remove(&self.place);
            return;
        };
        let (client, place, telling) =
            (Arc::clone(&self.client), self.place.clone(), Arc::clone(&topic.telling));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { unsubscribe(&client, &session, &place, &telling).await });
        }
    }
}

/// Tells the server that nobody listens to a service any more, unless somebody does again.
async fn unsubscribe(client: &Client, session: &Session, place: &Place, telling: &tokio::sync::Mutex<()>) {
    let _telling = telling.lock().await;
    let nobody = || {
        let topics = client.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.get(place).is_some_and(|topic| topic.ears.is_empty())
    };
    if !nobody() {
        return;
    }
    // What goes wrong here costs the server some needless messages, until the connection ends.
    drop(session.call(&SubscribeServiceRequest { place, subscribe: false, clusters: "" }).await);
    let mut topics = client.topics.lock().unwrap_or_else(PoisonError::into_inner);
    if topics.get(place).is_some_and(|topic| topic.ears.is_empty()) {
        topics.remove(place);
    }
}

/// Who gives a service, asked of the server.
async fn query(session: &Session, place: &Place) -> Result<ServiceInfo, Failed> {
    let question = ServiceQueryRequest { place, cluster: "", healthy_only: false, udp_port: 0 };
    told(session.call(&question).await?)
}

/// The service that an answer is about. One without it says nothing, and least of all that nobody is there.
fn told(answer: ServiceAnswer) -> Result<ServiceInfo, Failed> {
    answer
        .service_info
        .ok_or_else(|| Failed { why: "the answer tells nothing of the service".to_owned(), code: 0 })
}

/// Who gives a service, asked of the server once.
pub(crate) async fn hosts(client: &Client, session: &Session, place: &Place) -> Result<Vec<Host>, Failed> {
    Ok(client.read(&query(session, place).await?))
}

/// That somebody listens to changes of a config; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Listening {
    client: Arc<Client>,
    config: Config,
    number: u64,
}

impl Listening {
    /// Listens to changes of a config over this session.
    pub(crate) async fn begin(
        client: &Arc<Client>,
        session: &Session,
        config: Config,
        ear: &Ear,
    ) -> Result<Self, Failed> {
        let number = client.number();
        {
            let mut configs = client.configs.lock().unwrap_or_else(PoisonError::into_inner);
            configs.entry(config.clone()).or_default().insert(number, ear.clone());
        }
        let listening = Self { client: Arc::clone(client), config, number };
        // With no digest of what we believe that it says, the server takes it for changed and tells so at once; it is read
        // anyway.
        let config_listen_contexts = vec![ConfigListenContext { config: &listening.config, md5: "" }];
        session.call(&ConfigBatchListenRequest { listen: true, config_listen_contexts }).await?;
        Ok(listening)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut configs = self.client.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ears) = configs.get_mut(&self.config) else { return };
        ears.remove(&self.number);
        if ears.is_empty() {
            // The server goes on telling until the connection ends: that is a few bytes when somebody changes it.
            configs.remove(&self.config);
        }
    }
}
