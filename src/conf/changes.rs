//! What a route changes of requests and answers, as it is written.
//!
//! Nothing here means anything yet; `lower` gives it meaning.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Headers that are changed: Bolt's header map, Dubbo's attachments, HTTP's headers.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// Take the place of those of the same name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Come beside those of the same name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    /// Go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl Rewrite {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        let Self { path, strip_prefix, add_prefix, authority } = self;
        [path, strip_prefix, add_prefix, authority].iter().all(|part| part.is_none())
    }
}

/// What endpoints are asked for instead of what callers ask for (HTTP).
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// Another path; the query stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What a path begins with and goes; a path that begins otherwise stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// What comes before the path, or in the place of `strip_prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_prefix: Option<String>,
    /// Another authority: `host` or `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}
