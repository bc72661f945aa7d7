//! A look at registries that never pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One place that is looked at.
pub(crate) struct Place {
    pub(crate) name: String,
    /// Who stands there, in order.
    pub(crate) look: Box<dyn Fn() -> Vec<String> + Send>,
    /// Who shall.
    pub(crate) wanted: Vec<String>,
}

impl Place {
    /// Waits until just those stand there that shall.
    #[track_caller]
    pub(crate) fn is_so(&self) {
        self.becomes(&self.wanted);
    }

    /// Waits until just these stand there.
    #[track_caller]
    pub(crate) fn becomes(&self, wanted: &[String]) {
        let mut last = Vec::new();
        let end = Instant::now() + super::lists::PATIENCE;
        while Instant::now() < end {
            last = (self.look)();
            if last == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} has {last:?} and not {wanted:?}", self.name);
    }
}

/// Looks at places all the time: each shall be the same at every look.
pub(crate) struct Eye {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>, Vec<Place>)>,
}

impl Eye {
    pub(crate) fn open(places: Vec<Place>) -> Self {
        let over = Arc::<AtomicBool>::default();
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (began, mut looks, mut wrong) = (Instant::now(), 0, Vec::new());
            while !ended.load(Ordering::SeqCst) {
                for Place { name, look, wanted } in &places {
                    let stands = look();
                    looks += 1;
                    if stands != *wanted {
                        wrong.push(format!("after {:?}: {name} has {stands:?}", began.elapsed()));
                    }
                }
                // As often as the servers bear it without that being all they do.
                std::thread::sleep(Duration::from_millis(5));
            }
            (looks, wrong, places)
        });
        Self { over, thread }
    }

    /// How often it looked is printed; it must have seen nothing else than it should. Gives the places back.
    #[track_caller]
    pub(crate) fn close(self, what: &str) -> Vec<Place> {
        self.over.store(true, Ordering::SeqCst);
        let (looks, wrong, places) = self.thread.join().expect("the registries answer");
        assert!(wrong.is_empty(), "{what}: of {looks} looks\n{}", wrong.join("\n"));
        assert!(looks >= places.len(), "{what}: nothing was looked at");
        eprintln!("{what}: {looks} looks, all as they should be");
        places
    }
}
