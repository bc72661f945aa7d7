//! What the versions of HTTP share: classes of bytes, the reading of targets and hosts, answers of our own, and what the
//! next hop is told.
//!
//! Semantics alone (RFC 9110, RFC 3986), no version's framing. It must never repair what it reads.

pub mod answer;
pub mod chars;
pub mod grpc;
pub mod hop;
pub mod target;
