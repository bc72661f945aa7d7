//! What the conf means for what the application says itself: where it is heard, and where what it gives is made known.
//!
//! Whoever is heard decides what is registered in the application's name: it is heard on loopback alone. What could never work is
//! refused here, so that nothing is left to be refused to an application that asks only once.

use std::net::{IpAddr, SocketAddr};

use outrigger_discovery::{Framework, Registration};

use super::{
    super::{file, learn as written, registries, report::quote, yaml::At},
    Lowering, RegisterPlan,
};

/// Where SOFARPC's applications expect a sidecar (`MeshConstants.HTTP_PORT`), and where they listen themselves.
const SOFARPC: (&str, &str) = ("127.0.0.1:13330", "127.0.0.1:12200");
/// Where MOSN's applications of Dubbo expect one (`dubbod`), and where they listen themselves.
const DUBBO: (&str, &str) = ("127.0.0.1:22222", "127.0.0.1:20880");

/// Where the application of a framework is heard, and what becomes of what it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnPlan {
    /// Whose words are spoken there.
    pub framework: Framework,
    /// Where it is heard: a loopback address.
    pub bind: SocketAddr,
    /// The registries that what it gives is made known in, at least one.
    pub registries: Vec<String>,
    /// What others dial: `host:port`, or a port alone (`:12201`) where the host is found out by the registry's address.
    pub address: String,
    /// Where the application listens, unless it says another port.
    local: String,
    /// What is spoken at the listener that others dial; `None`: nobody knows, or anything.
    spoken: Option<Vec<String>>,
}

impl LearnPlan {
    /// Whether calls of a protocol, by its framework's name, find their way at the listener that others dial.
    pub fn carries(&self, protocol: &str) -> bool {
        let Some(spoken) = &self.spoken else { return true };
        let names: &[&str] = match protocol {
            "bolt" => &["bolt"],
            "dubbo" => &["dubbo"],
            "tri" => &["triple", "http2"],
            "grpc" => &["grpc", "http2"],
            "http" | "rest" => &["http1"],
            "h2c" => &["http2"],
            _ => &[],
        };
        names.iter().any(|name| spoken.iter().any(|known| known == "auto" || known == name))
    }

    /// How something is made known that the application gives. `port`: the one that it said it listens on.
    pub fn register(&self, name: String, what: Registration, port: Option<u16>) -> RegisterPlan {
        let what = Registration { address: self.address.clone(), framework: self.framework, ..what };
        let local = match (port, self.local.rsplit_once(':')) {
            (Some(port), Some((host, _))) => format!("{host}:{port}"),
            _ => self.local.clone(),
        };
        RegisterPlan::new(name, self.registries.clone(), what, local)
    }
}

impl Lowering<'_> {
    /// Where the application says what it gives and wants.
    pub(super) fn learning(&mut self, at: At<'_>) -> Vec<LearnPlan> {
        let Some(written) = &self.conf.learn else { return Vec::new() };
        let of = [
            ("sofarpc", registries::Framework::Sofarpc, &written.sofarpc, SOFARPC),
            ("dubbo", registries::Framework::Dubbo, &written.dubbo, DUBBO),
        ];
        let written = of.iter().filter_map(|(key, framework, from, defaults)| {
            Some((*key, *framework, from.as_ref()?, *defaults))
        });
        let mut plans: Vec<LearnPlan> = Vec::new();
        for (key, framework, from, defaults) in written {
            let Some(plan) = self.learn(at.key(key), framework, from, defaults) else { continue };
            let bind = from.bind.as_deref().unwrap_or(defaults.0);
            if plan.bind.port() != 0 && plans.iter().any(|other| other.bind == plan.bind) {
                self.problems.push(at.key(key).key("bind").problem(format!("{bind} is bound twice")));
            }
            plans.push(plan);
        }
        if self.conf.learn.as_ref().is_some_and(|learn| learn.sofarpc.is_none() && learn.dubbo.is_none())
            && !at.has("sofarpc")
            && !at.has("dubbo")
        {
            self.problems.push(at.problem("expected whose words are heard: `sofarpc`, `dubbo` or both"));
        }
        plans
    }

    fn learn(
        &mut self,
        at: At<'_>,
        framework: registries::Framework,
        from: &written::LearnFrom,
        (bind, local): (&str, &str),
    ) -> Option<LearnPlan> {
        self.takes_entries(at.key("in"), &from.registries.0);
        self.register_address(at, from.host.as_deref(), from.port);
        self.no_circle(at, from.port, framework, None);
        let local = from.local.as_deref().unwrap_or(local);
        self.register_local(at.key("local"), local);
        let place = if from.bind.is_some() { at.key("bind") } else { at };
        let bind = self.heard_at(place, from.bind.as_deref().unwrap_or(bind))?;
        Some(LearnPlan {
            framework: framework.get(),
            bind,
            registries: from.registries.0.clone(),
            address: format!("{}:{}", from.host.as_deref().unwrap_or_default(), from.port),
            local: local.to_owned(),
            spoken: self.spoken_at(from.port),
        })
    }

    /// A loopback address that nothing else of ours is bound to.
    fn heard_at(&mut self, at: At<'_>, text: &str) -> Option<SocketAddr> {
        let bind = self.address(at, text, "")?;
        if !bind.ip().is_loopback() {
            let message = format!("it would listen on {}, which is not loopback", bind.ip());
            let help =
                "whoever reaches it decides what is registered in the application's name; bind 127.0.0.1";
            self.problems.push(at.problem(message).with_help(help));
        }
        let all = |ip: IpAddr| ip.is_unspecified() || ip == bind.ip();
        let taken = |other: &str| {
            let other = other.replace("localhost:", "127.0.0.1:").parse::<SocketAddr>();
            other.is_ok_and(|other| other.port() == bind.port() && bind.port() != 0 && all(other.ip()))
        };
        let listener = self.conf.listeners.iter().find(|(_, listener)| taken(&listener.bind));
        if let Some((name, _)) = listener {
            let message = format!("listener {} is bound to {} already", quote(name), quote(text));
            self.problems.push(at.problem(message));
        } else if taken(&self.conf.admin) {
            self.problems.push(at.problem(format!("the admin port is bound to {} already", quote(text))));
        }
        Some(bind)
    }

    /// What is spoken at a port of ours; `None`: nobody knows, or anything.
    fn spoken_at(&self, port: u16) -> Option<Vec<String>> {
        let here = |listener: &&file::Listener| {
            listener.bind.parse::<SocketAddr>().is_ok_and(|bind| bind.port() == port)
        };
        let listener = self.conf.listeners.values().find(here)?;
        let spoken = listener.protocol.0.clone();
        (!spoken.iter().any(|name| name == "tcp")).then_some(spoken)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use outrigger_discovery::Level;

    use super::*;
    use crate::conf::{
        lower::{Plan, read},
        report::Report,
    };

    /// A conf whose line 2 is what is learned.
    fn conf(learn: &str, listeners: &str) -> Result<Plan, Report> {
        let text = format!(
            "app: shop\nlearn: {{ {learn} }}\nregistries: {{ zk: {{ zookeeper: {{ address: 'h:2181' }} }}, f: {{ file: {{ path: x }} }} \
             }}\nlisteners: {{ {listeners} }}\nclusters: {{ c: {{ endpoints: ['a:1'] }}, d: {{ discover: {{ registry: zk, \
             service: s, framework: sofarpc }} }} }}\n"
        );
        read(Path::new("conf.yaml"), text.as_bytes(), &|_| None)
    }

    const IN: &str = "in: { bind: '0.0.0.0:12201', protocol: bolt, routes: [{ to: c }] }";

    #[track_caller]
    fn refused(learn: &str, listeners: &str) -> Vec<String> {
        let report = conf(learn, listeners).expect_err("the conf has mistakes");
        let told = report
            .problems()
            .iter()
            .map(|problem| format!("{}:{} {}", problem.span.line, problem.span.column, problem.message));
        told.collect()
    }

    fn registration(protocol: &str) -> Registration {
        Registration {
            app: "app".into(),
            framework: Framework::Spring,
            level: Level::Interface,
            service: "s".into(),
            protocol: protocol.into(),
            address: String::new(),
            group: None,
            version: None,
            weight: 100,
            started: 0,
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn every_key_reaches_what_it_is_for() {
        let all = "sofarpc: { in: zk, port: 12201 }, dubbo: { in: [zk], port: 1, host: 10.0.0.5, bind: '[::1]:7', local: 'app:9' }";
        let plan = conf(all, IN).unwrap_or_else(|report| panic!("{report}"));
        let [sofarpc, dubbo] = &plan.learn[..] else { panic!("{:?}", plan.learn) };
        assert_eq!(
            (sofarpc.framework, sofarpc.bind.to_string().as_str()),
            (Framework::Sofarpc, "127.0.0.1:13330")
        );
        assert_eq!((dubbo.framework, dubbo.bind.to_string().as_str()), (Framework::Dubbo, "[::1]:7"));
        assert_eq!((sofarpc.registries.join(" "), dubbo.address.as_str()), ("zk".into(), "10.0.0.5:1"));
        let known = sofarpc.register("n".into(), registration("bolt"), None);
        assert_eq!(
            (known.name.as_str(), known.local.as_str(), known.what.address.as_str()),
            ("n", "127.0.0.1:12200", ":12201")
        );
        assert_eq!((known.what.framework, known.registries.len()), (Framework::Sofarpc, 1));
        assert_eq!((known.health.check.to_string().as_str(), known.lenient), ("a heartbeat of bolt", false));
        assert_eq!(dubbo.register("n".into(), registration("dubbo"), Some(5)).local, "app:5");
        assert!(sofarpc.carries("bolt") && !sofarpc.carries("tri") && !sofarpc.carries("xr"));
        assert!(dubbo.carries("dubbo") && dubbo.carries("xr"), "nobody knows what is spoken there");
        for (protocol, carried) in [("auto", &["bolt", "tri", "rest"][..]), ("[bolt, tcp]", &["bolt", "xr"])]
        {
            let listener = IN.replace("bolt", protocol);
            let plan = conf("sofarpc: { in: zk, port: 12201 }", &listener)
                .unwrap_or_else(|report| panic!("{report}"));
            assert!(carried.iter().all(|name| plan.learn[0].carries(name)), "{protocol}");
        }
        assert!(
            conf("dubbo: { in: zk, port: 12201 }", IN).is_ok(),
            "another listener may lead to the application"
        );
    }

    #[test]
    fn what_could_never_work_is_refused_at_its_place() {
        for (keys, wrong, told) in [
            ("port: 9, in: zk, bind: ", "'0.0.0.0:1'", "it would listen on 0.0.0.0, which is not loopback"),
            ("port: 9, in: zk, bind: ", "'10.0.0.1:1'", "it would listen on 10.0.0.1, which is not loopback"),
            ("port: 9, in: zk, bind: ", "x", "expected an address `ip:port`, found `x`"),
            (
                "port: 9, in: zk, bind: ",
                "'127.0.0.1:12201'",
                "listener `in` is bound to `127.0.0.1:12201` already",
            ),
            (
                "port: 9, in: zk, bind: ",
                "'127.0.0.1:15000'",
                "the admin port is bound to `127.0.0.1:15000` already",
            ),
            ("port: 9, in: ", "zz", "no registry is called `zz`"),
            ("port: 9, in: ", "f", "nothing can be registered in a file"),
            ("port: 9, in: ", "[]", "expected at least one registry"),
            ("port: 9, in: [zk, ", "zk]", "`zk` is listed twice"),
            ("in: zk, port: ", "0", "expected the port that others dial"),
            ("in: zk, port: 9, host: ", "127.0.0.1", "`127.0.0.1` means \"this host\" to whoever dials it"),
            ("in: zk, port: 9, local: ", "'12200'", "expected `host:port`, found `12200`"),
            (
                "port: 9, in: zk }, dubbo: { port: 9, in: zk, bind: ",
                "'127.0.0.1:13330'",
                "127.0.0.1:13330 is bound twice",
            ),
        ] {
            let learn = format!("sofarpc: {{ {keys}{wrong} }}");
            let column = "learn: { sofarpc: { ".len() + keys.len() + 1;
            assert_eq!(refused(&learn, IN), [format!("2:{column} {told}")], "{learn}");
        }
        assert_eq!(refused("", IN), ["2:8 expected whose words are heard: `sofarpc`, `dubbo` or both"]);
        let learn = "sofarpc: { in: zk, port: 12201 }";
        for to in ["{ service: zk }", "d"] {
            let told = refused(learn, &IN.replace("to: c", &format!("to: {to}")));
            assert!(
                told.iter()
                    .any(|told| told.contains("calls of a service at listener `in`")
                        && told.starts_with("2:35")),
                "{told:?}"
            );
        }
        let other = IN.replace("to: c", "to: d").replace("bolt", "dubbo");
        assert!(
            conf("dubbo: { in: zk, port: 12201 }", &other).is_ok(),
            "what is found there is another framework's"
        );
    }
}
