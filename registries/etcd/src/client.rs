//! A connection to one etcd server, and the questions that can be put over it.
//!
//! A client of this size because one that serves all purposes wants `protoc` of everybody who builds it. Each question has a
//! time limit, and its error says what it means for whoever asked ([`Error`]). A token that the server does not know any more
//! is renewed once, by one of those who ask. It must never show the password. The transport is tonic's.

use std::{
    collections::VecDeque,
    error, fmt,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::uri::PathAndQuery;
use prost::Message;
use tokio::{task, time};
use tokio_stream::Stream;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, AsciiMetadataValue, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use crate::{
    Settings, Tls,
    session::lock,
    wire::{
        AuthenticateRequest, AuthenticateResponse, LeaseGrantRequest, LeaseGrantResponse,
        LeaseKeepAliveResponse, LeaseRequest, Nothing, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
        WatchRequest, WatchResponse,
    },
};

/// How long any one question to the server may take.
pub(crate) const CALL: Duration = Duration::from_secs(5);
/// After how much silence the connection is tried, and how long the server may be silent then. Servers hang up on who does so
/// more often than every five seconds.
const PING: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));
/// The longest answer that is read. Pages of a thousand keys are well below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// There was none in time: nobody knows whether it happened.
    Silent,
    /// The connection, or the server behind it, is not well: nobody knows whether it happened.
    Link(String),
    /// The server wants another token.
    Token(String),
    /// There is no such lease (any more).
    NoLease,
    /// The server does not want to.
    Refused(String),
}

impl Error {
    /// Whether every further question would only wait.
    pub(crate) fn is_of_link(&self) -> bool {
        matches!(self, Self::Silent | Self::Link(_) | Self::Token(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => write!(out, "the server did not answer within {} s", CALL.as_secs()),
            Self::Link(why) => write!(out, "the server cannot be asked: {why}"),
            Self::Token(why) => write!(out, "the server does not know us any more: {why}"),
            Self::NoLease => out.write_str("the lease has ended"),
            Self::Refused(why) => write!(out, "the server refuses: {why}"),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let why = whole(status.message(), &status);
        match status.code() {
            Code::NotFound if why.contains("requested lease not found") => Self::NoLease,
            Code::Unauthenticated => Self::Token(why),
            _ if is_of_token(&why) => Self::Token(why),
            Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable => {
                Self::Link(why)
            }
            _ => Self::Refused(why),
        }
    }
}

/// Whether the server's words mean that another token would help.
pub(crate) fn is_of_token(why: &str) -> bool {
    ["invalid auth token", "revision of auth store is old"].iter().any(|known| why.contains(known))
}

/// A message with what is behind it, such as the operating system's own words.
fn whole(message: &str, error: &dyn error::Error) -> String {
    let mut text = message.to_owned();
    let mut behind = error.source();
    while let Some(error) = behind {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        behind = error.source();
    }
    text
}

/// A connection to one server; its clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    grpc: Grpc<Channel>,
    login: Option<Arc<Login>>,
}

/// Who we are.
struct Login {
    user: String,
    password: String,
    token: Mutex<Option<MetadataValue<Ascii>>>,
    /// Whose turn it is to ask for another token.
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to a server, `host:port`, and says who we are.
    pub(crate) async fn connect(settings: &Settings, server: &str) -> Result<Self, Error> {
        let failed = |error: tonic::transport::Error| Error::Link(whole("", &error));
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))
            .map_err(failed)?
            .connect_timeout(CALL)
            .http2_keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true);
        if let Some(tls) = &settings.tls {
            endpoint = endpoint.tls_config(certificates(tls).await.map_err(Error::Link)?).map_err(failed)?;
        }
        let channel = match time::timeout(CALL, endpoint.connect()).await {
            Ok(channel) => channel.map_err(failed)?,
            Err(_) => return Err(Error::Silent),
        };
        let login = settings.auth.clone().map(|(user, password)| {
            Arc::new(Login { user, password, token: Mutex::default(), turn: tokio::sync::Mutex::default() })
        });
        let grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let client = Self { grpc, login };
        client.renew(None).await?;
        Ok(client)
    }

    pub(crate) async fn range(&self, question: RangeRequest) -> Result<RangeResponse, Error> {
        self.ask("/etcdserverpb.KV/Range", question).await
    }

    pub(crate) async fn txn(&self, question: TxnRequest) -> Result<TxnResponse, Error> {
        self.ask("/etcdserverpb.KV/Txn", question).await
    }

    pub(crate) async fn grant(&self, ttl: i64) -> Result<LeaseGrantResponse, Error> {
        self.ask("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl }).await
    }

    /// Ends a lease; one that has ended is no error.
    pub(crate) async fn revoke(&self, id: i64) -> Result<(), Error> {
        match self.ask::<_, Nothing>("/etcdserverpb.Lease/LeaseRevoke", LeaseRequest { id }).await {
            Ok(_) | Err(Error::NoLease) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The stream of changes. The first order must be in it already: the server is silent before.
    pub(crate) async fn watch(
        &self,
        orders: &Outbox<WatchRequest>,
    ) -> Result<Streaming<WatchResponse>, Error> {
        self.talk("/etcdserverpb.Watch/Watch", orders).await
    }

    /// The stream of beats; as [`Client::watch`].
    pub(crate) async fn beats(
        &self,
        beats: &Outbox<LeaseRequest>,
    ) -> Result<Streaming<LeaseKeepAliveResponse>, Error> {
        self.talk("/etcdserverpb.Lease/LeaseKeepAlive", beats).await
    }

    /// Has another token, if the present one is the one that the server refused.
    pub(crate) async fn renew(&self, stale: Option<MetadataValue<Ascii>>) -> Result<(), Error> {
        let Some(login) = &self.login else { return Ok(()) };
        let _turn = login.turn.lock().await;
        if *lock(&login.token) != stale {
            return Ok(());
        }
        let question = AuthenticateRequest { name: login.user.clone(), password: login.password.clone() };
        let mut grpc = self.grpc.clone();
        // Without a token: the server would look at the old one first.
        let path = "/etcdserverpb.Auth/Authenticate";
        let answer: AuthenticateResponse = once(&mut grpc, path, Request::new(question)).await?;
        let token = AsciiMetadataValue::try_from(answer.token);
        *lock(&login.token) =
            Some(token.map_err(|_| Error::Refused("its token cannot be sent back".to_owned()))?);
        Ok(())
    }

    pub(crate) fn token(&self) -> Option<MetadataValue<Ascii>> {
        lock(&self.login.as_ref()?.token).clone()
    }

    async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Error>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc.clone();
        let token = self.token();
        match once(&mut grpc, path, request(question.clone(), token.as_ref())).await {
            Err(Error::Token(_)) if self.login.is_some() => {
                self.renew(token).await?;
                once(&mut grpc, path, request(question, self.token().as_ref())).await
            }
            other => other,
        }
    }

    async fn talk<Q, A>(&self, path: &'static str, said: &Outbox<Q>) -> Result<Streaming<A>, Error>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc.clone();
        let request = request(said.clone(), self.token().as_ref());
        let opening = async {
            grpc.ready().await.map_err(|error| Error::Link(whole("", &error)))?;
            let codec = ProstCodec::<Q, A>::default();
            let opened = grpc.streaming(request, PathAndQuery::from_static(path), codec).await;
            opened.map(tonic::Response::into_inner).map_err(Error::from)
        };
        time::timeout(CALL, opening).await.unwrap_or(Err(Error::Silent))
    }
}

fn request<T>(what: T, token: Option<&MetadataValue<Ascii>>) -> Request<T> {
    let mut request = Request::new(what);
    // A server that has lost the others must say so instead of telling old news.
    request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}

async fn once<Q, A>(grpc: &mut Grpc<Channel>, path: &'static str, request: Request<Q>) -> Result<A, Error>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let asking = async {
        grpc.ready().await.map_err(|error| Error::Link(whole("", &error)))?;
        let answer =
            grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default()).await;
        answer.map(tonic::Response::into_inner).map_err(Error::from)
    };
    time::timeout(CALL, asking).await.unwrap_or(Err(Error::Silent))
}

/// The files that TLS needs, as they are now.
async fn certificates(tls: &Tls) -> Result<ClientTlsConfig, String> {
    let tls = tls.clone();
    let read = move || {
        let file = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(file(&tls.ca)?));
        if let Some((certificate, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(file(certificate)?, file(key)?));
        }
        Ok(match tls.name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    };
    // Files may be on a slow disk; the thread is everybody's.
    task::spawn_blocking(read).await.unwrap_or_else(|_| Err("the files of TLS cannot be read".to_owned()))
}

/// What is to be said on a stream. Whoever puts something in never waits, and sees to it that it stays small.
#[derive(Debug)]
pub(crate) struct Outbox<T>(Arc<Mutex<Waiting<T>>>);

#[derive(Debug)]
struct Waiting<T> {
    list: VecDeque<T>,
    reader: Option<Waker>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Waiting { list: VecDeque::new(), reader: None })))
    }
}

impl<T> Outbox<T> {
    pub(crate) fn add(&self, one: T) {
        let mut waiting = lock(&self.0);
        waiting.list.push_back(one);
        let reader = waiting.reader.take();
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<T> Stream for Outbox<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut waiting = lock(&self.0);
        match waiting.list.pop_front() {
            Some(one) => Poll::Ready(Some(one)),
            None => {
                waiting.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_means_is_told_by_its_code_and_words() {
        let of = |code: Code, why: &str| Error::from(Status::new(code, why));
        assert_eq!(of(Code::NotFound, "etcdserver: requested lease not found"), Error::NoLease);
        assert!(matches!(of(Code::Unauthenticated, "etcdserver: invalid auth token"), Error::Token(_)));
        let old = of(Code::InvalidArgument, "etcdserver: revision of auth store is old");
        assert!(matches!(old, Error::Token(_)) && old.is_of_link());
        assert!(of(Code::Unavailable, "etcdserver: no leader").is_of_link());
        let refused = of(Code::PermissionDenied, "etcdserver: permission denied");
        assert!(!refused.is_of_link());
        assert_eq!(refused.to_string(), "the server refuses: etcdserver: permission denied");
    }
}
