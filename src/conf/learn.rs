//! `learn` as it is written: where the application itself says what it gives and what it wants.
//!
//! Frameworks that know of sidecars tell them so by HTTP, in a form of their own. Nothing here means anything yet; `lower`
//! gives it meaning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decode::OneOrMany;

/// Who tells what the application gives and wants, by way of its framework.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Learn {
    /// SOFARPC's registry `mesh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sofarpc: Option<LearnFrom>,
    /// The calls `/pub`, `/unpub`, `/sub` and `/unsub` of MOSN's Dubbo services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dubbo: Option<LearnFrom>,
}

/// Where the application is heard, and what becomes of the services that it gives.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearnFrom {
    /// The loopback address where the application is heard, `ip:port`; by default 127.0.0.1:13330 for `sofarpc`, 127.0.0.1:22222
    /// for `dubbo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// The registries that what it gives is made known in, one or a list.
    #[serde(rename = "in")]
    pub registries: OneOrMany<String>,
    /// The host that others dial; by default the address from which the registry is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port that others dial: that of the listener whose calls go to the application.
    pub port: u16,
    /// Where the application itself listens, `host:port`, unless it says another port: what it gives is made known only while it
    /// answers there. By default 127.0.0.1:12200 for `sofarpc`, 127.0.0.1:20880 for `dubbo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
}
