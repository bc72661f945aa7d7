//! A company moves from `ZooKeeper` to Nacos and back, in the order of `docs/migration.md`, and not one call fails.
//!
//! Unmodified Java programs (two providers and the consumers of Dubbo 3.3, and the same of SOFARPC) call without a pause from
//! the first step to the last: they are observed, they call through a sidecar, they are registered by one, a bridge carries
//! them into the other registry, the sidecars change over to it, and `ZooKeeper` is stopped; then all of it backwards. What is
//! changed is what the guide says may be changed: confs of sidecars, and flags of programs that are started anew. All of it
//! runs in a network of its own. Must never let a step pass in which nobody called. Source: the frameworks and the servers
//! themselves, as they are built by `tests/setup.sh`.

mod calls;
mod confs;
#[path = "../registries/entries.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod entries;
mod family;
#[path = "../registries/java.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod java;
#[path = "../registry_failures/nacos.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod nacos;
mod servers;
mod story;
#[path = "../support/mod.rs"]
mod support;
#[path = "../registries/zk.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod zk;
#[path = "../registry_failures/zookeeper.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod zookeeper;

use support::netns;

#[test]
fn from_zookeeper_to_nacos_and_back() {
    netns::inside("from_zookeeper_to_nacos_and_back", story::tell);
}
