//! The suite that every registry's tests run over it: what a watch says, and what it never says; what is registered, and what
//! never is.
//!
//! A registry's test gives a [`Fixture`] that can put instances into a real server (or file) and break it; [`run`]
//! does the rest, and [`run_registering`] the same for what it writes. This is test code: it asserts. It must never be part of
//! the product, hence the feature.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinHandle, time};

use crate::{Board, Framework, Instance, Level, Registration, Registry, Seat, ServiceKey, View, Wish};

/// A registry under test, and the hands on what stands behind it.
pub trait Fixture {
    /// The registry.
    fn registry(&self) -> &dyn Registry;

    /// The host of the instances that the suite puts in: another one where a registry takes no address that means this host.
    fn host(&self) -> &'static str {
        "127.0.0.1"
    }

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
    a_doubted_set_is_asked_anew(fixture).await;
    a_watch_ends_with_its_reader(fixture).await;
}

async fn first_news_is_the_whole_set(fixture: &mut impl Fixture) {
    fixture.put("conformance.First", &[instance(fixture, 1), instance(fixture, 2)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.First"));
    let first = watch.known().await;
    assert_eq!(
        (first.generation, first.instances.map(|all| all.len())),
        (1, Some(2)),
        "the first news is the whole set"
    );
    assert!(first.answers > 0, "the first set is an answer");
}

async fn an_unknown_service_is_known_to_be_empty(fixture: &mut impl Fixture) {
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Empty"));
    assert_eq!(watch.known().await.instances.as_deref(), Some(&[][..]));
    fixture.put("conformance.Empty", &[instance(fixture, 1)]).await;
    watch.expect(&[instance(fixture, 1)]).await;
    fixture.put("conformance.Empty", &[]).await;
    watch.expect(&[]).await;
}

async fn instances_join_change_and_leave(fixture: &mut impl Fixture) {
    let rich = Instance {
        weight: 50,
        metadata: BTreeMap::from([("zone".to_owned(), "a".to_owned())]).into(),
        ..versioned(fixture, 2, "1.0.0", "blue")
    };
    fixture.put("conformance.Change", &[instance(fixture, 1)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Change"));
    watch.expect(&[instance(fixture, 1)]).await;
    fixture.put("conformance.Change", &[instance(fixture, 1), rich.clone()]).await;
    watch.expect(&[instance(fixture, 1), rich.clone()]).await;
    let heavier = Instance { weight: 77, ..rich.clone() };
    fixture.put("conformance.Change", &[instance(fixture, 1), heavier.clone()]).await;
    watch.expect(&[instance(fixture, 1), heavier.clone()]).await;
    fixture.put("conformance.Change", std::slice::from_ref(&heavier)).await;
    watch.expect(std::slice::from_ref(&heavier)).await;
    fixture.put("conformance.Change", &[instance(fixture, 3)]).await;
    watch.expect(&[instance(fixture, 3)]).await;
}

async fn no_change_is_no_news(fixture: &mut impl Fixture) {
    fixture.put("conformance.Quiet", &[instance(fixture, 1)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Quiet"));
    watch.expect(&[instance(fixture, 1)]).await;
    fixture.put("conformance.Quiet", &[instance(fixture, 1)]).await;
    fixture.put("conformance.Another", &[instance(fixture, 2)]).await;
    watch.silence().await;
}

async fn a_key_takes_its_version_and_group_only(fixture: &mut impl Fixture) {
    let (blue, green) = (versioned(fixture, 1, "1.0.0", "blue"), versioned(fixture, 2, "2.0.0", "green"));
    fixture.put("conformance.Key", &[blue.clone(), green.clone(), instance(fixture, 3)]).await;
    let any = ServiceKey::new("conformance.Key");
    let v1 = ServiceKey { version: Some("1.0.0".into()), ..any.clone() };
    let in_green = ServiceKey { group: Some("green".into()), ..any.clone() };
    let none = ServiceKey { version: Some("1.0.0".into()), ..in_green.clone() };
    for (key, want) in [
        (any, vec![blue.clone(), green.clone(), instance(fixture, 3)]),
        (v1, vec![blue]),
        (in_green, vec![green]),
        (none, vec![]),
    ] {
        Watch::start(fixture, key).expect(&want).await;
    }
}

async fn a_lost_registry_keeps_the_last_good_set(fixture: &mut impl Fixture) {
    fixture.put("conformance.Lost", &[instance(fixture, 1), instance(fixture, 2)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Lost"));
    watch.expect(&[instance(fixture, 1), instance(fixture, 2)]).await;
    for _ in 0..2 {
        fixture.break_it().await;
        watch.lost().await;
        watch.silence().await;
        let both = [instance(fixture, 1).address, instance(fixture, 2).address];
        assert_eq!(watch.addresses(), both, "trouble must not empty a cluster");
        let gaps = watch.view().gaps;
        fixture.mend_it().await;
        watch.expect(&[instance(fixture, 1), instance(fixture, 2)]).await;
        assert!(watch.view().gaps > gaps, "changes may have been missed");
    }
}

async fn changes_made_while_lost_arrive_in_the_end(fixture: &mut impl Fixture) {
    fixture.put("conformance.Meanwhile", &[instance(fixture, 1), instance(fixture, 2)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Meanwhile"));
    watch.expect(&[instance(fixture, 1), instance(fixture, 2)]).await;
    fixture.break_it().await;
    watch.lost().await;
    fixture.mend_it().await;
    fixture.put("conformance.Meanwhile", &[instance(fixture, 2), instance(fixture, 3)]).await;
    watch.expect(&[instance(fixture, 2), instance(fixture, 3)]).await;
}

async fn a_registry_may_be_lost_at_the_start(fixture: &mut impl Fixture) {
    fixture.put("conformance.Start", &[instance(fixture, 1)]).await;
    fixture.break_it().await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Start"));
    // A registry that keeps its last good answer for all its watches may give it before it says so.
    watch.lost().await;
    fixture.mend_it().await;
    watch.expect(&[instance(fixture, 1)]).await;
}

async fn a_slow_reader_misses_nothing(fixture: &mut impl Fixture) {
    let all: Vec<Instance> = (1..=20).map(|number| instance(fixture, number)).collect();
    fixture.put("conformance.Slow", &all[..1]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Slow"));
    watch.expect(&all[..1]).await;
    for upto in [5, 20, 3, 12] {
        fixture.put("conformance.Slow", &all[..upto]).await;
        time::sleep(fixture.patience() / 4).await;
    }
    watch.expect(&all[..12]).await;
}

async fn two_watches_see_the_same(fixture: &mut impl Fixture) {
    fixture.put("conformance.Two", &[instance(fixture, 1)]).await;
    let key = ServiceKey::new("conformance.Two");
    let mut one = Watch::start(fixture, key.clone());
    let mut two = Watch::start(fixture, key);
    for set in [
        vec![instance(fixture, 1)],
        vec![instance(fixture, 1), instance(fixture, 2)],
        vec![instance(fixture, 2)],
    ] {
        fixture.put("conformance.Two", &set).await;
        one.expect(&set).await;
        two.expect(&set).await;
    }
}

async fn a_doubted_set_is_asked_anew(fixture: &mut impl Fixture) {
    fixture.put("conformance.Doubt", &[instance(fixture, 1)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.Doubt"));
    watch.expect(&[instance(fixture, 1)]).await;
    for _ in 0..3 {
        let View { generation, answers, .. } = watch.view();
        watch.board.doubt(watch.number);
        while watch.view().answers == answers {
            watch.next().await;
        }
        assert_eq!(watch.view().generation, generation, "the same answer is no change");
    }
}

async fn a_watch_ends_with_its_reader(fixture: &mut impl Fixture) {
    fixture.put("conformance.End", &[instance(fixture, 1)]).await;
    let mut watch = Watch::start(fixture, ServiceKey::new("conformance.End"));
    watch.expect(&[instance(fixture, 1)]).await;
    watch.board.close(watch.number);
    let ended = time::timeout(watch.patience, &mut watch.task).await;
    assert!(matches!(ended, Ok(Ok(()))), "a watch that nobody reads must end: {ended:?}");
}

fn instance(fixture: &impl Fixture, number: u16) -> Instance {
    Instance::new(format!("{}:{number}", fixture.host()))
}

fn versioned(fixture: &impl Fixture, number: u16, version: &str, group: &str) -> Instance {
    Instance { version: Some(version.to_owned()), group: Some(group.to_owned()), ..instance(fixture, number) }
}

/// Whether an instance is the one that was put: a format may have more to say of it.
fn alike(have: &Instance, want: &Instance) -> bool {
    let said = want.metadata.iter().all(|(name, value)| have.metadata.get(name) == Some(value));
    said && Instance { metadata: want.metadata.clone(), protocol: want.protocol.clone(), ..have.clone() }
        .same(want)
}

/// A running watch, and what it must never do.
struct Watch {
    patience: Duration,
    board: Board,
    number: usize,
    task: JoinHandle<()>,
    last: View,
}

impl Watch {
    fn start(fixture: &impl Fixture, key: ServiceKey) -> Self {
        let mut board = Board::default();
        let (number, teller) = board.open();
        let task = tokio::spawn(fixture.registry().watch(key, teller));
        Self { patience: fixture.patience(), board, number, task, last: View::default() }
    }

    /// What is known now, held against what was known before.
    fn view(&mut self) -> View {
        let view = self.board.view(self.number).expect("the watch");
        let last = &self.last;
        assert!(view.generation >= last.generation && view.answers >= last.answers && view.gaps >= last.gaps);
        assert!(last.instances.is_none() || view.instances.is_some(), "what was known is forgotten");
        assert_eq!(
            view.generation == last.generation,
            view.instances == last.instances,
            "a change without its number"
        );
        assert!(view.lost.as_deref() != Some(""), "lost without a reason");
        if view.lost.is_some() && last.lost.is_some() {
            assert_eq!(view.generation, last.generation, "instances of a registry that is lost");
        }
        self.last = view.clone();
        view
    }

    async fn next(&mut self) -> View {
        time::timeout(self.patience, self.board.news()).await.expect("news in time");
        assert!(!self.task.is_finished(), "a watch must not end while it is read");
        self.view()
    }

    async fn known(&mut self) -> View {
        loop {
            let view = self.view();
            if view.instances.is_some() {
                return view;
            }
            self.next().await;
        }
    }

    /// Reads until the set is `want` and the registry is well.
    async fn expect(&mut self, want: &[Instance]) {
        let mut want: Vec<Instance> = want.to_vec();
        want.sort_by(|a, b| a.address.cmp(&b.address));
        loop {
            let view = self.view();
            if view.lost.is_none()
                && view.instances.is_some_and(|have| {
                    have.len() == want.len() && have.iter().zip(&want).all(|(have, want)| alike(have, want))
                })
            {
                return;
            }
            let wait = time::timeout(self.patience, self.board.news()).await;
            assert!(wait.is_ok(), "{want:#?} is not told in time; what is known: {:#?}", self.view());
        }
    }

    /// Reads until exactly these addresses are known and the registry is well.
    async fn until_addresses(&mut self, want: &BTreeSet<String>) {
        while self.view().lost.is_some() || self.addresses().into_iter().collect::<BTreeSet<_>>() != *want {
            self.next().await;
        }
    }

    async fn lost(&mut self) {
        while self.view().lost.is_none() {
            self.next().await;
        }
    }

    /// Nothing may change, except that the reason of a loss may become another one.
    async fn silence(&mut self) {
        let until = time::Instant::now() + self.patience;
        let before = self.view();
        while time::timeout_at(until, self.board.news()).await.is_ok() {}
        let after = self.view();
        assert_eq!(
            (before.generation, before.lost.is_some()),
            (after.generation, after.lost.is_some()),
            "nothing changed, and yet: {after:?}"
        );
    }

    fn addresses(&mut self) -> Vec<String> {
        let view = self.view();
        view.instances.iter().flat_map(|all| all.iter()).map(|instance| instance.address.clone()).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A registry under test that can be written to.
pub trait Writable: Fixture {
    /// A second registry of the same server, with a connection of its own.
    fn another(&self) -> Arc<dyn Registry>;

    /// The name of the service that a case is about, where a registry takes no name but its own kind.
    fn service(&self, framework: Framework, case: &str) -> String {
        format!("conformance.{framework}.{case}")
    }

    /// The addresses that stand in the server under a service, asked of the server itself; it is not broken now.
    fn listed(&self, framework: Framework, service: &str) -> impl Future<Output = BTreeSet<String>>;

    /// Takes an entry of ours away, as an operator would.
    fn vandalize(&mut self, framework: Framework, service: &str) -> impl Future<Output = ()>;
}

/// Runs every case of what is written, one after the other, in the formats that the registry knows. Panics at the first that does
/// not hold.
pub async fn run_registering(fixture: &mut impl Writable, frameworks: &[Framework]) {
    for framework in frameworks {
        what_is_desired_is_registered_and_found(fixture, *framework).await;
        what_is_desired_no_more_goes_and_others_stay(fixture, *framework).await;
        several_instances_of_one_service_live_beside_each_other(fixture, *framework).await;
        what_was_taken_away_behind_our_back_comes_again(fixture, *framework).await;
        a_registration_outlives_a_lost_registry(fixture, *framework).await;
        what_is_withdrawn_while_the_registry_is_lost_does_not_come_back(fixture, *framework).await;
        a_connection_that_is_closed_takes_its_registrations_along(fixture, *framework).await;
        what_another_keeps_is_taken_over_without_a_moment_in_which_it_is_not_there(fixture, *framework).await;
        what_another_keeps_is_left_to_it_by_who_yields(fixture, *framework).await;
    }
}

/// What is registered by a task that keeps it so.
struct Keeper {
    wish: Wish,
    task: JoinHandle<()>,
}

impl Keeper {
    fn start(registry: &dyn Registry) -> Self {
        let (wish, desired) = Wish::new();
        Self { wish, task: tokio::spawn(registry.register(desired)) }
    }

    async fn done(&mut self, patience: Duration) {
        let done = time::timeout(patience, self.wish.done()).await;
        assert!(done.is_ok(), "not written in time: {:?}", self.wish.written());
    }

    async fn set(&mut self, registrations: &[Registration], patience: Duration) {
        self.wish.set(registrations.into());
        self.done(patience).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn registration(framework: Framework, service: &str, port: u16) -> Registration {
    let (protocol, version) = match framework {
        Framework::Dubbo => ("dubbo", Some("1.0.0")),
        Framework::Sofarpc => ("bolt", Some("1.0")),
        Framework::Spring | Framework::Plain => ("http", None),
    };
    Registration {
        app: "conformance".into(),
        framework,
        level: Level::Interface,
        service: service.into(),
        protocol: protocol.into(),
        address: format!("10.9.9.1:{port}"),
        group: None,
        version: version.map(str::to_owned),
        weight: 100,
        started: 1_700_000_000_000,
        metadata: BTreeMap::new(),
    }
}

fn set<const N: usize>(addresses: [&str; N]) -> BTreeSet<String> {
    addresses.into_iter().map(str::to_owned).collect()
}

/// Waits until exactly these addresses stand in the server.
async fn stands(fixture: &impl Writable, framework: Framework, service: &str, want: &BTreeSet<String>) {
    let until = time::Instant::now() + fixture.patience();
    loop {
        let listed = fixture.listed(framework, service).await;
        if listed == *want {
            return;
        }
        assert!(time::Instant::now() < until, "{framework} {service}: {listed:?} stand there, not {want:?}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

async fn what_is_desired_is_registered_and_found(fixture: &mut impl Writable, framework: Framework) {
    let service = fixture.service(framework, "Found");
    let mut keeper = Keeper::start(fixture.registry());
    let mut wanted = registration(framework, &service, 1);
    // Of Spring's weights, which are multiples of the usual one, none is smaller.
    wanted.weight = if matches!(framework, Framework::Spring | Framework::Plain) { 200 } else { 50 };
    wanted.metadata.insert("colour".into(), "blue".into());
    keeper.set(&[wanted.clone()], fixture.patience()).await;
    stands(fixture, framework, &service, &set(["10.9.9.1:1"])).await;
    let key = ServiceKey { framework, version: wanted.version.clone(), ..ServiceKey::new(&service) };
    let mut watch = Watch::start(fixture, key);
    watch.until_addresses(&set(["10.9.9.1:1"])).await;
    let found = watch.view().instances.expect("instances");
    let found = found.first().expect("one");
    assert_eq!((found.weight, &found.version), (wanted.weight, &wanted.version), "{framework}: {found:?}");
    assert_eq!(found.metadata.get("colour").map(String::as_str), Some("blue"), "{framework}: {found:?}");
}

async fn what_is_desired_no_more_goes_and_others_stay(fixture: &mut impl Writable, framework: Framework) {
    let service = fixture.service(framework, "Goes");
    let other = fixture.another();
    let mut theirs = Keeper::start(&*other);
    theirs.set(&[registration(framework, &service, 2)], fixture.patience()).await;
    let mut keeper = Keeper::start(fixture.registry());
    keeper.set(&[registration(framework, &service, 1)], fixture.patience()).await;
    stands(fixture, framework, &service, &set(["10.9.9.1:1", "10.9.9.1:2"])).await;
    keeper.set(&[], fixture.patience()).await;
    stands(fixture, framework, &service, &set(["10.9.9.1:2"])).await;
    other.close().await;
    stands(fixture, framework, &service, &set([])).await;
}

async fn several_instances_of_one_service_live_beside_each_other(
    fixture: &mut impl Writable,
    framework: Framework,
) {
    let service = fixture.service(framework, "Several");
    let each = |port| registration(framework, &service, port);
    let mut keeper = Keeper::start(fixture.registry());
    for (want, stand) in [
        (vec![each(1)], set(["10.9.9.1:1"])),
        (vec![each(1), each(2), each(3)], set(["10.9.9.1:1", "10.9.9.1:2", "10.9.9.1:3"])),
        (vec![each(1), each(3)], set(["10.9.9.1:1", "10.9.9.1:3"])),
        (vec![each(2)], set(["10.9.9.1:2"])),
        (vec![], set([])),
    ] {
        keeper.set(&want, fixture.patience()).await;
        stands(fixture, framework, &service, &stand).await;
    }
}

async fn what_was_taken_away_behind_our_back_comes_again(fixture: &mut impl Writable, framework: Framework) {
    let service = fixture.service(framework, "Vandal");
    let mut keeper = Keeper::start(fixture.registry());
    keeper.set(&[registration(framework, &service, 1)], fixture.patience()).await;
    stands(fixture, framework, &service, &set(["10.9.9.1:1"])).await;
    fixture.vandalize(framework, &service).await;
    stands(fixture, framework, &service, &set(["10.9.9.1:1"])).await;
}

async fn a_registration_outlives_a_lost_registry(fixture: &mut impl Writable, framework: Framework) {
    let service = fixture.service(framework, "Outlives");
    let mut keeper = Keeper::start(fixture.registry());
    let each = |port| registration(framework, &service, port);
    keeper.set(&[each(1), each(2)], fixture.patience()).await;
    fixture.break_it().await;
    time::sleep(fixture.patience() / 4).await;
    fixture.mend_it().await;
    // It stands there for good, not only until a session of before is forgotten.
    for _ in 0..3 {
        stands(fixture, framework, &service, &set(["10.9.9.1:1", "10.9.9.1:2"])).await;
        time::sleep(fixture.patience() / 4).await;
    }
    keeper.set(&[each(2), each(3)], fixture.patience()).await;
    stands(fixture, framework, &service, &set(["10.9.9.1:2", "10.9.9.1:3"])).await;
}

async fn what_is_withdrawn_while_the_registry_is_lost_does_not_come_back(
    fixture: &mut impl Writable,
    framework: Framework,
) {
    let service = fixture.service(framework, "Withdrawn");
    let each = |port| registration(framework, &service, port);
    let mut keeper = Keeper::start(fixture.registry());
    keeper.set(&[each(1), each(2)], fixture.patience()).await;
    fixture.break_it().await;
    keeper.wish.set([each(2)].into());
    time::sleep(fixture.patience() / 4).await;
    fixture.mend_it().await;
    keeper.done(fixture.patience()).await;
    for _ in 0..3 {
        stands(fixture, framework, &service, &set(["10.9.9.1:2"])).await;
        time::sleep(fixture.patience() / 4).await;
    }
}

async fn a_connection_that_is_closed_takes_its_registrations_along(
    fixture: &mut impl Writable,
    framework: Framework,
) {
    let service = fixture.service(framework, "Closed");
    let other = fixture.another();
    let mut keeper = Keeper::start(&*other);
    keeper.set(&[registration(framework, &service, 1)], fixture.patience()).await;
    stands(fixture, framework, &service, &set(["10.9.9.1:1"])).await;
    time::timeout(fixture.patience(), other.close()).await.expect("an end in time");
    stands(fixture, framework, &service, &set([])).await;
}

/// Looks without a pause whether these addresses, and no others, stand in the server, until a future ends.
async fn stands_while(
    fixture: &impl Writable,
    framework: Framework,
    (service, want): (&str, &BTreeSet<String>),
    work: impl Future<Output = ()>,
) {
    let mut work = std::pin::pin!(work);
    loop {
        assert_eq!(fixture.listed(framework, service).await, *want, "{framework} {service}");
        if time::timeout(Duration::from_millis(2), &mut work).await.is_ok() {
            return;
        }
    }
}

async fn what_another_keeps_is_taken_over_without_a_moment_in_which_it_is_not_there(
    fixture: &mut impl Writable,
    framework: Framework,
) {
    let service = fixture.service(framework, "Takeover");
    let both = [registration(framework, &service, 1), registration(framework, &service, 2)];
    let want = set(["10.9.9.1:1", "10.9.9.1:2"]);
    let patience = fixture.patience();
    let other = fixture.another();
    let mut theirs = Keeper::start(&*other);
    theirs.set(&both, patience).await;
    stands(fixture, framework, &service, &want).await;
    // Who is followed yields first, and is gone then.
    theirs.wish.yields(true);
    theirs.done(patience).await;
    let mut keeper = Keeper::start(fixture.registry());
    stands_while(fixture, framework, (&service, &want), async {
        keeper.set(&both, patience).await;
        theirs.set(&[], patience).await;
        other.close().await;
        time::sleep(patience / 4).await;
    })
    .await;
    keeper.set(&[], patience).await;
    stands(fixture, framework, &service, &set([])).await;
}

async fn what_another_keeps_is_left_to_it_by_who_yields(fixture: &mut impl Writable, framework: Framework) {
    let service = fixture.service(framework, "Yields");
    let each = |port| registration(framework, &service, port);
    let patience = fixture.patience();
    let other = fixture.another();
    let mut theirs = Keeper::start(&*other);
    theirs.set(&[each(1)], patience).await;
    let mut keeper = Keeper::start(fixture.registry());
    keeper.wish.yields(true);
    keeper.set(&[each(1), each(2)], patience).await;
    let both = set(["10.9.9.1:1", "10.9.9.1:2"]);
    stands(fixture, framework, &service, &both).await;
    // What is the other's stays when it is desired no more here, and what is desired here goes on when the other is gone.
    keeper.set(&[each(2)], patience).await;
    stands(fixture, framework, &service, &both).await;
    theirs.set(&[], patience).await;
    stands(fixture, framework, &service, &set(["10.9.9.1:2"])).await;
    other.close().await;
}

/// Runs every case of who has a seat, one after the other, for registries that can tell. Panics at the first that does not hold.
pub async fn run_electing(fixture: &mut impl Writable) {
    one_candidate_at_a_time_has_the_seat(fixture).await;
    a_holder_that_is_cut_off_stops_by_its_own_clock(fixture).await;
    a_holder_that_vanishes_is_followed(fixture).await;
}

/// A candidate, and the task that stands for it.
struct Runner {
    seat: Seat,
    task: JoinHandle<()>,
}

impl Runner {
    fn start(registry: &dyn Registry, seat: &str, name: &str) -> Self {
        let (seat, candidate) = Seat::new(seat, name, Duration::from_secs(4));
        let standing = registry.elect(candidate).expect("a registry that can tell");
        Self { seat, task: tokio::spawn(standing) }
    }

    fn holds(&mut self) -> bool {
        self.seat.term().is_held(std::time::Instant::now())
    }

    /// Waits until the candidate has the seat; its number then.
    async fn won(&mut self, patience: Duration) -> u64 {
        let until = time::Instant::now() + patience;
        while !self.holds() {
            let said = self.seat.term();
            assert!(
                time::timeout_at(until, self.seat.changed()).await.is_ok(),
                "not elected in time: {said:?}"
            );
        }
        self.seat.term().number
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn one_candidate_at_a_time_has_the_seat(fixture: &mut impl Writable) {
    let patience = fixture.patience();
    let mut one = Runner::start(fixture.registry(), "conformance-one", "one");
    let first = one.won(patience).await;
    let other = fixture.another();
    let mut two = Runner::start(&*other, "conformance-one", "two");
    let mut third = Runner::start(&*other, "conformance-other", "two");
    third.won(patience).await;
    time::sleep(Duration::from_secs(6)).await;
    assert!(one.holds() && !two.holds(), "{:?} {:?}", one.seat.term(), two.seat.term());
    assert_eq!(two.seat.term().holder.as_deref(), Some("one"));
    assert_eq!(one.seat.term().number, first, "a holder that goes on is the same one");
    // Who gives it up is followed at once, not after its patience.
    let began = time::Instant::now();
    one.seat = Seat::new("conformance-none", "one", Duration::ZERO).0;
    let second = two.won(patience).await;
    assert!(second > first, "{second} follows {first}");
    assert!(began.elapsed() < Duration::from_secs(3), "a seat that was given up stayed empty");
    other.close().await;
}

async fn a_holder_that_is_cut_off_stops_by_its_own_clock(fixture: &mut impl Writable) {
    let patience = fixture.patience();
    let mut one = Runner::start(fixture.registry(), "conformance-cut", "one");
    let first = one.won(patience).await;
    fixture.break_it().await;
    time::sleep(Duration::from_secs(5)).await;
    assert!(!one.holds(), "a holder that hears nothing goes on: {:?}", one.seat.term());
    fixture.mend_it().await;
    assert!(one.won(patience * 2).await >= first);
}

async fn a_holder_that_vanishes_is_followed(fixture: &mut impl Writable) {
    let patience = fixture.patience();
    let other = fixture.another();
    let mut gone = Runner::start(&*other, "conformance-gone", "gone");
    let first = gone.won(patience).await;
    let mut next = Runner::start(fixture.registry(), "conformance-gone", "next");
    // Not given up: nobody moves it on any more.
    gone.task.abort();
    let until = time::Instant::now() + patience * 2;
    while !next.holds() {
        assert!(time::Instant::now() < until, "nobody follows: {:?}", next.seat.term());
        time::sleep(Duration::from_millis(5)).await;
        assert!(!(next.holds() && gone.holds()), "a seat was given to another too soon");
    }
    let second = next.seat.term().number;
    assert!(second > first, "{second} follows {first}");
    other.close().await;
}
