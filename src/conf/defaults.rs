//! The conf's `defaults`: keys of routes and clusters written once, for all that do not say otherwise.
//!
//! They are put into the tree before it is fitted to the structs, with the places where they were written, so that nothing
//! behind this knows of them and a mistake in one is told once, where it stands. What is written nearer wins: a key as a
//! whole, but the keys of a plain map (`outlier`, `retry`, …) one by one. Which keys there are, and which of them hold such
//! maps, is asked of the structs themselves: a new key of a route or cluster needs no line here, unless it can only be
//! each one's own. A default must never make wrong what would be well without it: where it could mean nothing it is left out.

use std::{borrow::Cow, cell::Cell, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, IntoDeserializer, Visitor, value::MapDeserializer},
};

use super::{
    decode::decode,
    file::{Cluster, Route},
    report::{Problem, Span, listing, near, quote},
    yaml::{Kind, NODES_MAX, Node, Scalar, TEXT_BYTES_MAX, boolean, measure},
};

/// What routes and clusters are that do not say otherwise themselves. A key that one of them writes wins as a whole; of a
/// map like `outlier` or `retry` each key on its own.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Of all routes, but those of listeners that speak only `tcp`. `retry` is for those that are `idempotent`.
    #[serde(default)]
    pub route: Option<RouteDefaults>,
    /// Of all clusters. `hash` is for those balanced by `ring_hash` or `maglev`.
    #[serde(default)]
    pub cluster: Option<ClusterDefaults>,
}

/// Keys as they were written; what they mean is seen where they were put.
type Written = serde_json::Map<String, serde_json::Value>;

/// Keys of a route.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RouteDefaults(pub Written);

/// Keys of a cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClusterDefaults(pub Written);

/// Whether a key is put, by the others that a route or cluster has then.
type When = fn(&[Entry]) -> bool;
type Entry = (Node, Node);

/// What `defaults` are about.
struct Section {
    /// Its key.
    key: &'static str,
    /// Keys that are each one's own.
    own: &'static [&'static str],
    /// A key that is put only where another is so.
    only: (&'static str, When),
}

const ROUTE: Section = Section {
    key: "route",
    own: &[
        "name",
        "match",
        "to",
        "to_header",
        "weights",
        "subset",
        "subset_fallback",
        "rewrite",
        "respond",
        "redirect",
    ],
    only: ("retry", |route| scalar(route, "idempotent").is_some_and(|word| boolean(word) == Some(true))),
};

const CLUSTER: Section = Section {
    key: "cluster",
    own: &["endpoints", "discover"],
    only: ("hash", |cluster| matches!(scalar(cluster, "balance"), Some("ring_hash" | "maglev"))),
};

/// Puts the defaults into all routes and clusters of a conf's tree. What is wrong with them is returned, and never put.
pub fn apply(root: &mut Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Kind::Map(entries) = &mut root.kind else { return problems };
    let Some((key, written)) = entries.iter_mut().find(|(key, _)| key.text() == Some("defaults")) else {
        return problems;
    };
    strays(written, &mut problems);
    let routes = section::<Route>(written, &ROUTE, &mut problems);
    let clusters = section::<Cluster>(written, &CLUSTER, &mut problems);
    let mut room = Room { nodes: NODES_MAX, text_bytes: TEXT_BYTES_MAX };
    let mut fits = true;
    let place = key.span;
    for (key, value) in entries.iter_mut() {
        match (key.text(), &mut value.kind) {
            (Some("clusters"), Kind::Map(named)) => {
                fits &= named.iter_mut().all(|(_, cluster)| merge(cluster, &clusters, &mut room));
            }
            (Some("listeners"), Kind::Map(named)) => {
                let calls =
                    named.iter_mut().map(|(_, listener)| listener).filter(|listener| !relays(listener));
                fits &= calls.filter_map(routes_of).flatten().all(|route| merge(route, &routes, &mut room));
            }
            _ => {}
        }
    }
    if !fits {
        let message = format!("more than {NODES_MAX} values or {TEXT_BYTES_MAX} bytes of text by defaults");
        problems.push(Problem::new(place, message));
    }
    problems
}

/// A cluster of which nothing is written but the defaults, `written`; what is wrong with them was told by [`apply`].
pub fn cluster(written: Option<&Node>) -> Option<Cluster> {
    let empty = Node { span: Span::default(), kind: Kind::Map(Vec::new()) };
    let mut node = written.cloned().unwrap_or(empty);
    if let Kind::Map(entries) = &mut node.kind {
        let (key, when) = CLUSTER.only;
        let put = when(entries);
        entries.retain(|(known, _)| {
            let text = known.text().unwrap_or_default();
            !CLUSTER.own.contains(&text) && (text != key || put)
        });
    }
    decode(&node).ok()
}

/// Keys of routes and clusters that stand in `defaults` itself: each is told where it belongs, and taken out.
fn strays(written: &mut Node, problems: &mut Vec<Problem>) {
    let Kind::Map(entries) = &mut written.kind else { return };
    let (routes, clusters) = (keys::<Route>(), keys::<Cluster>());
    entries.retain(|(key, _)| {
        let text = key.text().unwrap_or_default();
        let of = [(&ROUTE, &routes), (&CLUSTER, &clusters)];
        let home = of.into_iter().find(|(section, keys)| section.takes(keys).any(|known| known == text));
        let Some((section, _)) = home else { return true };
        let (text, section) = (quote(text), section.key);
        let problem = Problem::new(key.span, format!("{text} is a key of each {section}"));
        problems.push(problem.with_help(format!("write it below `{section}:`")));
        false
    });
}

/// A key that is put where it is missing.
struct Preset {
    key: Node,
    value: Node,
    /// Whether the keys in it count one by one.
    merges: bool,
    only: Option<When>,
}

impl Section {
    /// Of the keys of a route or cluster those that can have a default.
    fn takes<'k>(
        &self,
        keys: &'k [(&'static str, bool)],
    ) -> impl Iterator<Item = &'static str> + use<'k, '_> {
        keys.iter().map(|(key, _)| *key).filter(|key| !self.own.contains(key))
    }

    /// What is wrong with a key that cannot stand here.
    fn refuse(&self, key: &Node, known: &[&str]) -> Problem {
        let text = key.text().unwrap_or_default();
        if self.own.contains(&text) {
            let message = format!("{} is each {}'s own and has no default", quote(text), self.key);
            return Problem::new(key.span, message)
                .with_help(format!("what can have one: {}", known.join(", ")));
        }
        let message = format!("unknown key {}, expected one of {}", quote(text), listing(known));
        let problem = Problem::new(key.span, message);
        let other = if self.key == ROUTE.key { &CLUSTER } else { &ROUTE };
        let others = if self.key == ROUTE.key { keys::<Cluster>() } else { keys::<Route>() };
        if other.takes(&others).any(|key| key == text) {
            return problem.with_help(format!("it is a key of each {0}: write it below `{0}:`", other.key));
        }
        match near(text, known.iter().copied()) {
            Some(near) => problem.with_help(format!("did you mean `{near}`?")),
            None => problem,
        }
    }
}

/// The defaults of a section. Each is looked at on its own: one that is wrong is put as what was reported already.
fn section<T: DeserializeOwned>(
    defaults: &mut Node,
    section: &Section,
    problems: &mut Vec<Problem>,
) -> Vec<Preset> {
    let Kind::Map(sections) = &mut defaults.kind else { return Vec::new() };
    let written = sections.iter_mut().find(|(key, _)| key.text() == Some(section.key));
    let Some((name, Node { span, kind: Kind::Map(entries) })) = written else { return Vec::new() };
    let keys = keys::<T>();
    let known: Vec<&str> = section.takes(&keys).collect();
    let mut taken = Vec::new();
    for (key, value) in entries.iter_mut() {
        let found = keys.iter().find(|(known, _)| Some(*known) == key.text());
        let Some((text, merges)) = found.filter(|(known, _)| !section.own.contains(known)) else {
            problems.push(section.refuse(key, &known));
            continue;
        };
        let wrong = alone::<T>(name, *span, key, value);
        if !wrong.is_empty() {
            problems.extend(wrong);
            value.kind = Kind::Broken;
        }
        let only = (*text == section.only.0).then_some(section.only.1);
        if value.kind != Kind::Null {
            taken.push(Preset { key: key.clone(), value: value.clone(), merges: *merges, only });
        }
    }
    // What depends on others comes when those are there.
    taken.sort_by_key(|default| default.only.is_some());
    taken
}

/// What is wrong with one default, whoever takes it.
fn alone<T: DeserializeOwned>(section: &Node, span: Span, key: &Node, value: &Node) -> Vec<Problem> {
    let map = |key: Node, value: Node| Node { span, kind: Kind::Map(vec![(key, value)]) };
    let word = Scalar { text: "defaults".into(), plain: true, expanded: false };
    let defaults = Node { span, kind: Kind::Scalar(word) };
    let tree = map(defaults, map(section.clone(), map(key.clone(), value.clone())));
    decode::<BTreeMap<String, BTreeMap<String, T>>>(&tree).err().unwrap_or_default()
}

/// What defaults may still add to the tree; without it few routes of many keys would be as good as an alias bomb.
struct Room {
    nodes: usize,
    text_bytes: usize,
}

impl Room {
    fn take(&mut self, node: &Node) -> bool {
        let size = measure(node);
        let left = (self.nodes.checked_sub(size.nodes + 1), self.text_bytes.checked_sub(size.text_bytes));
        let (Some(nodes), Some(text_bytes)) = left else { return false };
        *self = Self { nodes, text_bytes };
        true
    }
}

/// Puts the defaults into a route or cluster; false when there is no room for them.
fn merge(own: &mut Node, defaults: &[Preset], room: &mut Room) -> bool {
    let Kind::Map(entries) = &mut own.kind else { return true };
    let answers = entries.iter().any(|(key, _)| matches!(key.text(), Some("respond" | "redirect")));
    for default in defaults {
        if default.only.is_some_and(|only| !only(entries)) {
            continue;
        }
        // A route that answers itself has nothing to do with how calls are sent.
        if answers && default.key.text() != Some("limit") {
            continue;
        }
        let written = entries.iter_mut().find(|(key, _)| key.text() == default.key.text());
        match (written, &default.value.kind) {
            (None, _) => {
                if !room.take(&default.value) {
                    return false;
                }
                entries.push((default.key.clone(), default.value.clone()));
            }
            (Some((_, Node { kind: Kind::Map(own), .. })), Kind::Map(more)) if default.merges => {
                for (key, value) in more {
                    if own.iter().any(|(known, _)| known.text() == key.text()) {
                        continue;
                    }
                    if !room.take(value) {
                        return false;
                    }
                    own.push((key.clone(), value.clone()));
                }
            }
            _ => {}
        }
    }
    true
}

fn scalar<'n>(entries: &'n [Entry], key: &str) -> Option<&'n str> {
    entries.iter().find(|(known, _)| known.text() == Some(key))?.1.text()
}

/// Whether a listener only relays bytes: it knows no calls, to which the defaults of routes apply.
fn relays(listener: &Node) -> bool {
    match listener.get("protocol").map(|(_, protocol)| &protocol.kind) {
        Some(Kind::Scalar(name)) => &*name.text == "tcp",
        Some(Kind::Seq(names)) => !names.is_empty() && names.iter().all(|name| name.text() == Some("tcp")),
        _ => false,
    }
}

fn routes_of(listener: &mut Node) -> Option<&mut Vec<Node>> {
    let Kind::Map(entries) = &mut listener.kind else { return None };
    let (_, routes) = entries.iter_mut().find(|(key, _)| key.text() == Some("routes"))?;
    if let Kind::Seq(routes) = &mut routes.kind { Some(routes) } else { None }
}

// === what keys a struct has =========================================================================================

/// The keys of a struct in their order, and whether each of them holds a map whose keys count one by one: a struct or a map
/// with free keys, and not a choice.
fn keys<T: DeserializeOwned>() -> Vec<(&'static str, bool)> {
    let shape = Cell::new(Shape::Other);
    drop(T::deserialize(Probe(&shape)));
    let Shape::Struct(fields) = shape.get() else { return Vec::new() };
    let holds_map = |field: &&'static str| {
        let shape = Cell::new(Shape::Other);
        let one = std::iter::once((*field, Probe(&shape)));
        drop(T::deserialize(MapDeserializer::<_, NoValue>::new(one)));
        !matches!(shape.get(), Shape::Other)
    };
    fields.iter().map(|field| (*field, holds_map(field))).collect()
}

/// What a type asks for.
#[derive(Clone, Copy)]
enum Shape {
    Struct(&'static [&'static str]),
    Map,
    Other,
}

/// Learns what a type asks for, and gives it nothing.
#[derive(Clone, Copy)]
struct Probe<'c>(&'c Cell<Shape>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = NoValue;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(NoValue)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        self.0.set(Shape::Map);
        Err(NoValue)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoValue> {
        self.0.set(Shape::Struct(fields));
        Err(NoValue)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, NoValue> for Probe<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[derive(Debug)]
struct NoValue;

impl fmt::Display for NoValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("there is no value")
    }
}

impl std::error::Error for NoValue {}

impl de::Error for NoValue {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

// === for editors ====================================================================================================

/// The schema of a struct without the keys that cannot have a default.
fn schema<T: JsonSchema>(section: &Section, description: &str, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(generator);
    schema.insert("description".to_owned(), description.into());
    if let Some(properties) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
        properties.retain(|key, _| !section.own.contains(&key.as_str()));
        for property in properties.values_mut().filter_map(serde_json::Value::as_object_mut) {
            // What is built in is no default here: left out, nothing is put.
            property.remove("default");
        }
    }
    schema
}

impl JsonSchema for RouteDefaults {
    fn schema_name() -> Cow<'static, str> {
        "RouteDefaults".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::<Route>(&ROUTE, "What a route is that does not say otherwise itself.", generator)
    }
}

impl JsonSchema for ClusterDefaults {
    fn schema_name() -> Cow<'static, str> {
        "ClusterDefaults".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::<Cluster>(&CLUSTER, "What a cluster is that does not say otherwise itself.", generator)
    }
}

#[cfg(test)]
mod tests;
