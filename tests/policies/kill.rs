//! Endpoints that are killed one after the other while calls go on.

use crate::endpoint::{Does, Endpoint};
use crate::protocol::{Ask, Caller, Got, Meaning, every};
use crate::support::echo::conf;
use crate::world::World;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const CALLERS: usize = 2;
const KILLS: usize = 10;

/// What became of the calls of one kind.
#[derive(Default)]
struct Count {
    made: AtomicUsize,
    failed: Mutex<Vec<(String, Got)>>,
}

impl Count {
    /// Calls until it is over, each while the last one of its caller is answered.
    fn go_on(&self, world: &World, kind: &str, name: usize, over: &AtomicBool) {
        let mut caller: Option<Box<dyn Caller>> = None;
        while !over.load(Ordering::Relaxed) {
            let key = format!("{kind}-{name}-{}", self.made.fetch_add(1, Ordering::Relaxed));
            if caller.as_ref().is_none_or(|caller| caller.is_over()) {
                caller = Some(world.caller());
            }
            let got = caller.as_mut().expect("it was made").ask(&Ask::new(&key).header("kind", kind));
            if !got.is_ok() {
                self.failed.lock().expect("no thread panics with it").push((key, got));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn endpoints_that_are_killed_cost_nothing_or_what_was_in_flight() {
    every(|protocol| {
        let endpoints: Vec<_> = (0..3).map(|at| Endpoint::start(protocol, at)).collect();
        // There is always something in flight.
        for endpoint in &endpoints {
            endpoint.set(Does::Slow(Duration::from_millis(8)));
        }
        let listener = format!(
            "    protocol: {}\n    routes:\n      - {{ match: {{ headers: {{ kind: safe }} }}, to: up, idempotent: true }}\n      \
             - {{ match: {{}}, to: up }}",
            protocol.conf()
        );
        let listed: Vec<String> = endpoints.iter().map(|one| format!("\"{}\"", one.address())).collect();
        let clusters = format!("clusters:\n  up: {{ endpoints: [{}] }}", listed.join(", "));
        let mut world = World::with(protocol, Vec::new(), &conf(&listener, &clusters), 2);
        let (safe, other, over) = (Count::default(), Count::default(), AtomicBool::new(false));
        let endpoints = Mutex::new(endpoints);
        thread::scope(|scope| {
            let _leaving = crate::support::http1::Leaving(&over);
            for name in 0..CALLERS {
                let (world, safe, other, over) = (&world, &safe, &other, &over);
                scope.spawn(move || safe.go_on(world, "safe", name, over));
                scope.spawn(move || other.go_on(world, "other", name, over));
            }
            for turn in 0..KILLS {
                thread::sleep(Duration::from_millis(500));
                let mut endpoints = endpoints.lock().expect("no thread panics with it");
                endpoints[turn % 3].kill();
                thread::sleep(Duration::from_millis(500));
                endpoints[turn % 3].revive();
            }
        });
        let endpoints = endpoints.into_inner().expect("no thread panics with it");
        let (made, failed) =
            (safe.made.into_inner(), safe.failed.into_inner().expect("no thread panics with it"));
        assert!(failed.is_empty(), "{} of {made} idempotent calls failed: {failed:?}", failed.len());
        let (made, failed) =
            (other.made.into_inner(), other.failed.into_inner().expect("no thread panics with it"));
        assert!(
            made > 100 && failed.len() <= KILLS * CALLERS,
            "{} of {made} failed: {failed:?}",
            failed.len()
        );
        for (key, got) in failed {
            assert_eq!(got.meaning, Meaning::Unreachable, "{key}");
            let read: usize = endpoints.iter().map(|endpoint| endpoint.read(&key)).sum();
            assert!(read <= 1, "{key} was sent {read} times");
        }
        world.end();
    });
}
