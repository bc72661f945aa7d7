//! SOFA Bolt, versions 1 and 2, as a codec of whole frames.
//!
//! Bytes come in as slices and go out into a `Vec<u8>`: nothing here opens a socket, reads a clock, or allocates
//! by a length that a peer declared. Content stays opaque, except that the method and the service are read from
//! a Hessian `SofaRequest` when the client left them out of the header map (Node clients do).
//!
//! * `layout`: the fixed headers as tables of offsets, and the reader of a frame's first bytes.
//! * `codec`: [`Bolt`], the `FrameCodec`.
//! * `head`: the header map of a request, and of a response.
//! * [`hessian_draft`]: a walker over Hessian 2 *draft* values.
//!
//! Reference: sofa-bolt 1.6 (`RpcCommandDecoder`, `RpcCommandDecoderV2`), SOFARPC 5.13 (`SofaRpcSerialization`).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod change;
mod codec;
mod head;
pub mod hessian_draft;
mod layout;

pub use codec::Bolt;
