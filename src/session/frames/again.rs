//! Calls that may have been processed and are sent again all the same, because their routes say that this does no harm.
//!
//! Whether one may is decided by `core::retry`; here its frame is kept until it is answered, and sent anew under another id:
//! a late answer to the try before finds nobody.

use outrigger_codec::{FrameCodec, Refusal, Wants};
use outrigger_core::{End, EndpointSlot, Failure, Tick, retry, settle};

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

    /// Sends a call again that failed so; gives it back where its route does not name that, or it may not.
    pub(super) fn try_again(
        &mut self,
        context: &mut Context<'_>,
        mut call: Call,
        failure: Failure,
        same_too: bool,
    ) -> Option<Call> {
        if call.kept.is_empty() || self.ending || self.downs.get(call.down).is_none() {
            return Some(call);
        }
        let Some(wait) = retry::may(context.local, &call.plan, failure, call.again, context.now) else {
            return Some(call);
        };
        let Some(to) = retry::place(context.local, context.snapshot, &call.plan, same_too, context.now)
        else {
            return Some(call);
        };
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

    /// Sends the kept frame of a call to an endpoint, or answers it.
    fn send_anew(&mut self, context: &mut Context<'_>, mut call: Call, to: EndpointSlot) {
        let key = self.choose(context, to, C::lane(&call.kept));
        let Some(key) = key.filter(|key| self.has_room(context, *key, to)) else {
            return self.give_up(context, call, Refusal::Overloaded);
        };
        let Some(up) = self.ups.get_mut(key) else { return };
        call.plan.placed = context.now;
        call.try_until = retry::try_deadline(&call.plan, call.again, context.now);
        self.next_deadline = self.next_deadline.min(call.due());
        if call.plan.deadline != Tick::NEVER {
            // What cannot be read has no timeout that could be told; what had no place for one was given it the first time.
            self.index.clear();
            let _ = C::head(&call.kept, Wants::TIMEOUT, &mut self.index);
            C::set_timeout(&mut call.kept, &self.index, call.plan.left_ms(context.now));
        }
        let frame = std::mem::take(&mut call.kept);
        let id = up.pending.insert(call);
        Self::append(&mut self.buffers, up, &frame, id, context.now);
        up.pending.keep(id, frame);
        self.flush_up(key);
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
                let to = call.plan.endpoint;
                self.send_anew(context, call, to);
            }
        }
    }

    /// Calls of a connection whose present try took too long are sent again where they may.
    pub(super) fn try_slow_ones_again(&mut self, context: &mut Context<'_>, key: Key) {
        let mut ids = Vec::new();
        if let Some(up) = self.ups.get_mut(key) {
            up.pending.slow(context.now, &mut ids);
        }
        for id in ids {
            let Some(call) = self.ups.get_mut(key).and_then(|up| up.pending.remove(u64::from(id))) else {
                continue;
            };
            // Where there is no other try, this one goes on.
            if let Some(call) = self.try_again(context, call, Failure::Slow, true)
                && let Some(up) = self.ups.get_mut(key)
            {
                up.pending.put_back(id, call);
            }
        }
    }

    /// Answers everything that waits to be sent again: there is no time for that any more.
    pub(super) fn end_later(&mut self, context: &mut Context<'_>) {
        let calls: Vec<Call> = self.later.all().collect();
        for call in calls {
            self.answer_for(context, call, Refusal::Unreachable, "outrigger: shutting down");
        }
    }
}
