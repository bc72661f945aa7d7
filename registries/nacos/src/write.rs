//! Registering: what is desired, as the instances that Nacos shall have, kept so over every session.
//!
//! What is desired is written on every change of it, over each new session, again after whatever failed, and read back now
//! and then. Must never say that something is written before the server said so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use outrigger_discovery::{
    Closed, Desired, Framework, Level, Registration, Written,
    formats::{application, split},
    is_public,
};
use tokio::time;

use crate::{
    Settings,
    client::{CLOSED, Client, State},
    configs,
    ledger::{Part, Wants},
    message::{CLUSTER, Config, Host, Place},
    names,
    session::{Failed, Session},
};

/// How long to wait before what failed is tried again over the same session; twice as long each time, but no longer than until
/// all is read back.
const AGAIN: Duration = Duration::from_secs(1);

/// What is desired, in the form that it is written in.
#[derive(Debug, Default)]
struct Plan {
    wants: Wants,
    apps: Vec<App>,
    /// How many registrations cannot be written at all, and why the last of them.
    refused: usize,
    why: Option<String>,
}

/// An application of Dubbo 3 at one host.
#[derive(Debug)]
struct App {
    name: String,
    metadata: (Config, String),
    place: Place,
    host: Arc<Host>,
    mappings: BTreeSet<Config>,
}

impl Plan {
    fn of(settings: &Settings, registrations: &[Registration]) -> Self {
        let mut plan = Self::default();
        let mut members: BTreeMap<(&str, &str), Vec<Registration>> = BTreeMap::new();
        for r in registrations {
            let address = split(&r.address).filter(|_| is_public(&r.address));
            let (None, Some(host), Some((ip, _))) = (names::refusal(r), names::host(r), address) else {
                let why = names::refusal(r).unwrap_or("its address has no port");
                plan.refuse(1, format!("{} at {}: {why}", r.service, r.address));
                continue;
            };
            let level = if r.framework == Framework::Dubbo { r.level } else { Level::Interface };
            if level != Level::Interface {
                members.entry((&r.app, ip)).or_default().push(r.clone());
            }
            if level != Level::Application {
                plan.wants
                    .entry(settings.place(r.framework, &names::written(r)))
                    .or_default()
                    .push(Arc::new(host));
            }
        }
        for ((name, _), members) in members {
            for members in application::processes(members) {
                match App::of(settings, &members) {
                    Some(app) => plan.apps.push(app),
                    None => {
                        plan.refuse(members.len(), format!("{name}: the application cannot be described"));
                    }
                }
            }
        }
        plan
    }

    fn refuse(&mut self, count: usize, why: String) {
        self.refused = self.refused.saturating_add(count);
        self.why = Some(why);
    }

    fn is_empty(&self) -> bool {
        self.wants.is_empty() && self.apps.is_empty()
    }

    /// All instances of it.
    fn all(&self) -> Wants {
        let mut all = self.wants.clone();
        for app in &self.apps {
            all.entry(app.place.clone()).or_default().push(app.host.clone());
        }
        all
    }

    fn count(&self) -> usize {
        let configs: usize = self.apps.iter().map(|app| app.mappings.len().saturating_add(2)).sum();
        let instances: usize = self.wants.values().map(Vec::len).sum();
        instances.saturating_add(configs).saturating_add(self.refused)
    }
}

impl App {
    fn of(settings: &Settings, registrations: &[Registration]) -> Option<Self> {
        let (info, member) = application::describe(registrations)?;
        let (ip, port) = split(&member.address)?;
        let mappings = registrations.iter().map(|r| settings.mapping(&r.service)).collect();
        Some(Self {
            metadata: (settings.metadata(&member.app, &info.revision), info.to_string()),
            place: settings.place(Framework::Dubbo, &member.app),
            host: Arc::new(names::member(ip, port, 1.0, CLUSTER, member.metadata.clone())),
            name: member.app,
            mappings,
        })
    }
}

/// Keeps in Nacos what is desired, until nobody desires anything any more.
pub(crate) async fn keep(client: &Arc<Client>, mut desired: Desired) {
    let part = Part::new(client);
    // The session over which something of this one may stand in Nacos.
    let mut touched: Option<Arc<Session>> = None;
    let mut settled = false;
    let mut again = AGAIN;
    loop {
        let (wish, wanted) = desired.now();
        let plan = Plan::of(&client.settings, &wanted);
        // Whatever else has still to be done, and whoever writes next: what is desired no more is not written again.
        part.keep_only(&plan.all());
        if plan.is_empty() && touched.as_ref().is_none_or(|session| !session.is_up()) {
            // What stood there went with its connection; nobody connects for nothing.
            desired.tell(Written { wish, pending: plan.refused, trouble: plan.why });
            if desired.changed().await.is_err() {
                return;
            }
            continue;
        }
        let session = match connected(client, &mut desired, wish, plan.count()).await {
            Ok(Some(session)) => session,
            Ok(None) => continue,
            Err(Closed) => return,
        };
        touched = Some(Arc::clone(&session));
        let written = round(client, &session, &part, &plan, settled).await;
        // What cannot be written at all is no reason not to look after the rest.
        settled = written.pending == plan.refused;
        let wait = if settled { client.settings.reconcile } else { again.min(client.settings.reconcile) };
        again =
            if settled { AGAIN } else { again.saturating_mul(2).min(client.settings.reconcile.max(AGAIN)) };
        if settled && plan.is_empty() {
            touched = None;
        }
        // There may be thousands of them, which all wait here.
        drop(plan);
        desired.tell(Written { wish, ..written });
        tokio::select! {
            changed = desired.changed() => {
                (settled, again) = (false, AGAIN);
                if changed.is_err() {
                    return;
                }
            }
            () = client.other_than(&session) => (settled, again) = (false, AGAIN),
            () = time::sleep(wait) => {}
        }
    }
}

/// Waits for a session, and says meanwhile why there is none; `None`: something else is desired now.
async fn connected(
    client: &Arc<Client>,
    desired: &mut Desired,
    wish: u64,
    pending: usize,
) -> Result<Option<Arc<Session>>, Closed> {
    client.start();
    let mut states = client.state.subscribe();
    let mut was_kept = false;
    loop {
        let state = states.borrow_and_update().clone();
        let why = match state {
            State::Up(session) => {
                if was_kept {
                    desired.begins(wish, pending.max(1));
                }
                return Ok(Some(session));
            }
            State::Down(why) => Some(why.to_string()),
            State::Closed => Some(CLOSED.to_owned()),
            State::Fresh => None,
        };
        desired.tell(Written { wish, pending: pending.max(1), trouble: why });
        was_kept = true;
        tokio::select! {
            changed = desired.changed() => return changed.map(|()| None),
            // The sender is the client's, which is held here.
            _ = states.changed() => {}
        }
    }
}

/// How a round of writing goes.
#[derive(Debug, Default)]
struct Round {
    pending: usize,
    trouble: Option<String>,
}

impl Round {
    fn take(&mut self, outcome: &Result<(), Failed>, what: &str) -> bool {
        if let Err(failed) = outcome {
            self.pending = self.pending.saturating_add(1);
            self.trouble = Some(format!("{what}: {failed}"));
        }
        outcome.is_ok()
    }
}

/// Brings Nacos in line with the plan; `settled`: it was so before, and is read back.
///
/// Of an application, first what it serves is written, then where it is, then that it gives its interfaces: in this order
/// nobody finds half of it.
async fn round(client: &Client, session: &Session, part: &Part, plan: &Plan, settled: bool) -> Written {
    let mut round = Round { pending: plan.refused, trouble: plan.why.clone() };
    let mut wants = plan.wants.clone();
    let mut described = Vec::new();
    for app in &plan.apps {
        let (config, content) = &app.metadata;
        let said = round.take(&configs::have(session, config, content).await, &app.name);
        // One that stands there already stays, although nobody can say just now whether its metadata does.
        if said || part.has(&app.place, &app.host) {
            wants.entry(app.place.clone()).or_default().push(app.host.clone());
            described.push(app);
        }
    }
    if settled {
        let read = client.ledger.read_back(client, session, wants.keys()).await;
        round.take(&read, "reading back");
    }
    part.set(wants);
    let line = part.bring_in_line(session).await;
    round.pending = round.pending.saturating_add(line.pending.values().sum());
    round.trouble = line.trouble.or(round.trouble);
    for app in described.iter().filter(|app| !line.pending.contains_key(&app.place)) {
        for mapping in &app.mappings {
            match configs::named(session, mapping, &app.name).await {
                Ok(true) => {}
                // Written just now: it counts once it was read there.
                Ok(false) => round.pending = round.pending.saturating_add(1),
                Err(failed) => _ = round.take(&Err(failed), &mapping.data_id),
            }
        }
    }
    Written { wish: 0, pending: round.pending, trouble: round.trouble }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_cannot_dial_is_refused_and_said() {
        let one = |address: &str| Registration {
            app: "shop".into(),
            framework: Framework::Dubbo,
            level: Level::Interface,
            service: "x.Y".into(),
            protocol: "dubbo".into(),
            address: address.into(),
            group: None,
            version: None,
            weight: 100,
            started: 1,
            metadata: BTreeMap::new(),
        };
        let settings = Settings::new(vec!["127.0.0.1:8848".into()]);
        let all = ["127.0.0.1:1", "0.0.0.0:1", "nothing", "10.0.0.1:1", "10.0.0.1:2"].map(one);
        let plan = Plan::of(&settings, &all);
        assert_eq!((plan.refused, plan.count(), plan.wants.len()), (3, 5, 1));
        let hosts: Vec<_> = plan.wants.values().flatten().map(|host| host.port).collect();
        assert_eq!(hosts, [1, 2]);
        let both = Registration { level: Level::Both, ..one("10.0.0.1:1") };
        let other = Registration { service: "x.Z$A".into(), level: Level::Application, ..both.clone() };
        let plan = Plan::of(&settings, &[both, other]);
        assert_eq!((plan.refused, plan.count(), plan.wants.len(), plan.apps.len()), (0, 5, 1, 1));
        let mapped: Vec<_> =
            plan.apps.iter().flat_map(|app| &app.mappings).map(|one| one.data_id.as_str()).collect();
        assert_eq!(mapped, ["x.Y", "x.Z___A"]);
    }
}
