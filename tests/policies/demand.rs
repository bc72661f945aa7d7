//! Calls that name their service: it is looked for when the first call names it, and the call waits for it.

use crate::endpoint::Endpoint;
use crate::protocol::{Ask, Meaning, Speaks, every};
use crate::support::echo::conf;
use crate::support::{TempDir, within};
use crate::world::{PATIENCE, World};
use std::fs;
use std::path::PathBuf;

/// A file of services, and the name under which calls of a protocol look for theirs.
struct Services {
    dir: TempDir,
    name: &'static str,
}

impl Services {
    fn path(&self) -> PathBuf {
        self.dir.path().join("services.yaml")
    }

    fn write(&self, text: &str) {
        let next = self.dir.path().join("next");
        fs::write(&next, text).expect("it can be written");
        fs::rename(next, self.path()).expect("a rename");
    }

    fn publish(&self, endpoints: &[&Endpoint]) {
        let line = |endpoint: &&Endpoint| format!("    - {}\n", endpoint.address());
        let lines: String = endpoints.iter().map(line).collect();
        self.write(&format!("services:\n  other.Service: []\n  {}:\n{lines}", self.name));
    }
}

/// A sidecar that looks for whatever a call names.
fn world(protocol: &'static dyn Speaks, count: usize) -> (World, Services) {
    let endpoints: Vec<_> = (0..count).map(|at| Endpoint::start(protocol, at)).collect();
    // Calls of plain HTTP name a service by their authority.
    let by_authority = protocol.name().starts_with("http");
    let (name, framework) = if by_authority { ("test.example", "spring") } else { ("t.Echo", "dubbo") };
    let services = Services { dir: TempDir::new(), name };
    services.write("services: {}");
    let listener = format!(
        "    protocol: {}\n    routes: [{{ match: {{}}, to: {{ service: {{ registry: local, framework: {framework} }} }} }}]",
        protocol.conf()
    );
    let rest = format!("registries:\n  local: {{ file: {{ path: {} }} }}", services.path().display());
    let world = World::with(protocol, endpoints, &conf(&listener, &rest), 2);
    (world, services)
}

#[test]
fn the_first_call_waits_until_its_service_is_known_and_no_call_fails() {
    every(|protocol| {
        let (mut world, services) = world(protocol, 2);
        let both: Vec<&Endpoint> = world.endpoints.iter().collect();
        services.publish(&both);
        assert!(within(PATIENCE, || world.sidecar.admin_get("/ready").0 == 200), "nothing has to be known");
        std::thread::sleep(std::time::Duration::from_millis(700));
        for (key, got) in world.calls(40) {
            assert!(got.is_ok(), "{key}: {got:?}");
        }
        assert!(world.counts().iter().all(|calls| *calls > 0), "{:?}", world.counts());
        let (_, page) = world.sidecar.admin_get("/clusters");
        assert!(page.contains(&format!("local/{}", services.name)), "{page}");
        world.end();
    });
}

#[test]
fn many_first_calls_wait_together() {
    every(|protocol| {
        let (world, services) = world(protocol, 1);
        let one: Vec<&Endpoint> = world.endpoints.iter().collect();
        services.publish(&one);
        std::thread::sleep(std::time::Duration::from_millis(700));
        std::thread::scope(|scope| {
            for at in 0..8 {
                let world = &world;
                scope.spawn(move || {
                    let got = world.caller().ask(&Ask::new(format!("at-once-{at}")).size(2_000));
                    assert!(got.is_ok(), "{got:?}");
                });
            }
        });
        let mut world = world;
        world.end();
    });
}

#[test]
fn a_service_that_nobody_gives_is_refused_and_found_as_soon_as_somebody_does() {
    every(|protocol| {
        let (mut world, services) = world(protocol, 1);
        let (_, refused) = world.call();
        assert!(refused.by.is_none() && !refused.is_ok(), "{refused:?}");
        assert!(matches!(refused.meaning, Meaning::Other(_) | Meaning::Unreachable), "{refused:?}");
        let one: Vec<&Endpoint> = world.endpoints.iter().collect();
        services.publish(&one);
        world.until("an answer", |world| world.endpoints[0].calls() > 0);
        world.end();
    });
}

#[test]
fn a_service_of_a_registry_that_is_silent_is_refused_in_time() {
    every(|protocol| {
        let (mut world, services) = world(protocol, 1);
        services.write("services: [");
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        let (_, refused) = world.call();
        assert!(refused.by.is_none() && !refused.is_ok(), "{refused:?}");
        let one: Vec<&Endpoint> = world.endpoints.iter().collect();
        services.publish(&one);
        world.until("an answer", |world| world.endpoints[0].calls() > 0);
        world.end();
    });
}

#[test]
fn a_reload_keeps_what_was_found_and_drops_what_nothing_asks_for() {
    every(|protocol| {
        let (mut world, services) = world(protocol, 1);
        let one: Vec<&Endpoint> = world.endpoints.iter().collect();
        services.publish(&one);
        std::thread::sleep(std::time::Duration::from_millis(700));
        assert!(world.call().1.is_ok());
        let text = fs::read_to_string(world.sidecar.conf_path()).expect("the conf");
        fs::write(world.sidecar.conf_path(), text.replace("app: test", "app: other")).expect("a conf");
        assert!(within(PATIENCE, || world.sidecar.stats()["app"] == "other"));
        assert!(world.call().1.is_ok());
        let (_, page) = world.sidecar.admin_get("/registries");
        assert!(page.contains(&format!("local/{}", services.name)), "{page}");
        world.end();
    });
}
