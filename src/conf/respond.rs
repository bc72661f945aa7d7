//! What a route answers itself, as it is written.
//!
//! Nothing here means anything yet; `lower` gives it meaning.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An answer of the route's own: its calls go nowhere (HTTP).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Respond {
    /// Its status, 200 to 599.
    pub status: u16,
    /// Its body, at most 4 KiB; `text/plain` unless the headers say otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Its headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: 200, body: String::new(), headers: BTreeMap::new() }
    }
}

/// Where callers are sent instead (HTTP): what is not said stays as they asked for it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308. Methods stay as they are by 307 and 308 alone, and 301 and 308 are remembered by callers.
    pub status: u16,
    /// `http` or `https`, at that scheme's own port unless `authority` names another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Another authority: `host` or `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Another path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What a path begins with and goes; a path that begins otherwise stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// What comes before the path, or in the place of `strip_prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_prefix: Option<String>,
    /// The query goes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drop_query: bool,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            status: 302,
            scheme: None,
            authority: None,
            path: None,
            strip_prefix: None,
            add_prefix: None,
            drop_query: false,
        }
    }
}
