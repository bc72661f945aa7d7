//! The one task that keeps the one connection: it connects, looks whether the server is still there, and connects again.
//!
//! Servers are taken in turn, with a wait that grows (see [`Backoff`]). Must never keep its client alive: when nobody has that
//! any more, or it was closed, the connection ends with this task.

use std::sync::{Arc, Weak};

use outrigger_discovery::Backoff;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    Settings,
    client::{CLOSED, Client, State},
    login::{self, Token},
    session::{SILENCE, Session},
    wire::Talk,
};

/// Runs until the client is gone or closed.
pub(crate) async fn run(client: Weak<Client>, settings: Arc<Settings>, mut closing: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    let mut attempt: u64 = 0;
    // Dropping what it was doing ends a connection that was about to come about.
    tokio::select! {
        () = closed(&mut closing) => {}
        () = async {
            loop {
                attempt = attempt.saturating_add(1);
                let why = once(&client, &settings, attempt, &mut backoff).await;
                let Some(client) = client.upgrade() else { return };
                client.status.lost(&why);
                client.state.send_replace(State::Down(why.into()));
                drop(client);
                // It makes no sense to wait longer than until everything is read back anyway.
                time::sleep(backoff.failed().min(settings.reconcile)).await;
            }
        } => {}
    }
    if let Some(client) = client.upgrade() {
        if let State::Up(session) = client.state.send_replace(State::Closed) {
            session.end(CLOSED);
        }
        client.status.lost(CLOSED);
    }
}

/// Waits until the end was asked for, or the client is gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closing| *closing).await);
}

/// One session from its beginning to its end; says why it ended.
async fn once(client: &Weak<Client>, settings: &Settings, attempt: u64, backoff: &mut Backoff) -> String {
    let Some(server) = pick(&settings.servers, attempt) else { return "no server is named".to_owned() };
    let token = match &settings.user {
        None => None,
        Some((name, password)) => match login::login(server, name, password).await {
            Ok(token) => Some(token),
            Err(why) => return format!("{server}: {why}"),
        },
    };
    let shared = client.upgrade().map(|client| (Arc::clone(&client.pace), client.status.clone()));
    let Some((pace, status)) = shared else { return String::new() };
    let text = token.as_ref().map(|token| token.text.clone());
    let (session, talk) = match Session::open(attempt, server, settings.tenant(), text, pace, status).await {
        Ok(opened) => opened,
        Err(why) => return why,
    };
    let session = Arc::new(session);
    let Some(up) = client.upgrade() else { return String::new() };
    backoff.works();
    up.status.connected();
    up.state.send_replace(State::Up(Arc::clone(&session)));
    drop(up);
    let why = tokio::select! {
        why = live(client, &session, talk) => why,
        why = session.ended() => why.to_string(),
        why = keep_token(settings, server, token, &session) => why,
    };
    session.end(&why);
    session.ended().await.to_string()
}

/// The servers in turn, from the first on.
fn pick(servers: &[String], attempt: u64) -> Option<&String> {
    let count = u64::try_from(servers.len()).ok().filter(|count| *count > 0)?;
    servers.get(usize::try_from(attempt.saturating_sub(1) % count).ok()?)
}

/// Takes what the server says and looks whether it is still there; ends with the reason why it is not.
async fn live(client: &Weak<Client>, session: &Session, mut talk: Talk) -> String {
    loop {
        let said = tokio::select! {
            said = talk.heard.recv() => said,
            () = time::sleep_until(session.heard() + SILENCE) => {
                if session.heard() + SILENCE > Instant::now() {
                    continue;
                }
                if let Err(failed) = session.check().await {
                    return format!("it is silent: {failed}");
                }
                continue;
            }
        };
        let said = match said {
            Some(Ok(said)) => said,
            Some(Err(why)) => return why,
            None => return "the server ended the connection".to_owned(),
        };
        session.hear();
        let Some(client) = client.upgrade() else { return "nobody wants it any more".to_owned() };
        if let Some(answer) = session.answer(&said)
            && talk.say.try_send(answer).is_err()
        {
            return "the server does not take our answers".to_owned();
        }
        client.told(session, &said);
    }
}

/// Waits until the session's token is about to end, gets another and lets it have that.
async fn keep_token(settings: &Settings, server: &str, token: Option<Token>, session: &Session) -> String {
    let (Some(token), Some((name, password))) = (token, &settings.user) else {
        return std::future::pending().await;
    };
    let mut fresh = token.fresh;
    let mut trouble = Backoff::default();
    loop {
        time::sleep(fresh).await;
        match login::login(server, name, password).await {
            Ok(token) => {
                fresh = token.fresh;
                session.set_token(token.text);
                trouble = Backoff::default();
            }
            // The old one still holds for a while; whoever is refused in the end will say so.
            Err(_) => fresh = trouble.failed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_take_turns() {
        let servers = ["a".to_owned(), "b".to_owned()];
        let picked: Vec<_> = (1..=4).filter_map(|attempt| pick(&servers, attempt)).collect();
        assert_eq!(picked, ["a", "b", "a", "b"]);
        assert_eq!(pick(&[], 1), None);
    }
}
