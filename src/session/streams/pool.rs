//! Places for calls on connections to endpoints: shared as far as their peers allow, and others beside them when they are
//! full.
//!
//! A connection that has room is used before another is made; at the bound calls wait in line. Must never leave a call in
//! line while there is a place.

use std::time::Duration;

use outrigger_codec::{Code, Link, Refusal, StreamCodec, Tag, http::hop};
use outrigger_core::{EndpointSlot, Tick, retry};

use super::{super::arena::Key, Connection, Context, Effect, Leg, Pool, Stage, Streams, Up, wire::Wire};

/// An endpoint that vanished is noticed after this long at the earliest.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a call gets.
enum Got {
    /// A place on a connection, open or being made.
    Place(Key),
    /// A place in line.
    Line,
    /// Nothing: too many wait already.
    Full,
}

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    fn pool(&mut self, kind: usize, endpoint: EndpointSlot) -> &mut Pool {
        let at = endpoint.0 as usize;
        let pools = &mut self.pools[kind];
        if pools.len() <= at {
            pools.resize_with(at + 1, Pool::default);
        }
        &mut pools[at]
    }

    /// What an endpoint is spoken to in, where the caller speaks `kind`.
    fn kind_of(context: &Context<'_>, endpoint: EndpointSlot, kind: usize) -> usize {
        match context.local.endpoint(endpoint).and_then(|state| state.settings.speaks) {
            Some(name) if name == A::NAME => 0,
            Some(name) if name == B::NAME => 1,
            _ => kind,
        }
    }

    /// Hands a call that is nowhere to a connection, or puts it in line for one.
    pub(super) fn dispatch(&mut self, context: &mut Context<'_>, key: Key, endpoint: EndpointSlot) {
        let Some(call) = self.calls.get(key) else { return };
        let Some(down) = self.downs.get(call.down) else { return };
        let spoken = down.connection.link.kind();
        let kind = Self::kind_of(context, endpoint, spoken);
        let patience = down.arrival.manners.idle_timeout.max(PATIENCE);
        match self.acquire(context, kind, endpoint, patience) {
            Got::Place(up) => {
                self.counters.translated += u64::from(kind != spoken && call_is_new(&self.calls, key));
                self.ask(context, key, up);
            }
            Got::Line => {
                self.counters.waited += 1;
                if let Some(call) = self.calls.get_mut(key) {
                    call.stage = Stage::Line;
                }
                self.pool(kind, endpoint).line.push_back(key);
            }
            Got::Full => self.refuse_call(context, key, Refusal::Overloaded),
        }
    }

    /// Hands a call that is nowhere to a connection, if there is one for it now.
    pub(super) fn dispatch_now(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        endpoint: EndpointSlot,
    ) -> bool {
        let down = self.calls.get(key).and_then(|call| self.downs.get(call.down));
        let Some(down) = down else { return false };
        let kind = Self::kind_of(context, endpoint, down.connection.link.kind());
        let patience = down.arrival.manners.idle_timeout.max(PATIENCE);
        let Got::Place(up) = self.acquire(context, kind, endpoint, patience) else { return false };
        self.ask(context, key, up);
        true
    }

    fn acquire(
        &mut self,
        context: &mut Context<'_>,
        kind: usize,
        endpoint: EndpointSlot,
        patience: Duration,
    ) -> Got {
        let Some(settings) = context.local.endpoint(endpoint).map(|state| state.settings.clone()) else {
            return Got::Full;
        };
        while let Some(key) = self.pool(kind, endpoint).free.last().copied() {
            if self.is_old(context, key) {
                self.leave_pool(key);
                self.close_if_left(context, key);
                continue;
            }
            let room = self.ups.get(key).map_or(0, |up| {
                let calls = up.connection.calls as usize;
                up.connection.link.room().min((settings.pending_max as usize).saturating_sub(calls))
            });
            if room <= 1 {
                self.pool(kind, endpoint).free.pop();
                if let Some(up) = self.ups.get_mut(key) {
                    up.listed = false;
                }
            }
            if room > 0 {
                return Got::Place(key);
            }
        }
        let most = settings.connections.unwrap_or(if kind == 0 { A::CONNECTIONS } else { B::CONNECTIONS });
        let pool = self.pool(kind, endpoint);
        if pool.open < most {
            return self.dial(context, kind, endpoint, patience).map_or(Got::Full, Got::Place);
        }
        if pool.line.len() < settings.pending_max as usize { Got::Line } else { Got::Full }
    }

    /// Whether a connection takes no new calls because of its age.
    fn is_old(&self, context: &Context<'_>, key: Key) -> bool {
        let Some(up) = self.ups.get(key) else { return true };
        let Some(state) = context.local.endpoint(up.endpoint) else { return true };
        !state.listed || state.settings.max_age.is_some_and(|max| context.now.since(up.since) >= max)
    }

    /// Whether a connection that carries nothing has been kept long enough.
    pub(super) fn is_idle(&self, context: &Context<'_>, key: Key) -> bool {
        let Some(up) = self.ups.get(key) else { return false };
        let Some(state) = context.local.endpoint(up.endpoint) else { return true };
        let most = if up.connection.link.kind() == 0 { A::CLIENT_IDLE } else { B::CLIENT_IDLE };
        let most = state.settings.idle_timeout.unwrap_or(most);
        context.now.since(up.idle_since) >= most || self.is_old(context, key)
    }

    fn dial(
        &mut self,
        context: &mut Context<'_>,
        kind: usize,
        endpoint: EndpointSlot,
        patience: Duration,
    ) -> Option<Key> {
        let state = context.local.endpoint(endpoint)?;
        let (address, timeout) = (state.address.clone(), state.settings.connect_timeout);
        let settings = self.settings();
        let link = if kind == 0 { Wire::Own(A::dial(&settings)) } else { Wire::Other(B::dial(&settings)) };
        let mut connection = Connection::new(link, context.now);
        connection.link.greet(connection.outlet.buffer(&mut self.buffers));
        let several = connection.link.room() > 1;
        let key = self.ups.insert(Up {
            connection,
            endpoint,
            connected: false,
            since: context.now,
            idle_since: context.now,
            listed: several,
            asked: None,
            asks: 0,
        });
        let pool = self.pool(kind, endpoint);
        pool.open += 1;
        if several {
            pool.free.push(key);
        }
        context.local.connecting(endpoint);
        self.counters.up_dialed += 1;
        self.effects.push(Effect::Dial { up: key, address, timeout, patience });
        Some(key)
    }

    pub(super) fn connected(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let Some(up) = self.ups.get_mut(key) else { return false };
        up.connected = true;
        up.since = context.now;
        context.local.avoid(up.endpoint, Tick::ZERO);
        (up.connection.last_in, up.connection.last_out) = (context.now, context.now);
        self.flush(Leg::Up(key));
        true
    }

    /// Sends a call on a connection.
    fn ask(&mut self, context: &mut Context<'_>, key: Key, up_key: Key) {
        let (Some(call), Some(up)) = (self.calls.get_mut(key), self.ups.get_mut(up_key)) else { return };
        let connection = &mut up.connection;
        if connection.outlet.is_empty() {
            connection.last_out = context.now;
        }
        connection.calls += 1;
        call.up_stream = connection.link.open(Tag(key.bits()));
        call.up = Some(up_key);
        call.stage = Stage::Asked;
        call.try_until = retry::try_deadline(&call.plan, call.again, context.now);
        if call.twin.is_none() {
            call.hedge_at = retry::hedge_at(&call.plan, call.again, context.now);
        }
        self.next_deadline = self.next_deadline.min(call.try_until).min(call.hedge_at);
        call.sent_at = connection.outlet.end();
        if let Some(dialect) = call.dialect {
            let deadline = call.deadline();
            let left = (deadline != Tick::NEVER).then(|| deadline.since(context.now));
            dialect.pass_timeout(&mut call.kept, context.now.since(call.told_at), left);
            call.told_at = context.now;
        } else if let Some(down) = self.downs.get(call.down)
            && let Some(ms) = call.plan.told_ms(context.now)
        {
            hop::tell_timeout(&mut call.kept, &down.arrival.manners.policy, ms);
        }
        let end = call.request.end && call.request.is_empty() && call.request.trailers.is_none();
        let authority = context.local.endpoint(up.endpoint).map_or("", |endpoint| &*endpoint.address);
        let out = connection.outlet.buffer(&mut self.buffers);
        connection.link.request(call.up_stream, call.kept.head(), end, authority, out);
        call.request.passed = end;
        self.flush(Leg::Up(up_key));
        if !end {
            self.pump(context, Leg::Up(up_key), key);
        }
    }

    /// Lists a connection among those that have room.
    pub(super) fn list_up(&mut self, key: Key) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let takes = !up.connection.leaving && !up.connection.closing && up.connection.link.room() > 0;
        if takes && !up.listed {
            up.listed = true;
            let (kind, endpoint) = (up.connection.link.kind(), up.endpoint);
            self.pool(kind, endpoint).free.push(key);
        }
    }

    /// A connection takes no new calls.
    pub(super) fn leave_pool(&mut self, key: Key) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let (kind, endpoint, listed) = (up.connection.link.kind(), up.endpoint, up.listed);
        let counted = !std::mem::replace(&mut up.connection.leaving, true);
        up.listed = false;
        let pool = self.pool(kind, endpoint);
        pool.open = pool.open.saturating_sub(u32::from(counted));
        if listed {
            pool.free.retain(|other| *other != key);
        }
    }

    /// A call has left a connection: its place is another's.
    pub(super) fn place_free(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let connection = &mut up.connection;
        connection.calls = connection.calls.saturating_sub(1);
        if connection.calls == 0 {
            up.idle_since = context.now;
        }
        if connection.paused && !connection.link.has_windows() {
            // What it was not read for has left.
            self.effects.push(Effect::Resume(Leg::Up(key)));
        }
        if connection.link.is_severed() || connection.link.is_spent() {
            self.leave_pool(key);
        }
        self.list_up(key);
        self.close_if_left(context, key);
        self.serve_line_of(context, key);
    }

    /// Closes a connection that takes no new calls when its last has ended.
    pub(super) fn close_if_left(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(up) = self.ups.get(key) else { return };
        if up.connection.calls == 0 && up.connection.leaving && !up.connection.closing {
            self.finish_up(context, key);
        }
    }

    /// Says goodbye to an endpoint, and closes the connection when that is written.
    pub(super) fn finish_up(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let out = up.connection.outlet.buffer(&mut self.buffers);
        up.connection.link.retire(true, out);
        up.connection.closing = true;
        if !up.connected || up.connection.outlet.is_empty() {
            self.close_up(context, key);
        } else {
            self.flush(Leg::Up(key));
        }
    }

    /// Takes a connection out of the engine and its pool. Its calls are to be ended by who calls this.
    pub(super) fn forget_up(&mut self, context: &mut Context<'_>, key: Key) -> Option<Up<A, B>> {
        self.leave_pool(key);
        let mut up = self.ups.remove(key)?;
        self.buffers.give(std::mem::take(&mut up.connection.carry));
        context.local.disconnected(up.endpoint);
        Some(up)
    }

    /// Closes a connection that carries nothing.
    pub(super) fn close_up(&mut self, context: &mut Context<'_>, key: Key) {
        if let Some(mut up) = self.forget_up(context, key) {
            up.connection.outlet.clear(&mut self.buffers);
            self.effects.push(Effect::Close(Leg::Up(key)));
            self.serve_line(context, up.connection.link.kind(), up.endpoint);
        }
    }

    pub(super) fn serve_line_of(&mut self, context: &mut Context<'_>, key: Key) {
        if let Some(up) = self.ups.get(key) {
            let (kind, endpoint) = (up.connection.link.kind(), up.endpoint);
            self.serve_line(context, kind, endpoint);
        }
    }

    /// Gives the first in line a place, while there is one to be had.
    pub(super) fn serve_line(&mut self, context: &mut Context<'_>, kind: usize, endpoint: EndpointSlot) {
        while let Some(key) = self.pool(kind, endpoint).line.front().copied() {
            if self.ending {
                return;
            }
            let waits = self.calls.get(key).is_some_and(|call| call.stage == Stage::Line);
            if waits {
                let Got::Place(up) = self.acquire(context, kind, endpoint, PATIENCE) else { return };
                self.pool(kind, endpoint).line.pop_front();
                self.ask(context, key, up);
            } else {
                self.pool(kind, endpoint).line.pop_front();
            }
        }
    }

    /// A call that waits for an endpoint leaves the line.
    pub(super) fn leave_line(&mut self, endpoint: EndpointSlot, key: Key) {
        for kind in 0..self.pools.len() {
            self.pool(kind, endpoint).line.retain(|other| *other != key);
        }
    }

    /// A call needs its endpoint no more, but is not over.
    pub(super) fn leave_up(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let stream = call.up_stream;
        call.request.clear(&mut self.buffers);
        call.cut_short |= !call.request.end;
        call.request.end = true;
        if let Some(up_key) = call.up.take()
            && let Some(up) = self.ups.get_mut(up_key)
        {
            let (link, out) = up.connection.says(context.now, &mut self.buffers);
            link.reset(stream, Code::CANCEL, out);
            self.flush(Leg::Up(up_key));
            self.place_free(context, up_key);
        }
    }
}

/// Whether a call has been nowhere before.
fn call_is_new(calls: &super::Arena<super::Call>, key: Key) -> bool {
    calls.get(key).is_some_and(|call| call.tries == 1)
}
