//! Bridges between registries in memory, in a time of their own: who writes, what, how fast, and what is never taken away.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use outrigger_discovery::{Instance, Mark};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time,
};

use super::{
    carrier::{Carrier, Ends, Order},
    carry_of,
};
use crate::{conf::lower, telemetry::BridgeFacts};

mod fake;

use fake::{Event, Kind, Store};

/// What a bridge of these tests is, with a few keys besides.
fn plan_of(keys: &str) -> lower::Plan {
    let level = if keys.contains("level:") { "" } else { ", level: interface" };
    let text = format!(
        "app: test\nregistries:\n  one: {{ zookeeper: {{ address: 'z:1' }} }}\n  two: {{ nacos: {{ address: 'n:1' }} }}\n\
         bridges:\n  over: {{ from: one, to: two, hold_empty: 5s{level}{keys} }}\n"
    );
    lower::read(Path::new("conf.yaml"), text.as_bytes(), &|_| None)
        .unwrap_or_else(|report| panic!("{report}"))
}

/// Two registries, and who runs a bridge from the one to the other.
struct World {
    source: Arc<Store>,
    target: Arc<Store>,
    next: u64,
}

/// A sidecar that runs it.
struct Process {
    owner: u64,
    orders: mpsc::UnboundedSender<Order>,
    facts: watch::Receiver<BridgeFacts>,
    task: JoinHandle<()>,
}

impl World {
    /// The seat is the source's, as that of `ZooKeeper` would be.
    fn new(lingers: bool) -> Self {
        Self { source: Store::new(true), target: Store::new(lingers), next: 1 }
    }

    fn start(&mut self, keys: &str) -> Process {
        let owner = self.next;
        self.next += 1;
        let plan = plan_of(keys);
        let bridge = &plan.bridges[0];
        let ends = Ends {
            carry: carry_of(&plan, bridge).expect("it leads somewhere"),
            source: self.source.seen_by(owner),
            target: self.target.seen_by(owner),
            election: Some(self.source.seen_by(owner)),
        };
        let (orders, ordered) = mpsc::unbounded_channel();
        let (tell, facts) = watch::channel(BridgeFacts::default());
        let task = tokio::spawn(Carrier::new(bridge.clone(), ends, tell).run(ordered));
        Process { owner, orders, facts, task }
    }

    /// As SIGKILL does: what it had stays for `patience` where it lingers.
    async fn kill(&self, process: Process) {
        process.task.abort();
        let _ = process.task.await;
        if !self.target_lingers() {
            self.target.expire(process.owner);
        }
        let (source, target, owner) = (Arc::clone(&self.source), Arc::clone(&self.target), process.owner);
        tokio::spawn(async move {
            time::sleep(Duration::from_secs(5)).await;
            source.expire(owner);
            time::sleep(Duration::from_secs(25)).await;
            target.expire(owner);
        });
    }

    fn target_lingers(&self) -> bool {
        self.target.seen_by(0).lingers()
    }
}

impl Process {
    fn facts(&self) -> BridgeFacts {
        self.facts.borrow().clone()
    }

    fn plan(&self, keys: &str) {
        let plan = plan_of(keys);
        let bridge = plan.bridges[0].clone();
        let carry = carry_of(&plan, &bridge).expect("it leads somewhere");
        self.orders.send(Order::Plan(Box::new((bridge, carry)))).expect("it runs");
    }
}

fn one(port: u16) -> Instance {
    Instance { protocol: Some("dubbo".into()), ..Instance::new(format!("10.0.0.1:{port}")) }
}

fn some(count: u16) -> Vec<Instance> {
    (1..=count).map(one).collect()
}

fn copy(port: u16, bridge: &str) -> Instance {
    let mut copy = one(port);
    Mark { origin: "elsewhere".into(), bridge: bridge.into(), hops: 1 }.write(&mut copy.metadata);
    copy
}

fn addresses(ports: impl IntoIterator<Item = u16>) -> Vec<String> {
    ports.into_iter().map(|port| format!("10.0.0.1:{port}")).collect()
}

async fn seconds(count: u64) {
    time::sleep(Duration::from_secs(count)).await;
}

fn went(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| event.kind == Kind::Went).collect()
}

#[tokio::test(start_paused = true)]
async fn what_comes_changes_and_goes_is_carried() {
    let mut world = World::new(false);
    world.source.put("a", some(3));
    let bridge = world.start("");
    seconds(2).await;
    assert_eq!(world.target.addresses("a"), addresses(1..=3));
    let mark = Mark::read(&world.target.copies("a")["10.0.0.1:1"].metadata).expect("a mark");
    assert_eq!((mark.bridge.as_str(), mark.hops, mark.origin.starts_with("zookeeper:")), ("over", 1, true));
    world.source.put("a", vec![one(1), Instance { weight: 7, ..one(2) }]);
    world.source.put("b", some(1));
    seconds(11).await;
    assert_eq!(world.target.addresses("a"), addresses(1..=2));
    assert_eq!(world.target.copies("a")["10.0.0.1:2"].weight, 7);
    assert_eq!(world.target.addresses("b"), addresses([1]));
    let facts = bridge.facts();
    assert_eq!((facts.role, facts.services, facts.instances, facts.entries), ("leading", 2, 3, 3));
    world.source.put("a", Vec::new());
    seconds(4).await;
    assert_eq!(world.target.addresses("a").len(), 2, "an empty service is doubted");
    seconds(7).await;
    assert_eq!(world.target.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn copies_and_what_is_not_to_be_called_and_what_cannot_be_written_are_left() {
    let mut world = World::new(false);
    world.source.put("a", vec![copy(1, "other"), Instance { weight: 0, ..one(2) }, one(3)]);
    world.source.put("a b", some(2));
    let bridge = world.start("");
    seconds(2).await;
    assert_eq!((world.target.addresses("a"), world.target.count()), (addresses([3]), 1));
    let skipped = bridge.facts().skipped;
    assert_eq!((skipped.copies, skipped.off, skipped.refused, skipped.there), (1, 1, 2, 0));
    bridge.plan(", hops_max: 2");
    seconds(2).await;
    assert_eq!(world.target.addresses("a"), addresses([1, 3]), "a copy may be carried on");
    let mark = Mark::read(&world.target.copies("a")["10.0.0.1:1"].metadata).expect("a mark");
    assert_eq!((mark.origin.as_str(), mark.hops), ("elsewhere", 2));
}

#[tokio::test(start_paused = true)]
async fn an_original_at_the_target_takes_the_place_of_its_copy() {
    let mut world = World::new(false);
    world.source.put("a", some(3));
    world.target.put("a", vec![one(2), copy(3, "aaa"), copy(9, "zzz")]);
    let bridge = world.start("");
    seconds(2).await;
    let by_us = |world: &World| {
        let events = world.target.events();
        let count = |kind| events.iter().filter(|event| event.kind == kind).count();
        (world.target.of(bridge.owner), count(Kind::Came), count(Kind::Went))
    };
    // Neither the one that stands there itself nor the copy by a bridge with a lesser name was ever written beside it.
    assert_eq!(by_us(&world), (1, 1, 0));
    assert_eq!(bridge.facts().skipped.there, 2);
    world.target.put("a", vec![copy(3, "aaa")]);
    seconds(1).await;
    assert_eq!(by_us(&world), (2, 1, 0), "the original has left: its copy comes");
    world.target.put("a", vec![one(1), one(2)]);
    seconds(1).await;
    assert_eq!(by_us(&world), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_what_lingers_without_a_moment_in_which_it_is_not_there() {
    let mut world = World::new(true);
    for service in ["a", "b"] {
        world.source.put(service, some(300));
    }
    let writer = world.start(", writes_max: 100");
    seconds(20).await;
    let standby = world.start(", writes_max: 100");
    seconds(20).await;
    assert_eq!((writer.facts().role, standby.facts().role), ("leading", "standby"));
    assert_eq!((world.target.of(writer.owner), world.target.of(standby.owner)), (600, 0));
    assert_eq!((standby.facts().entries, standby.facts().waiting), (0, 0));
    world.target.events();
    world.kill(writer).await;
    seconds(7).await;
    // At once, whatever the pace is: nothing of it is new to the registry.
    assert_eq!((standby.facts().role, world.target.of(standby.owner)), ("leading", 600));
    seconds(60).await;
    let events = world.target.events();
    assert!(went(&events).is_empty(), "{:?}", went(&events).first());
    assert_eq!(world.target.count(), 600);
}

#[tokio::test(start_paused = true)]
async fn what_would_go_with_the_writer_is_held_by_the_standby_as_well() {
    let mut world = World::new(false);
    world.source.put("a", some(3));
    let writer = world.start("");
    let standby = world.start("");
    seconds(3).await;
    assert_eq!((world.target.of(writer.owner), world.target.of(standby.owner)), (3, 3));
    world.target.events();
    world.kill(writer).await;
    seconds(1).await;
    let again = world.start("");
    seconds(20).await;
    assert_eq!(went(&world.target.events()).len(), 0);
    assert_eq!((standby.facts().role, again.facts().role), ("leading", "standby"));
    assert_eq!((world.target.of(again.owner), world.target.count()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_not_heard_of_keeps_still_and_gives_up_what_another_has() {
    let mut world = World::new(true);
    world.source.put("a", some(3));
    let first = world.start("");
    let second = world.start("");
    seconds(3).await;
    world.source.lose(Some("cut off"));
    seconds(60).await;
    assert_eq!((first.facts().role, second.facts().role), ("frozen", "standby"));
    assert!(first.facts().frozen.is_some_and(|why| why.contains("1 services")));
    assert_eq!(world.target.of(first.owner), 3, "nobody else has it, as far as it knows");
    world.target.events();
    world.source.give_seat(second.owner);
    world.source.lose(None);
    seconds(5).await;
    assert_eq!((first.facts().role, second.facts().role), ("standby", "leading"));
    assert_eq!((world.target.of(first.owner), world.target.of(second.owner)), (0, 3));
    assert!(went(&world.target.events()).is_empty());
    // What the first one had and the second one does not want goes once that has surely taken over.
    seconds(60).await;
    assert_eq!(first.facts().entries, 0);
    assert_eq!(world.target.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_while_the_source_is_lost_and_nothing_flaps_when_it_is_back() {
    for lingers in [false, true] {
        let mut world = World::new(lingers);
        for service in ["a", "b", "c"] {
            world.source.put(service, some(3));
        }
        let writer = world.start("");
        let standby = world.start("");
        seconds(3).await;
        world.target.events();
        world.source.lose(Some("down"));
        seconds(29).await;
        assert_eq!(world.target.of(standby.owner), if lingers { 0 } else { 9 });
        seconds(300).await;
        assert_eq!((world.target.count(), world.target.of(writer.owner)), (9, 9));
        // One that stands by cannot know for so long that what it holds is still there.
        assert_eq!(world.target.of(standby.owner), 0);
        world.source.lose(None);
        seconds(12).await;
        assert_eq!(world.target.of(standby.owner), if lingers { 0 } else { 9 }, "it is held again");
        assert!(world.target.events().is_empty(), "to the registry it is as it was");
    }
}

#[tokio::test(start_paused = true)]
async fn one_service_that_cannot_be_seen_costs_the_others_nothing() {
    let mut world = World::new(false);
    world.source.put("a", some(3));
    world.source.put("b", some(2));
    let writer = world.start("");
    let standby = world.start("");
    seconds(3).await;
    world.source.darken(Some("b"));
    seconds(40).await;
    assert_eq!((world.target.of(writer.owner), world.target.of(standby.owner)), (5, 3));
    assert!(writer.facts().frozen.is_some_and(|why| why.contains("1 services")));
    world.source.put("a", some(4));
    seconds(2).await;
    assert_eq!((world.target.of(writer.owner), world.target.of(standby.owner)), (6, 4));
    world.source.darken(None);
    seconds(2).await;
    assert_eq!((world.target.of(writer.owner), world.target.of(standby.owner)), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_say_what_stands_there_is_waited_for_but_not_for_ever() {
    let mut world = World::new(false);
    world.source.put("a", some(2));
    world.target.darken(Some("a"));
    let bridge = world.start("");
    seconds(20).await;
    assert_eq!((world.target.of(bridge.owner), bridge.facts().instances), (0, 2));
    seconds(20).await;
    assert_eq!(world.target.of(bridge.owner), 2);
}

#[tokio::test(start_paused = true)]
async fn both_levels_are_written_and_what_both_say_is_one_entry() {
    let mut world = World::new(false);
    world.source.put("a", some(3));
    let bridge = world.start(", level: both, app: shop");
    seconds(2).await;
    assert_eq!((world.target.of(bridge.owner), world.target.count()), (6, 3));
    assert_eq!(bridge.facts().entries, 3);
    bridge.plan(", level: application, app: shop");
    seconds(2).await;
    assert_eq!((world.target.of(bridge.owner), world.target.count()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn most_services_empty_at_once_are_not_believed() {
    let mut world = World::new(false);
    let names: Vec<String> = (0..12).map(|at| format!("s{at}")).collect();
    for name in &names {
        world.source.put(name, some(2));
    }
    let bridge = world.start("");
    seconds(3).await;
    assert_eq!(world.target.count(), 24);
    world.target.events();
    for name in &names {
        world.source.put(name, Vec::new());
    }
    seconds(1).await;
    let facts = bridge.facts();
    assert_eq!(facts.frozen.as_deref(), Some("12 of 12 services are without any instance at once"));
    seconds(600).await;
    assert_eq!(world.target.count(), 24);
    // Half of them are there again: the others have left for good.
    for name in names.iter().take(6) {
        world.source.put(name, some(2));
    }
    seconds(1).await;
    assert_eq!(bridge.facts().frozen, None);
    seconds(12).await;
    assert_eq!(world.target.count(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_few_services_are_believed_to_be_empty_in_the_end() {
    let mut world = World::new(false);
    let names = ["a", "b", "c"];
    for name in &names {
        world.source.put(name, some(2));
    }
    let _bridge = world.start("");
    seconds(3).await;
    for name in &names {
        world.source.put(name, Vec::new());
    }
    seconds(12).await;
    assert_eq!(world.target.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_vanishes_takes_nothing_with_it() {
    let mut world = World::new(false);
    world.source.put("a", some(2));
    let bridge = world.start("");
    seconds(3).await;
    world.source.forget_name("a");
    seconds(60).await;
    assert_eq!((world.target.count(), bridge.facts().services), (2, 1));
    world.source.put("a", Vec::new());
    world.source.forget_name("a");
    seconds(30).await;
    assert_eq!((world.target.count(), bridge.facts().services), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_written_in_a_second_than_is_meant() {
    let mut world = World::new(false);
    let began = time::Instant::now();
    for at in 0..40 {
        world.source.put(&format!("s{at}"), some(10));
    }
    let bridge = world.start(", writes_max: 20");
    seconds(5).await;
    assert!(bridge.facts().waiting > 0);
    seconds(25).await;
    assert_eq!((world.target.count(), bridge.facts().waiting), (400, 0));
    let mut each: BTreeMap<u64, usize> = BTreeMap::new();
    for event in world.target.events() {
        *each.entry((event.at - began).as_secs()).or_default() += 1;
    }
    // What is saved up is a quarter of a second, and a service is written whole.
    assert!(each.values().all(|count| *count <= 20 + 5 + 10), "{each:?}");
    let whole: usize = each.values().sum();
    assert_eq!(whole, 400);
    assert!(each.len() >= 17, "{each:?}");
}

#[tokio::test(start_paused = true)]
async fn another_plan_takes_away_what_it_does_not_mean_and_the_rest_never_blinks() {
    for lingers in [false, true] {
        let mut world = World::new(lingers);
        for service in ["a", "b", "c"] {
            world.source.put(service, some(3));
        }
        let bridge = world.start("");
        seconds(3).await;
        world.target.events();
        bridge.plan(", services: { any: [a, b] }, rename: { b: bee }");
        seconds(15).await;
        assert_eq!(world.target.addresses("a"), addresses(1..=3));
        assert_eq!(world.target.addresses("bee"), addresses(1..=3));
        assert_eq!((world.target.count(), bridge.facts().services), (6, 2));
        let events = world.target.events();
        assert!(events.iter().all(|event| event.service != "a"), "{events:?}");
        // And back, while the source cannot be asked: what was carried is known, and stays.
        world.source.lose(Some("down"));
        seconds(1).await;
        bridge.plan(", services: { any: [a, b] }");
        seconds(20).await;
        assert_eq!(world.target.addresses("b"), addresses(1..=3));
        assert_eq!(world.target.count(), 6);
        let events = world.target.events();
        assert!(events.iter().all(|event| event.service != "a"), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_another_patience_keeps_its_seat_or_gives_it_away_and_nothing_goes() {
    let mut world = World::new(true);
    world.source.put("a", some(3));
    let bridge = world.start("");
    let _other = world.start("");
    seconds(3).await;
    world.target.events();
    bridge.plan(", patience: 9s");
    seconds(60).await;
    let events = world.target.events();
    assert!(went(&events).is_empty(), "{events:?}");
    assert_eq!(world.target.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_leaves_what_it_wrote_to_who_follows_and_else_takes_it_away() {
    let mut world = World::new(true);
    world.source.put("a", some(3));
    let first = world.start("");
    let second = world.start("");
    seconds(3).await;
    world.target.events();
    first.orders.send(Order::Leave).expect("it runs");
    seconds(10).await;
    assert_eq!(second.facts().role, "leading");
    assert_eq!((world.target.of(first.owner), world.target.of(second.owner)), (0, 3));
    seconds(60).await;
    assert!(first.task.is_finished() && went(&world.target.events()).is_empty());
    second.orders.send(Order::Leave).expect("it runs");
    seconds(10).await;
    assert_eq!(world.target.count(), 3, "somebody may come");
    seconds(60).await;
    assert_eq!(world.target.count(), 0);
}

/// A generator of numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Whatever happens in whatever order: no copy goes of what is there all the time, and in the end exactly what is found stands
/// there.
#[tokio::test(start_paused = true)]
async fn whatever_happens_what_is_there_stays_and_in_the_end_all_is_right() {
    for seed in 1..=24 {
        let lingers = seed % 2 == 0;
        let (mut dice, mut world) = (Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)), World::new(lingers));
        world.source.put("steady", some(3));
        let mut processes = vec![world.start(""), world.start("")];
        seconds(5).await;
        let mut moving: BTreeMap<String, u16> = BTreeMap::new();
        for step in 0..40 {
            match dice.below(8) {
                0..=3 => {
                    let service = format!("s{}", dice.below(5));
                    let count = dice.below(4) as u16;
                    world.source.put(&service, some(count));
                    moving.insert(service, count);
                }
                4 => {
                    world.source.lose(Some("down"));
                    seconds(dice.below(20)).await;
                    world.source.lose(None);
                    seconds(5).await;
                }
                5 => {
                    // There are always two of which one goes, and the other one has seen all of it.
                    let gone = processes.remove(dice.below(2) as usize);
                    world.kill(gone).await;
                    processes.push(world.start(""));
                    seconds(20).await;
                }
                6 => processes[dice.below(2) as usize].plan(if dice.below(2) == 0 {
                    ""
                } else {
                    ", writes_max: 300"
                }),
                _ => seconds(dice.below(15)).await,
            }
            assert_eq!(world.target.addresses("steady"), addresses(1..=3), "seed {seed}, step {step}");
        }
        seconds(90).await;
        for (service, count) in moving {
            let stands = world.target.addresses(&service);
            assert_eq!(stands, addresses(1..=count), "seed {seed}, {service}");
        }
        let events = world.target.events();
        let lost: Vec<_> = went(&events).into_iter().filter(|event| event.service == "steady").collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
        let leading = processes.iter().filter(|process| process.facts().role == "leading").count();
        assert_eq!(leading, 1, "seed {seed}");
    }
}
