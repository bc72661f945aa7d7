//! What befalls registries, and what callers must not notice of it: the whole binary over a real `ZooKeeper` (Dubbo), a real
//! Nacos (SOFARPC), a real etcd (Dubbo) and a real API server of Kubernetes (Dubbo).
//!
//! Servers are killed, hang and come back; the sidecar itself hangs; lists are suddenly empty; applications come, go and move;
//! and all the time calls are made of which not one may fail. What stands in a registry is read and written by means of the
//! tests' own, never by the sidecar's client. All of it runs in a network of its own. No fine time is asserted: what is to come
//! is waited for, and only what must not come is watched for a while. Must never share a registry between what breaks it and
//! what does not.

mod etcd;
#[allow(dead_code, reason = "the tests of etcd's own crate use the rest")]
#[path = "../../registries/etcd/tests/support/gateway.rs"]
mod gateway;
mod kubernetes;
mod lives;
mod moves;
mod nacos;
mod outage;
mod registry;
#[path = "../support/mod.rs"]
mod support;
mod world;
mod zookeeper;

use registry::{Kind, Server};
use std::any::Any;
use std::panic::resume_unwind;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, ScopedJoinHandle};
use support::netns;

#[test]
fn zookeeper() {
    netns::inside("zookeeper", || tell(Kind::ZooKeeper));
}

#[test]
fn nacos() {
    netns::inside("nacos", || tell(Kind::Nacos));
}

#[test]
fn etcd() {
    netns::inside("etcd", || tell(Kind::Etcd));
}

#[test]
fn kubernetes() {
    netns::inside("kubernetes", || tell(Kind::Kubernetes));
}

/// A story that is told.
type Story = (Kind, JoinHandle<()>);

/// Waits for the end of a registry's story. Tests inside run one after the other, and most of a story is waiting: the first
/// one that is told begins all of them.
fn tell(kind: Kind) {
    static STORIES: OnceLock<Mutex<Vec<Story>>> = OnceLock::new();
    let stories = STORIES.get_or_init(|| {
        let asked = Kind::ALL.into_iter().filter(|kind| is_asked_for(kind.name()));
        Mutex::new(asked.map(|kind| (kind, std::thread::spawn(move || story(kind)))).collect())
    });
    let mut stories = stories.lock().unwrap_or_else(PoisonError::into_inner);
    let at = stories.iter().position(|(of, _)| *of == kind).expect("who is told was asked for");
    let (_, thread) = stories.swap_remove(at);
    drop(stories);
    // What its thread printed went to the test that began it, which may be over.
    if let Err(why) = thread.join() {
        panic!("the story of {}: {}", kind.name(), said(&*why));
    }
}

/// What a thread said last that panicked.
fn said(why: &(dyn Any + Send)) -> &str {
    let text = why.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("it went wrong")
}

/// Waits for threads that tell parts of a story; what the first one said that went wrong, the story says.
pub(crate) fn together(threads: Vec<ScopedJoinHandle<'_, ()>>) {
    let ends: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
    if let Some(why) = ends.into_iter().find_map(Result::err) {
        resume_unwind(why);
    }
}

/// Whether the words behind the command mean this test.
fn is_asked_for(name: &str) -> bool {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}

/// One server is broken while another one is not, and in the end there are two to move between.
fn story(kind: Kind) {
    let (mut fragile, calm) = std::thread::scope(|scope| {
        let fragile = scope.spawn(|| Server::start(kind, 0));
        let calm = Server::start(kind, 1);
        (fragile.join().expect("a server starts"), calm)
    });
    std::thread::scope(|scope| {
        let broken = scope.spawn(|| outage::story(&mut fragile));
        let lived = scope.spawn(|| lives::story(&calm));
        together(vec![broken, lived]);
    });
    moves::story(&fragile, &calm);
}
