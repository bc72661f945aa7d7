//! `outrigger registry`: what the registries of a conf know, asked directly; no sidecar need run.
//!
//! Reads only. It must never register anything, nor end without an answer: who cannot be asked is said so, in time.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use outrigger_discovery::{Board, Framework, Instance, Registry, ServiceKey, View};
use serde_json::json;

use super::{Format, live, print};
use crate::{conf::lower::Plan, control, plugins};

/// Ask the registries of a conf. Example: outrigger registry ls -c conf/shop-zookeeper.yaml
#[derive(Debug, Args)]
pub struct Ask {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the services that are known. Example: outrigger registry ls -c FILE --framework sofarpc
    Ls {
        #[command(flatten)]
        whom: Whom,
    },
    /// Show who gives a service. Example: outrigger registry get com.example.EchoService -c FILE
    Get {
        #[command(flatten)]
        what: What,
    },
    /// Show it now and at every change, until interrupted. Example: outrigger registry watch com.example.EchoService -c FILE
    Watch {
        #[command(flatten)]
        what: What,
    },
}

#[derive(Debug, Args)]
struct Whom {
    /// The conf file.
    #[arg(short, long, value_name = "FILE")]
    conf: PathBuf,
    /// Only this registry of the conf.
    #[arg(long, value_name = "NAME")]
    registry: Option<String>,
    /// Whose services.
    #[arg(long, value_enum)]
    framework: Option<Of>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Seconds that a registry may take to answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

#[derive(Debug, Args)]
struct What {
    /// The service: an interface, or an application of Spring Cloud.
    service: String,
    #[command(flatten)]
    whom: Whom,
    /// Only this version.
    #[arg(long)]
    version: Option<String>,
    /// Only this group.
    #[arg(long)]
    group: Option<String>,
    /// Only instances that speak this: dubbo, tri, bolt, http.
    #[arg(long)]
    protocol: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    /// Dubbo.
    Dubbo,
    /// SOFARPC.
    Sofarpc,
    /// Spring Cloud.
    Spring,
    /// None.
    Plain,
}

impl Of {
    const fn get(self) -> Framework {
        match self {
            Self::Dubbo => Framework::Dubbo,
            Self::Sofarpc => Framework::Sofarpc,
            Self::Spring => Framework::Spring,
            Self::Plain => Framework::Plain,
        }
    }
}

impl Ask {
    /// Asks, and prints what is answered. An error for a person where a registry could not be asked.
    pub fn run(self) -> Result<(), String> {
        live(async {
            match self.verb {
                Verb::Ls { whom } => list(&whom).await,
                Verb::Get { what } => get(&what).await,
                Verb::Watch { what } => watch(&what).await,
            }
        })
    }
}

/// A registry and its name.
type Named = (String, Arc<dyn Registry>);

/// The registries that are meant.
fn meant(whom: &Whom) -> Result<Vec<Named>, String> {
    let plan: Plan = control::read(Path::new(&whom.conf)).map_err(|mistakes| mistakes.to_string())?;
    if let Some(name) = whom.registry.as_ref().filter(|name| !plan.registries.contains_key(*name)) {
        let known: Vec<&str> = plan.registries.keys().map(String::as_str).collect();
        return Err(format!("error: no registry is called `{name}` in {}: {known:?}", whom.conf.display()));
    }
    let one = |name: &str| whom.registry.as_ref().is_none_or(|only| only == name);
    let plans = plan.registries.iter().filter(|(name, _)| one(name));
    let all: Vec<_> =
        plans.filter_map(|(name, plan)| Some((name.clone(), plugins::registry(plan)?))).collect();
    if all.is_empty() {
        return Err(format!("error: {} names no registry", whom.conf.display()));
    }
    Ok(all)
}

async fn list(whom: &Whom) -> Result<(), String> {
    let limit = Duration::from_secs(whom.timeout.max(1));
    let frameworks = whom.framework.map_or(Framework::ALL.to_vec(), |of| vec![of.get()]);
    let (mut text, mut rows, mut failed) = (String::new(), Vec::new(), Vec::new());
    for (name, registry) in meant(whom)? {
        // A file knows nothing of frameworks.
        let frameworks = if registry.name() == "file" { &frameworks[..1] } else { &frameworks[..] };
        for framework in frameworks {
            let answer = tokio::time::timeout(limit, registry.services(*framework)).await;
            match answer.unwrap_or_else(|_| Err(format!("no answer within {limit:?}"))) {
                Ok(mut services) => {
                    services.sort_unstable();
                    services.dedup();
                    for service in services {
                        let _ = writeln!(text, "{name}\t{framework}\t{service}");
                        rows.push(
                            json!({ "registry": name, "framework": framework.name(), "service": service }),
                        );
                    }
                }
                Err(why) => {
                    failed.push(format!("error: registry {name} cannot be asked: {why}"));
                    break;
                }
            }
        }
        let _ = tokio::time::timeout(limit, registry.close()).await;
    }
    print(&if whom.format == Format::Json { format!("{:#}\n", json!(rows)) } else { text });
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

impl What {
    fn key(&self) -> ServiceKey {
        let framework = self.whom.framework.map_or(Framework::default(), Of::get);
        ServiceKey {
            service: self.service.clone(),
            group: self.group.clone(),
            version: self.version.clone(),
            framework,
            protocol: self.protocol.clone(),
        }
    }
}

async fn get(what: &What) -> Result<(), String> {
    let limit = Duration::from_secs(what.whom.timeout.max(1));
    let (mut text, mut rows, mut failed) = (String::new(), Vec::new(), Vec::new());
    for (name, registry) in meant(&what.whom)? {
        let mut board = Board::default();
        let (number, teller) = board.open();
        let task = tokio::spawn(registry.watch(what.key(), teller));
        let known = async {
            loop {
                board.news().await;
                let view = board.view(number).unwrap_or_default();
                if view.instances.is_some() {
                    return view;
                }
            }
        };
        match tokio::time::timeout(limit, known).await {
            Ok(view) => {
                for instance in view.instances.iter().flat_map(|all| all.iter()) {
                    let _ = writeln!(text, "{name}\t{}", line(instance));
                    rows.push(shown(&name, instance));
                }
            }
            Err(_) => {
                let why = board.view(number).and_then(|view| view.lost);
                let why = why.map_or_else(|| format!("no answer within {limit:?}"), |why| why.to_string());
                failed.push(format!("error: registry {name} cannot be asked: {why}"));
            }
        }
        task.abort();
        let _ = tokio::time::timeout(limit, registry.close()).await;
    }
    print(&if what.whom.format == Format::Json { format!("{:#}\n", json!(rows)) } else { text });
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

async fn watch(what: &What) -> Result<(), String> {
    let mut board = Board::default();
    let mut names = std::collections::BTreeMap::new();
    for (name, registry) in meant(&what.whom)? {
        let (number, teller) = board.open();
        tokio::spawn(registry.watch(what.key(), teller));
        names.insert(number, (name, View::default()));
    }
    loop {
        for number in board.news().await {
            let (Some((name, last)), Some(view)) = (names.get_mut(&number), board.view(number)) else {
                continue;
            };
            print(&difference(name, last, &view, what.whom.format));
            *last = view;
        }
    }
}

/// What is different, a line each.
fn difference(name: &str, last: &View, view: &View, format: Format) -> String {
    let mut out = String::new();
    let mut say = |sign: &str, text: &str, value: serde_json::Value| {
        let _ = if format == Format::Json {
            writeln!(out, "{}", json!({ "registry": name, "event": sign, "instance": value }))
        } else {
            writeln!(out, "{name}\t{sign}\t{text}")
        };
    };
    if view.lost != last.lost {
        match &view.lost {
            Some(why) => say("lost", why, json!(&**why)),
            None => say("back", "", serde_json::Value::Null),
        }
    }
    let empty: Arc<[Instance]> = Arc::from([]);
    let (before, now) =
        (last.instances.as_ref().unwrap_or(&empty), view.instances.as_ref().unwrap_or(&empty));
    if last.instances.is_none() && view.instances.is_some() && now.is_empty() {
        say("none", "", serde_json::Value::Null);
    }
    for instance in now.iter() {
        match before.iter().find(|other| other.address == instance.address) {
            Some(other) if other.same(instance) => {}
            Some(_) => say("changed", &line(instance), shown(name, instance)),
            None => say("joined", &line(instance), shown(name, instance)),
        }
    }
    for gone in before.iter().filter(|other| now.iter().all(|one| one.address != other.address)) {
        say("left", &gone.address, shown(name, gone));
    }
    out
}

/// An instance in one line.
fn line(instance: &Instance) -> String {
    let mut out = format!("{}\tweight={}", instance.address, instance.weight);
    for (name, value) in
        [("protocol", &instance.protocol), ("version", &instance.version), ("group", &instance.group)]
    {
        if let Some(value) = value {
            let _ = write!(out, " {name}={value}");
        }
    }
    for (name, value) in &*instance.metadata {
        let _ = write!(out, " {name}={value}");
    }
    // One line it stays, whatever somebody wrote into a registry.
    out.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

fn shown(registry: &str, instance: &Instance) -> serde_json::Value {
    json!({
        "registry": registry,
        "address": instance.address,
        "weight": instance.weight,
        "protocol": instance.protocol,
        "version": instance.version,
        "group": instance.group,
        "started": instance.started,
        "metadata": *instance.metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(addresses: &[&str]) -> View {
        let instances = addresses.iter().map(|address| Instance::new(*address)).collect();
        View { instances: Some(instances), ..View::default() }
    }

    #[test]
    fn a_change_is_told_by_its_difference() {
        let told = |last: &View, now: &View| difference("zk", last, now, Format::Text);
        assert_eq!(told(&View::default(), &view(&[])), "zk\tnone\t\n");
        assert_eq!(
            told(&view(&["a:1", "b:1"]), &view(&["b:1", "c:1"])),
            "zk\tjoined\tc:1\tweight=100\nzk\tleft\ta:1\n"
        );
        assert_eq!(told(&view(&["a:1"]), &view(&["a:1"])), "");
        let lost = View { lost: Some("gone".into()), ..view(&["a:1"]) };
        assert_eq!(told(&view(&["a:1"]), &lost), "zk\tlost\tgone\n");
        assert_eq!(told(&lost, &view(&["a:1"])), "zk\tback\t\n");
        let json = difference("zk", &View::default(), &view(&["a:1"]), Format::Json);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["event"], "joined");
    }

    #[test]
    fn an_instance_is_one_line_whatever_it_says() {
        let metadata =
            std::collections::BTreeMap::from([("a".to_owned(), "x\ny\u{1b}[2J".to_owned())]).into();
        let shown = line(&Instance { metadata, ..Instance::new("a:1") });
        assert_eq!(shown, "a:1\tweight=100 a=x y [2J");
    }
}
