//! Parts of a cluster's endpoints that a call may be meant for: by what the endpoints say of themselves, by a tag that the
//! call carries, and by how far away they are.
//!
//! Parts are made with the snapshot, off the workers' threads, so that a call costs at most one lookup more. Modelled on
//! Dubbo's `TagRouter`, Envoy's subsets and its priority levels with an overprovisioning factor. It must never send a call
//! to an endpoint of another environment or, where no fallback is allowed, of another subset.

use std::{collections::BTreeMap, hash::BuildHasher, sync::LazyLock};

use foldhash::quality::RandomState;
use hashbrown::HashMap;
use outrigger_codec::Head;

use crate::{Balance, Endpoint, Tick, balance::Weights, hash::Hashed, health::Health};

/// What an endpoint says of itself, by name.
pub type Metadata = BTreeMap<Box<str>, Box<str>>;

/// What tells an endpoint's zone.
pub const ZONE: &str = "zone";
/// What tells an endpoint's environment.
pub const ENVIRONMENT: &str = "environment";

/// How the endpoints of a cluster are told apart. Empty: they are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Division {
    /// The environments whose endpoints are used, in order: those of the first that has any. Endpoints that name none
    /// belong to each. Empty: all are used.
    pub environments: Vec<Box<str>>,
    /// Only endpoints that say all of this are in the cluster.
    pub only: Vec<(Box<str>, Box<str>)>,
    /// Subsets that routes ask for.
    pub subsets: Vec<Selector>,
    /// The tag by which calls find theirs.
    pub tags: Option<Tags>,
    /// Which endpoints are near.
    pub zones: Option<Zones>,
}

/// A subset that routes ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// What its endpoints say of themselves; all of it.
    pub want: Vec<(Box<str>, Box<str>)>,
    /// Whether any endpoint will do where none is in it.
    pub fallback: bool,
}

/// The tag by which calls find their endpoints: those with it go to endpoints with the same, those without to endpoints
/// without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    /// The headers that may carry it; the first that is there counts.
    pub headers: Vec<Box<[u8]>>,
    /// What endpoints call it.
    pub metadata: Box<str>,
    /// Whether endpoints without a tag take the calls with one that no endpoint has.
    pub fallback: bool,
    /// The header that says `true` where they must not.
    pub force: Option<Box<[u8]>>,
}

/// Which endpoints are near: those of the own zone, then those of near ones, then all that are not among the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    /// The own zone.
    pub own: Box<str>,
    /// Zones that come after it.
    pub near: Vec<Box<str>>,
    /// Zones that come last.
    pub last: Vec<Box<str>>,
    /// When less than this share, in percent, of the endpoints of a level is usable, the next level takes over as much as is
    /// missing.
    pub spill: u32,
}

/// How many levels of distance there are.
pub(crate) const LEVELS: usize = 4;

impl Zones {
    /// How far away an endpoint is, as a level.
    fn level(&self, endpoint: &Endpoint) -> usize {
        let among = |zones: &[Box<str>], zone: &str| zones.iter().any(|known| **known == *zone);
        match endpoint.says(ZONE) {
            Some(zone) if *zone == *self.own => 0,
            Some(zone) if among(&self.near, zone) => 1,
            Some(zone) if among(&self.last, zone) => 3,
            _ => 2,
        }
    }
}

/// Which part of a cluster a call is meant for. Means the same in each snapshot of a process, so that a call that is tried
/// again stays in its part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lot(u64);

/// Callers write tags: with a seed that nobody knows, none can be made that is taken for another.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

impl Lot {
    /// The whole cluster.
    pub const ALL: Self = Self(0);

    /// The endpoints that a selector wants.
    pub fn of(selector: &Selector) -> Self {
        selector.want.iter().fold(Self(u64::from(selector.fallback) | 2), |lot, (name, value)| {
            lot.and(name.as_bytes()).and(value.as_bytes())
        })
    }

    fn and(self, bytes: &[u8]) -> Self {
        Self(SEED.hash_one((self.0, bytes)) | 1)
    }

    fn tagged(self, tag: &[u8]) -> Self {
        self.and(b"tag").and(tag)
    }

    fn untagged(self) -> Self {
        self.and(b"untagged")
    }
}

/// Some of a cluster's endpoints, and what picking among them takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Their positions in the cluster; `None`: all.
    members: Option<Box<[u32]>>,
    /// How many there are.
    pub size: usize,
    /// What picks by weight need.
    pub weights: Weights,
    /// Endpoints by key, for picks by one; positions in this part.
    pub hashed: Hashed,
    /// The same endpoints by distance, nearest first: places of parts; empty where distance makes no difference.
    pub levels: Box<[u32]>,
}

impl Part {
    fn new(endpoints: &[Endpoint], members: Option<Vec<u32>>, balance: Balance) -> Self {
        let of = |at: &u32| endpoints.get(*at as usize);
        let these: Vec<&Endpoint> = match &members {
            Some(members) => members.iter().filter_map(of).collect(),
            None => endpoints.iter().collect(),
        };
        let hashed = match (balance, &members) {
            // One of one needs no table.
            _ if these.len() < 2 => Hashed::None,
            (Balance::Maglev, None) => Hashed::maglev(&these),
            // A table is as large for two endpoints as for hundreds, and there may be a part for each two of thousands.
            (Balance::RingHash | Balance::Maglev, _) => Hashed::ring(&these),
            _ => Hashed::None,
        };
        Self {
            size: these.len(),
            weights: Weights::new(&these),
            members: members.map(Into::into),
            hashed,
            levels: Box::default(),
        }
    }

    /// Whether these are all, and alike near.
    pub(crate) fn is_whole(&self) -> bool {
        self.members.is_none() && self.levels.is_empty()
    }

    /// The position in the cluster of this part's endpoint at `at`.
    pub(crate) fn position(&self, at: usize) -> usize {
        match &self.members {
            None => at,
            Some(members) => members.get(at).map_or(usize::MAX, |at| *at as usize),
        }
    }

    /// How many of these can be used now.
    fn usable(&self, healths: &[std::sync::Arc<Health>], now: Tick) -> usize {
        (0..self.size)
            .filter(|at| healths.get(self.position(*at)).is_some_and(|health| health.is_usable(now)))
            .count()
    }
}

/// The parts of a cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    list: Box<[Part]>,
    by_lot: HashMap<Lot, u32, RandomState>,
}

impl Parts {
    /// Divides endpoints.
    pub(crate) fn new(endpoints: &[Endpoint], division: &Division, balance: Balance) -> Self {
        let mut making =
            Making { endpoints, division, balance, list: Vec::new(), by_lot: HashMap::default() };
        making.add(Lot::ALL, None);
        for selector in &division.subsets {
            let is_in = |(at, endpoint): (u32, &Endpoint)| endpoint.says_all(&selector.want).then_some(at);
            let found: Vec<u32> = (0..).zip(endpoints).filter_map(is_in).collect();
            let found = if found.is_empty() && selector.fallback { None } else { Some(found) };
            making.add(Lot::of(selector), found);
        }
        Self { list: making.list.into(), by_lot: making.by_lot }
    }

    /// The part that a call is meant for, with its place.
    pub(crate) fn find(&self, lot: Lot) -> Option<(u32, &Part)> {
        let at = if lot == Lot::ALL { 0 } else { *self.by_lot.get(&lot)? };
        Some((at, self.get(at)?))
    }

    /// The part at a place.
    pub(crate) fn get(&self, at: u32) -> Option<&Part> {
        self.list.get(at as usize)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether calls are meant for some endpoints and not for others.
    pub(crate) fn differ(&self) -> bool {
        !self.by_lot.is_empty()
    }

    /// The part of a call that a route sends to `lot`, by the tag that it carries; `None`: nobody has it.
    pub(crate) fn tagged(&self, lot: Lot, tags: &Tags, head: Head<'_>) -> Option<Lot> {
        let tag = tags.headers.iter().find_map(|name| head.field(name)).filter(|tag| !tag.is_empty());
        let Some(tag) = tag else { return Some(lot.untagged()) };
        let theirs = lot.tagged(tag);
        if self.by_lot.contains_key(&theirs) {
            return Some(theirs);
        }
        let forced =
            tags.force.as_ref().and_then(|name| head.field(name)).is_some_and(|value| value == b"true");
        (tags.fallback && !forced).then(|| lot.untagged())
    }
}

impl Division {
    /// Leaves only the endpoints that are used at all.
    pub(crate) fn select(&self, endpoints: &mut Vec<Endpoint>) {
        if !self.only.is_empty() {
            endpoints.retain(|endpoint| endpoint.says_all(&self.only));
        }
        if self.environments.is_empty() {
            return;
        }
        let is_of = |endpoint: &Endpoint, environment: &str| {
            endpoint.says(ENVIRONMENT).is_none_or(|said| said == environment)
        };
        let found = self
            .environments
            .iter()
            .find(|environment| endpoints.iter().any(|endpoint| is_of(endpoint, environment)));
        match found {
            Some(environment) => endpoints.retain(|endpoint| is_of(endpoint, environment)),
            None => endpoints.clear(),
        }
    }
}

struct Making<'a> {
    endpoints: &'a [Endpoint],
    division: &'a Division,
    balance: Balance,
    list: Vec<Part>,
    by_lot: HashMap<Lot, u32, RandomState>,
}

impl Making<'_> {
    /// Adds a part for `lot`, its levels, and those of the tags in it.
    fn add(&mut self, lot: Lot, members: Option<Vec<u32>>) {
        let tags = self.division.tags.as_ref();
        let by_tag = tags.map(|tags| self.by_tag(members.as_deref(), &tags.metadata));
        self.add_one(lot, members);
        for (tag, members) in by_tag.into_iter().flatten() {
            let lot = tag.map_or(lot.untagged(), |tag| lot.tagged(tag.as_bytes()));
            self.add_one(lot, Some(members));
        }
    }

    fn all_of(&self, members: Option<&[u32]>) -> Vec<u32> {
        members.map_or_else(|| (0..self.endpoints.len() as u32).collect(), <[u32]>::to_vec)
    }

    fn by_tag(&self, members: Option<&[u32]>, name: &str) -> BTreeMap<Option<Box<str>>, Vec<u32>> {
        let mut by_tag: BTreeMap<Option<Box<str>>, Vec<u32>> = BTreeMap::new();
        for at in self.all_of(members) {
            let tag = self.endpoints.get(at as usize).and_then(|endpoint| endpoint.says(name));
            by_tag.entry(tag.filter(|tag| !tag.is_empty()).map(Into::into)).or_default().push(at);
        }
        by_tag
    }

    fn add_one(&mut self, lot: Lot, members: Option<Vec<u32>>) {
        let place = self.list.len();
        let levels = self.division.zones.as_ref().map(|zones| self.by_level(zones, members.as_deref()));
        self.list.push(Part::new(self.endpoints, members, self.balance));
        if lot != Lot::ALL {
            self.by_lot.insert(lot, place as u32);
        }
        let levels: Vec<Vec<u32>> =
            levels.into_iter().flatten().filter(|members| !members.is_empty()).collect();
        if levels.len() < 2 {
            return;
        }
        let places = levels.into_iter().map(|members| {
            self.list.push(Part::new(self.endpoints, Some(members), self.balance));
            self.list.len().saturating_sub(1) as u32
        });
        let places: Box<[u32]> = places.collect();
        if let Some(part) = self.list.get_mut(place) {
            part.levels = places;
        }
    }

    fn by_level(&self, zones: &Zones, members: Option<&[u32]>) -> [Vec<u32>; LEVELS] {
        let mut levels: [Vec<u32>; LEVELS] = Default::default();
        for at in self.all_of(members) {
            let level = self.endpoints.get(at as usize).map(|endpoint| zones.level(endpoint));
            if let Some(level) = level.and_then(|level| levels.get_mut(level)) {
                level.push(at);
            }
        }
        levels
    }
}

/// How a part's endpoints do, as far as it decides who gets calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// So few are usable that all are used.
    pub panics: bool,
    /// Up to which of a thousand calls each level takes.
    pub(crate) ends: [u16; LEVELS],
}

impl Standing {
    /// All are well: the nearest take every call.
    pub(crate) const WELL: Self = Self { panics: false, ends: [1_000; LEVELS] };

    /// How the endpoints of a part do. Looks at each of them.
    pub(crate) fn of(
        parts: &Parts,
        part: &Part,
        healths: &[std::sync::Arc<Health>],
        (spill, panic): (u32, u32),
        now: Tick,
    ) -> Self {
        let few = |usable: usize| {
            usable < part.size
                && (usable as u64).saturating_mul(100) < (part.size as u64).saturating_mul(panic.into())
        };
        if part.levels.is_empty() {
            return Self { panics: few(part.usable(healths, now)), ..Self::WELL };
        }
        let (mut ends, mut sum, mut usable) = ([0u16; LEVELS], 0u64, 0usize);
        for (end, level) in ends.iter_mut().zip(&part.levels) {
            let Some(level) = parts.get(*level) else { continue };
            let well = level.usable(healths, now);
            usable = usable.saturating_add(well);
            let needed = (level.size as u64).saturating_mul(u64::from(spill.max(1)));
            let can = (well as u64).saturating_mul(100_000).checked_div(needed).unwrap_or(0).min(1_000);
            sum = sum.saturating_add(can).min(1_000);
            *end = sum as u16;
        }
        if sum >= 1_000 {
            return Self { panics: false, ends };
        }
        if sum == 0 || few(usable) {
            return Self { panics: true, ..Self::WELL };
        }
        // All of them together are too few, but not hopelessly: each takes its part of everything.
        let scaled = |end: u16| u64::from(end).saturating_mul(1_000).checked_div(sum).unwrap_or(1_000) as u16;
        Self { panics: false, ends: ends.map(scaled) }
    }

    /// The level that takes a call, by a number below a thousand.
    pub(crate) fn level(&self, ball: u16) -> usize {
        self.ends.iter().position(|end| ball < *end).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
