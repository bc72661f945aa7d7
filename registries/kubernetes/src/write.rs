//! Keeps what is desired in the server, and takes away what was ours and is desired no more.
//!
//! One writer works for all registrations. A pass reads each slice, does what is missing and takes the server's answer for
//! what is there then; an error of a write means that nobody knows whether it happened, so the slice is read again. A slice is
//! only ever replaced as it was read (its resourceVersion), never deleted to be made anew, and nothing of another process is
//! taken away. What moves from slice to slice is written where it goes before it goes where it was. Passes follow each new
//! client, each change of the desire, each change of a slice of ours by somebody else, and slow clocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        core::v1::{Service, ServiceSpec},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use outrigger_discovery::{Backoff, Desired, Written};
use tokio::{sync::watch, time};

use crate::{
    entry::{Holder, Key, OURS},
    feed::Subscription,
    ledger::{Ledger, Row, Told},
    link::{CALL, Failed, Hub, Link, Shared, Up, limited},
    merge::{Do, Merge, Merged},
    plan::Plan,
    pods::PodObject,
    slices::Slices,
};

/// How often a slice is tried in one pass, where others write it, too.
const TRIES: u32 = 8;
/// The time from a change of a slice of ours to the pass that it causes: changes come in swarms.
const REST: Duration = Duration::from_millis(50);
/// How many beats may be missed before what somebody kept is deleted.
const MISSED: u32 = 10;
/// How often it is asked whether a wish still takes what others keep. What was taken from us is not taken back in any case.
const LOOK: Duration = Duration::from_secs(1);
/// The mark of a Service that we made.
const SERVICE_MARK: &str = "app.kubernetes.io/managed-by";

/// Hands over what is desired, and tells what comes of it, until nobody desires anything.
pub(crate) async fn keep(hub: Arc<Hub>, mut desired: Desired) {
    let mut link = hub.link();
    let place = Ledger::open(&hub.shared);
    let mut told = hub.shared.ledger.told();
    loop {
        let (wish, registrations) = desired.now();
        let count = registrations.len();
        place.set(Row { wish, registrations, yields: desired.yields() });
        let said = told.borrow_and_update().get(&place.number).filter(|told| told.wish == wish).cloned();
        if let Some(Told { wish, pending, trouble }) = said {
            desired.tell(Written { wish, pending, trouble });
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() {
                break;
            },
            _ = told.changed() => {}
            // Whether others are yielded to may change by the clock alone.
            () = time::sleep(LOOK) => {}
            // The writer is gone by then, and nobody else says so.
            () = closed(&mut link) => {
                let trouble = Some("the registry was closed".to_owned());
                desired.tell(Written { wish, pending: count, trouble });
                if desired.changed().await.is_err() {
                    return;
                }
            }
        }
    }
    place.clear();
    let gone = told.wait_for(|told| !told.contains_key(&place.number));
    drop(time::timeout(CALL, gone).await);
}

async fn closed(link: &mut watch::Receiver<Link>) {
    drop(link.wait_for(|link| matches!(link, Link::Closed)).await);
}

/// Works on all that is desired, until everything ends; then takes away what is ours.
pub(crate) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let (mut link, mut changes) = (shared.link(), shared.ledger.changes());
    let mut backoff = Backoff::default();
    let mut writer = Writer::new(Arc::clone(&shared));
    let mut was_kept = true;
    loop {
        let now = link.borrow_and_update().clone();
        if *closing.borrow() || matches!(now, Link::Closed) {
            if let Link::Up(up) = &now {
                drop(time::timeout(CALL, writer.pass(up, &Plan::default())).await);
            }
            return;
        }
        changes.borrow_and_update();
        let rows = shared.ledger.rows();
        let plan = Plan::of(&rows, &shared.holder);
        let is_up = matches!(now, Link::Up(_));
        if was_kept && is_up {
            // What kept it from writing is over.
            shared.ledger.tell(Pass::nothing(&plan, &writer.ours, None).told(&rows, &plan));
        }
        was_kept = !is_up;
        let pass = match &now {
            Link::Up(up) => tokio::select! {
                _ = link.changed() => continue,
                _ = closing.changed() => continue,
                // What is withdrawn must not wait for a long pass to end.
                Ok(()) = changes.changed() => continue,
                pass = writer.pass(up, &plan) => pass,
            },
            Link::Down(reason) => Pass::nothing(&plan, &writer.ours, Some(reason)),
            Link::New | Link::Closed => Pass::nothing(&plan, &writer.ours, None),
        };
        shared.ledger.tell(pass.told(&rows, &plan));
        let wait = if !is_up {
            // Without a server only a change of the link is worth a look.
            Duration::MAX
        } else if pass.is_done() {
            backoff.works();
            writer.rest(&plan)
        } else {
            backoff.failed()
        };
        let displaced = pass.displaced;
        tokio::select! {
            _ = link.changed() => {}
            _ = closing.changed() => {}
            _ = changes.changed() => {}
            () = writer.disturbed(&plan) => {
                time::sleep(if displaced { backoff.failed() } else { REST }).await;
            }
            () = time::sleep(wait.min(Duration::from_secs(86_400))) => {}
        }
    }
}

/// What came of a pass.
#[derive(Default)]
struct Pass {
    /// Slices that are not known to be as desired, and why.
    failed: BTreeMap<String, String>,
    /// Slices with something of ours that is not known to be gone, and why.
    stray: BTreeMap<String, String>,
    /// Somebody else keeps something in our place.
    displaced: bool,
}

impl Pass {
    /// A pass that was not made.
    fn nothing(plan: &Plan, ours: &BTreeSet<String>, reason: Option<&str>) -> Self {
        let why = |name: &String| (name.clone(), reason.unwrap_or_default().to_owned());
        Self {
            failed: plan.slices.keys().map(why).collect(),
            stray: ours.iter().filter(|name| !plan.slices.contains_key(*name)).map(why).collect(),
            displaced: false,
        }
    }

    fn is_done(&self) -> bool {
        self.failed.is_empty() && self.stray.is_empty()
    }

    /// What that means for each wish.
    fn told(&self, rows: &BTreeMap<u64, Row>, plan: &Plan) -> BTreeMap<u64, Told> {
        let empty = |row: &Row| Told { wish: row.wish, pending: self.stray.len(), trouble: None };
        let mut all: BTreeMap<u64, Told> = rows.iter().map(|(number, row)| (*number, empty(row))).collect();
        let mut add = |number: &u64, why: &str| {
            if let Some(told) = all.get_mut(number) {
                told.pending = told.pending.saturating_add(1);
                if !why.is_empty() {
                    told.trouble.get_or_insert_with(|| why.to_owned());
                }
            }
        };
        for (number, why) in &plan.refused {
            add(number, why);
        }
        for (name, why) in &self.failed {
            let wants = plan.slices.get(name).into_iter().flat_map(|slice| slice.wants.values());
            wants.flat_map(|want| &want.rows).for_each(|number| add(number, why));
        }
        let stray = self.stray.values().find(|why| !why.is_empty());
        for told in all.values_mut() {
            told.trouble = told.trouble.take().or_else(|| stray.cloned());
        }
        all
    }
}

/// The pod that we are in, as far as it is known.
struct Own {
    name: String,
    uid: String,
    ips: BTreeSet<IpAddr>,
}

struct Writer {
    shared: Arc<Shared>,
    /// Slices in which something is ours, or may be.
    ours: BTreeSet<String>,
    /// Entries that were ours at some time, while they were desired.
    held: BTreeSet<Key>,
    /// When it was last said in a slice that we are there.
    said: BTreeMap<String, Instant>,
    /// Services that were seen to be as needed, and when.
    services: BTreeMap<String, Instant>,
    /// The slices of the namespace, from the first registration on.
    sight: Option<Subscription<Slices>>,
    /// What is known of our pod, and in which epoch that was asked.
    own: (u64, Option<Own>),
}

impl Writer {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            ours: BTreeSet::new(),
            held: BTreeSet::new(),
            said: BTreeMap::new(),
            services: BTreeMap::new(),
            sight: None,
            own: (0, None),
        }
    }

    /// How long nothing needs to be done.
    fn rest(&self, plan: &Plan) -> Duration {
        let settings = &self.shared.settings;
        let beats = plan.slices.keys().any(|name| self.said.contains_key(name));
        if beats { settings.beat.min(settings.reconcile) } else { settings.reconcile }
    }

    /// Waits until a slice of the plan is not as it shall be, by somebody else's hand, or a keeper may have died.
    async fn disturbed(&mut self, plan: &Plan) {
        let holder = self.shared.holder.clone();
        let Some(sight) = &mut self.sight else { return std::future::pending().await };
        loop {
            if sight.view.changed().await.is_err() {
                // It comes back with the next pass.
                return std::future::pending().await;
            }
            let view = sight.view.borrow_and_update().clone();
            let stands = |(name, planned): (&String, &crate::plan::Planned)| {
                let there = view.items.get(name).and_then(|slice| slice.marks.as_ref());
                there.is_some_and(|marks| {
                    let entries: BTreeMap<Key, _> =
                        marks.entries.iter().map(|entry| (entry.key(), entry)).collect();
                    let same = |(key, want): (&Key, &crate::plan::Want)| {
                        entries.get(key).is_some_and(|entry| entry.holder != holder || **entry == want.entry)
                    };
                    planned.wants.iter().all(same)
                })
            };
            if view.epoch > 0 && !plan.slices.iter().all(stands) {
                return;
            }
        }
    }

    /// Makes it so, as far as it can; ends at the first sign that the server is not well.
    async fn pass(&mut self, up: &Up, plan: &Plan) -> Pass {
        if plan.slices.is_empty() && self.ours.is_empty() {
            self.sight = None;
            return Pass::default();
        }
        if self.sight.is_none() {
            self.sight = Some(Subscription::new(&self.shared, &up.namespace));
        }
        self.held.retain(|key| plan.slices.values().any(|slice| slice.wants.contains_key(key)));
        self.said.retain(|name, _| plan.slices.contains_key(name));
        let mut pass = Pass::nothing(plan, &self.ours, None);
        if let Err(failed) = self.all(up, plan, &mut pass).await {
            // Every further question would only wait as well.
            self.shared.suspect.notify_one();
            let reason = failed.reason();
            let unsaid = pass.failed.values_mut().chain(pass.stray.values_mut()).filter(|why| why.is_empty());
            unsaid.for_each(|why| why.clone_from(&reason));
        }
        pass
    }

    async fn all(&mut self, up: &Up, plan: &Plan, pass: &mut Pass) -> Result<(), Failed> {
        let refused = self.services(up, plan).await?;
        self.know_pod(up, plan).await?;
        let mut moving = Vec::new();
        for (name, planned) in &plan.slices {
            if let Some(why) = refused.get(&planned.service) {
                pass.failed.insert(name.clone(), why.clone());
                continue;
            }
            let done = self.slice(up, name, plan, true).await;
            match settled(done, name, &mut pass.failed)? {
                Some(merged) if merged.moving => moving.push(name),
                Some(merged) => pass.displaced |= merged.displaced,
                None => {}
            }
        }
        for name in moving {
            let done = self.slice(up, name, plan, false).await;
            settled(done, name, &mut pass.failed)?;
        }
        let strays: Vec<String> = pass.stray.keys().cloned().collect();
        for name in strays {
            let done = self.slice(up, &name, plan, false).await;
            if settled(done, &name, &mut pass.stray)?.is_some() {
                self.ours.remove(&name);
            }
        }
        self.bury(up, plan).await
    }

    /// Brings a slice to what it shall be.
    async fn slice(&mut self, up: &Up, name: &str, plan: &Plan, lets_move: bool) -> Result<Merged, Trouble> {
        let api: Api<EndpointSlice> = Api::namespaced(up.client.clone(), &up.namespace);
        let planned = plan.slices.get(name);
        let own = self.own.1.as_ref().filter(|own| planned.is_some_and(|planned| planned.is_at(&own.ips)));
        let said = match own {
            Some(own) => Holder { beat: None, pod: Some(own.name.clone()), uid: Some(own.uid.clone()) },
            None => Holder { beat: Some(Timestamp::now().to_string()), ..Holder::default() },
        };
        let beats = said.beat.is_some() && planned.is_some();
        // A little early is better than a beat too late.
        let often = self.shared.settings.beat.mul_f32(0.8);
        let due = beats && self.said.get(name).is_none_or(|last| last.elapsed() >= often);
        let dead = self.dead(name);
        // Before anything is written: an answer may never come.
        self.ours.insert(name.to_owned());
        for _ in 0..TRIES {
            let have = limited(api.get_opt(name)).await?;
            let merge = Merge {
                name,
                holder: &self.shared.holder,
                planned,
                lets_move: lets_move.then_some(plan),
                held: &self.held,
                dead: &dead,
                said: said.clone(),
                due,
            };
            let mut merged = merge.with(have.as_ref()).map_err(Trouble::Said)?;
            let done = match std::mem::replace(&mut merged.what, Do::Nothing) {
                Do::Nothing => Ok(()),
                Do::Write(slice) => {
                    let params = PostParams::default();
                    if have.is_some() {
                        limited(api.replace(name, &params, &slice)).await.map(drop)
                    } else {
                        limited(api.create(&params, &slice)).await.map(drop)
                    }
                }
                Do::Delete => {
                    let is = have.as_ref().map(|have| &have.metadata);
                    delete(&api, name, is.and_then(|is| is.resource_version.clone())).await
                }
            };
            match done {
                Ok(()) => {
                    self.held.extend(merged.ours.iter().cloned());
                    if due {
                        self.said.insert(name.to_owned(), Instant::now());
                    }
                    if !beats {
                        self.said.remove(name);
                    }
                    return Ok(merged);
                }
                // It is another one by now; it is read again.
                Err(failed) if matches!(failed.code(), 404 | 409) => {
                    if have.is_none() && failed.code() == 404 {
                        // There is no such namespace.
                        return Err(failed.into());
                    }
                }
                Err(failed) => return Err(failed.into()),
            }
        }
        Err(Trouble::Said(format!("EndpointSlice {name}: somebody else writes it all the time")))
    }

    /// Those who keep something in a slice and fell silent long ago.
    fn dead(&self, name: &str) -> BTreeSet<String> {
        let limit = self.shared.settings.beat.saturating_mul(MISSED);
        let Some(sight) = &self.sight else { return BTreeSet::new() };
        let view = sight.view.borrow();
        let heard = view.items.get(name).into_iter().flat_map(|slice| &slice.heard);
        let late = heard.filter(|(holder, since)| **holder != self.shared.holder && since.elapsed() > limit);
        late.map(|(holder, _)| holder.clone()).collect()
    }

    /// Deletes slices of ours whose keepers all fell silent long ago.
    async fn bury(&mut self, up: &Up, plan: &Plan) -> Result<(), Failed> {
        let Some(sight) = &mut self.sight else { return Ok(()) };
        let (view, fresh) = sight.fresh(up.epoch);
        if !fresh || view.trouble.is_some() {
            return Ok(());
        }
        let api: Api<EndpointSlice> = Api::namespaced(up.client.clone(), &up.namespace);
        for (name, slice) in view.items.iter().filter(|(name, _)| !plan.slices.contains_key(*name)) {
            let Some(marks) = &slice.marks else { continue };
            let dead = self.dead(name);
            let all = !marks.holders.is_empty() && marks.holders.keys().all(|holder| dead.contains(holder));
            if all {
                let gone = delete(&api, name, Some(slice.version.clone())).await;
                // Whoever was faster did the same, or lives.
                if let Err(failed) = gone
                    && failed.code() == 0
                {
                    return Err(failed);
                }
            }
        }
        Ok(())
    }

    /// Sees to it that the Services are there; those that cannot be, and why.
    async fn services(&mut self, up: &Up, plan: &Plan) -> Result<BTreeMap<String, String>, Failed> {
        let api: Api<Service> = Api::namespaced(up.client.clone(), &up.namespace);
        let needed = plan.services();
        let again = self.shared.settings.reconcile;
        self.services.retain(|name, seen| needed.contains(name.as_str()) && seen.elapsed() < again);
        let mut refused = BTreeMap::new();
        for name in needed {
            if self.services.contains_key(name) {
                continue;
            }
            match service(&api, name).await {
                Ok(()) => {
                    self.services.insert(name.to_owned(), Instant::now());
                }
                Err(Trouble::Said(why)) => {
                    refused.insert(name.to_owned(), why);
                }
                Err(Trouble::Failed(failed)) if failed.code() == 0 => return Err(failed),
                Err(Trouble::Failed(failed)) => {
                    refused.insert(name.to_owned(), format!("Service {name}: {}", failed.reason()));
                }
            }
        }
        Ok(refused)
    }

    /// Asks for what is not known of the pod that we are in, once for each client. That it may not be asked is no trouble: what
    /// we keep says from time to time that we are there, then.
    async fn know_pod(&mut self, up: &Up, plan: &Plan) -> Result<(), Failed> {
        let Some(pod) = self.shared.settings.pod.clone() else { return Ok(()) };
        if self.own.0 == up.epoch || plan.slices.is_empty() {
            return Ok(());
        }
        let parsed =
            |ips: &[String]| ips.iter().filter_map(|ip| ip.parse().ok()).collect::<BTreeSet<IpAddr>>();
        let ips = parsed(&pod.ips);
        let own = match pod.uid {
            Some(uid) if !ips.is_empty() => Some(Own { name: pod.name, uid, ips }),
            _ => {
                let api: Api<PodObject> = Api::namespaced(up.client.clone(), &up.namespace);
                match limited(api.get_opt(&pod.name)).await {
                    Ok(Some(object)) => object.uid().map(|uid| Own {
                        name: pod.name.clone(),
                        uid: uid.to_owned(),
                        ips: parsed(&object.ips()),
                    }),
                    Err(failed) if failed.code() == 0 => return Err(failed),
                    Ok(None) | Err(_) => None,
                }
            }
        };
        self.own = (up.epoch, own);
        Ok(())
    }
}

/// Why something is not as it shall be.
enum Trouble {
    /// The server did not do it.
    Failed(Failed),
    /// It cannot be done.
    Said(String),
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// Notes what came of a slice; `Err`: the server is not well.
fn settled(
    done: Result<Merged, Trouble>,
    name: &str,
    open: &mut BTreeMap<String, String>,
) -> Result<Option<Merged>, Failed> {
    let why = match done {
        Ok(merged) => {
            open.remove(name);
            return Ok(Some(merged));
        }
        Err(Trouble::Failed(failed)) if failed.code() == 0 => return Err(failed),
        Err(Trouble::Failed(failed)) => format!("EndpointSlice {name}: {}", failed.reason()),
        Err(Trouble::Said(why)) => why,
    };
    open.insert(name.to_owned(), why);
    Ok(None)
}

/// Deletes a slice, if it is still what was read; that it is gone already is as good.
async fn delete(api: &Api<EndpointSlice>, name: &str, version: Option<String>) -> Result<(), Failed> {
    let preconditions = Some(Preconditions { resource_version: version, uid: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    match limited(api.delete(name, &params)).await {
        Err(failed) if failed.code() == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Sees to it that a Service is there that selects nothing: a controller would make slices of its own for one that does.
async fn service(api: &Api<Service>, name: &str) -> Result<(), Trouble> {
    for _ in 0..TRIES {
        if let Some(have) = limited(api.get_opt(name)).await? {
            let spec = have.spec.unwrap_or_default();
            if spec.selector.as_ref().is_some_and(|selector| !selector.is_empty()) {
                return Err(Trouble::Said(format!(
                    "Service {name} selects pods: what they give is found without being registered; nothing is added to it"
                )));
            }
            if spec.type_.as_deref() == Some("ExternalName") {
                return Err(Trouble::Said(format!("Service {name} is another name for something outside")));
            }
            return Ok(());
        }
        let service = Service {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([(SERVICE_MARK.to_owned(), OURS.to_owned())])),
                ..ObjectMeta::default()
            },
            // Without an address of its own: each caller finds the endpoints, and DNS names them all.
            spec: Some(ServiceSpec { cluster_ip: Some("None".to_owned()), ..ServiceSpec::default() }),
            ..Service::default()
        };
        match limited(api.create(&PostParams::default(), &service)).await {
            // It is looked at again where somebody was faster.
            Ok(_) => return Ok(()),
            Err(failed) if failed.code() == 409 => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Err(Trouble::Said(format!("Service {name} is made and deleted all the time")))
}
