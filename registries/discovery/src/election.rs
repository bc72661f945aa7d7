//! A seat that one of several processes has at a time, as registries give it that can.
//!
//! A holder is one only until a moment that it knows by its own clock ([`Term::until`]), which a registry moves on while it
//! hears from the holder's registry. A registry must never give a seat to another before the moment that it told its holder has
//! passed, so that one which is cut off, or stood still, stops by itself before anybody follows it. After the usual lease with
//! a fencing token; the token is [`Term::number`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::Closed;

/// Who has a seat, as far as one candidate knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// The moment until which this candidate has the seat, if it is told of no later one; `None`: it has it not.
    pub until: Option<Instant>,
    /// Grows with every holder, whoever it is; 0: nobody is known.
    pub number: u64,
    /// The name of who has it; `None`: nobody is known.
    pub holder: Option<Arc<str>>,
    /// Why nothing better is known; `None`: nothing is wrong.
    pub trouble: Option<Arc<str>>,
}

impl Term {
    /// Whether this candidate has the seat at a moment.
    pub fn is_held(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// The end of who wants a seat. Dropping it gives the seat up.
#[derive(Debug)]
pub struct Seat {
    told: watch::Receiver<Term>,
}

impl Seat {
    /// Wants the seat `seat` under the name `name`, which no other candidate has; it is taken from a holder that is not heard
    /// from for `patience`, three seconds at least.
    pub fn new(seat: &str, name: &str, patience: Duration) -> (Self, Candidate) {
        let (tell, told) = watch::channel(Term::default());
        let patience = patience.max(Duration::from_secs(3));
        (Self { told }, Candidate { seat: seat.into(), name: name.into(), patience, tell })
    }

    /// What is known now. Whoever stands for it no more has it not.
    pub fn term(&mut self) -> Term {
        let stands = self.told.has_changed().is_ok();
        let term = self.told.borrow_and_update().clone();
        Term { until: term.until.filter(|_| stands), ..term }
    }

    /// Waits until more is known than [`Seat::term`] gave last. Never ends once the registry's end is gone.
    pub async fn changed(&mut self) {
        if self.told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The end of the registry that gives a seat.
#[derive(Debug)]
pub struct Candidate {
    /// The seat's name: letters, digits, `-`, `_` and `.`.
    pub seat: Box<str>,
    /// The candidate's name, alike.
    pub name: Box<str>,
    /// How long a holder that is not heard from keeps the seat.
    pub patience: Duration,
    tell: watch::Sender<Term>,
}

impl Candidate {
    /// The candidate has the seat until a moment: now for the first time, or for longer.
    pub fn hold(&self, number: u64, until: Instant) {
        let holder = Some(Arc::from(&*self.name));
        self.tell.send_replace(Term { until: Some(until), number, holder, trouble: None });
    }

    /// Somebody else has it, or nobody is known to.
    pub fn follow(&self, number: u64, holder: Option<&str>) {
        let term = Term { until: None, number, holder: holder.map(Arc::from), trouble: None };
        self.tell.send_if_modified(|now| {
            let other = *now != term;
            if other {
                *now = term;
            }
            other
        });
    }

    /// Nothing can be known just now; what the candidate has runs out by itself.
    pub fn trouble(&self, why: &str) {
        self.tell.send_if_modified(|now| {
            let other = now.trouble.as_deref() != Some(why);
            now.trouble = Some(why.into());
            other
        });
    }

    /// Waits until nobody wants the seat any more.
    pub async fn given_up(&self) {
        self.tell.closed().await;
    }

    /// An error once nobody wants the seat any more.
    pub fn wanted(&self) -> Result<(), Closed> {
        if self.tell.is_closed() { Err(Closed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_hears_nothing_more_holds_no_longer_than_it_was_told() {
        let (mut seat, candidate) = Seat::new("bridge", "a", Duration::ZERO);
        assert_eq!(candidate.patience, Duration::from_secs(3), "shorter than any pause is too short");
        let now = Instant::now();
        assert!(!seat.term().is_held(now));
        candidate.hold(3, now + Duration::from_secs(2));
        candidate.trouble("gone");
        let term = seat.term();
        assert!(term.is_held(now + Duration::from_secs(1)) && !term.is_held(now + Duration::from_secs(2)));
        assert_eq!((term.number, term.holder.as_deref()), (3, Some("a")));
        candidate.follow(4, Some("b"));
        assert_eq!((seat.term().until, seat.term().trouble), (None, None));
        drop(seat);
        assert_eq!(candidate.wanted(), Err(Closed));
    }
}
