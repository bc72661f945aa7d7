//! One gRPC connection to a Nacos server: two methods of one message, in which everything else travels as JSON.
//!
//! The connection is ours and not a pool's, so that dropping a [`Link`] ends it at once; a pool would bring back what we
//! gave up. Knows nothing of what the messages mean. Must never wait without a limit.
//! Source: `nacos_grpc_service.proto` of Nacos 2 (package of the services: none).

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::PathAndQuery};
use hyper::{body::Incoming, client::conn::http2, rt::Executor};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::Stream;
use tonic::{Request, body::Body, client::Grpc};
use tonic_prost::ProstCodec;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// The longest message that is read: the whole list of some ten thousand instances.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// How much of a message may be under way; the default of 64 KiB would make long lists slow.
const WINDOW_BYTES: u32 = 1 << 20;
/// Answers to the server that may wait to be sent.
const ANSWERS_MAX: usize = 64;

/// Every message, in both directions.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Payload {
    /// What it is.
    #[prost(message, optional, tag = "2")]
    pub(crate) metadata: Option<Metadata>,
    /// What it says.
    #[prost(message, optional, tag = "3")]
    pub(crate) body: Option<Any>,
}

/// What a message is, and who sends it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    /// The class of the message, such as `InstanceRequest`.
    #[prost(string, tag = "3")]
    pub(crate) kind: String,
    /// The sender's address; the server shows it to people.
    #[prost(string, tag = "8")]
    pub(crate) client_ip: String,
    /// Among them `accessToken`.
    #[prost(map = "string, string", tag = "7")]
    pub(crate) headers: HashMap<String, String>,
}

/// `google.protobuf.Any`, of which only the value is used.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Any {
    /// JSON.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

impl Payload {
    /// What it is; empty if it does not say.
    pub(crate) fn kind(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| &metadata.kind)
    }

    /// What it says, as JSON; empty if nothing.
    pub(crate) fn json(&self) -> &[u8] {
        self.body.as_ref().map_or(&[], |body| &body.value)
    }
}

/// A connection; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Link {
    sender: Sender,
    origin: Uri,
    /// Our end's address.
    pub(crate) local: SocketAddr,
    tasks: Tasks,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}

/// The tasks that move the connection's bytes. They end together, and the socket with them; left to themselves they would
/// stay for as long as any stream does.
#[derive(Clone, Debug, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn with<T>(&self, change: impl FnOnce(&mut JoinSet<()>) -> T) -> T {
        // A panic elsewhere leaves the set whole.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.with(|tasks| {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move { drop(task.await) });
        });
    }
}

/// What the server sends by itself, and the way back.
#[derive(Debug)]
pub(crate) struct Talk {
    /// Ends with the connection, at times after saying why.
    pub(crate) heard: mpsc::Receiver<Result<Payload, String>>,
    pub(crate) say: mpsc::Sender<Payload>,
}

impl Link {
    /// Connects to the gRPC port at `address`, `host:port`.
    pub(crate) async fn connect(address: &str) -> Result<Self, String> {
        let origin: Uri =
            format!("http://{address}").parse().map_err(|_| format!("{address} is no address"))?;
        let tasks = Tasks::default();
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let local = stream.local_addr().map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let (sender, connection) = http2::Builder::new(tasks.clone())
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
            Ok((sender, connection, local))
        };
        let connected: Result<_, String> = match timeout(CONNECT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err("no connection in time".to_owned()),
        };
        let (sender, connection, local) = connected.map_err(|why| format!("{address}: {why}"))?;
        // Its end is seen by the stream of the server's messages, which ends with it.
        tasks.execute(connection);
        Ok(Self { sender: Sender(sender), origin, local, tasks })
    }

    /// Ends the connection now, whoever still has it: what waits for an answer fails.
    pub(crate) fn end(&self) {
        self.tasks.with(JoinSet::abort_all);
    }

    /// Asks, and waits for the answer as long as `limit`.
    pub(crate) async fn ask(&self, question: Payload, limit: Duration) -> Result<Payload, String> {
        let mut grpc = self.grpc();
        let path = PathAndQuery::from_static("/Request/request");
        let asking = grpc.unary(Request::new(question), path, ProstCodec::<Payload, Payload>::default());
        match timeout(limit, asking).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(words(&status)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Opens the stream on which the server talks, with our first word. The server does not open its half before it has
    /// something to say, so nothing is waited for here.
    pub(crate) fn talk(&self, first: Payload) -> Result<Talk, String> {
        let (say, said) = mpsc::channel(ANSWERS_MAX);
        let (tell, heard) = mpsc::channel(1);
        say.try_send(first).map_err(|error| error.to_string())?;
        let mut grpc = self.grpc();
        self.tasks.execute(async move {
            let path = PathAndQuery::from_static("/BiRequestStream/requestBiStream");
            let codec = ProstCodec::<Payload, Payload>::default();
            let mut stream = match grpc.streaming(Request::new(Said(said)), path, codec).await {
                Ok(opened) => opened.into_inner(),
                Err(status) => return drop(tell.send(Err(words(&status))).await),
            };
            loop {
                let message = match stream.message().await {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => return,
                    Err(status) => Err(words(&status)),
                };
                let last = message.is_err();
                if tell.send(message).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Talk { heard, say })
    }

    fn grpc(&self) -> Grpc<Sender> {
        Grpc::with_origin(self.sender.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// What a status says to people.
fn words(status: &tonic::Status) -> String {
    let source = std::error::Error::source(status).map(ToString::to_string).unwrap_or_default();
    match status.message() {
        "" => format!("{:?} {source}", status.code()),
        message => format!("{message} {source}"),
    }
    .trim_end()
    .to_owned()
}

/// The sending half of the connection, as tonic wants it.
#[derive(Clone, Debug)]
struct Sender(http2::SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Sender {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<http::Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// What we say on the stream.
struct Said(mpsc::Receiver<Payload>);

impl Stream for Said {
    type Item = Payload;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Payload>> {
        self.0.poll_recv(context)
    }
}
