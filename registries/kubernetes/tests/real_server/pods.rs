//! Applications of Dubbo that write what they give into annotations of their own pods.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use outrigger_discovery::{
    Answering, Framework, Registry, ServiceKey,
    formats::application::{AskMetadata, MetadataInfo, Question},
};
use outrigger_registry_kubernetes::{Settings, open};
use serde_json::{Value, json};

use crate::{
    fixture::{apply, settings, slice},
    server::Server,
    watched::{Keeper, Watched, registration},
};

/// Makes a pod that runs and is ready; its unique id.
pub(crate) async fn make_pod(
    server: &Server,
    namespace: &str,
    name: &str,
    ip: &str,
    dubbo: Option<Value>,
) -> String {
    let api: Api<Pod> = Api::namespaced(server.client().await, namespace);
    let annotations: BTreeMap<&str, String> =
        dubbo.into_iter().map(|said| ("io.dubbo/metadata", said.to_string())).collect();
    let pod = serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "containers": [{ "name": "a", "image": "a" }] }
    }));
    let made = api.create(&PostParams::default(), &pod.expect("a pod")).await.expect("a pod");
    let status = json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] });
    set_status(&api, name, status).await;
    set_ready(&api, name, true).await;
    made.metadata.uid.expect("a uid")
}

async fn set_status(api: &Api<Pod>, name: &str, status: Value) {
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch).await.expect("a status");
}

async fn set_ready(api: &Api<Pod>, name: &str, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    set_status(api, name, json!({ "conditions": [{ "type": "Ready", "status": ready }] })).await;
}

/// Metadata as Dubbo writes it into the annotation: what it gives is asked at a port of its own.
fn said(revision: &str) -> Value {
    json!({
        "dubbo.metadata.revision": revision,
        "dubbo.metadata.storage-type": "local",
        "dubbo.endpoints": r#"[{"port":20880,"protocol":"dubbo"}]"#,
        "dubbo.metadata-service.url-params": r#"{"version":"1.0.0","port":"20881","protocol":"dubbo"}"#,
        "meta-v": "1.0.0",
        "zone": "eu-1a",
    })
}

/// Applications that answer what they give, unless they are silent.
#[derive(Default)]
struct Applications {
    silent: AtomicBool,
}

impl AskMetadata for Applications {
    fn ask(&self, question: Question) -> Answering<MetadataInfo> {
        let silent = self.silent.load(Ordering::Relaxed);
        Box::pin(async move {
            assert!(question.address.ends_with(":20881"), "{question:?}");
            if silent || question.app != "orders" {
                return Err("nobody is there".to_owned());
            }
            let info = json!({ "app": "orders", "revision": question.revision, "services": {
                "com.example.Order:1.0.0:dubbo": { "name": "com.example.Order", "version": "1.0.0",
                    "protocol": "dubbo", "port": 20880, "path": "com.example.Order", "params": { "weight": "50" } } } });
            MetadataInfo::parse(info.to_string().as_bytes()).map_err(|bad| bad.to_string())
        })
    }
}

pub(crate) async fn applications_are_found_by_their_pods(server: &Server) {
    server.namespace("dubbo").await;
    let client = server.client().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "dubbo");
    let api: Api<EndpointSlice> = Api::namespaced(client, "dubbo");
    let applications = Arc::new(Applications::default());
    let registry = open(Settings { ask: Some(applications.clone()), ..settings(server, "dubbo") });
    let watch = Watched::start(
        &registry,
        ServiceKey { version: Some("1.0.0".into()), ..ServiceKey::new("com.example.Order") },
    );
    watch.until_addresses(&[]).await;
    for (name, ip) in [("orders-1", "10.9.0.1"), ("orders-2", "10.9.0.2")] {
        make_pod(server, "dubbo", name, ip, Some(said("r1"))).await;
    }
    make_pod(server, "dubbo", "orders-3", "10.9.0.3", None).await;
    set_ready(&pods, "orders-2", false).await;
    let endpoint = |n: u8| {
        json!({ "addresses": [format!("10.9.0.{n}")],
                "targetRef": { "kind": "Pod", "name": format!("orders-{n}"), "namespace": "dubbo" } })
    };
    let all = json!({ "endpoints": [endpoint(1), endpoint(2), endpoint(3)] });
    apply(&api, slice("orders-x", "orders", all)).await;
    watch.until_addresses(&["10.9.0.1:20880"]).await;
    let found = &watch.instances()[0];
    assert_eq!((found.weight, found.protocol.as_deref()), (50, Some("dubbo")));
    assert_eq!(found.metadata.get("zone").map(String::as_str), Some("eu-1a"));
    set_ready(&pods, "orders-2", true).await;
    watch.until_addresses(&["10.9.0.1:20880", "10.9.0.2:20880"]).await;
    assert_eq!(registry.services(Framework::Dubbo).await.expect("names"), ["com.example.Order"]);
    // A new revision that nobody tells of takes nothing away.
    applications.silent.store(true, Ordering::Relaxed);
    let patch = Patch::Merge(
        json!({ "metadata": { "annotations": { "io.dubbo/metadata": said("r2").to_string() } } }),
    );
    pods.patch("orders-1", &PatchParams::default(), &patch).await.expect("a patch");
    pods.delete("orders-2", &DeleteParams::default().grace_period(0)).await.expect("a deletion");
    watch.until_addresses(&["10.9.0.1:20880"]).await;
    // A pod for which a sidecar speaks is called where that says.
    let mut keeper = Keeper::start(&registry);
    let mut spoken = registration(Framework::Dubbo, "com.example.Order", "10.9.0.1:20990");
    spoken.version = Some("1.0.0".into());
    keeper.set(&[spoken]).await;
    watch.until_addresses(&["10.9.0.1:20990"]).await;
    keeper.set(&[]).await;
    // An application of which nobody knows what it gives may give whatever is asked for.
    let other = Watched::start(&registry, ServiceKey::new("com.example.Other"));
    other.until_addresses(&[]).await;
    make_pod(server, "dubbo", "stocks-1", "10.9.0.7", Some(said("r1"))).await;
    let stocks = json!({ "addresses": ["10.9.0.7"], "targetRef": { "kind": "Pod", "name": "stocks-1" } });
    apply(&api, slice("stocks-x", "stocks", json!({ "endpoints": [stocks] }))).await;
    other.until_lost("what the application stocks gives").await;
    watch.until_addresses(&["10.9.0.1:20880"]).await;
    registry.close().await;
}
