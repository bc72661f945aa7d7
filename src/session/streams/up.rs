//! The endpoints' leg: answers are given back as they come.
//!
//! Must never give an answer to another call than the one that its stream belongs to, nor send again what was answered.

use outrigger_codec::{Code, Link, Refusal, ReplyKind, StreamCodec, http::hop};
use outrigger_core::Failure;

use super::{
    super::{arena::Key, words},
    Context, INTERIMS_MAX, Leg, Message, Stage, Streams, pass,
};

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    /// An answer's head, which is in the message that was read.
    pub(super) fn answered(
        &mut self,
        context: &mut Context<'_>,
        up_key: Key,
        key: Key,
        kind: ReplyKind,
        end: bool,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.moved_at = context.now;
        if let Some(up) = self.ups.get_mut(up_key) {
            (up.asked, up.asks) = (None, 0);
        }
        let reads = call.plan.retry.as_deref().is_some_and(outrigger_core::Retry::reads_answers);
        if reads && kind != ReplyKind::Interim {
            let failure = pass::tells(call, &self.message, end);
            if self.tried_again(context, key, failure) {
                return;
            }
        }
        self.prevails(context, key);
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(down) = self.downs.get_mut(call.down) else { return };
        let stream = call.down_stream;
        if kind == ReplyKind::Interim {
            call.interims += 1;
            if call.interims > INTERIMS_MAX {
                return self.not_trusted(context, key, "too many interim answers");
            }
            let (link, out) = down.connection.says(context.now, &mut self.buffers);
            link.answer(stream, self.message.head(), kind, false, out);
            let down = call.down;
            return self.flush(Leg::Down(down));
        }
        call.stage = Stage::Answering;
        pass::begins(call, &self.message, end);
        if let Some(changes) = &call.plan.changes {
            changes.answer.apply(&mut self.message);
        }
        if down.arrival.manners.policy.via.is_some() {
            let version = self.ups.get(up_key).map_or("1.1", |up| up.connection.link.version());
            hop::via(&mut self.message, &down.arrival.manners.policy, version);
        }
        let (link, out) = down.connection.says(context.now, &mut self.buffers);
        link.answer(stream, self.message.head(), kind, end, out);
        // It will not be sent again.
        call.answer.end = end;
        call.answer.passed = end;
        let replay = std::mem::take(&mut call.replay);
        let kept = std::mem::replace(&mut call.kept, Message::none());
        let down = call.down;
        self.buffers.let_go(replay);
        self.give_spare(kept);
        self.flush(Leg::Down(down));
        self.passed(context, key, Leg::Down(down));
    }

    /// An endpoint ended a call before its answer was complete.
    pub(super) fn given_up(&mut self, context: &mut Context<'_>, key: Key, code: Code, ours: bool) {
        if ours {
            return self.not_trusted(context, key, "the protocol was broken");
        }
        if self.leave_to_twin(context, key, Failure::Lost) {
            return;
        }
        let Some(call) = self.calls.get(key) else { return };
        // It has said everything, and wants no more of the request: what is left of its answer still goes on.
        if call.answer.end {
            return self.leave_up(context, key);
        }
        if call.stage == Stage::Answering {
            // Without an error it would look as if the answer ended here.
            let code = if code == Code::NO_ERROR { Code::INTERNAL } else { code };
            return self.cut(
                context,
                key,
                Refusal::Unreachable,
                code,
                "outrigger: the endpoint gave the call up",
            );
        }
        if code == Code::REFUSED {
            return self.again(context, key, false, "the endpoint refused the stream");
        }
        if self.tried_again(context, key, Failure::Lost) {
            return;
        }
        self.pass_code(context, key, code);
    }

    /// An endpoint's answer cannot be trusted.
    fn not_trusted(&mut self, context: &mut Context<'_>, key: Key, why: &'static str) {
        self.counters.broken_answers += 1;
        self.tell(context.now, "an endpoint's answer cannot be trusted", why);
        if self.leave_to_twin(context, key, Failure::Lost) {
            return;
        }
        let Some(call) = self.calls.get(key) else { return };
        let text = context
            .local
            .endpoint(call.plan.endpoint)
            .map_or_else(String::new, |endpoint| words::broken(&endpoint.cluster, &endpoint.address, why));
        if call.stage == Stage::Answering {
            self.cut(context, key, Refusal::Unreachable, Code::INTERNAL, &text);
        } else {
            self.refuse_call_with(context, key, Refusal::Unreachable, &text);
        }
    }

    /// An endpoint takes no new calls on this connection. What it did not process goes elsewhere, the rest is finished.
    pub(super) fn retired(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let mut tags = std::mem::take(&mut self.tags);
        up.connection.link.unprocessed(&mut tags);
        if !up.connection.leaving {
            self.counters.up_retired += 1;
        }
        self.leave_pool(key);
        for tag in tags.drain(..) {
            self.again(context, Key::of_bits(tag.0), false, "the endpoint said goodbye");
        }
        self.tags = tags;
        self.close_if_left(context, key);
    }

    /// An endpoint's connection cannot go on.
    pub(super) fn broken_up(&mut self, context: &mut Context<'_>, key: Key, why: &'static str) {
        self.counters.up_broken += 1;
        self.tell(context.now, "ended an endpoint's connection", why);
        self.leave_pool(key);
        // What has not left may go elsewhere, and must not leave as well.
        let forgets = self.ups.get(key).is_some_and(|up| {
            up.connection.calls > 0 && up.connection.outlet.taken() < up.connection.said_at
        });
        self.fail_all(context, key, why);
        if forgets {
            self.close_up(context, key);
        } else {
            self.finish_up(context, key);
        }
    }
}
