//! A registry at a real API server, as the suites of every registry want it.
//!
//! It is broken in three ways in turn: killed, cut off, and held back. What stands in the server is read by what the API
//! itself says, never by the product's own reading.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use outrigger_discovery::{
    Framework, Instance, Registry,
    conformance::{Fixture, Writable},
    formats::split,
};
use outrigger_registry_kubernetes::{KubernetesRegistry, Settings, open};
use serde_json::{Value, json};

use crate::server::Server;

/// The namespace of the suites.
const NAMESPACE: &str = "suite";

/// A server and a registry at it.
pub(crate) struct Kubernetes {
    pub(crate) server: Server,
    registry: KubernetesRegistry,
    patience: Duration,
    turns: u32,
}

impl Kubernetes {
    pub(crate) async fn start(patience: Duration) -> Self {
        let server = Server::start().await;
        server.namespace(NAMESPACE).await;
        let registry = open(settings(&server, NAMESPACE));
        Self { server, registry, patience, turns: 0 }
    }

    async fn slices(&self) -> Api<EndpointSlice> {
        Api::namespaced(self.server.client().await, NAMESPACE)
    }

    /// The slices that list a service, by the JSON of their annotation.
    async fn slices_of(&self, framework: Framework, service: &str) -> Vec<(EndpointSlice, Vec<Value>)> {
        let labels = ListParams::default().labels("endpointslice.kubernetes.io/managed-by=outrigger");
        let all = self.slices().await.list(&labels).await.expect("slices");
        let listed = all.items.into_iter().map(|slice| {
            let mut entries = entries(&slice);
            entries.retain(|entry| entry["service"] == service && entry["framework"] == framework.name());
            (slice, entries)
        });
        listed.filter(|(_, entries)| !entries.is_empty()).collect()
    }
}

/// What the annotation of a slice lists.
pub(crate) fn entries(slice: &EndpointSlice) -> Vec<Value> {
    let annotations = slice.metadata.annotations.as_ref().expect("annotations");
    let entries: Value = serde_json::from_str(&annotations["outrigger/services"]).expect("JSON");
    entries.as_array().expect("a list").clone()
}

/// The settings of a registry at a server, whose clocks are quicker than those of the product.
pub(crate) fn settings(server: &Server, namespace: &str) -> Settings {
    Settings {
        kubeconfig: Some(server.kubeconfig("admin-token")),
        namespace: Some(namespace.to_owned()),
        probe: Duration::from_secs(1),
        watch: Duration::from_secs(6),
        ..Settings::default()
    }
}

/// A slice as JSON, with what is usual.
pub(crate) fn slice(name: &str, service: &str, more: Value) -> EndpointSlice {
    let mut whole = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
        "endpoints": [],
    });
    merge(&mut whole, more);
    serde_json::from_value(whole).expect("a slice")
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// Writes a slice, whether it is there or not.
pub(crate) async fn apply(api: &Api<EndpointSlice>, mut slice: EndpointSlice) {
    let name = slice.metadata.name.clone().expect("a name");
    let params = PostParams::default();
    match api.get_opt(&name).await.expect("an answer") {
        Some(have) => {
            slice.metadata.resource_version = have.metadata.resource_version;
            api.replace(&name, &params, &slice).await.expect("a replacement");
        }
        None => {
            api.create(&params, &slice).await.expect("a creation");
        }
    }
}

impl Fixture for Kubernetes {
    fn registry(&self) -> &dyn Registry {
        &self.registry
    }

    fn host(&self) -> &'static str {
        "10.7.7.1"
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    async fn put(&mut self, service: &str, instances: &[Instance]) {
        let api = self.slices().await;
        let name = format!("operators-{}", service.to_lowercase());
        if instances.is_empty() {
            if api.get_opt(&name).await.expect("an answer").is_some() {
                api.delete(&name, &DeleteParams::default()).await.expect("a deletion");
            }
            return;
        }
        let entries: Vec<Value> = instances
            .iter()
            .map(|one| {
                json!({ "framework": "dubbo", "service": service, "address": one.address, "weight": one.weight,
                        "version": one.version, "group": one.group, "metadata": *one.metadata })
            })
            .collect();
        let hosts: BTreeSet<&str> =
            instances.iter().filter_map(|one| split(&one.address)).map(|(host, _)| host).collect();
        let endpoints: Vec<Value> = hosts.iter().map(|host| json!({ "addresses": [host] })).collect();
        let more = json!({
            "metadata": {
                "labels": { "endpointslice.kubernetes.io/managed-by": "outrigger" },
                "annotations": { "outrigger/services": Value::from(entries).to_string() },
            },
            "endpoints": endpoints,
        });
        apply(&api, slice(&name, "operators", more)).await;
    }

    async fn break_it(&mut self) {
        self.turns += 1;
        match self.turns % 3 {
            0 => self.server.kill(),
            1 => self.server.relay().cut(),
            _ => self.server.relay().hang(),
        }
    }

    async fn mend_it(&mut self) {
        if self.turns.is_multiple_of(3) {
            self.server.run().await;
        }
        self.server.relay().open();
    }
}

impl Writable for Kubernetes {
    fn another(&self) -> Arc<dyn Registry> {
        Arc::new(open(settings(&self.server, NAMESPACE)))
    }

    fn service(&self, framework: Framework, case: &str) -> String {
        match framework {
            Framework::Dubbo | Framework::Sofarpc => format!("conformance.{framework}.{case}"),
            Framework::Spring | Framework::Plain => format!("{framework}-{}", case.to_lowercase()),
        }
    }

    async fn listed(&self, framework: Framework, service: &str) -> BTreeSet<String> {
        let mut addresses = BTreeSet::new();
        for (slice, entries) in self.slices_of(framework, service).await {
            for entry in entries {
                let address = entry["address"].as_str().expect("an address").to_owned();
                let (host, port) = split(&address).expect("a host and a port");
                let endpoint = slice.endpoints.iter().any(|one| one.addresses.iter().any(|one| one == host));
                let ports = slice.ports.iter().flatten().any(|one| one.port == Some(i32::from(port)));
                assert!(endpoint && ports, "{address} is no endpoint of {slice:?}");
                addresses.insert(address);
            }
        }
        addresses
    }

    async fn vandalize(&mut self, framework: Framework, service: &str) {
        let api = self.slices().await;
        for (slice, _) in self.slices_of(framework, service).await {
            let name = slice.metadata.name.expect("a name");
            api.delete(&name, &DeleteParams::default()).await.expect("a deletion");
        }
    }
}
