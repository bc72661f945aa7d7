//! `echo`: serves one protocol on one address until it is ended; prints the address it took.
//!
//! Pin it with `taskset`. Must print nothing else on standard output: the driver reads the port from there.

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
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let listener = echo::listener(options.listen)?;
    writeln!(io::stdout(), "listening {}", listener.local_addr()?)?;
    echo::serve(&listener, options.protocol, None)
}
