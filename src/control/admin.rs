//! The admin port: what is going on, for people and for probes, and a few levers.
//!
//! Served by the control thread, so that no reader of it can slow a call. What changes anything is POST only. A browser
//! must not be made a tool against it: a foreign `Host` (DNS rebinding) or `Origin` (cross-site request) is refused.

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
};

use super::Ask;
use crate::{
    logs,
    telemetry::{self, Joined},
    worker::Detail,
};

/// Readers at once; more wait.
const READERS_MAX: usize = 32;
/// Time for a reader to send its request, and to be answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// No request has a body worth reading.
const BODY_MAX: u64 = 64 << 10;

fn open_spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn lock(spare: &Mutex<Option<File>>) -> MutexGuard<'_, Option<File>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answer = Response<Full<Bytes>>;

/// Listens on `address`; where that is, for port 0.
pub fn serve(address: SocketAddr, remote: bool, asks: mpsc::UnboundedSender<Ask>) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(accept(listener, remote, asks));
    Ok(bound)
}

/// Accepts readers, also when no file descriptor is left: then a spare one is given up for the next of them.
async fn accept(listener: TcpListener, remote: bool, asks: mpsc::UnboundedSender<Ask>) {
    let readers = Arc::new(Semaphore::new(READERS_MAX));
    let spare = Arc::new(Mutex::new(open_spare()));
    loop {
        let Ok(reader) = Arc::clone(&readers).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => match accept_with(&spare, &listener).await {
                Some(stream) => stream,
                None => continue,
            },
        };
        let (asks, spare) = (asks.clone(), Arc::clone(&spare));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let asks = asks.clone();
                async move { Ok::<_, std::convert::Infallible>(answer(&request, remote, &asks).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_headers(64);
            let served = server.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(6 * PATIENCE, served).await;
            // The descriptor just closed becomes the spare one again, before anybody else can take it.
            let mut spare = lock(&spare);
            if spare.is_none() {
                *spare = open_spare();
            }
            drop(spare);
            drop(reader);
        });
    }
}

/// Accepts with the spare descriptor. Given back at once when nobody waits: the kernel says that none is left also then.
async fn accept_with(spare: &Mutex<Option<File>>, listener: &TcpListener) -> Option<TcpStream> {
    if lock(spare).take().is_some() {
        let once = std::future::poll_fn(|waking| Poll::Ready(listener.poll_accept(waking))).await;
        if let Poll::Ready(Ok((stream, _))) = once {
            return Some(stream);
        }
        *lock(spare) = open_spare();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    None
}

async fn answer(request: &Request<Incoming>, remote: bool, asks: &mpsc::UnboundedSender<Ask>) -> Answer {
    if let Some(why) = foreign(request, remote) {
        return text(StatusCode::FORBIDDEN, why);
    }
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
    if length.unwrap_or(0) > BODY_MAX {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body");
    }
    let path = request.uri().path();
    let (reads, changes) = (
        ["/", "/live", "/ready", "/metrics", "/stats", "/clusters", "/registries", "/config"].contains(&path),
        ["/drain", "/reload", "/log"].contains(&path),
    );
    match (reads, changes, request.method()) {
        (true, _, &Method::GET | &Method::HEAD) => read(path, asks).await,
        (_, true, &Method::POST) => change(path, request.uri().query().unwrap_or_default(), asks).await,
        (false, false, _) => text(StatusCode::NOT_FOUND, "no such page; GET / lists them"),
        (reads, ..) => {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "this page takes another method");
            let allow = if reads { "GET, HEAD" } else { "POST" };
            refusal.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
            refusal
        }
    }
}

const INDEX: &str = "\
outrigger admin

GET  /live      200 while the process runs
GET  /ready     200 when calls are taken, otherwise 503 and why
GET  /metrics   counters, for Prometheus
GET  /stats     the same, for people and scripts (JSON)
GET  /clusters  clusters, endpoints and how they do (JSON)
GET  /registries  registries, what is watched and made known there (JSON)
GET  /config    the conf in force (JSON)
POST /reload    read the conf file again; 400 and every mistake when it is wrong
POST /drain     take no new connections, finish calls, exit
POST /log?level=debug  trace, debug, info, warn, error, off; also per module: info,outrigger::session=debug
";

async fn read(path: &str, asks: &mpsc::UnboundedSender<Ask>) -> Answer {
    match path {
        "/" => text(StatusCode::OK, INDEX),
        "/live" => text(StatusCode::OK, "live\n"),
        "/ready" => match ask(asks, Ask::Ready).await {
            Some(Ok(())) => text(StatusCode::OK, "ready\n"),
            Some(Err(why)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: ending\n"),
        },
        "/config" => json_answer(ask(asks, Ask::Written).await),
        "/metrics" => match joined(asks, Detail::Counts).await {
            Some(joined) => {
                let mut page = text(StatusCode::OK, telemetry::metrics::render(&joined));
                let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                page.headers_mut().insert(header::CONTENT_TYPE, kind);
                page
            }
            None => text(StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
        },
        "/registries" => json_answer(
            joined(asks, Detail::None).await.map(|joined| telemetry::stats::registries(&joined.facts)),
        ),
        "/stats" => {
            json_answer(joined(asks, Detail::None).await.map(|joined| telemetry::stats::stats(&joined)))
        }
        _ => json_answer(joined(asks, Detail::All).await.map(|joined| telemetry::stats::clusters(&joined))),
    }
}

async fn joined(asks: &mpsc::UnboundedSender<Ask>, detail: Detail) -> Option<Joined> {
    ask(asks, |reply| Ask::Joined(detail, reply)).await
}

async fn change(path: &str, query: &str, asks: &mpsc::UnboundedSender<Ask>) -> Answer {
    match path {
        "/drain" => {
            let _ = asks.send(Ask::Drain);
            text(StatusCode::OK, "draining\n")
        }
        "/reload" => match ask(asks, Ask::Reload).await {
            Some(Ok(revision)) => json_answer(Some(json!({ "revision": revision }))),
            Some(Err(report)) => text(StatusCode::BAD_REQUEST, report),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
        },
        _ => {
            let level = query.split('&').find_map(|pair| pair.strip_prefix("level="));
            match level.map(logs::set) {
                Some(Ok(())) => text(StatusCode::OK, "done\n"),
                Some(Err(why)) => text(StatusCode::BAD_REQUEST, why),
                None => text(StatusCode::BAD_REQUEST, "write POST /log?level=debug\n"),
            }
        }
    }
}

async fn ask<T>(
    asks: &mpsc::UnboundedSender<Ask>,
    what: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    asks.send(what(reply)).ok()?;
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}

/// Why a request may be a stranger's by way of somebody's browser.
fn foreign(request: &Request<Incoming>, remote: bool) -> Option<&'static str> {
    // Two of either would let one be checked and the other be meant.
    let twice = |name: header::HeaderName| request.headers().get_all(name).iter().nth(1).is_some();
    if twice(header::HOST) || twice(header::ORIGIN) {
        return Some("more than one Host or Origin\n");
    }
    let named =
        |name: header::HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = named(header::HOST).unwrap_or_default();
    if !ours(host, remote) {
        return Some("this Host is not ours\n");
    }
    let origin = named(header::ORIGIN)?;
    let same = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    (!same).then_some("this Origin is not ours\n")
}

/// Whether a `Host` may name this port: an address, or `localhost`. A name that somebody's DNS gave is not, unless the
/// port was opened to others, who will have named it.
pub(super) fn ours(host: &str, remote: bool) -> bool {
    let name = match host.parse::<SocketAddr>() {
        Ok(address) => return remote || address.ip().is_loopback(),
        Err(_) => host
            .rsplit_once(':')
            .map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host }),
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => remote || ip.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || (remote && !name.is_empty()),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn json_answer(value: Option<serde_json::Value>) -> Answer {
    let Some(value) = value else { return text(StatusCode::SERVICE_UNAVAILABLE, "ending\n") };
    let mut answer = text(StatusCode::OK, format!("{value:#}\n"));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_a_strangers_dns_gave_is_not_ours() {
        for host in ["127.0.0.1:15000", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:15000", "[::1]"] {
            assert!(ours(host, false), "{host}");
        }
        for host in [
            "",
            "evil.example:15000",
            "evil.example",
            "10.0.0.1:15000",
            "127.0.0.1.evil.example",
            "localhost.evil",
        ] {
            assert!(!ours(host, false), "{host}");
        }
        assert!(ours("10.0.0.1:15000", true) && ours("sidecar.example", true) && !ours("", true));
    }
}
