//! A second try of a call that waits long for its answer, beside the first and at another endpoint.
//!
//! The two are calls that know each other and share their caller's stream, which belongs to the one that speaks on it. The
//! first that is answered well is the call; the other is taken back from its endpoint. Must never let both answer, nor leave
//! one of them unsettled.

use outrigger_codec::{Code, Link, StreamCodec, Tag};
use outrigger_core::{End, Failure, Tick, retry};

use super::{super::arena::Key, Call, Context, Stage, Streams, way::Way};

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    /// Sends a call that waits long a second time, where there is another place for it and the budget allows it.
    pub(super) fn hedge(&mut self, context: &mut Context<'_>, key: Key) {
        let kept = self.take_spare();
        let Some(call) = self.calls.get_mut(key) else { return };
        call.hedge_at = Tick::NEVER;
        // Of what is not complete, or did not leave, a second try would be none.
        let told = call.request.end && call.request.passed && call.request.is_empty();
        let waits = call.stage == Stage::Asked && call.whole && call.interims == 0 && told;
        if !waits || call.twin.is_some() || self.ending {
            return self.give_spare(kept);
        }
        let plan = retry::hedge(context.local, context.snapshot, &mut call.plan, call.again, context.now);
        let Some(plan) = plan else { return self.give_spare(kept) };
        call.again = call.again.saturating_add(1);
        let endpoint = plan.endpoint;
        let mut replay = Vec::new();
        let whole = self.buffers.keep(&mut replay, &call.replay);
        let request = Way::again(&call.replay, &mut self.buffers);
        let mut second = Call {
            plan,
            stage: Stage::Line,
            up: None,
            request,
            answer: Way::default(),
            kept,
            replay,
            whole,
            moved_at: context.now,
            try_until: Tick::NEVER,
            hedge_at: Tick::NEVER,
            twin: Some(key),
            ..*call
        };
        second.kept.copy(&call.kept);
        let down = call.down;
        let second_key = self.calls.insert(second);
        if let Some(call) = self.calls.get_mut(key) {
            call.twin = Some(second_key);
        }
        if let Some(down) = self.downs.get_mut(down) {
            down.connection.calls += 1;
        }
        if self.dispatch_now(context, second_key, endpoint) {
            self.counters.hedged += 1;
        } else {
            self.forget_twin(context, second_key);
        }
    }

    /// A try has failed so, before any answer. `true`: there is another, which is the call from here on.
    pub(super) fn leave_to_twin(&mut self, context: &mut Context<'_>, key: Key, failure: Failure) -> bool {
        let Some(call) = self.calls.get_mut(key).filter(|call| call.stage != Stage::Answering) else {
            return false;
        };
        let Some(other) = call.twin else { return false };
        context.local.try_failed(&call.plan, failure, context.now);
        self.speaks(other);
        self.forget_twin(context, key);
        true
    }

    /// A try is answered: it is the call, and its other, if there is one, is none.
    pub(super) fn prevails(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(other) = self.calls.get(key).and_then(|call| call.twin) else { return };
        self.speaks(key);
        self.forget_twin(context, other);
    }

    /// What the caller says of its stream is said of this try.
    fn speaks(&mut self, key: Key) {
        let Some(call) = self.calls.get(key) else { return };
        let stream = call.down_stream;
        if let Some(down) = self.downs.get_mut(call.down) {
            down.connection.link.adopt(stream, Tag(key.bits()));
        }
    }

    /// Ends one of two tries, and takes it back from its endpoint.
    fn forget_twin(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(other) = self.calls.get_mut(key).and_then(|call| call.twin.take()) else { return };
        if let Some(other) = self.calls.get_mut(other) {
            other.twin = None;
        }
        self.end_call(context, key, End::Superseded, Code::CANCEL);
    }
}
