//! The life of a call, in the order in which the *frames* engine asks the core (`session/frames/{down,up,fail,again,time}.rs`).
//!
//! Must never decide anything itself: where a call goes, whether it may go again and when it must end is the core's word.

use std::{sync::Arc, time::Duration};

use outrigger_codec::{Message, Outcome, Refusal};
use outrigger_core::{End, EndpointSlot, Failure, ListenerId, Plan, Retry, Tick, decide, retry, settle};

use crate::world::{Event, World};

/// One call that has not ended.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) worker: usize,
    pub(crate) plan: Plan,
    /// What its caller was promised: nothing later than that.
    pub(crate) promised: Tick,
    /// Which try this is: what an earlier one still says is not heard.
    attempt: u32,
    /// Times it was given to an endpoint without being sent.
    tries: u8,
    again: u8,
    sent: bool,
    whole: bool,
    pauses: bool,
}

/// As the engines have it.
const TRIES_MAX: u8 = 3;
const AVOID_FAILED: Duration = Duration::from_secs(1);
/// How long a connection takes to be made, or refused.
const DIAL: Duration = Duration::from_micros(200);

impl World {
    /// A call comes to a worker. Where it went first, if anywhere.
    pub(crate) fn call(&mut self, worker: usize, key: u64) -> Option<EndpointSlot> {
        let mut message = Message::default();
        message.add(b"k", &key.to_le_bytes());
        let impatient = self.random.below(100) < self.setup.impatient;
        message.index.timeout_ms = impatient.then(|| 1 + self.random.below(400) as u32);
        let slow_body = self.random.below(100) < self.setup.slow_bodies;
        // It may have waited behind others of its connection.
        let waited = if impatient { Duration::from_micros(self.random.below(3_000)) } else { Duration::ZERO };
        let arrived = Tick(self.now.0 - waited.as_nanos() as u64);
        let usable = self.judge.usable(&self.workers[worker], self.now);
        let at = &mut self.workers[worker];
        let decided = decide(&at.snapshot, ListenerId(0), &mut at.local, message.head(), arrived, self.now);
        self.judge.calls += 1;
        let plan = match decided {
            Ok(plan) => plan,
            Err(refused) => {
                assert!(at.snapshot.cluster(0).unwrap().endpoints.is_empty(), "{refused:?}");
                self.judge.nowhere += 1;
                return None;
            }
        };
        self.judge.placed(&plan, &usable);
        self.judge.paid_in += u64::from(plan.retry.is_some());
        let theirs = message.index.timeout_ms.map(|ms| arrived.after(Duration::from_millis(ms.into())));
        let ours = self.setup.timeout.map(|timeout| self.now.after(timeout));
        let promised = theirs.into_iter().chain(ours).min().unwrap_or(Tick::NEVER);
        assert_eq!(plan.deadline, promised, "the smaller of the route's and the caller's own");
        assert_eq!(plan.caller_deadline, theirs.unwrap_or(Tick::NEVER));
        let slot = plan.endpoint;
        let id = self.next_call;
        self.next_call += 1;
        if plan.deadline <= self.now {
            self.judge.late += 1;
            self.ends(worker, plan, End::Refused(Refusal::TimedOut));
            return Some(slot);
        }
        let call = Call {
            worker,
            plan,
            promised,
            attempt: 0,
            tries: 1,
            again: 0,
            sent: false,
            whole: !slow_body,
            pauses: false,
        };
        if slow_body {
            let when = self.now.after(Duration::from_micros(self.random.below(20_000)));
            self.at(when, Event::Complete(id));
        }
        self.at(promised, Event::Deadline(id));
        self.calls.insert(id, call);
        self.place(id);
        Some(slot)
    }

    fn ends(&mut self, worker: usize, plan: Plan, end: End) {
        self.judge.ended(end, self.now.since(plan.started));
        settle(&mut self.workers[worker].local, plan, end, self.now);
        self.workers[worker].close_unlisted();
    }

    /// Gives a call to the connection of its endpoint, which is made where there is none.
    fn place(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        assert!(call.plan.deadline > self.now, "it is too late for this call: {call:?}");
        (call.plan.placed, call.sent, call.pauses) = (self.now, false, false);
        call.attempt += 1;
        let until = retry::try_deadline(&call.plan, call.again, self.now);
        let (worker, slot, attempt) = (call.worker, call.plan.endpoint, call.attempt);
        if until != Tick::NEVER {
            self.at(until, Event::Slow(id, attempt));
        }
        match self.workers[worker].links.get(&slot.0) {
            Some(true) => self.send(id),
            Some(false) => {}
            None => {
                self.workers[worker].links.insert(slot.0, false);
                self.workers[worker].local.connecting(slot);
                self.at(self.now.after(DIAL), Event::Dialed(worker, slot));
            }
        }
    }

    /// The bytes of a call are on their way, and there.
    fn send(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        assert!(call.plan.deadline > self.now && call.promised > self.now, "sent too late: {call:?}");
        call.sent = true;
        let address =
            self.workers[call.worker].local.endpoint(call.plan.endpoint).map(|state| &*state.address);
        let Some(peer) = self.peers.iter().position(|peer| Some(&*peer.address) == address) else {
            panic!("a call is at a slot that was given up: {call:?}");
        };
        let attempt = call.attempt;
        let served = self.peers[peer].serve(&mut self.random, self.now);
        let process = self.peers[peer].process;
        let done = Event::Worked(peer, process, id, attempt, served.outcome);
        self.at(self.now.after(served.after), done);
    }

    /// The calls of a worker at an endpoint.
    fn calls_at(&self, worker: usize, slot: EndpointSlot) -> Vec<u64> {
        let mine = |call: &Call| call.worker == worker && call.plan.endpoint == slot && !call.pauses;
        self.calls.iter().filter(|(_, call)| mine(call)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn dialed(&mut self, worker: usize, slot: EndpointSlot) {
        let local = &mut self.workers[worker].local;
        let Some(address) = local.endpoint(slot).map(|state| state.address.clone()) else {
            panic!("{slot:?} was given up while it was dialed");
        };
        let runs = self.peers.iter().any(|peer| *peer.address == *address && peer.runs);
        if runs {
            self.workers[worker].links.insert(slot.0, true);
            self.workers[worker].local.avoid(slot, Tick::ZERO);
            self.calls_at(worker, slot).into_iter().for_each(|id| self.send(id));
            return self.workers[worker].close_unlisted();
        }
        local.avoid(slot, self.now.after(AVOID_FAILED));
        local.disconnected(slot);
        self.workers[worker].links.remove(&slot.0);
        self.calls_at(worker, slot).into_iter().for_each(|id| self.moves(id));
    }

    /// A call that was not sent goes elsewhere, or ends.
    fn moves(&mut self, id: u64) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        let (at, from) = (&mut self.workers[call.worker], call.plan.endpoint);
        let to = (call.tries < TRIES_MAX && call.plan.deadline > self.now)
            .then(|| at.local.elsewhere(&at.snapshot, from, (call.plan.lot, call.plan.tried), self.now))
            .flatten();
        let fine = |slot: &EndpointSlot| {
            at.local.endpoint(*slot).is_some_and(|state| state.listed && state.avoid_until <= self.now)
        };
        let Some(to) = to.filter(fine) else {
            return self.ends(call.worker, call.plan, End::Refused(Refusal::Unreachable));
        };
        call.tries += 1;
        at.local.failed_at(from, self.now);
        at.local.reassign(&mut call.plan, to, self.now);
        self.judge.moved += 1;
        self.judge.kept_its_deadline(&call);
        self.calls.insert(id, call);
        self.place(id);
    }

    /// A connection was lost: what was sent over it may have been processed.
    pub(crate) fn link_lost(&mut self, worker: usize, slot: EndpointSlot) {
        self.workers[worker].links.remove(&slot.0);
        self.workers[worker].local.disconnected(slot);
        for id in self.calls_at(worker, slot) {
            let Some(call) = self.calls.remove(&id) else { continue };
            assert!(call.sent, "what was not sent waits for a connection");
            if let Some(call) = self.try_again(id, call, Failure::Lost) {
                self.ends(worker, call.plan, End::Refused(Refusal::Unreachable));
            }
        }
    }

    /// Sends a call again that failed so; gives it back where it may not.
    fn try_again(&mut self, id: u64, mut call: Call, failure: Failure) -> Option<Call> {
        let at = &mut self.workers[call.worker];
        let snapshot = Arc::clone(&at.snapshot);
        let meant = (call.again, true);
        let again = retry::again(&mut at.local, &snapshot, &call.plan, failure, meant, self.now);
        let Some((to, wait)) = again else { return Some(call) };
        assert!(
            self.now.after(wait) < call.plan.deadline,
            "there is no time for a pause of {wait:?}: {call:?}"
        );
        at.local.try_failed(&call.plan, failure, self.now);
        call.again += 1;
        at.local.reassign(&mut call.plan, to, self.now);
        self.judge.resent(self.now);
        self.judge.kept_its_deadline(&call);
        let worker = call.worker;
        call.pauses = true;
        self.calls.insert(id, call);
        if wait.is_zero() {
            self.place(id);
        } else {
            self.at(self.now.after(wait), Event::Again(id));
        }
        self.workers[worker].close_unlisted();
        None
    }

    pub(crate) fn goes_on(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        if call.plan.deadline <= self.now {
            self.expires(id);
        } else {
            self.place(id);
        }
    }

    pub(crate) fn answered(&mut self, id: u64, attempt: u32, outcome: Option<Outcome>) {
        // A late answer to a try before finds nobody.
        let heard =
            self.calls.get(&id).is_some_and(|call| call.attempt == attempt && call.sent && !call.pauses);
        let Some(outcome) = outcome.filter(|_| heard) else { return };
        let Some(mut call) = self.calls.remove(&id) else { return };
        assert!(call.plan.deadline > self.now, "it should have been answered by now: {call:?}");
        if call.plan.retry.as_deref().is_some_and(Retry::reads_answers) {
            match self.try_again(id, call, Failure::Answered(outcome, 0)) {
                Some(left) => call = left,
                None => return,
            }
        }
        self.ends(call.worker, call.plan, End::Answered(outcome));
    }

    pub(crate) fn slow(&mut self, id: u64, attempt: u32) {
        let due = self.calls.get(&id).is_some_and(|call| {
            call.attempt == attempt && !call.pauses && call.sent && call.plan.deadline > self.now
        });
        let Some(call) = due.then(|| self.calls.remove(&id)).flatten() else { return };
        // Where there is no other try, this one goes on.
        if let Some(call) = self.try_again(id, call, Failure::Slow) {
            self.calls.insert(id, call);
        }
    }

    pub(crate) fn expires(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        if call.plan.deadline > self.now {
            // Its request was complete only later than its head.
            return self.at(call.plan.deadline, Event::Deadline(id));
        }
        if let Some(call) = self.calls.remove(&id) {
            self.ends(call.worker, call.plan, End::Refused(Refusal::TimedOut));
        }
    }

    /// Callers who would wait for ever have left.
    pub(crate) fn callers_leave(&mut self) {
        let endless = self.calls.iter().filter(|(_, call)| call.promised == Tick::NEVER);
        let endless: Vec<u64> = endless.map(|(id, _)| *id).collect();
        for call in endless.iter().filter_map(|id| self.calls.remove(id)).collect::<Vec<_>>() {
            self.ends(call.worker, call.plan, End::Abandoned);
        }
    }

    pub(crate) fn completes(&mut self, id: u64) {
        let timeout = self.setup.timeout;
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.whole) else { return };
        call.whole = true;
        call.plan.complete(self.now);
        let ours = timeout.map_or(Tick::NEVER, |timeout| self.now.after(timeout));
        call.promised = ours.min(call.plan.caller_deadline);
        self.judge.kept_its_deadline(call);
    }
}
