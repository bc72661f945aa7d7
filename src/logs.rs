//! Log lines, to standard error, and the level at which they are written; changed while running.
//!
//! Nothing is logged for a call unless somebody asked for `debug`: counts are what tells how calls do.

use std::{
    io::IsTerminal,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Writes log lines from now on, at `info` and above, and counts panics. Only the first call does anything.
pub fn start() {
    let (filter, handle) = reload::Layer::new(usual());
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let _ = LEVEL.set(handle);
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            shown(panic);
        }));
    }
}

/// What is written unless somebody asks for more: of libraries, what is wrong.
fn usual() -> Targets {
    let usual = Targets::new().with_default(tracing::Level::INFO);
    let usual = usual.with_target("zookeeper_client", tracing::Level::WARN);
    // Every answer that is no success, and every try of a server that is away: what of it matters we say ourselves, once.
    usual.with_target("kube_client", LevelFilter::OFF)
}

/// Sets the level: `debug`, or by module: `info,outrigger::session=debug`. Fails on what cannot be read.
pub fn set(level: &str) -> Result<(), String> {
    let level = level.replace("%2C", ",").replace("%3D", "=").replace("%3A", ":");
    for part in level.split(',') {
        // A bare word that is no level would be taken for the name of a module, and silence all others.
        if !part.contains('=') && part.trim().parse::<LevelFilter>().is_err() {
            return Err(format!(
                "not a level: {part}; write trace, debug, info, warn, error, off, or MODULE=LEVEL\n"
            ));
        }
    }
    let targets: Targets = level.parse().map_err(|error| format!("not a level: {error}\n"))?;
    let Some(handle) = LEVEL.get() else { return Err("logs were not started\n".to_owned()) };
    handle.reload(targets).map_err(|error| format!("{error}\n"))
}

/// The wall clock, spelled as in log lines; for people alone.
pub fn now() -> String {
    let mut text = String::new();
    // Only what is written to can fail.
    let _ =
        fmt::time::FormatTime::format_time(&fmt::time::SystemTime, &mut fmt::format::Writer::new(&mut text));
    text
}

/// Panics since the start; each ended one connection.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}
