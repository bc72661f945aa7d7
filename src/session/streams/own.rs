//! Answers in our own name: in the words of the call's dialect, or in HTTP's.
//!
//! Must never answer a call that was answered, nor leave a refused one to its endpoint.

use std::time::Duration;

use outrigger_codec::{
    Code, Dialect, Fault, Link, Refusal, ReplyKind, Response, StreamCodec, http::answer, streams::StreamId,
};
use outrigger_core::{End, Tick, settle};

use super::{
    super::{arena::Key, words},
    Call, Context, Down, Leg, Stage, Streams,
};

/// A stream of a caller.
type Place = (Key, StreamId);

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    /// Answers a request that became no call, or whose call has ended.
    pub(super) fn refuse(
        &mut self,
        now: Tick,
        place: Place,
        dialect: Option<&'static dyn Dialect>,
        (why, wait): (Refusal, Option<Duration>),
        text: &str,
        bodiless: bool,
    ) {
        self.answer.clear();
        let worded = dialect.is_some_and(|dialect| dialect.refuse(why, wait, text, false, &mut self.answer));
        if !worded {
            answer::refuse(why, wait, text, &mut self.answer);
        }
        self.say(now, place, worded || bodiless, [text.as_bytes(), b"\n"]);
    }

    /// Answers what cannot be carried.
    pub(super) fn refuse_fault(
        &mut self,
        now: Tick,
        place: Place,
        dialect: Option<&'static dyn Dialect>,
        fault: Fault,
        bodiless: bool,
    ) {
        let text = words::fault(fault);
        self.answer.clear();
        let why = fault.refusal();
        let worded = dialect.is_some_and(|dialect| dialect.refuse(why, None, &text, false, &mut self.answer));
        if !worded {
            answer::fault(fault, &text, &mut self.answer);
        }
        self.say(now, place, worded || bodiless, [text.as_bytes(), b"\n"]);
    }

    /// Answers a request as its route says.
    pub(super) fn respond(
        &mut self,
        now: Tick,
        place: Place,
        dialect: Option<&'static dyn Dialect>,
        response: &Response,
        bodiless: bool,
    ) {
        self.answer.clear();
        let worded = dialect.is_some_and(|dialect| dialect.respond(response, &mut self.answer));
        if !worded && !response.write(self.message.head(), &mut self.answer) {
            return self.refuse(now, place, dialect, (Refusal::Malformed, None), words::NOWHERE, bodiless);
        }
        let whole = worded || bodiless || response.body.is_empty();
        let room = |down: &Down<A, B>| down.connection.link.fits(place.1, response.body.len());
        if !whole && !self.downs.get(place.0).is_some_and(room) {
            // An answer without its body would be another answer.
            return self.refuse(now, place, dialect, (Refusal::Overloaded, None), words::NO_ROOM, bodiless);
        }
        self.say(now, place, whole, [&response.body, b""]);
    }

    /// Says the answer that was made. `whole`: it has no body.
    fn say(&mut self, now: Tick, (key, stream): Place, whole: bool, [text, rest]: [&[u8]; 2]) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let (link, out) = down.connection.says(now, &mut self.buffers);
        link.disown(stream);
        let fits = !whole && link.fits(stream, text.len().saturating_add(rest.len()));
        if !whole && !fits {
            // Who gives no room for the reason is told the status alone.
            self.answer.replace(b"content-length", b"0");
        }
        link.answer(stream, self.answer.head(), ReplyKind::Final, !fits, out);
        if fits {
            link.data(stream, text, rest.is_empty(), out);
            if !rest.is_empty() {
                link.data(stream, rest, true, out);
            }
        }
        self.flush(Leg::Down(key));
        // What comes behind it may have nobody to read it.
        if self.downs.get(key).is_some_and(|it| it.connection.calls == 0 && it.connection.link.is_spent()) {
            self.finish_down(key);
        }
    }

    /// Answers a call in our own name instead of its endpoint.
    pub(super) fn refuse_call(&mut self, context: &mut Context<'_>, key: Key, why: Refusal) {
        let Some(call) = self.calls.get(key) else { return };
        let waited = context.now.since(call.plan.started).as_millis();
        let text = context.local.endpoint(call.plan.endpoint).map_or_else(String::new, |endpoint| {
            words::failed(why, &endpoint.cluster, &endpoint.address, waited)
        });
        self.refuse_call_with(context, key, why, &text);
    }

    /// The same, in other words.
    pub(super) fn refuse_call_with(&mut self, context: &mut Context<'_>, key: Key, why: Refusal, text: &str) {
        let Some(call) = self.calls.get(key) else { return };
        let (place, dialect, bodiless) = ((call.down, call.down_stream), call.dialect, call.bodiless);
        self.end_call(context, key, End::Refused(why), Code::CANCEL);
        self.refuse(context.now, place, dialect, (why, None), text, bodiless);
        self.call_less(place.0);
    }

    /// Ends a call whose caller does not send the rest of it.
    pub(super) fn refuse_slow(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(call) = self.calls.get(key) else { return };
        let (place, dialect, bodiless) = ((call.down, call.down_stream), call.dialect, call.bodiless);
        // Its endpoint has done nothing wrong.
        self.end_call(context, key, End::Abandoned, Code::CANCEL);
        self.refuse_fault(context.now, place, dialect, Fault::Slow, bodiless);
        self.call_less(place.0);
    }

    /// Ends a call whose answer had begun, so that its caller knows that it is not complete.
    pub(super) fn cut(&mut self, context: &mut Context<'_>, key: Key, why: Refusal, code: Code, text: &str) {
        let Some(call) = self.calls.get(key) else { return };
        let ((down_key, stream), dialect) = ((call.down, call.down_stream), call.dialect);
        self.end_call(context, key, End::Refused(why), Code::CANCEL);
        self.answer.clear();
        let worded = dialect.is_some_and(|dialect| dialect.refuse(why, None, text, true, &mut self.answer));
        if let Some(down) = self.downs.get_mut(down_key) {
            let (link, out) = down.connection.says(context.now, &mut self.buffers);
            link.disown(stream);
            if worded {
                link.trailers(stream, self.answer.head(), out);
            } else {
                link.reset(stream, code, out);
            }
            self.flush(Leg::Down(down_key));
        }
        self.call_less(down_key);
    }

    /// Tells a caller what its endpoint said of the stream.
    pub(super) fn pass_code(&mut self, context: &mut Context<'_>, key: Key, code: Code) {
        let Some(call) = self.calls.get(key) else { return };
        let (down_key, stream) = (call.down, call.down_stream);
        let speaks = self.downs.get(down_key).is_some_and(|down| down.connection.link.has_windows());
        if !speaks || code == Code::NO_ERROR {
            return self.refuse_call(context, key, Refusal::Unreachable);
        }
        self.end_call(context, key, End::Refused(Refusal::Unreachable), Code::CANCEL);
        if let Some(down) = self.downs.get_mut(down_key) {
            let (link, out) = down.connection.says(context.now, &mut self.buffers);
            link.reset(stream, code, out);
            self.flush(Leg::Down(down_key));
        }
        self.call_less(down_key);
    }

    /// Ends a call: settles it, takes it back from its endpoint (with `code`) and gives up its memory. What its caller is
    /// told is up to who calls this.
    pub(super) fn end_call(&mut self, context: &mut Context<'_>, key: Key, end: End, code: Code) {
        let Some(call) = self.calls.remove(key) else { return };
        if let Some(other) = call.twin {
            // The call is over, and so is its other try.
            if let Some(other) = self.calls.get_mut(other) {
                other.twin = None;
            }
            self.end_call(context, other, End::Superseded, Code::CANCEL);
        }
        let Call { plan, stage, down, up, up_stream, mut request, mut answer, kept, replay, .. } = call;
        if stage == Stage::Line {
            self.leave_line(plan.endpoint, key);
        }
        settle(context.local, plan, end, context.now);
        request.clear(&mut self.buffers);
        answer.clear(&mut self.buffers);
        self.buffers.let_go(replay);
        self.give_spare(kept);
        for trailers in [request.trailers, answer.trailers].into_iter().flatten() {
            self.give_spare(trailers);
        }
        if let Some(down) = self.downs.get_mut(down) {
            down.connection.calls = down.connection.calls.saturating_sub(1);
        }
        if let Some(up_key) = up
            && let Some(up) = self.ups.get_mut(up_key)
        {
            let before = up.connection.outlet.len();
            let (link, out) = up.connection.says(context.now, &mut self.buffers);
            link.reset(up_stream, code, out);
            if up.connection.outlet.len() > before {
                self.counters.up_cancelled += 1;
            }
            up.connection.outlet.rest(&mut self.buffers);
            self.flush(Leg::Up(up_key));
            self.place_free(context, up_key);
        }
    }
}
