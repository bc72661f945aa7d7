//! The verdict of one protocol on the first bytes of a connection.
//!
//! Sniffers must be mutually exclusive: for any bytes at most one protocol says [`Sniff::Yes`], in whatever order
//! they are asked, so that detection is deterministic. They see a prefix of the stream and never consume it.

/// What one protocol says of the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// These bytes are ours.
    Yes,
    /// So far they could be ours; more bytes are needed to tell.
    More,
    /// They cannot be ours, whatever follows.
    No,
}
