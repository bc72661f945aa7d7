//! Unmodified Java programs that register themselves and look others up, beside the sidecar: Dubbo 3.3 (Dubbo2 at the
//! interface level, Triple at both), Dubbo 2.7, SOFARPC and Spring Cloud, each with `ZooKeeper` and with Nacos.
//!
//! Each test is the life of one framework's application and its callers: what registers itself is found through the sidecar;
//! what the sidecar registers is found by the frameworks' own consumers and written as they would have written it; whoever is
//! killed is left alone until it is back; and a sidecar that leaves is not missed by a single call. All of it runs in a network
//! of its own. Must never assert how long anything takes. Source: the frameworks and the servers themselves, as they are built
//! by `tests/setup.sh`.

mod entries;
mod java;
mod servers;
mod stage;
mod story;
#[path = "../support/mod.rs"]
mod support;
mod written;
mod zk;

use java::Java;
use support::netns;

#[test]
fn dubbo_3_3() {
    netns::inside("dubbo_3_3", || story::tell(Java::Dubbo33));
}

#[test]
fn dubbo_3_3_over_triple() {
    netns::inside("dubbo_3_3_over_triple", || story::tell(Java::Triple));
}

#[test]
fn dubbo_2_7() {
    netns::inside("dubbo_2_7", || story::tell(Java::Dubbo27));
}

#[test]
fn sofarpc() {
    netns::inside("sofarpc", || story::tell(Java::Sofa));
}

#[test]
fn spring_cloud() {
    netns::inside("spring_cloud", || story::tell(Java::Spring));
}
