//! A small HTTP server on loopback, for one framework's calls: who may ask, how much, and how long it may take.
//!
//! Whoever reaches it decides what is registered in the application's name. A browser must not be made a tool of for that: a
//! foreign `Host` (DNS rebinding) and any `Origin` are refused. Every call has its answer, in the words of the framework's
//! client; a call that is refused changes nothing.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use outrigger_discovery::Framework;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
};

use super::{Asked, Reply, dubbod, sofarpc};
use crate::control::admin;

/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 64;
/// The longest body.
const BODY_MAX: usize = 1 << 20;
/// How long a head may take, and a connection be idle.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long whoever subscribes waits for the first word of a registry: clients wait longer for a call, but not much.
const FOUND_TIME: Duration = Duration::from_secs(2);
/// How long the memory may take to be on disk.
const KEPT_TIME: Duration = Duration::from_secs(1);
/// How long the control thread may take.
const ASK_TIME: Duration = Duration::from_secs(5);
/// Pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(50);

type Answer = Response<Full<Bytes>>;

/// Ends with its handle; calls that were begun are answered.
#[derive(Debug)]
pub(super) struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A socket, bound and not yet served; and where.
pub(super) fn bind(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves the calls of a framework.
pub(super) fn serve(
    listener: std::net::TcpListener,
    framework: Framework,
    asks: mpsc::Sender<Asked>,
) -> io::Result<Serving> {
    let listener = TcpListener::from_std(listener)?;
    Ok(Serving(tokio::spawn(accept(listener, framework, asks)).abort_handle()))
}

async fn accept(listener: TcpListener, framework: Framework, asks: mpsc::Sender<Asked>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&connections).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let asks = asks.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let asks = asks.clone();
                async move { Ok::<_, std::convert::Infallible>(answer(request, framework, &asks).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
            server.max_headers(64).max_buf_size(64 << 10);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(slot);
        });
    }
}

async fn answer(request: Request<Incoming>, framework: Framework, asks: &mpsc::Sender<Asked>) -> Answer {
    let refused = |status: StatusCode, why: &str| json(status, &refusal(framework, why));
    if let Some(why) = foreign(&request) {
        return refused(StatusCode::FORBIDDEN, why);
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if ask(framework, path, b"").is_none() {
        return refused(StatusCode::NOT_FOUND, "there is no such call");
    }
    if parts.method != Method::POST {
        let mut answer = refused(StatusCode::METHOD_NOT_ALLOWED, "this call is made by POST");
        answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        return answer;
    }
    let read = tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_MAX).collect()).await;
    let body = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "a body is at most 1 MiB");
        }
        Ok(Err(_)) => return refused(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    match ask(framework, path, &body) {
        Some(Ok(ask)) => carry_out(framework, path, ask, asks).await,
        Some(Err(why)) if framework == Framework::Sofarpc => {
            let (status, answer) = sofarpc::refused(&why, true);
            json(status, &answer)
        }
        Some(Err(why)) => json(StatusCode::OK, &dubbod::refused(&why)),
        None => refused(StatusCode::NOT_FOUND, "there is no such call"),
    }
}

/// What a call asks for; `None`: there is no such call.
fn ask(framework: Framework, path: &str, body: &[u8]) -> Option<Result<super::Ask, String>> {
    if framework == Framework::Sofarpc { sofarpc::ask(path, body) } else { dubbod::ask(path, body) }
}

async fn carry_out(framework: Framework, path: &str, ask: super::Ask, asks: &mpsc::Sender<Asked>) -> Answer {
    let (reply, replied) = oneshot::channel();
    let asked = Asked { framework, ask: ask.clone(), reply };
    let told = async {
        asks.send(asked).await.ok()?;
        replied.await.ok()
    };
    let Reply { change, mut kept, found } = match tokio::time::timeout(ASK_TIME, told).await {
        Ok(Some(Ok(reply))) => reply,
        Ok(Some(Err(why))) if framework == Framework::Sofarpc => {
            let (status, answer) = sofarpc::refused(&why, false);
            return json(status, &answer);
        }
        Ok(Some(Err(why))) => return json(StatusCode::OK, &dubbod::refused(&dubbod::refusal(path, &why))),
        _ => return json(StatusCode::SERVICE_UNAVAILABLE, &refusal(framework, "the sidecar is ending")),
    };
    let found = async {
        match found {
            Some(found) => tokio::time::timeout(FOUND_TIME, found).await.ok()?.ok(),
            None => None,
        }
    };
    // What is answered is known after a restart; a disk that is slow keeps nobody.
    let kept = async {
        let _ = tokio::time::timeout(KEPT_TIME, kept.wait_for(|written| *written >= change)).await.is_ok();
    };
    let (found, ()) = tokio::join!(found, kept);
    let found = found.unwrap_or_else(|| Arc::from([]));
    let answer =
        if framework == Framework::Sofarpc { sofarpc::done(&ask, &found) } else { dubbod::done(&ask) };
    json(StatusCode::OK, &answer)
}

/// Why a call may be a stranger's by way of somebody's browser.
fn foreign<B>(request: &Request<B>) -> Option<&'static str> {
    if request.headers().contains_key(header::ORIGIN) {
        return Some("pages have no business here");
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let ours = |host: &header::HeaderValue| host.to_str().is_ok_and(|host| admin::ours(host, false));
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if ours(host) => None,
        _ => Some("this Host is not ours: call 127.0.0.1 or localhost"),
    }
}

fn refusal(framework: Framework, why: &str) -> Value {
    if framework == Framework::Sofarpc { sofarpc::refused(why, true).1 } else { dubbod::refused(why) }
}

fn json(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Full::new(value.to_string().into()));
    *answer.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_no_tool_against_it() {
        let from = |headers: &[(&str, &str)]| {
            let mut request = Request::post("/services/publish");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            foreign(&request.body(()).unwrap()).is_some()
        };
        assert!(!from(&[("Host", "127.0.0.1:13330")]) && !from(&[("Host", "localhost:13330")]));
        assert!(!from(&[("Host", "[::1]:13330")]));
        for headers in [
            &[][..],
            &[("Host", "evil.example:13330")],
            &[("Host", "10.0.0.1:13330")],
            &[("Host", "127.0.0.1:13330"), ("Host", "evil.example")],
            &[("Host", "127.0.0.1:13330"), ("Origin", "http://127.0.0.1:13330")],
            &[("Host", "127.0.0.1:13330"), ("Origin", "null")],
        ] {
            assert!(from(headers), "{headers:?}");
        }
    }
}
