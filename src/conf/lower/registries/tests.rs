//! Tests of what the conf means for registries: each key reaches what it is for, and what could never work is refused at its
//! place, in words that say what to write.

use std::{path::Path, time::Duration};

use outrigger_discovery::{Framework, Level, ServiceKey};

use super::{
    super::{Plan, RegistryKind, Source, read},
    PodPlan,
};
use crate::conf::report::Report;

/// A conf whose line 2 begins the registries; `rest` follows.
fn conf(registries: &str, rest: &str) -> Result<Plan, Report> {
    let text = format!(
        "app: shop\nregistries: {{ {registries} }}\n{rest}\nlisteners: {{ l: {{ bind: 127.0.0.1:1, routes: [{{ to: c }}] }} }}\n"
    );
    read(Path::new("conf.yaml"), text.as_bytes(), &|_| None)
}

const ZK: &str = "zk: { zookeeper: { address: 'h:2181' } }";
const CLUSTER: &str = "clusters: { c: { endpoints: ['a:1'] } }";

fn well(registries: &str, rest: &str) -> Plan {
    conf(registries, rest).unwrap_or_else(|report| panic!("{report}"))
}

#[track_caller]
fn refused(registries: &str, rest: &str) -> Vec<String> {
    let report = conf(registries, rest).expect_err("the conf has mistakes");
    let told = report.problems().iter().map(|problem| {
        let help = problem.help.as_deref().unwrap_or("-");
        format!("{}:{} {} | {help}", problem.span.line, problem.span.column, problem.message)
    });
    told.collect()
}

#[test]
fn every_key_of_a_registry_reaches_what_it_is_for() {
    let plan = well(
        "zk: { zookeeper: { address: ['a:1', 'b:2'], chroot: /x/y, group: g, user: u, password: p, session_timeout: 9s, \
         hold_empty: 7s } }, nc: { nacos: { address: 'n:8848', namespace: ns, group: G, user: u, password: p, \
         hold_empty: 0s } }, e: { etcd: { address: ['a:2379', 'b:2379'], group: /g, user: u, password: p, lease: 9s, \
         hold_empty: 5s, tls: { ca: ca.pem, cert: own.pem, key: /k/own.key, name: etcd.internal } } }, \
         k8s: { kubernetes: { namespace: shops, kubeconfig: k.yaml, context: prod, hold_empty: 8s } }",
        CLUSTER,
    );
    let zk = &plan.registries["zk"];
    assert_eq!(zk.hold, Duration::from_secs(7));
    let RegistryKind::ZooKeeper(reached) = &zk.kind else { panic!("{zk:?}") };
    assert_eq!(reached.servers, ["a:1", "b:2"]);
    assert_eq!((reached.chroot.as_deref(), reached.group.as_str()), (Some("x/y"), "g"));
    let (user, password) = reached.auth.clone().unwrap();
    assert_eq!((user.as_str(), password.reveal(), reached.session_timeout.as_secs()), ("u", "p", 9));
    let RegistryKind::Nacos(reached) = &plan.registries["nc"].kind else { panic!() };
    assert_eq!(
        (reached.servers.len(), reached.namespace.as_deref(), reached.group.as_str()),
        (1, Some("ns"), "G")
    );
    let k8s = &plan.registries["k8s"];
    let RegistryKind::Kubernetes(reached) = &k8s.kind else { panic!("{k8s:?}") };
    assert_eq!((k8s.hold.as_secs(), k8s.servers().len()), (8, 0));
    assert_eq!((reached.namespace.as_deref(), reached.context.as_deref()), (Some("shops"), Some("prod")));
    assert!(reached.kubeconfig.as_ref().unwrap().ends_with("k.yaml"));
    let etcd = &plan.registries["e"];
    assert_eq!((etcd.hold, etcd.servers().len()), (Duration::from_secs(5), 2));
    let RegistryKind::Etcd(reached) = &etcd.kind else { panic!("{etcd:?}") };
    assert_eq!((reached.group.as_str(), reached.lease.as_secs()), ("g", 9));
    assert_eq!(reached.auth.as_ref().unwrap().1.reveal(), "p");
    let tls = reached.tls.as_ref().unwrap();
    assert_eq!((tls.ca.as_path(), tls.name.as_deref()), (Path::new("ca.pem"), Some("etcd.internal")));
    assert_eq!(tls.identity, Some(("own.pem".into(), "/k/own.key".into())));
    let shown = serde_json::to_string(&plan.written).unwrap();
    assert!(!shown.contains("\"p\"") && shown.contains("***"), "a secret is shown: {shown}");
}

#[test]
fn the_environment_tells_of_the_pod() {
    let pod = |variables: &'static [(&str, &str)]| {
        PodPlan::of(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    };
    let told =
        pod(&[("POD_NAME", "a"), ("HOSTNAME", "b"), ("POD_UID", "u"), ("POD_IPS", "10.0.0.1, fd00::1")]);
    let ips = vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()];
    assert_eq!(told, Some(PodPlan { name: "a".into(), uid: Some("u".into()), ips }));
    let less = pod(&[("HOSTNAME", "b"), ("POD_IP", "10.0.0.1")]).unwrap();
    assert_eq!((less.name.as_str(), less.uid, less.ips.len()), ("b", None, 1));
    assert_eq!(pod(&[("POD_IP", "10.0.0.1")]), None);
}

#[test]
fn what_is_looked_for_follows_from_framework_and_protocol() {
    let found = |discover: &str, more: &str| {
        let rest = format!("clusters: {{ c: {{ discover: {{ service: s, {discover} }}{more} }} }}");
        let plan = well(&format!("{ZK}, f: {{ file: {{ path: x }} }}"), &rest);
        let Source::Found { key, hold, .. } = plan.clusters[0].source.clone() else { panic!() };
        (key, hold)
    };
    let key = |framework, protocol: Option<&str>| ServiceKey {
        framework,
        protocol: protocol.map(str::to_owned),
        ..ServiceKey::new("s")
    };
    for (discover, more, want) in [
        ("registry: zk", "", key(Framework::Dubbo, Some("dubbo"))),
        ("registry: zk", ", protocol: triple", key(Framework::Dubbo, Some("tri"))),
        ("registry: zk, protocol: rest", ", protocol: triple", key(Framework::Dubbo, Some("rest"))),
        ("registry: zk, framework: sofarpc", "", key(Framework::Sofarpc, Some("bolt"))),
        ("registry: zk, framework: spring", "", key(Framework::Spring, Some("http"))),
        ("registry: f", "", key(Framework::Dubbo, None)),
    ] {
        assert_eq!(found(discover, more).0, want, "{discover}{more}");
    }
    let (key, hold) = found("registry: zk, version: '1', group: g, hold_empty: 0s", "");
    assert_eq!(
        (key.version.as_deref(), key.group.as_deref(), hold),
        (Some("1"), Some("g"), Some(Duration::ZERO))
    );
}

#[test]
fn what_is_made_known_is_as_it_is_written() {
    let rest = format!(
        "{CLUSTER}\nregister: {{ e: {{ in: zk, service: s, port: 20881, local: '127.0.0.1:20880', group: g, version: '2', \
         weight: 7, level: both, metadata: {{ zone: z }} }}, b: {{ in: [zk], service: t, framework: sofarpc, host: \
         10.0.0.1, port: 1, local: 'app:1' }}, w: {{ in: zk, service: u, framework: spring, port: 2, local: 'app:2' }} }}"
    );
    let plan = well(ZK, &rest);
    let [b, e, w] = &plan.register[..] else { panic!() };
    assert_eq!(
        (e.what.address.as_str(), e.what.protocol.as_str(), e.what.level),
        (":20881", "dubbo", Level::Both)
    );
    assert_eq!((e.what.weight, e.what.metadata["zone"].as_str(), e.lenient), (7, "z", false));
    assert_eq!(e.health.check.to_string(), "a heartbeat of dubbo");
    assert_eq!((b.what.address.as_str(), b.what.version.as_deref()), ("10.0.0.1:1", Some("1.0")));
    assert_eq!(
        (b.health.check.to_string().as_str(), b.what.protocol.as_str()),
        ("a heartbeat of bolt", "bolt")
    );
    assert_eq!((w.what.protocol.as_str(), w.lenient), ("http", true));
}

#[test]
fn mistakes_are_told_at_their_places() {
    for (registries, rest, told) in [
        (
            "zk: { zookeeper: { address: 'zookeeper://h:1' } }",
            CLUSTER,
            "2:43 expected `host:port`, found `zookeeper://h:1` | without a scheme",
        ),
        (
            "zk: { zookeeper: { address: ['h:1', h] } }",
            CLUSTER,
            "2:51 expected `host:port`, found `h` | as in registry.local:2181",
        ),
        ("zk: { zookeeper: { address: [] } }", CLUSTER, "2:43 expected at least one server | -"),
        (
            "zk: { zookeeper: { address: 'h:1', chroot: /a/../b } }",
            CLUSTER,
            "2:58 expected a path, found `/a/../b` | -",
        ),
        (
            "zk: { zookeeper: { address: 'h:1', session_timeout: 1ms } }",
            CLUSTER,
            "2:67 expected 1s to 10m | -",
        ),
        ("zk: { zookeeper: { address: 'h:1', user: u } }", CLUSTER, "2:56 a user needs a `password` | -"),
        (
            "nc: { nacos: { address: 'h:1', password: p } }",
            CLUSTER,
            "2:56 whose password it is, `user` says | -",
        ),
        ("nc: { nacos: { address: 'h:1', group: 'a@b' } }", CLUSTER, "2:53 expected a group's name | -"),
        ("e: { etcd: { address: 'h:1', group: a//b } }", CLUSTER, "2:51 expected a path, found `a//b` | -"),
        ("e: { etcd: { address: 'h:1', lease: 4s } }", CLUSTER, "2:51 expected 5s to 10m | -"),
        (
            "e: { etcd: { address: 'h:1', tls: { ca: c, cert: d } } }",
            CLUSTER,
            "2:64 a certificate needs its `key` | -",
        ),
        (
            "e: { etcd: { address: 'h:1', tls: { ca: c, key: d } } }",
            CLUSTER,
            "2:63 whose key it is, `cert` says | -",
        ),
        (
            "k: { kubernetes: { namespace: Shops } }",
            CLUSTER,
            "2:45 expected a namespace, found `Shops` | small letters, digits and `-`, at most 63",
        ),
        (
            ZK,
            "clusters: { c: { discover: { registry: zz, service: s } } }",
            "3:40 no registry is called `zz` | -",
        ),
    ] {
        assert_eq!(refused(registries, rest), [told], "{registries} {rest}");
    }
}

#[test]
fn nothing_is_made_known_that_nobody_could_use() {
    let both = "zk: { zookeeper: { address: 'h:1' } }, f: { file: { path: x } }";
    let refused = |register: &str| {
        refused(both, &format!("{CLUSTER}\nregister: {{ e: {{ service: s, {register} }} }}"))
    };
    let known = "in: zk, port: 1, local: 'a:1'";
    for (register, told) in [
        ("in: zz, port: 1, local: 'a:1'".to_owned(), "no registry is called `zz` | "),
        (
            "in: f, port: 1, local: 'a:1'".to_owned(),
            "nothing can be registered in a file | name a registry of another kind, or write it there",
        ),
        ("in: [], port: 1, local: 'a:1'".to_owned(), "expected at least one registry | -"),
        ("in: [zk, zk], port: 1, local: 'a:1'".to_owned(), "`zk` is listed twice | -"),
        ("in: zk, port: 0, local: 'a:1'".to_owned(), "expected the port that others dial | -"),
        ("in: zk, port: 1, local: a".to_owned(), "expected `host:port`, found `a` | as in 127.0.0.1:20880"),
        (
            format!("{known}, host: 127.0.0.1"),
            "`127.0.0.1` means \"this host\" to whoever dials it | write the address by which others reach this host, \
             or leave `host` out",
        ),
        (format!("{known}, host: 'a b'"), "the host must be a name or an IP address | -"),
        (format!("{known}, weight: 10001"), "expected 0 to 10000 | -"),
        (format!("{known}, framework: spring, level: both"), "only services of Dubbo have a level | -"),
        (format!("{known}, framework: sofarpc, group: g"), "only services of Dubbo have a group | -"),
        (format!("{known}, check: {{ http: {{ path: x }} }}"), "a path begins with `/` | write /x"),
    ] {
        let problems = refused(&register);
        assert!(problems.len() == 1 && problems[0].contains(told), "{register}: {problems:?}");
    }
}

#[test]
fn what_is_made_known_leads_to_the_application_and_never_in_a_circle() {
    let told = |routes: &str, service: &str| {
        let text = format!(
            "app: shop\nregistries: {{ {ZK} }}\nclusters: {{ c: {{ endpoints: ['a:1'] }}, d: {{ discover: {{ registry: zk, \
             service: s }} }} }}\nregister: {{ e: {{ in: zk, service: {service}, port: 20881, local: 'a:1' }} }}\nlisteners: \
             {{ l: {{ bind: '0.0.0.0:20881', routes: [{routes}] }} }}\n"
        );
        read(Path::new("conf.yaml"), text.as_bytes(), &|_| None).err().map(|report| report.to_string())
    };
    for (routes, service) in
        [("{ to: d }", "s"), ("{ to: { service: zk } }", "t"), ("{ weights: { c: 1, d: 1 } }", "s")]
    {
        let told = told(routes, service).unwrap_or_default();
        assert!(told.contains("in a circle") && told.contains("own `endpoints`"), "{routes}: {told}");
    }
    for (routes, service) in [("{ to: c }", "s"), ("{ to: d }", "t")] {
        assert_eq!(told(routes, service), None, "{routes}");
    }
}

#[test]
fn a_route_may_ask_for_whatever_service_a_call_names() {
    let route = |to: &str, listener: &str, rest: &str| {
        let text = format!(
            "app: shop\nregistries: {{ {ZK} }}\n{CLUSTER}\n{rest}\nlisteners: {{ l: {{ bind: 127.0.0.1:1, {listener} routes: \
             [{{ to: {to} }}] }} }}\n"
        );
        read(Path::new("conf.yaml"), text.as_bytes(), &|_| None)
    };
    let words = |to: &str, listener: &str| {
        let plan = route(to, listener, "").unwrap_or_else(|report| panic!("{report}"));
        assert!(plan.listeners[0].routes[0].by_service.is_some() && plan.demands.len() == 1);
        plan.demands[0].words()
    };
    for (to, listener, framework, by) in [
        ("{ service: zk }", "", "dubbo service that the call names by its service", "by dubbo"),
        ("{ service: zk }", "protocol: bolt,", "sofarpc service", "by bolt"),
        ("{ service: zk }", "protocol: triple,", "dubbo service", "by tri"),
        ("{ service: { registry: zk, framework: spring } }", "", "names by its authority", "by http"),
        ("{ service: { registry: zk, protocol: rest } }", "", "dubbo service", "by rest"),
    ] {
        let words = words(to, listener);
        assert!(words.contains(framework) && words.ends_with(by), "{to} {listener}: {words}");
    }
    let plan =
        route("{ service: zk }", "", "defaults: { cluster: { balance: random, outlier: off } }").unwrap();
    let like = plan.demands[0].like();
    assert_eq!((like.balance, like.settings.outlier.is_none()), (outrigger_core::Balance::Random, true));
    let plan = route("{ service: { registry: zk, like: c } }", "", "").unwrap();
    assert_eq!(plan.demands[0].like().balance, outrigger_core::Balance::P2cEwma);
    for (to, listener, told) in [
        ("{ service: zz }", "", "no registry is called `zz`"),
        ("{ service: { registry: zk, like: x } }", "", "no cluster is called `x`"),
        ("{ service: { registry: zk } }", "protocol: tcp,", "a relayed connection names no service"),
        (
            "{ service: { registry: zk, framework: spring } }",
            "protocol: bolt,",
            "only calls of HTTP name a service",
        ),
        ("{ servis: zk }", "", "unknown key `servis`"),
        ("{ service: { registri: zk } }", "", "unknown key `registri`"),
    ] {
        let report = route(to, listener, "").expect_err(to).to_string();
        assert!(report.contains(told), "{to} {listener}: {report}");
    }
}
