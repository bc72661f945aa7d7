//! `outrigger demo` as a newcomer meets it: the JSON of a timed run, the plain view, calls by hand, wrong usage.
//!
//! Black-box: the binary, its output, its exit status and its ports. Must never pass because the demo counted nothing:
//! counts are compared with what the demo promises, and one test makes calls fail on purpose.

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use support::{Child, TempDir, http_get, within};

const PROTOCOLS: [&str; 7] = ["bolt", "dubbo", "grpc", "http1", "http2", "tcp", "triple"];
const PATIENCE: Duration = Duration::from_secs(20);

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    demo(arguments).output().expect("the demo starts")
}

fn start(arguments: &[&str], temporary: &Path) -> Child {
    Child::spawn(demo(arguments).env("TMPDIR", temporary).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_timed_run_prints_one_json_object_and_nothing_else() {
    let output = output(&["--for", "2s", "--json"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let value: Value =
        serde_json::from_str(text(&output.stdout)).expect("one JSON value is all of the output");
    assert_eq!(keys(&value), ["failures", "protocols"]);
    assert_eq!(value["failures"], 0);
    assert_eq!(keys(&value["protocols"]), PROTOCOLS);
    for name in PROTOCOLS {
        let protocol = &value["protocols"][name];
        assert_eq!(keys(protocol), ["calls", "failures", "p50_us", "p99_us"]);
        let number = |key: &str| protocol[key].as_u64().expect("a whole number");
        assert_eq!(number("failures"), 0, "{name}");
        // 400 calls a second are meant; a busy machine may manage fewer, but never many more.
        assert!((50..=1_000).contains(&number("calls")), "{name}: {protocol}");
        assert!(0 < number("p50_us") && number("p50_us") <= number("p99_us"), "{name}: {protocol}");
    }
}

#[test]
fn without_a_terminal_the_view_is_plain_lines_and_ends() {
    let output = output(&["--for", "2500ms"]);
    let shown = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{shown}");
    assert!(!shown.contains('\x1b'), "{shown}");
    let seconds: Vec<&str> = shown.lines().filter(|line| line.contains(" s | bolt ")).collect();
    assert_eq!(seconds.len(), 2, "{shown}");
    assert!(seconds.iter().all(|line| PROTOCOLS.iter().all(|name| line.contains(name))), "{shown}");
    let endpoints = shown.lines().filter(|line| line.starts_with("  127.0.0.1:") && !line.contains(" - "));
    assert_eq!(
        endpoints.count(),
        2 * PROTOCOLS.len(),
        "both endpoints of each protocol were called:\n{shown}"
    );
    assert!(shown.ends_with("Every answer was the right one.\n"), "{shown}");
}

#[test]
fn a_call_by_hand_works_as_printed_and_term_ends_all() {
    let temporary = TempDir::new();
    let mut demo = start(&[], temporary.path());
    let stdout = demo.inner().stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout).lines().map(|line| line.expect("output is UTF-8"));
    let mut line =
        |part: &str| lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part:?}"));

    let printf = line("printf ");
    let (printf, rest) = printf.split_once(" | nc -w 1 ").expect("a pipe into nc");
    let frame = Command::new("sh").args(["-c", printf.trim()]).output().expect("sh starts").stdout;
    let answer = by_hand(rest, &frame);
    assert!(answer.windows(6).any(|window| window == b"\x05hello"), "{:?}", String::from_utf8_lossy(&answer));

    let curl = line("curl -i -d hello http://");
    let url = curl.trim().trim_start_matches("curl -i -d hello http://").trim_end_matches("; echo");
    let (address, path) = url.split_once('/').expect("a path");
    assert_eq!(
        Some(address),
        rest.split(" | ").next().map(|place| place.replace(' ', ":")).as_deref(),
        "one port"
    );
    let post = format!("POST /{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 5\r\n\r\nhello");
    let answer = by_hand(&address.replace(':', " "), post.as_bytes());
    let answer = text(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(answer.contains("\r\nx-endpoint: 127.0.0.1:"), "{answer}");

    let curl = line("curl -i --http2-prior-knowledge -d hello http://");
    let path = curl.split_once(address).expect("the same port").1.trim_end_matches("; echo");
    let answer = by_hand(&address.replace(':', " "), &http2_post(path, b"hello"));
    assert!(answer.windows(9).any(|frame| frame[..4] == [0, 0, 5, 0] && frame[8] == 1), "{answer:?}");
    assert!(answer.ends_with(b"hello"), "{answer:?}");

    let echo = line("echo hello | nc");
    let answer = by_hand(echo.split_once(" -w 1 ").expect("a port").1, b"hello\n");
    assert!(text(&answer).starts_with("hello <- 127.0.0.1:"), "{answer:?}");

    let curl = line("curl http://");
    let address = curl.trim().trim_start_matches("curl http://").trim_end_matches("/stats");
    let (status, body) = http_get(address.parse().expect("an address"), "/stats").expect("an answer");
    assert!(status == 200 && body.contains("\"bolt\"") && body.contains("\"http1\""), "{body}");

    assert!(conf(temporary.path()).exists());
    demo.signal("TERM");
    assert_eq!(demo.wait(PATIENCE).and_then(|status| status.code()), Some(0));
    assert_eq!(std::fs::read_dir(temporary.path()).expect("it is there").count(), 0, "the conf file is gone");
}

/// All that a client says for one POST over HTTP/2 (RFC 9113 §3.4, §6).
fn http2_post(path: &str, body: &[u8]) -> Vec<u8> {
    // From the static table: POST, http; then path and authority as literals without indexing.
    let head = [&[0x83, 0x86, 0x04, path.len() as u8], path.as_bytes(), b"\x01\x01a"].concat();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let len = payload.len() as u8;
        [&[0, 0, len, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let frames = [frame(4, 0, 0, b""), frame(1, 4, 1, &head), frame(0, 1, 1, body)];
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frames.concat()[..]].concat()
}

/// What comes back for these bytes; `place` begins with host and port as nc takes them.
fn by_hand(place: &str, bytes: &[u8]) -> Vec<u8> {
    let mut words = place.split_whitespace();
    let address: SocketAddr = format!("{}:{}", words.next().expect("a host"), words.next().expect("a port"))
        .parse()
        .expect("an address");
    let mut stream = TcpStream::connect(address).expect("the port listens");
    stream.write_all(bytes).expect("it reads");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (mut answer, mut part) = (Vec::new(), vec![0; 4096]);
    loop {
        let read = stream.read(&mut part).expect("an answer");
        answer.extend_from_slice(&part[..read]);
        // What HTTP/2 says first is no answer.
        let whole = !bytes.starts_with(b"PRI") || answer.ends_with(b"hello");
        if whole || read == 0 {
            return answer;
        }
    }
}

fn conf(directory: &Path) -> PathBuf {
    let mut found = None;
    let there = within(PATIENCE, || {
        found = std::fs::read_dir(directory).expect("it is there").flatten().map(|entry| entry.path()).next();
        found.is_some()
    });
    assert!(there, "no conf file in {}", directory.display());
    found.expect("it was found")
}

#[test]
fn refused_calls_are_failures_and_so_is_the_run() {
    let temporary = TempDir::new();
    let mut demo = start(&["--json"], temporary.path());
    let conf = conf(temporary.path());
    // Its callers are at work by then, so that the first look at the file has happened.
    std::thread::sleep(Duration::from_secs(1));
    let written = std::fs::read_to_string(&conf).expect("it can be read");
    let limit = |conf: &str, name: &str| {
        let route = format!("to: {name}\n        timeout: 5s\n");
        assert_eq!(conf.matches(&route).count(), 1, "{conf}");
        conf.replace(&route, &format!("{route}        limit: {{ rate: 1/s }}\n"))
    };
    let limited = ["bolt", "http1", "grpc"].iter().fold(written, |conf, name| limit(&conf, name));
    let edited = temporary.path().join("edited");
    std::fs::write(&edited, limited)
        .and_then(|()| std::fs::rename(&edited, &conf))
        .expect("it can be replaced");
    std::thread::sleep(Duration::from_secs(3));
    demo.signal("INT");
    assert_eq!(demo.wait(PATIENCE).and_then(|status| status.code()), Some(1));
    let (mut out, mut err) = (String::new(), String::new());
    demo.inner().stdout.take().expect("piped").read_to_string(&mut out).expect("UTF-8");
    demo.inner().stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
    let value: Value = serde_json::from_str(&out).expect("one JSON value is all of the output");
    let failures = |name: &str| value["protocols"][name]["failures"].as_u64().expect("a number");
    assert!(["bolt", "http1", "grpc"].iter().all(|name| failures(name) > 100), "{value}");
    assert!(["dubbo", "tcp", "http2", "triple"].iter().all(|name| failures(name) == 0), "{value}");
    assert_eq!(value["failures"], failures("bolt") + failures("http1") + failures("grpc"));
    let told = ["bolt: status 4", "http1: status 429 outrigger: ", "grpc: status 8 outrigger: "]
        .iter()
        .any(|why| err.contains(why));
    assert!(told, "the reason of the last one is told: {err}");
}

#[test]
fn a_duration_without_unit_is_refused_with_advice() {
    let output = output(&["--for", "1"]);
    let complaint = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(complaint.contains("without a unit") && complaint.contains("write 1ms or 1s"), "{complaint}");
}
