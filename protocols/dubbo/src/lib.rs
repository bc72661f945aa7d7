//! The Dubbo2 protocol (`dubbo://`), to carry its calls without unpacking them.
//!
//! [`Dubbo`] is the [`FrameCodec`](outrigger_codec::FrameCodec): frames by a header of 16 bytes, heads read from
//! Hessian 2.0 and fastjson2 bodies by stepping over the arguments, refusals with a message that the Java
//! exception shows. All other serializations are carried untouched.
//!
//! * `layout`: the fixed header and its numbers, as tables.
//! * `codec`: framing, kinds, outcomes, and the frames of our own.
//! * `head`: from a request's body to the table of offsets.
//! * [`values`]: what a head needs of a serialization, and the bounds of every walk.
//! * [`hessian`], [`fastjson2`]: the two walkers.
//! * [`invoke`]: a call of our own, and its answer built by [`hessian::tree`].
//!
//! Every function takes whatever bytes come: `Dubbo::scan`, `sniff`, `head`, `ticket`, `outcome`, `set_id` and
//! `heartbeat_ack`, and `skip` and `read` of [`hessian::Walker`] and [`fastjson2::Walker`] (the latter by
//! [`values::Values`]), and `Tree::read` and `invoke::read` are the entry points to fuzz.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod change;
mod codec;
pub mod fastjson2;
mod head;
pub mod hessian;
pub mod invoke;
mod layout;
pub mod values;

pub use codec::Dubbo;
