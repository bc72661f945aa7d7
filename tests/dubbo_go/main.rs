//! Unmodified programs of dubbo-go 3.3 that register themselves in a real etcd and look others up there, beside the sidecar:
//! Dubbo2 and Triple, by the interface and by the application; Java that calls Go, and Go that calls Java, of which the one knows
//! no registry; and Dubbo 2.7, which is in etcd itself, by the interface.
//!
//! What registers itself is found through the sidecar, with its weight, and forgotten when it is gone; what the sidecar registers
//! is found by consumers of dubbo-go and written as dubbo-go would have written it; a sidecar that leaves is not missed. All of it
//! runs in a network of its own. Must never assert how long anything takes. Source: the frameworks and the server themselves, as
//! they are built by `tests/setup.sh`.

mod entries;
#[allow(dead_code, reason = "the tests of etcd's own crate use the rest")]
#[path = "../../registries/etcd/tests/support/gateway.rs"]
mod gateway;
mod go;
mod java;
mod server;
mod stage;
mod story;
#[path = "../support/mod.rs"]
mod support;
mod written;

use support::netns;

#[test]
fn dubbo_2_7() {
    netns::inside("dubbo_2_7", java::tell);
}

#[test]
fn dubbo_go() {
    netns::inside("dubbo_go", story::tell);
}
