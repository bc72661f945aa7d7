//! curl, nghttp and h2load through the sidecar, whatever the server behind it speaks: bodies, interim answers, trailers, and
//! many calls at once of which none may fail.
//!
//! What the server understood is asserted, and what the tools say of what came.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::curl::{curl, file, parts, pattern, sha256};
use super::support::peers::{Web, system_client};
use super::support::{Process, Sidecar, TempDir, free_port, run};
use super::{Legs, sidecar, turn};

const MIB: usize = 1 << 20;
const RUN_MAX: Duration = Duration::from_secs(120);

/// Every way from one version to another that is not HTTP/1 alone: what curl speaks, and the server.
const WAYS: [(&str, Legs, Web); 4] = [
    ("--http2-prior-knowledge", Legs { listener: "http2", cluster: None }, Web::GoEcho2),
    ("--http2-prior-knowledge", Legs { listener: "auto", cluster: Some("http1") }, Web::GoEcho),
    ("--http1.1", Legs { listener: "http1", cluster: Some("http2") }, Web::GoEcho2),
    ("--http1.0", Legs { listener: "[http1, http2]", cluster: Some("http2") }, Web::GoEcho2),
];

/// Does this on every way.
fn each(mut what: impl FnMut(&str, u16)) {
    let _turn = turn();
    for (version, legs, server) in WAYS {
        let port = free_port();
        let _server = Process::start("go", &mut server.on(port));
        let mut sidecar = sidecar(legs, port);
        what(version, sidecar.port("egress"));
        sidecar.assert_running();
    }
}

#[test]
fn curl_sends_and_gets_whole_messages() {
    each(|version, port| {
        let (old, new) = (version == "--http1.0", version.contains("http2"));
        let got = curl(port, &[version, "{}/"]);
        assert_eq!(got.is(200).text(), "hello\n");
        assert!(
            got.heads.starts_with(if new { "HTTP/2 200" } else { "HTTP/1.1 200 OK\r\n" }),
            "{}",
            got.heads
        );
        let lines = ["-H", "X-Lane: blue", "-H", "X-Lane: green", "-b", "a=1; b=2", "-A", ""];
        let seen = curl(port, &[&[version, "{}/echo?a=%C3%A9"], &lines[..]].concat()).json();
        assert_eq!((&seen["method"], &seen["query"]), (&json!("GET"), &json!("a=%C3%A9")));
        assert_eq!(seen["headers"]["X-Lane"], json!(["blue", "green"]));
        assert_eq!(seen["headers"]["Cookie"], json!(["a=1; b=2"]));
        assert_eq!(seen["host"], format!("127.0.0.1:{port}"));
        for method in ["PUT", "PATCH", "DELETE"] {
            let seen = curl(port, &[version, "-X", method, "{}/echo", "-d", "body"]).json();
            assert_eq!(
                (&seen["method"], &seen["body"], &seen["declared"]),
                (&json!(method), &json!("body"), &json!(4))
            );
        }
        let streamed = curl(port, &[version, "{}/chunked?parts=200"]);
        assert_eq!(streamed.is(200).text(), parts(200));
        // They stand behind the head; HTTP/1.0 has no place for them.
        assert_eq!(
            streamed.heads.to_ascii_lowercase().contains("\r\nx-sha256: "),
            !old,
            "{}",
            streamed.heads
        );
        let hints = curl(port, &[version, "{}/hints"]);
        assert_eq!(hints.is(200).text(), "after the hints");
        assert_eq!(hints.heads.contains(" 103"), !old, "{}", hints.heads);
        let head = curl(port, &[version, "-I", "{}/big?bytes=1234567"]);
        assert_eq!(head.is(200).header("content-length"), Some("1234567"));
        for status in [204, 205, 304, 307, 404, 429, 500, 503] {
            let got = curl(port, &[version, &format!("{{}}/status?code={status}")]);
            assert_eq!((got.is(status).header("x-kept"), got.body.len()), (Some("a value"), 0), "{status}");
        }
        // One connection is enough.
        let got = curl(port, &[version, "{}/", "{}/echo", "-I", "{}/"]);
        assert!(old || got.connects.iter().sum::<u32>() == 1, "{:?}", got.connects);
        curl(port, &[version, "-X", "TRACE", "{}/"]).refused(405, "forbidden");
    });
}

#[test]
fn fifty_mebibytes_arrive_unchanged_each_way() {
    const LEN: usize = 50 * MIB;
    let dir = TempDir::new();
    let path = file(&dir, LEN);
    let (from, digest, whole) = (format!("@{}", path.display()), sha256(&path), pattern(LEN));
    let upload = path.display().to_string();
    each(|version, port| {
        let got = curl(port, &[version, &format!("{{}}/big?bytes={LEN}")]);
        assert!(got.is(200).body == whole, "{version}: other bytes came: {}", got.body.len());
        let due = (json!(LEN), json!(digest), json!(LEN));
        let posted = curl(port, &[version, "{}/echo", "--data-binary", &from]).json();
        assert_eq!((posted["length"].clone(), posted["sha256"].clone(), posted["declared"].clone()), due);
        let due = (json!(LEN), json!(digest));
        // By chunks where there are such, and waiting for a word first where it can be.
        let chunks = if version == "--http1.1" { "Transfer-Encoding: chunked" } else { "X-Plain: 1" };
        let put =
            curl(port, &[version, "{}/echo", "-T", &upload, "-H", chunks, "-H", "Expect: 100-continue"])
                .json();
        assert_eq!((put["length"].clone(), put["sha256"].clone()), due, "{version}");
    });
}

/// nghttp on one target: what it said.
#[track_caller]
fn nghttp(port: u16, target: &str, args: &[&str]) -> String {
    let mut command = system_client("nghttp");
    command.args(args).arg(format!("http://127.0.0.1:{port}{target}"));
    let ran = run(&mut command, RUN_MAX);
    assert!(ran.ok, "nghttp {args:?} {target}: {:.2000}", ran.said);
    ran.said
}

/// The JSON object in what was said.
#[track_caller]
fn object(said: &str) -> Value {
    let begin = said.find('{').unwrap_or_default();
    let mut values = serde_json::Deserializer::from_str(&said[begin..]).into_iter();
    values.next().and_then(Result::ok).unwrap_or_else(|| panic!("no JSON in {said:.2000}"))
}

#[test]
fn nghttp_sends_and_gets_whole_messages() {
    let dir = TempDir::new();
    let path = file(&dir, MIB);
    let (upload, digest) = (path.display().to_string(), sha256(&path));
    each(|version, port| {
        if !version.contains("http2") {
            return;
        }
        assert!(nghttp(port, "/", &[]).starts_with("hello\n"));
        let said =
            nghttp(port, "/echo", &["-d", &upload, "--trailer", "x-number: 7", "-H", "trailer: x-number"]);
        let seen = object(&said);
        assert_eq!((&seen["length"], &seen["sha256"]), (&json!(MIB), &json!(digest)));
        // A body of a known length has no place for trailers in HTTP/1.
        assert!(
            seen["trailers"].is_null() || seen["trailers"]["X-Number"] == json!(["7"]),
            "{}",
            seen["trailers"]
        );
        let said = nghttp(
            port,
            "/echo",
            &["--no-content-length", "-d", &upload, "--trailer", "x-number: 7", "-H", "trailer: x-number"],
        );
        assert_eq!(object(&said)["trailers"]["X-Number"], json!(["7"]));
        let said = nghttp(port, "/refuse", &["-v", "-n", "--expect-continue", "-d", &upload]);
        assert!(said.contains(":status: 403") && !said.contains(":status: 100"), "{said:.2000}");
        let said = nghttp(port, "/echo", &["-v", "-n", "--expect-continue", "-d", &upload]);
        assert!(said.contains(":status: 100") && said.contains(":status: 200"), "{said:.2000}");
        let said = nghttp(port, "/hints", &["-v"]);
        assert!(said.contains(":status: 103") && said.contains("after the hints"), "{said}");
        let said = nghttp(port, "/big?bytes=100", &["-v", "-H", ":method: HEAD"]);
        assert!(said.contains("content-length: 100") && !said.contains("recv DATA"), "{said}");
        let said = nghttp(port, "/chunked?parts=3", &["-v"]);
        assert!(said.contains("part 2 of 3\n") && said.contains("x-sha256: "), "{said}");
        // Many at once by one connection, with the smallest windows.
        let said =
            nghttp(port, &format!("/big?bytes={MIB}"), &["-n", "-s", "-m", "20", "-w", "4", "-W", "16"]);
        assert_eq!(said.matches(" 200 ").count(), 20, "{said}");
    });
}

/// h2load with these arguments: none of so many calls may fail.
#[track_caller]
fn load(sidecar: &mut Sidecar, calls: u32, args: &[&str], target: &str) {
    let mut command: Command = system_client("h2load");
    command.args(["-n", &calls.to_string()]).args(args);
    command.arg(format!("http://127.0.0.1:{}{target}", sidecar.port("egress")));
    let ran = run(&mut command, RUN_MAX);
    let all = format!("{calls} done, {calls} succeeded, 0 failed, 0 errored, 0 timeout");
    let well = format!("status codes: {calls} 2xx, 0 3xx, 0 4xx, 0 5xx");
    assert!(ran.ok && ran.said.contains(&all) && ran.said.contains(&well), "{target} {args:?}: {}", ran.said);
    sidecar.assert_well();
}

#[test]
fn h2load_loses_no_call() {
    let _turn = turn();
    for (legs, server) in [
        (Legs { listener: "http2", cluster: None }, Web::GoEcho2),
        (Legs { listener: "http2", cluster: Some("http1") }, Web::GoEcho),
    ] {
        let port = free_port();
        let _server = Process::start("go", &mut server.on(port));
        let mut sidecar = sidecar(legs, port);
        load(&mut sidecar, 20_000, &["-c", "20", "-m", "50"], "/");
        load(&mut sidecar, 2_000, &["-c", "20", "-m", "10"], "/big?bytes=50000");
        assert_eq!(sidecar.outcomes("", "ok"), 22_000, "{}", sidecar.stats());
    }
    // HTTP/1 callers, several requests in one write among them.
    let port = free_port();
    let _server = Process::start("go", &mut Web::GoEcho2.on(port));
    let mut sidecar = sidecar(Legs { listener: "http1", cluster: Some("http2") }, port);
    load(&mut sidecar, 20_000, &["--h1", "-c", "20", "-m", "1"], "/");
    load(&mut sidecar, 5_000, &["--h1", "-c", "20", "-m", "8"], "/");
    assert_eq!(sidecar.outcomes("", "ok"), 25_000, "{}", sidecar.stats());
}

/// Cases of the client in Go by HTTP/1, which compares everything itself.
#[test]
fn a_client_of_http1_is_served_by_a_server_of_http2() {
    let _turn = turn();
    let port = free_port();
    let mut server = Process::start("go", &mut Web::GoEcho2.on(port));
    let mut sidecar = sidecar(Legs { listener: "http1", cluster: Some("http2") }, port);
    let mut client = Process::start("the client", &mut Web::GoClient.on(sidecar.port("egress")));
    let mut value = |case: &str| {
        let answer = client.ask(case);
        assert_eq!(answer["ok"], true, "{case}: {answer}");
        answer["value"].clone()
    };
    assert_eq!(value("keepalive 200"), 1);
    assert_eq!(value("parallel 100"), 100);
    let trailers = value("trailers 7");
    assert_eq!(trailers["sent"]["X-Number"], json!(["7"]), "{trailers}");
    assert_eq!(value(&format!("big {}", 5 * MIB)), 5 * MIB);
    assert_eq!(value("expect 100000"), json!({ "asked": true, "length": 100_000 }));
    let refused = value("refused 100000");
    assert_eq!((&refused["asked"], &refused["status"]), (&json!(false), &json!(403)), "{refused}");
    // Callers that leave while they wait: their answers, when those come, are nobody else's.
    let before = server.ask("counts")["requests"].as_i64().expect("a number");
    assert_eq!(value("cancel 20"), 20);
    assert_eq!(server.ask("counts")["requests"], before + 20);
    for _ in 0..4 {
        assert_eq!(value("parallel 50"), 50);
        std::thread::sleep(Duration::from_millis(250));
    }
    sidecar.assert_running();
}
