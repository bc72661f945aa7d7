//! Every file in `conf/` is a working conf, and what is said about the conf is true.
//!
//! Each example is parsed and run (on free ports); the schema beside them is the one the binary prints; every key that
//! the schema knows stands in `reference.yaml`, so that a key nobody explained cannot be added.

mod support;

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use serde_json::Value;
use support::{Sidecar, TempDir, free_port};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conf")
}

fn examples() -> Vec<PathBuf> {
    let files =
        std::fs::read_dir(folder()).expect("conf/ is there").map(|entry| entry.expect("an entry").path());
    let yaml = |path: &PathBuf| {
        path.extension().is_some_and(|ext| ext == "yaml") && !path.ends_with("services.yaml")
    };
    let mut files: Vec<PathBuf> = files.filter(yaml).collect();
    files.sort();
    assert!(files.len() >= 12, "the examples are there");
    files
}

fn outrigger(args: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_outrigger")).args(args).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_example_passes_the_check() {
    for file in examples() {
        let (well, out, err) = outrigger(&["check", "-c", file.to_str().expect("a path")]);
        assert!(well && out.contains("well"), "{}: {out}{err}", file.display());
    }
}

#[test]
fn a_check_tells_what_it_found_bridges_and_registries_too() {
    let told = |name: &str| outrigger(&["check", "-c", folder().join(name).to_str().expect("a path")]).1;
    let bridges = told("bridges.yaml");
    assert!(bridges.ends_with("clusters: 0, registries: 2, bridges: 3\n"), "{bridges}");
    let echo = told("echo.yaml");
    assert!(echo.ends_with("well; listeners: 1, routes: 1, clusters: 1\n"), "{echo}");
}

#[test]
fn every_example_runs() {
    for file in examples() {
        let written = std::fs::read_to_string(&file).expect("an example");
        let services = folder().join("services.yaml");
        // The same conf on ports that are free here; the admin port tells that it runs.
        let text: String = written
            .lines()
            .map(|line| match line.trim_start() {
                key if key.starts_with("admin:") => format!("admin: 127.0.0.1:{}\n", free_port()),
                key if key.starts_with("bind:") => format!("    bind: 127.0.0.1:{}\n", free_port()),
                _ => format!("{}\n", line.replace("services.yaml", services.to_str().expect("a path"))),
            })
            .collect();
        let mut sidecar = Sidecar::start(&text);
        let (status, shown) = sidecar.admin_get("/config");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!((status, written.contains(shown["app"].as_str().expect("a name"))), (200, true));
        sidecar.term();
        assert!(sidecar.wait(std::time::Duration::from_secs(10)).success());
    }
}

#[test]
fn the_schema_beside_the_examples_is_the_one_of_this_build() {
    let (well, printed, _) = outrigger(&["schema"]);
    let kept = std::fs::read_to_string(folder().join("outrigger.schema.json")).expect("the schema is kept");
    assert!(well && printed == kept, "run: cargo run -- schema > conf/outrigger.schema.json");
}

#[test]
fn the_reference_shows_every_key() {
    let schema: Value = serde_json::from_str(&outrigger(&["schema"]).1).expect("JSON");
    let mut keys = BTreeSet::new();
    collect(&schema, &mut keys);
    assert!(keys.contains("drain_timeout") && keys.contains("pending_max"), "{keys:?}");
    // `to` stands for the other way to name a cluster and is shown; whole words only.
    let reference = std::fs::read_to_string(folder().join("reference.yaml")).expect("the reference");
    let words: BTreeSet<&str> = reference.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let missing: Vec<_> = keys.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "reference.yaml does not show {missing:?}");
}

/// The names of all properties in a schema.
fn collect(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| collect(value, keys));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let dir = TempDir::new();
    let file = dir.path().join("bad.yaml");
    let text = "app: shop\nlisteners:\n  egress:\n    bnd: 127.0.0.1:1\n    bind: nowhere\n    protocol: [bolt, dubo]\n    routes:\n      \
                - match: { service: { regex: '(' } }\n        to: ecko\n        timeout: 5\nclusters:\n  echo: { endpoints: ['x'] }\n";
    std::fs::write(&file, text).expect("a file");
    let (well, json, _) = outrigger(&["check", "--format", "json", "-c", file.to_str().expect("a path")]);
    let problems: Value = serde_json::from_str(&json).expect("JSON");
    let places: BTreeSet<(u64, u64)> = problems.as_array().expect("a list").iter().map(place).collect();
    assert!(!well);
    // An unknown key, an address, a protocol, a regular expression, a cluster, a duration, an endpoint.
    let expected = [(4, 5), (5, 11), (6, 22), (8, 36), (9, 13), (10, 18), (12, 23)];
    assert_eq!(places, BTreeSet::from(expected), "{problems:#}");
    for near in ["did you mean `bind`", "did you mean `dubbo`", "did you mean `echo`"] {
        assert!(json.contains(near), "{near}: {json}");
    }
    let (_, _, text) = outrigger(&["check", "-c", file.to_str().expect("a path")]);
    assert!(text.contains("bad.yaml:4:5") && text.contains("7 errors"), "{text}");
}

#[test]
fn what_a_relay_cannot_do_is_refused_where_it_is_asked_for() {
    let dir = TempDir::new();
    let file = dir.path().join("relay.yaml");
    let text = "app: a\nlisteners:\n  l:\n    bind: 127.0.0.1:1\n    protocol: tcp\n    keepalive_timeout: 9s\n    \
                routes: [{ to: c, timeout: 1s }]\nclusters: { c: { endpoints: ['a:1'] } }\n";
    std::fs::write(&file, text).expect("a file");
    let path = file.to_str().expect("a path");
    let (well, _, told) = outrigger(&["check", "-c", path]);
    assert!(!well && told.contains("relay.yaml:6:24") && told.contains("relay.yaml:7:32"), "{told}");
    // The same keys mean something as soon as calls can be told.
    std::fs::write(&file, text.replace("protocol: tcp", "protocol: [bolt, tcp]")).expect("a file");
    let (well, _, told) = outrigger(&["check", "-c", path]);
    assert!(well, "{told}");
}

#[test]
fn a_test_with_two_keys_is_refused_where_it_stands() {
    let dir = TempDir::new();
    let file = dir.path().join("two.yaml");
    let text = "app: a\nlisteners:\n  l:\n    bind: 127.0.0.1:1\n    routes:\n      - { match: { service: { prefix: a, \
                regex: b } }, to: c }\nclusters: { c: { endpoints: ['a:1'] } }\n";
    std::fs::write(&file, text).expect("a file");
    let path = file.to_str().expect("a path");
    let (well, _, told) = outrigger(&["check", "-c", path]);
    assert!(!well && told.contains("two.yaml:6:") && told.contains("a test has one key"), "{told}");
    std::fs::write(&file, text.replace(", regex: b", "")).expect("a file");
    assert!(outrigger(&["check", "-c", path]).0);
}

fn place(problem: &Value) -> (u64, u64) {
    (problem["line"].as_u64().expect("a line"), problem["column"].as_u64().expect("a column"))
}

#[test]
fn explain_says_where_a_call_goes_and_what_others_failed_on() {
    let file = folder().join("shop-dubbo.yaml");
    let file = file.to_str().expect("a path");
    let ask = |more: &[&str]| {
        let mut args = vec!["explain", "-c", file, "--service", "com.example.OrderService"];
        args.extend(more);
        let (well, out, err) = outrigger(&args);
        assert!(well, "{err}");
        out
    };
    let gray = ask(&["--method", "get", "--header", "dubbo.tag=gray"]);
    assert!(gray.contains("route 1 (tagged-gray): matches") && gray.contains("10.0.0.21:20880"), "{gray}");
    let report = ask(&["--method", "reportAll"]);
    assert!(report.contains("(tagged-gray): passed over, dubbo.tag does not match"), "{report}");
    assert!(report.contains("(slow-reports): matches") && report.contains("5 at once"), "{report}");
    let shares = ask(&["--method", "get", "--group", "blue", "--version", "1.4.0"]);
    assert!(
        shares.contains("cluster orders (95 %)") && shares.contains("cluster orders-gray (5 %)"),
        "{shares}"
    );
    let nowhere = ask(&["--method", "get", "--group", "red", "--version", "1.4.0"]);
    assert!(nowhere.contains("group does not match") && nowhere.contains("no route matches"), "{nowhere}");
}

#[test]
fn explain_says_how_endpoints_are_checked() {
    let file = folder().join("steady.yaml");
    let (well, out, err) =
        outrigger(&["explain", "-c", file.to_str().expect("a path"), "--service", "com.example.CartService"]);
    assert!(well, "{err}");
    let words =
        "checked by a heartbeat of dubbo within 1s, every 5s; ill after 3 bad ones in a row, well again";
    assert!(out.contains(words), "{out}");
}

#[test]
fn explain_says_what_applies_by_default_and_what_does_not() {
    let file = folder().join("defaults.yaml");
    let ask = |service: &str| {
        let (well, out, err) =
            outrigger(&["explain", "-c", file.to_str().expect("a path"), "--service", service]);
        assert!(well, "{err}");
        out
    };
    for (service, applies) in [
        (
            "com.example.CatalogService",
            &[
                "timeout: 2s",
                "sent again up to 2 times on reset, overloaded",
                "balanced by LeastRequest",
                "connected to within 300ms; left alone after 3 failures in a row, for 5s",
                "checked by a connection within 1s, every 2s",
            ][..],
        ),
        ("com.example.SearchService", &["timeout: 2s", "sent again up to 1 times on reset, overloaded"]),
        ("com.example.ReportService", &["timeout: the caller's own", "never left alone"]),
        ("com.example.Any", &["timeout: 2s", "in a row, for 30s", "a heartbeat of bolt within 1s, every 2s"]),
    ] {
        let told = ask(service);
        for words in applies {
            assert!(told.contains(words), "{words}: {told}");
        }
    }
    let reports = ask("com.example.ReportService");
    assert!(!reports.contains("checked by") && !reports.contains("sent again"), "{reports}");
    assert!(!ask("com.example.Any").contains("sent again"), "it is not idempotent");
}

#[test]
fn explain_follows_calls_of_grpc() {
    let file = folder().join("shop-grpc.yaml");
    let ask = |args: &[&str]| {
        let (well, out, err) =
            outrigger(&[&["explain", "-c", file.to_str().expect("a path")], args].concat());
        assert!(well, "{err}");
        out
    };
    let orders = ask(&["--service", "shop.Orders", "--method", "Get"]);
    assert!(
        orders.contains("(triple, grpc)") && orders.contains("route 1 (shop.Orders): matches"),
        "{orders}"
    );
    let blue = ask(&["--service", "com.example.EchoService", "--version", "2.0.0", "--group", "blue"]);
    assert!(blue.contains("cluster echo-blue"), "{blue}");
    let gray = ask(&["--service", "com.example.EchoService", "--header", "dubbo.tag=gray"]);
    assert!(gray.contains("cluster echo-gray"), "{gray}");
    assert!(ask(&["--service", "shop.Other"]).contains("gRPC 12"));
}

#[test]
fn what_cannot_be_translated_is_refused_where_it_is_asked_for() {
    let dir = TempDir::new();
    let file = dir.path().join("translated.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        let (well, _, told) = outrigger(&["check", "-c", file.to_str().expect("a path")]);
        (well, told)
    };
    let text = "app: a\nlisteners:\n  l:\n    bind: 127.0.0.1:1\n    protocol: bolt\n    routes: [{ to: c }]\n\
                clusters:\n  c: { endpoints: ['a:1'], protocol: http1 }\n";
    let (well, told) = check(text);
    assert!(!well && told.contains("translated.yaml:6:20") && told.contains("calls of bolt"), "{told}");
    let (well, told) = check(&text.replace("protocol: http1", "protocol: dubbo"));
    assert!(!well && told.contains("translated into `dubbo`"), "{told}");
    // Where it can be for some of what is spoken, it is.
    let (well, told) = check(&text.replace("protocol: bolt", "protocol: auto"));
    assert!(well, "{told}");
    let (well, told) = check(&text.replace("protocol: bolt", "protocol: [triple]"));
    assert!(well, "{told}");
}

#[test]
fn explain_follows_requests_of_http_through_the_same_tables() {
    let ask = |file: &str, args: &[&str]| {
        let file = folder().join(file);
        let (well, out, err) =
            outrigger(&[&["explain", "-c", file.to_str().expect("a path")], args].concat());
        assert!(well, "{err}");
        out
    };
    let web = |args: &[&str]| ask("web-http1.yaml", args);
    for (args, route) in [
        (vec!["--method", "GET", "--path", "/%68ealthz?full"], "/healthz"),
        (vec!["--method", "PUT", "--path", "/x", "--authority", "Admin.Example.com:8443"], "admin"),
        (vec!["--method", "GET", "--path", "/users/7/orders/?x=1&version=%32"], "orders-v2"),
        (vec!["--method", "GET", "--path", "/users/7/orders/9?version=1"], "read-orders"),
        (vec!["--method", "POST", "--path", "/users/7/orders/"], "write-orders"),
        (vec!["--method", "POST", "--path", "/api/x", "--header", "x-zone=a"], "api"),
    ] {
        let told = web(&args);
        assert!(told.contains(&format!("({route}): matches")), "{route}: {told}");
    }
    let told = web(&["--method", "POST", "--path", "/users//orders/", "--authority", "a"]);
    for passed in [
        "(/healthz): passed over, path",
        "(admin): passed over, authority",
        "(api): passed over, path",
        "(route-6): passed over, method",
    ] {
        assert!(told.contains(passed), "{passed}: {told}");
    }
    assert!(told.contains("no route matches") && told.contains("HTTP 404"), "{told}");
    let told = web(&["--method", "GET", "--path", "/users/7/orders/"]);
    assert!(told.contains("(orders-v2): passed over, query") && told.contains("idempotent"), "{told}");
    let told = ask("web-http2.yaml", &["--method", "GET", "--path", "/legacy/7"]);
    assert!(told.contains("(http1, http2)") && told.contains("spoken to in http1"), "{told}");
    // On a port for everything each protocol finds its own routes.
    let told = ask("one-port.yaml", &["--authority", "users.internal:80", "--path", "/v1/7"]);
    assert!(
        told.contains("service does not match") && told.contains("(users.internal/v1/*): matches"),
        "{told}"
    );
    let told = ask("one-port.yaml", &["--service", "com.example.OtherService"]);
    assert!(told.contains("authority does not match") && told.contains("no route matches"), "{told}");
}
