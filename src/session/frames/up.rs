//! The endpoints' leg: answers are read, matched by id and given back to their callers.
//!
//! An answer that nobody waits for is dropped and counted, never given to somebody else. Requests that an endpoint
//! sends (Dubbo callbacks) are refused: which of the callers that share the connection is meant cannot be known.

use outrigger_codec::{FrameCodec, FrameKind, Framed, Outcome, Refusal, Scan};
use outrigger_core::{End, Failure, Retry, settle};

use super::{
    super::{arena::Key, pending::Call, words},
    AVOID_RETIRED, Context, Effect, Frames, Leg, Tick,
    down::Answer,
};

impl<C: FrameCodec> Frames<C> {
    /// A connection that was dialed is open. `false`: it is not wanted any more, close it.
    pub fn up_open(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let Some(up) = self.ups.get_mut(key) else { return false };
        up.connected = true;
        (up.since, up.last_in, up.progress) = (context.now, context.now, context.now);
        let endpoint = up.endpoint;
        let waits = !up.outbox.is_empty();
        context.local.avoid(endpoint, Tick::ZERO);
        if waits {
            self.flush_up(key);
        }
        self.close_if_spent(context, key);
        self.ups.get(key).is_some()
    }

    /// An endpoint sent `bytes`. They may be changed in place. `false`: the connection is gone.
    pub fn up_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool {
        let Some(up) = self.ups.get_mut(key) else { return false };
        (up.last_in, up.missed) = (context.now, 0);
        if up.carry.is_empty() {
            up.carry_since = context.now;
            let used = self.up_frames(context, key, bytes);
            let rest = bytes.get(used..).unwrap_or_default();
            if let Some(up) = self.ups.get_mut(key)
                && !rest.is_empty()
            {
                if up.carry.capacity() == 0 {
                    up.carry = self.buffers.take();
                }
                up.carry.extend_from_slice(rest);
            }
        } else {
            up.carry.extend_from_slice(bytes);
            let mut carry = std::mem::take(&mut up.carry);
            let used = self.up_frames(context, key, &mut carry);
            match self.ups.get_mut(key) {
                Some(up) if used < carry.len() => {
                    if used > 0 {
                        carry.drain(..used);
                        up.carry_since = context.now;
                    }
                    up.carry = carry;
                }
                _ => self.buffers.give(carry),
            }
        }
        self.close_if_spent(context, key);
        self.ups.get(key).is_some()
    }

    /// Handles the whole frames at the start of `bytes`; how many bytes are done with.
    fn up_frames(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.ups.get(key).is_some() {
            match C::scan(&bytes[at..], self.bounds.frame_max) {
                Scan::Partial { .. } => break,
                Scan::Frame(framed) => {
                    let end = (at + framed.len).min(bytes.len());
                    self.up_frame(context, key, &mut bytes[at..end], framed);
                    at = end;
                }
                Scan::TooLarge(framed) => {
                    self.counters.too_large += 1;
                    if framed.kind == FrameKind::Response
                        && let Some(call) = self.ups.get_mut(key).and_then(|up| up.pending.remove(framed.id))
                    {
                        let message = words::too_large(framed.len, self.bounds.frame_max);
                        self.answer_for(context, call, Refusal::TooLarge, &message);
                    }
                    self.up_lost(context, key, "frame larger than frame_max");
                }
                Scan::Broken(what) => {
                    self.count_broken(what);
                    self.up_lost(context, key, what.0);
                }
            }
        }
        at
    }

    fn up_frame(&mut self, context: &mut Context<'_>, key: Key, frame: &mut [u8], framed: Framed) {
        match framed.kind {
            FrameKind::Response => {
                let Some(up) = self.ups.get_mut(key) else { return };
                let Some(call) = up.pending.remove(framed.id) else {
                    self.counters.unknown_replies += 1;
                    return;
                };
                up.idle_since = context.now;
                self.deliver(context, call, frame);
            }
            FrameKind::HeartbeatAck => {
                if let Some(up) = self.ups.get_mut(key)
                    && up.beat.take_if(|(id, _)| *id == framed.id).is_none()
                {
                    self.counters.unknown_replies += 1;
                }
            }
            FrameKind::Heartbeat => {
                let Some(up) = self.ups.get_mut(key) else { return };
                if Self::beat_allowed(&mut up.beats, context.now) && up.outbox.len() < self.bounds.outbox_high
                {
                    self.counters.heartbeats += 1;
                    C::heartbeat_ack(frame, up.outbox.buffer(&mut self.buffers));
                    self.flush_up(key);
                } else {
                    self.counters.heartbeats_dropped += 1;
                }
            }
            FrameKind::Retire => {
                self.counters.retired += 1;
                if let Some(up) = self.ups.get(key) {
                    context.local.avoid(up.endpoint, context.now.after(AVOID_RETIRED));
                }
                self.retire(key);
            }
            // A retired connection stays so: a new one was or will be made, and two would break `connections`.
            FrameKind::Resume => {
                if let Some(up) = self.ups.get(key) {
                    context.local.avoid(up.endpoint, Tick::ZERO);
                }
            }
            FrameKind::Request => {
                self.counters.callbacks_refused += 1;
                let Some(up) = self.ups.get_mut(key) else { return };
                if up.outbox.len() < self.bounds.outbox_high {
                    let message = "outrigger: calls from a provider to its consumer are not carried";
                    let out = up.outbox.buffer(&mut self.buffers);
                    C::refuse(C::ticket(frame), framed.id, Refusal::NoRoute, message, out);
                    self.flush_up(key);
                }
            }
            FrameKind::OneWay => self.counters.callbacks_refused += 1,
            FrameKind::Event => {}
        }
    }

    /// Gives an answer back to its caller, under the id the caller knows.
    fn deliver(&mut self, context: &mut Context<'_>, call: Call, frame: &mut [u8]) {
        let outcome: Outcome = C::outcome(frame);
        let mut call = call;
        if call.plan.retry.as_deref().is_some_and(Retry::reads_answers) {
            let failure = Failure::Answered(outcome, C::reply_status(frame));
            match self.try_again(context, call, failure, true) {
                Some(left) => call = left,
                None => return,
            }
        }
        self.end_twin(context, &mut call);
        self.buffers.let_go(std::mem::take(&mut call.kept));
        let Some(down) = self.downs.get_mut(call.down) else {
            return settle(context.local, call.plan, End::Abandoned, context.now);
        };
        down.in_flight = down.in_flight.saturating_sub(1);
        down.last_out = context.now;
        let buffer = down.outbox.buffer(&mut self.buffers);
        let start = buffer.len();
        let changes = call.plan.changes.as_ref().map(|changes| &changes.answer).filter(|it| !it.is_none());
        let changed = changes.map(|change| C::change(frame, change, buffer));
        self.counters.unchanged += u64::from(changed == Some(false));
        if changed != Some(true) {
            buffer.extend_from_slice(frame);
        }
        C::set_id(buffer.get_mut(start..).unwrap_or_default(), call.id);
        settle(context.local, call.plan, End::Answered(outcome), context.now);
        self.flush_down(call.down);
        self.guard_down(call.down);
    }

    /// Answers a call in our own name instead of its endpoint, and settles it.
    pub(super) fn answer_for(&mut self, context: &mut Context<'_>, call: Call, why: Refusal, message: &str) {
        let mut call = call;
        self.end_twin(context, &mut call);
        self.buffers.let_go(std::mem::take(&mut call.kept));
        let end = match self.downs.get_mut(call.down) {
            Some(down) => {
                down.in_flight = down.in_flight.saturating_sub(1);
                End::Refused(why)
            }
            None => End::Abandoned,
        };
        let answer = Answer { ticket: call.ticket, id: call.id, why, message };
        self.refuse_down(call.down, answer, context.now);
        settle(context.local, call.plan, end, context.now);
    }

    /// Takes a connection out of service: its calls are finished, new ones go elsewhere.
    pub(super) fn retire(&mut self, key: Key) {
        if let Some(up) = self.ups.get_mut(key) {
            up.retired = true;
        }
        self.unpool(key);
    }

    /// Lets no new call find a connection.
    pub(super) fn unpool(&mut self, key: Key) {
        let Some(up) = self.ups.get(key) else { return };
        let (endpoint, lane) = (up.endpoint.0 as usize, usize::from(up.lane));
        if let Some(pool) = self.pools.get_mut(endpoint).and_then(|lanes| lanes.get_mut(lane)) {
            pool.retain(|other| *other != key);
        }
    }

    /// Closes a retired connection when nothing is left to send or to wait for.
    pub(super) fn close_if_spent(&mut self, context: &mut Context<'_>, key: Key) {
        if self.ups.get(key).is_some_and(|up| up.retired && up.pending.is_empty() && up.outbox.is_empty()) {
            self.forget_up(context, key);
            self.effects.push(Effect::Close(Leg::Up(key)));
        }
    }
}
