//! What real frameworks wrote into real registries is read as it is meant, and what we write is field by field the same.
//!
//! The files in `golden/` are nodes and instances as Dubbo 2.7.23, 3.3.1 and 3.3.6 and SOFARPC 5.13 left them in `ZooKeeper`
//! 3.8 and Nacos 2.2, and one that Spring Cloud 2023.0.3 left in `ZooKeeper`. Must never be edited to fit.
#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeMap;

use outrigger_discovery::{
    Framework, Instance, Level, Registration, ServiceKey,
    formats::{
        Params, Url,
        application::{self, Member, MetadataInfo, Question},
        curator::{self, Kind},
        dubbo, percent, sofarpc,
    },
};
use serde_json::Value;

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("golden/", $name))
    };
}

/// The escaped name of the only provider's node.
fn node(golden: &str) -> &str {
    let mut nodes = golden.lines().filter_map(|line| line.split_once("/providers/"));
    let (_, node) = nodes.next().expect("a provider");
    assert!(nodes.next().is_none());
    node
}

/// The only entry of Curator.
fn entry(golden: &str) -> &str {
    golden.lines().find(|line| line.starts_with('{')).expect("an entry")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn texts(value: &Value) -> Params {
    let pairs = value.as_object().expect("a map").iter();
    pairs.map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The instances of a Nacos dump, each with its service's name.
fn nacos(dump: &str) -> Vec<(String, Value)> {
    let parts = dump.split("== ").filter(|part| part.starts_with("DEFAULT_GROUP"));
    parts
        .map(|part| {
            let (name, instance) = part.split_once('\n').expect("a name and an instance");
            (name.trim_start_matches("DEFAULT_GROUP @@ ").to_owned(), json(instance))
        })
        .collect()
}

const METHODS: &str = "batch,bytes,crash,echo,fail,fire,nothing,process,slow";

/// The provider of the peers: what its configuration said is what we would be told.
fn shop(protocol: &str, address: &str, started: u64) -> Registration {
    Registration {
        app: "shop-provider".into(),
        framework: Framework::Dubbo,
        level: Level::Both,
        service: "peer.api.DemoService".into(),
        protocol: protocol.into(),
        address: address.into(),
        group: None,
        version: None,
        weight: 100,
        started,
        metadata: map(&[("methods", METHODS), ("delay", "-1"), ("revision", "1")]),
    }
}

/// What Nacos 2.2 has of the provider that Dubbo 3.3.1 registered.
fn demo() -> Registration {
    Registration {
        app: "demo-provider".into(),
        service: "Prov$Hello".into(),
        group: Some("g1".into()),
        version: Some("1.0.0".into()),
        metadata: map(&[("methods", "sayHello"), ("release", "3.3.1"), ("metadata-type", "remote")]),
        ..shop("tri", "10.9.9.1:22881", 1_795_377_063_864)
    }
}

#[test]
fn nodes_of_dubbo_are_read() {
    let provider = |golden| dubbo::provider(node(golden)).expect("well formed").expect("a provider");
    let plain = provider(golden!("zookeeper-dubbo33-all-provider.txt"));
    assert_eq!(
        plain,
        Instance {
            protocol: Some("dubbo".into()),
            started: Some(1_795_376_774_734),
            metadata: map(&[
                ("application", "shop-provider"),
                ("delay", "-1"),
                ("deprecated", "false"),
                ("dubbo", "2.0.2"),
                ("dynamic", "true"),
                ("generic", "false"),
                ("interface", "peer.api.DemoService"),
                ("methods", METHODS),
                ("prefer.serialization", "hessian2,fastjson2"),
                ("release", "3.3.6"),
                ("revision", "1"),
                ("service-name-mapping", "true"),
                ("side", "provider"),
            ])
            .into(),
            ..Instance::new("10.77.0.2:20880")
        }
    );
    let old = provider(golden!("zookeeper-dubbo27-group-version-provider.txt"));
    assert_eq!((old.group.as_deref(), old.version.as_deref(), old.weight), (Some("g1"), Some("1.2.0"), 50));
    assert_eq!(old.metadata["service.name"], "ServiceBean:g1/peer.api.DemoService:1.2.0");
    assert!(!old.metadata.contains_key("pid") && !old.metadata.contains_key("timestamp"));
    assert_eq!(provider(golden!("zookeeper-dubbo27-provider.txt")).group, None);
    assert_eq!(provider(golden!("zookeeper-dubbo33-tri-provider.txt")).protocol.as_deref(), Some("tri"));
}

#[test]
fn nodes_of_dubbo_are_written_as_dubbo_writes_them() {
    let same = |r: &Registration, golden: &str| {
        assert_eq!(percent::encode(&dubbo::url(r).to_string()), node(golden));
    };
    same(&shop("dubbo", "10.77.0.2:20880", 1_795_376_774_734), golden!("zookeeper-dubbo33-all-provider.txt"));
    same(&shop("tri", "10.77.0.2:50051", 1_795_376_872_569), golden!("zookeeper-dubbo33-tri-provider.txt"));
    let versioned = Registration {
        level: Level::Interface,
        group: Some("g1".into()),
        version: Some("1.2.0".into()),
        ..shop("dubbo", "10.77.0.2:20880", 1_795_376_827_685)
    };
    same(&versioned, golden!("zookeeper-dubbo33-interface-provider.txt"));
}

#[test]
fn what_is_written_in_the_manner_of_dubbo_is_read_back() {
    let r = Registration { weight: 0, ..demo() };
    let read = dubbo::provider(&percent::encode(&dubbo::url(&r).to_string()))
        .expect("well formed")
        .expect("a provider");
    assert_eq!((read.address, read.weight, read.started), (r.address, 0, Some(r.started)));
    assert_eq!((read.group, read.version, read.protocol), (r.group, r.version, Some(r.protocol)));
    assert_eq!((read.metadata["release"].as_str(), read.metadata["methods"].as_str()), ("3.3.1", "sayHello"));
}

#[test]
fn an_instance_of_nacos_is_the_same_provider() {
    let all = nacos(golden!("nacos-dubbo.txt"));
    let (_, instance) = all.iter().find(|(name, _)| name.starts_with("providers:")).expect("a provider");
    let metadata = texts(&instance["metadata"]);
    let mut written = dubbo::params(&demo());
    written.extend(map(&[("category", "providers"), ("path", "Prov$Hello"), ("protocol", "tri")]));
    assert_eq!(written, metadata, "but for three that Nacos alone is told");
    let read = dubbo::instance("tri", "10.9.9.1:22881", metadata).expect("a provider");
    let node = percent::encode(&dubbo::url(&demo()).to_string());
    assert_eq!(Ok(Some(read)), dubbo::provider(&node), "whatever registry it stands in");
}

#[test]
fn a_node_of_sofarpc_is_read_and_written() {
    let node = node(golden!("zookeeper-sofarpc-provider.txt"));
    let read = sofarpc::provider(node).expect("well formed").expect("a provider");
    assert_eq!((read.address.as_str(), read.weight), ("10.77.0.2:12200", 100));
    assert_eq!((read.version.as_deref(), read.protocol.as_deref()), (Some("1.0"), Some("bolt")));
    assert_eq!(read.started, Some(1_795_376_796_372));
    let r = Registration {
        framework: Framework::Sofarpc,
        metadata: BTreeMap::new(),
        ..shop("bolt", "10.77.0.2:12200", 1_795_376_796_372)
    };
    let ours = sofarpc::url(&r);
    let mut theirs = Url::parse(&percent::decode(node).expect("escaped")).expect("a URL");
    assert!(theirs.params.remove("pid").is_some(), "the process's own");
    assert_eq!(ours, theirs);
    assert_eq!(sofarpc::provider(&percent::encode(&ours.to_string())), Ok(Some(read)));
}

#[test]
fn an_instance_of_sofarpc_in_nacos_is_read_and_written() {
    let host = &json(golden!("nacos-sofarpc.json"))["hosts"][0];
    let mut metadata = texts(&host["metadata"]);
    let read = sofarpc::instance("bolt", "10.9.9.1:22891", metadata.clone()).expect("a provider");
    assert_eq!((read.version.as_deref(), read.weight), (Some("1.0:u1"), 200));
    let r = Registration {
        app: "sofa-app".into(),
        framework: Framework::Sofarpc,
        service: "SProv$Hello".into(),
        version: Some("1.0:u1".into()),
        weight: 200,
        metadata: map(&[("rpcVer", "51300")]),
        ..shop("bolt", "10.9.9.1:22891", 1_795_377_335_782)
    };
    assert!(metadata.remove("pid").is_some(), "the process's own");
    assert_eq!(sofarpc::params(&r), metadata);
}

#[test]
fn an_entry_of_dubbo_in_curators_form_is_read_and_written() {
    let text = entry(golden!("zookeeper-dubbo33-tri-provider.txt"));
    let read = curator::parse(text.as_bytes()).expect("well formed");
    assert_eq!(
        (read.kind, read.name.as_str(), read.id.as_str()),
        (Kind::Dubbo, "shop-provider", "10.77.0.2:50051")
    );
    assert_eq!(curator::spring_instance(&read), None);
    let member = read.member().expect("of Dubbo");
    assert_eq!(member.revision(), Some("e84b51ff2d9c2d973a68fae20e89a14e"));
    assert!(!member.is_remote());
    let question = Question {
        address: "10.77.0.2:50051".into(),
        protocol: "tri".into(),
        app: "shop-provider".into(),
        revision: "e84b51ff2d9c2d973a68fae20e89a14e".into(),
        version: "2.0.0".into(),
    };
    assert_eq!(member.asks(), Some(question));
    let (mut ours, mut theirs) = (json(&curator::dubbo(&member)), json(text));
    // The moment of writing is told apart from the start only by them.
    ours["registrationTimeUTC"] = Value::Null;
    theirs["registrationTimeUTC"] = Value::Null;
    assert_eq!(ours, theirs);
}

#[test]
fn an_entry_of_spring_is_read_and_written() {
    let text = entry(golden!("zookeeper-spring.txt"));
    let read = curator::parse(text.as_bytes()).expect("well formed");
    let instance = Instance {
        protocol: Some("http".into()),
        started: Some(1_796_046_655_841),
        ..Instance::new("10.9.9.1:20880")
    };
    assert_eq!(curator::spring_instance(&read), Some(instance));
    let r = Registration {
        app: "shop".into(),
        framework: Framework::Spring,
        service: "shop".into(),
        metadata: BTreeMap::new(),
        ..shop("http", "10.9.9.1:20880", 1_796_046_655_841)
    };
    assert_eq!(json(&curator::spring(&r, &read.id)), json(text));
}

#[test]
fn an_entry_of_spring_is_read_back() {
    let r = Registration {
        framework: Framework::Spring,
        service: "orders".into(),
        version: Some("2".into()),
        weight: 300,
        metadata: map(&[("zone", "a")]),
        ..shop("http", "10.0.0.9:8080", 77)
    };
    let text = curator::spring(&r, "5f0c");
    let raw = json(&text);
    assert_eq!(raw["payload"]["@class"], "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance");
    assert_eq!(
        (&raw["address"], &raw["port"], &raw["id"]),
        (&"10.0.0.9".into(), &8080.into(), &"5f0c".into())
    );
    assert_eq!(raw["payload"]["metadata"]["instance_status"], "UP");
    let read = curator::parse(text.as_bytes()).expect("well formed");
    assert_eq!((read.kind, read.name.as_str()), (Kind::Spring, "orders"));
    assert!(read.member().is_none());
    let instance = Instance {
        weight: 300,
        version: Some("2".into()),
        protocol: Some("http".into()),
        started: Some(77),
        metadata: map(&[("zone", "a")]).into(),
        ..Instance::new("10.0.0.9:8080")
    };
    assert_eq!(curator::spring_instance(&read), Some(instance));
}

/// The metadata that Dubbo 3.3.1 left in Nacos.
fn published() -> &'static str {
    let line = golden!("nacos-dubbo.txt").lines().find(|line| line.contains(r#"{"app":"demo-provider""#));
    line.and_then(|line| line.splitn(3, " | ").nth(2)).expect("the metadata")
}

#[test]
fn the_metadata_of_an_application_is_written_as_dubbo_writes_it() {
    let (info, member) = application::describe(&[demo()]).expect("an application");
    assert_eq!(json(&info.to_string()), json(published()), "with the revision");
    let all = nacos(golden!("nacos-dubbo.txt"));
    let (_, instance) = all.iter().find(|(name, _)| name == "demo-provider").expect("the application");
    assert_eq!(member.metadata, texts(&instance["metadata"]));
    assert!(member.is_remote() && member.asks().is_none(), "nobody is asked what the registry has");
    assert_eq!(MetadataInfo::parse(info.to_string().as_bytes()), Ok(info));
}

#[test]
fn a_revision_is_the_one_that_dubbo_digests() {
    for (r, golden) in [
        (shop("dubbo", "10.77.0.2:20880", 1), golden!("zookeeper-dubbo33-all-provider.txt")),
        (shop("dubbo", "10.77.0.2:20880", 2), golden!("zookeeper-dubbo33-instance-provider.txt")),
        (shop("tri", "10.77.0.2:50051", 3), golden!("zookeeper-dubbo33-tri-provider.txt")),
    ] {
        let (info, _) = application::describe(std::slice::from_ref(&r)).expect("an application");
        let theirs =
            curator::parse(entry(golden).as_bytes()).expect("well formed").member().expect("of Dubbo");
        assert_eq!(Some(info.revision.as_str()), theirs.revision());
    }
}

#[test]
fn an_application_with_two_protocols_gives_an_instance_for_each() {
    let two = [shop("dubbo", "10.0.0.1:20880", 5), shop("tri", "10.0.0.1:50051", 4)];
    let elsewhere = [
        Registration { app: "other".into(), ..two[0].clone() },
        Registration { address: "10.0.0.2:20880".into(), service: "x.Y".into(), ..two[0].clone() },
        Registration { level: Level::Interface, service: "x.Z".into(), ..two[0].clone() },
        Registration { framework: Framework::Spring, service: "x.W".into(), ..two[0].clone() },
    ];
    let (info, member) = application::describe(&[&two[..], &elsewhere[..]].concat()).expect("an application");
    assert_eq!(info.services().count(), 2);
    assert!(info.services().all(|service| service.params["REGISTRY_CLUSTER"] == "default"));
    assert_eq!(
        member.metadata["dubbo.endpoints"],
        r#"[{"port":20880,"protocol":"dubbo"},{"port":50051,"protocol":"tri"}]"#
    );
    let key = ServiceKey::new("peer.api.DemoService");
    let found: Vec<_> = info.instances(&key, &member);
    let places: Vec<_> = found.iter().map(|one| (one.protocol.as_deref(), one.address.as_str())).collect();
    assert_eq!(places, [(Some("dubbo"), "10.0.0.1:20880"), (Some("tri"), "10.0.0.1:50051")]);
    assert_eq!(found[0].started, Some(4));
    let node = percent::encode(&dubbo::url(&Registration { started: 4, ..two[0].clone() }).to_string());
    assert_eq!(dubbo::provider(&node).as_ref(), Ok(&Some(found[0].clone())), "by whatever level it is found");
    let tri = ServiceKey { protocol: Some("tri".into()), ..key.clone() };
    assert_eq!(info.instances(&tri, &member).len(), 1);
    assert!(info.instances(&ServiceKey { version: Some("9".into()), ..key }, &member).is_empty());
    assert!(application::describe(&elsewhere[2..]).is_none());
}

#[test]
fn a_port_is_the_services_or_its_protocols_or_the_instances() {
    let info = |port: u16| {
        let text = format!(
            r#"{{"app":"a","revision":"r","services":{{"k":{{"name":"x.Y","protocol":"tri","port":{port},"params":{{"weight":"7"}}}},"bad":{{"port":1}},"worse":5}}}}"#
        );
        MetadataInfo::parse(text.as_bytes()).expect("well formed")
    };
    let mut member = curator::parse(entry(golden!("zookeeper-dubbo33-tri-provider.txt")).as_bytes())
        .expect("well formed")
        .member()
        .expect("of Dubbo");
    member.metadata.insert("dubbo.tag".into(), "gray".into());
    let key = ServiceKey::new("x.Y");
    let found = |info: &MetadataInfo, member: &Member| info.instances(&key, member).pop().expect("one");
    let own = found(&info(123), &member);
    assert_eq!((own.address.as_str(), own.weight), ("10.77.0.2:123", 7));
    assert_eq!(
        own.metadata,
        map(&[("dubbo.tag", "gray"), ("interface", "x.Y")]).into(),
        "nothing that is only the way to it"
    );
    member.address = "10.77.0.2:1".into();
    assert_eq!(found(&info(0), &member).address, "10.77.0.2:50051");
    member.metadata.insert("dubbo.endpoints".into(), "broken".into());
    assert_eq!(found(&info(0), &member).address, "10.77.0.2:1");
}

#[test]
fn an_instance_that_serves_nothing_is_not_asked() {
    let text = entry(golden!("zookeeper-dubbo33-all-provider.txt"));
    let mut member = curator::parse(text.as_bytes()).expect("well formed").member().expect("of Dubbo");
    let asked = member.asks().expect("a question");
    assert_eq!((asked.protocol.as_str(), asked.version.as_str()), ("dubbo", "1.0.0"));
    let old = r#"{"dubbo":{"version":"1.0.0","dubbo":"2.0.2","port":"20881"}}"#;
    member.metadata.insert("dubbo.metadata-service.url-params".into(), old.into());
    assert_eq!(
        member.asks().map(|asked| asked.address).as_deref(),
        Some("10.77.0.2:20881"),
        "as 2.7 told it"
    );
    for bad in ["", "{}", "[]", r#"{"port":"0"}"#, r#"{"port":"x"}"#, r#"{"a":{"port":""}}"#] {
        member.metadata.insert("dubbo.metadata-service.url-params".into(), bad.into());
        assert_eq!(member.asks(), None, "{bad}");
    }
    member.metadata.insert("dubbo.metadata.revision".into(), "0".into());
    assert_eq!(member.revision(), None);
}

#[test]
fn a_mapping_names_applications() {
    assert_eq!(application::apps("a, b,,c"), ["a", "b", "c"]);
    assert!(application::apps("").is_empty());
}

#[test]
fn what_a_revision_gives_is_written_once() {
    let here = br#"{"services":{}}"#;
    for torn in [&b""[..], b"{", b"null"] {
        assert_eq!(application::described(torn, here).as_deref(), Some(&here[..]));
    }
    assert_eq!(application::described(br#"{"app":"shop","services":{}}"#, here), None);
}

#[test]
fn an_application_is_added_to_others_and_only_once() {
    assert_eq!(application::with_app("", "shop").as_deref(), Some("shop"));
    assert_eq!(application::with_app("a,b", "shop").as_deref(), Some("a,b,shop"));
    assert_eq!(application::with_app("a,shop,b", "shop"), None);
    assert_eq!(application::with_app("shopping", "shop").as_deref(), Some("shopping,shop"));
}
