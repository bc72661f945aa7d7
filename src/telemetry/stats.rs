//! `/stats` and `/clusters`: the joined counts as JSON, for people and scripts.
//!
//! The shape is part of the contract: keys are added, never renamed.

use outrigger_core::Tally;
use serde_json::{Map, Value, json};

use super::{Endpoint, Joined, outcomes};

/// Everything but the endpoints.
pub fn stats(joined: &Joined) -> Value {
    let routes =
        joined.routes.iter().filter(|(_, tally)| tally.calls() > 0).map(|((listener, route), tally)| {
            let mut value = calls(tally);
            value.insert("listener".into(), json!(listener));
            value.insert("route".into(), json!(route));
            Value::Object(value)
        });
    let protocols = joined.protocols.iter().map(|(name, protocol)| {
        let events: Map<String, Value> =
            protocol.counters.0.iter().map(|(event, n)| ((*event).to_owned(), json!(n))).collect();
        let value = json!({ "callers": protocol.callers, "upstreams": protocol.upstreams, "events": events });
        ((*name).to_owned(), value)
    });
    let facts = &joined.facts;
    json!({
        "app": facts.app,
        "version": env!("CARGO_PKG_VERSION"),
        "revision": facts.revision,
        "last_reload_successful": !facts.reload_failed,
        "draining": facts.draining,
        "registries_lost": facts.registries_lost,
        "connections_by_worker": facts.connections,
        "panics": crate::logs::panics(),
        "routes": routes.collect::<Vec<_>>(),
        "protocols": protocols.collect::<Map<_, _>>(),
        "detected": joined.sniffed,
    })
}

/// Clusters, their endpoints, and how they do.
pub fn clusters(joined: &Joined) -> Value {
    let mut clusters: Map<String, Value> = Map::new();
    for ((cluster, address), endpoint) in &joined.endpoints {
        let mut value = calls(&endpoint.tally);
        value.insert("address".into(), json!(address));
        value.insert("in_flight".into(), json!(endpoint.in_flight));
        value.insert("connections".into(), json!(endpoint.connections));
        value.insert("peak_ewma_us".into(), json!(endpoint.latency.as_micros() as u64));
        let state = match endpoint {
            Endpoint { listed: false, .. } => "leaving".to_owned(),
            Endpoint { ill: true, .. } => "ill: health checks fail".to_owned(),
            Endpoint { out_for: Some(left), .. } if left.is_zero() => {
                "on trial: it failed, and may answer one call".to_owned()
            }
            Endpoint { out_for: Some(left), .. } => {
                format!("left out: it failed; back on trial in {} s", left.as_secs() + 1)
            }
            Endpoint { avoided: 0, .. } => "in use".to_owned(),
            _ => "avoided: it just failed or said goodbye".to_owned(),
        };
        value.insert("state".into(), json!(state));
        if let Some(said) = joined.facts.said.get(&(cluster.clone(), address.clone())) {
            value.insert(
                "metadata".into(),
                said.iter().map(|(name, said)| (name.to_string(), json!(said))).collect(),
            );
        }
        if let Some(found) = joined.facts.found.get(&(cluster.clone(), address.clone())) {
            let state = if found.why.is_some() { "ill" } else { "well" };
            let mut health = json!({ "state": state, "since": found.since });
            if let (Some(why), Value::Object(health)) = (&found.why, &mut health) {
                health.insert("why".into(), json!(why));
            }
            value.insert("health".into(), health);
        }
        let panics = joined.facts.panics.contains(cluster);
        let entry = clusters
            .entry(cluster.to_string())
            .or_insert_with(|| json!({ "panic": panics, "endpoints": [] }));
        if let Some(endpoints) = entry.get_mut("endpoints").and_then(Value::as_array_mut) {
            endpoints.push(Value::Object(value));
        }
    }
    json!({ "revision": joined.facts.revision, "clusters": clusters })
}

fn calls(tally: &Tally) -> Map<String, Value> {
    let outcomes: Map<String, Value> = outcomes(tally).map(|(name, n)| (name.to_owned(), json!(n))).collect();
    let quantile =
        |share| tally.latency.as_ref().map_or(0, |latency| latency.quantile(share).as_micros() as u64);
    let mut value = Map::new();
    value.insert("calls".into(), json!(tally.calls()));
    value.insert("failures".into(), json!(tally.failures()));
    value.insert("outcomes".into(), Value::Object(outcomes));
    value.insert("p50_us".into(), json!(quantile(0.5)));
    value.insert("p99_us".into(), json!(quantile(0.99)));
    value
}

/// Registries, what is watched there, what is made known of the application, and what it wants.
pub fn registries(facts: &super::Facts) -> Value {
    let mut value = json!({
        "registries": facts.registries,
        "registered": facts.registered,
        "bridges": facts.bridges,
    });
    if let (Some(learned), Value::Object(value)) = (&facts.learned, &mut value) {
        value.insert("subscribed".into(), json!(learned.subscribed));
    }
    value
}
