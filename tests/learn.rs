//! An application that says itself what it gives and what it wants: SOFARPC's registry `mesh` and MOSN's four calls, by hand,
//! before a real `ZooKeeper`.
//!
//! The application is an endpoint under the tests' control, which answers heartbeats or does not; what is registered is read
//! from the registry itself. Services have names of their own in each test, as all share one `ZooKeeper`. Whoever asks wrongly
//! gets an answer that its client understands, and changes nothing. No time is asserted. Source of the calls: SOFARPC 5.13.2
//! and MOSN's `dubbod`.

mod support;
#[path = "registry_failures/zookeeper.rs"]
#[allow(dead_code, reason = "it can do more than is needed here")]
mod zookeeper;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use support::echo::Upstream;
use support::http1::{Answer, Client as Http};
use support::raw::{Client, ECHO, Wire};
use support::{Child, Sidecar, TempDir, free_port, tail, within};

/// How long news may take, a session that ends among them.
const PATIENCE: Duration = Duration::from_secs(40);
/// What a starting JVM may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
/// What others are told of the application's host: nobody dials it here.
const HOST: &str = "10.9.8.7";

/// The registry, started by the first who asks. It ends with the test process: it has a watchdog.
fn registry() -> SocketAddr {
    static ONCE: OnceLock<(Mutex<Child>, SocketAddr, TempDir)> = OnceLock::new();
    let (child, at, _) = ONCE.get_or_init(|| {
        let dir = TempDir::new();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let log = dir.path().join("log");
        let file = File::create(&log).expect("a log can be created");
        let errors = file.try_clone().expect("a file can be shared");
        let mut command = zookeeper::command(dir.path(), at.port());
        command.stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
        let mut child = Child::spawn(&mut command);
        let up = within(START_MAX, || child.ended().is_some() || zookeeper::answers(at));
        assert!(up && child.ended().is_none(), "ZooKeeper did not start:\n{}", tail(&log));
        (Mutex::new(child), at, dir)
    });
    assert!(child.lock().expect("nobody panics with it").ended().is_none(), "ZooKeeper ended by itself");
    *at
}

/// A sidecar beside an application, and where it hears that.
struct Stage {
    sidecar: Sidecar,
    conf: String,
    sofarpc: u16,
    dubbo: u16,
}

impl Stage {
    /// Beside an application that listens on this port; what is said is kept in this folder, or nowhere.
    fn begin(app: u16, state: Option<&Path>) -> Self {
        Self::before(registry(), app, state)
    }

    fn before(registry: SocketAddr, app: u16, state: Option<&Path>) -> Self {
        let (admin, sofarpc, dubbo) = (free_port(), free_port(), free_port());
        let (main, mosn, inner) = (free_port(), free_port(), free_port());
        let state = state.map_or_else(|| "off".to_owned(), |folder| folder.display().to_string());
        let from = format!("in: zk, host: {HOST}, port: {inner}, local: '127.0.0.1:{app}'");
        let conf = format!(
            "app: test\nadmin: 127.0.0.1:{admin}\nworkers: 1\nstate: {state}\npropagation: 0s\nregistries:\n  \
             zk: {{ zookeeper: {{ address: '{registry}', session_timeout: 4s, hold_empty: 0s }} }}\n\
             learn:\n  sofarpc: {{ bind: '127.0.0.1:{sofarpc}', {from} }}\n  \
             dubbo: {{ bind: '127.0.0.1:{dubbo}', {from} }}\n\
             listeners:\n  main:\n    bind: 127.0.0.1:{main}\n    protocol: bolt\n    routes: [{{ to: {{ service: zk }} }}]\n  \
             mosn:\n    bind: 127.0.0.1:{mosn}\n    protocol: dubbo\n    routes: [{{ to: {{ service: zk }} }}]\n  \
             inner:\n    bind: 127.0.0.1:{inner}\n    protocol: [bolt, dubbo]\n    routes: [{{ to: app }}]\n\
             clusters:\n  app: {{ endpoints: ['127.0.0.1:{app}'] }}\n"
        );
        Self { sidecar: Sidecar::start(&conf), conf, sofarpc, dubbo }
    }

    /// The process is killed and started again; the application does nothing.
    fn killed_and_back(&mut self) {
        self.sidecar.signal("KILL");
        self.sidecar.wait(PATIENCE);
        self.sidecar = Sidecar::start(&self.conf);
    }

    /// A call of SOFARPC's client: it has status 200 or it has failed.
    #[track_caller]
    fn says(&self, path: &str, body: &Value) -> Value {
        let answer = Http::connect(self.sofarpc).ask(call(path, "text/plain", body));
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        json_of(&answer)
    }

    #[track_caller]
    fn is_done(&self, path: &str, body: &Value) -> Value {
        let answer = self.says(path, body);
        assert_eq!(answer["success"], true, "{path} {body}: {answer}");
        answer
    }

    /// A call of MOSN's user.
    #[track_caller]
    fn mosn(&self, path: &str, body: &Value) -> Value {
        let answer = Http::connect(self.dubbo).ask(call(path, "application/json", body));
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        json_of(&answer)
    }

    /// `/registries`.
    fn registries(&self) -> Value {
        serde_json::from_str(&self.sidecar.admin_get("/registries").1).expect("JSON")
    }

    /// How many of a kind are learned.
    fn learned(&self, kind: &str) -> u64 {
        self.sidecar.metric("outrigger_learned", &[&format!("kind=\"{kind}\"")])
    }
}

fn call(path: &str, kind: &str, body: &Value) -> String {
    let body = body.to_string();
    let len = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:13330\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n{body}"
    )
}

fn json_of(answer: &Answer) -> Value {
    let text = answer.text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

#[track_caller]
fn until(what: &str, done: impl FnMut() -> bool) {
    assert!(within(PATIENCE, done), "{what}: not within {PATIENCE:?}");
}

/// Who gives a service of a framework's folder: by address the parameters, and the scheme among them.
fn given(root: &str, service: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let nodes = zookeeper::children(registry(), &format!("/{root}/{service}/providers")).expect("it answers");
    let read = |name: &String| {
        let url = decoded(name);
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (place, query) = rest.split_once('?').expect("parameters");
        let pairs = query.split('&').map(|pair| pair.split_once('=').expect("a value"));
        let mut fields: BTreeMap<String, String> =
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        fields.insert("scheme".into(), scheme.into());
        (place.split('/').next().expect("an address").to_owned(), fields)
    };
    nodes.iter().map(read).collect()
}

fn decoded(name: &str) -> String {
    let mut parts = name.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        text.push(u8::from_str_radix(code, 16).expect("an escaped byte").into());
        text.push_str(rest);
    }
    text
}

fn publish(service: &str) -> Value {
    json!({
        "serviceName": format!("{service}:1.0"), "protocolType": "bolt",
        "providerMetaInfo": {
            "protocol": "bolt", "version": "4.0", "serializeType": "hessian2", "appName": "shop",
            "properties": { "sofa.group": "G1", "k1": "v1" },
        },
        "onlyPublishInCloud": false, "group": "G1",
    })
}

fn of(service: &str) -> Value {
    json!({ "serviceName": format!("{service}:1.0"), "protocolType": "bolt", "group": null })
}

#[test]
fn what_is_published_is_registered_while_the_application_answers() {
    let mut app = Upstream::start();
    let stage = Stage::begin(app.port(), None);
    let address = format!("{HOST}:{}", stage.sidecar.port("inner"));
    stage.is_done("/configs/application", &json!({ "appName": "shop" }));
    assert_eq!(
        stage.is_done("/services/publish", &publish("t.Given")),
        json!({ "success": true, "errorMessage": null })
    );
    until("it is registered", || given("sofa-rpc", "t.Given").contains_key(&address));
    let fields = given("sofa-rpc", "t.Given").remove(&address).expect("it is there");
    for (name, value) in [
        ("scheme", "bolt"),
        ("appName", "shop"),
        ("interface", "t.Given"),
        ("version", "1.0"),
        ("uniqueId", ""),
        ("serialization", "hessian2"),
        ("k1", "v1"),
        ("sofa.group", "G1"),
        ("weight", "100"),
    ] {
        assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name} of {fields:?}");
    }
    let facts = &stage.registries()["registered"]["learned/sofarpc/t.Given:1.0/bolt"];
    assert_eq!((&facts["learned"], facts.get("why_not")), (&json!(true), None), "{facts}");
    assert_eq!((stage.learned("published"), stage.learned("registered")), (1, 1));
    let page = stage.sidecar.admin_get("/metrics").1;
    assert!(!page.contains("t.Given"), "names of services are no labels: {page}");
    // A service of the same application that comes later, under a unique id.
    let mut blue = publish("t.Given.Blue");
    blue["serviceName"] = json!("t.Given.Blue:1.0:blue");
    stage.is_done("/services/publish", &blue);
    until("the other is registered", || {
        given("sofa-rpc", "t.Given.Blue").get(&address).is_some_and(|fields| fields["uniqueId"] == "blue")
    });
    let port = app.port();
    app.stop();
    until("it is taken back", || given("sofa-rpc", "t.Given").is_empty());
    assert_eq!((stage.learned("published"), stage.learned("registered")), (2, 0), "it is not forgotten");
    let _app = Upstream::start_at(port);
    until("it is registered again", || given("sofa-rpc", "t.Given").contains_key(&address));
    for _ in 0..2 {
        stage.is_done("/services/unpublish", &of("t.Given"));
        until("it is gone", || given("sofa-rpc", "t.Given").is_empty());
    }
    assert!(!given("sofa-rpc", "t.Given.Blue").is_empty(), "only what was named is taken back");
}

#[test]
fn what_was_said_outlives_a_reload_and_the_process_itself() {
    let app = Upstream::start();
    let state = TempDir::new();
    let mut stage = Stage::begin(app.port(), Some(state.path()));
    let is_there = || !given("sofa-rpc", "t.Kept").is_empty();
    stage.is_done("/configs/application", &json!({ "appName": "keeper" }));
    let mut nameless = publish("t.Kept");
    nameless["providerMetaInfo"]["appName"] = Value::Null;
    stage.is_done("/services/publish", &nameless);
    stage.is_done("/services/subscribe", &of("t.Kept.Wanted"));
    until("it is registered", is_there);
    std::fs::write(stage.sidecar.conf_path(), stage.conf.replace("workers: 1", "workers: 1\nzone: z"))
        .expect("a conf");
    stage.sidecar.signal("HUP");
    until("the reload is taken up", || stage.sidecar.admin_get("/config").1.contains("\"zone\""));
    assert!(is_there() && (stage.learned("published"), stage.learned("subscribed")) == (1, 1));
    for _ in 0..2 {
        stage.killed_and_back();
        assert_eq!((stage.learned("published"), stage.learned("subscribed")), (1, 1));
        until("it is registered by the new process", || {
            let all = stage.registries();
            let facts = &all["registered"]["learned/sofarpc/t.Kept:1.0/bolt"];
            facts.get("why_not").is_none() && facts["registries"][0]["pending"] == 0
        });
        let known = given("sofa-rpc", "t.Kept");
        assert!(known.values().any(|fields| fields["appName"] == "keeper"), "{known:?}");
        let wanted = stage.registries()["subscribed"][0].clone();
        assert_eq!(wanted["service"], "t.Kept.Wanted", "{wanted}");
    }
    // Who is not heard any more stops being registered, but is not forgotten, by another process either.
    let deaf =
        stage.conf.replace("learn:", "#learn:").replace("\n  sofarpc:", "\n#").replace("\n  dubbo:", "\n#");
    let write = |conf: &str, path: &Path| std::fs::write(path, conf).expect("a conf");
    write(&deaf, stage.sidecar.conf_path());
    until("nobody is registered", || !is_there());
    assert_eq!(stage.registries()["registered"], json!({}));
    stage.sidecar.signal("KILL");
    stage.sidecar.wait(PATIENCE);
    stage.sidecar = Sidecar::start(&deaf);
    write(&stage.conf, stage.sidecar.conf_path());
    until("it is registered by the process that hears it again", is_there);
    assert_eq!((stage.learned("published"), stage.learned("subscribed")), (1, 1));
    // Whoever leaves in peace takes everything back, and still knows it afterwards.
    stage.sidecar.term();
    assert!(stage.sidecar.wait(PATIENCE).success());
    until("nothing is left, also of those that were killed", || !is_there());
    stage.sidecar = Sidecar::start(&stage.conf);
    until("it is registered again", is_there);
    // A file that is broken is no memory, and no trouble.
    stage.sidecar.signal("KILL");
    stage.sidecar.wait(PATIENCE);
    std::fs::write(state.path().join("!learned.json"), "{").expect("a file");
    stage.sidecar = Sidecar::start(&stage.conf);
    assert_eq!(stage.learned("published"), 0);
    assert!(stage.sidecar.log().contains("what the application said before is not known"));
    stage.is_done("/services/publish", &publish("t.Kept"));
    until("it is registered anew", is_there);
}

#[test]
fn an_application_that_starts_anew_says_anew_what_it_gives() {
    let mut app = Upstream::start();
    let stage = Stage::begin(app.port(), None);
    stage.is_done("/services/publish", &publish("t.Old"));
    until("it is registered", || stage.learned("registered") == 1);
    // Another registry object of the same process, or another process beside it.
    stage.is_done("/configs/application", &json!({ "appName": "shop" }));
    assert_eq!(stage.learned("published"), 1, "who is there has not ended");
    let port = app.port();
    app.stop();
    until("it is seen that nobody listens any more", || {
        let all = stage.registries();
        all["registered"]["learned/sofarpc/t.Old:1.0/bolt"]["why_not"] == "cannot connect: connection refused"
    });
    let _app = Upstream::start_at(port);
    stage.is_done("/configs/application", &json!({ "appName": "shop" }));
    stage.is_done("/services/publish", &publish("t.New"));
    until("what it gives now is registered", || !given("sofa-rpc", "t.New").is_empty());
    assert_eq!(stage.learned("published"), 1, "what it gave before is not");
    assert!(given("sofa-rpc", "t.Old").is_empty());
}

#[test]
fn what_is_wanted_is_known_before_the_first_call() {
    let far = Upstream::start();
    let stage = Stage::begin(free_port(), None);
    let url = format!(
        "bolt://{}?version=1.0&uniqueId=&appName=far&serialization=hessian2&timeout=700",
        far.address()
    );
    zookeeper::write(registry(), "/sofa-rpc/t.Wanted/providers", &[url]).expect("it is written");
    let mut subscription = of("t.Wanted");
    subscription["properties"] = Value::Null;
    let answer = stage.is_done("/services/subscribe", &subscription);
    let data = format!("{}?p=1&v=4.0&_SERIALIZETYPE=hessian2&app_name=far&_TIMEOUT=700", far.address());
    assert_eq!((&answer["serviceName"], &answer["datas"]), (&json!("t.Wanted:1.0"), &json!([data])));
    let clusters = stage.sidecar.admin_get("/clusters").1;
    assert!(clusters.contains("zk/t.Wanted:1.0"), "{clusters}");
    let mut client = Client::connect(stage.sidecar.port("main"));
    let call = Wire::V1.call(7).service("t.Wanted").version("1.0").payload(ECHO);
    client.send(&call.bytes());
    assert_eq!(client.next().bytes, Wire::V1.answer(7, ECHO));
    // Once more, and by others: the same answer at once.
    assert_eq!(stage.is_done("/services/subscribe", &subscription)["datas"], json!([data]));
    assert_eq!(stage.learned("subscribed"), 1);
    let wanted = stage.registries()["subscribed"][0].clone();
    assert_eq!((&wanted["service"], &wanted["instances"]), (&json!("t.Wanted"), &json!(1)));
    // One that nobody gives is an answer like any other.
    assert_eq!(stage.is_done("/services/subscribe", &of("t.Nobody"))["datas"], json!([]));
    for _ in 0..2 {
        stage.is_done("/services/unsubscribe", &of("t.Nobody"));
        stage.is_done("/services/unsubscribe", &of("t.Wanted"));
        assert_eq!(stage.learned("subscribed"), 0);
    }
    let (_, told) = explain(&stage);
    assert!(told.contains("from the moment the application subscribes to it"), "{told}");
}

fn explain(stage: &Stage) -> (bool, String) {
    let conf = stage.sidecar.conf_path().to_owned();
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .args(["explain", "--service", "t.Wanted:1.0", "--listener", "main", "-c"])
        .arg(conf)
        .output()
        .expect("it runs");
    (ran.status.success(), String::from_utf8_lossy(&ran.stdout).into_owned())
}

#[test]
fn a_registry_that_does_not_answer_keeps_nobody() {
    let app = Upstream::start();
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut stage = Stage::before(dead, app.port(), None);
    stage.is_done("/services/publish", &publish("t.Lost"));
    assert_eq!(stage.is_done("/services/subscribe", &of("t.Lost.Wanted"))["datas"], json!([]));
    assert_eq!((stage.learned("published"), stage.learned("subscribed")), (1, 1));
    stage.sidecar.term();
    stage.sidecar.wait(PATIENCE);
}

#[test]
fn mosns_four_calls_do_the_same_for_dubbo() {
    let app = Upstream::start();
    let far = Upstream::start();
    let stage = Stage::begin(app.port(), None);
    // Whatever registry a call names, it is not dialled.
    let named = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).expect("a free port");
    named.set_nonblocking(true).expect("a socket option");
    let registry_named = json!({
        "type": "zookeeper", "addr": named.local_addr().expect("it is bound").to_string(),
        "username": "u", "password": "secret-of-the-caller",
    });
    let body = |service: &str| {
        json!({
            "registry": registry_named,
            "service": { "interface": service, "methods": ["GetUser", "GetProfile"], "group": "blue", "version": "1.0.3" },
        })
    };
    let done = |words: &str| json!({ "err_no": 0, "err_msg": words });
    assert_eq!(stage.mosn("/pub", &body("t.Mosn")), done("publish success"));
    let address = format!("{HOST}:{}", stage.sidecar.port("inner"));
    // The application answers heartbeats of whatever protocol it is asked in.
    until("it is registered", || given("dubbo", "t.Mosn").contains_key(&address));
    let fields = given("dubbo", "t.Mosn").remove(&address).expect("it is there");
    for (name, value) in [
        ("scheme", "dubbo"),
        ("application", "test"),
        ("interface", "t.Mosn"),
        ("group", "blue"),
        ("version", "1.0.3"),
        ("methods", "GetProfile,GetUser"),
        ("side", "provider"),
    ] {
        assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name} of {fields:?}");
    }
    zookeeper::put(registry(), "t.Mosn.Far", &[&far.address()]).expect("it is written");
    let sub =
        json!({ "registry": registry_named, "service": { "interface": "t.Mosn.Far", "methods": [""] } });
    assert_eq!(stage.mosn("/sub", &sub), done("subscribe success"));
    let clusters = stage.sidecar.admin_get("/clusters").1;
    assert!(clusters.contains("/t.Mosn.Far") && clusters.contains(&far.address()), "{clusters}");
    let mut client = Client::connect(stage.sidecar.port("mosn"));
    client.send(&Wire::Dubbo.call(7).service("t.Mosn.Far").payload(ECHO).bytes());
    assert_eq!(client.next().bytes, Wire::Dubbo.answer(7, ECHO));
    for _ in 0..2 {
        assert_eq!(stage.mosn("/unsub", &sub), done("unsubscribe success"));
        assert_eq!(stage.mosn("/unpub", &body("t.Mosn")), done("unpub success"));
    }
    until("it is gone", || given("dubbo", "t.Mosn").is_empty());
    let refused = stage.mosn("/pub", &json!({ "service": { "methods": [] } }));
    assert_eq!(refused["err_no"], 1);
    assert!(
        refused["err_msg"].as_str().is_some_and(|why| why.starts_with("publish fail, err: ")),
        "{refused}"
    );
    assert!(matches!(named.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock), "it was dialled");
    assert!(!stage.sidecar.log().contains("secret-of-the-caller"));
}

#[test]
fn who_asks_wrongly_is_told_so_and_changes_nothing() {
    let mut stage = Stage::begin(free_port(), None);
    let good = publish("t.Wrong").to_string();
    let twice = good.replacen('{', "{\"serviceName\":\"t.Other:1.0\",", 1);
    let long = format!("{{\"serviceName\":\"{}\"}}", "x".repeat(1 << 20));
    let ours = "Host: 127.0.0.1:13330";
    for (line, headers, body, status) in [
        ("POST /services/unknown", ours, &*good, 404),
        ("POST /", ours, &good, 404),
        ("POST /pub", ours, &good, 404),
        ("GET /services/publish", ours, "", 405),
        ("PUT /services/publish", ours, &good, 405),
        ("OPTIONS /services/publish", ours, "", 405),
        ("POST /services/publish", ours, "", 400),
        ("POST /services/publish", ours, "{", 400),
        ("POST /services/publish", ours, "[]", 400),
        ("POST /services/publish", ours, &twice, 400),
        ("POST /services/publish", ours, "{\"serviceName\":\"a\\u0000b\"}", 400),
        ("POST /services/publish", ours, "{\"serviceName\":\"a\\u001b[2J\"}", 400),
        ("POST /services/publish", ours, "{\"serviceName\":\"../../a\"}", 400),
        ("POST /services/publish", ours, &long, 413),
        ("POST /services/publish", "Host: evil.example:13330", &good, 403),
        ("POST /services/publish", "Host: 10.0.0.1", &good, 403),
        ("POST /services/publish", "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1", &good, 403),
        ("POST /services/publish", "Host: 127.0.0.1\r\nOrigin: null", &good, 403),
        ("POST /services/publish", "Host: 127.0.0.1\r\nHost: evil.example", &good, 403),
    ] {
        let len = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\n{headers}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
        );
        let (head, told) = exchange(stage.sofarpc, request.as_bytes());
        let what = format!("{line} {headers} {}: {head} {told}", &body[..body.len().min(60)]);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}");
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {what}"));
        assert_eq!(told["success"], false, "{what}");
        assert!(told["errorMessage"].as_str().is_some_and(|why| !why.is_empty()), "{what}");
        assert_eq!(status == 405, head.to_ascii_lowercase().contains("\r\nallow: post"), "{what}");
    }
    // Longer than it says it is allowed to be, without saying how long.
    let mut chunked =
        format!("POST /services/publish HTTP/1.1\r\n{ours}\r\nTransfer-Encoding: chunked\r\n\r\n")
            .into_bytes();
    for _ in 0..40 {
        chunked.extend(format!("8000\r\n{}\r\n", "x".repeat(0x8000)).bytes());
    }
    let (head, _) = exchange(stage.sofarpc, &chunked);
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    // What its listener cannot carry is not registered.
    let mut tri = publish("t.Wrong");
    tri["protocolType"] = json!("tri");
    let answer = stage.says("/services/publish", &tri);
    assert_eq!(answer["success"], false);
    assert!(
        answer["errorMessage"].as_str().is_some_and(|why| why.contains("does not speak tri")),
        "{answer}"
    );
    assert_eq!((stage.learned("published"), stage.learned("subscribed")), (0, 0));
    stage.is_done("/services/publish", &publish("t.Wrong"));
    assert_eq!(stage.learned("published"), 1);
    stage.sidecar.assert_running();
}

/// Sends all of this, or as much as is taken, and reads until the end.
fn exchange(port: u16, request: &[u8]) -> (String, String) {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    // Who is refused may be so before everything was read.
    let _ = socket.write_all(request);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = socket.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..n]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.to_owned(), body.to_owned())
}

#[test]
fn there_is_an_end_to_what_may_be_said_and_to_who_may_say_it() {
    let state = TempDir::new();
    let mut stage = Stage::begin(free_port(), Some(state.path()));
    // By eleven connections at once, each sending a hundred ahead of their answers.
    let mut all: Vec<Http> = (0..11).map(|_| Http::connect(stage.sofarpc)).collect();
    for (number, http) in all.iter().enumerate() {
        let service = |n: usize| publish(&format!("t.Many{number}.N{n}"));
        let calls = (0..100).map(|n| call("/services/publish", "text/plain", &service(n)));
        http.send(calls.collect::<String>());
    }
    let mut refused = 0;
    for http in &mut all {
        for _ in 0..100 {
            let answer = http.next();
            assert_eq!(answer.status(), 200);
            let answer = json_of(&answer);
            if answer["success"] == false {
                refused += 1;
                let why = answer["errorMessage"].as_str().unwrap_or_default();
                assert_eq!(why, "1000 services are published already");
            }
        }
    }
    assert_eq!((refused, stage.learned("published")), (100, 1_000));
    let first = stage.registries()["registered"].as_object().and_then(|all| all.keys().next().cloned());
    let first =
        first.as_deref().and_then(|name| name.split(['/', ':']).nth(2)).expect("a service").to_owned();
    stage.is_done("/services/unpublish", &of(&first));
    stage.is_done("/services/publish", &publish("t.Many.Last"));
    stage.killed_and_back();
    assert_eq!(stage.learned("published"), 1_000, "all of it is remembered");
    // Whoever says nothing, or half of something, keeps nobody from being heard for long.
    let mut idle: Vec<TcpStream> = (0..80_usize)
        .map(|number| {
            let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, stage.sofarpc)).expect("it is queued");
            let said = [
                "",
                "POST /services/publish HTTP/1.1\r\nHost: 127.0.0.1\r\n",
                "POST /services/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
            ];
            socket.write_all(said[number % 3].as_bytes()).expect("it is taken");
            socket
        })
        .collect();
    let body = of("t.Many.Last").to_string();
    let len = body.len();
    let request = format!(
        "POST /services/unpublish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    );
    let (head, told) = exchange(stage.sofarpc, request.as_bytes());
    assert!(head.starts_with("HTTP/1.1 200 ") && told.contains("true"), "{head} {told}");
    let mut answer = String::new();
    idle[2].set_read_timeout(Some(PATIENCE)).expect("a socket option");
    idle[2].read_to_string(&mut answer).expect("it is answered");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"success\":false"), "{answer}");
    drop(idle);
    stage.sidecar.assert_running();
}
