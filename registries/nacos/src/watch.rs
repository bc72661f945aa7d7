//! A watch: which names a service stands under, who stands there, and what of that is told.
//!
//! Everything is asked anew over each session, and told as an answer; what the server says by itself is told as news. Must
//! never end while anybody listens, and never take trouble for an empty list.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use outrigger_discovery::{Backoff, Closed, Framework, Instance, ServiceKey, Teller};
use tokio::time::{self, Instant};

use crate::{
    apps::{Apps, Given},
    client::{Client, Ear, Subscription},
    message::Host,
    names,
    session::{Failed, Session},
};

/// The shortest wait before a question that failed is asked again over the same session.
const AGAIN_MIN: Duration = Duration::from_millis(200);

/// How long an answer waits for what has to be asked of instances; they may hang.
const WHOLE: Duration = Duration::from_secs(3);

/// Why a watch does not go on.
enum Stop {
    /// Nobody listens any more.
    Closed,
    /// The registry cannot be asked.
    Lost(String),
}

impl From<Closed> for Stop {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        Self::Lost(failed.why)
    }
}

/// Says every change that concerns `key`, until nobody listens.
pub(crate) async fn follow(client: &Arc<Client>, key: &ServiceKey, mut teller: Teller) {
    let mut backoff = Backoff::default();
    loop {
        let session = tokio::select! {
            session = client.up(|why| teller.lost(why)) => session,
            () = teller.closed() => return,
        };
        backoff.works();
        let Err(stop) = over(client, &session, key, &mut teller).await;
        let Stop::Lost(why) = stop else { return };
        teller.lost(&why);
        // Where the session is well and only the answer was not, it is asked again; else the next session is waited for.
        tokio::select! {
            () = time::sleep(backoff.failed().max(AGAIN_MIN)) => {}
            () = client.other_than(&session) => {}
            () = teller.closed() => return,
        }
    }
}

/// The same over one session.
async fn over(
    client: &Arc<Client>,
    session: &Arc<Session>,
    key: &ServiceKey,
    teller: &mut Teller,
) -> Result<Infallible, Stop> {
    let mut found = Found::new(client, session, key);
    let both = teller.wants_all();
    found.look().await?;
    // What is asked is told as an answer once all of it is there; for a time nothing of it is told before that.
    let (mut asked, mut until) = (true, Instant::now() + WHOLE);
    let mut look = Instant::now() + client.names_every();
    loop {
        let whole = asked && Instant::now() < until;
        match found.view(whole, both).await? {
            View::Soon => {}
            View::Lost(why) => teller.lost(&why),
            View::Set(instances) if !asked => teller.tell(instances),
            View::Set(instances) => {
                teller.answer(instances);
                asked = false;
            }
        }
        tokio::select! {
            doubted = teller.doubted() => {
                doubted?;
                found.ask().await?;
                (asked, until) = (true, Instant::now() + WHOLE);
            }
            () = time::sleep_until(until), if whole && asked => {}
            () = found.ear.listen() => found.hear().await?,
            () = time::sleep_until(look) => {
                found.look().await?;
                look = Instant::now() + client.names_every();
            }
            why = session.ended() => return Err(Stop::Lost(why.to_string())),
        }
    }
}

/// What there is to tell.
enum View {
    Set(Vec<Instance>),
    /// Somebody gives it, but who is not to be found out.
    Lost(String),
    /// That is being asked for.
    Soon,
}

/// The names under which a service stands, and who stands there.
struct Found<'a> {
    client: &'a Arc<Client>,
    session: &'a Arc<Session>,
    key: &'a ServiceKey,
    wide: bool,
    own: String,
    ear: Ear,
    names: BTreeMap<String, Subscription>,
    apps: Option<Apps<'a>>,
}

impl<'a> Found<'a> {
    fn new(client: &'a Arc<Client>, session: &'a Arc<Session>, key: &'a ServiceKey) -> Self {
        let (wide, own) = (names::is_wide(key), names::own(key));
        let (ear, names) = (Ear::default(), BTreeMap::new());
        Self { client, session, key, wide, own, ear, names, apps: None }
    }

    /// Looks for names under which it stands, and for applications that give it.
    async fn look(&mut self) -> Result<(), Failed> {
        let Self { client, session, key, .. } = *self;
        let settings = &client.settings;
        let mut wanted = vec![self.own.clone()];
        if self.wide {
            let within = client.names_every() / 2;
            let all = client.names(session, settings.namespace_of(key.framework), within).await?;
            wanted.extend(all.iter().filter(|name| **name != self.own && names::fits(key, name)).cloned());
        }
        // A name that nobody stands under any more is forgotten by the server too.
        self.names.retain(|name, _| wanted.contains(name));
        for name in wanted {
            if !self.names.contains_key(&name) {
                let place = settings.place(key.framework, &name);
                let subscription = Subscription::begin(client, session, place, &self.ear).await?;
                self.names.insert(name, subscription);
            }
        }
        if key.framework == Framework::Dubbo && self.apps.is_none() {
            self.apps = Some(Apps::begin(client, session, key, &self.ear).await?);
        }
        Ok(())
    }

    /// Looks at what the ear may have heard of besides lists.
    async fn hear(&mut self) -> Result<(), Failed> {
        match &mut self.apps {
            Some(apps) if self.ear.configs_changed() => apps.look().await,
            _ => Ok(()),
        }
    }

    /// Asks for all lists anew.
    async fn ask(&self) -> Result<(), Failed> {
        for subscription in self.names.values() {
            subscription.ask(self.session).await?;
        }
        match &self.apps {
            Some(apps) => apps.ask().await,
            None => Ok(()),
        }
    }

    /// Who gives it, by what is known now: by way of the applications if that leads to anybody, else under its own names, and
    /// never both, since Dubbo 3 writes both, unless `both` are wanted. `whole`: only if nothing is missing yet.
    async fn view(&mut self, whole: bool, both: bool) -> Result<View, Failed> {
        let given = match &mut self.apps {
            Some(apps) => apps.instances().await?,
            None => Given::default(),
        };
        if given.waits && whole {
            return Ok(View::Soon);
        }
        if !given.instances.is_empty() && !both {
            return Ok(View::Set(given.instances));
        }
        // Of those that stand at both levels the first counts, as its application says it.
        let mut all = given.instances;
        for subscription in self.names.values() {
            let hosts = subscription.known(self.session).await?;
            let read = |host: &Host| names::instance(self.key.framework, host);
            all.extend(hosts.iter().filter_map(read).filter(|instance| self.key.admits(instance)));
        }
        Ok(match given.missing {
            _ if given.waits && all.is_empty() => View::Soon,
            Some(missing) if all.is_empty() => View::Lost(missing),
            _ => View::Set(all),
        })
    }
}
