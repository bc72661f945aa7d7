//! What the sidecar wrote beside what dubbo-go itself wrote of the same service, field by field.
//!
//! Whatever differs must be named here, with its reason; nothing else may differ, but for what is different for every process
//! (see `entries::differences`).

use super::entries::{self, Difference, Entry, differences};
use super::go::Protocol;
use super::stage::{Beside, Stage};
use super::story::Own;
use super::support::netns::ADDRESS;
use std::collections::BTreeMap;

pub(crate) fn as_dubbo_go_would(stage: &Stage, [interface, _, remote]: &[Own; 3], beside: &Beside) {
    let mut wrong = Vec::new();
    let entries = entries::of_interface(&stage.server);
    for (at, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let (theirs, ours) =
            (one(&entries, &interface.ports[at..=at]), one(&entries, &beside.ports[at..=at]));
        compare(&format!("{protocol:?}, the interface"), theirs, ours, &of_interface(), &mut wrong);
    }
    let entries = entries::of_application(&stage.server);
    let (theirs, ours) = (one(&entries, &remote.ports), one(&entries, &beside.ports[..1]));
    compare("the application", theirs, ours, &of_application(), &mut wrong);
    let [theirs, ours] = [theirs, ours]
        .map(|member| entries::metadata(&stage.server, &member["Metadata.dubbo.metadata.revision"]));
    compare("what it gives", &theirs, &ours, &of_metadata(), &mut wrong);
    assert!(wrong.is_empty(), "what we write is not what dubbo-go writes:\n{}", wrong.join("\n"));
}

/// The same beside a provider of Java.
pub(crate) fn as_java_would(stage: &Stage, java: u16, beside: &Beside) {
    let mut wrong = Vec::new();
    let entries = entries::of_interface(&stage.server);
    let (theirs, ours) = (one(&entries, &[java]), one(&entries, &beside.ports[..1]));
    compare("Java, the interface", theirs, ours, &of_java(), &mut wrong);
    assert!(wrong.is_empty(), "what we write is not what Java writes:\n{}", wrong.join("\n"));
}

type Fields = BTreeMap<String, String>;

fn compare(what: &str, theirs: &Fields, ours: &Fields, known: &[Difference], wrong: &mut Vec<String>) {
    let found = differences(theirs, ours);
    if found != known {
        wrong.push(format!("{what}: {found:#?}\ntheirs: {theirs:#?}\nours: {ours:#?}"));
    }
}

/// The one at any of these ports.
fn one<'a>(entries: &'a [Entry], ports: &[u16]) -> &'a Fields {
    let is_there = |entry: &&Entry| ports.iter().any(|port| entry.address == format!("{ADDRESS}:{port}"));
    let found = entries.iter().find(is_there);
    &found.unwrap_or_else(|| panic!("{ports:?} are not among {entries:#?}")).fields
}

/// A field that differs: its name, what dubbo-go writes, and what we do.
type Known = (&'static str, Option<&'static str>, Option<&'static str>);

fn known(all: &[Known]) -> Vec<Difference> {
    let text = |value: Option<&str>| value.map(str::to_owned);
    all.iter().map(|(name, theirs, ours)| ((*name).to_owned(), text(*theirs), text(*ours))).collect()
}

/// Ours look like providers of Java Dubbo 3.3, which consumers of dubbo-go know as well: it says nothing of how its own provider
/// is made (bean, filters, limits, registry), nor how its consumers are to call it (cluster, load balance), but what it speaks.
const OF_JAVA: [Known; 3] = [
    // What it can read, beside what it speaks.
    ("prefer.serialization", None, Some("hessian2,fastjson2")),
    ("release", Some("dubbo-golang-3.2.0"), Some("3.3.6")),
    // What a consumer takes that has no setting of its own: without it a consumer takes its own default.
    ("serialization", Some("hessian2"), None),
];

/// In order of the fields' names.
fn of_java() -> Vec<Difference> {
    known(&[
        // Whether every interface is bound is a matter of a provider's own.
        ("anyhost", Some("false"), None),
        // What the conf says of another application, in another language.
        ("application", Some("java-shop"), Some("go-shop")),
        (
            "methods",
            Some("bytes,crash,echo,fail,fire,fired,late,nothing,peak,process,slow,who,work"),
            Some("Crash,Echo,Who,Work,crash,echo,who,work"),
        ),
        // Ours look like providers of 3.3, which say what they can read.
        ("prefer.serialization", None, Some("hessian2,fastjson2")),
        ("release", Some("2.7.23"), Some("3.3.6")),
        // The version of the interface's jar, where it is told.
        ("revision", Some("1"), Some("1.0.0")),
        // It is found by its application as well, unlike theirs.
        ("service-name-mapping", None, Some("true")),
        // The bean of the provider's own, and its settings.
        ("service.name", Some("ServiceBean:/peer.api.DemoService:1.0.0"), None),
        // Nobody reads it.
        ("the value", Some("ITS LEASE"), Some("")),
        ("threads", Some("400"), None),
        ("weight", None, Some("50")),
    ])
}

/// In order of the fields' names.
fn of_interface() -> Vec<Difference> {
    let [prefers, release, serialization] = OF_JAVA;
    known(&[
        // Whether every interface is bound is a matter of a provider's own; dubbo-go says so always.
        ("anyhost", Some("true"), None),
        ("bean.name", Some("Demo"), None),
        ("cluster", Some("failover"), None),
        ("deprecated", None, Some("false")),
        // The version of Dubbo2.
        ("dubbo", None, Some("2.0.2")),
        ("dynamic", None, Some("true")),
        ("export", Some("true"), None),
        ("generic", None, Some("false")),
        ("loadbalance", Some("random"), None),
        ("max-server-recv-msg-size", Some("4mib"), None),
        ("metadata-type", Some("local"), None),
        // What the conf of an application may say of it, and its defaults.
        ("module", Some("sample"), None),
        ("name", Some("go-shop"), None),
        ("organization", Some("dubbo-go"), None),
        ("owner", Some("dubbo-go"), None),
        prefers,
        ("registry", Some("etcdv3"), None),
        ("registry.role", Some("3"), None),
        release,
        // Java's word for the version of the interface's jar.
        ("revision", None, Some("1.0.0")),
        serialization,
        // It is found by its application as well, unlike theirs.
        ("service-name-mapping", None, Some("true")),
        ("service.filter", Some("echo,token,accesslog,tps,generic_service,execute,pshutdown"), None),
    ])
}

fn of_application() -> Vec<Difference> {
    known(&[
        // They say so in two fields already; for who reads but these.
        ("Address", Some(""), Some("ADDRESS")),
        ("ID", Some(""), Some("ADDRESS")),
        // What it calls itself is no matter of the registry's.
        ("Metadata.dubbo.subscribed-services.revision", Some("0"), None),
        // Of a service that nobody asks, since the registry has the answer; Java has the first version for Dubbo2.
        ("Metadata.meta-v", Some("2.0.0"), Some("1.0.0")),
        // Java's.
        ("Metadata.timestamp", None, Some("TIME")),
        // Consumers of dubbo-go pass it over; those of ours look where all others look.
        ("ServiceMetadata", Some("an object"), Some("null")),
        // Since 3.3.2; before, consumers take that of the service.
        ("Weight", None, Some("50")),
    ])
}

fn of_metadata() -> Vec<Difference> {
    let [prefers, release, serialization] = OF_JAVA;
    let of_service = [
        // Java's word for which of its registries it is of.
        ("params.REGISTRY_CLUSTER", None, Some("default")),
        ("params.cluster", Some("failover"), None),
        ("params.deprecated", None, Some("false")),
        ("params.dubbo", None, Some("2.0.2")),
        ("params.dynamic", None, Some("true")),
        ("params.generic", None, Some("false")),
        ("params.interface", None, Some("peer.api.DemoService")),
        ("params.loadbalance", Some("random"), None),
        prefers,
        release,
        ("params.revision", None, Some("1.0.0")),
        serialization,
        ("params.service-name-mapping", None, Some("true")),
        ("params.side", None, Some("provider")),
        // A revision of ours does not change with each start.
        ("params.timestamp", Some("TIME"), None),
        // Nor with the port, which the instance tells.
        ("port", Some("PORT"), Some("0")),
    ];
    let mut all = known(&[("Tag", Some(""), None)]);
    for protocol in Protocol::BOTH {
        let service = format!("services.peer.api.DemoService:1.0.0:{}", protocol.name());
        for (name, theirs, ours) in known(&of_service) {
            let name = if name.contains("serialization") || name == "release" {
                format!("params.{name}")
            } else {
                name
            };
            all.push((format!("{service}.{name}"), theirs, ours));
        }
    }
    all
}
