//! Registering: what is desired, as the instances that Nacos shall have, kept so over every session.
//!
//! What is desired is written on every change of it, over each new session, again after whatever failed, and read back now
//! and then. Must never say that something is written before the server said so.

use std::{sync::Arc, time::Duration};

use outrigger_discovery::{Closed, Desired, Registration, Written, is_public};
use tokio::time;

use crate::{
    Settings,
    client::{CLOSED, Client, State},
    ledger::{Part, Wants},
    names,
    session::Session,
};

/// How long to wait before what failed is tried again over the same session.
const AGAIN: Duration = Duration::from_secs(1);

/// What is desired, in the form that it is written in.
#[derive(Debug, Default)]
struct Plan {
    wants: Wants,
    /// How many registrations cannot be written at all, and why the last of them.
    refused: usize,
    why: Option<String>,
}

impl Plan {
    fn of(settings: &Settings, registrations: &[Registration]) -> Self {
        let mut plan = Self::default();
        for r in registrations {
            let host = names::host(r).filter(|_| is_public(&r.address));
            let Some(host) = host else {
                plan.refused = plan.refused.saturating_add(1);
                plan.why = Some(format!("{}: {} is no address for others", r.service, r.address));
                continue;
            };
            plan.wants.entry(settings.place(r.framework, &names::written(r))).or_default().push(host);
        }
        plan
    }

    fn count(&self) -> usize {
        self.wants.values().map(Vec::len).sum::<usize>().saturating_add(self.refused)
    }
}

/// Keeps in Nacos what is desired, until nobody desires anything any more.
pub(crate) async fn keep(client: &Arc<Client>, mut desired: Desired) {
    let part = Part::new(client);
    // The session over which something of this one may stand in Nacos.
    let mut touched: Option<Arc<Session>> = None;
    let mut settled = false;
    loop {
        let (wish, wanted) = desired.now();
        let plan = Plan::of(&client.settings, &wanted);
        part.set(plan.wants.clone());
        if plan.wants.is_empty() && touched.as_ref().is_none_or(|session| !session.is_up()) {
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
        let written = round(client, &session, &plan, settled).await;
        settled = written.pending == 0;
        let wait = if settled { client.settings.reconcile } else { AGAIN };
        if settled && plan.wants.is_empty() {
            touched = None;
        }
        desired.tell(Written { wish, ..written });
        tokio::select! {
            changed = desired.changed() => {
                settled = false;
                if changed.is_err() {
                    return;
                }
            }
            () = client.other_than(&session) => settled = false,
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
    loop {
        let state = states.borrow_and_update().clone();
        let why = match state {
            State::Up(session) => return Ok(Some(session)),
            State::Down(why) => Some(why.to_string()),
            State::Closed => Some(CLOSED.to_owned()),
            State::Fresh => None,
        };
        desired.tell(Written { wish, pending: pending.max(1), trouble: why });
        tokio::select! {
            changed = desired.changed() => return changed.map(|()| None),
            // The sender is the client's, which is held here.
            _ = states.changed() => {}
        }
    }
}

/// Brings Nacos in line with the plan; `settled`: it was so before, and is read back.
async fn round(client: &Client, session: &Session, plan: &Plan, settled: bool) -> Written {
    let ledger = &client.ledger;
    let mut trouble = plan.why.clone();
    let mut unread = 0;
    if settled && let Err(failed) = ledger.read_back(client, session, plan.wants.keys()).await {
        (trouble, unread) = (Some(failed.why), 1);
    }
    let round = ledger.bring_in_line(session).await;
    let pending: usize = round.pending.values().sum();
    let pending = pending.saturating_add(plan.refused).saturating_add(unread);
    Written { wish: 0, pending, trouble: round.trouble.or(trouble) }
}

#[cfg(test)]
mod tests {
    use outrigger_discovery::{Framework, Level};

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
            metadata: std::collections::BTreeMap::new(),
        };
        let settings = Settings::new(vec!["127.0.0.1:8848".into()]);
        let all = ["127.0.0.1:1", "0.0.0.0:1", "nothing", "10.0.0.1:1", "10.0.0.1:2"].map(one);
        let plan = Plan::of(&settings, &all);
        assert_eq!((plan.refused, plan.count(), plan.wants.len()), (3, 5, 1));
        let hosts: Vec<_> = plan.wants.values().flatten().map(|host| host.port).collect();
        assert_eq!(hosts, [1, 2]);
    }
}
