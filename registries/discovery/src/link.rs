//! The one connection to a registry as all who share it see it, and how a watch lives over it.
//!
//! A connection that is there has an epoch, which grows with each connection and whenever changes may have been missed: a watch
//! is begun anew with each. A watch must never end while anybody listens, nor be silent about a gap.

use std::{convert::Infallible, future::pending, sync::Arc};

use tokio::{sync::watch, time};

use crate::{Backoff, Closed, Teller};

/// How a connection does. `U`: what is asked over one that is there.
#[derive(Clone, Debug)]
pub enum Link<U> {
    /// Nothing was tried yet, or the first try goes on.
    New,
    /// There is no connection, for this reason.
    Down(Arc<str>),
    /// There is one.
    Up(U),
    /// It was closed on purpose, and stays so.
    Closed,
}

/// Why a watch is begun anew, or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody listens any more.
    Closed,
    /// It cannot go on, for this reason.
    Trouble(String),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// Looks at one service over one connection.
pub trait Look<U> {
    /// Why it cannot go on, in its own words.
    type Stop: Into<End> + Send;

    /// The epoch of a connection.
    fn epoch(up: &U) -> u64;

    /// Tells every change, until it cannot go on.
    fn look(
        &mut self,
        up: &U,
        teller: &mut Teller,
    ) -> impl Future<Output = Result<Infallible, Self::Stop>> + Send;
}

/// Tells every change of a service, until nobody listens.
pub async fn follow<U: Clone + Send + Sync>(
    mut link: watch::Receiver<Link<U>>,
    mut teller: Teller,
    mut eye: impl Look<U>,
) {
    let (mut backoff, mut epoch) = (Backoff::default(), None);
    while !teller.is_closed() {
        let now = link.borrow_and_update().clone();
        let up = match now {
            Link::Up(up) => Some(up),
            Link::New => None,
            Link::Down(reason) => {
                teller.lost(&reason);
                epoch = None;
                None
            }
            Link::Closed => {
                teller.lost("the registry was closed");
                None
            }
        };
        let Some(up) = up else {
            tokio::select! {
                () = turned(&mut link) => continue,
                () = teller.closed() => return,
            }
        };
        let now = epoch_of(&eye, &up);
        if epoch.replace(now).is_some_and(|before| before < now) {
            // A gap that was over before it was seen; changes may have been missed all the same.
            teller.lost("the connection to the server was lost for a moment");
        }
        let end = tokio::select! {
            () = turned(&mut link) => continue,
            Err(stop) = eye.look(&up, &mut teller) => stop.into(),
        };
        drop(up);
        let End::Trouble(reason) = end else { return };
        teller.lost(&reason);
        // The server was well enough for a connection: it is asked again without waiting for another one.
        tokio::select! {
            () = turned(&mut link) => {}
            () = time::sleep(backoff.failed()) => {}
            () = teller.closed() => return,
        }
    }
}

/// Waits until the connection does otherwise: for ever, when nobody is left who could tell.
async fn turned<U>(link: &mut watch::Receiver<Link<U>>) {
    if link.changed().await.is_err() {
        pending::<()>().await;
    }
}

fn epoch_of<U, L: Look<U>>(_: &L, up: &U) -> u64 {
    L::epoch(up)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, time::Duration};

    use super::*;
    use crate::{Board, Instance};

    /// Tells its epoch as a port; in the second it has trouble first.
    struct Eye(u64);

    impl Look<u64> for Eye {
        type Stop = End;

        fn epoch(up: &u64) -> u64 {
            *up
        }

        async fn look(&mut self, up: &u64, teller: &mut Teller) -> Result<Infallible, End> {
            self.0 += 1;
            if self.0 == 2 {
                return Err(End::Trouble("no answer".to_owned()));
            }
            teller.answer(vec![Instance::new(format!("a:{up}"))]);
            loop {
                teller.doubted().await?;
            }
        }
    }

    #[tokio::test]
    async fn a_watch_is_begun_anew_with_each_epoch_and_after_trouble_and_tells_of_gaps() {
        let (tells, link) = watch::channel(Link::New);
        let mut board = Board::default();
        let (number, teller) = board.open();
        let task = tokio::spawn(follow(link, teller, Eye(0)));
        let until = async |board: &Board, address: &str| loop {
            let view = board.view(number).expect("a watch");
            let there = view.instances.as_ref().and_then(|all| all.first()).map(|one| one.address.clone());
            if view.lost.is_none() && there.as_deref() == Some(address) {
                return view;
            }
            board.news().await;
        };
        tells.send_replace(Link::Up(1));
        assert_eq!(until(&board, "a:1").await.gaps, 0);
        // The gap was over before anybody looked, and then there is trouble.
        tells.send_replace(Link::Up(2));
        assert!(until(&board, "a:2").await.gaps > 0);
        tells.send_replace(Link::Down("gone".into()));
        while board.view(number).expect("a watch").lost.as_deref() != Some("gone") {
            board.news().await;
        }
        tells.send_replace(Link::Closed);
        while board.view(number).expect("a watch").lost.as_deref() != Some("the registry was closed") {
            board.news().await;
        }
        assert!(!task.is_finished(), "somebody listens");
        board.close(number);
        task.await.expect("an end");
    }

    #[tokio::test]
    async fn a_watch_that_nobody_tells_of_its_connection_any_more_waits_and_does_not_turn() {
        for last in [Link::New, Link::Down("gone".into()), Link::Up(1), Link::Closed] {
            let (tells, link) = watch::channel(last);
            let mut board = Board::default();
            let (_, teller) = board.open();
            drop(tells);
            let mut polls = 0;
            let mut watch = pin!(follow(link, teller, Eye(0)));
            let counted = poll_fn(|waking| {
                polls += 1;
                watch.as_mut().poll(waking)
            });
            let ended = time::timeout(Duration::from_millis(50), counted).await;
            assert!(ended.is_err() && polls < 10, "{polls} polls");
        }
    }
}
