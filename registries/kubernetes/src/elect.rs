//! A seat that one process has at a time: a `Lease`, as leader election in Kubernetes has it.
//!
//! A lease is only replaced as it was read, so of two who reach for it one fails. Who does not have it takes it when the holder
//! gave it up, or did not renew it for as long as the lease says by *our* clock since we saw it last renewed: no two clocks are
//! compared. The holder counts from before it sent a renewal, so it stops before anybody may follow. The number of a term is
//! `leaseTransitions`, which grows with each who takes the seat. After client-go's `leaderelection`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use outrigger_discovery::Candidate;
use tokio::time;

use crate::{
    entry::{OURS, digest},
    link::{CALL, Failed, Hub, Link, Up, limited},
};

/// The longest time from look to look of who waits for a seat.
const LOOK: Duration = Duration::from_secs(2);

/// Lets a candidate stand, until nobody wants the seat any more.
pub(crate) async fn stand(hub: Arc<Hub>, candidate: Candidate) {
    let (mut link, mut closing) = (hub.link(), hub.shared.closing());
    let seconds = i32::try_from(candidate.patience.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
    let mut standing =
        Standing { name: lease_name(&candidate.seat), seconds, candidate, holds: None, seen: None };
    loop {
        let now = link.borrow_and_update().clone();
        if *closing.borrow() {
            if let Link::Up(up) = &now {
                standing.leave(up).await;
            }
            break;
        }
        let pause = match &now {
            Link::Up(up) => match time::timeout(CALL, standing.step(up)).await {
                Ok(Ok(())) => standing.pause(),
                Ok(Err(failed)) => {
                    if failed.code() == 0 {
                        hub.shared.suspect.notify_one();
                    }
                    standing.candidate.trouble(&failed.reason());
                    standing.pause().min(Duration::from_secs(1))
                }
                Err(_) => {
                    standing.candidate.trouble(&Failed::Silent.reason());
                    Duration::ZERO
                }
            },
            Link::Down(reason) => {
                standing.candidate.trouble(reason);
                Duration::MAX
            }
            Link::New => Duration::MAX,
            Link::Closed => break,
        };
        tokio::select! {
            () = time::sleep(pause.min(Duration::from_secs(86_400))) => {}
            _ = link.changed() => {}
            _ = closing.changed() => {}
            () = standing.candidate.given_up() => {
                if let Link::Up(up) = &now {
                    standing.leave(up).await;
                }
                return;
            }
        }
    }
    drop(closing);
    standing.candidate.trouble("the registry was closed");
    standing.candidate.given_up().await;
}

/// What was seen of somebody else's lease.
struct Seen {
    version: Option<String>,
    /// By our own clock, after it was read.
    at: Instant,
}

struct Standing {
    candidate: Candidate,
    /// The lease's name.
    name: String,
    /// How long it lasts.
    seconds: i32,
    /// The number of our term, while we have the seat.
    holds: Option<i32>,
    seen: Option<Seen>,
}

impl Standing {
    /// How long to wait for the next look.
    fn pause(&self) -> Duration {
        let patience = self.candidate.patience;
        if self.holds.is_some() { patience / 3 } else { (patience / 4).min(LOOK) }
    }

    /// Looks at the lease, and takes it, renews it, or waits.
    async fn step(&mut self, up: &Up) -> Result<(), Failed> {
        let api: Api<Lease> = Api::namespaced(up.client.clone(), &up.namespace);
        let Some(lease) = limited(api.get_opt(&self.name)).await? else {
            let made = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    labels: Some([("app.kubernetes.io/managed-by".to_owned(), OURS.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                ..Lease::default()
            };
            return self.take(&api, made, 1, false).await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let number = spec.lease_transitions.unwrap_or(0).max(0);
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let next = number.saturating_add(1);
        match holder.as_deref() {
            Some(holder) if holder == &*self.candidate.name => {
                // It was ours before; if not in this life, that life is over, and this is another term.
                let same = self.holds == Some(number);
                self.take(&api, lease, if same { number } else { next }, true).await
            }
            None => self.take(&api, lease, next, true).await,
            Some(holder) => {
                self.holds = None;
                self.candidate.follow(u64::try_from(number).unwrap_or(0), Some(holder));
                let version = &lease.metadata.resource_version;
                let seen = self.seen.take().filter(|seen| seen.version == *version);
                let seen = seen.unwrap_or_else(|| Seen { version: version.clone(), at: Instant::now() });
                let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                let lasts = lasts.map_or(self.candidate.patience, Duration::from_secs);
                let over = seen.at.elapsed() >= lasts;
                self.seen = Some(seen);
                if over { self.take(&api, lease, next, true).await } else { Ok(()) }
            }
        }
    }

    /// Writes the lease as ours.
    async fn take(
        &mut self,
        api: &Api<Lease>,
        mut lease: Lease,
        number: i32,
        there: bool,
    ) -> Result<(), Failed> {
        let renews = self.holds == Some(number);
        let spec = lease.spec.get_or_insert_default();
        let now = MicroTime(Timestamp::now());
        spec.renew_time = Some(now.clone());
        if !renews {
            spec.acquire_time = Some(now);
        }
        spec.holder_identity = Some(self.candidate.name.to_string());
        spec.lease_duration_seconds = Some(self.seconds);
        spec.lease_transitions = Some(number);
        // Whoever follows counts from later than this.
        let sent = Instant::now();
        let params = PostParams::default();
        let done = if there {
            limited(api.replace(&self.name, &params, &lease)).await
        } else {
            limited(api.create(&params, &lease)).await
        };
        match done {
            Ok(_) => {
                self.holds = Some(number);
                self.seen = None;
                self.candidate.hold(u64::try_from(number).unwrap_or(0), sent + self.candidate.patience);
                Ok(())
            }
            // Somebody was faster: the next look tells who.
            Err(failed) if failed.code() == 409 => Ok(()),
            Err(failed) => Err(failed),
        }
    }

    /// Gives the seat up, if it is ours: who follows need not wait.
    async fn leave(&mut self, up: &Up) {
        if self.holds.take().is_none() {
            return;
        }
        let api: Api<Lease> = Api::namespaced(up.client.clone(), &up.namespace);
        let leaving = async {
            let Some(mut lease) = limited(api.get_opt(&self.name)).await? else { return Ok(()) };
            let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&*self.candidate.name) {
                return Ok(());
            }
            spec.holder_identity = None;
            limited(api.replace(&self.name, &PostParams::default(), &lease)).await.map(drop)
        };
        // It ends by itself, too.
        drop(time::timeout(CALL, leaving).await);
        self.candidate.follow(0, None);
    }
}

/// The seat's name, if a Lease may have it; or else one that is made of it, and of no other.
fn lease_name(seat: &str) -> String {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let dotted = seat.contains("..") || seat.contains(".-") || seat.contains("-.");
    let good = seat.bytes().all(fits) && ends(seat.bytes().next()) && ends(seat.bytes().last());
    if good && !dotted && seat.len() <= 253 {
        return seat.to_owned();
    }
    let plain = seat.bytes().map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' });
    let plain: String = plain.take(200).map(char::from).collect();
    format!("outrigger-{plain}-{:016x}", digest([seat]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_that_no_lease_may_be_called_has_a_name_of_its_own() {
        assert_eq!(lease_name("bridge-a.b"), "bridge-a.b");
        let odd = ["Bridge", "bridge", "bridge_a", "bridge-A", "-a", "a..b", "a.-b", ""];
        let names: std::collections::BTreeSet<String> = odd.iter().map(|seat| lease_name(seat)).collect();
        assert_eq!(names.len(), odd.len());
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)),
                "{name}"
            );
        }
    }
}
