//! Calls in flight on one upstream connection, found by the id we gave them.
//!
//! Ids come from a counter and are never used again before it has gone round (2^32 calls on one connection), so a
//! late or repeated reply cannot be taken for the answer to another call. The table is an array indexed by the
//! low bits of the id: an insert skips the ids whose place is still taken by a slow call, a lookup is one read.

use outrigger_codec::Ticket;
use outrigger_core::{Plan, Tick};

use super::arena::Key;

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// The connection it came from; may be gone.
    pub down: Key,
    /// The id its caller gave it.
    pub id: u64,
    /// What answering it needs.
    pub ticket: Ticket,
    /// How many endpoints it was handed to.
    pub tries: u8,
    /// Where it went; ended by one settle.
    pub plan: Plan,
    /// Its frame, where it may have to be sent again.
    pub kept: Vec<u8>,
    /// How often it was sent again although it may have been processed.
    pub again: u8,
    /// Until when the present try may take.
    pub try_until: Tick,
    /// When a second try goes beside this one.
    pub hedge_at: Tick,
    /// The other try of the same call: its connection, and its id there. The first to be answered is the call.
    pub twin: Option<(Key, u32)>,
}

impl Call {
    /// When something must be done about it.
    pub fn due(&self) -> Tick {
        self.plan.deadline.min(self.try_until).min(self.hedge_at)
    }
}

/// The calls in flight on one connection.
#[derive(Debug, Default)]
pub struct Pending {
    /// Length is zero or a power of two; the call with id `i` is at `i & (len - 1)`.
    places: Vec<Option<(u32, Call)>>,
    next: u32,
    len: usize,
    /// No deadline is earlier; may itself have passed with its call.
    earliest: Option<Tick>,
}

const PLACES_MIN: usize = 64;

impl Pending {
    /// The next id that is not in use.
    pub fn next_id(&mut self) -> u32 {
        self.reserve();
        loop {
            let id = self.next;
            self.next = self.next.wrapping_add(1);
            if self.places[id as usize & (self.places.len() - 1)].is_none() {
                return id;
            }
        }
    }

    /// Remembers a call; its new id.
    pub fn insert(&mut self, call: Call) -> u32 {
        let id = self.next_id();
        self.note(call.due());
        let at = id as usize & (self.places.len() - 1);
        self.places[at] = Some((id, call));
        self.len += 1;
        id
    }

    fn note(&mut self, due: Tick) {
        if due != Tick::NEVER {
            self.earliest = Some(self.earliest.map_or(due, |at| at.min(due)));
        }
    }

    /// Gives a call the frame that may have to be sent again.
    pub fn keep(&mut self, id: u32, frame: Vec<u8>) {
        if let Some(call) = self.get_mut(id) {
            call.kept = frame;
        }
    }

    /// Puts a call back that was taken out a moment ago, under the same id.
    pub fn put_back(&mut self, id: u32, call: Call) {
        self.note(call.due());
        let Some(mask) = self.places.len().checked_sub(1) else { return };
        if let Some(place) = self.places.get_mut(id as usize & mask)
            && place.is_none()
        {
            *place = Some((id, call));
            self.len += 1;
        }
    }

    /// The ids of calls whose present try has taken long enough for another, but not the call itself.
    pub fn slow(&mut self, now: Tick, into: &mut Vec<u32>) {
        if self.earliest() > now {
            return;
        }
        let slow = |call: &Call| call.try_until.min(call.hedge_at) <= now && call.plan.deadline > now;
        into.extend(self.places.iter().flatten().filter(|(_, call)| slow(call)).map(|(id, _)| *id));
    }

    /// The call with this id, to be changed in what is no time.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Call> {
        let mask = self.places.len().checked_sub(1)?;
        let (theirs, call) = self.places.get_mut(id as usize & mask)?.as_mut()?;
        (*theirs == id).then_some(call)
    }

    /// Takes out the call with this id; `None` for ids that are unknown, answered or expired.
    pub fn remove(&mut self, id: u64) -> Option<Call> {
        let id = u32::try_from(id).ok()?;
        let mask = self.places.len().checked_sub(1)?;
        let place = self.places.get_mut(id as usize & mask)?;
        if place.as_ref().is_none_or(|(theirs, _)| *theirs != id) {
            return None;
        }
        self.len -= 1;
        place.take().map(|(_, call)| call)
    }

    /// How many calls are in flight.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// No call's deadline is before this; `Tick::NEVER` when none has one.
    pub fn earliest(&self) -> Tick {
        self.earliest.unwrap_or(Tick::NEVER)
    }

    /// Takes out the calls whose deadline has come.
    pub fn expire(&mut self, now: Tick, into: &mut Vec<Call>) {
        if self.earliest() > now {
            return;
        }
        let mut earliest = None;
        for place in &mut self.places {
            let Some((_, call)) = place else { continue };
            let due = call.due();
            if call.plan.deadline <= now {
                into.extend(place.take().map(|(_, call)| call));
                self.len -= 1;
            } else if due != Tick::NEVER {
                earliest = Some(earliest.map_or(due, |at: Tick| at.min(due)));
            }
        }
        self.earliest = earliest;
    }

    /// Takes out all calls.
    pub fn drain(&mut self, into: &mut Vec<Call>) {
        into.extend(self.places.iter_mut().filter_map(Option::take).map(|(_, call)| call));
        self.len = 0;
        self.earliest = None;
    }

    /// Keeps a quarter of the places free, so that finding one takes a step or two.
    fn reserve(&mut self) {
        if (self.len + 1) * 4 <= self.places.len() * 3 {
            return;
        }
        let len = (self.places.len() * 2).max(PLACES_MIN);
        let mut places: Vec<_> = std::iter::repeat_with(|| None).take(len).collect();
        // Ids that differ in their low bits still do when one more bit is looked at: no two meet.
        for (id, call) in self.places.drain(..).flatten() {
            places[id as usize & (len - 1)] = Some((id, call));
        }
        self.places = places;
    }
}
