//! Sidecars that run bridges, and what they say of them.

use super::lists::until;
use super::servers::{NACOS, ZOOKEEPER};
use super::support::{Sidecar, free_port};
use serde_json::Value;
use std::net::SocketAddr;

/// The conf of a sidecar that does nothing but run these bridges: each a line of the conf.
pub(crate) fn conf(bridges: &[String]) -> String {
    conf_at(ZOOKEEPER, bridges)
}

/// The same over another `ZooKeeper`.
pub(crate) fn conf_at(zookeeper: SocketAddr, bridges: &[String]) -> String {
    format!(
        "app: bridging\nadmin: 127.0.0.1:{}\nstate: \"off\"\nworkers: 1\nregistries:\n  \
         zk: {{ zookeeper: {{ address: \"{zookeeper}\", session_timeout: 10s }} }}\n  nc: {{ nacos: {{ address: \"{NACOS}\" }} }}\n\
         bridges:\n{}",
        free_port(),
        bridges.iter().flat_map(|line| ["  ", line.as_str(), "\n"]).collect::<String>(),
    )
}

/// The bridges of a story in both directions, for both frameworks: `NAME-d-zn`, `NAME-d-nz`, `NAME-s-zn`, `NAME-s-nz`.
pub(crate) fn both_ways(name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (short, framework) in [("d", "dubbo"), ("s", "sofarpc")] {
        for (way, from, to) in [("zn", "zk", "nc"), ("nz", "nc", "zk")] {
            lines.push(format!(
                "{name}-{short}-{way}: {{ from: {from}, to: {to}, framework: {framework}, services: {{ prefix: {name}. }}, \
                 hold_empty: 2s, patience: 3s }}"
            ));
        }
    }
    lines
}

impl Sidecar {
    /// What it says of a bridge.
    pub(crate) fn bridge(&self, name: &str) -> Value {
        let (code, page) = self.admin_get("/registries");
        assert_eq!(code, 200, "{page}");
        let page: Value = serde_json::from_str(&page).expect("/registries is JSON");
        page["bridges"][name].clone()
    }

    pub(crate) fn role(&self, name: &str) -> String {
        self.bridge(name)["role"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until it is that to all of these bridges.
    #[track_caller]
    pub(crate) fn becomes(&self, role: &str, bridges: &[String]) {
        until(&format!("{role} of {bridges:?}"), || bridges.iter().all(|name| self.role(name) == role));
    }

    /// These bridges carry nothing, and are well.
    #[track_caller]
    pub(crate) fn have_nothing(&self, bridges: &[String]) {
        for bridge in bridges {
            let told = self.bridge(bridge);
            assert!(told["trouble"].is_null() && told["frozen"].is_null(), "{told:#}");
            assert_eq!((&told["entries"], &told["instances"]), (&0.into(), &0.into()), "{told:#}");
        }
    }

    /// Waits until all of it is written that it found, in a bridge of which it is the writer.
    #[track_caller]
    pub(crate) fn is_done(&self, bridge: &str) {
        until(&format!("{bridge} has written all"), || {
            let told = self.bridge(bridge);
            told["role"] == "leading" && told["pending"] == 0 && told["waiting"] == 0
        });
    }
}

/// The name of a bridge in its line.
pub(crate) fn names(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| line.split(':').next().expect("a name").to_owned()).collect()
}
