//! Bridges between a real `ZooKeeper` and a real Nacos, carried by the whole binary.
//!
//! Copies come and go with what they are copies of, in both directions at once, and for a minute nothing changes that should not; writers are killed, stand still and leave while
//! both registries are looked at without a pause; a registry is killed and comes back; and programs that know one registry call
//! those that know only the other. What stands in a registry is read and written by means of the tests' own. All of it runs in a
//! network of its own. Must never share what it breaks: the `ZooKeeper` that is killed is one of its own.

mod dry_run;
#[path = "../registries/java.rs"]
#[allow(dead_code, reason = "its own tests use more of it")]
mod java;
mod lists;
#[path = "../registry_failures/nacos.rs"]
#[allow(dead_code, reason = "its own tests use more of it")]
mod nacos;
mod originals;
mod outages;
mod programs;
mod servers;
mod sidecars;
mod stage;
mod steady;
#[path = "../support/mod.rs"]
mod support;
mod takeovers;
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
const STORIES: [(&str, fn()); 6] = [
    ("takeovers", takeovers::story),
    ("steady", steady::story),
    ("programs", programs::story),
    ("outages", outages::story),
    ("originals", originals::story),
    ("dry_run", dry_run::story),
];

#[test]
fn takeovers() {
    netns::inside("takeovers", || tell("takeovers"));
}

#[test]
fn steady() {
    netns::inside("steady", || tell("steady"));
}

#[test]
fn programs() {
    netns::inside("programs", || tell("programs"));
}

#[test]
fn outages() {
    netns::inside("outages", || tell("outages"));
}

#[test]
fn originals() {
    netns::inside("originals", || tell("originals"));
}

#[test]
fn dry_run() {
    netns::inside("dry_run", || tell("dry_run"));
}

/// A story that is told.
type Story = (&'static str, JoinHandle<()>);

/// Waits for the end of a story. Tests inside run one after the other, and most of a story is waiting: the first one that is told
/// begins all of them.
fn tell(name: &str) {
    static TOLD: OnceLock<Mutex<Vec<Story>>> = OnceLock::new();
    let told = TOLD.get_or_init(|| {
        servers::start();
        let asked = STORIES.into_iter().filter(|(name, _)| is_asked_for(name));
        Mutex::new(asked.map(|(name, story)| (name, std::thread::spawn(story))).collect())
    });
    let mut stories = told.lock().unwrap_or_else(PoisonError::into_inner);
    let at = stories.iter().position(|(of, _)| *of == name).expect("who is told was asked for");
    let (_, thread) = stories.swap_remove(at);
    drop(stories);
    // What its thread printed went to the test that began it, which may be over.
    if let Err(panic) = thread.join() {
        panic!(
            "the story of {name}: {}",
            panic.downcast_ref::<String>().map_or("it went wrong", String::as_str)
        );
    }
}

/// Whether the words behind the command mean this test.
fn is_asked_for(name: &str) -> bool {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}
