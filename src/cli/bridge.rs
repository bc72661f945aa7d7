//! `outrigger bridge --dry-run`: what the bridges of a conf would write, what not and why, asked directly; no sidecar need run.
//!
//! Reads only. What it says is decided by the same hand that carries (`control::bridge::carry`).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use outrigger_discovery::{Board, Instance, Registration, Registry, ServiceKey};
use serde_json::json;

use super::{Format, live, print};
use crate::{
    conf::lower::{BridgePlan, Plan},
    control::{
        self,
        bridge::{
            carry::{self, Carry, Not},
            carry_of,
        },
    },
    plugins,
};

/// Show what the bridges of a conf would write. Example: outrigger bridge -c conf/bridges.yaml --dry-run
#[derive(Debug, Args)]
pub struct Bridge {
    /// The conf file.
    #[arg(short, long, value_name = "FILE")]
    conf: PathBuf,
    /// Write nothing, only tell. Bridges are run by the sidecar: `outrigger run`.
    #[arg(long, required = true)]
    dry_run: bool,
    /// Only this bridge of the conf.
    #[arg(long = "bridge", value_name = "NAME")]
    only: Option<String>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Seconds that a registry may take to answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

/// What would become of one entry.
struct Row {
    verdict: &'static str,
    service: String,
    address: String,
    text: String,
}

impl Bridge {
    /// Asks, and prints what would be done. An error for a person where a registry could not be asked.
    pub fn run(self) -> Result<(), String> {
        debug_assert!(self.dry_run, "there is no other way to call it");
        let plan = control::read(Path::new(&self.conf)).map_err(|mistakes| mistakes.to_string())?;
        let meant = |bridge: &&BridgePlan| self.only.as_ref().is_none_or(|only| *only == bridge.name);
        let bridges: Vec<&BridgePlan> = plan.bridges.iter().filter(meant).collect();
        if bridges.is_empty() {
            return Err(match &self.only {
                Some(name) => format!("error: no bridge is called `{name}` in {}", self.conf.display()),
                None => format!("error: {} has no bridges", self.conf.display()),
            });
        }
        let limit = Duration::from_secs(self.timeout.max(1));
        let found = live(async {
            let mut found = Vec::new();
            for bridge in bridges {
                found.push((bridge, rows(&plan, bridge, limit).await?));
            }
            Ok(found)
        })?;
        let (mut text, mut all) = (String::new(), Vec::new());
        for (bridge, rows) in found {
            let _ = writeln!(text, "# {}: {} to {}", bridge.name, bridge.from, bridge.to);
            for row in &rows {
                let line = format!("{}\t{}\t{}\t{}", row.verdict, row.service, row.address, row.text);
                // One line it stays, whatever somebody wrote into a registry.
                text.extend(line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }));
                text.push('\n');
            }
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for row in &rows {
                *counts.entry(row.verdict).or_default() += 1;
            }
            let counts: Vec<String> =
                counts.iter().map(|(verdict, count)| format!("{verdict}: {count}")).collect();
            let _ = writeln!(
                text,
                "# {}",
                if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
            );
            all.extend(rows.iter().map(|row| {
                json!({ "bridge": bridge.name, "verdict": row.verdict, "service": row.service, "address": row.address,
                        "text": row.text })
            }));
        }
        print(&if self.format == Format::Json { format!("{:#}\n", json!(all)) } else { text });
        Ok(())
    }
}

/// Everything that a bridge finds, and what would become of it.
async fn rows(plan: &Plan, bridge: &BridgePlan, limit: Duration) -> Result<Vec<Row>, String> {
    let open = |name: &str| {
        let registry = plan.registries.get(name).and_then(plugins::registry);
        registry.ok_or_else(|| format!("error: registry {name} is of a kind that this build has not"))
    };
    let (source, target) = (open(&bridge.from)?, open(&bridge.to)?);
    let carry = carry_of(plan, bridge).ok_or("error: the bridge leads nowhere")?;
    let failed = |name: &str, why: String| format!("error: registry {name} cannot be asked: {why}");
    let names = tokio::time::timeout(limit, source.services(bridge.framework)).await;
    let names = names.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
    let mut names = names.map_err(|why| failed(&bridge.from, why))?;
    names.retain(|name| bridge.services.matches(Some(name.as_bytes())));
    names.sort_unstable();
    names.dedup();
    let key = |name: &str, framework| ServiceKey { framework, ..ServiceKey::new(name) };
    let here: Vec<ServiceKey> = names
        .iter()
        .map(|name| ServiceKey { protocol: bridge.protocol.clone(), ..key(name, bridge.framework) })
        .collect();
    let there = names.iter().map(|name| key(carry.name(name), bridge.written_as)).collect();
    let here = known(&source, here, limit).await.map_err(|why| failed(&bridge.from, why))?;
    let there = known(&target, there, limit).await.map_err(|why| failed(&bridge.to, why))?;
    let mut rows = Vec::new();
    for ((name, here), there) in names.iter().zip(&here).zip(&there) {
        of_service(&carry, &*target, name, (here, there), &mut rows);
    }
    for registry in [source, target] {
        let _ = tokio::time::timeout(limit, registry.close()).await;
    }
    Ok(rows)
}

fn of_service(
    carry: &Carry,
    target: &dyn Registry,
    service: &str,
    (here, there): (&[Instance], &[Instance]),
    rows: &mut Vec<Row>,
) {
    let mut row = |verdict, address: &str, text: String| {
        rows.push(Row { verdict, service: service.to_owned(), address: address.to_owned(), text });
    };
    let mut kept: Vec<Registration> = Vec::new();
    for instance in here {
        let registration = match carry.registration(service, instance) {
            Ok(registration) => registration,
            Err(why @ (Not::Copy | Not::Off)) => {
                let is = if why == Not::Copy { "it is a copy by a bridge" } else { "its weight is 0" };
                row("skip", &instance.address, is.to_owned());
                continue;
            }
        };
        let same = |there: &&Instance| carry::is_same(there, &registration);
        let in_the_way = there.iter().filter(same).any(|there| carry.is_in_the_way(there));
        if let Some(why) = target.refuses(&registration) {
            row("cannot", &instance.address, why);
        } else if in_the_way {
            row("skip", &instance.address, "it stands there by itself".to_owned());
        } else {
            let stands = there.iter().filter(same).any(|there| carry.is_own(there));
            row(if stands { "stands" } else { "write" }, &instance.address, words(&registration));
            kept.push(registration);
        }
    }
    for gone in there.iter().filter(|there| carry.is_own(there)) {
        if !kept.iter().any(|registration| carry::is_same(gone, registration)) {
            row("remove", &gone.address, "it is found no more".to_owned());
        }
    }
}

/// A registration in words.
fn words(r: &Registration) -> String {
    let mut out = format!("as {} {} of {} by {}", r.framework, r.service, r.app, r.protocol);
    for (name, value) in [("version", &r.version), ("group", &r.group)] {
        if let Some(value) = value {
            let _ = write!(out, " {name}={value}");
        }
    }
    let _ = write!(out, " weight={}", r.weight);
    out
}

/// Who gives each of these, in their order, once all is known.
async fn known(
    registry: &Arc<dyn Registry>,
    keys: Vec<ServiceKey>,
    limit: Duration,
) -> Result<Vec<Arc<[Instance]>>, String> {
    let mut board = Board::default();
    let mut tasks = Vec::new();
    for key in keys {
        let (number, teller) = board.open_whole();
        tasks.push((number, tokio::spawn(registry.watch(key, teller))));
    }
    let mut told = vec![None; tasks.len()];
    let mut lost = None;
    let all = async {
        while told.iter().any(Option::is_none) {
            for number in board.news().await {
                let at = tasks.iter().position(|(of, _)| *of == number);
                let (Some(at), Some(view)) = (at, board.view(number)) else { continue };
                lost = view.lost.or(lost.take());
                if let Some(told) = told.get_mut(at) {
                    *told = view.instances.or(told.take());
                }
            }
        }
    };
    let in_time = tokio::time::timeout(limit, all).await.is_ok();
    for (_, task) in &tasks {
        task.abort();
    }
    if in_time {
        return Ok(told.into_iter().flatten().collect());
    }
    Err(lost.map_or_else(|| format!("not all was told within {limit:?}"), |why| why.to_string()))
}
