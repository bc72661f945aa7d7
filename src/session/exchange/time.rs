//! What happens because time passes: deadlines, slow and silent peers, draining.
//!
//! Deadlines are kept by a lower bound, so most calls cost nothing here; everything else is looked at a few times a
//! second.

use outrigger_codec::{Body, ExchangeCodec, Fault, Refusal};
use outrigger_core::{ListenerId, Tick};

use super::{
    super::{
        arena::Key,
        engine::{NOWHERE, QUIET, SWEEP, SWEEP_IDLE},
    },
    Call, Context, Down, Exchange, Renewed, Stage,
};

/// What is wrong with a caller that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// It does not finish its request.
    Request,
    /// Its endpoint does nothing.
    Endpoint,
    /// It does not read.
    Reader,
    /// It has been silent long enough.
    Idle,
    /// It may leave now.
    Quiet,
}

impl<C: ExchangeCodec> Exchange<C> {
    pub(super) fn next_look(&self, now: Tick) -> Tick {
        if self.downs.is_empty() && self.ups.is_empty() {
            return self.next_deadline;
        }
        let busy = self.draining || self.calls > 0;
        self.next_deadline.min(self.later.next()).min(now.after(if busy { SWEEP } else { SWEEP_IDLE }))
    }

    pub(super) fn look(&mut self, context: &mut Context<'_>) {
        self.go_on_later(context);
        self.expire(context);
        self.look_at_downs(context);
        self.look_at_ups(context);
    }

    /// Answers the calls whose deadline has come.
    fn expire(&mut self, context: &mut Context<'_>) {
        if self.next_deadline > context.now {
            return;
        }
        let now = context.now;
        let deadline = |down: &Down<C::Body>| down.call.as_ref().map_or(Tick::NEVER, Call::due);
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |down| deadline(down) <= now);
        for key in keys.drain(..) {
            let Some(call) = self.downs.get(key).and_then(|down| down.call.as_ref()) else { continue };
            let (slow, late) = (call.hedge_at <= now, call.try_until <= now);
            if call.plan.deadline <= now {
                self.time_out(context, key);
                continue;
            }
            if slow {
                self.hedge(context, key);
            }
            if late {
                self.try_is_over(context, key);
            }
        }
        self.keys = keys;
        self.next_deadline = self.downs.iter().map(|(_, down)| deadline(down)).min().unwrap_or(Tick::NEVER);
    }

    fn look_at_downs(&mut self, context: &mut Context<'_>) {
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            match self.late(context.now, key) {
                None => {}
                Some(Late::Request) if self.downs.get(key).is_some_and(|down| down.call.is_some()) => {
                    self.refuse_body(context, key, Fault::Slow);
                }
                Some(Late::Request) => {
                    // To HEAD it is said without a body.
                    let begun = self.downs.get_mut(key).map(|down| std::mem::take(&mut down.carry));
                    let begun = begun.unwrap_or_default();
                    self.refuse_head(context, key, &begun, Fault::Slow);
                    self.buffers.give(begun);
                }
                Some(Late::Endpoint) => self.time_out(context, key),
                Some(Late::Reader) => {
                    self.counters.slow_callers += 1;
                    self.abandon(context, key);
                    self.reset_down(key);
                }
                Some(Late::Idle) => {
                    self.counters.idle_callers += 1;
                    self.finish_down(key);
                }
                Some(Late::Quiet) => self.finish_down(key),
            }
        }
        self.keys = keys;
    }

    /// Whether a caller, or the endpoint it waits for, has taken too long.
    fn late(&self, now: Tick, key: Key) -> Option<Late> {
        let down = self.downs.get(key)?;
        let manners = &down.arrival.manners;
        let stuck = |since: Tick| now.since(since) >= manners.idle_timeout;
        if !down.outbox.is_empty() {
            return stuck(down.last_out).then_some(Late::Reader);
        }
        if down.closing {
            return None;
        }
        let Some(call) = &down.call else {
            if down.paused {
                return None;
            }
            if !down.carry.is_empty() {
                return (now.since(down.carry_since) >= manners.head_timeout).then_some(Late::Request);
            }
            let since = down.last_in.max(down.last_out);
            if (self.draining || down.leaving) && now.since(since) >= QUIET {
                return Some(Late::Quiet);
            }
            let silence = manners.keepalive_timeout.unwrap_or(C::SERVER_IDLE);
            return (now.since(since) >= silence).then_some(Late::Idle);
        };
        self.late_call(down, call, stuck)
    }

    fn late_call(
        &self,
        down: &Down<C::Body>,
        call: &Call<C::Body>,
        stuck: impl Fn(Tick) -> bool,
    ) -> Option<Late> {
        // In line, or being connected: there are other bounds for that.
        let up = call.up.and_then(|up| self.ups.get(up)).filter(|up| up.connected);
        if let Some(up) = up.filter(|up| !up.outbox.is_empty()) {
            return stuck(up.last_out).then_some(Late::Endpoint);
        }
        if let Stage::Body(_) = call.stage {
            let silent = up.is_some_and(|up| !up.paused && stuck(up.last_in));
            return silent.then_some(Late::Endpoint);
        }
        if up.is_some_and(|up| !up.carry.is_empty() && stuck(up.last_in)) {
            return Some(Late::Endpoint);
        }
        // Its time begins when its endpoint has what came before.
        let since = up
            .filter(|_| !call.body.is_done() && !down.paused)
            .map(|up| down.last_in.max(up.since).max(up.last_out));
        if since.is_some_and(stuck) {
            return Some(if call.awaits { Late::Endpoint } else { Late::Request });
        }
        None
    }

    fn look_at_ups(&mut self, context: &mut Context<'_>) {
        let mut keys = std::mem::take(&mut self.keys);
        self.ups.keys_where(&mut keys, |up| up.down.is_none() && up.connected);
        let leaving = self.draining && self.downs.is_empty();
        for key in keys.drain(..) {
            if leaving || !self.is_fresh(context, key) {
                self.close_up(context, key);
            }
        }
        self.keys = keys;
    }

    pub(super) fn begin_drain(&mut self, now: Tick) {
        self.draining = true;
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |down| down.call.is_none());
        for key in keys.drain(..) {
            if let Some(down) = self.downs.get_mut(key) {
                // The quiet it needs before it is closed begins now.
                down.last_in = now;
            }
        }
        self.keys = keys;
    }

    /// Ends callers that have no request now.
    pub(super) fn close_idle(&mut self) {
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |down| down.call.is_none());
        for key in keys.drain(..) {
            self.finish_down(key);
        }
        self.keys = keys;
    }

    /// Callers of listeners that are gone leave with their next answer.
    pub(super) fn take_up(
        &mut self,
        context: &mut Context<'_>,
        renew: &dyn Fn(ListenerId) -> Option<Renewed>,
    ) {
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            let Some(down) = self.downs.get_mut(key) else { continue };
            let stayed = !down.leaving;
            match renew(down.arrival.listener) {
                Some(now) => {
                    // Its calls may go where another engine has to bring them, which will have its next connection.
                    down.leaving |= now.manners.translates;
                    (down.arrival.listener, down.arrival.manners) = (now.listener, now.manners);
                }
                None => {
                    down.arrival.listener = NOWHERE;
                    down.leaving = true;
                }
            }
            if stayed && down.leaving {
                // The quiet it needs before it is closed begins now.
                down.last_in = context.now;
            }
        }
        self.downs.keys_where(&mut keys, |down| {
            down.call.as_ref().is_some_and(|call| call.up.is_none() && !call.pausing)
        });
        for key in keys.drain(..) {
            self.leave_gone(context, key);
        }
        self.keys = keys;
        // Endpoints that are gone take nothing new; what they carry is finished.
        self.look_at_ups(context);
    }

    /// A call that waits in line for an endpoint that is gone goes elsewhere.
    fn leave_gone(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return };
        let (gone, meant) = (call.plan.endpoint, (call.plan.lot, call.plan.tried));
        if context.local.endpoint(gone).is_some_and(|state| state.listed) || context.local.is_awaited(gone) {
            return;
        }
        let bytes = call.parked.whole().unwrap_or_default();
        self.leave_line(gone, key);
        match context.local.elsewhere(context.snapshot, gone, meant, context.now) {
            Some(endpoint) => {
                self.counters.moved += 1;
                self.place(context, key, endpoint, bytes);
            }
            None => self.refuse_call(context, key, Refusal::NoEndpoint),
        }
    }

    pub(super) fn end_all(&mut self, context: &mut Context<'_>) {
        self.ending = true;
        let mut keys = std::mem::take(&mut self.keys);
        self.downs.keys_where(&mut keys, |down| down.call.is_some());
        for key in keys.drain(..) {
            let up = self.downs.get(key).and_then(|down| down.call.as_ref()).and_then(|call| call.up);
            self.fail_call(context, key, Refusal::Unreachable, "outrigger: shutting down");
            if let Some(up) = up {
                self.close_up(context, up);
            }
        }
        self.ups.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.close_up(context, key);
        }
        self.downs.keys_where(&mut keys, |_| true);
        for key in keys.drain(..) {
            self.finish_down(key);
        }
        self.keys = keys;
    }
}
