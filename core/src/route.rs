//! Routes: what a call must look like, and where it then goes.
//!
//! Routes are tried in the order of the conf and the first that matches wins, but their number must not cost:
//! a route with an exact service, path or authority is found by a hash lookup on it, and only the candidates are
//! tested, in order. Only routes that have nothing exact are walked one by one.

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use outrigger_codec::{Changes, Head, Response, Slot, Wants};

use crate::{Demand, Limit, Lot, Pattern, Retry};

mod query;

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
    /// The authority, with its port or without, in lower case.
    pub authority: Option<Pattern>,
    /// The path without its query, no character escaped that need not be.
    pub path: Option<Pattern>,
    /// Parameters of the query by name; all must pass.
    pub query: Vec<(Box<[u8]>, Pattern)>,
    /// Headers by name; all must pass.
    pub headers: Vec<(Box<[u8]>, Pattern)>,
    /// Further matches, all of which must pass.
    pub all: Vec<Match>,
    /// Further matches, one of which must pass; empty: none is asked for.
    pub any: Vec<Match>,
    /// Matches none of which may pass.
    pub not: Vec<Match>,
}

impl Match {
    /// The parts of a head that this match reads.
    pub fn wants(&self) -> Wants {
        let parts = [
            (self.service.is_some(), Wants::SERVICE),
            (self.method.is_some(), Wants::METHOD),
            (self.version.is_some(), Wants::VERSION),
            (self.group.is_some(), Wants::GROUP),
            (self.authority.is_some() || self.path.is_some() || !self.query.is_empty(), Wants::TARGET),
            (!self.headers.is_empty(), Wants::FIELDS),
        ];
        let own = parts.iter().filter(|(used, _)| *used).fold(Wants::NONE, |all, (_, part)| all.and(*part));
        let nested = self.all.iter().chain(&self.any).chain(&self.not);
        nested.fold(own, |all, nested| all.and(nested.wants()))
    }

    /// The first part that `head` fails on, by name, or `None` when it passes.
    pub fn fails_on(&self, head: Head<'_>) -> Option<&[u8]> {
        self.fails_behind(head, None)
    }

    /// The same of what a route was not `found` by.
    fn fails_behind(&self, head: Head<'_>, found: Option<Kind>) -> Option<&[u8]> {
        if head.index.opaque && self.wants() != Wants::NONE {
            return Some(b"content");
        }
        // Some parts have two spellings, of which a route may name either.
        let either = |pattern: &Option<Pattern>, slot, other| {
            pattern.as_ref().is_none_or(|pattern| {
                let other = head.slot(other);
                pattern.matches(head.slot(slot)) || (other.is_some() && pattern.matches(other))
            })
        };
        let by = |kinds: &[Kind]| found.is_some_and(|found| kinds.contains(&found));
        if !by(&[Kind::ServiceMethod, Kind::Service])
            && !either(&self.service, Slot::Service, Slot::ServiceKey)
        {
            return Some(b"service");
        }
        if !by(&[Kind::AuthorityPath, Kind::Authority])
            && !either(&self.authority, Slot::Authority, Slot::Host)
        {
            return Some(b"authority");
        }
        let slots: [(&[u8], _, _, _); 4] = [
            (b"path", &self.path, Slot::Path, by(&[Kind::AuthorityPath, Kind::Path])),
            (b"method", &self.method, Slot::Method, by(&[Kind::ServiceMethod])),
            (b"version", &self.version, Slot::Version, false),
            (b"group", &self.group, Slot::Group, false),
        ];
        for (name, pattern, slot, known) in slots {
            if !known && pattern.as_ref().is_some_and(|pattern| !pattern.matches(head.slot(slot))) {
                return Some(name);
            }
        }
        if !self.query_passes(head) {
            return Some(b"query");
        }
        if let Some((name, _)) =
            self.headers.iter().find(|(name, pattern)| !pattern.matches(head.field(name)))
        {
            return Some(name);
        }
        self.fails_on_others(head)
    }

    /// The same of the matches inside it.
    fn fails_on_others(&self, head: Head<'_>) -> Option<&[u8]> {
        if let Some(part) = self.all.iter().find_map(|nested| nested.fails_on(head)) {
            return Some(part);
        }
        if !self.any.is_empty() && self.any.iter().all(|nested| nested.fails_on(head).is_some()) {
            return Some(b"any");
        }
        self.not.iter().any(|nested| nested.fails_on(head).is_none()).then_some(b"not")
    }

    fn query_passes(&self, head: Head<'_>) -> bool {
        if self.query.is_empty() {
            return true;
        }
        let query = head.slot(Slot::Query);
        self.query.iter().all(|(name, pattern)| {
            let value = query.and_then(|query| query::value(query, name));
            pattern.matches(value.as_deref())
        })
    }

    /// By which exact values a call that this match lets pass can be found; empty when only a test can tell.
    fn keys(&self) -> Vec<Key<'_>> {
        let [service, method, authority, path] = [&self.service, &self.method, &self.authority, &self.path]
            .map(|pattern| pattern.as_ref().and_then(Pattern::exact_values));
        match (service, method, authority, path) {
            (Some(services), Some(methods), ..) => pairs(Kind::ServiceMethod, services, methods),
            (Some(services), None, ..) => alone(Kind::Service, services),
            (None, _, Some(authorities), Some(paths)) => pairs(Kind::AuthorityPath, authorities, paths),
            (None, _, None, Some(paths)) => alone(Kind::Path, paths),
            (None, _, Some(authorities), None) => alone(Kind::Authority, authorities),
            (None, _, None, None) => Vec::new(),
        }
    }
}

/// One of the clusters a route may send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The cluster's index in the snapshot.
    pub cluster: u32,
    /// Its share; a route's shares add up to at least 1.
    pub weight: u32,
    /// Which of its endpoints.
    pub lot: Lot,
}

impl Target {
    /// All endpoints of a cluster.
    pub const fn new(cluster: u32, weight: u32) -> Self {
        Self { cluster, weight, lot: Lot::ALL }
    }
}

/// A route, ready to be tried.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Unique within its listener; state is carried over reloads by it.
    pub name: Box<str>,
    /// What a call must look like.
    pub matches: Match,
    /// Where it goes: one target, or several by weight.
    pub targets: Box<[Target]>,
    /// Or the header that names its cluster.
    pub by_header: Option<Box<[u8]>>,
    /// Or the service that the call itself names has a cluster of its own.
    pub by_service: Option<Arc<Demand>>,
    /// The longest a call may take, from its request being complete to its answer being complete.
    pub timeout: Option<Duration>,
    /// How many calls may pass.
    pub limit: Option<Arc<Limit>>,
    /// What may be tried again where it may have been processed; `None`: nothing.
    pub retry: Option<Arc<Retry>>,
    /// What is changed of requests and answers on their way; `None`: nothing.
    pub changes: Option<Arc<Changes>>,
    /// What it says itself, so that its calls go nowhere; `None`: they go to its targets.
    pub response: Option<Arc<Response>>,
}

/// The routes of one listener, indexed.
#[derive(Debug)]
pub struct RouteTable {
    routes: Box<[Route]>,
    /// Routes by what they ask for exactly.
    index: HashTable<Entry>,
    /// Routes that ask for nothing exactly, in order.
    rest: Box<[u32]>,
    hasher: RandomState,
    wants: Wants,
    /// Which kinds the index has, by bit: no other is looked up.
    kinds: u8,
    /// Whether any indexed service is spelled with its version, so that a second lookup can find something.
    spelled: bool,
}

/// What a key of the index is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
enum Kind {
    ServiceMethod,
    Service,
    AuthorityPath,
    Path,
    Authority,
}

impl Kind {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A key of the index; `second` is `None` where its kind has one part (not empty: to compare two slices of no bytes,
/// which lie nowhere, takes some processors longer than all the rest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key<'a> {
    kind: Kind,
    first: &'a [u8],
    second: Option<&'a [u8]>,
}

/// A route that matches, with its index.
type Found<'a> = Option<(u32, &'a Route)>;

#[derive(Debug)]
struct Entry {
    kind: Kind,
    first: Box<[u8]>,
    second: Option<Box<[u8]>>,
    /// Indices into `routes`, ascending.
    candidates: Vec<u32>,
}

impl Entry {
    fn key(&self) -> Key<'_> {
        Key { kind: self.kind, first: &self.first, second: self.second.as_deref() }
    }
}

impl RouteTable {
    /// Routes whose calls are also read for other reasons than to find theirs.
    pub fn wanting(routes: Vec<Route>, wants: Wants) -> Self {
        let mut table = Self::new(routes);
        table.wants = table.wants.and(wants);
        table
    }

    /// Indexes `routes`, which are in the order of the conf.
    pub fn new(routes: Vec<Route>) -> Self {
        let hasher = RandomState::default();
        let mut index = HashTable::with_capacity(routes.len());
        let mut rest = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            let keys = route.matches.keys();
            if keys.is_empty() {
                rest.push(at as u32);
            }
            for key in keys {
                add(&mut index, &hasher, key, at as u32);
            }
        }
        // The caller's timeout bounds every call, so it is always read where it can be.
        let of = |route: &Route| match &route.by_service {
            Some(demand) if demand.by_authority => route.matches.wants().and(Wants::TARGET),
            Some(_) => route.matches.wants().and(Wants::SERVICE).and(Wants::VERSION).and(Wants::GROUP),
            None => route.matches.wants(),
        };
        let wants = routes.iter().fold(Wants::TIMEOUT, |all, route| all.and(of(route)));
        let kinds = index.iter().fold(0, |all, entry: &Entry| all | entry.kind.bit());
        let of_service = Kind::ServiceMethod.bit() | Kind::Service.bit();
        let spelled =
            index.iter().any(|entry| entry.kind.bit() & of_service != 0 && entry.first.contains(&b':'));
        Self { routes: routes.into(), index, rest: rest.into(), hasher, wants, kinds, spelled }
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
        let mut best = None;
        if self.has(Kind::Service) || self.has(Kind::ServiceMethod) {
            let spelled = self.spelled.then(|| head.slot(Slot::ServiceKey)).flatten();
            for service in [head.slot(Slot::Service), spelled].into_iter().flatten() {
                best = self.look_up_both(best, Kind::ServiceMethod, service, Slot::Method, head);
                best = self.look_up(best, Key { kind: Kind::Service, first: service, second: None }, head);
            }
        }
        if let Some(path) = head.slot(Slot::Path) {
            best = self.look_up(best, Key { kind: Kind::Path, first: path, second: None }, head);
        }
        if self.has(Kind::Authority) || self.has(Kind::AuthorityPath) {
            let authority = head.slot(Slot::Authority);
            let host = head.slot(Slot::Host).filter(|host| Some(*host) != authority);
            for authority in [authority, host].into_iter().flatten() {
                best = self.look_up_both(best, Kind::AuthorityPath, authority, Slot::Path, head);
                best =
                    self.look_up(best, Key { kind: Kind::Authority, first: authority, second: None }, head);
            }
        }
        self.better(best, &self.rest, None, head)
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds & kind.bit() != 0
    }

    /// What is found under a key, if it stands before `best`.
    fn look_up<'a>(&'a self, best: Found<'a>, key: Key<'_>, head: Head<'_>) -> Found<'a> {
        if !self.has(key.kind) {
            return best;
        }
        match self.index.find(self.hasher.hash_one(key), |entry| entry.key() == key) {
            Some(entry) => self.better(best, &entry.candidates, Some(key.kind), head),
            None => best,
        }
    }

    /// The same by a key whose second part is a slot; a head without it finds nothing.
    fn look_up_both<'a>(
        &'a self,
        best: Found<'a>,
        kind: Kind,
        first: &[u8],
        slot: Slot,
        head: Head<'_>,
    ) -> Found<'a> {
        match head.slot(slot) {
            Some(second) => self.look_up(best, Key { kind, first, second: Some(second) }, head),
            None => best,
        }
    }

    /// The first of `candidates` (ascending) that matches, if it stands before `best`. `by`: what they were found by.
    fn better<'a>(
        &'a self,
        best: Found<'a>,
        candidates: &[u32],
        by: Option<Kind>,
        head: Head<'_>,
    ) -> Found<'a> {
        let end = best.map_or(u32::MAX, |(at, _)| at);
        for &at in candidates.iter().take_while(|at| **at < end) {
            if let Some(route) = self.routes.get(at as usize)
                && route.matches.fails_behind(head, by).is_none()
            {
                return Some((at, route));
            }
        }
        best
    }
}

fn add(index: &mut HashTable<Entry>, hasher: &RandomState, key: Key<'_>, at: u32) {
    let hash = hasher.hash_one(key);
    let entry = index
        .entry(hash, |entry| entry.key() == key, |entry| hasher.hash_one(entry.key()))
        .or_insert_with(|| Entry {
            kind: key.kind,
            first: key.first.into(),
            second: key.second.map(Into::into),
            candidates: Vec::new(),
        })
        .into_mut();
    // `any: [a, a]` would list the same route twice.
    if entry.candidates.last() != Some(&at) {
        entry.candidates.push(at);
    }
}

fn alone(kind: Kind, values: &[Box<[u8]>]) -> Vec<Key<'_>> {
    values.iter().map(|first| Key { kind, first, second: None }).collect()
}

/// Every first value with every second one.
fn pairs<'a>(kind: Kind, firsts: &'a [Box<[u8]>], seconds: &'a [Box<[u8]>]) -> Vec<Key<'a>> {
    let keys = firsts
        .iter()
        .flat_map(|first| seconds.iter().map(move |second| Key { kind, first, second: Some(second) }));
    keys.collect()
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
            targets: [Target::new(0, 1)].into(),
            timeout: None,
            limit: None,
            ..Route::default()
        }
    }

    fn service(service: &str) -> Match {
        Match { service: Some(Pattern::exact(service)), ..Match::default() }
    }

    fn found(table: &RouteTable, call: &Call) -> Option<String> {
        table.find(call.head()).map(|(_, route)| route.name.to_string())
    }

    #[test]
    fn matches_inside_a_match_are_all_any_and_not() {
        let by = |name: &str, value: &str| Match {
            headers: vec![(name.as_bytes().into(), Pattern::exact(value))],
            ..Match::default()
        };
        let whole = Match {
            all: vec![by("zone", "a")],
            any: vec![by("user", "x"), by("user", "y")],
            not: vec![by("debug", "1")],
            ..Match::default()
        };
        assert!(whole.wants().any(Wants::FIELDS) && !whole.wants().any(Wants::SERVICE));
        for (fields, fails) in [
            (&[("zone", "a"), ("user", "y")][..], None),
            (&[("zone", "b"), ("user", "y")], Some("zone")),
            (&[("zone", "a"), ("user", "z")], Some("any")),
            (&[("zone", "a"), ("user", "x"), ("debug", "1")], Some("not")),
            (&[("zone", "a"), ("user", "x"), ("debug", "0")], None),
        ] {
            let mut message = outrigger_codec::Message::default();
            for (name, value) in fields {
                message.add(name.as_bytes(), value.as_bytes());
            }
            assert_eq!(whole.fails_on(message.head()), fails.map(str::as_bytes), "{fields:?}");
        }
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

    fn http(authority: &str, target: &str) -> Call {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let host = authority.split_once(':').map_or(authority, |(host, _)| host);
        let call = Call { bytes: Vec::new(), index: HeadIndex::default() }
            .slot(Slot::Authority, authority)
            .slot(Slot::Host, host)
            .slot(Slot::Path, path)
            .slot(Slot::Method, "GET");
        match query {
            Some(query) => call.slot(Slot::Query, query),
            None => call,
        }
    }

    fn path(path: &str) -> Match {
        Match { path: Some(Pattern::exact(path)), ..Match::default() }
    }

    #[test]
    fn an_authority_matches_with_its_port_or_without() {
        let authority = |authority| Some(Pattern::exact(authority));
        let table = RouteTable::new(vec![
            route("port and path", Match { authority: authority("a:81"), ..path("/x") }),
            route("host and path", Match { authority: authority("a"), ..path("/y") }),
            route("port", Match { authority: authority("a:81"), ..Match::default() }),
            route("host", Match { authority: authority("a"), ..Match::default() }),
            route("below", Match { authority: Some(Pattern::Prefix((*b"b").into())), ..Match::default() }),
        ]);
        assert_eq!(found(&table, &http("a:81", "/x")).unwrap(), "port and path");
        assert_eq!(found(&table, &http("a:82", "/y")).unwrap(), "host and path");
        assert_eq!(found(&table, &http("a", "/y?z")).unwrap(), "host and path");
        assert_eq!(found(&table, &http("a:81", "/z")).unwrap(), "port");
        assert_eq!(found(&table, &http("a:82", "/x")).unwrap(), "host");
        assert_eq!(found(&table, &http("bc", "/")).unwrap(), "below");
        assert_eq!(found(&table, &http("c", "/x")), None);
        assert_eq!(found(&table, &Call::new("a", "/x")), None);
    }

    #[test]
    fn paths_exact_and_otherwise_are_tried_in_the_order_of_the_conf() {
        let template = |source| Some(Pattern::template(source).unwrap());
        let table = RouteTable::new(vec![
            route("me", path("/users/me")),
            route("user", Match { path: template("/users/{id}"), ..Match::default() }),
            route("never", path("/users/you")),
            route("put", Match { method: Some(Pattern::exact("PUT")), ..path("/x") }),
            route("x", path("/x")),
        ]);
        assert_eq!(found(&table, &http("a", "/users/me")).unwrap(), "me");
        assert_eq!(found(&table, &http("a", "/users/you")).unwrap(), "user");
        assert_eq!(found(&table, &http("a", "/x?y=/users/me")).unwrap(), "x");
        assert_eq!(found(&table, &http("a", "/users/")), None);
        assert_eq!(table.wants(), Wants::TIMEOUT.and(Wants::TARGET).and(Wants::METHOD));
    }

    #[test]
    fn a_query_is_compared_by_name_and_as_it_is_meant() {
        let query = vec![
            ((*b"version").into(), Pattern::exact("2 a")),
            ((*b"debug").into(), Pattern::Present(false)),
        ];
        let table = RouteTable::new(vec![route("two", Match { query, ..Match::default() })]);
        assert!(table.wants().any(Wants::TARGET));
        assert_eq!(found(&table, &http("a", "/?x&version=2+a")).unwrap(), "two");
        assert_eq!(found(&table, &http("a", "/?%76ersion=2%20a&version=1")).unwrap(), "two");
        assert_eq!(found(&table, &http("a", "/?version=1&version=2+a")), None);
        assert_eq!(found(&table, &http("a", "/?version=2+a&debug")), None);
        assert_eq!(found(&table, &http("a", "/")), None);
    }

    #[test]
    fn each_part_says_its_name_when_it_fails() {
        let matches = Match {
            authority: Some(Pattern::exact("a")),
            query: vec![((*b"v").into(), Pattern::exact("1"))],
            ..path("/x")
        };
        assert_eq!(matches.fails_on(http("b", "/x?v=1").head()), Some(&b"authority"[..]));
        assert_eq!(matches.fails_on(http("a:1", "/y?v=1").head()), Some(&b"path"[..]));
        assert_eq!(matches.fails_on(http("a", "/x?v=2").head()), Some(&b"query"[..]));
        assert_eq!(matches.fails_on(http("a", "/x?v=1").head()), None);
        assert_eq!(matches.fails_on(Call::new("s", "m").head()), Some(&b"authority"[..]));
    }

    #[test]
    fn ten_thousand_exact_paths_are_all_found_and_none_is_walked() {
        let routes = (0..10_000).map(|at| match at % 3 {
            0 => path(&format!("/{at}")),
            1 => Match { authority: Some(Pattern::exact("a")), ..path(&format!("/{at}")) },
            _ => Match { authority: Some(Pattern::exact(&format!("h{at}"))), ..Match::default() },
        });
        let routes: Vec<Route> = routes.enumerate().map(|(at, m)| route(&at.to_string(), m)).collect();
        let table = RouteTable::new(routes);
        assert!(table.rest.is_empty());
        assert_eq!(table.index.len(), 10_000);
        for at in (0..10_000).step_by(7) {
            let call =
                if at % 3 == 2 { http(&format!("h{at}:8080"), "/") } else { http("a:81", &format!("/{at}")) };
            assert_eq!(found(&table, &call).unwrap(), at.to_string());
        }
    }

    #[test]
    fn the_index_agrees_with_trying_one_route_after_the_other() {
        // A small deterministic generator: every combination of kinds over a small alphabet, many orders.
        let mut seed = 7u64;
        let mut next = move |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let names = ["a", "b", "ab", "a:1"];
        let paths = ["/a", "/b", "/a/b", "/a?b", "/b?b=1"];
        let hosts = ["a", "a:1", "b", "b:1"];
        let mut hits = 0;
        for _ in 0..400 {
            let mut pattern = |names: &[&str], from: u64| {
                let name = |next: &mut dyn FnMut(u64) -> u64| -> Box<[u8]> {
                    let name = names[next(names.len() as u64) as usize];
                    name.split('?').next().unwrap_or_default().as_bytes().into()
                };
                match next(from) {
                    0 => Some(Pattern::Exact(name(&mut next))),
                    1 => Some(Pattern::Any([name(&mut next), name(&mut next)].into())),
                    2 => Some(Pattern::Prefix(name(&mut next))),
                    3 => Some(Pattern::Present(next(2) == 0)),
                    4 => Some(Pattern::template(["/{x}", "/a/{x*}"][next(2) as usize]).unwrap()),
                    _ => None,
                }
            };
            let routes: Vec<Route> = (0..12)
                .map(|at| {
                    let matches = Match {
                        service: pattern(&names, 12),
                        method: pattern(&names, 20),
                        authority: pattern(&hosts, 9),
                        path: pattern(&paths, 8),
                        query: pattern(&["", "1"], 20)
                            .map(|test| ((*b"b").into(), test))
                            .into_iter()
                            .collect(),
                        ..Match::default()
                    };
                    route(&at.to_string(), matches)
                })
                .collect();
            let table = RouteTable::new(routes.clone());
            let rpc = names.iter().flat_map(|service| {
                names.map(|method| {
                    let key = format!("{service}:1");
                    Call::new(service, method).slot(Slot::ServiceKey, &key)
                })
            });
            let web = hosts.iter().flat_map(|host| paths.map(|path| http(host, path)));
            for call in rpc.chain(web) {
                let plain = routes.iter().find(|route| route.matches.fails_on(call.head()).is_none());
                assert_eq!(found(&table, &call), plain.map(|route| route.name.to_string()));
                hits += usize::from(plain.is_some());
            }
        }
        assert!(hits > 3_000, "{hits}: too few calls were found a route");
    }
}
