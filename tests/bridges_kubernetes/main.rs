//! Bridges between `ZooKeeper`, Nacos, Kubernetes and etcd, each a real server, carried by the whole binary.
//!
//! A Java program that knows only Nacos calls providers that only Kubernetes knows; services of `ZooKeeper` become slices in
//! Kubernetes and keys in etcd and are found there; writers are killed while all registries are looked at without a pause. What
//! stands in a registry is read and written by means of the tests' own. All of it runs in a network of its own. Must never share a
//! service between two stories, as they run side by side.

mod cluster;
mod confs;
mod etcd;
mod eye;
#[path = "../../registries/etcd/tests/support/gateway.rs"]
#[allow(dead_code, reason = "its own tests use more of it")]
mod gateway;
mod java;
#[path = "../bridges/lists.rs"]
#[allow(dead_code, reason = "its own tests use more of it")]
mod lists;
#[path = "../registry_failures/nacos.rs"]
#[allow(dead_code, reason = "its own tests use more of it")]
mod nacos;
mod plain;
mod provider;
mod servers;
#[path = "../bridges/sidecars.rs"]
#[allow(dead_code, reason = "its own tests use more of it")]
mod sidecars;
mod slices;
#[path = "../support/mod.rs"]
mod support;
mod web;
#[path = "../registries/zk.rs"]
#[allow(dead_code, reason = "its own tests use more of it")]
mod zk;
#[path = "../registry_failures/zookeeper.rs"]
#[allow(dead_code, reason = "its own tests use more of it")]
mod zookeeper;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use support::netns;

/// What is told here, and by whom.
const STORIES: [(&str, fn()); 4] =
    [("java", java::story), ("slices", slices::story), ("etcd", etcd::story), ("plain", plain::story)];

#[test]
fn java() {
    netns::inside("java", || tell("java"));
}

#[test]
fn slices() {
    netns::inside("slices", || tell("slices"));
}

#[test]
fn etcd() {
    netns::inside("etcd", || tell("etcd"));
}

#[test]
fn plain() {
    netns::inside("plain", || tell("plain"));
}

/// Waits for the end of a story. Tests inside run one after the other, and most of a story is waiting: the first one that is told
/// begins all of them.
fn tell(name: &str) {
    type Told = Mutex<Vec<(&'static str, JoinHandle<()>)>>;
    static TOLD: OnceLock<Told> = OnceLock::new();
    let told = TOLD.get_or_init(|| {
        servers::start();
        let asked = STORIES.into_iter().filter(|(name, _)| is_asked_for(name));
        Mutex::new(asked.map(|(name, story)| (name, std::thread::spawn(story))).collect())
    });
    let mut stories = told.lock().unwrap_or_else(PoisonError::into_inner);
    let at = stories.iter().position(|(of, _)| *of == name).expect("who is told was asked for");
    let (_, thread) = stories.swap_remove(at);
    drop(stories);
    if let Err(why) = thread.join() {
        // Printed once more: the first test has the output of all threads, and keeps it to itself if it is well.
        let why = why.downcast::<String>().map_or_else(|_| String::new(), |why| *why);
        panic!("the story of {name} went wrong: {why}");
    }
}

/// Whether the words behind the command mean this test.
fn is_asked_for(name: &str) -> bool {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}
