//! The confs of the sidecars here, line by line, and what those that run bridges say in the end.

use super::cluster::Namespace;
use super::lists::until;
use super::servers::{ETCD, NACOS, ZOOKEEPER};
use super::support::{Sidecar, free_port};

/// A registry, by its name in these confs.
pub(crate) const ZK: &str = "zk";
pub(crate) const NC: &str = "nc";
pub(crate) const ET: &str = "et";
pub(crate) const K8S: &str = "k8s";

/// The beginning of a conf with these registries; `namespace`: that of Kubernetes.
pub(crate) fn head(app: &str, registries: &[&str], namespace: Option<&Namespace>) -> String {
    let one = |name: &&str| match *name {
        ZK => format!("  zk: {{ zookeeper: {{ address: \"{ZOOKEEPER}\", session_timeout: 10s }} }}\n"),
        NC => format!("  nc: {{ nacos: {{ address: \"{NACOS}\" }} }}\n"),
        ET => format!("  et: {{ etcd: {{ address: \"{ETCD}\", lease: 10s }} }}\n"),
        _ => {
            let path = namespace.expect("Kubernetes has a namespace").kubeconfig();
            format!("  k8s: {{ kubernetes: {{ kubeconfig: \"{}\" }} }}\n", path.display())
        }
    };
    let registries: String = registries.iter().map(one).collect();
    let admin = free_port();
    format!("app: {app}\nadmin: 127.0.0.1:{admin}\nstate: \"off\"\nworkers: 1\nregistries:\n{registries}")
}

/// The part of a conf that says which bridges are run: each of these lines is one.
pub(crate) fn bridges(lines: &[String]) -> String {
    format!("bridges:\n  {}\n", lines.join("\n  "))
}

impl Sidecar {
    /// Waits until a bridge carries nothing any more; it must be well. A set that is suddenly empty is doubted for a while.
    #[track_caller]
    pub(crate) fn has_nothing(&self, bridge: &str) {
        until(&format!("{bridge} carries nothing"), || {
            let told = self.bridge(bridge);
            (&told["entries"], &told["instances"]) == (&0.into(), &0.into())
        });
        let told = self.bridge(bridge);
        assert!(told["trouble"].is_null() && told["frozen"].is_null(), "{told:#}");
    }
}
