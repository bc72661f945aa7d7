//! What happens because time passes: deadlines, signs of life, idle and old connections, draining.
//!
//! `tick` is called when `next_wake` says so. Deadlines are kept by a lower bound, so most calls cost nothing here;
//! everything else is looked at a few times a second.

use std::time::Duration;

use outrigger_codec::{FrameCodec, Refusal};
use outrigger_core::{ListenerId, Tick};

use super::{
    super::{
        arena::Key,
        engine::{NOWHERE, QUIET, SWEEP, SWEEP_IDLE},
        words,
    },
    Context, Effect, Frames, Leg, MISSES_MAX, Renewed, STALL_MAX, Up,
};

impl<C: FrameCodec> Frames<C> {
    /// When `tick` wants to be called next; `Tick::NEVER` when nothing waits.
    pub fn next_wake(&self, now: Tick) -> Tick {
        if self.downs.is_empty() && self.ups.is_empty() {
            return self.next_deadline.min(self.later.next()).min(self.next_held);
        }
        // Nobody waits for an answer by a certain time: a sidecar that idles should cost nothing to speak of.
        let busy = self.draining.is_some() || self.next_deadline != Tick::NEVER;
        let sweep = now.after(if busy { SWEEP } else { SWEEP_IDLE });
        self.next_deadline.min(self.later.next()).min(self.next_held).min(sweep)
    }

    /// Time has passed.
    pub fn tick(&mut self, context: &mut Context<'_>) {
        self.go_on_later(context);
        if self.next_held <= context.now {
            self.go_on_held(context);
        }
        self.expire(context);
        self.sweep_ups(context);
        self.sweep_downs(context.now);
    }

    /// Answers the calls whose deadline has come.
    fn expire(&mut self, context: &mut Context<'_>) {
        if self.next_deadline > context.now {
            return;
        }
        let mut keys = std::mem::take(&mut self.keys);
        let mut calls = std::mem::take(&mut self.calls);
        self.ups.keys_where(&mut keys, |up| !up.pending.is_empty());
        self.next_deadline = Tick::NEVER;
        for key in keys.drain(..) {
            self.try_slow_ones_again(context, key);
            let Some(up) = self.ups.get_mut(key) else { continue };
            up.pending.expire(context.now, &mut calls);
            self.next_deadline = self.next_deadline.min(up.pending.earliest());
            for call in calls.drain(..) {
                let waited = context.now.since(call.plan.started).as_millis();
                let message =
                    context.local.endpoint(call.plan.endpoint).map_or_else(String::new, |endpoint| {
                        words::failed(Refusal::TimedOut, &endpoint.cluster, &endpoint.address, waited)
                    });
                self.answer_for(context, call, Refusal::TimedOut, &message);
            }
            self.close_if_spent(context, key);
        }
        (self.keys, self.calls) = (keys, calls);
    }

    fn sweep_ups(&mut self, context: &mut Context<'_>) {
        let mut keys = std::mem::take(&mut self.keys);
        self.ups.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.sweep_up(context, key);
        }
        self.keys = keys;
    }

    fn sweep_up(&mut self, context: &mut Context<'_>, key: Key) {
        let now = context.now;
        let Some(up) = self.ups.get(key) else { return };
        let Some(settings) = context.local.endpoint(up.endpoint).map(|state| state.settings.clone()) else {
            return;
        };
        if !up.connected {
            // Who dials keeps the time more exactly; this is for the one that never reports.
            if now.since(up.since) >= settings.connect_timeout.saturating_add(SWEEP_IDLE) {
                self.up_lost(context, key, "connect timeout");
            }
            return;
        }
        if !up.outbox.is_empty() && now.since(up.progress) >= STALL_MAX {
            return self.up_lost(context, key, "takes no bytes");
        }
        if up.stalled(now)
            && let Some(up) = self.ups.get_mut(key)
        {
            // Its callers have other calls to make; those to this endpoint are refused from here on.
            self.effects.extend(up.waiting.drain(..).map(|key| Effect::Resume(Leg::Down(key))));
        }
        let Some(up) = self.ups.get(key) else { return };
        if !up.carry.is_empty() && now.since(up.carry_since) >= self.bounds.frame_timeout {
            return self.up_lost(context, key, "frame not finished in time");
        }
        let old = settings.max_age.is_some_and(|max| now.since(up.since) >= max);
        let idle =
            up.pending.is_empty() && settings.idle_timeout.is_some_and(|max| now.since(up.idle_since) >= max);
        if old || idle || (self.draining.is_some() && self.downs.is_empty()) {
            self.retire(key);
            return self.close_if_spent(context, key);
        }
        self.beat(context, key);
    }

    /// Asks a silent endpoint for a sign of life; gives it up when three were missed.
    fn beat(&mut self, context: &mut Context<'_>, key: Key) {
        let now = context.now;
        let Some(up) = self.ups.get_mut(key) else { return };
        if let Some((_, asked)) = up.beat {
            if now.since(asked) < C::HEARTBEAT_WAIT {
                return;
            }
            up.beat = None;
            // Any byte since is a sign of life, be it the answer to a call.
            up.missed = if up.last_in > asked { 0 } else { up.missed + 1 };
            if up.missed >= MISSES_MAX {
                self.counters.heartbeats_missed += 1;
                return self.up_lost(context, key, "three heartbeats missed");
            }
        }
        let silent = now.since(up.last_in.max(up.since)) >= C::HEARTBEAT_IDLE;
        if (silent || up.missed > 0) && up.beat.is_none() && up.outbox.is_empty() {
            let id = u64::from(up.pending.next_id());
            up.beat = Some((id, now));
            C::heartbeat(up.lane, id, up.outbox.buffer(&mut self.buffers));
            self.flush_up(key);
        }
    }

    fn sweep_downs(&mut self, now: Tick) {
        let mut keys = std::mem::take(&mut self.keys);
        let (frame_timeout, draining) = (self.bounds.frame_timeout, self.draining.is_some());
        let quiet_for = if self.pressing { Duration::ZERO } else { QUIET };
        self.downs.keys_where(&mut keys, |down| {
            let last = down.last_in.max(down.last_out);
            // One that is not read for another's sake has calls of its own waiting here.
            let held = down.paused && down.outbox.is_empty();
            let idle = down.in_flight == 0 && !held && now.since(last) >= down.silence;
            let half = !down.paused && !down.carry.is_empty() && now.since(down.carry_since) >= frame_timeout;
            let stuck = down.closing && now.since(down.last_in) >= frame_timeout;
            let leaving = draining || down.leaving.is_some();
            let silent = now.since(down.last_in) >= quiet_for;
            let quiet = leaving && down.in_flight == 0 && down.outbox.is_empty() && silent;
            let overdue = down.leaving.is_some_and(|since| now.since(since) >= frame_timeout);
            // It may have left for good: its calls, should they never be answered, do not keep it for ever.
            let gone = down.ended && now.since(last) >= down.silence;
            idle || half || stuck || quiet || overdue || gone
        });
        for key in keys.drain(..) {
            self.counters.idle_callers += u64::from(!draining);
            self.close_down(key);
        }
        self.keys = keys;
    }

    /// No new work: callers are told in their protocol's words, and closed when their calls are answered.
    pub fn drain(&mut self, now: Tick) {
        if self.draining.replace(now).is_some() {
            return;
        }
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.say_goodbye(key, now);
        }
        self.keys = keys;
    }

    /// Draining takes too long: nothing more is read from callers, so that the calls they wait for are the last.
    pub fn press(&mut self) {
        self.pressing = true;
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            if let Some(down) = self.downs.get_mut(key) {
                down.paused = true;
            }
        }
        self.keys = keys;
    }

    fn say_goodbye(&mut self, key: Key, now: Tick) {
        let Some(down) = self.downs.get_mut(key) else { return };
        self.goodbye_id += 1;
        C::goodbye(self.goodbye_id, down.outbox.buffer(&mut self.buffers));
        // The quiet it needs before it is closed begins now.
        down.last_in = now;
        self.flush_down(key);
    }

    /// Takes up a new snapshot: connections to endpoints that are gone are finished, and callers of listeners that
    /// are gone are told to leave. `renew` gives what a listener is now, or `None` when it is gone.
    pub fn reconcile(&mut self, context: &mut Context<'_>, renew: impl Fn(ListenerId) -> Option<Renewed>) {
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            let Some(down) = self.downs.get_mut(key) else { continue };
            match renew(down.listener) {
                Some(now) => {
                    down.listener = now.listener;
                    down.silence = now.manners.keepalive_timeout.unwrap_or(C::SERVER_IDLE);
                }
                None if down.leaving.is_none() => {
                    down.listener = NOWHERE;
                    down.leaving = Some(context.now);
                    self.say_goodbye(key, context.now);
                }
                None => {}
            }
        }
        self.go_on_held(context);
        self.ups.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            let Some(endpoint) = self.ups.get(key).map(|up| up.endpoint) else { continue };
            if context.local.endpoint(endpoint).is_none_or(|state| !state.listed) {
                self.retire(key);
                self.close_if_spent(context, key);
            }
        }
        self.keys = keys;
    }

    /// Ends everything: what is pending is answered as lost; each socket is to be closed when that is written.
    pub fn shut(&mut self, context: &mut Context<'_>) {
        self.ending = true;
        let mut keys = std::mem::take(&mut self.keys);
        self.ups.keys_where(&mut keys, |_: &Up| true);
        for key in keys.drain(..) {
            self.up_lost(context, key, "shutting down");
        }
        self.end_later(context);
        self.go_on_held(context);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.finish_down(key);
        }
        self.keys = keys;
    }
}
