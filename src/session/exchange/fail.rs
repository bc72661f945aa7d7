//! When a call cannot go on: its endpoint is lost, its caller leaves, its time is up.
//!
//! A request of which no byte was given to a socket was provably not sent, and goes elsewhere. Everything else may have
//! reached the service and is sent again only if its route says that this does no harm, at most once, and only while
//! nothing of an answer came. An answer that was begun and cannot be finished is never ended in order.

use std::time::Duration;

use outrigger_codec::{Body, ExchangeCodec, Refusal};
use outrigger_core::{End, Failure, retry, settle};

use super::{
    super::{
        arena::Key,
        engine::{AVOID_FAILED, TRIES_MAX},
        words,
    },
    Answer, Call, Context, Exchange, Stage, Up,
};

impl<C: ExchangeCodec> Exchange<C> {
    /// A connection could not be made, was lost, or was closed by its endpoint.
    pub(super) fn lost(&mut self, context: &mut Context<'_>, key: Key, why: &str, clean: bool) {
        let Some(mut up) = self.forget_up(context, key) else { return };
        let endpoint = up.endpoint;
        if !up.connected {
            self.counters.up_failed += 1;
            context.local.avoid(endpoint, context.now.after(AVOID_FAILED));
        }
        if let Some(down) = up.down {
            self.lost_with(context, &mut up, key, (down, why, clean));
        }
        up.outbox.clear(&mut self.buffers);
        self.buffers.give(up.carry);
        self.serve_line(context, endpoint);
    }

    /// The same, with a request on it.
    fn lost_with(
        &mut self,
        context: &mut Context<'_>,
        up: &mut Up,
        key: Key,
        (down_key, why, clean): (Key, &str, bool),
    ) {
        let Some(down) = self.downs.get_mut(down_key) else { return };
        let Some(call) = down.call.as_mut() else { return };
        match &mut call.stage {
            Stage::Head => {
                self.counters.up_lost += u64::from(up.connected);
                if let Some(state) = context.local.endpoint(up.endpoint) {
                    let why = format!("{} (cluster {}): {why}", state.address, state.cluster);
                    self.tell(context.now, "lost an endpoint with a request on it", &why);
                }
                if !self.leave_to_other(context, down_key, key, Failure::Lost) {
                    self.send_elsewhere(context, up, down_key);
                }
            }
            Stage::Body(Answer { body, .. }) => {
                let out = down.outbox.buffer(&mut self.buffers);
                if clean && body.end(out) {
                    self.flush_down(down_key);
                    self.finish_without_up(context, down_key);
                } else {
                    self.counters.up_lost += 1;
                    self.fail_call(context, down_key, Refusal::Unreachable, "");
                }
            }
            Stage::Tunnel => {
                self.end_call(context, down_key, End::Sent);
                if clean { self.finish_down(down_key) } else { self.reset_down(down_key) }
            }
        }
    }

    /// An answer that ends with its connection is complete.
    fn finish_without_up(&mut self, context: &mut Context<'_>, down_key: Key) {
        let Some(call) = self.take_call(down_key) else { return };
        if let Stage::Body(answer) = &call.stage {
            let (close, outcome) = (answer.close || !call.body.is_done(), answer.outcome);
            settle(context.local, call.plan, End::Answered(outcome), context.now);
            if close {
                self.finish_down(down_key);
            } else {
                self.next_request(context, down_key);
            }
        }
    }

    /// Finds another connection for a request whose connection was lost before anything was answered, or refuses it.
    fn send_elsewhere(&mut self, context: &mut Context<'_>, up: &mut Up, key: Key) {
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return };
        let unsent = up.outbox.is_unsent();
        let unanswered = up.carry.is_empty() && call.interims == 0;
        let in_time = !call.body.is_done() || call.plan.deadline > context.now;
        let (local, snapshot, now) = (&mut *context.local, context.snapshot, context.now);
        // It was given up by its endpoint as the request came: that is no failure that would come again.
        let stale = unanswered && up.used && call.again == 0 && call.plan.retry.is_some();
        let placed = if !in_time || self.ending || !up.outbox.is_whole() {
            None
        } else if if unsent { call.tries < TRIES_MAX } else { stale } {
            let to = retry::place(local, snapshot, &call.plan, up.connected, now);
            to.map(|to| (to, Duration::ZERO))
        } else if unanswered && !unsent {
            retry::again(local, snapshot, &call.plan, Failure::Lost, (call.again, up.connected), now)
        } else {
            None
        };
        let bytes = if placed.is_some() { up.outbox.whole() } else { None };
        let (Some((endpoint, wait)), Some(bytes)) = (placed, bytes) else {
            call.up = None;
            let message = context.local.endpoint(up.endpoint).map_or_else(String::new, |endpoint| {
                if unsent {
                    words::failed(Refusal::Unreachable, &endpoint.cluster, &endpoint.address, 0)
                } else {
                    words::lost(&endpoint.cluster, &endpoint.address)
                }
            });
            return self.refuse_call_with(context, key, Refusal::Unreachable, &message);
        };
        call.tries = call.tries.saturating_add(1);
        if unsent {
            context.local.failed_at(up.endpoint, context.now);
            self.counters.moved += 1;
        } else {
            context.local.try_failed(&call.plan, Failure::Lost, context.now);
            call.again = call.again.saturating_add(1);
            self.counters.resent += 1;
        }
        if endpoint == up.endpoint {
            // It may have been started anew: what was idle is then as dead as this one.
            let idle = std::mem::take(&mut self.pool(up.endpoint).idle);
            for key in idle {
                self.close_up(context, key);
            }
        }
        self.place_later(context, key, endpoint, bytes, wait);
    }

    /// One try took too long: there is another, or this one goes on.
    pub(super) fn try_is_over(&mut self, context: &mut Context<'_>, key: Key) {
        if let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) {
            call.try_until = outrigger_core::Tick::NEVER;
        }
        self.tried_again(context, key, Failure::Slow);
    }

    /// Tries a request elsewhere that failed in a way that its route names; `false`: it does not, or may not. Its
    /// connection is closed, because what it still says belongs to the try before.
    pub(super) fn tried_again(&mut self, context: &mut Context<'_>, key: Key, failure: Failure) -> bool {
        let Some(call) = self.downs.get(key).and_then(|down| down.call.as_ref()) else { return false };
        let Some(up_key) = call.up else { return false };
        // Of two tries that take long, both go on.
        if self.ending || call.interims > 0 || !call.body.is_done() || call.hedge.is_some() {
            return false;
        }
        if !self.ups.get(up_key).is_some_and(|up| up.outbox.is_whole()) {
            return false;
        }
        let (local, snapshot, meant) = (&mut *context.local, context.snapshot, (call.again, true));
        let again = retry::again(local, snapshot, &call.plan, failure, meant, context.now);
        let Some((to, wait)) = again else { return false };
        let bytes = self.ups.get_mut(up_key).and_then(|up| up.outbox.whole());
        let Some(bytes) = bytes else { return false };
        if let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) {
            context.local.try_failed(&call.plan, failure, context.now);
            call.up = None;
            call.again = call.again.saturating_add(1);
        }
        if let Some(up) = self.ups.get_mut(up_key) {
            up.down = None;
        }
        self.counters.resent += 1;
        self.close_up(context, up_key);
        self.place_later(context, key, to, bytes, wait);
        true
    }

    /// Puts a request on another connection, at once or after a pause.
    fn place_later(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        endpoint: outrigger_core::EndpointSlot,
        bytes: Vec<u8>,
        wait: Duration,
    ) {
        if wait.is_zero() {
            return self.place(context, key, endpoint, bytes);
        }
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return };
        context.local.reassign(&mut call.plan, endpoint, context.now);
        call.up = None;
        call.parked = super::Flow::of(bytes, true);
        call.pausing = true;
        self.later.add(context.now.after(wait), key);
    }

    /// Requests whose pause is over are tried again.
    pub(super) fn go_on_later(&mut self, context: &mut Context<'_>) {
        while let Some(key) = self.later.due(context.now) {
            let call = self.downs.get_mut(key).and_then(|down| down.call.as_mut());
            let Some(call) = call.filter(|call| call.pausing) else { continue };
            call.pausing = false;
            let (mut to, bytes) = (call.plan.endpoint, call.parked.whole().unwrap_or_default());
            if !retry::is_there(context.local, to) {
                let (local, snapshot) = (&mut *context.local, context.snapshot);
                let Some(other) = retry::place(local, snapshot, &call.plan, false, context.now) else {
                    self.buffers.give(bytes);
                    self.refuse_call(context, key, Refusal::Unreachable);
                    continue;
                };
                to = other;
            }
            self.place(context, key, to, bytes);
        }
    }

    /// Ends a call in our own name: by an answer where none was begun, otherwise by leaving it visibly incomplete. Its
    /// connection must be closed by who calls this.
    pub(super) fn fail_call(&mut self, context: &mut Context<'_>, key: Key, why: Refusal, message: &str) {
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return };
        if let Some(up) = call.up.take().and_then(|up| self.ups.get_mut(up)) {
            up.down = None;
        }
        let told = match &call.stage {
            Stage::Head if message.is_empty() => return self.refuse_call(context, key, why),
            Stage::Head => return self.refuse_call_with(context, key, why, message),
            Stage::Body(answer) => answer.body.end_is_told(),
            Stage::Tunnel => false,
        };
        self.end_call(context, key, End::Refused(why));
        // Earlier answers may still wait to be taken; this one ends too early for its own framing, where it has one.
        if told { self.finish_down(key) } else { self.reset_down(key) }
    }

    /// A caller's call ends without an answer, because of the caller.
    pub(super) fn abandon(&mut self, context: &mut Context<'_>, key: Key) {
        self.end_hedge(context, key);
        let Some(call) = self.take_call(key) else { return };
        let end = if matches!(call.stage, Stage::Tunnel) { End::Sent } else { End::Abandoned };
        match call.up {
            Some(up) => self.close_up(context, up),
            None => self.leave_line(call.plan.endpoint, key),
        }
        settle(context.local, call.plan, end, context.now);
    }

    /// Settles a call whose connection is gone already.
    fn end_call(&mut self, context: &mut Context<'_>, key: Key, end: End) {
        self.end_hedge(context, key);
        if let Some(call) = self.take_call(key) {
            settle(context.local, call.plan, end, context.now);
        }
    }

    /// Takes a call from its caller; it must be settled, and have no second try.
    pub(super) fn take_call(&mut self, key: Key) -> Option<Call<C::Body>> {
        let mut call = self.downs.get_mut(key)?.call.take()?;
        self.calls = self.calls.saturating_sub(1);
        call.parked.clear(&mut self.buffers);
        if let Some(up) = call.up.and_then(|up| self.ups.get_mut(up)) {
            up.down = None;
        }
        Some(call)
    }

    /// A call's time is up.
    pub(super) fn time_out(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(call) = self.downs.get(key).and_then(|down| down.call.as_ref()) else { return };
        let (up, endpoint) = (call.up, call.plan.endpoint);
        if up.is_none() {
            self.leave_line(endpoint, key);
        }
        self.fail_call(context, key, Refusal::TimedOut, "");
        if let Some(up) = up {
            // The late answer must reach nobody.
            self.close_up(context, up);
        }
    }
}
