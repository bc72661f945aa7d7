//! etcd for the tests: how it is started, and what stands in it, asked and told by its JSON gateway.
//!
//! What is put has no lease, so it stays until it is taken away. Source: etcd 3.6.4, as `tests/setup.sh` builds it.

use super::gateway::Gateway;
use super::support::peers;
use super::zookeeper::{escaped, url};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// The server on its data in `dir`: `port` is for clients, the one above for its like.
pub(crate) fn command(dir: &Path, port: u16) -> Command {
    let [clients, peers] = [port, port + 1].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new(peers::folder().join("etcd-server/out/etcd"));
    command.args(["--name", "t", "--data-dir"]).arg(dir.join("data"));
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    // What is killed here is the process, not the machine: what it wrote is there without waiting for a disk.
    command.args(["--initial-cluster", &format!("t={peers}"), "--log-level", "warn", "--unsafe-no-fsync"]);
    command
}

pub(crate) fn gateway(at: SocketAddr) -> Gateway {
    Gateway::new(at.to_string())
}

/// The addresses of a service's providers; `None`: it could not be asked.
pub(crate) fn providers(at: SocketAddr, service: &str) -> Option<Vec<String>> {
    let gateway = gateway(at);
    // One that cannot be asked is nothing to panic about here.
    let entries = gateway.is_well().then(|| gateway.below(&folder(service)))?;
    // dubbo%3A%2F%2FADDRESS%2F…
    let address = |key: &str| {
        let url = key.replace("%3A", ":").replace("%2F", "/");
        let rest = url.split_once("://").expect("a URL").1;
        rest.split(['/', '?', '%']).next().expect("an address").to_owned()
    };
    Some(entries.iter().map(|entry| address(entry.node())).collect())
}

/// Writes a provider.
pub(crate) fn put(at: SocketAddr, service: &str, address: &str) {
    gateway(at).put(&key(service, address), b"");
}

/// Takes a provider away.
pub(crate) fn take(at: SocketAddr, service: &str, address: &str) {
    gateway(at).delete(&key(service, address));
}

/// Ends the leases that a service's providers are on, as an operator does who cleans up too much.
pub(crate) fn revoke(at: SocketAddr, service: &str) {
    let gateway = gateway(at);
    let leases: std::collections::BTreeSet<i64> =
        gateway.below(&folder(service)).iter().map(|entry| entry.lease).collect();
    assert!(!leases.is_empty() && !leases.contains(&0), "providers of {service} are on leases: {leases:?}");
    for lease in leases {
        gateway.revoke(lease);
    }
}

/// Writes so much that nothing of before is kept, and has the server forget it.
pub(crate) fn forget(at: SocketAddr) {
    let gateway = gateway(at);
    for turn in 0..50 {
        gateway.put("/other", format!("{turn}").as_bytes());
    }
    gateway.compact();
}

fn folder(service: &str) -> String {
    format!("/dubbo/{service}/providers/")
}

fn key(service: &str, address: &str) -> String {
    format!("{}{}", folder(service), escaped(&url(service, address)))
}
