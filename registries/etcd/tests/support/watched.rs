//! What the tests look through and register with. Test code: it asserts and panics.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use outrigger_discovery::{
    Board, Framework, Instance, Level, Registration, Registry, ServiceKey, View, Wish,
};
use tokio::{task::JoinHandle, time};

use super::PATIENCE;

/// A running watch.
pub(crate) struct Watched {
    pub(crate) board: Board,
    pub(crate) number: usize,
    task: JoinHandle<()>,
}

impl Watched {
    /// Starts one.
    pub(crate) fn start(registry: &dyn Registry, key: ServiceKey) -> Self {
        let mut board = Board::default();
        let (number, teller) = board.open();
        Self { board, number, task: tokio::spawn(registry.watch(key, teller)) }
    }

    /// What it knows now.
    pub(crate) fn view(&self) -> View {
        self.board.view(self.number).expect("a watch")
    }

    /// The instances that it knows.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        self.view().instances.iter().flat_map(|all| all.iter()).cloned().collect()
    }

    /// Their addresses.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.instances().into_iter().map(|instance| instance.address).collect()
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

    /// Waits until the registry is lost; why.
    pub(crate) async fn until_lost(&self) -> Arc<str> {
        self.until("a loss", |view| view.lost.is_some()).await.lost.expect("a reason")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who keeps something registered.
pub(crate) struct Keeper {
    pub(crate) wish: Wish,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(crate) fn start(registry: &dyn Registry) -> Self {
        let (wish, desired) = Wish::new();
        Self { wish, task: tokio::spawn(registry.register(desired)) }
    }

    pub(crate) async fn set(&mut self, registrations: &[Registration]) {
        self.wish.set(registrations.into());
        self.done().await;
    }

    pub(crate) async fn done(&mut self) {
        self.done_within(PATIENCE).await;
    }

    /// For what is so much that a busy machine is not done with it as soon as with one.
    pub(crate) async fn done_within(&mut self, patience: Duration) {
        let done = time::timeout(patience, self.wish.done()).await;
        assert!(done.is_ok(), "not done in time: {:?}", self.wish.written());
    }

    /// Waits until nothing stands in the way of the writing any more, and that is said; how much has still to be written then.
    pub(crate) async fn until_at_work(&self) -> usize {
        // A look after each step of the others, so that none is missed.
        let wait = async {
            loop {
                match self.wish.written() {
                    Some(written) if written.trouble.is_none() => return written.pending,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        time::timeout(PATIENCE, wait).await.expect("a start in time")
    }

    /// What went wrong last.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.wish.written()?.trouble
    }

    /// Waits until something cannot be done, and is said.
    pub(crate) async fn until_pending(&self) -> String {
        until("trouble", async || {
            self.wish.written().is_some_and(|written| written.pending > 0 && written.trouble.is_some())
        })
        .await;
        self.trouble().expect("trouble")
    }

    /// Wants nothing any more, and waits until that is so.
    pub(crate) async fn end(mut self) {
        self.wish = Wish::new().0;
        let ended = time::timeout(PATIENCE, &mut self.task).await;
        assert!(matches!(ended, Ok(Ok(()))), "an end in time: {ended:?}");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(time::timeout(PATIENCE, wait).await.is_ok(), "{what} in time");
}

/// A service of Dubbo, or of another framework, at a port of the usual host.
pub(crate) fn registration(framework: Framework, level: Level, port: u16) -> Registration {
    Registration {
        app: "shop".into(),
        framework,
        level,
        service: "a.B".into(),
        protocol: if framework == Framework::Dubbo { "dubbo" } else { "http" }.into(),
        address: format!("10.9.9.1:{port}"),
        group: None,
        version: None,
        weight: 100,
        started: 7,
        metadata: BTreeMap::new(),
    }
}
