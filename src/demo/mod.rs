//! `outrigger demo`: the sidecar at work, with nothing to install.
//!
//! Echo services for every protocol, one real sidecar in front of them, callers that check every answer, and a view of
//! what they see. Everything is on loopback and ends with the process. With `--json` nothing but one JSON object is
//! ever on standard output.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use serde_json::{Map, json};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{conf::units, logs};

mod bolt;
mod dubbo;
mod grpc;
mod hessian;
mod http1;
mod sidecar;
mod speech;
mod streams;
mod traffic;
mod view;

use sidecar::Sidecar;
use speech::SPEECHES;
use traffic::Board;
use view::View;

/// What may be said to `outrigger demo`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// End after this time, as in 10s; otherwise at Ctrl-C.
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<units::Duration>,
    /// No view: one JSON object at the end.
    #[arg(long)]
    json: bool,
}

/// Echo services by protocol: two, so that balancing can be seen.
const ENDPOINTS: usize = 2;

/// Runs the demo; how many calls failed.
pub fn run(options: &Options) -> Result<u64, String> {
    logs::start();
    // Log lines would tear the live view, which tells of a failed reload itself.
    let live = !options.json && view::is_live();
    logs::set(if live { "off" } else { "warn" })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| cannot(&error))?;
    runtime.block_on(show(options, live))
}

async fn show(options: &Options, live: bool) -> Result<u64, String> {
    let mut signals = Signals::new().map_err(|error| cannot(&error))?;
    let mut endpoints = Vec::new();
    for speech in SPEECHES {
        let mut addresses = Vec::new();
        for _ in 0..ENDPOINTS {
            addresses.push(traffic::serve(speech).await.map_err(|error| cannot(&error))?);
        }
        endpoints.push(addresses);
    }
    let mut sidecar = Sidecar::start(&endpoints).await?;
    let board = Rc::new(RefCell::new(Board::default()));
    let (stop, stopped) = watch::channel(false);
    let mut callers = Vec::new();
    for (at, speech) in SPEECHES.iter().enumerate() {
        let places = sidecar.places;
        let address = if speech.called.is_empty() { places.relay } else { places.calls };
        callers.extend(traffic::call(at, address, &board, &stopped));
    }
    let mut view =
        (!options.json).then(|| View::open(live, &sidecar)).transpose().map_err(|error| cannot(&error))?;
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    looks.tick().await;
    // Far enough to be never.
    let length = options.length.map_or(Duration::from_secs(u64::from(u32::MAX)), units::Duration::get);
    let mut over = std::pin::pin!(tokio::time::sleep(length));
    loop {
        tokio::select! {
            () = &mut over => break,
            () = signals.next() => break,
            why = sidecar.ended() => return Err(why),
            _ = looks.tick() => if let Some(view) = &mut view {
                let facts = sidecar.facts().await;
                // Whoever read our output left.
                if view.draw(&mut board.borrow_mut(), facts.as_ref()).is_err() {
                    break;
                }
            }
        }
    }
    let _ = stop.send(true);
    let calm = async {
        for caller in callers {
            let _ = caller.await;
        }
        sidecar.drain().await
    };
    // Whoever asks twice does not want to wait.
    let ended = tokio::select! {
        ended = calm => ended,
        () = signals.next() => Ok(()),
    };
    let board = board.borrow();
    let told = match view {
        // Whoever looked may have left; that is no failure.
        Some(view) => view.close(&board).or(Ok(())),
        None => view::print(&format!("{}\n", summary(&board))),
    };
    if let Some(why) = board.why.as_ref().filter(|_| options.json) {
        tracing::warn!("calls failed; the last one: {why}");
    }
    ended.and(told.map_err(|error| cannot(&error))).map(|()| board.failures())
}

fn summary(board: &Board) -> serde_json::Value {
    let rows = SPEECHES.iter().zip(&board.rows).map(|(speech, row)| {
        let count = &row.all.total;
        let us = |share| count.latency.quantile(share).as_micros() as u64;
        let value = json!({
            "calls": count.calls, "failures": count.failures, "p50_us": us(0.5), "p99_us": us(0.99),
        });
        (speech.name.to_owned(), value)
    });
    json!({ "failures": board.failures(), "protocols": rows.collect::<Map<_, _>>() })
}

fn cannot(error: &io::Error) -> String {
    format!("error: the demo cannot run: {error}")
}

/// The signals that end the demo.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        let [int, term, hup] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([signal(int)?, signal(term)?, signal(hup)?]))
    }

    async fn next(&mut self) {
        let [int, term, hup] = &mut self.0;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    }
}
