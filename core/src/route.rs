//! Routes: what a call must look like, and where it then goes.
//!
//! Routes are tried in the order of the conf and the first that matches wins, but their number must not cost:
//! routes with an exact service are found by one hash lookup on (service, method) or (service), and only the
//! candidates are tested, in order. Only routes without an exact service are walked one by one.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use outrigger_codec::{Head, Slot, Wants};

use crate::{Limit, Pattern};

/// What a call must look like. An empty match matches every call.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// The service, without its version or as the protocol spells it whole.
    pub service: Option<Pattern>,
    /// The method.
    pub method: Option<Pattern>,
    /// The service version.
    pub version: Option<Pattern>,
    /// The service group.
    pub group: Option<Pattern>,
    /// Headers by name; all must pass.
    pub headers: Vec<(Box<[u8]>, Pattern)>,
}

impl Match {
    /// The parts of a head that this match reads.
    pub fn wants(&self) -> Wants {
        let parts = [
            (self.service.is_some(), Wants::SERVICE),
            (self.method.is_some(), Wants::METHOD),
            (self.version.is_some(), Wants::VERSION),
            (self.group.is_some(), Wants::GROUP),
            (!self.headers.is_empty(), Wants::FIELDS),
        ];
        parts.iter().filter(|(used, _)| *used).fold(Wants::NONE, |all, (_, part)| all.and(*part))
    }

    /// The first part that `head` fails on, by name, or `None` when it passes.
    pub fn fails_on(&self, head: Head<'_>) -> Option<&str> {
        if head.index.opaque && self.wants() != Wants::NONE {
            return Some("content");
        }
        if let Some(service) = &self.service
            && !service.matches(head.slot(Slot::Service))
            && !(head.index.slot(Slot::ServiceKey).is_some() && service.matches(head.slot(Slot::ServiceKey)))
        {
            return Some("service");
        }
        let slots = [
            ("method", &self.method, Slot::Method),
            ("version", &self.version, Slot::Version),
            ("group", &self.group, Slot::Group),
        ];
        for (name, pattern, slot) in slots {
            if pattern.as_ref().is_some_and(|pattern| !pattern.matches(head.slot(slot))) {
                return Some(name);
            }
        }
        let (name, _) = self.headers.iter().find(|(name, pattern)| !pattern.matches(head.field(name)))?;
        Some(std::str::from_utf8(name).unwrap_or("header"))
    }
}

/// One of the clusters a route may send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The cluster's index in the snapshot.
    pub cluster: u32,
    /// Its share; a route's shares add up to at least 1.
    pub weight: u32,
}

/// A route, ready to be tried.
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique within its listener; state is carried over reloads by it.
    pub name: Box<str>,
    /// What a call must look like.
    pub matches: Match,
    /// Where it goes: one target, or several by weight.
    pub targets: Box<[Target]>,
    /// The longest a call may take, from its request being complete to its answer being complete.
    pub timeout: Option<Duration>,
    /// How many calls may pass.
    pub limit: Option<Arc<Limit>>,
    /// Its calls may be sent again when nothing was answered.
    pub idempotent: bool,
}

/// The routes of one listener, indexed.
#[derive(Debug)]
pub struct RouteTable {
    routes: Box<[Route]>,
    /// Routes by exact (service, method), or by exact service alone where the method is no exact one.
    index: HashTable<Entry>,
    /// Routes without an exact service, in order.
    rest: Box<[u32]>,
    hasher: RandomState,
    wants: Wants,
    /// Whether any indexed service is spelled with its version, so that a second lookup can find something.
    spelled: bool,
    /// Whether the index has routes with a method, and routes without one.
    with_method: bool,
    without_method: bool,
}

#[derive(Debug)]
struct Entry {
    service: Box<[u8]>,
    method: Option<Box<[u8]>>,
    /// Indices into `routes`, ascending.
    candidates: Vec<u32>,
}

impl RouteTable {
    /// Indexes `routes`, which are in the order of the conf.
    pub fn new(routes: Vec<Route>) -> Self {
        let hasher = RandomState::default();
        let mut index = HashTable::with_capacity(routes.len());
        let mut rest = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            let at = at as u32;
            let Some(services) = route.matches.service.as_ref().and_then(Pattern::exact_values) else {
                rest.push(at);
                continue;
            };
            let methods: Vec<Option<&[u8]>> =
                match route.matches.method.as_ref().and_then(Pattern::exact_values) {
                    Some(methods) => methods.iter().map(|method| Some(&**method)).collect(),
                    None => vec![None],
                };
            for service in services {
                for method in &methods {
                    add(&mut index, &hasher, service, *method, at);
                }
            }
        }
        // The caller's timeout bounds every call, so it is always read where it can be.
        let wants = routes.iter().fold(Wants::TIMEOUT, |all, route| all.and(route.matches.wants()));
        let spelled = index.iter().any(|entry: &Entry| entry.service.contains(&b':'));
        let with_method = index.iter().any(|entry| entry.method.is_some());
        let without_method = index.iter().any(|entry| entry.method.is_none());
        Self {
            routes: routes.into(),
            index,
            rest: rest.into(),
            hasher,
            wants,
            spelled,
            with_method,
            without_method,
        }
    }

    /// The parts of a head that any of the routes reads.
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// The routes, in the order of the conf.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The first route that matches, with its index.
    pub fn find(&self, head: Head<'_>) -> Option<(u32, &Route)> {
        let mut best: Option<(u32, &Route)> = None;
        if !self.index.is_empty() {
            let method = head.slot(Slot::Method);
            let spelled = self.spelled.then(|| head.slot(Slot::ServiceKey)).flatten();
            for service in [head.slot(Slot::Service), spelled].into_iter().flatten() {
                if self.with_method && method.is_some() {
                    best = self.better(best, self.candidates(service, method), head);
                }
                if self.without_method {
                    best = self.better(best, self.candidates(service, None), head);
                }
            }
        }
        self.better(best, &self.rest, head)
    }

    /// The first of `candidates` (ascending) that matches, if it stands before `best`.
    fn better<'a>(
        &'a self,
        best: Option<(u32, &'a Route)>,
        candidates: &[u32],
        head: Head<'_>,
    ) -> Option<(u32, &'a Route)> {
        let end = best.map_or(u32::MAX, |(at, _)| at);
        for &at in candidates.iter().take_while(|at| **at < end) {
            if let Some(route) = self.routes.get(at as usize)
                && route.matches.fails_on(head).is_none()
            {
                return Some((at, route));
            }
        }
        best
    }

    fn candidates(&self, service: &[u8], method: Option<&[u8]>) -> &[u32] {
        let hash = self.hasher.hash_one((service, method));
        self.index
            .find(hash, |entry| *entry.service == *service && entry.method.as_deref() == method)
            .map_or(&[], |entry| &entry.candidates)
    }
}

fn add(index: &mut HashTable<Entry>, hasher: &RandomState, service: &[u8], method: Option<&[u8]>, at: u32) {
    let hash = hasher.hash_one((service, method));
    let same = |entry: &Entry| *entry.service == *service && entry.method.as_deref() == method;
    let entry = index
        .entry(hash, same, |entry| hasher.hash_one((&*entry.service, entry.method.as_deref())))
        .or_insert_with(|| Entry {
            service: service.into(),
            method: method.map(Into::into),
            candidates: Vec::new(),
        })
        .into_mut();
    // `any: [a, a]` would list the same route twice.
    if entry.candidates.last() != Some(&at) {
        entry.candidates.push(at);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // tests fail by panicking
mod tests {
    use outrigger_codec::{Field, HeadIndex, Span};

    use super::*;

    /// A head spelled out: slots and headers appended to one buffer.
    struct Call {
        bytes: Vec<u8>,
        index: HeadIndex,
    }

    impl Call {
        fn new(service: &str, method: &str) -> Self {
            Self { bytes: Vec::new(), index: HeadIndex::default() }
                .slot(Slot::Service, service)
                .slot(Slot::Method, method)
        }

        fn put(&mut self, text: &str) -> Span {
            let span = Span::new(self.bytes.len(), text.len());
            self.bytes.extend_from_slice(text.as_bytes());
            span
        }

        fn slot(mut self, slot: Slot, text: &str) -> Self {
            let span = self.put(text);
            self.index.set(slot, span);
            self
        }

        fn header(mut self, name: &str, value: &str) -> Self {
            let (name, value) = (self.put(name), self.put(value));
            self.index.fields.push(Field { name, value });
            self
        }

        fn head(&self) -> Head<'_> {
            Head { bytes: &self.bytes, index: &self.index }
        }
    }

    fn route(name: &str, matches: Match) -> Route {
        Route {
            name: name.into(),
            matches,
            targets: [Target { cluster: 0, weight: 1 }].into(),
            timeout: None,
            limit: None,
            idempotent: false,
        }
    }

    fn service(service: &str) -> Match {
        Match { service: Some(Pattern::exact(service)), ..Match::default() }
    }

    fn found(table: &RouteTable, call: &Call) -> Option<String> {
        table.find(call.head()).map(|(_, route)| route.name.to_string())
    }

    #[test]
    fn the_first_match_in_the_order_of_the_conf_wins_whatever_its_kind() {
        let table = RouteTable::new(vec![
            route("echo of a", Match { method: Some(Pattern::exact("echo")), ..service("a") }),
            route(
                "prefix",
                Match {
                    service: Some(Pattern::Prefix((*b"a").into())),
                    method: Some(Pattern::exact("put")),
                    ..Match::default()
                },
            ),
            route("all of a", service("a")),
            route(
                "one of b, c",
                Match {
                    service: Some(Pattern::Any([(*b"b").into(), (*b"c").into()].into())),
                    ..Match::default()
                },
            ),
            route("rest", Match::default()),
        ]);
        assert_eq!(found(&table, &Call::new("a", "echo")).unwrap(), "echo of a");
        assert_eq!(found(&table, &Call::new("a", "put")).unwrap(), "prefix");
        assert_eq!(found(&table, &Call::new("a", "get")).unwrap(), "all of a");
        assert_eq!(found(&table, &Call::new("c", "put")).unwrap(), "one of b, c");
        assert_eq!(found(&table, &Call::new("d", "put")).unwrap(), "rest");
    }

    #[test]
    fn a_service_matches_bare_or_as_the_protocol_spells_it() {
        let table = RouteTable::new(vec![
            route("whole", service("a:2.0")),
            route("version", Match { version: Some(Pattern::exact("1.0:uid")), ..service("a") }),
            route("bare", service("a")),
        ]);
        let call = |version: &str| {
            Call::new("a", "m").slot(Slot::ServiceKey, &format!("a:{version}")).slot(Slot::Version, version)
        };
        assert_eq!(found(&table, &call("2.0")).unwrap(), "whole");
        assert_eq!(found(&table, &call("1.0:uid")).unwrap(), "version");
        assert_eq!(found(&table, &call("1.0")).unwrap(), "bare");
        assert_eq!(found(&table, &Call::new("b", "m")), None);
    }

    #[test]
    fn headers_must_all_pass() {
        let headers =
            vec![((*b"zone").into(), Pattern::exact("a")), ((*b"gray").into(), Pattern::Present(true))];
        let table = RouteTable::new(vec![route("gray", Match { headers, ..service("s") })]);
        assert_eq!(found(&table, &Call::new("s", "m").header("zone", "a")), None);
        assert_eq!(
            found(&table, &Call::new("s", "m").header("zone", "a").header("gray", "")).unwrap(),
            "gray"
        );
    }

    #[test]
    fn what_cannot_be_read_matches_only_what_asks_for_nothing() {
        let absent =
            Match { headers: vec![((*b"zone").into(), Pattern::Present(false))], ..Match::default() };
        let table = RouteTable::new(vec![route("absent", absent), route("rest", Match::default())]);
        let mut call = Call::new("s", "m");
        assert_eq!(found(&table, &call).unwrap(), "absent");
        call.index.opaque = true;
        assert_eq!(found(&table, &call).unwrap(), "rest");
    }

    #[test]
    fn the_index_agrees_with_trying_one_route_after_the_other() {
        // A small deterministic generator: every combination of kinds over a small alphabet, many orders.
        let mut seed = 7u64;
        let mut next = move |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let names = ["a", "b", "ab", "c"];
        for _ in 0..300 {
            let pattern = |next: &mut dyn FnMut(u64) -> u64| match next(5) {
                0 => None,
                1 | 2 => Some(Pattern::exact(names[next(4) as usize])),
                3 => Some(Pattern::Prefix(names[next(4) as usize].as_bytes().into())),
                _ => Some(Pattern::Any(
                    [names[next(4) as usize].as_bytes().into(), names[next(4) as usize].as_bytes().into()]
                        .into(),
                )),
            };
            let routes: Vec<Route> = (0..12)
                .map(|at| {
                    route(
                        &at.to_string(),
                        Match { service: pattern(&mut next), method: pattern(&mut next), ..Match::default() },
                    )
                })
                .collect();
            let table = RouteTable::new(routes.clone());
            for service in names {
                for method in names {
                    let call = Call::new(service, method);
                    let plain = routes.iter().find(|route| route.matches.fails_on(call.head()).is_none());
                    assert_eq!(found(&table, &call), plain.map(|route| route.name.to_string()));
                }
            }
        }
    }
}
