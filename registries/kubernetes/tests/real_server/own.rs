//! What only Kubernetes does: slices of others, ports by name, rights, Services that select, keepers that fall silent, pods.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::EndpointSlice,
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Error,
    api::{DeleteParams, ListParams, PostParams},
};
use outrigger_discovery::{Framework, Registry, ServiceKey};
use outrigger_registry_kubernetes::{Pod, Settings, expressible, open};
use serde_json::{Value, json};
use tokio::time;

use crate::{
    fixture::{apply, entries, settings, slice},
    pods::make_pod,
    server::Server,
    watched::{Keeper, Watched, key, registration},
};

async fn slices(server: &Server, namespace: &str) -> Api<EndpointSlice> {
    server.namespace(namespace).await;
    Api::namespaced(server.client().await, namespace)
}

fn endpoint(ip: &str, ready: bool, terminating: bool) -> Value {
    let conditions = json!({ "ready": ready && !terminating, "serving": ready, "terminating": terminating });
    json!({ "addresses": [ip], "conditions": conditions })
}

pub(crate) async fn all_slices_of_a_service_are_one_set(server: &Server) {
    let api = slices(server, "merged").await;
    let registry = open(settings(server, "merged"));
    let watch = Watched::plain(&registry, "shop", "http");
    watch.until_addresses(&[]).await;
    let near = json!({ "addresses": ["10.1.0.1"], "zone": "eu-1a", "nodeName": "n1",
                       "targetRef": { "kind": "Pod", "name": "shop-1" } });
    let one =
        json!({ "endpoints": [near, endpoint("10.1.0.2", false, false), endpoint("10.1.0.3", true, true)] });
    apply(&api, slice("one", "shop", one)).await;
    watch.until_addresses(&["10.1.0.1:80"]).await;
    let found = &watch.instances()[0];
    let said = |name: &str| found.metadata.get(name).map(String::as_str);
    assert_eq!((said("zone"), said("node"), said("pod")), (Some("eu-1a"), Some("n1"), Some("shop-1")));
    // The same address stands in two slices while it moves; another family has slices of its own.
    apply(
        &api,
        slice(
            "two",
            "shop",
            json!({ "endpoints": [{ "addresses": ["10.1.0.1"] }, { "addresses": ["10.1.0.4"] }] }),
        ),
    )
    .await;
    let six = json!({ "addressType": "IPv6", "endpoints": [{ "addresses": ["fd00::1"] }] });
    apply(&api, slice("three", "shop", six)).await;
    let names = json!({ "addressType": "FQDN", "endpoints": [{ "addresses": ["shop.example.com"] }] });
    apply(&api, slice("four", "shop", names)).await;
    apply(&api, slice("other", "shopping", json!({ "endpoints": [{ "addresses": ["10.1.0.9"] }] }))).await;
    watch.until_addresses(&["10.1.0.1:80", "10.1.0.4:80", "[fd00::1]:80"]).await;
    assert!(registry.status().unreadable >= 1, "names instead of addresses are passed over, and counted");
    for name in ["two", "three"] {
        api.delete(name, &DeleteParams::default()).await.expect("a deletion");
    }
    watch.until_addresses(&["10.1.0.1:80"]).await;
    // Where nobody is ready, those that are going away and still serve are called.
    apply(
        &api,
        slice(
            "one",
            "shop",
            json!({ "endpoints": [endpoint("10.1.0.1", true, true), endpoint("10.1.0.2", false, true)] }),
        ),
    )
    .await;
    watch.until_addresses(&["10.1.0.1:80"]).await;
    apply(
        &api,
        slice(
            "one",
            "shop",
            json!({ "endpoints": [endpoint("10.1.0.1", true, true), endpoint("10.1.0.2", true, false)] }),
        ),
    )
    .await;
    watch.until_addresses(&["10.1.0.2:80"]).await;
    // From another namespace the same Service has a longer name.
    let elsewhere = open(settings(server, "default"));
    for name in ["shop.merged", "shop.merged.svc.cluster.local"] {
        Watched::start(&elsewhere, key(Framework::Spring, name, "http"))
            .until_addresses(&["10.1.0.2:80"])
            .await;
    }
    Watched::plain(&elsewhere, "com.example.Shop", "http").until_lost("no name of a Service").await;
    let mut names = registry.services(Framework::Plain).await.expect("names");
    names.sort();
    assert_eq!(names, ["shop", "shopping"]);
    elsewhere.close().await;
    registry.close().await;
    Watched::plain(&registry, "shop", "http").until_lost("closed").await;
}

pub(crate) async fn ports_are_told_apart_by_what_is_spoken(server: &Server) {
    let api = slices(server, "ports").await;
    let registry = open(settings(server, "ports"));
    let ports = json!([
        { "name": "metrics", "port": 9090, "protocol": "TCP", "appProtocol": "http" },
        { "name": "http-main", "port": 8080, "protocol": "TCP" },
        { "name": "rpc", "port": 50051, "protocol": "TCP", "appProtocol": "tri" },
        { "name": "gossip", "port": 7, "protocol": "UDP" },
    ]);
    let several = json!({ "ports": ports, "endpoints": [{ "addresses": ["10.1.1.1"] }] });
    apply(&api, slice("several", "shop", several)).await;
    Watched::plain(&registry, "shop", "http").until_addresses(&["10.1.1.1:9090"]).await;
    Watched::plain(&registry, "shop", "tri").until_addresses(&["10.1.1.1:50051"]).await;
    let unclear = Watched::plain(&registry, "shop", "bolt");
    unclear.until_lost("several ports (metrics, http-main, rpc)").await;
    assert_eq!(unclear.view().instances, None, "nothing is guessed");
    apply(&api, slice("several", "shop", json!({ "endpoints": [{ "addresses": ["10.1.1.1"] }] }))).await;
    unclear.until_addresses(&["10.1.1.1:80"]).await;
    registry.close().await;
}

pub(crate) async fn what_cannot_be_written_is_said(server: &Server) {
    let api = slices(server, "refused").await;
    let services: Api<Service> = Api::namespaced(server.client().await, "refused");
    let selecting: Service = serde_json::from_value(json!({
        "metadata": { "name": "taken" },
        "spec": { "selector": { "app": "x" }, "ports": [{ "port": 80 }] }
    }))
    .expect("a service");
    services.create(&PostParams::default(), &selecting).await.expect("a service");
    let registry = open(settings(server, "refused"));
    let mut keeper = Keeper::start(&registry);
    let plain = |service: &str, address: &str| registration(Framework::Plain, service, address);
    for (bad, words) in [
        (plain("Shop", "10.2.0.1:80"), "\"Shop\" is no name of a Service"),
        (plain("shop", "127.0.0.1:80"), "no other host can dial its address"),
        (plain("taken", "10.2.0.1:80"), "Service taken selects pods"),
    ] {
        if words.contains("selects") {
            assert_eq!(expressible(&bad), Ok(()), "only the server knows");
        } else {
            assert!(expressible(&bad).is_err_and(|why| why.contains(words)), "{words}");
        }
        keeper.wish.set([bad, plain("well", "10.2.0.2:80")].into());
        // The other one is not held up.
        keeper.until_trouble(1, words).await;
    }
    keeper.set(&[plain("well", "10.2.0.2:80")]).await;
    let made = services.get("well").await.expect("a service of ours");
    let spec = made.spec.expect("a spec");
    assert_eq!((spec.selector, spec.cluster_ip.as_deref()), (None, Some("None")));
    assert!(made.metadata.labels.is_some_and(|labels| labels["app.kubernetes.io/managed-by"] == "outrigger"));
    // Whoever reads slices without us finds an endpoint with a port.
    let all = api.list(&ListParams::default()).await.expect("slices").items;
    assert_eq!(all.len(), 1);
    let port = all[0].ports.iter().flatten().next().expect("a port");
    assert_eq!(
        (port.name.as_deref(), port.port, port.app_protocol.as_deref()),
        (Some("http"), Some(80), Some("http"))
    );
    assert_eq!(all[0].endpoints[0].addresses, ["10.2.0.2"]);
    registry.close().await;
    assert!(api.list(&ListParams::default()).await.expect("slices").items.is_empty(), "they go with us");
    keeper.until_trouble(1, "closed").await;
}

pub(crate) async fn rights_that_are_missing_are_said(server: &Server) {
    let api = slices(server, "rights").await;
    apply(&api, slice("one", "shop", json!({ "endpoints": [{ "addresses": ["10.3.0.1"] }] }))).await;
    let client = server.client().await;
    let metadata = || ObjectMeta { name: Some("reads".into()), ..ObjectMeta::default() };
    let rules = serde_json::from_value(json!([
        { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": [""], "resources": ["services"], "verbs": ["get"] },
    ]));
    let role = Role { metadata: metadata(), rules: rules.expect("rules") };
    let binding = RoleBinding {
        metadata: metadata(),
        role_ref: serde_json::from_value(
            json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads" }),
        )
        .expect("a role"),
        subjects: serde_json::from_value(
            json!([{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader" }]),
        )
        .expect("subjects"),
    };
    let params = PostParams::default();
    Api::namespaced(client.clone(), "rights").create(&params, &role).await.expect("a role");
    Api::namespaced(client, "rights").create(&params, &binding).await.expect("a binding");
    let with = |token: &str| {
        open(Settings { kubeconfig: Some(server.kubeconfig(token)), ..settings(server, "rights") })
    };
    let reader = with("reader-token");
    Watched::plain(&reader, "shop", "http").until_addresses(&["10.3.0.1:80"]).await;
    let keeper = Keeper::start(&reader);
    keeper.wish.set([registration(Framework::Plain, "mine", "10.3.0.2:80")].into());
    let written = keeper.until_trouble(1, "cannot create resource \"services\"").await;
    assert!(written.trouble.is_some_and(|why| why.contains("(403)")));
    let nobody = with("nobody-token");
    Watched::plain(&nobody, "shop", "http").until_lost("cannot list resource \"endpointslices\"").await;
    assert!(nobody.services(Framework::Plain).await.is_err_and(|why| why.contains("(403)")));
    let unknown = with("unknown-token");
    Watched::plain(&unknown, "shop", "http").until_lost("refuses the credentials (401)").await;
    assert!(unknown.status().trouble.is_some_and(|why| why.contains("401")));
    let missing = open(Settings { kubeconfig: Some("nowhere.yaml".into()), ..settings(server, "rights") });
    Watched::plain(&missing, "shop", "http").until_lost("nowhere.yaml").await;
    for registry in [reader, nobody, unknown, missing] {
        registry.close().await;
    }
}

/// A slice of somebody who said once that he is there, and never again.
fn of_the_dead(name: &str, address: &str) -> EndpointSlice {
    let entries = json!([{ "framework": "plain", "service": "rates", "protocol": "http",
                           "address": format!("{address}:80"), "holder": "dead" }]);
    let annotations = json!({ "outrigger/services": entries.to_string(),
                              "outrigger/holders": json!({ "dead": { "beat": "long ago" } }).to_string() });
    let labels = json!({ "endpointslice.kubernetes.io/managed-by": "outrigger" });
    let metadata = json!({ "labels": labels, "annotations": annotations });
    slice(name, "rates", json!({ "metadata": metadata, "endpoints": [{ "addresses": [address] }] }))
}

pub(crate) async fn who_fell_silent_is_not_believed_for_ever(server: &Server) {
    let api = slices(server, "silent").await;
    apply(&api, of_the_dead("rates-of-the-dead", "10.4.0.1")).await;
    let quick = || Settings { beat: Duration::from_millis(600), ..settings(server, "silent") };
    let reader = open(quick());
    let watch = Watched::plain(&reader, "rates", "http");
    watch.until_addresses(&["10.4.0.1:80"]).await;
    // As long as nobody at all is heard, that may be the server's fault.
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(watch.instances().len(), 1, "silence of all proves nothing");
    let writer = open(quick());
    let mut keeper = Keeper::start(&writer);
    let two = |n: u8| registration(Framework::Plain, "rates", &format!("10.4.0.{n}:80"));
    keeper.set(&[two(2), two(3)]).await;
    watch
        .until("the living alone", |view| {
            let addresses = view.instances.iter().flat_map(|all| all.iter().map(|one| one.address.as_str()));
            addresses.collect::<Vec<_>>() == ["10.4.0.2:80", "10.4.0.3:80"]
        })
        .await;
    let until = time::Instant::now() + crate::watched::PATIENCE;
    while api.get_opt("rates-of-the-dead").await.expect("an answer").is_some() {
        assert!(time::Instant::now() < until, "what the dead left behind stays for ever");
        time::sleep(Duration::from_millis(200)).await;
    }
    watch.until_addresses(&["10.4.0.2:80", "10.4.0.3:80"]).await;
    writer.close().await;
    reader.close().await;
}

pub(crate) async fn sidecars_and_bridges_do_not_meet(server: &Server) {
    let api = slices(server, "owners").await;
    let uid = make_pod(server, "owners", "shop-1", "10.5.0.1", None).await;
    let pod = Pod { name: "shop-1".into(), ..Pod::default() };
    let first = open(Settings { pod: Some(pod), ..settings(server, "owners") });
    let second = open(settings(server, "owners"));
    let (mut one, mut two) = (Keeper::start(&first), Keeper::start(&second));
    let dubbo = |address: &str| registration(Framework::Dubbo, "com.example.A", address);
    let bolt = registration(Framework::Sofarpc, "com.example.B", "10.5.0.1:12200");
    one.set(&[dubbo("10.5.0.1:20880"), bolt]).await;
    two.set(&[dubbo("10.5.0.2:20880")]).await;
    let watch = Watched::start(&second, ServiceKey::new("com.example.A"));
    watch.until_addresses(&["10.5.0.1:20880", "10.5.0.2:20880"]).await;
    Watched::start(&second, key(Framework::Sofarpc, "com.example.B", "bolt"))
        .until_addresses(&["10.5.0.1:12200"])
        .await;
    assert_eq!(second.services(Framework::Dubbo).await.expect("names"), ["com.example.A"]);
    let all = api.list(&ListParams::default()).await.expect("slices").items;
    assert_eq!(all.len(), 2, "a slice for each pod: {all:#?}");
    for slice in all {
        let owners = slice.metadata.owner_references.clone().unwrap_or_default();
        let holders: BTreeMap<String, Value> = serde_json::from_str(
            &slice.metadata.annotations.as_ref().expect("annotations")["outrigger/holders"],
        )
        .expect("JSON");
        let holder = holders.values().next().expect("a holder");
        if entries(&slice).len() == 2 {
            assert_eq!((owners.len(), owners[0].uid.as_str()), (1, uid.as_str()), "it goes with the pod");
            assert!(holder["beat"].is_null(), "what goes with its pod is not written every half minute");
        } else {
            assert!(owners.is_empty() && holder["beat"].is_string(), "{owners:?} {holder}");
        }
    }
    // A bridge has many hosts in few slices, and grows and shrinks while nobody misses one of them.
    let hosts = |count: u16| {
        let all = (0..count)
            .map(|n| registration(Framework::Plain, "many", &format!("10.6.{}.{}:80", n / 200, n % 200 + 1)));
        all.collect::<Vec<_>>()
    };
    let watch = Watched::plain(&second, "many", "http");
    for count in [1, 250, 90, 1] {
        two.set(&hosts(count)).await;
        watch
            .until(&format!("{count} hosts"), |view| {
                view.instances.as_ref().is_some_and(|all| all.len() == usize::from(count))
            })
            .await;
        let labels = ListParams::default().labels("kubernetes.io/service-name=many");
        let all = api.list(&labels).await.expect("slices").items;
        assert!(all.iter().all(|slice| slice.endpoints.len() <= 100));
        assert_eq!(all.iter().map(|slice| slice.endpoints.len()).sum::<usize>(), usize::from(count));
    }
    first.close().await;
    second.close().await;
}

/// What SOFARPC's own registry for Kubernetes would write: there is nothing of it to read, since no server takes it.
pub(crate) async fn annotations_of_sofarpc_are_refused_by_the_server(server: &Server) {
    server.namespace("sofa").await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(server.client().await, "sofa");
    let pod = serde_json::from_value(json!({
        "metadata": { "name": "a", "annotations": { "com.example.A:1.0@DEFAULT": "bolt://10.0.0.1:12200?version=1.0" } },
        "spec": { "containers": [{ "name": "a", "image": "a" }] }
    }));
    let refused = pods.create(&PostParams::default(), &pod.expect("a pod")).await;
    assert!(
        matches!(refused, Err(Error::Api(status)) if status.code == 422 && status.message.contains("com.example.A:1.0@DEFAULT"))
    );
}

/// Kills it, has it hang, and has another one take its place without a word to whoever watches.
pub(crate) async fn a_server_that_comes_back_is_believed(server: &mut Server) {
    let api = slices(server, "returns").await;
    let put = async |names: &[(&str, &str)]| {
        for (name, ip) in names {
            apply(&api, slice(name, "shop", json!({ "endpoints": [{ "addresses": [ip] }] }))).await;
        }
    };
    put(&[("one", "10.8.0.1"), ("two", "10.8.0.2")]).await;
    let registry: Arc<dyn Registry> = Arc::new(open(settings(server, "returns")));
    let watch = Watched::plain(&*registry, "shop", "http");
    watch.until_addresses(&["10.8.0.1:80", "10.8.0.2:80"]).await;
    // What went while nobody looked is gone.
    server.relay().cut();
    watch.until_lost("cannot be asked").await;
    api.delete("one", &DeleteParams::default()).await.expect("a deletion");
    put(&[("three", "10.8.0.3")]).await;
    assert_eq!(watch.instances().len(), 2, "trouble must not empty a cluster");
    let gaps = watch.view().gaps;
    server.relay().open();
    watch.until_addresses(&["10.8.0.2:80", "10.8.0.3:80"]).await;
    assert!(watch.view().gaps > gaps);
    server.kill();
    watch.until_lost("cannot be asked").await;
    server.run().await;
    watch.until_addresses(&["10.8.0.2:80", "10.8.0.3:80"]).await;
    server.hang();
    watch.until_lost("did not answer").await;
    server.go_on();
    watch.until_addresses(&["10.8.0.2:80", "10.8.0.3:80"]).await;
    // One that ends in good order may hold watches open for a minute, and tells nothing there.
    server.end().await;
    server.run().await;
    put(&[("four", "10.8.0.4")]).await;
    watch.until_addresses(&["10.8.0.2:80", "10.8.0.3:80", "10.8.0.4:80"]).await;
    registry.close().await;
}
