//! The plain relay, as its users see it: bytes pass unchanged both ways, ends pass too, and a slow reader holds no
//! memory of ours.

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use support::{Sidecar, free_port, within};

const PATIENCE: Duration = Duration::from_secs(10);

/// A sidecar that relays to `upstream`, by `protocol`.
fn relay(protocol: &str, upstream: u16) -> (Sidecar, u16) {
    let (admin, egress) = (free_port(), free_port());
    let conf = format!(
        "app: relay\nadmin: 127.0.0.1:{admin}\nworkers: 1\ndrain_timeout: 1s\nlisteners:\n  egress:\n    \
         bind: 127.0.0.1:{egress}\n    protocol: {protocol}\n    detect_timeout: 300ms\n    routes:\n      - to: up\n\
         clusters:\n  up: {{ endpoints: [\"127.0.0.1:{upstream}\"] }}\n"
    );
    (Sidecar::start(&conf), egress)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// A server that runs `serve` on each connection, until the test ends.
fn server(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Answers when everything was said: only an end that is passed on lets it.
fn answer_at_the_end(mut stream: TcpStream) {
    let mut all = Vec::new();
    if stream.read_to_end(&mut all).is_ok() {
        all.reverse();
        let _ = stream.write_all(&all);
    }
}

#[test]
fn bytes_and_their_end_pass_both_ways() {
    let (sidecar, port) = relay("tcp", server(answer_at_the_end));
    let said: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut caller = connect(port);
    let mut writing = caller.try_clone().expect("a clone");
    let copy = said.clone();
    let writer = std::thread::spawn(move || {
        writing.write_all(&copy).expect("everything is taken");
        writing.shutdown(Shutdown::Write).expect("an end");
    });
    let mut heard = Vec::new();
    caller.read_to_end(&mut heard).expect("an answer and its end");
    writer.join().expect("the writer");
    heard.reverse();
    assert!(heard == said, "{} bytes came back of {}", heard.len(), said.len());
    assert!(sidecar.admin_get("/stats").1.contains("\"tcp\": 1"), "{}", sidecar.admin_get("/stats").1);
}

#[test]
fn what_is_no_known_protocol_is_relayed_where_the_listener_says_so_also_when_the_server_speaks_first() {
    let greeting = server(|mut stream: TcpStream| {
        let _ = stream.write_all(b"hello\n");
        answer_at_the_end(stream);
    });
    let (_sidecar, port) = relay("[bolt, dubbo, tcp]", greeting);
    // Says nothing: after the time for detection it is nobody's, and the server's greeting comes through.
    let mut silent = connect(port);
    let mut heard = [0; 6];
    silent.read_exact(&mut heard).expect("the greeting");
    assert_eq!(&heard, b"hello\n");
    let mut caller = connect(port);
    caller.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("taken");
    caller.shutdown(Shutdown::Write).expect("an end");
    let mut heard = Vec::new();
    caller.read_to_end(&mut heard).expect("an answer");
    assert_eq!(heard, b"hello\n\n\r\n\r0.1/PTTH / TEG");
}

#[test]
fn an_endpoint_that_is_not_there_closes_the_caller_and_is_counted() {
    let (mut sidecar, port) = relay("tcp", free_port());
    let mut caller = connect(port);
    assert_eq!(caller.read(&mut [0; 1]).expect("an end"), 0);
    assert!(within(PATIENCE, || sidecar.admin_get("/stats").1.contains("\"unreachable\": 1")));
    sidecar.assert_running();
}

#[test]
fn a_slow_reader_holds_no_memory_of_ours() {
    // A server that sends as fast as it is read from.
    let flood = server(|mut stream: TcpStream| {
        let block = vec![7; 1 << 20];
        while stream.write_all(&block).is_ok() {}
    });
    let (sidecar, port) = relay("tcp", flood);
    let before = rss_kib(sidecar.pid());
    let callers: Vec<TcpStream> = (0..50).map(|_| connect(port)).collect();
    for mut caller in &callers {
        caller.read_exact(&mut [0; 1_000]).expect("the flood began");
    }
    std::thread::sleep(Duration::from_millis(500));
    let grown = rss_kib(sidecar.pid()).saturating_sub(before);
    // One read's worth each, both ways, at most.
    assert!(grown < 50 * 2 * 64 + 4_096, "grew by {grown} KiB");
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}
