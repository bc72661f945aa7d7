//! What a user may say of trying again, leaving out, picking by key and by speed, held against every protocol.
//!
//! One table of protocols stands behind one trait (`protocol`), one table of what endpoints do stands in `endpoint`, and
//! each policy is a test that goes over the first by means of the second: a policy that holds for one protocol only is
//! found here. What is asserted is who was asked how often and what the caller was told. Times are never asserted.
//! `POLICY_OVER=dubbo` keeps a run to one protocol.

mod balance;
mod changes;
mod demand;
mod divide;
mod endpoint;
mod frames;
mod hash;
mod hedge;
mod http1;
mod http2;
mod kill;
mod outlier;
mod protocol;
mod retry;
#[path = "../support/mod.rs"]
mod support;
mod world;
