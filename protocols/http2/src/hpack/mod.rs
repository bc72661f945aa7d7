//! HPACK: header lists to bytes and back, with the tables that both sides of a connection keep in step.
//!
//! Source: RFC 7541; sections are named beside what follows them. It must never let a block cost more than its own bytes
//! and the limits of the list allow, never keep more than the tables' sizes allow, never allocate once warm, and never
//! put a field into a table that was to stay out of them.
//!
//! * `integer`, `huffman`: the two primitives.
//! * `statics`, `table`: what an index may mean.
//! * `decode`, `encode`: the two ends.

mod decode;
mod encode;
mod huffman;
mod integer;
mod statics;
mod table;

pub use decode::Decoder;
pub use encode::{Encoder, Indexing};
use outrigger_codec::Span;

/// One decoded header field, as offsets into the arena it was decoded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where the name is.
    pub name: Span,
    /// Where the value is.
    pub value: Span,
    /// What the caller's `classify` said of it.
    pub class: u8,
    /// It arrived as never indexed, and must go on as such (RFC 7541 §6.2.3).
    pub never: bool,
}

/// The bounds of one header list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListLimits {
    /// Bytes of names and values, and 32 for each field: `SETTINGS_MAX_HEADER_LIST_SIZE` (RFC 9113 §6.5.2).
    pub bytes: usize,
    /// Fields.
    pub lines: usize,
}

/// What became of a header block that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// All of it is in the list.
    Whole,
    /// The list ends where a limit was met. The table is as the peer believes it to be: the connection may go on.
    TooLarge,
}

/// A block that cannot be read. The tables are out of step: the connection must end (`COMPRESSION_ERROR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// What an entry costs beyond its name and its value (RFC 7541 §4.1).
const ENTRY: usize = 32;

/// The size of a table before anyone speaks of it (RFC 9113 §6.5.2).
const TABLE: usize = 4096;
