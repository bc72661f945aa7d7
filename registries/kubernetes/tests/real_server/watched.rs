//! A watch and a wish of the test's own, and how their ends are awaited.

use std::time::Duration;

use outrigger_discovery::{
    Board, Framework, Instance, Level, Registration, Registry, ServiceKey, View, Wish, Written,
};
use tokio::{task::JoinHandle, time};

/// How long news may take: a watch that its server left without a word is begun anew by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running watch.
pub(crate) struct Watched {
    board: Board,
    number: usize,
    task: JoinHandle<()>,
}

impl Watched {
    /// Starts one.
    pub(crate) fn start(registry: &dyn Registry, key: ServiceKey) -> Self {
        let mut board = Board::default();
        let (number, teller) = board.open();
        Self { board, number, task: tokio::spawn(registry.watch(key, teller)) }
    }

    /// The same of a plain service.
    pub(crate) fn plain(registry: &dyn Registry, service: &str, protocol: &str) -> Self {
        Self::start(registry, key(Framework::Plain, service, protocol))
    }

    /// What it knows now.
    pub(crate) fn view(&self) -> View {
        self.board.view(self.number).expect("a watch")
    }

    /// The instances that it knows.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        self.view().instances.iter().flat_map(|all| all.iter()).cloned().collect()
    }

    /// Waits until what it knows is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) -> View {
        let wait = async {
            while !wanted(&self.view()) {
                self.board.news().await;
            }
        };
        let come = time::timeout(PATIENCE, wait).await;
        assert!(come.is_ok(), "{what} in time; what is known: {:#?}", self.view());
        assert!(!self.task.is_finished(), "a watch must not end while it is read");
        self.view()
    }

    /// Waits until exactly these addresses are known, and the registry is well.
    pub(crate) async fn until_addresses(&self, want: &[&str]) {
        self.until(&format!("{want:?}"), |view| {
            let have = view
                .instances
                .as_ref()
                .map(|all| all.iter().map(|one| one.address.as_str()).collect::<Vec<_>>());
            view.lost.is_none() && have.is_some_and(|have| have == want)
        })
        .await;
    }

    /// Waits until the registry is lost for a reason with these words.
    pub(crate) async fn until_lost(&self, words: &str) {
        self.until(&format!("lost: {words}"), |view| {
            view.lost.as_ref().is_some_and(|why| why.contains(words))
        })
        .await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A wish, and the task that works on it.
pub(crate) struct Keeper {
    pub(crate) wish: Wish,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(crate) fn start(registry: &dyn Registry) -> Self {
        let (wish, desired) = Wish::new();
        Self { wish, task: tokio::spawn(registry.register(desired)) }
    }

    /// Has these registered, and waits until they are.
    pub(crate) async fn set(&mut self, registrations: &[Registration]) {
        self.wish.set(registrations.into());
        let done = time::timeout(PATIENCE, self.wish.done()).await;
        assert!(done.is_ok(), "not written in time: {:?}", self.wish.written());
    }

    /// Waits until so much is pending and the trouble with it has these words.
    pub(crate) async fn until_trouble(&self, pending: usize, words: &str) -> Written {
        let until = time::Instant::now() + PATIENCE;
        loop {
            let written = self.wish.written();
            if let Some(written) = written.clone()
                && written.pending == pending
                && written.trouble.as_ref().is_some_and(|why| why.contains(words))
            {
                return written;
            }
            assert!(time::Instant::now() < until, "not {pending} pending for {words:?}: {written:?}");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn key(framework: Framework, service: &str, protocol: &str) -> ServiceKey {
    let protocol = Some(protocol.to_owned()).filter(|protocol| !protocol.is_empty());
    ServiceKey { framework, protocol, ..ServiceKey::new(service) }
}

pub(crate) fn registration(framework: Framework, service: &str, address: &str) -> Registration {
    let protocol = match framework {
        Framework::Dubbo => "dubbo",
        Framework::Sofarpc => "bolt",
        Framework::Spring | Framework::Plain => "http",
    };
    Registration {
        app: "shop".into(),
        framework,
        level: Level::Interface,
        service: service.into(),
        protocol: protocol.into(),
        address: address.into(),
        group: None,
        version: None,
        weight: 100,
        started: 1_700_000_000_000,
        metadata: std::collections::BTreeMap::new(),
    }
}
