//! Keeps what is desired in its place, and takes away what was ours and is desired no more.
//!
//! A pass looks at each node, does what is missing and looks again: an error of a write means that nobody knows whether it
//! happened, so only what was read back counts as done. A node of ours that another session owns goes with that session,
//! soon or later: it is deleted and made anew, never counted as done. Nothing is deleted that no session of ours made, except
//! where our own node has to stand. Passes follow each epoch of the session, each change of the desire, each change of a node
//! of ours, and a slow clock; what was right when it was read and has not changed since is read again by the slow clock only.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    future::poll_fn,
    hash::{Hash as _, Hasher as _},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use outrigger_discovery::{Backoff, Desired, Registration, Written, Yielding, formats::application};
use tokio::time;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error, MultiWriteError};

use crate::{
    eye::Eye,
    plan::{Plan, Step},
    session::{Hub, Link, Up, limited, lock, reason},
};

/// How often a step is tried in one pass, where others write the same node.
const TRIES: u32 = 6;
/// The time from a change of a node of ours to the pass that it causes: changes come in swarms.
const REST: Duration = Duration::from_millis(50);

/// Keeps in the registry what is desired, until nobody desires anything.
pub(crate) async fn keep(hub: Arc<Hub>, mut desired: Desired) {
    let (mut link, mut backoff) = (hub.link(), Backoff::default());
    let mut keeper = Keeper {
        hub: Arc::clone(&hub),
        ours: BTreeSet::new(),
        wants: BTreeSet::new(),
        right: BTreeMap::new(),
        yielding: desired.yielding(),
        eyes: BTreeMap::new(),
        epoch: 0,
    };
    let mut was_kept = true;
    loop {
        let (wish, wanted) = desired.now();
        let plan = keeper.plan(&wanted);
        let plan = keeper.want(plan);
        let now = link.borrow_and_update().clone();
        let is_up = matches!(now, Link::Up(_));
        if was_kept && is_up {
            desired.begins(wish, keeper.nothing(&plan, None).pending);
        }
        was_kept = !is_up;
        let mut pass = match &now {
            Link::New => keeper.nothing(&plan, None),
            Link::Down(reason) => keeper.nothing(&plan, Some(reason)),
            Link::Closed => keeper.nothing(&plan, Some("the registry was closed")),
            Link::Up(up) => tokio::select! {
                _ = link.changed() => continue,
                // What is withdrawn must not wait for a long pass to end.
                Ok(()) = desired.changed() => continue,
                pass = keeper.pass(up, &plan) => pass,
            },
        };
        desired.tell(Written { wish, pending: pass.pending, trouble: pass.trouble.take() });
        if pass.pending == 0 && is_up {
            backoff.works();
        }
        let wait = match (is_up, pass.pending) {
            (true, 0) => hub.shared.settings.reconcile,
            (true, _) => backoff.failed(),
            // Without a connection only a change of the link is worth a look.
            (false, _) => Duration::MAX,
        };
        tokio::select! {
            changed = desired.changed() => if changed.is_err() {
                keeper.want(Plan::default());
                if let Link::Up(up) = &now {
                    keeper.pass(up, &Plan::default()).await;
                }
                return;
            },
            _ = link.changed() => {}
            () = keeper.changed() => {
                // Whoever takes the same node again and again is not met at once each time.
                time::sleep(if pass.displaced { backoff.failed() } else { REST }).await;
            }
            () = time::sleep(wait.min(Duration::from_secs(86_400))) => keeper.right.clear(),
        }
    }
}

/// What came of a pass.
#[derive(Default)]
struct Pass {
    /// Steps and withdrawals that are not known to be done.
    pending: usize,
    trouble: Option<String>,
    /// Somebody else's node stood in the place of ours.
    displaced: bool,
}

struct Keeper {
    hub: Arc<Hub>,
    /// Nodes that we made, or may have made, and that are not known to be gone.
    ours: BTreeSet<Arc<str>>,
    /// Nodes that are to be there by this registration.
    wants: BTreeSet<Arc<str>>,
    /// Steps that were seen to be done, and whose nodes have not changed since: a digest of each.
    right: BTreeMap<Arc<str>, u64>,
    /// Whether what other processes keep is left to them.
    yielding: Yielding,
    /// What sees the nodes of the plan, in this epoch.
    eyes: BTreeMap<Arc<str>, Eye>,
    epoch: u64,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.want(Plan::default());
        lock(&self.hub.shared.orphans).append(&mut self.ours);
    }
}

impl Keeper {
    /// Waits until a node of the plan changes, by whomever.
    async fn changed(&mut self) {
        let mut changes: Vec<_> =
            self.eyes.iter_mut().map(|(path, eye)| (path, Box::pin(eye.changed()))).collect();
        let (mut changed, mut blind) = (Vec::new(), false);
        poll_fn(|context| {
            for (path, change) in &mut changes {
                if let Poll::Ready(seen) = change.as_mut().poll(context) {
                    changed.push(Arc::clone(path));
                    blind |= seen.is_err();
                }
            }
            if changed.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        drop(changes);
        for path in &changed {
            self.right.remove(path);
        }
        if blind {
            // They see nothing any more; if the session itself goes on, it is looked at with new ones.
            self.eyes.clear();
            self.right.clear();
        }
    }

    /// From now on this is what is to be there, whatever becomes of it.
    fn want(&mut self, mut plan: Plan) -> Plan {
        plan.rows.iter_mut().flatten().for_each(|step| step.share(&self.wants));
        let these = plan.ours();
        self.hub.shared.want(&these, &self.wants);
        self.wants = these;
        plan
    }

    fn plan(&self, wanted: &[Registration]) -> Plan {
        match &self.hub.shared.paths {
            Ok(paths) => Plan::of(wanted, paths),
            Err(reason) => {
                Plan { rows: Vec::new(), refused: wanted.iter().map(|_| (*reason).to_owned()).collect() }
            }
        }
    }

    /// A pass that was not made: nothing of the plan is known to be done.
    fn nothing(&self, plan: &Plan, reason: Option<&str>) -> Pass {
        let desired = plan.ours();
        let withdrawn = self.ours.difference(&desired).count();
        Pass {
            pending: plan.len().saturating_add(withdrawn),
            trouble: reason.map(str::to_owned),
            ..Pass::default()
        }
    }

    /// Makes it so, as far as it can; ends at the first sign that the session is not well.
    async fn pass(&mut self, up: &Up, plan: &Plan) -> Pass {
        self.ours.append(&mut lock(&self.hub.shared.orphans));
        let mut pass = self.nothing(plan, plan.refused.first().map(String::as_str));
        let desired = plan.ours();
        if self.epoch != up.epoch {
            self.eyes.clear();
            self.right.clear();
            self.epoch = up.epoch;
        }
        let seen: BTreeSet<&Arc<str>> = plan.rows.iter().flatten().map(Step::path).collect();
        self.eyes.retain(|path, _| seen.contains(path));
        self.right.retain(|path, _| seen.contains(path));
        let withdrawn: Vec<Arc<str>> = self.ours.difference(&desired).cloned().collect();
        // First what must not be called any more.
        for path in withdrawn {
            match self.withdraw(&up.client, &path).await {
                Ok(()) => {
                    self.ours.remove(&path);
                    pass.pending = pass.pending.saturating_sub(1);
                }
                Err(error) => {
                    pass.trouble = Some(format!("{path}: {}", reason(&error)));
                    if is_of_session(&error) {
                        return pass;
                    }
                }
            }
        }
        for row in &plan.rows {
            for step in row {
                match self.step(up, step, &mut pass).await {
                    Ok(()) => pass.pending = pass.pending.saturating_sub(1),
                    Err(error) => {
                        pass.trouble = Some(format!("{}: {}", step.path(), reason(&error)));
                        if is_of_session(&error) {
                            return pass;
                        }
                        break;
                    }
                }
            }
        }
        pass
    }

    /// Does a step and reads it back, unless it is known to be done.
    async fn step(&mut self, up: &Up, step: &Step, pass: &mut Pass) -> Result<(), Error> {
        let (client, path) = (&up.client, step.path());
        let digest = digest(step);
        if self.right.get(path) == Some(&digest) {
            return Ok(());
        }
        if !self.eyes.contains_key(path) {
            // Before it is read: what changes afterwards is seen.
            let eye = Eye::on(client, &up.sight, path).await?;
            // One that is no better than the slow clock would only make it a fast one.
            if !eye.is_timed() {
                self.eyes.insert(Arc::clone(path), eye);
            }
        }
        for _ in 0..TRIES {
            let is_done = match step {
                Step::Ours { data, .. } => self.ours(client, path, data, pass).await?,
                Step::Stays { data, .. } => {
                    self.stays(client, path, |have| application::described(have, data)).await?
                }
                Step::Named { app, .. } => self.stays(client, path, |text| named(text, app)).await?,
            };
            if is_done {
                // What another process keeps, and it is left to that for now, is looked at every time.
                let is_left = matches!(step, Step::Ours { .. }) && !self.ours.contains(path);
                if self.eyes.contains_key(path) && !is_left {
                    self.right.insert(Arc::clone(path), digest);
                }
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Brings a node of ours nearer to what it shall be; whether it was so already.
    async fn ours(
        &mut self,
        client: &Client,
        path: &Arc<str>,
        data: &[u8],
        pass: &mut Pass,
    ) -> Result<bool, Error> {
        // Before anything is written: an answer may never come.
        self.ours.insert(Arc::clone(path));
        let (have, stat) = match limited(client.get_data(path)).await {
            Ok(found) => found,
            Err(Error::NoNode) => {
                self.create(client, path, data, CreateMode::Ephemeral).await?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if stat.ephemeral_owner != client.session_id().0 {
            let foreign = !self.hub.shared.is_ours(stat.ephemeral_owner);
            // Asked now: a process that stood still meanwhile may not write any more.
            if foreign && self.yielding.now() {
                self.ours.remove(path);
                return Ok(true);
            }
            pass.displaced |= foreign;
            settled(self.replace(client, path, data, stat.version).await)?;
            return Ok(false);
        }
        if have != data {
            settled(limited(client.set_data(path, data, Some(stat.version))).await.map(drop))?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Puts a node of ours in the place of another session's, so that nobody sees the place empty.
    async fn replace(&self, client: &Client, path: &str, data: &[u8], version: i32) -> Result<(), Error> {
        let mut both = client.new_multi_writer();
        both.add_delete(path, Some(version))?;
        both.add_create(path, data, &CreateMode::Ephemeral.with_acls(self.acls()))?;
        limited(async { both.commit().await.map(drop).map_err(cause) }).await
    }

    /// Brings a node that stays nearer to what it shall say; `wanted` gives that for what it says now, if it is otherwise.
    async fn stays(
        &self,
        client: &Client,
        path: &str,
        wanted: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<bool, Error> {
        match limited(client.get_data(path)).await {
            Ok((have, stat)) => match wanted(&have) {
                Some(data) if data != have => {
                    // Only what was read is replaced: others add their own names meanwhile.
                    settled(limited(client.set_data(path, &data, Some(stat.version))).await.map(drop))?;
                    Ok(false)
                }
                _ => Ok(true),
            },
            Err(Error::NoNode) => {
                self.create(client, path, &wanted(&[]).unwrap_or_default(), CreateMode::Persistent).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a node and the directories above it. That somebody was faster is no error; what stands there is looked at again.
    async fn create(&self, client: &Client, path: &str, data: &[u8], mode: CreateMode) -> Result<(), Error> {
        let options = mode.with_acls(self.acls());
        match limited(client.create(path, data, &options)).await.map(drop) {
            Err(Error::NoNode) => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                // Plain directories, as Dubbo's: a container would go with its last child, and the watches on it with it.
                let options: CreateOptions<'_> = CreateMode::Persistent.with_acls(self.acls());
                limited(client.mkdir(parent, &options)).await
            }
            Ok(()) | Err(Error::NodeExists) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Who may change what is ours: as Dubbo has it, everybody, or only those with the same name and password.
    fn acls(&self) -> Acls<'static> {
        if self.hub.shared.settings.auth.is_some() { Acls::creator_all() } else { Acls::anyone_all() }
    }

    /// Takes a node away, if a session of ours made it and no other registration of ours wants it.
    async fn withdraw(&self, client: &Client, path: &str) -> Result<(), Error> {
        for _ in 0..TRIES {
            if self.hub.shared.is_wanted(path) {
                return Ok(());
            }
            let Some(stat) = limited(client.check_stat(path)).await? else { return Ok(()) };
            if stat.ephemeral_owner == 0 || !self.hub.shared.is_ours(stat.ephemeral_owner) {
                return Ok(());
            }
            settled(limited(client.delete(path, Some(stat.version))).await)?;
        }
        Err(busy())
    }
}

/// What tells a step from another one of the same node.
fn digest(step: &Step) -> u64 {
    let mut hasher = DefaultHasher::new();
    match step {
        Step::Ours { data, .. } | Step::Stays { data, .. } => data.hash(&mut hasher),
        Step::Named { app, .. } => app.hash(&mut hasher),
    }
    hasher.finish()
}

/// Why several writes at once were not done.
fn cause(error: MultiWriteError) -> Error {
    match error {
        MultiWriteError::RequestFailed { source } | MultiWriteError::OperationFailed { source, .. } => source,
    }
}

fn busy() -> Error {
    Error::UnexpectedError("somebody else writes the same node all the time".to_owned())
}

/// That the node is another one by now is no error: it is looked at again.
fn settled(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::NoNode | Error::BadVersion | Error::NodeExists) => Ok(()),
        other => other,
    }
}

/// Whether the session is not well, and every further question would only wait.
fn is_of_session(error: &Error) -> bool {
    use Error as E;
    matches!(error, E::Timeout | E::ConnectionLoss | E::SessionExpired | E::SessionMoved | E::ClientClosed)
}

/// The text of a mapping with this application in it; `None`: it names it already.
fn named(text: &[u8], app: &str) -> Option<Vec<u8>> {
    application::with_app(&String::from_utf8_lossy(text), app).map(String::into_bytes)
}
