//! What is known of bridges, for `/registries` and `/metrics`.
//!
//! Told by the control thread; nothing decides by it. No name of a service becomes a label of a metric: there may be thousands.

use serde::Serialize;

/// A bridge.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BridgeFacts {
    /// The registry that services are found in.
    pub from: String,
    /// The registry that they are made known in.
    pub to: String,
    /// `leading`, `standby` or `frozen`.
    pub role: &'static str,
    /// Who writes, as far as this sidecar knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The number of the writer's term.
    pub term: u64,
    /// Services that are carried.
    pub services: usize,
    /// Instances of theirs that were found.
    pub instances: usize,
    /// Entries that shall stand there by this sidecar's hand.
    pub entries: usize,
    /// Services whose last change is not written yet.
    pub waiting: usize,
    /// Writes that are not confirmed.
    pub pending: usize,
    /// Instances that are not carried.
    pub skipped: Skipped,
    /// Why nothing is taken away just now though less is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Instances that are not carried, by the reason.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Skipped {
    /// They are copies themselves.
    pub copies: usize,
    /// They are not to be called.
    pub off: usize,
    /// They stand there by themselves.
    pub there: usize,
    /// The registry could not hold them.
    pub refused: usize,
}
