//! An interface of Dubbo found by way of the applications that give it.
//!
//! A mapping names the applications, each application's instances name a revision, and what is served at a revision is had
//! once: from Nacos, or from one of the instances. Must never take instances away because a revision cannot be had: what a
//! member gave before stays until its new revision is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outrigger_discovery::{
    Framework, Instance, ServiceKey,
    formats::application::{Member, MetadataInfo},
};
use tokio::time::{self, Instant};

use crate::{
    client::{Client, Ear, Listening, Subscription},
    configs,
    message::Host,
    names,
    session::{Failed, Session},
};

/// How often a revision is asked for before it counts as not to be had.
const TRIES: usize = 3;
/// The time from try to try.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// How long an instance may take to tell what it serves.
const ASK: Duration = Duration::from_secs(4);
/// So many revisions are remembered at most.
const REVISIONS_MAX: usize = 10_000;

/// What is known of revisions, by application and revision, for all watches.
#[derive(Debug, Default)]
pub(crate) struct Revisions(Mutex<BTreeMap<(String, String), Revision>>);

#[derive(Debug)]
enum Revision {
    /// It is being asked for; these want to know.
    Asked(Vec<Ear>),
    Known(Arc<MetadataInfo>),
    /// It could not be had; it is asked for again some time after.
    Missing(Instant),
}

/// What the applications give.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) instances: Vec<Instance>,
    /// Whether a revision is being asked for.
    pub(crate) waits: bool,
    /// A revision that cannot be had, for people.
    pub(crate) missing: Option<String>,
}

/// The applications that give one interface, over one session.
pub(crate) struct Apps<'a> {
    client: &'a Arc<Client>,
    session: &'a Arc<Session>,
    key: &'a ServiceKey,
    ear: Ear,
    _mapping: Listening,
    lists: BTreeMap<String, Subscription>,
    /// What members gave when it was known last, by their address.
    given: BTreeMap<String, Arc<MetadataInfo>>,
}

impl<'a> Apps<'a> {
    /// Finds out which they are; whenever `ear` hears of a config it is to be done again ([`Apps::look`]).
    pub(crate) async fn begin(
        client: &'a Arc<Client>,
        session: &'a Arc<Session>,
        key: &'a ServiceKey,
        ear: &Ear,
    ) -> Result<Self, Failed> {
        // Listened to first, and read then: so no change is missed.
        let mapping = Listening::begin(client, session, client.settings.mapping(&key.service), ear).await?;
        let (lists, given) = (BTreeMap::new(), BTreeMap::new());
        let mut all = Self { client, session, key, ear: ear.clone(), _mapping: mapping, lists, given };
        all.look().await?;
        Ok(all)
    }

    /// Reads the mapping anew.
    pub(crate) async fn look(&mut self) -> Result<(), Failed> {
        let settings = &self.client.settings;
        let wanted: BTreeSet<String> =
            configs::mapped(self.session, &settings.mapping(&self.key.service)).await?.into_iter().collect();
        self.lists.retain(|app, _| wanted.contains(app));
        for app in wanted {
            if !self.lists.contains_key(&app) {
                let place = settings.place(Framework::Dubbo, &app);
                let subscription = Subscription::begin(self.client, self.session, place, &self.ear).await?;
                self.lists.insert(app, subscription);
            }
        }
        Ok(())
    }

    /// Asks for all lists anew.
    pub(crate) async fn ask(&self) -> Result<(), Failed> {
        for subscription in self.lists.values() {
            subscription.ask(self.session).await?;
        }
        Ok(())
    }

    /// What they give, by what is known now; what is not known is asked for, and the ear hears of it.
    pub(crate) async fn instances(&mut self) -> Result<Given, Failed> {
        let mut members = Vec::new();
        for (app, subscription) in &self.lists {
            let hosts = subscription.known(self.session).await?;
            members.extend(
                hosts.iter().filter_map(|host| Some((member(app, host)?, host.cluster_name.clone()))),
            );
        }
        self.given.retain(|address, _| members.iter().any(|(member, _)| member.address == *address));
        let mut all = Given::default();
        for (member, cluster) in &members {
            let Some(revision) = member.revision() else { continue };
            match self.revision(member, revision, &members) {
                Some(Ok(info)) => drop(self.given.insert(member.address.clone(), info)),
                Some(Err(())) => all.missing = Some(format!("what {} serves is not to be had", member.app)),
                None => all.waits = true,
            }
            let Some(info) = self.given.get(&member.address) else { continue };
            let instances = info.instances(self.key, member).into_iter();
            all.instances.extend(instances.map(|instance| names::clustered(instance, cluster)));
        }
        Ok(all)
    }

    /// What is served at a revision; `None`: that is being asked for, `Err`: it is not to be had.
    fn revision(
        &self,
        member: &Member,
        revision: &str,
        members: &[(Member, String)],
    ) -> Option<Result<Arc<MetadataInfo>, ()>> {
        let name = (member.app.clone(), revision.to_owned());
        let mut revisions = self.client.revisions.0.lock().unwrap_or_else(PoisonError::into_inner);
        match revisions.get_mut(&name) {
            Some(Revision::Known(info)) => return Some(Ok(Arc::clone(info))),
            Some(Revision::Missing(since)) if since.elapsed() < self.client.settings.reconcile => {
                return Some(Err(()));
            }
            Some(Revision::Asked(ears)) => {
                if !ears.iter().any(|ear| ear.is(&self.ear)) {
                    ears.push(self.ear.clone());
                }
                return None;
            }
            Some(Revision::Missing(_)) | None => {}
        }
        if revisions.len() >= REVISIONS_MAX {
            revisions.retain(|_, revision| matches!(revision, Revision::Asked(_)));
        }
        revisions.insert(name.clone(), Revision::Asked(vec![self.ear.clone()]));
        drop(revisions);
        let same =
            |(other, _): &&(Member, String)| other.app == member.app && other.revision() == Some(revision);
        let members: Vec<Member> =
            members.iter().filter(same).take(TRIES).map(|(member, _)| member.clone()).collect();
        let client = Arc::clone(self.client);
        tokio::spawn(async move {
            let found = fetch(&client, &name.1, &members).await;
            let found = found
                .map_or_else(|| Revision::Missing(Instant::now()), |info| Revision::Known(Arc::new(info)));
            if matches!(found, Revision::Missing(_)) {
                client.status.unreadable();
            }
            let mut revisions = client.revisions.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Revision::Asked(ears)) = revisions.insert(name, found) {
                ears.iter().for_each(Ear::wake);
            }
        });
        None
    }
}

/// The instance of an application that a host is; `None`: it is not to be called.
fn member(app: &str, host: &Host) -> Option<Member> {
    let metadata = host.metadata.clone();
    names::is_on(host).then(|| Member { app: app.to_owned(), address: host.address(), metadata })
}

/// What is served at a revision, from wherever its members say it is, and else from where it might be.
async fn fetch(client: &Arc<Client>, revision: &str, members: &[Member]) -> Option<MetadataInfo> {
    for (attempt, member) in members.iter().cycle().take(TRIES).enumerate() {
        if attempt > 0 {
            time::sleep(BETWEEN_TRIES).await;
        }
        // Each try asks another member: one of them may be ill.
        let info = if member.is_remote() {
            match written(client, &member.app, revision).await {
                None => told(client, member).await,
                info => info,
            }
        } else {
            match told(client, member).await {
                None => written(client, &member.app, revision).await,
                info => info,
            }
        };
        if info.is_some() {
            return info;
        }
    }
    None
}

/// As it is written in Nacos.
async fn written(client: &Arc<Client>, app: &str, revision: &str) -> Option<MetadataInfo> {
    let session = client.now().await.ok()?;
    configs::metadata(&session, &client.settings, app, revision).await.ok()?
}

/// As a member tells it.
async fn told(client: &Client, member: &Member) -> Option<MetadataInfo> {
    let (ask, question) = (client.settings.ask.as_ref()?, member.asks()?);
    time::timeout(ASK, ask.ask(question)).await.ok()?.ok()
}
