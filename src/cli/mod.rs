//! The command line: verbs, each in a function that ends in an exit status.
//!
//! Data goes to standard output, messages to standard error. Exit status: 0 well, 1 conf or usage, 2 the admin address
//! did not answer.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{conf::lower::Plan, control, demo, logs, worker::Clock};

pub mod bridge;
pub mod explain;
pub mod registry;

/// How long files may take that are being written when everything else has ended.
const LEAVING: Duration = Duration::from_millis(500);

/// A sidecar that carries all of an application's RPC calls.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, about, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar. Example: outrigger run -c conf/echo.yaml
    Run {
        /// The conf file.
        #[arg(short, long, value_name = "FILE")]
        conf: PathBuf,
    },
    /// Check a conf file: exit 0, or 1 and every mistake with its place. Example: outrigger check -c conf/echo.yaml
    Check {
        /// The conf file.
        #[arg(short, long, value_name = "FILE")]
        conf: PathBuf,
        /// How mistakes are written.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Say where a call would go, and why. Example: outrigger explain -c conf/echo.yaml --service com.example.Echo --method echo
    Explain(explain::Explain),
    /// Ask the registries of a conf. Example: outrigger registry ls -c conf/shop-zookeeper.yaml
    Registry(registry::Ask),
    /// Show what the bridges of a conf would write. Example: outrigger bridge -c conf/bridges.yaml --dry-run
    Bridge(bridge::Bridge),
    /// See it work: echo services, a sidecar in front, traffic through it. Example: outrigger demo --for 10s
    Demo(demo::Options),
    /// Print the JSON Schema of the conf, for editors. Example: outrigger schema > outrigger.schema.json
    Schema,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As a compiler would.
    Text,
    /// A JSON array of {file, line, column, message, help}.
    Json,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version were asked for; everything else is a mistake in usage.
            return if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Run { conf } => run(conf),
        Command::Check { conf, format } => check(&conf, format),
        Command::Explain(call) => finish(call.answer().map(|answer| print(&answer))),
        Command::Registry(ask) => finish(ask.run()),
        Command::Bridge(bridge) => finish(bridge.run()),
        Command::Demo(options) => match demo::run(&options) {
            Ok(0) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(1),
            Err(message) => finish(Err(message)),
        },
        Command::Schema => {
            print(&schema());
            ExitCode::SUCCESS
        }
    }
}

/// The JSON Schema of the conf, as it is kept beside the examples.
pub fn schema() -> String {
    let schema = schemars::schema_for!(crate::conf::file::Conf);
    format!("{:#}\n", schema.to_value())
}

fn run(conf: PathBuf) -> ExitCode {
    let clock = Clock::start();
    logs::start();
    let plan = match control::read(&conf) {
        Ok(plan) => plan,
        Err(mistakes) => return finish(Err(mistakes.to_string())),
    };
    finish(live(control::run(conf, plan, clock)))
}

/// Runs what a verb does. What the operating system still holds up on another thread then (a name that no DNS server answers for, a
/// file on a disk that hangs) is waited for until `LEAVING`, and ends with the process after that.
fn live<T>(what: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("error: cannot start: {error}"))?;
    let result = runtime.block_on(what);
    runtime.shutdown_timeout(LEAVING);
    result
}

fn check(conf: &std::path::Path, format: Format) -> ExitCode {
    match control::read(conf) {
        Ok(plan) => {
            if format == Format::Json {
                print("[]\n");
            } else {
                print(&format!("{}: well; {}\n", conf.display(), counted(&plan)));
            }
            ExitCode::SUCCESS
        }
        Err(control::Mistakes::In(report)) if format == Format::Json => {
            print(&format!("{:#}\n", report.to_json()));
            ExitCode::from(1)
        }
        Err(mistakes) => finish(Err(mistakes.to_string())),
    }
}

/// How much of what is in a plan; what an application may do without is told where it is.
fn counted(plan: &Plan) -> String {
    let routes = plan.listeners.iter().map(|listener| listener.routes.len()).sum();
    let always = [("listeners", plan.listeners.len()), ("routes", routes), ("clusters", plan.clusters.len())];
    let more = [
        ("registries", plan.registries.len()),
        ("registered services", plan.register.len()),
        ("bridges", plan.bridges.len()),
    ];
    let told = always.into_iter().chain(more.into_iter().filter(|(_, count)| *count > 0));
    told.map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(", ")
}

fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::from(1)
        }
    }
}

#[allow(clippy::print_stderr)] // messages of a command go to standard error as they are
fn complain(message: &str) {
    eprintln!("{}", message.trim_end());
}

fn print(text: &str) {
    use std::io::Write;
    // A reader that left early (`outrigger schema | head`) is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
