//! When an endpoint cannot be reached or is lost: its calls are answered at once, and what was provably not sent
//! may go elsewhere.
//!
//! A frame of which no byte was given to the socket was provably not sent. Everything else may have reached the
//! service and is never sent again.

use outrigger_codec::{FrameCodec, FrameKind, Refusal, Scan};
use outrigger_core::{EndpointSlot, Failure, Lot, Tried};

use super::{
    super::{arena::Key, pending::Call, words},
    AVOID_FAILED, Context, Effect, Frames, Leg, TRIES_MAX, Up,
};

impl<C: FrameCodec> Frames<C> {
    /// A connection could not be made, was lost, or was closed by its endpoint.
    pub fn up_closed(&mut self, context: &mut Context<'_>, key: Key, why: &str) {
        let Some(up) = self.forget_up(context, key) else { return };
        if up.connected {
            // An endpoint that said goodbye, or has nothing of ours, may leave without being blamed.
            if !up.retired && !up.pending.is_empty() {
                self.counters.up_lost += 1;
            }
        } else {
            self.counters.up_failed += 1;
            context.local.avoid(up.endpoint, context.now.after(AVOID_FAILED));
        }
        if (!up.connected || !up.pending.is_empty())
            && let Some(endpoint) = context.local.endpoint(up.endpoint)
        {
            let calls = up.pending.len();
            let why = format!("{} (cluster {}), {calls} calls: {why}", endpoint.address, endpoint.cluster);
            self.tell(context.now, "lost an endpoint", &why);
        }
        self.hand_on(context, up);
    }

    /// Gives up a connection ourselves.
    pub(super) fn up_lost(&mut self, context: &mut Context<'_>, key: Key, why: &str) {
        if self.ups.get(key).is_some() {
            self.effects.push(Effect::Close(Leg::Up(key)));
            self.up_closed(context, key, why);
        }
    }

    /// Takes a connection out of the engine and its pool.
    pub(super) fn forget_up(&mut self, context: &mut Context<'_>, key: Key) -> Option<Up> {
        self.unpool(key);
        let mut up = self.ups.remove(key)?;
        context.local.disconnected(up.endpoint);
        self.effects.extend(up.waiting.drain(..).map(|key| Effect::Resume(Leg::Down(key))));
        self.buffers.give(std::mem::take(&mut up.carry));
        Some(up)
    }

    /// Answers the calls of a connection that is gone; those not sent go elsewhere where there is an elsewhere.
    fn hand_on(&mut self, context: &mut Context<'_>, mut up: Up) {
        let (mut unsent, mut at) = up.outbox.unsent::<C>();
        while let Some(rest) = unsent.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let Scan::Frame(framed) = C::scan(rest, usize::MAX) else { break };
            let frame = rest.get_mut(..framed.len).unwrap_or_default();
            at += framed.len;
            match framed.kind {
                FrameKind::Request => {
                    if let Some(call) = up.pending.remove(framed.id) {
                        self.move_call(context, call, frame, up.connected);
                    }
                }
                FrameKind::OneWay => self.move_one_way(context, up.endpoint, frame),
                _ => {}
            }
        }
        self.buffers.give(unsent);
        let mut calls = std::mem::take(&mut self.calls);
        up.pending.drain(&mut calls);
        for call in calls.drain(..) {
            // The same endpoint, too: it may have been started anew.
            let Some(call) = self.try_again(context, call, Failure::Lost, up.connected) else { continue };
            let message = context
                .local
                .endpoint(call.plan.endpoint)
                .map_or_else(String::new, |endpoint| words::lost(&endpoint.cluster, &endpoint.address));
            self.answer_for(context, call, Refusal::Unreachable, &message);
        }
        self.calls = calls;
    }

    /// Sends a call that was not sent somewhere else, or answers it. `was_open`: the endpoint itself may be tried again.
    fn move_call(&mut self, context: &mut Context<'_>, call: Call, frame: &[u8], was_open: bool) {
        let Some(mut call) = self.leave_to_twin(context, call, Failure::Lost) else { return };
        let from = call.plan.endpoint;
        let target = (call.tries < TRIES_MAX && call.plan.deadline > context.now)
            .then(|| {
                self.elsewhere(context, from, (call.plan.lot, call.plan.tried), was_open, C::lane(frame))
            })
            .flatten();
        let Some((endpoint, key)) = target else {
            let message = context.local.endpoint(from).map_or_else(String::new, |endpoint| {
                words::failed(Refusal::Unreachable, &endpoint.cluster, &endpoint.address, 0)
            });
            return self.answer_for(context, call, Refusal::Unreachable, &message);
        };
        let Some(up) = self.ups.get_mut(key) else { return };
        self.counters.moved += 1;
        call.tries += 1;
        context.local.failed_at(from, context.now);
        context.local.reassign(&mut call.plan, endpoint, context.now);
        self.next_deadline = self.next_deadline.min(call.plan.deadline);
        let id = up.pending.insert(call);
        Self::append(&mut self.buffers, up, frame, id, context.now);
        self.flush_up(key);
    }

    /// Sends a one-way call that was not sent somewhere else; otherwise it is lost, as one-way calls may be.
    fn move_one_way(&mut self, context: &mut Context<'_>, from: EndpointSlot, frame: &[u8]) {
        // Nothing is remembered of it, so neither which of its cluster's endpoints it was meant for.
        if context.local.is_divided(context.snapshot, from) {
            return;
        }
        let anywhere = (Lot::ALL, Tried::default());
        let Some((_, key)) = self.elsewhere(context, from, anywhere, false, C::lane(frame)) else { return };
        let Some(up) = self.ups.get_mut(key) else { return };
        self.counters.moved += 1;
        let id = up.pending.next_id();
        Self::append(&mut self.buffers, up, frame, id, context.now);
        self.flush_up(key);
    }

    /// Another endpoint of the cluster with a connection that has room; the same endpoint only when `same_too`.
    fn elsewhere(
        &mut self,
        context: &mut Context<'_>,
        from: EndpointSlot,
        meant: (Lot, Tried),
        same_too: bool,
        lane: u8,
    ) -> Option<(EndpointSlot, Key)> {
        if self.ending {
            return None;
        }
        let other = context.local.elsewhere(context.snapshot, from, meant, context.now);
        // Passed over means it failed a moment ago: trying it would only go round in a circle.
        let fresh = |slot: &EndpointSlot| {
            context
                .local
                .endpoint(*slot)
                .is_some_and(|state| state.listed && state.avoid_until <= context.now)
        };
        let endpoint = other.filter(fresh).or_else(|| same_too.then_some(from).filter(fresh))?;
        let key = self.choose(context, endpoint, lane)?;
        self.has_room(context, key, endpoint).then_some((endpoint, key))
    }
}
