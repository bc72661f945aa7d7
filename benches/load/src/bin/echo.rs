//! `echo`: serves one protocol on one address, or on several ports, until it is ended; prints the addresses it took.
//!
//! Pin it with `taskset`. Must print nothing else on standard output: the driver reads the ports from there.

use clap::Parser;
use outrigger_load::{echo, wire::Protocol};
use std::io::{self, Write};
use std::net::SocketAddr;

/// Answers every call with its own argument.
#[derive(Parser)]
struct Options {
    /// What is spoken on the port
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// So many ports altogether; all but the first are free ones of the same host
    #[arg(long, default_value_t = 1)]
    ports: usize,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut listeners = vec![echo::listener(options.listen)?];
    while listeners.len() < options.ports {
        listeners.push(echo::listener(SocketAddr::new(options.listen.ip(), 0))?);
    }
    write!(io::stdout(), "listening")?;
    for listener in &listeners {
        write!(io::stdout(), " {}", listener.local_addr()?)?;
    }
    writeln!(io::stdout())?;
    echo::serve(&listeners, options.protocol, None)
}
