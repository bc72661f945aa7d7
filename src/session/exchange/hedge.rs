//! A second try of a request that waits long for its answer, beside the first and on a connection of another endpoint.
//!
//! The first of the two that is answered well is the call; of the other, whose connection is closed, nobody hears. Must never
//! let bytes of both reach a caller, nor leave one of them unsettled.

use outrigger_codec::{Body, ExchangeCodec};
use outrigger_core::{End, Failure, Plan, retry, settle};

use super::{super::arena::Key, Context, Exchange, Flow, Stage, pool::Got};

/// The second try of a request.
#[derive(Debug)]
pub(super) struct Hedge {
    /// The connection that carries it.
    up: Key,
    plan: Plan,
}

impl<C: ExchangeCodec> Exchange<C> {
    /// Sends a request that waits long a second time, where there is another place for it and the budget allows it.
    pub(super) fn hedge(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return };
        call.hedge_at = outrigger_core::Tick::NEVER;
        let waits = matches!(call.stage, Stage::Head) && call.interims == 0 && call.body.is_done();
        if !waits || call.hedge.is_some() || call.asked.tunnel || self.ending {
            return;
        }
        let Some(first) = call.up.and_then(|up| self.ups.get(up)) else { return };
        // What has begun to be answered needs no help.
        if !first.outbox.is_whole() || !first.carry.is_empty() {
            return;
        }
        let plan = retry::hedge(context.local, context.snapshot, &mut call.plan, call.again, context.now);
        let Some(plan) = plan else { return };
        call.again = call.again.saturating_add(1);
        let mut flow = Flow::of(first.outbox.copy(&mut self.buffers), true);
        let patience = self.patience(key);
        let got = self.acquire(context, plan.endpoint, patience);
        let (Got::Connection(up_key), Some(down)) = (got, self.downs.get_mut(key)) else {
            flow.clear(&mut self.buffers);
            return settle(context.local, plan, End::Superseded, context.now);
        };
        let (Some(call), Some(up)) = (down.call.as_mut(), self.ups.get_mut(up_key)) else {
            return settle(context.local, plan, End::Superseded, context.now);
        };
        Self::tell_less(&down.arrival.manners.policy, &plan, &mut flow, context.now);
        up.down = Some(key);
        (up.last_in, up.last_out) = (context.now, context.now);
        up.outbox = flow;
        call.hedge = Some(Hedge { up: up_key, plan });
        self.calls += 1;
        self.counters.hedged += 1;
        self.flush_up(up_key);
    }

    /// The try on `up` has failed so. `true`: there is another, which is the call from here on.
    pub(super) fn leave_to_other(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        up: Key,
        failure: Failure,
    ) -> bool {
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return false };
        let Some(Hedge { up: other, mut plan }) = call.hedge.take() else { return false };
        if other != up {
            std::mem::swap(&mut plan, &mut call.plan);
            call.up = Some(other);
            let placed = call.plan.placed;
            call.try_until = retry::try_deadline(&call.plan, call.again, placed);
            self.next_deadline = self.next_deadline.min(call.try_until);
        }
        context.local.try_failed(&plan, failure, context.now);
        self.supersede(context, plan);
        self.close_nobodys(context, up);
        true
    }

    /// The try on `up` is answered: it is the call, and the other is none.
    pub(super) fn prevails(&mut self, context: &mut Context<'_>, key: Key, up: Key) {
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return };
        let Some(Hedge { up: mut loser, mut plan }) = call.hedge.take() else { return };
        if loser == up
            && let Some(first) = call.up.replace(up)
        {
            std::mem::swap(&mut plan, &mut call.plan);
            loser = first;
        }
        self.supersede(context, plan);
        self.close_nobodys(context, loser);
    }

    /// A call is over before any answer: so is its second try.
    pub(super) fn end_hedge(&mut self, context: &mut Context<'_>, key: Key) {
        let call = self.downs.get_mut(key).and_then(|down| down.call.as_mut());
        if let Some(Hedge { up, plan }) = call.and_then(|call| call.hedge.take()) {
            self.supersede(context, plan);
            self.close_nobodys(context, up);
        }
    }

    fn supersede(&mut self, context: &mut Context<'_>, plan: Plan) {
        self.calls = self.calls.saturating_sub(1);
        settle(context.local, plan, End::Superseded, context.now);
    }

    /// Closes a connection of which no answer is wanted any more, if it is there.
    fn close_nobodys(&mut self, context: &mut Context<'_>, up: Key) {
        if let Some(up) = self.ups.get_mut(up) {
            up.down = None;
        }
        self.close_up(context, up);
    }
}
