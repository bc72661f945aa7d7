//! When an endpoint is lost, or will not take a call: what was not processed goes elsewhere, what may have been is sent again
//! only if its route says that this does no harm, and the rest is told to its callers.
//!
//! Must never send again a call of whose answer anything came.

use std::time::Duration;

use outrigger_codec::{Code, Refusal, StreamCodec};
use outrigger_core::{Failure, retry};

use super::{
    super::{
        arena::Key,
        engine::{AVOID_FAILED, TRIES_MAX},
        words,
    },
    Context, Leg, Stage, Streams,
};

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    /// A connection could not be made, was lost, or was closed by its endpoint.
    pub(super) fn lost_up(&mut self, context: &mut Context<'_>, key: Key, why: &str, clean: bool) {
        use outrigger_codec::Link;
        // Its end may be the end of an answer.
        if clean && let Some(tag) = self.ups.get_mut(key).and_then(|up| up.connection.link.ended()) {
            self.body(context, Leg::Up(key), Key::of_bits(tag.0), &[], true);
        }
        let Some(up) = self.ups.get(key) else { return };
        let (connected, endpoint, calls) = (up.connected, up.endpoint, up.connection.calls);
        if !connected {
            self.counters.up_failed += 1;
            context.local.avoid(endpoint, context.now.after(AVOID_FAILED));
        } else if calls > 0 {
            self.counters.up_lost += 1;
            if let Some(state) = context.local.endpoint(endpoint) {
                let why = format!("{} (cluster {}), {calls} calls: {why}", state.address, state.cluster);
                self.tell(context.now, "lost an endpoint with calls on it", &why);
            }
        }
        self.leave_pool(key);
        self.fail_all(context, key, why);
        let Some(mut up) = self.forget_up(context, key) else { return };
        up.connection.outlet.clear(&mut self.buffers);
        self.serve_line(context, up.connection.link.kind(), endpoint);
    }

    /// Whatever is on a connection goes elsewhere or is refused.
    pub(super) fn fail_all(&mut self, context: &mut Context<'_>, key: Key, why: &str) {
        if self.ups.get(key).is_none_or(|up| up.connection.calls == 0) {
            return;
        }
        let mut keys = std::mem::take(&mut self.keys);
        self.calls.keys_where(&mut keys, |call| call.up == Some(key));
        for call in keys.drain(..) {
            self.again(context, call, true, why);
        }
        self.keys = keys;
    }

    /// A call lost its place before its answer was complete. `sent`: it may have been processed, if it left us.
    pub(super) fn again(&mut self, context: &mut Context<'_>, key: Key, sent: bool, why: &str) {
        if self.leave_to_twin(context, key, Failure::Lost) {
            return;
        }
        let Some(call) = self.calls.get(key) else { return };
        let (endpoint, up) = (call.plan.endpoint, call.up.and_then(|up| self.ups.get(up)));
        let connected = up.is_some_and(|up| up.connected);
        let unsent = !sent || up.is_none_or(|up| up.connection.outlet.taken() <= call.sent_at);
        if call.answer.end {
            return self.leave_up(context, key);
        }
        if call.stage == Stage::Answering {
            let text = Self::lost_text(context, endpoint);
            return self.cut(context, key, Refusal::Unreachable, Code::INTERNAL, &text);
        }
        let (local, snapshot, now) = (&mut *context.local, context.snapshot, context.now);
        let same_too = connected || !sent;
        let placed = if call.deadline() <= now || !call.whole || self.ending {
            None
        } else if unsent && call.tries < TRIES_MAX {
            retry::place(local, snapshot, &call.plan, same_too, now).map(|to| (to, Duration::ZERO))
        } else if !unsent && call.interims == 0 {
            retry::again(local, snapshot, &call.plan, Failure::Lost, (call.again, same_too), now)
        } else {
            None
        };
        let Some((to, wait)) = placed else {
            let text = if unsent {
                context.local.endpoint(endpoint).map_or_else(String::new, |state| {
                    let text = words::failed(Refusal::Unreachable, &state.cluster, &state.address, 0);
                    if sent { text } else { format!("{text}: {why}") }
                })
            } else {
                Self::lost_text(context, endpoint)
            };
            return self.refuse_call_with(context, key, Refusal::Unreachable, &text);
        };
        if unsent {
            self.counters.moved += 1;
            if sent {
                context.local.failed_at(endpoint, context.now);
            }
        } else {
            self.counters.resent += 1;
            context.local.try_failed(&call.plan, Failure::Lost, context.now);
        }
        self.move_to(context, key, to, !unsent, wait);
    }

    /// Tries a call elsewhere that failed in a way that its route names; `false`: it does not, or may not.
    pub(super) fn tried_again(&mut self, context: &mut Context<'_>, key: Key, failure: Failure) -> bool {
        let Some(call) = self.calls.get(key) else { return false };
        if call.twin.is_some() {
            // Of two tries that take long, both go on.
            let named = call.plan.retry.as_deref().is_some_and(|retry| retry.names(failure));
            return failure != Failure::Slow && named && self.leave_to_twin(context, key, failure);
        }
        if !call.whole || self.ending || call.interims > 0 {
            return false;
        }
        let (local, snapshot, meant) = (&mut *context.local, context.snapshot, (call.again, true));
        let again = retry::again(local, snapshot, &call.plan, failure, meant, context.now);
        let Some((to, wait)) = again else { return false };
        self.counters.resent += 1;
        context.local.try_failed(&call.plan, failure, context.now);
        self.move_to(context, key, to, true, wait);
        true
    }

    fn lost_text(context: &Context<'_>, endpoint: outrigger_core::EndpointSlot) -> String {
        context
            .local
            .endpoint(endpoint)
            .map_or_else(String::new, |state| words::lost(&state.cluster, &state.address))
    }

    /// Sends the whole of a call to an endpoint, from its beginning.
    pub(super) fn move_to(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        to: outrigger_core::EndpointSlot,
        again: bool,
        wait: Duration,
    ) {
        use outrigger_codec::Link;
        let Some(call) = self.calls.get_mut(key) else { return };
        call.tries = call.tries.saturating_add(1);
        call.again = call.again.saturating_add(u8::from(again));
        call.request.rewind(&call.replay, &mut self.buffers);
        let stream = call.up_stream;
        let from = call.up.take();
        let line = (call.stage == Stage::Line).then_some(call.plan.endpoint);
        call.stage = if wait.is_zero() { Stage::Line } else { Stage::Later };
        context.local.reassign(&mut call.plan, to, context.now);
        if let Some(endpoint) = line {
            self.leave_line(endpoint, key);
        }
        if let Some(up_key) = from
            && let Some(up) = self.ups.get_mut(up_key)
        {
            // Where the stream is forgotten already, nothing is said.
            let (link, out) = up.connection.says(context.now, &mut self.buffers);
            link.reset(stream, Code::CANCEL, out);
            up.connection.outlet.rest(&mut self.buffers);
            self.flush(Leg::Up(up_key));
            self.place_free(context, up_key);
        }
        if wait.is_zero() {
            self.dispatch(context, key, to);
        } else {
            self.later.add(context.now.after(wait), key);
        }
    }

    /// Calls whose pause is over are tried again.
    pub(super) fn go_on_later(&mut self, context: &mut Context<'_>) {
        while let Some(key) = self.later.due(context.now) {
            let waits = self.calls.get_mut(key).filter(|call| call.stage == Stage::Later);
            if let Some(call) = waits {
                call.plan.placed = context.now;
                let endpoint = call.plan.endpoint;
                self.dispatch(context, key, endpoint);
            }
        }
    }
}
