//! A watch: which names a service stands under, who stands there, and what of that is told.
//!
//! Everything is asked anew over each session, and told as an answer; what the server says by itself is told as news. Must
//! never end while anybody listens, and never take trouble for an empty list.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use outrigger_discovery::{Closed, Instance, ServiceKey, Teller};
use tokio::time::{self, Instant};

use crate::{
    client::{Client, Ear, Subscription},
    message::Host,
    names,
    session::{Failed, Session},
};

/// How long to wait before a question that failed is asked again over the same session.
const AGAIN: Duration = Duration::from_secs(1);

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
    loop {
        let session = tokio::select! {
            session = client.up(|why| teller.lost(why)) => session,
            () = teller.closed() => return,
        };
        let Err(stop) = over(client, &session, key, &mut teller).await;
        let Stop::Lost(why) = stop else { return };
        teller.lost(&why);
        // A session that ended is no longer the one that is up, once its supervisor knows.
        tokio::select! {
            () = time::sleep(AGAIN) => {}
            _ = client.other_than(&session) => {}
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
    found.look().await?;
    teller.answer(found.instances().await?);
    let mut look = Instant::now() + client.names_every();
    loop {
        tokio::select! {
            doubted = teller.doubted() => {
                doubted?;
                found.ask().await?;
                teller.answer(found.instances().await?);
            }
            () = found.ear.listen() => teller.tell(found.instances().await?),
            () = time::sleep_until(look), if found.wide => {
                if found.look().await? {
                    teller.tell(found.instances().await?);
                }
                look = Instant::now() + client.names_every();
            }
            why = session.ended() => return Err(Stop::Lost(why.to_string())),
        }
    }
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
}

impl<'a> Found<'a> {
    fn new(client: &'a Arc<Client>, session: &'a Arc<Session>, key: &'a ServiceKey) -> Self {
        let (wide, own) = (names::is_wide(key), names::own(key));
        Self { client, session, key, wide, own, ear: Ear::default(), names: BTreeMap::new() }
    }

    /// Looks for names under which it stands; says whether there is one that was not known.
    async fn look(&mut self) -> Result<bool, Failed> {
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
        let mut news = false;
        for name in wanted {
            if !self.names.contains_key(&name) {
                let place = settings.place(key.framework, &name);
                let subscription = Subscription::begin(client, session, place, &self.ear).await?;
                self.names.insert(name, subscription);
                news = true;
            }
        }
        Ok(news)
    }

    /// Asks for all lists anew.
    async fn ask(&self) -> Result<(), Failed> {
        for subscription in self.names.values() {
            subscription.ask(self.session).await?;
        }
        Ok(())
    }

    /// Who gives it, by what is known now.
    async fn instances(&self) -> Result<Vec<Instance>, Failed> {
        let mut all = Vec::new();
        for subscription in self.names.values() {
            let hosts = match subscription.hosts(self.session) {
                Some(hosts) => hosts,
                None => {
                    subscription.ask(self.session).await?;
                    subscription.hosts(self.session).unwrap_or_default()
                }
            };
            let read = |host: &Host| names::instance(self.key.framework, host);
            all.extend(hosts.iter().filter_map(read).filter(|instance| self.key.admits(instance)));
        }
        Ok(all)
    }
}
