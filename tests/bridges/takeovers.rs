//! Both directions at once, and whatever befalls the one who writes: in both registries each service keeps its three instances at
//! every look, and they go when the originals go.

use super::lists::{In, List, Looker, Of, until};
use super::sidecars::{both_ways, conf, names};
use super::support::echo::Upstream;
use super::support::{Sidecar, free_port, netns};
use std::time::Duration;

/// How long a leaving sidecar may take.
const LEAVE_MAX: Duration = Duration::from_secs(20);
/// Longer than a writer may stand still and still be one.
const STILL: Duration = Duration::from_secs(20);

/// Services of the story: whose, where its originals are, its name, and their addresses.
struct Stage {
    services: Vec<(Of, In, String, Vec<String>)>,
    /// What registers SOFARPC's services in `ZooKeeper`.
    provider: Option<(Sidecar, Upstream)>,
}

pub(crate) fn story() {
    let stage = Stage::begin();
    let lines = both_ways("take");
    let bridges = names(&lines);
    let first = Sidecar::start(&conf(&lines));
    first.becomes("leading", &bridges);
    let mut second = Sidecar::start(&conf(&lines));
    for (list, wanted) in &stage.lists() {
        list.becomes(wanted);
    }
    for bridge in &bridges {
        first.is_done(bridge);
    }
    second.becomes("standby", &bridges);
    stage.are_marked();
    holds(&second, &bridges);
    let looker = Looker::begin(stage.lists());
    let third = killed(first, &second, &lines);
    let third = still(&mut second, third, &bridges);
    left(third, &second, &bridges);
    looker.end("killed, back, standing still, gone on and left");
    stage.empties();
    for bridge in &bridges {
        let told = second.bridge(bridge);
        assert!(told["trouble"].is_null() && told["frozen"].is_null(), "{told:#}");
        assert_eq!((&told["entries"], &told["instances"]), (&0.into(), &0.into()), "{told:#}");
    }
}

/// The writer is killed; the other one writes; and the one that was killed comes back and stands by.
fn killed(first: Sidecar, second: &Sidecar, lines: &[String]) -> Sidecar {
    let bridges = names(lines);
    // Dropping it is SIGKILL.
    drop(first);
    second.becomes("leading", &bridges);
    for bridge in &bridges {
        second.is_done(bridge);
    }
    let back = Sidecar::start(&conf(lines));
    back.becomes("standby", &bridges);
    holds(&back, &bridges);
    back
}

/// The writer stands still for so long that the other one writes; when it goes on it is no writer any more.
fn still(second: &mut Sidecar, third: Sidecar, bridges: &[String]) -> Sidecar {
    second.signal("STOP");
    third.becomes("leading", bridges);
    std::thread::sleep(STILL);
    second.signal("CONT");
    second.becomes("standby", bridges);
    third.becomes("leading", bridges);
    let entries = |told: &Sidecar| told.bridge("take-d-nz")["entries"].clone();
    until("what another has is given up", || entries(second) == 0 && entries(&third) == 3);
    holds(second, bridges);
    third
}

/// The one that writes leaves in good order.
fn left(mut third: Sidecar, second: &Sidecar, bridges: &[String]) {
    third.term();
    assert!(third.wait(LEAVE_MAX).success());
    second.becomes("leading", bridges);
    for bridge in bridges {
        second.is_done(bridge);
    }
}

/// What stands by at Nacos has to hold its entries before the one that writes may go.
fn holds(standby: &Sidecar, bridges: &[String]) {
    until("the one that stands by holds copies", || {
        let zn = bridges.iter().filter(|name| name.ends_with("-zn"));
        zn.map(|name| standby.bridge(name)).all(|told| told["entries"] == 3 && told["pending"] == 0)
    });
}

impl Stage {
    fn begin() -> Self {
        let mut services = Vec::new();
        for (of, short) in [(Of::Dubbo, "d"), (Of::Sofa, "s")] {
            for (at, long) in [(In::ZooKeeper, "Zk"), (In::Nacos, "Nacos")] {
                let addresses: Vec<String> =
                    (0..3).map(|_| format!("{}:{}", netns::ADDRESS, free_port())).collect();
                let mut addresses = addresses;
                addresses.sort();
                services.push((of, at, format!("take.{short}.From{long}"), addresses));
            }
        }
        let mut stage = Self { services, provider: None };
        for (of, at, service, addresses) in &stage.services {
            if (*of, *at) == (Of::Sofa, In::ZooKeeper) {
                continue;
            }
            for address in addresses {
                List::new(*of, *at, service).put(address);
            }
        }
        stage.provider = Some(stage.registered());
        stage
    }

    /// SOFARPC's services in `ZooKeeper` are registered by a sidecar, on behalf of an application that answers.
    fn registered(&self) -> (Sidecar, Upstream) {
        let app = Upstream::start();
        let (_, _, service, addresses) = self
            .services
            .iter()
            .find(|(of, at, ..)| (*of, *at) == (Of::Sofa, In::ZooKeeper))
            .expect("it is there");
        let entry = |(at, address): (usize, &String)| {
            let port = address.rsplit_once(':').expect("a port").1;
            format!(
                "  own{at}: {{ in: zk, service: {service}, framework: sofarpc, host: {}, port: {port}, local: \"{}\" }}\n",
                netns::ADDRESS,
                app.address()
            )
        };
        let register: String = addresses.iter().enumerate().map(entry).collect();
        let port = free_port();
        let text = conf(&[]).replace(
            "bridges:\n",
            &format!(
                "register:\n{register}listeners:\n  main: {{ bind: \"127.0.0.1:{port}\", protocol: bolt, routes: [{{ to: up }}] }}\n\
                 clusters:\n  up: {{ endpoints: [\"{}\"] }}\n",
                app.address()
            ),
        );
        (Sidecar::start(&text), app)
    }

    /// Every service in both registries, and who shall stand there.
    fn lists(&self) -> Vec<(List, Vec<String>)> {
        let both = |(of, _, service, addresses): &(Of, In, String, Vec<String>)| {
            [In::ZooKeeper, In::Nacos].map(|at| (List::new(*of, at, service), addresses.clone()))
        };
        self.services.iter().flat_map(both).collect()
    }

    /// Copies say that they are, and originals do not.
    fn are_marked(&self) {
        for (of, home, service, _) in &self.services {
            for at in [In::ZooKeeper, In::Nacos] {
                let entries = List::new(*of, at, service).entries();
                for entry in &entries {
                    let short = if *of == Of::Dubbo { "d" } else { "s" };
                    let way = if *home == In::ZooKeeper { "zn" } else { "nz" };
                    let bridge = format!("take-{short}-{way}");
                    let origin = match home {
                        In::ZooKeeper => "zookeeper:127.0.0.1:2181",
                        In::Nacos => "nacos:127.0.0.1:8848",
                    };
                    let wanted = (at != *home).then_some([origin, bridge.as_str(), "1"]);
                    assert_eq!(entry.mark(), wanted, "{at:?}: {entry:?}");
                }
            }
        }
    }

    /// All originals leave, and their copies with them.
    fn empties(mut self) {
        let (mut sidecar, _app) = self.provider.take().expect("it runs");
        sidecar.term();
        assert!(sidecar.wait(LEAVE_MAX).success());
        for (of, at, service, addresses) in &self.services {
            if (*of, *at) != (Of::Sofa, In::ZooKeeper) {
                for address in addresses {
                    List::new(*of, *at, service).take(address);
                }
            }
        }
        for (list, _) in &self.lists() {
            list.becomes(&[]);
        }
        for (list, _) in &self.lists() {
            list.keeps(&[], Duration::from_millis(500));
        }
    }
}
