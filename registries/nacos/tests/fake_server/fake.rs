//! A Nacos that does what it is told, for what a real one cannot be made to do: to forget, to refuse, to talk nonsense.
//!
//! Speaks gRPC and JSON by its own reading of them. Keeps what is registered by service, and answers queries with it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    #[prost(message, optional, tag = "3")]
    body: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(map = "string, string", tag = "7")]
    headers: std::collections::HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

type Body = BoxBody<Bytes, Infallible>;

/// What it has and what it does.
#[derive(Default)]
pub(crate) struct Mind {
    /// Instances by the name of the service.
    pub(crate) hosts: BTreeMap<String, Vec<Value>>,
    /// How often each kind of question was asked.
    pub(crate) asked: BTreeMap<String, usize>,
    /// Kinds of questions that are answered with this code instead; the number counts down.
    pub(crate) refuses: BTreeMap<String, (usize, i32)>,
    /// Only who has this token is let in.
    pub(crate) token: Option<String>,
    /// The user and password that get the token.
    pub(crate) user: Option<(String, String)>,
    /// Answers about services have no service in them.
    pub(crate) tells_nothing: bool,
    /// Where the stream of each connection is.
    streams: Vec<mpsc::Sender<Payload>>,
}

/// The server; it ends with the runtime of its test.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) address: String,
    mind: Arc<Mutex<Mind>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        // gRPC is 1000 above, so both must be free.
        let (http, grpc) = loop {
            let http = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = http.local_addr().expect("an address").port();
            if let Some(above) = port.checked_add(1_000)
                && let Ok(grpc) = TcpListener::bind(("127.0.0.1", above)).await
            {
                break (http, grpc);
            }
        };
        let address = http.local_addr().expect("an address").to_string();
        let fake = Self { address, mind: Arc::default() };
        tokio::spawn(fake.clone().serve_http(http));
        tokio::spawn(fake.clone().serve_grpc(grpc));
        fake
    }

    pub(crate) fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().expect("its mind")
    }

    /// Tells something to all who are connected.
    pub(crate) async fn tell(&self, kind: &str, message: Value) {
        let streams = self.mind().streams.clone();
        for stream in streams {
            // One that is gone hears nothing.
            drop(stream.send(payload(kind, &message)).await);
        }
    }

    async fn serve_http(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let fake = self.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let fake = fake.clone();
                async move { Ok::<_, Infallible>(fake.login(request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn login(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        assert_eq!(request.uri().path(), "/nacos/v1/auth/login");
        let form = request.into_body().collect().await.expect("a form").to_bytes();
        let mind = self.mind();
        let (name, password) = mind.user.as_ref().expect("a user");
        if form == format!("username={name}&password={password}") {
            let answer = json!({ "accessToken": mind.token, "tokenTtl": 18_000, "globalAdmin": true });
            return Response::new(Full::from(answer.to_string()));
        }
        Response::builder().status(403).body(Full::from("unknown user!")).expect("an answer")
    }

    async fn serve_grpc(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let fake = self.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let fake = fake.clone();
                async move { Ok::<_, Infallible>(fake.call(request).await) }
            });
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
            );
        }
    }

    async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        let (said, hears) = mpsc::channel(64);
        if request.uri().path() == "/BiRequestStream/requestBiStream" {
            self.mind().streams.push(said);
            // What is answered to us needs no reading.
            tokio::spawn(request.into_body().collect());
        } else {
            let bytes = request.into_body().collect().await.expect("a question").to_bytes();
            let question = Payload::decode(&bytes[5..]).expect("a payload");
            said.try_send(self.answer(&question)).expect("room");
        }
        let frames = ReceiverStream::new(hears).map(|payload| Frame::data(framed(&payload)));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        let frames = frames.chain(tokio_stream::once(Frame::trailers(trailers)));
        let body = StreamBody::new(frames.map(Ok::<_, Infallible>)).boxed();
        Response::builder().header("content-type", "application/grpc").body(body).expect("an answer")
    }

    fn answer(&self, question: &Payload) -> Payload {
        let metadata = question.metadata.as_ref().expect("metadata");
        let kind = metadata.kind.clone();
        let message: Value =
            serde_json::from_slice(&question.body.as_ref().expect("a body").value).expect("JSON");
        let mut mind = self.mind();
        *mind.asked.entry(kind.clone()).or_default() += 1;
        let refused = mind.refuses.get_mut(&kind).and_then(|(times, code)| {
            let refused = (*times > 0).then_some(*code);
            *times = times.saturating_sub(1);
            refused
        });
        let stranger = mind.token.is_some() && metadata.headers.get("accessToken") != mind.token.as_ref();
        if stranger || refused.is_some() {
            let code = refused.unwrap_or(403);
            let message = if stranger { "token expired!".to_owned() } else { format!("refused by {code}") };
            let no = json!({ "resultCode": 500, "errorCode": code, "message": message });
            return payload("ErrorResponse", &no);
        }
        let name = message["serviceName"].as_str().unwrap_or_default().to_owned();
        let mut yes = json!({ "resultCode": 200, "errorCode": 0 });
        match (kind.as_str(), message["type"].as_str()) {
            ("InstanceRequest", Some("registerInstance")) => {
                mind.hosts.insert(name, vec![message["instance"].clone()]);
            }
            ("InstanceRequest", _) => drop(mind.hosts.remove(&name)),
            ("BatchInstanceRequest", _) => {
                mind.hosts.insert(name, message["instances"].as_array().expect("instances").clone());
            }
            ("SubscribeServiceRequest" | "ServiceQueryRequest", _) if mind.tells_nothing => {}
            ("SubscribeServiceRequest" | "ServiceQueryRequest", _) => yes["serviceInfo"] = mind.info(&name),
            ("ServiceListRequest", _) => {
                yes["count"] = json!(mind.hosts.len());
                yes["serviceNames"] = mind.hosts.keys().cloned().collect();
            }
            ("ConfigQueryRequest", _) => {
                let no = json!({ "resultCode": 500, "errorCode": 300, "message": "config data not exist" });
                return payload("ConfigQueryResponse", &no);
            }
            _ => {}
        }
        payload(&kind.replace("Request", "Response"), &yes)
    }
}

impl Mind {
    /// A service, as it is told.
    pub(crate) fn info(&self, name: &str) -> Value {
        let hosts = self.hosts.get(name).cloned().unwrap_or_default();
        json!({ "name": name, "groupName": "DEFAULT_GROUP", "lastRefTime": 1, "hosts": hosts })
    }

    /// How many are connected.
    pub(crate) fn connected(&self) -> usize {
        self.streams.iter().filter(|stream| !stream.is_closed()).count()
    }

    /// How often a kind of question was asked.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.asked.get(kind).copied().unwrap_or_default()
    }
}

fn payload(kind: &str, message: &Value) -> Payload {
    let metadata = Metadata { kind: kind.to_owned(), ..Metadata::default() };
    Payload { metadata: Some(metadata), body: Some(Any { value: message.to_string().into_bytes() }) }
}

/// A message as gRPC frames it: a flag, a length and the bytes.
fn framed(payload: &Payload) -> Bytes {
    let bytes = payload.encode_to_vec();
    let mut frame = BytesMut::with_capacity(bytes.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(bytes.len()).expect("a length"));
    frame.extend_from_slice(&bytes);
    frame.freeze()
}
