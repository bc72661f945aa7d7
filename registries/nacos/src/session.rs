//! One session with a server: how it begins, how questions are asked over it, how it ends.
//!
//! A session is a connection that the server has taken in: what is registered over it lives as long as it. A server that
//! says nothing for a while is asked whether it is still there; one that hangs is given up. Must never be used again once
//! it ended; the next one is the supervisor's work.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outrigger_discovery::StatusCell;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    message::{
        ConnectionSetupRequest, HealthCheckRequest, Heard, Numbered, OK, Outcome, Question,
        ServerCheckRequest, UNREGISTERED,
    },
    pace::Pace,
    wire::{Any, Link, Metadata, Payload, Talk},
};

/// How long the answer to a question may take.
const ANSWER: Duration = Duration::from_secs(4);
/// A server that is silent for so long is asked whether it is there; with [`CHECK`], a hung one is noticed within 8 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
/// How long it may take to say that it is there.
const CHECK: Duration = Duration::from_secs(3);
/// How long it may take to take a connection in, from the first word on.
const TAKE_IN: Duration = Duration::from_secs(3);
/// How often it is asked whether it has.
const TAKE_IN_STEP: Duration = Duration::from_millis(50);
/// What we say we are. Servers look at the version after `v`: from 2 on they talk as described here.
const VERSION: &str = "Nacos-Rust-Client:v2.2.4";
/// What a server answers to whom it does not let in, and what it says if it is the token: `token expired!`, `token invalid!`,
/// `user not found!`. The code is the same for what a user may not do.
const FORBIDDEN: i32 = 403;
const STRANGER: [&str; 3] = ["token expired", "token invalid", "user not found"];
/// gRPC's port is so much above that of HTTP.
const GRPC_PORT_ABOVE: u16 = 1_000;

/// Why a question has no answer. After it nobody knows whether what was asked for happened.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) why: String,
    /// What the server answered instead; 0: nothing.
    pub(crate) code: i32,
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

/// A connection that the server has taken in.
#[derive(Debug)]
pub(crate) struct Session {
    /// Grows with every session.
    pub(crate) number: u64,
    server: String,
    link: Link,
    client_ip: String,
    token: Mutex<Option<String>>,
    pace: Arc<Pace>,
    status: StatusCell,
    heard: Mutex<Instant>,
    ended: watch::Sender<Option<Arc<str>>>,
}

impl Session {
    /// Begins one with the server whose HTTP port is at `server`.
    pub(crate) async fn open(
        number: u64,
        server: &str,
        tenant: &str,
        token: Option<String>,
        pace: Arc<Pace>,
        status: StatusCell,
    ) -> Result<(Self, Talk), String> {
        let link = Link::connect(&grpc_address(server)?).await?;
        let client_ip = link.local.ip().to_string();
        let heard = Mutex::new(Instant::now());
        let (token, ended) = (Mutex::new(token), watch::Sender::new(None));
        let session =
            Self { number, server: server.to_owned(), link, client_ip, token, pace, status, heard, ended };
        let talk = session.begin(tenant).await.map_err(|failed| format!("{server}: {failed}"))?;
        Ok((session, talk))
    }

    async fn begin(&self, tenant: &str) -> Result<Talk, Failed> {
        self.ask(&ServerCheckRequest {}, CHECK).await?;
        let setup = ConnectionSetupRequest {
            client_version: VERSION,
            tenant,
            abilities: BTreeMap::from([(
                "remoteAbility",
                BTreeMap::from([("supportRemoteConnection", true)]),
            )]),
            labels: BTreeMap::from([("source", "sdk"), ("module", "naming")]),
        };
        let first = self.payload("ConnectionSetupRequest", &setup)?;
        // Most servers do not answer the setup: what they answer to a check tells that it is done.
        let talk = self.link.talk(first).map_err(|why| Failed { why, code: 0 })?;
        let until = Instant::now() + TAKE_IN;
        loop {
            match self.ask(&HealthCheckRequest {}, CHECK).await {
                Err(failed) if failed.code == UNREGISTERED && Instant::now() < until => {
                    time::sleep(TAKE_IN_STEP).await;
                }
                Err(failed) => return Err(failed),
                Ok(_) => return Ok(talk),
            }
        }
    }

    /// Asks the server, at a pace that all questions share.
    pub(crate) async fn call<Q: Question>(&self, question: &Q) -> Result<Q::Answer, Failed> {
        self.pace.turn().await;
        let answer = self.ask(question, ANSWER).await;
        match &answer {
            Err(failed) if failed.code == UNREGISTERED => {
                self.end("the server does not know the connection any more");
            }
            Err(failed) if self.is_stranger(failed) => {
                self.end("the server does not take the token any more");
            }
            _ => {}
        }
        answer
    }

    /// Whether the server refused our token, and not what was asked with it: then another login may help.
    fn is_stranger(&self, failed: &Failed) -> bool {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        token && failed.code == FORBIDDEN && STRANGER.iter().any(|words| failed.why.contains(words))
    }

    /// Whether the server is still there; asked only if it was silent.
    pub(crate) async fn check(&self) -> Result<(), Failed> {
        self.ask(&HealthCheckRequest {}, CHECK).await.map(drop)
    }

    /// When the server said something last.
    pub(crate) fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server said something.
    pub(crate) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.status.heard();
    }

    /// Who we are from now on.
    pub(crate) fn set_token(&self, token: String) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Our answer to what the server said by itself: heard.
    pub(crate) fn answer(&self, said: &Payload) -> Option<Payload> {
        let Numbered { request_id } = serde_json::from_slice(said.json()).ok()?;
        let kind = said.kind().strip_suffix("Request")?;
        self.payload(&format!("{kind}Response"), &Heard { result_code: OK, request_id: &request_id }).ok()
    }

    /// Ends it, for this reason; a second reason is not taken.
    pub(crate) fn end(&self, why: &str) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(format!("{}: {why}", self.server).into());
            }
            first
        });
        self.link.end();
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_up(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Waits until it has ended, and says why.
    pub(crate) async fn ended(&self) -> Arc<str> {
        let mut ended = self.ended.subscribe();
        // The sender is ours: it is there as long as we are.
        let why = ended.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_default()
    }

    async fn ask<Q: Question>(&self, question: &Q, limit: Duration) -> Result<Q::Answer, Failed> {
        let failed = |why| Failed { why, code: 0 };
        let answer = self.link.ask(self.payload(Q::KIND, question)?, limit).await.map_err(failed)?;
        self.hear();
        let unreadable = |error| failed(format!("the answer to {} cannot be read: {error}", Q::KIND));
        let outcome: Outcome = serde_json::from_slice(answer.json()).map_err(unreadable)?;
        if outcome.result_code != OK {
            let message = outcome.message.filter(|message| !message.is_empty());
            let code = outcome.error_code;
            let why = message.unwrap_or_else(|| format!("{} failed with code {code}", Q::KIND));
            return Err(Failed { why, code });
        }
        serde_json::from_slice(answer.json()).map_err(unreadable)
    }

    fn payload(&self, kind: &str, message: &impl serde::Serialize) -> Result<Payload, Failed> {
        let value =
            serde_json::to_vec(message).map_err(|error| Failed { why: error.to_string(), code: 0 })?;
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let token = token.map(|token| ("accessToken".to_owned(), token)).into_iter();
        let metadata = Metadata {
            kind: kind.to_owned(),
            client_ip: self.client_ip.clone(),
            headers: token.collect::<HashMap<_, _>>(),
        };
        Ok(Payload { metadata: Some(metadata), body: Some(Any { value }) })
    }
}

/// Where gRPC is, for the `host:port` of HTTP.
fn grpc_address(server: &str) -> Result<String, String> {
    let bad = || format!("{server}: a port up to {} is needed", u16::MAX - GRPC_PORT_ABOVE);
    let (host, port) = server.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse::<u16>().ok().and_then(|port| port.checked_add(GRPC_PORT_ABOVE)).ok_or_else(bad)?;
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_grpc_follows_from_that_of_http() {
        assert_eq!(grpc_address("nacos:8848"), Ok("nacos:9848".to_owned()));
        assert_eq!(grpc_address("[::1]:1"), Ok("[::1]:1001".to_owned()));
        for bad in ["nacos", "nacos:", "nacos:x", "nacos:65000"] {
            assert!(grpc_address(bad).is_err(), "{bad}");
        }
    }
}
