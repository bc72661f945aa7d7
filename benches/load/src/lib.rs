//! Measures RPC proxies: what a call costs and whether every answer is the right one.
//!
//! Two programs share this library: `load` (closed and open loop, idle connections, time to the first answer) and
//! `echo` (the service behind the proxy). Both are one thread over epoll, because anything richer would compete with
//! itself for the single core it is given and would blur what is measured.
//!
//! Must never use the product's own codecs: frames are rebuilt here from captures of real peers (HTTP/1: from its
//! specification; gRPC: from
//! those of HTTP/2 and its own), so that a mistake in the product cannot cancel out against the same mistake in its judge.

pub mod client;
pub mod cpu;
pub mod drive;
pub mod echo;
pub mod grpc;
pub mod hpack;
pub mod http1;
pub mod http2;
pub mod payload;
pub mod poll;
pub mod report;
pub mod special;
pub mod stream;
pub mod strings;
pub mod wire;
