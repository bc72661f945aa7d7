//! Pods, as far as they say what is given in them: Dubbo writes its metadata into an annotation of its own pod.
//!
//! A pod has much more to say, and of all of it only this is read and kept. One that does not run, is not ready or is going away
//! gives nothing.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use outrigger_discovery::{StatusCell, formats::Params};
use serde::Deserialize;

use crate::{
    feed::{Feeds, Kind},
    link::Shared,
};

/// Where Dubbo writes the metadata of an instance of its application.
const DUBBO: &str = "io.dubbo/metadata";

/// A pod as the server tells it, but for what nobody here needs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PodObject {
    metadata: ObjectMeta,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

impl PodObject {
    /// Its unique id.
    pub(crate) fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// Its addresses.
    pub(crate) fn ips(&self) -> Vec<String> {
        self.status.pod_ips.iter().map(|one| one.ip.clone()).filter(|ip| !ip.is_empty()).collect()
    }

    fn is_well(&self) -> bool {
        let ready = |condition: &Condition| condition.r#type == "Ready" && condition.status == "True";
        self.status.phase == "Running"
            && self.metadata.deletion_timestamp.is_none()
            && self.status.conditions.iter().any(ready)
    }
}

impl Resource for PodObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A pod that gives something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// What Dubbo says of its instance.
    pub(crate) dubbo: Params,
}

/// The kind of [`Pod`]s.
pub(crate) struct Pods;

impl Kind for Pods {
    type Object = PodObject;
    type Kept = Pod;
    type Memory = ();
    const LABEL: Option<&'static str> = None;

    fn keep(object: PodObject, status: &StatusCell) -> Option<Pod> {
        if !object.is_well() {
            return None;
        }
        let said = object.metadata.annotations.as_ref()?.get(DUBBO)?;
        match serde_json::from_str::<BTreeMap<String, Option<String>>>(said) {
            Ok(said) => {
                let dubbo = said.into_iter().filter_map(|(name, value)| Some((name, value?)));
                Some(Pod { dubbo: dubbo.collect() })
            }
            Err(_) => {
                status.unreadable();
                None
            }
        }
    }

    fn feeds(shared: &Shared) -> &Feeds<Self> {
        &shared.pods
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(json: &str) -> (Option<Pod>, u64) {
        let status = StatusCell::default();
        let object = serde_json::from_str(json).unwrap();
        (Pods::keep(object, &status), status.get().unreadable)
    }

    fn pod(annotation: &str, phase: &str, ready: &str, more: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"a","annotations":{{"io.dubbo/metadata":{annotation}}}{more}}},"spec":{{}},
               "status":{{"phase":"{phase}","conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
        )
    }

    #[test]
    fn only_a_pod_that_is_well_gives_something() {
        let said = r#""{\"dubbo.metadata.revision\":\"1\",\"none\":null}""#;
        let (well, bad) = kept(&pod(said, "Running", "True", ""));
        assert_eq!(well.unwrap().dubbo, Params::from([("dubbo.metadata.revision".into(), "1".into())]));
        assert_eq!(bad, 0);
        for other in [
            pod(said, "Pending", "True", ""),
            pod(said, "Running", "False", ""),
            pod(said, "Running", "True", r#","deletionTimestamp":"2026-01-01T00:00:00Z""#),
            r#"{"metadata":{"name":"a"},"spec":{}}"#.to_owned(),
        ] {
            assert_eq!(kept(&other), (None, 0), "{other}");
        }
        assert_eq!(kept(&pod(r#""no json""#, "Running", "True", "")), (None, 1));
    }
}
