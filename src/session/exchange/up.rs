//! The endpoints' leg: answers are read, gated and given back, their bodies as they come.
//!
//! An answer belongs to the one request on its connection. Bytes that come without one, or behind the end of one, belong
//! to nobody: their connection is closed. Must never give them to the next request.

use outrigger_codec::{
    Body, ExchangeCodec, Find, Head, Malformed, Outcome, Refusal, Reply, ReplyKind, Slot, exchange, http,
};
use outrigger_core::{End, Failure, Tick, settle};

use super::{
    super::{arena::Key, words},
    Answer, Call, Context, Effect, Exchange, HIGH, INTERIMS_MAX, Leg, Stage, changed,
};

/// What is done with an answer's head.
enum Next {
    /// More of the answer follows.
    Goes,
    /// The answer is complete.
    Ends,
    /// It cannot be trusted.
    Breaks(&'static str),
    /// Its request is tried elsewhere, and its connection is gone.
    Gone,
}

impl<C: ExchangeCodec> Exchange<C> {
    pub(super) fn read_up(&mut self, context: &mut Context<'_>, key: Key, bytes: &[u8]) -> bool {
        let Some(up) = self.ups.get_mut(key) else { return false };
        up.last_in = context.now;
        if up.carry.is_empty() {
            let used = self.take_up_bytes(context, key, bytes);
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
            let carry = std::mem::take(&mut up.carry);
            let used = self.take_up_bytes(context, key, &carry);
            self.put_back(key, carry, used);
        }
        self.ups.get(key).is_some_and(|up| !up.paused)
    }

    fn put_back(&mut self, key: Key, mut carry: Vec<u8>, used: usize) {
        match self.ups.get_mut(key) {
            Some(up) if used < carry.len() => {
                carry.drain(..used);
                up.carry = carry;
            }
            _ => self.buffers.give(carry),
        }
    }

    pub(super) fn resume_up(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let Some(up) = self.ups.get_mut(key) else { return false };
        up.paused = false;
        // While it was not read it could not go on.
        up.last_in = context.now;
        true
    }

    /// Handles what can be handled of `bytes`; how many are done with.
    fn take_up_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Some(up) = self.ups.get(key) else { return bytes.len() };
            let rest = &bytes[at..];
            let Some(down) = up.down else {
                self.counters.unsolicited += 1;
                self.tell(context.now, "closed an endpoint's connection", "bytes that answer nobody");
                self.close_up(context, key);
                return bytes.len();
            };
            let Some(call) = self.downs.get(down).and_then(|down| down.call.as_ref()) else {
                return bytes.len();
            };
            let used = match call.stage {
                Stage::Head => self.take_answer(context, key, down, rest),
                Stage::Body(_) => self.take_answer_body(context, key, down, rest),
                Stage::Tunnel => self.tunnel_down(key, down, rest),
            };
            if used == 0 {
                break;
            }
            at += used;
        }
        at
    }

    /// Looks for an answer's head at the start of `bytes`; 0: it is not complete.
    fn take_answer(&mut self, context: &mut Context<'_>, key: Key, down: Key, bytes: &[u8]) -> usize {
        let Some(up) = self.ups.get_mut(key) else { return bytes.len() };
        match C::find(bytes, up.searched, exchange::Side::Reply, &self.bounds.limits) {
            Find::Partial { searched } => {
                up.searched = searched;
                0
            }
            Find::Fault(fault) => {
                self.broken(context, key, down, fault.why());
                bytes.len()
            }
            Find::Head { len } => {
                up.searched = 0;
                match self.answer(context, key, down, bytes.get(..len).unwrap_or_default()) {
                    Next::Goes => len,
                    Next::Gone => bytes.len(),
                    Next::Ends => {
                        self.finish(context, key, down, len < bytes.len());
                        bytes.len()
                    }
                    Next::Breaks(why) => {
                        self.broken(context, key, down, why);
                        bytes.len()
                    }
                }
            }
        }
    }

    /// One whole head of an answer.
    fn answer(&mut self, context: &mut Context<'_>, key: Key, down_key: Key, bytes: &[u8]) -> Next {
        let Some(down) = self.downs.get_mut(down_key) else { return Next::Ends };
        down.begins_to_say(context.now);
        let Some(call) = down.call.as_mut() else { return Next::Ends };
        self.index.clear();
        let reply: Reply = match C::reply(bytes, &call.asked, &self.bounds.limits, &mut self.index) {
            Ok(reply) => reply,
            Err(Malformed(why)) => return Next::Breaks(why),
        };
        let told = || {
            let head = Head { bytes, index: &self.index };
            let status =
                head.slot(Slot::Target).and_then(|text| text.get(..3)).and_then(http::chars::decimal);
            Failure::Answered(reply.outcome, status.and_then(|it| u32::try_from(it).ok()).unwrap_or(u32::MAX))
        };
        let reads = reply.kind != ReplyKind::Interim
            && call.plan.retry.as_deref().is_some_and(outrigger_core::Retry::reads_answers);
        let told = reads.then(told);
        if call.hedge.is_some() {
            let named = |failure| call.plan.retry.as_deref().is_some_and(|retry| retry.names(failure));
            if let Some(failure) = told.filter(|failure| named(*failure)) {
                self.leave_to_other(context, down_key, key, failure);
                return Next::Gone;
            }
            self.prevails(context, down_key, key);
        }
        let Some(down) = self.downs.get_mut(down_key) else { return Next::Ends };
        let Some(call) = down.call.as_mut() else { return Next::Ends };
        let head = Head { bytes, index: &self.index };
        let policy = &down.arrival.manners.policy;
        if reply.kind == ReplyKind::Interim {
            call.interims += 1;
            if call.interims > INTERIMS_MAX {
                return Next::Breaks("too many interim answers");
            }
            if C::shows_interim(head, &call.asked) {
                call.awaits = false;
                C::answer(head, &call.asked, &reply, policy, false, down.outbox.buffer(&mut self.buffers));
                self.flush_down(down_key);
            }
            return Next::Goes;
        }
        if told.is_some_and(|failure| self.tried_again(context, down_key, failure)) {
            return Next::Gone;
        }
        // Nothing was changed if not.
        let Some(down) = self.downs.get_mut(down_key) else { return Next::Ends };
        let (Some(call), Some(up)) = (down.call.as_mut(), self.ups.get_mut(key)) else { return Next::Ends };
        let head = Head { bytes, index: &self.index };
        let policy = &down.arrival.manners.policy;
        let change = call.plan.changes.as_ref().map(|changes| &changes.answer);
        let head = changed(head, change, None, &mut self.changed);
        let close = !C::keeps(&call.asked, &reply) || !call.body.is_done() || self.draining || down.leaving;
        let body = C::answer(head, &call.asked, &reply, policy, close, down.outbox.buffer(&mut self.buffers));
        // It was answered: it will not be sent again.
        up.outbox.release(&mut self.buffers);
        let done = body.is_done() && reply.kind != ReplyKind::Switch;
        if reply.kind == ReplyKind::Switch {
            call.stage = Stage::Tunnel;
            call.plan.deadline = Tick::NEVER;
            self.counters.tunnels += 1;
            // What its caller sent ahead was held until now.
            down.paused = true;
            self.effects.push(Effect::Resume(Leg::Down(down_key)));
        } else {
            call.stage = Stage::Body(Answer { body, outcome: reply.outcome, close, keep: reply.keep });
        }
        self.flush_down(down_key);
        if done { Next::Ends } else { Next::Goes }
    }

    /// Passes on what `bytes` are of an answer's body.
    fn take_answer_body(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        down_key: Key,
        bytes: &[u8],
    ) -> usize {
        let Some(down) = self.downs.get_mut(down_key) else { return bytes.len() };
        down.begins_to_say(context.now);
        let Some(Call { stage: Stage::Body(answer), .. }) = down.call.as_mut() else { return bytes.len() };
        let limits = exchange::Limits { body_max: u64::MAX, ..self.bounds.limits };
        let before = down.outbox.len();
        match answer.body.pass(bytes, &limits, down.outbox.buffer(&mut self.buffers)) {
            Err(fault) => {
                self.broken(context, key, down_key, fault.why());
                bytes.len()
            }
            Ok(passed) => {
                let waits = down.outbox.len();
                if let Some(up) = self.ups.get_mut(key).filter(|_| waits > HIGH && !passed.done) {
                    up.paused = true;
                }
                if waits > before {
                    self.flush_down(down_key);
                }
                if passed.done {
                    self.finish(context, key, down_key, passed.used < bytes.len());
                }
                bytes.len()
            }
        }
    }

    /// Passes on bytes of a tunnel.
    fn tunnel_down(&mut self, key: Key, down_key: Key, bytes: &[u8]) -> usize {
        let Some(down) = self.downs.get_mut(down_key) else { return bytes.len() };
        down.outbox.buffer(&mut self.buffers).extend_from_slice(bytes);
        if let Some(up) = self.ups.get_mut(key).filter(|_| down.outbox.len() > HIGH) {
            up.paused = true;
        }
        self.flush_down(down_key);
        bytes.len()
    }

    /// An answer is complete. `leftover`: bytes follow it that belong to nobody.
    pub(super) fn finish(&mut self, context: &mut Context<'_>, key: Key, down_key: Key, leftover: bool) {
        let Some(call) = self.take_call(down_key) else { return };
        let (outcome, close, keep) = match &call.stage {
            Stage::Body(answer) => (answer.outcome, answer.close, answer.keep),
            Stage::Head | Stage::Tunnel => (Outcome::Ok, true, false),
        };
        let whole = call.body.is_done();
        settle(context.local, call.plan, End::Answered(outcome), context.now);
        let spent = self.ups.get(key).is_none_or(|up| !up.outbox.is_empty());
        if leftover {
            self.counters.unsolicited += 1;
        }
        if keep && whole && !spent && !leftover && !self.ending {
            self.give_back(context, key);
        } else {
            self.close_up(context, key);
        }
        if close || !whole {
            self.finish_down(down_key);
        } else {
            self.next_request(context, down_key);
        }
    }

    /// A caller has no request any more: what it sent behind that comes next.
    pub(super) fn next_request(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        if down.call.is_some() || down.closing {
            return;
        }
        if self.ending {
            return self.finish_down(key);
        }
        down.last_in = down.last_in.max(down.last_out);
        down.carry_since = context.now;
        if down.paused {
            // Reading it again goes on with what is there.
            self.effects.push(Effect::Resume(Leg::Down(key)));
        } else if down.carry.is_empty() {
            self.close_if_done(key);
        } else {
            self.advance(context, key);
            self.close_if_done(key);
        }
    }

    /// An endpoint's answer cannot be trusted: its connection ends, and its caller is told or sees that something is missing.
    pub(super) fn broken(&mut self, context: &mut Context<'_>, key: Key, down_key: Key, why: &'static str) {
        self.counters.broken_answers += 1;
        self.tell(context.now, "closed an endpoint's connection whose answer cannot be trusted", why);
        if self.leave_to_other(context, down_key, key, Failure::Lost) {
            return;
        }
        let message = self
            .ups
            .get(key)
            .and_then(|up| context.local.endpoint(up.endpoint))
            .map_or_else(String::new, |endpoint| words::broken(&endpoint.cluster, &endpoint.address, why));
        self.fail_call(context, down_key, Refusal::Unreachable, &message);
        self.close_up(context, key);
    }
}
