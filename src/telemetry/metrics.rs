//! `/metrics`: the joined counts as Prometheus families.
//!
//! Labels are names from the conf and closed lists, never bytes from the wire; and still each family is bounded: what
//! does not fit is added up under `__overflow__`, so that no conf and no registry can flood the scraper.

use std::collections::BTreeMap;

use outrigger_core::{Latency, Tally, tally::BUCKETS};
use prometheus::{
    Encoder, TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{Joined, outcomes};

/// Listener and route, or cluster and address.
type Names = (Box<str>, Box<str>);

/// Label sets of one family at most.
const SERIES_MAX: usize = 2_000;
/// What stands for the label values that did not fit.
const OVERFLOW: &str = "__overflow__";
/// Of the fine buckets every so many ends a coarse one: a power of two.
const COARSE: usize = 4;

/// The page, in Prometheus' text format.
pub fn render(joined: &Joined) -> String {
    let mut families = routes(joined);
    families.extend(endpoints(joined));
    families.extend(health(joined));
    families.extend(protocols(joined));
    families.extend(registries(joined));
    families.extend(bridges(joined));
    families.extend(process(joined));
    families.retain(|family| !family.get_metric().is_empty());
    let mut page = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&families, &mut page) {
        tracing::error!(%error, "metrics cannot be rendered");
    }
    String::from_utf8(page).unwrap_or_default()
}

fn routes(joined: &Joined) -> Vec<MetricFamily> {
    let mut calls =
        family("outrigger_requests_total", "Calls by route and how they ended.", MetricType::COUNTER);
    let mut times = family(
        "outrigger_request_duration_seconds",
        "From a request being complete to its answer being complete.",
        MetricType::HISTOGRAM,
    );
    for ((listener, route), tally) in bounded(&joined.routes) {
        let labels = [("listener", &*listener), ("route", &*route)];
        for (outcome, n) in outcomes(&tally) {
            calls.mut_metric().push(counter(&[labels[0], labels[1], ("outcome", outcome)], n));
        }
        if let Some(latency) = &tally.latency {
            times.mut_metric().push(histogram(&labels, latency));
        }
    }
    vec![calls, times]
}

fn endpoints(joined: &Joined) -> Vec<MetricFamily> {
    let tallies: BTreeMap<_, _> =
        joined.endpoints.iter().map(|(key, endpoint)| (key.clone(), endpoint.tally.clone())).collect();
    let mut calls = family(
        "outrigger_upstream_requests_total",
        "Calls by endpoint and how they ended.",
        MetricType::COUNTER,
    );
    for ((cluster, address), tally) in bounded(&tallies) {
        for (outcome, n) in outcomes(&tally) {
            let labels = [("cluster", &*cluster), ("endpoint", &*address), ("outcome", outcome)];
            calls.mut_metric().push(counter(&labels, n));
        }
    }
    let mut in_flight =
        family("outrigger_upstream_in_flight", "Calls in flight by endpoint.", MetricType::GAUGE);
    let mut open = family("outrigger_upstream_connections", "Connections by endpoint.", MetricType::GAUGE);
    let mut out = family(
        "outrigger_upstream_left_out",
        "1 for an endpoint that is left out because it failed, or is on trial.",
        MetricType::GAUGE,
    );
    let mut ill = family(
        "outrigger_upstream_ill",
        "1 for an endpoint that health checks found ill.",
        MetricType::GAUGE,
    );
    for ((cluster, address), endpoint) in joined.endpoints.iter().filter(|(_, e)| e.listed).take(SERIES_MAX) {
        let labels = [("cluster", &**cluster), ("endpoint", &**address)];
        in_flight.mut_metric().push(gauge(&labels, endpoint.in_flight));
        open.mut_metric().push(gauge(&labels, endpoint.connections));
        out.mut_metric().push(gauge(&labels, u64::from(endpoint.out_for.is_some())));
        ill.mut_metric().push(gauge(&labels, u64::from(endpoint.ill)));
    }
    vec![calls, in_flight, open, out, ill]
}

fn health(joined: &Joined) -> Vec<MetricFamily> {
    let mut checks = family(
        "outrigger_health_checks_total",
        "Health checks by cluster and how they went.",
        MetricType::COUNTER,
    );
    for (cluster, of) in joined.facts.checks.iter().take(SERIES_MAX) {
        for (result, n) in &of.0 {
            checks.mut_metric().push(counter(&[("cluster", cluster), ("result", result)], *n));
        }
    }
    let mut panics = family(
        "outrigger_cluster_panic",
        "1 for a cluster of which so few endpoints are usable that all are used.",
        MetricType::GAUGE,
    );
    for cluster in joined.facts.panics.iter().take(SERIES_MAX) {
        panics.mut_metric().push(gauge(&[("cluster", cluster)], 1));
    }
    vec![checks, panics]
}

fn protocols(joined: &Joined) -> Vec<MetricFamily> {
    let mut callers =
        family("outrigger_downstream_connections", "Callers connected by protocol.", MetricType::GAUGE);
    let mut events = family("outrigger_events_total", "What happened besides calls.", MetricType::COUNTER);
    for (name, protocol) in &joined.protocols {
        callers.mut_metric().push(gauge(&[("protocol", name)], protocol.callers));
        for (event, n) in &protocol.counters.0 {
            events.mut_metric().push(counter(&[("protocol", name), ("event", event)], *n));
        }
    }
    let mut detected = family(
        "outrigger_detected_total",
        "Connections by what they turned out to speak.",
        MetricType::COUNTER,
    );
    for (outcome, n) in &joined.sniffed {
        detected.mut_metric().push(counter(&[("outcome", outcome)], *n));
    }
    vec![callers, events, detected]
}

fn process(joined: &Joined) -> Vec<MetricFamily> {
    let facts = &joined.facts;
    let one = |name: &str, help: &str, value: u64| {
        let mut family = family(name, help, MetricType::GAUGE);
        family.mut_metric().push(gauge(&[], value));
        family
    };
    let mut info = family("outrigger_build_info", "Always 1; the version is a label.", MetricType::GAUGE);
    info.mut_metric().push(gauge(&[("version", env!("CARGO_PKG_VERSION")), ("app", &facts.app)], 1));
    let mut panics =
        family("outrigger_panics_total", "Panics; each ended one connection.", MetricType::COUNTER);
    panics.mut_metric().push(counter(&[], crate::logs::panics()));
    let mut load = family("outrigger_worker_connections", "Callers connected by worker.", MetricType::GAUGE);
    for (worker, connections) in facts.connections.iter().enumerate() {
        load.mut_metric().push(gauge(&[("worker", &worker.to_string())], *connections));
    }
    vec![
        info,
        one("outrigger_config_revision", "Grows with every change of what is decided by.", facts.revision),
        one(
            "outrigger_config_last_reload_successful",
            "0 while the conf file on disk was refused.",
            u64::from(!facts.reload_failed),
        ),
        one("outrigger_draining", "1 while no new connections are taken.", u64::from(facts.draining)),
        one("outrigger_registries_lost", "Watches whose registry cannot be asked.", facts.registries_lost),
        panics,
        load,
    ]
}

/// Registries and what is made known in them, by the names of the conf alone.
fn registries(joined: &Joined) -> Vec<MetricFamily> {
    let of = |name: &str, help: &str, kind| family(&format!("outrigger_registry_{name}"), help, kind);
    let mut connected = of("connected", "1 while the registry can be asked.", MetricType::GAUGE);
    let mut connections = of("connections_total", "Connections to it so far.", MetricType::COUNTER);
    let mut unreadable = of("unreadable_total", "Entries that were passed over.", MetricType::COUNTER);
    let mut heard = of("last_heard_seconds", "Time since it said something.", MetricType::GAUGE);
    let mut watches = of("watches", "Services that are watched, by how that is.", MetricType::GAUGE);
    let mut instances = of("instances", "Instances in force.", MetricType::GAUGE);
    for (name, facts) in joined.facts.registries.iter().take(SERIES_MAX) {
        let label = [("registry", name.as_str())];
        connected.mut_metric().push(gauge(&label, u64::from(facts.connected)));
        connections.mut_metric().push(counter(&label, facts.connections));
        unreadable.mut_metric().push(counter(&label, facts.unreadable));
        if let Some(seconds) = facts.last_heard_s {
            heard.mut_metric().push(gauge(&label, seconds));
        }
        let count = |is: &dyn Fn(&super::WatchFacts) -> bool| {
            facts.watches.iter().filter(|watch| is(watch)).count() as u64
        };
        for (state, number) in [
            ("all", count(&|_| true)),
            ("lost", count(&|watch| watch.lost.is_some())),
            ("unknown", count(&|watch| watch.instances.is_none())),
            ("held", count(&|watch| watch.held)),
            ("stale", count(&|watch| watch.stale)),
        ] {
            watches.mut_metric().push(gauge(&[label[0], ("state", state)], number));
        }
        let all: usize = facts.watches.iter().filter_map(|watch| watch.instances).sum();
        instances.mut_metric().push(gauge(&label, all as u64));
    }
    let mut up = family("outrigger_registered", "1 while a service is made known.", MetricType::GAUGE);
    let mut pending = of("pending_writes", "Writes that are not confirmed.", MetricType::GAUGE);
    let mut writes = BTreeMap::new();
    // What was learned is counted, not named.
    let (learned, written): (Vec<_>, Vec<_>) =
        joined.facts.registered.iter().partition(|(_, facts)| facts.learned);
    let registries = learned.iter().flat_map(|(_, facts)| &facts.registries);
    writes.extend(registries.map(|of| (of.registry.as_str(), of.pending as u64)));
    for (name, facts) in written.into_iter().take(SERIES_MAX) {
        up.mut_metric().push(gauge(&[("name", name)], u64::from(facts.why_not.is_none())));
        writes.extend(facts.registries.iter().map(|of| (of.registry.as_str(), of.pending as u64)));
    }
    for (registry, number) in writes {
        pending.mut_metric().push(gauge(&[("registry", registry)], number));
    }
    let mut of_app = family(
        "outrigger_learned",
        "Services that the application said it gives or wants; registered: of those given, made known now.",
        MetricType::GAUGE,
    );
    if let Some(said) = &joined.facts.learned {
        let known = learned.iter().filter(|(_, facts)| facts.why_not.is_none()).count();
        for (kind, number) in
            [("published", said.published), ("registered", known), ("subscribed", said.subscribed.len())]
        {
            of_app.mut_metric().push(gauge(&[("kind", kind)], number as u64));
        }
    }
    vec![connected, connections, unreadable, heard, watches, instances, up, pending, of_app]
}

/// What is carried from one registry into another, by the names of the conf alone.
fn bridges(joined: &Joined) -> Vec<MetricFamily> {
    let gauges =
        |name: &str, help: &str| family(&format!("outrigger_bridge_{name}"), help, MetricType::GAUGE);
    let mut role = gauges("role", "1 for what this sidecar is to the bridge: leading, standby or frozen.");
    let mut frozen = gauges("frozen", "1 while nothing is taken away though less is found.");
    let mut found = gauges("services", "Services that are carried.");
    let mut instances = gauges("instances", "Instances of theirs that were found.");
    let mut entries = gauges("entries", "Entries that stand there by this sidecar's hand.");
    let mut pending = gauges("pending_writes", "Writes that are not confirmed.");
    let mut waiting = gauges("waiting_services", "Services whose last change is not written yet.");
    let mut skipped = gauges("skipped", "Instances that are not carried, by the reason.");
    for (name, facts) in joined.facts.bridges.iter().take(SERIES_MAX) {
        let label = ("bridge", name.as_str());
        for each in ["leading", "standby", "frozen"] {
            role.mut_metric().push(gauge(&[label, ("role", each)], u64::from(facts.role == each)));
        }
        for (family, number) in [
            (&mut frozen, usize::from(facts.frozen.is_some())),
            (&mut found, facts.services),
            (&mut instances, facts.instances),
            (&mut entries, facts.entries),
            (&mut pending, facts.pending),
            (&mut waiting, facts.waiting),
        ] {
            family.mut_metric().push(gauge(&[label], number as u64));
        }
        let of = &facts.skipped;
        for (reason, number) in
            [("copy", of.copies), ("off", of.off), ("there", of.there), ("refused", of.refused)]
        {
            skipped.mut_metric().push(gauge(&[label, ("reason", reason)], number as u64));
        }
    }
    vec![role, frozen, found, instances, entries, pending, waiting, skipped]
}

/// At most `SERIES_MAX` entries; what is beyond them is one entry of its own.
fn bounded(all: &BTreeMap<Names, Tally>) -> Vec<(Names, Tally)> {
    let mut kept: Vec<_> =
        all.iter().take(SERIES_MAX).map(|(key, tally)| (key.clone(), tally.clone())).collect();
    if all.len() > SERIES_MAX {
        let mut rest = Tally::default();
        all.values().skip(SERIES_MAX).for_each(|tally| rest.add(tally));
        kept.push(((OVERFLOW.into(), OVERFLOW.into()), rest));
    }
    kept
}

fn family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

fn metric(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect::<Vec<_>>())
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut metric = metric(labels);
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut metric = metric(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    metric.set_gauge(gauge);
    metric
}

fn histogram(labels: &[(&str, &str)], latency: &Latency) -> Metric {
    let mut seen = 0;
    let mut buckets = Vec::with_capacity(BUCKETS / COARSE);
    for (at, chunk) in latency.buckets().chunks(COARSE).enumerate() {
        seen += chunk.iter().sum::<u64>();
        // The last bucket takes whatever is longer: it is `+Inf`, which the encoder adds.
        if (at + 1) * COARSE < BUCKETS {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(Latency::upper_ns((at + 1) * COARSE - 1) as f64 / 1e9);
            bucket.set_cumulative_count(seen);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(seen);
    histogram.set_sample_sum(latency.sum_ns as f64 / 1e9);
    histogram.set_bucket(buckets);
    let mut metric = metric(labels);
    metric.set_histogram(histogram);
    metric
}

#[cfg(test)]
mod tests {
    use outrigger_codec::Outcome;
    use outrigger_core::End;

    use super::*;

    #[test]
    fn a_flood_of_routes_is_bounded_and_loses_no_call() {
        let mut joined = Joined::default();
        for at in 0..SERIES_MAX + 500 {
            let mut tally = Tally::default();
            tally.record(End::Answered(Outcome::Ok), std::time::Duration::from_micros(100));
            joined.routes.insert(("l".into(), format!("r{at:05}").into()), tally);
        }
        let page = render(&joined);
        let lines = page.lines().filter(|line| line.starts_with("outrigger_requests_total{"));
        assert_eq!(lines.count(), SERIES_MAX + 1);
        assert!(
            page.contains(
                r#"outrigger_requests_total{listener="__overflow__",outcome="ok",route="__overflow__"} 500"#
            ) || page.contains(
                r#"outrigger_requests_total{listener="__overflow__",route="__overflow__",outcome="ok"} 500"#
            )
        );
    }

    #[test]
    fn histograms_are_cumulative_and_complete() {
        let mut joined = Joined::default();
        let mut tally = Tally::default();
        for us in [1, 10, 100, 1_000, 10_000_000_000] {
            tally.record(End::Answered(Outcome::Ok), std::time::Duration::from_micros(us));
        }
        joined.routes.insert(("l".into(), "r".into()), tally);
        let page = render(&joined);
        assert!(
            page.contains("outrigger_request_duration_seconds_count{listener=\"l\",route=\"r\"} 5"),
            "{page}"
        );
        assert!(page.contains("le=\"+Inf\"} 5"), "{page}");
    }
}
