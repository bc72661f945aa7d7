//! What happens because time passes: deadlines, slow and silent peers, signs of life, draining.
//!
//! Deadlines are kept by a lower bound, so most calls cost nothing here; everything else is looked at a few times a second.

use std::time::Duration;

use outrigger_codec::{Code, Link, Refusal, StreamCodec};
use outrigger_core::{End, Failure, ListenerId, Tick};

use super::{
    super::{
        arena::Key,
        engine::{NOWHERE, QUIET, SWEEP, SWEEP_IDLE},
    },
    Call, Connection, Context, Effect, Leg, Renewed, Stage, Streams,
};

/// An endpoint that carries calls and has said nothing for this long is asked for a sign of life.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// How long that may take.
const ASK_WAIT: Duration = Duration::from_secs(4);
/// Signs of life asked for in a row: servers of gRPC end connections on which they are asked more than twice in five
/// minutes without having had anything to say.
const ASKS_MAX: u8 = 2;
/// How often after that.
const ASK_SELDOM: Duration = Duration::from_secs(301);
/// How long a caller may take to answer that it knows of our goodbye, before it is said for good.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    pub(super) fn next_look(&self, now: Tick) -> Tick {
        if self.downs.is_empty() && self.ups.is_empty() {
            return self.next_deadline;
        }
        let busy = self.draining || !self.calls.is_empty();
        self.next_deadline.min(self.later.next()).min(now.after(if busy { SWEEP } else { SWEEP_IDLE }))
    }

    pub(super) fn look(&mut self, context: &mut Context<'_>) {
        self.go_on_later(context);
        self.expire(context);
        let second = context.now.since(self.second) >= Duration::from_secs(1);
        if second {
            self.second = context.now;
        }
        self.look_at_calls(context);
        self.look_at_requests(context);
        self.look_at_downs(context, second);
        self.look_at_ups(context, second);
    }

    /// Ends the calls whose deadline has come.
    fn expire(&mut self, context: &mut Context<'_>) {
        if self.next_deadline > context.now {
            return;
        }
        let now = context.now;
        let mut keys = std::mem::take(&mut self.keys);
        self.calls.keys_where(&mut keys, |call| call.due() <= now);
        for key in keys.drain(..) {
            self.time_out(context, key);
        }
        self.keys = keys;
        self.next_deadline = self.calls.iter().map(|(_, call)| call.due()).min().unwrap_or(Tick::NEVER);
    }

    fn time_out(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.deadline() > context.now {
            // Only this try takes long. Where there is no other, it goes on.
            let late = call.try_until <= context.now;
            if call.hedge_at <= context.now {
                self.hedge(context, key);
            }
            if let Some(call) = self.calls.get_mut(key).filter(|_| late) {
                call.try_until = Tick::NEVER;
                self.tried_again(context, key, Failure::Slow);
            }
            return;
        }
        if call.stage == Stage::Answering {
            let waited = context.now.since(call.plan.started).as_millis();
            let text = format!("outrigger: the answer was not complete within {waited} ms");
            self.cut(context, key, Refusal::TimedOut, Code::CANCEL, &text);
        } else {
            self.refuse_call(context, key, Refusal::TimedOut);
        }
    }

    /// Calls of which bytes wait that nobody takes.
    fn look_at_calls(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let downs = &self.downs;
        let stuck = |call: &Call| {
            let waits = !call.request.is_empty() || !call.answer.is_empty();
            waits
                && downs
                    .get(call.down)
                    .is_some_and(|down| now.since(call.moved_at) >= down.arrival.manners.idle_timeout)
        };
        let mut keys = std::mem::take(&mut self.keys);
        self.calls.keys_where(&mut keys, stuck);
        for key in keys.drain(..) {
            let Some(call) = self.calls.get(key) else { continue };
            let (down, stream) = (call.down, call.down_stream);
            if call.stage != Stage::Answering {
                self.refuse_call(context, key, Refusal::TimedOut);
                continue;
            }
            // Its caller does not take the answer, or its endpoint not the rest of the request: nobody reads a reason.
            self.counters.slow_callers += 1;
            self.end_call(context, key, End::Abandoned, Code::CANCEL);
            if let Some(it) = self.downs.get_mut(down) {
                let (link, out) = it.connection.says(now, &mut self.buffers);
                link.reset(stream, Code::CANCEL, out);
                self.flush(Leg::Down(down));
            }
            self.call_less(down);
        }
        self.keys = keys;
    }

    /// Calls whose callers owe the rest of the request and send nothing. One with windows may rest as long as it likes: it
    /// has other calls, and is asked for nothing else; one without them has this call alone.
    fn look_at_requests(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let (downs, ups) = (&self.downs, &self.ups);
        let owes = |call: &Call| {
            let Some(down) = downs.get(call.down) else { return false };
            let Some(up) = call.up.and_then(|up| ups.get(up)) else { return false };
            let since = call.moved_at.max(down.connection.last_in).max(up.since);
            let told = up.connected && call.request.is_empty() && up.connection.outlet.is_empty();
            call.stage == Stage::Asked
                && !call.request.end
                && told
                && !down.connection.paused
                && !down.connection.link.has_windows()
                && now.since(since) >= down.arrival.manners.idle_timeout
        };
        let mut keys = std::mem::take(&mut self.keys);
        self.calls.keys_where(&mut keys, owes);
        for key in keys.drain(..) {
            let Some(call) = self.calls.get(key) else { continue };
            // Who asked whether it may go on waits for its endpoint.
            let awaits = call.body == 0 && call.interims == 0 && call.kept.head().field(b"expect").is_some();
            if awaits {
                self.refuse_call(context, key, Refusal::TimedOut);
            } else {
                self.counters.slow_callers += 1;
                self.refuse_slow(context, key);
            }
        }
        self.keys = keys;
    }

    fn look_at_downs(&mut self, context: &mut Context<'_>, second: bool) {
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.look_at_down(context, key, second);
        }
        self.keys = keys;
    }

    fn look_at_down(&mut self, context: &mut Context<'_>, key: Key, second: bool) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let now = context.now;
        if second {
            down.connection.link.second();
            down.hasty /= 2;
        }
        let manners = &down.arrival.manners;
        let connection = &down.connection;
        if is_stuck(connection, now, manners.idle_timeout) {
            self.counters.slow_callers += 1;
            self.lost_down(context, key);
            return self.effects.push(Effect::Reset(Leg::Down(key)));
        }
        if connection.closing || !connection.outlet.is_empty() {
            return;
        }
        let partial = !connection.carry.is_empty() && connection.need != usize::MAX;
        let midway = connection.link.is_midway(&connection.carry);
        // A body may be long and its line slow; a head is short.
        let short = midway && !connection.carry.is_empty();
        let begun = connection.carry_since;
        let begun = if short { begun } else { begun.max(connection.last_in) };
        if (midway || partial) && !connection.paused && now.since(begun) >= manners.head_timeout {
            self.counters.slow_callers += 1;
            if !connection.link.has_windows() {
                context.local.refuse_unrouted(down.arrival.listener, Refusal::TimedOut);
            }
            let rest = std::mem::take(&mut down.connection.carry);
            let (link, out) = down.connection.says(now, &mut self.buffers);
            link.farewell(Code::CANCEL, &rest, out);
            self.buffers.give(rest);
            return self.broken_down(context, key, "what it began to say was not finished in time");
        }
        if let Some(asked) = down.asked
            && now.since(asked) >= GOODBYE_WAIT
        {
            self.knows_of_goodbye(now, key);
        }
        let Some(down) = self.downs.get(key) else { return };
        if down.connection.calls > 0 || down.connection.paused {
            return;
        }
        let quiet = now.since(down.connection.last_in.max(down.connection.last_out));
        if down.connection.leaving && down.asked.is_none() && quiet >= QUIET {
            return self.say_goodbye(now, key);
        }
        let idle = if down.connection.link.kind() == 0 { A::SERVER_IDLE } else { B::SERVER_IDLE };
        if quiet >= down.arrival.manners.keepalive_timeout.unwrap_or(idle) {
            self.counters.idle_callers += 1;
            self.say_goodbye(now, key);
        }
    }

    /// Says goodbye to a caller without calls, for good, and closes its connection when that is written.
    fn say_goodbye(&mut self, now: Tick, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let (link, out) = down.connection.says(now, &mut self.buffers);
        link.retire(true, out);
        self.finish_down(key);
    }

    /// A caller knows that no new calls are taken: what it sent before was taken.
    pub(super) fn knows_of_goodbye(&mut self, now: Tick, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        if down.asked.take().is_none() {
            return;
        }
        let (link, out) = down.connection.says(now, &mut self.buffers);
        link.retire(true, out);
        self.flush(Leg::Down(key));
        self.leave_if_done(key);
    }

    /// Closes a caller that knows that it has to leave, when its calls are answered.
    pub(super) fn leave_if_done(&mut self, key: Key) {
        let Some(down) = self.downs.get(key) else { return };
        if down.connection.leaving && down.asked.is_none() && down.connection.calls == 0 {
            self.finish_down(key);
        }
    }

    fn look_at_ups(&mut self, context: &mut Context<'_>, second: bool) {
        let mut keys = std::mem::take(&mut self.keys);
        self.ups.keys_where(&mut keys, |up| up.connected);
        let leaving = self.draining && self.downs.is_empty();
        for key in keys.drain(..) {
            let Some(up) = self.ups.get_mut(key) else { continue };
            if second {
                up.connection.link.second();
            }
            if is_stuck(&up.connection, context.now, Duration::from_secs(30)) {
                self.effects.push(Effect::Close(Leg::Up(key)));
                self.lost_up(context, key, "it takes no bytes", false);
            } else if up.connection.calls > 0 {
                self.look_for_life(context, key);
            } else if !self.ups.get(key).is_some_and(|up| up.connection.closing)
                && (leaving || self.is_idle(context, key))
            {
                self.leave_pool(key);
                self.close_if_left(context, key);
            }
        }
        self.keys = keys;
    }

    /// Asks an endpoint that carries calls and is silent whether it is there.
    fn look_for_life(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let now = context.now;
        let silent = now.since(up.connection.last_in);
        match up.asked {
            Some(asked) if up.connection.last_in > asked => up.asked = None,
            Some(asked) if now.since(asked) >= ASK_WAIT => {
                self.counters.up_silent += 1;
                self.effects.push(Effect::Close(Leg::Up(key)));
                self.lost_up(context, key, "no sign of life", false);
            }
            Some(_) => {}
            None => {
                let after = if up.asks < ASKS_MAX { ASK_AFTER } else { ASK_SELDOM };
                if silent >= after && now.since(up.since) >= after {
                    let out = up.connection.outlet.buffer(&mut self.buffers);
                    if up.connection.link.ask(out) {
                        up.asked = Some(now);
                        up.asks = up.asks.saturating_add(1);
                    }
                    up.connection.outlet.rest(&mut self.buffers);
                    self.flush(Leg::Up(key));
                }
            }
        }
    }

    pub(super) fn begin_drain(&mut self, now: Tick) {
        self.draining = true;
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.ask_to_leave(now, key);
        }
        self.keys = keys;
    }

    fn ask_to_leave(&mut self, now: Tick, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        if down.connection.leaving {
            return;
        }
        down.connection.leaving = true;
        down.connection.last_in = now;
        let windows = down.connection.link.has_windows();
        let (link, out) = down.connection.says(now, &mut self.buffers);
        link.retire(false, out);
        down.asked = windows.then_some(now);
        down.connection.outlet.rest(&mut self.buffers);
        self.flush(Leg::Down(key));
    }

    /// Ends callers that have no calls now.
    pub(super) fn close_idle(&mut self) {
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |down| down.connection.calls == 0);
        for key in keys.drain(..) {
            // What it sent meanwhile was not taken, and it must know that.
            if let Some(down) = self.downs.get_mut(key) {
                down.connection.link.retire(true, down.connection.outlet.buffer(&mut self.buffers));
            }
            self.finish_down(key);
        }
        self.keys = keys;
    }

    /// Callers of listeners that are gone are asked to leave.
    pub(super) fn take_up(
        &mut self,
        context: &mut Context<'_>,
        renew: &dyn Fn(ListenerId) -> Option<Renewed>,
    ) {
        let settings = self.settings();
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            let Some(down) = self.downs.get_mut(key) else { continue };
            down.connection.link.renew(&settings);
            match renew(down.arrival.listener) {
                Some(now) => (down.arrival.listener, down.arrival.manners) = (now.listener, now.manners),
                None => {
                    down.arrival.listener = NOWHERE;
                    self.ask_to_leave(context.now, key);
                }
            }
        }
        self.calls.keys_where(&mut keys, |call| matches!(call.stage, Stage::Line | Stage::Later));
        for key in keys.drain(..) {
            self.leave_gone(context, key);
        }
        self.keys = keys;
        // Endpoints that are gone take nothing new; what they carry is finished.
        self.look_at_ups(context, false);
    }

    /// A call that waits in line for an endpoint that is gone goes elsewhere.
    fn leave_gone(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(call) = self.calls.get(key) else { return };
        let gone = call.plan.endpoint;
        if context.local.endpoint(gone).is_some_and(|state| state.listed) || context.local.is_awaited(gone) {
            return;
        }
        match context.local.elsewhere(context.snapshot, gone, (call.plan.lot, call.plan.tried), context.now) {
            Some(endpoint) if call.whole => {
                self.counters.moved += 1;
                self.move_to(context, key, endpoint, false, Duration::ZERO);
            }
            _ => self.refuse_call(context, key, Refusal::NoEndpoint),
        }
    }

    pub(super) fn end_all(&mut self, context: &mut Context<'_>) {
        self.ending = true;
        let mut keys = std::mem::take(&mut self.keys);
        self.calls.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            let answering = self.calls.get(key).is_some_and(|call| call.stage == Stage::Answering);
            if answering {
                self.cut(context, key, Refusal::Unreachable, Code::CANCEL, "outrigger: shutting down");
            } else {
                self.refuse_call_with(context, key, Refusal::Unreachable, "outrigger: shutting down");
            }
        }
        self.ups.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.leave_pool(key);
            self.finish_up(context, key);
        }
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.say_goodbye(context.now, key);
        }
        self.keys = keys;
    }
}

/// Whether a peer takes nothing of what it is told.
fn is_stuck<A: StreamCodec, B: StreamCodec>(
    connection: &Connection<A, B>,
    now: Tick,
    most: Duration,
) -> bool {
    !connection.outlet.is_empty() && now.since(connection.last_out) >= most
}
