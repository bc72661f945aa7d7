//! Connections to endpoints: each carries one call at a time, and is used again only when nothing of that is left.
//!
//! The newest idle one is taken first, so that the oldest can end when fewer are needed. At the bound calls wait in line.

use std::time::Duration;

use outrigger_codec::{Body, ExchangeCodec, Framing, Policy, Refusal};
use outrigger_core::{End, EndpointSlot, Plan, Refused, retry, settle};

use super::{
    super::{arena::Key, words},
    Context, Effect, Exchange, Flow, Leg, Pool, Tick, Up,
};

/// An endpoint that vanished is noticed after this long at the earliest.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a call gets.
pub(super) enum Got {
    /// A connection of its own, open or being made.
    Connection(Key),
    /// A place in line.
    Line,
    /// Nothing: too many wait already.
    Full,
}

impl<C: ExchangeCodec> Exchange<C> {
    pub(super) fn pool(&mut self, endpoint: EndpointSlot) -> &mut Pool {
        let at = endpoint.0 as usize;
        if self.pools.len() <= at {
            self.pools.resize_with(at + 1, Pool::default);
        }
        &mut self.pools[at]
    }

    /// A connection for one call.
    pub(super) fn acquire(
        &mut self,
        context: &mut Context<'_>,
        endpoint: EndpointSlot,
        patience: Duration,
    ) -> Got {
        while let Some(key) = self.pool(endpoint).idle.pop() {
            if !self.is_fresh(context, key) {
                self.close_up(context, key);
                continue;
            }
            self.counters.up_reused += 1;
            return Got::Connection(key);
        }
        let Some(settings) = context.local.endpoint(endpoint).map(|state| state.settings.clone()) else {
            return Got::Full;
        };
        let pool = self.pool(endpoint);
        if pool.open < settings.connections.unwrap_or(C::CONNECTIONS) {
            return self.dial(context, endpoint, patience).map_or(Got::Full, Got::Connection);
        }
        if pool.line.len() < settings.pending_max as usize { Got::Line } else { Got::Full }
    }

    /// How long an endpoint may leave a caller's bytes lying: no shorter than the caller's own bodies may.
    pub(super) fn patience(&self, key: Key) -> Duration {
        self.downs.get(key).map_or(PATIENCE, |down| down.arrival.manners.idle_timeout.max(PATIENCE))
    }

    /// Whether an idle connection may carry another call.
    pub(super) fn is_fresh(&self, context: &Context<'_>, key: Key) -> bool {
        let Some(up) = self.ups.get(key) else { return false };
        let Some(state) = context.local.endpoint(up.endpoint) else { return false };
        let idle_max = state.settings.idle_timeout.unwrap_or(C::CLIENT_IDLE);
        let idle = context.now.since(up.idle_since) >= idle_max;
        let old = state.settings.max_age.is_some_and(|max| context.now.since(up.since) >= max);
        state.listed && !idle && !old
    }

    fn dial(&mut self, context: &mut Context<'_>, endpoint: EndpointSlot, patience: Duration) -> Option<Key> {
        let state = context.local.endpoint(endpoint)?;
        let (address, timeout) = (state.address.clone(), state.settings.connect_timeout);
        let key = self.ups.insert(Up {
            endpoint,
            connected: false,
            down: None,
            used: false,
            carry: Vec::new(),
            searched: 0,
            outbox: Flow::default(),
            since: context.now,
            idle_since: context.now,
            last_in: context.now,
            last_out: context.now,
            paused: false,
            flushing: false,
            shutting: false,
        });
        self.pool(endpoint).open += 1;
        context.local.connecting(endpoint);
        self.counters.up_dialed += 1;
        self.effects.push(Effect::Dial { up: key, address, timeout, patience });
        Some(key)
    }

    /// A connection that was dialed is open. `false`: nobody wants it any more.
    pub(super) fn connected(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let Some(up) = self.ups.get_mut(key) else { return false };
        up.connected = true;
        (up.since, up.idle_since, up.last_in, up.last_out) =
            (context.now, context.now, context.now, context.now);
        let endpoint = up.endpoint;
        context.local.avoid(endpoint, Tick::ZERO);
        if up.down.is_some() {
            self.flush_up(key);
        } else {
            self.give_back(context, key);
        }
        self.ups.get(key).is_some()
    }

    /// A connection carries nothing any more and can be used again.
    pub(super) fn give_back(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(up) = self.ups.get_mut(key) else { return };
        up.down = None;
        up.used = true;
        up.idle_since = context.now;
        up.paused = false;
        up.outbox.release(&mut self.buffers);
        let endpoint = up.endpoint;
        if !self.is_fresh(context, key) {
            return self.close_up(context, key);
        }
        self.pool(endpoint).idle.push(key);
        self.serve_line(context, endpoint);
    }

    /// Takes a connection out of the engine and its pool; who waits in line may have its place.
    pub(super) fn forget_up(&mut self, context: &mut Context<'_>, key: Key) -> Option<Up> {
        let up = self.ups.remove(key)?;
        let endpoint = up.endpoint;
        let pool = self.pool(endpoint);
        pool.open = pool.open.saturating_sub(1);
        if up.down.is_none() {
            pool.idle.retain(|other| *other != key);
        }
        context.local.disconnected(endpoint);
        Some(up)
    }

    /// Closes a connection whose call, if it had one, was ended before.
    pub(super) fn close_up(&mut self, context: &mut Context<'_>, key: Key) {
        if let Some(mut up) = self.forget_up(context, key) {
            up.outbox.clear(&mut self.buffers);
            self.buffers.give(up.carry);
            self.effects.push(Effect::Close(Leg::Up(key)));
            self.serve_line(context, up.endpoint);
        }
    }

    /// A call waits for a connection to its endpoint.
    pub(super) fn stand_in_line(&mut self, key: Key) {
        let Some(call) = self.downs.get(key).and_then(|down| down.call.as_ref()) else { return };
        let endpoint = call.plan.endpoint;
        self.counters.waited += 1;
        self.pool(endpoint).line.push_back(key);
    }

    pub(super) fn leave_line(&mut self, endpoint: EndpointSlot, key: Key) {
        self.pool(endpoint).line.retain(|other| *other != key);
    }

    /// Gives the first in line a connection, while there is one to be had.
    pub(super) fn serve_line(&mut self, context: &mut Context<'_>, endpoint: EndpointSlot) {
        while let Some(key) = self.pool(endpoint).line.front().copied() {
            if self.ending {
                return;
            }
            // Asked before a connection is taken: one taken for nobody would be nobody's to give back.
            if !self.waits(key) {
                self.pool(endpoint).line.pop_front();
                continue;
            }
            let patience = self.patience(key);
            let Got::Connection(up) = self.acquire(context, endpoint, patience) else { return };
            self.pool(endpoint).line.pop_front();
            let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return };
            let parked = std::mem::take(&mut call.parked);
            self.assign(context, key, up, parked);
        }
    }

    /// Whether a caller's request has no connection.
    fn waits(&self, key: Key) -> bool {
        let call = self.downs.get(key).and_then(|down| down.call.as_ref());
        call.is_some_and(|call| call.up.is_none() && !call.pausing)
    }

    /// Puts a request on a connection.
    pub(super) fn assign(&mut self, context: &Context<'_>, key: Key, up_key: Key, mut bytes: Flow) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let (Some(call), Some(up)) = (down.call.as_mut(), self.ups.get_mut(up_key)) else { return };
        call.up = Some(up_key);
        call.try_until = retry::try_deadline(&call.plan, call.again, context.now);
        call.hedge_at = retry::hedge_at(&call.plan, call.again, context.now);
        self.next_deadline = self.next_deadline.min(call.due());
        up.down = Some(key);
        (up.last_in, up.last_out) = (context.now, context.now);
        // It waited, in line or for another try.
        Self::tell_less(&down.arrival.manners.policy, &call.plan, &mut bytes, context.now);
        up.outbox = bytes;
        let resumes = down.paused && up.outbox.len() < super::LOW;
        self.flush_up(up_key);
        if resumes {
            self.effects.push(Effect::Resume(Leg::Down(key)));
        }
    }

    /// Tells in a request that was spelled before how much is left of its time, where the conf names a header for that.
    pub(super) fn tell_less(policy: &Policy, plan: &Plan, request: &mut Flow, now: Tick) {
        if let (Some(name), Some(ms)) = (&policy.timeout, plan.told_ms(now)) {
            request.unsent(|request| C::retell(request, name, ms.to_string().as_bytes()));
        }
    }

    /// Puts the whole of a request that went nowhere on another connection to `endpoint`, or refuses it.
    pub(super) fn place(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        endpoint: EndpointSlot,
        bytes: Vec<u8>,
    ) {
        let patience = self.patience(key);
        let got = self.acquire(context, endpoint, patience);
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_mut()) else { return };
        context.local.reassign(&mut call.plan, endpoint, context.now);
        let flow = Flow::of(bytes, call.plan.retry.is_some());
        call.up = None;
        match got {
            Got::Connection(up) => self.assign(context, key, up, flow),
            Got::Line => {
                call.parked = flow;
                self.stand_in_line(key);
            }
            Got::Full => self.refuse_call(context, key, Refusal::Overloaded),
        }
    }

    /// Answers a call in our own name instead of its endpoint, whose connection is not its any more.
    pub(super) fn refuse_call(&mut self, context: &mut Context<'_>, key: Key, why: Refusal) {
        let Some(call) = self.downs.get(key).and_then(|down| down.call.as_ref()) else { return };
        let waited = context.now.since(call.plan.started).as_millis();
        let message = context.local.endpoint(call.plan.endpoint).map_or_else(String::new, |endpoint| {
            words::failed(why, &endpoint.cluster, &endpoint.address, waited)
        });
        self.refuse_call_with(context, key, why, &message);
    }

    /// The same, in other words.
    pub(super) fn refuse_call_with(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        why: Refusal,
        message: &str,
    ) {
        self.end_hedge(context, key);
        let Some(call) = self.take_call(key) else { return };
        let mut asked = call.asked;
        // What of the body was passed on already does not come again; what is left of it cannot be told from here.
        asked.body = match asked.body {
            _ if call.body.is_done() => Framing::None,
            Framing::Length(_) => Framing::Chunked,
            other => other,
        };
        settle(context.local, call.plan, End::Refused(why), context.now);
        let refused = Refused::from(why);
        self.refuse(context.now, key, &asked, &refused, message);
        self.next_request(context, key);
    }
}
