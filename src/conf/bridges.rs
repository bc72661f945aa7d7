//! Bridges as they are written: which services of one registry are carried into another, and how they are called there.
//!
//! Nothing here means anything yet; `lower` gives it meaning.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    file::Test,
    registries::{Framework, Level},
    units::Duration,
};

/// Services of one registry, carried into another.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// The registry that they are found in.
    pub from: String,
    /// The registry that they are made known in.
    pub to: String,
    /// Which of them, by their names; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Test>,
    /// Whose services they are.
    #[serde(default)]
    pub framework: Framework,
    /// Only instances that speak this, as the framework calls it; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// In whose names and formats they are written; by default those that they come from.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub written_as: Option<Framework>,
    /// Services that have another name there: from the one to the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// The application whose services they are there; by default the one that the instances name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Where services of Dubbo are made known.
    #[serde(default = "Bridge::default_level")]
    pub level: Level,
    /// What is told of each instance besides what it says itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How often an instance may be carried from registry to registry, 1 to 16: at 1 no copy is carried on.
    #[serde(default = "Bridge::default_hops_max")]
    pub hops_max: u8,
    /// The registry that tells which of several sidecars writes; by default `to`, or `from`, whichever can. `off`: this sidecar
    /// writes whatever others do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election: Option<String>,
    /// How long the sidecar that writes may not be heard of before another does, 3s to 1m.
    #[serde(default = "Bridge::default_patience")]
    pub patience: Duration,
    /// Instances made known, changed or taken away in a second, on average.
    #[serde(default = "Bridge::default_writes_max")]
    pub writes_max: u32,
    /// The registry's `hold_empty`, for these services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_empty: Option<Duration>,
}

impl Bridge {
    fn default_level() -> Level {
        Level::Both
    }

    fn default_hops_max() -> u8 {
        1
    }

    fn default_patience() -> Duration {
        Duration::new(std::time::Duration::from_secs(5))
    }

    fn default_writes_max() -> u32 {
        500
    }
}
