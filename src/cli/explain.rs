//! `outrigger explain`: where a call would go by a conf file, and on what each route that was passed over failed.
//!
//! Uses the same tables as the running sidecar; it opens no socket.

use std::{fmt::Write, path::PathBuf};

use outrigger_codec::{Change, Field, Head, HeadIndex, Redirect, Response, Slot, Span, change::NewPath};
use outrigger_core::{Division, Lot, Outlier, Route};

use crate::{
    conf::lower::{ClusterPlan, DemandPlan, ListenerPlan, Plan, Source, plain},
    control,
};

/// Routes that were passed over and are shown.
const PASSED_MAX: usize = 20;

/// A call, as it would look to the routes.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The conf file.
    #[arg(short, long, value_name = "FILE")]
    conf: PathBuf,
    /// The service: an interface, or `interface:version` as Bolt spells it.
    #[arg(long)]
    service: Option<String>,
    /// The method.
    #[arg(long)]
    method: Option<String>,
    /// The service version.
    #[arg(long)]
    version: Option<String>,
    /// The service group.
    #[arg(long)]
    group: Option<String>,
    /// The authority (HTTP): `host` or `host:port`.
    #[arg(long)]
    authority: Option<String>,
    /// The path (HTTP); behind a `?` the query.
    #[arg(long)]
    path: Option<String>,
    /// A header: `name=value`; may be given more than once.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Only this listener.
    #[arg(long)]
    listener: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Explain {
    /// What the conf does with the call, in words.
    pub fn answer(&self) -> Result<String, String> {
        let plan = control::read(&self.conf).map_err(|mistakes| mistakes.to_string())?;
        let mut answer = String::new();
        let wanted =
            |listener: &&ListenerPlan| self.listener.as_ref().is_none_or(|name| *name == listener.name);
        let listeners: Vec<&ListenerPlan> = plan.listeners.iter().filter(wanted).collect();
        if listeners.is_empty() {
            let names: Vec<&str> = plan.listeners.iter().map(|listener| listener.name.as_str()).collect();
            return Err(format!("error: no such listener; there are: {}", names.join(", ")));
        }
        let (bytes, index) = self.head();
        for listener in listeners {
            explain(&plan, listener, Head { bytes: &bytes, index: &index }, &mut answer);
        }
        Ok(answer)
    }

    /// The call as a head: everything spelled into one buffer.
    fn head(&self) -> (Vec<u8>, HeadIndex) {
        let (mut bytes, mut index) = (Vec::new(), HeadIndex::default());
        let mut put = |text: &str| {
            let span = Span::new(bytes.len(), text.len());
            bytes.extend_from_slice(text.as_bytes());
            span
        };
        if let Some(service) = &self.service {
            let (interface, version) =
                service.split_once(':').map_or((&**service, None), |(i, v)| (i, Some(v)));
            index.set(Slot::Service, put(interface));
            index.set(Slot::ServiceKey, put(service));
            if let Some(version) = version {
                index.set(Slot::Version, put(version));
            }
        }
        let slots =
            [(Slot::Method, &self.method), (Slot::Version, &self.version), (Slot::Group, &self.group)];
        for (slot, text) in slots {
            if let Some(text) = text {
                index.set(slot, put(text));
            }
        }
        if let Some(authority) = &self.authority {
            let authority = authority.to_ascii_lowercase();
            index.set(Slot::Authority, put(&authority));
            index.set(Slot::Host, put(host(&authority)));
        }
        if let Some(target) = &self.path {
            let (path, query) =
                target.split_once('?').map_or((&**target, None), |(path, query)| (path, Some(query)));
            index.set(Slot::Path, put(&plain(path)));
            if let Some(query) = query {
                index.set(Slot::Query, put(query));
            }
        }
        // Only HTTP has these two, and there the names of headers are the same in any case.
        index.caseless = self.authority.is_some() || self.path.is_some();
        for (name, value) in &self.headers {
            index.fields.push(Field { name: put(name), value: put(value) });
        }
        (bytes, index)
    }
}

/// An authority without its port.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons of a bare `[::1]` are no port's.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn explain(plan: &Plan, listener: &ListenerPlan, head: Head<'_>, out: &mut String) {
    let speaks = listener.speaks.names().join(", ");
    let _ = writeln!(out, "listener {} on {} ({speaks})", listener.name, listener.bind);
    let mut passed = 0;
    for (at, route) in listener.routes.iter().enumerate() {
        match route.matches.fails_on(head) {
            Some(part) => {
                let part = String::from_utf8_lossy(part);
                passed += 1;
                if passed <= PASSED_MAX {
                    let _ = writeln!(
                        out,
                        "  route {} ({}): passed over, {part} does not match",
                        at + 1,
                        route.name
                    );
                }
            }
            None => {
                if passed > PASSED_MAX {
                    let _ = writeln!(out, "  … and {} more passed over", passed - PASSED_MAX);
                }
                let _ = writeln!(out, "  route {} ({}): matches", at + 1, route.name);
                return chosen(plan, route, out);
            }
        }
    }
    if passed > PASSED_MAX {
        let _ = writeln!(out, "  … and {} more passed over", passed - PASSED_MAX);
    }
    let _ = writeln!(out, "  no route matches: the call is refused (Bolt 0x06, Dubbo 60, HTTP 404, gRPC 12)");
}

fn chosen(plan: &Plan, route: &Route, out: &mut String) {
    if let Some(response) = &route.response {
        return answered(response, route, out);
    }
    match &route.timeout {
        Some(timeout) => writeln!(out, "    timeout: {timeout:?}, or the caller's own when that is smaller"),
        None => writeln!(out, "    timeout: the caller's own"),
    }
    .unwrap_or_default();
    if let Some(limit) = &route.limit {
        let _ = writeln!(out, "    limit: {limit}");
    }
    if let Some(retry) = &route.retry {
        let named = [(retry.reset, "reset"), (retry.overloaded, "overloaded"), (retry.error, "error")];
        let mut on: Vec<String> =
            named.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect();
        on.extend(retry.statuses.iter().map(u32::to_string));
        on.extend(retry.per_try.map(|time| format!("more than {time:?} a try")));
        let _ = writeln!(
            out,
            "    idempotent: sent again up to {} times on {}, while nothing was answered",
            retry.tries,
            on.join(", ")
        );
        if let Some(hedge) = retry.hedge {
            let _ = writeln!(out, "    without an answer after {hedge:?} also sent to another endpoint");
        }
    }
    if let Some(changes) = &route.changes {
        changed(&changes.request, "requests", out);
        changed(&changes.answer, "answers", out);
    }
    if let Some(name) = &route.by_header {
        let name = String::from_utf8_lossy(name);
        let _ =
            writeln!(out, "    to the cluster that the header {name} names; no route where it names none");
    }
    if let Some(demand) = &route.by_service {
        let of = plan.demands.iter().find(|plan| plan.demand == *demand);
        let _ = writeln!(out, "    to {}", of.map(DemandPlan::words).unwrap_or_default());
        if let Some(of) = of {
            let balance = of.like().balance;
            let _ = writeln!(
                out,
                "      looked for when the first call names it, kept while calls do; balanced by {balance:?}"
            );
            if plan.learn.iter().any(|learn| learn.framework == of.framework()) {
                let _ = writeln!(out, "      and from the moment the application subscribes to it (`learn`)");
            }
        }
    }
    let total: u64 = route.targets.iter().map(|target| u64::from(target.weight)).sum();
    for target in &route.targets {
        let Some(cluster) = plan.clusters.get(target.cluster as usize) else { continue };
        let share = u64::from(target.weight) * 100 / total.max(1);
        let _ =
            writeln!(out, "    to cluster {} ({share} %), balanced by {:?}", cluster.name, cluster.balance);
        reached(cluster, target.lot, out);
    }
}

/// How the endpoints of a cluster are reached, and which they are.
fn reached(cluster: &ClusterPlan, lot: Lot, out: &mut String) {
    if let Some(speaks) = cluster.settings.speaks {
        let _ = writeln!(out, "      spoken to in {speaks}: calls of another protocol are translated");
    }
    let settings = &cluster.settings;
    let _ = write!(out, "      connected to within {:?}; ", settings.connect_timeout);
    let _ = match &settings.outlier {
        Some(outlier) if outlier.consecutive > 0 => {
            let Outlier { consecutive, ejection, .. } = outlier;
            writeln!(out, "left alone after {consecutive} failures in a row, for {ejection:?}")
        }
        Some(_) => writeln!(out, "left alone when far worse than the others"),
        None => writeln!(out, "never left alone"),
    };
    if let Some(health) = &cluster.health {
        let _ = writeln!(out, "      checked by {health}");
    }
    divided(&cluster.settings.division, lot, out);
    match &cluster.source {
        Source::Fixed(endpoints) => {
            for endpoint in endpoints {
                let said = endpoint.metadata.iter().flat_map(|said| said.iter());
                let _ = write!(out, "      {}", endpoint.address);
                said.for_each(|(name, value)| write!(out, " {name}={value}").unwrap_or_default());
                out.push('\n');
            }
        }
        Source::Found { registry, key, .. } => {
            let _ = write!(out, "      what registry {registry} knows of {}", key.service);
            let parts = [("version", &key.version), ("group", &key.group), ("protocol", &key.protocol)];
            for (name, value) in parts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
                let _ = write!(out, ", {name} {value}");
            }
            out.push('\n');
        }
    }
}

/// What a route answers itself.
fn answered(response: &Response, route: &Route, out: &mut String) {
    if let Some(limit) = &route.limit {
        let _ = writeln!(out, "    limit: {limit}");
    }
    let _ = write!(out, "    answered with status {}", response.status);
    let _ = match &response.redirect {
        None => writeln!(out, " and {} bytes; sent nowhere", response.body.len()),
        Some(_) => writeln!(out, ": the caller is sent elsewhere"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for line in &response.headers {
        let _ = writeln!(out, "      {}: {}", text(&line.name), text(&line.value));
    }
    let Some(Redirect { scheme, authority, path, drops_query }) = &response.redirect else { return };
    if let Some(scheme) = scheme {
        let _ = writeln!(out, "      by {scheme}");
    }
    if let Some(authority) = authority {
        let _ = writeln!(out, "      to {}", text(authority));
    }
    if path.is_some() {
        changed(&Change { path: path.clone(), ..Change::default() }, "the redirect", out);
    }
    if *drops_query {
        out.push_str("      without the query\n");
    }
}

/// Which endpoints of a cluster get the call, as far as they are told apart.
fn divided(division: &Division, lot: Lot, out: &mut String) {
    let pairs = |pairs: &[(Box<str>, Box<str>)]| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let mut say = |line: String| writeln!(out, "      {line}").unwrap_or_default();
    if !division.environments.is_empty() {
        say(format!("of the first environment that has any: {}", division.environments.join(", ")));
    }
    if !division.only.is_empty() {
        say(format!("only those that say {}", pairs(&division.only)));
    }
    if let Some(subset) = division.subsets.iter().find(|subset| Lot::of(subset) == lot) {
        let or = if subset.fallback { ", or any where none does" } else { "" };
        say(format!("for this route only those that say {}{or}", pairs(&subset.want)));
    }
    if let Some(tags) = &division.tags {
        let named: Vec<_> = tags.headers.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let or = if tags.fallback { "; a tag that nobody has: those without" } else { "" };
        say(format!("by the tag in {}: those whose {} is the same{or}", named.join(" or "), tags.metadata));
    }
    if let Some(zones) = &division.zones {
        let mut order = vec![format!("zone {}", zones.own)];
        order.extend((!zones.near.is_empty()).then(|| zones.near.join(", ")));
        order.push("all others".to_owned());
        order.extend((!zones.last.is_empty()).then(|| zones.last.join(", ")));
        say(format!("first {}; the next when less than {} % are well", order.join(", then "), zones.spill));
    }
}

/// What is changed of heads on their way.
fn changed(change: &Change, of: &str, out: &mut String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut say = |line: String| writeln!(out, "    of {of}: {line}").unwrap_or_default();
    change.remove.iter().for_each(|name| say(format!("{} is removed", text(name))));
    for line in &change.set {
        say(format!("{} is set to {}", text(&line.name), text(&line.value)));
    }
    for line in &change.add {
        say(format!("{} is added: {}", text(&line.name), text(&line.value)));
    }
    match &change.path {
        Some(NewPath::Whole(path)) => say(format!("the path becomes {}", text(path))),
        Some(NewPath::Prefix { from, to }) if from.is_empty() => {
            say(format!("{} comes before the path", text(to)));
        }
        Some(NewPath::Prefix { from, to }) => {
            let to = if to.is_empty() { "nothing".to_owned() } else { text(to) };
            say(format!("a path that begins with {} begins with {to} instead", text(from)));
        }
        None => {}
    }
    if let Some(authority) = &change.authority {
        say(format!("the authority becomes {}", text(authority)));
    }
}
