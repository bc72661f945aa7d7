//! Calls that may have been processed and are sent again all the same, because their routes say that this does no harm.
//!
//! Whether one may is decided by `core::retry`; here its frame is kept until it is answered, and sent anew under another id:
//! a late answer to the try before finds nobody. A call that waits long may have two tries at once: two entries that know each
//! other, of which the first that is answered well is the call, and the last that fails.

use outrigger_codec::{FrameCodec, HeadIndex, Refusal, Wants};
use outrigger_core::{End, EndpointSlot, Failure, Plan, Tick, retry, settle};

use super::{
    super::{arena::Key, pending::Call, words},
    Context, Frames,
};

/// Longest frame that is kept to be sent again.
const REPLAY_MAX: usize = 64 << 10;

impl<C: FrameCodec> Frames<C> {
    /// A copy of a frame that may have to be sent again; empty where it is too long, or too much is kept already.
    pub(super) fn keep(&mut self, frame: &[u8]) -> Vec<u8> {
        if frame.len() > REPLAY_MAX {
            return Vec::new();
        }
        let mut kept = Vec::new();
        self.buffers.keep(&mut kept, frame);
        kept
    }

    /// Sends a call again that failed so, or leaves it to its other try; gives it back where its route does not name that, or
    /// it may not.
    pub(super) fn try_again(
        &mut self,
        context: &mut Context<'_>,
        mut call: Call,
        failure: Failure,
        same_too: bool,
    ) -> Option<Call> {
        if call.twin.is_some() {
            let named = call.plan.retry.as_deref().is_some_and(|retry| retry.names(failure));
            let leaves = failure == Failure::Lost || (named && failure != Failure::Slow);
            return if leaves { self.leave_to_twin(context, call, failure) } else { Some(call) };
        }
        if call.kept.is_empty() || self.ending || self.downs.get(call.down).is_none() {
            return Some(call);
        }
        let meant = (call.again, same_too);
        let again = retry::again(context.local, context.snapshot, &call.plan, failure, meant, context.now);
        let Some((to, wait)) = again else { return Some(call) };
        self.counters.resent += 1;
        context.local.try_failed(&call.plan, failure, context.now);
        call.again = call.again.saturating_add(1);
        context.local.reassign(&mut call.plan, to, context.now);
        if wait.is_zero() {
            self.send_anew(context, call, to);
        } else {
            self.later.add(context.now.after(wait), call);
        }
        None
    }

    /// Sends a call that waits long a second time, to another endpoint, out of the same budget. The first try goes on.
    fn hedge(&mut self, context: &mut Context<'_>, place: (Key, u32), call: &mut Call) {
        let idle = call.kept.is_empty() || call.twin.is_some() || self.downs.get(call.down).is_none();
        if idle || self.ending {
            return;
        }
        let plan = retry::hedge(context.local, context.snapshot, &mut call.plan, call.again, context.now);
        let Some(plan) = plan else { return };
        let to = plan.endpoint;
        let key = self.choose(context, to, C::lane(&call.kept));
        let key = key.filter(|key| self.has_room(context, *key, to));
        let Some((key, up)) = key.and_then(|key| Some((key, self.ups.get_mut(key)?))) else {
            return settle(context.local, plan, End::Superseded, context.now);
        };
        Self::tell_less(&mut self.index, &mut call.kept, &plan, context.now);
        call.again = call.again.saturating_add(1);
        self.counters.hedged += 1;
        let try_until = retry::try_deadline(&plan, call.again, context.now);
        self.next_deadline = self.next_deadline.min(try_until);
        let id = up.pending.insert(Call {
            plan,
            kept: Vec::new(),
            try_until,
            hedge_at: Tick::NEVER,
            twin: Some(place),
            ..*call
        });
        Self::append(&mut self.buffers, up, &call.kept, id, context.now);
        self.flush_up(key);
        call.twin = Some((key, id));
    }

    /// A try has failed so whose call has another, which is the call from here on. Gives it back where there is none.
    pub(super) fn leave_to_twin(
        &mut self,
        context: &mut Context<'_>,
        mut call: Call,
        failure: Failure,
    ) -> Option<Call> {
        let Some((key, id)) = call.twin.take() else { return Some(call) };
        let Some(other) = self.ups.get_mut(key).and_then(|up| up.pending.get_mut(id)) else {
            return Some(call);
        };
        other.twin = None;
        // Whoever goes on may have to be sent again.
        if other.kept.is_empty() {
            other.kept = call.kept;
        } else {
            self.buffers.let_go(call.kept);
        }
        context.local.try_failed(&call.plan, failure, context.now);
        settle(context.local, call.plan, End::Superseded, context.now);
        None
    }

    /// A call is over: its other try, if there is one, is forgotten, and what is still answered to that finds nobody.
    pub(super) fn end_twin(&mut self, context: &mut Context<'_>, call: &mut Call) {
        let Some((key, id)) = call.twin.take() else { return };
        let other = self.ups.get_mut(key).and_then(|up| {
            up.idle_since = context.now;
            up.pending.remove(u64::from(id))
        });
        if let Some(other) = other {
            self.buffers.let_go(other.kept);
            settle(context.local, other.plan, End::Superseded, context.now);
            self.close_if_spent(context, key);
        }
    }

    /// Sends the kept frame of a call to an endpoint, or answers it.
    fn send_anew(&mut self, context: &mut Context<'_>, mut call: Call, to: EndpointSlot) {
        let key = self.choose(context, to, C::lane(&call.kept));
        let Some(key) = key.filter(|key| self.has_room(context, *key, to)) else {
            return self.give_up(context, call, Refusal::Overloaded);
        };
        let Some(up) = self.ups.get_mut(key) else { return };
        call.plan.placed = context.now;
        call.try_until = retry::try_deadline(&call.plan, call.again, context.now);
        call.hedge_at = retry::hedge_at(&call.plan, call.again, context.now);
        self.next_deadline = self.next_deadline.min(call.due());
        Self::tell_less(&mut self.index, &mut call.kept, &call.plan, context.now);
        let frame = std::mem::take(&mut call.kept);
        let id = up.pending.insert(call);
        Self::append(&mut self.buffers, up, &frame, id, context.now);
        up.pending.keep(id, frame);
        self.flush_up(key);
    }

    /// Tells in a frame that was sent before how much is left of its time.
    fn tell_less(index: &mut HeadIndex, frame: &mut [u8], plan: &Plan, now: Tick) {
        if plan.deadline != Tick::NEVER {
            // What cannot be read has no timeout that could be told; what had no place for one was given it the first time.
            index.clear();
            let _ = C::head(frame, Wants::TIMEOUT, index);
            C::set_timeout(frame, index, plan.left_ms(now));
        }
    }

    fn give_up(&mut self, context: &mut Context<'_>, call: Call, why: Refusal) {
        let waited = context.now.since(call.plan.started).as_millis();
        let message = context.local.endpoint(call.plan.endpoint).map_or_else(String::new, |endpoint| {
            words::failed(why, &endpoint.cluster, &endpoint.address, waited)
        });
        self.answer_for(context, call, why, &message);
    }

    /// Calls whose pause is over are sent again.
    pub(super) fn go_on_later(&mut self, context: &mut Context<'_>) {
        while let Some(call) = self.later.due(context.now) {
            if self.downs.get(call.down).is_none() {
                self.buffers.let_go(call.kept);
                settle(context.local, call.plan, End::Abandoned, context.now);
            } else if call.plan.deadline <= context.now {
                self.give_up(context, call, Refusal::TimedOut);
            } else {
                self.goes_on(context, call);
            }
        }
    }

    /// Sends a call whose pause is over to where it was meant to go, or elsewhere if that is gone since.
    fn goes_on(&mut self, context: &mut Context<'_>, mut call: Call) {
        if !retry::is_there(context.local, call.plan.endpoint) {
            let (local, snapshot, now) = (&mut *context.local, context.snapshot, context.now);
            let Some(to) = retry::place(local, snapshot, &call.plan, false, now) else {
                return self.give_up(context, call, Refusal::Unreachable);
            };
            local.reassign(&mut call.plan, to, now);
        }
        let to = call.plan.endpoint;
        self.send_anew(context, call, to);
    }

    /// Calls of a connection whose present try takes long are sent again where they may: in its place, or beside it.
    pub(super) fn try_slow_ones_again(&mut self, context: &mut Context<'_>, key: Key) {
        let mut ids = std::mem::take(&mut self.ids);
        if let Some(up) = self.ups.get_mut(key) {
            up.pending.slow(context.now, &mut ids);
        }
        for id in ids.drain(..) {
            let Some(mut call) = self.ups.get_mut(key).and_then(|up| up.pending.remove(u64::from(id))) else {
                continue;
            };
            if call.hedge_at <= context.now {
                call.hedge_at = Tick::NEVER;
                self.hedge(context, (key, id), &mut call);
            }
            let mut goes_on = Some(call);
            if let Some(mut call) = goes_on.take_if(|call| call.try_until <= context.now) {
                call.try_until = Tick::NEVER;
                // Where there is no other try, this one goes on.
                goes_on = self.try_again(context, call, Failure::Slow, true);
            }
            if let (Some(call), Some(up)) = (goes_on, self.ups.get_mut(key)) {
                up.pending.put_back(id, call);
            }
        }
        self.ids = ids;
    }

    /// Answers everything that waits to be sent again: there is no time for that any more.
    pub(super) fn end_later(&mut self, context: &mut Context<'_>) {
        let calls: Vec<Call> = self.later.all().collect();
        for call in calls {
            self.answer_for(context, call, Refusal::Unreachable, "outrigger: shutting down");
        }
    }
}
