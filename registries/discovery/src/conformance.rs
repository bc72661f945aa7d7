//! The suite that every registry's tests run over it: what a watch says, and what it never says.
//!
//! A registry's test gives a [`Fixture`] that can put instances into a real server (or file) and break it; [`run`]
//! does the rest. Besides the cases, every event of every case is held against the order that [`Event`] promises.
//! This is test code: it asserts. It must never be part of the product, hence the feature.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle, time};

use crate::{Event, Instance, Members, Registry, ServiceKey, Sink, Update};

/// A registry under test, and the hands on what stands behind it.
pub trait Fixture {
    /// The registry.
    fn registry(&self) -> &dyn Registry;

    /// How long news may take to arrive; the suite also waits this long to see that nothing arrives.
    fn patience(&self) -> Duration;

    /// Makes these the instances of `service`, all at once or one by one; other services keep theirs.
    fn put(&mut self, service: &str, instances: &[Instance]) -> impl Future<Output = ()>;

    /// Makes the registry unreachable or unreadable.
    fn break_it(&mut self) -> impl Future<Output = ()>;

    /// Undoes [`Fixture::break_it`]; what was put before (or meanwhile) is there again.
    fn mend_it(&mut self) -> impl Future<Output = ()>;
}

/// Runs every case, one after the other. Panics at the first that does not hold.
pub async fn run(fixture: &mut impl Fixture) {
    first_news_is_the_whole_set(fixture).await;
    an_unknown_service_is_known_to_be_empty(fixture).await;
    instances_join_change_and_leave(fixture).await;
    no_change_is_no_news(fixture).await;
    a_key_takes_its_version_and_group_only(fixture).await;
    a_lost_registry_keeps_the_last_good_set(fixture).await;
    changes_made_while_lost_arrive_in_the_end(fixture).await;
    a_registry_may_be_lost_at_the_start(fixture).await;
    a_slow_reader_misses_nothing(fixture).await;
    two_watches_see_the_same(fixture).await;
    a_watch_ends_with_its_reader(fixture).await;
}

async fn first_news_is_the_whole_set(fixture: &mut impl Fixture) {
    fixture.put("conformance.First", &[instance(1), instance(2)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.First"), 16);
    assert!(matches!(watch.next().await, Event::Full(_)), "the first news must be the whole set");
    watch.expect(&[instance(1), instance(2)]).await;
}

async fn an_unknown_service_is_known_to_be_empty(fixture: &mut impl Fixture) {
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Empty"), 16);
    assert_eq!(watch.next().await, Event::Full(Vec::new()));
    fixture.put("conformance.Empty", &[instance(1)]).await;
    watch.expect(&[instance(1)]).await;
    fixture.put("conformance.Empty", &[]).await;
    watch.expect(&[]).await;
}

async fn instances_join_change_and_leave(fixture: &mut impl Fixture) {
    let rich = Instance {
        weight: 50,
        metadata: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        ..versioned(2, "1.0.0", "blue")
    };
    fixture.put("conformance.Change", &[instance(1)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Change"), 16);
    watch.expect(&[instance(1)]).await;
    fixture.put("conformance.Change", &[instance(1), rich.clone()]).await;
    watch.expect(&[instance(1), rich.clone()]).await;
    let heavier = Instance { weight: 77, ..rich.clone() };
    fixture.put("conformance.Change", &[instance(1), heavier.clone()]).await;
    watch.expect(&[instance(1), heavier.clone()]).await;
    fixture.put("conformance.Change", std::slice::from_ref(&heavier)).await;
    watch.expect(std::slice::from_ref(&heavier)).await;
    fixture.put("conformance.Change", &[instance(3)]).await;
    watch.expect(&[instance(3)]).await;
}

async fn no_change_is_no_news(fixture: &mut impl Fixture) {
    fixture.put("conformance.Quiet", &[instance(1)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Quiet"), 16);
    watch.expect(&[instance(1)]).await;
    fixture.put("conformance.Quiet", &[instance(1)]).await;
    fixture.put("conformance.Another", &[instance(2)]).await;
    watch.silence().await;
}

async fn a_key_takes_its_version_and_group_only(fixture: &mut impl Fixture) {
    let (blue, green) = (versioned(1, "1.0.0", "blue"), versioned(2, "2.0.0", "green"));
    fixture.put("conformance.Key", &[blue.clone(), green.clone(), instance(3)]).await;
    let any = ServiceKey::new("conformance.Key");
    let v1 = ServiceKey { version: Some("1.0.0".into()), ..any.clone() };
    let in_green = ServiceKey { group: Some("green".into()), ..any.clone() };
    let none = ServiceKey { version: Some("1.0.0".into()), ..in_green.clone() };
    for (key, want) in [
        (any, vec![blue.clone(), green.clone(), instance(3)]),
        (v1, vec![blue]),
        (in_green, vec![green]),
        (none, vec![]),
    ] {
        Watch::start(fixture, key, 16).expect(&want).await;
    }
}

async fn a_lost_registry_keeps_the_last_good_set(fixture: &mut impl Fixture) {
    fixture.put("conformance.Lost", &[instance(1), instance(2)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Lost"), 16);
    watch.expect(&[instance(1), instance(2)]).await;
    for _ in 0..2 {
        fixture.break_it().await;
        watch.lost().await;
        watch.silence().await;
        assert_eq!(watch.addresses(), ["127.0.0.1:1", "127.0.0.1:2"], "trouble must not empty a cluster");
        fixture.mend_it().await;
        assert_eq!(watch.next().await, Event::Back);
        assert!(matches!(watch.next().await, Event::Full(_)), "the whole set must follow at once");
        watch.expect(&[instance(1), instance(2)]).await;
    }
}

async fn changes_made_while_lost_arrive_in_the_end(fixture: &mut impl Fixture) {
    fixture.put("conformance.Meanwhile", &[instance(1), instance(2)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Meanwhile"), 16);
    watch.expect(&[instance(1), instance(2)]).await;
    fixture.break_it().await;
    watch.lost().await;
    fixture.mend_it().await;
    fixture.put("conformance.Meanwhile", &[instance(2), instance(3)]).await;
    watch.expect(&[instance(2), instance(3)]).await;
}

async fn a_registry_may_be_lost_at_the_start(fixture: &mut impl Fixture) {
    fixture.put("conformance.Start", &[instance(1)]).await;
    fixture.break_it().await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Start"), 16);
    // A registry that keeps its last good answer for all its watches may give it before it says so.
    watch.lost().await;
    fixture.mend_it().await;
    watch.expect(&[instance(1)]).await;
}

async fn a_slow_reader_misses_nothing(fixture: &mut impl Fixture) {
    let all: Vec<Instance> = (1..=20).map(instance).collect();
    fixture.put("conformance.Slow", &all[..1]).await;
    // Room for one event: the watch has to wait for its reader all the time.
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Slow"), 1);
    watch.expect(&all[..1]).await;
    for upto in [5, 20, 3, 12] {
        fixture.put("conformance.Slow", &all[..upto]).await;
        time::sleep(fixture.patience() / 4).await;
    }
    watch.expect(&all[..12]).await;
}

async fn two_watches_see_the_same(fixture: &mut impl Fixture) {
    fixture.put("conformance.Two", &[instance(1)]).await;
    let key = ServiceKey::new("conformance.Two");
    let mut one = Watch::start(fixture, key.clone(), 16);
    let mut two = Watch::start(fixture, key, 16);
    for set in [vec![instance(1)], vec![instance(1), instance(2)], vec![instance(2)]] {
        fixture.put("conformance.Two", &set).await;
        one.expect(&set).await;
        two.expect(&set).await;
    }
}

async fn a_watch_ends_with_its_reader(fixture: &mut impl Fixture) {
    fixture.put("conformance.End", &[instance(1)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.End"), 16);
    watch.expect(&[instance(1)]).await;
    watch.events.close();
    while watch.events.recv().await.is_some() {}
    let ended = time::timeout(watch.patience, &mut watch.task).await;
    assert!(matches!(ended, Ok(Ok(()))), "a watch that nobody reads must end: {ended:?}");
}

fn instance(number: u16) -> Instance {
    Instance::new(format!("127.0.0.1:{number}"))
}

fn versioned(number: u16, version: &str, group: &str) -> Instance {
    Instance { version: Some(version.to_owned()), group: Some(group.to_owned()), ..instance(number) }
}

/// The number the suite gives to its sinks, to see that it comes back.
const NUMBER: usize = 4711;

/// A running watch, the set it adds up to, and the order of events that it must keep.
struct Watch {
    patience: Duration,
    events: mpsc::Receiver<Update>,
    task: JoinHandle<()>,
    members: Members,
    returning: bool,
}

impl Watch {
    fn start(fixture: &impl Fixture, key: ServiceKey, room: usize) -> Self {
        let (sender, events) = mpsc::channel(room);
        let task = tokio::spawn(fixture.registry().watch(key, Sink::new(NUMBER, sender)));
        let patience = fixture.patience();
        Self { patience, events, task, members: Members::default(), returning: false }
    }

    async fn next(&mut self) -> Event {
        let update = time::timeout(self.patience, self.events.recv()).await.expect("news in time");
        self.take(update.expect("a watch must not end while it is read"))
    }

    /// Holds the event against the order that is promised, then counts it in.
    fn take(&mut self, update: Update) -> Event {
        assert_eq!(update.watch, NUMBER);
        let event = update.event;
        let lost = self.members.lost().is_some();
        match &event {
            Event::Full(_) => {
                assert!(!lost, "Full while lost: say Back first");
                assert!(self.returning || !self.members.is_known(), "Full again, though nothing was lost");
            }
            Event::Added(_) | Event::Removed(_) => {
                assert!(self.members.is_known() && !lost && !self.returning, "{event:?} before Full");
            }
            Event::Lost { reason } => assert!(!reason.is_empty(), "Lost without a reason"),
            Event::Back => assert!(lost, "Back, though nothing was lost"),
        }
        self.returning = event == Event::Back;
        let changed = self.members.apply(event.clone());
        if matches!(event, Event::Added(_) | Event::Removed(_)) {
            assert!(changed, "{event:?} changes nothing");
        }
        event
    }

    /// Reads until the set is `want` and the registry is well.
    async fn expect(&mut self, want: &[Instance]) {
        let mut want: Vec<&Instance> = want.iter().collect();
        want.sort_by(|a, b| a.address.cmp(&b.address));
        while !self.members.is_known()
            || self.members.lost().is_some()
            || self.members.iter().collect::<Vec<_>>() != want
        {
            self.next().await;
        }
    }

    async fn lost(&mut self) {
        while self.members.lost().is_none() {
            self.next().await;
        }
    }

    /// Nothing may arrive, except that the reason of a loss may become another one.
    async fn silence(&mut self) {
        let until = time::Instant::now() + self.patience;
        while let Ok(update) = time::timeout_at(until, self.events.recv()).await {
            let event = self.take(update.expect("a watch must not end while it is read"));
            assert!(matches!(event, Event::Lost { .. }), "nothing changed, and yet: {event:?}");
        }
    }

    fn addresses(&self) -> Vec<&str> {
        self.members.iter().map(|instance| instance.address.as_str()).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
