//! `outrigger bridge --dry-run`: what it says of each entry, and how it ends when it can say nothing.

use super::lists::{In, List, Of};
use super::sidecars::conf;
use super::support::{Sidecar, TempDir, free_port, netns};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// The one that also runs, for services of one name; and the one the other way.
const LINES: [&str; 2] = [
    "dry: { from: zk, to: nc, services: { prefix: dry. }, level: interface }",
    "back: { from: nc, to: zk, services: { prefix: dry. }, election: zk }",
];

pub(crate) fn story() {
    let addresses: Vec<String> = (0..4).map(|_| format!("{}:{}", netns::ADDRESS, free_port())).collect();
    let here = |service: &str| List::new(Of::Dubbo, In::ZooKeeper, service);
    let there = |service: &str| List::new(Of::Dubbo, In::Nacos, service);
    // As Dubbo names its nodes.
    here("dry.Inner%24Write").put(&addresses[0]);
    here("dry.With+Space").put(&addresses[0]);
    here("dry.Local").put("127.0.0.1:20880");
    here("dry.There").put(&addresses[1]);
    there("dry.There").put(&addresses[1]);
    there("dry.There").put_saying(&addresses[2], &mark("dry"));
    here("dry.Stands").put(&addresses[3]);
    // The same bridge with less to carry.
    let running = Sidecar::start(&conf(&[LINES[0].replace("{ prefix: dry. }", "dry.Stands")]));
    there("dry.Stands").becomes(&addresses[3..]);

    let file = Conf::new(&conf(&LINES.map(str::to_owned)));
    let (status, out, err) = file.asked(&["--bridge", "dry"]);
    assert_eq!(status, 0, "{err}");
    let rows: BTreeSet<[&str; 3]> =
        out.lines().filter(|line| !line.starts_with('#')).map(first_three).collect();
    let wanted = [
        ["write", "dry.Inner$Write", &addresses[0]],
        ["cannot", "dry.With Space", &addresses[0]],
        ["cannot", "dry.Local", "127.0.0.1:20880"],
        ["skip", "dry.There", &addresses[1]],
        ["remove", "dry.There", &addresses[2]],
        ["stands", "dry.Stands", &addresses[3]],
    ];
    assert_eq!(rows, wanted.into_iter().collect(), "{out}");
    for words in [
        "its name cannot be one of Nacos",
        "no other host can dial its address",
        "it stands there by itself",
        "it is found no more",
        "as dubbo dry.Inner$Write of bridging by dubbo weight=100",
        "# dry: zk to nc\n",
        "# cannot: 2, remove: 1, skip: 1, stands: 1, write: 1\n",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    as_json(&file, &addresses);
    what_cannot_be_said(&file);
    assert_eq!(running.role("dry"), "leading", "nothing was disturbed");
    there("dry.Stands").becomes(&addresses[3..]);
    there("dry.Inner___Write").becomes(&[]);
}

/// Both bridges of the conf; the copies that stand in Nacos are no originals for the one that leads back.
fn as_json(file: &Conf, addresses: &[String]) {
    let (status, out, err) = file.asked(&["--format", "json"]);
    assert_eq!(status, 0, "{err}");
    let rows: Value = serde_json::from_str(&out).expect("JSON");
    let rows = rows.as_array().expect("a list");
    let of = |bridge: &str, service: &str, address: &str| {
        let found = rows
            .iter()
            .find(|row| row["bridge"] == bridge && row["service"] == service && row["address"] == address);
        let row = found.unwrap_or_else(|| panic!("{bridge} {service} {address} is not in {rows:#?}"));
        (row["verdict"].as_str().expect("a word"), row["text"].as_str().expect("a text"))
    };
    assert_eq!(of("dry", "dry.Stands", &addresses[3]).0, "stands");
    assert_eq!(of("back", "dry.Stands", &addresses[3]), ("skip", "it is a copy by a bridge"));
    assert_eq!(of("back", "dry.There", &addresses[2]), ("skip", "it is a copy by a bridge"));
    assert_eq!(of("back", "dry.There", &addresses[1]), ("skip", "it stands there by itself"));
}

fn what_cannot_be_said(file: &Conf) {
    let (status, out, err) = file.asked(&["--bridge", "other"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains("no bridge is called `other`"), "{err}");

    let nowhere = format!("127.0.0.1:{}", free_port());
    let lost = Conf::new(&file.text.replace(&super::servers::NACOS.to_string(), &nowhere));
    let (status, out, err) = lost.asked(&["--timeout", "3"]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains("registry nc cannot be asked"), "{err}");

    let none = Conf::new(
        &conf(&[]).replace("bridges:\n", "listeners:\n  l: { bind: \"127.0.0.1:1\", routes: [] }\n"),
    );
    let (status, _, err) = none.asked(&[]);
    assert_eq!(status, 1, "{err}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    let told = command.args(["bridge", "-c"]).arg(&file.path).output().expect("the binary runs");
    assert!(!told.status.success());
    assert!(String::from_utf8_lossy(&told.stderr).contains("--dry-run"), "{told:?}");
}

fn first_three(line: &str) -> [&str; 3] {
    let mut parts = line.split('\t');
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

fn mark(bridge: &'static str) -> [(&'static str, &'static str); 3] {
    [("outrigger.origin", "zookeeper:127.0.0.1:2181"), ("outrigger.bridge", bridge), ("outrigger.hops", "1")]
}

/// A conf in a file of its own.
struct Conf {
    text: String,
    path: PathBuf,
    _dir: TempDir,
}

impl Conf {
    fn new(text: &str) -> Self {
        let dir = TempDir::new();
        let path = dir.path().join("outrigger.yaml");
        std::fs::write(&path, text).expect("the conf can be written");
        Self { text: text.to_owned(), path, _dir: dir }
    }

    /// Status, stdout, stderr.
    fn asked(&self, more: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(["bridge", "--dry-run", "-c"]).arg(&self.path).args(more);
        let told = command.output().expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (told.status.code().expect("a status"), text(told.stdout), text(told.stderr))
    }
}
