//! HTTP/1 callers of endpoints that speak HTTP/2, and the other way round: what each side reads on the wire.
//!
//! Whatever the framing of the one side, the other must see the same message in its own, or see that it is not whole: an
//! answer that broke off may never look like an end. Both sides are written byte by byte and read strictly. Times are
//! only ever bounded generously.

mod down;
mod life;
mod losses;
#[path = "../support/mod.rs"]
mod support;
mod up;
mod volume;

use std::time::Duration;

use support::{Sidecar, http1, http2_upstream};

pub(crate) const SOON: Duration = Duration::from_secs(5);
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// HTTP/1 callers, one endpoint that speaks HTTP/2. `listener` are more lines, `route` more keys.
pub(crate) fn to_new(upstream: &http2_upstream::Upstream, listener: &str, route: &str) -> Sidecar {
    http2_upstream::straight(&upstream.address(), "http1", (listener, route, "protocol: http2"))
}

/// HTTP/2 callers, one endpoint that speaks HTTP/1. `listener` are more lines, `route` more keys.
pub(crate) fn to_old(upstream: &http1::Upstream, listener: &str, route: &str) -> Sidecar {
    http2_upstream::straight(&upstream.address(), "http2", (listener, route, "protocol: http1"))
}

/// The beginning of a request whose body comes in chunks; `more` are whole header lines.
pub(crate) fn chunked(target: &str, more: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: test.example\r\n{more}Transfer-Encoding: chunked\r\n\r\n")
}
