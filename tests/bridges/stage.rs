//! Services of two frameworks in both registries, each with three originals in one of them, for bridges that lead both ways.
//!
//! Originals are put by the tests' own hands; those of SOFARPC in `ZooKeeper` are registered by a sidecar. Must never share the
//! names of another stage.

use super::lists::{In, List, Looker, Of};
use super::sidecars::conf;
use super::support::echo::Upstream;
use super::support::{Sidecar, free_port, netns};
use std::time::Duration;

/// How long a leaving sidecar may take.
const LEAVE_MAX: Duration = Duration::from_secs(20);

/// The services: whose, where its originals are, its name, and their addresses.
pub(crate) struct Stage {
    name: &'static str,
    services: Vec<(Of, In, String, Vec<String>)>,
    /// What registers SOFARPC's services in `ZooKeeper`.
    provider: Option<(Sidecar, Upstream)>,
}

impl Stage {
    /// Puts the originals; bridges of this name carry them.
    pub(crate) fn begin(name: &'static str) -> Self {
        let mut services = Vec::new();
        for (of, short) in [(Of::Dubbo, "d"), (Of::Sofa, "s")] {
            for (at, long) in [(In::ZooKeeper, "Zk"), (In::Nacos, "Nacos")] {
                let addresses: Vec<String> =
                    (0..3).map(|_| format!("{}:{}", netns::ADDRESS, free_port())).collect();
                let mut addresses = addresses;
                addresses.sort();
                services.push((of, at, format!("{name}.{short}.From{long}"), addresses));
            }
        }
        let mut stage = Self { name, services, provider: None };
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
    pub(crate) fn lists(&self) -> Vec<(List, Vec<String>)> {
        let both = |(of, _, service, addresses): &(Of, In, String, Vec<String>)| {
            [In::ZooKeeper, In::Nacos].map(|at| (List::new(*of, at, service), addresses.clone()))
        };
        self.services.iter().flat_map(both).collect()
    }

    /// Copies say that they are, and originals do not.
    pub(crate) fn are_marked(&self) {
        for (of, home, service, _) in &self.services {
            for at in [In::ZooKeeper, In::Nacos] {
                let entries = List::new(*of, at, service).entries();
                for entry in &entries {
                    let short = if *of == Of::Dubbo { "d" } else { "s" };
                    let way = if *home == In::ZooKeeper { "zn" } else { "nz" };
                    let bridge = format!("{}-{short}-{way}", self.name);
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

    /// All originals leave, and their copies with them; for a while it is looked that none comes back.
    pub(crate) fn empties(mut self, time: Duration) {
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
        let lists: Vec<_> = self.lists().into_iter().map(|(list, _)| (list, Vec::new())).collect();
        for (list, none) in &lists {
            list.becomes(none);
        }
        let looker = Looker::begin(lists);
        std::thread::sleep(time);
        looker.end(&format!("{}, all originals gone", self.name));
    }
}
