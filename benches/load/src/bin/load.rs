//! `load`: calls a target, checks every answer, and prints one JSON object.
//!
//! Pin it with `taskset`; it is one thread. Must never print anything but its result (and `held N` while it holds
//! idle connections) on standard output.

use clap::{Args, Parser, Subcommand};
use outrigger_load::client::{OUTSTANDING_MAX, Shared};
use outrigger_load::drive::{Pace, Plan, run};
use outrigger_load::wire::Protocol;
use outrigger_load::{report, special, stream};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Calls an address and checks every answer.
#[derive(Parser)]
struct Options {
    /// Protocol of the calls
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Address to call
    #[arg(long)]
    target: SocketAddr,
    /// Service that the calls name; with HTTP, in the path; one that fits the protocol where none is named
    #[arg(long)]
    service: Option<String>,
    /// Bytes in the string argument, or the body
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=60_000))]
    payload: u32,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A new call for every answer
    Closed {
        #[command(flatten)]
        span: Span,
        /// Calls open on each connection
        #[arg(long, default_value_t = 1)]
        outstanding: usize,
    },
    /// Calls at a fixed rate; latency counts from the scheduled instant
    Open {
        #[command(flatten)]
        span: Span,
        /// Calls a second over all connections
        #[arg(long, default_value_t = 2000.0)]
        rate: f64,
    },
    /// Holds idle connections until standard input ends
    Idle {
        /// How many
        #[arg(long, default_value_t = 2000)]
        connections: usize,
        /// Answered calls on each before it falls idle
        #[arg(long, default_value_t = 0)]
        calls: usize,
    },
    /// Takes one long streaming answer (gRPC)
    Stream {
        /// How long
        #[arg(long, default_value_t = 1 << 30)]
        bytes: u64,
        /// Processes whose CPU time is taken
        #[arg(long, value_delimiter = ',')]
        cpu_of: Vec<u32>,
    },
    /// Starts a program and measures the time to the first answer through it
    FirstAnswer {
        /// Core for the program
        #[arg(long, default_value_t = 0)]
        core: usize,
        /// Core for the caller
        #[arg(long, default_value_t = 1)]
        own_core: usize,
        /// Program and arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Args)]
struct Span {
    /// Connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Seconds before anything is counted
    #[arg(long, default_value_t = 0.3)]
    warmup: f64,
    /// Seconds that are counted
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Processes whose CPU time is taken
    #[arg(long, value_delimiter = ',')]
    cpu_of: Vec<u32>,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let (protocol, target) = (options.protocol, options.target);
    let service = options.service.as_deref().unwrap_or(protocol.service());
    let mut shared = Shared::new(protocol, service, options.payload as usize);
    let result = match options.what {
        What::Closed { span, outstanding } => {
            let pace = Pace::Closed(outstanding.clamp(1, OUTSTANDING_MAX));
            report::json(&run(&span.plan(target, pace)?, shared)?)
        }
        What::Open { span, rate } => {
            let pace = Pace::Open(rate.clamp(1.0, 1e6));
            report::json(&run(&span.plan(target, pace)?, shared)?)
        }
        What::Idle { connections, calls } => special::idle(target, connections, calls, &mut shared)?,
        What::Stream { bytes, cpu_of } => stream::run(target, service, bytes, &cpu_of)?,
        What::FirstAnswer { core, own_core, command } => {
            special::first_answer(target, &command, core, own_core, &mut shared)?
        }
    };
    writeln!(io::stdout(), "{result}")
}

impl Span {
    fn plan(self, target: SocketAddr, pace: Pace) -> io::Result<Plan> {
        let seconds = |value: f64| Duration::try_from_secs_f64(value).map_err(io::Error::other);
        let (warmup, duration) = (seconds(self.warmup)?, seconds(self.seconds)?);
        let connections = self.connections.max(1);
        Ok(Plan { target, connections, pace, warmup, duration, cpu_of: self.cpu_of })
    }
}
