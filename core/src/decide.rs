//! The whole policy order, on one screen: route → limit → pick → deadline.
//!
//! Synchronous, not generic, not dyn, allocates nothing. Each [`Plan`] is consumed by exactly one `settle`.

use std::{sync::Arc, time::Duration};

use outrigger_codec::{Changes, Head, Refusal, Response, Slot};

use crate::{
    EndpointSlot, ListenerId, Local, Lot, Retry, Route, RouteSlot, RouteTable, Snapshot, Target, Tick, Tried,
    balance,
    demand::{self, Demanded},
};

/// Where one call goes and how long it may take. Neither `Copy` nor `Clone`: settled once, by value.
#[derive(Debug)]
#[must_use = "each plan is ended by exactly one settle"]
pub struct Plan {
    /// The route that matched.
    pub route: RouteSlot,
    /// The endpoint that was picked.
    pub endpoint: EndpointSlot,
    /// When the call began.
    pub started: Tick,
    /// When it went to that endpoint.
    pub placed: Tick,
    /// When its answer must be complete; [`Tick::NEVER`] when nobody set a timeout.
    pub deadline: Tick,
    /// When the caller itself gives up, whether its request is complete or not.
    pub caller_deadline: Tick,
    /// The endpoints of its cluster that it is meant for.
    pub lot: Lot,
    /// The endpoints that it was at before.
    pub tried: Tried,
    /// What may be tried again where it may have been processed; `None`: nothing.
    pub retry: Option<Arc<Retry>>,
    /// What is changed of its request and its answer; `None`: nothing.
    pub changes: Option<Arc<Changes>>,
}

impl Plan {
    /// The request is complete only now, some time after its head was: the route's timeout runs from here.
    pub fn complete(&mut self, now: Tick) {
        self.deadline = self.deadline.after(now.since(self.started)).min(self.caller_deadline);
    }

    /// The same where anybody set a time.
    pub fn told_ms(&self, now: Tick) -> Option<u32> {
        (self.deadline != Tick::NEVER).then(|| self.left_ms(now))
    }

    /// What is left of its time in whole milliseconds, rounded up, at least one: what the next hop is told. What was spent of
    /// the first of them is no reason to tell it anything else than its caller did.
    pub fn left_ms(&self, now: Tick) -> u32 {
        let left = self.deadline.since(now).as_nanos().div_ceil(1_000_000);
        u32::try_from(left).unwrap_or(u32::MAX).max(1)
    }
}

/// A call that goes nowhere; already counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// The route that matched, or the listener's slot for calls without a route.
    pub route: Option<RouteSlot>,
    /// How long to wait before it may pass, where a limit knows.
    pub wait: Option<Duration>,
    /// What its route says instead, to callers of HTTP.
    pub response: Option<Arc<Response>>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, route: None, wait: None, response: None }
    }
}

/// Decides one call that came in on `listener`. `arrived` is when its first byte came, `now` when it was complete.
pub fn decide(
    snapshot: &Snapshot,
    listener: ListenerId,
    local: &mut Local,
    head: Head<'_>,
    arrived: Tick,
    now: Tick,
) -> Result<Plan, Refused> {
    let found = snapshot
        .listener(listener)
        .map(|listener| &listener.routes)
        .and_then(|routes| RouteTable::find(routes, head));
    let Some((at, route)) = found else { return Err(refuse(local, listener, None, Refusal::NoRoute)) };
    if let Some(Err(wait)) = route.limit.as_ref().map(|limit| limit.admit(now)) {
        return Err(Refused { wait: Some(wait), ..refuse(local, listener, Some(at), Refusal::Limited) });
    }
    if let Some(response) = &route.response {
        return Err(respond(local, (listener, at), response, head));
    }
    let picked = match aim(snapshot, local, route, head) {
        Ok(Aim::Waits(endpoint)) => Some((endpoint, Lot::ALL)),
        Ok(Aim::Target(target)) => target.and_then(|target| {
            let cluster = snapshot.cluster(target.cluster)?;
            let lot = cluster.lot(target.lot, head)?;
            let key = cluster.settings.hash.as_ref().and_then(|by| by.key(head));
            cluster.use_at(now);
            Some((balance::pick(local, cluster, (target.cluster, lot), key, Tried::default(), now)?, lot))
        }),
        Err(why) => return Err(refuse(local, listener, Some(at), why)),
    };
    let (Some((endpoint, lot)), Some(slot)) = (picked, local.route_slot(listener, Some(at))) else {
        return Err(refuse(local, listener, Some(at), Refusal::NoEndpoint));
    };
    local.begin(slot, endpoint, now);
    if route.retry.is_some()
        && let Some(budget) = local.budget(endpoint)
    {
        budget.pay_in();
    }
    let caller_deadline = deadline(None, head.index.timeout_ms, arrived, now);
    let deadline = deadline(route.timeout, None, arrived, now).min(caller_deadline);
    Ok(Plan {
        route: slot,
        endpoint,
        started: now,
        placed: now,
        deadline,
        caller_deadline,
        lot,
        tried: Tried::default(),
        retry: route.retry.clone(),
        changes: route.changes.clone(),
    })
}

/// What a call is meant for.
enum Aim {
    /// A cluster; `None`: there is none.
    Target(Option<Target>),
    /// Something that has still to be found, for which it waits here.
    Waits(EndpointSlot),
}

/// What a call of a route is meant for.
fn aim(snapshot: &Snapshot, local: &mut Local, route: &Route, head: Head<'_>) -> Result<Aim, Refusal> {
    if let Some(demand) = &route.by_service {
        return match demand::place(snapshot, local, demand, head) {
            Demanded::Cluster(cluster) => Ok(Aim::Target(Some(Target::new(cluster, 1)))),
            Demanded::Waits(endpoint) => Ok(Aim::Waits(endpoint)),
            Demanded::TooMany => Err(Refusal::Overloaded),
            Demanded::Nameless => Err(Refusal::NoRoute),
        };
    }
    match &route.by_header {
        None => Ok(Aim::Target(draw(local, &route.targets))),
        Some(name) => {
            named(snapshot, head, name).map(|target| Aim::Target(Some(target))).ok_or(Refusal::NoRoute)
        }
    }
}

/// The cluster that a header names.
fn named(snapshot: &Snapshot, head: Head<'_>, name: &[u8]) -> Option<Target> {
    let cluster = std::str::from_utf8(head.field(name)?).ok()?;
    Some(Target::new(snapshot.cluster_named(cluster)?, 1))
}

/// One of a route's targets, by weight.
fn draw(local: &mut Local, targets: &[Target]) -> Option<Target> {
    if let [only] = targets {
        return Some(*only);
    }
    let total = targets.iter().fold(0u64, |sum, target| sum.saturating_add(u64::from(target.weight)));
    let mut ball = local.random(total);
    targets.iter().copied().find(|target| {
        let weight = u64::from(target.weight);
        let hit = ball < weight;
        ball = ball.saturating_sub(weight);
        hit
    })
}

/// The smaller of the route's timeout, from the request being complete, and the caller's own, from its arrival.
fn deadline(route: Option<Duration>, caller_ms: Option<u32>, arrived: Tick, now: Tick) -> Tick {
    let ours = route.map_or(Tick::NEVER, |timeout| now.after(timeout));
    let theirs = caller_ms.map_or(Tick::NEVER, |ms| arrived.after(Duration::from_millis(u64::from(ms))));
    ours.min(theirs)
}

fn refuse(local: &mut Local, listener: ListenerId, route: Option<u32>, why: Refusal) -> Refused {
    let route = local.route_slot(listener, route);
    if let Some(slot) = route {
        local.count_refusal(slot, why);
    }
    Refused { route, ..Refused::from(why) }
}

/// A route that answers itself answers in HTTP: for a call of any other protocol it leads nowhere.
fn respond(
    local: &mut Local,
    (listener, at): (ListenerId, u32),
    response: &Arc<Response>,
    head: Head<'_>,
) -> Refused {
    if head.slot(Slot::Target).is_none() {
        return refuse(local, listener, Some(at), Refusal::NoRoute);
    }
    let route = local.route_slot(listener, Some(at));
    if let Some(slot) = route {
        local.count_response(slot, response.outcome());
    }
    Refused { route, response: Some(response.clone()), ..Refused::from(Refusal::NoRoute) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)] // tests fail by panicking
mod tests {
    use std::num::NonZeroU32;

    use outrigger_codec::{HeadIndex, Outcome, Span};

    use super::*;
    use crate::{Balance, Cluster, ClusterSettings, End, Endpoint, Limit, Listener, Match, Pattern, settle};

    fn cluster(name: &str, endpoints: &[&str]) -> Cluster {
        let endpoints = endpoints.iter().map(|a| Endpoint::new(a, 1)).collect();
        Cluster::new(name, Balance::RoundRobin, ClusterSettings::default(), endpoints)
    }

    fn route(service: &str, targets: &[(u32, u32)]) -> Route {
        Route {
            name: service.into(),
            matches: Match { service: Some(Pattern::exact(service)), ..Match::default() },
            targets: targets.iter().map(|(cluster, weight)| Target::new(*cluster, *weight)).collect(),
            timeout: Some(Duration::from_secs(2)),
            limit: None,
            ..Route::default()
        }
    }

    fn world() -> (Snapshot, Local) {
        let limited = Route {
            limit: Some(Arc::new(
                Limit::new(NonZeroU32::MIN, Duration::from_secs(1), NonZeroU32::MIN).unwrap(),
            )),
            ..route("limited", &[(0, 1)])
        };
        let routes = vec![
            route("echo", &[(0, 1)]),
            limited,
            route("empty", &[(1, 1)]),
            route("split", &[(0, 3), (2, 1)]),
        ];
        let listener = Listener { name: "egress".into(), routes: RouteTable::new(routes).into() };
        let clusters = vec![cluster("one", &["a:1"]), cluster("none", &[]), cluster("two", &["b:1"])];
        let snapshot = Snapshot::new(1, vec![listener], clusters);
        let mut local = Local::new(3);
        local.reconcile(&snapshot);
        (snapshot, local)
    }

    fn call(
        world: &mut (Snapshot, Local),
        service: &str,
        timeout_ms: Option<u32>,
        now: Tick,
    ) -> Result<Plan, Refused> {
        let mut index = HeadIndex::default();
        index.set(Slot::Service, Span::new(0, service.len()));
        index.timeout_ms = timeout_ms;
        decide(
            &world.0,
            ListenerId(0),
            &mut world.1,
            Head { bytes: service.as_bytes(), index: &index },
            now,
            now,
        )
    }

    #[test]
    fn each_step_refuses_in_its_own_words_and_is_counted() {
        let mut world = world();
        let now = Tick(1_000_000_000);
        assert_eq!(call(&mut world, "nobody", None, now).unwrap_err().why, Refusal::NoRoute);
        assert_eq!(call(&mut world, "empty", None, now).unwrap_err().why, Refusal::NoEndpoint);
        let plan = call(&mut world, "limited", None, now).unwrap();
        assert_eq!(call(&mut world, "limited", None, now).unwrap_err().why, Refusal::Limited);
        settle(&mut world.1, plan, End::Answered(Outcome::Ok), now);
        let refused: u64 = world.1.routes().map(|route| route.tally.refused.iter().sum::<u64>()).sum();
        let calls: u64 = world.1.routes().map(|route| route.tally.calls()).sum();
        assert_eq!((refused, calls), (3, 4));
    }

    #[test]
    fn a_header_may_name_the_cluster() {
        let (mut snapshot, mut local) = world();
        let mut by_header = route("any", &[]);
        (by_header.matches, by_header.by_header) = (Match::default(), Some(b"to"[..].into()));
        let listener = Listener { name: "egress".into(), routes: RouteTable::new(vec![by_header]).into() };
        let clusters = vec![cluster("one", &["a:1"]), cluster("two", &["b:1"])];
        snapshot = Snapshot::new(snapshot.revision + 1, vec![listener], clusters);
        local.reconcile(&snapshot);
        let mut ask = |to: Option<&str>| {
            let mut message = outrigger_codec::Message::default();
            if let Some(to) = to {
                message.add(b"to", to.as_bytes());
            }
            let now = Tick(1_000);
            let plan = decide(&snapshot, ListenerId(0), &mut local, message.head(), now, now);
            plan.map(|plan| {
                let cluster = local.endpoint(plan.endpoint).unwrap().cluster.clone();
                settle(&mut local, plan, End::Sent, now);
                cluster
            })
        };
        assert_eq!(ask(Some("two")).unwrap(), "two".into());
        for nobody in [Some("three"), Some(""), None] {
            assert_eq!(ask(nobody).unwrap_err().why, Refusal::NoRoute, "{nobody:?}");
        }
    }

    #[test]
    fn a_call_may_name_its_service_and_waits_until_it_is_known() {
        let demand = Arc::new(crate::Demand { prefix: "zk/".into(), by_authority: false });
        let by_service = Route { by_service: Some(demand), matches: Match::default(), ..route("any", &[]) };
        let listener = |by_service: &Route| Listener {
            name: "egress".into(),
            routes: RouteTable::new(vec![by_service.clone()]).into(),
        };
        let mut world = (Snapshot::new(1, vec![listener(&by_service)], Vec::new()), Local::new(3));
        world.1.reconcile(&world.0);
        let now = Tick(1_000);
        let first = call(&mut world, "a.Echo", None, now).unwrap();
        let second = call(&mut world, "a.Echo", None, now).unwrap();
        assert_eq!(first.endpoint, second.endpoint);
        assert!(world.1.is_awaited(first.endpoint) && world.1.has_untold());
        let untold = world.1.untold();
        assert_eq!((untold.len(), &*untold[0].cluster, &*untold[0].service), (1, "zk/a.Echo", "a.Echo"));
        assert!(!world.1.has_untold(), "it is told once");
        for nameless in ["", "a/../b"] {
            assert_eq!(call(&mut world, nameless, None, now).unwrap_err().why, Refusal::NoRoute);
        }
        // A snapshot that does not have it leaves it waiting; one that has it does not.
        world.1.reconcile(&world.0);
        assert!(world.1.is_awaited(first.endpoint));
        world.0 = Snapshot::new(2, vec![listener(&by_service)], vec![cluster("zk/a.Echo", &["a:1"])]);
        world.1.reconcile(&world.0);
        assert!(!world.1.is_awaited(first.endpoint));
        let to = crate::retry::place(&mut world.1, &world.0, &first, false, now).unwrap();
        assert_eq!(&*world.1.endpoint(to).unwrap().address, "a:1");
        settle(&mut world.1, first, End::Abandoned, now);
        settle(&mut world.1, second, End::Abandoned, now);
        let known = call(&mut world, "a.Echo", None, now).unwrap();
        assert_eq!(known.endpoint, to);
        settle(&mut world.1, known, End::Sent, now);
        world.1.reconcile(&world.0);
        assert_eq!(world.1.endpoints().count(), 1, "nothing is left of where calls waited");
    }

    #[test]
    fn so_many_services_are_awaited_at_once_and_no_more() {
        let demand = Arc::new(crate::Demand { prefix: "zk/".into(), by_authority: false });
        let by_service = Route { by_service: Some(demand), matches: Match::default(), ..route("any", &[]) };
        let listener = Listener { name: "egress".into(), routes: RouteTable::new(vec![by_service]).into() };
        let mut world = (Snapshot::new(1, vec![listener], Vec::new()), Local::new(3));
        world.1.reconcile(&world.0);
        let mut waiting = 0;
        for number in 0..5_000 {
            match call(&mut world, &format!("s{number}"), None, Tick(1)) {
                Ok(plan) => {
                    waiting += 1;
                    settle(&mut world.1, plan, End::Abandoned, Tick(1));
                }
                Err(refused) => assert_eq!(refused.why, Refusal::Overloaded),
            }
        }
        assert_eq!((waiting, world.1.untold().len()), (1_024, 1_024));
    }

    #[test]
    fn the_smaller_timeout_wins_and_none_means_none() {
        let mut world = world();
        let now = Tick(1_000_000_000);
        for (caller, wait_ms) in [(None, 2_000), (Some(300), 300), (Some(5_000), 2_000)] {
            let plan = call(&mut world, "echo", caller, now).unwrap();
            assert_eq!(plan.deadline, now.after(Duration::from_millis(wait_ms)));
            settle(&mut world.1, plan, End::Sent, now);
        }
        assert_eq!(deadline(None, None, now, now), Tick::NEVER);
        assert_eq!(deadline(None, Some(10), Tick(5), now), Tick(5).after(Duration::from_millis(10)));
    }

    #[test]
    fn shares_follow_weights_and_every_plan_is_settled() {
        let mut world = world();
        let mut to_two = 0;
        for at in 0..4_000u64 {
            let plan = call(&mut world, "split", None, Tick(at)).unwrap();
            to_two += u32::from(&*world.1.endpoint(plan.endpoint).unwrap().cluster == "two");
            settle(&mut world.1, plan, End::Answered(Outcome::Ok), Tick(at + 1));
        }
        assert!((850..1_150).contains(&to_two), "{to_two}");
        assert_eq!(world.1.unsettled(), 0);
        assert!(world.1.endpoints().all(|(_, endpoint)| endpoint.in_flight == 0));
    }
}
