//! What a real API server does too seldom: it forgets the changes since the last watch (410), tells what cannot be read, holds a
//! watch open without a word.
//!
//! A server of a few lines that answers by a script and notes what it was asked. Nothing may depend on a sleep being long
//! enough for news to arrive.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a failing test is the point")]

use std::{
    collections::VecDeque,
    fs,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use outrigger_discovery::{Board, Framework, Registry, ServiceKey, View};
use outrigger_registry_kubernetes::{Settings, open};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What is answered to a watch.
struct Watched {
    /// The lines, each a JSON object.
    events: Vec<Value>,
    /// Whether it ends then; otherwise it is held open.
    ends: bool,
}

/// What is answered, and what was asked.
#[derive(Default)]
struct Script {
    lists: VecDeque<Value>,
    watches: VecDeque<Watched>,
    asked: Vec<String>,
    /// Tells connections to end that nothing is asked over.
    idle_ends: watch::Sender<()>,
}

type Shared = Arc<Mutex<Script>>;

fn slice(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "resourceVersion": version.to_string(),
                      "labels": { "kubernetes.io/service-name": "shop" } },
        "addressType": "IPv4",
        "ports": [{ "port": 80 }],
        "endpoints": [{ "addresses": [format!("10.0.0.{}", name.len())] }],
    })
}

fn list(version: u32, more: &str, slices: &[Value]) -> Value {
    json!({ "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
            "metadata": { "resourceVersion": version.to_string(), "continue": more }, "items": slices })
}

fn event(kind: &str, object: &Value) -> Value {
    json!({ "type": kind, "object": object })
}

/// Answers one connection, request by request.
async fn answer(stream: TcpStream, script: Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut ends = script.lock().expect("the script").idle_ends.subscribe();
    loop {
        let mut head = String::new();
        tokio::select! {
            begun = stream.read_line(&mut head) => if begun? == 0 {
                return Ok(());
            },
            _ = ends.changed() => return Ok(()),
        }
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let whole = |body: &Value| {
            let body = body.to_string();
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        if !target.contains("/endpointslices") {
            stream.write_all(whole(&json!({ "major": "1", "minor": "34" })).as_bytes()).await?;
            continue;
        }
        let (text, ends) = {
            let mut script = script.lock().expect("the script");
            script.asked.push(target.clone());
            if target.contains("watch=true") {
                let Watched { events, ends } =
                    script.watches.pop_front().unwrap_or(Watched { events: Vec::new(), ends: false });
                let mut text =
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
                        .to_owned();
                for event in events {
                    let line = format!("{event}\n");
                    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                    text.push_str(&chunk);
                }
                if ends {
                    text.push_str("0\r\n\r\n");
                }
                (text, ends)
            } else {
                let last = script.lists.len() == 1;
                let body = if last { script.lists.front().cloned() } else { script.lists.pop_front() };
                (whole(&body.expect("a list")), true)
            }
        };
        stream.write_all(text.as_bytes()).await?;
        if !ends {
            // Whoever watches has to lose patience.
            let mut rest = String::new();
            while stream.read_line(&mut rest).await? > 0 {}
            return Ok(());
        }
    }
}

/// A registry at a server with this script, whose watches are short.
async fn start(dir: &TempDir, script: Script) -> (Shared, impl Registry) {
    start_with(dir, script, Settings { watch: Duration::from_secs(1), ..Settings::default() }).await
}

/// A registry at a server with this script.
async fn start_with(dir: &TempDir, script: Script, settings: Settings) -> (Shared, impl Registry) {
    let script = Arc::new(Mutex::new(script));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let shared = Arc::clone(&script);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&shared)));
        }
    });
    let path = dir.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: main\n\
         clusters: [{{ name: c, cluster: {{ server: 'http://127.0.0.1:{port}' }} }}]\n\
         users: [{{ name: u, user: {{}} }}]\ncontexts: [{{ name: main, context: {{ cluster: c, user: u }} }}]\n"
    );
    fs::write(&path, text).expect("a kubeconfig");
    (script, open(Settings { kubeconfig: Some(path), ..settings }))
}

/// Follows a watch until what it knows is as wanted; all that it knew on the way.
async fn until(board: &Board, number: usize, wanted: impl Fn(&View) -> bool) -> Vec<View> {
    let mut all = Vec::new();
    let come = time::timeout(PATIENCE, async {
        loop {
            let view = board.view(number).expect("a watch");
            all.push(view.clone());
            if wanted(&view) {
                return;
            }
            board.news().await;
        }
    });
    assert!(come.await.is_ok(), "in time; what was known: {all:#?}");
    all
}

fn addresses(view: &View) -> Vec<String> {
    view.instances.iter().flat_map(|all| all.iter().map(|one| one.address.clone())).collect()
}

fn plain(service: &str) -> ServiceKey {
    ServiceKey { framework: Framework::Plain, ..ServiceKey::new(service) }
}

#[tokio::test]
async fn what_the_server_forgot_is_listed_again_and_the_gap_is_told() {
    let dir = TempDir::new().expect("a directory");
    let gone = json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old" });
    let unreadable = json!({ "metadata": 7 });
    let script = Script {
        // In two pages; what is missing in the later list is gone.
        lists: [
            list(5, "page", &[slice("a", 1)]),
            list(5, "", &[slice("bb", 2)]),
            list(9, "", &[slice("ccc", 7)]),
        ]
        .into(),
        watches: [
            Watched {
                events: vec![event("ADDED", &unreadable), event("ADDED", &slice("ccc", 7))],
                ends: true,
            },
            Watched { events: vec![event("ERROR", &gone)], ends: true },
        ]
        .into(),
        ..Script::default()
    };
    let (script, registry) = start(&dir, script).await;
    let mut board = Board::default();
    let (number, teller) = board.open();
    let task = tokio::spawn(registry.watch(plain("shop"), teller));
    let seen = until(&board, number, |view| view.gaps > 0 && view.lost.is_none()).await;
    assert_eq!(addresses(seen.last().expect("a view")), ["10.0.0.3:80"]);
    let whole = |view: &View| view.instances.is_none() || addresses(view) != ["10.0.0.1:80"];
    assert!(seen.iter().all(whole), "a list that was read in part was told: {seen:#?}");
    assert_eq!(registry.status().unreadable, 1, "what cannot be read is passed over, and counted");
    {
        let asked = &script.lock().expect("the script").asked;
        let versions: Vec<&str> = asked
            .iter()
            .map(|target| match target.split("resourceVersion=").nth(1) {
                Some(version) => version.split('&').next().unwrap_or_default(),
                None if target.contains("continue=page") => "page",
                None => "list",
            })
            .collect();
        assert_eq!(versions[..5], ["list", "page", "5", "7", "list"], "{asked:#?}");
        assert!(asked.iter().all(|target| target.contains("labelSelector=kubernetes.io%2Fservice-name")));
    }
    drop(board);
    time::timeout(PATIENCE, task).await.expect("an end in time").expect("no panic");
}

#[tokio::test]
async fn a_list_that_does_not_end_is_never_told() {
    let dir = TempDir::new().expect("a directory");
    let script = Script { lists: [list(5, "page", &[slice("a", 1)])].into(), ..Script::default() };
    let (script, registry) = start(&dir, script).await;
    let mut board = Board::default();
    let (number, teller) = board.open();
    let task = tokio::spawn(registry.watch(plain("shop"), teller));
    let seen = until(&board, number, |view| view.lost.is_some()).await;
    let lost = seen.last().and_then(|view| view.lost.clone()).expect("a reason");
    assert!(lost.contains("does not end"), "{lost}");
    assert!(seen.iter().all(|view| view.instances.is_none()), "{seen:#?}");
    assert!(script.lock().expect("the script").asked.len() > 100, "it was read for long");
    task.abort();
}

#[tokio::test]
async fn a_watch_without_a_word_is_begun_anew() {
    let dir = TempDir::new().expect("a directory");
    let script = Script {
        lists: [list(5, "", &[slice("a", 1)])].into(),
        // The first is held open for ever.
        watches: [
            Watched { events: Vec::new(), ends: false },
            Watched { events: vec![event("ADDED", &slice("bb", 6))], ends: false },
        ]
        .into(),
        ..Script::default()
    };
    let (script, registry) = start(&dir, script).await;
    let mut board = Board::default();
    let (number, teller) = board.open();
    let task = tokio::spawn(registry.watch(plain("shop"), teller));
    let seen = until(&board, number, |view| addresses(view).len() == 2).await;
    assert!(seen.iter().all(|view| view.lost.is_none()), "nothing was lost by that");
    let lists =
        script.lock().expect("the script").asked.iter().filter(|target| !target.contains("watch=")).count();
    assert_eq!(lists, 1, "it goes on where it was");
    task.abort();
}

#[tokio::test]
async fn a_server_that_goes_is_told_by_its_other_connections() {
    let dir = TempDir::new().expect("a directory");
    let held = |events| Watched { events, ends: false };
    let script = Script {
        lists: [list(5, "", &[slice("a", 1)])].into(),
        watches: [held(Vec::new()), held(vec![event("ADDED", &slice("bb", 6))]), held(Vec::new())].into(),
        ..Script::default()
    };
    // A watch that would last for longer than anybody waits.
    let settings = Settings {
        watch: Duration::from_secs(600),
        probe: Duration::from_millis(500),
        ..Settings::default()
    };
    let (script, registry) = start_with(&dir, script, settings).await;
    let watches = || {
        let script = script.lock().expect("the script");
        script.asked.iter().filter(|target| target.contains("watch=true")).count()
    };
    let mut board = Board::default();
    let (number, teller) = board.open();
    let task = tokio::spawn(registry.watch(plain("shop"), teller));
    until(&board, number, |view| addresses(view).len() == 1).await;
    // As long as its connections last, so does the watch.
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(watches(), 1);
    script.lock().expect("the script").idle_ends.send_replace(());
    let seen = until(&board, number, |view| addresses(view).len() == 2).await;
    assert!(seen.iter().all(|view| view.lost.is_none()), "nothing was lost by that");
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(watches(), 2, "it was begun anew once");
    task.abort();
}
