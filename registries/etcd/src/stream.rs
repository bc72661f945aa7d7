//! The one stream on which the server tells all changes, and the questions that come before.
//!
//! Each mirror is read, at most so many at once, and then watched from the next revision on, so that nothing changes unseen
//! in between. A watch that the server ends (it cannot tell changes that are compacted) has its mirror read again. What is to
//! be sent must never hold up who reads: the server stops reading when nobody reads what it says, and both would wait for
//! ever. So it waits in a list, in which each mirror has few places at most.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{task::JoinSet, time};
use tonic::Streaming;

use crate::{
    client::{Error, Outbox, is_of_token},
    mirror::{Change, Entry, Mirror, Read},
    read,
    session::{NOTHING, Shared, Up},
    wire::{Event, WatchCancelRequest, WatchCreateRequest, WatchOrder, WatchRequest, WatchResponse},
};

/// How many questions wait for their answers at the same time: enough to be quick after a gap, too few to be a stampede.
const ASKS_AT_ONCE: usize = 32;
/// After how long a range is asked about again that could not be read.
const AGAIN: Duration = Duration::from_secs(3);

/// The stream of one connection.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    up: Up,
    told: Streaming<WatchResponse>,
    orders: Outbox<WatchRequest>,
    /// Questions on their way.
    asks: JoinSet<Asked>,
    /// Mirrors that are to be asked about.
    waiting: VecDeque<Weak<Mirror>>,
    /// Those that are to be asked about again, and when; in this order.
    later: VecDeque<(time::Instant, Weak<Mirror>)>,
    /// Who is told under which number.
    watches: HashMap<i64, Weak<Mirror>>,
    /// The numbers that were asked for and not yet answered, in this order.
    asked_for: VecDeque<i64>,
    last: i64,
}

/// A question that has its answer.
struct Asked {
    mirror: Weak<Mirror>,
    number: u64,
    answer: Result<Read, Error>,
}

impl Stream {
    /// Opens it. A stream begins with a watch; this one's is of nothing, and has the number 1.
    pub(crate) async fn open(shared: Arc<Shared>, up: Up) -> Result<Self, Error> {
        let orders = Outbox::default();
        let first = WatchCreateRequest { key: NOTHING.into(), watch_id: 1, ..WatchCreateRequest::default() };
        orders.add(WatchRequest { order: Some(WatchOrder::Create(first)) });
        let told = up.client.watch(&orders).await?;
        let waiting = shared.sight.begin().into();
        Ok(Self {
            shared,
            up,
            told,
            orders,
            asks: JoinSet::new(),
            waiting,
            later: VecDeque::new(),
            watches: HashMap::new(),
            asked_for: VecDeque::from([1]),
            last: 1,
        })
    }

    /// Keeps all mirrors as the server has them, until the stream ends; says why it does.
    pub(crate) async fn drive(mut self) -> Error {
        let shared = Arc::clone(&self.shared);
        loop {
            self.ask();
            let again = self.later.front().map_or_else(time::Instant::now, |(when, _)| *when);
            tokio::select! {
                message = self.told.message() => match message {
                    Ok(Some(message)) => if let Err(error) = self.hear(message) {
                        return error;
                    },
                    Ok(None) => return Error::Link("it has ended the stream of changes".to_owned()),
                    Err(error) => return error.into(),
                },
                Some(asked) = self.asks.join_next() => if let Ok(asked) = asked
                    && let Err(error) = self.answered(asked)
                {
                    return error;
                },
                () = shared.sight.bell.notified() => {
                    let (asking, dropped) = shared.sight.wanted();
                    self.waiting.extend(asking);
                    for watch in dropped {
                        // Those of an earlier connection are none of this one's.
                        if self.watches.remove(&watch).is_some() {
                            self.cancel(watch);
                        }
                    }
                }
                () = time::sleep_until(again), if !self.later.is_empty() => {
                    self.waiting.extend(self.later.pop_front().map(|(_, mirror)| mirror));
                }
            }
        }
    }

    /// Asks about those that wait, as many as may be asked about at once.
    fn ask(&mut self) {
        while self.asks.len() < ASKS_AT_ONCE
            && let Some(mirror) = self.waiting.pop_front()
        {
            if let Some(one) = mirror.upgrade() {
                let (number, since) = one.asking();
                self.put(&one, number, since);
            }
        }
    }

    fn put(&mut self, mirror: &Arc<Mirror>, number: u64, since: i64) {
        let client = self.up.client.clone();
        let (range, mirror) = (mirror.range.clone(), Arc::downgrade(mirror));
        self.asks.spawn(async move {
            let answer = read::range(&client, &range, since).await;
            Asked { mirror, number, answer }
        });
    }

    fn answered(&mut self, Asked { mirror: weak, number, answer }: Asked) -> Result<(), Error> {
        let Some(mirror) = weak.upgrade() else { return Ok(()) };
        match answer {
            Ok(read) => {
                self.shared.status.heard();
                match mirror.take(read, number, self.up.epoch) {
                    Ok(Some(from)) => self.watch(&mirror, from),
                    Ok(None) => {}
                    // Something is gone: everything is asked for, and what is missing then is what it was.
                    Err(()) => self.put(&mirror, number, 0),
                }
            }
            Err(error @ Error::Token(_)) => return Err(error),
            Err(error) => {
                mirror.fail(&format!("{}: {error}", mirror.range.start()));
                self.later.push_back((time::Instant::now() + AGAIN, weak));
            }
        }
        Ok(())
    }

    fn watch(&mut self, mirror: &Arc<Mirror>, from: i64) {
        self.last = self.last.saturating_add(1);
        mirror.is_watched(self.last);
        self.watches.insert(self.last, Arc::downgrade(mirror));
        self.asked_for.push_back(self.last);
        let create = WatchCreateRequest {
            key: mirror.range.start().into(),
            range_end: mirror.range.end().unwrap_or_default(),
            start_revision: from,
            progress_notify: true,
            watch_id: self.last,
        };
        self.orders.add(WatchRequest { order: Some(WatchOrder::Create(create)) });
    }

    fn cancel(&self, watch_id: i64) {
        let cancel = WatchCancelRequest { watch_id };
        self.orders.add(WatchRequest { order: Some(WatchOrder::Cancel(cancel)) });
    }

    fn hear(&mut self, message: WatchResponse) -> Result<(), Error> {
        self.shared.status.heard();
        let mut watch = message.watch_id;
        if message.created {
            // Those that are refused bear no number of their own.
            watch = self.asked_for.pop_front().unwrap_or(watch);
        }
        if message.canceled {
            let why = message.cancel_reason;
            if is_of_token(&why) {
                return Err(Error::Token(why));
            }
            let Some(weak) = self.watches.remove(&watch) else { return Ok(()) };
            let Some(mirror) = weak.upgrade() else { return Ok(()) };
            mirror.is_blind();
            if message.compact_revision > 0 {
                self.waiting.push_back(weak);
            } else {
                mirror.fail(&format!("{}: the server refuses: {why}", mirror.range.start()));
                self.later.push_back((time::Instant::now() + AGAIN, weak));
            }
            return Ok(());
        }
        let Some(mirror) = self.watches.get(&watch).and_then(Weak::upgrade) else { return Ok(()) };
        if !message.events.is_empty() {
            mirror.change(message.events.into_iter().filter_map(change).collect());
        } else if !message.created {
            mirror.progress(message.header.map_or(0, |header| header.revision));
        }
        Ok(())
    }
}

fn change(event: Event) -> Option<Change> {
    const PUT: i32 = 0;
    let kv = event.kv?;
    let revision = kv.mod_revision;
    let (key, entry) = Entry::of(kv);
    Some(Change { key, revision, entry: (event.kind == PUT).then_some(entry) })
}
