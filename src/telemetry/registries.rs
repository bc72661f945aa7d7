//! What is known of registries and of what is made known in them, for `/registries` and `/metrics`.
//!
//! Told by the control thread; nothing decides by it. No name of a service becomes a label of a metric: there may be thousands.

use outrigger_discovery::Status;
use serde::Serialize;

/// A registry.
#[derive(Clone, Debug, Serialize)]
pub struct RegistryFacts {
    /// What kind it is.
    pub kind: &'static str,
    /// Whether it can be asked.
    pub connected: bool,
    /// How old the present connection is, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_age_s: Option<u64>,
    /// How long ago it said something, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heard_s: Option<u64>,
    /// Connections so far.
    pub connections: u64,
    /// Entries that could not be read, so far.
    pub unreadable: u64,
    /// What was wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What is watched there.
    pub watches: Vec<WatchFacts>,
}

impl RegistryFacts {
    /// What its status says.
    pub fn new(kind: &'static str, status: &Status) -> Self {
        Self {
            kind,
            connected: status.connected.is_some(),
            connection_age_s: status.connected.map(|since| since.elapsed().as_secs()),
            last_heard_s: status.heard.map(|at| at.elapsed().as_secs()),
            connections: status.connections,
            unreadable: status.unreadable,
            trouble: status.trouble.clone(),
            watches: Vec::new(),
        }
    }
}

/// A service that is watched.
#[derive(Clone, Debug, Serialize)]
pub struct WatchFacts {
    /// The cluster that is made of it.
    pub cluster: String,
    /// The service.
    pub service: String,
    /// Only this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Only this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whose it is.
    pub framework: &'static str,
    /// Changes so far.
    pub generation: u64,
    /// Instances in force; none: nothing is known yet.
    pub instances: Option<usize>,
    /// How long ago they changed, in seconds.
    pub changed_s: u64,
    /// Why the registry cannot be asked about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// How often changes may have been missed, after which all was asked again.
    pub gaps: u64,
    /// Why they may have been, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Fewer instances are told, and doubted.
    pub held: bool,
    /// What is in force is from before this process, and not confirmed.
    pub stale: bool,
}

/// A service of the application that shall be known.
#[derive(Clone, Debug, Serialize)]
pub struct RegisterFacts {
    /// The service.
    pub service: String,
    /// In whose formats.
    pub framework: &'static str,
    /// Where, if it is Dubbo's.
    pub level: &'static str,
    /// Where the application is asked for it.
    pub local: String,
    /// The application said so itself.
    pub learned: bool,
    /// Why it is not made known; none: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// How far that is, by registry.
    pub registries: Vec<InRegistry>,
}

/// How far a registry is.
#[derive(Clone, Debug, Serialize)]
pub struct InRegistry {
    /// Its name.
    pub registry: String,
    /// What others dial; none: it is not known yet.
    pub address: Option<String>,
    /// Writes that are not confirmed, of all services there.
    pub pending: usize,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What the application said of itself.
#[derive(Clone, Debug, Serialize)]
pub struct LearnedFacts {
    /// Services that it gives.
    pub published: usize,
    /// Services that it wants.
    pub subscribed: Vec<SubscribedFacts>,
}

/// A service that the application wants.
#[derive(Clone, Debug, Serialize)]
pub struct SubscribedFacts {
    /// The service.
    pub service: String,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whose it is.
    pub framework: &'static str,
    /// What is spoken there.
    pub protocol: String,
    /// Who gives it; none: nothing is known yet, or no route leads to what calls name.
    pub instances: Option<usize>,
}
