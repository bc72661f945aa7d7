//! A seat that one process has at a time: an ephemeral node that bears the holder's name.
//!
//! It lives on a session of its own, whose timeout is the candidates' patience, so that it goes sooner than what the holder
//! registered. The holder's moment is that of its last question that was answered well, plus the timeout that the server
//! granted: a server counts from when it heard the question, so it never gives the seat away earlier. The number of a holder is
//! the transaction that made its node. Source: "Leader Election" of `ZooKeeper`'s recipes, and its programmer's guide on
//! sessions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_discovery::{Backoff, Candidate};
use tokio::time;
use zookeeper_client::{Acls, Client, CreateMode, Error};

use crate::session::{self, Hub, Link, limited, reason};

/// Stands for the seat until nobody wants it.
pub(crate) async fn stand(hub: Arc<Hub>, candidate: Candidate) {
    let mut backoff = Backoff::default();
    let mut link = hub.shared.link();
    tokio::select! {
        () = candidate.given_up() => {}
        // Nothing of a registry that was closed goes on.
        Ok(_) = link.wait_for(|link| matches!(link, Link::Closed)) => {}
        () = async {
            loop {
                let why = session(&hub, &candidate, &mut backoff).await;
                candidate.trouble(&why);
                time::sleep(backoff.failed()).await;
            }
        } => {}
    }
}

/// Stands for it over one session; why that ended. A session that is dropped ends, and what it has with it.
async fn session(hub: &Hub, candidate: &Candidate, backoff: &mut Backoff) -> String {
    let Some(path) = hub.shared.paths.as_ref().ok().and_then(|paths| paths.seat(&candidate.seat)) else {
        return format!("{:?} is no name in ZooKeeper", candidate.seat);
    };
    let client = match session::connect(&hub.shared.settings, candidate.patience).await {
        Ok(client) => client,
        Err(why) => return why,
    };
    // Three questions before it would be too late.
    let pause = client.session_timeout() / 4;
    loop {
        let asked = Instant::now();
        // Waiting longer for an answer than it would be worth is no use.
        let look = time::timeout(client.session_timeout(), look(hub, candidate, &client, &path, asked)).await;
        match look.unwrap_or(Err(Error::Timeout)) {
            Ok(None) => {}
            Ok(Some(gone)) => {
                backoff.works();
                let _ = time::timeout(pause, gone).await;
                continue;
            }
            Err(error) if client.state().is_terminated() => return reason(&error),
            Err(error) => candidate.trouble(&reason(&error)),
        }
        time::sleep(pause.min(Duration::from_secs(5))).await;
    }
}

/// Looks who has the seat, and takes it if nobody has. The future that is given ends when somebody else's time does.
async fn look(
    hub: &Hub,
    candidate: &Candidate,
    client: &Client,
    path: &str,
    asked: Instant,
) -> Result<Option<impl Future<Output = ()> + use<>>, Error> {
    let (data, stat, gone) = match limited(client.get_and_watch_data(path)).await {
        Ok(found) => found,
        Err(Error::NoNode) => {
            take(hub, client, path, &candidate.name).await?;
            limited(client.get_and_watch_data(path)).await?
        }
        Err(error) => return Err(error),
    };
    let number = u64::try_from(stat.czxid).unwrap_or_default();
    if stat.ephemeral_owner == client.session_id().0 {
        candidate.hold(number, asked + client.session_timeout());
        return Ok(None);
    }
    candidate.follow(number, Some(&String::from_utf8_lossy(&data)));
    Ok(Some(async move {
        gone.changed().await;
    }))
}

/// Makes the node. That somebody was faster is no error.
async fn take(hub: &Hub, client: &Client, path: &str, name: &str) -> Result<(), Error> {
    let acls = if hub.shared.settings.auth.is_some() { Acls::creator_all() } else { Acls::anyone_all() };
    let ephemeral = CreateMode::Ephemeral.with_acls(acls);
    match limited(client.create(path, name.as_bytes(), &ephemeral)).await.map(drop) {
        Err(Error::NoNode) => {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            limited(client.mkdir(parent, &CreateMode::Persistent.with_acls(Acls::anyone_all()))).await?;
            limited(client.create(path, name.as_bytes(), &ephemeral)).await.map(drop)
        }
        other => other,
    }
    .or_else(|error| if matches!(error, Error::NodeExists) { Ok(()) } else { Err(error) })
}
