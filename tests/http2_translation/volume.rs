//! Bodies far larger than any buffer, with a side that is slow, and many at once: they arrive unchanged and are not held.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::support::http1::{self, get, post};
use super::support::http2::{self, Client, Event, WINDOW, data, status, window};
use super::support::http2_upstream::Upstream;
use super::support::{Sidecar, within};
use super::{SILENCE, SOON, chunked, to_new, to_old};

const LEN: usize = 64 << 20;
/// What a body may cost, in KiB.
const GROWTH_MAX: u64 = 8 << 10;
/// What passes before nobody reads is noticed: sockets hold a few MiB each.
const AHEAD_MAX: u64 = 24 << 20;

/// The byte at each place.
fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(31).wrapping_add(at / 251)) as u8
}

fn body() -> Vec<u8> {
    (0..LEN).map(pattern).collect()
}

/// Bytes that come must be those of the pattern, in their order.
#[derive(Default)]
struct Check(usize);

impl Check {
    #[track_caller]
    fn more(&mut self, bytes: &[u8]) {
        let wrong = bytes.iter().enumerate().find(|(at, byte)| **byte != pattern(self.0 + at));
        assert!(wrong.is_none(), "other bytes near {}", self.0);
        self.0 += bytes.len();
    }
}

/// How much the sidecar has grown since.
struct Scale<'a>(&'a Sidecar, u64);

impl<'a> Scale<'a> {
    fn new(sidecar: &'a Sidecar) -> Self {
        Self(sidecar, sidecar.rss_kib())
    }

    #[track_caller]
    fn balanced(&self, what: &str) {
        let grown = self.0.rss_kib().saturating_sub(self.1);
        assert!(grown < GROWTH_MAX, "{what}: grew by {grown} KiB");
    }
}

#[test]
fn sixty_four_mebibytes_down_to_a_slow_reader_of_http1() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let whole = body();
    for length in [None, Some(LEN.to_string())] {
        let mut client = sidecar.http();
        client.well("first");
        let scale = Scale::new(&sidecar);
        client.send(get("/big"));
        let held = upstream.next();
        let head = length.iter().fold(status(200), |head, length| head.with("content-length", length));
        let mut check = Check::default();
        std::thread::scope(|scope| {
            let (head, whole) = (&head, &whole);
            let sender = scope.spawn(move || {
                held.begin(head);
                held.conn.body(held.stream, whole, true)
            });
            client.link.head().expect("a head").expect("a head");
            // Nobody reads: then nobody may send either.
            std::thread::sleep(Duration::from_millis(500));
            assert!(!sender.is_finished());
            scale.balanced("unread");
            if length.is_some() {
                let mut part = vec![0; 1 << 20];
                while check.0 < LEN {
                    client.link.reader().read_exact(&mut part).expect("more comes");
                    check.more(&part);
                    std::thread::sleep(Duration::from_millis(2));
                }
            } else {
                while let Some(chunk) = client.link.chunk().expect("a chunk") {
                    check.more(&chunk);
                }
                assert_eq!(client.link.fields().expect("no trailers"), []);
            }
            assert!(sender.join().expect("it is sent"));
        });
        assert_eq!(check.0, LEN);
        scale.balanced("read");
        client.well("behind");
    }
    sidecar.rests();
}

#[test]
fn sixty_four_mebibytes_up_to_a_slow_endpoint_of_http2() {
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "", "");
    let whole = body();
    upstream.stingy();
    for coded in [false, true] {
        let mut client = sidecar.http();
        client.well("first");
        let scale = Scale::new(&sidecar);
        client.send(if coded { chunked("/up", "") } else { post("/up", LEN, "") });
        let held = upstream.next();
        let written = AtomicU64::new(0);
        let writer = client.link.stream().try_clone().expect("a clone");
        let mut check = Check::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for part in whole.chunks(1 << 16) {
                    if coded {
                        write!(&writer, "{:x}\r\n", part.len()).expect("it is taken");
                    }
                    (&writer).write_all(part).expect("it is taken");
                    if coded {
                        (&writer).write_all(b"\r\n").expect("it is taken");
                    }
                    written.fetch_add(part.len() as u64, Ordering::Relaxed);
                }
                if coded {
                    (&writer).write_all(b"0\r\n\r\n").expect("it is taken");
                }
            });
            std::thread::sleep(Duration::from_millis(500));
            let taken = written.load(Ordering::Relaxed);
            assert!(taken < AHEAD_MAX, "{taken} bytes were taken for an endpoint that takes nothing");
            scale.balanced("not taken");
            loop {
                let (bytes, end) = match held.next() {
                    Event::Data { bytes, end, .. } => (bytes, end),
                    other => panic!("a body was due, but: {other:?}"),
                };
                check.more(&bytes);
                if end {
                    break;
                }
                // A little more now and then.
                let more = bytes.len() as u32;
                if more > 0 {
                    held.send(&[window(0, more), window(held.stream, more)]);
                }
            }
        });
        assert_eq!(check.0, LEN);
        scale.balanced("taken");
        held.send(&[window(0, 1 << 20)]);
        held.answer("all of it");
        client.next().is("all of it");
        client.well("behind");
    }
    sidecar.rests();
}

#[test]
fn sixty_four_mebibytes_down_to_a_slow_reader_of_http2() {
    let upstream = http1::Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let whole = body();
    for framing in ["length", "chunks", "close"] {
        let mut client = Client::connect_with(sidecar.port("main"), &[(WINDOW, 65_535)]);
        client.well("first");
        client.generous = false;
        let scale = Scale::new(&sidecar);
        let call = client.call(&http2::get("/big"));
        let mut held = upstream.next();
        let written = AtomicU64::new(0);
        let mut check = Check::default();
        std::thread::scope(|scope| {
            let (whole, written) = (&whole, &written);
            let sender = scope.spawn(move || {
                held.send("HTTP/1.1 200 OK\r\n");
                match framing {
                    "length" => held.send(format!("Content-Length: {LEN}\r\n\r\n")),
                    "chunks" => held.send("Transfer-Encoding: chunked\r\n\r\n"),
                    _ => held.send("Connection: close\r\n\r\n"),
                }
                held.link().patient();
                for part in whole.chunks(1 << 16) {
                    if framing == "chunks" {
                        held.send(format!("{:x}\r\n", part.len()));
                    }
                    held.send(part);
                    if framing == "chunks" {
                        held.send("\r\n");
                    }
                    written.fetch_add(part.len() as u64, Ordering::Relaxed);
                }
                match framing {
                    "length" => held.release(),
                    "chunks" => {
                        held.send("0\r\n\r\n");
                        held.release();
                    }
                    _ => held.fin(),
                }
            });
            client.came(call, 65_535);
            client.silent(Duration::from_millis(500));
            assert!(written.load(Ordering::Relaxed) < AHEAD_MAX, "{written:?}");
            scale.balanced("unread");
            // One that waits for its window stops no other.
            client.send(&[window(0, 1 << 16)]);
            client.well("beside");
            client.generous = true;
            client.send(&[window(0, 1 << 16), window(call, 1 << 16)]);
            loop {
                let answer = client.answers.get_mut(&call).expect("it began");
                check.more(&std::mem::take(&mut answer.body));
                assert_eq!(answer.reset, None);
                if answer.whole {
                    break;
                }
                client.step();
            }
            sender.join().expect("it is sent");
        });
        assert_eq!(check.0, LEN, "{framing}");
        scale.balanced("read");
        client.well("behind");
    }
    sidecar.rests();
}

#[test]
fn sixty_four_mebibytes_up_to_a_slow_endpoint_of_http1() {
    let upstream = http1::Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let whole = body();
    for said in [None, Some(LEN.to_string())] {
        let mut client = sidecar.http2();
        client.well("first");
        let scale = Scale::new(&sidecar);
        let fields = said.iter().fold(http2::post("/up"), |fields, said| fields.with("content-length", said));
        let call = client.open(&fields, false);
        let mut held = upstream.next();
        let mut check = Check::default();
        std::thread::scope(|scope| {
            let (sidecar, client, whole, said) = (&sidecar, &mut client, &whole, &said);
            let sender = scope.spawn(move || {
                client.upload(call, whole, true);
                client.answer(call).is("all of it");
            });
            // Nobody reads: another on the sidecar is served all the same.
            std::thread::sleep(Duration::from_millis(500));
            assert!(!sender.is_finished());
            sidecar.http2().well("beside");
            scale.balanced("not taken");
            held.link().patient();
            if said.is_some() {
                let mut part = vec![0; 1 << 20];
                while check.0 < LEN {
                    held.link().reader().read_exact(&mut part).expect("more comes");
                    check.more(&part);
                    std::thread::sleep(Duration::from_millis(2));
                }
            } else {
                while let Some(chunk) = held.link().chunk().expect("a chunk") {
                    check.more(&chunk);
                }
                assert_eq!(held.link().fields().expect("no trailers"), []);
            }
            held.answer("all of it");
            sender.join().expect("it was answered");
        });
        assert_eq!(check.0, LEN);
        scale.balanced("taken");
        client.well("behind");
    }
    sidecar.rests();
}

#[test]
fn both_ways_at_once_nothing_is_lost_and_little_is_held() {
    const MUCH: usize = 8 << 20;
    let upstream = http1::Upstream::start();
    let mut sidecar = to_old(&upstream, "", "");
    let whole: Vec<u8> = (0..MUCH).map(pattern).collect();
    let mut client = sidecar.http2();
    client.well("first");
    let scale = Scale::new(&sidecar);
    let call = client.open(&http2::post("/mirror"), false);
    let mut held = upstream.next();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            held.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while let Some(chunk) = held.link().chunk().expect("a chunk") {
                held.send(format!("{:x}\r\n", chunk.len()));
                held.send(&chunk);
                held.send("\r\n");
            }
            held.send("0\r\n\r\n");
            held.link().fields().expect("no trailers");
            held.release();
        });
        client.upload(call, &whole, true);
        let answer = client.answer(call);
        assert!(answer.whole && answer.body == whole, "{} bytes", answer.body.len());
    });
    scale.balanced("mirrored");
    drop(client);
    sidecar.rests();
}

#[test]
fn readers_of_http1_that_take_nothing_are_given_up_and_cost_little() {
    const READERS: usize = 50;
    let upstream = Upstream::start();
    let mut sidecar = to_new(&upstream, "    idle_timeout: 1s\n", "");
    sidecar.http().well("first");
    let before = sidecar.rss_kib();
    let whole = vec![b'x'; LEN / 4];
    let mut readers: Vec<http1::Client> = (0..READERS).map(|_| sidecar.http()).collect();
    for reader in &readers {
        reader.send(get("/big"));
    }
    let held: Vec<_> = readers.iter().map(|_| upstream.next()).collect();
    std::thread::scope(|scope| {
        let senders: Vec<_> = held
            .into_iter()
            .map(|held| {
                let whole = &whole;
                scope.spawn(move || {
                    held.begin(&status(200));
                    held.conn.body(held.stream, whole, true)
                })
            })
            .collect();
        std::thread::sleep(SILENCE);
        for at in 0..20 {
            sidecar.http().well(at);
        }
        let grown = sidecar.rss_kib().saturating_sub(before);
        assert!(grown < 16 << 10, "grew by {grown} KiB");
        assert!(senders.into_iter().all(|sender| !sender.join().expect("it ends")), "none was taken whole");
    });
    assert!(within(SOON, || upstream.streams() == 0), "{} are left", upstream.streams());
    for reader in &mut readers {
        let mut rest = Vec::new();
        let _ = reader.link.reader().read_to_end(&mut rest);
        assert!(rest.len() < LEN / 4 && !rest.ends_with(b"0\r\n\r\n"), "a clean end");
    }
    drop(readers);
    sidecar.rests();
}

#[test]
fn bodies_in_the_smallest_pieces_pass_whole() {
    const PIECES: usize = 2_000;
    let (new, old) = (Upstream::start(), http1::Upstream::start());
    let mut sidecar = to_new(&new, "", "");
    let mut client = sidecar.http();
    let chunks = "1\r\nx\r\n".repeat(PIECES);
    client.send(format!("{}{chunks}0\r\n\r\n", chunked("/up", "")));
    let held = new.next();
    assert_eq!(held.body(), Ok(("x".repeat(PIECES).into_bytes(), None)));
    held.begin(&status(200));
    // Smaller ones, so many of them, are a flood by HTTP/2.
    (0..PIECES).for_each(|_| held.send(&[data(held.stream, "a little", false)]));
    held.end("");
    client.next().is(&"a little".repeat(PIECES));
    drop(client);
    sidecar.rests();
    let mut sidecar = to_old(&old, "", "");
    let mut client = sidecar.http2();
    let call = client.open(&http2::post("/up"), false);
    (0..PIECES).for_each(|_| client.send(&[data(call, "a little", false)]));
    client.send(&[data(call, "", true)]);
    let mut held = old.next();
    assert_eq!(held.body().expect("it is whole").bytes, "a little".repeat(PIECES).into_bytes());
    held.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    held.send("1\r\ny\r\n".repeat(PIECES));
    held.send("0\r\n\r\n");
    client.answer(call).is(&"y".repeat(PIECES));
    held.release();
    drop(client);
    sidecar.rests();
}
