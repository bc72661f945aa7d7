//! An HTTP server that says one word, on a port of every host here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// What it answers.
pub(crate) const WORD: &str = "rated";

/// Listens until the process ends; the port.
pub(crate) fn start() -> u16 {
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, super::support::free_port())).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || serve(&stream));
        }
    });
    port
}

fn serve(mut stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines();
    while lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).count() > 0 {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{WORD}", WORD.len());
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}
